"""What is known of the demo's patients: the same for the same seed, of every kind, and about people who exist."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest

from obieg.domain.accounts import ROLES, is_login, is_person_identifier
from obieg.mapping import access_world
from obieg.mapping.consent import draft
from obieg.ops.demo_facts import Facts, entry_uuid, facts, protagonist, workers
from obieg.ops.people import OF_AGE, SEED, Person, age, families, people
from obieg.ops.population import DemoDocument, demo_documents
from obieg.wire.fhir_elements import check


@pytest.fixture(scope="module")
def population() -> list[Person]:
    return people()


@pytest.fixture(scope="module")
def made(population: list[Person]) -> list[DemoDocument]:
    return list(demo_documents(population))


@pytest.fixture(scope="module")
def told(population: list[Person], made: list[DemoDocument]) -> Facts:
    return facts(population, made, SEED)


def of(told: Facts, kind: str) -> list[dict[str, Any]]:
    return [resource for resource in told.resources if resource["resourceType"] == kind]


def test_the_same_seed_tells_the_same(population: list[Person], made: list[DemoDocument], told: Facts) -> None:
    assert facts(population, made, SEED) == told
    assert facts(population, made, 1) != told


def test_every_fact_can_be_read(population: list[Person], told: Facts) -> None:
    pesels = {person.pesel for person in population if person.pesel}
    for resource in told.resources:
        assert not check(resource), resource
        if (element := access_world.KINDS.get(resource["resourceType"])) is not None:
            assert access_world.facts(resource, {})[1], resource
            assert resource[element]["identifier"]["value"] in pesels
        elif resource["resourceType"] == "Consent":
            assert [p.value for p in draft(resource, "", "1.2.3").patients if p.value in pesels]
        else:
            assert access_world.protected(resource)
    assert len({(r["resourceType"], r["id"]) for r in told.resources}) == len(told.resources)


def test_there_is_some_of_every_kind(told: Facts) -> None:
    kinds = Counter(r["resourceType"] for r in told.resources)
    assert min(kinds[k] for k in ("CareTeam", "Consent", "RelatedPerson", "Encounter", "Patient")) > 0
    related = {r["relationship"][0]["coding"][0]["code"] for r in of(told, "RelatedPerson")}
    assert related == {"GUARD", "HPOWATT", "informed", "SPS"}
    provisions = [c["provision"] for c in of(told, "Consent") if "provision" in c]
    for kind in ("permit", "deny"):
        said = {key for p in provisions if p["type"] == kind for key in p}
        assert said >= {"actor", "code", "data"}, kind
    assert any("securityLabel" in p for p in provisions)
    assert told.deceased
    assert told.reached


def test_children_live_with_a_parent(population: list[Person]) -> None:
    parents = families(population, SEED)
    assert parents
    for person in population:
        if (parent := parents.get(person.number)) is not None:
            assert age(person) < OF_AGE <= age(parent)
            assert (person.street, person.city) == (parent.street, parent.city)


def test_nothing_but_a_declaration_is_known_of_the_one_who_is_shown(made: list[DemoDocument], told: Facts) -> None:
    found = protagonist(made, SEED)
    assert found
    person, document = found
    doctor = next(worker for worker in workers(SEED) if worker.login == "lekarz-szpital")
    assert not [d for d in made if d.person == person and d.author[0] == doctor.identifier]
    about = [r for r in told.resources if f"demo-{person.number}-" in r["id"]]
    assert Counter(r["resourceType"] for r in about) == {"CareTeam": 1, "Consent": 1}
    assert "provision" not in next(r for r in about if r["resourceType"] == "Consent")
    assert document.confidentiality == "N"
    assert entry_uuid(document.unique_id) == entry_uuid(document.unique_id) != entry_uuid("1.2.3")


def test_those_who_log_in_are_of_different_roles() -> None:
    found = workers(SEED)
    assert {worker.place.role for worker in found} == {
        "administrative-employee", "medical-assistant", "medical-doctor", "nurse", "operator", "patient-counter",
        "privacy-officer",
    }  # fmt: skip
    assert {worker.place.role for worker in found} <= ROLES.keys()
    assert len({worker.identifier for worker in found}) == len(found)
    [(assistant, whom)] = [(worker, worker.acts_for) for worker in found if worker.acts_for is not None]
    assert assistant.place.role == "medical-assistant"
    doctor = next(worker for worker in found if worker.identifier == whom.identifier)
    assert (doctor.place.role, doctor.place.organisation) == ("medical-doctor", assistant.place.organisation)
    assert all(is_login(worker.login) and is_person_identifier(worker.identifier) for worker in found)

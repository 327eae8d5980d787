"""`obieg lab --load`: the example world becomes facts, and whatever is wrong with a world is told with its line."""

from __future__ import annotations

import json
import tomllib
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx
import psycopg
import pytest
from psycopg.rows import namedtuple_row

from obieg.domain.access import Declaration, Emergency, Encounter, Period, Representative
from obieg.domain.affinity_domain import polish
from obieg.domain.consents import Kind
from obieg.domain.problems import Problem
from obieg.mapping.access_world import facts
from obieg.ops import settings as node_settings
from obieg.ops.failure import Failure
from obieg.ops.postgres import reach
from obieg.ops.world import _filled, _World, read
from obieg.storage.access_store import PostgresAccess
from obieg.storage.audit_store import AuditStore
from obieg.storage.link import Database
from running import running

WORLD = Path(__file__).resolve().parents[2] / "docs" / "lab-world"
PESEL = "2.16.840.1.113883.3.4424.1.1.616"
GP, SURGEON = "2.16.840.1.113883.3.4424.1.6.2#5425740", "2.16.840.1.113883.3.4424.1.6.2#2131121"
NURSE = "2.16.840.1.113883.3.4424.1.6.3#1234567P"
HOSPITAL, CLINIC = (f"2.16.840.1.113883.3.4424.2.3.1#00000000471{n}" for n in (1, 2))


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    """The example, loaded twice: the second time nothing is new."""
    folder = tmp_path_factory.mktemp("world")
    arguments = ("lab", "--load", WORLD, "--data", folder / "data", "--workers", "1")
    with running(folder, *arguments):
        pass
    with running(folder, *arguments) as endpoints:
        yield endpoints


@pytest.mark.node
@pytest.mark.slow
async def test_the_example_becomes_facts(lab: dict[str, str]) -> None:
    settings = node_settings.load(Path(lab["settings"]))
    assert settings.access_enforced
    with reach(settings.database.dsn, settings.postgres_dir) as dsn:
        with psycopg.connect(dsn) as connection:
            ids = dict(connection.execute("SELECT patient_key, affinity_domain_id FROM patient").fetchall())
            versions = connection.execute("SELECT DISTINCT version FROM access_fact").fetchall()
            rows = connection.cursor(row_factory=namedtuple_row).execute(
                "SELECT unique_id, entry_uuid, labels, authors, encounters, entry_type::text FROM document_entry"
            )
            documents = {row.unique_id: row for row in rows}
        database = Database(dsn, links=1)
        await database.open()
        audit = AuditStore(database, source_id="test", names={}, now=lambda: datetime.now(UTC))
        store = PostgresAccess(database, audit, assigning_authority=lab["assigning_authority"])
        found = {ids[key]: of for key, of in (await store.facts(list(ids))).items()}
        database.close()
    assert versions == [(1,)]
    assert found.keys() == {"anna", "jan", "actor"}
    anna, jan = found["anna"], found["jan"]
    assert {(d.professional, d.kind, d.organisation) for d in anna.declarations} == {
        (GP, "doctor", CLINIC), (NURSE, "nurse", CLINIC),
    }  # fmt: skip
    assert [e.organisation for e in anna.encounters] == [HOSPITAL]
    assert [(r.person, r.kind) for r in jan.representatives] == [(f"{PESEL}#80022912340", "guardian")]
    assert f"{PESEL}#80022912340" in anna.identifiers
    assert [e.professional for e in jan.emergencies] == [SURGEON]
    assert (found["actor"].protected, anna.protected) == (True, False)
    assert (anna.notices, anna.objection, jan.notices) == (True, False, False)
    consents = {c.id: c.provisions for c in anna.consents}
    assert consents["for-on-call"][0].actors == (SURGEON,)
    [document] = consents["not-psychiatry"][0].condition.documents or ()
    assert documents.keys() == {f"2.999.2026.{n}" for n in range(1, 5)}
    assert {document.entry_type for document in documents.values()} == {"S"}, "ITI-18 shows no limited metadata"
    psychiatry, discharge = documents["2.999.2026.3"], documents["2.999.2026.1"]
    assert document == f"urn:uuid:{psychiatry.entry_uuid}"
    assert (sorted(psychiatry.labels), psychiatry.authors, discharge.authors) == (["PSY", "R"], [GP], [SURGEON])
    assert discharge.encounters == [f"{lab['home_community_id']}#Encounter/stay"]


@pytest.mark.node
@pytest.mark.slow
def test_access_is_enforced(lab: dict[str, str]) -> None:
    """A system without a person reads nothing."""
    answer = httpx.get(f"{lab['fhir']}/DocumentReference", params={"patient": "Patient/anna"})
    assert (answer.status_code, answer.json()["total"]) == (200, 0)


@pytest.mark.node
@pytest.mark.slow
def test_what_the_node_would_refuse_is_told_with_its_line(tmp_path: Path) -> None:
    world = tmp_path / "world"
    world.mkdir()
    patient = (WORLD / "2-patients.ndjson").read_text().splitlines()[0]
    document = json.loads((WORLD / "4-documents.ndjson").read_text().splitlines()[2])
    document["type"]["coding"][0]["code"] = "99999-9"
    lost = {
        **document,
        "id": "lost",
        "content": [{"attachment": {"contentType": "text/plain", "url": "../secret.txt"}}],
    }
    (tmp_path / "secret.txt").write_text("no part of the world")
    for each in (document, lost):
        each.pop("relatesTo", None)
    (world / "a.ndjson").write_text(f"{patient}\n\n{json.dumps(document)}\n{json.dumps(lost)}\n")
    caught, log = refused(tmp_path, world)
    assert "a.ndjson:3: DocumentReference.type: typeCode '99999-9'" in log, (log, caught)
    assert "a.ndjson:4: DocumentReference.content[0].attachment.url: '../secret.txt' is neither" in log
    assert "Traceback" not in log
    stranger = {"resourceType": "Encounter", "id": "e", "status": "in-progress", "class": {"code": "IMP"}, "subject": {
        "identifier": {"system": f"urn:oid:{PESEL}", "value": "99999999999"}},
        "serviceProvider": {"identifier": {"system": "urn:oid:1.9", "value": "x"}}}  # fmt: skip
    (world / "a.ndjson").write_text(f"{patient}\n{json.dumps(stranger)}\n")
    caught, log = refused(tmp_path, world)
    assert "a.ndjson:2: Encounter.subject: nobody has this identifier" in log, (log, caught)
    assert "Traceback" not in log


async def test_what_a_document_does_not_say_is_filled_in_unless_it_is_a_cda() -> None:
    world = object.__new__(_World)
    world._filled = _filled(polish())
    said = {"content": [{"attachment": {"contentType": "text/plain", "creation": "2026-03-01"}}], "date": "2026-03-02",
            "type": {"text": "own"}, "context": {"practiceSetting": {"text": "own"}}}  # fmt: skip
    whole = await world._whole(said)
    assert (whole["type"], whole["context"]["practiceSetting"]) == ({"text": "own"}, {"text": "own"})
    assert whole["securityLabel"][0]["coding"][0]["code"] == "N"
    assert whole["category"][0]["coding"][0]["code"] == polish().codes("class_code")[0].code
    assert whole["context"]["facilityType"]["coding"]
    [content] = whole["content"]
    assert (content["attachment"]["creation"], content["attachment"]["language"]) == ("2026-03-01", "pl-PL")
    assert content["format"]["code"] == "urn:ihe:iti:xds:2017:mimeTypeSufficient"
    said["content"][0]["attachment"]["contentType"] = "text/xml"
    assert await world._whole(said) is said


def refused(folder: Path, world: Path) -> tuple[Any, str]:
    """What a laboratory says that does not start."""
    (folder / "node.log").unlink(missing_ok=True)
    with pytest.raises(AssertionError) as caught, running(folder, "lab", "--load", world, "--data", folder / "data"):
        pass
    return caught, (folder / "node.log").read_text()


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("{", "a.ndjson:1: "),
        ('{"resourceType":"Patient","id":"a","colour":"red"}', "a.ndjson:1: Patient.colour: "),
        ('{"resourceType":"Patient"}', "a.ndjson:1: Patient.id: "),
        ('{"resourceType":"Observation","id":"o","status":"final","code":{"text":"x"}}', "a.ndjson:1: Observation is none"),
        ('\n{"resourceType":"Patient","id":"a"}\n{"resourceType":"Patient","id":"a"}', "a.ndjson:3: Patient/a stands in a.ndjson:2"),
    ],
)  # fmt: skip
def test_what_is_no_world(tmp_path: Path, text: str, told: str) -> None:
    (tmp_path / "a.ndjson").write_text(text)
    with pytest.raises(Failure) as caught:
        read(tmp_path)
    assert told in caught.value.what


_SUBJECT = {"subject": {"reference": "Patient/p"}}
_MISTAKES: list[tuple[dict[str, Any], str]] = [
    ({"resourceType": "CareTeam", "status": "aktywny", **_SUBJECT},
     "CareTeam.status: 'aktywny' is no code of the value set care-team-status (active, entered-in-error, "),
    ({"resourceType": "Encounter", "status": "in_progress", "class": {"code": "IMP"}, **_SUBJECT}, "Encounter.status: 'in_progress' is no code"),
    ({"resourceType": "Encounter", "class": {"code": "IMP"}, **_SUBJECT}, "Encounter.status: "),
    ({"resourceType": "Flag", "status": "aktywny", "code": {"text": "x"}, **_SUBJECT}, "Flag.status: 'aktywny' is no code"),
    ({"resourceType": "Consent", "status": "Active", "scope": {"text": "x"}, "category": [{"text": "x"}]}, "Consent.status: 'Active' is no code"),
    ({"resourceType": "CareTeam", "status": "active", "period": {"start": "2026-05-01", "end": "2026-04-30"}, **_SUBJECT},
     "CareTeam.period: it ends before it begins: correct start or end"),
    ({"resourceType": "RelatedPerson", "patient": {"reference": "Patient/p"}, "period": {"start": "2026", "end": "2025-12"}},
     "RelatedPerson.period: it ends before it begins"),
    ({"resourceType": "RelatedPerson", "patient": {"reference": "Patient/p"}, "relationship": [{"coding": [{"code": "GUARD"}]}],
      "identifier": [{"system": "http://pesel.pl", "value": "1"}]}, "RelatedPerson.identifier: nobody is recognised by"),
    ({"resourceType": "Encounter", "status": "in-progress", "class": {"code": "IMP"}, **_SUBJECT,
      "serviceProvider": {"reference": "Practitioner/d"}}, "Encounter.serviceProvider: it names a Practitioner"),
    ({"resourceType": "Group", "type": "practitioner", "actual": True,
      "member": [{"entity": {"reference": "Practitioner/d"}}, {"entity": {"reference": "Practitioner/zzz"}}]},
     "Group.member[1].entity: Practitioner/zzz is not in this folder"),
    ({"resourceType": "Group", "type": "practitioner", "actual": True, "member": [{"entity": {"reference": "Practitioner/http"}}]},
     "Group.member[0].entity: Practitioner/http: nobody is recognised by"),
    ({"resourceType": "DocumentReference", "status": "current", "author": [{"reference": "PractitionerRole/r"}],
      "content": [{"attachment": {"contentType": "text/plain"}}]},
     "DocumentReference.author[0] (PractitionerRole.practitioner): Practitioner/http: nobody is recognised by"),
]  # fmt: skip


def test_what_would_say_nothing_is_told_before_anything_is_loaded(tmp_path: Path) -> None:
    """Each mistake with its file and line; the rest of the world is sound."""
    sound = [
        {"resourceType": "Practitioner", "id": "d", "identifier": [{"system": "urn:oid:1.2", "value": "d"}]},
        {"resourceType": "Practitioner", "id": "nameless", "name": [{"family": "X"}]},
        {"resourceType": "Practitioner", "id": "http", "identifier": [{"system": "http://x", "value": "d"}]},
        {"resourceType": "PractitionerRole", "id": "r", "practitioner": {"reference": "Practitioner/http"}},
        {"resourceType": "Group", "id": "g", "type": "practitioner", "actual": True,
         "member": [{"entity": {"reference": "Practitioner/nameless"}}, {"entity": {"reference": "PractitionerRole/own"}}]},
        {"resourceType": "PractitionerRole", "id": "own", "practitioner": {"reference": "Practitioner/d"}},
        {"resourceType": "Patient", "id": "p", "name": [{"family": "X"}]},
        {"resourceType": "CareTeam", "id": "t", **_SUBJECT,
         "participant": [{"role": [{"coding": [{"code": "nurse"}]}], "member": {"reference": "Practitioner/d"}}]},
    ]  # fmt: skip
    (tmp_path / "a.ndjson").write_text("".join(f"{json.dumps(line)}\n" for line in sound))
    assert len(read(tmp_path)) == len(sound)
    for resource, told in _MISTAKES:
        (tmp_path / "b.ndjson").write_text(f"\n{json.dumps({**resource, 'id': 'x'})}\n")
        with pytest.raises(Failure) as caught:
            read(tmp_path)
        assert f"\nb.ndjson:2: {told}" in caught.value.what
        assert caught.value.what.count("b.ndjson:2") == caught.value.what.count(".ndjson:")


def test_a_folder_without_files(tmp_path: Path) -> None:
    with pytest.raises(Failure, match="ndjson"):
        read(tmp_path)


# what each resource says ---------------------------------------------------------------------------------------------

KNOWN: dict[str, dict[str, Any]] = {
    "Practitioner/d": {"resourceType": "Practitioner", "identifier": [{"system": "urn:oid:1.2", "value": "d"}]},
    "Practitioner/nobody": {"resourceType": "Practitioner"},
    "Practitioner/http": {"resourceType": "Practitioner", "identifier": [{"system": "http://x", "value": "d"}]},
    "Organization/o": {
        "resourceType": "Organization",
        "identifier": [{"system": "urn:oid:1.3", "value": "o"}, {"system": "urn:oid:1.4", "value": "p"}],
    },
    "PractitionerRole/r": {
        "resourceType": "PractitionerRole",
        "practitioner": {"reference": "Practitioner/d"},
        "organization": {"reference": "Organization/o"},
        "code": [{"coding": [{"code": "feldsher"}]}],
    },
}
D, O = {"reference": "Practitioner/d"}, {"reference": "Organization/o"}  # noqa: E741
IN_2026 = Period(datetime(2026, 1, 1, tzinfo=UTC), datetime(2027, 1, 1, tzinfo=UTC))


def role(code: str) -> list[dict[str, Any]]:
    return [{"coding": [{"code": code}]}]


@pytest.mark.parametrize(
    ("resource", "expected"),
    [
        ({"resourceType": "CareTeam", "status": "active", "period": {"start": "2026", "end": "2026"},
          "participant": [{"role": role("midwife"), "member": D}]}, [Declaration("1.2#d", "midwife", "", IN_2026)]),
        ({"resourceType": "CareTeam", "status": "active", "participant": [{"member": {"reference": "PractitionerRole/r"}}]},
         [Declaration("1.2#d", "doctor", "1.3#o", Period()), Declaration("1.2#d", "doctor", "1.4#p", Period())]),
        ({"resourceType": "CareTeam", "status": "inactive", "participant": [{"member": D}]}, []),
        ({"resourceType": "CareTeam", "participant": [
            {"member": {"reference": "Patient/p"}}, {"role": role("nurse"), "member": D},
            {"role": role("guardian"), "member": {"reference": "RelatedPerson/x"}},
            {"member": {"type": "Organization", "identifier": {"system": "urn:oid:1.3", "value": "o"}}}]},
         [Declaration("1.2#d", "nurse", "", Period())]),
        ({"resourceType": "CareTeam", "participant": [{"role": role("nurse"), "member": D}]}, [Declaration("1.2#d", "nurse", "", Period())]),
        ({"resourceType": "Encounter", "status": "onleave", "serviceProvider": O},
         [Encounter("1.3#o", Period()), Encounter("1.4#p", Period())]),
        ({"resourceType": "Encounter", "status": "finished", "serviceProvider": O}, []),
        ({"resourceType": "Encounter", "status": "finished", "period": {"start": "2026-01-01", "end": "2026-12-31"},
          "serviceProvider": {"identifier": {"system": "urn:oid:1.9", "value": "x"}}}, [Encounter("1.9#x", IN_2026)]),
        ({"resourceType": "Encounter", "status": "planned", "serviceProvider": O}, []),
        ({"resourceType": "RelatedPerson", "identifier": [{"system": "urn:oid:1.5", "value": "m"}],
          "relationship": role("authorised")}, [Representative("1.5#m", "authorised")]),
        ({"resourceType": "RelatedPerson", "active": False, "identifier": [{"value": "m"}]}, []),
        ({"resourceType": "Flag", "status": "active", "code": role("ETREAT")[0], "author": D,
          "period": {"start": "2026", "end": "2026"}}, [Emergency("1.2#d", "", IN_2026)]),
    ],
)  # fmt: skip
def test_what_a_resource_says(resource: dict[str, Any], expected: list[Any]) -> None:
    kind, found = facts(resource, KNOWN)
    assert list(found) == expected
    assert kind in Kind


@pytest.mark.parametrize(
    ("resource", "expected"),
    [
        ({"resourceType": "CareTeam", "status": "active"}, "CareTeam.participant"),
        ({"resourceType": "CareTeam", "status": "active", "participant": [{"member": D}]}, "CareTeam.participant[0].role"),
        ({"resourceType": "CareTeam", "status": "active",
          "participant": [{"role": role("nurse"), "member": {"reference": "Practitioner/x"}}]}, "CareTeam.participant[0].member"),
        ({"resourceType": "CareTeam", "status": "active",
          "participant": [{"role": role("nurse"), "member": {"reference": "Practitioner/nobody"}}]}, "CareTeam.participant[0].member"),
        ({"resourceType": "Encounter", "status": "in-progress"}, "Encounter.serviceProvider"),
        ({"resourceType": "Encounter", "status": "in-progress", "serviceProvider": O, "period": {"start": "2026-02-30"}},
         "Encounter.period.start"),
        ({"resourceType": "RelatedPerson", "relationship": role("guardian")}, "RelatedPerson.identifier"),
        ({"resourceType": "RelatedPerson", "identifier": [{"system": "urn:oid:1.5", "value": "m"}], "relationship": role("x")},
         "RelatedPerson.relationship"),
        ({"resourceType": "RelatedPerson", "identifier": [{"value": "m"}], "relationship": role("close")}, "RelatedPerson.identifier"),
        ({"resourceType": "RelatedPerson", "identifier": [{"system": "http://x", "value": "m"}], "relationship": role("close")},
         "RelatedPerson.identifier"),
        ({"resourceType": "Encounter", "status": "in-progress",
          "serviceProvider": {"identifier": {"system": "http://x", "value": "o"}}}, "Encounter.serviceProvider"),
        ({"resourceType": "CareTeam", "participant": [{"role": role("nurse"), "member": {"reference": "Practitioner/http"}}]},
         "CareTeam.participant[0].member"),
        ({"resourceType": "Flag", "status": "active", "code": role("BTG")[0], "author": D}, "Flag.period.end"),
        ({"resourceType": "Flag", "status": "active", "code": role("TREAT")[0], "author": D, "period": {"end": "2026"}}, "Flag.code"),
    ],
)  # fmt: skip
def test_what_a_resource_fails_to_say(resource: dict[str, Any], expected: str) -> None:
    with pytest.raises(Problem) as caught:
        facts(resource, KNOWN)
    assert [f.location for f in caught.value.findings] == [expected]


def test_the_example_is_of_its_time() -> None:
    """Its codes are those of the tables."""
    table = tomllib.loads((WORLD.parents[1] / "src" / "obieg" / "codes" / "access_world.toml").read_text())
    lines = [json.loads(line) for file in sorted(WORLD.glob("*.ndjson")) for line in file.read_text().splitlines()]
    assert {line["resourceType"] for line in lines} >= {"CareTeam", "Encounter", "Flag", "RelatedPerson", "Consent"}
    assert table["emergency"]["codes"][0] in json.dumps([line for line in lines if line["resourceType"] == "Flag"])

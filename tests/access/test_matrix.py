"""The decisions of domain/access.py are those of the oracle, over the complete matrix."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import datetime
from itertools import product

import hypothesis
import pytest
from hypothesis import HealthCheck, given
from hypothesis import strategies as st
from oracle import Answer, Case, acts, answers
from random_worlds import moments, requesters, shelves, worlds
from worlds import (
    CONSENTS,
    DOCUMENTS,
    EMERGENCIES,
    LIVES,
    MEDICAL,
    NOW,
    PERSON,
    PROFESSIONAL,
    PURPOSES,
    RELATIONS,
    ROLES,
    SOMEBODY,
    SPECIAL,
    consent,
    facts,
    requester,
)

from obieg.domain.access import Act, Condition, Deny, DocumentFacts, Provision, Settings, act_of, decide
from obieg.domain.showing import shown

BASES = ("author", "same-entity", "poz", "consent", "emergency", "patient", "guardian", "authorised", "close")
READ = "document_registry:object:find"


def some(table: dict[str, dict[str, object]], *names: str) -> dict[str, dict[str, object]]:
    return {name: table[name] for name in names}


def _matrix(permissions, who, relations, consents, emergencies, lives, special) -> Iterator[Case]:
    """The product of all that is given; worlds are made once for all who ask."""
    for parts in product(*(t.values() for t in (relations, consents, emergencies, lives, special))):
        world = facts(*parts)
        for permission in permissions:
            for one in who:
                yield Case(one, world, permission, DOCUMENTS)


def core() -> Iterator[Case]:
    """Role x purpose x relation x consent x emergency x age, for reading."""
    roles = ("medical-doctor", "nurse", "pharmacist", "medical-assistant", "administrative-employee", "patient", "")
    who = [requester(role, purpose) for role in roles for purpose in ("", "TREAT", "ETREAT", "PATRQT", "HRESCH")]
    relations = some(
        RELATIONS, "stranger", "care here", "chosen doctor", "chosen nurse", "self", "guardian", "authorised", "close"
    )
    consents = some(
        CONSENTS, "no word", "all", "person", "document", "label V", "research", "nothing", "not class", "all but class",
        "nothing but document", "two that differ",
    )  # fmt: skip
    emergencies = some(EMERGENCIES, "none", "session")
    return _matrix([READ], who, relations, consents, emergencies, some(LIVES, "15", "16", "18", "died"), {"": {}})


def everybody() -> Iterator[Case]:
    """All roles and purposes."""
    who = [requester(role, purpose) for role in ROLES for purpose in PURPOSES]
    relations = some(RELATIONS, "care here", "chosen doctor", "chosen nurse", "chosen midwife", "self")
    consents = some(CONSENTS, "purpose", "research at a facility", "not for treatment", "not doctors")
    return _matrix([READ], who, relations, consents, some(EMERGENCIES, "session"), some(LIVES, "17", "40"), {"": {}})


def all_consents() -> Iterator[Case]:
    """All consents."""
    roles = ("medical-doctor", "nurse", "medical-assistant", "patient")
    who = [requester(role, purpose) for role in roles for purpose in ("", "COC", "ETREAT", "HRESCH", "HPAYMT")]
    relations = some(RELATIONS, "stranger", "care here", "chosen doctor", "self")
    special = some(SPECIAL, "nothing", "protected")
    return _matrix(
        [READ], who, relations, CONSENTS, some(EMERGENCIES, "none", "session"), some(LIVES, "40", "died"), special
    )


def all_relations() -> Iterator[Case]:
    """All relations at all ages."""
    roles = ("feldsher", "midwife", "medical-assistant", "patient")
    who = [requester(role, purpose) for role in roles for purpose in ("", "BTG", "FAMRQT")]
    consents = some(CONSENTS, "no word", "not class")
    return _matrix([READ], who, RELATIONS, consents, EMERGENCIES, LIVES, SPECIAL)


def all_transactions() -> Iterator[Case]:
    """All permissions of transactions, and the acts that none has yet."""
    hurried = [
        requester("medical-doctor", "BTG", **more)
        for more in ({"organisation": ""}, {"patient": SOMEBODY}, {"patient": "2.999.1#another"})
    ]
    plain = [
        requester(role, purpose) for role in ROLES for purpose in ("", "TREAT", "ETREAT", "PATRQT", "HRESCH", "HPAYMT")
    ]
    odd = [
        requester(role, "", **more)
        for role in (
            "medical-doctor",
            "administrative-employee",
            "medical-assistant",
            "patient",
            "operator",
            "privacy-officer",
            "patient-counter",
            "researcher",
            "",
        )
        for more in (
            {"proof": "saml"},
            {"patient": SOMEBODY},
            {"patient": "2.999.1#another"},
            {"proof": "oauth", "scopes": ()},
            {"proof": "certificate", "scopes": ("system/*.cruds",)},
            {"organisation": ""},
            {"proof": "session", "acting_for": PERSON},
        )
    ]
    relations = some(RELATIONS, "stranger", "care here", "self", "guardian", "close")
    consents = some(CONSENTS, "no word", "research")
    lives, special = some(LIVES, "17", "died"), some(SPECIAL, "nothing", "hold")
    return _matrix(acts(), plain + hurried + odd, relations, consents, {"": {}}, lives, special)


PRODUCTS = (core, everybody, all_consents, all_relations, all_transactions)


def decided(case: Case, now: datetime, settings: Settings, shelves: dict) -> Answer:
    """What the product says of a case, as the oracle would say it."""
    act = act_of(case.permission) if ":" in case.permission else Act(case.permission)
    said = decide(case.requester, case.facts, act, now, settings)
    filtered = act is Act.READ or (act is Act.CHANGE and case.requester.role in MEDICAL and case.requester.person != "")
    if isinstance(said, Deny):
        return Answer(said.reason, (), (), (), frozenset() if filtered else None)
    everything = frozenset(d.entry_uuid for d in case.documents) if filtered else None
    seen = everything
    if said.filter is not None:
        key = (said.filter, id(case.documents))
        if key not in shelves:  # many ask with the same result
            shelves[key] = frozenset(shown(said.filter, case.documents))
        seen = shelves[key]
    return Answer(None, said.bases, said.ends, said.obligations, seen)


def differences(cases: Sequence[Case], now: datetime, **switches) -> Iterator[str]:
    settings, shelves = Settings(**switches), {}
    for case, expected in zip(cases, answers(cases, now, **switches), strict=True):
        found = decided(case, now, settings, shelves)
        if found != expected:
            yield f"{case.permission} by {case.requester}\nof {case.facts}\nproduct {found}\noracle  {expected}\n"


@pytest.mark.slow
@pytest.mark.parametrize("matrix", PRODUCTS, ids=lambda m: m.__name__)
def test_every_decision_is_the_oracles(matrix) -> None:
    cases = list(matrix())
    found = list(differences(cases, NOW))
    assert not found, f"{len(found)} of {len(cases)} differ, the first:\n" + "\n".join(found[:3])


@pytest.mark.parametrize("field", ["authors", "encounters"])
def test_an_empty_identifier_is_equal_to_no_other(field: str) -> None:
    permission = Provision(permit=True, condition=Condition(**{field: ("",)}))
    world = facts({"consents": (consent("c", permission),)})
    document = DocumentFacts(entry_uuid="d", lineage="d", **{field: ("",)})
    assert not list(differences([Case(requester("nurse", "TREAT"), world, READ, (document,))], NOW))


def test_a_purpose_that_is_not_said_is_no_code() -> None:
    """The only effect is on the reason in the audit: who reads for no purpose at all is refused by a later rule."""
    world = facts({"consents": (consent("c", Provision(permit=True, actors=(PROFESSIONAL,), purposes=("",))),)})
    assert not list(differences([Case(requester("administrative-employee", ""), world, READ)], NOW))


@pytest.mark.slow
@pytest.mark.parametrize("basis", BASES)
def test_a_basis_may_be_switched_off(basis: str) -> None:
    who = [requester(role, purpose) for role in ("medical-doctor", "patient") for purpose in ("", "BTG", "HRESCH")]
    relations = some(RELATIONS, "care here", "chosen doctor", "self", "guardian", "authorised", "close")
    consents = some(CONSENTS, "all", "research", "not class", "nothing but document", "to and fro")
    lives, special = some(LIVES, "17", "died"), some(SPECIAL, "nothing", "hold")
    cases = list(
        _matrix([READ, "identify", "consent"], who, relations, consents, some(EMERGENCIES, "session"), lives, special)
    )
    assert not list(differences(cases, NOW, switched_off=(basis,)))


@pytest.mark.slow
@pytest.mark.parametrize("emergency", [True, False])
@pytest.mark.parametrize("author", [True, False])
def test_settings_change_what_they_say(emergency: bool, author: bool) -> None:
    who = [
        requester(role, purpose)
        for role in ("medical-doctor", "medical-assistant", "patient")
        for purpose in ("", "BTG")
    ]
    relations = some(RELATIONS, "stranger", "care here", "chosen doctor", "self")
    special = some(SPECIAL, "nothing", "protected")
    cases = list(_matrix([READ], who, relations, CONSENTS, EMERGENCIES, some(LIVES, "40", "died"), special))
    assert not list(differences(cases, NOW, emergency_opens_restricted=emergency, restriction_binds_author=author))


def test_the_matrix_is_large_and_says_everything() -> None:
    """Rows are decisions about one document, or of one act that has no filter."""
    rows = sum(len(case.documents) if case.permission == READ else 1 for matrix in PRODUCTS for case in matrix())
    assert rows >= 50_000
    cases = list(everybody())
    assert {case.requester.role for case in cases} >= {
        *MEDICAL,
        "medical-assistant",
        "administrative-employee",
        "patient",
        "",
    }
    said = answers(cases[::3] + list(all_relations())[::7], NOW)
    assert {a.reason for a in said} == {None, "purpose", "system", "role", "assistant", "own-purpose", "none"}
    assert {basis for a in said for basis in a.bases} == set(BASES)


chosen = st.fixed_dictionaries(
    {
        "emergency_opens_restricted": st.booleans(),
        "restriction_binds_author": st.booleans(),
        "switched_off": st.lists(st.sampled_from(BASES), max_size=2, unique=True).map(tuple),
    }
)


@pytest.mark.slow
@hypothesis.settings(deadline=None, max_examples=150, suppress_health_check=list(HealthCheck))
@given(st.data())
def test_whatever_facts_may_say(data: st.DataObject) -> None:
    now = data.draw(moments)
    world, documents = data.draw(worlds(now)), data.draw(shelves)
    who = data.draw(st.lists(requesters, min_size=4, max_size=6))
    switches = data.draw(chosen)
    cases = [
        Case(one, world, act, documents)
        for one in who
        for act in (READ, "identify", "change", "consent", "emergency", "log", "handout", "operate")
    ]
    found = list(differences(cases, now, **switches))
    assert not found, f"{now} {switches}\n{documents}\n{found[0]}"

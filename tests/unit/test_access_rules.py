"""Every sentence of docs/access.md, and what must hold of all decisions."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta, timezone
from itertools import permutations
from typing import Any
from zoneinfo import ZoneInfo

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from obieg.codes.load import toml
from obieg.domain.access import (
    BASES,
    HOLD,
    Act,
    Condition,
    Consent,
    Declaration,
    Deny,
    DocumentFacts,
    Emergency,
    Encounter,
    Facts,
    Hold,
    Period,
    Permit,
    Provision,
    Representative,
    Rule,
    Settings,
    Source,
    act_of,
    decide,
    next_change,
)
from obieg.domain.access_explained import LANGUAGES, BasisTrace, Hidden, explain, obtainable, render
from obieg.domain.requester import Requester
from obieg.domain.showing import shown, surely
from obieg.transactions import TRANSACTIONS

NOW = datetime(2026, 11, 22, 12, tzinfo=UTC)
PAST, SOON, LATER = NOW - timedelta(days=30), NOW + timedelta(hours=1), NOW + timedelta(days=30)
PATIENT = "pesel#1"
DOCTOR, NURSE, ASSISTANT = "npwz#7", "npwz#8", "staff#1"
HOSPITAL, CLINIC, WARD = "regon#1", "regon#2", "regon#1-3"
PARENT = "pesel#2"
ALWAYS = Period()

TABLE = toml("access.toml")
MEDICAL = TABLE["roles"]["medical"]


def doctor(**given: Any) -> Requester:
    return Requester(
        **{
            "system": "node",
            "person": DOCTOR,
            "role": "medical-doctor",
            "organisation": HOSPITAL,
            "purpose_of_use": "TREAT",
        }
        | given
    )


def assistant(**given: Any) -> Requester:
    return doctor(**{"person": ASSISTANT, "role": "medical-assistant", "acting_for": DOCTOR} | given)


def citizen(person: str = PATIENT, **given: Any) -> Requester:
    return Requester(**{"system": "portal", "person": person, "role": "patient", "purpose_of_use": "PATRQT"} | given)


def facts(**given: Any) -> Facts:
    return Facts(**{"identifiers": (PATIENT, "domain#1"), "birth_date": date(1980, 5, 17)} | given)


def consent(*provisions: Provision, period: Period = ALWAYS, name: str = "c1") -> Consent:
    return Consent(name, period, provisions)


def permit(**given: Any) -> Provision:
    condition = Condition(**{key: given.pop(key) for key in list(given) if key in Condition.__struct_fields__})
    return Provision(permit=True, condition=condition, **given)


def deny(**given: Any) -> Provision:
    return msgspec.structs.replace(permit(**given), permit=False)


def document(entry_uuid: str = "d", **given: Any) -> DocumentFacts:
    return DocumentFacts(entry_uuid, **{"labels": ("N",), "creation_time": "20240115100000"} | given)


DOCUMENTS = (
    document("n"),
    document("r", labels=("R",)),
    document("v", labels=("V",)),
    document("mine", labels=("V",), authors=(DOCTOR, CLINIC)),
    document("ours", labels=("V",), authors=(HOSPITAL,)),
)
ALL = frozenset(d.entry_uuid for d in DOCUMENTS)
POZ = Declaration(DOCTOR, "doctor", HOSPITAL, Period(PAST, LATER))
SESSION = Emergency(DOCTOR, HOSPITAL, Period(PAST, SOON))


def read(requester: Requester, known: Facts, at: datetime = NOW, **chosen: Any) -> Permit | Deny:
    return decide(requester, known, Act.READ, at, Settings(**chosen))


def seen(
    requester: Requester, known: Facts, documents: Any = DOCUMENTS, at: datetime = NOW, **chosen: Any
) -> frozenset[str]:
    decision = read(requester, known, at, **chosen)
    return shown(decision.filter, documents) if isinstance(decision, Permit) else frozenset()


def names(decision: Permit | Deny) -> tuple[str, ...]:
    assert isinstance(decision, Permit), decision
    return decision.bases


def test_who_reads_the_log_of_a_patient() -> None:
    assert names(decide(citizen(), facts(), Act.LOG, NOW)) == ("patient",)
    child = facts(birth_date=date(2015, 1, 1), representatives=(Representative(PARENT, "guardian"),))
    assert names(decide(citizen(PARENT), child, Act.LOG, NOW)) == ("guardian",)
    informed = facts(representatives=(Representative(PARENT, "informed"),))
    assert decide(citizen(PARENT), informed, Act.LOG, NOW) == Deny("none")
    assert decide(citizen(purpose_of_use="TREAT"), facts(), Act.LOG, NOW) == Deny("own-purpose")
    assert decide(citizen(patient="pesel#9"), facts(), Act.LOG, NOW) == Deny("limited")
    for other in (doctor(), doctor(purpose_of_use="BTG"), assistant(), Requester(system="node")):
        assert decide(other, facts(), Act.LOG, NOW) == Deny("role")


@pytest.mark.parametrize("role", ["patient-counter", "nurse"])
def test_who_stands_at_the_counter_must_have_the_basis(role: str) -> None:
    def hand(stands: str, known: Facts, at: datetime = NOW, **given: Any) -> Permit | Deny:
        staff = {
            "person": "staff#2",
            "role": role,
            "proof": "session",
            "acting_for": stands,
            "purpose_of_use": "PATRQT",
        }
        return decide(doctor(**staff | given), known, Act.HANDOUT, at, Settings(switched_off=("authorised",)))

    parent, trusted = Representative(PARENT, "guardian", Period(PAST, LATER)), Representative("pesel#3", "authorised")
    child = facts(birth_date=date(2015, 1, 1), representatives=(parent, Representative("pesel#4", "informed"), trusted))
    assert hand(PATIENT, facts()) == Permit(("patient",))
    assert hand(PARENT, child) == Permit(("guardian",), (("guardian", LATER),))
    assert hand(PARENT, child, LATER) == Deny("none")
    for nobody in (
        PATIENT,
        "pesel#3",
        "pesel#4",
        "staff#2",
        "",
    ):  # under 16, switched off, only informed, nobody, unnamed
        assert hand(nobody, child) == Deny("none")
    assert hand(PATIENT, facts(), organisation="") == Deny("none")
    assert hand(PATIENT, facts(), patient="pesel#9") == Deny("limited")
    assert hand(PATIENT, facts(), patient=PATIENT) == Permit(("patient",))
    for proof in ("saml", "token", ""):
        assert hand(PATIENT, facts(), proof=proof) == Deny("role")
    for other in ("administrative-employee", "medical-assistant", "operator", "patient", ""):
        assert hand(PATIENT, facts(), role=other) == Deny("role")


# break-glass -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("who", "said"),
    [
        ({}, None),
        ({"purpose_of_use": "ETREAT"}, None),
        ({"purpose_of_use": "TREAT"}, "purpose"),
        ({"purpose_of_use": ""}, "purpose"),
        ({"purpose_of_use": "HRESCH"}, "purpose"),
        ({"organisation": ""}, "none"),
        ({"organisation": "", "purpose_of_use": "TREAT"}, "purpose"),
        ({"patient": "pesel#9"}, "limited"),
        ({"patient": "pesel#9", "purpose_of_use": "TREAT"}, "limited"),
        ({"patient": PATIENT}, None),
        ({"role": "administrative-employee"}, "role"),
        ({"role": "patient", "purpose_of_use": "PATRQT"}, "role"),
        ({"role": "medical-assistant", "acting_for": DOCTOR, "organisation": ""}, "role"),
        ({"person": ""}, "role"),
    ],
)
def test_who_may_open_a_session(who: dict[str, str], said: str | None) -> None:
    decision = decide(doctor(**{"purpose_of_use": "BTG"} | who), facts(), Act.EMERGENCY, NOW)
    assert decision == (Permit(()) if said is None else Deny(said))


# tables ----------------------------------------------------------------------------------------------------------


def test_every_permission_of_a_transaction_has_one_act() -> None:
    for transaction in TRANSACTIONS:
        assert isinstance(act_of(transaction.permission), Act)
    listed = [permission for row in TABLE["acts"].values() for permission in row["permissions"]]
    assert len(listed) == len(set(listed))
    assert set(listed) - {t.permission for t in TRANSACTIONS} <= {"consent_registry:consent:access"}
    assert [Act(name) for name in TABLE["acts"]] == list(Act)
    with pytest.raises(KeyError):
        act_of("nobody:knows:it")


def test_acts_of_some_transactions() -> None:
    acts = {t.id: act_of(t.permission) for t in TRANSACTIONS}
    assert {acts[i] for i in ("ITI-18", "ITI-43", "ITI-66", "ITI-67", "ITI-68", "ITI-110", "IPS", "FHIR-11")} == {
        Act.READ
    }
    assert {acts[i] for i in ("ITI-9", "ITI-21", "ITI-45", "ITI-47", "ITI-78", "ITI-83", "ITI-119")} == {Act.IDENTIFY}
    assert {acts[i] for i in ("ITI-41", "ITI-42", "ITI-65", "ITI-61")} == {Act.FEED}
    assert {acts[i] for i in ("ITI-57", "ITI-62", "ITI-86", "ITI-92")} == {Act.CHANGE}
    assert {acts[i] for i in ("BULK-1", "ITI-20", "ITI-8", "ITI-30", "ITI-44", "ITI-64", "ITI-104")} == {Act.OPERATE}
    assert acts["ITI-81"] == Act.INSPECT
    assert {acts[i] for i in ("ITI-90", "ITI-91", "ITI-114", "FHIR-10", "WST")} == {Act.OPEN}


def test_all_roles_are_in_one_group() -> None:
    grouped = [role for roles in TABLE["roles"].values() for role in roles]
    assert len(grouped) == len(set(grouped))
    assert set(grouped) == {*toml("roles.toml"), "patient"}


def test_all_texts_are_there_in_all_languages() -> None:
    rows = [*TABLE["reasons"].values(), *TABLE["lacks"].values(), TABLE["hold"]["name"]]
    rows += [row[key] for row in BASES.values() for key in ("article", "name", "holds", "needs")]
    for row in rows:
        assert {"pl", "en", "uk"} == row.keys()
        assert all(row.values())
    first = TABLE["texts"]["pl"]
    for texts in TABLE["texts"].values():
        assert texts.keys() == first.keys()
        assert list(texts["condition"]) == list(Condition.__struct_fields__)
    for row in BASES.values():
        assert row["standing"] in ("official", "assumed")


# acts that need no basis -----------------------------------------------------------------------------------------

SYSTEM = Requester(system="node")
WHO = {
    "system": SYSTEM,
    "service": Requester(system="app", proof="oauth"),
    "node": Requester(system="hospital", proof="certificate"),
    "medical": doctor(role="midwife"),
    "assistant": assistant(acting_for=""),
    "clerk": doctor(role="administrative-employee"),
    "patient": citizen("pesel#9"),
    "operator": doctor(role="operator", proof="session"),
    "officer": doctor(role="privacy-officer", proof="session"),
    "counter": doctor(role="patient-counter", proof="session"),
    "counter of another node": doctor(role="patient-counter", proof="saml"),
    "operator of another node": doctor(role="operator", proof="saml"),
    "nobody": doctor(role="astronaut"),
    "no role": doctor(role=""),
}


@pytest.mark.parametrize(
    ("act", "may"),
    [
        (Act.IDENTIFY, {"system", "service", "node", "medical", "assistant", "clerk", "counter"}),
        (Act.FEED, {"system", "service", "node", "medical", "assistant", "clerk"}),
        (Act.CHANGE, {"system", "service", "node", "medical"}),
        (Act.CONSENT, {"system", "service", "node", "medical", "clerk"}),
        (Act.OPERATE, {"system", "service", "node"}),
        (Act.INSPECT, {"service", "operator", "officer"}),
        (Act.MAINTAIN, {"operator"}),
        (Act.REVIEW, {"officer"}),
        (Act.OPEN, set(WHO)),
    ],
)
def test_who_may_at_all(act: Act, may: set[str]) -> None:
    for name, requester in WHO.items():
        decision = decide(requester, facts(), act, NOW)
        if name in may:
            assert isinstance(decision, Permit), (name, decision)
            assert (decision.bases, decision.ends, decision.obligations) == ((), (), ())
            assert (decision.filter is None) == (act is not Act.CHANGE or requester.person == "")
        else:
            by_basis = name == "patient" and act in (Act.IDENTIFY, Act.CONSENT)
            assert decision == Deny("none" if by_basis else "role"), name


def test_a_system_is_who_has_no_person_whatever_its_role() -> None:
    assert decide(doctor(person=""), facts(), Act.OPERATE, NOW) == Permit(())
    assert decide(doctor(person=""), facts(), Act.EMERGENCY, NOW) == Deny("role")


@pytest.mark.parametrize("purpose", TABLE["research"]["codes"])
def test_nobody_identifies_for_research(purpose: str) -> None:
    for name in ("system", "medical", "clerk", "nobody"):
        requester = msgspec.structs.replace(WHO[name], purpose_of_use=purpose)
        assert decide(requester, facts(), Act.IDENTIFY, NOW) == Deny("purpose")
        assert isinstance(decide(requester, facts(), Act.OPEN, NOW), Permit)
    assert decide(doctor(purpose_of_use=purpose), facts(), Act.FEED, NOW) == Permit(())
    assert decide(citizen(purpose_of_use=purpose), facts(), Act.IDENTIFY, NOW) == Deny("purpose")


def test_identify_for_another_purpose_is_no_research() -> None:
    assert decide(doctor(purpose_of_use="HPAYMT"), facts(), Act.IDENTIFY, NOW) == Permit(())


def test_scopes_of_a_token_let_nobody_do_more() -> None:
    for requester in WHO.values():
        scoped = msgspec.structs.replace(requester, scopes=("user/*.cruds",))
        for act in Act:
            assert decide(scoped, facts(), act, NOW) == decide(requester, facts(), act, NOW), act


def test_a_professional_changes_what_their_organisation_is_an_author_of() -> None:
    decision = decide(doctor(), facts(), Act.CHANGE, NOW)
    assert decision == Permit((), filter=(Source("author", (Rule(True, Condition(authors=(HOSPITAL,))),)),))
    assert shown(decision.filter, DOCUMENTS) == {"ours"}
    assert decide(doctor(organisation=""), facts(), Act.CHANGE, NOW) == Deny("none")
    assert decide(msgspec.structs.replace(SYSTEM, organisation=""), facts(), Act.CHANGE, NOW) == Permit(())


def test_recorders_keep_to_the_patient_that_their_proof_is_good_for() -> None:
    for requester in (doctor(patient="pesel#5"), doctor(role="administrative-employee", patient="pesel#5")):
        assert decide(requester, facts(), Act.CONSENT, NOW) == Deny("limited")
    assert decide(doctor(patient=PATIENT), facts(), Act.CONSENT, NOW) == Permit(())
    assert decide(doctor(patient="pesel#5"), facts(), Act.FEED, NOW) == Permit(())


CLOSE = Representative(PARENT, "close")
GUARDIAN = Representative(PARENT, "guardian")
AUTHORISED = Representative(PARENT, "authorised", Period(PAST, LATER))
INFORMED = Representative(PARENT, "informed")
CHILD = date(2015, 1, 1)
DIED = date(2026, 11, 20)


@pytest.mark.parametrize(
    ("requester", "known", "bases", "ends"),
    [
        (citizen(), facts(), ("patient",), ()),
        (
            citizen(PARENT),
            facts(representatives=(GUARDIAN,), birth_date=CHILD),
            ("guardian",),
            (("guardian", datetime(2033, 1, 1, tzinfo=UTC)),),
        ),
        (citizen(PARENT), facts(representatives=(AUTHORISED,)), ("authorised",), (("authorised", LATER),)),
    ],
)
def test_patients_identify_and_consent_by_a_basis(requester: Requester, known: Facts, bases: Any, ends: Any) -> None:
    held = msgspec.structs.replace(known, holds=(Hold("n", "reason", Period()),), notices=True)
    for act in (Act.IDENTIFY, Act.CONSENT):
        assert decide(requester, held, act, NOW) == Permit(bases, ends)


def test_a_close_person_identifies_but_does_not_consent() -> None:
    known = facts(representatives=(CLOSE,), died_on=DIED)
    assert decide(citizen(PARENT), known, Act.IDENTIFY, NOW) == Permit(("close",))
    assert decide(citizen(PARENT), known, Act.CONSENT, NOW) == Deny("none")


def test_refusals_go_for_patients_who_identify_and_consent() -> None:
    for act in (Act.IDENTIFY, Act.CONSENT):
        assert decide(citizen(purpose_of_use="TREAT"), facts(), act, NOW) == Deny("own-purpose")
        assert decide(citizen(patient="pesel#5"), facts(), act, NOW) == Deny("limited")
        assert decide(citizen("pesel#9"), facts(), act, NOW) == Deny("none")
        assert decide(citizen(), facts(), act, NOW, Settings(switched_off=("patient",))) == Deny("none")


# refused before any basis ----------------------------------------------------------------------------------------

OPEN = facts(
    declarations=(POZ,),
    encounters=(Encounter(HOSPITAL, Period()),),
    emergencies=(SESSION,),
    consents=(consent(permit(actors=(DOCTOR, HOSPITAL, ASSISTANT))),),
)


@pytest.mark.parametrize(
    ("requester", "reason"),
    [
        (doctor(purpose_of_use="HRESCH"), "purpose"),
        (doctor(purpose_of_use="HPAYMT"), "purpose"),
        (doctor(purpose_of_use="treat"), "purpose"),
        (doctor(purpose_of_use="HPAYMT", person="", patient="pesel#5"), "purpose"),
        (doctor(role="administrative-employee", purpose_of_use=""), "purpose"),
        (doctor(role="", purpose_of_use=""), "purpose"),
        (doctor(person="", purpose_of_use=""), "purpose"),
        (doctor(person=""), "system"),
        (doctor(person="", patient="pesel#5"), "system"),
        (doctor(person="", acting_for=DOCTOR, role="medical-assistant"), "system"),
        (doctor(patient="pesel#5"), "limited"),
        (doctor(patient="pesel#5", role="administrative-employee"), "limited"),
        (doctor(role="administrative-employee"), "role"),
        (doctor(role="astronaut"), "role"),
        (doctor(role="", purpose_of_use="PATRQT"), "role"),
        (assistant(acting_for=""), "assistant"),
        (assistant(acting_for="", purpose_of_use="PATRQT"), "assistant"),
        (citizen(purpose_of_use="TREAT"), "own-purpose"),
        (citizen(purpose_of_use="BTG"), "own-purpose"),
        (doctor(purpose_of_use="PATRQT"), "own-purpose"),
        (assistant(purpose_of_use="FAMRQT"), "own-purpose"),
    ],
)
def test_refused_before_any_basis(requester: Requester, reason: str) -> None:
    assert read(requester, OPEN) == Deny(reason)


def test_a_proof_for_this_patient_is_no_hindrance() -> None:
    assert isinstance(read(doctor(patient="domain#1"), OPEN), Permit)
    assert isinstance(read(citizen(patient=PATIENT), OPEN), Permit)


@pytest.mark.parametrize("purpose", ["", "TREAT", "CAREMGT", "COC", "ETREAT", "BTG"])
def test_purposes_of_care_and_emergency(purpose: str) -> None:
    for role in MEDICAL:
        assert isinstance(read(doctor(role=role, purpose_of_use=purpose), OPEN), Permit)
    assert isinstance(read(assistant(purpose_of_use=purpose), OPEN), Permit)


@pytest.mark.parametrize("purpose", ["", "PATRQT", "FAMRQT", "PWATRNY"])
def test_purposes_of_patients(purpose: str) -> None:
    assert read(citizen(purpose_of_use=purpose), facts()) == Permit(("patient",), obligations=("show-basis",))


# bases of professionals ------------------------------------------------------------------------------------------


def test_an_author_sees_their_own_documents_of_any_confidentiality() -> None:
    decision = read(doctor(), facts())
    assert decision == Permit(
        ("author",),
        filter=(Source("author", (Rule(True, Condition(authors=(DOCTOR,))),)),),
        obligations=("show-basis",),
    )
    assert seen(doctor(), facts()) == {"mine"}
    assert seen(doctor(), facts(protected=True)) == {"mine"}
    assert seen(doctor(), facts(died_on=DIED)) == {"mine"}


def test_an_assistant_looks_for_the_professional() -> None:
    assert seen(assistant(), facts()) == {"mine"}
    assert seen(assistant(person=DOCTOR, acting_for=NURSE), facts()) == frozenset()
    assert seen(doctor(person=NURSE, acting_for=DOCTOR), facts()) == frozenset()


@pytest.mark.parametrize(
    ("period", "holds"),
    [
        (Period(), True),
        (Period(PAST, SOON), True),
        (Period(NOW, None), True),
        (Period(SOON, None), False),
        (Period(None, NOW), False),
        (Period(None, NOW + timedelta(microseconds=1)), True),
    ],
)
def test_periods_hold_from_and_until(period: Period, holds: bool) -> None:
    known = facts(encounters=(Encounter(HOSPITAL, period),))
    assert names(read(doctor(), known)) == (("author", "same-entity") if holds else ("author",))
    assert period.holds(NOW) is holds
    consented = facts(consents=(consent(permit(), period=period),))
    assert ("consent" in names(read(doctor(), consented))) is holds
    provided = facts(consents=(consent(permit(period=period)),))
    assert ("consent" in names(read(doctor(), provided))) is holds
    broken = facts(emergencies=(Emergency(DOCTOR, CLINIC, period),))
    assert ("emergency" in names(read(doctor(purpose_of_use="BTG"), broken))) is holds
    held = facts(holds=(Hold("n", "reason", period),))
    assert ("n" in seen(citizen(), held)) is not holds
    authorised = facts(representatives=(Representative(PARENT, "authorised", period),))
    assert isinstance(read(citizen(PARENT), authorised), Permit if holds else Deny)


def test_the_same_entity_sees_its_own_documents_while_care_is_in_progress() -> None:
    known = facts(encounters=(Encounter(HOSPITAL, Period(PAST, LATER)),))
    decision = read(doctor(), known)
    assert names(decision) == ("author", "same-entity")
    assert decision.ends == (("same-entity", LATER),)
    assert seen(doctor(), known) == {"mine", "ours"}
    assert seen(doctor(), msgspec.structs.replace(known, protected=True)) == {"mine"}
    assert seen(doctor(), msgspec.structs.replace(known, died_on=DIED)) == {"mine", "ours"}
    assert names(read(doctor(organisation=CLINIC), known)) == ("author",)
    assert names(read(doctor(organisation=CLINIC, child_organisation=HOSPITAL), known)) == ("author",)
    assert names(read(assistant(), known)) == ("author", "same-entity")


def test_an_empty_organisation_is_nobodys() -> None:
    known = facts(encounters=(Encounter("", Period()),), consents=(consent(permit(actors=("",))),))
    assert names(read(doctor(organisation=""), known)) == ("author",)
    assert names(read(doctor(), known)) == ("author",)


def test_several_encounters_are_one_basis_with_the_latest_end() -> None:
    one, two = Encounter(HOSPITAL, Period(PAST, SOON)), Encounter(HOSPITAL, Period(PAST, LATER))
    over, open_end = Encounter(HOSPITAL, Period(None, PAST)), Encounter(HOSPITAL, Period(PAST))
    for order in permutations((one, two, over)):
        decision = read(doctor(), facts(encounters=order))
        assert decision.end("same-entity") == LATER
        assert [len(source.rules) for source in decision.filter] == [1, 1]
    assert read(doctor(), facts(encounters=(one, open_end))).ends == ()
    assert read(doctor(), facts(encounters=(one, over))).ends == (("same-entity", SOON),)


@pytest.mark.parametrize(
    ("kind", "roles"),
    [("doctor", {"medical-doctor", "feldsher"}), ("nurse", {"nurse"}), ("midwife", {"midwife"}), ("barber", set())],
)
def test_the_chosen_poz_team(kind: str, roles: set[str]) -> None:
    known = facts(declarations=(Declaration(DOCTOR, kind, "", Period()),))
    assert {role for role in MEDICAL if "poz" in names(read(doctor(role=role), known))} == roles
    assert names(read(assistant(), known)) == ("author", "poz")


def test_poz_opens_all_up_to_restricted_documents() -> None:
    known = facts(declarations=(POZ,))
    decision = read(doctor(), known)
    assert names(decision) == ("author", "poz")
    assert decision.ends == (("poz", LATER),)
    assert seen(doctor(), known) == {"n", "r", "mine"}
    assert seen(doctor(), msgspec.structs.replace(known, protected=True)) == {"n", "r", "mine"}
    assert names(read(doctor(person=NURSE), known)) == ("author",)
    assert names(read(doctor(organisation=CLINIC), known)) == ("author",)
    anywhere = facts(declarations=(msgspec.structs.replace(POZ, organisation=""),))
    assert names(read(doctor(organisation=CLINIC), anywhere)) == ("author", "poz")


@pytest.mark.parametrize(("day", "died"), [(DIED, True), (NOW.date(), True), (NOW.date() + timedelta(days=1), False)])
def test_poz_ends_with_the_patient(day: date, died: bool) -> None:
    known = facts(declarations=(POZ,), died_on=day)
    assert names(read(doctor(), known)) == (("author",) if died else ("author", "poz"))


def test_emergency_shows_everything_to_whom_opened_it() -> None:
    known = facts(emergencies=(SESSION,), protected=True, died_on=DIED)
    for purpose in ("ETREAT", "BTG"):
        decision = read(doctor(purpose_of_use=purpose), known)
        assert decision == Permit(
            ("author", "emergency"), (("emergency", SOON),), None, ("notify-patient", "report-to-officer", "show-basis")
        )
    for requester in (doctor(), doctor(purpose_of_use="BTG", person=NURSE), doctor(purpose_of_use="")):
        assert names(read(requester, known)) == ("author",)
    assert read(assistant(purpose_of_use="BTG"), known).filter is None
    assert isinstance(read(doctor(purpose_of_use="BTG", organisation=CLINIC), known), Permit)


def test_the_purpose_alone_is_no_emergency() -> None:
    assert seen(doctor(purpose_of_use="BTG"), facts()) == {"mine"}


@pytest.mark.parametrize(
    ("provision", "sees"),
    [
        (permit(), {"n"}),
        (permit(actors=(HOSPITAL,)), {"n"}),
        (permit(actors=(WARD,)), {"n"}),
        (permit(actors=(DOCTOR,)), {"n", "r"}),
        (permit(actors=(CLINIC, DOCTOR)), {"n", "r"}),
        (permit(labels=("N",)), {"n"}),
        (permit(labels=("R",)), {"r"}),
        (permit(labels=("N", "R")), {"n", "r"}),
        (permit(labels=("V",)), {"v", "mine", "ours"}),
        (permit(labels=("N", "V"), actors=(DOCTOR,)), {"n", "v", "mine", "ours"}),
        (permit(documents=("v",)), {"v"}),
        (permit(documents=("v", "n")), {"n", "v"}),
        (permit(authors=(HOSPITAL,)), set()),
        (permit(authors=(HOSPITAL,), labels=("V",)), {"ours"}),
        (permit(actors=(NURSE,)), set()),
        (permit(actors=()), set()),
        (permit(actors=("",)), set()),
        (permit(documents=()), set()),
        (permit(roles=("medical-doctor",)), {"n"}),
        (permit(roles=("nurse", "dentist")), set()),
        (permit(purposes=("TREAT", "HPAYMT")), {"n"}),
        (permit(purposes=("COC",)), set()),
        (permit(actors=(DOCTOR,), roles=("nurse",)), set()),
        (permit(actors=(NURSE,), roles=("medical-doctor",)), set()),
        (permit(actors=(DOCTOR,), purposes=("BTG",)), set()),
    ],
)
def test_what_a_consent_opens(provision: Provision, sees: set[str]) -> None:
    requester = doctor(person="npwz#70", child_organisation=WARD)
    provision = msgspec.structs.replace(
        provision, actors=provision.actors and tuple("npwz#70" if a == DOCTOR else a for a in provision.actors)
    )
    known = facts(consents=(consent(provision),))
    assert seen(requester, known) == sees
    assert seen(requester, msgspec.structs.replace(known, died_on=DIED)) == sees
    if sees:
        assert names(read(requester, known)) == ("author", "consent")


def test_an_empty_purpose_counts_as_treatment() -> None:
    known = facts(consents=(consent(permit(purposes=("TREAT",))),))
    assert "consent" in names(read(doctor(purpose_of_use=""), known))
    assert "consent" in names(read(assistant(purpose_of_use=""), known))
    assert "consent" not in names(read(doctor(purpose_of_use="COC"), known))


def test_consents_of_protected_persons_name_the_person() -> None:
    for provision, opens in (
        (permit(actors=(HOSPITAL,)), False),
        (permit(roles=("medical-doctor",)), False),
        (permit(), False),
        (permit(actors=("", HOSPITAL)), False),
        (permit(actors=(DOCTOR, HOSPITAL)), True),
    ):
        known = facts(consents=(consent(provision),), protected=True)
        assert ("consent" in names(read(doctor(), known))) is opens
    named = facts(consents=(consent(permit(actors=(DOCTOR,))),), protected=True)
    assert names(read(assistant(), named)) == ("author", "consent")
    assert seen(doctor(), named) == {"n", "r", "mine"}
    assert names(read(doctor(person=NURSE, acting_for=DOCTOR), named)) == ("author", "consent")


def test_what_may_not_open_takes_back_what_was_denied_before() -> None:
    lifted = consent(deny(), permit(actors=(HOSPITAL,)))
    assert seen(doctor(), facts(consents=(lifted,), protected=True, declarations=(POZ,))) == {"n"}
    assert seen(doctor(), facts(consents=(consent(deny()),), protected=True, declarations=(POZ,))) == frozenset()
    # It takes back no permission.
    both = consent(permit(actors=(DOCTOR,)), permit(actors=(HOSPITAL,)), permit())
    assert seen(doctor(), facts(consents=(both,), protected=True)) == {"n", "r", "mine"}
    two = consent(permit(actors=(DOCTOR,)), permit(actors=(HOSPITAL,)))
    assert seen(doctor(), facts(consents=(two,), protected=True)) == {"n", "r", "mine"}
    # What is one rule, or opens alike, is one source.
    for alike in (consent(permit()), consent(permit(), permit(labels=("R",))), consent(deny(), deny(labels=("R",)))):
        assert [s.basis for s in read(doctor(), facts(consents=(alike,))).filter].count("consent") == 1
    mixed = consent(
        permit(actors=(DOCTOR,)), deny(labels=("R",)), permit(actors=(HOSPITAL,), labels=("R",)), deny(labels=("V",))
    )
    assert seen(doctor(), facts(consents=(mixed,), protected=True)) == {"n"}
    assert seen(doctor(), facts(consents=(mixed,), protected=True, declarations=(POZ,))) == {"n", "r"}
    decision = read(doctor(), facts(consents=(mixed,), protected=True))
    assert [len(source.rules) for source in decision.filter] == [1, 3, 4]
    off = {"switched_off": ("consent",)}
    assert seen(doctor(), facts(consents=(lifted,), declarations=(POZ,)), **off) == {"n"}
    assert names(read(doctor(), facts(consents=(consent(permit()),)), **off)) == ("author",)


def test_an_empty_identifier_of_a_document_is_equal_to_nothing() -> None:
    for field in ("authors", "encounters"):
        known = facts(consents=(consent(permit(**{field: ("", "1.2#3")})),))
        papers = [document("empty", **{field: ("",)}), document("both", **{field: ("", "1.2#3")}), document("none")]
        assert seen(doctor(), known, papers) == {"both"}


def test_the_end_of_a_consent_is_that_of_the_provision_or_its_own() -> None:
    for own, provided, until in (
        (None, None, None),
        (LATER, None, LATER),
        (None, SOON, SOON),
        (LATER, SOON, SOON),
        (SOON, LATER, SOON),
    ):
        given = consent(permit(period=Period(end=provided)), period=Period(PAST, own))
        assert read(doctor(), facts(consents=(given,))).end("consent") == until
    several = consent(permit(period=Period(end=SOON)), permit(period=Period(end=LATER)), deny(labels=("R",)))
    decision = read(doctor(), facts(consents=(several,)))
    assert decision.ends == (("consent", LATER),)
    denied = consent(deny(), period=Period(PAST, LATER), name="c2")
    assert read(doctor(), facts(consents=(denied,))) == Permit(
        ("author",),
        (),
        (
            Source("author", (Rule(True, Condition(authors=(DOCTOR,))),)),
            Source("consent", (Rule(False),), LATER, "c2"),
        ),
        ("show-basis",),
    )


def test_each_basis_has_its_own_end() -> None:
    for_ever = msgspec.structs.replace(POZ, period=Period())
    short = (consent(permit(), period=Period(end=SOON)), consent(permit(), period=Period(end=LATER), name="c2"))
    decision = read(doctor(), facts(declarations=(for_ever,), consents=short))
    assert decision.bases == ("author", "poz", "consent")
    assert decision.ends == (("consent", LATER),)
    care = Encounter(HOSPITAL, Period(PAST, SOON))
    decision = read(doctor(), facts(encounters=(care,), consents=short))
    assert decision.ends == (("same-entity", SOON), ("consent", LATER))
    assert read(doctor(), facts(consents=(*short, consent(permit(), name="c3")))).ends == ()
    only_denied = consent(deny(), period=Period(end=NOW + timedelta(days=99)))
    assert read(doctor(), facts(encounters=(care,), consents=(only_denied,))).ends == (("same-entity", SOON),)


def test_bases_are_named_once_in_the_order_of_the_table() -> None:
    known = msgspec.structs.replace(OPEN, consents=(*OPEN.consents, consent(permit(), name="c2")))
    assert names(read(doctor(purpose_of_use="BTG"), known)) == ("author", "same-entity", "poz", "consent", "emergency")
    assert tuple(BASES) == (
        "author",
        "same-entity",
        "poz",
        "consent",
        "emergency",
        "patient",
        "guardian",
        "authorised",
        "close",
    )


@pytest.mark.parametrize("name", ["author", "same-entity", "poz", "consent", "emergency"])
def test_every_basis_of_professionals_has_a_switch(name: str) -> None:
    every = ("author", "same-entity", "poz", "consent", "emergency")
    decision = read(doctor(purpose_of_use="BTG"), OPEN, switched_off=(name,))
    assert names(decision) == tuple(n for n in every if n != name)
    assert read(doctor(purpose_of_use="BTG"), OPEN, switched_off=every) == Deny("none")


# bases of patients -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("birth", "at", "patient", "guardian"),
    [
        (date(2010, 11, 23), NOW, False, True),
        (date(2010, 11, 22), NOW, True, True),
        (date(2008, 11, 23), NOW, True, True),
        (date(2008, 11, 22), NOW, True, False),
        (date(1980, 1, 1), NOW, True, False),
        (None, NOW, True, False),
        (date(2027, 1, 1), NOW, False, True),
        (date(2012, 2, 29), datetime(2028, 2, 28, 23, 59, tzinfo=UTC), False, True),
        (date(2012, 2, 29), datetime(2028, 2, 29, tzinfo=UTC), True, True),
        (date(2012, 2, 29), datetime(2030, 2, 28, 23, 59, tzinfo=UTC), True, True),
        (date(2012, 2, 29), datetime(2030, 3, 1, tzinfo=UTC), True, False),
        # The day is that of the time zone that the moment is given in.
        (date(2010, 11, 23), datetime(2026, 11, 23, 0, 30, tzinfo=timezone(timedelta(hours=1))), True, True),
        (date(2010, 11, 23), datetime(2026, 11, 22, 23, 30, tzinfo=UTC), False, True),
    ],
)
def test_ages(birth: date | None, at: datetime, patient: bool, guardian: bool) -> None:
    known = facts(birth_date=birth, representatives=(GUARDIAN,))
    assert read(citizen(), known, at) == (
        Permit(("patient",), obligations=("show-basis",)) if patient else Deny("none")
    )
    decision = read(citizen(PARENT), known, at)
    assert (decision != Deny("none")) is guardian
    if guardian:
        assert names(decision) == ("guardian",)


def test_a_guardian_ends_with_the_eighteenth_birthday_or_before() -> None:
    birthday = datetime(2033, 1, 1, tzinfo=UTC)
    for end, until in ((None, birthday), (LATER, LATER), (birthday + timedelta(days=1), birthday)):
        person = Representative(PARENT, "guardian", Period(PAST, end))
        assert read(citizen(PARENT), facts(birth_date=CHILD, representatives=(person,))).end("guardian") == until
    leap = facts(birth_date=date(2012, 2, 29), representatives=(GUARDIAN,))
    assert read(citizen(PARENT), leap).end("guardian") == datetime(2030, 3, 1, tzinfo=UTC)
    zone = timezone(timedelta(hours=2))
    local = read(citizen(PARENT), facts(birth_date=CHILD, representatives=(GUARDIAN,)), NOW.astimezone(zone))
    assert local.end("guardian") == datetime(2033, 1, 1, tzinfo=zone)
    not_yet = Representative(PARENT, "guardian", Period(SOON))
    assert read(citizen(PARENT), facts(birth_date=CHILD, representatives=(not_yet,))) == Deny("none")


@pytest.mark.parametrize("kind", ["guardian", "authorised", "informed", "close"])
@pytest.mark.parametrize("died", [None, DIED])
def test_representatives_in_life_and_after_death(kind: str, died: date | None) -> None:
    known = facts(representatives=(Representative(PARENT, kind),), died_on=died, birth_date=CHILD)
    holds = (kind, died) in {("guardian", None), ("authorised", None), ("authorised", DIED), ("close", DIED)}
    decision = read(citizen(PARENT), known)
    assert decision == (Permit((kind,), decision.ends, None, ("show-basis",)) if holds else Deny("none"))
    assert read(citizen("pesel#3"), known) == Deny("none")
    if holds:
        assert read(citizen(PARENT), known, switched_off=(kind,)) == Deny("none")
        assert read(citizen(PARENT), msgspec.structs.replace(known, protected=True)) == decision


def test_the_dead_do_not_read() -> None:
    assert read(citizen(), facts(died_on=DIED)) == Deny("none")
    assert names(read(citizen(), facts(died_on=NOW.date() + timedelta(days=1)))) == ("patient",)


def test_only_the_patient_is_the_patient() -> None:
    assert names(read(citizen("domain#1"), facts())) == ("patient",)
    assert read(citizen("pesel#9", acting_for=PATIENT), facts()) == Deny("none")
    assert read(citizen(), facts(), switched_off=("patient",)) == Deny("none")
    assert names(read(citizen(), facts(protected=True))) == ("patient",)


DAY = datetime(2026, 11, 20, tzinfo=UTC)


@pytest.mark.parametrize("kind", ["authorised", "close"])
@pytest.mark.parametrize(
    ("period", "holds"),
    [
        (Period(), True),
        (Period(None, DAY), False),
        (Period(None, DAY + timedelta(seconds=1)), True),
        (Period(DAY + timedelta(hours=23), DAY + timedelta(hours=24)), True),
        (Period(DAY + timedelta(hours=24), None), False),
        (Period(DAY + timedelta(hours=9), DAY + timedelta(hours=9)), False),
        (Period(DAY - timedelta(days=9), DAY - timedelta(days=8)), False),
        (Period(DAY - timedelta(days=9), DAY + timedelta(days=1)), True),
    ],
)
def test_what_held_at_death_holds_for_good(kind: str, period: Period, holds: bool) -> None:
    known = facts(representatives=(Representative(PARENT, kind, period),), died_on=DIED)
    assert read(citizen(PARENT), known) == (Permit((kind,), obligations=("show-basis",)) if holds else Deny("none"))


def test_the_day_of_death_is_a_day_of_the_region() -> None:
    zone = timezone(timedelta(hours=2))
    last_hour = Period(DAY + timedelta(hours=23), None)  # the next day at two hours east of Greenwich
    known = facts(representatives=(Representative(PARENT, "close", last_hour),), died_on=DIED)
    assert isinstance(read(citizen(PARENT), known), Permit)
    assert read(citizen(PARENT), known, NOW.astimezone(zone)) == Deny("none")
    before = Period(None, DAY - timedelta(hours=1))
    known = facts(representatives=(Representative(PARENT, "close", before),), died_on=DIED)
    assert read(citizen(PARENT), known) == Deny("none")
    assert isinstance(read(citizen(PARENT), known, NOW.astimezone(zone)), Permit)


def test_an_objection_silences_close_persons_only() -> None:
    known = facts(representatives=(CLOSE,), died_on=DIED, objection=True)
    assert read(citizen(PARENT), known) == Deny("none")
    both = msgspec.structs.replace(known, representatives=(CLOSE, AUTHORISED))
    assert names(read(citizen(PARENT), both)) == ("authorised",)
    assert names(read(citizen(), facts(objection=True))) == ("patient",)


def test_holds_hide_from_patients_and_who_stands_for_them() -> None:
    hold = Hold("n", "therapeutic", Period(PAST, LATER))
    known = facts(
        holds=(hold, Hold("r", "over", Period(None, PAST))), representatives=(AUTHORISED,), declarations=(POZ,)
    )
    for person in (PATIENT, PARENT):
        decision = read(citizen(person), known)
        assert decision.filter[1:] == (Source(HOLD, (Rule(False, Condition(documents=("n",))),), LATER, "therapeutic"),)
        assert seen(citizen(person), known) == ALL - {"n"}
    assert names(read(citizen(), known)) == ("patient",)
    assert seen(doctor(), known) == {"n", "r", "mine"}
    over = facts(holds=(Hold("r", "over", Period(None, PAST)),))
    assert read(citizen(), over).filter is None


# what hides ------------------------------------------------------------------------------------------------------

RESTRICTION = consent(deny(labels=("V", "R")), name="restriction")


def test_restrictions_hide_from_all_bases_of_care() -> None:
    known = msgspec.structs.replace(OPEN, consents=(*OPEN.consents, RESTRICTION))
    assert seen(doctor(), known) == {"n"}
    assert seen(doctor(), OPEN) == {"n", "r", "mine", "ours"}
    for purpose in ("ETREAT", "BTG"):
        assert seen(doctor(purpose_of_use=purpose), known) == ALL
        assert seen(doctor(purpose_of_use=purpose), known, emergency_opens_restricted=False) == {"n"}
        assert seen(doctor(purpose_of_use=purpose), OPEN, emergency_opens_restricted=False) == ALL


def test_restrictions_do_not_hide_from_patients_and_who_stands_for_them() -> None:
    known = facts(consents=(RESTRICTION, consent(deny())), representatives=(AUTHORISED,))
    for person in (PATIENT, PARENT):
        assert read(citizen(person), known).filter is None


@pytest.mark.parametrize("encounters", [(), (Encounter(HOSPITAL, Period(PAST, SOON)),)])
def test_whether_a_restriction_binds_the_author_is_a_setting(encounters: tuple[Encounter, ...]) -> None:
    known = facts(consents=(RESTRICTION,), encounters=encounters, declarations=(POZ,))
    assert seen(doctor(), known) == {"n"}
    own = {"mine", "ours"} if encounters else {"mine"}
    assert seen(doctor(), known, restriction_binds_author=False) == {"n", *own}
    # Another document of the lineage that is denied still denies all of it.
    together = (document("mine", authors=(DOCTOR,), lineage="1"), document("theirs", labels=("R",), lineage="1"))
    assert seen(doctor(), known, together, restriction_binds_author=False) == frozenset()
    off = {"restriction_binds_author": False, "switched_off": ("author",)}
    assert seen(doctor(), known, **off) == {"n", *own} - {"mine"}


def test_denials_fit_whom_they_name() -> None:
    for provision, hides in (
        (deny(), True),
        (deny(actors=(HOSPITAL,)), True),
        (deny(actors=(CLINIC,)), False),
        (deny(actors=(CLINIC, DOCTOR)), True),
        (deny(roles=("medical-doctor",)), True),
        (deny(roles=("nurse",)), False),
        (deny(roles=()), False),
        (deny(purposes=("TREAT",)), True),
        (deny(purposes=("BTG",)), False),
        (deny(period=Period(SOON)), False),
    ):
        known = facts(declarations=(POZ,), consents=(consent(provision),))
        assert seen(doctor(), known) == (frozenset() if hides else {"n", "r", "mine"}), provision


def test_a_restriction_of_a_profession_is_not_passed_by_through_an_assistant() -> None:
    for roles, hides in (
        (("nurse",), True),
        (("medical-assistant",), True),
        (("administrative-employee",), False),
        (("patient", "x"), False),
        (("x", "dentist"), True),
        ((), False),
    ):
        known = facts(declarations=(POZ,), consents=(consent(deny(roles=roles)),))
        assert seen(assistant(), known) == (frozenset() if hides else {"n", "r", "mine"}), roles
    for roles, opens in ((("medical-doctor",), False), (("medical-assistant", "nurse"), True)):
        known = facts(consents=(consent(permit(roles=roles)),))
        assert ("consent" in names(read(assistant(), known))) is opens


def test_the_last_provision_that_fits_decides() -> None:
    for provisions, sees in (
        ((permit(), deny(class_codes=("x",))), {"other"}),
        ((deny(class_codes=("x",)), permit()), {"other", "x"}),
        ((deny(), permit(class_codes=("x",))), {"x"}),
        ((deny(), permit(class_codes=("x",), actors=(CLINIC,))), set()),
        ((deny(actors=(CLINIC,)), permit(class_codes=("x",))), {"x"}),
        ((deny(), permit(class_codes=("x",), period=Period(None, PAST))), set()),
        ((permit(class_codes=("x",)), permit(class_codes=("y",))), {"x"}),
    ):
        documents = (document("x", class_code="x"), document("other"))
        assert seen(doctor(), facts(consents=(consent(*provisions),)), documents) == sees


def test_a_permission_above_its_maximum_does_not_fit() -> None:
    given = consent(deny(labels=("R",)), permit())
    assert seen(doctor(), facts(consents=(given,), declarations=(POZ,))) == {"n", "mine"}
    lifted = consent(deny(labels=("R",)), permit(labels=("R",)))
    assert seen(doctor(), facts(consents=(lifted,), declarations=(POZ,))) == {"n", "r", "mine"}


def test_among_consents_a_denial_hides() -> None:
    for order in permutations((consent(permit(), name="1"), consent(deny(class_codes=("x",)), name="2"))):
        documents = (document("x", class_code="x"), document("other"))
        assert seen(doctor(), facts(consents=order), documents) == {"other"}


def test_a_consent_opens_another_purpose_by_its_name() -> None:
    research = doctor(purpose_of_use="HRESCH")
    named = permit(purposes=("HRESCH", "HPAYMT"), actors=(HOSPITAL,))
    known = msgspec.structs.replace(
        OPEN, consents=(consent(named), consent(permit(), name="2"), consent(deny(labels=("R",)), name="3"))
    )
    decision = read(research, known)
    assert names(decision) == ("consent",)
    assert [source.reference for source in decision.filter] == ["c1", "3"]
    assert seen(research, known) == {"n"}
    for provision in (permit(purposes=("HRESCH",)), permit(purposes=("HRESCH",), roles=("medical-doctor",))):
        assert names(read(research, msgspec.structs.replace(OPEN, consents=(consent(provision),)))) == ("consent",)
    for provision in (
        permit(),
        permit(roles=("medical-doctor",)),
        permit(actors=(HOSPITAL,)),
        permit(purposes=("HPAYMT",), actors=(HOSPITAL,)),
        permit(purposes=("HRESCH",), actors=(CLINIC,)),
        deny(purposes=("HRESCH",), actors=(HOSPITAL,)),
    ):
        assert read(research, msgspec.structs.replace(OPEN, consents=(consent(provision),))) == Deny("purpose"), (
            provision
        )
    # No purpose is no code of one.
    nameless = facts(consents=(consent(permit(purposes=("", "UNKNOWN"), actors=(HOSPITAL,))),))
    assert read(doctor(purpose_of_use="", role="administrative-employee"), nameless) == Deny("purpose")
    ended = consent(named, period=Period(None, PAST))
    assert read(research, facts(consents=(ended,))) == Deny("purpose")
    # The others of the refusals still refuse.
    opened = facts(consents=(consent(named),))
    assert read(doctor(purpose_of_use="HRESCH", person=""), opened) == Deny("system")
    assert read(doctor(purpose_of_use="HPAYMT", role="administrative-employee"), opened) == Deny("role")
    assert read(citizen(purpose_of_use="HRESCH", organisation=HOSPITAL), opened) == Deny("own-purpose")
    # Nor does it open what it may not.
    assert read(research, msgspec.structs.replace(opened, protected=True)) == Deny("none")
    assert read(research, opened, switched_off=("consent",)) == Deny("none")


# the filter ------------------------------------------------------------------------------------------------------

ONLY = document(
    "1",
    class_code="c^^s",
    type_code="t^^s",
    practice_setting_code="p^^s",
    labels=("N", "PSY"),
    authors=("a", "b"),
    encounters=("e",),
)


@pytest.mark.parametrize(
    ("condition", "fits"),
    [
        (Condition(), True),
        (Condition(documents=("1",)), True),
        (Condition(documents=("0", "2")), False),
        (Condition(class_codes=("x", "c^^s")), True),
        (Condition(class_codes=("c",)), False),
        (Condition(type_codes=("t^^s",)), True),
        (Condition(type_codes=("c^^s",)), False),
        (Condition(practice_setting_codes=("p^^s",)), True),
        (Condition(practice_setting_codes=("t^^s",)), False),
        (Condition(labels=("PSY", "SDV")), True),
        (Condition(labels=("N",)), True),
        (Condition(labels=("R", "SDV")), False),
        (Condition(authors=("b",)), True),
        (Condition(authors=("e",)), False),
        (Condition(encounters=("e", "f")), True),
        (Condition(encounters=("a",)), False),
        (Condition(created_from="20240115100000"), True),
        (Condition(created_from="20240115100001"), False),
        (Condition(created_to="20240115100001"), True),
        (Condition(created_to="20240115100000"), False),
        (Condition(created_from="20240101000000", created_to="20250101000000"), True),
        (Condition(created_from="20240101000000", created_to="20240115000000"), False),
        (Condition(created_from="20240116000000", created_to="20250101000000"), False),
        (Condition(class_codes=("c^^s",), labels=("SDV",)), False),
        (Condition(class_codes=("c^^s",), labels=("PSY",), created_to="20250101000000"), True),
        (Condition(class_codes=()), False),
    ],
)
def test_conditions(condition: Condition, fits: bool) -> None:
    assert (shown((Source("x", (Rule(True, condition),)),), [ONLY]) == {"1"}) is fits


def test_a_document_without_a_time_fits_no_period() -> None:
    timeless = document(creation_time="")
    for condition in (
        Condition(created_to="2"),
        Condition(created_from="0"),
        Condition(created_from=""),
        Condition(created_from="", created_to="2"),
    ):
        assert shown((Source("x", (Rule(True, condition),)),), [timeless]) == frozenset()
    assert shown((Source("x", (Rule(True),)),), [timeless]) == {"d"}


@pytest.mark.parametrize(
    ("labels", "level"),
    [
        ((), "N"),
        (("N",), "N"),
        (("L",), "N"),
        (("M", "U"), "N"),
        (("PSY",), "N"),
        (("R",), "R"),
        (("N", "R", "PSY"), "R"),
        (("V",), "V"),
        (("R", "V"), "V"),
        (("V", "N"), "V"),
    ],
)
def test_confidentiality_is_the_highest_label(labels: tuple[str, ...], level: str) -> None:
    one = document(labels=labels)
    for highest in "NRV":
        opened = shown((Source("x", (Rule(True, max=highest),)),), [one])
        assert bool(opened) is ("NRV".index(level) <= "NRV".index(highest))
    for label in labels:
        assert shown((Source("x", (Rule(True, Condition(labels=(label,))),)),), [one]) == {"d"}
    fits_normal = shown((Source("x", (Rule(True, Condition(labels=("N",))),)),), [one])
    assert bool(fits_normal) is ("N" in labels or not {"N", "R", "V"} & set(labels))


def test_the_last_rule_that_fits_is_what_a_source_says() -> None:
    one = document(class_code="x", labels=("R",))
    for rules, opened in (
        ((Rule(True),), True),
        ((Rule(True), Rule(None)), False),
        ((Rule(None), Rule(True)), True),
        ((Rule(False), Rule(True)), True),
        ((Rule(True), Rule(False)), False),
        ((Rule(True), Rule(False, Condition(class_codes=("y",)))), True),
        ((Rule(True), Rule(False, max="N")), False),
        ((Rule(True), Rule(None, max="N")), True),
        ((Rule(False), Rule(True, max="N")), False),
        ((), False),
    ):
        assert bool(shown((Source("x", rules),), [one])) is opened, rules


def test_sources_add_up_and_one_denial_hides() -> None:
    opens, silent, denies = (Source("x", rules) for rules in ((Rule(True),), (Rule(None),), (Rule(False),)))
    for order in permutations((opens, silent)):
        assert shown(order, [document()]) == {"d"}
    for order in permutations((opens, silent, denies)):
        assert shown(order, [document()]) == frozenset()
    assert shown((silent,), [document()]) == frozenset()
    assert shown((), [document()]) == frozenset()
    assert shown(None, [document("1"), document("2")]) == {"1", "2"}


def test_a_denial_goes_for_the_lineage_and_a_permission_only_where_it_names_a_document() -> None:
    family = (
        document("1", lineage="L", class_code="x"),
        document("2", lineage="L"),
        document("3", lineage="M"),
        document("4"),
    )
    everything = Source("x", (Rule(True),))
    assert shown((everything, Source("y", (Rule(False, Condition(class_codes=("x",))),))), family) == {"3", "4"}
    assert shown((everything, Source("y", (Rule(False, Condition(documents=("2",))),))), family) == {"3", "4"}
    assert shown((Source("x", (Rule(True, Condition(documents=("2",))),)),), family) == {"1", "2"}
    assert shown((Source("x", (Rule(True, Condition(class_codes=("x",))),)),), family) == {"1"}
    assert shown((Source("x", (Rule(True, Condition(documents=("2",), class_codes=("x",))),)),), family) == {"1"}
    # What one document is denied, no other rule of the same source gives back to the lineage.
    mixed = Source("y", (Rule(False), Rule(True, Condition(class_codes=("x",)))))
    assert shown((mixed,), family) == frozenset()
    # Confidentiality is each document's own.
    secret = (document("1", lineage="L", labels=("V",)), document("2", lineage="L"))
    assert shown((Source("x", (Rule(True, max="R"),)),), secret) == {"2"}


def test_documents_without_lineage_are_alone() -> None:
    everything, one = Source("x", (Rule(True),)), Source("y", (Rule(False, Condition(documents=("1",))),))
    assert shown((everything, one), [document("1"), document("2")]) == {"2"}


# obligations -----------------------------------------------------------------------------------------------------


def test_obligations() -> None:
    told = facts(notices=True, emergencies=(SESSION,), representatives=(AUTHORISED,))
    plain = msgspec.structs.replace(told, notices=False)
    all_three = ("notify-patient", "report-to-officer", "show-basis")
    assert read(doctor(), told).obligations == ("notify-patient", "show-basis")
    assert read(doctor(), plain).obligations == ("show-basis",)
    assert read(doctor(purpose_of_use="BTG"), told).obligations == all_three
    assert read(doctor(purpose_of_use="BTG"), plain).obligations == all_three
    assert read(citizen(), told).obligations == ("show-basis",)
    assert read(citizen(PARENT), told).obligations == ("notify-patient", "show-basis")


# what must hold of all decisions ---------------------------------------------------------------------------------

_moments = st.sampled_from((None, PAST, NOW, SOON, LATER))
_periods = st.builds(Period, _moments, _moments)


def _some(*values: str) -> st.SearchStrategy[tuple[str, ...] | None]:
    return st.none() | st.lists(st.sampled_from(values), max_size=2, unique=True).map(tuple)


_conditions = st.builds(
    Condition,
    documents=_some("1", "2", "3"),
    class_codes=_some("x", "y"),
    labels=_some("N", "R", "V", "PSY"),
    authors=_some(DOCTOR, HOSPITAL, CLINIC),
    created_from=st.sampled_from((None, None, "20240101000000")),
    created_to=st.sampled_from((None, None, "20240201000000")),
)
_provisions = st.builds(
    Provision,
    permit=st.booleans(),
    actors=_some(DOCTOR, HOSPITAL, CLINIC, ASSISTANT),
    roles=_some("medical-doctor", "nurse", "medical-assistant"),
    purposes=_some("TREAT", "BTG", "HRESCH"),
    period=_periods,
    condition=_conditions,
)
_denials = _provisions.map(lambda p: msgspec.structs.replace(p, permit=False))
_permissions = _provisions.map(lambda p: msgspec.structs.replace(p, permit=True))


def _consents(provisions: st.SearchStrategy[Provision]) -> st.SearchStrategy[Consent]:
    return st.builds(Consent, st.sampled_from("abc"), _periods, st.lists(provisions, min_size=1, max_size=3).map(tuple))


def _several(strategy: st.SearchStrategy[Any]) -> st.SearchStrategy[tuple[Any, ...]]:
    return st.lists(strategy, max_size=3).map(tuple)


_facts = st.builds(
    Facts,
    identifiers=st.just((PATIENT,)),
    birth_date=st.sampled_from((None, CHILD, date(2009, 6, 1), date(1980, 5, 17))),
    died_on=st.sampled_from((None, None, DIED)),
    protected=st.booleans(),
    objection=st.booleans(),
    declarations=_several(
        st.builds(
            Declaration,
            st.just(DOCTOR),
            st.sampled_from(("doctor", "nurse")),
            st.sampled_from(("", HOSPITAL)),
            _periods,
        )
    ),
    encounters=_several(st.builds(Encounter, st.sampled_from((HOSPITAL, CLINIC)), _periods)),
    representatives=_several(
        st.builds(
            Representative, st.just(PARENT), st.sampled_from(("guardian", "authorised", "informed", "close")), _periods
        )
    ),
    consents=_several(_consents(_provisions)),
    emergencies=_several(st.builds(Emergency, st.just(DOCTOR), st.just(HOSPITAL), _periods)),
    holds=_several(st.builds(Hold, st.sampled_from("123"), st.just("reason"), _periods)),
    notices=st.booleans(),
)
_requesters = st.sampled_from(
    (
        doctor(),
        doctor(purpose_of_use="BTG"),
        doctor(purpose_of_use="HRESCH"),
        doctor(role="nurse", organisation=CLINIC),
        doctor(role="pharmacist"),
        assistant(),
        citizen(),
        citizen(PARENT),
    )
)
_settings = st.builds(
    Settings, st.booleans(), st.booleans(), st.lists(st.sampled_from(sorted(BASES)), max_size=1).map(tuple)
)
_documents = st.tuples(
    *(
        st.builds(
            DocumentFacts,
            st.just(uuid),
            st.sampled_from(("", "L", "M")),
            st.sampled_from("xyz"),
            labels=st.sampled_from((("N",), ("R",), ("V",), ("N", "PSY"), ())),
            authors=st.sampled_from(((), (DOCTOR,), (HOSPITAL,), (CLINIC, DOCTOR))),
            creation_time=st.sampled_from(("", "20240115100000", "20250115100000")),
        )
        for uuid in "123"
    )
)


def _sees(requester: Requester, known: Facts, documents: Any, chosen: Settings) -> frozenset[str]:
    decision = decide(requester, known, Act.READ, NOW, chosen)
    return shown(decision.filter, documents) if isinstance(decision, Permit) else frozenset()


def _plus(known: Facts, **more: Any) -> Facts:
    return msgspec.structs.replace(known, **{name: (*getattr(known, name), *values) for name, values in more.items()})


@settings(max_examples=100, deadline=None)
@given(_requesters, _facts, _documents, _settings, _consents(_denials))
def test_a_restriction_more_never_shows_more(
    requester: Any, known: Any, documents: Any, chosen: Any, restriction: Any
) -> None:
    before = _sees(requester, known, documents, chosen)
    assert _sees(requester, _plus(known, consents=[restriction]), documents, chosen) <= before


@settings(max_examples=100, deadline=None)
@given(_requesters, _facts, _documents, _settings, _consents(_permissions))
def test_a_permission_more_never_shows_less(requester: Any, known: Any, documents: Any, chosen: Any, more: Any) -> None:
    before = _sees(requester, known, documents, chosen)
    assert _sees(requester, _plus(known, consents=[more]), documents, chosen) >= before
    if known.consents:
        first, *others = known.consents
        longer = msgspec.structs.replace(first, provisions=(*first.provisions, *more.provisions))
        extended = msgspec.structs.replace(known, consents=(longer, *others))
        assert _sees(requester, extended, documents, chosen) >= before


@settings(max_examples=60, deadline=None)
@given(_requesters, _facts, _documents, _settings, st.randoms(use_true_random=False))
def test_the_order_of_facts_does_not_matter(
    requester: Any, known: Any, documents: Any, chosen: Any, random: Any
) -> None:
    def shuffled(values: tuple[Any, ...]) -> tuple[Any, ...]:
        return tuple(random.sample(values, len(values)))

    names = ("declarations", "encounters", "representatives", "consents", "emergencies", "holds")
    other = msgspec.structs.replace(known, **{name: shuffled(getattr(known, name)) for name in names})
    one, two = (decide(requester, f, Act.READ, NOW, chosen) for f in (known, other))
    assert type(one) is type(two)
    if isinstance(one, Permit):
        assert (one.bases, one.ends, one.obligations) == (two.bases, two.ends, two.obligations)
        assert shown(one.filter, documents) == shown(two.filter, shuffled(documents))
    else:
        assert one == two


@settings(max_examples=60, deadline=None)
@given(_requesters, _facts, _documents, _settings)
def test_what_is_denied_is_denied_with_its_whole_lineage(
    requester: Any, known: Any, documents: Any, chosen: Any
) -> None:
    sees = _sees(requester, known, documents, chosen)
    # Where no rule names a document, documents that come to belong together are shown no more than apart.
    if not any(p.condition.documents for c in known.consents for p in c.provisions) and not known.holds:
        together = [msgspec.structs.replace(d, lineage="L") for d in documents]
        assert _sees(requester, known, together, chosen) <= sees


@settings(max_examples=60, deadline=None)
@given(_requesters, _facts, _documents, _settings, st.sampled_from("123"))
def test_a_hold_hides_from_patients_alone(requester: Any, known: Any, documents: Any, chosen: Any, held: str) -> None:
    before = _sees(requester, known, documents, chosen)
    after = _sees(requester, _plus(known, holds=[Hold(held, "reason", Period())]), documents, chosen)
    assert after == before if requester.role != "patient" else after <= before - {held}


@settings(max_examples=100, deadline=None)
@given(_requesters, _facts, _documents, _settings, st.sampled_from(list(Act)))
def test_an_explanation_agrees_with_the_decision(
    requester: Any, known: Any, documents: Any, chosen: Any, act: Act
) -> None:
    explanation = explain(requester, known, act, NOW, chosen, documents)
    decision = explanation.decision
    assert decision == decide(requester, known, act, NOW, chosen)
    permitted = shown(decision.filter, documents) if isinstance(decision, Permit) else frozenset()
    assert {d.entry_uuid for d in explanation.documents if d.shown} == permitted
    if isinstance(decision, Permit) and explanation.bases:
        assert tuple(trace.basis for trace in explanation.bases if not trace.lack) == decision.bases
    for trace in explanation.documents:
        assert not (trace.shown and (trace.hidden_by or trace.above))
    for language in LANGUAGES:
        assert len(render(explanation, language)) >= 1 + len(explanation.documents)


def _brought_about(name: str, who: Requester, known: Facts, **of_consent: Any) -> tuple[Requester, Facts]:
    """What a basis is said to take, done; nothing, where nobody can: nobody becomes the patient."""
    in_person = who.acting_for or who.person
    match name:
        case "same-entity":
            return who, _plus(known, encounters=(Encounter(who.organisation, ALWAYS),))
        case "poz":
            kind = next((kind for kind, roles in TABLE["declarations"].items() if who.role in roles), "doctor")
            return who, _plus(known, declarations=(Declaration(in_person, kind, who.organisation, ALWAYS),))
        case "consent":
            given = permit(actors=(who.person,), purposes=(who.purpose_of_use,), **of_consent)
            return who, _plus(known, consents=(consent(given, name="given"),))
        case "emergency":
            session = Emergency(in_person, who.organisation, ALWAYS)
            return msgspec.structs.replace(who, purpose_of_use="ETREAT"), _plus(known, emergencies=(session,))
        case _:
            return who, _plus(known, representatives=(Representative(who.person, name, ALWAYS),))


@settings(max_examples=200, deadline=None)
@given(_requesters, _facts, _documents, _settings)
def test_what_is_said_to_change_a_decision_changes_it(requester: Any, known: Any, documents: Any, chosen: Any) -> None:
    explanation = explain(requester, known, Act.READ, NOW, chosen, documents)
    for trace in obtainable(explanation):
        if trace.basis == "patient":
            continue
        decision = decide(*_brought_about(trace.basis, requester, known), Act.READ, NOW, chosen)
        assert trace.basis in names(decision), trace


@settings(max_examples=300, deadline=None)
@given(_requesters, _facts, _documents, _settings)
def test_what_is_said_to_show_a_document_shows_it(requester: Any, known: Any, documents: Any, chosen: Any) -> None:
    """What hides it is taken back, and where nothing opens it one of the bases is brought about, whichever it is."""
    numbered = [msgspec.structs.replace(each, id=str(place)) for place, each in enumerate(known.consents)]
    known = msgspec.structs.replace(known, consents=tuple(numbered))
    explanation = explain(requester, known, Act.READ, NOW, chosen, documents)
    offered = {trace.basis for trace in obtainable(explanation)} | {"consent"}  # of one that holds another is wanted
    for trace in explanation.documents:
        if trace.shown or not isinstance(explanation.decision, Permit):
            continue
        assert offered.issuperset(trace.openable)
        taken_back = {hidden.reference for hidden in trace.hidden_by}
        less = msgspec.structs.replace(
            known,
            consents=tuple(each for each in known.consents if each.id not in taken_back),
            holds=tuple(each for each in known.holds if each.reason not in taken_back),
        )
        for name in trace.openable:
            if name != "patient":
                who, more = _brought_about(name, requester, less, documents=(trace.entry_uuid,))
                assert trace.entry_uuid in seen(who, more, documents, **msgspec.structs.asdict(chosen)), name
        if trace.permitted_by and "consent" not in trace.permitted_by:  # which may be what is taken back
            assert trace.entry_uuid in seen(requester, less, documents, **msgspec.structs.asdict(chosen))


# explanations ----------------------------------------------------------------------------------------------------


def lacks(requester: Requester, known: Facts, act: Act = Act.READ, **chosen: Any) -> dict[str, str]:
    return {trace.basis: trace.lack for trace in explain(requester, known, act, NOW, Settings(**chosen)).bases}


def test_why_a_basis_does_not_hold() -> None:
    assert lacks(doctor(), facts()) == {
        "author": "",
        "same-entity": "none",
        "poz": "none",
        "consent": "none",
        "emergency": "purpose",
        "patient": "role",
        "guardian": "role",
        "authorised": "role",
        "close": "role",
    }
    over = Period(None, PAST)
    ended = facts(
        encounters=(Encounter(HOSPITAL, over),),
        declarations=(Declaration(DOCTOR, "doctor", "", over),),
        consents=(consent(permit(), period=over),),
        emergencies=(Emergency(DOCTOR, "", over),),
    )
    found = lacks(doctor(purpose_of_use="BTG"), ended, switched_off=("author",))
    assert list(found.values())[:5] == ["off", "not-now", "not-now", "not-now", "not-now"]
    guarded = lacks(doctor(), msgspec.structs.replace(ended, protected=True, died_on=DIED))
    assert (guarded["same-entity"], guarded["poz"]) == ("protected", "died")
    assert lacks(doctor(), facts(consents=(consent(permit(actors=(CLINIC,))),)))["consent"] == "none"
    assert lacks(doctor(), facts(), switched_off=("consent",))["consent"] == "off"
    own = list(lacks(citizen(), facts(birth_date=CHILD)).values())[5:]
    assert own == ["young", "none", "none", "alive"]
    grown = list(lacks(citizen(), facts(died_on=DIED, objection=True)).values())[5:]
    assert grown == ["died", "died", "none", "objection"]
    assert lacks(citizen(), facts(), Act.CONSENT) == {"patient": "", "guardian": "grown", "authorised": "none"}
    assert lacks(doctor(), facts(), Act.FEED) == {}
    assert lacks(doctor(purpose_of_use="HRESCH"), facts())["author"] == "purpose"


@pytest.mark.parametrize(
    ("who", "act", "reason", "changes"),
    [
        (doctor(purpose_of_use="PATRQT"), Act.READ, "own-purpose", ["another purpose: TREAT, CAREMGT, COC, ETREAT, BTG; bases count only then"]),
        (citizen(purpose_of_use="HRESCH"), Act.READ, "purpose", ["another purpose: PATRQT, FAMRQT, PWATRNY; bases count only then"]),
        (doctor(), Act.EMERGENCY, "purpose", ["another purpose: ETREAT, BTG"]),
        (doctor(role="administrative-employee", purpose_of_use=""), Act.READ, "role", []),
        (doctor(role="administrative-employee", purpose_of_use="HRESCH"), Act.READ, "role", []),
        (doctor(role="administrative-employee", patient="pesel#5"), Act.READ, "role", []),
        (doctor(person="", purpose_of_use="HPAYMT"), Act.READ, "system", ["to ask in the name of a person"]),
        (doctor(patient="pesel#5"), Act.READ, "limited", ["a proof that is good for this patient, or for nobody in particular"]),
        (doctor(role="medical-assistant"), Act.READ, "assistant", ["to say for whom the assistant acts"]),
    ],
)  # fmt: skip
def test_what_is_refused_before_any_basis_is_not_changed_by_one(
    who: Requester, act: Act, reason: str, changes: list[str]
) -> None:
    explanation = explain(who, OPEN, act, NOW, Settings(), [document("1")])
    lines = render(explanation, "en")
    assert explanation.reason == reason
    assert explanation.documents[0].openable == ()
    heading = "What would change it:"
    said = lines[lines.index(heading) + 1 :] if heading in lines else []
    assert [line.strip() for line in said] == changes


def test_an_explanation_says_what_hides_what() -> None:
    known = facts(
        declarations=(POZ,),
        consents=(
            consent(deny(class_codes=("x",)), name="restriction", period=Period(PAST, LATER)),
            consent(permit(), name="open"),
        ),
    )
    documents = (
        document("1", class_code="x", lineage="L"),
        document("2", lineage="L"),
        document("3", labels=("V",)),
        document("4", authors=(DOCTOR,)),
    )
    explanation = explain(doctor(), known, Act.READ, NOW, Settings(), documents)
    one, two, three, four = explanation.documents
    assert explanation.bases[2:4] == (BasisTrace("poz", "", LATER), BasisTrace("consent"))
    assert [source.reference for source in explanation.restrictions] == ["restriction"]
    assert one.hidden_by == two.hidden_by == (Hidden("consent", "restriction", "1"),)
    assert (three.permitted_by, three.hidden_by, three.above) == ((), (), ("poz", "consent"))
    assert (three.openable, four.openable) == (("consent", "emergency"), ())
    assert (four.shown, four.permitted_by) == (True, ("author", "poz", "consent"))
    lines = render(explanation, "en")
    assert (
        lines[0]
        == "Permitted: author of the document, chosen primary care doctor, nurse or midwife (until 2026-12-22 13:00), consent of the patient."
    )
    assert "  1: not shown, hidden by consent of the patient restriction" in lines
    assert "  2: not shown, for consent of the patient restriction hides the document 1 that belongs to it" in lines
    assert (
        "  3: not shown, it is more confidential than is opened by: chosen primary care doctor, nurse or midwife, consent of the patient"
    ) in lines
    assert (
        "  4: shown, basis: author of the document, chosen primary care doctor, nurse or midwife, consent of the patient"
        in lines
    )
    assert "  consent of the patient restriction, until 2026-12-22 13:00: class x" in lines
    assert any(
        line.startswith(
            "  no, threat to life (art. 35 SIOZ Act; EHDS art. 11(5)): it is for other purposes; it takes: "
        )
        for line in lines
    )
    polish = render(explanation, "pl")
    assert polish[0].startswith("Wolno: autor dokumentu, ")
    assert "Co ukrywa:" in polish


def test_an_explanation_of_a_refusal() -> None:
    explanation = explain(doctor(purpose_of_use="HRESCH"), OPEN, Act.READ, NOW, Settings(), [document("1")])
    lines = render(explanation, "en")
    assert lines[0] == "Denied, because for this purpose documents are not read without a consent that names it."
    assert "  1: not shown, no basis opens it" in lines
    changes = lines[lines.index("What would change it:") + 1 :]
    assert changes == [
        "  another purpose: TREAT, CAREMGT, COC, ETREAT, BTG; bases count only then",
        "  consent of the patient: one that names this purpose and this person or facility",
    ]
    assert render(explain(doctor(), OPEN, Act.FEED, NOW, Settings()), "pl") == ["Wolno."]
    held = facts(holds=(Hold("1", "therapeutic", Period()),))
    lines = render(explain(citizen(), held, Act.READ, NOW, Settings(), [document("1"), document("2")]), "en")
    assert "  hold of a facility therapeutic, without end: documents 1" in lines
    assert lines[-4:] == [
        "  1: not shown, hidden by hold of a facility therapeutic",
        "  2: shown, basis: the patient",
        "What would change it:",
        "  1: the hold of the facility (therapeutic) ends, without end",
    ]
    everything = explain(citizen(), facts(), Act.READ, NOW, Settings(), [document("1")])
    assert render(everything, "en")[-1] == "  1: shown, basis: the patient"
    restricted = explain(doctor(), facts(consents=(consent(deny()),)), Act.READ, NOW, Settings())
    assert "  consent of the patient c1, without end: all documents" in render(restricted, "en")


# What is of a type and time ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("sources", "expected"),
    [
        ((), False),
        (((Rule(True),),), True),
        (((Rule(True, Condition(type_codes=("t",))),),), True),
        (((Rule(True, Condition(type_codes=("other",))),),), False),
        (((Rule(True, Condition(labels=("N",))),),), True),  # it is taken to be N
        (((Rule(True, Condition(authors=("a",))),),), False),
        # Two periods that open its ends, and not what lies between; or all of it.
        (((Rule(True, Condition(created_to="2021")),), (Rule(True, Condition(created_from="2023")),)), False),
        (((Rule(True, Condition(created_to="2023")),), (Rule(True, Condition(created_from="2021")),)), True),
        (((Rule(True),), (Rule(False, Condition(created_from="2021", created_to="2022")),)), False),
        (((Rule(True),), (Rule(False, Condition(created_from="2024")),)), True),
        (((Rule(True),), (Rule(False, Condition(type_codes=("other",))),)), True),
        (((Rule(True),), (Rule(False, Condition(type_codes=("other",), labels=("R",))),)), True),
        (((Rule(True),), (Rule(False, Condition(class_codes=("c",), created_from="2024")),)), True),
        (((Rule(True),), (Rule(False, Condition(practice_setting_codes=("p",))),)), False),
        # What a later rule of its source takes back for all of them.
        (((Rule(True),), (Rule(False, Condition(authors=("a",))), Rule(True))), True),
        (((Rule(True),), (Rule(False), Rule(None, Condition(type_codes=("t",))))), True),
        (((Rule(True),), (Rule(False), Rule(True, Condition(authors=("a",))))), False),
        (((Rule(True),), (Rule(False, Condition(labels=("R",))), Rule(True, Condition(labels=("N",))))), False),
    ],
)
def test_what_of_a_type_and_time_is_shown_whatever_it_is(sources: tuple[tuple[Rule, ...], ...], expected: bool) -> None:
    permitted = tuple(Source("x", rules) for rules in sources)
    assert surely(permitted, "t", "2020", "2024") is expected
    assert surely(None, "t", "2020", "2024")


def test_of_any_type_or_time_every_rule_may_deny() -> None:
    for asked in (Condition(type_codes=("other",)), Condition(created_from="2024"), Condition(labels=("R",))):
        permitted = (Source("x", (Rule(True),)), Source("y", (Rule(False, asked),)))
        assert not surely(permitted, "", "", "")
        assert surely(permitted[:1], "", "", "")
    until = (Source("x", (Rule(True),)), Source("y", (Rule(False, Condition(created_to="2020")),)))
    assert surely(until, "", "2020", "")
    assert not surely(until, "", "", "2020")


# Until when the same is decided --------------------------------------------------------------------------------------

MIDNIGHT = datetime(2026, 11, 23, tzinfo=ZoneInfo("Europe/Warsaw"))


def _all_that_last(period: Period) -> list[Facts]:
    """Facts of which one thing has the period."""
    return [
        facts(declarations=(Declaration(DOCTOR, "doctor", "", period),)),
        facts(encounters=(Encounter(HOSPITAL, period),)),
        facts(representatives=(Representative(PARENT, "guardian", period),)),
        facts(consents=(consent(period=period),)),
        facts(consents=(consent(permit(), permit(period=period)),)),
        facts(emergencies=(Emergency(DOCTOR, HOSPITAL, period),)),
        facts(holds=(Hold("d", "why", period),)),
    ]


def test_the_same_is_decided_until_a_period_begins_or_ends_or_a_day_does() -> None:
    at = NOW.astimezone(MIDNIGHT.tzinfo)
    assert next_change(facts(), at) == MIDNIGHT
    assert next_change(facts(), MIDNIGHT) == MIDNIGHT + timedelta(days=1)
    for period, until in (
        (Period(PAST, SOON), SOON),
        (Period(SOON), SOON),
        (Period(SOON, SOON + timedelta(minutes=1)), SOON),
        (Period(PAST, NOW), MIDNIGHT),  # what has just ended, or begun, changes nothing any more
        (Period(NOW), MIDNIGHT),
        (Period(PAST, LATER), MIDNIGHT),
        (Period(LATER), MIDNIGHT),
        (ALWAYS, MIDNIGHT),
    ):
        for known in _all_that_last(period):
            assert next_change(known, at) == until, known
    both = facts(
        declarations=(Declaration(DOCTOR, "doctor", "", Period(None, SOON)),),
        holds=(Hold("d", "", Period(SOON - timedelta(minutes=1))),),
    )
    assert next_change(both, at) == SOON - timedelta(minutes=1)

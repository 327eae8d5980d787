"""Stories with the answers that a reader of docs/access.md expects: so that the oracle itself is not believed blindly."""

from __future__ import annotations

from datetime import date, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from oracle import Answer, Case, acts, answers

from obieg.domain.access import (
    Condition,
    Consent,
    Declaration,
    DocumentFacts,
    Emergency,
    Encounter,
    Facts,
    Hold,
    Period,
    Provision,
    Representative,
)
from obieg.domain.requester import Requester
from obieg.transactions import TRANSACTIONS

WARSAW = ZoneInfo("Europe/Warsaw")
NOW = datetime(2026, 3, 10, 0, 30, tzinfo=WARSAW)  # in UTC it is still the day before
READ = "document_registry:object:find"
YEAR = timedelta(days=365)

ANNA, PIOTR, EWA = "2.999.1#anna", "2.999.1#piotr", "2.999.1#ewa"
DOCTOR, OTHER_DOCTOR, NURSE, ASSISTANT = "2.999.2#doctor", "2.999.2#other", "2.999.2#nurse", "2.999.2#assistant"
HOSPITAL, CLINIC = "2.999.3#hospital", "2.999.3#clinic"

ALWAYS = Period()
running = Period(NOW - YEAR, NOW + YEAR)
ended = Period(NOW - YEAR, NOW)


def doctor(
    person: str = DOCTOR, *, role: str = "medical-doctor", at: str = HOSPITAL, purpose: str = "TREAT", **more: str
):
    return Requester(system="s", person=person, role=role, organisation=at, purpose_of_use=purpose, **more)


def relative(person: str, purpose: str = "PATRQT", **more: str) -> Requester:
    return Requester(system="s", person=person, role="patient", purpose_of_use=purpose, **more)


def anna(**more) -> Facts:
    return Facts(**{"identifiers": (ANNA,), "birth_date": date(1980, 1, 1), **more})


def paper(uuid: str, label: str = "N", *authors: str, lineage: str = "", kind: str = "note") -> DocumentFacts:
    return DocumentFacts(
        entry_uuid=uuid, lineage=lineage or uuid, labels=(label,), authors=authors, class_code=kind,
        creation_time="20260101120000",
    )  # fmt: skip


def consent(*provisions: Provision, period: Period = running) -> Consent:
    return Consent(id="c", period=period, provisions=provisions)


def everything(permit: bool, **more) -> Provision:
    return Provision(permit=permit, **more)


SHELF = (
    paper("normal", "N", CLINIC, OTHER_DOCTOR),
    paper("restricted", "R", CLINIC, OTHER_DOCTOR),
    paper("very", "V", CLINIC, OTHER_DOCTOR),
    paper("mine", "V", HOSPITAL, DOCTOR),
    paper("ours", "V", HOSPITAL),
)
NAMES = frozenset(d.entry_uuid for d in SHELF)


def ask(
    who: Requester, facts: Facts, permission: str = READ, shelf: tuple[DocumentFacts, ...] = SHELF, **settings
) -> Answer:
    return answers([Case(who, facts, permission, shelf)], NOW, **settings)[0]


def test_a_doctor_sees_what_the_doctor_wrote_and_nothing_else() -> None:
    assert ask(doctor(), anna()) == Answer(None, ("author",), (), ("show-basis",), frozenset({"mine"}))


def test_care_in_progress_opens_what_the_hospital_wrote_until_it_ends() -> None:
    said = ask(doctor(), anna(encounters=(Encounter(HOSPITAL, running),)))
    assert said.bases == ("author", "same-entity")
    assert said.ends == (("same-entity", NOW + YEAR),)
    assert said.shown == {"mine", "ours"}
    assert ask(doctor(), anna(encounters=(Encounter(HOSPITAL, ended),))).shown == {"mine"}
    assert ask(doctor(at=CLINIC), anna(encounters=(Encounter(HOSPITAL, running),))).shown == {"mine"}
    assert ask(doctor(at=""), anna(encounters=(Encounter("", running),))).bases == ("author",)


def test_the_chosen_doctor_sees_all_but_the_very_restricted() -> None:
    chosen = anna(declarations=(Declaration(DOCTOR, "doctor", "", Period(NOW)),))
    said = ask(doctor(), chosen)
    assert (said.bases, said.ends) == (("author", "poz"), ())
    assert said.shown == {"normal", "restricted", "mine"}
    assert ask(doctor(role="nurse"), chosen).bases == ("author",), "chosen as a doctor, not as a nurse"
    elsewhere = anna(declarations=(Declaration(DOCTOR, "doctor", CLINIC, running),))
    assert ask(doctor(), elsewhere).bases == ("author",)
    assert ask(doctor(at=CLINIC), elsewhere).bases == ("author", "poz")


def test_an_assistant_reads_in_the_place_of_the_doctor() -> None:
    chosen = anna(declarations=(Declaration(DOCTOR, "doctor", "", running),))
    assistant = doctor(ASSISTANT, role="medical-assistant", acting_for=DOCTOR)
    assert ask(assistant, chosen).shown == {"normal", "restricted", "mine"}
    assert ask(doctor(ASSISTANT, role="medical-assistant"), chosen).reason == "assistant"
    denied = anna(consents=(consent(everything(False, roles=("nurse",))),))
    assert ask(assistant, denied).shown == frozenset(), "the assistant may act for a nurse"


def test_those_who_do_not_read() -> None:
    chosen = anna(declarations=(Declaration(DOCTOR, "doctor", "", running),))
    reasons = {
        "purpose": doctor(purpose="HRESCH"),
        "system": Requester(system="s", organisation=HOSPITAL, purpose_of_use="TREAT"),
        "limited": doctor(patient=PIOTR),
        "role": doctor(role="administrative-employee"),
        "own-purpose": doctor(purpose="PATRQT"),
    }
    assert {reason: ask(who, chosen).reason for reason, who in reasons.items()} == {r: r for r in reasons}
    assert ask(relative(ANNA, "TREAT"), chosen).reason == "own-purpose"
    assert ask(doctor(role="researcher"), chosen).reason == "role"
    assert ask(doctor(purpose="HRESCH", patient=PIOTR), chosen).reason == "purpose", "in order"


def test_a_break_glass_session_opens_everything_for_an_emergency() -> None:
    opened = anna(emergencies=(Emergency(DOCTOR, HOSPITAL, running),), consents=(consent(everything(False)),))
    said = ask(doctor(purpose="ETREAT"), opened)
    assert said.bases == ("author", "emergency")
    assert said.obligations == ("notify-patient", "report-to-officer", "show-basis")
    assert said.shown == NAMES
    assert ask(doctor(), opened).shown == frozenset(), "not for treatment"
    assert ask(doctor(OTHER_DOCTOR, purpose="ETREAT"), opened).shown == frozenset(), "not for another doctor"
    assert ask(doctor(purpose="ETREAT"), opened, emergency_opens_restricted=False).shown == frozenset()


def test_a_consent_opens_as_high_as_it_names() -> None:
    def shown(**what) -> frozenset[str] | None:
        return ask(doctor(at=CLINIC, role="nurse"), anna(consents=(consent(Provision(True, **what)),))).shown

    assert shown() == {"normal", "mine"}
    assert shown(actors=(CLINIC,)) == {"normal", "mine"}
    assert shown(actors=(DOCTOR,)) == {"normal", "restricted", "mine"}
    assert shown(condition=Condition(labels=("V", "R"))) == {"restricted", "very", "ours", "mine"}
    assert shown(condition=Condition(labels=("R",))) == {"restricted", "mine"}
    assert shown(condition=Condition(documents=("very",))) == {"very", "mine"}
    assert shown(purposes=("COC",)) == {"mine"}
    assert shown(roles=("nurse", "dentist")) == {"normal", "mine"}
    assert shown(actors=()) == {"mine"}
    assert shown(period=ended) == {"mine"}


def test_a_consent_ends_with_itself_or_its_provision() -> None:
    def until(consent_ends: datetime | None, provision_ends: datetime | None) -> datetime | None:
        given = consent(Provision(True, period=Period(None, provision_ends)), period=Period(NOW, consent_ends))
        return dict(ask(doctor(), anna(consents=(given,))).ends).get("consent")

    assert until(NOW + YEAR, NOW + 2 * YEAR) == NOW + YEAR
    assert until(NOW + 2 * YEAR, NOW + YEAR) == NOW + YEAR
    assert until(None, None) is None
    assert ask(doctor(), anna(consents=(consent(Provision(True), period=Period(NOW - YEAR, NOW)),))).bases == (
        "author",
    )


def test_the_last_provision_that_fits_decides_and_another_consent_that_denies_hides() -> None:
    open_all, closed = everything(True, actors=(DOCTOR,)), everything(False)
    note = Provision(False, condition=Condition(class_codes=("note",)))
    shelf = (*SHELF, paper("letter", "N", CLINIC, kind="letter"))

    def shown(*consents: Consent) -> frozenset[str] | None:
        return ask(doctor(), anna(consents=consents), shelf=shelf).shown

    assert shown(consent(open_all, note)) == {"letter"}
    assert shown(consent(closed, open_all)) == {"normal", "restricted", "letter"}, (
        "above its height it takes back nothing"
    )
    assert shown(consent(open_all), consent(note)) == {"letter"}
    assert shown(consent(open_all, closed, period=ended)) == {"mine"}


def test_a_period_of_creation_is_for_documents_that_say_when() -> None:
    shelf = tuple(
        DocumentFacts(entry_uuid=day, lineage=day, creation_time=day)
        for day in ("", "20251231235959", "20260101000000")
    )

    def shown(**period: str) -> frozenset[str] | None:
        given = consent(Provision(True, condition=Condition(**period)))
        return ask(doctor(), anna(consents=(given,)), shelf=shelf).shown

    assert shown(created_to="20260101000000") == {"20251231235959"}
    assert shown(created_from="20260101000000") == {"20260101000000"}
    assert shown() == {"", "20251231235959", "20260101000000"}


def test_a_restriction_hides_the_whole_lineage_and_a_named_document_opens_it() -> None:
    shelf = (
        paper("v1", "N", CLINIC, lineage="L"),
        paper("v2", "R", CLINIC, DOCTOR, lineage="L", kind="letter"),
        paper("w"),
    )
    hidden = anna(consents=(consent(everything(True), Provision(False, condition=Condition(class_codes=("note",)))),))
    assert ask(doctor(), hidden, shelf=shelf).shown == frozenset()
    opened = anna(consents=(consent(Provision(True, condition=Condition(documents=("v1",)))),))
    assert ask(doctor(NURSE, role="nurse"), opened, shelf=shelf).shown == {"v1", "v2"}


def test_a_restriction_may_spare_the_author() -> None:
    hidden = anna(consents=(consent(everything(False)),), encounters=(Encounter(HOSPITAL, running),))
    assert ask(doctor(), hidden).shown == frozenset()
    assert ask(doctor(), hidden, restriction_binds_author=False).shown == {"mine", "ours"}
    assert ask(doctor(at=CLINIC), hidden, restriction_binds_author=False).shown == {"mine"}
    both = (paper("a", "N", DOCTOR, lineage="L"), paper("b", "N", CLINIC, lineage="L"))
    assert ask(doctor(), hidden, shelf=both, restriction_binds_author=False).shown == frozenset()


def test_people_read_of_themselves_from_sixteen() -> None:
    def reason(born: date | None) -> str | None:
        return ask(relative(ANNA), anna(birth_date=born)).reason

    assert reason(date(2010, 3, 10)) is None
    assert reason(date(2010, 3, 11)) == "none"
    assert reason(None) is None
    said = ask(relative(ANNA), anna(consents=(consent(everything(False)),)))
    assert said == Answer(None, ("patient",), (), ("show-basis",), NAMES)
    assert ask(relative(PIOTR), anna()).reason == "none"


def test_a_guardian_reads_until_the_eighteenth_birthday() -> None:
    def said(born: date, period: Period = running) -> Answer:
        return ask(relative(PIOTR), anna(birth_date=born, representatives=(Representative(PIOTR, "guardian", period),)))

    child = said(date(2008, 5, 6))
    assert (child.ends, child.shown) == ((("guardian", datetime(2026, 5, 6, tzinfo=WARSAW)),), NAMES)
    assert said(date(2020, 5, 6)).ends == (("guardian", NOW + YEAR),)
    assert said(date(2008, 3, 10)).reason == "none"
    assert said(date(2008, 3, 11)).reason is None
    assert said(date(2020, 5, 6), ended).reason == "none"


def test_a_guardian_of_somebody_born_on_a_leap_day() -> None:
    child = anna(birth_date=date(2012, 2, 29), representatives=(Representative(PIOTR, "guardian"),))
    assert ask(relative(PIOTR), child).ends == (("guardian", datetime(2030, 3, 1, tzinfo=WARSAW)),)


def test_documentation_of_the_deceased() -> None:
    def said(kind: str, period: Period = ALWAYS, **more) -> Answer:
        dead = anna(died_on=date(2026, 1, 5), representatives=(Representative(PIOTR, kind, period),), **more)
        return ask(relative(PIOTR), dead)

    assert said("authorised").bases == ("authorised",)
    since = Period(datetime(2026, 1, 5, 23, tzinfo=WARSAW))
    assert said("authorised", since).ends == ()
    assert said("authorised", since).shown == NAMES
    assert said("authorised", Period(datetime(2026, 1, 6, tzinfo=WARSAW))).reason == "none"
    assert said("close").bases == ("close",)
    assert said("close", objection=True).reason == "none"
    assert said("authorised", objection=True).reason is None
    assert said("informed").reason == "none"
    alive = anna(representatives=(Representative(PIOTR, "close"),))
    assert ask(relative(PIOTR), alive).reason == "none"
    chosen = anna(died_on=date(2026, 1, 5), declarations=(Declaration(DOCTOR, "doctor", "", running),))
    assert ask(doctor(), chosen).bases == ("author",)


def test_a_hold_hides_from_the_patient_but_not_from_the_doctor() -> None:
    shelf = (paper("a", "N", CLINIC, lineage="L"), paper("b", "N", CLINIC, lineage="L"), paper("c"))
    held = anna(holds=(Hold("a", "danger", running),), declarations=(Declaration(DOCTOR, "doctor", "", running),))
    assert ask(relative(ANNA), held, shelf=shelf).shown == {"c"}
    assert ask(doctor(), held, shelf=shelf).shown == {"a", "b", "c"}
    assert ask(relative(ANNA), anna(holds=(Hold("a", "danger", ended),)), shelf=shelf).shown == {"a", "b", "c"}


def test_a_protected_person_is_open_to_those_who_are_named() -> None:
    def said(*provisions: Provision) -> Answer:
        facts = anna(protected=True, encounters=(Encounter(HOSPITAL, running),), consents=(consent(*provisions),))
        return ask(doctor(), facts)

    assert said(everything(True, actors=(HOSPITAL,))).bases == ("author",)
    assert said(everything(True, actors=(HOSPITAL, DOCTOR))).shown == {"normal", "restricted", "mine"}
    assert said(everything(False), everything(True, condition=Condition(labels=("V",)))).shown == {"mine"}
    named, unnamed = everything(True, actors=(DOCTOR,)), everything(True)
    assert said(named, unnamed).shown == {"normal", "restricted", "mine"}
    assert said(named, everything(False), unnamed).shown == frozenset(), "what is denied is not permitted again"
    mine = (paper("mine", "N", DOCTOR),)
    hidden = anna(protected=True, consents=(consent(everything(False)),))
    taken_back = anna(protected=True, consents=(consent(everything(False), unnamed),))
    assert ask(doctor(), hidden, shelf=mine).shown == frozenset()
    assert ask(doctor(), taken_back, shelf=mine).shown == {"mine"}
    assert said(named, everything(False)).shown == frozenset()


def test_research_needs_its_name() -> None:
    named = everything(True, actors=(DOCTOR,), purposes=("HRESCH",))
    assert ask(doctor(purpose="HRESCH"), anna(consents=(consent(named),))).bases == ("consent",)
    assert ask(doctor(purpose="HRESCH"), anna(consents=(consent(named),))).shown == {"normal", "restricted"}
    assert ask(doctor(), anna(consents=(consent(named),))).bases == ("author",)
    anybody = everything(True, purposes=("HRESCH",))
    assert ask(doctor(purpose="HRESCH"), anna(consents=(consent(anybody),))).shown == {"normal"}
    short = everything(True, actors=(DOCTOR,))
    assert ask(doctor(purpose="HRESCH"), anna(consents=(consent(short),))).reason == "purpose"


def test_notices_go_to_patients_who_asked_unless_they_read_themselves() -> None:
    assert ask(doctor(), anna(notices=True)).obligations == ("notify-patient", "show-basis")
    assert ask(relative(ANNA), anna(notices=True)).obligations == ("show-basis",)
    guarded = anna(birth_date=date(2015, 1, 1), notices=True, representatives=(Representative(EWA, "guardian"),))
    assert ask(relative(EWA), guarded).obligations == ("notify-patient", "show-basis")


@pytest.mark.parametrize(
    ("act", "expected"),
    {
        "identify": ("", "", "", "", "role", "none", "role", "role", "role", ""),
        "feed": ("", "", "", "", "role", "role", "role", "role", "role", "role"),
        "change": ("", "", "role", "role", "role", "role", "role", "role", "role", "role"),
        "consent": ("", "", "role", "", "role", "none", "role", "role", "role", "role"),
        "log": ("role", "role", "role", "role", "role", "none", "role", "role", "role", "role"),
        "handout": ("role", "role", "role", "role", "role", "role", "role", "role", "role", "none"),
        "emergency": ("role", "purpose", "role", "role", "role", "role", "role", "role", "role", "role"),
        "answer": ("role", "", "", "", "role", "role", "role", "role", "role", "role"),
        "operate": ("", "role", "role", "role", "role", "role", "role", "role", "role", "role"),
        "inspect": ("", "role", "role", "role", "role", "role", "", "", "role", "role"),
        "maintain": ("role", "role", "role", "role", "role", "role", "", "role", "role", "role"),
        "review": ("role", "role", "role", "role", "role", "role", "role", "", "role", "role"),
        "open": ("", "", "", "", "", "", "", "", "", ""),
    }.items(),
)
def test_what_needs_no_basis(act: str, expected: tuple[str, ...]) -> None:
    people = (
        Requester(system="s", proof="oauth"),
        doctor(),
        doctor(ASSISTANT, role="medical-assistant"),
        doctor(role="administrative-employee"),
        doctor(role="researcher"),
        relative(PIOTR),
        Requester(system="s", person=EWA, role="operator", proof="session"),
        Requester(system="s", person=EWA, role="privacy-officer", proof="session"),
        Requester(system="s", person=EWA, role="operator", proof="saml"),
        counter(""),
    )
    assert tuple(ask(who, anna(), act).reason or "" for who in people) == expected


def test_what_people_do_for_themselves_needs_a_basis() -> None:
    dead = anna(died_on=date(2026, 1, 5), representatives=(Representative(PIOTR, "close"),))
    assert ask(relative(PIOTR), dead, "identify") == Answer(None, ("close",), (), (), None)
    assert ask(relative(PIOTR), dead, "consent").reason == "none"
    assert ask(relative(ANNA), anna(holds=(Hold("mine", "", running),)), "consent").bases == ("patient",)
    assert ask(relative(ANNA, "TREAT"), anna(), "consent").reason == "own-purpose"
    assert ask(relative(ANNA), anna(), "log").bases == ("patient",)
    assert ask(relative(PIOTR), dead, "log").reason == "none"
    assert ask(doctor(patient=PIOTR), anna(), "consent").reason == "limited"
    assert ask(doctor(purpose="CLINTRCH"), anna(), "identify").reason == "purpose"


def counter(acting_for: str, **more: str) -> Requester:
    said = {"role": "patient-counter", "organisation": HOSPITAL, "proof": "session", "acting_for": acting_for, **more}
    return Requester(system="s", person=EWA, **said)


def test_who_stands_at_the_counter_gets_what_is_theirs() -> None:
    child = anna(birth_date=date(2014, 1, 5), representatives=(Representative(PIOTR, "guardian"),))
    assert ask(counter(ANNA), anna(), "handout") == Answer(None, ("patient",), (), (), None)
    assert ask(counter(ANNA, role="nurse"), anna(), "handout").bases == ("patient",)
    assert ask(counter(PIOTR), child, "handout").bases == ("guardian",)
    assert ask(counter(ANNA), child, "handout").reason == "none"  # under 16
    informed = anna(representatives=(Representative(PIOTR, "informed"), Representative(EWA, "close")))
    assert [ask(counter(who), informed, "handout").reason for who in (PIOTR, EWA, "")] == ["none"] * 3
    for refused in ({"proof": "saml"}, {"role": "administrative-employee"}, {"role": "medical-assistant"}):
        assert ask(counter(ANNA, **refused), anna(), "handout").reason == "role"
    assert ask(counter(ANNA, patient=PIOTR), anna(), "handout").reason == "limited"
    assert ask(counter(ANNA, organisation=""), anna(), "handout").reason == "none"
    assert ask(counter(ANNA, purpose_of_use="TREAT"), anna()).reason == "role"  # nothing is read


def test_who_may_break_the_glass() -> None:
    assert ask(doctor(purpose="BTG"), anna(), "emergency") == Answer(None, (), (), (), None)
    assert ask(doctor(purpose="BTG", at=""), anna(), "emergency").reason == "none"
    assert ask(doctor(purpose="BTG", patient=PIOTR), anna(), "emergency").reason == "limited"
    assert ask(doctor(purpose="HRESCH"), anna(), "emergency").reason == "purpose"
    assert ask(doctor(ASSISTANT, role="medical-assistant", purpose="BTG"), anna(), "emergency").reason == "role"


def test_change_is_for_what_the_own_organisation_wrote() -> None:
    assert ask(doctor(), anna(), "change").shown == {"mine", "ours"}
    assert ask(doctor(at=""), anna(), "change").reason == "none"
    scoped = Requester(system="s", person=EWA, role="operator", scopes=("system/*.read",))
    assert ask(Requester(system="s", proof="certificate"), anna(), "inspect").reason == "role"
    assert ask(Requester(system="s", proof="laboratory"), anna(), "inspect").reason is None
    for act in ("operate", "inspect", "maintain", "review"):
        assert ask(scoped, anna(), act).reason == "role"


def test_every_transaction_is_some_act() -> None:
    assert {t.permission for t in TRANSACTIONS} <= acts().keys()

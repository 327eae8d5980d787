"""Hypothesis strategies of worlds: whatever facts may say, drawn from pools so small that things meet."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta, timezone
from functools import cache
from zoneinfo import ZoneInfo

from hypothesis import strategies as st
from worlds import ASSISTANT, COLLEAGUE, ELSEWHERE, HERE, MEDICAL, PERSON, PROFESSIONAL, PURPOSES, ROLES, SOMEBODY, UNIT

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

PROFESSIONALS = (PROFESSIONAL, ASSISTANT, COLLEAGUE)
ORGANISATIONS = (HERE, ELSEWHERE, UNIT)
ACTORS = (*PROFESSIONALS, *ORGANISATIONS, PERSON)
NAMES = ("d0", "d1", "d2", "d3", "d4", "d5")
VISITS = ("2.999.4#a", "2.999.4#b")
LABELS = ("N", "R", "V", "L", "PSY")
DAYS = ("20250101000000", "20250630120000", "20260101000000", "20260228235959")

moments = st.sampled_from(
    [
        datetime(2026, 3, 10, 0, 30, tzinfo=ZoneInfo("Europe/Warsaw")),
        datetime(2026, 3, 9, 23, 30, tzinfo=UTC),
        datetime(2026, 3, 1, 0, 0, tzinfo=UTC),
        datetime(2026, 2, 28, 23, 59, 59, 999999, tzinfo=ZoneInfo("Europe/Warsaw")),
        datetime(2028, 2, 29, 12, 0, tzinfo=UTC),
        datetime(2026, 3, 29, 3, 0, tzinfo=ZoneInfo("Europe/Warsaw")),
        datetime(2026, 3, 10, 23, 0, tzinfo=timezone(timedelta(hours=-5))),
    ]
)


def _some(values, most: int = 3):
    return st.lists(st.sampled_from(values), max_size=most, unique=True).map(tuple)


def _asked(values):
    """What a provision may ask for: mostly nothing, sometimes a list, rarely an empty one."""
    return st.one_of(st.none(), st.none(), st.none(), _some(values))


def _births(today: date) -> list[date | None]:
    """Birthdays around the ages that matter."""
    near = [today + timedelta(days=n) for n in (-1, 0, 1)]
    ordinary = [date(d.year - years, d.month, min(d.day, 28)) for d in near for years in (0, 15, 16, 17, 18, 40)]
    return [None, date(2008, 2, 29), date(2012, 2, 29), date(1984, 2, 29), *ordinary]


@cache
def worlds(now: datetime):
    """Facts of a patient at a moment."""
    died = now - timedelta(days=5)
    midnights = [datetime(d.year, d.month, d.day, tzinfo=now.tzinfo) for d in (died, died + timedelta(days=1), now)]
    # Facts come with moments in UTC; only the present one is in a zone of its own.
    present = now.astimezone(UTC)
    near = [present + timedelta(microseconds=n) for n in (-1, 0, 1)]
    edges = [
        *near,
        *(m.astimezone(UTC) for m in (*midnights, died, now - timedelta(days=30), now + timedelta(days=30))),
    ]
    before, after = [e for e in edges if e <= now], [e for e in edges if e > now]
    current = st.builds(Period, st.sampled_from([None, *before]), st.sampled_from([None, *after]))
    anything = st.builds(Period, st.sampled_from([None, *edges]), st.sampled_from([None, *edges]))
    period = st.one_of(current, current, anything)

    condition = st.builds(
        Condition,
        documents=_asked((*NAMES, "absent")),
        class_codes=_asked(("A", "B")),
        type_codes=_asked(("t", "u")),
        practice_setting_codes=_asked(("s", "z")),
        labels=_asked(LABELS),
        authors=_asked((*PROFESSIONALS, *ORGANISATIONS)),
        encounters=_asked(VISITS),
        created_from=st.sampled_from([None, None, None, *DAYS]),
        created_to=st.sampled_from([None, None, None, *DAYS]),
    )
    provision = st.builds(
        Provision,
        permit=st.booleans(),
        actors=_asked(ACTORS),
        roles=_asked((*MEDICAL[:4], "medical-assistant", "patient")),
        purposes=_asked(("TREAT", "COC", "ETREAT", "PATRQT", "HRESCH", "HPAYMT", "")),
        period=st.one_of(st.just(Period()), period),
        condition=st.one_of(st.just(Condition()), condition),
    )

    def several(item, most: int = 2):
        return st.lists(item, max_size=most).map(tuple)

    return st.builds(
        Facts,
        identifiers=st.sampled_from([(SOMEBODY,), (SOMEBODY, PERSON), (PERSON,)]),
        birth_date=st.sampled_from(_births(now.date())),
        died_on=st.sampled_from([None, None, None, now.date(), died.date(), now.date() + timedelta(days=1)]),
        protected=st.sampled_from([False, False, True]),
        objection=st.booleans(),
        notices=st.booleans(),
        declarations=several(
            st.builds(
                Declaration,
                professional=st.sampled_from(PROFESSIONALS),
                kind=st.sampled_from(["doctor", "nurse", "midwife"]),
                organisation=st.sampled_from(["", HERE, ELSEWHERE]),
                period=period,
            )
        ),
        encounters=several(st.builds(Encounter, st.sampled_from([HERE, ELSEWHERE, UNIT, ""]), period)),
        representatives=several(
            st.builds(
                Representative,
                st.sampled_from([PERSON, PERSON, COLLEAGUE]),
                st.sampled_from(["guardian", "authorised", "informed", "close"]),
                period,
            )
        ),
        consents=several(st.builds(Consent, id=st.just("c"), period=period, provisions=several(provision, 4)), 3),
        emergencies=several(
            st.builds(Emergency, st.sampled_from(PROFESSIONALS), st.sampled_from([HERE, ELSEWHERE]), period)
        ),
        holds=several(st.builds(Hold, st.sampled_from([*NAMES, "absent"]), st.just("danger"), period)),
    )


def _shelves():
    facts = st.builds(
        DocumentFacts,
        entry_uuid=st.just(""),
        lineage=st.sampled_from(["k", "l", "m", ""]),
        class_code=st.sampled_from(["A", "B"]),
        type_code=st.sampled_from(["t", "u"]),
        practice_setting_code=st.sampled_from(["s", "z", ""]),
        labels=_some(LABELS, 2),
        authors=_some((*PROFESSIONALS, *ORGANISATIONS), 2),
        encounters=_some(VISITS, 1),
        creation_time=st.sampled_from([*DAYS, ""]),
    )

    def named(documents: list[DocumentFacts]) -> tuple[DocumentFacts, ...]:
        fields = DocumentFacts.__struct_fields__
        said = ({name: getattr(d, name) for name in fields} for d in documents)
        return tuple(DocumentFacts(**{**d, "entry_uuid": name}) for name, d in zip(NAMES, said, strict=False))

    return st.lists(facts, min_size=1, max_size=len(NAMES)).map(named)


shelves = _shelves()  # documents of a patient, some of one lineage


def _requester(role: str, proper: bool, **said) -> Requester:
    """Somebody who asks, mostly for what the role may ask for, so that they get somewhere."""
    own = role == "patient"
    purposes = ("PATRQT", "", "FAMRQT", "PATRQT") if own else ("TREAT", "ETREAT", "", "HRESCH")
    people = (PERSON, COLLEAGUE, PERSON) if own else ("",) * 3 if role == "" else PROFESSIONALS
    purpose = purposes[said.pop("proper_purpose")] if proper else said.pop("any_purpose")
    said = {k: v for k, v in said.items() if not k.endswith("_purpose")}
    role = "medical-assistant" if role == "assistant of nobody" else role
    return Requester(system="s", role=role, person=people[said.pop("which")], purpose_of_use=purpose, **said)


requesters = st.builds(
    _requester,
    role=st.sampled_from([*ROLES, *("medical-doctor", "nurse", "medical-assistant", "patient-counter", "patient") * 3]),
    proper=st.sampled_from([True, True, True, False]),
    proper_purpose=st.integers(0, 3),
    any_purpose=st.sampled_from(PURPOSES),
    which=st.integers(0, 2),
    acting_for=st.sampled_from(["", *PROFESSIONALS, PERSON]),  # also of those for whom nothing asks for it
    organisation=st.sampled_from(["", HERE, HERE, ELSEWHERE]),
    child_organisation=st.sampled_from(["", UNIT]),
    patient=st.sampled_from(["", "", "", "", SOMEBODY, PERSON]),
    scopes=st.sampled_from([None, ()]),
    proof=st.sampled_from(["saml", "session", "oauth", "certificate"]),
)

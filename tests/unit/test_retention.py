"""How long documents are kept, and that nothing goes early in forty years of a patient's life."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from obieg.codes.load import toml
from obieg.domain.affinity_domain import polish
from obieg.domain.documents import Author, DocumentEntry
from obieg.domain.retention import (
    CLASSES,
    MARKS,
    KeptDocument,
    KeptPatient,
    Mark,
    RemovedEntry,
    Said,
    keepers,
    remaining,
    term,
    written_on,
)

ENTITY, UNIT, CELL = (f"2.16.840.1.113883.3.4424.2.3.{n}" for n in (1, 2, 3))
A, B = f"{ENTITY}#000000012345", f"{ENTITY}#000000054321"
REFERRAL = "02.10^^Klasyfikacja dokumentów P1"
ADULT = date(1970, 5, 17)


def document(created: str = "20050310120000", **more: object) -> KeptDocument:
    given = {"registered_at": datetime(2026, 1, 1, tzinfo=UTC), "authors": (A,), **more}
    return KeptDocument("urn:uuid:1", "1.2.3", creation_time=created, **given)  # type: ignore[arg-type]


def until(of: KeptDocument, *said: Said, born: date | None = ADULT, **more: object) -> tuple[str, date | None]:
    found = term(of, KeptPatient((of,), birth_date=born, said=said, **more))  # type: ignore[arg-type]
    return found.class_, found.until


def test_the_table_has_the_periods_of_the_act_and_a_meaning_for_each_mark() -> None:
    assert {n: c["years"] for n, c in CLASSES.items()} == {
        "general": 20,
        "injury": 30,
        "blood": 30,
        "image": 10,
        "order_served": 5,
        "order_unserved": 2,
        "child": 22,
    }
    assert set(MARKS) == {m.value for m in Mark}
    assert all(c["standing"].startswith("official") for c in CLASSES.values())
    settings_ = toml("national/pl/pik.toml")["systems"]
    assert toml("national/pl/retention.toml")["documents"]["blood"]["codes"] == [
        f"0760^^{settings_['physician_specialty']}"
    ]


def test_the_codes_of_the_table_are_those_that_the_registry_takes() -> None:
    """As it keeps them: code^^codingScheme. Others would claim a class for documents that nobody can register."""
    table, domain = toml("national/pl/retention.toml")["documents"], polish()
    kept = ("class_code", "type_code", "practice_setting_code")
    for code, _, scheme in (value.partition("^^") for of in table.values() for value in of.get("codes", ())):
        assert any(domain.accepts(attribute, code, scheme) for attribute in kept), (code, scheme)
    assert domain.mime_types & {*table["images"]["mime_types"]}


@pytest.mark.parametrize(
    ("of", "said", "more", "expected"),
    [
        (document(), (), {}, ("general", date(2025, 12, 31))),
        (document(), (), {"born": None}, ("child", date(2027, 12, 31))),
        (document(), (), {"born": date(2003, 3, 11)}, ("child", date(2027, 12, 31))),
        (document(), (), {"born": date(2003, 3, 10)}, ("general", date(2025, 12, 31))),
        (document("20060228"), (), {"born": date(2004, 2, 29)}, ("child", date(2028, 12, 31))),
        (document("20060301"), (), {"born": date(2004, 2, 29)}, ("general", date(2026, 12, 31))),
        (document("2005"), (), {"born": date(2003, 6, 1)}, ("child", date(2027, 12, 31))),
        (document(), (Said(Mark.BLOOD, "1.2.3"),), {}, ("blood", date(2035, 12, 31))),
        (document(codes=("0760^^2.16.840.1.113883.3.4424.11.3.3",)), (), {}, ("blood", date(2035, 12, 31))),
        (document(), (Said(Mark.BLOOD, "another"),), {}, ("general", date(2025, 12, 31))),
        (document(), (), {"deceased": True, "died_on": date(2007, 1, 1)}, ("injury", date(2037, 12, 31))),
        (
            document(),
            (Said(Mark.NO_INJURY),),
            {"deceased": True, "died_on": date(2007, 1, 1)},
            ("general", date(2025, 12, 31)),
        ),
        (document(), (Said(Mark.INJURY),), {}, ("injury", None)),
        (document(), (Said(Mark.IMAGE),), {}, ("general", date(2025, 12, 31))),
        (document(mime_type="application/dicom"), (Said(Mark.IMAGE),), {}, ("image", date(2015, 12, 31))),
        (document(mime_type="application/dicom"), (), {}, ("general", date(2025, 12, 31))),
        (document(codes=(REFERRAL,)), (), {}, ("general", date(2025, 12, 31))),
        (document(codes=(REFERRAL,)), (Said(Mark.UNSERVED),), {}, ("order_unserved", date(2007, 12, 31))),
        (
            document(codes=(REFERRAL,)),
            (Said(Mark.UNSERVED), Said(Mark.SERVED, day=date(2006, 5, 1))),
            {},
            ("order_served", date(2011, 12, 31)),
        ),
        (document(codes=(REFERRAL,)), (Said(Mark.SERVED),), {}, ("general", date(2025, 12, 31))),
        (
            document(codes=(REFERRAL,)),
            (Said(Mark.SERVED, day=date(2006, 5, 1)), Said(Mark.BLOOD)),
            {},
            ("blood", date(2035, 12, 31)),
        ),
        (document(), (Said(Mark.SERVED, day=date(2006, 5, 1)),), {}, ("general", date(2025, 12, 31))),
    ],
)
def test_a_class_and_its_end(
    of: KeptDocument, said: tuple[Said, ...], more: dict[str, object], expected: tuple[str, date | None]
) -> None:
    assert until(of, *said, **more) == expected  # type: ignore[arg-type]


def test_the_year_is_that_of_poland() -> None:
    assert written_on(document("20051231225959")) == date(2005, 12, 31)
    assert written_on(document("20051231230000")) == date(2006, 1, 1)
    assert written_on(document("200506")) == date(2005, 6, 30)
    assert written_on(document("200512")) == date(2005, 12, 31)
    assert written_on(document("20051231")) == date(2005, 12, 31)
    assert written_on(document("2005123122")) == date(2005, 12, 31)
    assert written_on(document("yesterday")) == date(2026, 1, 1)
    assert written_on(document("20050230")) == date(2026, 1, 1)
    assert written_on(document("", registered_at=datetime(2019, 12, 31, 23, 30, tzinfo=UTC))) == date(2020, 1, 1)
    assert written_on(document("2005", service_stop_time="20060101")) == date(2006, 1, 1)


def test_an_entity_is_its_units_and_cells() -> None:
    assert keepers((f"{UNIT}#000000012345-001", f"{CELL}#000000012345-007", "1.2#x")) == {A}
    assert keepers(("2.16.840.1.113883.3.4424.2.2.2#12345678512347",)) == {"2.16.840.1.113883.3.4424.2.2.1#123456785"}


@pytest.mark.parametrize(
    ("authors", "year"),
    [((A,), 2010), ((f"{CELL}#000000012345-9",), 2010), ((B,), 2005), ((), 2010), (("1.2#x",), 2010)],
)
def test_the_last_entry_is_that_of_the_entity(authors: tuple[str, ...], year: int) -> None:
    first, later = document(), document("2010", authors=authors)
    found = term(first, KeptPatient((first, later), birth_date=ADULT))
    assert found.until == date(year + 20, 12, 31)
    if authors and authors[0] == B:
        assert term(document(authors=()), KeptPatient((first, later), birth_date=ADULT)).until == date(2030, 12, 31)


def test_what_was_the_last_entry_stays_it_when_it_is_removed() -> None:
    entry = DocumentEntry("urn:uuid:2", author=(_written_by(f"{CELL}#000000012345-9", B),), creation_time="2010")
    assert list(remaining(entry)) == [(A, 2010), (B, 2010)]
    assert list(remaining(DocumentEntry("urn:uuid:3", service_stop_time="20101231230000"))) == [("", 2011)]
    assert list(remaining(DocumentEntry("urn:uuid:3"))) == [("", 0)]
    nobodys = document(authors=())
    for entity, year in ((A, 2010), ("", 2010), (f"{ENTITY}#7", 2005)):
        known = KeptPatient((document(),), removed=(RemovedEntry(entity, 2010),), birth_date=ADULT)
        assert term(document(), known).until == date(year + 20, 12, 31)
        assert term(nobodys, known).until == date(2030, 12, 31)


def test_it_may_go_on_the_day_after_and_not_while_it_is_held() -> None:
    of = document()
    found = term(of, KeptPatient((of,), birth_date=ADULT))
    assert not found.may_go(date(2025, 12, 31))
    assert found.may_go(date(2026, 1, 1))
    assert found.why == "20 years from the end of the year of the last entry in 2005 (art. 29 ust. 1)"
    for held in (
        Said(Mark.HOLD, reason="lawsuit", by="officer"),
        Said(Mark.HOLD, "1.2.3", reason="lawsuit", by="officer"),
    ):
        found = term(of, KeptPatient((of,), birth_date=ADULT, said=(held,)))
        assert found.holds == ("lawsuit (officer)",)
        assert not found.may_go(date(2100, 1, 1))
    assert not term(of, KeptPatient((of,), birth_date=ADULT, said=(Said(Mark.HOLD, "other"),))).holds
    assert not term(of, KeptPatient((of,), birth_date=ADULT, said=(Said(Mark.INJURY),))).may_go(date(2100, 1, 1))


# forty years ---------------------------------------------------------------------------------------------------------

START = date(2000, 1, 1)
_DAYS = st.integers(0, 40 * 365)
_KINDS = st.sampled_from(["note", "referral", "xray", "blood"])


@st.composite
def lives(draw: st.DrawFn) -> dict[str, object]:
    """What happens to a patient, by day; what is true, and what is said of it and when."""
    documents = [
        {
            "day": draw(_DAYS),
            "kind": draw(_KINDS),
            "by": draw(st.sampled_from(["A", "A2", "B", ""])),
            "served_after": draw(st.none() | st.integers(0, 900)),
        }
        for _ in range(draw(st.integers(1, 6)))
    ]
    return {
        "born": START - timedelta(days=draw(st.integers(-500, 20000))),
        "documents": documents,
        "died": draw(st.none() | _DAYS),
        "injury": draw(st.booleans()),
        "told_cause": draw(st.booleans()),
        "hold": draw(st.none() | st.tuples(_DAYS, st.integers(1, 4000))),
    }


def _years(life: dict, made: dict, all_of: list[dict], today: int) -> int:  # type: ignore[type-arg]
    """The oracle: the first year in which the truth, known to nobody here, lets a document go; 9999: never."""
    on = lambda n: START + timedelta(days=n)  # noqa: E731
    mine = {"A2": "A"}.get(made["by"], made["by"])
    theirs = [d for d in all_of if not mine or not d["by"] or {"A2": "A"}.get(d["by"], d["by"]) == mine]
    last = max(on(d["day"]).year for d in theirs)
    terms = []
    if made["kind"] == "blood":
        terms.append(last + 30)
    second = life["born"] + timedelta(days=730)
    if on(made["day"]) < second:
        terms.append(last + 22)
    if life["died"] is not None and life["died"] <= today and life["injury"]:
        terms.append(on(life["died"]).year + 30)
    if terms:
        return max(*terms, last + 20)
    own = on(made["day"]).year
    if made["kind"] == "xray":
        return own + 10
    if made["kind"] == "referral":
        if made["served_after"] is None:
            return own + 2
        return on(made["day"] + made["served_after"]).year + 5
    return last + 20


def _written_by(*organisations: str) -> Author:
    """As XON has them: name, …, authority, …, identifier."""
    return Author(
        institution=tuple(f"Szpital^^^^^&{o.partition('#')[0]}&ISO^^^^{o.partition('#')[2]}" for o in organisations)
    )


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(lives())
def test_nothing_goes_early_in_forty_years(life: dict) -> None:  # type: ignore[type-arg]
    authors = {"A": (A,), "A2": (f"{UNIT}#000000012345-002",), "B": (B,), "": ()}
    standing = dict(enumerate(life["documents"]))
    removed: list[RemovedEntry] = []
    for year in range(2000, 2041):
        for today in (date(year, 1, 1), date(year, 12, 31)):
            number = (today - START).days
            there = {n: d for n, d in standing.items() if d["day"] <= number}
            said = []
            kept = {}
            for n, d in there.items():
                on = START + timedelta(days=d["day"])
                kept[n] = KeptDocument(
                    f"u{n}",
                    str(n),
                    datetime(on.year, on.month, on.day, 12, tzinfo=UTC),
                    creation_time=f"{on:%Y%m%d}120000",
                    codes=(REFERRAL,) if d["kind"] == "referral" else (),
                    mime_type="application/dicom" if d["kind"] == "xray" else "",
                    authors=authors[d["by"]],
                )
                if d["kind"] == "blood":
                    said.append(Said(Mark.BLOOD, str(n)))
                if d["kind"] == "xray":
                    said.append(Said(Mark.IMAGE, str(n)))
                if d["kind"] == "referral":
                    if d["served_after"] is None:
                        said.append(Said(Mark.UNSERVED, str(n)))
                    elif d["day"] + d["served_after"] <= number:
                        said.append(Said(Mark.SERVED, str(n), START + timedelta(days=d["day"] + d["served_after"])))
            dead = life["died"] is not None and life["died"] <= number
            if dead and life["told_cause"]:
                said.append(Said(Mark.INJURY if life["injury"] else Mark.NO_INJURY))
            held = life["hold"] is not None and life["hold"][0] <= number < sum(life["hold"])
            if held:
                said.append(Said(Mark.HOLD, reason="lawsuit", by="court"))
            patient = KeptPatient(
                tuple(kept.values()),
                birth_date=life["born"],
                died_on=START + timedelta(days=life["died"]) if dead else None,
                deceased=dead,
                said=tuple(said),
            )
            # Shorter classes first, one after another: what goes must not let others go.
            ever = [d for d in life["documents"] if d["day"] <= number]
            for n, one in sorted(kept.items(), key=lambda item: term(item[1], patient).years):
                left = tuple(kept[m] for m in kept if m in standing)
                now = msgspec.structs.replace(patient, documents=left, removed=tuple(removed))
                if term(one, now).may_go(today):
                    assert not held
                    assert today.year > _years(life, there[n], ever, number), (life, there[n], term(one, now))
                    entry = DocumentEntry(
                        one.entry_uuid, author=(_written_by(*one.authors),), creation_time=one.creation_time
                    )
                    removed += [RemovedEntry(entity, year) for entity, year in remaining(entry)]
                    del standing[n]

"""On which bases something is shown, as answers and records say it."""

from __future__ import annotations

from datetime import UTC, datetime
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from obieg.domain import grounds
from obieg.domain.access import BASES, Permit

SOON, LATER = datetime(2026, 11, 23, 13, tzinfo=UTC), datetime(2027, 1, 1, tzinfo=UTC)


@pytest.mark.parametrize(
    ("permits", "said"),
    [
        ([], ""),
        ([Permit(())], ""),
        ([Permit(("poz",))], "poz"),
        ([Permit(("author", "poz"), (("poz", LATER),))], "author,poz; until=2027-01-01T00:00:00Z"),
        # One that does not end hides no end of another.
        ([Permit(("poz", "emergency"), (("emergency", SOON),))], "poz,emergency; until=2026-11-23T13:00:00Z"),
        (
            [Permit(("poz", "emergency"), (("poz", LATER), ("emergency", SOON)))],
            "poz; until=2027-01-01T00:00:00Z,emergency; until=2026-11-23T13:00:00Z",
        ),
        # Of several patients: the latest, in the order of the table.
        ([Permit(("poz",), (("poz", LATER),)), Permit(("author", "poz"), (("poz", SOON),))],
         "author,poz; until=2027-01-01T00:00:00Z"),
        ([Permit(("poz",)), Permit(("poz",), (("poz", SOON),))], "poz"),
        ([Permit(("poz",), (("poz", SOON),)), Permit(("poz",))], "poz"),
        ([Permit(("poz",), (("poz", SOON.astimezone(ZoneInfo("Europe/Warsaw"))),))], "poz; until=2026-11-23T13:00:00Z"),
    ],
)  # fmt: skip
def test_writing(permits: list[Permit], said: str) -> None:
    assert grounds.write(permits) == said


@pytest.mark.parametrize(
    "said", ["", "Poz", "poz,", "poz; until=", "poz;until=2027", "poz until", "poz, author", "poz; until=99"]
)
def test_another_form_names_no_basis(said: str) -> None:
    assert grounds.read(said) == {}


@given(st.dictionaries(st.sampled_from(sorted(BASES)), st.none() | st.datetimes(timezones=st.just(UTC)), min_size=1))
def test_what_is_written_is_read(held: dict[str, datetime | None]) -> None:
    known = {basis: held[basis] for basis in BASES if basis in held}
    ends = tuple((basis, end.replace(microsecond=0)) for basis, end in known.items() if end is not None)
    found = grounds.read(grounds.write([Permit(tuple(known), ends)]))
    assert [*found] == [*known]
    assert {basis: end for basis, end in found.items() if end is not None} == dict(ends)

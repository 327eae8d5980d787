"""On which bases, and until when each of them holds, something is shown: as answers and their records say it.

``author,poz; until=2027-01-01T00:00:00Z``: the bases in the order of ``codes/access.toml``, each with its end, where it
has one (docs/access.md, Answers).
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime

from obieg.domain.access import BASES, Permit, latest

SYSTEM = "urn:obieg:access-basis"  # of the keys of bases, in FHIR
_UNTIL = "; until="
_FORM = re.compile(r"[a-z-]+(?:; until=[0-9TZ:.+-]+)?(?:,[a-z-]+(?:; until=[0-9TZ:.+-]+)?)*")
_RECORDED = re.compile(r"(?:^|; )access: ")  # before them in a record's detail


def write(permits: Iterable[Permit]) -> str:
    """The bases of all; of one that holds for several patients the latest end; "" for none."""
    ends: dict[str, list[datetime | None]] = {}
    for permit in permits:
        own = dict(permit.ends)
        for basis in permit.bases:
            ends.setdefault(basis, []).append(own.get(basis))
    return _together(ends)


def join(texts: Iterable[str]) -> str:
    """The same of what was written of several."""
    ends: dict[str, list[datetime | None]] = {}
    for text in texts:
        for basis, end in read(text).items():
            ends.setdefault(basis, []).append(end)
    return _together(ends)


def read(text: str) -> Mapping[str, datetime | None]:
    """The bases in their order, each with its end; none in a text of another form."""
    return _read(text) if _FORM.fullmatch(text) else {}


def recorded(detail: str) -> Mapping[str, datetime | None]:
    """The same of the detail of an audit record, which says more besides."""
    said = _RECORDED.search(detail)
    found = _FORM.match(detail, said.end()) if said else None
    return _read(found[0]) if found else {}


def _read(text: str) -> Mapping[str, datetime | None]:
    pairs = (each.partition(_UNTIL) for each in text.split(","))
    try:
        return {basis: datetime.fromisoformat(end) if end else None for basis, _, end in pairs}
    except ValueError:  # a record of another node may say anything
        return {}


def _together(ends: Mapping[str, Sequence[datetime | None]]) -> str:
    return ",".join([f"{basis}{_written(latest(ends[basis]))}" for basis in BASES if basis in ends])


def _written(end: datetime | None) -> str:
    if end is None:
        return ""
    return f"{_UNTIL}{end.astimezone(UTC).isoformat(timespec='seconds').removesuffix('+00:00')}Z"

"""The directory of care services: who gives care, where, and by which identifiers they are known (IHE mCSD).

A resource of the directory is kept whole; each change makes a version, and versions are numbered in the order in which
they were stored. What a search looks at are *terms* of a version: texts that say one thing of it each.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from typing import Protocol

from stdnum.pl import nip, regon

from obieg.codes.load import toml
from obieg.domain.audit import AuditEvent
from obieg.domain.documents import Value

FOREVER = "infinity"  # of times, as PostgreSQL and nobody else writes it
BEGINNING = "-infinity"
_SEPARATORS = re.compile(r"[\s.-]+")
_NPWZ = toml("national/pl/pik.toml")["npwz"]
_BOOK = re.compile(r"\d{1,12}\Z", re.ASCII)
_PART = re.compile(r"\d{1,12}-\d{2,3}\Z", re.ASCII)
_PARENT_REGON_DIGITS = 9


# identifiers -----------------------------------------------------------------------------------------------------


def identifier(kind: str, value: str) -> tuple[str, str]:
    """The identifier in the form in which it is kept, and why it is none; one of the two is empty.

    ``kind`` is a name in ``[roots]`` of ``codes/national/pl/pik.toml`` or ``nip``; others are kept as they are.
    """
    text = _SEPARATORS.sub("", value).upper() if kind not in ("unit", "cell") else value.strip()
    check = _CHECKS.get(kind)
    if check is None:
        return value, ""
    said = check(text)
    return ("", said) if said else (_kept(kind, text), "")


def _kept(kind: str, text: str) -> str:
    """The number of the register book is written with all its zeros."""
    if kind not in ("entity", "unit", "cell"):
        return text
    book, dash, part = text.partition("-")
    return f"{book.zfill(12)}{dash}{part}"


def _regon9(text: str) -> str:
    return _form(text, _PARENT_REGON_DIGITS) or ("" if regon.is_valid(text) else "the control digit is wrong")


def _regon14(text: str) -> str:
    if said := _form(text, 14):
        return said
    if not regon.is_valid(text[:_PARENT_REGON_DIGITS]):
        return "the control digit of its first nine digits is wrong"
    return "" if regon.is_valid(text) else "the control digit is wrong"


def _nip(text: str) -> str:
    return _form(text.removeprefix("PL"), 10) or ("" if nip.is_valid(text) else "the control digit is wrong")


def _form(text: str, digits: int) -> str:
    return "" if text.isascii() and text.isdigit() and len(text) == digits else f"{digits} digits are expected"


def _physician(text: str) -> str:
    """The first digit controls the others: the sum of each times its place, modulo eleven."""
    if said := _LICENCES["physician"](text):
        return said
    total = sum(place * int(digit) for place, digit in enumerate(text[1:], 1))
    return "" if total % 11 == int(text[0]) else "the control digit, the first one, is wrong"


def _matching(pattern: re.Pattern[str], expected: str) -> Callable[[str], str]:
    return lambda text: "" if pattern.match(text) else expected


_LICENCES = {
    who: _matching(re.compile(rf"(?:{row['pattern']})\Z", re.ASCII), row["expected"]) for who, row in _NPWZ.items()
}

_CHECKS: Mapping[str, Callable[[str], str]] = {
    "regon9": _regon9,
    "regon14": _regon14,
    "nip": _nip,
    **{f"npwz_{who}": check for who, check in _LICENCES.items()},
    "npwz_physician": _physician,
    "entity": _matching(_BOOK, "the number of the register book is expected, at most 12 digits"),
    "unit": _matching(_PART, "the number of the register book, a dash and part V (2 or 3 digits) are expected"),
    "cell": _matching(_PART, "the number of the register book, a dash and part VII (2 or 3 digits) are expected"),
}


# versions --------------------------------------------------------------------------------------------------------


class Index(Value, frozen=True):
    """What a version can be found and sorted by."""

    terms: tuple[str, ...] = ()
    texts: tuple[str, ...] = ()  # folded, each behind the name of its parameter: for what stands within a text
    sort_key: bytes = b""
    part_of: str = ""  # logical id of the resource of the same type that it is part of
    valid_from: str = BEGINNING  # its period
    valid_until: str = FOREVER
    position: tuple[float, float] | None = None  # latitude, longitude in degrees


class Draft(Value, frozen=True):
    """A version to be stored."""

    kind: str  # resource type
    id: str
    content: str  # the resource as JSON without versionId and lastUpdated; that of the last version for a deletion
    digest: bytes  # of the content: two drafts with one digest say the same
    index: Index
    before: int = 0  # the version that it follows; 0 for the first
    deleted: bool = False
    source: str = ""  # who says so


class Version(Value, frozen=True):
    """One version of one resource."""

    change: int  # number of the change, rising in the order in which changes were stored
    kind: str
    id: str
    version: int
    updated_at: datetime
    content: str
    deleted: bool = False


class Standing(Value, frozen=True):
    """The newest version of a resource, for whoever wants to change it."""

    version: int
    digest: bytes
    deleted: bool
    source: str


# questions -------------------------------------------------------------------------------------------------------


class Term(Value, frozen=True):
    """A term that a version must have, or one that begins so."""

    text: str
    prefix: bool = False


class Clause(Value, frozen=True):
    """One of the terms must stand there; none of them where it is ``negated``."""

    any_of: tuple[Term, ...]
    negated: bool = False


class Through(Value, frozen=True):
    """A condition on what ``parameter`` refers to: it fits ``lookup``, or is kin of ``ids`` in a hierarchy."""

    parameter: str
    kind: str  # of what is referred to
    lookup: Lookup | None = None
    ids: tuple[str, ...] = ()
    above: bool = False  # the ids or what they are part of; else the ids or their parts


class Near(Value, frozen=True):
    """Within a distance."""

    latitude: float
    longitude: float
    kilometres: float


class Lookup(Value, frozen=True):
    """Which resources of a type are wanted; all conditions must hold. Times are texts that PostgreSQL reads."""

    kind: str
    clauses: tuple[Clause, ...] = ()
    patterns: tuple[str, ...] = ()  # regular expressions over the texts of the index
    through: tuple[Through, ...] = ()
    updated_from: str = BEGINNING
    updated_before: str = FOREVER
    starts: tuple[str, str] = (BEGINNING, FOREVER)  # least and greatest beginning of its period
    ends: tuple[str, str] = (BEGINNING, FOREVER)
    near: Near | None = None


class Inclusion(Value, frozen=True):
    """An ``_include`` or, ``reverse``, a ``_revinclude``."""

    kind: str  # whose parameter it is
    parameter: str
    target: str  # type that the parameter refers to
    reverse: bool = False
    iterate: bool = False


class DirectoryQuery(Value, frozen=True):
    """ITI-90."""

    lookup: Lookup
    count: int
    sort: str = "_id"
    descending: bool = False
    inclusions: tuple[Inclusion, ...] = ()
    bound: int | None = None  # the directory as it was after this change; None: as it is now
    offset: int = 0  # resources that earlier pages had
    text: bytes = b""  # as asked, for the audit


class DirectoryPage(Value, frozen=True):
    """One page of what was found."""

    found: tuple[Version, ...]
    included: tuple[Version, ...]
    total: int
    bound: int
    offset: int  # of the next page; 0: this is the last one


class HistoryQuery(Value, frozen=True):
    """ITI-91; without a type all of the directory, without an id all of the type."""

    kinds: tuple[str, ...]
    count: int
    id: str = ""
    since: str = BEGINNING
    bound: int | None = None
    before: int | None = None  # the last change that earlier pages had
    text: bytes = b""


class HistoryPage(Value, frozen=True):
    """One page of a history, newest first."""

    versions: tuple[Version, ...]
    total: int
    bound: int
    before: int  # for the next page; 0: this is the last one
    as_of: datetime  # every change that is stored later is later than this


class DirectoryStore(Protocol):
    """Where the directory is kept."""

    async def read(self, kind: str, id_: str, version: int | None, event: AuditEvent) -> Version | None:
        """A version, the newest for None."""

    async def find(
        self, query: DirectoryQuery, limit: int, event: AuditEvent | None
    ) -> tuple[Sequence[Version], int, int]:
        """Versions, total and bound; ``Through`` conditions are no longer in it."""

    async def bound(self) -> int:
        """The newest change."""

    async def ids(self, lookup: Lookup, bound: int, limit: int) -> Sequence[str]:
        """Logical ids, at most ``limit``."""

    async def kin(self, kind: str, ids: Sequence[str], bound: int, limit: int, *, above: bool) -> Sequence[str]:
        """The ids and all that they are part of (``above``), or all their parts."""

    async def named(self, names: Sequence[tuple[str, str]], bound: int) -> Sequence[Version]:
        """The versions of types and ids that stood there then; deleted ones are left out."""

    async def history(
        self, query: HistoryQuery, limit: int, event: AuditEvent
    ) -> tuple[Sequence[Version], HistoryPage]:
        """Versions, one more than is asked for where there are more, and the page without them."""

    async def standing(self, names: Sequence[tuple[str, str]]) -> Mapping[tuple[str, str], Standing]:
        """The newest versions."""

    async def store(self, drafts: Sequence[Draft], event: AuditEvent) -> None:
        """Stores all or nothing. Raises :class:`obieg.domain.registry.LostRace` where one follows no newest version."""

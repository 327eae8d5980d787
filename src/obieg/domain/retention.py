"""For how long a document must be kept: the classes of ``codes/national/pl/retention.toml`` as rules over facts.

A period runs from the end of the calendar year, in Poland, of the event that its class names. What is not known never
makes a period shorter: whose birth is unknown may have been a child, who died of an unknown cause may have died by
injury, and a document without a date was written when it was registered.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, date, datetime
from enum import StrEnum
from typing import NamedTuple, Protocol
from zoneinfo import ZoneInfo

from obieg.codes.load import toml
from obieg.domain.document_facts import authors
from obieg.domain.documents import DocumentEntry, Value

_TABLE = toml("national/pl/retention.toml")
CLASSES = _TABLE["classes"]
MARKS: dict[str, str] = _TABLE["marks"]
_AGE = int(_TABLE["child"]["age_years"])
_DOCUMENTS = _TABLE["documents"]
_ORDERS = frozenset(_DOCUMENTS["orders"]["codes"])
_IMAGES = frozenset(_DOCUMENTS["images"]["mime_types"])
_BLOOD = frozenset(_DOCUMENTS["blood"]["codes"])
_KEEPER = _TABLE["keeper"]
_ZONE = ZoneInfo(toml("national/pl/pik.toml")["defaults"]["time_zone"])


class Mark(StrEnum):
    """What people say for retention; ``retention.toml`` says what each means."""

    HOLD = "hold"
    BLOOD = "blood"
    IMAGE = "image"
    SERVED = "served"
    UNSERVED = "unserved"
    INJURY = "injury"
    NO_INJURY = "no_injury"

    @property
    def of_patient(self) -> bool:
        """Whether it is said of the patient, not of a document; a hold may be either."""
        return self in (Mark.INJURY, Mark.NO_INJURY)


class Said(Value, frozen=True):
    """A mark that stands."""

    mark: Mark
    document: str = ""  # uniqueId; "": all of the patient
    day: date | None = None  # of the service
    reason: str = ""
    by: str = ""


class KeptDocument(Value, frozen=True):
    """What retention looks at of a document. Times are DTM, as in the metadata."""

    entry_uuid: str
    unique_id: str
    registered_at: datetime
    creation_time: str = ""
    service_start_time: str = ""
    service_stop_time: str = ""
    codes: tuple[str, ...] = ()  # code^^scheme of class, type and practice setting
    mime_type: str = ""
    authors: tuple[str, ...] = ()  # root#extension of persons and organisations
    repository_unique_id: str = ""
    title: str = ""


class RemovedEntry(Value, frozen=True):
    """What is kept of the documents that were removed."""

    entity: str  # as keepers() has it; "": they named none
    year: int  # of the last entry among them


class KeptPatient(Value, frozen=True):
    """What is known of a patient, all who are linked together."""

    documents: tuple[KeptDocument, ...] = ()
    removed: tuple[RemovedEntry, ...] = ()
    birth_date: date | None = None  # the latest that it can be
    died_on: date | None = None  # likewise
    deceased: bool = False
    said: tuple[Said, ...] = ()


class Term(Value, frozen=True):
    """For how long a document is kept."""

    class_: str  # a class of the table
    until: date | None  # the last day on which it must be kept; None: no end is known
    why: str
    holds: tuple[str, ...] = ()  # why it must be kept besides

    @property
    def years(self) -> int:
        """How many from the end of the year of the event."""
        return int(CLASSES[self.class_]["years"])

    def may_go(self, today: date) -> bool:
        """Whether nothing keeps it any more on this day, in Poland."""
        return self.until is not None and self.until < today and not self.holds


def local_day(moment: datetime) -> date:
    """The day in Poland."""
    return moment.astimezone(_ZONE).date()


def keepers(authors: Sequence[str]) -> frozenset[str]:
    """The entities among whom a document is by; their units and cells count as they do."""
    found = set()
    for identifier in authors:
        root, _, extension = identifier.partition("#")
        if root in _KEEPER["register_book"]:
            found.add(f"{_KEEPER['register_book'][0]}#{extension.partition('-')[0]}")
        elif root in _KEEPER["regon"]:
            found.add(f"{_KEEPER['regon'][0]}#{extension[: _KEEPER['regon_digits']]}")
    return frozenset(found)


def _day(dtm: str, *, late: bool) -> date | None:
    """The day in Poland of a partial time, the last or the first that it can be; None for what is no time.

    A time of the day is in UTC; a day, month or year alone is taken as it stands.
    """
    digits = dtm.partition(".")[0]
    padded = digits + ("99991231235959" if late else "00010101000000")[len(digits) :]
    if len(digits) not in (4, 6, 8, 10, 12, 14) or not digits.isdecimal():
        return None
    try:
        if len(digits) == 6 and late:
            year, month = divmod(int(digits[:4]) * 12 + int(digits[4:]), 12)
            return date.fromordinal(date(year, month + 1, 1).toordinal() - 1)
        if len(digits) <= 8:
            return date(int(padded[:4]), int(padded[4:6]), int(padded[6:8]))
        return local_day(datetime.strptime(padded, "%Y%m%d%H%M%S").replace(tzinfo=UTC))
    except (ValueError, OverflowError):
        return None


def written_on(document: KeptDocument) -> date:
    """The last day on which something was written into it, as far as its metadata say; else that of registration."""
    return _stated(document.creation_time, document.service_stop_time) or local_day(document.registered_at)


def _stated(*times: str) -> date | None:
    return max((day for time in times if (day := _day(time, late=True)) is not None), default=None)


def remaining(entry: DocumentEntry) -> Iterator[tuple[str, int]]:
    """Of a document that is removed: each entity whose last entry it may be, and its year; 0: that of registration.

    So what has been the last entry stays it, and the rest is kept for as long as before.
    """
    written = _stated(entry.creation_time or "", entry.service_stop_time or "")
    for entity in sorted(keepers(authors(entry.author))) or ("",):
        yield entity, written.year if written else 0


def _begun_on(document: KeptDocument) -> date:
    stated = (_day(t, late=False) for t in (document.service_start_time, document.creation_time))
    return min((d for d in stated if d is not None), default=local_day(document.registered_at))


def last_entry(document: KeptDocument, patient: KeptPatient) -> int:
    """The year of the last entry in what the entity keeps about the patient, also where that was removed.

    A document that names no entity may belong to any.
    """
    own = keepers(document.authors)
    among = (document, *patient.documents)
    standing = [written_on(d).year for d in among if not own or not (theirs := keepers(d.authors)) or own & theirs]
    gone = [r.year for r in patient.removed if not own or not r.entity or r.entity in own]
    return max([*standing, *gone])


def term(document: KeptDocument, patient: KeptPatient) -> Term:
    """For how long the document must be kept, and why."""
    said = [s for s in patient.said if s.document in ("", document.unique_id)]
    marks = {s.mark: s for s in sorted(said, key=lambda s: s.day or date.max)}  # of several days the latest counts
    last = last_entry(document, patient)
    longer: list[tuple[str, int | None, str]] = []
    if Mark.BLOOD in marks or _BLOOD.intersection(document.codes):
        longer.append(("blood", last, ""))
    born = patient.birth_date
    if born is None or _begun_on(document) < _birthday(born, _AGE):
        longer.append(("child", last, "the day of birth is unknown" if born is None else ""))
    if Mark.INJURY in marks or (patient.deceased and Mark.NO_INJURY not in marks):
        died = patient.died_on
        unknown = "" if Mark.INJURY in marks else "the cause of death is unknown"
        longer.append(("injury", None if died is None else died.year, unknown))
    chosen = [("general", last, ""), *longer]
    if not longer:
        chosen = [shorter] if (shorter := _shorter(document, marks)) else chosen
    class_, year, remark = max(chosen, key=lambda c: 9999 if c[1] is None else c[1] + CLASSES[c[0]]["years"])
    row = CLASSES[class_]
    event = f"{row['event']} in {year}" if year else f"day of the {row['event']} unknown"
    why = f"{row['years']} years from the end of the year of the {event} ({row['article']})" if year else event
    return Term(
        class_,
        None if year is None else date(year + row["years"], 12, 31),
        "; ".join(filter(None, (why, remark))),
        tuple(f"{s.reason} ({s.by})" for s in said if s.mark is Mark.HOLD),
    )


def can_be(mark: Mark, document: KeptDocument) -> bool:
    """Whether a document may be what the mark says of it: only an order is served or not, only an image one."""
    match mark:
        case Mark.IMAGE:
            return document.mime_type in _IMAGES
        case Mark.SERVED | Mark.UNSERVED:
            return bool(_ORDERS.intersection(document.codes))
        case _:
            return True


def _shorter(document: KeptDocument, marks: dict[Mark, Said]) -> tuple[str, int, str] | None:
    """A class that is shorter than the general one must be said by somebody, of a document that can be such a one."""
    if Mark.IMAGE in marks and can_be(Mark.IMAGE, document):
        return "image", written_on(document).year, ""
    if can_be(Mark.SERVED, document):
        if (served := marks.get(Mark.SERVED)) is not None:
            return None if served.day is None else ("order_served", served.day.year, "")
        if Mark.UNSERVED in marks:
            return "order_unserved", written_on(document).year, ""
    return None


def _birthday(born: date, age: int) -> date:
    """On which somebody becomes so old; who is born on 29 February does on 1 March."""
    try:
        return born.replace(year=born.year + age)
    except ValueError:
        return date(born.year + age, 3, 1)


# The port -------------------------------------------------------------------------------------------------------------


class Person(NamedTuple):
    """A patient with all who are linked."""

    key: int  # of the survivor
    id: str  # of the affinity domain
    known: KeptPatient


class About(NamedTuple):
    """What somebody wants to remove, as retention looks at it."""

    identifier: str  # as in the removal
    patient_key: int | None = None  # None: nothing here describes it
    document: str = ""  # entryUUID of a document that it is about; "": of none
    registered_at: datetime | None = None  # of what is about no document
    described_before: bool = False  # its entry was removed, which retention let go


class RetentionStore(Protocol):
    """Where it is read what a period rests on."""

    async def objects(self, uuids: Sequence[str]) -> Sequence[About]:
        """What registered objects are about, a line for each document."""

    async def contents(self, unique_ids: Sequence[str]) -> Sequence[About]:
        """The entries that describe documents."""

    async def persons(self, patient_keys: Sequence[int]) -> Mapping[int, Person]:
        """By each of the keys that were asked for."""

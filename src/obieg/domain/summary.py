"""What is said of a patient in the documents of several sources, as one summary (ISO 27269, the IPS).

Nothing here is decided about the patient: a summary repeats what sources say, each statement with the documents it
stands in. Sources that contradict one another stand side by side; what no source speaks of is "no information".
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from datetime import datetime

import msgspec

from obieg.domain.documents import Value
from obieg.domain.patients import Candidate


class Source(Value, frozen=True):
    """A document that statements are drawn from, as the registry knows it. Times are DTM in UTC."""

    entry_uuid: str  # without urn:uuid:
    unique_id: str
    repository_unique_id: str = ""
    mime_type: str = ""
    title: str = ""
    type_name: str = ""  # of typeCode
    created_at: str = ""
    authors: tuple[str, ...] = ()  # names of people
    organisations: tuple[str, ...] = ()
    size: str = ""
    hash: str = ""  # SHA-1, hexadecimal

    @property
    def author(self) -> str:
        """Who made it, for people; "" if nobody says."""
        return ", ".join((*self.authors, *self.organisations))


class Coding(Value, frozen=True):
    """A code; ``system`` is a URI."""

    code: str
    system: str = ""
    display: str = ""


class Concept(Value, frozen=True):
    """One meaning, as coded by the source and in its words."""

    codings: tuple[Coding, ...] = ()
    text: str = ""

    @property
    def meaning(self) -> tuple[object, ...]:
        """What two concepts share that mean the same: the codes, or where there are none the words."""
        return tuple(sorted((c.system, c.code) for c in self.codings)) or (" ".join(self.text.split()).casefold(),)

    @property
    def name(self) -> str:
        """What people read: the name of the code and the source's words, where they differ."""
        display = next((c.display for c in self.codings if c.display), "")
        text = " ".join(self.text.split())
        if text.casefold() in display.casefold():
            return display or self.code
        return text if not display or display.casefold() in text.casefold() else f"{display} ({text})"

    @property
    def code(self) -> str:
        """The first code."""
        return self.codings[0].code if self.codings else ""


class Span(Value, frozen=True):
    """A time of DTM form in UTC; a moment has both ends alike."""

    low: str = ""
    high: str = ""


class Measure(Value, frozen=True):
    """A value that was observed; ``kind`` is quantity, range, concept, text, time or boolean."""

    kind: str
    value: str = ""
    unit: str = ""
    low: str = ""
    high: str = ""
    concept: Concept | None = None

    @property
    def meaning(self) -> tuple[object, ...]:
        """What two equal values share."""
        concept = self.concept.meaning if self.concept is not None else ()
        return (self.kind, self.value, self.unit, self.low, self.high, concept)


class Reaction(Value, frozen=True):
    """How an allergy showed itself."""

    manifestation: Concept
    severity: str = ""


class Statement(Value, frozen=True):
    """One coded entry of one or more sources; ``kind`` and ``section`` are rows of ``codes/cda_sections.toml``."""

    kind: str
    section: str
    concept: Concept
    time: Span = Span()
    status: str = ""  # code of the FHIR element that says it for this kind; "" where the source does not say
    negated: bool = False
    values: tuple[Measure, ...] = ()
    interpretations: tuple[Concept, ...] = ()
    ranges: tuple[Measure, ...] = ()
    dosage: str = ""  # in the source's words
    route: Concept | None = None
    dose: Measure | None = None
    lot: str = ""
    criticality: str = ""
    reactions: tuple[Reaction, ...] = ()
    details: tuple[Concept, ...] = ()  # further codes of the entry for which the resource has no place
    words: str = ""  # what the narrative says of it
    inpatient: bool = False
    sources: tuple[Source, ...] = ()

    def meaning(self, *, state: bool) -> tuple[object, ...]:
        """What two statements share that say the same.

        An undated ``state`` is one in however many documents; an undated event belongs to the day of its document.
        """
        undated = self.time == Span() and not state
        when = self.sources[0].created_at[:8] if undated and self.sources else (self.time.low, self.time.high)
        return (
            self.kind,
            self.section,
            self.concept.meaning,
            when,
            self.status,
            self.negated,
            tuple(v.meaning for v in self.values),
            " ".join(self.dosage.split()).casefold(),
            self.dose.meaning if self.dose is not None else (),
            self.lot,
            self.criticality,
            self.reactions,
        )


class Passage(Value, frozen=True):
    """The narrative of one section of a source; ``xhtml`` is safe to show. ``section`` is "" for one of no table."""

    section: str
    title: str
    xhtml: str
    source: Source
    code: Coding | None = None
    codes: tuple[Concept, ...] = ()  # coded entries of the section that became no statement
    coded: bool = False  # whether statements were drawn from it


class Unread(Value, frozen=True):
    """A document whose content is not in the summary, and why (see :mod:`obieg.mapping.ips_narrative`)."""

    source: Source
    reason: str
    detail: str = ""


class Extract(Value, frozen=True):
    """What one document says."""

    statements: tuple[Statement, ...] = ()
    passages: tuple[Passage, ...] = ()
    file: str = ""  # media type of a file that the document wraps, which nobody has read; "?" where it says none


class Summary(Value, frozen=True):
    """Everything that goes into one summary; sources from the newest to the oldest."""

    key: str  # the same as long as nothing that it is made of has changed
    patient: Candidate
    made_at: datetime  # UTC
    statements: tuple[Statement, ...] = ()
    passages: tuple[Passage, ...] = ()
    sources: tuple[Source, ...] = ()  # whose content was read
    unread: tuple[Unread, ...] = ()
    more: bool = False  # there are older documents that were not looked at
    documents_max: int = 0


def collapse(statements: Iterable[Statement], *, is_state: Callable[[str], bool]) -> tuple[Statement, ...]:
    """Statements that say the same become one with the sources of all; the rest stays as it is, in its order."""
    found: dict[tuple[object, ...], Statement] = {}
    for statement in statements:
        meaning = statement.meaning(state=is_state(statement.kind))
        known = found.get(meaning)
        found[meaning] = statement if known is None else _joined(known, statement)
    return tuple(found.values())


def _joined(first: Statement, second: Statement) -> Statement:
    codings = dict.fromkeys((*first.concept.codings, *second.concept.codings))
    unlike = {(c.system, c.code, c.display): c for c in codings}
    words = first.words if second.words in first.words else "; ".join(filter(None, (first.words, second.words)))
    return msgspec.structs.replace(
        first,
        concept=Concept(tuple(unlike.values()), first.concept.text or second.concept.text),
        interpretations=tuple(dict.fromkeys((*first.interpretations, *second.interpretations))),
        ranges=tuple(dict.fromkeys((*first.ranges, *second.ranges))),
        details=tuple(dict.fromkeys((*first.details, *second.details))),
        words=words,
        sources=tuple(dict.fromkeys((*first.sources, *second.sources))),
    )

"""What a CDA document says of its patient, as values of the summary, by ``codes/cda_sections.toml``.

Every clinical statement of every section is walked. One that the tables know becomes a statement; codes that none of
its fields holds become its details; a coded entry that becomes no statement leaves its codes with the passage it stands
in. So no code of the source is lost, and every narrative becomes a passage.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import NamedTuple

from obieg.codes.load import toml
from obieg.domain.identifiers import OID
from obieg.domain.summary import Coding, Concept, Extract, Measure, Passage, Reaction, Source, Span, Statement
from obieg.mapping.ips_entries import describe
from obieg.mapping.pik_values import utc
from obieg.wire import cda_body
from obieg.wire.cda import Coded, Period

_TABLE = toml("cda_sections.toml")
_SYSTEMS: dict[str, str] = _TABLE["systems"]
_ENTRIES: dict[str, str] = _TABLE["entries"]
_CLASSES: dict[str, str] = _TABLE["classes"]
_SUMMARY: dict[str, dict[str, str]] = _TABLE["summary"]
_KINDS: dict[str, dict[str, object]] = _TABLE["kinds"]
_QUALIFIERS: dict[str, list[str]] = _TABLE["qualifiers"]
_REASONS = frozenset(_TABLE["relations"]["reasons"])
_WISHES = frozenset(_TABLE["moods"]["wishes"])
_TELLING: list[str] = _TABLE["telling"]["order"]
# Code systems whose codes say how a message is built, not what is the matter with somebody.
_STRUCTURE = frozenset(_TABLE["structure"]["systems"])
_ORDERED = frozenset({"procedure", "result", "vital_sign", "observation", "encounter", "act", "immunization"})
_QUANTITIES = frozenset({"PQ", "REAL", "INT", "MO"})
_INTERVALS = frozenset({"IVL_PQ", "IVL_REAL", "IVL_INT"})
_TIMES = frozenset({"TS", "IVL_TS"})
_QUALIFIER = "qualifier"
# What is observed within one of these belongs to it: a reaction to a vaccine, the number of a dose.
_QUALIFIED = frozenset({"allergy", "condition", "medication", "immunization"})


class _Place(NamedTuple):
    """Where a statement stands."""

    section: str  # of the summary
    source: Source
    group: tuple[Concept, ...] = ()  # what the groups around it are called
    inside: str = ""  # kind of the observations in the innermost group that says so


def read_extract(document: bytes, source: Source) -> Extract:
    """Statements and passages of a document.

    Raises :class:`obieg.wire.cda.CdaRefused` where it is no CDA, :class:`obieg.wire.cda_body.TooMuch`.
    """
    statements: list[Statement] = []
    passages: list[Passage] = []
    read = cda_body.read_document(document)
    for section in read.sections:
        key = _section(section)
        left: list[Concept] = []
        found = [s for one in section.statements for s in _walk(one, _Place(key, source), left)]
        if not found and section.text and not section.null_flavor and "kind" in _SUMMARY.get(key, ()):
            found = [_told(section.text, key, source)]
        statements += found
        if section.xhtml or left:
            passages.append(_passage(section, key, source, left, coded=bool(section.statements)))
    body = read.header.body
    return Extract(tuple(statements), tuple(passages), file=(body.media_type or "?") if body.binary else "")


def _told(text: str, key: str, source: Source) -> Statement:
    """A section that is always in the summary and has only a narrative here: its words are the entry."""
    return Statement(kind=_SUMMARY[key]["kind"], section=key, concept=Concept(text=text), words=text, sources=(source,))


def is_state(kind: str) -> bool:
    """Whether statements of this kind speak of a state; see :func:`obieg.domain.summary.collapse`."""
    return bool(_KINDS[kind]["state"])


def _section(section: cda_body.Section) -> str:
    by_template = (_TABLE["templates"].get(root) for root in section.template_ids)
    by_code = (_TABLE["loinc"].get(c.code) for c in _all(section.code) if c.system in _LOINC)
    return next((key for key in (*by_template, *by_code) if key), "")


_LOINC = frozenset(oid for oid, uri in _SYSTEMS.items() if uri == "http://loinc.org")


def _passage(section: cda_body.Section, key: str, source: Source, left: Iterable[Concept], *, coded: bool) -> Passage:
    code = next((_coding(c) for c in _all(section.code) if c.code), None)
    title = section.title or (code.display if code is not None else "")
    return Passage(
        section=key, title=title, xhtml=section.xhtml, source=source, code=code,
        codes=tuple(dict.fromkeys(left)), coded=coded,
    )  # fmt: skip


# entries ---------------------------------------------------------------------------------------------------------


def _walk(entry: cda_body.Statement, place: _Place, left: list[Concept]) -> Iterator[Statement]:
    """The statements that an entry makes; codes of what makes none go to ``left``."""
    kind, inside = _kind(entry, place)
    if entry.about_other:
        left += _codes_below(entry)
    elif kind == "group":
        named = (*place.group, *_said(entry.code, entry.code_text), *_others(entry))
        inner = place._replace(group=named, inside=inside or place.inside)
        made = [s for related in entry.related for s in _walk(related, inner, left)]
        if not made:
            left += inner.group
        yield from made
    elif kind in _KINDS:
        yield from _statement(entry, kind, place, left)
    else:
        left += _codes_of(entry)
        for related in entry.related:
            yield from _walk(related, place, left)


def _kind(entry: cda_body.Statement, place: _Place) -> tuple[str, str]:
    """A kind of the table, "group", or "" for an entry that is only its codes; and what a group is of."""
    known = [_ENTRIES[root] for root in entry.template_ids if root in _ENTRIES]
    kind = max(known, key=_TELLING.index, default="")
    if not kind and entry.element == "observation":
        kind = place.inside
    kind = kind or _CLASSES.get(f"{place.section} {entry.element}", "") or _CLASSES.get(entry.element, "")
    kind, _, inside = kind.partition(" ")
    if kind == "act":
        kind = "group" if any(r.relation in ("SUBJ", "COMP") for r in entry.related) else "act"
    if kind == "supply":
        drug = place.section == "medications" and (entry.product is not None or entry.product_text != "")
        holds_drug = any(r.element == "substanceAdministration" for r in entry.related)
        kind = "medication" if drug else "group" if holds_drug else "device"
    if entry.mood in _WISHES and kind in _ORDERED:
        kind = "order"
    elif entry.mood in _WISHES and kind == "device":
        kind = "device_order"
    if kind in ("order", "procedure", "encounter", "device_order") and not _subject(entry, kind).codings:
        # Without a code there is nothing but the narrative, and what is related to it.
        kind = "group" if entry.related else ""
    return "" if kind in ("act", _QUALIFIER) else kind, inside


def _statement(entry: cda_body.Statement, kind: str, place: _Place, left: list[Concept]) -> Iterator[Statement]:
    concept = _subject(entry, kind)
    qualifiers, others = _related(entry, kind)
    details = [*place.group, *_others(entry), *_participants(entry, kind), *qualifiers.details]
    if kind in ("allergy", "condition") and concept != _named(entry.code, entry.code_text, entry.text):
        details = [*_said(entry.code, entry.code_text), *details]  # the type of problem
    if kind == "allergy":
        details += [v.concept for v in _measures(entry.values) if v.concept is not None and v.concept != concept]
    if kind == "immunization" or (kind == "medication" and entry.code is not None):
        details += _said(entry.code, entry.code_text)
    after: list[Statement] = []
    for related in others:
        if _belongs(related, kind, concept, place):
            details += _codes_below(related)
        else:
            after += _walk(related, place, details)
    observed = kind in ("result", "vital_sign", "observation")
    row = _KINDS[kind]
    section = str(row["section"])
    if not any((concept.codings, concept.text, entry.values, entry.text)):
        left += details
        yield from after
        return
    yield Statement(
        kind=kind,
        section=_at_home(section, kind, place.section),
        concept=concept,
        time=_span(entry.time),
        status=qualifiers.status or _status(entry, kind),
        negated=entry.negated,
        values=tuple(_measures(entry.values)) if observed else (),
        interpretations=tuple(_concept(c, "") for c in entry.interpretations),
        ranges=tuple(_measures(entry.ranges)),
        dosage=entry.text if kind == "medication" else "",
        route=_concept(entry.route, "") if entry.route is not None else None,
        dose=next(_measures((entry.dose,)), None) if entry.dose is not None else None,
        lot=entry.lot,
        criticality=qualifiers.criticality,
        reactions=qualifiers.reactions,
        details=tuple(dict.fromkeys(d for d in details if d != concept and (d.codings or d.text))),
        words=entry.text,
        inpatient=place.section == "encounters",
        sources=(place.source,),
    )
    yield from after


def _status(entry: cda_body.Statement, kind: str) -> str:
    """The code of the FHIR element, where the entry itself says it.

    A prescription is complete when it is written and a dispense when the drug is given out: neither says whether the
    drug is taken.
    """
    if kind == "medication":
        if entry.negated:
            return "not-taken"
        said: str = _TABLE["medication_status"].get(entry.status, "")
        written = entry.element == "supply" or entry.mood in _WISHES
        return said if said and not (written and said == "completed") else "unknown"
    return ""


def _belongs(related: cda_body.Statement, kind: str, concept: Concept, place: _Place) -> bool:
    """Whether a related entry only says more of this one: how a drug is given out, with what a procedure was done."""
    if related.element == "supply" or _kind(related, place)[0] in ("device", "device_order"):
        return True
    if kind == "medication" and related.element == "substanceAdministration":
        drug = _subject(related, kind)
        return not drug.codings or drug.meaning == concept.meaning
    return False


def _at_home(section: str, kind: str, stands_in: str) -> str:
    """An illness of the past stays there; observations stay in the section of the summary that they stand in."""
    if kind == "condition" and stands_in == "past_illness":
        return stands_in
    if kind == "observation" and stands_in in ("social_history", "functional_status", "pregnancy", "plan"):
        return stands_in
    return section


def _subject(entry: cda_body.Statement, kind: str) -> Concept:
    """What the statement is about."""
    if kind in ("medication", "immunization", "device_order"):
        return _named(entry.product, entry.product_text, entry.text)
    if kind in ("device", "allergy"):
        played = next(((code, name) for _, code, name in entry.participants if code or name), None)
        if played is not None:
            return _named(*played, entry.text)
    if kind == "device":
        return _named(entry.product or entry.code, entry.product_text or entry.code_text, entry.text)
    if kind in ("condition", "allergy"):
        value = next((v for v in entry.values if v.coded is not None or v.text), None)
        if value is not None:
            return _named(value.coded, value.text, entry.text)
    return _named(entry.code, entry.code_text, entry.text)


class _Qualified(NamedTuple):
    """What related observations say of a statement."""

    status: str = ""
    criticality: str = ""
    reactions: tuple[Reaction, ...] = ()
    details: tuple[Concept, ...] = ()


def _related(entry: cda_body.Statement, kind: str) -> tuple[_Qualified, list[cda_body.Statement]]:
    """What qualifies the statement, and everything else that is related to it."""
    status, criticality = "", ""
    reactions: list[Reaction] = []
    details: list[Concept] = []
    others: list[cda_body.Statement] = []
    for related in entry.related:
        code = related.code.code if related.code is not None else ""
        value = next((v for v in related.values if v.coded is not None or v.text), None)
        said = _concept(value.coded, value.text) if value is not None else Concept()
        if kind in ("allergy", "condition") and code in _QUALIFIERS["status"]:
            status = _TABLE["clinical_status"].get(said.code, status)
        elif kind == "allergy" and related.relation == "MFST" and (said.codings or said.text):
            reactions.append(Reaction(said, _TABLE["severity"].get(_severity(related).code, "")))
        elif kind == "allergy" and code in _QUALIFIERS["criticality"]:
            criticality = _TABLE["criticality"].get(said.code, "")
        elif not _says_more(related, kind):
            others.append(related)
            continue
        details += [c for c in _codes_below(related) if c not in [r.manifestation for r in reactions]]
    return _Qualified(status, criticality, tuple(reactions), tuple(details)), others


def _says_more(related: cda_body.Statement, kind: str) -> bool:
    """Whether a related entry only qualifies or gives a reason: it is no finding, no act of its own."""
    if related.relation in _REASONS:
        return True
    if related.element == "observation":
        return kind in _QUALIFIED or _QUALIFIER in map(_ENTRIES.get, related.template_ids)
    return related.element == "act" and kind not in ("procedure", "encounter")


def _severity(reaction: cda_body.Statement) -> Concept:
    for related in reaction.related:
        if related.code is not None and related.code.code in _QUALIFIERS["severity"]:
            value = next((v for v in related.values if v.coded is not None), None)
            if value is not None:
                return _concept(value.coded, value.text)
    return Concept()


def _participants(entry: cda_body.Statement, kind: str) -> Iterator[Concept]:
    subject = _subject(entry, kind)
    for _, code, name in entry.participants:
        concept = _concept(code, name)
        if concept != subject:
            yield concept


def _others(entry: cda_body.Statement) -> Iterator[Concept]:
    for code in entry.other_codes:
        yield from _said(code, "")


def _codes_of(entry: cda_body.Statement) -> list[Concept]:
    """All codes of an entry itself."""
    measures = list(_measures(entry.values))
    uncoded = [describe(m) for m in measures if m.concept is None]
    found = [
        Concept(c.codings, f"{c.name}: {'; '.join(uncoded)}" if uncoded else c.text) for c in _said(entry.code, "")
    ]
    found += _said(entry.product, entry.product_text)
    found += [m.concept for m in measures if m.concept is not None]
    found += [c for _, code, name in entry.participants for c in _said(code, name)]
    found += [c for code in (entry.route, *entry.interpretations) for c in _said(code, "")]
    return [*found, *_others(entry)]


def _codes_below(entry: cda_body.Statement) -> list[Concept]:
    """All codes of an entry and of those it is related to."""
    return [*_codes_of(entry), *(c for related in entry.related for c in _codes_below(related))]


# values ----------------------------------------------------------------------------------------------------------


def _said(code: Coded | None, text: str) -> Iterator[Concept]:
    """The concept, unless it says only how the entry is built."""
    if code is not None and (code.system not in _STRUCTURE or code.translations):
        yield _concept(code, text)


def _concept(code: Coded | None, text: str) -> Concept:
    codings = tuple(dict.fromkeys(_coding(c) for c in _all(code) if c.code))
    return Concept(codings, text or next((c.display for c in codings if c.display), ""))


def _named(code: Coded | None, text: str, narrated: str) -> Concept:
    """A concept with words: the source's own, else the name of the code, else what the narrative says of the entry."""
    concept = _concept(code, text)
    return concept if concept.text or not narrated else Concept(concept.codings, narrated)


def _all(code: Coded | None) -> Iterator[Coded]:
    if code is not None:
        yield code
        for translation in code.translations:
            yield from _all(translation)


def _coding(code: Coded) -> Coding:
    return Coding(code.code, system_uri(code.system), code.display)


def system_uri(oid: str) -> str:
    """The URI of a code system; "" where none is named."""
    known = _SYSTEMS.get(oid)
    return known or (f"urn:oid:{oid}" if OID.match(oid) else "")


def _measures(values: Iterable[cda_body.Value]) -> Iterator[Measure]:
    for value in values:
        if value.coded is not None:
            yield Measure("concept", concept=_concept(value.coded, value.text))
        elif value.type in _TIMES:
            low, high = (utc(t) or "" for t in (value.low or value.value, value.high or value.value))
            yield Measure("time", low=low, high=high)
        elif value.type == "BL":
            yield Measure("boolean", value.value)
        elif value.type in _INTERVALS and (value.low or value.high):
            yield Measure("range", unit=value.unit, low=value.low, high=value.high)
        elif value.type in _QUANTITIES and value.value:
            yield Measure("quantity", value.value, value.unit, value.low, value.high)
        elif (value.low or value.high) and not value.value:
            yield Measure("range", unit=value.unit, low=value.low, high=value.high)
        elif value.value or value.text:
            yield Measure("text", value.text or f"{value.value} {value.unit}".strip())


def _span(period: Period) -> Span:
    return Span(utc(period.low) or "", utc(period.high) or "")

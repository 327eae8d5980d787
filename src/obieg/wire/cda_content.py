"""Everything in a CDA R2 document that a person reads: header, narrative, entries, pictures (HL7 CDA R2, 4.2 and 4.3).

Where :mod:`obieg.wire.cda_body` reads entries for what they mean, this reads them for what they say, whatever classes
and templates they have: so a document whose narrative is empty still shows all of it.
"""

from __future__ import annotations

import binascii
from collections import Counter
from collections.abc import Iterator
from typing import Any

from obieg.wire.cda import CDA, CdaHeader, Coded, Part, Party, Period, header_of, open_document, parties_of
from obieg.wire.cda_body import SECTIONS_MAX, TooMuch
from obieg.wire.cda_narrative import Node, Nodes, flat_text, plain_text, read_narrative, walk

_CLASSES = frozenset(
    {"act", "encounter", "observation", "observationMedia", "organizer", "procedure", "regionOfInterest",
     "substanceAdministration", "supply"}
)  # fmt: skip
# Of the message, not of the patient.
_SILENT = frozenset(
    {"templateId", "typeId", "realmCode", "id", "setId", "versionNumber", "statusCode", "independentInd",
     "seperatableInd", "sequenceNumber", "languageCode", "region", "signatureCode"}
)  # fmt: skip
_TEXTS = frozenset({"text", "originalText", "name", "desc", "title", "addr", "lotNumberText", "softwareName"})
_TIMES = frozenset({"effectiveTime", "time", "birthTime", "availabilityTime", "expirationTime"})


class Detail(Part, frozen=True):
    """One thing that an entry says; ``label`` is the element that says it, such as code, quantity or name."""

    label: str
    text: str = ""
    coded: Coded | None = None
    time: Period | None = None


class Entry(Part, frozen=True):
    """An entry or a statement in one; ``told`` whether the narrative tells the same."""

    name: str
    told: bool = False
    negated: bool = False
    details: tuple[Detail, ...] = ()
    related: tuple[Entry, ...] = ()


class Chapter(Part, frozen=True):
    """A section; nested ones follow theirs, one ``depth`` further in."""

    depth: int = 0
    template_ids: tuple[str, ...] = ()
    code: Coded | None = None
    title: str = ""
    language: str = ""
    narrative: Nodes = ()
    entries: tuple[Entry, ...] = ()


class Media(Part, frozen=True):
    """A picture or another file in the document; ``number`` is "1" for the first, ``ids`` are of the narrative."""

    number: str
    ids: tuple[str, ...]
    media_type: str
    data: bytes


class Content(Part, frozen=True):
    """A whole document."""

    header: CdaHeader
    qualities: tuple[tuple[Coded, Coded], ...] = ()  # qualifiers of the document's code: what is said of it, and what
    parties: tuple[Party, ...] = ()
    chapters: tuple[Chapter, ...] = ()
    media: tuple[Media, ...] = ()


def read_content(document: bytes) -> Content:
    """Raises :class:`obieg.wire.cda.CdaRefused` for what is no CDA, :class:`obieg.wire.cda_body.TooMuch`."""
    root = open_document(document)
    component = root.find(f"{{{CDA}}}component")
    body = None if component is None else component.find(f"{{{CDA}}}structuredBody")
    file = None if component is None else component.find(f"{{{CDA}}}nonXMLBody/{{{CDA}}}text")
    chapters = list(_chapters(body, 0, Counter())) if body is not None else []
    media = list(_media(body)) if body is not None else []
    if file is not None:
        words = plain_text(_lines(file))
        chapters = [Chapter(narrative=_lines(file))] if words else []
        media = [] if words else [Media("1", (), file.get("mediaType", ""), _decoded(file))]
    return Content(header_of(root), tuple(_qualities(root)), parties_of(root), tuple(chapters), tuple(media))


def _qualities(root: Any) -> Iterator[tuple[Coded, Coded]]:
    """PIK HL7 CDA says so what kind of prescription it is: ready-made drug, usual, in parts."""
    code = root.find(f"{{{CDA}}}code")
    for qualifier in () if code is None else code.iter(f"{{{CDA}}}qualifier"):
        name, value = (_coded(qualifier.find(f"{{{CDA}}}{part}")) for part in ("name", "value"))
        if name is not None and value is not None:
            yield name, value


# sections --------------------------------------------------------------------------------------------------------


def _chapters(parent: Any, depth: int, counted: Counter[str]) -> Iterator[Chapter]:
    for component in parent.iterchildren(f"{{{CDA}}}component"):
        for section in component.iterchildren(f"{{{CDA}}}section"):
            counted["sections"] += 1
            if counted["sections"] > SECTIONS_MAX:
                raise TooMuch(f"more than {SECTIONS_MAX} sections")
            yield from _chapter(section, depth, counted)


def _chapter(section: Any, depth: int, counted: Counter[str]) -> Iterator[Chapter]:
    text = section.find(f"{{{CDA}}}text")
    narrative = read_narrative(text, counted["notes"])
    counted["notes"] += sum(node.name == "note" for node in walk(narrative))
    ids = set() if text is None else {e.get("ID") for e in text.iter() if isinstance(e.tag, str)} - {None}
    title, language = section.find(f"{{{CDA}}}title"), section.find(f"{{{CDA}}}languageCode")
    words = plain_text(narrative)
    yield Chapter(
        depth=depth,
        template_ids=tuple(t.get("root", "") for t in section.iterchildren(f"{{{CDA}}}templateId")),
        code=_coded(section.find(f"{{{CDA}}}code")),
        title="" if title is None else flat_text(title),
        language="" if language is None else language.get("code", ""),
        narrative=narrative,
        entries=tuple(
            entry
            for holder in section.iterchildren(f"{{{CDA}}}entry")
            for element in holder
            if _local(element) in _CLASSES and (entry := _entry(element, ids, words)) is not None
        ),
    )
    yield from _chapters(section, depth + 1, counted)


# entries ---------------------------------------------------------------------------------------------------------


def _entry(element: Any, ids: set[str], words: str) -> Entry | None:
    """None for a picture, which is shown, and for what says nothing."""
    name = _local(element)
    if name == "observationMedia":
        return None
    details = tuple(_details(element, ""))
    related = tuple(entry for child in _statements(element) if (entry := _entry(child, ids, words)) is not None)
    references = (r.get("value", "").removeprefix("#") for r in element.iter(f"{{{CDA}}}reference"))
    told = any(reference in ids for reference in references) or {
        _said(d) in words for d in details if d.time is None
    } == {True}
    entry = Entry(name, told, element.get("negationInd", "") in ("true", "1"), details, related)
    return entry if details or related else None


def _statements(element: Any) -> Iterator[Any]:
    """The statements right below, through relationships."""
    for child in element:
        if _local(child) in _CLASSES:
            yield child
        elif isinstance(child.tag, str):
            yield from _statements(child)


def _details(element: Any, label: str) -> Iterator[Detail]:
    """What is said below ``element`` and belongs to no other statement."""
    for child in element:
        name = _local(child)
        if not name or name in _CLASSES or name in _SILENT:
            continue
        if name in _TIMES:
            period = _period(child)
            if period != Period():
                yield Detail(name, time=period)
            else:  # how often
                yield from _details(child, name)
        elif name == label == "ingredient":  # the substance in it
            yield from _details(child, label)
        elif name == "ingredient":
            yield Detail(name, ", ".join(map(_said, _details(child, name))))
        elif name in _TEXTS and _coded(child) is None:
            if words := flat_text(child):
                yield Detail(label or name, words)
        elif "nullFlavor" not in child.attrib:
            inner = name if not label or label == "code" else label
            coded, value = _coded(child), _value(child)
            if coded is not None:
                yield Detail(inner, coded=coded)
            elif value:
                yield Detail(inner, value)
            elif len(child) == 0 and (words := flat_text(child)):
                yield Detail(inner, words)
            if child.find(f"{{{CDA}}}low") is None and child.find(f"{{{CDA}}}high") is None:
                yield from _details(child, inner if inner in _LABELS else "")


# Elements whose content is known by their name, however deep it stands.
_LABELS = frozenset(
    {"value", "quantity", "doseQuantity", "rateQuantity", "maxDoseQuantity", "repeatNumber", "referenceRange",
     "interpretationCode", "performer", "author", "informant", "routeCode", "priorityCode", "targetSiteCode",
     "approachSiteCode", "methodCode", "ingredient", "qualifier", "formCode", "capacityQuantity"}
)  # fmt: skip


def _said(detail: Detail) -> str:
    return detail.text or (detail.coded.display or detail.coded.code if detail.coded is not None else "")


def _value(element: Any) -> str:
    """A quantity, an interval or another plain value, as written."""
    low, high = (element.find(f"{{{CDA}}}{name}") for name in ("low", "high"))
    if low is not None or high is not None:
        return " – ".join(_quantity(e) if e is not None else "" for e in (low, high)).strip()
    return _quantity(element)


def _quantity(element: Any) -> str:
    return " ".join(filter(None, (element.get("value", "").strip(), element.get("unit", "").strip())))


def _period(element: Any) -> Period:
    point = element.get("value", "")
    low, high = (
        "" if e is None or "nullFlavor" in e.attrib else e.get("value", "")
        for e in (element.find(f"{{{CDA}}}low"), element.find(f"{{{CDA}}}high"))
    )
    return Period(point, point) if point else Period(low, high)


def _coded(element: Any) -> Coded | None:
    """What a person reads of a coded value: its name and code."""
    if element is None or "nullFlavor" in element.attrib:
        return None
    code, display = element.get("code", "").strip(), element.get("displayName", "").strip()
    return Coded(code, element.get("codeSystem", ""), display) if code or display else None


# media -----------------------------------------------------------------------------------------------------------


def _media(body: Any) -> Iterator[Media]:
    for number, element in enumerate(body.iter(f"{{{CDA}}}observationMedia"), 1):
        value = element.find(f"{{{CDA}}}value")
        around = element.iterancestors(f"{{{CDA}}}regionOfInterest")
        ids = tuple(id_ for e in (element, *around) if (id_ := e.get("ID")))
        if value is not None:
            yield Media(str(number), ids, value.get("mediaType", ""), _decoded(value))


def _decoded(element: Any) -> bytes:
    """The file; b"" if it is not there, or not what it is called."""
    words = element.text or ""
    if element.get("representation") != "B64":
        return words.encode()
    try:
        return binascii.a2b_base64(words)
    except (binascii.Error, ValueError):
        return b""


def _lines(element: Any) -> Nodes:
    """The lines of a plain text."""
    if element.get("mediaType", "text/plain") != "text/plain":
        return ()
    words = _decoded(element).decode("utf-8", "replace")
    return tuple(Node("p", (line.strip(),)) for line in words.splitlines() if line.strip())


def _local(element: Any) -> str:
    tag = element.tag
    return tag.rpartition("}")[2] if isinstance(tag, str) else ""

"""Reads the body of a CDA R2 document: its sections, their narrative and their entries (HL7 CDA R2, 4.3).

Bytes in, plain structures out, whichever templates the document keeps to. Every clinical statement becomes a
:class:`Statement` with the values that the classes of the Clinical Statement have in common; a coded value for which a
statement has no field of its own is kept in ``other_codes``, so that no code of the source is lost on the way.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from obieg.wire.cda import CDA, XSI_TYPE, CdaHeader, Coded, Part, Period, header_of, open_document
from obieg.wire.cda_narrative import flat_text, write_xhtml

SECTIONS_MAX = 2_000  # of one document, nested ones counted
STATEMENTS_MAX = 20_000  # of one document
_CLASSES = frozenset(
    {"act", "encounter", "observation", "observationMedia", "organizer", "procedure", "regionOfInterest",
     "substanceAdministration", "supply"}
)  # fmt: skip
_CODED_TYPES = frozenset({"CD", "CE", "CV", "CS", "CO", "CR", "EIVL.event"})
_RELATIONS = frozenset({"entryRelationship", "component"})


class TooMuch(Exception):  # noqa: N818
    """The body has more sections or statements than this node reads."""


class Value(Part, frozen=True):
    """ANY: the value of an observation or one end of a range; ``type`` is the xsi:type without prefix."""

    type: str
    value: str = ""
    unit: str = ""
    low: str = ""
    high: str = ""
    text: str = ""
    coded: Coded | None = None


class Statement(Part, frozen=True):
    """A clinical statement (HL7 CDA R2, 4.3.6) with those it is related to."""

    element: str  # observation, act, …
    relation: str = ""  # typeCode of the relationship that leads here: SUBJ, MFST, COMP, …
    template_ids: tuple[str, ...] = ()
    mood: str = ""
    negated: bool = False
    null_flavor: str = ""
    about_other: bool = False  # its subject is somebody else: a relative, a foetus
    code: Coded | None = None
    code_text: str = ""  # originalText of the code
    values: tuple[Value, ...] = ()
    status: str = ""
    time: Period = Period()
    text: str = ""  # what the narrative says of it
    product: Coded | None = None  # consumable or product
    product_text: str = ""
    lot: str = ""
    route: Coded | None = None
    dose: Value | None = None
    participants: tuple[tuple[str, Coded | None, str], ...] = ()  # typeCode, code of who or what plays, its name
    interpretations: tuple[Coded, ...] = ()
    ranges: tuple[Value, ...] = ()
    other_codes: tuple[Coded, ...] = ()
    related: tuple[Statement, ...] = ()


class Section(Part, frozen=True):
    """A section; nested ones follow their parent in the document's order."""

    template_ids: tuple[str, ...] = ()
    code: Coded | None = None
    title: str = ""
    null_flavor: str = ""
    xhtml: str = ""  # the narrative as a safe piece of XHTML, without a div around it; "" for none
    text: str = ""  # the same on one line
    statements: tuple[Statement, ...] = ()


class CdaDocument(Part, frozen=True):
    """A whole document."""

    header: CdaHeader
    sections: tuple[Section, ...] = ()


def read_document(document: bytes) -> CdaDocument:
    """Header and body; raises :class:`obieg.wire.cda.CdaRefused` for what is no CDA and :class:`TooMuch`."""
    root = open_document(document)
    body = root.find(f"{{{CDA}}}component/{{{CDA}}}structuredBody")
    sections: list[Section] = []
    if body is not None:
        budget = [STATEMENTS_MAX]
        for section in body.iter(f"{{{CDA}}}section"):
            if len(sections) == SECTIONS_MAX:
                raise TooMuch(f"more than {SECTIONS_MAX} sections")
            sections.append(_section(section, budget))
    return CdaDocument(header_of(root), tuple(sections))


def _section(section: Any, budget: list[int]) -> Section:
    text = _child(section, "text")
    narrative = {}
    if text is not None:
        narrative = {e.get("ID"): e for e in text.iter() if isinstance(e.tag, str) and e.get("ID")}
    entries = (_statement_in(entry, "", narrative, budget) for entry in _children(section, "entry"))
    return Section(
        template_ids=_template_ids(section),
        code=_coded(_child(section, "code")),
        title=_text(_child(section, "title")),
        null_flavor=section.get("nullFlavor", ""),
        xhtml=write_xhtml(text),
        text=_text(text),
        statements=tuple(statement for found in entries for statement in found),
    )


def _statement_in(holder: Any, relation: str, narrative: Mapping[str, Any], budget: list[int]) -> Iterator[Statement]:
    """The statements that an entry or a relationship holds; templates of the holder count as theirs."""
    for element in holder:
        name = _local(element)
        if name in _CLASSES:
            yield _statement(element, name, relation, _template_ids(holder), narrative, budget)


def _statement(
    element: Any,
    name: str,
    relation: str,
    holder_templates: tuple[str, ...],
    narrative: Mapping[str, Any],
    budget: list[int],
) -> Statement:
    budget[0] -= 1
    if budget[0] < 0:
        raise TooMuch(f"more than {STATEMENTS_MAX} entries")
    code = _child(element, "code")
    product = _product(element)
    related = [
        statement
        for child in element
        if _local(child) in _RELATIONS
        for statement in _statement_in(child, child.get("typeCode", ""), narrative, budget)
    ]
    # Elements with a field of their own; kept here, since an element is only itself as long as somebody holds it.
    taken = [e for e in (code, product, _child(element, "routeCode")) if e is not None]
    media = name == "observationMedia"  # its value is a file
    values = [] if media else [(v, _value(v, narrative)) for v in _children(element, "value")]
    taken += [v for v, value in values if value is not None and value.coded is not None]
    participants = []
    for participant in _children(element, "participant"):
        played = next((e for e in participant.iter() if _local(e) in ("playingEntity", "playingDevice")), None)
        role = _child(participant, "participantRole")
        found = next((e for e in (_child(played, "code"), _child(role, "code")) if _coded(e) is not None), None)
        taken += [found] if found is not None else []
        said = _text(_child(played, "name")) or _text(_child(played, "desc")) or _original(found, narrative)
        participants.append((participant.get("typeCode", ""), _coded(found), said))
    interpretations = list(_children(element, "interpretationCode"))
    taken += interpretations
    return Statement(
        element=name,
        relation=relation,
        template_ids=(*holder_templates, *_template_ids(element)),
        mood=element.get("moodCode", ""),
        negated=element.get("negationInd", "") in ("true", "1"),
        null_flavor=element.get("nullFlavor", ""),
        about_other=_child(_child(element, "subject"), "relatedSubject") is not None,
        code=_coded(code),
        code_text=_original(code, narrative),
        values=tuple(value for _, value in values if value is not None),
        status=_attribute(_child(element, "statusCode"), "code"),
        time=_time(element),
        text=_narrated(_child(element, "text"), narrative),
        product=_coded(product),
        product_text=_original(product, narrative) or _product_name(product),
        lot=_text(next((e for e in _own(element) if _local(e) == "lotNumberText"), None)),
        route=_coded(_child(element, "routeCode")),
        dose=_quantity(_child(element, "doseQuantity")),
        participants=tuple(participants),
        interpretations=tuple(c for c in map(_coded, interpretations) if c is not None),
        ranges=tuple(
            value
            for reference in _children(element, "referenceRange")
            for observed in _children(reference, "observationRange")
            if (value := _range(observed, narrative)) is not None
        ),
        other_codes=tuple(
            dict.fromkeys(c for e in _own(element) if e not in taken and (c := _other_code(e)) is not None)
        ),
        related=tuple(related),
    )


def _own(element: Any) -> Iterator[Any]:
    """Everything below ``element`` that does not belong to another statement."""
    for child in element:
        if isinstance(child.tag, str) and _local(child) not in _CLASSES:
            yield child
            yield from _own(child)


def _other_code(element: Any) -> Coded | None:
    coded = None if _local(element) == "translation" else _coded(element)
    return coded if coded is not None and (coded.system or coded.translations) else None


def _product(element: Any) -> Any:
    """The code of the drug, vaccine or device that is given."""
    for name in ("consumable", "product"):
        product = _child(_child(element, name), "manufacturedProduct")
        for kind in ("manufacturedMaterial", "manufacturedLabeledDrug"):
            material = _child(product, kind)
            if material is not None:
                code = _child(material, "code")
                return material if code is None else code
    return None


def _product_name(code: Any) -> str:
    if code is None:
        return ""
    material = code.getparent() if _local(code) == "code" else code
    return next((_text(child) for child in material if _local(child) in ("name", "desc") and _text(child)), "")


def _time(element: Any) -> Period:
    """The first time that is a moment or an interval; how often something is taken is left to the narrative."""
    for time in _children(element, "effectiveTime"):
        point = _attribute(time, "value")
        if point:
            return Period(point, point)
        low, high = (_attribute(_child(time, end), "value") for end in ("low", "high"))
        if low or high:
            return Period(low, high)
    return Period()


def _value(element: Any, narrative: Mapping[str, Any]) -> Value | None:
    kind = element.get(XSI_TYPE, "").rpartition(":")[2]
    coded = _coded(element) if kind in _CODED_TYPES or (not kind and element.get("code")) else None
    text = _original(element, narrative) or _narrated(element, narrative)
    if kind.startswith("RTO"):
        parts = [_child(element, name) for name in ("numerator", "denominator")]
        text = " / ".join(f"{_attribute(p, 'value')} {_attribute(p, 'unit')}".strip() for p in parts)
    low, high = _child(element, "low"), _child(element, "high")
    unit = next((u for e in (element, low, high) if (u := _attribute(e, "unit"))), "")
    value = Value(
        type=kind,
        value=_attribute(element, "value"),
        unit=unit,
        low=_attribute(low, "value"),
        high=_attribute(high, "value"),
        text=text if element.get("mediaType", "text/").startswith("text/") else "",
        coded=coded,
    )
    return None if value == Value(kind) else value


def _quantity(element: Any) -> Value | None:
    if element is None:
        return None
    center = _child(element, "center")
    source = element if center is None else center
    value = Value(
        "PQ",
        value=_attribute(source, "value"),
        unit=_attribute(source, "unit"),
        low=_attribute(_child(element, "low"), "value"),
        high=_attribute(_child(element, "high"), "value"),
    )
    return None if value == Value("PQ") else value


def _range(observed: Any, narrative: Mapping[str, Any]) -> Value | None:
    element = _child(observed, "value")
    text = _narrated(_child(observed, "text"), narrative)
    value = None if element is None else _value(element, narrative)
    if value is None:
        return Value("ST", text=text) if text else None
    return Value(value.type, value.value, value.unit, value.low, value.high, value.text or text, value.coded)


def _coded(element: Any) -> Coded | None:
    """As in the header; a nullFlavor with a translation keeps the translation."""
    if element is None:
        return None
    translations = tuple(v for v in map(_coded, _children(element, "translation")) if v is not None)
    code = "" if "nullFlavor" in element.attrib else element.get("code", "").strip()
    if not code and not translations:
        return None
    return Coded(
        code=code,
        system=element.get("codeSystem", "").strip(),
        display=element.get("displayName", "").strip(),
        system_name=element.get("codeSystemName", "").strip(),
        translations=translations,
    )


def _original(element: Any, narrative: Mapping[str, Any]) -> str:
    return _narrated(_child(element, "originalText"), narrative)


def _narrated(text: Any, narrative: Mapping[str, Any]) -> str:
    """Text as such, or the piece of the narrative that it refers to."""
    if text is None:
        return ""
    reference = _child(text, "reference")
    if reference is not None:
        target = narrative.get(reference.get("value", "").removeprefix("#"))
        if target is not None:
            return flat_text(target)
    return flat_text(text)


def _template_ids(element: Any) -> tuple[str, ...]:
    return tuple(root for t in _children(element, "templateId") if (root := t.get("root", "").strip()))


def _local(element: Any) -> str:
    tag = element.tag
    return tag.removeprefix(f"{{{CDA}}}") if isinstance(tag, str) else ""


def _children(parent: Any, name: str) -> Iterator[Any]:
    return iter(()) if parent is None else parent.iterchildren(f"{{{CDA}}}{name}")


def _child(parent: Any, name: str) -> Any:
    return None if parent is None else parent.find(f"{{{CDA}}}{name}")


def _attribute(element: Any, name: str) -> str:
    return "" if element is None or "nullFlavor" in element.attrib else element.get(name, "").strip()


def _text(element: Any) -> str:
    return "" if element is None else flat_text(element)

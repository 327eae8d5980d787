"""XDS metadata in ebXML RIM 3.0, both ways, from the attribute tables (ITI TF-3:4.2.1, 4.2.3, 4.2.5).

Reading collects every problem of a submission instead of stopping at the first. Writing makes *renderings*: the XML of
one object in pieces around the values that change after registration, separated by NUL, which XML cannot contain. An
answer is made by splicing the current values between the pieces; see :func:`splice_entry` and its siblings.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from functools import lru_cache
from itertools import chain, islice
from typing import Any, TypeVar

from obieg.codes.load import toml
from obieg.domain.attributes import DOCUMENT_ENTRY, FOLDER, SUBMISSION_SET, Attribute
from obieg.domain.documents import (
    Annotation,
    Association,
    AssociationType,
    Author,
    AvailabilityStatus,
    Code,
    DocumentEntry,
    EntryType,
    Folder,
    Localized,
    Slot,
    Submission,
    SubmissionSet,
)
from obieg.domain.problems import Finding
from obieg.wire.xml import XmlRefused, attribute, parse_message, text

# Raise it when what the functions ``render_…`` write changes: ``obieg db rerender`` then writes stored renderings anew.
RENDERING_VERSION = 1

RIM = "urn:oasis:names:tc:ebxml-regrep:xsd:rim:3.0"
_R = f"{{{RIM}}}"
_XML_LANG = "{http://www.w3.org/XML/1998/namespace}lang"
_SLOT, _VALUE_LIST, _VALUE = _R + "Slot", _R + "ValueList", _R + "Value"
_NAME, _DESCRIPTION, _VERSION = _R + "Name", _R + "Description", _R + "VersionInfo"
_CLASSIFICATION, _EXTERNAL_IDENTIFIER = _R + "Classification", _R + "ExternalIdentifier"

_CODES = toml("ebrim.toml")
ENTRY_TYPES: dict[str, str] = _CODES["object_type"]
_ENTRY_TYPE_OF = {urn: EntryType(name) for name, urn in ENTRY_TYPES.items()}
ASSOCIATION_TYPES: dict[str, str] = _CODES["association_type"]
ASSOCIATION_TYPE_OF = {urn: AssociationType(name) for name, urn in ASSOCIATION_TYPES.items()}
_NODES: dict[str, str] = _CODES["classification_node"]
_DOCUMENTATION_SCHEME: str = _CODES["association"]["documentation_scheme"]
_SET_STATUS_SLOT: str = _CODES["association"]["submission_set_status_slot"]
_ANNOTATIONS: dict[str, str] = _CODES["annotation"]
STATUS_PREFIX: str = _CODES["status"]["prefix"]
_AUTHOR_SLOTS: dict[str, str] = _CODES["author"]
_AUTHOR_FIELD_OF = {slot: field for field, slot in _AUTHOR_SLOTS.items()}
_OBJECT_TYPES = "urn:oasis:names:tc:ebxml-regrep:ObjectType:RegistryObject:"

# Of one slot; what is registered is given out again with every answer.
VALUES_MAX = 1_000
# Of one object, its attributes together.
PARTS_MAX = 5_000

Object = TypeVar("Object", DocumentEntry, SubmissionSet, Folder)
Replaced = TypeVar("Replaced", bound=DocumentEntry | SubmissionSet | Folder | Association)


# reading ---------------------------------------------------------------------------------------------------------


class _Raw:
    """One registry object as ebRIM carries it, before the tables give its parts a meaning."""

    __slots__ = ("author", "classified", "description", "element", "identifiers", "name", "nodes", "slots", "where")

    def __init__(self, element: Any, where: str, findings: list[Finding]) -> None:
        self.element = element
        self.where = where
        self.slots: dict[str, tuple[str, ...]] = {}
        self.classified: dict[str, list[Any]] = {}
        self.identifiers: dict[str, str] = {}
        self.nodes: list[str] = []
        self.name: Localized = ()
        self.description: Localized = ()
        if len(element) > PARTS_MAX:
            findings.append(_bad(where, f"more than {PARTS_MAX} slots, classifications and identifiers"))
            return
        for child in element:
            tag = child.tag
            if tag == _SLOT:
                _add_slot(child, self.slots, where, findings)
            elif tag == _CLASSIFICATION:
                scheme = child.get("classificationScheme")
                if scheme:
                    self.classified.setdefault(scheme, []).append(child)
                else:
                    self.nodes.append(child.get("classificationNode", ""))
                owner = child.get("classifiedObject")
                if owner is not None and owner != element.get("id"):
                    findings.append(_bad(where, f"a Classification says that it belongs to {owner[:80]!r}"))
            elif tag == _EXTERNAL_IDENTIFIER:
                scheme = child.get("identificationScheme", "")
                if scheme in self.identifiers:
                    findings.append(_bad(where, f"ExternalIdentifier {scheme} is given twice"))
                owner = child.get("registryObject")
                if owner is not None and owner != element.get("id"):
                    findings.append(_bad(where, f"an ExternalIdentifier says that it belongs to {owner[:80]!r}"))
                self.identifiers[scheme] = child.get("value", "").strip()
            elif tag == _NAME:
                self.name = _localized(child)
            elif tag == _DESCRIPTION:
                self.description = _localized(child)


def _bad(where: str, detail: str) -> Finding:
    return Finding("XDSRegistryMetadataError", detail, where)


def _slot_values(slot: Any) -> tuple[str, ...]:
    # One list with one value is nearly every slot, and lxml's indexing is three times as fast as its iteration.
    if len(slot) == 1:
        values = slot[0]
        if len(values) == 1 and values.tag == _VALUE_LIST:
            return ((values[0].text or "").strip(),)
    values = chain.from_iterable(values for values in slot if values.tag == _VALUE_LIST)
    return tuple([(value.text or "").strip() for value in islice(values, VALUES_MAX + 1)])


def _add_slot(slot: Any, slots: dict[str, tuple[str, ...]], where: str, findings: list[Finding]) -> None:
    name = slot.get("name", "")
    if name in slots:
        findings.append(_bad(where, f"slot {name} is given twice"))
    values = slots[name] = _slot_values(slot)
    if len(values) > VALUES_MAX:
        slots[name] = values[:1]
        findings.append(_bad(where, f"slot {name} has more than {VALUES_MAX} values"))


def _localized(element: Any) -> Localized:
    if not len(element):
        return ()
    if len(element) == 1:
        only = element[0]
        value = only.get("value")
        return ((only.get(_XML_LANG, ""), value),) if value else ()
    return tuple([(s.get(_XML_LANG, ""), s.get("value", "")) for s in element if s.get("value")])


def _code(element: Any, where: str, name: str, findings: list[Finding]) -> Code:
    scheme = ""
    display: Localized = ()
    for child in element:
        if child.tag == _SLOT and child.get("name") == "codingScheme":
            values = _slot_values(child)
            scheme = values[0] if values else ""
        elif child.tag == _NAME:
            display = _localized(child)
    code = element.get("nodeRepresentation", "").strip()
    if not code or not scheme:
        findings.append(_bad(where, f"{name} needs nodeRepresentation and a codingScheme slot"))
    return Code(code, scheme, display)


def _author(element: Any, where: str, findings: list[Finding]) -> Author:
    slots: dict[str, tuple[str, ...]] = {}
    for child in element:
        if child.tag == _SLOT:
            _add_slot(child, slots, where, findings)
    fields = {field: slots.pop(slot, ()) for field, slot in _AUTHOR_SLOTS.items()}
    return Author(**fields, extra=_extra(slots, where, findings))


def _extra(slots: dict[str, tuple[str, ...]], where: str, findings: list[Finding]) -> tuple[Slot, ...]:
    """What no table knows: kept when its name is a URN (ITI TF-3:4.2.3.1.6), refused otherwise."""
    for name in slots:
        if not name.startswith("urn:"):
            findings.append(_bad(where, f"slot {name!r} is unknown; extra metadata must have a name that is a URN"))
    return tuple([Slot(name, values) for name, values in slots.items()])


_LIMITED: dict[Any, str] = {
    DocumentEntry: _NODES["limited_metadata_entry"],
    SubmissionSet: _NODES["limited_metadata_submission_set"],
    Folder: _NODES["limited_metadata_folder"],
}


def _object(make: Callable[..., Object], table: Sequence[Attribute], raw: _Raw, findings: list[Finding]) -> Object:
    element, where = raw.element, raw.where
    fields: dict[str, Any] = {}
    for row in table:
        carrier = row.carrier
        if carrier == "slot":
            values = raw.slots.pop(row.key, None)
            if values is None:
                continue
            if row.max == 0:
                fields[row.field] = values
            elif len(values) == 1:
                fields[row.field] = values[0] or None
            elif values:
                findings.append(_bad(where, f"{row.name} has {len(values)} values, at most one is allowed"))
        elif carrier == "code":
            found = raw.classified.get(row.key)
            if not found:
                continue
            codes = [_code(c, where, row.name, findings) for c in found]
            if row.max == 0:
                fields[row.field] = tuple(codes)
            else:
                if len(codes) > 1:
                    findings.append(_bad(where, f"{row.name} is given {len(codes)} times, at most once is allowed"))
                fields[row.field] = codes[0]
        elif carrier == "external_identifier":
            fields[row.field] = raw.identifiers.get(row.key) or None
        elif carrier == "author":
            found = raw.classified.get(row.key)
            if found:
                fields[row.field] = tuple([_author(a, where, findings) for a in found])
        elif carrier == "name":
            fields[row.field] = raw.name
        elif carrier == "description":
            fields[row.field] = raw.description
        elif row.key != "id":
            fields[row.field] = element.get(row.key, "").strip()
    limited = _LIMITED[make]
    return make(
        entry_uuid=element.get("id", ""),
        home_community_id=element.get("home") or None,
        limited_metadata=limited in raw.nodes,
        extra=_extra(raw.slots, where, findings) if raw.slots else (),
        **fields,
    )


def _versioned(element: Any) -> dict[str, Any]:
    fields: dict[str, Any] = {"logical_id": element.get("lid") or None}
    version = element.find(_VERSION)
    named = version.get("versionName", "") if version is not None else ""
    if named.isascii() and named.isdecimal() and len(named) < _VERSION_DIGITS:
        fields["version"] = int(named)
    return fields


_VERSION_DIGITS = 10  # fewer than these fit into the integer that a version is kept in
_PROPAGATE = {"yes": True, "no": False}


def _annotation(slots: dict[str, tuple[str, ...]], where: str, findings: list[Finding]) -> Annotation | None:
    """What an update says of the object at the other end (ITI TF-2:3.57.4.1.3.1.3); its slots are taken out."""
    given = {field: slots.pop(slot) for field, slot in _ANNOTATIONS.items() if slot in slots}
    if not given:
        return None
    fields: dict[str, Any] = {}
    for field, values in given.items():
        value = values[0] if len(values) == 1 else ""
        if field == "previous_version":
            fields[field] = int(value) if value.isascii() and value.isdecimal() and len(value) < 10 else None
        elif field == "propagate":
            fields[field] = _PROPAGATE.get(value)
        else:
            fields[field] = availability_status(value)
        if fields[field] is None:
            detail = f"{_ANNOTATIONS[field]} {values[0][:80] if values else ''!r} is not what this slot can say"
            findings.append(Finding("XDSMetadataAnnotationError", detail, where))
            fields.pop(field)
    return Annotation(**fields)


def _association(element: Any, where: str, findings: list[Finding], *, annotated: bool = False) -> Association | None:
    urn = element.get("associationType", "")
    kind = ASSOCIATION_TYPE_OF.get(urn)
    if kind is None:
        findings.append(_bad(where, f"associationType {urn!r} is unknown"))
        return None
    raw = _Raw(element, where, findings)
    status = raw.slots.pop(_SET_STATUS_SLOT, ())
    documentation = raw.classified.get(_DOCUMENTATION_SCHEME)
    annotation = _annotation(raw.slots, where, findings) if annotated and raw.slots else None
    return Association(
        entry_uuid=element.get("id", ""),
        type=kind,
        source=element.get("sourceObject", ""),
        target=element.get("targetObject", ""),
        submission_set_status=status[0] if status else None,
        documentation=_code(documentation[0], where, "association documentation", findings) if documentation else None,
        annotation=annotation,
        home_community_id=element.get("home") or None,
        extra=_extra(raw.slots, where, findings) if raw.slots else (),
    )


def _entry(element: Any, findings: list[Finding]) -> DocumentEntry:
    where = f"DocumentEntry {element.get('id', '')}"
    urn = element.get("objectType", "")
    kind = _ENTRY_TYPE_OF.get(urn)
    if kind is None:
        findings.append(_bad(where, f"objectType {urn!r} is not that of a DocumentEntry"))
        kind = EntryType.STABLE
    entry = _object(DocumentEntry, DOCUMENT_ENTRY, _Raw(element, where, findings), findings)
    if kind is not EntryType.STABLE or element.get("lid") or element.find(_VERSION) is not None:
        entry = _replace(entry, entry_type=kind, **_versioned(element))
    return entry


def read_entries(answer: Any) -> list[DocumentEntry]:
    """The DocumentEntries in an answer to a query, as they stand in the registry that gave it."""
    entries = []
    for element in answer.iter(_R + "ExtrinsicObject"):
        status = availability_status(element.get("status", "")) or AvailabilityStatus.APPROVED
        entries.append(_replace(_entry(element, []), availability_status=status))
    return entries


def read_submission(object_list: Any, findings: list[Finding], *, annotated: bool = False) -> Submission | None:
    """The submission in a ``rim:RegistryObjectList``; what is wrong with it is added to ``findings``.

    ``annotated``: an update, whose associations say what is to be done. None when there is not exactly one submission
    set.
    """
    sets, entries, folders, associations = _objects(object_list, findings, annotated=annotated)
    if len(sets) != 1:
        findings.append(_bad("RegistryObjectList", f"needs exactly one submission set, has {len(sets)}"))
        return None
    return Submission(sets[0], tuple(entries), tuple(folders), tuple(associations))


def read_rendering(
    kind: str, rendering: bytes, status: str, version: int
) -> DocumentEntry | SubmissionSet | Folder | Association:
    """A registered object from its rendering, without patientId, lastUpdateTime and home; ``kind`` is D, S, F or A."""
    if kind == "D":
        xml = splice_entry(rendering, status, b"", version, b"")
    elif kind == "S":
        xml = splice_submission_set(rendering, status, b"", b"")
    elif kind == "F":
        xml = splice_folder(rendering, status, b"", "", version, b"")
    else:
        xml = splice_association(rendering, status, b"")
    root = parse_message(b'<rim:RegistryObjectList xmlns:rim="%b">%b</rim:RegistryObjectList>' % (RIM.encode(), xml))
    found = AvailabilityStatus(_STATUS_BYTES[status].decode())
    sets, entries, folders, associations = _objects(root, [], annotated=True)
    [value] = chain[DocumentEntry | SubmissionSet | Folder | Association](sets, entries, folders, associations)
    return _replace(value, availability_status=found)


def _objects(
    object_list: Any, findings: list[Finding], *, annotated: bool
) -> tuple[list[SubmissionSet], list[DocumentEntry], list[Folder], list[Association]]:
    packages: list[_Raw] = []
    entries: list[DocumentEntry] = []
    associations: list[Association] = []
    nodes: dict[str, list[str]] = {}
    for element in object_list:
        tag = element.tag
        identifier = element.get("id", "")
        if tag == _R + "ExtrinsicObject":
            entries.append(_entry(element, findings))
        elif tag == _R + "RegistryPackage":
            packages.append(_Raw(element, f"RegistryPackage {identifier}", findings))
        elif tag == _R + "Association":
            association = _association(element, f"Association {identifier}", findings, annotated=annotated)
            if association is not None:
                associations.append(association)
        elif tag == _CLASSIFICATION:
            nodes.setdefault(element.get("classifiedObject", ""), []).append(element.get("classificationNode", ""))
        elif tag != _R + "ObjectRef":
            findings.append(_bad("RegistryObjectList", f"unexpected element {tag}"))
    sets: list[SubmissionSet] = []
    folders: list[Folder] = []
    for raw in packages:
        raw.nodes += nodes.get(raw.element.get("id", ""), [])
        is_set, is_folder = _NODES["submission_set"] in raw.nodes, _NODES["folder"] in raw.nodes
        if is_set == is_folder:
            findings.append(_bad(raw.where, "must be classified as a submission set or as a folder"))
        elif is_set:
            sets.append(_object(SubmissionSet, SUBMISSION_SET, raw, findings))
        else:
            folder = _object(Folder, FOLDER, raw, findings)
            folders.append(_replace(folder, **_versioned(raw.element)))
    return sets, entries, folders, associations


def _replace(value: Replaced, **changes: Any) -> Replaced:
    import msgspec  # noqa: PLC0415 - only for the rarer objects

    return msgspec.structs.replace(value, **changes)


# writing ---------------------------------------------------------------------------------------------------------


class IdSource:
    """Ids for classifications and identifiers inside objects: a random prefix and a counter.

    A submission's own inner ids are never kept: clients reuse them, and then they are no longer unique.
    """

    def __init__(self, uuid: str) -> None:
        """``uuid`` is a fresh random UUID; its first 24 characters are used."""
        self._prefix = f"urn:uuid:{uuid[:24]}"
        self._next = 0

    def __call__(self) -> str:
        """The next id, as urn:uuid:."""
        self._next += 1
        return f"{self._prefix}{self._next:012x}"


def _slot(name: str, values: Sequence[str]) -> str:
    """``name`` is from a table or escaped already."""
    if len(values) == 1:
        inner = f"<rim:Value>{text(values[0])}</rim:Value>"
    else:
        inner = "".join([f"<rim:Value>{text(v)}</rim:Value>" for v in values])
    return f'<rim:Slot name="{name}"><rim:ValueList>{inner}</rim:ValueList></rim:Slot>'


def _extra_slots(slots: Sequence[Slot]) -> list[str]:
    return [_slot(attribute(s.name), s.values) for s in slots]


def _international(tag: str, value: Localized) -> str:
    inner = "".join(
        [
            f"<rim:LocalizedString{f' xml:lang={chr(34)}{attribute(lang)}{chr(34)}' if lang else ''} "
            f'value="{attribute(v)}"/>'
            for lang, v in value
        ]
    )
    return f"<rim:{tag}>{inner}</rim:{tag}>"


def _classification(owner: str, scheme: str, representation: str, inner: str, new_id: IdSource) -> str:
    return (
        f'<rim:Classification id="{new_id()}" objectType="{_OBJECT_TYPES}Classification" '
        f'classificationScheme="{scheme}" classifiedObject="{owner}" '
        f'nodeRepresentation="{attribute(representation)}">{inner}</rim:Classification>'
    )


# An affinity domain uses the same few hundred codes again and again.
@lru_cache(maxsize=4096)
def _code_inner(code: Code) -> str:
    inner = _slot("codingScheme", (code.scheme,))
    return inner + _international("Name", code.display) if code.display else inner


def _code_xml(owner: str, scheme: str, code: Code, new_id: IdSource) -> str:
    return _classification(owner, scheme, code.code, _code_inner(code), new_id)


def _author_xml(owner: str, scheme: str, author: Author, new_id: IdSource) -> str:
    slots = [_slot(slot, values) for field, slot in _AUTHOR_SLOTS.items() if (values := getattr(author, field))]
    slots += _extra_slots(author.extra)
    return _classification(owner, scheme, "", "".join(slots), new_id)


def _identifier(owner: str, row: Attribute, value: str, new_id: IdSource) -> str:
    return (
        f'<rim:ExternalIdentifier id="{new_id()}" objectType="{_OBJECT_TYPES}ExternalIdentifier" '
        f'registryObject="{owner}" identificationScheme="{row.key}" value="{value}">'
        f'<rim:Name><rim:LocalizedString value="{row.display}"/></rim:Name></rim:ExternalIdentifier>'
    )


# Marks of the volatile values, by field; all become NUL.
_VOLATILE = "\0"


def _parts(value: Any, table: Sequence[Attribute], new_id: IdSource) -> Iterator[tuple[str, str]]:
    """(carrier, XML) of every attribute that has a value."""
    owner = attribute(value.entry_uuid)
    for row in table:
        found = getattr(value, row.field)
        if row.field in ("patient_id", "last_update_time"):
            if row.carrier == "slot":
                yield "slot", _slot(row.key, ("",)).replace("<rim:Value>", f"<rim:Value>{_VOLATILE}")
            else:
                yield "external_identifier", _identifier(owner, row, _VOLATILE, new_id)
        elif not found:
            continue
        elif row.carrier == "slot":
            yield "slot", _slot(row.key, found if row.max == 0 else (found,))
        elif row.carrier == "code":
            codes = found if row.max == 0 else (found,)
            yield "classification", "".join([_code_xml(owner, row.key, c, new_id) for c in codes])
        elif row.carrier == "author":
            yield "classification", "".join([_author_xml(owner, row.key, a, new_id) for a in found])
        elif row.carrier == "external_identifier":
            yield "external_identifier", _identifier(owner, row, attribute(found), new_id)
        elif row.carrier in ("name", "description"):
            yield row.carrier, _international("Name" if row.carrier == "name" else "Description", found)


def _body(value: Any, table: Sequence[Attribute], new_id: IdSource, *, version: bool, node: str = "") -> str:
    by_carrier: dict[str, list[str]] = {
        "slot": [], "name": [], "description": [], "classification": [], "external_identifier": []
    }  # fmt: skip
    for carrier, xml in _parts(value, table, new_id):
        by_carrier[carrier].append(xml)
    by_carrier["slot"] += _extra_slots(value.extra)
    if version:
        by_carrier["description"].append(f'<rim:VersionInfo versionName="{_VOLATILE}"/>')
    nodes = [node] if node else []
    if value.limited_metadata:
        nodes.append(_LIMITED[type(value)])
    owner = attribute(value.entry_uuid)
    by_carrier["classification"] += [
        f'<rim:Classification id="{new_id()}" objectType="{_OBJECT_TYPES}Classification" '
        f'classifiedObject="{owner}" classificationNode="{n}"/>'
        for n in nodes
    ]
    return "".join(["".join(xml) for xml in by_carrier.values()])


def render_entry(entry: DocumentEntry, new_id: IdSource) -> bytes:
    """Volatile, in order: status, home, version, patientId."""
    return (
        f'<rim:ExtrinsicObject id="{attribute(entry.entry_uuid)}" '
        f'lid="{attribute(entry.logical_id or entry.entry_uuid)}" '
        f'objectType="{ENTRY_TYPES[entry.entry_type]}" mimeType="{attribute(entry.mime_type)}" '
        f'isOpaque="false" status="{STATUS_PREFIX}{_VOLATILE}"{_VOLATILE}>'
        f"{_body(entry, DOCUMENT_ENTRY, new_id, version=True)}</rim:ExtrinsicObject>"
    ).encode()


def render_submission_set(submission_set: SubmissionSet, new_id: IdSource) -> bytes:
    """Volatile, in order: status, home, patientId."""
    body = _body(submission_set, SUBMISSION_SET, new_id, version=False, node=_NODES["submission_set"])
    return (
        f'<rim:RegistryPackage id="{attribute(submission_set.entry_uuid)}" '
        f'objectType="{_OBJECT_TYPES}RegistryPackage" status="{STATUS_PREFIX}{_VOLATILE}"{_VOLATILE}>'
        f"{body}</rim:RegistryPackage>"
    ).encode()


def render_folder(folder: Folder, new_id: IdSource) -> bytes:
    """Volatile, in order: status, home, lastUpdateTime, version, patientId."""
    body = _body(folder, FOLDER, new_id, version=True, node=_NODES["folder"])
    return (
        f'<rim:RegistryPackage id="{attribute(folder.entry_uuid)}" '
        f'lid="{attribute(folder.logical_id or folder.entry_uuid)}" '
        f'objectType="{_OBJECT_TYPES}RegistryPackage" status="{STATUS_PREFIX}{_VOLATILE}"{_VOLATILE}>'
        f"{body}</rim:RegistryPackage>"
    ).encode()


def _annotation_slots(annotation: Annotation) -> Iterator[str]:
    if annotation.previous_version is not None:
        yield _slot(_ANNOTATIONS["previous_version"], (str(annotation.previous_version),))
        yield _slot(_ANNOTATIONS["propagate"], ("yes" if annotation.propagate else "no",))
    for field in ("original_status", "new_status"):
        status = getattr(annotation, field)
        if status is not None:
            yield _slot(_ANNOTATIONS[field], (STATUS_PREFIX + status.value,))


def render_association(association: Association, new_id: IdSource) -> bytes:
    """Volatile, in order: status, home."""
    owner = attribute(association.entry_uuid)
    slots = []
    if association.submission_set_status:
        slots.append(_slot(_SET_STATUS_SLOT, (association.submission_set_status,)))
    if association.annotation is not None:
        slots += _annotation_slots(association.annotation)
    slots += _extra_slots(association.extra)
    if association.documentation is not None:
        slots.append(_code_xml(owner, _DOCUMENTATION_SCHEME, association.documentation, new_id))
    return (
        f'<rim:Association id="{owner}" objectType="{_OBJECT_TYPES}Association" '
        f'associationType="{ASSOCIATION_TYPES[association.type]}" sourceObject="{attribute(association.source)}" '
        f'targetObject="{attribute(association.target)}" status="{STATUS_PREFIX}{_VOLATILE}"{_VOLATILE}>'
        f"{''.join(slots)}</rim:Association>"
    ).encode()


_INNER_ID = re.compile(rb' id="(urn:uuid:[^"]+)"')


def renew_rendering(kind: str, rendering: bytes) -> bytes:
    """A stored rendering of any version as this version writes it, with the ids of its parts; ``kind`` is D, S, F or A.

    Raises ValueError where it cannot be read, or would be read as something else afterwards.
    """
    try:
        value = read_rendering(kind, rendering, "A", 1)
        owner = value.entry_uuid
        kept = sorted({found.decode() for found in _INNER_ID.findall(rendering)} - {owner})
        new_ids: Any = chain(kept, iter(IdSource(owner[9:]), None))
        renewed = _RENDER[kind](value, new_ids.__next__)
        again = read_rendering(kind, renewed, "A", 1)
    except (XmlRefused, LookupError, ValueError) as error:
        raise ValueError(f"cannot be read: {error}") from error
    if again != value:
        raise ValueError("would change its meaning")
    return renewed


_RENDER: dict[str, Callable[[Any, Any], bytes]] = {
    "D": render_entry, "S": render_submission_set, "F": render_folder, "A": render_association
}  # fmt: skip

_STATUS_BYTES = {"A": b"Approved", "D": b"Deprecated", "Approved": b"Approved", "Deprecated": b"Deprecated"}


def home_attribute(home_community_id: str | None) -> bytes:
    """The ``home`` attribute as it is spliced in, with its leading space; empty when there is none."""
    return f' home="{attribute(home_community_id)}"'.encode() if home_community_id else b""


def splice(rendering: bytes, *values: bytes) -> bytes:
    """The XML of an object: the pieces of its rendering with the current values between them."""
    pieces = rendering.split(b"\0")
    joined = [pieces[0]]
    for value, piece in zip(values, pieces[1:], strict=True):
        joined += (value, piece)
    return b"".join(joined)


def splice_entry(rendering: bytes, status: str, home: bytes, version: int, patient_id: bytes) -> bytes:
    """``home`` is from :func:`home_attribute`; ``patient_id`` is a CX, escaped for an attribute."""
    a, b, c, d, e = rendering.split(b"\0")
    return b"".join((a, _STATUS_BYTES[status], b, home, c, b"%d" % version, d, patient_id, e))


def splice_submission_set(rendering: bytes, status: str, home: bytes, patient_id: bytes) -> bytes:
    """See :func:`splice_entry`."""
    return splice(rendering, _STATUS_BYTES[status], home, patient_id)


def splice_folder(
    rendering: bytes, status: str, home: bytes, last_update_time: str, version: int, patient_id: bytes
) -> bytes:
    """See :func:`splice_entry`."""
    return splice(rendering, _STATUS_BYTES[status], home, last_update_time.encode(), b"%d" % version, patient_id)


def splice_association(rendering: bytes, status: str, home: bytes) -> bytes:
    """See :func:`splice_entry`."""
    return splice(rendering, _STATUS_BYTES[status], home)


def write_submission(submission: Submission, new_id: IdSource) -> bytes:
    """A ``rim:RegistryObjectList`` for ITI-41 and ITI-42 requests; the prefix ``rim`` is declared above it."""
    parts = [b"<rim:RegistryObjectList>"]
    for entry in submission.entries:
        home = home_attribute(entry.home_community_id)
        cx = attribute(entry.patient_id or "").encode()
        parts.append(splice_entry(render_entry(entry, new_id), entry.availability_status, home, entry.version, cx))
    for folder in submission.folders:
        parts.append(
            splice_folder(
                render_folder(folder, new_id),
                folder.availability_status,
                home_attribute(folder.home_community_id),
                text(folder.last_update_time or submission.submission_set.submission_time or ""),
                folder.version,
                attribute(folder.patient_id or "").encode(),
            )
        )
    sset = submission.submission_set
    parts.append(
        splice_submission_set(
            render_submission_set(sset, new_id),
            sset.availability_status,
            home_attribute(sset.home_community_id),
            attribute(sset.patient_id or "").encode(),
        )
    )
    parts += [
        splice_association(render_association(a, new_id), a.availability_status, home_attribute(a.home_community_id))
        for a in submission.associations
    ]
    parts.append(b"</rim:RegistryObjectList>")
    return b"".join(parts)


_STATUS_OF = {STATUS_PREFIX + status.value: status for status in AvailabilityStatus}


def availability_status(urn: str) -> AvailabilityStatus | None:
    """The status that ``urn`` names."""
    return _STATUS_OF.get(urn)

"""A patient's record as the patient's pages show it, read from the FHIR resources that the node answers with.

Nothing here asks or decides: what is not in the answers is not known.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import UTC, date, datetime
from html.parser import HTMLParser
from typing import Any, NamedTuple

from obieg.codes.load import toml
from obieg.web.figures import between, number

_TABLE = toml("patient_portal.toml")
KINDS: dict[str, dict[str, Any]] = _TABLE["kinds"]
OWN = "own"  # the kind of documents that patients add
SECTIONS = frozenset(_TABLE["sections"]["named"])
_ABSENT = "absent-unknown"  # what the code system of IPS for "nothing is known" is named after
_OLDEST = datetime(1900, 1, 1, tzinfo=UTC)


# whose record it is --------------------------------------------------------------------------------------------------


class Subject(NamedTuple):
    """Somebody whose record may be shown."""

    id: str  # logical id of the Patient
    name: str
    given: str
    born: str
    basis: str  # patient, guardian, authorised, close
    until: datetime | None
    unread: int  # notices
    prefix: str  # of the addresses of their pages

    @property
    def own(self) -> bool:
        """Whether it is who is logged in."""
        return self.basis == "patient"

    def age(self, today: date) -> int | None:
        """In complete years."""
        try:
            born = date.fromisoformat(self.born)
        except ValueError:
            return None
        return today.year - born.year - ((today.month, today.day) < (born.month, born.day))


def subjects(parameters: Mapping[str, Any], home: str) -> tuple[Subject, ...]:
    """Of the answer of ``Patient/$represented``; ``home`` is the address of who is logged in."""
    found = []
    for given in parameters.get("parameter", ()):
        part = values(given["part"])
        id_ = part["patient"]["reference"].partition("/")[2]
        basis = part["basis"]
        found.append(
            Subject(
                id_,
                part["patient"].get("display", ""),
                part.get("given", ""),
                part.get("birthDate", ""),
                basis,
                moment(part.get("until", "")),
                part.get("unread", 0),
                home if basis == "patient" else f"{home}/p/{id_}",
            )
        )
    return tuple(found)


def values(parts: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Parts of a parameter by their names."""
    return {part["name"]: next((v for k, v in part.items() if k.startswith("value")), "") for part in parts}


# documents -----------------------------------------------------------------------------------------------------------


class Document(NamedTuple):
    """A document as a row of the timeline and as the head of its page."""

    id: str
    unique_id: str
    title: str  # as its author calls it
    kind: str  # a key of KINDS
    class_name: str  # as its affinity domain calls its class
    class_coding: Mapping[str, str]
    when: datetime  # of the service, else of the document
    made: str
    begin: str
    end: str
    received: str
    author: str
    facility: str
    facility_id: str  # system|value; "" where it names none
    unit: str
    language: str
    content_type: str
    size: int
    labels: tuple[str, ...]
    current: bool
    replaces: tuple[str, ...]  # ids of documents whose place it takes

    @property
    def own(self) -> bool:
        """Whether the patient, or who acts for them, has added it."""
        return self.kind == OWN

    @property
    def icon(self) -> str:
        """Of its kind."""
        return str(KINDS[self.kind]["icon"])

    @property
    def date(self) -> datetime | str:
        """By which it stands on the timeline, as exact as it is said."""
        said = self.made or self.begin or self.received
        return self.when if "T" in said else said

    @property
    def words(self) -> str:
        """What a search looks in."""
        return f"{self.title} {self.class_name} {self.author} {self.facility} {self.unit}".casefold()


def documents(bundle: Mapping[str, Any]) -> list[Document]:
    """Of a searchset, the newest first."""
    found = [document(r) for r in resources(bundle) if r["resourceType"] == "DocumentReference"]
    return sorted(found, key=lambda d: (d.when, d.id), reverse=True)


def document(resource: Mapping[str, Any]) -> Document:
    """Of a DocumentReference of MHD."""
    contained = {f"#{r['id']}": r for r in resource.get("contained", ())}
    attachment = first(resource.get("content", ())).get("attachment", {})
    period = resource.get("context", {}).get("period", {})
    people, places = _authors(resource, contained)
    place = first(places)
    concept = first(resource.get("category", ()))
    coding = first(concept.get("coding", ()))
    code = coding.get("code", "")
    begin, made, received = period.get("start", ""), attachment.get("creation", ""), resource.get("date", "")
    kind_of = coding_text(resource.get("type", {}))
    return Document(
        id=resource["id"],
        unique_id=unique_id(resource.get("masterIdentifier", {})),
        title=attachment.get("title") or resource.get("description") or coding_text(concept) or kind_of,
        kind=next(kind for kind, row in KINDS.items() if code.startswith(tuple(row["classes"]))),
        class_name=coding_text(concept) or kind_of,
        class_coding=coding,
        when=moment(made) or moment(begin) or moment(received) or _OLDEST,
        made=made,
        begin=begin,
        end=period.get("end", ""),
        received=received,
        author=", ".join(dict.fromkeys(filter(None, map(person_name, people)))),
        facility=place.get("name", ""),
        facility_id=_identifier(place),
        unit=", ".join(dict.fromkeys(p["name"] for p in places[1:] if p.get("name"))),
        language=attachment.get("language", ""),
        content_type=attachment.get("contentType", ""),
        size=attachment.get("size", 0),
        labels=tuple(c.get("code", "") for label in resource.get("securityLabel", ()) for c in label.get("coding", ())),
        current=resource.get("status") == "current",
        replaces=tuple(
            r["target"].get("reference", "").rpartition("/")[2]
            for r in resource.get("relatesTo", ())
            if r.get("code") == "replaces"
        ),
    )


def _authors(
    resource: Mapping[str, Any], contained: Mapping[str, Any]
) -> tuple[list[Mapping[str, Any]], list[Mapping[str, Any]]]:
    """People and organisations; the organisation of a person's role comes first: it is the entity that answers."""
    people: list[Mapping[str, Any]] = []
    places: list[Mapping[str, Any]] = []
    named = [contained.get(a.get("reference", ""), {}) for a in resource.get("author", ())]
    for one in sorted(named, key=lambda r: r.get("resourceType") != "PractitionerRole"):
        match one.get("resourceType"):
            case "PractitionerRole":
                people.append(contained.get(one.get("practitioner", {}).get("reference", ""), {}))
                places.append(contained.get(one.get("organization", {}).get("reference", ""), {}))
            case "Practitioner":
                people.append(one)
            case "Organization":
                places.append(one)
            case _:
                pass
    return people, [p for p in places if p]


def person_name(resource: Mapping[str, Any]) -> str:
    """A name as people say it."""
    name = first(resource.get("name", ()))
    return " ".join([*name.get("prefix", ()), *name.get("given", ()), name.get("family", "")]).strip()


def _identifier(resource: Mapping[str, Any]) -> str:
    given = first(resource.get("identifier", ()))
    return f"{given.get('system', '')}|{given['value']}" if given.get("value") else ""


def unique_id(identifier: Mapping[str, Any]) -> str:
    """The uniqueId that the masterIdentifier of a DocumentReference says; "" of none."""
    root, value = identifier.get("system", "").removeprefix("urn:oid:"), identifier.get("value", "")
    return f"{root}^{value}" if root and not value.startswith("urn:") else value.removeprefix("urn:oid:")


def versions(of: Document, everything: Iterable[Document]) -> list[Document]:
    """All that it takes the place of, and what takes its place, the newest first; itself left out."""
    known = {d.id: d for d in everything}
    near: dict[str, set[str]] = {}
    for each in known.values():
        for other in each.replaces:
            near.setdefault(each.id, set()).add(other)
            near.setdefault(other, set()).add(each.id)
    seen, waiting = {of.id}, [of.id]
    while waiting:
        more = near.get(waiting.pop(), set()) - seen
        seen |= more
        waiting += more
    found = [known[id_] for id_ in seen - {of.id} if id_ in known]
    return sorted(found, key=lambda d: (d.received, d.id), reverse=True)


# from where, since when ---------------------------------------------------------------------------------------------


class Coverage(NamedTuple):
    """What one facility has handed over."""

    facility: str
    first: datetime
    last: datetime
    number: int
    start: int  # where the time begins on a line of 1000


def coverage(found: Iterable[Document], now: datetime) -> list[Coverage]:
    """By facility, the one that has been telling for longest first; of current documents."""
    by: dict[str, list[Document]] = {}
    for each in found:
        if each.current:
            by.setdefault(each.facility, []).append(each)
    spans = sorted((min(d.when for d in ds), max(d.when for d in ds), name, len(ds)) for name, ds in by.items())
    if not spans:
        return []
    begin = spans[0][0]
    whole = max((now - begin).total_seconds(), 1.0)
    return [
        Coverage(name, first, last, number, min(990, round(1000 * (first - begin).total_seconds() / whole)))
        for first, last, name, number in spans
    ]


# the health summary -------------------------------------------------------------------------------------------------


class Item(NamedTuple):
    """A line of a section."""

    what: str
    value: str
    when: str
    note: str
    document: str = ""  # id of one that it stands for


class Section(NamedTuple):
    """A section of a summary."""

    code: str  # LOINC
    title: str  # as the summary calls it
    items: tuple[Item, ...]
    texts: tuple[str, ...]  # of the narrative, where no entries say it

    @property
    def valued(self) -> bool:
        """Whether something was measured or prescribed: a table shows it."""
        return any(item.value or item.note for item in self.items)


def summary(bundle: Mapping[str, Any]) -> tuple[list[Section], str, str]:
    """Sections, when it was made, and its language, of a document of IPS."""
    known = {e.get("fullUrl", ""): e["resource"] for e in bundle.get("entry", ())}
    composition = first(r for r in known.values() if r["resourceType"] == "Composition")
    sections = []
    for given in composition.get("section", ()):
        entries = [known[e["reference"]] for e in given.get("entry", ()) if e.get("reference") in known]
        items = tuple(_item(r) for r in entries if not _nothing_known(r) and r["resourceType"] != "Provenance")
        texts = () if items or any(map(_nothing_known, entries)) else paragraphs(given.get("text", {}).get("div", ""))
        sections.append(Section(coded(given.get("code", {})), given.get("title", ""), items, texts))
    return sections, composition.get("date", ""), composition.get("language", "")


def _concept(resource: Mapping[str, Any]) -> Mapping[str, Any]:
    for name in ("code", "medicationCodeableConcept", "vaccineCode", "type"):
        if name in resource and isinstance(resource[name], dict):
            found: Mapping[str, Any] = resource[name]
            return found
    return {}


def _nothing_known(resource: Mapping[str, Any]) -> bool:
    return any(_ABSENT in c.get("system", "") for c in _concept(resource).get("coding", ()))


def _item(resource: Mapping[str, Any]) -> Item:
    if resource["resourceType"] == "DocumentReference":
        attachment = first(resource.get("content", ())).get("attachment", {})
        named = (i["value"] for i in resource.get("identifier", ()) if i.get("value", "").startswith("urn:uuid:"))
        title = attachment.get("title") or coding_text(resource.get("type", {}))
        return Item(title, "", attachment.get("creation", ""), "", next(named, "").removeprefix("urn:uuid:"))
    quantity = resource.get("valueQuantity", {})
    figure = number(quantity["value"]) if "value" in quantity else ""
    value = f"{quantity.get('comparator', '')}{figure} {quantity.get('unit', '')}".strip() or resource.get(
        "valueString", ""
    )
    value = value or coding_text(resource.get("valueCodeableConcept", {}))
    dosage = next((d["text"] for d in resource.get("dosage", ()) if d.get("text")), "")
    flag = next((c for i in resource.get("interpretation", ()) for c in [coded(i)] if c), "")
    norm = next((r["text"] for r in resource.get("referenceRange", ()) if r.get("text")), "") or _range(resource)
    when = next(
        (
            str(resource[name])
            for name in (
                "effectiveDateTime",
                "onsetDateTime",
                "occurrenceDateTime",
                "performedDateTime",
                "recordedDate",
            )
            if resource.get(name)
        ),
        "",
    )
    what = coding_text(_concept(resource)) or coded(_concept(resource))
    return Item(what, value or dosage, when, f"{flag}|{norm}" if flag or norm else "")


def _range(resource: Mapping[str, Any]) -> str:
    given = first(resource.get("referenceRange", ()))
    low, high = (given.get(side, {}).get("value") for side in ("low", "high"))
    return between(low, high)


class _Paragraphs(HTMLParser):
    """The text of a narrative, a paragraph for each block."""

    _BLOCKS = frozenset({"p", "li", "tr", "div", "table", "ul", "ol", "h1", "h2", "h3", "h4", "caption", "br"})

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = [""]

    def handle_starttag(self, tag: str, _attrs: Any) -> None:
        if tag in self._BLOCKS:
            self.found.append("")
        elif tag in ("td", "th") and self.found[-1]:
            self.found[-1] += " · "

    def handle_endtag(self, tag: str) -> None:
        if tag in self._BLOCKS:
            self.found.append("")

    def handle_data(self, data: str) -> None:
        self.found[-1] += data


def paragraphs(narrative: str) -> tuple[str, ...]:
    """The text of a Narrative's div; its markup is not shown."""
    reader = _Paragraphs()
    reader.feed(narrative)
    reader.close()
    return tuple(text for piece in reader.found if (text := " ".join(piece.split())))


# FHIR ----------------------------------------------------------------------------------------------------------------


def first(found: Iterable[Any]) -> dict[str, Any]:
    """The first of some values, {} of none."""
    return next(iter(found), {})


def resources(bundle: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """What a bundle has."""
    for entry in bundle.get("entry", ()):
        yield entry["resource"]


def cursor(bundle: Mapping[str, Any]) -> str:
    """The address of the next page, "" at the end."""
    return str(next((link["url"] for link in bundle.get("link", ()) if link.get("relation") == "next"), ""))


def coding_text(concept: Mapping[str, Any]) -> str:
    """What a concept is called."""
    return str(concept.get("text") or next((c["display"] for c in concept.get("coding", ()) if c.get("display")), ""))


def coded(concept: Mapping[str, Any]) -> str:
    """Its first code."""
    return str(next((c["code"] for c in concept.get("coding", ()) if c.get("code")), ""))


def moment(said: str) -> datetime | None:
    """Of a date or time of FHIR; a partial one begins there; None of nothing."""
    padded = f"{said}-01-01"[:10] if 4 <= len(said) < len("2026-01-01") else said
    try:
        found = datetime.fromisoformat(padded)
    except ValueError:
        return None
    return found if found.tzinfo else found.replace(tzinfo=UTC)

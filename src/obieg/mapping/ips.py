"""A summary as a FHIR document of the International Patient Summary (http://hl7.org/fhir/uv/ips).

Bundle, Composition with its sections, the entries, a DocumentReference for each document and a Provenance that joins
each document with what was drawn from it. All names in the bundle are made of the summary's key, so that the same data
give the same document, but for the time that it is made at.
"""

from __future__ import annotations

import base64
import re
import uuid
from collections.abc import Iterable, Sequence
from typing import Any

from obieg.codes.load import toml
from obieg.domain.documents import DocumentEntry
from obieg.domain.identifiers import is_oid
from obieg.domain.summary import Coding, Passage, Source, Summary
from obieg.mapping.fhir_patient import instant, write_patient
from obieg.mapping.ips_entries import absent, coding, fhir_time, write_absent, write_entry
from obieg.mapping.ips_narrative import address, div, section_text, sources_text

# Part of every key: a new mapping is a new summary.
VERSION = 1
LANGUAGE = "pl-PL"
_TABLE = toml("cda_sections.toml")
_FHIR = _TABLE["fhir"]
_SECTIONS: dict[str, dict[str, Any]] = _TABLE["summary"]
_NAMESPACE = uuid.UUID(_FHIR["namespace"])
_SHA1 = re.compile(r"[0-9a-f]{40}\Z")
_TITLE = "Streszczenie danych pacjenta (IPS)"


class _Bundle:
    """A document while it is put together."""

    def __init__(self, summary: Summary) -> None:
        self.key = summary.key
        self.entries: list[dict[str, Any]] = []

    def name(self, what: str) -> str:
        """The UUID of a resource."""
        return str(uuid.uuid5(_NAMESPACE, f"{self.key} {what}"))

    def add(self, resource: dict[str, Any], what: str) -> dict[str, str]:
        """Takes the resource in; a reference to it."""
        name = self.name(what)
        kept = {"resourceType": resource["resourceType"], "id": resource.get("id", name), **resource}
        self.entries.append({"fullUrl": f"urn:uuid:{name}", "resource": kept})
        return {"reference": f"urn:uuid:{name}"}


def write_summary(summary: Summary, base: str) -> dict[str, Any]:
    """The document bundle; ``base`` is the address of the FHIR service, for links to the documents, or ""."""
    bundle = _Bundle(summary)
    made_at = instant(summary.made_at)
    composition: dict[str, Any] = {"resourceType": "Composition"}
    this = bundle.add(composition, "composition")
    subject = bundle.add(_patient(summary), "patient")
    author = bundle.add(
        {"resourceType": "Device", "deviceName": [{"name": "obieg", "type": "user-friendly-name"}]}, "author"
    )
    drawn: dict[Source, list[dict[str, str]]] = {source: [] for source in summary.sources}
    listed: dict[str, list[dict[str, str]]] = {}
    for number, statement in enumerate(summary.statements):
        reference = bundle.add(write_entry(statement, subject), f"entry {number}")
        listed.setdefault(statement.section, []).append(reference)
        for source in statement.sources:
            drawn[source].append(reference)
    sections = list(_sections(summary, listed, base, bundle, subject))
    described = {
        source: bundle.add(_document(source, subject, base, here=here), f"document {source.entry_uuid}")
        for source, here in _documents(summary)
    }
    sections.append(_section("sources", list(described.values()), sources_text(summary, base)))
    for source, targets in drawn.items():
        bundle.add(_provenance(source, [this, *targets], described[source], made_at), f"provenance {source.entry_uuid}")
    name = {"system": _FHIR["uri"], "value": f"urn:uuid:{bundle.name('bundle')}"}
    bundle.entries[0]["resource"] |= {
        "meta": {"profile": [_FHIR["composition_profile"]]},
        "language": LANGUAGE,
        "text": div("<p>Streszczenie utworzone automatycznie z dokumentów zarejestrowanych w regionie.</p>"),
        "identifier": name,
        "status": "final",
        "type": {"coding": [_triple(_FHIR["document"])]},
        "subject": subject,
        "date": made_at,
        "author": [author],
        "title": _TITLE,
        "section": sections,
    }
    return {
        "resourceType": "Bundle",
        "id": bundle.name("bundle"),
        "meta": {"profile": [_FHIR["bundle_profile"]]},
        "language": LANGUAGE,
        "identifier": name,
        "type": "document",
        "timestamp": made_at,
        "entry": bundle.entries,
    }


def _triple(given: Sequence[str]) -> dict[str, str]:
    system, code, display = given
    return coding(Coding(code, system, display))


def _patient(summary: Summary) -> dict[str, Any]:
    """The Patient of the index; IPS wants a name and a date of birth."""
    patient = write_patient(summary.patient)
    if not patient.get("name"):
        patient["name"] = [{"_text": absent()}]
    if "birthDate" not in patient:
        patient["_birthDate"] = absent()
    return patient


def _sections(
    summary: Summary,
    listed: dict[str, list[dict[str, str]]],
    base: str,
    bundle: _Bundle,
    subject: dict[str, str],
) -> Iterable[dict[str, Any]]:
    for key, row in _SECTIONS.items():
        statements = [s for s in summary.statements if s.section == key]
        passages = [p for p in summary.passages if p.section == key]
        entries = listed.get(key, [])
        if not entries and "absent" in row:
            code, display, resource = row["absent"]
            entries = [bundle.add(write_absent(resource, code, display, subject), f"absent {key}")]
        if entries or passages:
            yield _section(key, entries, section_text(statements, passages, base))
    yield from _further(summary.passages, base)


def _section(key: str, entries: Sequence[dict[str, str]], xhtml: str) -> dict[str, Any]:
    row = _SECTIONS[key]
    code = {"coding": [_triple((_FHIR["document"][0], row["code"], row["display"]))]} if row["code"] else {}
    section = {"title": row["title"], "code": code or {"text": row["title"]}, "text": div(xhtml)}
    return section | ({"entry": list(entries)} if entries else {})


def _further(passages: Iterable[Passage], base: str) -> Iterable[dict[str, Any]]:
    """Sections of sources that the IPS does not know, each under its own code or title."""
    grouped: dict[object, list[Passage]] = {}
    for passage in passages:
        if not passage.section:
            code = passage.code
            grouped.setdefault((code.system, code.code) if code is not None else passage.title, []).append(passage)
    for same in grouped.values():
        title, own = same[0].title or "Tekst bez tytułu", same[0].code
        named = {"coding": [coding(own)]} if own is not None else {"text": title}
        yield {"title": title, "code": named, "text": div(section_text((), same, base))}


# documents -------------------------------------------------------------------------------------------------------


def _documents(summary: Summary) -> Iterable[tuple[Source, bool]]:
    """All documents that are spoken of, once, and whether this node holds them."""
    found = dict.fromkeys(summary.sources, True)
    for unread in summary.unread:
        found.setdefault(unread.source, unread.reason != "elsewhere")
    return found.items()


def _document(source: Source, subject: dict[str, str], base: str, *, here: bool) -> dict[str, Any]:
    attachment: dict[str, Any] = {"contentType": source.mime_type, "title": source.title}
    if here and base:
        attachment["url"] = address(source, base)
    if source.size.isascii() and source.size.isdecimal() and int(source.size) < 2**31:
        attachment["size"] = int(source.size)
    if _SHA1.match(source.hash):
        attachment["hash"] = base64.b64encode(bytes.fromhex(source.hash)).decode()
    attachment["creation"] = fhir_time(source.created_at)
    attachment = {name: value for name, value in attachment.items() if value != ""}
    document: dict[str, Any] = {
        "resourceType": "DocumentReference",
        "masterIdentifier": _master_identifier(source.unique_id),
        "identifier": [{"use": "official", "system": _FHIR["uri"], "value": f"urn:uuid:{source.entry_uuid}"}],
        "status": "current",
        "subject": subject,
        "content": [{"attachment": attachment or absent()}],
    }
    if source.type_name:
        document["type"] = {"text": source.type_name}
    if source.author:
        document["author"] = [{"display": source.author}]
    if source.repository_unique_id and not here:
        repository = {"system": _FHIR["uri"], "value": f"urn:oid:{source.repository_unique_id}"}
        document["custodian"] = {"identifier": repository, "display": f"repozytorium {source.repository_unique_id}"}
    return document


def _master_identifier(unique_id: str) -> dict[str, str]:
    root, caret, extension = unique_id.partition("^")
    if caret and extension and is_oid(root):
        return {"system": f"urn:oid:{root}", "value": extension}
    return {"system": _FHIR["uri"], "value": f"urn:oid:{unique_id}" if is_oid(unique_id) else unique_id}


def _provenance(
    source: Source, targets: Sequence[dict[str, str]], document: dict[str, str], made_at: str
) -> dict[str, Any]:
    provenance: dict[str, Any] = {"resourceType": "Provenance", "target": list(targets)}
    if source.created_at:
        provenance["occurredDateTime"] = fhir_time(source.created_at)
    who = {"display": source.author} if source.author else absent()
    return provenance | {
        "recorded": made_at,
        "agent": [{"who": who}],
        "entity": [{"role": "source", "what": document}],
    }


def to_source(entry: DocumentEntry) -> Source:
    """What the summary needs of a DocumentEntry."""
    people = [name for author in entry.author for xcn in author.person if (name := _person(xcn))]
    places = [name for author in entry.author for xon in author.institution if (name := xon.split("^")[0])]
    type_names = entry.type_code.display if entry.type_code is not None else ()
    return Source(
        entry_uuid=entry.entry_uuid.removeprefix("urn:uuid:"),
        unique_id=entry.unique_id or "",
        repository_unique_id=entry.repository_unique_id or "",
        mime_type=entry.mime_type,
        title=entry.title[0][1] if entry.title else "",
        type_name=type_names[0][1] if type_names else "",
        created_at=entry.creation_time or "",
        authors=tuple(dict.fromkeys(people)),
        organisations=tuple(dict.fromkeys(places)),
        size=entry.size or "",
        hash=(entry.hash or "").lower(),
    )


def _person(xcn: str) -> str:
    """Name of an XCN: id^family^given^second^suffix^prefix."""
    _, family, given, second, _, prefix, *_ = (*xcn.split("^"), "", "", "", "", "", "")
    return " ".join(part for part in (prefix, given, second, family) if part)

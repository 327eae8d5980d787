"""Reading what MHD publishes: submissions come back from a bundle, and values that FHIR writes in several ways."""

from __future__ import annotations

import base64
import hashlib
import uuid
from typing import Any
from urllib.parse import quote

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from obieg.domain.affinity_domain import AffinityDomain
from obieg.domain.documents import Association, AssociationType, Author, Code, DocumentEntry, Folder, Submission
from obieg.domain.documents import SubmissionSet as Set
from obieg.domain.problems import Finding, Problem
from obieg.mapping.mhd_metadata import dtm, sha1, unique_id, with_schemes
from obieg.mapping.mhd_provide import Publication, decoded, placed, read_bundle
from obieg.protocol import FhirRequest

BASE, AUTHORITY = "http://node/fhir", "1.2.616.1"
PATIENT = f"17^^^&{AUTHORITY}&ISO"
EXTENSION = "https://profiles.ihe.net/ITI/MHD/StructureDefinition/ihe-"
LIST_TYPES = "https://profiles.ihe.net/ITI/MHD/CodeSystem/MHDlistTypes"
DATA = b"tresc"
NOTHING_LISTED = AffinityDomain(frozenset(), {})

# values

words = st.text("abcdefghijklmnoprstuwyząćęłńóśźżABC 0123456789-", min_size=1, max_size=20).map(str.strip).filter(bool)
oids = st.integers(1, 10**12).map("1.2.616.{}".format)
schemes = st.one_of(oids, words, st.just("2.16.840.1.113883.6.1"), st.just("http://example.org/codes"))
codes = st.builds(Code, code=words, scheme=schemes, display=st.one_of(st.just(()), words.map(lambda w: (("", w),))))
times = st.datetimes().flatmap(
    lambda t: st.sampled_from([4, 6, 8, 14]).map(
        lambda n: f"{t.year:04}{t.month:02}{t.day:02}{t.hour:02}{t.minute:02}{t.second:02}"[:n]
    )
)
persons = st.builds(lambda n, f, g, o: f"{n}^{f}^{g}^^^^^^&{o}&ISO", words, words, words, oids)
institutions = st.builds(lambda n, o, i: f"{n}^^^^^&{o}&ISO^^^^{i}", words, oids, words)
authors = st.builds(
    Author,
    person=persons.map(lambda p: (p,)),
    institution=institutions.map(lambda i: (i,)),
    role=st.lists(words, max_size=2).map(tuple),
    specialty=st.lists(words, max_size=2).map(tuple),
)
unique_ids = st.one_of(oids, st.builds("{}^{}".format, oids, words))
texts = st.one_of(st.just(()), words.map(lambda w: (("", w),)))
uuids = st.uuids().map(lambda u: u.urn)


@st.composite
def entries(draw: st.DrawFn, number: int) -> DocumentEntry:
    start, stop = draw(st.none() | times), draw(st.none() | times)
    if start and stop and start[:4] >= stop[:4]:
        stop = None  # FHIR: a period begins before it ends
    return DocumentEntry(
        f"e{number}",
        unique_id=draw(unique_ids),
        patient_id=PATIENT,
        mime_type="text/plain",
        class_code=draw(codes),
        type_code=draw(codes),
        format_code=draw(codes),
        healthcare_facility_type_code=draw(codes),
        practice_setting_code=draw(codes),
        confidentiality_code=tuple(draw(st.lists(codes, min_size=1, max_size=2))),
        event_code_list=tuple(draw(st.lists(codes, max_size=2))),
        author=tuple(draw(st.lists(authors, max_size=2))),
        creation_time=draw(times),
        service_start_time=start,
        service_stop_time=stop,
        language_code="pl-PL",
        legal_authenticator=draw(st.none() | persons),
        source_patient_id=draw(st.builds("{}^^^&2.999.{}&ISO".format, words, st.integers(1, 99))),
        reference_id_list=tuple(
            dict.fromkeys(draw(st.lists(st.builds("{}^^^&{}&ISO^urn:x:{}".format, words, oids, words), max_size=2)))
        ),
        size=str(len(DATA)),
        hash=hashlib.sha1(DATA).hexdigest(),
        title=draw(texts),
        comments=draw(texts),
    )


@st.composite
def submissions(draw: st.DrawFn) -> Submission:
    count = draw(st.integers(1, 3))
    found = [draw(entries(number)) for number in range(1, count + 1)]
    folders = [
        Folder(f"e{count + n}", draw(unique_ids), patient_id=PATIENT, title=draw(texts), comments=draw(texts),
               code_list=tuple(draw(st.lists(codes, min_size=1, max_size=2))))
        for n in range(1, draw(st.integers(0, 1)) + 1)
    ]  # fmt: skip
    sset = Set(
        "e0", unique_id=draw(oids), source_id=draw(oids), patient_id=PATIENT, submission_time=draw(times),
        content_type_code=draw(codes), title=draw(texts), comments=draw(texts),
        author=tuple(a for a in [draw(st.none() | authors)] if a),
        intended_recipient=tuple(f"{i}|{p}" for i, p in draw(st.lists(st.tuples(institutions, persons), max_size=1))),
    )  # fmt: skip
    relations = [
        (kind, e.entry_uuid, target)
        for e in found
        for target in draw(st.lists(uuids, max_size=2, unique=True))
        for kind in [draw(st.sampled_from([AssociationType.RPLC, AssociationType.APND, AssociationType.XFRM,
                                           AssociationType.SIGNS, AssociationType.XFRM_RPLC]))]
    ]  # fmt: skip
    members = [(AssociationType.HAS_MEMBER, "e0", o.entry_uuid) for o in (*found, *folders)]
    held = [(AssociationType.HAS_MEMBER, f.entry_uuid, e.entry_uuid) for f in folders for e in found]
    new = {e.entry_uuid for e in found}
    associations = tuple(
        Association(f"a{n}", *a, submission_set_status="Original" if a[1] == "e0" and a[2] in new else None)
        for n, a in enumerate([*relations, *members, *held])
    )
    return Submission(sset, tuple(found), tuple(folders), associations)


# a writer of our own


def system(scheme: str) -> str:
    if scheme == "2.16.840.1.113883.6.1":
        return "http://loinc.org"
    if scheme[0].isdigit() and "." in scheme and not set(scheme) - set("0123456789."):
        return f"urn:oid:{scheme}"
    return scheme if scheme.startswith("http:") else "urn:x-coding-scheme:" + quote(scheme, safe="")


def coding(code: Code) -> dict[str, str]:
    return {
        "system": system(code.scheme),
        "code": code.code,
        **({"display": code.display[0][1]} if code.display else {}),
    }


def concept(code: Code) -> dict[str, Any]:
    return {"coding": [coding(code)]}


def time(value: str) -> str:
    parts = [value[:4], value[4:6], value[6:8]]
    day = "-".join(p for p in parts if p)
    return f"{day}T{value[8:10]}:{value[10:12]}:{value[12:14]}Z" if len(value) == 14 else day


def identifier(value: str) -> dict[str, str]:
    root, _, extension = value.partition("^")
    if extension:
        return {"use": "usual", "system": f"urn:oid:{root}", "value": extension}
    return {"use": "usual", "system": "urn:ietf:rfc:3986", "value": f"urn:oid:{root}"}


def contain(holder: dict[str, Any], resource: dict[str, Any]) -> dict[str, str]:
    contained = holder.setdefault("contained", [])
    contained.append({**resource, "id": f"c{len(contained)}"})
    return {"reference": f"#c{len(contained) - 1}"}


def practitioner(xcn: str) -> dict[str, Any]:
    number, family, given, *_, authority = xcn.split("^")
    return {
        "resourceType": "Practitioner", "name": [{"family": family, "given": [given]}],
        "identifier": [{"system": f"urn:oid:{authority.split('&')[1]}", "value": number}],
    }  # fmt: skip


def organization(xon: str) -> dict[str, Any]:
    name, *_, authority, _, _, _, number = xon.split("^")
    return {
        "resourceType": "Organization", "name": name,
        "identifier": [{"system": f"urn:oid:{authority.split('&')[1]}", "value": number}],
    }  # fmt: skip


def author(holder: dict[str, Any], who: Author) -> dict[str, str]:
    role: dict[str, Any] = {
        "resourceType": "PractitionerRole",
        "practitioner": contain(holder, practitioner(who.person[0])),
        "organization": contain(holder, organization(who.institution[0])),
    }
    for name, said in (("code", who.role), ("specialty", who.specialty)):
        if said:
            role[name] = [{"text": text} for text in said]
    return contain(holder, role)


def cx(value: str) -> dict[str, str]:
    number, _, rest = value.partition("^^^&")
    return {"system": f"urn:oid:{rest.partition('&')[0]}", "value": number}


def write_entry(entry: DocumentEntry, relations: list[Association], url: str) -> dict[str, Any]:
    resource: dict[str, Any] = {
        "resourceType": "DocumentReference",
        "masterIdentifier": identifier(entry.unique_id or ""),
        "status": "current",
        "subject": {"reference": "Patient/17"},
    }
    context: dict[str, Any] = {"sourcePatientInfo": {"identifier": cx(entry.source_patient_id or "")}}
    assert entry.type_code
    assert entry.class_code
    resource |= {"type": concept(entry.type_code), "category": [concept(entry.class_code)]}
    resource["securityLabel"] = [concept(c) for c in entry.confidentiality_code]
    for name, code in (
        ("facilityType", entry.healthcare_facility_type_code), ("practiceSetting", entry.practice_setting_code)
    ):  # fmt: skip
        assert code
        context[name] = concept(code)
    period = {n: time(t) for n, t in (("start", entry.service_start_time), ("end", entry.service_stop_time)) if t}
    context |= {"period": period} if period else {}
    if entry.event_code_list:
        context["event"] = [concept(c) for c in entry.event_code_list]
    if entry.reference_id_list:
        context["related"] = [
            {"identifier": {**cx(r.rpartition("^")[0]), "type": {"coding": [{"code": r.rpartition("^")[2]}]}}}
            for r in entry.reference_id_list
        ]
    if entry.author:
        resource["author"] = [author(resource, a) for a in entry.author]
    if entry.legal_authenticator:
        resource["authenticator"] = contain(resource, practitioner(entry.legal_authenticator))
    if entry.comments:
        resource["description"] = entry.comments[0][1]
    attachment = {
        "contentType": entry.mime_type, "language": entry.language_code, "url": url, "size": int(entry.size or 0),
        "hash": base64.b64encode(bytes.fromhex(entry.hash or "")).decode(), "creation": time(entry.creation_time or ""),
        **({"title": entry.title[0][1]} if entry.title else {}),
    }  # fmt: skip
    assert entry.format_code
    resource["content"] = [{"attachment": attachment, "format": coding(entry.format_code)}]
    names = {"RPLC": ["replaces"], "APND": ["appends"], "XFRM": ["transforms"], "signs": ["signs"],
             "XFRM_RPLC": ["replaces", "transforms"]}  # fmt: skip
    related = [
        {"code": code, "target": {"reference": f"DocumentReference/{a.target[9:]}"}}
        for a in relations for code in names[a.type.value]
    ]  # fmt: skip
    if related:
        resource["relatesTo"] = related
    return {**resource, "context": context}


def write_list(value: Set | Folder, kind: str, members: list[str]) -> dict[str, Any]:
    resource: dict[str, Any] = {
        "resourceType": "List", "status": "current", "mode": "working", "subject": {"reference": "Patient/17"},
        "code": {"coding": [{"system": LIST_TYPES, "code": kind}]}, "identifier": [identifier(value.unique_id or "")],
        "entry": [{"item": {"reference": m}} for m in members],
    }  # fmt: skip
    designations = value.code_list if isinstance(value, Folder) else (value.content_type_code,)
    extensions = [{"url": f"{EXTENSION}designationType", "valueCodeableConcept": concept(c)} for c in designations if c]
    if isinstance(value, Set):
        resource["date"] = time(value.submission_time or "")
        extensions.append({"url": f"{EXTENSION}sourceId", "valueIdentifier": {"value": f"urn:oid:{value.source_id}"}})
        if value.author:
            resource["source"] = author(resource, value.author[0])
        for recipient in value.intended_recipient:
            xon, xcn = recipient.split("|")
            role = {
                "resourceType": "PractitionerRole", "practitioner": contain(resource, practitioner(xcn)),
                "organization": contain(resource, organization(xon)),
            }  # fmt: skip
            extensions.append({"url": f"{EXTENSION}intendedRecipient", "valueReference": contain(resource, role)})
    resource["extension"] = extensions
    if value.title:
        resource["title"] = value.title[0][1]
    if value.comments:
        resource["note"] = [{"text": value.comments[0][1]}]
    return resource


def url_of(symbol: str, what: int = 0) -> str:
    return f"urn:uuid:{uuid.UUID(int=int(symbol[1:]) * 10 + what)}"


def write(submission: Submission) -> dict[str, Any]:
    def item(resource: dict[str, Any], full_url: str) -> dict[str, Any]:
        return {
            "fullUrl": full_url, "resource": resource, "request": {"method": "POST", "url": resource["resourceType"]}
        }  # fmt: skip

    def members(of: str) -> list[str]:
        return [
            url_of(a.target)
            for a in submission.associations if a.type is AssociationType.HAS_MEMBER and a.source == of
        ]  # fmt: skip

    items = [item(write_list(submission.submission_set, "submissionset", members("e0")), url_of("e0"))]
    for entry in submission.entries:
        relations = [a for a in submission.associations if a.source == entry.entry_uuid and a.type.relates_documents]
        items.append(item(write_entry(entry, relations, url_of(entry.entry_uuid, 1)), url_of(entry.entry_uuid)))
    for folder in submission.folders:
        items.append(item(write_list(folder, "folder", members(folder.entry_uuid)), url_of(folder.entry_uuid)))
    for entry in submission.entries:
        binary = {
            "resourceType": "Binary", "contentType": entry.mime_type, "data": base64.b64encode(DATA).decode()
        }  # fmt: skip
        items.append(item(binary, url_of(entry.entry_uuid, 1)))
    return {"resourceType": "Bundle", "type": "transaction", "entry": items}


def read(bundle: dict[str, Any]) -> Publication:
    return read_bundle(FhirRequest(interaction="transaction", body=bundle, base=BASE, affinity_domain=AUTHORITY))


def related(submission: Submission) -> set[tuple[Any, ...]]:
    return {(a.type, a.source, a.target, a.submission_set_status) for a in submission.associations}


@given(submissions())
def test_a_submission_comes_back(submission: Submission) -> None:
    publication = read(write(submission))
    found = with_schemes(publication.submission, publication.others, NOTHING_LISTED)
    # What the source says of the patient besides his number was not sent.
    found = msgspec.structs.replace(
        found, entries=tuple(msgspec.structs.replace(e, source_patient_info=()) for e in found.entries)
    )
    assert found.submission_set == submission.submission_set
    assert found.entries == submission.entries
    assert found.folders == submission.folders
    assert related(found) == related(submission)
    assert {name: content.data for name, content in publication.documents.items()} == {
        e.entry_uuid: DATA for e in submission.entries
    }
    assert publication.patients.keys() == {PATIENT}
    assert read(write(submission)).fingerprint == publication.fingerprint


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("2004", "2004"), ("2004-10", "200410"), ("2004-10-25", "20041025"),
        ("2004-10-25T23:50:50-05:00", "20041026045050"), ("2004-10-25T23:50:50.123Z", "20041025235050"),
        ("2004-13-25T23:50:50Z", None), ("0001-01-01T00:00:00+05:00", None), ("", None),
    ],
)  # fmt: skip
def test_times(value: str, expected: str | None) -> None:
    assert dtm(value) == expected


def test_hashes() -> None:
    digest = hashlib.sha1(DATA)
    assert sha1(base64.b64encode(digest.digest()).decode()) == digest.hexdigest()
    assert sha1(base64.b64encode(digest.hexdigest().encode()).decode()) == digest.hexdigest()
    assert sha1(base64.b64encode(b"x" * 40).decode()) is None
    assert sha1("YWJj") is None


@pytest.mark.parametrize(
    ("system", "value", "expected"),
    [
        ("urn:ietf:rfc:3986", "urn:oid:1.2.3", "1.2.3"),
        ("urn:ietf:rfc:3986", "urn:uuid:00000000-0000-0000-0000-0000000000ff", "2.25.255"),
        ("urn:oid:1.2.3", "17", "1.2.3^17"),
        ("urn:ihe:iti:xds:2013:uniqueId", "1.2.3^17", "1.2.3^17"),
        ("http://example.org", "17", None),
        ("urn:ietf:rfc:3986", "http://example.org", None),
    ],
)
def test_unique_ids(system: str, value: str, expected: str | None) -> None:
    assert unique_id({"system": system, "value": value}) == expected


def test_findings_are_placed() -> None:
    places = {"urn:uuid:1": "Bundle.entry[1].resource", "a0": "Bundle.entry[1].resource.relatesTo[0]"}
    for location, expected in (
        ("DocumentEntry urn:uuid:1: classCode", "Bundle.entry[1].resource.category"),
        ("DocumentEntry urn:uuid:1: practiceSettingCode", "Bundle.entry[1].resource.context.practiceSetting"),
        ("DocumentEntry urn:uuid:1", "Bundle.entry[1].resource"),
        ("Document urn:uuid:1", "Bundle.entry[1].resource.content[0].attachment.url"),
        ("Association a0", "Bundle.entry[1].resource.relatesTo[0]"),
        ("urn:uuid:1", "Bundle.entry[1].resource"),
        ("Bundle.entry[7]", "Bundle.entry[7]"),
        ("", ""),
    ):
        assert placed(Finding("XDSRegistryMetadataError", "x", location), places).location == expected


def test_everything_that_is_wrong_is_said() -> None:
    bundle = {"resourceType": "Bundle", "type": "transaction", "entry": [{"fullUrl": "urn:x"}, {}]}
    with pytest.raises(Problem) as refused:
        read(bundle)
    assert {f.location for f in refused.value.findings} == {
        "Bundle.entry[0].resource", "Bundle.entry[0].request", "Bundle.entry[1].fullUrl", "Bundle.entry[1].resource",
        "Bundle.entry[1].request", "Bundle", "Bundle.entry[0]", "Bundle.entry[1]",
    }  # fmt: skip


@given(st.binary(max_size=40), st.sampled_from(["", " ", "\n", "\r\n"]))
def test_base64_is_read_over_white_space(data: bytes, space: str) -> None:
    text = base64.b64encode(data).decode()
    assert decoded(f"{text[:5]}{space}{text[5:]}{space}") == data


@pytest.mark.parametrize("text", ["aGV", "aGVq=", "aA==aGVq", "a-==", "ą==="])
def test_what_is_no_base64_is_nothing(text: str) -> None:
    assert decoded(text) is None

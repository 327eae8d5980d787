"""Makes XDS metadata of Polish documents: of PIK HL7 CDA from its header, of other files from what the user says.

The rules are those of the CDA to XDS mapping (IHE PCC TF-2:4.1.1) with the Polish values that P1 takes
(``codes/national/pl``). Where a document is silent, a default from those tables stands in; each is named beside the
function that takes it. Ids and the time of submission come from the caller: the same input gives the same metadata.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime
from functools import cache
from typing import NamedTuple
from uuid import UUID

from obieg.codes import load
from obieg.domain.affinity_domain import polish
from obieg.domain.documents import (
    Association,
    AssociationType,
    Author,
    Code,
    DocumentEntry,
    Localized,
    Submission,
    SubmissionSet,
    Value,
)
from obieg.domain.identifiers import PatientId, is_oid
from obieg.domain.persons import Demographics
from obieg.domain.problems import Finding, Problem
from obieg.mapping.pik_values import (
    cx,
    demographics_info,
    institutions,
    patient_info,
    source_patient_id,
    utc,
    xcn,
    xtn,
)
from obieg.wire import cda
from obieg.wire.hl7v2 import escape

_PIK = load.toml("national/pl/pik.toml")
_DOMAIN = load.toml("national/pl/affinity_domain.toml")
_ROOTS: dict[str, str] = _PIK["roots"]
_SYSTEMS: dict[str, str] = _PIK["systems"]
_DEFAULTS: dict[str, str] = _PIK["defaults"]
_REFERENCES: dict[str, str] = _PIK["reference_types"]

CDA_MEDIA_TYPE = "text/xml"  # of CDA in XDS (IHE PCC TF-2:4.1.1)
CDA_MEDIA_TYPES = frozenset({CDA_MEDIA_TYPE, "application/xml", "application/hl7-cda+xml"})  # that senders use
_FACILITY = re.compile("[0-9]{4}")  # a code of VIII część


class Described(NamedTuple):
    """Metadata of one document, the uniqueIds of the versions that it replaces, and whom it says it is about."""

    entry: DocumentEntry
    submission_set: SubmissionSet
    replaces: tuple[str, ...]
    patient_ids: tuple[PatientId, ...] = ()


class DocumentOptions(Value, frozen=True):
    """What must be said of a file that does not describe itself; codes are those of codes/national/pl."""

    unique_id: str
    class_code: str  # KLAS_DOK_P1
    type_code: str  # LOINC
    title: str
    creation_time: str  # as in CDA: with an offset, or local time
    source_patient_id: PatientId
    patient: Demographics = Demographics()
    authors: tuple[Author, ...] = ()
    legal_authenticator: str | None = None  # XCN
    facility: str = _DEFAULTS["facility"]  # VIII część
    specialty: str = ""  # of the author; "" for that which the facility practises
    confidentiality: str = "N"
    language: str = _DEFAULTS["language"]
    service_start_time: str = ""
    service_stop_time: str = ""
    event_codes: tuple[str, ...] = ()  # ICD-9-PL
    reference_ids: tuple[str, ...] = ()  # CXi
    mime_type: str = ""  # "" for what the content shows
    replaces: tuple[str, ...] = ()


def describe_cda(
    document: bytes,
    *,
    patient_id: str,
    source_id: str,
    now: datetime,
    new_uuid: Callable[[], UUID],
    repository_unique_id: str | None = None,
) -> Described:
    """Metadata of the CDA ``document`` for the patient ``patient_id`` (CX of the affinity domain)."""
    try:
        header = cda.read_header(document)
    except cda.CdaRefused as error:
        raise Problem.of("InvalidDocumentContent", f"The document is not CDA: {error}.", error.location) from None
    unique_id, creation_time = _demanded(header)
    template = _templates().get(header.template, {})
    facility = _facility(header, template)
    language = header.language or _DEFAULTS["language"]
    start, stop = _service_times(header)
    entry = DocumentEntry(
        entry_uuid=new_uuid().urn,
        unique_id=unique_id,
        patient_id=patient_id,
        mime_type=CDA_MEDIA_TYPE,
        class_code=_class_code(header, template),
        type_code=_type_code(header, template),
        format_code=_format_code(CDA_MEDIA_TYPE),
        healthcare_facility_type_code=facility,
        practice_setting_code=_practice_setting(header, facility.code, template),
        confidentiality_code=(_confidentiality(header.confidentiality.code if header.confidentiality else "N"),),
        event_code_list=_event_codes(header),
        author=tuple(_author(author) for author in header.authors),
        creation_time=creation_time,
        service_start_time=start,
        service_stop_time=stop,
        language_code=language,
        legal_authenticator=_legal_authenticator(header),
        source_patient_id=source_patient_id(header.patient) or patient_id,
        source_patient_info=tuple(patient_info(header.patient)),
        reference_id_list=tuple(_references(header)),
        repository_unique_id=repository_unique_id,
        size=str(len(document)),
        hash=_sha1(document),
        document_availability=_PIK["availability"]["online"],
        title=_localized(header.title or template.get("title", ""), language),
    )
    replaces = tuple(
        id_.oid_form for related in header.related_documents if related.type == "RPLC" for id_ in related.ids
    )
    return Described(
        entry,
        _submission_set(entry, source_id=source_id, now=now, new_uuid=new_uuid),
        replaces,
        tuple(PatientId(i.extension, i.root) for i in header.patient.ids if i.extension and is_oid(i.root)),
    )


def describe_file(
    document: bytes,
    options: DocumentOptions,
    *,
    patient_id: str,
    source_id: str,
    now: datetime,
    new_uuid: Callable[[], UUID],
    repository_unique_id: str | None = None,
) -> Described:
    """Metadata of a PDF, PNG, JPEG or plain text; Problem if it is none of these or the options contradict it."""
    mime_type = options.mime_type or media_type(document) or ""
    creation_time = utc(options.creation_time)
    findings = list(_wrong_options(document, options, mime_type, creation_time))
    if findings:
        raise Problem(findings)
    specialty = options.specialty or _facilities().get(options.facility, {}).get("specialty", "")
    entry = DocumentEntry(
        entry_uuid=new_uuid().urn,
        unique_id=options.unique_id,
        patient_id=patient_id,
        mime_type=mime_type,
        class_code=_listed("class_code", options.class_code, _scheme("classCode")),
        type_code=_listed("type_code", options.type_code, _scheme("typeCode")),
        format_code=_format_code(mime_type),
        healthcare_facility_type_code=_listed(
            "healthcare_facility_type_code", options.facility, _scheme("healthcareFacilityTypeCode")
        ),
        practice_setting_code=_setting(specialty) or _setting(_DEFAULTS["specialty"]),
        confidentiality_code=(_confidentiality(options.confidentiality),),
        event_code_list=tuple(Code(code, _SYSTEMS["icd9_pl"]) for code in options.event_codes),
        author=options.authors,
        creation_time=creation_time,
        service_start_time=utc(options.service_start_time),
        service_stop_time=utc(options.service_stop_time),
        language_code=options.language,
        legal_authenticator=options.legal_authenticator,
        source_patient_id=str(options.source_patient_id),
        source_patient_info=tuple(demographics_info(options.source_patient_id, options.patient)),
        reference_id_list=options.reference_ids,
        repository_unique_id=repository_unique_id,
        size=str(len(document)),
        hash=_sha1(document),
        document_availability=_PIK["availability"]["online"],
        title=_localized(options.title, options.language),
    )
    return Described(entry, _submission_set(entry, source_id=source_id, now=now, new_uuid=new_uuid), options.replaces)


def submission(described: Described, *, new_uuid: Callable[[], UUID], replaced: Sequence[str] = ()) -> Submission:
    """The submission that registers one document; ``replaced`` are the entryUUIDs of the versions that it replaces."""
    entry, submission_set = described.entry, described.submission_set
    member = Association(
        entry_uuid=new_uuid().urn,
        type=AssociationType.HAS_MEMBER,
        source=submission_set.entry_uuid,
        target=entry.entry_uuid,
        submission_set_status="Original",
    )
    replacements = tuple(
        Association(entry_uuid=new_uuid().urn, type=AssociationType.RPLC, source=entry.entry_uuid, target=target)
        for target in replaced
    )
    return Submission(submission_set, entries=(entry,), associations=(member, *replacements))


# What the bytes are


_MAGIC = (
    (b"%PDF-", "application/pdf"),
    (b"\x89PNG\r\n\x1a\n", "image/png"),
    (b"\xff\xd8\xff", "image/jpeg"),
    (b"II*\x00", "image/tiff"),
    (b"MM\x00*", "image/tiff"),
    (b"GIF8", "image/gif"),
    (b"PK\x03\x04", "application/zip"),
)
_DICOM_PREAMBLE = 128
_XML_START = re.compile(rb"(?:\xef\xbb\xbf)?\s*<[?!A-Za-z]")
_UTF16_XML_STARTS = (b"\xff\xfe<\x00", b"\xfe\xff\x00<")
_CONTROL = re.compile("[\x00-\x08\x0e-\x1f\x7f]")


def media_type(document: bytes) -> str | None:
    """Media type by content; None if the bytes are of no kind known here."""
    for magic, mime_type in _MAGIC:
        if document.startswith(magic):
            return mime_type
    if document[_DICOM_PREAMBLE : _DICOM_PREAMBLE + 4] == b"DICM":
        return "application/dicom"
    if _XML_START.match(document) or document.startswith(_UTF16_XML_STARTS):
        return "text/xml"
    try:
        text = document.decode("utf-8")
    except UnicodeDecodeError:
        return None
    return None if not text or _CONTROL.search(text) else "text/plain"


# What the header says


def _demanded(header: cda.CdaHeader) -> tuple[str, str]:
    """UniqueId and creation time: without them there is no DocumentEntry, and nothing can stand in."""
    creation_time = utc(header.effective_time)
    findings = []
    if header.id is None:
        findings.append(
            Finding("InvalidDocumentContent", "The document has no id with a root.", "/ClinicalDocument/id")
        )
    if creation_time is None:
        detail = (
            f"effectiveTime {header.effective_time!r} is not a time." if header.effective_time else "No time is given."
        )
        findings.append(Finding("InvalidDocumentContent", detail, "/ClinicalDocument/effectiveTime"))
    if header.id is None or creation_time is None:
        raise Problem(findings)
    return header.id.oid_form, creation_time


def _class_code(header: cda.CdaHeader, template: dict[str, str]) -> Code | None:
    """KLAS_DOK_P1 from the translation of the document's code, else from the table of templates."""
    said = header.code.in_system(_SYSTEMS["klas_dok_p1"]) if header.code else None
    code = said.code if said else template.get("class", "")
    return _listed("class_code", code, _scheme("classCode"), said.display if said else "") if code else None


def _type_code(header: cda.CdaHeader, template: dict[str, str]) -> Code | None:
    """LOINC from the document's code, else from the table of templates."""
    said = header.code.in_system(_SYSTEMS["loinc"]) if header.code else None
    code = said.code if said else template.get("type", "")
    return _listed("type_code", code, _scheme("typeCode"), said.display if said else "") if code else None


def _facility(header: cda.CdaHeader, template: dict[str, str]) -> Code:
    """VIII część of the author's unit, else of the place of the encounter, else that of the template's default."""
    organisations = (author.organisation for author in header.authors if author.organisation)
    candidates = [unit.industry for organisation in organisations for unit in organisation.chain()]
    if header.encounter:
        candidates.append(header.encounter.code)
    scheme = _scheme("healthcareFacilityTypeCode")
    for candidate in candidates:
        if candidate and candidate.system == _SYSTEMS["cell_specialty"] and _FACILITY.fullmatch(candidate.code):
            return _listed("healthcare_facility_type_code", candidate.code, scheme, candidate.display)
    return _listed("healthcare_facility_type_code", template.get("facility") or _DEFAULTS["facility"], scheme)


def _practice_setting(header: cda.CdaHeader, facility: str, template: dict[str, str]) -> Code | None:
    """The author's first specialty, else what his unit practises, else the template's default."""
    systems = (_SYSTEMS["physician_specialty"], _SYSTEMS["multiple_specialties"])
    specialties = [
        code
        for author in header.authors
        if author.specialty and author.specialty.system in systems
        for code in author.specialty.code.split("_")
    ]
    specialties.append(_facilities().get(facility, {}).get("specialty", ""))
    specialties += [template.get("specialty", ""), _DEFAULTS["specialty"]]
    return next((setting for setting in map(_setting, specialties) if setting), None)


def _event_codes(header: cda.CdaHeader) -> tuple[Code, ...]:
    codes = {
        event.code.code: _localized(event.code.display)
        for event in header.service_events
        if event.code and event.code.code and event.code.system == _SYSTEMS["icd9_pl"]
    }
    return tuple(Code(code, _SYSTEMS["icd9_pl"], display) for code, display in codes.items())


def _service_times(header: cda.CdaHeader) -> tuple[str | None, str | None]:
    """From the services documented, else from the encounter; the earliest start and the latest stop."""
    periods = [event.time for event in header.service_events]
    if header.encounter and not any(period.low or period.high for period in periods):
        periods = [header.encounter.time]
    starts = [time for time in (utc(period.low) for period in periods) if time]
    stops = [time for time in (utc(period.high) for period in periods) if time]
    return min(starts, default=None), max(stops, default=None)


def _references(header: cda.CdaHeader) -> Iterator[str]:
    """Encounter, orders and the set of versions as CXi (ITI TF-3:4.2.3.2.28)."""
    encounters = header.encounter.ids if header.encounter else ()
    sets = (header.set_id,) if header.set_id else ()
    for kind, ids in (("encounter", encounters), ("order", header.orders), ("set", sets)):
        for id_ in ids:
            if id_.extension:
                yield f"{cx(id_)}^{_REFERENCES[kind]}"


def _author(author: cda.Author) -> Author:
    return Author(
        person=tuple(filter(None, [xcn(author.ids, author.names) or escape(author.device)])),
        institution=tuple(institutions(author.organisation)),
        role=_said(author.function),
        specialty=_said(author.specialty),
        telecommunication=tuple(xtn for xtn in map(xtn, author.telecoms) if xtn),
    )


def _said(code: cda.Coded | None) -> tuple[str, ...]:
    text = (code.display or code.code) if code else ""
    return (text,) if text else ()


def _legal_authenticator(header: cda.CdaHeader) -> str | None:
    """XCN; the name may be left out in the document if the same person is an author (DECOR, template .2.6)."""
    authenticator = header.legal_authenticator
    if authenticator is None:
        return None
    names = authenticator.names or next(
        (author.names for author in header.authors if set(author.ids) & set(authenticator.ids)), ()
    )
    return xcn(authenticator.ids, names) or None


# Codes


@cache
def _templates() -> dict[str, dict[str, str]]:
    return {row["template"]: row for row in load.rows("national/pl/templates.csv")}


@cache
def _facilities() -> dict[str, dict[str, str]]:
    return {row["code"]: row for row in load.rows("national/pl/facility_types.csv")}


@cache
def _settings() -> dict[str, Code]:
    schemes = _DOMAIN["practice_setting_schemes"]
    return {
        row["specialty"]: Code(row["code"], schemes[row["system"]], _localized(row["display"]))
        for row in load.rows("national/pl/practice_settings.csv")
    }


def _setting(specialty: str) -> Code | None:
    return _settings().get(specialty)


def _scheme(attribute: str) -> str:
    scheme: str = _DOMAIN["attribute"][attribute]["scheme"]
    return scheme


def _listed(attribute: str, code: str, scheme: str, display: str = "") -> Code:
    """A code with the name that the affinity domain gives it, else with the one that came along."""
    return Code(code, scheme, _localized(polish().display(attribute, code, scheme) or display))


def _confidentiality(code: str) -> Code:
    return _listed("confidentiality_code", code, _SYSTEMS["confidentiality"])


@cache
def _format_code(mime_type: str) -> Code | None:
    for row in _DOMAIN["attribute"]["formatCode"]["codes"]:
        if mime_type in row["media"]:
            return Code(row["code"], row["scheme"], _localized(row["display"]))
    return None


def _localized(text: str, language: str = "") -> Localized:
    return ((language, text),) if text else ()


# The rest


def _submission_set(
    entry: DocumentEntry, *, source_id: str, now: datetime, new_uuid: Callable[[], UUID]
) -> SubmissionSet:
    return submission_set(
        entry.patient_id or "", entry.author, entry.title, source_id=source_id, now=now, new_uuid=new_uuid
    )


def submission_set(
    patient_id: str,
    author: tuple[Author, ...],
    title: Localized,
    *,
    source_id: str,
    now: datetime,
    new_uuid: Callable[[], UUID],
) -> SubmissionSet:
    """The set of one submission about one patient."""
    content = _DOMAIN["attribute"]["contentTypeCode"]["codes"][0]
    return SubmissionSet(
        entry_uuid=new_uuid().urn,
        unique_id=f"{_ROOTS['uuid']}.{new_uuid().int}",
        source_id=source_id,
        patient_id=patient_id,
        submission_time=now.astimezone(UTC).strftime("%Y%m%d%H%M%S"),
        content_type_code=Code(content["code"], content["scheme"], _localized(content["display"])),
        author=author,
        title=title,
    )


def _wrong_options(
    document: bytes, options: DocumentOptions, mime_type: str, creation_time: str | None
) -> Iterator[Finding]:
    def finding(detail: str, location: str) -> Finding:
        return Finding("XDSRegistryMetadataError", detail, location)

    if _format_code(mime_type) is None or mime_type == CDA_MEDIA_TYPE:
        allowed = ", ".join(sorted(polish().mime_types - {CDA_MEDIA_TYPE}))
        yield finding(f"The media type is {mime_type or 'not recognised'}; accepted here: {allowed}.", "mimeType")
    shown = media_type(document)
    if shown != mime_type and shown is not None:
        yield Finding("InvalidDocumentContent", f"The content is {shown}, not {mime_type}.", "mimeType")
    if creation_time is None:
        yield finding(f"{options.creation_time!r} is not a time.", "creationTime")
    if options.specialty and _setting(options.specialty) is None:
        yield finding(f"{options.specialty!r} is not the code of a medical specialty.", "practiceSettingCode")
    for attribute, field, code, scheme in (
        ("classCode", "class_code", options.class_code, _scheme("classCode")),
        ("typeCode", "type_code", options.type_code, _scheme("typeCode")),
        (
            "healthcareFacilityTypeCode",
            "healthcare_facility_type_code",
            options.facility,
            _scheme("healthcareFacilityTypeCode"),
        ),
        ("confidentialityCode", "confidentiality_code", options.confidentiality, _SYSTEMS["confidentiality"]),
    ):
        if not polish().accepts(field, code, scheme):
            yield finding(f"{code!r} is not a code of {scheme}.", attribute)


def _sha1(document: bytes) -> str:
    return hashlib.sha1(document, usedforsecurity=False).hexdigest()

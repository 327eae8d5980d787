"""DocumentReference and List of MHD 4.2 read as XDS metadata, element by element.

https://profiles.ihe.net/ITI/MHD/32_fhir_maps.html. Codes keep their FHIR system as ``scheme``: only an affinity domain
knows which codingScheme is meant (:func:`with_schemes`).
"""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import msgspec

from obieg.codes.load import toml
from obieg.domain.affinity_domain import AffinityDomain
from obieg.domain.documents import Author, Code, DocumentEntry, Folder, Localized, Submission, SubmissionSet
from obieg.domain.identifiers import PatientId, is_oid, is_uuid_urn
from obieg.domain.problems import Finding
from obieg.mapping.fhir_codes import scheme_of
from obieg.mapping.fhir_patient import authority, read_patient
from obieg.mapping.mhd_people import author_of, legal_authenticator_of, person, recipient_of
from obieg.mapping.mhd_reading import Person, Reading, Source
from obieg.mapping.pik_values import demographics_info
from obieg.wire.hl7v2 import escape

_TABLE, _PROVIDE = toml("mhd.toml"), toml("mhd_provide.toml")
_EXTENSIONS: dict[str, str] = _TABLE["extensions"]
_REFERENCE_TYPES: dict[str, str] = {"encounter": _TABLE["encounter"], **_PROVIDE["reference_types"]}
_URI: str = _TABLE["uri"]
_UUID: str = _TABLE["uuid"]
_OID: str = _TABLE["oid"]
_DATE_TIME = re.compile(
    r"(\d{4})(?:-(\d\d)(?:-(\d\d)(?:T(\d\d):(\d\d):(\d\d)(?:\.\d+)?(Z|[+-]\d\d:\d\d))?)?)?\Z", re.ASCII
)
_HEX_SHA1 = re.compile(rb"[0-9a-fA-F]{40}\Z")
_SHA1_BYTES = 20


# values ----------------------------------------------------------------------------------------------------------


def dtm(value: str) -> str | None:
    """A dateTime or instant as DTM in UTC, as precise as it was written; None if it is no real time."""
    match = _DATE_TIME.match(value)
    if match is None:
        return None
    if match[7] is None:
        return "".join(part for part in match.groups()[:3] if part)
    try:
        moment = datetime.fromisoformat(value[:19] + match[7].replace("Z", "+00:00")).astimezone(UTC)
    except (ValueError, OverflowError):
        return None
    return f"{moment.year:04}{moment:%m%d%H%M%S}"


def unique_id(identifier: dict[str, Any]) -> str | None:
    """XDS uniqueId of an Identifier: an OID, a UUID as OID under 2.25, or OID^extension; None if it is none."""
    system, value = identifier.get("system", ""), identifier.get("value", "")
    if system == _TABLE["unique_id"]:
        return str(value)
    if system in (_URI, ""):
        if value.startswith(_OID):
            return str(value.removeprefix(_OID))
        return f"2.25.{UUID(value[9:]).int}" if is_uuid_urn(value) else None
    oid = authority(system)
    return f"{oid}^{value}" if oid and value else None


def entry_uuid(identifiers: Sequence[dict[str, Any]]) -> str | None:
    """The entryUUID among identifiers: official, a ``urn:uuid:``."""
    found = (i.get("value", "") for i in identifiers if i.get("use") == "official")
    return next((value.lower() for value in found if is_uuid_urn(value)), None)


def sha1(value: str) -> str | None:
    """Attachment.hash as hexadecimal digits: base64 of the digest or, as IHE's own examples have it, of its digits."""
    try:
        data = base64.b64decode(value, validate=False)
    except binascii.Error:
        return None
    if len(data) == _SHA1_BYTES:
        return data.hex()
    return data.decode().lower() if _HEX_SHA1.match(data) else None


def _localized(text: str) -> Localized:
    return (("", text),) if text else ()


def _coding(coding: dict[str, Any], display: str = "") -> Code:
    return Code(coding.get("code", ""), coding.get("system", ""), _localized(coding.get("display") or display))


def _concept(reading: Reading, concept: dict[str, Any], where: str) -> Code | None:
    codings = [c for c in concept.get("coding", ()) if c.get("code") and c.get("system")]
    if not codings:
        reading.refuse(
            "TableValueNotFound", "a coding with code and system is needed: XDS carries no text alone", where
        )
        return None
    first, *others = (_coding(c, concept.get("text", "")) for c in codings)
    if others:
        reading.others[first] = tuple(others)
    return first


def _concepts(reading: Reading, concepts: Sequence[dict[str, Any]], where: str) -> tuple[Code, ...]:
    found = (_concept(reading, concept, f"{where}[{number}]") for number, concept in enumerate(concepts))
    return tuple(code for code in found if code is not None)


def with_schemes(submission: Submission, others: Mapping[Code, Sequence[Code]], domain: AffinityDomain) -> Submission:
    """The submission with the codingSchemes of the affinity domain in place of FHIR systems.

    Of several codings of one concept the first that the domain accepts is taken, else the first.
    """

    def one(attribute: str, code: Code) -> Code:
        if code not in others:
            return _with_scheme(attribute, code, domain)
        made = [_with_scheme(attribute, c, domain) for c in (code, *others[code])]
        return next((c for c in made if domain.accepts(attribute, c.code, c.scheme)), made[0])

    def coded(value: Any, *attributes: str) -> Any:
        changes: dict[str, Any] = {}
        for attribute in attributes:
            found = getattr(value, attribute)
            if isinstance(found, tuple):
                changes[attribute] = tuple([one(attribute, code) for code in found])
            elif found is not None:
                changes[attribute] = one(attribute, found)
        return msgspec.structs.replace(value, **changes)

    return Submission(
        submission_set=coded(submission.submission_set, "content_type_code"),
        entries=tuple([coded(e, *_ENTRY_CODES) for e in submission.entries]),
        folders=tuple([coded(f, "code_list") for f in submission.folders]),
        associations=submission.associations,
    )


_ENTRY_CODES = (
    "class_code", "type_code", "format_code", "healthcare_facility_type_code", "practice_setting_code",
    "confidentiality_code", "event_code_list",
)  # fmt: skip


def _with_scheme(attribute: str, code: Code, domain: AffinityDomain) -> Code:
    scheme = scheme_of(code.scheme, code.code, attribute, domain)
    return Code(code.code, scheme, code.display or _localized(domain.display(attribute, code.code, scheme)))


# resources -------------------------------------------------------------------------------------------------------


def _time(source: Source, holder: dict[str, Any], name: str, path: str) -> str | None:
    value = holder.get(name)
    if value is None:
        return None
    where = f"{source.place}.{path}"
    found = dtm(value)
    if found is None:
        source.reading.refuse("DataTypeError", f"{value[:40]!r} is no time", where)
    return found


def _identity(source: Source, identifiers: Sequence[dict[str, Any]], path: str) -> str | None:
    """The uniqueId among identifiers: the usual one, else one that is not the entryUUID."""
    ranked = [i for i in identifiers if i.get("use") == "usual"] or [
        i for i in identifiers if i.get("use") != "official"
    ]
    if not ranked:
        return None
    found = unique_id(ranked[0])
    if found is None:
        said = f"{ranked[0].get('value', '')[:80]!r} is no uniqueId of XDS: an OID or UUID as URN, or a value of an OID"
        source.reading.refuse("DataTypeError", said, f"{source.place}.{path}")
    return found


def check_modifiers(source: Source, *forbidden: str) -> None:
    """Elements that change the meaning of the rest, and those that the profile does not allow."""
    for name in ("implicitRules", "modifierExtension", *forbidden):
        if name in source.resource:
            said = f"{name} is not understood here, and the resource means something else without it"
            source.reading.refuse("RuleBroken", said, f"{source.place}.{name}")


def read_entry(source: Source, symbol: str) -> DocumentEntry:
    """DocumentEntry of a DocumentReference, without what its attachment's content says."""
    resource, reading, place = source.resource, source.reading, source.place
    check_modifiers(source, "docStatus")
    if resource.get("status") != "current":
        said = f"a document is published as current, not as {resource.get('status')!r}"
        reading.refuse("RuleBroken", said, f"{place}.status")
    contents = resource["content"]
    if len(contents) != 1:
        said = f"one document has one content, not {len(contents)} (MHD: content 1..1)"
        reading.refuse("RuleBroken", said, f"{place}.content")
    attachment = contents[0]["attachment"]
    where = "content[0].attachment"
    context = resource.get("context", {})
    period = context.get("period", {})
    if "masterIdentifier" not in resource:
        reading.refuse("RequiredFieldMissing", "MHD needs the uniqueId", f"{place}.masterIdentifier")
    category = resource.get("category", ())
    if len(category) > 1:
        reading.refuse("RuleBroken", "a document has one class (MHD: category 0..1)", f"{place}.category")
    subject = resource.get("subject")
    patient_id = reading.patient(source, subject, f"{place}.subject") if subject else None
    authenticator = resource.get("authenticator")
    legal = person(source, authenticator, f"{place}.authenticator") if authenticator else Person()
    said_hash, said_size = attachment.get("hash"), attachment.get("size")
    digest = sha1(said_hash) if said_hash else None
    if said_hash and digest is None:
        said = "the hash is SHA-1 in base64: 20 bytes, or its 40 hexadecimal digits"
        reading.refuse("DataTypeError", said, f"{place}.{where}.hash")
    source_id, source_info = _source_patient(source, context.get("sourcePatientInfo"), patient_id)
    return DocumentEntry(
        entry_uuid=entry_uuid(resource.get("identifier", ())) or symbol,
        unique_id=_identity(source, [{**resource.get("masterIdentifier", {}), "use": "usual"}], "masterIdentifier")
        if "masterIdentifier" in resource
        else None,
        patient_id=patient_id,
        mime_type=attachment.get("contentType", ""),
        class_code=_concept(reading, category[0], f"{place}.category[0]") if category else None,
        type_code=_concept(reading, resource["type"], f"{place}.type") if "type" in resource else None,
        format_code=_coding(contents[0]["format"]) if "format" in contents[0] else None,
        healthcare_facility_type_code=_concept(reading, context["facilityType"], f"{place}.context.facilityType")
        if "facilityType" in context
        else None,
        practice_setting_code=_concept(reading, context["practiceSetting"], f"{place}.context.practiceSetting")
        if "practiceSetting" in context
        else None,
        confidentiality_code=_concepts(reading, resource.get("securityLabel", ()), f"{place}.securityLabel"),
        event_code_list=_concepts(reading, context.get("event", ()), f"{place}.context.event"),
        author=tuple(
            author_of(found)
            for number, reference in enumerate(resource.get("author", ()))
            if (found := person(source, reference, f"{place}.author[{number}]")).known
        ),
        creation_time=_time(source, attachment, "creation", f"{where}.creation"),
        service_start_time=_time(source, period, "start", "context.period.start"),
        service_stop_time=_time(source, period, "end", "context.period.end"),
        language_code=attachment.get("language"),
        legal_authenticator=legal_authenticator_of(legal),
        source_patient_id=source_id,
        source_patient_info=source_info,
        reference_id_list=tuple(dict.fromkeys(_reference_ids(source, context))),
        size=str(said_size) if said_size is not None else None,
        hash=digest,
        title=_localized(attachment.get("title", "")),
        comments=_localized(resource.get("description", "")),
    )


def _source_patient(
    source: Source, reference: dict[str, Any] | None, patient_id: str | None
) -> tuple[str | None, tuple[str, ...]]:
    """SourcePatientId and sourcePatientInfo (ITI TF-3:4.2.3.2.22, 4.2.3.2.23)."""
    reading, where = source.reading, f"{source.place}.context.sourcePatientInfo"
    if reference is None:
        return None, ()
    identifiers = reading.identifiers_of_patient(source, reference, where) or ()
    literal = reference.get("reference", "")
    resource = source.resolve(literal, where) if literal else None
    _check_same_patient(reading, identifiers, patient_id, where)
    foreign = [
        i for i in (resource or {}).get("identifier", ()) if i.get("value") and not authority(i.get("system", ""))
    ]
    info = [f"PID-3|{i}" for i in identifiers]
    info += [f"PID-3|{escape(i['value'])}^^^&{escape(i.get('system', ''))}&URI" for i in foreign]
    if resource is not None:
        wrong: list[Finding] = []
        demographics = read_patient(resource, wrong, foreign=True).demographics
        reading.findings += [f._replace(location=where) for f in wrong]
        info += list(demographics_info(PatientId("", ""), demographics))[1:]
    # A source whose numbers have no OID knows the patient, to anybody else, by the number that it publishes under.
    return (str(identifiers[0]) if identifiers else patient_id), tuple(info)


def _check_same_patient(reading: Reading, identifiers: Sequence[PatientId], patient_id: str | None, where: str) -> None:
    own = {str(i) for i in identifiers if i.authority == reading.affinity_domain}
    subject = {str(i) for i in reading.patients.get(patient_id or "", ()) if i.authority == reading.affinity_domain}
    if own and subject and own != subject:
        said = f"the subject is {', '.join(sorted(subject))}, this is {', '.join(sorted(own))}"
        reading.refuse("XDSPatientIdDoesNotMatch", said, where)


def _reference_ids(source: Source, context: dict[str, Any]) -> Iterator[str]:
    """CXi of what the document is about (ITI TF-3:4.2.3.2.28)."""
    for name, kind in (("encounter", _REFERENCE_TYPES["encounter"]), ("related", "")):
        for number, reference in enumerate(context.get(name, ())):
            where = f"{source.place}.context.{name}[{number}]"
            literal = reference.get("reference", "")
            resource = source.resolve(literal, where) if literal else None
            identifiers = [reference["identifier"]] if "identifier" in reference else []
            identifiers += (resource or {}).get("identifier", ())
            found = next((i for i in identifiers if i.get("value")), None)
            if found is not None:
                yield _cxi(found, kind)
            elif literal and not literal.startswith(("#", _UUID)):
                yield f"{escape(literal)}^^^^{kind or _REFERENCE_TYPES['other']}"


def _cxi(identifier: dict[str, Any], kind: str) -> str:
    system, value = identifier.get("system", ""), identifier["value"]
    coding: dict[str, Any] = next(iter(identifier.get("type", {}).get("coding", ())), {})
    kind = kind or coding.get("code", "")
    if system == _URI:
        return f"{escape(unique_id(identifier) or value)}^^^^{kind or _REFERENCE_TYPES['unique_id']}"
    oid = authority(system)
    scope = f"&{oid}&ISO" if oid else f"&{escape(system)}&URI" if system else ""
    return f"{escape(value)}^^^{scope}^{kind or _REFERENCE_TYPES['other']}"


def _extension(source: Source, name: str) -> list[dict[str, Any]]:
    return [e for e in source.resource.get("extension", ()) if e["url"] == _EXTENSIONS[name]]


def _designations(source: Source) -> tuple[Code, ...]:
    found = []
    for number, extension in enumerate(source.resource.get("extension", ())):
        where = f"{source.place}.extension[{number}]"
        if extension["url"] == _EXTENSIONS["designation_type"]:
            code = _concept(source.reading, extension.get("valueCodeableConcept", {}), where)
            found += [code] if code else []
    return tuple(found)


def _note(source: Source) -> Localized:
    notes = source.resource.get("note", ())
    return _localized(notes[0]["text"]) if notes else ()


def _check_list(source: Source, *forbidden: str) -> None:
    check_modifiers(source, "encounter", "orderedBy", "emptyReason", *forbidden)
    for name, expected in (("status", "current"), ("mode", "working")):
        found = source.resource.get(name)
        if found != expected:
            source.reading.refuse("RuleBroken", f"{name} must be {expected}, is {found!r}", f"{source.place}.{name}")
    for number, entry in enumerate(source.resource.get("entry", ())):
        if {"flag", "deleted", "date"} & entry.keys():
            said = "a member has no flag, deleted or date (MHD)"
            source.reading.refuse("RuleBroken", said, f"{source.place}.entry[{number}]")


def read_submission_set(source: Source, symbol: str) -> SubmissionSet:
    """SubmissionSet of a List."""
    resource, reading, place = source.resource, source.reading, source.place
    _check_list(source)
    sender: dict[str, Any] | None = resource.get("source")
    author: tuple[Author, ...] = ()
    if sender:
        who = person(source, sender, f"{place}.source") if sender.keys() - {"extension", "id"} else Person()
        for extension in sender.get("extension", ()):
            if extension["url"] == _EXTENSIONS["author_organization"]:
                unit = person(source, extension.get("valueReference", {}), f"{place}.source.extension")
                who = who._replace(institution=unit.institution)
        author = (author_of(who),) if who.known else ()
    recipients = (
        person(source, e.get("valueReference", {}), f"{place}.extension")
        for e in _extension(source, "intended_recipient")
    )
    source_ids = [e.get("valueIdentifier", {}) for e in _extension(source, "source_id")]
    source_id = unique_id(source_ids[0]) if source_ids else None
    if source_id is not None and not is_oid(source_id):
        source_id = source_ids[0].get("value", "").removeprefix(_OID)
    if not source_ids:
        reading.refuse("RequiredFieldMissing", "the sourceId extension is needed", f"{place}.extension")
    elif source_id is None:
        reading.refuse("DataTypeError", "sourceId is an OID: urn:oid:…", f"{place}.extension")
    subject = resource.get("subject")
    designations = _designations(source)
    if len(designations) > 1:
        reading.refuse("RuleBroken", "a SubmissionSet has one designationType", f"{place}.extension")
    if "date" not in resource:
        reading.refuse("RequiredFieldMissing", "the time of submission is needed", f"{place}.date")
    identifiers = resource.get("identifier", ())
    return SubmissionSet(
        entry_uuid=entry_uuid(identifiers) or symbol,
        unique_id=_identity(source, identifiers, "identifier"),
        source_id=source_id,
        patient_id=reading.patient(source, subject, f"{place}.subject") if subject else None,
        submission_time=_time(source, resource, "date", "date"),
        content_type_code=designations[0] if designations else None,
        author=author,
        intended_recipient=tuple(text for r in recipients if (text := recipient_of(r))),
        title=_localized(resource.get("title", "")),
        comments=_note(source),
    )


def read_folder(source: Source, symbol: str) -> Folder:
    """Folder of a List; lastUpdateTime is the registry's to say."""
    resource, place = source.resource, source.place
    _check_list(source, "source")
    subject = resource.get("subject")
    identifiers = resource.get("identifier", ())
    return Folder(
        entry_uuid=entry_uuid(identifiers) or symbol,
        unique_id=_identity(source, identifiers, "identifier"),
        patient_id=source.reading.patient(source, subject, f"{place}.subject") if subject else None,
        code_list=_designations(source),
        title=_localized(resource.get("title", "")),
        comments=_note(source),
    )

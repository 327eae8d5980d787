"""What a submission must fulfil before anything is looked up (ITI TF-3:4.2.1 to 4.2.3, 4.3.1).

Every rule is applied to every object and all findings are returned; rules that need the registry's content are in
``actors/document_registry``.
"""

from __future__ import annotations

import re
from calendar import isleap
from collections.abc import Callable, Container, Iterator, Sequence
from typing import Any, Protocol, TypedDict

from obieg.domain.attributes import DOCUMENT_ENTRY, FOLDER, SUBMISSION_SET, Attribute
from obieg.domain.documents import (
    Association,
    AssociationType,
    Author,
    DocumentEntry,
    EntryType,
    Folder,
    Submission,
    SubmissionSet,
)
from obieg.domain.identifiers import OID, is_oid, is_uuid_urn, patient_id
from obieg.domain.problems import Finding

VALUE_LENGTH_MAX = 4096  # of any single metadata value; ITI TF-3:4.2.3.1.2 leaves it to the schema, databases do not
_DTM = re.compile(r"\d{4}(\d\d(\d\d(\d\d(\d\d(\d\d)?)?)?)?)?\Z", re.ASCII)
_SHA1 = re.compile(r"[0-9a-fA-F]{40}\Z")
_LANGUAGE = re.compile(r"[A-Za-z]{1,8}(-[A-Za-z0-9]{1,8})*\Z")  # RFC 5646
_INT = re.compile(r"\d{1,18}\Z", re.ASCII)
# The root is an OID or a UUID in OID form; the extension is free text (ITI TF-3:4.2.3.2.26).
_UNIQUE_ID_LENGTH_MAX = 128
_DAYS = (31, 29, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31)


class Codes(Protocol):
    """The codes that an affinity domain uses."""

    @property
    def mime_types(self) -> Container[str]:
        """Media types of documents."""

    def accepts(self, attribute: str, code: str, scheme: str) -> bool:
        """Whether a code may stand in ``attribute`` (a field name of the domain objects)."""


class _Allowed(TypedDict):
    allow_limited: bool
    recipient: bool


def is_dtm(value: str) -> bool:
    """Whether ``value`` is a DTM without fraction or offset, and a real time (ITI TF-3:4.2.3.1.7)."""
    if not _DTM.match(value):
        return False
    length = len(value)
    if length >= 6 and not 1 <= int(value[4:6]) <= 12:
        return False
    if length >= 8 and not 1 <= int(value[6:8]) <= _DAYS[int(value[4:6]) - 1]:
        return False
    if length >= 8 and value[4:8] == "0229" and not isleap(int(value[:4])):
        return False
    return not (
        (length >= 10 and int(value[8:10]) > 23)
        or (length >= 12 and int(value[10:12]) > 59)
        or (length >= 14 and int(value[12:14]) > 59)
    )


def _is_unique_id(value: str) -> bool:
    if len(value) > _UNIQUE_ID_LENGTH_MAX:
        return False
    root, caret, extension = value.partition("^")
    return OID.match(root) is not None and len(root) <= 64 and (not caret or bool(extension)) and "^" not in extension


def _is_cxi(value: str) -> bool:
    parts = value.split("^")
    return len(parts) >= 5 and bool(parts[0]) and bool(parts[4])


_FORMATS: dict[str, tuple[Callable[[str], bool], str]] = {
    "dtm": (is_dtm, "a time of the form YYYY[MM[DD[hh[mm[ss]]]]]"),
    "cx": (lambda v: patient_id(v) is not None, "an identifier of the form id^^^&oid&ISO"),
    "oid": (is_oid, "an OID"),
    "sha1": (lambda v: _SHA1.match(v) is not None, "a SHA-1 of 40 hexadecimal digits"),
    "int": (lambda v: _INT.match(v) is not None, "a number of bytes"),
    "language": (lambda v: _LANGUAGE.match(v) is not None, "a language tag such as pl-PL"),
    "unique_id": (_is_unique_id, "an OID, or an OID, ^ and an extension, of at most 128 characters"),
    "cxi": (_is_cxi, "an identifier with its type code (CXi: id^^^&authority&ISO^type)"),
    "xcn": (lambda v: any(v.split("^")[:3]), "a person (XCN) with an id or a name"),
}


def check_submission(
    submission: Submission,
    codes: Codes,
    *,
    provide: bool = False,
    allow_limited: bool = False,
    recipient: bool = False,
) -> list[Finding]:
    """All findings. ``provide``: as sent to a repository (ITI-41), where size, hash and repository are not needed.

    ``recipient``: as sent to a Document Recipient (XDR), where limited metadata need not name a patient.
    """
    allowed: _Allowed = {"allow_limited": allow_limited, "recipient": recipient}
    findings = _check_objects(submission, codes, provide=provide, allowed=allowed)
    findings += _check_associations(submission)
    return findings


def check_update(submission: Submission, codes: Codes, *, allow_limited: bool = False) -> list[Finding]:
    """All findings of the objects of an update; what its associations ask for is for :mod:`obieg.domain.updating`."""
    allowed: _Allowed = {"allow_limited": allow_limited, "recipient": False}
    return _check_objects(submission, codes, provide=False, allowed=allowed)


def _check_objects(submission: Submission, codes: Codes, *, provide: bool, allowed: _Allowed) -> list[Finding]:
    findings: list[Finding] = []
    for entry in submission.entries:
        findings += check_entry(entry, codes, provide=provide, **allowed)
    findings += _check_object(submission.submission_set, "SubmissionSet", SUBMISSION_SET, codes, **allowed)
    for folder in submission.folders:
        findings += _check_object(folder, "Folder", FOLDER, codes, **allowed)
    findings += _check_identities(submission)
    findings += _check_patients(submission)
    return findings


def check_entry(
    entry: DocumentEntry,
    codes: Codes,
    *,
    provide: bool = False,
    allow_limited: bool = False,
    recipient: bool = False,
) -> list[Finding]:
    """The rules of one DocumentEntry."""
    findings = _check_object(
        entry,
        "DocumentEntry",
        DOCUMENT_ENTRY,
        codes,
        provide=provide,
        allow_limited=allow_limited,
        recipient=recipient,
    )
    if entry.mime_type and entry.mime_type.partition(";")[0].strip() not in codes.mime_types:
        findings.append(
            Finding(
                "XDSRegistryMetadataError",
                f"mimeType {entry.mime_type!r} is not used in this affinity domain",
                f"DocumentEntry {entry.entry_uuid}: mimeType",
            )
        )
    start, stop = entry.service_start_time, entry.service_stop_time
    if start and stop:
        common = min(len(start), len(stop))
        if start[:common] > stop[:common]:
            findings.append(
                Finding(
                    "XDSRegistryMetadataError",
                    "serviceStartTime is later than serviceStopTime",
                    f"DocumentEntry {entry.entry_uuid}: serviceStartTime",
                )
            )
    return findings


def check_entry_types(submission: Submission, entry_type: EntryType) -> Iterator[Finding]:
    """Whether all entries are of the type that the transaction registers (ITI TF-2:3.42.4.1.2, 3.61.4.1.2)."""
    if entry_type is EntryType.STABLE:
        wrong, detail = EntryType.ON_DEMAND, "an on-demand entry is registered by ITI-61, not with stable documents"
    else:
        wrong, detail = EntryType.STABLE, "ITI-61 registers on-demand entries only: use ITI-42 for a stable document"
        if not submission.entries:
            yield Finding("XDSRegistryMetadataError", "there is no on-demand entry", "RegistryObjectList")
    for entry in submission.entries:
        if entry.entry_type is wrong:
            yield Finding("XDSRegistryMetadataError", detail, f"DocumentEntry {entry.entry_uuid}: objectType")


def _check_object(
    value: DocumentEntry | SubmissionSet | Folder,
    kind: str,
    table: Sequence[Attribute],
    codes: Codes,
    *,
    provide: bool = False,
    allow_limited: bool = False,
    recipient: bool = False,
) -> list[Finding]:
    findings: list[Finding] = []
    limited = value.limited_metadata
    on_demand = getattr(value, "entry_type", None) is EntryType.ON_DEMAND
    if limited and not allow_limited:
        findings.append(
            Finding(
                "XDSRegistryMetadataError",
                "limited metadata is not accepted here: send the full metadata, or have the operator allow it",
                f"{kind} {value.entry_uuid}",
            )
        )
    for row in table:
        found = getattr(value, row.field)
        if not found:
            least = row.min
            if limited and recipient and row.recipient_limited_min is not None:
                least = row.recipient_limited_min
            elif limited and row.limited_min is not None:
                least = row.limited_min
            elif on_demand and row.on_demand_min is not None:
                least = row.on_demand_min
            elif provide and row.provide_min is not None:
                least = row.provide_min
            if least:
                findings.append(_finding(kind, value, row, f"{row.name} is missing"))
            continue
        if on_demand and row.on_demand_max == -1:
            findings.append(_finding(kind, value, row, f"{row.name} is not allowed in an on-demand entry"))
        for detail in _value_problems(row, found, codes):
            findings.append(_finding(kind, value, row, detail))
    return findings


def _finding(kind: str, value: Any, row: Attribute, detail: str) -> Finding:
    return Finding(
        "XDSRegistryMetadataError", f"{detail} (ITI TF-3:{row.section})", f"{kind} {value.entry_uuid}: {row.name}"
    )


def _value_problems(row: Attribute, found: Any, codes: Codes) -> Iterator[str]:
    kind = row.kind
    if kind == "code":
        for code in found if row.max == 0 else (found,):
            if not codes.accepts(row.field, code.code, code.scheme):
                yield f"{row.name} {code.code!r} of coding scheme {code.scheme!r} is not used in this affinity domain"
    elif kind == "author":
        for author in found:
            yield from _author_problems(author)
    elif row.carrier in ("name", "description"):
        if any(len(v) > VALUE_LENGTH_MAX for _, v in found):
            yield f"{row.name} is longer than {VALUE_LENGTH_MAX} characters"
    else:
        rule = _FORMATS.get(kind)
        for value in found if row.max == 0 else (found,):
            if len(value) > VALUE_LENGTH_MAX:
                yield f"{row.name} is longer than {VALUE_LENGTH_MAX} characters"
            elif rule is not None and not rule[0](value):
                yield f"{row.name} {value[:80]!r} is not {rule[1]}"


def _author_problems(author: Author) -> Iterator[str]:
    if len(author.person) > 1:
        yield "an author has at most one authorPerson (ITI TF-3:4.2.3.2.1.1)"
    if not (author.person or author.institution or author.role or author.specialty or author.telecommunication):
        yield "an author needs at least one of its sub-attributes"
    for field in (author.person, author.institution, author.role, author.specialty, author.telecommunication):
        if any(len(v) > VALUE_LENGTH_MAX for v in field):
            yield f"a sub-attribute of author is longer than {VALUE_LENGTH_MAX} characters"


def _objects(submission: Submission) -> Iterator[tuple[str, DocumentEntry | SubmissionSet | Folder | Association]]:
    yield "SubmissionSet", submission.submission_set
    for entry in submission.entries:
        yield "DocumentEntry", entry
    for folder in submission.folders:
        yield "Folder", folder
    for association in submission.associations:
        yield "Association", association


def _key(identifier: str) -> str:
    """What is compared: UUIDs whatever their case, symbols as they are (ITI TF-3:4.2.3.1.5)."""
    return identifier.lower() if identifier.startswith("urn:") else identifier


def _check_identities(submission: Submission) -> Iterator[Finding]:
    ids: set[str] = set()
    unique_ids: set[str] = set()
    for kind, value in _objects(submission):
        where = f"{kind} {value.entry_uuid}"
        key = _key(value.entry_uuid)
        if not value.entry_uuid:
            yield Finding("XDSRegistryMetadataError", "an object without an id", kind)
        elif key in ids:
            yield Finding("XDSRegistryMetadataError", "two objects have the same id", where)
        elif value.entry_uuid.startswith("urn:") and not is_uuid_urn(value.entry_uuid):
            yield Finding("XDSRegistryMetadataError", "the id is neither a symbol nor a UUID as urn:uuid:", where)
        ids.add(key)
        unique_id = getattr(value, "unique_id", None)
        if unique_id is not None:
            if unique_id in unique_ids:
                yield Finding("XDSRegistryDuplicateUniqueIdInMessage", f"uniqueId {unique_id} is given twice", where)
            unique_ids.add(unique_id)


def _check_patients(submission: Submission) -> Iterator[Finding]:
    expected = submission.submission_set.patient_id
    for kind, values in (("DocumentEntry", submission.entries), ("Folder", submission.folders)):
        for value in values:
            if value.patient_id and expected and value.patient_id != expected:
                yield Finding(
                    "XDSPatientIdDoesNotMatch",
                    "patientId differs from that of the submission set",
                    f"{kind} {value.entry_uuid}: patientId",
                )


def _check_associations(submission: Submission) -> Iterator[Finding]:
    entries = {_key(e.entry_uuid) for e in submission.entries}
    folders = {_key(f.entry_uuid) for f in submission.folders}
    set_id = _key(submission.submission_set.entry_uuid)
    members: set[str] = set()
    for association in submission.associations:
        where = f"Association {association.entry_uuid}"
        if not association.source or not association.target:
            yield Finding("XDSRegistryMetadataError", "sourceObject and targetObject are needed", where)
            continue
        source, target = _key(association.source), _key(association.target)
        if association.type is AssociationType.HAS_MEMBER:
            if source == set_id:
                members.add(target)
                yield from _check_set_status(association, entries, folders, where)
        elif association.type.relates_documents:
            if source not in entries and association.type is not AssociationType.IS_SNAPSHOT_OF:
                yield Finding(
                    "XDSRegistryMetadataError",
                    f"the source of {association.type} must be a DocumentEntry of this submission",
                    where,
                )
        else:
            yield Finding(
                "XDSRegistryMetadataError", f"{association.type} belongs to Update Document Set (ITI-57)", where
            )
    # Of a folder without it nothing is lost: it names its documents itself, and real sources leave it out.
    for missing in sorted(entries - members):
        yield Finding(
            "XDSRegistryMetadataError", "is not linked to the submission set by HasMember", f"DocumentEntry {missing}"
        )


def _check_set_status(association: Association, entries: set[str], folders: set[str], where: str) -> Iterator[Finding]:
    status, target = association.submission_set_status, _key(association.target)
    if target in entries:
        if status is None:
            yield Finding("XDSRegistryMetadataError", "SubmissionSetStatus is missing (ITI TF-3:4.2.2.1.1)", where)
        elif status != "Original":
            yield Finding(
                "XDSRegistryMetadataError", f"SubmissionSetStatus of a new entry must be Original, is {status!r}", where
            )
    elif target not in folders and status == "Original":
        yield Finding(
            "XDSRegistryMetadataError",
            "SubmissionSetStatus Original names an object that is not in this submission; use Reference",
            where,
        )

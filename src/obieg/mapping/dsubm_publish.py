"""DSUBm over FHIR R4, publishing: what happened to resources elsewhere (ITI-111).

https://profiles.ihe.net/ITI/DSUBm/ITI-111.html. A Bundle of the profile ResourcePublishBundle is read: at most one
submission set and one Patient, documents and folders with what happened to each as ``request.method``.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import datetime
from typing import Any, NamedTuple

import msgspec

from obieg.codes.load import toml
from obieg.domain.affinity_domain import AffinityDomain
from obieg.domain.audit import AuditObject
from obieg.domain.documents import AvailabilityStatus, Code, DocumentEntry, Submission, SubmissionSet, Value
from obieg.domain.identifiers import PatientId
from obieg.domain.problems import Finding, Problem
from obieg.mapping import fhir_outcome, fhir_validate
from obieg.mapping.fhir_patient import instant
from obieg.mapping.mhd_metadata import check_modifiers, read_entry, read_folder, read_submission_set, with_schemes
from obieg.mapping.mhd_people import with_people
from obieg.mapping.mhd_provide import entry_kind
from obieg.mapping.mhd_reading import Reading, Source
from obieg.protocol import FhirReply, FhirRequest
from obieg.wire import fhir_json
from obieg.wire.fhir_validation import violations

_PUBLISH = toml("subscription_topics.toml")["publish"]
PROFILE: str = _PUBLISH["profile"]
_FORMS = {
    kind: {method: re.compile(form) for method, form in row.items()} for kind, row in _PUBLISH["requests"].items()
}
_STATUSES = {"current": AvailabilityStatus.APPROVED, "superseded": AvailabilityStatus.DEPRECATED}
_DONE = {"POST": "201 Created", "DELETE": "201 Deleted"}  # 2:3.111.6.2: 201 also for what was deleted


class PublishedResource(Value, frozen=True):
    """A document or a submission set, and what happened to it."""

    event: str  # a row of [event.*] in codes/subscription_topics.toml
    described: DocumentEntry | SubmissionSet  # patient_id as written
    focus: str
    resource: str  # JSON as sent; "" of what was deleted
    place: str


class EntryAnswer(NamedTuple):
    """What the answer says of one entry."""

    status: str
    location: str
    said: str


class ResourcesPublished(Value, frozen=True):
    """One Bundle; codes have their FHIR systems as schemes."""

    resources: tuple[PublishedResource, ...]
    patients: Mapping[str, tuple[PatientId, ...]]  # as written -> all that name the patient
    named_at: Mapping[str, str]  # as written -> where
    others: Mapping[Code, tuple[Code, ...]]
    answers: tuple[EntryAnswer, ...]


def read_published(request: FhirRequest) -> ResourcesPublished:
    """Reads an ITI-111 request; raises Problem with everything that is wrong with it."""
    bundle = request.body or {}
    if bundle.get("resourceType") != "Bundle" or bundle.get("type") != "transaction":
        raise Problem.of("RuleBroken", "a Bundle of type transaction is expected at this address", "Bundle.type")
    if PROFILE not in (p.partition("|")[0] for p in bundle.get("meta", {}).get("profile", ())):
        raise Problem.of("RuleBroken", f"a published Bundle names its profile {PROFILE}", "Bundle.meta.profile")
    items = bundle.get("entry", ())
    reading = Reading(
        request.base,
        request.affinity_domain,
        {
            item["fullUrl"]: (f"Bundle.entry[{number}].resource", item["resource"])
            for number, item in enumerate(items)
            if "fullUrl" in item and "resource" in item
        },
    )
    kinds: list[str] = []
    seen: set[str] = set()
    resources: list[PublishedResource] = []
    answers: list[EntryAnswer] = []
    for number, item in enumerate(items):
        kind = _checked(reading, item, f"Bundle.entry[{number}]", seen)
        if not kind:
            continue
        kinds.append(kind)
        resource = _read(reading, item, kind, number)
        resources += [resource] if resource is not None else []
        answers.append(_answer(item, considered=resource is not None))
    for kind, said in (("SubmissionSet", "one submission set"), ("Patient", "one Patient")):
        if kinds.count(kind) > 1:
            reading.refuse("RuleBroken", f"a published Bundle has at most {said}", "Bundle.entry")
    if not set(kinds) & {"SubmissionSet", "DocumentReference", "Folder"} and not reading.findings:
        said = "nothing is published: a submission set, a document or a folder is needed"
        reading.refuse("RequiredFieldMissing", said, "Bundle.entry")
    if not reading.findings:  # FHIR's own rules would say again, of the whole Bundle, what an entry lacks
        reading.findings += map(fhir_validate.finding, violations(bundle))
    reading.refuse_all()
    named = tuple(_with_people(one, reading) for one in resources)
    return ResourcesPublished(named, reading.patients, reading.first_named, reading.others, tuple(answers))


def _checked(reading: Reading, item: dict[str, Any], place: str, seen: set[str]) -> str:
    """What an entry is about; "" where it cannot be read."""
    missing = [name for name in ("fullUrl", "resource", "request") if name not in item]
    for name in missing:
        said = f"an entry of a published Bundle needs {name}"
        if name == "resource":
            said += ", also of what was deleted: by it subscriptions are found"
        reading.refuse("RequiredFieldMissing", said, f"{place}.{name}")
    if missing:
        return ""
    if item["fullUrl"] in seen:
        said = f"two entries have the fullUrl {item['fullUrl'][:120]}"
        reading.refuse("RuleBroken", said, f"{place}.fullUrl")
    seen.add(item["fullUrl"])
    kind = entry_kind(item["resource"])
    if kind not in _FORMS:
        said = f"a {kind} is not published" if kind else "a List is published as a submissionset or a folder"
        reading.refuse("RuleBroken", said, f"{place}.resource")
        return ""
    forms, method, url = _FORMS[kind], item["request"]["method"], item["request"]["url"]
    url = url.removeprefix(f"{reading.base}/")
    if method not in forms:
        said = f"a {kind} is published with {' or '.join(forms)}, not with {method}"
        reading.refuse("RuleBroken", said, f"{place}.request.method")
    elif not forms[method].fullmatch(url):
        said = f"{url[:80]!r} is no address for {method} of a {kind}"
        reading.refuse("RuleBroken", said, f"{place}.request.url")
    return kind


def _read(reading: Reading, item: dict[str, Any], kind: str, number: int) -> PublishedResource | None:
    """What subscriptions may be about; None for anything else."""
    resource, place = item["resource"], f"Bundle.entry[{number}].resource"
    if kind == "Patient":
        source = Source(reading, resource, place)
        check_modifiers(source)
        reading.patient(source, {"reference": item["fullUrl"]}, f"{place}.identifier")
        return None
    subject = resource.get("subject")
    if subject is None:
        said = "a published resource names its patient: by whom would subscriptions be found?"
        reading.refuse("RequiredFieldMissing", said, f"{place}.subject")
    elif not subject.get("reference") and "identifier" not in subject:
        said = "a Patient is named by reference or identifier"
        reading.refuse("RequiredFieldMissing", said, f"{place}.subject")
        subject = None
    if subject is None:
        resource = {k: v for k, v in resource.items() if k != "subject"}
    if kind == "Folder":
        read_folder(Source(reading, resource, place), f"e{number}")
        return None
    described: DocumentEntry | SubmissionSet
    if kind == "SubmissionSet":
        described = read_submission_set(Source(reading, resource, place), f"e{number}")
        event = "create"
    else:
        status = resource.get("status", "")
        if status not in _STATUSES:
            said = f"a document is {' or '.join(_STATUSES)}, not {status!r}"
            reading.refuse("RuleBroken", said, f"{place}.status")
        # What is no longer valid is read like what is: the status is kept apart.
        described = read_entry(Source(reading, {**resource, "status": "current"}, place), f"e{number}")
        described = msgspec.structs.replace(
            described, availability_status=_STATUSES.get(status, AvailabilityStatus.APPROVED)
        )
        event = _event(item["request"]["method"], status)
    sent = fhir_json.write(item["resource"]).decode() if event != "delete" else ""
    return PublishedResource(event, described, item["fullUrl"], sent, place)


def _event(method: str, status: str) -> str:
    """A publisher does not say what an update changed: a document that is superseded became so. Standing: assumed."""
    if method == "PUT":
        return "status" if status == "superseded" else "version"
    return "delete" if method == "DELETE" else "create"


def _answer(item: dict[str, Any], *, considered: bool) -> EntryAnswer:
    status = _DONE.get(item["request"]["method"], "200 OK")
    said = "subscriptions that match are told" if considered else "no subscription is about it"
    return EntryAnswer(status, item["fullUrl"], said)


def _with_people(one: PublishedResource, reading: Reading) -> PublishedResource:
    """With the people as the references themselves name them."""
    submission, _ = with_people(_submission(one.described), reading.people, {}, "")
    return msgspec.structs.replace(one, described=_described(submission))


def _submission(described: DocumentEntry | SubmissionSet) -> Submission:
    if isinstance(described, SubmissionSet):
        return Submission(described)
    return Submission(SubmissionSet(""), (described,))


def _described(submission: Submission) -> DocumentEntry | SubmissionSet:
    return submission.entries[0] if submission.entries else submission.submission_set


def in_domain(
    described: DocumentEntry | SubmissionSet, others: Mapping[Code, tuple[Code, ...]], domain: AffinityDomain
) -> DocumentEntry | SubmissionSet:
    """With the codes as the affinity domain writes them, as subscriptions ask for them."""
    return _described(with_schemes(_submission(described), others, domain))


def patients_of(published: ResourcesPublished, keys: Mapping[PatientId, int | None]) -> dict[str, int]:
    """The key of each patient, as written; ``keys`` are of all their identifiers. Raises Problem."""
    found: dict[str, int] = {}
    findings: list[Finding] = []
    for written, identifiers in published.patients.items():
        named = {key for i in identifiers if (key := keys[i]) is not None}
        where = published.named_at[written]
        if len(named) > 1:
            said = f"its identifiers are those of {len(named)} patients"
            findings.append(Finding("XDSPatientIdDoesNotMatch", said, where))
        elif not named:
            said = f"no patient is known here by {', '.join(map(str, identifiers))}: announce the patient first"
            findings.append(Finding("XDSUnknownPatientId", said, where))
        else:
            found[written] = named.pop()
    if findings:
        raise Problem(findings)
    return found


def audit_published(published: ResourcesPublished) -> tuple[AuditObject, ...]:
    """Whom it is about."""
    return tuple(AuditObject("patient", written) for written in published.patients)


def write_published(result: tuple[ResourcesPublished, datetime], _request: FhirRequest) -> FhirReply:
    """The transaction-response: one entry for each of the request, in its order (2:3.111.6.2)."""
    published, at = result
    entries = []
    for answer in published.answers:
        said = {"severity": "information", "code": "informational", "diagnostics": answer.said}
        response = {"status": answer.status, "location": answer.location, "lastModified": instant(at)}
        entries.append({"response": {**response, "outcome": fhir_outcome.outcome([said])}})
    return FhirReply(body={"resourceType": "Bundle", "type": "transaction-response", "entry": entries})

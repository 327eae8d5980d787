"""Documents that patients add by themselves: ``Patient/[id]/$add-document`` and ``$withdraw-document`` (ours)."""

from __future__ import annotations

import binascii
import re
from base64 import b64decode
from collections.abc import Callable
from datetime import UTC, date, datetime
from uuid import UUID

from obieg.domain.documents import (
    Annotation,
    Association,
    AssociationType,
    Author,
    AvailabilityStatus,
    Submission,
)
from obieg.domain.own_documents import BYTES_MAX, CLASS, KINDS, MEDIA, PIXELS_MAX, TITLE_MAX, Added, Withdrawn
from obieg.domain.persons import Demographics
from obieg.domain.problems import Finding, Problem
from obieg.domain.requester import Requester
from obieg.mapping import pik, pik_values
from obieg.mapping.emergency import named
from obieg.mapping.fhir_parameters import arguments
from obieg.protocol import FhirReply, FhirRequest
from obieg.wire import cda, pictures

_UUID = re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}\Z")
_PDF = "application/pdf"
_PDF_END = b"%%EOF"
_END_WITHIN = 2048  # bytes


def read_request(request: FhirRequest) -> Added | Withdrawn:
    """What is asked; raises Problem with everything that is wrong with it."""
    patient, given = named(request), arguments(request)
    if "withdraw" in request.interaction:
        if not _UUID.match(given["document"][0]):
            raise Problem.of("DataTypeError", "the id of a DocumentReference is expected", "http.document")
        return Withdrawn(patient, f"urn:uuid:{given['document'][0]}")
    title, kind = " ".join(given["title"][0].split()), given["kind"][0]
    findings = []
    if not 0 < len(title) <= TITLE_MAX or not title.isprintable():
        findings.append(Finding("RuleBroken", f"1 to {TITLE_MAX} characters", "http.title"))
    if kind not in KINDS:
        findings.append(Finding("TableValueNotFound", f"one of {', '.join(KINDS)} is expected", "http.kind"))
    day = _day(given["date"][0], findings)
    content = _content(str(given["file"][0].get("data", "")), findings)
    if findings or day is None:
        raise Problem(findings)
    return Added(patient, title, kind, day, content)


def _day(said: str, findings: list[Finding]) -> date | None:
    try:
        return date.fromisoformat(said)
    except ValueError:
        findings.append(Finding("DataTypeError", "a date is expected", "http.date"))
        return None


def _content(data: str, findings: list[Finding]) -> bytes:
    where = "http.file"
    if len(data) > (BYTES_MAX + 2) // 3 * 4:
        findings.append(Finding("LimitExceeded", f"at most {BYTES_MAX // 1024**2} MiB", where))
        return b""
    try:
        content = b64decode(data, validate=True)
    except (binascii.Error, ValueError):
        content = b""
    wrong = wrong_content(content)
    if wrong:
        findings.append(Finding("InvalidDocumentContent", wrong, where))
    return content


def wrong_content(content: bytes) -> str:
    """Why bytes are no document that a patient may add; "" where they are."""
    media = pik.media_type(content)
    if media not in MEDIA:
        return "a PDF, JPEG or PNG is expected, and the file begins like none of them"
    if media == _PDF:
        return "" if _PDF_END in content[-_END_WITHIN:] else "the PDF is not whole: its end is missing"
    size = pictures.size(content)
    if size is None:
        return "the picture says nothing of its size: it is not whole"
    if size.width * size.height > PIXELS_MAX:
        return f"the picture has more than {PIXELS_MAX // 10**6} million pixels"
    return ""


def submission_of(
    added: Added,
    by: Requester,
    demographics: Demographics,
    *,
    own: bool,
    source_id: str,
    now: datetime,
    new_uuid: Callable[[], UUID],
) -> Submission:
    """What registers it: the author is who added it, the class marks it. ``own``: they are the patient."""
    options = pik.DocumentOptions(
        unique_id=f"2.25.{new_uuid().int}",
        class_code=CLASS,
        type_code=KINDS[added.kind],
        title=added.title,
        creation_time=added.day.isoformat().replace("-", ""),
        source_patient_id=added.patient,
        patient=demographics,
        authors=(Author(person=(_xcn(by, numbered=own),)),),
    )
    described = pik.describe_file(
        added.content, options, patient_id=str(added.patient), source_id=source_id, now=now, new_uuid=new_uuid
    )
    return pik.submission(described, new_uuid=new_uuid)


def _xcn(by: Requester, *, numbered: bool) -> str:
    """The person. The number of whoever acts for the patient is nobody's business."""
    *given, family = by.person_name.split() or [""]
    root, _, extension = by.person.rpartition("#")
    return pik_values.xcn(
        [cda.Id(root, extension)] if numbered else [], [cda.Name(family=(family,), given=tuple(given))]
    )


def withdrawal_of(
    withdrawn: Withdrawn, by: Requester, *, source_id: str, now: datetime, new_uuid: Callable[[], UUID]
) -> Submission:
    """What deprecates it (ITI-57, Update DocumentEntry AvailabilityStatus)."""
    sset = pik.submission_set(
        str(withdrawn.patient),
        (Author(person=(_xcn(by, numbered=False),)),),
        (),
        source_id=source_id,
        now=now,
        new_uuid=new_uuid,
    )
    status = Association(
        entry_uuid=new_uuid().urn,
        type=AssociationType.UPDATE_AVAILABILITY_STATUS,
        source=sset.entry_uuid,
        target=withdrawn.entry_uuid,
        annotation=Annotation(original_status=AvailabilityStatus.APPROVED, new_status=AvailabilityStatus.DEPRECATED),
    )
    return Submission(sset, associations=(status,))


def today(now: datetime) -> date:
    """The day of Warsaw is never before that of UTC."""
    return now.astimezone(UTC).date()


def write_answer(added: str | None, _request: FhirRequest) -> FhirReply:
    """The document that was added; nothing of one that was withdrawn."""
    if added is None:
        return FhirReply(status=204)
    id_ = added.removeprefix("urn:uuid:")
    document = {"name": "document", "valueReference": {"reference": f"DocumentReference/{id_}"}}
    return FhirReply(body={"resourceType": "Parameters", "parameter": [document]}, status=201)

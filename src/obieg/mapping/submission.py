"""What transactions that bring metadata share (ITI-41, ITI-42, ITI-57, ITI-61, ITI-92)."""

from __future__ import annotations

from obieg.domain.audit import AuditObject
from obieg.domain.documents import Submission
from obieg.domain.problems import Finding, Problem
from obieg.mapping import ebrs
from obieg.protocol import SoapReply, SoapRequest

Read = tuple[Submission, tuple[Finding, ...]]  # and what is wrong with it


def decode(message: SoapRequest) -> Read:
    """The submission of a SubmitObjectsRequest. Raises Problem when there is none."""
    return _read(message, annotated=False)


def decode_update(message: SoapRequest) -> Read:
    """The same, with the annotations of an update (ITI TF-2:3.57.4.1.2, 3.92.4.1.2)."""
    return _read(message, annotated=True)


def _read(message: SoapRequest, *, annotated: bool) -> Read:
    ebrs.expect(message.body, ebrs.LCM, "SubmitObjectsRequest")
    findings: list[Finding] = []
    submission = ebrs.read_submit_objects(message.body, findings, annotated=annotated)
    if submission is None:
        raise Problem(findings)
    return submission, tuple(findings)


def encode(findings: tuple[Finding, ...], _message: SoapRequest) -> SoapReply:
    """Success with warnings, or what is wrong."""
    return SoapReply(ebrs.registry_response(findings))


def audit(read: Read) -> tuple[AuditObject, ...]:
    """See :func:`submission_audit`."""
    return submission_audit(read[0])


def submission_audit(submission: Submission) -> tuple[AuditObject, ...]:
    """Patient and submission set (ITI TF-2:3.41.5.1.1, 3.42.5.1.1, 3.57.5.1.1); limited metadata may name none."""
    sset = submission.submission_set
    patient = (AuditObject("patient", sset.patient_id),) if sset.patient_id else ()
    return (*patient, AuditObject("submission_set", sset.unique_id or ""))

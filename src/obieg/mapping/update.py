"""Reading an update of the registry: what ITI-57 and ITI-92 share (ITI TF-2:3.57.4.1.2, 3.92.4.1.2)."""

from __future__ import annotations

from obieg.domain.audit import AuditObject
from obieg.domain.documents import Submission
from obieg.domain.problems import Finding, Problem
from obieg.mapping import ebrs
from obieg.mapping.submission import submission_audit
from obieg.protocol import SoapReply, SoapRequest

Read = tuple[Submission, tuple[Finding, ...]]


def decode(message: SoapRequest) -> Read:
    """The submission, and what is wrong with it. Raises Problem when there is none."""
    ebrs.expect(message.body, ebrs.LCM, "SubmitObjectsRequest")
    findings: list[Finding] = []
    submission = ebrs.read_submit_objects(message.body, findings, annotated=True)
    if submission is None:
        raise Problem(findings)
    return submission, tuple(findings)


def encode(warnings: tuple[Finding, ...], _message: SoapRequest) -> SoapReply:
    """Success, or what is wrong."""
    return SoapReply(ebrs.registry_response(warnings))


def audit(read: Read) -> tuple[AuditObject, ...]:
    """Patient and submission set (ITI TF-2:3.57.5.1.1)."""
    return submission_audit(read[0])

"""What ITI-41 and ITI-42 share: the objects of their audit records, and documents with their entries."""

from __future__ import annotations

from obieg.domain.audit import AuditObject
from obieg.domain.documents import Submission


def submission_audit(submission: Submission) -> tuple[AuditObject, ...]:
    """Patient and submission set (ITI TF-2:3.41.5.1.1, 3.42.5.1.1); limited metadata may name no patient."""
    sset = submission.submission_set
    patient = (AuditObject("patient", sset.patient_id),) if sset.patient_id else ()
    return (*patient, AuditObject("submission_set", sset.unique_id or ""))

"""ITI-8 Patient Identity Feed: a source announces, updates or merges patients (HL7 v2 ADT over MLLP).

https://profiles.ihe.net/ITI/TF/Volume2/ITI-8.html
"""

from __future__ import annotations

from obieg.domain.audit import AuditObject
from obieg.domain.patients import PatientFeed
from obieg.mapping import adt
from obieg.protocol import MllpBinding, Transaction
from obieg.wire.hl7v2 import Answer


def _audit(feed: PatientFeed) -> tuple[AuditObject, ...]:
    """The patients of PID-3, and of MRG-1 in a merge (ITI TF-2:3.8.5.1); the edge adds MSH-10."""
    return tuple(AuditObject(kind="patient", identifier=str(i)) for i in (*feed.identifiers, *feed.merged))


TRANSACTION = Transaction(
    id="ITI-8",
    name="Patient Identity Feed",
    spec="https://profiles.ihe.net/ITI/TF/Volume2/ITI-8.html",
    actor="patient_index",
    initiator="Patient Identity Source",
    responder="Document Registry",
    binding=MllpBinding("ADT", ("A01", "A04", "A05", "A08", "A40")),
    event="patient_record",
    decode=lambda request: adt.patient_feed(request.message, request.authorities),
    serve=lambda index, feed, context: index.feed(feed, context),
    encode=lambda *_: Answer(),
    refuse=lambda *_: Answer(),
    audit=_audit,
    permission="patient_index:identity:feed",
)

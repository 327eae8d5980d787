"""ITI-64 Notify XAD-PID Link Change: identifiers go to another affinity-domain id (HL7 v2.5 ADT^A43 over MLLP).

PID-3 has the affinity-domain id and local ids after the change, MRG-1 those before it.

https://profiles.ihe.net/ITI/TF/Volume2/ITI-64.html
"""

from __future__ import annotations

from obieg.domain.audit import AuditObject
from obieg.domain.patients import PatientFeed
from obieg.mapping import acknowledgement, adt, link_change
from obieg.protocol import MllpBinding, Notification, Transaction
from obieg.wire.hl7v2 import Answer


def _audit(feed: PatientFeed) -> tuple[AuditObject, ...]:
    """The patients of PID-3 and MRG-1 (ITI TF-2:3.64.5); the edge adds MSH-10."""
    return tuple(AuditObject(kind="patient", identifier=str(i)) for i in (*feed.identifiers, *feed.merged))


TRANSACTION = Transaction(
    id="ITI-64",
    name="Notify XAD-PID Link Change",
    spec="https://profiles.ihe.net/ITI/TF/Volume2/ITI-64.html",
    actor="patient_curation",
    initiator="Patient Identifier Cross-reference Manager",
    responder="Document Registry",
    binding=MllpBinding("ADT", ("A43",)),
    event="patient_record",
    decode=lambda request: adt.patient_feed(request.message, request.authorities),
    serve=lambda curation, feed, context: curation.move(feed, context),
    encode=lambda *_: Answer(),
    refuse=lambda *_: Answer(),
    audit=_audit,
    permission="patient_index:identity:feed",
)

NOTIFICATION = Notification(
    id=TRANSACTION.id,
    name=TRANSACTION.name,
    spec=TRANSACTION.spec,
    initiator=TRANSACTION.initiator,
    responder=TRANSACTION.responder,
    binding=MllpBinding("ADT", ("A43",)),
    event="patient_record",
    write=link_change.write,
    read=acknowledgement.read,
    audit=link_change.audit,
)

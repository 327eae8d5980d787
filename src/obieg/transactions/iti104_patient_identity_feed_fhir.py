"""ITI-104 Patient Identity Feed FHIR: a source announces, revises, merges or removes a patient by its identifier.

https://profiles.ihe.net/ITI/PIXm/ITI-104.html
"""

from __future__ import annotations

from typing import Any

import msgspec

from obieg.domain.audit import AuditObject
from obieg.domain.identifiers import PatientId
from obieg.domain.patients import FeedEvent
from obieg.mapping import fhir_outcome, pixm
from obieg.mapping.pixm import IdentityFeed, Taken
from obieg.protocol import Context, FhirBinding, Transaction


async def _serve(index: Any, asked: IdentityFeed, context: Context) -> Taken:
    feed = asked.feed
    named = (*feed.merged, *feed.identifiers)[0]
    known: PatientId | None = await index.affinity_domain_id(named)
    if feed.event is FeedEvent.REMOVE and known is None and not asked.if_match:
        return Taken(feed)  # removing what is not there is done already (http://hl7.org/fhir/R4/http.html#delete)
    source = context.requester.organisation or feed.source or context.requester.system
    patient = await index.feed(msgspec.structs.replace(feed, source=source), context, if_match=asked.if_match)
    return Taken(feed, patient, created=known is None and feed.event.states_record)


def _audit(asked: IdentityFeed) -> tuple[AuditObject, ...]:
    """The patients whom the feed names."""
    feed = asked.feed
    return tuple(AuditObject(kind="patient", identifier=str(i)) for i in (*feed.identifiers, *feed.merged))


TRANSACTION = Transaction(
    id="ITI-104",
    name="Patient Identity Feed FHIR",
    spec="https://profiles.ihe.net/ITI/PIXm/ITI-104.html",
    actor="patient_index",
    initiator="Patient Identity Source",
    responder="Patient Identifier Cross-reference Manager",
    binding=FhirBinding(
        resources=("Patient",),
        interactions=("conditional-update", "conditional-delete"),
        conforms_to="https://profiles.ihe.net/ITI/PIXm/CapabilityStatement/IHE.PIXm.Manager",
        profiles=("https://profiles.ihe.net/ITI/PIXm/StructureDefinition/IHE.PIXm.Patient",),
    ),
    event="patient_record",
    decode=pixm.read_feed,
    serve=_serve,
    encode=pixm.write_taken,
    refuse=fhir_outcome.refuse,
    audit=_audit,
    permission="patient_index:identity:feed",
)

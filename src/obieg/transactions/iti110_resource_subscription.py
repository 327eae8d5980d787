"""ITI-110 Resource Subscription: a subscriber asks to be told of documents, or no longer to be told (FHIR).

https://profiles.ihe.net/ITI/DSUBm/ITI-110.html
"""

from __future__ import annotations

from typing import Any

from obieg.domain.audit import AuditObject
from obieg.domain.subscriptions import DocumentSubscription
from obieg.mapping import dsubm, fhir_outcome
from obieg.mapping.dsubm import SubscriptionAsked
from obieg.protocol import Context, FhirBinding, FhirReply, FhirRequest, Transaction


async def _serve(broker: Any, asked: SubscriptionAsked, context: Context) -> DocumentSubscription | None:
    found: DocumentSubscription | None = None
    if asked.draft is not None:
        found = await broker.create(asked.draft, context)
    elif asked.interaction == "update":
        found = await broker.end(asked.id, asked.if_match, context)
    else:
        await broker.delete(asked.id, asked.if_match, context)
    return found


def _encode(found: DocumentSubscription | None, request: FhirRequest) -> FhirReply:
    return FhirReply(status=204) if found is None else dsubm.write_one(found, request)


def _audit(asked: SubscriptionAsked) -> tuple[AuditObject, ...]:
    if asked.draft is None:
        return (AuditObject("subscription", asked.id),)
    return tuple(AuditObject("patient", str(p)) for p in asked.draft.search.patients)


TRANSACTION = Transaction(
    id="ITI-110",
    name="Resource Subscription",
    spec="https://profiles.ihe.net/ITI/DSUBm/ITI-110.html",
    actor="notification_broker",
    initiator="Resource Notification Subscriber",
    responder="Resource Notification Broker",
    binding=FhirBinding(
        resources=("Subscription",),
        interactions=("create", "update", "delete"),
        conforms_to="",  # the broker of DSUBm also sends heartbeats, which this node does not
        profiles=("http://hl7.org/fhir/uv/subscriptions-backport/StructureDefinition/backport-subscription",),
    ),
    event="subscription",
    decode=dsubm.read_subscription,
    serve=_serve,
    encode=_encode,
    refuse=fhir_outcome.refuse,
    audit=_audit,
    permission="notification_broker:subscription:write",
)

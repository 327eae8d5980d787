"""ITI-113 Resource Subscription Search: subscriptions, how they stand, and what they were told (FHIR).

https://profiles.ihe.net/ITI/DSUBm/ITI-113.html
"""

from __future__ import annotations

from typing import Any

from obieg.domain.audit import AuditObject
from obieg.mapping import dsubm, fhir_outcome
from obieg.mapping.dsubm import SubscriptionsAsked
from obieg.protocol import Context, FhirBinding, FhirReply, FhirRequest, Transaction


async def _serve(broker: Any, asked: SubscriptionsAsked, context: Context) -> tuple[SubscriptionsAsked, Any]:
    if asked.interaction == "events":
        return asked, await broker.events(asked.id, asked.events, asked.content, context)
    if asked.id:
        return asked, ([await broker.read(asked.id, context)], 1)
    return asked, await broker.find(asked.query, context)


def _encode(result: tuple[SubscriptionsAsked, Any], request: FhirRequest) -> FhirReply:
    asked, (found, more) = result
    if asked.interaction == "events":
        return dsubm.write_events(found, more)
    if asked.interaction == "read":
        return dsubm.write_one(found[0], request)
    if asked.interaction == "status":
        return dsubm.write_statuses(found, request)
    return dsubm.write_page(asked, found, more, request)


def _audit(asked: SubscriptionsAsked) -> tuple[AuditObject, ...]:
    if asked.id:
        return (AuditObject("subscription", asked.id),)
    patient = asked.query.patient
    patients = (AuditObject("patient", str(patient)),) if patient is not None else ()
    return (*patients, AuditObject("subscription_search", "Subscription", query=asked.text))


TRANSACTION = Transaction(
    id="ITI-113",
    name="Resource Subscription Search",
    spec="https://profiles.ihe.net/ITI/DSUBm/ITI-113.html",
    actor="notification_broker",
    initiator="Resource Notification Subscriber",
    responder="Resource Notification Broker",
    binding=FhirBinding(
        resources=("Subscription",),
        interactions=("read", "search-type", "$status", "[id]/$status", "[id]/$events"),
        conforms_to="",  # the broker of DSUBm also sends heartbeats, which this node does not
    ),
    event="query",
    decode=dsubm.read_question,
    serve=_serve,
    encode=_encode,
    refuse=fhir_outcome.refuse,
    audit=_audit,
    permission="notification_broker:subscription:search",
)

"""ITI-114 Resource SubscriptionTopic Search: what can be subscribed to (FHIR; in R4 topics are Basic resources).

https://profiles.ihe.net/ITI/DSUBm/ITI-114.html
"""

from __future__ import annotations

from typing import Any

from obieg.domain.audit import AuditObject
from obieg.mapping import dsubm, fhir_outcome
from obieg.mapping.dsubm import TopicsAsked
from obieg.protocol import Context, FhirBinding, Transaction


async def _serve(_broker: Any, asked: TopicsAsked, _context: Context) -> TopicsAsked:
    return asked  # the topics are a table; the edge records that it was asked for


def _audit(asked: TopicsAsked) -> tuple[AuditObject, ...]:
    return (AuditObject("topic_search", "SubscriptionTopic", query=asked.text),)


TRANSACTION = Transaction(
    id="ITI-114",
    name="Resource SubscriptionTopic Search",
    spec="https://profiles.ihe.net/ITI/DSUBm/ITI-114.html",
    actor="notification_broker",
    initiator="Resource Notification Subscriber",
    responder="Resource Notification Broker",
    binding=FhirBinding(
        resources=("Basic",),
        interactions=("read", "search-type"),
        conforms_to="",  # the broker of DSUBm also sends heartbeats, which this node does not
    ),
    event="query",
    decode=dsubm.read_topics,
    serve=_serve,
    encode=dsubm.write_topics,
    refuse=fhir_outcome.refuse,
    audit=_audit,
    permission="notification_broker:topic:search",
)

"""ITI-111 Resource Publish: a publisher tells what happened to resources elsewhere (FHIR).

https://profiles.ihe.net/ITI/DSUBm/ITI-111.html
"""

from __future__ import annotations

from datetime import datetime
from typing import Any

from obieg.mapping import dsubm_publish, fhir_outcome
from obieg.mapping.dsubm_publish import PROFILE, ResourcesPublished
from obieg.protocol import Context, FhirBinding, Transaction


async def _serve(broker: Any, published: ResourcesPublished, context: Context) -> tuple[ResourcesPublished, datetime]:
    await broker.publish(published, context)
    return published, context.received_at


TRANSACTION = Transaction(
    id="ITI-111",
    name="Resource Publish",
    spec="https://profiles.ihe.net/ITI/DSUBm/ITI-111.html",
    actor="notification_broker",
    initiator="Resource Notification Publisher",
    responder="Resource Notification Broker",
    binding=FhirBinding(
        resources=("",),
        interactions=("transaction",),
        conforms_to="",  # the broker of DSUBm also sends heartbeats, which this node does not
        profiles=(PROFILE,),
        bundle_profile=PROFILE,
    ),
    event="import",
    decode=dsubm_publish.read_published,
    serve=_serve,
    encode=dsubm_publish.write_published,
    refuse=fhir_outcome.refuse,
    audit=dsubm_publish.audit_published,
    permission="notification_broker:resource:publish",
)

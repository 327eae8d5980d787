"""Patient/[id]/$share-summary, $shared-links and $end-link: links to the health summary that patients hand out (ours).

docs/access.md, Health links.
"""

from __future__ import annotations

from collections.abc import Sequence

from obieg.actors.health_links import HealthLinks
from obieg.domain.audit import AuditObject
from obieg.domain.health_links import Link, LinkAsked, LinkMade, LinksAsked
from obieg.mapping import fhir_outcome, health_link
from obieg.protocol import Context, FhirBinding, Transaction


async def _serve(
    actor: HealthLinks, asked: LinkAsked | LinksAsked, context: Context
) -> LinkMade | Sequence[Link] | None:
    if isinstance(asked, LinkAsked):
        return await actor.make(asked, context)
    if asked.end:
        await actor.end(asked, context)
        return None
    return await actor.links(asked, context)


TRANSACTION = Transaction(
    id="OBIEG-7",
    name="Links to the Health Summary",
    spec="https://hl7.org/fhir/R4/operations.html",
    actor="health_links",
    initiator="Patient",
    responder="Health Link Sharing Application",
    binding=FhirBinding(
        resources=("Patient",),
        interactions=("[id]/$share-summary", "[id]/$shared-links", "[id]/$end-link"),
        conforms_to="",
    ),
    event="export",
    decode=health_link.read_request,
    serve=_serve,
    encode=health_link.write_answer,
    refuse=fhir_outcome.refuse,
    audit=lambda asked: (AuditObject("patient", str(asked.patient)),),
    permission="health_links:link:share",
)

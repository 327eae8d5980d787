"""SMART Health Link Manifest Request: whoever has a link and its passcode is given the encrypted summary (STU 1)."""

from __future__ import annotations

from obieg.actors.health_links import HealthLinks
from obieg.domain.audit import AuditObject
from obieg.domain.health_links import FileAsked, Manifest, Opening, WrongPasscode
from obieg.mapping import health_link
from obieg.protocol import Context, LinkBinding, Transaction


async def _serve(actor: HealthLinks, asked: Opening | FileAsked, context: Context) -> Manifest | WrongPasscode | bytes:
    return await (actor.file(asked, context) if isinstance(asked, FileAsked) else actor.open(asked, context))


def _audit(_asked: Opening | FileAsked) -> tuple[AuditObject, ...]:
    """The actor names the patient when it has found the link."""
    return ()


TRANSACTION = Transaction(
    id="OBIEG-8",
    name="SMART Health Link Manifest Request",
    spec="https://hl7.org/fhir/uv/smart-health-cards-and-links/STU1/links-specification.html",
    actor="health_links",
    initiator="Health Link Receiving Application",
    responder="Health Link Sharing Application",
    binding=LinkBinding(),
    event="export",
    decode=health_link.read_opening,
    serve=_serve,
    encode=health_link.write_opening,
    refuse=health_link.refuse,
    audit=_audit,
    permission="health_links:link:open",
)

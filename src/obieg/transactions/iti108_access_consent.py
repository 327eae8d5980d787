"""ITI-108 Access Consent: what patients permit and deny is recorded, changed, ended, read and found (FHIR).

https://profiles.ihe.net/ITI/PCF/ITI-108.html
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from obieg.domain.consents import Said
from obieg.mapping import consent, consent_meaning, fhir_outcome
from obieg.mapping.consent import ConsentAsked, ConsentSearch
from obieg.mapping.consent_references import TABLE
from obieg.protocol import Context, FhirBinding, FhirReply, FhirRequest, Transaction

# What is recorded of each interaction (rows of codes/audit.toml); asking is a query.
_EVENTS = {"create": "consent_recorded", "update": "patient_record", "delete": "removal"}
Found = Said | tuple[ConsentSearch, tuple[Sequence[Said], int]] | None


async def _serve(registry: Any, asked: ConsentAsked | ConsentSearch, context: Context) -> Found:
    if isinstance(asked, ConsentSearch):
        return asked, await registry.find(asked.query, context)
    context.transaction = replace(context.transaction, event=_EVENTS.get(asked.interaction, context.transaction.event))
    said: Said
    if asked.interaction == "delete":
        await registry.end(asked.id, asked.if_match, context)
        return None
    if asked.draft is None:
        said = await registry.read(asked.id, asked.version, context)
    elif asked.interaction == "update":
        said = await registry.update(asked.id, asked.draft, asked.if_match, context)
    else:
        said = await registry.create(asked.draft, context)
    return said


def _encode(found: Found, request: FhirRequest) -> FhirReply:
    if found is None:
        return FhirReply(status=204)
    if isinstance(found, Said):
        warnings = consent_meaning.unheld(request.body, request.base) if request.body else ()
        return consent.write_one(found, request, [fhir_outcome.issue(w) for w in warnings])
    return consent.write_page(*found, request)


TRANSACTION = Transaction(
    id="ITI-108",
    name="Access Consent",
    spec="https://profiles.ihe.net/ITI/PCF/ITI-108.html",
    actor="consent_registry",
    initiator="Consent Recorder",
    responder="Consent Registry",
    binding=FhirBinding(
        resources=("Consent",),
        interactions=("create", "read", "vread", "update", "delete", "search-type"),
        conforms_to="https://profiles.ihe.net/ITI/PCF/CapabilityStatement/IHE.PCF.consentRegistry",
        profiles=tuple(TABLE["profiles"]),
    ),
    event="query",
    decode=consent.read_request,
    serve=_serve,
    encode=_encode,
    refuse=fhir_outcome.refuse,
    audit=consent.audited,
    permission="consent_registry:consent:access",
)

"""FHIR $validate: asks whether a resource is valid, before it is sent in earnest.

http://hl7.org/fhir/R4/resource-operation-validate.html
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from obieg.mapping import fhir_outcome
from obieg.mapping.fhir_validate import Validation, read_validation, write_verdict
from obieg.protocol import Context, FhirBinding, Transaction
from obieg.wire.fhir_elements import RESOURCE_TYPES, Fault


async def _serve(validator: Any, asked: Validation, context: Context) -> tuple[Validation, Sequence[Fault]]:
    if asked.resource is None:
        return asked, ()
    return asked, await validator.validate(asked.resource, context)


TRANSACTION = Transaction(
    id="FHIR-10",
    name="Validate",
    spec="https://hl7.org/fhir/R4/resource-operation-validate.html",
    actor="resource_validator",
    initiator="Client",
    responder="Server",
    binding=FhirBinding(
        resources=("", *RESOURCE_TYPES),
        interactions=("$validate", "[id]/$validate"),
        conforms_to="",
    ),
    event="query",
    decode=read_validation,
    serve=_serve,
    encode=write_verdict,
    refuse=fhir_outcome.refuse,
    audit=lambda _: (),
    permission="resource:content:validate",
)

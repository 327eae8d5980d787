"""DocumentReference/[id]/$hold and $holds: a facility holds a document that it wrote, and ends the hold (FHIR, ours).

docs/access.md, Holds.
"""

from __future__ import annotations

from collections.abc import Sequence

from obieg.actors.document_holds import DocumentHolds
from obieg.domain.holds import Held, HoldAsked, HoldEnded, HoldsAsked
from obieg.mapping import document_hold, fhir_outcome
from obieg.protocol import Context, FhirBinding, Transaction


async def _serve(
    actor: DocumentHolds, asked: HoldAsked | HoldEnded | HoldsAsked, context: Context
) -> Held | Sequence[Held] | None:
    match asked:
        case HoldAsked():
            return await actor.hold(asked, context)
        case HoldsAsked():
            return await actor.holds(asked, context)
        case _:
            await actor.end(asked, context)
            return None


TRANSACTION = Transaction(
    id="OBIEG-14",
    name="Document Hold",
    spec="https://hl7.org/fhir/R4/operations.html",
    actor="document_holds",
    initiator="Document Administrator",
    responder="Document Registry",
    binding=FhirBinding(
        resources=("DocumentReference",),
        interactions=("[id]/$hold", "delete [id]/$hold", "[id]/$holds"),
        conforms_to="",
    ),
    event="update",
    decode=document_hold.read_request,
    serve=_serve,
    encode=document_hold.write_answer,
    refuse=fhir_outcome.refuse,
    audit=lambda _asked: (),
    permission="document_holds:document:hold",
)

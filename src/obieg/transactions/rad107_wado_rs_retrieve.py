"""RAD-107 WADO-RS Retrieve: images of a manifest, their metadata, their frames or pictures (IHE RAD TF-2:4.107).

The address names the manifest by its uniqueId; who may read that document (ITI-43) may see what it lists.
"""

from __future__ import annotations

from obieg.actors.image_source import Answer, ImageSource
from obieg.domain.audit import AuditObject
from obieg.domain.images import ImagesAsked
from obieg.mapping import wado
from obieg.protocol import Context, Transaction, WadoBinding


async def _serve(source: ImageSource, asked: ImagesAsked, context: Context) -> Answer:
    return await source.retrieve(asked, context)


def _audit(asked: ImagesAsked) -> tuple[AuditObject, ...]:
    """The source names the patient when it has found the manifest."""
    study = (AuditObject("study", asked.study),) if asked.study else ()
    return (AuditObject("document", asked.document), *study)


TRANSACTION = Transaction(
    id="RAD-107",
    name="WADO-RS Retrieve",
    spec="https://www.ihe.net/uploadedFiles/Documents/Radiology/IHE_RAD_TF_Vol2.pdf",
    actor="image_source",
    initiator="Imaging Document Consumer",
    responder="Imaging Document Source",
    binding=WadoBinding(),
    event="images",
    decode=wado.read,
    serve=_serve,
    encode=wado.write,
    refuse=wado.refuse,
    audit=_audit,
    permission="document_repository:document:retrieve",
)

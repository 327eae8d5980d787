"""Documents as people read them on pages: their content in plain words, their pictures, and PDF/UA.

The content is asked of the node in the name of who visits (ITI-68), each time it is shown.
"""

from __future__ import annotations

from typing import NamedTuple

import structlog
from starlette.responses import Response

from obieg.actors import document_viewer
from obieg.actors.document_viewer import CannotShow, View
from obieg.domain.problems import Problem, RetryLater
from obieg.web.desk import AWAY, Desk, Visit
from obieg.web.kit import language_of, texts
from obieg.web.pdf import PdfFailed, make_pdf

SHOWN_MAX = 16 * 1024 * 1024  # a page of more is none that anybody reads
CDA = ("text/xml", "application/xml")

log = structlog.get_logger()


class Read(NamedTuple):
    """What a page shows of a document."""

    view: View | None = None  # None for what is no CDA, or cannot be shown
    away: str = ""  # why the facility that has it gives nothing


class Reader:
    """Of the pages of one area."""

    def __init__(self, desk: Desk) -> None:
        self._desk = desk

    async def view(self, visit: Visit, document: str, media_type: str, address: str) -> Read:
        """The document for a page at ``address``."""
        if media_type not in CDA:
            return Read()
        try:
            content = await self._content(visit, document)
        except Problem as problem:
            # It lies in a facility's repository: what is known of it is shown all the same.
            reason = next((AWAY[finding.code] for finding in problem.findings if finding.code in AWAY), None)
            if reason is None:
                raise
            return Read(away=reason[0])
        if content is None:
            return Read()
        images = f"{address}/image"
        try:
            return Read(await document_viewer.view(content, language=language_of(visit.request), images=images))
        except CannotShow as error:
            log.info("a document cannot be shown", document=document, reason=str(error))
            return Read()

    async def picture(self, visit: Visit, document: str, number: str) -> Response:
        """A picture or file in the document; what could act in a browser is only ever saved."""
        content = await self._content(visit, document)
        try:
            found = await document_viewer.pictures(content) if content is not None else {}
        except CannotShow:
            found = {}
        if number not in found:
            return self._desk.missing(visit)
        picture, data = found[number]
        media = picture.media_type if picture.shown else "application/octet-stream"
        return self._desk.kit.file(data, media, number, inline=picture.shown)

    async def pdf(self, visit: Visit, document: str, name: str, note: str) -> Response:
        """The document as PDF/UA in the language of the page. Raises RetryLater where none can be made now."""
        content = await self._content(visit, document)
        if content is None:
            return self._desk.missing(visit)
        try:
            made = await make_pdf(content, texts=texts(language_of(visit.request)), note=note)
        except CannotShow:
            return self._desk.missing(visit)
        except PdfFailed as error:
            raise RetryLater(f"no PDF could be made: {error}") from None
        return self._desk.kit.file(made, "application/pdf", f"{name}.pdf")

    async def _content(self, visit: Visit, document: str) -> bytes | None:
        answer = await self._desk.fhir(visit, "read", "Binary", document)
        if answer.content is None or answer.content.size > SHOWN_MAX:
            return None
        return b"".join([piece async for piece in answer.content.chunks()])

"""PDF/UA-1 (ISO 14289-1), by Typst, in a process of its own with limits of time and memory: documents, and tables.

A document is made from the same view as its page, so both say the same.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import msgspec

from obieg.actors import document_viewer
from obieg.web.kit import Texts

_PREFIX = "cda_"
_TIMEOUT_S = 90
_AT_ONCE = asyncio.Semaphore(2)  # each takes a core


class PdfFailed(Exception):  # noqa: N818
    """No PDF could be made; the message says why, for the log. The page and the document itself remain."""


async def make_pdf(document: bytes, *, texts: Texts, note: str = "") -> bytes:
    """The PDF in the language of ``texts``; ``note`` stands at the foot of each page: who printed it, and when.

    Raises :class:`obieg.actors.document_viewer.CannotShow` and :class:`PdfFailed`.
    """
    view = await document_viewer.view(document, language=texts.language, images="")
    pictures = await document_viewer.pictures(document) if view.pictures else {}
    given = given_of(view, texts, note, pictures)
    async with _AT_ONCE:
        return await _made(given)


class Tables(NamedTuple):
    """Tables under headings, one after another; a heading without rows says that there are none."""

    title: str
    language: str
    lead: Sequence[str]  # paragraphs
    sections: Sequence[Mapping[str, object]]  # heading, columns, rows: texts
    none: str  # what is said of a section without rows
    note: str  # at the foot of each page


async def make_tables(tables: Tables) -> bytes:
    """The tables as PDF. Raises :class:`PdfFailed`."""
    async with _AT_ONCE:
        return await _made(msgspec.json.encode({"template": "tables.typ", "pictures": {}, **tables._asdict()}))


def given_of(
    view: document_viewer.View, texts: Texts, note: str, pictures: Mapping[str, tuple[document_viewer.Picture, bytes]]
) -> bytes:
    """What the process is given, as JSON; see ``document.typ``."""
    return msgspec.json.encode(
        {
            "template": "document.typ",
            "view": view,
            "scanned": view.scanned,
            "words": {key: word for key, word in texts.words.items() if key.startswith(_PREFIX)},
            "language": texts.language,
            "note": note,
            "pictures": {number: data for number, (picture, data) in pictures.items() if picture.shown},
        }
    )


async def _made(given: bytes) -> bytes:
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "obieg.web.pdf_worker", env={"PYTHONPATH": ":".join(filter(None, sys.path))},
        stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip
    try:
        made, said = await asyncio.wait_for(process.communicate(given), _TIMEOUT_S)
    except TimeoutError:
        raise PdfFailed(f"it took more than {_TIMEOUT_S} s") from None
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    if process.returncode or not made.startswith(b"%PDF"):
        lines = said.decode("utf-8", "replace").strip().splitlines()
        raise PdfFailed(lines[-1] if lines else f"the process ended with {process.returncode}")
    return made

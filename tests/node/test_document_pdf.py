"""Documents as PDF/UA: veraPDF finds no fault in any sample, and every word is in them (read by pypdf)."""

from __future__ import annotations

import asyncio
import base64
import json
import re
import struct
import zlib
from io import BytesIO
from pathlib import Path
from typing import Any

import document_pages as pages
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from lxml import etree
from pypdf import PdfReader
from test_document_page import EVERYTHING, translated

from narratives import TREES, built
from obieg.actors.document_viewer import CannotShow
from obieg.web import pdf, pdf_worker
from obieg.web.kit import texts

pytestmark = pytest.mark.slow
V3 = pages.V3


def made(document: bytes, language: str = "pl", note: str = "") -> bytes:
    return asyncio.run(pdf.make_pdf(document, texts=texts(language), note=note))


def words_of(content: bytes) -> str:
    """All its text, unbroken."""
    return unbroken("".join(page.extract_text() for page in PdfReader(BytesIO(content)).pages))


def unbroken(text: str) -> str:
    """Without white space and hyphens: lines are broken wherever they end, and pypdf joins those that end with one."""
    return "".join(text.replace("-", "").split())


def with_text(text: str, entry: str = "", title: str = "T") -> bytes:
    return (
        f'<ClinicalDocument xmlns="{V3}"><title>{title}</title><component><structuredBody><component><section>'
        f"<text>{text}</text>{entry}</section></component></structuredBody></component></ClinicalDocument>"
    ).encode()


@pytest.fixture(scope="module")
def written(shared: Path) -> dict[str, tuple[bytes, bytes]]:
    """(document, PDF) of every sample, in the three languages by turns."""
    documents = pages.samples(shared) | {"everything": EVERYTHING}
    return {
        name: (document, made(document, ("pl", "en", "uk")[at % 3], "Wydrukowano 12.11.2026"))
        for at, (name, document) in enumerate(documents.items())
    }


def test_verapdf_finds_no_fault(written: dict[str, tuple[bytes, bytes]], tmp_path: Path) -> None:
    for name, (_, content) in written.items():
        (tmp_path / f"{name}.pdf").write_bytes(content)
    assert pages.pdf_faults(sorted(tmp_path.glob("*.pdf"))) == []


def test_every_word_is_in_it(written: dict[str, tuple[bytes, bytes]]) -> None:
    for name, (document, content) in written.items():
        said = words_of(content)
        wanted = [word for text in pages.written_in(document) if not translated(text) for word in text.split()]
        assert [word for word in wanted if unbroken(word) not in said] == [], name
        assert "Wydrukowano" in said


def test_every_picture_is_in_it(written: dict[str, tuple[bytes, bytes]]) -> None:
    counted = {}
    for name, (document, content) in written.items():
        counted[name] = sum(picture.shown for picture in pages.view_of(document).pictures)
        assert sum(len(page.images) for page in PdfReader(BytesIO(content)).pages) == counted[name], name
    assert sum(counted.values()) >= 4


def test_it_says_what_it_is(written: dict[str, tuple[bytes, bytes]]) -> None:
    for name, (document, content) in written.items():
        reader = PdfReader(BytesIO(content))
        catalogue = reader.trailer["/Root"]
        assert catalogue["/MarkInfo"]["/Marked"]
        assert "/StructTreeRoot" in catalogue
        assert catalogue["/Lang"] == pages.view_of(document).language[:2], name
        assert reader.metadata is not None
        assert reader.metadata.title


@settings(max_examples=60, deadline=None)
@given(st.lists(TREES, max_size=4))
def test_no_word_of_a_narrative_is_lost(trees: Any) -> None:
    words: list[str] = []
    block = etree.tostring(built(("text", {}, trees), words), encoding="unicode")
    document = with_text("").replace(b"<text></text>", block.encode())
    asked = json.loads(pdf.given_of(pages.view_of(document), texts("pl"), "", {}))
    said = words_of(pdf_worker.make(asked))
    assert [word for word in words if said.count(word) != 1] == []


def test_lines_within_lines_are_drawn_once(tmp_path: Path) -> None:
    """PDF/UA knows one line over, under or through a word."""
    nested = "".join(
        f'<content revised="{outer}"><content styleCode="Underline">a <content revised="{inner}">{outer}w{inner}</content>'
        f'<linkHtml href="https://example.org/{outer}{inner}">z</linkHtml></content></content>'
        for outer in ("insert", "delete")
        for inner in ("insert", "delete")
    )
    content = made(with_text(nested))
    (tmp_path / "nested.pdf").write_bytes(content)
    assert pages.pdf_faults([tmp_path / "nested.pdf"]) == []
    for outer in ("insert", "delete"):
        for inner in ("insert", "delete"):
            assert words_of(content).count(f"{outer}w{inner}") == 1


def test_the_same_document_makes_the_same_file() -> None:
    assert made(EVERYTHING) == made(EVERYTHING)


def test_characters_without_a_picture_are_written_as_numbers() -> None:
    said = words_of(made(with_text("zdrowie 健康 😀 Ї ґ \U000f0000 koniec")))
    assert re.search(r"zdrowie\[U\+5065\]\[U\+5EB7\].+Їґ\[U\+F0000\]koniec", said)


def png(width: int, height: int) -> bytes:
    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    head = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    rows = zlib.compressobj()
    data = b"".join(rows.compress(bytes(3 * width + 1)) for _ in range(height)) + rows.flush()
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", data) + chunk(b"IEND", b"")


def with_picture(data: bytes) -> bytes:
    value = base64.b64encode(data).decode()
    return with_text(
        'słowo <renderMultiMedia referencedObject="A"/>',
        f'<entry><observationMedia ID="A"><value representation="B64" mediaType="image/png">{value}</value></observationMedia></entry>',
    )


def test_a_broken_picture_costs_the_picture_alone() -> None:
    whole, broken = made(with_picture(png(4, 4))), made(with_picture(png(4, 4)[:40]))
    assert [len(page.images) for page in PdfReader(BytesIO(whole)).pages] == [1]
    assert [len(page.images) for page in PdfReader(BytesIO(broken)).pages] == [0]
    assert "obrazuniedasięwydrukować" in words_of(broken)
    assert "słowo" in words_of(broken)


def test_a_picture_that_fills_the_memory_ends_with_its_process() -> None:
    with pytest.raises(pdf.PdfFailed):
        made(with_picture(png(40_000, 40_000)))


def test_what_takes_too_long_is_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pdf, "_TIMEOUT_S", 0.01)
    with pytest.raises(pdf.PdfFailed, match="more than"):
        made(EVERYTHING)


def test_what_is_no_document_is_refused() -> None:
    with pytest.raises(CannotShow):
        made(b"%PDF-1.7")

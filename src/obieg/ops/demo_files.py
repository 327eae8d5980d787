"""Small real files for documents that consist of a file: a page of text as PDF, a curve as PNG."""

from __future__ import annotations

import random
import re
import struct
import zlib
from collections.abc import Sequence
from math import exp

_ASCII = str.maketrans("ąćęłńóśźżĄĆĘŁŃÓŚŹŻ", "acelnoszzACELNOSZZ")


def pdf(lines: Sequence[str]) -> bytes:
    """One page of Helvetica; Polish letters lose their marks, for the built-in fonts have none."""
    shown = [line[start : start + 88] for line in lines for start in range(0, len(line), 88)][:60]
    text = "".join(f"({_pdf_escaped(line)}) Tj T*\n" for line in shown)
    stream = f"BT /F1 10 Tf 12 TL 48 800 Td\n{text}ET".encode("ascii", "replace")
    objects = (
        b"<</Type/Catalog/Pages 2 0 R>>",
        b"<</Type/Pages/Kids[3 0 R]/Count 1>>",
        b"<</Type/Page/Parent 2 0 R/MediaBox[0 0 595 842]/Contents 4 0 R/Resources<</Font<</F1 5 0 R>>>>>>",
        b"<</Length %d>>stream\n%b\nendstream" % (len(stream), stream),
        b"<</Type/Font/Subtype/Type1/BaseFont/Helvetica>>",
    )
    out = bytearray(b"%PDF-1.4\n")
    offsets = []
    for number, content in enumerate(objects, 1):
        offsets.append(len(out))
        out += b"%d 0 obj%b\nendobj\n" % (number, content)
    table = b"".join(b"%010d 00000 n \n" % offset for offset in offsets)
    start = len(out)
    out += b"xref\n0 %d\n0000000000 65535 f \n%btrailer<</Size %d/Root 1 0 R>>\n" % (6, table, 6)
    return bytes(out + b"startxref\n%d\n%%%%EOF\n" % start)


def _pdf_escaped(line: str) -> str:
    return re.sub(r"([\\()])", r"\\\1", line.translate(_ASCII))


def png_curve(rng: random.Random, width: int = 480, height: int = 120) -> bytes:
    """A grey image of a curve that looks like one lead of an electrocardiogram."""
    rows = [bytearray(b"\xff" * width) for _ in range(height)]
    period = rng.randint(60, 100)
    last = height // 2
    for x in range(width):
        phase = (x % period) / period
        beat = 44 * exp(-(((phase - 0.4) * 60) ** 2)) - 12 * exp(-(((phase - 0.44) * 60) ** 2))
        waves = 6 * exp(-(((phase - 0.25) * 20) ** 2)) + 10 * exp(-(((phase - 0.7) * 12) ** 2))
        y = min(max(int(height // 2 + 20 - beat - waves + rng.gauss(0, 0.6)), 0), height - 1)
        for row in range(min(y, last), max(y, last) + 1):
            rows[row][x] = 0
        last = y
    pixels = zlib.compress(b"".join(b"\x00" + bytes(row) for row in rows), 9)
    head = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    chunks = ((b"IHDR", head), (b"IDAT", pixels), (b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data)) for kind, data in chunks
    )

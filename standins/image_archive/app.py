"""The stand-in on the network: the part of WADO-RS that a node asks (DICOM PS3.18, 10.4), and manifests.

Pictures are PNG alone, so a caller who wants JPEG is told 406. Pixels are drawn when they are asked for.
"""

from __future__ import annotations

import json
import re
import struct
import zlib
from functools import lru_cache
from html import escape
from pathlib import Path
from typing import Any, NamedTuple

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, Response
from starlette.routing import Route

from standins.image_archive import phantoms
from standins.image_archive.dicom import EXPLICIT, DataSet, file_of, json_of, manifest, uid

BANNER = (
    "TO NIE JEST PRAWDZIWE ARCHIWUM. To atrapa do pokazów i testów: obrazy narysował program, nikogo na nich nie ma."
)
SLICES = 40
_BOUNDARY = "atrapa"
_PIXELS = 0x7FE00010
_CM, _SECONDS, _CM_PER_S = 3, 4, 7


class Picture(NamedTuple):
    """One object, whose pixels are drawn when they are wanted."""

    about: DataSet
    draw: Any  # () -> bytes

    @property
    def name(self) -> tuple[str, str, str]:
        return tuple(self.about[tag][1][0] for tag in (0x0020000D, 0x0020000E, 0x00080018))  # type: ignore[return-value]

    def number(self, tag: int, default: float = 0) -> float:
        return float(self.about[tag][1][0]) if tag in self.about else default


def pictures(told: dict[str, str]) -> list[Picture]:
    """The objects of a study, as its row in the file tells of it."""
    found = []
    for at, kind in enumerate(told["series"].split(), 1):
        series = uid(told["number"], kind)
        for number in range(1, (SLICES if kind == "CT" else 1) + 1):
            about, draw = _KINDS[kind](told["number"], number)
            found.append(Picture({
                0x00080005: ("CS", ["ISO_IR 192"]), 0x00080018: ("UI", [uid(told["number"], kind, str(number))]),
                0x00080020: ("DA", [told["date"]]), 0x00080030: ("TM", ["101500"]), 0x00080060: ("CS", [kind]),
                0x00081030: ("LO", [told["title"]]), 0x00100010: ("PN", [told["name"]]),
                0x00100020: ("LO", [told["patient_id"]]),
                0x00100030: ("DA", [told["born"]]), 0x00100040: ("CS", [told["sex"]]),
                0x0020000D: ("UI", [uid(told["number"])]), 0x0020000E: ("UI", [series]),
                0x00200011: ("IS", [str(at)]), 0x00200013: ("IS", [str(number)]),
                0x00280002: ("US", [1]), 0x00280004: ("CS", ["MONOCHROME2"]), 0x00280103: ("US", [0]), **about,
            }, draw))  # fmt: skip
    return found


def _grey(rows: int, columns: int, bits: int, stored: int) -> DataSet:
    return {
        0x00280010: ("US", [rows]), 0x00280011: ("US", [columns]), 0x00280100: ("US", [bits]),
        0x00280101: ("US", [stored]), 0x00280102: ("US", [stored - 1]),
    }  # fmt: skip


def _ct(study: str, number: int) -> tuple[DataSet, Any]:
    about: DataSet = {
        0x00080016: ("UI", ["1.2.840.10008.5.1.4.1.1.2"]), 0x0008103E: ("LO", ["Bez kontrastu, 5 mm"]),
        0x00180015: ("CS", ["CHEST"]), 0x00180050: ("DS", ["5"]),
        0x00200032: ("DS", ["-192", "-192", str(-5 * number)]), 0x00200037: ("DS", ["1", "0", "0", "0", "1", "0"]),
        0x00280030: ("DS", ["1.5", "1.5"]), 0x00281050: ("DS", ["40"]), 0x00281051: ("DS", ["400"]),
        0x00281052: ("DS", ["-1024"]), 0x00281053: ("DS", ["1"]), **_grey(256, 256, 16, 12),
    }  # fmt: skip
    return about, lambda: phantoms.section((number - 1) / (SLICES - 1), f"{study} {number}")


def _cr(study: str, _: int) -> tuple[DataSet, Any]:
    about: DataSet = {
        0x00080016: ("UI", ["1.2.840.10008.5.1.4.1.1.1"]), 0x0008103E: ("LO", ["PA"]), 0x00180015: ("CS", ["CHEST"]),
        0x00181164: ("DS", ["0.8", "0.8"]), 0x00281050: ("DS", ["1900"]), 0x00281051: ("DS", ["3400"]),
        **_grey(512, 448, 16, 12),
    }  # fmt: skip
    return about, lambda: phantoms.radiograph(study)


def _us(study: str, _: int) -> tuple[DataSet, Any]:
    def region(shows: int, top: int, bottom: int, units: tuple[int, int], delta: tuple[float, float]) -> DataSet:
        return {
            0x00186012: ("US", [shows]), 0x00186014: ("US", [shows]), 0x00186016: ("UL", [0]), 0x00186018: ("UL", [0]),
            0x0018601A: ("UL", [top]), 0x0018601C: ("UL", [639]), 0x0018601E: ("UL", [bottom]),
            0x00186024: ("US", [units[0]]), 0x00186026: ("US", [units[1]]),
            0x0018602C: ("FD", [delta[0]]), 0x0018602E: ("FD", [delta[1]]),
        }  # fmt: skip

    body = region(1, 0, 359, (_CM, _CM), (0.03, 0.03))
    spectrum = region(3, 360, 479, (_SECONDS, _CM_PER_S), (0.006, -0.8))
    about: DataSet = {
        0x00080016: ("UI", ["1.2.840.10008.5.1.4.1.1.6.1"]), 0x0008103E: ("LO", ["Nerka prawa, przepływ"]),
        0x00180015: ("CS", ["KIDNEY"]), 0x00186011: ("SQ", [body, spectrum]), **_grey(480, 640, 8, 8),
    }  # fmt: skip
    return about, lambda: phantoms.ultrasound(study)


_KINDS = {"CT": _ct, "CR": _cr, "US": _us}


def application(studies: Path) -> Starlette:
    """``studies`` is read when it has changed; without it there are none."""
    read: dict[int, list[tuple[dict[str, str], list[Picture]]]] = {}

    def held() -> list[tuple[dict[str, str], list[Picture]]]:
        when = studies.stat().st_mtime_ns if studies.exists() else 0
        if when not in read:
            read.clear()
            read[when] = [(told, pictures(told)) for told in json.loads(studies.read_text("utf-8"))] if when else []
        return read[when]

    def named(request: Request) -> list[Picture]:
        path = request.path_params
        wanted = (path["study"], path.get("series"), path.get("instance"))
        return [
            each for _, found in held() for each in found
            if all(w in (None, part) for w, part in zip(wanted, each.name, strict=True))
        ]  # fmt: skip

    @lru_cache(maxsize=256)
    def drawn(name: tuple[str, str, str]) -> bytes:
        return next(each.draw() for _, found in held() for each in found if each.name == name)

    async def metadata(request: Request) -> Response:
        found = named(request)
        media = "application/dicom+json"
        return JSONResponse([json_of(each.about) for each in found], 200 if found else 404, media_type=media)

    def one(request: Request) -> Picture | None:
        found = named(request)
        return found[0] if len(found) == 1 and request.path_params.get("frame", "1") == "1" else None

    def whole(request: Request) -> Response:
        each = one(request)
        if each is None:
            return Response(status_code=404)
        return _package("application/dicom", file_of(each.about | {_PIXELS: ("OW", [drawn(each.name)])}))

    def frame(request: Request) -> Response:
        each = one(request)
        return Response(status_code=404) if each is None else _package("application/octet-stream", drawn(each.name))

    def rendered(request: Request) -> Response:
        each = one(request)
        if each is None:
            return Response(status_code=404)
        accepted = request.headers.get("accept", "*/*")
        if not any(media in accepted for media in ("image/png", "image/*", "*/*")):
            return Response(status_code=406)
        asked = {name: re.findall(r"-?[0-9.]+", value) for name, value in request.query_params.items()}
        return Response(_png(each, drawn(each.name), asked), media_type="image/png")

    def handed_out(request: Request) -> Response:
        number = request.path_params["number"]
        for told, found in held():
            if told["number"] == number:
                made = manifest([each.about for each in found], number)
                return Response(file_of(made), media_type="application/dicom")
        return Response(status_code=404)

    async def page(_: Request) -> Response:
        rows = "".join(f"<li>{escape(told['title'])}, {escape(told['name'])}" for told, _ in held())
        return HTMLResponse(f"<!doctype html><meta charset=utf-8><title>Atrapa</title><h1>{BANNER}</h1><ul>{rows}</ul>")

    series = "/dicom-web/studies/{study}/series/{series}"
    instance = f"{series}/instances/{{instance}}"
    return Starlette(
        routes=[
            Route("/", page),
            Route("/manifests/{number}", handed_out),
            Route(f"{series}/metadata", metadata),
            Route(f"{instance}/metadata", metadata),
            Route(f"{instance}/rendered", rendered),
            Route(f"{instance}/frames/{{frame}}/rendered", rendered),
            Route(f"{instance}/frames/{{frame}}", frame),
            Route(instance, whole),
        ]
    )


def _package(media: str, data: bytes) -> Response:
    head = f"--{_BOUNDARY}\r\nContent-Type: {media}; transfer-syntax={EXPLICIT}\r\n\r\n".encode()
    kind = f'multipart/related; type="{media}"; boundary={_BOUNDARY}'
    return Response(head + data + f"\r\n--{_BOUNDARY}--\r\n".encode(), headers={"Content-Type": kind})


def _png(each: Picture, data: bytes, asked: dict[str, list[str]]) -> bytes:
    """A picture through a window (PS3.3, C.11.2.1.2), as large as the viewport holds, by the nearest pixels."""
    rows, columns = int(each.number(0x00280010)), int(each.number(0x00280011))
    wide = each.number(0x00280100) == 16
    values = memoryview(data).cast("H") if wide else memoryview(data)
    center, width = map(float, asked.get("window", [each.number(0x00281050, 128), each.number(0x00281051, 256)])[:2])
    slope, intercept = each.number(0x00281053, 1), each.number(0x00281052)
    table = bytes(
        int(max(0.0, min(255.0, ((v * slope + intercept - center + 0.5) / max(1.0, width - 1) + 0.5) * 255)))
        for v in range(4096 if wide else 256)
    )
    across, down = map(int, asked.get("viewport", [columns, rows])[:2])
    scale = min(across / columns, down / rows)
    size = max(1, int(columns * scale)), max(1, int(rows * scale))
    from_columns = [int(x / scale) for x in range(size[0])]
    lines = bytearray()
    for y in range(size[1]):
        start = min(rows - 1, int(y / scale)) * columns
        lines += b"\0" + bytes(table[min(values[start + min(x, columns - 1)], len(table) - 1)] for x in from_columns)
    chunks = (
        (b"IHDR", struct.pack(">IIBBBBB", *size, 8, 0, 0, 0, 0)),
        (b"IDAT", zlib.compress(bytes(lines), 6)),
        (b"IEND", b""),
    )
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(part)) + kind + part + struct.pack(">I", zlib.crc32(kind + part)) for kind, part in chunks
    )

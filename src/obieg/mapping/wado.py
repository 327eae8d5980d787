"""WADO-RS requests and answers: addresses, media types, metadata (DICOM PS3.18, chapters 8 and 10.4; IHE RAD-107).

An address names a manifest and what of its images is wanted. Whatever is no address of DICOMweb is answered like one at
which nothing stands. The archive's own words reach nobody: metadata are written anew without addresses into it.
"""

from __future__ import annotations

import re
from collections.abc import AsyncGenerator, Iterator, Sequence
from contextlib import aclosing
from typing import Any

import msgspec
import orjson

from obieg.codes.load import toml
from obieg.domain.images import ImageName, ImagesAsked, Kind, ShownStudy, nothing
from obieg.domain.problems import Finding, Problem
from obieg.protocol import ArchivedPart, WadoReply, WadoRequest
from obieg.wire import mime
from obieg.wire.dicom import is_uid
from obieg.wire.zip_stream import ZipWriter

DICOM, JSON, OCTETS, ZIP = "application/dicom", "application/dicom+json", "application/octet-stream", "application/zip"
FRAMES_MAX = 1_000  # of one request
VIEWPORT_MAX = 4_096
THUMBNAIL, THUMBNAIL_MAX = 128, 512  # pixels of a side: where nobody says how many, and at most
_ANSWERED = toml("dicom.toml")["answered"]
_PROBLEMS = toml("problems.toml")
_SYNTAXES: list[str] = _ANSWERED["transfer_syntaxes"]
_PICTURES: list[str] = _ANSWERED["rendered"]
_KEPT, _READABLE = _SYNTAXES
_PARAMETERS = {  # of pictures (PS3.18, 8.3.5.1)
    "window": re.compile(
        r"-?[0-9]{1,7}(?:\.[0-9]{1,6})?,[0-9]{1,7}(?:\.[0-9]{1,6})?,(?:linear|linear-exact|sigmoid)\Z", re.ASCII
    ),
    "viewport": re.compile(r"[1-9][0-9]{0,3},[1-9][0-9]{0,3}\Z", re.ASCII),
    "quality": re.compile(r"(?:[1-9][0-9]?|100)\Z", re.ASCII),
}
_TAKEN = {Kind.RENDERED: frozenset(_PARAMETERS), Kind.THUMBNAIL: frozenset({"viewport"})}
_FRAMES = re.compile(r"[1-9][0-9]{0,6}(?:,[1-9][0-9]{0,6})*\Z", re.ASCII)
_ACCEPTED = re.compile(r'((?:[^,"]|"[^"]*")+)')


# requests ------------------------------------------------------------------------------------------------------------


def read(request: WadoRequest) -> ImagesAsked:
    """What is asked for. Raises Problem."""
    study: str | None = None
    series: str | None = None
    instance: str | None = None
    kind, frames = Kind.OBJECTS, ""
    match request.path:
        case ["thumbnail"]:  # ours: a page knows the manifest before it knows what is in it
            kind = Kind.THUMBNAIL
        case ["studies", study, "thumbnail"]:
            kind = Kind.THUMBNAIL
        case ["studies", study, "series", series, "thumbnail"]:
            kind = Kind.THUMBNAIL
        case ["studies", study, "series", series, "instances", instance, "thumbnail"]:
            kind = Kind.THUMBNAIL
        case ["studies", study, "series", series, "instances", instance, "frames", frames, "thumbnail"]:
            kind = Kind.THUMBNAIL
        case ["studies", study]:
            pass
        case ["studies", study, "metadata"]:
            kind = Kind.METADATA
        case ["studies", study, "series", series]:
            pass
        case ["studies", study, "series", series, "metadata"]:
            kind = Kind.METADATA
        case ["studies", study, "series", series, "instances", instance]:
            pass
        case ["studies", study, "series", series, "instances", instance, "metadata"]:
            kind = Kind.METADATA
        case ["studies", study, "series", series, "instances", instance, "rendered"]:
            kind = Kind.RENDERED
        case ["studies", study, "series", series, "instances", instance, "frames", frames]:
            kind = Kind.FRAMES
        case ["studies", study, "series", series, "instances", instance, "frames", frames, "rendered"]:
            kind = Kind.RENDERED
        case _:
            raise nothing()
    named = [uid for uid in (study, series, instance) if uid is not None]
    if not all(map(is_uid, (request.document, *named))):
        raise nothing()
    numbers = _frames(frames, several=kind is Kind.FRAMES)
    accepted, parameters = _parameters(request, kind)
    place = (study or "", series or "", instance or "")
    asked = ImagesAsked(request.document, kind, *place, numbers, request_id=request.request_id)
    return msgspec.structs.replace(_negotiated(asked, accepted), parameters=parameters)


def _frames(text: str, *, several: bool) -> tuple[int, ...]:
    if not text:
        return ()
    if not _FRAMES.match(text):
        raise nothing()
    numbers = tuple(map(int, text.split(",")))
    if len(numbers) > (FRAMES_MAX if several else 1):
        raise Problem.of("LimitExceeded", f"more than {FRAMES_MAX if several else 1} frames are asked for at once")
    return numbers


def _parameters(request: WadoRequest, kind: Kind) -> tuple[str, tuple[tuple[str, str], ...]]:
    """What is accepted, and how a picture is wanted."""
    accepted, found = request.accept, dict[str, str]()
    for name, value in request.parameters:
        if name == "accept":
            accepted = value
            continue
        rule = _PARAMETERS[name] if name in _TAKEN.get(kind, ()) else None
        if rule is None:
            raise Problem.of("UnsupportedQueryField", f"the parameter {name[:40]!r} is not known here", name[:40])
        if not rule.match(value) or name in found or (name == "viewport" and not _fits(value, kind)):
            raise Problem.of("DataTypeError", f"the parameter {name} has no value that it may have, or two", name)
        found[name] = value
    if kind is Kind.THUMBNAIL:
        found.setdefault("viewport", f"{THUMBNAIL},{THUMBNAIL}")
    return accepted, tuple(found.items())


def _fits(viewport: str, kind: Kind) -> bool:
    most = THUMBNAIL_MAX if kind is Kind.THUMBNAIL else VIEWPORT_MAX
    return all(int(side) <= most for side in viewport.split(","))


def _negotiated(asked: ImagesAsked, accept: str) -> ImagesAsked:
    """The representation that the caller likes best among ours (PS3.18, 8.7.5)."""
    wanted = [(_quality(p), media, p) for media, p in map(mime.content_type, _ACCEPTED.findall(accept)) if media]
    liked = sorted(wanted, key=lambda w: -w[0]) or [(1.0, "*/*", {})]
    offered = [_offered(asked, media, parameters) for quality, media, parameters in liked if quality]
    found = [each for each in offered if each is not None]
    if found:
        best = found[0]
        others = dict.fromkeys(media for each in found for media in (each.media_type, *each.or_else))
        pictures = tuple(media for media in others if media in _PICTURES and media != best.media_type)
        return msgspec.structs.replace(best, or_else=pictures if asked.kind in _TAKEN else ())
    raise Problem.of("NotAcceptable", f"nothing of {accept[:120]!r} is given here: {_ours(asked)} is", "http.Accept")


def _quality(parameters: dict[str, str]) -> float:
    try:
        return float(parameters.get("q", "1"))
    except ValueError:
        return 0.0


def _offered(asked: ImagesAsked, media: str, parameters: dict[str, str]) -> ImagesAsked | None:
    """The answer in this media type; None for one that is not given."""
    multipart = media == "multipart/related"
    if multipart:
        media = parameters.get("type", "*/*").lower()
    syntax = parameters.get("transfer-syntax", _READABLE)
    anything = media == "*/*"
    chosen, or_else = "", tuple[str, ...]()
    match asked.kind:
        case Kind.METADATA:
            chosen, multipart, syntax = JSON if anything or media in (JSON, "application/json") else "", False, ""
        case Kind.RENDERED | Kind.THUMBNAIL:
            fit = _PICTURES if anything or media == "image/*" else [each for each in _PICTURES if each == media]
            chosen, or_else = (fit[0], tuple(fit[1:])) if fit else ("", ())
            multipart, syntax = False, ""
        case Kind.FRAMES:
            chosen, multipart = OCTETS if anything or media == OCTETS else "", multipart or anything
            if not multipart and len(asked.frames) > 1:
                chosen = ""
            syntax = _READABLE if syntax in _SYNTAXES else ""
        case _:
            if media == ZIP and not multipart:
                chosen, syntax = ZIP, parameters.get("transfer-syntax", _KEPT)
            elif anything or media == DICOM:
                chosen, multipart = (DICOM, True) if anything or multipart or not asked.instance else (DICOM, False)
    known = asked.kind is Kind.METADATA or asked.kind in _TAKEN or syntax in _SYNTAXES
    if not chosen or not known:
        return None
    return msgspec.structs.replace(
        asked, media_type=chosen, or_else=or_else, multipart=multipart, transfer_syntax=syntax
    )


def _ours(asked: ImagesAsked) -> str:
    return {
        Kind.METADATA: JSON,
        Kind.RENDERED: " or ".join(_PICTURES),
        Kind.THUMBNAIL: " or ".join(_PICTURES),
        Kind.FRAMES: f'multipart/related; type="{OCTETS}"; transfer-syntax={_READABLE}',
    }.get(asked.kind, f'multipart/related; type="{DICOM}" with transfer-syntax {" or ".join(_SYNTAXES)}, or {ZIP}')


# what the archive is asked --------------------------------------------------------------------------------------------


def archive_paths(asked: ImagesAsked, names: Sequence[ImageName]) -> Iterator[tuple[tuple[str, ...], ImageName, int]]:
    """Where the archive has what is asked for, with the object and, of one of several frames, its number."""
    for name in names:
        path = ("studies", name.study, "series", name.series, "instances", name.instance)
        if asked.kind is Kind.OBJECTS:
            yield path, name, 0
        elif asked.kind in _TAKEN:
            frames = ("frames", str(asked.frames[0])) if asked.frames else ()
            yield (*path, *frames, "rendered"), name, 0
        else:
            for number in asked.frames:
                yield (*path, "frames", str(number)), name, number


def archive_accept(asked: ImagesAsked) -> str:
    """What the archive is to answer with; in our words, whatever the caller wrote."""
    if asked.kind in _TAKEN:
        return asked.media_type
    kind = OCTETS if asked.kind is Kind.FRAMES else DICOM
    return f'multipart/related; type="{kind}"; transfer-syntax={asked.transfer_syntax}'


# answers -------------------------------------------------------------------------------------------------------------


def write(answer: Any, asked: WadoRequest) -> WadoReply:
    """The answer to a request: metadata as bytes, images while they come."""
    del asked
    found, question = answer
    if isinstance(found, bytes):
        return WadoReply(content_type=JSON, body=found)
    assert not isinstance(found, ShownStudy)  # noqa: S101 - no address asks for one
    if question.media_type == ZIP:
        return WadoReply(content_type=ZIP, pieces=_zipped(found), file_name="study.zip")
    if question.multipart:
        boundary = f"obieg-{question.request_id}"
        media = f'multipart/related; type="{question.media_type}"; boundary="{boundary}"'
        return WadoReply(content_type=media, pieces=_multipart(found, boundary, question))
    name = "image.dcm" if question.media_type == DICOM else ""
    return WadoReply(content_type=question.media_type, pieces=_single(found), file_name=name)


Parts = AsyncGenerator[tuple[ImageName, ArchivedPart]]


async def _single(parts: Parts) -> AsyncGenerator[bytes]:
    async with aclosing(parts):
        async for _, part in parts:
            async with aclosing(part.chunks()) as chunks:
                async for piece in chunks:
                    yield piece


async def _multipart(parts: Parts, boundary: str, asked: ImagesAsked) -> AsyncGenerator[bytes]:
    media = asked.media_type
    if asked.transfer_syntax != _KEPT:
        media += f"; transfer-syntax={asked.transfer_syntax}"
    async with aclosing(parts):
        async for _, part in parts:
            yield f"\r\n--{boundary}\r\nContent-Type: {media}\r\n\r\n".encode()
            async with aclosing(part.chunks()) as chunks:
                async for piece in chunks:
                    yield piece
    yield mime.closing(boundary)


async def _zipped(parts: Parts) -> AsyncGenerator[bytes]:
    """Files by series, named as media name them (PS3.10, 8.2), with the ending that computers know."""
    writer, series, number = ZipWriter(), dict[str, int](), 0
    async with aclosing(parts):
        async for name, part in parts:
            place = series.setdefault(name.series, len(series) + 1)
            number += 1
            with writer.member(f"DICOM/SE{place:06}/IM{number:06}.dcm") as member:
                async with aclosing(part.chunks()) as chunks:
                    async for piece in chunks:
                        member.write(piece)
                        yield writer.taken()
    yield writer.finish()


def refuse(findings: Sequence[Finding], _request: WadoRequest | None = None) -> WadoReply:
    """What is said in place of an answer; the status is that of the first finding that is no warning."""
    worst = next((f for f in findings if not f.warning), findings[0])
    said = {"errors": [{"code": f.code, "detail": f.detail} for f in findings]}
    return WadoReply(content_type="application/json", body=orjson.dumps(said), status=_PROBLEMS[worst.code]["http"])

"""``multipart/related`` as a stream (RFC 2046, RFC 2387), for MTOM messages in and out. Sans-I/O.

The parser is fed what arrives and yields what it is sure of; it holds back no more than one delimiter. Part headers are
limited, the number of parts is limited, and a stream that ends early is an error, never a short document.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache

HEADERS_BYTES_MAX = 16 * 1024  # of one part
_PARAMETER = re.compile(r';\s*([\w-]+)\s*=\s*(?:"((?:[^"\\]|\\.)*)"|([^\s;"]+))')
_BOUNDARY = re.compile(r"[0-9A-Za-z'()+_,\-./:=? ]{0,69}[0-9A-Za-z'()+_,\-./:=?]\Z")


class MimeRefused(Exception):  # noqa: N818
    """The bytes are not the MIME package that their Content-Type promises."""


@dataclass(frozen=True, slots=True)
class PartStart:
    """Headers of the part that begins; names in lower case."""

    headers: dict[str, str]

    @property
    def content_id(self) -> str:
        """Content-ID without its angle brackets."""
        return self.headers.get("content-id", "").strip().removeprefix("<").removesuffix(">")


@dataclass(frozen=True, slots=True)
class PartData:
    """More bytes of the current part."""

    data: bytes


@dataclass(frozen=True, slots=True)
class PartEnd:
    """The current part is complete."""


Event = PartStart | PartData | PartEnd


@lru_cache(maxsize=256)
def content_type(header: str) -> tuple[str, dict[str, str]]:
    """Media type in lower case and its parameters (names in lower case).

    A header that gives a parameter two values names no media type: another reader may take the other value.
    """
    media, _, rest = header.partition(";")
    parameters: dict[str, str] = {}
    for name, quoted, plain in _PARAMETER.findall(";" + rest):
        value = plain or re.sub(r"\\(.)", r"\1", quoted)
        if parameters.setdefault(name.lower(), value) != value:
            return "", {}
    return media.strip().lower(), parameters


class MultipartParser:
    """Feed it bytes, take events; call :meth:`finish` at the end of the stream."""

    def __init__(self, boundary: str, *, parts_max: int) -> None:
        if not _BOUNDARY.match(boundary):
            raise MimeRefused("the boundary parameter is missing or not a boundary")
        self._delimiter = b"\r\n--" + boundary.encode("ascii")
        # The first delimiter may stand at the very start; pretending a CRLF before it makes it like the others.
        self._buffer = bytearray(b"\r\n")
        self._state = self._preamble
        self._parts_left = parts_max
        self._done = False

    def feed(self, data: bytes) -> Iterator[Event]:
        """Events that ``data`` completes. Consume the iterator before feeding more."""
        self._buffer += data
        while not self._done:
            event = self._state()
            if event is None:
                return
            if event is not _NOTHING:
                yield event  # type: ignore[misc]

    def finish(self) -> None:
        """Raises :class:`MimeRefused` when the closing delimiter has not come."""
        if not self._done:
            raise MimeRefused("the message ends before its closing boundary")

    def _preamble(self) -> object | None:
        at = self._buffer.find(self._delimiter)
        if at > HEADERS_BYTES_MAX or (at < 0 and len(self._buffer) > HEADERS_BYTES_MAX):
            raise MimeRefused("no boundary at the start of the message")
        if at < 0:
            return None
        del self._buffer[: at + len(self._delimiter)]
        self._state = self._after_delimiter
        return _NOTHING

    def _after_delimiter(self) -> object | None:
        buffer = self._buffer
        if buffer[:2] == b"--":
            self._done = True
            return _NOTHING
        line = buffer.find(b"\r\n")
        if line < 0:
            if len(buffer) > HEADERS_BYTES_MAX:
                raise MimeRefused("a delimiter line does not end")
            return None
        if buffer[:line].strip():
            raise MimeRefused("text after a boundary")
        del buffer[:line]
        self._state = self._headers
        return _NOTHING

    def _headers(self) -> object | None:
        end = self._buffer.find(b"\r\n\r\n")
        if end < 0 or end > HEADERS_BYTES_MAX:
            if len(self._buffer) > HEADERS_BYTES_MAX:
                raise MimeRefused(f"part headers longer than {HEADERS_BYTES_MAX} bytes")
            return None
        self._parts_left -= 1
        if self._parts_left < 0:
            raise MimeRefused("too many parts")
        headers = _headers(bytes(self._buffer[:end]))
        # The CRLF that ends the headers stays: it may begin the delimiter of an empty part.
        del self._buffer[: end + 2]
        self._state = self._body_start
        return PartStart(headers)

    def _body_start(self) -> object | None:
        if len(self._buffer) < len(self._delimiter) and not self._buffer.startswith(self._delimiter):
            return None
        if not self._buffer.startswith(self._delimiter):
            del self._buffer[:2]
        self._state = self._body
        return _NOTHING

    def _body(self) -> object | None:
        buffer, delimiter = self._buffer, self._delimiter
        at = buffer.find(delimiter)
        if at < 0:
            keep = len(delimiter) - 1
            if len(buffer) <= keep:
                return None
            data = _copy(buffer, len(buffer) - keep)
            del buffer[:-keep]
            return PartData(data)
        if at > 0:
            data = _copy(buffer, at)
            del buffer[:at]
            return PartData(data)
        del buffer[: len(delimiter)]
        self._state = self._after_delimiter
        return PartEnd()


_NOTHING = object()


def _copy(buffer: bytearray, end: int) -> bytes:
    """The first ``end`` bytes, copied once."""
    with memoryview(buffer) as view:
        return bytes(view[:end])


def _headers(block: bytes) -> dict[str, str]:
    headers: dict[str, str] = {}
    unfolded = re.sub(r"\r\n[ \t]+", " ", block.decode("latin-1"))
    for line in unfolded.split("\r\n"):
        if line:
            name, colon, value = line.partition(":")
            if not colon:
                raise MimeRefused("a part header without a colon")
            key = name.strip().lower()
            if key in headers:
                raise MimeRefused(f"a part has the header {key[:40]} twice")
            headers[key] = value.strip()
    return headers


def part_head(boundary: str, media_type: str, content_id: str) -> bytes:
    """Delimiter and headers of one outgoing part."""
    return (
        f"\r\n--{boundary}\r\nContent-Type: {media_type}\r\nContent-Transfer-Encoding: binary\r\n"
        f"Content-ID: <{content_id}>\r\n\r\n"
    ).encode()


def closing(boundary: str) -> bytes:
    """The closing delimiter."""
    return f"\r\n--{boundary}--\r\n".encode()

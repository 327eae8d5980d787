"""Asks the archive of images behind this node, over DICOMweb (DICOM PS3.18, 10.4)."""

from __future__ import annotations

import ssl
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from contextlib import asynccontextmanager

import httpx
import structlog

from obieg.domain.images import nothing
from obieg.domain.problems import Problem, RetryLater
from obieg.wire import mime

CONNECT_S, SILENCE_S = 5.0, 30.0  # how long it may take to connect, and be silent
CONNECTIONS_MAX = 16  # of one worker
METADATA_BYTES_MAX = 64 * 1024 * 1024
_JSON = "application/dicom+json"
_MISSING = frozenset({400, 404, 410})  # 400: a frame that the object does not have
_UNABLE = frozenset({406, 415})

log = structlog.get_logger()


class _Part:
    """Implements :class:`obieg.protocol.ArchivedPart`. The transfer has begun, so it ends when nobody holds it."""

    def __init__(self, content_type: str, chunks: AsyncGenerator[bytes]) -> None:
        self.content_type = content_type
        self._chunks = chunks

    def chunks(self) -> AsyncGenerator[bytes]:
        return self._chunks


class DicomwebArchive:
    """Implements :class:`obieg.protocol.ImageArchive`. Follows no redirection, and sends nothing of the caller."""

    def __init__(self, url: str, *, user: str = "", password: str = "", tls: ssl.SSLContext | None = None) -> None:
        """``url``: the root of its DICOMweb service; ``tls`` says whom to trust and who we are."""
        self._root = url.rstrip("/")
        self._http = httpx.AsyncClient(
            transport=httpx.AsyncHTTPTransport(
                verify=tls or True, limits=httpx.Limits(max_connections=CONNECTIONS_MAX), retries=1
            ),
            auth=httpx.BasicAuth(user, password) if user else None,
            timeout=httpx.Timeout(SILENCE_S, connect=CONNECT_S),
            follow_redirects=False,
            trust_env=False,
        )

    async def metadata(self, path: Sequence[str]) -> bytes:
        """See the port."""
        pieces = bytearray()
        part = await self.open(path, _JSON)
        chunks = part.chunks()
        try:
            async for piece in chunks:
                pieces += piece
                if len(pieces) > METADATA_BYTES_MAX:
                    raise RetryLater(f"the archive of images answers more than {METADATA_BYTES_MAX} bytes of metadata")
        finally:
            await chunks.aclose()
        return bytes(pieces)

    async def open(self, path: Sequence[str], accept: str, parameters: Sequence[tuple[str, str]] = ()) -> _Part:
        """See the port."""
        try:
            return await self._begun("/".join((self._root, *path)), accept, parameters)
        except RetryLater as error:
            if not isinstance(error.__cause__, (httpx.RemoteProtocolError, httpx.ReadError)):
                raise
            # A connection that was kept may have ended unnoticed.
            return await self._begun("/".join((self._root, *path)), accept, parameters)

    async def _begun(self, url: str, accept: str, parameters: Sequence[tuple[str, str]]) -> _Part:
        chunks = self._stream(url, accept, parameters)
        content_type = await anext(chunks, None)
        if content_type is None:
            raise RetryLater("the archive of images answers nothing")
        return _Part(content_type.decode("latin-1"), chunks)

    async def _stream(self, url: str, accept: str, parameters: Sequence[tuple[str, str]]) -> AsyncGenerator[bytes]:
        """The content type, then the bytes of the only part."""
        # As they stand: archives know no comma in percent-encoding.
        address = "?".join(filter(None, (url, "&".join(f"{name}={value}" for name, value in parameters))))
        try:
            async with self._answer(address, accept) as answer:
                _expect(answer)
                declared = answer.headers.get("content-type", "")
                media, about = mime.content_type(declared)
                if media != "multipart/related":
                    yield declared.encode("latin-1")
                    async for piece in answer.aiter_bytes():
                        yield piece
                    return
                parser = mime.MultipartParser(about.get("boundary", ""), parts_max=1)
                async for piece in answer.aiter_bytes():
                    for event in parser.feed(piece):
                        if isinstance(event, mime.PartStart):
                            yield event.headers.get("content-type", "").encode("latin-1")
                        elif isinstance(event, mime.PartData):
                            yield event.data
                parser.finish()
        except (httpx.HTTPError, OSError, mime.MimeRefused) as error:
            raise RetryLater(f"the archive of images does not answer ({type(error).__name__}: {error})") from error

    @asynccontextmanager
    async def _answer(self, address: str, accept: str) -> AsyncIterator[httpx.Response]:
        request = self._http.build_request("GET", address, headers={"Accept": accept})
        answer = await self._http.send(request, stream=True)
        try:
            yield answer
        finally:
            try:
                await answer.aclose()
            except Exception as error:  # noqa: BLE001 - nobody waits for it any more, and nothing is lost
                log.info("a connection to the archive of images did not end well", error=repr(error))

    async def close(self) -> None:
        """Ends its connections."""
        await self._http.aclose()


def _expect(answer: httpx.Response) -> None:
    status = answer.status_code
    if status in _MISSING:
        raise nothing()
    if status in _UNABLE:
        raise Problem.of("NotAcceptable", "the archive cannot give this image in that form", "http.Accept")
    if status != httpx.codes.OK:
        raise RetryLater(f"the archive of images answers HTTP {status}")

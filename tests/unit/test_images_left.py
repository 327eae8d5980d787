"""Readers of images who leave, and archives that end badly meanwhile: the transfer ends at once, and nothing fails."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator
from typing import Any

import httpx
import pytest
import structlog

from obieg.domain.problems import RetryLater
from obieg.edges.image_archive import DicomwebArchive
from obieg.edges.wado import _Exchange, _send_pieces

PART = b"--b\r\nContent-Type: application/dicom\r\n\r\n" + bytes(100)


class Reader:
    """The other end of an answer, who leaves after so many pieces; -1: stays."""

    def __init__(self, leaves_after: int = -1) -> None:
        self.sent: list[dict[str, Any]] = []
        self._left = asyncio.Event()
        self._after = leaves_after

    async def receive(self) -> dict[str, Any]:
        await self._left.wait()
        return {"type": "http.disconnect"}

    async def send(self, message: Any) -> None:
        self.sent.append(message)
        if len(self.sent) - 1 == self._after:
            self._left.set()
        await asyncio.sleep(0)

    @property
    def ended(self) -> bool:
        last = self.sent[-1]
        return last["type"] == "http.response.body" and not last.get("more_body")


class Pieces:
    """What an archive gives; how it ended is kept."""

    def __init__(self, *, then: BaseException | None = None, closing: BaseException | None = None) -> None:
        self.closed = False
        self._then, self._closing = then, closing

    async def read(self) -> AsyncGenerator[bytes]:
        try:
            yield b"one"
            yield b"two"
            if self._then is not None:
                raise self._then
            await asyncio.sleep(60)
        finally:
            self.closed = True
            if self._closing is not None:
                raise self._closing


async def sent(reader: Reader, pieces: AsyncGenerator[bytes]) -> bool:
    exchange = _Exchange(scope={}, request_id="r", address="", started=0, path="", first=await anext(pieces))
    async with asyncio.timeout(5):
        return await _send_pieces(reader.receive, reader.send, [], exchange, pieces)


@pytest.mark.parametrize("closing", [None, RetryLater("reset"), RuntimeError("the handler is closed"), OSError("pipe")])
async def test_whoever_leaves_ends_the_transfer_while_the_archive_is_silent(closing: BaseException | None) -> None:
    reader, pieces = Reader(leaves_after=2), Pieces(closing=closing)
    with structlog.testing.capture_logs() as logs:
        assert await sent(reader, pieces.read()) is False
    assert pieces.closed
    assert not reader.ended
    assert [(entry["event"], entry["log_level"]) for entry in logs] == [("the reader of images has gone", "info")]


@pytest.mark.parametrize(
    ("then", "level"), [(RetryLater("silent"), "warning"), (ValueError("a fault of ours"), "error")]
)
async def test_what_breaks_off_is_not_ended(then: Exception, level: str) -> None:
    reader, pieces = Reader(), Pieces(then=then)
    with structlog.testing.capture_logs() as logs:
        assert await sent(reader, pieces.read()) is False
    assert (pieces.closed, reader.ended, [entry["log_level"] for entry in logs]) == (True, False, [level])


async def test_a_node_that_stops_ends_the_transfer() -> None:
    reader, pieces = Reader(), Pieces()
    task = asyncio.create_task(sent(reader, pieces.read()))
    while len(reader.sent) < 3:  # noqa: ASYNC110 - the reader is a stub
        await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert pieces.closed


async def test_a_reader_who_stays_has_all_of_it() -> None:
    async def three() -> AsyncGenerator[bytes]:
        for piece in (b"one", b"", b"three"):
            yield piece

    reader = Reader()
    assert await sent(reader, three()) is True
    assert b"".join(message.get("body", b"") for message in reader.sent) == b"onethree"
    assert reader.ended


class Answer(httpx.AsyncByteStream):
    """One that comes slowly, and whose connection does not end well."""

    def __init__(self) -> None:
        self.ended = 0

    async def __aiter__(self) -> AsyncIterator[bytes]:
        yield PART
        await asyncio.sleep(60)

    async def aclose(self) -> None:
        self.ended += 1
        raise RuntimeError("unable to perform operation on <TCPTransport>; the handler is closed")


async def test_a_connection_to_the_archive_that_does_not_end_well_is_nobodys_trouble() -> None:
    answer = Answer()

    def respond(_: httpx.Request) -> httpx.Response:
        return httpx.Response(200, headers={"Content-Type": "multipart/related; boundary=b"}, stream=answer)

    archive = DicomwebArchive("http://archive/dicom-web")
    archive._http = httpx.AsyncClient(transport=httpx.MockTransport(respond))
    part = await archive.open(("studies", "1.2"), "application/dicom")
    chunks = part.chunks()
    reader = Reader(leaves_after=1)
    assert await sent(reader, chunks) is False
    assert answer.ended == 1
    # And one whose answer is never read: closing it says nothing either.
    await (await archive.open(("studies", "1.2"), "application/dicom")).chunks().aclose()
    assert answer.ended == 2

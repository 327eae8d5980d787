"""Has a node serve a request in this process and writes down every batch of statements that it sends to PostgreSQL.

So the reference is not a copy of the node's SQL that could grow old: it is what the node of this very code sends, round
trip by round trip, with the values that it sends.
"""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Sequence
from typing import Any
from unittest import mock

import httpx

from bench.messages import Message
from obieg.edges.mllp import MllpEdge
from obieg.ops.settings import Settings
from obieg.ops.wiring import build
from obieg.protocol import Credentials
from obieg.storage.link import Link
from obieg.storage.statements import Call

Batch = tuple[Call, ...]


class Recorder:
    """A node in this process."""

    def __init__(self, client: httpx.AsyncClient, mllp: MllpEdge, batches: list[Batch]) -> None:
        self._client = client
        self._mllp = mllp
        self._batches = batches

    async def record(self, message: Message, patient: int, number: int, entry_uuid: str = "") -> list[Batch]:
        """The batches that one request makes; the request must succeed."""
        self._batches.clear()
        path, body = message.filled(patient, number, entry_uuid)
        headers = {"content-type": message.content_type} if body else {}
        answer = await self._client.request(message.method, path, content=body, headers=headers)
        if answer.status_code != 200 or message.success.encode() not in answer.content:
            raise RuntimeError(f"the node refused a benchmark's request: {answer.text[:2000]}")
        return self._own()

    def _own(self) -> list[Batch]:
        """Without what a worker asks once in ten seconds for all its requests: how old the newest seal is."""
        return [batch for batch in self._batches if batch[0].statement.name != "sealing_age"]

    async def record_hl7v2(self, message: bytes) -> list[Batch]:
        """The same of an HL7 v2 message."""
        self._batches.clear()
        answer = await self._mllp.answer(message, Credentials(address="127.0.0.1"))
        if b"\rMSA|AA|" not in answer:
            raise RuntimeError(f"the node refused a benchmark's message: {answer.decode()}")
        return self._own()


@contextlib.asynccontextmanager
async def recorder(settings: Settings) -> AsyncIterator[Recorder]:
    """A node with these settings, which must name a database that runs."""
    batches: list[Batch] = []
    run = Link.run

    def recording(link: Link, calls: Sequence[Call]) -> Any:
        batches.append(tuple(calls))
        return run(link, calls)

    node = build(settings)
    assert node.mllp is not None
    await node.open()
    try:
        with mock.patch.object(Link, "run", recording):
            transport = httpx.ASGITransport(app=node.asgi, client=("127.0.0.1", 12345))
            async with httpx.AsyncClient(
                transport=transport, base_url=settings.http.public_url or "http://localhost"
            ) as client:
                yield Recorder(client, node.mllp, batches)
    finally:
        await node.close()


def named(batches: Sequence[Batch], name: str) -> Call:
    """The one call of a statement."""
    (found,) = [call for batch in batches for call in batch if call.statement.name == name]
    return found


def value_of(call: Call, parameter: str) -> bytes | None:
    return call.values[call.statement.parameters.index(parameter)]

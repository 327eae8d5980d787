"""Large messages are worked on outside the event loop, and never several at once."""

from __future__ import annotations

import asyncio
import threading
import time
from contextvars import ContextVar

from obieg.edges.asgi import made

REQUEST: ContextVar[str] = ContextVar("REQUEST")


async def test_large_messages_are_made_one_after_another_and_know_their_request() -> None:
    at_work, most, seen = 0, 0, set()

    def make(name: str) -> str:
        nonlocal at_work, most
        at_work += 1
        most = max(most, at_work)
        time.sleep(0.02)
        at_work -= 1
        seen.add(threading.get_ident())
        return f"{name} of {REQUEST.get()}"

    async def request(number: int) -> str:
        REQUEST.set(str(number))
        return await made(make, "message", in_thread=True)

    answers = asyncio.gather(*(request(n) for n in range(5)))
    ticks = 0
    while not answers.done():
        await asyncio.sleep(0.001)
        ticks += 1
    assert await answers == [f"message of {n}" for n in range(5)]
    assert most == 1
    assert ticks > 5  # the event loop went on meanwhile
    assert len(seen) == 1
    assert threading.get_ident() not in seen


async def test_a_small_message_is_made_at_once() -> None:
    assert await made(threading.get_ident, in_thread=False) == threading.get_ident()

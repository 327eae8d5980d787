"""Sends what waits in the outbox: one loop for each receiver, so that a slow one holds up no other.

Theory of operation. A message is leased, sent and then marked; no transaction is open while it is on its way. Its
sender gives up well before the lease ends, so nobody else has the same message on its way at that time. A sender that
dies in between has sent a message once that nobody marked: when the lease has ended it is sent once more, under the
same control id. Messages about one patient go out in order, because only the first of them is ever due; different
patients do not wait for one another. A receiver that takes nothing is tried with one message at a time until it does.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable, Mapping

import structlog

from obieg.domain.audit import Outcome
from obieg.domain.outbox import Letter, OutboxStore
from obieg.domain.problems import Problem, RetryLater
from obieg.domain.subscriptions import DESTINATION
from obieg.protocol import Receiver

SEND_TIME_S = 60.0  # for one attempt, from connecting to the answer
LEASE_S = 120.0  # longer than an attempt and its marking can take
IDLE_S = 1.0  # between two looks for what is due
WIDTH = 8  # messages on their way to one receiver
SUBSCRIBED_WIDTH = 16  # messages on their way to subscriptions
PAUSE_S = (2.0, 900.0)  # before the second attempt; the longest
DEADLINE_S = 7 * 24 * 3600.0  # what has waited longer becomes a dead letter
EXPIRY_S = 60.0  # between two looks for what has waited too long
EXPIRED_MAX = 100  # handled in one look

log = structlog.get_logger()


def pause(attempts: int) -> float:
    """Seconds before the next attempt: twice as long each time, spread so that not all come back at once."""
    shortest, longest = PAUSE_S
    return min(longest, shortest * 2.0 ** min(attempts - 1, 20)) * random.uniform(0.5, 1.0)  # noqa: S311 - no secret


class Notifier:
    """Delivers the outbox to the receivers that the settings name."""

    def __init__(
        self,
        outbox: OutboxStore,
        receivers: Mapping[str, Receiver],
        *,
        lease_s: float = LEASE_S,
        send_time_s: float = SEND_TIME_S,
        observe: Callable[[str, str], None] = lambda _receiver, _outcome: None,
        subscribed: Receiver | None = None,
    ) -> None:
        """``subscribed`` takes what goes to subscriptions.

        ``observe`` is told of every attempt: receiver; delivered, postponed, refused, expired or unmarked.
        """
        self._outbox = outbox
        self._receivers = receivers
        self._lease_s = lease_s
        self._send_time_s = send_time_s
        self._observe = observe
        self._subscribed = subscribed

    async def serve(self, destination: str) -> None:
        """Sends to one receiver, for ever."""
        silent = False
        while True:
            try:
                sent, reached = await self.send(destination, 1 if silent else WIDTH)
            except RetryLater as error:
                log.warning("the outbox cannot be read now", receiver=destination, error=str(error))
                sent, reached = 0, not silent
            if sent and reached == silent:
                log.warning(
                    "a receiver takes messages again" if reached else "a receiver takes none", receiver=destination
                )
                silent = not reached
            if not sent or silent:
                await asyncio.sleep(IDLE_S)

    async def send(self, destination: str, count: int = WIDTH) -> tuple[int, bool]:
        """Sends what is due, at most one message of a patient; how many, and whether all of them were answered."""
        letters = await self._outbox.take(destination, count, self._lease_s)
        reached = await asyncio.gather(*map(self._send, letters))
        return len(letters), all(reached)

    async def serve_subscriptions(self) -> None:
        """Sends to all subscriptions, for ever; whoever is slow holds up one of the ways, not the others."""
        running: set[asyncio.Task[bool]] = set()
        try:
            while True:
                try:
                    free = SUBSCRIBED_WIDTH - len(running)
                    letters = await self._outbox.take_subscribed(free, self._lease_s) if free else ()
                except RetryLater as error:
                    log.warning("the outbox cannot be read now", error=str(error))
                    letters = ()
                running |= {asyncio.create_task(self._send(letter)) for letter in letters}
                if running:
                    done, running = await asyncio.wait(running, timeout=IDLE_S, return_when=asyncio.FIRST_COMPLETED)
                    for task in done:
                        # Our own fault with one letter is no reason to send nothing to all the others; its lease ends.
                        if (failure := task.exception()) is not None:
                            log.error("a message could not be sent", exc_info=failure)
                else:
                    await asyncio.sleep(IDLE_S)
        finally:
            for task in running:
                task.cancel()

    def _receiver(self, destination: str) -> Receiver | None:
        return self._subscribed if destination.startswith(DESTINATION) else self._receivers.get(destination)

    async def _send(self, letter: Letter) -> bool:
        receiver = self._receiver(letter.destination)
        assert receiver is not None  # noqa: S101 - only what is for a receiver is taken
        try:
            async with asyncio.timeout(self._send_time_s):
                await receiver.deliver(letter)
        except Problem as problem:
            await self._bury(letter, "refused", str(problem), receiver)
        except (RetryLater, TimeoutError) as error:
            why = str(error) or f"no answer within {self._send_time_s:.0f} s"
            await self._mark(letter, "postponed", self._outbox.postpone(letter, pause(letter.attempts), why))
            return False
        else:
            event = receiver.audit(letter, Outcome.SUCCESS)
            await self._mark(letter, "delivered", self._outbox.delivered(letter, event))
        return True

    async def expire(self) -> None:
        """Makes dead letters of what has waited too long, also for receivers no longer named; for ever."""
        while True:
            try:
                for letter in await self._outbox.expired(DEADLINE_S, EXPIRED_MAX):
                    why = f"not delivered within {DEADLINE_S / 86400:.0f} days; the last attempt: {letter.last_error}"
                    await self._bury(letter, "expired", why, self._receiver(letter.destination))
            except RetryLater as error:
                log.warning("the outbox cannot be read now", error=str(error))
            await asyncio.sleep(EXPIRY_S)

    async def _bury(self, letter: Letter, outcome: str, why: str, receiver: Receiver | None) -> None:
        event = receiver.audit(letter, Outcome.SERIOUS_FAILURE, outcome) if receiver is not None else None
        await self._mark(letter, outcome, self._outbox.bury(letter, why, event))

    async def _mark(self, letter: Letter, outcome: str, marking: Awaitable[None]) -> None:
        try:
            await marking
        except RetryLater as error:  # the lease ends, and it is sent once more
            outcome = "unmarked"
            log.warning("a message could not be marked", outbox_id=letter.outbox_id, error=str(error))
        self._observe(receiver_name(letter.destination), outcome)
        log.info(
            "a message of the outbox",
            outbox_id=letter.outbox_id,
            transaction=letter.transaction,
            receiver=letter.destination,
            attempt=letter.attempts,
            outcome=outcome,
        )


def receiver_name(destination: str) -> str:
    """What metrics call a receiver: its name in the settings, one name for all subscriptions."""
    return DESTINATION.rstrip(":") if destination.startswith(DESTINATION) else destination

"""What a node tells others by itself: the receivers that the settings name, and the work that delivers to them."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Awaitable, Callable, Mapping, Sequence
from functools import partial
from pathlib import Path

import structlog
from prometheus_client import Counter, Gauge

from obieg.actors.notification_broker import ResourceNotificationBroker
from obieg.actors.notifier import Notifier, receiver_name
from obieg.domain.authorities import Authorities
from obieg.domain.outbox import Backlog, OutboxStore
from obieg.domain.problems import RetryLater
from obieg.domain.registry import LostRace
from obieg.edges.clients import MllpClient, NotifiedReceiver, SoapAsker, SubscriberHooks, over_mllp, over_soap
from obieg.ops.failure import Failure
from obieg.ops.peers import hearing
from obieg.ops.settings import Settings, SubscriberSettings
from obieg.ops.wiring_patients import PROTOCOLS
from obieg.protocol import Receiver
from obieg.transactions import NOTIFICATIONS

MEASURE_S = 15.0
END_PAUSE_S = 5.0  # between two looks for subscriptions whose end has come
CONNECTIONS_MAX = 8  # to one receiver over MLLP

_WAITING = Gauge(
    "obieg_outbox_waiting", "Messages that wait for a receiver.", ("receiver",), multiprocess_mode="livemostrecent"
)
_DEAD = Gauge(
    "obieg_outbox_dead",
    "Messages that a receiver refused or that waited too long.",
    ("receiver",),
    multiprocess_mode="livemostrecent",
)
_OLDEST = Gauge(
    "obieg_outbox_oldest_seconds",
    "Age of the oldest message that waits for a receiver; 0 if none does.",
    ("receiver",),
    multiprocess_mode="livemostrecent",
)
_ATTEMPTS = Counter("obieg_outbox_attempts_total", "Attempts to deliver, by outcome.", ("receiver", "outcome"))

log = structlog.get_logger()


class Delivery:
    """The receivers of one worker and the loops that deliver to them, which only the leading worker runs."""

    def __init__(
        self,
        settings: Settings,
        outbox: OutboxStore,
        *,
        authorities: Authorities,
        spool: Path,
        broker: ResourceNotificationBroker,
        hooks: SubscriberHooks,
        notices: Mapping[str, Receiver],
    ) -> None:
        """Opens no connection; ``hooks`` are the broker's, ``notices`` who takes what people are told.

        Raises Failure where a certificate cannot be used.
        """
        self._outbox = outbox
        self._broker = broker
        self._hooks = hooks
        self._clients: list[MllpClient | SoapAsker] = []
        told = {s.name: self._receiver(s, settings, authorities, spool) for s in settings.subscribers}
        receivers: dict[str, Receiver] = {**told, **notices}
        notifier = Notifier(
            outbox,
            receivers,
            observe=lambda receiver, outcome: _ATTEMPTS.labels(receiver, outcome).inc(),
            subscribed=broker,
        )
        self._measured = set(receivers)
        self.background: tuple[Callable[[], Awaitable[None]], ...] = (
            *(partial(notifier.serve, name) for name in receivers),
            notifier.serve_subscriptions,
            notifier.expire,
            self._end_subscriptions,
            self._measure,
        )

    def _receiver(
        self, subscriber: SubscriberSettings, settings: Settings, authorities: Authorities, spool: Path
    ) -> NotifiedReceiver:
        transaction = PROTOCOLS[subscriber.protocol].transaction
        notification = next(n for n in NOTIFICATIONS if n.id == transaction)
        tls = _tls(subscriber)
        client: MllpClient | SoapAsker
        if subscriber.protocol == "pix_v3":
            client = SoapAsker(spool_folder=spool, tls=tls)
            exchange = over_soap(client, subscriber.address)
        else:
            address = subscriber.address.removeprefix("mllps://")
            client = MllpClient(address, connections_max=CONNECTIONS_MAX, tls=tls)
            exchange = over_mllp(client)
        self._clients.append(client)
        return NotifiedReceiver(
            notification,
            exchange,
            sender=(settings.identity.home_community_id, settings.name),
            receiver=(subscriber.application or subscriber.name, subscriber.facility or subscriber.name),
            address=subscriber.address,
            authorities=authorities,
        )

    async def _end_subscriptions(self) -> None:
        """Switches off subscriptions whose end has come and removes those long off, for ever."""
        while True:
            try:
                await self._broker.end_all()
            except (RetryLater, LostRace) as error:
                log.warning("subscriptions cannot be ended now", error=str(error))
            await asyncio.sleep(END_PAUSE_S)

    async def _measure(self) -> None:
        """Tells the metrics what waits, for ever."""
        while True:
            try:
                found = _by_receiver(await self._outbox.backlog())
            except RetryLater as error:
                log.warning("the outbox cannot be read now", error=str(error))
            else:
                self._measured |= found.keys()
                for name in self._measured:
                    backlog = found.get(name)
                    _WAITING.labels(name).set(backlog.waiting if backlog else 0)
                    _DEAD.labels(name).set(backlog.dead if backlog else 0)
                    _OLDEST.labels(name).set(backlog.oldest_s if backlog else 0)
            await asyncio.sleep(MEASURE_S)

    async def close(self) -> None:
        """Ends all connections."""
        for client in self._clients:
            await client.close()
        await self._hooks.close()


def _by_receiver(backlogs: Sequence[Backlog]) -> dict[str, Backlog]:
    """By name; all subscriptions are one receiver to the metrics."""
    found: dict[str, Backlog] = {}
    for one in backlogs:
        name = receiver_name(one.destination)
        known = found.get(name, Backlog(destination=name, waiting=0, dead=0, oldest_s=0))
        found[name] = Backlog(
            destination=name,
            waiting=known.waiting + one.waiting,
            dead=known.dead + one.dead,
            oldest_s=max(known.oldest_s, one.oldest_s),
        )
    return found


def _tls(subscriber: SubscriberSettings) -> ssl.SSLContext | None:
    if not subscriber.address.startswith(("mllps://", "https://")):
        return None
    try:
        context = ssl.create_default_context(cafile=subscriber.ca_file)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        if subscriber.certificate_file is not None:
            context.load_cert_chain(subscriber.certificate_file, subscriber.key_file)
    except (OSError, ssl.SSLError) as error:
        raise Failure(
            f"The certificates for the subscriber {subscriber.name} cannot be used: {error}.",
            "Nothing could be told to it, so the node does not start.",
            "Correct ca_file, certificate_file or key_file of its [[subscribers]] entry in the settings.",
        ) from error
    return hearing(context)

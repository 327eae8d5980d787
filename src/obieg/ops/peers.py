"""Certificates of others, noted as connections show them, so that their ends are known beforehand.

Theory of operation. Whoever has a connection calls :func:`note`, which hashes the certificate and remembers that hash
for a day; what is new is written to the database within seconds, by each worker for itself. The leading worker tells
the metrics and the log. The table holds the newest thousands and forgets what nobody shows any more.
"""

from __future__ import annotations

import asyncio
import ssl
import time
from datetime import UTC, datetime
from hashlib import sha256
from typing import Any

import structlog
from cryptography import x509
from prometheus_client import Gauge

from obieg.domain.operating import CERTIFICATE_WARNING
from obieg.domain.problems import RetryLater
from obieg.storage.operations_store import PostgresOperations

INCOMING, OUTGOING = "I", "O"  # of who calls this node; of whom it calls
_REMEMBERED_MAX = 2_000
_NAME_MAX = 500  # characters
_PAUSE_S = 5.0
_TELL_S = 3_600.0
_DAY_S = 86_400.0

_ENDS = Gauge(
    "obieg_peer_certificate_not_after_seconds",
    "When a certificate that others showed ends, in seconds since 1970; direction: in or out.",
    ("direction", "subject"),
    multiprocess_mode="livemostrecent",
)

log = structlog.get_logger()


class _Seen:
    """What this process has seen: connections of all kinds begin here."""

    def __init__(self) -> None:
        self.remembered: dict[tuple[str, bytes], float] = {}  # when it was noted
        self.new: dict[tuple[str, bytes], bytes] = {}  # DER

    def note(self, direction: str, der: bytes) -> None:
        key = (direction, sha256(der).digest())
        at, now = self.remembered.get(key), time.monotonic()
        if at is not None and now - at < _DAY_S:
            return
        if len(self.remembered) >= _REMEMBERED_MAX:
            self.remembered.clear()
            self.new.clear()
        self.remembered[key] = now
        self.new[key] = der


_SEEN = _Seen()


def note(direction: str, der: bytes | None) -> None:
    """A connection showed this certificate (DER); None: none."""
    if der:
        _SEEN.note(direction, der)


class Hearing(ssl.SSLObject):
    """TLS of an outgoing connection whose server's certificate is noted."""

    def do_handshake(self) -> None:
        """As it is."""
        super().do_handshake()
        note(OUTGOING, self.getpeercert(binary_form=True))


def hearing(context: ssl.SSLContext) -> ssl.SSLContext:
    """The same; whom its connections reach is noted."""
    context.sslobject_class = Hearing
    return context


class Peers:
    """Keeps what this process has seen, and tells of it."""

    def __init__(self, store: PostgresOperations) -> None:
        self._store = store
        self._told: set[tuple[str, str]] = set()

    async def keep(self) -> None:
        """Writes what is new, for ever; every worker does."""
        while True:
            await asyncio.sleep(_PAUSE_S)
            if _SEEN.new:
                taken, _SEEN.new = _SEEN.new, {}
                try:
                    await self._write(taken)
                except RetryLater as error:
                    log.warning("certificates of others cannot be kept now", error=str(error))
                    for key in taken:
                        _SEEN.remembered.pop(key, None)

    async def _write(self, taken: dict[tuple[str, bytes], bytes]) -> None:
        shown: dict[tuple[str, bytes], tuple[str, str, datetime]] = {}
        for key, der in taken.items():
            try:
                certificate = x509.load_der_x509_certificate(der)
                subject, issuer = certificate.subject.rfc4514_string(), certificate.issuer.rfc4514_string()
                shown[key] = subject[:_NAME_MAX], issuer[:_NAME_MAX], certificate.not_valid_after_utc
            except ValueError as error:
                log.warning("a certificate of others cannot be read", error=str(error))
        if shown:
            await self._store.note_peers(shown)

    async def tell(self) -> None:
        """Tells the metrics, and once a day the log, for ever; only the leading worker does."""
        warned_at = 0.0
        while True:
            try:
                peers = await self._store.peers()
            except RetryLater as error:
                log.warning("certificates of others cannot be read now", error=str(error))
                await asyncio.sleep(_PAUSE_S)
                continue
            now = datetime.now(UTC)
            warn = now.timestamp() - warned_at > _DAY_S
            labels = {("in" if one.incoming else "out", one.subject): one for one in peers}
            for gone in self._told - labels.keys():
                _ENDS.remove(*gone)
            self._told = {*labels}
            for label, one in labels.items():
                _ENDS.labels(*label).set(one.not_after.timestamp())
                if warn and one.not_after - now < CERTIFICATE_WARNING:
                    warned_at = now.timestamp()
                    log.warning(
                        "a certificate of somebody else ends soon: tell them",
                        certificate=one.subject,
                        days=(one.not_after - now).days,
                    )
            await asyncio.sleep(_TELL_S)


def shown_by(connection: Any) -> bytes | None:
    """The certificate (DER) that a transport or stream's peer showed."""
    tls = connection.get_extra_info("ssl_object")
    return tls.getpeercert(binary_form=True) if tls is not None else None

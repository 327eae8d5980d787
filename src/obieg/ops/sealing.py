"""How a node seals its audit: the loops of the leading worker, the keys, and what others may read of the roots."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress
from datetime import datetime
from pathlib import Path

import httpx
import psycopg
import structlog
from cryptography.x509 import Certificate, load_pem_x509_certificates
from prometheus_client import Counter, Gauge
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from obieg.actors.sealing_gate import SealingGate, SealWatch
from obieg.domain.problems import RetryLater
from obieg.domain.sealing import NotANote, digest, head_of, notes
from obieg.edges.timestamping import TimestampAuthority
from obieg.ops.failure import Failure
from obieg.ops.settings import Settings
from obieg.ops.tls import calling
from obieg.protocol import Authenticator
from obieg.storage.keys import KeyFileError
from obieg.storage.link import Database
from obieg.storage.link import run as run_on
from obieg.storage.roots_file import RootsFile
from obieg.storage.seal_keys import SealKeys, create_seal_keys
from obieg.storage.seal_store import SQL, connect
from obieg.storage.sealer import SealBroken, Sealer

ROOTS = "/audit/roots"
NOTES_MAX = 500  # in one answer
_ANSWER_BYTES_MAX = 2 << 20
_RETRY_S = 5.0  # after a failure, at most
_MEASURE_S = 10.0
_TIMEOUT_S = 20.0

_AGE = Gauge(
    "obieg_audit_seal_age_seconds",
    "Time since no audit record was left to be sealed.",
    multiprocess_mode="livemostrecent",
)
_UNSEALED = Gauge(
    "obieg_audit_unsealed",
    "Audit records after the newest seal, at most.",
    multiprocess_mode="livemostrecent",
)
_SEALED = Counter("obieg_audit_sealed_total", "Audit records that were sealed.")
_FAILED = Counter("obieg_audit_sealing_failures_total", "What failed in sealing.", ("what",))

log = structlog.get_logger()


def seal_key_file(settings: Settings) -> Path:
    """Where the keys are that sign roots."""
    return settings.sealing.key_file or settings.data_dir / "seal.key"


def roots_file(settings: Settings) -> Path:
    """Where roots are written outside the database."""
    return settings.sealing.roots_file or settings.data_dir / "roots.txt"


def origin(settings: Settings) -> str:
    """What this node's audit is called in its roots; the name of its keys."""
    return f"obieg/{settings.identity.home_community_id}/{settings.identity.repository_unique_id}"


def seal_keys(settings: Settings) -> SealKeys:
    """The keys of an existing node."""
    try:
        return SealKeys(seal_key_file(settings), origin(settings))
    except KeyFileError as error:
        raise Failure(
            f"The key that signs the audit cannot be used: {error}.",
            "Without it no root can be signed, and none that was signed can be checked.",
            "Put back the copy of the key file, or correct sealing.key_file in the settings.",
        ) from error


def authority_certificates(path: Path) -> list[Certificate]:
    """The certificates of a PEM file."""
    try:
        return load_pem_x509_certificates(path.read_bytes())
    except (OSError, ValueError) as error:
        raise Failure(
            f"{path} holds no certificates: {error}.",
            "Time-stamps cannot be checked without the certificates of the authority that gives them.",
            "Correct sealing.tsa_ca_file in the settings.",
        ) from error


class Sealing:
    """The sealing of one worker."""

    def __init__(self, settings: Settings, database: Database, now: Callable[[], datetime]) -> None:
        create_seal_keys(seal_key_file(settings))
        self._settings = settings.sealing
        self._dsn = settings.database.dsn
        self._database = database
        self._sealer = Sealer(seal_keys(settings), origin(settings), now)
        self._roots = RootsFile(roots_file(settings))
        self.watch = SealWatch(self.age, fail_after_s=self._settings.fail_after_s)  # for what has no authenticator
        self._tls = calling(settings, self._settings.ca_file)
        self._authority: TimestampAuthority | None = None
        if self._settings.tsa_url and self._settings.tsa_ca_file is not None:
            self._authority = TimestampAuthority(
                self._settings.tsa_url, authority_certificates(self._settings.tsa_ca_file), tls=self._tls
            )
        self.background: tuple[Callable[[], Awaitable[None]], ...] = (
            self.seal_for_ever,
            self.measure_for_ever,
            *([self.stamp_for_ever] if self._authority else []),
            *([self.witness_for_ever] if self._settings.witness_of else []),
        )
        self.routes = (Route(ROOTS, self._answer_roots),)

    def gate(self, inner: Authenticator) -> SealingGate:
        """Before the authenticator: refuses when nothing is sealed any more."""
        return SealingGate(inner, self.watch)

    async def age(self) -> float:
        """Seconds since no record was left to be sealed."""
        [[(age, unsealed)]] = await run_on(self._database, SQL.sealing_age())
        _AGE.set(age)
        _UNSEALED.set(unsealed)
        return float(age)

    async def open(self) -> None:
        """Seals at once where it was not done for long, such as after the node was down."""
        if await self.age() > self._settings.fail_after_s:
            await self.seal()

    async def seal(self) -> bool:
        """One pass; whether it went well."""
        try:
            await asyncio.to_thread(self._pass)
        except SealBroken as error:
            _FAILED.labels("broken").inc()
            log.critical("the audit was changed and cannot be sealed on", error=str(error))
        except (psycopg.Error, OSError, KeyFileError) as error:
            _FAILED.labels("seal").inc()
            log.error("the audit could not be sealed", error=str(error).strip())
        else:
            return True
        return False

    def _pass(self) -> None:
        with connect(self._dsn) as connection:
            sealed = self._sealer.seal(connection)
            if sealed is None:
                return
            if sealed:
                _SEALED.inc(sum(len(seal.leaves) // 32 for seal in sealed))
                log.debug("the audit was sealed", seal=sealed[-1].sequence, records=sealed[-1].tree_size)
            if not self._roots.publish(connection):
                _FAILED.labels("set back").inc()
                log.critical("the roots file has seals that the database does not have: run obieg audit verify")

    async def seal_for_ever(self) -> None:
        """Seals again and again."""
        while True:
            well = await self.seal()
            await asyncio.sleep(self._settings.interval_s if well else min(self._settings.interval_s, _RETRY_S))

    async def measure_for_ever(self) -> None:
        """Keeps the gauges up to date."""
        while True:
            with suppress(RetryLater):
                await self.age()
            await asyncio.sleep(_MEASURE_S)

    async def stamp_for_ever(self) -> None:
        """Has the newest seal time-stamped, which covers all before it."""
        while True:
            try:
                await self.stamp()
            except RetryLater as error:
                _FAILED.labels("time-stamp").inc()
                log.warning("the audit could not be time-stamped", error=str(error))
            await asyncio.sleep(self._settings.interval_s)

    async def stamp(self) -> bool:
        """One time-stamp where there is a seal without; raises RetryLater where there is none to be had."""
        [[(sealed, stamped)]] = await run_on(self._database, SQL.sealed_to())
        if self._authority is None or sealed is None or sealed == stamped:
            return False
        [[(note,)]] = await run_on(self._database, SQL.note_of_seal(sequence=sealed))
        token = await self._authority.stamp(note.encode())
        await run_on(self._database, SQL.insert_timestamp(sequence=sealed, token=token))
        return True

    async def witness_for_ever(self) -> None:
        """Keeps the roots of other nodes."""
        known: dict[str, str] = {}  # address -> whose roots it gives
        async with httpx.AsyncClient(timeout=_TIMEOUT_S, verify=self._tls) as http:
            while True:
                for address in self._settings.witness_of:
                    try:
                        await self._witness(http, address, known)
                    except (RetryLater, httpx.HTTPError, NotANote, OSError) as error:
                        _FAILED.labels("witness").inc()
                        log.warning("the roots of another node could not be read", address=address, error=str(error))
                await asyncio.sleep(self._settings.interval_s)

    async def _witness(self, http: httpx.AsyncClient, address: str, known: dict[str, str]) -> None:
        while True:
            newest = 0
            if whose := known.get(address):
                [rows] = await run_on(self._database, SQL.newest_witnessed(origin=whose))
                newest = head_of(rows[0][0]).sequence if rows else 0
            # The newest that is kept is asked for again: a node that gives another one now has changed its past.
            found = list(await fetch(http, address, after=max(0, newest - 1)))
            for note in found:
                head = head_of(note)
                known.setdefault(address, head.origin)
                if head.origin != known[address]:
                    raise NotANote(f"{address} gives roots of {head.origin} and of {known[address]}")
                if head.sequence == newest and rows and rows[0][0] != note:
                    log.critical("another node gives another root than before", origin=head.origin, seal=newest)
                await run_on(
                    self._database,
                    SQL.keep_note(origin=head.origin, sequence=head.sequence, note_digest=digest(note), note=note),
                )
            if len(found) < NOTES_MAX:
                return

    async def _answer_roots(self, request: Request) -> Response:
        """The roots of this node, or those that it keeps for another one, after a seal."""
        after = request.query_params.get("after", "0")
        if not after.isascii() or not after.isdigit() or len(after) > 18:
            return PlainTextResponse("after must be the number of a seal\n", 400)
        whose = request.query_params.get("of", "")
        if "\0" in whose:
            return PlainTextResponse("of must be the name of an audit\n", 400)
        call = (
            SQL.witnessed_after(origin=whose, after=int(after), count=NOTES_MAX)
            if whose
            else SQL.notes_after(after=int(after), count=NOTES_MAX)
        )
        try:
            [rows] = await run_on(self._database, call)
        except RetryLater:
            return PlainTextResponse("not now\n", 503)
        return PlainTextResponse("".join(note for _, note in rows))


async def fetch(http: httpx.AsyncClient, address: str, *, after: int, of: str = "") -> list[str]:
    """Notes that another node gives: its own, or those that it keeps. Raises RetryLater."""
    parameters = {"after": str(after), **({"of": of} if of else {})}
    async with http.stream("GET", address, params=parameters) as answer:
        if answer.status_code != 200:
            raise RetryLater(f"{address} answers HTTP {answer.status_code}")
        data = bytearray()
        async for piece in answer.aiter_bytes():
            data += piece
            if len(data) > _ANSWER_BYTES_MAX:
                raise RetryLater(f"{address} answers more than {_ANSWER_BYTES_MAX} bytes")
    return list(notes(data.decode("utf-8", "replace").splitlines(keepends=True)))

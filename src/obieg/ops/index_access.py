"""The patient index for commands: the actors of a region over its database, without a node around them."""

from __future__ import annotations

import asyncio
import base64
import secrets
import struct
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import psycopg

from obieg.actors.patient_curation import OPERATOR
from obieg.actors.patient_index import AFFINITY_DOMAIN_ID_LENGTH
from obieg.codes.load import toml
from obieg.domain.feeding_batch import RememberingMatcher
from obieg.domain.identifiers import PatientId, is_oid, patient_id
from obieg.domain.linkage import Weights
from obieg.domain.problems import Problem, RetryLater
from obieg.ops import settings as node_settings
from obieg.ops.asking import settings_of
from obieg.ops.failure import Failure
from obieg.ops.postgres import reach
from obieg.ops.settings import Settings
from obieg.ops.weights import newest_weights
from obieg.ops.wiring_patients import PatientActors, patient_actors, utc_now
from obieg.storage.audit_store import AuditStore
from obieg.storage.bulk_store import BulkStore
from obieg.storage.link import Database
from obieg.storage.outbox_store import PostgresOutbox

T = TypeVar("T")
_DRAWN = 1000
PESEL_ROOT: str = toml("national/pl/pik.toml")["roots"]["pesel"]


class Access(NamedTuple):
    """The index of a region, built like that of its node."""

    settings: Settings
    dsn: str
    database: Database  # open within ``connected``
    audit: AuditStore
    who: PatientActors
    matcher: RememberingMatcher
    weights: Weights | None

    @property
    def feeding_parts(self) -> dict[str, Any]:
        """What deciding feeds as the node does is built of."""
        return {**self.who.feeding_parts, "new_id": _new_ids().__next__, "new_key": _new_keys().__next__}

    @property
    def authority(self) -> str:
        """The OID of the affinity domain."""
        return self.settings.identity.assigning_authority

    @asynccontextmanager
    async def connected(self) -> AsyncIterator[None]:
        """The actors can be asked within."""
        await self.database.open()
        try:
            yield
        finally:
            self.database.close()

    def bulk(self, name: str) -> BulkStore:
        """A way for many records."""
        return BulkStore(self.dsn, audit=self.audit, patients=self.who.store, name=name)

    def identifier(self, text: str) -> PatientId:
        """Who is meant on the command line. Raises Failure."""
        if text.isascii() and text.isdigit() and len(text) == 11:
            return PatientId(text, PESEL_ROOT)
        if (cx := patient_id(text)) is not None:
            return cx
        value, at, named = text.rpartition("@")
        if at and value:
            listed = self.who.authorities.by_name(named)
            if listed is not None or is_oid(named):
                return PatientId(value, listed.oid if listed else named)
            raise Failure(
                f"{named!r} is neither an OID nor the name of an authority in the settings.",
                "So it is not known whose number this is; nothing was done.",
                "Give number@OID, or a name of [[authorities]].",
            )
        if "^" in text or not text:
            raise Failure(
                f"{text!r} is no identifier.",
                "Nothing was done.",
                "Give a PESEL, number@authority, 'number^^^&OID&ISO', or an id of the affinity domain.",
            )
        return PatientId(text, self.authority)


@contextmanager
def opened(path: Path) -> Iterator[Access]:
    """The index that the settings describe. Problems and trouble of the database are told to people."""
    settings = node_settings.load(path)
    if settings.role != "region":
        raise Failure(
            f"{path} describes a {settings.role} node.",
            "The patient index is kept by the region; nothing was done.",
            "Give the settings file of the region's node.",
        )
    with reach(settings.database.dsn, settings.postgres_dir) as dsn, told():
        yield access(settings, dsn, newest_weights(dsn))


def asked(node: Path | None, settings: Path | None, question: Callable[[Access], Awaitable[T]]) -> T:
    """What the index that --node or --settings means answers to one question; its database is open for it."""
    with opened(settings or settings_of(node)) as found:

        async def ask() -> T:
            async with found.connected():
                return await question(found)

        return asyncio.run(ask())


def access(settings: Settings, dsn: str, weights: Weights | None = None) -> Access:
    """Builds the actors; opens no connection."""
    database = Database(dsn, links=1)
    names = {OPERATOR: "Operator at the command line"}
    audit = AuditStore(database, source_id=settings.name, names=names, now=utc_now)
    outbox = PostgresOutbox(database, audit)
    matcher = RememberingMatcher(weights)
    who = patient_actors(settings, database, audit, outbox, matcher)
    return Access(settings, dsn, database, audit, who, matcher, weights)


def _new_ids() -> Iterator[str]:
    """Affinity-domain ids as the node makes them, many from one reading of the system's randomness."""
    bits = 5 * AFFINITY_DOMAIN_ID_LENGTH
    while True:
        drawn = base64.b32encode(secrets.token_bytes(bits * _DRAWN // 8)).decode()
        for start in range(0, len(drawn), AFFINITY_DOMAIN_ID_LENGTH):
            yield drawn[start : start + AFFINITY_DOMAIN_ID_LENGTH]


def _new_keys() -> Iterator[int]:
    """Patient and record keys, likewise."""
    while True:
        for key in struct.unpack(f">{_DRAWN}Q", secrets.token_bytes(8 * _DRAWN)):
            yield (key >> 1) or 1


@contextmanager
def told() -> Iterator[None]:
    """What goes wrong, told to people."""
    try:
        yield
    except Problem as problem:
        raise Failure(_said(problem), "Nothing was changed.", _remedy(problem)) from None
    except RetryLater as error:
        raise Failure(
            f"{error}.", "What was not acknowledged until then is not stored.", "See whether the database runs."
        ) from None
    except psycopg.OperationalError as error:
        raise Failure(
            f"The database does not answer: {str(error).splitlines()[0]}.",
            "Nothing can be asked or changed without it.",
            "See whether it runs, and whether the settings name the right one.",
        ) from None


def _said(problem: Problem) -> str:
    return "; ".join(f"{f.location}: {f.detail}" if f.location else f.detail for f in problem.findings) + "."


_REMEDIES = {
    "UnknownKeyIdentifier": "Check the number and who gave it out (number@authority); obieg patients show tells more.",
    "UnknownTask": "obieg patients worklist lists the open lines.",
    "AlreadyLinked": "obieg patients show tells what is linked; obieg patients unlink takes a link back.",
    "NotLinked": "obieg patients show lists the links of a patient; name the one that was linked to another.",
}


def _remedy(problem: Problem) -> str:
    codes: Sequence[str] = [f.code for f in problem.findings]
    return next((_REMEDIES[code] for code in codes if code in _REMEDIES), "Correct what it names and try again.")

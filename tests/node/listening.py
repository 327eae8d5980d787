"""An index on a real database behind a real MLLP socket, and a client that knows nothing of this code."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import hl7
import psycopg
from hl7.client import MLLPClient
from indexing import CLINIC, HOSPITAL, OTHER, OURS, PESEL, make_index

from obieg.actors.access_control import AccessControl
from obieg.actors.patient_curation import PatientCuration
from obieg.actors.patient_index import PatientIndex
from obieg.domain.authorities import AssigningAuthority, Authorities
from obieg.domain.identifiers import PatientId
from obieg.domain.linkage import LinkageMatcher
from obieg.domain.notices import Subscribers
from obieg.domain.requester import Requester
from obieg.edges.mllp import MllpEdge, MllpLimits
from obieg.protocol import Credentials
from obieg.storage.audit_store import AuditStore
from obieg.storage.curation_store import PostgresCurationStore
from obieg.storage.link import Database
from obieg.storage.outbox_store import PostgresOutbox
from obieg.storage.patient_store import PostgresPatientStore
from obieg.transactions import TRANSACTIONS

__all__ = ["CLINIC", "HOSPITAL", "OTHER", "OURS", "PESEL"]

AUTHORITIES = Authorities(
    [
        AssigningAuthority(OURS),
        AssigningAuthority(PESEL, single=True),
        AssigningAuthority(HOSPITAL, "SZPITAL"),
        AssigningAuthority(CLINIC, "PRZYCHODNIA"),
        AssigningAuthority(OTHER, "PORADNIA", assigners=("POZ", "DENTYSTA")),
    ]
)


class Laboratory:
    async def authenticate(self, credentials: Credentials) -> Requester:
        return Requester(system=credentials.address, address=credentials.address)


@dataclass
class Actors:
    patient_index: Any
    patient_curation: PatientCuration


@dataclass
class Node:
    port: int
    actors: Actors
    index: PatientIndex
    database: Database
    dsn: str

    async def send(self, message: str | bytes) -> hl7.Message:
        """One message on a connection of its own; the acknowledgement as python-hl7 reads it."""
        return await asyncio.to_thread(self._send, message)

    def _send(self, message: str | bytes) -> hl7.Message:
        with MLLPClient("127.0.0.1", self.port) as client:
            client.socket.settimeout(20)
            return acknowledgement(client.send_message(message))

    async def id(self, value: str, authority: str) -> str | None:
        found = await self.index.affinity_domain_id(PatientId(value, authority))
        return None if found is None else found.value

    def rows(self, query: str) -> list[tuple[Any, ...]]:
        with psycopg.connect(self.dsn) as connection:
            return connection.execute(query.encode()).fetchall()

    def state(self) -> list[list[tuple[Any, ...]]]:
        """Everything that the index keeps, but the audit."""
        tables = ("patient", "patient_record", "patient_locator", "patient_block", "patient_link", "patient_task")
        return [self.rows(f"SELECT * FROM {table} ORDER BY 1, 2") for table in tables]


def acknowledgement(data: bytes) -> hl7.Message:
    assert data.startswith(b"\x0b")
    assert data.endswith(b"\r\x1c\r"), "the last segment ends with CR, too"
    return hl7.parse(data[1:-2].decode())


def code(answer: hl7.Message) -> str:
    return str(answer.segment("MSA")[1])


def error(answer: hl7.Message) -> tuple[str, str, str]:
    """MSA-1, location and code of the first ERR of a 2.3.1 answer."""
    field = str(answer.segment("ERR")[1]).split("~")[0].split("^")
    return code(answer), "-".join((field[0], field[2])).strip("-"), field[3].split("&")[0]


def status(answer: hl7.Message) -> tuple[str, str]:
    """MSA-1 and QAK-2."""
    return code(answer), str(answer.segment("QAK")[2])


def errors(answer: hl7.Message) -> set[tuple[str, str]]:
    """Where, and code of table 0357, of every ERR of a 2.5 answer."""
    return {(str(err[2]), str(err[3]).split("^")[0]) for err in answer.segments("ERR")}


def cx(value: str, authority: str) -> str:
    return f"{value}^^^&{authority}&ISO"


def adt(
    event: str,
    *identifiers: str,
    merged: str = "",
    rest: str = "||KOWALSKI^JAN||19800101|M",
    control_id: str = "M1",
    version: str = "2.3.1",
    sender: str = "APP|SZPITAL",
) -> str:
    structure = {"A40": "ADT_A39", "A43": "ADT_A43", "A47": "ADT_A30", "A28": "ADT_A05", "A31": "ADT_A05"}
    lines = [
        f"MSH|^~\\&|{sender}|OBIEG|REGION|20260301||ADT^{event}^{structure.get(event, 'ADT_A01')}|{control_id}|P|{version}",
        f"EVN|{event}|20260301",
        f"PID|||{'~'.join(identifiers)}{rest}",
    ]
    if merged:
        lines.append(f"MRG|{merged}")
    return "\r".join(lines) + "\r"


@asynccontextmanager
async def running(
    dsn: str,
    limits: MllpLimits | None = None,
    authorities: Authorities = AUTHORITIES,
    authenticator: Any = None,
    access: AccessControl | None = None,
) -> AsyncIterator[Node]:
    """A node that answers all that is asked over MLLP; with ``access`` it enforces it."""
    database = Database(dsn)
    await database.open()
    audit = AuditStore(
        database, source_id="test", names={t.id: t.name for t in TRANSACTIONS}, now=lambda: datetime.now(UTC)
    )
    index = make_index(database, authorities=authorities, access=access)
    outbox = PostgresOutbox(database, audit)
    patients = PostgresPatientStore(database, audit, outbox, assigning_authority=OURS, tells=True)
    curation = PatientCuration(
        PostgresCurationStore(database, audit, outbox, patients, assigning_authority=OURS),
        patients,
        index,
        assigning_authority=OURS,
        matcher=LinkageMatcher(),
        subscribers=Subscribers(),
    )
    actors = Actors(index, curation)
    edge = MllpEdge(
        transactions=TRANSACTIONS,
        actors=actors,
        authenticator=authenticator or Laboratory(),
        gate=access,
        audit=audit,
        authorities=authorities,
        limits=limits or MllpLimits(),
    )
    connections: set[asyncio.Task[None]] = set()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        connections.add(asyncio.current_task())
        await edge(reader, writer)

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    try:
        yield Node(server.sockets[0].getsockname()[1], actors, index, database, dsn)
    finally:
        server.close()
        if connections:
            await asyncio.wait(connections, timeout=10)
        database.close()


@asynccontextmanager
async def connected(node: Node) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    """A connection, byte by byte."""
    reader, writer = await asyncio.open_connection("127.0.0.1", node.port)
    try:
        yield reader, writer
    finally:
        writer.close()
        with suppress(ConnectionError):
            await writer.wait_closed()

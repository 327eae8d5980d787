"""What may be shown once only is used up in the commit of the audit record, by one request of however many at once."""

from __future__ import annotations

import asyncio
import re
import uuid
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import httpx
import psycopg
import pytest
from bench.messages import Identity

import minting
from bench import dataset, messages
from minting import AUDIENCE, ISSUER, WSSE, Assertion
from obieg.actors.authentication import TrustedAuthentication
from obieg.domain.audit import AuditEvent, AuditObject, Outcome
from obieg.domain.problems import Problem
from obieg.domain.requester import Requester, Spent
from obieg.domain.trust import SamlIssuer, Trust
from obieg.ops import settings as node_settings
from obieg.ops import wiring
from obieg.ops.settings import Settings
from obieg.protocol import Credentials
from obieg.storage.audit_store import AuditStore
from obieg.storage.link import Database
from trusting import ANYONE, CLIENT, STS

UNTIL = datetime.now(UTC) + timedelta(minutes=10)
ONCE = Spent("message", ISSUER, "urn:uuid:1", UNTIL)


def event(request_id: str, *spent: Spent, patients: tuple[str, ...] = ()) -> AuditEvent:
    objects = tuple(AuditObject("patient", f"{p}^^^&1.2.3&ISO") for p in patients)
    return AuditEvent("ITI-18", "query", Outcome.SUCCESS, request_id=request_id, objects=objects, spent=spent)


@pytest.fixture
async def audit(database_dsn: str) -> AsyncIterator[AuditStore]:
    database = Database(database_dsn)
    await database.open()
    yield AuditStore(database, source_id="test", names={}, now=lambda: datetime.now(UTC))
    database.close()


async def requests_of(audit: AuditStore) -> list[str]:
    async with await psycopg.AsyncConnection.connect(audit._database._dsn) as connection:
        rows = await (await connection.execute("SELECT request_id FROM audit_event ORDER BY audit_id")).fetchall()
    return [row[0] for row in rows]


async def test_one_request_may_have_several_records_and_another_none(audit: AuditStore) -> None:
    await audit.record(event("a", ONCE))
    await audit.record(event("a", ONCE, patients=("1", "2")))
    with pytest.raises(Problem, match="Replayed"):
        await audit.record(event("b", ONCE, patients=("1", "2")))
    with pytest.raises(Problem, match="Replayed"):
        await audit.record(event("b", Spent("message", ISSUER, "urn:uuid:2", UNTIL), ONCE))
    # The refused one used up nothing; what differs in any part is something else.
    await audit.record(event("c", Spent("message", ISSUER, "urn:uuid:2", UNTIL)))
    await audit.record(event("d", Spent("assertion", ISSUER, "urn:uuid:1", UNTIL)))
    await audit.record(event("e", Spent("message", f"{ISSUER}x", "urn:uuid:1", UNTIL)))
    assert await requests_of(audit) == ["a", "a", "c", "d", "e"]


async def test_of_eight_at_once_one_is_first(audit: AuditStore) -> None:
    others = [Spent("assertion", ISSUER, str(n), UNTIL) for n in range(3)]
    for number in range(20):
        once = Spent("message", ISSUER, f"urn:race:{number}", UNTIL)
        given = [tuple(others) if number == 0 else (), (once,)]
        events = [event(f"{number}-{n}", *(*given[0], once) if n % 2 else (once, *given[0])) for n in range(8)]
        results = await asyncio.gather(*(audit.record(e) for e in events), return_exceptions=True)
        refused = [r for r in results if isinstance(r, Problem)]
        assert len(refused) == 7, results
        assert {p.findings[0].code for p in refused} == {"Replayed"}
    assert len(await requests_of(audit)) == 20


async def test_what_has_ended_is_forgotten(audit: AuditStore) -> None:
    ended = Spent("message", ISSUER, "old", datetime.now(UTC) - timedelta(hours=2))
    await audit.record(event("a", ended, ONCE))
    assert await audit.forget_spent() == 1
    assert await audit.forget_spent() == 0
    await audit.record(event("b", ended))
    with pytest.raises(Problem):
        await audit.record(event("b", ONCE))


# over SOAP -------------------------------------------------------------------------------------------------------------


class Secured:
    """The door of a node behind mutual TLS."""

    def __init__(self) -> None:
        trust = Trust((SamlIssuer(ISSUER, (STS.der,), (AUDIENCE,)),), version="1")
        self._inner = TrustedAuthentication(trust, clock=lambda: datetime.now(UTC), strangers=ANYONE)

    async def authenticate(self, credentials: Credentials) -> Requester:
        return await self._inner.authenticate(replace(credentials, certificate=CLIENT.der))


class Node:
    """A node in this process."""

    def __init__(self, client: httpx.AsyncClient, settings: Settings) -> None:
        self.client = client
        self.dsn = settings.database.dsn
        self.identity = Identity(settings.identity.assigning_authority, settings.identity.repository_unique_id)

    def message(
        self,
        message: messages.Message,
        number: int,
        assertion: bytes | None = None,
        *,
        message_id: str = "",
        **filled: int,
    ) -> tuple[str, bytes, str]:
        """A message of the benchmarks with an assertion in its header."""
        path, body = message.filled(filled.get("patient", dataset.FIRST_WITHOUT), 10**17 + number)
        proof = assertion or Assertion(now=datetime.now(UTC)).signed(STS)
        body = body.replace(
            b"</s:Header>",
            b'<wsse:Security xmlns:wsse="%b" s:mustUnderstand="1">%b</wsse:Security></s:Header>'
            % (WSSE.encode(), proof),
        )
        identifier = (message_id or f"urn:uuid:{uuid.uuid4()}").encode()
        body = re.sub(rb"(<wsa:MessageID>)[^<]*", rb"\1" + identifier, body)
        return path, body, message.content_type

    async def post(self, message: tuple[str, bytes, str]) -> str:
        path, body, content_type = message
        answer = await self.client.post(path, content=body, headers={"content-type": content_type})
        assert answer.status_code == 200, answer.text
        return "success" if "ResponseStatusType:Success" in answer.text else answer.text

    def audited(self) -> list[tuple[str, int, bool]]:
        """Transaction, outcome, and whether the record says that something was shown again."""
        with psycopg.connect(self.dsn) as connection:
            rows = connection.execute(
                "SELECT transaction, outcome, message FROM audit_event ORDER BY audit_id"
            ).fetchall()
        return [(transaction, outcome, "Replayed" in message) for transaction, outcome, message in rows]

    def count(self, table: str) -> int:
        with psycopg.connect(self.dsn) as connection:
            found = connection.execute(f"SELECT count(*) FROM {table}").fetchone()
        assert found is not None
        return int(found[0])


@pytest.fixture
async def node(database_dsn: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Node]:
    monkeypatch.setattr(wiring, "LaboratoryAuthentication", Secured)
    monkeypatch.setattr(dataset, "PATIENTS_WITHOUT", 5)
    path = tmp_path / "obieg.toml"
    identity = {
        "home_community_id": node_settings.new_oid(), "repository_unique_id": node_settings.new_oid(),
        "assigning_authority": node_settings.new_oid(),
    }  # fmt: skip
    path.write_text(
        node_settings.write_commented(
            "region", lab=True, name="lab", data_dir=".", identity=identity, database={"dsn": database_dsn}
        )
    )
    settings = node_settings.load(path)
    dataset.load_patients(database_dsn, Identity(identity["assigning_authority"], ""), 0)
    built = wiring.build(settings)
    await built.open()
    transport = httpx.ASGITransport(app=built.asgi, client=("127.0.0.1", 1))
    async with httpx.AsyncClient(transport=transport, base_url="http://localhost") as client:
        yield Node(client, settings)
    await built.close()


async def test_the_same_message_on_eight_connections_is_accepted_once(node: Node) -> None:
    message = node.message(messages.register(node.identity), 1)
    answers = await asyncio.gather(*(node.post(message) for _ in range(8)))
    assert answers.count("success") == 1
    assert all("Replayed" not in a and "shown before" in a for a in answers if a != "success")
    assert sorted(node.audited()) == [("ITI-42", 0, False), *[("ITI-42", 8, True)] * 7]
    assert (node.count("document_entry"), node.count("spent_token")) == (1, 1)


async def test_an_assertion_may_be_used_again_and_one_for_one_use_may_not(node: Node) -> None:
    often = Assertion(now=datetime.now(UTC)).signed(STS)
    for number in (1, 2):
        assert await node.post(node.message(messages.register(node.identity), number, often)) == "success"
    once = Assertion(now=datetime.now(UTC), conditions=Assertion().conditions + "<saml:OneTimeUse/>").signed(STS)
    question = messages.find_documents(node.identity, "LeafClass")
    answers = await asyncio.gather(*(node.post(node.message(question, 1, once)) for _ in range(8)))
    assert answers.count("success") == 1
    assert node.count("spent_token") == 4  # the messages of three, and the assertion
    refusal = next(a for a in answers if a != "success")
    assert "rim:ExtrinsicObject" not in refusal


async def test_a_refused_message_is_used_up_as_well(node: Node) -> None:
    stranger = 9_999_999
    message = node.message(messages.register(node.identity), 1, patient=stranger)
    for _ in range(2):
        assert "XDSUnknownPatientId" in await node.post(message)
    assert node.audited() == [("ITI-42", 4, False), ("ITI-42", 4, True)]
    assert node.count("spent_token") == 1
    # As part of another message it is as good as ever.
    assert await node.post(node.message(messages.register(node.identity), 1)) == "success"


async def test_a_document_is_given_out_once_for_one_message(node: Node) -> None:
    assert await node.post(node.message(messages.provide(node.identity), 7)) == "success"
    message = node.message(messages.retrieve(node.identity), 7)
    answers = await asyncio.gather(*(node.post(message) for _ in range(8)))
    assert answers.count("success") == 1
    assert not any("ClinicalDocument" in a for a in answers if a != "success")
    assert [row for row in node.audited() if row[0] == "ITI-43"].count(("ITI-43", 0, False)) == 1


async def test_whoever_proves_nothing_is_audited_with_the_reason(node: Node) -> None:
    other = minting.identity("attacker")
    message = node.message(messages.register(node.identity), 1, Assertion(now=datetime.now(UTC)).signed(other))
    answer = await node.post(message)
    assert "has not proved who it is" in answer
    assert "issuer" not in answer
    with psycopg.connect(node.dsn) as connection:
        ((text,),) = connection.execute("SELECT message FROM audit_event").fetchall()
    assert "AuthenticationFailed; the certificate in the signature is none of the issuer" in text
    assert node.count("spent_token") == node.count("document_entry") == 0

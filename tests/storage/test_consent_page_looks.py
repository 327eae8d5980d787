"""Who names a patient to an app looks somebody up: whether they may is asked, and each look is counted."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import NamedTuple
from uuid import uuid4

import psycopg
import pytest

from obieg.actors.access_control import AccessControl
from obieg.actors.authorization_server import AuthorizationServer
from obieg.domain.access import Facts
from obieg.domain.authorization import AuthorizationRequest, Consent, OAuthRefused
from obieg.domain.permits import MeantDocument, Named, Person
from obieg.domain.requester import Requester
from obieg.domain.trust import OAuthClient
from obieg.ops.watching import LOOK_UPS
from obieg.storage.audit_store import AuditStore
from obieg.storage.authorization_store import PostgresAuthorization
from obieg.storage.keys import KeyFile, create_key_file
from obieg.storage.link import Database
from obieg.storage.watch_store import WatchStore

AUTHORITY = "2.999.1"
BACK = "https://app.example/back"
ANNA = "44051401359"
DOCTOR = Requester(
    system="", person="1.2#7", role="medical-doctor", organisation="1.2#1", purpose_of_use="TREAT", proof="session",
    token="s", person_name="Jan Lis",
)  # fmt: skip
OFFICER = Requester(system="", person="1.2#8", role="privacy-officer", proof="session", token="s")
CHILD = Requester(
    system="", person="1.2#9", role="patient", purpose_of_use="PATRQT", proof="session", token="s", patient="1.2#9"
)


class World(NamedTuple):
    server: AuthorizationServer
    database: Database
    dsn: str

    async def tried(self, person: Requester, *named: str) -> list[bool]:
        """Whether each of those whom somebody names at the page is taken."""
        request = AuthorizationRequest(
            client_id="app", redirect_uri=BACK, scopes=("launch/patient", "patient/*.rs"), challenge="x" * 43
        )
        taken = []
        for one in named:
            asked = await self.server.ask(request, person)
            assert asked.asks_patient
            answer = await self.server.allow(asked.identifier, person, patient=one)
            assert isinstance(answer, str) or answer.unknown_patient
            taken.append(not isinstance(answer, Consent))
        return taken

    async def counted(self, person: Requester) -> dict[str, int]:
        now = datetime.now(UTC)
        found = await WatchStore(self.database).counted(now - timedelta(hours=1), now + timedelta(minutes=1), LOOK_UPS)
        return next((dict(each.counts) for each in found if each.person == person.person), {})


class Everybody:
    """The facts of the one patient."""

    async def of(self, named: Named) -> list[Person]:
        known = [p for p in named.patients if p.value in ("anna", ANNA)]
        return [Person((1,), frozenset({"anna"}), Facts((f"{AUTHORITY}#anna",)))] if known else []

    async def documents(self, _keys: object, _named: object) -> list[MeantDocument]:
        return []


async def find(text: str) -> str:
    return "anna" if text in ("anna", ANNA) else "child" if text == "1.2#9" else ""


@pytest.fixture
async def world(database_dsn: str, tmp_path: Path) -> AsyncIterator[World]:
    create_key_file(tmp_path / "master.key")
    database = Database(database_dsn, links=1)
    await database.open()
    audit = AuditStore(database, source_id="test", names={}, now=lambda: datetime.now(UTC))
    client = OAuthClient(
        "app",
        {"keys": []},
        ("launch/patient", "patient/*.rs"),
        redirect_uris=(BACK,),
        launch_uri="https://app.example/launch",
    )
    server = AuthorizationServer(
        PostgresAuthorization(database, audit, KeyFile(tmp_path / "master.key")),
        [client],
        base="https://node.example",
        fhir_base="https://node.example/fhir",
        assigning_authority=AUTHORITY,
        home_community_id="urn:oid:2.999.2",
        access=AccessControl(Everybody()),
        find_patient=find,
        find_practitioner=find,
        clock=lambda: datetime.now(UTC),
        new_uuid=lambda: str(uuid4()),
        sessions=None,  # type: ignore[arg-type] - nobody comes back here
    )
    yield World(server, database, database_dsn)
    database.close()


async def test_who_may_look_somebody_up_is_told_and_counted(world: World) -> None:
    assert await world.tried(DOCTOR, "anna", ANNA, "nobody", "12345678901", "1.2#x", "y" * 4000) == [
        True, True, False, False, False, False,
    ]  # fmt: skip
    counts = await world.counted(DOCTOR)
    assert (counts["missing"], counts["patients"]) == (
        5,
        0,
    )  # of this index nobody is known


async def test_whom_they_may_not_know_is_unknown(world: World) -> None:
    assert await world.tried(OFFICER, ANNA, "22222222222") == [False, False]
    assert (await world.counted(OFFICER))["missing"] == 2
    [(refused, reason)] = await rows(world, "anna")
    assert (refused, reason) == (4, True)


async def rows(world: World, value: str) -> list[tuple[int, bool]]:
    """Of the newest record that names a patient: its outcome, and whether it says that the role may not."""
    with psycopg.connect(world.dsn) as connection:
        return connection.execute(
            "SELECT outcome, message LIKE '%%no access: role%%' FROM audit_event WHERE patient_id = %s"
            " ORDER BY audit_id DESC LIMIT 1",
            (f"{value}^^^&{AUTHORITY}&ISO",),
        ).fetchall()


async def test_an_app_is_launched_for_who_may_know_the_patient(world: World) -> None:
    assert "launch=" in await world.server.launch_address("app", ANNA, DOCTOR)
    assert "launch=" in await world.server.launch_address("app", "1.2#9", CHILD)
    for person, named in ((OFFICER, ANNA), (OFFICER, "nobody"), (DOCTOR, "nobody"), (CHILD, ANNA)):
        with pytest.raises(OAuthRefused) as caught:
            await world.server.launch_address("app", named, person)
        assert caught.value.error == "invalid_request"

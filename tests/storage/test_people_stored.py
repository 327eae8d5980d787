"""Log-in on a real database with a clock that the test sets: what ends when, and who comes first of two."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from uuid import uuid4

import psycopg
import pytest
from msgspec.structs import replace

from obieg.actors.people import CookieSessions, People, Site, Visit
from obieg.domain.accounts import LoginRefused, Place, Professional, totp_code
from obieg.domain.audit import AuditEvent, Outcome
from obieg.domain.authorization import Grant, Issued
from obieg.domain.problems import Problem
from obieg.domain.requester import Requester
from obieg.storage.audit_store import AuditStore
from obieg.storage.authorization_store import PostgresAuthorization
from obieg.storage.keys import KeyFile, create_key_file, rotate
from obieg.storage.link import Database
from obieg.storage.people_store import PostgresAccounts

HOSPITAL = Place("1.2.616.77#1", "Szpital", "medical-doctor")
CLINIC = Place("1.2.616.77#2", "Poradnia", "nurse")
PASSWORD = "żuraw skleja cztery mosty"
VISIT = Visit("192.0.2.7", "Firefox", "r-1")
IDLE, LIFETIME = timedelta(minutes=15), timedelta(hours=12)


class Clock:
    def __init__(self) -> None:
        self.now = datetime(2026, 11, 22, 8, 0, tzinfo=UTC)

    def __call__(self) -> datetime:
        return self.now

    def pass_(self, **time: float) -> None:
        self.now += timedelta(**time)


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def key_file(tmp_path: Path) -> Path:
    create_key_file(tmp_path / "master.key")
    return tmp_path / "master.key"


@pytest.fixture
async def people(database_dsn: str, clock: Clock, key_file: Path) -> AsyncIterator[People]:
    database = Database(database_dsn, links=3)
    await database.open()
    store = PostgresAccounts(database, AuditStore(database, source_id="test", names={}, now=clock))

    def new_uuid() -> str:
        text = os.urandom(16).hex()
        return f"{text[:8]}-{text[8:12]}-4{text[13:16]}-8{text[17:20]}-{text[20:]}"

    yield People(
        store, keys=KeyFile(key_file), clock=clock, new_uuid=new_uuid, idle=IDLE, lifetime=LIFETIME, issuer="test"
    )
    database.close()


async def enrolled(people: People, clock: Clock, *places: Place, login: str = "anna") -> bytes:
    """A person with a password; the secret of the codes."""
    one_time, _ = await people.add(login, "lek. Anna Nowak", "", places or (HOSPITAL,), "operator")
    step, token = await people.enter_password(login, one_time, VISIT)
    assert step == "enrol"
    secret = (await people.enrolment(token)).secret
    await people.enrol_password(token, PASSWORD, code(secret, clock), VISIT)
    clock.pass_(seconds=60)
    return secret


def code(secret: bytes, clock: Clock) -> str:
    return totp_code(secret, int(clock.now.timestamp()) // 30)


async def logged_in(people: People, clock: Clock, secret: bytes, login: str = "anna") -> str:
    step, token = await people.enter_password(login, PASSWORD, VISIT)
    assert step == "totp"
    return (await people.enter_code(token, code(secret, clock), VISIT)).token


async def refused(work: object) -> str:
    with pytest.raises(LoginRefused) as caught:
        await work  # type: ignore[misc]
    return caught.value.reason


async def test_sessions_end_when_nobody_uses_them_and_at_the_latest(people: People, clock: Clock) -> None:
    secret = await enrolled(people, clock)
    token = await logged_in(people, clock, secret)
    for _ in range(3):
        clock.pass_(minutes=14)
        assert await people.session(token) is not None
    clock.pass_(minutes=16)
    assert await people.session(token) is None
    clock.pass_(minutes=1)
    token = await logged_in(people, clock, secret)
    for _ in range(71):
        clock.pass_(minutes=10)
        assert await people.session(token) is not None
    clock.pass_(minutes=10)
    assert await people.session(token) is None
    assert await people.session("") is None
    assert await people.session("of nobody") is None


async def test_the_requester_says_who_and_where(people: People, clock: Clock) -> None:
    secret = await enrolled(people, clock, HOSPITAL, CLINIC)
    token = await logged_in(people, clock, secret)
    sessions = CookieSessions(people, "__Host-obieg")
    assert await sessions.current(f"x=1; __Host-obieg={token}") is None, "no place is chosen"
    current = await people.session(token)
    assert current is not None
    assert await refused(people.choose(current, (HOSPITAL.organisation, "nurse"), VISIT)) == "place"
    await people.choose(current, (CLINIC.organisation, "nurse"), VISIT)
    requester = await sessions.current(f"x=1; __Host-obieg={token}")
    assert requester is not None
    assert (requester.proof, requester.person, requester.person_name) == ("session", "anna", "lek. Anna Nowak")
    assert (requester.organisation, requester.role) == (CLINIC.organisation, "nurse")
    assert requester.token == current.session.session_id
    assert requester.until == current.session.started_at + LIFETIME
    assert requester.assurance
    assert requester.repositories == ()
    assert await sessions.current(f"obieg={token}") is None
    assert sessions.login_address("/auth/authorize?a=b&c=d") == "/login?next=%2Fauth%2Fauthorize%3Fa%3Db%26c%3Dd"
    assert await sessions.stands(requester)
    await people.grant("anna", CLINIC, "operator", remove=True)
    assert not await sessions.stands(requester)
    assert await sessions.current(f"__Host-obieg={token}") is None
    await people.grant("anna", CLINIC, "operator")
    assert await sessions.stands(requester)
    await people.disable("anna", "operator")
    assert not await sessions.stands(requester)
    assert await people.session(token) is None


async def test_an_invitation_is_good_for_a_day_and_once(people: People, clock: Clock) -> None:
    one_time, until = await people.add("jan", "Jan", "", [HOSPITAL], "operator")
    assert until == clock.now + timedelta(days=1)
    clock.pass_(hours=25)
    assert await refused(people.enter_password("jan", one_time, VISIT)) == "wrong"
    one_time, _ = await people.reset("jan", "operator")
    # Two browsers begin with it; who ends first is the person.
    _, first = await people.enter_password("jan", one_time.upper(), VISIT)
    _, second = await people.enter_password("jan", one_time.replace("-", " "), VISIT)
    secrets = [(await people.enrolment(token)).secret for token in (first, second)]
    assert secrets[0] != secrets[1]
    done = await asyncio.gather(
        *(
            people.enrol_password(token, PASSWORD, code(secret, clock), VISIT)
            for token, secret in zip((first, second), secrets, strict=True)
        ),
        return_exceptions=True,
    )
    assert sorted(type(each).__name__ for each in done) == ["LoginRefused", "Proved"]
    assert await refused(people.enter_password("jan", one_time, VISIT)) == "wrong"
    for token in (first, second):
        assert await refused(people.enrolment(token)) == "over"


async def test_an_attempt_ends(people: People, clock: Clock) -> None:
    secret = await enrolled(people, clock)
    _, token = await people.enter_password("anna", PASSWORD, VISIT)
    assert await refused(people.enrolment(token)) == "over", "the password alone changes nothing"
    clock.pass_(minutes=11)
    assert await refused(people.enter_code(token, code(secret, clock), VISIT)) == "over"


async def test_one_code_logs_in_once(people: People, clock: Clock) -> None:
    secret = await enrolled(people, clock)
    tokens = [(await people.enter_password("anna", PASSWORD, VISIT))[1] for _ in range(2)]
    done = await asyncio.gather(
        *(people.enter_code(token, code(secret, clock), VISIT) for token in tokens), return_exceptions=True
    )
    assert sorted(type(each).__name__ for each in done) == ["LoginRefused", "Proved"]


async def test_guesses_at_the_same_time_count_and_pauses_grow(people: People, clock: Clock) -> None:
    secret = await enrolled(people, clock)
    done = await asyncio.gather(
        *(people.enter_password("Anna ", f"guess {number}", VISIT) for number in range(20)), return_exceptions=True
    )
    reasons = [each.reason for each in done if isinstance(each, LoginRefused)]
    assert (reasons.count("wrong"), reasons.count("wait")) == (5, 15)
    assert await refused(people.enter_password("anna", PASSWORD, VISIT)) == "wait", "not even the right one is told"
    pauses = []
    for _ in range(8):
        waited = 0
        while True:
            clock.pass_(seconds=5)
            waited += 5
            if await refused(people.enter_password("anna", "guess", VISIT)) == "wrong":
                break
        pauses.append(waited)
    assert pauses == [5, 10, 20, 40, 80, 160, 300, 300]
    clock.pass_(seconds=300)
    await logged_in_after_code_pause(people, clock, secret)
    assert await refused(people.enter_password("anna", "guess", VISIT)) == "wrong", "success begins anew"


async def logged_in_after_code_pause(people: People, clock: Clock, secret: bytes) -> None:
    _, token = await people.enter_password("anna", PASSWORD, VISIT)
    clock.pass_(seconds=301)
    await people.enter_code(token, code(secret, clock), VISIT)


async def test_what_one_logs_in_by_is_changed_only_just_after_logging_in(people: People, clock: Clock) -> None:
    secret = await enrolled(people, clock)
    token = await logged_in(people, clock, secret)
    current = await people.session(token)
    assert current is not None
    enrolment = await people.enrol_again(current)
    fresh = (await people.enrolment(enrolment)).secret
    assert await refused(people.enrol_password(enrolment, "Anna2026Anna", code(fresh, clock), VISIT)) == "guessable"
    proved = await people.enrol_password(enrolment, "dwa słonie jedzą kaszę", code(fresh, clock), VISIT)
    assert await people.session(token) is None, "the session gives way to the new one"
    assert await refused(people.enter_password("anna", PASSWORD, VISIT)) == "wrong"
    clock.pass_(minutes=14)
    current = await people.session(proved.token)
    clock.pass_(minutes=2)
    assert current is not None
    assert await refused(people.enrol_again(current)) == "stale"
    assert await refused(people.remove_passkey(current, b"any", VISIT)) == "stale"


async def test_a_password_is_taken_as_it_was_typed(people: People, clock: Clock) -> None:
    await enrolled(people, clock)
    for other in (PASSWORD.upper(), PASSWORD[:-1], f"{PASSWORD} ", f" {PASSWORD}"):
        assert await refused(people.enter_password("anna", other, VISIT)) == "wrong"
    assert (await people.enter_password("anna", PASSWORD, VISIT))[0] == "totp"


async def test_a_passkey_is_removed_by_its_owner_alone(people: People, clock: Clock, database_dsn: str) -> None:
    mine = await people.session(await logged_in(people, clock, await enrolled(people, clock)))
    other = await enrolled(people, clock, login="jan")
    theirs = await people.session(await logged_in(people, clock, other, login="jan"))
    assert mine is not None
    assert theirs is not None
    with psycopg.connect(database_dsn) as connection:
        connection.execute(
            "INSERT INTO passkey (credential_id, person_id, public_key, sign_count, label, created_at)"
            " VALUES ('mine', %s, '', 0, 'laptop', now())",
            [mine.account.person_id],
        )

    def recorded() -> int:
        with psycopg.connect(database_dsn) as connection:
            row = connection.execute(
                "SELECT count(*) FROM audit_event WHERE message LIKE '%passkey removed%'"
            ).fetchone()
        return row[0] if row else 0

    await people.remove_passkey(theirs, b"mine", VISIT)
    assert [each.label for each in await people.passkeys(mine)] == ["laptop"]
    assert recorded() == 0
    await people.remove_passkey(mine, b"mine", VISIT)
    assert list(await people.passkeys(mine)) == []
    assert recorded() == 1


async def test_a_person_ends_own_sessions_only(people: People, clock: Clock) -> None:
    mine = await logged_in(people, clock, await enrolled(people, clock))
    theirs = await logged_in(people, clock, await enrolled(people, clock, login="jan"), login="jan")
    current, other = await people.session(mine), await people.session(theirs)
    assert current is not None
    assert other is not None
    await people.end(current, other.session.session_id, VISIT)
    assert await people.session(theirs) is not None
    assert [each.session_id for each in await people.sessions(current)] == [
        current.session.session_id,
        *[s.session_id for s in await people.sessions(current) if s.session_id != current.session.session_id],
    ]
    assert await people.end_others(current, VISIT) == 1, "the one of the enrolment"
    assert await people.session(mine) is not None
    assert await people.session(theirs) is not None
    await people.log_out(current, VISIT)
    assert await people.session(mine) is None


async def test_what_apps_were_let_do_ends_with_the_role(
    people: People, clock: Clock, database_dsn: str, key_file: Path
) -> None:
    await people.add("anna", "lek. Anna Nowak", "1.2#7", (HOSPITAL, CLINIC), "operator")
    whom = Professional(CLINIC.organisation, "1.2#8", "lek. Jan Lis")
    await people.add(
        "ewa", "Ewa Kot", "1.2#9", (Place(CLINIC.organisation, "Poradnia", "medical-assistant"),), "operator"
    )
    await people.assist("ewa", whom, "operator")
    database = Database(database_dsn, links=1)
    await database.open()
    store = PostgresAuthorization(
        database, AuditStore(database, source_id="test", names={}, now=clock), KeyFile(key_file)
    )
    doctor = Requester(
        system="", person="1.2#7", organisation=HOSPITAL.organisation, role=HOSPITAL.role, purpose_of_use="TREAT"
    )
    nurse = replace(doctor, organisation=CLINIC.organisation, role=CLINIC.role)
    own = Requester(system="", person="1.2#7", role="patient", purpose_of_use="PATRQT")
    another = replace(doctor, person="1.2#77")
    assistant = replace(nurse, person="1.2#9", role="medical-assistant", acting_for=whom.identifier)
    grants = {str(uuid4()): who for who in (doctor, nurse, own, another, assistant)}
    for id_, who in grants.items():
        await store.ask(id_, Grant("app", who, ("user/*.rs",)), "s", datetime.now(UTC) + timedelta(hours=1))
        event = AuditEvent("ITI-71", "user_authentication", Outcome.SUCCESS)
        code_until = datetime.now(UTC) + timedelta(minutes=1)
        granted = Grant("app", who, ("user/*.rs",), at=clock())
        await store.allow(id_, granted, Issued(os.urandom(32), "C", code_until), code_until, event)

    async def standing() -> list[Requester]:
        return [who for id_, who in grants.items() if (await store.standing("t", id_))[1] is not None]

    assert await standing() == [doctor, nurse, own, another, assistant]
    await people.grant("anna", HOSPITAL, "operator", remove=True)
    assert await standing() == [nurse, own, another, assistant]
    await people.assist("ewa", whom, "operator", remove=True)
    assert await standing() == [nurse, own, another]
    await people.disable("anna", "operator", disabled=True)
    assert await standing() == [own, another]
    database.close()


async def test_secrets_survive_a_new_master_key(people: People, clock: Clock, key_file: Path) -> None:
    secret = await enrolled(people, clock)
    rotate(key_file)
    people._keys = KeyFile(key_file)
    assert await logged_in(people, clock, secret)


async def test_what_is_over_is_forgotten(people: People, clock: Clock, database_dsn: str) -> None:
    secret = await enrolled(people, clock)
    await logged_in(people, clock, secret)
    await people.ask_passkey(Site("https://x.example", "x.example"))
    await refused(people.enter_password("nobody", "x", VISIT))
    clock.pass_(days=31)
    await people.forget()
    with psycopg.connect(database_dsn) as connection:
        for table in ("session", "login_attempt", "login_failure"):
            assert connection.execute(f"SELECT count(*) FROM {table}").fetchone() == (0,), table


async def test_a_password_does_not_grow_old(people: People, clock: Clock) -> None:
    secret = await enrolled(people, clock)
    clock.pass_(days=2000)
    assert await people.session(await logged_in(people, clock, secret)) is not None


async def test_a_new_node_knows_nobody(people: People) -> None:
    assert await people.accounts() == []
    assert await people.all_sessions() == []


async def test_an_operator_is_told_what_is_wrong(people: People) -> None:
    with pytest.raises(Problem) as caught:
        await people.add("Anna Nowak", " ", "x#y", [Place("szpital", " ", "wizard")], "operator")
    assert len(caught.value.findings) == 6
    for work in (people.reset("x", "o"), people.disable("x", "o"), people.grant("x", HOSPITAL, "o")):
        with pytest.raises(Problem, match="nobody here has the login x"):
            await work
    await people.add("anna", "Anna", "1.2.616.9#7", [HOSPITAL], "operator")
    with pytest.raises(Problem, match="already"):
        await people.add("other", "Anna", "1.2.616.9#7", [HOSPITAL], "operator")


async def test_each_event_has_one_record(people: People, clock: Clock, database_dsn: str) -> None:
    secret = await enrolled(people, clock)
    token = await logged_in(people, clock, secret)
    current = await people.session(token)
    assert current is not None
    await people.log_out(current, VISIT)
    await people.log_out(current, VISIT)
    await refused(people.enter_password("hasło wpisane jako login", "x", VISIT))
    with psycopg.connect(database_dsn) as connection:
        rows = connection.execute("SELECT transaction, outcome, message FROM audit_event ORDER BY audit_id").fetchall()
    assert [(transaction, outcome) for transaction, outcome, _ in rows] == [
        ("security_configuration", 0), ("login", 0), ("login", 0), ("logout", 0), ("login", 8),
    ]  # fmt: skip
    assert "wpisane" not in rows[-1][2]
    assert "192.0.2.7" in rows[1][2]

"""Those who can log in at the demo: accounts with a password and codes, which the demo keeps and shows to anybody.

The log-in itself is that of every node. What people otherwise have in their heads and telephones stands in a file of
the data folder, so that the desk (:mod:`obieg.ops.demo_desk`) can log in as they would.
"""

from __future__ import annotations

import asyncio
import contextlib
import secrets
from base64 import b32decode
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path

import msgspec

from obieg.actors.people import Current, People, Proved, Visit
from obieg.domain.accounts import LoginRefused, totp_code, totp_text
from obieg.domain.requester import Requester
from obieg.ops.commands_people import over_people
from obieg.ops.demo_facts import Worker
from obieg.ops.demo_settings import HOST
from obieg.ops.failure import Failure
from obieg.ops.settings import Settings
from obieg.ops.supervisor import write_atomically

BY = "demo"
STEP_S = 30  # of codes
_ALPHABET = "abcdefghjkmnpqrstuvwxyz23456789"  # nothing that looks like something else
_TRIES = 20
_DESK = Visit(HOST, "obieg demo")


class Secret(msgspec.Struct, frozen=True):
    """What somebody logs in by."""

    password: str
    totp: str  # the secret of the codes, as people type it into an authenticator

    def code(self, now: datetime, step: int = 0) -> str:
        """The code of now, or of some steps later."""
        padded = self.totp + "=" * (-len(self.totp) % 8)
        return totp_code(b32decode(padded), int(now.timestamp()) // STEP_S + step)


def kept(file: Path) -> dict[str, Secret]:
    """What those log in by who have an account, by login."""
    with contextlib.suppress(OSError, msgspec.MsgspecError):
        return msgspec.json.decode(file.read_bytes(), type=dict[str, Secret])
    return {}


def open_accounts(settings: Settings, file: Path, workers: Sequence[Worker]) -> dict[str, Secret]:
    """Makes the accounts that are missing; what all log in by. Not to be called on an event loop."""
    found = kept(file)
    new = [worker for worker in workers if worker.login not in found]
    if not new:
        return found

    async def work(people: People) -> None:
        there = {account.login for account in await people.accounts()}
        for worker in new:
            if worker.login in there:  # the file was lost
                one_time, _ = await people.reset(worker.login, BY)
            else:
                one_time, _ = await people.add(worker.login, worker.name, worker.identifier, [worker.place], BY)
                if worker.acts_for is not None:
                    await people.assist(worker.login, worker.acts_for, BY)
            found[worker.login] = await _enrolled(people, worker.login, one_time)

    over_people(settings, work)
    write_atomically(file, msgspec.json.encode(found).decode(), mode=0o600)
    return found


async def _enrolled(people: People, login: str, one_time: str) -> Secret:
    """Does what a new person does: the one-time password, then a password of one's own and codes."""
    _, token = await people.enter_password(login, one_time, _DESK)
    secret = totp_text((await people.enrolment(token)).secret)
    for _ in range(_TRIES):
        password = "-".join("".join(secrets.choice(_ALPHABET) for _ in range(4)) for _ in range(3))
        chosen = Secret(password, secret)
        try:
            await people.enrol_password(token, password, chosen.code(datetime.now(UTC)), _DESK)
        except LoginRefused as refused:
            if refused.reason != "guessable":
                raise
        else:
            return chosen
    raise AssertionError("no password at random is one that nobody guesses")


def log_in(settings: Settings, login: str, secret: Secret, visit: Visit) -> str:
    """The token of a new session, by password and code. Raises Failure. Not to be called on an event loop."""
    return _logged_in(settings, login, secret, visit)[0]


def who_is(settings: Settings, login: str, secret: Secret) -> Requester:
    """Somebody who has just logged in, as requests name them. Raises Failure. Not to be called on an event loop."""
    requester = _logged_in(settings, login, secret, _DESK)[1].requester
    assert requester is not None  # noqa: S101 - everybody here acts in one place
    return requester


def _logged_in(settings: Settings, login: str, secret: Secret, visit: Visit) -> tuple[str, Current]:
    async def enter(people: People) -> Proved:
        _, attempt = await people.enter_password(login, secret.password, visit)
        now = datetime.now(UTC)
        for step in (-1, 0, 1):  # each code is good for once
            with contextlib.suppress(LoginRefused):
                return await people.enter_code(attempt, secret.code(now, step), visit)
        await asyncio.sleep(STEP_S - now.timestamp() % STEP_S)
        return await people.enter_code(attempt, secret.code(datetime.now(UTC), 1), visit)

    async def work(people: People) -> tuple[str, Current]:
        proved = await enter(people)
        return proved.token, Current(proved.session, proved.account)

    try:
        return over_people(settings, work)
    except LoginRefused as refused:
        raise Failure(
            f"{login} cannot log in: {refused.reason}.",
            "Somebody may have chosen another password, or tried too often.",
            "Wait five minutes; obieg people reset makes a new one-time password.",
        ) from None


def valid_for(now: datetime) -> timedelta:
    """How long the code of now is shown."""
    return timedelta(seconds=STEP_S - now.timestamp() % STEP_S)

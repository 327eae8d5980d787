"""``obieg people …``: who may log in at this node, in which facilities and roles, and who is logged in."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from datetime import datetime
from pathlib import Path
from typing import Annotated, TypeVar

import typer
from rich.console import Console

from obieg.actors.patient_sessions import PatientSessions
from obieg.actors.people import People
from obieg.domain.accounts import ROLES, Place, Professional
from obieg.ops.accounts import os_user
from obieg.ops.asking import loaded
from obieg.ops.documents import explained
from obieg.ops.failure import Failure
from obieg.ops.index_access import told
from obieg.ops.logging_in import origin_of, people_of
from obieg.ops.options import AsJson, By, NodeFile, OptionalSettingsFile
from obieg.ops.postgres import reach
from obieg.ops.settings import Settings
from obieg.ops.showing import local, print_json
from obieg.ops.wiring import new_uuid
from obieg.ops.wiring_patients import utc_now
from obieg.storage.audit_store import AuditStore
from obieg.storage.link import Database
from obieg.storage.login_store import PostgresLogins

T = TypeVar("T")
_Login = Annotated[str, typer.Argument(metavar="LOGIN", help="As the person types it.")]
_OptionalLogin = Annotated[str, typer.Argument(metavar="[LOGIN]", help="Of this person only.")]
_Organisation = Annotated[str, typer.Option("--at", metavar="ROOT#EXTENSION", help="The facility's identifier.")]
_OrganisationName = Annotated[str, typer.Option("--facility", metavar="NAME", help="The facility's name, for people.")]
_Role = Annotated[str, typer.Option("--role", metavar="ROLE", help=f"One of: {', '.join(ROLES)}.")]


def register(app: typer.Typer) -> None:
    """Adds the commands."""
    people = typer.Typer(help="People who log in at this node.", no_args_is_help=True)
    people.command()(add)
    people.command("list")(list_)
    people.command()(role)
    people.command()(assist)
    people.command()(disable)
    people.command()(reset)
    people.command()(sessions)
    people.command()(revoke)
    app.add_typer(people, name="people")


def add(
    login: _Login,
    name: Annotated[str, typer.Option("--name", help="Name with title, as colleagues say it.")],
    organisation: _Organisation,
    organisation_name: _OrganisationName,
    role_code: _Role,
    identifier: Annotated[
        str, typer.Option("--id", metavar="ROOT#EXTENSION", help="The person's number, e.g. of the licence.")
    ] = "",
    node: NodeFile = None,
    settings: OptionalSettingsFile = None,
    by: By = "",
) -> None:
    """Make an account, and print the one-time password by which the person begins."""
    place = Place(organisation, organisation_name, role_code)
    done = _asked(node, settings, lambda people: people.add(login, name, identifier, [place], by or os_user()))
    _print_invitation(login, *done, origin_of(loaded(node, settings)))


def list_(node: NodeFile = None, settings: OptionalSettingsFile = None, *, as_json: AsJson = False) -> None:
    """Say who may log in, by what, and where they act."""
    accounts = _asked(node, settings, lambda people: people.accounts())
    if as_json:
        print_json(
            [
                {
                    "login": a.login,
                    "name": a.name,
                    "identifier": a.identifier,
                    "disabled": a.disabled,
                    "password": bool(a.password),
                    "passkeys": a.passkeys,
                    "invited_until": a.one_time_until,
                    "places": a.places,
                    "assists": a.assists,
                }
                for a in accounts
            ]
        )
        return
    console = Console(highlight=False, soft_wrap=True)
    for a in accounts:
        ways = [f"{a.passkeys} passkeys" if a.passkeys > 1 else "passkey"] if a.passkeys else []
        ways += ["password and code"] if a.password else []
        if a.one_time_until and not ways:
            ways = [f"invited until {local(a.one_time_until)}"]
        way = "disabled" if a.disabled else ", ".join(ways)
        console.print(f"{a.login}  {a.name} ({a.identifier}): {way}", markup=False)
        for place in a.places:
            console.print(f"    {place.role} at {place.organisation_name} ({place.organisation})", markup=False)
        for whom in a.assists:
            console.print(f"    for {whom.name} ({whom.identifier}) at {whom.organisation}", markup=False)
    if not accounts:
        console.print("Nobody may log in here. obieg people add makes an account.")


def role(
    login: _Login,
    organisation: _Organisation,
    role_code: _Role,
    organisation_name: _OrganisationName = "",
    node: NodeFile = None,
    settings: OptionalSettingsFile = None,
    by: By = "",
    *,
    remove: Annotated[bool, typer.Option("--remove", help="Take the role instead.")] = False,
) -> None:
    """Give a person another facility or role, or take one."""
    place = Place(organisation, organisation_name, role_code)
    _asked(node, settings, lambda people: people.grant(login, place, by or os_user(), remove=remove))
    typer.echo(f"{login}: {role_code} at {organisation} {'taken' if remove else 'given'}")


def assist(
    login: _Login,
    organisation: _Organisation,
    professional: Annotated[
        str, typer.Option("--for", metavar="ROOT#EXTENSION", help="The professional's number, e.g. of the licence.")
    ],
    name: Annotated[str, typer.Option("--name", help="The professional's name with title; only to begin with.")] = "",
    node: NodeFile = None,
    settings: OptionalSettingsFile = None,
    by: By = "",
    *,
    remove: Annotated[bool, typer.Option("--remove", help="No longer.")] = False,
) -> None:
    """Let an assistant act for a professional at a facility: read what that person may, with both in the log."""
    whom = Professional(organisation, professional, name)
    _asked(node, settings, lambda people: people.assist(login, whom, by or os_user(), remove=remove))
    typer.echo(f"{login}: {'no longer acts' if remove else 'may act'} for {professional} at {organisation}")


def disable(
    login: _Login,
    node: NodeFile = None,
    settings: OptionalSettingsFile = None,
    by: By = "",
    *,
    undo: Annotated[bool, typer.Option("--undo", help="Let the person in again.")] = False,
) -> None:
    """Shut a person out; all their sessions end."""
    _asked(node, settings, lambda people: people.disable(login, by or os_user(), disabled=not undo))
    typer.echo(f"{login}: {'enabled' if undo else 'disabled'}")


def reset(login: _Login, node: NodeFile = None, settings: OptionalSettingsFile = None, by: By = "") -> None:
    """Forget password, codes and passkeys of a person, end their sessions, print a new one-time password."""
    done = _asked(node, settings, lambda people: people.reset(login, by or os_user()))
    _print_invitation(login, *done, origin_of(loaded(node, settings)))


def sessions(login: _OptionalLogin = "", node: NodeFile = None, settings: OptionalSettingsFile = None) -> None:
    """Say who is logged in, people who work here and patients."""
    listed = _asked(node, settings, lambda people: people.all_sessions(login))
    console = Console(highlight=False, soft_wrap=True)
    for session, whose, _ in listed:
        place = f"{session.place.role} at {session.place.organisation_name}" if session.place else "no place chosen"
        times = f"since {local(session.started_at)}, last used {local(session.seen_at)}"
        console.print(f"{session.session_id}  {whose}  {place}", markup=False)
        console.print(f"    by {session.method} from {session.address}, {times}", markup=False)
    patients = [] if login else _patients(node, settings, lambda of_patients: of_patients.listed())
    for each in patients:
        times = f"since {local(each.started_at)}, last used {local(each.seen_at)}"
        console.print(f"{each.session_id}  {each.patient.pesel}  patient {each.patient.name}", markup=False)
        console.print(f"    by {each.method} from {each.address}, {times}", markup=False)
    if not listed and not patients:
        console.print("Nobody is logged in.")


def revoke(
    session: Annotated[str, typer.Argument(metavar="[SESSION]", help="As obieg people sessions prints it.")] = "",
    login: Annotated[str, typer.Option("--all-of", metavar="LOGIN", help="All sessions of this person.")] = "",
    node: NodeFile = None,
    settings: OptionalSettingsFile = None,
    by: By = "",
) -> None:
    """End a session of anybody, or all sessions of a person who works here."""
    if bool(session) == bool(login):
        raise typer.BadParameter("name a session, or a person with --all-of")
    ended = _asked(node, settings, lambda people: people.revoke(by or os_user(), session_id=session, login=login))
    if session and not ended:
        ended = int(_patients(node, settings, lambda of_patients: of_patients.revoke(session, by or os_user())))
    if session and not ended:
        raise Failure(
            f"There is no session {session}.",
            "It has ended, or there never was one; nobody is logged in by it.",
            "See obieg people sessions.",
        )
    typer.echo(f"{ended} ended")


def _asked(node: Path | None, settings: Path | None, question: Callable[[People], Awaitable[T]]) -> T:
    return over_people(loaded(node, settings), question)


def over_people(described: Settings, question: Callable[[People], Awaitable[T]]) -> T:
    """What the people of a node answer, over its database. Not to be called on an event loop."""
    return _over(
        described,
        lambda database, audit: question(people_of(described, database, audit, new_uuid=new_uuid, clock=utc_now)),
    )


def _patients(node: Path | None, settings: Path | None, question: Callable[[PatientSessions], Awaitable[T]]) -> T:
    return _over(
        loaded(node, settings),
        lambda database, audit: question(PatientSessions(PostgresLogins(database, audit), secure=True, now=utc_now)),
    )


def _over(described: Settings, question: Callable[[Database, AuditStore], Awaitable[T]]) -> T:
    async def ask(dsn: str) -> T:
        database = Database(dsn, links=1)
        audit = AuditStore(database, source_id=described.name, names={}, now=utc_now)
        await database.open()
        try:
            return await question(database, audit)
        finally:
            database.close()

    with reach(described.database.dsn, described.postgres_dir) as dsn, told(), explained():
        return asyncio.run(ask(dsn))


def _print_invitation(login: str, one_time: str, until: datetime, origin: str) -> None:
    """It stands nowhere else: only its hash is stored."""
    console = Console(highlight=False, soft_wrap=True)
    where = f" at {origin}/login" if origin and not origin.endswith(":0") else ""
    console.print(f"{login} logs in{where} once, until {local(until)}, with the password", markup=False)
    console.print(f"\n    {one_time}\n", markup=False)
    console.print("and then chooses a passkey, or a password with codes. Hand it over in person.", markup=False)

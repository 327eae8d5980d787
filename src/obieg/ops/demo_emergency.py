"""``obieg demo-emergency``: a doctor of the demo opens a break-glass session, as they would at the region's pages."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Annotated

import typer
from msgspec.structs import replace

from obieg.domain.identifiers import PatientId, patient_id
from obieg.domain.obligations import REASONS, EmergencyAsked, Session
from obieg.domain.problems import Problem
from obieg.domain.requester import Requester
from obieg.ops import describing, ready
from obieg.ops import settings as node_settings
from obieg.ops.commands_documents import asking
from obieg.ops.demo_people import kept, who_is
from obieg.ops.failure import Failure
from obieg.ops.options import NeededNodeFile
from obieg.ops.postgres import reach
from obieg.ops.settings import Settings
from obieg.ops.showing import local
from obieg.ops.wiring import inside, new_uuid
from obieg.ops.wiring_patients import utc_now
from obieg.protocol import Context
from obieg.transactions.obieg1_emergency_access import TRANSACTION

_PURPOSE = "BTG"  # HL7 v3 PurposeOfUse: break the glass


def register(app: typer.Typer) -> None:
    """Adds the command."""
    app.command("demo-emergency")(emergency)


def emergency(
    patient: Annotated[str, typer.Option(metavar="PESEL|CX", help="Whose documents are needed.")],
    login: Annotated[str, typer.Option("--as", metavar="LOGIN", help="Who opens it: a doctor of the demo.")],
    text: Annotated[str, typer.Option("--text", help="Why, in 10 to 2000 characters.")],
    node: NeededNodeFile,
    reason: Annotated[str, typer.Option("--reason", help=f"One of: {', '.join(REASONS)}.")] = "unconscious",
) -> None:
    """In a running demo: open everything of one patient in an emergency; the patient and the officer are told."""
    endpoints = ready.read(node)
    secret = kept(Path(endpoints.get("accounts", ""))).get(login)
    if secret is None:
        raise Failure(
            f"{node} says nothing of a person {login!r} who can log in.",
            "Nobody opened anything.",
            "Name the ready file of a running demo, and one of the logins that it prints.",
        )
    settings = node_settings.load(Path(endpoints["settings"]))
    asked = EmergencyAsked(_patient(patient, node), reason=reason, explanation=text)
    doctor = replace(who_is(settings, login, secret), purpose_of_use=_PURPOSE)
    try:
        session = asyncio.run(_open(settings, asked, doctor))
    except Problem as problem:
        raise Failure(
            f"The node does not open it: {'; '.join(f.detail or f.code for f in problem.findings)}.",
            "Nobody sees more than before.",
            "Only medical staff open one; say why with --reason and --text.",
        ) from None
    typer.echo(f"{login} sees all documents of this patient until {local(session.until)}.")
    typer.echo("The patient and the data-protection officer are told.")


async def _open(settings: Settings, asked: EmergencyAsked, doctor: Requester) -> Session:
    """As the region's pages do it: its own transaction, in the name of who is logged in."""
    with reach(settings.database.dsn, settings.postgres_dir) as dsn:
        database = settings.database.model_copy(update={"dsn": dsn})
        async with inside(settings.model_copy(update={"database": database})) as node:
            actor = node.actors.emergency_access
            assert actor is not None  # noqa: S101 - a region has one
            context = Context(TRANSACTION, doctor, new_uuid(), utc_now(), source_user=doctor.person)
            context.objects = TRANSACTION.audit(asked)
            return await actor.open(asked, context)


def _patient(named: str, node: Path) -> PatientId:
    async def find() -> str | None:
        async with asking(node) as exchange:
            return await exchange.affinity_domain_id(describing.person(named))

    found = asyncio.run(find())
    whose = patient_id(found) if found else None
    if whose is None:
        raise Failure(f"The region knows no patient {named}.", "Nobody opened anything.", "Check the number.")
    return whose

"""``obieg access log`` and ``obieg access withhold``: who saw what of a patient, and names that are not shown."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.text import Text

from obieg.domain.access import TOLD
from obieg.domain.access_log import PROVIDING, Access, Expected, expected
from obieg.domain.audit import AuditEvent, AuditObject, AuditQuestion, Outcome, StoredAudit
from obieg.domain.identifiers import PatientId, patient_id
from obieg.domain.obligations import NOTICE
from obieg.domain.reasons import is_reason, wanted
from obieg.mapping.access_log import entry, hidden
from obieg.ops.accounts import os_user
from obieg.ops.asking import ask, connected, loaded
from obieg.ops.audit_events import activity, record
from obieg.ops.failure import Failure
from obieg.ops.options import ROWS_MAX, AsJson, By, NodeFile, OptionalSettingsFile
from obieg.ops.ready import PESEL_DIGITS, PESEL_ROOT
from obieg.ops.settings import Settings
from obieg.ops.showing import local, print_json
from obieg.storage.audit_repository_store import looked_up, named
from obieg.storage.statements import load

_SQL = load("emergency.sql")
_Patient = Annotated[
    str,
    typer.Option(
        "--patient", help="PESEL, patient id of the affinity domain, or number^^^&OID&ISO of another authority."
    ),
]


def add(access: typer.Typer) -> None:
    """Adds the commands."""
    access.command()(log)
    access.command()(withhold)


def log(
    patient: _Patient,
    node: NodeFile = None,
    settings: OptionalSettingsFile = None,
    count: Annotated[int, typer.Option("-n", help="How many entries.", min=1, max=ROWS_MAX)] = 50,
    *,
    as_json: AsJson = False,
) -> None:
    """Print the access log of a patient as the patient sees it, newest first, and whether it can be whole.

    Of every repository that has documents of the patient it says how many submissions came
    from it, and how many records of their making its node sent here: fewer means that its
    records are missing. Whoever reads the log is in it.
    """
    described = loaded(node, settings)
    whose = _patient(described, patient)
    with connected(described, "access") as connection:

        def run(statement: Any, values: dict[str, Any]) -> list[tuple[Any, ...]]:
            return ask(connection, statement, **{k: [*v] if isinstance(v, tuple) else v for k, v in values.items()})

        known = run(*named((str(whose),), described.identity.assigning_authority))
        names = (str(whose), *(str(PatientId(*row)) for row in known))
        rows = run(*looked_up(AuditQuestion(patients=tuple(dict.fromkeys(names))), count))
        ids = {"authority": whose.authority, "value": whose.value}
        withheld = {row[0] for row in run(_SQL.withheld_names, ids)}
        counted = run(_SQL.log_sources, {**ids, "patients": tuple(names), "transactions": PROVIDING})
        found = [hidden(entry(StoredAudit(*row)), withheld) for row in rows]
        event = AuditEvent(
            transaction="OBIEG-2",
            event="audit_log_used",
            outcome=Outcome.SUCCESS,
            source_user=os_user(),
            destination_user=described.name,
            objects=(AuditObject("patient", str(whose)), AuditObject("audit_log", "urn:obieg:access-log")),
        )
        record(connection.info.dsn, described, event, name="Access Log of a Patient")
    entries = [one for one in found if one.transaction != NOTICE]
    sources = _sources(described, counted)
    if as_json:
        print_json({"entries": entries, "sources": [{**_fields(s), "complete": s.complete} for s in sources]})
        return
    console = Console(highlight=False, soft_wrap=True)
    for line in (*map(_line, entries), "", *map(_source_line, sources)):
        console.print(Text(line))


def _fields(source: Expected) -> dict[str, Any]:
    return {name: getattr(source, name) for name in source.__struct_fields__}


def _line(found: Access) -> str:
    who = "(name withheld)" if found.withheld else found.name or found.person or found.system or "unknown"
    number = f" ({found.person})" if found.name and found.person else ""
    place = found.organisation_name or found.organisation
    why = ", ".join(TOLD[b]["name"]["en"] if b in TOLD else b for b in found.bases) or found.purpose
    done = "" if found.outcome == "0" else "  REFUSED"
    parts = (local(found.at), f"{who}{number}", place, f"{found.transaction} {found.what}", why)
    return "  ".join(filter(None, parts)) + done


def _source_line(source: Expected) -> str:
    name = source.node or "no node of the settings"
    if source.own:
        return f"{source.repository}  this node: {source.submissions} submissions"
    said = "complete" if source.complete else "INCOMPLETE"
    return f"{source.repository}  {name}: {source.submissions} submissions, {source.records} records, {said}"


def _sources(settings: Settings, counted: Iterable[tuple[Any, ...]]) -> list[Expected]:
    submissions = {name: number for kind, name, number in (c for c in counted if c[0] == "expected")}
    records = {name: number for kind, name, number in (c for c in counted if c[0] == "received")}
    names = {
        n.repository_unique_id: [n.name, *filter(None, (n.address, n.certificate))]
        for n in settings.nodes
        if n.repository_unique_id
    }
    return expected(submissions, records, names, settings.identity.repository_unique_id)


def withhold(
    person: Annotated[str, typer.Argument(metavar="ROOT#EXTENSION", help="The professional's number.")],
    until: Annotated[datetime, typer.Option(help="When the name is shown again (UTC unless it says otherwise).")],
    reason: Annotated[str, typer.Option(help="Why: whose vital interests or rights, or whose care (EHDS art. 9(3)).")],
    patient: _Patient = "",
    node: NodeFile = None,
    settings: OptionalSettingsFile = None,
    by: By = "",
) -> None:
    """Do not show a professional's name in the log of a patient, or of all, until a moment; an officer's decision."""
    described = loaded(node, settings)
    end = until.replace(tzinfo=UTC) if until.tzinfo is None else until
    if end <= datetime.now(UTC):
        raise typer.BadParameter("it has passed", param_hint="--until")
    if not is_reason(reason):
        raise typer.BadParameter(wanted(), param_hint="--reason")
    whose = _patient(described, patient) if patient else None
    who = by or os_user()
    with connected(described, "access") as connection:
        rows = ask(
            connection,
            _SQL.withhold,
            person=person,
            authority=whose.authority if whose else "",
            value=whose.value if whose else "",
            reason=reason.strip(),
            by=who,
            until=end.isoformat(),
        )
        if not rows:
            raise Failure(
                f"No patient is known by {patient}.",
                "Nothing was decided.",
                "See obieg patients.",
            )
        said = f"name of {person} withheld until {end.isoformat(timespec='seconds')} by {who}"
        objects = [AuditObject("patient", str(whose))] if whose else []
        record(connection.info.dsn, described, activity("review", described, said, objects))
    typer.echo(f"{person}: not shown until {local(end)}")


def _patient(settings: Settings, text: str) -> PatientId:
    if text.isascii() and text.isdigit() and len(text) == PESEL_DIGITS:
        return PatientId(text, PESEL_ROOT)
    return patient_id(text) or PatientId(text, settings.identity.assigning_authority)

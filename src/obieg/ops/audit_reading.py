"""``obieg audit search`` and ``obieg audit export``: the log for people and for other programs, newest first."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from enum import StrEnum
from itertools import islice
from pathlib import Path
from typing import Annotated, Any, NamedTuple

import psycopg
import typer
from msgspec.structs import replace
from rich.console import Console
from rich.table import Table

from obieg.domain.audit import AuditEvent, AuditObject, AuditQuestion, Outcome, StoredAudit
from obieg.domain.identifiers import PatientId, patient_id
from obieg.mapping.audit import AuditUnreadable, write_message
from obieg.mapping.balp import Reading, message_of, patients_named, render
from obieg.ops import settings as node_settings
from obieg.ops.accounts import os_user
from obieg.ops.asking import settings_of
from obieg.ops.audit_events import audit_reading, record
from obieg.ops.failure import Failure
from obieg.ops.options import NodeFile, OptionalSettingsFile
from obieg.ops.postgres import reach
from obieg.ops.settings import Settings
from obieg.storage.audit_repository_store import looked_up, named
from obieg.storage.statements import Statement
from obieg.wire import fhir_json

ROWS_AT_ONCE = 1000
_OUTCOMES = {int(o.value): o.name.lower().replace("_", " ") for o in Outcome}

Patient = Annotated[
    str, typer.Option(help="Whose log: a patient id of the affinity domain, or number^^^&OID&ISO of another authority.")
]
Since = Annotated[datetime | None, typer.Option(help="From this moment on (UTC unless it says otherwise).")]
Until = Annotated[datetime | None, typer.Option(help="Before this moment.")]
Transactions = Annotated[list[str] | None, typer.Option("--transaction", help="ITI-43; may be given several times.")]
Outcomes = Annotated[
    list[str] | None, typer.Option("--outcome", help="success, refused, or 0, 4, 8, 12; may be given several times.")
]
User = Annotated[str, typer.Option(help="Part of the identifier or name of somebody who took part.")]
RequestId = Annotated[str, typer.Option("--request", help="The request id, as answers and the node's log name it.")]


class Written(StrEnum):
    """What an export is made of."""

    FHIR = "fhir"
    DICOM = "dicom"


class Wanted(NamedTuple):
    """What is looked for."""

    question: AuditQuestion
    user: str


class Log:
    """The log over one connection."""

    def __init__(self, connection: psycopg.Connection[Any], settings: Settings) -> None:
        self._connection = connection
        self.reading: Reading = audit_reading(settings)

    def _run(self, statement: Statement, values: dict[str, Any]) -> list[tuple[Any, ...]]:
        cursor = psycopg.RawCursor(self._connection)
        given = [[*v] if isinstance(v := values[name], tuple) else v for name in statement.parameters]
        cursor.execute(statement.sql.encode(), given)
        return cursor.fetchall()

    def rows(self, wanted: Wanted) -> Iterator[StoredAudit]:
        """All that fit, newest first."""
        question = wanted.question
        if question.patients is not None:
            found = self._run(*named(question.patients, self.reading.affinity_domain))
            names = dict.fromkeys((*question.patients, *(str(PatientId(*row)) for row in found)))
            question = replace(question, patients=tuple(names))
        while True:
            rows = [StoredAudit(*row) for row in self._run(*looked_up(question, ROWS_AT_ONCE))]
            yield from (row for row in rows if not wanted.user or _by(row, wanted.user))
            if len(rows) < ROWS_AT_ONCE:
                return
            question = replace(question, before=rows[-1].audit_id)


def _by(row: StoredAudit, user: str) -> bool:
    try:
        participants = message_of(row).participants
    except AuditUnreadable:
        return False
    said = (f"{p.user_id}\n{p.alternative_user_id}\n{p.user_name}" for p in participants)
    return any(user.casefold() in text.casefold() for text in said)


@contextmanager
def _opened(node: Path | None, settings: Path | None) -> Iterator[tuple[Log, Settings, str]]:
    described = node_settings.load(settings or settings_of(node))
    with (
        reach(described.database.dsn, described.postgres_dir) as dsn,
        psycopg.connect(dsn, autocommit=True, application_name="obieg audit") as connection,
    ):
        yield Log(connection, described), described, dsn


def _wanted(
    settings: Settings,
    patient: str,
    since: datetime | None,
    until: datetime | None,
    transactions: list[str] | None,
    outcomes: list[str] | None,
    user: str,
    request_id: str,
) -> Wanted:
    patients = None
    if patient:
        known = patient_id(patient) or PatientId(patient, settings.identity.assigning_authority)
        patients = (str(known),)
    return Wanted(
        AuditQuestion(
            since=_aware(since),
            until=_aware(until),
            patients=patients,
            transactions=tuple(transactions) if transactions else None,
            outcomes=_codes(outcomes),
            request_id=request_id,
        ),
        user,
    )


def _aware(moment: datetime | None) -> datetime | None:
    return moment.replace(tzinfo=UTC) if moment is not None and moment.tzinfo is None else moment


def _codes(outcomes: list[str] | None) -> tuple[int, ...] | None:
    if not outcomes:
        return None
    every = [int(o.value) for o in Outcome]
    words = {"success": [0], "refused": every[1:], **{str(code): [code] for code in every}}
    if unknown := [o for o in outcomes if o not in words]:
        raise typer.BadParameter(f"{unknown[0]} is none of {', '.join(words)}", param_hint="--outcome")
    return tuple(code for o in outcomes for code in words[o])


def _tell(dsn: str, settings: Settings, wanted: Wanted, what: str, patients: set[str]) -> None:
    """Whoever looks at the log is in it, and in the log of each patient whose records were shown."""
    question = wanted.question
    asked = json.dumps(
        {
            "what": what,
            "since": str(question.since or ""),
            "until": str(question.until or ""),
            "transactions": question.transactions,
            "outcomes": question.outcomes,
            "user": wanted.user,
            "request": question.request_id,
        }
    )
    event = AuditEvent(
        transaction="operator",
        event="audit_log_used",
        outcome=Outcome.SUCCESS,
        source_user=os_user(),
        destination_user=settings.name,
        objects=(
            *(AuditObject("patient", p) for p in sorted(patients)),
            AuditObject("audit_log", "urn:obieg:audit"),
            AuditObject("audit_query", what, query=asked.encode()),
        ),
    )
    record(dsn, settings, event, name=what)


def search(
    node: NodeFile = None,
    settings: OptionalSettingsFile = None,
    patient: Patient = "",
    since: Since = None,
    until: Until = None,
    transaction: Transactions = None,
    outcome: Outcomes = None,
    user: User = "",
    request_id: RequestId = "",
    count: Annotated[int, typer.Option("-n", help="At most so many records.", min=1)] = 100,
    *,
    as_json: Annotated[bool, typer.Option("--json", help="FHIR AuditEvents, one a line.")] = False,
) -> None:
    """Find audit records by patient, time, transaction, outcome, user or request, newest first."""
    with _opened(node, settings) as (log, described, dsn):
        wanted = _wanted(described, patient, since, until, transaction, outcome, user, request_id)
        rows = list(islice(log.rows(wanted), count))
        resources = [_shown(row, log.reading, wanted) for row in rows]
        _tell(dsn, described, wanted, "audit search", _patients(resources, log.reading))
        if as_json:
            for each in resources:
                for resource in each:
                    sys.stdout.buffer.write(fhir_json.write(resource) + b"\n")
            sys.stdout.flush()
        else:
            _print(rows)


def export(
    out: Annotated[Path, typer.Option("--out", help="The file to write; it must not be there yet.")],
    node: NodeFile = None,
    settings: OptionalSettingsFile = None,
    patient: Patient = "",
    since: Since = None,
    until: Until = None,
    transaction: Transactions = None,
    outcome: Outcomes = None,
    user: User = "",
    request_id: RequestId = "",
    written: Annotated[
        Written, typer.Option("--format", help="fhir: BALP AuditEvents (NDJSON). dicom: AuditMessages, one a line.")
    ] = Written.FHIR,
) -> None:
    """Write audit records to a file, newest first."""
    with _opened(node, settings) as (log, described, dsn):
        wanted = _wanted(described, patient, since, until, transaction, outcome, user, request_id)
        try:
            file = os.fdopen(os.open(out, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb")
        except OSError as error:
            raise Failure(
                f"{out} cannot be written: {error.strerror}.",
                "Nothing was exported; an export never overwrites a file.",
                "Give another --out.",
            ) from error
        patients: set[str] = set()
        lines = unreadable = 0
        with file:
            for row in log.rows(wanted):
                resources = _shown(row, log.reading, wanted)
                patients |= _patients([resources], log.reading)
                if written is Written.FHIR:
                    found = [fhir_json.write(resource) for resource in resources]
                else:
                    try:
                        found = [write_message(message_of(row)).replace("\n", " ").encode()]
                    except AuditUnreadable:
                        found, unreadable = [], unreadable + 1
                for line in found:
                    file.write(line + b"\n")
                    lines += 1
        _tell(dsn, described, wanted, "audit export", patients)
    typer.echo(f"{lines} records in {out}", err=True)
    if unreadable:
        typer.echo(f"{unreadable} records that others sent are no audit messages and were left out", err=True)


def _shown(row: StoredAudit, reading: Reading, wanted: Wanted) -> list[dict[str, Any]]:
    """The AuditEvents of a record: with a patient asked for, of this patient alone."""
    resources = render(row, reading)
    if wanted.question.patients is None or len(resources) == 1:
        return resources
    asked = set(wanted.question.patients)
    return [r for r in resources if asked & set(patients_named(r, reading.affinity_domain, ""))] or resources[:1]


def _patients(resources: list[list[dict[str, Any]]], reading: Reading) -> set[str]:
    found = {p for each in resources for r in each for p in patients_named(r, reading.affinity_domain, "")}
    return {p for p in found if p.endswith(f"^^^&{reading.affinity_domain}&ISO")}


def _print(rows: list[StoredAudit]) -> None:
    table = Table(box=None, header_style="bold", pad_edge=False)
    for heading in ("number", "time (UTC)", "transaction", "outcome", "user", "patient", "request"):
        table.add_column(heading, overflow="fold")
    for row in rows:
        table.add_row(*cells(row))
    Console().print(table)


def cells(row: StoredAudit) -> tuple[str, ...]:
    """A record for people: number, time in UTC, transaction, outcome, user, patient, request."""
    moment = (row.happened_at or row.recorded_at).astimezone(UTC)
    return (
        str(row.audit_id),
        f"{moment:%Y-%m-%d %H:%M:%S}",
        row.transaction,
        _OUTCOMES.get(row.outcome, str(row.outcome)),
        _user(row),
        row.patient_id,
        row.request_id,
    )


def _user(row: StoredAudit) -> str:
    """Who asked: a person where one is known, else the system."""
    try:
        participants = message_of(row).participants
    except AuditUnreadable:
        return row.sender
    asking = [p for p in participants if p.is_requestor] or list(participants)
    person = next((p for p in asking if not p.roles or not p.network_address), asking[0] if asking else None)
    return person.user_id if person is not None else row.sender

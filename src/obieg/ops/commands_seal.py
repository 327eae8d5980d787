"""``obieg audit verify`` and ``obieg audit prove``: whether the audit is as it was sealed."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any

import httpx
import msgspec
import psycopg
import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from obieg.domain import sealing_proof
from obieg.domain.problems import RetryLater
from obieg.domain.sealing import head_of, notes
from obieg.domain.sealing_check import Deviation, Examined, Kind, Outside
from obieg.edges.timestamping import TimestampInvalid, check_timestamp
from obieg.ops import settings as node_settings
from obieg.ops.asking import ask, settings_of
from obieg.ops.failure import Failure
from obieg.ops.options import NodeFile, OptionalSettingsFile
from obieg.ops.postgres import reach
from obieg.ops.sealing import NOTES_MAX, authority_certificates, fetch, origin, roots_file, seal_keys
from obieg.ops.settings import Settings
from obieg.ops.tls import calling
from obieg.storage.seal_keys import Verifier
from obieg.storage.seal_store import (
    SQL,
    connect,
    leaves_of_seal,
    position,
    records,
    run,
    seal_before,
    seal_of_record,
    transaction,
)
from obieg.storage.seal_verifier import Summary, Wanted
from obieg.storage.seal_verifier import verify as verify_seals
from obieg.storage.statements import load

_OPERATIONS = load("operations.sql")
_FETCH_TIMEOUT_S = 60.0
console = Console(stderr=True, highlight=False)

_Authority = Annotated[
    Path | None,
    typer.Option("--tsa-ca", metavar="FILE", help="Certificates of the time-stamping authority, if not the settings'."),
]


def add(audit: typer.Typer) -> None:
    """Adds the commands to ``obieg audit``."""
    audit.command()(verify)
    audit.command()(prove)


# verify --------------------------------------------------------------------------------------------------------------


def verify(
    node: NodeFile = None,
    settings: OptionalSettingsFile = None,
    first: Annotated[
        str, typer.Option("--from", metavar="WHEN|NUMBER", help="Only records sealed since this time or number.")
    ] = "",
    last: Annotated[
        str, typer.Option("--to", metavar="WHEN|NUMBER", help="Only records sealed until this time or number.")
    ] = "",
    roots: Annotated[
        list[str] | None,
        typer.Option(
            metavar="FILE|URL",
            help="Roots kept elsewhere: a copy of the roots file, or a witness (https://…/audit/roots). Repeatable.",
        ),
    ] = None,
    tsa_ca: _Authority = None,
    *,
    as_json: Annotated[bool, typer.Option("--json", help="Print the result as JSON.")] = False,
) -> None:
    """Read the sealed audit again and compare it with its seals; exit status 1 when anything was changed."""
    described = node_settings.load(settings or settings_of(node))
    keys = seal_keys(described)
    found: list[Deviation] = []
    outside = _outside(described, roots or [], found)
    with reach(described.database.dsn, described.postgres_dir) as dsn, _explained():
        with _progress() as bar:
            with connect(dsn) as connection:
                [(total, _)] = run(connection, SQL.seals_total)
            task = bar.add_task("Verifying", total=total if not (first or last) else None)
            summary = verify_seals(
                dsn,
                origin=origin(described),
                signed=keys.signed,
                outside=outside,
                wanted=_wanted(first, last),
                report=found.append,
                progress=lambda count: bar.advance(task, count),
            )
        stamped = _timestamps(described, dsn, tsa_ca, found)
        if not (first or last):
            _remember(dsn, summary, found)
    _show(summary, stamped, found, as_json=as_json)
    if found:
        raise typer.Exit(1)


def _remember(dsn: str, summary: Summary, found: Sequence[Deviation]) -> None:
    """So that operators see when it was verified last; who may only read verifies as well."""
    with suppress(psycopg.Error), psycopg.connect(dsn, autocommit=True, application_name="obieg audit") as connection:
        ask(connection, _OPERATIONS.insert_verification, records=summary.records, deviations=len(found))


@contextmanager
def _explained() -> Iterator[None]:
    try:
        yield
    except psycopg.OperationalError as error:
        raise Failure(
            f"The database does not answer: {str(error).strip()}",
            "The audit was not read.",
            "Check that PostgreSQL runs and that database.dsn in the settings is right.",
        ) from error


class _Stamped(dict[str, Any]):
    """What the time-stamps say: up to which seal, since when, whether they were checked."""


def _outside(described: Settings, given: Sequence[str], found: list[Deviation]) -> Outside:
    whose = origin(described)
    outside = Outside(whose)
    own = roots_file(described)
    sources = [*([str(own)] if own.exists() else []), *given]
    for source in sources:
        try:
            texts = _fetched(source, whose, described) if "://" in source else _in_file(Path(source))
        except (OSError, httpx.HTTPError, RetryLater) as error:
            raise Failure(
                f"The roots in {source} cannot be read: {error}.",
                "Nothing was verified.",
                "Name a file or an address that can be read, or leave it out.",
            ) from error
        for text in texts:
            if (wrong := outside.add(text, source)) is not None:
                found.append(wrong)
    return outside


def _in_file(path: Path) -> list[str]:
    with path.open(encoding="utf-8", errors="replace", newline="\n") as file:
        return list(notes(file))


def _fetched(address: str, whose: str, described: Settings) -> list[str]:
    tls = calling(described, described.sealing.ca_file)

    async def all_of() -> list[str]:
        texts: list[str] = []
        after = 0
        async with httpx.AsyncClient(timeout=_FETCH_TIMEOUT_S, verify=tls) as http:
            while page := await fetch(http, address, after=after, of=whose):
                texts += page
                after = head_of(page[-1]).sequence
                if len(page) < NOTES_MAX:
                    break
        return texts

    return asyncio.run(all_of())


def _wanted(first: str, last: str) -> Wanted:
    """Which seals' records are compared: each bound is a record's number, or a time of sealing."""
    since, until = _bound(first), _bound(last, end=True)

    def wanted(examined: Examined) -> bool:
        head, ranges = examined.head, examined.ranges
        if head is None or not ranges:
            return True
        sealed_at = datetime.fromisoformat(head.sealed_at)
        after = ranges[-1][1] > since if isinstance(since, int) else since is None or sealed_at >= since
        before = ranges[0][0] <= until if isinstance(until, int) else until is None or sealed_at <= until
        return after and before

    return wanted


def _bound(text: str, *, end: bool = False) -> int | datetime | None:
    if not text:
        return None
    if text.isdigit():
        return int(text)
    try:
        when = datetime.fromisoformat(text)
    except ValueError:
        raise typer.BadParameter(f"{text} is neither a number nor a time such as 2026-11-22T10:00") from None
    if end and len(text) == len("2026-11-22"):
        when = when.replace(hour=23, minute=59, second=59, microsecond=999_999)
    return when.astimezone()


def _timestamps(described: Settings, dsn: str, given: Path | None, found: list[Deviation]) -> _Stamped:
    path = given or described.sealing.tsa_ca_file
    with connect(dsn) as connection:
        tokens = run(connection, SQL.timestamps)
        if path is None:
            return _Stamped(count=len(tokens), checked=False)
        certificates = authority_certificates(path)
        stamped = _Stamped(count=len(tokens), checked=True)
        for sequence, token in tokens:
            note = run(connection, SQL.note_of_seal, sequence=sequence)
            try:
                if not note:
                    raise TimestampInvalid("the seal is gone")
                when = check_timestamp(bytes(token), note[0][0].encode(), certificates)
            except TimestampInvalid as error:
                found.append(Deviation(kind=Kind.TIMESTAMP, seal=sequence, detail=f"its time-stamp fails: {error}"))
            else:
                stamped.update(seal=sequence, time=when.isoformat())
    return stamped


def _show(summary: Summary, stamped: _Stamped, found: list[Deviation], *, as_json: bool) -> None:
    if as_json:
        result = {
            "sound": not found,
            "records": summary.records,
            "seals": summary.seals,
            "not_sealed_yet": summary.waiting,
            "root": summary.newest,
            "timestamps": dict(stamped),
            "deviations": [
                {"kind": d.kind.value, "seal": d.seal, "record": d.record, "detail": d.detail} for d in found
            ],
        }
        typer.echo(json.dumps(result, ensure_ascii=False, indent=1))
        return
    for each in found:
        where = [f"seal {each.seal}"] if each.seal is not None else []
        where += [f"record {each.record}"] if each.record is not None else []
        typer.echo(f"{each.kind.value:13} {', '.join(where):28} {each.detail}")
    compared = f"{summary.records} records in {summary.seals} seals"
    if found:
        console.print(f"[bold red]The audit was changed[/]: {len(found)} deviations; {compared} were compared.")
    else:
        console.print(f"The audit is as it was sealed: {compared}.")
    console.print(f"{summary.waiting} records are not sealed yet.")
    if stamped["count"] and not stamped["checked"]:
        console.print("The time-stamps were not checked: that needs --tsa-ca or sealing.tsa_ca_file.")
    elif "time" in stamped:
        console.print(f"Seals up to {stamped['seal']} existed at {stamped['time']}, as the time-stamps prove.")


# prove ---------------------------------------------------------------------------------------------------------------


def prove(
    number: Annotated[
        int | None, typer.Argument(metavar="[ID]", help="Number of the record, as obieg audit search prints it.")
    ] = None,
    node: NodeFile = None,
    settings: OptionalSettingsFile = None,
    check: Annotated[
        Path | None,
        typer.Option("--check", metavar="FILE", help="Check a proof that was printed before; needs no node."),
    ] = None,
    key: Annotated[
        str,
        typer.Option(metavar="KEY", help="With --check: the key that must have signed, as the node's operator says."),
    ] = "",
    tsa_ca: _Authority = None,
) -> None:
    """Print the proof that a record is in the sealed audit, or check one."""
    if (number is None) == (check is None):
        raise typer.BadParameter("give either the number of a record or --check FILE")
    if check is not None:
        _check(check, key, tsa_ca)
        return
    assert number is not None  # noqa: S101 - see above
    described = node_settings.load(settings or settings_of(node))
    keys = seal_keys(described)
    with reach(described.database.dsn, described.postgres_dir) as dsn, _explained():
        proof = _prove(dsn, number)
    signer = next((v.text for v in keys.verifiers if v.signed(proof.note)), None)
    if signer is None:
        raise Failure(
            f"The seal of record {number} is not signed by this node's key.",
            "Somebody changed it; no proof was made.",
            "Run obieg audit verify.",
        )
    typer.echo(sealing_proof.write_proof(msgspec.structs.replace(proof, key=signer)))


def _prove(dsn: str, number: int) -> sealing_proof.Proof:
    with connect(dsn) as connection, transaction(connection, SQL.begin_verifying):
        seal = seal_of_record(connection, number)
        found = list(records(connection, number, number + 1))
        if seal is None or not found:
            raise Failure(
                f"Record {number} is not sealed." if found else f"There is no record {number}.",
                "Only what is in the sealed audit can be proved.",
                "A new record is sealed within a minute; then try again." if found else "Give the number of a record.",
            )
        index = position(seal, number)
        assert index is not None  # noqa: S101 - the seal was looked up by the number
        proof = sealing_proof.prove(found[0].data, index, seal, seal_before(connection, seal.sequence))
        if stamped := run(connection, SQL.timestamp_after, sequence=seal.sequence):
            [(sequence, token, note)] = stamped
            between = b"".join(leaves_of_seal(connection, each) for each in range(seal.sequence + 1, int(sequence) + 1))
            proof = msgspec.structs.replace(proof, later=sealing_proof.later(seal, between, note, bytes(token)))
    return proof


def _check(path: Path, key: str, tsa_ca: Path | None) -> None:
    try:
        proof = sealing_proof.read_proof(path.read_bytes())
        verifier = Verifier.of(key or proof.key)
        proved = sealing_proof.check(proof, verifier.signed)
        when = None
        if proof.later and tsa_ca:
            roots = authority_certificates(tsa_ca)
            when = check_timestamp(sealing_proof.timestamp(proof), proof.later.note.encode(), roots)
    except (OSError, ValueError) as error:
        typer.echo(f"not proved: {error}")
        raise typer.Exit(1) from None
    typer.echo(json.dumps(proved.record, ensure_ascii=False, indent=1))
    console.print(
        f"Record {proof.audit_id} is leaf {proof.leaf_index} of the {proved.head.tree_size} that {proved.head.origin} "
        f"sealed at {proved.head.sealed_at}."
    )
    if when is not None:
        console.print(f"It existed at {when.astimezone(UTC).isoformat()}, as a time-stamping authority says.")
    if not key:
        console.print(f"It is signed by the key that the proof itself names: {proof.key}")
        console.print(
            "Whoever made the proof chose that key. Ask the node's operator for theirs and give it with --key."
        )


def _progress() -> Progress:
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        console=console,
        transient=True,
    )

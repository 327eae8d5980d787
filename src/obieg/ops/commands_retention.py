"""``obieg retention …``: which documents may go, why others must stay, erasing, and what backups still hold."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Iterator, Mapping
from datetime import date, datetime
from pathlib import Path
from typing import Annotated, Any

import msgspec
import typer
from rich.console import Console
from rich.table import Table

from obieg.actors.patient_curation import OPERATOR
from obieg.domain.audit import AuditEvent, AuditObject, Outcome
from obieg.domain.identifiers import PatientId
from obieg.domain.problems import Problem
from obieg.domain.reasons import is_reason, wanted
from obieg.domain.retention import CLASSES, MARKS, Mark, can_be, local_day
from obieg.ops.accounts import os_user
from obieg.ops.erasing import Erased, Eraser, Judged, judged
from obieg.ops.failure import Failure
from obieg.ops.index_access import Access, asked
from obieg.ops.options import AsJson, NodeFile, OptionalSettingsFile
from obieg.ops.person_archive import hand_over
from obieg.ops.showing import local, print_json
from obieg.ops.wiring_patients import utc_now
from obieg.storage.retention_store import SQL, PostgresRetention

_KIND = "obieg retention preview 1"
_PAGE = 1000
_NO_ORDER = "is no order: neither its class nor its type is one of a referral or order"
_CANNOT_BE = {
    Mark.SERVED: _NO_ORDER,
    Mark.UNSERVED: _NO_ORDER,
    Mark.IMAGE: "is no image: its media type is none of an image",
}
_Facility = Annotated[str, typer.Option(metavar="ROOT#NUMBER", help="Only documents of this entity, or 'unknown'.")]
_Class = Annotated[str, typer.Option("--class", metavar="CLASS", help=f"Only of this class: {', '.join(CLASSES)}.")]


def register(app: typer.Typer) -> None:
    """Adds the commands."""
    retention = typer.Typer(help="For how long documents are kept, and erasing them afterwards.", no_args_is_help=True)
    for command in (preview, erase, mark, unmark, marks, erased, backups):
        retention.command()(command)
    app.add_typer(retention, name="retention")


# preview and erase ---------------------------------------------------------------------------------------------------


class Line(msgspec.Struct, frozen=True):
    """A document that may go, in the file of a preview."""

    patient: str
    unique_id: str
    entry_uuid: str
    facilities: tuple[str, ...]
    class_: str
    until: date | None
    why: str
    title: str = ""


def preview(
    node: NodeFile = None,
    settings: OptionalSettingsFile = None,
    facility: _Facility = "",
    class_: _Class = "",
    out: Annotated[Path | None, typer.Option(metavar="FILE", help="Write the list that erase takes.")] = None,
    handing: Annotated[
        Path | None,
        typer.Option("--hand-over", metavar="FOLDER", help="Write for each patient a ZIP of what would go."),
    ] = None,
    *,
    as_json: AsJson = False,
) -> None:
    """Show what may be erased, by facility and class, and how much must be kept; nothing is changed.

    Documents that are to be destroyed may be handed over to the patient (art. 29 ust. 2): --hand-over
    writes a file for each.
    """
    if class_ and class_ not in CLASSES:
        raise typer.BadParameter(f"is one of {', '.join(CLASSES)}", param_hint="--class")
    for path in (out, handing):
        if path is not None and path.exists():
            raise Failure(f"{path} exists.", "Nothing was written.", "Choose another name.")
    if handing is not None:
        handing.mkdir(parents=True, mode=0o700)
    counts: Counter[tuple[str, str, str]] = Counter()

    async def look(access: Access) -> int:
        file = out.open("xb") if out else None
        number = 0
        try:
            if file:
                file.write(
                    msgspec.json.encode({"kind": _KIND, "made_at": utc_now(), "node": access.settings.name}) + b"\n"
                )
            of_one: list[Judged] = []
            async for one in judged(access, local_day(utc_now())):
                if (facility and facility not in one.facilities) or (class_ and class_ != one.term.class_):
                    continue
                state = "may go" if one.may_go else "held" if one.term.holds else "kept"
                counts[", ".join(one.facilities), one.term.class_, state] += 1
                if not one.may_go:
                    continue
                number += 1
                if file:
                    file.write(msgspec.json.encode(_line(one)) + b"\n")
                if handing:
                    if of_one and of_one[0].patient != one.patient:
                        await hand_over(access, handing, of_one)
                        of_one = []
                    of_one.append(one)
            if handing and of_one:
                await hand_over(access, handing, of_one)
        finally:
            if file:
                file.close()
        return number

    number = asked(node, settings, look)
    if as_json:
        print_json([{"facility": f, "class": c, "state": s, "documents": n} for (f, c, s), n in sorted(counts.items())])
        return
    table = Table("Facility", "Class", "May go", "Held", "Kept", box=None, pad_edge=False)
    for key in sorted({(f, c) for f, c, _ in counts}):
        table.add_row(*key, *(str(counts[*key, state]) for state in ("may go", "held", "kept")))
    console = Console(highlight=False)
    console.print(table)
    then = f" obieg retention erase {out} erases them." if out and number else ""
    console.print(f"{number} documents may go.{then}", soft_wrap=True)


def _line(one: Judged) -> Line:
    d, t = one.document, one.term
    return Line(one.patient, d.unique_id, d.entry_uuid, one.facilities, t.class_, t.until, t.why, d.title)


def _read(path: Path) -> Iterator[Line]:
    with path.open("rb") as file:
        try:
            head = msgspec.json.decode(file.readline())
            if not isinstance(head, dict) or head.get("kind") != _KIND:
                raise msgspec.DecodeError("it does not begin as one")
            for line in file:
                yield msgspec.json.decode(line, type=Line)
        except msgspec.DecodeError as error:
            raise Failure(
                f"{path} is no preview: {error}.",
                "What stood before that line was erased; nothing else.",
                "Give a file that obieg retention preview --out has written.",
            ) from None


def erase(
    file: Annotated[
        Path, typer.Argument(metavar="FILE", exists=True, help="What obieg retention preview --out wrote.")
    ],
    node: NodeFile = None,
    settings: OptionalSettingsFile = None,
    *,
    as_json: AsJson = False,
) -> None:
    """Erase what a preview lists, as far as it may still go.

    It goes by the removals of ITI-86 and ITI-62, which are audited. A document whose key a backup still
    holds is erased, but that cannot be proven yet: obieg retention erased tells.
    """

    async def run(access: Access) -> list[Erased]:
        eraser = Eraser(access)
        found: list[Erased] = []
        for patient, lines in itertools.groupby(_read(file), lambda line: line.patient):
            named = {line.entry_uuid: line.unique_id for line in lines}
            try:
                found += await eraser.erase(patient, named)
            except Problem as problem:  # the next person's documents go none the less
                why = "; ".join(f.detail for f in problem.findings)
                found += [Erased(unique_id, patient, done=False, why=why) for unique_id in named.values()]
        return found

    found = asked(node, settings, run)
    if as_json:
        print_json([each._asdict() for each in found])
        return
    console = Console(highlight=False)
    for each in found:
        if not each.done:
            console.print(f"{each.unique_id} stays: {each.why}", soft_wrap=True)
    console.print(f"{sum(each.done for each in found)} of {len(found)} documents were erased.")


# marks ---------------------------------------------------------------------------------------------------------------


def mark(
    what: Annotated[str, typer.Argument(metavar="MARK", help="; ".join(f"{n}: {m}" for n, m in MARKS.items()))],
    reason: Annotated[str, typer.Option(help="Why; kept with it.")],
    patient: Annotated[str, typer.Option(metavar="ID", help="Of all of a patient, by any of their ids.")] = "",
    document: Annotated[str, typer.Option(metavar="UNIQUEID", help="Of one document.")] = "",
    node: NodeFile = None,
    settings: OptionalSettingsFile = None,
    day: Annotated[datetime | None, typer.Option(formats=["%Y-%m-%d"], help="Of the service (served).")] = None,
) -> None:
    """Say what retention cannot know: a legal hold, data on blood, what became of a referral, how somebody died."""
    if what not in MARKS:
        raise typer.BadParameter(f"is one of {', '.join(MARKS)}", param_hint="MARK")
    chosen = Mark(what)
    if bool(patient) == bool(document):
        raise typer.BadParameter("one of --patient and --document is needed")
    if chosen is not Mark.HOLD and chosen.of_patient != bool(patient):
        raise typer.BadParameter(f"is said of a {'patient' if chosen.of_patient else 'document'}", param_hint="MARK")
    if (chosen is Mark.SERVED) != (day is not None):
        raise typer.BadParameter("belongs to the mark served, which needs it", param_hint="--day")
    if day is not None and day.date() > local_day(utc_now()):
        raise typer.BadParameter("is in the future: say it when the service was given", param_hint="--day")
    if not is_reason(reason):
        raise typer.BadParameter(wanted(), param_hint="--reason")

    async def say(access: Access) -> int:
        store = PostgresRetention(access.database)
        key = await _patient_key(access, patient) if patient else await store.patient_of(document)
        if key is None:
            raise Failure(
                f"No document {document} is registered.", "Nothing was recorded.", "obieg find lists the documents."
            )
        person = (await store.persons([key]))[key]
        versions = [d for d in person.known.documents if d.unique_id == document]
        if document and not any(can_be(chosen, d) for d in versions):
            raise Failure(
                f"Document {document} {_CANNOT_BE[chosen]}.",
                "Nothing was recorded: the period would not change.",
                "Check its codes (obieg documents history), or mark another document; docs/retention.md, Classes.",
            )
        cx = str(PatientId(person.id, access.authority))
        about = [AuditObject("patient", cx), *([AuditObject("document", document)] if document else [])]
        return await store.mark(
            key,
            document,
            chosen,
            day=day.date() if day else None,
            reason=reason,
            by=os_user(),
            audit=access.audit,
            event=_event(access, f"retention: {what}", *about),
        )

    typer.echo(f"mark {asked(node, settings, say)} stands")


def unmark(
    number: Annotated[int, typer.Argument(metavar="NUMBER", help="As obieg retention marks lists it.")],
    node: NodeFile = None,
    settings: OptionalSettingsFile = None,
) -> None:
    """Say that a mark stands no more; it stays in the list, with who ended it."""

    async def end(access: Access) -> bool:
        store = PostgresRetention(access.database)
        row = next((r for r in await store.marks(()) if r[0] == number), None)
        about = [AuditObject("patient", str(PatientId(row[1], access.authority)))] if row else []
        event = _event(access, f"retention: mark {number} ended", *about)
        return await store.end_mark(number, by=os_user(), audit=access.audit, event=event)

    if not asked(node, settings, end):
        raise Failure(f"Mark {number} does not stand.", "Nothing was changed.", "obieg retention marks lists them.")
    typer.echo(f"mark {number} stands no more")


def marks(
    node: NodeFile = None,
    settings: OptionalSettingsFile = None,
    patient: Annotated[str, typer.Option(metavar="ID", help="Only of this patient.")] = "",
    *,
    as_json: AsJson = False,
) -> None:
    """List what was said for retention, what stands no more among it."""

    async def look(access: Access) -> list[Any]:
        store = PostgresRetention(access.database)
        return await store.marks([await _patient_key(access, patient)] if patient else ())

    names = "number", "patient", "document", "mark", "day", "reason", "said_at", "said_by", "ended_at", "ended_by"
    rows = [dict(zip(names, row, strict=True)) for row in asked(node, settings, look)]
    if as_json:
        print_json(rows)
        return
    for row in rows:
        ended = f", ended {local(row['ended_at'])} by {row['ended_by']}" if row["ended_at"] else ""
        what = row["document"] or f"patient {row['patient']}"
        on = f" {row['day']}" if row["day"] else ""
        said = f"{local(row['said_at'])}, {row['said_by']}{ended}"
        typer.echo(f"{row['number']:4}  {row['mark']}{on}  {what}: {row['reason']} ({said})")


async def _patient_key(access: Access, who: str) -> int:
    identifier = access.identifier(who)
    standing = (await access.who.store.standing((identifier,))).get(identifier)
    if standing is None:
        raise Failure(f"No patient has the identifier {who}.", "Nothing was done.", "Check the number and who gave it.")
    return standing.patient_key


def _event(access: Access, detail: str, *about: AuditObject) -> AuditEvent:
    return AuditEvent(
        transaction=OPERATOR,
        event="patient_record",
        outcome=Outcome.SUCCESS,
        detail=detail,
        source_user=os_user(),
        destination_user=access.settings.name,
        requester=os_user(),
        objects=tuple(about),
    )


# proof ---------------------------------------------------------------------------------------------------------------


def erased(
    node: NodeFile = None,
    settings: OptionalSettingsFile = None,
    count: Annotated[int, typer.Option("-n", min=1, max=_PAGE, help="How many.")] = 100,
    skip: Annotated[int, typer.Option(min=0, help="How many newer ones to pass over.")] = 0,
    *,
    as_json: AsJson = False,
) -> None:
    """List what was erased, newest first, and whether that can be proven: no backup that stands holds its key."""

    async def look(access: Access) -> list[Any]:
        [rows] = await access.database.run(SQL.erased_documents(count=count, skipped=skip))
        return rows

    names = "unique_id", "repository", "erased_at", "erased_by", "size", "patient", "held_by"
    rows = [dict(zip(names, row, strict=True)) for row in asked(node, settings, look)]
    rows = [{**row, "provable": not row["held_by"]} for row in rows]
    if as_json:
        print_json(rows)
        return
    for row in rows:
        proof = "provable" if row["provable"] else f"not provable: backup {', '.join(row['held_by'])} holds its key"
        typer.echo(f"{local(row['erased_at'])}  {row['unique_id']}  {proof}")


def backups(
    node: NodeFile = None,
    settings: OptionalSettingsFile = None,
    gone: Annotated[
        str, typer.Option(metavar="STAMP", help="Say that this backup, and every copy of it, is destroyed.")
    ] = "",
    *,
    as_json: AsJson = False,
) -> None:
    """List the backups that obieg made, each of which holds the keys of what stood then."""

    async def look(access: Access) -> tuple[bool, list[Any]]:
        done = False
        if gone:
            event = _event(access, f"retention: backup {gone} is destroyed")
            rows, _ = await access.database.run(
                SQL.end_backups(stamps=[gone], ended_by=f"{os_user()} says so"), access.audit.call(event)
            )
            done = bool(rows)
        [rows] = await access.database.run(SQL.backups())
        return done, rows

    done, found = asked(node, settings, look)
    if gone and not done:
        raise Failure(f"No backup {gone} stands.", "Nothing was changed.", "obieg retention backups lists them.")
    names = "stamp", "folder", "begun_at", "ended_at", "ended_by"
    rows: list[Mapping[str, Any]] = [dict(zip(names, row, strict=True)) for row in found]
    if as_json:
        print_json(rows)
        return
    for row in rows:
        state = f"gone {local(row['ended_at'])}: {row['ended_by']}" if row["ended_at"] else "stands"
        typer.echo(f"{row['stamp']}  {row['folder']}  {state}")

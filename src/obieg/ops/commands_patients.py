"""``obieg patients …``: importing patients, and deciding who is who."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, date, datetime, time, timedelta
from pathlib import Path
from typing import Annotated, Any

import msgspec
import typer
from rich.console import Console
from rich.progress import Progress
from rich.text import Text

from obieg.domain.identifiers import PatientId, is_oid
from obieg.domain.patients import Link
from obieg.domain.persons import Demographics
from obieg.domain.problems import Problem
from obieg.mapping.patient_csv import COLUMNS
from obieg.ops import rematching
from obieg.ops import showing_patients as show_
from obieg.ops.accounts import os_user
from obieg.ops.asking import settings_of
from obieg.ops.failure import Failure
from obieg.ops.import_files import FORMATS, Source
from obieg.ops.importing import COUNTED, Imported, Readers, import_file
from obieg.ops.index_access import Access, asked, opened
from obieg.ops.lazy_commands import lazily
from obieg.ops.options import ROWS_MAX, AsJson, By, Charset, NodeFile, OptionalSettingsFile, Rejects
from obieg.ops.showing import (
    examined,
    local,
    print_columns,
    print_counts,
    print_json,
    print_lines,
    print_rejects,
    progress_bar,
)
from obieg.storage.statements import load

FURTHER = {"person_archive": ("everything",)}  # commands that need the whole node; no other one of these does
_BULK = load("bulk.sql")
_WORDS = {
    "created": "new patients",
    "attached": "records of patients known already",
    "updated": "records said anew",
    "unchanged": "nothing new",
    "linked": "patients linked, since they are one person",
    "worklist": "lines for the worklist",
    "rejected": "rejected",
    "warnings": "PESELs that are wrong or fill-ins",
}

_Who = Annotated[str, typer.Argument(metavar="ID", help="PESEL, number@authority, 'number^^^&OID&ISO' or patient id.")]
_One = Annotated[str, typer.Argument(metavar="A", help="PESEL, number@authority, 'number^^^&OID&ISO' or patient id.")]
_Other = Annotated[str, typer.Argument(metavar="B", help="Likewise.")]
_Note = Annotated[str, typer.Option("--note", metavar="TEXT", help="Why; kept with the decision.")]


def register(app: typer.Typer) -> None:
    """Adds the commands."""
    patients = typer.Typer(
        cls=lazily(FURTHER),
        help="Who is who: import patients, work through the worklist.",
        no_args_is_help=True,
    )
    patients.command("import")(import_)
    patients.command()(columns)
    worklist_ = typer.Typer(help="What a person must decide.", invoke_without_command=True)
    worklist_.callback()(worklist)
    worklist_.command("show")(task)
    patients.add_typer(worklist_, name="worklist")
    for command in (decide, link, apart, unlink, mixed, explain, show, accesses, learn, rematch):
        patients.command()(command)
    app.add_typer(patients, name="patients")


# import --------------------------------------------------------------------------------------------------------------


def import_(
    files: Annotated[list[Path], typer.Argument(metavar="FILE", help="CSV, FHIR NDJSON or HL7 v2 batch.")],
    node: NodeFile = None,
    settings: OptionalSettingsFile = None,
    authority: Annotated[
        str, typer.Option(metavar="OID|NAME", help="Who gives out the numbers in column id of a CSV without authority.")
    ] = "",
    source: Annotated[
        str,
        typer.Option(metavar="FACILITY|APPLICATION", help="Whose records these are, where CSV and FHIR do not say."),
    ] = "",
    fed_by: Annotated[
        str,
        typer.Option(
            metavar="NAME", help="The system ([[nodes]]) that will feed these patients: no other one may change them."
        ),
    ] = "",
    format_: Annotated[str, typer.Option("--format", metavar="csv|fhir|hl7v2", help="If it is not recognised.")] = "",
    charset: Charset = "",
    rejects: Rejects = None,
    by: By = "",
    *,
    again: Annotated[bool, typer.Option("--again", help="Import a file anew that was imported before.")] = False,
    as_json: AsJson = False,
) -> None:
    """Import patients, matched by the same rules as every feed. A killed import goes on where it stopped.

    CSV has a header (obieg patients columns), FHIR one Patient on each line, HL7 v2 ADT messages with or without
    batch segments. All is recognised by content.

    Rejected records stand as they were in FILE.rejected, each below a line with its number and the reason. Correct
    them there and import that file: the reasons are read over.
    """
    if format_ and format_ not in FORMATS:
        raise typer.BadParameter(f"is one of {', '.join(FORMATS)}", param_hint="--format")
    if rejects is not None and len(files) > 1:
        raise typer.BadParameter("is for one file", param_hint="--rejects")
    console = Console(highlight=False)
    results = []
    with Readers() as readers, opened(settings or settings_of(node)) as access:
        oid = _authority(access, authority)
        if fed_by and fed_by not in (names := [n.name for n in access.settings.nodes]):
            raise typer.BadParameter(
                f"is one of {', '.join(names) or '[[nodes]], of which there are none'}", param_hint="--fed-by"
            )
        for path in files:
            source_ = examined(path, format_, charset)
            with progress_bar("{task.fields[records]} records, {task.fields[rate]}/s") as progress:
                done = import_file(
                    access,
                    readers,
                    source_,
                    authority=oid,
                    speaker=source,
                    by=by or os_user(),
                    fed_by=fed_by,
                    rejects=rejects or Path(f"{path}.rejected"),
                    again=again,
                    advance=_advancing(progress, source_),
                )
            results.append((path, source_, done))
            if not as_json:
                _print_imported(console, source_, done)
    if as_json:
        print_json([_imported_data(*each) for each in results])
    if any(done.counts.get("rejected") for _, _, done in results):
        raise typer.Exit(1)


def _authority(access: Access, named: str) -> str:
    if not named:
        return ""
    listed = access.who.authorities.by_name(named)
    oid = listed.oid if listed else named
    if not is_oid(oid):
        raise typer.BadParameter("is an OID, or the name of an authority in the settings", param_hint="--authority")
    return oid


def _advancing(progress: Progress, source: Source) -> Callable[[int, Mapping[str, int]], None]:
    """What shows how far the import of a file is."""
    shown = progress.add_task(f"importing {source.path.name}", total=source.size, records=0, rate=0)
    first: dict[str, int] = {}

    def advance(count: int, counts: Mapping[str, int]) -> None:
        records = _records(counts)
        before = first.setdefault("records", records)
        elapsed = progress.tasks[0].elapsed or 0.001
        progress.update(shown, advance=count, records=records, rate=round((records - before) / elapsed))

    return advance


def _records(counts: Mapping[str, int]) -> int:
    return sum(counts.get(name, 0) for name in ("created", "attached", "updated", "unchanged", "rejected"))


def _print_imported(console: Console, source: Source, done: Imported) -> None:
    kind = FORMATS[source.format] + (f" in {source.charset.replace('cp', 'windows-')}" if source.charset else "")
    console.print(Text.assemble((str(source.path), "bold"), f"  {kind}, {_records(done.counts)} records"))
    if done.finished_at is not None:
        console.print(
            f"  was imported at {local(done.finished_at)}; nothing was done now. --again imports it anew.",
            soft_wrap=True,
        )
        return
    if done.resumed_at:
        console.print(f"  went on at line {done.resumed_at}; the numbers are those of the whole file")
    print_counts(console, done.counts, _WORDS)
    print_lines(console, [(line, show_.masked(said)) for line, said in done.warned[:5]])
    print_rejects(console, done.rejects)
    if done.counts.get("worklist"):
        console.print("  See obieg patients worklist.")


def _imported_data(path: Path, source: Source, done: Imported) -> dict[str, Any]:
    return {
        "file": str(path),
        "format": source.format,
        "charset": source.charset,
        "records": _records(done.counts),
        **{name: done.counts.get(name, 0) for name in COUNTED},
        "resumed_at_line": done.resumed_at or None,
        "imported_before": local(done.finished_at) or None,
        "rejects": str(done.rejects) if done.rejects else None,
    }


def columns() -> None:
    """Print the columns that a CSV file of patients may have."""
    print_columns(
        COLUMNS,
        "Polish names (nazwisko, data urodzenia, kod pocztowy) are understood as well. One of id, pesel and document "
        "is needed. Cells are parted by ; or , or a tabulator.",
    )


# the worklist --------------------------------------------------------------------------------------------------------


def worklist(
    context: typer.Context,
    node: NodeFile = None,
    settings: OptionalSettingsFile = None,
    count: Annotated[int, typer.Option("-n", help="How many lines.", min=1, max=ROWS_MAX)] = 50,
    *,
    decided: Annotated[bool, typer.Option("--decided", help="What was decided, too.")] = False,
    as_json: AsJson = False,
) -> None:
    """List what a person must decide, oldest first. Show one line with: obieg patients worklist show NUMBER."""
    if context.invoked_subcommand is not None:
        return

    async def ask(access: Access) -> tuple[Sequence[Any], int]:
        return await access.who.curation.worklist(decided=decided, count=count), await access.who.curation.open_tasks()

    tasks, total = asked(node, settings, ask)
    if as_json:
        print_json([show_.task_data(each) for each in tasks])
        return
    console = Console(highlight=False)
    if not tasks:
        console.print("Nothing is to be decided.")
        return
    show_.worklist(console, tasks)
    shown = sum(not each.decision for each in tasks)
    more = f" {total - shown} more; -n {total} lists them." if total > shown else ""
    console.print(f"\n{total} to be decided.{more} Look at one with: obieg patients worklist show NUMBER")


_Number = Annotated[int, typer.Argument(metavar="NUMBER", help="Line of the worklist, as it is listed.")]


def task(
    number: _Number, node: NodeFile = None, settings: OptionalSettingsFile = None, *, as_json: AsJson = False
) -> None:
    """Show a line: both records side by side, the evidence for and against, and what was decided."""

    async def ask(access: Access) -> tuple[Any, Access]:
        return await access.who.curation.task(number), access

    found, access = asked(node, settings, ask)
    if found is None:
        raise Failure(
            f"There is no line {number} on the worklist.",
            "It was never there.",
            "obieg patients worklist --decided lists all of them.",
        )
    if as_json:
        print_json(show_.task_data(found))
        return
    show_.task(Console(highlight=False), found, access.who.authorities, access.authority, access.weights)


def decide(
    number: _Number,
    verdict: Annotated[str, typer.Argument(metavar="same|different", help="One person, or two people.")],
    node: NodeFile = None,
    settings: OptionalSettingsFile = None,
    note: _Note = "",
    by: By = "",
    *,
    as_json: AsJson = False,
) -> None:
    """Decide a line of the worklist: the same person (they are linked) or different people (never joined).

    Both can be undone: obieg patients unlink, obieg patients link. Of a document whose patient is doubtful, same
    means that it is the right one's, different that it stays with the left one.
    """
    if verdict not in ("same", "different"):
        raise typer.BadParameter("is same or different", param_hint="same|different")
    by = by or os_user()
    asked(node, settings, lambda access: access.who.curation.decide(number, same=verdict == "same", by=by, note=note))
    if as_json:
        print_json({"task_id": number, "decision": verdict, "decided_by": by, "note": note})
        return
    typer.echo(f"line {number}: {show_.DECISIONS[verdict]}, by {by}")


def link(
    one: _One,
    other: _Other,
    node: NodeFile = None,
    settings: OptionalSettingsFile = None,
    note: _Note = "",
    by: By = "",
    *,
    as_json: AsJson = False,
) -> None:
    """Say that A and B are one person. A's id stays; both answer for both until you take it back."""
    by = by or os_user()

    async def ask(access: Access) -> tuple[PatientId, PatientId, PatientId]:
        pair = access.identifier(one), access.identifier(other)
        return *pair, await access.who.curation.link(*pair, by=by, note=note)

    first, second, survivor = asked(node, settings, ask)
    if as_json:
        print_json({"a": str(first), "b": str(second), "survivor": str(survivor), "decided_by": by, "note": note})
        return
    typer.echo(f"{other} is the same person as {one}: patient {survivor.value}. Undo: obieg patients unlink {other}")


def apart(
    one: _One,
    other: _Other,
    node: NodeFile = None,
    settings: OptionalSettingsFile = None,
    note: _Note = "",
    by: By = "",
    *,
    as_json: AsJson = False,
) -> None:
    """Say that A and B are different people: they are never joined automatically."""
    by = by or os_user()

    async def ask(access: Access) -> tuple[PatientId, PatientId]:
        pair = access.identifier(one), access.identifier(other)
        await access.who.curation.keep_apart(*pair, by=by, note=note)
        return pair

    first, second = asked(node, settings, ask)
    if as_json:
        print_json({"a": str(first), "b": str(second), "decided_by": by, "note": note})
        return
    typer.echo(f"{one} and {other} are kept apart")


def unlink(
    who: _Who,
    node: NodeFile = None,
    settings: OptionalSettingsFile = None,
    by: By = "",
    *,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
    as_json: AsJson = False,
) -> None:
    """Take back the link or merge of a patient: both are their own again, as they were.

    Records and documents that came while they were one go with whom their source speaks of; a document of which
    nothing says whose it is goes onto the worklist. Who saw the mixed record is listed.
    """

    async def about(access: Access) -> Link | None:
        stands = await access.who.links.stands(access.identifier(who))
        known = await access.who.links.link_of(stands[2] or stands[0]) if stands else None
        return known.link if known else None

    found = asked(node, settings, about)
    if found is not None and not yes:
        sys.stderr.write(
            f"Patient {found.patient.value} has been read as {found.merged_into.value} since "
            f"{local(found.linked_at)} ({found.reason}, {found.linked_by}).\n"
            "Taking it back divides records, documents and access logs again.\n"
        )
        typer.confirm("Take it back?", abort=True, err=True)

    async def ask(access: Access) -> Any:
        return await access.who.curation.unlink(access.identifier(who), by=by or os_user())

    undone = asked(node, settings, ask)
    if as_json:
        print_json(
            {
                "patient": str(undone.patient),
                "survivor": str(undone.survivor),
                "moved": undone.moved,
                "doubtful": undone.doubtful,
                "seen": [show_.access_data(each) for each in undone.seen],
            }
        )
        return
    console = Console(highlight=False)
    if undone.patient == undone.survivor:
        console.print(f"{who} names patient {undone.patient.value} again.")
        return
    console.print(f"{undone.patient.value} and {undone.survivor.value} are two patients again.")
    console.print(f"{_documents(undone.moved)} went with {undone.patient.value}.")
    if undone.doubtful:
        console.print(
            f"[bold]{_documents(undone.doubtful)}[/] may be of either and stay with {undone.survivor.value}: decide "
            "about them on the worklist.",
            soft_wrap=True,
        )
    _print_seen(console, undone.seen)


def _documents(found: Sequence[str]) -> str:
    return {0: "No document", 1: "1 document"}.get(len(found), f"{len(found)} documents")


def _print_seen(console: Console, seen: Sequence[Any]) -> None:
    if not seen:
        console.print("Nobody has read the two as one.")
        return
    times = "once" if len(seen) == 1 else f"{len(seen)} times"
    console.print(f"\nThe mixed record was read {times}; the data-protection officer wants to know:")
    show_.accesses(console, seen)


def mixed(
    who: Annotated[
        str, typer.Argument(metavar="[ID]", help="Only of this patient, with who saw the mixed record.")
    ] = "",
    node: NodeFile = None,
    settings: OptionalSettingsFile = None,
    *,
    as_json: AsJson = False,
) -> None:
    """List links that were taken back: who was read as whom, and for how long; of one patient, who saw it."""

    async def ask(access: Access) -> list[tuple[Any, Sequence[Any]]]:
        found = await access.who.curation.mixtures(access.identifier(who) if who else None)
        return [(each, await access.who.curation.seen_mixed(each) if who else ()) for each in found]

    found = asked(node, settings, ask)
    if as_json:
        print_json(
            [
                {
                    "patient": str(each.patient),
                    "survivor": str(each.survivor),
                    "reason": each.reason,
                    "linked_by": each.linked_by,
                    "linked_at": each.linked_at,
                    "unlinked_at": each.unlinked_at,
                    "unlinked_by": each.unlinked_by,
                    **({"seen": [show_.access_data(a) for a in seen]} if who else {}),
                }
                for each, seen in found
            ]
        )
        return
    console = Console(highlight=False)
    if not found:
        console.print("No link was taken back.")
        return
    if not who:
        show_.mixtures(console, [each for each, _ in found])
        console.print("\nWho saw a mixed record: obieg patients mixed PATIENT")
    for each, seen in found if who else ():
        show_.mixtures(console, [each])
        _print_seen(console, seen)


# looking -------------------------------------------------------------------------------------------------------------


def explain(
    one: _One, other: _Other, node: NodeFile = None, settings: OptionalSettingsFile = None, *, as_json: AsJson = False
) -> None:
    """Say why A and B are one person or not: every record of the one against every record of the other."""

    async def ask(access: Access) -> tuple[Access, list[Any], bool]:
        left, right = access.identifier(one), access.identifier(other)
        standing = await access.who.store.standing((left, right))
        keys = {s.patient_key for i in (left, right) if (s := standing.get(i)) is not None and not s.retired}
        pairs = list(await access.who.curation.explain(left, right))
        return access, pairs, len(keys) == 1 and len(standing) == len({left, right})

    access, pairs, one_patient = asked(node, settings, ask)
    if one_patient:  # the records are those of one person: none is compared with itself, and no two of them twice
        seen: set[frozenset[Any]] = set()
        pairs = [p for p in pairs if p.left != p.right and not _seen(seen, frozenset((p.left, p.right)))]
    if as_json:
        print_json(
            {
                "one_patient": one_patient,
                "pairs": [
                    {
                        "left": [str(i) for i in pair.left.identifiers],
                        "right": [str(i) for i in pair.right.identifiers],
                        **show_.judgement_data(pair.judgement),
                    }
                    for pair in pairs
                ],
            }
        )
        return
    console = Console(highlight=False)
    if one_patient:
        console.print(
            "Both name one patient already."
            + (" These are its records, pair by pair:" if pairs else " One record stands behind it."),
            soft_wrap=True,
        )
    elif not pairs:
        console.print("No record is known of one of them, so there is nothing to compare.")
    show_.explained(console, pairs, access.who.authorities, access.weights)


def _seen(seen: set[Any], one: Any) -> bool:
    if one in seen:
        return True
    seen.add(one)
    return False


def show(who: _Who, node: NodeFile = None, settings: OptionalSettingsFile = None, *, as_json: AsJson = False) -> None:
    """Show a patient: identifiers, what each source says, links, version."""

    async def ask(access: Access) -> tuple[Access, show_.Shown]:
        identifier = access.identifier(who)
        standing = (await access.who.store.standing((identifier,))).get(identifier)
        if standing is None:
            raise Problem.of("UnknownKeyIdentifier", "no patient has or had this identifier", who)
        return access, await _shown(access, standing.patient_key)

    access, shown = asked(node, settings, ask)
    if as_json:
        print_json(show_.patient_data(shown))
        return
    show_.patient(Console(highlight=False), shown, access.who.authorities, access.authority)


async def _shown(access: Access, key: int) -> show_.Shown:
    read = msgspec.json.Decoder(Demographics).decode
    records, retired = await access.database.run(_BULK.records_of(patient_key=key), _BULK.retired_of(patient_key=key))
    return show_.Shown(
        (await access.who.actor.candidates((key,)))[key],
        tuple(
            show_.SourceRecord(id_, source, tuple(map(PatientId, values, authorities)), read(said), *rest)
            for _, id_, source, authorities, values, said, *rest in records
        ),
        tuple((PatientId(value, authority), at) for authority, value, at in retired),
        tuple(known.link for known in await access.who.links.links(key)),
    )


_Day = Annotated[str, typer.Option(metavar="DATE", help="Day, as 2026-03-01.")]


def accesses(
    who: _Who,
    node: NodeFile = None,
    settings: OptionalSettingsFile = None,
    since: _Day = "",
    until: _Day = "",
    *,
    as_json: AsJson = False,
) -> None:
    """List who read or changed a patient's data, also under another id while both were linked."""
    first = _day(since, "--since") if since else datetime(1970, 1, 1, tzinfo=UTC)
    last = _day(until, "--until") + timedelta(days=1) if until else datetime.now(UTC) + timedelta(days=1)

    async def ask(access: Access) -> Sequence[Any]:
        return await access.who.curation.accesses(access.identifier(who), first, last)

    found = asked(node, settings, ask)
    if as_json:
        print_json([show_.access_data(each) for each in found])
        return
    console = Console(highlight=False)
    if not found:
        console.print("No access is recorded.")
        return
    show_.accesses(console, found)


def _day(text: str, option: str) -> datetime:
    try:
        return datetime.combine(date.fromisoformat(text), time())
    except ValueError:
        raise typer.BadParameter("is a day such as 2026-03-01", param_hint=option) from None


# going over all ------------------------------------------------------------------------------------------------------


def learn(node: NodeFile = None, settings: OptionalSettingsFile = None, *, as_json: AsJson = False) -> None:
    """Learn the weights of matching from the region's own records, and keep them.

    A node uses the newest weights from its next start on; these commands use them at once. Pairs that were judged
    before are judged again by: obieg patients rematch.
    """
    with opened(settings or settings_of(node)) as access:
        learned = rematching.learn_weights(access)
    if as_json:
        print_json({"weights_id": learned.weights_id, "records": learned.records, "people": learned.people})
        return
    typer.echo(
        f"weights {learned.weights_id}: learned from {learned.records} records of {learned.people} people. Restart the "
        "node to use them."
    )


def rematch(
    node: NodeFile = None,
    settings: OptionalSettingsFile = None,
    by: By = "",
    *,
    again: Annotated[bool, typer.Option("--again", help="From the beginning, though a run was interrupted.")] = False,
    as_json: AsJson = False,
) -> None:
    """Look at every record again: link, or put onto the worklist, whom the feeds missed.

    The rules are those of a feed. An interrupted run goes on where it stopped; the node may go on working.
    """
    with (
        opened(settings or settings_of(node)) as access,
        progress_bar("{task.fields[linked]} linked, {task.fields[worklist]} for the worklist") as progress,
    ):
        shown = progress.add_task("looking again", total=None, linked=0, worklist=0)

        def advance(looked: int, total: int, counts: Mapping[str, int]) -> None:
            progress.update(
                shown,
                completed=looked,
                total=total,
                linked=counts.get("linked", 0),
                worklist=counts.get("worklist", 0),
            )

        done = rematching.rematch(access, by or os_user(), again=again, advance=advance)
    linked, lines = done.counts.get("linked", 0), done.counts.get("worklist", 0)
    if as_json:
        print_json({"linked": linked, "worklist": lines, "resumed": done.resumed})
        return
    typer.echo(f"{linked} patients linked, {lines} lines added to the worklist")

"""``obieg documents history``: who registered, replaced, changed and removed a document, with before and after.

Registrations, versions and relations are read from what stands in the registry, the rest from the rows that each change
leaves (``registry_change``, ``removed_document``); who registered stands in the audit.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Annotated, Any
from uuid import UUID

import msgspec
import psycopg
import typer
from rich.console import Console
from rich.text import Text

from obieg.domain.documents import Association, DocumentEntry, Folder, SubmissionSet
from obieg.domain.history import Act, Event, RegistryObject, differences
from obieg.domain.identifiers import PatientId
from obieg.ops.asking import ask, connected, loaded
from obieg.ops.failure import Failure
from obieg.ops.options import AsJson, NodeFile, OptionalSettingsFile
from obieg.ops.showing import local, print_json
from obieg.storage.lifecycle_store import read_object
from obieg.storage.statements import load
from obieg.wire.xml import parse_message

_SQL = load("lifecycle.sql")
_TYPES: dict[str, type[RegistryObject]] = {"D": DocumentEntry, "S": SubmissionSet, "F": Folder, "A": Association}
_REPLACES = ("RPLC", "XFRM_RPLC")


def history(
    identifier: Annotated[str, typer.Argument(metavar="ID", help="entryUUID or uniqueId of a document or folder.")],
    node: NodeFile = None,
    settings: OptionalSettingsFile = None,
    *,
    as_json: AsJson = False,
) -> None:
    """Tell what happened to a document: who did what, when, and what changed by it."""
    described = loaded(node, settings)
    with connected(described, "documents history") as connection:
        events = _events(connection, identifier, described.identity.assigning_authority)
    if not events:
        raise Failure(
            f"Nothing is known of {identifier}.",
            "It was never registered or removed at this node.",
            "Give the entryUUID or the uniqueId; obieg find lists a patient's documents.",
        )
    if as_json:
        print_json([_plain(event) for event in events])
        return
    _print(Console(highlight=False, soft_wrap=True), events)


def _events(connection: psycopg.Connection[Any], identifier: str, authority: str) -> list[Event]:
    """In the order in which it happened."""
    uuid = _uuid(identifier)
    rows = ask(connection, _SQL.history_objects, id=identifier, uuid=uuid)
    objects = []
    for kind, rendering, status, version, patient, unique_id, at, *sset in rows:
        cx = str(PatientId(patient, authority))
        objects.append((read_object(kind, rendering, status, version, cx, ""), unique_id, at, sset))
    uuids = [value.entry_uuid[9:] for value, *_ in objects]
    unique_ids = sorted({unique_id for _, unique_id, *_ in objects} or ({identifier} if uuid is None else set()))
    changes = ask(connection, _SQL.history_changes, uuids=[*uuids, *([uuid] if uuid else [])], unique_ids=unique_ids)
    events = [_change(row) for row in changes]
    unique_ids = sorted({*unique_ids, *(u for e in events if (u := getattr(e.before or e.after, "unique_id", None)))})
    brought = {e.after.entry_uuid for e in events if e.after is not None and e.act in (Act.CHANGED, Act.MOVED)}
    senders = _senders(connection, objects)
    for value, _, at, sset in objects:
        if value.entry_uuid not in brought:
            act = Act.REGISTERED if _version(value) == 1 else Act.CHANGED
            event = _submitted(Event(at, act, value.entry_uuid, version=_version(value), after=value), sset, senders)
            events.append(event)
    for kind, source, target, status, other, at, *sset in ask(connection, _SQL.history_relations, uuids=uuids):
        act = Act.REPLACED if kind in _REPLACES else Act.RELATED
        event = _submitted(Event(at, act, f"urn:uuid:{target}"), sset, senders)
        deprecated = ", association deprecated" if status != "A" else ""
        events.append(event._replace(detail=f"{kind} by {other} (urn:uuid:{source}){deprecated}"))
    for unique_id, repository, at, by, request_id, size, sha1, sha256 in ask(
        connection, _SQL.history_removed, unique_ids=unique_ids
    ):
        detail = f"{unique_id} of repository {repository}: {size} bytes, SHA-1 {sha1}, SHA-256 {sha256.hex()}"
        events.append(Event(at, Act.DOCUMENT_REMOVED, "", by, "ITI-86", request_id, detail))
    return sorted(events, key=lambda event: event.at)


def _uuid(identifier: str) -> str | None:
    try:
        return str(UUID(identifier.removeprefix("urn:uuid:")))
    except ValueError:
        return None


def _version(value: RegistryObject | None) -> int:
    return int(getattr(value, "version", 1))


def _change(row: tuple[Any, ...]) -> Event:
    kind, act, uuid, before, after, at, by, transaction, request_id = row
    read = msgspec.json.Decoder(_TYPES[kind]).decode
    was, now = (None if data is None else read(data) for data in (before, after))
    version = _version(now or was)
    return Event(at, Act(act), f"urn:uuid:{uuid}", by, transaction, request_id, "", version, was, now)


def _senders(
    connection: psycopg.Connection[Any], objects: Sequence[tuple[RegistryObject, str, datetime, list[Any]]]
) -> dict[str, tuple[str, str, str]]:
    """By uniqueId of a submission set: transaction, request and who sent it."""
    sets = sorted({sset[0] for *_, sset in objects if sset[0]})
    patients = sorted({getattr(value, "patient_id", None) or "" for value, *_ in objects})
    found = {}
    for transaction, request_id, message in ask(
        connection, _SQL.history_audit, patient_ids=patients, set_unique_ids=sets
    ):
        root = parse_message(message.encode())
        named = {p.get("ParticipantObjectID") for p in root.iter("ParticipantObjectIdentification")}
        # Whoever began it; the node itself is the other participant.
        asked = [p.get("UserID", "") for p in root.iter("ActiveParticipant") if p.get("UserIsRequestor") == "true"]
        for unique_id in named.intersection(sets):
            found[unique_id] = (transaction, request_id, ", ".join(dict.fromkeys(filter(None, asked))))
    return found


def _submitted(event: Event, sset: Sequence[Any], senders: Mapping[str, tuple[str, str, str]]) -> Event:
    """The event with who did it, by which transaction and request: those of the submission set that brought it."""
    unique_id, source_id, authors = sset
    if unique_id is None:
        return event
    transaction, request_id, sender = senders.get(unique_id, ("", "", ""))
    author = ", ".join(authors or ())
    detail = f"submission set {unique_id} of source {source_id}" + (f", author {author}" if author else "")
    return event._replace(by=sender, transaction=transaction, request_id=request_id, detail=detail)


# printing ------------------------------------------------------------------------------------------------------------


def _plain(event: Event) -> dict[str, Any]:
    return {
        "at": event.at.isoformat(),
        "act": event.act.value,
        "entry_uuid": event.entry_uuid,
        "version": event.version or None,
        "by": event.by,
        "transaction": event.transaction,
        "request_id": event.request_id,
        "detail": event.detail,
        "changed": [d._asdict() for d in _told(event)],
        "before": event.before,
        "after": event.after,
    }


def _told(event: Event) -> list[Any]:
    """What changed; of what came or went, all of it is said by before and after."""
    if event.before is None or event.after is None:
        return []
    return differences(event.before, event.after)


def _print(console: Console, events: Sequence[Event]) -> None:
    for event in events:
        when = local(event.at)
        line = Text(f"{when}  {event.act.value}", style="bold")
        if event.version:
            line.append(f", version {event.version}")
        console.print(line)
        for label, said in (
            ("by", event.by),
            ("what", event.entry_uuid),
            ("how", " ".join(filter(None, (event.transaction, event.detail)))),
            ("request", event.request_id),
        ):
            if said:
                console.print(Text(f"    {label:8} {said}", style="not bold"))
        for difference in _told(event):
            was, now = difference.before or "(nothing)", difference.after or "(nothing)"
            console.print(Text(f"    {difference.attribute}: {was} -> {now}", style="cyan"))
        console.print()

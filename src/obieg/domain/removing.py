"""What may be taken out of a registry and a repository, and who decides it (ITI TF-2:3.62.4.1.3, 3.86.4.1.3).

Metadata go only so that what stays is whole: no association loses an end, no document or folder stays without a
submission set, no set without content. Whether anything may go at all is for retention to say.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import NamedTuple, Protocol

from obieg.domain.documents import Association, AssociationType
from obieg.domain.history import Act, RecordedChange, RegistryObject
from obieg.domain.problems import Finding, Problem
from obieg.domain.requester import Requester


class Standing(NamedTuple):
    """An object as it stands in the registry, patientId included."""

    kind: str  # D, S, F, A
    patient_key: int
    approved: bool
    superseded: bool  # there is a newer version
    version: int
    value: RegistryObject


class Removal(NamedTuple):
    """Something that somebody wants to be removed, as retention sees it."""

    kind: str  # D, S, F, A: metadata; B: the bytes of a document
    identifier: str  # entryUUID; of bytes the uniqueId
    patient_id: str  # CX, as far as it is known
    requester: Requester


class Retention(Protocol):
    """Says what must be kept."""

    async def forbids(self, removals: Sequence[Removal]) -> Sequence[Finding]:
        """Why these may not go; nothing when all of them may."""


class KeptAtWill:
    """Keeps nothing: a laboratory."""

    async def forbids(self, removals: Sequence[Removal]) -> Sequence[Finding]:  # noqa: ARG002 - a port
        """See the port."""
        return ()


class Removing(NamedTuple):
    """What one commit removes, and what it relies on."""

    objects: tuple[tuple[int, str, str], ...]  # patient key, kind, entryUUID
    counted: tuple[str, ...]  # entryUUIDs of which no association may have come or gone since
    expected: int  # how many associations these have
    logical_ids: tuple[str, ...]  # of which the newest version may be gone
    changes: tuple[RecordedChange, ...]


def plan_removal(named: Sequence[str], objects: Mapping[str, Standing]) -> Removing:
    """What is to be done. Raises Problem with all findings.

    ``objects`` holds, by entryUUID, the named objects, all associations at them, the other ends of these, and all
    associations at those.
    """
    going = set(named)
    associations = {u: s.value for u, s in objects.items() if isinstance(s.value, Association)}
    findings = list(_findings(named, going, objects, associations))
    if findings:
        raise Problem(findings)
    ends = {end for u in going if u in associations for end in (associations[u].source, associations[u].target)}
    counted = sorted(going | (ends & objects.keys()))
    logical = {getattr(objects[u].value, "logical_id", None) for u in named}
    return Removing(
        tuple((objects[u].patient_key, objects[u].kind, u) for u in named),
        tuple(counted),
        sum(1 for a in associations.values() if {a.source, a.target} & set(counted)),
        tuple(sorted(filter(None, logical))),
        tuple(RecordedChange(Act.REMOVED, objects[u].patient_key, objects[u].value, None) for u in named),
    )


def _findings(
    named: Sequence[str],
    going: Collection[str],
    objects: Mapping[str, Standing],
    associations: Mapping[str, Association],
) -> Iterator[Finding]:
    for uuid in named:
        if uuid not in objects:
            yield Finding("UnresolvedReferenceException", "no such object is registered", uuid)
    staying: dict[str, list[Association]] = {}  # by both ends
    for uuid, association in associations.items():
        if uuid not in going:
            for end in {association.source, association.target}:
                staying.setdefault(end, []).append(association)
    for uuid in named:
        if uuid in objects and (holding := [a.entry_uuid for a in staying.get(uuid, ())]):
            detail = f"association {holding[0]} refers to it"
            more = f" and {len(holding) - 1} more" if len(holding) > 1 else ""
            yield Finding("ReferencesExistException", f"{detail}{more}: name these too, or leave it", uuid)
    loosened: dict[str, None] = {}
    for uuid in named:
        if (named_one := associations.get(uuid)) is not None:
            loosened |= dict.fromkeys((named_one.source, named_one.target))
    for end in loosened:
        if end not in going and end in objects and not _is_held(end, objects, staying.get(end, ())):
            yield Finding(
                "XDSUnreferencedObjectException",
                "would stay without a submission set, or a submission set without content: name it too",
                end,
            )


def _is_held(uuid: str, objects: Mapping[str, Standing], staying: Sequence[Association]) -> bool:
    """Whether what stays is still part of a submission, or a submission that holds something."""
    kind = objects[uuid].kind
    if kind == "S":
        return any(a.source == uuid for a in staying)
    if kind == "A":
        return any(a.target == uuid for a in staying)
    return any(
        a.target == uuid and a.type is AssociationType.HAS_MEMBER and objects[a.source].kind == "S"
        for a in staying
        if a.source in objects
    )

"""What a change of settings, codes or trust would do to what is registered: judged before anybody makes it.

The machine (:class:`obieg.domain.operating.House`) reads what is proposed and compares it with what the node runs by;
the database tells what is in use; here the two are put together. Nothing is applied.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from enum import StrEnum
from typing import NamedTuple

from obieg.domain.affinity_domain import ATTRIBUTES, AffinityDomain
from obieg.domain.authorities import Authorities
from obieg.domain.documents import Value

BYTES_MAX = 4 * 2**20  # of what is proposed
LISTED_MAX = 200  # codes that are shown one by one
MIME_TYPE = "mime_type"
_WRITTEN = {field: attribute for attribute, field in ATTRIBUTES.items()} | {MIME_TYPE: "mimeType"}


class Kind(StrEnum):
    """What is proposed."""

    SETTINGS = "settings"
    CODES = "codes"
    TRUST = "trust"


class Fault(Value, frozen=True):
    """What is wrong with it. ``line`` counts from 1; 0 where none is known."""

    key: str
    line: int
    said: str


class Change(Value, frozen=True):
    """What differs; secrets are hidden. "" is nothing."""

    key: str
    now: str
    then: str


class NodeGone(Value, frozen=True):
    """A node or system that may no longer call, or (``repository_only``) register for its repository."""

    name: str
    repository: str
    called: tuple[str, ...]  # what its records and calls are known by
    repository_only: bool = False


class Proposal(NamedTuple):
    """What is proposed, beside what the node runs by. With faults nothing else is known."""

    kind: Kind
    faults: Sequence[Fault] = ()
    changes: Sequence[Change] = ()
    overridden: Sequence[str] = ()  # settings for which a variable of the environment wins
    unread: Sequence[str] = ()  # files that it names and that were not looked at
    codes: tuple[AffinityDomain, AffinityDomain] | None = None  # now, then
    authorities: tuple[Authorities, Authorities] | None = None
    nodes: Sequence[NodeGone] = ()
    certificate_authorities: Sequence[str] = ()  # subjects of those whose clients are no longer taken
    clients: Sequence[str] = ()  # OAuth clients that are gone
    issuers: Sequence[str] = ()  # of assertions
    receivers: Sequence[str] = ()  # of the outbox
    audit_repositories: Sequence[str] = ()
    repository: str = ""  # that this node is no longer
    patients_elsewhere: bool = False  # their ids are of another authority
    documents_elsewhere: bool = False  # documents are looked for in another place
    unkept: bool = False  # nothing would be kept by law


class CodeInUse(Value, frozen=True):
    """A code of what is registered: D documents, F folders, S submissions."""

    kind: str
    attribute: str
    code: str  # code^^scheme; for a media type itself
    number: int


class PeerCertificate(Value, frozen=True):
    """The newest certificate of somebody else; ``incoming``: who called this node, not whom it called."""

    incoming: bool
    subject: str
    issuer: str
    not_after: datetime
    seen_at: datetime


class InUse(NamedTuple):
    """What the database says."""

    documents: Mapping[str, int]  # by repository
    authorities: Mapping[str, int]  # identifiers that stand
    waiting: Mapping[str, int]  # messages by receiver
    unsent: Mapping[str, int]  # audit records by repository
    grants: Mapping[str, int]  # open, by OAuth client
    heard: Mapping[str, datetime]
    peers: Sequence[PeerCertificate]
    patients: int
    stored: int  # documents whose content this node keeps
    codes: Sequence[CodeInUse] = ()


class Part(NamedTuple):
    """A share of a number."""

    name: str
    number: int


class Effect(Value, frozen=True):
    """One thing that it breaks: ``what`` is a key of the pages' texts."""

    what: str
    name: str
    number: int
    parts: tuple[Part, ...] = ()  # by repository
    at: datetime | None = None  # when it was last heard of


class Preview(NamedTuple):
    """What operators are told."""

    proposal: Proposal
    effects: Sequence[Effect] = ()


def refused_codes(proposal: Proposal, in_use: Sequence[CodeInUse]) -> list[CodeInUse]:
    """Those that are accepted now and would not be then, the most used first."""
    if proposal.codes is None:
        return []
    now, then = proposal.codes
    found = [one for one in in_use if _accepts(now, one) and not _accepts(then, one)]
    return sorted(found, key=lambda one: (-one.number, one.attribute, one.code))


def _accepts(agreed: AffinityDomain, one: CodeInUse) -> bool:
    if one.attribute == MIME_TYPE:
        return one.code in agreed.mime_types
    code, _, scheme = one.code.partition("^^")
    return agreed.accepts(one.attribute, code, scheme)


def effects(
    proposal: Proposal, in_use: InUse, refused: Sequence[CodeInUse], facilities: Mapping[str, int]
) -> list[Effect]:
    """All that it breaks. ``facilities``: documents with a refused code, by repository."""
    found = []
    if facilities:
        by_most = sorted(facilities.items(), key=lambda one: (-one[1], one[0]))
        found.append(Effect("documents", "", sum(facilities.values()), tuple(Part(*one) for one in by_most)))
    for kind, what in (("F", "folders"), ("S", "submissions")):
        if number := sum(one.number for one in refused if one.kind == kind):
            found.append(Effect(what, "", number))
    found += [
        Effect("code", f"{_WRITTEN[one.attribute]}: {one.code.replace('^^', ' · ')}", one.number)
        for one in refused[:LISTED_MAX]
    ]
    if proposal.authorities is not None:
        now, then = proposal.authorities
        gone = [oid for oid in sorted(in_use.authorities) if now.accepts(oid) and not then.accepts(oid)]
        found += [Effect("identifiers", oid, in_use.authorities[oid]) for oid in gone]
    for node in proposal.nodes:
        heard = max((in_use.heard[name] for name in node.called if name in in_use.heard), default=None)
        what = "node_repository" if node.repository_only else "node"
        found.append(Effect(what, node.name, in_use.documents.get(node.repository, 0), at=heard))
    authorities = {*proposal.certificate_authorities}
    found += [Effect("authority", name, 0) for name in sorted(authorities)]
    found += [
        Effect("certificate", peer.subject, 1, at=peer.seen_at)
        for peer in in_use.peers
        if peer.incoming and peer.issuer in authorities
    ]
    found += [Effect("client", name, in_use.grants.get(name, 0)) for name in proposal.clients]
    found += [Effect("issuer", name, 0) for name in proposal.issuers]
    found += [Effect("receiver", name, in_use.waiting.get(name, 0)) for name in proposal.receivers]
    found += [Effect("audit", name, in_use.unsent.get(name, 0)) for name in proposal.audit_repositories]
    everything = sum(in_use.documents.values())
    moved = {
        "repository": (proposal.repository, in_use.documents.get(proposal.repository, 0)),
        "patients": (proposal.patients_elsewhere, in_use.patients),
        "content": (proposal.documents_elsewhere, in_use.stored),
        "retention": (proposal.unkept, everything),
    }
    found += [Effect(what, "", number) for what, (holds, number) in moved.items() if holds]
    return found

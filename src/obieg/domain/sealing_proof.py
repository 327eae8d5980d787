"""The proof that one record is in the sealed audit: it can be checked without the database and without the node."""

from __future__ import annotations

from base64 import b64decode, b64encode
from collections.abc import Callable, Iterable
from typing import Any

import msgspec

from obieg.domain.documents import Value
from obieg.domain.merkle import (
    consistency_path,
    following,
    inclusion_path,
    is_consistent,
    leaf_hash,
    peaks_of,
    root_by_inclusion,
)
from obieg.domain.sealing import Head, NotANote, Seal, head_of, read_record


class Later(Value, frozen=True):
    """A later root that continues the tree of the proof, and is time-stamped."""

    note: str
    consistency: tuple[str, ...]  # Base64; empty where it is the same root
    timestamp: str  # TimeStampResp of RFC 3161 over the note, Base64


class Proof(Value, frozen=True):
    """What is handed out."""

    audit_id: int
    record: str  # its bytes (docs/audit.md), Base64
    leaf_index: int  # from 0
    path: tuple[str, ...]  # hashes from the leaf to the root, Base64 (RFC 6962, section 2.1.1)
    note: str  # signed root of the seal that the record is in
    key: str  # who signed it (https://c2sp.org/signed-note, verifier key)
    later: Later | None = None


class NotProved(ValueError):  # noqa: N818 - it says what a proof does not do
    """A proof proves nothing."""


def prove(data: bytes, index: int, seal: Seal, before: Seal | None) -> Proof:
    """The proof of a record of a seal; ``before`` is the seal before it. Who signed is said by the caller."""
    size = before.tree_size if before else 0
    known = following(peaks_of(size, before.peaks) if before else (), size, seal.leaves)
    return Proof(
        audit_id=read_record(data)["audit_id"],
        record=_text(data),
        leaf_index=index,
        path=tuple(map(_text, inclusion_path(index, seal.tree_size, known))),
        note=seal.note,
        key="",
    )


def later(seal: Seal, following_leaves: bytes, note: str, token: bytes) -> Later:
    """That the time-stamped root of ``note`` continues that of ``seal``: by the leaves between them."""
    size = head_of(note).tree_size
    known = following(peaks_of(seal.tree_size, seal.peaks), seal.tree_size, following_leaves)
    path = consistency_path(seal.tree_size, size, known)
    return Later(note=note, consistency=tuple(map(_text, path)), timestamp=_text(token))


class Proved(Value, frozen=True):
    """What a proof proves."""

    record: dict[str, Any]
    head: Head
    later: Head | None = None


def check(proof: Proof, signed: Callable[[str], bool]) -> Proved:
    """Checks a proof by itself, but for its time-stamp; raises :class:`NotProved`."""
    try:
        data = b64decode(proof.record, validate=True)
        record, head = read_record(data), head_of(proof.note)
        root = root_by_inclusion(leaf_hash(data), proof.leaf_index, head.tree_size, _hashes(proof.path))
        after = head_of(proof.later.note) if proof.later else None
        consistency = _hashes(proof.later.consistency) if proof.later else []
    except (ValueError, NotANote) as error:
        raise NotProved(f"the proof cannot be read: {error}") from error
    if record["audit_id"] != proof.audit_id:
        raise NotProved("the proof is of another record than it says")
    if not signed(proof.note) or (proof.later and not signed(proof.later.note)):
        raise NotProved("a root is not signed by the key")
    if root != head.root:
        raise NotProved("the record does not lead to the root: it or the path was changed")
    if after and not is_consistent(head.tree_size, after.tree_size, head.root, after.root, consistency):
        raise NotProved("the later root does not continue the one of the record")
    return Proved(record=record, head=head, later=after)


def write_proof(proof: Proof) -> bytes:
    """As JSON."""
    return msgspec.json.format(msgspec.json.encode(proof), indent=1)


def read_proof(data: bytes) -> Proof:
    """The inverse of :func:`write_proof`; raises :class:`NotProved`."""
    try:
        return msgspec.json.decode(data, type=Proof)
    except msgspec.DecodeError as error:
        raise NotProved(f"this is no proof: {error}") from error


def timestamp(proof: Proof) -> bytes:
    """The time-stamp of the later root; empty where there is none."""
    return b64decode(proof.later.timestamp) if proof.later else b""


def _text(data: bytes) -> str:
    return b64encode(data).decode("ascii")


def _hashes(path: Iterable[str]) -> list[bytes]:
    return [b64decode(step, validate=True) for step in path]

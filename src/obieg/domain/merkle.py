"""The Merkle tree of RFC 6962, section 2.1, over SHA-256: roots, inclusion proofs and consistency proofs.

Theory of operation. A run of leaves [begin, end) is kept as its *cover*: the fewest nodes of the tree that hold just
these leaves, from left to right, each a whole binary subtree. The cover of a tree's
beginning, [0, size), is what RFC 6962 calls its subtrees at each power of two; here they are its *peaks*. Peaks are all
that is needed of old leaves in order to go on, to make the root, and to prove anything about the leaves that follow.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from hashlib import sha256
from typing import NamedTuple

HASH_BYTES = 32
EMPTY_ROOT = sha256().digest()

_LEAF = b"\x00"
_NODE = b"\x01"

# The hash of the tree over the leaves [begin, end), as RFC 6962 writes MTH(D[begin:end]).
HashOf = Callable[[int, int], bytes]


class Node(NamedTuple):
    """A whole subtree: of the leaves [place << level, (place + 1) << level)."""

    level: int
    place: int
    hash: bytes


def leaf_hash(data: bytes) -> bytes:
    """MTH({d}) of one leaf's data."""
    return sha256(_LEAF + data).digest()


def node_hash(left: bytes, right: bytes) -> bytes:
    """The hash of a node from those of its children."""
    return sha256(_NODE + left + right).digest()


def cover(begin: int, leaves: bytes) -> list[Node]:
    """The cover of leaves that begin at position ``begin``; ``leaves`` are their hashes, one after another."""
    left: list[Node] = []
    right: list[Node] = []
    level = 0
    while leaves:
        count = len(leaves) // HASH_BYTES
        if begin & 1:
            left.append(Node(level, begin, leaves[:HASH_BYTES]))
            leaves, begin, count = leaves[HASH_BYTES:], begin + 1, count - 1
        if count & 1:
            right.append(Node(level, begin + count - 1, leaves[-HASH_BYTES:]))
            leaves = leaves[:-HASH_BYTES]
        pairs = range(0, len(leaves), 2 * HASH_BYTES)
        leaves = b"".join([sha256(_NODE + leaves[at : at + 2 * HASH_BYTES]).digest() for at in pairs])
        begin, level = begin >> 1, level + 1
    return left + right[::-1]


def join(left: Iterable[Node], right: Iterable[Node]) -> list[Node]:
    """The cover of two runs, the second of which begins where the first ends."""
    nodes = list(left)
    for added in right:
        node = added
        while nodes and nodes[-1].level == node.level and node.place & 1:
            node = Node(node.level + 1, node.place >> 1, node_hash(nodes.pop().hash, node.hash))
        nodes.append(node)
    return nodes


def root(peaks: Sequence[Node]) -> bytes:
    """MTH of a tree from its peaks."""
    if not peaks:
        return EMPTY_ROOT
    found = peaks[-1].hash
    for peak in reversed(peaks[:-1]):
        found = node_hash(peak.hash, found)
    return found


def root_of(leaves: bytes) -> bytes:
    """MTH of a tree from the hashes of its leaves."""
    return root(cover(0, leaves))


def peaks_of(size: int, hashes: bytes) -> list[Node]:
    """The peaks of a tree of ``size`` leaves from their hashes alone; ValueError where their number is another."""
    if len(hashes) != HASH_BYTES * size.bit_count():
        raise ValueError(f"a tree of {size} leaves has {size.bit_count()} peaks")
    nodes: list[Node] = []
    begin = 0
    for level in reversed(range(size.bit_length())):
        if size >> level & 1:
            at = len(nodes) * HASH_BYTES
            nodes.append(Node(level, begin >> level, hashes[at : at + HASH_BYTES]))
            begin += 1 << level
    return nodes


def following(peaks: Sequence[Node], size: int, leaves: bytes) -> HashOf:
    """Hashes within a tree of which the first ``size`` leaves are known by their peaks, and those after them whole.

    It answers for all that proofs about the later leaves need; anything else is a KeyError.
    """
    known = {(peak.place << peak.level, (peak.place + 1) << peak.level): peak.hash for peak in peaks}

    def hash_of(begin: int, end: int) -> bytes:
        if begin >= size:
            return root_of(leaves[(begin - size) * HASH_BYTES : (end - size) * HASH_BYTES])
        if (begin, end) in known or end - begin == 1:
            return known[begin, end]
        middle = begin + _split(end - begin)
        return node_hash(hash_of(begin, middle), hash_of(middle, end))

    return hash_of


def inclusion_path(index: int, size: int, hash_of: HashOf) -> list[bytes]:
    """PATH(index, D[size]) of RFC 6962, section 2.1.1: what leads from a leaf to the root of the tree."""
    path: list[bytes] = []
    begin, end = 0, size
    while end - begin > 1:
        middle = begin + _split(end - begin)
        if index < middle:
            path.append(hash_of(middle, end))
            end = middle
        else:
            path.append(hash_of(begin, middle))
            begin = middle
    return path[::-1]


def root_by_inclusion(leaf: bytes, index: int, size: int, path: Sequence[bytes]) -> bytes | None:
    """The root that a path leads to (RFC 9162, section 2.1.3.2); None where the path does not fit the tree."""
    if not 0 <= index < size:
        return None
    at, last, found = index, size - 1, leaf
    for step in path:
        if last == 0:
            return None
        if at & 1 or at == last:
            found = node_hash(step, found)
            while not at & 1 and at:
                at, last = at >> 1, last >> 1
        else:
            found = node_hash(found, step)
        at, last = at >> 1, last >> 1
    return found if last == 0 else None


def consistency_path(first: int, second: int, hash_of: HashOf) -> list[bytes]:
    """PROOF(first, D[second]) of RFC 6962, section 2.1.2: that one tree continues another."""
    path: list[bytes] = []
    begin, end, whole = 0, second, True
    if not 0 < first < second:
        return path
    while first != end:
        middle = begin + _split(end - begin)
        if first <= middle:
            path.append(hash_of(middle, end))
            end = middle
        else:
            path.append(hash_of(begin, middle))
            begin, whole = middle, False
    if not whole:
        path.append(hash_of(begin, end))
    return path[::-1]


def is_consistent(first: int, second: int, first_root: bytes, second_root: bytes, path: Sequence[bytes]) -> bool:
    """Whether a path proves that the second tree continues the first (RFC 9162, section 2.1.4.2)."""
    if first == second:
        return first_root == second_root and not path
    if first == 0:
        return not path
    if not 0 < first < second or not path:
        return False
    steps = list(path) if first & (first - 1) else [first_root, *path]
    at, last = first - 1, second - 1
    while at & 1:
        at, last = at >> 1, last >> 1
    old = new = steps[0]
    for step in steps[1:]:
        if last == 0:
            return False
        if at & 1 or at == last:
            old, new = node_hash(step, old), node_hash(step, new)
            while not at & 1 and at:
                at, last = at >> 1, last >> 1
        else:
            new = node_hash(new, step)
        at, last = at >> 1, last >> 1
    return last == 0 and old == first_root and new == second_root


def _split(count: int) -> int:
    """The largest power of two below ``count``."""
    return 1 << ((count - 1).bit_length() - 1)

"""The Merkle tree: the test vectors of Certificate Transparency, and laws that hold of every tree."""

from __future__ import annotations

import random
from hashlib import sha256

import pytest
from hypothesis import given
from hypothesis import strategies as st

from obieg.domain.merkle import (
    EMPTY_ROOT,
    HASH_BYTES,
    consistency_path,
    cover,
    following,
    inclusion_path,
    is_consistent,
    join,
    leaf_hash,
    peaks_of,
    root,
    root_by_inclusion,
    root_of,
)

# The leaves and roots that Certificate Transparency's own implementations test themselves with.
DATA = [
    bytes.fromhex(x)
    for x in ("", "00", "10", "2021", "3031", "40414243", "5051525354555657", "606162636465666768696a6b6c6d6e6f")
]
ROOTS = [
    "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
    "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
    "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125",
    "aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77",
    "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
    "4e3bbb1f7b478dcfe71fb631631519a3bca12c9aefca1612bfce4c13a86264d4",
    "76e67dadbcdf1e10e1b74ddc608abd2f98dfb16fbce75277b5232a127f2087ef",
    "ddb89be403809e325750d3d263cd78929c2942b7942a34b77e122c9594a74c8c",
    "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328",
]


def mth(leaves: list[bytes]) -> bytes:
    """RFC 6962, section 2.1, word for word."""
    if not leaves:
        return sha256(b"").digest()
    if len(leaves) == 1:
        return sha256(b"\x00" + leaves[0]).digest()
    k = 1
    while k * 2 < len(leaves):
        k *= 2
    return sha256(b"\x01" + mth(leaves[:k]) + mth(leaves[k:])).digest()


def hashes(data: list[bytes]) -> bytes:
    return b"".join(map(leaf_hash, data))


def some(count: int) -> list[bytes]:
    return [number.to_bytes(4, "big") for number in range(count)]


@pytest.mark.parametrize("size", range(9))
def test_published_roots(size):
    assert root_of(hashes(DATA[:size])).hex() == ROOTS[size]
    assert mth(DATA[:size]).hex() == ROOTS[size]


def test_published_proofs():
    leaves = hashes(DATA)
    known = following([], 0, leaves)
    assert [step.hex()[:8] for step in inclusion_path(0, 8, known)] == ["96a296d2", "5f083f0a", "6b47aaf2"]
    assert [step.hex()[:8] for step in consistency_path(6, 8, known)] == ["0ebc5d34", "ca854ea1", "d37ee418"]


@given(st.integers(0, 300), st.integers(0, 300), st.integers(0, 300))
def test_a_tree_made_in_pieces_is_the_tree(first, second, third):
    data = some(first + second + third)
    leaves = hashes(data)
    a, b = first * HASH_BYTES, (first + second) * HASH_BYTES
    # Joined from the left and from the right.
    left = join(join(cover(0, leaves[:a]), cover(first, leaves[a:b])), cover(first + second, leaves[b:]))
    right = join(cover(0, leaves[:a]), join(cover(first, leaves[a:b]), cover(first + second, leaves[b:])))
    assert left == right == cover(0, leaves)
    assert root(left) == mth(data)
    assert peaks_of(len(data), b"".join(peak.hash for peak in left)) == left


@given(st.integers(1, 400), st.data())
def test_every_leaf_is_proved_from_peaks_and_the_leaves_after_them(size, data):
    index = data.draw(st.integers(0, size - 1))
    begin = data.draw(st.integers(0, index))
    leaves = hashes(some(size))
    known = following(cover(0, leaves[: begin * HASH_BYTES]), begin, leaves[begin * HASH_BYTES :])
    path = inclusion_path(index, size, known)
    leaf = leaf_hash(index.to_bytes(4, "big"))
    assert path == inclusion_path(index, size, following([], 0, leaves))
    assert root_by_inclusion(leaf, index, size, path) == root_of(leaves)
    assert len(path) <= (size - 1).bit_length()
    wrong = random.Random(size).randrange(len(path) or 1)
    for other_path in (path[:-1], [*path, leaf], [leaf if at == wrong else step for at, step in enumerate(path)]):
        if other_path != path:
            assert root_by_inclusion(leaf, index, size, other_path) != root_of(leaves)
    for other in (index - 1, index + 1, size):
        assert root_by_inclusion(leaf, other, size, path) != root_of(leaves)


@given(st.integers(0, 400), st.integers(0, 400))
def test_a_longer_tree_is_proved_to_continue_a_shorter_one(one, other):
    first, second = sorted((one, other))
    leaves = hashes(some(second))
    old = leaves[: first * HASH_BYTES]
    known = following(cover(0, old), first, leaves[first * HASH_BYTES :])
    path = consistency_path(first, second, known)
    assert path == consistency_path(first, second, following([], 0, leaves))
    assert is_consistent(first, second, root_of(old), root_of(leaves), path)
    if 0 < first < second:
        forged = root_of(hashes(some(first - 1)) + leaf_hash(b"forged"))
        assert not is_consistent(first, second, forged, root_of(leaves), path)
        assert not is_consistent(first, second, root_of(old), forged, path)
        assert not is_consistent(first, second, root_of(old), root_of(leaves), path[:-1])
        assert not is_consistent(first, second, root_of(old), root_of(leaves), [*path, EMPTY_ROOT])


def test_peaks_of_another_number_are_refused():
    with pytest.raises(ValueError, match="3 peaks"):
        peaks_of(7, bytes(64))

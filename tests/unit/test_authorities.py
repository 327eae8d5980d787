"""Assigning authorities: names, who may assign, which are known."""

from __future__ import annotations

import pytest

from obieg.domain.authorities import AssigningAuthority, Authorities

LISTED = (
    AssigningAuthority("1.2", "A", assigners=("HIS", "SZPITAL")),
    AssigningAuthority("1.3", "B"),
    AssigningAuthority("1.4", single=True),
)
NODES = {"1.7": True, "1.8": False}


def test_names() -> None:
    authorities = Authorities(LISTED)
    assert authorities.name_of("1.2") == "A"
    assert authorities.name_of("1.4") == authorities.name_of("1.9") == ""
    assert authorities.by_name("B") is authorities.by_oid("1.3") is LISTED[1]
    assert authorities.by_name("") is authorities.by_name("C") is authorities.by_oid("1.9") is None


@pytest.mark.parametrize(
    ("names", "oid", "may"),
    [
        ({"SZPITAL", "LAB"}, "1.2", True),
        ({"INNY", "HIS"}, "1.2", True),
        ({"INNY", "LAB"}, "1.2", False),
        ({""}, "1.2", False),
        ({"INNY", "LAB"}, "1.3", True),
        ({""}, "1.3", True),
    ],
)
def test_who_may_assign(names: set[str], oid: str, may: bool) -> None:
    authorities = Authorities(LISTED)
    assert authorities.may_assign(names, oid) is may
    assert authorities.is_assigner(names, oid) is (may and oid == "1.2"), "only who is listed"


def test_open_and_closed() -> None:
    for closed in (False, True):
        authorities = Authorities(LISTED, nodes=NODES, closed=closed)
        assert authorities.accepts("1.2")
        assert authorities.accepts("1.7.616")
        assert authorities.accepts("1.9") is not closed
        assert authorities.accepts("1.7") is not closed, "the node itself is no authority"
        assert authorities.may_assign({""}, "1.9") is not closed
        assert authorities.may_assign({""}, "1.8.1")


def test_one_number_for_a_person() -> None:
    authorities = Authorities(LISTED, nodes=NODES)
    assert [oid for oid in ("1.2", "1.4", "1.7.1", "1.8.1", "1.9", "1.70.1") if authorities.is_single(oid)] == [
        "1.4", "1.7.1"
    ]  # fmt: skip
    assert [oid for oid in ("1.2", "1.4", "1.7.1", "1.8.1", "1.9", "1.80.1") if authorities.is_shared(oid)] == [
        "1.4", "1.7.1", "1.8.1"
    ]  # fmt: skip


@pytest.mark.parametrize("second", [AssigningAuthority("1.2", "C"), AssigningAuthority("1.5", "A")])
def test_names_and_oids_are_unique(second: AssigningAuthority) -> None:
    with pytest.raises(ValueError, match=r"A|1\.2"):
        Authorities([*LISTED, second])

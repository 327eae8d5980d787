"""On-demand entries: ITI-61, what ITI-43 makes of them, and the snapshots that stay (ITI TF-2:3.61, 3.43.4.2.3)."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import peer
import pytest
from peer import APPROVED, DEPRECATED, ON_DEMAND, RIM, STABLE, XDSB, Entry, MakeNode, Node, association, quoted

pytestmark = pytest.mark.node


@pytest.fixture(scope="module")
def source(make_node: MakeNode) -> Node:
    """A node that makes documents."""
    return make_node("on-demand", module="on_demand_node")


@pytest.fixture
def now(source: Node) -> Path:
    """What its documents say now."""
    path = Path(source.endpoints["settings"]).parent / "now"
    path.write_bytes(b"first\n09:00")
    return path


def on_demand(node: Node, patient: str, **changes: Any) -> Entry:
    more = {"object_type": ON_DEMAND, "creation_time": "", "with_hash": False, "title": "Podsumowanie", **changes}
    return node.entry(patient, **more)


def registered(node: Node, **changes: Any) -> Entry:
    patient = node.patient()
    entry = on_demand(node, patient, **changes)
    node.registered(node.submission(patient, entry))
    return entry


def retrieved(node: Node, *unique_ids: str) -> list[tuple[str, str, str, bytes]]:
    """(uniqueId asked for, NewRepositoryUniqueId, NewDocumentUniqueId, bytes) of each document."""
    answer = node.retrieve(*unique_ids)
    assert answer.status == "Success", answer.errors or answer.fault
    names = ("DocumentUniqueId", "NewRepositoryUniqueId", "NewDocumentUniqueId")
    found = []
    for item in answer.body.iter(f"{{{XDSB}}}DocumentResponse"):
        asked, repository, new = (item.findtext(f"{{{XDSB}}}{name}") or "" for name in names)
        part = next(item.iter(f"{{{peer.XOP}}}Include")).get("href").removeprefix("cid:")
        found.append((asked, repository, new, answer.parts[part]))
    return found


def test_a_retrieval_makes_a_snapshot(source: Node, now: Path) -> None:
    entry = registered(source)
    since = source.last_audit()
    [(asked, repository, new, content)] = retrieved(source, entry.unique_id)
    assert (asked, repository, content) == (entry.unique_id, source.repository, b"first\n09:00")
    assert new not in ("", entry.unique_id)
    assert [(t, o) for _, t, o, _ in source.audits(since)] == [("ITI-42", 0), ("ITI-43", 0)]
    export = source.audits(since)[1][3]
    assert entry.unique_id in export
    assert new in export

    # The snapshot is an ordinary document.
    [found] = source.found(entry.patient).entries
    assert peer.identifier_of(found, "entryUnique") == new
    assert found.get("objectType") == STABLE
    assert peer.slot_of(found, "size") == ["11"]
    assert retrieved(source, new) == [(new, "", "", b"first\n09:00")]
    [relation] = related(source, entry)
    assert (relation.get("sourceObject"), relation.get("targetObject")) == (found.get("id"), entry.id)
    sets = source.query("GetSubmissionSets", uuid=quoted(found.get("id")))
    assert len(sets.body.findall(f".//{{{RIM}}}RegistryPackage")) == 1


def related(node: Node, entry: Entry) -> list[Any]:
    """IsSnapshotOf associations of an on-demand entry."""
    answer = node.query("GetAssociations", uuid=quoted(entry.id))
    return [a for a in answer.body.iter(f"{{{RIM}}}Association") if a.get("associationType").endswith(":IsSnapshotOf")]


def test_what_says_nothing_new_is_the_same_document(source: Node, now: Path) -> None:
    entry = registered(source)
    first = retrieved(source, entry.unique_id)
    now.write_bytes(b"first\n10:00")
    assert retrieved(source, entry.unique_id) == first
    stored = source.stored()
    now.write_bytes(b"second\n10:00")
    [(_, _, new, content)] = retrieved(source, entry.unique_id)
    assert content == b"second\n10:00"
    assert new != first[0][2]
    assert source.stored() != stored
    # What was answered once stays as it was, replaced by the newer one.
    assert retrieved(source, first[0][2])[0][3] == b"first\n09:00"
    assert source.unique_ids(entry.patient) == [new]
    assert source.unique_ids(entry.patient, DEPRECATED) == [first[0][2]]
    assert len(related(source, entry)) == 2
    # What it said before is said anew.
    now.write_bytes(b"first\n11:00")
    [(_, _, again, content)] = retrieved(source, entry.unique_id)
    assert content == b"first\n11:00"
    assert again not in (new, first[0][2])


def test_several_at_once_make_one_snapshot(source: Node, now: Path) -> None:
    entry = registered(source)
    with ThreadPoolExecutor(8) as pool:
        for content in (b"first\n1", b"second\n2"):
            now.write_bytes(content)
            answers = list(pool.map(lambda _: retrieved(source, entry.unique_id), range(8)))
            assert all(a == answers[0] for a in answers)
    assert len(source.unique_ids(entry.patient)) == 1
    assert len(source.unique_ids(entry.patient, DEPRECATED)) == 1


def test_together_with_stable_documents(source: Node, now: Path) -> None:
    entry = registered(source)
    stable = source.entry(entry.patient)
    source.provided(source.submission(entry.patient, stable))
    found = retrieved(source, stable.unique_id, entry.unique_id)
    assert [(asked, bool(new)) for asked, _, new, _ in found] == [(stable.unique_id, False), (entry.unique_id, True)]


def test_after_a_merge_the_snapshot_is_of_the_survivor(source: Node, now: Path) -> None:
    entry = registered(source)
    survivor = source.patient()
    assert source.feed("A40", survivor, entry.patient) == "AA"
    [(_, _, new, _)] = retrieved(source, entry.unique_id)
    assert source.unique_ids(survivor) == [new]
    assert retrieved(source, entry.unique_id)[0][2] == new


def test_an_entry_that_nobody_makes(source: Node, now: Path) -> None:
    entry = registered(source, title="Czyjeś")
    answer = source.retrieve(entry.unique_id)
    assert (answer.status, [e[0] for e in answer.errors]) == ("Failure", ["XDSRepositoryError"])
    now.write_bytes(b"nothing")
    refused = registered(source)
    stored = source.stored()
    answer = source.retrieve(refused.unique_id, entry.unique_id)
    assert (answer.status, [e[0] for e in answer.errors]) == ("Failure", ["XDSRepositoryError"] * 2)
    assert source.stored() == stored
    elsewhere = registered(source, repository="1.2.3.4")
    answer = source.retrieve(elsewhere.unique_id)
    assert [e[0] for e in answer.errors] == ["XDSDocumentUniqueIdError"]


def test_a_new_entry_under_the_same_unique_id(source: Node, now: Path) -> None:
    """ITI TF-2:3.61.4.1.3: an on-demand entry may have the uniqueId of another one, not of a document."""
    entry = registered(source)
    newer = on_demand(source, entry.patient, unique_id=entry.unique_id)
    replacing = [association("RPLC", newer.id, entry.id)]
    source.registered(source.submission(entry.patient, newer, associations=replacing))
    retrieved(source, entry.unique_id)
    assert [a.get("targetObject") for a in related(source, newer)] == [newer.id]

    stable = source.entry(entry.patient)
    source.provided(source.submission(entry.patient, stable))
    for wrong in (
        on_demand(source, entry.patient, unique_id=stable.unique_id),
        source.entry(entry.patient, unique_id=entry.unique_id),
    ):
        answer = source.register(source.submission(entry.patient, wrong))
        assert [e[0] for e in answer.errors] == ["XDSDuplicateUniqueIdInRegistry"]


def test_types_are_registered_by_their_own_transactions(source: Node) -> None:
    patient = source.patient()
    stable, unstable = source.entry(patient), on_demand(source, patient)
    body = source.submission(patient, unstable).request()
    stored = source.stored()
    answers = [
        source.soap("register", body),
        source.soap("register", source.submission(patient, stable).request(), action=peer.REGISTER_ON_DEMAND_ACTION),
        source.soap("register", source.submission(patient).request(), action=peer.REGISTER_ON_DEMAND_ACTION),
        source.provide(source.submission(patient, unstable)),
    ]
    assert [{e[0] for e in a.errors} for a in answers][:3] == [{"XDSRegistryMetadataError"}] * 3
    assert {e[0] for e in answers[3].errors} & {"XDSRegistryMetadataError", "XDSRepositoryMetadataError"}
    assert source.stored() == stored


@pytest.mark.parametrize("changes", [{"creation_time": "2024"}, {"with_hash": True}])
def test_what_only_a_document_has(source: Node, changes: dict[str, Any]) -> None:
    patient = source.patient()
    answer = source.register(source.submission(patient, on_demand(source, patient, **changes)))
    assert {e[0] for e in answer.errors} == {"XDSRegistryMetadataError"}


def test_snapshots_go_from_stable_to_on_demand(source: Node) -> None:
    entry = registered(source)
    stable, other = source.entry(entry.patient), source.entry(entry.patient)
    source.registered(source.submission(entry.patient, other))
    for target, status in ((other.id, "Failure"), (entry.id, "Success")):
        snapshot = [association("IsSnapshotOf", stable.id, target)]
        answer = source.register(source.submission(entry.patient, stable, associations=snapshot))
        assert answer.status == status, answer.errors
    backwards = on_demand(source, entry.patient)
    wrong = [association("IsSnapshotOf", backwards.id, entry.id)]
    assert source.register(source.submission(entry.patient, backwards, associations=wrong)).status == "Failure"


def test_an_on_demand_entry_replaces_a_stable_one(source: Node, now: Path) -> None:
    patient = source.patient()
    stable = source.entry(patient)
    source.provided(source.submission(patient, stable))
    entry = on_demand(source, patient)
    replacing = [association("RPLC", entry.id, stable.id)]
    source.registered(source.submission(patient, entry, associations=replacing))
    assert source.found(patient, Type=quoted(ON_DEMAND, STABLE)).ids == {entry.id}
    assert source.found(patient, APPROVED, Type=quoted(ON_DEMAND)).ids == {entry.id}

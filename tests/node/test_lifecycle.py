"""ITI-57, ITI-92, ITI-62 and ITI-86 as a document administrator sees them, and what refuses them."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any

import peer
import pytest
from peer import APPROVED, DEPRECATED, Answer, Entry, Folder, MakeNode, Node, association, quoted, slot

pytestmark = [pytest.mark.node]

RMD = "urn:ihe:iti:rmd:2017"


def member(own: str, of: str, previous: str | None = "1", propagate: str = "", status: str = "Original") -> str:
    more = (slot("PreviousVersion", previous) if previous is not None else "") + (
        slot("AssociationPropagation", propagate) if propagate else ""
    )
    return association("HasMember", own, of, status=status, more=more)


def states(own: str, of: str, was: str = APPROVED, now: str = DEPRECATED) -> str:
    more = slot("OriginalStatus", was) + slot("NewStatus", now)
    return association("UpdateAvailabilityStatus", own, of, more=more)


class Desk:
    """A document administrator at a node."""

    def __init__(self, node: Node) -> None:
        self.node = node

    def entry(self, patient: str, of: Entry, **changes: Any) -> Entry:
        """The next version of a document."""
        given = {"unique_id": of.unique_id, "logical_id": of.logical_id or of.id, "content": of.content, **changes}
        return self.node.entry(patient, **given)

    def send(
        self,
        patient: str,
        entries: Sequence[Entry] = (),
        folders: Sequence[Folder] = (),
        associations: Sequence[str] = (),
        *,
        own: str = "",
        key: str = "update",
        previous: str | None = "1",
        propagate: str = "",
    ) -> Answer:
        own = own or peer.urn()
        members = [member(own, e.id, previous, propagate) for e in entries]
        members += [member(own, f.id, previous, propagate, "") for f in folders]
        submission = self.node.submission(
            patient, *entries, folders=folders, associations=[*members, *associations], id=own, member=False
        )
        return self.node.soap(key, submission.request())

    def state(self, patient: str, of: str, was: str = APPROVED, now: str = DEPRECATED) -> Answer:
        own = peer.urn()
        return self.send(patient, associations=[states(own, of, was, now)], own=own)

    def relate(self, patient: str, kind: str, source: str, target: str) -> Answer:
        own, new = peer.urn(), peer.urn()
        both = [association(kind, source, target, id=new), association("SubmitAssociation", own, new)]
        return self.send(patient, associations=both, own=own)

    def remove(self, *uuids: str, scope: str = "") -> Answer:
        refs = "".join(f'<rim:ObjectRef id="{u}"/>' for u in uuids)
        more = f' deletionScope="{scope}"' if scope else ""
        body = (
            f'<lcm:RemoveObjectsRequest xmlns:lcm="{peer.LCM}" xmlns:rim="{peer.RIM}"{more}>'
            f"<rim:ObjectRefList>{refs}</rim:ObjectRefList></lcm:RemoveObjectsRequest>"
        )
        return self.node.soap("remove", body)

    def destroy(self, *unique_ids: str, repository: str = "") -> Answer:
        items = peer.retrieval(*((repository or self.node.repository, u) for u in unique_ids))
        name = "RetrieveDocumentSetRequest"
        body = items.replace(f"<x:{name} ", f'<r:RemoveDocumentsRequest xmlns:r="{RMD}" ')
        return self.node.soap("remove_documents", body.replace(f"</x:{name}>", "</r:RemoveDocumentsRequest>"))

    def versions(self, logical_id: str, level: str = "2") -> dict[str, tuple[str, str]]:
        """Version and status by entryUUID."""
        answer = self.node.query("GetDocuments", XDSDocumentEntryLogicalID=quoted(logical_id), MetadataLevel=level)
        assert answer.status == "Success", answer.errors
        return {
            e.get("id"): (e.find(f"{{{peer.RIM}}}VersionInfo").get("versionName"), peer.status_of(e))
            for e in answer.entries
        }

    def rows(self) -> list[Any]:
        """Everything that is registered, as it is."""
        return self.node.rows(
            "SELECT kind::text, entry_uuid::text, status::text, version, last_update_time, patient_key, current "
            "FROM registry_object ORDER BY entry_uuid"
        ) + self.node.rows("SELECT count(*) FROM registry_change")


@pytest.fixture
def desk(node: Node) -> Desk:
    return Desk(node)


def registered(node: Node, *, folder: bool = False) -> tuple[str, Entry, Folder | None]:
    patient = node.patient()
    entry = node.entry(patient)
    if not folder:
        node.registered(node.submission(patient, entry))
        return patient, entry, None
    own, found = peer.urn(), node.folder(patient)
    holds = association("HasMember", found.id, entry.id, id=peer.urn())
    held = holds.partition('id="')[2].partition('"')[0]
    links = [holds, association("HasMember", own, held)]
    node.registered(node.submission(patient, entry, folders=[found], associations=links, id=own))
    return patient, entry, found


# updating ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("key", ["update", "restricted_update"])
def test_a_new_version(desk: Desk, key: str) -> None:
    patient, entry, _ = registered(desk.node)
    since = desk.node.last_audit()
    version = desk.entry(patient, entry, title="Poprawiona")
    answer = desk.send(patient, [version], key=key)
    assert answer.status == "Success", answer.errors
    assert answer.header("Action") == f"{peer.ACTIONS[key]}Response"
    assert desk.versions(entry.id) == {entry.id: ("1", "Deprecated"), version.id: ("2", "Approved")}
    # Who asks for nothing else sees the newest version only, under the uniqueId that stays.
    assert desk.versions(entry.id, level="1") == {version.id: ("2", "Approved")}
    assert desk.node.found(patient, APPROVED).ids == {version.id}
    assert desk.node.found(patient, DEPRECATED).ids == set()
    both = desk.node.query("GetDocuments", XDSDocumentEntryUniqueId=quoted(entry.unique_id), MetadataLevel="2")
    assert both.ids == {entry.id, version.id}
    [(_, transaction, outcome, message)] = desk.node.audits(since)[:1]
    assert (transaction, outcome) == ("ITI-57" if key == "update" else "ITI-92", 0)
    assert 'EventActionCode="U"' in message


def test_what_stored_query_gave_is_sent_back(desk: Desk) -> None:
    """An administrator edits the answer of ITI-18: the ids of its classifications come again (FSE issue 1136)."""
    from lxml import etree

    patient, entry, _ = registered(desk.node)
    [found] = desk.node.found(patient).entries
    text = etree.tostring(found).decode().replace(f'"{entry.id}"', '"new-version"')
    text = text.replace('lid="new-version"', f'lid="{entry.id}"').replace("Karta informacyjna", "Karta poprawiona")
    own = peer.urn()
    submission = desk.node.submission(patient, id=own, associations=[text, member(own, "new-version")])
    answer = desk.node.soap("update", submission.request())
    assert answer.status == "Success", answer.errors
    assert sorted(desk.versions(entry.id).values()) == [("1", "Deprecated"), ("2", "Approved")]


def test_repeating_an_update_is_success(desk: Desk) -> None:
    patient, entry, _ = registered(desk.node)
    own, version = peer.urn(), desk.entry(patient, entry, title="Poprawiona")
    link = association(
        "HasMember", own, version.id, status="Original", id=peer.urn(), more=slot("PreviousVersion", "1")
    )
    body = desk.node.submission(patient, version, associations=[link], id=own, member=False).request()
    assert [desk.node.soap("update", body).status for _ in range(2)] == ["Success", "Success"]
    assert len(desk.versions(entry.id)) == 2


def test_a_folder_gets_a_version_with_its_content(desk: Desk) -> None:
    patient, entry, folder = registered(desk.node, folder=True)
    assert folder is not None
    version = desk.node.folder(patient, unique_id=folder.unique_id, logical_id=folder.id, title="Poród")
    assert desk.send(patient, folders=[version]).status == "Success"
    inside = desk.node.query("GetFolderAndContents", XDSFolderEntryUUID=quoted(version.id)[1:-1])
    assert [f.get("id") for f in inside.folders] == [version.id]
    assert [e.get("id") for e in inside.entries] == [entry.id]
    [held] = inside.associations
    assert (held.get("sourceObject"), held.get("targetObject")) == (version.id, entry.id)
    # The association of the version before is deprecated, so a document is in the newest folder only.
    of = desk.node.query("GetFoldersForDocument", XDSDocumentEntryEntryUUID=quoted(entry.id)[1:-1])
    assert [f.get("id") for f in of.folders] == [version.id]
    # A replacement of the document joins the newest version of the folder.
    newer = desk.node.entry(patient)
    desk.node.registered(desk.node.submission(patient, newer, associations=[association("RPLC", newer.id, entry.id)]))
    inside = desk.node.query("GetFolderAndContents", XDSFolderEntryUUID=quoted(version.id)[1:-1])
    assert {e.get("id") for e in inside.entries} == {entry.id, newer.id}


def test_without_propagation_the_associations_stay_behind(desk: Desk) -> None:
    patient, entry, folder = registered(desk.node, folder=True)
    assert folder is not None
    version = desk.entry(patient, entry)
    assert desk.send(patient, [version], propagate="no").status == "Success"
    inside = desk.node.query("GetFolderAndContents", XDSFolderEntryUUID=quoted(folder.id)[1:-1], MetadataLevel="2")
    assert [e.get("id") for e in inside.entries] == [entry.id]
    # A new version of the other end takes along what is asked to.
    third = desk.entry(patient, entry)
    assert desk.send(patient, [third], previous="2").status == "Success"
    assert len(desk.versions(entry.id)) == 3


def test_states_of_documents_folders_and_associations(desk: Desk) -> None:
    patient, entry, folder = registered(desk.node, folder=True)
    assert folder is not None
    for of in (entry.id, folder.id):
        assert desk.state(patient, of).status == "Success"
        assert desk.state(patient, of).codes == ["XDSMetadataUpdateError"]  # OriginalStatus
        assert desk.state(patient, of, DEPRECATED, APPROVED).status == "Success"
    inside = desk.node.query("GetFolderAndContents", XDSFolderEntryUUID=quoted(folder.id)[1:-1])
    [held] = [a.get("id") for a in inside.associations]
    assert desk.state(patient, held).status == "Success"  # out of the folder
    inside = desk.node.query("GetFolderAndContents", XDSFolderEntryUUID=quoted(folder.id)[1:-1])
    assert inside.entries == []
    assert desk.relate(patient, "HasMember", folder.id, entry.id).status == "Success"  # and in again
    inside = desk.node.query("GetFolderAndContents", XDSFolderEntryUUID=quoted(folder.id)[1:-1])
    assert [e.get("id") for e in inside.entries] == [entry.id]
    assert desk.relate(patient, "HasMember", folder.id, entry.id).codes == ["XDSMetadataUpdateError"]


def test_an_on_demand_entry_is_updated(desk: Desk) -> None:
    """Toolkit issue 608."""
    patient = desk.node.patient()
    entry = desk.node.entry(
        patient, object_type=peer.ON_DEMAND, with_hash=False, creation_time="", service_start="", content=b""
    )
    desk.node.registered(desk.node.submission(patient, entry))
    version = desk.entry(
        patient, entry, object_type=peer.ON_DEMAND, with_hash=False, creation_time="", title="Na żądanie"
    )
    answer = desk.send(patient, [version])
    assert answer.status == "Success", answer.errors
    assert sorted(desk.versions(entry.id).values()) == [("1", "Deprecated"), ("2", "Approved")]


def test_a_document_goes_to_its_right_patient_alone_only(desk: Desk) -> None:
    """ITI TF-2:3.57.4.1.3.4: with what it is associated with, or without the associations."""
    patient, entry, folder = registered(desk.node, folder=True)
    assert folder is not None
    right = desk.node.patient()
    before = desk.rows()
    answer = desk.send(right, [desk.entry(right, entry)])
    assert answer.codes == ["XDSPatientIDReconciliationError"]
    assert desk.rows() == before
    both = [desk.entry(right, entry)], [desk.node.folder(right, unique_id=folder.unique_id, logical_id=folder.id)]
    assert desk.send(right, *both).status == "Success"
    assert desk.node.unique_ids(right) == [entry.unique_id]
    assert desk.node.unique_ids(patient) == []
    assert desk.node.found(patient, DEPRECATED).ids == {entry.id}
    inside = desk.node.query("GetFolderAndContents", XDSFolderEntryUUID=quoted(both[1][0].id)[1:-1])
    assert [e.get("id") for e in inside.entries] == [both[0][0].id]
    # Both patients find the act in their access log.
    [(message,)] = desk.node.rows(
        "SELECT message FROM audit_event WHERE transaction = 'ITI-57' ORDER BY audit_id DESC LIMIT 1"
    )
    assert all(cx.replace("&", "&amp;") in message for cx in (patient, right))


def test_a_version_that_has_a_newer_one_is_left_alone(desk: Desk) -> None:
    patient, entry, _ = registered(desk.node)
    version = desk.entry(patient, entry, title="Poprawiona")
    assert desk.send(patient, [version]).status == "Success"
    assert desk.state(patient, entry.id, DEPRECATED, APPROVED).codes == ["XDSMetadataVersionError"]
    assert desk.relate(patient, "APND", version.id, entry.id).codes == ["XDSMetadataVersionError"]
    # The same where the newer one is of another patient.
    right = desk.node.patient()
    moved = desk.entry(right, entry, logical_id=entry.id)
    assert desk.send(right, [moved], previous="2").status == "Success"
    assert desk.node.found(patient, DEPRECATED).ids == {version.id}
    assert desk.state(patient, version.id, DEPRECATED, APPROVED).codes == ["XDSMetadataVersionError"]


# bad input -----------------------------------------------------------------------------------------------------------


def _refusals(desk: Desk, patient: str, entry: Entry, other: str, foreign: Entry) -> dict[str, tuple[Answer, str]]:
    version, own = desk.entry(patient, entry), peer.urn()
    changed = desk.entry(patient, entry, unique_id=peer.oid())
    two = [desk.entry(patient, entry), desk.entry(patient, entry, unique_id=peer.oid())]
    unknown = desk.entry(patient, entry, logical_id=peer.urn())
    return {
        "not the newest": (desk.send(patient, [version], previous="7"), "XDSMetadataVersionError"),
        "no version": (desk.send(patient, [version], previous=None), "XDSMetadataUpdateError"),
        "version no number": (desk.send(patient, [version], previous="one"), "XDSMetadataUpdateError"),
        "propagation perhaps": (desk.send(patient, [version], propagate="maybe"), "XDSMetadataUpdateError"),
        "unknown logicalID": (desk.send(patient, [unknown]), "XDSMetadataVersionError"),
        "first version": (desk.send(patient, [desk.node.entry(patient)]), "XDSMetadataUpdateError"),
        "another uniqueId": (desk.send(patient, [changed]), "XDSMetadataUpdateError"),
        "two of one": (desk.send(patient, two), "XDSMetadataUpdateError"),
        "another type": (
            desk.send(patient, [desk.entry(patient, entry, object_type=peer.ON_DEMAND, with_hash=False,
                                           creation_time="")]),
            "XDSMetadataUpdateError",
        ),
        "not in the set": (
            desk.send(patient, associations=[version.xml(), member(peer.urn(), version.id)]),
            "XDSMetadataUpdateError",
        ),
        "incomplete": (
            desk.send(patient, [desk.entry(patient, entry, without=frozenset({"classCode"}))]),
            "XDSRegistryMetadataError",
        ),
        "unknown patient": (
            desk.send(peer.number() + other[other.index("^"):], [version]), "XDSUnknownPatientId"),
        "nothing asked": (desk.send(patient), "XDSMetadataUpdateOperationError"),
        "a plain association": (
            desk.send(patient, associations=[association("APND", entry.id, foreign.id)]),
            "XDSMetadataUpdateOperationError",
        ),
        "status of what is not there": (desk.state(patient, peer.urn()), "UnresolvedReferenceException"),
        "status of another patient's": (desk.state(patient, foreign.id), "XDSPatientIDReconciliationError"),
        "status without slots": (
            desk.send(patient, associations=[association("UpdateAvailabilityStatus", own, entry.id)], own=own),
            "XDSMetadataUpdateError",
        ),
        "relation across patients": (
            desk.relate(patient, "APND", entry.id, foreign.id), "XDSPatientIDReconciliationError"),
        "relation to nothing": (desk.relate(patient, "APND", entry.id, peer.urn()), "UnresolvedReferenceException"),
        "relation to itself": (desk.relate(patient, "APND", entry.id, entry.id), "XDSMetadataUpdateError"),
        "membership of a document in itself": (
            desk.relate(patient, "HasMember", entry.id, entry.id), "XDSMetadataUpdateError"),
        "remove unknown": (desk.remove(entry.id, peer.urn()), "UnresolvedReferenceException"),
        "remove what is referred to": (desk.remove(entry.id), "ReferencesExistException"),
        "remove nothing": (desk.remove(), "XDSRegistryMetadataError"),
        "remove no UUID": (desk.remove("Document01"), "UnresolvedReferenceException"),
        "remove half": (
            desk.remove(entry.id, scope="urn:oasis:names:tc:ebxml-regrep:DeletionScopeType:DeleteRepositoryItemOnly"),
            "XDSRegistryMetadataError",
        ),
        "destroy elsewhere": (desk.destroy(entry.unique_id, repository="1.2.3"), "XDSUnknownRepositoryId"),
        "destroy unknown": (desk.destroy(peer.oid()), "XDSDocumentUniqueIdError"),
        "destroy nothing": (desk.destroy(), "XDSRepositoryError"),
        "restricted: a folder": (
            desk.send(patient, folders=[desk.node.folder(patient, logical_id=peer.urn())], key="restricted_update"),
            "XDSMetadataUpdateOperationError",
        ),
        "restricted: another uniqueId": (
            desk.send(patient, [changed], key="restricted_update"), "XDSMetadataIdentifierError"),
        "restricted: another patient": (
            desk.send(other, [desk.entry(other, entry)], key="restricted_update"), "XDSPatientIDReconciliationError"),
        "restricted: another repository": (
            desk.send(patient, [desk.entry(patient, entry, repository="1.2.3.4")], key="restricted_update"),
            "UnmodifiableMetadataError",
        ),
        "restricted: no version": (
            desk.send(patient, [version], previous=None, key="restricted_update"), "XDSMetadataAnnotationError"),
    }  # fmt: skip


def test_refusals_are_precise_and_change_nothing(desk: Desk) -> None:
    patient, entry, _ = registered(desk.node)
    other, foreign, _ = registered(desk.node)
    before = desk.rows()
    answers = _refusals(desk, patient, entry, other, foreign)
    wrong = {n: (a.status, a.codes) for n, (a, code) in answers.items() if a.status != "Failure" or code not in a.codes}
    assert not wrong
    assert all(
        location or code != "XDSMetadataVersionError" for a, _ in answers.values() for code, location, _ in a.errors
    )
    assert desk.rows() == before


@pytest.mark.parametrize("key", ["update", "restricted_update", "remove", "remove_documents"])
def test_faults_carry_the_action_of_faults(desk: Desk, key: str) -> None:
    answer = desk.node.soap(key, "<x/>", action="urn:ihe:iti:2010:NoSuchThing")
    assert answer.fault
    assert answer.header("Action") == f"{peer.WSA}/fault"
    answer = desk.node.soap(key, "<x/>")
    assert answer.status == "Failure"
    assert answer.header("Action") == f"{peer.ACTIONS[key]}Response"


def test_the_hash_of_a_document_that_is_stored_here_stays(desk: Desk) -> None:
    patient = desk.node.patient()
    entry = desk.node.entry(patient, content=b"bajty")
    desk.node.provided(desk.node.submission(patient, entry))
    wrong = desk.send(patient, [desk.entry(patient, entry, content=b"inne bajty")])
    assert wrong.codes == ["XDSNonIdenticalHash"]
    assert desk.send(patient, [desk.entry(patient, entry, title="Inny tytuł")]).status == "Success"
    assert desk.node.retrieve(entry.unique_id).documents == {entry.unique_id: b"bajty"}


# races ---------------------------------------------------------------------------------------------------------------


def at_once(*acts: Any) -> list[Any]:
    with ThreadPoolExecutor(len(acts)) as pool:
        return [f.result() for f in [pool.submit(act) for act in acts]]


def test_of_updates_from_one_version_one_wins(desk: Desk) -> None:
    for _ in range(5):
        patient, entry, _ = registered(desk.node)
        versions = [desk.entry(patient, entry, title=f"Poprawka {n}") for n in range(6)]
        answers = at_once(*(partial(desk.send, patient, [v]) for v in versions))
        assert sorted(a.status for a in answers) == ["Failure"] * 5 + ["Success"]
        assert {c for a in answers for c in a.codes} == {"XDSMetadataVersionError"}
        assert sorted(desk.versions(entry.id).values()) == [("1", "Deprecated"), ("2", "Approved")]


def test_updates_removals_and_registrations_leave_nothing_loose(desk: Desk) -> None:
    for _ in range(8):
        patient, entry, folder = registered(desk.node, folder=True)
        assert folder is not None
        addendum, joining = desk.node.entry(patient), desk.node.entry(patient)
        everything = [
            r[0] for r in desk.node.rows(
                "SELECT 'urn:uuid:' || entry_uuid FROM registry_object WHERE patient_key = (SELECT patient_key FROM "
                "object_locator WHERE entry_uuid = %s)", entry.id[9:])
        ]  # fmt: skip
        holds = association("HasMember", folder.id, joining.id)
        relates = association("APND", addendum.id, entry.id)
        newer = desk.node.folder(patient, unique_id=folder.unique_id, logical_id=folder.id)
        at_once(
            partial(desk.remove, *everything),
            partial(desk.send, patient, [desk.entry(patient, entry)]),
            partial(desk.state, patient, entry.id),
            partial(desk.send, patient, folders=[newer]),
            partial(desk.node.register, desk.node.submission(patient, addendum, associations=[relates])),
            partial(desk.node.register, desk.node.submission(patient, joining, associations=[holds])),
        )
        loose = desk.node.rows(
            "SELECT a.entry_uuid FROM association a WHERE NOT EXISTS (SELECT FROM object_locator l WHERE l.entry_uuid = "
            "a.source) OR NOT EXISTS (SELECT FROM object_locator l WHERE l.entry_uuid = a.target)"
        )
        assert loose == []
        several = desk.node.rows(
            "SELECT logical_id FROM document_entry WHERE NOT superseded AND status = 'A' "
            "GROUP BY logical_id HAVING count(*) > 1"
        )
        assert several == []
        # Whoever joined the folder is in its newest version.
        lost = desk.node.rows(
            "SELECT a.target FROM association a JOIN folder f ON f.entry_uuid = a.source AND f.superseded "
            "WHERE a.status = 'A' AND a.type = 'HasMember'"
        )
        assert lost == []


# removing ------------------------------------------------------------------------------------------------------------


def contents(node: Node, set_id: str) -> set[str]:
    found = node.query("GetSubmissionSetAndContents", XDSSubmissionSetEntryUUID=quoted(set_id)[1:-1], MetadataLevel="2")
    return found.ids


def test_removed_metadata_are_gone_and_may_come_again(desk: Desk) -> None:
    patient = desk.node.patient()
    entry = desk.node.entry(patient)
    submission = desk.node.registered(desk.node.submission(patient, entry))
    everything = contents(desk.node, submission.id)
    answer = desk.remove(*everything)
    assert answer.status == "Success", answer.errors
    assert desk.node.found(patient).ids == set()
    assert desk.remove(*everything).codes == ["UnresolvedReferenceException"]
    for table in ("object_locator", "unique_id_locator", "document_entry", "submission_set", "association"):
        where = "entry_uuid = ANY(%s::uuid[])"
        assert desk.node.rows(f"SELECT FROM {table} WHERE {where}", [u[9:] for u in everything]) == []
    desk.node.registered(submission)


def test_where_the_newest_version_is_removed_the_one_before_is_the_newest(desk: Desk) -> None:
    patient, entry, _ = registered(desk.node)
    own, version = peer.urn(), desk.entry(patient, entry)
    assert desk.send(patient, [version], own=own).status == "Success"
    assert desk.remove(*contents(desk.node, own)).status == "Success"
    assert desk.versions(entry.id, level="1") == {entry.id: ("1", "Deprecated")}
    assert desk.state(patient, entry.id, DEPRECATED, APPROVED).status == "Success"
    assert desk.send(patient, [desk.entry(patient, entry)]).status == "Success"
    assert sorted(desk.versions(entry.id).values()) == [("1", "Deprecated"), ("2", "Approved")]


def test_the_first_version_may_go_and_the_others_are_found(desk: Desk) -> None:
    patient = desk.node.patient()
    entry = desk.node.entry(patient)
    submission = desk.node.registered(desk.node.submission(patient, entry))
    version = desk.entry(patient, entry)
    assert desk.send(patient, [version]).status == "Success"
    assert desk.remove(*contents(desk.node, submission.id)).status == "Success"
    assert desk.versions(entry.id) == {version.id: ("2", "Approved")}
    assert desk.send(patient, [desk.entry(patient, entry)], previous="2").status == "Success"


def test_a_removed_document_is_unreadable_and_leaves_proof(desk: Desk) -> None:
    node = desk.node
    patient = node.patient()
    entries = [node.entry(patient, content=f"treść {n}".encode()) for n in range(2)]
    node.provided(node.submission(patient, *entries))
    first, second = entries
    since = node.last_audit()
    answer = desk.destroy(first.unique_id, peer.oid())
    assert (answer.status, answer.codes) == ("PartialSuccess", ["XDSDocumentUniqueIdError"])
    assert desk.destroy(first.unique_id).status == "Success"  # again
    retrieved = node.retrieve(first.unique_id, second.unique_id)
    assert (retrieved.status, set(retrieved.documents)) == ("PartialSuccess", {second.unique_id})
    assert node.rows("SELECT FROM stored_document WHERE unique_id = %s", first.unique_id) == []
    [(size, sha1, sha256, by, cx)] = node.rows(
        "SELECT size, sha1, sha256, removed_by, patient_id FROM removed_document WHERE unique_id = %s", first.unique_id
    )
    assert (size, sha1, bytes(sha256)) == (
        len(first.content), hashlib.sha1(first.content).hexdigest(), hashlib.sha256(first.content).digest()
    )  # fmt: skip
    assert by
    assert cx == patient
    assert [(t, o) for _, t, o, _ in node.audits(since)][:2] == [("ITI-86", 4), ("ITI-86", 0)]
    # The registry still says what it was.
    assert node.unique_ids(patient) == sorted(e.unique_id for e in entries)


def test_two_removals_at_once_leave_one_proof(desk: Desk) -> None:
    patient = desk.node.patient()
    entry = desk.node.entry(patient)
    desk.node.provided(desk.node.submission(patient, entry))
    answers = at_once(*[lambda: desk.destroy(entry.unique_id)] * 4)
    assert {a.status for a in answers} == {"Success"}
    assert desk.node.rows("SELECT count(*) FROM removed_document WHERE unique_id = %s", entry.unique_id) == [(1,)]


# outside the laboratory ----------------------------------------------------------------------------------------------


def test_outside_the_laboratory_nothing_goes(make_node: MakeNode) -> None:
    oids = [peer.oid() for _ in range(3)]
    identity = dict(zip(("home_community_id", "repository_unique_id", "assigning_authority"), oids, strict=True))
    bound = {"name": "szpital", "address": "127.0.0.1", "repository_unique_id": oids[1]}
    # A node that is known by its address reads in nobody's name.
    node = make_node("region", lab=False, identity=identity, nodes=[bound])
    desk = Desk(node)
    patient = node.patient()
    entry = node.entry(patient)
    submission = node.provided(node.submission(patient, entry))
    before = desk.rows()
    answers = [desk.remove(*contents(node, submission.id)), desk.destroy(entry.unique_id)]
    assert [(a.status, a.codes) for a in answers] == [("Failure", ["XDSRegistryError"])] * 2
    assert "must be kept until 2044-12-31" in answers[0].errors[0][2]
    assert desk.rows() == before
    assert node.retrieve(entry.unique_id).documents == {entry.unique_id: entry.content}
    # A node changes only what its own repositories registered.
    assert desk.send(patient, [desk.entry(patient, entry, title="Poprawiona")]).status == "Success"
    away = desk.send(patient, [desk.entry(patient, entry, repository="1.2.3")], previous="2")
    assert away.codes == ["XDSRegistryMetadataError"]


# history -------------------------------------------------------------------------------------------------------------


def told(node: Node, identifier: str, *arguments: str) -> str:
    command = [
        sys.executable,
        "-m",
        "obieg",
        "documents",
        "history",
        identifier,
        "--settings",
        node.endpoints["settings"],
    ]
    done = subprocess.run(
        [*command, *arguments], capture_output=True, check=False, timeout=60, env=os.environ | {"COLUMNS": "80"}
    )
    assert done.returncode == 0, done.stderr.decode()
    return done.stdout.decode()


def test_the_history_of_a_document(desk: Desk) -> None:
    node = desk.node
    patient = node.patient()
    entry = node.entry(patient, content=b"historia")
    first = node.provided(node.submission(patient, entry))
    version = desk.entry(patient, entry, title="Poprawiona")
    assert desk.send(patient, [version]).status == "Success"
    assert desk.state(patient, version.id).status == "Success"
    assert desk.state(patient, version.id, DEPRECATED, APPROVED).status == "Success"
    newer = node.entry(patient)
    replaces = association("RPLC", newer.id, version.id)
    node.registered(node.submission(patient, newer, associations=[replaces]))
    assert desk.destroy(entry.unique_id).status == "Success"
    acts = ["registered", "changed", "status changed", "status changed", "replaced", "document removed"]
    for identifier in (entry.unique_id, entry.id, version.id[9:]):
        events = json.loads(told(node, identifier, "--json"))
        assert [e["act"] for e in events] == acts
    registration, change, *_, replacement, removal = events
    assert (registration["transaction"], bool(registration["by"])) == ("ITI-41", True)
    assert first.unique_id in registration["detail"]
    assert (change["transaction"], change["version"]) == ("ITI-57", 2)
    titles = {d["attribute"]: (d["before"], d["after"]) for d in change["changed"]}
    assert titles["title"] == ("pl-PL; Karta informacyjna", "pl-PL; Poprawiona")
    assert titles["version"] == ("1", "2")
    assert newer.unique_id in replacement["detail"]
    assert hashlib.sha1(b"historia").hexdigest() in removal["detail"]
    text = told(node, entry.unique_id)
    assert "Karta informacyjna -> " in text
    assert "availabilityStatus: Approved -> Deprecated" in text


def test_the_history_outlives_the_metadata(desk: Desk) -> None:
    patient = desk.node.patient()
    entry = desk.node.entry(patient, title="Do usunięcia")
    submission = desk.node.registered(desk.node.submission(patient, entry))
    assert desk.remove(*contents(desk.node, submission.id)).status == "Success"
    for identifier in (entry.unique_id, entry.id):
        [event] = json.loads(told(desk.node, identifier, "--json"))
        assert (event["act"], event["transaction"], event["after"]) == ("removed", "ITI-62", None)
        assert event["before"]["title"] == [["pl-PL", "Do usunięcia"]]

"""What a registry keeps true whatever is submitted, in whatever order and however often at once."""

from __future__ import annotations

import re
import uuid
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from typing import Any

import peer
import pytest
from peer import (
    APPROVED,
    DEPRECATED,
    Answer,
    Entry,
    MakeNode,
    Node,
    association,
    identifier_of,
    quoted,
    slot_of,
    status_of,
)

pytestmark = pytest.mark.node

AT_ONCE = 20


def all_at_once(act: Callable[[Any], Answer], items: Iterable[Any]) -> list[Answer]:
    with ThreadPoolExecutor(AT_ONCE) as pool:
        return list(pool.map(act, items))


def statuses(answers: Sequence[Answer]) -> dict[str, int]:
    found = [a.status for a in answers]
    return {s: found.count(s) for s in set(found)}


def by_id(node: Node, *ids: str) -> dict[str, Any]:
    """DocumentEntries by entryUUID."""
    answer = node.query("GetDocuments", XDSDocumentEntryEntryUUID=quoted(*ids))
    assert answer.status == "Success", answer.errors
    return {e.get("id"): e for e in answer.entries}


def status(node: Node, entry: Entry) -> str:
    return status_of(by_id(node, entry.id)[entry.id])


# uniqueId --------------------------------------------------------------------------------------------------------


def test_same_unique_id_and_hash_is_a_second_entry(node: Node) -> None:
    patient = node.patient()
    one = node.entry(patient)
    two = node.entry(patient, unique_id=one.unique_id)
    node.provided(node.submission(patient, one))
    node.provided(node.submission(patient, two))
    assert node.unique_ids(patient) == [one.unique_id] * 2
    answer = node.query("GetDocuments", XDSDocumentEntryUniqueId=quoted(one.unique_id))
    assert answer.ids == {one.id, two.id}
    assert node.retrieve(one.unique_id).documents == {one.unique_id: one.content}


def test_same_unique_id_and_hash_of_another_patient(node: Node) -> None:
    mother, child = node.patient(), node.patient()
    one = node.entry(mother)
    two = node.entry(child, unique_id=one.unique_id)
    node.registered(node.submission(mother, one))
    node.registered(node.submission(child, two))
    assert node.found(mother).ids == {one.id}
    assert node.found(child).ids == {two.id}


@pytest.mark.parametrize("way", ["register", "provide"])
def test_same_unique_id_other_hash(node: Node, way: str) -> None:
    patient = node.patient()
    one = node.entry(patient)
    two = node.entry(patient, unique_id=one.unique_id, content=b"inna tresc")
    act = getattr(node, way)
    assert act(node.submission(patient, one)).status == "Success"
    before = node.stored()
    answer = act(node.submission(patient, two))
    assert [(c, w) for c, w, _ in answer.errors] == [("XDSNonIdenticalHash", f"DocumentEntry {two.id}: hash")]
    assert node.stored() == before
    if way == "provide":
        assert node.retrieve(one.unique_id).documents == {one.unique_id: one.content}


def test_set_and_folder_have_unique_ids_of_their_own(node: Node) -> None:
    patient = node.patient()
    folder = node.folder(patient)
    first = node.registered(node.submission(patient, node.entry(patient), folders=[folder]))
    again = node.folder(patient, unique_id=folder.unique_id)
    second = node.submission(patient, node.entry(patient), folders=[again], unique_id=first.unique_id)
    answer = node.register(second)
    assert sorted((c, w) for c, w, _ in answer.errors) == [
        ("XDSDuplicateUniqueIdInRegistry", f"Folder {again.id}: uniqueId"),
        ("XDSDuplicateUniqueIdInRegistry", f"SubmissionSet {second.id}: uniqueId"),
    ]


def test_one_unique_id_twice_in_a_message(node: Node) -> None:
    patient = node.patient()
    one = node.entry(patient)
    answer = node.register(node.submission(patient, one, node.entry(patient, unique_id=one.unique_id)))
    assert answer.codes == ["XDSRegistryDuplicateUniqueIdInMessage"]


def test_an_entry_uuid_is_taken_once(node: Node) -> None:
    patient = node.patient()
    one = node.entry(patient)
    node.registered(node.submission(patient, one))
    answer = node.register(node.submission(patient, node.entry(patient, id=one.id)))
    assert [(c, w) for c, w, _ in answer.errors] == [("XDSRegistryMetadataError", one.id)]


# repetition ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("way", ["register", "provide"])
@pytest.mark.parametrize("symbolic", [False, True])
def test_a_repeated_submission_is_stored_once(node: Node, way: str, symbolic: bool) -> None:
    patient = node.patient()
    names = {"id": "Document01"} if symbolic else {}
    submission = node.submission(
        patient, node.entry(patient, **names), **({"id": "SubmissionSet01"} if symbolic else {})
    )
    act = getattr(node, way)
    assert act(submission).status == "Success"
    before, last = node.stored(), node.last_audit()
    for _ in range(3):
        assert act(submission).status == "Success"
    assert node.stored() == before
    assert [outcome for _, _, outcome, _ in node.audits(last)] == [0, 0, 0]


@pytest.mark.parametrize("way", ["register", "provide"])
def test_a_submission_sent_many_times_at_once_is_stored_once(node: Node, way: str) -> None:
    patient = node.patient()
    submission = node.submission(patient, node.entry(patient), folders=[node.folder(patient)])
    answers = all_at_once(getattr(node, way), [submission] * AT_ONCE)
    assert statuses(answers) == {"Success": AT_ONCE}
    assert node.found(patient).ids == {submission.entries[0].id}


def test_a_repeated_replacement_is_stored_once(node: Node) -> None:
    """It is at odds with nothing but its own first time."""
    patient = node.patient()
    old, new = node.entry(patient), node.entry(patient)
    node.registered(node.submission(patient, old))
    submission = node.submission(patient, new, associations=[association("RPLC", new.id, old.id)])
    answers = [node.register(submission), *all_at_once(node.register, [submission] * AT_ONCE)]
    assert statuses(answers) == {"Success": AT_ONCE + 1}
    assert node.found(patient).ids == {new.id}


def test_a_submission_with_one_difference_is_no_repetition(node: Node) -> None:
    patient = node.patient()
    entry = node.entry(patient)
    submission = node.registered(node.submission(patient, entry))
    entry.title = "inny tytul"
    assert "XDSDuplicateUniqueIdInRegistry" in node.register(submission).codes


# races -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("way", ["register", "provide"])
def test_one_unique_id_with_many_hashes_at_once(node: Node, way: str) -> None:
    patient = node.patient()
    unique_id = peer.oid()
    entries = [node.entry(patient, unique_id=unique_id, content=b"tresc %d" % i) for i in range(AT_ONCE)]
    answers = all_at_once(getattr(node, way), [node.submission(patient, e) for e in entries])
    assert statuses(answers) == {"Success": 1, "Failure": AT_ONCE - 1}
    assert {code for a in answers for code in a.codes} == {"XDSNonIdenticalHash"}
    won = entries[[a.status for a in answers].index("Success")]
    assert node.found(patient).ids == {won.id}
    if way == "provide":
        assert node.retrieve(unique_id).documents == {unique_id: won.content}


def test_one_document_replaced_many_times_at_once(node: Node) -> None:
    patient = node.patient()
    old = node.entry(patient)
    node.registered(node.submission(patient, old))
    new = [node.entry(patient) for _ in range(AT_ONCE)]
    answers = all_at_once(
        node.register, [node.submission(patient, e, associations=[association("RPLC", e.id, old.id)]) for e in new]
    )
    assert statuses(answers) == {"Success": 1, "Failure": AT_ONCE - 1}
    assert {code for a in answers for code in a.codes} == {"XDSRegistryDeprecatedDocumentError"}
    won = new[[a.status for a in answers].index("Success")]
    assert node.found(patient).ids == {won.id}
    assert node.found(patient, DEPRECATED).ids == {old.id}


def test_addenda_while_their_document_is_replaced(node: Node) -> None:
    """No addendum to a document that is deprecated stays approved, whichever came first."""
    patient = node.patient()
    old, new = node.entry(patient), node.entry(patient)
    node.registered(node.submission(patient, old))
    addenda = [node.entry(patient) for _ in range(AT_ONCE - 1)]
    submissions = [node.submission(patient, a, associations=[association("APND", a.id, old.id)]) for a in addenda]
    submissions.insert(5, node.submission(patient, new, associations=[association("RPLC", new.id, old.id)]))
    answers = all_at_once(node.register, submissions)
    assert answers[5].status == "Success"
    assert node.found(patient).ids == {new.id}


def test_folders_and_sets_at_once(node: Node) -> None:
    patient = node.patient()
    unique_id = peer.oid()
    folders = [node.folder(patient, unique_id=unique_id) for _ in range(AT_ONCE)]
    answers = all_at_once(node.register, [node.submission(patient, folders=[f]) for f in folders])
    assert statuses(answers) == {"Success": 1, "Failure": AT_ONCE - 1}
    assert {code for a in answers for code in a.codes} == {"XDSDuplicateUniqueIdInRegistry"}


# associations ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["RPLC", "XFRM_RPLC"])
def test_a_replacement_takes_addenda_and_transformations_with_it(node: Node, kind: str) -> None:
    patient = node.patient()
    old, addendum, translation, of_addendum, signature, new = (node.entry(patient) for _ in range(6))
    node.registered(node.submission(patient, old))
    for child, relation, parent in (
        (addendum, "APND", old),
        (translation, "XFRM", old),
        (of_addendum, "APND", addendum),
        (signature, "signs", old),
    ):
        node.registered(node.submission(patient, child, associations=[association(relation, child.id, parent.id)]))
    assert len(node.found(patient).ids) == 5
    node.registered(node.submission(patient, new, associations=[association(kind, new.id, old.id)]))
    assert node.found(patient).ids == {new.id, signature.id}
    assert node.found(patient, DEPRECATED).ids == {old.id, addendum.id, translation.id, of_addendum.id}


@pytest.mark.parametrize("kind", ["RPLC", "XFRM_RPLC", "APND", "XFRM", "signs"])
def test_nothing_relates_to_a_deprecated_document(node: Node, kind: str) -> None:
    patient = node.patient()
    old, new, late = (node.entry(patient) for _ in range(3))
    node.registered(node.submission(patient, old))
    node.registered(node.submission(patient, new, associations=[association("RPLC", new.id, old.id)]))
    relation = association(kind, late.id, old.id)
    answer = node.register(node.submission(patient, late, associations=[relation]))
    assert answer.codes == ["XDSRegistryDeprecatedDocumentError"]
    assert re.match(r"Association urn:uuid:", answer.errors[0][1])
    assert node.found(patient).ids == {new.id}


def test_relations_to_what_is_not_there_or_not_his(node: Node) -> None:
    patient, other = node.patient(), node.patient()
    theirs, mine, folder = node.entry(other), node.entry(patient), node.folder(patient)
    node.registered(node.submission(other, theirs))
    node.registered(node.submission(patient, folders=[folder]))
    for target, code in (
        (peer.urn(), "UnresolvedReferenceException"),
        ("Document99", "UnresolvedReferenceException"),
        (theirs.id, "XDSPatientIdDoesNotMatch"),
        (folder.id, "XDSRegistryMetadataError"),
    ):
        answer = node.register(node.submission(patient, mine, associations=[association("RPLC", mine.id, target)]))
        assert answer.codes == [code], target
    assert status(node, theirs) == "Approved"


def test_patients_of_one_submission_agree(node: Node) -> None:
    patient, other = node.patient(), node.patient()
    answer = node.register(node.submission(patient, node.entry(other), folders=[node.folder(other)]))
    assert [c for c, _, _ in answer.errors] == ["XDSPatientIdDoesNotMatch"] * 2


# folders ---------------------------------------------------------------------------------------------------------


def folder_of(node: Node, folder: peer.Folder) -> Any:
    return node.query("GetFolders", XDSFolderEntryUUID=quoted(folder.id)).folders[0]


def test_a_replacement_joins_the_folders_of_what_it_replaces(node: Node) -> None:
    patient = node.patient()
    old, new, one, two = node.entry(patient), node.entry(patient), node.folder(patient), node.folder(patient)
    membership = peer.urn()
    submission = node.submission(
        patient,
        old,
        folders=[one, two],
        associations=[
            association("HasMember", one.id, old.id, id=membership),
            association("HasMember", two.id, old.id),
        ],
    )
    submission.associations = [*submission.associations, association("HasMember", submission.id, membership)]
    node.registered(submission)
    replacement = node.registered(node.submission(patient, new, associations=[association("RPLC", new.id, old.id)]))
    for folder in (one, two):
        answer = node.query("GetFolderAndContents", XDSFolderEntryUUID=quoted(folder.id)[1:-1])
        assert {e.get("id") for e in answer.entries} == {old.id, new.id}
        joined = [a for a in answer.associations if a.get("targetObject") == new.id]
        assert [a.get("sourceObject") for a in joined] == [folder.id]
        # The new membership belongs to the submission that caused it.
        owners = node.query("GetAssociations", uuid=quoted(joined[0].get("id")))
        assert [a.get("sourceObject") for a in owners.associations] == [replacement.id]
    answer = node.query("GetFoldersForDocument", XDSDocumentEntryEntryUUID=quoted(new.id)[1:-1])
    assert answer.ids == {one.id, two.id}


def test_last_update_time_is_the_registrys(node: Node) -> None:
    patient = node.patient()
    folder, entry, late = node.folder(patient), node.entry(patient), node.entry(patient)
    before = datetime.now(UTC).strftime("%Y%m%d%H%M%S")
    node.registered(node.submission(patient, entry, folders=[folder]))
    [first] = slot_of(folder_of(node, folder), "lastUpdateTime")
    assert before <= first <= datetime.now(UTC).strftime("%Y%m%d%H%M%S")
    node.rows("UPDATE folder SET last_update_time = '20010101000000' WHERE entry_uuid = %s RETURNING 1", folder.id[9:])
    assert slot_of(folder_of(node, folder), "lastUpdateTime") == ["20010101000000"]
    node.registered(node.submission(patient, late, associations=[association("HasMember", folder.id, late.id)]))
    assert slot_of(folder_of(node, folder), "lastUpdateTime") >= [first]
    assert node.query("GetFolders", XDSFolderUniqueId=quoted(folder.unique_id)).ids == {folder.id}


def test_an_existing_document_is_put_into_a_folder(node: Node) -> None:
    patient = node.patient()
    folder, entry = node.folder(patient), node.entry(patient)
    node.registered(node.submission(patient, entry, folders=[folder]))
    node.registered(node.submission(patient, associations=[association("HasMember", folder.id, entry.id)]))
    answer = node.query("GetFolderAndContents", XDSFolderUniqueId=quoted(folder.unique_id)[1:-1])
    assert {e.get("id") for e in answer.entries} == {entry.id}


# ids -------------------------------------------------------------------------------------------------------------


def test_symbols_become_uuids_everywhere(node: Node) -> None:
    patient = node.patient()
    entry, folder = node.entry(patient, id="Document01"), node.folder(patient, id="Folder01")
    submission = node.submission(
        patient,
        entry,
        folders=[folder],
        id="SubmissionSet01",
        associations=[
            association("HasMember", "Folder01", "Document01", id="Membership01"),
            association("HasMember", "SubmissionSet01", "Membership01", id="as04"),
        ],
    )
    node.registered(submission)
    answer = node.query("GetSubmissionSetAndContents", XDSSubmissionSetUniqueId=quoted(submission.unique_id)[1:-1])
    assert (len(answer.sets), len(answer.entries), len(answer.folders)) == (1, 1, 1)
    assert len(answer.associations) == 4
    for symbol in ("Document01", "Folder01", "SubmissionSet01", "Membership01", "as04"):
        assert symbol.encode() not in answer.raw
    pattern = re.compile(r"urn:uuid:[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}\Z")
    for element in answer.body.iter():
        for name in ("id", "lid", "classifiedObject", "registryObject", "sourceObject", "targetObject"):
            if element.get(name) is not None:
                assert pattern.match(element.get(name)), (name, element.get(name))
    inner = [e.get("id") for e in answer.body.iter() if e.get("id")]
    assert len(inner) == len(set(inner))
    for thing in (*answer.entries, *answer.folders):
        assert thing.get("lid") == thing.get("id")


def test_the_case_of_uuids_does_not_matter(node: Node) -> None:
    patient = node.patient()
    capital = f"urn:uuid:{str(uuid.uuid4()).upper()}"
    entry, new = node.entry(patient, id=capital), node.entry(patient)
    node.registered(node.submission(patient, entry, id=f"urn:uuid:{str(uuid.uuid4()).upper()}"))
    assert node.found(patient).ids == {capital.lower()}
    assert set(by_id(node, capital)) == {capital.lower()}
    node.registered(node.submission(patient, new, associations=[association("RPLC", new.id, capital)]))
    assert status(node, Entry(node.codes, patient, id=capital.lower())) == "Deprecated"


def test_home_community_id_stands_everywhere(node: Node) -> None:
    patient = node.patient()
    entry = node.entry(patient)
    node.provided(node.submission(patient, entry, folders=[node.folder(patient)]))
    parameters = {
        "patientId": quoted(patient)[1:-1],
        **{f"XDS{n}Status": quoted(APPROVED) for n in ("DocumentEntry", "SubmissionSet", "Folder")},
    }
    for returns in ("LeafClass", "ObjectRef"):
        answer = node.query("GetAll", returns, **parameters)
        objects = list(answer.body.find(f"{{{peer.RIM}}}RegistryObjectList"))
        assert len(objects) == 5
        assert {o.get("home") for o in objects} == {node.home}
    answer = node.retrieve(entry.unique_id, home=node.home)
    assert answer.documents == {entry.unique_id: entry.content}
    assert answer.body.findtext(f".//{{{peer.XDSB}}}HomeCommunityId") == node.home
    named = node.query("GetDocuments", XDSDocumentEntryEntryUUID=quoted(entry.id), homeCommunityId=f"'{node.home}'")
    assert named.ids == {entry.id}


# patients --------------------------------------------------------------------------------------------------------


def test_merged_patients(node: Node) -> None:
    survivor, old, oldest = node.patient(), node.patient(), node.patient()
    entries = {p: node.entry(p) for p in (survivor, old, oldest)}
    folders = {p: node.folder(p) for p in entries}
    sets = {p: node.provided(node.submission(p, e, folders=[folders[p]])) for p, e in entries.items()}
    assert node.feed("A40", old, oldest) == "AA"
    assert node.feed("A40", survivor, old) == "AA"

    for gone in (old, oldest):
        assert node.found(gone).ids == set()
        assert node.found(gone, returns="ObjectRef").ids == set()
        everything = {
            "patientId": quoted(gone)[1:-1],
            **{f"XDS{n}Status": quoted(APPROVED) for n in ("DocumentEntry", "SubmissionSet", "Folder")},
        }
        assert node.query("GetAll", **everything).ids == set()
        assert node.register(node.submission(gone, node.entry(gone))).codes == ["XDSUnknownPatientId"]
        assert node.provide(node.submission(gone, node.entry(gone))).codes == ["XDSUnknownPatientId"]

    found = node.found(survivor)
    assert found.ids == {e.id for e in entries.values()}
    assert {identifier_of(e, "entryPatient") for e in found.entries} == {survivor}
    named = {"XDSFolderPatientId": quoted(survivor)[1:-1], "XDSFolderStatus": quoted(APPROVED)}
    answer = node.query("FindFolders", **named)
    assert answer.ids == {f.id for f in folders.values()}
    assert {identifier_of(f, "folderPatient") for f in answer.folders} == {survivor}
    named = {"XDSSubmissionSetPatientId": quoted(survivor)[1:-1], "XDSSubmissionSetStatus": quoted(APPROVED)}
    answer = node.query("FindSubmissionSets", **named)
    assert answer.ids == {s.id for s in sets.values()}
    assert {identifier_of(s, "setPatient") for s in answer.sets} == {survivor}
    answer = node.query("GetDocuments", XDSDocumentEntryEntryUUID=quoted(*(e.id for e in entries.values())))
    assert {identifier_of(e, "entryPatient") for e in answer.entries} == {survivor}
    for entry in entries.values():
        assert node.retrieve(entry.unique_id).documents == {entry.unique_id: entry.content}

    new = node.entry(survivor)
    membership = association("HasMember", folders[oldest].id, new.id)
    node.registered(
        node.submission(survivor, new, associations=[association("RPLC", new.id, entries[oldest].id), membership])
    )
    assert node.found(survivor).ids == {entries[survivor].id, entries[old].id, new.id}
    assert node.found(survivor, DEPRECATED).ids == {entries[oldest].id}
    answer = node.query("GetFolderAndContents", XDSFolderEntryUUID=quoted(folders[oldest].id)[1:-1])
    assert new.id in answer.ids
    related = node.query(
        "GetRelatedDocuments",
        XDSDocumentEntryEntryUUID=quoted(new.id)[1:-1],
        AssociationTypes=quoted(peer.ASSOCIATIONS["RPLC"]),
    )
    assert {e.get("id") for e in related.entries} == {new.id, entries[oldest].id}


def test_registering_while_the_patient_is_merged(node: Node) -> None:
    """A submission comes before the merge or after it; either way nothing is left that nobody can find."""
    survivor, old = node.patient(), node.patient()

    def act(number: int) -> str:
        if number == 7:
            return node.feed("A40", survivor, old)
        return node.register(node.submission(old, node.entry(old))).status

    with ThreadPoolExecutor(AT_ONCE) as pool:
        outcomes = list(pool.map(act, range(AT_ONCE)))
    assert outcomes[7] == "AA"
    assert node.found(old).ids == set()
    assert len(node.found(survivor).ids) == outcomes.count("Success")


def test_an_answer_about_two_patients(node: Node) -> None:
    one, two = node.patient(), node.patient()
    first, second = node.entry(one), node.entry(two)
    node.registered(node.submission(one, first))
    node.registered(node.submission(two, second))
    both = {"XDSDocumentEntryEntryUUID": quoted(first.id, second.id)}
    assert node.query("GetDocuments", **both).codes == ["XDSResultNotSinglePatient"]
    assert node.query("GetDocuments", "ObjectRef", **both).ids == {first.id, second.id}
    assert node.feed("A40", one, two) == "AA"
    assert node.query("GetDocuments", **both).ids == {first.id, second.id}


# limited metadata ------------------------------------------------------------------------------------------------


def limited(node: Node, patient: str) -> Entry:
    return node.entry(
        patient,
        limited=True,
        language="",
        creation_time="",
        source_patient="",
        without=frozenset(
            {"classCode", "typeCode", "formatCode", "confidentialityCode", "healthcareFacilityTypeCode"}
            | {"practiceSettingCode"}
        ),
    )


def test_limited_metadata_is_refused_unless_allowed(node: Node, make_node: MakeNode) -> None:
    patient = node.patient()
    answer = node.provide(node.submission(patient, limited(node, patient)))
    assert "XDSRegistryMetadataError" in answer.codes
    assert any("limited metadata" in text for _, _, text in answer.errors)

    allowing = make_node("limited", affinity_domain={"allow_limited_metadata": True})
    patient = allowing.patient()
    entry = limited(allowing, patient)
    allowing.provided(allowing.submission(patient, entry))
    assert not allowing.found(patient).entries  # what is not whole is not for those who ask by ITI-18
    assert not allowing.query("GetDocuments", XDSDocumentEntryUniqueId=f"('{entry.unique_id}')").entries
    [(rendering,)] = allowing.rows("SELECT ebrim FROM document_entry WHERE unique_id = %s", entry.unique_id)
    assert peer.LIMITED_ENTRY.encode() in rendering
    assert allowing.retrieve(entry.unique_id).documents == {entry.unique_id: entry.content}
    entry = limited(allowing, patient)
    entry.limited = False
    assert allowing.provide(allowing.submission(patient, entry)).status == "Failure"
    nothing_leads_to_limited_metadata(allowing)


def nothing_leads_to_limited_metadata(node: Node) -> None:
    """Whoever is not shown an entry is not shown what leads to it, nor what leads there."""
    patient = node.patient()
    whole, hidden, folder = node.entry(patient), limited(node, patient), node.folder(patient)
    own, held = peer.urn(), [peer.urn(), peer.urn()]
    links = [
        association("HasMember", folder.id, whole.id, id=held[0]),
        association("HasMember", folder.id, hidden.id, id=held[1]),
        *(association("HasMember", own, of) for of in held),
        association("APND", hidden.id, whole.id),
    ]
    given = node.submission(patient, whole, hidden, folders=[folder], associations=links, id=own)
    node.provided(given)
    shown = {(own, whole.id), (own, folder.id), (folder.id, whole.id), (own, held[0])}

    def ends(name: str, **asked: str) -> set[tuple[str, str]]:
        answer = node.query(name, **asked)
        assert hidden.id not in answer.ids
        return {(a.get("sourceObject"), a.get("targetObject")) for a in answer.associations}

    approved = {f"XDS{kind}Status": quoted(APPROVED) for kind in ("DocumentEntry", "SubmissionSet", "Folder")}
    assert ends("GetAll", patientId=quoted(patient)[1:-1], **approved) == shown
    assert ends("GetAssociations", uuid=quoted(own, folder.id, whole.id, hidden.id)) == shown
    assert ends("GetSubmissionSetAndContents", XDSSubmissionSetEntryUUID=quoted(own)[1:-1]) == shown
    of_whole = {(own, whole.id), (folder.id, whole.id)}
    assert ends("GetDocumentsAndAssociations", XDSDocumentEntryEntryUUID=quoted(whole.id, hidden.id)) == of_whole
    assert ends("GetSubmissionSets", uuid=quoted(whole.id, hidden.id)) == {(own, whole.id)}


# what queries find -----------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def archive(node: Node) -> dict[str, Entry]:
    """One patient's documents, by name."""
    if min(len(node.codes.of(name)) for name in ("eventCodeList", "confidentialityCode")) < 3:
        pytest.skip("the laboratory's own affinity domain has too few codes for this; ../shared has more")
    patient = node.patient()
    event, level = (lambda i: node.codes("eventCodeList", i)), (lambda i: node.codes("confidentialityCode", i))
    entries = {
        "year": node.entry(patient, creation_time="2024"),
        "second": node.entry(
            patient, creation_time="20240101000000", service_start="20240101", service_stop="20240102"
        ),
        "later": node.entry(patient, creation_time="20240101000001"),
        "june": node.entry(patient, creation_time="202406"),
        "a": node.entry(patient, events=[event(0)], confidentiality=[level(0)]),
        "ab": node.entry(patient, events=[event(0), event(1)], confidentiality=[level(0), level(1)]),
        "c": node.entry(patient, events=[event(2)], confidentiality=[level(2)]),
        "referred": node.entry(patient, references=["R1^^^&1.2.3&ISO^urn:x:order", "R2^^^&1.2.3&ISO^urn:x:order"]),
        "referred too": node.entry(patient, references=["R2^^^&1.2.3&ISO^urn:x:order"]),
        "percent": node.entry(patient, authors=["^100%_Pewny^Jan"]),
        "slash": node.entry(patient, authors=["^Smith \\T\\ Syn^Adam"]),
        "quote": node.entry(patient, authors=["^O'Hara^Kate", "^Żółć^Gęśla"]),
        "long": node.entry(patient, authors=["7654321^Maj^Ewa^^^lek.^^^&2.16.840.1.113883.3.4424.1.6.2&ISO"]),
        "on demand": node.entry(
            patient, object_type=peer.ON_DEMAND, creation_time="", with_hash=False, content=b"", authors=["^Maj^Ewa"]
        ),
    }
    for entry in entries.values():
        node.registered(node.submission(patient, entry))
    return entries


def names(node: Node, archive: dict[str, Entry], **parameters: Any) -> set[str]:
    patient = next(iter(archive.values())).patient
    by_uuid = {e.id: name for name, e in archive.items()}
    found = node.found(patient, **parameters).ids
    assert node.found(patient, returns="ObjectRef", **parameters).ids == found
    return {by_uuid[i] for i in found}


TIMED = {"year", "second", "later", "june"}


@pytest.mark.parametrize(
    ("since", "until", "expected"),
    [
        ("20240101000000", "20240101000001", {"year", "second"}),  # from is part of the range, to is not
        ("20240101000001", "2025", {"later", "june"}),
        ("2024", "20240101", set()),
        ("2024", "202406", {"year", "second", "later"}),
        ("202406", "202407", {"june"}),
        ("20240601000001", "2025", set()),
        ("", "20240101000001", {"year", "second"}),
        ("20240101000001", "20240101000001", set()),
    ],
)
def test_ranges_of_time(node: Node, archive: dict[str, Entry], since: str, until: str, expected: set[str]) -> None:
    times = {"CreationTimeFrom": since, "CreationTimeTo": until}
    for style in ("'{}'", "{}"):
        given = {k: style.format(v) for k, v in times.items() if v}
        assert names(node, archive, **given) & TIMED == expected


def test_ranges_of_service_time(node: Node, archive: dict[str, Entry]) -> None:
    assert names(node, archive, ServiceStartTimeFrom="'20240101'") == {"second"}
    assert names(node, archive, ServiceStopTimeTo="'20240102'") == set()
    assert names(node, archive, ServiceStopTimeTo="'20240102000001'") == {"second"}


@pytest.mark.parametrize(
    ("pattern", "expected"),
    [
        ("%Maj^Ewa%", {"long"}),
        ("^O'Hara^Kate", {"quote"}),
        ("^O_Hara%", {"quote"}),
        ("%Żółć%", {"quote"}),
        ("%żółć%", set()),
        ("^____^%", {"quote"}),
        ("^Smith \\T\\ Syn^Adam", {"slash"}),
        ("%\\T\\%", {"slash"}),
        ("%\\", set()),
        ("^100%_Pewny^Jan", {"percent"}),
        ("O'Hara", set()),
        ("%", None),
    ],
)
def test_wildcards_of_author(node: Node, archive: dict[str, Entry], pattern: str, expected: set[str] | None) -> None:
    found = names(node, archive, AuthorPerson=quoted(pattern))
    assert found == (set(archive) - {"on demand"} if expected is None else expected)


def test_several_authors_are_any_of_them(node: Node, archive: dict[str, Entry]) -> None:
    assert names(node, archive, AuthorPerson=quoted("%Maj%", "%Żółć%")) == {"long", "quote"}


@pytest.mark.parametrize("attribute", ["EventCodeList", "ConfidentialityCode"])
def test_and_and_or_of_codes(node: Node, archive: dict[str, Entry], attribute: str) -> None:
    listed = attribute[0].lower() + attribute[1:]
    a, b, c = ("^^".join(node.codes(listed, i)) for i in range(3))
    mine = {"a", "ab", "c"}
    for groups, expected in (
        ([quoted(a)], {"a", "ab"}),
        ([quoted(b, c)], {"ab", "c"}),
        ([quoted(a), quoted(b)], {"ab"}),
        ([quoted(a, c), quoted(b, c)], {"ab", "c"}),
        ([quoted(a), quoted(c)], set()),
        ([quoted("a^^1.2.3")], set()),
    ):
        assert names(node, archive, **{attribute: groups}) & mine == expected, groups


def test_a_list_in_several_values_of_one_slot_is_one_or(node: Node, archive: dict[str, Entry]) -> None:
    a, c = ("^^".join(node.codes("eventCodeList", i)) for i in (0, 2))
    body = peer.stored_query(
        "FindDocuments",
        "ObjectRef",
        XDSDocumentEntryPatientId=quoted(archive["a"].patient)[1:-1],
        XDSDocumentEntryStatus=quoted(APPROVED),
    ).replace(
        "</rim:AdhocQuery>", peer.slot("$XDSDocumentEntryEventCodeList", quoted(a), quoted(c)) + "</rim:AdhocQuery>"
    )
    assert node.soap("registry", body).ids == {archive[n].id for n in ("a", "ab", "c")}


def test_reference_ids(node: Node, archive: dict[str, Entry]) -> None:
    one, two = "R1^^^&1.2.3&ISO^urn:x:order", "R2^^^&1.2.3&ISO^urn:x:order"
    for groups, expected in (
        (quoted(one), {"referred"}),
        (quoted(two), {"referred", "referred too"}),
        ([quoted(one), quoted(two)], {"referred"}),
        (quoted("R3^^^&1.2.3&ISO^urn:x:order"), set()),
    ):
        answer = node.query(
            "FindDocumentsByReferenceId",
            XDSDocumentEntryPatientId=quoted(archive["a"].patient)[1:-1],
            XDSDocumentEntryStatus=quoted(APPROVED),
            XDSDocumentEntryReferenceIdList=groups,
        )
        assert answer.ids == {archive[n].id for n in expected}


def test_on_demand_entries_only_when_asked_for(node: Node, archive: dict[str, Entry]) -> None:
    assert "on demand" not in names(node, archive)
    assert names(node, archive, Type=quoted(peer.ON_DEMAND)) == {"on demand"}
    assert names(node, archive, Type=quoted(peer.ON_DEMAND, peer.STABLE)) == set(archive)
    [entry] = node.found(archive["a"].patient, Type=quoted(peer.ON_DEMAND)).entries
    assert entry.get("objectType") == peer.ON_DEMAND


def test_what_was_submitted_is_what_is_found(node: Node, archive: dict[str, Entry]) -> None:
    for name, entry in archive.items():
        [found] = by_id(node, entry.id).values()
        assert identifier_of(found, "entryPatient") == entry.patient, name
        assert identifier_of(found, "entryUnique") == entry.unique_id
        assert slot_of(found, "creationTime") == ([entry.creation_time] if entry.creation_time else [])
        assert slot_of(found, "repositoryUniqueId") == [node.repository]
        assert slot_of(found, "urn:ihe:iti:xds:2013:referenceIdList") == list(entry.references)
        authors = [
            slot_of(c, "authorPerson")
            for c in found.iterfind(f"{{{peer.RIM}}}Classification")
            if c.get("classificationScheme") == peer.SCHEMES["author"]
        ]
        assert authors == [[a] for a in entry.authors]
        assert found.get("mimeType") == entry.mime_type
        assert status_of(found) == "Approved"

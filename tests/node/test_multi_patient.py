"""ITI-51 and the stored queries that change proposals added (ITI TF-2:3.51.4.1.2)."""

from __future__ import annotations

import re
from typing import Any

import peer
import pytest
from peer import APPROVED, ON_DEMAND, STABLE, MakeNode, Node, quoted

pytestmark = pytest.mark.node

STATUS = {"XDSDocumentEntryStatus": quoted(APPROVED)}
PATIENT_OF = {"D": "entryPatient", "F": "folderPatient"}


def several(node: Node, *patients: str, returns: str = "LeafClass", **more: str) -> Any:
    who = {"XDSDocumentEntryPatientId": quoted(*patients)} if patients else {}
    answer = node.query_of_several("FindDocumentsForMultiplePatients", returns, **who, **STATUS, **more)
    assert answer.status == "Success", answer.errors or answer.fault
    return answer


def with_documents(node: Node, count: int, **changes: Any) -> tuple[str, set[str]]:
    """A patient, and their documents."""
    patient = node.patient()
    entries = [node.entry(patient, **changes) for _ in range(count)]
    for entry in entries:
        node.registered(node.submission(patient, entry))
    return patient, {e.id for e in entries}


def test_documents_of_several(node: Node) -> None:
    (one, of_one), (two, of_two), (nobody, _) = (with_documents(node, n) for n in (2, 1, 0))
    since = node.last_audit()
    answer = several(node, one, two, nobody, "1^^^&1.2.3&ISO", one)
    assert answer.ids == of_one | of_two
    found = {e.get("id"): peer.identifier_of(e, "entryPatient") for e in answer.entries}
    assert found == {**dict.fromkeys(of_one, one), **dict.fromkeys(of_two, two)}

    # Everybody's log has a record of its own, which names nobody else.
    records = node.audits(since)
    assert [(t, o) for _, t, o, _ in records] == [("ITI-51", 0)] * 4
    named = [re.findall(r'ParticipantObjectID="([^"]*)" ParticipantObjectTypeCode="1"', m) for *_, m in records]
    assert sorted(n.replace("&amp;", "&") for [n] in named) == sorted([one, two, nobody, "1^^^&1.2.3&ISO"])
    assert all('csd-code="ITI-51"' in message for *_, message in records)

    references = several(node, one, two, returns="ObjectRef")
    assert references.ids == of_one | of_two
    assert not references.entries


def test_documents_of_many_patients(node: Node) -> None:
    """More than are asked about in one round trip."""
    made = [with_documents(node, 1) for _ in range(3)]
    strangers = [f"{n}^^^&{node.endpoints['assigning_authority']}&ISO" for n in range(150)]
    patients = [*strangers[:70], made[0][0], *strangers[70:], made[1][0], made[2][0]]
    assert several(node, *patients).ids == set().union(*(ids for _, ids in made))


def test_one_of_two_who_are_one(node: Node) -> None:
    (one, of_one), (two, of_two) = (with_documents(node, 1) for _ in range(2))
    assert node.feed("A40", one, two) == "AA"
    answer = several(node, one, two)
    assert answer.ids == of_one | of_two
    assert {peer.identifier_of(e, "entryPatient") for e in answer.entries} == {one}


def test_filters(node: Node) -> None:
    codes = node.codes
    one, of_one = with_documents(node, 1, references=["R1^^^&1.2.3&ISO^urn:x:order"])
    two, _ = with_documents(node, 1, references=["R2^^^&1.2.3&ISO^urn:x:order"])
    on_demand = node.entry(two, object_type=ON_DEMAND, creation_time="", with_hash=False)
    node.registered(node.submission(two, on_demand))
    assert several(node, one, two, XDSDocumentEntryType=quoted(ON_DEMAND)).ids == {on_demand.id}
    assert len(several(node, one, two, XDSDocumentEntryType=quoted(ON_DEMAND, STABLE)).ids) == 3
    assert several(node, one, two, XDSDocumentEntryClassCode=quoted("no^^such")).ids == set()
    assert len(several(node, one, two, XDSDocumentEntryClassCode=quoted("^^".join(codes("classCode")))).ids) == 2
    answer = node.query_of_several(
        "FindDocumentsByReferenceIdForMultiplePatients",
        XDSDocumentEntryPatientId=quoted(one, two),
        XDSDocumentEntryReferenceIdList=quoted("R1^^^&1.2.3&ISO^urn:x:order"),
        **STATUS,
    )
    assert answer.ids == of_one


@pytest.fixture(scope="module")
def small(make_node: MakeNode) -> Node:
    """A node that answers little at once, with nothing on it."""
    return make_node("small", limits={"results_max": 5})


def test_everybody(small: Node) -> None:
    event, reference = small.codes("eventCodeList"), "R^^^&1.2.3&ISO^urn:x:order"
    one, of_one = with_documents(small, 1, events=[event], references=[reference])
    two, of_two = with_documents(small, 1, events=[event])
    third, _ = with_documents(small, 1)
    since = small.last_audit()
    answer = several(small, XDSDocumentEntryEventCodeList=quoted("^^".join(event)))
    assert answer.ids == of_one | of_two
    messages = [m.replace("&amp;", "&") for _, t, _, m in small.audits(since) if t == "ITI-51"]
    assert sorted(p for m in messages for p in (one, two, third) if p in m) == sorted([one, two])
    assert len(messages) == 2
    answer = small.query_of_several(
        "FindDocumentsByReferenceIdForMultiplePatients", XDSDocumentEntryReferenceIdList=quoted(reference), **STATUS
    )
    assert answer.ids == of_one

    since = small.last_audit()
    assert several(small, XDSDocumentEntryClassCode=quoted("no^^such")).ids == set()
    assert [(t, o) for _, t, o, _ in small.audits(since)] == [("ITI-51", 0)]


def test_too_many(small: Node) -> None:
    patients = [with_documents(small, 2)[0] for _ in range(3)]
    who = {"XDSDocumentEntryPatientId": quoted(*patients)}
    since = small.last_audit()
    answer = small.query_of_several("FindDocumentsForMultiplePatients", **who, **STATUS)
    assert (answer.status, answer.codes) == ("Failure", ["XDSTooManyResults"])
    assert [(t, o) for _, t, o, _ in small.audits(since)] == [("ITI-51", 4)], "nobody is recorded as answered"
    assert len(several(small, *patients[:2]).ids) == 4


def test_folders_of_several(node: Node) -> None:
    made = {}
    for title in ("Ciąża", "Nadciśnienie"):
        patient = node.patient()
        folder = node.folder(patient, title=title)
        node.registered(node.submission(patient, folders=[folder]))
        made[patient] = folder.id
    one, two = made
    status = {"XDSFolderStatus": quoted(APPROVED)}
    name = "FindFoldersForMultiplePatients"
    answer = node.query_of_several(name, XDSFolderPatientId=quoted(one, two), **status)
    assert {f.get("id"): peer.identifier_of(f, "folderPatient") for f in answer.folders} == {
        made[one]: one, made[two]: two,
    }  # fmt: skip
    code = "^^".join(node.codes("folderCodeList"))
    everybody = node.query_of_several(name, XDSFolderCodeList=quoted(code), **status)
    assert everybody.ids >= set(made.values())
    assert node.query_of_several(name, **status).codes == ["XDSStoredQueryMissingParam"]


def test_each_transaction_has_its_own_queries(node: Node) -> None:
    patient = node.patient()
    who = {"XDSDocumentEntryPatientId": quoted(patient), **STATUS}
    assert node.query_of_several("FindDocuments", **who).codes == ["XDSUnknownStoredQuery"]
    assert node.query("FindDocumentsForMultiplePatients", **who).codes == ["XDSUnknownStoredQuery"]
    assert node.query_of_several("FindDocumentsForMultiplePatients", **STATUS).codes == ["XDSStoredQueryMissingParam"]


def test_by_title_and_institution(node: Node) -> None:
    patient = node.patient()
    titles = {"Karta informacyjna": "", "Karta 100% zgody": "", "Wynik": "", "karta": ""}
    for title in titles:
        entry = node.entry(patient, title=title)
        node.registered(node.submission(patient, entry))
        titles[title] = entry.id

    def found(*patterns: str, **more: str) -> set[str]:
        answer = node.query(
            "FindDocumentsByTitle",
            XDSDocumentEntryPatientId=quoted(patient)[1:-1],
            XDSDocumentEntryTitle=quoted(*patterns),
            **STATUS,
            **more,
        )
        assert answer.status == "Success", answer.errors
        return {title for title, id_ in titles.items() if id_ in answer.ids}

    assert found("Karta%") == {"Karta informacyjna", "Karta 100% zgody"}
    assert found("_arta", "Wynik") == {"karta", "Wynik"}
    assert found("Wyni") == set()
    assert found("Wynik", XDSDocumentEntryAuthorInstitution=quoted("Szpital%")) == set()


def test_excluding(node: Node) -> None:
    patient = node.patient()
    classes, events = node.codes, [node.codes("eventCodeList", n) for n in (0, 1)]
    made = {
        "plain": node.entry(patient),
        "other": node.entry(patient, class_code=classes("classCode", 1)),
        "one": node.entry(patient, events=[events[0]], references=["R^^^&1.2.3&ISO^urn:x:order"]),
        "both": node.entry(patient, events=events, authors=["^Maj^Ewa"]),
    }
    for entry in made.values():
        node.registered(node.submission(patient, entry))
    limited = node.entry(patient, object_type=ON_DEMAND, creation_time="", with_hash=False)
    node.registered(node.submission(patient, limited))

    def left(**excluded: Any) -> set[str]:
        parameters = {f"XDSDocumentEntry{name}Exclude": value for name, value in excluded.items()}
        answer = node.query(
            "00000000-0000-4000-8000-00000000000e",
            XDSDocumentEntryPatientId=quoted(patient)[1:-1],
            **STATUS,
            **parameters,
        )
        assert answer.status == "Success", answer.errors
        return {name for name, entry in made.items() if entry.id in answer.ids} | (
            {"on demand"} if limited.id in answer.ids else set()
        )

    first, second = ("^^".join(e) for e in events)
    assert left(ClassCode=quoted("^^".join(classes("classCode", 1)))) == {"plain", "one", "both"}
    assert left(ClassCode=quoted("no^^such")) == set(made)
    assert left(EventCodeList=quoted(first, second)) == {"plain", "other"}
    assert left(EventCodeList=[quoted(first), quoted(second)]) == {"plain", "other", "one"}
    assert left(ReferenceIdList=quoted("R^^^&1.2.3&ISO^urn:x:order")) == {"plain", "other", "both"}
    assert left(AuthorPerson=quoted("%Maj%")) == {"plain", "other", "one"}
    assert left(Type=quoted(STABLE)) == {"on demand"}

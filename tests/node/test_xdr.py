"""The Document Recipient: documents for this very node, and what its people do with them (XDR, ITI TF-1:15)."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import peer
import pytest
from lxml import etree
from peer import ON_DEMAND, RIM, Entry, MakeNode, Node, Submission

import commanding

pytestmark = pytest.mark.node

STRANGER = "4711^^^&1.2.3.4.5&ISO"
Obieg = Callable[..., str]


@pytest.fixture(scope="module")
def hospital(make_node: MakeNode) -> Node:
    """A node whose inbox is empty at first."""
    return make_node("recipient")


@pytest.fixture
def inbox(hospital: Node, tmp_path: Path) -> Obieg:
    """``obieg inbox``; what it prints."""

    def run(*arguments: str, fails: bool = False) -> str:
        environment = {**peer.free_environment(), "COLUMNS": "200"}
        words = ("inbox", *arguments, "--settings", hospital.endpoints["settings"])
        done = commanding.obieg(*words, folder=tmp_path, environment=environment)
        assert (done.returncode != 0) == fails, done.stdout + done.stderr
        return done.stderr if fails else done.stdout

    return run


def sent(node: Node, *entries: Entry, patient: str = STRANGER, **more: Any) -> Submission:
    submission = node.submission(patient, *entries, **more)
    answer = node.provide(submission, "xdr")
    assert answer.status == "Success", answer.errors or answer.fault
    assert answer.mtom
    return submission


def number_of(node: Node, submission: Submission) -> str:
    [(number,)] = node.rows("SELECT inbox_id FROM inbox_submission WHERE unique_id = %s", submission.unique_id)
    return str(number)


def refused(node: Node, submission: Submission) -> list[str]:
    before = held(node)
    answer = node.provide(submission, "xdr")
    assert answer.status == "Failure"
    assert held(node) == before
    return answer.codes


def held(node: Node) -> tuple[int, int]:
    """Submissions and documents in the inbox."""
    [(submissions, documents)] = node.rows(
        "SELECT (SELECT count(*) FROM inbox_submission),"
        " (SELECT count(*) FROM stored_document WHERE repository_unique_id = 'inbox')"
    )
    return submissions, documents


def test_what_came_is_taken_as_a_folder(hospital: Node, inbox: Obieg, tmp_path: Path) -> None:
    contents = [b"<ClinicalDocument/>", bytes(range(256)) * 9000]
    entries = [
        hospital.entry(
            STRANGER, content=contents[0], mime_type="text/xml", type_code=("obcy", "1.2.3.4"), title="Wypis"
        ),
        hospital.entry(STRANGER, content=contents[1], mime_type="application/x-unknown", title=""),
    ]
    since = hospital.last_audit()
    slots = peer.slot("intendedRecipient", "Oddział Wewnętrzny^^^^^^^^^1.2.3|^Nowak^Jan|")
    submission = sent(hospital, *entries, more_slots=slots)
    [(_, transaction, outcome, message)] = hospital.audits(since)
    assert (transaction, outcome) == ("ITI-41", 0)
    assert submission.unique_id in message
    # It is in the inbox only.
    assert hospital.retrieve(entries[0].unique_id).codes == ["XDSDocumentUniqueIdError"]
    assert hospital.retrieve(entries[0].unique_id, repository="inbox").codes == ["XDSUnknownRepositoryId"]
    assert hospital.query("GetDocuments", XDSDocumentEntryUniqueId=peer.quoted(entries[0].unique_id)).ids == set()

    number = number_of(hospital, submission)
    assert STRANGER in inbox("list")
    shown = inbox("show", number)
    assert "Oddział Wewnętrzny^^^^^^^^^1.2.3|^Nowak^Jan|" in shown
    assert "DOC0001.XML  Wypis" in shown
    assert f"DOC0002.BIN\n    application/x-unknown, {256 * 9000} bytes" in shown

    assert inbox("take", number, "--to", str(tmp_path / "out")) == f"{tmp_path / 'out' / number}\n"
    folder = tmp_path / "out" / number
    assert sorted(p.name for p in folder.parent.iterdir()) == [number]
    assert {p.name: p.read_bytes() for p in folder.glob("DOC*")} == {
        "DOC0001.XML": contents[0], "DOC0002.BIN": contents[1],
    }  # fmt: skip
    metadata = etree.parse(folder / "METADATA.XML").getroot()
    found = {peer.slot_of(e, "URI")[0]: peer.slot_of(e, "hash")[0] for e in metadata.iter(f"{{{RIM}}}ExtrinsicObject")}
    assert found == {p.name: hashlib.sha1(p.read_bytes()).hexdigest() for p in folder.glob("DOC*")}

    assert inbox("take", "--all", "--to", str(tmp_path / "again")) == "nothing to take\n"
    assert STRANGER not in inbox("list")
    assert STRANGER in inbox("list", "--all")
    assert inbox("drop", number) == "1 dropped\n"
    assert held(hospital) == (0, 0)
    assert "Not in the inbox" in inbox("show", number, fails=True)
    assert "Not in the inbox" in inbox("drop", number, fails=True)


def test_a_repetition_is_kept_once(hospital: Node) -> None:
    entry = hospital.entry(STRANGER)
    submission = sent(hospital, entry)
    before = held(hospital)
    since = hospital.last_audit()
    assert hospital.provide(submission, "xdr").status == "Success"
    assert held(hospital) == before
    assert [(t, o) for _, t, o, _ in hospital.audits(since)] == [("ITI-41", 0)]
    assert refused(hospital, replace(submission, author="^Inny^Jan")) == ["XDSDuplicateUniqueIdInRegistry"]
    other = hospital.entry(STRANGER, unique_id=entry.unique_id, content=b"inna tresc")
    assert refused(hospital, hospital.submission(STRANGER, other)) == ["XDSNonIdenticalHash"]


def test_one_document_in_two_submissions(hospital: Node, inbox: Obieg, tmp_path: Path) -> None:
    entry = hospital.entry(STRANGER)
    first = sent(hospital, entry)
    second = sent(hospital, replace(entry, id=peer.urn()))
    inbox("drop", number_of(hospital, first))
    number = number_of(hospital, second)
    inbox("take", number, "--to", str(tmp_path))
    assert (tmp_path / number / "DOC0001.TXT").read_bytes() == entry.content


def test_nothing_that_stands_in_the_folder_is_overwritten(hospital: Node, inbox: Obieg, tmp_path: Path) -> None:
    number = number_of(hospital, sent(hospital, hospital.entry(STRANGER)))
    (tmp_path / number).mkdir()
    assert "exists" in inbox("take", number, "--to", str(tmp_path), fails=True)
    assert number in inbox("list").split()
    (tmp_path / number).rmdir()
    for _ in range(2):  # the second time it is there already
        inbox("take", number, "--to", str(tmp_path))
    assert number not in inbox("list").split()


def test_limited_metadata(hospital: Node) -> None:
    entry = hospital.entry(
        "",
        limited=True,
        creation_time="",
        language="",
        source_patient="",
        title="",
        authors=(),
        without=frozenset(
            {"classCode", "typeCode", "formatCode", "healthcareFacilityTypeCode", "practiceSettingCode",
             "confidentialityCode"}
        ),
    )  # fmt: skip
    full = hospital.submission(STRANGER, entry)
    assert hospital.provide(full, "xdr").status == "Success"
    # The same without being marked as limited.
    assert refused(hospital, hospital.submission(STRANGER, replace(entry, limited=False, unique_id=peer.oid()))) == [
        "XDSRegistryMetadataError"
    ]


def test_several_at_once(hospital: Node) -> None:
    submission = hospital.submission(STRANGER, hospital.entry(STRANGER), hospital.entry(STRANGER))
    before = held(hospital)
    with ThreadPoolExecutor(6) as pool:
        answers = list(pool.map(lambda _: hospital.provide(submission, "xdr").status, range(6)))
    assert answers == ["Success"] * 6
    assert held(hospital) == (before[0] + 1, before[1] + 2)


def test_what_is_wrong_is_refused(hospital: Node) -> None:
    def wrong(**changes: Any) -> list[str]:
        return refused(hospital, hospital.submission(STRANGER, hospital.entry(STRANGER, **changes)))

    assert wrong(hash="0" * 40) == ["XDSRepositoryMetadataError"]
    assert wrong(creation_time="20241301") == ["XDSRegistryMetadataError"]
    assert "XDSRegistryMetadataError" in wrong(object_type=ON_DEMAND, creation_time="", with_hash=False)
    entry = hospital.entry(STRANGER)
    body = hospital.submission(STRANGER, entry).provided("")
    assert hospital.mtom("xdr", body).codes == ["XDSMissingDocument"]
    inline = hospital.submission(STRANGER, entry).provided(peer.inline(entry.id, entry.content))
    assert "MTOM" in hospital.soap("xdr", inline).fault
    assert hospital.mtom("xdr", inline).status == "Success"
    assert hospital.mtom("xdr", inline, action=peer.ACTIONS["retrieve"]).fault_subcode == "wsa:ActionNotSupported"

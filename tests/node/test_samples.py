"""Every official PIK HL7 CDA sample goes in with metadata derived from its header and comes out byte for byte."""

from __future__ import annotations

import hashlib
import uuid
from datetime import UTC, datetime
from pathlib import Path

import peer
import pytest
from lxml import etree
from peer import ACTIONS, SHARED, Node, identifier_of, include, slot_of, status_of

from obieg.mapping import ebrs, pik
from obieg.mapping.ebrim import IdSource

pytestmark = pytest.mark.node

FOLDER = SHARED / "data" / "p1" / "paczos+sim" / "transformata_hl7"
SAMPLES = sorted(FOLDER.glob("*.xml"))
V3 = {"v": "urn:hl7-org:v3"}


def provide(node: Node, patient: str, content: bytes) -> peer.Answer:
    """ITI-41 as a source would send it that derives the metadata with this library."""
    described = pik.describe_cda(
        content,
        patient_id=patient,
        source_id="2.25.71",
        now=datetime(2024, 1, 2, 3, 4, 5, tzinfo=UTC),
        new_uuid=uuid.uuid4,
    )
    submission = pik.submission(described, new_uuid=uuid.uuid4)
    objects = ebrs.write_submit_objects(submission, IdSource(str(uuid.uuid4()))).decode()
    body = (
        f'<x:ProvideAndRegisterDocumentSetRequest xmlns:x="{peer.XDSB}">{objects}'
        f"{include(described.entry.entry_uuid, 'document@peer')}</x:ProvideAndRegisterDocumentSetRequest>"
    )
    return node.mtom("repository", body, [("document@peer", content)], action=ACTIONS["repository"])


def test_the_samples_are_there() -> None:
    if not FOLDER.is_dir():
        pytest.skip("the official samples (../shared/data/p1) are not beside this repository")
    assert len(SAMPLES) >= 30


@pytest.mark.parametrize("path", SAMPLES, ids=lambda p: p.stem.rpartition(".10.1.")[2])
def test_a_sample_goes_in_and_comes_out(polish_node: Node, path: Path) -> None:
    node = polish_node
    node.forget()  # many samples carry the same id
    content = path.read_bytes()
    patient = node.patient()
    answer = provide(node, patient, content)
    assert answer.status == "Success", answer.errors or answer.fault

    [entry] = node.found(patient).entries
    document = etree.fromstring(content)
    [identifier] = document.xpath("v:id", namespaces=V3)
    unique_id = "^".join(v for v in (identifier.get("root"), identifier.get("extension")) if v)
    assert identifier_of(entry, "entryUnique") == unique_id
    assert identifier_of(entry, "entryPatient") == patient
    assert entry.get("mimeType") == "text/xml"
    assert status_of(entry) == "Approved"
    assert slot_of(entry, "hash") == [hashlib.sha1(content).hexdigest()]
    assert slot_of(entry, "size") == [str(len(content))]
    assert slot_of(entry, "repositoryUniqueId") == [node.repository]
    title = document.findtext("v:title", namespaces=V3)
    shown = [s.get("value") for s in entry.iterfind(f"{{{peer.RIM}}}Name/{{{peer.RIM}}}LocalizedString")]
    if title and title.strip():
        assert shown == [" ".join(title.split())]

    assert node.retrieve(unique_id).documents == {unique_id: content}


def test_samples_that_share_an_id_are_different_documents(polish_node: Node) -> None:
    """The registry tells them apart by their bytes and refuses the second, which its source should have numbered anew."""
    by_id: dict[str, list[Path]] = {}
    for path in SAMPLES:
        [identifier] = etree.parse(path).xpath("/*/v:id", namespaces=V3)
        by_id.setdefault(f"{identifier.get('root')}^{identifier.get('extension')}", []).append(path)
    shared_ids = [paths for paths in by_id.values() if len(paths) > 1]
    if not shared_ids:
        pytest.skip("no two samples share an id")
    polish_node.forget()
    first, second = shared_ids[0][:2]
    patient = polish_node.patient()
    assert provide(polish_node, patient, first.read_bytes()).status == "Success"
    assert provide(polish_node, patient, second.read_bytes()).codes == ["XDSNonIdenticalHash"]


def test_a_sample_sent_again_is_the_same_document(polish_node: Node) -> None:
    """Bytes that are stored already are a second entry, not a second document."""
    if not SAMPLES:
        pytest.skip("the official samples (../shared/data/p1) are not beside this repository")
    content = SAMPLES[0].read_bytes()
    polish_node.forget()
    patients = [polish_node.patient() for _ in range(2)]
    for patient in patients:
        assert provide(polish_node, patient, content).status == "Success"
    [first], [second] = (polish_node.unique_ids(p) for p in patients)
    assert first == second
    assert polish_node.retrieve(first).documents == {first: content}
    [(copies,)] = polish_node.rows("SELECT count(*) FROM stored_document WHERE unique_id = %s", first)
    assert copies == 1

"""Every message that we emit is valid against the official schemas.

Every answer that any test of this folder gets is checked when it arrives (``conftest._validate``); here are the kinds
that no other test would be sure to bring about, and the messages that go the other way.
"""

from __future__ import annotations

import base64
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import peer
import pytest
from lxml import etree
from peer import APPROVED, DEPRECATED, SHARED, XSD_FOLDER, Answer, Entry, Node, association, quoted, xds_schema

from obieg.domain.problems import Finding
from obieg.mapping import ebrs
from obieg.mapping.ebrim import IdSource

pytestmark = pytest.mark.node

AUDIT_SAMPLES = SHARED / "data" / "ihe" / "ipf" / "commons" / "audit" / "src" / "test" / "resources" / "audit"
ENVELOPE_XSD = (
    SHARED / "data" / "ihe" / "ipf-wsdl" / "commons" / "ihe" / "hl7v3" / "src" / "main" / "resources" / "schema"
    / "soap-1.2-envelope.xsd"
)  # fmt: skip


@pytest.fixture(scope="module", autouse=True)
def _schemas_are_there() -> None:
    if not XSD_FOLDER.is_dir():
        pytest.skip("the official schemas (../shared/data/ihe/ipf-wsdl) are not beside this repository")


@pytest.fixture(scope="module")
def envelope_schema() -> etree.XMLSchema:
    return etree.XMLSchema(etree.parse(ENVELOPE_XSD))


@pytest.fixture(scope="module")
def history(node: Node) -> tuple[str, dict[str, str]]:
    """A patient to whom everything has happened, and the ids of objects of each kind."""
    patient = node.patient()
    old = node.entry(
        patient,
        title='Tytuł "w cudzysłowie" & <znaki>',
        comments="dwie\nlinie",
        events=[node.codes("eventCodeList")],
        references=["R^^^&1.2&ISO^urn:x"],
        more_slots=peer.slot("urn:example:extra", "a", "b"),
        service_start="2024",
    )
    folder = node.folder(patient)
    submission = node.submission(
        patient,
        old,
        folders=[folder],
        associations=[association("HasMember", folder.id, old.id)],
        more_slots=peer.slot("urn:example:extra", "a"),
    )
    node.provided(submission)
    documentation = (
        f'<rim:Classification id="{peer.urn()}" classificationScheme="urn:uuid:abd807a3-4432-4053-87b4-fd82c643d1f3" '
        f'classifiedObject="as01" nodeRepresentation="{node.codes("associationDocumentation")[0]}">'
        f"{peer.slot('codingScheme', node.codes('associationDocumentation')[1])}{peer.localized('Name', 'x')}"
        "</rim:Classification>"
    )
    new, addendum = node.entry(patient), node.entry(patient)
    node.provided(node.submission(patient, new, associations=[association("RPLC", new.id, old.id)]))
    node.provided(
        node.submission(
            patient, addendum, associations=[association("APND", addendum.id, new.id, id="as01", more=documentation)]
        )
    )
    on_demand = node.entry(patient, object_type=peer.ON_DEMAND, creation_time="", with_hash=False)
    node.registered(node.submission(patient, on_demand))
    return patient, {
        "document": new.id,
        "document_unique": old.unique_id,
        "folder": folder.id,
        "folder_unique": folder.unique_id,
        "set": submission.id,
        "set_unique": submission.unique_id,
    }


def queries(patient: str, ids: dict[str, str]) -> Iterator[tuple[str, dict[str, Any]]]:
    """Each stored query, by each of its ways to name things."""
    who = quoted(patient)[1:-1]
    both = quoted(APPROVED, DEPRECATED)
    types = quoted(peer.STABLE, peer.ON_DEMAND)
    entry = {"XDSDocumentEntryPatientId": who, "XDSDocumentEntryStatus": both, "XDSDocumentEntryType": types}
    yield "FindDocuments", entry
    yield "FindDocumentsByReferenceId", {**entry, "XDSDocumentEntryReferenceIdList": quoted("R^^^&1.2&ISO^urn:x")}
    yield "FindDocumentsByTitle", {**entry, "XDSDocumentEntryTitle": quoted("%")}
    of_several = {**entry, "XDSDocumentEntryPatientId": quoted(patient)}
    yield "FindDocumentsForMultiplePatients", of_several
    reference = {"XDSDocumentEntryReferenceIdList": quoted("R^^^&1.2&ISO^urn:x")}
    yield "FindDocumentsByReferenceIdForMultiplePatients", {**of_several, **reference}
    yield "FindFoldersForMultiplePatients", {"XDSFolderPatientId": quoted(patient), "XDSFolderStatus": both}
    yield "FindSubmissionSets", {"XDSSubmissionSetPatientId": who, "XDSSubmissionSetStatus": both}
    yield "FindFolders", {"XDSFolderPatientId": who, "XDSFolderStatus": both}
    statuses = {f"XDS{kind}Status": both for kind in ("DocumentEntry", "SubmissionSet", "Folder")}
    yield "GetAll", {"patientId": who, "XDSDocumentEntryType": types, **statuses}
    yield "GetDocuments", {"XDSDocumentEntryEntryUUID": quoted(ids["document"])}
    yield "GetDocuments", {"XDSDocumentEntryUniqueId": quoted(ids["document_unique"])}
    yield "GetDocuments", {"XDSDocumentEntryLogicalID": quoted(ids["document"])}
    yield "GetFolders", {"XDSFolderEntryUUID": quoted(ids["folder"])}
    yield "GetFolders", {"XDSFolderUniqueId": quoted(ids["folder_unique"])}
    yield "GetFolders", {"XDSFolderLogicalID": quoted(ids["folder"])}
    yield "GetAssociations", {"uuid": quoted(ids["document"])}
    yield "GetDocumentsAndAssociations", {"XDSDocumentEntryEntryUUID": quoted(ids["document"])}
    yield "GetDocumentsAndAssociations", {"XDSDocumentEntryUniqueId": quoted(ids["document_unique"])}
    yield "GetSubmissionSets", {"uuid": quoted(ids["document"])}
    yield "GetSubmissionSetAndContents", {"XDSSubmissionSetEntryUUID": quoted(ids["set"])[1:-1]}
    yield "GetSubmissionSetAndContents", {"XDSSubmissionSetUniqueId": quoted(ids["set_unique"])[1:-1]}
    yield "GetFolderAndContents", {"XDSFolderEntryUUID": quoted(ids["folder"])[1:-1]}
    yield "GetFolderAndContents", {"XDSFolderUniqueId": quoted(ids["folder_unique"])[1:-1]}
    yield "GetFoldersForDocument", {"XDSDocumentEntryEntryUUID": quoted(ids["document"])[1:-1]}
    yield "GetFoldersForDocument", {"XDSDocumentEntryUniqueId": quoted(ids["document_unique"])[1:-1]}
    related = {"AssociationTypes": quoted(*peer.ASSOCIATIONS.values())}
    yield "GetRelatedDocuments", {"XDSDocumentEntryEntryUUID": quoted(ids["document"])[1:-1], **related}
    yield "GetRelatedDocuments", {"XDSDocumentEntryUniqueId": quoted(ids["document_unique"])[1:-1], **related}


def valid_envelope(answer: Answer, schema: etree.XMLSchema) -> None:
    assert schema.validate(answer.envelope), schema.error_log.last_error
    assert answer.header("Action")
    assert answer.header("RelatesTo")


def test_all_stored_queries(node: Node, history: tuple[str, dict[str, str]], envelope_schema: etree.XMLSchema) -> None:
    asked = set()
    for name, parameters in queries(*history):
        ask = node.query_of_several if "MultiplePatients" in name else node.query
        leaves, references = (ask(name, returns, **parameters) for returns in ("LeafClass", "ObjectRef"))
        for answer in (leaves, references):
            assert answer.status == "Success", (name, answer.errors)
            valid_envelope(answer, envelope_schema)
        assert leaves.ids, (name, parameters)
        assert leaves.ids == references.ids, (name, parameters)
        objects = list(references.body.find(f"{{{peer.RIM}}}RegistryObjectList"))
        assert {o.tag for o in objects} == {f"{{{peer.RIM}}}ObjectRef"}
        asked.add(name)
    assert asked == set(peer.QUERIES)


def test_a_folder_follows_its_replaced_document(node: Node, history: tuple[str, dict[str, str]]) -> None:
    _, ids = history
    answer = node.query("GetFoldersForDocument", XDSDocumentEntryEntryUUID=quoted(ids["document"])[1:-1])
    assert answer.ids == {ids["folder"]}


def test_answers_with_errors(node: Node, envelope_schema: etree.XMLSchema) -> None:
    patient = node.patient()
    bad = node.entry(patient, class_code=('"<&>', "1.2"), language="", hash="x", title="x" * 5000)
    many = node.provide(node.submission(patient, bad, node.entry("nobody")))
    assert many.status == "Failure"
    assert len(many.errors) > 4
    refusals = [
        many,
        node.register(node.submission("nobody", node.entry("nobody"))),
        node.query("FindDocuments"),
        node.query("00000000-0000-0000-0000-000000000000"),
        node.retrieve("1.2.3"),
        node.soap("register", "<x/>"),
        node.soap("registry", "<x/>"),
        node.mtom("repository", "<x/>"),
        node.mtom("retrieve", "<x/>"),
        node.mtom("xdr", "<x/>"),
        node.soap("registry", "<x/>", action=peer.MULTI_PATIENT_ACTION),
        node.soap("register", "<x/>", action=peer.REGISTER_ON_DEMAND_ACTION),
    ]
    for answer in refusals:
        assert answer.status == "Failure", answer.errors
        assert answer.errors
        valid_envelope(answer, envelope_schema)


def test_retrievals(node: Node, envelope_schema: etree.XMLSchema) -> None:
    patient = node.patient()
    entries = [node.entry(patient), node.entry(patient)]
    node.provided(node.submission(patient, *entries))
    ids = [e.unique_id for e in entries]
    for answer, status in (
        (node.retrieve(*ids), "Success"),
        (node.retrieve(*ids, home=node.home), "Success"),
        (node.retrieve(*ids, "1.2.3"), "PartialSuccess"),
        (node.retrieve("1.2.3"), "Failure"),
    ):
        assert answer.status == status
        valid_envelope(answer, envelope_schema)


def test_faults(node: Node, envelope_schema: etree.XMLSchema) -> None:
    answers = [
        node.soap("register", "<x/>", action="urn:x"),
        node.soap("repository", "<x/>"),
        node.soap("registry", "<x/>", more='<x:y xmlns:x="urn:x" s:mustUnderstand="1"/>'),
        node.post("registry", b"<x/>", "application/soap+xml"),
        node.post("registry", b"", "text/plain"),
    ]
    for answer in answers:
        assert answer.fault
        assert envelope_schema.validate(answer.envelope), envelope_schema.error_log.last_error


def test_what_a_repository_sends(node: Node) -> None:
    """ITI-42 as this node would send it on for each of these submissions."""
    schema = xds_schema()
    patient = node.patient()
    folder, entry = node.folder(patient), node.entry(patient, references=["R^^^&1.2&ISO^urn:x"])
    for submission in (
        node.submission(patient, entry),
        node.submission(patient, entry, folders=[folder], associations=[association("HasMember", folder.id, entry.id)]),
        node.submission(patient, node.entry(patient, object_type=peer.ON_DEMAND)),
        node.submission(patient, node.entry(patient, limited=True), more_slots=peer.slot("urn:x:y", "z")),
        node.submission(patient, entry, associations=[association("RPLC", entry.id, peer.urn())]),
    ):
        findings: list[Finding] = []
        read = ebrs.read_submit_objects(etree.fromstring(submission.request()), findings)
        assert read is not None
        assert not findings
        sent = etree.fromstring(ebrs.write_submit_objects(read, IdSource(str(uuid.uuid4()))))
        assert schema.validate(sent), schema.error_log.last_error
        again = ebrs.read_submit_objects(sent, findings)
        assert again is not None
        assert not findings
        assert again.submission_set == read.submission_set


def test_the_peer_writes_valid_requests(node: Node) -> None:
    """Otherwise its other tests would prove nothing."""
    schema = xds_schema()
    patient = node.patient()
    entry: Entry = node.entry(patient)
    requests = [
        node.submission(patient, entry, folders=[node.folder(patient)]).request(),
        node.submission(patient, entry).provided(peer.inline(entry.id, b"x")),
        peer.stored_query("GetAll", patientId="'x'"),
        peer.retrieval(("1.2", "1.3"), home="urn:oid:1.2"),
    ]
    for request in requests:
        assert schema.validate(etree.fromstring(request)), schema.error_log.last_error


# audit -----------------------------------------------------------------------------------------------------------


def _shapes(elements: Iterator[Any]) -> dict[str, tuple[set[str], list[list[str]]]]:
    """Of every element: its attributes, and the orders of its children."""
    shapes: dict[str, tuple[set[str], list[list[str]]]] = {}
    for element in elements:
        attributes, orders = shapes.setdefault(element.tag, (set(), []))
        attributes |= set(element.attrib)
        order = list(dict.fromkeys(c.tag for c in element))
        if order not in orders:
            orders.append(order)
    return shapes


def _fits(order: list[str], samples: list[list[str]]) -> bool:
    """Whether some sample has these children in this order, among others."""
    for sample in samples:
        rest = iter(sample)
        if all(tag in rest for tag in order):
            return True
    return False


def test_audit_records_have_the_shape_of_others(node: Node, history: tuple[str, dict[str, str]]) -> None:
    if not AUDIT_SAMPLES.is_dir():
        pytest.skip("the audit samples (../shared/data/ihe/ipf) are not beside this repository")
    last = node.last_audit()
    patient, ids = history
    node.patient()
    node.found(patient)
    node.provided(node.submission(patient, node.entry(patient)))
    node.registered(node.submission(patient, node.entry(patient)))
    node.retrieve(ids["document_unique"])
    node.query("FindDocuments")
    node.soap("register", "<x/>", action="urn:x")
    records = [(transaction, outcome, etree.fromstring(m)) for _, transaction, outcome, m in node.audits(last)]
    assert {"ITI-8", "ITI-18", "ITI-41", "ITI-42", "ITI-43"} <= {t for t, _, _ in records}

    samples = _shapes(e for path in AUDIT_SAMPLES.glob("*.xml") for e in etree.parse(path).getroot().iter())
    ours = _shapes(e for _, _, record in records for e in record.iter())
    assert ours.keys() <= samples.keys()
    for tag, (attributes, orders) in ours.items():
        allowed, sample_orders = samples[tag]
        assert attributes <= allowed, tag
        for order in orders:
            assert _fits(order, sample_orders), (tag, order, sample_orders)


def test_what_audit_records_say(node: Node) -> None:
    patient = node.patient()
    entry = node.entry(patient)
    submission = node.submission(patient, entry)
    last = node.last_audit()
    node.provided(submission)
    node.found(patient)
    node.retrieve(entry.unique_id)
    provided, found, retrieved = (etree.fromstring(m) for _, _, _, m in node.audits(last))
    for record, event, transaction, objects in (
        (provided, "110107", "ITI-41", {patient, submission.unique_id}),
        (found, "110112", "ITI-18", {patient, "FindDocuments"}),
        (retrieved, "110106", "ITI-43", {patient, entry.unique_id}),
    ):
        assert record.find("EventIdentification/EventID").get("csd-code") == event
        assert record.find("EventIdentification/EventTypeCode").get("csd-code") == transaction
        assert record.find("EventIdentification").get("EventOutcomeIndicator") == "0"
        assert {o.get("ParticipantObjectID") for o in record.iterfind("ParticipantObjectIdentification")} == objects
        roles = [r.get("csd-code") for r in record.iterfind("ActiveParticipant/RoleIDCode")]
        assert sorted(roles) == ["110152", "110153"]
        requestors = [p.get("UserIsRequestor") for p in record.iterfind("ActiveParticipant")]
        assert requestors.count("true") >= 1
    query = found.findtext("ParticipantObjectIdentification/ParticipantObjectQuery")
    assert b"AdhocQuery" in base64.b64decode(query)


def test_schemas_are_the_official_ones() -> None:
    assert Path(XSD_FOLDER / "schema" / "ebRS30" / "rim.xsd").is_file()

"""What this node asks of others is what it would understand itself."""

from __future__ import annotations

from datetime import UTC, datetime
from uuid import uuid4

import pytest
from lxml import etree

from obieg.actors.document_repository import DocumentRequest, Retrieved
from obieg.domain.authorities import Authorities
from obieg.domain.content import MemoryContent
from obieg.domain.documents import Association, AssociationType, DocumentEntry, Submission, SubmissionSet
from obieg.domain.identifiers import PatientId
from obieg.domain.patients import FeedEvent
from obieg.domain.persons import PersonName
from obieg.domain.problems import Problem
from obieg.mapping import adt, pix
from obieg.mapping.ebrim import IdSource, read_entries
from obieg.mapping.stored_query import read_stored_query, write_stored_query
from obieg.protocol import SoapRequest
from obieg.transactions import (
    iti18_registry_stored_query,
    iti41_provide_and_register_document_set,
    iti43_retrieve_document_set,
)
from obieg.wire import hl7v2

_ASKED = SoapRequest(None)
AT = datetime(2026, 3, 1, 12, tzinfo=UTC)
SENDER = ("obieg", "Szpital | oddział")
PESEL = PatientId("44051401359", "2.16.840.1.113883.3.4424.1.1.616")
LOCAL = PatientId("17", "1.2.616.2")
NONE = Authorities()


def sent(message):
    return hl7v2.parse(message.encode())


def test_pix_query():
    message = sent(pix.write_query(str(PESEL), ["1.2.616.1", "1.2.616.2"], control_id="C1", at=AT, sender=SENDER))
    query = pix.read_query(message, NONE)
    assert query.identifier == PESEL
    assert query.authorities == ("1.2.616.1", "1.2.616.2")
    assert (message.get("MSH-3"), message.get("MSH-4"), message.control_id) == (*SENDER, "C1")
    everywhere = sent(pix.write_query(str(PESEL), [], control_id="C", at=AT, sender=SENDER))
    assert pix.read_query(everywhere, NONE).authorities == ()


def test_pix_answer():
    message = sent(pix.write_query(str(PESEL), [], control_id="C1", at=AT, sender=SENDER))
    identifiers = (PatientId("a|b", "1.2.616.1"), LOCAL)

    def answer(code, said, faults=()):
        return hl7v2.parse(hl7v2.acknowledge(message, code, control_id="A", at=AT, faults=faults, answer=said))

    assert pix.read_answer(answer("AA", pix.write_answer(identifiers, message, NONE))) == identifiers
    assert pix.read_answer(answer("AA", pix.write_answer((), message, NONE))) == ()
    unknown = [hl7v2.Fault(204, "nobody", "QPD-3-1")]
    assert pix.read_answer(answer("AE", pix.write_refusal((), message), unknown)) == ()
    busy = [hl7v2.Fault(207, "not just now")]
    with pytest.raises(Problem, match="not just now"):
        pix.read_answer(answer("AE", pix.write_refusal((), message), busy))


def test_feed():
    info = (
        f"PID-3|{LOCAL}",
        f"PID-3|{PESEL}",
        "PID-5|Żółć^Jan^Maria",
        "PID-7|19440514",
        "PID-8|M",
        "PID-11|Długa 3^^Kraków^^30-001^Polska",
    )
    message = sent(adt.write_feed(FeedEvent.REGISTER, info, control_id="C", at=AT, sender=SENDER))
    feed = adt.patient_feed(message, NONE)
    assert feed.event is FeedEvent.REGISTER
    assert feed.identifiers == (LOCAL, PESEL)
    assert feed.source == "Szpital | oddział|obieg"
    assert feed.demographics.names == (PersonName("Żółć", ("Jan", "Maria")),)
    assert feed.demographics.address.city == "Kraków"


def test_stored_query():
    body = write_stored_query(
        "FindDocuments",
        {
            "XDSDocumentEntryPatientId": ["O'Neill^^^&1.2.3&ISO"],
            "XDSDocumentEntryStatus": ["urn:oasis:names:tc:ebxml-regrep:StatusType:Approved"],
            "XDSDocumentEntryTypeCode": ["18842-5^^LOINC", "11502-2^^LOINC"],
            "XDSDocumentEntryCreationTimeFrom": ["20260301"],
            "XDSDocumentEntryCreationTimeTo": [],
        },
    )
    query = read_stored_query(etree.fromstring(body))
    assert query.patient == PatientId("O'Neill", "1.2.3")
    assert query.parameters["type_code"] == ["18842-5^^LOINC", "11502-2^^LOINC"]
    assert query.parameters["creation_from"] == "20260301000000"
    assert query.parameters["creation_to"] is None
    assert query.leaf


def test_entries_of_an_answer():
    entry = DocumentEntry(
        "urn:uuid:" + str(uuid4()), unique_id="1.2^3", patient_id=str(LOCAL), mime_type="text/xml", title=(("pl", "Ł"),)
    )
    sset = SubmissionSet("urn:uuid:" + str(uuid4()), unique_id="1.2.9", patient_id=str(LOCAL))
    question = iti41_provide_and_register_document_set.encode_request(
        Submission(sset, (entry,)), {entry.entry_uuid: MemoryContent(b"x")}, IdSource(str(uuid4()))
    )
    [found] = read_entries(etree.fromstring(question.body))
    assert (found.unique_id, found.patient_id, found.title) == ("1.2^3", str(LOCAL), (("pl", "Ł"),))


def test_provide_and_register():
    entry = DocumentEntry("urn:uuid:" + str(uuid4()), unique_id="1.2.3", mime_type="text/plain")
    sset = SubmissionSet("urn:uuid:" + str(uuid4()), unique_id="1.2.9")
    member = Association("urn:uuid:" + str(uuid4()), AssociationType.HAS_MEMBER, sset.entry_uuid, entry.entry_uuid)
    submission = Submission(sset, (entry,), associations=(member,))
    content = MemoryContent(b"bytes")
    question = iti41_provide_and_register_document_set.encode_request(
        submission, {entry.entry_uuid: content}, IdSource(str(uuid4()))
    )
    assert question.mtom
    asked = SoapRequest(etree.fromstring(question.body), dict(question.parts), mtom=True)
    provided = iti41_provide_and_register_document_set.TRANSACTION.decode(asked)
    assert provided.submission.submission_set.unique_id == "1.2.9"
    assert [e.unique_id for e in provided.submission.entries] == ["1.2.3"]
    assert provided.documents == {entry.entry_uuid: content}
    assert provided.found_on_reading == ()


def test_retrieve():
    asked = iti43_retrieve_document_set
    requests = (DocumentRequest("1.2^3", "1.9", "urn:oid:1.8"), DocumentRequest("a & b", "1.9"))
    request = asked.TRANSACTION.decode(SoapRequest(etree.fromstring(asked.encode_request(requests).body), mtom=True))
    assert request == requests
    documents = tuple((r, MemoryContent(r.unique_id.encode(), "text/plain")) for r in requests)
    reply = asked.TRANSACTION.encode(Retrieved(documents), _ASKED)
    answer = asked.decode_answer(SoapRequest(etree.fromstring(reply.body), dict(reply.parts), mtom=True))
    assert answer.documents == documents
    refusal = asked.TRANSACTION.refuse(Problem.of("XDSUnknownRepositoryId", "not here").findings, _ASKED)
    answer = asked.decode_answer(SoapRequest(etree.fromstring(refusal.body), mtom=True))
    assert answer.documents == ()
    assert [f.code for f in answer.findings] == ["XDSUnknownRepositoryId"]


def test_a_refused_query_is_a_problem():
    asked = iti18_registry_stored_query
    refusal = asked.TRANSACTION.refuse(Problem.of("XDSTooManyResults", "too many").findings, _ASKED)
    with pytest.raises(Problem, match="XDSTooManyResults"):
        asked.decode_entries(SoapRequest(etree.fromstring(refusal.body)))

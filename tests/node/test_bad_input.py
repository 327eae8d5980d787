"""What comes from outside and is not what it should be: refused clearly, recorded, and nothing of it is kept."""

from __future__ import annotations

import hashlib
import os
import re
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import httpx
import peer
import pytest
from peer import (
    ACTIONS,
    SOAP,
    WSA,
    MakeNode,
    Node,
    envelope,
    include,
    inline,
    package,
    package_type,
    quoted,
    stored_query,
)

pytestmark = pytest.mark.node

MIB = 1024 * 1024
SOAP_TYPE = "application/soap+xml; charset=UTF-8"


@contextmanager
def nothing_kept(node: Node, *, audited: bool = True) -> Iterator[None]:
    """Whatever happens inside stores nothing, and leaves a record that says it failed."""
    before, last = node.stored(), node.last_audit()
    yield
    if audited:
        records = peer.wait_for(lambda: node.audits(last), 10)
        assert any(outcome > 0 for _, _, outcome, _ in records), records
    assert node.stored() == before


def valid(node: Node) -> str:
    """A register request that would succeed if nothing else were wrong."""
    patient = node.patient()
    return node.submission(patient, node.entry(patient)).request()


def register_envelope(node: Node, **more: Any) -> str:
    return envelope(ACTIONS["register"], valid(node), **more)


def addressed(action: str = ACTIONS["register"], **changed: str) -> str:
    blocks = {
        "Action": f"<a:Action>{action}</a:Action>",
        "MessageID": f"<a:MessageID>{peer.urn()}</a:MessageID>",
        "ReplyTo": f"<a:ReplyTo><a:Address>{WSA}/anonymous</a:Address></a:ReplyTo>",
        **changed,
    }
    return "".join(blocks.values())


# the XML ---------------------------------------------------------------------------------------------------------

XML = {
    "doctype": lambda x: '<!DOCTYPE s:Envelope SYSTEM "http://example.org/x.dtd">' + x,
    "doctype after declaration": lambda x: "<?xml version='1.0'?><!DOCTYPE x>" + x,
    "entity": lambda x: '<!DOCTYPE x [<!ENTITY a "aaaa">]>' + x.replace("Karta", "&a;"),
    "file entity": lambda x: '<!DOCTYPE x [<!ENTITY a SYSTEM "file:///etc/passwd">]>' + x.replace("Karta", "&a;"),
    "entities of entities": lambda x: (
        "<!DOCTYPE x [<!ENTITY a0 'ha'>"
        + "".join(f"<!ENTITY a{i} '{f'&a{i - 1};' * 10}'>" for i in range(1, 10))
        + "]>"
        + x.replace("Karta", "&a9;")
    ),
    "undeclared entity": lambda x: x.replace("tresc", "&nbsp;").replace("Karta", "&nbsp;"),
    "instruction before the root": lambda x: '<?xml-stylesheet href="x.xsl"?>' + x,
    "instruction after the declaration": lambda x: '<?xml version="1.0"?><?php echo 1 ?>' + x,
    "instruction inside": lambda x: x.replace("<s:Body>", "<s:Body><?do it?>"),
    "xinclude": lambda x: x.replace(
        "<rim:RegistryObjectList>",
        '<rim:RegistryObjectList><xi:include xmlns:xi="http://www.w3.org/2001/XInclude" href="file:///etc/passwd"/>',
    ),
    "xinclude in disguise": lambda x: x.replace(
        "<rim:RegistryObjectList>",
        '<rim:RegistryObjectList><xi:include xmlns:xi="http://www.w3.org/2001/XI&#110;clude" href="file:///x"/>',
    ),
    "truncated": lambda x: x[: len(x) // 2],
    "not closed": lambda x: x[:-5],
    "two roots": lambda x: x + x,
    "nothing": lambda x: "",
    "seven-bit junk": lambda x: "".join(chr(33 + i % 94) for i in range(5000)),
    "a control character": lambda x: x.replace("Karta", "Kar\x01ta"),
    "nested too deep": lambda x: x.replace("<s:Body>", "<s:Body>" + "<a>" * 200).replace(
        "</s:Body>", "</a>" * 200 + "</s:Body>"
    ),
    "nested deeper than libxml2 goes": lambda x: x.replace("<s:Body>", "<s:Body>" + "<a>" * 5000),
    "too many attributes": lambda x: x.replace("<s:Body>", "<s:Body " + " ".join(f'a{i}=""' for i in range(200)) + ">"),
}


@pytest.mark.parametrize("what", XML)
@pytest.mark.parametrize("way", ["soap", "mtom"])
def test_xml_that_is_not_read(node: Node, what: str, way: str) -> None:
    message = XML[what](register_envelope(node))
    with nothing_kept(node):
        if way == "soap":
            answer = node.post("register", message.encode(), SOAP_TYPE)
        else:
            answer = node.post("register", package(message), package_type())
    assert answer.http_status == 400
    assert answer.fault_code == "Sender"
    assert len(answer.fault) > 10
    assert "root:" not in answer.fault


def test_hidden_instruction_in_utf_16(node: Node) -> None:
    message = '<?xml version="1.0" encoding="UTF-16"?><?do it?>' + register_envelope(node)
    with nothing_kept(node):
        answer = node.post("register", message.encode("utf-16"), "application/soap+xml; charset=UTF-16")
    assert answer.fault_code == "Sender"
    assert "instruction" in answer.fault


def test_utf_16_is_read(node: Node) -> None:
    message = '<?xml version="1.0" encoding="UTF-16"?>' + register_envelope(node)
    assert node.post("register", message.encode("utf-16"), "application/soap+xml").status == "Success"


def test_comments_cut_nothing(node: Node) -> None:
    message = register_envelope(node).replace("pl-PL</rim:Value>", "pl<!-- -->-PL</rim:Value>")
    message = "<!-- before -->" + message + "<!-- after -->"
    assert node.post("register", message.encode(), SOAP_TYPE).status == "Success"


# SOAP ------------------------------------------------------------------------------------------------------------


def test_soap_1_1(node: Node) -> None:
    message = register_envelope(node).replace(SOAP, "http://schemas.xmlsoap.org/soap/envelope/")
    with nothing_kept(node):
        answer = node.post("register", message.encode(), SOAP_TYPE)
    assert answer.fault_code == "VersionMismatch"


@pytest.mark.parametrize(
    ("headers", "code", "subcode"),
    [
        ("", "Sender", "wsa:MessageAddressingHeaderRequired"),
        (addressed(Action=""), "Sender", "wsa:MessageAddressingHeaderRequired"),
        (addressed(Action="<a:Action/>"), "Sender", "wsa:MessageAddressingHeaderRequired"),
        (addressed(MessageID=""), "Sender", "wsa:MessageAddressingHeaderRequired"),
        (addressed("urn:ihe:iti:2007:Unknown"), "Sender", "wsa:ActionNotSupported"),
        (addressed(ACTIONS["registry"]), "Sender", "wsa:ActionNotSupported"),
        (addressed() + addressed(MessageID="", ReplyTo=""), "Sender", "wsa:InvalidAddressingHeader"),
        (addressed() + addressed(Action="", ReplyTo=""), "Sender", "wsa:InvalidAddressingHeader"),
        (
            addressed(ReplyTo="<a:ReplyTo><a:Address>http://elsewhere/</a:Address></a:ReplyTo>"),
            "Sender",
            "wsa:OnlyAnonymousAddressSupported",
        ),
        (
            addressed(FaultTo="<a:FaultTo><a:Address>http://elsewhere/</a:Address></a:FaultTo>"),
            "Sender",
            "wsa:OnlyAnonymousAddressSupported",
        ),
        (addressed() + '<x:New xmlns:x="urn:x" s:mustUnderstand="1"/>', "MustUnderstand", ""),
        (addressed() + '<x:New xmlns:x="urn:x" s:mustUnderstand="true"/>', "MustUnderstand", ""),
    ],
)
def test_headers(node: Node, headers: str, code: str, subcode: str) -> None:
    with nothing_kept(node):
        answer = node.post("register", register_envelope(node, headers=headers).encode(), SOAP_TYPE)
    assert (answer.fault_code, answer.fault_subcode) == (code, subcode)
    assert answer.header("Action") == f"{WSA}/fault"


@pytest.mark.parametrize(
    "header",
    [
        '<x:New xmlns:x="urn:x"/>',
        '<x:New xmlns:x="urn:x" s:mustUnderstand="0"/>',
        '<x:New xmlns:x="urn:x" s:mustUnderstand="1" s:role="http://example.org/another"/>',
        "<a:From><a:Address>http://source/</a:Address></a:From>",
    ],
)
def test_headers_that_do_not_matter(node: Node, header: str) -> None:
    message = register_envelope(node, headers=addressed() + header)
    assert node.post("register", message.encode(), SOAP_TYPE).status == "Success"


def test_two_elements_in_the_body(node: Node) -> None:
    body = valid(node)
    with nothing_kept(node):
        answer = node.post("register", envelope(ACTIONS["register"], body + body).encode(), SOAP_TYPE)
    assert answer.fault_code == "Sender"


def test_another_element_than_the_action_promises(node: Node) -> None:
    with nothing_kept(node):
        answer = node.soap("register", stored_query("GetAll"))
    assert answer.status == "Failure"
    assert [location for _, location, _ in answer.errors] == ["Body"]


@pytest.mark.parametrize("content_type", ["", "text/xml", "application/json", "application/xml", "garbage", "a/b; c"])
def test_wrong_content_type(node: Node, content_type: str) -> None:
    with nothing_kept(node):
        answer = node.post("register", register_envelope(node).encode(), content_type)
    assert answer.http_status == 415
    assert "application/soap+xml" in answer.fault


def test_other_methods_and_addresses(node: Node) -> None:
    assert node.http.put(node.endpoints["register"]).status_code == 405
    assert node.http.get(node.endpoints["register"]).status_code == 200
    assert node.http.post(node.endpoints["base_url"] + "/services/none").status_code == 404


# MIME ------------------------------------------------------------------------------------------------------------


def provided(node: Node, **changes: Any) -> tuple[peer.Submission, str, list[tuple[str, bytes]]]:
    patient = node.patient()
    entry = node.entry(patient, **changes)
    submission = node.submission(patient, entry)
    return submission, submission.provided(include(entry.id, "part1@peer")), [("part1@peer", entry.content)]


def provide_envelope(body: str) -> str:
    return envelope(ACTIONS["repository"], body)


PACKAGES = {
    "another boundary": lambda data: (data, package_type(boundary="another")),
    "no boundary": lambda data: (data, 'multipart/related; type="application/xop+xml"'),
    "a boundary that is none": lambda data: (data, package_type(boundary="é" * 20)),
    "a boundary too long": lambda data: (data, package_type(boundary="b" * 200)),
    "no type": lambda data: (data, f'multipart/related; boundary="{peer.BOUNDARY}"'),
    "another type": lambda data: (data, package_type().replace("application/xop+xml", "text/xml")),
    "a start that is not there": lambda data: (data, package_type().replace("root@peer", "none@peer")),
    "no closing boundary": lambda data: (data.rstrip()[:-2], package_type()),
    "cut in a part": lambda data: (data[:-40], package_type()),
    "cut in the headers": lambda data: (data[:60], package_type()),
    "nothing": lambda data: (b"", package_type()),
    "junk": lambda data: (bytes(range(32, 127)) * 50, package_type()),
    "much junk": lambda data: (b"x" * 100_000, package_type()),
    "text after a boundary": lambda data: (data.replace(b"of.the.peer\r\n", b"of.the.peer and more\r\n"), package_type()),
    "a header without colon": lambda data: (data.replace(b"Content-ID: <part1", b"Content-ID <part1"), package_type()),
    "headers without end": lambda data: (
        data.replace(b"Content-ID: <part1", b"X-Long: " + b"y" * 40_000 + b"\r\nContent-ID: <part1"),
        package_type(),
    ),
    "a part without Content-ID": lambda data: (
        data.replace(b"Content-ID: <part1@peer>\r\n", b"X: y\r\n"),
        package_type(),
    ),
    "base64 parts": lambda data: (data.replace(b"Encoding: binary", b"Encoding: base64"), package_type()),
    "quoted-printable parts": lambda data: (
        data.replace(b"Encoding: binary", b"Encoding: quoted-printable"),
        package_type(),
    ),
    "two parts of one Content-ID": lambda data: (
        data.replace(
            f"--{peer.BOUNDARY}--".encode(),
            f"--{peer.BOUNDARY}\r\nContent-ID: <part1@peer>\r\n\r\nx\r\n--{peer.BOUNDARY}--".encode(),
        ),
        package_type(),
    ),
}  # fmt: skip


@pytest.mark.parametrize("what", PACKAGES)
def test_packages_that_are_not_read(node: Node, what: str) -> None:
    _, body, parts = provided(node)
    data, content_type = PACKAGES[what](package(provide_envelope(body), parts))
    with nothing_kept(node):
        response = node.http.post(
            node.endpoints["repository"], content=data, headers={b"Content-Type": content_type.encode("latin-1")}
        )
    answer = peer.Answer(response.status_code, response.headers, response.content)
    assert answer.http_status == 400
    assert answer.fault_code == "Sender"
    assert len(answer.fault) > 10


@pytest.mark.parametrize(
    "href", ["http://127.0.0.1:1/x", "file:///etc/passwd", "https://example.org/", "part1@peer", "", "cid", "CID:x"]
)
def test_include_of_something_else(node: Node, href: str) -> None:
    _, body, parts = provided(node)
    with nothing_kept(node):
        answer = node.mtom("repository", body.replace("cid:part1@peer", href), parts)
    assert answer.fault_code == "Sender"
    assert "cid:" in answer.fault


@pytest.mark.parametrize("name", ["part2@peer", "root@peer", "other-message@peer", "", "%70art2@peer"])
def test_include_of_a_missing_part(node: Node, name: str) -> None:
    submission, body, _ = provided(node)
    with nothing_kept(node):
        answer = node.mtom("repository", body.replace("cid:part1@peer", f"cid:{name}"))
    assert answer.status == "Failure"
    assert [(c, w) for c, w, _ in answer.errors] == [("XDSMissingDocument", f"Document {submission.entries[0].id}")]


def test_content_id_may_be_escaped(node: Node) -> None:
    _, body, _ = provided(node)
    body = body.replace("cid:part1@peer", "cid:part%201%40peer")
    assert node.mtom("repository", body, [("part 1@peer", b"tresc dokumentu")]).status == "Success"


def test_provide_without_package(node: Node) -> None:
    submission, _, _ = provided(node)
    body = submission.provided(inline(submission.entries[0].id, submission.entries[0].content))
    with nothing_kept(node):
        answer = node.soap("repository", body)
    assert answer.http_status == 415
    assert "MTOM" in answer.fault


def test_retrieve_without_package(node: Node) -> None:
    with nothing_kept(node):
        answer = node.soap("retrieve", peer.retrieval((node.repository, "1.2.3")))
    assert answer.http_status == 415
    assert "MTOM" in answer.fault


def test_inline_content_in_a_package(node: Node) -> None:
    patient = node.patient()
    entry = node.entry(patient, content=bytes(range(256)) * 20)
    text = inline(entry.id, entry.content)
    folded = re.sub(r"(.{76})", r"\1\n", text[text.index(">") + 1 : text.rindex("<")])
    body = node.submission(patient, entry).provided(text[: text.index(">") + 1] + folded + text[text.rindex("<") :])
    answer = node.mtom("repository", body)
    assert answer.status == "Success", answer.errors or answer.fault
    assert answer.mtom
    assert node.retrieve(entry.unique_id).documents == {entry.unique_id: entry.content}


def test_inline_content_that_is_not_base64(node: Node) -> None:
    submission, _, _ = provided(node)
    body = submission.provided(f'<x:Document id="{submission.entries[0].id}">?!ąę</x:Document>')
    with nothing_kept(node):
        answer = node.mtom("repository", body)
    assert "XDSRepositoryMetadataError" in answer.codes


def test_mtom_is_answered_by_mtom(node: Node) -> None:
    submission, body, parts = provided(node)
    assert node.mtom("repository", body, parts).mtom
    answer = node.retrieve(submission.entries[0].unique_id)
    assert answer.mtom
    assert len(answer.parts) == 1


@pytest.mark.parametrize("sent", ["nothing", "half the head", "half the body", "half a chunk"])
def test_stream_that_ends_early(node: Node, sent: str) -> None:
    _, body, parts = provided(node)
    data = package(provide_envelope(body), parts)
    host, _, port = node.endpoints["base_url"].removeprefix("http://").rpartition(":")
    head = (
        f"POST /services/repository HTTP/1.1\r\nHost: {host}\r\nContent-Type: {package_type()}\r\n"
        f"Content-Length: {len(data)}\r\n\r\n"
    )
    chunked = head.replace(f"Content-Length: {len(data)}", "Transfer-Encoding: chunked")
    message = {
        "nothing": b"",
        "half the head": head[:60].encode(),
        "half the body": head.encode() + data[: len(data) // 2],
        "half a chunk": chunked.encode() + b"%x\r\n" % len(data) + data[: len(data) // 2],
    }[sent]
    with nothing_kept(node, audited="body" in sent or "chunk" in sent):
        with socket.create_connection((host, int(port)), timeout=10) as connection:
            connection.sendall(message)
            connection.shutdown(socket.SHUT_WR)
            connection.settimeout(5)
            try:
                answer = connection.recv(65536)
            except TimeoutError:
                answer = b""
        assert b"Success" not in answer
        assert b"Traceback" not in answer
    assert node.found(node.patient()).ids == set()


# metadata and documents ------------------------------------------------------------------------------------------


def test_wrong_hash_and_size(node: Node) -> None:
    submission, body, parts = provided(node, hash="0" * 40, size="3")
    with nothing_kept(node):
        answer = node.mtom("repository", body, parts)
    where = f"DocumentEntry {submission.entries[0].id}"
    assert [(c, w) for c, w, _ in answer.errors] == [
        ("XDSRepositoryMetadataError", f"{where}: hash"),
        ("XDSRepositoryMetadataError", f"{where}: size"),
    ]


def test_hash_in_capitals_is_the_same(node: Node) -> None:
    content = b"wielkie litery"
    _, body, parts = provided(node, content=content, hash=hashlib.sha1(content).hexdigest().upper())
    assert node.mtom("repository", body, parts).status == "Success"


def test_missing_document(node: Node) -> None:
    submission, _, _ = provided(node)
    with nothing_kept(node):
        answer = node.mtom("repository", submission.provided(""))
    assert [(c, w) for c, w, _ in answer.errors] == [
        ("XDSMissingDocument", f"DocumentEntry {submission.entries[0].id}")
    ]


def test_document_that_nothing_describes(node: Node) -> None:
    submission, _, parts = provided(node)
    documents = include(submission.entries[0].id, "part1@peer") + include("Document99", "part2@peer")
    with nothing_kept(node):
        answer = node.mtom("repository", submission.provided(documents), [*parts, ("part2@peer", b"x")])
    assert [(c, w) for c, w, _ in answer.errors] == [("XDSMissingDocumentMetadata", "Document Document99")]


def test_part_that_nothing_refers_to(node: Node) -> None:
    _, body, parts = provided(node)
    with nothing_kept(node):
        answer = node.mtom("repository", body, [*parts, ("stray@peer", b"x")])
    assert [c for c, _, _ in answer.errors] == ["XDSMissingDocumentMetadata"]
    assert "stray@peer" in str(answer.errors)


def test_one_document_twice(node: Node) -> None:
    submission, _, parts = provided(node)
    document = include(submission.entries[0].id, "part1@peer")
    with nothing_kept(node):
        answer = node.mtom("repository", submission.provided(document * 2), parts)
    assert answer.codes == ["XDSRepositoryMetadataError"]


def test_missing_part_and_missing_document_are_both_said(node: Node) -> None:
    patient = node.patient()
    one, two = node.entry(patient), node.entry(patient)
    body = node.submission(patient, one, two).provided(include(one.id, "gone@peer"))
    with nothing_kept(node):
        answer = node.mtom("repository", body)
    assert {w for c, w, _ in answer.errors if c == "XDSMissingDocument"} == {
        f"Document {one.id}",
        f"DocumentEntry {two.id}",
    }


def test_no_submission_at_all(node: Node) -> None:
    with nothing_kept(node):
        empty = node.mtom("repository", f'<x:ProvideAndRegisterDocumentSetRequest xmlns:x="{peer.XDSB}"/>')
        no_list = node.soap("register", f'<l:SubmitObjectsRequest xmlns:l="{peer.LCM}"/>')
        no_set = node.soap(
            "register",
            f'<l:SubmitObjectsRequest xmlns:l="{peer.LCM}"><r:RegistryObjectList xmlns:r="{peer.RIM}"/>'
            "</l:SubmitObjectsRequest>",
        )
    assert {empty.status, no_list.status, no_set.status} == {"Failure"}


def test_all_problems_at_once(node: Node) -> None:
    """Nine things are wrong, and each is named with its place."""
    patient = f"nobody^^^&{node.endpoints['assigning_authority']}&ISO"
    entry = node.entry(
        patient,
        class_code=("NONE", "1.2.3"),
        language="",
        creation_time="20241399",
        size="3",
        mime_type="application/x-none",
        more_slots=peer.slot("languageCode", "pl-PL") * 2 + peer.slot("kolor", "zielony"),
        without=frozenset({"typeCode"}),
    )
    unknown = peer.urn()
    submission = node.submission(
        patient,
        entry,
        associations=[
            peer.association("urn:x:Loves", entry.id, entry.id, id=unknown),
            peer.association("APND", entry.id, peer.urn()),
        ],
    )
    with nothing_kept(node):
        answer = node.provide(submission)
    where = f"DocumentEntry {entry.id}"
    found = answer.errors
    assert answer.status == "Failure"
    for code, location, text in (
        ("XDSRegistryMetadataError", f"{where}: classCode", "NONE"),
        ("XDSRegistryMetadataError", f"{where}: typeCode", "missing"),
        ("XDSRegistryMetadataError", f"{where}: creationTime", "20241399"),
        ("XDSRegistryMetadataError", f"{where}: mimeType", "application/x-none"),
        ("XDSRegistryMetadataError", where, "languageCode is given twice"),
        ("XDSRegistryMetadataError", where, "kolor"),
        ("XDSRegistryMetadataError", f"Association {unknown}", "urn:x:Loves"),
        ("XDSRepositoryMetadataError", f"{where}: size", "15 bytes"),
        ("XDSUnknownPatientId", f"SubmissionSet {submission.id}: patientId", "nobody"),
        ("UnresolvedReferenceException", "Association", "not registered"),
    ):
        assert any(c == code and w.startswith(location) and text in t for c, w, t in found), (code, location, found)


METADATA: dict[str, dict[str, Any]] = {
    "classCode": {"class_code": ("NONE", "1.2")},
    "confidentialityCode": {"confidentiality": [("NONE", "1.2")]},
    "formatCode": {"without": frozenset({"formatCode"})},
    "creationTime": {"creation_time": "2024-01-01"},
    "serviceStartTime": {"service_start": "2025", "service_stop": "2024"},
    "hash": {"hash": "xyz"},
    "size": {"size": "many"},
    "uniqueId": {"unique_id": "not an oid"},
    "patientId": {"patient": "4711"},
    "sourcePatientId": {"source_patient": "4711"},
    "languageCode": {"language": "polski język"},
    "repositoryUniqueId": {"repository": "here"},
    "mimeType": {"mime_type": "application/x-none"},
    "author": {"authors": ["x" * 5000]},
    "title": {"title": "x" * 5000},
}


@pytest.mark.parametrize("attribute", METADATA)
def test_one_bad_attribute(node: Node, attribute: str) -> None:
    patient = node.patient()
    entry = node.entry(**{"patient": patient, **METADATA[attribute]})
    with nothing_kept(node):
        answer = node.register(node.submission(patient, entry))
    assert answer.status == "Failure"
    assert any(w == f"DocumentEntry {entry.id}: {attribute}" for _, w, _ in answer.errors), answer.errors


def test_patient_of_another_authority(node: Node) -> None:
    patient = "1^^^&1.2.3.4.5.6&ISO"
    with nothing_kept(node):
        assert "XDSUnknownPatientId" in node.register(node.submission(patient, node.entry(patient))).codes


# queries ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("request_", "code"),
    [
        (stored_query("00000000-0000-0000-0000-000000000000"), "XDSUnknownStoredQuery"),
        (stored_query("FindDocuments"), "XDSStoredQueryMissingParam"),
        (stored_query("FindDocuments", XDSDocumentEntryPatientId="'1^^^&1.2&ISO'"), "XDSStoredQueryMissingParam"),
        (stored_query("GetDocuments"), "XDSStoredQueryMissingParam"),
        (stored_query("GetDocuments", XDSDocumentEntryEntryUUID=quoted("document")), "XDSRegistryError"),
        (
            stored_query(
                "GetDocuments",
                XDSDocumentEntryEntryUUID=quoted(peer.urn()),
                XDSDocumentEntryUniqueId=quoted("1.2"),
            ),
            "XDSStoredQueryParamNumber",
        ),
        (
            stored_query("GetFoldersForDocument", XDSDocumentEntryUniqueId=quoted("1.2", "1.3")),
            "XDSStoredQueryParamNumber",
        ),
        (stored_query("GetAll", "Everything", patientId="'1^^^&1.2&ISO'"), "XDSRegistryError"),
        (stored_query("GetAssociations", uuid="('unquoted"), "XDSRegistryError"),
        (stored_query("GetAssociations", uuid=["''"]), "XDSRegistryError"),
    ],
)
def test_bad_queries(node: Node, request_: str, code: str) -> None:
    with nothing_kept(node):
        answer = node.soap("registry", request_)
    assert answer.status == "Failure"
    assert code in answer.codes, answer.errors


def test_all_problems_of_a_query(node: Node) -> None:
    with nothing_kept(node):
        answer = node.query(
            "FindDocuments",
            XDSDocumentEntryPatientId="'nobody'",
            XDSDocumentEntryCreationTimeFrom="'yesterday'",
            XDSDocumentEntryClassCode="('57016-8')",
        )
    assert {w for _, w, _ in answer.errors} == {
        f"AdhocQuery: $XDSDocumentEntry{n}" for n in ("PatientId", "CreationTimeFrom", "ClassCode", "Status")
    }


@pytest.mark.parametrize("patient", ["nobody^^^&{}&ISO", "1^^^&1.2.3.4&ISO"])
def test_unknown_patient_has_no_documents(node: Node, patient: str) -> None:
    assert node.found(patient.format(node.endpoints["assigning_authority"])).ids == set()


@pytest.mark.parametrize("value", ["a'; DROP TABLE document_entry; --", "\\", "%", "a\\", "{", '"', "\x7f", "'" * 50])
def test_odd_values_in_queries(node: Node, value: str) -> None:
    patient = node.patient()
    assert node.found(patient, AuthorPerson=quoted(value)).ids == set()
    answer = node.query("GetDocuments", XDSDocumentEntryUniqueId=quoted(value))
    assert answer.status == "Success"
    assert answer.ids == set()


def test_retrieving_what_is_not_there(node: Node) -> None:
    submission, body, parts = provided(node)
    assert node.mtom("repository", body, parts).status == "Success"
    there = submission.entries[0].unique_id
    partly = node.retrieve(there, "1.2.3.4")
    assert partly.status == "PartialSuccess"
    assert list(partly.documents) == [there]
    assert [(c, w) for c, w, _ in partly.errors] == [("XDSDocumentUniqueIdError", "1.2.3.4")]
    for answer, code in (
        (node.retrieve("1.2.3.4"), "XDSDocumentUniqueIdError"),
        (node.retrieve(there, repository="1.2.3"), "XDSUnknownRepositoryId"),
        (node.retrieve(there, home="urn:oid:1.2.3"), "XDSUnknownCommunity"),
        (node.mtom("retrieve", peer.retrieval()), "XDSRepositoryError"),
        (node.mtom("retrieve", peer.retrieval(("", "1.2"))), "XDSRepositoryError"),
    ):
        assert answer.status == "Failure"
        assert answer.codes == [code]
        assert answer.mtom
        assert answer.documents == {}


# limits ----------------------------------------------------------------------------------------------------------

MESSAGE_MAX, DOCUMENT_MAX = 16 * MIB, 24 * MIB


@pytest.fixture(scope="module")
def small(make_node: MakeNode) -> Node:
    """A node with low limits."""
    return make_node(
        "small",
        limits={
            "message_bytes_max": MESSAGE_MAX,
            "document_bytes_max": DOCUMENT_MAX,
            "parts_max": 5,
            "depth_max": 20,
            "attributes_max": 12,
            "results_max": 3,
            "mllp_frame_bytes_max": 2000,
            "header_bytes_max": 4000,
        },
    )


@contextmanager
def memory_within(node: Node, limit: int) -> Iterator[None]:
    """The worker's memory grows by no more than ``limit`` inside."""
    if not node.forget_peak():
        pytest.skip("this system does not let the peak of a process's memory be measured anew")
    before = node.memory(peak=False)
    yield
    after = node.memory()
    assert set(before) <= set(after), "a worker died"
    for pid, peak in after.items():
        grown = peak - before[pid]
        print(f"memory grew by {grown / MIB:.1f} MiB, limit {limit / MIB:.0f} MiB")
        assert grown <= limit


def test_message_over_its_limit(small: Node) -> None:
    register_envelope(small)
    filler = "<!--" + "x" * (MESSAGE_MAX + 1000) + "-->"
    message = register_envelope(small).replace("<s:Body>", filler + "<s:Body>").encode()
    with nothing_kept(small), memory_within(small, 2 * MESSAGE_MAX):
        answer = small.post("register", message, SOAP_TYPE)
    assert answer.http_status == 413
    assert "message_bytes_max" in answer.fault
    with nothing_kept(small), memory_within(small, 2 * MESSAGE_MAX):
        answer = small.post("register", package(message), package_type())
    assert answer.http_status == 413
    assert "message_bytes_max" in answer.fault


def test_message_within_its_limit(small: Node) -> None:
    filler = ("<!--" + "x" * (MIB - 7) + "-->") * 15
    message = register_envelope(small).replace("<s:Body>", filler + "<s:Body>").encode()
    assert small.post("register", message, SOAP_TYPE).status == "Success"


def test_document_over_its_limit(small: Node) -> None:
    _, body, parts = provided(small, content=b"d" * (DOCUMENT_MAX + 1))
    data = package(provide_envelope(body), parts)
    with nothing_kept(small), memory_within(small, 2 * DOCUMENT_MAX):
        answer = small.post("repository", data, package_type())
    assert answer.http_status == 413
    assert "document_bytes_max" in answer.fault


def test_document_at_its_limit(small: Node) -> None:
    patient = small.patient()
    entry = small.entry(patient, content=os.urandom(DOCUMENT_MAX))
    with memory_within(small, 2 * DOCUMENT_MAX):
        small.provided(small.submission(patient, entry))
        assert small.retrieve(entry.unique_id).documents == {entry.unique_id: entry.content}


def test_too_many_parts(small: Node) -> None:
    _, body, parts = provided(small)
    with nothing_kept(small):
        answer = small.mtom("repository", body, [*parts, *((f"more{i}", b"x") for i in range(5))])
    assert answer.fault_code == "Sender"
    assert "part" in answer.fault


def test_depth_and_attributes(small: Node) -> None:
    message = register_envelope(small)
    with nothing_kept(small):
        deep = small.post(
            "register", message.replace("<s:Header>", "<s:Header>" + "<b>" * 19 + "</b>" * 19).encode(), SOAP_TYPE
        )
    assert "deep" in deep.fault
    with nothing_kept(small):
        many = " ".join(f'x{i}=""' for i in range(13))
        wide = small.post("register", message.replace("<s:Header>", f"<s:Header {many}>").encode(), SOAP_TYPE)
    assert "attributes" in wide.fault


def test_many_small_elements_in_bounded_memory(small: Node) -> None:
    """A tree takes far more memory than its text: such a message is refused before it is built."""
    message = register_envelope(small).replace("<s:Header>", "<s:Header>" + "<b/>" * (MESSAGE_MAX // 5)).encode()
    assert len(message) < MESSAGE_MAX
    with nothing_kept(small), memory_within(small, 2 * MESSAGE_MAX):
        answer = small.post("register", message, SOAP_TYPE)
    assert answer.fault_code == "Sender"


def test_too_many_results(small: Node) -> None:
    """Each refused question has one record, which says that it was refused."""
    patient = small.patient()
    small.registered(small.submission(patient, *(small.entry(patient) for _ in range(4))))
    small.registered(small.submission(patient, folders=[small.folder(patient) for _ in range(4)]))
    for _ in range(3):
        small.registered(small.submission(patient, small.entry(patient)))
    statuses = dict.fromkeys(
        ("XDSDocumentEntryStatus", "XDSSubmissionSetStatus", "XDSFolderStatus"), quoted(peer.APPROVED)
    )
    for name, named in (
        ("FindDocuments", "XDSDocumentEntryPatientId"),
        ("FindSubmissionSets", "XDSSubmissionSetPatientId"),
        ("FindFolders", "XDSFolderPatientId"),
        ("GetAll", "patientId"),
    ):
        for returns in ("LeafClass", "ObjectRef"):
            given = {n: v for n, v in statuses.items() if name == "GetAll" or n[3:6] == name[4:7]}
            last = small.last_audit()
            answer = small.query(name, returns, **{named: quoted(patient)[1:-1]}, **given)
            assert answer.codes == ["XDSTooManyResults"], name
            assert "3" in answer.errors[0][2]
            [(_, transaction, outcome, text)] = small.audits(last)
            assert (transaction, outcome) == ("ITI-18", 4)
            assert "XDSTooManyResults" in text
            assert patient.partition("^")[0] in text


def test_hl7_frame_over_its_limit(small: Node) -> None:
    patients = small.rows("SELECT count(*) FROM patient")
    host, _, port = small.endpoints["mllp"].rpartition(":")
    with socket.create_connection((host, int(port)), timeout=10) as connection:
        connection.sendall(b"\x0bMSH|^~\\&|" + b"x" * 3000 + b"\r\x1c\r")
        connection.settimeout(10)
        answer = connection.recv(65536)
    assert b"MSA|AA" not in answer
    assert small.rows("SELECT count(*) FROM patient") == patients


def test_http_head_over_its_limit(small: Node) -> None:
    response = small.http.post(small.endpoints["register"], headers={"X-Long": "y" * 5000}, content=b"")
    assert response.status_code == 431


# large documents -------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_300_megabytes_in_and_out(make_node: MakeNode) -> None:
    """Streamed both ways: the worker's memory does not know how large a document is."""
    node = make_node("large")
    size = 300_000_000
    block = os.urandom(MIB)
    sha1 = hashlib.sha1()

    def content() -> Iterator[bytes]:
        left = size
        while left:
            piece = block[: min(left, MIB)]
            left -= len(piece)
            yield piece

    for piece in content():
        sha1.update(piece)
    patient = node.patient()
    entry = node.entry(patient, hash=sha1.hexdigest(), size=str(size))
    body = node.submission(patient, entry).provided(include(entry.id, "part1@peer"))
    head, tail = package(provide_envelope(body), [("part1@peer", b"@@")]).split(b"@@")
    with memory_within(node, 64 * MIB):

        def message() -> Iterator[bytes]:
            yield head
            yield from content()
            yield tail

        answer = node.post("repository", message(), package_type())
        assert answer.status == "Success", answer.errors or answer.fault
    found = hashlib.sha1()
    with memory_within(node, 64 * MIB):
        request = package(envelope(ACTIONS["retrieve"], peer.retrieval((node.repository, entry.unique_id))))
        headers = {"Content-Type": package_type()}
        received, start, seen = 0, -1, b""
        with httpx.stream(
            "POST", node.endpoints["retrieve"], content=request, headers=headers, timeout=120
        ) as response:
            for piece in response.iter_bytes():
                data = piece
                if start < 0:
                    seen += piece
                    # The document is the second part: after the second empty line.
                    second = seen.find(b"\r\n\r\n", seen.find(b"\r\n\r\n") + 4)
                    if second < 0:
                        continue
                    start, data = second, seen[second + 4 :]
                data = data[: size - received]
                received += len(data)
                found.update(data)
    assert received == size
    assert found.hexdigest() == sha1.hexdigest()

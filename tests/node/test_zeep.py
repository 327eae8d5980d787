"""zeep, a typed SOAP client that nobody here wrote, with the WSDLs that IPF publishes for XDS.b.

zeep knows no MTOM. ITI-43 is an MTOM package both ways, so there its transport wraps what zeep wrote and puts the
attachments of the answer back in their places; request and answer are zeep's own work otherwise.
"""

from __future__ import annotations

import email
import email.policy
import hashlib
import uuid
from base64 import b64encode
from collections.abc import Mapping
from typing import Any

import peer
import pytest
import requests
from lxml import etree
from peer import APPROVED, XSD_FOLDER, Node, quoted

pytestmark = [
    pytest.mark.node,
    pytest.mark.skipif(not XSD_FOLDER.is_dir(), reason="the WSDLs (../shared/data/ihe/ipf-wsdl) are not there"),
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
]

zeep = pytest.importorskip("zeep")
RIM = f"{{{peer.RIM}}}"


class MtomTransport(zeep.Transport):  # type: ignore[misc, name-defined]
    """MTOM around a client that has none."""

    def post(self, address: str, message: bytes, headers: Mapping[str, str]) -> Any:
        response = super().post(address, peer.package(message), {"Content-Type": peer.package_type()})
        assert response.headers["Content-Type"].startswith("multipart/related")
        head = f"Content-Type: {response.headers['Content-Type']}\r\n\r\n".encode()
        parts = {
            p["Content-ID"].strip("<>"): p
            for p in email.message_from_bytes(head + response.content, policy=email.policy.HTTP).iter_parts()
        }
        root = etree.fromstring(next(iter(parts.values())).get_payload(decode=True))
        for include in list(root.iter(f"{{{peer.XOP}}}Include")):
            content = parts[include.get("href").removeprefix("cid:")].get_payload(decode=True)
            owner = include.getparent()
            owner.remove(include)
            owner.text = b64encode(content).decode()
        unpacked = requests.Response()
        unpacked.status_code = response.status_code
        unpacked.headers["Content-Type"] = "application/soap+xml"
        unpacked._content = etree.tostring(root)
        return unpacked


def client(name: str, address: str, transport: Any = None, plugins: tuple[Any, ...] = ()) -> tuple[Any, Any]:
    """The client, and a service at our address."""
    # zeep does not know substitution groups, which rim:RegistryObjectList is made of.
    settings = zeep.Settings(strict=False)
    wsdl = str(XSD_FOLDER / f"{name}.wsdl")
    found = zeep.Client(wsdl, transport=transport or zeep.Transport(timeout=20), plugins=plugins, settings=settings)
    binding = next(n for n, b in found.wsdl.bindings.items() if "Soap12" in type(b).__name__)
    return found, found.create_service(binding, address)


class Objects(zeep.Plugin):  # type: ignore[misc, name-defined]
    """Puts registry objects into the list of a request: zeep cannot write ``rim:Classification/@id``."""

    def __init__(self, objects: str) -> None:
        self._objects = etree.fromstring(f'<rim:List xmlns:rim="{peer.RIM}">{objects}</rim:List>')

    def egress(self, envelope: Any, http_headers: Any, operation: Any, binding_options: Any) -> Any:
        next(envelope.iter(f"{RIM}RegistryObjectList")).extend(self._objects)
        return envelope, http_headers


def slot(name: str, *values: str) -> dict[str, Any]:
    return {"name": name, "ValueList": {"_value_1": [{"Value": v} for v in values]}}


def test_registry_stored_query(node: Node) -> None:
    patient = node.patient()
    entry = node.entry(patient, title="Żółć & „gęśl”")
    node.registered(node.submission(patient, entry))
    found, service = client("iti18", node.endpoints["registry"])
    request = {
        "ResponseOption": {"returnType": "LeafClass", "returnComposedObjects": True},
        "AdhocQuery": {
            "id": f"urn:uuid:{peer.QUERIES['FindDocuments']}",
            "Slot": [
                slot("$XDSDocumentEntryPatientId", quoted(patient)[1:-1]),
                slot("$XDSDocumentEntryStatus", quoted(APPROVED)),
            ],
        },
    }
    answer = service.DocumentRegistry_RegistryStoredQuery(**request)
    assert answer.status.endswith(":Success")
    with found.settings(raw_response=True):
        raw = etree.fromstring(service.DocumentRegistry_RegistryStoredQuery(**request).content)
    assert [e.get("id") for e in raw.iter(f"{RIM}ExtrinsicObject")] == [entry.id]

    request["ResponseOption"]["returnType"] = "ObjectRef"
    answer = service.DocumentRegistry_RegistryStoredQuery(**request)
    assert answer.status.endswith(":Success")

    request["AdhocQuery"]["id"] = "urn:uuid:00000000-0000-0000-0000-000000000000"
    answer = service.DocumentRegistry_RegistryStoredQuery(**request)
    assert answer.status.endswith(":Failure")
    assert answer.RegistryErrorList.RegistryError[0].errorCode == "XDSUnknownStoredQuery"


def test_register_document_set(node: Node) -> None:
    patient = node.patient()
    entry = node.entry(patient)
    submission = node.submission(patient, entry, folders=[node.folder(patient)])
    for _ in range(2):  # the second time it is a repetition
        _, service = client("iti42", node.endpoints["register"], plugins=(Objects(submission.objects()),))
        answer = service["DocumentRegistry_RegisterDocumentSet-b"](RegistryObjectList={"Identifiable": []})
        assert answer.status.endswith(":Success"), answer
    assert node.found(patient).ids == {entry.id}

    _, service = client("iti42", node.endpoints["register"])
    answer = service["DocumentRegistry_RegisterDocumentSet-b"](RegistryObjectList={"Identifiable": []})
    assert answer.status.endswith(":Failure")
    [error] = answer.RegistryErrorList.RegistryError
    assert (error.errorCode, error.location) == ("XDSRegistryMetadataError", "RegistryObjectList")


def test_multi_patient_stored_query(node: Node) -> None:
    patients = [node.patient(), node.patient()]
    entries = [node.entry(patient) for patient in patients]
    for entry in entries:
        node.registered(node.submission(entry.patient, entry))
    found, service = client("iti51", node.endpoints["registry"])
    request = {
        "ResponseOption": {"returnType": "LeafClass", "returnComposedObjects": True},
        "AdhocQuery": {
            "id": f"urn:uuid:{peer.QUERIES['FindDocumentsForMultiplePatients']}",
            "Slot": [
                slot("$XDSDocumentEntryPatientId", quoted(*patients)),
                slot("$XDSDocumentEntryStatus", quoted(APPROVED)),
            ],
        },
    }
    assert service.DocumentRegistry_MultiPatientStoredQuery(**request).status.endswith(":Success")
    with found.settings(raw_response=True):
        raw = etree.fromstring(service.DocumentRegistry_MultiPatientStoredQuery(**request).content)
    assert {e.get("id") for e in raw.iter(f"{RIM}ExtrinsicObject")} == {e.id for e in entries}

    request["AdhocQuery"]["Slot"] = [slot("$XDSDocumentEntryStatus", quoted(APPROVED))]
    answer = service.DocumentRegistry_MultiPatientStoredQuery(**request)
    assert answer.status.endswith(":Failure")
    assert answer.RegistryErrorList.RegistryError[0].errorCode == "XDSStoredQueryMissingParam"


def test_register_on_demand_document_entry(node: Node) -> None:
    patient = node.patient()
    for object_type, status in ((peer.ON_DEMAND, ":Success"), (peer.STABLE, ":Failure")):
        entry = node.entry(patient, object_type=object_type, creation_time="", with_hash=False)
        objects = Objects(node.submission(patient, entry).objects())
        _, service = client("iti61", node.endpoints["register"], plugins=(objects,))
        answer = service.DocumentRegistry_RegisterOnDemandDocumentEntry(RegistryObjectList={"Identifiable": []})
        assert answer.status.endswith(status), answer
    assert len(node.found(patient, Type=quoted(peer.ON_DEMAND)).ids) == 1


def refused(service: Any, operation: str) -> Any:
    """An empty request: it must be understood, and refused in the form that the WSDL has."""
    answer = service[operation](RegistryObjectList={"Identifiable": []})
    assert answer.status.endswith(":Failure")
    return answer.RegistryErrorList.RegistryError[0].errorCode


@pytest.mark.parametrize(("name", "key"), [("iti57", "update"), ("iti92", "restricted_update")])
def test_update_document_set(node: Node, name: str, key: str) -> None:
    patient = node.patient()
    entry = node.entry(patient)
    node.registered(node.submission(patient, entry))
    own, more = peer.urn(), peer.slot("PreviousVersion", "1")
    version = node.entry(patient, unique_id=entry.unique_id, logical_id=entry.id, title="Żółć & „gęśl”")
    link = peer.association("HasMember", own, version.id, status="Original", more=more)
    objects = node.submission(patient, version, associations=[link], id=own, member=False).objects()
    found, _ = client(name, node.endpoints[key])
    [operation] = [o for b in found.wsdl.bindings.values() if "Soap12" in type(b).__name__ for o in b._operations]
    _, service = client(name, node.endpoints[key], plugins=(Objects(objects),))
    answer = service[operation](RegistryObjectList={"Identifiable": []})
    assert answer.status.endswith(":Success"), answer
    assert node.found(patient).ids == {version.id}
    _, service = client(name, node.endpoints[key])
    assert refused(service, operation) == "XDSRegistryMetadataError"


def test_remove_metadata(node: Node) -> None:
    patient = node.patient()
    entry = node.entry(patient)
    submission = node.registered(node.submission(patient, entry))
    found, service = client("iti62", node.endpoints["remove"])
    [operation] = [o for b in found.wsdl.bindings.values() if "Soap12" in type(b).__name__ for o in b._operations]
    answer = service[operation](ObjectRefList={"_value_1": [{"ObjectRef": {"id": entry.id}}]})
    assert answer.status.endswith(":Failure")
    assert answer.RegistryErrorList.RegistryError[0].errorCode == "ReferencesExistException"
    inside = node.query("GetSubmissionSetAndContents", XDSSubmissionSetEntryUUID=quoted(submission.id)[1:-1])
    answer = service[operation](ObjectRefList={"_value_1": [{"ObjectRef": {"id": i}} for i in inside.ids]})
    assert answer.status.endswith(":Success"), answer
    assert node.found(patient).ids == set()


def test_remove_documents(node: Node) -> None:
    patient = node.patient()
    entry = node.entry(patient)
    node.provided(node.submission(patient, entry))
    _, service = client("iti86", node.endpoints["remove_documents"])
    named = [
        {"RepositoryUniqueId": node.repository, "DocumentUniqueId": u} for u in (entry.unique_id, "2.25.404")
    ]  # fmt: skip
    answer = service.DocumentRepository_RemoveDocuments(DocumentRequest=named)
    assert answer.status.endswith(":PartialSuccess")
    assert [e.errorCode for e in answer.RegistryErrorList.RegistryError] == ["XDSDocumentUniqueIdError"]
    assert node.retrieve(entry.unique_id).status == "Failure"


def test_retrieve_document_set(node: Node) -> None:
    patient = node.patient()
    entries = [node.entry(patient, content=uuid.uuid4().bytes * n) for n in (1, 5000)]
    node.provided(node.submission(patient, *entries))
    _, service = client("iti43", node.endpoints["retrieve"], MtomTransport(timeout=20))
    request = [{"RepositoryUniqueId": node.repository, "DocumentUniqueId": e.unique_id} for e in entries]
    answer = service.DocumentRepository_RetrieveDocumentSet(DocumentRequest=request)
    assert answer.RegistryResponse.status.endswith(":Success")
    found = {d.DocumentUniqueId: d.Document for d in answer.DocumentResponse}
    assert {k: hashlib.sha1(v).hexdigest() for k, v in found.items()} == {
        e.unique_id: hashlib.sha1(e.content).hexdigest() for e in entries
    }
    assert {d.mimeType for d in answer.DocumentResponse} == {"text/plain"}

    unknown = [{"RepositoryUniqueId": node.repository, "DocumentUniqueId": "1.2.3"}]
    answer = service.DocumentRepository_RetrieveDocumentSet(DocumentRequest=unknown)
    assert answer.RegistryResponse.status.endswith(":Failure")
    assert answer.RegistryResponse.RegistryErrorList.RegistryError[0].errorCode == "XDSDocumentUniqueIdError"


def test_without_mtom_it_gets_a_clear_fault(node: Node) -> None:
    _, service = client("iti43", node.endpoints["retrieve"])
    request = [{"RepositoryUniqueId": node.repository, "DocumentUniqueId": "1.2.3"}]
    with pytest.raises(zeep.exceptions.Fault, match="MTOM"):
        service.DocumentRepository_RetrieveDocumentSet(DocumentRequest=request)

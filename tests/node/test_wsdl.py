"""The WSDL that the node serves, in the hands of a client that knows nothing else."""

from __future__ import annotations

from typing import Any

import peer
import pytest
from lxml import etree
from peer import APPROVED, Node, quoted

pytestmark = [pytest.mark.node, pytest.mark.filterwarnings("ignore::DeprecationWarning")]

zeep = pytest.importorskip("zeep")
ENDPOINTS = (
    "registry", "register", "repository", "retrieve", "update", "restricted_update", "remove", "remove_documents", "xdr",
)  # fmt: skip
SOAP12 = "{http://schemas.xmlsoap.org/wsdl/soap12/}"


@pytest.mark.parametrize("key", ENDPOINTS)
@pytest.mark.parametrize("query", ["wsdl", "WSDL", "singleWsdl"])
def test_it_describes_its_endpoint(node: Node, key: str, query: str) -> None:
    response = node.http.get(f"{node.endpoints[key]}?{query}")
    assert response.status_code == 200
    assert response.headers["content-type"].startswith("text/xml")
    root = etree.fromstring(response.content)
    assert [a.get("location") for a in root.iter(f"{SOAP12}address")] == [node.endpoints[key]]
    actions = [o.get("soapAction") for o in root.iter(f"{SOAP12}operation")]
    assert peer.ACTIONS[key] in actions


@pytest.mark.parametrize("key", ENDPOINTS)
def test_zeep_reads_it(node: Node, key: str) -> None:
    client = zeep.Client(f"{node.endpoints[key]}?wsdl")
    [service] = client.wsdl.services.values()
    [port] = service.ports.values()
    assert port.binding_options["address"] == node.endpoints[key]
    assert port.binding._operations


def test_a_call_by_our_wsdl(node: Node) -> None:
    patient = node.patient()
    entry = node.entry(patient)
    node.registered(node.submission(patient, entry))
    client = zeep.Client(f"{node.endpoints['registry']}?wsdl")
    request = etree.fromstring(
        peer.stored_query(
            "FindDocuments",
            XDSDocumentEntryPatientId=quoted(patient)[1:-1],
            XDSDocumentEntryStatus=quoted(APPROVED),
        )
    )

    # The types are open content: the elements are given as they are.
    answer: Any = client.service.DocumentRegistry_RegistryStoredQuery(_value_1=list(request))
    [objects] = [e for e in _elements(answer) if etree.QName(e).localname == "RegistryObjectList"]
    assert [o.get("id") for o in objects] == [entry.id]


def _elements(answer: Any) -> list[Any]:
    """Open content, wherever zeep has put it."""
    found = answer if isinstance(answer, list) else getattr(answer, "_value_1", None) or []
    return [e for e in found if isinstance(e, etree._Element)]

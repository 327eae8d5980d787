"""The token service of a running node over TLS, asked by zeep and by messages as they are."""

from __future__ import annotations

import json
import ssl
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import peer
import pytest
import requests
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding
from lxml import etree

import issuing
from issuing import ALL, SAML, SUBJECT, WST, applies_to, claims, rst
from obieg.domain.affinity_domain import polish_document
from obieg.ops.commands_certs import make as make_certificate
from obieg.wire import saml
from obieg.wire.xmldsig import certificate
from running import running

pytestmark = [pytest.mark.node, pytest.mark.filterwarnings("ignore::DeprecationWarning")]

zeep = pytest.importorskip("zeep")
pytest.importorskip("zeep.plugins")
signxml = pytest.importorskip("signxml")
ACTION = f"{WST}/RST/Issue"
PUBLIC_KEY = f"<wst:KeyType>{WST}/PublicKey</wst:KeyType>"


class Secure:
    """A laboratory node that speaks TLS, and a hospital with a certificate."""

    def __init__(self, folder: Path, endpoints: dict[str, str]) -> None:
        self.folder = folder
        self.endpoints = endpoints
        self.url = endpoints["sts"]
        self.pair = (str(folder / "hospital.pem"), str(folder / "hospital.key"))
        self.authority = endpoints["tls_ca"]
        context = ssl.create_default_context(cafile=self.authority)
        context.load_cert_chain(*self.pair)
        self.http = httpx.Client(verify=context, timeout=60)

    @property
    def certificates(self) -> list[x509.Certificate]:
        return x509.load_pem_x509_certificates((self.folder / "data" / "keys" / "sts.pem").read_bytes())

    @property
    def client(self) -> bytes:
        return x509.load_pem_x509_certificate((self.folder / "hospital.pem").read_bytes()).public_bytes(Encoding.DER)

    def ask(self, body: bytes, action: str = ACTION) -> tuple[httpx.Response, Any]:
        """The answer and what stands in its Body."""
        response = self.http.post(
            self.url,
            content=peer.envelope(action, body.decode()).encode(),
            headers={"Content-Type": f'application/soap+xml; charset=UTF-8; action="{action}"'},
        )
        return response, etree.fromstring(response.content)[-1][0]

    def verified(self, element: Any) -> saml.Assertion:
        """The assertion, verified by signxml and by ours."""
        (one,) = element.iter(f"{{{SAML}}}Assertion")
        data = etree.tostring(one, method="c14n", exclusive=True)
        own = self.certificates[0]
        pem = own.public_bytes(Encoding.PEM).decode()
        signxml.XMLVerifier().verify(data, x509_cert=pem, id_attribute="ID")
        return saml.verify_assertion(data, lambda _: [certificate(own.public_bytes(Encoding.DER))])


@pytest.fixture(scope="module")
def secure(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Secure]:
    folder = tmp_path_factory.mktemp("sts")
    make_certificate(folder, "hospital", ["localhost"])
    (folder / "trust.json").write_text(json.dumps({"client_cas": "ca.pem"}))
    arguments = ("--secure", "--trust", folder / "trust.json", "--data", folder / "data")
    with running(folder, "lab", *arguments) as endpoints:
        found = Secure(folder, endpoints)
        yield found
        found.http.close()


def test_the_holder_of_a_certificate_gets_an_assertion(secure: Secure) -> None:
    response, body = secure.ask(rst(PUBLIC_KEY, applies_to(secure.endpoints["registry"]), claims(ALL)))
    assert response.status_code == 200
    (action,) = etree.fromstring(response.content).iter(f"{{{issuing.WSA}}}Action")
    assert action.text == f"{WST}/RSTRC/IssueFinal"
    assertion = secure.verified(body)
    entity = f"urn:oid:{secure.endpoints['home_community_id']}"
    assert (assertion.issuer, assertion.audiences) == (entity, ((secure.endpoints["registry"], entity),))
    assert (assertion.method, assertion.holder) == ("holder-of-key", certificate(secure.client).key_info)
    assert assertion.name_id == "2.16.840.1.113883.3.4424.1.6.2#7654321"


def test_zeep_by_our_wsdl(secure: Secure) -> None:
    with requests.Session() as session:
        session.verify, session.cert = secure.authority, secure.pair
        session.trust_env = False  # else the environment says whom to believe
        history = zeep.plugins.HistoryPlugin()
        client = zeep.Client(f"{secure.url}?wsdl", transport=zeep.Transport(session=session), plugins=[history])
        request = etree.fromstring(rst(claims(ALL)))
        client.service.SecurityTokenService_Issue(_value_1=list(request))
        assert secure.verified(history.last_received["envelope"]).method == "bearer"
        with pytest.raises(zeep.exceptions.Fault) as refused:
            client.service.SecurityTokenService_Renew(_value_1=list(etree.fromstring(rst(kind="Renew"))))
        assert [str(code) for code in refused.value.subcodes] == [f"{{{WST}}}UnableToRenew"]


@pytest.mark.parametrize(("content", "kind", "fault"), [
    (rst(kind="Validate"), "Validate", "wst:RequestFailed"), (rst("<wst:OnBehalfOf/>"), "Issue", "wst:RequestFailed"),
    (rst(claims(SUBJECT, SUBJECT)), "Issue", "wst:InvalidRequest"),
    (rst(issuing.lifetime(None, issuing.NOW.replace(year=2001))), "Issue", "wst:InvalidTimeRange"),
    (rst(PUBLIC_KEY, "<wst:UseKey/>"), "Issue", "wst:InvalidRequest"),
])  # fmt: skip
def test_faults(secure: Secure, content: bytes, kind: str, fault: str) -> None:
    response, body = secure.ask(content, f"{WST}/RST/{kind}")
    assert response.status_code == 400
    (value,) = body.iter(f"{{{peer.SOAP}}}Subcode")
    assert value[0].text == fault
    assert value[0].nsmap["wst"] == WST
    assert body.findtext(f"{{{peer.SOAP}}}Reason/{{{peer.SOAP}}}Text")


def test_every_request_is_audited_once(secure: Secure) -> None:
    node = peer.Node(secure.endpoints, peer.Codes(polish_document()))
    since = node.last_audit()
    _, body = secure.ask(rst(claims(ALL)))
    secure.ask(rst("<wst:OnBehalfOf/>"))
    issued, refused = node.audits(since)
    node.close()
    assert [(t, o) for _, t, o, _ in (issued, refused)] == [("WST", 0), ("WST", 4)]
    record = etree.fromstring(issued[3])
    named = [e.get("ParticipantObjectID") for e in record.iter("ParticipantObjectIdentification")]
    (assertion,) = body.iter(f"{{{SAML}}}Assertion")
    assert named == ["2.16.840.1.113883.3.4424.1.6.2#7654321", "12^^^&1.2.3.4&ISO", assertion.get("ID")]
    assert "TokenNotIssued" in refused[3]


def test_many_at_once_are_all_different(secure: Secure) -> None:
    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda _: secure.ask(rst(claims(ALL)))[1], range(40)))
    assert len({secure.verified(body).id for body in answers}) == 40


def test_the_key_is_made_once_and_kept_from_others(secure: Secure) -> None:
    folder = secure.folder / "data" / "keys"
    assert (folder / "sts.key").stat().st_mode & 0o777 == 0o600
    assert len(secure.certificates) == 1
    assert not list(folder.glob(".sts*"))

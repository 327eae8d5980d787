"""Whom a node trusts, as its file lists it."""

from __future__ import annotations

import base64
import json
from datetime import UTC, datetime, timedelta

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding

from obieg.ops.failure import Failure
from obieg.ops.trust_file import read_trust


@pytest.fixture(scope="module")
def certificate() -> x509.Certificate:
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "issuer")])
    now = datetime.now(UTC)
    builder = x509.CertificateBuilder(name, name, key.public_key(), 1, now, now + timedelta(days=1))
    return builder.sign(key, hashes.SHA256())


def test_each_form_of_a_certificate(tmp_path, certificate):
    pem, der = certificate.public_bytes(Encoding.PEM).decode(), certificate.public_bytes(Encoding.DER)
    (tmp_path / "issuer.pem").write_text(pem)
    forms = [pem, base64.b64encode(der).decode(), "issuer.pem"]
    issuer = {"entity_id": "urn:oid:1.2.3", "audience": "urn:obieg", "certificate": forms}
    client = {"client_id": "c", "jwks": {"keys": []}, "scopes": "ITI-67 ITI-68"}
    path = tmp_path / "trust.json"
    path.write_text(json.dumps({"saml_issuers": [issuer], "oauth_clients": [client], "client_cas": pem * 2}))
    trust = read_trust(path)
    assert trust.saml_issuers[0].certificates == (der, der, der)
    assert trust.saml_issuers[0].audiences == ("urn:obieg",)
    assert trust.oauth_clients[0].scopes == ("ITI-67", "ITI-68")
    assert trust.client_authorities == (der, der)
    path.write_text(path.read_text().replace("ITI-68", "ITI-66"))
    assert read_trust(path).version != trust.version


@pytest.mark.parametrize(
    "text",
    [
        "", "[]", '{"unknown": 1}', '{"saml_issuers": [{"entity_id": "x"}]}', '{"client_cas": "no certificate"}',
        '{"saml_issuers": [{"entity_id": "x", "audience": "y", "certificate": "AAAA"}]}',
    ],
)  # fmt: skip
def test_anything_else_is_refused(tmp_path, text):
    path = tmp_path / "trust.json"
    path.write_text(text)
    with pytest.raises(Failure, match=r"trust\.json cannot be read"):
        read_trust(path)


def test_a_missing_file(tmp_path):
    with pytest.raises(Failure, match="cannot be read"):
        read_trust(tmp_path / "none.json")

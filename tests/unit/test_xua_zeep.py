"""Signed messages as zeep makes them: assertion, token, Timestamp, and a signature over Body and Timestamp."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import pytest
from lxml import etree

from minting import NOW, WSSE, WSU, Assertion, Identity, envelope, holder_of_key, zulu
from trusting import CLIENT, STS, asked, refused

xmlsec = pytest.importorskip("xmlsec")


def zeep_message(assertion: bytes, by: Identity, folder: Path, *, seconds: int = 300) -> bytes:
    from zeep.wsse.signature import BinarySignature

    key, certificate = folder / "key.pem", folder / "certificate.pem"
    key.write_bytes(by.key_pem)
    certificate.write_bytes(by.pem)
    root = etree.fromstring(envelope(assertion))
    security = root[0].find(f"{{{WSSE}}}Security")
    timestamp = etree.SubElement(security, f"{{{WSU}}}Timestamp")
    etree.SubElement(timestamp, f"{{{WSU}}}Created").text = zulu(NOW)
    etree.SubElement(timestamp, f"{{{WSU}}}Expires").text = zulu(NOW + timedelta(seconds=seconds))
    signer = BinarySignature(
        str(key),
        str(certificate),
        signature_method=xmlsec.Transform.RSA_SHA256,
        digest_method=xmlsec.Transform.SHA256,
    )
    signed, _ = signer.apply(root, {})
    return etree.tostring(signed)


def test_zeep(tmp_path: Path) -> None:
    data = zeep_message(Assertion(**holder_of_key(CLIENT)).signed(STS), CLIENT, tmp_path)
    assert asked(data).person == "dr"
    assert refused(data.replace(b"?</q:Question>", b"!</q:Question>")) == "what was signed has been changed"


def test_zeep_with_a_message_that_holds_too_long(tmp_path: Path) -> None:
    data = zeep_message(Assertion(**holder_of_key(CLIENT)).signed(STS), CLIENT, tmp_path, seconds=3600)
    assert "too late" in refused(data)

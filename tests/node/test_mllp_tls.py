"""The patient feed over TLS: only with the certificates that the settings name, and nothing below TLS 1.2."""

from __future__ import annotations

import datetime as dt
import json
import ssl
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

import hl7
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from hl7.mllp import open_hl7_connection

pytestmark = pytest.mark.node

NOW = dt.datetime.now(dt.UTC)


class Pair(NamedTuple):
    certificate: Path
    key: Path


class Authority:
    """A certificate authority for one test module."""

    def __init__(self, folder: Path, name: str) -> None:
        self._folder = folder
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        certificate = self._builder(self._name, self._key).add_extension(
            x509.BasicConstraints(ca=True, path_length=0), critical=True
        )
        self.file = folder / f"{name}.pem"
        self.file.write_bytes(self._signed(certificate))

    def issue(self, name: str) -> Pair:
        key = ec.generate_private_key(ec.SECP256R1())
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        builder = self._builder(subject, key).add_extension(
            x509.SubjectAlternativeName([x509.DNSName("localhost")]), critical=False
        )
        pair = Pair(self._folder / f"{name}.crt", self._folder / f"{name}.key")
        pair.certificate.write_bytes(self._signed(builder))
        pair.key.write_bytes(
            key.private_bytes(
                serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
            )
        )
        return pair

    def _builder(self, subject: x509.Name, key: ec.EllipticCurvePrivateKey) -> x509.CertificateBuilder:
        return (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(self._name)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(NOW - dt.timedelta(hours=1))
            .not_valid_after(NOW + dt.timedelta(days=1))
        )

    def _signed(self, builder: x509.CertificateBuilder) -> bytes:
        return builder.sign(self._key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)


class Feed(NamedTuple):
    host: str
    port: int
    authority: str  # of patient ids
    trusted: Authority


@pytest.fixture(scope="module")
def feed(make_node: Callable, tmp_path_factory: pytest.TempPathFactory) -> Feed:
    authority = Authority(tmp_path_factory.mktemp("ca"), "trusted")
    server = authority.issue("server")
    folder = tmp_path_factory.mktemp("trust")
    (folder / "trust.json").write_text(json.dumps({"client_cas": authority.file.read_text()}))
    node = make_node(
        "tls-feed",
        tls={"certificate_file": server.certificate, "key_file": server.key},
        trust={"file": folder / "trust.json"},
    )
    host, _, port = node.endpoints["mllp"].rpartition(":")
    return Feed(host, int(port), node.endpoints["assigning_authority"], authority)


def context(feed: Feed, pair: Pair | None) -> ssl.SSLContext:
    tls = ssl.create_default_context(cafile=str(feed.trusted.file))
    if pair is not None:
        tls.load_cert_chain(pair.certificate, pair.key)
    return tls


async def announce(feed: Feed, tls: ssl.SSLContext) -> str:
    message = hl7.parse(
        "MSH|^~\\&|HIS|SZPITAL|OBIEG|REGION|20260101120000||ADT^A01^ADT_A01|1|P|2.3.1\r"
        f"EVN|A01|20260101120000\rPID|||TLS1^^^&{feed.authority}&ISO||Żółw^Łucja||19710101|F\rPV1||I\r"
    )
    reader, writer = await open_hl7_connection(
        feed.host, feed.port, ssl=tls, server_hostname="localhost", encoding="utf-8"
    )
    try:
        writer.writemessage(message)
        await writer.drain()
        answer = await reader.readmessage()
        return str(answer.segment("MSA")[1])
    finally:
        writer.close()
        with suppress(OSError):  # of TLS, too
            await writer.wait_closed()


async def test_a_client_with_a_trusted_certificate_feeds(feed: Feed) -> None:
    assert await announce(feed, context(feed, feed.trusted.issue("hospital"))) == "AA"


async def test_a_client_without_a_certificate_gets_no_answer(feed: Feed) -> None:
    with pytest.raises((ssl.SSLError, ConnectionError, EOFError)):
        await announce(feed, context(feed, None))


async def test_a_client_of_another_authority_gets_no_answer(feed: Feed, tmp_path: Path) -> None:
    stranger = Authority(tmp_path, "stranger").issue("stranger")
    with pytest.raises((ssl.SSLError, ConnectionError, EOFError)):
        await announce(feed, context(feed, stranger))


async def test_old_tls_is_refused(feed: Feed) -> None:
    tls = context(feed, feed.trusted.issue("old"))
    tls.minimum_version = ssl.TLSVersion.TLSv1_2
    tls.maximum_version = ssl.TLSVersion.TLSv1_2
    assert await announce(feed, tls) == "AA"
    with pytest.warns(DeprecationWarning, match="TLSv1_1"):
        tls.minimum_version = ssl.TLSVersion.TLSv1_1
    with pytest.warns(DeprecationWarning, match="TLSv1_1"):
        tls.maximum_version = ssl.TLSVersion.TLSv1_1
    with pytest.raises((ssl.SSLError, ConnectionError)):
        await announce(feed, tls)


async def test_plain_bytes_are_refused(feed: Feed) -> None:
    reader, writer = await open_hl7_connection(feed.host, feed.port, encoding="utf-8")
    writer.writeblock(b"MSH|^~\\&|HIS|S|O|R|20260101||ADT^A01|1|P|2.3.1\r")
    await writer.drain()
    with pytest.raises((ConnectionError, EOFError)):
        await reader.readmessage()
    writer.close()

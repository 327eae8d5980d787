"""The key that signs assertions: made once, kept, renewed, and refused when it cannot be used."""

from __future__ import annotations

from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec
from typer.testing import CliRunner

from obieg.domain.trust import SamlIssuer, Trust
from obieg.ops import settings as node_settings
from obieg.ops.cli import app
from obieg.ops.failure import Failure
from obieg.ops.settings import Settings
from obieg.ops.sts_key import own_issuer, own_key, renew, trusting_itself


def settings_of(folder: Path) -> Settings:
    identity = {"home_community_id": "1.2.3", "repository_unique_id": "1.3", "assigning_authority": "1.4"}
    return node_settings.make({"role": "region", "data_dir": ".", "identity": identity}, "test", folder)


def _certificate(folder: Path) -> bytes:
    return own_key(settings_of(folder)).certificate


def test_workers_that_start_at_once_agree(tmp_path: Path) -> None:
    with ProcessPoolExecutor(4) as pool:
        found = set(pool.map(_certificate, [tmp_path] * 4))
    assert found == {own_key(settings_of(tmp_path)).certificate}
    assert sorted(p.name for p in (tmp_path / "keys").iterdir()) == ["sts.key", "sts.pem"]
    assert (tmp_path / "keys" / "sts.key").stat().st_mode & 0o777 == 0o600


def test_an_old_key_is_trusted_beside_the_new_one(tmp_path: Path) -> None:
    settings = settings_of(tmp_path)
    old = own_key(settings)
    issuer = own_issuer(settings)
    assert (issuer.entity_id, issuer.certificates, issuer.audiences) == (
        "urn:oid:1.2.3", (old.certificate,), ("urn:oid:1.2.3",),
    )  # fmt: skip
    renew(settings)
    new = own_key(settings)
    assert own_issuer(settings).certificates == (new.certificate, old.certificate)
    assert new.key.private_numbers() != old.key.private_numbers()
    assert (tmp_path / "keys" / "sts.key").stat().st_mode & 0o777 == 0o600


def test_a_renewal_that_stopped_half_way_goes_on_with_the_old_key(tmp_path: Path) -> None:
    settings = settings_of(tmp_path)
    old = own_key(settings)
    key_file = tmp_path / "keys" / "sts.key"
    kept = key_file.read_bytes()
    renew(settings)
    key_file.write_bytes(kept)
    assert own_key(settings).certificate == old.certificate


def test_the_certificate_of_a_key_that_lost_it_is_made_again(tmp_path: Path) -> None:
    settings = settings_of(tmp_path)
    old = own_key(settings)
    (tmp_path / "keys" / "sts.pem").unlink()
    new = own_key(settings)
    assert new.key.private_numbers() == old.key.private_numbers()
    assert x509.load_der_x509_certificate(new.certificate).public_key() == old.key.public_key()


@pytest.mark.parametrize("content", [b"", b"no key", b"-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n"])
def test_a_key_that_cannot_be_used_is_told(tmp_path: Path, content: bytes) -> None:
    settings = settings_of(tmp_path)
    own_key(settings)
    (tmp_path / "keys" / "sts.key").write_bytes(content)
    with pytest.raises(Failure, match=r"sts\.key"):
        own_key(settings)
    stranger = ec.generate_private_key(ec.SECP256R1()).private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    (tmp_path / "keys" / "sts.key").write_bytes(stranger)
    with pytest.raises(Failure, match="other keys"):
        own_key(settings)


def test_the_command_renews_it(tmp_path: Path) -> None:
    file = tmp_path / "settings.toml"
    identity = {"home_community_id": "1.2.3", "repository_unique_id": "1.3", "assigning_authority": "1.4"}
    file.write_text(node_settings.write_commented("region", data_dir=".", identity=identity))
    old = own_key(settings_of(tmp_path))
    done = CliRunner().invoke(app, ["certs", "renew-sts", "--settings", str(file)])
    assert done.exit_code == 0, done.output
    assert "sts.pem" in done.output
    assert [c == old.certificate for c in own_issuer(settings_of(tmp_path)).certificates] == [False, True]


def test_a_node_trusts_itself_and_nobody_in_its_name(tmp_path: Path) -> None:
    settings = settings_of(tmp_path)
    other, forged = SamlIssuer("urn:other", (b"1",), ("a",)), SamlIssuer("urn:oid:1.2.3", (b"2",), ("a",))
    found = trusting_itself(Trust((other, forged), version="1"), settings)
    assert found.saml_issuers == (other, own_issuer(settings))
    renew(settings)
    assert len({"1", found.version, trusting_itself(Trust((other,), version="1"), settings).version}) == 3

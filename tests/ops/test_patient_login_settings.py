"""What the settings of Węzeł Krajowy must say before a node starts."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from standins.wezel_krajowy.provider import KeyPair, Provider

from obieg.ops import settings as node_settings
from obieg.ops.failure import Failure
from obieg.ops.patient_login import patient_login

PROVIDER = Provider("login.example", "https://login.example")
IDENTITY = {"home_community_id": "1.2", "repository_unique_id": "1.3", "assigning_authority": "1.4"}


def write(folder: Path, name: str, pair: KeyPair) -> None:
    pem = pair.key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    (folder / f"{name}.key").write_bytes(pem)
    (folder / f"{name}.pem").write_bytes(pair.certificate.public_bytes(Encoding.PEM))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name in ("signing", "encryption"):
        write(tmp_path, name, KeyPair.make(name))
    write(tmp_path, "wide", KeyPair.make("wide", ec.SECP384R1()))
    write(tmp_path, "idp", PROVIDER.signing)
    (tmp_path / "metadata.xml").write_bytes(PROVIDER.metadata())
    return tmp_path


def given(**changes: Any) -> dict[str, Any]:
    tables = {
        "own_entity_id": "https://node.example/sp",
        "metadata_file": "metadata.xml",
        "signing_certificate_file": "signing.pem",
        "signing_key_file": "signing.key",
        "encryption_certificate_file": "encryption.pem",
        "encryption_key_file": "encryption.key",
    }
    return {name: value for name, value in {**tables, **changes}.items() if value is not None}


FIELDS = {
    "metadata_file": None,
    "entity_id": "login.example",
    "sign_on_url": PROVIDER.sign_on_url,
    "artifact_url": PROVIDER.artifact_url,
    "logout_url": PROVIDER.logout_url,
    "certificate_files": ["idp.pem"],
}


async def build(folder: Path, public_url: str = "https://node.example", *, lab: bool = False, **changes: Any) -> Any:
    http = {"public_url": public_url}
    made = node_settings.make(
        {"role": "region", "data_dir": ".", "identity": IDENTITY, "lab": lab, "http": http,
         "wezel_krajowy": given(**changes)}, "test", folder,
    )  # fmt: skip
    nothing: Any = None
    login, close = patient_login(made, nothing, nothing, now=lambda: datetime.now(UTC))
    await close()
    return login


async def test_metadata_and_fields_say_the_same(folder: Path) -> None:
    first, second = await build(folder), await build(folder, **FIELDS)
    assert first._idp == second._idp
    assert first._sp.consumer_url == "https://node.example/login/wk/acs"
    wide = await build(folder, encryption_certificate_file="wide.pem", encryption_key_file="wide.key")
    assert wide._keys.encryption.curve.name == "secp384r1"


@pytest.mark.parametrize(("changes", "said"), [
    ({"signing_key_file": None}, "signing_key_file: is needed"),
    ({"encryption_certificate_file": None}, "encryption_certificate_file: is needed"),
    ({"metadata_file": None}, "entity_id: is needed"),
    ({**FIELDS, "certificate_files": []}, "certificate_files: is needed"),
    ({"level": "highest"}, "level"),
    ({"signing_key_file": "encryption.key"}, "is not of the key"),
    ({"signing_key_file": "absent.key"}, "absent.key"),
    ({"signing_key_file": "wide.key", "signing_certificate_file": "wide.pem"}, "not on secp256r1"),
    ({"encryption_key_file": "signing.key", "encryption_certificate_file": "signing.pem"}, "one key must sign"),
    ({"metadata_file": "signing.pem"}, "metadata"),
    ({**FIELDS, "artifact_url": "http://login.example/art"}, "artifact_url is no https address"),
    ({**FIELDS, "logout_url": "ftp://login.example/art"}, "logout_url is no https address"),
    ({"public_url": "http://node.example"}, "public_url"),
    ({"public_url": ""}, "public_url"),
])  # fmt: skip
async def test_what_is_missing_or_wrong_is_said(folder: Path, changes: dict[str, Any], said: str) -> None:
    with pytest.raises(Failure) as raised:
        await build(folder, **changes)
    assert said in raised.value.what
    await build(folder)


async def test_a_laboratory_needs_no_tls(folder: Path) -> None:
    fields = {**FIELDS, "artifact_url": "http://127.0.0.1:1/art"}
    assert await build(folder, "http://127.0.0.1:8080", lab=True, **fields)

"""What a proposed file would change: judged against settings, without a database."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509

import minting
from obieg.domain.affinity_domain import polish_document
from obieg.domain.previewing import CodeInUse, Effect, InUse, Kind, Part, PeerCertificate, effects, refused_codes
from obieg.ops import settings as node_settings
from obieg.ops.previewing import compare, leaves
from obieg.ops.settings import Settings
from obieg.ops.worker import Assignment, read_assignment, write_assignment

IDENTITY = {"home_community_id": "1.2.1", "repository_unique_id": "1.2.2", "assigning_authority": "1.2.3"}
AUTHORITIES = [{"oid": "1.2.5", "name": "A"}, {"oid": "1.2.6", "name": "B"}]
HIS = {"name": "HIS", "protocol": "pix_v2", "address": "10.0.0.1:2575"}
NODE = {"name": "Szpital", "address": "10.0.0.9", "repository_unique_id": "1.2.9"}
SEEN = datetime(2026, 11, 20, tzinfo=UTC)
GIVEN: dict[str, Any] = {
    "name": "region", "data_dir": "data", "identity": IDENTITY, "authorities": AUTHORITIES, "subscribers": [HIS],
    "nodes": [NODE], "notices": {"sms_key": "old-secret"},
}  # fmt: skip


def text(**changes: Any) -> bytes:
    return node_settings.write_commented("region", **{**GIVEN, **changes}).encode()


@pytest.fixture
def now(tmp_path: Path) -> Settings:
    (tmp_path / "settings.toml").write_bytes(text())
    return node_settings.load(tmp_path / "settings.toml")


@pytest.fixture
def in_use() -> InUse:
    return InUse(
        documents={"1.2.2": 7, "1.2.9": 5},
        authorities={"1.2.5": 40, "1.2.6": 3, "1.2.3": 99},
        waiting={"HIS": 4},
        unsent={},
        grants={},
        heard={"10.0.0.9": SEEN},
        peers=[],
        patients=99,
        stored=7,
    )


def effects_of(proposal: Any, in_use: InUse) -> dict[str, tuple[str, int]]:
    return {one.what: (one.name, one.number) for one in effects(proposal, in_use, [], {})}


def test_faults_have_key_and_line(now: Settings) -> None:
    lines = text().decode().splitlines()
    broken = [line.replace('oid = "1.2.6"', 'oid = "PESEL"').replace("[notices]", "[notises]") for line in lines]
    faults = {
        fault.key: fault for fault in compare(Kind.SETTINGS, "\n".join(broken).encode(), now, anywhere=False).faults
    }
    assert broken[faults["authorities.oid"].line - 1] == 'oid = "PESEL"'
    assert broken[faults["notises"].line - 1] == "[notises]"
    assert "did you mean" in faults["notises"].said
    [fault] = compare(Kind.SETTINGS, b'role = "region"\n\nname = region\n', now, anywhere=False).faults
    assert fault.line == 3
    [fault] = compare(Kind.SETTINGS, b'role = "region"\n\xff\n', now, anywhere=False).faults
    assert fault.line == 2
    [fault] = compare(Kind.SETTINGS, text(authorities=[AUTHORITIES[0], AUTHORITIES[0]]), now, anywhere=False).faults
    assert (fault.key, fault.said) == ("authorities", "two of them have the same oid")
    assert fault.line
    for data, key, line in (
        (b'{"mimeType": [],\n "classCode": }', "", 2),
        (b'{"mimeType": [], "classCode": {"codes": [{"code": 1}]}}', "classCode.codes[0].code", 0),
    ):
        [fault] = compare(Kind.CODES, data, now, anywhere=False).faults
        assert (fault.key, fault.line) == (key, line), fault


def test_the_same_file_changes_nothing(now: Settings, in_use: InUse) -> None:
    proposal = compare(Kind.SETTINGS, text(), now, anywhere=False)
    assert not proposal.changes
    assert not effects_of(proposal, in_use)


def test_what_settings_break(now: Settings, in_use: InUse, tmp_path: Path) -> None:
    proposal = compare(
        Kind.SETTINGS,
        text(
            authorities=AUTHORITIES[1:], subscribers=[], nodes=[{**NODE, "address": "10.0.0.8"}],
            notices={"sms_key": "new-secret"}, data_dir="elsewhere", identity={**IDENTITY, "assigning_authority": "1.2.4"},
        ),
        now,
        anywhere=False,
    )  # fmt: skip
    assert not proposal.faults
    changes = {one.key: (one.now, one.then) for one in proposal.changes}
    assert changes["notices.sms_key"] == ("•••", "•••")
    assert "secret" not in str(proposal.changes)
    assert changes["nodes[Szpital].address"] == ("10.0.0.9", "10.0.0.8")
    assert changes["authorities[A].oid"] == ("1.2.5", "")
    found = effects_of(proposal, in_use)
    assert found["identifiers"] == ("1.2.5", 40)
    assert found["receiver"] == ("HIS", 4)
    assert found["node"] == ("Szpital", 5)
    assert found["content"] == ("", 7)
    assert found["patients"] == ("", 99)
    assert next(e for e in effects(proposal, in_use, [], {}) if e.what == "node").at == SEEN
    kept = compare(Kind.SETTINGS, text(nodes=[{**NODE, "repository_unique_id": "1.2.8"}]), now, anywhere=False)
    assert effects_of(kept, in_use) == {"node_repository": ("Szpital", 5)}
    moved = compare(Kind.SETTINGS, text(identity={**IDENTITY, "repository_unique_id": "1.2.7"}), now, anywhere=False)
    assert effects_of(moved, in_use) == {"repository": ("", 7)}


def test_files_are_opened_only_where_they_may_be(now: Settings, tmp_path: Path) -> None:
    (tmp_path / "codes.json").write_text("{")
    changed = text(affinity_domain={"codes": "codes.json"})
    from_page = compare(Kind.SETTINGS, changed, now, anywhere=False)
    assert (from_page.faults, from_page.codes) == ((), None)
    assert from_page.unread == [f"affinity_domain.codes: {tmp_path / 'codes.json'}"]
    [fault] = compare(Kind.SETTINGS, changed, now, anywhere=True).faults
    assert fault.key == "affinity_domain.codes"
    (tmp_path / "codes.json").write_text(json.dumps({**polish_document(), "typeCode": {}}))
    assert compare(Kind.SETTINGS, changed, now, anywhere=True).codes is not None
    [fault] = compare(
        Kind.SETTINGS, text(sealing={"tsa_url": "https://a", "tsa_ca_file": "no.pem"}), now, anywhere=True
    ).faults
    assert (fault.key, "cannot be read" in fault.said) == ("sealing.tsa_ca_file", True)


def test_codes_that_are_gone_are_counted(now: Settings, in_use: InUse) -> None:
    document = polish_document()
    [first, *others] = document["classCode"]["codes"]
    proposal = compare(
        Kind.CODES,
        json.dumps({**document, "classCode": {"codes": others}, "mimeType": document["mimeType"][1:]}).encode(),
        now,
        anywhere=False,
    )
    assert {one.then for one in proposal.changes} == {""}
    media = document["mimeType"][0]
    used = [
        CodeInUse("D", "class_code", f"{first['code']}^^{first['codingScheme']}", 8),
        CodeInUse("D", "class_code", f"{others[0]['code']}^^{others[0]['codingScheme']}", 50),
        CodeInUse("D", "class_code", "never^^agreed", 2),
        CodeInUse("D", "mime_type", media, 9),
    ]
    refused = refused_codes(proposal, used)
    assert [one.number for one in refused] == [9, 8]
    found = effects(proposal, in_use, refused, {"1.2.9": 1, "1.2.2": 10})
    assert found[0] == Effect("documents", "", 11, (Part("1.2.2", 10), Part("1.2.9", 1)))
    assert found[1].name == f"mimeType: {media}"


def test_who_is_no_longer_trusted(now: Settings, in_use: InUse, tmp_path: Path) -> None:
    old, new = (minting.identity(name).pem.decode() for name in ("Old", "New"))
    names = [x509.load_pem_x509_certificate(pem.encode()).subject.rfc4514_string() for pem in (old, new)]
    client = {"client_id": "app", "jwks": {"keys": []}, "scopes": "openid"}
    (tmp_path / "trust.json").write_text(json.dumps({"client_cas": [old, new], "oauth_clients": [client]}))
    now = now.model_copy(update={"trust": now.trust.model_copy(update={"file": tmp_path / "trust.json"})}).coming(
        tmp_path
    )
    proposal = compare(Kind.TRUST, json.dumps({"client_cas": new}).encode(), now, anywhere=False)
    peers = [PeerCertificate(True, f"CN={name}", ca, SEEN, SEEN) for name, ca in zip("ab", names, strict=True)]
    found = effects(proposal, in_use._replace(peers=peers, grants={"app": 3}), [], {})
    assert [(one.what, one.name, one.number) for one in found] == [
        ("authority", names[0], 0), ("certificate", "CN=a", 1), ("client", "app", 3),
    ]  # fmt: skip
    [fault] = compare(Kind.TRUST, b'{"client_cas": "/etc/hostname.pem"}', now, anywhere=False).faults
    assert "obieg check" in fault.said


def test_a_worker_compares_with_what_was_asked_for(now: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    """What the start decided, and what the environment says, is no difference."""
    monkeypatch.setenv("OBIEG_NOTICES__SMS_KEY", "of-the-environment")
    monkeypatch.setenv("OBIEG_NAME", "other")
    asked = node_settings.load(now.folder / "settings.toml")
    decided = asked.model_copy(
        update={"database": asked.database.model_copy(update={"dsn": "host=/run/x"})}
    ).coming(asked.folder, asked)  # fmt: skip
    monkeypatch.setattr(Settings, "aside", {})
    received = read_assignment(write_assignment(Assignment(decided, 0, 1, "a:b", 3, 4, None))).settings
    assert leaves(received)["database.dsn"].value == "host=/run/x"
    assert received.asked.name == "other"
    proposal = compare(Kind.SETTINGS, text(), received, anywhere=False)
    assert not proposal.changes
    assert sorted(proposal.overridden) == ["name", "notices.sms_key"]
    assert not proposal.faults

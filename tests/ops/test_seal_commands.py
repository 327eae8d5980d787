"""What an operator is told of the sealed audit, with time-stamps of ``openssl ts``, and proofs that stand alone."""

from __future__ import annotations

import asyncio
import base64
import json
from datetime import UTC, datetime, timedelta
from pathlib import Path

import psycopg
import pytest
from typer.testing import CliRunner

from obieg.domain.problems import RetryLater
from obieg.edges.timestamping import TimestampInvalid, check_timestamp
from obieg.ops import settings as node_settings
from obieg.ops.cli import app
from obieg.ops.sealing import Sealing, authority_certificates, origin
from obieg.storage.link import Database
from timestamping import running_authority


class Region:
    """The settings of a node, its sealing without the rest of it, and its commands."""

    def __init__(self, dsn: str, folder: Path, **sealing: object) -> None:
        self.dsn = dsn
        self.file = folder / "settings.toml"
        text = node_settings.write_commented(
            "region",
            data_dir="data",
            database={"dsn": dsn},
            identity={"home_community_id": "1.2.1", "repository_unique_id": "1.2.2", "assigning_authority": "1.2.3"},
            sealing=sealing,
        )
        self.file.write_text(text)
        self.settings = node_settings.load(self.file)
        self.folder = self.settings.data_dir
        self.folder.mkdir(exist_ok=True)

    def seal(self, records: int = 5, *, stamp: bool = False) -> None:
        self.sql(
            "INSERT INTO audit_event (transaction, outcome, patient_id, request_id, message)"
            f" SELECT 'ITI-18', 0, 'p', 'r' || i, '<message/>' FROM generate_series(1, {records}) i"
        )
        asyncio.run(self._seal(stamp=stamp))

    async def _seal(self, *, stamp: bool) -> None:
        database = Database(self.dsn, links=1)
        await database.open()
        try:
            sealing = Sealing(self.settings, database, lambda: datetime.now(UTC))
            assert await sealing.seal()
            if stamp:
                assert await sealing.stamp()
                assert not await sealing.stamp()
        finally:
            database.close()

    def sql(self, statement: str) -> list[tuple]:
        with psycopg.connect(self.dsn, autocommit=True) as connection:
            cursor = connection.execute(statement.encode())
            return cursor.fetchall() if cursor.description else []

    def run(self, *arguments: object, status: int = 0) -> str:
        words = [*map(str, arguments)] + ([] if "--check" in arguments else ["--settings", str(self.file)])
        done = CliRunner().invoke(app, ["audit", *words], env={"COLUMNS": "200"})
        assert done.exit_code == status, (done.output, done.exception)
        return done.stdout

    def verify(self, *arguments: object, status: int = 0) -> dict:
        return json.loads(self.run("verify", "--json", *arguments, status=status))


@pytest.fixture
def region(database_dsn, tmp_path) -> Region:
    return Region(database_dsn, tmp_path)


def test_verify_says_what_is_wrong_and_ends_with_status_1(region):
    region.seal(5)
    region.seal(4)
    region.sql("INSERT INTO audit_event (transaction, outcome, request_id, message) VALUES ('ITI-43', 0, 'r', 'm')")
    sound = region.verify()
    assert (sound["sound"], sound["records"], sound["seals"], sound["not_sealed_yet"]) == (True, 9, 2, 1)
    assert sound["root"].startswith(f"{origin(region.settings)}\n9\n")
    assert region.run("verify") == ""
    region.sql("UPDATE audit_event SET outcome = 8 WHERE audit_id = 7")
    region.sql("DELETE FROM audit_event WHERE audit_id = 2")
    changed = region.verify(status=1)
    assert [(d["kind"], d["seal"], d["record"]) for d in changed["deviations"]] == [("deleted", 1, 2), ("edited", 2, 7)]
    lines = region.run("verify", status=1).splitlines()
    assert [line.split()[:5] for line in lines] == [
        ["deleted", "seal", "1,", "record", "2"],
        ["edited", "seal", "2,", "record", "7"],
    ]


def test_operators_see_when_the_whole_was_verified(region):
    region.seal()
    region.verify("--from", "1")  # a part is not the whole
    region.verify()
    region.sql("UPDATE audit_event SET outcome = 4 WHERE request_id = 'r1'")
    region.verify(status=1)
    with psycopg.connect(region.dsn) as connection:
        rows = connection.execute("SELECT records, deviations FROM audit_verification ORDER BY verified_at").fetchall()
    assert rows == [(5, 0), (5, 1)]


def test_verify_a_part(region):
    region.seal(5)
    region.seal(4)
    region.seal(3)
    region.sql("UPDATE audit_event SET outcome = 8 WHERE audit_id IN (1, 7)")
    for bounds, records, found in (
        (("--from", 6), 7, [7]),
        (("--from", 10), 3, []),
        (("--to", 5), 5, [1]),
        (("--from", 6, "--to", 9), 4, [7]),
        (("--from", "2020-01-01"), 12, [1, 7]),
        (("--to", "2020-01-01"), 0, []),
        (("--from", (datetime.now(UTC) + timedelta(days=1)).isoformat()), 0, []),
    ):
        said = region.verify(*bounds, status=1 if found else 0)
        assert (said["records"], [d["record"] for d in said["deviations"]]) == (records, found), bounds
    region.run("verify", "--from", "yesterday", status=2)


def test_verify_knows_the_roots_that_are_kept_outside(region, tmp_path):
    region.seal(5)
    region.seal(4)
    copied = tmp_path / "copied.txt"
    copied.write_bytes((region.folder / "roots.txt").read_bytes())
    region.sql("DELETE FROM audit_seal WHERE sequence = 2; DELETE FROM audit_event WHERE audit_id > 5")
    [cut] = region.verify(status=1)["deviations"]
    assert (cut["kind"], cut["seal"]) == ("seal-missing", 2)
    (region.folder / "roots.txt").unlink()
    assert region.verify()["sound"]
    [cut] = region.verify("--roots", copied, status=1)["deviations"]
    assert (cut["kind"], cut["seal"]) == ("seal-missing", 2)


def test_a_proof_stands_alone(region, tmp_path):
    region.seal(7)
    region.seal(6)
    region.seal(300)
    proof = tmp_path / "proof.json"
    key = ""
    for number in (1, 7, 8, 13, 14, 200, 313):
        text = region.run("prove", number)
        proof.write_text(text)
        key = json.loads(text)["key"]
        assert len(json.dumps(json.loads(text)["path"])) < 1024
        said = json.loads(region.run("prove", "--check", proof))
        assert (said["audit_id"], said["message"], said["patient_id"]) == (number, "<message/>", "p")
        region.run("prove", "--check", proof, "--key", key)
    other = tmp_path / "other"
    other.mkdir()
    stranger = Region(region.dsn, other)
    region.sql("DELETE FROM audit_seal")
    stranger.seal(1)
    proof_of_stranger = tmp_path / "stranger.json"
    proof_of_stranger.write_text(stranger.run("prove", 5))
    region.run("prove", "--check", proof_of_stranger)
    assert "not proved" in region.run("prove", "--check", proof_of_stranger, "--key", key, status=1)


def test_a_proof_that_was_changed_proves_nothing(region, tmp_path):
    region.seal(7)
    region.seal(9)
    good = json.loads(region.run("prove", 10))
    record = base64.b64decode(good["record"])
    changes = {
        "audit_id": 9,
        "record": base64.b64encode(record.replace(b"<message/>", b"<massage/>")).decode(),
        "leaf_index": 8,
        "path": good["path"][::-1],
        "note": good["note"].replace("\n16\n", "\n17\n"),
        "key": good["key"].replace("+", "+0", 1),
    }
    for name, value in changes.items():
        path = tmp_path / f"{name}.json"
        path.write_text(json.dumps({**good, name: value}))
        assert "not proved" in region.run("prove", "--check", path, status=1), name
    (tmp_path / "rubbish.json").write_text("{}")
    assert "not proved" in region.run("prove", "--check", tmp_path / "rubbish.json", status=1)


def test_what_is_not_sealed_cannot_be_proved(region):
    region.seal(2)
    region.sql("INSERT INTO audit_event (transaction, outcome, request_id, message) VALUES ('ITI-43', 0, 'r', 'm')")
    region.run("prove", 3, status=1)
    region.run("prove", 99, status=1)
    region.run("prove", status=2)


def test_time_stamps_of_openssl(database_dsn, tmp_path):
    folder = tmp_path / "tsa"
    folder.mkdir()
    with running_authority(folder) as authority:
        region = Region(database_dsn, tmp_path, tsa_url=authority.url, tsa_ca_file=str(authority.ca))
        region.seal(5)
        region.seal(4, stamp=True)
        assert authority.asked == 1  # the newest covers all
        authority.failing = True
        with pytest.raises(RetryLater, match="503"):
            region.seal(3, stamp=True)
        authority.failing = False
        region.seal(2, stamp=True)  # sealing went on; this one covers what had none
    tokens = region.sql(
        "SELECT t.sequence, token, note FROM audit_timestamp t JOIN audit_seal USING (sequence) ORDER BY 1"
    )
    assert [sequence for sequence, _, _ in tokens] == [2, 4]
    roots = authority_certificates(authority.ca)
    for _, token, note in tokens:
        assert authority.accepts(token, note.encode())
        assert not authority.accepts(token, note.encode() + b" ")
        assert abs(check_timestamp(token, note.encode(), roots) - datetime.now(UTC)) < timedelta(minutes=5)
        for data, trusted in ((note.encode() + b" ", roots), (note.encode(), roots[:0])):
            with pytest.raises(TimestampInvalid):
                check_timestamp(token, data, trusted)
        with pytest.raises(TimestampInvalid):
            check_timestamp(token[:-20], note.encode(), roots)
    said = region.verify()
    assert said["sound"]
    assert (said["timestamps"]["count"], said["timestamps"]["seal"]) == (2, 4)

    proof = tmp_path / "proof.json"
    for number, seal in ((3, 2), (7, 2), (10, 4), (14, 4)):
        proof.write_text(region.run("prove", number))
        assert f"\nseal {seal}\n" in json.loads(proof.read_text())["later"]["note"]
        region.run("prove", "--check", proof, "--tsa-ca", authority.ca)
    forged = json.loads(proof.read_text())
    forged["later"]["timestamp"] = base64.b64encode(tokens[0][1]).decode()
    proof.write_text(json.dumps(forged))
    assert "not proved" in region.run("prove", "--check", proof, "--tsa-ca", authority.ca, status=1)

    region.sql("UPDATE audit_timestamp SET sequence = 3 WHERE sequence = 2")
    [wrong] = region.verify(status=1)["deviations"]
    assert (wrong["kind"], wrong["seal"]) == ("time-stamp", 3)


def test_a_time_stamp_of_another_authority_is_not_taken(database_dsn, tmp_path):
    one, other = tmp_path / "one", tmp_path / "other"
    one.mkdir()
    other.mkdir()
    with running_authority(one) as authority, running_authority(other) as another:
        region = Region(database_dsn, tmp_path, tsa_url=authority.url, tsa_ca_file=str(another.ca))
        with pytest.raises(RetryLater, match="no time-stamp of what was asked"):
            region.seal(1, stamp=True)
    assert region.sql("SELECT count(*) FROM audit_timestamp") == [(0,)]


def test_settings_need_what_time_stamps_are_checked_with(tmp_path):
    with pytest.raises(Exception, match="tsa_url needs tsa_ca_file"):
        Region("", tmp_path, tsa_url="http://tsa.example/")

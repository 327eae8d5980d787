"""What an operator is told of the outbox, and what they can do."""

from __future__ import annotations

import psycopg
import pytest
from typer.testing import CliRunner

from obieg.ops import settings as node_settings
from obieg.ops.cli import app
from obieg.ops.failure import Failure

REFUSED = "NotificationRefused: the receiver answers AE: PID-3 204 Unknown key identifier"


@pytest.fixture
def run(database_dsn, tmp_path):
    text = node_settings.write_commented(
        "region",
        data_dir="data",
        database={"dsn": database_dsn},
        identity={"home_community_id": "1.2.1", "repository_unique_id": "1.2.2", "assigning_authority": "1.2.3"},
        subscribers=[{"name": "Szpital A", "protocol": "pix_v2", "address": "10.0.0.1:2575"}],
    )
    (tmp_path / "settings.toml").write_text(text)

    def run(*arguments, fails=False):
        done = CliRunner().invoke(
            app, ["outbox", *arguments, "--settings", str(tmp_path / "settings.toml")], env={"COLUMNS": "160"}
        )
        if fails:
            return done.exception if isinstance(done.exception, Failure) else done.exit_code
        assert done.exit_code == 0, (done.output, done.exception)
        return done.output

    return run


@pytest.fixture
def put(database_dsn):
    def put(to="Szpital A", key="P1", **columns):
        columns = {"patient_key": 1, "destination": to, "transaction": "ITI-10", "key": key, "body": b"", **columns}
        with psycopg.connect(database_dsn) as connection:
            names = ", ".join(columns)
            marks = ", ".join(["%s"] * len(columns))
            query = f"INSERT INTO outbox ({names}) VALUES ({marks}) RETURNING outbox_id".encode()
            return str(connection.execute(query, list(columns.values())).fetchone()[0])

    return put


@pytest.fixture
def rows(database_dsn):
    def rows():
        with psycopg.connect(database_dsn) as connection:
            return connection.execute(
                "SELECT outbox_id::text, state::text, next_attempt_at <= now(), since > created_at FROM outbox ORDER BY 1"
            ).fetchall()

    return rows


def test_nothing_waits(run):
    assert run("list") == "Nothing waits.\n"
    assert "nothing to send again" in run("retry", "--all")


def test_each_message_says_why_and_what_to_do(run, put):
    hour_ago, in_an_hour = "2026-01-05 10:00+00", "2126-01-05 10:00+00"
    waits = put(created_at=hour_ago, attempts=3, next_attempt_at=in_an_hour, last_error="10.0.0.1:2575 does not answer")
    fresh = put(key="P2")
    dead = put(key="P3", state="D", attempts=1, last_error=REFUSED)
    late = put(key="P4", state="D", attempts=900, last_error="not delivered within 7 days; the last attempt: no answer")
    sent = put(key="P5", attempts=1, leased_until=in_an_hour)
    gone = put(to="Szpital B", key="P6", attempts=1)
    text = run("list")
    lines = {
        number: text.split(f"\n{number}  ")[1].split("\n\n")[0] for number in (waits, fresh, dead, late, sent, gone)
    }
    assert "10.0.0.1:2575 does not answer" in lines[waits]
    assert "since 2026-01-05 11:00:00" in lines[waits]  # Warsaw
    assert "tried 3 times" in lines[waits]
    assert "tried again at 2126-01-05 11:00:00" in lines[waits]
    assert "not yet tried" in lines[fresh]
    assert REFUSED in lines[dead]
    assert f"obieg outbox retry {dead}" in lines[dead]
    assert f"obieg outbox drop {dead}" in lines[dead]
    assert "no answer" in lines[late]
    assert f"obieg outbox retry {late}" in lines[late]
    assert "Being sent" in lines[sent]
    assert text.index(f"\n{dead}  dead letter") < text.index(f"\n{waits}  waiting")
    [summary] = [line for line in text.splitlines() if line.startswith("Szpital B")]
    assert "not in the settings any more" in summary
    only = run("list", "--dead", "--receiver", "Szpital A")
    assert "P3" in only
    assert "P1" not in only
    assert "Szpital B" not in only
    assert "5 more" in run("list", "-n", "1")


def test_retry(run, put, rows):
    waits = put(next_attempt_at="2126-01-01")
    dead = put(key="P2", state="D", created_at="2026-01-01", since="2026-01-01")
    sent = put(key="P3", leased_until="2126-01-01", next_attempt_at="2126-01-01")
    other = put(to="Szpital B", key="P4", next_attempt_at="2126-01-01")
    assert "2 to be sent again" in run("retry", "--all", "--receiver", "Szpital A")
    assert rows() == [
        (waits, "W", True, False),
        (dead, "W", True, True),
        (sent, "W", False, False),
        (other, "W", False, False),
    ]
    assert "1 to be sent again" in run("retry", other)
    assert run("retry", fails=True) == 2
    assert run("retry", waits, "--all", fails=True) == 2
    failure = run("retry", sent, "999", waits, fails=True)
    assert isinstance(failure, Failure)
    assert f"{sent}, 999 (1 others are done)" in failure.what


def test_drop(run, put, rows):
    first, second, dead, other, sent = (
        put(), put(key="P2"), put(key="P3", state="D"), put(to="Szpital B", key="P4", state="D"),
        put(key="P5", leased_until="2126-01-01"),
    )  # fmt: skip
    assert run("drop", fails=True) == 2
    assert run("drop", "--all", fails=True) == 2
    assert "1 dropped" in run("drop", first)
    assert "1 dropped" in run("drop", "--all-dead", "--receiver", "Szpital B")
    assert [row[0] for row in rows()] == [second, dead, sent]
    assert "1 dropped" in run("drop", "--all-dead")
    assert "1 dropped" in run("drop", "--all", "--receiver", "Szpital A")
    assert [row[0] for row in rows()] == [sent]  # it cannot be called back
    assert other not in [row[0] for row in rows()]

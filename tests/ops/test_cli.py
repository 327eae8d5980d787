"""The command line, as people meet it."""

from __future__ import annotations

from pathlib import Path

import psycopg
import pytest

from commanding import obieg
from obieg.ops import cli
from obieg.ops import settings as node_settings
from obieg.ops.cli import COMMANDS
from obieg.ops.commands_patients import FURTHER
from obieg.ops.lazy_commands import commands_of
from obieg.transactions import TRANSACTIONS


def in_one_line(text):
    return " ".join(text.split())


def test_help_names_every_command():
    done = obieg("--help")
    assert done.returncode == 0
    for command in (*(name for names in COMMANDS.values() for name in names), "version"):
        assert f" {command} " in done.stdout


@pytest.mark.parametrize("module", COMMANDS)
def test_every_module_adds_the_commands_that_the_table_names(module):
    assert tuple(sorted(commands_of(module))) == tuple(sorted(COMMANDS[module]))


@pytest.mark.parametrize("module", FURTHER)
def test_every_further_module_adds_the_commands_that_its_table_names(module):
    assert tuple(commands_of(module)) == FURTHER[module]
    assert f" {FURTHER[module][0]} " in obieg("patients", "--help").stdout


def test_every_module_of_commands_is_in_the_table():
    modules = {
        path.stem for path in Path(cli.__file__).parent.glob("*.py") if "\ndef register(" in path.read_text("utf-8")
    }
    assert modules == {*COMMANDS, *FURTHER}


@pytest.mark.parametrize(
    "command",
    [
        "init",
        "serve",
        "lab",
        "demo",
        "submit",
        "find",
        "get",
        "db",
        "db migrate",
        "explain",
        "audit",
        "audit tail",
        "outbox",
        "outbox list",
        "patients",
        "patients import",
        "patients worklist",
    ],
)
def test_every_command_helps(command):
    done = obieg(*command.split(), "--help")
    assert done.returncode == 0
    assert "Usage:" in done.stdout


def test_version():
    assert obieg("version").stdout.startswith("obieg 0.")


def test_wrong_usage_is_2():
    assert obieg("serve").returncode == 2
    assert obieg("lab", "--port", "99999").returncode == 2


@pytest.mark.parametrize("role", ["region", "facility"])
def test_init_writes_settings_that_serve_accepts(role, tmp_path):
    done = obieg("init", "--role", role, "node", folder=tmp_path)
    assert done.returncode == 0, done.stderr
    settings = node_settings.load(tmp_path / "node" / "settings.toml")
    assert settings.role == role
    assert settings.data_dir == tmp_path / "node" / "data"
    assert "obieg serve --settings node/settings.toml" in done.stdout
    again = obieg("init", "--role", role, "node", folder=tmp_path)
    assert again.returncode == 1
    assert "exists" in again.stderr


def test_failure_has_three_parts_and_no_traceback(tmp_path):
    done = obieg("serve", "--settings", tmp_path / "absent.toml")
    assert done.returncode == 1
    assert "Traceback" not in done.stderr
    said = in_one_line(done.stderr)
    assert "cannot be read" in said
    assert "does not know what it is" in said
    assert "obieg init" in said


def test_lab_without_its_codes(tmp_path):
    done = obieg("lab", "--codes", "absent.json", folder=tmp_path)
    assert done.returncode == 1
    assert "There is no file absent.json" in done.stderr


@pytest.mark.parametrize("transaction", [each.id for each in TRANSACTIONS])
def test_explain(transaction):
    done = obieg("explain", transaction.lower())
    found = next(each for each in TRANSACTIONS if each.id == transaction)
    assert done.returncode == 0, done.stderr
    for fact in (found.id, found.name, found.initiator, found.responder, found.spec):
        assert fact in done.stdout


def test_explain_lists_and_guesses():
    listed = obieg("explain").stdout
    assert all(each.id in listed for each in TRANSACTIONS)
    unknown = obieg("explain", f"{TRANSACTIONS[0].id}9")
    assert unknown.returncode == 1
    assert "Did you mean" in unknown.stderr


@pytest.fixture
def settings_file(tmp_path, database_dsn):
    text = node_settings.write_commented(
        "region",
        data_dir="data",
        database={"dsn": database_dsn},
        identity={"home_community_id": "1.2.1", "repository_unique_id": "1.2.2", "assigning_authority": "1.2.3"},
    )
    (tmp_path / "settings.toml").write_text(text)
    return tmp_path / "settings.toml"


def test_db_migrate(settings_file):
    done = obieg("db", "migrate", "--settings", settings_file)
    assert done.returncode == 0, done.stderr
    assert "nothing to apply" in done.stdout


def test_audit_tail_prints_the_newest_oldest_first(settings_file, database_dsn):
    with psycopg.connect(database_dsn) as connection:
        for number in range(5):
            connection.execute(
                "INSERT INTO audit_event (transaction, outcome, patient_id, request_id, message) "
                "VALUES ('ITI-18', 0, '1^^^&1.2.3&ISO', %s, '<AuditMessage/>')",
                [f"request-{number}"],
            )
    done = obieg("audit", "tail", "--settings", settings_file, "-n", "2")
    lines = done.stdout.splitlines()
    assert [line.split()[-1] for line in lines] == ["request-3", "request-4"]
    assert "success" in lines[0]
    assert "1^^^&1.2.3&ISO" in lines[0]


def test_audit_tail_needs_to_know_whose():
    assert obieg("audit", "tail").returncode == 2
    absent = obieg("audit", "tail", "--node", "absent.json")
    assert absent.returncode == 1
    assert "There is no ready file" in in_one_line(absent.stderr)

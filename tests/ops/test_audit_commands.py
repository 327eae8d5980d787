"""What an operator finds in the audit log, and that their looking is in it."""

from __future__ import annotations

import asyncio
import json
from datetime import UTC, datetime

import psycopg
import pytest
from fhir.resources.R4B.auditevent import AuditEvent as FhirAuditEvent
from lxml import etree
from typer.testing import CliRunner

from obieg.domain.audit import AuditEvent, AuditObject, Outcome
from obieg.domain.requester import Requester
from obieg.ops import settings as node_settings
from obieg.ops.cli import app
from obieg.ops.failure import Failure
from obieg.storage.audit_store import AuditStore
from obieg.storage.link import Database

OURS = "1.2.3"
DOCTOR = Requester(
    system="his", address="10.0.0.9", proof="saml", issuer="https://sts.example", person="1.2.9#dr-nowak",
    person_name="Jan Nowak", role="physician", organisation="1.2.8#17", purpose_of_use="TREAT", token="_a1",
)  # fmt: skip


def cx(value: str) -> str:
    return f"{value}^^^&{OURS}&ISO"


@pytest.fixture
def record(database_dsn):
    def record(transaction="ITI-43", event="export", outcome=Outcome.SUCCESS, patients=(), **more):
        async def store() -> None:
            database = Database(database_dsn, links=1)
            await database.open()
            audit = AuditStore(database, source_id="wezel", names={}, now=lambda: datetime.now(UTC))
            objects = tuple(AuditObject("patient", cx(p)) for p in patients)
            given = {"source_user": "http://his", "source_address": "10.0.0.9", "request_id": "r-1", **more}
            await audit.record(AuditEvent(transaction, event, outcome, objects=objects, **given))
            database.close()

        asyncio.run(store())

    return record


@pytest.fixture
def run(database_dsn, tmp_path):
    text = node_settings.write_commented(
        "region",
        data_dir="data",
        name="wezel",
        database={"dsn": database_dsn},
        identity={"home_community_id": "1.2.1", "repository_unique_id": "1.2.2", "assigning_authority": OURS},
    )
    (tmp_path / "settings.toml").write_text(text)

    def run(*arguments, fails=False):
        done = CliRunner().invoke(
            app, ["audit", *arguments, "--settings", str(tmp_path / "settings.toml")], env={"COLUMNS": "200"}
        )
        if fails:
            return done.exception if isinstance(done.exception, Failure) else done.exit_code
        assert done.exit_code == 0, (done.output, done.exception)
        return done.stdout

    return run


def found(output: str) -> list[dict]:
    resources = [json.loads(line) for line in output.splitlines()]
    for resource in resources:
        FhirAuditEvent.model_validate(resource)
    return resources


def test_search_by_each_thing(record, run):
    record(patients=["A", "B"], request_id="r-7")
    record("ITI-18", "query", patients=["A"], proof=DOCTOR, requester=DOCTOR.person)
    record("ITI-42", "import", Outcome.SERIOUS_FAILURE, patients=["C"])
    for arguments, count in (
        (["--patient", "A"], 2),
        (["--patient", cx("B")], 1),
        (["--transaction", "ITI-18", "--transaction", "ITI-42"], 2),
        (["--outcome", "refused"], 1),
        (["--outcome", "success", "--patient", "C", "--transaction", "ITI-42"], 0),
        (["--user", "NOWAK"], 1),
        (["--request", "r-7", "--patient", "B"], 1),
        (["--since", "2001-01-01", "--until", "2001-02-01"], 0),
        (["--since", "2001-01-01", "-n", "1", "--transaction", "ITI-42"], 1),
    ):
        assert len(found(run("search", "--json", *arguments))) == count, arguments
    table = run("search", "--transaction", "ITI-18")
    assert "dr-nowak" in table
    assert "ITI-43" not in table
    assert run("search", "--outcome", "maybe", fails=True) == 2


def test_of_several_patients_each_log_names_its_own_alone(record, run):
    record(patients=["A", "B"])
    [one] = found(run("search", "--json", "--patient", "B"))
    patients = [e["what"]["reference"] for e in one["entity"] if e.get("role", {}).get("code") == "1"]
    assert patients == ["Patient/B"]


def test_a_token_is_told_as_balp_wants_it(record, run):
    record("ITI-18", "query", patients=["A"], proof=DOCTOR, requester=DOCTOR.person)
    [one] = found(run("search", "--json", "--transaction", "ITI-18"))
    user = next(a for a in one["agent"] if a["type"]["coding"][0]["code"] == "UserSamlAgent")
    assert user["who"]["identifier"] == {"system": "https://sts.example", "value": "1.2.9#dr-nowak"}
    assert user["policy"] == ["_a1"]
    assert user["requestor"] is True
    assert user["purposeOfUse"][0]["coding"][0]["code"] == "TREAT"
    assert any(p.endswith("SAMLaccessTokenUse.Comprehensive") for p in one["meta"]["profile"])
    organisation = next(a for a in one["agent"] if a["type"]["coding"][0]["code"] == "PROV")
    assert organisation["who"]["identifier"]["value"] == "1.2.8#17"


def test_looking_is_in_the_log_of_whom_it_showed(record, run, database_dsn):
    record(patients=["A", "B"])
    run("search", "--patient", "A")
    with psycopg.connect(database_dsn) as connection:
        rows = connection.execute(
            "SELECT transaction, patient_id, message FROM audit_event ORDER BY audit_id DESC LIMIT 1"
        ).fetchall()
    assert [row[:2] for row in rows] == [("operator", cx("A"))]
    assert 'csd-code="110101"' in rows[0][2]


def test_export(record, run, tmp_path):
    record(patients=["A", "B"])
    record("ITI-18", "query", patients=["C"])
    out = tmp_path / "log.ndjson"
    run("export", "--out", str(out), "--since", "2001-01-01")
    assert len(found(out.read_text())) == 3, "one for each patient"
    assert out.stat().st_mode & 0o777 == 0o600
    assert isinstance(run("export", "--out", str(out), fails=True), Failure), "nothing is overwritten"
    dicom = tmp_path / "log.xml"
    run("export", "--out", str(dicom), "--format", "dicom", "--transaction", "ITI-43")
    [line] = dicom.read_text().splitlines()
    message = etree.fromstring(line)
    named = [o.get("ParticipantObjectID") for o in message.iter("ParticipantObjectIdentification")]
    assert named == [cx("A"), cx("B")]

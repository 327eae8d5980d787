"""``obieg access``: why somebody may see a document or not, and whose look-ups are unusual."""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import psycopg
import pytest
from prometheus_client import REGISTRY

import commanding
from obieg.domain.audit import AuditEvent, AuditObject, Outcome
from obieg.domain.requester import Requester
from obieg.ops import settings as node_settings
from obieg.ops.postgres import reach
from obieg.ops.watching import Watch
from obieg.storage.audit_store import AuditStore
from obieg.storage.link import Database
from obieg.storage.watch_store import WatchStore
from running import running

pytestmark = [pytest.mark.node, pytest.mark.slow]

WORLD = Path(__file__).resolve().parents[2] / "docs" / "lab-world"
GP, SURGEON, NURSE = "5425740", "2131121", "1234567P"
HOSPITAL, CLINIC = (f"2.16.840.1.113883.3.4424.2.3.1#00000000471{n}" for n in (1, 2))
ANNA, DISCHARGE, PSYCHIATRY = "80022912340", "2.999.2026.1", "2.999.2026.3"


class Cli:
    """The command beside the node's database, while no node runs."""

    def __init__(self, settings: Path, dsn: str, authority: str) -> None:
        self.settings, self.dsn, self.authority = settings, dsn, authority

    def __call__(self, who: str, *arguments: str, code: int = 0) -> str:
        return self.run("explain", "--who", who, *arguments, code=code)

    def watch(self, *arguments: str) -> str:
        return self.run("watch", *arguments)

    def run(self, *arguments: str, code: int = 0) -> str:
        environment = os.environ | {"OBIEG_DATABASE__DSN": self.dsn}
        done = commanding.obieg("access", *arguments, "--settings", self.settings, environment=environment)
        assert done.returncode == code, done.stdout + done.stderr
        return done.stdout + done.stderr

    def json(self, who: str, *arguments: str, code: int = 0) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(self(who, *arguments, "--json", code=code))
        return found

    def rows(self, sql: str) -> list[tuple[Any, ...]]:
        with psycopg.connect(self.dsn) as connection:
            return connection.execute(sql).fetchall()


@pytest.fixture(scope="module")
def obieg(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cli]:
    folder = tmp_path_factory.mktemp("explained")
    with running(folder, "lab", "--load", WORLD, "--data", folder / "data", "--workers", "1") as endpoints:
        path = Path(endpoints["settings"])
    settings = node_settings.load(path)
    with reach(settings.database.dsn, settings.postgres_dir) as dsn:
        yield Cli(path, dsn, settings.identity.assigning_authority)


def test_the_chosen_doctor_may_and_is_told_what_hides(obieg: Cli) -> None:
    said = obieg(GP, "--organisation", CLINIC, "--patient", ANNA, "--document", DISCHARGE)
    lines = said.splitlines()
    assert lines[0].startswith("Wolno: ")
    assert "wybrany lekarz" in lines[0]
    assert any(": widać, podstawa: " in line for line in lines)
    assert "nie egzekwuje" not in said


def test_a_document_that_the_patient_has_closed(obieg: Cli) -> None:
    found = obieg.json(
        GP, "--organisation", CLINIC, "--patient", ANNA, "--document", PSYCHIATRY, "--document", DISCHARGE, code=5
    )
    assert (found["may"], found["permitted"], found["enforced"]) == (False, True, True)
    by_shown = {document["shown"]: document for document in found["documents"]}
    assert by_shown[False]["hidden_by"][0]["reference"] == "not-psychiatry"
    assert by_shown[True]["permitted_by"] == ["poz"]
    said = obieg(GP, "--organisation", CLINIC, "--patient", ANNA, "--document", PSYCHIATRY, "--language", "en", code=5)
    assert "the patient changes or withdraws consent not-psychiatry" in said.partition("What would change it:")[2]


def test_a_stranger_may_not_and_is_told_what_it_takes(obieg: Cli) -> None:
    stranger = ("1111111", "--organisation", "1.2.3#9", "--patient", ANNA)
    found = obieg.json(*stranger, "--document", DISCHARGE, code=5)
    assert (found["permitted"], found["grounds"]) == (True, ["author"])  # an author needs nothing to be one
    assert [document["shown"] for document in found["documents"]] == [False]
    assert found["obtainable"] == ["same-entity", "poz", "consent", "emergency"]
    assert "Co by to zmieniło:" in obieg(*stranger, "--document", DISCHARGE, code=5)
    clerk = obieg(*stranger, "--role", "administrative-employee", "--purpose", "TREAT", "--language", "en", code=5)
    assert clerk.startswith("Denied, because nobody may do this in this role.")
    clerk = obieg(*stranger, "--role", "administrative-employee", "--language", "en", code=5)
    assert clerk.startswith("Denied, because nobody may do this in this role.")
    research = obieg.json(*stranger, "--purpose", "HRESCH", code=5)
    assert (research["reason"], research["obtainable"]) == ("purpose", ["consent"])
    assert research["purposes"] == ["TREAT", "CAREMGT", "COC", "ETREAT", "BTG"]


def test_the_patient_may_see_all(obieg: Cli) -> None:
    found = obieg.json(ANNA, "--role", "patient", "--patient", ANNA, "--document", PSYCHIATRY)
    assert (found["may"], found["everything"], found["grounds"]) == (True, True, ["patient"])


def test_who_stands_at_the_counter_is_asked_about_too(obieg: Cli) -> None:
    counter = (GP, "--role", "patient-counter", "--act", "handout", "--organisation", HOSPITAL, "--patient", ANNA)
    found = obieg.json(*counter, "--acting-for", ANNA)
    assert (found["permitted"], found["grounds"]) == (True, ["patient"])
    assert not obieg.json(*counter, "--acting-for", "44051401458", code=5)["permitted"]


def test_a_document_is_named_by_either_id(obieg: Cli) -> None:
    [(uuid,)] = obieg.rows(f"SELECT entry_uuid::text FROM document_entry WHERE unique_id = '{DISCHARGE}'")
    for name in (uuid, f"urn:uuid:{uuid}".upper().replace("URN:UUID", "urn:uuid"), DISCHARGE):
        found = obieg.json(GP, "--organisation", CLINIC, "--patient", ANNA, "--document", name)
        assert [document["entry_uuid"] for document in found["documents"]] == [f"urn:uuid:{uuid}"]


def test_who_looks_is_in_the_audit(obieg: Cli) -> None:
    obieg(GP, "--organisation", CLINIC, "--patient", ANNA, "--document", DISCHARGE, "--by", "ewa")
    transaction, patient, message = obieg.rows(
        "SELECT transaction, patient_id, message FROM audit_event ORDER BY audit_id DESC LIMIT 1"
    )[0]
    assert transaction == "operator"
    assert patient.startswith("anna^")
    for part in ('UserID="ewa" UserIsRequestor="true"', f"#{GP} as medical-doctor", DISCHARGE):
        assert part in message


def test_what_cannot_be_asked(obieg: Cli) -> None:
    assert "no such document" in obieg(GP, "--patient", ANNA, "--document", "2.999.404", code=1)
    assert "no patient has this identifier" in obieg(GP, "--patient", "44051401458", code=1)
    assert "--role" in obieg(GP, "--patient", ANNA, "--role", "king", code=2)
    assert "root#extension" in obieg(GP, "--patient", ANNA, "--organisation", "4711", code=2)
    assert "--language" in obieg(GP, "--patient", ANNA, "--language", "de", code=2)


# watching ------------------------------------------------------------------------------------------------------------


def _ask(
    obieg: Cli, person: str, name: str, patients: list[str], *, access: str = "", role: str = "medical-doctor"
) -> None:
    """What the audit holds after somebody asked for the documents of patients."""

    async def record() -> None:
        database = Database(obieg.dsn, links=1)
        await database.open()
        store = AuditStore(database, source_id="test", names={}, now=lambda: datetime.now(UTC))
        proof = Requester(system="his", proof="saml", issuer="sts", person=person, person_name=name, role=role)
        for patient in patients:
            objects = (AuditObject("patient", f"{patient}^^^&{obieg.authority}&ISO"),)
            await store.record(
                AuditEvent(
                    "ITI-18", "query", Outcome.SUCCESS, access, source_user="his", requester=person, objects=objects,
                    proof=proof,
                )
            )  # fmt: skip
        database.close()

    asyncio.run(record())


def test_unusual_look_ups_are_listed(obieg: Cli) -> None:
    guesser, namesake, doctor, mother = (f"1.2.3#{n}" for n in range(1, 5))
    _ask(obieg, guesser, "Jan Zgaduła", [f"nobody-{n}" for n in range(6)])
    _ask(obieg, namesake, "Maria Lis", ["anna", "anna"], access="access: poz")
    _ask(obieg, doctor, "Ewa Nowak", ["anna", "jan"], access="access: poz; until=2030-01-01T00:00:00Z")
    _ask(obieg, mother, "Anna Lis", ["jan"], access="access: guardian", role="patient")
    found = {each["person"]: each for each in json.loads(obieg.watch("--json"))}
    assert found.keys() == {guesser, namesake}
    assert found[guesser]["signals"] == ["missing"]
    assert found[guesser]["counts"] == {"patients": 0, "missing": 6, "unfounded": 0, "namesakes": 0}
    assert found[namesake]["counts"] == {"patients": 1, "missing": 0, "unfounded": 0, "namesakes": 1}
    lines = obieg.watch().splitlines()
    assert guesser in lines[0]
    assert "6  zgadywanie identyfikatorów" in lines[1]
    assert (
        "unusual look-ups listed" in obieg.rows("SELECT message FROM audit_event ORDER BY audit_id DESC LIMIT 1")[0][0]
    )


def test_who_never_gets_a_basis(obieg: Cli) -> None:
    person = "1.2.3#9"
    with psycopg.connect(obieg.dsn) as connection:  # ten people more
        for n in range(10):
            connection.execute(
                "INSERT INTO patient (patient_key, affinity_domain_id) VALUES (%s, %s)", (n + 1, f"w{n}")
            )
            connection.execute(
                "INSERT INTO patient_locator (authority, value, patient_key) VALUES (%s, %s, %s)",
                (obieg.authority, f"w{n}", n + 1),
            )
    _ask(obieg, person, "Adam Ciekawski", [f"w{n}" for n in range(10)], access="no access: none")
    assert {each["person"]: each["signals"] for each in json.loads(obieg.watch("--json"))}[person] == ["unfounded"]
    _ask(obieg, person, "Adam Ciekawski", ["w0"], access="access: consent")  # a basis followed for one
    assert person not in {each["person"] for each in json.loads(obieg.watch("--json"))}


def test_an_alarm_is_raised_once(obieg: Cli) -> None:
    person = "1.2.3#77"
    _ask(obieg, person, "", [f"nobody-{n}" for n in range(6)])

    async def look_twice() -> list[float]:
        database = Database(obieg.dsn, links=1)
        await database.open()
        watch = Watch(WatchStore(database), lambda: datetime.now(UTC))
        found = []
        for _ in range(2):
            await watch.look()
            found.append(REGISTRY.get_sample_value("obieg_access_unusual_total", {"signal": "missing"}) or 0)
        database.close()
        return found

    before = REGISTRY.get_sample_value("obieg_access_unusual_total", {"signal": "missing"}) or 0
    first, second = asyncio.run(look_twice())
    assert first > before
    assert second == first
    assert REGISTRY.get_sample_value("obieg_access_unusual_people") >= 1

"""Facts for decisions on a real database: whose they are before and after a link, and what a withdrawal leaves."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from datetime import UTC, date, datetime, timedelta

import msgspec
import psycopg
import pytest

from obieg.domain.access import Consent, Declaration, Period, Provision, Representative
from obieg.domain.audit import AuditEvent, AuditObject, Outcome
from obieg.domain.consents import ConsentQuery, Kind, Stated
from obieg.domain.documents import DocumentEntry
from obieg.domain.identifiers import PatientId
from obieg.domain.registry import LostRace
from obieg.mapping.ebrim import render_entry
from obieg.storage.access_store import PostgresAccess
from obieg.storage.audit_store import AuditStore
from obieg.storage.link import Database
from obieg.storage.registry_store import filled

OWN, PESEL = "1.2.616.9", "2.16.840.1.113883.3.4424.1.1.616"
ANNA, ANIA = PatientId("a", OWN), PatientId("b", OWN)
DOCTOR = "2.16.840.1.113883.3.4424.1.6.2#5425740"
FROM, UNTIL = datetime(2026, 1, 1, tzinfo=UTC), datetime(2027, 1, 1, tzinfo=UTC)
DECLARATION = Declaration(DOCTOR, "doctor", "1.2.616.77#1", Period(FROM, UNTIL))
GUARDIAN = Representative(f"{PESEL}#70010112345", "guardian")
CONSENT = Consent("c1", Period(FROM), (Provision(permit=True, actors=(DOCTOR,)), Provision(permit=False)))


def event(patient: PatientId) -> AuditEvent:
    return AuditEvent("ITI-108", "export", Outcome.SUCCESS, objects=(AuditObject("patient", str(patient)),))


class Shelf(PostgresAccess):
    def __init__(self, dsn: str, database: Database) -> None:
        self.audit = AuditStore(database, source_id="test", names={}, now=lambda: datetime.now(UTC))
        super().__init__(database, self.audit, assigning_authority=OWN)
        self.dsn = dsn

    def sql(self, *statements: str) -> list[tuple[object, ...]]:
        with psycopg.connect(self.dsn, autocommit=True) as connection:
            cursors = [connection.execute(statement) for statement in statements]
            return cursors[-1].fetchall() if cursors[-1].description else []

    async def say(self, source: str, patient: PatientId, kind: Kind, *facts: object, before: int = 0) -> datetime:
        stated = Stated(source, patient, kind, facts, by="clerk", resource="{}" if facts else None)  # type: ignore[arg-type]
        return await self.put(stated, before, event(patient))


def patient(key: int, id_: str, *records: tuple[str, str, str]) -> list[str]:
    """Statements that make a patient; records are birth date, PESEL or "", and demographics."""
    made = [
        f"INSERT INTO patient (patient_key, affinity_domain_id) VALUES ({key}, '{id_}')",
        f"INSERT INTO patient_locator (authority, value, patient_key) VALUES ('{OWN}', '{id_}', {key})",
    ]
    for number, (born, pesel, said) in enumerate(records, 1):
        stated = f"ARRAY['{PESEL}'], ARRAY['{pesel}']" if pesel else "'{}', '{}'"
        made.append(
            "INSERT INTO patient_record (patient_key, record_key, source, authorities, values, demographics, blocks,"
            f" names, sounds, birth_date, sex) VALUES ({key}, {key * 10 + number}, 's', {stated},"
            f" convert_to('{said}', 'UTF8'), '{{}}', '', '', '{born}', 'F')"
        )
        if pesel:
            made.append(
                f"INSERT INTO patient_locator (authority, value, patient_key) VALUES ('{PESEL}', '{pesel}', {key})"
            )
    return made


@pytest.fixture
async def shelf(database_dsn: str) -> AsyncIterator[Shelf]:
    database = Database(database_dsn, links=2)
    await database.open()
    made = Shelf(database_dsn, database)
    made.sql(*patient(1, "a", ("19800229", "80022912345", "{}")), *patient(2, "b", ("1980", "", "{}")))
    yield made
    database.close()


async def test_what_is_said_is_what_a_decision_reads(shelf: Shelf) -> None:
    await shelf.say("CareTeam/1", ANNA, Kind.DECLARATION, DECLARATION)
    await shelf.say("RelatedPerson/1", ANNA, Kind.REPRESENTATIVE, GUARDIAN)
    await shelf.say("Consent/c1", ANNA, Kind.CONSENT, CONSENT)
    await shelf.say("Patient/a#death", ANNA, Kind.DEATH, "2026-05-04")
    await shelf.say("Patient/a#protected", ANNA, Kind.PROTECTED, True)
    await shelf.say("Consent/n", ANNA, Kind.NOTICES, True)
    found = await shelf.facts([1, 2])
    facts = found[1]
    assert set(facts.identifiers) == {f"{OWN}#a", f"{PESEL}#80022912345"}
    assert (facts.birth_date, facts.died_on, facts.protected, facts.objection, facts.notices) == (
        date(1980, 2, 29), date(2026, 5, 4), True, False, True,
    )  # fmt: skip
    assert (facts.declarations, facts.representatives, facts.consents) == ((DECLARATION,), (GUARDIAN,), (CONSENT,))
    # Of a year of birth alone, the youngest that the person can be.
    assert found[2].birth_date == date(1980, 12, 31)
    assert found[2].consents == ()


@pytest.mark.parametrize(
    ("stated", "day"),
    [
        ("198002", "1980-02-29"), ("198102", "1981-02-28"), ("19810229", None), ("1981", "1981-12-31"), ("", None),
        ("19811301", None), ("198100", None), ("00010101", None), ("198112311530", "1981-12-31"), ("1981-12", None),
    ],
)  # fmt: skip
async def test_partial_dates(shelf: Shelf, stated: str, day: str | None) -> None:
    assert shelf.sql(f"SELECT obieg_last_day('{stated}')::text") == [(day,)]


async def test_death_as_records_state_it(shelf: Shelf) -> None:
    shelf.sql(*patient(3, "c", ("19500101", "", '{"deceased": true, "deceased_at": "202403"}'), ("", "", "{}")))
    shelf.sql(*patient(4, "d", ("19500101", "", '{"deceased": true}')))
    shelf.sql(*patient(5, "e", ("19500101", "", '{"deceased": false, "deceased_at": ""}')))
    tomorrow = datetime.now(UTC).date() + timedelta(days=1)
    for key, name, stated in ((6, "f", f"{tomorrow:%Y%m%d}"), (7, "g", f"{tomorrow:%Y}"), (8, "h", "20241399")):
        shelf.sql(*patient(key, name, ("19500101", "", json.dumps({"deceased": True, "deceased_at": stated}))))
    found = await shelf.facts([3, 4, 5, 6, 7, 8])
    assert found[3].died_on == date(2024, 3, 31)
    assert found[4].died_on == datetime.now(UTC).date()  # known to be dead, from the day on that it was said
    assert found[5].died_on is None
    assert found[6].died_on == tomorrow  # a day is as it is stated, and nobody has died before it
    assert found[7].died_on == found[8].died_on == found[4].died_on  # no later than when it was told


async def test_facts_of_all_who_are_linked_hold_and_stay_with_their_own_patient(shelf: Shelf) -> None:
    shelf.sql("INSERT INTO patient_link (patient_key, merged_into, survivor_key) VALUES (2, 1, 1)")
    await shelf.say("Consent/c1", ANIA, Kind.CONSENT, CONSENT)  # while both are one
    await shelf.say("CareTeam/1", ANNA, Kind.DECLARATION, DECLARATION)
    for keys in ([1], [2], [1, 2]):
        found = await shelf.facts(keys)
        assert found.keys() == {1}
        assert (found[1].consents, found[1].declarations) == ((CONSENT,), (DECLARATION,))
        assert f"{OWN}#b" in found[1].identifiers
    shelf.sql("DELETE FROM patient_link")
    found = await shelf.facts([1, 2])
    assert (found[1].consents, found[1].declarations) == ((), (DECLARATION,))
    assert (found[2].consents, found[2].declarations) == ((CONSENT,), ())


async def test_an_identifier_that_is_retired_names_nobody(shelf: Shelf) -> None:
    shelf.sql("UPDATE patient_locator SET retired_at = now() WHERE value = 'b'")
    assert (await shelf.facts([2]))[2].identifiers == ()
    with pytest.raises(LostRace):
        await shelf.say("Consent/c1", ANIA, Kind.CONSENT, CONSENT)
    assert shelf.sql("SELECT count(*) FROM audit_event") == [(0,)]


async def test_a_withdrawal_is_a_version_that_says_nothing(shelf: Shelf) -> None:
    first = await shelf.say("Consent/c1", ANNA, Kind.CONSENT, CONSENT)
    second = await shelf.say("Consent/c1", ANNA, Kind.CONSENT, before=1)
    assert second > first
    assert (await shelf.facts([1]))[1].consents == ()
    read = await shelf.read("Consent/c1", 1, event(ANNA))
    assert read is not None
    assert msgspec.json.decode(read[0].facts, type=tuple[Consent, ...]) == (CONSENT,)
    assert shelf.sql("SELECT recorded_by, superseded_by, version FROM access_fact ORDER BY version") == [
        ("clerk", "clerk", 1), ("clerk", None, 2),
    ]  # fmt: skip
    newest = await shelf.read("Consent/c1", None, None)
    assert newest is not None
    assert (newest[0].version, newest[0].resource, newest[1]) == (2, None, "a")
    assert shelf.sql("SELECT count(*) FROM audit_event WHERE patient_id LIKE 'a^%'") == [(3,)]  # the reading too


@pytest.mark.parametrize("before", [0, 1, 3])
async def test_a_version_follows_the_one_that_its_writer_has_seen(shelf: Shelf, before: int) -> None:
    await shelf.say("Consent/c1", ANNA, Kind.CONSENT, CONSENT)
    await shelf.say("Consent/c1", ANNA, Kind.CONSENT, CONSENT, before=1)
    with pytest.raises(LostRace):
        await shelf.say("Consent/c1", ANNA, Kind.CONSENT, before=before)
    assert (await shelf.facts([1]))[1].consents == (CONSENT,)
    with pytest.raises(LostRace):  # nor may it become another patient's
        await shelf.say("Consent/c1", ANIA, Kind.CONSENT, CONSENT, before=2)


@pytest.mark.parametrize(
    ("stop", "until"),
    [
        ("2026", UNTIL),
        ("202612", UNTIL),
        ("20261231", UNTIL),
        ("20261231000000", datetime(2026, 12, 31, tzinfo=UTC)),
        (None, None),
    ],
)
async def test_a_document_of_bppc_is_a_consent_while_it_is_approved(
    shelf: Shelf, stop: str | None, until: datetime | None
) -> None:
    uuid = "00000000-0000-4000-8000-000000000001"
    sent = render_entry(
        DocumentEntry(f"urn:uuid:{uuid}", mime_type="text/xml", service_stop_time=stop), lambda: "urn:1"
    )
    column = "NULL" if stop is None else f"'{filled(stop)}'"
    shelf.sql(
        "INSERT INTO document_entry (patient_key, entry_uuid, unique_id, logical_id, format_code, event_code_list, mime_type,"
        f" service_start_time, service_stop_time, ebrim) VALUES (1, '{uuid}', '1.2', '{uuid}',"
        " 'urn:ihe:iti:bppc-sd:2007^^1.3.6.1.4.1.19376.1.2.3', ARRAY['urn:connectathon:policy:deny-access^^x',"
        " 'urn:connectathon:policy:full-access^^x', 'OPTIN^^2.16.840.1.113883.5.4', '1.2.3.4^^unknown'], 'text/xml',"
        f" '20260101000000', {column}, '\\x{sent.hex()}')"
    )
    permit = Provision(permit=True)
    expected = Consent(f"DocumentReference/{uuid}", Period(FROM, until), (permit, permit, Provision(permit=False)))
    assert (await shelf.facts([1]))[1].consents == (expected,)
    shelf.sql("UPDATE document_entry SET status = 'D'")
    assert (await shelf.facts([1]))[1].consents == ()
    shelf.sql("UPDATE document_entry SET status = 'A', event_code_list = '{1.2.3.4^^unknown}'")
    assert (await shelf.facts([1]))[1].consents == ()


async def test_consents_are_found(shelf: Shelf) -> None:
    stated = [
        Stated(f"Consent/{n}", who, Kind.CONSENT, (CONSENT,), by="clerk", resource=f'{{"n":{n}}}', status=status, actors=actors)
        for n, who, status, actors in (
            (1, ANNA, "active", ("Practitioner/x",)), (2, ANNA, "inactive", ()), (3, ANIA, "active", ("Group/g",)),
        )
    ]  # fmt: skip
    await shelf.put_all([(one, 0) for one in stated], event(ANNA))

    async def ids(**asked: object) -> set[str]:
        query = ConsentQuery(count=10, **asked)  # type: ignore[arg-type]
        found, total = await shelf.find(query, event(ANNA))
        assert total == len(found)
        return {said.id for said in found}

    assert await ids(patients=(ANNA,)) == {"1", "2"}
    assert await ids(patients=(ANNA,), statuses=("active",)) == {"1"}
    assert await ids(patients=(ANNA, ANIA), actors=("Group/g", "Practitioner/x")) == {"1", "3"}
    assert await ids(sources=("Consent/3",)) == {"3"}
    assert await ids(patients=(ANNA,), sources=("Consent/3",)) == set()
    assert await ids(patients=(ANNA,), updated_from="2999-01-01") == set()
    shelf.sql("INSERT INTO patient_link (patient_key, merged_into, survivor_key) VALUES (2, 1, 1)")
    assert await ids(patients=(ANNA,)) == {"1", "2", "3"}
    page, total = await shelf.find(ConsentQuery(patients=(ANNA,), count=2, skipped=2), event(ANNA))
    assert (len(page), total) == (1, 3)

"""What retention reads of a real database: whose facts count for whom, and what an object is about."""

from __future__ import annotations

import re
import uuid
from collections.abc import AsyncIterator
from datetime import UTC, date, datetime
from typing import Any

import psycopg
import pytest

from obieg.actors.retention import KeptByLaw
from obieg.domain.audit import AuditEvent, Outcome
from obieg.domain.documents import Author, DocumentEntry
from obieg.domain.history import Act, RecordedChange
from obieg.domain.removing import Removal, Removing
from obieg.domain.requester import Requester
from obieg.domain.retention import Mark
from obieg.storage.audit_store import AuditStore
from obieg.storage.lifecycle_store import PostgresLifecycle
from obieg.storage.link import Database
from obieg.storage.retention_store import PostgresRetention
from obieg.storage.statements import load

ENTITY = "2.16.840.1.113883.3.4424.2.3.1"
WHO = Requester(system="administrator")
TODAY = datetime(2026, 1, 1, tzinfo=UTC)


class Shelf:
    def __init__(self, dsn: str, database: Database) -> None:
        self.dsn = dsn
        self.store = PostgresRetention(database)
        self.lifecycle = PostgresLifecycle(
            database,
            AuditStore(database, source_id="test", names={"ITI-62": "Remove Metadata"}, now=lambda: TODAY),
            assigning_authority="1.2.3",
        )
        self.law = KeptByLaw(self.store, now=lambda: TODAY)

    def sql(self, statement: str, *given: Any) -> list[tuple[Any, ...]]:
        with psycopg.connect(self.dsn, autocommit=True) as connection:
            cursor = connection.execute(statement.encode(), given)
            return cursor.fetchall() if cursor.description else []

    def patient(self, key: int, *births: str, said: str = "{}") -> None:
        self.sql("INSERT INTO patient (patient_key, affinity_domain_id) VALUES (%s, %s)", key, f"p{key}")
        for number, birth in enumerate(births):
            self.sql(
                "INSERT INTO patient_record (patient_key, record_key, source, authorities, values, demographics, blocks,"
                " names, sounds, birth_date, sex) VALUES (%s, %s, 's', '{}', '{}', convert_to(%s, 'UTF8'), '{}', '', '',"
                " %s, 'F')",
                key, key * 10 + number, said, birth,
            )  # fmt: skip

    def document(self, key: int, created: str | None, *authors: str) -> str:
        own = str(uuid.uuid4())
        self.sql(
            "INSERT INTO document_entry (patient_key, entry_uuid, unique_id, logical_id, mime_type, ebrim, creation_time,"
            " authors) VALUES (%s, %s, %s, %s, '', '', %s, %s)",
            key, own, own, own, created, list(authors),
        )  # fmt: skip
        self.sql("INSERT INTO unique_id_locator (unique_id, entry_uuid, kind, patient_key) VALUES (%s, %s, 'D', %s)",
                 own, own, key)  # fmt: skip
        return self._locate(own, "D", key)

    def set(self, key: int) -> str:
        own = str(uuid.uuid4())
        self.sql(
            "INSERT INTO submission_set (patient_key, entry_uuid, unique_id, source_id, submission_time, ebrim, fingerprint)"
            " VALUES (%s, %s, %s, '', '', '', '')",
            key, own, own,
        )  # fmt: skip
        return self._locate(own, "S", key)

    def relate(self, key: int, source: str, target: str, kind: str = "HasMember") -> str:
        own = str(uuid.uuid4())
        self.sql(
            "INSERT INTO association (patient_key, entry_uuid, type, source, target, ebrim) VALUES (%s, %s, %s, %s, %s, '')",
            key, own, kind, source[9:], target[9:],
        )  # fmt: skip
        return self._locate(own, "A", key)

    def _locate(self, own: str, kind: str, key: int) -> str:
        self.sql("INSERT INTO object_locator VALUES (%s, %s, %s)", own, kind, key)
        return f"urn:uuid:{own}"

    def link(self, key: int, into: int) -> None:
        self.sql(
            "INSERT INTO patient_link (patient_key, survivor_key, merged_into) VALUES (%s, %s, %s)", key, into, into
        )

    def mark(self, key: int, mark: Mark, unique_id: str = "") -> None:
        self.sql(
            "INSERT INTO retention_mark (patient_key, unique_id, mark, reason, said_by) VALUES (%s, %s, %s, 'why', 'who')",
            key, unique_id, mark.value,
        )  # fmt: skip

    async def remove(self, key: int, entry: DocumentEntry) -> None:
        """As the commit of ITI-62 does."""
        named = ((key, "D", entry.entry_uuid),)
        gone = RecordedChange(Act.REMOVED, key, entry, None)
        event = AuditEvent(transaction="ITI-62", event="removal", outcome=Outcome.SUCCESS)
        await self.lifecycle.remove(Removing(named, (), 0, (), (gone,)), event)

    async def kept(self, *identifiers: str, kind: str = "D") -> dict[str, str]:
        """Which of them must be kept, and why."""
        found = await self.law.forbids([Removal(kind, i, "", WHO) for i in identifiers])
        assert all(f.code == "RemovalForbidden" for f in found)
        return {f.location: f.detail for f in found}


@pytest.fixture
async def shelf(database_dsn: str) -> AsyncIterator[Shelf]:
    database = Database(database_dsn, links=2)
    await database.open()
    yield Shelf(database_dsn, database)
    database.close()


async def test_the_years_of_a_document(shelf: Shelf) -> None:
    shelf.patient(1, "19700101")
    old, edge = shelf.document(1, "2004", f"{ENTITY}#1"), shelf.document(1, "20051231", f"{ENTITY}#2")
    young, undated = shelf.document(1, "2006", f"{ENTITY}#3"), shelf.document(1, None, f"{ENTITY}#4")
    assert set(await shelf.kept(old, edge, young, undated)) == {young, undated}
    assert set(await shelf.kept(*(u[9:] for u in (old, edge, young, undated)), kind="B")) == {young[9:], undated[9:]}
    # A later entry of the same entity, under the number of its unit, keeps the older one.
    shelf.document(1, "2007", "2.16.840.1.113883.3.4424.2.3.2#1-01")
    assert set(await shelf.kept(old, edge)) == {old}


async def test_of_several_dates_of_birth_the_latest_counts(shelf: Shelf) -> None:
    shelf.patient(1, "19700101", "2004")
    found = await shelf.kept(of := shelf.document(1, "20050101"))
    assert "art. 29 ust. 1 pkt 4" in found[of]
    shelf.patient(2)
    assert "day of birth is unknown" in (await shelf.kept(of := shelf.document(2, "20050101")))[of]


async def test_who_died_is_kept_thirty_years_unless_it_is_known_how(shelf: Shelf) -> None:
    shelf.patient(1, "19700101", said='{"deceased": true, "deceased_at": "20000505"}')
    of = shelf.document(1, "1999")
    assert "until 2030-12-31" in (await shelf.kept(of))[of]
    shelf.mark(1, Mark.NO_INJURY)
    assert await shelf.kept(of) == {}
    shelf.patient(2, "19700101")
    shelf.sql(
        "INSERT INTO access_fact (patient_key, source, version, kind, facts, recorded_at, recorded_by)"
        " VALUES (2, 'Patient/2', 1, 'death', '[\"2001-01-01\"]', now(), 'x')"
    )
    of = shelf.document(2, "1999")
    assert "until 2031-12-31" in (await shelf.kept(of))[of]


async def test_facts_of_all_who_are_linked_count(shelf: Shelf) -> None:
    shelf.patient(1, "19700101")
    shelf.patient(2, "19700101")
    of = shelf.document(1, "2000")
    shelf.document(2, "2020")
    assert await shelf.kept(of) == {}
    shelf.link(1, into=2)
    assert "until 2040-12-31" in (await shelf.kept(of))[of]
    shelf.mark(1, Mark.HOLD)
    assert "it is held: why (who)" in (await shelf.kept(of))[of]
    persons = await shelf.store.persons([1, 2])
    assert persons[1] is persons[2]
    shelf.patient(3)
    assert await shelf.store.page(-1, 10) == [1]  # who has no documents is passed over
    shelf.document(3, "2000")
    assert (await shelf.store.page(-1, 1), await shelf.store.page(1, 10)) == ([1], [3])
    assert (persons[1].key, persons[1].id, len(persons[1].known.documents)) == (2, "p2", 2)
    assert persons[1].known.birth_date == date(1970, 1, 1)


async def test_who_was_written_about_last_stays_so_when_that_is_removed(shelf: Shelf) -> None:
    """Through ITI-62 as the store carries it out, of all who are linked, and of both when documents move."""
    for key in (1, 2, 3):
        shelf.patient(key, "19700101")
    own, unit, other = f"{ENTITY}#1", "2.16.840.1.113883.3.4424.2.3.2#1-01", f"{ENTITY}#2"
    old, elsewhere = shelf.document(1, "2000", own), shelf.document(1, "2000", other)
    assert await shelf.kept(old, elsewhere) == {}
    await shelf.remove(2, DocumentEntry(shelf.document(2, "2010", unit), creation_time="2010", author=(_by(unit),)))
    await shelf.remove(2, DocumentEntry(shelf.document(2, "2005", unit), creation_time="2005", author=(_by(unit),)))
    assert await shelf.kept(old, elsewhere) == {}  # of somebody else
    shelf.link(2, into=1)
    assert {u: "until 2030-12-31" in said for u, said in (await shelf.kept(old, elsewhere)).items()} == {old: True}
    # A document without a date and an author: when it was registered, and of whom it may be.
    await shelf.remove(1, DocumentEntry(shelf.document(1, None)))
    year = datetime.now(UTC).year
    assert {f"until {year + 20}-12-31" in said for said in (await shelf.kept(old, elsewhere)).values()} == {True}
    assert len(await shelf.kept(old, elsewhere)) == 2
    rows = "SELECT patient_key, entity, year FROM last_entry ORDER BY patient_key, entity"
    assert shelf.sql(rows) == [(1, "", year), (2, own, 2010)]
    moved = shelf.document(1, "2000", own)
    shelf.sql("SELECT obieg_move_documents(obieg_kin(1), 3, %s::uuid[])", [moved[9:]])
    assert shelf.sql(rows) == [(1, "", year), (2, own, 2010), (3, "", year), (3, own, 2010)]
    assert set(await shelf.kept(moved)) == {moved}


def _by(organisation: str) -> Author:
    root, _, extension = organisation.partition("#")
    return Author(institution=(f"Szpital^^^^^&{root}&ISO^^^^{extension}",))


async def test_what_is_said_of_a_document_goes_with_it(shelf: Shelf) -> None:
    shelf.patient(1, "19700101")
    shelf.patient(2, "19700101")
    of = shelf.document(1, "2000")
    shelf.mark(2, Mark.HOLD, unique_id=of[9:])  # the document has moved since
    assert set(await shelf.kept(of)) == {of}
    shelf.sql("UPDATE retention_mark SET ended_at = now()")
    assert await shelf.kept(of) == {}


async def test_sets_and_associations_go_with_what_they_are_about(shelf: Shelf) -> None:
    shelf.patient(1, "19700101")
    old, young = shelf.document(1, "2000", f"{ENTITY}#1"), shelf.document(1, "2020", f"{ENTITY}#2")
    of_old, of_both, empty = shelf.set(1), shelf.set(1), shelf.set(1)
    first, second, third = (shelf.relate(1, *ends) for ends in ((of_old, old), (of_both, old), (of_both, young)))
    both = shelf.relate(1, young, old, "APND")
    found = await shelf.kept(old, young, of_old, of_both, empty, first, second, third, both)
    assert set(found) == {young, of_both, empty, third, both}


async def test_what_nothing_describes_is_kept(shelf: Shelf) -> None:
    assert "nothing here says" in (await shelf.kept("1.2.3", kind="B"))["1.2.3"]
    unknown = f"urn:uuid:{uuid.uuid4()}"
    assert set(await shelf.kept(unknown)) == {unknown}
    # Bytes whose entry was removed before: that was decided then.
    shelf.sql(
        "INSERT INTO registry_change (patient_key, kind, act, entry_uuid, unique_id, changed_by, request_id, transaction)"
        " VALUES (1, 'D', 'removed', gen_random_uuid(), '1.2.3', 'x', '', 'ITI-62')"
    )
    assert await shelf.kept("1.2.3", kind="B") == {}


# Tables that name patients, of which the archive of a person has nothing, and why.
_NOT_IN_THE_ARCHIVE = {
    "object_locator": "says where an object stands, which the archive has",
    "unique_id_locator": "likewise",
    "access_source": "likewise, of facts",
    "patient_block": "hashes of what records say",
    "fhir_rendering": "the same objects in FHIR",
    "patient_search": "answers to searches, forgotten within minutes",
    "audit_event": "read by find_accesses",
    "audit_patient": "likewise",
    "access_withheld": "names those whom the archive leaves out",
}


def test_the_archive_of_a_person_leaves_no_table_out(shelf: Shelf) -> None:
    """Who adds a table about patients decides whether it belongs into the archive."""
    named = {
        table
        for (table,) in shelf.sql(
            "SELECT DISTINCT table_name FROM information_schema.columns JOIN information_schema.tables"
            " USING (table_schema, table_name) WHERE table_schema = 'public' AND table_type = 'BASE TABLE'"
            " AND column_name IN ('patient_key', 'patient_id', 'patient_keys', 'left_key', 'pesel')"
        )
    }
    read = {word for s in load("person.sql") for word in re.findall(r"(?:FROM|JOIN) (\w+)", s.text)}
    assert named - read == set(_NOT_IN_THE_ARCHIVE)

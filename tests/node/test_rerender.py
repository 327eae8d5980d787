"""Renderings of an older mapping are written anew while the registry serves: answers stay what they are."""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import signal
import subprocess
import sys
import uuid
from pathlib import Path
from typing import Any

import indexing
import psycopg
import pytest
from lxml import etree
from registering import Registry

from obieg.domain.identifiers import PatientId
from obieg.mapping import ebrim
from obieg.mapping.ebrim import IdSource, renew_rendering
from obieg.mapping.fhir_documents import Renderer
from obieg.ops import rerendering
from obieg.ops.failure import Failure
from obieg.ops.rerendering import rerender, status
from obieg.storage.link import Database

TABLES = ("document_entry", "submission_set", "folder", "association")


def aged(rendering: bytes) -> bytes:
    """As another release might have written it: other white space, other quotes, empty elements in full."""
    older = re.sub(rb"><(/?)rim:", rb">\n  <\1rim:", rendering)
    return re.sub(rb"<rim:LocalizedString ([^>]*)/>", rb"<rim:LocalizedString \1></rim:LocalizedString>", older)


def make_old(dsn: str) -> dict[str, dict[str, bytes]]:
    """Ages everything; what there was before, by table and entryUUID."""
    before: dict[str, dict[str, bytes]] = {}
    with psycopg.connect(dsn) as connection:
        for table in TABLES:
            rows = connection.execute(f"SELECT entry_uuid::text, ebrim FROM {table}").fetchall()
            before[table] = {u: bytes(e) for u, e in rows}
            for u, e in before[table].items():
                assert aged(e) != e
                connection.execute(
                    f"UPDATE {table} SET ebrim = %s, rendering_version = 0 WHERE entry_uuid = %s", [aged(e), u]
                )
    return before


def stored(dsn: str) -> dict[str, dict[str, bytes]]:
    with psycopg.connect(dsn) as connection:
        return {
            table: {
                u: bytes(e)
                for u, e in connection.execute(
                    f"SELECT entry_uuid::text, ebrim FROM {table} WHERE rendering_version = %s",
                    [ebrim.RENDERING_VERSION],
                )
            }
            for table in TABLES
        }


def revisions(dsn: str) -> list[Any]:
    with psycopg.connect(dsn) as connection:
        return [
            connection.execute(f"SELECT entry_uuid, revision, updated_at FROM {table} ORDER BY 1").fetchall()
            for table in TABLES[:3]
        ]


def run(dsn: str, **options: Any) -> rerendering.Rerendered:
    return rerender(dsn, advance=lambda *_: None, pause_s=0, **options)


def meaning(answer: Any) -> list[str]:
    """An answer without the white space that XML does not count."""
    found = []
    for element in answer:
        for part in element.iter():
            part.text = (part.text or "").strip() or None
            part.tail = None
        found.append(etree.tostring(element, method="c14n").decode())
    return sorted(found)


class Filled:
    """A registry with documents of one patient."""

    def __init__(self, dsn: str) -> None:
        self.dsn = dsn
        self.patient = PatientId("", "")

    async def fill(self, submissions: int) -> None:
        async with self.open() as registry:
            for _ in range(submissions):
                [first, folder] = await registry.register(self.patient, self.patient, new_folder=True)
                await registry.register(self.patient, self.patient, replaces=first)
                await registry.register(self.patient, self.patient, folder=folder)

    @contextlib.asynccontextmanager
    async def open(self) -> Any:
        database = Database(self.dsn, links=2)
        await database.open()
        if not self.patient.value:
            feed = indexing.feed(indexing.local(uuid.uuid4().hex))
            self.patient = await indexing.make_index(database).feed(feed, indexing.context())
        yield Registry(database, self.dsn)
        database.close()

    async def answer(self, registry: Registry) -> list[str]:
        both = [f"urn:oasis:names:tc:ebxml-regrep:StatusType:{s}" for s in ("Approved", "Deprecated")]
        parameters = {
            "patientId": [str(self.patient)],
            "XDSDocumentEntryStatus": both,
            "XDSSubmissionSetStatus": both,
            "XDSFolderStatus": both,
        }
        return meaning(await registry.ask("GetAll", parameters))


@pytest.fixture
def filled(database_dsn: str) -> Filled:
    found = Filled(database_dsn)
    asyncio.run(found.fill(4))
    return found


async def answered(filled: Filled) -> list[str]:
    async with filled.open() as registry:
        return await filled.answer(registry)


def test_old_rows_are_written_anew_and_answers_stay(filled: Filled) -> None:
    before = asyncio.run(answered(filled))
    assert len(before) > 30
    new = make_old(filled.dsn)
    assert {(s.name, s.rows, s.old) for s in status(filled.dsn)} == {
        (k.name, len(rows), len(rows)) for k, rows in zip(rerendering.KINDS, new.values(), strict=True)
    }
    assert asyncio.run(answered(filled)) == before
    versions = revisions(filled.dsn)
    done = run(filled.dsn)
    assert done.refused == []
    assert list(done.renewed.values()) == [len(rows) for rows in new.values()]
    # Byte by byte what this release writes, with the ids that were given out for the parts.
    assert stored(filled.dsn) == new
    assert revisions(filled.dsn) == versions, "what is only written anew is no new version in FHIR"
    assert asyncio.run(answered(filled)) == before
    assert all(s.old == 0 for s in status(filled.dsn))
    assert set(run(filled.dsn).renewed.values()) == {0}


def test_answers_are_the_same_while_it_runs(filled: Filled, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rerendering, "BATCH", 3)
    new = make_old(filled.dsn)

    async def ask() -> list[list[str]]:
        found = []
        async with filled.open() as registry:
            working = asyncio.create_task(
                asyncio.to_thread(rerender, filled.dsn, advance=lambda *_: None, pause_s=0.02)
            )
            while not working.done():
                found.append(await filled.answer(registry))
            await working
            found.append(await filled.answer(registry))
        return found

    found = asyncio.run(ask())
    assert len(found) > 5
    assert all(answer == found[0] for answer in found)
    assert stored(filled.dsn) == new


def test_rows_that_are_changed_meanwhile_are_renewed_by_the_change_or_after_it(filled: Filled) -> None:
    """Submissions that replace documents run beside it; in the end nothing is old and nothing of them is lost."""
    make_old(filled.dsn)

    async def both() -> int:
        async with filled.open() as registry:
            working = asyncio.create_task(
                asyncio.to_thread(rerender, filled.dsn, advance=lambda *_: None, pause_s=0.02)
            )
            count = 0
            while not working.done():
                if count == 150:  # an answer may have no more than a thousand objects
                    await working
                    break
                approved = sorted(await registry.found(filled.patient))
                await registry.register(filled.patient, filled.patient, replaces=approved[count % len(approved)])
                count += 1
            await working
            await registry.expect_consistent([filled.patient])
            both = await registry.found(filled.patient, deprecated=True)
            return count if len(both) == 12 + count and len(approved) == 8 else -1

    assert asyncio.run(both()) > 3
    assert all(s.old == 0 for s in status(filled.dsn))


def test_a_row_that_somebody_holds_is_neither_waited_for_nor_forgotten(
    filled: Filled, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rerendering, "PASS_PAUSE_S", 0.1)
    new = make_old(filled.dsn)
    with psycopg.connect(filled.dsn) as holder:
        held = holder.execute("SELECT entry_uuid::text FROM document_entry LIMIT 1 FOR UPDATE").fetchall()[0][0]
        done = run(filled.dsn)
        assert [line for line in done.refused if "in use" in line] == [
            "document entries: 1 were in use all the time; try again later"
        ]
        assert stored(filled.dsn)["document_entry"].keys() == new["document_entry"].keys() - {held}
    assert run(filled.dsn).renewed["document entries"] == 1
    assert stored(filled.dsn) == new


def test_what_cannot_be_read_stays_and_is_told(filled: Filled) -> None:
    new = make_old(filled.dsn)
    broken = next(iter(new["folder"]))
    with psycopg.connect(filled.dsn) as connection:
        connection.execute("UPDATE folder SET ebrim = %s WHERE entry_uuid = %s", [b"<rim:Nothing/>", broken])
    done = run(filled.dsn)
    assert done.refused_count == 1
    assert done.refused[0].startswith(f"folders {broken}: ")
    assert done.renewed["folders"] == len(new["folder"]) - 1


def test_only_one_runs_at_a_time(filled: Filled) -> None:
    with psycopg.connect(filled.dsn) as other:
        other.execute("SELECT pg_advisory_lock(%s)", [rerendering.ADVISORY_LOCK])
        with pytest.raises(Failure, match="Another process"):
            run(filled.dsn)


_KILLED = """
import sys
from obieg.ops import rerendering
rerendering.BATCH = 2
def advance(kind, looked, renewed):
    print(renewed, flush=True)
rerendering.rerender(sys.argv[1], advance=advance, pause_s=0.05)
"""


def test_a_killed_run_goes_on_where_it_was(filled: Filled, tmp_path: Path) -> None:
    new = make_old(filled.dsn)
    process = subprocess.Popen(
        [sys.executable, "-c", _KILLED, filled.dsn], stdout=subprocess.PIPE, cwd=tmp_path, env=os.environ
    )
    assert process.stdout is not None
    seen = [int(process.stdout.readline()) for _ in range(3)]
    process.send_signal(signal.SIGKILL)
    process.wait()
    process.stdout.close()
    left = status(filled.dsn)[0]
    assert 0 < left.old <= left.rows - sum(seen)
    looked: list[int] = []
    rerender(filled.dsn, advance=lambda kind, n, _: looked.append(n) if kind == left.name else None, pause_s=0)
    assert sum(looked) == left.old, "rows that were done are not looked at again"
    assert stored(filled.dsn) == new


def test_a_rendering_that_would_change_its_meaning_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    entry = ebrim.DocumentEntry(f"urn:uuid:{uuid.uuid4()}", "1.2.3", mime_type="text/xml")
    rendering = ebrim.render_entry(entry, IdSource(str(uuid.uuid4())))
    assert renew_rendering("D", rendering) == rendering
    monkeypatch.setitem(ebrim._RENDER, "D", lambda v, i: ebrim.render_entry(v, i).replace(b"text/xml", b"text/html"))
    with pytest.raises(ValueError, match="change its meaning"):
        renew_rendering("D", rendering)
    with pytest.raises(ValueError, match="cannot be read"):
        renew_rendering("D", b"not XML")


def test_more_parts_than_before_get_ids_of_their_own(monkeypatch: pytest.MonkeyPatch) -> None:
    entry = ebrim.DocumentEntry(f"urn:uuid:{uuid.uuid4()}", "1.2.3", mime_type="text/xml")
    rendering = ebrim.render_entry(entry, IdSource(str(uuid.uuid4())))
    fewer = re.sub(rb"<rim:ExternalIdentifier[^>]*1.2.3.*?</rim:ExternalIdentifier>", b"", rendering)
    assert fewer != rendering
    given = re.findall(rb' id="([^"]+)"', fewer)
    monkeypatch.setattr(ebrim, "read_rendering", lambda *_: entry)
    ids = re.findall(rb' id="([^"]+)"', renew_rendering("D", fewer))
    assert set(given) < set(ids)
    assert len(set(ids)) == len(ids)


def test_renderings_in_fhir_are_made_beforehand_and_again(filled: Filled) -> None:
    kinds = rerendering.fhir_kinds(Renderer())
    done = rerender(filled.dsn, advance=lambda *_: None, kinds=kinds, pause_s=0)
    assert done.refused == []
    counts = {k.name: s.rows for k, s in zip(kinds, status(filled.dsn, kinds), strict=True)}
    assert done.renewed == counts
    assert min(counts.values()) > 0
    with psycopg.connect(filled.dsn) as connection:
        made = connection.execute("SELECT * FROM fhir_rendering ORDER BY 1, 2").fetchall()
        connection.execute(
            "UPDATE fhir_rendering SET rendering_version = 0, content = 'old' WHERE entry_uuid < %s", ["8" * 32]
        )
        left = connection.execute("SELECT count(*) FROM fhir_rendering WHERE rendering_version = 0").fetchall()[0][0]
    assert left > 0
    assert sum(rerender(filled.dsn, advance=lambda *_: None, kinds=kinds, pause_s=0).renewed.values()) == left
    with psycopg.connect(filled.dsn) as connection:
        assert connection.execute("SELECT * FROM fhir_rendering ORDER BY 1, 2").fetchall() == made
    assert all(s.old == 0 for s in status(filled.dsn, kinds))

"""Many at once on one patient end as one after the other would."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import psycopg
import pytest
from indexing import CLINIC, HOSPITAL, OTHER, PESEL, context, feed, local, make_curation, make_index, person

from obieg.actors.patient_curation import PatientCuration
from obieg.actors.patient_index import PatientIndex
from obieg.domain.identifiers import PatientId
from obieg.domain.patients import CrossReferenceQuery, FeedEvent
from obieg.domain.problems import Problem
from obieg.domain.registry import LostRace
from obieg.storage.link import Database

pytestmark = pytest.mark.node

ANNA = person("Wrzesińska", "Anna", "19800512", "F", street="ul. Długa 5", city="Kraków", phone="601202303")
NUMBER = PatientId("80051212326", PESEL)
OTHER_NUMBER = PatientId("80051247665", PESEL)
WORKERS = 8


@pytest.fixture
async def databases(database_dsn: str) -> AsyncIterator[list[Database]]:
    databases = [Database(database_dsn, links=1) for _ in range(WORKERS)]
    await asyncio.gather(*(d.open() for d in databases))
    yield databases
    for d in databases:
        d.close()


@pytest.fixture
def indexes(databases: list[Database]) -> list[PatientIndex]:
    return [make_index(d) for d in databases]


@pytest.fixture
def curations(databases: list[Database]) -> list[PatientCuration]:
    return [make_curation(d) for d in databases]


async def ids(index: PatientIndex, identifier: PatientId) -> set[PatientId]:
    return set(await index.cross_reference(CrossReferenceQuery(identifier, identifier_location="Q"), context()))


def rows(dsn: str, sql: str) -> list[Any]:
    with psycopg.connect(dsn) as connection:
        return connection.execute(sql).fetchall()


async def outcomes(*acts: Callable[[], Awaitable[Any]]) -> list[Any]:
    """What each came to, all begun at once; a refusal is an outcome, everything else a failure of the test."""

    async def run(act: Callable[[], Awaitable[Any]]) -> Any:
        try:
            return await act()
        except Problem as problem:
            return problem.findings[0].code

    return await asyncio.gather(*(run(act) for act in acts))


async def test_a_new_person_from_fifty_facilities_at_once(indexes: list[PatientIndex], database_dsn: str) -> None:
    facilities = [PatientId("1", f"1.2.616.9.{n}") for n in range(50)]
    found = await asyncio.gather(
        *(indexes[n % WORKERS].feed(feed(i, who=ANNA), context()) for n, i in enumerate(facilities))
    )
    assert len(set(found)) == 1
    assert rows(database_dsn, "SELECT count(*) FROM patient_record") == [(50,)]
    assert rows(database_dsn, "SELECT count(*) FROM audit_event") == [(50,)]
    assert await ids(indexes[0], facilities[0]) == {*facilities, found[0]}


async def test_a_new_person_with_and_without_slips_at_once(indexes: list[PatientIndex]) -> None:
    """Family and given name changed places: only the weaker blocks are shared."""
    home = {"street": "ul. Długa 5", "city": "Kraków", "phone": "601202303"}
    for n in range(10, 20):
        right = person("Wrzesińska", "Anna", f"198005{n}", "F", **home)
        swapped = person("Anna", "Wrzesińska", f"198005{n}", "F", **home)
        found = await outcomes(
            *(
                lambda i=i, who=who, n=n: indexes[i].feed(feed(PatientId(str(n), f"1.2.616.9.{i}"), who=who), context())
                for i, who in enumerate([right, swapped] * (WORKERS // 2))
            )
        )
        assert len(set(found)) == 1


async def test_two_numbers_of_one_facility_at_once_are_never_joined(
    indexes: list[PatientIndex], database_dsn: str
) -> None:
    id_ = await indexes[0].feed(feed(PatientId("7", CLINIC), who=ANNA), context())
    found = await outcomes(
        *(lambda n=n: indexes[n].feed(feed(local(str(n)), who=ANNA), context()) for n in range(WORKERS))
    )
    assert len(set(found)) == WORKERS
    assert id_ in found
    assert rows(database_dsn, "SELECT count(*) FROM patient") == [(WORKERS,)]


async def test_two_pesels_for_one_patient_at_once(indexes: list[PatientIndex]) -> None:
    await indexes[0].feed(feed(PatientId("7", CLINIC), who=ANNA), context())
    for n in range(10):
        number, other = (NUMBER, OTHER_NUMBER) if n % 2 else (OTHER_NUMBER, NUMBER)
        one, two = PatientId(f"a{n}", OTHER), PatientId(f"b{n}", HOSPITAL)
        await outcomes(
            lambda i=one, p=number: indexes[1].feed(feed(i, p, who=ANNA), context()),
            lambda i=two, p=other: indexes[2].feed(feed(i, p, who=ANNA), context()),
        )
        assert len({i for i in await ids(indexes[0], one) if i.authority == PESEL}) <= 1
        assert len({i for i in await ids(indexes[0], two) if i.authority == PESEL}) <= 1


async def test_of_those_who_change_one_version_at_once_exactly_one_wins(indexes: list[PatientIndex]) -> None:
    """If-Match holds in the commit, not before it."""
    mine, other = local("1"), local("9")
    patient = await indexes[0].feed(feed(mine, who=ANNA), context())
    await indexes[0].feed(feed(other), context())
    for n in range(15):
        seen = await indexes[0].read(patient, context())
        assert seen is not None
        born = [person("Wrzesińska", "Anna", f"19{n:02}05{day:02}", "F") for day in range(10, 10 + WORKERS)]
        found = await outcomes(
            *(
                lambda i=i, who=who, v=str(seen.version): indexes[i].feed(feed(mine, who=who), context(), if_match=v)
                for i, who in enumerate(born)
            )
        )
        assert sorted(found, key=str).count("VersionConflict") == WORKERS - 1, found
        after = await indexes[0].read(patient, context())
        assert after is not None
        assert after.version == seen.version + 1
        winner = next(i for i, f in enumerate(found) if f == patient)
        assert after.demographics.birth_date == born[winner].birth_date
    stale = str(after.version - 1)
    merge = feed(other, event=FeedEvent.MERGE, merged=(mine,))
    assert await outcomes(lambda: indexes[1].feed(merge, context(), if_match=stale)) == ["VersionConflict"]
    assert isinstance(await indexes[1].feed(merge, context(), if_match=str(after.version)), PatientId)
    gone = await outcomes(lambda: indexes[1].feed(feed(mine, who=ANNA), context(), if_match="*"))
    assert gone == ["VersionConflict"]


async def test_opposite_merges_at_once(indexes: list[PatientIndex], database_dsn: str) -> None:
    for n in range(10):
        one, two = local(f"{n}a"), local(f"{n}b")
        await indexes[0].feed(feed(one), context())
        await indexes[0].feed(feed(two), context())
        found = await outcomes(
            lambda a=one, b=two: indexes[1].feed(feed(a, event=FeedEvent.MERGE, merged=(b,)), context()),
            lambda a=one, b=two: indexes[2].feed(feed(b, event=FeedEvent.MERGE, merged=(a,)), context()),
        )
        assert sorted(isinstance(f, PatientId) for f in found) == [False, True]
        assert len(rows(database_dsn, "SELECT 1 FROM patient_link")) == n + 1


async def test_a_ring_of_merges_at_once(indexes: list[PatientIndex], database_dsn: str) -> None:
    """1 into 2, 2 into 3, …, 8 into 1: one of them is too late."""
    for n in range(WORKERS):
        await indexes[0].feed(feed(local(str(n))), context())
    found = await outcomes(
        *(
            lambda n=n: indexes[n].feed(
                feed(local(str((n + 1) % WORKERS)), event=FeedEvent.MERGE, merged=(local(str(n)),)), context()
            )
            for n in range(WORKERS)
        )
    )
    assert sum(isinstance(f, PatientId) for f in found) == len(rows(database_dsn, "SELECT 1 FROM patient_link"))
    # No link ends at a patient who is linked.
    assert (
        rows(
            database_dsn,
            "SELECT 1 FROM patient_link a JOIN patient_link b ON b.patient_key = a.survivor_key",
        )
        == []
    )
    alive = [n for n in range(WORKERS) if await indexes[0].affinity_domain_id(local(str(n)))]
    assert alive


async def test_updates_of_one_record_at_once_are_all_kept(indexes: list[PatientIndex], database_dsn: str) -> None:
    await indexes[0].feed(feed(local("1"), who=ANNA), context())
    numbers = [PatientId(f"n{n}", f"1.2.616.9.{n}") for n in range(WORKERS)]
    found = await outcomes(
        *(lambda n=n: indexes[n].feed(feed(local("1"), numbers[n]), context()) for n in range(WORKERS))
    )
    assert len(set(found)) == 1
    assert set(numbers) < await ids(indexes[0], local("1"))
    assert rows(database_dsn, "SELECT version FROM patient_record") == [(WORKERS + 1,)]


async def test_undo_beside_feeds(
    indexes: list[PatientIndex], curations: list[PatientCuration], database_dsn: str
) -> None:
    """Whether the feed came before or after, its number leads to whom its record is of."""
    for n in range(15):
        one, two, new = local(f"{n}a"), PatientId(f"{n}b", CLINIC), PatientId(f"{n}c", OTHER)
        first, second = [await indexes[0].feed(feed(i), context()) for i in (one, two)]
        await curations[0].link(first, second, by="D")
        await outcomes(
            lambda i=two, new=new: indexes[1].feed(feed(i, new), context()),
            lambda id_=second: curations[2].unlink(id_, by="D"),
            lambda i=one: indexes[3].feed(feed(i, who=person("Kot", "Jan")), context()),
        )
        assert await ids(indexes[0], two) == {two, new, second}
        assert await ids(indexes[0], one) == {one, first}
    assert rows(database_dsn, "SELECT 1 FROM patient_link") == []


async def test_a_feed_that_has_read_on_both_sides_of_an_undo(
    indexes: list[PatientIndex], curations: list[PatientCuration], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Statements of one batch see the database one after another; nobody's record may go to somebody else by that."""
    one, two, new = local("a"), PatientId("b", CLINIC), PatientId("c", OTHER)
    first, second = [await indexes[0].feed(feed(i), context()) for i in (one, two)]
    await curations[0].link(first, second, by="D")
    store = indexes[0]._store  # what it reads is not what stood at any time
    read, write = store.facts, store.store
    before = (await read((two, new), ())).standings
    await curations[0].unlink(second, by="D")
    lost: list[LostRace] = []

    async def facts(identifiers: Any, blocks: Any) -> Any:
        found = await read(identifiers, blocks)
        return found if lost else found._replace(standings=before)

    async def stored(*given: Any) -> None:
        try:
            await write(*given)
        except LostRace as error:
            lost.append(error)
            raise

    monkeypatch.setattr(store, "facts", facts)
    monkeypatch.setattr(store, "store", stored)
    await indexes[0].feed(feed(two, new), context())
    assert len(lost) == 1
    assert await ids(indexes[0], two) == {two, new, second}
    assert await ids(indexes[0], one) == {one, first}


async def test_decisions_of_two_people_at_once(
    indexes: list[PatientIndex], curations: list[PatientCuration], database_dsn: str
) -> None:
    for n in range(10):
        one, two = [await indexes[0].feed(feed(local(f"{n}{x}")), context()) for x in "ab"]
        found = await outcomes(
            lambda a=one, b=two: curations[1].link(a, b, by="D"), lambda a=one, b=two: curations[2].link(b, a, by="E")
        )
        assert found.count("AlreadyLinked") == 1
        assert len(rows(database_dsn, "SELECT 1 FROM patient_link")) == n + 1
        undone = await outcomes(*[lambda i=i: curations[3].unlink(i, by="D") for i in (one, two)] * 2)
        assert undone.count("NotLinked") == 3
        await curations[0].link(one, two, by="D")

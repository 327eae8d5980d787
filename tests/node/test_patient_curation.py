"""Joining, deciding and taking it back, with documents, on a real database."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Any

import psycopg
import pytest
from indexing import CLINIC, OTHER, OURS, PESEL, context, feed, local, make_curation, make_index, person
from registering import Registry

from obieg.actors.patient_curation import PatientCuration
from obieg.actors.patient_index import PatientIndex
from obieg.domain.identifiers import PatientId
from obieg.domain.patients import CrossReferenceQuery, DemographicsQuery, FeedEvent, TaskKind
from obieg.domain.problems import Problem
from obieg.storage.link import Database
from obieg.transactions import TRANSACTIONS

pytestmark = pytest.mark.node

ANNA = person("Wrzesińska", "Anna", "19800512", "F", street="ul. Długa 5", city="Kraków", phone="601202303")
JAN = person("Zawadzki", "Jan", "19551103", "M", street="Rynek 1", city="Lublin")
NUMBER, OTHER_NUMBER = PatientId("80051212326", PESEL), PatientId("80051247665", PESEL)
A, B, C = local("a"), PatientId("b", CLINIC), PatientId("c", OTHER)
ITI_21 = next(t for t in TRANSACTIONS if t.id == "ITI-21")


@pytest.fixture
async def database(database_dsn: str) -> AsyncIterator[Database]:
    database = Database(database_dsn)
    await database.open()
    yield database
    database.close()


class Region:
    def __init__(self, database: Database, dsn: str) -> None:
        self.dsn = dsn
        self.index: PatientIndex = make_index(database)
        self.curation: PatientCuration = make_curation(database)
        self.registry = Registry(database, dsn)

    async def known(self, *identifiers: PatientId, **more: Any) -> PatientId:
        return await self.index.feed(feed(*identifiers, **more), context())

    async def merge(self, survivor: PatientId, merged: PatientId) -> PatientId:
        return await self.index.feed(feed(survivor, event=FeedEvent.MERGE, merged=(merged,)), context())

    async def ids(self, identifier: PatientId) -> set[PatientId]:
        return set(
            await self.index.cross_reference(CrossReferenceQuery(identifier, identifier_location="Q"), context())
        )

    async def state(self, *identifiers: PatientId) -> list[Any]:
        """All that an asker can see of the patients whom these identifiers name."""
        seen: list[Any] = []
        for i in identifiers:
            id_ = await self.index.affinity_domain_id(i)
            if id_ is None:
                seen.append((i, None))
                continue
            read = await self.index.read(id_, context())
            assert read is not None
            seen.append((i, id_, await self.ids(i), read.demographics, read.active, read.identifiers))
            seen.append((await self.registry.found(id_), await self.registry.folders(id_)))
        return seen

    def rows(self, sql: str) -> list[Any]:
        with psycopg.connect(self.dsn) as connection:
            return connection.execute(sql).fetchall()

    def open_lines(self) -> list[Any]:
        return self.rows("SELECT kind FROM patient_task WHERE decision = '' ORDER BY task_id")

    async def refused(self, act: Any) -> str:
        with pytest.raises(Problem) as caught:
            await act
        return caught.value.findings[0].code


@pytest.fixture
def region(database: Database, database_dsn: str) -> Region:
    return Region(database, database_dsn)


# the old state is there again ------------------------------------------------------------------------------------


@pytest.mark.parametrize("way", ["A40 of local numbers", "A40 of affinity-domain ids", "decision", "link", "automatic"])
async def test_undo_restores_the_old_state(region: Region, way: str) -> None:
    two = local("b") if way == "A40 of local numbers" else B
    named = way == "A40 of affinity-domain ids"
    mine = (A, PatientId("XA", OURS)) if named else (A,)
    theirs = (two, PatientId("XB", OURS)) if named else (two,)
    first = await region.known(*mine, NUMBER, who=ANNA)
    # For a decision there must be a doubt, for an automatic link a reason that comes later.
    other = ANNA if way == "decision" else person(sex="F") if way == "automatic" else JAN
    second = await region.known(*theirs, *((OTHER_NUMBER,) if way == "decision" else ()), who=other)
    assert first != second
    await region.registry.register(first, A, new_folder=True)
    [document, folder] = await region.registry.register(second, two, new_folder=True)
    old = await region.state(A, two, first, second)
    if way.startswith("A40"):
        survivor, gone = (first, second) if named else (A, two)
        assert await region.merge(survivor, gone) == first
    elif way == "decision":
        [line] = await region.curation.worklist()
        assert line.judgement is not None
        assert line.judgement.evidence
        await region.curation.decide(line.task_id, same=True, by="Ewa")
    elif way == "link":
        await region.curation.link(first, second, by="Ewa")
    else:
        await region.known(two, NUMBER, who=ANNA)
    survivor_id = await region.index.affinity_domain_id(A)
    assert survivor_id is not None
    assert len(await region.registry.found(survivor_id)) == 2
    assert document in await region.registry.found(survivor_id)
    assert folder in await region.registry.folders(survivor_id)
    assert region.open_lines() == []
    retired = way.startswith("A40")
    assert (await region.index.affinity_domain_id(second) is None) is retired
    assert (await region.index.affinity_domain_id(two) is None) is (way == "A40 of local numbers")
    link = region.rows("SELECT reason FROM patient_link")
    assert link == [("A40" if retired else "automatic" if way == "automatic" else "decision",)]
    await region.registry.expect_consistent([survivor_id])

    subsumed = second if survivor_id == first else first
    undone = await region.curation.unlink(subsumed, by="Ewa")
    assert {undone.patient, undone.survivor} == {first, second}
    assert (undone.moved, undone.doubtful) == ((), ())
    new = await region.state(A, two, first, second)
    if way == "automatic":  # the number was learned in the meantime, and nothing that was said is forgotten
        assert [s[1] for s in new if len(s) > 2] == [first, second, first, second]
        assert await region.registry.found(first) == old[1][0]
        assert await region.registry.found(second) == old[3][0]
    else:
        assert new == old
    assert await region.refused(region.curation.unlink(second, by="Ewa")) == "NotLinked"
    assert region.open_lines() == ([("possible_duplicate",)] if way == "decision" else [])
    await region.registry.expect_consistent([first, second])


async def test_retired_ids_find_and_register_nothing_until_the_merge_is_undone(region: Region) -> None:
    first, second = await region.known(A, who=ANNA), await region.known(local("b"), who=JAN)
    await region.merge(A, local("b"))
    assert await region.registry.found(second) == set()
    assert await region.refused(region.registry.register(second, local("b"))) == "XDSUnknownPatientId"
    assert await region.refused(region.known(local("b"), who=JAN)) == "UnknownKeyIdentifier"
    await region.curation.unlink(local("b"), by="Ewa")
    assert await region.known(local("b"), who=JAN) == second
    [document] = await region.registry.register(second, local("b"))
    assert await region.registry.found(second) == {document}
    assert await region.registry.found(first) == set()


# what came after the merge ---------------------------------------------------------------------------------------


async def test_documents_follow_their_source_patient_id(region: Region) -> None:
    first, second = await region.known(A, NUMBER, who=ANNA), await region.known(local("b"), NUMBER, who=JAN)
    [before] = await region.registry.register(second, local("b"))
    await region.merge(A, local("b"))
    [mine, folder] = await region.registry.register(first, A, new_folder=True)
    [theirs, kept] = await region.registry.register(first, local("b"), new_folder=True)
    [in_folder] = await region.registry.register(first, local("b"), folder=folder)
    [newer] = await region.registry.register(first, local("b"), replaces=theirs)
    [added] = await region.registry.register(first, local("b"), appends=newer)
    [nobodys] = await region.registry.register(first, "4711^^^&1.2.9.9&ISO")
    [unsaid] = await region.registry.register(first, "")
    [shared] = await region.registry.register(first, NUMBER)
    mixed = await region.registry.register(first, A, local("b"))
    [crossed] = await region.registry.register(first, local("b"), appends=mine)
    # ``unsaid`` has limited metadata: it is filed like the others, and ITI-18 does not show it.
    everything = {before, mine, in_folder, newer, added, nobodys, shared, *mixed, crossed}
    assert await region.registry.found(first) == everything

    undone = await region.curation.unlink(second, by="Ewa")
    moved = {theirs, in_folder, newer, added}
    doubtful = {nobodys, unsaid, shared, mixed[1], crossed}
    assert set(undone.moved) == moved
    assert set(undone.doubtful) == doubtful
    assert await region.registry.found(second) == {before, in_folder, newer, added}
    assert await region.registry.found(second, deprecated=True) == {before, *moved}
    assert await region.registry.found(first) == {mine, mixed[0], *doubtful} - {unsaid}
    assert await region.registry.folders(first) == {folder}
    assert await region.registry.folders(second) == {kept}
    assert await region.registry.contents(folder) == {mine}
    assert await region.registry.contents(kept) == {theirs, newer}
    await region.registry.expect_consistent([first, second])
    lines = {t.detail: t for t in await region.curation.worklist() if t.kind is TaskKind.DOUBTFUL_DOCUMENT}
    assert lines.keys() == doubtful
    assert {(t.left.patient, t.right.patient) for t in lines.values() if t.right} == {(first, second)}

    # A person says whose they are.
    await region.curation.decide(lines[nobodys].task_id, same=True, by="Ewa")
    await region.curation.decide(lines[unsaid].task_id, same=False, by="Ewa")
    assert await region.registry.found(second) == {before, in_folder, newer, added, nobodys}
    for line in (mixed[1], crossed):
        assert (
            await region.refused(region.curation.decide(lines[line].task_id, same=True, by="Ewa")) == "MixedSubmission"
        )
    assert await region.index.affinity_domain_id(first) == first
    await region.registry.expect_consistent([first, second])


async def test_doubtful_documents_of_one_submission_go_together(region: Region) -> None:
    first, second = await region.known(A, who=ANNA), await region.known(local("b"), who=JAN)
    await region.merge(A, local("b"))
    both = await region.registry.register(first, "1^^^&1.2.9.9&ISO", "2^^^&1.2.9.9&ISO", new_folder=True)
    folder = both.pop()
    await region.curation.unlink(local("b"), by="Ewa")
    lines = await region.curation.worklist()
    await region.curation.decide(lines[0].task_id, same=True, by="Ewa")
    assert await region.registry.found(second) == set(both)
    assert await region.registry.folders(second) == {folder}
    assert region.open_lines() == []
    await region.registry.expect_consistent([first, second])


async def test_records_that_came_later_follow_the_identifiers_they_state(region: Region) -> None:
    first, second = await region.known(A, who=ANNA), await region.known(B, NUMBER, who=JAN)
    await region.curation.link(first, second, by="Ewa")
    assert await region.known(C, NUMBER, who=JAN) == first
    [document] = await region.registry.register(first, C)
    other = PatientId("d", "1.2.616.5")
    assert await region.known(other, who=ANNA) == first
    assert await region.known(A, PatientId("e", "1.2.616.6"), who=ANNA) == first
    await region.known(B, PatientId("f", "1.2.616.7"))
    undone = await region.curation.unlink(second, by="Ewa")
    assert undone.moved == (document,)
    assert await region.ids(B) == {B, C, NUMBER, PatientId("f", "1.2.616.7"), second}
    assert await region.ids(A) == {A, other, PatientId("e", "1.2.616.6"), first}
    # They are found again by what they say.
    assert await region.known(PatientId("g", "1.2.616.8"), who=JAN) == second


async def test_a_number_that_both_state_stays_where_it_was(region: Region) -> None:
    first, second = await region.known(A, NUMBER, who=ANNA), await region.known(local("b"), NUMBER, who=ANNA)
    assert region.open_lines() == [("contradiction",)]
    await region.curation.link(second, first, by="Ewa")
    assert await region.known(C, NUMBER, who=ANNA) == second
    await region.curation.unlink(first, by="Ewa")
    assert await region.ids(NUMBER) == {A, NUMBER, first}
    assert await region.ids(C) == {local("b"), C, second}


async def test_a_number_that_its_holder_gives_up_leads_to_who_still_states_it(region: Region) -> None:
    first, second = await region.known(A, NUMBER, who=ANNA), await region.known(B, NUMBER, who=JAN)
    assert await region.ids(NUMBER) == {A, NUMBER, first}
    await region.known(A, OTHER_NUMBER, who=ANNA)
    assert await region.known(B, NUMBER, who=JAN) == second
    assert await region.ids(NUMBER) == {B, NUMBER, second}


# chains ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("order", ["inner first", "outer first"])
async def test_chains_are_undone_in_any_order(region: Region, order: str) -> None:
    a, b, c = [await region.known(i) for i in (local("a"), local("b"), local("c"))]
    old = await region.state(a, b, c, local("a"), local("b"), local("c"))
    await region.merge(local("b"), local("a"))
    [one] = await region.registry.register(b, local("a"))
    await region.merge(local("c"), local("b"))
    [two] = await region.registry.register(c, local("a"))
    [three] = await region.registry.register(c, local("b"))
    assert await region.registry.found(c) == {one, two, three}
    if order == "outer first":
        await region.curation.unlink(b, by="Ewa")
        assert await region.registry.found(b) == {one, two, three}
        assert await region.registry.found(c) == set()
        assert await region.index.affinity_domain_id(a) is None
        await region.curation.unlink(a, by="Ewa")
    else:
        await region.curation.unlink(local("a"), by="Ewa")
        assert await region.registry.found(a) == {one, two}
        assert await region.registry.found(c) == {three}
        assert await region.index.affinity_domain_id(b) is None
        await region.curation.unlink(local("b"), by="Ewa")
    assert await region.registry.found(a) == {one, two}
    assert await region.registry.found(b) == {three}
    for document in (one, two, three):
        assert document not in await region.registry.found(c)
    assert [s for s in await region.state(a, b, c, local("a"), local("b"), local("c")) if len(s) > 2] == [
        s for s in old if len(s) > 2
    ]
    await region.registry.expect_consistent([a, b, c])


async def test_what_was_the_own_record_of_a_later_link_is_not_taken(region: Region) -> None:
    """Only what came to the mixed patient is divided, not what the third one had as its own."""
    a, b = await region.known(A, who=ANNA), await region.known(B, who=JAN)
    await region.curation.link(b, a, by="Ewa")
    c = await region.known(C, PatientId("x", "1.2.616.8"))
    [document] = await region.registry.register(c, A)
    await region.curation.link(c, b, by="Ewa")
    undone = await region.curation.unlink(a, by="Ewa")
    assert undone.moved == ()
    assert await region.registry.found(c) == {document}
    assert await region.ids(C) == {B, C, PatientId("x", "1.2.616.8"), c}


async def test_merges_that_cannot_be(region: Region) -> None:
    a, b, c = [await region.known(i) for i in (local("a"), local("b"), local("c"))]
    await region.known(B)
    assert await region.refused(region.merge(local("a"), B)) == "UnknownKeyIdentifier"
    assert await region.refused(region.merge(local("a"), local("a"))) == "DuplicateKeyIdentifier"
    assert await region.refused(region.merge(local("a"), local("z"))) == "UnknownKeyIdentifier"
    assert await region.refused(region.merge(local("z"), local("a"))) == "UnknownKeyIdentifier"
    await region.merge(local("b"), local("a"))
    assert await region.merge(local("b"), local("a")) == b
    assert await region.refused(region.merge(local("a"), local("b"))) == "UnknownKeyIdentifier"
    assert await region.refused(region.merge(local("a"), local("c"))) == "UnknownKeyIdentifier"
    assert await region.refused(region.merge(local("c"), local("a"))) == "UnknownKeyIdentifier"
    assert await region.refused(region.merge(a, b)) == "UnknownKeyIdentifier"
    assert await region.refused(region.curation.link(c, a, by="Ewa")) == "UnknownKeyIdentifier"
    await region.curation.link(c, b, by="Ewa")
    assert await region.refused(region.curation.link(b, c, by="Ewa")) == "AlreadyLinked"
    assert region.rows("SELECT count(*) FROM patient_link") == [(2,)]


async def test_a_merge_of_numbers_of_one_patient_is_undone_by_itself(region: Region) -> None:
    a, b = await region.known(local("a"), who=ANNA), await region.known(local("b"), who=JAN)
    await region.curation.link(a, b, by="Ewa")
    await region.merge(local("a"), local("b"))
    assert await region.index.affinity_domain_id(local("b")) is None
    assert await region.index.affinity_domain_id(b) == a
    await region.curation.unlink(local("b"), by="Ewa")
    assert await region.index.affinity_domain_id(local("b")) == a
    await region.curation.unlink(local("b"), by="Ewa")
    assert await region.index.affinity_domain_id(local("b")) == b


# decisions -------------------------------------------------------------------------------------------------------


async def test_different_is_remembered_until_a_person_says_otherwise(region: Region) -> None:
    a, b = await region.known(local("a"), who=ANNA), await region.known(local("b"), who=ANNA)
    [line] = await region.curation.worklist()
    await region.curation.decide(line.task_id, same=False, by="Ewa", note="twins")
    await region.known(local("b"), who=JAN)
    await region.known(local("b"), who=ANNA)
    assert region.open_lines() == []
    # A third record that looks like both is of neither; it is asked about, the two are not asked about again.
    third = await region.known(B, who=ANNA)
    assert third not in (a, b)
    asked = {frozenset((t.left.patient, t.right.patient)) for t in await region.curation.worklist() if t.right}
    assert asked == {frozenset((third, a)), frozenset((third, b))}
    await region.curation.link(a, b, by="Jan")
    [first, *_] = [t for t in await region.curation.worklist(decided=True) if t.decision]
    assert (first.decision, first.decided_by) == ("withdrawn", "Ewa")
    await region.curation.unlink(b, by="Jan")
    assert await region.index.affinity_domain_id(b) == b


async def test_different_blocks_the_matcher(region: Region) -> None:
    a, b = await region.known(A, who=ANNA), await region.known(B, who=person(sex="F"))
    await region.curation.keep_apart(a, b, by="Ewa")
    await region.curation.keep_apart(b, a, by="Ewa")
    assert region.rows("SELECT decision FROM patient_task") == [("different",)]
    await region.known(B, who=ANNA)
    assert await region.index.affinity_domain_id(b) == b
    await region.curation.link(a, b, by="Ewa")
    assert await region.refused(region.curation.keep_apart(a, b, by="Ewa")) == "AlreadyLinked"


async def test_a_link_that_was_taken_back_is_not_made_again_by_the_matcher(region: Region) -> None:
    a, b = await region.known(A, who=ANNA), await region.known(B, who=person(sex="F"))
    await region.known(B, who=ANNA)
    survivor = await region.index.affinity_domain_id(a)
    assert survivor == await region.index.affinity_domain_id(b)
    await region.curation.unlink(a if survivor == b else b, by="Ewa")
    await region.known(B, who=JAN)
    await region.known(B, who=ANNA)
    assert await region.index.affinity_domain_id(a) != await region.index.affinity_domain_id(b)
    assert region.open_lines() == []


async def test_a_decision_that_was_undone_is_asked_again(region: Region) -> None:
    a, b = await region.known(local("a"), who=ANNA), await region.known(local("b"), who=ANNA)
    [line] = await region.curation.worklist()
    await region.curation.decide(line.task_id, same=True, by="Ewa")
    assert await region.refused(region.curation.decide(line.task_id, same=True, by="Ewa")) == "UnknownTask"
    assert await region.index.affinity_domain_id(a) == await region.index.affinity_domain_id(b)
    [link] = region.rows("SELECT linked_by FROM patient_link")
    assert link == ("Ewa",)
    await region.curation.unlink(local("a"), by="Jan")
    [again] = await region.curation.worklist()
    assert (again.kind, again.judgement) == (line.kind, line.judgement)
    log = await region.curation.worklist(decided=True)
    assert [(t.decision, t.decided_by) for t in log] == [("", ""), ("undone", "Ewa")]


async def test_lines_between_two_who_became_one_are_closed_and_opened_again(region: Region) -> None:
    a, b = await region.known(local("a"), who=ANNA), await region.known(local("b"), who=ANNA)
    assert region.open_lines() == [("possible_duplicate",)]
    await region.merge(local("a"), local("b"))
    assert [(t.decision, t.decided_by) for t in await region.curation.worklist(decided=True)] == [("moot", "index")]
    await region.curation.unlink(local("b"), by="Ewa")
    assert region.open_lines() == [("possible_duplicate",)]
    assert (a, b) == (await region.index.affinity_domain_id(a), await region.index.affinity_domain_id(b))


async def test_a_source_that_merges_two_pesels_is_obeyed_and_looked_at(region: Region) -> None:
    await region.known(local("a"), NUMBER, who=ANNA)
    await region.known(local("b"), OTHER_NUMBER, who=ANNA)
    await region.known(local("c"), who=ANNA)
    for line in await region.curation.worklist():
        await region.curation.decide(line.task_id, same=False, by="Ewa")
    await region.merge(local("a"), local("c"))
    assert region.open_lines() == []
    await region.merge(local("a"), local("b"))
    [line] = await region.curation.worklist()
    assert (line.kind, line.detail) == (TaskKind.CONTRADICTION, "merged by its source")
    assert await region.refused(region.curation.decide(line.task_id, same=False, by="Ewa")) == "AlreadyLinked"
    await region.curation.decide(line.task_id, same=True, by="Ewa")
    assert region.open_lines() == []


async def test_undoing_a_merge_answers_the_line_about_it(region: Region) -> None:
    await region.known(local("a"), NUMBER, who=ANNA)
    await region.known(local("b"), OTHER_NUMBER, who=ANNA)
    [line] = await region.curation.worklist()
    await region.curation.decide(line.task_id, same=False, by="Ewa")
    await region.merge(local("a"), local("b"))
    await region.curation.unlink(local("b"), by="Ewa")
    assert region.open_lines() == []
    assert region.rows("SELECT decision FROM patient_task ORDER BY task_id") == [("different",), ("undone",)]


async def test_two_pesels_are_not_joined_through_a_third(region: Region) -> None:
    """Who has no number of their own looks like both, and may be only one of them."""
    await region.known(local("a"), NUMBER, who=ANNA)
    await region.known(PatientId("b", CLINIC), OTHER_NUMBER, who=ANNA)
    await region.known(C, who=person(sex="F"))
    await region.known(C, who=ANNA)
    numbers = {i for i in await region.ids(C) if i.authority == PESEL}
    assert len(numbers) == 1
    assert await region.ids(NUMBER) != await region.ids(OTHER_NUMBER)


# who saw what ----------------------------------------------------------------------------------------------------


async def test_the_access_logs_are_divided(region: Region) -> None:
    a, b, c = [
        await region.known(i, who=who) for i, who in ((A, ANNA), (B, JAN), (C, person("Kot", "Iga", "20010101")))
    ]

    async def read(patient: PatientId, who: str) -> None:
        await region.index.read(patient, context(ITI_21, system=who))

    def readers(found: Any) -> list[str]:
        return [access.request_id for access in found if access.transaction == "ITI-21"]

    async def log(patient: PatientId) -> list[str]:
        day = timedelta(days=1)
        return readers(await region.curation.accesses(patient, datetime.now(UTC) - day, datetime.now(UTC) + day))

    await read(a, "a before")
    await read(b, "b before")
    await read(c, "c before")
    await region.curation.link(b, a, by="Ewa")
    await read(b, "ab as b")
    await read(a, "ab as a")
    await read(c, "c alone")
    await region.curation.link(c, b, by="Ewa")
    await read(c, "abc")
    # As the eighth of a list, too.
    await region.index.search(
        DemographicsQuery(family="Kot", born_from="20010101", born_until="20010101"), context(ITI_21, system="list")
    )
    await region.known(A, PatientId("n", "1.2.616.9"))
    with pytest.raises(Problem):
        await region.ids(PatientId("unknown", OTHER))
    undone = await region.curation.unlink(a, by="Ewa")
    assert readers(undone.seen) == ["ab as b", "ab as a", "abc", "list"]
    assert {s.transaction for s in undone.seen} <= {"ITI-21"}
    await read(c, "bc")
    await read(a, "a again")
    undone = await region.curation.unlink(b, by="Ewa")
    assert readers(undone.seen) == ["abc", "list", "bc"]
    await read(c, "c again")
    assert await log(a) == ["a before", "ab as b", "ab as a", "abc", "list", "a again"]
    assert await log(b) == ["b before", "ab as b", "ab as a", "abc", "list", "bc"]
    assert await log(c) == ["c before", "c alone", "abc", "list", "bc", "c again"]
    mixtures = await region.curation.mixtures()
    assert [(m.patient, m.survivor, m.reason, m.unlinked_by) for m in mixtures] == [
        (b, c, "decision", "Ewa"), (a, c, "decision", "Ewa"),
    ]  # fmt: skip
    assert readers(await region.curation.seen_mixed(mixtures[1])) == ["ab as b", "ab as a", "abc", "list"]
    assert await region.curation.mixtures(c) == mixtures
    assert await region.curation.mixtures(a) == mixtures[1:]


async def test_everybody_on_a_list_was_seen(region: Region) -> None:
    patients = [await region.known(local(str(n)), who=person("Kot", f"Imię{n}", f"198{n}0101")) for n in range(5)]
    await region.index.search(DemographicsQuery(family="Kot"), context(ITI_21))
    day = timedelta(days=1)
    for patient in patients:
        found = await region.curation.accesses(patient, datetime.now(UTC) - day, datetime.now(UTC) + day)
        assert [f.transaction for f in found] == ["ITI-8", "ITI-21"]

"""Who is who: the index's rules on a real database, without a protocol around them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import msgspec
import psycopg
import pytest
from indexing import CLINIC, HOSPITAL, OTHER, OURS, PESEL, context, feed, local, make_index, person

from obieg.actors.patient_index import PatientIndex
from obieg.domain.identifiers import PatientId
from obieg.domain.matching import Record
from obieg.domain.patients import CrossReferenceQuery, DemographicsQuery, FeedEvent, PatientMatch
from obieg.domain.persons import Demographics
from obieg.domain.problems import Problem
from obieg.storage.link import Database

pytestmark = pytest.mark.node

ANNA = person(
    "Wrzesińska", "Anna", "19800512", "F", street="ul. Długa 5", city="Kraków", postal_code="30-001", phone="601202303"
)
NUMBER = PatientId("80051212326", PESEL)
OTHER_NUMBER = PatientId("80051247665", PESEL)


@pytest.fixture
async def database(database_dsn: str) -> AsyncIterator[Database]:
    database = Database(database_dsn)
    await database.open()
    yield database
    database.close()


@pytest.fixture
def index(database: Database) -> PatientIndex:
    return make_index(database)


async def ids(index: PatientIndex, identifier: PatientId) -> set[PatientId]:
    return set(await index.cross_reference(CrossReferenceQuery(identifier, identifier_location="Q"), context()))


def tasks(dsn: str) -> list[tuple[str, str]]:
    with psycopg.connect(dsn) as connection:
        return connection.execute("SELECT kind, decision FROM patient_task ORDER BY task_id").fetchall()


async def test_a_second_facility_joins_by_pesel(index: PatientIndex) -> None:
    id_ = await index.feed(feed(local("1"), NUMBER, who=ANNA), context())
    assert id_.authority == OURS
    assert await index.feed(feed(PatientId("7", CLINIC), NUMBER, who=ANNA), context()) == id_
    assert await ids(index, local("1")) == {local("1"), PatientId("7", CLINIC), NUMBER, id_}


async def test_a_second_facility_joins_by_what_it_says(index: PatientIndex) -> None:
    id_ = await index.feed(feed(local("1"), who=ANNA), context())
    assert await index.feed(feed(PatientId("7", CLINIC), who=ANNA), context()) == id_


async def test_a_shared_pesel_with_another_person_is_for_a_person(index: PatientIndex, database_dsn: str) -> None:
    id_ = await index.feed(feed(local("1"), NUMBER, who=ANNA), context())
    jan = person("Zawadzki", "Jan", "19551103", "M")
    other = await index.feed(feed(PatientId("7", CLINIC), NUMBER, who=jan), context())
    assert other != id_
    assert await ids(index, NUMBER) == {local("1"), NUMBER, id_}
    assert await ids(index, PatientId("7", CLINIC)) == {PatientId("7", CLINIC), other}
    assert tasks(database_dsn) == [("contradiction", "")]


async def test_two_numbers_of_one_facility_are_for_a_person(index: PatientIndex, database_dsn: str) -> None:
    first = await index.feed(feed(local("1"), who=ANNA), context())
    assert await index.feed(feed(local("2"), who=ANNA), context()) != first
    assert tasks(database_dsn) == [("possible_duplicate", "")]
    await index.feed(feed(local("2"), who=ANNA), context())
    assert len(tasks(database_dsn)) == 1


async def test_two_valid_pesels_are_never_joined(index: PatientIndex) -> None:
    first = await index.feed(feed(local("1"), NUMBER, who=ANNA), context())
    assert await index.feed(feed(PatientId("7", CLINIC), OTHER_NUMBER, who=ANNA), context()) != first


async def test_the_number_learned_later_links_both(index: PatientIndex) -> None:
    known = await index.feed(feed(local("1"), NUMBER, who=ANNA), context())
    unknown = await index.feed(feed(PatientId("NN/3", CLINIC), who=person(sex="F")), context())
    assert unknown != known
    assert await index.feed(feed(PatientId("NN/3", CLINIC), NUMBER, who=ANNA), context()) in {known, unknown}
    everything = {local("1"), PatientId("NN/3", CLINIC), NUMBER}
    assert everything < await ids(index, local("1"))
    assert await ids(index, local("1")) == await ids(index, PatientId("NN/3", CLINIC))
    assert await index.affinity_domain_id(known) == await index.affinity_domain_id(unknown)


async def test_the_domains_own_id_takes_over(index: PatientIndex) -> None:
    allocated = await index.feed(feed(local("1"), who=ANNA), context())
    named = PatientId("RED-1", OURS)
    assert await index.feed(feed(named, who=ANNA), context()) == named
    assert await index.affinity_domain_id(allocated) == named
    assert await index.affinity_domain_id(local("1")) == named


async def test_two_feeds_of_one_person_at_once_make_one_patient(database_dsn: str) -> None:
    databases = [Database(database_dsn, links=1) for _ in range(8)]
    await asyncio.gather(*(d.open() for d in databases))
    found = await asyncio.gather(
        *(
            make_index(d).feed(feed(PatientId("1", f"1.2.616.9.{n}"), who=ANNA), context())
            for n, d in enumerate(databases)
        )
    )
    assert len(set(found)) == 1
    for d in databases:
        d.close()


async def test_a_corrected_pesel(index: PatientIndex) -> None:
    id_ = await index.feed(feed(local("1"), NUMBER, who=ANNA), context())
    assert await index.feed(feed(local("1"), OTHER_NUMBER, who=ANNA), context()) == id_
    assert await ids(index, local("1")) == {local("1"), OTHER_NUMBER, id_}
    with pytest.raises(Problem):
        await ids(index, NUMBER)
    with pytest.raises(Problem):
        await index.feed(feed(local("1"), NUMBER), context())


async def test_merge_and_its_retired_ids(index: PatientIndex) -> None:
    first = await index.feed(feed(local("1"), who=ANNA), context())
    second = await index.feed(feed(local("2"), who=ANNA), context())
    merge = feed(local("2"), event=FeedEvent.MERGE, merged=(local("1"),))
    assert await index.feed(merge, context()) == second
    assert await index.affinity_domain_id(local("1")) is None
    assert await index.affinity_domain_id(first) is None
    assert await ids(index, local("2")) == {local("2"), second}
    gone = await index.read(first, context())
    assert gone is not None
    assert (gone.active, gone.replaced_by) == (False, second)


async def test_changing_identifiers(index: PatientIndex) -> None:
    id_ = await index.feed(feed(local("1"), who=ANNA), context())
    change = feed(local("9"), event=FeedEvent.CHANGE_IDENTIFIERS, merged=(local("1"),))
    assert await index.feed(change, context()) == id_
    assert await ids(index, local("9")) == {local("9"), id_}
    assert await index.affinity_domain_id(local("1")) is None
    assert await index.feed(change, context()) == id_


async def test_removing_a_record(index: PatientIndex) -> None:
    id_ = await index.feed(feed(local("1"), NUMBER, who=ANNA), context())
    await index.feed(feed(PatientId("7", CLINIC), NUMBER, who=ANNA), context())
    await index.feed(feed(local("1"), event=FeedEvent.REMOVE), context())
    assert await ids(index, NUMBER) == {PatientId("7", CLINIC), NUMBER, id_}
    assert await index.affinity_domain_id(local("1")) is None
    await index.feed(feed(PatientId("7", CLINIC), event=FeedEvent.REMOVE), context())
    gone = await index.read(id_, context())
    assert gone is not None
    assert not gone.active


async def test_searching(index: PatientIndex) -> None:
    id_ = await index.feed(feed(local("1"), NUMBER, who=ANNA), context())
    await index.feed(feed(PatientId("4", OTHER), who=person("Wrzesiński", "Adam", "19770101", "M")), context())

    async def found(**query: object) -> list[tuple[PatientId, int]]:
        answer = await index.search(DemographicsQuery(**query), context())
        return [(c.patient, c.score) for c in answer.found]

    assert await found(family="WRZESINSKA", given="anna") == [(id_, 100)]
    assert await found(family="Wrze*", sex="F") == [(id_, 95)]
    assert await found(family="Wżesińska", given="Ania") == [(id_, 68)]
    assert await found(born_from="19800512", born_until="19800512") == [(id_, 100)]
    assert await found(family="Wrzesińska", born_from="1980", born_until="1980") == [(id_, 100)]
    assert await found(identifiers=(PatientId("80051212326", ""),)) == [(id_, 100)]
    assert await found(family="Wrzesińska", postal_code="31-000") == []
    both = await index.feed(feed(local("9"), who=person("Żółkiewska-Zając", "Ewa", "19700203", "F")), context())
    assert await found(family="Żółkiewska") == [(both, 92)]
    assert await found(family="Zając", born_from="19700203", born_until="19700203") == [(both, 92)]
    with pytest.raises(Problem, match="TooBroad"):
        await found(given="Anna")
    with pytest.raises(Problem, match="UnknownKeyIdentifier"):
        await found(family="Wrzesińska", authorities=("1.2.3",))
    [candidate] = (
        await index.search(DemographicsQuery(family="Wrzesińska", authorities=(HOSPITAL,), exact=True), context())
    ).found
    assert candidate.identifiers == (local("1"),)


async def test_pages_neither_lose_nor_repeat_while_data_change(index: PatientIndex) -> None:
    for n in range(25):
        await index.feed(
            feed(local(str(n)), who=person("Kot", f"Imię{chr(97 + n)}", f"19{50 + n}0101", "F")), context()
        )
    page = await index.search(DemographicsQuery(family="Kot", count=10), context())
    seen = [c.patient for c in page.found]
    assert (page.total, len(seen)) == (25, 10)
    for n in range(25, 30):
        await index.feed(feed(local(str(n)), who=person("Kot", f"Aa{chr(97 + n)}", f"19{50 + n}0101", "F")), context())
    while page.cursor:
        cursor = page.cursor
        page = await index.more(cursor, 10, context())
        seen += [c.patient for c in page.found]
    assert (len(seen), len(set(seen))) == (25, 25)
    with pytest.raises(Problem, match="UnknownCursor"):
        await index.more(cursor, 10, context(system="somebody else"))
    await index.cancel(cursor, context())
    with pytest.raises(Problem, match="UnknownCursor"):
        await index.more(cursor, 10, context())


async def test_matching_somebody(index: PatientIndex) -> None:
    id_ = await index.feed(feed(local("1"), NUMBER, who=ANNA), context())
    [certain] = (await index.match(PatientMatch(Record((), ANNA)), context())).found
    assert (certain.patient, certain.grade) == (id_, "certain")
    assert (await index.match(PatientMatch(Record((), person("Nikt", "Żaden", "19010101"))), context())).found == ()


async def test_searching_for_those_who_were_merged(index: PatientIndex) -> None:
    first = await index.feed(feed(local("1"), who=ANNA), context())
    second = await index.feed(feed(local("2"), who=ANNA), context())
    await index.feed(feed(local("2"), event=FeedEvent.MERGE, merged=(local("1"),)), context())

    async def found(active: bool | None) -> dict[PatientId, tuple[bool, PatientId | None]]:
        query = DemographicsQuery(family="Wrzesińska", active=active)
        return {c.patient: (c.active, c.replaced_by) for c in (await index.search(query, context())).found}

    assert await found(active=True) == {second: (True, None)}
    assert await found(active=False) == {first: (False, second)}
    assert await found(active=None) == {second: (True, None), first: (False, second)}


async def test_a_newborn_is_known_by_the_mother_and_the_order_of_birth(index: PatientIndex) -> None:
    mother = await index.feed(feed(local("m"), NUMBER, who=ANNA), context())

    def child(order: int, family: str = "", given: str = "") -> Demographics:
        return msgspec.structs.replace(
            person(family, given, "20260301", "F"), mother=NUMBER, birth_order=order, multiple_birth=True
        )

    one = await index.feed(feed(local("n1"), who=child(1)), context())
    two = await index.feed(feed(local("n2"), who=child(2)), context())
    assert len({mother, one, two}) == 3
    assert await index.feed(feed(PatientId("c1", CLINIC), who=child(1, "Wrzesińska", "Iga")), context()) == one
    assert await index.feed(feed(PatientId("c2", CLINIC), who=child(2, "Wrzesińska", "Ola")), context()) == two
    own = PatientId("26230112345", PESEL)
    assert await index.feed(feed(local("n1"), own, who=child(1, "Wrzesińska", "Iga")), context()) == one
    assert await ids(index, own) == {local("n1"), PatientId("c1", CLINIC), own, one}


async def test_what_is_emptied_is_no_longer_said(index: PatientIndex) -> None:
    id_ = await index.feed(feed(local("1"), who=ANNA), context())
    emptied = msgspec.structs.replace(feed(local("1")), stated=("birth_date", "addresses", "telecoms"))
    assert await index.feed(emptied, context()) == id_
    read = await index.read(id_, context())
    assert read is not None
    assert (read.demographics.birth_date, read.demographics.addresses, read.demographics.name) == ("", (), ANNA.name)
    assert await index.feed(feed(PatientId("7", CLINIC), who=ANNA), context()) != id_
    # Said in two messages, it is found by all that the record says by then.
    whole = feed(local("1"), who=ANNA)
    await index.feed(msgspec.structs.replace(whole, stated=("addresses", "telecoms")), context())
    await index.feed(msgspec.structs.replace(whole, stated=("birth_date",)), context())
    assert await index.affinity_domain_id(PatientId("7", CLINIC)) == await index.affinity_domain_id(id_)


async def test_a_mistyped_number_may_be_said_again(index: PatientIndex) -> None:
    id_ = await index.feed(feed(local("1"), NUMBER, who=ANNA), context())
    mistyped = PatientId("80051212362", PESEL)
    theirs = feed(PatientId("7", CLINIC), mistyped, who=ANNA)
    assert await index.feed(theirs, context()) == id_
    assert await index.feed(theirs, context()) == id_
    assert await index.affinity_domain_id(mistyped) is None
    assert await ids(index, NUMBER) == {local("1"), PatientId("7", CLINIC), NUMBER, id_}


async def test_a_shared_number_removes_no_other_source_s_record(index: PatientIndex) -> None:
    for number in (local("1"), PatientId("7", CLINIC)):
        await index.feed(feed(number, NUMBER, who=ANNA), context())
    with pytest.raises(Problem, match="DuplicateKeyIdentifier"):
        await index.feed(feed(NUMBER, event=FeedEvent.REMOVE), context())
    await index.feed(feed(NUMBER, event=FeedEvent.REMOVE, source=f"{CLINIC}|HIS"), context())
    assert await index.affinity_domain_id(PatientId("7", CLINIC)) is None
    assert await index.affinity_domain_id(local("1")) is not None


async def test_a_number_is_changed_by_who_gave_it(index: PatientIndex) -> None:
    await index.feed(feed(local("1"), NUMBER, who=ANNA), context())
    await index.feed(feed(PatientId("7", CLINIC), NUMBER, who=ANNA), context())
    change = feed(OTHER_NUMBER, event=FeedEvent.CHANGE_IDENTIFIERS, merged=(NUMBER,))
    with pytest.raises(Problem, match="DuplicateKeyIdentifier"):
        await index.feed(change, context())
    await index.feed(feed(local("9"), event=FeedEvent.CHANGE_IDENTIFIERS, merged=(local("1"),)), context())
    with pytest.raises(Problem, match="UnknownKeyIdentifier"):
        await index.feed(feed(local("1"), event=FeedEvent.CHANGE_IDENTIFIERS, merged=(local("9"),)), context())


async def test_a_local_number_used_for_somebody_else_is_noticed(index: PatientIndex, database_dsn: str) -> None:
    await index.feed(feed(local("1"), who=ANNA), context())
    await index.feed(feed(PatientId("7", CLINIC), who=ANNA), context())
    await index.feed(feed(local("1"), who=person("Zawadzki", "Jan", "19551103", "M")), context())
    assert tasks(database_dsn) == [("contradiction", "")]


async def test_the_id_that_the_domain_gave_survives(index: PatientIndex) -> None:
    """Also where the other patient's record is the one that changed."""
    named = PatientId("RED-1", OURS)
    await index.feed(feed(named, local("1"), who=ANNA), context())
    other = await index.feed(feed(PatientId("7", CLINIC), who=person(sex="F")), context())
    assert await index.feed(feed(PatientId("7", CLINIC), who=ANNA), context()) == named
    assert await index.affinity_domain_id(other) == named
    assert await ids(index, local("1")) == {local("1"), PatientId("7", CLINIC), named}


async def test_who_fits_two_that_must_be_kept_apart_is_of_neither(index: PatientIndex, database_dsn: str) -> None:
    first = await index.feed(feed(local("1"), NUMBER, who=ANNA), context())
    second = await index.feed(feed(PatientId("7", CLINIC), OTHER_NUMBER, who=ANNA), context())
    before = len(tasks(database_dsn))
    third = await index.feed(feed(PatientId("1", OTHER), who=ANNA), context())
    assert len({first, second, third}) == 3
    assert len(tasks(database_dsn)) == before + 2
    assert await index.feed(feed(PatientId("1", "1.2.616.7"), NUMBER, who=ANNA), context()) == first

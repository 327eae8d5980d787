"""What the database hides is what the rules hide: worlds of documents, seen through any filter."""

from __future__ import annotations

import random
import uuid
from collections.abc import Sequence
from typing import Any

import psycopg
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from obieg.domain.access import Condition, DocumentFacts, Filter, Rule, Source
from obieg.domain.identifiers import PatientId
from obieg.domain.permits import Named
from obieg.domain.showing import shown
from obieg.domain.sight import Sight, sight
from obieg.storage.facts_store import LocatedFacts
from obieg.storage.link import Database
from obieg.storage.statements import written

pytestmark = pytest.mark.node
_TYPES = ("RPLC", "APND", "XFRM", "XFRM_RPLC", "signs", "IsSnapshotOf")
_CODES, _LABELS, _PEOPLE = ("a^^1", "b^^1", "c^^2"), ("N", "R", "V", "ETH"), ("1.2#1", "1.2#2", "1.3#1")
_TIMES = ("20200101000000", "20210615120000", "20230101000000")


class World:
    """The documents of one patient, some of them related, some versions of others; sets and folders that hold them."""

    def __init__(self, connection: psycopg.Connection[Any], key: int) -> None:
        self.connection = connection
        self.key = key
        self.documents: list[DocumentFacts] = []
        self.containers: dict[str, list[str]] = {}

    def add(self, *, version_of: str = "", **facts: Any) -> str:
        """A document; its entryUUID."""
        own = str(uuid.uuid4())
        document = DocumentFacts(own, **facts)
        self.documents.append(document)
        labels = document.labels if {"N", "R", "V"} & set(document.labels) else (*document.labels, "N")
        self.connection.execute(
            "INSERT INTO document_entry (patient_key, entry_uuid, unique_id, logical_id, version, mime_type, ebrim,"
            " class_code, type_code, practice_setting_code, labels, authors, encounters, creation_time)"
            " VALUES (%s, %s, %s, %s, %s, '', '', %s, %s, %s, %s, %s, %s, %s)",
            (
                self.key, own, own, version_of or own, 2 if version_of else 1, document.class_code or None,
                document.type_code or None, document.practice_setting_code or None, list(labels),
                list(document.authors), list(document.encounters), document.creation_time or None,
            ),
        )  # fmt: skip
        self._locate(own, "D")
        return own

    def _locate(self, own: str, kind: str) -> None:
        self.connection.execute("INSERT INTO object_locator VALUES (%s, %s, %s)", (own, kind, self.key))

    def relate(self, source: str, target: str, type_: str, since: str | None = None) -> str:
        own = str(uuid.uuid4())
        self.connection.execute(
            "INSERT INTO association (patient_key, entry_uuid, type, source, target, member_since, ebrim)"
            " VALUES (%s, %s, %s, %s, %s, %s, '')",
            (self.key, own, type_, source, target, since),
        )
        self._locate(own, "A")
        return own

    def set(self, *members: str) -> str:
        own = str(uuid.uuid4())
        self.connection.execute(
            "INSERT INTO submission_set (patient_key, entry_uuid, unique_id, source_id, submission_time, ebrim, fingerprint)"
            " VALUES (%s, %s, %s, '', '', '', '')",
            (self.key, own, own),
        )
        self._locate(own, "S")
        for member in members:
            self.relate(own, member, "HasMember")
        return own

    def folder(self, written: str, *members: tuple[str, str]) -> tuple[str, list[str]]:
        own = str(uuid.uuid4())
        self.connection.execute(
            "INSERT INTO folder (patient_key, entry_uuid, unique_id, logical_id, last_update_time, written_time, ebrim)"
            " VALUES (%s, %s, %s, %s, %s, %s, '')",
            (self.key, own, own, own, max([written, *(s for _, s in members)]), written),
        )
        self._locate(own, "F")
        return own, [self.relate(own, member, "HasMember", since) for member, since in members]

    def hidden(self, filter_: Filter | None, function: str = "obieg_hidden_documents") -> set[str]:
        return self.asked(function, sight([((self.key,), filter_)]))

    def asked(self, function: str, seen: Sight) -> set[str]:
        if seen.permitted == ():  # nothing is permitted: the statements look no further
            return {d.entry_uuid for d in self.documents}
        rows = self.connection.execute(f"SELECT {function}(%s::obieg_filter)::text", (written(seen.filter),))
        return {row[0] for row in rows}


@pytest.fixture
def connection(database_dsn: str) -> Any:
    with psycopg.connect(database_dsn, autocommit=True) as opened:
        yield opened


def _some(values: Sequence[str]) -> st.SearchStrategy[tuple[str, ...] | None]:
    return st.none() | st.lists(st.sampled_from(values), max_size=2, unique=True).map(tuple)


_facts = st.fixed_dictionaries({
    "class_code": st.sampled_from(("", *_CODES)),
    "type_code": st.sampled_from(("", *_CODES)),
    "practice_setting_code": st.sampled_from(("", *_CODES)),
    "labels": st.lists(st.sampled_from(_LABELS), max_size=2, unique=True).map(tuple),
    "authors": st.lists(st.sampled_from(_PEOPLE), max_size=2, unique=True).map(tuple),
    "encounters": st.lists(st.sampled_from(_PEOPLE), max_size=1).map(tuple),
    "creation_time": st.sampled_from(("", *_TIMES)),
})  # fmt: skip
_conditions = st.builds(
    Condition,
    documents=st.none()
    | st.lists(st.integers(0, 6).map(str), max_size=2).map(tuple),  # by number, until they are there
    class_codes=_some(_CODES),
    type_codes=_some(_CODES),
    practice_setting_codes=st.none() | _some(_CODES),
    labels=_some(_LABELS),
    authors=_some(_PEOPLE),
    encounters=st.none() | _some(_PEOPLE),
    created_from=st.none() | st.sampled_from(_TIMES),
    created_to=st.none() | st.sampled_from(_TIMES),
)
# Most conditions ask little, so that something fits.
_light = st.one_of(
    st.just(Condition()),
    *(st.builds(Condition, **{n: s}) for n, s in (("class_codes", _some(_CODES)), ("labels", _some(_LABELS)))),
    st.builds(Condition, documents=st.lists(st.integers(0, 6).map(str), max_size=2).map(tuple)),
    _conditions,
)
_rules = st.builds(Rule, st.sampled_from((True, True, False, None)), _light, st.sampled_from("NRV"))
_filters = st.lists(st.builds(Source, st.just("poz"), st.lists(_rules, max_size=3).map(tuple)), max_size=4).map(tuple)


def _with_uuids(filter_: Filter, names: Sequence[str]) -> Filter:
    """Conditions that name documents by number name them by entryUUID, with and without its prefix."""

    def named(condition: Condition) -> Condition:
        if condition.documents is None:
            return condition
        some = tuple(names[int(n)] for n in condition.documents if int(n) < len(names))
        return Condition(**{f: getattr(condition, f) for f in Condition.__struct_fields__} | {"documents": some})

    return tuple(Source(s.basis, tuple(Rule(r.permit, named(r.condition), r.max) for r in s.rules)) for s in filter_)


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    documents=st.lists(st.tuples(_facts, st.integers(0, 9), st.integers(0, 9)), min_size=1, max_size=7),
    filter_=_filters,
    seed=st.integers(0, 1 << 30),
)
def test_the_database_hides_what_the_rules_hide(
    connection: Any, documents: list[Any], filter_: Filter, seed: int
) -> None:
    world = World(connection, random.Random(seed).getrandbits(62))
    names: list[str] = []
    lineage: list[int] = []
    for number, (facts, version_of, related_to) in enumerate(documents):
        older = version_of < number and world.documents[version_of].entry_uuid
        names.append(world.add(version_of=(older and _first(connection, older)) or "", **facts))
        lineage.append(lineage[version_of] if older else number)
        if related_to < number:
            ends = (names[-1], names[related_to])
            world.relate(*(ends if related_to % 2 else ends[::-1]), _TYPES[related_to % 6])
            lineage = [lineage[related_to] if one == lineage[number] else one for one in lineage]
    facts_of = [
        DocumentFacts(d.entry_uuid, str(lineage[n]), d.class_code, d.type_code, d.practice_setting_code, d.labels,
                      d.authors, d.encounters, d.creation_time)
        for n, d in enumerate(world.documents)
    ]  # fmt: skip
    named = _with_uuids(filter_, names)
    visible = shown(named, facts_of)
    seen = sight([((world.key,), named)])
    hidden = world.asked("obieg_hidden_documents", seen)
    assert hidden & set(names) == set(names) - visible
    if seen.filter is not None and seen.filter.rules is None and len(set(lineage)) == len(lineage):
        rows = connection.execute(
            "SELECT entry_uuid::text FROM document_entry d WHERE patient_key = %s AND obieg_shows(%s::obieg_filter, d)",
            (world.key, written(seen.filter)),
        )
        assert {row[0] for row in rows} & set(names) == visible
    assert world.asked("obieg_hidden", seen) & set(names) == hidden & set(names)


def _first(connection: Any, uuid_: str) -> str:
    return str(
        connection.execute("SELECT logical_id FROM document_entry WHERE entry_uuid = %s", (uuid_,)).fetchone()[0]
    )


def _all_but(*documents: str) -> Filter:
    return (
        Source("poz", (Rule(permit=True),)),
        Source("consent", (Rule(permit=False, condition=Condition(documents=documents)),)),
    )


def test_what_exists_only_because_of_hidden_documents_is_hidden_with_them(connection: Any) -> None:
    world = World(connection, 1)
    secret, addendum, plain = world.add(), world.add(), world.add()
    related = world.relate(addendum, secret, "APND")
    alone, mixed, unfilled = world.set(secret, addendum), world.set(secret, plain), world.set()
    folder, held = world.folder("20200101000000", (secret, "20200101000000"))
    carrying = world.set(folder, *held)  # a submission that did nothing but make the folder
    adding = world.set(*held)  # one that did nothing but put the document into it
    shared, (first, second) = world.folder("20200101000000", (plain, "20210101000000"), (secret, "20220101000000"))
    empty, _ = world.folder("20200101000000")
    hidden = world.hidden(_all_but(secret), "obieg_hidden")
    assert {secret, addendum, related, alone, folder, carrying, adding, second, *held} <= hidden
    assert hidden.isdisjoint({plain, mixed, unfilled, shared, first, empty})
    left = connection.execute(
        "SELECT entry_uuid::text, source::text, target::text FROM association WHERE patient_key = 1"
    ).fetchall()
    assert all(own in hidden for own, source, target in left if {source, target} & hidden)
    assert all(own not in hidden for own, source, target in left if not {source, target} & hidden)
    times = connection.execute(
        "SELECT entry_uuid::text, time FROM obieg_folder_times(%s::obieg_filter)",
        (written(sight([((1,), _all_but(secret))]).filter),),
    ).fetchall()
    assert dict(times)[shared] == "20210101000000"


def test_nothing_is_hidden_where_everything_is_permitted(connection: Any) -> None:
    world = World(connection, 1)
    world.add(labels=("V",))
    assert sight([((1,), None)]) == Sight((1,))
    assert sight([((1,), (Source("patient", (Rule(permit=True),)),))]) == Sight((1,))
    assert world.hidden(None) == set()
    assert sight([((1,), ()), ((2,), (Source("consent", (Rule(permit=False),)),))]) == Sight(())


def test_rules_hold_for_the_patients_they_are_about(connection: Any) -> None:
    one, other = World(connection, 1), World(connection, 2)
    for world in (one, other):
        world.add(class_code="a^^1")
        world.add(class_code="b^^1")
    only_a = (Source("consent", (Rule(permit=True, condition=Condition(class_codes=("a^^1",))),)),)
    only_b = (Source("consent", (Rule(permit=True, condition=Condition(class_codes=("b^^1",))),)),)
    seen = sight([((1,), only_a), ((2,), only_b)])
    assert one.asked("obieg_hidden_documents", seen) == {
        one.documents[1].entry_uuid,
        other.documents[0].entry_uuid,
    }


def test_a_document_is_readable_by_its_unique_id_where_its_newest_entries_are_shown(connection: Any) -> None:
    world, other = World(connection, 1), World(connection, 2)
    older, newer, foreign = world.add(), world.add(labels=("V",)), other.add()
    connection.execute("UPDATE document_entry SET superseded = entry_uuid = %s, unique_id = '1.2'", (older,))
    for own, key in ((older, 1), (newer, 1), (foreign, 2)):
        connection.execute(
            "INSERT INTO unique_id_locator (unique_id, entry_uuid, kind, patient_key) VALUES ('1.2', %s, 'D', %s)",
            (own, key),
        )

    def readable(seen: Sight) -> bool:
        rows = connection.execute(
            "SELECT obieg_readable('{1.2,1.3}', %s::bigint[], %s::obieg_filter)",
            (list(seen.permitted or ()), written(seen.filter)),
        ).fetchall()
        assert rows in ([], [("1.2",)])
        return bool(rows)

    normal = (Source("poz", (Rule(permit=True, max="R"),)),)
    assert readable(sight([((1,), None)]))
    assert not readable(sight([((1,), normal)]))  # the old version was less confidential
    assert readable(sight([((1,), normal), ((2,), normal)]))  # it is this patient's, too
    assert not readable(sight([]))


async def test_whoever_is_linked_is_one_person_by_whatever_name(database_dsn: str, connection: Any) -> None:
    world = World(connection, 2)
    document = world.add()
    connection.execute("INSERT INTO unique_id_locator VALUES ('1.2', %s, 'D', 1, 2)", (document,))
    for key, id_ in ((1, "a"), (2, "b"), (3, "c")):
        connection.execute("INSERT INTO patient (patient_key, affinity_domain_id) VALUES (%s, %s)", (key, id_))
        connection.execute("INSERT INTO patient_locator VALUES ('1.2.616.9', %s, %s)", (id_, key))
    connection.execute("INSERT INTO patient_link (patient_key, merged_into, survivor_key) VALUES (2, 1, 1)")
    declaration = '[{"professional": "1#1", "kind": "doctor", "organisation": "", "period": {}}]'
    connection.execute(
        "INSERT INTO access_fact (patient_key, source, version, kind, facts, recorded_at, recorded_by)"
        " VALUES (2, 's', 1, 'declaration', %s, now(), '')",
        (declaration,),
    )
    database = Database(database_dsn, links=1)
    await database.open()
    store = LocatedFacts(database, assigning_authority="1.2.616.9")
    both, (other,) = (await store.of(Named((PatientId("a", "1.2.616.9"),)))), (await store.of(Named(keys=(3,))))
    assert [(p.keys, p.ids, [d.professional for d in p.facts.declarations]) for p in both] == [
        ((1, 2), frozenset("ab"), ["1#1"])
    ]
    assert other.facts.declarations == ()
    for named in (
        Named((PatientId("b", "1.2.616.9"),)),
        Named(uuids=(document,)),
        Named(unique_ids=("1.2",)),
        Named(keys=(2, 1)),
        Named((PatientId("a", "1.2.616.9"), PatientId("b", "1.2.616.9")), (document,), ("1.2",), (2,)),
    ):
        assert await store.of(named) == both
    assert await store.of(Named((PatientId("d", "1.2.616.9"),), (str(uuid.uuid4()),), ("1.3",))) == []
    database.close()

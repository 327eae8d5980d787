"""A small region meets the goals of the benchmark, and the benchmark's data are what they claim to be."""

from __future__ import annotations

from collections import Counter
from datetime import timedelta

import pytest
from bench.linkage.measure import NEGATIVES, PEOPLE, run_ours
from bench.linkage.measures import decided, joined_pairs, merged, pairwise
from bench.linkage.people import PESEL, Region
from bench.linkage.records import DataSet, Kept, Negative, Rates, make

from obieg.domain import pesel
from obieg.domain.matching import Record

SMALL_PEOPLE, SMALL_NEGATIVES = 2_000, 200


@pytest.fixture(scope="module")
def data() -> DataSet:
    return make(SMALL_PEOPLE, SMALL_NEGATIVES, 7, Rates())


def test_the_goals_are_met(data: DataSet) -> None:
    ours = run_ours(data)
    assert ours.met, ours
    assert ours.automatic.recall < ours.with_worklist.recall
    assert ours.with_worklist.recall > 0.995
    assert ours.completeness > 0.995
    assert ours.worklist_right <= ours.worklist < len(data.records) / 5


@pytest.mark.slow
def test_splink_is_beaten(data: DataSet) -> None:
    theirs = pytest.importorskip("bench.linkage.theirs")
    other = theirs.link(data.records, data.negatives)
    assert run_ours(data).automatic.f1 > other.measured.f1 > 0.9


def test_the_same_seed_gives_the_same_records() -> None:
    one, again, other = (make(300, 40, seed, Rates()) for seed in (1, 1, 2))
    assert one == again
    assert one.records != other.records


def test_the_full_size_is_what_was_asked_for(data: DataSet) -> None:
    assert PEOPLE >= 100_000
    assert NEGATIVES == 10_000
    assert len(data.records) >= 2.5 * data.people  # 250,000 for 100,000 people


def test_there_are_people_and_mistakes_of_every_kind(data: DataSet) -> None:
    assert Counter(n.kind for n in data.negatives) == {
        "twins": 70,
        "father and son": 50,
        "pesel of another": 20,
        "one name and birthday": 60,
    }
    records = [kept.record for kept in data.records]
    pesels = [pesel.read(i.value) for r in records for i in r.identifiers if i.authority == PESEL]
    demographics = [r.demographics for r in records]
    found = {
        "without PESEL": sum(all(i.authority != PESEL for i in r.identifiers) for r in records),
        "artificial PESEL": sum(p.artificial for p in pesels),
        "wrong PESEL": sum(not p.valid and not p.artificial for p in pesels),
        "passport": sum(any(i.authority.endswith(".804") for i in r.identifiers) for r in records),
        "newborn": sum(d.name.given == () for d in demographics),
        "double-barrelled": sum("-" in d.name.family for d in demographics),
        "year only": sum(len(d.birth_date) == 4 for d in demographics),
        "without address": sum(not d.addresses for d in demographics),
        "TERYT": sum(any(a.simc for a in d.addresses) for d in demographics),
        "mother's name": sum(d.mother_name is not None for d in demographics),
    }
    assert all(found.values()), found
    phones = Counter(t.number[-9:] for d in demographics for t in d.telecoms)
    assert len(phones) < sum(phones.values()) / 1.5


def test_hard_negatives_are_two_people_of_the_kind(data: DataSet) -> None:
    by_person: dict[int, list[Record]] = {}
    for kept in data.records:
        by_person.setdefault(kept.person, []).append(kept.record)
    for negative in data.negatives:
        left, right = by_person[negative.left], by_person[negative.right]
        if negative.kind == "one name and birthday":
            assert all(r.demographics.addresses for r in (*left, *right))
    assert all(n.left != n.right for n in data.negatives)


def test_twins_are_born_on_one_day_and_have_two_names() -> None:
    region = Region(3)
    man, woman = region.couple(40)
    one, other = region.children(man, woman, 1, twins=True)[:2]
    assert one.born == other.born
    assert one.given[0] != other.given[0]
    assert (one.birth_order, other.birth_order) == (1, 2)
    assert one.born - woman.born > timedelta(days=17 * 365)


def test_measures() -> None:
    kept = [Kept(Record(), person) for person in (1, 1, 1, 2, 2, 3)]
    measured = pairwise(kept, [10, 10, 11, 11, 12, 13])
    assert (measured.wrong, measured.missed) == (1, 3)
    assert measured.precision == pytest.approx(1 / 2)
    assert measured.recall == pytest.approx(1 / 4)
    perfect = pairwise(kept, [1, 1, 1, 2, 2, 3])
    assert (perfect.precision, perfect.recall, perfect.f1) == (1, 1, 1)
    assert merged([Negative("x", 1, 2), Negative("y", 1, 3)], kept, [10, 10, 11, 11, 12, 13]) == {"x": 1}
    resolved = decided(kept, [10, 10, 11, 11, 12, 13], {(1, 2), (3, 4), (4, 5)})
    assert resolved[0] == resolved[2] == resolved[4] != resolved[5]


def test_pairs_that_are_no_clusters() -> None:
    kept = [Kept(Record(), person) for person in (1, 1, 1, 2)]
    measured, wrong = joined_pairs([Negative("x", 1, 2)], kept, [(0, 1), (2, 3)])
    assert (measured.precision, measured.recall) == (pytest.approx(1 / 2), pytest.approx(1 / 3))
    assert wrong == {"x": 1}


def test_planted_records_count_for_precision_only() -> None:
    kept = [Kept(Record(), 1), Kept(Record(), 1), Kept(Record(), 1, planted=True), Kept(Record(), 2)]
    measured = pairwise(kept, [1, 1, 2, 2])
    assert measured.recall == 1
    assert measured.precision == pytest.approx(1 / 2)

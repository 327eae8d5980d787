"""Who is who: the rules, the weights, the keys and what is learned."""

from __future__ import annotations

import random
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from stdnum.pl import pesel as register

from obieg.codes import load
from obieg.domain.identifiers import PatientId
from obieg.domain.learning import learn
from obieg.domain.linkage import BLOCKS_MAX, LinkageMatcher, Weights, best, default_weights, of_one_person
from obieg.domain.matching import Judgement, Record, Verdict
from obieg.domain.persons import Address, Demographics, PersonName, Telecom

ROOTS = load.toml("national/pl/pik.toml")["roots"]
PESEL, PASSPORT = ROOTS["pesel"], f"{ROOTS['national_id']}.804"
HOSPITAL, CLINIC = "1.2.3.1", "1.2.3.2"
SAME, UNDECIDED, DIFFERENT = Verdict.SAME, Verdict.UNDECIDED, Verdict.DIFFERENT
MATCHER = LinkageMatcher()


def number(born: str, serial: int) -> str:
    digits = f"{born[2:4]}{int(born[4:6]) + (20 if born[:2] == '20' else 0):02}{born[6:]}{serial:04}"
    return digits + register.calc_check_digit(digits)


def record(
    family: str = "Nowak",
    given: str = "Anna",
    born: str = "19800312",
    sex: str = "F",
    *,
    pesel: str = "",
    local: tuple[str, str] | None = None,
    passport: str = "",
    street: str = "",
    city: str = "Kraków",
    phone: str = "",
    maiden: str = "",
    mother: str = "",
    **more: Any,
) -> Record:
    numbers = [PatientId(pesel, PESEL)] if pesel else []
    numbers += [PatientId(*local)] if local else []
    numbers += [PatientId(passport, PASSPORT)] if passport else []
    called = [PersonName(family, tuple(given.split()), use="L")] if family or given else []
    called += [PersonName(maiden, use="M")] if maiden else []
    return Record(
        tuple(numbers),
        Demographics(
            names=tuple(called),
            birth_date=born,
            sex=sex,
            addresses=(Address(street, city),) if street else (),
            telecoms=(Telecom(phone),) if phone else (),
            mother=PatientId(mother, PESEL) if mother else None,
            **more,
        ),
    )


RARE, KUNEGUNDA = {"family": "Brzęczyszczykiewicz"}, {"given": "Kunegunda"}
ONE, OTHER = number("19800312", 1234), number("19800312", 5678)
HOME = {"street": "ul. Polna 12/5"}
MOTHER = number("19900101", 2222)
BABY = {"given": "", "born": "20260901", "sex": "F", "mother": MOTHER}

CASES = [
    # nothing but name, birth date and sex
    ("rare name", record(**RARE | KUNEGUNDA), record(**RARE | KUNEGUNDA, local=("7", CLINIC)), SAME),
    ("rare foreign name", record("MOHR", "ALICE", "19580130"), record("MOHR", "ALICE", "19580130", **HOME), SAME),
    ("common name", record(), record(), UNDECIDED),
    ("another birth date", record(**RARE), record(**RARE, born="19710624"), DIFFERENT),
    ("no birth date", record(**RARE, born=""), record(**RARE, born=""), DIFFERENT),
    ("year only", record(**RARE, born="1980"), record(**RARE), UNDECIDED),
    ("sex contradicts", record(**RARE), record(**RARE, sex="M"), UNDECIDED),
    # something besides
    ("home", record(**HOME), record(street="Polna 12 m. 5"), SAME),
    ("phone", record(phone="+48 600 700 800"), record(phone="600700800"), SAME),
    ("a fill-in for a phone", record(phone="000000000"), record(phone="000000000"), UNDECIDED),
    ("elsewhere", record(**RARE, **HOME), record(**RARE, street="Rynek 1", city="Łódź"), UNDECIDED),
    ("another street", record(**RARE, **HOME), record(**RARE, street="Leśna 3"), UNDECIDED),
    ("moved, same phone", record(**RARE, **HOME, phone="600700800"),
     record(**RARE, street="Leśna 3", phone="600700800"), SAME),
    ("swapped names", record("Wąsowicz", **HOME), record("Anna", "Wąsowicz", **HOME), SAME),
    ("letters lost", record("Żółkiewska", "Łucja"), record("ZOLKIEWSKA", "LUCJA"), SAME),
    ("double-barrelled", record("Nowak-Żółkiewska", **HOME, phone="600700800"),
     record("Żółkiewska", **HOME, phone="600700800"), SAME),
    ("married", record("Żółkiewska", **HOME, phone="600700800"),
     record("Wąsowicz", maiden="Żółkiewska", **HOME, phone="600700800"), SAME),
    ("short form", record("Żółkiewska", "Kasia", **HOME, phone="600700800"),
     record("Żółkiewska", "Katarzyna", **HOME, phone="600700800"), SAME),
    ("short form of several names", record("Żółkiewska", "Lena", **HOME, phone="600700800"),
     record("Żółkiewska", "Helena", **HOME, phone="600700800"), UNDECIDED),
    ("initial", record("Żółkiewska", "K", **HOME, phone="600700800"),
     record("Żółkiewska", "Katarzyna", **HOME, phone="600700800"), UNDECIDED),
    # one home
    ("twins", record(**RARE, **HOME, phone="600700800"),
     record(**RARE, given="Ewa", **HOME, phone="600700800"), DIFFERENT),
    ("father and son", record("Nowak", "Jan", "19500312", "M", **HOME, phone="600700800"),
     record("Nowak", "Jan", "19800312", "M", **HOME, phone="600700800"), UNDECIDED),
    ("mother and daughter", record(**RARE, **HOME, phone="600700800"),
     record(**RARE, given="Ewa", born="20010203", **HOME, phone="600700800"), DIFFERENT),
    # PESEL
    ("PESEL", record(pesel=ONE), record(pesel=ONE, street="Leśna 3"), SAME),
    ("PESEL, another family name", record(pesel=ONE), record("Lis", pesel=ONE), SAME),
    ("PESEL, short form", record(given="Ania", pesel=ONE), record(pesel=ONE), SAME),
    ("PESEL, day and month swapped", record(pesel=ONE, born="19801203"), record(pesel=ONE), SAME),
    ("PESEL of another", record(pesel=ONE), record("Lis", "Jan", "19750101", "M", pesel=ONE), UNDECIDED),
    ("PESEL of the twin", record(pesel=ONE), record(given="Ewa", pesel=ONE), UNDECIDED),
    ("PESEL of the father", record("Nowak", "Jan", "19500312", "M", pesel=number("19500312", 4321)),
     record("Nowak", "Jan", "19800312", "M", pesel=number("19500312", 4321)), UNDECIDED),
    ("fill-in", record(pesel="00000000000"), record("Lis", "Ewa", "19750101", pesel="00000000000"), DIFFERENT),
    ("two PESELs", record(**RARE, pesel=ONE, **HOME), record(**RARE, pesel=OTHER, **HOME), UNDECIDED),
    ("two PESELs and no home", record(pesel=ONE), record(pesel=OTHER), DIFFERENT),
    ("PESEL misspelt", record(pesel=ONE), record(pesel=ONE[:6] + ONE[7] + ONE[6] + ONE[8:]), SAME),
    # other numbers
    ("passport", record("Shevchenko", "Oksana", passport="FA123456"),
     record("Szewczenko", "Oksana", passport="fa 123456"), SAME),
    ("passport of another", record(passport="FA123456"),
     record("Lis", "Jan", "19750101", "M", passport="FA123456"), UNDECIDED),
    ("new passport", record(**RARE, passport="FA123456", **HOME), record(**RARE, passport="FB654321", **HOME), SAME),
    ("two numbers of one hospital", record(**RARE, local=("1", HOSPITAL), pesel=ONE, **HOME),
     record(**RARE, local=("2", HOSPITAL), pesel=ONE, **HOME), UNDECIDED),
    ("numbers of two hospitals", record(local=("1", HOSPITAL), **HOME), record(local=("2", CLINIC), **HOME), SAME),
    # newborns
    ("newborn", record(**BABY, birth_order=1), record(**BABY, birth_order=1), SAME),
    ("newborn twins", record(**BABY, birth_order=1), record(**BABY, birth_order=2), DIFFERENT),
    ("newborn, nothing said of the order", record(**BABY), record(**BABY), UNDECIDED),
    ("newborn, only child", record(**BABY, multiple_birth=False), record(**BABY), SAME),
    ("newborn, then named", record(**BABY, birth_order=1, multiple_birth=False),
     record(**BABY | {"given": "Zofia"}, pesel=number("20260901", 1236)), SAME),
    ("twin, then named", record(**BABY, birth_order=1, multiple_birth=True),
     record(**BABY | {"given": "Zofia"}, pesel=number("20260901", 1236)), UNDECIDED),
    ("two mothers", record(**BABY, multiple_birth=False),
     record(**BABY | {"mother": number("19910101", 2222)}, multiple_birth=False), DIFFERENT),
    # too little
    ("only a number", Record((PatientId("1", HOSPITAL),)), record(pesel=ONE, **HOME), DIFFERENT),
    ("nothing", Record(), Record(), DIFFERENT),
]  # fmt: skip


@pytest.mark.parametrize(("left", "right", "verdict"), [c[1:] for c in CASES], ids=[c[0] for c in CASES])
def test_verdicts(left: Record, right: Record, verdict: Verdict) -> None:
    judged = MATCHER.judge(left, right)
    assert judged.verdict is verdict, MATCHER.explain(left, right)
    assert judged.evidence == ()
    swapped = MATCHER.judge(right, left)
    assert (swapped.verdict, swapped.rule, swapped.conflict) == (judged.verdict, judged.rule, judged.conflict)


@pytest.mark.parametrize(
    ("left", "right", "rule"),
    [
        (record(pesel=ONE), record(pesel=OTHER), "different_pesel"),
        (record(local=("1", HOSPITAL)), record(local=("2", HOSPITAL)), "different_number"),
        (record(**BABY, birth_order=1), record(**BABY, birth_order=2), "different_birth_order"),
        (record(**BABY), record(**BABY | {"mother": ONE}), "different_mother"),
        (record(pesel=ONE), record("Lis", "Jan", "19750101", "M", pesel=ONE), "contradiction"),
    ],
)
def test_what_no_score_outweighs_is_a_conflict(left: Record, right: Record, rule: str) -> None:
    judged = MATCHER.judge(left, right)
    assert judged.conflict
    assert judged.rule == rule


def test_evidence_is_readable_and_adds_up() -> None:
    left = record("Kowalska", "Anna Maria", **HOME, pesel=ONE, phone="600700800")
    right = record("KOWALSKI", "Anna", "19801203", street="Polna 14", pesel=OTHER)
    judged = MATCHER.explain(left, right)
    assert sum(e.weight for e in judged.evidence) == pytest.approx(judged.score)
    levels = {e.field: e.level for e in judged.evidence}
    assert levels == {
        "pesel": "different",
        "family": "equal",
        "given": "first",
        "birth_date": "derived",
        "sex": "equal",
        "address": "street",
        "people": "prior",
    }
    said = {e.field: (e.left, e.right) for e in judged.evidence}
    assert said["family"] == ("Kowalska", "KOWALSKI")
    assert said["pesel"] == (ONE, OTHER)
    plain = MATCHER.judge(left, right)
    assert (plain.verdict, plain.score, plain.rule) == (judged.verdict, judged.score, judged.rule)


def test_rare_names_say_more_than_common_ones() -> None:
    rare, common = (MATCHER.judge(record(family), record(family)).score for family in ("Brzęczyszcz", "Nowak"))
    assert rare > common + 5


def test_a_small_region_needs_less_evidence() -> None:
    small = LinkageMatcher(msgspec.structs.replace(default_weights(), people=2_000))
    assert small.judge(record(), record()).verdict is SAME


# patients ------------------------------------------------------------------------------------------------------------


def test_one_record_that_conflicts_keeps_the_patient_apart() -> None:
    records = [record(**RARE, **HOME), record(**RARE, **HOME, pesel=ONE)]
    assert MATCHER.judge_patient(record(**RARE, **HOME), records).verdict is SAME
    judged = MATCHER.judge_patient(record(**RARE, **HOME, pesel=OTHER), records)
    assert judged.verdict is UNDECIDED
    assert judged.conflict


def test_the_best_judgement_counts() -> None:
    judgements = [Judgement(DIFFERENT, -5), Judgement(SAME, 20), Judgement(UNDECIDED, 30)]
    assert best(judgements) == judgements[1]


@pytest.mark.parametrize(
    ("by_number", "conflict", "expected"),
    [
        (False, (), ("a", "b")),
        (True, (), ("a", "b")),
        (False, ("different_pesel",), ()),
        (True, ("different_pesel",), ("a",)),
        (False, ("different_number",), ("a",)),
        (False, ("different_number", "different_pesel"), ()),
    ],
)
def test_a_record_that_fits_two_patients(by_number: bool, conflict: tuple[str, ...], expected: tuple[str, ...]) -> None:
    assert of_one_person(("a", "b"), lambda _, __: conflict, by_number=by_number) == expected


# keys ----------------------------------------------------------------------------------------------------------------


def test_keys_are_the_same_in_every_process() -> None:
    assert MATCHER.blocks(record("Kowalska", "Anna Maria", "19800312", phone="600 700 800")) == (
        1931218377525770, 4484606120291506444, 4593396896396635944, 8066797319616871380,
    )  # fmt: skip


@pytest.mark.parametrize(
    "former", [("Bak", "Lis", "Mak", "Rak", "Sum", "Wal"), ("Wal", "Sum", "Rak", "Mak", "Lis", "Bak")]
)
def test_of_more_names_than_keys_the_same_are_chosen_in_every_process(former: tuple[str, ...]) -> None:
    names = (PersonName("Kot", ("Ewa",), use="L"), *(PersonName(name, use="M") for name in former))
    assert MATCHER.blocks(Record((), Demographics(names=names, birth_date="19800312"))) == (
        7832533780821312508, 7642936258068724123, 7321505246478168938, 8557990369262053874, 1901327876901868424,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("left", "right"),
    [
        (record("Żółkiewska"), record("ZOLKIEWSKI")),
        (record("Nowak", "Anna"), record("Anna", "Nowak")),
        (record("Nowak", "Anna"), record("Lis", "Anna")),
        (record("Nowak", "Anna"), record("Nowak", "Ewa")),
        (record("Nowak", "Anna", "19800312"), record("Nowak", "Anna", "19801203")),
        (record("Nowak", "Kasia", phone="600700800"), record("Lis", "Kasia", "1979", phone="+48600700800")),
        (record(**BABY), record("Lis", **BABY)),
        (record("Lis", "Kasia", maiden="Nowak"), record("Nowak", "Katarzyna")),
        (record("Nowak-Lis", "Kasia"), record("Lis", "Katarzyna")),
        (record(pesel=ONE, born=""), record()),
    ],
)
def test_records_of_one_person_share_a_key(left: Record, right: Record) -> None:
    assert set(MATCHER.blocks(left)) & set(MATCHER.blocks(right))


@pytest.mark.parametrize("thin", [Record(), Record((PatientId("1", HOSPITAL),)), record("", "", ""), record("", "")])
def test_who_is_not_described_has_no_key(thin: Record) -> None:
    assert MATCHER.blocks(thin) == ()


texts = st.text(alphabet="aąbcćeęłńoóśźżz-' ", max_size=8)


@given(
    st.builds(
        record, texts, texts, st.sampled_from(["", "1980", "198003", "19800312", "19801203", "00000000", "x"]),
        st.sampled_from(["", "F", "M", "U"]), pesel=st.sampled_from(["", ONE, OTHER, "00000000000", "44", "brak"]),
        street=texts, city=texts, phone=st.sampled_from(["", "600700800", "0048600700800", "a@b.pl", "?"]),
        maiden=texts, mother=st.sampled_from(["", MOTHER, "0"]),
        birth_order=st.sampled_from([None, 1, 2]), multiple_birth=st.sampled_from([None, True, False]),
    ),
    st.builds(record, texts, texts, st.sampled_from(["", "1980", "19800312"]), pesel=st.sampled_from(["", ONE, OTHER])),
)  # fmt: skip
def test_any_two_records_can_be_judged(left: Record, right: Record) -> None:
    judged, swapped = MATCHER.judge(left, right), MATCHER.judge(right, left)
    assert (judged.verdict, judged.rule) == (swapped.verdict, swapped.rule)
    assert 0 <= judged.percent <= 100
    blocks = MATCHER.blocks(left)
    assert len(set(blocks)) == len(blocks) <= BLOCKS_MAX
    assert all(0 <= key < 2**63 for key in blocks)
    numbers = [{i.value for i in r.identifiers} & {ONE, OTHER} for r in (left, right)]
    if all(numbers) and not numbers[0] & numbers[1]:
        assert judged.verdict is not SAME


# weights -------------------------------------------------------------------------------------------------------------


def test_the_table_gives_every_level_a_sensible_weight() -> None:
    weights = default_weights()
    assert weights.undecided < weights.same < weights.same_by_name
    for field, levels in weights.fields.items():
        for level, odds in levels.items():
            assert 0 < odds.m <= 1, (field, level)
            assert 0 < odds.u <= 1, (field, level)
        assert levels.get("equal", levels.get("home", levels.get("all"))).m > levels["different"].m


def test_weights_can_be_kept() -> None:
    weights = default_weights()
    assert msgspec.json.decode(msgspec.json.encode(weights), type=Weights) == weights


def test_a_region_learns_its_own_names_and_mistakes() -> None:
    rng = random.Random(1)
    records = []
    for person in range(3_000):
        born = f"{rng.randrange(1930, 2010)}{rng.randrange(1, 13):02}{rng.randrange(1, 29):02}"
        family = rng.choice(("Zgóda", *(f"Rodzina{chr(97 + n % 26)}{chr(97 + n // 26)}" for n in range(300))))
        family = "Zgóda" if rng.random() < 0.2 else family
        pesel = number(born, rng.randrange(1000, 9000) // 2 * 2)
        for _ in range(2):
            wrong = f"{born[:4]}{born[6:]}{born[4:6]}" if rng.random() < 0.3 and int(born[6:]) <= 12 else born
            records.append(record(family, rng.choice(("Anna", "Ewa")), wrong, pesel=pesel, phone=f"6{person:08}"))
    start = default_weights()
    learned = learn(records, 3_000)
    assert learned.people == 3_000
    assert 0.05 < learned.families["zgoda"] < 0.2
    assert learned.families["nowak"] < start.families["nowak"]
    assert learned.fields["birth_date"]["swapped"].m > 5 * start.fields["birth_date"]["swapped"].m
    assert learned.fields["telecom"]["equal"].m > start.fields["telecom"]["equal"].m
    assert learned.fields["sex"]["equal"].u > start.fields["sex"]["equal"].u  # there are only women
    assert learn(records, 3_000) == learned


def test_who_has_no_records_keeps_the_defaults() -> None:
    start = default_weights()
    assert learn([], start.people).fields == start.fields
    assert learn([], start.people).families == start.families

"""Decides whether two records are of one person: rules first, then the weight of the evidence (docs/matching.md).

Each field is compared at a few levels. A level weighs log2(m/u) bits: m is how often records of one person come out at
it, u how often those of two people do (Fellegi and Sunter 1969). The weights are added to the odds that two records
taken at random are of one person, one to the number of people. Where names agree, u is the share of the people who bear
that very name: two called Mohr are more likely one than two called Nowak.

The sum alone would join twins, and a son to his father. Rules say what may never follow from it:

- two valid PESELs that differ, and two numbers of one facility, are never joined; if all else agrees a person decides;
- an identifier in common joins only records whose name, birth date and sex do not contradict it;
- without an identifier in common, only the same name and the same full birth date join, and a sex, an address or a
  given name that speaks against it leaves the matter to a person unless something else speaks for it;
- two different given names are two people, be all else equal;
- two mothers have two children;
- a newborn is known by the mother's identifier, the birth date and the order of birth.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Sequence
from functools import cache, lru_cache
from hashlib import blake2b
from itertools import combinations
from math import log2
from typing import NamedTuple, TypeVar

from obieg.codes import load
from obieg.domain import addresses, names, pesel
from obieg.domain.documents import Value
from obieg.domain.identifiers import PatientId
from obieg.domain.matching import Evidence, Judgement, Record, Verdict
from obieg.domain.names import Likeness
from obieg.domain.persons import Demographics

BLOCKS_MAX = 5
GENERATION_YEARS = 15  # no parent is younger when a child is born; a misspelt birth date may not bridge that
CONFLICTS = frozenset(
    {"different_pesel", "different_number", "different_mother", "different_birth_order", "contradiction"}
)
Compared = tuple[str, str, float]  # field, level, bits
Key = TypeVar("Key", bound=Hashable)


class Odds(Value, frozen=True):
    """How often a comparison comes out at a level."""

    m: float  # among records of one person
    u: float  # among records of two


class Weights(Value, frozen=True):
    """What a region knows of its people and of the mistakes in its records."""

    people: int
    same: float  # bits
    same_by_name: float
    undecided: float
    rare_family: float
    rare_given: float
    fields: dict[str, dict[str, Odds]]
    families: dict[str, float]  # share of the people, by the name as names.family gives it
    givens: dict[str, float]  # share of the people, by the first name folded


class Prepared(Value, frozen=True, array_like=True):
    """A record with everything folded that comparing needs; made by :meth:`LinkageMatcher.prepare`."""

    record: Record
    family: str = ""
    family_bits: float = 0.0  # how much it says that another bears this name
    former: frozenset[str] = frozenset()  # maiden and other family names
    given: tuple[str, ...] = ()
    given_bits: float = 0.0
    given_as_family: str = ""
    birth_date: str = ""  # as stated, else as the PESEL has it
    derived_date: str = ""  # of the PESEL, where it differs from the one stated
    sex: str = ""
    pesel: str = ""  # valid
    wrong_pesel: str = ""  # not valid, yet no fill-in
    documents: frozenset[PatientId] = frozenset()
    numbers: frozenset[PatientId] = frozenset()
    numbering: frozenset[str] = frozenset()  # authorities of numbers
    mother: PatientId | None = None
    mother_family: str = ""
    birth_order: int | None = None
    single: bool | None = None  # whether it was the only child of this birth; None where nothing is said
    homes: tuple[addresses.Home, ...] = ()
    telecoms: frozenset[str] = frozenset()

    @property
    def is_thin(self) -> bool:
        """Whether it says too little of the person for demographics to decide."""
        return not self.birth_date or not (self.family or self.given)


class _Authorities(NamedTuple):
    pesel: str
    documents: tuple[str, ...]


@cache
def _authorities() -> _Authorities:
    roots: dict[str, str] = load.toml("national/pl/pik.toml")["roots"]
    return _Authorities(roots["pesel"], tuple(roots[key] for key in load.toml("matching.toml")["documents"]))


@lru_cache(maxsize=1 << 12)
def _is_document(authority: str) -> bool:
    return any(authority == root or authority.startswith(f"{root}.") for root in _authorities().documents)


@cache
def default_weights() -> Weights:
    """``codes/matching.toml`` with the frequencies of ``codes/national/pl``."""
    table = load.toml("matching.toml")
    shares: dict[str, dict[str, float]] = {"family_names": {}, "given_names": {}}
    for name, fold in (("family_names", names.family), ("given_names", names.fold)):
        rows = load.rows(f"national/pl/{name}.csv")
        inhabitants = 37_500  # thousand, of Poland
        for row in rows:
            key = fold(row["name"])
            shares[name][key] = shares[name].get(key, 0.0) + int(row["thousands"]) / inhabitants
    return Weights(
        **{key: table[key] for key in ("people", "same", "same_by_name", "undecided", "rare_family", "rare_given")},
        fields={
            field: {level: Odds(odds["m"], odds["u"]) for level, odds in levels.items()}
            for field, levels in table["field"].items()
        },
        families=shares["family_names"],
        givens=shares["given_names"],
    )


class LinkageMatcher:
    """Judges pairs of records with the weights of a region."""

    def __init__(self, weights: Weights | None = None) -> None:
        """``weights``: learned from the region (:func:`obieg.domain.learning.learn`), else the defaults."""
        self._weights = weights or default_weights()
        self._bits = {
            field: {level: log2(odds.m / odds.u) for level, odds in levels.items()}
            for field, levels in self._weights.fields.items()
        }
        odds = self._weights.fields
        self._m = {
            (field, level): log2(odds[field][level].m)
            for field, level in (
                ("family", "equal"), ("family", "former"), ("family", "swapped"), ("given", "all"), ("given", "first"),
                ("given", "other_second"),
            )
        }  # fmt: skip
        self._prior = -log2(max(2, self._weights.people))
        self._families = {name: -log2(share) for name, share in self._weights.families.items()}
        self._givens = {name: -log2(share) for name, share in self._weights.givens.items()}
        self._rare_family = -log2(self._weights.rare_family)
        self._rare_given = -log2(self._weights.rare_given)

    # preparing -------------------------------------------------------------------------------------------------------

    def prepare(self, record: Record) -> Prepared:
        """Folds a record once for many comparisons. A Prepared belongs to the weights of this matcher."""
        demographics = record.demographics
        family, given, former = _names(demographics)
        words = tuple(given.split(" ")) if given else ()
        number, wrong, documents, numbers = _identifiers(record.identifiers)
        stated, derived = _born(demographics, number)
        sex = demographics.sex if demographics.sex in ("M", "F") else pesel.read(number).sex if number else ""
        return Prepared(
            record,
            family=family,
            family_bits=self._families.get(family, self._rare_family),
            former=frozenset(former),
            given=words,
            given_bits=self._givens.get(words[0], self._rare_given) if words else 0.0,
            given_as_family=names.family(given) if given else "",
            birth_date=stated,
            derived_date=derived,
            sex=sex,
            pesel=number,
            wrong_pesel=wrong,
            documents=documents,
            numbers=numbers,
            numbering=frozenset([n.authority for n in numbers]),
            mother=_mother(demographics),
            mother_family=names.family(demographics.mother_name.family) if demographics.mother_name else "",
            birth_order=demographics.birth_order,
            single=None if demographics.multiple_birth is None else not demographics.multiple_birth,
            homes=addresses.homes(demographics.addresses),
            telecoms=addresses.numbers(demographics.telecoms),
        )

    def blocks(self, record: Record) -> tuple[int, ...]:
        """At most five 63-bit keys, the same in every process; two records of one person nearly always share one.

        Identifiers are not among them: the index looks those up. A record too thin to be matched has none.
        """
        demographics = record.demographics
        name, words, former = _names(demographics)
        born, _ = _born(demographics, _pesel(record.identifiers))
        family = names.sound(name) if name else ""
        given = names.sound(words.partition(" ")[0]) if words else ""
        keys: list[str] = []
        if len(born) == 8:
            # Family and given name make keys of one kind, so that swapped ones meet.
            keys += [f"{each}|{born}" for each in (family, given) if each]
        if born and family and given:
            first, second = (family, given) if family <= given else (given, family)
            keys.append(f"{first}|{second}|{born[:4]}")
        if len(born) == 8:
            if mother := _mother(demographics):
                keys.append(f"{mother.value}|{mother.authority}|{born}")
            if former or " " in name:
                others = {names.sound(each) for each in (*former, *name.split())} - {family, given}
                keys += [f"{each}|{born}" for each in sorted(others, key=lambda each: (-len(each), each))]
        if demographics.telecoms and (given or family):
            keys += [f"{number}|{given or family}" for number in sorted(addresses.numbers(demographics.telecoms))]
        return tuple([_key(key) for key in dict.fromkeys(keys)][:BLOCKS_MAX])

    # judging ---------------------------------------------------------------------------------------------------------

    def judge(self, left: Record, right: Record) -> Judgement:
        """The verdict, the score and the rule; the evidence is left out, :meth:`explain` gives it."""
        return self.judge_prepared(self.prepare(left), self.prepare(right))

    def judge_prepared(self, left: Prepared, right: Prepared) -> Judgement:
        """As :meth:`judge`, for records that are compared more than once."""
        compared = self.compare(left, right)
        verdict, score, rule = self._decide(left, right, compared)
        return Judgement(verdict, score, rule, rule in CONFLICTS)

    def explain(self, left: Record, right: Record) -> Judgement:
        """As :meth:`judge`, with the evidence field by field and the odds before any of it."""
        one, other = self.prepare(left), self.prepare(right)
        compared = self.compare(one, other)
        verdict, score, rule = self._decide(one, other, compared)
        evidence = [
            Evidence(field, level, weight, _text(one, field), _text(other, field)) for field, level, weight in compared
        ]
        evidence.append(Evidence("people", "prior", self._prior, str(self._weights.people), ""))
        return Judgement(verdict, score, rule, rule in CONFLICTS, tuple(evidence))

    def judge_patient(self, record: Record, records: Iterable[Record]) -> Judgement:
        """Whether the record is of the patient whom ``records`` (at least one) are about.

        The best judgement counts, unless one of the records may never be joined with this one: then a person decides.
        """
        prepared = self.prepare(record)
        return best([self.judge_prepared(prepared, self.prepare(other)) for other in records])

    def compare(self, left: Prepared, right: Prepared) -> list[Compared]:
        """Field, level and bits of every field that both records have."""
        found: list[Compared] = []
        bits = self._bits
        if (left.pesel or left.wrong_pesel) and (right.pesel or right.wrong_pesel):
            level = _pesel_level(left, right)
            found.append(("pesel", level, bits["pesel"][level]))
        if left.documents and right.documents:
            level = _document_level(left.documents, right.documents)
            if level:
                found.append(("document", level, bits["document"][level]))
        if left.numbers and right.numbers and not left.numbering.isdisjoint(right.numbering):
            level = "different" if left.numbers.isdisjoint(right.numbers) else "equal"
            found.append(("number", level, bits["number"][level]))
        swapped = False
        if left.family and right.family:
            if left.family == right.family:
                found.append(("family", "equal", self._m["family", "equal"] + left.family_bits))
            else:
                level, weight = self._family_level(left, right)
                swapped = level == "swapped"
                found.append(("family", level, weight))
        if left.given and right.given and not swapped:
            level = given_level(left.given, right.given)
            if level in ("all", "first", "other_second"):
                found.append(("given", level, self._m["given", level] + min(left.given_bits, right.given_bits)))
            else:
                found.append(("given", level, bits["given"][level]))
        if left.birth_date and right.birth_date:
            level = _birth_level(left, right)
            found.append(("birth_date", level, bits["birth_date"][level]))
        if left.sex and right.sex:
            level = "equal" if left.sex == right.sex else "different"
            found.append(("sex", level, bits["sex"][level]))
        if left.mother_family and right.mother_family:
            likeness = names.family_likeness(left.mother_family, right.mother_family)
            level = "equal" if likeness == Likeness.EQUAL else "similar" if likeness else "different"
            found.append(("mother_name", level, bits["mother_name"][level]))
        if left.mother and right.mother and left.mother.authority == right.mother.authority:
            level = "equal" if left.mother == right.mother else "different"
            found.append(("mother", level, bits["mother"][level]))
        if left.homes and right.homes:
            level = addresses.level(left.homes, right.homes)
            if level:
                found.append(("address", level, bits["address"][level]))
        if left.telecoms and right.telecoms:
            level = "different" if left.telecoms.isdisjoint(right.telecoms) else "equal"
            found.append(("telecom", level, bits["telecom"][level]))
        return found

    def _family_level(self, left: Prepared, right: Prepared) -> tuple[str, float]:
        if _is_swapped(left, right) or _is_swapped(right, left):
            bits = min(left.family_bits + left.given_bits, right.family_bits + right.given_bits)  # of the right order
            return "swapped", self._m["family", "swapped"] + bits
        if left.family in right.former or right.family in left.former or not left.former.isdisjoint(right.former):
            return "former", self._m["family", "former"] + min(left.family_bits, right.family_bits)
        likeness = names.family_likeness(left.family, right.family)
        if likeness == Likeness.EQUAL:  # the parts of a double name in another order
            return "equal", self._m["family", "equal"] + min(left.family_bits, right.family_bits)
        level = _FAMILY_LEVELS[likeness]
        return level, self._bits["family"][level]

    def _decide(self, left: Prepared, right: Prepared, compared: list[Compared]) -> tuple[Verdict, float, str]:
        score = self._prior
        level: dict[str, str] = {}
        for field, value, weight in compared:
            level[field] = value
            score += weight
        get = level.get
        weights = self._weights
        given, family, born, number = get("given"), get("family"), get("birth_date"), get("pesel")

        veto = ""
        if number in ("different", "corrected"):
            veto = "different_pesel"
        elif get("number") == "different":
            veto = "different_number"
        at_home = get("address") == "home"
        beside = at_home or get("telecom") == "equal" or get("mother_name") == "equal" or get("mother") == "equal"
        born_alike = born is None or (born in _BORN_ALIKE and not _generation_apart(left, right))
        if veto:
            likely = (
                score >= weights.undecided
                and born_alike
                and not (given == "different" and both_whole(left, right))
                and (beside or number not in ("different", "invalid"))
                and not (born == "equal" and _of_other_order(left, right))
            )
            return Verdict.UNDECIDED if likely else Verdict.DIFFERENT, score, veto

        shared = "same_pesel" if number == "equal" else "same_document" if get("document") == "equal" else ""
        if not shared and get("number") == "equal":
            shared = "same_number"
        if shared:
            full = born == "equal" and given in _GIVEN_EQUAL
            twin = given in ("shared", "different") and (left.single is False or right.single is False)
            agrees = (
                given != "different"
                and not twin
                and born_alike
                and not _of_other_order(left, right)
                and (family != "different" or full)
                and (get("sex") != "different" or (full and family != "different"))
            )
            if agrees and shared == "same_document" and (left.is_thin or right.is_thin):
                return Verdict.UNDECIDED, score, shared  # a passport has no control digit that would tell a mistake
            if agrees:
                return Verdict.SAME, score, shared
            # Of two given names one may be the second one, unless both records have two; but a twin may bear it first,
            # and with another sex or birth date the name is another person's.
            both_names = len(left.given) > 1 and len(right.given) > 1
            whole = given == "different" and both_whole(left, right)
            another = not born_alike or (whole and (get("sex") == "different" or born != "equal" or both_names)) or twin
            return Verdict.UNDECIDED, score, "contradiction" if another else ""

        if get("mother") == "different":
            likely = score >= weights.undecided and given != "different"
            return Verdict.UNDECIDED if likely else Verdict.DIFFERENT, score, "different_mother"
        if born == "equal" and (given is None or get("mother") == "equal"):
            newborn = _newborn(left, right, level)
            if newborn is not None:
                return newborn[0], score, newborn[1]
        if left.is_thin or right.is_thin:
            return Verdict.DIFFERENT if score < weights.undecided else Verdict.UNDECIDED, score, ""
        if given == "different" and number != "misspelt" and both_whole(left, right):
            return Verdict.DIFFERENT, score, "different_given_names"
        if score < weights.undecided:
            return Verdict.DIFFERENT, score, ""

        misspelt = number == "misspelt" and born_alike and given != "different" and family != "different"
        beside = beside or misspelt
        supported = get("telecom") == "equal" or get("mother_name") == "equal" or misspelt or get("mother") == "equal"
        named = (family == "swapped" or given in _GIVEN_EQUAL) and family in ("equal", "swapped")
        if not named and beside:
            given_alike = (
                given in _GIVEN_EQUAL or given == "similar" or (given == "short" and _is_only_short(left, right))
            )
            named = family in _FAMILY_ALIKE and (given_alike or family == "swapped")
        sure = (
            named
            and (born == "equal" or misspelt)
            and get("sex") != "different"
            and (get("address") not in _ELSEWHERE or supported)
            and (get("mother_name") != "different" or at_home or get("telecom") == "equal" or misspelt)
            and (given != "other_second" or misspelt)
            and score >= (weights.same if beside else weights.same_by_name)
        )
        return Verdict.SAME if sure else Verdict.UNDECIDED, score, ""


_FAMILY_LEVELS = {Likeness.SHORT: "part", Likeness.SIMILAR: "similar", Likeness.DIFFERENT: "different"}
_FAMILY_ALIKE = frozenset({"equal", "swapped", "former", "part", "similar"})
_ELSEWHERE = frozenset({"street", "moved", "different"})  # another number may be a relative
_GIVEN_EQUAL = frozenset({"all", "first", "other_second"})
_BORN_ALIKE = frozenset({"equal", "swapped", "misspelt", "derived", "month", "year"})


def best(judgements: Iterable[Judgement]) -> Judgement:
    """What records of one patient together say of another record; see :meth:`LinkageMatcher.judge_patient`."""
    listed = list(judgements)
    chosen = max(listed, key=lambda j: (_RANK[j.verdict], j.score))
    if chosen.verdict is Verdict.SAME:
        for judgement in listed:
            if judgement.conflict:
                return Judgement(Verdict.UNDECIDED, chosen.score, judgement.rule, conflict=True)
    return chosen


def of_one_person(
    same: Sequence[Key], conflicts: Callable[[Key, Key], Iterable[str]], *, by_number: bool
) -> Sequence[Key]:
    """The patients whom a record is of, of all those it fits, the likeliest first; others are one person with that one.

    ``conflicts`` gives the rules that keep two patients apart; ``by_number``: the record states the national number of
    the first. A record that fits two who must be kept apart is of the one whose number it states. Names do not tell:
    without the number it is of neither, unless two numbers of one facility are all that keeps them apart.
    """
    rules = {rule for left, right in combinations(same, 2) for rule in conflicts(left, right)}
    if not rules:
        return same
    return same[:1] if by_number or rules == {"different_number"} else ()


_RANK = {Verdict.DIFFERENT: 0, Verdict.UNDECIDED: 1, Verdict.SAME: 2}


def given_level(left: tuple[str, ...], right: tuple[str, ...]) -> str:
    """How alike two lists of folded given names are; none of them is empty."""
    if left[0] == right[0]:
        if len(left) == 1 or len(right) == 1:
            return "first"
        if left[1] == right[1]:
            return "all"
        likeness = names.given_likeness(left[1], right[1])
        return "first" if likeness else "other_second"
    return _other_given_level(left, right)


@lru_cache(maxsize=1 << 16)
def _other_given_level(left: tuple[str, ...], right: tuple[str, ...]) -> str:
    if "".join(left) == "".join(right):
        return "first"
    alone = len(left) == 1 or len(right) == 1
    if set(left) == set(right) or (alone and (left[0] in right or right[0] in left)):
        return "shared"
    return _GIVEN_LEVELS[names.given_likeness(left[0], right[0])]


_GIVEN_LEVELS = {
    Likeness.EQUAL: "first",
    Likeness.SIMILAR: "similar",
    Likeness.SHORT: "short",
    Likeness.DIFFERENT: "different",
}


def _is_swapped(left: Prepared, right: Prepared) -> bool:
    """Whether ``left`` has the given names, or the first of them, where the family name should be."""
    return right.family == left.given_as_family and (
        left.family == right.given_as_family or (bool(right.given) and left.family == right.given[0])
    )


def both_whole(left: Prepared, right: Prepared) -> bool:
    """Whether the first given names are both whole names, so that neither can be the other misspelt."""
    return bool(left.given and right.given) and names.is_whole(left.given[0]) and names.is_whole(right.given[0])


def _is_only_short(left: Prepared, right: Prepared) -> bool:
    """Whether one is a short form of the other's name and of no other name: not Ola, not Lena, not an initial."""
    one, other = left.given[0], right.given[0]
    return not both_whole(left, right) and (names.whole_names(one) == {other} or names.whole_names(other) == {one})


def _pesel_level(left: Prepared, right: Prepared) -> str:
    if left.pesel and right.pesel:
        if left.pesel == right.pesel:
            return "equal"
        # The control digit follows the others, so it says nothing of its own.
        return "corrected" if pesel.is_misspelling(left.pesel[:10], right.pesel[:10]) else "different"
    one, other = left.pesel or left.wrong_pesel, right.pesel or right.wrong_pesel
    return "misspelt" if one == other or pesel.is_misspelling(one, other) else "invalid"


def _document_level(left: frozenset[PatientId], right: frozenset[PatientId]) -> str:
    if not left.isdisjoint(right):
        return "equal"
    return "different" if {d.authority for d in left} & {d.authority for d in right} else ""


def _birth_level(left: Prepared, right: Prepared) -> str:
    one, other = left.birth_date, right.birth_date
    if one == other:
        return "equal" if len(one) == 8 else "month" if len(one) == 6 else "year"
    if (left.derived_date == other or right.derived_date == one) and len(one) == len(other):
        return "derived"
    if len(one) == len(other) == 8:
        return _date_level(one, other)
    short, long = (one, other) if len(one) < len(other) else (other, one)
    if long.startswith(short):
        return "month" if len(short) >= 6 else "year"
    return "different"


@lru_cache(maxsize=1 << 16)
def _date_level(one: str, other: str) -> str:
    if one[:4] == other[:4] and one[4:6] == other[6:] and one[6:] == other[4:6]:
        return "swapped"
    if pesel.is_misspelling(one, other):
        return "misspelt"
    return "same_year" if one[:4] == other[:4] else "different"


def _generation_apart(left: Prepared, right: Prepared) -> bool:
    one, other = left.birth_date[:4], right.birth_date[:4]
    return one != other and one.isdecimal() and other.isdecimal() and abs(int(one) - int(other)) >= GENERATION_YEARS


def _of_other_order(left: Prepared, right: Prepared) -> bool:
    return bool(left.birth_order and right.birth_order and left.birth_order != right.birth_order)


def _newborn(left: Prepared, right: Prepared, level: dict[str, str]) -> tuple[Verdict, str] | None:
    """Children of one mother, or of one home and family name, born on one day; None if this does not decide.

    They are one child if nothing was born beside it or the order of birth is the same.
    """
    get = level.get
    of_one_mother = get("mother") == "equal"
    of_one_home = get("mother") is None and get("address") == "home" and get("family") in ("equal", "part", "similar")
    if get("birth_date") != "equal" or not (of_one_mother or of_one_home) or get("given") == "different":
        return None
    if _of_other_order(left, right):
        return Verdict.DIFFERENT, "different_birth_order"
    if get("sex") == "different":
        return Verdict.DIFFERENT, "twins"
    ordered = bool(left.birth_order and right.birth_order)
    single = (left.single or right.single) and left.single is not False and right.single is not False
    if (ordered and of_one_mother) or single:
        return Verdict.SAME, "same_newborn"
    return None if left.given and right.given else (Verdict.UNDECIDED, "possible_twins")


def _names(demographics: Demographics) -> tuple[str, str, list[str]]:
    """The family name, the given names and other family names, folded."""
    family, given = "", ""
    former: list[str] = []
    for name in demographics.names:
        if not family and not given and name.use not in ("M", "B"):
            family, given = names.family(name.family), names.fold(" ".join(name.given))
        elif name.family:
            former.append(names.family(name.family))
    if not family and not given and demographics.names:
        family, given = names.family(demographics.name.family), names.fold(" ".join(demographics.name.given))
    return family, given, former


def _born(demographics: Demographics, number: str) -> tuple[str, str]:
    """The birth date as stated, else as the PESEL ``number`` has it; that of the PESEL where it is another one."""
    stated = demographics.birth_date[:8]
    if not number:
        return stated, ""
    said = pesel.read(number).birth_date
    if said == stated:
        return stated, ""
    if not stated or (len(stated) < 8 and said.startswith(stated)):
        return said, ""
    return stated, said


def _mother(demographics: Demographics) -> PatientId | None:
    """The mother's identifier, where it may be one."""
    mother = demographics.mother
    if mother is None or not mother.value:
        return None
    return None if mother.authority == _authorities().pesel and not pesel.is_valid(mother.value) else mother


def _pesel(identifiers: Iterable[PatientId]) -> str:
    """The valid PESEL."""
    root = _authorities().pesel
    for identifier in identifiers:
        if identifier.authority == root and (read := pesel.read(identifier.value)).valid:
            return read.number
    return ""


def _identifiers(
    identifiers: Iterable[PatientId],
) -> tuple[str, str, frozenset[PatientId], frozenset[PatientId]]:
    """The valid PESEL, the wrong one, documents, local numbers."""
    number = wrong = ""
    documents: list[PatientId] = []
    numbers: list[PatientId] = []
    root = _authorities().pesel
    for identifier in identifiers:
        if identifier.authority == root:
            read = pesel.read(identifier.value)
            if read.valid:
                number = number or read.number
            elif not read.artificial:
                wrong = wrong or read.number
        elif _is_document(identifier.authority):
            documents.append(PatientId("".join(identifier.value.split()).upper(), identifier.authority))
        else:
            numbers.append(identifier)
    return number, "" if number else wrong, frozenset(documents), frozenset(numbers)


def _key(text: str) -> int:
    return int.from_bytes(blake2b(text.encode(), digest_size=8).digest(), "big") >> 1


def _text(prepared: Prepared, field: str) -> str:
    """What a record says in a field, for people to read."""
    record = prepared.record
    demographics: Demographics = record.demographics
    root = _authorities().pesel
    match field:
        case "pesel":
            return ", ".join(i.value for i in record.identifiers if i.authority == root)
        case "document":
            return ", ".join(i.value for i in record.identifiers if i.authority != root and _is_document(i.authority))
        case "number":
            return ", ".join(sorted(map(str, prepared.numbers)))
        case "family":
            return ", ".join(name.family for name in demographics.names if name.family)
        case "given":
            return " ".join(demographics.name.given)
        case "birth_date":
            return prepared.birth_date + (f" (PESEL: {prepared.derived_date})" if prepared.derived_date else "")
        case "sex":
            return prepared.sex
        case "mother_name":
            return demographics.mother_name.family if demographics.mother_name else ""
        case "mother":
            return demographics.mother.value if demographics.mother else ""
        case "address":
            return "; ".join(f"{a.street}, {a.postal_code} {a.city}".strip(", ") for a in demographics.addresses)
        case _:
            return ", ".join(sorted(prepared.telecoms))

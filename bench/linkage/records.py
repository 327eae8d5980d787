"""Records of made-up people as facilities keep them, with the mistakes that are made in Poland.

Every rate stands in ``Rates``, one for each kind of mistake, so that it can be judged and changed on its own.
docs/matching.md says where they come from.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from datetime import date, timedelta
from typing import NamedTuple

from bench.linkage.people import HISTORY_DAYS, PESEL, TODAY, Home, Person, Region, feminine
from obieg.codes import load
from obieg.domain.identifiers import PatientId
from obieg.domain.matching import Record
from obieg.domain.names import fold
from obieg.domain.persons import Address, Demographics, PersonName, Telecom

NEWBORN_DAYS = 60
# Shares of the pairs that are hard to tell apart; strangers of one name and birthday are the rest.
TWINS, FATHERS_AND_SONS, PESELS_OF_ANOTHER = 0.35, 0.25, 0.1


@dataclass(frozen=True)
class Rates:
    """How often a record has each mistake."""

    pesel_missing: float = 0.06
    pesel_artificial: float = 0.004
    pesel_misspelt: float = 0.004
    pesel_of_relative: float = 0.0005  # a number of the same household, picked by mistake
    document_missing: float = 0.15
    family_misspelt: float = 0.010
    given_misspelt: float = 0.007
    names_swapped: float = 0.003
    diminutive: float = 0.004
    second_name_first: float = 0.002
    half_of_double_name: float = 0.15
    former_name_kept: float = 0.12  # after a marriage
    birth_date_wrong: float = 0.006
    birth_year_only: float = 0.001
    birth_date_missing: float = 0.0005
    sex_wrong: float = 0.002
    sex_missing: float = 0.01
    address_missing: float = 0.08
    address_old: float = 0.08  # after a move
    street_misspelt: float = 0.01
    postal_code_missing: float = 0.05
    phone_missing: float = 0.25
    phone_of_relative: float = 0.05
    twice_in_a_facility: float = 0.004  # a person gets a second number there

    def times(self, factor: float) -> Rates:
        """All mistakes ``factor`` times as often."""
        return replace(self, **{name: min(0.9, getattr(self, name) * factor) for name in self.__dataclass_fields__})


@dataclass(frozen=True)
class Facility:
    """What one hospital or clinic keeps, and how it writes."""

    authority: str
    weight: float
    capitals: bool = False
    plain: bool = False  # without Polish letters
    second_names: bool = True
    mother_names: bool = False
    teryt: bool = False
    streets: str = "ul. "
    flat: str = "/"
    phones: str = "{0}"
    mothers: bool = False  # the mother's PESEL with children


FACILITIES = tuple(
    Facility(f"{load.toml('national/pl/pik.toml')['roots']['provider_node']}.{9000 + n}.17.1", **how)
    for n, how in enumerate((
        {"weight": 5, "mother_names": True, "teryt": True, "mothers": True},
        {"weight": 4, "capitals": True, "second_names": False, "streets": "", "phones": "+48{0}", "mothers": True},
        {"weight": 3, "capitals": True, "plain": True, "second_names": False, "streets": "UL. ", "flat": " m. "},
        {"weight": 3, "mother_names": True, "flat": " m. ", "mothers": True},
        {"weight": 3, "second_names": False, "phones": "{1} {2} {3}", "mothers": True},
        {"weight": 2, "streets": "ulica ", "teryt": True, "phones": "0048{0}"},
        {"weight": 2, "plain": True, "capitals": True, "streets": "", "phones": "{1}-{2}-{3}"},
        {"weight": 2, "second_names": False, "mothers": True},
        {"weight": 2, "streets": "", "flat": " lok. "},
        {"weight": 1, "capitals": True, "teryt": True},
        {"weight": 1, "second_names": False, "phones": "tel:+48{0}"},
        {"weight": 1, "plain": True},
    ))
)  # fmt: skip
# Keys beside one another, and sounds taken for one another.
_NEIGHBOURS = dict(pair.split(":") for pair in (
    "a:s", "b:vn", "c:vx", "d:sf", "e:wr", "f:dg", "g:fh", "h:gj", "i:uo", "j:hk", "k:jl", "l:k", "m:n", "n:bm",
    "o:ip", "p:o", "r:et", "s:ad", "t:ry", "u:yi", "w:qe", "y:tu", "z:xa",
))  # fmt: skip
_MISHEARD = (
    ("rz", "ż"), ("ż", "rz"), ("ch", "h"), ("h", "ch"), ("ó", "u"), ("u", "ó"), ("ks", "x"), ("w", "v"), ("sz", "s"),
    ("cz", "c"), ("ś", "s"), ("ł", "l"), ("ę", "en"), ("ą", "on"), ("y", "i"), ("i", "y"),
)  # fmt: skip


class Kept(NamedTuple):
    """A record and of whom it truly is."""

    record: Record
    person: int
    planted: bool = False  # with the PESEL of another person, to be hard to tell apart


@dataclass
class Writer:
    """Writes records; the same seed gives the same ones."""

    seed: int
    rates: Rates = field(default_factory=Rates)
    relatives: dict[int, list[Person]] = field(default_factory=dict)  # by number of the person

    def __post_init__(self) -> None:
        self.rng = random.Random(f"{self.seed}:records")
        self._numbers = 0
        self._short: dict[str, list[str]] = {
            r["name"]: r["short"].split() for r in load.rows("national/pl/given_names.csv")
        }

    def records(self, person: Person) -> Iterator[tuple[date, Kept]]:
        """All records of a person with the day of each: at the mean two and a half."""
        rng = self.rng
        count = 1
        while rng.random() < 0.62 and count < 12:
            count += 1
        seen: dict[str, str] = {}
        for place in self._facilities(count):
            first_day = max(TODAY - timedelta(days=HISTORY_DAYS), person.born)
            day = first_day + timedelta(days=rng.randint(0, (TODAY - first_day).days))
            number = seen.get(place.authority) or self.number()
            seen[place.authority] = number
            yield day, Kept(self.write(person, place, day, number), person.number)
            if rng.random() < self.rates.twice_in_a_facility:
                yield day, Kept(self.write(person, place, day, self.number()), person.number)
        if person.mother is not None and person.age < 3 and rng.random() < 0.8:
            day = person.born
            born_at = next((p for p in FACILITIES if p.mothers and p.authority not in seen), None)
            if born_at:
                yield day, Kept(self.newborn(person, born_at, day), person.number)

    def _facilities(self, count: int) -> list[Facility]:
        """Different ones: who comes again is found by the facility's own number."""
        left = list(FACILITIES)
        found = []
        for _ in range(min(count, len(left))):
            chosen = self.rng.choices(left, [f.weight for f in left])[0]
            left.remove(chosen)
            found.append(chosen)
        return found

    def write(self, person: Person, place: Facility, day: date, number: str, *, pesel: str = "") -> Record:
        """How ``place`` writes the person on that day; ``pesel`` is one taken by mistake."""
        rng, rates = self.rng, self.rates
        hit = lambda rate: rng.random() < rate  # noqa: E731 - one word for each of thirty mistakes
        family = person.family
        if person.renamed and person.maiden and (day < person.renamed or hit(rates.former_name_kept)):
            family = person.maiden
        if "-" in family and hit(rates.half_of_double_name):
            family = rng.choice(family.split("-"))
        if person.also_written and hit(0.15):
            family = person.also_written
        given = list(person.given)
        if hit(rates.diminutive) and self._short.get(given[0]):
            given[0] = rng.choice(self._short[given[0]])
        if not place.second_names or hit(0.3):
            given = given[:1]
        if len(person.given) > 1 and hit(rates.second_name_first):
            given = [person.given[1]]
        if hit(rates.family_misspelt):
            family = self._misspell(family)
        if hit(rates.given_misspelt):
            given[0] = self._misspell(given[0])
        if hit(rates.names_swapped):
            family, given = " ".join(given), [family]
        born = self._birth_date(person)
        sex = "" if hit(rates.sex_missing) else person.sex
        if sex and hit(rates.sex_wrong):
            sex = "F" if sex == "M" else "M"
        identifiers = [PatientId(number, place.authority)]
        identifiers += self._identifiers(person, day, pesel)
        home = _at(person.homes, day if not hit(rates.address_old) else day - timedelta(days=900))
        shown = home is not None and (person.telling or not hit(rates.address_missing))
        child = person.mother is not None and (day - person.born).days < 18 * 365
        demographics = Demographics(
            names=(PersonName(self._text(family, place), tuple(self._text(g, place) for g in given), use="L"),)
            + ((PersonName(self._text(person.maiden, place), use="M"),) if person.maiden and hit(0.15) else ()),
            birth_date=born,
            sex=sex,
            addresses=(self._address(home, place),) if shown else (),
            telecoms=self._telecoms(person, place, day),
            mother_name=PersonName(self._text(person.mother_family, place))
            if place.mother_names and hit(0.4)
            else None,
            mother=PatientId(person.mother.pesel, PESEL)
            if child and place.mothers and hit(0.6) and person.mother.pesel
            else None,
            multiple_birth=person.multiple if child and place.mothers and hit(0.6) else None,
            birth_order=person.birth_order if child and person.multiple and place.mothers and hit(0.6) else None,
        )
        return Record(tuple(identifiers), demographics)

    def newborn(self, person: Person, place: Facility, day: date) -> Record:
        """A child just born, known by the mother: no given name, no PESEL, for one in ten no order of birth."""
        mother = person.mother
        stated = self.rng.random() < 0.9
        home = _at(mother.homes, day)
        return Record(
            (PatientId(self.number(), place.authority),),
            Demographics(
                names=(PersonName(self._text(person.family, place), (), use="L"),),
                birth_date=f"{person.born:%Y%m%d}",
                sex=person.sex,
                addresses=(self._address(home, place),) if home else (),
                telecoms=self._telecoms(mother, place, day),
                mother=PatientId(mother.pesel, PESEL) if mother.pesel else None,
                multiple_birth=person.multiple if stated else None,
                birth_order=person.birth_order if stated else None,
            ),
        )

    def number(self) -> str:
        self._numbers += 1
        return str(100_000 + self._numbers)

    def _identifiers(self, person: Person, day: date, pesel: str) -> list[PatientId]:
        rng, rates = self.rng, self.rates
        found = [d for d in person.documents[: 1 + rng.randrange(2)][-1:] if rng.random() >= rates.document_missing]
        number = pesel or person.pesel
        infant = (day - person.born).days < NEWBORN_DAYS
        relatives = [r.pesel for r in self.relatives.get(person.number, ()) if r.pesel]
        if not number:
            return found
        if not pesel:
            if infant or rng.random() < rates.pesel_missing:
                number = ""
            elif rng.random() < rates.pesel_of_relative and relatives:
                number = rng.choice(relatives)
            elif rng.random() < rates.pesel_misspelt:
                number = self._misdial(number)
            if rng.random() < rates.pesel_artificial:
                number = rng.choice(("00000000000", "99999999999", "11111111111", f"{number[:6] or '900101'}00000"))
        return [PatientId(number, PESEL), *found] if number else found

    def _birth_date(self, person: Person) -> str:
        rng, rates = self.rng, self.rates
        text = f"{person.born:%Y%m%d}"
        if rng.random() < rates.birth_date_missing:
            return ""
        if rng.random() < rates.birth_year_only:
            return text[:4]
        if rng.random() >= rates.birth_date_wrong:
            return text
        kind = rng.random()
        if kind < 0.2 and person.born.day <= 12 and text[4:6] != text[6:]:
            return text[:4] + text[6:] + text[4:6]
        for _ in range(20):
            wrong = self._misdial(text)
            try:
                if date(int(wrong[:4]), int(wrong[4:6]), int(wrong[6:])) < TODAY and wrong[:2] in ("19", "20"):
                    return wrong
            except ValueError:
                continue
        return text

    def _misdial(self, digits: str) -> str:
        """One digit wrong, or two neighbours swapped."""
        rng = self.rng
        place = rng.randrange(len(digits) - 1)
        if rng.random() < 0.4 and digits[place] != digits[place + 1]:
            return digits[:place] + digits[place + 1] + digits[place] + digits[place + 2 :]
        place = rng.randrange(len(digits))
        return digits[:place] + str((int(digits[place]) + rng.randint(1, 9)) % 10) + digits[place + 1 :]

    def _misspell(self, name: str) -> str:
        rng = self.rng
        low = name.lower()
        possible = [(a, b) for a, b in _MISHEARD if a in low]
        kind = rng.random()
        if kind < 0.35 and possible:
            a, b = rng.choice(possible)
            return low.replace(a, b, 1).title()
        place = rng.randrange(1, max(2, len(low) - 1))
        if kind < 0.55:
            return (low[:place] + low[place + 1 :]).title()
        if kind < 0.7:
            return (low[:place] + low[place : place + 2][::-1] + low[place + 2 :]).title()
        if kind < 0.82:
            return (low[:place] + low[place - 1 : place] + low[place:]).title()
        other = rng.choice(_NEIGHBOURS.get(fold(low[place])[:1], "e"))
        return (low[:place] + other + low[place + 1 :]).title()

    def _text(self, text: str, place: Facility) -> str:
        if place.plain:
            text = " ".join(fold(part) for part in text.split()).title()
        return text.upper() if place.capitals else text

    def _address(self, home: Home, place: Facility) -> Address:
        rng, rates = self.rng, self.rates
        street = home.street
        if street and rng.random() < rates.street_misspelt:
            street = self._misspell(street)
        house = home.house + (place.flat + home.flat if home.flat else "")
        line = f"{place.streets}{street} {house}" if street else f"{home.place.city} {house}"
        line = house if not street and rng.random() < 0.3 else line
        return Address(
            street=self._text(line, place),
            city=self._text(home.place.city, place),
            postal_code="" if rng.random() < rates.postal_code_missing else home.place.postal_code,
            country="PL",
            use="H",
            simc=home.place.simc if place.teryt else "",
            ulic=home.ulic if place.teryt else "",
        )

    def _telecoms(self, person: Person, place: Facility, day: date) -> tuple[Telecom, ...]:
        rng, rates = self.rng, self.rates
        number = _at(person.phones, day)
        if rng.random() < rates.phone_of_relative:
            others = [n for r in self.relatives.get(person.number, ()) if (n := _at(r.phones, day))]
            number = rng.choice(others) if others else number
        if not number or rng.random() < rates.phone_missing:
            return ()
        return (Telecom(place.phones.format(number, number[:3], number[3:6], number[6:]), use="PRN", equipment="CP"),)


def _at(history, day: date):
    """What held on that day; None before there was anything."""
    return next((value for since, value in reversed(history) if since <= day), history[0][1] if history else None)


class Negative(NamedTuple):
    """Two people who must not be taken for one."""

    kind: str
    left: int
    right: int


class DataSet(NamedTuple):
    records: list[Kept]  # in the order in which they were made
    people: int
    negatives: list[Negative]


def make(people: int, negatives: int, seed: int, rates: Rates) -> DataSet:
    """At least ``people`` people and their records; ``negatives`` pairs of them are hard to tell apart."""
    region = Region(seed)
    pairs, households = _negatives(region, negatives)
    while len(region.people) < people:
        households.append(region.household())
    region.live()
    writer = Writer(seed, rates)
    for members in households:
        for one in members:
            writer.relatives[one.number] = [other for other in members if other is not one]
    kept = [dated for person in region.people for dated in writer.records(person)]
    for pair in pairs:
        if pair.kind == "pesel of another":
            one, other = region.people[pair.left], region.people[pair.right]
            place = FACILITIES[-1]
            day = TODAY - timedelta(days=writer.rng.randrange(1000))
            record = writer.write(one, place, day, writer.number(), pesel=other.pesel)
            kept.append((day, Kept(record, one.number, planted=True)))
    kept.sort(key=lambda dated: dated[0])
    return DataSet([one for _, one in kept], len(region.people), pairs)


def _negatives(region: Region, count: int) -> tuple[list[Negative], list[list[Person]]]:
    """Twins; father and son of one name; a PESEL taken for another's; strangers of one name and birthday."""
    rng = region.rng
    found: list[Negative] = []
    households: list[list[Person]] = []
    twins = round(count * TWINS)
    sons = twins + round(count * FATHERS_AND_SONS)
    while len(found) < twins:
        man, woman = region.couple(rng.randint(24, 55))
        children = region.children(man, woman, rng.choice((1, 1, 2)), twins=True)
        households.append([man, woman, *children])  # at least the twins
        found.append(Negative("twins", children[0].number, children[1].number))
    while len(found) < sons:
        man, woman = region.couple(rng.randint(24, 55))
        born = _son(man, rng)
        son = region.person(
            "M", man.family, (man.given[0], *region.given("M")[1:]), born, man.homes[0][1], foreign=False
        )
        son.mother, son.mother_family = woman, woman.maiden or woman.family
        son.phones = list(man.phones) if rng.random() < 0.5 else son.phones
        households.append([man, woman, son])
        found.append(Negative("father and son", man.number, son.number))
    known = [p for p in region.people if p.pesel]
    known = [p for p in region.people if p.pesel]
    while len(found) < sons + round(count * PESELS_OF_ANOTHER):
        one, other = rng.sample(known if rng.random() < 0.7 else rng.choice(households), 2)
        if one.pesel and other.pesel:
            found.append(Negative("pesel of another", one.number, other.number))
    while len(found) < count:
        sex = rng.choice("MF")
        family, given = feminine(region.family()[0], sex), region.given(sex)[:1]
        born = TODAY - timedelta(days=rng.randint(365, 90 * 365))
        pair = [region.person(sex, family, given, born, region.home(), foreign=False) for _ in range(2)]
        for stranger in pair:
            stranger.mother_family = feminine(region.family()[0], "F")
            stranger.telling = True  # nobody could tell them apart by name and birthday alone
        found.append(Negative("one name and birthday", pair[0].number, pair[1].number))
    return found, households


def _son(man: Person, rng: random.Random) -> date:
    """Every fifth was born on his father's birthday, so that one digit of the year tells them apart."""
    years = rng.randint(18, 40)
    if rng.random() < 0.2:
        years = rng.choice((20, 30, 40))
        try:
            return min(man.born.replace(year=man.born.year + years), TODAY - timedelta(days=100))
        except ValueError:
            pass
    return min(man.born + timedelta(days=years * 365 + rng.randrange(365)), TODAY - timedelta(days=100))

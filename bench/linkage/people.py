"""Made-up people of a region: households, twins, fathers and sons of one name, moves, marriages, foreigners.

Nobody here exists; the same seed gives the same people. Names follow the frequencies of ``codes/national/pl`` and, for
the many rare family names, Faker's list.
"""

from __future__ import annotations

import random
from bisect import bisect_right
from dataclasses import dataclass, field
from datetime import date, timedelta
from itertools import accumulate

from faker import Faker
from stdnum.pl import pesel as stdnum_pesel

from obieg.codes import load
from obieg.domain.identifiers import PatientId
from obieg.domain.names import fold

TODAY = date(2026, 10, 1)
HISTORY_DAYS = 8 * 365  # how far back records go
_ROOTS = load.toml("national/pl/pik.toml")["roots"]
PESEL = _ROOTS["pesel"]

TWIN_BIRTHS = 0.013  # of births; a little below the 14 in 1,000 that Poland had about 2015
NAMED_AFTER_FATHER = 0.02  # of sons
TAKES_HUSBANDS_NAME, DOUBLE_NAME = 0.87, 0.07  # of wives; the rest keep their own
HAS_SECOND_NAME = 0.65
FOREIGN = 0.03  # of households
FOREIGN_WITH_PESEL = 0.6
MOVES_A_YEAR, NEW_PHONE_A_YEAR = 0.03, 0.04
HAS_PHONE = 0.9  # of adults
_UKRAINIAN = (
    "Szewczenko Shevchenko|Kowalenko Kovalenko|Bondarenko Bondarenko|Tkaczenko Tkachenko|Krawczenko Kravchenko|"
    "Kowalczuk Kovalchuk|Oliinyk Oliynyk|Szewczuk Shevchuk|Polishchuk Poliszczuk|Bondar Bondar|Melnyk Melnyk|"
    "Lysenko Łysenko|Marchenko Marczenko|Rudenko Rudenko|Savchenko Sawczenko|Petrenko Petrenko|Moroz Moroz|"
    "Klymenko Klimenko|Pavlenko Pawlenko|Hrytsenko Hrycenko|Kuzmenko Kuzmenko|Ponomarenko Ponomarenko|"
    "Vasylenko Wasylenko|Kharchenko Charczenko|Levchenko Lewczenko|Karpenko Karpenko|Sydorenko Sydorenko|"
    "Mazur Mazur|Panchenko Panczenko|Havryliuk Hawryluk|Boiko Bojko|Romaniuk Romaniuk|Zakharchenko Zacharczenko"
)
_FOREIGN_FAMILY = [tuple(pair.split()) for pair in _UKRAINIAN.split("|")]
_FOREIGN_GIVEN = {
    "F": [
        "Oksana",
        "Iryna",
        "Olena",
        "Svitlana",
        "Natalia",
        "Tetiana",
        "Yuliia",
        "Anna",
        "Mariia",
        "Kateryna",
        "Liudmyla",
        "Viktoriia",
        "Halyna",
    ],
    "M": [
        "Oleksandr",
        "Serhii",
        "Andrii",
        "Ivan",
        "Volodymyr",
        "Mykola",
        "Dmytro",
        "Viktor",
        "Yurii",
        "Vasyl",
        "Roman",
        "Bohdan",
        "Taras",
        "Petro",
    ],
}


@dataclass(frozen=True)
class Place:
    city: str
    simc: str
    postal_code: str
    streets: tuple[tuple[str, str], ...]  # name and ULIC; none in a village


@dataclass(frozen=True)
class Home:
    place: Place
    street: str
    ulic: str
    house: str
    flat: str


@dataclass(eq=False)
class Person:
    number: int
    sex: str
    family: str
    given: tuple[str, ...]
    born: date
    pesel: str = ""
    documents: list[PatientId] = field(default_factory=list)
    mother: Person | None = None
    mother_family: str = ""  # her maiden name
    maiden: str = ""
    renamed: date | None = None  # the day of the marriage, where it fell into the time of the records
    also_written: str = ""  # another transliteration of the family name
    birth_order: int = 1
    multiple: bool = False
    homes: list[tuple[date, Home]] = field(default_factory=list)  # since when
    phones: list[tuple[date, str]] = field(default_factory=list)
    telling: bool = False  # every record of this person has an address, see hard negatives

    @property
    def age(self) -> int:
        return (TODAY - self.born).days // 365


class Region:
    """Makes people one household at a time."""

    def __init__(self, seed: int) -> None:
        self.rng = random.Random(f"{seed}:people")
        self.people: list[Person] = []
        self._pesels: set[str] = set()
        fake = Faker("pl_PL")
        pool = next(p for p in fake.get_providers() if hasattr(p, "unisex_last_names"))
        places = next(p for p in fake.get_providers() if hasattr(p, "streets_universal"))
        self._families = _Weighted(_family_weights([*pool.unisex_last_names, *pool.male_last_names]))
        given = load.rows("national/pl/given_names.csv")
        self._given = {
            sex: _Weighted([(r["name"], float(r["thousands"])) for r in given if r["sex"] == sex]) for sex in "MF"
        }
        self._places = _Weighted(_places(self.rng, places))

    def household(self) -> list[Person]:
        rng = self.rng
        foreign = rng.random() < FOREIGN
        kind = rng.random()
        if kind < 0.3:
            family, other = self.family(foreign=foreign)
            return [self._adult(rng.choice("MF"), family, other, self.home(), rng.randint(19, 92), foreign=foreign)]
        man, woman = self.couple(rng.randint(24, 75) if kind < 0.6 else rng.randint(24, 48), foreign=foreign)
        found = [man, woman]
        if kind >= 0.6:
            found += self.children(man, woman, rng.choice((1, 1, 2, 2, 2, 3)))
        if kind > 0.92:
            age = man.age + rng.randint(20, 38)
            father = self._adult("M", man.family, man.also_written, man.homes[0][1], age, foreign=foreign)
            if rng.random() < NAMED_AFTER_FATHER * 2:
                father.given = (man.given[0], *father.given[1:])
            found.append(father)
        return found

    def couple(self, age: int, *, foreign: bool = False) -> tuple[Person, Person]:
        family, other = self.family(foreign=foreign)
        man = self._adult("M", family, other, self.home(), age, foreign=foreign)
        return man, self._wife(man, max(20, age - self.rng.randint(-3, 7)), foreign=foreign)

    def children(self, man: Person, woman: Person, count: int, *, twins: bool = False) -> list[Person]:
        rng = self.rng
        found: list[Person] = []
        oldest = max(1, woman.age - 20)
        for _ in range(20):
            if len(found) >= count:
                break
            born = max(TODAY - timedelta(days=rng.randint(40, oldest * 365)), woman.born + timedelta(days=18 * 365))
            if any(abs((born - other.born).days) < 300 for other in found):
                continue
            both = twins or rng.random() < TWIN_BIRTHS
            twins = False
            identical = rng.random() < 0.35
            sex = rng.choice("MF")
            names: set[str] = {c.given[0] for c in found}
            for order in (1, 2) if both else (1,):
                if order == 2 and not identical:
                    sex = rng.choice("MF")
                given = self.given(sex)
                if sex == "M" and rng.random() < NAMED_AFTER_FATHER:
                    given = (man.given[0], *given[1:])
                while given[0] in names:
                    given = self.given(sex)
                names.add(given[0])
                family = feminine(man.family, sex)
                child = self.person(sex, family, given, born, man.homes[0][1], foreign=bool(man.also_written))
                child.also_written = feminine(man.also_written, sex)
                child.mother, child.mother_family = woman, woman.maiden or woman.family
                child.homes = list(woman.homes)
                child.phones = list((woman if woman.phones else man).phones)
                child.birth_order, child.multiple = order, both
                found.append(child)
        return found

    def person(self, sex: str, family: str, given: tuple[str, ...], born: date, home: Home, *, foreign: bool) -> Person:
        rng = self.rng
        made = Person(len(self.people), sex, family, given, born)
        if not foreign or rng.random() < FOREIGN_WITH_PESEL:
            made.pesel = self.pesel(born, sex)
        if foreign:
            for _ in range(rng.choice((1, 1, 1, 2))):
                number = f"F{rng.choice('ABCEFGHX')}{rng.randint(100_000, 999_999)}"
                made.documents.append(PatientId(number, f"{_ROOTS['national_id']}.804"))
        since = TODAY - timedelta(days=HISTORY_DAYS + 1)
        made.homes = [(since, home)]
        if made.age >= 14 and rng.random() < HAS_PHONE:
            made.phones = [(since, self.phone())]
        self.people.append(made)
        return made

    def given(self, sex: str, *, foreign: bool = False) -> tuple[str, ...]:
        rng = self.rng
        if foreign:
            return (rng.choice(_FOREIGN_GIVEN[sex]),)
        first = self._given[sex].draw(rng)
        second = self._given[sex].draw(rng)
        return (first, second) if rng.random() < HAS_SECOND_NAME and second != first else (first,)

    def family(self, *, foreign: bool = False) -> tuple[str, str]:
        """A name in the masculine form, and another way to write it."""
        if foreign:
            one, other = self.rng.choice(_FOREIGN_FAMILY)
            return one, other
        return self._families.draw(self.rng), ""

    def home(self) -> Home:
        rng = self.rng
        place = self._places.draw(rng)
        street, ulic = rng.choice(place.streets) if place.streets else ("", "")
        house = f"{rng.randint(1, 120 if street else 240)}{rng.choice(('', '', '', '', 'A', 'B'))}"
        flat = str(rng.randint(1, 80)) if street and rng.random() < 0.6 else ""
        return Home(place, street, ulic, house, flat)

    def phone(self) -> str:
        return f"{self.rng.choice((5, 6, 7, 8))}{self.rng.randint(0, 99_999_999):08}"

    def pesel(self, born: date, sex: str) -> str:
        century = {18: 80, 19: 0, 20: 20}[born.year // 100]
        while True:
            serial = self.rng.randrange(5_000) * 2 + (sex == "M")
            digits = f"{born.year % 100:02}{born.month + century:02}{born.day:02}{serial:04}"
            number = digits + stdnum_pesel.calc_check_digit(digits)
            if number not in self._pesels:
                self._pesels.add(number)
                return number

    def live(self) -> None:
        """What happened while records were made: moves, new numbers, marriages."""
        rng = self.rng
        for person in self.people:
            if person.mother is not None and person.age < 19:
                # Children move with the mother and are reached by her number.
                person.homes, person.phones = person.mother.homes, person.mother.phones or person.phones
                continue
            for year in range(HISTORY_DAYS // 365):
                day = TODAY - timedelta(days=year * 365 + rng.randrange(365))
                if rng.random() < MOVES_A_YEAR:
                    person.homes = sorted([*person.homes, (day, self.home())], key=lambda h: h[0])
                if person.phones and rng.random() < NEW_PHONE_A_YEAR:
                    person.phones = sorted([*person.phones, (day, self.phone())], key=lambda p: p[0])

    def _adult(self, sex: str, family: str, other: str, home: Home, age: int, *, foreign: bool) -> Person:
        born = TODAY - timedelta(days=age * 365 + self.rng.randrange(365))
        given = self.given(sex, foreign=foreign)
        person = self.person(sex, feminine(family, sex), given, born, home, foreign=foreign)
        person.also_written = feminine(other, sex)
        person.mother_family = feminine(self.family(foreign=foreign)[0], "F")
        return person

    def _wife(self, man: Person, age: int, *, foreign: bool) -> Person:
        rng = self.rng
        own = feminine(self.family(foreign=foreign)[0], "F")
        woman = self._adult("F", own, "", man.homes[0][1], age, foreign=foreign)
        draw = rng.random()
        if draw < TAKES_HUSBANDS_NAME:
            woman.family = feminine(man.family, "F")
        elif draw < TAKES_HUSBANDS_NAME + DOUBLE_NAME:
            woman.family = f"{own}-{feminine(man.family, 'F')}"
        if woman.family != own:
            woman.maiden = own
            married = TODAY - timedelta(days=rng.randrange(max(1, (age - 19) * 365) + 1))
            woman.renamed = married
        return woman


def feminine(family: str, sex: str) -> str:
    return f"{family[:-1]}a" if sex == "F" and family.endswith(("ski", "cki", "dzki")) else family


class _Weighted:
    def __init__(self, weighted) -> None:
        self._items = [item for item, _ in weighted]
        self._sums = list(accumulate(weight for _, weight in weighted))

    def draw(self, rng: random.Random):
        return self._items[bisect_right(self._sums, rng.random() * self._sums[-1])]


def _family_weights(rare: list[str]) -> list[tuple[str, float]]:
    """The listed names with their shares of 37.5 million people; the others share what is left as Zipf has it."""
    listed = [(row["name"], float(row["thousands"])) for row in load.rows("national/pl/family_names.csv")]
    known = {fold(name) for name, _ in listed}
    others = sorted({name for name in rare if fold(name) not in known})
    random.Random("rare").shuffle(others)
    left = 37_500 - sum(weight for _, weight in listed)
    zipf = [1 / (rank + 300) for rank in range(len(others))]
    return listed + [(name, left * z / sum(zipf)) for name, z in zip(others, zipf, strict=True)]


def _places(rng: random.Random, pool) -> list[tuple[Place, float]]:
    """Twenty towns with streets and sixty villages without; a third of the people live in villages."""
    cities = sorted(set(pool.cities))[:80]
    rng.shuffle(cities)
    streets = sorted(set(pool.streets))
    found = []
    for rank, city in enumerate(cities):
        town = rank < 20
        named = (
            tuple((s, f"{rng.randrange(100_000):05}") for s in rng.sample(streets, max(30, 330 // (rank + 1))))
            if town
            else ()
        )
        code = f"{30 + rank // 40:02}-{rng.randint(0, 999):03}"
        found.append((Place(city, f"{rng.randrange(10_000_000):07}", code, named), 60 / (rank + 2) if town else 1.4))
    return found

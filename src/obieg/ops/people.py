"""The fictitious people and providers of the demo: the same seed gives the same region.

Nobody here exists. Names, addresses and numbers are drawn at random and a PESEL is only made to have the right form, so
that it may by chance be someone's; documents made of them say in their text that they are made up.
"""

from __future__ import annotations

import random
import tomllib
from collections.abc import Sequence
from datetime import date, timedelta
from functools import cache
from importlib.resources import files
from typing import Any, NamedTuple

from faker import Faker

from obieg.codes import load
from obieg.domain.identifiers import PatientId
from obieg.domain.persons import Address, Demographics, PersonName, Telecom
from obieg.wire import cda

PEOPLE = 240
SEED = 616
TODAY = date(2026, 10, 1)  # the day on which the population is looked at; its past ends here

_PIK = load.toml("national/pl/pik.toml")
_ROOTS: dict[str, str] = _PIK["roots"]
_NODES: dict[str, str] = _PIK["nodes"]
_PESEL_WEIGHTS = (1, 3, 7, 9, 1, 3, 7, 9, 1, 3)
_NEWBORN_DAYS = 28
OF_AGE = 18
_PARENT_AGE = (20, 45)  # between a parent and a child
_STAFF = 37  # doctors of one facility


class Person(NamedTuple):
    """A fictitious patient; what is not known is empty."""

    number: int
    sex: str  # M, F, U
    family: str = ""
    given: tuple[str, ...] = ()
    born: date | None = None
    pesel: str = ""
    passport: str = ""
    country: str = ""  # ISO 3166-1 numeric, of the passport
    newborn: bool = False
    birth_order: int | None = None
    mother_given: str = ""
    mother_pesel: str = ""
    father_given: str = ""
    street: str = ""
    house: str = ""
    postal_code: str = ""
    city: str = ""
    phone: str = ""

    @property
    def demographics(self) -> Demographics:
        """As a patient identity feed says it."""
        name = PersonName(family=self.family, given=tuple(self.given), use="L")
        address = Address(
            street=f"{self.street} {self.house}".strip(),
            city=self.city,
            postal_code=self.postal_code,
            country=data()["countries"][self.country]["name"] if self.country else "",
        )
        return Demographics(
            names=(name,) if name.family or name.given else (),
            birth_date=self.born.strftime("%Y%m%d") if self.born else "",
            sex=self.sex,
            addresses=(address,) if address != Address() else (),
            telecoms=(Telecom(number=self.phone),) if self.phone else (),
        )


class Facility(NamedTuple):
    """A fictitious provider."""

    key: str
    name: str
    unit: str
    kind: str  # hospital or clinic
    node: str  # OID of its own identifiers
    book: str  # part I of the ministerial code
    regon9: str
    regon14: str
    address: cda.Address
    phone: str

    @property
    def patient_authority(self) -> str:
        """The OID of its numbers of patients."""
        return f"{self.node}.{_NODES['patient']}"

    def patient_id(self, person: Person) -> PatientId:
        """The number by which this provider knows the person."""
        return PatientId(f"{10_000 + person.number * 7 + len(self.name)}", self.patient_authority)

    def identifiers(self, person: Person) -> tuple[PatientId, ...]:
        """All numbers of the person, the provider's own first."""
        found = [self.patient_id(person)]
        if person.pesel:
            found.append(PatientId(person.pesel, _ROOTS["pesel"]))
        if person.passport:
            found.append(PatientId(person.passport, f"{_ROOTS['national_id']}.{person.country}"))
        return tuple(found)


@cache
def facilities() -> dict[str, Facility]:
    """Two hospitals and two clinics, by key."""
    found = {}
    for row in data()["facility"]:
        address = cda.Address(
            country="Polska", postal_code=row["post"], city=row["city"], street=row["street"], house=row["house"]
        )
        plain = {key: row[key] for key in ("key", "name", "unit", "kind", "book", "regon9", "regon14", "phone")}
        node = f"{_ROOTS['provider_node']}.{row['node']}"
        found[row["key"]] = Facility(**plain, node=node, address=address)
    return found


def people(count: int = PEOPLE, seed: int = SEED, today: date = TODAY) -> list[Person]:
    """``count`` people; of a hundred about three newborns, three foreigners, one unknown and two without PESEL."""
    rng = seeded(seed, "people")
    fake = Faker("pl_PL")
    fake.seed_instance(f"{seed}:people")
    found = [_person(number, rng, fake, today) for number in range(1, count + 1)]
    parents = families(found, seed, today)
    return [_child_of(person, parents[person.number]) if person.number in parents else person for person in found]


def families(persons: Sequence[Person], seed: int, today: date = TODAY) -> dict[int, Person]:
    """The parent of each child, as far as an adult of the population can be one; a parent may have several children."""
    rng = seeded(seed, "families")
    adults = [p for p in persons if p.pesel and p.born and age(p, today) >= _PARENT_AGE[0]]
    found: dict[int, Person] = {}
    for child in persons:
        if not (child.pesel and child.born and age(child, today) < OF_AGE):
            continue
        low, high = _PARENT_AGE
        fit = [p for p in adults if p.born and low <= (child.born - p.born).days // 365 <= high]
        several = [p for p in fit if p in found.values()]
        if fit:
            found[child.number] = rng.choice(several if several and rng.randrange(2) else fit)
    return found


def age(person: Person, today: date = TODAY) -> int:
    """In complete years; somebody without a date of birth is of age."""
    born = person.born
    if born is None:
        return OF_AGE
    return today.year - born.year - ((today.month, today.day) < (born.month, born.day))


def _child_of(child: Person, parent: Person) -> Person:
    """The child lives with the parent and has the same family name."""
    masculine, feminine = ("ski", "ska"), ("cki", "cka")
    family = parent.family
    for male, female in (masculine, feminine, ("dzki", "dzka"), ("ny", "na")):
        wanted, other = (male, female) if child.sex == "M" else (female, male)
        if family.endswith(other):
            family = family.removesuffix(other) + wanted
            break
    home = {name: getattr(parent, name) for name in ("street", "house", "postal_code", "city", "phone")}
    return child._replace(family=family, **home)


def pesel(born: date, sex: str, serial: int) -> str:
    """A PESEL of the right form: date with the century in the month, serial number, sex in the tenth digit, control."""
    century = {18: 80, 19: 0, 20: 20, 21: 40, 22: 60}[born.year // 100]
    sexed = serial // 10 * 10 + serial % 5 * 2 + (sex == "M")
    digits = f"{born.year % 100:02}{born.month + century:02}{born.day:02}{sexed % 10_000:04}"
    control = sum(weight * int(digit) for weight, digit in zip(_PESEL_WEIGHTS, digits, strict=True))
    return f"{digits}{-control % 10}"


def _person(number: int, rng: random.Random, fake: Faker, today: date) -> Person:
    draw = rng.randrange(100)
    sex = rng.choice("MF")
    common: dict[str, Any] = {
        "street": fake.street_name(),
        "house": str(rng.randint(1, 140)) + rng.choice(("", "", "", "A", f"/{rng.randint(1, 60)}")),
        "postal_code": f"3{rng.randrange(4)}-{rng.randint(1, 999):03}",
        "city": fake.city(),
        "phone": f"tel:+48{rng.randint(500_000_000, 799_999_999)}",
    }
    family = fake.last_name_male() if sex == "M" else fake.last_name_female()
    given = tuple(dict.fromkeys(_given_name(fake, sex) for _ in range(rng.choice((1, 1, 2)))))
    if draw == 0:
        return Person(number, sex)
    if draw <= 3:
        mother_born = today - timedelta(days=rng.randint(20 * 365, 40 * 365))
        return Person(
            number,
            sex,
            family,
            born=today - timedelta(days=rng.randint(3, _NEWBORN_DAYS)),
            newborn=True,
            birth_order=rng.choice((None, None, 1, 2)),
            mother_given=fake.first_name_female(),
            mother_pesel=pesel(mother_born, "F", rng.randrange(10_000)),
            father_given=rng.choice(("", fake.first_name_male())),
            **common,
        )
    born = _birth_date(rng, today)
    if draw <= 6:
        country, names = rng.choice([*data()["countries"].items()])
        passport = f"{rng.choice('ABCEFGHKLMNP')}{rng.choice('ABCEFGHKLMNP')}{rng.randint(100_000, 999_999)}"
        given = (rng.choice(names[sex]),)
        return Person(
            number, sex, rng.choice(names["family"]), given, born, passport=passport, country=country, **common
        )
    if draw <= 8:
        return Person(number, sex, family, given, born, **common)
    return Person(number, sex, family, given, born, pesel=pesel(born, sex, rng.randrange(10_000)), **common)


def _given_name(fake: Faker, sex: str) -> str:
    name: str = fake.first_name_male() if sex == "M" else fake.first_name_female()
    return name


def _birth_date(rng: random.Random, today: date) -> date:
    low, high = rng.choices(((1, 17), (18, 69), (70, 96)), weights=(12, 56, 32))[0]
    return today - timedelta(days=rng.randint(low * 366, high * 365))


def staff(facility: Facility, seed: int) -> list[tuple[cda.Name, str]]:
    """Names and licence numbers (NPWZ) of those who write the documents of ``facility``."""
    rng = seeded(seed, facility.key, "staff")
    fake = Faker("pl_PL")
    fake.seed_instance(f"{seed}:{facility.key}:staff")
    found = []
    for _ in range(_STAFF):
        sex = rng.choice("MF")
        family = fake.last_name_male() if sex == "M" else fake.last_name_female()
        title = rng.choice(("lek.", "lek.", "dr n. med.", "dr hab. n. med."))
        name = cda.Name(family=(family,), given=(_given_name(fake, sex),), prefix=(title,))
        found.append((name, _npwz(rng)))
    return found


def _npwz(rng: random.Random) -> str:
    """Seven digits; the first is the control: the weighted sum of the others modulo 11, never 0."""
    while True:
        rest = f"{rng.randrange(1_000_000):06}"
        control = sum(weight * int(digit) for weight, digit in enumerate(rest, 1)) % 11
        if control not in {0, 10}:
            return f"{control}{rest}"


def colleagues(facility: Facility, seed: int, role: str, count: int) -> list[tuple[cda.Name, str]]:
    """Names and, for nurses and midwives, licence numbers of those who work at ``facility`` in another role."""
    rng = seeded(seed, facility.key, role)
    fake = Faker("pl_PL")
    fake.seed_instance(f"{seed}:{facility.key}:{role}")
    found = []
    for _ in range(count):
        name = cda.Name(family=(fake.last_name_female(),), given=(_given_name(fake, "F"),))
        found.append((name, f"{_npwz(rng)}{'A' if role == 'midwife' else 'P'}"))
    return found


def seeded(*key: object) -> random.Random:
    """A generator that depends on nothing but ``key``."""
    return random.Random(":".join(map(str, key)))  # noqa: S311 - a made-up population is no secret


@cache
def data() -> dict[str, Any]:
    """``population.toml``."""
    return tomllib.loads(files("obieg.ops").joinpath("population.toml").read_text("utf-8"))

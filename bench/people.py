"""The people whom the patient index knows, those who are announced to it, and the messages about them.

People come from the generator of the linkage benchmark: households with names as frequent as in Poland, so that records
meet under one block as often as in life. Everybody here has a PESEL of their own, so no two of them are ever joined.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from datetime import date
from typing import NamedTuple
from urllib.parse import urlencode

from stdnum.pl import pesel as stdnum_pesel

from bench.linkage.people import Person, Region
from obieg.codes import load
from obieg.domain.identifiers import PatientId
from obieg.domain.matching import Record
from obieg.domain.persons import Address, Demographics, PersonName, Telecom

_ROOTS = load.toml("national/pl/pik.toml")["roots"]
PESEL: str = _ROOTS["pesel"]
SHARE_PEOPLE = 10_000  # people of one share
SHARES = 125  # parts of the serial numbers of the PESEL, each for other people
NEWCOMERS = SHARES - 1  # the share of those who are announced while a benchmark runs
PEOPLE_MAX = NEWCOMERS * SHARE_PEOPLE
_SERIALS = 5_000  # of one day and sex
_HOSPITALS = 3
_DATE_TIME = "20261001120000"
_QUERY_NAME = "IHE PDQ Query"


class Announced(NamedTuple):
    """A person as one hospital announces them."""

    source: str  # facility|application
    record: Record


class _Share(Region):
    """People whose PESELs nobody of another share has."""

    def __init__(self, seed: int, share: int) -> None:
        super().__init__(seed)
        self._share = share

    def pesel(self, born: date, sex: str) -> str:
        century = {18: 80, 19: 0, 20: 20}[born.year // 100]
        while True:
            serial = (self.rng.randrange(_SERIALS // SHARES) * SHARES + self._share) * 2 + (sex == "M")
            digits = f"{born.year % 100:02}{born.month + century:02}{born.day:02}{serial:04}"
            number = digits + stdnum_pesel.calc_check_digit(digits)
            if number not in self._pesels:
                self._pesels.add(number)
                return number


def announced(seed: int, share: int, first_number: int, count: int) -> Iterator[Announced]:
    """So many people; ``first_number`` is the first of the numbers that hospitals give them."""
    region = _Share(seed, share)
    rng = random.Random(f"{seed}:{share}")
    made = 0
    while True:
        for person in region.household():
            if not person.pesel:
                continue
            yield _announced(person, rng.randrange(_HOSPITALS), first_number + made)
            made += 1
            if made == count:
                return


def _announced(person: Person, hospital: int, number: int) -> Announced:
    home = person.homes[0][1]
    house = f"{home.house}/{home.flat}" if home.flat else home.house
    phone = person.phones[0][1] if person.phones else ""
    return Announced(
        f"SZPITAL{hospital}|HIS",
        Record(
            (
                PatientId(str(number), f"{_ROOTS['provider_node']}.{8000 + hospital}.17.1"),
                PatientId(person.pesel, PESEL),
            ),
            Demographics(
                names=(PersonName(person.family, person.given, use="L"),),
                birth_date=f"{person.born:%Y%m%d}",
                sex=person.sex,
                addresses=(
                    Address(
                        street=f"ul. {home.street} {house}" if home.street else f"{home.place.city} {house}",
                        city=home.place.city,
                        postal_code=home.place.postal_code,
                        country="POL",
                        use="H",
                    ),
                ),
                telecoms=(Telecom(number=f"+48{phone}", use="PRN", equipment="CP"),) if phone else (),
            ),
        ),
    )


# messages ------------------------------------------------------------------------------------------------------------


def feed(one: Announced, control_id: str) -> bytes:
    """ITI-8: ADT^A04, as a hospital's system sends it."""
    facility, _, application = one.source.partition("|")
    d = one.record.demographics
    name, home = d.name, d.address
    identifiers = "~".join(f"{i.value}^^^&{i.authority}&ISO" for i in one.record.identifiers)
    phone = f"{d.telecoms[0].number}^PRN^CP" if d.telecoms else ""
    fields = [""] * 13
    fields[2] = identifiers
    fields[4] = f"{name.family}^{'^'.join((name.given[0], ' '.join(name.given[1:])))}^^^^L"
    fields[6:8] = d.birth_date, d.sex
    fields[10] = f"{home.street}^^{home.city}^^{home.postal_code}^{home.country}^H"
    fields[12] = phone
    header = f"MSH|^~\\&|{application}|{facility}|PIX|REGION|{_DATE_TIME}||ADT^A04^ADT_A01|{control_id}|P|2.3.1"
    lines = (
        f"{header}||||||UNICODE UTF-8",
        f"EVN|A04|{_DATE_TIME}",
        f"PID|{'|'.join(fields)}",
        "PV1||O",
    )
    return "".join(line + "\r" for line in lines).encode()


def name_and_birth_query(known: Demographics, control_id: str) -> bytes:
    """ITI-21 by family name, given name and date of birth."""
    asked = f"@PID.5.1^{known.name.family}~@PID.5.2^{known.name.given[0]}~@PID.7^{known.birth_date}"
    lines = (
        f"MSH|^~\\&|EHR|PORADNIA|PDQ|REGION|{_DATE_TIME}||QBP^Q22^QBP_Q21|{control_id}|P|2.5||||||UNICODE UTF-8",
        f"QPD|{_QUERY_NAME}|Q{control_id}|{asked}",
        "RCP|I|10^RD",
    )
    return "".join(line + "\r" for line in lines).encode()


def name_and_birth_search(known: Demographics) -> bytes:
    """ITI-78 of the same."""
    born = known.birth_date
    asked = {
        "family": known.name.family,
        "given": known.name.given[0],
        "birthdate": f"{born[:4]}-{born[4:6]}-{born[6:]}",
    }
    return (
        f"GET /fhir/Patient?{urlencode(asked)} HTTP/1.1\r\nHost: localhost\r\nAccept: application/fhir+json\r\n\r\n"
    ).encode()

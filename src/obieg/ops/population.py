"""Fictitious documents for the demo, as mixed as real ones.

All six templates; corrections, files in place of text, very long texts, times with and without an offset; patients
without PESEL, with a passport, unknown, newborns without a name (:mod:`obieg.ops.people`). What the doctors write
stands in ``population.toml``. The same seed gives the same documents, byte for byte, with the same version of Faker.
"""

from __future__ import annotations

import random
import re
from collections.abc import Iterator, Sequence
from datetime import date, datetime, timedelta
from functools import cache
from typing import Any, NamedTuple

from msgspec.structs import replace

from obieg.codes import load
from obieg.ops.demo_files import pdf, png_curve
from obieg.ops.people import PEOPLE, SEED, TODAY, Facility, Person, data, facilities, people, pesel, seeded, staff
from obieg.wire import cda
from obieg.wire.cda_writer import Attachment, CdaDocument, Diagnosis, Result, Section, Stay, write_document

__all__ = [
    "DOCUMENTS",
    "PEOPLE",
    "SEED",
    "TODAY",
    "DemoDocument",
    "Facility",
    "Person",
    "demo_documents",
    "documents",
    "facilities",
    "people",
    "pesel",
]

DOCUMENTS = 1200

_PIK = load.toml("national/pl/pik.toml")
_ROOTS: dict[str, str] = _PIK["roots"]
_SYSTEMS: dict[str, str] = _PIK["systems"]
_NODES: dict[str, str] = _PIK["nodes"]
_TIME = "%Y%m%d%H%M%S"
_FICTITIOUS = "Dokument demonstracyjny. Wszystkie dane są fikcyjne."
_YEARS_OF_HISTORY = 3
_STAY_DAYS_MAX = 12
_ADULT = 16
# How often each template occurs, by kind of facility; how many documents of a hundred have which peculiarity.
_TEMPLATES = {
    "hospital": {"18": 26, "19": 9, "15": 16, "16": 16, "17": 24, "28": 9},
    "clinic": {"15": 50, "16": 15, "17": 35},
}
_CORRECTED, _BINARY, _LONG, _WITH_OFFSET, _DATE_ONLY = 7, 8, 6, 15, 10
_SHARES = {"szpital-a": 45, "szpital-b": 33, "poz-a": 13, "poz-b": 9}  # of all documents


class DemoDocument(NamedTuple):
    """A document and what it takes to hand it in."""

    person: Person
    facility: Facility
    data: bytes
    unique_id: str
    replaces: tuple[str, ...] = ()
    confidentiality: str = "N"
    author: tuple[str, cda.Name] = ("", cda.Name())  # licence (root#extension) and name


def documents(
    population: Sequence[Person], count: int, seed: int, hospital: Facility, today: date = TODAY
) -> Iterator[DemoDocument]:
    """``count`` documents that ``hospital`` made of its patients; a correction follows what it corrects."""
    writer = _Writer(hospital, seed, today)
    made = 0
    while made < count:
        for document in writer.next(writer.rng.choice(population)):
            yield document
            made += 1
            if made == count:
                break


def demo_documents(
    population: Sequence[Person], count: int = DOCUMENTS, seed: int = SEED, today: date = TODAY
) -> Iterator[DemoDocument]:
    """The documents of all facilities, one facility after another."""
    left = count
    for key, share in _SHARES.items():
        part = left if key == [*_SHARES][-1] else count * share // 100
        left -= part
        yield from documents(population, part, seed, facilities()[key], today)


# Documents


class _Episode(NamedTuple):
    """What one document is about."""

    person: Person
    case: dict[str, Any]
    age: int
    start: datetime
    written: datetime
    days: int


class _Writer:
    """Makes the documents of one facility, numbering them as it goes."""

    def __init__(self, facility: Facility, seed: int, today: date) -> None:
        self.facility = facility
        self.rng = seeded(seed, facility.key)
        self.today = today
        self._number = 0
        self._staff = staff(facility, seed)

    def next(self, person: Person) -> Iterator[DemoDocument]:
        """A document of ``person`` and, sometimes, its correction."""
        kinds = _TEMPLATES[self.facility.kind]
        template = self.rng.choices([*kinds], weights=[*kinds.values()])[0]
        first = self._document(self._episode(person), template)
        yield self._demo(person, first)
        if self.rng.randrange(100) < _CORRECTED:
            yield self._demo(person, self._correction(first), (first.id.oid_form,))

    def _demo(self, person: Person, document: CdaDocument, replaces: tuple[str, ...] = ()) -> DemoDocument:
        author = document.author
        return DemoDocument(
            person,
            self.facility,
            write_document(document),
            document.id.oid_form,
            replaces,
            document.confidentiality,
            (f"{author.ids[0].root}#{author.ids[0].extension}", author.names[0]),
        )

    def _episode(self, person: Person) -> _Episode:
        born = person.born or date(self.today.year - 45, 6, 15)
        first = max(born, date(self.today.year - _YEARS_OF_HISTORY, 1, 1))
        day = first + timedelta(days=self.rng.randint(1, max(1, (self.today - first).days - _STAY_DAYS_MAX - 2)))
        age = (day - born).days // 365
        if age == 0:
            day = born + timedelta(days=self.rng.randint(1, 2))
        cases = [case for case in data()["case"] if _suits(case, person, age, self.facility.kind)]
        days = self.rng.randint(2, _STAY_DAYS_MAX) if age else 1
        start = datetime(day.year, day.month, day.day, self.rng.randint(7, 19), self.rng.randrange(60))  # noqa: DTZ001 - Polish local time, as the documents write it
        return _Episode(
            person, self.rng.choice(cases), age, start, start + timedelta(hours=self.rng.randint(1, 6)), days
        )

    def _document(self, episode: _Episode, template: str) -> CdaDocument:
        self._number += 1
        case, rng = episode.case, self.rng
        study = data()["studies"][rng.choice(case["studies"])]
        cell = {
            "18": case["ward"],
            "19": "4900",
            "16": study["cell"],
            "17": "7100",
        }.get(template, case["clinic"])
        written = episode.written + timedelta(days=episode.days) if template == "18" else episode.written
        radiology = template == "16" and study["cell"] in {"7220", "7240", "7250"}
        specialty = {"17": "0708"}.get(template, "0726" if radiology else case["specialty"])
        sections, events = self._content(episode, template, study)
        attachment = None
        diagnoses = _diagnoses(case, rng)
        if rng.randrange(100) < _BINARY or (template == "16" and study.get("image") and rng.randrange(2)):
            attachment = self._attachment(episode, sections, study if template == "16" else {})
        code = "4900" if template == "19" else cell
        period = cda.Period(self._time(episode.start), self._time(written)) if template == "18" else None
        point = self._time(episode.start)
        return CdaDocument(
            template=template,
            id=self._id("document", f"{written.year}{self._number:06}"),
            set_id=self._id("set", f"{self._number}"),
            effective_time=self._shown(written),
            patient=_patient(episode.person, self.facility),
            author=self._author(specialty, cell, written, laboratory=template == "17"),
            title=_title(template, study, case),
            confidentiality=_confidentiality(case, rng),
            service_events=events,
            encounter=cda.Encounter(
                ids=(self._id("encounter", f"{self._number + 300_000}"),),
                code=cda.Coded(code, _SYSTEMS["cell_specialty"], cell_name(code)),
                time=period or cda.Period(point, point),
                disposition=_disposition(rng) if template == "18" else None,
            ),
            orders=(self._id("order", f"{rng.randint(1, 99_999):05}"),) if template in {"16", "17"} else (),
            sections=() if attachment else sections,
            attachment=attachment,
            attachment_diagnoses=diagnoses[:1] if attachment and template != "17" else (),
        )

    def _correction(self, first: CdaDocument) -> CdaDocument:
        """The next version of the same set: what it says is the same, said a day later, with a remark on top."""
        self._number += 1
        written = datetime.strptime(first.author.time, _TIME) + timedelta(days=1)  # noqa: DTZ007 - local time
        sections = first.sections
        if sections:
            remark = "Korekta: poprawiono oczywistą omyłkę pisarską w poprzedniej wersji dokumentu."
            sections = (replace(sections[0], paragraphs=(remark, *sections[0].paragraphs)), *sections[1:])
        return replace(
            first,
            id=self._id("document", f"{written.year}{self._number:06}"),
            effective_time=self._shown(written),
            author=replace(first.author, time=_shown(written)),
            version_number=2,
            previous=cda.RelatedDocument("RPLC", ids=(first.id,), set_id=first.set_id, version=1),
            sections=sections,
        )

    def _content(
        self, episode: _Episode, template: str, study: dict[str, Any]
    ) -> tuple[tuple[Section, ...], tuple[cda.ServiceEvent, ...]]:
        """Sections and services of one template."""
        case, rng = episode.case, self.rng
        common = _common(episode.age)
        point = cda.Period(self._time(episode.start), self._time(episode.start))
        consultation = cda.ServiceEvent(
            code=cda.Coded("89.00", _SYSTEMS["icd9_pl"], "Porada lekarska, konsultacja"), time=point
        )
        history = Section("history", paragraphs=(self._say(case["history"], episode),))
        examination = Section(
            "examination", paragraphs=(self._say(common["general"], episode), self._say(common["chest"], episode))
        )
        diagnoses = Section("diagnoses", diagnoses=_diagnoses(case, rng))
        end = Section("recommendations", items=self._recommendations(episode), paragraphs=(_FICTITIOUS,))
        results = self._results(episode, rng.sample(case["panels"], min(len(case["panels"]), rng.randint(1, 2))))
        if template == "16":
            texts = (self._say(study["texts"], episode), _FICTITIOUS)
            event = cda.ServiceEvent(code=cda.Coded(study["code"], _SYSTEMS["icd9_pl"], study["name"]), time=point)
            return (Section("study", paragraphs=texts),), (event,)
        if template == "17":
            every = self._results(episode, case["panels"])
            material = "Materiał: krew żylna" + (", mocz" if "mocz" in case["panels"] else "")
            return (Section("laboratory", paragraphs=(material, _FICTITIOUS), results=every),), ()
        if template == "15":
            return (history, examination, diagnoses, end), (consultation,)
        if template == "28":
            guidance = Section(
                "recommendations", "Wskazówki dla lekarza kierującego", (self._say(case["treatment"], episode),)
            )
            return (diagnoses, history, guidance, end), (consultation,)
        if template == "19":
            refusal = Section("refusal", paragraphs=(self._say(common["refusal"], episode),))
            return (diagnoses, history, examination, Section("results", results=results), refusal, end), ()
        summary = [self._say(case["epicrisis"], episode)]
        if "days" in common and rng.randrange(100) < _LONG:
            summary += [self._say(common["days"], episode) for _ in range(rng.randint(60, 160))]
        stays = Section("stays", stays=self._stays(episode))
        treatment = Section("treatment", paragraphs=(self._say(case["treatment"], episode),))
        return (
            stays,
            diagnoses,
            Section("results", results=results),
            treatment,
            Section("discharge_summary", paragraphs=tuple(summary)),
            end,
        ), ()

    def _stays(self, episode: _Episode) -> tuple[Stay, ...]:
        ward = episode.case["ward"]
        end = episode.start + timedelta(days=episode.days)
        if self.rng.randrange(3) or episode.days < 3:
            return (Stay(ward, cell_name(ward), cda.Period(_day(episode.start), _day(end))),)
        moved = episode.start + timedelta(days=1)
        first = Stay("4902", cell_name("4902"), cda.Period(_day(episode.start), _day(moved)))
        return (first, Stay(ward, cell_name(ward), cda.Period(_day(moved), _day(end))))

    def _recommendations(self, episode: _Episode) -> tuple[str, ...]:
        own = episode.case["recommendations"]
        common = self.rng.sample(_common(episode.age)["recommendations"], 2)
        return tuple(_fill(text, self.rng, episode) for text in (*own, *common))

    def _results(self, episode: _Episode, panels: Sequence[str]) -> tuple[Result, ...]:
        taken = self._time(episode.start - timedelta(minutes=self.rng.randint(20, 90)))
        found = []
        for panel in panels:
            drift = self.rng.gauss(0, 0.18), self.rng.random() * self.rng.choice((0, 1, 1))
            found += [_result(row, self.rng, drift, taken) for row in data()["panels"][panel]]
        return tuple(found)

    def _attachment(self, episode: _Episode, sections: Sequence[Section], study: dict[str, Any]) -> Attachment:
        if study.get("image"):
            return Attachment("image/png", png_curve(self.rng))
        lines = [f"{self.facility.name}", f"{episode.person.family} {' '.join(episode.person.given)}".strip()]
        lines += [paragraph for section in sections for paragraph in (*section.paragraphs, *section.items)]
        return Attachment("application/pdf", pdf(lines))

    def _say(self, texts: Sequence[str], episode: _Episode) -> str:
        return _fill(self.rng.choice(texts), self.rng, episode)

    def _author(self, specialty: str, cell: str, written: datetime, *, laboratory: bool) -> cda.Author:
        name, npwz = self._staff[int(specialty) % len(self._staff)]
        profession = "DLAB" if laboratory else "LEK"
        root = _ROOTS["npwz_diagnostician" if laboratory else "npwz_physician"]
        coded = cda.Coded(specialty, _SYSTEMS["physician_specialty"], _specialties()[specialty])
        return cda.Author(
            ids=(cda.Id(root, npwz),),
            names=(replace(name, prefix=("mgr",)) if laboratory else name,),
            function=cda.Coded(profession, _SYSTEMS["profession"], _PIK["professions"][profession]),
            specialty=None if laboratory else coded,
            time=_shown(written),
            organisation=_organisation(self.facility, cell),
        )

    def _id(self, kind: str, extension: str) -> cda.Id:
        return cda.Id(f"{self.facility.node}.{_NODES[kind]}", extension)

    def _time(self, moment: datetime) -> str:
        return moment.strftime("%Y%m%d%H%M")

    def _shown(self, moment: datetime) -> str:
        """Most systems write local time without an offset, some with it, some only the day."""
        draw = self.rng.randrange(100)
        if draw < _DATE_ONLY:
            return _day(moment)
        if draw < _DATE_ONLY + _WITH_OFFSET:
            return f"{_shown(moment)}{'+0200' if 4 <= moment.month <= 9 else '+0100'}"
        return _shown(moment)


def _common(age: int) -> dict[str, Any]:
    """What is said of patients of this age whatever they have."""
    kind = "newborn" if age == 0 else "child" if age < _ADULT else "adult"
    texts: dict[str, Any] = data()["common"][kind]
    return texts


def _suits(case: dict[str, Any], person: Person, age: int, kind: str) -> bool:
    low, high = case["age"]
    if not low <= age <= high or case.get("sex", person.sex) != person.sex:
        return False
    return kind == "hospital" or case["specialty"] not in {"0724", "0752"}


def _patient(person: Person, facility: Facility) -> cda.Patient:
    name = cda.Name(family=(person.family,), given=person.given) if person.family else None
    if person.newborn:
        name = cda.Name(family=(person.family,), prefix=("syn" if person.sex == "M" else "córka",))
    mother = cda.Name(family=(person.family,), given=(person.mother_given,)) if person.newborn else None
    address = cda.Address(
        country="Polska",
        postal_code=person.postal_code,
        city=person.city,
        street=person.street,
        house=person.house,
        post_city=person.city if person.number % 5 == 0 else "",
    )
    return cda.Patient(
        ids=tuple(cda.Id(id_.authority, id_.value) for id_ in facility.identifiers(person)),
        names=(name,) if name else (),
        birth_time=_day(person.born) if person.born else "",
        gender=person.sex,
        addresses=(address,) if person.city else (),
        telecoms=(cda.Telecom(person.phone),) if person.phone else (),
        mother=cda.Name(given=(person.mother_given,)) if person.newborn else None,
        father=cda.Name(given=(person.father_given,)) if person.father_given else None,
        guardian_ids=(cda.Id(_ROOTS["pesel"], person.mother_pesel),) if person.newborn else (),
        guardian=mother,
        multiple_birth=person.birth_order is not None,
        birth_order=person.birth_order,
        provider=cda.Organisation(ids=(cda.Id(_ROOTS["entity"], facility.book),)),
    )


def _organisation(facility: Facility, cell: str) -> cda.Organisation:
    """Cell, provider by REGON-14, entity: the chain of the official samples."""
    entity = cda.Organisation(
        ids=(cda.Id(_ROOTS["entity"], facility.book), cda.Id(_ROOTS["regon9"], facility.regon9)), name=facility.name
    )
    unit = cda.Organisation(ids=(cda.Id(_ROOTS["regon14"], facility.regon14),), name=facility.unit, whole=entity)
    return cda.Organisation(
        ids=(cda.Id(_ROOTS["cell"], f"{facility.book}-{int(cell) % 1000:03}"),),
        name=cell_name(cell),
        telecoms=(cda.Telecom(facility.phone, "PUB"),),
        addresses=(facility.address,),
        industry=cda.Coded(cell, _SYSTEMS["cell_specialty"], cell_name(cell)),
        whole=unit,
    )


def _diagnoses(case: dict[str, Any], rng: random.Random) -> tuple[Diagnosis, ...]:
    others = rng.sample(case["secondary"], rng.randint(0, len(case["secondary"])))
    code, name = case["main"]
    return (Diagnosis(code, name, main=True), *(Diagnosis(code, name) for code, name in others))


def _result(row: Sequence[Any], rng: random.Random, drift: tuple[float, float], taken: str) -> Result:
    """A value around the middle of the range, never below zero.

    ``drift`` is what all values of a panel share: how far the patient is from the average, and how ill he is.
    """
    code, name, unit, low, high, decimals, shift = row
    bottom = float(low or 0)
    width = float(high) - bottom
    value = bottom + width * (0.5 + drift[0] + rng.gauss(0, 0.08) + shift * drift[1])
    value = max(value, width * 0.05)
    lower, upper = (f"{limit:.{decimals}f}" if limit != "" else "" for limit in (low, high))
    return Result(name, f"{value:.{decimals}f}", unit, lower, upper, code, taken)


def _disposition(rng: random.Random) -> cda.Coded:
    code, name = rng.choice(
        (
            ("1", "zakończenie procesu terapeutycznego lub diagnostycznego"),
            ("2", "skierowanie do dalszego leczenia w lecznictwie ambulatoryjnym"),
        )
    )
    return cda.Coded(code, _SYSTEMS["discharge_mode"], name)


def _title(template: str, study: dict[str, Any], case: dict[str, Any]) -> str:
    if template == "16":
        name: str = study["name"]
        return name
    return f"Konsultacja: {_specialties()[case['specialty']]}" if template == "15" else ""


def _confidentiality(case: dict[str, Any], rng: random.Random) -> str:
    if not case.get("restricted"):
        return "N"
    return "V" if rng.randrange(5) == 0 else "R"


# Words


_CHOICE = re.compile(r"\{([^{}]+)\}|\[([^\[\]/]+)/([^\[\]]+)\]")


def _fill(text: str, rng: random.Random, episode: _Episode) -> str:
    """Resolves what population.toml leaves open."""

    def chosen(match: re.Match[str]) -> str:
        choice, male, female = match.groups()
        if choice is None:
            return str(male if episode.person.sex == "M" else female)
        if choice == "wiek":
            return _age(episode.age, episode.person.sex)
        low, dots, high = choice.partition("..")
        if not dots:
            return rng.choice(str(choice).split("|"))
        decimals = len(low.partition(".")[2])
        return f"{rng.uniform(float(low), float(high)):.{decimals}f}".replace(".", ",")

    filled = _CHOICE.sub(chosen, text)
    return filled[0].upper() + filled[1:]


def _age(age: int, sex: str) -> str:
    male = sex == "M"
    if age < 1:
        return "noworodek"
    years = ("roczny" if male else "roczna") if age == 1 else f"{age}-{'letni' if male else 'letnia'}"
    if age < 14:
        return f"{years} {'chłopiec' if male else 'dziewczynka'}"
    return f"{years} {'pacjent' if male else 'pacjentka'}"


def _shown(moment: datetime) -> str:
    return moment.strftime(_TIME)


def _day(day: date) -> str:
    return day.strftime("%Y%m%d")


# Tables


@cache
def _cells() -> dict[str, str]:
    return {row["code"]: row["display"] for row in load.rows("national/pl/facility_types.csv")}


def cell_name(code: str) -> str:
    """What a cell of this specialty (part VIII) is called."""
    return _cells()[code]


@cache
def _specialties() -> dict[str, str]:
    return {row["specialty"]: row["display"].lower() for row in load.rows("national/pl/practice_settings.csv")}

"""What is known of the demo's patients besides their documents: whom they chose, permitted, forbade (docs/access.md).

Written as FHIR resources, as ``obieg lab --load`` takes a world (docs/lab.md): people and facilities are named by their
identifiers, documents by the entryUUIDs under which the demo hands them in. How often each fact occurs stands in
``population.toml``; the same seed gives the same facts.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Iterator, Sequence
from datetime import timedelta
from typing import Any, NamedTuple
from uuid import NAMESPACE_OID, UUID, uuid5

from obieg.codes import load
from obieg.domain.accounts import Place, Professional
from obieg.ops.demo_settings import ENTITY, organisation
from obieg.ops.people import OF_AGE, TODAY, Facility, Person, age, colleagues, data, facilities, families, seeded, staff
from obieg.ops.population import DemoDocument
from obieg.wire import cda

_PIK = load.toml("national/pl/pik.toml")
_ROOTS: dict[str, str] = _PIK["roots"]
_CLASSES: str = _PIK["systems"]["klas_dok_p1"]
_CONFIDENTIALITY = "http://terminology.hl7.org/CodeSystem/v3-Confidentiality"
_SCOPE = {"system": "http://terminology.hl7.org/CodeSystem/consentscope", "code": "patient-privacy"}
_CATEGORY = {"system": "http://loinc.org", "code": "59284-0"}
_ACTOR = {"system": "http://terminology.hl7.org/CodeSystem/v3-ParticipationType", "code": "IRCP"}
_ADULT, _HELPS, _ELDERLY, _OLD = 18, 30, 70, 75
_CHILDREN = 2  # of the parent who is shown, if there is one
_NOTICES, _OBJECTION = "urn:obieg:policy:notices", "urn:obieg:policy:objection-after-death"
_MIDWIFE_AGE = 15

Resource = dict[str, Any]


class Worker(NamedTuple):
    """Somebody who can log in at the region's pages."""

    login: str
    name: str
    identifier: str  # root#extension, or the login of who has no licence
    place: Place
    acts_for: Professional | None = None  # whom an assistant assists


class Listed(NamedTuple):
    """A patient whom the stand-in of Węzeł Krajowy offers."""

    person: Person
    note: str


class Facts(NamedTuple):
    """All that is told."""

    resources: list[Resource]
    deceased: list[tuple[Person, str]]  # with the day, YYYYMMDD
    reached: list[Person]  # who want to be told, by telephone
    staying: list[tuple[Person, str]]  # in which hospital, by its key
    listed: list[Listed]


def entry_uuid(unique_id: str) -> UUID:
    """The entryUUID under which the demo hands a document in."""
    return uuid5(NAMESPACE_OID, unique_id)


def workers(seed: int) -> list[Worker]:
    """Those who can log in, in the order of population.toml."""
    found: dict[str, Worker] = {}
    for row in data()["account"]:
        facility, role = facilities()[row["facility"]], row["role"]
        name, licence = _people_of(facility, seed, role)[row["of"]]
        doctor = role == "medical-doctor"
        number = f"{_ROOTS['npwz_physician' if doctor else 'npwz_nurse']}#{licence}"
        identifier = number if doctor or role in ("nurse", "midwife") else row["login"]
        shown = " ".join((*name.prefix, *name.given, *name.family))
        whom = None
        if "for" in row:
            assisted = found[row["for"]]
            whom = Professional(assisted.place.organisation, assisted.identifier, assisted.name)
        place = Place(organisation(facility), facility.name, role)
        found[row["login"]] = Worker(row["login"], shown, identifier, place, whom)
    return [*found.values()]


def _people_of(facility: Facility, seed: int, role: str) -> list[tuple[cda.Name, str]]:
    return staff(facility, seed) if role == "medical-doctor" else colleagues(facility, seed, role, 4)


def protagonist(
    made: Sequence[DemoDocument], seed: int, account: str = "lekarz-szpital"
) -> tuple[Person, DemoDocument] | None:
    """An adult with many documents, and one of them that is no business of the hospital of ``account``.

    Whoever has that account has written nothing about them. None where the population is too small for one.
    """
    doctor = next(worker for worker in workers(seed) if worker.login == account)
    replaced = {unique_id for document in made for unique_id in document.replaces}
    known = {document.person.number for document in made if document.author[0] == doctor.identifier}
    shown = [
        d
        for d in made
        if d.person.pesel
        and d.person.number not in known
        and _ADULT <= age(d.person) < _ELDERLY
        and d.unique_id not in replaced
    ]
    fit = [d for d in shown if organisation(d.facility) != doctor.place.organisation and d.confidentiality == "N"]
    if not fit:
        return None
    of = Counter(document.person.number for document in shown)
    where = Counter(number for number, _ in {(d.person.number, d.facility.key) for d in shown})
    first = max(fit, key=lambda d: (where[d.person.number], of[d.person.number], -d.person.number))
    return first.person, next(d for d in fit if d.person.number == first.person.number)


def facts(persons: Sequence[Person], made: Sequence[DemoDocument], seed: int) -> Facts:
    """What is known of ``persons``, whose documents are ``made``."""
    return _Teller(persons, made, seed).tell()


class _Teller:
    def __init__(self, persons: Sequence[Person], made: Sequence[DemoDocument], seed: int) -> None:
        self._table = data()["facts"]
        self._known = [p for p in persons if p.pesel]
        self._adults = [p for p in self._known if age(p) >= _ADULT]
        self._parents = families(persons, seed)
        self._seed = seed
        self._documents: dict[int, list[DemoDocument]] = {}
        for document in made:
            self._documents.setdefault(document.person.number, []).append(document)
        found = protagonist(made, seed)
        self._first = found[0] if found else None
        self._resources: list[Resource] = []
        self._counts: Counter[tuple[str, int]] = Counter()
        self._dead: list[tuple[Person, str]] = []
        self._reached: list[Person] = []
        self._staying: list[tuple[Person, str]] = []

    def tell(self) -> Facts:
        proxy = close = None
        for person in self._known:
            rng = seeded(self._seed, "facts", person.number)
            self._declare(person, rng)
            if person.number in self._parents:
                self._related(person, self._parents[person.number], "GUARD")
            if person is self._first or self._draws(rng, "notices"):
                self._state(person, _NOTICES)
                self._reached.append(person)
            if person is self._first:  # about whom nothing else is decided: the README shows them
                continue
            if self._draws(rng, "deceased") and age(person) >= _OLD:
                close = self._died(person, rng) or close
                continue
            if age(person) >= _ELDERLY and self._draws(rng, "authorised"):
                proxy = self._related(person, self._other(person, rng), "HPOWATT") or proxy
            if age(person) >= _ADULT and self._draws(rng, "informed"):
                self._related(person, self._other(person, rng), "informed")
            if self._draws(rng, "in_hospital"):
                self._stay(person, rng)
            if self._draws(rng, "protected"):
                self._protect(person)
            self._consent(person, rng)
        listed = [*self._listed(proxy, close)]
        return Facts(self._resources, self._dead, self._reached, self._staying, listed)

    def _draws(self, rng: random.Random, name: str) -> bool:
        return bool(rng.randrange(100) < self._table[name])

    def _other(self, person: Person, rng: random.Random) -> Person | None:
        others = [p for p in self._adults if p is not person and _HELPS <= age(p) < _ELDERLY]
        return rng.choice(others) if others else None

    # who ----------------------------------------------------------------------------------------------------------

    def _declare(self, person: Person, rng: random.Random) -> None:
        """The chosen team; the first doctor of the first clinic has, among others, those whom the README shows."""
        shares = self._table["declared"]
        key = rng.choices([*shares], weights=[*shares.values()])[0]
        chosen = rng.randrange(self._table["doctors"])
        if person is self._first:
            key, chosen = next(iter(shares)), 0
        facility = facilities()[key]
        members = [("doctor", "npwz_physician", staff(facility, self._seed)[chosen][1])]
        members.append(("nurse", "npwz_nurse", colleagues(facility, self._seed, "nurse", 2)[chosen % 2][1]))
        if person.sex == "F" and (age(person) >= _MIDWIFE_AGE):
            members.append(("midwife", "npwz_nurse", colleagues(facility, self._seed, "midwife", 1)[0][1]))
        self._add(
            "CareTeam",
            person,
            status="active",
            subject=_patient(person),
            period={"start": self._table["declared_since"]},
            participant=[
                {
                    "role": [{"coding": [{"code": role}]}],
                    "member": _identified(_ROOTS[root], licence),
                    "onBehalfOf": _organisation(facility),
                }
                for role, root, licence in members
            ],
        )

    def _related(self, patient: Person, other: Person | None, code: str) -> Person | None:
        if other is not None:
            self._add(
                "RelatedPerson",
                patient,
                active=True,
                identifier=[{"system": f"urn:oid:{_ROOTS['pesel']}", "value": other.pesel}],
                patient=_patient(patient),
                relationship=[{"coding": [{"code": code}]}],
                name=[{"family": other.family, "given": [*other.given]}],
            )
        return other

    def _died(self, person: Person, rng: random.Random) -> Person | None:
        day = TODAY - timedelta(days=rng.randint(20, 300))
        self._dead.append((person, f"{day:%Y%m%d}"))
        if self._draws(rng, "objected"):
            self._state(person, _OBJECTION)
        return self._related(person, self._other(person, rng), "SPS") if self._draws(rng, "close_of_deceased") else None

    def _stay(self, person: Person, rng: random.Random) -> None:
        hospital = rng.choice([f for f in facilities().values() if f.kind == "hospital"])
        self._staying.append((person, hospital.key))
        day = TODAY - timedelta(days=rng.randint(0, self._table["in_hospital_days"]))
        self._add(
            "Encounter",
            person,
            status="in-progress",
            **{"class": {"system": "http://terminology.hl7.org/CodeSystem/v3-ActCode", "code": "IMP"}},
            subject=_patient(person),
            period={"start": f"{day}T{rng.randint(8, 20):02}:00:00+02:00"},
            serviceProvider=_organisation(hospital),
        )

    def _protect(self, person: Person) -> None:
        self._add(
            "Patient",
            person,
            meta={"security": [{"system": "http://terminology.hl7.org/CodeSystem/v3-ActCode", "code": "CEL"}]},
            identifier=[{"system": f"urn:oid:{_ROOTS['pesel']}", "value": person.pesel}],
        )

    # what they want -----------------------------------------------------------------------------------------------

    def _consent(self, person: Person, rng: random.Random) -> None:
        """Each kind of permit and of restriction by itself: several may come together."""
        table = self._table
        clinics, hospitals = ([f for f in facilities().values() if f.kind == k] for k in ("clinic", "hospital"))
        hospital = rng.choice(hospitals)
        doctor = _identified(_ROOTS["npwz_physician"], rng.choice(staff(hospital, self._seed))[1])
        documents = self._documents.get(person.number, [])
        document = rng.choice(documents) if documents else None
        until = {"period": {"end": table["consented_until"]}}
        classes = {"code": [{"coding": [{"system": f"urn:oid:{_CLASSES}", "code": table["class"]}]}]}
        last = TODAY.replace(year=TODAY.year - 1)
        kinds: dict[str, Resource] = {
            "consent_facility": {**until, **_by(_organisation(hospital))},
            "consent_person": {**until, **_by(doctor)},
            "consent_class": {**until, **_by(_organisation(hospital)), **classes},
            "consent_time": {**until, **_by(_organisation(hospital)), "dataPeriod": {"start": str(last)}},
            "restrict_class": classes,
            "restrict_label": {"securityLabel": [{"system": _CONFIDENTIALITY, "code": table["label"]}]},
            "restrict_facility": _by(_organisation(rng.choice([*clinics, *hospitals]))),
        }
        if document is not None:
            this = {"data": [{"meaning": "instance", "reference": _document(document)}]}
            kinds |= {"consent_document": {**until, **_by(_organisation(hospital)), **this}, "restrict_document": this}
        for name in sorted(kinds):
            if self._draws(rng, name):
                kind = "permit" if name.startswith("consent") else "deny"
                self._say(person, provision={"type": kind, **kinds[name]})

    def _state(self, person: Person, policy: str) -> None:
        self._say(person, policy=[{"uri": policy}])

    def _say(self, person: Person, **said: Any) -> None:
        rule = {} if "policy" in said else {"policyRule": {"coding": [{"code": "PPSC"}]}}
        self._add(
            "Consent",
            person,
            status="active",
            scope={"coding": [_SCOPE]},
            category=[{"coding": [_CATEGORY]}],
            patient=_patient(person),
            dateTime=str(TODAY),
            **rule,
            **said,
        )

    def _add(self, kind: str, person: Person, **content: Any) -> None:
        self._counts[kind, person.number] += 1
        id_ = f"demo-{person.number}-{self._counts[kind, person.number]}"
        self._resources.append({"resourceType": kind, "id": id_, **content})

    # whom the stand-in of Węzeł Krajowy offers ------------------------------------------------------------------------

    def _listed(self, proxy: Person | None, close: Person | None) -> Iterator[Listed]:
        children = Counter(parent.number for parent in self._parents.values())
        parent = min(self._adults, key=lambda p: (abs(children[p.number] - _CHILDREN), p.number), default=None)
        youth = next((p for p in self._known if 16 <= age(p) < OF_AGE), None)
        if parent is not None and not children[parent.number]:
            parent = None
        told = data()["standing_of"]
        seen: set[int] = set()
        for name, person in zip(told, (self._first, parent, proxy, youth, close), strict=True):
            if person is not None and person.number not in seen:
                seen.add(person.number)
                yield Listed(person, told[name])


def _patient(person: Person) -> Resource:
    return _identified(_ROOTS["pesel"], person.pesel)


def _organisation(facility: Facility) -> Resource:
    return _identified(ENTITY, facility.book)


def _document(document: DemoDocument) -> Resource:
    return {"reference": f"DocumentReference/{entry_uuid(document.unique_id)}"}


def _identified(root: str, value: str) -> Resource:
    return {"identifier": {"system": f"urn:oid:{root}", "value": value}}


def _by(who: Resource) -> Resource:
    return {"actor": [{"role": {"coding": [_ACTOR]}, "reference": who}]}

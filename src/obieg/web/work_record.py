"""A patient's record as a page of professionals shows it, read from the FHIR resources that the node answers with.

Nothing here asks or decides: what is not in the answers is not known.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, date, datetime
from typing import Any, NamedTuple

from obieg.codes.load import toml
from obieg.domain import grounds
from obieg.domain.own_documents import CLASS
from obieg.domain.zone import WARSAW
from obieg.web.figures import between, number
from obieg.web.patient_records import unique_id
from obieg.web.seen_events import Event

_TABLE = toml("document_kinds.toml")
_LOINC: str = _TABLE["system"]
KINDS: dict[str, dict[str, Any]] = _TABLE["kinds"]
_KIND_OF = {code: kind for kind, row in KINDS.items() for code in row["types"]}
_ABSENT = "absent-unknown"  # what the code system of IPS for "nothing is known" is named after
_PESEL = f"urn:oid:{toml('national/pl/pik.toml')['roots']['pesel']}"
_ENDLESS = 2099  # from this year on an end says nothing


# people -------------------------------------------------------------------------------------------------------------


class Person(NamedTuple):
    """Who a patient is."""

    id: str  # logical id of the Patient
    name: str
    sex: str  # male, female, other, unknown
    birth_date: str  # as FHIR writes it
    age: int | None
    died: str  # date; "" of who lives
    pesel: str
    city: str


def read_person(patient: Mapping[str, Any], today: date) -> Person:
    """Of a Patient."""
    name = _first(patient.get("name", ()))
    died = str(patient.get("deceasedDateTime", ""))[:10] or ("?" if patient.get("deceasedBoolean") else "")
    born = str(patient.get("birthDate", ""))
    return Person(
        id=patient["id"],
        name=" ".join([*name.get("given", ()), name.get("family", "")]).strip(),
        sex=str(patient.get("gender", "unknown")),
        birth_date=born,
        age=_age(born, today if died in ("", "?") else _date(died) or today),
        died=died,
        pesel=next((i["value"] for i in patient.get("identifier", ()) if i.get("system") == _PESEL), ""),
        city=next((a["city"] for a in patient.get("address", ()) if a.get("city")), ""),
    )


def _first(items: Iterable[Mapping[str, Any]]) -> Mapping[str, Any]:
    """Of a list of FHIR; {} of none."""
    return next(iter(items), {})


def _date(text: str) -> date | None:
    try:
        return date.fromisoformat(text)
    except ValueError:
        return None


def _age(born: str, on: date) -> int | None:
    day = _date(born)
    return on.year - day.year - ((on.month, on.day) < (day.month, day.day)) if day is not None else None


# the basis ----------------------------------------------------------------------------------------------------------


class Basis(NamedTuple):
    """Why a record is seen, and until when."""

    bases: tuple[str, ...] = ()
    ends: Mapping[str, datetime] = {}  # of those whose end matters

    def __bool__(self) -> bool:
        """Whether there is any."""
        return bool(self.bases)

    @property
    def told(self) -> tuple[str, ...]:
        """The bases to be named; that one is an author says something only where nothing else opens the record."""
        return tuple(basis for basis in self.bases if basis != "author") or self.bases


def read_basis(access: str) -> Basis:
    """Of what an answer says of access (docs/access.md, Answers)."""
    said = grounds.read(access)
    return Basis(tuple(said), {basis: end for basis, end in said.items() if end is not None and end.year < _ENDLESS})


# documents ----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class Document:
    """A document of the timeline."""

    id: str
    unique_id: str
    title: str
    kind: str  # a key of KINDS
    class_name: str  # as its affinity domain calls it
    own: bool  # the patient has added it
    made: str  # when it was made, as FHIR writes it; "" where that is not said
    begin: str  # of the service
    end: str
    author: str
    author_number: str
    facility: str
    unit: str
    setting: str
    place: str
    language: str
    content_type: str
    size: int
    labels: tuple[str, ...]
    status: str
    registered: str
    replaces: tuple[str, ...]
    source: str  # who holds it
    older: tuple[Document, ...] = field(default=())  # versions that it takes the place of, the newest first

    @property
    def when(self) -> str:
        """The day by which it stands on the timeline."""
        return self.begin or self.made or self.registered

    @property
    def icon(self) -> str:
        """Of its kind."""
        return str(KINDS[self.kind]["icon"])

    @property
    def year(self) -> str:
        """In which it stands on the timeline."""
        return self.when[:4]


def read_document(resource: Mapping[str, Any], source: str) -> Document:
    """Of a DocumentReference of MHD."""
    contained = {f"#{r['id']}": r for r in resource.get("contained", ())}
    content = _first(resource.get("content", ())).get("attachment", {})
    context = resource.get("context", {})
    organisations, people = _authors(resource, contained)
    author = _first(people)
    class_name = _display(_first(resource.get("category", ())))
    period = context.get("period", {})
    return Document(
        id=resource["id"],
        unique_id=unique_id(resource.get("masterIdentifier", {})) or resource["id"],
        title=content.get("title", "") or resource.get("description", "") or class_name,
        kind=_kind(resource.get("type", {})),
        class_name=class_name,
        own=_code(_first(resource.get("category", ()))) == CLASS,
        made=_local(content.get("creation", "")),
        begin=_local(period.get("start", "")),
        end=_local(period.get("end", "")),
        author=_name(author),
        author_number=next((i["value"] for i in author.get("identifier", ()) if i.get("value")), ""),
        facility=next(iter(organisations), ""),
        unit=next(iter(organisations[1:]), ""),
        setting=_display(context.get("practiceSetting", {})),
        place=_display(context.get("facilityType", {})),
        language=content.get("language", ""),
        content_type=content.get("contentType", ""),
        size=int(content.get("size", 0)),
        labels=tuple(filter(None, (_code(label) for label in resource.get("securityLabel", ())))),
        status=resource.get("status", ""),
        registered=_local(str(resource.get("date", ""))),
        replaces=tuple(
            r["target"]["reference"].rpartition("/")[2]
            for r in resource.get("relatesTo", ())
            if r.get("code") == "replaces" and "reference" in r.get("target", {})
        ),
        source=source,
    )


def _authors(
    resource: Mapping[str, Any], contained: Mapping[str, Mapping[str, Any]]
) -> tuple[list[str], list[Mapping[str, Any]]]:
    """Names of organisations, the facility before its units, and people."""
    organisations, people = [], []
    for author in resource.get("author", ()):
        named = contained.get(author.get("reference", ""), {})
        if named.get("resourceType") == "PractitionerRole":
            people.append(contained.get(named.get("practitioner", {}).get("reference", ""), {}))
            named = contained.get(named.get("organization", {}).get("reference", ""), {})
        if named.get("resourceType") == "Organization":
            organisations.append(named.get("name", "") or _identifier(named))
        elif named.get("resourceType") == "Practitioner":
            people.append(named)
    return list(dict.fromkeys(filter(None, organisations))), [p for p in people if p]


def _identifier(named: Mapping[str, Any]) -> str:
    return next((str(i["value"]) for i in named.get("identifier", ()) if i.get("value")), "")


def _name(person: Mapping[str, Any]) -> str:
    name = _first(person.get("name", ()))
    said = " ".join([*name.get("prefix", ()), *name.get("given", ()), name.get("family", "")]).strip()
    return said or name.get("text", "") or _identifier(person)


def _display(concept: Mapping[str, Any]) -> str:
    coding = _first(concept.get("coding", ()))
    return str(concept.get("text", "") or coding.get("display", "") or coding.get("code", ""))


def _code(concept: Mapping[str, Any]) -> str:
    return str(_first(concept.get("coding", ())).get("code", ""))


def _kind(concept: Mapping[str, Any]) -> str:
    codes = (c.get("code", "") for c in concept.get("coding", ()) if c.get("system") == _LOINC)
    return next((_KIND_OF[code] for code in codes if code in _KIND_OF), "other")


def types_of(kind: str) -> str:
    """A kind as a parameter of ITI-67."""
    return ",".join(f"{_LOINC}|{code}" for code in KINDS[kind]["types"])


def timeline(documents: Iterable[Document]) -> tuple[list[Document], int]:
    """One timeline of what several sources hold, newest first, and how many duplicates were joined.

    A document that several hold stands once; what was replaced stands below what replaced it.
    """
    known: dict[str, Document] = {}
    duplicates = 0
    for document in documents:
        duplicates += document.unique_id in known
        known.setdefault(document.unique_id, document)
    by_id = {document.id: document for document in known.values()}
    replaced = {id_ for document in known.values() for id_ in document.replaces}
    newest = [_with_older(d, by_id) for d in known.values() if d.id not in replaced and d.status != "superseded"]
    return sorted(newest, key=lambda d: (d.when, d.registered), reverse=True), duplicates


def _with_older(document: Document, by_id: Mapping[str, Document]) -> Document:
    older, waiting = {}, [*document.replaces]
    while waiting:
        found = by_id.get(waiting.pop(0))
        if found is not None and found.id not in older and found.id != document.id:
            older[found.id] = found
            waiting += found.replaces
    return replace(document, older=tuple(older.values()))


def by_year(found: Iterable[Document | Event]) -> list[tuple[str, list[Document | Event]]]:
    """The timeline in pieces, as it stands on a page, the newest first."""
    years: dict[str, list[Document | Event]] = {}
    for each in sorted(found, key=lambda each: each.when, reverse=True):
        years.setdefault(each.year, []).append(each)
    return list(years.items())


class Facility(NamedTuple):
    """From where there are documents, and since when."""

    name: str
    documents: int
    first: str
    last: str


def facilities(documents: Iterable[Document]) -> list[Facility]:
    """Of a timeline, the one with most documents first."""
    found: dict[str, list[str]] = {}
    for document in documents:
        found.setdefault(document.facility, []).append(document.when)
    listed = [Facility(name, len(days), min(days), max(days)) for name, days in found.items()]
    return sorted(listed, key=lambda f: (-f.documents, f.name))


class Source(NamedTuple):
    """Who was asked for documents, and what came of it."""

    key: str  # names its words on pages
    documents: int
    answered: bool


# emergency data -----------------------------------------------------------------------------------------------------


class Said(NamedTuple):
    """One statement of the emergency data."""

    text: str
    code: str = ""  # of ICD-10 and the like
    more: str = ""  # reaction, dose
    at: str = ""


class Emergency(NamedTuple):
    """Emergency data; None of a kind: no document says anything about it."""

    allergies: list[Said] | None
    medicines: list[Said] | None
    problems: list[Said] | None
    devices: list[Said] | None
    made: str  # when it was put together
    documents: int  # of which it was made


def read_emergency(bundle: Mapping[str, Any]) -> Emergency:
    """Of a patient summary (IPS)."""
    resources = _resources(bundle)
    return Emergency(
        allergies=_said(resources, "AllergyIntolerance", "code", _reaction),
        medicines=_said(resources, "MedicationStatement", "medicationCodeableConcept", _dose),
        problems=_said(resources, "Condition", "code", lambda _: ""),
        devices=_said(resources, "DeviceUseStatement", "device", lambda _: ""),
        made=str(bundle.get("timestamp", "")),
        documents=sum(r["resourceType"] == "Provenance" for r in resources),
    )


def _resources(bundle: Mapping[str, Any]) -> list[dict[str, Any]]:
    return [entry["resource"] for entry in bundle.get("entry", ())]


def _said(resources: Sequence[dict[str, Any]], kind: str, concept: str, more: Any) -> list[Said] | None:
    found = [r for r in resources if r["resourceType"] == kind]
    known = [r for r in found if not any(_ABSENT in c.get("system", "") for c in r.get(concept, {}).get("coding", ()))]
    if not known:
        denied = any(c.get("code", "").startswith("no-known") for r in found for c in r[concept].get("coding", ()))
        return [] if denied else None
    said = (
        Said(
            _display(r.get(concept, {})) or str(r.get(concept, {}).get("display", "")),
            _icd(r.get(concept, {})),
            more(r),
            str(r.get("onsetDateTime", "") or r.get("recordedDate", "") or r.get("effectiveDateTime", "")),
        )
        for r in known
    )
    return list(dict.fromkeys(said))


def _icd(concept: Mapping[str, Any]) -> str:
    return next((c["code"] for c in concept.get("coding", ()) if "icd-10" in c.get("system", "")), "")


def _reaction(resource: Mapping[str, Any]) -> str:
    reactions = resource.get("reaction", ())
    return ", ".join(_display(m) for reaction in reactions for m in reaction.get("manifestation", ()))


def _dose(resource: Mapping[str, Any]) -> str:
    return "; ".join(filter(None, (d.get("text", "") for d in resource.get("dosage", ()))))


# laboratory results -------------------------------------------------------------------------------------------------


class Value(NamedTuple):
    """A result at a moment."""

    at: str
    number: float | None
    text: str  # as it is read
    low: float | None
    high: float | None
    document: str  # id of the document that says it; "" where that is not known
    by: str

    @property
    def mark(self) -> str:
        """Low or high where it is outside of its range, else ""."""
        if self.number is None:
            return ""
        if self.high is not None and self.number > self.high:
            return "high"
        return "low" if self.low is not None and self.number < self.low else ""

    @property
    def range(self) -> str:
        """The range of reference as it is read."""
        return between(self.low, self.high)


class Test(NamedTuple):
    """All results of one test, oldest first."""

    key: str
    name: str
    unit: str
    values: list[Value]

    @property
    def last(self) -> Value:
        """The newest."""
        return self.values[-1]

    @property
    def earlier(self) -> Value | None:
        """The one before it."""
        return self.values[-2] if len(self.values) > 1 else None


def read_results(bundle: Mapping[str, Any]) -> list[Test]:
    """Laboratory results of a patient summary, by test in the order of names; equal names and units are one test."""
    tests: dict[tuple[str, str], list[Value]] = {}
    for r in _resources(bundle):
        if r["resourceType"] != "Observation" or not _is_laboratory(r):
            continue
        quantity = r.get("valueQuantity", {})
        value = quantity.get("value")
        limits = _first(r.get("referenceRange", ()))
        text = (
            number(value)
            if value is not None
            else str(r.get("valueString", "") or _display(r.get("valueCodeableConcept", {})))
        )
        if not text:
            continue
        found = Value(
            at=str(r.get("effectiveDateTime", "") or r.get("effectivePeriod", {}).get("start", "")),
            number=float(value) if value is not None else None,
            text=quantity.get("comparator", "") + text,
            low=_limit(limits, "low"),
            high=_limit(limits, "high"),
            document=str(r.get("meta", {}).get("source", "")).removeprefix("urn:uuid:"),
            by=str(_first(r.get("performer", ())).get("display", "")),
        )
        tests.setdefault((_display(r.get("code", {})), quantity.get("unit", "")), []).append(found)
    return [
        Test(f"r{index}", name, unit, sorted(values, key=lambda v: v.at))
        for index, ((name, unit), values) in enumerate(sorted(tests.items(), key=lambda item: item[0][0].lower()))
    ]


def _is_laboratory(resource: Mapping[str, Any]) -> bool:
    return any(c.get("code") == "laboratory" for k in resource.get("category", ()) for c in k.get("coding", ()))


def _limit(limits: Mapping[str, Any], name: str) -> float | None:
    value = limits.get(name, {}).get("value")
    return float(value) if value is not None else None


class Point(NamedTuple):
    """A result on a chart."""

    x: float
    y: float
    value: Value


class Chart(NamedTuple):
    """A trend, in units of its own drawing (``WIDTH`` by ``HEIGHT``)."""

    points: list[Point]
    line: str  # points of a polyline
    band: tuple[float, float] | None  # top and height of the range of reference
    top: str
    bottom: str


WIDTH, HEIGHT, LEFT, RIGHT, ABOVE, BELOW = 640, 160, 56, 24, 14, 26


def chart(test: Test) -> Chart | None:
    """The trend of a test; None where fewer than two results are numbers."""
    values = [v for v in test.values if v.number is not None and _moment(v.at) is not None]
    if len(values) < 2:
        return None
    limits = [limit for v in values[-1:] for limit in (v.low, v.high) if limit is not None]
    numbers = [v.number for v in values if v.number is not None]
    low, high = min([*numbers, *limits]), max([*numbers, *limits])
    margin = (high - low or abs(high) or 1) * 0.1
    low, high = low - margin, high + margin

    def y(value: float) -> float:
        return round(HEIGHT - BELOW - (value - low) / (high - low) * (HEIGHT - ABOVE - BELOW), 1)

    moments = [m.timestamp() for v in values if (m := _moment(v.at)) is not None]
    first, span = moments[0], moments[-1] - moments[0] or 1
    points = [
        Point(round(LEFT + (at - first) / span * (WIDTH - LEFT - RIGHT), 1), y(v.number or 0), v)
        for at, v in zip(moments, values, strict=True)
    ]
    band = None
    if limits:
        last = values[-1]
        top = y(last.high) if last.high is not None else float(ABOVE)
        bottom = y(last.low) if last.low is not None else float(HEIGHT - BELOW)
        band = (top, round(bottom - top, 1))
    line = " ".join(f"{p.x},{p.y}" for p in points)
    return Chart(points, line, band, number(round(max(numbers), 4)), number(round(min(numbers), 4)))


def _moment(text: str) -> datetime | None:
    try:
        found = datetime.fromisoformat(text)
    except ValueError:
        return None
    return found if found.tzinfo is not None else found.replace(tzinfo=UTC)


def moment_of(text: str) -> datetime | None:
    """The moment that FHIR writes so; None where only a day is said, or nothing."""
    return _moment(text) if "T" in text else None


def _local(text: str) -> str:
    """As it is in Poland: the day may be another one than in UTC."""
    found = moment_of(text)
    return found.astimezone(WARSAW).isoformat(timespec="minutes") if found is not None else text

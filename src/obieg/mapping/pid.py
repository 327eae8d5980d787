"""PID and the person it describes, both ways (HL7 2.5 sections 3.4.2, 2.A; ITI TF-2:3.8.4.1.2, 3.21.4.2.2.5, 3.30.5).

Read are PID-3, 5 to 8, 11, 13 to 18, 21, 23 to 26, 29 and 30; the index keeps nothing else. An empty field says
nothing; the HL7 null ``""`` says that there is no value any more. Identifiers are named by the OID of their assigning
authority; a namespace alone (CX-4.1) is translated where the node knows it. TERYT codes are taken from XAD-9
(municipality) and XAD-10 (place), which stand for county and census tract.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from datetime import date, datetime, time
from functools import lru_cache
from typing import Any, Final

from obieg.codes.load import toml
from obieg.domain.authorities import Authorities
from obieg.domain.identifiers import PatientId, is_oid
from obieg.domain.persons import Address, Demographics, PersonName, Telecom
from obieg.domain.problems import Finding
from obieg.wire.hl7v2 import Composite, Delimiters, Message, Repetition, Segment, field, repetitions_of

NULL = '""'
VALUE_LENGTH_MAX = 200  # characters of an identifier or a demographic value
_TABLES = toml("hl7v2.toml")
_TIME = re.compile(r"(\d{4}(?:\d\d){0,5})(\.\d{1,4})?([+-]\d{4})?\Z", re.ASCII)
_DATE_DIGITS, _TIME_DIGITS = 8, 14
_LANGUAGE = re.compile(r"[a-z]{2,3}(-[a-z0-9]{2,8})*\Z")
_MUNICIPALITY = re.compile(r"\d{7}\Z", re.ASCII)
_PRIVATE, _WORK = "PRN", "WPN"  # HL7 table 0201: what a number in PID-13, PID-14 is where nothing is said
_NO_NAME = ("", "", "", "", "", "", "U")  # HL7 table 0200, unspecified: PID-5 must not be empty
_UNSAID: Final = object()


# reading -------------------------------------------------------------------------------------------------------------


class Reading:
    """Reads a message and collects what is wrong with it in ``findings``."""

    def __init__(self, message: Message, authorities: Authorities) -> None:
        self.message = message
        self.findings: list[Finding] = []
        self.authorities = authorities

    def find(self, code: str, detail: str, location: str) -> None:
        """Adds a finding."""
        self.findings.append(Finding(code, detail, location))

    def segment(self, name: str) -> Segment | None:
        """The one segment of that name."""
        found = self.message.all(name)
        if not found:
            self.find("SegmentSequenceError", f"the message has no {name} segment", name)
        elif len(found) > 1:
            self.find("SegmentSequenceError", f"one {name} segment is expected, not {len(found)}", name)
        return found[0] if found else None

    def identifiers(self, segment: Segment, number: int) -> dict[PatientId, str]:
        """The identifiers of a CX field, each with the location where it stands first."""
        identifiers: dict[PatientId, str] = {}
        location = f"{segment.name}-{number}"
        findings = len(self.findings)
        for index, repetition in enumerate(self.message.repetitions(segment, number)):
            # A null id names nobody; older systems send it beside real ones.
            if repetition.raw and not repetition.raw.startswith(NULL):
                identifier = self.identifier(repetition, where := f"{location}({index})")
                if identifier is not None:
                    identifiers.setdefault(identifier, where)
        if not identifiers and len(self.findings) == findings:
            self.find("RequiredFieldMissing", "no patient identifier is given", location)
        return identifiers

    def identifier(self, cx: Repetition, location: str) -> PatientId | None:
        """The identifier, or None with the reasons added to the findings."""
        before = len(self.findings)
        delimiters = cx.delimiters
        pieces = cx.raw.split(delimiters.component, 4)
        value = pieces[0].strip()
        if delimiters.escape in value or delimiters.subcomponent in value:
            [value] = cx.parts(1, 1)
        if not value:
            self.find("RequiredFieldMissing", "the identifier has no value (CX-1)", f"{location}-1")
        elif not value.isprintable():  # two readers would see two identifiers, or one that ends elsewhere
            self.find("DataTypeError", "the identifier (CX-1) has a control character", f"{location}-1")
        if len(value) > VALUE_LENGTH_MAX:
            self._length(value, f"{location}-1")
        authority = _authority(pieces[3] if len(pieces) > 3 else "", delimiters, cx.codec, self.authorities)
        if not authority:
            namespace, oid, kind = cx.parts(4, 3)
            authority = self.authority(namespace, oid, kind, f"{location}-4")
        return PatientId(value, authority) if len(self.findings) == before else None

    def authority(self, namespace: str, oid: str, kind: str, location: str) -> str:
        """The OID of an assigning authority (HD), or "" with the reason added; ``location`` is that of the HD."""
        before = len(self.findings)
        if oid:
            if not is_oid(oid):
                self.find("DataTypeError", "the assigning authority (CX-4.2) is not an OID", f"{location}-2")
            elif kind != "ISO":
                self.find("TableValueNotFound", "the authority's type (CX-4.3) must be ISO", f"{location}-3")
            else:
                self._named_alike(namespace, oid, location)
        elif not namespace:
            said = "the assigning authority is not named; send CX-4.2 with its OID and CX-4.3 ISO"
            self.find("RequiredFieldMissing", said, location)
        elif (listed := self.authorities.by_name(namespace)) is not None:
            oid = listed.oid
        else:
            said = (
                f"No authority configured for the namespace {namespace[:40]!r}; send CX-4.2 with its OID and CX-4.3 ISO"
            )
            self.find("UnknownKeyIdentifier", said, f"{location}-1")
        return oid if len(self.findings) == before else ""

    def _named_alike(self, namespace: str, oid: str, location: str) -> None:
        if not self.authorities.accepts(oid):
            said = f"No authority configured for the OID {oid}: this region takes no identifiers of it"
            self.find("UnknownKeyIdentifier", said, f"{location}-2")
            return
        if not namespace:
            return
        named, listed = self.authorities.by_name(namespace), self.authorities.by_oid(oid)
        if (named is not None and named.oid != oid) or (listed is not None and listed.name not in ("", namespace)):
            said = f"namespace {namespace[:40]!r} and OID {oid} are different authorities in this region"
            self.find("DataTypeError", said, location)

    def demographics(self, pid: Segment) -> dict[str, Any]:
        """What the segment states, by name of the field of Demographics."""
        values: dict[str, Any] = {}
        fields, delimiters, codec = pid.fields, self.message.delimiters, self.message.codec
        last = len(fields)
        for number, name, read in _FIELDS:
            if number > last:
                break
            raw = fields[number - 1]
            if not raw:
                continue
            if raw == NULL:
                values[name] = _EMPTY[name]
            elif (value := read(self, repetitions_of(raw, delimiters, codec), number)) is not _UNSAID:
                values[name] = value
        private, work = pid.field(13), pid.field(14)
        if private or work:
            telecoms = self._telecoms(pid, 13, _PRIVATE) if private else []
            if work:
                telecoms += self._telecoms(pid, 14, _WORK)
            if telecoms or NULL in (private, work):
                values["telecoms"] = tuple(telecoms)
        return values

    def _names(self, repetitions: Sequence[Repetition], number: int) -> Any:
        names, said = [], False
        for repetition in repetitions:
            texts = _filled(repetition.texts(), 7)
            if any(texts[:5]):
                said = True
                family, given, further, suffix, prefix, _, use = _valued(texts)
                name = PersonName(
                    family=family,
                    given=(*([given] if given else []), *further.split()),
                    prefix=prefix,
                    suffix=suffix,
                    use=use,
                )
                if len(repetition.raw) > VALUE_LENGTH_MAX:
                    for value in (name.family, *name.given, name.prefix, name.suffix, name.use):
                        self._length(value, f"PID-{number}")
                if name.family or name.given:
                    names.append(name)
        if len(names) > 1:
            names.sort(key=lambda name: name.use != "L")  # the legal one first, the others as sent
        return tuple(names) if said else _UNSAID

    def _mother_name(self, repetitions: Sequence[Repetition], number: int) -> Any:
        names = self._names(repetitions, number)
        return (names[0] if names else None) if names is not _UNSAID else _UNSAID

    def _addresses(self, repetitions: Sequence[Repetition], number: int) -> Any:
        addresses, said = [], False
        for repetition in repetitions:
            texts = _filled(repetition.texts(), 10)
            if any(texts[:6]) or texts[8]:
                said = True
                street, other, city, state, postal_code, country, use, _, county, tract = _valued(texts)
                if not street:  # SAD: street and number may stand apart
                    street = f"{repetition.get(1, 2).strip()} {repetition.get(1, 3).strip()}".strip()
                if other:
                    street = f"{street} {other}".strip()
                terc = county if county and _MUNICIPALITY.match(county) else ""
                simc = tract if tract and _MUNICIPALITY.match(tract) else ""
                address = Address(street, city, state, postal_code, country, use, terc, simc)
                if len(repetition.raw) > VALUE_LENGTH_MAX:
                    for value in (address.street, city, state, postal_code, country, use):
                        self._length(value, f"PID-{number}")
                if street or city or state or postal_code or country or terc or simc:
                    addresses.append(address)
        return tuple(addresses) if said else _UNSAID

    def _telecoms(self, pid: Segment, number: int, use: str) -> list[Telecom]:
        telecoms = []
        for repetition in self.message.repetitions(pid, number):
            texts = _valued(_filled(repetition.texts(), 8))
            written, said, equipment, email, country_code, area_code, local_number, _ = texts
            telecom = Telecom(
                number=written or email or _spelt(country_code, area_code, local_number),
                use=said or use,
                equipment=equipment,
                country_code=country_code,
                area_code=area_code,
                local_number=local_number,
            )
            if len(telecom.number) > VALUE_LENGTH_MAX:
                self._length(telecom.number, f"PID-{number}")
            if telecom.number:
                telecoms.append(telecom)
        return telecoms

    def _mother(self, repetitions: Sequence[Repetition], number: int) -> Any:
        for index, repetition in enumerate(repetitions):
            # A number that names no authority cannot be looked up; it says nothing here.
            if repetition.get() == NULL:
                return None
            if repetition.get(4, 1) or repetition.get(4, 2):
                return self.identifier(repetition, f"PID-{number}({index})")
        return _UNSAID

    def _birth_date(self, repetitions: Sequence[Repetition], number: int) -> Any:
        return self._time(repetitions[0].get().strip(), _DATE_DIGITS, f"PID-{number}", "date of birth")

    def _deceased_at(self, repetitions: Sequence[Repetition], number: int) -> Any:
        return self._time(repetitions[0].get().strip(), _TIME_DIGITS, f"PID-{number}", "time of death")

    def _time(self, text: str, digits: int, location: str, what: str) -> Any:
        if not text:
            return _UNSAID
        if text == NULL:
            return ""
        value = read_time(text)
        if value is None:
            self.find("DataTypeError", f"the {what} is not YYYY, YYYYMM or YYYYMMDD", location)
            return ""
        return value[:digits]

    def _sex(self, repetitions: Sequence[Repetition], number: int) -> Any:
        return self._coded(repetitions, number, "sex", "administrative sex must be one of F, M, O, U, A, N")

    def _yes_no(self, repetitions: Sequence[Repetition], number: int) -> Any:
        return self._coded(repetitions, number, "yes_no", "must be Y or N")

    def _coded(self, repetitions: Sequence[Repetition], number: int, table: str, wanted: str) -> Any:
        text = repetitions[0].get().strip()
        if not text:
            return _UNSAID
        if text.upper() not in _TABLES[table]:
            self.find("TableValueNotFound", wanted, f"PID-{number}")
            return _UNSAID
        return _TABLES[table][text.upper()]

    def _birth_order(self, repetitions: Sequence[Repetition], number: int) -> Any:
        text = repetitions[0].get().strip()
        if not text:
            return _UNSAID
        if not re.fullmatch(r"[1-9]\d?", text, re.ASCII):
            self.find("DataTypeError", "the birth order is not a number from 1 to 99", f"PID-{number}")
            return _UNSAID
        return int(text)

    def _language(self, repetitions: Sequence[Repetition], number: int) -> Any:  # noqa: ARG002
        text = repetitions[0].get().strip().lower().replace("_", "-")
        text = _TABLES["languages"].get(text, text)
        return text if _LANGUAGE.match(text) else _UNSAID

    def _plain(self, repetitions: Sequence[Repetition], number: int) -> Any:
        text = repetitions[0].get().strip()
        self._length(text, f"PID-{number}")
        return _text(text) if text else _UNSAID

    def _length(self, value: str, location: str) -> None:
        if len(value) > VALUE_LENGTH_MAX:
            self.find("DataTypeError", f"longer than {VALUE_LENGTH_MAX} characters", location)


_FIELDS: tuple[tuple[int, str, Callable[[Reading, Sequence[Repetition], int], Any]], ...] = (
    (5, "names", Reading._names),  # noqa: SLF001 - the table of the class itself
    (6, "mother_name", Reading._mother_name),  # noqa: SLF001
    (7, "birth_date", Reading._birth_date),  # noqa: SLF001
    (8, "sex", Reading._sex),  # noqa: SLF001
    (11, "addresses", Reading._addresses),  # noqa: SLF001
    (15, "language", Reading._language),  # noqa: SLF001
    (16, "marital_status", Reading._plain),  # noqa: SLF001
    (17, "religion", Reading._plain),  # noqa: SLF001
    (18, "account", Reading._plain),  # noqa: SLF001
    (21, "mother", Reading._mother),  # noqa: SLF001
    (23, "birth_place", Reading._plain),  # noqa: SLF001
    (24, "multiple_birth", Reading._yes_no),  # noqa: SLF001
    (25, "birth_order", Reading._birth_order),  # noqa: SLF001
    (26, "citizenship", Reading._plain),  # noqa: SLF001
    (29, "deceased_at", Reading._deceased_at),  # noqa: SLF001
    (30, "deceased", Reading._yes_no),  # noqa: SLF001
)
_EMPTY = {name: getattr(Demographics(), name) for name in Demographics.__struct_fields__}


@lru_cache(maxsize=1 << 16)  # days of birth
def read_time(text: str) -> str | None:
    """The digits of a TS to the second, in the time zone it was written in; None where it is no time."""
    match = _TIME.match(text)
    if match is None:
        return None
    digits = match[1]
    padded = digits + "00000101000000"[len(digits) :]
    try:
        date(int(padded[:4]), int(padded[4:6]), int(padded[6:8]))
        if len(digits) > _DATE_DIGITS:
            time(int(padded[8:10]), int(padded[10:12]), int(padded[12:14]))
    except ValueError:
        return None
    return digits


@lru_cache(maxsize=1 << 10)
def _authority(raw: str, delimiters: Delimiters, codec: str, authorities: Authorities) -> str:
    """The OID that CX-4 names, or "" where there is something to be said about it."""
    namespace, oid, kind = Repetition(raw, delimiters, codec).parts(1, 3)
    return Reading(Message((), delimiters, codec), authorities).authority(namespace, oid, kind, "")


def _spelt(country_code: str, area_code: str, local_number: str) -> str:
    parts = (f"+{country_code.lstrip('+')}" if country_code else "", area_code, local_number)
    return " ".join(filter(None, parts))


def _filled(texts: tuple[str, ...], length: int) -> tuple[str, ...]:
    return (texts + ("",) * length)[:length]


def _valued(texts: tuple[str, ...]) -> tuple[str, ...]:
    """The texts with nothing where there is no value any more."""
    return tuple(map(_text, texts)) if NULL in texts else texts


def _text(text: str) -> str:
    return "" if text == NULL else text


# writing -------------------------------------------------------------------------------------------------------------


def write_cx(identifier: PatientId, authorities: Authorities) -> Composite:
    """The identifier with all three parts of its authority, as far as they are known (ITI TF-2 Appendix E)."""
    return (identifier.value, "", "", (authorities.name_of(identifier.authority), identifier.authority, "ISO"))


def write_pid(
    identifiers: Sequence[PatientId],
    person: Demographics,
    *,
    authorities: Authorities,
    delimiters: Delimiters = Delimiters(),  # noqa: B008 - immutable
    number: int = 0,
    updated_at: datetime | None = None,
) -> Segment:
    """PID with all that is known; ``number`` is PID-1, 0 for none. ``updated_at`` (PID-33) is UTC."""
    fields = [""] * 33

    def put(position: int, *repetitions: Composite) -> None:
        fields[position - 1] = field(*repetitions, delimiters=delimiters)

    if number:
        fields[0] = str(number)
    put(3, *(write_cx(i, authorities) for i in identifiers))
    put(5, *(map(_xpn, person.names) if person.names else (_NO_NAME,)))
    if person.mother_name is not None:
        put(6, _xpn(person.mother_name))
    fields[6], fields[7] = person.birth_date, person.sex
    put(11, *map(_xad, person.addresses))
    work = [t for t in person.telecoms if t.use == _WORK]
    put(13, *(_xtn(t) for t in person.telecoms if t not in work))
    put(14, *map(_xtn, work))
    for position, text in (
        (15, person.language),
        (16, person.marital_status),
        (17, person.religion),
        (18, person.account),
        (23, person.birth_place),
        (26, person.citizenship),
        (29, person.deceased_at),
    ):
        if text:
            put(position, text)
    if person.mother is not None:
        put(21, write_cx(person.mother, authorities))
    fields[23], fields[29] = _yes_or_no(person.multiple_birth), _yes_or_no(person.deceased)
    if person.birth_order is not None:
        fields[24] = str(person.birth_order)
    if updated_at is not None:
        fields[32] = updated_at.strftime("%Y%m%d%H%M%S+0000")
    while not fields[-1]:
        fields.pop()
    return Segment("PID", tuple(fields))


def _xpn(name: PersonName) -> Composite:
    first, further = name.given[:1], name.given[1:]
    return (name.family, *(first or ("",)), " ".join(further), name.suffix, name.prefix, "", name.use)


def _xad(address: Address) -> Composite:
    a = address
    return (a.street, "", a.city, a.state, a.postal_code, a.country, a.use, "", a.terc, a.simc)


def _xtn(telecom: Telecom) -> Composite:
    email = telecom.number if "@" in telecom.number else ""
    number = "" if email else telecom.number
    t = telecom
    return (number, t.use, t.equipment, email, t.country_code, t.area_code, t.local_number)


def _yes_or_no(said: bool | None) -> str:  # noqa: FBT001 - a value, not an option
    return "" if said is None else "Y" if said else "N"

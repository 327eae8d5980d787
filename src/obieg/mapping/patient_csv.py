"""CSV files of patients: the header, and what a row says (columns: ``codes/patient_csv.toml``, docs/operations.md)."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from datetime import date
from functools import cache, lru_cache
from typing import Any

from obieg.codes.load import toml
from obieg.domain import pesel
from obieg.domain.authorities import Authorities
from obieg.domain.documents import Value
from obieg.domain.identifiers import PatientId, is_oid
from obieg.domain.names import fold
from obieg.domain.patients import FeedEvent, PatientFeed
from obieg.domain.persons import Address, Demographics, PersonName, Telecom
from obieg.domain.problems import Finding, Problem

VALUE_LENGTH_MAX = 200  # characters, as in every other feed
DELIMITERS = ";,\t"
_TABLE = toml("patient_csv.toml")
COLUMNS: Mapping[str, str] = {name: row["means"] for name, row in _TABLE["column"].items()}
_SEX: dict[str, str] = _TABLE["values"]["sex"]
_TRUTH: dict[str, bool] = _TABLE["values"]["truth"]
_PESEL: str = toml("national/pl/pik.toml")["roots"]["pesel"]
_DATES = (
    re.compile(r"(?P<y>\d{4})-(?P<m>\d{1,2})-(?P<d>\d{1,2})(?:[ T]00:00(?::00)?)?\Z", re.ASCII),
    re.compile(r"(?P<d>\d{1,2})\.(?P<m>\d{1,2})\.(?P<y>\d{4})\Z", re.ASCII),
    re.compile(r"(?P<y>\d{4})(?P<m>\d\d)(?P<d>\d\d)\Z", re.ASCII),
    re.compile(r"(?P<y>\d{4})-(?P<m>\d{2})\Z", re.ASCII),
    re.compile(r"(?P<y>\d{4})\Z", re.ASCII),
)
_OF_ADDRESS = frozenset({"street", "house", "flat", "city", "state", "postal_code", "country", "terc", "simc", "ulic"})
_DIGITS_OF_CODE = {"terc": 7, "simc": 7, "ulic": 5}


class Layout(Value, frozen=True):
    """How a file is laid out: its delimiter, and which column stands where."""

    delimiter: str
    columns: tuple[str, ...]


class Row(Value, frozen=True):
    """What a row says, and what is only worth knowing of it."""

    feed: PatientFeed
    warnings: tuple[Finding, ...] = ()


def read_header(line: str) -> Layout:
    """The layout that the first line tells; raises Problem with everything that is wrong with it."""
    layout, findings = header(line, _names())
    if not {"id", "pesel", "document"} & set(layout.columns):
        said = "no column has an identifier: one of id, pesel and document is needed"
        findings.append(Finding("RequiredFieldMissing", said, "header"))
    if findings:
        raise Problem(findings)
    return layout


def header(line: str, names: Mapping[str, str]) -> tuple[Layout, list[Finding]]:
    """The layout by ``names`` (folded name to column), and what is wrong with it.

    The delimiter is the one by which most of the line's parts are columns.
    """
    cut = {d: [fold(part.strip().strip('"')) for part in line.rstrip("\r\n").split(d)] for d in DELIMITERS}
    delimiter = max(DELIMITERS, key=lambda d: (sum(part in names for part in cut[d]), len(cut[d])))
    parts = cut[delimiter]
    findings = []
    columns: list[str] = []
    for number, part in enumerate(parts, 1):
        column = names.get(part, "")
        if not column:
            said = f"column {number} is called {part[:40]!r}, which is none of the columns known"
            findings.append(Finding("UnsupportedQueryField", said, f"column {number}"))
        elif column in columns:
            findings.append(Finding("RuleBroken", f"there are two columns {column}", f"column {number}"))
        columns.append(column)
    return Layout(delimiter, tuple(columns)), findings


@cache
def _names() -> dict[str, str]:
    return {fold(n): column for column, row in _TABLE["column"].items() for n in (column, *row["also"])}


def read_row(values: Sequence[str], layout: Layout, authorities: Authorities, *, authority: str, source: str) -> Row:
    """The feed of a row; raises Problem with everything that is wrong with it.

    An empty cell says nothing. ``authority`` is the OID of local numbers in a file without a column that says it.
    A PESEL with a wrong control digit is kept as the source wrote it; a fill-in names nobody and is left out.
    """
    reading = _Reading(layout, authorities)
    said = reading.cells(values)
    identifiers = reading.identifiers(said, authority)
    demographics = reading.demographics(said)
    if reading.findings:
        raise Problem(reading.findings)
    if not identifiers:
        raise Problem.of("RequiredFieldMissing", "the row has no identifier that names a patient", "id")
    feed = PatientFeed(
        event=FeedEvent.UPDATE,
        identifiers=tuple(identifiers),
        demographics=Demographics(**demographics),
        stated=tuple(demographics),
        identifier_locations=tuple(identifiers.values()),
        source=source or speaker(identifiers, authorities),
    )
    return Row(feed, tuple(reading.warnings))


def speaker(identifiers: Iterable[PatientId], authorities: Authorities) -> str:
    """Who is taken to say what a file says: whoever gave out the first identifier."""
    first = next(iter(identifiers)).authority
    return f"{authorities.name_of(first) or first}|import"


class _Reading:
    """Reads one row and collects what is wrong with it."""

    def __init__(self, layout: Layout, authorities: Authorities) -> None:
        self._columns = layout.columns
        self._authorities = authorities
        self.findings: list[Finding] = []
        self.warnings: list[Finding] = []

    def _find(self, code: str, detail: str, column: str) -> None:
        self.findings.append(Finding(code, detail, column))

    def cells(self, values: Sequence[str]) -> dict[str, str]:
        """The cells that are not empty, by column."""
        if len(values) != len(self._columns):
            detail = f"the row has {len(values)} cells and the header {len(self._columns)} columns"
            self._find("DataTypeError", detail, "")
            return {}
        said: dict[str, str] = {}
        for column, cell in zip(self._columns, values, strict=True):
            value = cell.strip()
            if not value:
                continue
            if len(value) > VALUE_LENGTH_MAX:
                self._find(
                    "DataTypeError", f"the value has {len(value)} characters, {VALUE_LENGTH_MAX} at most", column
                )
                continue
            if not value.isprintable():
                value = " ".join(value.split())
                if not value.isprintable():
                    self._find("DataTypeError", "the value has control characters", column)
                    continue
            said[column] = value
        return said

    # identifiers ----------------------------------------------------------------------------------------------------

    def identifiers(self, said: Mapping[str, str], authority: str) -> dict[PatientId, str]:
        """The identifiers with the columns they stand in."""
        found: dict[PatientId, str] = {}
        if number := said.get("id"):
            named = said.get("authority")
            oid = self._authority(named, "authority") if named else authority
            if oid:
                found[PatientId(number, oid)] = "id"
            elif not named:
                text = "nothing says who gives out this number: add a column authority, or say --authority"
                self._find("RequiredFieldMissing", text, "id")
        if (number := said.get("pesel")) and (kept := self._pesel(number, "pesel")):
            found[PatientId(kept, _PESEL)] = "pesel"
        if number := said.get("document"):
            named = said.get("document_authority")
            if named:
                if oid := self._authority(named, "document_authority"):
                    found[PatientId(number, oid)] = "document"
            else:
                self._find("RequiredFieldMissing", "nothing says who gives out this document", "document_authority")
        return found

    def _authority(self, named: str, column: str) -> str:
        listed = self._authorities.by_name(named)
        oid = listed.oid if listed else named
        if not is_oid(oid):
            self._find("UnknownKeyIdentifier", f"{named[:64]!r} is neither an OID nor a name in the settings", column)
        elif not self._authorities.accepts(oid):
            self._find("UnknownKeyIdentifier", f"this region takes no identifiers of {oid}", column)
        else:
            return oid
        return ""

    def _pesel(self, text: str, column: str) -> str:
        read = pesel.read(text)
        if read.artificial:
            said = "the PESEL is a fill-in that names nobody; it was left out"
            self.warnings.append(Finding("DataTypeError", said, column, warning=True))
            return ""
        if not read.valid:
            said = "the PESEL's control digit or date is wrong; it was kept as it was written"
            self.warnings.append(Finding("DataTypeError", said, column, warning=True))
        return read.number

    # demographics ---------------------------------------------------------------------------------------------------

    def demographics(self, said: Mapping[str, str]) -> dict[str, Any]:
        """What the row states, by field of Demographics."""
        get = said.get
        values: dict[str, Any] = {
            "names": self._names(said),
            "birth_date": self._date(said, "birth_date"),
            "sex": self._coded(said, "sex", _SEX),
            "addresses": self._addresses(said),
            "telecoms": _telecoms(said),
            "mother": self._mother(said),
            "multiple_birth": self._coded(said, "multiple_birth", _TRUTH),
            "birth_order": self._order(said),
            "birth_place": get("birth_place"),
            "citizenship": get("citizenship"),
            "deceased": self._coded(said, "deceased", _TRUTH),
            "deceased_at": self._date(said, "deceased_at"),
        }
        if "mother_family" in said or "mother_given" in said:
            given = get("mother_given", "").split()
            values["mother_name"] = PersonName(family=get("mother_family", ""), given=tuple(given), use="M")
        if values["deceased_at"] and values["deceased"] is None:
            values["deceased"] = True
        return {name: value for name, value in values.items() if value not in (None, "", ())}

    @staticmethod
    def _names(said: Mapping[str, str]) -> tuple[PersonName, ...]:
        get = said.get
        given = (*get("given", "").split(), *get("second_given", "").split())
        names = []
        if given or "family" in said:
            names.append(PersonName(family=get("family", ""), given=given, prefix=get("prefix", ""), use="L"))
        if "maiden_name" in said:
            names.append(PersonName(family=said["maiden_name"], given=given, use="M"))
        return tuple(names)

    def _date(self, said: Mapping[str, str], column: str) -> str:
        text = said.get(column)
        if not text:
            return ""
        if written := _date_of(text):
            return written
        self._find("DataTypeError", "this is no day of the calendar written as 1980-05-12 or 12.05.1980", column)
        return ""

    def _coded(self, said: Mapping[str, str], column: str, table: Mapping[str, Any]) -> Any:
        text = said.get(column)
        if text is None:
            return None
        if (key := fold(text)) not in table:
            self._find("TableValueNotFound", f"{text[:40]!r} is none of {', '.join(table)}", column)
        return table.get(key)

    def _order(self, said: Mapping[str, str]) -> int | None:
        text = said.get("birth_order")
        if text is None:
            return None
        if not (len(text) <= 2 and text.isascii() and text.isdecimal() and int(text)):
            self._find("DataTypeError", "the order of birth is a number from 1", "birth_order")
            return None
        return int(text)

    def _mother(self, said: Mapping[str, str]) -> PatientId | None:
        text = said.get("mother_pesel")
        kept = self._pesel(text, "mother_pesel") if text else ""
        return PatientId(kept, _PESEL) if kept else None

    def _addresses(self, said: Mapping[str, str]) -> tuple[Address, ...]:
        get = said.get
        if _OF_ADDRESS.isdisjoint(said):
            return ()
        for column, digits in _DIGITS_OF_CODE.items():
            code = get(column)
            if code and not (len(code) == digits and code.isascii() and code.isdecimal()):
                self._find("DataTypeError", f"a code of {digits} digits stands here", column)
        house = "/".join(filter(None, (get("house"), get("flat"))))
        address = Address(
            street=" ".join(filter(None, (get("street"), house))),
            city=get("city", ""),
            state=get("state", ""),
            postal_code=get("postal_code", ""),
            country=get("country", ""),
            use="H",
            terc=get("terc", ""),
            simc=get("simc", ""),
            ulic=get("ulic", ""),
        )
        return (address,)


@lru_cache(maxsize=1 << 16)
def _date_of(text: str) -> str:
    """The partial date that the text is, or ""."""
    for form in _DATES:
        if match := form.match(text):
            parts = {name: int(value) for name, value in match.groupdict().items()}
            try:
                day = date(parts["y"], parts.get("m", 1), parts.get("d", 1))
            except ValueError:
                return ""
            written = f"{day:%Y%m%d}".zfill(8)
            return written[: 8 if "d" in parts else 6 if "m" in parts else 4]
    return ""


def _telecoms(said: Mapping[str, str]) -> tuple[Telecom, ...]:
    found = []
    if phone := said.get("phone"):
        found.append(Telecom(number=phone, use="PRN", equipment="PH"))
    if email := said.get("email"):
        found.append(Telecom(number=email, use="NET", equipment="Internet"))
    return tuple(found)

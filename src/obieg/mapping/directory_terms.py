"""What a resource of the directory is found by, and what a search looks for; both from ``codes/fhir.toml``.

A term is a parameter, a mark, and a normalised value:
``=`` the code of a token, or what a reference refers to; ``:`` system and code with a bar between; ``^`` a folded text;
``~`` a text as it stands; and ``?`` before a parameter that has any value.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

from obieg.codes.load import toml
from obieg.domain.directory import (
    BEGINNING,
    FOREVER,
    Clause,
    Index,
    Lookup,
    Near,
    Term,
    Through,
    identifier,
)
from obieg.domain.names import fold
from obieg.domain.polish import sort_key
from obieg.domain.problems import Finding
from obieg.mapping.fhir_parameters import Criterion, plain, token

_FHIR = toml("fhir.toml")
_SEARCH: dict[str, dict[str, dict[str, str]]] = _FHIR["search"]
_URLS: dict[str, str] = _FHIR["directory"]["extensions"]
KINDS: tuple[str, ...] = tuple(
    kind for kind in _SEARCH if kind in _FHIR["answer"] and "profiles" in _FHIR["answer"][kind]
)
_OID = "urn:oid:"
_ROOTS = {f"{_OID}{oid}": kind for kind, oid in toml("national/pl/pik.toml")["roots"].items()}
_ROOTS |= {system: kind for kind, system in _FHIR["directory"]["systems"].items()}
_STEP = re.compile(r"([\w-]+)(?:\[([\w-]+)\])?\Z", re.ASCII)
_LOGICAL = re.compile(r"[A-Za-z0-9.-]{1,64}\Z", re.ASCII)
_DATE = re.compile(
    r"(eq|ne|gt|lt|ge|le|sa|eb|ap)?"
    r"(\d{4})(?:-(\d\d)(?:-(\d\d)(?:T(\d\d):(\d\d)(?::(\d\d)(?:\.(\d{1,9}))?)?(Z|[+-]\d\d:\d\d)?)?)?)?\Z",
    re.ASCII,
)
_WORDS_OF = {
    "HumanName": ("text", "family", "given", "prefix", "suffix"),
    "Address": ("text", "line", "city", "district", "state", "postalCode", "country"),
}
_TEXT_MAX = 200  # characters of a text that are compared; a longer one is told from others by its beginning
_KILOMETRES = {"km": 1.0, "m": 0.001, "[mi_us]": 1.609347, "[mi_i]": 1.609344, "": 1.0}
_NEAR_KM = 50.0  # where a question names no distance
_EARTH_KM = 20_040.0  # half the way around


# what a resource says --------------------------------------------------------------------------------------------


def index(resource: dict[str, Any]) -> Index:
    """Everything that the resource is found by."""
    kind = resource["resourceType"]
    terms = {kind, f"_id={resource['id']}"}
    texts: list[str] = []
    period = (BEGINNING, FOREVER)
    for name, row in _SEARCH[kind].items():
        if "path" not in row:
            continue
        values = [value for path in row["path"].split(" ") for value in _at(resource, path)]
        if values:
            terms.add(f"?{name}")
        if row["type"] == "date":
            period = next((found for v in values if (found := _period(v))), period)
            continue
        for value in values:
            if row["type"] == "string":
                for text in _strings(value):
                    terms |= {_folded(name, text), f"{name}~{_whole(text)}"}
                    texts.append(_folded(name, text))
            elif row["type"] == "reference":
                terms |= set(_referring(name, value))
            else:
                terms |= set(_tokens(name, value))
    part_of = resource.get("partOf", {}).get("reference", "")
    return Index(
        terms=tuple(sorted(terms)),
        texts=tuple(texts),
        sort_key=_sort_key(resource),
        part_of=part_of.removeprefix(f"{kind}/") if _is_local(part_of, kind) else "",
        valid_from=period[0],
        valid_until=period[1],
        position=_position(resource.get("position")),
    )


def _at(value: Any, path: str) -> Iterator[Any]:
    """What stands at a path; a choice within brackets picks a telecom by its system, an extension by its name."""
    found = [value]
    for step in path.split("."):
        match = _STEP.match(step)
        assert match is not None, path  # noqa: S101 - a row of our own table
        name, chosen = match[1], match[2]
        inner = [each for item in found if isinstance(item, dict) for each in _listed(item.get(name))]
        if chosen is not None:
            inner = [i for i in inner if isinstance(i, dict) and chosen in _chosen_by(i)]
        found = inner
    yield from found


def _chosen_by(item: dict[str, Any]) -> tuple[str, ...]:
    url = str(item.get("url", ""))
    return (str(item.get("system", "")), url, *(name for name, full in _URLS.items() if full == url))


def _listed(value: Any) -> list[Any]:
    return [v for v in value if v is not None] if isinstance(value, list) else [] if value is None else [value]


def _strings(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        for name in {word for words in _WORDS_OF.values() for word in words}:
            for text in _listed(value.get(name)):
                if isinstance(text, str):
                    yield text


def _tokens(name: str, value: Any) -> Iterator[str]:
    if isinstance(value, bool):
        yield from _token(name, "", "true" if value else "false")
    elif isinstance(value, str):
        yield from _token(name, "", value)
    elif isinstance(value, dict) and "coding" in value:
        for coding in value["coding"]:
            yield from _token(name, coding.get("system", ""), coding.get("code", ""))
    elif isinstance(value, dict):
        yield from _token(name, value.get("system", ""), value.get("code") or value.get("value", ""))


def _token(name: str, system: str, code: str) -> Iterator[str]:
    if system:
        yield f"{name}:{_whole(system)}|"
    if code:
        kept = normal(system, code)
        yield f"{name}={_whole(kept)}"
        yield f"{name}:{_whole(system)}|{_whole(kept)}"


def _referring(name: str, value: Any) -> Iterator[str]:
    if reference := value.get("reference", ""):
        yield f"{name}={_whole(reference)}"
    if "identifier" in value:
        yield from _token(
            f"{name}:identifier", value["identifier"].get("system", ""), value["identifier"].get("value", "")
        )


def normal(system: str, code: str) -> str:
    """An identifier of a Polish register as it is compared: without separators and the zeros that some leave out."""
    kind = _ROOTS.get(system, "")
    kept, said = identifier(kind, code) if kind else (code, "")
    return code if said else kept


def _folded(name: str, text: str) -> str:
    return f"{name}^{fold(text)[:_TEXT_MAX]}"


def _whole(text: str) -> str:
    """A text as it is compared: as it stands, or its digest where it is longer than PostgreSQL's words may be."""
    return text if len(text) <= _TEXT_MAX else f"{text[:16]}…{hashlib.sha256(text.encode()).hexdigest()}"


def _sort_key(resource: dict[str, Any]) -> bytes:
    name = resource.get("name")
    if isinstance(name, list):
        first = name[0] if name and isinstance(name[0], dict) else {}
        return sort_key(str(first.get("family") or first.get("text", "")), " ".join(_listed(first.get("given"))))
    return sort_key(name) if isinstance(name, str) else b""


def _position(position: Any) -> tuple[float, float] | None:
    if not isinstance(position, dict):
        return None
    found = float(position.get("latitude", 0)), float(position.get("longitude", 0))
    return found if abs(found[0]) <= 90 and abs(found[1]) <= 180 else None


def _period(value: Any) -> tuple[str, str] | None:
    if not isinstance(value, dict):
        return None
    start, end = span(value.get("start", "")), span(value.get("end", ""))
    return start[0] if start else BEGINNING, end[1] if end else FOREVER


def is_local(reference: str) -> bool:
    """Whether a reference is to a resource of this directory."""
    return any(_is_local(reference, kind) for kind in KINDS)


def _is_local(reference: str, kind: str) -> bool:
    return reference.startswith(f"{kind}/") and _LOGICAL.match(reference.removeprefix(f"{kind}/")) is not None


def references(resource: dict[str, Any], parameter: str) -> list[str]:
    """What a reference parameter of the resource refers to, as it is written."""
    row = _SEARCH[resource["resourceType"]][parameter]
    values = [value for path in row["path"].split(" ") for value in _at(resource, path)]
    return [v["reference"] for v in values if isinstance(v, dict) and v.get("reference")]


# what a search asks ----------------------------------------------------------------------------------------------


def lookup(kind: str, criteria: Sequence[Criterion], base: str, findings: list[Finding]) -> Lookup:
    """The conditions of a search; what is wrong with its values is added to ``findings``."""
    reading = _Asking(kind, base, findings)
    for criterion in criteria:
        reading.take(criterion)
    return reading.lookup


def referring(parameter: str, kind: str, ids: Sequence[str]) -> Clause:
    """That a parameter refers to one of the resources; to nothing that exists where there are none."""
    return Clause(tuple(Term(f"{parameter}={kind}/{id_}") for id_ in ids) or (Term("∅"),))


def identified(kind: str, system: str, value: str) -> Lookup:
    """Resources with this identifier."""
    name = f"identifier:{_whole(system)}|{_whole(normal(system, value))}"
    return Lookup(kind=kind, clauses=(Clause((Term(name),)),))


class _Asking:
    """Reads the criteria of one search."""

    def __init__(self, kind: str, base: str, findings: list[Finding]) -> None:
        self.lookup = Lookup(kind=kind)
        self._base = base
        self._findings = findings

    def _refuse(self, said: str, where: str, code: str = "DataTypeError") -> None:
        self._findings.append(Finding(code, said, where))

    def _add(self, **more: Any) -> None:
        fields = {name: getattr(self.lookup, name) for name in Lookup.__struct_fields__}
        joined = {n: (*fields[n], *v) if n in ("clauses", "patterns", "through") else v for n, v in more.items()}
        self.lookup = Lookup(**fields | joined)

    def take(self, criterion: Criterion) -> None:
        """Adds what one criterion wants."""
        name, row = criterion.name, _SEARCH[self.lookup.kind][criterion.name]
        if criterion.chain is not None:
            target = row["target"]
            inner = lookup(target, (criterion.chain,), self._base, self._findings)
            self._add(through=(Through(name, target, inner),))
        elif criterion.modifier == "missing":
            self._missing(criterion)
        elif name == "_id":
            self._add(clauses=(Clause(tuple(Term(f"_id={_whole(plain(a))}") for a in criterion.alternatives)),))
        elif name == "near":
            self._near(criterion)
        elif row["type"] == "date":
            self._date(criterion)
        elif row["type"] == "string":
            self._string(criterion)
        elif row["type"] == "reference" and criterion.modifier != "identifier":
            self._reference(criterion, row["target"])
        else:
            self._token(criterion)

    def _missing(self, criterion: Criterion) -> None:
        if criterion.alternatives not in (("true",), ("false",)):
            self._refuse("true or false is expected", criterion.location)
        term = Term(f"?{criterion.name}")
        self._add(clauses=(Clause((term,), negated=criterion.alternatives == ("true",)),))

    def _token(self, criterion: Criterion) -> None:
        name = f"{criterion.name}:identifier" if criterion.modifier == "identifier" else criterion.name
        terms = []
        for text in criterion.alternatives:
            system, code = token(text)
            code = normal(system or "", code)
            if system is None:
                terms += [Term(f"{name}={_whole(c)}") for c in sorted({code, *self._any_system(code)})]
            elif not code:
                terms.append(Term(f"{name}:{_whole(system)}|"))
            else:
                terms.append(Term(f"{name}:{_whole(system)}|{_whole(code)}"))
        self._add(clauses=(Clause(tuple(terms), negated=criterion.modifier == "not"),))

    @staticmethod
    def _any_system(code: str) -> set[str]:
        """How a number is kept in each of the registers that it may be of."""
        return {kept for kind in _ROOTS.values() if (kept := identifier(kind, code)[0])}

    def _string(self, criterion: Criterion) -> None:
        name = criterion.name
        texts = [plain(a) for a in criterion.alternatives]
        if criterion.modifier == "exact":
            self._add(clauses=(Clause(tuple(Term(f"{name}~{_whole(t)}") for t in texts)),))
            return
        if not all(map(fold, texts)):
            self._refuse("there is no letter or digit to search by", criterion.location)
        elif criterion.modifier == "contains":
            pieces = "|".join(re.escape(fold(t)) for t in texts)
            self._add(patterns=(rf"\n{re.escape(name)}\^[^\n]*({pieces})",))
        else:
            self._add(clauses=(Clause(tuple(Term(_folded(name, t), prefix=True) for t in texts)),))

    def _reference(self, criterion: Criterion, target: str) -> None:
        name = criterion.name
        found = []
        for text in criterion.alternatives:
            value = plain(text).removeprefix(f"{self._base}/")
            found.append(value if "/" in value or ":" in value else f"{target}/{value}")
        if criterion.modifier not in ("above", "below"):
            self._add(clauses=(Clause(tuple(Term(f"{name}={_whole(f)}") for f in found)),))
        elif not all(_is_local(f, target) for f in found):
            self._refuse(f"a {target} of this directory is expected", criterion.location)
        elif "partof" not in _SEARCH[target]:
            said = f"{target} is in no hierarchy: :{criterion.modifier} cannot be obeyed"
            self._refuse(said, criterion.location, "UnsupportedQueryField")
        else:
            ids = tuple(f.removeprefix(f"{target}/") for f in found)
            self._add(through=(Through(name, target, ids=ids, above=criterion.modifier == "above"),))

    def _date(self, criterion: Criterion) -> None:
        if len(criterion.alternatives) > 1:
            self._refuse("give one date, or a range with ge and le", criterion.location, "UnsupportedQueryField")
            return
        text = plain(criterion.alternatives[0])
        match = _DATE.match(text)
        found = span(text[len(match[1] or "") :]) if match else None
        if match is None or found is None:
            self._refuse(f"{text[:40]!r} is no date", criterion.location)
            return
        prefix = match[1] or "eq"
        if prefix in ("ne", "ap"):
            said = f"the prefix {prefix} is not served: give a range (ge, le)"
            self._refuse(said, criterion.location, "UnsupportedQueryField")
        elif criterion.name == "_lastUpdated":
            self._updated(prefix, *found)
        else:
            self._within(prefix, *found)

    def _updated(self, prefix: str, first: str, after: str) -> None:
        now = self.lookup
        if prefix in ("eq", "ge", "gt", "sa"):
            bound = first if prefix in ("eq", "ge") else after
            self._add(updated_from=bound if now.updated_from == BEGINNING else max(bound, now.updated_from))
        if prefix in ("eq", "le", "lt", "eb"):
            bound = after if prefix in ("eq", "le") else first
            self._add(updated_before=bound if now.updated_before == FOREVER else min(bound, now.updated_before))

    def _within(self, prefix: str, first: str, after: str) -> None:
        """A period against what is asked (http://hl7.org/fhir/R4/search.html#prefix); ``after`` is the next moment."""
        least, most = self.lookup.starts, self.lookup.ends

        def later(old: str, new: str) -> str:
            return new if old == BEGINNING else max(old, new)

        def earlier(old: str, new: str) -> str:
            return new if old == FOREVER else min(old, new)

        if prefix == "eq":
            self._add(starts=(later(least[0], first), least[1]), ends=(most[0], earlier(most[1], after)))
        elif prefix in ("ge", "gt"):
            self._add(ends=(later(most[0], _just_after(first if prefix == "ge" else after)), most[1]))
        elif prefix in ("le", "lt"):
            self._add(starts=(least[0], earlier(least[1], _just_before(after if prefix == "le" else first))))
        elif prefix == "sa":
            self._add(starts=(later(least[0], after), least[1]))
        else:
            self._add(ends=(most[0], earlier(most[1], first)))

    def _near(self, criterion: Criterion) -> None:
        parts = plain(criterion.alternatives[0]).split("|")
        try:
            latitude, longitude, *rest = parts
            km = float(rest[0]) * _KILOMETRES[rest[1] if len(rest) > 1 else ""] if rest and rest[0] else _NEAR_KM
            near = Near(float(latitude), float(longitude), km)
        except (ValueError, KeyError):
            near = Near(91, 0, 0)
        one = len(criterion.alternatives) == 1 and len(parts) <= 4 and self.lookup.near is None
        if not (one and abs(near.latitude) <= 90 and abs(near.longitude) <= 180 and 0 <= near.kilometres <= _EARTH_KM):
            said = "one latitude|longitude|distance|unit is expected: degrees, and km, m or [mi_us]"
            self._refuse(said, criterion.location)
        else:
            self._add(near=near)


def bounds(given: Mapping[str, Any], where: str, findings: list[Finding]) -> tuple[datetime | None, datetime | None]:
    """The first moment of a Period of FHIR and the first one after it; a day that it ends on belongs to it."""
    moments: list[datetime | None] = []
    for name in ("start", "end"):
        text = given.get(name, "")
        found = span(text) if text else None
        if text and found is None:
            findings.append(Finding("DataTypeError", f"{text[:40]!r} is no date or time", f"{where}.{name}"))
        moments.append(datetime.fromisoformat(found[name == "end" and "T" not in text]) if found else None)
    begin, end = moments
    return begin, end


def span(text: str) -> tuple[str, str] | None:
    """The first moment of a date and the first one after it, in UTC; a day without a zone is one of UTC."""
    match = _DATE.match(text)
    if match is None or match[1]:
        return None
    year, month, day, hour, minute, second, fraction, zone = match.groups()[1:]
    try:
        micro = int((fraction or "0").ljust(6, "0")[:6])
        first = datetime(
            int(year), int(month or 1), int(day or 1), int(hour or 0), int(minute or 0), int(second or 0), micro, UTC
        )
        if zone and zone != "Z":
            first -= datetime.fromisoformat(f"2000-01-01T00:00:00{zone}").utcoffset() or timedelta()
        if month is None:
            after = first.replace(year=first.year + 1)
        elif day is None:
            after = (first + timedelta(days=31)).replace(day=1)
        else:
            unit = (
                timedelta(days=1) if hour is None
                else timedelta(minutes=1) if second is None
                else timedelta(seconds=1) if fraction is None
                else timedelta(microseconds=10 ** max(0, 6 - len(fraction)))
            )  # fmt: skip
            after = first + unit
    except (ValueError, OverflowError):
        return None
    return _moment(first), _moment(after)


def _moment(moment: datetime) -> str:
    return moment.strftime("%Y-%m-%dT%H:%M:%S.%f").zfill(26) + "Z"


def _just_after(moment: str) -> str:
    return _moment(datetime.fromisoformat(moment) + timedelta(microseconds=1))


def _just_before(moment: str) -> str:
    return _moment(datetime.fromisoformat(moment) - timedelta(microseconds=1))


def instant(text: str) -> str:
    """An instant as PostgreSQL reads it; "" for what is none."""
    match = _DATE.match(text)
    found = span(text) if match is not None and match[9] else None
    return found[0] if found else ""

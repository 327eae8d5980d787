"""What a FHIR request asks: parameters of searches and of operations, by the tables of ``codes/fhir.toml``.

http://hl7.org/fhir/R4/search.html, http://hl7.org/fhir/R4/operations.html. Locations are ``http.`` and the parameter's
name. An unknown parameter of a search is left out, and the answer's self link says so; with ``Prefer: handling=strict``
it is refused. What is known but cannot be obeyed (a modifier, a prefix) is always refused: leaving it out would answer
another question.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import cache
from typing import Any

from obieg.codes.load import toml
from obieg.domain.documents import Value
from obieg.domain.problems import Finding, Problem
from obieg.protocol import FhirRequest

COUNT_MAX = 200  # resources on one page
PARAMETERS_MAX = 100  # of one request, alternatives counted
VALUE_LENGTH_MAX = 500  # characters
_OFFSET = re.compile(r"\d{0,9}\Z", re.ASCII)
CURSOR = "_cursor"  # our own parameter, in links to further pages
_TABLE = toml("fhir.toml")
# Parameters that shape the answer; those that are only obeyed where they ask for what happens anyway.
_SHAPES = frozenset({"_count", "_summary", "_total", CURSOR})
_TOTALS = frozenset({"none", "estimate", "accurate"})
_MODIFIERS_OF = {
    "string": {"exact", "contains", "missing"},
    "token": {"not", "missing"},
    "reference": {"identifier", "above", "below", "missing"},
    "date": {"missing"},
}
_PIECE = re.compile(r"(?:\\.|[^\\,])*", re.DOTALL)
_BAR = re.compile(r"(?<!\\)\|")
_ESCAPE = re.compile(r"\\([\\,|$])")


class Criterion(Value, frozen=True):
    """One search parameter; one of the alternatives must fit (OR), and every criterion (AND)."""

    name: str
    modifier: str  # exact, or another of those that the type's answers obey, or ""
    alternatives: tuple[str, ...]  # still escaped
    chain: Criterion | None = None  # what is wanted of the resource that this parameter refers to

    @property
    def location(self) -> str:
        """Where it stands."""
        return f"http.{self.name}"


class Search(Value, frozen=True):
    """A search, as far as it is the same for all types of resources."""

    criteria: tuple[Criterion, ...]
    used: tuple[tuple[str, str], ...]  # what is obeyed: the self link
    warnings: tuple[Finding, ...] = ()
    count: int = 0  # of one page; 0: nobody said
    cursor: str = ""
    count_only: bool = False  # _summary=count, _count=0
    sort: str = ""  # the table's where nobody says; with a minus sign before it for the greatest first
    inclusions: tuple[tuple[str, str], ...] = ()  # _include or _revinclude with its modifier, and Type:parameter
    total: bool = True  # not with _total=none

    def skipped(self, findings: list[Finding]) -> int:
        """How many results the pages before held, where that finds a page; what else it says is among ``findings``."""
        if not _OFFSET.match(self.cursor):
            findings.append(Finding("UnknownCursor", "this answer has no such page; ask anew", f"http.{CURSOR}"))
            return 0
        return int(self.cursor or 0)


# searches --------------------------------------------------------------------------------------------------------


def search(request: FhirRequest, *, tell: bool = False) -> Search:
    """The search; raises Problem with everything that is wrong with its parameters.

    ``tell``: what is unknown and therefore left out, and a page that was cut short, are warnings.
    """
    table = _TABLE["search"][request.resource]
    answer = _TABLE["answer"].get(request.resource, {})
    findings: list[Finding] = []
    warnings: list[Finding] = []
    criteria: list[Criterion] = []
    used: list[tuple[str, str]] = []
    shape: dict[str, str] = {}
    inclusions: list[tuple[str, str]] = []
    left = PARAMETERS_MAX
    for key, value in request.parameters:
        name = key.partition(":")[0]
        where = f"http.{name[:64]}"
        left -= 1 + value.count(",")
        if not value:
            continue
        if name in _SHAPES and not (name == "_summary" and value not in ("count", "false")):
            if shape.setdefault(name, value) != value:
                findings.append(Finding("DataTypeError", f"{name} is given twice", where))
            if name == "_total" and value not in _TOTALS:
                findings.append(
                    Finding("DataTypeError", f"{value[:64]!r} is none of {', '.join(sorted(_TOTALS))}", where)
                )
            used += [(key, value)] if name != CURSOR else []
            continue
        if answer and name in ("_sort", "_include", "_revinclude"):
            if _shaped(key, value, answer, inclusions, shape, findings):
                used.append((key, value))
            continue
        row = table.get(name) or table.get(name.partition(".")[0])
        if row is None or "unserved" in row:
            said = row["unserved"] if row else f"{request.resource} has no search parameter {name[:64]!r} here"
            if request.strict:
                findings.append(Finding("UnsupportedQueryField", said, where))
            elif row or tell:
                warnings.append(Finding("UnsupportedQueryField", f"{said}; it was left out", where, warning=True))
        elif len(value) > VALUE_LENGTH_MAX:
            findings.append(Finding("DataTypeError", f"the value has more than {VALUE_LENGTH_MAX} characters", where))
        elif alternatives := tuple(piece.strip() for piece in _split(value) if piece.strip()):
            criterion = _criterion(request.resource, key, alternatives)
            if isinstance(criterion, str):
                findings.append(Finding("UnsupportedQueryField", criterion, where))
            else:
                criteria.append(criterion)
                used.append((key, value))
    if left < 0:
        findings = [Finding("LimitExceeded", f"more than {PARAMETERS_MAX} parameters and alternatives", "http")]
    count = _count(shape.get("_count", ""), findings)
    if count is not None and count > COUNT_MAX:
        count = COUNT_MAX
        used = [(key, str(COUNT_MAX) if key == "_count" else value) for key, value in used]
        if tell:
            said = f"a page has at most {COUNT_MAX} resources; links lead to the others"
            warnings.append(Finding("LimitExceeded", said, "http._count", warning=True))
    if findings:
        raise Problem(findings)
    return Search(
        criteria=tuple(criteria),
        used=tuple(used),
        warnings=tuple(warnings),
        count=count or 0,
        cursor=shape.get(CURSOR, ""),
        count_only=count == 0 or shape.get("_summary") == "count",
        sort=shape.get("_sort", answer.get("by", "")),
        inclusions=tuple(inclusions),
        total=shape.get("_total") != "none",
    )


def _shaped(
    key: str,
    value: str,
    answer: dict[str, Any],
    inclusions: list[tuple[str, str]],
    shape: dict[str, str],
    findings: list[Finding],
) -> bool:
    """Takes in ``_sort`` and inclusions; whether they are among those that the table lists."""
    name, _, modifier = key.partition(":")
    where = f"http.{name}"
    said = ""
    if name == "_sort":
        if modifier or value.removeprefix("-") not in answer["sort"] or shape.setdefault(name, value) != value:
            said = (
                f"{value[:64]!r} is not served: sort by one of {', '.join(answer['sort'])}, - before it turns it round"
            )
    elif modifier and not (modifier == "iterate" and answer.get("iterate")):
        said = f"the modifier :{modifier[:32]} cannot be obeyed for {name}"
    else:
        path = value.removesuffix(":").split(":")
        parameter = ":".join(path[:2])
        listed = _inclusions() if modifier else frozenset(answer[name.removeprefix("_")])
        if parameter not in listed or path[2:] not in ([], *([target] for target in _targets(parameter))):
            said = f"{value[:64]!r} is not served; {', '.join(sorted(listed)) or 'nothing'} is"
        else:
            inclusions.append((key, parameter))
    if said:
        findings.append(Finding("UnsupportedQueryField", said, where))
    return not said


@cache
def _inclusions() -> frozenset[str]:
    """What may be asked of what is itself included."""
    rows = [row for row in _TABLE["answer"].values() if row.get("iterate")]
    return frozenset(i for row in rows for i in (*row["include"], *row["revinclude"]))


def _targets(parameter: str) -> list[str]:
    kind, _, name = parameter.partition(":")
    target: str = _TABLE["search"][kind][name]["target"]
    return target.split()


def _criterion(resource: str, key: str, alternatives: tuple[str, ...], *, chained: bool = False) -> Criterion | str:
    """The criterion, or why there is none. ``organization.name:exact`` and ``organization:Organization.name`` chain."""
    head, dot, rest = key.partition(".")
    if key.partition(":")[0] in _TABLE["search"][resource]:  # some profiles list a chain as a parameter
        head, dot = key, ""
    name, _, modifier = head.partition(":")
    row = _TABLE["search"][resource].get(name)
    if row is None or "unserved" in row:
        return f"{resource} has no search parameter {name[:64]!r} here"
    target = row.get("target", "")
    if dot:
        if not target or chained or modifier not in ("", target):
            return f"{key[:64]!r} cannot be followed: one reference of this type and one parameter of what it refers to"
        inner = _criterion(target, rest, alternatives, chained=True)
        return inner if isinstance(inner, str) else Criterion(name, "", alternatives, inner)
    if modifier and modifier == target:
        return Criterion(name, "", alternatives)
    served = _TABLE["answer"].get(resource, {}).get("modifiers", ["exact"])
    if modifier and not (modifier in served and modifier in _MODIFIERS_OF.get(row["type"], ())):
        return f"the modifier :{modifier[:32]} cannot be obeyed for {name}"
    return Criterion(name, modifier, alternatives)


def _count(text: str, findings: list[Finding]) -> int | None:
    if not text:
        return None
    if not re.fullmatch(r"\d{1,18}", text, re.ASCII):
        findings.append(Finding("DataTypeError", f"{text[:40]!r} is no number of resources", "http._count"))
        return None
    return int(text)


def _split(value: str) -> Iterator[str]:
    """Alternatives, separated by commas that are not escaped."""
    position = 0
    while position <= len(value):
        match = _PIECE.match(value, position)
        end = match.end() if match and match.end() > position else position
        if end < len(value) and value[end] == "\\":  # a backslash at the very end
            end += 1
        yield value[position:end]
        position = end + 1


def plain(text: str) -> str:
    """A value without its escapes."""
    return _ESCAPE.sub(r"\1", text)


def token(text: str) -> tuple[str | None, str]:
    """System and value of a token; the system is None where no bar stands."""
    parts = _BAR.split(text, maxsplit=1)
    return (None, plain(parts[0])) if len(parts) == 1 else (plain(parts[0]).strip(), plain(parts[1]).strip())


# operations ------------------------------------------------------------------------------------------------------


def arguments(request: FhirRequest) -> dict[str, list[Any]]:
    """What an operation is asked with, by name: texts, booleans, numbers, resources.

    It comes in the address, in Parameters or, where one resource is all that is needed, as that one. Raises Problem.
    """
    table: dict[str, str] = _TABLE["operations"][request.interaction]["parameters"]
    findings: list[Finding] = []
    found: dict[str, list[Any]] = {name: [] for name in table}
    for name, value in _given(request, table, findings):
        kind = table.get(name)
        if kind is not None:
            found[name].append(_argument(value, kind.rstrip("!*"), f"http.{name}", findings))
        elif request.strict:
            findings.append(
                Finding("UnsupportedQueryField", f"{request.interaction} has no such parameter", f"http.{name[:64]}")
            )
    for name, kind in table.items():
        if kind.endswith("!") and not found[name]:
            said = f"{request.interaction} needs this parameter"
            findings.append(Finding("RequiredFieldMissing", said, f"http.{name}"))
        if len(found[name]) > (PARAMETERS_MAX if kind.endswith("*") else 1):
            findings.append(Finding("DataTypeError", "it is given too many times", f"http.{name}"))
    if findings:
        raise Problem(findings)
    return found


def _given(request: FhirRequest, table: dict[str, str], findings: list[Finding]) -> Iterator[tuple[str, Any]]:
    body = request.body
    if body is None:
        yield from request.parameters
    elif body["resourceType"] == "Parameters":
        for item in body.get("parameter", ()):
            value = next((v for key, v in item.items() if key.startswith("value")), item.get("resource"))
            yield item["name"], value
    else:
        whole = [name for name, kind in table.items() if kind in (f"{body['resourceType']}!", "Resource!")]
        if not whole:
            said = f"a {body['resourceType']} is not what {request.interaction} takes: send Parameters"
            findings.append(Finding("RuleBroken", said, body["resourceType"]))
        for name in whole:
            yield name, body


def _argument(value: Any, kind: str, where: str, findings: list[Finding]) -> Any:
    if kind == "string":
        if isinstance(value, dict) and {"system", "value"} <= value.keys():
            return f"{value['system']}|{value['value']}"  # an Identifier, where the token is asked for
        fits = isinstance(value, str) and len(value) <= VALUE_LENGTH_MAX
    elif kind == "boolean":
        value = {"true": True, "false": False}.get(value, value) if isinstance(value, str) else value
        fits = isinstance(value, bool)
    elif kind == "integer":
        fits = isinstance(value, int) and not isinstance(value, bool)
    else:
        fits = isinstance(value, dict) and "resourceType" in value and kind in (value["resourceType"], "Resource")
    if not fits:
        findings.append(Finding("DataTypeError", f"the parameter must be of type {kind}", where))
    return value

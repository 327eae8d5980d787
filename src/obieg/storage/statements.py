"""Named SQL: every statement the node sends stands in ``storage/sql/*.sql`` under ``-- name: …``.

A statement names its parameters as ``:name``; PostgreSQL is sent ``$1…$n``. The same text is exported to the
benchmarks, so that what is measured is what runs.

What shows objects takes a :class:`~obieg.domain.sight.Sight`. The lines that hide by it end with ``-- sight``; without
them the same text is a second statement, for everybody who may see everything: who hides nothing pays nothing.
A statement marked ``(planned once)`` behind its name is planned once for each connection whatever it is given, where
planning it anew each time, as PostgreSQL would, takes longer than running it.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cache, lru_cache
from importlib.resources import files
from typing import Any
from uuid import UUID

from obieg.domain.sight import Sight

_NAME = re.compile(r"^-- name: (\w+)( \(planned once\))?\s*$", re.MULTILINE)
_SIGHT = re.compile(r"^.*-- sight$\n?", re.MULTILINE)
_PARAMETER = re.compile(r"(?<![:\w]):([a-z_]\w*)")
_COMMENT = re.compile(r"--[^\n]*")
_ARRAY_SPECIAL = re.compile(r'(["\\])')
_SEVERAL = (list, tuple, set, frozenset)
_COMPOSITES_KEPT = 4_096  # of about 1 KiB

# What a parameter may be; bytes go in binary format, all else as text that PostgreSQL reads by the declared type.
Parameter = bytes | str | int | bool | UUID | None | Iterable[Any]


@dataclass(frozen=True, slots=True)
class Call:
    """A statement with the values of its parameters, ready to be sent."""

    statement: Statement
    values: list[bytes | None]
    formats: list[int]
    known: tuple[tuple[int, str], ...] = ()  # of the sight under which it is asked


@dataclass(frozen=True, slots=True)
class Statement:
    """One prepared statement."""

    name: str
    text: str  # as in the file, with :names
    sql: str  # with $n
    parameters: tuple[str, ...]
    planned_once: bool = False
    plain: Statement | None = None  # without what hides by a sight; None: it hides nothing

    def seen(self, sight: Sight, **given: Parameter) -> Call:
        """Binds the parameters of a question that is asked under ``sight``."""
        if sight.permitted is None and self.plain is not None:
            return self.plain(**given)
        given["permitted"], given["filter"] = sight.permitted, sight.filter
        return self._bound(given, sight.known)

    def __call__(self, **given: Parameter) -> Call:
        """Binds the parameters; all of them must be given, and no others."""
        return self._bound(given)

    def _bound(self, given: dict[str, Any], known: tuple[tuple[int, str], ...] = ()) -> Call:
        values: list[bytes | None] = []
        formats = [0] * len(self.parameters)
        for name in self.parameters:
            value = given[name]
            if value is None:
                values.append(None)
            elif type(value) is str:
                values.append(value.encode())
            elif type(value) is bytes:
                formats[len(values)] = 1
                values.append(value)
            elif isinstance(value, tuple) and hasattr(value, "_fields"):
                values.append(_composite(value))
            else:
                values.append(_text(value).encode())
        if len(given) != len(self.parameters):
            raise TypeError(f"{self.name} takes {self.parameters}, got {tuple(given)}")
        return Call(self, values, formats, known)

    def of(self, table: str) -> Statement:
        """The same of one table, where ``{table}`` stands for several of one shape."""
        return parse(f"{self.name}_{table}", self.text.replace("{table}", table))


class Statements:
    """The statements of one file, as attributes."""

    def __init__(self, statements: Mapping[str, Statement]) -> None:
        self._statements = statements

    def __getattr__(self, name: str) -> Statement:
        try:
            return self._statements[name]
        except KeyError:
            raise AttributeError(f"no statement -- name: {name}") from None

    def __iter__(self) -> Iterator[Statement]:
        return iter(self._statements.values())

    @property
    def sent(self) -> Iterator[Statement]:
        """All that may be sent: those that hide by a sight also without what hides."""
        for statement in self:
            yield statement
            if statement.plain is not None:
                yield statement.plain


@cache
def load(filename: str) -> Statements:
    """The statements of ``storage/sql/<filename>``."""
    text = files("obieg.storage").joinpath("sql", filename).read_text("utf-8")
    pieces = _NAME.split(text)
    given = zip(pieces[1::3], pieces[3::3], pieces[2::3], strict=True)
    return Statements({name: parse(name, body, planned_once=bool(once)) for name, body, once in given})


def parse(name: str, text: str, *, planned_once: bool = False) -> Statement:
    """Turns ``:name`` into ``$n``, the same number each time a name is used."""
    plain = None
    if _SIGHT.search(text):
        plain = parse(f"{name}_plain", _SIGHT.sub("", text), planned_once=planned_once)
    text = _COMMENT.sub("", text).strip().rstrip(";")
    order: dict[str, int] = {}

    def number(match: re.Match[str]) -> str:
        return f"${order.setdefault(match[1], len(order) + 1)}"

    sql = _PARAMETER.sub(number, text)
    return Statement(name, text, sql, tuple(order), planned_once, plain)


def written(value: Any) -> str | None:
    """A value as PostgreSQL reads it by its type."""
    return None if value is None else _text(value)


def _text(value: Any) -> str:
    if type(value) is str:
        return value
    if value is True:
        return "t"
    if value is False:
        return "f"
    if isinstance(value, _SEVERAL):
        if hasattr(value, "_fields"):  # a NamedTuple is a composite
            return "(" + ",".join([_field(v) for v in value]) + ")"
        return "{" + ",".join([_element(v) for v in value]) + "}"
    return str(value)


@lru_cache(_COMPOSITES_KEPT)
def _composite(value: tuple[Any, ...]) -> bytes:
    """A NamedTuple as it is sent: the same filter is asked by again and again."""
    return _text(value).encode()


def _element(value: Any) -> str:
    if value is None:
        return "NULL"
    text = value if type(value) is str else _text(value)
    if '"' in text or "\\" in text:
        text = _ARRAY_SPECIAL.sub(r"\\\1", text)
    return f'"{text}"'


def _field(value: Any) -> str:
    if value is None:
        return ""
    text = _text(value)
    if '"' in text or "\\" in text:
        text = text.replace("\\", "\\\\").replace('"', '""')
    return f'"{text}"'

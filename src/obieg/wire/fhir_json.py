"""FHIR resources in JSON (http://hl7.org/fhir/R4/json.html): read without the liberties that parsers take, and written.

A key given twice, a number that no computer keeps, a text that is not UTF-8: each means that two readers of one message
may see two messages, so each is refused.
"""

from __future__ import annotations

import json
from decimal import Decimal, InvalidOperation
from typing import Any

import orjson

from obieg.wire.fhir_elements import Exact

DIGITS_MAX = 40  # of a number as written
# Of the whole, as far as commas tell: a list of tiny objects takes thirty times the memory of its text.
VALUES_MAX = 500_000
_EXPONENT_MAX = 300
_INTEGER_MAX = 2**63 - 1
_BOMS = (b"\xef\xbb\xbf", b"\xff\xfe", b"\xfe\xff", b"\0")


class JsonRefused(Exception):  # noqa: N818
    """The bytes are not JSON that this node reads; the message says why, for the peer."""


def read(data: bytes, *, depth_max: int = 64) -> dict[str, Any]:
    """The JSON object. Raises :class:`JsonRefused`."""
    if data.startswith(_BOMS):
        raise JsonRefused("a byte order mark or another encoding than UTF-8: send UTF-8 without a mark (RFC 8259)")
    if len(data) > VALUES_MAX and data.count(b",") >= VALUES_MAX:
        raise JsonRefused(f"more than {VALUES_MAX} values")
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError as error:
        raise JsonRefused(f"byte {error.start} is not UTF-8") from None
    try:
        value = _DECODER.decode(text)
    except json.JSONDecodeError as error:
        said = f"{error.msg} at line {error.lineno}, column {error.colno}"
        raise JsonRefused(f"not well-formed JSON: {said}") from None
    except RecursionError:
        raise JsonRefused(f"nested more than {depth_max} deep") from None
    if not isinstance(value, dict):
        raise JsonRefused("a JSON object is expected")
    if _deeper_than(value, depth_max):
        raise JsonRefused(f"nested more than {depth_max} deep")
    return value


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    made = dict(pairs)
    if len(made) != len(pairs):
        seen: set[str] = set()
        twice = next(key for key, _ in pairs if key in seen or seen.add(key))  # type: ignore[func-returns-value]
        raise JsonRefused(f"the key {twice[:64]!r} stands twice in one object")
    return made


def _integer(text: str) -> int:
    if len(text) > DIGITS_MAX or not -_INTEGER_MAX <= (value := int(text)) <= _INTEGER_MAX:
        raise JsonRefused(f"the number {text[:DIGITS_MAX]} is beyond the range that is kept")
    return value


def _decimal(text: str) -> Exact:
    try:
        value = Exact(text) if len(text) <= DIGITS_MAX else None
    except InvalidOperation:  # an exponent that Decimal itself has no room for
        value = None
    if value is None or abs(value.adjusted()) > _EXPONENT_MAX:
        raise JsonRefused(f"the number {text[:DIGITS_MAX]} is beyond the range that is kept")
    return value


def _constant(text: str) -> Any:
    raise JsonRefused(f"{text} is no JSON number")


_DECODER = json.JSONDecoder(
    object_pairs_hook=_object, parse_int=_integer, parse_float=_decimal, parse_constant=_constant
)


def _deeper_than(value: Any, depth_max: int) -> bool:
    level = [value]
    for _ in range(depth_max):
        level = [
            inner
            for outer in level
            for inner in (outer.values() if isinstance(outer, dict) else outer)
            if isinstance(inner, dict | list)
        ]
        if not level:
            return False
    return True


def write(resource: dict[str, Any], *, pretty: bool = False) -> bytes:
    """UTF-8; decimals as they were written."""
    return orjson.dumps(resource, default=_decimal_text, option=orjson.OPT_INDENT_2 if pretty else None)


def _decimal_text(value: Any) -> orjson.Fragment:
    if isinstance(value, Decimal):
        return orjson.Fragment(str(value))
    raise TypeError(f"{type(value).__name__} is no JSON value")

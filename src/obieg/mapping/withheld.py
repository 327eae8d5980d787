"""JSON without those whose name and number an officer withholds (docs/access.md, Access log)."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from typing import Any

import msgspec

_encode = msgspec.json.Encoder().encode
_NAMES = frozenset(("name", "display"))  # what stands beside a number and says whose it is, with all that end in _name
_WHOSE = frozenset(("identifier", "reference", "who"))  # FHIR: whom the object is, or is about


class Withheld:
    """Leaves out whoever is withheld wherever their number stands; ``instead`` is put in its place."""

    def __init__(self, people: Collection[str], instead: str) -> None:
        """``people``: root#extension."""
        self._instead = instead
        self._people = [(_token(extension), _token(root) if mark else None, root if mark else "", extension)
                        for root, mark, extension in map(_parted, people)]  # fmt: skip

    def line(self, line: bytes) -> bytes:
        """A line of JSON; as it is where it names nobody of them."""
        if not any(extension.encode() in line for *_, extension in self._people):
            return line
        said, hit = self._said(msgspec.json.decode(line))
        return _encode(said) if hit else line

    def _said(self, value: Any) -> tuple[Any, bool]:
        """The value without them, and whether they were in it."""
        match value:
            case str() if self._names(value):
                return self._instead, True
            case list():
                found = [self._said(each) for each in value]
                return [said for said, _ in found], any(hit for _, hit in found)
            case dict():
                return self._object(value)
            case _:
                return value, False

    def _object(self, value: Mapping[str, Any]) -> tuple[dict[str, Any], bool]:
        found = {key: self._said(each) for key, each in value.items()}
        hit = any(hit for _, hit in found.values())
        said = {key: each for key, (each, _) in found.items()}
        own = any(hit and (key in _WHOSE or _plain(value[key])) for key, (_, hit) in found.items())
        if self._identifies(value):
            said["value"], hit, own = self._instead, True, True
        if own:
            said = {key: each for key, each in said.items() if key not in _NAMES and not key.endswith("_name")}
        return said, hit

    def _names(self, text: str) -> bool:
        """Whether the number and who assigned it stand in it: root#extension, XCN, a whole record."""
        return any(one.search(text) and (root is None or root.search(text)) for one, root, *_ in self._people)

    def _identifies(self, value: Mapping[str, Any]) -> bool:
        """Whether it is an Identifier of FHIR with the number."""
        given = (str(value.get("system", "")).removeprefix("urn:oid:"), value.get("value"))
        return any(given == (root, extension) for *_, root, extension in self._people)


def _parted(person: str) -> tuple[str, str, str]:
    root, mark, extension = person.partition("#")
    return (root, mark, extension) if mark else ("", "", person)


def _token(text: str) -> re.Pattern[str]:
    return re.compile(rf"(?<![\w.]){re.escape(text)}(?![\w.]*\w)")


def _plain(value: Any) -> bool:
    return isinstance(value, str) or (isinstance(value, list) and all(isinstance(each, str) for each in value))

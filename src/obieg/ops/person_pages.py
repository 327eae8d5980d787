"""``osoba.pdf`` of the archive of one person: what the JSON lines say, as tables to read and to print (PDF/UA-1).

Rows wait in a temporary file and become volumes of a limited size, so that neither this process nor the one that makes
PDF holds a long life as a whole.
"""

from __future__ import annotations

import re
import tempfile
import zipfile
from collections.abc import Iterable, Iterator, Mapping
from datetime import datetime
from typing import Any, BinaryIO

import msgspec

from obieg.codes.load import rows, toml
from obieg.domain.access import BASES
from obieg.domain.access_log import Access
from obieg.domain.obligations import REASONS
from obieg.domain.zone import WARSAW
from obieg.ops.failure import Failure
from obieg.web.kit import texts
from obieg.web.pdf import PdfFailed, Tables, make_tables

LANGUAGE = "pl"
_TABLE = toml("national/pl/person_archive.toml")
_TEXTS, _WORDS, _MEMBERS = (_TABLE[name] for name in ("texts", "words", "members"))
WITHHELD: str = _TEXTS["withheld"]  # instead of whom the officer withholds
_ROLES = toml("roles.toml")
_ACTS = {transaction: act for act, listed in toml("patient_portal.toml")["acts"].items() for transaction in listed}
_MARKS: Mapping[str, Any] = toml("national/pl/retention.toml")["marks"]
_CLASSES = {row["code"]: row["display"] for row in rows("national/pl/document_classes.csv")}
_DTM = frozenset(("birth_date", "creation_time", "deceased_at", "submission_time"))
_INSTANT = re.compile(r"\d{4}-\d\d-\d\d[T ]\d\d:\d\d:\d\d(?:\.\d+)?(?:Z|[+-]\d\d(?::?\d\d)?)")
# What is too long for the width of a cell may be broken after any of its pieces.
_LONG, _PIECE = re.compile(r"\S{25,}"), re.compile(r"[./:#^_-]|[^./:#^_-]{16}")
_CELL_MAX = 1500  # characters
_ROWS_MAX, _CHARACTERS_MAX = 2000, 400_000  # of one volume
_encode = msgspec.json.Encoder().encode


class Pages:
    """The pages, made beside the archive of the same lines, so that both say the same."""

    def __init__(self, *, who: str, at: datetime, node: str) -> None:
        self._who, self._node = who, node
        self._at = at.astimezone(WARSAW).strftime("%Y-%m-%d %H:%M")
        self._file: BinaryIO = tempfile.TemporaryFile()  # noqa: SIM115 - open as long as the pages are
        self._counts: dict[str, int] = {}
        self._sections: dict[str, Mapping[str, Any]] = {}

    def section(self, section: Mapping[str, Any], lines: Iterable[bytes]) -> Iterator[bytes]:
        """The lines, each of which becomes a row as it passes."""
        name, shown = section["name"], section["shown"]
        self._sections[name] = section
        self._counts[name] = 0
        for line in lines:
            said = msgspec.json.decode(line)
            cells = [_cell(member, _first(said, member), name) for member in shown]
            self._file.write(_encode([name, cells]) + b"\n")
            self._counts[name] += 1
            yield line

    async def put(self, archive: zipfile.ZipFile, contents: int) -> int:
        """Into the archive: ``osoba.pdf``, ``osoba-2.pdf``, …; how many. Raises Failure where none can be made."""
        part = 0
        with self._file:
            for part, sections in enumerate(self._volumes(), 1):
                try:
                    made = await make_tables(self._tables(part, sections, contents))
                except PdfFailed as error:
                    raise Failure(
                        f"The pages to read could not be made: {error}.", "No archive was written.", "Try again later."
                    ) from None
                archive.writestr("osoba.pdf" if part == 1 else f"osoba-{part}.pdf", made)
        return part

    def _tables(self, part: int, sections: list[dict[str, Any]], contents: int) -> Tables:
        title = _TEXTS["title"].format(who=self._who)
        made = _TEXTS["made"].format(at=self._at, node=self._node)
        if part > 1:
            return Tables(
                _TEXTS["part"].format(who=self._who, part=part), LANGUAGE, [made], sections, _TEXTS["none"], title
            )
        rows = [[s["title"], str(self._counts[name]), f"json/{name}.ndjson"] for name, s in self._sections.items()]
        rows.append([_TEXTS["contents_of"], str(contents), "documents/"])
        summary = {
            "heading": _TEXTS["contents"],
            "columns": [_TEXTS["section"], _TEXTS["entries"], _TEXTS["file"]],
            "rows": rows,
        }
        return Tables(title, LANGUAGE, [made, _TEXTS["also"]], [summary, *sections], _TEXTS["none"], made)

    def _volumes(self) -> Iterator[list[dict[str, Any]]]:
        """The sections of each volume in their order; one that does not fit goes on in the next."""
        self._file.seek(0)
        waiting = [*self._sections]
        volume: list[dict[str, Any]] = []
        rows = characters = 0
        current = ""
        for line in self._file:
            name, cells = msgspec.json.decode(line)
            size = sum(map(len, cells))
            if rows >= _ROWS_MAX or (rows and characters + size > _CHARACTERS_MAX):
                yield volume
                volume, rows, characters, current = [], 0, 0, ""
            while waiting and name in waiting:
                volume.append(self._begun(current := waiting.pop(0)))
            if current != name:
                volume.append(self._begun(current := name))
            volume[-1]["rows"].append(cells)
            rows, characters = rows + 1, characters + size
        yield volume + [self._begun(name) for name in waiting]

    def _begun(self, name: str) -> dict[str, Any]:
        section = self._sections[name]
        return {"heading": section["title"], "columns": [*section["shown"].values()], "rows": []}


def _first(line: Mapping[str, Any], members: str) -> Any:
    """What a line says of a member; of several, with bars between them, of the first of which it says anything."""
    return next((line[member] for member in members.split("|") if line.get(member) not in (None, "")), None)


def _cell(member: str, value: Any, section: str) -> str:
    said = _said(member, value)
    if len(said) > _CELL_MAX:
        said = said[:_CELL_MAX] + _TEXTS["cut"].format(section=section)
    return _LONG.sub(lambda found: _PIECE.sub("\\g<0>\u200b", found[0]), said)


def _said(member: str, value: Any) -> str:
    match value:
        case None:
            return ""
        case bool():
            return str(_TEXTS["yes" if value else "no"])
        case dict():
            told = ((_MEMBERS.get(k, k), _said(k, v)) for k, v in value.items())
            return "; ".join(f"{name}: {said}" for name, said in told if said)
        case list():
            return ", ".join(filter(None, (_said(member, v) for v in value)))
        case str():
            return _word(member, value)
        case _:
            return str(value)


def _word(member: str, text: str) -> str:
    if _INSTANT.fullmatch(text):
        return datetime.fromisoformat(text).astimezone(WARSAW).strftime("%Y-%m-%d %H:%M")
    if member in _DTM and text[:8].isdigit():
        return "-".join(filter(None, (text[:4], text[4:6], text[6:8])))
    if member == "class_code":
        code = text.partition("^^")[0]
        return _CLASSES.get(code, code)
    if member == "bases":
        return _basis(text)
    if member == "role":
        return _role(text)
    if member == "reason" and text in REASONS:
        return REASONS[text][LANGUAGE]
    if member == "mark":
        return str(_MARKS.get(text, text))
    return str(_WORDS.get(text, text))


# the access log ------------------------------------------------------------------------------------------------------


def of_access(found: Access) -> dict[str, str]:
    """What the pages, and the JSON beside them, say of an entry of the log in words."""
    words = texts(LANGUAGE).words
    who = WITHHELD if found.withheld else found.name or found.person or found.system
    why = ", ".join(map(_basis, found.bases)) or words.get(f"purpose_{found.purpose}", found.purpose)
    return {
        "what": words[f"patient_act_{_ACTS.get(found.transaction, 'other')}"],
        "who": who,
        "role": _role(found.role),
        "organisation": found.organisation_name or found.organisation,
        "why": why,
        "done": _TEXTS["done" if found.outcome == "0" else "failed"],
    }


def _basis(code: str) -> str:
    return str(BASES[code]["name"][LANGUAGE]) if code in BASES else code


def _role(code: str) -> str:
    return str(_ROLES[code][LANGUAGE]) if code in _ROLES else code

"""The pages of a person's archive: volumes of limited size, in which every row stands once, in words."""

from __future__ import annotations

import asyncio
import json
import zipfile
from datetime import UTC, datetime
from io import BytesIO
from pathlib import Path
from typing import Any

import pytest
from pypdf import PdfReader

from obieg.codes.load import toml
from obieg.domain.access_log import Access
from obieg.ops import person_pages
from obieg.ops.failure import Failure
from obieg.ops.person_pages import Pages, of_access
from obieg.web import pdf

AT = datetime(2026, 11, 22, 21, 30, tzinfo=UTC)
SECTIONS = {s["name"]: s for s in toml("national/pl/person_archive.toml")["sections"]}


def archived(tmp_path: Path, **lines: list[dict[str, Any]]) -> dict[str, str]:
    """The text of each volume."""
    pages = Pages(who="P-1", at=AT, node="region")
    for name, section in SECTIONS.items():
        encoded = [json.dumps(line).encode() for line in lines.get(name, [])]
        assert list(pages.section(section, encoded)) == encoded
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        assert asyncio.run(pages.put(archive, 3)) == len(archive.namelist())
        archive.close()
    with zipfile.ZipFile(tmp_path / "a.zip") as archive:
        return {name: text_of(archive.read(name)) for name in archive.namelist()}


def text_of(content: bytes) -> str:
    text = "".join(page.extract_text() for page in PdfReader(BytesIO(content)).pages)
    return "".join(text.replace("-", "").replace("\u200b", "").split())


def test_a_person_of_whom_nothing_is_known(tmp_path: Path) -> None:
    [said] = archived(tmp_path).values()
    assert "WszystkiedaneoosobieP1" in said
    assert said.count("Brakwpisów.") == len(SECTIONS)
    assert "TreśćdokumentówZ" not in said
    assert "Sporządzono202611" in said


def test_codes_and_times_are_told_in_words(tmp_path: Path) -> None:
    consent = {
        "id": "c", "period": {"begin": "2026-01-01T00:00:00+00:00"},
        "provisions": [{"permit": False, "actors": ["1.2#7"], "condition": {"labels": ["V"]}}],
    }  # fmt: skip
    logged = Access(
        "1", AT, "ITI-43", "Retrieve Document Set", "R", "0", "node", person="1.2#7", name="Nowak Jan", role="nurse",
        organisation="1.3#9", organisation_name="Szpital", purpose="TREAT", bases=("poz",),
    )  # fmt: skip
    hidden = Access("2", AT, "ITI-18", "", "E", "8", "node", withheld=True)
    [said] = archived(
        tmp_path,
        documents=[
            {"title": "T", "class_code": "00.20^^1.2.3", "creation_time": "20260417101500", "status": "Approved"}
        ],
        facts=[{"kind": "consent", "facts": [consent], "recorded_at": "2026-11-22 21:30:00.5+00", "recorded_by": "P"}],
        accesses=[of_access(logged), of_access(hidden)],
        emergencies=[
            {"kind": "emergency", "professional": "1.2#77", "professional_name": "", "reason": "life-threat"},
            {"kind": "emergency", "professional": "1.2#78", "professional_name": "Sowa Ewa", "reason": "own words"},
        ],
    ).values()
    for words in (
        "zgoda lub zastrzeżenie", "zezwala: nie", "komu: 1.2#7", "poufność: V", "od: 20260101 01:00", "20261122 22:30",
        "Karta informacyjna leczenia szpitalnego", "20260417", "aktualny", "Otwarto dokument", "Nowak Jan", "Szpital", "pielęgniarka", "wybrany lekarz", "odmówiono", "z decyzji inspektora",
        "1.2#77", "zagrożenie życia", "Sowa Ewa", "own words",
    ):  # fmt: skip
        assert "".join(words.replace("-", "").split()) in said, words
    assert "1.2#78" not in said


def test_many_rows_are_volumes_and_each_stands_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(person_pages, "_ROWS_MAX", 40)
    monkeypatch.setattr(person_pages, "_CHARACTERS_MAX", 4000)
    documents = [{"title": f"<tytul{n:03}>", "unique_id": "1.2." + "3" * 90} for n in range(100)]
    notices = [{"kind": "access", "said": {"name": f"<osoba{n:03}>" + "x" * 3000}} for n in range(3)]
    found = archived(tmp_path, documents=documents, notices=notices)
    assert list(found) == ["osoba.pdf", *(f"osoba-{n}.pdf" for n in range(2, len(found) + 1))]
    assert 4 <= len(found) <= 8
    whole = "".join(found.values())
    assert [n for n in range(100) if whole.count(f"<tytul{n:03}>") != 1] == []
    assert [n for n in range(3) if whole.count(f"<osoba{n:03}>") != 1] == []
    assert whole.count("całośćwplikujson/notices.ndjson") == 3
    assert "część2" in found["osoba-2.pdf"]
    assert [name for name, text in found.items() if "Cozawieraarchiwum" in text] == ["osoba.pdf"]


def test_without_pages_there_is_no_archive(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pdf, "_TIMEOUT_S", 0.01)
    with pytest.raises(Failure, match="could not be made"):
        archived(tmp_path)

"""Words in texts: Polish endings and letters, what must stand together, and the passage that is shown."""

from __future__ import annotations

import pytest

from obieg.domain.text_search import WORDS_MAX, passage, stems

TEXT = (
    "Pacjentka leczona z powodu cukrzycy typu 2 od 2011 r. Zgłasza bóle głowy i zawroty. Ciśnienie 150/95 mmHg. "
    "Rozpoznano nadciśnienie tętnicze (I10). Zalecono dietę, kontrolę glikemii oraz łagodne ćwiczenia fizyczne codziennie."
)


@pytest.mark.parametrize(
    "asked",
    ["cukrzyca", "CUKRZYCĄ", "cukrzycowy", "ból", "bolu głowa", "glowy", "nadcisnienie", "łagodnych ćwiczeń", "lagodny cwiczenie",
     "I10", "i10 cukrzyca", "kontrola dieta", "typu 2", "2011", "zal zalecono"],
)  # fmt: skip
def test_found_in_another_form(asked: str) -> None:
    found = passage([("Wywiad", TEXT)], stems(asked))
    assert found is not None
    assert found.section == "Wywiad"
    assert any(piece.hit for piece in found.pieces)


@pytest.mark.parametrize("asked", ["astma", "cukrzyca astma", "I1", "I11", "201", "20112", "głowica"])
def test_not_found(asked: str) -> None:
    assert passage([("Wywiad", TEXT)], stems(asked)) is None


def test_words_may_stand_in_different_sections_and_in_titles() -> None:
    sections = [
        ("Konsultacja: kardiologia", ""),
        ("Wywiad", "Duszność od tygodnia."),
        ("Zalecenia", "Ból i duszność: EKG."),
    ]
    found = passage(sections, stems("duszności bólu kardiologii"))
    assert found is not None
    assert found.section == "Zalecenia"  # it says most of it
    assert [piece.text for piece in found.pieces if piece.hit] == ["Ból", "duszność"]
    only_title = passage(sections, stems("konsultacja"))
    assert only_title is not None
    assert only_title.pieces == ()


def test_the_passage_is_cut_between_words() -> None:
    found = passage([("", f"{'aaa ' * 60}serce {'bbb ' * 60}")], stems("serca"))
    assert found is not None
    said = "".join(piece.text for piece in found.pieces)
    assert said.startswith("… aaa ")
    assert said.endswith(" bbb …")
    assert len(said) < 220
    assert "".join(p.text for p in passage([("", TEXT)], stems("cukrzyca")).pieces).startswith("Pacjentka leczona")  # type: ignore[union-attr]


def test_how_much_is_asked_for_has_an_end() -> None:
    assert stems(" ,.;") == ()
    assert len(stems(" ".join(f"słowo{n}" for n in range(50)))) == WORDS_MAX
    assert stems("Ala ala ALA") == ("ala",)

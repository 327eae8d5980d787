"""The words of pages: the same in each language, each used, none missing."""

from __future__ import annotations

import re
from importlib.resources import files
from importlib.resources.abc import Traversable

import pytest

from obieg.web.kit import LANGUAGES, texts

WEB = files("obieg.web")
POLISH = re.compile("[ąćęłńóśźżĄĆĘŁŃÓŚŹŻ]")
KEY = r"[\w-]+"


def below(folder: Traversable, ending: str) -> list[Traversable]:
    found = []
    for each in folder.iterdir():
        found += below(each, ending) if each.is_dir() else [each] * each.name.endswith(ending)
    return found


def sources() -> str:
    """Templates, and modules of pages."""
    templates = below(WEB.joinpath("templates"), ".html")
    assert any("patient" in str(each) for each in templates)
    return "".join(each.read_text("utf-8") for each in [*templates, *below(WEB, ".py")])


def used(text: str) -> tuple[set[str], set[str], set[str]]:
    """Keys, beginnings of keys, and keys of what is counted."""
    # What is asked for is a key, one of two that a condition chooses, or a key's beginning.
    asked = re.findall(r"""\bt\(\s*((?:[^(),~]|\([^()]*\))*)[,)]""", text)
    keys = {key for first in asked for key in re.findall(rf"""(?:^|else )["']({KEY})["']""", first)}
    prefixes = set(re.findall(r"""\bt\(\s*["'](\w+_)["']\s*~""", text))
    prefixes |= set(re.findall(r"""\bf"([a-z]+_\w+_)\{""", text))  # of pages' own code
    counted = set(re.findall(rf"""\bt\.counted\(\s*["']({KEY})["']""", text))
    return keys, prefixes, counted


def test_catalogues_say_the_same() -> None:
    polish = texts("pl").words
    for language in LANGUAGES:
        words = texts(language).words
        assert words.keys() == polish.keys()
        assert all(word.strip() for word in words.values())
        for key, word in words.items():
            assert set(re.findall(r"\{(\w+)\}", word)) == set(re.findall(r"\{(\w+)\}", polish[key])), key


@pytest.mark.parametrize("language", LANGUAGES)
def test_each_key_is_in_one_file(language: str) -> None:
    keys = [
        line.partition(" = ")[0]
        for file in WEB.joinpath("texts", language).iterdir()
        for line in file.read_text("utf-8").splitlines()
        if re.match(rf"{KEY} = ", line)
    ]
    assert len(keys) == len({*keys})


def test_every_word_is_used_and_every_used_word_is_there() -> None:
    text = sources()
    keys, prefixes, counted = used(text)
    words = texts("pl").words.keys()
    assert {f"{key}_{form}" for key in counted for form in ("one", "few", "many")} <= words
    assert keys <= words
    assert all(any(word.startswith(prefix) for word in words) for prefix in prefixes)
    forms = {f"{key}_{form}" for key in counted for form in ("one", "few", "many")}
    named = set(re.findall(rf"""["']({KEY})["']""", text))  # also those that a variable carries
    left = {w for w in words if w not in keys | forms | named and not w.startswith(tuple(prefixes))}
    assert left == set()


@pytest.mark.parametrize("language", ["en", "uk"])
def test_translations_have_no_polish_letters(language: str) -> None:
    polish = {key: word for key, word in texts(language).words.items() if POLISH.search(word)}
    assert polish == {}

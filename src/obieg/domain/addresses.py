"""Addresses and telephone numbers as they are compared."""

from __future__ import annotations

import re
from collections.abc import Iterable
from functools import lru_cache

from obieg.domain import names
from obieg.domain.documents import Value
from obieg.domain.names import Likeness
from obieg.domain.persons import Address, Telecom

_COUNTRY_CALLING_CODE = "48"
_NATIONAL_DIGITS = 9
_PLACEHOLDER_DIGITS_MIN = 7  # shorter ones are extensions
# What a street is called besides its name: kind, title of whom it is named after, what a flat is called.
_NOISE = frozenset({
    "ul", "ulica", "al", "aleja", "aleje", "os", "osiedle", "pl", "plac", "rynek", "m", "mieszkanie",
    "mieszkania", "lok", "lokal", "nr", "dom", "bl", "blok", "kl", "klatka", "street", "st", "avenue", "ave",
    "road", "rd", "blvd", "boulevard", "dr", "drive", "lane", "ln", "gen", "generala", "ks", "ksiedza", "sw",
    "swietego", "swietej", "prof", "profesora", "marsz", "marszalka", "plk", "pulkownika", "kard", "kardynala",
    "bp", "biskupa", "hetm", "hetmana", "krolowej", "krola", "dra", "doktora", "im", "imienia", "west", "east",
    "north", "south",
})  # fmt: skip
_LETTER_OF_HOUSE = re.compile(r"(\d) ([a-ln-z])\b")  # m is for a flat


class Home(Value, frozen=True, array_like=True):
    """An address folded; what is not known is empty."""

    city: str = ""
    postal_code: str = ""  # digits
    street: str = ""  # the longest word of its name
    numbers: tuple[str, ...] = ()  # of house and flat
    simc: str = ""
    ulic: str = ""


def homes(addresses: Iterable[Address]) -> tuple[Home, ...]:
    """The addresses of a person that say anything."""
    return tuple(
        [_home(a.street, a.city, a.postal_code, a.simc, a.ulic) for a in addresses if a.street or a.city or a.simc]
    )


@lru_cache(maxsize=1 << 12)
def _home(street: str, city: str, postal_code: str, simc: str, ulic: str) -> Home:
    words = _LETTER_OF_HOUSE.sub(r"\1\2", names.fold(street)).split()
    numbers = tuple([w for w in words if not w.isalpha()])
    spelt = [w for w in words if w.isalpha()]
    telling = [w for w in spelt if w not in _NOISE and len(w) > 1] or spelt
    digits = "".join([c for c in postal_code if c.isdigit()])
    place = names.fold(city)
    named = max(telling, key=len, default="")
    # In villages houses are numbered without streets, and the place's name may stand for the street's.
    return Home(place, digits, "" if named in place.split() else named, numbers, simc, ulic)


def level(left: tuple[Home, ...], right: tuple[Home, ...]) -> str:
    """``home``, ``street``, ``place``, ``moved`` or ``different``, the best of all pairs; empty: nothing to compare.

    ``place`` is one place, the streets not being known; ``moved`` is another street of it.
    """
    if len(left) == len(right) == 1:
        return _level(left[0], right[0])
    found = {_level(a, b) for a in left for b in right}
    return next((one for one in ("home", "street", "place", "moved", "different") if one in found), "")


@lru_cache(maxsize=1 << 14)
def _level(left: Home, right: Home) -> str:
    place = _same(left.simc, right.simc)
    postal = _same(left.postal_code, right.postal_code)
    if place is None:
        place = _same(left.city, right.city)
    if place is None:
        place = postal
    elif not place and postal:
        place = _alike(left.city, right.city)  # a city misspelt, or the post office instead of the village
    if place is None:
        return ""
    if not place:
        return "different"
    street = _same(left.ulic, right.ulic)
    if street is None and left.street and right.street:
        street = left.street == right.street or _alike(left.street, right.street)
    elif street is None and not left.street and not right.street and left.numbers and right.numbers:
        street = True  # a village
    if not street:
        return "place" if street is None else "moved"
    short, long = sorted((left.numbers, right.numbers), key=len)
    if not short:
        return "street"
    return "home" if long[: len(short)] == short else "street"


def _same(left: str, right: str) -> bool | None:
    return left == right if left and right else None


def _alike(left: str, right: str) -> bool:
    return names.family_likeness(left, right) >= Likeness.SHORT


def numbers(telecoms: Iterable[Telecom]) -> frozenset[str]:
    """Telephone numbers in E.164 without the plus, e-mail addresses in small letters."""
    return frozenset(
        [n for t in telecoms if (n := _number(t.number or f"{t.country_code}{t.area_code}{t.local_number}"))]
    )


@lru_cache(maxsize=1 << 12)
def _number(text: str) -> str:
    text = text.strip().lower().removeprefix("mailto:")
    if "@" in text:
        return text
    digits = text.lstrip("+")
    if not digits.isdigit():
        digits = "".join([c for c in text if c.isdigit()])
    digits = digits.removeprefix("00") if text.removeprefix("tel:").startswith("00") else digits
    if len(digits) == _NATIONAL_DIGITS + 1:
        digits = digits.removeprefix("0")  # the trunk prefix of old
    if len(digits) < _PLACEHOLDER_DIGITS_MIN or len(set(digits[-_PLACEHOLDER_DIGITS_MIN:])) == 1:
        return ""
    return _COUNTRY_CALLING_CODE + digits if len(digits) == _NATIONAL_DIGITS else digits

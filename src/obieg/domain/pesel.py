"""The PESEL, the number of the Polish register of inhabitants, and what it says of its bearer.

Eleven digits: date of birth with the century in the month, a serial number whose last digit tells the sex (odd: male),
a control digit. The register gives a person one number and changes it when the date of birth or the sex was wrong or a
child is adopted (ustawa o ewidencji ludności, art. 15 to 19); so one person may truly have had two.
"""

from __future__ import annotations

import re
import unicodedata
from datetime import date
from functools import lru_cache
from operator import mul

from obieg.domain.documents import Value

_LENGTH = 11
_SEPARATORS = re.compile(r"[\s-]+")
_WEIGHTS = (1, 3, 7, 9, 1, 3, 7, 9, 1, 3, 1)  # with them the digits add up to a multiple of ten
_CENTURIES = {8: 1800, 0: 1900, 2: 2000, 4: 2100, 6: 2200}  # by what is added to the tens of the month
# One digit throughout, counting up, counting down.
_RUNS = frozenset(
    "".join(str((start + step * n) % 10) for n in range(_LENGTH)) for start in range(10) for step in (0, 1, -1)
)
_LAST_BIRTH_YEAR = "2099"  # the register provides for two more centuries; nobody of ours is born in them


class Pesel(Value, frozen=True):
    """A number as written, and what stands in it; nothing stands in one that is not ``valid``."""

    number: str  # the digits, without the separators that it was written with
    valid: bool = False  # right control digit and date, and no fill-in: it names a person
    artificial: bool = False  # a fill-in for somebody whose number is not known; it names nobody
    birth_date: str = ""  # YYYYMMDD
    sex: str = ""  # M, F


@lru_cache(maxsize=1 << 12)
def read(text: str) -> Pesel:
    """Reads a number; never fails, for what sources send in its place is manifold."""
    number = text
    if not text.isalnum() or not text.isascii():
        number = _SEPARATORS.sub("", text if text.isascii() else unicodedata.normalize("NFKC", text))
    if not number.isascii() or not number.isdigit():
        return Pesel(number)
    if not number.strip("0") or _is_fill_in(number):
        return Pesel(number, artificial=True)
    if len(number) != _LENGTH:
        return Pesel(number)
    born = _day(number[:6])
    if not born or sum(map(mul, _WEIGHTS, number.encode())) % 10:  # the code of 0 is 48: 45 times 48 more
        return Pesel(number)
    if born[:4] > _LAST_BIRTH_YEAR:
        return Pesel(number, artificial=True)
    return Pesel(number, valid=True, birth_date=born, sex="FM"[int(number[9]) % 2])


@lru_cache(maxsize=1 << 16)
def _day(digits: str) -> str:
    """The date that the first six digits are, YYYYMMDD; "" where they are none."""
    of_month = int(digits[2:4])
    year, month = _CENTURIES[of_month // 20 * 2] + int(digits[:2]), of_month % 20
    try:
        date(year, month, int(digits[4:6]))
    except ValueError:
        return ""
    return f"{year}{month:02}{digits[4:6]}"


def _is_fill_in(number: str) -> bool:
    """One digit throughout (22222222222 has the right control digit), counting up or down, an empty serial number."""
    if len(number) != _LENGTH:
        return False
    return number in _RUNS or number[6:] == number[6] * 5


def is_valid(text: str) -> bool:
    """Whether it names a person: the control digit and the date are right, and it is no fill-in."""
    return read(text).valid


def is_misspelling(wrong: str, right: str) -> bool:
    """Whether one digit was replaced, left out or added, or two neighbours changed places."""
    if wrong == right or not wrong or not right:
        return False
    if len(wrong) == len(right):
        places = [place for place, (a, b) in enumerate(zip(wrong, right, strict=True)) if a != b]
        if len(places) == 1:
            return True
        first, last = places[0], places[-1]
        return len(places) == 2 and last == first + 1 and wrong[first] == right[last] and wrong[last] == right[first]
    short, long = sorted((wrong, right), key=len)
    return len(long) - len(short) == 1 and any(long[:i] + long[i + 1 :] == short for i in range(len(long)))

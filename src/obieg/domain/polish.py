"""Polish alphabetical order as bytes that sort by plain comparison, the same on every database.

Words are compared as Poles expect of a list of persons: letter by letter in the alphabet (a ą b c ć … z ź ż; q v x at
their Latin places), shorter before longer, "Nowak" before "Nowak-Kowalska" before "Nowakowska" (a hyphen parts words as
a space does; apostrophes and full stops do not count). Foreign marks (é, ö, š) decide only among what is otherwise
equal, and case, small before capital, only after that. Digits come before letters, other scripts after them.
"""

from __future__ import annotations

import unicodedata
from functools import cache

_ALPHABET = "aąbcćdeęfghijklłmnńoópqrsśtuvwxyzźż"
_FOREIGN = {"ß": "ss", "æ": "ae", "œ": "oe", "ø": "o", "đ": "d", "ð": "d", "þ": "th", "ħ": "h", "ı": "i"}
_IGNORED = "'’‘`ʼ.,"
_PART, _WORD, _DIGIT, _LETTER, _OTHER_SCRIPT = 0x02, 0x03, 0x10, 0x20, 0xF0
_PLAIN, _CAPITAL, _MARKED = 0x01, 0x02, 0x02
SORT_KEY_BYTES_MAX = 1024  # an index row of PostgreSQL takes less than 2,704


def sort_key(*parts: str) -> bytes:
    """The key of a text, or of texts of which the first decides first (family name, given names)."""
    letters, marks, cases = bytearray(), bytearray(), bytearray()
    for position, part in enumerate(parts):
        if position:
            letters.append(_PART)
        pending_gap = False
        begun = False
        for character in unicodedata.normalize("NFC", part):
            if character in _IGNORED:
                continue
            if not character.isalnum():
                pending_gap = begun
                continue
            if pending_gap:
                letters.append(_WORD)
                pending_gap = False
            begun = True
            weight, mark = _weight(character.lower())
            letters += weight
            marks.append(mark)
            cases.append(_CAPITAL if character != character.lower() else _PLAIN)
    # The least weight may be left out at the end: what is left compares the same.
    plain = bytes((_PLAIN,))
    key = bytes(letters) + b"\0" + bytes(marks).rstrip(plain) + b"\0" + bytes(cases).rstrip(plain)
    return key.rstrip(b"\0")[:SORT_KEY_BYTES_MAX]


@cache
def _weight(character: str) -> tuple[bytes, int]:
    """The place in the alphabet of a small letter or digit, and whether it bears a foreign mark."""
    place = _ALPHABET.find(character)
    if place >= 0:
        return bytes((_LETTER + place,)), _PLAIN
    if character.isdecimal():
        return bytes((_DIGIT + unicodedata.decimal(character),)), _PLAIN
    letters = _FOREIGN.get(character) or unicodedata.normalize("NFD", character)
    plain = "".join(c for c in letters if c in _ALPHABET)
    if plain:
        return bytes(_LETTER + _ALPHABET.index(c) for c in plain), _MARKED
    return b"".join(bytes((_OTHER_SCRIPT,)) + ord(c).to_bytes(3, "big") for c in character), _PLAIN

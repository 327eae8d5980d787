"""What people prove themselves by: passwords, codes, pauses, where they may be sent."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from urllib.parse import parse_qs, urlsplit

import pytest

from obieg.codes.load import toml
from obieg.domain.accounts import (
    PAUSES_S,
    ROLES,
    check_password,
    fold_login,
    is_login,
    is_person_identifier,
    own_path,
    subject,
    totp_code,
    totp_secret,
    totp_step,
    totp_text,
    totp_uri,
)

SECRET = b"12345678901234567890"  # RFC 6238, appendix B


@pytest.mark.parametrize(
    ("seconds", "code"),
    [(59, "94287082"), (1111111109, "07081804"), (1111111111, "14050471"), (1234567890, "89005924"),
     (2000000000, "69279037"), (20000000000, "65353130")],
)  # fmt: skip
def test_codes_are_those_of_rfc_6238(seconds: int, code: str) -> None:
    assert totp_code(SECRET, seconds // 30) == code[-6:]


def test_a_code_is_good_once_and_one_step_around() -> None:
    now = datetime(2026, 11, 22, 12, 0, 10, tzinfo=UTC)
    here = int(now.timestamp()) // 30
    for away, good in ((-2, False), (-1, True), (0, True), (1, True), (2, False)):
        assert (totp_step(SECRET, totp_code(SECRET, here + away), now, 0) == here + away) is good
    code = totp_code(SECRET, here)
    assert totp_step(SECRET, f"{code[:3]} {code[3:]}", now, 0) == here
    assert totp_step(SECRET, code, now, here) is None
    assert totp_step(SECRET, totp_code(SECRET, here - 1), now, here) is None
    assert totp_step(SECRET, totp_code(SECRET, here + 1), now + timedelta(seconds=30), here) == here + 1
    for wrong in ("", "12345", "1234567", "ąęśćżź", "١٢٣٤٥٦"):
        assert totp_step(SECRET, wrong, now, 0) is None


def test_what_authenticators_are_told() -> None:
    parts = urlsplit(totp_uri(SECRET, login="anna@szpital", issuer="Region: próba"))
    assert (parts.scheme, parts.netloc) == ("otpauth", "totp")
    assert parse_qs(parts.query) == {"secret": ["GEZDGNBVGY3TQOJQGEZDGNBVGY3TQOJQ"], "issuer": ["Region: próba"]}
    assert totp_text(SECRET) == "GEZDGNBVGY3TQOJQGEZDGNBVGY3TQOJQ"
    assert totp_secret(bytes(range(32))) == bytes(range(20))


@pytest.mark.parametrize(
    "password",
    ["żuraw skleja cztery mosty", "correct horse battery staple", "w7#Kd!2pQz@9", "лелека клеїть мости",
     "mokry-żubr-liczy-śruby", "Tx4 vowel quince", "ich weiß nicht was soll"],
)  # fmt: skip
def test_passwords_that_take_many_guesses(password: str) -> None:
    assert check_password(password, ("anna", "lek. Anna Nowak", "Szpital w Wieliczce")) == ""


@pytest.mark.parametrize(
    "password",
    ["aaaaaaaaaaaa", "123456789012", "qwertyuiop12", "abcabcabcabc", "Password1234", "P@ssw0rd2024!", "Haslo1234567",
     "hasłohasłohasło", "Krakow2024!!!", "zaq12wsxcde3", "Polska1234!!", "Annanowak2026", "Wieliczka2026!",
     "SzpitalSzpital1", "11111111111111111111", "qwertyqwerty1", "йцукенгшщзхъ", "парольпароль", "lato2026lato2026",
     "k0ch4n13 2026!", "987654321098", "mnbvcxzlkjhgf", "1qaz2wsx3edc"],
)  # fmt: skip
def test_passwords_that_are_guessed_at_once(password: str) -> None:
    assert check_password(password, ("anna", "lek. Anna Nowak", "Szpital w Wieliczce", "Wieliczka")) == "guessable"


def test_length_is_the_only_rule_of_form() -> None:
    assert check_password("w7#Kd!2pQz@") == "short"
    assert check_password("łódź żółw gę") == ""
    assert check_password("x" * 129) == "long"
    assert check_password("w7#Kd!2pQz@9" + " " * 116) == ""


def test_what_is_known_of_the_person_counts_as_a_word() -> None:
    assert check_password("Grzmilaska#84") == ""
    assert check_password("Grzmilaska#84", ("dr Ewa Grzmilaska",)) == "guessable"


def test_passwords_are_hashed_as_is_recommended_now() -> None:
    """The least of the OWASP Password Storage Cheat Sheet: argon2id with 19 MiB and two passes."""
    argon2 = toml("people.toml")["argon2"]
    assert argon2["memory_kib"] >= 19 * 1024
    assert argon2["passes"] >= 2


def test_pauses_grow() -> None:
    assert list(PAUSES_S) == sorted(PAUSES_S)
    assert PAUSES_S[0] == 0
    assert PAUSES_S[-1] <= 300, "longer ones would let anybody lock a doctor out"


def test_failures_are_counted_for_what_is_meant() -> None:
    assert subject(" Anna ") == subject("anna") == subject("ＡＮＮＡ")
    assert subject("anna") != subject("ana")
    assert fold_login("x" * 1000) == "x" * 64


@pytest.mark.parametrize(("text", "good"), [("anna", True), ("a.nowak@szpital-2", True), ("", False), ("Anna", False),
    ("a b", False), (".a", False), ("a" * 65, False), ("ańna", False)])  # fmt: skip
def test_logins(text: str, good: bool) -> None:
    assert is_login(text) is good


@pytest.mark.parametrize(("text", "good"), [("1.2.3#77", True), ("2.16.840.1.113883.3.4424.1.6.2#1234567", True),
    ("anna", True), ("1.2.3#", False), ("x#y", False), ("1.2#a#b", False), ("a b", False), ("", False)])  # fmt: skip
def test_identifiers_of_people(text: str, good: bool) -> None:
    assert is_person_identifier(text) is good


@pytest.mark.parametrize("path", ["/account", "/", "/auth/authorize?a=b&c=%2F%2Fd", "/a//b", "/a?next=//b"])
def test_own_paths(path: str) -> None:
    assert own_path(path) == path


@pytest.mark.parametrize(
    "path",
    ["", "account", "//evil.example", "///evil", "/\\evil", "\\/evil", "https://evil", "javascript:alert(1)", "/a\nb",
     "/a\tb", " /a", "/a b", "/ą", "/a#b", "/" + "a" * 5000, "?a", "/\x00"],
)  # fmt: skip
def test_paths_of_others(path: str) -> None:
    assert own_path(path) == ""


def test_roles_have_names_in_all_languages() -> None:
    assert len(ROLES) > 10
    assert all(set(names) == {"pl", "en", "uk"} and all(names.values()) for names in ROLES.values())


def test_words_that_are_guessed_are_folded() -> None:
    words = toml("people.toml")["guessable"]["words"]
    assert words == [word.casefold() for word in words]
    assert len(words) == len(set(words))

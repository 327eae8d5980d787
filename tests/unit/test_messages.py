"""How people are reached, and that what they are told says nothing of them."""

from __future__ import annotations

import pytest

from obieg.codes.load import toml
from obieg.domain.messages import LANGUAGES, Reach, code_message, mobile_number, reach, to_officer, to_patient
from obieg.domain.persons import Demographics, Telecom


@pytest.mark.parametrize(
    ("telecom", "number"),
    [
        (Telecom("512345678"), "+48512345678"),
        (Telecom("512-345-678"), "+48512345678"),
        (Telecom("+48 512 345 678"), "+48512345678"),
        (Telecom("0048512345678"), "+48512345678"),
        (Telecom("48512345678"), "+48512345678"),
        (Telecom("221234567"), ""),  # a landline
        (Telecom("221234567", equipment="CP"), "+48221234567"),
        (Telecom("512345678", equipment="FX"), ""),
        (Telecom("+380501234567"), ""),
        (Telecom("+380501234567", equipment="CP"), "+380501234567"),
        (Telecom("+491512345678"), ""),  # as long as one of ours, with the prefix of another country
        (Telecom("lis@poczta.example"), ""),
        (Telecom("512345678;wget"), ""),
        (Telecom("٥١٢٣٤٥٦٧٨"), ""),
        (Telecom(country_code="48", local_number="512345678"), "+48512345678"),
        (Telecom(), ""),
    ],
)
def test_numbers_that_take_sms(telecom: Telecom, number: str) -> None:
    assert mobile_number(telecom) == number


@pytest.mark.parametrize(
    "address", ["lis@poczta.example\r\nBcc: x@y.example", "a b@c.example", "<x@y.example>", "x@y", "x@", ""]
)
def test_what_is_no_address(address: str) -> None:
    assert reach([Demographics(telecoms=(Telecom(address),))], "pl").email in ("", "lis@poczta.example")


def test_a_line_break_ends_no_address() -> None:
    assert reach([Demographics(telecoms=(Telecom("lis@poczta.example\r\nBcc: x@y.example"),))], "pl").email == ""


def test_the_newest_record_goes_first() -> None:
    new = Demographics(telecoms=(Telecom("new@poczta.example"),), language="de")
    old = Demographics(telecoms=(Telecom("old@poczta.example"), Telecom("601234567")), language="uk-ua")
    assert reach([new, old], "pl") == Reach("new@poczta.example", "+48601234567", "uk")
    assert reach([], "en") == Reach("", "", "en")


@pytest.mark.parametrize("language", LANGUAGES)
def test_every_text_is_in_every_language(language: str) -> None:
    to = Reach("a@b.example", "+48512345678", language)
    for kind in toml("notices.toml")["patient"]:
        for sms in (True, False):
            message = to_patient(kind, to, "", "r", sms=sms)
            assert "{" not in message.text
            assert bool(message.subject) is not sms
            assert message.to == (to.mobile if sms else to.email)
    assert "123456" in code_message(to, "123456", 10, "r").text
    assert "7" in to_officer("o@b.example", "7", language, "r").subject
    assert {*toml("access.toml")["emergency"]["reasons"]["other"]} == {*LANGUAGES}

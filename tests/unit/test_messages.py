"""How people are reached, and that what they are told says nothing of them."""

from __future__ import annotations

import asyncio
import itertools
from datetime import UTC, date, datetime
from typing import Any

import pytest

from obieg.actors.messenger import PatientMessenger
from obieg.codes.load import toml
from obieg.domain.access import Facts, Period, Representative, Settings
from obieg.domain.messages import (
    LANGUAGES,
    Channels,
    Message,
    Pending,
    Reach,
    code_message,
    mobile_number,
    reach,
    to_officer,
    to_person,
)
from obieg.domain.obligations import receivers
from obieg.domain.outbox import Letter
from obieg.domain.persons import Demographics, Telecom
from obieg.domain.problems import Problem, RetryLater


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
    for whose, kind in itertools.product(("patient", "guardian"), toml("notices.toml")["patient"]):
        for sms in (True, False):
            message = to_person(whose, kind, to, "", "r", sms=sms)
            assert "{" not in message.text
            assert bool(message.subject) is not sms
            assert message.to == (to.mobile if sms else to.email)
    assert "123456" in code_message(to, "123456", 10, "r").text
    assert "7" in to_officer("o@b.example", "7", language, "r").subject
    assert {*toml("access.toml")["emergency"]["reasons"]["other"]} == {*LANGUAGES}


NOW = datetime(2026, 11, 22, 12, tzinfo=UTC)
CHILD, MOTHER, FATHER, DOCTOR = "1.2#child", "1.2#mother", "1.2#father", "1.6#7"
ENDED = Period(None, datetime(2026, 1, 1, tzinfo=UTC))


def child(born: date | None, *representatives: Representative, **more: Any) -> Facts:
    both = (Representative(MOTHER, "guardian"), Representative(FATHER, "guardian"))
    return Facts((CHILD,), birth_date=born, representatives=representatives or both, **more)


@pytest.mark.parametrize(
    ("facts", "by", "patient", "guardians"),
    [
        (child(date(2016, 5, 1)), DOCTOR, False, (MOTHER, FATHER)),
        (child(date(2010, 11, 23)), DOCTOR, False, (MOTHER, FATHER)),  # 16 tomorrow
        (child(date(2010, 11, 22)), DOCTOR, True, (MOTHER, FATHER)),  # 16 today
        (child(date(2008, 11, 23)), DOCTOR, True, (MOTHER, FATHER)),  # 18 tomorrow
        (child(date(2008, 11, 22)), DOCTOR, True, ()),  # 18 today
        (child(None), DOCTOR, True, ()),  # counts as of age
        (child(date(2016, 5, 1)), MOTHER, False, (FATHER,)),  # nobody is told of what they did
        (child(date(2010, 1, 1)), CHILD, False, (MOTHER, FATHER)),
        (child(date(2016, 5, 1), Representative(MOTHER, "guardian", ENDED)), DOCTOR, True, ()),
        (child(date(2016, 5, 1), Representative(MOTHER, "authorised")), DOCTOR, True, ()),  # asks for herself
        (child(date(2016, 5, 1), Representative(MOTHER, "informed")), DOCTOR, True, ()),
        (child(date(2016, 5, 1), died_on=date(2026, 1, 1)), DOCTOR, True, ()),
    ],
)
def test_guardians_are_told_until_the_child_is_18(
    facts: Facts, by: str, patient: bool, guardians: tuple[str, ...]
) -> None:
    told = receivers(facts, by, NOW, Settings())
    assert (told.patient, told.guardians) == (patient, guardians)


class Taking:
    """A channel that takes what it is told to."""

    def __init__(self, *fails: Exception) -> None:
        self.fails = [*fails]
        self.taken: list[Message] = []

    async def send(self, message: Message) -> None:
        if self.fails and (failure := self.fails.pop(0)):
            raise failure
        self.taken.append(message)


class Notices:
    def __init__(self, facts: Facts) -> None:
        self.facts = facts

    async def pending(self, patient_key: int, notice_id: int) -> Pending:
        return Pending("access", NOW, DOCTOR, self.facts, ())

    async def records(self, person: str) -> list[Demographics]:
        return [Demographics(telecoms=(Telecom(f"{person.partition('#')[2]}@poczta.example"),))]


@pytest.mark.parametrize("failure", [RetryLater("away"), Problem.of("NotificationRefused", "550")])
def test_what_one_is_not_told_keeps_nobody_else_from_being_told(failure: Exception) -> None:
    channel = Taking(failure)
    messenger = PatientMessenger(
        Notices(child(date(2016, 5, 1))), Channels(channel), settings=Settings(), now=lambda: NOW, source="r",
        portal="", language="pl",
    )  # fmt: skip
    letter = Letter(1, 7, "NOTICE", "patients", b"5", NOW)
    with pytest.raises(type(failure)):
        asyncio.run(messenger.deliver(letter))
    assert [m.to for m in channel.taken] == ["father@poczta.example"]
    asyncio.run(messenger.deliver(letter))
    again = channel.taken[1:]
    assert [m.to for m in again] == ["mother@poczta.example", "father@poczta.example"]
    assert again[1].reference == channel.taken[0].reference != again[0].reference
    assert "którą reprezentujesz" in again[0].text

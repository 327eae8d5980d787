"""What people are told outside this node, by e-mail or SMS: that there is something to see, never what it is."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import NamedTuple, Protocol

from obieg.codes.load import toml
from obieg.domain.access import Facts
from obieg.domain.documents import Value
from obieg.domain.persons import Demographics, Telecom

_TABLE = toml("notices.toml")
_MOBILE = _TABLE["mobile"]
LANGUAGES = tuple(_TABLE["portal"])
_ADDRESS = re.compile(r"[A-Za-z0-9.!#$%&'*+/=?^_`{|}~-]{1,64}@[A-Za-z0-9-]{1,63}(?:\.[A-Za-z0-9-]{1,63})+\Z", re.ASCII)
_NUMBER = re.compile(r"\+?\d{7,15}\Z", re.ASCII)
_CELL, _FAX = "CP", "FX"  # HL7 table 0202


class Message(Value, frozen=True):
    """A text to one address; ``reference`` is the same whenever it is sent again."""

    to: str
    subject: str  # "" of an SMS
    text: str
    reference: str


class Channel(Protocol):
    """One way to reach people."""

    async def send(self, message: Message) -> None:
        """Returns when it is taken over. Raises Problem where waiting helps nothing, RetryLater where it may."""


class Channels(NamedTuple):
    """The ways that this node has; None: not that one."""

    email: Channel | None = None
    sms: Channel | None = None


class Reach(NamedTuple):
    """How a person can be reached, and in which language."""

    email: str = ""
    mobile: str = ""  # as +48…
    language: str = ""


class Pending(NamedTuple):
    """A notice that is to be sent to a patient, and to guardians."""

    kind: str  # of domain/obligations.py, Told
    at: datetime
    by: str  # who did what is told: root#extension; "": nobody that it names
    facts: Facts
    records: Sequence[Demographics]  # what is said of the person, the newest first


class NoticeStore(Protocol):
    """Where notices are read when they are sent."""

    async def pending(self, patient_key: int, notice_id: int) -> Pending | None:
        """None for one that is gone."""

    async def records(self, person: str) -> Sequence[Demographics]:
        """What is said of a person with this identifier (root#extension), the newest first; () where nobody has it."""


def reach(records: Iterable[Demographics], otherwise: str) -> Reach:
    """The first address, the first mobile number and the first language (one that texts are in) that records say."""
    listed = list(records)
    telecoms = [telecom for record in listed for telecom in record.telecoms]
    email = next((t.number.strip() for t in telecoms if _ADDRESS.match(t.number.strip())), "")
    mobile = next(filter(None, map(mobile_number, telecoms)), "")
    spoken = (record.language.partition("-")[0] for record in listed)
    return Reach(email, mobile, next((s for s in spoken if s in LANGUAGES), otherwise))


def mobile_number(telecom: Telecom) -> str:
    """As +48…; "" for what is no number that takes SMS."""
    if telecom.equipment == _FAX:
        return ""
    said = telecom.number or f"{telecom.country_code}{telecom.area_code}{telecom.local_number}"
    number = re.sub(r"[\s().-]", "", said)
    number = re.sub(r"\A00", "+", number)
    if not _NUMBER.match(number):
        return ""
    digits = number.removeprefix("+")
    national = digits.removeprefix(_MOBILE["country"]) if len(digits) > _MOBILE["national_length"] else digits
    if len(national) == _MOBILE["national_length"] and (number[0] != "+" or digits.startswith(_MOBILE["country"])):
        known = national.startswith(tuple(_MOBILE["prefixes"]))
        return f"+{_MOBILE['country']}{national}" if known or telecom.equipment == _CELL else ""
    return number if number[0] == "+" and telecom.equipment == _CELL else ""


def _said(texts: Mapping[str, str], language: str, **values: str) -> str:
    return texts[language].format(**values)


def to_person(whose: str, kind: str, to: Reach, portal: str, reference: str, *, sms: bool) -> Message:
    """What a patient is told of a notice, or (``whose`` is guardian, not patient) who represents the patient."""
    row, language = _TABLE[whose][kind], to.language
    text = _said(row["text"], language, portal=portal or _TABLE["portal"][language])
    return (
        Message(to.mobile, "", text, reference) if sms else Message(to.email, row["subject"][language], text, reference)
    )


def to_officer(address: str, review: str, language: str, reference: str) -> Message:
    """What the officer is told of a line of the worklist."""
    row = _TABLE["officer"]
    subject, text = (_said(row[part], language, review=review) for part in ("subject", "text"))
    return Message(address, subject, text, reference)


def handout_message(to: Reach, code: str, minutes: int, reference: str) -> Message:
    """The code by which who stands at the counter confirms that they want what is printed there."""
    text = _said(_TABLE["handout_code"]["text"], to.language, code=code, minutes=str(minutes))
    return Message(to.mobile, "", text, reference)


def code_message(to: Reach, code: str, minutes: int, reference: str) -> Message:
    """The code by which a patient consents."""
    return Message(
        to.mobile, "", _said(_TABLE["code"]["text"], to.language, code=code, minutes=str(minutes)), reference
    )

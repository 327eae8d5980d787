"""What Węzeł Krajowy says of a person, in our own terms (eIDAS SAML Attribute Profile 1.2, section 2.2)."""

from __future__ import annotations

import re
from datetime import date

from obieg.codes.load import toml
from obieg.domain import pesel
from obieg.domain.patient_login import ProvedPatient
from obieg.wire.saml_protocol import Assertion
from obieg.wire.structure import SecurityRefused

_NAMES = {row["fact"]: row["name"] for row in toml("national/pl/wezel_krajowy.toml")["attribute"]}
_DATE = re.compile(r"(\d{4}-\d{2}-\d{2})(?:Z|[+-]\d{2}:\d{2})?", re.ASCII)  # xs:date


def read_patient(assertion: Assertion) -> ProvedPatient:
    """The person. Raises :class:`SecurityRefused` where an attribute is missing or is not what it should be."""
    facts = {fact: assertion.attributes.get(name, "") for fact, name in _NAMES.items()}
    number = facts["pesel"]
    if not pesel.is_valid(number) or not number.isdigit():
        raise SecurityRefused("the identifier of the person is no PESEL")
    for fact in ("family_name", "given_name"):
        if not facts[fact] or not facts[fact].isprintable():
            raise SecurityRefused(f"{fact} is missing or cannot be read")
    return ProvedPatient(
        pesel=number,
        family_name=facts["family_name"],
        given_name=facts["given_name"],
        birth_date=_date(facts["birth_date"]),
        issuer=assertion.issuer,
        assurance=assertion.level,
        name_id=assertion.name_id,
        session_index=assertion.session_index,
        until=assertion.session_until,
    )


def _date(text: str) -> date:
    match = _DATE.fullmatch(text)
    try:
        if match:
            return date.fromisoformat(match[1])
    except ValueError:
        pass
    raise SecurityRefused("the date of birth cannot be read")

"""The patient's own views, given out on paper at the counter (docs/access.md, Handing out at the counter).

The right is that of art. 26 of the Patient Rights Act. Who stands there confirms it: by a code sent to their phone, or
by an identity document where no code can be told.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from obieg.codes.load import toml
from obieg.domain.access_log import AccessLogPage
from obieg.domain.consents import Said
from obieg.domain.documents import Value
from obieg.domain.identifiers import PatientId
from obieg.domain.representatives import Entitled

_TABLE = toml("handouts.toml")
DOCUMENTS: tuple[str, ...] = tuple(_TABLE["documents"])  # by which somebody's identity is checked
REASONS: tuple[str, ...] = tuple(_TABLE["reasons"])  # why a code is not told although there is a phone
LOG_COUNT: int = _TABLE["log_count"]  # entries of the access log on the paper
DOCUMENTS_MAX: int = _TABLE["documents_max"]  # that it lists, former versions among them
NO_PHONE = "no-phone"  # the node's own reason: no mobile number is known, or no SMS are sent
CODE = "code"
SCOPE = "handout"  # of a code, beside those of consents


class HandoutCodeAsked(Value, frozen=True):
    """A code is to be sent to who stands there."""

    patient: PatientId
    stands: str = ""  # root#extension; "": the patient


class HandoutAsked(Value, frozen=True):
    """What the patient would see is to be given out, confirmed by the code of a request or by an identity document."""

    patient: PatientId
    stands: str = ""
    request: str = ""
    code: str = ""
    document: str = ""  # one of DOCUMENTS
    reason: str = ""  # one of REASONS
    base: str = ""  # address of the FHIR service


class HandedOut(NamedTuple):
    """What is given out, as the patient, or who acts for them, would be shown it."""

    stands: str  # what who stands there is called; "": nobody has said it
    bases: Sequence[str]
    confirmed: str  # CODE, or one of DOCUMENTS
    documents: Sequence[bytes]  # DocumentReferences, JSON
    more: bool  # there are others
    consents: Sequence[Said]
    log: AccessLogPage
    entitled: Sequence[Entitled]
    summary: bytes  # a Bundle, JSON; b"" where there is none


def told(code: str, patient: PatientId) -> str:
    """What a digest is made of: a code is good for one patient, whoever else has the same phone, and for no consent."""
    return f"{code} {SCOPE} {patient}"

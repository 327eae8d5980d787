"""Opening the pages of professionals out of a hospital's own system, with a patient and no second log-in.

The system asks for it by token exchange (RFC 8693) in its person's name, and gets a code that a browser opens once.
"""

from __future__ import annotations

from datetime import datetime, timedelta

from obieg.codes.load import toml
from obieg.domain.documents import Value

_TABLE = toml("launching.toml")
GRANT_TYPE: str = _TABLE["grant_type"]
SUBJECT_TYPE: str = _TABLE["subject_type"]
LAUNCH_TYPE: str = _TABLE["launch_type"]
CODE_LIFE = timedelta(seconds=_TABLE["code_s"])
PROOF_LIFE = timedelta(seconds=_TABLE["proof_s"])
# Where a record is opened for a purpose: HL7's PurposeOfUse -> part of the address of the pages.
PURPOSES: dict[str, str] = _TABLE["purposes"]


class Launching(Value, frozen=True):
    """What the system named: who opens whose record, as whom, where and for what."""

    client_id: str
    client_name: str  # for people
    person: str  # root#extension, as the person's account has it
    organisation: str  # root#extension
    role: str  # code of codes/roles.toml
    purpose_of_use: str  # a key of PURPOSES
    patient: str  # logical id of the patient; "": nobody here is known by the identifier that it named
    proved_at: datetime  # when the person proved to the system who they are


class Launched(Value, frozen=True):
    """A code as it is stored."""

    launching: Launching
    session_id: str = ""  # that it became; "": it was not used

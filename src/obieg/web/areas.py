"""Whose pages are whose: patients (``/patient``), professionals (``/work``), operators (``/operator``)."""

from __future__ import annotations

import msgspec

from obieg.domain.requester import Requester
from obieg.web.desk import returning

PATIENTS, PROFESSIONALS, OPERATORS = "/patient", "/work", "/operator"
LAUNCH = f"{PROFESSIONALS}/launch"  # where a hospital's own system sends its people
PATIENT_REQUEST = "PATRQT"  # HL7 v3 PurposeOfUse: patient request
_PATIENT_LOGIN, _STAFF_LOGIN = "/login/wk", "/login"


class PatientArea:
    """Patients and those who act for them, by a session of Węzeł Krajowy."""

    def __init__(self, cookie: str) -> None:
        self.cookie = cookie

    def admits(self, person: Requester) -> bool:
        """See the port."""
        return person.purpose_of_use == PATIENT_REQUEST

    def login_address(self, then: str, again: Requester | None = None) -> str:  # noqa: ARG002 - everybody is asked anew
        """See the port."""
        return returning(_PATIENT_LOGIN, "return", then)

    def requester(self, person: Requester) -> Requester:
        """Not limited to one patient: for whom else they act is a fact that access control reads."""
        return msgspec.structs.replace(person, patient="")


class StaffArea:
    """People who work at facilities, in roles of their own."""

    def __init__(self, cookie: str, roles: frozenset[str]) -> None:
        """``roles``: codes of codes/roles.toml for whom these pages are."""
        self.cookie = cookie
        self._roles = roles

    def admits(self, person: Requester) -> bool:
        """See the port."""
        return person.purpose_of_use != PATIENT_REQUEST and person.role in self._roles

    def login_address(self, then: str, again: Requester | None = None) -> str:
        """See the port."""
        return returning(_STAFF_LOGIN, "next", then) + ("&again=" if again is not None else "")

    def requester(self, person: Requester) -> Requester:
        """See the port."""
        return person

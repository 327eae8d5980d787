"""Who may act for a patient or see about them, by what sources say: people near to them, and their chosen POZ team."""

from __future__ import annotations

from datetime import datetime

from obieg.domain.documents import Value
from obieg.domain.identifiers import PatientId

# Authorisations to documentation and to information: who gave one takes it back (art. 26 of the Patient Rights Act).
# A guardian is one by law or by a court, a close person by what they were to the patient, a POZ team by a declaration,
# which is changed where it was made.
ENDED_BY_PATIENT = ("authorised", "informed")


class RepresentativesAsked(Value, frozen=True):
    """Who may act for a patient or see about them."""

    patient: PatientId


class AuthorisationEnded(Value, frozen=True):
    """An authorisation is taken back."""

    patient: PatientId
    source: str  # that says it
    kind: str  # authorised, informed


class Entitled(Value, frozen=True):
    """Somebody who may, will, or would after the patient's death."""

    source: str
    kind: str  # guardian, authorised, informed, close; doctor, nurse, midwife
    person: str  # root#extension; "": an officer decided that it is not shown
    name: str  # "": nobody has said it
    organisation_name: str
    begin: datetime | None
    end: datetime | None
    now: bool  # a basis of access holds for them at this moment
    endable: bool  # by who asks

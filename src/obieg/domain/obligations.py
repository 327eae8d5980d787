"""What follows from access in the same commit (docs/access.md, Obligations), and break-glass sessions."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime, timedelta
from typing import Any, Protocol

import msgspec

from obieg.codes.load import toml
from obieg.domain.access import Act, Facts, Permit, Settings, decide
from obieg.domain.documents import Value
from obieg.domain.identifiers import PatientId
from obieg.domain.requester import Requester

_TABLE = toml("access.toml")["emergency"]
REASONS: dict[str, dict[str, str]] = _TABLE["reasons"]
LONGEST = timedelta(hours=_TABLE["hours_max"])  # of one session, however often it is renewed
MINUTES_MAX: int = _TABLE["minutes_max"]  # of one opening or renewal
FRESH = timedelta(minutes=_TABLE["fresh_minutes"])  # since the person of a session of the node's pages proved themself
EXPLANATION_LENGTHS = (_TABLE["explanation_min"], _TABLE["explanation_max"])  # characters
EMERGENCIES = "Emergency/"  # what the names of sources that are sessions begin with
NOTIFY, REPORT = "notify-patient", "report-to-officer"
HANDOUT = "handout"  # kind of what is told, and reviewed, of prints at the counter
PATIENTS, OFFICER = "patients", "officer"  # receivers of the outbox
NOTICE = "NOTICE"  # what is sent to them, as the outbox and the audit name it


class Told(Value, frozen=True):
    """What a patient is told, or the officer, of one act about one patient. Nothing medical."""

    patient_key: int
    kind: str  # emergency, access, document, message, handout, consent
    key: str  # the same for what repeats: that is told once
    said: dict[str, Any]
    notify: bool = True
    report: bool = False  # the act rests on a break-glass session, or a hand-out on a document alone
    until: datetime | None = None  # of that session


def written(told: Iterable[Told]) -> str:
    """As the SQL function ``obieg_tell`` reads it."""
    return msgspec.json.encode([*told]).decode()


def who(requester: Requester) -> dict[str, Any]:
    """The part of ``said`` that names who did it."""
    said = {
        "person": requester.person,
        "name": requester.person_name,
        "role": requester.role,
        "organisation": requester.organisation,
        "acting_for": requester.acting_for,
        "acting_for_name": requester.acting_for_name,
        "system": "" if requester.person else requester.system,
    }
    return {name: value for name, value in said.items() if value or name in ("person", "organisation")}


def obliges(permit: Permit) -> bool:
    """Whether a permitted reading obliges to tell anybody."""
    return NOTIFY in permit.obligations or REPORT in permit.obligations


def of_reading(patient_key: int, permit: Permit, requester: Requester, at: datetime, transaction: str) -> Told | None:
    """What a permitted reading obliges to; one notice for each person, facility and day of the region (``at``)."""
    notify, report = NOTIFY in permit.obligations, REPORT in permit.obligations
    if not (notify or report):
        return None
    bases = ",".join(permit.bases)
    key = f"access:{at:%Y-%m-%d}:{requester.person}:{requester.acting_for}:{requester.organisation}:{bases}"
    said = {**who(requester), "bases": list(permit.bases), "transaction": transaction}
    return Told(patient_key, "access", key, said, notify, report, permit.end(_EMERGENCY))


class Receivers(Value, frozen=True):
    """Who is told, outside the portal, that it has a notice about a patient."""

    patient: bool
    guardians: tuple[str, ...]  # root#extension of each


def receivers(facts: Facts, by: str, at: datetime, settings: Settings) -> Receivers:
    """Who may read the notice (act ``log``) as the patient or as a guardian now, but for ``by``, who did what it tells.

    So guardians are told until the patient is 18, and nobody who represents another is told of what they did. A patient
    under 16 is told where nobody represents them: what is recorded of how to reach them is all there is. ``at``: in the
    region's time zone.
    """
    people = dict.fromkeys(r.person for r in facts.representatives if r.kind == _GUARDIAN)
    guardians = [person for person in people if _GUARDIAN in _reading(person, facts, at, settings)]
    grown = any(_PATIENT in _reading(name, facts, at, settings) for name in facts.identifiers)
    return Receivers(
        patient=by not in facts.identifiers and (grown or not guardians),
        guardians=tuple(person for person in guardians if person != by),
    )


_GUARDIAN, _PATIENT, _EMERGENCY = "guardian", "patient", "emergency"  # bases


def _reading(person: str, facts: Facts, at: datetime, settings: Settings) -> tuple[str, ...]:
    """The bases on which somebody may read notices."""
    decision = decide(Requester(system="", person=person, role=_PATIENT), facts, Act.LOG, at, settings)
    return decision.bases if isinstance(decision, Permit) else ()


# Break-glass ---------------------------------------------------------------------------------------------------------


class EmergencyAsked(Value, frozen=True):
    """A session is opened, renewed or ended."""

    patient: PatientId
    end: bool = False
    reason: str = ""  # key of REASONS
    explanation: str = ""
    minutes: int = MINUTES_MAX


class Session(Value, frozen=True):
    """A break-glass session of one professional at one facility for one patient."""

    id: str
    patient: PatientId
    began: datetime
    until: datetime
    latest: datetime  # no renewal goes beyond this
    reason: str
    renewed: bool = False


class Standing(Value, frozen=True):
    """What stands of a session that has not ended; ``source`` is empty where there is none."""

    patient_key: int
    source: str = ""
    version: int = 0
    began: datetime | None = None
    until: datetime | None = None


class Opened(Value, frozen=True):
    """A session with what is recorded for its review."""

    session: Session
    source: str
    requester: Requester
    explanation: str


class Review(Value, frozen=True):
    """A line of the officer's worklist."""

    review_id: int
    patient: str  # affinity-domain id
    professional: str
    professional_name: str
    organisation: str
    reason: str
    explanation: str
    opened_at: datetime
    until: datetime
    renewals: int
    ended_at: datetime | None
    reads: int
    last_read_at: datetime | None
    decided_at: datetime | None = None
    decided_by: str | None = None
    justified: bool | None = None
    note: str | None = None
    kind: str = "emergency"  # reported: an entry of the access log that the patient disputes; handout: without a code
    reported_by: str | None = None


class EmergencyStore(Protocol):
    """Where sessions are kept."""

    async def standing(self, patient: PatientId, requester: Requester, at: datetime) -> Standing | None:
        """The session of this professional and facility for the patient; None where nobody knows the patient."""

    async def put(self, stated: Any, before: int, review: Opened | None, told: Sequence[Told], event: Any) -> None:
        """The next version of a session with its review (None: it has ended), notices and record, or nothing of it.

        Raises LostRace when the session has another version.
        """

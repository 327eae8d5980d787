"""Patients as the region knows them, what a feed says of them (ITI TF-2:3.8), and where they are kept."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from enum import StrEnum
from typing import Protocol

from obieg.domain.audit import AuditEvent
from obieg.domain.documents import Value
from obieg.domain.identifiers import PatientId


class Demographics(Value, frozen=True):
    """What is said of a person; every part may be missing (a newborn, an unconscious patient)."""

    family: str = ""
    given: str = ""
    birth_date: str = ""  # YYYY[MM[DD]]
    sex: str = ""  # M, F, O, U (HL7 table 0001)
    street: str = ""
    city: str = ""
    postal_code: str = ""
    country: str = ""
    phone: str = ""


NAME = ("family", "given")
ADDRESS = ("street", "city", "postal_code", "country")


class FeedEvent(StrEnum):
    """Trigger events of ITI-8."""

    ADMIT = "A01"
    REGISTER = "A04"
    PRE_ADMIT = "A05"
    UPDATE = "A08"
    MERGE = "A40"


class PatientFeed(Value, frozen=True):
    """One feed message: the patient's identifiers in the sender's order, demographics, and, for a merge, the old ids.

    ``stated`` names the demographic fields that the message speaks of, be it to empty them; the others stay as they
    are. The locations say where each identifier stands, in the message's own terms, so that a refusal can point there.
    """

    event: FeedEvent
    identifiers: tuple[PatientId, ...]
    demographics: Demographics = Demographics()
    stated: tuple[str, ...] = ()
    merged: tuple[PatientId, ...] = ()
    identifier_locations: tuple[str, ...] = ()
    merged_locations: tuple[str, ...] = ()


class CrossReferenceQuery(Value, frozen=True):
    """Which identifiers name the patient whom ``identifier`` names, in which domains; none: in all.

    The locations say where the identifier and each authority stand, in the message's own terms.
    """

    identifier: PatientId
    authorities: tuple[str, ...] = ()
    identifier_location: str = ""
    authority_locations: tuple[str, ...] = ()
    text: bytes = b""  # the query as asked, for the audit


class Standing(Value, frozen=True):
    """Whom an identifier names: the patient at the end of the chain of merges."""

    patient_key: int
    affinity_domain_id: str
    retired: bool = False  # subsumed by a merge: it names nobody any more, the patient is only why


class PatientStore(Protocol):
    """Where the patient index is kept; each write commits its audit record with it, or raises and leaves nothing.

    Writes raise :class:`obieg.domain.registry.LostRace` where another transaction was faster; all raise RetryLater
    where the store is away.
    """

    async def standing(self, identifiers: Sequence[PatientId]) -> Mapping[PatientId, Standing]:
        """What is known of the identifiers; the unknown ones are left out."""

    async def recognised(
        self, identifier: PatientId, authorities: Sequence[str]
    ) -> tuple[Standing | None, frozenset[str]]:
        """What is known of the identifier, and those of the authorities in which any patient has an identifier."""

    async def identifiers(
        self, *, patient_key: int, authorities: Sequence[str], event: AuditEvent
    ) -> tuple[PatientId, ...]:
        """The identifiers that name the patient, in these authorities or, for none, in all; audited as it is read."""

    async def create(
        self, *, patient_key: int, affinity_domain_id: PatientId, feed: PatientFeed, event: AuditEvent
    ) -> None:
        """A new patient with the feed's identifiers and demographics, and the affinity-domain id."""

    async def held(self, patient_key: int, authorities: Sequence[str]) -> tuple[PatientId, ...]:
        """The patient's numbers in these authorities."""

    async def update(
        self,
        *,
        patient_key: int,
        added: Sequence[PatientId],
        single: Sequence[PatientId],
        feed: PatientFeed,
        event: AuditEvent,
    ) -> None:
        """New identifiers and stated demographics of a patient who is not merged.

        ``single`` are those of the new ones that the patient may have only one of in their authority.
        """

    async def merge(
        self, *, survivor_key: int, merged_keys: Sequence[int], retired: Sequence[PatientId], event: AuditEvent
    ) -> None:
        """Links patients who are not merged to the survivor and retires the identifiers that a merge named as old."""

    async def record(self, event: AuditEvent) -> None:
        """The audit record of a feed that changed nothing because what it asks for stands already."""

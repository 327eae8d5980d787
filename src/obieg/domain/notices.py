"""What others are told of patients: changes of cross-references and links, and who wants to know (ITI TF-2:3.10, 3.64).

A patient's *cross-references* are the identifiers that name one patient. A subscriber is interested in some assigning
authorities, or in all; what changes only elsewhere is none of its business.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from enum import StrEnum

import msgspec

from obieg.domain.documents import Value
from obieg.domain.identifiers import PatientId
from obieg.domain.outbox import Outgoing
from obieg.domain.persons import PersonName
from obieg.domain.problems import Problem


class ChangeKind(StrEnum):
    """What has changed."""

    IDENTIFIERS = "identifiers"  # which identifiers name the patient
    LINK = "link"  # as well: identifiers went from one affinity-domain id to another


class Moved(Value, frozen=True):
    """A local or national identifier that another affinity-domain id names since a change of link (ITI TF-2:3.64)."""

    identifier: PatientId
    subsumed: PatientId | None = None  # the identifier of the same authority that was merged into it (MRG-1 of A40)


class PatientChange(Value, frozen=True):
    """One patient after an act of the index, and what named them before.

    An act that leaves two patients changed (a link taken back, identifiers moved) is two changes. ``before`` are the
    identifiers that were cross-referenced with any of ``identifiers``, or that the patient had: the survivor's own
    before a merge, those of both while the link stood before an undo, none before a first feed.
    """

    kind: ChangeKind
    patient: PatientId  # the affinity-domain id
    patient_key: int
    identifiers: tuple[PatientId, ...]  # all that name the patient now, the affinity-domain id among them
    before: tuple[PatientId, ...] = ()
    name: PersonName = PersonName()
    former: PatientId | None = None  # LINK: the affinity-domain id under which the moved identifiers stood before
    moved: tuple[Moved, ...] = ()  # LINK: what went from ``former`` to ``patient``


class Subscription(Value, frozen=True):
    """Who is told of what."""

    name: str  # the receiver's, as in the settings
    transaction: str  # "ITI-10"
    kind: ChangeKind  # what it is told of
    authorities: frozenset[str] = frozenset()  # its domains of interest; none: all

    def concerns(self, identifier: PatientId) -> bool:
        """Whether the identifier is of a domain of interest."""
        return not self.authorities or identifier.authority in self.authorities


class Subscribers:
    """All who are told of changes."""

    def __init__(self, subscriptions: Sequence[Subscription] = ()) -> None:
        self._subscriptions = tuple(subscriptions)

    def __bool__(self) -> bool:
        """Whether anybody is told of anything."""
        return bool(self._subscriptions)

    def changed(self, change: PatientChange) -> tuple[Outgoing, ...]:
        """The messages to those whom the change concerns, to be stored in the commit of the act.

        Of identifiers each subscriber is told the whole list in its domains of interest, and only where that list has
        changed (ITI TF-2:3.10.4.1.2); of a link each moved identifier is told by itself (ITI TF-2:3.64.4.1.2.3).
        """
        return tuple(
            message
            for subscription in self._subscriptions
            for message in (
                _moves(subscription, change)
                if subscription.kind is ChangeKind.LINK
                else _identifiers(subscription, change)
            )
        )


def read_change(body: bytes) -> PatientChange:
    """What a message of :meth:`Subscribers.changed` tells. Raises Problem where it is none."""
    try:
        return msgspec.msgpack.decode(body, type=PatientChange)
    except msgspec.DecodeError as error:
        said = f"the stored message cannot be read ({error}); it was made by another release"
        raise Problem.of("NotificationRefused", said) from error


def _identifiers(subscription: Subscription, change: PatientChange) -> Iterator[Outgoing]:
    now = tuple(filter(subscription.concerns, change.identifiers))
    before = frozenset(filter(subscription.concerns, change.before))
    if not now or before == frozenset(now):
        return
    # One waits at a time: the receiver wants to know how it is, not how it came about.
    yield Outgoing(
        transaction=subscription.transaction,
        destination=subscription.name,
        key=str(change.patient),
        body=_encode(msgspec.structs.replace(change, identifiers=now, before=(), former=None, moved=())),
        patient_key=change.patient_key,
    )


def _moves(subscription: Subscription, change: PatientChange) -> Iterator[Outgoing]:
    for moved in change.moved:
        # The affinity domain's own ids are what others are linked to.
        if moved.identifier.authority != change.patient.authority and subscription.concerns(moved.identifier):
            # Each builds on those before it and may be about patients of other keys: none is left out, all in order.
            yield Outgoing(
                transaction=subscription.transaction,
                destination=subscription.name,
                key="",
                body=_encode(
                    msgspec.structs.replace(change, identifiers=(), before=(), name=PersonName(), moved=(moved,))
                ),
            )


def _encode(change: PatientChange) -> bytes:
    return msgspec.msgpack.encode(change)

"""The port to what decisions about access rest on, and what passes through it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, Protocol

from obieg.domain.access import Facts
from obieg.domain.identifiers import PatientId


class Named(NamedTuple):
    """Whom a request is about: patients by their ids, or by the ids of what is theirs."""

    patients: Sequence[PatientId] = ()
    uuids: Sequence[str] = ()  # entryUUIDs or logicalIDs, without urn:uuid:
    unique_ids: Sequence[str] = ()
    keys: Sequence[int] = ()  # of patients


class Person(NamedTuple):
    """A patient with everybody who is linked, and what is known of them."""

    keys: tuple[int, ...]  # the survivor's first
    ids: frozenset[str]  # affinity-domain ids, without authority
    facts: Facts


class FactsStore(Protocol):
    """Where the facts of patients are read."""

    async def of(self, named: Named) -> Sequence[Person]:
        """The persons whom the request is about, each once. One round trip."""

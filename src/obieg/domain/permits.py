"""The port to what decisions about access rest on, and what passes through it."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import NamedTuple, Protocol

from obieg.domain.access import DocumentFacts, Facts
from obieg.domain.identifiers import PatientId
from obieg.domain.sight import Sight


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
    versions: tuple[str, ...] = ()  # of what is known, one for each key: another one as soon as anything of it changes


class MeantDocument(NamedTuple):
    """A document as filters look at it."""

    facts: DocumentFacts
    names: frozenset[str]  # those by which it can be meant; none: it is only of the lineage of one that is


class FactsStore(Protocol):
    """Where the facts of patients are read."""

    async def of(self, named: Named) -> Sequence[Person]:
        """The persons whom the request is about, each once. One round trip."""

    async def documents(self, keys: Sequence[int], named: Sequence[str]) -> Sequence[MeantDocument]:
        """The documents of a person that these entryUUIDs and uniqueIds mean, with all of their lineages.

        What is of nobody, or of somebody else, is left out.
        """

    async def count(
        self, sight: Sight, type_codes: Sequence[str] | None, created_from: str, created_to: str
    ) -> tuple[int, int]:
        """How many documents permitted patients have of these types (None: of any) and time; how many are shown.

        The time is that of creation, ``[from, to)``; a document without one is of every time.
        """

    async def open(self, objects: Sequence[str], writers: Collection[str], sight: Sight) -> Collection[str]:
        """Which of these (urn:uuid:) are shown, hold a document of one of the writers, or are folders of nothing."""

"""A patient's access log: who saw or changed what, when, where and why (EHDS art. 9; docs/access.md)."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from datetime import datetime
from typing import NamedTuple, Protocol

from msgspec.structs import replace

from obieg.domain.audit import AuditEvent
from obieg.domain.documents import Value
from obieg.domain.identifiers import PatientId

PROVIDING = ("ITI-41", "ITI-42", "ITI-65", "ITI-105")  # what a repository records of each submission
COUNT_MAX = 500  # entries of one page
COUNT = 50
_OVERRIDES = ("OBIEG-1", "OBIEG-1-END")  # break-glass begins, and ends


class Access(Value, frozen=True):
    """One entry of the log."""

    id: str  # of the audit record
    at: datetime
    transaction: str
    what: str  # its name
    action: str  # C, R, U, D, E
    outcome: str  # 0: done; else it was refused or failed
    recorded_by: str  # the node
    person: str = ""  # root#extension; "": a system, or withheld
    name: str = ""
    role: str = ""
    organisation: str = ""  # root#extension
    organisation_name: str = ""
    acting_for: str = ""
    acting_for_name: str = ""
    system: str = ""
    purpose: str = ""
    bases: tuple[str, ...] = ()  # of codes/access.toml
    documents: tuple[str, ...] = ()  # uniqueIds, as far as the record names them
    withheld: bool = False  # an officer decided that the name is not shown now
    fetched: bool = False  # this node asked another repository, to answer somebody

    @property
    def emergency(self) -> bool:
        """Whether it rests on break-glass."""
        return "emergency" in self.bases or self.transaction in _OVERRIDES

    @property
    def nameless(self) -> tuple[str, ...]:
        """Who stands in it by a number alone."""
        both = ((self.person, self.name), (self.acting_for, self.acting_for_name))
        return tuple(person for person, name in both if person and not name)

    def named(self, people: Mapping[str, str], places: Mapping[str, str]) -> Access:
        """With the names that a directory has of those who stand in it by a number, and of the facility."""
        return replace(
            self,
            name=self.name or people.get(self.person, ""),
            acting_for_name=self.acting_for_name or people.get(self.acting_for, ""),
            organisation_name=places.get(self.organisation, ""),
        )


class LogQuestion(Value, frozen=True):
    """A page of a patient's log, newest first."""

    patient: PatientId
    count: int = COUNT
    before: int | None = None  # number of a record
    others: bool = False  # without what who asks did themself; a page may then have fewer


class AccessLogPage(NamedTuple):
    """One page; ``before`` is where the next begins, None at the end."""

    patient: PatientId
    entries: Sequence[Access]
    before: int | None = None


class Expected(Value, frozen=True):
    """Whether the log of a patient can be whole, as far as one repository's node goes."""

    repository: str  # repositoryUniqueId
    node: str  # as the settings call it; "": they name none
    own: bool  # of this node itself
    submissions: int  # that came from it
    records: int  # of their making that its node sent here

    @property
    def complete(self) -> bool:
        """Whether as much has come as must be there."""
        return self.own or self.records >= self.submissions


def expected(
    submissions: Mapping[str, int], records: Mapping[str, int], names: Mapping[str, Collection[str]], own: str
) -> list[Expected]:
    """What must have come, by repository. ``names``: what senders of each repository's node are called, the node first.

    ``records``: by sender.
    """
    found = []
    for repository in sorted(submissions):
        called = list(names.get(repository, ()))
        came = sum(number for sender, number in records.items() if not _ways(sender).isdisjoint(called))
        node = called[0] if called else ""
        found.append(Expected(repository, node, repository == own, submissions[repository], came))
    return found


def _ways(sender: str) -> set[str]:
    """How settings may call a sender: as it stands, or by the name of its certificate, which stands first over TLS."""
    name = sender.rpartition(" (")[0]
    return {sender, *((name, f"CN={name}") if name else ())}


class AccessLogStore(Protocol):
    """What a log is made of besides audit records."""

    async def withheld(self, patient: PatientId) -> frozenset[str]:
        """Whose names are not shown in the log of this patient now."""

    async def record(self, event: AuditEvent) -> None:
        """Stores a record of the reading."""

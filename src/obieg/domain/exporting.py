"""Exports of everything: what is asked for, how far it has come, and the ports to what is exported and its keeping.

Bulk Data Access 2.0.0 (https://hl7.org/fhir/uv/bulkdata/export.html), Patient/$everything
(http://hl7.org/fhir/R4/patient-operation-everything.html).
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from datetime import datetime
from typing import NamedTuple, Protocol

from obieg.domain.audit import AuditEvent
from obieg.domain.documents import Value
from obieg.domain.identifiers import PatientId
from obieg.domain.sight import Sight


class Page(NamedTuple):
    """Some resources in JSON, without a line break, and where the next ones begin; "" after the last ones."""

    resources: Sequence[bytes]
    after: str


class Provider(Protocol):
    """Gives out all resources of one type, in an order that never changes."""

    async def page(
        self, after: str, *, keys: Sequence[int] | None, since: datetime | None, base: str, count: int, sight: Sight
    ) -> Page:
        """At most ``count`` resources after ``after``, of the patients with these keys or of all, changed since.

        ``base`` is the address of the service, as it stands within the resources. Nothing that ``sight`` hides.
        """


class ExportRequest(Value, frozen=True):
    """A Bulk Data kick-off; no types: all."""

    request: str  # the address asked
    base: str
    types: tuple[str, ...] = ()
    since: datetime | None = None
    patients_only: bool = False  # Patient/$export: only what belongs to a patient


class EverythingRequest(Value, frozen=True):
    """Patient/[id]/$everything; no types: all."""

    patient: PatientId
    base: str
    types: tuple[str, ...] = ()
    since: datetime | None = None
    count: int = 0
    cursor: str = ""


class Export(NamedTuple):
    """A stored export."""

    export_id: str
    requester: str
    request: str
    base: str
    types: tuple[str, ...]
    since: datetime | None
    state: str  # R running, D done, F failed
    error: str
    begun_at: datetime
    position: int  # of the next piece
    at_type: int  # position in types, from 1
    after: str
    file: int
    in_file: int
    finished_at: datetime | None


class ExportFile(NamedTuple):
    """A file of an export."""

    number: int
    type: str
    resources: int
    size: int  # bytes, not packed
    packed: int  # bytes of its pieces, packed


class ExportPiece(NamedTuple):
    """Resources on their way into a file, and where the export stands after them."""

    resources: int
    size: int
    content: bytes  # packed (actors/exporter.py); empty where nothing was found
    at_type: int
    after: str
    file: int
    in_file: int
    finished: bool


class ExportStore(Protocol):
    """Where exports are kept."""

    async def patient_keys(self, patient: PatientId) -> list[int]:
        """The key of the patient and of those merged into them; none where the id names nobody."""

    async def begin(self, export_id: str, asked: ExportRequest, types: Sequence[str], event: AuditEvent) -> None:
        """Stores a new export with its audit row."""

    async def read(self, export_id: str, requester: str) -> Export | None:
        """The export, if it is this requester's."""

    async def files(self, export_id: str) -> list[ExportFile]:
        """What is there of its files."""

    async def delete(self, export_id: str, requester: str, event: AuditEvent) -> bool:
        """Ends and forgets an export; whether there was one."""

    def content(self, export_id: str, number: int) -> AsyncIterator[bytes]:
        """The pieces of a file, packed."""

    async def running(self) -> Export | None:
        """The oldest export that is not finished."""

    async def advance(self, export: Export, piece: ExportPiece) -> None:
        """Stores a piece and where it leads. Raises LostRace where another has, or the export was ended."""

    async def fail(self, export: Export, error: str) -> None:
        """Ends an export that cannot be done."""

    async def expire(self, seconds: int) -> None:
        """Forgets exports that were finished so long ago."""

    async def record(self, event: AuditEvent) -> None:
        """Stores an audit row by itself."""


Providers = Mapping[str, Provider]  # by resource type, in the order of their files

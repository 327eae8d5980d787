"""Documents that professionals wait for. Who waits is told of nothing but what they find themselves.

Nothing medical is kept or answered: that something has come is a reason to search (ITI-67), and only that search, with
its access control and audit, shows it.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable

from obieg.codes.load import toml
from obieg.domain.awaiting import Awaited, AwaitingStore
from obieg.domain.identifiers import PatientId
from obieg.domain.requester import Requester

_KINDS = toml("document_kinds.toml")["kinds"]


class AwaitedDocuments:
    """Keeps what they wait for."""

    def __init__(self, store: AwaitingStore, *, assigning_authority: str, new_uuid: Callable[[], str]) -> None:
        """``assigning_authority``: whose values are logical ids of Patients."""
        self._store = store
        self._authority = assigning_authority
        self._new_uuid = new_uuid

    async def wait(self, requester: Requester, patient: str, kind: str) -> None:
        """From now on, for the documents of a patient (a logical id) of a kind. Another kind is nothing to wait for."""
        if kind and not _KINDS.get(kind, {}).get("types"):
            return
        types = tuple(_KINDS[kind]["types"]) if kind else ()
        await self._store.put(self._new_uuid(), requester, PatientId(patient, self._authority), kind, types)

    async def end(self, requester: Requester, id_: str) -> None:
        """No longer. What is not the person's own changes nothing."""
        try:
            uuid.UUID(id_)
        except ValueError:
            return
        await self._store.end(id_, requester)

    async def of(self, requester: Requester) -> list[Awaited]:
        """What the person waits for, the newest first."""
        return await self._store.of(requester)

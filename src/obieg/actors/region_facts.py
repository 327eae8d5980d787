"""What everybody may know of a region: which facilities' documents it has, and whether it works. Nothing of anybody."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Sequence
from datetime import datetime, timedelta
from typing import Any, NamedTuple

from obieg.actors.provider_directory import ProviderDirectory
from obieg.codes.load import toml
from obieg.domain.operating import Facility, Institution, OperationsStore
from obieg.domain.problems import RetryLater

_KEPT = timedelta(minutes=1)
_COUNTED = timedelta(minutes=5)  # what all documents are read for
SEAL_LATE_S = 300
_DEPTH_MAX = 5  # of organisations within one another
_ROOTS = toml("national/pl/pik.toml")["roots"]


class Status(NamedTuple):
    """Whether the region works: ``well``, ``hindered`` or ``down``."""

    state: str
    at: datetime


class RegionFacts:
    """Answers from what it has read within the last minutes, so that no crowd of visitors reaches the database."""

    def __init__(
        self, store: OperationsStore, directory: ProviderDirectory | None, *, now: Callable[[], datetime]
    ) -> None:
        self._store = store
        self._directory = directory
        self._now = now
        self._status: Status | None = None
        self._facilities: tuple[datetime, Sequence[Facility]] | None = None
        self._asking = asyncio.Lock()

    async def status(self) -> Status:
        """Whether it works."""
        async with self._asking:
            if self._status is None or self._now() - self._status.at > _KEPT:
                self._status = Status(await self._state(), self._now())
            return self._status

    async def _state(self) -> str:
        try:
            database, sealing = await self._store.database(), await self._store.sealing()
        except RetryLater:
            return "down"
        return "well" if database.leader and sealing.age_s < SEAL_LATE_S else "hindered"

    async def facilities(self) -> Sequence[Facility]:
        """Those whose documents are here, by name. Raises RetryLater where nothing is known yet."""
        async with self._asking:
            if self._facilities is None or self._now() - self._facilities[0] > _COUNTED:
                try:
                    self._facilities = self._now(), await self._read()
                except RetryLater:
                    if self._facilities is None:
                        raise
            return self._facilities[1]

    async def _read(self) -> list[Facility]:
        written = await self._store.institutions()
        wholes = await self._wholes({one.identifier for one in written if one.identifier})
        found: dict[str, list[Institution]] = {}
        for one in written:
            whole = wholes.get(one.identifier, {})
            found.setdefault(whole.get("id") or _entity(one.identifier) or one.name, []).append(one)
        facilities = []
        for parts in found.values():
            organisation = wholes.get(parts[0].identifier, {})
            city = next((str(a["city"]) for a in organisation.get("address", ()) if a.get("city")), "")
            facilities.append(
                Facility(
                    str(organisation.get("name") or parts[0].name or parts[0].identifier),
                    city,
                    min(one.since for one in parts),
                    tuple(dict.fromkeys(kind for one in parts for kind in one.kinds)),
                )
            )
        return sorted(facilities, key=lambda one: (one.name.casefold(), one.since))

    async def _wholes(self, identifiers: Collection[str]) -> dict[str, dict[str, Any]]:
        """By identifier the Organization that it is a part of, however deep; none for whom the directory lacks."""
        if self._directory is None:
            return {}
        entities = {identifier: _entity(identifier) for identifier in identifiers}
        known = await self._directory.organisations({*identifiers, *entities.values()})
        found = {i: known.get(i) or known.get(entity) or {} for i, entity in entities.items()}
        for _ in range(_DEPTH_MAX):
            above = {i: o["partOf"]["reference"] for i, o in found.items() if "reference" in o.get("partOf", {})}
            if not above:
                break
            resources = await self._directory.resources(set(above.values()))
            found |= {i: resources.get(r) or {**found[i], "partOf": {}} for i, r in above.items()}
        return found


def _entity(identifier: str) -> str:
    """Of a unit or cell of the register of healthcare entities the entity itself (part I of its number)."""
    root, _, number = identifier.partition("#")
    if root in (_ROOTS["unit"], _ROOTS["cell"]):
        return f"{_ROOTS['entity']}#{number.partition('-')[0]}"
    return identifier

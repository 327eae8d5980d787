"""The patient index in PostgreSQL: port :class:`obieg.domain.patients.PatientStore`.

A feed is two round trips: one read, and one batch that writes and audits or does nothing.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from obieg.domain.audit import AuditEvent
from obieg.domain.identifiers import PatientId
from obieg.domain.patients import PatientFeed, Standing
from obieg.domain.polish import sort_key
from obieg.domain.problems import RetryLater
from obieg.domain.registry import LostRace
from obieg.storage.audit_store import AuditStore
from obieg.storage.link import Database, DatabaseError, Row
from obieg.storage.statements import Call, Parameter, load

# Connection lost, resources, operator, lock or system: what may pass; anything else is our own fault and an alarm.
_PASSING = ("08", "53", "55", "57", "58")
_FIELDS = ("family", "given", "birth_date", "sex", "street", "city", "postal_code", "country", "phone")


class PostgresPatientStore:
    """Implements the port over one database."""

    def __init__(self, database: Database, audit: AuditStore) -> None:
        self._database = database
        self._audit = audit
        self._sql = load("patients.sql")

    async def standing(self, identifiers: Sequence[PatientId]) -> Mapping[PatientId, Standing]:
        """See the port."""
        [rows] = await self._run(self._sql.find_standing(**_columns(identifiers)))
        return _standings(rows)

    async def recognised(
        self, identifier: PatientId, authorities: Sequence[str]
    ) -> tuple[Standing | None, frozenset[str]]:
        """See the port."""
        rows, known = await self._run(
            self._sql.find_standing(**_columns((identifier,))),
            self._sql.find_authorities(authorities=authorities),
        )
        return _standings(rows).get(identifier), frozenset(authority for (authority,) in known)

    async def identifiers(
        self, *, patient_key: int, authorities: Sequence[str], event: AuditEvent
    ) -> tuple[PatientId, ...]:
        """See the port."""
        found, _ = await self._run(
            self._sql.find_identifiers(patient_key=patient_key, authorities=authorities), self._audit.call(event)
        )
        return tuple(PatientId(value, authority) for authority, value in found)

    async def create(
        self, *, patient_key: int, affinity_domain_id: PatientId, feed: PatientFeed, event: AuditEvent
    ) -> None:
        """See the port."""
        sql = self._sql
        await self._run(
            sql.insert_patient(
                patient_key=patient_key, affinity_domain_id=affinity_domain_id.value, **_demographics(feed)
            ),
            *self._insert(patient_key, {affinity_domain_id, *feed.identifiers}),
            self._audit.call(event),
        )

    async def held(self, patient_key: int, authorities: Sequence[str]) -> tuple[PatientId, ...]:
        """See the port."""
        [found] = await self._run(self._sql.find_identifiers(patient_key=patient_key, authorities=authorities))
        return tuple(PatientId(value, authority) for authority, value in found)

    async def update(
        self,
        *,
        patient_key: int,
        added: Sequence[PatientId],
        single: Sequence[PatientId],
        feed: PatientFeed,
        event: AuditEvent,
    ) -> None:
        """See the port."""
        sql = self._sql
        await self._run(
            sql.update_patient(patient_key=patient_key, **_demographics(feed)),
            sql.expect_unmerged(patient_keys=(patient_key,)),
            *(self._insert(patient_key, set(added)) if added else ()),
            *(sql.expect_single(patient_key=patient_key, authority=i.authority) for i in single),
            self._audit.call(event),
        )

    async def merge(
        self, *, survivor_key: int, merged_keys: Sequence[int], retired: Sequence[PatientId], event: AuditEvent
    ) -> None:
        """See the port."""
        sql = self._sql
        keys = (survivor_key, *merged_keys)
        links = (
            sql.insert_links(survivor_key=survivor_key, merged_keys=merged_keys),
            sql.move_links(survivor_key=survivor_key, merged_keys=merged_keys),
        )
        await self._run(
            sql.lock_patients(patient_keys=keys),
            sql.expect_unmerged(patient_keys=keys),
            *(links if merged_keys else ()),
            sql.retire_locators(count=len(retired), **_columns(retired)),
            self._audit.call(event),
        )

    async def record(self, event: AuditEvent) -> None:
        """See the port."""
        await self._run(self._audit.call(event))

    def _insert(self, patient_key: int, identifiers: set[PatientId]) -> tuple[Call, Call]:
        # In one order everywhere, so that two feeds of the same identifiers wait for one another and do not deadlock.
        columns = _columns(sorted(identifiers))
        sql = self._sql
        return (
            sql.insert_locators(patient_key=patient_key, **columns),
            sql.insert_identifiers(patient_key=patient_key, **columns),
        )

    async def _run(self, *calls: Call) -> list[list[Row]]:
        try:
            return await self._database.run(*calls)
        except DatabaseError as error:
            if error.lost_race:
                raise LostRace(error.message) from error
            if error.sqlstate.startswith(_PASSING):
                raise RetryLater(f"the database cannot do this now: {error.message}") from error
            raise


def _standings(rows: list[Row]) -> dict[PatientId, Standing]:
    return {
        PatientId(value, authority): Standing(patient_key=key, affinity_domain_id=affinity_domain_id, retired=retired)
        for authority, value, key, affinity_domain_id, retired in rows
    }


def _columns(identifiers: Sequence[PatientId]) -> dict[str, Parameter]:
    return {"authorities": [i.authority for i in identifiers], "values": [i.value for i in identifiers]}


def _demographics(feed: PatientFeed) -> dict[str, Parameter]:
    """The stated fields; None for the others."""
    d = feed.demographics
    named = "family" in feed.stated
    return {
        **{field: getattr(d, field) if field in feed.stated else None for field in _FIELDS},
        "sort_key": sort_key(d.family, d.given) if named else None,
    }

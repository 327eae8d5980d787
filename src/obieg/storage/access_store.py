"""Facts for decisions about access in PostgreSQL: port :class:`obieg.domain.consents.AccessStore`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import date, datetime
from typing import Any, Union

import msgspec

from obieg.domain.access import Consent, Declaration, Emergency, Encounter, Facts, Hold, Representative
from obieg.domain.audit import AuditEvent
from obieg.domain.consents import ConsentQuery, Kind, Said, Stated
from obieg.domain.documents import Value
from obieg.domain.identifiers import PatientId
from obieg.domain.permits import Person
from obieg.mapping.bppc import Acknowledgement, consents
from obieg.storage.audit_store import AuditStore
from obieg.storage.link import Database, Row, run
from obieg.storage.patient_store import columns
from obieg.storage.statements import Call, load

_SQL = load("access.sql")


# What a version of a source says by what it speaks about: the field of Facts, and of what it has some.
_SPOKEN_OF: dict[Kind, tuple[str, type]] = {
    Kind.DECLARATION: ("declarations", Declaration),
    Kind.ENCOUNTER: ("encounters", Encounter),
    Kind.REPRESENTATIVE: ("representatives", Representative),
    Kind.CONSENT: ("consents", Consent),
    Kind.EMERGENCY: ("emergencies", Emergency),
    Kind.HOLD: ("holds", Hold),
    Kind.OBJECTION: ("objection", bool),
    Kind.NOTICES: ("notices", bool),
    Kind.PROTECTED: ("protected", bool),
    Kind.DEATH: ("died_on", date),
}
_VERSIONS = [
    msgspec.defstruct(f"_{field}", [("facts", tuple[said, ...])], tag_field="kind", tag=kind.value)  # type: ignore[valid-type]
    for kind, (field, said) in _SPOKEN_OF.items()
]
_FIELDS = dict(zip(_VERSIONS, [field for field, _ in _SPOKEN_OF.values()], strict=True))


class _Record(Value, frozen=True):
    """What the patient index knows of a person from one source."""

    born: date | None
    died: date | None


class _Read(Value, frozen=True):
    """What obieg_persons gives of one."""

    keys: tuple[int, ...]
    versions: dict[int, str]
    ids: frozenset[str]
    own: tuple[str, ...]  # identifiers: affinity-domain ids
    others: tuple[str, ...]  # those that records state
    records: tuple[_Record, ...]
    said: tuple[Union[tuple(_VERSIONS)], ...]  # type: ignore[valid-type]  # noqa: UP007 - of many
    acknowledged: tuple[Acknowledgement, ...]


_read = msgspec.json.Decoder(_Read).decode


def read_facts(written: str) -> Facts:
    """Facts as the statement gives them, with what documents say that the patient has acknowledged."""
    return _facts(_read(written))


def read_person(written: str) -> Person:
    """The same with the person whose they are."""
    row = _read(written)
    versions = tuple([row.versions[key] for key in row.keys if key in row.versions])
    return Person(row.keys, row.ids, _facts(row), versions)


def _facts(row: _Read) -> Facts:
    said: dict[str, tuple[Any, ...]] = {}
    for version in row.said:
        field = _FIELDS[type(version)]
        said[field] = said.get(field, ()) + version.facts
    died = (*said.pop("died_on", ()), *[record.died for record in row.records if record.died is not None])
    if row.acknowledged:
        said["consents"] = (*said.get("consents", ()), *consents(row.acknowledged))
    return Facts(
        tuple(dict.fromkeys((*row.own, *row.others))),
        next((record.born for record in row.records if record.born is not None), None),
        min(died, default=None),
        bool(said.pop("protected", ())),
        bool(said.pop("objection", ())),
        notices=bool(said.pop("notices", ())),
        **said,
    )


class PostgresAccess:
    """Implements the port over one database."""

    def __init__(self, database: Database, audit: AuditStore, *, assigning_authority: str) -> None:
        self._database = database
        self._audit = audit
        self._authority = assigning_authority

    async def facts(self, patient_keys: Sequence[int]) -> Mapping[int, Facts]:
        """See the port."""
        [rows] = await self._run(self.facts_call(patient_keys))
        return {int(key): read_facts(said) for key, said in rows}

    def facts_call(self, patient_keys: Sequence[int]) -> Call:
        """What reads facts; it may stand in a batch with other calls."""
        return _SQL.access_facts(patient_keys=patient_keys, own_authority=self._authority)

    async def put(self, stated: Stated, before: int, event: AuditEvent) -> datetime:
        """See the port."""
        calls = put_calls(stated, before)
        results = await self._run(*calls, self._audit.call(event))
        moment: datetime = results[len(calls) - 1][0][0]
        return moment

    async def put_all(self, stated: Sequence[tuple[Stated, int]], event: AuditEvent) -> None:
        """See the port."""
        await self._run(*(call for one, before in stated for call in put_calls(one, before)), self._audit.call(event))

    async def read(self, source: str, version: int | None, event: AuditEvent | None) -> tuple[Said, str, str] | None:
        """See the port."""
        calls = [_SQL.read_source(source=source, version=version)]
        if event is not None:
            calls.append(self._audit.call(event))
        rows = (await self._run(*calls))[0]
        return (_said(rows[0][:7]), *rows[0][7:]) if rows else None

    async def of_patient(self, patient: PatientId, kinds: Sequence[Kind]) -> Sequence[Said]:
        """See the port."""
        named = {"authority": patient.authority, "value": patient.value}
        [rows] = await self._run(_SQL.read_of_patient(**named, kinds=[kind.value for kind in kinds]))
        return [_said(row) for row in rows]

    async def find(self, query: ConsentQuery, event: AuditEvent) -> tuple[Sequence[Said], int]:
        """See the port."""
        found = _SQL.find_consents(
            **columns(query.patients),
            sources=query.sources,
            statuses=query.statuses,
            actors=query.actors,
            updated_from=query.updated_from,
            updated_before=query.updated_before,
            recorded_by=query.recorded_by,
            count=query.count,
            skipped=query.skipped,
        )
        rows = (await self._run(found, self._audit.call(event)))[0]
        return [_said(row[1:]) for row in rows], rows[0][0] if rows else 0

    async def _run(self, *calls: Call) -> list[list[Row]]:
        return await run(self._database, *calls)


def put_calls(stated: Stated, before: int) -> list[Call]:
    """What records a version; the last one answers when."""
    named = {"source": stated.source, "authority": stated.patient.authority, "value": stated.patient.value}
    return [
        *([] if before else [_SQL.place_source(**named)]),
        _SQL.expect_source(**named),
        _SQL.put_fact(
            source=stated.source,
            before=before,
            kind=stated.kind.value,
            facts=stated.written.decode(),
            resource=stated.resource,
            status=stated.status,
            actors=stated.actors,
            recorded_by=stated.by,
        ),
    ]


def _said(row: Row) -> Said:
    source, version, kind, facts, resource, recorded_at, recorded_by = row
    return Said(source, version, Kind(kind), facts.encode(), resource, recorded_at, recorded_by)

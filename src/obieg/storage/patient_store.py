"""The patient index in PostgreSQL: port :class:`obieg.domain.patient_index.PatientStore`.

A feed is two round trips: one read, and one batch that writes and audits or does nothing.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from operator import attrgetter
from typing import Any

import msgspec

from obieg.domain.audit import AuditEvent
from obieg.domain.identifiers import PatientId
from obieg.domain.matching import Record
from obieg.domain.outbox import Outbox
from obieg.domain.patient_index import (
    Change,
    Facts,
    Found,
    KnownRecord,
    NewTask,
    PatientRecords,
    Retirement,
    SavedRecord,
    SavedSearch,
)
from obieg.domain.patients import Standing
from obieg.domain.persons import Demographics
from obieg.domain.searching import NOBODY, SearchPlan, name_keys
from obieg.storage.audit_store import AuditStore
from obieg.storage.link import Database, Row, run
from obieg.storage.statements import Call, Parameter, load

# Records looked at under one block; more share it only where it says nothing.
BLOCK_MAX = 50
LAST_CHARACTER = "\U0010ffff"

_SQL = load("patients.sql")
_read_demographics = msgspec.json.Decoder(Demographics).decode
_write = msgspec.json.Encoder().encode


class PostgresPatientStore:
    """Implements the port over one database."""

    def __init__(
        self, database: Database, audit: AuditStore, outbox: Outbox, *, assigning_authority: str, tells: bool
    ) -> None:
        """``tells``: somebody is told of changes, which takes knowing which identifiers are retired."""
        self._database = database
        self._audit = audit
        self._outbox = outbox
        self._authority = assigning_authority
        self.tells = tells

    async def standing(self, identifiers: Sequence[PatientId]) -> Mapping[PatientId, Standing]:
        """See the port."""
        [rows] = await self._run(_SQL.find_standing(**columns(identifiers)))
        return _standings(rows)

    async def recognised(
        self, identifier: PatientId, authorities: Sequence[str]
    ) -> tuple[Standing | None, frozenset[str]]:
        """See the port."""
        rows, known = await self._run(
            _SQL.find_standing(**columns((identifier,))),
            _SQL.find_authorities(authorities=authorities),
        )
        return _standings(rows).get(identifier), frozenset(authority for (authority,) in known)

    async def known_authorities(self) -> frozenset[str]:
        """See the port."""
        [rows] = await self._run(_SQL.find_all_authorities())
        return frozenset(authority for (authority,) in rows)

    async def identifiers(
        self, *, patient_key: int, authorities: Sequence[str], event: AuditEvent
    ) -> tuple[PatientId, ...]:
        """See the port."""
        found, _ = await self._run(
            _SQL.find_identifiers(patient_key=patient_key, own_authority=self._authority, authorities=authorities),
            self._audit.call(event),
        )
        return tuple(PatientId(value, authority) for authority, value in found)

    async def facts(self, identifiers: Sequence[PatientId], blocks: Sequence[int]) -> Facts:
        """See the port."""
        named = columns(identifiers)
        calls = [_SQL.find_standing(**named), _SQL.find_records(**named)]
        if blocks:
            calls += [_SQL.read_blocks(blocks=blocks), _SQL.find_candidates(blocks=blocks, block_max=BLOCK_MAX)]
        results = await self._run(*calls)
        standings = _standings(results[0])
        records = tuple(map(_known, results[1]))
        candidates: tuple[KnownRecord, ...] = ()
        in_blocks = 0
        if blocks:
            [(in_blocks,)] = results[2]
            candidates = tuple(map(_known, results[3]))
        apart: frozenset[frozenset[int]] = frozenset()
        met = {r.survivor_key for r in (*records, *candidates)}
        if len(met) > 1:
            [pairs] = await self._run(_SQL.find_apart(patient_keys=sorted(met)))
            apart = frozenset(frozenset((int(left), int(right))) for left, right in pairs)
        retired: frozenset[PatientId] = frozenset()
        if self.tells:
            stated = {i for r in (*records, *candidates) for i in r.record.identifiers}
            retired = frozenset(i for i, s in (await self.standing(sorted(stated))).items() if s.retired)
        return Facts(standings, records, candidates, in_blocks, apart, retired)

    async def store(self, change: Change, event: AuditEvent) -> None:
        """See the port."""
        await self._run(*self.calls(change), self._audit.call(event))

    def calls(self, change: Change) -> list[Call]:
        """What writes the change; it may stand in a batch with other changes."""
        key = change.patient_key
        calls: list[Call] = []
        if change.blocks:
            calls += [
                _SQL.lock_blocks(blocks=change.blocks),
                _SQL.expect_blocks(blocks=change.blocks, state=change.in_blocks),
            ]
        linked = [link.patient_key for link in change.links]
        if change.affinity_domain_id is not None:
            calls.append(_SQL.insert_patient(patient_key=key, affinity_domain_id=change.affinity_domain_id.value))
            if linked:
                calls += [_SQL.lock_patients(patient_keys=linked), _SQL.expect_unlinked(patient_keys=linked)]
        else:
            keys = sorted({key, *linked})
            if locked := sorted({*linked, *(compared for compared, _ in change.versions)}):
                # Locked before they are looked at: of two who expect one version, the second sees what the first made.
                calls.append(_SQL.lock_patients(patient_keys=sorted({key, *locked})))
            if not change.versions:
                calls.append(_SQL.touch_patient(patient_key=key))
            calls.append(_SQL.expect_unlinked(patient_keys=keys))
        if change.versions:
            versions = [version for _, version in change.versions]
            calls.append(_SQL.expect_versions(patient_keys=[k for k, _ in change.versions], versions=versions))
            if change.affinity_domain_id is None:
                calls.append(_SQL.touch_patient(patient_key=key))
        if change.kin:
            calls.append(_SQL.expect_kin(patient_key=key, kin=change.kin))
        if change.standing:
            named = columns([i for i, _ in change.standing])
            calls.append(_SQL.expect_standing(**named, patient_keys=[k for _, k in change.standing]))
        if linked:
            calls += [
                _SQL.close_moot_tasks(patient_keys=sorted({key, *linked}), by="index"),
                _SQL.insert_links(
                    survivor_key=key,
                    linked_keys=linked,
                    reasons=[link.reason for link in change.links],
                    linked_by=[link.by for link in change.links],
                ),
                _SQL.move_links(survivor_key=key, linked_keys=linked),
            ]
        if change.released:
            calls.append(_SQL.delete_locators(patient_key=key, **columns(change.released)))
        claimed = {*change.claimed, *filter(None, (change.affinity_domain_id,))}
        if claimed:
            # In one order everywhere, so that two feeds of the same identifiers wait for one another, not for ever.
            calls.append(_SQL.insert_locators(patient_key=key, **columns(sorted(claimed))))
        if change.record is not None:
            calls += record_calls(change.record)
        if change.numbers:
            calls.append(
                _SQL.expect_numbers(
                    patient_key=key,
                    authorities=[authority for authority, _ in change.numbers],
                    counts=[count for _, count in change.numbers],
                )
            )
        if change.retired:
            calls.append(retire_call(change.retired))
        if change.tasks:
            calls.append(tasks_call(change.tasks))
        calls += self._outbox.calls(change.outgoing) if change.outgoing else ()
        return calls

    async def record(self, event: AuditEvent) -> None:
        """See the port."""
        await self._run(self._audit.call(event))

    async def find(self, plan: SearchPlan, limit: int) -> Sequence[Found]:
        """See the port."""
        if plan.by == "identifier":
            call = await self._by_identifier(plan, limit)
            calls = [call] if call is not None else []
        elif plan.by == "birth":
            calls = [
                _SQL.find_by_birth(births=plan.births, names=plan.names, sounds=plan.sounds, records_max=limit),
            ]
        elif plan.by == "birth_range":
            calls = [
                _SQL.find_by_birth_range(
                    born_from=plan.born_from,
                    born_before=plan.born_before,
                    names=plan.names,
                    sounds=plan.sounds,
                    records_max=limit,
                ),
            ]
        else:
            born: dict[str, Parameter] = {
                "born_from": plan.born_from,
                "born_before": plan.born_before,
                "records_max": limit,
            }
            calls = [
                _SQL.find_by_name(**_beginning("names", plan.names), given=plan.given, **born),
                _SQL.find_by_sound(**_beginning("sounds", plan.sounds), **born),
            ]
            if plan.first_part != NOBODY:
                calls.append(_SQL.find_by_name(**_beginning("names", plan.first_part), given=plan.given, **born))
        rows = [row for result in await self._run(*calls) for row in result] if calls else []
        return [
            Found(under, key, id_, tuple(map(PatientId, values, authorities)), _read_demographics(demographics))
            for under, key, id_, authorities, values, demographics in rows
        ]

    async def _by_identifier(self, plan: SearchPlan, limit: int) -> Call | None:
        """An identifier without its authority may be of any."""
        wanted = [i for i in plan.identifiers if i.authority]
        if len(wanted) < len(plan.identifiers):
            known = await self.known_authorities()
            wanted += [PatientId(i.value, a) for i in plan.identifiers if not i.authority for a in sorted(known)]
        return _SQL.find_by_identifier(**columns(wanted), records_max=limit) if wanted else None

    async def near(self, identifiers: Sequence[PatientId], blocks: Sequence[int]) -> Sequence[KnownRecord]:
        """See the port."""
        facts = await self.facts(identifiers, blocks)
        return list({(r.patient_key, r.record_key): r for r in (*facts.records, *facts.candidates)}.values())

    async def patients(self, keys: Sequence[int], event: AuditEvent | None = None) -> Mapping[int, PatientRecords]:
        """See the port."""
        calls = [_SQL.read_patients(patient_keys=keys)]
        if event is not None:
            calls.append(self._audit.call(event))
        rows = (await self._run(*calls))[0]
        found: dict[int, list[Row]] = {}
        for row in rows:
            found.setdefault(row[0], []).append(row)
        return {key: _patient_records(found[key]) for key in keys if key in found}

    async def save_search(self, search_id: str, search: SavedSearch) -> None:
        """See the port."""
        await self._run(
            _SQL.insert_search(
                search_id=search_id,
                requester=search.requester,
                patient_keys=[key for key, _ in search.found],
                scores=[score for _, score in search.found],
                authorities=search.authorities,
                capped=search.capped,
                position=search.position,
            )
        )

    async def advance_search(
        self, search_id: str, requester: str, *, start: int | None, count: int, seconds: int
    ) -> SavedSearch | None:
        """See the port."""
        [rows] = await self._run(
            _SQL.advance_search(search_id=search_id, requester=requester, start=start, count=count, seconds=seconds)
        )
        if not rows:
            return None
        [(keys, scores, authorities, capped, position)] = rows
        return SavedSearch(requester, tuple(zip(keys, scores, strict=True)), tuple(authorities), capped, position)

    async def forget_search(self, search_id: str, requester: str) -> bool:
        """See the port."""
        [[(count,)]] = await self._run(_SQL.delete_search(search_id=search_id, requester=requester))
        return bool(count)

    async def forget_old_searches(self, seconds: int) -> None:
        """See the port."""
        await self._run(_SQL.delete_old_searches(seconds=seconds))

    async def _run(self, *calls: Call) -> list[list[Row]]:
        return await run(self._database, *calls)


def record_calls(saved: SavedRecord) -> list[Call]:
    """What writes a record."""
    demographics = saved.record.demographics
    names, sounds = name_keys(demographics)
    where: dict[str, Parameter] = {"patient_key": saved.patient_key, "record_key": saved.record_key}
    values: dict[str, Parameter] = {
        **where,
        **columns(saved.record.identifiers),
        "source": saved.source,
        "fed_by": saved.fed_by,
        "demographics": _write(demographics),
        "blocks": saved.blocks,
        "names": names,
        "sounds": sounds,
        "birth_date": demographics.birth_date,
        "sex": demographics.sex,
    }
    calls = []
    if saved.version and saved.blocks_changed:
        calls.append(_SQL.delete_blocks(**where))
    if saved.version:
        calls.append(_SQL.update_record(**values, version=saved.version, removed=saved.removed))
    else:
        calls.append(_SQL.insert_record(**values))
    if saved.blocks_changed and saved.blocks:
        calls.append(_SQL.insert_blocks(**where, blocks=saved.blocks))
    return calls


def retire_call(retired: Sequence[Retirement]) -> Call:
    """What retires identifiers, all of them or none."""
    return _SQL.retire_locators(
        **columns([r.identifier for r in retired]),
        retired_by=[r.by for r in retired],
        replaced_authorities=[r.replaced_by.authority if r.replaced_by else "" for r in retired],
        replaced_values=[r.replaced_by.value if r.replaced_by else "" for r in retired],
        count=len(retired),
    )


def tasks_call(tasks: Iterable[NewTask]) -> Call:
    """What adds lines to the worklist."""
    tasks = tuple(tasks)
    return _SQL.insert_tasks(
        kinds=[t.kind.value for t in tasks],
        left_keys=[t.left_key for t in tasks],
        right_keys=[t.right_key or 0 for t in tasks],
        judgements=[_write(t.judgement).decode() for t in tasks],
        details=[t.detail for t in tasks],
    )


def _known(row: Row) -> KnownRecord:
    key, survivor, id_, record_key, version, source, authorities, values, demographics, blocks, updated_at, *more = row
    record = Record(tuple(map(PatientId, values, authorities)), _read_demographics(demographics))
    return KnownRecord(key, survivor, id_, record_key, version, source, record, tuple(blocks), updated_at, *more)


def _patient_records(rows: Sequence[Row]) -> PatientRecords:
    key, id_, version, updated_at, survivor_id = rows[0][:5]
    records: list[tuple[tuple[PatientId, ...], Demographics, Any]] = []
    for *_, demographics, at, authorities, values in rows:
        if demographics is not None:
            live = tuple(map(PatientId, values or (), authorities or ()))
            records.append((live, _read_demographics(demographics), at))
    identifiers = tuple(dict.fromkeys(i for live, _, _ in records for i in live))
    return PatientRecords(key, id_, version, updated_at, survivor_id, identifiers, tuple(records))


def _standings(rows: list[Row]) -> dict[PatientId, Standing]:
    return {
        PatientId(value, authority): Standing(patient_key=key, affinity_domain_id=affinity_domain_id, retired=retired)
        for authority, value, key, affinity_domain_id, retired in rows
    }


def _beginning(name: str, pattern: str) -> dict[str, Parameter]:
    """A pattern of LIKE that ends with its only ``%`` as the range of what fits, byte by byte."""
    prefix = pattern.removesuffix("%")
    return {f"{name}_from": prefix, f"{name}_before": prefix + LAST_CHARACTER}


_authority, _value = attrgetter("authority"), attrgetter("value")


def columns(identifiers: Sequence[PatientId]) -> dict[str, Parameter]:
    """Identifiers as the two arrays that statements take."""
    return {"authorities": list(map(_authority, identifiers)), "values": list(map(_value, identifiers))}

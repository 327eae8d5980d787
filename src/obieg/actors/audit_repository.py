"""The Audit Record Repository of ATNA: takes in what others record, answers who did what (ITI-20, ITI-81)."""

from __future__ import annotations

import asyncio
from base64 import b64encode
from collections.abc import Callable, Sequence
from datetime import datetime

import msgspec

from obieg.domain.audit import (
    AuditEvent,
    AuditFormat,
    AuditLog,
    AuditObject,
    Outcome,
    ReceivedAudit,
    StoredAudit,
)
from obieg.domain.identifiers import patient_id
from obieg.domain.problems import Problem
from obieg.mapping import atna
from obieg.mapping.atna import LogAsked, LogPage, Sent
from obieg.mapping.audit import AuditUnreadable, read_audit_message
from obieg.mapping.balp import Reading, patients_named, patients_of, render, transaction_of
from obieg.protocol import Context
from obieg.wire import syslog
from obieg.wire.syslog import SyslogRefused

ROWS_AT_ONCE = 500  # of the log, looked at in one go
ROWS_MAX = 10_000  # looked at for one page; the next page goes on from there


class AuditRepository:
    """Keeps the log of this node and those of others, and answers questions to both."""

    def __init__(self, log: AuditLog, reading: Reading, *, now: Callable[[], datetime], base: str = "") -> None:
        """``base`` is the address of the FHIR service, as far as it is known beforehand."""
        self._log = log
        self._reading = reading
        self._now = now
        self._base = base

    # what comes ---------------------------------------------------------------------------------------------------

    async def receive(self, sent: Sent, context: Context) -> list[int]:
        """Stores AuditEvents as they came; their numbers.

        A record that is taken in is itself the record of its coming: it says who sent it, when, and by which request.
        """
        sender = context.audit().requester
        records = tuple(msgspec.structs.replace(r, sender=sender) for r in sent.records)
        numbers = await self._log.receive(records)
        context.audited = True
        return numbers

    async def receive_syslog(self, data: bytes, *, sender: str, request_id: str, broken: str = "") -> None:
        """Stores one syslog message as it came, whatever it is. Raises RetryLater.

        What is no audit message, or less than one (``broken`` says why), is kept all the same, and a security alert of
        our own says so.
        """
        record, why = self._read_syslog(data, sender, request_id, broken)
        await self._log.receive((record,))
        if why:
            alert = AuditEvent(
                "ITI-20", "security_alert", Outcome.SERIOUS_FAILURE, why, request_id, source_address=sender
            )
            await self._log.record(alert)

    def _read_syslog(self, data: bytes, sender: str, request_id: str, broken: str) -> tuple[ReceivedAudit, str]:
        format_, text = _kept(data)
        try:
            if broken:
                raise SyslogRefused(broken)
            message = read_audit_message(syslog.parse(data).message)
        except (SyslogRefused, AuditUnreadable) as error:
            now = self._now()
            record = ReceivedAudit(format_, text, now, "ITI-20", Outcome.SERIOUS_FAILURE, (), request_id, sender)
            return record, f"no audit record: {error}"
        record = ReceivedAudit(
            format=format_,
            message=text,
            happened_at=message.recorded,
            transaction=transaction_of(message),
            outcome=Outcome(message.outcome),
            patients=tuple(patients_of(message)),
            request_id=request_id,
            sender=sender,
        )
        return record, ""

    # questions ----------------------------------------------------------------------------------------------------

    async def find(self, asked: LogAsked, context: Context) -> LogPage:
        """One page of AuditEvents, newest first; audited, for each patient whom it names. Raises Problem."""
        names = [frozenset(await self._log.names(named)) for named in asked.patients]
        question = asked.question
        if names:
            question = msgspec.structs.replace(question, patients=tuple(frozenset.intersection(*names) or names[0]))
        found: list[dict[str, object]] = []
        after: tuple[int, int] | None = None
        position, skipped = asked.after or (None, 0)
        before = None if position is None else position + 1
        looked_at = 0
        while after is None:
            rows = await self._log.find(msgspec.structs.replace(question, before=before), ROWS_AT_ONCE)
            looked_at += len(rows)
            after = await asyncio.to_thread(self._take, rows, asked, names, (position, skipped), found)
            if len(rows) < ROWS_AT_ONCE:
                break
            before = rows[-1].audit_id
            if after is None and looked_at >= ROWS_MAX:
                after = rows[-1].audit_id - 1, 0
        patients = dict.fromkeys(
            cx
            for resource in found
            for cx in patients_named(resource, self._reading.affinity_domain, self._base)
            if (known := patient_id(cx)) is not None and known.authority == self._reading.affinity_domain
        )
        others = tuple(o for o in context.objects if o.kind != "patient")
        context.objects = (*(AuditObject("patient", p) for p in patients), *others)
        if not asked.search and not found:
            raise Problem.of("AddressNotFound", "no AuditEvent has this id")
        await self._log.record(context.audit())
        context.audited = True
        return LogPage(tuple(found), after)

    def _take(
        self,
        rows: Sequence[StoredAudit],
        asked: LogAsked,
        names: Sequence[frozenset[str]],
        start: tuple[int | None, int],
        found: list[dict[str, object]],
    ) -> tuple[int, int] | None:
        """Adds the AuditEvents of the rows that fit; where the next page begins when this one is full."""
        for row in rows:
            for number, resource in enumerate(render(row, self._reading)):
                if row.audit_id == start[0] and number < start[1]:
                    continue
                if asked.id and asked.id != resource["id"]:
                    continue
                if not atna.fits(resource, asked, names, self._reading.affinity_domain, self._base):
                    continue
                if len(found) == asked.count:
                    return row.audit_id, number
                found.append(resource)
        return None


def _kept(data: bytes) -> tuple[AuditFormat, str]:
    """Bytes as a database keeps them: as text where they are text without NUL."""
    try:
        text = data.decode()
    except UnicodeDecodeError:
        text = "\0"
    if "\0" in text:
        return AuditFormat.SYSLOG_BYTES, b64encode(data).decode()
    return AuditFormat.SYSLOG, text

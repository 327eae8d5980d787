"""What is looked at afterwards: emergency access, look-ups, why somebody may see something, the way of a document.

Each look stands in the audit itself.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Protocol

from msgspec.structs import replace

from obieg.actors.access_control import AccessControl, Explained
from obieg.actors.operations import audited
from obieg.actors.patient_curation import OPERATOR
from obieg.domain.access import Act
from obieg.domain.access_log import PROVIDING, Expected, expected
from obieg.domain.audit import AuditEvent, AuditLog, AuditObject, AuditQuestion, StoredAudit
from obieg.domain.identifiers import PatientId
from obieg.domain.obligations import Review
from obieg.domain.operating import OperationsStore, Operator, Reviews, Step, Trace
from obieg.domain.problems import Problem
from obieg.domain.reasons import is_reason, wanted
from obieg.domain.requester import Requester
from obieg.domain.watching import WINDOW, Counted, Unusual, unusual
from obieg.mapping.access_log import entry
from obieg.mapping.audit import AuditUnreadable
from obieg.mapping.balp import message_of

TRACED_MAX = 5_000  # records looked at for one trace
_AT_ONCE = 500
_REQUESTS_KEPT = timedelta(days=31)  # how far back a request is looked for by its id alone


class LookUps(Protocol):
    """Who looked whom up."""

    async def counted(self, since: datetime, until: datetime, transactions: Sequence[str]) -> list[Counted]:
        """What each person asked of others within a window."""


class Oversight:
    """Looks; see the module docstring."""

    def __init__(
        self,
        store: OperationsStore,
        log: AuditLog,
        look_ups: LookUps,
        *,
        access: AccessControl,
        transactions: Sequence[str],
        node: str,
        assigning_authority: str,
        now: Callable[[], datetime],
    ) -> None:
        """``access`` has the facts; ``transactions`` are those by which people are looked up."""
        self._store = store
        self._log = log
        self._look_ups = look_ups
        self._access = access
        self._transactions = transactions
        self._node = node
        self._authority = assigning_authority
        self._now = now

    # emergency access ---------------------------------------------------------------------------------------------

    async def reviews(self, count: int = 50, *, everything: bool = False) -> Reviews:
        """Break-glass sessions to be looked at, the oldest first."""
        return await self._store.reviews(count, everything=everything)

    async def decide(self, review_id: int, by: Operator, *, justified: bool, note: str) -> Review:
        """Closes a line; what was decided is not decided again. Raises Problem."""
        if not is_reason(note):
            raise Problem.of("RuleBroken", wanted(), "note")
        review = await self._store.review(review_id)
        verdict = "justified" if justified else "not justified"
        if review is not None:
            event = replace(
                audited(
                    by,
                    self._node,
                    "security_alert",
                    f"access review {review_id} by {by.name}: {verdict}",
                    [AuditObject("patient", str(PatientId(review.patient, self._authority)))],
                ),
                transaction="review",
            )
            done = await self._store.decide(review_id, justified=justified, note=note.strip(), by=by.name, event=event)
            if done:
                return review
        raise Problem.of("RuleBroken", f"there is no open review {review_id}; perhaps it was decided before", "review")

    # look-ups -----------------------------------------------------------------------------------------------------

    async def unusual(self, hours: float, by: Operator) -> list[Unusual]:
        """Whose look-ups were unusual, hour by hour, the highest score first."""
        until, found = self._now(), []
        for number in range(math.ceil(timedelta(hours=hours) / WINDOW)):
            end = until - number * WINDOW
            found += unusual(await self._look_ups.counted(end - WINDOW, end, self._transactions))
        await self._log.record(self._used(by, "unusual look-ups listed"))
        return sorted(found, key=lambda each: -each.score)

    def _used(self, by: Operator, what: str, patients: Sequence[str] = ()) -> AuditEvent:
        objects = (*(AuditObject("patient", p) for p in patients), AuditObject("audit_log", "urn:obieg:audit"))
        return audited(by, self._node, "audit_log_used", what, objects)

    # why ----------------------------------------------------------------------------------------------------------

    async def explain(
        self, requester: Requester, patient: PatientId, documents: Sequence[str], by: Operator, act: Act = Act.READ
    ) -> Explained:
        """What the node would decide now, and why. Raises Problem ``UnknownKeyIdentifier``."""
        found = await self._access.explain(requester, patient, documents, self._now(), act)
        ids = sorted(str(PatientId(id_, self._authority)) for id_ in found.person.ids)
        what = f"access explained: {requester.person} as {requester.role} {requester.purpose_of_use}".rstrip()
        objects = (*(AuditObject("patient", i) for i in ids), *(AuditObject("document", each) for each in documents))
        await self._log.record(audited(by, self._node, "query", what, objects))
        return found

    # traces -------------------------------------------------------------------------------------------------------

    async def trace(self, name: str, by: Operator) -> Trace:
        """All records of a document (uniqueId, entryUUID, logical id), or of a request by its id, the oldest first."""
        asked = name.strip()
        document = await self._store.document(asked)
        if document is not None:
            names = await self._log.names(document.patients)
            rows, more = await self._rows(AuditQuestion(patients=names), document.names)
        else:
            since = self._now() - _REQUESTS_KEPT
            rows, more = await self._rows(AuditQuestion(request_id=asked, since=since), ()) if asked else ([], False)
        steps = await asyncio.to_thread(_steps, rows)
        patients = tuple(dict.fromkeys(row.patient_id for row in rows if row.patient_id))
        await self._log.record(self._used(by, f"trace of {asked}", document.patients if document else patients))
        if document is None:
            return Trace(asked, steps, more=more)
        return Trace(asked, steps, document.repository, document.registered_at, more)

    async def _rows(self, question: AuditQuestion, names: Sequence[str]) -> tuple[list[StoredAudit], bool]:
        """Records that name one of ``names``, all where there are none, the newest first; whether there are more."""
        found: list[StoredAudit] = []
        looked_at = 0
        while True:
            rows = await self._log.find(question, _AT_ONCE)
            looked_at += len(rows)
            rows_of_it = (row for row in rows if not names or any(name in row.message for name in names))
            found += [row for row in rows_of_it if row.transaction != OPERATOR]  # who looked is no part of the way
            if len(rows) < _AT_ONCE or looked_at >= TRACED_MAX:
                return found, len(rows) == _AT_ONCE
            question = replace(question, before=rows[-1].audit_id)

    # completeness -------------------------------------------------------------------------------------------------

    async def completeness(self, names: Mapping[str, Sequence[str]], own: str) -> list[Expected]:
        """By repository what came from it within a month, and the records of that which its node sent.

        ``names``: what each repository's node is called; ``own``: the repository of this node.
        """
        submissions, records = await self._store.provided(PROVIDING)
        return expected(submissions, records, names, own)


def _steps(rows: Sequence[StoredAudit]) -> list[Step]:
    steps: list[Step] = []
    for row in sorted(rows, key=lambda row: (row.happened_at or row.recorded_at, row.audit_id)):
        found, detail = entry(row), ""
        try:
            detail = message_of(row).outcome_detail
        except AuditUnreadable:
            detail = ""
        after = (found.at - steps[-1].at) / timedelta(milliseconds=1) if steps else 0
        steps.append(
            Step(
                audit_id=row.audit_id,
                at=found.at,
                after_ms=round(after),
                transaction=found.transaction,
                what=found.what,
                outcome=found.outcome,
                detail=detail,
                node=found.recorded_by or row.sender,
                received=bool(row.sender),
                who=found.name or found.person or found.system,
                request_id=row.request_id,
                purpose=found.purpose,
                bases=found.bases,
            )
        )
    return steps

"""Tells patients, and who may act for them, who saw what of theirs. Whoever reads the log is in it."""

from __future__ import annotations

import asyncio

from obieg.actors.access_control import AccessControl
from obieg.actors.provider_directory import ProviderDirectory
from obieg.domain.access import Act
from obieg.domain.access_log import Access, AccessLogPage, AccessLogStore, LogQuestion
from obieg.domain.audit import AuditLog, AuditObject, AuditQuestion, StoredAudit
from obieg.domain.obligations import NOTICE
from obieg.domain.requester import Requester
from obieg.mapping.access_log import entry, hidden, made_by
from obieg.protocol import Context


class AccessLog:
    """Reads the audit records of one person, of all ids that name them."""

    def __init__(
        self, log: AuditLog, store: AccessLogStore, directory: ProviderDirectory, *, access: AccessControl
    ) -> None:
        self._log = log
        self._store = store
        self._directory = directory
        self._access = access

    async def read(self, asked: LogQuestion, context: Context) -> AccessLogPage:
        """One page, newest first. Raises Problem."""
        await self._access.expect(asked.patient, context, Act.LOG)
        found = await self.page(asked, context.requester)
        context.objects = (*context.objects, AuditObject("audit_log", "urn:obieg:access-log"))
        await self._store.record(context.audit())
        context.audited = True
        return found

    async def page(self, asked: LogQuestion, requester: Requester) -> AccessLogPage:
        """The same without a question whether it may be told, and without a record: who tells it has both."""
        names = await self._log.names((str(asked.patient),))
        question = AuditQuestion(patients=names, before=asked.before)
        rows = await self._log.find(question, asked.count + 1)
        withheld = await self._store.withheld(asked.patient)
        page = rows[: asked.count]
        without = requester.person if asked.others else ""
        found = await asyncio.to_thread(_entries, page, withheld, without)
        places = await self._directory.organisation_names({a.organisation for a in found if a.organisation})
        people = await self._directory.practitioner_names({p for a in found for p in a.nameless})
        told = [a.named(people, places) for a in found]
        return AccessLogPage(asked.patient, told, page[-1].audit_id if len(rows) > asked.count else None)


def _entries(rows: list[StoredAudit], withheld: frozenset[str], without: str) -> list[Access]:
    """``without``: whose own acts are left out; "" for nobody."""
    kept = [row for row in rows if row.transaction != NOTICE and not (without and made_by(row, without))]
    # That this node fetched a document elsewhere to answer somebody, its record of that answer says.
    found = [each for each in map(entry, kept) if not each.fetched]
    return [hidden(each, withheld) for each in found if not without or each.person != without]

"""What people who look after a node do: see how it runs, what waits and why, and what all pages say.

Pages ask :meth:`Operations.admit` before anything; commands, whose users have the database itself, do not. Every act is
audited with who did it, in the commit that does it.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Sequence
from datetime import datetime, timedelta
from hashlib import sha256

from obieg.actors.access_control import AccessControl
from obieg.actors.patient_curation import OPERATOR
from obieg.domain.access import Act
from obieg.domain.audit import AuditEvent, AuditObject, Outcome
from obieg.domain.operating import (
    NOTICE_LENGTH_MAX,
    CertificateShown,
    Figures,
    Health,
    House,
    Inbox,
    NodeHealth,
    NodeNews,
    Notice,
    OperationsStore,
    Operator,
    Waiting,
    troubles,
)
from obieg.domain.previewing import Effect, Kind, Preview, effects, refused_codes
from obieg.domain.problems import Problem, RetryLater
from obieg.domain.registry import LostRace

_FIGURES_KEPT = timedelta(minutes=5)
_NOTICE_KEPT = timedelta(seconds=15)
_KEYS_LENGTH_MAX = 500  # characters of what differs, in the audit
_PEER = {True: "caller", False: "called"}  # what a certificate of somebody else is for


def audited(
    by: Operator,
    node: str,
    event: str,
    detail: str,
    objects: Sequence[AuditObject] = (),
    outcome: Outcome = Outcome.SUCCESS,
) -> AuditEvent:
    """The record of an act of an operator or an officer."""
    return AuditEvent(
        transaction=OPERATOR,
        event=event,
        outcome=outcome,
        detail=detail,
        request_id=by.request_id,
        source_user=by.proof.token if by.proof is not None else by.name,
        source_address=by.proof.address if by.proof is not None else "",
        destination_user=node,
        requester=by.name,
        objects=tuple(objects),
        proof=by.proof,
    )


class Operations:
    """Does it; see the module docstring."""

    def __init__(
        self,
        store: OperationsStore,
        house: House,
        *,
        access: AccessControl,
        record: Callable[[AuditEvent], object],
        node: str,
        now: Callable[[], datetime],
    ) -> None:
        """``record`` stores an audit record by itself; ``node`` is what this node is called."""
        self._store = store
        self._house = house
        self._access = access
        self._record = record
        self._node = node
        self._now = now
        self._figures: Figures | None = None
        self._news: tuple[datetime, Sequence[NodeNews]] | None = None
        self._counting = asyncio.Lock()
        self._notice: tuple[datetime, Notice | None] | None = None

    # who may ------------------------------------------------------------------------------------------------------

    def acts(self, by: Operator) -> frozenset[Act]:
        """What of an operator's or an officer's acts somebody may do."""
        mine = (Act.INSPECT, Act.MAINTAIN, Act.REVIEW)
        return frozenset(act for act in mine if by.proof is None or self._access.may(by.proof, act))

    async def admit(self, by: Operator, act: Act, what: str) -> None:
        """Raises Problem ``NotPermitted``, which is recorded, for who may not; ``what`` they wanted."""
        if act in self.acts(by):
            return
        event = audited(by, self._node, "security_alert", f"{act}: {what}", outcome=Outcome.MINOR_FAILURE)
        await self._store_record(event)
        raise Problem.of("NotPermitted", "the role of this session may not do this")

    async def looked(self, by: Operator, what: str) -> None:
        """Records that somebody looked at something for which there is no other record."""
        await self._store_record(audited(by, self._node, "application_activity", what))

    async def _store_record(self, event: AuditEvent) -> None:
        done = self._record(event)
        if asyncio.iscoroutine(done):
            await done

    # the node -----------------------------------------------------------------------------------------------------

    async def health(self) -> Health:
        """How the node and those that it knows are."""
        now = self._now()
        database, sealing = await asyncio.gather(self._store.database(), self._store.sealing())
        news, heard, peers = await asyncio.gather(self.news(), self._store.heard(), self._store.peers())
        disks, workers = await asyncio.to_thread(lambda: (self._house.disks(), self._house.workers()))
        certificates = await asyncio.to_thread(self._house.certificates)
        came = {one.repository: one for one in news}
        called = {node.repository: node.called for node in self._house.nodes if node.repository}
        names = {repository: name for repository, (name, *_) in called.items()} | {self._house.repository: self._node}
        nodes = []
        for repository in dict.fromkeys((self._house.repository, *names, *came)):
            one, name = came.get(repository), names.get(repository, "")
            nodes.append(
                NodeHealth(
                    name,
                    repository,
                    repository == self._house.repository,
                    one.documents if one else 0,
                    one.last_at if one else None,
                    max((heard[each] for each in called.get(repository, ()) if each in heard), default=None),
                )
            )
        ends = [certificate.not_after for certificate in certificates]
        shown = [CertificateShown(_PEER[one.incoming], one.subject, one.not_after, one.seen_at) for one in peers]
        return Health(
            now,
            self._house.version,
            database,
            sealing,
            disks,
            workers,
            nodes,
            sorted([*certificates, *shown], key=lambda one: (one.not_after, one.subject)),
            troubles(database, sealing, disks, ends, now, peers=[one.not_after for one in peers]),
        )

    def settings(self) -> Sequence[tuple[str, str]]:
        """The settings by name, without secrets."""
        return self._house.settings()

    async def preview(self, kind: Kind, data: bytes, by: Operator) -> Preview:
        """What proposed settings, codes or trust would change and break; nothing is applied, who asked is recorded."""
        proposal = await asyncio.to_thread(self._house.proposal, kind, data)
        found: list[Effect] = []
        if not proposal.faults:
            in_use = await self._store.in_use(codes=proposal.codes is not None)
            refused = refused_codes(proposal, in_use.codes)
            facilities = await self._store.documents_of_codes(refused) if refused else {}
            found = effects(proposal, in_use, refused, facilities)
        counted = f"{len(proposal.changes)} changes, {len(found)} effects" if not proposal.faults else "not valid"
        keys = ", ".join(one.key for one in proposal.changes)[:_KEYS_LENGTH_MAX]
        digest = sha256(data).hexdigest()
        await self.looked(by, f"preview of {kind} sha256 {digest}: {counted}" + (f": {keys}" if keys else ""))
        return Preview(proposal, found)

    async def news(self) -> Sequence[NodeNews]:
        """What came by repository, as of the last minutes."""
        async with self._counting:
            if self._news is None or self._now() - self._news[0] > _FIGURES_KEPT:
                self._news = self._now(), await self._store.news()
            return self._news[1]

    async def figures(self) -> Figures:
        """What is worth publishing, as of the last minutes; counted by one request at a time."""
        async with self._counting:
            if self._figures is None or self._now() - self._figures.at > _FIGURES_KEPT:
                self._figures = await self._store.figures(self._now())
            return self._figures

    # what waits ---------------------------------------------------------------------------------------------------

    async def letters(self, destination: str = "", count: int = 50, *, dead: bool = False) -> Waiting:
        """What waits to be told to whom; dead letters first."""
        return await self._store.letters(destination, count, dead=dead)

    async def retry(self, ids: Sequence[int], by: Operator, *, destination: str = "") -> list[int]:
        """Sends messages again now, all (of a receiver) where none is named; the numbers of those that will be."""
        return await self._changed(
            self._store.retry(ids, destination, self._outbox_event("sent again", ids, destination, by))
        )

    async def drop(self, ids: Sequence[int], by: Operator, *, destination: str = "", dead: bool = False) -> list[int]:
        """Deletes messages unsent, all (of a receiver, dead) where none is named."""
        event = self._outbox_event("dropped", ids, destination, by)
        return await self._changed(self._store.drop(ids, destination, event, dead=dead))

    async def _changed(self, doing: object) -> list[int]:
        try:
            return await doing  # type: ignore[misc, no-any-return]
        except LostRace as error:
            raise RetryLater("the outbox was changed meanwhile; do it again") from error

    def _outbox_event(self, done: str, ids: Sequence[int], destination: str, by: Operator) -> AuditEvent:
        which = ", ".join(map(str, ids)) or "all" + (f" of {destination}" if destination else "")
        return audited(by, self._node, "application_activity", f"outbox: {done}: {which}")

    async def inbox(self, count: int = 50, *, everything: bool = False) -> Inbox:
        """What others sent here (XDR)."""
        return await self._store.inbox(count, everything=everything)

    # what all pages say -------------------------------------------------------------------------------------------

    async def notice(self) -> Notice | None:
        """What all pages say now; where the database is away, what they said before."""
        now = self._now()
        if self._notice is None or now - self._notice[0] > _NOTICE_KEPT:
            before = self._notice[1] if self._notice else None
            self._notice = now, before  # the others do not ask meanwhile
            with contextlib.suppress(RetryLater):
                self._notice = now, await self._store.notice()
        found = self._notice[1]
        return found if found is not None and found.text and now < found.until else None

    async def say(self, text: str, until: datetime, by: Operator) -> None:
        """From now on all pages say it, until then; an empty text ends it. Raises Problem."""
        said = " ".join(text.split())
        if len(said) > NOTICE_LENGTH_MAX:
            raise Problem.of("RuleBroken", f"the notice has more than {NOTICE_LENGTH_MAX} characters", "text")
        if said and until <= self._now():
            raise Problem.of("RuleBroken", "the notice ends before now", "until")
        what = f"notice on all pages until {until.isoformat(timespec='minutes')}: {said}" if said else "notice ended"
        await self._store.say(said, until, by.name, audited(by, self._node, "application_activity", what))
        self._notice = None

"""The Resource Notification Broker (DSUBm): keeps subscriptions, and tells subscribers of documents.

https://profiles.ihe.net/ITI/DSUBm/volume-1.html. What is to be told stands in the outbox, from the
commit of what it tells of. Here it becomes a notification (ITI-112), when it is sent: a subscriber gets what is then.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import suppress
from datetime import UTC, datetime

import msgspec
import structlog

from obieg.actors.access_control import AccessControl
from obieg.actors.document_registry import DocumentRegistry
from obieg.domain.affinity_domain import AffinityDomain
from obieg.domain.audit import AuditEvent, AuditObject, Outcome
from obieg.domain.identifiers import PatientId
from obieg.domain.outbox import Letter
from obieg.domain.permits import Named
from obieg.domain.problems import Finding, Problem, RetryLater
from obieg.domain.registry import FoundResource, LostRace
from obieg.domain.requester import Requester
from obieg.domain.sight import EVERYTHING
from obieg.domain.subscriptions import (
    DAYS,
    DAYS_MAX,
    DESTINATION,
    HANDSHAKE,
    KEPT_OFF,
    DocumentSubscription,
    Notice,
    NumberedNotice,
    PublishedEvent,
    SubscriptionDraft,
    SubscriptionSearch,
    SubscriptionStore,
    endpoint_fault,
)
from obieg.mapping.dsubm import EVENTS_MAX, HookMessage, Told, bounded, patient_of, read_notice
from obieg.mapping.dsubm_publish import ResourcesPublished, in_domain, patients_of
from obieg.protocol import Context, HookClient, Notification, Sending

ATTEMPTS_MAX = 5  # at changing a subscription that is changed meanwhile

log = structlog.get_logger()


class ResourceNotificationBroker:
    """Answers ITI-110, 111, 113 and 114, and implements :class:`obieg.protocol.Receiver` for all subscriptions."""

    def __init__(
        self,
        store: SubscriptionStore,
        registry: DocumentRegistry,
        client: HookClient,
        notification: Notification,
        *,
        codes: AffinityDomain,
        sender: tuple[str, str],
        anywhere: bool,
        new_uuid: Callable[[], str],
        clock: Callable[[], datetime] = lambda: datetime.now(UTC),
        access: AccessControl | None = None,
    ) -> None:
        """``anywhere`` (the laboratory): receivers may stand on this machine and in private networks."""
        self._store = store
        self._registry = registry
        self._client = client
        self._notification = notification
        self._codes = codes
        self._sender = sender
        self._anywhere = anywhere
        self._new_uuid = new_uuid
        self._clock = clock
        self._access = access or AccessControl()
        self._withheld: set[int] = set()  # letters that were not sent: the subscriber may not see what they tell of

    # subscribing ------------------------------------------------------------------------------------------------

    async def create(self, draft: SubscriptionDraft, context: Context) -> DocumentSubscription:
        """Stores it with its handshake, which is sent at once. Raises Problem."""
        if fault := endpoint_fault(draft.endpoint, anywhere=self._anywhere):
            raise Problem.of("RuleBroken", f"{draft.endpoint[:200]}: {fault}", "Subscription.channel.endpoint")
        end = bounded(draft.end, context.received_at, DAYS, DAYS_MAX)
        patient = patient_of(draft.search)
        key: int | None = 0
        self._access.decided_later(context)
        if patient is not None:
            seen = await self._access.see(Named((patient,)), context)
            seen.refused(context, self._registry.assigning_authority)
            seen.told(context)
            (key,) = await self._store.patient_keys([patient])
            if not seen.open:
                key = None
        if key is None:
            raise Problem.of(
                "XDSUnknownPatientId",
                f"patient {patient} is not known here",
                "Subscription.criteria.extension(filter-criteria): patient",
            )
        id_ = self._new_uuid()
        context.objects = (*context.objects, AuditObject("subscription", id_))
        await self._store.create(
            id_,
            context.requester,
            draft,
            patient_key=key,
            end=end,
            filters=self._registry.with_schemes(draft.search),
            event=context.audit(),
        )
        context.audited = True
        made = await self._store.read(id_)
        if made is None:
            raise RetryLater("the subscription was removed at once")
        return made

    async def end(self, id_: str, if_match: str, context: Context) -> DocumentSubscription:
        """Switches it off. Raises Problem."""
        for _ in range(ATTEMPTS_MAX):
            found = await self._own(id_, if_match, context)
            try:
                await self._store.end(id_, found.version, context.audit())
            except LostRace:
                continue
            context.audited = True
            ended = await self._store.read(id_)
            if ended is not None:
                return ended
        raise RetryLater("the subscription is changed all the time")

    async def delete(self, id_: str, if_match: str, context: Context) -> None:
        """Removes it. Raises Problem."""
        for _ in range(ATTEMPTS_MAX):
            found = await self._own(id_, if_match, context)
            try:
                await self._store.delete(id_, found.version, context.audit())
            except LostRace:
                continue
            context.audited = True
            return
        raise RetryLater("the subscription is changed all the time")

    async def _own(self, id_: str, if_match: str, context: Context) -> DocumentSubscription:
        self._access.decided_later(context)
        found = _expect_own(await self._store.read(id_), context)
        if if_match not in ("", "*", str(found.version)):
            said = f"the subscription has version {found.version}, not {if_match[:20]}: read it again"
            raise Problem.of("VersionConflict", said, "http.If-Match")
        return found

    # asking -----------------------------------------------------------------------------------------------------

    async def read(self, id_: str, context: Context) -> DocumentSubscription:
        """One of the caller's. Raises Problem."""
        self._access.decided_later(context)
        # What is somebody else's is refused before this is recorded as a reading.
        found = _expect_own(await self._store.read(id_), context)
        found = await self._store.read(id_, context.audit()) or found
        context.audited = True
        return found

    async def find(self, search: SubscriptionSearch, context: Context) -> tuple[Sequence[DocumentSubscription], int]:
        """A page of the caller's, and how many there are."""
        self._access.decided_later(context)
        found, total = await self._store.find(context.requester, search, context.audit())
        context.audited = True
        return found, total

    async def events(
        self, id_: str, numbers: tuple[int, int], content: str, context: Context
    ) -> tuple[DocumentSubscription, Sequence[Told]]:
        """What the subscription was told before. Raises Problem."""
        self._access.decided_later(context)
        found = _expect_own(await self._store.read(id_), context)
        told = await self._store.told(id_, *numbers, EVENTS_MAX, context.audit())
        context.audited = True
        # A subscription gets no more than it asked for.
        if content and _AMOUNT[content] < _AMOUNT[found.content]:
            found = _with_content(found, content)
        notices = [(one, read_notice(one.notice)) for one in told]
        shown = await self._shown([n for _, n in notices], context.requester, context.received_at)
        notices = [(one, notice) for one, notice in notices if notice in shown]
        resources = await self._resources([n for _, n in notices], found)
        return found, [_told(found, one, notice, resources.get(notice.entry_uuid)) for one, notice in notices]

    # publishing -------------------------------------------------------------------------------------------------

    async def publish(self, published: ResourcesPublished, context: Context) -> None:
        """Tells the subscriptions that match what happened elsewhere. Raises Problem."""
        identifiers = list(dict.fromkeys(i for all_of_one in published.patients.values() for i in all_of_one))
        found = await self._store.patient_keys(identifiers)
        keys = patients_of(published, dict(zip(identifiers, found, strict=True)))
        events = [
            PublishedEvent(
                event=one.event,
                described=in_domain(one.described, published.others, self._codes),
                patient_key=keys[one.described.patient_id or ""],
                focus=one.focus,
                resource=one.resource,
            )
            for one in published.resources
        ]
        await self._store.publish(events, context.audit())
        context.audited = True

    # telling ----------------------------------------------------------------------------------------------------

    async def deliver(self, letter: Letter) -> None:
        """See the port."""
        notice, id_ = read_notice(letter.body), letter.destination.removeprefix(DESTINATION)
        if notice.event == HANDSHAKE:
            await self._shake_hands(letter, id_)
            return
        if self._access.enforced:
            subscription = await self._store.read(id_)
            if subscription is not None and not await self._shown([notice], subscription.requester, self._clock()):
                self._withheld.add(letter.outbox_id)
                return
        found, number = await self._store.number(id_, letter)
        if found is None:
            raise Problem.of("NotificationRefused", "the subscription was removed")
        resources = await self._resources([notice], found)
        one = NumberedNotice(number, letter.created_at.astimezone(UTC), letter.body)
        await self._post(_told(found, one, notice, resources.get(notice.entry_uuid)), letter)

    async def _shake_hands(self, letter: Letter, id_: str) -> None:
        """Once: who does not answer now is no receiver (2:3.112.4.1.3), and the subscriber may ask again."""
        found = await self._store.read(id_)
        if found is None:
            raise Problem.of("NotificationRefused", "the subscription was removed")
        try:
            await self._post(Told(subscription=found, kind=HANDSHAKE), letter)
        except RetryLater as error:
            raise Problem.of("NotificationRefused", f"the handshake failed: {error}") from error

    async def _post(self, told: Told, letter: Letter) -> None:
        sending = Sending(
            control_id=letter.control_id,
            at=letter.created_at,
            sender=self._sender,
            receiver=(told.subscription.id, ""),
            address=told.subscription.endpoint,
        )
        message: HookMessage = self._notification.write(told, sending)
        self._notification.read(await self._client.post(message.endpoint, message.headers, message.body))

    async def _resources(
        self, notices: Sequence[Notice], subscription: DocumentSubscription
    ) -> dict[str, FoundResource]:
        uuids = sorted({n.entry_uuid for n in notices if n.entry_uuid and n.event != "delete"})
        if subscription.content != "full-resource" or not uuids:
            return {}
        return {
            found.entry_uuid: found
            for found in await self._registry.resources(dict.fromkeys(uuids, subscription.kind), EVERYTHING)
        }

    async def _shown(self, notices: Sequence[Notice], requester: Requester, at: datetime) -> Sequence[Notice]:
        """Those of what this requester may see now.

        Of what stands elsewhere, or not any more, nothing can be looked at: who may see only some documents of the
        patient is not told.
        """
        if not self._access.enforced:
            return notices
        here = {n.entry_uuid: n.kind for n in notices if _stands_here(n)}
        patients = {n.patient for n in notices}
        authority = self._registry.assigning_authority
        seen = await self._access.seen_by(
            requester, Named([PatientId(p, authority) for p in patients], uuids=[*here]), at
        )
        found = {f.entry_uuid for f in await self._registry.resources(here, seen.sight)}
        whole = {p for p in patients if seen.of({p}).whole}
        return [n for n in notices if (n.entry_uuid in found if _stands_here(n) else n.patient in whole)]

    def audit(self, letter: Letter, outcome: Outcome, detail: str = "") -> AuditEvent:
        """See the port."""
        if letter.outbox_id in self._withheld:
            self._withheld.discard(letter.outbox_id)
            outcome, detail = Outcome.MINOR_FAILURE, "; ".join(filter(None, (detail, "not sent: no access")))
        objects = [AuditObject("subscription", letter.destination.removeprefix(DESTINATION))]
        notice = Notice(event="")
        with suppress(Problem):  # what was stored cannot be read, which is why it was not sent
            notice = read_notice(letter.body)
            objects += self._notification.audit(letter.body, letter.control_id)
        if notice.patient:
            objects.append(AuditObject("patient", f"{notice.patient}^^^&{self._registry.assigning_authority}&ISO"))
        return AuditEvent(
            transaction=letter.transaction,
            event=self._notification.event,
            outcome=outcome,
            detail=detail,
            request_id=letter.control_id,
            source_user="|".join(reversed(self._sender)),
            destination_user=notice.endpoint,
            objects=tuple(objects),
        )

    async def end_all(self) -> None:
        """Switches off the subscriptions whose end has come, and removes those that have been off for KEPT_OFF."""
        for id_ in await self._store.end_all():
            log.info("a subscription has ended", subscription=id_)
        for id_ in await self._store.remove_off(KEPT_OFF):
            log.info("a subscription that was off was removed", subscription=id_)


def _stands_here(notice: Notice) -> bool:
    return bool(notice.entry_uuid) and not notice.focus and notice.event != "delete"


_AMOUNT = {"empty": 0, "id-only": 1, "full-resource": 2}


def _with_content(subscription: DocumentSubscription, content: str) -> DocumentSubscription:
    return msgspec.structs.replace(subscription, content=content)


def _told(subscription: DocumentSubscription, one: NumberedNotice, notice: Notice, found: FoundResource | None) -> Told:
    return Told(
        subscription=subscription,
        kind="event-notification",
        number=one.number,
        at=one.occurred_at,
        notice=notice,
        found=found,
    )


def _expect_own(found: DocumentSubscription | None, context: Context) -> DocumentSubscription:
    """Only who made it knows of it; the audit tells the others from those who ask for none."""
    if found is None or not found.is_of(context.requester):
        said = "no subscription has this id, or none that this caller has made"
        raise Problem([Finding("AddressNotFound", said, reason="" if found is None else "it is another's")])
    return found

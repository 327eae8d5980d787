"""Makes links to the health summary, and opens them to whoever has one and its passcode (SMART Health Links).

The summary is made as whoever makes the link sees it, encrypted at once, and kept so; the key goes into the link and is
forgotten. A link holds as long as its maker could still make it: at each opening access control is asked anew.
"""

from __future__ import annotations

import asyncio
from base64 import urlsafe_b64encode
from collections.abc import Callable, Sequence
from datetime import timedelta

from msgspec.structs import replace

from obieg.actors.access_control import AccessControl
from obieg.actors.patient_summary import PatientSummary
from obieg.domain.access import Act
from obieg.domain.audit import AuditObject, Outcome
from obieg.domain.health_links import (
    BASIS,
    FILE_BYTES_MAX,
    LINKS_MAX,
    TRIES_MAX,
    FileAsked,
    Kept,
    Link,
    LinkAsked,
    LinkMade,
    LinksAsked,
    LinkStore,
    Manifest,
    Opening,
    Tried,
    WrongPasscode,
    digest,
    locator,
)
from obieg.domain.identifiers import PatientId
from obieg.domain.permits import Named
from obieg.domain.problems import Problem
from obieg.domain.requester import Requester
from obieg.protocol import Context
from obieg.wire import jwe

_MANIFESTS = "/shl"  # below which the edge of links is
_PATIENT = "patient"  # the role
_URL_MAX = 128  # characters (Establish a SMART Health Link Manifest URL)


class HealthLinks:
    """Of one region."""

    def __init__(
        self,
        store: LinkStore,
        summaries: Callable[[], PatientSummary | None],
        *,
        access: AccessControl,
        assigning_authority: str,
        new_uuid: Callable[[], str],
        new_secret: Callable[[], bytes],
    ) -> None:
        """``new_secret`` makes 32 bytes that nobody can guess; ``summaries`` gives the actor, which is made later."""
        self._store = store
        self._summaries = summaries
        self._access = access
        self._authority = assigning_authority
        self._new_uuid = new_uuid
        self._new_secret = new_secret

    # who shares ---------------------------------------------------------------------------------------------------

    async def make(self, asked: LinkAsked, context: Context) -> LinkMade:
        """Makes a link to the summary as it is now. Raises Problem."""
        await self._access.expect(asked.patient, context, Act.LOG)
        if sum(self._holds(link, context) for link in await self._store.of(asked.patient)) >= LINKS_MAX:
            raise _too_many()
        summaries = self._summaries()
        made = await summaries.content(asked.patient, context, base=f"{asked.base}/fhir") if summaries else None
        if made is None:
            raise _missing()
        key, secret = self._new_secret(), _text(self._new_secret())
        url = f"{asked.base}{_MANIFESTS}/{secret}"
        if len(url) > _URL_MAX:
            raise Problem.of("LimitExceeded", f"the node's address is too long for a link: {asked.base}")
        file = await asyncio.to_thread(jwe.encrypt, made.data, key, made.content_type)
        if len(file) > FILE_BYTES_MAX:
            raise Problem.of("LimitExceeded", f"the summary is larger than {FILE_BYTES_MAX // 1024**2} MiB")
        id_, until = self._new_uuid(), context.received_at + timedelta(hours=asked.hours)
        context.objects = (*made.objects, AuditObject("health_link", id_))
        kept = Kept(asked, id_, locator(secret), digest(secret, asked.passcode), context.requester, until, file)
        if not await self._store.put(kept, context.audit()):  # others were made meanwhile
            raise _too_many()
        context.audited = True
        return LinkMade(id_, url, _text(key), asked.label, until)

    async def links(self, asked: LinksAsked, context: Context) -> Sequence[Link]:
        """The patient's links. Raises Problem."""
        await self._access.expect(asked.patient, context, Act.LOG)
        found = await self._store.of(asked.patient)
        await self._record(context)
        return found

    async def end(self, asked: LinksAsked, context: Context) -> None:
        """Ends one. Raises Problem."""
        await self._access.expect(asked.patient, context, Act.LOG)
        context.objects = (*context.objects, AuditObject("health_link", asked.end))
        if not await self._store.end(asked.patient, asked.end, context.audit()):
            raise Problem.of("AddressNotFound", "the patient has no such link that holds", "http.link")
        context.audited = True

    async def forget(self) -> None:
        """Deletes the files of links that are over, and those that are for long."""
        await self._store.forget()

    @staticmethod
    def _holds(link: Link, context: Context) -> bool:
        return link.ended_at is None and link.until > context.received_at and link.tries < TRIES_MAX

    # who has a link -----------------------------------------------------------------------------------------------

    async def open(self, asked: Opening, context: Context) -> Manifest | WrongPasscode:
        """The manifest. Raises Problem where no such link holds: ended, blocked, too old and unknown are one answer."""
        context.veiled = True
        context.requester = replace(context.requester, person_name=asked.recipient)
        given = digest(asked.secret, asked.passcode) if asked.passcode else ""
        tried = await self._store.attempt(locator(asked.secret), given)
        if tried is None:
            raise _missing()
        await self._expect_held(tried, context)
        if not tried.right:
            await self._store.record(context.audit(Outcome.MINOR_FAILURE, "wrong passcode"))
            context.audited = True
            return WrongPasscode(max(0, TRIES_MAX - tried.tries))
        context.access, context.veiled = BASIS, False
        ticket = ""
        if asked.embedded_max is not None and len(tried.file) > asked.embedded_max:
            ticket = _text(self._new_secret())
        await self._store.opened(
            tried.id, digest(asked.secret, ticket) if ticket else "", asked.recipient, context.audit()
        )
        context.audited = True
        if ticket:
            return Manifest(tried.made_at, location=f"{asked.base}/{asked.secret}/{ticket}")
        return Manifest(tried.made_at, tried.file)

    async def file(self, asked: FileAsked, context: Context) -> bytes:
        """The file that a manifest named, once. Raises Problem."""
        context.veiled = True
        taken = await self._store.take(locator(asked.secret), digest(asked.secret, asked.ticket))
        if taken is None:
            raise _missing()
        tried, recipient = taken
        context.requester = replace(context.requester, person_name=recipient)
        await self._expect_held(tried, context)
        context.access, context.veiled = BASIS, False
        await self._record(context)
        return tried.file

    async def _expect_held(self, tried: Tried, context: Context) -> None:
        """Raises Problem where whoever made the link could not make it any more."""
        patient = PatientId(tried.patient, self._authority)
        context.objects = (AuditObject("patient", str(patient)),)
        context.requester = replace(context.requester, token=tried.id)
        if self._access.enforced:
            maker = Requester(system="", person=tried.made_by, role=_PATIENT, purpose_of_use=tried.purpose)
            seen = await self._access.seen_by(maker, Named(patients=(patient,)), context.received_at, Act.LOG)
            if not seen.permits:
                context.refusal = "its maker may not share any more"
                raise _missing()

    async def _record(self, context: Context) -> None:
        await self._store.record(context.audit())
        context.audited = True


def _missing() -> Problem:
    return Problem.of("AddressNotFound", "there is no such link, or none any more")


def _too_many() -> Problem:
    return Problem.of("RuleBroken", f"{LINKS_MAX} links hold already: end one first", "http")


def _text(secret: bytes) -> str:
    return urlsafe_b64encode(secret).decode().rstrip("=")

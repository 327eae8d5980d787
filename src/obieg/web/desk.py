"""How pages reach records: as a FHIR client of the node within its own process, in the name of who is logged in.

A page asks one interaction at a time (``Desk.fhir``) and gets the very answer that the FHIR edge would give: the same
transaction decodes, the same actor decides what may be seen, the same audit record is committed. So nothing is shown
that could not be asked from outside, and access control has one way in.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol
from urllib.parse import quote

import msgspec
import orjson
import structlog
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from obieg.domain.problems import Finding, Problem, RetryLater
from obieg.domain.requester import Requester
from obieg.edges.asgi import Exchange, Host, admitted, base_address, credentials
from obieg.edges.refusals import NOT_NOW
from obieg.protocol import Context, FhirBinding, FhirReply, FhirRequest, Sent
from obieg.web.kit import Kit, form_token

_MISSING = frozenset({"AddressNotFound", "ResourceGone", "XDSDocumentUniqueIdError"})

log = structlog.get_logger()


class Answer(NamedTuple):
    """What the node answers; see :class:`obieg.protocol.FhirReply`."""

    body: dict[str, Any]  # the resource; {} where there is none
    content: Sent | None  # a document's bytes
    status: int
    version: str
    access: str  # on which bases, and until when, it is seen (docs/access.md, Answers)


@dataclass(frozen=True, slots=True, kw_only=True)
class Visit:
    """One request of somebody who is logged in."""

    request: Request
    requester: Requester
    csrf: str  # what forms of the page carry
    fields: dict[str, str]  # of the form that was sent; {} of a page

    def acting(self, **changes: Any) -> Visit:
        """The same, asking with another ``purpose_of_use`` or ``acting_for``."""
        requester = msgspec.structs.replace(self.requester, **changes)
        return Visit(request=self.request, requester=requester, csrf=self.csrf, fields=self.fields)


class Area(Protocol):
    """Whose pages they are: who may come in, and where the others log in."""

    cookie: str  # of the session

    def admits(self, person: Requester) -> bool:
        """Whether pages of this area are for them."""

    def login_address(self, then: str, again: Requester | None = None) -> str:
        """Where people of this area log in, and come back from to ``then``. ``again``: to prove anew who they are."""

    def requester(self, person: Requester) -> Requester:
        """As whom they ask here."""


Handler = Callable[[Visit], Awaitable[Response]]


class Desk:
    """Serves pages of one area to those who are logged in."""

    def __init__(self, kit: Kit, host: Host, area: Area, *, affinity_domain: str) -> None:
        """``affinity_domain``: OID of the authority whose values are logical ids of Patients."""
        self.kit = kit
        self._host = host
        self._area = area
        self._affinity_domain = affinity_domain
        self._routes = {
            (resource, interaction): (transaction, binding.raw)
            for transaction, binding in host.served(FhirBinding)
            for resource in binding.resources
            for interaction in binding.interactions
        }

    # pages ----------------------------------------------------------------------------------------------------------

    def route(self, path: str, *, get: Handler | None = None, post: Handler | None = None) -> Route:
        """A page; whoever is not logged in is sent there, and comes back."""
        return self.kit.route(
            path,
            get=self._for_visitors(get) if get is not None else None,
            post=self._for_visitors(post) if post is not None else None,
        )

    def _for_visitors(self, handler: Handler) -> Callable[[Request], Awaitable[Response]]:
        async def answer(request: Request) -> Response:
            here = request.url.path + (f"?{request.url.query}" if request.url.query else "")
            person = await self._person(request)
            if person is None:
                return self.kit.go(self._area.login_address(here if request.method == "GET" else request.url.path))
            if not self._area.admits(person):
                return self.kit.page(request, "elsewhere.html", status=403, login=self._area.login_address(here))
            fields = await self.kit.form(request, self._area.cookie) if request.method == "POST" else {}
            cookie = self.kit.cookie(request, self._area.cookie)
            visit = Visit(
                request=request, requester=self._area.requester(person), csrf=form_token(cookie), fields=fields
            )
            try:
                return await handler(visit)
            except Problem as problem:
                codes = {finding.code for finding in problem.findings}
                if "FreshProofRequired" in codes:
                    return self.kit.go(self._area.login_address(request.url.path, person))
                if codes & _MISSING:
                    return self.missing(visit)
                log.info("a page was refused", request_id=request.state.request_id, codes=sorted(codes))
                return self.kit.page(
                    request, "problem.html", status=400, findings=problem.findings, request_id=request.state.request_id
                )

        return answer

    def missing(self, visit: Visit) -> Response:
        """The page of what is not there, or not for whoever asks: the two are one answer."""
        request_id = visit.request.state.request_id
        return self.kit.page(visit.request, "missing.html", status=404, request_id=request_id)

    async def _person(self, request: Request) -> Requester | None:
        """Who is logged in. Raises RetryLater where they ask too often."""
        shown = credentials(request.scope, base_address(request.scope, self._host.public_url))
        if not shown.cookie:
            return None
        try:
            person = await admitted(self._host.authenticator, self._host.throttle, shown)
        except Problem as problem:
            if not NOT_NOW.isdisjoint({finding.code for finding in problem.findings}):
                raise RetryLater(str(problem)) from None
            return None
        return person if person.person else None

    # records --------------------------------------------------------------------------------------------------------

    async def fhir(
        self,
        visit: Visit,
        interaction: str,
        resource: str,
        id_: str = "",
        *,
        parameters: Sequence[tuple[str, str]] = (),
        body: dict[str, Any] | None = None,
        if_match: str = "",
    ) -> Answer:
        """One interaction, as :class:`obieg.protocol.FhirBinding` names it.

        Raises Problem with what a caller from outside would be told, RetryLater where it may be possible later.
        """
        request = visit.request
        exchange = Exchange.begin(request.scope, self._host.new_request_id())
        base = base_address(request.scope, self._host.public_url)
        transaction, raw = self._routes[resource, interaction]
        exchange.transaction = transaction
        context = exchange.context = Context(
            transaction=transaction,
            requester=visit.requester,
            request_id=exchange.request_id,
            received_at=self._host.clock(),
            source_user=visit.requester.token,
            destination_user=base + request.url.path,
        )
        asked = FhirRequest(
            interaction=interaction,
            resource=resource,
            id=id_,
            parameters=tuple(parameters),
            body=body,
            base=f"{base}/fhir",
            format="" if raw else "json",  # documents as they are, not within a resource
            if_match=if_match,
            request_id=exchange.request_id,
            authorities=self._host.authorities,
            affinity_domain=self._affinity_domain,
        )
        refused: list[Finding] = []

        async def work() -> FhirReply:
            reply: FhirReply = transaction.encode(await self._host.perform(context, asked), asked)
            return reply

        def refuse(findings: tuple[Finding, ...]) -> FhirReply:
            refused.extend(findings)
            return FhirReply()

        outcome, reply = await self._host.settle(exchange, work(), refuse, protocol="FHIR")
        self._host.finish(exchange, outcome)
        if outcome == "refused":
            raise Problem(refused)
        if outcome != "success":
            raise RetryLater("; ".join(finding.detail for finding in refused))
        found = reply.body if reply.json is None else orjson.loads(reply.json)
        return Answer(found or {}, reply.content, reply.status, reply.version, context.access)


def returning(address: str, parameter: str, then: str) -> str:
    """``address`` with where to go afterwards."""
    return f"{address}?{parameter}={quote(then, safe='')}"

"""How pages reach records: as a client of the node within its own process, in the name of who is logged in.

A page asks one interaction at a time (``Desk.fhir``) and gets the very answer that the FHIR edge would give: the same
transaction decodes, the same actor decides what may be seen, the same audit record is committed. Images come the same
way (``Desk.study``, ``Desk.image``: RAD-107). So nothing is shown that could not be asked from outside, and access
control has one way in.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple, Protocol, TypeVar
from urllib.parse import quote

import msgspec
import orjson
import structlog
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from obieg.domain.images import ImagesAsked, Kind, ShownStudy
from obieg.domain.problems import Finding, Problem, RetryLater
from obieg.domain.requester import Requester
from obieg.edges.asgi import Exchange, Host, Receive, Scope, Send, admitted, base_address, credentials
from obieg.edges.refusals import NOT_NOW
from obieg.edges.wado import WadoEdge
from obieg.protocol import Context, FhirBinding, FhirReply, FhirRequest, Sent, Transaction, WadoBinding
from obieg.web.kit import Kit, form_token

_MISSING = frozenset({"AddressNotFound", "ResourceGone", "XDSDocumentUniqueIdError"})

# Why a document that lies in a facility's repository is not given: what pages call it, and the status, by code.
AWAY = {
    "RepositoryNotAvailable": ("silent", 503),
    "RepositoryWithholds": ("withheld", 404),
    "RepositoryAnswerUnfit": ("unfit", 502),
    "XDSUnknownRepositoryId": ("unknown", 404),
}

T = TypeVar("T")

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
    file: bytes | None = b""  # that came with the form; None: it is too large

    def acting(self, **changes: Any) -> Visit:
        """The same, asking with another ``purpose_of_use`` or ``acting_for``."""
        requester = msgspec.structs.replace(self.requester, **changes)
        return replace(self, requester=requester)


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
        images = next((transaction for transaction, _ in host.served(WadoBinding)), None)
        # What a page needs of a study no address of DICOMweb gives; everything else is as for those.
        self._overview = replace(images, decode=lambda asked: asked) if images is not None else None
        self._wado = WadoEdge(host, affinity_domain=affinity_domain)
        self._routes = {
            (resource, interaction): (transaction, binding.raw)
            for transaction, binding in host.served(FhirBinding)
            for resource in binding.resources
            for interaction in binding.interactions
        }

    # pages ----------------------------------------------------------------------------------------------------------

    def route(
        self, path: str, *, get: Handler | None = None, post: Handler | None = None, file_bytes_max: int = 0
    ) -> Route:
        """A page; whoever is not logged in is sent there, and comes back. ``file_bytes_max``: of its form."""
        return self.kit.route(
            path,
            get=self._for_visitors(get) if get is not None else None,
            post=self._for_visitors(post, file_bytes_max) if post is not None else None,
        )

    def _for_visitors(self, handler: Handler, file_bytes_max: int = 0) -> Callable[[Request], Awaitable[Response]]:
        async def answer(request: Request) -> Response:
            here = request.url.path + (f"?{request.url.query}" if request.url.query else "")
            person = await self._person(request)
            if person is None:
                return self.kit.go(self._area.login_address(here if request.method == "GET" else request.url.path))
            if not self._area.admits(person):
                return self.kit.page(request, "elsewhere.html", status=403, login=self._area.login_address(here))
            fields: dict[str, str] = {}
            file: bytes | None = b""
            if request.method == "POST" and file_bytes_max:
                fields, file = await self.kit.upload(request, self._area.cookie, file_bytes_max)
            elif request.method == "POST":
                fields = await self.kit.form(request, self._area.cookie)
            cookie = self.kit.cookie(request, self._area.cookie)
            visit = Visit(
                request=request,
                requester=self._area.requester(person),
                csrf=form_token(cookie),
                fields=fields,
                file=file,
            )
            try:
                return await handler(visit)
            except Problem as problem:
                codes = {finding.code for finding in problem.findings}
                if "FreshProofRequired" in codes:
                    return self.kit.go(self._area.login_address(request.url.path, person))
                if codes & _MISSING:
                    return self.missing(visit)
                if kinds := [AWAY[code] for code in sorted(codes) if code in AWAY]:
                    return self.away(visit, *kinds[0])
                log.info("a page was refused", request_id=request.state.request_id, codes=sorted(codes))
                return self.kit.page(
                    request, "problem.html", status=400, findings=problem.findings, request_id=request.state.request_id
                )

        return answer

    def missing(self, visit: Visit) -> Response:
        """The page of what is not there, or not for whoever asks: the two are one answer."""
        return self.kit.missing(visit.request)

    def away(self, visit: Visit, why: str, status: int) -> Response:
        """The page of a document that lies at a facility, which gives nothing now."""
        request_id = visit.request.state.request_id
        log.info("a facility gives no document", request_id=request_id, why=why)
        return self.kit.page(visit.request, "away.html", status=status, why=why, request_id=request_id)

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

    def serves(self, interaction: str, resource: str) -> bool:
        """Whether this node answers it at all."""
        return (resource, interaction) in self._routes

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
        transaction, raw = self._routes[resource, interaction]
        exchange, context = self._begun(visit, transaction)
        asked = FhirRequest(
            interaction=interaction,
            resource=resource,
            id=id_,
            parameters=tuple(parameters),
            body=body,
            base=f"{base_address(visit.request.scope, self._host.public_url)}/fhir",
            format="" if raw else "json",  # documents as they are, not within a resource
            if_match=if_match,
            request_id=exchange.request_id,
            authorities=self._host.authorities,
            affinity_domain=self._affinity_domain,
        )

        async def work() -> FhirReply:
            reply: FhirReply = transaction.encode(await self._host.perform(context, asked), asked)
            return reply

        reply = await self._settled(exchange, work(), "FHIR")
        found = reply.body if reply.json is None else orjson.loads(reply.json)
        return Answer(found or {}, reply.content, reply.status, reply.version, context.access)

    # images ---------------------------------------------------------------------------------------------------------

    @property
    def shows_images(self) -> bool:
        """Whether there is an archive of images."""
        return self._overview is not None

    async def study(self, visit: Visit, manifest: str, series: str = "") -> ShownStudy:
        """The study of the manifest with this uniqueId, with the images of one series; "": of the first.

        Raises Problem with what a caller from outside would be told, RetryLater where the archive is away.
        """
        exchange, context = self._begun(visit, self._images())

        async def work() -> ShownStudy:
            found, _ = await self._host.perform(context, ImagesAsked(manifest, Kind.OVERVIEW, series=series))
            assert isinstance(found, ShownStudy)  # noqa: S101 - that is what an overview is
            return found

        return await self._settled(exchange, work(), "DICOMweb")

    def image(self, visit: Visit, path: str) -> Response:
        """What ``path`` (a manifest, and what of it) gives over WADO-RS, as it would be given outside.

        Raises Problem where there is no archive; what else is wrong the answer says.
        """
        self._images()
        return _Image(self._wado, visit.requester, path)

    def _images(self) -> Transaction:
        """Raises Problem ``AddressNotFound`` where there is no archive of images."""
        if self._overview is None:
            raise Problem.of("AddressNotFound", "there are no images here")
        return self._overview

    # ----------------------------------------------------------------------------------------------------------------

    def _begun(self, visit: Visit, transaction: Transaction) -> tuple[Exchange, Context]:
        request = visit.request
        exchange = Exchange.begin(request.scope, self._host.new_request_id())
        exchange.transaction = transaction
        context = exchange.context = Context(
            transaction=transaction,
            requester=visit.requester,
            request_id=exchange.request_id,
            received_at=self._host.clock(),
            source_user=visit.requester.token,
            destination_user=base_address(request.scope, self._host.public_url) + request.url.path,
        )
        return exchange, context

    async def _settled(self, exchange: Exchange, work: Awaitable[T], protocol: str) -> T:
        """What comes of it. Raises Problem, RetryLater."""
        refused: list[Finding] = []

        def refuse(findings: tuple[Finding, ...]) -> Any:
            refused.extend(findings)

        outcome, done = await self._host.settle(exchange, work, refuse, protocol=protocol)
        self._host.finish(exchange, outcome)
        if outcome == "refused":
            raise Problem(refused)
        if outcome != "success":
            raise RetryLater("; ".join(finding.detail for finding in refused))
        return done


class _Image(Response):
    """What the DICOMweb edge answers, while it comes."""

    def __init__(self, edge: WadoEdge, person: Requester, path: str) -> None:
        super().__init__()
        self._edge, self._person, self._path = edge, person, path

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await self._edge.answer(scope, receive, send, self._path, self._person)


def returning(address: str, parameter: str, then: str) -> str:
    """``address`` with where to go afterwards."""
    return f"{address}?{parameter}={quote(then, safe='')}"

"""What everybody sees: the start page, who logs in where, facilities, status, how to join, accessibility, privacy.

They tell nothing of anybody, and are served where nobody can log in, too. A facility's node and a laboratory have a
start page of the same look. What the node serves to other systems stands at ``/services``.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute

from obieg.actors.region_facts import RegionFacts
from obieg.domain.operating import Facility
from obieg.domain.problems import RetryLater
from obieg.web.kit import Kit

_FIRST = 6  # facilities on the start page
_ROWS_MAX = 1000


class Service(NamedTuple):
    """A transaction that is served."""

    id: str
    name: str
    where: str
    address: str
    spec: str


class About(NamedTuple):
    """The node, for integrators."""

    name: str
    role: str  # region, facility
    laboratory: str  # "": it is none; nobody: who asks proves nothing; tests: keys of tests are trusted
    identity: Sequence[tuple[str, str]]  # word of the page, OID
    portals: bool  # whether people can log in


class PublicPages:
    """The pages; see the module docstring."""

    def __init__(
        self,
        kit: Kit,
        about: About,
        services: Sequence[Service],
        facts: RegionFacts | None,
        kinds: Mapping[str, str],
    ) -> None:
        """``facts``: of a region; ``kinds``: what class codes are called."""
        self._kit = kit
        self._about = about
        self._services = services
        self._facts = facts
        self._kinds = kinds

    @property
    def routes(self) -> Sequence[BaseRoute]:
        """For the node's web application."""
        pages = [("/", self._start), ("/services", self._for_integrators), ("/accessibility", self._text)]
        if self._facts is not None:
            pages += [("/facilities", self._facilities), ("/status", self._status), ("/join", self._text)]
            pages += [("/privacy", self._text), ("/sitemap", self._text), ("/enter", self._text)]
        return [self._kit.route(path, get=handler, sealed=False, anywhere=True) for path, handler in pages]

    def _show(self, request: Request, template: str, **values: Any) -> Response:
        response = self._kit.page(
            request,
            f"public/{template}.html",
            about=self._about,
            here=request.url.path,
            region=self._facts is not None,
            **values,
        )
        response.headers["referrer-policy"] = "no-referrer"  # there is no form here that is sent by POST
        return response

    async def _start(self, request: Request) -> Response:
        if self._facts is None:
            return self._show(request, "node")
        facilities = await self._known()
        return self._show(
            request,
            "start",
            facilities=[self._row(one) for one in (facilities or ())[:_FIRST]],
            number=None if facilities is None else len(facilities),
            state=await self._facts.status(),
        )

    async def _known(self) -> Sequence[Facility] | None:
        """None where they cannot be told just now."""
        try:
            return await self._facts.facilities() if self._facts is not None else ()
        except RetryLater:
            return None

    def _row(self, one: Facility) -> tuple[Facility, str]:
        kinds = (self._kinds.get(kind, "") for kind in one.kinds)
        return one, ", ".join(dict.fromkeys(kind.lower() for kind in kinds if kind))

    async def _facilities(self, request: Request) -> Response:
        wanted = request.query_params.get("q", "").strip()[:100]
        facilities = await self._known()
        parts = _folded(wanted).split()
        found = [one for one in facilities or () if all(part in _folded(f"{one.name} {one.city}") for part in parts)]
        return self._show(
            request,
            "facilities",
            q=wanted,
            facilities=[self._row(one) for one in found[:_ROWS_MAX]],
            number=None if facilities is None else len(found),
            total=len(facilities or ()),
        )

    async def _status(self, request: Request) -> Response:
        return self._show(request, "status", state=await self._facts.status() if self._facts is not None else None)

    async def _for_integrators(self, request: Request) -> Response:
        return self._show(request, "services", services=self._services)

    async def _text(self, request: Request) -> Response:
        return self._show(request, request.url.path.strip("/"))


def _folded(text: str) -> str:
    """Without case and marks, so that nobody needs a Polish keyboard."""
    plain = unicodedata.normalize("NFKD", text.casefold().replace("ł", "l"))
    return "".join(letter for letter in plain if not unicodedata.combining(letter))

"""The page that opens a SMART Health Link: the key stands behind # in the address and never leaves the browser."""

from __future__ import annotations

from collections.abc import Sequence

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute

from obieg.domain.health_links import RECIPIENT_MAX, VIEWER
from obieg.web.kit import Kit
from obieg.web.patient_records import SECTIONS


class LinkPage:
    """One page, for everybody."""

    def __init__(self, kit: Kit) -> None:
        self._kit = kit

    @property
    def routes(self) -> Sequence[BaseRoute]:
        """For the node's web application."""
        return [self._kit.route(VIEWER, get=self._show, anywhere=True)]

    async def _show(self, request: Request) -> Response:
        response = self._kit.page(
            request, "public/link.html", known_sections=sorted(SECTIONS), recipient_max=RECIPIENT_MAX
        )
        response.headers["referrer-policy"] = "no-referrer"
        return response

"""What patients wrote to a facility, for who works there."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import Any

from starlette.responses import Response
from starlette.routing import BaseRoute

from obieg.domain.messaging import TEXT_MAX
from obieg.web.areas import PROFESSIONALS
from obieg.web.desk import Desk, Visit
from obieg.web.messages import read_threads, said

Page = Callable[..., Awaitable[Response]]
_HERE = f"{PROFESSIONALS}/messages"


class MessageDesk:
    """Pages below ``PROFESSIONALS/messages``."""

    def __init__(self, desk: Desk, page: Page) -> None:
        """``page`` shows a template within the frame of these pages."""
        self._desk = desk
        self._page = page

    @property
    def routes(self) -> Sequence[BaseRoute]:
        """For the node's web application."""
        route = self._desk.route
        return (
            route(_HERE, get=self._threads),
            route(f"{_HERE}/{{thread}}", get=self._thread, post=self._answer),
            route(f"{_HERE}/{{thread}}/close", post=self._close),
        )

    async def _ask(self, visit: Visit, operation: str, *parts: dict[str, Any]) -> dict[str, Any]:
        body = {"resourceType": "Parameters", "parameter": list(parts)}
        return (await self._desk.fhir(visit, operation, "Communication", body=body)).body

    async def _threads(self, visit: Visit) -> Response:
        if not visit.requester.organisation:
            return self._desk.missing(visit)
        threads = read_threads(await self._ask(visit, "$inbox"))
        waiting = [t for t in threads if not t.closed and t.last.of_patient]
        rest = [t for t in threads if t not in waiting]
        return await self._page(visit, "messages.html", "messages", waiting=waiting, rest=rest)

    async def _thread(self, visit: Visit) -> Response:
        thread = {"name": "thread", "valueString": visit.request.path_params["thread"]}
        [found] = read_threads(await self._ask(visit, "$inbox", thread))
        return await self._page(visit, "thread.html", "messages", thread=found, text_max=TEXT_MAX)

    async def _answer(self, visit: Visit) -> Response:
        id_ = visit.request.path_params["thread"]
        text = visit.fields.get("text", "").strip()[:TEXT_MAX]
        if text:
            await self._ask(visit, "$answer", {"name": "thread", "valueString": id_}, said(text))
        return self._desk.kit.go(f"{_HERE}/{id_}")

    async def _close(self, visit: Visit) -> Response:
        id_ = visit.request.path_params["thread"]
        await self._ask(visit, "$close-thread", {"name": "thread", "valueString": id_})
        return self._desk.kit.go(f"{_HERE}/{id_}")

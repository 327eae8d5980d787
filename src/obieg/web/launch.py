"""Opening the pages of professionals out of a hospital's own system (docs/launch.md).

The address with the code only ever answers with a redirection that tells nobody where it came from, so the code stays
neither in the browser's address nor in a Referer. Another person who is logged in in the browser is asked first; the
code waits for that in the browser's cookie of log-ins.
"""

from __future__ import annotations

from collections.abc import Sequence

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute

from obieg.actors.people import Current, Opened, People
from obieg.domain.accounts import LoginRefused
from obieg.domain.launching import PURPOSES
from obieg.web.areas import LAUNCH, PROFESSIONALS
from obieg.web.kit import Kit, form_token, visiting

_OTHER = f"{LAUNCH}/other"
_REASONS = frozenset(("launch_over", "launch_twice", "launch_stranger", "launch_place", "patient"))
_CODE_MAX = 200


class LaunchPages:
    """The pages; see the module docstring."""

    def __init__(self, kit: Kit, people: People) -> None:
        self._kit = kit
        self._people = people

    @property
    def routes(self) -> Sequence[BaseRoute]:
        """For the node's web application."""
        return (
            self._kit.route(LAUNCH, get=self._launch),
            self._kit.route(_OTHER, get=self._other, post=self._instead),
        )

    async def _launch(self, request: Request) -> Response:
        code = request.query_params.get("code", "")[:_CODE_MAX]
        if not code:
            return await self._refused(request)
        if request.method != "GET" or "prefetch" in request.headers.get("sec-purpose", ""):
            # Nobody has opened it yet: a browser or a scanner only looks at the link.
            return self._kit.page(request, "trouble.html", status=503, request_id=request.state.request_id)
        return await self._open(request, code)

    async def _open(self, request: Request, code: str, *, instead: bool = False) -> Response:
        current = await self._current(request)
        try:
            opened = await self._people.open(code, current, visiting(request), instead=instead)
        except LoginRefused as refused:
            return self._elsewhere(f"{LAUNCH}?refused={refused.reason}", login="")
        if opened.proved is None:
            return self._elsewhere(_OTHER, login=code)
        response = self._elsewhere(_landing(opened), login="")
        # Another cookie than before: nobody can have planted it.
        self._kit.keep(response, self._kit.session_cookie, opened.proved.token)
        return response

    async def _other(self, request: Request) -> Response:
        """Somebody else is logged in here."""
        code = self._kit.cookie(request, self._kit.login_cookie)
        current, whom = await self._current(request), await self._people.whom_launched(code)
        if current is None or whom is None:
            return self._kit.go(f"{LAUNCH}?refused=launch_over")
        return self._kit.page(request, "launch_other.html", csrf=form_token(code), account=current.account, whom=whom)

    async def _instead(self, request: Request) -> Response:
        await self._kit.form(request, self._kit.login_cookie)
        return await self._open(request, self._kit.cookie(request, self._kit.login_cookie), instead=True)

    async def _refused(self, request: Request) -> Response:
        reason = request.query_params.get("refused", "")
        reason = reason if reason in _REASONS else "launch_over"
        current = await self._current(request) if reason == "patient" else None
        return self._kit.page(request, "launch.html", status=403, reason=reason, home=PROFESSIONALS if current else "")

    async def _current(self, request: Request) -> Current | None:
        return await self._people.session(self._kit.cookie(request, self._kit.session_cookie))

    def _elsewhere(self, address: str, *, login: str) -> Response:
        response = self._kit.go(address)
        response.headers["referrer-policy"] = "no-referrer"
        self._kit.keep(response, self._kit.login_cookie, login)
        return response


def _landing(opened: Opened) -> str:
    """The record, for what it was asked for."""
    launching = opened.launching
    if not launching.patient:
        return f"{LAUNCH}?refused=patient"
    return f"{PROFESSIONALS}/{PURPOSES[launching.purpose_of_use]}/{launching.patient}"

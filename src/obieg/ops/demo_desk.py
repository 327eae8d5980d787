"""The desk of the demo: one page from which somebody becomes, with one click, any of those who can log in.

It logs in as the person would, by password and code, and hands the browser the session's cookie: browsers give a cookie
of localhost to all its ports. It shows to whoever asks how people log in; so it is for a demo, and answers this machine
alone, under the name localhost, and takes forms of its own page only.
"""

from __future__ import annotations

import asyncio
import contextlib
import tomllib
from collections.abc import AsyncIterator, Generator, Mapping, Sequence
from datetime import UTC, datetime
from html import escape
from pathlib import Path
from typing import NamedTuple
from urllib.parse import parse_qs

import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import HTMLResponse, RedirectResponse, Response
from starlette.routing import Route

from obieg.actors.people import Visit
from obieg.domain.accounts import ROLES
from obieg.domain.own_pages import is_own_page
from obieg.edges.patient_login import PREFIX as PATIENT_LOGIN
from obieg.ops.demo_facts import Worker
from obieg.ops.demo_people import Secret, log_in, valid_for
from obieg.ops.demo_settings import HOST
from obieg.ops.failure import Failure
from obieg.ops.settings import Settings
from obieg.web.kit import session_cookie

STUDIED_BY = "lekarz-poz"
_AFTER_LOGIN = "/login"  # which sends on to where the person begins
_AFTER_PATIENT = "/patient"
_POLICY = "default-src 'none'; style-src 'self'; base-uri 'none'; form-action *; frame-ancestors 'none'"
_STYLE = """
body { color-scheme: light dark; font: 1.1rem/1.6 system-ui, sans-serif; margin: 0 auto; max-width: 52rem;
  padding: 1rem }
.not { background: #7a4b00; border-radius: .4rem; color: #fff; font-weight: 600; padding: .8rem 1rem }
button, a.go { border: 1px solid #888; border-radius: .4rem; display: block; font: inherit; margin: .6rem 0 .2rem;
  min-height: 44px; padding: .6rem 1rem; text-align: left; width: 100%; box-sizing: border-box }
code { font-size: 1.05em }
"""


class Desk(NamedTuple):
    """What stands on it."""

    settings: Settings  # of the region
    pages: str  # origin of the region's pages
    own: str  # origin of the desk
    workers: Sequence[Worker]
    secrets: Mapping[str, Secret]
    patients: Path | None  # file of those whom the stand-in of Węzeł Krajowy offers; None where patients cannot log in
    messages: str  # address of the gateway's stand-in, which shows SMS; "" for none
    ward: str = ""  # address of the stand-in of a hospital's own system, which opens records; "" for none
    study: str = ""  # path of the viewer with a study whom STUDIED_BY may see; "" where there are no images


def application(desk: Desk) -> Starlette:
    """The page and its form."""

    async def page(request: Request) -> Response:
        if not _is_ours(request, desk):
            return RedirectResponse(desk.own, 302)
        return HTMLResponse(_page(desk), headers={"content-security-policy": _POLICY, "cache-control": "no-store"})

    async def enter(request: Request) -> Response:
        origin, site = request.headers.get("origin", ""), request.headers.get("sec-fetch-site", "")
        if not (_is_ours(request, desk) and is_own_page(origin, site, (desk.own,))):
            return HTMLResponse("Formularz nie pochodzi z tej strony.", 403)
        said = parse_qs((await request.body()).decode("ascii", "replace"))
        login = said.get("login", [""])[0]
        if login not in desk.secrets:
            return HTMLResponse("Nie ma takiej osoby.", 404)
        visit = Visit(HOST, request.headers.get("user-agent", ""))
        try:
            token = await asyncio.to_thread(log_in, desk.settings, login, desk.secrets[login], visit)
        except Failure as failure:
            return HTMLResponse(escape(f"{failure.what} {failure.remedy}"), 503)
        then = desk.study if "study" in said and desk.study else _AFTER_LOGIN
        answer = RedirectResponse(f"{desk.pages}{then}", 303)
        answer.set_cookie(session_cookie(desk.pages), token, path="/", httponly=True, samesite="lax")
        return answer

    async def style(_: Request) -> Response:
        return Response(_STYLE, media_type="text/css")

    return Starlette(routes=[Route("/", page), Route("/enter", enter, methods=["POST"]), Route("/style.css", style)])


def _is_ours(request: Request, desk: Desk) -> bool:
    return f"http://{request.headers.get('host', '')}" == desk.own


def _page(desk: Desk) -> str:
    now = datetime.now(UTC)
    staff = "".join(
        f'<button name="login" value="{escape(worker.login)}"><strong>{escape(worker.name)}</strong>, '
        f"{escape(ROLES[worker.place.role]['pl'])}<br>{escape(worker.place.organisation_name)}{_acting(worker)}</button>"
        for worker in desk.workers
    )
    rows = "".join(
        f"<tr><td><code>{escape(worker.login)}</code><td><code>{escape(desk.secrets[worker.login].password)}</code>"
        f"<td><code>{desk.secrets[worker.login].code(now)}</code>"
        for worker in desk.workers
    )
    listed = tomllib.loads(desk.patients.read_text("utf-8"))["person"] if desk.patients else ()
    patients = "".join(
        f"<li>{escape(one['given_name'])} {escape(one['family_name'])}, ur. {one['birth_date']}, PESEL {one['pesel']}: "
        f"{escape(one['note'])}"
        for one in listed
    )
    begin = f"{desk.pages}{PATIENT_LOGIN}?return={_AFTER_PATIENT}"
    as_patient = (
        f'<a class="go" href="{escape(begin)}">Zaloguj jako pacjent</a><p>Na następnej stronie, atrapie Węzła '
        f"Krajowego, wybierz osobę:</p><ul>{patients}</ul>"
        if desk.patients is not None
        else "<p>Pacjenci nie mogą się zalogować: brakuje atrapy Węzła Krajowego.</p>"
    )
    messages = f'<h2>Wiadomości SMS</h2><p><a href="{escape(desk.messages)}">Co wysłano do pacjentów</a></p>'
    ward = (
        f'<h2>System szpitala</h2><p><a href="{escape(desk.ward)}">Oddział w systemie szpitala (atrapa)</a>: lekarz '
        "otwiera stamtąd dokumentację w regionie bez ponownego logowania.</p><h2>Zdarzenia medyczne</h2>"
        "<p>Stoją obok dokumentów na osi czasu u lekarza POZ i u pacjenta; wymyśla je atrapa P1.</p>"
    )
    images = (
        '<h2>Obrazy</h2><form method="post" action="/enter"><input type="hidden" name="study" value="1">'
        f'<button name="login" value="{STUDIED_BY}"><strong>RTG i tomografia w przeglądarce obrazów</strong><br>'
        "jako lekarz POZ; obrazy narysował program, nikogo na nich nie ma</button></form>"
    )
    return (
        '<!doctype html><html lang="pl"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width">'
        '<title>Pulpit pokazu</title><link rel="stylesheet" href="/style.css"></head><body>'
        '<p class="not" role="note">To jest pokaz. Wszystkie osoby są zmyślone. Tej strony nie ma w prawdziwym '
        "systemie: tu każdy loguje się jako każdy.</p><h1>Kim chcesz być?</h1>"
        f'<p><a href="{escape(desk.pages)}">Platforma regionalna</a></p>'
        f'<h2>Pracownicy</h2><form method="post" action="/enter">{staff}</form>'
        f"<details><summary>Loginy, hasła i kody, aby zalogować się samemu</summary><table><tr><th>Login<th>Hasło"
        f"<th>Kod{rows}</table><p>Kod zmienia się co pół minuty, ten za {valid_for(now).seconds} s: odśwież stronę."
        f"</p></details><h2>Pacjenci</h2>{as_patient}{ward if desk.ward else ''}"
        f"{images if desk.study else ''}{messages if desk.messages else ''}</body></html>"
    )


def _acting(worker: Worker) -> str:
    """For whom an assistant reads."""
    return f"<br>czyta w imieniu: {escape(worker.acts_for.name)}" if worker.acts_for is not None else ""


class _Server(uvicorn.Server):
    @contextlib.contextmanager
    def capture_signals(self) -> Generator[None, None, None]:
        """Signals are the demo's."""
        yield


@contextlib.asynccontextmanager
async def serving(desk: Desk, port: int) -> AsyncIterator[None]:
    """The desk, as long as the block."""
    server = _Server(
        uvicorn.Config(application(desk), host=HOST, port=port, log_level="critical", lifespan="off", access_log=False)
    )
    task = asyncio.create_task(server.serve())
    try:
        yield
    finally:
        server.should_exit = True
        await task

"""The stand-in on the network: pages for people, SOAP for the service provider, switches for tests."""

from __future__ import annotations

import dataclasses
import secrets
from html import escape
from typing import Any
from urllib.parse import parse_qsl, urlencode

import httpx
import msgspec
from lxml import etree
from signxml.exceptions import SignXMLException
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, PlainTextResponse, RedirectResponse, Response
from starlette.routing import Route

from standins.wezel_krajowy.provider import LEVELS, Asked, Behaviour, Client, Provider, RequestRefused

_STYLE = """
body { font: 1.1rem/1.6 system-ui, sans-serif; margin: 0 auto; max-width: 45rem; padding: 1rem }
.no { background: #b00020; color: #fff; font-size: 2rem; font-weight: 700; line-height: 1.2; padding: 1rem }
button { display: block; font: inherit; margin: .5rem 0; padding: .6rem 1rem; text-align: left; width: 100% }
"""
_BANNER = (
    '<p class="no" role="note">TO NIE JEST PRAWDZIWE LOGOWANIE. To atrapa Węzła Krajowego do pokazów i testów. '
    "Nie podawaj tu żadnych danych.</p>"
)
_TROUBLE = (RequestRefused, SignXMLException, etree.LxmlError, ValueError)


def application(provider: Provider, service_providers: list[str]) -> Starlette:
    """``service_providers`` are addresses of metadata, read when they are first needed."""
    chosen: dict[str, Asked] = {}
    known: set[str] = set()

    async def know_clients() -> None:
        for address in service_providers:
            if address in known:
                continue
            async with httpx.AsyncClient(verify=False) as http:
                answer = await http.get(address)
            client = Client.of_metadata(answer.raise_for_status().content)
            provider.clients[client.entity_id] = client
            known.add(address)

    async def first(_: Request) -> Response:
        rows = "".join(
            f"<li>{escape(p['given_name'])} {escape(p['family_name'])}, {p['pesel']}{_note(p)}" for p in provider.people
        )
        return _page(f"<p>Osoby testowe, nikt z nich nie istnieje:</p><ul>{rows}</ul>")

    async def sign_on(request: Request) -> Response:
        await know_clients()
        form = await _form(request)
        try:
            asked = provider.accept(form["SAMLRequest"], form.get("RelayState", ""))
        except (*_TROUBLE, KeyError) as error:
            return _page(f"<p>Odrzucone żądanie: {escape(str(error))}</p>", 400)
        ticket = secrets.token_urlsafe()
        chosen[ticket] = asked
        levels = "".join(
            f"<option{' selected' if level == provider.behaviour.level else ''}>{level}"
            for level in LEVELS[LEVELS.index(asked.level) :]
        )
        buttons = "".join(
            f'<button name="person" value="{number}">{escape(p["given_name"])} {escape(p["family_name"])}, '
            f"PESEL {p['pesel']}{_note(p)}</button>"
            for number, p in enumerate(provider.people)
        )
        return _page(
            f'<form method="post" action="/login/choose"><input type="hidden" name="ticket" value="{ticket}">'
            f'<p><label>Poziom <select name="level">{levels}</select></label></p>'
            f'<p>Kogo udajesz?</p>{buttons}<button name="person" value="">Anuluj</button></form>'
        )

    async def choose(request: Request) -> Response:
        form = await _form(request)
        asked = chosen.pop(form.get("ticket", ""), None)
        if asked is None:
            return _page("<p>Nie ma takiego logowania.</p>", 400)
        before = provider.behaviour
        person = form.get("person", "")
        changes: dict[str, Any] = {} if person else {"status": "AuthnFailed"}
        if form.get("level"):
            changes["level"] = form["level"]
        provider.behaviour = dataclasses.replace(before, **changes)
        artifact = provider.issue(asked, provider.people[int(person or 0)])
        by_form, provider.behaviour = before.by_form, before
        fields = {"SAMLart": artifact, "RelayState": asked.relay_state}
        if not by_form:
            return RedirectResponse(f"{asked.consumer_url}?{urlencode(fields)}", 302)
        inputs = "".join(f'<input type="hidden" name="{n}" value="{escape(v)}">' for n, v in fields.items())
        return _page(f'<form method="post" action="{escape(asked.consumer_url)}">{inputs}<button>Dalej</button></form>')

    async def soap(request: Request) -> Response:
        await know_clients()
        serve = provider.log_out if request.url.path.endswith("singleLogoutService") else provider.resolve
        try:
            answer = serve(await request.body())
        except _TROUBLE as error:
            fault = (
                '<s:Envelope xmlns:s="http://schemas.xmlsoap.org/soap/envelope/"><s:Body><s:Fault><faultcode>s:Client'
                f"</faultcode><faultstring>{escape(str(error))}</faultstring></s:Fault></s:Body></s:Envelope>"
            )
            return Response(fault, 500, media_type="text/xml")
        return Response(answer, media_type="text/xml")

    async def metadata(_: Request) -> Response:
        return Response(provider.metadata(), media_type="application/samlmetadata+xml")

    async def behave(request: Request) -> Response:
        """How it answers from now on: fields of Behaviour as JSON, times as ISO 8601 durations; the others as usual."""
        provider.behaviour = msgspec.convert(await request.json(), Behaviour)
        return JSONResponse({})

    async def state(_: Request) -> Response:
        return JSONResponse({"sessions": provider.sessions, "given": provider.given})

    return Starlette(
        routes=[
            Route("/", first),
            Route("/login/SingleSignOnService", sign_on, methods=["POST"]),
            Route("/login/choose", choose, methods=["POST"]),
            Route("/login-services/idpArtifactResolutionService", soap, methods=["POST"]),
            Route("/login-services/singleLogoutService", soap, methods=["POST"]),
            Route("/metadata", metadata),
            Route("/behaviour", behave, methods=["POST"]),
            Route("/state", state),
            Route("/health", lambda _: PlainTextResponse("ok\n")),
        ]
    )


def _note(person: dict[str, str]) -> str:
    """What is said of a person besides."""
    return f"<br><small>{escape(person['note'])}</small>" if person.get("note") else ""


async def _form(request: Request) -> dict[str, str]:
    return dict(parse_qsl((await request.body()).decode()))


def _page(text: str, status: int = 200) -> HTMLResponse:
    return HTMLResponse(
        f'<!doctype html><html lang="pl"><head><meta charset="utf-8">'
        f"<title>Atrapa Węzła Krajowego</title><style>{_STYLE}</style></head><body>{_BANNER}{text}</body></html>",
        status,
    )

"""The stand-in on the network; it keeps what it took until it is stopped."""

from __future__ import annotations

import hmac
from html import escape
from typing import Any

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, Response
from starlette.routing import Route

BANNER = "TO NIE JEST PRAWDZIWA BRAMKA SMS. To atrapa do pokazów i testów: niczego nie wysyła."
_FIELDS = {"to", "text", "reference"}


def application(key: str) -> Starlette:
    """``key`` is what the bearer of a message must show; "" for none. A reference is taken once."""
    taken: dict[str, dict[str, Any]] = {}
    answers: list[int] = []  # statuses for the next messages, instead of taking them

    async def take(request: Request) -> Response:
        if not hmac.compare_digest(request.headers.get("authorization", ""), f"Bearer {key}" if key else ""):
            return JSONResponse({"error": "wrong key"}, 401)
        if answers:
            return JSONResponse({"error": "as it was told to"}, answers.pop(0))
        said = await request.json()
        if set(said) != _FIELDS or not all(isinstance(v, str) and v for v in said.values()):
            return JSONResponse({"error": "to, text and reference are expected"}, 422)
        taken.setdefault(said["reference"], said)
        return JSONResponse({"reference": said["reference"]}, 202)

    async def listed(_: Request) -> Response:
        return JSONResponse([*taken.values()])

    async def behave(request: Request) -> Response:
        answers.extend(await request.json())
        return JSONResponse(answers)

    async def page(_: Request) -> Response:
        rows = "".join(f"<li>{escape(m['to'])}: {escape(m['text'])}" for m in taken.values())
        return HTMLResponse(f"<!doctype html><meta charset=utf-8><title>Atrapa</title><h1>{BANNER}</h1><ul>{rows}</ul>")

    return Starlette(
        routes=[
            Route("/", page),
            Route("/messages", take, methods=["POST"]),
            Route("/messages", listed),
            Route("/behaviour", behave, methods=["POST"]),
        ]
    )

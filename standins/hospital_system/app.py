"""The stand-in on the network: a page with a ward, and a form that asks the region for a launch (docs/launch.md)."""

from __future__ import annotations

import json
import ssl
import time
import uuid
from html import escape
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import parse_qs

import httpx
from joserfc import jwt
from joserfc.jwk import ECKey
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import HTMLResponse, RedirectResponse, Response
from starlette.routing import Route

BANNER = (
    "TO NIE JEST PRAWDZIWY SYSTEM SZPITALA. To atrapa do pokazów i testów: nikogo tu nie leczono i nikt się nie loguje."
)
PURPOSES = (("TREAT", "Otwórz w regionie"), ("BTG", "W nagłym przypadku"))
PESEL = "2.16.840.1.113883.3.4424.1.1.616"
ACTS = "2.16.840.1.113883.5.8"  # HL7 v3 ActReason, of purposes
LOGGED_IN_S = 60  # ago, as it says of the professional
_STYLE = """
body { color-scheme: light dark; font: 1.1rem/1.6 system-ui, sans-serif; margin: 0 auto; max-width: 52rem;
  padding: 1rem }
.no { background: #b00020; color: #fff; font-size: 1.3rem; font-weight: 700; line-height: 1.3; padding: 1rem }
.said { border: 2px solid #b00020; padding: .6rem 1rem }
li { border-top: 1px solid #888; list-style: none; padding: .8rem 0 }
ul { padding: 0 }
form { display: flex; flex-wrap: wrap; gap: .6rem }
button { font: inherit; min-height: 44px; padding: .4rem 1rem }
"""


class LaunchRefused(Exception):  # noqa: N818
    """The region gives no launch; it says why."""


class System(NamedTuple):
    """The system as the region knows it."""

    region: str
    client: str
    key: bytes  # PEM
    key_id: str
    ca: str | None  # file

    async def launch(self, ward: dict[str, Any], pesel: str, purpose: str) -> str:
        """The address to open in a browser. Raises LaunchRefused."""
        trusted = ssl.create_default_context(cafile=self.ca)
        try:
            async with httpx.AsyncClient(verify=trusted, trust_env=False, timeout=15) as http:
                known = await http.get(f"{self.region}/.well-known/oauth-authorization-server")
                endpoint = known.raise_for_status().json()["token_endpoint"]
                answer = await http.post(endpoint, data=self._asked(endpoint, ward, pesel, purpose))
                said = answer.json()
        except (httpx.HTTPError, ValueError, KeyError) as error:
            raise LaunchRefused(f"Region nie odpowiada ({type(error).__name__}).") from error
        if answer.status_code != httpx.codes.OK:
            raise LaunchRefused(f"Region odmawia: {said.get('error')}: {said.get('error_description', '')}")
        return str(said["launch_uri"])

    def _asked(self, endpoint: str, ward: dict[str, Any], pesel: str, purpose: str) -> dict[str, str]:
        root, _, extension = ward["organisation"].partition("#")
        said = {
            "subject_organization_id": f"urn:oid:{root}/{extension}",
            "subject_role": [{"code": ward["role"]}],
            "purpose_of_use": [{"system": f"urn:oid:{ACTS}", "code": purpose}],
            "person_id": f"{pesel}^^^&{PESEL}&ISO",
        }
        proved_at = int(time.time()) - LOGGED_IN_S
        subject = self._signed(endpoint, sub=ward["person"], auth_time=proved_at, extensions={"ihe_iua": said})
        return {
            "grant_type": "urn:ietf:params:oauth:grant-type:token-exchange",
            "requested_token_type": "urn:obieg:token-type:launch",
            "subject_token_type": "urn:ietf:params:oauth:token-type:jwt",
            "subject_token": subject,
            "client_assertion_type": "urn:ietf:params:oauth:client-assertion-type:jwt-bearer",
            "client_assertion": self._signed(endpoint, sub=self.client),
        }

    def _signed(self, endpoint: str, **claims: Any) -> str:
        now = int(time.time())
        common = {"iss": self.client, "aud": endpoint, "iat": now, "exp": now + 60, "jti": str(uuid.uuid4())}
        return jwt.encode({"alg": "ES256", "kid": self.key_id}, {**common, **claims}, ECKey.import_key(self.key))


def application(system: System, ward: Path) -> Starlette:
    """``ward`` says where this is, who works there and who its patients are."""

    def read() -> dict[str, Any] | None:
        found: dict[str, Any] | None = json.loads(ward.read_text("utf-8")) if ward.exists() else None
        return found

    async def page(_: Request) -> Response:
        told = read()
        return _page(told) if told is not None else HTMLResponse("Oddział jeszcze pusty.", 503)

    async def launch(request: Request) -> Response:
        if request.headers.get("sec-fetch-site", "same-origin") != "same-origin":
            return HTMLResponse("Formularz nie pochodzi z tej strony.", 403)
        told, form = read(), parse_qs((await request.body()).decode("ascii", "replace"))
        pesel, purpose = (form.get(name, [""])[0] for name in ("pesel", "purpose"))
        if told is None or pesel not in {one["pesel"] for one in told["patients"]} or purpose not in dict(PURPOSES):
            return HTMLResponse("Nie ma tu takiego pacjenta.", 404)
        try:
            return RedirectResponse(await system.launch(told, pesel, purpose), 303)
        except LaunchRefused as refused:
            return _page(told, str(refused), 502)

    return Starlette(routes=[Route("/", page), Route("/launch", launch, methods=["POST"])])


def _page(ward: dict[str, Any], trouble: str = "", status: int = 200) -> HTMLResponse:
    buttons = "".join(f'<button name="purpose" value="{code}">{text}</button>' for code, text in PURPOSES)
    rows = "".join(
        f"<li><strong>{escape(one['name'])}</strong>, ur. {escape(one['born'])}, PESEL {escape(one['pesel'])}"
        f"<br>{escape(one['note'])}"
        f'<form method="post" action="/launch"><input type="hidden" name="pesel" value="{escape(one["pesel"])}">'
        f"{buttons}</form>"
        for one in ward["patients"]
    )
    said = f'<p class="said" role="alert">{escape(trouble)}</p>' if trouble else ""
    return HTMLResponse(
        '<!doctype html><html lang="pl"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width">'
        f"<title>System szpitala (atrapa)</title><style>{_STYLE}</style></head><body>"
        f'<p class="no" role="note">{BANNER}</p>{said}<h1>{escape(ward["hospital"])}</h1>'
        f"<p>Pracuje: {escape(ward['name'])}. Dokumentacja w regionie otwiera się bez ponownego logowania.</p>"
        f"<h2>Pacjenci</h2><ul>{rows}</ul></body></html>",
        status,
    )

"""A laboratory node whose FHIR service wants tokens: ``python -m oauth_node serve --settings FILE --ready-file FILE``.

It trusts what ``trust.json`` in its data folder lists. Who is logged in stands in the cookie ``who``: doctor, nurse or
``patient.`` and a logical id; the certificate of the connection, in Base64, in the header ``x-certificate``. When they logged in stands in the cookie
``since``, in seconds since 1970; without it they did when the node was started.
"""

from __future__ import annotations

import time
from base64 import b64decode
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any
from urllib.parse import quote, urlsplit

from changed_node import main

from obieg.actors.authentication import LaboratoryAuthentication
from obieg.domain.requester import Requester
from obieg.edges import asgi, authorization
from obieg.ops import wiring
from obieg.ops.authorizing import Authorization
from obieg.ops.settings import Settings
from obieg.protocol import Credentials

_credentials = asgi.credentials
STARTED = time.time()


def credentials(scope: Any, base: str) -> Credentials:
    shown = _credentials(scope, base)
    certificate = dict(scope["headers"]).get(b"x-certificate")
    return replace(shown, certificate=b64decode(certificate) if certificate else None)


class Sessions:
    authority = ""

    async def current(self, cookie: str) -> Requester | None:
        given = dict(part.strip().partition("=")[::2] for part in cookie.split(";"))
        who = given.get("who", "")
        name, _, logical = who.partition(".")
        since = datetime.fromtimestamp(float(given.get("since", STARTED)), UTC)
        if name == "patient":
            return Requester(
                system="pages",
                person="2.16.840.1.113883.3.4424.1.1.616#44051401359",
                person_name="Jan <b>Nowak</b>",
                role="patient",
                patient=f"{self.authority}#{logical}",
                proof="session",
                token=who,
                logged_in_at=since,
            )
        if name in ("doctor", "nurse"):
            number = {"doctor": "2.16.840.1.113883.3.4424.1.6.2#1234567", "nurse": "2.16.840.1.113883.3.4424.1.6.3#7"}
            return Requester(
                system="pages",
                person=number[name],
                person_name="Zofia Żółć",
                role=name,
                organisation="2.16.840.1.113883.3.4424.2.3.1#000000001",
                purpose_of_use="TREAT",
                proof="session",
                token=who,
                logged_in_at=since,
            )
        return None

    async def stands(self, person: Requester) -> bool:
        """Until the moment that the cookie names behind the name."""
        _, mark, until = person.token.partition(".until")
        return not mark or time.time() < float(until)

    def login_address(self, then: str, again: Requester | None = None) -> str:
        return f"/login?next={quote(then, safe='')}{'&again=' if again is not None else ''}"


class Authenticator:
    """Tokens over FHIR; elsewhere the laboratory."""

    def __init__(self, authorization: Authorization) -> None:
        self._bearer = authorization.server.bearer
        self._laboratory = LaboratoryAuthentication()

    async def authenticate(self, credentials: Credentials) -> Requester:
        if not urlsplit(credentials.target).path.startswith("/fhir"):
            return await self._laboratory.authenticate(credentials)
        return await self._bearer.verify(credentials)


def build(settings: Settings) -> wiring.Node:
    Sessions.authority = settings.identity.assigning_authority
    authorization.credentials = asgi.credentials = credentials
    wiring.sessions = lambda _parts: Sessions()
    wiring.authenticator = lambda _parts, _trust, server: Authenticator(server)
    return wiring.build(settings)


if __name__ == "__main__":
    main("oauth_node:build")

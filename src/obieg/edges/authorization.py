"""The authorization server's addresses: an ASGI application (ITI-71, ITI-102, ITI-103; RFC 6749, 7009, 7662, 8414).

The person's pages are plain HTML without scripts; a form's answer names what was asked by an identifier that only the
person's own session was told, so that no other page can answer for them. Until app and address are known to belong
together nothing is sent to the address. Answers to programs are JSON; parameters that stand twice are refused.
"""

from __future__ import annotations

import hashlib
from base64 import b64encode
from collections.abc import Awaitable, Callable, Mapping, Sequence
from html import escape
from typing import Any, Protocol
from urllib.parse import parse_qsl, quote, urlsplit

import orjson
import structlog

from obieg.codes.load import toml
from obieg.domain.authorization import AuthorizationRequest, ClientProof, Consent, OAuthRefused
from obieg.domain.problems import NotSealed, RetryLater
from obieg.domain.requester import Requester
from obieg.domain.scopes import read_scope
from obieg.domain.trust import OAuthClient
from obieg.edges.asgi import (
    Disconnected,
    Receive,
    Scope,
    Send,
    TooLarge,
    credentials,
    is_from_here,
    receive_whole,
    send_whole,
)
from obieg.protocol import Sessions

PREFIX = "/auth"
METADATA = ("/.well-known/oauth-authorization-server", "/.well-known/openid-configuration")
SMART = "/fhir/.well-known/smart-configuration"
_BODY_BYTES_MAX = 64 * 1024
_PARAMETERS_MAX = 50
_TEXTS = toml("authorization_texts.toml")
_STYLE = (
    "body{font:1.1rem/1.6 system-ui,sans-serif;margin:0 auto;max-width:40rem;padding:1rem;color-scheme:light dark}"
    "button{font:inherit;padding:.6rem 1.4rem;margin:1rem 1rem 0 0}input{font:inherit;width:100%;box-sizing:border-box}"
    ".fault{border-left:.3rem solid #b00020;padding-left:.8rem}"
)
_STYLE_HASH = b64encode(hashlib.sha256(_STYLE.encode()).digest()).decode("ascii")
_COMMON = [
    (b"cache-control", b"no-store"),
    (b"pragma", b"no-cache"),
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"no-referrer"),
]
# What a refusal is audited as.
_TRANSACTIONS = {f"{PREFIX}/token": "ITI-71", f"{PREFIX}/introspect": "ITI-102", f"{PREFIX}/revoke": "RFC 7009"}
_UNSEALED = "the audit of this node is not sealed; until it is, nobody is let in"
# What a public document of this server may be kept for, in seconds.
_KEPT_S = 300

log = structlog.get_logger()


class AuthorizationService(Protocol):
    """The authorization server behind these addresses."""

    issuer: str

    def metadata(self) -> dict[str, Any]:
        """RFC 8414."""

    def smart_configuration(self) -> dict[str, Any]:
        """SMART App Launch."""

    async def jwks(self) -> dict[str, Any]:
        """RFC 7517, section 5."""

    def check_client(self, client_id: str, redirect_uri: str) -> OAuthClient:
        """App and address belong together; raises OAuthRefused."""

    def check_request(self, given: dict[str, str], client: OAuthClient) -> AuthorizationRequest:
        """Raises OAuthRefused."""

    def log_in_first(self, given: Mapping[str, str], person: Requester | None) -> Mapping[str, str] | None:
        """What the person comes back with after logging in; None where they need not. Raises OAuthRefused."""

    async def ask(self, request: AuthorizationRequest, person: Requester) -> Consent:
        """What the person must answer; raises OAuthRefused."""

    async def allow(self, identifier: str, person: Requester, *, patient: str = "") -> str | Consent:
        """Where to send the person, or what to ask again; raises OAuthRefused."""

    async def deny(self, identifier: str, person: Requester) -> str:
        """Where to send the person; raises OAuthRefused."""

    def answer_address(self, redirect_uri: str, state: str, **said: str) -> str:
        """The app's address with an answer."""

    async def launch_address(self, client_id: str, patient: str, person: Requester) -> str:
        """Where an app starts with a patient; raises OAuthRefused."""

    async def record_refusal(self, transaction: str, refused: OAuthRefused, proof: ClientProof) -> None:
        """Audits what was refused."""

    async def token(self, given: dict[str, str], proof: ClientProof) -> dict[str, Any]:
        """Raises OAuthRefused."""

    async def introspect(self, given: dict[str, str], proof: ClientProof) -> dict[str, Any]:
        """Raises OAuthRefused."""

    async def revoke(self, given: dict[str, str], proof: ClientProof) -> None:
        """Raises OAuthRefused."""


class AuthorizationEdge:
    """Serves :data:`PREFIX`, :data:`METADATA` and :data:`SMART`."""

    def __init__(
        self,
        service: AuthorizationService,
        sessions: Sessions,
        *,
        base: str,
        expect_sealed: Callable[[], Awaitable[None]],
    ) -> None:
        """``base``: address of the node as callers know it.

        ``expect_sealed`` raises NotSealed where nobody may be let in (``actors/sealing_gate``).
        """
        self._expect_sealed = expect_sealed
        self._service = service
        self._sessions = sessions
        self._base = base
        self._pages: dict[tuple[str, str], Callable[[Scope, Receive], Any]] = {
            ("GET", "/authorize"): self._authorize,
            ("POST", "/authorize"): self._authorize,
            ("POST", "/consent"): self._answered,
            ("GET", "/launch"): self._launch,
        }
        self._answers: dict[tuple[str, str], Callable[[Scope, Receive], Any]] = {
            ("POST", "/token"): self._token,
            ("POST", "/introspect"): self._introspect,
            ("POST", "/revoke"): self._revoke,
        }

    def serves(self, path: str) -> bool:
        """Whether this is one of its addresses."""
        return path in METADATA or path == SMART or f"{path}/".startswith(f"{PREFIX}/")

    def is_for_programs(self, path: str) -> bool:
        """Whether it is one of those that programs ask, in browsers from pages of other sites, too."""
        return (
            path in METADATA
            or path in (SMART, f"{PREFIX}/jwks")
            or ("POST", path.removeprefix(PREFIX)) in self._answers
        )

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """ASGI."""
        path = str(scope["path"])
        method = "GET" if scope["method"] == "HEAD" else str(scope["method"])
        if path in METADATA or path in (SMART, f"{PREFIX}/jwks"):
            await self._document(path, method, send)
            return
        asked = method, path.removeprefix(PREFIX)
        if (page := self._pages.get(asked)) is not None:
            await self._page(page, scope, receive, send)
        elif (answer := self._answers.get(asked)) is not None:
            await self._program(answer, scope, receive, send)
        else:
            allowed = sorted({m for m, p in (*self._pages, *self._answers) if p == asked[1]})
            headers = [(b"allow", ", ".join(allowed).encode())] if allowed else []
            await send_whole(send, 405 if allowed else 404, [*_COMMON, *headers], b"")

    # public documents -------------------------------------------------------------------------------------------

    async def _document(self, path: str, method: str, send: Send) -> None:
        if method != "GET":
            await send_whole(send, 405, [*_COMMON, (b"allow", b"GET")], b"")
            return
        try:
            if path == SMART:
                content = self._service.smart_configuration()
            elif path in METADATA:
                content = self._service.metadata()
            else:
                content = await self._service.jwks()
        except RetryLater as error:
            log.warning("the keys could not be read", error=str(error))
            await _send_json(send, 503, {"error": "temporarily_unavailable"})
            return
        kept = [(b"cache-control", b"max-age=%d" % _KEPT_S), (b"x-content-type-options", b"nosniff")]
        await send_whole(send, 200, [*kept, (b"content-type", b"application/json")], orjson.dumps(content))

    # the client's side ------------------------------------------------------------------------------------------

    async def _program(
        self, answer: Callable[[Scope, Receive], Any], scope: Scope, receive: Receive, send: Send
    ) -> None:
        try:
            await _send_json(send, 200, await answer(scope, receive))
        except OAuthRefused as refused:
            await self._service.record_refusal(_TRANSACTIONS[scope["path"]], refused, self._asking(scope))
            status = 401 if refused.error == "invalid_client" else 400
            said = {"error": refused.error, "error_description": refused.description}
            # RFC 6749, section 5.2: a client that tried a scheme of HTTP is told one.
            headers = [(b"www-authenticate", b'Bearer realm="obieg"')] if status == 401 else []
            await _send_json(send, status, said, headers)
        except RetryLater as error:
            log.warning("a token could not be served now", error=str(error))
            said = {"error": "temporarily_unavailable"}
            if isinstance(error, NotSealed):
                said["error_description"] = _UNSEALED
            await _send_json(send, 503, said, [(b"retry-after", b"5")])
        except Exception:
            log.exception("the authorization server failed")
            await _send_json(send, 500, {"error": "server_error"})

    async def _token(self, scope: Scope, receive: Receive) -> dict[str, Any]:
        await self._expect_sealed()
        given = await _form(scope, receive)
        return await self._service.token(given, self._proof(scope, given))

    async def _introspect(self, scope: Scope, receive: Receive) -> dict[str, Any]:
        await self._expect_sealed()
        given = await _form(scope, receive)
        return await self._service.introspect(given, self._proof(scope, given))

    async def _revoke(self, scope: Scope, receive: Receive) -> dict[str, Any]:
        given = await _form(scope, receive)
        await self._service.revoke(given, self._proof(scope, given))
        return {}

    def _asking(self, scope: Scope, client_id: str = "") -> ClientProof:
        """Who is refused, of whom little may be known."""
        return ClientProof(client_id=client_id, address=credentials(scope, self._base).address)

    def _proof(self, scope: Scope, given: Mapping[str, str]) -> ClientProof:
        shown = credentials(scope, self._base)
        return ClientProof(
            client_id=given.get("client_id", ""),
            assertion_type=given.get("client_assertion_type", ""),
            assertion=given.get("client_assertion", ""),
            other=bool(shown.authorization) or "client_secret" in given,
            certificate=shown.certificate,
            dpop=shown.dpop,
            address=shown.address,
        )

    # the person's side ------------------------------------------------------------------------------------------

    async def _page(self, page: Callable[[Scope, Receive], Any], scope: Scope, receive: Receive, send: Send) -> None:
        language = _language(scope)
        try:
            status, address, body, app = await page(scope, receive)
        except OAuthRefused as refused:
            await self._service.record_refusal("ITI-71", refused, self._asking(scope))
            status, address, body, app = 400, "", _error_page(language, refused.description), ""
        except RetryLater as error:
            log.warning("a page could not be shown now", error=str(error))
            status, address, app = 503, "", ""
            body = _error_page(language, "", "unsealed" if isinstance(error, NotSealed) else "error")
        except Exception:
            log.exception("the authorization server failed")
            status, address, body, app = 500, "", _error_page(language, ""), ""
        if address:
            await send_whole(send, status, [*_COMMON, (b"location", address.encode("ascii"))], b"")
            return
        await send_whole(send, status, _page_headers(app), body.encode())

    async def _authorize(self, scope: Scope, receive: Receive) -> tuple[int, str, str, str]:
        # Pages of apps send people here, by POST, too: this only asks, and the answer comes from a page of ours.
        given = _query(scope) if scope["method"] != "POST" else await _form(scope, receive)
        client = self._service.check_client(given.get("client_id", ""), given.get("redirect_uri", ""))
        redirect_uri, state = given["redirect_uri"], given.get("state", "")
        try:
            await self._expect_sealed()
            request = self._service.check_request(given, client)
            person = await self._sessions.current(credentials(scope, self._base).cookie)
            back = self._service.log_in_first(given, person)
            if back is not None or person is None:
                here = "&".join(f"{quote(n, safe='')}={quote(v, safe='')}" for n, v in (back or given).items())
                return 303, self._sessions.login_address(f"{PREFIX}/authorize?{here}", person), "", ""
            if given.get("prompt", "") == "none":
                raise OAuthRefused("consent_required", "the person must be asked")
            consent = await self._service.ask(request, person)
        except NotSealed:
            address = self._service.answer_address(
                redirect_uri, state, error="temporarily_unavailable", error_description=_UNSEALED
            )
            return 303, address, "", ""
        except OAuthRefused as refused:
            await self._service.record_refusal("ITI-71", refused, self._asking(scope, client.client_id))
            address = self._service.answer_address(
                redirect_uri, state, error=refused.error, error_description=refused.description
            )
            return 303, address, "", ""
        language = _language(scope, given.get("ui_locales", ""))
        return 200, "", _consent_page(language, consent), consent.redirect_uri

    async def _answered(self, scope: Scope, receive: Receive) -> tuple[int, str, str, str]:
        if not is_from_here(scope, self._base):
            raise OAuthRefused("invalid_request", "a page of another site may not answer")
        given = await _form(scope, receive)
        if given.get("answer", "") == "allow":
            await self._expect_sealed()
        person = await self._person(scope)
        identifier = given.get("question", "")
        if given.get("answer", "") != "allow":
            return 303, await self._service.deny(identifier, person), "", ""
        found = await self._service.allow(identifier, person, patient=given.get("patient", ""))
        if isinstance(found, Consent):
            return 200, "", _consent_page(_language(scope, given.get("language", "")), found), found.redirect_uri
        return 303, found, "", ""

    async def _launch(self, scope: Scope, _receive: Receive) -> tuple[int, str, str, str]:
        """A link on a page of this node opens an app with a patient."""
        await self._expect_sealed()
        given = _query(scope)
        person = await self._person(scope)
        address = await self._service.launch_address(given.get("client_id", ""), given.get("patient", ""), person)
        return 303, address, "", ""

    async def _person(self, scope: Scope) -> Requester:
        person = await self._sessions.current(credentials(scope, self._base).cookie)
        if person is None:
            raise OAuthRefused("login_required", "nobody is logged in")
        return person


# parameters ------------------------------------------------------------------------------------------------------


def _query(scope: Scope) -> dict[str, str]:
    return _parameters(bytes(scope["query_string"]))


async def _form(scope: Scope, receive: Receive) -> dict[str, str]:
    headers = dict(scope["headers"])
    media = headers.get(b"content-type", b"").split(b";")[0].strip().lower()
    if media != b"application/x-www-form-urlencoded":
        raise OAuthRefused("invalid_request", "the request is a form: application/x-www-form-urlencoded")
    if scope["query_string"]:
        raise OAuthRefused("invalid_request", "parameters stand in the body, not in the address")
    try:
        return _parameters(await receive_whole(receive, _BODY_BYTES_MAX))
    except TooLarge:
        raise OAuthRefused("invalid_request", f"the form exceeds {_BODY_BYTES_MAX} bytes") from None
    except Disconnected:
        raise OAuthRefused("invalid_request", "the connection ended within the request") from None


def _parameters(data: bytes) -> dict[str, str]:
    """Each stands once (RFC 6749, section 3.1); empty ones are absent."""
    try:
        pairs = parse_qsl(data.decode("ascii"), keep_blank_values=True, errors="strict", max_num_fields=_PARAMETERS_MAX)
    except ValueError:
        raise OAuthRefused("invalid_request", "the parameters are not UTF-8 in percent-encoding, or too many") from None
    found = dict(pairs)
    if len(found) != len(pairs):
        raise OAuthRefused("invalid_request", "a parameter stands twice")
    if any("\0" in text for pair in pairs for text in pair):
        raise OAuthRefused("invalid_request", "a parameter has a character that no text may have")
    return {name: value for name, value in found.items() if value}


# pages -----------------------------------------------------------------------------------------------------------


def _language(scope: Scope, wanted: str = "") -> str:
    """The best of the page's languages: as the app asks, then as the browser does (RFC 9110, section 12.5.4)."""
    accept = dict(scope["headers"]).get(b"accept-language", b"").decode("latin-1")
    named = [*wanted.split(" "), *(item.partition(";")[0].strip() for item in accept.split(","))]
    return next((tag[:2].lower() for tag in named if tag[:2].lower() in _TEXTS), "pl")


def _consent_page(language: str, consent: Consent) -> str:
    texts = _TEXTS[language]
    parts = urlsplit(consent.redirect_uri)
    address = f"{parts.scheme}://{parts.netloc}" if parts.netloc else consent.redirect_uri
    lines = [
        f"<p>{_said(texts['asks'], app=consent.client_name)} {_said(texts['as_person'], person=consent.person_name)}",
        f"<p>{escape(texts['wants'])}<ul>",
        *(f"<li>{escape(line)}" for line in _wishes(texts, consent.scopes)),
        "</ul>",
    ]
    if consent.patient:
        lines.append(f"<p>{_said(texts['about'], patient=consent.patient)}")
    if "offline_access" not in consent.scopes:  # which says itself for how long
        lines.append(f"<p>{_said(texts['holds'], minutes=str(consent.minutes))}")
    fault = f'<p class="fault" role="alert">{escape(texts["unknown_patient"])}' if consent.unknown_patient else ""
    field = (
        f'<p><label for="patient">{escape(texts["patient"])}</label>'
        '<input id="patient" name="patient" required autocomplete="off" maxlength="64">'
        if consent.asks_patient
        else ""
    )
    form = (
        f'<form method="post" action="{PREFIX}/consent">{fault}{field}'
        f'<input type="hidden" name="question" value="{escape(consent.identifier)}">'
        f'<input type="hidden" name="language" value="{language}">'
        f"<p>{_said(texts['returns'], address=address)}"
        f'<p><button name="answer" value="allow">{escape(texts["allow"])}</button>'
        f'<button name="answer" value="deny" formnovalidate>{escape(texts["deny"])}</button></form>'
    )
    return _html(language, texts["title"], "".join(lines) + form)


def _error_page(language: str, description: str, what: str = "error") -> str:
    """``what`` happened: error, unsealed."""
    texts = _TEXTS[language]
    detail = f'<p class="fault" lang="en">{escape(description)}' if description else ""
    return _html(language, texts[what], f"<p>{escape(texts[f'{what}_means'])}{detail}")


def _html(language: str, title: str, body: str) -> str:
    return (
        f'<!doctype html><html lang="{language}"><head><meta charset="utf-8">'
        f'<meta name="viewport" content="width=device-width"><title>{escape(title)}</title><style>{_STYLE}</style>'
        f"</head><body><main><h1>{escape(title)}</h1>{body}</main></body></html>"
    )


def _said(text: str, **values: str) -> str:
    return escape(text).format(**{name: f"<strong>{escape(value)}</strong>" for name, value in values.items()})


def _wishes(texts: Mapping[str, Any], scopes: Sequence[str]) -> list[str]:
    """What the scopes mean, for people."""
    lines = []
    for text in scopes:
        scope = read_scope(text)
        if scope is None:
            lines.append(texts["other"].get(text, text))
        else:
            verbs = ", ".join(texts["letter"][letter] for letter in scope.letters)
            what = texts["all"] if scope.resource == "*" else scope.resource
            lines.append(f"{verbs}: {what} {texts['context'][scope.context]}")
    return lines


def _page_headers(redirect_uri: str) -> list[tuple[bytes, bytes]]:
    """No script, no frame; a form goes here and, by redirection, to the app (CSP Level 3, section 6.4.2)."""
    parts = urlsplit(redirect_uri)
    source = f"{parts.scheme}://{parts.netloc}" if parts.scheme in ("http", "https") else f"{parts.scheme}:"
    app = f" {source}" if redirect_uri else ""
    policy = (
        f"default-src 'none'; style-src 'sha256-{_STYLE_HASH}'; form-action 'self'{app}; frame-ancestors 'none'; "
        "base-uri 'none'"
    )
    return [
        *_COMMON,
        (b"content-type", b"text/html; charset=utf-8"),
        (b"content-security-policy", policy.encode("ascii")),
        (b"x-frame-options", b"DENY"),
    ]


async def _send_json(
    send: Send, status: int, content: Mapping[str, Any], headers: Sequence[tuple[bytes, bytes]] = ()
) -> None:
    await send_whole(
        send, status, [*_COMMON, (b"content-type", b"application/json"), *headers], orjson.dumps(dict(content))
    )

"""Pages by which patients log in through an identity provider: ``/login/wk`` and what is below it.

The browser carries a signed request there in a form that sends itself (a button does where there is no script) and
brings back an artifact. The pages load nothing but the one script, and no other page may frame them.
"""

from __future__ import annotations

import re
import secrets
from base64 import b64encode
from collections.abc import Awaitable, Callable, Sequence
from html import escape
from http.cookies import CookieError, SimpleCookie
from urllib.parse import parse_qsl, urlsplit

import structlog

from obieg.codes.load import toml
from obieg.domain.problems import NotSealed, Problem, RetryLater
from obieg.edges.asgi import Disconnected, Receive, Scope, Send, TooLarge, is_from_here, receive_whole, send_whole
from obieg.protocol import LoginAttempt, PatientLogin

PREFIX = "/login/wk"
_COOKIES = {True: "__Secure-obieg-wk", False: "obieg-wk"}  # over TLS, and in a laboratory
_FORM_BYTES_MAX = 16 * 1024
_FIELDS_MAX = 10
# A path of this node: no other host, no control characters, nothing that a browser reads as another address.
_PATH = re.compile(r"/(?![/\\])[A-Za-z0-9._~!$&'()*+,;=:@%/?-]{0,4096}", re.ASCII)
_HTML = "text/html; charset=utf-8"
_SCRIPT = b'document.getElementById("go").submit();\n'
_ALWAYS = (
    (b"cache-control", b"no-store"),
    (b"referrer-policy", b"no-referrer"),
    (b"x-content-type-options", b"nosniff"),
    (b"x-frame-options", b"DENY"),
)
_UNSEALED = "".join(
    f'<p lang="{language}">{escape(texts["unsealed_means"])}</p>'
    for language, texts in toml("authorization_texts.toml").items()
)
Headers = Sequence[tuple[bytes, bytes]]

log = structlog.get_logger()


class PatientLoginEdge:
    """ASGI application of everything below :data:`PREFIX`."""

    def __init__(
        self,
        login: PatientLogin,
        *,
        public_url: str,
        new_request_id: Callable[[], str],
        expect_sealed: Callable[[], Awaitable[None]],
    ) -> None:
        """``expect_sealed`` raises NotSealed where nobody may be let in (``actors/sealing_gate``)."""
        self._expect_sealed = expect_sealed
        self._login = login
        self._new_request_id = new_request_id
        self._base = public_url
        self._secure = public_url.startswith("https://")
        self._routes: dict[tuple[str, str], Callable[[Scope, Receive, Send, str], Awaitable[None]]] = {
            ("GET", ""): self._begin,
            ("GET", "/acs"): self._finish,
            ("POST", "/acs"): self._finish,
            ("POST", "/logout"): self._logout,
            ("GET", "/metadata"): self._metadata,
            ("GET", "/go.js"): self._script,
        }

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answers one request."""
        request_id = self._new_request_id()
        path = scope["path"].removeprefix(PREFIX)
        route = self._routes.get((scope["method"], path))
        if route is None:
            known = [method for method, other in self._routes if other == path]
            more = [(b"allow", ", ".join(known).encode())] if known else []
            await _page(send, 405 if known else 404, "Nie ma takiej strony", "", more)
            return
        try:
            await route(scope, receive, send, request_id)
        except Disconnected:
            return
        except TooLarge:
            await _page(send, 413, "Zbyt długie zapytanie", "")
        except Problem:
            text = (
                "<p>Nikt nie został zalogowany. Spróbuj jeszcze raz w tej samej przeglądarce, w ciągu dziesięciu "
                f'minut.</p><p><a href="{PREFIX}">Zaloguj się przez login.gov.pl</a></p>'
                f"<p>Numer zgłoszenia: <code>{escape(request_id)}</code></p>"
            )
            await _page(send, 403, "Logowanie nie powiodło się", text, [self._forget()])
        except NotSealed as error:
            log.warning("a log-in was not possible now", request_id=request_id, error=str(error))
            await _page(send, 503, "Logowanie nie jest teraz możliwe", _UNSEALED)
        except RetryLater as error:
            log.warning("a log-in was not possible now", request_id=request_id, error=str(error))
            text = f"<p>Spróbuj za kilka minut. Numer zgłoszenia: <code>{escape(request_id)}</code></p>"
            await _page(send, 503, "Logowanie nie jest teraz możliwe", text)

    async def _begin(self, scope: Scope, _receive: Receive, send: Send, _request_id: str) -> None:
        await self._expect_sealed()
        wanted = dict(_fields(scope["query_string"])).get("return", "/")
        begun = await self._login.begin(wanted if _PATH.fullmatch(wanted) else "/")
        there = "{0.scheme}://{0.netloc}".format(urlsplit(begun.address))
        nonce = secrets.token_urlsafe(16)
        text = (
            f'<form id="go" method="post" action="{escape(begun.address)}">'
            f'<input type="hidden" name="SAMLRequest" value="{b64encode(begun.request).decode()}">'
            f'<input type="hidden" name="RelayState" value="{escape(begun.relay_state)}">'
            '<p>Za chwilę przejdziesz na stronę login.gov.pl.</p><p><button type="submit">Przejdź teraz</button></p>'
            f'</form><script src="{PREFIX}/go.js" nonce="{nonce}"></script>'
        )
        cookie = self._cookie(begun.secret, begun.seconds)
        scripts = f"'nonce-{nonce}'"
        await _page(send, 200, "Logowanie przez login.gov.pl", text, [cookie], forms=f"{there} 'self'", scripts=scripts)

    async def _finish(self, scope: Scope, receive: Receive, send: Send, request_id: str) -> None:
        await self._expect_sealed()
        given = scope["query_string"]
        if scope["method"] == "POST":
            given = await receive_whole(receive, _FORM_BYTES_MAX)
        fields = _fields(given)
        found = {name: [v for n, v in fields if n == name] for name in ("SAMLart", "RelayState")}
        client = scope.get("client")
        attempt = LoginAttempt(
            artifact=found["SAMLart"][0] if len(found["SAMLart"]) == 1 else "",
            relay_state=found["RelayState"][0] if len(found["RelayState"]) == 1 else "",
            browser=_cookie_of(scope, _COOKIES[self._secure]),
            address=client[0] if client else "",
            agent="".join(c for c in _header(scope, b"user-agent") if c.isprintable()),
            request_id=request_id,
        )
        cookie, return_to = await self._login.finish(attempt)
        # A page of our own, not a redirection: cookies that go only with requests of this site go with the next one.
        text = f'<p><a id="on" href="{escape(return_to)}">Dalej</a></p>'
        refresh = (b"refresh", f"0; url={return_to}".encode())
        await _page(send, 200, "Zalogowano", text, [(b"set-cookie", cookie.encode()), self._forget(), refresh])

    async def _logout(self, scope: Scope, _receive: Receive, send: Send, request_id: str) -> None:
        if not is_from_here(scope, self._base):
            await _page(send, 403, "Wylogować można się tylko na naszej stronie", "")
            return
        client = scope.get("client")
        attempt = LoginAttempt(address=client[0] if client else "", request_id=request_id)
        forgotten = await self._login.end(attempt, _header(scope, b"cookie"))
        cleared = [(b"set-cookie", forgotten.encode()), (b"clear-site-data", b'"cache", "storage"')]
        await _page(send, 200, "Wylogowano", "", cleared)

    async def _metadata(self, _scope: Scope, _receive: Receive, send: Send, _request_id: str) -> None:
        await send_whole(
            send,
            200,
            [(b"content-type", b"application/samlmetadata+xml; charset=utf-8"), *_ALWAYS],
            self._login.metadata(),
        )

    async def _script(self, _scope: Scope, _receive: Receive, send: Send, _request_id: str) -> None:
        await send_whole(send, 200, [(b"content-type", b"text/javascript; charset=utf-8"), *_ALWAYS], _SCRIPT)

    def _cookie(self, secret: str, seconds: int) -> tuple[bytes, bytes]:
        # The identity provider may bring the artifact by a form of its own page: such requests take along only cookies
        # that say None, which browsers accept over TLS alone.
        same_site = "None; Secure" if self._secure else "Lax"
        name = _COOKIES[self._secure]
        value = f"{name}={secret}; Path={PREFIX}; Max-Age={seconds}; HttpOnly; SameSite={same_site}"
        return b"set-cookie", value.encode()

    def _forget(self) -> tuple[bytes, bytes]:
        return self._cookie("", 0)


def _fields(data: bytes) -> list[tuple[str, str]]:
    try:
        return parse_qsl(data.decode("ascii"), max_num_fields=_FIELDS_MAX, encoding="utf-8", errors="strict")
    except ValueError:
        return []


def _header(scope: Scope, name: bytes) -> str:
    return next((value.decode("latin-1") for found, value in scope["headers"] if found == name), "")


def _cookie_of(scope: Scope, name: str) -> str:
    try:
        found = SimpleCookie(_header(scope, b"cookie")).get(name)
    except CookieError:
        return ""
    return found.value if found else ""


async def _page(
    send: Send,
    status: int,
    title: str,
    text: str,
    headers: Headers = (),
    *,
    forms: str = "'none'",
    scripts: str = "'none'",
) -> None:
    policy = f"default-src 'none'; script-src {scripts}; form-action {forms}; base-uri 'none'; frame-ancestors 'none'"
    body = (
        '<!doctype html><html lang="pl"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width">'
        f"<title>{escape(title)}</title></head><body><main><h1>{escape(title)}</h1>{text}</main></body></html>"
    )
    always = [(b"content-type", _HTML.encode()), (b"content-security-policy", policy.encode()), *_ALWAYS]
    await send_whole(send, status, [*always, *headers], body.encode())

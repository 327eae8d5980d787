"""What pages share: the look, three languages, headers, forms that only our own pages can send.

Texts stand in ``texts/<language>/*.toml``, the same keys in each language and each key in one file; templates in
``templates/``, styles, scripts and font in ``static/`` (Atkinson Hyperlegible Next, OFL; Lucide icons, ISC; htmx, 0BSD;
their licences stand beside them).

A form is taken when it comes from a page of ours (``domain/own_pages``) and carries the token that is made of the
browser's cookie; cookies are ``SameSite=Lax``. There is neither inline script nor inline style.
"""

from __future__ import annotations

import hmac
import re
import secrets
import tomllib
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from datetime import date, datetime
from functools import cache
from importlib.resources import files
from ipaddress import ip_address
from typing import Any, NamedTuple
from urllib.parse import parse_qsl, quote, urlencode, urlsplit

import structlog
from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup, escape
from starlette.requests import ClientDisconnect, Request
from starlette.responses import HTMLResponse, RedirectResponse, Response, StreamingResponse
from starlette.routing import Mount, Route
from starlette.staticfiles import StaticFiles

from obieg.actors.people import Site, Visit, cookie_value
from obieg.domain.operating import Notice
from obieg.domain.own_pages import is_own_page
from obieg.domain.problems import NotSealed, RetryLater
from obieg.domain.zone import WARSAW
from obieg.edges.upload import MEDIA_TYPE, UploadForm

LANGUAGES = {"pl": ("PL", "polski"), "en": ("EN", "English"), "uk": ("UA", "українська")}
_FORM_BYTES_MAX = 128 * 1024
_FIELDS_MAX = 40
_LANGUAGE_COOKIES = {True: "__Host-obieg-language", False: "obieg-language"}  # over TLS, and within this machine
_LANGUAGE_KEPT_S = 365 * 86400
_STATIC_KEPT_S = 3600
_NUMBER_MAX = 2**63 - 1  # of a row: PostgreSQL, bigint
_SLOT = re.compile(r"\{(\w+)\}")
_DAY = re.compile(r"(\d{4})-?(\d\d)?-?(\d\d)?")

# Header values of every page (OWASP ASVS 5, chapter V3).
_HEADERS = {
    "content-security-policy": "default-src 'none'; style-src 'self'; font-src 'self'; "
    "img-src 'self'; connect-src 'self'; form-action 'self'; frame-ancestors 'none'; base-uri 'none'; "
    "require-trusted-types-for 'script'",
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
    # Not no-referrer: with it browsers send the origin of forms as null.
    "referrer-policy": "same-origin",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "permissions-policy": "publickey-credentials-get=(self), publickey-credentials-create=(self), camera=(), "
    "microphone=(), geolocation=()",
}
_TRANSPORT = {"strict-transport-security": "max-age=63072000; includeSubDomains"}

log = structlog.get_logger()
Handler = Callable[[Request], Awaitable[Response]]


class FormRefused(Exception):  # noqa: N818
    """The form does not come from a page of ours, or cannot be read."""


class Texts(NamedTuple):
    """The words of one language."""

    language: str
    words: Mapping[str, str]

    def __call__(self, key: str, **values: object) -> Markup:
        """The text of ``key``; ``{name}`` stands for a value, which is escaped."""
        return Markup(_SLOT.sub(lambda slot: str(escape(values[slot[1]])), self.words[key]))  # noqa: S704 - our text

    def plain(self, key: str, **values: object) -> str:
        """The text of ``key`` for what is no page: nothing in it is escaped."""
        return _SLOT.sub(lambda slot: str(values[slot[1]]), self.words[key])

    def counted(self, key: str, number: int, **values: object) -> Markup:
        """The text of ``key_one``, ``key_few`` or ``key_many``, by ``number``, which is ``{n}`` in it."""
        return self(f"{key}_{plural_form(self.language, number)}", n=number, **values)


def plural_form(language: str, number: int) -> str:
    """one, few or many (Unicode CLDR, plural rules of cardinals)."""
    if number == 1:
        return "one"
    ones, tens = number % 10, number % 100
    if language == "uk" and ones == 1 and tens != 11:
        return "one"
    return "few" if language != "en" and 2 <= ones <= 4 and not 12 <= tens <= 14 else "many"


@cache
def texts(language: str) -> Texts:
    """The catalogue of a language."""
    words: dict[str, str] = {}
    for file in sorted(files("obieg.web").joinpath("texts", language).iterdir(), key=lambda file: file.name):
        words |= tomllib.loads(file.read_text("utf-8"))
    return Texts(language, words)


def session_cookie(origin: str) -> str:
    """The name of the cookie; only over TLS can it be bound to the host (RFC 6265bis, section 4.1.3.2)."""
    return "__Host-obieg" if origin.startswith("https://") else "obieg"


def is_safe_origin(origin: str) -> bool:
    """Whether passwords may be sent there: over TLS, or within this machine."""
    parts = urlsplit(origin)
    return bool(parts.hostname) and (parts.scheme == "https" or _is_loopback(parts.hostname or ""))


class Kit:
    """What the pages of one node share."""

    def __init__(
        self,
        *,
        origin: str,
        name: str,
        expect_sealed: Callable[[], Awaitable[None]],
        notice: Callable[[], Awaitable[Notice | None]] | None = None,
    ) -> None:
        """``origin``: https://host[:port], by which browsers reach the node; ``name`` stands beside the logo.

        ``expect_sealed`` raises NotSealed where nothing may be served (``actors/sealing_gate``);
        ``notice`` is what all pages say now.
        """
        self._expect_sealed = expect_sealed
        self._notice = notice
        self._said: Notice | None = None
        host = urlsplit(origin).hostname or ""
        self.site = Site(origin, host)
        self.passkeys = not _is_address(host)  # a passkey is bound to a name (Web Authentication Level 2, 5.1.2)
        self.secure = origin.startswith("https://")
        self.session_cookie = session_cookie(origin)
        self.login_cookie = f"{self.session_cookie}-login"
        self._environment = Environment(
            loader=PackageLoader("obieg.web"),
            autoescape=True,
            undefined=StrictUndefined,
            trim_blocks=True,
            auto_reload=False,  # else each page looks at the time of each of its templates' files
        )
        self._environment.globals |= {"node_name": name, "languages": LANGUAGES, "site_notice": None}
        self._environment.filters |= {"moment": shown_moment, "day": shown_day, "agent": _agent}
        self.static = Mount("/static", _Static(packages=[("obieg.web", "static")]))

    # answers --------------------------------------------------------------------------------------------------------

    def page(self, request: Request, template: str, *, status: int = 200, **values: Any) -> Response:
        """A page; ``t`` gives its words."""
        language = language_of(request)
        nonce = secrets.token_urlsafe(16)
        content = self._environment.get_template(template).render(
            t=texts(language),
            language=language,
            nonce=nonce,
            site_notice=self._said,
            addresses={code: self._here(request, code) for code in LANGUAGES},
            **values,
        )
        response = self._finished(HTMLResponse(content, status))
        # Scripts are ours, of this very page; the one policy of Trusted Types is that of page.js.
        response.headers["content-security-policy"] += f"; trusted-types default; script-src 'nonce-{nonce}'"
        return response

    def missing(self, request: Request) -> Response:
        """The page of what is not there, or not for whoever asks: the two are one answer."""
        return self.page(request, "missing.html", status=404, request_id=request.state.request_id)

    def go(self, address: str) -> Response:
        """To another page of ours."""
        return self._finished(RedirectResponse(address, 303))

    def data(self, content: str) -> Response:
        """JSON for the script of a page."""
        return self._finished(Response(content, media_type="application/json"))

    def file(
        self, content: bytes | AsyncIterator[bytes], media_type: str, name: str, *, inline: bool = False
    ) -> Response:
        """A file as it is; where it is not ``inline`` the browser saves it. No script in it runs."""
        response = Response(content) if isinstance(content, bytes) else StreamingResponse(content)
        self._finished(response)
        response.headers["content-type"] = media_type or "application/octet-stream"
        kind = "inline" if inline else "attachment"
        response.headers["content-disposition"] = f"{kind}; filename*=UTF-8''{quote(name, safe='')}"
        response.headers["content-security-policy"] = "default-src 'none'; sandbox"
        return response

    def _finished(self, response: Response) -> Response:
        response.headers.update(_HEADERS | (_TRANSPORT if self.secure else {}))
        response.headers["cache-control"] = "no-store"
        return response

    @staticmethod
    def _here(request: Request, language: str) -> str:
        """The same page in another language; a form that was refused is shown anew."""
        query = [(name, value) for name, value in request.query_params.multi_items() if name != "lang"]
        return f"{request.url.path}?{urlencode([*query, ('lang', language)])}"

    # cookies --------------------------------------------------------------------------------------------------------

    def cookie(self, request: Request, name: str) -> str:
        """Its value, or ""."""
        return cookie_value(request.headers.get("cookie", ""), name)

    def keep(self, response: Response, name: str, value: str) -> None:
        """Sets a cookie until the browser ends; "" deletes it."""
        response.set_cookie(
            name, value, None if value else 0, path="/", secure=self.secure, httponly=True, samesite="lax"
        )

    # requests -------------------------------------------------------------------------------------------------------

    def route(
        self,
        path: str,
        *,
        get: Handler | None = None,
        post: Handler | None = None,
        sealed: bool = True,
        anywhere: bool = False,
    ) -> Route:
        """A page: choosing the language and what goes wrong are the same everywhere.

        ``sealed``: whether it is served only while the audit is sealed; all are but those by which people log in and
        out and end sessions, and those for everybody. ``anywhere``: also at another address than people log in by.
        """

        async def answer(request: Request) -> Response:
            request_id = str(uuid.uuid4())
            request.state.request_id = request_id
            if _names_nothing(request):
                return self.missing(request)
            handler = post if request.method == "POST" else get
            if handler is None:  # the address of a form: its page is the one above
                query = request.url.query
                return self.go(path.rpartition("/")[0] + (f"?{query}" if query else ""))
            if request.method != "POST" and not anywhere and self._is_by_address(request):
                return self.go(
                    f"{self.site.origin}{request.url.path}" + (f"?{request.url.query}" * bool(request.url.query))
                )
            if request.method != "POST" and (chosen := request.query_params.get("lang", "")):
                return self._choose_language(request, chosen)
            try:
                if self._notice is not None:
                    self._said = await self._notice()
                if sealed:
                    await self._expect_sealed()
                return await handler(request)
            except NotSealed:
                return self.page(request, "unsealed.html", status=503, request_id=request_id)
            except FormRefused as error:
                log.info("a form was refused", request_id=request_id, reason=str(error))
                return self.page(request, "refused.html", status=403, request_id=request_id)
            except RetryLater as error:
                log.warning("a page could not be shown now", request_id=request_id, error=str(error))
                return self.page(request, "trouble.html", status=503, request_id=request_id)
            except Exception:
                log.exception("a page failed", request_id=request_id)
                return self.page(request, "trouble.html", status=500, request_id=request_id)

        return Route(path, answer, methods=["GET", "POST"] if post is not None else ["GET"])

    def _is_by_address(self, request: Request) -> bool:
        """Whether a browser called 127.0.0.1, where neither passkeys nor the cookies of localhost are."""
        called = urlsplit(f"//{request.headers.get('host', '')}").hostname or ""
        return self.site.host == "localhost" and _is_address(called) and _is_loopback(called)

    def _choose_language(self, request: Request, language: str) -> Response:
        rest = [(name, value) for name, value in request.query_params.multi_items() if name != "lang"]
        response = self.go(request.url.path + (f"?{urlencode(rest)}" if rest else ""))
        if language in LANGUAGES:
            name = _LANGUAGE_COOKIES[self.secure]
            response.set_cookie(
                name, language, _LANGUAGE_KEPT_S, path="/", secure=self.secure, httponly=True, samesite="lax"
            )
        return response

    async def form(self, request: Request, cookie: str) -> dict[str, str]:
        """The fields of a form whose token was made of ``cookie``. Raises FormRefused."""
        self._expect_own(request)
        media = request.headers.get("content-type", "").partition(";")[0].strip().lower()
        if media != "application/x-www-form-urlencoded":
            raise FormRefused("it is of another media type")
        body = bytearray()
        try:
            async for piece in request.stream():
                body += piece
                if len(body) > _FORM_BYTES_MAX:
                    raise FormRefused("it is too large")
            pairs = parse_qsl(body.decode("ascii"), keep_blank_values=True, errors="strict", max_num_fields=_FIELDS_MAX)
        except (ValueError, ClientDisconnect):
            raise FormRefused("it cannot be read") from None
        return self._fields(request, cookie, pairs)

    async def upload(self, request: Request, cookie: str, file_bytes_max: int) -> tuple[dict[str, str], bytes | None]:
        """The same of a form with a file; None of a file that is too large. Raises FormRefused."""
        self._expect_own(request)
        if not request.headers.get("content-type", "").lower().startswith(MEDIA_TYPE):
            raise FormRefused("it is of another media type")
        read = 0
        try:
            form = UploadForm(request.headers["content-type"], file_bytes_max=file_bytes_max)
            async for piece in request.stream():
                read += len(piece)
                if read > 4 * file_bytes_max:
                    raise FormRefused("it is too large")
                form.feed(piece)
            form.finish()
        except (ValueError, ClientDisconnect):
            raise FormRefused("it cannot be read") from None
        return self._fields(request, cookie, form.pairs), None if form.too_large else form.file or b""

    def _expect_own(self, request: Request) -> None:
        came_from, site = request.headers.get("origin", ""), request.headers.get("sec-fetch-site", "")
        if not is_own_page(came_from, site, (self.site.origin,)):
            raise FormRefused("it comes from a page of another origin")

    def _fields(self, request: Request, cookie: str, pairs: list[tuple[str, str]]) -> dict[str, str]:
        """Raises FormRefused where the token is not of this browser."""
        fields = dict(pairs)
        if len(fields) != len(pairs) or any("\0" in value for value in fields.values()):
            raise FormRefused("a field stands twice, or has a character that no text has")
        given, expected = fields.get("csrf", ""), form_token(self.cookie(request, cookie))
        if not (expected and hmac.compare_digest(given.encode(), expected.encode())):
            raise FormRefused("its token is not of this browser")
        return fields


class _Static(StaticFiles):
    def file_response(self, *given: Any, **named: Any) -> Response:
        response = super().file_response(*given, **named)
        if response.headers.get("content-type", "").endswith("+xml"):  # as it does itself for text/*
            response.headers["content-type"] += "; charset=utf-8"
        response.headers["cache-control"] = f"max-age={_STATIC_KEPT_S}"
        response.headers["x-content-type-options"] = "nosniff"
        response.headers["cross-origin-resource-policy"] = "same-origin"
        return response


def form_token(cookie: str) -> str:
    """What forms carry: known to whoever knows the cookie, and telling nothing of it."""
    return hmac.digest(cookie.encode(), b"form", "sha256").hex() if cookie else ""


def new_cookie() -> str:
    """For a browser that has none yet."""
    return secrets.token_urlsafe(32)


def visiting(request: Request) -> Visit:
    """Who is at the other end, of a page that :meth:`Kit.route` serves."""
    return Visit(
        address=request.client.host if request.client else "",
        agent=request.headers.get("user-agent", ""),
        request_id=request.state.request_id,
    )


def language_of(request: Request) -> str:
    """As chosen, or as the browser asks (RFC 9110, section 12.5.4); Polish where it asks for none of ours."""
    for name in _LANGUAGE_COOKIES.values():
        chosen = cookie_value(request.headers.get("cookie", ""), name)
        if chosen in LANGUAGES:
            return chosen
    wanted = []
    for item in request.headers.get("accept-language", "").split(","):
        tag, _, quality = item.strip().partition(";q=")
        try:
            wanted.append((-float(quality or 1), tag[:2].lower()))
        except ValueError:
            continue
    ranked = sorted(wanted, key=lambda pair: pair[0])
    return next((tag for quality, tag in ranked if tag in LANGUAGES and quality), "pl")


def _names_nothing(request: Request) -> bool:
    """Whether the address has what no page can look for: a character that no text has, or a number that no row has."""
    values = [*request.path_params.values(), *(text for pair in request.query_params.multi_items() for text in pair)]
    return any(value > _NUMBER_MAX if isinstance(value, int) else "\0" in str(value) for value in values)


def _is_address(host: str) -> bool:
    try:
        ip_address(host)
    except ValueError:
        return False
    return True


def _is_loopback(host: str) -> bool:
    return host == "localhost" or (_is_address(host) and ip_address(host).is_loopback)


def shown_moment(moment: datetime) -> str:
    """DD.MM.YYYY, HH:MM in the region's time zone."""
    return f"{moment.astimezone(WARSAW):%d.%m.%Y, %H:%M}"


def shown_day(said: datetime | date | str) -> str:
    """DD.MM.YYYY of a moment, a date, a date of FHIR (also partial) or a DTM of HL7; "" of nothing."""
    if isinstance(said, datetime):
        return f"{said.astimezone(WARSAW):%d.%m.%Y}"
    if isinstance(said, date):
        return f"{said:%d.%m.%Y}"
    parts = _DAY.match(said or "")
    return ".".join(part for part in reversed(parts.groups()) if part) if parts else ""


# What browsers and systems call themselves (header User-Agent), the more special ones first.
_BROWSERS = (("Edg/", "Edge"), ("OPR/", "Opera"), ("Firefox/", "Firefox"), ("Chrome/", "Chrome"), ("Safari/", "Safari"))
_SYSTEMS = (
    ("Windows", "Windows"), ("Android", "Android"), ("iPhone", "iPhone"), ("iPad", "iPad"), ("Mac OS", "macOS"),
    ("Linux", "Linux"),
)  # fmt: skip


def _agent(header: str) -> str:
    """A browser and its system in two words, or what it calls itself."""
    browser = next((name for mark, name in _BROWSERS if mark in header), "")
    system = next((name for mark, name in _SYSTEMS if mark in header), "")
    return ", ".join(filter(None, (browser, system))) or header[:40]

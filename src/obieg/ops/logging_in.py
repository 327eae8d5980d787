"""Builds what people log in at, for a node and for commands."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from datetime import datetime, timedelta
from ipaddress import ip_address
from urllib.parse import quote, urlsplit

from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import BaseRoute, Route

from obieg.actors.people import CookieSessions, People
from obieg.actors.wezel_krajowy import PATIENT_REQUEST, WezelKrajowy
from obieg.domain.operating import Notice
from obieg.domain.requester import Requester
from obieg.edges.patient_login import PREFIX as PATIENT_LOGIN
from obieg.ops.documents import master_key_file
from obieg.ops.settings import Settings
from obieg.protocol import Sessions
from obieg.storage.audit_store import AuditStore
from obieg.storage.keys import KeyFile
from obieg.storage.link import Database
from obieg.storage.people_store import PostgresAccounts
from obieg.web.kit import Kit, is_safe_origin, session_cookie
from obieg.web.login import LoginPages

_CLOSED = (
    "People cannot log in at this node: passwords and sessions need TLS and one address. Set http.public_url to the\n"
    "https address by which browsers reach it.\n"
)


def people_of(
    settings: Settings,
    database: Database,
    audit: AuditStore,
    *,
    new_uuid: Callable[[], str],
    clock: Callable[[], datetime],
) -> People:
    """The actor. The node's master key wraps the secrets of codes."""
    return People(
        PostgresAccounts(database, audit),
        keys=KeyFile(master_key_file(settings)),
        clock=clock,
        new_uuid=new_uuid,
        idle=timedelta(seconds=settings.people.idle_s),
        lifetime=timedelta(seconds=settings.people.lifetime_s),
        issuer=settings.name,
    )


def origin_of(settings: Settings) -> str:
    """The origin by which browsers reach the node, https or within this machine; "" where there is none.

    Within this machine it is named localhost: a passkey is bound to a name, not to an address.
    """
    if settings.http.local_port:
        return f"http://localhost:{settings.http.local_port}"
    secure = settings.tls.certificate_file is not None and not settings.http.proxies
    here = f"{'https' if secure else 'http'}://{_bracketed(settings.http.host)}:{settings.http.port}"
    parts = urlsplit(settings.http.public_url or here)
    origin = f"{parts.scheme}://{parts.netloc}"
    if not is_safe_origin(origin):
        return ""
    port = f":{parts.port}" if parts.port is not None else ""
    return f"{parts.scheme}://localhost{port}" if _is_loopback(parts.hostname or "") else origin


def origin_for_patients(settings: Settings) -> str:
    """Where Węzeł Krajowy sends people back to."""
    return origin_of(settings) if settings.http.local_port else settings.http.public_url.rstrip("/")


class EverybodysSessions:
    """Sessions of staff, and of patients where they can log in."""

    def __init__(self, staff: CookieSessions, patients: WezelKrajowy | None) -> None:
        self._staff = staff
        self._patients = patients

    async def current(self, cookie: str) -> Requester | None:
        """See the port."""
        person = await self._staff.current(cookie)
        if person is None and self._patients is not None:
            return await self._patients.current(cookie)
        return person

    async def stands(self, person: Requester) -> bool:
        """See the port. Nobody stops being the patient who they are."""
        return person.purpose_of_use == PATIENT_REQUEST or await self._staff.stands(person)

    def login_address(self, then: str, again: Requester | None = None) -> str:
        """See the port."""
        if again is not None and again.purpose_of_use == PATIENT_REQUEST:
            return f"{PATIENT_LOGIN}?return={quote(then, safe='')}"  # where everybody is asked anew
        return self._staff.login_address(then, again)


def sessions_of(settings: Settings, people: People, patients: WezelKrajowy | None) -> Sessions:
    """Who is logged in, for those who are shown a cookie."""
    return EverybodysSessions(CookieSessions(people, session_cookie(origin_of(settings))), patients)


def kit_of(
    settings: Settings,
    expect_sealed: Callable[[], Awaitable[None]],
    notice: Callable[[], Awaitable[Notice | None]] | None = None,
) -> Kit | None:
    """What the node's pages share; None where browsers have no address for them."""
    origin = origin_of(settings)
    return Kit(origin=origin, name=settings.name, expect_sealed=expect_sealed, notice=notice) if origin else None


def login_pages(
    kit: Kit | None, people: People, patients: WezelKrajowy | None, homes: Mapping[str, str]
) -> Sequence[BaseRoute]:
    """The pages, or one that says why there are none. ``homes``: where people of a role work."""
    if kit is not None:
        return LoginPages(kit, people, patients, homes).routes
    return (Route("/login", _closed), Route("/account", _closed))


async def _closed(_request: Request) -> Response:
    return PlainTextResponse(_CLOSED, status_code=503)


def _bracketed(host: str) -> str:
    return f"[{host}]" if ":" in host else host


def _is_loopback(host: str) -> bool:
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"

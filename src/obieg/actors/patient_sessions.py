"""Patients who are logged in: by which cookie, since when, from where; and the end of it.

How they logged in is the matter of ``actors/wezel_krajowy``; this needs none of its keys, so that an operator can look
at sessions and end them from the command line.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from datetime import datetime, timedelta

from obieg.actors.people import cookie_value
from obieg.codes.load import toml
from obieg.domain.audit import AuditEvent, AuditObject, Outcome
from obieg.domain.patient_login import LoginsStore, PatientSession

_SESSION = toml("national/pl/wezel_krajowy.toml")["session"]
LONGEST = timedelta(seconds=_SESSION["longest_s"])
_IDLE, _SEEN = (timedelta(seconds=_SESSION[name]) for name in ("idle_s", "seen_s"))


class PatientSessions:
    """Of one node."""

    def __init__(self, store: LoginsStore, *, secure: bool, now: Callable[[], datetime]) -> None:
        """``secure``: browsers reach the node by TLS."""
        self._store = store
        self._now = now
        self.cookie_name = cookie_name(secure=secure)

    async def session(self, cookie: str) -> PatientSession | None:
        """The one that the HTTP header ``cookie`` names; it is used by this. None for nobody, and once it has ended."""
        token = cookie_value(cookie, self.cookie_name)
        if not token:
            return None
        return await self._store.session(token_digest(token), self._now(), _IDLE, _SEEN)

    async def listed(self, session: PatientSession | None = None) -> Sequence[PatientSession]:
        """Those that have not ended, of the patient of ``session`` or of all; the newest first."""
        return await self._store.sessions(session.patient.pesel if session else "", self._now(), _IDLE)

    async def end(self, session: PatientSession, event: AuditEvent) -> bool:
        """Ends it; whether it had not ended."""
        return await self._store.end(session.session_id, session.patient.pesel, event)

    async def revoke(self, session_id: str, by: str) -> bool:
        """What an operator does: ends a session at this node; whether there was one."""
        found = next((each for each in await self.listed() if each.session_id == session_id), None)
        if found is None:
            return False
        event = AuditEvent(
            transaction="logout",
            event="user_authentication",
            outcome=Outcome.SUCCESS,
            detail="session of a patient ended",
            source_user=by,
            requester=by,
            objects=(AuditObject("session", session_id),),
        )
        return await self.end(found, event)

    def cookie(self, token: str, holds: timedelta) -> str:
        """Set-Cookie."""
        secure = "; Secure" if self.cookie_name.startswith("__Host-") else ""
        seconds = int(holds.total_seconds())
        return f"{self.cookie_name}={token}; Path=/; Max-Age={seconds}; HttpOnly; SameSite=Lax{secure}"


def cookie_name(*, secure: bool) -> str:
    """A browser takes __Host- only over TLS, for this host alone (RFC 6265bis, section 4.1.3.2)."""
    return "__Host-obieg-patient" if secure else "obieg-patient"


def token_digest(token: str) -> bytes:
    """What is stored of a cookie's token, which is random."""
    return hashlib.sha256(token.encode("utf-8", "surrogatepass")).digest()

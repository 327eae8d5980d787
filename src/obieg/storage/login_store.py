"""Log-ins of patients in PostgreSQL (``sql/patient_login.sql``)."""

from __future__ import annotations

from datetime import datetime, timedelta

from obieg.domain.audit import AuditEvent
from obieg.domain.patient_login import PatientSession, PendingLogin, ProvedPatient
from obieg.domain.requester import Spent
from obieg.storage.audit_store import AuditStore, run_once, using_up
from obieg.storage.link import Database, Row, run
from obieg.storage.statements import load

_SQL = load("patient_login.sql")


class PostgresLogins:
    """Implements :class:`obieg.domain.patient_login.LoginsStore`."""

    def __init__(self, database: Database, audit: AuditStore) -> None:
        self._database = database
        self._audit = audit

    async def begin(self, pending: PendingLogin) -> None:
        """See the port."""
        await run(
            self._database,
            _SQL.forget_patient_logins(now=pending.begun_at.isoformat()),
            _SQL.insert_patient_login(
                relay_state=pending.relay_state,
                browser=pending.browser,
                request_id=pending.request_id,
                return_to=pending.return_to,
                begun_at=pending.begun_at.isoformat(),
                until=pending.until.isoformat(),
            ),
        )

    async def take(self, relay_state: str, browser: str, now: datetime) -> PendingLogin | None:
        """See the port."""
        [rows] = await run(self._database, _SQL.take_patient_login(relay_state=relay_state, browser=browser))
        for request_id, return_to, begun_at, until in rows:
            if now < until:
                return PendingLogin(relay_state, browser, request_id, return_to, begun_at, until)
        return None

    async def log_in(self, session: PatientSession, token: bytes, spent: tuple[Spent, ...], audit: AuditEvent) -> None:
        """See the port."""
        patient = session.patient
        await run_once(
            self._database,
            *using_up(spent, session.session_id),
            _SQL.insert_patient_session(
                session_id=session.session_id,
                token=token,
                pesel=patient.pesel,
                family_name=patient.family_name,
                given_name=patient.given_name,
                birth_date=patient.birth_date.isoformat(),
                issuer=patient.issuer,
                assurance=patient.assurance,
                name_id=patient.name_id,
                session_index=patient.session_index,
                address=session.address,
                agent=session.agent,
                started_at=session.started_at.isoformat(),
                until=session.until.isoformat(),
            ),
            self._audit.call(audit),
        )

    async def session(self, token: bytes, now: datetime, idle: timedelta, seen: timedelta) -> PatientSession | None:
        """See the port."""
        times = {"now": now.isoformat(), "idle": (now - idle).isoformat(), "seen": (now - seen).isoformat()}
        [rows] = await run(self._database, _SQL.patient_session(token=token, **times))
        return _session(rows[0]) if rows else None

    async def sessions(self, pesel: str, now: datetime, idle: timedelta) -> list[PatientSession]:
        """See the port."""
        times = {"now": now.isoformat(), "idle": (now - idle).isoformat()}
        [rows] = await run(self._database, _SQL.patient_sessions(pesel=pesel or None, **times))
        return [_session(row) for row in rows]

    async def end(self, session_id: str, pesel: str, audit: AuditEvent) -> bool:
        """See the port."""
        ended, _ = await run(
            self._database, _SQL.end_patient_session(session_id=session_id, pesel=pesel), self._audit.call(audit)
        )
        return bool(ended)


def _session(row: Row) -> PatientSession:
    session_id, pesel, family_name, given_name, birth_date, issuer, assurance, name_id, index, *rest = row
    patient = ProvedPatient(pesel, family_name, given_name, birth_date, issuer, assurance, name_id, index)
    return PatientSession(session_id, patient, *rest)

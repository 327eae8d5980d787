"""Codes of consents in PostgreSQL: port :class:`obieg.domain.consent_codes.CodeStore`."""

from __future__ import annotations

from datetime import datetime

import msgspec

from obieg.domain.consent_codes import CODES_MAX, TRIES_MAX, CodeAsked, CodeTold, Contact, Tried, digest
from obieg.domain.identifiers import PatientId
from obieg.domain.persons import Demographics
from obieg.domain.requester import Requester
from obieg.storage.link import Database, run
from obieg.storage.statements import load

_SQL = load("emergency.sql")
_read = msgspec.json.Decoder(Demographics).decode


class PostgresConsentCodes:
    """Implements the port over one database."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def contact(self, patient: PatientId) -> Contact | None:
        """See the port."""
        [rows] = await run(self._database, _SQL.patient_contact(authority=patient.authority, value=patient.value))
        return Contact(rows[0][0], [_read(bytes(r)) for r in rows[0][1]]) if rows else None

    async def put(
        self, id_: str, patient_key: int, digest: str, asked: CodeAsked, requester: Requester, until: datetime
    ) -> bool:
        """See the port."""
        _, rows = await run(
            self._database,
            _SQL.forget_codes(),
            _SQL.put_code(
                code_id=id_,
                patient_key=patient_key,
                digest=f"\\x{digest}",
                person=requester.person,
                organisation=requester.organisation,
                scope=asked.scope,
                hours=asked.hours,
                expires_at=until.isoformat(),
                most=CODES_MAX,
            ),
        )
        return bool(rows)

    async def attempt(self, told: CodeTold, requester: Requester) -> Tried | None:
        """See the port."""
        [rows] = await run(
            self._database,
            _SQL.try_code(
                code_id=told.id,
                digest=f"\\x{digest(told.id, told.code)}",
                person=requester.person,
                organisation=requester.organisation,
                authority=told.patient.authority,
                value=told.patient.value,
                most=TRIES_MAX,
            ),
        )
        return Tried(*rows[0]) if rows else None

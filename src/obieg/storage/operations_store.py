"""What operators see and do, in PostgreSQL: port :class:`obieg.domain.operating.OperationsStore`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from uuid import UUID

from obieg.domain.access_log import PROVIDING
from obieg.domain.audit import AuditEvent
from obieg.domain.identifiers import PatientId
from obieg.domain.obligations import Review
from obieg.domain.operating import (
    Counted,
    DatabaseState,
    Figures,
    Found,
    Inbox,
    Institution,
    LetterShown,
    NodeNews,
    Notice,
    Quality,
    Received,
    Reviews,
    SealingState,
    Waiting,
)
from obieg.domain.outbox import Backlog
from obieg.domain.previewing import MIME_TYPE, CodeInUse, InUse, PeerCertificate
from obieg.storage.audit_store import AuditStore
from obieg.storage.link import Database, Row, done, run
from obieg.storage.statements import load

_SQL, _OUTBOX, _INBOX = load("operations.sql"), load("outbox.sql"), load("inbox.sql")
_EMERGENCY, _SEALING, _AUDIT = load("emergency.sql"), load("sealing.sql"), load("audit_repository.sql")
_CODED = (  # columns of a document entry
    "class_code", "type_code", "format_code", "healthcare_facility_type_code", "practice_setting_code",
    "confidentiality_code", "event_code_list", MIME_TYPE,
)  # fmt: skip


class PostgresOperations:
    """Implements the port over one database."""

    def __init__(
        self, database: Database, audit: AuditStore, *, assigning_authority: str, reading: Sequence[str]
    ) -> None:
        """``reading``: ids of the transactions by which documents are read."""
        self._database = database
        self._audit = audit
        self._authority = assigning_authority
        self._reading = list(reading)

    # outbox, inbox ------------------------------------------------------------------------------------------------

    async def letters(self, destination: str, count: int, *, dead: bool) -> Waiting:
        """See the port."""
        backlog, letters = await run(
            self._database, _OUTBOX.backlog(), _OUTBOX.list_letters(destination=destination, dead=dead, count=count)
        )
        return Waiting([Backlog(*row) for row in backlog], [LetterShown(*row) for row in letters])

    async def retry(self, ids: Sequence[int], destination: str, event: AuditEvent) -> list[int]:
        """See the port."""
        rows, _ = await run(
            self._database,
            _OUTBOX.retry_letters(ids=list(ids), destination=destination),
            self._audit.call(event),
        )
        return [row[0] for row in rows]

    async def drop(self, ids: Sequence[int], destination: str, event: AuditEvent, *, dead: bool) -> list[int]:
        """See the port."""
        rows, _ = await run(
            self._database,
            _OUTBOX.drop_letters(ids=list(ids), destination=destination, dead=dead),
            self._audit.call(event),
        )
        return [row[0] for row in rows]

    async def inbox(self, count: int, *, everything: bool) -> Inbox:
        """See the port."""
        rows, [(waiting, total)] = await run(
            self._database, _INBOX.list_inbox(everything=everything, count=count), _INBOX.count_inbox()
        )
        return Inbox([Received(*row) for row in rows], waiting, total)

    # reviews ------------------------------------------------------------------------------------------------------

    async def reviews(self, count: int, *, everything: bool) -> Reviews:
        """See the port."""
        rows, [(waiting, total)] = await run(
            self._database,
            _EMERGENCY.list_reviews(everything=everything, ids=[], count=count),
            _EMERGENCY.count_reviews(),
        )
        return Reviews([Review(*row) for row in rows], waiting, total)

    async def review(self, review_id: int) -> Review | None:
        """See the port."""
        [rows] = await run(self._database, _EMERGENCY.list_reviews(everything=False, ids=[review_id], count=1))
        return Review(*rows[0]) if rows else None

    async def decide(self, review_id: int, *, justified: bool, note: str, by: str, event: AuditEvent) -> bool:
        """See the port."""
        decide = _EMERGENCY.decide_review(review_id=review_id, justified=justified, note=note, by=by)
        return await done(self._database, decide, self._audit.call(event))

    # the node -----------------------------------------------------------------------------------------------------

    async def notice(self) -> Notice | None:
        """See the port."""
        [rows] = await run(self._database, _SQL.newest_notice())
        return Notice(*rows[0]) if rows else None

    async def say(self, text: str, until: datetime, by: str, event: AuditEvent) -> None:
        """See the port."""
        await run(
            self._database,
            _SQL.insert_notice(said=text, until=until.isoformat(), said_by=by),
            self._audit.call(event),
        )

    async def database(self) -> DatabaseState:
        """See the port."""
        [[row]] = await run(self._database, _SQL.database_state())
        return DatabaseState(*row)

    async def sealing(self) -> SealingState:
        """See the port."""
        [[(age, unsealed)], [row]] = await run(self._database, _SEALING.sealing_age(), _SQL.sealing_state())
        return SealingState(float(age), unsealed, *row)

    async def news(self) -> list[NodeNews]:
        """See the port."""
        [rows] = await run(self._database, _SQL.news_by_repository())
        return [NodeNews(*row) for row in rows]

    async def heard(self) -> Mapping[str, datetime]:
        """See the port."""
        [rows] = await run(self._database, _SQL.heard_of_senders())
        return dict(rows)

    async def provided(self, transactions: Sequence[str]) -> tuple[Mapping[str, int], Mapping[str, int]]:
        """See the port."""
        submissions, records = await run(
            self._database, _SQL.submissions_by_repository(), _SQL.records_of_making(transactions=transactions)
        )
        return dict(submissions), dict(records)

    async def institutions(self) -> list[Institution]:
        """See the port."""
        [rows] = await run(self._database, _SQL.institutions())
        return [_institution(*row) for row in rows]

    async def figures(self, at: datetime) -> Figures:
        """See the port."""
        [[(patients, covered, documents)], months, quality, unknown, reads] = await run(
            self._database,
            _SQL.count_patients(),
            _SQL.documents_by_month(),
            _SQL.quality_by_repository(),
            _SQL.unknown_patients(transactions=PROVIDING),
            _SQL.reads(transactions=self._reading),
        )
        return Figures(
            at=at,
            patients=patients,
            covered=covered,
            documents=documents,
            by_month=tuple(Counted(*row) for row in months),
            reads_by_purpose=_summed(reads, 0),
            reads_by_basis=_summed(reads, 1),
            quality=tuple(Quality(*row) for row in quality),
            unknown=tuple(Counted(*row) for row in unknown),
        )

    async def in_use(self, *, codes: bool) -> InUse:
        """See the port."""
        documents, authorities, backlog, unsent, grants, heard, peers, [(patients, stored)] = await run(
            self._database,
            _SQL.documents_by_repository(),
            _SQL.identifiers_by_authority(),
            _OUTBOX.backlog(),
            _AUDIT.audit_lag(),
            _SQL.grants_by_client(),
            _SQL.heard_of_senders(),
            _SQL.peer_certificates(),
            _SQL.count_kept(),
        )
        [used] = await run(self._database, _SQL.codes_in_use()) if codes else [[]]
        waiting = [Backlog(*row) for row in backlog]
        return InUse(
            documents=dict(documents),
            authorities=dict(authorities),
            waiting={one.destination: one.waiting + one.dead for one in waiting},
            unsent={row[0]: row[1] for row in unsent},
            grants=dict(grants),
            heard=dict(heard),
            peers=[PeerCertificate(*row) for row in peers],
            patients=patients,
            stored=stored,
            codes=[CodeInUse(*row) for row in used],
        )

    async def documents_of_codes(self, refused: Sequence[CodeInUse]) -> Mapping[str, int]:
        """See the port."""
        by_attribute: dict[str, list[str]] = {name: [] for name in _CODED}
        for one in refused:
            if one.kind == "D":
                by_attribute[one.attribute].append(one.code)
        [rows] = await run(self._database, _SQL.documents_of_codes(**by_attribute))
        return dict(rows)

    async def peers(self) -> list[PeerCertificate]:
        """See the port."""
        [rows] = await run(self._database, _SQL.peer_certificates())
        return [PeerCertificate(*row) for row in rows]

    async def note_peers(self, shown: Mapping[tuple[str, bytes], tuple[str, str, datetime]]) -> None:
        """Keeps certificates by direction (I, O) and SHA-256: subject, issuer and end. Raises RetryLater."""
        await run(
            self._database,
            _SQL.note_peers(
                directions=[direction for direction, _ in shown],
                fingerprints=[f"\\x{digest.hex()}" for _, digest in shown],
                subjects=[subject for subject, _, _ in shown.values()],
                issuers=[issuer for _, issuer, _ in shown.values()],
                ends=[end.isoformat() for _, _, end in shown.values()],
            ),
            _SQL.forget_peers(),
        )

    async def document(self, name: str) -> Found | None:
        """See the port."""
        plain = name.removeprefix("urn:uuid:").removeprefix("urn:oid:")
        try:
            uuid: UUID | None = UUID(plain)
        except ValueError:
            uuid = None
        [rows] = await run(self._database, _SQL.traced_document(uuid=uuid, name=plain))
        if not rows:
            return None
        patient, names, repository, registered_at = rows[0]
        return Found((str(PatientId(patient, self._authority)),), tuple(names), repository or "", registered_at)


def _institution(written: str, documents: int, since: datetime, kinds: Sequence[str]) -> Institution:
    """An author institution as XDS writes it (XON: name, …, 6 authority, 10 number)."""
    parts = written.split("^")
    root = parts[5].split("&")[1] if len(parts) > 5 and parts[5].count("&") else ""
    number = parts[9] if len(parts) > 9 else ""
    return Institution(f"{root}#{number}" if root and number else "", parts[0].strip(), documents, since, tuple(kinds))


def _summed(rows: Sequence[Row], column: int) -> tuple[Counted, ...]:
    sums: dict[str, int] = {}
    for row in rows:
        sums[row[column]] = sums.get(row[column], 0) + row[2]
    return tuple(Counted(name, sums[name]) for name in sorted(sums, key=lambda name: (-sums[name], name)))

"""Who looked at the data, the report of a look that the patient does not agree with, and notices."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta

from starlette.responses import Response
from starlette.routing import BaseRoute

from obieg.domain.patient_portal import REPORT_LENGTH_MAX
from obieg.web.patient_log import FILTERS, Line, chosen, days, named, read_notices, read_reviews
from obieg.web.patient_shell import Record, Shell

_LINES = 25  # at least, where there are as many
_PAGES_MAX = 4  # of the log, that are read for them
_SINCE = timedelta(days=30)


class AccessPages:
    """Pages below ``access`` and ``notices``."""

    def __init__(self, shell: Shell) -> None:
        self._shell = shell

    @property
    def routes(self) -> Sequence[BaseRoute]:
        """For the node's web application."""
        page = self._shell.routes
        return (
            *page("/access", get=self._log),
            *page("/access/report", get=self._report, post=self._send),
            *page("/notices", get=self._notices),
            *page("/notices/read", post=self._read),
        )

    async def _log(self, record: Record) -> Response:
        wanted = record.query.get("who", "")
        wanted = wanted if wanted in FILTERS else FILTERS[0]
        before = record.query.get("before", "")
        others = wanted not in ("me", "all")
        read, following = await self._shell.log(record, before, others=others)
        for _ in range(_PAGES_MAX):
            if len(chosen(read, wanted)) >= _LINES or not following:
                break
            more, following = await self._shell.log(record, following, others=others)
            read += more
        found = await self._shell.documents(record)
        since = record.now - _SINCE
        if following and read:
            since = max(since, read[-1].first)
        looks = [line for line in named(read, found) if line.look and line.last >= since]
        reviews = await self._shell.desk.fhir(record.visit, "[id]/$access-reviews", "Patient", record.subject.id)
        reviewed = read_reviews(reviews.body)
        sessions = [r for r in reviewed if r.kind == "emergency"]
        return self._shell.show(
            record,
            "access",
            "access",
            days=days(named(chosen(read, wanted), found)),
            wanted=wanted,
            filters=FILTERS,
            following=following,
            before=before,
            since=since,
            looked=len({line.who for line in looks}),
            places=len({line.facility or line.facility_id for line in looks}),
            emergencies=sum(r.opened is not None and r.opened >= since for r in sessions),
            reported={
                line.entry: r for line in read for r in reviewed if r.kind == "reported" and r.entry in line.entries
            },
            reviewed=sessions,
            documents={d.unique_id: d for d in found},
        )

    async def _line(self, record: Record, entry: str) -> Line | None:
        """The line of the log that a record is in; read from right after it."""
        if not entry.isascii() or not entry.isdigit():
            return None
        lines, _ = await self._shell.log(record, str(int(entry) + 1))
        found = await self._shell.documents(record)
        return next((line for line in named(lines, found) if entry in line.entries), None)

    async def _report(self, record: Record) -> Response:
        line = await self._line(record, record.query.get("entry", ""))
        if line is None or line.me:
            return self._shell.desk.missing(record.visit)
        return self._shell.show(record, "report", "access", line=line, length=REPORT_LENGTH_MAX)

    async def _send(self, record: Record) -> Response:
        said = [("entry", record.fields.get("entry", "")), ("text", record.fields.get("text", "")[:REPORT_LENGTH_MAX])]
        await self._shell.desk.fhir(
            record.visit,
            "[id]/$report-access",
            "Patient",
            record.subject.id,
            body={"resourceType": "Parameters", "parameter": [{"name": n, "valueString": v} for n, v in said if v]},
        )
        return self._shell.go(record, "/access?done=reported")

    async def _notices(self, record: Record) -> Response:
        answer = await self._shell.desk.fhir(record.visit, "[id]/$notices", "Patient", record.subject.id)
        notices = read_notices(answer.body)
        documents = {d.id: d for d in await self._shell.documents(record)}
        asked = [s for s in await self._shell.consents(record) if s.states == "notices"]
        return self._shell.show(
            record, "notices", "notices", notices=notices, documents=documents, asked=bool(asked),
            last=max((int(n.id) for n in notices), default=0),
        )  # fmt: skip

    async def _read(self, record: Record) -> Response:
        last = record.fields.get("last", "")
        await self._shell.desk.fhir(
            record.visit,
            "[id]/$notices-read",
            "Patient",
            record.subject.id,
            body={"resourceType": "Parameters", "parameter": [{"name": "last", "valueString": last}]},
        )
        return self._shell.go(record, "/notices")

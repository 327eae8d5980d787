"""What all pages of patients share: whose record is shown, and the questions that several pages ask.

One log-in opens the record of the person themself (``/patient``) and of everybody for whom they may act
(``/patient/p/{id}``). For whom that is the node says anew for each page.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import orjson
from starlette.responses import Response
from starlette.routing import BaseRoute

from obieg.domain.access import TOLD
from obieg.domain.accounts import ROLES
from obieg.domain.obligations import REASONS
from obieg.domain.zone import WARSAW
from obieg.web.areas import PATIENTS
from obieg.web.desk import Desk, Visit
from obieg.web.kit import language_of
from obieg.web.patient_consents import Stated, read_consents
from obieg.web.patient_log import Line, read_log
from obieg.web.patient_records import KINDS, Document, Subject, cursor, documents, resources, subjects

_PAGES_MAX = 10  # of documents
_DOCUMENTS = 500  # on one of them
LOG_COUNT = 300
# As which purpose somebody asks (v3-ActReason): for themself, for a child or a relative, by an authorisation.
PURPOSES = {"patient": "PATRQT", "guardian": "FAMRQT", "close": "FAMRQT", "authorised": "PWATRNY"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Record:
    """A visit to one person's record."""

    visit: Visit
    subject: Subject
    people: Sequence[Subject]  # whose records can be shown; the one who is logged in first
    now: datetime

    @property
    def query(self) -> dict[str, str]:
        """What the address says."""
        return dict(self.visit.request.query_params)

    @property
    def fields(self) -> dict[str, str]:
        """Of the form that was sent."""
        return self.visit.fields

    @property
    def reference(self) -> str:
        """Of whose record it is."""
        return f"Patient/{self.subject.id}"


Handler = Callable[[Record], Awaitable[Response]]


class Shell:
    """Finds out whose record a page shows, and asks for it."""

    def __init__(self, desk: Desk) -> None:
        self.desk = desk

    # pages ----------------------------------------------------------------------------------------------------------

    def routes(
        self, path: str, *, get: Handler | None = None, post: Handler | None = None, file_bytes_max: int = 0
    ) -> Sequence[BaseRoute]:
        """A page of one's own record, and of the records of those for whom one acts."""
        return [
            self.desk.route(
                prefix + path,
                get=self._opened(get) if get is not None else None,
                post=self._opened(post) if post is not None else None,
                file_bytes_max=file_bytes_max,
            )
            for prefix in (PATIENTS, PATIENTS + "/p/{person}")
        ]

    def _opened(self, handler: Handler) -> Callable[[Visit], Awaitable[Response]]:
        async def answer(visit: Visit) -> Response:
            found = await self.desk.fhir(visit, "$represented", "Patient")
            people = subjects(found.body, PATIENTS)
            wanted = visit.request.path_params.get("person", "")
            subject = next((p for p in people if (p.id == wanted if wanted else p.own)), None)
            if subject is None:
                return self.desk.missing(visit) if wanted else self._nobody(visit, people)
            if wanted and subject.own:  # one's own record has one address
                return self.desk.kit.go(PATIENTS)
            acting = visit.acting(purpose_of_use=PURPOSES[subject.basis])
            return await handler(Record(visit=acting, subject=subject, people=people, now=datetime.now(UTC)))

        return answer

    def _nobody(self, visit: Visit, people: Sequence[Subject]) -> Response:
        """Of who is logged in nothing may be shown: they are too young, or no facility has told of them."""
        return self.desk.kit.page(
            visit.request, "patient/nobody.html", **self._common(visit), subject=None, people=people, here="", prefix=""
        )

    def show(self, record: Record, template: str, here: str, *, status: int = 200, **values: Any) -> Response:
        """A page; ``here`` is the item of the navigation that it belongs to."""
        return self.desk.kit.page(
            record.visit.request,
            f"patient/{template}.html",
            status=status,
            **self._common(record.visit),
            subject=record.subject,
            people=record.people,
            here=here,
            prefix=record.subject.prefix,
            done=record.query.get("done", ""),
            **values,
        )

    @staticmethod
    def _common(visit: Visit) -> dict[str, Any]:
        now = datetime.now(UTC)
        language = language_of(visit.request)
        return {
            "me": visit.requester,
            "csrf": visit.csrf,
            "now": now,
            "today": now.astimezone(WARSAW).date(),
            "bases": {basis: row["name"][language] for basis, row in TOLD.items()},
            "roles": {role: row[language] for role, row in ROLES.items()},
            "reasons": {reason: row[language] for reason, row in REASONS.items()},
            "kinds": KINDS,
        }

    def go(self, record: Record, path: str) -> Response:
        """To another page of the same record."""
        return self.desk.kit.go(record.subject.prefix + path)

    # questions ------------------------------------------------------------------------------------------------------

    async def documents(self, record: Record) -> list[Document]:
        """All documents that may be seen, the newest first, former versions among them."""
        parameters = [
            ("patient", record.reference), ("status", "current,superseded"), ("_sort", "-creation"),
            ("_count", str(_DOCUMENTS)),
        ]  # fmt: skip
        found: list[Document] = []
        more: list[tuple[str, str]] = []
        for _ in range(_PAGES_MAX):
            answer = await self.desk.fhir(
                record.visit, "search-type", "DocumentReference", parameters=[*parameters, *more]
            )
            found += documents(answer.body)
            more = next_page(answer.body)
            if not more:
                break
        return sorted(found, key=lambda d: (d.when, d.id), reverse=True)

    async def consents(self, record: Record) -> list[Stated]:
        """What the patient has stated and what is in force."""
        answer = await self.desk.fhir(
            record.visit,
            "search-type",
            "Consent",
            parameters=[("patient", record.reference), ("status", "active"), ("_count", "200")],
        )
        return read_consents(resources(answer.body), record.now)

    async def log(self, record: Record, before: str = "", *, others: bool = False) -> tuple[list[Line], str]:
        """A page of the access log, and where the next one begins; "" at the end.

        ``others``: without what who is logged in did.
        """
        parameters = [("_count", str(LOG_COUNT)), *([("_cursor", before)] if before else [])]
        parameters += [("others", "true")] if others else []
        answer = await self.desk.fhir(
            record.visit, "[id]/$access-log", "Patient", record.subject.id, parameters=parameters
        )
        following = dict(next_page(answer.body)).get("_cursor", "")
        return read_log(answer.body, record.visit.requester.person), following


def next_page(bundle: dict[str, Any]) -> list[tuple[str, str]]:
    """What leads to the next page of a searchset; nothing at the end."""
    return [pair for pair in parse_qsl(urlsplit(cursor(bundle)).query) if pair[0] == "_cursor"]


def written(resource: dict[str, Any]) -> bytes:
    """A resource as JSON; decimals as exact as they were said."""
    return orjson.dumps(resource, default=lambda number: orjson.Fragment(str(number)))

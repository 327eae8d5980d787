"""Documents that patients add by themselves, and take back."""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Sequence
from datetime import date, timedelta
from typing import Any

from starlette.responses import Response
from starlette.routing import BaseRoute

from obieg.domain.own_documents import BYTES_MAX, KINDS, MEDIA, TITLE_MAX
from obieg.domain.problems import Problem
from obieg.web.patient_records import Document
from obieg.web.patient_shell import Record, Shell

# What a refusal of the node is about, as the form calls it.
_FIELDS = {"http.title": "title", "http.kind": "kind", "http.date": "date", "http.file": "file", "http": "number"}


class OwnPages:
    """Pages below ``documents``."""

    def __init__(self, shell: Shell) -> None:
        self._shell = shell

    @property
    def routes(self) -> Sequence[BaseRoute]:
        """For the node's web application."""
        page = self._shell.routes
        return (
            *page("/documents/add", get=self._form, post=self._add, file_bytes_max=BYTES_MAX),
            *page("/documents/{document}/withdraw", get=self._ask, post=self._withdraw),
        )

    async def _form(self, record: Record) -> Response:
        return self._show(record, ())

    def _show(self, record: Record, wrong: Sequence[str]) -> Response:
        """The form; what was typed stands in it again, but for the file."""
        return self._shell.show(
            record,
            "add",
            "documents",
            status=400 if wrong else 200,
            given=dict.fromkeys(("title", "kind", "date"), "") | record.fields,
            own_kinds=list(KINDS),
            accept=",".join(MEDIA),
            title_max=TITLE_MAX,
            mebibytes=BYTES_MAX // 1024**2,
            wrong=wrong,
        )

    async def _add(self, record: Record) -> Response:
        fields, file = record.fields, record.visit.file
        title, day = fields.get("title", "").strip(), fields.get("date", "")
        wrong = [
            *["title"] * (not 0 < len(title) <= TITLE_MAX),
            *["kind"] * (fields.get("kind") not in KINDS),
            *["date"] * (not _is_day(day, record.now.date())),
            *["large"] * (file is None),
            *["file"] * (file == b""),
        ]
        if wrong:
            return self._show(record, wrong)
        binary = {"resourceType": "Binary", "contentType": "application/octet-stream"}
        said: list[Any] = [
            {"name": "title", "valueString": title},
            {"name": "kind", "valueString": fields["kind"]},
            {"name": "date", "valueString": day},
            {"name": "file", "resource": {**binary, "data": b64encode(file or b"").decode()}},
        ]
        try:
            await self._operate(record, "[id]/$add-document", said)
        except Problem as problem:
            wrong = list(dict.fromkeys(_FIELDS[f.location] for f in problem.findings if f.location in _FIELDS))
            if not wrong:
                raise
            return self._show(record, wrong)
        return self._shell.go(record, "/documents?done=added")

    async def _own(self, record: Record) -> Document | None:
        wanted = record.visit.request.path_params["document"]
        found = await self._shell.documents(record)
        return next((d for d in found if d.id == wanted and d.own and d.current), None)

    async def _ask(self, record: Record) -> Response:
        """Whether it is really meant."""
        document = await self._own(record)
        if document is None:
            return self._shell.desk.missing(record.visit)
        return self._shell.show(record, "take_back", "documents", document=document)

    async def _withdraw(self, record: Record) -> Response:
        said = [{"name": "document", "valueString": record.visit.request.path_params["document"]}]
        await self._operate(record, "[id]/$withdraw-document", said)
        return self._shell.go(record, "/documents?done=taken_back")

    async def _operate(self, record: Record, operation: str, said: list[Any]) -> None:
        body = {"resourceType": "Parameters", "parameter": said}
        await self._shell.desk.fhir(record.visit, operation, "Patient", record.subject.id, body=body)


def _is_day(said: str, today: date) -> bool:
    try:
        return date(1900, 1, 1) <= date.fromisoformat(said) <= today + timedelta(days=1)
    except ValueError:
        return False

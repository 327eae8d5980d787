"""What patients write to facilities, and what these answer."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from starlette.responses import Response
from starlette.routing import BaseRoute

from obieg.domain.messaging import SUBJECT_MAX, TEXT_MAX
from obieg.web.messages import Thread, read_threads, said
from obieg.web.patient_shell import Record, Shell


class MessagePages:
    """Pages below ``messages``."""

    def __init__(self, shell: Shell) -> None:
        self._shell = shell

    @property
    def routes(self) -> Sequence[BaseRoute]:
        """For the node's web application."""
        page = self._shell.routes
        return (
            *page("/messages", get=self._threads, post=self._begin),
            *page("/messages/{thread}", get=self._thread, post=self._write),
            *page("/messages/{thread}/close", post=self._close),
        )

    async def _ask(self, record: Record, operation: str, *parts: dict[str, Any]) -> dict[str, Any]:
        body = {"resourceType": "Parameters", "parameter": list(parts)}
        answer = await self._shell.desk.fhir(record.visit, operation, "Patient", record.subject.id, body=body)
        return answer.body

    async def _threads(self, record: Record) -> Response:
        return await self._list(record, ())

    async def _list(self, record: Record, wrong: Sequence[str]) -> Response:
        """The threads, and the form by which one begins; what was typed stands in it again."""
        places = await self._places(record)
        threads = read_threads(await self._ask(record, "[id]/$messages"))
        return self._shell.show(
            record,
            "messages",
            "messages",
            status=400 if wrong else 200,
            threads=[_named(thread, places) for thread in threads],
            facilities=places,
            given=dict.fromkeys(("facility", "subject", "text"), "") | record.fields,
            subject_max=SUBJECT_MAX,
            text_max=TEXT_MAX,
            wrong=wrong,
        )

    async def _places(self, record: Record) -> dict[str, str]:
        """Facilities that have handed over documents: system|value, and what they are called."""
        found = await self._shell.documents(record)
        return {d.facility_id: d.facility for d in found if d.facility_id and d.facility}

    async def _begin(self, record: Record) -> Response:
        fields = {name: record.fields.get(name, "").strip() for name in ("facility", "subject", "text")}
        wrong = [
            *["facility"] * (fields["facility"] not in await self._places(record)),
            *["subject"] * (not 0 < len(fields["subject"]) <= SUBJECT_MAX),
            *["text"] * (not 0 < len(fields["text"]) <= TEXT_MAX),
        ]
        if wrong:
            return await self._list(record, wrong)
        system, _, value = fields["facility"].partition("|")
        await self._ask(
            record,
            "[id]/$send-message",
            {"name": "facility", "valueString": f"{system.removeprefix('urn:oid:')}#{value}"},
            {"name": "subject", "valueString": fields["subject"]},
            said(fields["text"]),
        )
        return self._shell.go(record, "/messages?done=sent")

    async def _thread(self, record: Record) -> Response:
        thread = {"name": "thread", "valueString": record.visit.request.path_params["thread"]}
        [found] = read_threads(await self._ask(record, "[id]/$messages", thread))
        named = _named(found, await self._places(record))
        return self._shell.show(record, "thread", "messages", thread=named, text_max=TEXT_MAX)

    async def _write(self, record: Record) -> Response:
        id_ = record.visit.request.path_params["thread"]
        text = record.fields.get("text", "").strip()[:TEXT_MAX]
        if text:
            await self._ask(record, "[id]/$send-message", {"name": "thread", "valueString": id_}, said(text))
        return self._shell.go(record, f"/messages/{id_}?done=sent")

    async def _close(self, record: Record) -> Response:
        id_ = record.visit.request.path_params["thread"]
        await self._ask(record, "[id]/$close-thread", {"name": "thread", "valueString": id_})
        return self._shell.go(record, f"/messages/{id_}?done=closed")


def _named(thread: Thread, places: dict[str, str]) -> Thread:
    """A facility that the directory does not know is called as its documents call it."""
    known = places.get(thread.facility_id, "")
    return thread._replace(facility=known) if known and (not thread.facility or "#" in thread.facility) else thread

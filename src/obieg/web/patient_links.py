"""Links to the health summary that patients hand out, with a QR code; a link is shown once, when it is made."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, NamedTuple

from starlette.responses import Response
from starlette.routing import BaseRoute

from obieg.domain.health_links import HOURS, HOURS_USUAL, LABEL_MAX, LINKS_MAX, TRIES_MAX, is_passcode
from obieg.web.patient_records import moment, values
from obieg.web.patient_shell import Record, Shell
from obieg.web.qr import picture


class Link(NamedTuple):
    """A link as its row shows it."""

    id: str
    label: str
    made_by: str
    made: datetime | None
    until: datetime | None
    ended: datetime | None
    blocked: bool
    opened: int
    last: datetime | None
    holds: bool


def read_links(parameters: Mapping[str, Any], now: datetime) -> list[Link]:
    """Of the answer of ``$shared-links``, the newest first."""
    found = []
    for given in parameters.get("parameter", ()):
        part = values(given["part"])
        until, ended, blocked = (
            moment(part.get("until", "")),
            moment(part.get("ended", "")),
            part.get("blocked") is True,
        )
        found.append(
            Link(
                part["id"],
                part.get("label", ""),
                part.get("madeBy", ""),
                moment(part.get("made", "")),
                until,
                ended,
                blocked,
                part.get("opened", 0),
                moment(part.get("lastOpened", "")),
                not ended and not blocked and until is not None and until > now,
            )
        )
    return found


class LinkPages:
    """Pages below ``share``."""

    def __init__(self, shell: Shell) -> None:
        self._shell = shell

    @property
    def routes(self) -> Sequence[BaseRoute]:
        """For the node's web application."""
        page = self._shell.routes
        return (
            *page("/share", get=self._show, post=self._make),
            *page("/share/end", post=self._end),
        )

    async def _show(self, record: Record) -> Response:
        return await self._form(record, ())

    async def _form(self, record: Record, wrong: Sequence[str]) -> Response:
        """The form and the links there are; what was typed stands in it again, but for the passcode."""
        answer = await self._shell.desk.fhir(record.visit, "[id]/$shared-links", "Patient", record.subject.id)
        links = read_links(answer.body, record.now)
        return self._shell.show(
            record,
            "share",
            "summary",
            status=400 if wrong else 200,
            links=links,
            full=sum(link.holds for link in links) >= LINKS_MAX,
            hours=HOURS,
            hours_usual=HOURS_USUAL,
            label_max=LABEL_MAX,
            tries=TRIES_MAX,
            given=dict.fromkeys(("hours", "label"), "") | record.fields,
            wrong=wrong,
        )

    async def _make(self, record: Record) -> Response:
        fields = record.fields
        passcode, hours = fields.get("passcode", "").replace(" ", ""), fields.get("hours", "")
        label = fields.get("label", "").strip()
        wrong = [
            *["passcode"] * (not is_passcode(passcode)),
            *["hours"] * (hours not in map(str, HOURS)),
            *["label"] * (len(label) > LABEL_MAX),
        ]
        if wrong:
            return await self._form(record, wrong)
        said = [
            {"name": "passcode", "valueString": passcode},
            {"name": "hours", "valueInteger": int(hours)},
            *([{"name": "label", "valueString": label}] if label else []),
        ]
        answer = await self._shell.desk.fhir(
            record.visit,
            "[id]/$share-summary",
            "Patient",
            record.subject.id,
            body={"resourceType": "Parameters", "parameter": said},
        )
        made = values(answer.body["parameter"])
        return self._shell.show(
            record,
            "shared",
            "summary",
            link=made["viewer"],
            qr=picture(made["viewer"]),
            until=moment(made["until"]),
            label=label,
            tries=TRIES_MAX,
        )

    async def _end(self, record: Record) -> Response:
        said = [{"name": "link", "valueString": record.fields.get("link", "")}]
        await self._shell.desk.fhir(
            record.visit,
            "[id]/$end-link",
            "Patient",
            record.subject.id,
            body={"resourceType": "Parameters", "parameter": said},
        )
        return self._shell.go(record, "/share?done=ended")

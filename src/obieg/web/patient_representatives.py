"""Who may act for the patient or see about them, and the end of an authorisation."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, NamedTuple

from starlette.responses import Response
from starlette.routing import BaseRoute

from obieg.domain.access import DECLARED
from obieg.web.patient_records import moment, values
from obieg.web.patient_shell import Record, Shell


class Representative(NamedTuple):
    """Somebody as a row shows them."""

    source: str
    kind: str  # guardian, authorised, informed, close; doctor, nurse, midwife
    name: str
    number: str  # by which they are known, root#extension; "": it is not shown
    place: str
    since: datetime | None
    until: datetime | None
    now: bool
    endable: bool

    @property
    def team(self) -> bool:
        """Whether they are of the chosen POZ team."""
        return self.kind in DECLARED


def read_representatives(parameters: Mapping[str, Any]) -> list[Representative]:
    """Of the answer of ``$representatives``: who sees now first, then by name."""
    found = []
    for given in parameters.get("parameter", ()):
        part = values(given["part"])
        who = part.get("who") or {}
        known = who.get("identifier", {})
        found.append(
            Representative(
                part["source"],
                part["kind"],
                who.get("display", ""),
                f"{known['system'].removeprefix('urn:oid:')}#{known['value']}" if known else "",
                part.get("place", ""),
                moment(part.get("since", "")),
                moment(part.get("until", "")),
                part["now"],
                part["endable"],
            )
        )
    return sorted(found, key=lambda one: (not one.now, one.name, one.kind))


class RepresentativePages:
    """Pages below ``permissions/representatives``."""

    def __init__(self, shell: Shell) -> None:
        self._shell = shell

    @property
    def routes(self) -> Sequence[BaseRoute]:
        """For the node's web application."""
        page = self._shell.routes
        return (
            *page("/permissions/representatives", get=self._list),
            *page("/permissions/representatives/end", get=self._ask, post=self._end),
        )

    async def _found(self, record: Record) -> list[Representative]:
        answer = await self._shell.desk.fhir(record.visit, "[id]/$representatives", "Patient", record.subject.id)
        return read_representatives(answer.body)

    async def _list(self, record: Record) -> Response:
        found = await self._found(record)
        return self._shell.show(
            record,
            "representatives",
            "permissions",
            seeing=sum(one.now for one in found),
            people_near=[one for one in found if not one.team],
            team=[one for one in found if one.team],
        )

    async def _ask(self, record: Record) -> Response:
        """Whether it is really meant: who it is stands there once more."""
        asked = record.query
        found = next((r for r in await self._found(record) if _is(r, asked)), None)
        if found is None:
            return self._shell.desk.missing(record.visit)
        return self._shell.show(record, "end_authorisation", "permissions", one=found)

    async def _end(self, record: Record) -> Response:
        said = [{"name": name, "valueString": record.fields.get(name, "")} for name in ("source", "kind")]
        await self._shell.desk.fhir(
            record.visit,
            "[id]/$end-authorisation",
            "Patient",
            record.subject.id,
            body={"resourceType": "Parameters", "parameter": said},
        )
        return self._shell.go(record, "/permissions/representatives?done=ended")


def _is(one: Representative, asked: Mapping[str, str]) -> bool:
    return one.endable and (one.source, one.kind) == (asked.get("source", ""), asked.get("kind", ""))

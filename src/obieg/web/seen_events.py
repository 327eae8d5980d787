"""Medical events (ZM) beside documents, as pages show them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, NamedTuple

from obieg.domain.problems import Problem, RetryLater
from obieg.domain.zone import WARSAW
from obieg.web.desk import Desk, Visit


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """An event of the timeline."""

    id: str
    name: str  # what kind it is
    when: str  # the moment in Poland, as FHIR writes it
    facility: str
    professional: str
    diagnoses: tuple[tuple[str, str], ...]  # code and name
    kind: str = "event"

    @property
    def year(self) -> str:
        """In which it stands on the timeline."""
        return self.when[:4]


class SeenEvents(NamedTuple):
    """What there is now; ``connected``: whether there is a source at all, ``answered``: whether it has answered."""

    events: Sequence[Event] = ()
    connected: bool = True
    answered: bool = True


async def seen_events(desk: Desk, visit: Visit, patient: str) -> SeenEvents:
    """Asks for them in the name of who visits."""
    if not desk.serves("[id]/$medical-events", "Patient"):
        return SeenEvents(connected=False)
    try:
        answer = await desk.fhir(visit, "[id]/$medical-events", "Patient", patient)
    except (Problem, RetryLater):
        return SeenEvents(answered=False)
    given = answer.body.get("parameter", ())
    answered = any(p["name"] == "answered" and p["valueBoolean"] for p in given)
    return SeenEvents([_event(p["resource"]) for p in given if p["name"] == "event"], answered=answered)


def _event(encounter: Mapping[str, Any]) -> Event:
    kind, provider = encounter["class"], encounter.get("serviceProvider", {})
    doer: Mapping[str, Any] = next((each["individual"] for each in encounter.get("participant", ())), {})
    codings = [coding for reason in encounter.get("reasonCode", ()) for coding in reason["coding"]]
    return Event(
        id=encounter["identifier"][0]["value"],
        name=kind.get("display", "") or kind["code"],
        when=datetime.fromisoformat(encounter["period"]["start"]).astimezone(WARSAW).isoformat(timespec="minutes"),
        facility=provider.get("display", "") or provider.get("identifier", {}).get("value", ""),
        professional=doer.get("display", "") or doer.get("identifier", {}).get("value", ""),
        diagnoses=tuple((coding["code"], coding.get("display", "")) for coding in codings),
    )

"""Medical events between FHIR and the domain: P1's profile PLMedicalEvent of Encounter, with Conditions.

Standing: seen in two clients of P1 (profile, OIDs below the national root); P1's own documents were not to be had.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import datetime
from typing import Any

from obieg.codes.load import toml
from obieg.domain.identifiers import OID
from obieg.domain.medical_events import EVENTS_MAX, Diagnosis, EventsAsked, MedicalEvent, MedicalEvents
from obieg.mapping.emergency import named
from obieg.mapping.fhir_parameters import arguments
from obieg.protocol import FhirReply, FhirRequest

_TABLE = toml("national/pl/medical_events.toml")
_TEXT_MAX = 300


def read_bundle(bundle: Mapping[str, Any]) -> list[MedicalEvent]:
    """Of a searchset; an entry that says neither what it is nor when is left out."""
    resources = [e["resource"] for e in _list(bundle, "entry") if isinstance(e.get("resource"), dict)]
    diagnoses: dict[str, list[Diagnosis]] = {}
    for condition in (r for r in resources if r.get("resourceType") == "Condition"):
        about = _text(_dict(condition, "encounter"), "reference").rpartition("/")[2]
        for coding in _list(_dict(condition, "code"), "coding"):
            if coding.get("system") == _TABLE["diagnosis"]:
                diagnoses.setdefault(about, []).append(Diagnosis(_text(coding, "code"), _text(coding, "display")))
    encounters = [r for r in resources if r.get("resourceType") == "Encounter"][:EVENTS_MAX]
    return [event for each in encounters for event in _event(each, diagnoses.get(_text(each, "id"), []))]


def _event(encounter: Mapping[str, Any], diagnoses: list[Diagnosis]) -> Iterator[MedicalEvent]:
    period, kind = _dict(encounter, "period"), _dict(encounter, "class")
    begin, end = _moment(_text(period, "start")), _moment(_text(period, "end"))
    name = next(filter(None, map(_identifier, _list(encounter, "identifier"))), "")
    if begin is None or not name or _text(encounter, "status") in ("entered-in-error", "cancelled"):
        return
    provider = _dict(encounter, "serviceProvider")
    doers = [_dict(each, "individual") for each in _list(encounter, "participant")]
    doer = next((each for each in doers if each), {})
    labels = _list(_dict(encounter, "meta"), "security")
    yield MedicalEvent(
        id=name,
        kind=_text(kind, "code"),
        kind_name=_text(kind, "display"),
        begin=begin,
        end=end,
        facility=_identifier(_dict(provider, "identifier")),
        facility_name=_text(provider, "display"),
        professional=_identifier(_dict(doer, "identifier")),
        professional_name=_text(doer, "display"),
        labels=tuple(filter(None, (_text(label, "code") for label in labels))),
        diagnoses=tuple(diagnoses),
    )


def read_request(request: FhirRequest) -> EventsAsked:
    """Whose events are asked for; raises Problem."""
    arguments(request)
    return EventsAsked(named(request))


def write_events(found: MedicalEvents, _request: FhirRequest) -> FhirReply:
    """Parameters: ``answered``, and ``event`` with an Encounter for each."""
    listed: list[dict[str, Any]] = [
        {"name": "answered", "valueBoolean": found.answered},
        *({"name": "event", "resource": _encounter(event)} for event in found.events),
    ]
    return FhirReply(body={"resourceType": "Parameters", "parameter": listed})


def _encounter(event: MedicalEvent) -> dict[str, Any]:
    period = {"start": event.begin.isoformat(), **({"end": event.end.isoformat()} if event.end else {})}
    written: dict[str, Any] = {
        "resourceType": "Encounter",
        "meta": {"profile": [_TABLE["profile"]]},
        "identifier": [_written(event.id)],
        "status": "finished",
        "class": {"system": _TABLE["kind"], "code": event.kind or "?"},
        "period": period,
    }
    if event.kind_name:
        written["class"]["display"] = event.kind_name
    for name, identifier, display in (
        ("serviceProvider", event.facility, event.facility_name),
        ("participant", event.professional, event.professional_name),
    ):
        who = {
            **({"identifier": _written(identifier)} if identifier else {}),
            **({"display": display} if display else {}),
        }
        if who:
            written[name] = who if name == "serviceProvider" else [{"individual": who}]
    if event.diagnoses:
        written["reasonCode"] = [
            {"coding": [{"system": _TABLE["diagnosis"], "code": d.code, **({"display": d.name} if d.name else {})}]}
            for d in event.diagnoses
        ]
    return written


def _written(identifier: str) -> dict[str, str]:
    root, _, extension = identifier.rpartition("#")
    return {"system": f"urn:oid:{root}", "value": extension}


def _identifier(said: Mapping[str, Any]) -> str:
    root, value = _text(said, "system").removeprefix("urn:oid:"), _text(said, "value")
    return f"{root}#{value}" if OID.match(root) and value and "#" not in value else ""


def _moment(text: str) -> datetime | None:
    try:
        found = datetime.fromisoformat(text)
    except ValueError:
        return None
    return found if found.tzinfo is not None else None


def _dict(said: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    found = said.get(name)
    return found if isinstance(found, dict) else {}


def _list(said: Mapping[str, Any], name: str) -> list[Mapping[str, Any]]:
    found = said.get(name)
    return [each for each in found if isinstance(each, dict)] if isinstance(found, list) else []


def _text(said: Mapping[str, Any], name: str) -> str:
    found = said.get(name)
    return "".join(c for c in found[:_TEXT_MAX] if c.isprintable()) if isinstance(found, str) else ""

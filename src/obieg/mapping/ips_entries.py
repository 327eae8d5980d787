"""Statements of a summary as FHIR R4 resources of the IPS (http://hl7.org/fhir/uv/ips).

What a source does not say is not made up: where FHIR wants an element that no source speaks of, it says so with a
data-absent-reason or the code for "unknown". Codes and words for which a resource has no place stand in its notes.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from typing import Any
from zoneinfo import ZoneInfo

from obieg.codes.load import toml
from obieg.domain.summary import Coding, Concept, Measure, Span, Statement
from obieg.wire.fhir_elements import Exact

_TABLE = toml("cda_sections.toml")
_FHIR = _TABLE["fhir"]
_KINDS = _TABLE["kinds"]
_WARSAW = ZoneInfo(toml("national/pl/pik.toml")["defaults"]["time_zone"])
_NUMBER = re.compile(r"-?(0|[1-9]\d*)(\.\d+)?\Z", re.ASCII)
_UNIT = re.compile(r"[^\s{}]{1,40}\Z")
_UNKNOWN = "unknown"
_NO_DATE = "data nieznana"
DENIED = "Źródło zaprzecza: "


def write_entry(statement: Statement, subject: dict[str, str]) -> dict[str, Any]:
    """The resource, without id."""
    kind = statement.kind
    resource: dict[str, Any] = {"resourceType": _KINDS[kind]["resource"]}
    if statement.sources:
        resource["meta"] = {"source": f"urn:uuid:{statement.sources[0].entry_uuid}"}
    resource |= _WRITERS[kind](statement, subject)
    # An Encounter has no notes in R4: what they would say stands in the section's narrative.
    if statement.kind != "encounter" and (notes := list(_notes(statement))):
        resource["note"] = [{"text": text} for text in notes]
    return resource


def write_absent(resource: str, code: str, display: str, subject: dict[str, str]) -> dict[str, Any]:
    """The resource that says that nothing is known: never that there is nothing."""
    known: dict[str, Any] = {"coding": [{"system": _FHIR["absent_unknown"], "code": code, "display": display}]}
    if resource == "MedicationStatement":
        return {
            "resourceType": resource,
            "status": _UNKNOWN,
            "medicationCodeableConcept": known,
            "subject": subject,
            "_effectiveDateTime": absent(),
        }
    who = "patient" if resource == "AllergyIntolerance" else "subject"
    return {"resourceType": resource, "clinicalStatus": absent(), "code": known, who: subject}


def absent(reason: str = _UNKNOWN) -> dict[str, Any]:
    """The element that stands for one of which nothing is known."""
    return {"extension": [{"url": _FHIR["data_absent"], "valueCode": reason}]}


def fhir_time(dtm: str) -> str:
    """DTM in UTC as dateTime."""
    day = "-".join(filter(None, (dtm[:4], dtm[4:6], dtm[6:8])))
    if len(dtm) <= 8:
        return day
    return f"{day}T{dtm[8:10]}:{dtm[10:12] or '00'}:{dtm[12:14] or '00'}Z"


def shown_time(dtm: str) -> str:
    """DTM in UTC as people in Poland write it."""
    if len(dtm) < len("202401010000"):
        return fhir_time(dtm[:8])
    moment = datetime.strptime(dtm[:12], "%Y%m%d%H%M").replace(tzinfo=UTC).astimezone(_WARSAW)
    return moment.strftime("%Y-%m-%d %H:%M")


def coding(value: Coding) -> dict[str, str]:
    """Coding."""
    said = {"system": value.system, "code": value.code, "display": value.display}
    return {name: text for name, text in said.items() if text}


def concept(value: Concept) -> dict[str, Any]:
    """CodeableConcept."""
    said: dict[str, Any] = {}
    if value.codings:
        said["coding"] = [coding(c) for c in value.codings]
    if value.text:
        said["text"] = value.text
    return said or absent()


def describe(measure: Measure) -> str:
    """A value for people."""
    if measure.concept is not None:
        return measure.concept.name
    if measure.kind in ("range", "time"):
        ends = [shown_time(e) if measure.kind == "time" else e for e in (measure.low, measure.high)]
        low, high = ends
        shown = low if low == high else f"{low or '…'} do {high or '…'}"
    elif measure.kind == "boolean":
        shown = {"true": "tak", "false": "nie"}.get(measure.value, measure.value)
    else:
        shown = measure.value
    return f"{shown} {measure.unit}".strip()


def describe_concept(value: Concept) -> str:
    """A concept for people, with all its codes."""
    codes = "; ".join(f"{c.code} ({c.system})" if c.system else c.code for c in value.codings)
    return f"{value.name} [{codes}]" if codes and value.name != codes else value.name


def _notes(statement: Statement) -> Iterable[str]:
    if statement.words and statement.words not in (statement.concept.text, statement.dosage):
        yield statement.words
    for detail in statement.details:
        yield describe_concept(detail)
    if statement.kind not in ("result", "vital_sign", "observation"):
        yield from (describe(value) for value in (*statement.values, *statement.ranges))
        yield from (describe_concept(c) for c in statement.interpretations)
    else:
        yield from (describe(value) for value in statement.values[1:])
    if statement.kind not in ("medication", "immunization"):
        if statement.route is not None:
            yield describe_concept(statement.route)
        if statement.dose is not None:
            yield describe(statement.dose)
        if statement.lot:
            yield f"Nr serii: {statement.lot}"


def _when(statement: Statement, name: str, *, needed: bool = False) -> dict[str, Any]:
    """``nameDateTime`` or ``namePeriod``."""
    low, high = statement.time.low, statement.time.high
    if low and low == high:
        return {f"{name}DateTime": fhir_time(low)}
    if low or high:
        return {f"{name}Period": _period(statement.time)}
    return {f"_{name}DateTime": absent()} if needed else {}


def _period(span: Span) -> dict[str, str]:
    ends = {"start": span.low, "end": span.high}
    if span.low and span.high and fhir_time(span.high) < fhir_time(span.low):
        ends = {"start": span.low}  # a source's slip: an interval that ends before it begins is no Period
    return {name: fhir_time(dtm) for name, dtm in ends.items() if dtm}


def _recorded(statement: Statement) -> str:
    """When a source said so first."""
    return fhir_time(min((s.created_at for s in statement.sources if s.created_at), default=""))


def _status(system: str, code: str) -> dict[str, Any]:
    return {"coding": [{"system": system, "code": code}]} if code else absent()


def _put(target: dict[str, Any], **values: Any) -> dict[str, Any]:
    return target | {name: value for name, value in values.items() if value}


def _condition(s: Statement, subject: dict[str, str]) -> dict[str, Any]:
    over = s.time.high and s.time.high != s.time.low
    clinical = s.status or ("resolved" if over else "")
    resource: dict[str, Any] = {"clinicalStatus": _status(_FHIR["condition_clinical"], clinical)}
    if s.negated:
        resource["verificationStatus"] = _status(_FHIR["condition_verification"], "refuted")
    resource["category"] = [_status(_FHIR["condition_category"], "problem-list-item")]
    resource |= {"code": concept(s.concept), "subject": subject}
    ended = fhir_time(s.time.high) if over and clinical in ("resolved", "inactive", "remission") else ""
    return _put(resource, onsetDateTime=fhir_time(s.time.low), abatementDateTime=ended, recordedDate=_recorded(s))


def _allergy(s: Statement, subject: dict[str, str]) -> dict[str, Any]:
    resource: dict[str, Any] = {"clinicalStatus": _status(_FHIR["allergy_clinical"], s.status)}
    if s.negated:
        resource["verificationStatus"] = _status(_FHIR["allergy_verification"], "refuted")
    reactions = [
        _put({"manifestation": [concept(reaction.manifestation)]}, severity=reaction.severity)
        for reaction in s.reactions
    ]
    resource = _put(resource, criticality=s.criticality) | {"code": concept(s.concept), "patient": subject}
    return _put(resource, onsetDateTime=fhir_time(s.time.low), recordedDate=_recorded(s), reaction=reactions)


def _medication(s: Statement, subject: dict[str, str]) -> dict[str, Any]:
    dosage = _put({}, text=s.dosage, route=concept(s.route) if s.route is not None else None)
    amount = _quantity(s.dose) if s.dose is not None else None
    if amount:
        dosage["doseAndRate"] = [{"doseQuantity": amount}]
    resource = {"status": s.status or _UNKNOWN, "medicationCodeableConcept": concept(s.concept), "subject": subject}
    resource |= _when(s, "effective", needed=True)
    return _put(resource, dateAsserted=_recorded(s), dosage=[dosage] if dosage else None)


def _immunization(s: Statement, subject: dict[str, str]) -> dict[str, Any]:
    resource: dict[str, Any] = {"status": "not-done" if s.negated else "completed"}
    resource |= {"vaccineCode": concept(s.concept), "patient": subject}
    given = s.time.low or s.time.high
    resource |= {"occurrenceDateTime": fhir_time(given)} if given else {"occurrenceString": _NO_DATE}
    amount = _quantity(s.dose) if s.dose is not None else None
    route = concept(s.route) if s.route is not None else None
    return _put(resource, recorded=_recorded(s), lotNumber=s.lot, route=route, doseQuantity=amount)


def _procedure(s: Statement, subject: dict[str, str]) -> dict[str, Any]:
    resource = {"status": "not-done" if s.negated else "completed", "code": concept(s.concept), "subject": subject}
    return resource | _when(s, "performed", needed=True)


def _observation(s: Statement, subject: dict[str, str]) -> dict[str, Any]:
    resource: dict[str, Any] = {"status": "final"}
    if category := _KINDS[s.kind].get("category"):
        resource["category"] = [_status(_FHIR["observation_category"], category)]
    resource |= {"code": concept(s.concept), "subject": subject}
    resource |= _when(s, "effective", needed=True)
    performers = [{"display": source.author} for source in s.sources if source.author]
    resource["performer"] = performers or [absent()]
    if s.negated and s.values:  # R4 has no observation that something is not so
        denied = s.values[0]
        said = describe_concept(denied.concept) if denied.concept is not None else describe(denied)
        return resource | {"valueString": DENIED + said}
    if s.negated:
        return resource | {"dataAbsentReason": _status(_FHIR["absent_value"], "not-performed")}
    resource |= _value(s.values[0]) if s.values else {}
    interpretations = [concept(c) for c in s.interpretations]
    ranges = [r for r in map(_reference_range, s.ranges) if r]
    return _put(resource, interpretation=interpretations, referenceRange=ranges)


def _device(s: Statement, subject: dict[str, str]) -> dict[str, Any]:
    device = {"resourceType": "Device", "id": "device", "type": concept(s.concept), "patient": subject}
    # R4 has no status for a device that was not used but this one.
    status = "entered-in-error" if s.negated else "active"
    resource: dict[str, Any] = {"contained": [device], "status": status, "subject": subject}
    return resource | _when(s, "timing", needed=True) | {"device": {"reference": "#device"}}


def _encounter(s: Statement, subject: dict[str, str]) -> dict[str, Any]:
    kind = {"system": _FHIR["act_code"], "code": "IMP", "display": "inpatient encounter"} if s.inpatient else absent()
    resource = {"status": "finished", "class": kind, "serviceType": concept(s.concept), "subject": subject}
    return _put(resource, period=_period(s.time))


def _order(s: Statement, subject: dict[str, str]) -> dict[str, Any]:
    resource: dict[str, Any] = {"status": _UNKNOWN, "intent": "order", "code": concept(s.concept), "subject": subject}
    if s.negated:
        resource["doNotPerform"] = True
    return _put(resource | _when(s, "occurrence"), authoredOn=_recorded(s))


def _device_order(s: Statement, subject: dict[str, str]) -> dict[str, Any]:
    resource = {"status": _UNKNOWN, "intent": "order", "codeCodeableConcept": concept(s.concept), "subject": subject}
    return _put(resource | _when(s, "occurrence"), authoredOn=_recorded(s))


_WRITERS = {
    "condition": _condition,
    "allergy": _allergy,
    "medication": _medication,
    "immunization": _immunization,
    "procedure": _procedure,
    "device": _device,
    "result": _observation,
    "vital_sign": _observation,
    "observation": _observation,
    "encounter": _encounter,
    "order": _order,
    "device_order": _device_order,
}


def _value(measure: Measure) -> dict[str, Any]:
    if measure.concept is not None:
        return {"valueCodeableConcept": concept(measure.concept)}
    if measure.kind == "quantity" and (quantity := _quantity(measure)):
        return {"valueQuantity": quantity}
    if measure.kind == "range" and (ends := _ends(measure)):
        if len(ends) == 2:
            return {"valueRange": ends}
        [(end, quantity)] = ends.items()
        return {"valueQuantity": quantity | {"comparator": ">=" if end == "low" else "<="}}
    if measure.kind == "time" and (measure.low or measure.high):
        moment = measure.low == measure.high
        return (
            {"valueDateTime": fhir_time(measure.low)}
            if moment
            else {"valuePeriod": _period(Span(measure.low, measure.high))}
        )
    if measure.kind == "boolean" and measure.value in ("true", "false"):
        return {"valueBoolean": measure.value == "true"}
    text = describe(measure)
    return {"valueString": text} if text else {}


def _reference_range(measure: Measure) -> dict[str, Any]:
    ends = _ends(measure)
    text = "" if ends else describe(measure)
    return dict(ends) | ({"text": text} if text else {})


def _ends(measure: Measure) -> dict[str, Any]:
    ends = {"low": measure.low, "high": measure.high}
    return {name: q for name, value in ends.items() if (q := _quantity(Measure("", value, measure.unit)))}


def _quantity(measure: Measure) -> dict[str, Any]:
    """Quantity; {} where the source's number is none."""
    value = measure.value.lstrip("+")
    if not _NUMBER.match(value):
        return {}
    quantity: dict[str, Any] = {"value": Exact(value)}
    if measure.unit:
        quantity["unit"] = measure.unit
        if _UNIT.match(measure.unit):
            quantity |= {"system": _FHIR["units"], "code": measure.unit}
    return quantity


def joined(texts: Sequence[str]) -> str:
    """What is there, with semicolons between."""
    return "; ".join(text for text in texts if text)

"""What is given out at the counter, over FHIR: ``Patient/[id]/$handout-code`` and ``$handout`` (docs/access.md)."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any

from obieg.domain.consent_codes import CodeSent
from obieg.domain.handouts import HandedOut, HandoutAsked, HandoutCodeAsked
from obieg.domain.problems import Finding, Problem
from obieg.mapping.access_log import events
from obieg.mapping.consent import write_consent
from obieg.mapping.consent_code import CODE, UUID, write_sent
from obieg.mapping.emergency import named
from obieg.mapping.fhir_parameters import arguments
from obieg.mapping.representatives import write_entitled
from obieg.protocol import FhirReply, FhirRequest
from obieg.wire import fhir_json

_PERSON = re.compile(r"[0-9.]{1,64}#[^\s#]{1,64}\Z", re.ASCII)


def read_request(request: FhirRequest) -> HandoutCodeAsked | HandoutAsked:
    """What is asked; raises Problem with everything that is wrong with it."""
    patient = named(request)
    given = {name: (said[0] if said else "") for name, said in arguments(request).items()}
    findings = []
    stands = given["stands"]
    if stands and not _PERSON.match(stands):
        findings.append(Finding("DataTypeError", "root#extension is expected: who stands there", "http.stands"))
    if "code" in request.interaction:
        if findings:
            raise Problem(findings)
        return HandoutCodeAsked(patient, stands)
    code = given["code"].replace(" ", "")
    if not given["document"]:
        if not UUID.match(given["request"]):
            said = "the request that $handout-code answered with, or the document that was looked at"
            findings.append(Finding("DataTypeError", said, "http.request"))
        if not CODE.match(code):
            findings.append(Finding("DataTypeError", "six digits are expected", "http.code"))
    if findings:
        raise Problem(findings)
    return HandoutAsked(patient, stands, given["request"], code, given["document"], given["reason"], request.base)


def write_answer(made: CodeSent | HandedOut, _request: FhirRequest) -> FhirReply:
    """By which request the code is told; or Parameters with what is given out, each kind as its operation has it."""
    if isinstance(made, CodeSent):
        return write_sent(made)
    listed: list[dict[str, Any]] = [
        {"name": "stands", "valueString": made.stands},
        {"name": "bases", "valueString": ",".join(made.bases)},
        {"name": "confirmed", "valueCode": made.confirmed},
        {"name": "more", "valueBoolean": made.more},
        {"name": "documents", "resource": _bundle(fhir_json.read(each) for each in made.documents)},
        {"name": "consents", "resource": _bundle(write_consent(each) for each in made.consents)},
        {"name": "log", "resource": _bundle(events(made.log))},
        {"name": "entitled", "resource": write_entitled(made.entitled)},
    ]
    if made.summary:
        listed.append({"name": "summary", "resource": fhir_json.read(made.summary)})
    kept = [each for each in listed if each.get("valueString") != ""]
    return FhirReply(body={"resourceType": "Parameters", "parameter": kept})


def _bundle(resources: Iterable[dict[str, Any]]) -> dict[str, Any]:
    entries = [{"resource": each} for each in resources]
    return {"resourceType": "Bundle", "type": "collection", **({"entry": entries} if entries else {})}

"""SMART Health Links: what a patient asks over FHIR (ours), the link itself, and what whoever has it asks (STU 1).

https://hl7.org/fhir/uv/smart-health-cards-and-links/STU1/links-specification.html
"""

from __future__ import annotations

import re
from base64 import urlsafe_b64encode
from collections.abc import Sequence
from typing import Any

import msgspec
import orjson

from obieg.codes.load import toml
from obieg.domain.health_links import (
    HOURS,
    HOURS_USUAL,
    LABEL_MAX,
    RECIPIENT_MAX,
    TRIES_MAX,
    VIEWER,
    FileAsked,
    Link,
    LinkAsked,
    LinkMade,
    LinksAsked,
    Manifest,
    Opening,
    WrongPasscode,
    is_passcode,
)
from obieg.domain.problems import Finding, Problem
from obieg.mapping.emergency import named
from obieg.mapping.fhir_parameters import arguments
from obieg.mapping.fhir_patient import instant
from obieg.protocol import FhirReply, FhirRequest, LinkReply, LinkRequest

JSON, JOSE, FHIR = "application/json", "application/jose", "application/fhir+json"
_PROBLEMS = toml("problems.toml")
_SECRET = re.compile(r"[A-Za-z0-9_-]{43}\Z")
_UUID = re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}\Z")


# what a patient asks -------------------------------------------------------------------------------------------------


def read_request(request: FhirRequest) -> LinkAsked | LinksAsked:
    """What is asked; raises Problem with everything that is wrong with it."""
    patient, given = named(request), arguments(request)
    if "shared" in request.interaction:
        return LinksAsked(patient)
    if "end" in request.interaction:
        if not _UUID.match(given["link"][0]):
            raise Problem.of("DataTypeError", "the link of $shared-links is expected", "http.link")
        return LinksAsked(patient, end=given["link"][0])
    hours = given["hours"][0] if given["hours"] else HOURS_USUAL
    label = " ".join("".join(given["label"]).split())
    findings = []
    if not is_passcode(given["passcode"][0]):
        said = "6 to 12 digits, three different ones at least"
        findings.append(Finding("RuleBroken", said, "http.passcode"))
    if hours not in HOURS:
        findings.append(Finding("RuleBroken", f"one of {', '.join(map(str, HOURS))} hours", "http.hours"))
    if len(label) > LABEL_MAX:
        findings.append(Finding("LimitExceeded", f"at most {LABEL_MAX} characters", "http.label"))
    if findings:
        raise Problem(findings)
    base = request.base.removesuffix("/fhir")
    return LinkAsked(patient, given["passcode"][0], hours, label, base)


def write_answer(result: LinkMade | Sequence[Link] | None, request: FhirRequest) -> FhirReply:
    """Parameters: the link that was made, or ``link`` for each; nothing of one that was ended."""
    if result is None:
        return FhirReply(status=204)
    if isinstance(result, LinkMade):
        uri = shlink(result)
        parameters = [
            {"name": "id", "valueString": result.id},
            {"name": "link", "valueString": uri},
            {"name": "viewer", "valueString": f"{request.base.removesuffix('/fhir')}{VIEWER}#{uri}"},
            {"name": "until", "valueInstant": instant(result.until)},
        ]
        return FhirReply(body={"resourceType": "Parameters", "parameter": parameters}, status=201)
    body: dict[str, Any] = {"resourceType": "Parameters"}
    if result:
        body["parameter"] = [{"name": "link", "part": _parts(link)} for link in result]
    return FhirReply(body=body)


def shlink(made: LinkMade) -> str:
    """The link as it is handed out, with its key (Construct a SMART Health Link Payload).

    It holds to what was true when it was made, so it is no long-term link (``L``); it wants a passcode (``P``).
    """
    payload = {
        "url": made.url,
        "key": made.key,
        "exp": int(made.until.timestamp()),
        "flag": "P",
        "label": made.label,
        "v": 1,
    }
    payload = {name: value for name, value in payload.items() if value != ""}
    return f"shlink:/{urlsafe_b64encode(orjson.dumps(payload)).decode().rstrip('=')}"


def _parts(link: Link) -> list[dict[str, Any]]:
    said: dict[str, tuple[str, Any]] = {
        "id": ("String", link.id),
        "label": ("String", link.label),
        "madeBy": ("String", link.made_by),
        "made": ("Instant", instant(link.made_at)),
        "until": ("Instant", instant(link.until)),
        "ended": ("Instant", instant(link.ended_at) if link.ended_at else ""),
        "blocked": ("Boolean", link.tries >= TRIES_MAX),
        "opened": ("UnsignedInt", link.opened),
        "lastOpened": ("Instant", instant(link.opened_at) if link.opened_at else ""),
    }
    return [{"name": name, f"value{kind}": value} for name, (kind, value) in said.items() if value != ""]


# what whoever has a link asks ---------------------------------------------------------------------------------------


class _Asked(msgspec.Struct, frozen=True):
    """The body of a manifest request; what is not known is left out of account."""

    recipient: str
    passcode: str = ""
    embeddedLengthMax: int | None = None  # noqa: N815 - the specification's


def read_opening(request: LinkRequest) -> Opening | FileAsked:
    """A manifest request, or one for a file that a manifest named; raises Problem."""
    secret, *rest = request.path or ("",)
    if not _SECRET.match(secret) or len(rest) > 1 or not all(map(_SECRET.match, rest)):
        raise Problem.of("AddressNotFound", "there is no such link, or none any more")
    if request.method != ("GET" if rest else "POST"):
        said = "files are read by GET" if rest else "a manifest is asked for by POST, with recipient and passcode"
        raise Problem.of("MethodNotAllowed", said)
    if rest:
        return FileAsked(secret, rest[0])
    try:
        asked = msgspec.json.decode(request.body, type=_Asked)
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise Problem.of("MessageNotReadable", f"a manifest request is expected: {error}", "http") from None
    recipient = " ".join("".join(c if c.isprintable() else " " for c in asked.recipient).split())
    if not recipient:
        raise Problem.of("RequiredFieldMissing", "say who asks: the patient is shown it", "http.recipient")
    if len(recipient) > RECIPIENT_MAX or len(asked.passcode) > RECIPIENT_MAX:
        raise Problem.of("LimitExceeded", f"at most {RECIPIENT_MAX} characters", "http.recipient")
    return Opening(secret, recipient, asked.passcode, asked.embeddedLengthMax, request.base)


def write_opening(result: Manifest | WrongPasscode | bytes, _request: LinkRequest) -> LinkReply:
    """The manifest, the file, or how many passcodes may still be tried (401)."""
    if isinstance(result, bytes):
        return LinkReply(content_type=JOSE, body=result)
    if isinstance(result, WrongPasscode):
        return LinkReply(content_type=JSON, body=orjson.dumps({"remainingAttempts": result.left}), status=401)
    file = {"contentType": FHIR, "lastUpdated": instant(result.made_at), "status": "finalized", "fhirVersion": "4.0.1"}
    file |= {"location": result.location} if result.location else {"embedded": result.file.decode("ascii")}
    return LinkReply(content_type=JSON, body=orjson.dumps({"files": [file]}))


def refuse(findings: Sequence[Finding], _request: LinkRequest | None = None) -> LinkReply:
    """What is said in place of an answer; the status is that of the first finding that is no warning."""
    worst = next((f for f in findings if not f.warning), findings[0])
    said = {"errors": [{"code": f.code, "detail": f.detail} for f in findings]}
    return LinkReply(content_type=JSON, body=orjson.dumps(said), status=_PROBLEMS[worst.code]["http"])

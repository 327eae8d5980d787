"""DSUBm over FHIR R4: subscriptions, topics and notifications as the Subscriptions R5 Backport writes them.

https://profiles.ihe.net/ITI/DSUBm/ITI-110.html to ITI-114.html, http://hl7.org/fhir/uv/subscriptions-backport/. A
SubscriptionStatus is a Parameters, a SubscriptionTopic a Basic; ``codes/subscription_topics.toml`` has the topics.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import parse_qsl

import msgspec
import orjson

from obieg.codes.load import toml
from obieg.domain.audit import AuditObject
from obieg.domain.documents import Value
from obieg.domain.identifiers import PatientId
from obieg.domain.problems import Finding, Problem, RetryLater
from obieg.domain.queries import DocumentSearch
from obieg.domain.registry import FoundResource
from obieg.domain.subscriptions import (
    HANDSHAKE,
    DocumentSubscription,
    Notice,
    SubscriptionDraft,
    SubscriptionSearch,
)
from obieg.mapping.fhir_bundle import searchset
from obieg.mapping.fhir_documents import RESOURCE_OF, splice
from obieg.mapping.fhir_parameters import COUNT_MAX, Search, arguments, plain, search, token
from obieg.mapping.fhir_patient import instant, patient_value
from obieg.mapping.mhd_search import filters
from obieg.protocol import FhirReply, FhirRequest, Sending
from obieg.wire import fhir_json, fhir_xml

TABLE = toml("subscription_topics.toml")
CANONICAL: str = TABLE["canonical"]
TOPICS: dict[str, dict[str, Any]] = {CANONICAL + name: {"name": name, **row} for name, row in TABLE["topic"].items()}
PAGE = 100
EVENTS_MAX = 200  # told by one answer of $events
HEADERS_MAX = 20
_EXTENSIONS: dict[str, str] = TABLE["extensions"]
_PROFILES: dict[str, str] = TABLE["profiles"]
_UUID = re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}\Z")
_HEADER = re.compile(r"([!#$%&'*+.^_`|~0-9A-Za-z-]{1,100}):[ \t]*([\x20-\x7e\t]{0,2000})\Z")
_NUMBER = re.compile(r"\d{1,18}\Z", re.ASCII)
# Headers that belong to the connection and to the message, which are ours to write.
_OWN_HEADERS = frozenset({"host", "content-length", "content-type", "transfer-encoding", "connection", "te", "upgrade"})
_KEPT_APART = ("resourceType", "id", "meta", "status", "error", "end")
_STATUSES = ("requested", "active", "error", "off")


class SubscriptionAsked(Value, frozen=True):
    """ITI-110: create with a draft; update (which switches off) and delete by id."""

    interaction: str
    id: str = ""
    if_match: str = ""
    draft: SubscriptionDraft | None = None


class SubscriptionsAsked(Value, frozen=True):
    """ITI-113: a read, a search, a status or events."""

    interaction: str
    id: str = ""
    query: SubscriptionSearch = SubscriptionSearch()
    search: Search | None = None
    events: tuple[int, int] = (1, 0)  # first and last number
    content: str = ""
    text: bytes = b""


class TopicsAsked(Value, frozen=True):
    """ITI-114: which topics, by address."""

    topics: tuple[str, ...]
    search: Search | None = None  # None: a read
    text: bytes = b""


class Told(Value, frozen=True):
    """What a notification is written of."""

    subscription: DocumentSubscription
    kind: str  # handshake, event-notification
    number: int = 0
    at: datetime | None = None
    notice: Notice | None = None
    found: FoundResource | None = None  # of full-resource, where it still stands


class HookMessage(Value, frozen=True):
    """What goes to the address of a subscription."""

    endpoint: str
    headers: tuple[tuple[str, str], ...]
    body: bytes


# ITI-110 ---------------------------------------------------------------------------------------------------------


def read_subscription(request: FhirRequest) -> SubscriptionAsked:
    """Create, update or delete; raises Problem with everything that is wrong with it."""
    if request.interaction == "delete":
        return SubscriptionAsked("delete", _logical(request.id), request.if_match)
    resource = request.body or {}
    if resource.get("resourceType") != "Subscription":
        raise Problem.of("RuleBroken", "a Subscription belongs to this address", "resourceType")
    if request.interaction == "update":
        id_ = _logical(request.id)
        findings = []
        if resource.get("id") != request.id:
            findings.append(Finding("RuleBroken", "the id must be that of the address", "Subscription.id"))
        if resource.get("status") != "off":
            said = "an update ends a subscription (status off); for another one delete it and ask anew"
            findings.append(Finding("RuleBroken", said, "Subscription.status"))
        if findings:
            raise Problem(findings)
        return SubscriptionAsked("update", id_, request.if_match)
    findings = []
    if resource.get("status") != "requested":
        said = "a new subscription is requested; it becomes active when its receiver has answered the handshake"
        findings.append(Finding("RuleBroken", said, "Subscription.status"))
    topic = _topic(resource, findings)
    found, criteria = _filters(resource, topic, request, findings) if topic is not None else (None, "")
    channel = resource.get("channel", {})
    payload, content = _channel(channel, findings)
    end = _end(resource, findings)
    if findings or topic is None or found is None:
        raise Problem(findings)
    draft = SubscriptionDraft(
        topic=CANONICAL + topic["name"],
        kind=topic["kind"],
        events=tuple(topic["events"]),
        search=found,
        endpoint=channel["endpoint"],
        payload=payload,
        content=content,
        criteria=criteria,
        resource=fhir_json.write({k: v for k, v in resource.items() if k not in _KEPT_APART}),
        base=request.base,
        contacts=tuple(f"{c.get('system', '')}|{c.get('value', '')}" for c in resource.get("contact", ())),
        end=end,
    )
    return SubscriptionAsked("create", draft=draft)


def _logical(text: str) -> str:
    if not _UUID.match(text):
        raise Problem.of("AddressNotFound", "no Subscription has this id: here they are UUIDs in lower case")
    return text


def _topic(resource: Mapping[str, Any], findings: list[Finding]) -> dict[str, Any] | None:
    criteria = resource.get("criteria", "")
    topic = TOPICS.get(criteria.partition("|")[0])
    if topic is None:
        said = f"{criteria[:120]!r} is no topic of this node; a search for Basic resources (ITI-114) lists them"
        findings.append(Finding("TableValueNotFound", said, "Subscription.criteria"))
    return topic


def _extensions(element: Any, name: str) -> Iterator[dict[str, Any]]:
    if isinstance(element, dict):
        yield from (e for e in element.get("extension", ()) if e.get("url") == _EXTENSIONS[name])


def _filters(
    resource: Mapping[str, Any], topic: Mapping[str, Any], request: FhirRequest, findings: list[Finding]
) -> tuple[DocumentSearch | None, str]:
    """All filters must fit, as the parameters of one search."""
    where, kind = "Subscription.criteria.extension(filter-criteria)", topic["resource"]
    texts = [str(e.get("valueString", "")) for e in _extensions(resource.get("_criteria"), "filter")]
    parameters: list[tuple[str, str]] = []
    for text in texts:
        named, mark, query = text.partition("?")
        if named != kind or not mark:
            said = f"{text[:80]!r}: a filter of this topic begins with {kind}?"
            findings.append(Finding("DataTypeError", said, where))
            return None, ""
        parameters += parse_qsl(query, keep_blank_values=True)
    found = None
    try:
        found = filters(replace(request, resource=kind), parameters, topic["filters"])
    except Problem as problem:
        findings += [
            Finding(f.code, f.detail, f"{where}: {f.location.removeprefix('http.')}") for f in problem.findings
        ]
    else:
        if topic["patient"] and len(found.patients) != 1:
            said = f"this topic is about one patient: {kind}?patient=Patient/…, not about {len(found.patients)}"
            findings.append(Finding("RequiredFieldMissing", said, where))
        if "kinds" in found.parameters and "S" not in found.parameters["kinds"]:
            findings.append(Finding("RuleBroken", "this topic is about lists of the code submissionset", where))
    return found, "&".join([texts[0], *(t.partition("?")[2] for t in texts[1:])]) if texts else ""


def _channel(channel: Mapping[str, Any], findings: list[Finding]) -> tuple[str, str]:
    """Media type and content."""
    where = "Subscription.channel"
    if channel.get("type") != "rest-hook":
        said = f"notifications are sent by rest-hook, not by {channel.get('type', '')!r}"
        findings.append(Finding("TableValueNotFound", said, f"{where}.type"))
    if not channel.get("endpoint"):
        findings.append(Finding("RequiredFieldMissing", "where are notifications sent?", f"{where}.endpoint"))
    elif len(channel["endpoint"]) > 2000:
        findings.append(Finding("LimitExceeded", "an address has at most 2000 characters", f"{where}.endpoint"))
    payload = channel.get("payload", "application/fhir+json")
    media = payload.partition(";")[0].strip().lower()
    if media not in TABLE["payloads"]:
        said = f"{payload[:80]!r} is none of {', '.join(TABLE['payloads'])}"
        findings.append(Finding("TableValueNotFound", said, f"{where}.payload"))
    contents = [str(e.get("valueCode", "")) for e in _extensions(channel.get("_payload"), "content")]
    listed = TABLE["contents"]["values"]
    if len(contents) != 1:
        said = f"the extension backport-payload-content says once which of {', '.join(listed)} is sent"
        findings.append(Finding("RequiredFieldMissing", said, f"{where}.payload.extension(content)"))
    elif contents[0] not in listed:
        said = f"{contents[0][:40]!r} is none of {', '.join(listed)}"
        findings.append(Finding("TableValueNotFound", said, f"{where}.payload.extension(content)"))
    if any(_extensions(channel, "heartbeat")):
        said = "this node sends no heartbeats: ask for $status, or leave the extension out"
        findings.append(Finding("RuleBroken", said, f"{where}.extension(heartbeatPeriod)"))
    headers = channel.get("header", ())
    if len(headers) > HEADERS_MAX:
        findings.append(Finding("LimitExceeded", f"at most {HEADERS_MAX} headers are sent", f"{where}.header"))
    for place, header in enumerate(headers):
        match = _HEADER.match(header)
        if match is None or match[1].lower() in _OWN_HEADERS:
            said = "a header is written Name: value, and is none of those that belong to the message itself"
            findings.append(Finding("DataTypeError", said, f"{where}.header[{place}]"))
    return media, contents[0] if contents else ""


def _end(resource: Mapping[str, Any], findings: list[Finding]) -> datetime | None:
    if "end" not in resource:
        return None
    try:
        return datetime.fromisoformat(resource["end"]).astimezone(UTC)
    except (ValueError, OverflowError):
        findings.append(Finding("DataTypeError", "it is no moment", "Subscription.end"))
        return None


def write_subscription(subscription: DocumentSubscription) -> dict[str, Any]:
    """The resource, as it was sent and as it stands."""
    sent = fhir_json.read(subscription.resource)
    said: dict[str, Any] = {
        "resourceType": "Subscription",
        "id": subscription.id,
        "meta": {
            "versionId": str(subscription.version),
            "lastUpdated": instant(subscription.updated_at),
            "profile": [_PROFILES["subscription"]],
        },
        "status": subscription.status,
        "end": instant(subscription.end),
    }
    if subscription.error:
        said["error"] = subscription.error
    return said | sent


def write_one(subscription: DocumentSubscription, request: FhirRequest) -> FhirReply:
    """The answer to a create, an update or a read."""
    made = request.interaction == "create"
    return FhirReply(
        body=None
        if request.prefer == "minimal" and request.interaction != "read"
        else write_subscription(subscription),
        status=201 if made else 200,
        location=f"{request.base}/Subscription/{subscription.id}" if made else "",
        version=str(subscription.version),
        updated_at=subscription.updated_at,
    )


# ITI-113 ---------------------------------------------------------------------------------------------------------


def read_question(request: FhirRequest) -> SubscriptionsAsked:
    """A read, a search, ``$status`` or ``$events``; raises Problem with everything that is wrong with it."""
    text = "&".join(f"{name}={value}" for name, value in request.parameters).encode()
    if request.interaction == "read":
        return SubscriptionsAsked("read", _logical(request.id))
    if request.interaction == "[id]/$status":
        return SubscriptionsAsked("status", _logical(request.id))
    if request.interaction == "[id]/$events":
        return _read_events(request, text)
    if request.interaction == "$status":
        given = arguments(request)
        query = SubscriptionSearch(
            ids=tuple(given["id"]) or None, statuses=tuple(given["status"]) or None, count=COUNT_MAX
        )
        return SubscriptionsAsked("status", query=query, text=text)
    asked = search(request, tell=True)
    findings: list[Finding] = []
    values: dict[str, tuple[str, ...]] = {}
    patient: PatientId | None = None
    for criterion in asked.criteria:
        field = _FIELDS.get(criterion.name, "")
        alternatives = [plain(a) for a in criterion.alternatives]
        if criterion.name == "patient":
            value = patient_value(alternatives[0].removeprefix(f"{request.base}/").removeprefix("Patient/"))
            if not value or len(alternatives) > 1:
                findings.append(Finding("DataTypeError", "one Patient of this service is named", criterion.location))
            patient = PatientId(value, request.affinity_domain)
            continue
        if criterion.name == "contact":
            alternatives = [_contact(*token(a)) for a in criterion.alternatives]
        elif criterion.name == "filter-criteria":
            alternatives = [f"%{_like(a)}%" for a in alternatives]
        elif criterion.name in ("criteria", "topic"):
            alternatives = [a.partition("|")[0] for a in alternatives]
        elif criterion.name in ("status", "payload", "payload-type", "type"):
            alternatives = [token(a)[1] for a in criterion.alternatives]
        if criterion.name == "type":
            alternatives = list(_STATUSES) if "rest-hook" in alternatives else []
        values[field] = tuple(a for a in alternatives if a in values.get(field, alternatives))
    skipped = asked.skipped(findings)
    if findings:
        raise Problem(findings)
    count = 0 if asked.count_only else asked.count or PAGE
    query = SubscriptionSearch(**values, patient=patient, count=count, skipped=skipped)
    return SubscriptionsAsked("search-type", query=query, search=asked, text=text)


# Standing of the names: official (2:3.113.4.1.2); patient is our own, which DSUBm asks by filter-criteria.
_FIELDS = {
    "_id": "ids",
    "status": "statuses",
    "type": "statuses",
    "criteria": "topics",
    "topic": "topics",
    "url": "endpoints",
    "payload": "payloads",
    "payload-type": "contents",
    "contact": "contacts",
    "filter-criteria": "filters",
}


def _like(text: str) -> str:
    return re.sub(r"([\\%_])", r"\\\1", text)


def _contact(system: str | None, value: str) -> str:
    return f"{'%' if system is None else _like(system)}|{_like(value)}"


def _read_events(request: FhirRequest, text: bytes) -> SubscriptionsAsked:
    id_, given = _logical(request.id), arguments(request)
    findings = []
    bounds = []
    for name, usual in (("eventsSinceNumber", 1), ("eventsUntilNumber", 2**62)):
        value = str(given[name][0]) if given[name] else ""
        if value and not _NUMBER.match(value):
            findings.append(Finding("DataTypeError", f"{value[:40]!r} is no event number", f"http.{name}"))
            value = ""
        bounds.append(int(value) if value else usual)
    content = str(given["content"][0]) if given["content"] else ""
    if content and content not in TABLE["contents"]["values"]:
        said = f"{content[:40]!r} is none of {', '.join(TABLE['contents']['values'])}"
        findings.append(Finding("TableValueNotFound", said, "http.content"))
    if findings:
        raise Problem(findings)
    return SubscriptionsAsked("events", id_, events=(bounds[0], bounds[1]), content=content, text=text)


def write_page(
    asked: SubscriptionsAsked, found: Sequence[DocumentSubscription], total: int, request: FhirRequest
) -> FhirReply:
    """A searchset of Subscriptions."""
    search_, query = asked.search, asked.query
    assert search_ is not None  # noqa: S101 - of a search
    after = query.skipped + len(found)
    entries = [
        {
            "fullUrl": f"{request.base}/Subscription/{s.id}",
            "resource": write_subscription(s),
            "search": {"mode": "match"},
        }
        for s in found
    ]
    bundle = searchset(
        request,
        entries,
        path="Subscription",
        used=search_.used,
        total=total if search_.total else None,
        cursor=str(after) if query.count and after < total else "",
        warnings=search_.warnings,
    )
    return FhirReply(body=bundle)


def write_statuses(found: Sequence[DocumentSubscription], request: FhirRequest) -> FhirReply:
    """A searchset of SubscriptionStatus."""
    entries = []
    for subscription in found:
        status = _status(subscription, "query-status")
        full_url = f"urn:uuid:{subscription.id}"
        entries.append({"fullUrl": full_url, "resource": status, "search": {"mode": "match"}})
    return FhirReply(body=searchset(request, entries, path="Subscription/$status", total=len(found)))


def write_events(subscription: DocumentSubscription, told: Sequence[Told]) -> FhirReply:
    """What was told before, as one notification (``$events``)."""
    return FhirReply(body=_bundle(subscription, "query-event", told))


# ITI-114 ---------------------------------------------------------------------------------------------------------


def read_topics(request: FhirRequest) -> TopicsAsked:
    """Which topics; raises Problem with everything that is wrong with the question."""
    text = "&".join(f"{name}={value}" for name, value in request.parameters).encode()
    if request.interaction == "read":
        if CANONICAL + request.id not in TOPICS:
            raise Problem.of("AddressNotFound", "no topic has this id")
        return TopicsAsked((CANONICAL + request.id,))
    asked = search(request, tell=True)
    found = list(TOPICS)
    for criterion in asked.criteria:
        given = {plain(a) for a in criterion.alternatives}
        if criterion.name == "_id":
            found = [t for t in found if TOPICS[t]["name"] in given]
        elif criterion.name in ("url", "derived-or-self"):
            found = [t for t in found if t in given]
        elif criterion.name == "resource":
            found = [t for t in found if given & {TOPICS[t]["resource"], _definition(TOPICS[t]["resource"])}]
        else:  # code, status: all are active topics
            wanted = "active" if criterion.name == "status" else "SubscriptionTopic"
            found = found if wanted in {token(a)[1] for a in criterion.alternatives} else []
    return TopicsAsked(tuple(found), asked, text)


def _definition(resource: str) -> str:
    return f"http://hl7.org/fhir/StructureDefinition/{resource}"


def write_topics(asked: TopicsAsked, request: FhirRequest) -> FhirReply:
    """A searchset of Basic resources, or one of them."""
    if asked.search is None:
        return FhirReply(body=_write_topic(asked.topics[0]), version="1")
    entries = [
        {
            "fullUrl": f"{request.base}/Basic/{TOPICS[t]['name']}",
            "resource": _write_topic(t),
            "search": {"mode": "match"},
        }
        for t in asked.topics
    ]
    shown = [] if asked.search.count_only else entries
    bundle = searchset(
        request, shown, path="Basic", used=asked.search.used, total=len(entries), warnings=asked.search.warnings
    )
    return FhirReply(body=bundle)


def _write_topic(url: str) -> dict[str, Any]:
    topic, prefix = TOPICS[url], _EXTENSIONS["topic"]
    resource = topic["resource"]
    interactions = dict.fromkeys(TABLE["event"][e]["interaction"] for e in topic["events"])
    trigger = [
        {"url": "description", "valueMarkdown": topic["trigger"]},
        {"url": "resource", "valueUri": _definition(resource)},
        *({"url": "supportedInteraction", "valueCode": i} for i in interactions),
    ]
    if topic["kind"] == "S":
        trigger.append({"url": "fhirPathCriteria", "valueString": TABLE["list_type"]})
    return {
        "resourceType": "Basic",
        "id": topic["name"],
        "meta": {"versionId": "1"},
        "extension": [
            {"url": f"{prefix}url", "valueUri": url},
            {"url": f"{prefix}title", "valueString": topic["title"]},
            {"url": f"{prefix}resourceTrigger", "extension": trigger},
            *(
                {
                    "url": f"{prefix}canFilterBy",
                    "extension": [
                        {"url": "description", "valueMarkdown": f"The search parameter {name} of {resource}."},
                        {"url": "resource", "valueUri": resource},
                        {"url": "filterParameter", "valueString": name},
                    ],
                }
                for name in topic["filters"]
            ),
            {"url": f"{prefix}notificationShape", "extension": [{"url": "resource", "valueUri": resource}]},
        ],
        "modifierExtension": [{"url": f"{prefix}status", "valueCode": "active"}],
        "code": {"coding": [{"system": "http://hl7.org/fhir/fhir-types", "code": "SubscriptionTopic"}]},
    }


# ITI-112 ---------------------------------------------------------------------------------------------------------


def read_notice(body: bytes) -> Notice:
    """What a letter of the outbox tells. Raises Problem where it is none."""
    try:
        return msgspec.json.decode(body, type=Notice)
    except msgspec.DecodeError as error:
        said = f"the stored message cannot be read ({error}); it was made by another release"
        raise Problem.of("NotificationRefused", said) from error


def write_notice(notice: Notice) -> bytes:
    """As :func:`read_notice` reads it."""
    return msgspec.json.encode(notice)


def write_message(told: Told, _sending: Sending) -> HookMessage:
    """The notification with the headers that the subscription wants."""
    subscription = told.subscription
    bundle = _bundle(subscription, told.kind, (told,))
    written = TABLE["payloads"][subscription.payload]
    body = fhir_xml.write(bundle) if written == "xml" else fhir_json.write(bundle)
    channel = fhir_json.read(subscription.resource).get("channel", {})
    matches = filter(None, map(_HEADER.match, channel.get("header", ())))
    headers = [("Content-Type", subscription.payload), *((m[1], m[2].strip()) for m in matches)]
    return HookMessage(endpoint=subscription.endpoint, headers=tuple(headers), body=body)


def read_message_answer(status: int) -> None:
    """Raises RetryLater for any answer but success: what a receiver refuses may be mended there."""
    if not 200 <= status < 300:
        raise RetryLater(f"the receiver answers with HTTP status {status}")


def audit_notice(body: bytes, _control_id: str) -> tuple[AuditObject, ...]:
    """What a letter is about, without the patient: the affinity domain is for the caller to know."""
    notice = read_notice(body)
    if notice.event == HANDSHAKE:
        return ()
    return (AuditObject("registry_object", notice.focus or f"urn:uuid:{notice.entry_uuid}"),)


def _status(subscription: DocumentSubscription, kind: str, told: Sequence[Told] = ()) -> dict[str, Any]:
    events = max([subscription.events, *(t.number for t in told)]) if kind != HANDSHAKE else 0
    if kind == "event-notification":
        events = told[0].number
    parameters: list[dict[str, Any]] = [
        {
            "name": "subscription",
            "valueReference": {"reference": f"{subscription.base}/Subscription/{subscription.id}"},
        },
        {"name": "topic", "valueCanonical": subscription.topic},
        {"name": "status", "valueCode": "requested" if kind == HANDSHAKE else subscription.status},
        {"name": "type", "valueCode": kind},
        {"name": "events-since-subscription-start", "valueString": str(events)},
    ]
    for one in told:
        if one.notice is None or one.at is None:
            continue
        parts: list[dict[str, Any]] = [
            {"name": "event-number", "valueString": str(one.number)},
            {"name": "timestamp", "valueInstant": instant(one.at)},
        ]
        if subscription.content != "empty":
            parts.append({"name": "focus", "valueReference": {"reference": _address(subscription, one.notice)}})
        parameters.append({"name": "notification-event", "part": parts})
    if subscription.error:
        parameters.append({"name": "error", "valueCodeableConcept": {"text": subscription.error}})
    return {
        "resourceType": "Parameters",
        "id": subscription.id,
        "meta": {"profile": [_PROFILES["status"]]},
        "parameter": parameters,
    }


def _address(subscription: DocumentSubscription, notice: Notice) -> str:
    if notice.focus:
        return notice.focus
    return f"{subscription.base}/{RESOURCE_OF[notice.kind]}/{notice.entry_uuid}"


def _bundle(subscription: DocumentSubscription, kind: str, told: Sequence[Told]) -> dict[str, Any]:
    entries: list[dict[str, Any]] = [
        {
            "fullUrl": f"urn:uuid:{subscription.id}",
            "resource": _status(subscription, kind, told),
            "request": {"method": "GET", "url": f"{subscription.base}/Subscription/{subscription.id}/$status"},
            "response": {"status": "200"},
        }
    ]
    seen: set[str] = set()
    for one in told if subscription.content != "empty" else ():
        if one.notice is None or (full_url := _address(subscription, one.notice)) in seen:
            continue
        seen.add(full_url)
        row = TABLE["event"][one.notice.event]
        resource = RESOURCE_OF[one.notice.kind]
        entry: dict[str, Any] = {"fullUrl": full_url}
        if one.found is not None:
            base = orjson.dumps(subscription.base)[1:-1]
            entry["resource"] = fhir_json.read(splice(one.found, base))
        elif one.notice.resource and subscription.content == "full-resource":
            entry["resource"] = fhir_json.read(one.notice.resource.encode())
        elsewhere = one.notice.focus or f"{resource}/{one.notice.entry_uuid}"
        url = resource if row["method"] == "POST" else elsewhere
        entry["request"] = {"method": row["method"], "url": url}
        entry["response"] = {"status": row["status"]}
        entries.append(entry)
    bundle: dict[str, Any] = {"resourceType": "Bundle", "meta": {"profile": [_PROFILES["notification"]]}}
    if told and told[0].at is not None:
        bundle["meta"] |= {"lastUpdated": instant(max(t.at for t in told if t.at is not None))}
        bundle["timestamp"] = bundle["meta"]["lastUpdated"]
    return {**bundle, "type": "history", "entry": entries}


def patient_of(found: DocumentSearch) -> PatientId | None:
    """Whom a subscription is about."""
    return found.patients[0] if found.patients else None


def bounded(end: datetime | None, now: datetime, usual: timedelta, longest: timedelta) -> datetime:
    """When a subscription ends. Raises Problem for an end that has come."""
    if end is None:
        return now + usual
    if end <= now:
        raise Problem.of("RuleBroken", "the subscription would be over before it begins", "Subscription.end")
    return min(end, now + longest)

"""The FHIR edge: an ASGI application for every transaction with a FHIR binding (http://hl7.org/fhir/R4/http.html).

The way of one request: the address says type and interaction, those say the transaction; then the caller, the body
(limits, JSON or XML, its structure), decode, the actor, encode. Everything that is wrong is answered as an
OperationOutcome in the format that was asked for. What never reached an actor is audited here.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC
from email.utils import format_datetime, parsedate_to_datetime
from functools import partial
from mimetypes import MimeTypes
from typing import Any, NamedTuple
from urllib.parse import parse_qsl

import orjson

from obieg.codes.load import toml
from obieg.domain.problems import Finding, Problem
from obieg.domain.requester import Requester
from obieg.domain.scopes import Need, expect_patient, expect_scope, need, wanted
from obieg.edges.asgi import (
    LARGE_BYTES,
    Disconnected,
    Exchange,
    Host,
    Receive,
    Scope,
    Send,
    TooLarge,
    WebLimits,
    access_header,
    base_address,
    made,
    receive_whole,
    send_whole,
    token_challenge,
    unread_coding,
)
from obieg.protocol import Context, FhirBinding, FhirReply, FhirRequest, Sent, Transaction
from obieg.wire import fhir_json, fhir_xml, mime
from obieg.wire.fhir_elements import check, is_text
from obieg.wire.fhir_json import JsonRefused
from obieg.wire.xml import XmlRefused

PREFIX = "/fhir"
METADATA = "metadata"
OPENAPI = "openapi.json"
_TABLE = toml("fhir.toml")
_FORMATS: dict[str, str] = _TABLE["formats"]
_TYPES = {
    "json": b"application/fhir+json; charset=UTF-8",
    "xml": b"application/fhir+xml; charset=UTF-8",
    OPENAPI: b"application/json",
}
_FHIR_ONLY = {name: found for name, found in _FORMATS.items() if name.startswith("application/fhir+")}
_FORM = "application/x-www-form-urlencoded"
_RULES = {"unknown": "ElementUnknown", "required": "RequiredFieldMissing", "type": "DataTypeError"}
# By method: what it does with a type, with one resource.
_TYPE_LEVEL = {
    "GET": "search-type", "POST": "create", "PUT": "conditional-update", "DELETE": "conditional-delete",
}  # fmt: skip
_RESOURCE_LEVEL = {"GET": "read", "PUT": "update", "DELETE": "delete"}
_WITH_RESOURCE = frozenset({"create", "update", "conditional-update", "transaction"})
_ENTRIES_AT_ONCE = 40  # of a bundle, written on the event loop; more are made and written in a thread
_COUNT_AT_ONCE = str(_ENTRIES_AT_ONCE)  # as texts of two digits compare
_RETRY_AFTER_S = b"5"
_EXTENSIONS = MimeTypes()  # those of the library, not the machine's
_VERSION = re.compile(r'(?:W/)?"([^"]{1,64})"\Z')


@dataclass(frozen=True, slots=True, kw_only=True)
class FhirLimits(WebLimits):
    """What one request may take."""

    parameters_max: int = 200  # of the address and of a form


class _Route(NamedTuple):
    """What an address and a method mean."""

    resource: str
    interaction: str
    id: str = ""
    version: str = ""
    form: bool = False  # a search by POST


@dataclass(slots=True, kw_only=True)
class _Exchange(Exchange):
    headers: dict[str, str]
    base: str
    format: str = "json"
    pretty: bool = False
    asked_format: bool = False  # by _format or Accept, more than anything will do
    data: bytes = b""  # the body
    written: str = ""  # json or xml: how it came
    raw: bool = False  # the answer may be of a media type that is not FHIR's
    request: FhirRequest | None = None
    allow: str = ""
    wanted_scope: str = ""  # that a token would need


class FhirEdge:
    """Mount it at ``/fhir``."""

    def __init__(
        self,
        host: Host,
        *,
        limits: FhirLimits,
        refuse: Callable[[Sequence[Finding], Any], FhirReply],
        metadata: Callable[[Sequence[Transaction], str], dict[str, Any]],
        openapi: Callable[[Sequence[Transaction], str], dict[str, Any]],
        affinity_domain: str,
    ) -> None:
        """``refuse`` writes findings of no transaction; ``metadata`` and ``openapi`` describe the node at a base."""
        self._routes: dict[tuple[str, str], Transaction] = {}
        self._by_profile: dict[str, Transaction] = {}  # of Bundles sent to the base address
        self._by_type: dict[str, Transaction] = {}  # of Bundles sent there, by the one type of all their resources
        served = host.served(FhirBinding)
        for transaction, binding in served:
            routes = {(r, i): transaction for r in binding.resources for i in binding.interactions}
            if binding.bundle_profile:
                self._by_profile[binding.bundle_profile] = transaction
                routes |= self._routes
            if binding.bundle_type:
                self._by_type[binding.bundle_type] = transaction
                routes.setdefault(("", "transaction"), self._routes.get(("", "transaction"), transaction))
            self._routes |= routes
        self._served = tuple(transaction for transaction, _ in served)
        self._host = host
        self._limits = limits
        self._refuse = refuse
        self._metadata = metadata
        self._openapi = openapi
        self._affinity_domain = affinity_domain

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """ASGI."""
        host = self._host
        exchange = _Exchange.begin(
            scope, host.new_request_id(), headers=_headers(scope), base=base_address(scope, host.public_url) + PREFIX
        )
        work = self._serve(exchange, receive)
        outcome, reply = await host.settle(exchange, work, partial(self._refused, exchange), protocol="FHIR")
        if reply.content is not None:
            await _send_content(send, exchange, reply, reply.content)
        else:
            await _send(send, exchange, reply, await _write(reply, exchange))
        host.finish(exchange, outcome)

    def _refused(self, exchange: _Exchange, findings: tuple[Finding, ...]) -> FhirReply:
        reply: FhirReply
        if exchange.transaction is None or exchange.request is None:
            reply = self._refuse(findings, exchange.request)
        else:
            reply = exchange.transaction.refuse(findings, exchange.request)
        challenge = _challenge(exchange, {f.code for f in findings})
        return replace(reply, headers=(*reply.headers, ("WWW-Authenticate", challenge))) if challenge else reply

    async def _serve(self, exchange: _Exchange, receive: Receive) -> FhirReply:
        parameters = self._parameters(exchange.scope["query_string"], "the address")
        exchange.raw = self._may_be_raw(exchange)
        self._negotiate(exchange, parameters)
        route = self._route(exchange)
        if route.interaction == METADATA:
            return FhirReply(body=self._metadata(self._served, exchange.base))
        if route.interaction == OPENAPI:
            exchange.format = OPENAPI
            return FhirReply(body=self._openapi(self._served, exchange.base))
        transaction = exchange.transaction = self._routes[route.resource, route.interaction]
        context = await self._host.admit(
            exchange,
            transaction,
            received_at=self._host.clock(),
            source_user=exchange.address,
            destination_user=exchange.base,
        )
        needed, limited = self._expect_scope(exchange, route, transaction, context.requester, parameters)
        body: dict[str, Any] | None = None
        if route.form:
            form = await self._form(exchange, receive)
            self._negotiate(exchange, form)
            parameters += form
        elif exchange.scope["method"] in ("POST", "PUT"):
            operation = _TABLE["operations"].get(route.interaction, {})
            body = await self._resource(
                exchange,
                receive,
                context,
                required=route.interaction in _WITH_RESOURCE,
                as_sent="as_sent" in operation,
            )
            if body is not None and route.interaction == "transaction":
                transaction = exchange.transaction = context.transaction = self._of_bundle(body, transaction)
                needed, limited = self._expect_scope(exchange, route, transaction, context.requester, parameters)
            if body is not None and operation and "as_sent" not in operation:
                self._negotiate(exchange, _operation_format(body))
        prefer = _preferences(exchange.headers.get("prefer", ""))
        request = exchange.request = FhirRequest(
            interaction=route.interaction,
            resource=route.resource,
            id=route.id,
            version=route.version,
            parameters=tuple((name, value) for name, value in parameters if name not in ("_format", "_pretty")),
            body=body,
            data=exchange.data if getattr(transaction.binding, "keeps_body", False) else b"",
            written=exchange.written,
            base=exchange.base,
            strict=prefer.get("handling") == "strict",
            format=exchange.format if exchange.asked_format else "",
            accept=exchange.headers.get("accept", ""),
            lenient=prefer.get("handling") == "lenient",
            gzip="gzip" in _codings(exchange.headers.get("accept-encoding", "")),
            prefer=prefer.get("return", ""),
            if_match=_if_match(exchange.headers.get("if-match", "")),
            if_none_exist=self._if_none_exist(exchange, route),
            request_id=exchange.request_id,
            authorities=self._host.authorities,
            affinity_domain=self._affinity_domain,
        )

        def expect(*, served: bool) -> None:
            if limited:
                expect_patient(needed, context.requester, _patients(context), self._affinity_domain, served=served)

        result = await self._host.perform(context, request, expect)
        if context.access and request.prefer == "OperationOutcome":
            request = replace(request, access=context.access)
        many = any(name == "_count" and (len(value) > 2 or value > _COUNT_AT_ONCE) for name, value in parameters)
        reply: FhirReply = await made(transaction.encode, result, request, in_thread=many)
        return FhirReply(status=304, version=reply.version) if _is_known(exchange, reply) else reply

    @staticmethod
    def _expect_scope(
        exchange: _Exchange,
        route: _Route,
        transaction: Transaction,
        requester: Requester,
        parameters: Sequence[tuple[str, str]],
    ) -> tuple[Need, bool]:
        """What the request needs of a token, and whether it is limited to one patient. Raises Problem."""
        alone = exchange.scope["method"] in ("GET", "HEAD")  # a body could say something else
        needed = need(transaction.permission, route.resource, route.interaction, parameters if alone else ())
        context = "user" if requester.person else "system"
        exchange.wanted_scope = f"{context}/{wanted(needed)}"
        return needed, expect_scope(needed, requester, transaction.id)

    # the address ------------------------------------------------------------------------------------------------

    def _parameters(self, query: bytes, where: str) -> list[tuple[str, str]]:
        try:
            found = parse_qsl(
                query.decode("ascii"),
                keep_blank_values=True,
                errors="strict",
                max_num_fields=self._limits.parameters_max,
            )
        except UnicodeError:
            raise Problem.of("MessageNotReadable", f"{where} is not UTF-8 in percent-encoding", "http") from None
        except ValueError:
            limit = self._limits.parameters_max
            raise Problem.of("LimitExceeded", f"{where} has more than {limit} parameters", "http") from None
        if not all(is_text(text) for pair in found for text in pair):
            raise Problem.of("MessageNotReadable", f"{where} has a character that no FHIR text may have", "http")
        return found

    def _may_be_raw(self, exchange: _Exchange) -> bool:
        """Whether this reads something that has a media type of its own."""
        method = "GET" if exchange.scope["method"] == "HEAD" else exchange.scope["method"]
        route = dict(self._meanings(_segments(exchange))).get(method)
        transaction = self._routes.get((route.resource, route.interaction)) if route else None
        return transaction is not None and getattr(transaction.binding, "raw", False) is True

    def _route(self, exchange: _Exchange) -> _Route:
        method = exchange.scope["method"]
        segments = _segments(exchange)
        known = dict(self._meanings(segments))
        if not known:
            said = "no resource type or operation that this node serves stands at this address"
            raise Problem.of("AddressNotFound", said)
        if "GET" in known:
            known["HEAD"] = known["GET"]
        if method not in known:
            exchange.allow = ", ".join(sorted(known))
            raise Problem.of("MethodNotAllowed", f"{method} is not served at this address; {exchange.allow} is")
        return known[method]

    def _meanings(self, segments: Sequence[str]) -> Iterable[tuple[str, _Route]]:
        """The methods that are served at an address, and what each means."""
        match segments:
            case ["metadata"]:
                yield "GET", _Route("", METADATA)
            case ["openapi.json"]:
                yield "GET", _Route("", OPENAPI)
            case [""]:
                yield from self._served_by({"POST": "transaction"}, "")
            case ["_history"]:
                yield from self._served_by({"GET": "history-system"}, "")
            case [name] if name.startswith("$"):
                yield from self._operation("", name)
            case [resource]:
                yield from self._served_by(_TYPE_LEVEL, resource)
            case [resource, "_search"]:
                if (resource, "search-type") in self._routes:
                    yield "POST", _Route(resource, "search-type", form=True)
            case [resource, name] if name.startswith("$"):
                yield from self._operation(resource, name)
            case [resource, "_history"]:
                yield from self._served_by({"GET": "history-type"}, resource)
            case [resource, logical, "_history"]:
                yield from self._served_by({"GET": "history-instance"}, resource, logical)
            case [resource, logical, "_history", version]:
                yield from self._served_by({"GET": "vread"}, resource, logical, version)
            case [resource, logical]:
                yield from self._served_by(_RESOURCE_LEVEL, resource, logical)
            case [resource, logical, name] if name.startswith("$"):
                yield from self._operation(resource, name, logical)

    def _served_by(
        self, methods: dict[str, str], resource: str, logical: str = "", version: str = ""
    ) -> Iterable[tuple[str, _Route]]:
        for method, interaction in methods.items():
            if (resource, interaction) in self._routes:
                yield method, _Route(resource, interaction, logical, version)

    def _operation(self, resource: str, name: str, logical: str = "") -> Iterable[tuple[str, _Route]]:
        interaction = f"[id]/{name}" if logical else name
        if (resource, interaction) in self._routes:
            yield "POST", _Route(resource, interaction, logical)
            if _TABLE["operations"][interaction]["get"]:
                yield "GET", _Route(resource, interaction, logical)
        if (resource, f"delete {interaction}") in self._routes:
            yield "DELETE", _Route(resource, f"delete {interaction}", logical)

    def _of_bundle(self, body: Mapping[str, Any], otherwise: Transaction) -> Transaction:
        """Whose a Bundle is that was sent to the base address: its profile says so, or what it is full of."""
        named = (profile.partition("|")[0] for profile in body.get("meta", {}).get("profile", ()))
        types = {entry.get("resource", {}).get("resourceType", "") for entry in body.get("entry", ())}
        of_type = self._by_type.get(types.pop(), otherwise) if len(types) == 1 else otherwise
        return next((self._by_profile[p] for p in named if p in self._by_profile), of_type)

    def _if_none_exist(self, exchange: _Exchange, route: _Route) -> tuple[tuple[str, str], ...]:
        """The search that must find nothing (http://hl7.org/fhir/R4/http.html#ccreate)."""
        header = exchange.headers.get("if-none-exist")
        if header is None:
            return ()
        if route.interaction != "create" or (route.resource, "conditional-create") not in self._routes:
            said = "If-None-Exist belongs to a create (POST [type]) that the CapabilityStatement calls conditional"
            raise Problem.of("RuleBroken", said, "http.If-None-Exist")
        found = self._parameters(header.strip().removeprefix("?").encode("latin-1"), "If-None-Exist")
        if not any(value for _, value in found):
            raise Problem.of("RequiredFieldMissing", "If-None-Exist says what to search by", "http.If-None-Exist")
        return tuple(found)

    # formats ----------------------------------------------------------------------------------------------------

    @staticmethod
    def _negotiate(exchange: _Exchange, parameters: Sequence[tuple[str, str]]) -> None:
        """``_format`` goes before Accept; where both leave it open, the answer is as the body is, or JSON."""
        asked = next((value for name, value in parameters if name == "_format" and value), "")
        exchange.pretty |= ("_pretty", "true") in parameters
        if asked:
            found = _format(asked)
            if not found:
                raise Problem.of("NotAcceptable", f"{asked[:80]!r} is no format of this node", "http._format")
            exchange.format, exchange.asked_format = found, True
        elif not exchange.asked_format:
            accept = exchange.headers.get("accept", "")
            best = _accepted(accept, _FHIR_ONLY if exchange.raw else _FORMATS)
            if best is None and not exchange.raw:
                said = f"none of {accept[:80]!r} is a format of this node"
                raise Problem.of("NotAcceptable", said, "http.Accept")
            exchange.asked_format = bool(best)
            exchange.format = best or exchange.format

    # the body ---------------------------------------------------------------------------------------------------

    async def _whole(self, receive: Receive) -> bytes:
        limits = self._limits
        try:
            async with asyncio.timeout(limits.request_time_s):
                return await receive_whole(receive, limits.message_bytes_max)
        except TooLarge:
            said = f"the body exceeds this node's limit of {limits.message_bytes_max} bytes"
            raise Problem.of("LimitExceeded", said) from None
        except TimeoutError:
            raise Problem.of("RequestTimeout", "the request did not arrive in time") from None
        except Disconnected:
            raise Problem.of("MessageNotReadable", "the connection ended within the request") from None

    async def _form(self, exchange: _Exchange, receive: Receive) -> list[tuple[str, str]]:
        media, charset = _media(exchange)
        data = await self._whole(receive)
        if not data:
            return []
        if media != _FORM or charset not in ("", "utf-8"):
            raise Problem.of("UnsupportedMediaType", f"a search by POST is sent as {_FORM}", "http.Content-Type")
        return self._parameters(data, "the form")

    async def _resource(
        self, exchange: _Exchange, receive: Receive, context: Context, *, required: bool, as_sent: bool
    ) -> dict[str, Any] | None:
        """``as_sent``: whether it is built as its type demands is for the operation to say."""
        media, charset = _media(exchange)
        if coding := unread_coding(exchange.scope):
            said = f"Content-Encoding {coding!r}: send the resource as it is"
            raise Problem.of("UnsupportedMediaType", said, "http.Content-Encoding")
        data = await self._whole(receive)
        if not data and not required:
            return None
        written = _FORMATS.get(media, "") if "/" in media else ""
        if not written or charset not in ("", "utf-8", "us-ascii"):
            said = f"Content-Type {exchange.headers.get('content-type', '')[:80]!r} is not read"
            raise Problem.of("UnsupportedMediaType", said, "http.Content-Type")
        if not exchange.asked_format:
            exchange.format = written
        exchange.data, exchange.written = data, written
        context.large = len(data) > LARGE_BYTES
        read = self._json if written == "json" else self._xml
        found = await made(read, data, in_thread=context.large)
        return found if as_sent else await made(_checked, found, in_thread=context.large)

    def _json(self, data: bytes) -> dict[str, Any]:
        try:
            return fhir_json.read(data, depth_max=self._limits.depth_max)
        except JsonRefused as error:
            raise Problem.of("MessageNotReadable", str(error)) from None

    def _xml(self, data: bytes) -> dict[str, Any]:
        try:
            return fhir_xml.read(data, self._limits.xml)
        except XmlRefused as error:
            raise Problem.of("MessageNotReadable", str(error)) from None


def _checked(resource: dict[str, Any]) -> dict[str, Any]:
    if faults := check(resource):
        raise Problem([Finding(_RULES[f.rule], f.said, f.path) for f in faults])
    if any("contained" in inner for inner in resource.get("contained", ())):
        raise Problem.of("RuleBroken", "a contained resource contains none (dom-2)", "contained")
    return resource


# headers ---------------------------------------------------------------------------------------------------------


def _segments(exchange: _Exchange) -> list[str]:
    return str(exchange.scope["path"]).removeprefix(PREFIX).strip("/").split("/")


def _headers(scope: Scope) -> dict[str, str]:
    """By name in lower case; a header that is given several times is a list."""
    found: dict[str, str] = {}
    for name, value in scope["headers"]:
        key, text = name.decode("latin-1"), value.decode("latin-1")
        found[key] = f"{found[key]}, {text}" if key in found else text
    return found


def _media(exchange: _Exchange) -> tuple[str, str]:
    """Media type and charset of the body, both in lower case."""
    media, parameters = mime.content_type(exchange.headers.get("content-type", ""))
    if not _is_r4(parameters.get("fhirversion", "")):
        raise Problem.of("UnsupportedMediaType", "resources are read in FHIR R4 (fhirVersion=4.0)", "http.Content-Type")
    return media, parameters.get("charset", "").lower().replace("utf8", "utf-8")


def _is_r4(version: str) -> bool:
    return version in ("", "4.0", "4.0.1")


def _format(media: str, formats: Mapping[str, str] = _FORMATS) -> str:
    """json, xml or nothing; a plus sign may have become a space on its way through an address."""
    name, parameters = mime.content_type(media)
    return formats.get(name.replace(" ", "+"), "") if _is_r4(parameters.get("fhirversion", "")) else ""


def _accepted(accept: str, formats: Mapping[str, str] = _FORMATS) -> str | None:
    """The best format of an Accept header; "" where anything will do, None where nothing does (RFC 9110, 12.5.1)."""
    best, best_quality = None, 0.0
    for item in accept.split(",") if accept.strip() else ["*/*"]:
        name, parameters = mime.content_type(item.strip())
        try:
            quality = float(parameters.get("q", "1"))
        except ValueError:
            quality = 1.0
        found = "" if name in ("*/*", "application/*") else _format(item.strip(), formats)
        if (found or name in ("*/*", "application/*")) and quality > best_quality:
            best, best_quality = found, quality
    return best


def _operation_format(body: dict[str, Any]) -> list[tuple[str, str]]:
    """An operation may be told the format among its Parameters."""
    if body.get("resourceType") != "Parameters":
        return []
    values = (p.get("valueString", p.get("valueCode")) for p in body.get("parameter", ()) if p["name"] == "_format")
    return [("_format", value) for value in values if isinstance(value, str)]


def _codings(header: str) -> set[str]:
    """The content codings that the caller takes (RFC 9110, 12.5.3)."""
    found = (mime.content_type(item.strip()) for item in header.split(","))
    return {name for name, parameters in found if parameters.get("q", "1").strip("0.") or "q" not in parameters}


def _preferences(prefer: str) -> dict[str, str]:
    """RFC 7240."""
    found: dict[str, str] = {}
    for item in re.split("[,;]", prefer):
        name, _, value = item.strip().partition("=")
        found.setdefault(name.strip().lower(), value.strip().strip('"'))
    return found


def _if_match(header: str) -> str:
    if not header or header == "*":
        return header
    match = _VERSION.match(header.strip())
    if match is None:
        raise Problem.of("DataTypeError", 'If-Match names one version: W/"3"', "http.If-Match")
    return match[1]


def _is_known(exchange: _Exchange, reply: FhirReply) -> bool:
    """Whether the caller has this version of what it reads (RFC 9110, 13.1.2 and 13.1.3)."""
    if reply.status != 200 or not reply.version or exchange.scope["method"] not in ("GET", "HEAD"):
        return False
    if none_match := exchange.headers.get("if-none-match", ""):
        return none_match == "*" or reply.version in re.findall(r'"([^"]*)"', none_match)
    since = exchange.headers.get("if-modified-since", "")
    if not since or reply.updated_at is None:
        return False
    try:
        return reply.updated_at.replace(microsecond=0) <= parsedate_to_datetime(since)
    except (ValueError, TypeError):
        return False


def _patients(context: Context) -> list[str]:
    return [o.identifier for o in context.objects if o.kind == "patient"]


def _challenge(exchange: _Exchange, codes: Collection[str]) -> str:
    """What a token would have to be like (RFC 6750, section 3); "" where none is missing."""
    if "AuthenticationFailed" in codes:
        return token_challenge(shown="authorization" in exchange.headers)
    if "InsufficientScope" in codes:
        return f'Bearer realm="obieg", error="insufficient_scope", scope="{exchange.wanted_scope}"'
    return ""


# answering -------------------------------------------------------------------------------------------------------


async def _write(reply: FhirReply, exchange: _Exchange) -> bytes:
    if reply.json is not None:
        if exchange.format == "json" and not exchange.pretty:
            return reply.json
        return await asyncio.to_thread(_written, orjson.loads(reply.json), exchange.format, exchange.pretty)
    body = reply.body
    if body is None:
        return b""
    many = len(body.get("entry", ())) > _ENTRIES_AT_ONCE
    return await made(_written, body, exchange.format, exchange.pretty, in_thread=many)


def _written(body: dict[str, Any], written_as: str, pretty: bool) -> bytes:  # noqa: FBT001 - for to_thread
    return fhir_xml.write(body) if written_as == "xml" else fhir_json.write(body, pretty=pretty)


def _reply_headers(exchange: _Exchange, reply: FhirReply) -> list[tuple[bytes, bytes]]:
    headers = [(b"x-request-id", exchange.request_id.encode())]
    if reply.status < 400:
        headers += access_header(exchange.context)
    headers += [(name.lower().encode(), value.encode("latin-1")) for name, value in reply.headers]
    if reply.version:
        headers.append((b"etag", f'W/"{reply.version}"'.encode()))
    if reply.updated_at is not None:
        headers.append((b"last-modified", format_datetime(reply.updated_at.astimezone(UTC), usegmt=True).encode()))
    if reply.location:
        headers.append((b"location", reply.location.encode()))
    if exchange.allow:
        headers.append((b"allow", exchange.allow.encode()))
    if reply.status in (429, 503):
        headers.append((b"retry-after", _RETRY_AFTER_S))
    return headers


async def _send_content(send: Send, exchange: _Exchange, reply: FhirReply, content: Sent) -> None:
    """Bytes as they are, in pieces; a browser takes them for what they are and runs nothing in them."""
    headers = [
        *_reply_headers(exchange, reply),
        (b"content-type", content.content_type.encode("latin-1", "replace") or b"application/octet-stream"),
        (b"content-length", b"%d" % content.size),
        (b"content-disposition", f'attachment; filename="{_file_name(content.content_type)}"'.encode("ascii")),
        (b"x-content-type-options", b"nosniff"),
        (b"content-security-policy", b"sandbox"),
    ]
    await send({"type": "http.response.start", "status": reply.status, "headers": headers})
    if exchange.scope["method"] != "HEAD":
        async for piece in content.chunks():
            await send({"type": "http.response.body", "body": piece, "more_body": True})
    await send({"type": "http.response.body", "body": b""})


def _file_name(content_type: str) -> str:
    """What a browser saves content as: a name of ours, whatever its sender called it."""
    kind = content_type.partition(";")[0].strip().lower()
    for ending in ("xml", "json"):
        if kind.endswith((f"/{ending}", f"+{ending}")):
            return f"document.{ending}"
    return f"document{_EXTENSIONS.guess_extension(kind) or ''}"


async def _send(send: Send, exchange: _Exchange, reply: FhirReply, body: bytes) -> None:
    headers = _reply_headers(exchange, reply)
    if reply.body is not None or reply.json is not None:
        headers.append((b"content-type", _TYPES[exchange.format]))
    if reply.status in (408, 413):  # what is left of the request is not read: the connection ends with the answer
        headers.append((b"connection", b"close"))
    if exchange.scope["method"] == "HEAD":
        headers.append((b"content-length", b"%d" % len(body)))
        await send({"type": "http.response.start", "status": reply.status, "headers": headers})
        await send({"type": "http.response.body", "body": b""})
    elif reply.status in (204, 304):
        await send({"type": "http.response.start", "status": reply.status, "headers": headers})
        await send({"type": "http.response.body", "body": b""})
    else:
        await send_whole(send, reply.status, headers, body)

"""Requests for security tokens and the answers to them (WS-Trust 1.3, sections 3, 4, 9 and 11; ITI TF-2:3.40)."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Any
from urllib.parse import urlsplit

from lxml import etree

from obieg.codes.load import toml
from obieg.domain.audit import AuditObject
from obieg.domain.identifiers import PatientId, is_oid
from obieg.domain.issuing import Claims, IssuedToken, TokenRequest
from obieg.domain.problems import Finding, Problem
from obieg.mapping.xua import read_facts
from obieg.protocol import SoapReply, SoapRequest
from obieg.wire.saml import Attribute, read_value
from obieg.wire.saml_writer import Stated, write_attribute
from obieg.wire.soap import SoapFault
from obieg.wire.structure import Node, Rules, SecurityRefused
from obieg.wire.xml import attribute, text
from obieg.wire.xmldsig import base64, certificate

TABLE = toml("wst.toml")
_POLISH = toml("national/pl/wst.toml")
_POLISH_SAML = toml("national/pl/saml.toml")
_PROBLEMS = toml("problems.toml")
_NS: dict[str, str] = TABLE["namespaces"]
WST = _NS["wst"]
ISSUE, RENEW = f"{WST}/Issue", f"{WST}/Renew"
ACTION = f"{WST}/RST/Issue"
_RULES = Rules(toml("saml.toml"))
_TOKEN = TABLE["token"]
_KEY_TYPES: dict[str, str] = TABLE["key_type"]
_FAULTS: dict[str, str] = TABLE["fault"]
_ATTRIBUTES_MAX = 32
_FACT_LENGTH_MAX = 256
# Attributes of which mapping.xua keeps nothing, because nobody is let in by them.
_SAID_BESIDES = {
    row["name"]: row["fact"]
    for row in (*TABLE["attribute"], *_POLISH["attribute"])
    if row["fact"] in ("organisation_name", "home_community", "source_organisation")
}
_POLISH_NAMES = frozenset(row["name"] for row in _POLISH["attribute"])
_KNOWN = frozenset(row["name"] for table in (toml("saml.toml"), _POLISH_SAML) for row in table["attribute"])
_POLISH_ROLES = {ours: theirs for theirs, ours in reversed(_POLISH_SAML["roles"].items())}  # the first name of each


def _tag(name: str) -> str:
    prefix, _, local = name.partition(":")
    return f"{{{_NS[prefix]}}}{local}"


_READ = frozenset(map(_tag, TABLE["request"]["read"]))
_IGNORED = frozenset(map(_tag, TABLE["request"]["ignored"]))
_APPLIES_TO = (_tag("wsp:AppliesTo"), _tag("wsp15:AppliesTo"))
_X509 = (_tag("ds:X509Data"), _tag("ds:X509Certificate"))


# reading ---------------------------------------------------------------------------------------------------------


def read_request(message: SoapRequest) -> TokenRequest:
    """The request. Raises Problem for what cannot be read or is not issued here."""
    body = message.body
    if body.tag != _tag("wst:RequestSecurityToken"):
        raise Problem.of("MessageNotReadable", "the Body holds no RequestSecurityToken of WS-Trust 1.3")
    kind = _text_of(body, "wst:RequestType")
    if kind != ISSUE or message.action not in ("", ACTION):
        raise _other_request(message.action, kind)
    children = list(_children(body))
    _expect_known(children)
    by_tag = {child.tag: child for child in children}
    if _text_of(body, "wst:TokenType", by_tag) not in ("", *_TOKEN["types"]):
        raise Problem.of("TokenNotIssued", f"only SAML 2.0 assertions are issued: {_TOKEN['type']}", "TokenType")
    key_type = _text_of(body, "wst:KeyType", by_tag)
    if key_type not in _KEY_TYPES:
        raise Problem.of("TokenNotIssued", "keys are none (Bearer) or the caller's own (PublicKey)", "KeyType")
    holder, of_message = _holder(by_tag.get(_tag("wst:UseKey")), _KEY_TYPES[key_type], message)
    attributes, claims = _claims(by_tag.get(_tag("wst:Claims")))
    scope, own = _scope([by_tag[tag] for tag in _APPLIES_TO if tag in by_tag], message.target)
    begins, ends = _lifetime(by_tag.get(_tag("wst:Lifetime")))
    return TokenRequest(
        claims,
        polish=not _POLISH_NAMES.isdisjoint(attributes),
        scope=scope,
        own_scope=own,
        holder=holder,
        holder_of_message=of_message,
        begins=begins,
        ends=ends,
        key_type=key_type,
        context=_context(body),
    )


def _other_request(action: str, kind: str) -> Problem:
    if not kind:
        return Problem.of("RequiredFieldMissing", "RequestType is missing", "RequestType")
    if action and action.rpartition("/")[2] != kind.rpartition("/")[2]:
        return Problem.of("MessageNotReadable", "wsa:Action and RequestType ask for different things", "RequestType")
    code = "TokenNotRenewed" if kind == RENEW else "TokenNotIssued"
    return Problem.of(code, "tokens are issued here, and end by themselves: ask for a new one", "RequestType")


def _children(body: Any) -> Iterable[Any]:
    """The elements of the request; those of SecondaryParameters where the requestor has not said so itself (4.3.2)."""
    secondary = body.find(_tag("wst:SecondaryParameters"))
    own = [child for child in body if child is not secondary]
    said = {child.tag for child in own}
    return own + [child for child in (secondary if secondary is not None else ()) if child.tag not in said]


def _expect_known(children: Iterable[Any]) -> None:
    seen: set[str] = set()
    for child in children:
        local = etree.QName(child).localname
        if child.tag not in _READ | _IGNORED:
            raise Problem.of("TokenNotIssued", f"{local} asks for what this node does not do", local)
        if child.tag in seen:
            raise Problem.of("MessageNotReadable", f"{local} is given twice", local)
        seen.add(child.tag)


def _text_of(body: Any, name: str, by_tag: dict[str, Any] | None = None) -> str:
    element = body.find(_tag(name)) if by_tag is None else by_tag.get(_tag(name))
    return (element.text or "").strip() if element is not None else ""


def _context(body: Any) -> str:
    context: str = body.get("Context", "")
    if len(context) > 1_024:
        raise Problem.of("DataTypeError", "Context is longer than 1024 characters", "Context")
    return context


def _holder(use_key: Any, kind: str, message: SoapRequest) -> tuple[bytes, bool]:
    """The certificate of a key that the caller has proved, and whether by the message (WS-Trust 1.3, section 9.2)."""
    if kind == "bearer":
        if use_key is not None:
            raise Problem.of("MessageNotReadable", "UseKey belongs to the KeyType PublicKey", "UseKey")
        return b"", False
    token = None if message.security is None else message.security.find(_tag("wsse:BinarySecurityToken"))
    of_message = b"" if token is None else _certificate(token.text)
    proved = {c: c == of_message for c in (of_message, message.certificate or b"") if c}
    if use_key is None:
        wanted = next(iter(proved), b"")
    elif (reference := use_key.find(f"{_tag('wsse:SecurityTokenReference')}/{_tag('wsse:Reference')}")) is not None:
        named = token is not None and reference.get("URI") == f"#{token.get(_tag('wsu:Id'))}"
        wanted = of_message if named else b""
    else:
        found = list(use_key.iter(_X509[1]))
        if len(found) != 1:
            raise Problem.of("MessageNotReadable", "UseKey names the key by one X509Certificate", "UseKey")
        wanted = _certificate(found[0].text)
    for der, by_message in proved.items():
        if wanted and certificate(der).key_info == certificate(wanted).key_info:
            return der, by_message
    raise Problem.of(
        "AuthenticationFailed",
        "the key is neither that of the connection's certificate nor that which signed the message",
        "UseKey",
    )


def _certificate(encoded: str | None) -> bytes:
    try:
        return certificate(base64(encoded or "")).der
    except SecurityRefused as error:
        raise Problem.of("DataTypeError", str(error), "X509Certificate") from None


def _scope(applies_to: list[Any], target: str) -> tuple[str, bool]:
    """The address in AppliesTo, and whether it is this node's."""
    if not applies_to:
        return "", True
    if len(applies_to) > 1 or len(applies_to[0]) != 1:
        raise Problem.of("MessageNotReadable", "AppliesTo names one address", "AppliesTo")
    (named,) = applies_to[0]
    if named.tag in _POLISH["scope"]["names"]:
        return "", True
    address = (named.findtext(_tag("wsa:Address")) or "").strip()
    if named.tag != _tag("wsa:EndpointReference") or not address:
        raise Problem.of("MessageNotReadable", "AppliesTo holds an EndpointReference with an Address", "AppliesTo")
    if not (address.isascii() and address.isprintable() and " " not in address and len(address) <= 1_024):
        raise Problem.of("DataTypeError", "the Address is no URI of at most 1024 characters", "AppliesTo")
    try:
        there, here = urlsplit(address), urlsplit(target)
    except ValueError:
        raise Problem.of("DataTypeError", "the Address is no URI", "AppliesTo") from None
    return address, (there.scheme.lower(), there.netloc.lower()) == (here.scheme.lower(), here.netloc.lower())


def _lifetime(lifetime: Any) -> tuple[datetime | None, datetime | None]:
    if lifetime is None:
        return None, None
    begins, ends = (_time(lifetime.findtext(_tag(f"wsu:{name}")), name) for name in ("Created", "Expires"))
    return begins, ends


def _time(value: str | None, location: str) -> datetime | None:
    if value is None:
        return None
    try:
        read = datetime.fromisoformat(value.strip())
    except ValueError:
        read = None
    if read is None or read.tzinfo is None:
        raise Problem.of("DataTypeError", "a time is written as xsd:dateTime with its offset", location)
    return read


def _claims(element: Any) -> tuple[frozenset[str], Claims]:
    """The names of the attributes, and what they say. A Dialect changes nothing."""
    if element is None:
        return frozenset(), Claims()
    attributes: list[Any] = []
    authn: dict[str, Any] = {}
    for child in element:
        if child.tag == _tag("saml:Attribute"):
            attributes.append(child)
        elif child.tag == _tag("saml:AttributeStatement"):
            attributes += child
        elif child.tag == _tag("saml:AuthnStatement") and not authn:
            authn = _authn(child)
        else:
            raise Problem.of("MessageNotReadable", "claims are attributes of SAML, and one AuthnStatement", "Claims")
    if len(attributes) > _ATTRIBUTES_MAX:
        raise Problem.of("LimitExceeded", f"more than {_ATTRIBUTES_MAX} attributes are claimed", "Claims")
    try:
        read = [_attribute(_RULES.read(a, "attribute")) for a in attributes]
        unknown = next((a.name for a in read if a.name not in _KNOWN), None)
        if unknown is not None:
            raise Problem.of("TableValueNotFound", "this node issues no such attribute", unknown)
        besides = _besides(read)
        said = read_facts(read)
    except SecurityRefused as error:
        raise Problem.of("TableValueNotFound", f"the claims cannot be issued: {error}", "Claims") from None
    facts = (
        "person", "person_name", "role", "organisation", "child_organisation", "purpose_of_use", "patient",
        "acting_for",
    )  # fmt: skip
    if any(len(said.get(fact, "")) > _FACT_LENGTH_MAX for fact in facts):
        raise Problem.of("LimitExceeded", f"a claim is longer than {_FACT_LENGTH_MAX} characters", "Claims")
    given: dict[str, Any] = {fact: said.get(fact, "") for fact in facts} | besides | authn
    claims = Claims(**given)
    return frozenset(a.name for a in read), claims


def _attribute(node: Node) -> Attribute:
    return Attribute(node.attributes["Name"], tuple(read_value(v) for v in node.children))


def _besides(attributes: Iterable[Attribute]) -> dict[str, str]:
    found: dict[str, str] = {}
    for one in attributes:
        fact = _SAID_BESIDES.get(one.name)
        if fact is None:
            continue
        if fact in found or len(one.values) != 1 or not one.values[0].text.isprintable():
            raise SecurityRefused(f"{fact} is given more than once, or cannot be read")
        value = one.values[0]
        found[fact] = value.text or f"{value.root}#{value.extension}".removesuffix("#")
    return found


def _authn(element: Any) -> dict[str, Any]:
    try:
        read = _RULES.read(element, "authn-statement")
    except SecurityRefused as error:
        raise Problem.of("MessageNotReadable", str(error), "AuthnStatement") from None
    return {
        "authenticated_at": _time(read.attributes["AuthnInstant"], "AuthnInstant"),
        "authn_context": read.one("authn-context").one("authn-context-class").text.strip(),
    }


def audited(claims: Claims) -> tuple[AuditObject, ...]:
    """For whom a token is, and about which patient."""
    subject = claims.person or claims.person_name
    found = [AuditObject("user", subject, details=_details(claims))] if subject else []
    if claims.patient:
        root, _, extension = claims.patient.partition("#")
        found.append(AuditObject("patient", str(PatientId(extension, root)) if extension else claims.patient))
    return tuple(found)


def _details(claims: Claims) -> tuple[tuple[str, str], ...]:
    facts = ("role", "organisation", "child_organisation", "purpose_of_use")
    return tuple((fact, getattr(claims, fact)) for fact in facts if getattr(claims, fact))


# writing ---------------------------------------------------------------------------------------------------------


def attributes_of(granted: Claims, *, polish: bool) -> tuple[Stated, ...]:
    """What the assertion says of its subject. Raises Problem for an identifier that its attribute cannot carry."""
    overlay = {row["fact"]: row for row in _POLISH["attribute"]} if polish else {}
    rows = [*TABLE["attribute"], *(r for f, r in overlay.items() if f not in _FACTS)]
    stated = []
    for standard in rows:
        value: str = getattr(granted, standard["fact"])
        row = overlay.get(standard["fact"], standard)
        if value:
            found = _FORMS[row["form"]](row["name"], value) or _FORMS[standard["form"]](standard["name"], value)
            stated += [found] if found is not None else []
    return tuple(stated)


_FACTS = frozenset(row["fact"] for row in TABLE["attribute"])


def _urn(name: str, value: str) -> Stated:
    return Stated(name, f"urn:oid:{value}" if is_oid(value) else value)


def _id(name: str, value: str) -> Stated | None:
    root, mark, extension = value.partition("#")
    if not mark:
        return None
    return Stated(name, element="id", given=(("root", root), ("extension", extension)), type="II")


def _cx(name: str, value: str) -> Stated:
    root, _, extension = value.partition("#")
    if not extension or not set(extension).isdisjoint("^&~|\\"):
        raise Problem.of("DataTypeError", "the patient is named by root and extension, as CX can carry them", name)
    return Stated(name, str(PatientId(extension, root)))


def _role(name: str, value: str) -> Stated:
    system, mark, code = value.partition("#")
    if mark:
        given: tuple[tuple[str, str], ...] = (("code", code), ("codeSystem", system))
    else:
        theirs = _POLISH_ROLES[value]
        given = (("code", theirs), ("displayName", theirs))
    return Stated(name, element="Role", given=given, type="CE")


def _polish_role(name: str, value: str) -> Stated | None:
    return Stated(name, _POLISH_ROLES[value]) if value in _POLISH_ROLES else None


def _purpose(name: str, value: str) -> Stated:
    given = (("code", value), ("codeSystem", _TOKEN["purpose_system"]))
    return Stated(name, element="PurposeOfUse", given=given, type="CE")


def _polish_purpose(name: str, value: str) -> Stated:
    return Stated(name, _POLISH["purposes"].get(value, value))


_FORMS: dict[str, Any] = {
    "text": Stated, "urn": _urn, "id": _id, "cx": _cx, "role": _role, "purpose": _purpose,
    "polish role": _polish_role, "polish purpose": _polish_purpose,
}  # fmt: skip


def write_request(claims: Claims) -> bytes:
    """A request for an assertion of any bearer, for the community of who is asked (WS-Trust 1.3, sections 3.1, 4.1).

    Raises Problem for what no assertion can say.
    """
    if not known_role(claims.role):
        raise Problem.of("TableValueNotFound", f"no assertion can say the role {claims.role}", "role")
    stated = "".join(map(write_attribute, attributes_of(claims, polish=False)))
    return (
        f'<wst:RequestSecurityToken xmlns:wst="{WST}"><wst:TokenType>{_TOKEN["type"]}</wst:TokenType>'
        f'<wst:RequestType>{ISSUE}</wst:RequestType><wst:Claims xmlns:saml="{_NS["saml"]}">{stated}</wst:Claims>'
        "</wst:RequestSecurityToken>"
    ).encode()


def read_issued(body: Any) -> IssuedToken:
    """The assertion of an answer, in exclusive canonical form. Raises Problem where there is none that ends."""
    found = next(body.iter(_tag("saml:Assertion")), None)
    conditions = None if found is None else found.find(_tag("saml:Conditions"))
    if found is None or conditions is None:
        raise Problem.of("MessageNotReadable", "the answer holds no assertion with conditions")
    begins, ends = (_time(conditions.get(name), name) for name in ("NotBefore", "NotOnOrAfter"))
    if begins is None or ends is None:
        raise Problem.of("MessageNotReadable", "the assertion does not say when it begins and ends", "Conditions")
    written: bytes = etree.tostring(found, method="c14n", exclusive=True, with_tail=False)
    return IssuedToken(found.get("ID", ""), written, begins, ends)


def known_role(role: str) -> bool:
    """Whether an assertion can say it: a code with its system, or one of P1's."""
    return not role or "#" in role or role in _POLISH_ROLES


def write_issued(issued: IssuedToken, request: TokenRequest) -> SoapReply:
    """The RequestSecurityTokenResponseCollection (WS-Trust 1.3, section 4.3)."""
    reference = (
        f'<wsse:SecurityTokenReference xmlns:wsse="{_NS["wsse"]}" xmlns:wsse11="{_NS["wsse11"]}" '
        f'wsse11:TokenType="{_TOKEN["type"]}"><wsse:KeyIdentifier ValueType="{_TOKEN["key_identifier"]}">'
        f"{text(issued.id)}</wsse:KeyIdentifier></wsse:SecurityTokenReference>"
    )
    context = f' Context="{attribute(request.context)}"' if request.context else ""
    applies_to = (
        f'<wsp:AppliesTo xmlns:wsp="{_NS["wsp"]}"><wsa:EndpointReference xmlns:wsa="{_NS["wsa"]}"><wsa:Address>'
        f"{text(request.scope)}</wsa:Address></wsa:EndpointReference></wsp:AppliesTo>"
        if request.scope
        else ""
    )
    key_type = f"<wst:KeyType>{text(request.key_type)}</wst:KeyType>" if request.key_type else ""
    begins, ends = (
        at.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
        for at in (issued.begins, issued.ends)
    )
    head = (
        f'<wst:RequestSecurityTokenResponseCollection xmlns:wst="{WST}"><wst:RequestSecurityTokenResponse{context}>'
        f"<wst:TokenType>{_TOKEN['type']}</wst:TokenType><wst:RequestedSecurityToken>"
    )
    tail = (
        f"</wst:RequestedSecurityToken><wst:RequestedAttachedReference>{reference}</wst:RequestedAttachedReference>"
        f"<wst:RequestedUnattachedReference>{reference}</wst:RequestedUnattachedReference>{applies_to}"
        f'<wst:Lifetime><wsu:Created xmlns:wsu="{_NS["wsu"]}">{begins}</wsu:Created>'
        f'<wsu:Expires xmlns:wsu="{_NS["wsu"]}">{ends}</wsu:Expires></wst:Lifetime>{key_type}'
        "</wst:RequestSecurityTokenResponse></wst:RequestSecurityTokenResponseCollection>"
    )
    return SoapReply(head.encode() + issued.assertion + tail.encode())


def write_refusal(findings: tuple[Finding, ...]) -> SoapReply:
    """The fault of WS-Trust 1.3, section 11, for the first finding, with the reasons of all."""
    first = findings[0].code
    code = _PROBLEMS[first].get("soap", "Sender")
    reason = "; ".join(f"{f.location}: {f.detail}" if f.location else f.detail for f in findings)
    return SoapReply(b"", fault=SoapFault(code, reason, _FAULTS.get(first, "wst:RequestFailed")))

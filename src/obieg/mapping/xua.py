"""What an assertion says of its subject, as a Requester (ITI TF-2:3.40.4.1.2; P1's attributes by overlay)."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from obieg.codes.load import toml
from obieg.domain.identifiers import is_oid, patient_id
from obieg.domain.requester import Requester
from obieg.wire.saml import Assertion, Attribute, AttributeValue
from obieg.wire.structure import SecurityRefused

_TABLE = toml("saml.toml")
_POLISH = toml("national/pl/saml.toml")
_ROWS: dict[str, dict[str, Any]] = {row["name"]: row for row in (*_TABLE["attribute"], *_POLISH["attribute"])}
_URN_OID = "urn:oid:"


def read_requester(assertion: Assertion) -> Requester:
    """The person whom ``assertion`` speaks of; who sends the message is not in it. Raises as :func:`read_facts`."""
    facts = read_facts(assertion.attributes)
    person = facts.pop("person", "") or assertion.name_id
    return Requester(
        system="",
        proof="saml",
        issuer=assertion.issuer,
        person=person,
        assurance=assertion.authn_context,
        token=assertion.id,
        until=assertion.not_on_or_after,
        **facts,
    )


def read_facts(attributes: Iterable[Attribute]) -> dict[str, Any]:
    """Facts of a Requester, by their names.

    Attributes that the tables do not name are not kept. Raises :class:`SecurityRefused` for a fact that is given
    twice or by several values, and for an identifier or a purpose of use that cannot be read.
    """
    facts: dict[str, Any] = {}
    for attribute in attributes:
        row = _ROWS.get(attribute.name)
        if row is None or "fact" not in row:
            continue
        fact = row["fact"]
        if fact in facts or len(attribute.values) != 1:
            raise SecurityRefused(f"{fact} is given more than once")
        facts[fact] = _FORMS[row["form"]](attribute.values[0])
    return facts


def _text(value: AttributeValue) -> str:
    if not value.text or not value.text.isprintable():
        raise SecurityRefused("an attribute has no text that can be read")
    return value.text


def _identifier(value: AttributeValue) -> str:
    """root#extension, or the root alone."""
    if value.code:
        raise SecurityRefused("an identifier is a code")
    if value.root:
        return _joined(value.root, value.extension)
    text = _text(value)
    cx = patient_id(text)
    if cx is not None:
        return cx.identifier
    if "^" in text:
        raise SecurityRefused("an identifier cannot be read")
    if text.startswith(_URN_OID):
        return _joined(text.removeprefix(_URN_OID), "")
    root, mark, extension = text.partition("#")
    return _joined(root, extension) if mark else text


def _joined(root: str, extension: str) -> str:
    root = root.removeprefix(_URN_OID)
    if not is_oid(root) or "#" in extension:
        raise SecurityRefused("an identifier has a root that is no OID")
    return f"{root}#{extension}" if extension else root


def _role(value: AttributeValue) -> str:
    """Our code where the table knows theirs, else theirs with its code system."""
    if value.root and value.code:
        return _joined(value.root, value.code)
    text = value.code or _text(value)
    return str(_POLISH["roles"].get(text, text))


def _purpose(value: AttributeValue) -> str:
    """A code of HL7's PurposeOfUse."""
    code = value.code or _text(value)
    system = _TABLE["purpose"].get(value.root)
    if not value.root and code in _POLISH["purposes"]:
        return str(_POLISH["purposes"][code])
    if system == "hl7" and code in _PURPOSES:
        return code
    theirs: dict[str, str] = _TABLE["purposes_of"].get(system, {})
    if code not in theirs:
        raise SecurityRefused("the purpose of use is not known")
    return theirs[code]


_PURPOSES = frozenset(_TABLE["purposes"]["hl7"])
_FORMS = {"text": _text, "identifier": _identifier, "role": _role, "purpose": _purpose}

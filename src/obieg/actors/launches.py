"""What a hospital's own system says of its person when it opens a record here (``docs/launch.md``).

It is a JWT that the system signs with a key it is registered with (RFC 7523, section 3), in the claims of IHE IUA (ITI
TF-2:3.71.4.2.2.1.1). A system may speak only for people of the organisations that the trust file names for it.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from obieg.actors.client_proof import SKEW, Clients
from obieg.codes.load import toml
from obieg.domain.accounts import is_person_identifier
from obieg.domain.authorization import OAuthRefused
from obieg.domain.identifiers import patient_id
from obieg.domain.launching import PROOF_LIFE, PURPOSES, Launching
from obieg.domain.requester import Spent
from obieg.domain.trust import OAuthClient
from obieg.wire import jwt

_GROUPS: dict[str, list[str]] = toml("access.toml")["roles"]
ROLES = frozenset(role for group in ("medical", "assistant", "clerk") for role in _GROUPS[group])


def read_subject(
    text: str, client: OAuthClient, clients: Clients, now: datetime
) -> tuple[Launching, str, tuple[Spent, ...]]:
    """What is asked, root#extension of the patient, and what asking uses up. Raises OAuthRefused."""
    try:
        token, spent = clients.signed(text, client.client_id)
        return (*_read(token.claims, client, now), spent)
    except jwt.JwtRefused as error:
        raise OAuthRefused("invalid_request", f"subject_token: {error}") from None


def _read(claims: Mapping[str, Any], client: OAuthClient, now: datetime) -> tuple[Launching, str]:
    said = claims.get("extensions")
    said = said.get("ihe_iua") if isinstance(said, dict) else None
    if not isinstance(said, dict):
        raise jwt.JwtRefused("extensions.ihe_iua is missing")
    person = jwt.text(claims, "sub")
    if "#" not in person or not is_person_identifier(person):
        raise jwt.JwtRefused("sub is the person as root#extension")
    organisation = _organisation(jwt.text(said, "subject_organization_id"))
    if organisation not in client.launches:
        raise jwt.JwtRefused("this client may not speak for people of subject_organization_id")
    role = _code(said, "subject_role")
    if role not in ROLES:
        raise jwt.JwtRefused(f"subject_role is one of {', '.join(sorted(ROLES))}")
    purpose = _code(said, "purpose_of_use")
    if purpose not in PURPOSES:
        raise jwt.JwtRefused(f"purpose_of_use is one of {', '.join(PURPOSES)}")
    patient = patient_id(jwt.text(said, "person_id"))
    if patient is None:
        raise jwt.JwtRefused("person_id is the patient as value^^^&root&ISO")
    return (
        Launching(
            client_id=client.client_id,
            client_name=client.name or client.client_id,
            person=person,
            organisation=organisation,
            role=role,
            purpose_of_use=purpose,
            patient="",
            proved_at=_proved_at(claims, now),
        ),
        patient.identifier,
    )


def _proved_at(claims: Mapping[str, Any], now: datetime) -> datetime:
    """``auth_time`` (OpenID Connect Core 1.0, section 2): nobody is let in without a proof, nor by an old one."""
    said = jwt.instant(claims, "auth_time")
    if said is None:
        raise jwt.JwtRefused("auth_time is missing")
    at = datetime.fromtimestamp(said, UTC)
    if at > now + SKEW:
        raise jwt.JwtRefused("auth_time is to come")
    if at <= now - PROOF_LIFE:
        raise jwt.JwtRefused("auth_time is too long ago: the person proves anew who they are")
    return min(at, now)


def _organisation(text: str) -> str:
    """``urn:oid:root/extension``, as this server writes it itself, or root#extension."""
    if not text.startswith("urn:oid:"):
        return text
    root, _, extension = text.removeprefix("urn:oid:").partition("/")
    return f"{root}#{extension}"


def _code(said: Mapping[str, Any], name: str) -> str:
    """The one code of a claim."""
    codings = said.get(name)
    if not isinstance(codings, list) or len(codings) != 1 or not isinstance(codings[0], dict):
        raise jwt.JwtRefused(f"{name} is missing, or more than one")
    return jwt.text(codings[0], "code")

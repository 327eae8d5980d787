"""Issues assertions by which people are known to other nodes (WS-Trust 1.3; X-Assertion Provider of ITI-40).

A system that this node knows by its certificate states its own users; a person who has logged in, or shows an
assertion, gets one that says no more than what already proves them. What is stated of purpose and patient narrows.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from datetime import datetime, timedelta
from typing import Any

import msgspec

from obieg.domain.audit import AuditObject
from obieg.domain.decisions import stated
from obieg.domain.issuing import Claims, IssuedToken, TokenRequest
from obieg.domain.problems import Finding, Problem
from obieg.domain.requester import Requester
from obieg.mapping import wst
from obieg.protocol import Context
from obieg.wire.saml_writer import Draft, SigningKey, write_assertion

_LIMITS = wst.TABLE["limits"]
_LIFETIME = timedelta(seconds=_LIMITS["lifetime_s"])
_LIFETIME_MAX = timedelta(seconds=_LIMITS["lifetime_max_s"])
_SKEW = timedelta(seconds=_LIMITS["skew_s"])
_SYSTEMS, _PEOPLE = ("laboratory", "certificate"), ("saml", "session")
# What proves a person says it finally, and what it may leave open.
_FIXED = ("person", "person_name", "role", "organisation", "child_organisation")
_NARROWING = ("purpose_of_use", "patient")
_ASSISTANT, _PATIENT = "medical-assistant", "patient"


class SecurityTokenService:
    """Decides who may be told to be whom, and signs it."""

    def __init__(
        self,
        key: SigningKey,
        *,
        issuer: str,
        home_community_id: str,
        organisations: Mapping[str, str],
        new_uuid: Callable[[], str],
    ) -> None:
        """``issuer`` is the entity id. ``organisations``: name of a node -> the only one whose people it may state."""
        self._key = key
        self._issuer = issuer
        self._home_community_id = home_community_id
        self._organisations = organisations
        self._new_uuid = new_uuid

    async def issue(self, request: TokenRequest, context: Context) -> IssuedToken:
        """The assertion. Raises Problem for what the caller may not have."""
        granted = self._granted(request.claims, context.requester)
        context.objects = wst.audited(granted)
        _expect_proved(request, context.requester)
        now = context.received_at.replace(microsecond=context.received_at.microsecond // 1000 * 1000)
        ends = _ends(request, context.requester, now)
        draft = Draft(
            id=f"_{self._new_uuid()}",
            issuer=self._issuer,
            issued_at=now,
            until=ends,
            name_id=granted.person or granted.person_name,
            name_id_format=wst.TABLE["token"]["name_id"],
            audiences=tuple(filter(None, (request.scope, self._issuer if request.own_scope else ""))),
            authenticated_at=_authenticated_at(granted, now),
            authn_context=granted.authn_context or wst.TABLE["token"]["authn_context"],
            holder=request.holder,
            attributes=wst.attributes_of(granted, polish=request.polish),
        )
        assertion = await asyncio.to_thread(write_assertion, draft, self._key)
        details = (("Audience", " ".join(draft.audiences)), ("NotOnOrAfter", ends.isoformat()))
        context.objects += (AuditObject("assertion", draft.id, details=details),)
        return IssuedToken(draft.id, assertion, now, ends)

    async def vouch(self, requester: Requester, now: datetime, holder: bytes) -> bytes:
        """An assertion naming who asks this node, for a question that this node asks for them elsewhere.

        It says what the node itself has found proved, and holds in the hands of who has the key of the certificate
        ``holder`` (DER) alone: whoever is asked cannot ask others with it. Raises Problem for what it cannot carry.
        """
        facts: dict[str, Any] = {**stated(requester)}
        if not (requester.person or requester.person_name):
            facts["person"] = requester.system
        claims = Claims(**facts, home_community=f"urn:oid:{self._home_community_id}")
        now = now.replace(microsecond=now.microsecond // 1000 * 1000)
        draft = Draft(
            id=f"_{self._new_uuid()}",
            issuer=self._issuer,
            issued_at=now,
            until=min(filter(None, (now + _LIFETIME, requester.until))),
            name_id=claims.person or claims.person_name,
            name_id_format=wst.TABLE["token"]["name_id"],
            audiences=(self._issuer,),
            authenticated_at=min(requester.logged_in_at or now, now),
            authn_context=requester.assurance or wst.TABLE["token"]["authn_context"],
            holder=holder,
            attributes=wst.attributes_of(claims, polish=False),
        )
        return await asyncio.to_thread(write_assertion, draft, self._key)

    def _granted(self, claims: Claims, requester: Requester) -> Claims:
        """What is said of the subject."""
        if requester.proof not in (*_SYSTEMS, *_PEOPLE):
            raise Problem.of(
                "AuthenticationFailed", "tokens are issued to who shows a certificate, an assertion or a session"
            )
        findings = []
        if requester.scopes is not None or requester.acting_for:
            findings.append(Finding("NotPermitted", "who acts for another, or by a limited token, gets no assertion"))
        if claims.home_community.removeprefix("urn:oid:") not in ("", self._home_community_id):
            findings.append(_not_permitted("home_community", "it is not the community of this node"))
        if not wst.known_role(claims.role):
            findings.append(Finding("TableValueNotFound", "the role is neither P1's nor has a code system", "role"))
        by_system = requester.proof in _SYSTEMS
        granted = self._of_system(claims, requester, findings) if by_system else _of_person(claims, requester, findings)
        if findings:
            raise Problem(findings)
        return msgspec.structs.replace(granted, home_community=f"urn:oid:{self._home_community_id}")

    def _of_system(self, claims: Claims, requester: Requester, findings: list[Finding]) -> Claims:
        bound = self._organisations.get(requester.system, "")
        if bound and claims.organisation not in ("", bound):
            findings.append(_not_permitted("organisation", "it is not that of the calling system"))
        if bound and claims.role == _PATIENT:  # to whom everything of theirs is open, what they restrict, too
            findings.append(_not_permitted("role", "a system of an organisation states its own people, no patients"))
        if claims.acting_for and claims.role != _ASSISTANT:
            findings.append(_not_permitted("acting_for", f"only somebody of the role {_ASSISTANT} acts for another"))
        given = {"organisation": bound or claims.organisation}
        if not (claims.person or claims.person_name):
            given["person"] = requester.system  # it asks for itself
        return msgspec.structs.replace(claims, **given)


def _of_person(claims: Claims, requester: Requester, findings: list[Finding]) -> Claims:
    findings += [
        _not_permitted(fact, "what proves the caller does not say so")
        for fact in _FIXED
        if getattr(claims, fact) not in ("", getattr(requester, fact))
    ]
    findings += [
        _not_permitted(fact, "what proves the caller is limited to another")
        for fact in _NARROWING
        if getattr(requester, fact) and getattr(claims, fact) not in ("", getattr(requester, fact))
    ]
    findings += [
        _not_permitted(fact, "only a system may state it of its users")
        for fact in ("organisation_name", "source_organisation", "authn_context", "acting_for")
        if getattr(claims, fact)
    ]
    given = {fact: getattr(requester, fact) for fact in _FIXED}
    given |= {fact: getattr(requester, fact) or getattr(claims, fact) for fact in _NARROWING}
    return Claims(**given, authn_context=requester.assurance)


def _not_permitted(fact: str, detail: str) -> Finding:
    return Finding("NotPermitted", detail, fact)


def _expect_proved(request: TokenRequest, requester: Requester) -> None:
    """A signature over the message is looked at where an assertion came with it, and nowhere else."""
    if request.holder_of_message and requester.proof != "saml":
        raise Problem.of("AuthenticationFailed", "nobody has verified that the message is signed by the key", "UseKey")


def _ends(request: TokenRequest, requester: Requester, now: datetime) -> datetime:
    begins = request.begins or now
    if begins > now + _SKEW:
        raise Problem.of("TokenTimeRange", "tokens hold from when they are issued, not from later on", "Created")
    ends = min(request.ends or now + _LIFETIME, now + _LIFETIME_MAX)
    if request.ends is not None and request.ends <= max(begins, now):
        raise Problem.of("TokenTimeRange", "the token would have ended before it begins", "Expires")
    if requester.until is not None:
        ends = min(ends, requester.until)
    if ends <= now:
        raise Problem.of("TokenTimeRange", "what proves the caller has ended", "Expires")
    return ends


def _authenticated_at(granted: Claims, now: datetime) -> datetime:
    stated = granted.authenticated_at
    if stated is None:
        return now
    if stated > now + _SKEW:
        raise Problem.of("TokenTimeRange", "nobody has been authenticated in the future", "AuthnInstant")
    return stated

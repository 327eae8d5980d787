"""The one place that makes a Requester."""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from datetime import datetime, timedelta

import msgspec

from obieg.codes.load import toml
from obieg.domain.problems import Finding, Problem
from obieg.domain.requester import Requester, Spent
from obieg.domain.trust import Trust, TrustedNode
from obieg.mapping.xua import read_requester
from obieg.protocol import BearerVerifier, Credentials, Sessions
from obieg.wire import saml
from obieg.wire.structure import SecurityRefused
from obieg.wire.xmldsig import Certificate, certificate

_LIMITS = toml("saml.toml")["limits"]
_SKEW = timedelta(seconds=_LIMITS["skew_s"])
_LIFETIME_MAX = timedelta(seconds=_LIMITS["lifetime_max_s"])
_MESSAGE_LIFETIME_MAX = timedelta(seconds=_LIMITS["message_lifetime_max_s"])
_MESSAGE_ID_MAX = 512
# How many verified assertions a worker keeps: a few megabytes.
CACHE_MAX = 4_096
_REQUIRED = (
    "the caller has not proved who it is. This node requires, over mutual TLS, a SAML assertion (ITI-40), an access "
    "token (ITI-72), or the certificate of a node that its settings name; see the node's audit for the reason"
)


class LaboratoryAuthentication:
    """In the laboratory nobody has to prove anything; the node listens on loopback only."""

    async def authenticate(self, credentials: Credentials) -> Requester:
        """Whoever calls."""
        address = credentials.address
        return Requester(system=address, address=address, proof="laboratory", repositories=None)


class AddressAuthentication:
    """Callers are the nodes that the settings name, by their network address."""

    def __init__(self, nodes: Mapping[str, tuple[str, tuple[str, ...]]]) -> None:
        """``nodes``: address -> (name, repositoryUniqueIds that it may register for)."""
        self._nodes = nodes

    async def authenticate(self, credentials: Credentials) -> Requester:
        """Raises Problem for an address that no node has."""
        address = credentials.address
        node = self._nodes.get(address)
        if node is None:
            raise Problem.of("AuthenticationFailed", "this address belongs to no node that the settings name")
        name, repositories = node
        return Requester(system=name, address=address, proof="address", organisation=name, repositories=repositories)


class _Verified(msgspec.Struct, frozen=True):
    """An assertion of the cache; nothing of it depends on when and by whom it is used."""

    assertion: saml.Assertion
    requester: Requester
    signer: Certificate
    audiences: frozenset[str]  # of its issuer


class TrustedAuthentication:
    """Callers prove themselves by an assertion, a token, a session or the certificate of a known node.

    What a proof says is read once and kept for as long as the trust is the same; whether it holds (its times, audience,
    recipient, holder, certificates) is asked on every use.
    """

    def __init__(
        self,
        trust: Trust,
        *,
        clock: Callable[[], datetime],
        nodes: Sequence[TrustedNode] = (),
        strangers: TrustedNode | None = None,
        bearer: BearerVerifier | None = None,
        sessions: Sessions | None = None,
        revoked: Callable[[bytes], bool] = lambda _certificate: False,
        cache_max: int = CACHE_MAX,
    ) -> None:
        """``nodes`` are the systems known by their certificates.

        ``strangers``: what a certificate that names none of them makes of its owner; None: nothing, as it should be
        outside a laboratory. ``revoked`` tells whether the certificate of these bytes (DER) has been withdrawn.
        """
        self._clock = clock
        self._nodes = {name: node for node in nodes for name in node.certificates}
        self._strangers = strangers
        self._bearer = bearer
        self._sessions = sessions
        self._revoked = revoked
        self._cache: OrderedDict[bytes, _Verified] = OrderedDict()
        self._cache_max = cache_max
        self.trust = trust

    @property
    def trust(self) -> Trust:
        """Whom the node trusts; another one holds from the next request on."""
        return self._trust

    @trust.setter
    def trust(self, trust: Trust) -> None:
        self._trust = trust
        self._issuers = {i.entity_id: tuple(certificate(der) for der in i.certificates) for i in trust.saml_issuers}
        self._audiences = {i.entity_id: frozenset(i.audiences) for i in trust.saml_issuers}
        self._version = trust.version.encode()
        self._cache.clear()

    async def authenticate(self, credentials: Credentials) -> Requester:
        """Raises Problem ``AuthenticationFailed``; the caller is told what is required, the audit why it failed."""
        try:
            return await self._prove(credentials)
        except SecurityRefused as error:
            raise Problem([Finding("AuthenticationFailed", _REQUIRED, reason=str(error))]) from None

    async def _prove(self, shown: Credentials) -> Requester:
        client = self._client(shown.certificate) if shown.certificate is not None else None
        if shown.security is not None:
            if shown.authorization:
                raise SecurityRefused("an assertion and a token at once")
            if shown.large:
                return await asyncio.to_thread(self._by_assertion, shown, client)
            return self._by_assertion(shown, client)
        if shown.authorization:
            if self._bearer is None:
                raise SecurityRefused("a way of authorization that this node does not know")
            return await self._bearer.verify(shown)
        if shown.cookie and self._sessions is not None:
            person = await self._sessions.current(shown.cookie)
            if person is not None:
                if shown.foreign:
                    raise SecurityRefused("a page of another site, or none, used the cookie of somebody logged in")
                return msgspec.structs.replace(person, address=shown.address)
        if client is None:
            raise SecurityRefused("nothing was shown")
        return self._by_certificate(shown, client)

    # certificates ---------------------------------------------------------------------------------------------------

    def _client(self, der: bytes) -> Certificate:
        """The certificate of the connection; that an authority of ours has issued it, TLS has seen to."""
        return self._valid(certificate(der))

    def _valid(self, one: Certificate) -> Certificate:
        now = self._clock().timestamp()
        if not one.not_before <= now <= one.not_after:
            raise SecurityRefused("a certificate is not valid now")
        if self._revoked(one.der):
            raise SecurityRefused("a certificate has been withdrawn")
        return one

    def _node(self, client: Certificate, address: str) -> TrustedNode | None:
        """The node whose certificate it is; refuses it from another address than the one it is bound to."""
        for name in (client.fingerprint, client.subject, *client.names):
            node = self._nodes.get(name)
            if node is not None:
                if node.address not in ("", address):
                    raise SecurityRefused("the certificate is of a node that calls from another address")
                return node
        return None

    def _by_certificate(self, shown: Credentials, client: Certificate) -> Requester:
        node = self._node(client, shown.address)
        if node is None and not shown.tokens:
            node = self._strangers
        if node is None:
            raise SecurityRefused("the certificate is of no node that the settings name, and no token was shown")
        return Requester(
            system=node.name or client.subject,
            address=shown.address,
            proof="certificate",
            organisation=node.name,
            repositories=node.repositories,
        )

    # assertions -----------------------------------------------------------------------------------------------------

    def _by_assertion(self, shown: Credentials, client: Certificate | None) -> Requester:
        if client is None:
            raise SecurityRefused("an assertion without the certificate of a client")
        if shown.disguised:
            raise SecurityRefused("comments or xml:id in the message, or CDATA in its header")
        header = saml.read_security(shown.security, shown.envelope)
        verified = self._verified(header.assertion)
        assertion = verified.assertion
        now = self._clock()
        self._expect_now(assertion, verified, shown, now)
        until = assertion.not_on_or_after + _SKEW
        holder = client.key_info
        spent: tuple[Spent, ...] = ()
        message: saml.MessageSignature | None = None
        if "message-signature" in header.elements:
            message = saml.verify_message(header, shown.envelope)
            token = self._valid(certificate(message.token))
            self._expect_message_now(message, now)
            holder = token.key_info
            # MessageID is not signed: the signature itself is what cannot be shown again.
            spent = (Spent("signature", assertion.issuer, saml.digest(message.value).hex(), until),)
        node = self._node(client, shown.address) or self._strangers
        self._expect_confirmed(assertion, header, holder, client, node)
        if message is not None and (envelope := shown.envelope) is not None:
            envelope.replace(envelope[-1], message.body)
        if not 0 < len(shown.message_id) <= _MESSAGE_ID_MAX:
            raise SecurityRefused("the message has no identifier, or one that is too long")
        spent += (Spent("message", assertion.issuer, shown.message_id, until),)
        if assertion.one_time_use:
            spent += (Spent("assertion", assertion.issuer, assertion.id, until),)
        return msgspec.structs.replace(
            verified.requester,
            system=(node.name if node is not None else "") or client.subject,
            address=shown.address,
            spent=spent,
            repositories=node.repositories if node is not None else (),
        )

    def _verified(self, data: bytes) -> _Verified:
        """The assertion of these canonical bytes; refused ones are not kept.

        Large messages come here from threads, so each step on the cache is one that no other can come between.
        """
        key = self._version + saml.digest(data)
        found = self._cache.pop(key, None)
        if found is None:
            assertion = saml.verify_assertion(data, lambda issuer: self._issuers.get(issuer, ()))
            audiences = self._audiences.get(assertion.issuer, frozenset())
            found = _Verified(assertion, read_requester(assertion), certificate(assertion.signed_by), audiences)
        self._cache[key] = found  # as the one that was used last
        if len(self._cache) > self._cache_max:
            with suppress(KeyError):
                self._cache.popitem(last=False)
        return found

    def _expect_now(self, assertion: saml.Assertion, verified: _Verified, shown: Credentials, now: datetime) -> None:
        """SAML 2.0 Core, sections 2.4.1.2 and 2.5.1; ITI TF-2:3.40.4.1.3."""
        self._valid(verified.signer)
        early, late = now + _SKEW, now - _SKEW
        if not assertion.not_before < assertion.not_on_or_after <= assertion.not_before + _LIFETIME_MAX:
            raise SecurityRefused("the assertion ends before it begins, or holds for too long")
        if assertion.not_before > early or assertion.issued_at > early or assertion.authenticated_at > early:
            raise SecurityRefused("the assertion does not hold yet")
        if assertion.not_on_or_after <= late or assertion.issued_at < late - _LIFETIME_MAX:
            raise SecurityRefused("the assertion holds no longer")
        if assertion.session_until is not None and assertion.session_until <= late:
            raise SecurityRefused("the session of the assertion has ended")
        if assertion.confirmed_from is not None and assertion.confirmed_from > early:
            raise SecurityRefused("the confirmation of the subject does not hold yet")
        if assertion.confirmed_until is not None and assertion.confirmed_until <= late:
            raise SecurityRefused("the confirmation of the subject holds no longer")
        if not all(verified.audiences.intersection(restriction) for restriction in assertion.audiences):
            raise SecurityRefused("the assertion is for somebody else")
        if assertion.recipient and assertion.recipient != shown.target:
            raise SecurityRefused("the assertion is for another address")
        if assertion.address and assertion.address != shown.address:
            raise SecurityRefused("the assertion may be shown from another address only")

    @staticmethod
    def _expect_message_now(message: saml.MessageSignature, now: datetime) -> None:
        if not message.created < message.expires <= message.created + _MESSAGE_LIFETIME_MAX:
            raise SecurityRefused("the message expires before it was made, or too late")
        if message.created > now + _SKEW or message.expires <= now - _SKEW:
            raise SecurityRefused("the message does not hold now")

    @staticmethod
    def _expect_confirmed(
        assertion: saml.Assertion,
        header: saml.SecurityHeader,
        holder: bytes,
        client: Certificate,
        node: TrustedNode | None,
    ) -> None:
        """WSS SAML Token Profile 1.1.1, section 3.5; ``holder`` is the key that was proved."""
        if assertion.method not in header.methods:
            raise SecurityRefused("the subject is confirmed in a way that this message structure does not have")
        if assertion.method == "holder-of-key":
            if assertion.holder != holder:
                raise SecurityRefused("the message comes from somebody else than the holder of the key")
        elif holder != client.key_info:
            raise SecurityRefused("the message is signed by somebody else than the client of the connection")
        elif assertion.method == "sender-vouches" and node is None:
            raise SecurityRefused("the sender vouches for the subject and is no node that the settings name")

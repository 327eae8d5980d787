"""A door that trusts one issuer of assertions, with a clock that stands still."""

from __future__ import annotations

import asyncio
from datetime import datetime
from typing import Any

from minting import AUDIENCE, ISSUER, NOW, Identity, identity
from obieg.actors.authentication import TrustedAuthentication
from obieg.domain.problems import Problem
from obieg.domain.requester import Requester
from obieg.domain.trust import SamlIssuer, Trust, TrustedNode
from obieg.protocol import Credentials
from obieg.wire import saml, soap
from obieg.wire.xml import is_disguised, parse_message

STS, CLIENT = identity("sts"), identity("client")
TARGET = "https://region.example.pl/services/registry"
ANYONE = TrustedNode("", (), None)


class Door:
    """An authentication and what it is asked with."""

    saml = saml

    def __init__(
        self, *issuers: Identity, now: datetime = NOW, strangers: TrustedNode | None = ANYONE, **options: Any
    ) -> None:
        self.now = now
        self.withdrawn: set[bytes] = set()
        trust = Trust((SamlIssuer(ISSUER, tuple(i.der for i in issuers), (AUDIENCE,)),), version="1")
        self.authentication = TrustedAuthentication(
            trust, clock=lambda: self.now, strangers=strangers, revoked=self.withdrawn.__contains__, **options
        )

    def prove(self, shown: Credentials) -> Requester:
        return asyncio.run(self.authentication.authenticate(shown))


def shown(
    data: bytes, *, client: Identity | None = CLIENT, target: str = TARGET, address: str = "127.0.0.1"
) -> Credentials:
    """A message as the SOAP edge shows it. Raises SoapFault and XmlRefused as the edge does."""
    root = parse_message(data)
    read = soap.read_envelope(root)
    return Credentials(
        address=address,
        certificate=client.der if client is not None else None,
        target=target,
        security=read.security,
        envelope=root,
        message_id=read.message_id,
        disguised=is_disguised(data, root),
    )


AUTHENTICATION = Door(STS)


def asked(data: bytes, *, door: Door = AUTHENTICATION, **options: Any) -> Requester:
    """Who asks."""
    return door.prove(shown(data, **options))


def problem(data: bytes, *, door: Door = AUTHENTICATION, **options: Any) -> Problem:
    """How it is refused."""
    try:
        found = asked(data, door=door, **options)
    except Problem as error:
        return error
    raise AssertionError(f"accepted: {found}")


def refused(data: bytes, *, door: Door = AUTHENTICATION, **options: Any) -> str:
    """Why it is refused."""
    (finding,) = problem(data, door=door, **options).findings
    assert finding.code == "AuthenticationFailed"
    return finding.reason

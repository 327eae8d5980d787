"""Whom a node trusts: who may vouch for people, which clients may ask for tokens, whose certificates may connect."""

from __future__ import annotations

from typing import Any

from obieg.domain.documents import Value


class SamlIssuer(Value, frozen=True):
    """Who signs assertions (SAML 2.0 metadata, section 2.4): the entity and its keys belong together."""

    entity_id: str
    certificates: tuple[bytes, ...]  # DER; a signature by any of them is the issuer's
    audiences: tuple[str, ...]  # what its assertions must name this node by


class OAuthClient(Value, frozen=True):
    """A client registered by hand (RFC 7591, section 2)."""

    client_id: str
    jwks: dict[str, Any]  # its public keys (RFC 7517, section 5)
    scopes: tuple[str, ...]  # the most it may be granted
    redirect_uris: tuple[str, ...] = ()  # compared as they are; none: it cannot ask for a person
    name: str = ""  # for people
    launch_uri: str = ""  # where a page of this node starts it with a patient (SMART App Launch); none: it cannot
    launches: tuple[str, ...] = ()  # root#extension of organisations whose people it may send here without log-in


class TrustedNode(Value, frozen=True):
    """A system that is known by its certificate."""

    name: str
    # Each is the SHA-256 of a certificate in hexadecimal, its subject (RFC 4514), or a name of its subjectAltName.
    certificates: tuple[str, ...]
    repositories: tuple[str, ...] | None = ()  # repositoryUniqueIds that it may register for; None: any
    address: str = ""  # the only one that its calls come from; "": any


class Trust(Value, frozen=True):
    """All of it."""

    saml_issuers: tuple[SamlIssuer, ...] = ()
    oauth_clients: tuple[OAuthClient, ...] = ()
    client_authorities: tuple[bytes, ...] = ()  # DER of the authorities whose clients may connect
    version: str = ""  # another one whenever anything of it is another

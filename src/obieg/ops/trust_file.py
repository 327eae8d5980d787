"""Reads the file of whom a node trusts; docs/lab.md describes it."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import msgspec
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from obieg.domain.trust import OAuthClient, SamlIssuer, Trust
from obieg.ops.failure import Failure


class _Issuer(msgspec.Struct, forbid_unknown_fields=True, frozen=True):
    entity_id: str
    audience: str | tuple[str, ...]
    certificate: str | tuple[str, ...]


class _Client(msgspec.Struct, forbid_unknown_fields=True, frozen=True):
    client_id: str
    jwks: dict[str, Any]
    scopes: str | tuple[str, ...]
    redirect_uris: tuple[str, ...] = ()
    name: str = ""
    launch_uri: str = ""
    launches: tuple[str, ...] = ()


class _File(msgspec.Struct, forbid_unknown_fields=True, frozen=True):
    saml_issuers: tuple[_Issuer, ...] = ()
    oauth_clients: tuple[_Client, ...] = ()
    client_cas: str | tuple[str, ...] = ()


def read_trust(path: Path) -> Trust:
    """What ``path`` lists. Raises :class:`Failure` for a file that cannot be read or says something else."""
    try:
        return parse_trust(path.read_bytes(), path.parent)
    except (OSError, ValueError) as error:
        raise Failure(
            f"{path} cannot be read: {error}.",
            "It lists whom the node trusts; without it nobody could prove who they are.",
            "Correct it; docs/lab.md describes its form.",
        ) from error


def parse_trust(data: bytes, folder: Path, *, beside: bool = True) -> Trust:
    """What the content of such a file in ``folder`` lists. Raises ValueError, OSError.

    ``beside``: whether it may name files.
    """
    try:
        content = msgspec.json.decode(data, type=_File)
    except msgspec.MsgspecError as error:
        raise ValueError(str(error)) from None
    place = folder if beside else None
    issuers = tuple(
        SamlIssuer(i.entity_id, _certificates(i.certificate, place), _several(i.audience)) for i in content.saml_issuers
    )
    clients = tuple(
        OAuthClient(c.client_id, c.jwks, _scopes(c.scopes), c.redirect_uris, c.name, c.launch_uri, c.launches)
        for c in content.oauth_clients
    )
    authorities = _certificates(content.client_cas, place)
    read = [*(c for i in issuers for c in i.certificates), *authorities]
    version = hashlib.sha256(data + b"".join(read)).hexdigest()[:16]
    return Trust(issuers, clients, authorities, version)


def _several(value: str | tuple[str, ...]) -> tuple[str, ...]:
    return (value,) if isinstance(value, str) else value


def _scopes(value: str | tuple[str, ...]) -> tuple[str, ...]:
    return tuple(value.split()) if isinstance(value, str) else value


def _certificates(value: str | tuple[str, ...], folder: Path | None) -> tuple[bytes, ...]:
    """Each is PEM, the Base64 of DER, or the name of a PEM file beside the list."""
    return tuple(der for one in _several(value) for der in _read_certificates(one, folder))


def _read_certificates(value: str, folder: Path | None) -> list[bytes]:
    if "-----BEGIN" in value:
        pem = value
    elif value.endswith((".pem", ".crt", ".cer")):
        if folder is None:
            raise ValueError(f"{value} is a file of the machine, which is read at the command line: obieg check")
        pem = (folder / value).read_text("ascii")
    else:
        pem = f"-----BEGIN CERTIFICATE-----\n{value}\n-----END CERTIFICATE-----\n"
    return [c.public_bytes(Encoding.DER) for c in x509.load_pem_x509_certificates(pem.encode())]

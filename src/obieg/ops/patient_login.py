"""Builds the log-in of patients from the settings: who the identity provider is, and our keys."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from datetime import datetime
from pathlib import Path
from typing import NamedTuple

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_pem_private_key

from obieg.actors.wezel_krajowy import Keys, WezelKrajowy
from obieg.codes.load import toml
from obieg.domain.patient_login import IdentityProvider, ServiceProvider
from obieg.edges.back_channel import SamlBackChannel
from obieg.edges.patient_login import PREFIX
from obieg.ops.failure import Failure
from obieg.ops.logging_in import origin_for_patients
from obieg.ops.settings import Settings, WezelKrajowySettings, is_private
from obieg.ops.tls import calling
from obieg.storage.audit_store import AuditStore
from obieg.storage.link import Database
from obieg.storage.login_store import PostgresLogins
from obieg.wire.saml_protocol import read_metadata

_TABLE = toml("national/pl/wezel_krajowy.toml")


class Patients(NamedTuple):
    """How patients log in."""

    login: WezelKrajowy
    close: Callable[[], Awaitable[None]]  # its connections


def patient_login(
    settings: Settings, database: Database, audit: AuditStore, *, now: Callable[[], datetime]
) -> Patients | None:
    """None where the settings do not name the node to Węzeł Krajowy. Raises Failure where a file cannot be used."""
    given = settings.wezel_krajowy
    if not given.own_entity_id:
        return None
    try:
        provider = _identity_provider(given)
        keys = _keys(given)
        _check(provider, keys, lab=settings.lab)
    except (OSError, ValueError) as error:
        raise Failure(
            f"Węzeł Krajowy cannot be used: {error}.",
            "Patients could not log in, so the node was not started.",
            "Correct the files and addresses under [wezel_krajowy] in the settings; docs/settings.md describes them.",
        ) from error
    base = origin_for_patients(settings) + PREFIX
    channel = SamlBackChannel(
        answer_bytes_max=_TABLE["limits"]["message_bytes_max"], tls=calling(settings, given.ca_file)
    )
    login = WezelKrajowy(
        PostgresLogins(database, audit),
        channel,
        audit,
        identity_provider=provider,
        service_provider=ServiceProvider(
            entity_id=given.own_entity_id,
            consumer_url=f"{base}/acs",
            name=settings.name,
            level=given.level,
        ),
        keys=keys,
        now=now,
    )
    return Patients(login, channel.close)


def _identity_provider(given: WezelKrajowySettings) -> IdentityProvider:
    if given.metadata_file is not None:
        return IdentityProvider(*read_metadata(given.metadata_file.read_bytes()))
    certificates = tuple(der for path in given.certificate_files for der in _certificates(path))
    return IdentityProvider(given.entity_id, given.sign_on_url, given.artifact_url, given.logout_url, certificates)


def _keys(given: WezelKrajowySettings) -> Keys:
    signing, signing_certificate = _pair(given.signing_key_file, given.signing_certificate_file)
    encryption, encryption_certificate = _pair(given.encryption_key_file, given.encryption_certificate_file)
    return Keys(
        signing=signing,
        signing_certificate=signing_certificate,
        encryption=encryption,
        encryption_certificate=encryption_certificate,
    )


def _pair(key_file: Path | None, certificate_file: Path | None) -> tuple[ec.EllipticCurvePrivateKey, bytes]:
    assert key_file is not None  # noqa: S101 - the settings have looked
    assert certificate_file is not None  # noqa: S101
    key = load_pem_private_key(key_file.read_bytes(), password=None)
    if not isinstance(key, ec.EllipticCurvePrivateKey):
        raise ValueError(f"{key_file} holds no key of an elliptic curve")  # noqa: TRY004 - a file, not a type
    (der, *_) = _certificates(certificate_file)
    form = Encoding.DER, PublicFormat.SubjectPublicKeyInfo
    certified = x509.load_der_x509_certificate(der).public_key().public_bytes(*form)
    if certified != key.public_key().public_bytes(*form):
        raise ValueError(f"{certificate_file} is not of the key in {key_file}")
    return key, der


def _certificates(path: Path) -> tuple[bytes, ...]:
    return tuple(c.public_bytes(Encoding.DER) for c in x509.load_pem_x509_certificates(path.read_bytes()))


def _check(provider: IdentityProvider, keys: Keys, *, lab: bool) -> None:
    addresses = {"sign_on_url": provider.sign_on_url, "artifact_url": provider.artifact_url}
    if provider.logout_url:
        addresses["logout_url"] = provider.logout_url
    for name, address in addresses.items():
        if not is_private(address, lab=lab):
            raise ValueError(f"{name} is no https address")
    if not provider.certificates:
        raise ValueError("nothing says by which keys it signs")
    if keys.signing.curve.name != _TABLE["signing"]["curve"]:
        raise ValueError(f"the signing key is not on {_TABLE['signing']['curve']}")
    if keys.signing_certificate == keys.encryption_certificate:
        raise ValueError("one key must sign and another one decrypt")

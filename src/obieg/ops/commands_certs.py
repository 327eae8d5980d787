"""``obieg certs``: a certificate authority for a laboratory or a pilot, and what a certificate says."""

from __future__ import annotations

import datetime as dt
import ipaddress
import os
from pathlib import Path
from typing import Annotated, Any

import typer
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from obieg.ops.failure import Failure
from obieg.ops.options import SettingsFile
from obieg.ops.settings import load
from obieg.ops.sts_key import renew

AUTHORITY = "ca"
_AUTHORITY_DAYS, _DAYS = 3650, 825
_PEM = serialization.Encoding.PEM

app = typer.Typer(no_args_is_help=True, help="Certificates: a laboratory's own authority, and what a certificate says.")


def register(parent: typer.Typer) -> None:
    """Adds the commands."""
    parent.add_typer(app, name="certs")


@app.command("make")
def make_command(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="Folder of the authority; both are made if missing.")],
    name: Annotated[str, typer.Argument(help="Whom the certificate names (CN), and what its files are called.")],
    host: Annotated[
        list[str] | None, typer.Option(help="Name or IP address by which callers reach it; repeat for several.")
    ] = None,
    days: Annotated[int, typer.Option(help="How long it holds.", min=1, max=_DAYS)] = 365,
) -> None:
    """Make a certificate of a node or a client, signed by the laboratory's authority."""
    certificate, key = make(folder, name, host or ["localhost", "127.0.0.1"], days=days)
    typer.echo(f"{certificate} and {key} are written, signed by {folder / AUTHORITY}.pem. In the settings of the node:")
    typer.echo(f'  [tls]\n  certificate_file = "{certificate}"\n  key_file = "{key}"')
    typer.echo("Who calls it trusts the authority. Keep ca.key where nobody else can read it.")


@app.command("show")
def show_command(file: Annotated[Path, typer.Argument(help="Certificates (PEM).")]) -> None:
    """Show whom certificates name, who signed them and when they end."""
    try:
        certificates = x509.load_pem_x509_certificates(file.read_bytes())
    except (OSError, ValueError) as error:
        raise Failure(
            f"{file} cannot be read as certificates: {error}.",
            "Nothing can be said about it.",
            "Name a file in PEM form (-----BEGIN CERTIFICATE-----).",
        ) from error
    now = dt.datetime.now(dt.UTC)
    for certificate in certificates:
        days = (certificate.not_valid_after_utc - now).days
        typer.echo(f"subject      {certificate.subject.rfc4514_string()}")
        typer.echo(f"issuer       {certificate.issuer.rfc4514_string()}")
        typer.echo(f"ends         {certificate.not_valid_after_utc:%Y-%m-%d %H:%M} UTC, in {days} days")
        typer.echo(f"fingerprint  {certificate.fingerprint(hashes.SHA256()).hex()}  (SHA-256)\n")


@app.command("renew-sts")
def renew_sts_command(settings_file: SettingsFile) -> None:
    """Make a new key that signs assertions; assertions of the old one hold until they end."""
    key, certificates = renew(load(settings_file))
    typer.echo(f"{key} is new, and {certificates} begins with its certificate: give that to other nodes that trust")
    typer.echo("assertions of this one, then restart the node. After 4 hours the last certificate may be taken out.")


def make(folder: Path, name: str, hosts: list[str], *, days: int = 365) -> tuple[Path, Path]:
    """The files of a new certificate and its key; the authority in ``folder`` is made where there is none."""
    folder.mkdir(parents=True, exist_ok=True)
    certificate_file, key_file = folder / f"{name}.pem", folder / f"{name}.key"
    if name == AUTHORITY or "/" in name or certificate_file.exists():
        raise Failure(
            f"{certificate_file} exists or cannot be a certificate's file.",
            "A certificate that is in use is never overwritten.",
            "Choose another name, or remove its files first.",
        )
    authority, authority_key = _authority(folder)
    key = ec.generate_private_key(ec.SECP256R1())
    builder = _builder(name, authority.subject, key.public_key(), days)
    usages = [ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH]
    extensions: list[tuple[x509.ExtensionType, bool]] = [
        (x509.SubjectAlternativeName([_general_name(host) for host in hosts]), False),
        (x509.BasicConstraints(ca=False, path_length=None), True),
        (_usage(key_cert_sign=False), True),
        (x509.ExtendedKeyUsage(usages), False),
        (x509.AuthorityKeyIdentifier.from_issuer_public_key(authority_key.public_key()), False),
    ]
    _write(certificate_file, key_file, _signed(builder, extensions, authority_key), key)
    return certificate_file, key_file


def _authority(folder: Path) -> tuple[x509.Certificate, ec.EllipticCurvePrivateKey]:
    certificate_file, key_file = folder / f"{AUTHORITY}.pem", folder / f"{AUTHORITY}.key"
    if certificate_file.exists():
        key: Any = serialization.load_pem_private_key(key_file.read_bytes(), None)
        return x509.load_pem_x509_certificate(certificate_file.read_bytes()), key
    key = ec.generate_private_key(ec.SECP256R1())
    named = f"obieg laboratory authority {x509.random_serial_number():x}"[:48]
    builder = _builder(named, None, key.public_key(), _AUTHORITY_DAYS)
    extensions: list[tuple[x509.ExtensionType, bool]] = [
        (x509.BasicConstraints(ca=True, path_length=0), True),
        (_usage(key_cert_sign=True), True),
        (x509.SubjectKeyIdentifier.from_public_key(key.public_key()), False),
    ]
    certificate = _signed(builder, extensions, key)
    _write(certificate_file, key_file, certificate, key)
    return certificate, key


def _builder(name: str, issuer: x509.Name | None, key: ec.EllipticCurvePublicKey, days: int) -> x509.CertificateBuilder:
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    now = dt.datetime.now(dt.UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer or subject)
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - dt.timedelta(minutes=5))
        .not_valid_after(now + dt.timedelta(days=days))
    )


def _signed(
    builder: x509.CertificateBuilder, extensions: list[tuple[x509.ExtensionType, bool]], key: ec.EllipticCurvePrivateKey
) -> x509.Certificate:
    for extension, critical in extensions:
        builder = builder.add_extension(extension, critical=critical)
    return builder.sign(key, hashes.SHA256())


def _usage(*, key_cert_sign: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not key_cert_sign,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=key_cert_sign,
        crl_sign=key_cert_sign,
        encipher_only=False,
        decipher_only=False,
    )


def _general_name(host: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(host))
    except ValueError:
        return x509.DNSName(host)


def _write(
    certificate_file: Path, key_file: Path, certificate: x509.Certificate, key: ec.EllipticCurvePrivateKey
) -> None:
    pem = key.private_bytes(_PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    with os.fdopen(os.open(key_file, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as file:
        file.write(pem)
    certificate_file.write_bytes(certificate.public_bytes(_PEM))

"""The key by which this node signs assertions: sts.key and sts.pem in the folder keys below data_dir.

Theory of operation. Both are made where they are missing, by whoever comes first: a file is linked to its name when it
is whole, which fails where another process was faster. sts.pem holds the certificate of sts.key, and those of keys
before it, whose assertions still hold. ``renew`` first adds the certificate of a new key, then puts the key in place of
the old one, so that at no time the key's certificate is missing; workers sign with it once restarted.
"""

from __future__ import annotations

import datetime as dt
import hashlib
import os
from pathlib import Path

import msgspec
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.x509.oid import NameOID

from obieg.domain.trust import SamlIssuer, Trust
from obieg.ops.failure import Failure
from obieg.ops.settings import Settings
from obieg.wire.saml_writer import SigningKey, read_key

# RSA, because some verifiers of assertions know nothing else.
_BITS, _DAYS = 3072, 3 * 365
_PEM = serialization.Encoding.PEM
_DER = serialization.Encoding.DER


def entity_id(settings: Settings) -> str:
    """Who issues, in assertions; and the audience by which others name this community."""
    return f"urn:oid:{settings.identity.home_community_id}"


def own_issuer(settings: Settings) -> SamlIssuer:
    """What this node is among the issuers that it trusts. Raises :class:`Failure` where its files cannot be used."""
    certificates = _certificates(settings)
    return SamlIssuer(entity_id(settings), certificates, (entity_id(settings),))


def trusting_itself(trust: Trust, settings: Settings) -> Trust:
    """``trust``, and this node's own assertions; nobody else may issue in its name."""
    own = own_issuer(settings)
    others = [issuer for issuer in trust.saml_issuers if issuer.entity_id != own.entity_id]
    version = hashlib.sha256(b"".join((trust.version.encode(), *own.certificates))).hexdigest()[:16]
    return msgspec.structs.replace(trust, saml_issuers=(*others, own), version=version)


def own_key(settings: Settings) -> SigningKey:
    """What assertions are signed with. Raises :class:`Failure` where its files cannot be used."""
    certificates = _certificates(settings)
    try:
        return read_key(_key_file(settings).read_bytes(), certificates)
    except (OSError, ValueError) as error:
        raise _failure(_key_file(settings), error) from error


def renew(settings: Settings) -> tuple[Path, Path]:
    """Makes a new key and adds its certificate to those before it. The files of key and certificates."""
    _certificates(settings)
    key_file, certificate_file = _key_file(settings), _certificate_file(settings)
    key = rsa.generate_private_key(public_exponent=65537, key_size=_BITS)
    behind = certificate_file.read_bytes()
    _beside(certificate_file, _certificate_pem(key, settings) + behind, 0o644).replace(certificate_file)
    _beside(key_file, _key_pem(key), 0o600).replace(key_file)
    return key_file, certificate_file


def files(settings: Settings) -> tuple[Path, ...]:
    """Those of a node, whether they are there or not, in the order in which a copy is to be made of them.

    The key first: where ``renew`` comes in between, the copy has the certificate of its key all the same.
    """
    return _key_file(settings), _certificate_file(settings)


def put_back(settings: Settings, name: str, content: bytes) -> None:
    """Puts back a file from a backup; one that stands here already must be the same. Raises :class:`Failure`."""
    path = next(p for p in files(settings) if p.name == name)
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    _first(path, content, 0o600 if path == _key_file(settings) else 0o644)
    if path.read_bytes() != content:
        raise Failure(
            f"{path} is another one than that of the backup.",
            "Assertions of before could not be accepted any more, or nobody could get new ones.",
            "Move sts.key and sts.pem away and run the same command again.",
        )


def _key_file(settings: Settings) -> Path:
    return settings.data_dir / "keys" / "sts.key"


def _certificate_file(settings: Settings) -> Path:
    return settings.data_dir / "keys" / "sts.pem"


def _certificates(settings: Settings) -> tuple[bytes, ...]:
    """DER of the key's certificate and of those before it."""
    key_file, certificate_file = _key_file(settings), _certificate_file(settings)
    try:
        if not certificate_file.exists():
            key_file.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            if not key_file.exists():
                _first(key_file, _key_pem(rsa.generate_private_key(public_exponent=65537, key_size=_BITS)), 0o600)
            key = serialization.load_pem_private_key(key_file.read_bytes(), None)
            _first(certificate_file, _certificate_pem(key, settings), 0o644)
        read = x509.load_pem_x509_certificates(certificate_file.read_bytes())
    except (OSError, ValueError) as error:
        raise _failure(certificate_file, error) from error
    return tuple(c.public_bytes(_DER) for c in read)


def _key_pem(key: rsa.RSAPrivateKey) -> bytes:
    return key.private_bytes(_PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())


def _certificate_pem(key: object, settings: Settings) -> bytes:
    if not isinstance(key, rsa.RSAPrivateKey):
        raise ValueError("the certificate of a key that was brought has to be brought with it")  # noqa: TRY004
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, f"{settings.name[:40]} security token service")])
    now = dt.datetime.now(dt.UTC)
    builder = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - dt.timedelta(minutes=5))
        .not_valid_after(now + dt.timedelta(days=_DAYS))
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
    )
    return builder.sign(key, hashes.SHA256()).public_bytes(_PEM)


def _first(path: Path, content: bytes, mode: int) -> None:
    """Writes a file, unless another process was faster."""
    fresh = _beside(path, content, mode)
    try:
        os.link(fresh, path)
    except FileExistsError:
        pass
    finally:
        fresh.unlink()


def _beside(path: Path, content: bytes, mode: int) -> Path:
    fresh = path.with_name(f".{path.name}.{os.urandom(8).hex()}")
    descriptor = os.open(fresh, os.O_CREAT | os.O_EXCL | os.O_WRONLY, mode)
    with os.fdopen(descriptor, "wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    return fresh


def _failure(path: Path, error: Exception) -> Failure:
    return Failure(
        f"The key that signs assertions cannot be used: {path}: {error}.",
        "Nobody could get a token of this node, and its own would not be accepted.",
        "Put back sts.key and sts.pem from a copy, or move both away: the node makes new ones when it starts.",
    )

"""TLS of everything that a node listens on, and of its own calls: one certificate, one list of suites.

Theory of operation. A listener holds one :class:`ssl.SSLContext` for its whole life. Its SNI callback, which OpenSSL
calls in every handshake, hands over to the context that was made last; so new certificates, keys and authorities hold
from the next connection on, and no listener is closed. The files are looked at once a minute, and at once on SIGHUP.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Callable, Iterable
from datetime import UTC, datetime
from pathlib import Path

import structlog
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding
from prometheus_client import Gauge

from obieg.domain.trust import Trust
from obieg.ops.failure import Failure
from obieg.ops.peers import hearing
from obieg.ops.settings import Settings, TlsSettings
from obieg.ops.trust_file import read_trust

# RFC 9325, section 4.2; ITI TF-2:3.19.6.2.3 (BCP195 TLS Secure Transport Connection). TLS 1.3 has none but good ones.
SUITES_OF_TLS_1_2 = (
    "ECDHE-ECDSA-AES256-GCM-SHA384",
    "ECDHE-RSA-AES256-GCM-SHA384",
    "ECDHE-ECDSA-AES128-GCM-SHA256",
    "ECDHE-RSA-AES128-GCM-SHA256",
)
WARN_DAYS = 60
_LOOK_S = 60.0
_DAY_S = 86_400.0

_ENDS = Gauge(
    "obieg_certificate_not_after_seconds",
    "When a certificate ends, in seconds since 1970.",
    ("certificate",),
    multiprocess_mode="livemostrecent",
)

log = structlog.get_logger()


def trust_of(settings: Settings) -> Trust:
    """Whom the node trusts; nobody where the settings name no file."""
    return read_trust(settings.trust.file) if settings.trust.file is not None else Trust()


class Listening:
    """The TLS of what a node listens on."""

    def __init__(self, settings: Settings) -> None:
        """Raises :class:`Failure` where a file cannot be used. ``settings.tls`` names a certificate."""
        self._settings = settings
        self._current = self._make()
        self._optional = self._listener(ssl.CERT_OPTIONAL)
        self._required = self._listener(ssl.CERT_REQUIRED)

    @property
    def people_and_systems(self) -> ssl.SSLContext:
        """For HTTP: who has a certificate shows it; who needs one is decided for each request."""
        return self._optional

    @property
    def systems(self) -> ssl.SSLContext:
        """For MLLP and syslog: nobody connects without a certificate, where there is a trust file."""
        return self._required

    def reload(self) -> None:
        """Reads all files again. Raises :class:`Failure`; then what was read before goes on being used."""
        self._current = self._make()
        log.info("certificates are read again")

    def _make(self) -> dict[ssl.VerifyMode, ssl.SSLContext]:
        authorities = _pem(trust_of(self._settings).client_authorities)
        made = {}
        for mode in (ssl.CERT_OPTIONAL, ssl.CERT_REQUIRED):
            context = made[mode] = server_context()
            load_own(context, self._settings.tls)
            if authorities:
                context.load_verify_locations(cadata=authorities)
            context.verify_mode = self._demanded(mode)
        return made

    def _demanded(self, mode: ssl.VerifyMode) -> ssl.VerifyMode:
        """It cannot change under an open listener; so it hangs on the settings, not on what the file lists now."""
        return mode if self._settings.trust.file is not None else ssl.CERT_NONE

    def _listener(self, mode: ssl.VerifyMode) -> ssl.SSLContext:
        context = server_context()
        load_own(context, self._settings.tls)  # OpenSSL wants one before it calls back
        context.verify_mode = self._demanded(mode)

        def hand_over(connection: ssl.SSLObject, _name: str | None, _: ssl.SSLContext) -> None:
            connection.context = self._current[mode]

        context.sni_callback = hand_over
        return context


Files = tuple[tuple[str, int, int], ...]


def files_of(settings: Settings) -> Files:
    """The files of certificates and of whom the node trusts, as they are now. Raises OSError."""
    named = (settings.tls.certificate_file, settings.tls.key_file, settings.trust.file)
    return tuple((str(path), (facts := path.stat()).st_mtime_ns, facts.st_size) for path in named if path is not None)


async def watch(settings: Settings, seen: Files, reload: Callable[[], None]) -> None:
    """Reads changed files again, and warns of certificates that end soon, for ever.

    ``seen``: the files that the node began with. ``reload`` says itself what cannot be used.
    """
    warned_at = 0.0
    while True:
        try:
            found = files_of(settings)
            if found != seen:
                seen = found
                reload()
            warned_at = _tell_ends(settings, warned_at)
        except (Failure, OSError, ValueError) as error:
            log.error("certificates or whom the node trusts cannot be read", error=str(error))
        await asyncio.sleep(_LOOK_S)


def _tell_ends(settings: Settings, warned_at: float) -> float:
    """Tells the metrics, and once a day the log; when the log was told last."""
    now = datetime.now(UTC)
    warn = now.timestamp() - warned_at > _DAY_S
    for name, end in ends(settings):
        _ENDS.labels(name).set(end.timestamp())
        days = (end - now).days
        if warn and days < WARN_DAYS:
            warned_at = now.timestamp()
            log.warning("a certificate ends soon: put a new one in its file", certificate=name, days=days)
    return warned_at


def ends(settings: Settings) -> list[tuple[str, datetime]]:
    """What is told of each certificate that the node uses or trusts: its name for people, and its end."""
    found: list[tuple[str, bytes]] = []
    if settings.tls.certificate_file is not None:
        own = x509.load_pem_x509_certificates(settings.tls.certificate_file.read_bytes())
        found += [("own" if n == 0 else f"own chain {n}", _der(c)) for n, c in enumerate(own)]
    trust = trust_of(settings)
    found += [(f"issuer {i.entity_id}", c) for i in trust.saml_issuers for c in i.certificates]
    found += [("client authority", c) for c in trust.client_authorities]
    named = [(name, x509.load_der_x509_certificate(der)) for name, der in found]
    return [
        (f"{name} ({certificate.subject.rfc4514_string()})", certificate.not_valid_after_utc)
        for name, certificate in named
    ]


def calling(settings: Settings, authorities: Path | None) -> ssl.SSLContext:
    """For this node's own calls: who it is, and the authorities that it believes (None: those of the system)."""
    try:
        context = _fixed(ssl.create_default_context(cafile=authorities))
    except (OSError, ssl.SSLError) as error:
        raise Failure(
            f"The authorities in {authorities} cannot be used: {error}.",
            "Whom the node calls could not be known, so it does not start.",
            "Correct the ca_file that names them in the settings.",
        ) from error
    if settings.tls.certificate_file is not None:
        load_own(context, settings.tls)
    return hearing(context)


def certificate_of(settings: Settings) -> bytes:
    """DER of the certificate by which others know this node; b"" where it has none."""
    if settings.tls.certificate_file is None:
        return b""
    return _der(x509.load_pem_x509_certificates(settings.tls.certificate_file.read_bytes())[0])


def _fixed(context: ssl.SSLContext) -> ssl.SSLContext:
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_ciphers(":".join(SUITES_OF_TLS_1_2))
    context.options |= ssl.OP_NO_RENEGOTIATION | ssl.OP_NO_COMPRESSION
    return context


def server_context() -> ssl.SSLContext:
    """For what a node listens on, without a certificate yet."""
    return _fixed(ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER))


def load_own(context: ssl.SSLContext, tls: TlsSettings) -> None:
    """Gives it the node's certificate. Raises :class:`Failure`."""
    assert tls.certificate_file is not None  # noqa: S101 - callers have looked
    try:
        context.load_cert_chain(tls.certificate_file, tls.key_file)
    except (OSError, ssl.SSLError) as error:
        raise Failure(
            f"The node's certificate cannot be used: {error}.",
            "Without it callers could not know whom they talk to, so nothing listens.",
            "Correct certificate_file and key_file under [tls] in the settings; obieg certs make makes them.",
        ) from error


def _der(certificate: x509.Certificate) -> bytes:
    return certificate.public_bytes(Encoding.DER)


def _pem(certificates: Iterable[bytes]) -> str:
    return "".join(map(ssl.DER_cert_to_PEM_cert, certificates))

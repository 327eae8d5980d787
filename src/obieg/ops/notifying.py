"""How this node reaches people: the channels of the settings, and who takes notices from the outbox."""

from __future__ import annotations

import ssl
from collections.abc import Awaitable, Callable, Mapping
from datetime import datetime
from typing import NamedTuple

from obieg.actors.messenger import OfficerMessenger, PatientMessenger
from obieg.domain.access import Settings as AccessSettings
from obieg.domain.messages import Channels
from obieg.domain.obligations import OFFICER, PATIENTS
from obieg.edges.messengers import SmsGateway, SmtpSender
from obieg.ops.failure import Failure
from obieg.ops.settings import NoticesSettings, Settings
from obieg.protocol import Receiver
from obieg.storage.link import Database
from obieg.storage.notice_store import PostgresNotices


class Reaching(NamedTuple):
    """The channels, and what ends their connections."""

    channels: Channels
    closing: tuple[Callable[[], Awaitable[None]], ...]


def reaching(settings: Settings, clock: Callable[[], datetime]) -> Reaching:
    """Opens no connection. Raises Failure where a certificate cannot be used."""
    notices = settings.notices
    gateway = SmsGateway(notices.sms_url, notices.sms_key.get_secret_value()) if notices.sms_url else None
    email = None
    if notices.smtp_host:
        email = SmtpSender(
            notices.smtp_host,
            notices.smtp_port,
            security=notices.smtp_security,
            user=notices.smtp_user,
            password=notices.smtp_password.get_secret_value(),
            sender=notices.sender,
            clock=clock,
            tls=_tls(notices),
        )
    return Reaching(Channels(email, gateway), (gateway.close,) if gateway is not None else ())


def notice_receivers(
    settings: Settings, database: Database, channels: Channels, rules: AccessSettings, clock: Callable[[], datetime]
) -> Mapping[str, Receiver]:
    """Who takes what the outbox has for patients and for the officer; ``rules``: of access."""
    notices = settings.notices
    return {
        PATIENTS: PatientMessenger(
            PostgresNotices(database, assigning_authority=settings.identity.assigning_authority),
            channels,
            settings=rules,
            now=clock,
            source=settings.name,
            portal=notices.portal_url,
            language=notices.language,
        ),
        OFFICER: OfficerMessenger(
            channels, source=settings.name, address=notices.officer_address, language=notices.language
        ),
    }


def _tls(notices: NoticesSettings) -> ssl.SSLContext:
    try:
        context = ssl.create_default_context(cafile=notices.smtp_ca_file)
    except (OSError, ssl.SSLError) as error:
        raise Failure(
            f"The authorities for the mail server cannot be used: {error}.",
            "Nobody could be told by e-mail, so the node does not start.",
            "Correct smtp_ca_file under [notices] in the settings.",
        ) from error
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    return context

"""E-mail over SMTP, and SMS over an HTTP gateway: ports :class:`obieg.domain.messages.Channel`."""

from __future__ import annotations

import asyncio
import smtplib
import ssl
from collections.abc import Callable
from datetime import datetime
from email.message import EmailMessage
from email.utils import format_datetime

import httpx

from obieg.domain.messages import Message
from obieg.domain.problems import Problem, RetryLater

TIMEOUT_S = 20.0
_NOT_NOW = {408, 425, 429}  # statuses of a client's error after which repeating may help


class SmtpSender:
    """Gives each e-mail to one mail server, over a connection of its own."""

    def __init__(
        self,
        host: str,
        port: int,
        *,
        security: str,
        user: str,
        password: str,
        sender: str,
        clock: Callable[[], datetime],
        tls: ssl.SSLContext | None = None,
    ) -> None:
        """``security``: starttls, tls or none; without a user nobody logs in."""
        self._host, self._port, self._security = host, port, security
        self._user, self._password, self._sender = user, password, sender
        self._clock = clock
        self._tls = tls or ssl.create_default_context()

    async def send(self, message: Message) -> None:
        """See the port."""
        try:
            await asyncio.to_thread(self._send, self._letter(message))
        except smtplib.SMTPRecipientsRefused as error:
            codes = [code for code, _ in error.recipients.values()]
            self._refused(max(codes), "the mail server refuses the recipient", error)
        except smtplib.SMTPResponseException as error:
            self._refused(error.smtp_code, "the mail server answers", error)
        except (OSError, smtplib.SMTPException) as error:
            raise RetryLater(f"{self._host} takes no mail ({type(error).__name__})") from error

    def _refused(self, code: int, said: str, error: Exception) -> None:
        # What the server says may repeat the address, which stays out of the outbox and the log.
        if code >= 500 and not isinstance(error, smtplib.SMTPAuthenticationError | smtplib.SMTPSenderRefused):
            raise Problem.of("NotificationRefused", f"{said}: {code}") from None
        raise RetryLater(f"{self._host}: {said}: {code}") from None

    def _letter(self, message: Message) -> EmailMessage:
        letter = EmailMessage()
        letter["From"] = self._sender
        letter["To"] = message.to
        letter["Subject"] = message.subject
        letter["Date"] = format_datetime(self._clock())
        letter["Message-ID"] = f"<{message.reference}@{self._sender.rpartition('@')[2].strip('>')}>"
        letter["Auto-Submitted"] = "auto-generated"
        letter.set_content(message.text)
        return letter

    def _send(self, letter: EmailMessage) -> None:
        if self._security == "tls":
            server: smtplib.SMTP = smtplib.SMTP_SSL(self._host, self._port, timeout=TIMEOUT_S, context=self._tls)
        else:
            server = smtplib.SMTP(self._host, self._port, timeout=TIMEOUT_S)
        with server:
            if self._security == "starttls":
                server.starttls(context=self._tls)
            if self._user:
                server.login(self._user, self._password)
            server.send_message(letter)


class SmsGateway:
    """Gives each SMS to a gateway: POST of ``{"to", "text", "reference"}`` with a bearer key."""

    def __init__(self, url: str, key: str) -> None:
        self._url = url
        headers = {"Authorization": f"Bearer {key}"} if key else {}
        self._http = httpx.AsyncClient(timeout=TIMEOUT_S, headers=headers, follow_redirects=False)

    async def send(self, message: Message) -> None:
        """See the port."""
        said = {"to": message.to, "text": message.text, "reference": message.reference}
        try:
            answer = await self._http.post(self._url, json=said, headers={"Idempotency-Key": message.reference})
        except (httpx.HTTPError, OSError) as error:
            raise RetryLater(f"the SMS gateway does not answer ({type(error).__name__})") from error
        if answer.is_success:
            return
        if answer.is_client_error and answer.status_code not in _NOT_NOW:
            raise Problem.of("NotificationRefused", f"the SMS gateway answers {answer.status_code}")
        raise RetryLater(f"the SMS gateway answers {answer.status_code}")

    async def close(self) -> None:
        """Ends its connections."""
        await self._http.aclose()

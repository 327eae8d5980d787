"""Outgoing calls to other nodes (SOAP 1.2, WS-Addressing)."""

from __future__ import annotations

import uuid
from typing import Any

import httpx

from obieg.domain.problems import Finding, RetryLater
from obieg.protocol import SoapBinding, Transaction
from obieg.wire import soap
from obieg.wire.soap import SoapFault
from obieg.wire.xml import XmlRefused, parse_message

# A registration that has not been answered by then is asked about again later.
TIMEOUT_S = 30.0


class SoapClient:
    """Sends one transaction's requests to the nodes that answer it."""

    def __init__(self, transaction: Transaction, *, source_address: str = "", timeout_s: float = TIMEOUT_S) -> None:
        assert isinstance(transaction.binding, SoapBinding)  # noqa: S101 - only such transactions are sent
        self._binding = transaction.binding
        transport = httpx.AsyncHTTPTransport(local_address=source_address or None)
        self._http = httpx.AsyncClient(timeout=timeout_s, transport=transport)

    async def exchange(self, body: bytes, address: str) -> Any:
        """The element in the answer's Body. Raises RetryLater when it is unknown what the other side did."""
        message_id = f"urn:uuid:{uuid.uuid4()}"
        request = soap.write_envelope(self._binding.action, body, message_id=message_id, to=address)
        content_type = f'{soap.SOAP_TYPE}; charset=UTF-8; action="{self._binding.action}"'
        try:
            answer = await self._http.post(address, content=request, headers={"Content-Type": content_type})
            envelope = soap.read_envelope(parse_message(answer.content))
        except httpx.HTTPError as error:
            raise RetryLater(f"{address}: {type(error).__name__}: {error}") from error
        except (XmlRefused, SoapFault) as error:
            raise RetryLater(f"{address}: HTTP {answer.status_code}, no SOAP answer: {error}") from error
        if envelope.body.tag == f"{{{soap.SOAP}}}Fault":
            reason = envelope.body.findtext(f"{{{soap.SOAP}}}Reason/{{{soap.SOAP}}}Text") or ""
            raise RetryLater(f"{address}: HTTP {answer.status_code}, SOAP fault: {reason}")
        return envelope.body

    async def close(self) -> None:
        """Ends its connections."""
        await self._http.aclose()


class SoapRegistryClient:
    """Implements :class:`obieg.protocol.RegistryClient` over ITI-42."""

    def __init__(self, client: SoapClient, read_answer: Any) -> None:
        """``read_answer`` gives status and findings of a RegistryResponse element (injected from ``mapping``)."""
        self._client = client
        self._read_answer = read_answer

    async def register(self, message: bytes, registry: str) -> tuple[Finding, ...]:
        """See the port."""
        body = await self._client.exchange(message, registry)
        status, findings = self._read_answer(body)
        errors: tuple[Finding, ...] = tuple(f for f in findings if not f.warning)
        if status == "Success":
            return tuple(f for f in findings if f.warning)
        if not errors or any(f.code == "XDSRegistryBusy" for f in errors):
            raise RetryLater(f"{registry}: {status}, the registry asks to repeat the request later")
        return errors

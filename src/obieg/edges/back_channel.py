"""Asks an identity provider by SOAP 1.1 (SAML 2.0 Bindings, section 3.2)."""

from __future__ import annotations

import asyncio
import ssl

import httpx

from obieg.domain.problems import RetryLater

TIMEOUT_S = 15.0  # for the whole exchange: a person waits
_HEADERS = {
    "Content-Type": "text/xml; charset=utf-8",
    "SOAPAction": '"http://www.oasis-open.org/committees/security"',  # Bindings, section 3.2.2.2
    "Accept": "text/xml",
}


class SamlBackChannel:
    """Implements :class:`obieg.protocol.BackChannel`. Follows no redirection; an answer has a limit."""

    def __init__(self, *, answer_bytes_max: int, tls: ssl.SSLContext | None = None) -> None:
        """``tls`` says whom to trust; without it, whom the system trusts."""
        self._http = httpx.AsyncClient(
            transport=httpx.AsyncHTTPTransport(verify=tls or True), timeout=TIMEOUT_S, follow_redirects=False
        )
        self._bytes_max = answer_bytes_max

    async def ask(self, address: str, message: bytes) -> bytes:
        """See the port."""
        pieces = bytearray()
        try:
            async with (
                asyncio.timeout(TIMEOUT_S),
                self._http.stream("POST", address, content=message, headers=_HEADERS) as answer,
            ):
                async for piece in answer.aiter_bytes():
                    pieces += piece
                    if len(pieces) > self._bytes_max:
                        raise RetryLater(f"{address} answers more than {self._bytes_max} bytes")
        except (httpx.HTTPError, OSError, TimeoutError) as error:
            raise RetryLater(f"{address} does not answer ({type(error).__name__}: {error})") from error
        return bytes(pieces)

    async def close(self) -> None:
        """Ends its connections."""
        await self._http.aclose()

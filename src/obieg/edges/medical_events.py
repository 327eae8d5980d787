"""Asks a FHIR service for the medical events of a person: what ``domain/medical_events.EventSource`` is.

P1's own service wants tokens and signatures that this node does not make yet: until it does, only a stand-in answers.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import httpx
import orjson

from obieg.codes.load import toml
from obieg.domain.medical_events import EVENTS_MAX, MedicalEvent
from obieg.domain.problems import RetryLater

TIMEOUT_S = 2.0  # a page waits for it
PAUSE_S = 30.0  # for which nobody waits again for a source that did not answer
_BYTES_MAX = 4 * 1024 * 1024
_PESEL = f"urn:oid:{toml('national/pl/pik.toml')['roots']['pesel']}"


class FhirEvents:
    """Over one FHIR service."""

    def __init__(self, url: str, key: str, read: Callable[[Mapping[str, Any]], Sequence[MedicalEvent]]) -> None:
        """``key``: bearer token, "" for none; ``read`` makes events of a searchset."""
        headers = {"Authorization": f"Bearer {key}"} if key else {}
        self._address = f"{url.rstrip('/')}/Encounter/_search"
        self._http = httpx.AsyncClient(timeout=TIMEOUT_S, headers=headers, follow_redirects=False)
        self._read = read
        self._silent_until = 0.0  # by the clock of the event loop

    async def of(self, pesel: str) -> Sequence[MedicalEvent]:
        """See the port. The number stands in the body: addresses are kept in logs."""
        asked = {
            "subject:identifier": f"{_PESEL}|{pesel}",
            "_revinclude": "Condition:encounter",
            "_sort": "-date",
            "_count": str(EVENTS_MAX),
        }
        clock = asyncio.get_running_loop().time
        if clock() < self._silent_until:
            raise RetryLater("the source of medical events did not answer just now")
        try:
            return self._read(await self._asked(asked))
        except RetryLater:
            self._silent_until = clock() + PAUSE_S
            raise

    async def _asked(self, asked: Mapping[str, str]) -> dict[str, Any]:
        body = bytearray()
        try:
            async with self._http.stream("POST", self._address, data=asked) as answer:
                if answer.status_code != httpx.codes.OK:
                    raise RetryLater(f"the source of medical events answers {answer.status_code}")
                async for piece in answer.aiter_bytes():
                    body += piece
                    if len(body) > _BYTES_MAX:
                        raise RetryLater("the source of medical events answers more than it may")
            said = orjson.loads(body)
        except (httpx.HTTPError, OSError, ValueError) as error:
            raise RetryLater(f"the source of medical events does not answer ({type(error).__name__})") from error
        if not isinstance(said, dict) or said.get("resourceType") != "Bundle":
            raise RetryLater("the source of medical events answers no Bundle")
        return said

    async def close(self) -> None:
        """Ends its connections."""
        await self._http.aclose()

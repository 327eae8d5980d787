"""Asks other nodes for people: an assertion of their token service goes with each question (ITI-40)."""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Callable, Mapping
from datetime import datetime, timedelta
from typing import Any

from obieg.domain.issuing import Claims, IssuedToken
from obieg.domain.problems import Problem, RetryLater
from obieg.edges.clients import SoapAsker
from obieg.protocol import SoapQuestion, SoapRequest, Transaction

AHEAD = timedelta(minutes=2)  # before its end an assertion is used no more: clocks differ, and messages take their time
KEPT_MAX = 1_024  # people


class VouchingAsker:
    """A system that another node knows vouches there for its users, and for itself (WS-Trust 1.3, Issue).

    An assertion is kept and used until shortly before its end, or until somebody refuses a message that carries it.
    """

    def __init__(
        self,
        asker: SoapAsker,
        issue: Transaction,
        write: Callable[[Claims], SoapQuestion],
        read: Callable[[SoapRequest], IssuedToken],
        clock: Callable[[], datetime],
    ) -> None:
        """``write`` and ``read`` are the question and the answer of the transaction ``issue``."""
        self._asker = asker
        self._issue = issue
        self._write = write
        self._read = read
        self._clock = clock
        self._kept: OrderedDict[tuple[str, Claims], asyncio.Task[IssuedToken]] = OrderedDict()

    async def ask(
        self, transaction: Transaction, question: SoapQuestion, address: str, claims: Claims, service: str
    ) -> SoapRequest:
        """The answer to the subject of ``claims``, whom the token service at the address ``service`` lets us vouch for.

        Raises as :meth:`SoapAsker.ask` does, also where there is no assertion to be had.
        """
        token = await self._assertion(claims, service)
        try:
            return await self._asker.ask(transaction, question, address, token.assertion)
        except Problem:
            self._kept.pop((service, claims), None)  # it may be what was refused: the next message has a new one
            raise

    async def _assertion(self, claims: Claims, service: str) -> IssuedToken:
        """One task for all who need it now."""
        task = self._kept.get((service, claims))
        if task is None or (task.done() and not self._holds(task)):
            task = self._kept[service, claims] = asyncio.create_task(self._issued(claims, service))
        self._kept.move_to_end((service, claims))
        if len(self._kept) > KEPT_MAX:
            self._kept.popitem(last=False)
        return await asyncio.shield(task)

    def _holds(self, task: asyncio.Task[IssuedToken]) -> bool:
        if task.cancelled() or task.exception() is not None:
            return False
        return self._clock() < task.result().ends - AHEAD

    async def _issued(self, claims: Claims, service: str) -> IssuedToken:
        try:
            return self._read(await self._asker.ask(self._issue, self._write(claims), service))
        except RetryLater as error:
            raise RetryLater(f"the token service gives no assertion: {error}") from error
        except Problem as problem:
            whom = claims.person or claims.person_name or "this node"
            raise Problem.of(
                "XDSRepositoryError",
                f"the token service does not vouch for {whom}, without which nothing can be asked: {problem}",
                service,
            ) from problem


class Region:
    """The region of a facility: whatever is asked there is asked here, for a person where one is named."""

    def __init__(self, asker: SoapAsker, vouching: VouchingAsker, token_service: str) -> None:
        """``token_service``: its address; "": the region knows this node by its certificate or address alone."""
        self._asker = asker
        self._vouching = vouching
        self._token_service = token_service

    async def ask(
        self, transaction: Transaction, question: SoapQuestion, address: str, subject: Mapping[str, str]
    ) -> SoapRequest:
        """The answer. ``subject``: facts of a Requester (``domain/decisions``); without a person this node asks itself.

        Raises Problem for a fault, RetryLater where there is no answer, or no assertion.
        """
        if not self._token_service:
            return await self._asker.ask(transaction, question, address)
        said: dict[str, Any] = dict(subject)
        claims = Claims(**said) if said.get("person") or said.get("person_name") else Claims()
        return await self._vouching.ask(transaction, question, address, claims, self._token_service)

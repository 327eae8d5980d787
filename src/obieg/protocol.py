"""The shape of a transaction, what it is given while it runs, and the ports to the network.

A transaction is a module in ``transactions/`` that exports one ``TRANSACTION``. Edges receive the tuple of all of
them, pick by SOAP action or HL7 trigger event, decode, ask the actor, encode, and audit what never reached an actor.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Protocol

from obieg.domain.audit import AuditEvent, AuditObject, Outcome
from obieg.domain.problems import Finding
from obieg.domain.requester import Requester


class Content(Protocol):
    """The bytes of a document, in memory or spooled; readable more than once."""

    @property
    def size(self) -> int:
        """Bytes."""

    @property
    def content_type(self) -> str:
        """Media type as the sender of the part named it, or empty."""

    def sha1(self) -> str:
        """SHA-1, hexadecimal (ITI TF-3:4.2.3.2.10)."""

    def chunks(self) -> AsyncIterator[bytes]:
        """The bytes in pieces of at most 1 MiB."""


@dataclass(frozen=True, slots=True)
class SoapRequest:
    """A SOAP message that an edge has received and taken apart; ``body`` is the first child of the SOAP Body."""

    body: Any  # lxml element
    parts: Mapping[str, Content] = field(default_factory=dict)  # by Content-ID, without the root part
    mtom: bool = False  # whether it came as multipart/related with application/xop+xml


@dataclass(frozen=True, slots=True)
class SoapReply:
    """A SOAP Body's content to be sent, with the parts it refers to by ``xop:Include``."""

    body: bytes
    parts: tuple[tuple[str, Content], ...] = ()  # (Content-ID, content)
    mtom: bool = False


# A question that this node asks of another has the shape of an answer that it gives.
SoapQuestion = SoapReply


@dataclass(frozen=True, slots=True)
class SoapBinding:
    """How a transaction looks over SOAP 1.2 (ITI TF-2 Appendix V)."""

    endpoint: str  # key of the ready file and last segment of the path: registry, register, repository, retrieve
    port_type: str  # names in the WSDL
    action: str
    response_action: str
    request: tuple[str, str]  # namespace and local name of the element in the Body
    response: tuple[str, str]
    mtom: bool = False  # whether the request must be, and the answer is, an MTOM package


@dataclass(frozen=True, slots=True)
class MllpBinding:
    """How a transaction looks over MLLP: message type and the trigger events."""

    message_type: str
    events: tuple[str, ...]


Binding = SoapBinding | MllpBinding


@dataclass(frozen=True, slots=True, kw_only=True)
class Transaction:
    """One IHE transaction; see the module docstring."""

    id: str  # "ITI-18"
    name: str
    spec: str  # address of the section
    actor: str  # who answers: a field of the node's actors
    initiator: str  # the IHE actor that asks, for people
    responder: str  # the IHE actor that answers, for people
    binding: Binding
    event: str  # row of codes/audit.toml
    decode: Callable[[Any], Any]  # SoapRequest or hl7v2.Message -> request; raises Problem
    serve: Callable[[Any, Any, Context], Awaitable[Any]]
    encode: Callable[..., Any]  # result -> SoapReply; over MLLP result and the message asked -> hl7v2.Answer
    refuse: Callable[..., Any]  # findings in place of a result: the protocol's own error answer
    audit: Callable[[Any], tuple[AuditObject, ...]]  # request -> what it was about
    permission: str  # scope:resource:action


@dataclass(slots=True)
class Context:
    """What a transaction is given while it runs."""

    transaction: Transaction
    requester: Requester
    request_id: str
    received_at: datetime  # UTC
    source_user: str = ""  # wsa:ReplyTo or MSH-4|MSH-3
    destination_user: str = ""  # our endpoint or MSH-6|MSH-5
    objects: tuple[AuditObject, ...] = ()
    audited: bool = False  # an actor has committed the audit row of this request
    large: bool = False  # a message too large to be worked on by the event loop itself: its rules run in a thread

    def audit(self, outcome: Outcome = Outcome.SUCCESS, detail: str = "") -> AuditEvent:
        """The audit record of this request."""
        return AuditEvent(
            transaction=self.transaction.id,
            event=self.transaction.event,
            outcome=outcome,
            detail=detail,
            request_id=self.request_id,
            source_user=self.source_user,
            source_address=self.requester.address,
            destination_user=self.destination_user,
            requester=self.requester.person or self.requester.system,
            objects=self.objects,
        )


class AuditSink(Protocol):
    """Where an edge leaves the record of a request that never reached an actor."""

    async def record(self, event: AuditEvent) -> None:
        """Stores the record durably."""


class RegistryClient(Protocol):
    """Sends ITI-42 to the registry of another node."""

    async def register(self, message: bytes, registry: str) -> tuple[Finding, ...]:
        """Sends the Body ``message`` to the address ``registry``; the answer's errors, none for Success.

        Raises :class:`obieg.domain.problems.RetryLater` when it is not known whether the registry stored anything.
        """


class Authenticator(Protocol):
    """The one place that makes a :class:`Requester`."""

    def authenticate(self, *, address: str, security_header: Any | None) -> Requester:
        """Raises Problem ``AuthenticationFailed`` when the caller does not prove what this node requires."""

"""The shape of a transaction, what it is given while it runs, and the ports to the network.

A transaction is a module in ``transactions/`` that exports one ``TRANSACTION``. Edges receive the tuple of all of
them, pick by SOAP action, HL7 trigger event or FHIR interaction, decode, ask the actor, encode, and audit what never
reached an actor.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Protocol

from obieg.domain.audit import AuditEvent, AuditObject, Outcome
from obieg.domain.authorities import Authorities
from obieg.domain.documents import DocumentEntry
from obieg.domain.obligations import Told
from obieg.domain.on_demand import FoundOnDemand, Made
from obieg.domain.outbox import Letter
from obieg.domain.problems import Finding
from obieg.domain.requester import Requester
from obieg.wire.hl7v2 import Message
from obieg.wire.soap import SoapFault


class Sent(Protocol):
    """Bytes that are sent as they are, from memory or from where they are kept; readable more than once."""

    @property
    def size(self) -> int:
        """Bytes."""

    @property
    def content_type(self) -> str:
        """Media type as the sender of the part named it, or empty."""

    def chunks(self) -> AsyncIterator[bytes]:
        """The bytes in pieces of at most 1 MiB."""


class Content(Sent, Protocol):
    """The bytes of a document, in memory or spooled."""

    def sha1(self) -> str:
        """SHA-1, hexadecimal (ITI TF-3:4.2.3.2.10)."""


@dataclass(frozen=True, slots=True)
class SoapRequest:
    """A SOAP message that an edge has received and taken apart; ``body`` is the first child of the SOAP Body."""

    body: Any  # lxml element
    parts: Mapping[str, Content] = field(default_factory=dict)  # by Content-ID, without the root part
    mtom: bool = False  # whether it came as multipart/related with application/xop+xml
    action: str = ""  # wsa:Action
    target: str = ""  # address that the request was sent to, as the caller wrote it
    certificate: bytes | None = None  # DER: the client's, whose key the TLS connection has proved
    security: Any | None = None  # wsse:Security, the lxml element
    # What an answer with a wrapper of its own names itself by (HL7 v3): our id of this exchange, its beginning in UTC.
    request_id: str = ""
    received_at: datetime = datetime.min  # noqa: DTZ901 - of a message that no edge has received
    authorities: Authorities = field(default_factory=Authorities)  # what the node calls assigning authorities
    access: str = ""  # of an answer: on which bases it shows what it shows (docs/access.md, Answers)


@dataclass(frozen=True, slots=True)
class SoapReply:
    """A SOAP Body's content to be sent, with the parts it refers to by ``xop:Include``; or a fault in its place."""

    body: bytes
    parts: tuple[tuple[str, Content], ...] = ()  # (Content-ID, content)
    mtom: bool = False
    fault: SoapFault | None = None  # of a protocol that says by faults what is wrong


# A question that this node asks of another has the shape of an answer that it gives.
SoapQuestion = SoapReply


@dataclass(frozen=True, slots=True, kw_only=True)
class SoapOperation:
    """One exchange over SOAP 1.2, recognised by its action."""

    port_type: str  # names in the WSDL
    action: str
    response_action: str
    request: tuple[str, str]  # namespace and local name of the element in the Body
    response: tuple[str, str]


@dataclass(frozen=True, slots=True, kw_only=True)
class SoapBinding(SoapOperation):
    """How a transaction looks over SOAP 1.2 (ITI TF-2 Appendix V): an operation, and more where it has several."""

    endpoint: str  # key of the ready file and last segment of the path: registry, register, repository, retrieve
    mtom: bool = False  # whether the request must be, and the answer is, an MTOM package
    others: tuple[SoapOperation, ...] = ()
    tokens: bool = True  # whether callers show an assertion; those of the token service have none yet

    @property
    def operations(self) -> tuple[SoapOperation, ...]:
        """All of them, the first one first."""
        return (self, *self.others)


@dataclass(frozen=True, slots=True)
class MllpRequest:
    """An HL7 v2 message that an edge has received and taken apart."""

    message: Message
    authorities: Authorities = field(default_factory=Authorities)  # what the node calls assigning authorities


@dataclass(frozen=True, slots=True)
class MllpBinding:
    """How a transaction looks over MLLP: message type and the trigger events.

    Where two transactions share an event, the message belongs to the one with the highest ``since`` that its version
    (MSH-12) reaches.
    """

    message_type: str
    events: tuple[str, ...]
    since: tuple[int, ...] = ()
    others: tuple[tuple[str, str], ...] = ()  # type and event of further messages: a cancel (QCN^J01)

    @property
    def triggers(self) -> tuple[tuple[str, str], ...]:
        """Type and event of all its messages."""
        return (*((self.message_type, event) for event in self.events), *self.others)


@dataclass(frozen=True, slots=True, kw_only=True)
class FhirRequest:
    """A FHIR interaction that an edge has received and taken apart (http://hl7.org/fhir/R4/http.html)."""

    interaction: str  # as FhirBinding names it
    resource: str = ""  # type in the address
    id: str = ""  # logical id in the address
    version: str = ""  # in the address of one version
    # Of the address and, for a search by POST, of the form, in order; without _format and _pretty: the edge obeys them.
    parameters: tuple[tuple[str, str], ...] = ()
    body: dict[str, Any] | None = None  # a resource of the form of its type, see obieg.wire.fhir_elements
    data: bytes = b""  # the body as it came, where the binding keeps it
    written: str = ""  # json or xml: how it came
    base: str = ""  # address of the service, without a slash at its end
    strict: bool = False  # Prefer: handling=strict
    format: str = ""  # json or xml where FHIR was asked for in so many words
    accept: str = ""  # the header
    lenient: bool = False  # Prefer: handling=lenient
    gzip: bool = False  # Accept-Encoding: gzip
    prefer: str = ""  # Prefer: return=…: minimal, representation, OperationOutcome
    if_match: str = ""  # the version that the sender has seen
    if_none_exist: tuple[tuple[str, str], ...] = ()  # search parameters: create only where this finds nothing
    request_id: str = ""
    # On which bases the caller is shown the answer (domain/grounds.py): once that is known, and if they prefer to be
    # told in an OperationOutcome.
    access: str = ""
    authorities: Authorities = field(default_factory=Authorities)  # what the node calls assigning authorities
    affinity_domain: str = ""  # OID; the logical id of a Patient is a patient id of this authority


@dataclass(frozen=True, slots=True, kw_only=True)
class FhirReply:
    """A FHIR answer; the edge writes it as JSON or XML."""

    body: dict[str, Any] | None = None
    json: bytes | None = None  # in place of the body: the same, written already
    content: Sent | None = None  # in place of both: bytes that are sent as they are, with their own media type
    headers: tuple[tuple[str, str], ...] = ()  # further ones
    status: int = 200
    location: str = ""  # address of the resource that was made
    version: str = ""  # of the resource in the answer: ETag
    updated_at: datetime | None = None  # of the resource in the answer: Last-Modified


@dataclass(frozen=True, slots=True, kw_only=True)
class FhirBinding:
    """How a transaction looks over FHIR R4: what it does with which types of resources.

    Interactions are ``read``, ``vread``, ``search-type``, ``create``, ``update``, ``delete``, ``conditional-create``
    (beside ``create``: with If-None-Exist), ``conditional-update`` and ``conditional-delete`` (by parameters in the
    address), ``history-instance`` and ``history-type``;
    ``history-system`` and ``transaction`` at the base address (resource ``""``); and operations: ``$name`` on a type
    or, with the resource ``""``, on the system, ``[id]/$name`` on one resource, ``delete $name`` where it is asked
    with DELETE. What they take stands in ``codes/fhir.toml``.
    """

    resources: tuple[str, ...]
    interactions: tuple[str, ...]
    conforms_to: str  # canonical address of the CapabilityStatement that the profile wants fulfilled, or ""
    profiles: tuple[str, ...] = ()  # canonical addresses of what resources keep to
    # Of ``transaction``: Bundles whose meta.profile names this are its own, others of the one that names none.
    bundle_profile: str = ""
    bundle_type: str = ""  # of ``transaction``: Bundles of nothing but this type of resource are its own
    keeps_body: bool = False  # requests bring the bytes of their body, too
    raw: bool = False  # answers may be bytes of another media type (http://hl7.org/fhir/R4/binary.html)


@dataclass(frozen=True, slots=True, kw_only=True)
class WadoRequest:
    """A DICOMweb retrieval that an edge has received and taken apart (DICOM PS3.18, 10.4)."""

    document: str  # uniqueId of the manifest whose images are asked for
    path: tuple[str, ...]  # segments behind it: studies, …
    parameters: tuple[tuple[str, str], ...] = ()  # of the address, in order
    accept: str = ""  # the header
    request_id: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class WadoReply:
    """A DICOMweb answer: bytes, or pieces of what is only fetched while it is sent."""

    content_type: str
    body: bytes = b""
    pieces: AsyncGenerator[bytes] | None = None  # in place of the body; raises RetryLater where it breaks off
    file_name: str = ""  # under which a browser saves it; "": it is shown
    status: int = 200


@dataclass(frozen=True, slots=True)
class WadoBinding:
    """How a transaction looks over WADO-RS: below ``/wado/{uniqueId of a manifest}``."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LinkRequest:
    """A request for a SMART Health Link that an edge has received; nobody has proved who asks."""

    method: str
    path: tuple[str, ...]  # segments below ``/shl``
    body: bytes = b""
    base: str = ""  # address of the links, without a slash at its end


@dataclass(frozen=True, slots=True, kw_only=True)
class LinkReply:
    """An answer to it."""

    content_type: str
    body: bytes = b""
    status: int = 200


@dataclass(frozen=True, slots=True)
class LinkBinding:
    """How a transaction looks to whoever has a SMART Health Link: below ``/shl/{secret}``."""


Binding = SoapBinding | MllpBinding | FhirBinding | WadoBinding | LinkBinding


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
    decode: Callable[[Any], Any]  # SoapRequest, MllpRequest, FhirRequest, WadoRequest or LinkRequest; raises Problem
    serve: Callable[[Any, Any, Context], Awaitable[Any]]
    # result and the message asked -> SoapReply, hl7v2.Answer, FhirReply, WadoReply, LinkReply
    encode: Callable[[Any, Any], Any]
    refuse: Callable[[tuple[Finding, ...], Any], Any]  # findings in place of a result: the protocol's own error answer
    audit: Callable[[Any], tuple[AuditObject, ...]]  # request -> what it was about
    permission: str  # scope:resource:action


@dataclass(frozen=True, slots=True, kw_only=True)
class Sending:
    """What a notification is written with besides what it tells; the same in every attempt."""

    control_id: str  # MSH-10, the extension of a v3 message's id
    at: datetime  # when it was made, UTC
    sender: tuple[str, str]  # application (an OID) and facility: this node
    receiver: tuple[str, str]  # application and facility
    authorities: Authorities = field(default_factory=Authorities)  # what they are called
    address: str = ""  # where it goes


@dataclass(frozen=True, slots=True, kw_only=True)
class Notification:
    """A transaction that this node begins by itself, from the outbox; ``body`` is what was stored there."""

    id: str  # "ITI-10"
    name: str
    spec: str  # address of the section
    initiator: str  # the IHE actor that this node is, for people
    responder: str  # the IHE actor that is told, for people
    binding: SoapOperation | MllpBinding | FhirBinding
    event: str  # row of codes/audit.toml
    # body -> hl7v2.Message or SoapQuestion; over FHIR, what it tells of -> HookMessage; raises Problem
    write: Callable[[Any, Sending], Any]
    # the answer: hl7v2.Message, SoapRequest or an HTTP status; Problem: refused; RetryLater: not yet
    read: Callable[[Any], None]
    audit: Callable[[bytes, str], tuple[AuditObject, ...]]  # body and control id -> what it was about


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
    # What actors/access_control has decided:
    decided: bool = False  # it was asked
    access: str = ""  # on which bases, and until when, what is answered may be seen
    refusal: str = ""  # why nothing of some patients was shown; for the audit alone, as is
    concerned: tuple[AuditObject, ...] = ()  # whom it was about, however they were named
    veiled: bool = False  # the answer shows nothing: when it is given must not tell why
    told: tuple[Told, ...] = ()  # whom the answer obliges to tell, in the commit of the record

    def audit(self, outcome: Outcome = Outcome.SUCCESS, detail: str = "", *, spends: bool = True) -> AuditEvent:
        """The audit record of this request; storing it uses up what the request may be shown with once only.

        ``spends`` is False for the record that a repetition was refused.
        """
        named = {o.identifier for o in self.objects if o.kind == "patient"}
        return AuditEvent(
            transaction=self.transaction.id,
            event=self.transaction.event,
            outcome=Outcome.MINOR_FAILURE if self.refusal and not self.access and not int(outcome) else outcome,
            detail="; ".join(
                filter(
                    None,
                    (
                        detail,
                        self.access and f"access: {self.access}",
                        self.refusal and f"no access: {self.refusal}",
                        self.requester.remark,
                    ),
                )
            ),
            request_id=self.request_id,
            source_user=self.source_user,
            source_address=self.requester.address,
            destination_user=self.destination_user,
            requester=self.requester.person or self.requester.system,
            objects=(*(o for o in self.concerned if o.identifier not in named), *self.objects),
            spent=self.requester.spent if spends else (),
            proof=self.requester,
            told=self.told,
        )


class Gate(Protocol):
    """Who may do what (docs/access.md), as edges ask it; what actors show they ask by themselves."""

    def admit(self, context: Context) -> None:
        """Raises Problem for who may not do at all what needs no look at a patient."""

    def expect_decided(self, context: Context) -> None:
        """Raises where something was answered about patients without a decision."""


class AuditSink(Protocol):
    """Where an edge leaves the record of a request that never reached an actor."""

    async def record(self, event: AuditEvent) -> None:
        """Stores the record durably. Raises Problem ``Replayed`` when another request has used up what it uses up."""


class Asker(Protocol):
    """Sends questions to the region of a facility."""

    async def ask(
        self, transaction: Transaction, question: SoapQuestion, address: str, subject: Mapping[str, str]
    ) -> SoapRequest:
        """The answer to the subject, as :func:`obieg.domain.decisions.stated` says who that is.

        Raises Problem for a fault, RetryLater where there is no answer.
        """


class RepositoryClient(Protocol):
    """Asks one repository of another node."""

    name: str  # for people
    address: str  # where it answers ITI-43

    async def ask(
        self, transaction: Transaction, question: SoapQuestion, *, assertion: bytes, size: int
    ) -> SoapRequest:
        """The answer to whom ``assertion`` names (b"": to this node), of documents of ``size`` bytes together.

        Raises Problem for a fault and for an answer that is larger, RetryLater where there is no answer.
        """


class RegistryClient(Protocol):
    """Sends ITI-42 to the registry of another node."""

    async def register(self, message: bytes, registry: str, subject: Mapping[str, str]) -> tuple[Finding, ...]:
        """Sends the Body ``message`` to the address ``registry``; the answer's errors, none for Success.

        ``subject``: whose act it is, as :func:`obieg.domain.decisions.stated` says it. Raises
        :class:`obieg.domain.problems.RetryLater` when it is not known whether the registry stored anything.
        """


class Receiver(Protocol):
    """Takes the messages of the outbox that are for one receiver there."""

    async def deliver(self, letter: Letter) -> None:
        """Returns when the receiver has it. Raises Problem where waiting helps nothing, RetryLater where it may."""

    def audit(self, letter: Letter, outcome: Outcome, detail: str = "") -> AuditEvent:
        """The audit record of a message that ended thus."""


class HookClient(Protocol):
    """Sends notifications to addresses that subscribers named."""

    async def post(self, address: str, headers: Sequence[tuple[str, str]], body: bytes) -> int:
        """The HTTP status of the answer. Raises Problem for an address that nothing is sent to, RetryLater for none."""


class ArchivedPart(Protocol):
    """Bytes that an archive of images is about to send."""

    @property
    def content_type(self) -> str:
        """As the archive names it."""

    def chunks(self) -> AsyncGenerator[bytes]:
        """The bytes, once. Raises RetryLater where they break off. Closing it ends the transfer."""


class ImageArchive(Protocol):
    """The archive of images behind this node (DICOMweb); nobody else reaches it."""

    async def metadata(self, path: Sequence[str]) -> bytes:
        """DICOM JSON of what stands at a path below its root, whole.

        Raises Problem ``AddressNotFound`` for what it does not have, RetryLater where it does not answer.
        """

    async def open(self, path: Sequence[str], accept: str, parameters: Sequence[tuple[str, str]] = ()) -> ArchivedPart:
        """One object, frame or picture; whoever opens it reads it or closes its chunks.

        Raises as :meth:`metadata`, and Problem ``NotAcceptable`` where it cannot give it so.
        """


class OnDemandSource(Protocol):
    """Makes the documents of some on-demand entries (ITI TF-1:10.1.1.9, On-Demand Document Source)."""

    def makes(self, entry: DocumentEntry) -> bool:
        """Whether this is who makes the document of ``entry``: by its type, format or class code."""

    async def make(self, found: FoundOnDemand, context: Context) -> Made:
        """The document as it is now. Raises Problem when it cannot be made, RetryLater when it may be later."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Credentials:
    """What a caller shows, as an edge received it; nothing of it is proved but the certificate."""

    address: str  # of the connection
    certificate: bytes | None = None  # DER: the client's, whose key the TLS connection has proved
    target: str = ""  # address that the request was sent to, as the caller wrote it
    authorization: str = ""  # HTTP header
    dpop: str = ""  # HTTP header
    method: str = ""  # of HTTP
    path: str = ""  # of the address, decoded
    cookie: str = ""  # HTTP header
    foreign: bool = False  # it may change something, and nothing says that a page of this node sent it
    security: Any | None = None  # wsse:Security, the lxml element
    envelope: Any | None = None  # the SOAP message, the lxml element
    message_id: str = ""  # wsa:MessageID
    disguised: bool = False  # the SOAP message has comments or xml:id, or CDATA in its header
    large: bool = False  # a message too large to be worked on by the event loop itself
    tokens: bool = True  # whether the protocol can carry an assertion or a token; MLLP cannot


class BearerVerifier(Protocol):
    """Knows the tokens of this node's authorization server (ITI-72)."""

    async def verify(self, credentials: Credentials) -> Requester:
        """Who shows a token. Raises Problem ``AuthenticationFailed`` for one that proves nothing, or none."""


class Sessions(Protocol):
    """Who is logged in at this node's own pages."""

    async def current(self, cookie: str) -> Requester | None:
        """The person of the session that the header Cookie names, ``token`` naming the session; None for nobody."""

    async def stands(self, person: Requester) -> bool:
        """Whether somebody who was logged in may still act so: the account, the role, the facility."""

    def login_address(self, then: str, again: Requester | None = None) -> str:
        """Where people log in; afterwards they go to ``then``, a path of this node with its query.

        ``again``: who is logged in and is to prove anew who they are.
        """


class Authenticator(Protocol):
    """The one place that makes a :class:`Requester`."""

    async def authenticate(self, credentials: Credentials) -> Requester:
        """Raises Problem ``AuthenticationFailed`` when the caller does not prove what this node requires."""


@dataclass(frozen=True, slots=True)
class BegunLogin:
    """What a browser is given to take to an identity provider (SAML 2.0 Bindings, section 3.5)."""

    address: str
    request: bytes  # AuthnRequest, signed
    relay_state: str
    secret: str  # for a cookie of this browser: without it the log-in cannot be ended
    seconds: int  # until it is too late


@dataclass(frozen=True, slots=True, kw_only=True)
class LoginAttempt:
    """What a browser brings back from an identity provider."""

    artifact: str = ""
    relay_state: str = ""
    browser: str = ""  # the secret in its cookie
    address: str = ""
    agent: str = ""  # what it calls itself
    request_id: str = ""


class BackChannel(Protocol):
    """Asks an identity provider by SOAP 1.1 (SAML 2.0 Bindings, section 3.2)."""

    async def ask(self, address: str, message: bytes) -> bytes:
        """The answer, whatever its HTTP status. Raises RetryLater for none, and for one that is too large."""


class PatientLogin(Protocol):
    """Logs patients in through an identity provider that a browser is sent to."""

    @property
    def sign_on_url(self) -> str:
        """Where browsers are sent."""

    def metadata(self) -> bytes:
        """Ours (SAML 2.0 Metadata)."""

    async def begin(self, return_to: str) -> BegunLogin:
        """Begins a log-in, after which the person goes to the path ``return_to``."""

    async def finish(self, attempt: LoginAttempt) -> tuple[str, str]:
        """The session's cookie (Set-Cookie), and where the person goes now.

        Raises Problem ``AuthenticationFailed``, which does not say why, and RetryLater.
        """

    async def end(self, attempt: LoginAttempt, cookie: str) -> str:
        """Ends the session that the HTTP header ``cookie`` names, here and at the identity provider; Set-Cookie."""

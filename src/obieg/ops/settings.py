"""The settings of a node: each with type, default, unit and meaning, declared here once.

They are read from one TOML file. An environment variable ``OBIEG_…`` wins over the file (``OBIEG_HTTP__PORT``: two
underscores between section and name). What ``obieg init`` writes and docs/settings.md are made from this model.
"""

from __future__ import annotations

import difflib
import ipaddress
import json
import re
import textwrap
import tomllib
import uuid
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, NamedTuple, get_args, get_origin
from urllib.parse import urlsplit

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    PrivateAttr,
    SecretStr,
    ValidationError,
    model_validator,
)
from pydantic.fields import FieldInfo
from pydantic_settings import BaseSettings, EnvSettingsSource, PydanticBaseSettingsSource, SettingsConfigDict

from obieg.domain.identifiers import is_oid
from obieg.domain.obligations import OFFICER, PATIENTS
from obieg.domain.previewing import Fault
from obieg.ops.failure import Failure

Role = Literal["region", "facility"]
VARIABLES = "OBIEG_"  # how the environment's variables begin that win over the file

_HOST_AND_PORT = re.compile(r"(\[[0-9a-fA-F:.]+\]|[^\s/:]+):\d{1,5}")

KIB, MIB, GIB = 2**10, 2**20, 2**30


def _oid(text: str) -> str:
    if not is_oid(text):
        raise ValueError("must be an object identifier such as 2.16.840.1.113883, at most 64 characters")
    return text


def _address(text: str) -> str:
    if text:
        ipaddress.ip_address(text)
    return text


def _oid_or_empty(text: str) -> str:
    return _oid(text) if text else text


def _identifier_or_empty(text: str) -> str:
    if text:
        _oid(text.partition("#")[0])
    return text


def _none_if_empty(value: Any) -> Any:
    return None if value == "" else value


Oid = Annotated[str, AfterValidator(_oid)]
Address = Annotated[str, AfterValidator(_address)]
Port = Annotated[int, Field(ge=0, le=65535)]
OptionalPath = Annotated[Path | None, BeforeValidator(_none_if_empty)]
OptionalBool = Annotated[bool | None, BeforeValidator(_none_if_empty)]
Positive = Annotated[int, Field(gt=0)]
Seconds = Annotated[float, Field(gt=0)]


class Section(BaseModel):
    """A table of the settings file."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class DatabaseSettings(Section):
    """Where the node keeps everything but the documents themselves."""

    dsn: str = Field(
        "",
        repr=False,
        description="PostgreSQL 15 or newer, as a libpq connection string. Empty: an embedded server below data_dir, "
        "reached only through a socket that nobody else may open.",
    )


class HttpSettings(Section):
    """The SOAP and web endpoints."""

    host: str = Field("127.0.0.1", description="Address to listen on; 0.0.0.0 is every interface.")
    port: Port = Field(8080, description="TCP port; 0 takes any free one (the ready file names it).")
    local_port: Port = Field(
        0,
        description="A second TCP port, on 127.0.0.1 alone and without TLS, by which browsers of this very machine "
        "reach the pages as http://localhost. 0: none. Only where host is a loopback address.",
    )
    public_url: str = Field(
        "", description="Address under which others reach this node, as WSDLs name it. Empty: made of host and port."
    )
    proxies: tuple[Address, ...] = Field(
        (),
        description="Addresses of the reverse proxies that end TLS for this node. With any, HTTP is served to them "
        "alone and without TLS; they tell the caller's address and certificate (docs/operations.md).",
    )


class MllpSettings(Section):
    """The HL7 v2 patient identity feed (ITI-8)."""

    enabled: bool = Field(True, description="Whether to listen.")
    host: str = Field("127.0.0.1", description="Address to listen on.")
    port: Port = Field(2575, description="TCP port; 0 takes any free one.")


class TlsSettings(Section):
    """TLS of everything that this node listens on. Without a certificate it belongs into a closed network."""

    certificate_file: OptionalPath = Field(
        None,
        description="Certificate chain (PEM): by it others know this node, those who call it and those whom it calls. "
        "With it HTTP and MLLP are served over TLS 1.2 and 1.3 only. A changed file is read within a minute.",
    )
    key_file: OptionalPath = Field(None, description="Private key of the certificate (PEM).")
    ca_file: OptionalPath = Field(
        None,
        description="Authority (PEM) that vouches for it; the ready file names it. Empty: everybody knows it.",
    )

    @model_validator(mode="after")
    def _agree(self) -> TlsSettings:
        if (self.certificate_file is None) != (self.key_file is None):
            raise ValueError("certificate_file and key_file belong together")
        return self


class TrustSettings(Section):
    """Whom this node trusts: with a file, callers prove who they are by certificate, assertion or token."""

    file: OptionalPath = Field(
        None,
        description="List (JSON) of the issuers of assertions, of OAuth clients and of the authorities whose clients "
        "may connect; docs/lab.md describes it. Empty: callers are known by their network address.",
    )


class PeopleSettings(Section):
    """Sessions of people who log in at this node's own pages (obieg people)."""

    idle_s: Seconds = Field(900, description="Seconds without a request after which a session ends.")
    lifetime_s: Seconds = Field(43_200, description="Seconds after which a session ends, however much it is used.")


class WezelKrajowySettings(Section):
    """Węzeł Krajowy (login.gov.pl), by which patients log in. Without own_entity_id they cannot."""

    own_entity_id: str = Field("", description="Who this node is to Węzeł Krajowy, as registered there.")
    signing_certificate_file: OptionalPath = Field(
        None, description="Certificate (PEM) of the key by which this node signs (P-256)."
    )
    signing_key_file: OptionalPath = Field(None, description="That key (PEM).")
    encryption_certificate_file: OptionalPath = Field(
        None, description="Certificate (PEM) of another key, for which people's data are encrypted."
    )
    encryption_key_file: OptionalPath = Field(None, description="That key (PEM, P-256 or P-384).")
    level: Literal["low", "substantial", "high"] = Field(
        "low", description="The least level of assurance (eIDAS) by which people must be proved."
    )
    metadata_file: OptionalPath = Field(
        None, description="SAML metadata of Węzeł Krajowy. Empty: the settings below say the same."
    )
    entity_id: str = Field("", description="Who Węzeł Krajowy is, as its answers name it (login.gov.pl).")
    sign_on_url: str = Field("", description="Where people are sent: https://login.gov.pl/login/SingleSignOnService.")
    artifact_url: str = Field(
        "",
        description="Where this node asks who came back: "
        "https://login.gov.pl/login-services/idpArtifactResolutionService.",
    )
    logout_url: str = Field(
        "",
        description="Where this node tells that somebody logged out: "
        "https://login.gov.pl/login-services/singleLogoutService. Empty: nowhere.",
    )
    certificate_files: tuple[Path, ...] = Field(
        (), description="Certificates (PEM) of the keys by which Węzeł Krajowy signs."
    )
    ca_file: OptionalPath = Field(
        None, description="Authorities (PEM) that vouch for its servers. Empty: those that the system trusts."
    )

    @model_validator(mode="after")
    def _agree(self) -> WezelKrajowySettings:
        if not self.own_entity_id:
            return self
        own = ("signing_certificate_file", "signing_key_file", "encryption_certificate_file", "encryption_key_file")
        for name in own:
            if getattr(self, name) is None:
                raise ValueError(f"{name}: is needed where own_entity_id is given")
        if self.metadata_file is None:
            for name in ("entity_id", "sign_on_url", "artifact_url", "certificate_files"):
                if not getattr(self, name):
                    raise ValueError(f"{name}: is needed where there is no metadata_file")
        return self


class IdentitySettings(Section):
    """Who this node is among others."""

    home_community_id: Oid = Field(description="OID of the community (region) this node belongs to.")
    repository_unique_id: Oid = Field(description="OID of this node's document repository.")
    assigning_authority: Oid = Field(description="OID of the affinity domain's patient ids.")


class AffinityDomainSettings(Section):
    """What may be registered."""

    codes: OptionalPath = Field(
        None,
        description="File of the accepted codes (affinity_domain_codes.json). Empty: the Polish affinity domain.",
    )
    allow_limited_metadata: bool = Field(
        False, description="Whether submissions may leave out what ITI TF-3:4.2.3 lets limited metadata leave out."
    )
    registry_allocates_for_other_authorities: bool = Field(
        True,
        description="Whether a feed in another assigning authority makes the registry allocate an id of its own for "
        "the patient. If not, such a patient is known but nothing can be registered for them.",
    )


class RegistrySettings(Section):
    """The region's registry, for a facility."""

    register_url: str = Field("", description="Where this node registers its documents (ITI-42).")
    query_url: str = Field("", description="Where this node asks what is registered (ITI-18).")
    decisions_url: str = Field(
        "",
        description="Where this node asks whether somebody may have a document (XACML 3.0). Empty: whoever may call "
        "gets what they name.",
    )
    sts_url: str = Field(
        "",
        description="The region's token service (WS-Trust 1.3), for a region that requires tokens: what is asked there "
        "is then asked with an assertion (ITI-40) naming the person for whom it is, or this node. Empty: the region "
        "knows this node by its certificate or address alone.",
    )
    mllp_address: str = Field(
        "",
        description="Where the region takes the patient identity feed, as host:port. This node tells it to the house's "
        "own systems (ready file); it does not call there itself.",
    )
    ca_file: OptionalPath = Field(
        None,
        description="Authorities (PEM) that vouch for the region's certificate. Empty: those of the system.",
    )
    source_address: Address = Field(
        "", description="Local address that outgoing calls come from; empty lets the system choose."
    )


class NodeSettings(Section):
    """Who may call this node: another node, or a system of this house. Nobody else may, except in a laboratory."""

    name: str = Field(
        min_length=1,
        description="Its name, for people; it stays when the certificate changes: what it feeds is its own.",
    )
    address: Address = Field("", description="The IP address its calls come from. Empty: any, with its certificate.")
    certificate: str = Field(
        "",
        description="Whose certificate it shows: the subject, as obieg certs show prints it (CN=…), of one that an "
        "authority of the trust file has signed. Needed where there is a trust file.",
    )
    repository_unique_id: Annotated[str, AfterValidator(_oid_or_empty)] = Field(
        "", description="The repository whose documents it may register in this region. Empty: none of its own."
    )
    retrieve_url: str = Field(
        "",
        description="Where that repository gives out documents (ITI-43): a region fetches them there, with its own "
        "certificate and an assertion naming who asks, for those who ask at its FHIR address and its pages. Empty: "
        "these say only where the document lies.",
    )
    ca_file: OptionalPath = Field(
        None, description="Authorities (PEM) that vouch for its certificate there. Empty: those that the system trusts."
    )
    organisation: Annotated[str, AfterValidator(_identifier_or_empty)] = Field(
        "",
        description="The organisation of its users, as root#extension or the OID alone: the only one in the tokens "
        "that it asks for (WS-Trust), none of which is a patient's. Systems of one organisation may change what any of "
        "them has fed. Empty: any, as for a portal of patients.",
    )

    @model_validator(mode="after")
    def _agree(self) -> NodeSettings:
        if not (self.address or self.certificate):
            raise ValueError("address: a node is known by its address, by its certificate, or by both")
        if self.retrieve_url and not self.repository_unique_id:
            raise ValueError("retrieve_url: needs repository_unique_id, the repository that answers there")
        return self


class AuthoritySettings(Section):
    """Who gives out patients' identifiers, besides national numbers. Without any, those of all are taken."""

    oid: Oid = Field(description="Its OID, as messages name it (CX-4.2).")
    name: str = Field("", description="Its namespace (CX-4.1); messages may name it by this alone.")
    single: bool = Field(
        False, description="Whether it gives a person one number for life, whatever facility it is used in."
    )
    assigners: tuple[str, ...] = Field(
        (),
        description="Who may give out new identifiers of it: names of [[nodes]] where access is enforced, elsewhere "
        "sending applications (MSH-3) or facilities (MSH-4). Empty: anybody.",
    )


class SubscriberSettings(Section):
    """Who is told when identifiers of patients change; what waits to be told, and why: obieg outbox list."""

    name: str = Field(min_length=1, description="Its name, for people; messages that wait for it are kept under it.")
    protocol: Literal["pix_v2", "pix_v3", "xad_pid"] = Field(
        description="pix_v2: the identifiers of a patient, by ADT^A31 (ITI-10). pix_v3: the same over SOAP (ITI-46). "
        "xad_pid: for a registry, an identifier that went to another affinity-domain id, by ADT^A43 (ITI-64)."
    )
    address: str = Field(
        description="Where it listens: host:port, mllps://host:port for TLS, or for pix_v3 an http or https address."
    )
    application: str = Field(
        "", description="How it calls itself (MSH-5); for pix_v3 the OID of its device. Empty: its name."
    )
    facility: str = Field("", description="Where it is (MSH-6). Empty: its name.")
    authorities: tuple[Oid, ...] = Field(
        (), description="OIDs of the assigning authorities that it is interested in. Empty: all."
    )
    ca_file: OptionalPath = Field(
        None, description="Authorities (PEM) that vouch for its certificate. Empty: those that the system trusts."
    )
    certificate_file: OptionalPath = Field(None, description="Certificate (PEM) by which this node proves who it is.")
    key_file: OptionalPath = Field(None, description="Private key of that certificate (PEM).")

    @model_validator(mode="after")
    def _agree(self) -> SubscriberSettings:
        if self.protocol == "pix_v3":
            if not self.address.startswith(("http://", "https://")):
                raise ValueError("address: pix_v3 is sent to an http or https address")
            if not is_oid(self.application):
                raise ValueError("application: pix_v3 needs the OID of the receiving device")
        elif not _HOST_AND_PORT.fullmatch(self.address.removeprefix("mllps://")):
            raise ValueError(f"address: {self.protocol} is sent to host:port, or mllps://host:port for TLS")
        files = (self.ca_file, self.certificate_file, self.key_file)
        if any(files) and not self.address.startswith(("mllps://", "https://")):
            raise ValueError("address: with a certificate or an authority it begins with mllps:// or https://")
        if (self.certificate_file is None) != (self.key_file is None):
            raise ValueError("certificate_file and key_file belong together")
        return self


class AuditSettings(Section):
    """The Audit Record Repository over syslog (ITI-20): records that others send here."""

    enabled: bool = Field(False, description="Whether to listen.")
    host: str = Field("127.0.0.1", description="Address to listen on.")
    port: Port = Field(6514, description="TCP port; 0 takes any free one.")


class AuditRepositorySettings(Section):
    """Who else is told what this node records (ITI-20 over syslog); how much waits: obieg_audit_waiting."""

    name: str = Field(min_length=1, description="Its name; how far it has been told is kept under it.")
    address: str = Field(
        description="Where it listens: host:port, over TLS. tcp://host:port is in the clear, for a laboratory."
    )
    ca_file: OptionalPath = Field(
        None, description="Authorities (PEM) that vouch for its certificate. Empty: those that the system trusts."
    )

    @model_validator(mode="after")
    def _agree(self) -> AuditRepositorySettings:
        if not _HOST_AND_PORT.fullmatch(self.address.removeprefix("tcp://")):
            raise ValueError("address: host:port, or tcp://host:port")
        return self


class StoreSettings(Section):
    """Where the documents themselves are kept, encrypted."""

    kind: Literal["segments", "s3"] = Field(
        "segments", description="segments: files below data_dir, for one machine. s3: an object store, for any number."
    )
    s3_url: str = Field("", description="Bucket and prefix, as s3://bucket/prefix.")
    s3_endpoint: str = Field("", description="Address of the S3 service; empty: Amazon's.")
    s3_access_key: str = Field("", description="Access key id.")
    s3_secret_key: SecretStr = Field(
        SecretStr(""), description="Secret access key; better given as OBIEG_STORE__S3_SECRET_KEY."
    )
    segment_size_bytes: Annotated[int, Field(ge=MIB)] = Field(
        GIB, description="A segment that has grown to this many bytes is closed and a new one begun."
    )
    master_key_file: OptionalPath = Field(
        None,
        description="File with the key that wraps the documents' keys. Empty: master.key below data_dir. Keep a copy "
        "of it elsewhere: without it no document can be read.",
    )


class AccessSettings(Section):
    """Who may see what (docs/access.md)."""

    enforced: OptionalBool = Field(
        None,
        description="Whether a request is answered only as far as facts and consents permit. Empty: where a trust file "
        "lets callers prove who they are, outside a laboratory.",
    )
    emergency_opens_restricted: bool = Field(
        True, description="Whether emergency access shows also what the patient has restricted."
    )
    restriction_binds_author: bool = Field(
        True, description="Whether a restriction of the patient hides documents also from their authors' own facility."
    )


class NoticesSettings(Section):
    """How people are told that there is something to see (docs/access.md). The portal shows it in any case."""

    smtp_host: str = Field("", description="Mail server. Empty: nobody gets e-mail.")
    smtp_port: Port = Field(587, description="Its TCP port.")
    smtp_security: Literal["starttls", "tls", "none"] = Field(
        "starttls", description="starttls: TLS after the greeting. tls: from the beginning. none: for a laboratory."
    )
    smtp_ca_file: OptionalPath = Field(
        None, description="Authorities (PEM) that vouch for its certificate. Empty: those that the system trusts."
    )
    smtp_user: str = Field("", description="User name there. Empty: nobody logs in.")
    smtp_password: SecretStr = Field(
        SecretStr(""), description="Password there; better given as OBIEG_NOTICES__SMTP_PASSWORD."
    )
    sender: str = Field("", description="Address that e-mail comes from.")
    officer_address: str = Field(
        "", description="E-mail address of the data-protection officer, who is told of emergency access."
    )
    sms_url: str = Field("", description="Where an SMS gateway takes messages. Empty: none (docs/access.md).")
    sms_key: SecretStr = Field(SecretStr(""), description="Bearer key for it; better given as OBIEG_NOTICES__SMS_KEY.")
    portal_url: str = Field("", description="Address of the patient portal, as messages name it.")
    language: Literal["pl", "en", "uk"] = Field("pl", description="Language for people whose records name none.")


class MedicalEventsSettings(Section):
    """Medical events (ZM) that facilities report to P1. P1's own service is not connected yet, a stand-in is."""

    url: str = Field("", description="Root of the FHIR service that has them. Empty: no source is connected.")
    key: SecretStr = Field(SecretStr(""), description="Bearer key for it; better given as OBIEG_MEDICAL_EVENTS__KEY.")


class ImagesSettings(Section):
    """The archive of images behind this node (DICOMweb); nobody but the node reaches it."""

    archive_url: str = Field(
        "",
        description="Root of its DICOMweb service, as https://archive.example/dicom-web. Empty: there are no images.",
    )
    patient_authority: Annotated[str, AfterValidator(_oid_or_empty)] = Field(
        "",
        description="OID of the authority that assigns the archive's Patient IDs: a study is shown only where its "
        "Patient ID names the patient of the manifest. Needed with archive_url.",
    )
    user: str = Field("", description="User name there. Empty: the node logs in by its certificate, or not at all.")
    password_file: OptionalPath = Field(None, description="File with the password there, in its first line.")
    ca_file: OptionalPath = Field(
        None, description="Authorities (PEM) that vouch for its certificate. Empty: those that the system trusts."
    )

    @model_validator(mode="after")
    def _agree(self) -> ImagesSettings:
        if self.archive_url and not re.fullmatch(r"https?://[^\s/?#@]+(/[^\s?#]*)?", self.archive_url):
            raise ValueError("archive_url: https://host[:port]/path, without user, query and fragment")
        if self.archive_url and not self.patient_authority:
            raise ValueError("patient_authority: without it nobody knows whose images the archive has")
        if bool(self.user) != (self.password_file is not None):
            raise ValueError("user and password_file belong together")
        return self


class SealingSettings(Section):
    """How the audit is sealed, so that nobody can change it unnoticed (docs/audit.md)."""

    interval_s: Annotated[float, Field(gt=0, le=60)] = Field(
        60, description="Longest time until a committed audit record is sealed."
    )
    fail_after_s: Seconds = Field(
        14_400,
        description="Seconds without sealing after which every request is answered with 'busy', save in an emergency.",
    )
    key_file: OptionalPath = Field(
        None,
        description="File with the key that signs roots (Ed25519, PEM). Empty: seal.key below data_dir; it is made "
        "when there is none. Keep a copy of it elsewhere.",
    )
    roots_file: OptionalPath = Field(
        None,
        description="File to which every root is added; best on a medium that can only be written once. Empty: "
        "roots.txt below data_dir.",
    )
    tsa_url: str = Field("", description="Address of a time-stamping authority (RFC 3161). Empty: no time-stamps.")
    tsa_ca_file: OptionalPath = Field(
        None, description="Certificates (PEM) that the time-stamping authority's own must lead to."
    )
    witness_of: tuple[str, ...] = Field(
        (), description="Addresses of other nodes' roots (https://…/audit/roots), which this node keeps for them."
    )
    ca_file: OptionalPath = Field(
        None,
        description="Authorities (PEM) that vouch for the servers of tsa_url, of witness_of and of obieg audit verify "
        "--roots. Empty: those that the system trusts.",
    )


class LimitSettings(Section):
    """How much a caller may ask of this node; what is more is refused with the protocol's own error."""

    header_bytes_max: Positive = Field(64 * KIB, description="Most bytes of an HTTP request's first line and headers.")
    message_bytes_max: Positive = Field(
        32 * MIB, description="Most bytes of XML in one message: a SOAP envelope without its attached documents."
    )
    document_bytes_max: Positive = Field(GIB, description="Most bytes of one document; documents are streamed.")
    parts_max: Positive = Field(100, description="Most parts (attached documents) of one message.")
    depth_max: Annotated[int, Field(ge=16, le=255)] = Field(64, description="Deepest nesting of XML elements.")
    attributes_max: Positive = Field(100, description="Most attributes of one XML element.")
    results_max: Positive = Field(
        10_000,
        description="Most objects in one answer to a query; a query that finds more is refused and says so "
        "(XDSTooManyResults).",
    )
    connections_max: Positive = Field(
        2_000, description="Most open HTTP connections per worker; the next get status 503."
    )
    header_time_s: Seconds = Field(10, description="Seconds in which the headers of a request must have arrived.")
    idle_time_s: Seconds = Field(
        30, description="Seconds a connection may be silent, between two requests or within a request's body."
    )
    request_time_s: Seconds = Field(
        300, description="Seconds in which a whole request must have been received and answered."
    )
    requests_per_second: Seconds = Field(
        5_000,
        description="Most requests per second and worker of one system, and of one organisation; what is more is told "
        "to come back (HTTP 429, XDSRegistryBusy, AE). Emergency access passes.",
    )
    person_requests_per_second: Seconds = Field(100, description="The same of one person.")
    drain_time_s: Seconds = Field(30, description="Seconds that running requests are given to end when the node stops.")
    mllp_frame_bytes_max: Positive = Field(MIB, description="Most bytes of one HL7 v2 message.")
    mllp_idle_time_s: Seconds = Field(600, description="Seconds an MLLP connection may be silent.")


class LogSettings(Section):
    """What the node says about itself, on standard error. Never the content of a message."""

    level: Literal["debug", "info", "warning", "error"] = Field("info", description="The least that is said.")
    format: Literal["json", "console"] = Field("json", description="json for machines, console for people.")


def _only(role: Role) -> Any:
    return {"role": role}


class Settings(BaseSettings):
    """Everything a node can be told."""

    model_config = SettingsConfigDict(
        env_prefix=VARIABLES,
        env_nested_delimiter="__",
        extra="forbid",
        frozen=True,
        nested_model_default_partial_update=True,
    )

    role: Role = Field(
        description="region: registry and regional repository. facility: a repository that registers there."
    )
    lab: bool = Field(
        False,
        description="A laboratory for conformance tests: nobody must prove who they are. Listens on loopback only.",
    )
    name: str = Field("obieg", description="What people call this node.")
    data_dir: Path = Field(description="Folder for everything this node keeps; relative to this file.")
    workers: Annotated[int, Field(ge=1, le=64)] = Field(
        2, description="Worker processes; one per core is a good number."
    )
    database: DatabaseSettings = DatabaseSettings.model_construct()
    http: HttpSettings = HttpSettings.model_construct()
    mllp: MllpSettings = Field(MllpSettings.model_construct(), json_schema_extra=_only("region"))
    tls: TlsSettings = TlsSettings.model_construct()
    trust: TrustSettings = TrustSettings.model_construct()
    people: PeopleSettings = PeopleSettings.model_construct()
    wezel_krajowy: WezelKrajowySettings = WezelKrajowySettings.model_construct()
    identity: IdentitySettings
    affinity_domain: AffinityDomainSettings = AffinityDomainSettings.model_construct()
    registry: RegistrySettings = Field(RegistrySettings.model_construct(), json_schema_extra=_only("facility"))
    nodes: tuple[NodeSettings, ...] = ()
    authorities: tuple[AuthoritySettings, ...] = Field((), json_schema_extra=_only("region"))
    subscribers: tuple[SubscriberSettings, ...] = Field((), json_schema_extra=_only("region"))
    access: AccessSettings = Field(AccessSettings.model_construct(), json_schema_extra=_only("region"))
    notices: NoticesSettings = Field(NoticesSettings.model_construct(), json_schema_extra=_only("region"))
    medical_events: MedicalEventsSettings = Field(
        MedicalEventsSettings.model_construct(), json_schema_extra=_only("region")
    )
    images: ImagesSettings = Field(ImagesSettings.model_construct(), json_schema_extra=_only("region"))
    audit: AuditSettings = AuditSettings.model_construct()
    audit_repositories: tuple[AuditRepositorySettings, ...] = ()
    store: StoreSettings = StoreSettings.model_construct()
    sealing: SealingSettings = SealingSettings.model_construct()
    limits: LimitSettings = LimitSettings.model_construct()
    log: LogSettings = LogSettings.model_construct()

    aside: ClassVar[dict[str, str]] = {}  # variables that a worker took out of its environment: it has their outcome
    _folder: Path = PrivateAttr(default_factory=Path)
    _asked: Settings | None = PrivateAttr(None)

    @property
    def folder(self) -> Path:
        """Of the file that they were read from."""
        return self._folder

    @property
    def asked(self) -> Settings:
        """As they were read, without what was decided at start."""
        return self._asked or self

    def coming(self, folder: Path, asked: Settings | None = None) -> Settings:
        """These, with where they come from."""
        self._folder, self._asked = folder, asked
        return self

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """The environment wins over the file."""
        del settings_cls, dotenv_settings, file_secret_settings
        if isinstance(env_settings, EnvSettingsSource):
            env_settings.env_vars = {**env_settings.env_vars, **{n.lower(): v for n, v in cls.aside.items()}}
        return env_settings, init_settings

    @model_validator(mode="after")
    def _agree(self) -> Settings:
        if self.role == "facility" and not (self.registry.register_url and self.registry.query_url):
            raise ValueError("registry: a facility needs register_url and query_url, the region's endpoints")
        if self.role == "region" and self.registry.register_url:
            raise ValueError("registry: a region is the registry itself; register_url is for a facility")
        for named in ("oid", "name"):
            values = [getattr(authority, named) for authority in self.authorities if getattr(authority, named)]
            if len(set(values)) < len(values):
                raise ValueError(f"authorities: two of them have the same {named}")
        names = [subscriber.name for subscriber in self.subscribers]
        if len(set(names)) < len(names):
            raise ValueError("subscribers: two of them have the same name")
        if {PATIENTS, OFFICER} & {*names}:
            raise ValueError(f"subscribers: {PATIENTS} and {OFFICER} are names of this node's own receivers")
        if self.notices.smtp_host and not self.notices.sender:
            raise ValueError("notices: smtp_host needs sender, the address that e-mail comes from")
        if not self.lab and self.notices.smtp_host and self.notices.smtp_security == "none":
            raise ValueError("notices: outside a laboratory e-mail is sent over TLS: smtp_security starttls or tls")
        if self.notices.sms_url and not is_private(self.notices.sms_url, lab=self.lab):
            raise ValueError("notices: sms_url must be an https address")
        if self.medical_events.url and not is_private(self.medical_events.url, lab=self.lab):
            raise ValueError("medical_events: url must be an https address")
        if self.sealing.tsa_url and self.sealing.tsa_ca_file is None:
            raise ValueError("sealing: tsa_url needs tsa_ca_file: a time-stamp that nobody can check proves nothing")
        if self.store.kind == "s3" and not self.store.s3_url:
            raise ValueError("store: kind s3 needs s3_url")
        if self.trust.file is not None and any(not node.certificate for node in self.nodes):
            raise ValueError("nodes: with a trust file each node is known by its certificate")
        if self.trust.file is None and any(not node.address for node in self.nodes):
            raise ValueError("nodes: without a trust file each node is known by its address")
        self._check_repositories()
        names = [repository.name for repository in self.audit_repositories]
        if len(set(names)) < len(names):
            raise ValueError("audit_repositories: two of them have the same name")
        if not self.lab and self.audit.enabled and self.tls.certificate_file is None:
            raise ValueError("audit: records are taken over TLS: certificate_file and key_file under [tls] are needed")
        if not self.lab and any(r.address.startswith("tcp://") for r in self.audit_repositories):
            raise ValueError("audit_repositories: outside a laboratory records are sent over TLS: host:port")
        if self.http.local_port and (self.http.proxies or not _is_loopback(self.http.host)):
            raise ValueError(
                "http: local_port is for a node that listens on this machine alone, without a proxy: host = 127.0.0.1"
            )
        if self.wezel_krajowy.own_entity_id and not (
            self.http.local_port or self.http.public_url.startswith(("https://", "http://") if self.lab else "https://")
        ):
            raise ValueError("wezel_krajowy: people are sent back to http.public_url, which must be an https address")
        if self.lab and not all(_is_loopback(s.host) for s in (self.http, self.mllp, self.audit)):
            raise ValueError(
                "lab: a laboratory proves nobody's identity, so http.host, mllp.host and audit.host must be 127.0.0.1 "
                "or ::1"
            )
        return self

    def _check_repositories(self) -> None:
        asked = [node for node in self.nodes if node.retrieve_url]
        if asked and self.role == "facility":
            raise ValueError("nodes: retrieve_url is for a region; a facility gives out its own documents alone")
        repositories = [node.repository_unique_id for node in asked]
        if len({*repositories, self.identity.repository_unique_id}) <= len(repositories):
            raise ValueError("nodes: each repository has one retrieve_url, and this node's own has none")
        if not self.lab and any(urlsplit(node.retrieve_url).scheme != "https" for node in asked):
            raise ValueError("nodes: retrieve_url must be an https address")
        if not self.lab and asked and self.tls.certificate_file is None:
            raise ValueError("nodes: retrieve_url is called with this node's certificate: certificate_file under [tls]")

    @property
    def access_enforced(self) -> bool:
        """Whether requests are answered only as far as facts permit; a facility knows none."""
        persons = self.trust.file is not None and not self.lab  # without proofs everybody reads in nobody's name
        return self.role == "region" and (persons if self.access.enforced is None else self.access.enforced)

    @property
    def postgres_dir(self) -> Path:
        """Folder of the embedded database server."""
        return self.data_dir / "postgres"


def is_private(address: str, *, lab: bool = False) -> bool:
    """Whether nobody on the way can read what is sent there: over TLS, or within this machine."""
    parts = urlsplit(address)
    return parts.scheme == "https" or (parts.scheme == "http" and (lab or _is_loopback(parts.hostname or "")))


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


# reading -------------------------------------------------------------------------------------------------------------


class SettingsRefused(Failure):
    """Settings that are not right: what is wrong, with key and line."""

    def __init__(self, source: str, faults: Sequence[Fault]) -> None:
        lines = (f"  {f'line {fault.line}: ' if fault.line else ''}{_told(fault)}" for fault in faults)
        super().__init__(
            f"The settings in {source} are not right.\n" + "\n".join(lines),
            "The node was not started.",
            "docs/settings.md describes every setting; obieg init writes a file with all of them.",
        )
        self.faults = tuple(faults)


def _told(fault: Fault) -> str:
    return f"{fault.key}: {fault.said}" if fault.key else fault.said


def load(path: Path) -> Settings:
    """Reads a settings file; relative paths in it are relative to its folder."""
    try:
        data = path.read_bytes()
    except OSError as error:
        raise Failure(
            f"The settings file {path} cannot be read: {error.strerror}.",
            "Without settings the node does not know what it is.",
            "Make one with: obieg init --role region DIR",
        ) from error
    return parse(data, str(path), path.absolute().parent)


def parse(data: bytes, source: str, folder: Path) -> Settings:
    """Settings from the content of a file in ``folder``. Raises SettingsRefused."""
    given, text = read_toml(data, source)
    return make(given, source, folder, text)


def read_toml(data: bytes, source: str) -> tuple[dict[str, Any], str]:
    """What a file says, and its text. Raises SettingsRefused where it is no TOML."""
    try:
        text = data.decode("utf-8")
        return tomllib.loads(text), text
    except UnicodeDecodeError as error:
        raise SettingsRefused(source, [Fault("", data.count(b"\n", 0, error.start) + 1, "it is not UTF-8")]) from None
    except tomllib.TOMLDecodeError as error:
        found = re.search(r"at line (\d+)", str(error))
        line = int(found[1]) if found else text.count("\n") + 1
        raise SettingsRefused(source, [Fault("", line, f"it is not valid TOML: {error}")]) from None


def line_of(text: str, place: Sequence[str | int]) -> int:
    """The line of a setting, as pydantic names it; of its table where it is not given; 0 where this is not, either."""
    table: tuple[str | int, ...] = ()
    counts: dict[str, int] = {}
    best, depth, quoted = 0, 0, ""
    for number, line in enumerate(text.splitlines(), 1):
        began_quoted = quoted
        for mark in re.findall(r'"""|\'\'\'', line):
            quoted = mark if not quoted else "" if mark == quoted else quoted
        if began_quoted:
            continue
        if heading := re.match(r"\s*\[(\[)?\s*([\w.\-]+)\s*\]", line):
            name = heading[2]
            if heading[1]:
                counts[name] = counts.get(name, -1) + 1
                table = (name, counts[name])
            else:
                table = tuple(name.split("."))
            here = table
        elif key := re.match(r"\s*([\w.\-]+)\s*=", line):
            here = (*table, *key[1].split("."))
        else:
            continue
        if len(here) > depth and tuple(place[: len(here)]) == here:
            best, depth = number, len(here)
    return best


def make(given: Mapping[str, Any], source: str, folder: Path, text: str = "") -> Settings:
    """Settings from a mapping, as if read from a file in ``folder``; ``text`` is what the file says."""
    try:
        settings = Settings(**given)
    except ValidationError as error:
        raise SettingsRefused(source, list(_explain(error, text))) from None

    def absolute(path: Path | None) -> Path | None:
        return None if path is None else folder / path

    domain, store, tls, sealing = settings.affinity_domain, settings.store, settings.tls, settings.sealing
    wk, notices = settings.wezel_krajowy, settings.notices
    subscriber_tls = ("ca_file", "certificate_file", "key_file")
    found = settings.model_copy(
        update={
            "data_dir": folder / settings.data_dir,
            "affinity_domain": domain.model_copy(update={"codes": absolute(domain.codes)}),
            "notices": notices.model_copy(update={"smtp_ca_file": absolute(notices.smtp_ca_file)}),
            "tls": tls.model_copy(
                update={name: absolute(getattr(tls, name)) for name in ("certificate_file", "key_file", "ca_file")}
            ),
            "wezel_krajowy": wk.model_copy(
                update={
                    **{name: absolute(value) for name, value in wk if name.endswith("_file")},
                    "certificate_files": tuple(folder / path for path in wk.certificate_files),
                }
            ),
            "images": settings.images.model_copy(
                update={name: absolute(value) for name, value in settings.images if name.endswith("_file")}
            ),
            "trust": settings.trust.model_copy(update={"file": absolute(settings.trust.file)}),
            "registry": settings.registry.model_copy(update={"ca_file": absolute(settings.registry.ca_file)}),
            "subscribers": tuple(
                s.model_copy(update={name: absolute(getattr(s, name)) for name in subscriber_tls})
                for s in settings.subscribers
            ),
            "audit_repositories": tuple(
                r.model_copy(update={"ca_file": absolute(r.ca_file)}) for r in settings.audit_repositories
            ),
            "store": store.model_copy(update={"master_key_file": absolute(store.master_key_file)}),
            "sealing": sealing.model_copy(
                update={name: absolute(value) for name, value in sealing if name.endswith("_file")}
            ),
        }
    )
    return found.coming(folder)


def _explain(error: ValidationError, text: str) -> Iterator[Fault]:
    known = {setting.key: setting for setting in every_setting()}
    for problem in error.errors(include_url=False, include_input=False):
        key = ".".join(str(part) for part in problem["loc"] if not isinstance(part, int))
        place: tuple[str | int, ...] = problem["loc"]
        if problem["type"] == "extra_forbidden":
            near = difflib.get_close_matches(key, {*known, *Settings.model_fields}, n=1)
            said = "there is no such setting" + (f"; did you mean {near[0]}?" if near else "")
        elif problem["type"] == "missing":
            about = known[key].description if key in known else "this section is needed"
            said = f"is missing ({about})"
        else:
            said = problem["msg"].removeprefix("Value error, ")
            named, colon, rest = said.partition(": ")
            if not place and colon and named in Settings.model_fields:
                key, said, place = named, rest, (named, 0)
                place = place if line_of(text, place) else (named,)
        yield Fault(key, line_of(text, place), said)


# describing ----------------------------------------------------------------------------------------------------------


class Setting(NamedTuple):
    """One setting, as described."""

    section: str  # "" for the settings before the first table
    name: str
    type: str
    default: Any
    required: bool
    description: str
    role: Role | None  # None: both

    @property
    def key(self) -> str:
        """As it is called in messages."""
        return f"{self.section}.{self.name}" if self.section else self.name

    @property
    def variable(self) -> str:
        """The environment variable that wins over the file."""
        return VARIABLES + self.key.upper().replace(".", "__")


class Table(NamedTuple):
    """One table of the file."""

    name: str
    title: str
    role: Role | None
    repeated: bool
    settings: tuple[Setting, ...]


def tables() -> tuple[Table, ...]:
    """The whole model, in the order of the file; the tables that may be repeated come last, as TOML wants it."""
    top: list[Setting] = []
    found: list[Table] = []
    for name, field in Settings.model_fields.items():
        extra = field.json_schema_extra
        role: Any = extra.get("role") if isinstance(extra, dict) else None
        inner = get_args(field.annotation)[0] if get_origin(field.annotation) is tuple else field.annotation
        if isinstance(inner, type) and issubclass(inner, Section):
            of_table = tuple(_setting(name, n, f, role) for n, f in inner.model_fields.items())
            found.append(Table(name, inner.__doc__ or "", role, inner is not field.annotation, of_table))
        else:
            top.append(_setting("", name, field, role))
    return (Table("", "The node.", None, False, tuple(top)), *sorted(found, key=lambda table: table.repeated))


def every_setting() -> Iterator[Setting]:
    """All settings, in the order of the file."""
    for table in tables():
        yield from table.settings


def _setting(section: str, name: str, field: FieldInfo, role: Role | None) -> Setting:
    required = field.is_required()
    return Setting(
        section,
        name,
        _type_name(field.annotation),
        None if required else field.default,
        required,
        field.description or "",
        role,
    )


def _type_name(annotation: Any) -> str:
    if get_origin(annotation) is Literal:
        return " or ".join(str(value) for value in get_args(annotation))
    if get_origin(annotation) is Annotated:
        return "OID" if annotation is Oid else _type_name(get_args(annotation)[0])
    if get_origin(annotation) is tuple:
        return f"list of {_type_name(get_args(annotation)[0])}"
    if arguments := [argument for argument in get_args(annotation) if argument is not type(None)]:
        return _type_name(arguments[0])
    names = {
        str: "text",
        SecretStr: "secret text",
        int: "whole number",
        float: "number",
        bool: "true or false",
        Path: "path",
    }
    return names[annotation]


def write_commented(role: Role, **known: Any) -> str:
    """A settings file with all that a node of this role can be told: ``known`` is set, the rest stands as comments."""
    given: dict[str, Any] = {"role": role, **known}
    lines = [
        f"# Settings of an obieg {role} node.",
        "# What stands behind # is the default; docs/settings.md says the same.",
    ]
    for table in tables():
        if table.role not in (None, role):
            continue
        values = given.get(table.name) if table.name else given
        entries = (list(values or ()) or [None]) if table.repeated else [values or {}]
        for number, entry in enumerate(entries):
            lines.extend(_write_table(table, entry, comments=number == 0))
    return "\n".join([*lines, ""])


def _write_table(table: Table, values: Mapping[str, Any] | None, *, comments: bool) -> Iterator[str]:
    yield ""
    if comments and table.name:
        yield from _comment(table.title)
    if table.name:
        heading = f"[[{table.name}]]" if table.repeated else f"[{table.name}]"
        yield heading if values is not None else f"# {heading}"
    for setting in table.settings:
        if comments:
            yield from _comment(setting.description)
        if values is not None and setting.name in values:
            yield f"{setting.name} = {_toml(values[setting.name])}"
        elif values is not None and setting.required:
            raise ValueError(f"{setting.key} has no default and must be given")
        else:
            yield f"# {setting.name} = {_toml(setting.default)}"


def _comment(text: str) -> list[str]:
    return textwrap.wrap(text, 100, initial_indent="# ", subsequent_indent="# ", break_on_hyphens=False)


def _toml(value: Any) -> str:
    match value:
        case bool():
            return "true" if value else "false"
        case int() | float():
            return str(value)
        case None:
            return '""'
        case tuple() | list():
            return f"[{', '.join(map(_toml, value))}]"
        case SecretStr():
            return json.dumps(value.get_secret_value())
        case _:
            return json.dumps(str(value), ensure_ascii=False)


def new_oid() -> str:
    """An OID that nobody else has (ITU-T X.667), until the operator is given one of their own."""
    return f"2.25.{uuid.uuid4().int}"

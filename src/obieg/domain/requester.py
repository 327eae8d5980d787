"""Who is asking. Only ``actors/authentication`` makes a Requester."""

from __future__ import annotations

from datetime import datetime

from obieg.domain.documents import Value


class Spent(Value, frozen=True):
    """What may be shown once only: a message, a Response, an artifact, a token (RFC 7519, section 4.1.7)."""

    kind: str  # message, signature, assertion, response, artifact, jwt
    issuer: str  # who gave it its identifier
    identifier: str
    until: datetime  # when nothing can be shown with it any more: then it is forgotten


class Requester(Value, frozen=True):
    """The caller of a request, as proved.

    In the laboratory nobody is proved; ``system`` then names the network address. ``repositories`` are the
    repositoryUniqueIds that the calling node may register for; None means any (laboratory, same process).
    """

    system: str  # who sends: a node's name, the subject of a certificate, the client_id
    address: str = ""
    proof: str = ""  # laboratory, address, certificate, saml, oauth, session
    issuer: str = ""  # who vouches for the person: SAML entity id, issuer of the token
    person: str = ""  # identifier of the person, as root#extension where it has a root
    person_name: str = ""
    role: str = ""  # code of codes/roles.toml
    organisation: str = ""  # root#extension
    child_organisation: str = ""  # a unit of it: root#extension
    purpose_of_use: str = ""  # code of HL7's PurposeOfUse
    patient: str = ""  # whom the proof is limited to: root#extension
    acting_for: str = ""  # the professional for whom an assistant acts, the patient for whom a proxy does
    scopes: tuple[str, ...] | None = None  # of a token; None: the proof knows none
    assurance: str = ""  # how surely the person was proved: SAML AuthnContextClassRef, acr
    token: str = ""  # identifier of the assertion, the token or the session, for the audit
    until: datetime | None = None  # when the proof ends
    logged_in_at: datetime | None = None  # of a session: when the person proved who they are
    spent: tuple[Spent, ...] = ()  # what this request uses up: stored in the commit of its audit record
    acting_for_name: str = ""  # where the proof says it
    remark: str = ""  # what every audit record of the request says besides
    repositories: tuple[str, ...] | None = ()

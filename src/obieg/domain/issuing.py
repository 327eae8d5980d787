"""A request for a security token and what is issued for it (WS-Trust 1.3)."""

from __future__ import annotations

from datetime import datetime

from obieg.domain.documents import Value


class Claims(Value, frozen=True):
    """What an assertion is to say of its subject; "" where nothing is asked for.

    Identifiers are root#extension, or the root alone; the other facts are as in
    :class:`obieg.domain.requester.Requester`.
    """

    person: str = ""
    person_name: str = ""
    role: str = ""
    organisation: str = ""
    organisation_name: str = ""
    child_organisation: str = ""
    purpose_of_use: str = ""
    patient: str = ""
    acting_for: str = ""  # the professional for whom an assistant acts
    home_community: str = ""  # OID
    source_organisation: str = ""  # on whose behalf the organisation acts (P1)
    authenticated_at: datetime | None = None
    authn_context: str = ""  # how the subject was authenticated: an AuthnContextClassRef


class TokenRequest(Value, frozen=True):
    """A RequestSecurityToken for an assertion."""

    claims: Claims
    polish: bool = False  # it is to use the names of P1
    scope: str = ""  # address of who is to accept it; "": this community
    own_scope: bool = True  # the scope is this node
    holder: bytes = b""  # DER: the certificate of whom alone it may be used by; none: of any bearer
    holder_of_message: bool = False  # the message, not the connection, is to prove the holder's key
    begins: datetime | None = None
    ends: datetime | None = None
    key_type: str = ""  # as the request names it
    context: str = ""  # of the request, given back


class IssuedToken(Value, frozen=True):
    """An assertion that was signed."""

    id: str
    assertion: bytes  # XML
    begins: datetime
    ends: datetime

"""WS-Trust issue: a system or a person gets the assertion by which people are known to other nodes (SOAP).

The assertions are those of Cross-Enterprise User Assertion (ITI TF-2:3.40.4.1.2). Renewing, validating and cancelling
are refused: an assertion ends by itself, soon.

http://docs.oasis-open.org/ws-sx/ws-trust/v1.3/ws-trust.html
"""

from __future__ import annotations

from obieg.actors.security_token_service import SecurityTokenService
from obieg.domain.audit import AuditObject
from obieg.domain.issuing import Claims, IssuedToken, TokenRequest
from obieg.domain.problems import Finding
from obieg.mapping import wst
from obieg.protocol import (
    Context,
    SoapBinding,
    SoapOperation,
    SoapQuestion,
    SoapReply,
    SoapRequest,
    Transaction,
)

_REQUEST, _RESPONSE = (wst.WST, "RequestSecurityToken"), (wst.WST, "RequestSecurityTokenResponse")


async def _serve(
    service: SecurityTokenService, request: TokenRequest, context: Context
) -> tuple[IssuedToken, TokenRequest]:
    return await service.issue(request, context), request


def _encode(result: tuple[IssuedToken, TokenRequest], _message: SoapRequest) -> SoapReply:
    return wst.write_issued(*result)


def _refuse(findings: tuple[Finding, ...], _message: SoapRequest) -> SoapReply:
    return wst.write_refusal(findings)


def _audit(request: TokenRequest) -> tuple[AuditObject, ...]:
    return wst.audited(request.claims)


def encode_request(claims: Claims) -> SoapQuestion:
    """A request for the assertion of one of the caller's own users."""
    return SoapQuestion(wst.write_request(claims))


def decode_answer(answer: SoapRequest) -> IssuedToken:
    """The assertion. Raises Problem."""
    return wst.read_issued(answer.body)


def _refused(name: str) -> SoapOperation:
    return SoapOperation(
        port_type=f"SecurityTokenService_{name}",
        action=f"{wst.WST}/RST/{name}",
        response_action=f"{wst.WST}/RSTR/{name}Final",
        request=_REQUEST,
        response=_RESPONSE,
    )


TRANSACTION = Transaction(
    id="WST",
    name="Issue Security Token",
    spec="https://docs.oasis-open.org/ws-sx/ws-trust/v1.3/ws-trust.html",
    actor="security_token_service",
    initiator="X-Service User",
    responder="X-Assertion Provider",
    binding=SoapBinding(
        endpoint="sts",
        port_type="SecurityTokenService_Issue",
        action=wst.ACTION,
        response_action=f"{wst.WST}/RSTRC/IssueFinal",
        request=_REQUEST,
        response=(wst.WST, "RequestSecurityTokenResponseCollection"),
        tokens=False,
        others=(_refused("Renew"), _refused("Validate"), _refused("Cancel")),
    ),
    event="token_issued",
    decode=wst.read_request,
    serve=_serve,
    encode=_encode,
    refuse=_refuse,
    audit=_audit,
    permission="security_token_service:assertion:issue",
)

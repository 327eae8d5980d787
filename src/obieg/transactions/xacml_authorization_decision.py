"""XACML: who keeps documents elsewhere asks whether somebody may have them, before giving them out (SOAP).

The question is that which P1's SOZ is asked (XACML 3.0, its SAML 2.0 profile); docs/access.md, Decisions for others.

https://docs.oasis-open.org/xacml/3.0/xacml-3.0-core-spec-os-en.html
"""

from __future__ import annotations

from obieg.actors.decision_point import DecisionPoint
from obieg.domain.decisions import Decided, DecisionQuery
from obieg.mapping import xacml
from obieg.protocol import Context, SoapBinding, SoapOperation, Transaction


async def _serve(point: DecisionPoint, query: DecisionQuery, context: Context) -> tuple[Decided, DecisionQuery]:
    return await point.decide(query, context), query


TRANSACTION = Transaction(
    id="XACML",
    name="Authorization Decision Query",
    spec="https://docs.oasis-open.org/xacml/3.0/xacml-3.0-core-spec-os-en.html",
    actor="decision_point",
    initiator="Policy Enforcement Point",
    responder="Policy Decision Point",
    binding=SoapBinding(
        endpoint="decisions",
        port_type="PolicyDecisionPoint_Query",
        request=(xacml.PROTOCOLS[0], xacml.QUERY),
        response=xacml.RESPONSE,
        others=(
            SoapOperation(
                port_type="PolicyDecisionPoint_QueryWd13",
                request=(xacml.PROTOCOLS[1], xacml.QUERY),
                response=xacml.RESPONSE,
                action="XACMLAuthorizationDecisionQueryRequest",
                response_action="XACMLAuthorizationDecisionQueryResponse",
            ),
        ),
        action="XACMLAuthzDecisionQueryRequest",
        response_action="XACMLAuthzDecisionQueryResponse",
    ),
    event="query",
    decode=xacml.read_query,
    serve=_serve,
    encode=lambda result, _message: xacml.write_answer(result),
    refuse=xacml.write_refusal,
    audit=xacml.audited,
    permission="decision_point:document:decide",
)

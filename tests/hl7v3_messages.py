"""HL7 v3 messages as a peer writes them, by hand, and the official schemas to judge what comes back."""

from __future__ import annotations

import uuid
from functools import cache
from pathlib import Path
from typing import Any
from xml.sax.saxutils import escape, quoteattr

from lxml import etree

NS = "urn:hl7-org:v3"
N = f"{{{NS}}}"
XSI = "http://www.w3.org/2001/XMLSchema-instance"
SHARED = Path(__file__).resolve().parents[2] / "shared"
RESOURCES = SHARED / "data" / "ihe" / "ipf-wsdl" / "commons" / "ihe" / "hl7v3" / "src" / "main" / "resources"
SCHEMAS = RESOURCES / "schema" / "HL7V3" / "NE2008" / "multicacheschemas"
SENDER, RECEIVER = "1.2.616.77.1", "1.2.616.77.2"
XCPD_ACTION = f"{NS}:PRPA_IN201305UV02:CrossGatewayPatientDiscovery"


class _Vocabulary(etree.Resolver):
    """Stands in for voc.xsd, which the reference data lack: every code is a token, its value is not judged."""

    def resolve(self, url: str | None, public_id: str | None, context: Any) -> Any:
        if url is None or not url.endswith("/voc.xsd"):
            return None
        return self.resolve_string(_vocabulary(), context, base_url=url)


@cache
def _vocabulary() -> str:
    """All types that the schemas refer to and do not define."""
    defined, used = set(), set()
    for path in (*SCHEMAS.glob("*.xsd"), *SCHEMAS.parent.glob("coreschemas/*.xsd")):
        for node in etree.parse(path).iter("{http://www.w3.org/2001/XMLSchema}*"):
            if node.tag.endswith(("simpleType", "complexType")):
                defined.add(node.get("name"))
            used |= {node.get(a) for a in ("type", "base", "itemType")} | set((node.get("memberTypes") or "").split())
    types = "".join(
        f'<xs:simpleType name="{name}"><xs:restriction base="cs"/></xs:simpleType>'
        for name in sorted(used - defined - {None})
        if ":" not in name
    )
    return f'<xs:schema xmlns:xs="http://www.w3.org/2001/XMLSchema">{types}</xs:schema>'


@cache
def schema(interaction: str) -> etree.XMLSchema:
    """The schema of an interaction; QUQI_IN000003UV01's file holds its cancel too."""
    parser = etree.XMLParser()
    parser.resolvers.add(_Vocabulary())
    return etree.XMLSchema(etree.parse(SCHEMAS / f"{interaction.removesuffix('_Cancel')}.xsd", parser))


def assert_valid(body: Any) -> None:
    """Against the official schema, where it is."""
    name = etree.QName(body).localname
    if SCHEMAS.is_dir():
        found = schema(name)
        assert found.validate(body), (found.error_log.last_error, etree.tostring(body)[:4000])


def message(
    interaction: str,
    control_act: str,
    *,
    sender: str = SENDER,
    receiver: str = RECEIVER,
    id: str = "",  # noqa: A002 - the name in the message
    name: str = "",
) -> str:
    """A message around a control act; ``name`` of the element if it is not the interaction."""
    name = name or interaction
    trigger = interaction.replace("_IN", "_TE")
    return (
        f'<{name} xmlns="{NS}" xmlns:xsi="{XSI}" ITSVersion="XML_1.0"><id root="{id or uuid.uuid4()}"/>'
        f'<creationTime value="20261122101500"/>'
        f'<interactionId root="2.16.840.1.113883.1.6" extension="{interaction}"/><processingCode code="P"/>'
        f'<processingModeCode code="T"/><acceptAckCode code="AL"/>'
        f'<receiver typeCode="RCV">{device(receiver)}</receiver><sender typeCode="SND">{device(sender)}</sender>'
        f'<controlActProcess classCode="CACT" moodCode="EVN"><code code="{trigger}" '
        f'codeSystem="2.16.840.1.113883.1.6"/>{control_act}</controlActProcess></{name}>'
    )


def device(root: str) -> str:
    """A device, or nothing that could be called one."""
    found = f'<id root="{root}"/>' if root else '<id nullFlavor="UNK"/>'
    return f'<device classCode="DEV" determinerCode="INSTANCE">{found}</device>'


def ii(name: str, identifier: tuple[str, str]) -> str:
    """(value, root)."""
    return f"<{name} root={quoteattr(identifier[1])} extension={quoteattr(identifier[0])}/>"


def feed(
    kind: str,
    *ids: tuple[str, str],
    person: str = "",
    merged: tuple[str, str] | None = None,
    more: str = "",
    **said: str,
) -> str:
    """``kind``: add, revise or merge. ``person`` is the content of patientPerson, ``more`` further elements ``id``."""
    number = {"add": "1", "revise": "2", "merge": "4"}[kind]
    replaced = ""
    if merged:
        replaced = (
            '<replacementOf typeCode="RPLC"><priorRegistration classCode="REG" moodCode="EVN"><statusCode '
            'code="obsolete"/><subject1 typeCode="SBJ"><priorRegisteredRole classCode="PAT">'
            f"{ii('id', merged)}</priorRegisteredRole></subject1></priorRegistration></replacementOf>"
        )
    registered = (
        '<registrationEvent classCode="REG" moodCode="EVN"><id nullFlavor="NA"/><statusCode code="active"/>'
        f'<subject1 typeCode="SBJ"><patient classCode="PAT">{"".join(ii("id", i) for i in ids)}{more}'
        '<statusCode code="active"/><patientPerson classCode="PSN" determinerCode="INSTANCE">'
        f'{person or "<name>Unknown</name>"}</patientPerson><providerOrganization classCode="ORG" '
        'determinerCode="INSTANCE"><id root="1.2.3"/><contactParty classCode="CON"/></providerOrganization></patient>'
        '</subject1><custodian typeCode="CST"><assignedEntity classCode="ASSIGNED"><id root="1.2.3"/></assignedEntity>'
        f"</custodian>{replaced}</registrationEvent>"
    )
    return message(f"PRPA_IN20130{number}UV02", f'<subject typeCode="SUBJ">{registered}</subject>', **said)


def name(family: str = "", *given: str, use: str = "") -> str:
    """A name."""
    parts = "".join(f"<given>{escape(g)}</given>" for g in given)
    said = f' use="{use}"' if use else ""
    return f"<name{said}>{parts}{f'<family>{escape(family)}</family>' if family else ''}</name>"


def parameter(kind: str, value: str) -> str:
    """A parameter with one value, which is an element ``value``."""
    return f"<{kind}>{value}<semanticsText>{kind}</semanticsText></{kind}>"


def pix_query(identifier: str, *sources: str, query_id: str = "1.2.3.9", **said: str) -> str:
    """``identifier`` is an element ``value``."""
    parameters = "".join(parameter("dataSource", f'<value root="{s}"/>') for s in sources)
    return message(
        "PRPA_IN201309UV02",
        f'<queryByParameter><queryId root="{query_id}" extension="q1"/><statusCode code="new"/>'
        f'<responsePriorityCode code="I"/><parameterList>{parameters}{parameter("patientIdentifier", identifier)}'
        "</parameterList></queryByParameter>",
        **said,
    )


_ORDER = (
    "livingSubjectAdministrativeGender", "livingSubjectBirthPlaceName", "livingSubjectBirthTime", "livingSubjectId",
    "livingSubjectName", "mothersMaidenName", "otherIDsScopingOrganization", "patientAddress", "patientTelecom",
    "principalCareProviderId",
)  # fmt: skip


def candidates_query(
    *parameters: tuple[str, str],
    count: str = "",
    minimum: str = "",
    query_id: str = "q1",
    priority: str = "I",
    **said: str,
) -> str:
    """Parameters: name and element ``value``; put into the order of the schema."""
    listed = "".join(parameter(*p) for p in sorted(parameters, key=lambda p: _ORDER.index(p[0])))
    quantity = f'<initialQuantity value="{count}"/><initialQuantityCode code="RD"/>' if count else ""
    degree = ""
    if minimum:
        value = f'<value xsi:type="INT" value="{minimum}"/><semanticsText>Degree of match requested</semanticsText>'
        degree = f"<matchCriterionList><minimumDegreeMatch>{value}</minimumDegreeMatch></matchCriterionList>"
    return message(
        "PRPA_IN201305UV02",
        f'<queryByParameter><queryId root="1.2.3.9" extension="{query_id}"/><statusCode code="new"/>'
        f'<responseModalityCode code="R"/><responsePriorityCode code="{priority}"/>{quantity}{degree}'
        f"<parameterList>{listed}</parameterList></queryByParameter>",
        **said,
    )


def value_name(family: str = "", given: str = "", use: str = "") -> tuple[str, str]:
    """The parameter livingSubjectName."""
    return "livingSubjectName", name(family, *filter(None, [given]), use=use).replace("name", "value")


def born(date: str) -> tuple[str, str]:
    """The parameter livingSubjectBirthTime."""
    return "livingSubjectBirthTime", f'<value value="{date}"/>'


def scoped(root: str) -> tuple[str, str]:
    """The parameter otherIDsScopingOrganization."""
    return "otherIDsScopingOrganization", f'<value root="{root}"/>'


def continuation(query_id: str = "q1", *, start: int = 0, count: int = 0, cancel: bool = False, **said: str) -> str:
    """The next page of a query, or its end."""
    name = "QUQI_IN000003UV01" + ("_Cancel" if cancel else "")
    first = f'<startResultNumber value="{start}"/>' if start else ""
    quantity = f'<continuationQuantity value="{count}"/>' if count else ""
    status = "aborted" if cancel else "waitContinuedQueryResponse"
    return message(
        "QUQI_IN000003UV01",
        f'<queryContinuation><queryId root="1.2.3.9" extension="{query_id}"/>{first}{quantity}'
        f'<statusCode code="{status}"/></queryContinuation>',
        name=name,
        **said,
    )


# reading -------------------------------------------------------------------------------------------------------------


def at(body: Any, path: str) -> Any:
    """The first element at a path of names."""
    return body.find("/".join(N + step if step not in (".", "") else step for step in path.split("/")))


def code(body: Any, path: str, attribute: str = "code") -> str:
    """An attribute of it."""
    found = at(body, path)
    return "" if found is None else str(found.get(attribute, ""))


def acknowledged(body: Any) -> str:
    """acknowledgement/typeCode."""
    return code(body, "acknowledgement/typeCode")


def details(body: Any) -> list[tuple[str, str]]:
    """(code, location) of what is wrong."""
    return [(code(d, "code"), d.findtext(f"{N}location") or "") for d in body.iter(f"{N}acknowledgementDetail")]


def response(body: Any) -> str:
    """queryAck/queryResponseCode."""
    return code(body, "controlActProcess/queryAck/queryResponseCode")


def quantities(body: Any) -> tuple[int, ...]:
    """Total, current and remaining."""
    names = ("resultTotalQuantity", "resultCurrentQuantity", "resultRemainingQuantity")
    return tuple(int(code(body, f"controlActProcess/queryAck/{n}", "value") or -1) for n in names)


def patients(body: Any) -> list[Any]:
    """The patients of an answer."""
    return list(body.iter(f"{N}patient"))


def ids(element: Any) -> list[tuple[str, str]]:
    """(value, root) of its own ids."""
    return [(i.get("extension", ""), i.get("root", "")) for i in element.findall(f"{N}id")]

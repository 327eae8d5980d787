"""Who keeps documents asks the region whether somebody may have them: XACML 3.0, and a facility that obeys the answer."""

from __future__ import annotations

import json
import re
from base64 import b64encode, urlsafe_b64encode
from collections.abc import Iterator
from typing import Any

import httpx
import peer
import pytest
from lxml import etree
from test_access_enforced import DOCTOR, SECRET, STRANGER, V, World

from obieg.ops import settings as node_settings
from running import running

pytestmark = pytest.mark.node

CORE, SAMLP = "urn:oasis:names:tc:xacml:3.0:core:schema:wd-17", "urn:oasis:names:tc:SAML:2.0:protocol"
WD13, WD14 = (f"urn:oasis:names:tc:xacml:3.0:profile:saml2.0:v2:schema:protocol:wd-{n}" for n in (13, 14))
ACTION = "XACMLAuthzDecisionQueryRequest"
CATEGORY = "urn:oasis:names:tc:xacml:3.0:attribute-category"
DOCUMENT, TYPE = "urn:csioz:p1:autoryzacja:idDokumentu", "urn:csioz:p1:autoryzacja:typDokumentu"
FROM, TO = "urn:csioz:p1:autoryzacja:dataWystawieniaOd", "urn:csioz:p1:autoryzacja:dataWystawieniaDo"
RESOURCE = "urn:oasis:names:tc:xacml:2.0:resource:resource-id"
ACTION_ID, STATUS = "urn:oasis:names:tc:xacml:1.0:action:action-id", "urn:oasis:names:tc:xacml:1.0:status"
PESEL = "2.16.840.1.113883.3.4424.1.1.616"
SUBJECT = {
    "person": "urn:oasis:names:tc:SAML:attribute:subject-id",
    "role": "urn:oasis:names:tc:xspa:1.0:subject:functional-role",
    "organisation": "urn:oasis:names:tc:xspa:1.0:subject:organization-id",
    "purpose_of_use": "urn:oasis:names:tc:xacml:2.0:action:purpose",
    "acting_for": "urn:e-health-suisse:principal-id",
}
ROLES = {"medical-doctor": "medical doctor", "medical-assistant": "medical assistant"}  # as P1 writes it


@pytest.fixture(scope="module")
def region(make_node: peer.MakeNode) -> peer.Node:
    return make_node("deciding", module="access_node", access={"enforced": True})


@pytest.fixture(scope="module")
def world(region: peer.Node) -> World:
    return World(region)


@pytest.fixture(scope="module")
def facility(region: peer.Node, tmp_path_factory: pytest.TempPathFactory) -> Iterator[peer.Node]:
    folder = tmp_path_factory.mktemp("asking")
    (folder / "data").mkdir()
    identity = {
        name: node_settings.new_oid() for name in ("home_community_id", "repository_unique_id", "assigning_authority")
    }
    text = node_settings.write_commented(
        "facility", lab=True, name="asking", data_dir=".", workers=1,
        http={"host": "127.0.0.1", "port": 0}, identity=identity,
        affinity_domain={"codes": peer.KIT_CODES} if peer.KIT_CODES.exists() else {},
        registry={
            "register_url": region.endpoints["register"], "query_url": region.endpoints["registry"],
            "decisions_url": region.endpoints["decisions"],
        },
    )  # fmt: skip
    (folder / "data" / "settings.toml").write_text(text)
    with running(folder, "serve", "--settings", folder / "data" / "settings.toml", module="access_node") as endpoints:
        found = peer.Node({**endpoints, "assigning_authority": region.endpoints["assigning_authority"]}, region.codes)
        yield found
        found.close()


def attributes(category: str, *said: tuple[str, str]) -> str:
    inner = "".join(
        f'<Attribute AttributeId="{name}" IncludeInResult="true">'
        f'<AttributeValue DataType="http://www.w3.org/2001/XMLSchema#string">{value}</AttributeValue></Attribute>'
        for name, value in said
    )
    return f'<Attributes Category="{category}">{inner}</Attributes>'


def question(who: dict[str, str] | None, *resources: tuple[tuple[str, str], ...], protocol: str = WD14) -> str:
    said = [(SUBJECT[f], ROLES.get(v, v)) for f, v in (who or {}).items() if f in SUBJECT and f != "purpose_of_use"]
    parts = [attributes("urn:oasis:names:tc:xacml:1.0:subject-category:access-subject", *said)] if said else []
    if who and who.get("purpose_of_use"):
        parts.append(attributes(f"{CATEGORY}:action", (SUBJECT["purpose_of_use"], who["purpose_of_use"])))
    parts += [attributes(f"{CATEGORY}:resource", *resource) for resource in resources]
    return (
        f'<q:XACMLAuthzDecisionQuery xmlns:q="{protocol}" ID="_question" Version="2.0" IssueInstant="2026-01-01T00:00:00Z">'
        f'<Request xmlns="{CORE}" ReturnPolicyIdList="false" CombinedDecision="false">{"".join(parts)}</Request>'
        "</q:XACMLAuthzDecisionQuery>"
    )


def ask(region: peer.Node, body: str, caller: dict[str, str] | None = None) -> Any:
    """What stands in the Body of the answer."""
    return etree.fromstring(answered(region, body, caller).content).find(f"{{{peer.SOAP}}}Body")[0]


def answered(region: peer.Node, body: str, caller: dict[str, str] | None = None) -> httpx.Response:
    headers = {"Content-Type": f'application/soap+xml; charset=UTF-8; action="{ACTION}"'}
    if caller:
        headers["Cookie"] = f"who={urlsafe_b64encode(json.dumps(caller).encode()).decode()}"
    content = peer.envelope(ACTION, body).encode()
    return httpx.post(region.endpoints["decisions"], content=content, headers=headers, timeout=60)


def decisions(answer: Any) -> list[str]:
    assert answer.tag == f"{{{SAMLP}}}Response"
    assert answer.find(f"{{{SAMLP}}}Status/{{{SAMLP}}}StatusCode").get("Value").endswith(":Success"), etree.tostring(
        answer
    )
    assert answer.get("InResponseTo") == "_question"
    return [found.text for found in answer.iter(f"{{{CORE}}}Decision")]


def document(entry: Any) -> tuple[tuple[str, str], ...]:
    return ((DOCUMENT, entry.unique_id),)


@pytest.mark.parametrize("protocol", [WD13, WD14])
def test_a_system_asks_for_a_person(region: peer.Node, world: World, protocol: str) -> None:
    asked = (document(world.shown), document(world.hidden), ((DOCUMENT, peer.oid()),), document(world.other))
    answer = ask(region, question(DOCTOR, *asked, protocol=protocol))
    assert decisions(answer) == ["Permit", "Deny", "Deny", "Permit"]
    # Each result names its resource; what is hidden and what nobody knows are answered alike.
    assert [v.text for v in answer.iter(f"{{{CORE}}}AttributeValue")] == [value for ((_, value),) in asked]
    assert decisions(ask(region, question(STRANGER, *asked))) == ["Deny"] * 4
    assert decisions(ask(region, question(None, *asked))) == ["Deny"] * 4  # no person
    assert decisions(ask(region, question({**DOCTOR, "purpose_of_use": "HPAYMT"}, *asked))) == ["Deny"] * 4
    assert SECRET not in etree.tostring(answer).decode()


def test_an_assistant_reads_what_the_professional_may(region: peer.Node, world: World) -> None:
    assistant = {**DOCTOR, "person": "1.2.3#asystent", "role": "medical-assistant"}
    acting = {**assistant, "acting_for": DOCTOR["person"]}
    asked = (document(world.shown), document(world.hidden))
    assert decisions(ask(region, question(assistant, *asked))) == ["Deny", "Deny"]
    assert decisions(ask(region, question({**assistant, "acting_for": STRANGER["person"]}, *asked))) == ["Deny", "Deny"]
    assert decisions(ask(region, question(acting, *asked))) == ["Permit", "Deny"]
    message = region.rows("SELECT message FROM audit_event WHERE transaction = 'XACML' ORDER BY audit_id DESC LIMIT 1")[
        0
    ][0]
    assert "1.2.3#asystent" in message  # both are named
    assert b64encode(DOCTOR["person"].encode()).decode() in message
    # A person acts for whom their proof names, and for nobody else.
    assert decisions(ask(region, question(acting, *asked), acting)) == ["Permit", "Deny"]
    refused = ask(region, question(acting, *asked), assistant)
    assert "acting_for" in refused.findtext(f"{{{SAMLP}}}Status/{{{SAMLP}}}StatusMessage")


def test_the_patient_sees_who_asked_and_on_which_basis(region: peer.Node, world: World) -> None:
    ask(region, question(DOCTOR, document(world.shown)))
    outcome, message = region.rows(
        "SELECT outcome, message FROM audit_event WHERE transaction = 'XACML' ORDER BY audit_id DESC LIMIT 1"
    )[0]
    assert outcome == 0
    assert DOCTOR["person"] in message
    assert "access: author,poz" in message, message
    assert world.shown.unique_id in message


def test_a_person_asks_for_themself_alone(region: peer.Node, world: World) -> None:
    assert decisions(ask(region, question(None, document(world.shown), document(world.hidden)), DOCTOR)) == [
        "Permit",
        "Deny",
    ]
    refused = ask(region, question(DOCTOR, document(world.shown)), STRANGER)
    assert refused.find(f"{{{SAMLP}}}Status/{{{SAMLP}}}StatusCode").get("Value").endswith(":Requester")
    assert "NotPermitted" in refused.findtext(f"{{{SAMLP}}}Status/{{{SAMLP}}}StatusMessage")
    assert decisions(ask(region, question(STRANGER, document(world.shown)), STRANGER)) == ["Deny"]


def kind(world: World, code: str, begins: str = "2024-01-01", ends: str = "2024-12-31") -> tuple[tuple[str, str], ...]:
    return ((RESOURCE, world.patient.replace("&", "&amp;")), (TYPE, code), (FROM, begins), (TO, ends))


def lifted(world: World) -> None:
    """No consent of the patient stands any more."""
    with world.node_connection() as connection:
        connection.execute(
            "UPDATE access_fact SET superseded_at = now() WHERE kind = 'consent' AND patient_key = (SELECT patient_key"
            " FROM patient_locator WHERE authority = %s AND value = %s)",
            (world.authority, world.logical),
        )


def test_documents_of_a_type_and_time(region: peer.Node, world: World) -> None:
    (code, scheme), (absent, absent_scheme) = region.codes("typeCode"), region.codes("typeCode", 1)
    other = World(region)
    lifted(other)

    def asked(who: dict[str, str], *of: str) -> list[str]:
        return decisions(ask(region, question(who, kind(other, *of))))

    for of in ((code,), (f"{code}^^{scheme}",), (absent,), (code, "2023-12-31T23:59:59-01:00", "20240102")):
        assert (asked(DOCTOR, *of), asked(STRANGER, *of)) == (["Permit"], ["Deny"]), of
    assert asked(DOCTOR, "no-such-type") == ["Deny"]
    # Of the same type and time the patient has closed one.
    assert decisions(ask(region, question(DOCTOR, kind(world, code)))) == ["Deny"]
    assert decisions(ask(region, question(DOCTOR, kind(world, code, "2021-01-01", "2021-12-31")))) == ["Deny"]
    assert decisions(ask(region, question(DOCTOR, ((RESOURCE, f"{PESEL}#00000000000"), (TYPE, code))))) == ["Deny"]
    # Who reads would learn by it which types and times a patient has closed.
    for resource in (kind(other, code), ((RESOURCE, f"{PESEL}#00000000000"), (TYPE, code))):
        refused = ask(region, question(None, resource), DOCTOR)
        assert "NotPermitted" in refused.findtext(f"{{{SAMLP}}}Status/{{{SAMLP}}}StatusMessage")

    # A rule denies what it may fit: what is registered is known, what is not is not.
    for condition, there, not_there in (
        ({"type_codes": [f"{code}^^{scheme}"]}, "Deny", "Permit"),
        ({"type_codes": [f"{absent}^^{absent_scheme}"]}, "Permit", "Deny"),
        ({"labels": ["R"]}, "Permit", "Deny"),
        ({"authors": ["1.2#3"]}, "Permit", "Deny"),
        ({"encounters": ["1.2#3"]}, "Permit", "Deny"),
        ({"class_codes": ["1^^2"]}, "Permit", "Deny"),
        ({"documents": [other.folder.id]}, "Permit", "Deny"),
        ({"documents": [other.shown.id]}, "Deny", "Deny"),
        ({"created_from": "20240601000000", "created_to": "20240602000000"}, "Permit", "Deny"),
        ({"created_from": "20250101000000"}, "Permit", "Permit"),
    ):
        other.state("consent", {"id": "1", "period": {}, "provisions": [{"permit": False, "condition": condition}]})
        assert (asked(DOCTOR, code), asked(DOCTOR, absent)) == ([there], [not_there]), condition
        lifted(other)

    closed = other.entry(content=b"V", type_code=(absent, absent_scheme), confidentiality=[V], creation_time="20240203")
    region.provided(region.submission(other.patient, closed))
    assert asked(DOCTOR, absent) == ["Deny"]  # one that is registered now
    assert asked(DOCTOR, absent, "2024-02-04", "2024-12-31") == ["Permit"]
    other.state("notices", True)
    assert asked(DOCTOR, absent) == ["Deny"]
    notices = "SELECT count(*) FROM access_notice n JOIN patient_locator l USING (patient_key) WHERE l.value = %s"
    assert region.rows(notices, other.logical) == [(0,)]  # nobody was shown anything


def test_a_document_is_that_of_the_patient_who_is_named(region: peer.Node, world: World) -> None:
    other = World(region)
    for named, expected in ((world, "Permit"), (other, "Deny")):
        resource = ((RESOURCE, named.patient.replace("&", "&amp;")), *document(world.shown))
        answer = answered(region, question(DOCTOR, resource))
        assert f"Decision>{expected}<" in answer.text
        assert ("X-Obieg-Access" in answer.headers) is (expected == "Permit")
        recorded = region.audits(region.last_audit() - 1)[-1][-1]
        assert all(each.logical in recorded for each in (world, named))


@pytest.mark.parametrize(
    "written",
    [
        ('CombinedDecision="false"', 'CombinedDecision="true"'),
        ("</Request>", "<MultiRequests><RequestReference/></MultiRequests></Request>"),
        ("</Request>", attributes(f"{CATEGORY}:action", (ACTION_ID, "write")) + "</Request>"),
    ],
)
def test_what_of_xacml_is_not_known_is_indeterminate(region: peer.Node, world: World, written: tuple[str, str]) -> None:
    body = question(DOCTOR, document(world.shown), document(world.other))
    answer = ask(region, body.replace(*written))
    assert decisions(answer) == ["Indeterminate"]
    assert answer.find(f".//{{{CORE}}}StatusCode").get("Value") == f"{STATUS}:processing-error"
    reading = attributes(f"{CATEGORY}:action", (ACTION_ID, "read"))
    assert decisions(ask(region, body.replace("</Request>", f"{reading}</Request>"))) == ["Permit", "Permit"]


def test_a_hidden_document_and_a_missing_one_rest_on_nothing(region: peer.Node, world: World) -> None:
    """What holds of a patient whom only the document tells of is not told, and nobody is notified."""
    for caller, who in ((None, DOCTOR), (DOCTOR, None), (None, {**DOCTOR, "purpose_of_use": "HPAYMT"})):
        found = set()
        for asked in (document(world.hidden), ((DOCUMENT, peer.oid()),)):
            answer = answered(region, question(who, asked), caller)
            assert "Deny" in answer.text
            found.add((answer.status_code, answer.headers.get("X-Obieg-Access")))
            assert not re.search("(?<!no )access:", region.audits(region.last_audit() - 1)[-1][-1])
        assert found == {(200, None)}
    assert answered(region, question(DOCTOR, document(world.shown))).headers["X-Obieg-Access"].startswith("author,poz")


@pytest.mark.parametrize(
    ("resources", "code"),
    [
        ((), "RequiredFieldMissing"),
        ((((RESOURCE, "nobody"),),), "DataTypeError"),
        ((((RESOURCE, "1.2#3"), (FROM, "yesterday")),), "DataTypeError"),
        ((((RESOURCE, "1.2#3"), (TO, "2026-13-45")),), "DataTypeError"),
        ((((RESOURCE, "1.2#3"), (TYPE, "1-1"), (TYPE, "2-2")),), "RuleBroken"),
        ((((RESOURCE, "1.2#3"), (FROM, "2026-02-02"), (TO, "2026-02-01")),), "RuleBroken"),
        ((((RESOURCE, "1.2#3"),), ((RESOURCE, "1.2#4"),)), "RuleBroken"),
        (tuple(((DOCUMENT, f"1.2.{n}"),) for n in range(1001)), "LimitExceeded"),
    ],
)
def test_what_cannot_be_read_is_refused(region: peer.Node, resources: Any, code: str) -> None:
    answer = ask(region, question(DOCTOR, *resources))
    assert code in answer.findtext(f"{{{SAMLP}}}Status/{{{SAMLP}}}StatusMessage")
    assert list(answer.iter(f"{{{CORE}}}Decision")) == []


def test_a_facility_gives_out_what_the_region_permits(region: peer.Node, world: World, facility: peer.Node) -> None:
    open_, closed = (
        facility.entry(world.patient, content=content, confidentiality=[label])
        for content, label in ((b"otwarte", region.codes("confidentialityCode")), (b"zastrzezone", V))
    )
    facility.provided(facility.submission(world.patient, open_))
    facility.provided(facility.submission(world.patient, closed))
    both = (open_.unique_id, closed.unique_id)

    def retrieved(who: dict[str, str]) -> tuple[dict[str, bytes], list[str]]:
        said = urlsafe_b64encode(json.dumps(who).encode()).decode()
        caller = peer.Node(facility.endpoints, facility.codes)
        caller.http = httpx.Client(timeout=60, headers={"Cookie": f"who={said}"})
        try:
            answer = caller.retrieve(*both)
            return answer.documents, [code for code, *_ in answer.errors]
        finally:
            caller.close()

    assert retrieved(DOCTOR) == (
        {open_.unique_id: b"otwarte"},
        ["XDSDocumentUniqueIdError"],
    )  # R is the most that poz opens
    assistant = {**DOCTOR, "person": "1.2.3#asystent", "role": "medical-assistant"}
    assert retrieved(assistant) == ({}, ["XDSDocumentUniqueIdError"] * 2)
    assert retrieved({**assistant, "acting_for": DOCTOR["person"]})[0] == {open_.unique_id: b"otwarte"}
    assert retrieved(STRANGER) == ({}, ["XDSDocumentUniqueIdError"] * 2)
    assert retrieved({"system": "his"}) == ({}, ["XDSDocumentUniqueIdError"] * 2)

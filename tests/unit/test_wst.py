"""The token service: what it issues to whom, by verifiers that nobody here wrote; and each of its faults."""

from __future__ import annotations

import re
from base64 import b64encode
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding
from lxml import etree

import issuing
from issuing import (
    ALL,
    CHILD,
    DS,
    ENTITY,
    HOME,
    NOW,
    ORGANISATION,
    PATIENT,
    POLISH,
    PURPOSE,
    ROLE,
    SAML,
    SUBJECT,
    WSSE,
    WST,
    WSU,
    Asked,
    applies_to,
    ask,
    claims,
    identity,
    lifetime,
    rst,
    signing_key,
    stated,
)  # fmt: skip
from obieg.domain.requester import Requester
from obieg.mapping.xua import read_requester
from obieg.wire import saml, soap
from obieg.wire.saml_writer import read_key
from obieg.wire.xmldsig import certificate

signxml = pytest.importorskip("signxml")
LABORATORY = Requester(system="127.0.0.1", proof="laboratory", repositories=None)
DOCTOR = Requester(
    system="CN=portal",
    proof="session",
    person="2.16.840.1.113883.3.4424.1.6.2#7654321",
    person_name="Anna Kowalska",
    role="medical-doctor",
    organisation="2.16.840.1.113883.3.4424.2.3.1#000000012345",
    assurance="urn:oasis:names:tc:SAML:2.0:ac:classes:MobileTwoFactorContract",
    until=NOW + timedelta(minutes=20),
)
PUBLIC_KEY = f"<wst:KeyType>{WST}/PublicKey</wst:KeyType>"


def pem(der: bytes) -> str:
    return x509.load_der_x509_certificate(der).public_bytes(Encoding.PEM).decode()


def own(asked: Asked, kind: str = "rsa2048") -> saml.Assertion:
    """As the verifier of this node reads it."""
    _, _, der = identity("sts", kind)
    return saml.verify_assertion(asked.assertion, lambda issuer: [certificate(der)] if issuer == ENTITY else [])


# what is issued --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["rsa2048", "rsa3072", "p256", "p384"])
@pytest.mark.parametrize("said", [ALL, POLISH, ""])
def test_signxml_and_our_own_verifier_accept_it(kind: str, said: str) -> None:
    asked = ask(rst(claims(said)), key=signing_key(kind))
    assert asked.assertion in asked.reply.body, "what is sent is its own canonical form"
    result = signxml.XMLVerifier().verify(
        asked.element, x509_cert=pem(identity("sts", kind)[2]), id_attribute="ID", require_x509=True
    )
    assert result.signed_xml.get("ID") == asked.element.get("ID")
    without = etree.fromstring(asked.assertion)
    without.remove(without.find(f"{{{DS}}}Signature"))
    assert etree.tostring(result.signed_xml, method="c14n", exclusive=True) == etree.tostring(
        without, method="c14n", exclusive=True
    )
    assert own(asked, kind).id == asked.element.get("ID")


@pytest.mark.parametrize("kind", ["rsa2048", "p256"])
def test_pysaml2_accepts_it(kind: str, tmp_path: Path) -> None:
    """pysaml2 by the xmlsec1 of the system: schema-typed reading and the signature."""
    sigver = pytest.importorskip("saml2.sigver")
    saml2 = pytest.importorskip("saml2.saml")
    binary = sigver.get_xmlsec_binary()
    asked = ask(rst(claims(ALL)), key=signing_key(kind))
    read = saml2.assertion_from_string(asked.assertion)
    assert read is not None
    assert read.verify()
    file = tmp_path / "sts.pem"
    file.write_text(pem(identity("sts", kind)[2]))
    backend = sigver.CryptoBackendXmlSec1(binary)
    name = "urn:oasis:names:tc:SAML:2.0:assertion:Assertion"
    assert backend.validate_signature(asked.assertion.decode(), str(file), "pem", name, read.id)
    forged = asked.assertion.replace(b"Anna", b"Ewa!", 1)
    with pytest.raises(sigver.XmlsecError):
        backend.validate_signature(forged.decode(), str(file), "pem", name, read.id)


def test_what_is_claimed_is_what_will_be_read() -> None:
    asked = ask(rst(claims(ALL)))
    assertion = own(asked)
    found = read_requester(assertion)
    assert (found.person, found.person_name) == (
        "2.16.840.1.113883.3.4424.1.6.2#7654321", 'Anna Kowalska & <córki> "s"',
    )  # fmt: skip
    assert (found.role, found.purpose_of_use, found.patient) == (
        "2.16.840.1.113883.6.96#112247003", "TREAT", "1.2.3.4#12",
    )  # fmt: skip
    assert found.organisation == "2.16.840.1.113883.3.4424.2.3.1#000000012345"
    assert found.child_organisation == "2.16.840.1.113883.3.4424.2.3.2#1"
    assert assertion.audiences == ((ENTITY,),)
    assert assertion.issued_at == assertion.not_before == NOW.replace(microsecond=123000)
    assert assertion.not_on_or_after == assertion.not_before + timedelta(hours=1)


def test_only_an_assistant_acts_for_another_and_only_a_system_says_so() -> None:
    acting = stated("urn:e-health-suisse:principal-id", "2.16.840.1.113883.3.4424.1.6.2#1111111")
    assistant = stated(f"{issuing.XSPA}functional-role", "medical assistant")
    found = read_requester(own(ask(rst(claims(SUBJECT, issuing.PERSON, ORGANISATION, assistant, acting)))))
    assert (found.role, found.acting_for) == ("medical-assistant", "2.16.840.1.113883.3.4424.1.6.2#1111111")
    assert ask(rst(claims(SUBJECT, issuing.PERSON, ORGANISATION, ROLE, acting))).codes == ("NotPermitted",)
    by_person = Requester(system="his", proof="saml", person="1.2#3", role="medical-assistant")
    assert ask(rst(claims(acting)), by_person).codes == ("NotPermitted",)


def test_the_attributes_of_xua() -> None:
    """ITI TF-2:3.40.4.1.2.1."""
    asked = ask(rst(claims(ALL)))
    assert list(asked.values().items()) == [
        (f"{issuing.XSPA}subject-id", 'Anna Kowalska & <córki> "s"'),
        (f"{issuing.XSPA}organization", "Szpital"),
        (f"{issuing.XSPA}organization-id", "2.16.840.1.113883.3.4424.2.3.1#000000012345"),
        (f"{issuing.XSPA}child-organization", "2.16.840.1.113883.3.4424.2.3.2#1"),
        ("urn:ihe:iti:xca:2010:homeCommunityId", ENTITY),
        ("urn:ihe:iti:xua:2017:subject:provider-identifier", "7654321 2.16.840.1.113883.3.4424.1.6.2"),
        ("urn:oasis:names:tc:xacml:2.0:subject:role", "112247003 2.16.840.1.113883.6.96"),
        (f"{issuing.XSPA}purposeofuse", "TREAT 2.16.840.1.113883.5.8"),
        ("urn:oasis:names:tc:xacml:2.0:resource:resource-id", "12^^^&1.2.3.4&ISO"),
    ]
    values = asked.element.findall(f".//{{{SAML}}}AttributeValue/*")
    assert [(e.tag, e.get("{http://www.w3.org/2001/XMLSchema-instance}type")) for e in values] == [
        ("{urn:hl7-org:v3}id", "II"), ("{urn:hl7-org:v3}Role", "CE"), ("{urn:hl7-org:v3}PurposeOfUse", "CE"),
    ]  # fmt: skip
    tags = [etree.QName(e).localname for e in asked.element]
    assert tags == ["Issuer", "Signature", "Subject", "Conditions", "AuthnStatement", "AttributeStatement"]
    assert asked.text("AuthnContextClassRef") == ["urn:oasis:names:tc:SAML:2.0:ac:classes:unspecified"]


def test_the_attributes_of_p1() -> None:
    authn = (
        f'<saml:AuthnStatement xmlns:saml="{SAML}" AuthnInstant="2026-11-22T08:00:00Z"><saml:AuthnContext>'
        "<saml:AuthnContextClassRef>urn:oasis:names:tc:SAML:2.0:ac:classes:PasswordProtectedTransport"
        "</saml:AuthnContextClassRef></saml:AuthnContext></saml:AuthnStatement>"
    )
    scope = f'<p:AppliesTo xmlns:p="{issuing.WSP}"><e:WymianaEDM xmlns:e="http://csioz.gov.pl/p1/edm"/></p:AppliesTo>'
    asked = ask(rst(scope, claims(POLISH, authn)))
    assert asked.values() == {
        f"{issuing.XSPA}organization-id": "2.16.840.1.113883.3.4424.2.3.1#000000012345",
        f"{issuing.XSPA}child-organization": "2.16.840.1.113883.3.4424.2.3.2#1",
        "urn:ihe:iti:xca:2010:homeCommunityId": ENTITY,
        "urn:oasis:names:tc:SAML:attribute:subject-id": "2.16.840.1.113883.3.4424.1.6.2#7654321",
        f"{issuing.XSPA}functional-role": "medical doctor",
        "urn:oasis:names:tc:xacml:2.0:action:purpose": "CONTT",
        "urn:oasis:names:tc:xacml:1.0:resource:resource-id": "2.16.840.1.113883.3.4424.1.1.616#70032816894",
        "urn:p1:source-organization": "2.16.840.1.113883.3.4424.8.2#07",
    }
    assertion = own(asked)
    found = read_requester(assertion)
    assert (found.role, found.purpose_of_use) == ("medical-doctor", "COC")
    assert assertion.authn_context == "urn:oasis:names:tc:SAML:2.0:ac:classes:PasswordProtectedTransport"
    assert assertion.authenticated_at == datetime(2026, 11, 22, 8, tzinfo=UTC)
    assert asked.text("Audience") == [ENTITY]


def test_a_role_of_p1_among_the_attributes_of_ihe() -> None:
    asked = ask(rst(claims(SUBJECT, stated(f"{issuing.XSPA}functional-role", "nurse"), PURPOSE)))
    assert f"{issuing.XSPA}functional-role" in asked.values()
    assert read_requester(own(asked)).role == "nurse"
    session = ask(rst(claims(PURPOSE)), DOCTOR)
    assert session.values()["urn:oasis:names:tc:xacml:2.0:subject:role"] == "medical doctor medical doctor"
    assert read_requester(own(session)).role == "medical-doctor"


def test_the_answer_says_what_was_issued() -> None:
    body = rst(applies_to("https://region.example.pl/services/registry"), f"<wst:KeyType>{WST}/Bearer</wst:KeyType>")
    asked = ask(body.replace(b"<wst:RequestSecurityToken ", b'<wst:RequestSecurityToken Context="a&amp;&lt;" '))
    assert asked.root.tag == f"{{{WST}}}RequestSecurityTokenResponseCollection"
    (response,) = asked.root
    assert response.get("Context") == "a&<"
    assert [etree.QName(e).localname for e in response] == [
        "TokenType", "RequestedSecurityToken", "RequestedAttachedReference", "RequestedUnattachedReference",
        "AppliesTo", "Lifetime", "KeyType",
    ]  # fmt: skip
    times = {etree.QName(e).localname: e.text for e in response.find(f"{{{WST}}}Lifetime")}
    assert times == {"Created": "2026-11-22T12:00:00.123Z", "Expires": "2026-11-22T13:00:00.123Z"}
    named = {e.text for e in response.iter(f"{{{WSSE}}}KeyIdentifier")}
    assert named == {asked.element.get("ID")}
    assert asked.text("Audience") == ["https://region.example.pl/services/registry", ENTITY]


@pytest.mark.parametrize(
    "address", ["https://other.example.pl/services/registry", "urn:e:all", "http://region.example.pl/"]
)
def test_a_token_for_others_is_not_for_this_node(address: str) -> None:
    assert ask(rst(applies_to(address))).text("Audience") == [address]


@pytest.mark.parametrize(("name", "role", "purpose"), [
    ("1_Get_X-User_Assertion_Request-Healthcare_Provider", "HCP", "TREAT"),
    ("6_Get_X-User_Assertion_Request-Policy-Administrator", "PADM", "TREAT"),
    ("7_Get_X-User_Assertion_Request-Document-Administrator", "DADM", "TREAT"),
])  # fmt: skip
def test_the_requests_of_the_swiss_record(shared: Path, name: str, role: str, purpose: str) -> None:
    """By a system that this node knows; the assertion of the identity provider beside them is signed with SHA-1."""
    sample = etree.parse(shared / "data" / "ihe" / "epr-by-example" / "XUA_samples" / f"{name}.xml")
    (request,) = sample.iter(f"{{{WST}}}RequestSecurityToken")
    asked = ask(etree.tostring(request))
    found = read_requester(own(asked))
    assert (found.role.partition("#")[2], found.purpose_of_use) == (role, purpose)
    assert found.patient == "2.16.756.5.30.1.127.3.10.3#761337610411353650"
    assert asked.text("Audience")[0] == request.findtext(f".//{{{issuing.WSA}}}Address")


@pytest.mark.parametrize("name", ["2_Get_X-User_Assertion_Request-Assistant", "4_Get_X-User_Assertion_Request-Patient"])
def test_attributes_of_the_swiss_record_alone_are_not_issued(shared: Path, name: str) -> None:
    sample = etree.parse(shared / "data" / "ihe" / "epr-by-example" / "XUA_samples" / f"{name}.xml")
    (request,) = sample.iter(f"{{{WST}}}RequestSecurityToken")
    assert ask(etree.tostring(request)).codes == ("TableValueNotFound",)


# times -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("wanted", "given"), [
    (timedelta(minutes=5), timedelta(minutes=5)), (timedelta(hours=4), timedelta(hours=4)),
    (timedelta(hours=5), timedelta(hours=4)), (timedelta(days=9_999), timedelta(hours=4)),
])  # fmt: skip
def test_a_lifetime_is_bounded(wanted: timedelta, given: timedelta) -> None:
    at = NOW.replace(microsecond=0)
    assertion = own(ask(rst(lifetime(at, at + wanted))))
    assert abs(assertion.not_on_or_after - assertion.not_before - given) < timedelta(seconds=1)


def test_it_ends_with_what_proves_the_caller() -> None:
    assert own(ask(rst(), DOCTOR)).not_on_or_after == NOW.replace(microsecond=123000) + timedelta(minutes=20)


@pytest.mark.parametrize("times", [
    lifetime(NOW + timedelta(minutes=2), NOW + timedelta(minutes=9)), lifetime(NOW, NOW - timedelta(seconds=1)),
    lifetime(NOW + timedelta(seconds=30), NOW + timedelta(seconds=20)), lifetime(None, NOW - timedelta(days=1)),
])  # fmt: skip
def test_times_at_which_none_is_issued(times: str) -> None:
    asked = ask(rst(times))
    assert (asked.fault, asked.codes) == ("wst:InvalidTimeRange", ("TokenTimeRange",))


def test_nobody_was_authenticated_in_the_future() -> None:
    authn = (
        f'<saml:AuthnStatement xmlns:saml="{SAML}" AuthnInstant="2027-01-01T00:00:00Z"><saml:AuthnContext>'
        "<saml:AuthnContextClassRef>urn:x</saml:AuthnContextClassRef></saml:AuthnContext></saml:AuthnStatement>"
    )
    assert ask(rst(claims(SUBJECT, authn))).fault == "wst:InvalidTimeRange"
    assert ask(rst(claims(authn)), DOCTOR).codes == ("NotPermitted",)
    spent = Requester(
        **{f: getattr(DOCTOR, f) for f in DOCTOR.__struct_fields__} | {"until": NOW - timedelta(seconds=1)}
    )
    assert ask(rst(), spent).fault == "wst:InvalidTimeRange"


# keys ------------------------------------------------------------------------------------------------------------


def use_key(der: bytes) -> str:
    return (
        f'<wst:UseKey><ds:KeyInfo xmlns:ds="{DS}"><ds:X509Data><ds:X509Certificate>{b64encode(der).decode()}'
        "</ds:X509Certificate></ds:X509Data></ds:KeyInfo></wst:UseKey>"
    )


def security(der: bytes) -> Any:
    return etree.fromstring(
        f'<w:Security xmlns:w="{WSSE}" xmlns:u="{WSU}"><w:BinarySecurityToken u:Id="X-1">{b64encode(der).decode()}'
        "</w:BinarySecurityToken></w:Security>"
    )


TOKEN_REFERENCE = (
    f'<wst:UseKey><w:SecurityTokenReference xmlns:w="{WSSE}"><w:Reference URI="#X-1"/></w:SecurityTokenReference>'
    "</wst:UseKey>"
)


@pytest.mark.parametrize("named", [True, False])
def test_the_holder_is_the_client_of_the_connection(named: bool) -> None:
    _, _, client = identity("client")
    asked = ask(rst(PUBLIC_KEY, use_key(client) if named else "", claims(ALL)), certificate=client)
    assertion = own(asked)
    assert (assertion.method, assertion.holder) == ("holder-of-key", certificate(client).key_info)
    (data,) = asked.element.iter(f"{{{SAML}}}SubjectConfirmationData")
    assert data.get("{http://www.w3.org/2001/XMLSchema-instance}type") == "saml:KeyInfoConfirmationDataType"
    assert data.nsmap["saml"] == SAML


@pytest.mark.parametrize("key", [TOKEN_REFERENCE, use_key(identity("worker")[2]), ""])
def test_the_holder_is_who_signed_the_message(key: str) -> None:
    _, _, worker = identity("worker")
    doctor = Requester(system="hospital", proof="saml", person="dr", role="nurse")
    given: dict[str, Any] = {"certificate": identity("client")[2], "security": security(worker)}
    assert own(ask(rst(PUBLIC_KEY, key), doctor, **given)).holder == certificate(worker).key_info
    # Without an assertion nobody has looked at the signature.
    assert ask(rst(PUBLIC_KEY, key), **given).fault == "wst:FailedAuthentication"


@pytest.mark.parametrize(("key", "shown"), [
    (use_key(identity("stranger")[2]), identity("client")[2]), (use_key(identity("client")[2]), None),
    (TOKEN_REFERENCE, identity("client")[2]), ("", None),
])  # fmt: skip
def test_a_key_that_was_not_proved(key: str, shown: bytes | None) -> None:
    asked = ask(rst(PUBLIC_KEY, key), certificate=shown)
    assert (asked.fault, asked.codes) == ("wst:FailedAuthentication", ("AuthenticationFailed",))


@pytest.mark.parametrize("key", ["<wst:UseKey/>", use_key(b"no certificate"), use_key(b"").replace("X509Data", "X")])
def test_a_key_that_cannot_be_read(key: str) -> None:
    assert ask(rst(PUBLIC_KEY, key), certificate=identity("client")[2]).fault == "wst:InvalidRequest"


# who may get what ------------------------------------------------------------------------------------------------


def test_a_system_asks_for_itself() -> None:
    assert own(ask(rst())).name_id == "hospital"
    assert own(ask(rst(), LABORATORY)).name_id == "127.0.0.1"


def test_the_organisation_of_a_system_that_is_bound() -> None:
    theirs = "2.16.840.1.113883.3.4424.2.3.1#000000012345"
    for said in (SUBJECT, SUBJECT + ORGANISATION):
        asked = ask(rst(claims(said)), organisations={"hospital": theirs})
        assert asked.values()[f"{issuing.XSPA}organization-id"] == theirs
    for bound in ("1.2.3#9", "2.16.840.1.113883.3.4424.2.3.1"):
        refused = ask(rst(claims(SUBJECT, ORGANISATION)), organisations={"hospital": bound})
        assert (refused.fault, refused.codes) == ("wst:RequestFailed", ("NotPermitted",))
    assert own(ask(rst(claims(SUBJECT, ORGANISATION)), organisations={"clinic": "1.2.3"})).id


@pytest.mark.parametrize("role", ["patient", "legal guardian", "plenipotentiary"])
def test_a_system_of_an_organisation_states_no_patients(role: str) -> None:
    body = rst(claims(SUBJECT, stated(f"{issuing.XSPA}functional-role", role)))
    refused = ask(body, organisations={"hospital": "1.2.3#9"})
    assert (refused.fault, refused.codes) == ("wst:RequestFailed", ("NotPermitted",))
    assert own(ask(body)).id  # a portal of patients is bound to none


def test_a_person_gets_what_proves_them() -> None:
    asked = ask(rst(claims(PURPOSE, PATIENT)), DOCTOR)
    found = read_requester(own(asked))
    for fact in ("person", "person_name", "role", "organisation", "assurance"):
        assert getattr(found, fact) == getattr(DOCTOR, fact)
    assert (found.purpose_of_use, found.patient) == ("TREAT", "1.2.3.4#12")


@pytest.mark.parametrize("said", [
    SUBJECT, ROLE, CHILD, issuing.PERSON.replace("7654321", "7654322"), ORGANISATION.replace("12345", "12346"),
    stated(f"{issuing.XSPA}organization", "Szpital"), stated("urn:p1:source-organization", "1.2.3#1"),
])  # fmt: skip
def test_a_person_does_not_become_somebody_else(said: str) -> None:
    asked = ask(rst(claims(said, PURPOSE)), DOCTOR)
    assert (asked.fault, asked.codes) == ("wst:RequestFailed", ("NotPermitted",))


def test_a_proof_that_is_limited_stays_so() -> None:
    facts = {f: getattr(DOCTOR, f) for f in DOCTOR.__struct_fields__}
    limited = Requester(**facts | {"proof": "saml", "patient": "1.2.3.4#12", "purpose_of_use": "TREAT"})
    assert read_requester(own(ask(rst(), limited))).patient == "1.2.3.4#12"
    for said in (PATIENT.replace("12^", "13^"), PURPOSE.replace("TREAT", "BTG")):
        assert ask(rst(claims(said)), limited).codes == ("NotPermitted",)
    for more in ({"scopes": ("a",)}, {"acting_for": "dr"}):
        assert ask(rst(), Requester(**facts | more)).codes == ("NotPermitted",)


@pytest.mark.parametrize("proof", ["address", "oauth", "", "another"])
def test_other_proofs_are_not_enough(proof: str) -> None:
    asked = ask(rst(claims(SUBJECT)), Requester(system="x", proof=proof))
    assert (asked.fault, asked.codes) == ("wst:FailedAuthentication", ("AuthenticationFailed",))


def test_another_community_is_not_ours_to_speak_for() -> None:
    name = "urn:ihe:iti:xca:2010:homeCommunityId"
    assert ask(rst(claims(stated(name, f"urn:oid:{HOME}")))).reply.fault is None
    assert ask(rst(claims(stated(name, "urn:oid:1.2.3")))).codes == ("NotPermitted",)


@pytest.mark.parametrize("said", [
    stated("urn:oasis:names:tc:xacml:2.0:subject:role", "emperor"), stated(f"{issuing.XSPA}purposeofuse", "X"),
    stated("urn:x", "y"), PATIENT + PATIENT, ROLE + stated(f"{issuing.XSPA}functional-role", "nurse"),
    stated(f"{issuing.XSPA}subject-id", ""), stated(f"{issuing.XSPA}subject-id", "a\u202eb"),
    stated("urn:oasis:names:tc:xacml:2.0:resource:resource-id", "1.2.3"),
    stated("urn:oasis:names:tc:xacml:2.0:resource:resource-id", "1.2.3#a&amp;b"),
])  # fmt: skip
def test_claims_that_cannot_be_issued(said: str) -> None:
    assert ask(rst(claims(said))).fault == "wst:InvalidRequest"


@pytest.mark.parametrize("said", [stated(f"{issuing.XSPA}subject-id", "a" * 257), SUBJECT * 33])
def test_claims_have_limits(said: str) -> None:
    assert ask(rst(claims(said))).codes == ("LimitExceeded",)


# faults and audit ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("body", "kind", "fault"), [
    (rst(kind="Renew"), "Renew", "wst:UnableToRenew"), (rst(kind="Validate"), "Validate", "wst:RequestFailed"),
    (rst(kind="Cancel"), "Cancel", "wst:RequestFailed"), (rst(kind="Renew"), "Issue", "wst:InvalidRequest"),
    (rst(), "Renew", "wst:InvalidRequest"), (rst("<wst:OnBehalfOf/>"), "Issue", "wst:RequestFailed"),
    (rst("<a:ActAs xmlns:a='http://docs.oasis-open.org/ws-sx/ws-trust/200802'/>"), "Issue", "wst:RequestFailed"),
    (rst("<wst:AllowPostdating/>"), "Issue", "wst:RequestFailed"), (rst("<x/>"), "Issue", "wst:RequestFailed"),
    (rst(f"<wst:KeyType>{WST}/SymmetricKey</wst:KeyType>"), "Issue", "wst:RequestFailed"),
    (rst("<wst:TokenType>urn:jwt</wst:TokenType>"), "Issue", "wst:RequestFailed"),
    (rst(applies_to("not an address")), "Issue", "wst:InvalidRequest"),
    (rst(applies_to("https://[::1")), "Issue", "wst:InvalidRequest"),
    (rst(applies_to("urn:a") * 2), "Issue", "wst:InvalidRequest"),
])  # fmt: skip
def test_faults(body: bytes, kind: str, fault: str) -> None:
    asked = ask(body, kind=kind)
    assert asked.fault == fault
    assert asked.reply.fault is not None
    xml = etree.fromstring(soap.write_envelope(soap.FAULT_ACTION, soap.write_fault(asked.reply.fault)))
    (value,) = xml.iter(f"{{{soap.SOAP}}}Subcode")
    prefix, _, _ = value[0].text.partition(":")
    assert value[0].nsmap[prefix] == WST


def test_trouble_of_our_own_is_not_the_senders() -> None:
    for code in ("XDSRegistryBusy", "XDSRegistryError"):
        finding = issuing.TRANSACTION.refuse((issuing.Problem.of(code, "busy").findings[0],), None)
        assert (finding.fault.code, finding.fault.subcode) == ("Receiver", "wst:RequestFailed")


def test_who_asked_for_whom_about_whom_is_audited() -> None:
    asked = ask(rst(claims(ALL)))
    user, patient, assertion = asked.objects
    assert (user.kind, user.identifier) == ("user", "2.16.840.1.113883.3.4424.1.6.2#7654321")
    assert dict(user.details)["role"] == "2.16.840.1.113883.6.96#112247003"
    assert (patient.kind, patient.identifier) == ("patient", "12^^^&1.2.3.4&ISO")
    assert (assertion.kind, assertion.identifier) == ("assertion", asked.element.get("ID"))
    assert dict(assertion.details)["Audience"] == ENTITY
    refused = ask(rst(claims(SUBJECT, PATIENT)), DOCTOR)
    assert [o.identifier for o in refused.objects] == ['Anna Kowalska & <córki> "s"', "12^^^&1.2.3.4&ISO"]


def test_identifiers_are_names_of_xml() -> None:
    assert re.fullmatch(r"_[0-9a-f-]{36}", ask(rst()).element.get("ID"))


# the key of the node ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["rsa1024", "p521"])
def test_keys_that_no_verifier_accepts(kind: str) -> None:
    _, key, der = identity("sts", kind)
    with pytest.raises(ValueError, match="kind or size"):
        read_key(key, (der,))


def test_a_key_needs_its_certificate() -> None:
    with pytest.raises(ValueError, match="other keys"):
        read_key(identity("sts")[1], (identity("stranger")[2],))

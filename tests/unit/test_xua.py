"""Who is asking, by assertions that other libraries have signed."""

from __future__ import annotations

import hashlib
from datetime import timedelta
from typing import Any

import pytest
from lxml import etree

import minting
from minting import ISSUER, NOW, PATIENT, PURPOSE, ROLE, Assertion, envelope, identity, signed_envelope
from obieg.domain.problems import Problem
from obieg.domain.requester import Requester, Spent
from obieg.domain.trust import SamlIssuer, Trust, TrustedNode
from obieg.mapping.wst import _POLISH_ROLES
from obieg.protocol import Credentials
from trusting import AUTHENTICATION, CLIENT, STS, TARGET, Door, asked, problem, refused, shown

POLISH = (
    minting.text_attribute("urn:oasis:names:tc:SAML:attribute:subject-id", "2.16.840.1.113883.3.4424.1.6.2#7654321")
    + minting.text_attribute(
        "urn:oasis:names:tc:xspa:1.0:subject:organization-id", "2.16.840.1.113883.3.4424.2.3.1#000000012345"
    )
    + minting.text_attribute(
        "urn:oasis:names:tc:xspa:1.0:subject:child-organization", "2.16.840.1.113883.3.4424.2.3.2#1"
    )
    + minting.text_attribute("urn:oasis:names:tc:xspa:1.0:subject:functional-role", "medical doctor")
    + minting.text_attribute("urn:oasis:names:tc:xacml:2.0:action:purpose", "NORMAL")
    + minting.text_attribute(
        "urn:oasis:names:tc:xacml:1.0:resource:resource-id", "2.16.840.1.113883.3.4424.1.1.616#70032816894"
    )
)


def test_what_an_assertion_says_is_who_asks() -> None:
    assertion = Assertion(
        attributes=minting.ATTRIBUTES + minting.text_attribute(PATIENT, "12^^^&amp;1.2.3.4&amp;ISO"),
        conditions=Assertion().conditions + "<saml:OneTimeUse/>",
    )
    found = asked(envelope(assertion.signed(STS), message_id="urn:uuid:1"))
    until = NOW + timedelta(minutes=11)
    assert found == Requester(
        system="CN=client",
        address="127.0.0.1",
        proof="saml",
        issuer=ISSUER,
        person="dr",
        person_name="Jan Kowalski",
        role="2.16.840.1.113883.6.96#112247003",
        organisation="2.16.840.1.113883.3.4424.2.3.1",
        purpose_of_use="TREAT",
        patient="1.2.3.4#12",
        assurance="urn:oasis:names:tc:SAML:2.0:ac:classes:X509",
        token=assertion.id,
        until=NOW + timedelta(minutes=10),
        spent=(Spent("message", ISSUER, "urn:uuid:1", until), Spent("assertion", ISSUER, assertion.id, until)),
        repositories=None,
    )


def test_the_attributes_of_p1() -> None:
    found = asked(envelope(Assertion(attributes=POLISH).signed(STS)))
    assert (found.person, found.role, found.purpose_of_use) == (
        "2.16.840.1.113883.3.4424.1.6.2#7654321", "medical-doctor", "TREAT",
    )  # fmt: skip
    assert found.organisation == "2.16.840.1.113883.3.4424.2.3.1#000000012345"
    assert found.child_organisation == "2.16.840.1.113883.3.4424.2.3.2#1"
    assert found.patient == "2.16.840.1.113883.3.4424.1.1.616#70032816894"
    for theirs, role in (("legal guardian", "patient"), ("plenipotentiary", "patient"), ("nurse", "nurse")):
        said = POLISH.replace("medical doctor", theirs)
        assert asked(envelope(Assertion(attributes=said).signed(STS))).role == role, theirs
    assert _POLISH_ROLES["patient"] == "patient", "as the node names it itself"


def test_an_assistant_names_the_professional() -> None:
    for value in ("2.16.840.1.113883.3.4424.1.6.2#1111111", "1111111^^^&amp;2.16.840.1.113883.3.4424.1.6.2&amp;ISO"):
        acting = minting.text_attribute("urn:e-health-suisse:principal-id", value)
        found = asked(envelope(Assertion(attributes=POLISH + acting).signed(STS)))
        assert found.acting_for == "2.16.840.1.113883.3.4424.1.6.2#1111111"
    twice = minting.text_attribute("urn:e-health-suisse:principal-id", "1.2#1") * 2
    assert "an attribute is given twice" in refused(envelope(Assertion(attributes=POLISH + twice).signed(STS)))


@pytest.mark.parametrize(("kind", "algorithm"), [
    ("rsa2048", "rsa-sha256"), ("rsa3072", "rsa-sha384"), ("rsa4096", "rsa-sha512"),
    ("p256", "ecdsa-sha256"), ("p384", "ecdsa-sha384"),
])  # fmt: skip
@pytest.mark.parametrize("digest", ["sha256", "sha384", "sha512"])
def test_signxml_by_every_algorithm(kind: str, algorithm: str, digest: str) -> None:
    sts = identity(f"sts-{kind}", kind)
    door = Door(sts)
    found = asked(envelope(Assertion().signed(sts, algorithm=algorithm, digest=digest)), door=door)
    assert found.person == "dr"


def test_holder_of_key_over_tls_and_in_a_signed_message() -> None:
    holding = Assertion(**minting.holder_of_key(CLIENT)).signed(STS)
    assert asked(envelope(holding)).person == "dr"
    assert asked(signed_envelope(holding, CLIENT)).person == "dr"
    assert asked(signed_envelope(holding, CLIENT, prefixes="s wsu")).person == "dr"
    assert asked(envelope(Assertion(**minting.holder_of_rsa_key(CLIENT)).signed(STS))).person == "dr"
    # The key of the message need not be that of the connection: the issuer vouches for it.
    signer = identity("signer")
    assert asked(signed_envelope(Assertion(**minting.holder_of_key(signer)).signed(STS), signer)).person == "dr"
    assert refused(envelope(Assertion(**minting.holder_of_key(signer)).signed(STS))) == (
        "the message comes from somebody else than the holder of the key"
    )


def test_a_bearer_may_sign_the_message_as_the_client_of_the_connection() -> None:
    assert asked(signed_envelope(Assertion().signed(STS), CLIENT)).person == "dr"
    assert "somebody else than the client" in refused(signed_envelope(Assertion().signed(STS), identity("signer")))


def test_sender_vouches_is_for_nodes_that_the_settings_name() -> None:
    vouching = Assertion(method=f"{minting.CM}sender-vouches").signed(STS)
    named = Door(STS, strangers=None, nodes=(TrustedNode("hospital", ("client.example.pl",), ("1.2",)),))
    found = asked(envelope(vouching), door=named)
    assert (found.system, found.repositories) == ("hospital", ("1.2",))
    assert "no node" in refused(envelope(vouching), door=Door(STS, strangers=None))


def test_what_a_signed_message_says_is_read_from_what_was_signed() -> None:
    root = etree.fromstring(signed_envelope(Assertion(**minting.holder_of_key(CLIENT)).signed(STS), CLIENT))
    root.set("{urn:x}unsigned", "1")
    message = shown(etree.tostring(root))
    body = message.envelope[-1]
    AUTHENTICATION.prove(message)
    assert message.envelope[-1] is not body
    assert etree.tostring(message.envelope[-1][0], method="c14n", exclusive=True) == etree.tostring(
        body[0], method="c14n", exclusive=True
    )


def test_a_signed_message_spends_its_signature_too() -> None:
    data = signed_envelope(Assertion(**minting.holder_of_key(CLIENT)).signed(STS), CLIENT, message_id="urn:uuid:1")
    kinds = {s.kind: s.identifier for s in asked(data).spent}
    again = {s.kind: s.identifier for s in asked(data.replace(b"urn:uuid:1", b"urn:uuid:2")).spent}
    assert kinds.keys() == {"message", "signature"}
    assert kinds["signature"] == again["signature"]
    assert kinds["message"] != again["message"]


@pytest.mark.parametrize(("shift", "reason"), [
    (-120, "not hold yet"), (-119, ""), (659, ""), (660, "no longer"),
])  # fmt: skip
def test_the_clock_may_differ_by_a_minute(shift: int, reason: str) -> None:
    data = envelope(Assertion().signed(STS))
    door = Door(STS, now=NOW + timedelta(seconds=shift))
    # IssueInstant and AuthnInstant are a minute after NotBefore.
    expected = "not hold yet" if shift < -60 else reason
    if expected:
        assert expected in refused(data, door=door)
    else:
        assert asked(data, door=door).person == "dr"


def test_an_assertion_is_verified_once_and_judged_on_every_use(monkeypatch: pytest.MonkeyPatch) -> None:
    door = Door(STS)
    calls: list[Any] = []
    original = door.saml.verify_assertion
    monkeypatch.setattr(door.saml, "verify_assertion", lambda *a: calls.append(a) or original(*a))
    assertion = Assertion(
        data=f'<saml:SubjectConfirmationData Recipient="{TARGET}"/>',
    ).signed(STS)
    assert asked(envelope(assertion), door=door).person == "dr"
    assert asked(envelope(assertion), door=door).person == "dr"
    assert len(calls) == 1
    door.now = NOW + timedelta(minutes=12)
    assert "no longer" in refused(envelope(assertion), door=door)
    door.now = NOW
    assert "another address" in refused(envelope(assertion), door=door, target="https://elsewhere/")
    door.withdrawn.add(STS.der)
    assert "withdrawn" in refused(envelope(assertion), door=door)
    door.withdrawn.clear()
    assert len(calls) == 1
    # Other trust: verified again, by what is trusted now.
    door.authentication.trust = Trust((SamlIssuer(ISSUER, (identity("other").der,), (minting.AUDIENCE,)),), version="2")
    assert "none of the issuer's" in refused(envelope(assertion), door=door)
    assert len(calls) == 2


def test_the_cache_is_bounded() -> None:
    door = Door(STS, cache_max=3)
    for _ in range(6):
        asked(envelope(Assertion().signed(STS)), door=door)
    assert len(door.authentication._cache) == 3


async def test_tokens_and_sessions_go_to_their_ports() -> None:
    class Bearer:
        async def verify(self, credentials: Credentials) -> Requester:
            scheme, _, token = credentials.authorization.partition(" ")
            if scheme != "bearer":
                raise Problem.of("AuthenticationFailed", "no token")
            return Requester(system=token, proof="oauth")

    class Sessions:
        async def current(self, cookie: str) -> Requester | None:
            return Requester(system="", person="anna", proof="session") if cookie == "ours=1" else None

    door = Door(STS, bearer=Bearer(), sessions=Sessions(), strangers=None).authentication
    assert (await door.authenticate(Credentials(address="a", authorization="bearer abc"))).system == "abc"
    assert (await door.authenticate(Credentials(address="a", cookie="ours=1"))).person == "anna"
    for nothing in ({"cookie": "theirs=1"}, {"authorization": "Basic abc"}, {}):
        with pytest.raises(Problem):
            await door.authenticate(Credentials(address="a", **nothing))
    assert (await door.authenticate(Credentials(address="a", authorization="bearer abc", foreign=True))).system == "abc"
    with pytest.raises(Problem) as refused_page:
        await door.authenticate(Credentials(address="a", cookie="ours=1", foreign=True))
    assert "another site" in refused_page.value.findings[0].reason


async def test_certificates_of_nodes_and_of_strangers() -> None:
    node = TrustedNode("hospital", (hashlib.sha256(CLIENT.der).hexdigest(),), ("1.2.3",))
    door = Door(STS, nodes=(node,), strangers=None).authentication
    found = await door.authenticate(Credentials(address="10.0.0.1", certificate=CLIENT.der))
    assert found == Requester(
        system="hospital", address="10.0.0.1", proof="certificate", organisation="hospital", repositories=("1.2.3",)
    )
    stranger = Credentials(address="10.0.0.1", certificate=identity("stranger").der)
    with pytest.raises(Problem):
        await door.authenticate(stranger)
    # In the laboratory a protocol without tokens has nothing but the certificate; one with tokens has them.
    lab = Door(STS).authentication
    with pytest.raises(Problem):
        await lab.authenticate(stranger)
    mllp = Credentials(address="10.0.0.1", certificate=identity("stranger").der, tokens=False)
    assert (await lab.authenticate(mllp)).system == "CN=stranger"
    assert (await lab.authenticate(mllp)).repositories is None


def test_the_caller_learns_only_what_is_required() -> None:
    details = {
        problem(data).findings[0].detail
        for data in (
            envelope(Assertion(issuer="https://unknown").signed(STS)),
            envelope(Assertion(not_on_or_after="2020-01-01T00:00:00Z").signed(STS)),
            envelope(Assertion().signed(identity("other"))),
            envelope(b""),
        )
    }
    assert len(details) == 1
    assert "ITI-40" in details.pop()


def test_roles_and_purposes_of_other_systems() -> None:
    swiss = minting.coded_attribute(PURPOSE, "PurposeOfUse", "EMER", "2.16.756.5.30.1.127.3.10.5")
    role = minting.coded_attribute(ROLE, "Role", "HCP", "2.16.756.5.30.1.127.3.10.6")
    found = asked(envelope(Assertion(attributes=swiss + role).signed(STS)))
    assert (found.purpose_of_use, found.role) == ("ETREAT", "2.16.756.5.30.1.127.3.10.6#HCP")


async def test_a_node_that_is_bound_to_an_address_calls_from_there_alone() -> None:
    node = TrustedNode("hospital", (hashlib.sha256(CLIENT.der).hexdigest(),), ("1.2.3",), "192.0.2.1")
    door = Door(STS, strangers=None, nodes=(node,)).authentication
    found = await door.authenticate(Credentials(address="192.0.2.1", certificate=CLIENT.der))
    assert (found.system, found.repositories) == ("hospital", ("1.2.3",))
    with pytest.raises(Problem):
        await door.authenticate(Credentials(address="192.0.2.2", certificate=CLIENT.der))

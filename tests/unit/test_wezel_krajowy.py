"""Log-ins through Węzeł Krajowy: what the stand-in, which signs with signxml, says is accepted or refused."""

from __future__ import annotations

import dataclasses
from base64 import b64decode, b64encode
from collections import Counter
from copy import deepcopy
from datetime import timedelta
from pathlib import Path
from random import Random
from typing import Any

import pytest
import signxml
from cryptography.hazmat.primitives.asymmetric import ec
from lxml import etree
from saml2 import md, samlp
from standins.wezel_krajowy.provider import PEOPLE, Behaviour, KeyPair, RequestRefused

from obieg.domain.audit import Outcome
from obieg.domain.problems import Problem
from obieg.protocol import LoginAttempt
from obieg.wire.enveloped import sign_enveloped
from obieg.wire.saml_protocol import read_metadata
from wk_parts import ACS, ENTITY, Both

LOW, SUBSTANTIAL, HIGH = (f"http://eidas.europa.eu/LoA/{level}" for level in ("low", "substantial", "high"))


def seconds(**given: int) -> dict[str, timedelta]:
    return {name: timedelta(seconds=value) for name, value in given.items()}


ACCEPTED: dict[str, dict[str, Any]] = {
    "as_it_stands": {},
    "all_is_signed": {"sign_assertion": True},
    "prefixes_as_seen": {"prefixes": True},
    "prefixes_as_seen_all_signed": {"prefixes": True, "sign_assertion": True},
    "the_assertion_alone_is_signed": {"sign_assertion": True, "sign_response": False, "sign_outer": False},
    "the_response_alone_is_signed": {"sign_outer": False},
    "no_certificate_in_the_signature": {"certificate_in_signature": False},
    "128_bit_key_wrap": {"key_wrap": "kw-aes128"},
    "192_bit_key_wrap": {"key_wrap": "kw-aes192"},
    "128_bit_content": {"content": "aes128-gcm"},
    "128_bits_of_both": {"content": "aes128-gcm", "key_wrap": "kw-aes128"},
    "derivation_by_the_standard": {"derivation": "standard"},
    "derivation_by_the_standard_128": {"derivation": "standard", "key_wrap": "kw-aes128"},
    "derivation_of_nothing_else": {"derivation": "none"},
    "sha512": {"digest": "sha512"},
    "level_high": {"level": HIGH},
    "a_little_early": seconds(begins=30, made=30, authenticated=30),
    "a_little_late": seconds(ends=-30, confirmed=-30, begins=-60),
    "answered_by_form": {"by_form": True},
}

REFUSED: dict[str, tuple[dict[str, Any], str]] = {
    "stranger": ({"signed_by": "stranger"}, "none of the issuer's"),
    "stranger_with_our_certificate": ({"signed_by": "claimed"}, "not valid"),
    "stranger_without_certificate": ({"signed_by": "stranger", "certificate_in_signature": False}, "not valid"),
    "prefixes_changed": ({"prefixes": True, "changed": "response", "sign_outer": False}, "has been changed"),
    "outer_changed": ({"changed": "outer"}, "has been changed"),
    "response_changed": ({"changed": "response", "sign_outer": False}, "has been changed"),
    "assertion_changed": ({"changed": "assertion", "sign_assertion": True}, "has been changed"),
    "nothing_signed_but_the_outside": ({"sign_response": False}, "neither"),
    "nothing_signed": ({"sign_response": False, "sign_outer": False}, "neither"),
    "cbc": ({"content": "aes256-cbc"}, "algorithm is not allowed"),
    "rsa_1_5": ({"key_wrap": "rsa-1_5"}, "algorithm is not allowed"),
    "des_key_wrap": ({"key_wrap": "kw-tripledes"}, "algorithm is not allowed"),
    "md5_derivation": ({"digest": "md5", "key_wrap": "kw-aes128"}, "digest of the key derivation"),
    "encrypted_for_another": ({"encrypted_for": "another"}, "cannot be decrypted"),
    "not_encrypted": ({"plain": True}, "element that it does not have"),
    "two_assertions": ({"two_assertions": True}, "one too many"),
    "doctype_inside": ({"instruction": True}, "cannot be read"),
    "other_request": ({"request": "ID-other"}, "another request"),
    "other_request_confirmed": ({"confirmed_request": "ID-other"}, "answers another request"),
    "other_resolve": ({"resolve": "ID-other"}, "another request"),
    "other_issuer_of_the_assertion": ({"issuer": "evil.example"}, "by somebody else"),
    "other_issuer_of_the_response": ({"response_issuer": "evil.example"}, "by somebody else"),
    "other_issuer_outside": ({"outer_issuer": "evil.example"}, "by somebody else"),
    "other_destination": ({"destination": "https://evil.example/acs"}, "another address"),
    "other_recipient": ({"recipient": "https://evil.example/acs"}, "another recipient"),
    "other_audience": ({"audience": "https://evil.example"}, "another audience"),
    "no_audience": ({"no_audience": True}, "audience-restriction is missing"),
    "expired": (seconds(ends=-120, begins=-600), "does not hold now"),
    "not_yet": (seconds(begins=120), "does not hold now"),
    "holds_too_long": (seconds(ends=90_000), "too long"),
    "confirmed_too_late": (seconds(confirmed=-120), "came too late"),
    "made_long_ago": (seconds(made=-500), "another time"),
    "made_in_the_future": (seconds(made=120), "another time"),
    "authenticated_before_the_request": (seconds(authenticated=-600), "not asked for this log-in"),
    "authenticated_in_the_future": (seconds(authenticated=600), "not asked for this log-in"),
    "unknown_level": ({"level": "http://eidas.europa.eu/LoA/none"}, "not known"),
    "cancelled": ({"status": "AuthnFailed"}, "status:AuthnFailed"),
    "no_pesel": ({"pesel": "12345678901"}, "no PESEL"),
    "foreign_identifier": ({"pesel": "DE/PL/12345"}, "no PESEL"),
    "no_identifier": ({"drop": "PersonIdentifier"}, "no PESEL"),
    "no_name": ({"drop": "CurrentFamilyName"}, "family_name"),
    "no_birth_date": ({"drop": "DateOfBirth"}, "date of birth"),
    "two_identifiers": ({"double": "PersonIdentifier"}, "more than once"),
}


@pytest.mark.parametrize("name", ACCEPTED)
async def test_accepted(name: str) -> None:
    both = Both()
    cookie, return_to = await both.log_in(**ACCEPTED[name])
    [session] = both.logins.open.values()
    patient, person = session.patient, PEOPLE[0]
    assert return_to == "/moje"
    requester = await both.actor.current(cookie.partition(";")[0])
    assert requester is not None
    number = f"2.16.840.1.113883.3.4424.1.1.616#{person['pesel']}"
    assert (requester.proof, requester.person, requester.patient) == ("session", number, number)
    assert (requester.issuer, requester.token, requester.repositories) == ("node.test", session.session_id, ())
    assert (patient.pesel, patient.family_name, patient.given_name) == (
        person["pesel"], person["family_name"], person["given_name"],
    )  # fmt: skip
    assert patient.birth_date.isoformat() == person["birth_date"]
    assert patient.assurance == ACCEPTED[name].get("level", SUBSTANTIAL)
    [event] = both.logins.events
    assert (event.transaction, event.outcome, event.source_address) == ("login", Outcome.SUCCESS, "192.0.2.7")
    assert event.requester == f"2.16.840.1.113883.3.4424.1.1.616#{person['pesel']}"


@pytest.mark.parametrize("name", REFUSED)
async def test_refused(name: str) -> None:
    behaviour, reason = REFUSED[name]
    both = Both()
    with pytest.raises(Problem) as raised:
        await both.log_in(**behaviour)
    assert [f.code for f in raised.value.findings] == ["AuthenticationFailed"]
    [event] = both.logins.events
    assert event.outcome == Outcome.SERIOUS_FAILURE
    assert reason in event.detail
    # The audit says why, the caller is not told.
    assert str(raised.value) == str(await refusal(Both(), signed_by="stranger"))
    assert both.logins.open == {}
    # Nothing is wrong but that.
    await both.log_in()


async def refusal(both: Both, **behaviour: Any) -> Problem:
    with pytest.raises(Problem) as raised:
        await both.log_in(**behaviour)
    return raised.value


@pytest.mark.parametrize(("wanted", "reached", "accepted"), [
    ("low", LOW, True), ("substantial", LOW, False), ("substantial", SUBSTANTIAL, True),
    ("high", SUBSTANTIAL, False), ("high", HIGH, True), ("low", HIGH, True),
])  # fmt: skip
async def test_the_level_is_a_minimum(wanted: str, reached: str, accepted: bool) -> None:
    both = Both(level=wanted)
    if accepted:
        await both.log_in(level=reached)
    else:
        await refusal(both, level=reached)
        assert "too low" in both.logins.events[0].detail


async def test_a_key_on_another_curve_decrypts_too() -> None:
    await Both(curve=ec.SECP384R1()).log_in()


# signature wrapping -----------------------------------------------------------------------------------------------


class Wrapping:
    """A back channel whose answers were put together anew by somebody who owns no key of the identity provider.

    Our public key is known to all, so that what the evil Response holds can be decrypted.
    """

    def __init__(self, both: Both, random: Random) -> None:
        self.both, self.random = both, random

    async def ask(self, address: str, message: bytes) -> bytes:
        provider, random = self.both.provider, self.random
        kept = provider.artifacts[etree.fromstring(message).findtext(".//{*}Artifact")]
        honest = Behaviour(replays=True, sign_outer=random.random() < 0.5)
        kept.behaviour = honest
        good = etree.fromstring(provider.resolve(message))
        how = random.choice(["stranger", "claimed", ""])
        kept.behaviour = Behaviour(
            replays=True, pesel=PEOPLE[1]["pesel"], sign_outer=False, sign_response=bool(how), signed_by=how or "own"
        )
        evil = etree.fromstring(provider.resolve(message))
        for _ in range(random.randrange(1, 4)):
            source = random.choice([good, evil, evil])
            moved = deepcopy(random.choice([e for e in source.iter() if e is not source]))
            moved.tail = None
            target = random.choice(list(good.iter()))
            match random.randrange(3):
                case 0:
                    target.insert(random.randrange(len(target) + 1), moved)
                case 1 if target.getparent() is not None:
                    target.getparent().replace(target, moved)
                case _:
                    same = [e for e in good.iter(moved.tag) if e is not good]
                    if same:
                        same[0].getparent().replace(same[0], moved)
        ids = [e for e in good.iter() if e.get("ID")]
        if random.random() < 0.3 and ids:
            random.choice(ids).set("ID", random.choice(ids).get("ID"))
        return etree.tostring(good)


@pytest.mark.slow
async def test_wrapped_signatures_never_make_anybody_else() -> None:
    random = Random(20_261_122)
    both = Both()
    both.actor._channel = Wrapping(both, random)
    outcomes = Counter[str]()
    for _ in range(1_500):
        try:
            cookie, _ = await both.log_in()
        except Problem:
            outcomes["refused"] += 1
        else:
            requester = await both.actor.current(cookie.partition(";")[0])
            assert requester is not None
            outcomes[requester.patient.rpartition("#")[2]] += 1
    assert set(outcomes) <= {"refused", PEOPLE[0]["pesel"]}
    assert outcomes["refused"] > 1_000
    assert outcomes[PEOPLE[0]["pesel"]] > 10  # what is left as it was is accepted


# once, and by the browser that began ----------------------------------------------------------------------------------


async def test_an_artifact_is_used_once() -> None:
    both = Both()
    attempt = both.there(await both.begin(), replays=True)
    await both.actor.finish(attempt)
    with pytest.raises(Problem):
        await both.actor.finish(attempt)
    # Even where the identity provider answers again, for a log-in that was begun meanwhile.
    begun = await both.begin()
    with pytest.raises(Problem):
        await both.actor.finish(
            dataclasses.replace(attempt, relay_state=begun.relay_state, browser=begun.secret)
        )  # fmt: skip
    assert len(both.logins.open) == 1


async def test_the_identity_provider_does_not_answer_twice() -> None:
    both = Both()
    attempt = both.there(await both.begin())
    await both.actor.finish(attempt)
    begun = await both.begin()
    with pytest.raises(Problem):
        await both.actor.finish(dataclasses.replace(attempt, relay_state=begun.relay_state, browser=begun.secret))
    assert "stands for nothing" in both.logins.events[-1].detail


@pytest.mark.parametrize("what", ["response_id", "assertion_id"])
async def test_an_identifier_is_used_once(what: str) -> None:
    both = Both()
    await both.log_in()
    given = dict(zip(("response_id", "assertion_id"), both.provider.given[0], strict=True))
    await refusal(both, **{what: given[what]})
    assert "once already" in both.logins.events[-1].detail
    await both.log_in(**{what: f"{given[what]}-new"})


@pytest.mark.parametrize("change", [
    {"browser": ""}, {"browser": "another"}, {"relay_state": ""}, {"relay_state": "another"}, {"artifact": ""},
    {"artifact": "A" * 2_000}, {"artifact": "ą"}, {"artifact": "AAQAAA=="},
])  # fmt: skip
async def test_only_the_browser_that_began_ends(change: dict[str, str]) -> None:
    both = Both()
    attempt = both.there(await both.begin())
    with pytest.raises(Problem):
        await both.actor.finish(dataclasses.replace(attempt, **change))
    assert both.logins.open == {}
    if "artifact" in change:
        return
    # Somebody else's attempt takes nothing from who began.
    await both.actor.finish(attempt)


async def test_a_response_for_another_browser_is_no_use() -> None:
    """Log-in CSRF: an attacker's artifact, in the browser of a victim who has begun a log-in."""
    both = Both()
    victim, attacker = await both.begin(), both.there(await both.begin())
    with pytest.raises(Problem):
        await both.actor.finish(
            dataclasses.replace(attacker, relay_state=victim.relay_state, browser=victim.secret)
        )  # fmt: skip
    assert "another request" in both.logins.events[-1].detail


async def test_ten_minutes_and_no_more() -> None:
    both = Both()
    begun = await both.begin()
    attempt = both.there(begun)
    both.offset = timedelta(seconds=601)
    with pytest.raises(Problem):
        await both.actor.finish(attempt)
    assert "too old" in both.logins.events[-1].detail
    assert both.channel.asked == []


# logging out ----------------------------------------------------------------------------------------------------------


GONE = LoginAttempt(address="192.0.2.7", request_id="r-2")


async def test_the_session_ends_here_and_there() -> None:
    both = Both()
    cookie, _ = await both.log_in()
    assert cookie.endswith("HttpOnly; SameSite=Lax; Secure")
    assert cookie.startswith("__Host-obieg-patient=")
    shown = cookie.partition(";")[0]
    other, _ = await both.log_in()
    session = await both.actor.sessions.session(shown)
    assert session is not None
    assert len(await both.actor.sessions.listed(session)) == 2
    assert "Max-Age=0" in await both.actor.end(GONE, shown)
    assert len(both.provider.sessions) == 1
    assert await both.actor.current(shown) is None
    assert await both.actor.current(other.partition(";")[0]) is not None
    assert (both.logins.events[-1].transaction, both.logins.events[-1].outcome) == ("logout", Outcome.SUCCESS)
    count = len(both.logins.events)
    await both.actor.end(GONE, shown)
    assert len(both.logins.events) == count


async def test_it_ends_here_whatever_is_said_there() -> None:
    both = Both()
    cookie, _ = await both.log_in()
    both.provider.sessions.clear()
    await both.actor.end(GONE, cookie.partition(";")[0])
    assert [e.outcome for e in both.logins.events[-2:]] == [Outcome.SUCCESS, Outcome.MINOR_FAILURE]
    assert both.logins.open == {}


@pytest.mark.parametrize(
    "cookie", ["", "a", "__Host-obieg-patient=", "__Host-obieg-patient=a", "obieg-patient=a", "=;=\x00"]
)
async def test_other_cookies_are_nobody(cookie: str) -> None:
    both = Both()
    await both.log_in()
    assert await both.actor.current(cookie) is None


async def test_a_session_ends_by_itself() -> None:
    both = Both()
    cookie, _ = await both.log_in()
    both.offset = timedelta(hours=2, seconds=1)
    assert await both.actor.current(cookie.partition(";")[0]) is None


# what we write, read by others ----------------------------------------------------------------------------------------


async def test_pysaml2_reads_the_request() -> None:
    both = Both()
    begun = await both.begin()
    request = samlp.authn_request_from_string(begun.request.decode())
    assert request.verify()
    assert (request.issuer.text, request.destination) == (ENTITY, both.provider.sign_on_url)
    assert (request.assertion_consumer_service_url, request.version) == (ACS, "2.0")
    assert request.requested_authn_context.comparison == "minimum"
    assert [r.text for r in request.requested_authn_context.authn_context_class_ref] == [LOW]
    assert request.signature is not None
    assert len(begun.relay_state) <= 80  # Bindings, section 3.5.3


def test_pysaml2_reads_the_metadata() -> None:
    both = Both()
    entity = md.entity_descriptor_from_string(both.actor.metadata().decode())
    assert entity.verify()
    descriptor = entity.spsso_descriptor[0] if isinstance(entity.spsso_descriptor, list) else entity.spsso_descriptor
    assert (entity.entity_id, descriptor.authn_requests_signed) == (ENTITY, "true")
    assert [key.use for key in descriptor.key_descriptor] == ["signing", "encryption"]
    assert [a.location for a in descriptor.assertion_consumer_service] == [ACS]


@pytest.fixture(scope="module")
def schema(shared: Path) -> etree.XMLSchema:
    folder = shared / "data/ihe/ipf-wsdl/commons/ihe/xacml20/src/main/resources/schema"
    return etree.XMLSchema(etree.parse(folder / "sstc-saml-schema-protocol-2.0.xsd"))


async def test_what_we_send_keeps_to_the_official_schema(schema: etree.XMLSchema) -> None:
    both = Both()
    cookie, _ = await both.log_in()
    await both.actor.end(GONE, cookie.partition(";")[0])
    sent = [etree.fromstring((await both.begin()).request), *(etree.fromstring(m)[0][0] for m in both.channel.asked)]
    assert [etree.QName(m).localname for m in sent] == ["AuthnRequest", "ArtifactResolve", "LogoutRequest"]
    for message in sent:
        schema.assertValid(etree.fromstring(etree.tostring(message)))


@pytest.mark.parametrize("damage", ["change", "strip", "stranger"])
async def test_the_stand_in_verifies_what_we_sign(damage: str) -> None:
    both = Both()
    request = (await both.begin()).request
    if damage == "change":
        request = request.replace(ACS.encode(), b"https://evil.example/acs")
    elif damage == "strip":
        root = etree.fromstring(request)
        root.remove(root[1])
        request = etree.tostring(root)
    else:
        root = etree.fromstring(request)
        root.remove(root[1])
        stranger = KeyPair.make("stranger")
        request = sign_enveloped(etree.tostring(root), stranger.key, b64decode(stranger.base64))
    with pytest.raises((signxml.exceptions.InvalidInput, signxml.exceptions.InvalidSignature, RequestRefused)):
        both.provider.accept(b64encode(request).decode())


def test_metadata_of_the_identity_provider_are_read() -> None:
    provider = Both().provider
    read = read_metadata(provider.metadata())
    assert read.entity_id == "node.test"
    assert (read.sign_on_url, read.artifact_url, read.logout_url) == (
        provider.sign_on_url, provider.artifact_url, provider.logout_url,
    )  # fmt: skip
    assert [b64encode(c).decode() for c in read.certificates] == [provider.signing.base64]


@pytest.mark.parametrize("data", [b"", b"<a/>", Both().actor.metadata(), b"<!DOCTYPE a><a/>"])
def test_other_metadata_are_refused(data: bytes) -> None:
    with pytest.raises(ValueError, match="metadata"):
        read_metadata(data)

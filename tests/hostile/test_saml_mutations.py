"""Signed messages that are changed at random: whoever is accepted is whom the issuer has signed."""

from __future__ import annotations

import copy
import random
from typing import Any

import msgspec
import pytest
import saml_cases
import signxml
from lxml import etree

from minting import DS, SAML, SOAP, WSSE, WSU, Assertion, envelope, forge, holder_of_key
from obieg.domain.problems import Problem
from obieg.domain.requester import Requester
from obieg.wire.soap import SoapFault
from obieg.wire.xml import XmlRefused
from trusting import CLIENT, STS, Door, asked, shown

MOVES = 10_000
BYTES = 6_000
MESSAGES = {
    "assertion": envelope(forge(Assertion().xml(), STS), message_id="urn:uuid:1"),
    "signed message": saml_cases.signed_envelope(
        Assertion(**holder_of_key(CLIENT)).signed(STS), CLIENT, message_id="urn:uuid:1"
    ),
}
_NAMES = (
    f"{{{SAML}}}Assertion", f"{{{SAML}}}NameID", f"{{{SAML}}}Subject", f"{{{SAML}}}Issuer", f"{{{DS}}}Signature",
    f"{{{DS}}}Reference", f"{{{WSSE}}}Security", f"{{{WSU}}}Timestamp", f"{{{SOAP}}}Body", "{urn:x}x",
)  # fmt: skip
_IDENTIFIERS = ("ID", "Id", "id", "{http://www.w3.org/XML/1998/namespace}id", f"{{{WSU}}}Id", "URI", "Algorithm")


def _decision(requester: Requester) -> Requester:
    """All of it but how the message is called."""
    return msgspec.structs.replace(requester, spent=())


def _move(root: Any, chance: random.Random) -> None:
    """One change of the tree."""
    elements = list(root.iter(etree.Element))
    one, other = chance.choice(elements), chance.choice(elements)
    match chance.randrange(9):
        case 0:  # moved
            if one is not root and one not in other.iterancestors() and one is not other:
                other.insert(chance.randint(0, len(other)), one)
        case 1:  # copied
            other.insert(chance.randint(0, len(other)), copy.deepcopy(one))
        case 2:  # taken away
            if one is not root:
                one.getparent().remove(one)
        case 3:  # wrapped
            if one is not root:
                wrapper = etree.Element(chance.choice(_NAMES))
                one.getparent().replace(one, wrapper)
                wrapper.append(one)
        case 4:  # an evil copy beside it
            evil = copy.deepcopy(one)
            for name in evil.iter(f"{{{SAML}}}NameID"):
                name.text = "ATTACKER"
            other.insert(chance.randint(0, len(other)), evil)
        case 5:  # renamed
            one.tag = chance.choice(_NAMES)
        case 6:  # another identifier
            values = [v for e in elements for v in e.attrib.values()]
            one.set(chance.choice(_IDENTIFIERS), chance.choice(values or [""]))
        case 7:  # other text
            one.text = chance.choice((None, " ", "ATTACKER", other.text))
        case 8:  # two exchanged
            if one is not root and other is not root:
                first, second = copy.deepcopy(one), copy.deepcopy(other)
                if (
                    one.getparent() is not None
                    and other not in one.iterancestors()
                    and one not in other.iterancestors()
                ):
                    one.getparent().replace(one, second)
                    if other.getparent() is not None and other is not one:
                        other.getparent().replace(other, first)


def _second_opinion(data: bytes) -> str:
    """Whom signxml finds signed in the accepted message."""
    element = next(etree.fromstring(data, etree.XMLParser(collect_ids=False)).iter(f"{{{SAML}}}Assertion"))
    found = signxml.XMLVerifier().verify(
        etree.tostring(element, with_tail=False), x509_cert=STS.certificate, expect_references=1
    )
    return str(found.signed_xml.findtext(f"{{{SAML}}}Subject/{{{SAML}}}NameID"))


@pytest.mark.parametrize("kind", MESSAGES)
def test_random_moves_never_make_somebody_else(kind: str) -> None:
    chance = random.Random(f"moves of {kind}")
    door = Door(STS)
    original = MESSAGES[kind]
    wanted = _decision(asked(original, door=door))
    accepted = 0
    for _ in range(MOVES // 2):
        root = etree.fromstring(original)
        for _ in range(chance.randint(1, 3)):
            _move(root, chance)
        data = etree.tostring(root)
        try:
            found = door.prove(shown(data))
        except (Problem, SoapFault, XmlRefused):
            continue
        accepted += 1
        assert _decision(found) == wanted, data
        assert _second_opinion(data) == wanted.person, data
    # Moves that touch nothing that was signed are still accepted: it is no test to refuse everything.
    assert accepted > MOVES // 1000, accepted


@pytest.mark.parametrize("kind", MESSAGES)
def test_no_changed_byte_changes_the_decision(kind: str) -> None:
    chance = random.Random(f"bytes of {kind}")
    door = Door(STS)
    original = MESSAGES[kind]
    wanted = _decision(asked(original, door=door))
    begin = original.index(b"<wsse:Security") if kind == "assertion" else original.index(b"<wsse:Security") - 10
    end = original.index(b"</wsse:Security>") if kind == "assertion" else len(original)
    accepted = 0
    for _ in range(BYTES // 2):
        at = chance.randrange(begin, end)
        change = chance.randrange(3)
        new = bytes([chance.randrange(256)]) if chance.random() < 0.5 else chance.choice(b"<>&\"'/ =aA0\n").to_bytes()
        data = original[:at] + (new if change else b"") + original[at + (change < 2) :]
        try:
            message = shown(data)
            found = door.prove(message)
        except (Problem, SoapFault, XmlRefused):
            continue
        accepted += 1
        assert _decision(found) == wanted, (data[at - 40 : at + 40], new)
        if kind != "assertion":
            assert message.envelope[-1][0].text == "?", data[at - 40 : at + 40]
    assert accepted < BYTES // 4

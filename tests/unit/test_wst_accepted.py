"""What the token service issues lets its holder in here, and nobody else."""

from __future__ import annotations

import uuid
from datetime import datetime, timedelta

import pytest

import issuing
import trusting
from issuing import ALL, ENTITY, NOW, POLISH, PURPOSE, WSSE, WST, applies_to, ask, claims, identity, rst, signing_key
from obieg.domain.problems import Problem
from obieg.domain.requester import Requester
from obieg.domain.trust import SamlIssuer, Trust

PUBLIC_KEY = f"<wst:KeyType>{WST}/PublicKey</wst:KeyType>"


def door(now: datetime = NOW) -> trusting.Door:
    found = trusting.Door(now=now)
    issuer = SamlIssuer(ENTITY, (signing_key().certificate,), (ENTITY,))
    found.authentication.trust = Trust((issuer,), version="2")
    return found


def enter(assertion: bytes, client: str = "client", now: datetime = NOW) -> Requester:
    """Who asks ITI-18 with ``assertion``, from the system ``client``."""
    envelope = (
        f'<s:Envelope xmlns:s="http://www.w3.org/2003/05/soap-envelope"><s:Header><a:Action xmlns:a="{issuing.WSA}">'
        f'urn:x</a:Action><a:MessageID xmlns:a="{issuing.WSA}">urn:uuid:{uuid.uuid4()}</a:MessageID>'
        f'<w:Security xmlns:w="{WSSE}">{assertion.decode()}</w:Security></s:Header><s:Body><x/></s:Body></s:Envelope>'
    )
    _, _, der = identity(client)
    shown = trusting.shown(envelope.encode())
    shown = type(shown)(**{f: getattr(shown, f) for f in shown.__dataclass_fields__} | {"certificate": der})
    return door(now).prove(shown)


@pytest.mark.parametrize("said", [ALL, POLISH])
def test_a_bearer_is_let_in(said: str) -> None:
    asked = ask(rst(claims(said)))
    found = enter(asked.assertion)
    assert (found.proof, found.issuer, found.token) == ("saml", ENTITY, asked.element.get("ID"))
    assert found.person == "2.16.840.1.113883.3.4424.1.6.2#7654321"
    assert found.organisation == "2.16.840.1.113883.3.4424.2.3.1#000000012345"


def test_the_holder_of_the_key_is_let_in_and_nobody_else() -> None:
    asked = ask(rst(PUBLIC_KEY, claims(ALL)), certificate=identity("client")[2])
    assert enter(asked.assertion).purpose_of_use == "TREAT"
    with pytest.raises(Problem):
        enter(asked.assertion, "stranger")


@pytest.mark.parametrize("later", [timedelta(hours=1, minutes=2), -timedelta(minutes=2)])
def test_not_at_other_times(later: timedelta) -> None:
    asked = ask(rst(claims(ALL)))
    with pytest.raises(Problem):
        enter(asked.assertion, now=NOW + later)


def test_not_with_a_token_for_others() -> None:
    with pytest.raises(Problem):
        enter(ask(rst(applies_to("https://other.example.pl/"), claims(ALL))).assertion)
    ours = ask(rst(applies_to("https://region.example.pl/services/registry"), claims(ALL)))
    assert enter(ours.assertion).proof == "saml"


def test_a_token_of_a_token_says_no_more() -> None:
    first = enter(ask(rst(claims(ALL))).assertion)
    second = enter(ask(rst(claims(PURPOSE)), first).assertion)
    for fact in ("person", "person_name", "role", "organisation", "child_organisation", "patient", "until"):
        assert getattr(second, fact) == getattr(first, fact)

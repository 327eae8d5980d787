"""Who may use the cookie of somebody logged in: pages of this node, and whoever only reads."""

from __future__ import annotations

from typing import Any

import pytest
from test_fhir_interactions import PATIENT, peer

from obieg.domain.requester import Requester
from obieg.edges.asgi import credentials
from trusting import STS, Door

BASE = "https://region.example.pl"


def scope(method: str, headers: dict[str, str], host: str = "region.example.pl", scheme: str = "https") -> Any:
    pairs = [(n.lower().encode(), v.encode()) for n, v in {"Host": host, "Cookie": "a=1", **headers}.items()]
    return {"method": method, "scheme": scheme, "path": "/fhir/Patient", "headers": pairs, "client": ("192.0.2.1", 1)}


OWN = [
    {"Origin": BASE},
    {"Origin": BASE, "Sec-Fetch-Site": "same-origin"},
    {"Sec-Fetch-Site": "same-origin"},
    {"Origin": "null", "Sec-Fetch-Site": "same-origin"},  # a page that sends no referrer
]
FOREIGN = [
    {},
    {"Origin": ""},
    {"Origin": "null"},
    {"Origin": "https://evil.example"},
    {"Origin": "http://region.example.pl"},
    {"Origin": "https://region.example.pl.evil.example"},
    {"Origin": "https://region.example.pl:8443"},
    {"Origin": f"{BASE}, https://evil.example"},
    {"Origin": "https://evil.example", "Sec-Fetch-Site": "same-origin"},
    {"Origin": BASE, "Sec-Fetch-Site": "cross-site"},
    {"Origin": BASE, "Sec-Fetch-Site": "same-site"},
    {"Origin": BASE, "Sec-Fetch-Site": "none"},
    {"Referer": f"{BASE}/"},
]


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "PATCH", "QUERY"])
def test_what_may_change_something(method: str) -> None:
    assert [credentials(scope(method, h), BASE).foreign for h in OWN] == [False] * len(OWN)
    assert [credentials(scope(method, h), BASE).foreign for h in FOREIGN] == [True] * len(FOREIGN)


@pytest.mark.parametrize("method", ["GET", "HEAD", "OPTIONS"])
def test_who_only_reads(method: str) -> None:
    assert not any(credentials(scope(method, h), BASE).foreign for h in (*OWN, *FOREIGN))


def test_the_name_by_which_it_was_called_is_its_own() -> None:
    headers = {"Origin": "http://localhost:8080"}
    assert not credentials(scope("POST", headers, "localhost:8080", "http"), BASE).foreign
    assert credentials(scope("POST", headers, "localhost:8081", "http"), BASE).foreign


def test_a_header_that_stands_twice_names_nobody() -> None:
    asked = scope("POST", {"Origin": BASE})
    asked["headers"].append((b"origin", b"https://evil.example"))
    assert credentials(asked, BASE).foreign


class Sessions:
    async def current(self, _cookie: str) -> Requester:
        return Requester(system="1.2#3", person="anna", proof="session")


async def test_a_cookie_changes_nothing_for_pages_of_others() -> None:
    asked = peer(authenticator=Door(STS, sessions=Sessions(), strangers=None).authentication)
    given: dict[str, Any] = {"json": PATIENT}
    for headers in ({}, {"Origin": "https://evil.example"}, {"Origin": "http://node", "Sec-Fetch-Site": "cross-site"}):
        refused = await asked("POST", "/fhir/Patient", headers={"Cookie": "a=1", **headers}, **given)
        assert refused.status_code == 401, headers
    assert ["another site" in event.detail for event in asked.records.events] == [True] * 3
    made = await asked("POST", "/fhir/Patient", headers={"Cookie": "a=1", "Origin": "http://node"}, **given)
    assert made.status_code < 300, made.text
    assert (await asked("GET", "/fhir/Patient/1", headers={"Cookie": "a=1"})).status_code == 200

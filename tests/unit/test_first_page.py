"""What a node says of itself on its first page."""

from __future__ import annotations

from pathlib import Path

import httpx
import pytest

from obieg.ops.pages import pages, public_pages
from obieg.ops.settings import Settings
from obieg.transactions import TRANSACTIONS

OIDS = {"home_community_id": "1.2.3", "repository_unique_id": "1.2.4", "assigning_authority": "1.2.5"}


async def page(path: str, **more: object) -> str:
    settings = Settings(role="region", name="node", data_dir=Path("data"), identity=OIDS, **more)  # type: ignore[arg-type]
    served = [t for t in TRANSACTIONS if t.id in ("ITI-43", "FHIR-10")]
    application = pages(public_pages(settings, served))
    async with httpx.AsyncClient(transport=httpx.ASGITransport(application)) as http:
        answer = await http.get(f"http://node{path}", headers={"accept-language": "en"})
        assert answer.status_code == 200
        return answer.text


async def test_it_lists_what_is_served_and_no_more() -> None:
    listed = await page("/services")
    assert "ITI-43" in listed
    assert "ITI-18" not in listed
    assert "/fhir/* " in listed
    assert "/fhir/Account" not in listed
    assert OIDS["assigning_authority"] in listed


async def test_the_first_page_leads_there() -> None:
    assert 'href="/services"' in await page("/")
    assert "/static/obieg.css" in await page("/")


@pytest.mark.parametrize(
    ("trust", "said"), [({}, "Nobody has to prove"), ({"file": Path("trust.json")}, "Keys of tests are trusted")]
)
async def test_a_laboratory_says_whom_it_lets_in(trust: dict[str, Path], said: str) -> None:
    for path in ("/", "/services"):
        assert said in await page(path, lab=True, trust=trust)
        assert "Laboratory" not in await page(path, trust=trust)

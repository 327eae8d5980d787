"""What a node says of itself on its first page."""

from __future__ import annotations

from pathlib import Path

import httpx
import pytest

from obieg.ops.pages import pages
from obieg.ops.settings import Settings
from obieg.transactions import TRANSACTIONS

OIDS = {"home_community_id": "1.2.3", "repository_unique_id": "1.2.4", "assigning_authority": "1.2.5"}


async def first_page(**more: object) -> str:
    settings = Settings(role="region", name="node", data_dir=Path("data"), identity=OIDS, **more)  # type: ignore[arg-type]
    served = [t for t in TRANSACTIONS if t.id in ("ITI-43", "FHIR-10")]
    async with httpx.AsyncClient(transport=httpx.ASGITransport(pages(settings, served))) as http:
        return (await http.get("http://node/")).text


async def test_it_lists_what_is_served_and_no_more() -> None:
    page = await first_page()
    assert "ITI-43" in page
    assert "ITI-18" not in page
    assert "every type of resource" in page
    assert "/fhir/Account" not in page


@pytest.mark.parametrize(
    ("trust", "said"), [({}, "nobody has to prove"), ({"file": Path("trust.json")}, "keys of tests are trusted")]
)
async def test_a_laboratory_says_whom_it_lets_in(trust: dict[str, Path], said: str) -> None:
    assert said in await first_page(lab=True, trust=trust)
    assert "Laboratory" not in await first_page(trust=trust)

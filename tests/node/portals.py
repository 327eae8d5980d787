"""A region with the people and documents of the demo, and visitors of its pages in a browser."""

from __future__ import annotations

import asyncio
import json
import re
import shutil
import tempfile
import uuid
from base64 import urlsafe_b64encode
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx
import peer
import psycopg

from obieg.domain.content import MemoryContent
from obieg.mapping.pik import describe_cda
from obieg.ops.exchange import Exchange
from obieg.ops.population import DemoDocument, Person, demo_documents, people
from obieg.ops.submitting import Item, Outcome, Submitter

NPWZ, ENTITY, PESEL = (
    "2.16.840.1.113883.3.4424.1.6.2",
    "2.16.840.1.113883.3.4424.2.3.1",
    "2.16.840.1.113883.3.4424.1.1.616",
)
HOSPITAL, CLINIC = f"{ENTITY}#000000001", f"{ENTITY}#000000002"
DOCTOR = {
    "person": f"{NPWZ}#5425740",
    "person_name": "lek. Anna Nowak",
    "role": "medical-doctor",
    "organisation": CLINIC,
}
STRANGER = {
    "person": f"{NPWZ}#7305386",
    "person_name": "lek. Jan Wrona",
    "role": "medical-doctor",
    "organisation": HOSPITAL,
}
WHOLE = {"begin": "2020-01-01T00:00:00Z", "end": "2100-01-01T00:00:00Z"}
DESK, PHONE = (1280, 900), (390, 844)


class Region:
    """What stands in the region; nobody may see anything before a fact permits it."""

    def __init__(self, node: peer.Node, *, persons: int = 12, documents: int = 40, seed: int = 7) -> None:
        self.node = node
        self.origin = f"http://localhost:{urlsplit(node.endpoints['base_url']).port}"
        self.people: list[Person] = people(persons, seed)
        self.documents: list[DemoDocument] = list(demo_documents(self.people, documents, seed))
        self.hand_in(self.documents)

    def hand_in(self, documents: list[DemoDocument]) -> None:
        """As hospitals do."""
        self.submit([self._item(document) for document in documents])

    def _item(self, document: DemoDocument) -> Item:
        described = describe_cda(
            document.data, patient_id="", source_id=self.node.repository, now=datetime.now(UTC), new_uuid=uuid.uuid4
        )
        return Item(document.unique_id, described, MemoryContent(document.data, described.entry.mime_type))

    def submit(self, items: list[Item]) -> None:
        """In a thread: a browser may run in this one, in a loop of its own."""
        with ThreadPoolExecutor(1) as thread:
            thread.submit(asyncio.run, self._submit(items)).result()

    async def _submit(self, items: list[Item]) -> None:
        spool = Path(tempfile.mkdtemp(prefix="obieg-portal-"))
        exchange = Exchange(
            self.node.endpoints, spool_folder=spool, source_address="127.0.0.1", connections_max=4, facility="Szpital"
        )
        try:
            results = await Submitter(exchange, jobs=4).submit(items)
            assert not [r for r in results if r.outcome is Outcome.REFUSED], results
        finally:
            await exchange.close()
            shutil.rmtree(spool, ignore_errors=True)

    @property
    def someone(self) -> Person:
        """An adult with a PESEL and the most documents."""
        mine = [d.person for d in self.documents if d.person.pesel]
        return max(mine, key=lambda person: (mine.count(person), person.number))

    def state(self, person: Person, kind: str, *facts: Any, resource: dict[str, Any] | None = None) -> None:
        """A fact of access: declaration, consent, representative, …; shapes: the structs of domain/access.py."""
        source = peer.oid()
        with psycopg.connect(self.node.dsn) as connection:
            [key] = connection.execute(
                "SELECT patient_key FROM patient_locator WHERE authority = %s AND value = %s", (PESEL, person.pesel)
            ).fetchone()
            connection.execute("INSERT INTO access_source (source, patient_key) VALUES (%s, %s)", (source, key))
            connection.execute(
                "INSERT INTO access_fact (patient_key, source, version, kind, facts, resource, recorded_at, recorded_by)"
                " VALUES (%s, %s, 1, %s, %s, %s, now(), 'test')",
                (key, source, kind, json.dumps(facts), resource and json.dumps(resource)),
            )

    def chosen(self, person: Person, professional: dict[str, str] = DOCTOR) -> None:
        """The professional becomes the chosen POZ doctor."""
        self.state(
            person, "declaration",
            {"professional": professional["person"], "kind": "doctor", "organisation": "", "period": WHOLE},
        )  # fmt: skip


def patient(person: Person) -> dict[str, str]:
    """How a patient asks who has logged in by Węzeł Krajowy."""
    name = f"{person.demographics.name.given[0]} {person.demographics.name.family}"
    return {"person": f"{PESEL}#{person.pesel}", "person_name": name, "role": "patient", "purpose_of_use": "PATRQT"}


class Visitor:
    """Somebody in a browser of their own; what went wrong meanwhile fails the test."""

    def __init__(self, region: Region, context: Any, page: Any) -> None:
        self.region, self.context, self.page = region, context, page
        self.faults: list[str] = []
        self.elsewhere: list[str] = []
        page.on("console", lambda message: self.faults.append(message.text) if message.type == "error" else None)
        page.on("pageerror", lambda error: self.faults.append(str(error)))
        page.on("request", lambda asked: self.elsewhere.append(asked.url) if not self._is_ours(asked.url) else None)

    def _is_ours(self, url: str) -> bool:
        return url.startswith((self.region.origin, "blob:" + self.region.origin))

    def go(self, path: str) -> Any:
        """The page at this path of the region."""
        self.page.goto(self.region.origin + path)
        return self.page

    def expect_clean(self, *allowed: int) -> None:
        """No error of script or CSP, no request to another host. ``allowed``: statuses that pages may have had."""
        mark = "|".join(map(str, allowed)) or "none"
        assert [fault for fault in self.faults if not re.search(rf"status of ({mark})", fault)] == []
        assert self.elsewhere == []


@contextmanager
def visiting(
    chrome: Any, region: Region, who: dict[str, str] | None, *,
    locale: str = "pl-PL", size: tuple[int, int] = DESK, dark: bool = False, script: bool = True,
) -> Iterator[Visitor]:  # fmt: skip
    """A visitor who is logged in as ``who``."""
    context = chrome.new_context(
        locale=locale, viewport={"width": size[0], "height": size[1]},
        color_scheme="dark" if dark else "light", java_script_enabled=script, reduced_motion="reduce",
    )  # fmt: skip
    if who is not None:
        cookies = {"who": who_cookie(who), "obieg": peer.oid(), "obieg-patient": peer.oid()}
        context.add_cookies([{"name": name, "value": value, "url": region.origin} for name, value in cookies.items()])
    visitor = Visitor(region, context, context.new_page())
    yield visitor
    context.close()


def who_cookie(who: dict[str, str]) -> str:
    """As ``access_node`` reads it."""
    return urlsafe_b64encode(json.dumps({"proof": "session", "token": "test", **who}).encode()).decode()


def client(region: Region, who: dict[str, str]) -> httpx.Client:
    """The same without a browser."""
    cookies = {"who": who_cookie(who), "obieg": peer.oid(), "obieg-patient": peer.oid()}
    return httpx.Client(base_url=region.origin, cookies=cookies, timeout=60)

"""Pages of professionals where a source does not answer: what is not known is said, and never shown as nothing."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import Any

import pytest
from starlette.requests import Request

from obieg.domain.problems import Problem, RetryLater
from obieg.domain.requester import Requester
from obieg.web.desk import Answer, Visit
from obieg.web.kit import Kit
from obieg.web.work import WorkPages

ID = "S47LBDTPGRUOEDNQTC24"
PATIENT = {"resourceType": "Patient", "id": ID, "name": [{"family": "Lis"}]}
DOCUMENTS = {
    "total": 1,
    "entry": [
        {"resource": {"resourceType": "DocumentReference", "id": "a", "status": "current", "date": "2026-01-01"}}
    ],
}


async def sealed() -> None:
    """As it should be."""


class Desk:
    """Answers as the node would, or not."""

    shows_images = False

    def __init__(self, **answers: Any) -> None:
        self.kit = Kit(origin="https://obieg.example", name="x", expect_sealed=sealed)
        self._answers = {"read": PATIENT, "search-type": {}, "[id]/$summary": {}, **answers}

    def serves(self, *_asked: str) -> bool:
        return False

    async def fhir(self, _visit: Visit, interaction: str, *_given: Any, **_named: Any) -> Answer:
        found = self._answers[interaction]
        if isinstance(found, Exception):
            raise found
        return Answer(found, None, 200, "", "poz" if found else "")


def shown(desk: Desk, path: str = "") -> str:
    request = Request(
        {
            "type": "http", "method": "GET", "path": "/", "query_string": b"", "headers": [], "scheme": "https",
            "path_params": {"purpose": "treatment", "patient": ID},
        }
    )  # fmt: skip
    who = Requester(system="x", person="1.2#3", role="medical-doctor", organisation="1.2#4")
    pages = WorkPages(desk, SimpleNamespace(), SimpleNamespace())  # type: ignore[arg-type]
    handler = pages._results if path == "results" else pages._record
    visit = Visit(request=request, requester=who, csrf="c", fields={})
    return bytes(asyncio.run(handler(visit)).body).decode()


def test_documents_that_cannot_be_asked_for_are_not_none() -> None:
    page = shown(Desk(**{"search-type": RetryLater("away"), "[id]/$summary": {"entry": []}}))
    assert "Region: nie odpowiada" in page
    assert "Ponów" in page
    assert "Brak podstawy" not in page


def test_emergency_data_that_cannot_be_made_are_not_none() -> None:
    page = shown(Desk(**{"search-type": DOCUMENTS, "[id]/$summary": RetryLater("away")}))
    assert "Danych ratunkowych nie udało się teraz zebrać" in page
    results = shown(Desk(**{"search-type": DOCUMENTS, "[id]/$summary": RetryLater("away")}), "results")
    assert "Wyników nie udało się teraz zebrać" in results


def test_nothing_answers() -> None:
    with pytest.raises(RetryLater):
        shown(Desk(**{"search-type": RetryLater("away"), "[id]/$summary": RetryLater("away")}))


def test_nothing_to_be_seen_is_one_page() -> None:
    hidden = Problem.of("AddressNotFound", "nothing here")
    assert "Brak podstawy" in shown(Desk(**{"[id]/$summary": hidden}))
    with pytest.raises(Problem):
        shown(Desk(**{"[id]/$summary": Problem.of("LimitExceeded", "too much")}))


def test_a_basis_without_documents_is_no_closed_page() -> None:
    page = shown(Desk(**{"[id]/$summary": {"resourceType": "Bundle", "entry": []}}))
    assert "Nie ma dokumentów, które można tu pokazać" in page
    assert "pacjent wybrał Cię" in page

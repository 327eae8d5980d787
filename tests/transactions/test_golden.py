"""Golden messages of every transaction; the verdict stands in the name of the file (see SOURCES.md)."""

from __future__ import annotations

from pathlib import Path

import pytest
from fhir_file import codes_of_request

from obieg.actors.document_repository import Provided
from obieg.domain.content import MemoryContent
from obieg.domain.documents import Submission
from obieg.domain.problems import Finding, Problem, RetryLater
from obieg.domain.rules import check_submission
from obieg.protocol import FhirBinding, MllpBinding, MllpRequest, SoapRequest, Transaction
from obieg.transactions import NOTIFICATIONS, TRANSACTIONS
from obieg.wire import hl7v2
from obieg.wire.soap import SoapFault
from obieg.wire.xml import parse_message

FOLDER = Path(__file__).parent
FILES = sorted(p for p in FOLDER.glob("*/*__*.*"))
PARTS = {"part@example": MemoryContent(b"tresc dokumentu")}


class AnyCode:
    mime_types = frozenset({"text/xml"})

    def accepts(self, attribute: str, code: str, scheme: str) -> bool:
        return True


def transaction_of(path: Path) -> Transaction:
    """ITI-8 of ``iti08``."""
    number = int(path.parent.name.removeprefix("iti"))
    return next(t for t in TRANSACTIONS if t.id == f"ITI-{number}")


def answered(path: Path) -> set[str]:
    """What is wrong by an answer to what this node begins by itself."""
    number = int(path.parent.name.removeprefix("iti"))
    notification = next(n for n in NOTIFICATIONS if n.id == f"ITI-{number}")
    data = path.read_bytes()
    over_mllp = isinstance(notification.binding, MllpBinding)
    try:
        notification.read(hl7v2.parse(data) if over_mllp else SoapRequest(parse_message(data)))
    except Problem as problem:
        return {f.code for f in problem.findings}
    except RetryLater:
        return {"RetryLater"}
    return set()


def codes_of(path: Path) -> set[str]:
    """Codes of what is wrong with the message, before anything is looked up."""
    transaction = transaction_of(path)
    if isinstance(transaction.binding, FhirBinding):
        return codes_of_request(transaction, path.read_bytes())
    try:
        if isinstance(transaction.binding, MllpBinding):
            transaction.decode(MllpRequest(hl7v2.parse(path.read_bytes())))
            return set()
        body = parse_message(path.read_bytes())
        parts = PARTS if b"part@example" in path.read_bytes() else {}
        request = transaction.decode(SoapRequest(body, parts, transaction.binding.mtom))
    except Problem as problem:
        return {f.code for f in problem.findings}
    except SoapFault:
        return {"SoapFault"}
    findings: list[Finding] = []
    if isinstance(request, Provided):
        findings = [*request.found_on_reading, *check_submission(request.submission, AnyCode(), provide=True)]
    elif isinstance(request, tuple) and isinstance(request[0], Submission):
        findings = [*request[1], *check_submission(request[0], AnyCode())]
    return {f.code for f in findings}


@pytest.mark.parametrize("path", FILES, ids=lambda p: f"{p.parent.name}-{p.stem}")
def test_verdict(path: Path) -> None:
    message, verdict, *rest = path.stem.split("__")
    assert message in ("request", "answer")
    assert verdict in ("valid", "rejected")
    assert len(rest) == (1 if verdict == "valid" else 2), "a file is named message__verdict[__code]__twist"
    codes = codes_of(path) if message == "request" else answered(path)
    assert codes == ({rest[0]} if verdict == "rejected" else set())

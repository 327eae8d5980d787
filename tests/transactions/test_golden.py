"""Golden messages of every transaction; the verdict stands in the name of the file (see SOURCES.md)."""

from __future__ import annotations

from pathlib import Path

import pytest
from fhir_file import codes_of_request

from obieg.actors.document_repository import Provided
from obieg.domain.content import MemoryContent
from obieg.domain.documents import EntryType, Submission
from obieg.domain.problems import Finding, Problem, RetryLater
from obieg.domain.rules import check_entry_types, check_submission, check_update
from obieg.protocol import FhirBinding, LinkBinding, MllpBinding, MllpRequest, SoapRequest, Transaction, WadoBinding
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
    """ITI-8 of ``iti08``, IPS of ``ips``."""
    folder = path.parent.name
    family = folder.rstrip("0123456789")
    number = folder.removeprefix(family)
    wanted = f"{family.upper()}-{int(number)}" if number else folder.upper()
    return next(t for t in TRANSACTIONS if t.id == wanted)


def answered(path: Path) -> set[str]:
    """What is wrong by an answer to what this node begins by itself."""
    number = int(path.parent.name.removeprefix("iti"))
    notification = next(n for n in NOTIFICATIONS if n.id == f"ITI-{number}")
    data = path.read_bytes()
    try:
        match notification.binding:
            case MllpBinding():
                notification.read(hl7v2.parse(data))
            case FhirBinding():
                notification.read(int(data.split(b" ")[1]))
            case _:
                notification.read(SoapRequest(parse_message(data)))
    except Problem as problem:
        return {f.code for f in problem.findings}
    except RetryLater:
        return {"RetryLater"}
    return set()


def codes_of(path: Path) -> set[str]:
    """Codes of what is wrong with the message, before anything is looked up."""
    transaction = transaction_of(path)
    if isinstance(transaction.binding, FhirBinding | WadoBinding | LinkBinding):
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
        update = transaction.actor == "document_lifecycle"
        findings = [*request[1], *(check_update if update else check_submission)(request[0], AnyCode())]
        if not update:
            expected = EntryType.ON_DEMAND if transaction.id == "ITI-61" else EntryType.STABLE
            findings += check_entry_types(request[0], expected)
    return {f.code for f in findings}


@pytest.mark.parametrize("path", FILES, ids=lambda p: f"{p.parent.name}-{p.stem}")
def test_verdict(path: Path) -> None:
    message, verdict, *rest = path.stem.split("__")
    assert message in ("request", "answer")
    assert verdict in ("valid", "rejected")
    assert len(rest) == (1 if verdict == "valid" else 2), "a file is named message__verdict[__code]__twist"
    codes = codes_of(path) if message == "request" else answered(path)
    assert codes == ({rest[0]} if verdict == "rejected" else set())

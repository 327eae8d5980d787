"""The cases that may slow a node down, by what they are made of, as bytes for a socket: ``bench/hostile.py`` sends them.

The tests of this folder prove what each is answered; here they are only sorted. What is about the meaning of HTTP alone
(smuggling, chunks), about HL7 v2 and about tokens is of none of these kinds.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass

import fhir_cases
import soap_cases
from field import TWINS, Case, Field, Reply
from http_cases import COMPRESSED, PACKAGES, SLOW, Made, head, statuses


@dataclass(frozen=True)
class Hostile:
    """One message, and what the node must say to it: a regular expression over the summary of its answer."""

    name: str
    data: bytes
    pause_s: float | None  # after each byte; None: all is sent at once
    expect: str
    summary: Callable[[bytes], str]

    def expected(self, answer: bytes) -> bool:
        return re.match(self.expect, self.summary(answer)) is not None


def _case(case: Case, field: Field) -> Hostile:
    """A changed twin as a request of its own connection."""
    request = case.change(TWINS[case.twin][0](field))
    lines = [f"{name}: {value}" for name, value in request.headers]
    first = f"{request.method} {request.path} HTTP/1.1"
    data = head(*lines, f"Content-Length: {len(request.body)}", request=first) + request.body
    return Hostile(f"{case.twin}: {case.name}", data, None, case.expect, _summary)


def _summary(answer: bytes) -> str:
    lines, _, body = answer.partition(b"\r\n\r\n")
    first, *others = lines.decode("latin-1").split("\r\n")
    if not first:
        return "closed"
    headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in others)}
    return Reply(int(first.split()[1]), headers, body).summary()


def _bytes(rows: dict[str, tuple[Made, str]], field: Field) -> list[Hostile]:
    return [Hostile(name, make(field), None, expect, statuses) for name, (make, expect) in rows.items()]


def xml(field: Field) -> list[Hostile]:
    """Over SOAP and FHIR: document types, encodings, shapes, and what is wrong in a message that is XML."""
    included = {case.name for case in soap_cases.INCLUDES}
    cases = [case for case in soap_cases.CASES if case.name not in included]
    return [_case(case, field) for case in (*cases, *(c for c in fhir_cases.CASES if c.twin == "feed_xml"))]


def mime(field: Field) -> list[Hostile]:
    return _bytes(PACKAGES, field) + [_case(case, field) for case in soap_cases.INCLUDES]


def compression(field: Field) -> list[Hostile]:
    return _bytes(COMPRESSED, field)


def slow(field: Field) -> list[Hostile]:
    return [Hostile(name, make(field), pause_s, expect, statuses) for name, (make, pause_s, expect) in SLOW.items()]


KINDS: dict[str, Callable[[Field], list[Hostile]]] = {
    "xml": xml,
    "mime": mime,
    "compression": compression,
    "slow": slow,
}

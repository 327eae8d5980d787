"""What is fuzzed: each target takes bytes and may refuse them only in the way that its reader promises.

Anything else that is raised is a fault; so is a message that takes longer than a few milliseconds for each KiB. A reader
that is added (tokens, assertions) gets a line in TARGETS and a folder of small messages in ``corpus``.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from obieg.domain.authorities import Authorities
from obieg.domain.problems import Problem
from obieg.mapping import ebrs
from obieg.mapping.pid import Reading
from obieg.mapping.stored_query import read_stored_query
from obieg.wire import fhir_json, fhir_narrative, fhir_xml, hl7v2, mime, mllp, soap
from obieg.wire.fhir_elements import check
from obieg.wire.fhir_json import JsonRefused
from obieg.wire.xml import XmlLimits, XmlRefused, parse_document, parse_message

CORPUS = Path(__file__).parent / "corpus"
_XML = XmlLimits(bytes_max=1 << 20, tags_max=20_000)


def soap_envelope(data: bytes) -> None:
    """An envelope, and what its Body promises."""
    try:
        envelope = soap.read_envelope(parse_message(data, _XML))
        soap.include_href(envelope.body)
    except (XmlRefused, soap.SoapFault):
        return


def multipart(data: bytes) -> None:
    """A package, in pieces of a length that its first byte gives."""
    size = data[0] + 1 if data else 1
    parser = mime.MultipartParser("b", parts_max=10)
    whole: list[mime.Event] = []
    try:
        for at in range(1, len(data), size):
            whole += parser.feed(data[at : at + size])
        parser.finish()
    except mime.MimeRefused:
        return
    once = mime.MultipartParser("b", parts_max=10)
    found = list(once.feed(data[1:]))
    assert [_joined(whole)] == [_joined(found)], "pieces and the whole are read alike"


def _joined(events: list[mime.Event]) -> list[object]:
    joined: list[object] = []
    for event in events:
        if isinstance(event, mime.PartData) and joined and isinstance(joined[-1], bytes):
            joined[-1] += event.data
        else:
            joined.append(event.data if isinstance(event, mime.PartData) else event)
    return joined


def content_type(data: bytes) -> None:
    """A header."""
    mime.content_type(data.decode("latin-1"))


def ebrim(data: bytes) -> None:
    """A submission."""
    try:
        root = parse_message(data, _XML)
        ebrs.read_submit_objects(root, [])
    except (XmlRefused, Problem):
        return


def stored_query(data: bytes) -> None:
    """A stored query."""
    try:
        read_stored_query(parse_message(data, _XML))
    except (XmlRefused, Problem):
        return


def hl7_v2(data: bytes) -> None:
    """A message, its demographics, and the answer to it."""
    try:
        message = hl7v2.parse(data)
        reading = Reading(message, Authorities())
        for segment in message.all("PID"):
            reading.identifiers(segment, 3)
            reading.demographics(segment)
    except hl7v2.MessageError:
        return


def mllp_frames(data: bytes) -> None:
    """A stream cut anywhere has the same frames."""
    whole = mllp.FrameSplitter(1000).feed(data)
    splitter = mllp.FrameSplitter(1000)
    pieces = [frame for at in range(len(data)) for frame in splitter.feed(data[at : at + 1])]
    if not any(isinstance(f, mllp.TooLong) for f in [*whole, *pieces]):
        assert whole == pieces


def fhir_in_json(data: bytes) -> None:
    """A resource."""
    try:
        resource = fhir_json.read(data)
    except JsonRefused:
        return
    if not check(resource):
        fhir_xml.write(resource)
    fhir_json.write(resource)


def fhir_in_xml(data: bytes) -> None:
    """A resource."""
    try:
        resource = fhir_xml.read(data, _XML)
    except XmlRefused:
        return
    check(resource)
    fhir_json.write(resource)


def narrative(data: bytes) -> None:
    """The XHTML of a resource."""
    fhir_narrative.fault(data.decode("utf-8", "replace"))


def document(data: bytes) -> None:
    """A document of its own, such as CDA."""
    try:
        parse_document(data, _XML)
    except XmlRefused:
        return


TARGETS: dict[str, Callable[[bytes], None]] = {
    "soap": soap_envelope,
    "mime": multipart,
    "content_type": content_type,
    "ebrim": ebrim,
    "stored_query": stored_query,
    "hl7v2": hl7_v2,
    "mllp": mllp_frames,
    "fhir_json": fhir_in_json,
    "fhir_xml": fhir_in_xml,
    "narrative": narrative,
    "document": document,
}


def corpus(name: str) -> list[Path]:
    """The messages that a target begins with, and those that once broke it."""
    return sorted(path for path in (CORPUS / name).iterdir() if path.is_file())

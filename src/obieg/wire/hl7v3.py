"""HL7 v3 messages: the transmission wrapper, data types, and where in a message something stands (edition 2008).

Only the shape is known here; what persons, feeds and queries look like is known to :mod:`obieg.mapping`.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any, NamedTuple

from lxml import etree

from obieg.codes.load import toml
from obieg.wire.xml import attribute, text

_DETAILS = toml("hl7v3.toml")["code_system"]["acknowledgement_detail"]
NS = "urn:hl7-org:v3"
XSI = "http://www.w3.org/2001/XMLSchema-instance"
_PREFIX = f"{{{NS}}}"


def tag(name: str) -> str:
    """The qualified name of an element of HL7 v3."""
    return _PREFIX + name


class InstanceId(NamedTuple):
    """II: ``extension`` within ``root``; a UUID or OID alone has no extension. Both are empty where nothing is said."""

    root: str = ""
    extension: str = ""

    def __str__(self) -> str:
        return f"{self.root}^{self.extension}" if self.extension else self.root


class Device(NamedTuple):
    """A system that sends or receives, and the organisation that it speaks for."""

    id: InstanceId = InstanceId()
    organisation: InstanceId = InstanceId()


class Transmission(NamedTuple):
    """The wrapper of a message; what is not there is empty."""

    id: InstanceId = InstanceId()
    interaction: InstanceId = InstanceId()
    processing_code: str = ""
    sender: Device = Device()
    receiver: Device = Device()


class Detail(NamedTuple):
    """One thing that is wrong with a message, or only worth saying."""

    code: str  # of HL7 table 0357
    text: str
    location: str = ""  # XPath
    kind: str = "E"  # W for a warning


class Acknowledgement(NamedTuple):
    """How a message was taken: AA, AE, AR by the application, CA, CE, CR by its reception; with what was wrong."""

    code: str
    target: InstanceId = InstanceId()
    details: tuple[Detail, ...] = ()


# reading -------------------------------------------------------------------------------------------------------------


def local_name(element: Any) -> str:
    """The name of an element without its namespace."""
    return str(element.tag).rpartition("}")[2]


def child(element: Any, *path: str) -> Any:
    """The first element at the end of the path; None where there is none."""
    for name in path:
        if element is None:
            return None
        element = element.find(_PREFIX + name)
    return element


def children(element: Any, *path: str) -> list[Any]:
    """All elements at the end of the path, in document order."""
    found = [] if element is None else [element]
    for name in path:
        found = [c for e in found for c in e.iterchildren(_PREFIX + name)]
    return found


def is_null(element: Any) -> bool:
    """Whether the element says that there is no value, and why (nullFlavor)."""
    return element.get("nullFlavor") is not None


def value_of(element: Any, name: str = "value") -> str:
    """An attribute, trimmed; "" where the element or the attribute is missing or null."""
    return "" if element is None else (element.get(name) or "").strip()


def text_of(element: Any) -> str:
    """The characters of an element and its descendants, white space folded."""
    return "" if element is None else " ".join("".join(element.itertext()).split())


def read_id(element: Any) -> InstanceId:
    """An II."""
    return InstanceId(value_of(element, "root"), value_of(element, "extension"))


def read_transmission(body: Any) -> Transmission:
    """The wrapper of whatever message it is; nothing is demanded."""
    return Transmission(
        id=read_id(child(body, "id")),
        interaction=read_id(child(body, "interactionId")),
        processing_code=value_of(child(body, "processingCode"), "code"),
        sender=_read_device(child(body, "sender", "device")),
        receiver=_read_device(child(body, "receiver", "device")),
    )


def _read_device(device: Any) -> Device:
    return Device(read_id(child(device, "id")), read_id(child(device, "asAgent", "representedOrganization", "id")))


def read_acknowledgement(body: Any) -> Acknowledgement:
    """What an answer says of the message it answers; the code is "" where it says nothing."""
    found = child(body, "acknowledgement")
    return Acknowledgement(
        value_of(child(found, "typeCode"), "code"),
        read_id(child(found, "targetMessage", "id")),
        tuple(
            Detail(
                value_of(child(d, "code"), "code"),
                text_of(child(d, "text")),
                text_of(child(d, "location")),
                value_of(d, "typeCode"),
            )
            for d in children(found, "acknowledgementDetail")
        ),
    )


def location(element: Any) -> str:
    """The XPath of an element in its message, with its number where it has siblings of its name."""
    steps: list[str] = []
    while element is not None and etree.QName(element).namespace == NS:
        parent = element.getparent()
        step = local_name(element)
        alike = [element] if parent is None else list(parent.iterchildren(element.tag))
        steps.append(f"{step}[{alike.index(element) + 1}]" if len(alike) > 1 else step)
        element = parent
    return "/" + "/".join(reversed(steps))


def echo(element: Any) -> bytes:
    """An element of a message as it came, to be put into the answer; its namespaces come along."""
    return str(etree.tostring(element, encoding="unicode", with_tail=False)).encode()


# writing -------------------------------------------------------------------------------------------------------------


def timestamp(at: datetime) -> str:
    """TS of a moment in UTC."""
    return at.strftime("%Y%m%d%H%M%S+0000")


def write_id(name: str, identifier: InstanceId, *, null: str = "NI", **more: str) -> str:
    """An II; an empty one is null."""
    if not identifier.root and not identifier.extension:
        return f'<{name} nullFlavor="{null}"/>'
    parts = {"root": identifier.root, "extension": identifier.extension, **more}
    written = "".join([f' {key}="{attribute(value)}"' for key, value in parts.items() if value])
    return f"<{name}{written}/>"


def element(name: str, content: str) -> str:
    """An element with text; "" where there is none."""
    return f"<{name}>{text(content)}</{name}>" if content else ""


def coded(name: str, code: str, system: str = "") -> str:
    """A coded element; "" where there is no code."""
    if not code:
        return ""
    of = f' codeSystem="{system}"' if system else ""
    return f'<{name} code="{attribute(code)}"{of}/>'


def write_message(
    interaction: InstanceId,
    *,
    id: InstanceId,  # noqa: A002 - the standard's word
    at: datetime,
    sender: Device,
    receiver: Device,
    accept_ack: str,
    processing_code: str = "P",
    acknowledgement: Acknowledgement | None = None,
    content: Sequence[str | bytes] = (),
) -> bytes:
    """A whole message. ``content`` is what follows the wrapper: the control act."""
    name = interaction.extension
    head = (
        f'<{name} xmlns="{NS}" ITSVersion="XML_1.0">{write_id("id", id)}<creationTime value="{timestamp(at)}"/>'
        f'{write_id("interactionId", interaction)}<processingCode code="{attribute(processing_code)}"/>'
        f'<processingModeCode code="T"/><acceptAckCode code="{accept_ack}"/>'
        f'<receiver typeCode="RCV">{_device(receiver)}</receiver><sender typeCode="SND">{_device(sender)}</sender>'
    )
    parts = [head, "" if acknowledgement is None else _acknowledgement(acknowledgement), *content, f"</{name}>"]
    return b"".join([p if isinstance(p, bytes) else p.encode() for p in parts])


def _device(device: Device) -> str:
    agent = ""
    if device.organisation.root:
        agent = (
            '<asAgent classCode="AGNT"><representedOrganization classCode="ORG" determinerCode="INSTANCE">'
            f"{write_id('id', device.organisation)}</representedOrganization></asAgent>"
        )
    return f'<device classCode="DEV" determinerCode="INSTANCE">{write_id("id", device.id)}{agent}</device>'


def _acknowledgement(said: Acknowledgement) -> str:
    details = "".join(
        [
            f'<acknowledgementDetail typeCode="{d.kind}">{coded("code", d.code, _DETAILS)}{element("text", d.text)}'
            f"{element('location', d.location)}</acknowledgementDetail>"
            for d in said.details
        ]
    )
    return (
        f'<acknowledgement><typeCode code="{said.code}"/><targetMessage>{write_id("id", said.target)}'
        f"</targetMessage>{details}</acknowledgement>"
    )

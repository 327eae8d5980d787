"""A peer of the patient index that speaks HL7 v3 over SOAP; every answer is judged by the official schemas."""

from __future__ import annotations

import socket
import uuid
from typing import Any

import peer
from lxml import etree

import hl7v3_messages as v3

ENDPOINTS = {"PRPA_IN201305UV02": "pdq_v3", "QUQI_IN000003UV01": "pdq_v3", "QUQI_IN000003UV01_Cancel": "pdq_v3"}
ACTIONS = {"QUQI_IN000003UV01": f"{v3.NS}:QUQI_IN000003UV01_Continue"}
ANSWERS = {
    "pix_v3": {"MCCI_IN000002UV01", "PRPA_IN201310UV02"},
    "pdq_v3": {"MCCI_IN000002UV01", "PRPA_IN201306UV02"},
    "xcpd": {"MCCI_IN000002UV01", "PRPA_IN201306UV02"},
}


class Fault(Exception):  # noqa: N818
    """A SOAP fault instead of an answer."""


class Index:
    """A node's patient index."""

    def __init__(self, node: peer.Node) -> None:
        self.node = node
        self.own = node.endpoints["assigning_authority"]

    def send(self, message: str, *, to: str = "", action: str = "", valid: bool = True) -> Any:
        """The answer's body."""
        name = etree.QName(etree.fromstring(message)).localname
        to = to or ENDPOINTS.get(name, "pix_v3")
        action = action or ACTIONS.get(name, f"{v3.NS}:{name}")
        response = self.node.http.post(
            self.node.endpoints[to],
            content=peer.envelope(action, message).encode(),
            headers={"Content-Type": f'application/soap+xml; charset=UTF-8; action="{action}"'},
        )
        envelope = etree.fromstring(response.content)
        body = envelope.find(f"{{{peer.SOAP}}}Body")[0]
        if body.tag == f"{{{peer.SOAP}}}Fault":
            raise Fault(body.findtext(f"{{{peer.SOAP}}}Reason/{{{peer.SOAP}}}Text"))
        assert response.status_code == 200
        assert etree.QName(body).localname in ANSWERS[to]
        said = envelope.findtext(f"{{{peer.SOAP}}}Header/{{{peer.WSA}}}Action")
        assert said.split(":")[3] == etree.QName(body).localname
        assert envelope.findtext(f"{{{peer.SOAP}}}Header/{{{peer.WSA}}}RelatesTo")
        if valid:
            v3.assert_valid(body)
        return body

    def add(self, *ids: tuple[str, str], person: str = "", **said: str) -> None:
        """A record that is taken."""
        body = self.send(v3.feed("add", *ids, person=person, **said))
        assert v3.acknowledged(body) == "CA", etree.tostring(body)

    def ids_of(self, identifier: tuple[str, str], *domains: str) -> list[tuple[str, str]]:
        """(value, authority) of all identifiers, or of those in the domains; none where nobody is found."""
        value = f'<value root="{identifier[1]}" extension="{identifier[0]}"/>'
        body = self.send(v3.pix_query(value, *domains))
        return [i for patient in v3.patients(body) for i in v3.ids(patient)]

    def find(self, *parameters: tuple[str, str], **said: str) -> Any:
        """The answer to a demographics query."""
        return self.send(v3.candidates_query(*parameters, **said))

    def over_v2(self, kind: str, *segments: str, version: str = "2.5") -> str:
        """The answer to an HL7 v2 message of these segments after MSH."""
        head = f"MSH|^~\\&|HIS|SZPITAL|OBIEG|REGION|20261122||{kind}|{uuid.uuid4().hex[:20]}|P|{version}||||||UNICODE UTF-8"
        message = "\r".join((head, *segments, ""))
        host, _, port = self.node.endpoints["mllp"].rpartition(":")
        with socket.create_connection((host, int(port)), timeout=20) as connection:
            connection.sendall(b"\x0b" + message.encode() + b"\x1c\r")
            data = b""
            while not data.endswith(b"\x1c\r"):
                piece = connection.recv(65536)
                assert piece, data
                data += piece
        return data.decode()

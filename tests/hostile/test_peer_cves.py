"""Published holes of peers (SOAP, FHIR, files, HL7 v2), each tried on this node: none is here.

Those of SAML and OAuth libraries are in test_hostile_saml.py and test_hostile_jwt.py.
"""

from __future__ import annotations

import io
import zipfile
from pathlib import Path

import peer
import pytest
from field import TWINS, Field, Request, add_path, method, sub
from hl7_cases import Messages, framed, summary

from obieg.wire.xdm import Archive, ArchiveRefused
from obieg.wire.xml import XmlRefused, parse_document, parse_message

pytestmark = pytest.mark.node


def test_cve_2023_43208_mirth_nothing_is_made_of_what_a_message_names(hostile_field: Field) -> None:
    """XStream built the classes that XML named, before anybody had proved who they were (also CVE-2023-37679)."""
    before = hostile_field.kept()
    gadget = (
        "<sorted-set><string>x</string><dynamic-proxy><interface>java.lang.Comparable</interface>"
        '<handler class="org.apache.commons.lang3.event.EventUtils$EventBindingInvocationHandler">'
        "<methodName>exec</methodName></handler></dynamic-proxy></sorted-set>"
    )
    for path in ("/services/registry", "/fhir/Patient", "/api/users", "/"):
        for media in ("application/xml", "application/soap+xml", "application/fhir+xml"):
            reply = hostile_field.send(Request(path, gadget.encode(), (("Content-Type", media),)))
            assert reply.status in (400, 401, 404, 405, 415, 422), (path, reply.status)
            reply.check()
    assert hostile_field.kept() == before


def _zip(name: str) -> bytes:
    data = io.BytesIO()
    with zipfile.ZipFile(data, "w") as archive:
        archive.writestr("INDEX.HTM", "x")
        archive.writestr(name, "evil")
    return data.getvalue()


NAMES = (
    "../evil.txt", "IHE_XDM/../../evil.txt", "/etc/evil", "IHE_XDM/SUBSET01/../../../evil", "..\\evil.txt", "C:\\evil.txt",
    "IHE_XDM-evil/../x", "\\\\server\\share\\x", "IHE_XDM/./../../x",
)  # fmt: skip


@pytest.mark.parametrize("name", NAMES)
def test_cve_2023_24057_and_28465_hapi_zip_slip(tmp_path: Path, name: str) -> None:
    """A name that leaves the folder; and one whose folder only begins like it, which the first mend let through."""
    folder = tmp_path / "IHE_XDM"
    folder.mkdir()
    before = set(tmp_path.rglob("*"))
    assert Archive(io.BytesIO(_zip("README.TXT"))).names == ("INDEX.HTM", "README.TXT"), "the twin"
    with pytest.raises(ArchiveRefused):
        Archive(io.BytesIO(_zip(name)))
    assert set(tmp_path.rglob("*")) == before


@pytest.mark.parametrize("parse", [parse_message, parse_document])
def test_cve_2026_55471_hapi_every_way_to_xml_is_the_hardened_one(parse: object) -> None:
    """One way was hardened, its sibling was not (also CVE-2024-51132, CVE-2024-52007)."""
    assert callable(parse)
    for text in (
        '<!DOCTYPE a [<!ENTITY x SYSTEM "file:///etc/passwd">]><a>&x;</a>',
        '<!DOCTYPE a SYSTEM "http://a/"><a/>',
    ):
        with pytest.raises(XmlRefused):
            parse(text.encode())


@pytest.mark.parametrize(
    "value", ["name,(SELECT 1)", "name;DROP TABLE patient", "-(CASE WHEN 1=1 THEN 1 END)", "1", "name DESC--"]
)
@pytest.mark.parametrize("twin", ["strict_search", "people", "organisations"])
def test_cve_2026_24908_openemr_sort_is_no_sql(hostile_field: Field, twin: str, value: str) -> None:
    from urllib.parse import quote

    reply = hostile_field.send(add_path(f"&_sort={quote(value)}")(TWINS[twin][0](hostile_field)))
    reply.check()
    assert reply.status == 400


@pytest.mark.parametrize(
    "path", ["/portal/account/register.php", "/fhir/Patient/../../settings.toml", "/interface/main/main.php?auth=1"]
)
def test_openemr_2018_no_page_is_beside_the_proof(hostile_field: Field, path: str) -> None:
    assert hostile_field.send(Request(path, b"", (), "GET")).status in (400, 404)


def test_eu_dss_2019_no_file_is_read_through_xml(hostile_field: Field) -> None:
    request = TWINS["query"][0](hostile_field)
    hidden = sub(
        "<s:Body>", '<s:Body xmlns:xi="http://www.w3.org/2001/XInclude"><xi:include href="/etc/passwd" parse="text"/>'
    )
    reply = hostile_field.send(hidden(request))
    assert reply.status == 400
    assert b"root:" not in reply.body


def test_log4shell_nothing_in_a_message_is_looked_up(hostile_field: Field) -> None:
    """CVE-2021-44228: a text that is only written down stays a text."""
    text = "${jndi:ldap://127.0.0.1:9/a}"
    message = Messages(hostile_field, peer.number()).feed.replace("OBCY", text)
    assert summary(hostile_field.mllp(framed(message))).startswith("A")
    reply = hostile_field.send(Request(f"/fhir/Patient?family={text}", b"", (("User-Agent", text),), "GET"))
    assert reply.status in (200, 400, 422)


def test_hl7magic_2023_what_is_changed_on_the_way(hostile_field: Field) -> None:
    """DEF CON 31: MLLP has no proof of its own; a message cut, doubled or joined with another is refused all the same."""
    message = Messages(hostile_field, peer.number()).feed
    before = hostile_field.kept()
    for changed in (message[:-20].replace("\rPID", "\rPI"), message + message, message.replace("\rEVN", "\x1c\rEVN")):
        assert not summary(hostile_field.mllp(framed(changed))).startswith("AA")
    assert hostile_field.kept() == before


def test_spring4shell_parameters_reach_no_object(hostile_field: Field) -> None:
    """CVE-2022-22965: parameters named like the inside of a program."""
    for name in ("class.module.classLoader", "__class__.__init__", "constructor.prototype"):
        request = add_path(f"&{name}=x")(TWINS["people"][0](hostile_field))
        assert hostile_field.send(request).status == 400


def test_cve_2017_5638_struts_content_type_is_no_expression(hostile_field: Field) -> None:
    request = TWINS["query"][0](hostile_field)
    reply = hostile_field.send(
        Request(request.path, request.body, (("Content-Type", "%{(#_='multipart/form-data')}"),))
    )
    assert reply.status == 415


def test_method_tunnels_are_not_taken(hostile_field: Field) -> None:
    """Checks of a method that another header undoes (several products' authorisation by-passes)."""
    request = method("POST")(TWINS["read_document"][0](hostile_field))
    for name in ("X-HTTP-Method", "X-HTTP-Method-Override", "X-Method-Override"):
        reply = hostile_field.send(Request(request.path, b"", (*request.headers, (name, "GET")), "POST"))
        assert reply.status == 405

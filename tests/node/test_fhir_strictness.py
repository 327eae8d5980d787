"""What a careful reader refuses, in JSON and in XML alike: nothing of it is taken in, and the refusal says why."""

from __future__ import annotations

from collections.abc import Iterator

import fhir_peer
import peer
import pytest
from fhir_peer import JSON, OID, XML, FhirPeer, issues
from peer import Node

pytestmark = pytest.mark.node


@pytest.fixture(scope="module")
def fhir(node: Node) -> Iterator[FhirPeer]:
    with fhir_peer.opened(node) as found:
        yield found


def in_json(inner: str) -> str:
    """A Patient that is otherwise fit to be fed."""
    return f'{{"resourceType":"Patient","identifier":[{{"system":"{OID}AUTHORITY","value":"NUMBER"}}],"name":[{{"family":"X"}}]{inner}}}'


def in_xml(inner: str, head: str = "") -> str:
    identifier = f'<identifier><system value="{OID}AUTHORITY"/><value value="NUMBER"/></identifier>'
    return f'{head}<Patient xmlns="http://hl7.org/fhir">{identifier}<name><family value="X"/></name>{inner}</Patient>'


DEEP_JSON = ',"extension":' + '[{"url":"http://a","extension":' * 70 + "[]" + "}]" * 70
DEEP_XML = '<extension url="http://a">' * 70 + "</extension>" * 70
BOMB = '<!DOCTYPE x [<!ENTITY a "aaaaaaaaaa"><!ENTITY b "&a;&a;&a;&a;&a;&a;&a;&a;&a;&a;">]>'
# What is wrong -> the same in both formats (where the format has it).
BAD: dict[str, tuple[str, str]] = {
    "an element twice": (',"active":true,"active":true', '<active value="true"/><active value="true"/>'),
    "an element twice, disguised": (',"active":true,"\\u0061ctive":false', '<active value="true"/><active id="a" value="false"/>'),
    "an element twice, further in": (
        ',"contact":[{"gender":"male","gender":"female"}]',
        '<contact><gender value="male"/><gender value="female"/></contact>',
    ),
    "one array for a single value": (',"birthDate":["1990"]', '<birthDate value="1990"/><birthDate value="1991"/>'),
    "an integer beyond range": (',"multipleBirthInteger":2147483648', '<multipleBirthInteger value="2147483648"/>'),
    "an integer far beyond range": (
        f',"multipleBirthInteger":{"9" * 4000}', f'<multipleBirthInteger value="{"9" * 4000}"/>',
    ),
    "an integer that is none": (',"multipleBirthInteger":1.0', '<multipleBirthInteger value="1.0"/>'),
    "a decimal beyond range": (
        ',"extension":[{"url":"http://a","valueDecimal":1e400}]',
        '<extension url="http://a"><valueDecimal value="1e400"/></extension>',
    ),
    "a decimal with too many digits": (
        f',"extension":[{{"url":"http://a","valueDecimal":0.{"1" * 400}}}]',
        f'<extension url="http://a"><valueDecimal value="0.{"1" * 400}"/></extension>',
    ),
    "no number": (
        ',"extension":[{"url":"http://a","valueDecimal":NaN}]',
        '<extension url="http://a"><valueDecimal value="NaN"/></extension>',
    ),
    "too deep": (DEEP_JSON, DEEP_XML),
    "a boolean that is a text": (',"active":"true"', '<active value="TRUE"/>'),
    "two of a choice": (
        ',"deceasedBoolean":true,"deceasedDateTime":"2020"', '<deceasedBoolean value="true"/><deceasedDateTime value="2020"/>',
    ),
    "an unknown element": (',"colour":"red"', '<colour value="red"/>'),
    "an unknown attribute or key within": (',"name":[{"family":"X","href":"x"}]', '<name href="x"><family value="X"/></name>'),
    "an empty value": (',"language":""', '<language value=""/>'),
    "an element of nothing": (',"maritalStatus":{}', "<maritalStatus/>"),
    "text beside elements": (',"":"x"', "loose"),
    "a day that is none": (',"birthDate":"1990-13-01"', '<birthDate value="1990-13-01"/>'),
    "a character that FHIR has not": (',"language":"a\\u0001"', '<language value="a&#1;"/>'),
    "a whole resource in a wrong place": (',"managingOrganization":{"resourceType":"Organization"}', "<managingOrganization><Organization/></managingOrganization>"),
    "broken base64": (
        ',"photo":[{"contentType":"image/png","data":"QUJ"}]',
        '<photo><contentType value="image/png"/><data value="QUJ"/></photo>',
    ),
}  # fmt: skip


@pytest.mark.parametrize("media", [JSON, XML])
@pytest.mark.parametrize("bad", BAD)
def test_refused_and_not_taken_in(fhir: FhirPeer, bad: str, media: str) -> None:
    number = peer.number()
    inner = BAD[bad][media == XML]
    text = in_xml(inner) if media == XML else in_json(inner)
    if bad == "an unknown attribute or key within" and media == JSON:
        text = text.replace('"name":[{"family":"X"}],', "", 1)
    text = text.replace("AUTHORITY", fhir.authority).replace("NUMBER", number)
    parameters = {"identifier": fhir.token(number)}
    answer = fhir.ask("PUT", "Patient", params=parameters, content=text.encode(), headers={"Content-Type": media})
    assert answer.status_code == 400, (answer.status_code, answer.text)
    assert issues(answer)[0][0] == "error"
    assert answer.json()["issue"][0]["diagnostics"]
    assert fhir.ask("GET", f"Patient/{number}").status_code == 404


@pytest.mark.parametrize("head", [BOMB, "<!DOCTYPE Patient>", '<?xml-stylesheet href="x"?>'])
def test_what_xml_alone_has(fhir: FhirPeer, head: str) -> None:
    number = peer.number()
    text = in_xml("", head).replace("AUTHORITY", fhir.authority).replace("NUMBER", number)
    parameters = {"identifier": fhir.token(number)}
    answer = fhir.ask("PUT", "Patient", params=parameters, content=text.encode(), headers={"Content-Type": XML})
    assert answer.status_code == 400
    assert fhir.ask("GET", f"Patient/{number}").status_code == 404


def test_strict_and_lenient(fhir: FhirPeer) -> None:
    number = peer.number()
    fhir.fed({
        "resourceType": "Patient", "identifier": [{"system": f"{OID}{fhir.authority}", "value": number}], "name": [{"family": "X"}],
    })  # fmt: skip
    asked = {"identifier": fhir.token(number), "shoe-size": "42"}
    for prefer in ("", "handling=lenient", "return=minimal"):
        answer = fhir.ask("GET", "Patient", params=asked, headers={"Prefer": prefer})
        assert answer.status_code == 200
        [self_link] = [link["url"] for link in answer.json()["link"] if link["relation"] == "self"]
        assert "shoe-size" not in self_link
    strict = fhir.ask("GET", "Patient", params=asked, headers={"Prefer": "return=minimal; handling=strict"})
    assert (strict.status_code, issues(strict)) == (400, [("error", "not-supported", "http.shoe-size")])


def test_conditions_of_a_read(fhir: FhirPeer) -> None:
    number = peer.number()
    resource = {
        "resourceType": "Patient", "identifier": [{"system": f"{OID}{fhir.authority}", "value": number}], "name": [{"family": "X"}],
    }  # fmt: skip
    fhir.fed(resource)
    first = fhir.ask("GET", f"Patient/{number}")
    etag = first.headers["etag"]
    assert etag == f'W/"{first.json()["meta"]["versionId"]}"'
    for known in (etag, f'W/"0", {etag}', "*", etag.removeprefix("W/")):
        answer = fhir.ask("GET", f"Patient/{number}", headers={"If-None-Match": known})
        assert (answer.status_code, answer.content, answer.headers["etag"]) == (304, b"", etag)
    assert fhir.ask("GET", f"Patient/{number}", headers={"If-None-Match": 'W/"0"'}).status_code == 200
    since = fhir.ask("GET", f"Patient/{number}", headers={"If-Modified-Since": first.headers["last-modified"]})
    assert since.status_code == 304
    fhir.fed({**resource, "birthDate": "1990"})
    assert fhir.ask("GET", f"Patient/{number}", headers={"If-None-Match": etag}).status_code == 200


def test_a_condition_in_the_wrong_place_is_not_overlooked(fhir: FhirPeer) -> None:
    """Who says If-None-Exist to an update expects what will not happen."""
    number = peer.number()
    resource = {
        "resourceType": "Patient", "identifier": [{"system": f"{OID}{fhir.authority}", "value": number}], "name": [{"family": "X"}],
    }  # fmt: skip
    answer = fhir.put(resource, **{"If-None-Exist": "identifier=1"})
    assert (answer.status_code, issues(answer)[0][2]) == (422, "http.If-None-Exist")
    several = fhir.put(resource, **{"If-Match": 'W/"1", W/"2"'})
    assert (several.status_code, issues(several)[0][2]) == (400, "http.If-Match")
    assert fhir.ask("GET", f"Patient/{number}").status_code == 404

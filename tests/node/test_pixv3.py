"""PIXV3 against a running node: feeds (ITI-44) and queries (ITI-45), beside the HL7 v2 face of the same index."""

from __future__ import annotations

import base64
from typing import Any

import peer
import pytest
from lxml import etree
from peer_v3 import Fault, Index

import hl7v3_messages as v3

pytestmark = [pytest.mark.node, pytest.mark.filterwarnings("ignore::DeprecationWarning")]

PESEL = "2.16.840.1.113883.3.4424.1.1.616"


@pytest.fixture
def index(node: peer.Node) -> Index:
    return Index(node)


@pytest.fixture
def hospital() -> str:
    return peer.oid()


def cx(identifier: tuple[str, str]) -> str:
    return f"{identifier[0]}^^^&{identifier[1]}&ISO"


def person(family: str, given: str = "Anna", born: str = "19700228", sex: str = "F") -> str:
    return v3.name(family, given) + f'<administrativeGenderCode code="{sex}"/><birthTime value="{born}"/>'


def test_who_is_added_is_known_by_all_identifiers(index: Index, hospital: str) -> None:
    number, card = (peer.number(), hospital), (peer.number(), peer.oid())
    others = f'<asOtherIDs classCode="CIT">{v3.ii("id", card)}<scopingOrganization classCode="ORG" determinerCode="INSTANCE">'
    others += f'<id root="{card[1]}"/></scopingOrganization></asOtherIDs>'
    index.add(number, person=person("Żółć") + others)
    found = index.ids_of(number)
    assert set(found) >= {number, card}
    [own] = [i for i in found if i[1] == index.own]
    assert found[-1] == own
    assert index.ids_of(card, hospital) == [number]
    assert index.ids_of(own, hospital, card[1])
    assert set(index.ids_of(own, hospital, card[1])) == {number, card}


def test_a_revision_changes_what_it_says_and_leaves_the_rest(index: Index, hospital: str) -> None:
    number, family = (peer.number(), hospital), f"Zmienna{peer.number()}"
    index.add(number, person=person(family) + "<addr><city>Łódź</city></addr>")
    body = index.send(v3.feed("revise", number, person=person(f"{family}a")))
    assert v3.acknowledged(body) == "CA"
    [patient] = v3.patients(index.find(("livingSubjectId", f'<value root="{number[1]}" extension="{number[0]}"/>')))
    assert [f.text for f in patient.iter(f"{v3.N}family")] == [f"{family}a"]
    assert [c.text for c in patient.iter(f"{v3.N}city")] == ["Łódź"]


def test_a_merge(index: Index, hospital: str) -> None:
    survivor, old = (peer.number(), hospital), (peer.number(), hospital)
    index.add(survivor, person=person("Pierwsza"))
    index.add(old, person=person("Druga", "Ewa", "19900101"))
    body = index.send(v3.feed("merge", survivor, merged=old))
    assert v3.acknowledged(body) == "CA", etree.tostring(body)
    assert survivor in index.ids_of(survivor)
    body = index.send(v3.pix_query(f'<value root="{old[1]}" extension="{old[0]}"/>'))
    assert (v3.acknowledged(body), v3.response(body)) == ("AE", "AE")
    again = index.send(v3.feed("merge", survivor, merged=old))
    assert v3.acknowledged(again) == "CA", "the source missed the acknowledgement"


def test_a_merge_of_what_nobody_has_is_refused_at_its_place(index: Index, hospital: str) -> None:
    survivor = (peer.number(), hospital)
    index.add(survivor)
    body = index.send(v3.feed("merge", survivor, merged=("none", hospital)))
    assert v3.acknowledged(body) == "CE"
    [(code, where)] = v3.details(body)
    assert code == "204"
    assert where.endswith("/replacementOf/priorRegistration/subject1/priorRegisteredRole/id")


def test_one_index_has_both_faces(index: Index, hospital: str) -> None:
    by_v3, by_v2 = (peer.number(), hospital), (peer.number(), hospital)
    family = f"DWULICA{peer.number()}"
    index.add(by_v3, person=person(family))
    answer = index.over_v2("QBP^Q23^QBP_Q21", f"QPD|IHE PIX Query|t1|{cx(by_v3)}", "RCP|I")
    assert "QAK|t1|OK" in answer
    assert f"{by_v3[0]}^^^&{hospital}&ISO" in answer
    answer = index.over_v2("QBP^Q22^QBP_Q21", f"QPD|IHE PDQ Query|t2|@PID.5.1^{family}", "RCP|I")
    assert f"|{family}^Anna" in answer
    answer = index.over_v2(
        "ADT^A04^ADT_A01", "EVN|A04|20261122", f"PID|||{cx(by_v2)}||{family}^ZOFIA||19510101|F", version="2.3.1"
    )
    assert "MSA|AA" in answer
    assert by_v2 in index.ids_of(by_v2)
    found = v3.patients(index.find(v3.value_name(family), v3.born("1951")))
    assert [by_v2 in v3.ids(p) for p in found] == [True]


def test_what_was_fed_by_one_face_is_updated_and_merged_by_the_other(index: Index, hospital: str) -> None:
    first, second = (peer.number(), hospital), (peer.number(), hospital)
    index.add(first, person=person("Nowak"))
    pid = f"PID|||{cx(second)}||NOWAK^EWA||19900101|F"
    assert "MSA|AA" in index.over_v2("ADT^A04^ADT_A01", "EVN|A04|20261122", pid, version="2.3.1")
    assert v3.acknowledged(index.send(v3.feed("merge", first, merged=second))) == "CA"
    answer = index.over_v2("QBP^Q23^QBP_Q21", f"QPD|IHE PIX Query|t1|{cx(second)}", "RCP|I")
    assert "QAK|t1|AE" in answer


def test_no_identifier_in_a_known_domain(index: Index, hospital: str) -> None:
    here, elsewhere = (peer.number(), hospital), (peer.number(), peer.oid())
    index.add(here, person=person("Tutejsza"))
    index.add(elsewhere, person=person("Inna", "Ewa", "19550505"))
    value = f'<value root="{hospital}" extension="{here[0]}"/>'
    body = index.send(v3.pix_query(value, elsewhere[1]))
    assert (v3.acknowledged(body), v3.response(body), v3.patients(body)) == ("AA", "NF", [])


def test_unknown_identifier_and_unknown_domains(index: Index, hospital: str) -> None:
    index.add((peer.number(), hospital))
    unknown = peer.oid()
    body = index.send(v3.pix_query(f'<value root="{hospital}" extension="none"/>', hospital, unknown))
    assert (v3.acknowledged(body), v3.response(body)) == ("AE", "AE")
    parameters = "/PRPA_IN201309UV02/controlActProcess/queryByParameter/parameterList"
    assert v3.details(body) == [
        ("204", f"{parameters}/patientIdentifier/value"),
        ("204", f"{parameters}/dataSource[2]/value"),
    ]
    body = index.send(v3.pix_query(f'<value root="{unknown}" extension="1"/>'))
    assert v3.details(body) == [("204", f"{parameters}/patientIdentifier/value")]


@pytest.mark.parametrize(
    ("change", "code"),
    [
        (lambda m: m.replace('<id root="1.2.616.77.1"/>', '<id nullFlavor="UNK"/>'), "CE"),
        (lambda m: m.replace('extension="PRPA_IN201301UV02"', 'extension="PRPA_IN201399UV02"'), "CR"),
        (lambda m: m.replace("<patientPerson", "<patientPerson x='1'").replace("19700228", "19700231"), "CE"),
        (lambda m: m.replace("<family>", "<family>" + "x" * 300), "CE"),
        (lambda m: m.replace("<name>", "<name/>" * 101 + "<name>"), "CE"),
        (lambda m: m.replace('code="F"', 'code="?"'), "CE"),
    ],
)
def test_a_bad_feed_is_refused_and_nothing_changes(index: Index, hospital: str, change: Any, code: str) -> None:
    number = (peer.number(), hospital)
    body = index.send(change(v3.feed("add", number, person=person("Zła"))))
    assert v3.acknowledged(body) == code
    assert v3.details(body)
    assert index.node.rows("SELECT count(*) FROM patient_locator WHERE value = %s", number[0]) == [(0,)]


def test_what_is_no_such_message_is_answered_all_the_same(index: Index) -> None:
    message = v3.feed("add", ("1", "1.2"))
    revise = f"{v3.NS}:PRPA_IN201302UV02"
    assert v3.acknowledged(index.send(message, action=revise)) == "CR"
    with pytest.raises(Fault, match="not served"):
        index.send(message, action=f"{v3.NS}:PRPA_IN201399UV02")
    with pytest.raises(Fault, match="not served"):
        index.send(message, to="pdq_v3", action=f"{v3.NS}:PRPA_IN201301UV02")


def test_feeds_and_queries_are_audited_once_with_the_patient_and_the_message(index: Index, hospital: str) -> None:
    number = (peer.number(), hospital)
    last = index.node.rows("SELECT coalesce(max(audit_id), 0) FROM audit_event")[0][0]
    index.add(number, id="1.2.616.77.9.1")
    own = next(i for i in index.ids_of(number) if i[1] == index.own)
    index.send(v3.feed("add"))
    fed, asked, refused = index.node.audits(last)
    assert [a[1] for a in (fed, asked, refused)] == ["ITI-44", "ITI-45", "ITI-44"]
    message = etree.fromstring(fed[3])
    objects = message.findall("ParticipantObjectIdentification")
    assert objects[0].get("ParticipantObjectID") == f"{own[0]}^^^&{own[1]}&ISO"
    assert next(d.get("type") for d in message.iter("ParticipantObjectDetail")) == "II"
    assert base64.b64decode(message.find(".//ParticipantObjectDetail").get("value")) == b"1.2.616.77.9.1"
    [query] = etree.fromstring(asked[3]).iter("ParticipantObjectQuery")
    assert b"<queryByParameter" in base64.b64decode(query.text)


# zeep, with the services that IPF publishes ---------------------------------------------------------------------------


def test_zeep_feeds_and_asks(index: Index, hospital: str) -> None:
    number = (peer.number(), hospital)
    with_zeep(index, "iti44/iti44-pix-raw", "pix_v3", "PIXManager_PRPA_IN201301UV02", v3.feed("add", number))
    query = v3.pix_query(f'<value root="{hospital}" extension="{number[0]}"/>', hospital)
    body = with_zeep(index, "iti45/iti45-raw", "pix_v3", "PIXManager_PRPA_IN201309UV02", query)
    [patient] = v3.patients(body)
    assert v3.ids(patient) == [number]


def with_zeep(index: Index, wsdl: str, endpoint: str, operation: str, message: str) -> Any:
    """What zeep reads from the answer, after it has put the message's content into an envelope of its own."""
    zeep = pytest.importorskip("zeep")
    path = v3.RESOURCES / "wsdl" / f"{wsdl}.wsdl"
    if not path.exists():
        pytest.skip("the WSDLs (../shared/data/ihe/ipf-wsdl) are not there")
    client = zeep.Client(str(path), transport=zeep.Transport(timeout=20))
    [binding] = [n for n, b in client.wsdl.bindings.items() if "Soap12" in type(b).__name__]
    service = client.create_service(binding, index.node.endpoints[endpoint])
    found = []

    class Content(zeep.Plugin):  # type: ignore[misc, name-defined]
        """The types are open: the content is put in, and taken out, as it is."""

        def egress(self, envelope: Any, headers: Any, _operation: Any, _options: Any) -> Any:
            body = envelope.find(f"{{{peer.SOAP}}}Body")
            body.replace(body[0], etree.fromstring(message))
            return envelope, headers

        def ingress(self, envelope: Any, headers: Any, _operation: Any) -> Any:
            found.append(etree.fromstring(etree.tostring(envelope.find(f"{{{peer.SOAP}}}Body")[0])))
            return envelope, headers

    client.plugins.append(Content())
    service[operation](None)
    v3.assert_valid(found[0])
    return found[0]

"""PDQV3 against a running node: queries, continuation and cancel (ITI-47)."""

from __future__ import annotations

import base64
from typing import Any

import peer
import pytest
from lxml import etree
from peer_v3 import Index
from test_pixv3 import person, with_zeep

import hl7v3_messages as v3

pytestmark = [pytest.mark.node, pytest.mark.filterwarnings("ignore::DeprecationWarning")]


@pytest.fixture
def index(node: peer.Node) -> Index:
    return Index(node)


@pytest.fixture
def hospital() -> str:
    return peer.oid()


def unusual() -> str:
    """A family name that nobody else in this laboratory has."""
    return "Q" + "".join("bcdfghjklm"[int(d)] + "a" for d in peer.number()[-8:] if d.isdigit())


@pytest.fixture
def family(index: Index, hospital: str) -> str:
    """Of five people, each with a birth date and a given name of their own."""
    name = unusual()
    for number, given in enumerate(("Adam", "Bogna", "Cezary", "Daria", "Edward")):
        sex = "F" if given.endswith("a") else "M"
        said = person(name, given, f"19{50 + 7 * number}0{number + 1}1{number}", sex)
        index.add((f"{name}{number}", hospital), person=said)
    return name


def numbers(body: Any, hospital: str) -> list[str]:
    return [value[-1] for p in v3.patients(body) for value, root in v3.ids(p) if root == hospital]


def test_by_name_birth_date_and_sex(index: Index, hospital: str, family: str) -> None:
    body = index.find(v3.value_name(family))
    assert sorted(numbers(body, hospital)) == list("01234")
    assert v3.quantities(body) == (5, 5, 0)
    assert (v3.acknowledged(body), v3.response(body)) == ("AA", "OK")
    assert numbers(index.find(v3.value_name(family, "Cezary")), hospital) == ["2"]
    assert numbers(index.find(v3.value_name(family), v3.born("1964")), hospital) == ["2"]
    women = ("livingSubjectAdministrativeGender", '<value code="F"/>')
    assert sorted(numbers(index.find(v3.value_name(family), women), hospital)) == ["1", "3"]
    between = ("livingSubjectBirthTime", '<value><low value="1957"/><high value="1964"/></value>')
    assert sorted(numbers(index.find(v3.value_name(family), between), hospital)) == ["1", "2"]
    assert len(numbers(index.find(v3.value_name(f"{family[:-2]}*")), hospital)) == 5


def test_nobody(index: Index) -> None:
    body = index.find(v3.value_name(unusual()))
    assert (v3.acknowledged(body), v3.response(body), v3.quantities(body)) == ("AA", "NF", (0, 0, 0))


def test_only_the_domains_asked_for_and_null_where_there_is_none(index: Index, hospital: str, family: str) -> None:
    clinic = peer.oid()
    index.add((f"{family}9", clinic), person=person(unusual()))
    body = index.find(v3.value_name(family, "Adam"), v3.scoped(hospital), v3.scoped(clinic))
    [patient] = v3.patients(body)
    assert v3.ids(patient) == [(f"{family}0", hospital)]
    [other] = patient.iter(f"{v3.N}asOtherIDs")
    assert (v3.code(other, "id", "nullFlavor"), v3.code(other, "scopingOrganization/id", "root")) == ("NA", clinic)


def test_an_unknown_domain_is_named(index: Index, hospital: str, family: str) -> None:
    body = index.find(v3.value_name(family), v3.scoped(hospital), v3.scoped(peer.oid()))
    assert (v3.acknowledged(body), v3.response(body), v3.patients(body)) == ("AE", "AE", [])
    where = "/PRPA_IN201305UV02/controlActProcess/queryByParameter/parameterList/otherIDsScopingOrganization[2]/value"
    assert v3.details(body) == [("204", where)]


def test_by_identifier(index: Index, hospital: str, family: str) -> None:
    def by(*values: str) -> list[str]:
        ids = "".join(f'<value root="{hospital}" extension="{v}"/>' for v in values)
        return sorted(numbers(index.find(("livingSubjectId", ids)), hospital))

    assert by(f"{family}1") == ["1"]
    assert by(f"{family}1", f"{family}3") == ["1", "3"]
    assert by("none") == []


def test_page_by_page_nobody_is_lost_or_twice(index: Index, hospital: str, family: str) -> None:
    name = peer.number()
    body = index.find(v3.value_name(family), count="2", query_id=name)
    assert v3.quantities(body) == (5, 2, 3)
    found = numbers(body, hospital)
    body = index.send(v3.continuation(name, start=3, count=2))
    assert v3.quantities(body) == (5, 2, 1)
    assert v3.code(body, "controlActProcess/queryAck/queryId", "extension") == name
    found += numbers(body, hospital)
    assert numbers(index.send(v3.continuation(name, start=3, count=2)), hospital) == found[2:], "asked again"
    body = index.send(v3.continuation(name, start=5, count=2))
    assert v3.quantities(body) == (5, 1, 0)
    found += numbers(body, hospital)
    assert sorted(found) == list("01234")


def test_without_a_number_it_goes_on_after_the_last(index: Index, hospital: str, family: str) -> None:
    name = peer.number()
    found = numbers(index.find(v3.value_name(family), count="2", query_id=name), hospital)
    found += numbers(index.send(v3.continuation(name, count=2)), hospital)
    found += numbers(index.send(v3.continuation(name, count=2)), hospital)
    assert sorted(found) == list("01234")


def test_after_the_cancel_there_is_nothing_to_go_on_with(index: Index, family: str) -> None:
    name = peer.number()
    index.find(v3.value_name(family), count="2", query_id=name)
    assert v3.acknowledged(index.send(v3.continuation(name, cancel=True))) == "CA"
    body = index.send(v3.continuation(name, start=3))
    assert (v3.acknowledged(body), v3.response(body), v3.patients(body)) == ("AE", "AE", [])
    assert [code for code, _ in v3.details(body)] == ["204"]
    assert v3.acknowledged(index.send(v3.continuation(name, cancel=True))) == "CE"


def test_a_query_that_never_was_or_is_another_askers(index: Index, family: str) -> None:
    name = peer.number()
    body = index.send(v3.continuation(name, start=3))
    assert (v3.acknowledged(body), v3.response(body)) == ("AE", "AE")
    index.find(v3.value_name(family), count="2", query_id=name)
    body = index.send(v3.continuation(name, start=3, sender="1.2.616.77.9"))
    assert (v3.acknowledged(body), v3.response(body)) == ("AE", "AE")


def test_a_degree_of_match(index: Index, hospital: str, family: str) -> None:
    assert numbers(index.find(v3.value_name(family, "Adam"), minimum="90"), hospital) == ["0"]
    similar = index.find(v3.value_name(family, "Adma", use="SRCH"))
    scores = [int(v3.code(p, "subjectOf1/queryMatchObservation/value", "value")) for p in v3.patients(similar)]
    strict = index.find(v3.value_name(family, "Adma", use="SRCH"), minimum="100")
    assert len(v3.patients(strict)) == len([s for s in scores if s == 100])


@pytest.mark.parametrize(
    "parameters",
    [[], [v3.value_name("*")], [("livingSubjectAdministrativeGender", '<value code="F"/>')], [v3.value_name("K*")]],
)
def test_a_flood_is_refused_or_capped(index: Index, parameters: list[tuple[str, str]]) -> None:
    body = index.send(v3.candidates_query(*parameters), valid=bool(parameters))
    assert (v3.acknowledged(body), v3.response(body)) in [("AE", "AE"), ("AA", "OK"), ("AA", "NF")]
    assert v3.acknowledged(body) == "AE" or len(v3.patients(body)) <= 500


def test_the_query_is_audited_with_whom_it_found(index: Index, family: str) -> None:
    last = index.node.rows("SELECT coalesce(max(audit_id), 0) FROM audit_event")[0][0]
    index.find(v3.value_name(family, "Adam"))
    [record] = index.node.audits(last)
    assert record[1] == "ITI-47"
    message = etree.fromstring(record[3])
    kinds = [o.get("ParticipantObjectTypeCodeRole") for o in message.findall("ParticipantObjectIdentification")]
    assert kinds == ["1", "24"]
    query = base64.b64decode(message.find(".//ParticipantObjectQuery").text).decode()
    assert family in query


def test_zeep_asks_goes_on_and_cancels(index: Index, hospital: str, family: str) -> None:
    name = peer.number()
    query = v3.candidates_query(v3.value_name(family), count="2", query_id=name)
    body = with_zeep(index, "iti47/iti47-raw", "pdq_v3", "PDSupplier_PRPA_IN201305UV02", query)
    found = numbers(body, hospital)
    more = v3.continuation(name, start=3, count=2)
    body = with_zeep(index, "iti47/iti47-raw", "pdq_v3", "PDSupplier_QUQI_IN000003UV01_Continue", more)
    found += numbers(body, hospital)
    assert len(set(found)) == 4
    cancel = v3.continuation(name, cancel=True)
    body = with_zeep(index, "iti47/iti47-raw", "pdq_v3", "PDSupplier_QUQI_IN000003UV01_Cancel", cancel)
    assert v3.acknowledged(body) == "CA"


def test_our_own_wsdl_has_the_three_operations(index: Index) -> None:
    zeep = pytest.importorskip("zeep")
    client = zeep.Client(f"{index.node.endpoints['pdq_v3']}?wsdl")
    [service] = client.wsdl.services.values()
    [port] = service.ports.values()
    assert sorted(port.binding._operations) == [
        "PDSupplier_PRPA_IN201305UV02",
        "PDSupplier_QUQI_IN000003UV01_Cancel",
        "PDSupplier_QUQI_IN000003UV01_Continue",
    ]

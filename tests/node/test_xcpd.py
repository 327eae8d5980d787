"""XCPD against a running node: another community asks (ITI-55)."""

from __future__ import annotations

import itertools
from typing import Any

import peer
import pytest
from lxml import etree
from peer_v3 import Fault, Index
from test_pdqv3 import unusual
from test_pixv3 import PESEL, person, with_zeep

import hl7v3_messages as v3
from obieg.domain import pesel

pytestmark = [pytest.mark.node, pytest.mark.filterwarnings("ignore::DeprecationWarning")]


@pytest.fixture
def index(node: peer.Node) -> Index:
    return Index(node)


_SERIALS = itertools.count(1000, 2)  # even: a woman's


def fresh_pesel() -> str:
    """A valid number of a woman born on 28 February 1970."""
    serial = f"700228{next(_SERIALS):04}"
    return next(f"{serial}{control}" for control in range(10) if pesel.is_valid(f"{serial}{control}"))


def discover(index: Index, *parameters: tuple[str, str], **said: Any) -> Any:
    return index.send(v3.candidates_query(*parameters, **said), to="xcpd", action=v3.XCPD_ACTION)


def by_pesel(number: str) -> tuple[str, str]:
    return "livingSubjectId", f'<value root="{PESEL}" extension="{number}"/>'


def known(index: Index) -> tuple[str, str, str]:
    """Family name, PESEL and hospital of somebody who is known here."""
    family, number, hospital = unusual(), fresh_pesel(), peer.oid()
    others = f'<asOtherIDs classCode="CIT">{v3.ii("id", (number, PESEL))}<scopingOrganization classCode="ORG" '
    others += f'determinerCode="INSTANCE"><id root="{PESEL}"/></scopingOrganization></asOtherIDs>'
    index.add((peer.number(), hospital), person=person(family) + others)
    return family, number, hospital


def without_what_is_always_new(body: Any) -> bytes:
    for name in ("id", "creationTime", "acknowledgement"):
        body.remove(body.find(f"{v3.N}{name}"))
    return etree.tostring(body)


def test_a_shared_identifier_and_demographics_find_the_patient(index: Index) -> None:
    family, number, hospital = known(index)
    body = discover(index, v3.value_name(family, "Anna"), v3.born("19700228"), by_pesel(number))
    assert (v3.acknowledged(body), v3.response(body)) == ("AA", "OK")
    [patient] = v3.patients(body)
    [(_, authority)] = v3.ids(patient)
    assert authority == index.own
    assert [i for o in patient.iter(f"{v3.N}asOtherIDs") for i in v3.ids(o)] == [(number, PESEL)]
    assert hospital not in etree.tostring(body).decode(), "another community has no business with it"
    [custodian] = body.iter(f"{v3.N}custodian")
    assert v3.ids(custodian[0]) == [("", index.node.endpoints["home_community_id"])]
    assert v3.code(custodian[0], "code") == "NotHealthDataLocator"


def test_a_shared_identifier_alone(index: Index) -> None:
    _, number, _ = known(index)
    body = discover(index, by_pesel(number))
    assert (v3.acknowledged(body), v3.response(body), len(v3.patients(body))) == ("AA", "OK", 1)


def test_nobody(index: Index) -> None:
    body = discover(index, v3.value_name(unusual(), "Jan"), v3.born("19330101"))
    assert (v3.acknowledged(body), v3.response(body)) == ("AA", "NF")
    assert not list(body.iter(f"{v3.N}reasonOf"))


def test_a_withdrawn_patient_and_one_who_never_was_answer_alike(index: Index) -> None:
    """Whoever was merged away is nobody; the answers cannot be told apart."""
    hospital = peer.oid()
    old, survivor = (peer.number(), hospital), (peer.number(), hospital)
    index.add(survivor, person=person(unusual(), "Ewa", "19110101"))
    index.add(old, person=person(unusual(), "Iza", "19220202"))
    assert v3.acknowledged(index.send(v3.feed("merge", survivor, merged=old))) == "CA"

    def asked(value: str) -> bytes:
        query = ("livingSubjectId", f'<value root="{hospital}" extension="{value}"/>')
        return without_what_is_always_new(discover(index, query)).replace(value.encode(), b"?")

    assert asked(old[0]) == asked("never")


def test_who_is_only_likely_is_not_told(index: Index) -> None:
    family, _, _ = known(index)
    body = discover(index, v3.value_name(family, "Anna"), v3.born("19700208"))
    assert v3.acknowledged(body) == "AA"
    assert v3.patients(body) == []
    if v3.response(body) == "OK":
        assert list(body.iter(f"{v3.N}actOrderRequired"))


@pytest.mark.parametrize(
    ("parameters", "code"),
    [
        ([v3.value_name("Nowak")], "101"),
        ([v3.born("1970")], "101"),
        ([v3.value_name("Nowak"), v3.born("yesterday")], "102"),
        ([("livingSubjectId", '<value nullFlavor="UNK"/>')], "101"),
        ([("livingSubjectId", '<value root="1.2.3"/>')], "101"),
    ],
)
def test_a_question_that_cannot_be_answered(index: Index, parameters: list[tuple[str, str]], code: str) -> None:
    body = index.send(
        v3.candidates_query(*parameters), to="xcpd", action=v3.XCPD_ACTION, valid="yesterday" not in str(parameters)
    )
    assert (v3.acknowledged(body), v3.response(body)) == ("AE", "AE")
    assert {c for c, _ in v3.details(body)} == {code}
    assert [v3.code(m, "code") for m in body.iter(f"{v3.N}detectedIssueManagement")] == ["AnswerNotAvailable"]


def test_the_deferred_form(index: Index) -> None:
    action = v3.XCPD_ACTION.replace("UV02:", "UV02:Deferred:")
    query = v3.candidates_query(v3.value_name("Nowak"), v3.born("1970"), priority="D")
    body = index.send(query, to="xcpd", action=action)
    assert etree.QName(body).localname == "MCCI_IN000002UV01"
    assert (v3.acknowledged(body), {c for c, _ in v3.details(body)}) == ("AE", {"202"})


def test_the_action_of_a_plain_query_is_not_served_here(index: Index) -> None:
    with pytest.raises(Fault, match="not served"):
        index.send(v3.candidates_query(v3.born("1970")), to="xcpd")


def test_zeep_discovers(index: Index) -> None:
    family, number, _ = known(index)
    query = v3.candidates_query(v3.value_name(family, "Anna"), v3.born("19700228"), by_pesel(number))
    body = with_zeep(index, "iti55/iti55-raw", "xcpd", "RespondingGateway_PRPA_IN201305UV02", query)
    assert len(v3.patients(body)) == 1


def test_the_discovery_is_audited(index: Index) -> None:
    _, number, _ = known(index)
    last = index.node.rows("SELECT coalesce(max(audit_id), 0) FROM audit_event")[0][0]
    discover(index, by_pesel(number))
    [record] = index.node.audits(last)
    assert (record[1], record[2]) == ("ITI-55", 0)

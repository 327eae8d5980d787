"""FHIR Consents as provisions: IHE's own samples, and what our rules say of all others."""

from __future__ import annotations

import copy
import json
import re
from collections import Counter
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from obieg.codes.load import toml
from obieg.domain.access import Condition, Period, Provision
from obieg.domain.affinity_domain import AffinityDomain, polish
from obieg.domain.consents import Kind
from obieg.domain.identifiers import PatientId
from obieg.domain.problems import Problem
from obieg.mapping.consent import draft
from obieg.mapping.consent_meaning import read_consent, states, unheld
from obieg.mapping.consent_references import actors, identifiers, references
from obieg.web.patient_consents import read_consents, recognised

SAMPLES = "data/ihe/ihe-pcf-sushi-compiled"
PATIENT = PatientId("ex-patient", "1.2.616.1")
BASE = "http://node/fhir"
TPO = ("TREAT", "HPAYMT", "HOPERAT")
DOCTOR, RESEARCHERS = "1.2.616.5#doctor", "1.2.616.6#researchers"
VISIT = "1.2.616.7#visit"
KNOWN: dict[str, dict[str, Any]] = {
    "Practitioner/ex-practitioner": {
        "resourceType": "Practitioner", "identifier": [{"system": "urn:oid:1.2.616.5", "value": "doctor"}],
    },
    "Organization/ex-org-researcher": {
        "resourceType": "Organization", "identifier": [{"system": "urn:oid:1.2.616.6", "value": "researchers"}],
    },
    "Group/ex-privilegedUsers": {
        "resourceType": "Group", "actual": True, "member": [{"entity": {"reference": "Practitioner/ex-practitioner"}}],
    },
    "Encounter/ex-encounter": {
        "resourceType": "Encounter", "identifier": [{"system": "urn:oid:1.2.616.7", "value": "visit"}],
    },
}  # fmt: skip
NOW = datetime(2026, 11, 23, 12, tzinfo=UTC)
ENDS = datetime(2030, 1, 1, tzinfo=UTC)
DOCUMENT = "6f1d2c3b-4a59-4687-9786-a5b4c3d2e1f0"
IN_2022 = Condition(created_from="20220101000000", created_to="20230101000000")
OF_VISIT = Condition(encounters=(VISIT, "Encounter/ex-encounter"))
BY_DOCTOR = Condition(authors=(DOCTOR,))
NOTHING_HERE = Condition(documents=())


def normal(*labels: str) -> Provision:
    return Provision(permit=True, purposes=TPO, condition=Condition(labels=("N", *labels)))


def permit(condition: Condition = Condition(), **whom: Any) -> Provision:  # noqa: B008 - a value
    return Provision(permit=True, condition=condition, **{"purposes": TPO, **whom})


def only(*labels: str) -> Provision:
    return Provision(permit=True, actors=(DOCTOR,), condition=Condition(labels=labels))


def denied_purposes(*codes: str) -> tuple[str, ...]:
    """These with what is below them: the table is looked at by a test of its own."""
    below = toml("access_consents.toml")["purposes_denied"]
    return tuple(dict.fromkeys(each for code in codes for each in (code, *below.get(code, ()))))


def deny(condition: Condition) -> Provision:
    return Provision(permit=False, condition=condition)


EXPECTED: dict[str, tuple[Provision, ...]] = {
    "consent-basic-treat": (permit(),),
    "consent-basic-treat-infant": (permit(),),
    "consent-basic-ink": (permit(),),
    "consent-basic-reject": (Provision(permit=False, purposes=denied_purposes(*TPO)),),
    "consent-basic-research": (
        permit(purposes=("HRESCH", "BIORCH", "CLINTRCH", "CLINTRCHNPC", "CLINTRCHPC", "DSRCH", "POARCH", "PRECLINTRCH", "TRANSRCH")),
    ),
    "consent-expired-treat": (permit(period=Period(None, datetime(2023, 1, 1, tzinfo=UTC))),),
    "consent-intermediate-authoredby": (permit(BY_DOCTOR),),
    "consent-intermediate-not-authoredby": (permit(), deny(BY_DOCTOR)),
    "consent-intermediate-encounter": (permit(OF_VISIT),),
    "consent-intermediate-not-encounter": (permit(), deny(OF_VISIT)),
    "consent-intermediate-timeframe": (permit(IN_2022),),
    "consent-intermediate-not-timeframe": (permit(), deny(IN_2022)),
    "consent-intermediate-data": (permit(NOTHING_HERE),),
    "consent-intermediate-not-data": (permit(), deny(NOTHING_HERE)),
    "consent-intermediate-purpose": (permit(purposes=("FooBar",), actors=(RESEARCHERS,)),),
    "dissent-intermediate-break-glass": (
        Provision(permit=False),  # as the policy says, which comes first
        Provision(permit=True, purposes=("BTG",)),
        Provision(permit=False),
        Provision(permit=True, purposes=("BTG",), actors=(DOCTOR,)),
    ),
    "consent-advanced-normal": (normal(),),
    "consent-advanced-normal-restricted": (normal("R"),),
    "consent-advanced-normal-not-restricted": (normal(), deny(Condition(labels=("R",)))),
    "consent-advanced-normal-focused-restricted": (normal(), only("R")),
    "consent-advanced-normal-focused-psy": (normal(), only("PSY")),
    "consent-advanced-normal-focused-psy-or-sdv": (normal(), only("PSY", "SDV")),
    "consent-advanced-normal-break-glass-restricted": (
        normal(), Provision(permit=True, actors=(DOCTOR,), purposes=("BTG",), condition=Condition(labels=("R",))),
    ),
}  # fmt: skip


@pytest.fixture(scope="module")
def codes() -> AffinityDomain:
    return polish()


def basic(**provision: Any) -> dict[str, Any]:
    """A Consent with this root provision."""
    return {
        "resourceType": "Consent",
        "status": "active",
        "scope": {
            "coding": [{"system": "http://terminology.hl7.org/CodeSystem/consentscope", "code": "patient-privacy"}]
        },
        "patient": {"reference": "Patient/ex-patient"},
        "provision": provision,
    }


def actor(reference: str | dict[str, Any], role: str = "IRCP") -> dict[str, Any]:
    said = {"reference": reference} if isinstance(reference, str) else reference
    system = "http://terminology.hl7.org/CodeSystem/v3-ParticipationType"
    return {"role": {"coding": [{"system": system, "code": role}]}, "reference": said}


def provisions(resource: dict[str, Any], codes: AffinityDomain, **known: dict[str, Any]) -> tuple[Provision, ...]:
    return read_consent("c", draft(resource, BASE, "1.2.616.1").resource, KNOWN | known, codes, BASE).provisions


def wrong(resource: dict[str, Any], codes: AffinityDomain) -> list[tuple[str, str]]:
    with pytest.raises(Problem) as caught:
        provisions(resource, codes)
    return [(f.code, f.location) for f in caught.value.findings]


def test_all_samples_are_expected(shared: Path) -> None:
    found = {p.name[len("Consent-ex-") : -len(".json")] for p in (shared / SAMPLES).glob("Consent-*.json")}
    assert found == EXPECTED.keys()
    assert len(found) == 23


@pytest.mark.parametrize("name", EXPECTED)
def test_samples_of_pcf(shared: Path, codes: AffinityDomain, name: str) -> None:
    resource = json.loads((shared / SAMPLES / f"Consent-ex-{name}.json").read_text())
    read = draft(resource, BASE, "1.2.616.1")
    assert (read.patients, read.active) == ((PATIENT,), True)
    wanted = {r for r in references(read.resource, BASE) if not r.startswith("Observation/")}
    assert wanted <= KNOWN.keys()
    consent = read_consent("c1", read.resource, KNOWN, codes, BASE)
    assert consent.provisions == EXPECTED[name]
    assert consent.period == (EXPECTED[name][0].period if name == "consent-expired-treat" else Period())
    told = unheld(read.resource, NOW, BASE)
    places = Counter(re.sub(r"\[\d+\]", "", f.location).split("provision.")[-1] for f in told)
    data = {"consent-intermediate-data": 6, "consent-intermediate-not-data": 1}.get(name, 0)
    assert (places["data.reference"], places["period.end"]) == (data, int(name == "consent-expired-treat"))
    assert len(told) == sum((places["data.reference"], places["period.end"]))
    assert all(f.warning for f in told)


def test_a_period_that_is_over_is_told() -> None:
    [over] = unheld(basic(type="permit", period={"end": "2026-11-22"}), NOW, BASE)
    assert over.location == "Consent.provision.period.end"
    assert unheld(basic(type="permit", period={"end": "2026-11-23"}), NOW, BASE) == []


def test_who_is_not_known_is_refused(shared: Path, codes: AffinityDomain) -> None:
    resource = json.loads((shared / SAMPLES / "Consent-ex-consent-advanced-normal-focused-psy.json").read_text())
    with pytest.raises(Problem) as caught:
        read_consent("c1", resource, {}, codes, BASE)
    [finding] = caught.value.findings
    assert (finding.code, finding.location) == (
        "UnresolvedReferenceException", "Consent.provision.provision[0].actor[0].reference",
    )  # fmt: skip
    assert "Practitioner/ex-practitioner" in finding.detail


@pytest.mark.parametrize(
    ("profile", "changes", "expected"),
    [
        ("Basic", {"dateTime": None}, [("RequiredFieldMissing", "Consent.dateTime")]),
        ("Basic", {"sourceReference": None}, [("RequiredFieldMissing", "Consent.source")]),
        ("Basic", {"policy": [{"authority": "http://a"}]}, [("RequiredFieldMissing", "Consent.policy[0].uri")]),
        ("Basic", {"provision": {"purpose": []}}, [("RequiredFieldMissing", "Consent.provision.type")]),
        ("Basic", {"provision": {"type": "permit", "securityLabel": [{"code": "R"}]}},
         [("ElementUnknown", "Consent.provision.securityLabel")]),
        ("Intermediate", {"provision": {"type": "permit", "provision": [{"type": "deny", "code": [{"text": "x"}]}]}},
         [("ElementUnknown", "Consent.provision.provision[0].code")]),
        ("Advanced", {"provision": {"type": "permit", "provision": [{"type": "deny", "provision": [{"type": "deny"}]}]}},
         [("RuleBroken", "Consent.provision.provision[0].provision[0]")]),
        ("Advanced", {"verification": [{"verified": True}]}, [("ElementUnknown", "Consent.verification")]),
    ],
)  # fmt: skip
def test_a_profile_that_is_claimed_is_kept(
    shared: Path, profile: str, changes: dict[str, Any], expected: list[tuple[str, str]]
) -> None:
    resource = json.loads((shared / SAMPLES / "Consent-ex-consent-basic-treat.json").read_text())
    resource["meta"]["profile"] = [f"https://profiles.ihe.net/ITI/PCF/StructureDefinition/IHE.PCF.consent{profile}"]
    for element, value in changes.items():
        resource.pop(element) if value is None else resource.update({element: value})
    with pytest.raises(Problem) as caught:
        draft(resource, BASE, "1.2.616.1")
    assert [(f.code, f.location) for f in caught.value.findings] == expected
    free = copy.deepcopy(resource)  # who claims nothing need not keep it
    del free["meta"]["profile"]
    draft(free, BASE, "1.2.616.1")


def test_denying_siblings_come_last_and_nested_ones_after_their_parent(codes: AffinityDomain) -> None:
    resource = basic(
        type="permit",
        provision=[
            {
                "type": "deny",
                "purpose": [{"code": "TREAT"}],
                "provision": [{"type": "permit", "purpose": [{"code": "COC"}]}],
            },
            {
                "type": "permit",
                "purpose": [{"code": "FooBar"}],
                "provision": [{"type": "deny", "purpose": [{"code": "HPAYMT"}]}],
            },
        ],
    )
    assert [(p.permit, p.purposes) for p in provisions(resource, codes)] == [
        (True, None), (True, ("FooBar",)), (False, denied_purposes("HPAYMT")), (False, denied_purposes("TREAT")),
        (True, ("COC",)),
    ]  # fmt: skip


def test_a_denied_purpose_is_not_passed_by_a_narrower_one(codes: AffinityDomain) -> None:
    treated = {"TREAT", "COC", "ETREAT", "BTG", "CAREMGT"}
    [denied] = provisions(basic(type="deny", purpose=[{"code": "TREAT"}]), codes)
    assert treated <= {*(denied.purposes or ())}
    [permitted] = provisions(basic(type="permit", purpose=[{"code": "TREAT"}]), codes)
    assert permitted.purposes == ("TREAT",)
    below = toml("access_consents.toml")["purposes_denied"]
    known = toml("saml.toml")["purposes"]["hl7"]
    assert {*below} | {code for codes in below.values() for code in codes} <= {*known}
    research = {"HRESCH", *toml("access_consents.toml")["purposes"]["HRESCH"]}
    assert {code for code in known if code not in denied_purposes(*below)} == {"HMARKT", *research}


@pytest.mark.parametrize(
    ("end", "before"),
    [
        ("2022-05-01", "20220502000000"), ("2022-05", "20220601000000"),
        ("2022-05-01T12:00:00Z", "20220501120001"), ("2022-05-01T23:59:59.999+02:00", "20220501220000"),
    ],
)  # fmt: skip
def test_what_documents_were_made_in_ends_with_its_whole_day_or_second(
    codes: AffinityDomain, end: str, before: str
) -> None:
    resource = basic(type="deny", dataPeriod={"start": "2022-05-01T00:00:00Z", "end": end})
    [*_, denied] = provisions(resource, codes)
    assert denied.condition == Condition(created_from="20220501000000", created_to=before)


def test_an_exception_to_an_exception_is_about_what_that_one_is_about(codes: AffinityDomain) -> None:
    until = {"end": "2030-01-01T00:00:00Z"}
    authored = {"meaning": "authoredby", "reference": {"reference": "Practitioner/ex-practitioner"}}
    exception = {
        "type": "permit", "actor": [actor("Practitioner/ex-practitioner")], "purpose": [{"code": "TREAT"}],
        "period": until, "data": [authored], "dataPeriod": {"start": "2022", "end": "2022"},
        "provision": [
            {"type": "permit", "securityLabel": [{"code": "R"}], "provision": [{"type": "deny"}]},
            {"type": "deny", "actor": [actor("Organization/ex-org-researcher")], "purpose": [{"code": "BTG"}]},
        ],
    }  # fmt: skip
    root = basic(type="deny", purpose=[{"code": "BTG"}], securityLabel=[{"code": "V"}], provision=[exception])
    about = {"authors": (DOCTOR,), "created_from": "20220101000000", "created_to": "20230101000000"}
    to_doctor = {"actors": (DOCTOR,), "purposes": ("TREAT",), "period": Period(None, ENDS)}
    of_restricted = Condition(**about, labels=("R",))
    assert provisions(root, codes) == (
        Provision(permit=False, purposes=("BTG",), condition=Condition(labels=("V",))),
        Provision(permit=True, **to_doctor, condition=Condition(**about)),  # the root is not about it
        Provision(permit=True, **to_doctor, condition=of_restricted),
        Provision(False, (DOCTOR,), None, denied_purposes("TREAT"), Period(None, ENDS), of_restricted),
        Provision(False, (RESEARCHERS,), None, ("BTG",), Period(None, ENDS), Condition(**about)),
    )
    unknown = {"type": "permit", "purpose": [{"code": "FooBar"}], "provision": [{"type": "permit"}]}
    assert provisions(basic(type="deny", provision=[unknown]), codes)[2] == Provision(permit=True, purposes=("FooBar",))
    unknown["provision"] = [{"type": "deny"}]
    [told] = read_consents([{**root, "id": "c"}], datetime(2026, 1, 1, tzinfo=UTC))  # as pages tell it
    assert [(r.permit, r.labels, r.purposes, r.end, bool(r.whom), r.narrowed) for r in told.rules] == [
        (False, ("V",), ("BTG",), None, False, False),
        (True, (), ("TREAT",), ENDS, True, True), (True, ("R",), ("TREAT",), ENDS, True, True),
        (False, ("R",), ("TREAT",), ENDS, True, True), (False, (), ("BTG",), ENDS, True, True),
    ]  # fmt: skip
    where = "Consent.provision.provision[0].purpose[0].code"
    assert wrong(basic(type="deny", provision=[unknown]), codes) == [("TableValueNotFound", where)]


def test_alternatives_are_spelled_out(codes: AffinityDomain) -> None:
    nurses = {"resourceType": "Group", "id": "n", "type": "practitioner", "actual": False,
              "code": {"coding": [{"code": "nurse"}, {"code": "midwife"}]},
              "managingEntity": {"reference": "Organization/ex-org-researcher"}}  # fmt: skip
    resource = basic(
        type="deny",
        actor=[actor("#n"), actor("Practitioner/ex-practitioner"),
               actor({"identifier": {"system": "urn:oid:1.2", "value": "x"}})],
        data=[{"meaning": "related", "reference": {"reference": "Encounter/ex-encounter"}},
              {"meaning": "authoredby", "reference": {"reference": "Practitioner/ex-practitioner"}}],
    )  # fmt: skip
    resource["contained"] = [nurses]
    assert references(resource, BASE) == {
        "Practitioner/ex-practitioner", "Encounter/ex-encounter", "Organization/ex-org-researcher",
    }  # fmt: skip
    found = {(p.actors, p.roles, p.condition) for p in provisions(resource, codes)}
    people, those = (DOCTOR, "1.2#x"), (RESEARCHERS,)
    assert found == {
        (people, None, OF_VISIT), (people, None, BY_DOCTOR),
        (those, ("nurse", "midwife"), OF_VISIT), (those, ("nurse", "midwife"), BY_DOCTOR),
    }  # fmt: skip


MEMBERS: list[tuple[dict[str, Any], list[tuple[Period, tuple[str, ...]]]]] = [
    ({}, [(Period(), (DOCTOR,))]),
    ({"inactive": True}, [(Period(), ())]),
    ({"period": {"end": "2029-12-31"}}, [(Period(None, ENDS), (DOCTOR,))]),
]


@pytest.mark.parametrize(("member", "expected"), MEMBERS)
def test_a_member_is_permitted_while_they_are_one_and_denied_for_good(
    codes: AffinityDomain, member: dict[str, Any], expected: list[tuple[Period, tuple[str, ...]]]
) -> None:
    entity = {"entity": {"reference": "Practitioner/ex-practitioner"}, **member}
    group = {"resourceType": "Group", "id": "g", "type": "practitioner", "actual": True, "member": [entity]}
    for kind, said in (("permit", expected), ("deny", MEMBERS[0][1])):
        resource = basic(type=kind, actor=[actor("#g")])
        resource["contained"] = [group]
        assert [(p.period, p.actors) for p in provisions(resource, codes)] == said, kind


@pytest.mark.parametrize(
    "holder",
    [
        {"resourceType": "Group", "type": "practitioner", "actual": True, "active": False,
         "member": [{"entity": {"reference": "Practitioner/ex-practitioner"}}]},
        {"resourceType": "CareTeam", "status": "inactive", "participant": [
            {"member": {"reference": "Practitioner/ex-practitioner"}}]},
        {"resourceType": "PractitionerRole", "active": False, "practitioner": {
            "reference": "Practitioner/ex-practitioner"}},
    ],
    ids=lambda holder: holder["resourceType"],
)  # fmt: skip
def test_by_what_is_over_nobody_is_permitted_anything(codes: AffinityDomain, holder: dict[str, Any]) -> None:
    resource = basic(type="permit", actor=[actor("#h")])
    resource["contained"] = [{"id": "h", **holder}]
    assert [p.actors for p in provisions(resource, codes)] == [()]
    resource["provision"]["type"] = "deny"
    assert [p.actors for p in provisions(resource, codes)] == [(DOCTOR,)]


def test_memberships_of_several_periods_are_several_provisions(codes: AffinityDomain) -> None:
    team = {"resourceType": "CareTeam", "id": "t", "status": "active", "period": {"end": "2029-12-31"}, "participant": [
        {"member": {"reference": "Practitioner/ex-practitioner"}, "period": {"start": "2020-01-01T00:00:00Z"}},
        {"member": {"identifier": {"system": "urn:oid:1.2", "value": "x"}}}]}  # fmt: skip
    resource = basic(type="permit", period={"start": "2021-01-01T00:00:00Z"}, actor=[actor("#t")])
    resource["contained"] = [team]
    since = datetime(2021, 1, 1, tzinfo=UTC)
    assert [(p.actors, p.period) for p in provisions(resource, codes)] == [
        ((DOCTOR,), Period(since, ENDS)), (("1.2#x",), Period(since, ENDS)),
    ]  # fmt: skip


def test_who_has_a_role_is_a_member_while_the_membership_holds(codes: AffinityDomain) -> None:
    nurses = {"resourceType": "Group", "id": "n", "type": "practitioner", "actual": False,
              "code": {"coding": [{"code": "nurse"}]}}  # fmt: skip
    ward = {"resourceType": "Group", "id": "w", "type": "practitioner", "actual": True,
            "member": [{"entity": {"reference": "#n"}, "period": {"end": "2029-12-31"}}]}  # fmt: skip
    resource = basic(type="permit", actor=[actor("#w")])
    resource["contained"] = [nurses, ward]
    assert [(p.roles, p.period) for p in provisions(resource, codes)] == [(("nurse",), Period(None, ENDS))]


def test_codes_are_found_in_the_affinity_domain(codes: AffinityDomain) -> None:
    kind, sort = codes.codes("class_code")[0], codes.codes("type_code")[0]
    coded = [
        {"coding": [{"system": codes.system(attribute, c.code, c.scheme) or f"urn:oid:{c.scheme}", "code": c.code}]}
        for attribute, c in (("class_code", kind), ("type_code", sort))
    ]
    found = [p.condition for p in provisions(basic(type="deny", code=coded), codes)]
    assert Condition(class_codes=(f"{kind.code}^^{kind.scheme}",)) in found
    assert Condition(type_codes=(f"{sort.code}^^{sort.scheme}",)) in found
    assert wrong(basic(type="deny", code=[{"coding": [{"system": "http://x", "code": "y"}]}]), codes) == [
        ("TableValueNotFound", "Consent.provision.code[0]")
    ]


def test_a_document_is_named_by_its_id(codes: AffinityDomain) -> None:
    name = f"DocumentReference/{DOCUMENT}"
    resource = basic(type="deny", data=[{"meaning": "instance", "reference": {"reference": f"{BASE}/{name}"}}])
    assert references(resource, BASE) == {name}
    [found] = provisions(resource, codes, **{name: {"resourceType": "DocumentReference"}})
    assert found.condition == Condition(documents=(f"urn:uuid:{DOCUMENT}",))
    assert wrong(resource, codes) == [("UnresolvedReferenceException", "Consent.provision.data[0].reference")]


def test_policies_speak_for_consents_without_provisions(codes: AffinityDomain) -> None:
    resource = basic()
    del resource["provision"]
    assert wrong(resource, codes) == [("RequiredFieldMissing", "Consent.provision")]
    opted = {"system": "http://terminology.hl7.org/CodeSystem/v3-ActCode", "code": "OPTOUT"}
    assert provisions({**resource, "policyRule": {"coding": [opted]}}, codes) == (Provision(permit=False),)
    # As R4 writes them: the root says nothing, its exceptions follow the rule.
    exception = {"type": "permit", "actor": [actor("Practitioner/ex-practitioner")]}
    ruled = {**resource, "policyRule": {"coding": [opted]}, "provision": {"provision": [exception]}}
    assert provisions(ruled, codes) == (Provision(permit=False), Provision(permit=True, actors=(DOCTOR,)))
    while_it_lasts = {**ruled, "provision": {"period": {"end": "2030-01-01T00:00:00Z"}}}
    assert provisions(while_it_lasts, codes) == (Provision(permit=False),)


@pytest.mark.parametrize(
    ("provision", "expected"),
    [
        ({"purpose": [{"code": "TREAT"}]}, [("RequiredFieldMissing", "Consent.provision.type")]),
        ({"type": "permit", "period": {"start": "2022-02-30"}}, [("DataTypeError", "Consent.provision.period.start")]),
        ({"type": "permit", "period": {"start": "2022", "end": "2021"}}, [("RuleBroken", "Consent.provision.period")]),
        ({"type": "permit", "actor": [actor("Practitioner/ex-practitioner", "CST")]},
         [("TableValueNotFound", "Consent.provision.actor[0].role")]),
        ({"type": "permit", "actor": [actor({"display": "Doctor"})]},
         [("RequiredFieldMissing", "Consent.provision.actor[0].reference")]),
        ({"type": "permit", "actor": [actor("Encounter/ex-encounter")]},
         [("RuleBroken", "Consent.provision.actor[0].reference")]),
        ({"type": "permit", "action": [{"coding": [{"code": "collect"}]}]},
         [("TableValueNotFound", "Consent.provision.action")]),
        ({"type": "permit", "class": [{"system": "http://hl7.org/fhir/resource-types", "code": "Observation"}]},
         [("TableValueNotFound", "Consent.provision.class[0]")]),
        ({"type": "permit", "data": [{"meaning": "related", "reference": {"reference": "CarePlan/1"}}]},
         [("TableValueNotFound", "Consent.provision.data[0].reference")]),
        ({"type": "maybe"}, [("TableValueNotFound", "Consent.provision.type")]),
        ({"type": "deny", "data": [{"meaning": "instance", "reference": {"identifier": {"value": "urn:oid:1.2.3"}}}]},
         [("RequiredFieldMissing", "Consent.provision.data[0].reference.type")]),
        ({"type": "permit", "modifierExtension": [{"url": "http://x"}]},
         [("RuleBroken", "Consent.provision.modifierExtension")]),
        *[({"type": kind, element: [{"display": "x"}]}, [("RequiredFieldMissing", f"Consent.provision.{element}[0].code")])
          for kind in ("permit", "deny") for element in ("purpose", "securityLabel")],
        *[({"type": kind, "data": [{"meaning": "related", "reference": {
            "type": "Encounter", "identifier": {"system": "urn:oid:1.2.3"}}}]},
           [("RequiredFieldMissing", "Consent.provision.data[0].reference.identifier.value")])
          for kind in ("permit", "deny")],
        *[({"type": kind, "data": [{"meaning": "instance", "reference": {"reference": f"documentReference/{DOCUMENT}"}}]},
           [("TableValueNotFound", "Consent.provision.data[0].reference")]) for kind in ("permit", "deny")],
    ],
)  # fmt: skip
def test_what_cannot_be_told_is_refused(
    codes: AffinityDomain, provision: dict[str, Any], expected: list[tuple[str, str]]
) -> None:
    assert wrong(basic(**provision), codes) == expected


NURSE = {"coding": [{"code": "nurse"}]}
NAMELESS = {"resourceType": "Practitioner", "name": [{"family": "Lis"}]}
NUMBERED = {"identifier": {"system": "urn:oid:1.2", "value": "x"}}
CONTAINED: dict[str, dict[str, Any]] = {
    "nobody": {"resourceType": "Group", "type": "practitioner", "actual": True},
    "team": {"resourceType": "CareTeam"},
    "role": {"resourceType": "PractitionerRole"},
    "nameless": NAMELESS,
    "facility": {"resourceType": "Organization", "identifier": [{"value": "1"}]},
    "several": {"resourceType": "Group", "type": "practitioner", "actual": True, "member": [
        {"entity": {"reference": "Practitioner/ex-practitioner"}}, {"entity": {"reference": "#nameless"}}]},
    "family": {"resourceType": "CareTeam", "participant": [{"member": {"reference": "RelatedPerson/aunt"}}]},
    "nurses-nowhere": {"resourceType": "Group", "type": "practitioner", "actual": False, "code": NURSE,
                       "managingEntity": {"reference": "#facility"}},
    "nurses": {"resourceType": "Group", "type": "practitioner", "actual": False, "code": NURSE},
    "nurses-there": {"resourceType": "PractitionerRole", "code": [NURSE],
                     "organization": {"reference": "Organization/ex-org-researcher"}},
    "nurses-of-a-ward": {"resourceType": "Group", "type": "practitioner", "actual": False, "code": NURSE,
                         "characteristic": [{"code": {"text": "ward"}, "valueBoolean": True, "exclude": False}]},
    "consultants": {"resourceType": "PractitionerRole", "code": [NURSE, {"coding": [{"code": "consultant"}]}]},
    "somehow": {"resourceType": "PractitionerRole", "code": [{"text": "nurse"}]},
}  # fmt: skip
FAMILY = {
    "RelatedPerson/aunt": {"resourceType": "RelatedPerson", **NUMBERED},
    "Patient/ex-patient": {"resourceType": "Patient", **NUMBERED},
    "Encounter/unnumbered": {"resourceType": "Encounter"},
}


def about(meaning: str, reference: str | dict[str, Any]) -> dict[str, Any]:
    """A provision about data."""
    return {
        "data": [
            {"meaning": meaning, "reference": {"reference": reference} if isinstance(reference, str) else reference}
        ]
    }


def holding(**provision: Any) -> dict[str, Any]:
    """A Consent that contains everybody who may be meant by it."""
    return basic(**provision) | {"contained": [{**resource, "id": id_} for id_, resource in CONTAINED.items()]}


@pytest.mark.parametrize(
    ("provision", "code", "where"),
    [
        *[({"securityLabel": [{"code": "R"}, coding]}, "TableValueNotFound", "securityLabel[1].code") for coding in (
            {"code": "r"}, {"code": "L"}, {"code": "XYZ"}, {"system": "http://x", "code": "PSY"},
            {"system": "http://terminology.hl7.org/CodeSystem/v3-ActCode", "code": "XYZ"})],
        *[({"purpose": [{"code": "TREAT"}, {"code": code}]}, "TableValueNotFound", "purpose[1].code")
          for code in ("FooBar", "treat", "NIC")],
        *[({"actor": [actor("Practitioner/ex-practitioner"), actor(whom)]}, "RequiredFieldMissing", "actor[1].reference")
          for whom in ("#nobody", "#team", "#role", "#nameless", "#facility", "#several",
                       {"identifier": {"value": "x"}}, {"identifier": {"system": "urn:oid:x", "value": "x"}},
                       {"identifier": {"system": "urn:ietf:rfc:3986", "value": "http://x"}})],
        ({"actor": [actor("#nurses-nowhere")]}, "RequiredFieldMissing", "actor[0].reference (Group.managingEntity)"),
        *[({"actor": [actor(whom)]}, "RuleBroken", "actor[0].reference") for whom in (
            "RelatedPerson/aunt", "Patient/ex-patient", "#family", {"type": "Patient", **NUMBERED},
            {"type": "RelatedPerson", **NUMBERED}, {"type": "Device", **NUMBERED}, {"type": "Group", **NUMBERED})],
        *[(about("authoredby", whom), "RequiredFieldMissing", "data[0].reference") for whom in (
            "#nobody", "#nameless", {"type": "Organization", "identifier": {"system": "http://x", "value": "x"}})],
        *[(about("instance", f"{kind}/x"), "RuleBroken", "data[0].reference") for kind in (
            "Binary", "List", "DocumentManifest", "Composition", "Bundle", "Encounter")],
        *[(about("related", visit), "RequiredFieldMissing", "data[0].reference.identifier") for visit in (
            "Encounter/unnumbered", {"type": "Encounter", "identifier": {"system": "http://x", "value": "1"}})],
    ],
)  # fmt: skip
def test_what_is_denied_must_be_able_to_hold(
    codes: AffinityDomain, provision: dict[str, Any], code: str, where: str
) -> None:
    """What permits the same opens nothing, and is accepted."""
    denying, permitting = (
        draft(holding(type=kind, **provision), BASE, "1.2.616.1").resource for kind in ("deny", "permit")
    )
    with pytest.raises(Problem) as caught:
        read_consent("c", denying, KNOWN | FAMILY, codes, BASE)
    assert [(f.code, f.location) for f in caught.value.findings] == [(code, f"Consent.provision.{where}")]
    assert read_consent("c", permitting, KNOWN | FAMILY, codes, BASE).provisions


def test_what_holds_may_be_denied(codes: AffinityDomain) -> None:
    for label in ({"code": "N"}, {"code": "PSY"}, {"system": "urn:oid:2.16.840.1.113883.5.4", "code": "HIV"}):
        [found] = provisions(basic(type="deny", securityLabel=[label]), codes)
        assert found == deny(Condition(labels=(label["code"],)))
    for identifier, name in (
        ({"system": "http://x", "value": "1"}, "http://x#1"),
        ({"system": "urn:ietf:rfc:3986", "value": "urn:oid:1.2.616.9"}, "1.2.616.9"),  # an organisation's own OID
    ):
        [found] = provisions(basic(type="deny", actor=[actor({"identifier": identifier})]), codes)
        assert found == Provision(permit=False, actors=(name,))
    resource = basic(type="deny", **about("instance", "Observation/x"))
    assert provisions(resource, codes) == (deny(NOTHING_HERE),)
    assert [f.location for f in unheld(resource, BASE)] == ["Consent.provision.data[0].reference"]


def test_pages_offer_those_whom_a_restriction_can_name() -> None:
    assert recognised(KNOWN["Practitioner/ex-practitioner"])
    assert [id_ for id_ in ("nameless", "facility") if recognised(CONTAINED[id_])] == []


@pytest.mark.parametrize("kind", ["permit", "deny"])
def test_who_is_meant_by_a_role(codes: AffinityDomain, kind: str) -> None:
    def said(name: str) -> list[tuple[Any, Any]]:
        return [(p.actors, p.roles) for p in provisions(holding(type=kind, actor=[actor(name)]), codes)]

    assert said("#nurses") == [(None, ("nurse",))]
    assert said("#nurses-there") == [((RESEARCHERS,), ("nurse",))]
    where = "Consent.provision.actor[0].reference"
    for name, code, part in (
        ("#consultants", "TableValueNotFound", "PractitionerRole.code"),
        ("#somehow", "TableValueNotFound", "PractitionerRole.code"),
        ("#nurses-of-a-ward", "RuleBroken", "Group.characteristic"),
    ):
        assert wrong(holding(type=kind, actor=[actor(name)]), codes) == [(code, f"{where} ({part})")]
    for name in ("#nurses", "#nurses-there"):  # authors are named
        resource = holding(type=kind, **about("authoredby", name))
        assert wrong(resource, codes) == [("RuleBroken", "Consent.provision.data[0].reference")]


@pytest.mark.parametrize("status", [None, "foo", "Active"])
def test_a_status_is_that_of_a_consent(status: str | None) -> None:
    with pytest.raises(Problem) as caught:
        draft(basic(type="permit") | {"status": status}, BASE, "1.2.616.1")
    assert [(f.code, f.location) for f in caught.value.findings] == [("TableValueNotFound", "Consent.status")]


def test_nothing_that_changes_the_meaning_is_passed_over() -> None:
    changed = [{"url": "http://x", "valueBoolean": True}]
    resource = basic(
        type="deny", provision=[{"type": "permit", "actor": [{**actor("#p"), "modifierExtension": changed}]}]
    ) | {
        "implicitRules": "http://x", "policy": [{"uri": "http://x", "modifierExtension": changed}],
        "contained": [{**NAMELESS, "id": "p", "implicitRules": "http://x"}],
    }  # fmt: skip
    with pytest.raises(Problem) as caught:
        draft(resource, BASE, "1.2.616.1")
    assert {(f.code, f.location) for f in caught.value.findings} == {
        ("RuleBroken", f"Consent.{where}") for where in (
            "implicitRules", "policy[0].modifierExtension", "contained[0].implicitRules",
            "provision.provision[0].actor[0].modifierExtension")
    }  # fmt: skip


def test_what_is_not_active_is_kept_unread(codes: AffinityDomain) -> None:
    resource = basic(type="permit") | {"status": "draft"}
    assert not draft(resource, BASE, "1.2.616.1").active


@pytest.mark.parametrize(
    ("patient", "expected"),
    [
        (None, ("RequiredFieldMissing", "Consent.patient")),
        ({"display": "Jan"}, ("RequiredFieldMissing", "Consent.patient")),
        ({"reference": "http://elsewhere/Patient/1"}, ("XDSUnknownPatientId", "Consent.patient.reference")),
        ({"identifier": {"value": "1"}}, ("DataTypeError", "Consent.patient.identifier")),
    ],
)
def test_the_patient_is_named(patient: Any, expected: tuple[str, str]) -> None:
    resource = basic(type="permit") | {"patient": patient}
    with pytest.raises(Problem) as caught:
        draft(resource, BASE, "1.2.616.1")
    assert [(f.code, f.location) for f in caught.value.findings] == [expected]


def test_what_is_stated_by_a_policy_alone() -> None:
    resource = basic() | {"policy": [{"uri": "urn:obieg:policy:objection-after-death"}]}
    with pytest.raises(Problem, match="no provision"):
        states(resource)
    del resource["provision"]
    assert states(resource) is Kind.OBJECTION
    assert states(basic(type="permit")) is None


def test_names() -> None:
    resource = basic(type="permit", actor=[actor("Group/b"), actor(f"{BASE}/Practitioner/a/_history/3"), actor("#x")])
    assert actors(resource, BASE) == ("Group/b", "Practitioner/a")
    told = {
        "identifier": [{"system": "urn:oid:1.2", "value": "a"}, {"system": "http://x", "value": "b"}, {"value": "c"}]
    }
    assert identifiers({}) == ()
    assert identifiers(told) == ("1.2#a", "http://x#b", "c")


def test_whom_the_directory_knows_without_an_identifier_may_be_denied(codes: AffinityDomain) -> None:
    """As PCF's samples have it; somebody contained could never be recognised."""
    nobody = {"resourceType": "Practitioner", "id": "n", "name": [{"family": "Nowak"}]}
    resource = basic(type="deny", actor=[actor("Practitioner/n")])
    [found] = provisions(resource, codes, **{"Practitioner/n": nobody})
    assert found.actors == ("Practitioner/n",)
    resource = basic(type="deny", actor=[actor("#n")]) | {"contained": [nobody]}
    assert wrong(resource, codes) == [("RequiredFieldMissing", "Consent.provision.actor[0].reference")]

"""The example world where access is enforced: what consents and facts open and hide, and when that begins and ends."""

from __future__ import annotations

import asyncio
import json
import shutil
import uuid
from base64 import urlsafe_b64encode
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import peer
import pytest

from obieg.ops.postgres import Server
from obieg.ops.watching import LOOK_UPS
from obieg.storage.link import Database
from obieg.storage.watch_store import WatchStore
from running import running

pytestmark = [pytest.mark.node, pytest.mark.slow]

WORLD = peer.REPOSITORY / "docs" / "lab-world"
SAMPLES: Path = peer.SHARED / "data" / "ihe" / "ihe-pcf-sushi-compiled"
PESEL = "2.16.840.1.113883.3.4424.1.1.616"
NPWZ = "2.16.840.1.113883.3.4424.1.6.2"
HOSPITAL, CLINIC = (f"2.16.840.1.113883.3.4424.2.3.1#00000000471{n}" for n in (1, 2))
DOCTOR = {"role": "medical-doctor", "purpose_of_use": "TREAT"}
GP = {**DOCTOR, "person": f"{NPWZ}#5425740", "organisation": CLINIC}
SURGEON = {**DOCTOR, "person": f"{NPWZ}#2131121", "organisation": "1.2.616.7#elsewhere"}
STRANGER = {**DOCTOR, "person": f"{NPWZ}#9999999", "organisation": "1.2.616.7#elsewhere"}
COLLEAGUE = {**STRANGER, "organisation": HOSPITAL}
ANNA = {"person": f"{PESEL}#80022912340", "role": "patient", "purpose_of_use": "PATRQT"}
SOMEBODY = {**ANNA, "person": f"{PESEL}#71070112349"}
CLERK = {
    "person": "1.2.616.8#clerk",
    "role": "administrative-employee",
    "organisation": CLINIC,
    "purpose_of_use": "TREAT",
}
SYSTEM: dict[str, str] = {}
DISCHARGE = {"Karta informacyjna", "Karta informacyjna, poprawiona"}
PSYCHIATRY = {"Konsultacja psychiatryczna"}


class Region:
    def __init__(self, base: str, authority: str, dsn: str) -> None:
        self.base = base
        self.dsn = dsn
        self.authority = authority
        self.http = httpx.Client(timeout=60)

    def ask(self, who: dict[str, str], method: str, path: str, resource: Any = None) -> httpx.Response:
        cookie = urlsafe_b64encode(json.dumps(who).encode()).decode() if who else ""
        headers = {"Cookie": f"who={cookie}"} if who else {}
        if resource is not None:
            headers["Content-Type"] = "application/fhir+json"
        return self.http.request(
            method,
            f"{self.base}/{path}",
            headers=headers,
            content=json.dumps(resource) if resource is not None else None,
        )

    def titles(self, who: dict[str, str], patient: str = "anna") -> set[str]:
        """What is found of the patient, whatever its status."""
        answer = self.ask(who, "GET", f"DocumentReference?patient=Patient/{patient}&status=current,superseded")
        assert answer.status_code == 200, answer.text
        bundle = answer.json()
        found = {e["resource"]["description"] for e in bundle.get("entry", []) if e["search"]["mode"] == "match"}
        assert bundle["total"] == len(found)
        return found

    def consents(self, who: dict[str, str], patient: str = "anna") -> set[str]:
        answer = self.ask(who, "GET", f"Consent?patient=Patient/{patient}")
        assert answer.status_code == 200, answer.text
        return {e["resource"]["id"] for e in answer.json().get("entry", [])}


def published() -> list[dict[str, Any]]:
    """The people of the PCF samples as published, nobody of whom has an identifier, and what two of them wrote."""
    kinds = ("Organization", "Practitioner", "Group", "Patient", "Encounter")
    found = [json.loads(file.read_text()) for kind in kinds for file in sorted(SAMPLES.glob(f"{kind}-*.json"))]
    if found:
        found += [written("own", "Practitioner/ex-practitioner"),
                  written("other", "Practitioner/ex-author", "Organization/ex-organization")]  # fmt: skip
    return found


def written(title: str, *authors: str) -> dict[str, Any]:
    number = {"system": "urn:ietf:rfc:3986", "value": f"urn:oid:2.999.2026.9{len(title)}"}
    return {
        "resourceType": "DocumentReference", "id": f"pcf-{title}", "masterIdentifier": number, "status": "current", "description": title,
        "subject": {"reference": "Patient/ex-patient"}, "date": "2026-03-02T12:00:00Z",
        "author": [{"reference": author} for author in authors],
        "content": [{"attachment": {"contentType": "text/plain", "title": title, "data": "dGVrc3QK"}}],
    }  # fmt: skip


@pytest.fixture(scope="module")
def region(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Region]:
    folder = tmp_path_factory.mktemp("enforced")
    world = folder / "world"
    shutil.copytree(WORLD, world)
    (world / "9-pcf.ndjson").write_text("\n".join(map(json.dumps, published())))
    with running(folder, "lab", "--load", world, "--data", folder / "data", "--workers", "1"):
        pass
    settings = folder / "data" / "settings.toml"
    with running(folder, "serve", "--settings", settings, module="access_node") as endpoints:
        found = Region(endpoints["fhir"], endpoints["assigning_authority"], Server(folder / "data" / "postgres").dsn)
        yield found
        found.http.close()


@pytest.mark.parametrize(
    ("who", "expected"),
    [
        (GP, DISCHARGE),  # chosen; what is restricted is hidden even though she wrote it
        (SURGEON, DISCHARGE),  # author, and on call, for whom the patient has opened everything but R
        (STRANGER, set()),
        (COLLEAGUE, set()),  # an encounter is in progress there, but no author names the hospital
        (ANNA, DISCHARGE | PSYCHIATRY),
        (SOMEBODY, set()),
        (CLERK, set()),
        (SYSTEM, set()),
    ],
    ids=["gp", "surgeon", "stranger", "colleague", "anna", "somebody", "clerk", "system"],
)
def test_who_sees_what(region: Region, who: dict[str, str], expected: set[str]) -> None:
    assert region.titles(who) == expected


def test_a_mother_sees_what_is_of_her_child_and_an_emergency_opens_it(region: Region) -> None:
    assert region.titles({**ANNA, "purpose_of_use": "FAMRQT"}, "jan") == {"Wizyta kontrolna"}
    assert region.titles({**SURGEON, "purpose_of_use": "BTG"}, "jan") == {"Wizyta kontrolna"}
    assert region.titles(SURGEON, "jan") == set()


def test_a_withdrawal_and_a_consent_hold_from_their_acknowledgement(region: Region) -> None:
    restriction = region.ask(ANNA, "GET", "Consent/not-psychiatry").json()
    for _ in range(5):
        assert region.ask(ANNA, "DELETE", "Consent/not-psychiatry").status_code == 204
        assert region.titles(GP) == DISCHARGE | PSYCHIATRY
        assert region.ask(ANNA, "PUT", "Consent/not-psychiatry", restriction).status_code == 200
        assert region.titles(GP) == DISCHARGE
    granted = {**restriction, "provision": {"type": "permit", "actor": [{
        "role": {"coding": [{"system": "http://terminology.hl7.org/CodeSystem/v3-ParticipationType", "code": "IRCP"}]},
        "reference": {"identifier": {"system": f"urn:oid:{NPWZ}", "value": "9999999"}},
    }]}}  # fmt: skip
    assert region.titles(STRANGER) == set()
    made = region.ask(CLERK, "POST", "Consent", granted)  # who records what the patient states
    assert made.status_code == 201, made.text
    assert region.titles(STRANGER) == DISCHARGE
    assert region.ask(ANNA, "DELETE", f"Consent/{made.json()['id']}").status_code == 204
    assert region.titles(STRANGER) == set()


def test_a_restriction_that_could_not_hold_is_refused_and_changes_nothing(region: Region) -> None:
    own = region.ask(ANNA, "GET", "Consent/not-psychiatry").json()
    before = region.consents(ANNA)
    doctor = {"resourceType": "Practitioner", "id": "d", "name": [{"family": "Lis"}]}
    role = {"coding": [{"system": "http://terminology.hl7.org/CodeSystem/v3-ParticipationType", "code": "IRCP"}]}
    to_doctor = {"actor": [{"role": role, "reference": {"reference": "#d"}}]}
    of_doctor = {"data": [{"meaning": "authoredby", "reference": {"reference": "#d"}}]}
    for said, where in (
        ({"securityLabel": [{"display": "psychiatry"}]}, "securityLabel[0].code"),
        ({"securityLabel": [{"code": "L"}]}, "securityLabel[0].code"),
        ({"purpose": [{"code": "treat"}]}, "purpose[0].code"),
        (to_doctor, "actor[0].reference"),
        (of_doctor, "data[0].reference"),
        ({"data": [{"meaning": "instance", "reference": {"reference": "Binary/x"}}]}, "data[0].reference"),
    ):
        denying = {**own, "contained": [doctor], "provision": {"type": "deny", **said}}
        for method, path in (("POST", "Consent"), ("PUT", "Consent/not-psychiatry")):
            refused = region.ask(ANNA, method, path, denying)
            assert refused.status_code in (400, 422)
            assert issue(refused)["expression"] == [f"Consent.provision.{where}"]
            assert issue(refused)["diagnostics"]
    unclear = region.ask(ANNA, "POST", "Consent", {**own, "status": "Active"})
    assert (unclear.status_code, issue(unclear)["expression"]) == (400, ["Consent.status"])
    assert region.consents(ANNA) == before
    assert region.ask(ANNA, "GET", "Consent/not-psychiatry").json() == own
    assert region.titles(GP) == DISCHARGE
    unknown = {**own, "contained": [doctor], "provision": {"type": "permit", **to_doctor}}
    made = region.ask(ANNA, "POST", "Consent", unknown)  # a permission to nobody is one, and opens nothing
    assert made.status_code == 201, made.text
    assert region.titles(STRANGER) == set()
    assert region.ask(ANNA, "DELETE", f"Consent/{made.json()['id']}").status_code == 204


def test_patients_record_and_see_their_own_consents_alone(region: Region) -> None:
    assert region.consents(ANNA) >= {"for-on-call", "not-psychiatry", "notices"}
    assert region.consents(SOMEBODY) == set()
    assert region.consents(ANNA, "nobody") == set()
    hidden, missing = (region.ask(SOMEBODY, "GET", f"Consent/{id_}") for id_ in ("for-on-call", "nothing"))
    assert (hidden.status_code, missing.status_code) == (404, 404)
    assert issue(hidden) == issue(missing)
    own = region.ask(ANNA, "GET", "Consent/for-on-call").json()
    theirs = region.ask(SOMEBODY, "PUT", "Consent/for-on-call", own)
    assert (theirs.status_code, region.ask(SOMEBODY, "DELETE", "Consent/for-on-call").status_code) == (404, 404)
    refused = region.ask(SOMEBODY, "POST", "Consent", own)
    unknown = region.ask(SOMEBODY, "POST", "Consent", {**own, "patient": {"reference": "Patient/anne"}})
    assert refused.status_code == unknown.status_code
    assert json.dumps(issue(refused)).replace("anna", "anne") == json.dumps(issue(unknown))
    assert region.ask(SYSTEM, "GET", "Consent/for-on-call").status_code == 404


def permission(restriction: dict[str, Any], *numbers: str, **provision: Any) -> dict[str, Any]:
    """A Consent that permits professionals by number."""
    role = {"coding": [{"system": "http://terminology.hl7.org/CodeSystem/v3-ParticipationType", "code": "IRCP"}]}
    named = [
        {"role": role, "reference": {"identifier": {"system": f"urn:oid:{root}", "value": number}}}
        for root, _, number in (n.partition("#") for n in numbers)
    ]
    return {**restriction, "provision": {"type": "permit", **({"actor": named} if named else {}), **provision}}


@pytest.mark.parametrize(
    "who", [GP, STRANGER, COLLEAGUE, CLERK, SYSTEM], ids=["gp", "stranger", "colleague", "clerk", "system"]
)
def test_who_records_sees_and_ends_nothing_that_others_have_recorded(region: Region, who: dict[str, str]) -> None:
    """A restriction is invisible to professionals, and nobody ends it for the patient."""
    restriction = region.ask(ANNA, "GET", "Consent/not-psychiatry").json()
    own = region.ask(who, "POST", "Consent", restriction)
    assert own.status_code == 201, own.text
    id_ = own.json()["id"]
    assert region.consents(who) == {id_}
    assert region.ask(who, "GET", "Consent?patient=Patient/anna&_summary=count").json()["total"] == 1
    for of_others, missing in (("not-psychiatry", "nothing"), ("for-on-call", "nothing")):
        for method, path, body in (
            ("GET", "Consent/{}", None), ("GET", "Consent/{}/_history/1", None), ("DELETE", "Consent/{}", None),
            ("PUT", "Consent/{}", restriction), ("GET", "Consent?_id={}", None),
        ):  # fmt: skip
            answers = []
            for name in (of_others, missing):
                given = {**body, "id": name} if body else None
                answer = region.ask(who, method, path.format(name), given)
                answers.append((answer.status_code, json.dumps(answer.json().get("issue")), answer.json().get("total")))
            assert answers[0] == answers[1], (method, path)
            assert answers[0][0] == (404 if "_id" not in path else 200)
    changed = region.ask(who, "PUT", f"Consent/{id_}", {**own.json(), "status": "inactive"})
    assert changed.status_code == 200, changed.text
    ended = region.ask(ANNA, "PUT", f"Consent/{id_}", own.json())
    assert ended.status_code == 200, ended.text  # from now on it is what the patient says
    assert region.ask(who, "DELETE", f"Consent/{id_}").status_code == 404
    assert region.ask(ANNA, "DELETE", f"Consent/{id_}").status_code == 204
    assert "consent" in told(region)


def told(region: Region) -> set[str]:
    """The kinds of what Anna was told."""
    answer = region.ask(ANNA, "GET", "Patient/anna/$notices")
    assert answer.status_code == 200, answer.text
    parts = [p for given in answer.json()["parameter"] for p in given.get("part", ()) if p["name"] == "kind"]
    return {p["valueCode"] for p in parts}


def permissions(base: dict[str, Any], who: dict[str, str]) -> list[dict[str, Any]]:
    """What would permit somebody to read: by name, by facility, and with everybody."""
    opted = {"coding": [{"system": "http://terminology.hl7.org/CodeSystem/v3-ActCode", "code": "OPTIN"}]}
    return [
        permission(base, who["person"]),
        permission(base, f"{NPWZ}#5425740", who["organisation"]),
        permission(base),  # to everybody
        permission(base, provision=[{"type": "deny", "purpose": [{"code": "HPAYMT"}]}]),
        {**{k: v for k, v in base.items() if k != "provision"}, "policyRule": opted},
        {**base, "provision": {"type": "deny", "provision": [permission(base, who["person"])["provision"]]}},
    ]


@pytest.mark.parametrize("who", [STRANGER, COLLEAGUE], ids=["stranger", "colleague"])
def test_a_professional_permits_nothing_to_themself(region: Region, who: dict[str, str]) -> None:
    base = region.ask(ANNA, "GET", "Consent/not-psychiatry").json()
    before = region.consents(ANNA)
    for refused in permissions(base, who):
        answer = region.ask(who, "POST", "Consent", refused)
        assert (answer.status_code, issue(answer)["expression"]) == (403, ["Consent.provision"]), answer.text
        assert "$consent-code" in answer.text
    made = region.ask(who, "POST", "Consent", base)
    changed = permission(made.json(), who["person"])
    assert region.ask(who, "PUT", f"Consent/{made.json()['id']}", changed).status_code == 403
    assert region.ask(who, "DELETE", f"Consent/{made.json()['id']}").status_code == 204
    assert region.consents(ANNA) == before
    assert region.titles(STRANGER) == set()
    assert region.titles(COLLEAGUE) == set()


@pytest.mark.parametrize("who", [CLERK, SYSTEM], ids=["clerk", "system"])
def test_who_never_reads_records_whatever_a_patient_permits(region: Region, who: dict[str, str]) -> None:
    base = region.ask(ANNA, "GET", "Consent/not-psychiatry").json()
    for stated in permissions(base, STRANGER):
        made = region.ask(who, "POST", "Consent", stated)
        assert made.status_code == 201, made.text
        assert region.titles(STRANGER), stated
        assert region.ask(who, "DELETE", f"Consent/{made.json()['id']}").status_code == 204
        assert region.titles(STRANGER) == set()


def test_whoever_tries_numbers_is_counted_by_every_way(region: Region) -> None:
    """The records leave what was asked for, and no answer says so."""
    emergency = {"resourceType": "Parameters", "parameter": [
        {"name": "reason", "valueString": "unconscious"}, {"name": "text", "valueString": "Nieprzytomny po upadku"},
    ]}  # fmt: skip
    ways: dict[str, Callable[[dict[str, str], int], httpx.Response]] = {
        "search": lambda who, n: region.ask(who, "GET", f"Patient?identifier=urn:oid:{PESEL}|9911111111{n}"),
        "consents": lambda who, n: region.ask(
            who, "GET", f"Consent?patient.identifier=urn:oid:{PESEL}|9911111111{n}"
        ),
        "emergency": lambda who, n: region.ask(who, "POST", f"Patient/nobody{n}/$break-glass", emergency),
        "match": lambda who, n: region.ask(who, "POST", "Patient/$match", {
            "resourceType": "Parameters", "parameter": [{"name": "resource", "resource": {
                "resourceType": "Patient", "identifier": [{"system": f"urn:oid:{PESEL}", "value": f"9911111111{n}"}]}}]}),
        "bytes": lambda who, n: region.ask(who, "GET", f"Binary/{uuid.uuid4()}"),
        "entry": lambda who, n: region.ask(who, "GET", f"DocumentReference/{uuid.uuid4()}"),
    }  # fmt: skip
    for number, (way, ask) in enumerate(ways.items()):
        who = {**STRANGER, "person": f"1.2.616.9#{way}", "purpose_of_use": "BTG" if way == "emergency" else "TREAT"}
        statuses = {ask(who, n).status_code for n in range(5)}
        assert len(statuses) == 1, (number, way, statuses)

    bundle = region.ask(SURGEON, "GET", "DocumentReference?patient=Patient/anna&status=current").json()
    [entry] = [e["resource"] for e in bundle["entry"] if e["search"]["mode"] == "match"]
    reads = (f"DocumentReference/{entry['id']}", f"DocumentReference?_id={entry['id']}", f"Binary/{entry['id']}")
    found_by = {path: region.ask(SURGEON, "GET", path).status_code for path in reads}
    assert set(found_by.values()) == {200}, found_by

    async def counted() -> dict[str, int]:
        database = Database(region.dsn, links=1)
        await database.open()
        now = datetime.now(UTC)
        found = await WatchStore(database).counted(now - timedelta(hours=1), now, LOOK_UPS)
        database.close()
        return {each.person: each.counts["missing"] for each in found}

    found = asyncio.run(counted())
    assert {way: found.get(f"1.2.616.9#{way}") for way in ways} == dict.fromkeys(ways, 5)
    assert found[SURGEON["person"]] == 0


def issue(answer: httpx.Response) -> Any:
    return answer.json()["issue"][0]


@pytest.mark.usefixtures("shared")
def test_whom_the_directory_knows_without_an_identifier_is_an_author_and_an_actor(region: Region) -> None:
    """PCF's samples of authors, on resources as published."""
    patient = {"person": f"{region.authority}#ex-patient", "role": "patient", "purpose_of_use": "PATRQT"}
    elsewhere = {**STRANGER, "organisation": "1.2.616.7#nowhere"}
    assert region.titles(patient, "ex-patient") == {"own", "other"}
    for name, seen in (
        ("intermediate-authoredby", {"own"}),
        ("intermediate-not-authoredby", {"other"}),
        ("basic-treat", {"own", "other"}),
    ):
        sample = json.loads((SAMPLES / f"Consent-ex-consent-{name}.json").read_text())
        made = region.ask(patient, "POST", "Consent", sample)
        assert made.status_code == 201, made.text
        assert region.titles(elsewhere, "ex-patient") == seen, name
        assert region.ask(patient, "DELETE", f"Consent/{made.json()['id']}").status_code == 204
    # By the same name the author is recognised as an actor, and as who wrote it.
    actor = {"role": {"coding": [{"system": "http://terminology.hl7.org/CodeSystem/v3-ParticipationType", "code": "IRCP"}]},
             "reference": {"reference": "Practitioner/ex-author"}}  # fmt: skip
    made = region.ask(patient, "POST", "Consent", {**sample, "provision": {"type": "permit", "actor": [actor]}})
    assert made.status_code == 201, made.text
    found = region.ask(patient, "GET", "DocumentReference?patient=Patient/ex-patient").json()
    people = {
        (c["resourceType"], i["value"], i["system"])
        for e in found["entry"] for c in e["resource"].get("contained", ()) for i in c.get("identifier", ())
    }  # fmt: skip
    [system] = {system for kind, _, system in people if kind == "Practitioner"}
    assert {("Practitioner", "Practitioner/ex-practitioner", system), ("Practitioner", "Practitioner/ex-author", system),
            ("Organization", "Organization/ex-organization", system)} <= people  # fmt: skip
    home = system.removeprefix("urn:oid:")
    for person in ("Practitioner/ex-author", f"{home}#Practitioner/ex-author"):
        assert region.titles({**elsewhere, "person": person}, "ex-patient") == {"own", "other"}, person
    assert region.titles(elsewhere, "ex-patient") == set()
    assert region.ask(patient, "DELETE", f"Consent/{made.json()['id']}").status_code == 204
    wrote = {**elsewhere, "person": f"{home}#Practitioner/ex-author"}
    assert region.titles(wrote, "ex-patient") == {"other"}

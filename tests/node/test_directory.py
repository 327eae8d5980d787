"""mCSD over FHIR (ITI-90, ITI-91) against a running node, with what `obieg directory import` put into it."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import fhir_peer
import peer
import pytest
from fhir_peer import OID, FhirPeer, issues
from fhirpy import AsyncFHIRClient, SyncFHIRClient
from stdnum.pl import regon

import commanding

pytestmark = [pytest.mark.node, pytest.mark.slow]

P = f"{OID}2.16.840.1.113883.3.4424"
ENTITY, UNIT, CELL = f"{P}.2.3.1", f"{P}.2.3.2", f"{P}.2.3.3"
PHYSICIAN, NURSE = f"{P}.1.6.2", f"{P}.1.6.3"
EXAMPLES = peer.SHARED / "data" / "ihe" / "hl7-fhir-r4-examples" / "package"
KINDS = (
    "Organization", "Location", "HealthcareService", "Practitioner", "PractitionerRole", "Endpoint",
    "OrganizationAffiliation",
)  # fmt: skip
HEADER = (
    "Rodzaj;Numer księgi;Cz. V;Cz. VII;Cz. VIII;Nazwa;REGON;NPWZ;Zawód;Specjalizacja;Nazwisko;Imię;Ulica;Miejscowość;"
    "Kod pocztowy;TERYT;Telefon;Szerokość;Długość;Adres usługi;Rodzaj usługi\n"
)
REGON9 = next(f"12345678{d}" for d in range(10) if regon.is_valid(f"12345678{d}"))
ROWS = (
    # A cell before the unit that it belongs to: rows may stand in any order.
    ";4711;01;001;4000;Oddział chorób wewnętrznych;;;;;;;;;;;;;;;\n"
    f";4711;;;;Szpital im. Józefa Dietla w Żółwinach;{REGON9};;;;;;Długa 1;Żółwiny;30-901;1261011;125550100;;;"
    "https://dietl.example/fhir;hl7-fhir-rest\n"
    ";4711;01;;;Szpital, budynek główny;;;;;;;Długa 1;Żółwiny;30-901;1261011;;50.0614;19.9366;;\n"
    ";4711;02;;;Szpital, filia w Łękach;;;;;;;Polna 2;Łęki;32-602;;;49.9;19.2;;\n"
    ";4711;01;002;4500;Oddział chirurgii;;;;;;;;;;;;;;;\n"
    ";4711;01;001;;;;5425740;LEK;0713;Nowak-Żyła;Anna Maria;;;;;;;;;\n"
    ";4711;02;;;;;5425740;LEK;0713;Nowak-Żyła;Anna Maria;;;;;;;;;\n"
    ";4711;01;001;;;;1234567P;;;Kowalska;Zofia;;;;;;;;;\n"
    "podmiot;4712;;;;Przychodnia Pod Dębem;;;;;;;Dębowa 3;Żółwiny;30-901;;;;;;\n"
)
DIETL = "entity-000000004711"


def obieg(node: peer.Node, *arguments: str | Path, code: int = 0) -> str:
    words = ("directory", *arguments, "--settings", node.endpoints["settings"])
    done = commanding.obieg(*words, environment=peer.free_environment(), timeout_s=300)
    assert done.returncode == code, done.stdout + done.stderr
    return done.stdout + done.stderr


def imported(node: peer.Node, *arguments: str | Path, code: int = 0) -> dict[str, Any]:
    text = obieg(node, "import", *arguments, "--json", code=code)
    return json.loads(text[text.index("[") :])[0]


@pytest.fixture(scope="module")
def directory(make_node: peer.MakeNode) -> peer.Node:
    return make_node("directory")


@pytest.fixture(scope="module")
def fhir(directory: peer.Node) -> Iterator[FhirPeer]:
    with fhir_peer.opened(directory) as found:
        yield found


@pytest.fixture(scope="module")
def dietl(directory: peer.Node, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The file, imported."""
    file = tmp_path_factory.mktemp("csv") / "rpwdl.csv"
    file.write_text(HEADER + ROWS, "utf-8")
    counts = imported(directory, file, "--source", "RPWDL")
    assert (counts["rejected"], counts["created"]) == (0, 16)
    return file


@pytest.fixture(scope="module")
def examples(directory: peer.Node, tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, Any]]:
    """HL7's own examples by type and id, imported as NDJSON."""
    files = sorted(p for kind in KINDS for p in EXAMPLES.glob(f"{kind}-*.json"))
    if not files:
        pytest.skip("HL7's examples are not there")
    resources = [json.loads(p.read_text("utf-8")) for p in files]
    file = tmp_path_factory.mktemp("hl7") / "examples.ndjson"
    file.write_text("".join(json.dumps(r, ensure_ascii=False) + "\n" for r in resources), "utf-8")
    counts = imported(directory, file, "--source", "HL7")
    assert (counts["rejected"], counts["created"]) == (0, len(files))
    return {f"{r['resourceType']}/{r['id']}": r for r in resources}


def found(bundle: Mapping[str, Any], mode: str = "match") -> list[str]:
    return [
        f"{e['resource']['resourceType']}/{e['resource']['id']}"
        for e in bundle.get("entry", ())
        if e["search"]["mode"] == mode
    ]


def next_of(bundle: Mapping[str, Any]) -> str:
    return next((link["url"] for link in bundle["link"] if link["relation"] == "next"), "")


def ids(fhir: FhirPeer, kind: str, **parameters: Any) -> set[str]:
    named = {k.replace("__", ":").replace("_D_", "."): v for k, v in parameters.items()}
    bundle = fhir.get(kind, _count=200, **named)
    entries = found(bundle)
    assert bundle["total"] == len(entries)
    return {e.split("/")[1] for e in entries}


# what is found -------------------------------------------------------------------------------------------------------


def test_a_facility_with_everything_that_belongs_to_it(fhir: FhirPeer, dietl: Path) -> None:
    answer = fhir.both("GET", "Organization", params={
        "identifier": f"{ENTITY}|4711",
        "_include": "Organization:endpoint",
        "_revinclude": ["Organization:partof", "Location:organization"],
    })  # fmt: skip
    bundle = answer.json()
    assert found(bundle) == [f"Organization/{DIETL}"]
    resource = bundle["entry"][0]["resource"]
    assert {(i.get("system"), i["value"]) for i in resource["identifier"]} == {
        (ENTITY, "000000004711"),
        (f"{P}.2.2.1", REGON9),
    }
    assert resource["address"][0]["extension"][0]["valueString"] == "TERYT TERC: 1261011"
    assert set(found(bundle, "include")) == {
        "Endpoint/endpoint-entity-000000004711",
        "Organization/unit-000000004711-01",
        "Organization/unit-000000004711-02",
    }
    below = fhir.get("Organization", _id=DIETL, **{
        "_revinclude": "Organization:partof", "_revinclude:iterate": ["Organization:partof", "Location:organization"]})  # fmt: skip
    assert {r.split("/")[1] for r in found(below, "include") if r.startswith("Organization")} == {
        "unit-000000004711-01", "unit-000000004711-02", "cell-000000004711-001", "cell-000000004711-002",
    }  # fmt: skip
    assert "Location/location-unit-000000004711-01" in found(below, "include")


@pytest.mark.parametrize(("kind", "parameters", "expected"), [
    ("Organization", {"name": "szpital im jozefa"}, {DIETL}),
    ("Organization", {"name__contains": "dietla"}, {DIETL}),
    ("Organization", {"name__exact": "Szpital im. Józefa Dietla w Żółwinach"}, {DIETL}),
    ("Organization", {"name__exact": "szpital im. józefa dietla w żółwinach"}, set()),
    ("Organization", {"name": "dietla"}, set()),
    ("Organization", {"identifier": REGON9}, {DIETL}),
    ("Organization", {"identifier": f"{ENTITY}|"}, {DIETL, "entity-000000004712"}),
    ("Organization", {"identifier": f"|{REGON9}"}, set()),
    ("Organization", {"identifier": f"{UNIT}|4711-01"}, {"unit-000000004711-01"}),
    ("Organization", {"address-city": "żołwiny", "partof__missing": "true"}, {DIETL, "entity-000000004712"}),
    ("Organization", {"type__not": "dept", "address-city": "LEKI"}, {"unit-000000004711-02"}),
    ("Organization", {"partof": DIETL}, {"unit-000000004711-01", "unit-000000004711-02"}),
    ("Organization", {"partof__below": DIETL}, {
        "unit-000000004711-01", "unit-000000004711-02", "cell-000000004711-001", "cell-000000004711-002"}),
    ("Organization", {"partof__above": "Organization/cell-000000004711-001"}, {
        "unit-000000004711-01", "unit-000000004711-02", "cell-000000004711-001", "cell-000000004711-002"}),
    ("Organization", {"partof_D_name": "Szpital im"}, {"unit-000000004711-01", "unit-000000004711-02"}),
    ("Organization", {"endpoint_D_connection-type": "hl7-fhir-rest"}, {DIETL}),
    ("Location", {"organization_D_identifier": f"{UNIT}|000000004711-02"}, {"location-unit-000000004711-02"}),
    ("Location", {"near": "50.06|19.94|5|km"}, {"location-unit-000000004711-01"}),
    ("Location", {"near": "50.06|19.94|50", "status": "active"}, {
        "location-unit-000000004711-01"}),
    ("Practitioner", {"family": "nowak zyla"}, {"physician-5425740"}),
    ("Practitioner", {"given": "maria"}, {"physician-5425740"}),
    ("Practitioner", {"identifier": f"{NURSE}|1234567P"}, {"nurse-1234567P"}),
    ("PractitionerRole", {"practitioner_D_identifier": f"{PHYSICIAN}|5425740"}, {
        "physician-5425740-cell-000000004711-001", "physician-5425740-unit-000000004711-02"}),
    ("PractitionerRole", {"organization__below": DIETL, "role": "PIEL"}, {"nurse-1234567P-cell-000000004711-001"}),
    ("PractitionerRole", {"service_D_service-type": "4000", "specialty": "0713"}, {
        "physician-5425740-cell-000000004711-001"}),
    ("HealthcareService", {"specialty": "4500", "active": "true"}, {"service-cell-000000004711-002"}),
    ("Endpoint", {"organization__identifier": "x|y"}, set()),
    ("Endpoint", {"organization": f"Organization/{DIETL}", "status": "active"}, {f"endpoint-{DIETL}"}),
    ("Practitioner", {"_id": "physician-5425740,nobody"}, {"physician-5425740"}),
    ("Organization", {"_lastUpdated": "lt2000-01-01"}, set()),
])  # fmt: skip
@pytest.mark.usefixtures("dietl")
def test_search(fhir: FhirPeer, kind: str, parameters: Mapping[str, str], expected: set[str]) -> None:
    assert ids(fhir, kind, **parameters) == expected


@pytest.mark.usefixtures("dietl")
def test_time_of_change(fhir: FhirPeer) -> None:
    when = fhir.get(f"Organization/{DIETL}")["meta"]["lastUpdated"]
    for prefix, fits in (
        ("ge", True),
        ("le", True),
        ("gt", False),
        ("lt", False),
        ("sa", False),
        ("eb", False),
        ("", True),
    ):
        assert (DIETL in ids(fhir, "Organization", _lastUpdated=f"{prefix}{when}")) is fits, prefix


@pytest.mark.usefixtures("dietl")
def test_read_with_version_and_conditions(fhir: FhirPeer) -> None:
    answer = fhir.both("GET", f"Organization/{DIETL}")
    assert (answer.headers["etag"], answer.json()["meta"]["versionId"]) == ('W/"1"', "1")
    assert answer.headers["last-modified"]
    known = fhir.ask("GET", f"Organization/{DIETL}", headers={"If-None-Match": answer.headers["etag"]})
    assert known.status_code == 304
    assert fhir.get(f"Organization/{DIETL}/_history/1")["id"] == DIETL
    for nobody in ("Organization/nobody", f"Organization/{DIETL}/_history/7", f"Organization/{DIETL}/_history/x"):
        assert fhir.ask("GET", nobody).status_code == 404


@pytest.mark.usefixtures("dietl")
def test_sorted_in_polish(fhir: FhirPeer) -> None:
    bundle = fhir.get("Organization", _sort="-name", identifier=f"{ENTITY}|")
    names = [e["resource"]["name"] for e in bundle["entry"]]
    assert names == ["Szpital im. Józefa Dietla w Żółwinach", "Przychodnia Pod Dębem"]


def test_hl7_examples_are_found_as_they_were_given(fhir: FhirPeer, examples: Mapping[str, dict[str, Any]]) -> None:
    for name, given in examples.items():
        kept = fhir.ask("GET", name)
        assert kept.status_code == 200
        told = json.loads(kept.content, parse_float=str)
        assert {k: v for k, v in told.items() if k != "meta"} == {
            k: v for k, v in json.loads(json.dumps(given), parse_float=str).items() if k != "meta"
        }
        for identifier in given.get("identifier", ()) if isinstance(given.get("identifier"), list) else ():
            if "value" in identifier:
                token = f"{identifier.get('system', '')}|{identifier['value']}"
                assert name.split("/")[1] in ids(fhir, given["resourceType"], identifier=token), token
    assert ids(fhir, "Location", type="RNEU") | {"1"} >= {"1"}
    assert "example" in ids(fhir, "PractitionerRole", practitioner="Practitioner/example", date="ge2012-03-01")
    assert "example" not in ids(fhir, "PractitionerRole", practitioner="example", date="sa2013-01-01")


def test_the_capability_statement(fhir: FhirPeer) -> None:
    rest = fhir.get("metadata")["rest"][0]
    assert "history-system" in {i["code"] for i in rest["interaction"]}
    resources = {r["type"]: r for r in rest["resource"]}
    assert set(KINDS) <= set(resources)
    organization = resources["Organization"]
    assert {"read", "vread", "search-type", "history-type", "history-instance"} == {
        i["code"] for i in organization["interaction"]
    }
    assert "Organization:endpoint" in organization["searchInclude"]
    assert {"Location:organization", "OrganizationAffiliation:primary-organization"} <= set(
        organization["searchRevInclude"]
    )
    assert (
        "https://profiles.ihe.net/ITI/mCSD/StructureDefinition/IHE.mCSD.FacilityOrganization"
        in organization["supportedProfile"]
    )


# clients that nobody here wrote ---------------------------------------------------------------------------------------


@pytest.mark.usefixtures("dietl")
async def test_fhirpy(fhir: FhirPeer) -> None:
    client = SyncFHIRClient(fhir.base)
    role = (
        client.resources("PractitionerRole")
        .search(organization="Organization/cell-000000004711-001", role="LEK")
        .first()
    )
    assert role is not None
    assert role["practitioner"].to_resource()["name"][0]["family"] == "Nowak-Żyła"
    bundle = client.resources("PractitionerRole").include("PractitionerRole", "practitioner").fetch_raw()
    assert {e["search"]["mode"] for e in bundle["entry"]} == {"match", "include"}
    every = await AsyncFHIRClient(fhir.base).resources("Organization").limit(2).fetch_all()
    assert len(every) == len({o["id"] for o in every}) == client.resources("Organization").count()


@pytest.mark.usefixtures("dietl")
def test_fhir_kit_client(fhir: FhirPeer) -> None:
    def kit(call: str, argument: Any) -> Any:
        return fhir.npm(base=fhir.base, call=call, argument=argument)

    bundle = kit("search", {"resourceType": "Organization", "searchParams": {"_count": 2}})["answer"]
    seen = found(bundle)
    while next_of(bundle):
        bundle = kit("nextPage", {"bundle": bundle})["answer"]
        seen += found(bundle)
    assert len(seen) == len(set(seen)) == bundle["total"]
    posted = kit("search", {
        "resourceType": "Location", "searchParams": {"near": "50.06|19.94|5|km"}, "options": {"postSearch": True}})  # fmt: skip
    assert posted["answer"]["total"] == 1
    history = kit("history", {"resourceType": "Organization", "id": DIETL})["answer"]
    assert [e["request"]["method"] for e in history["entry"]] == ["PUT"]
    assert kit("history", {"resourceType": "Organization"})["answer"]["type"] == "history"
    assert kit("history", {})["answer"]["total"] >= 16
    assert kit("vread", {"resourceType": "Organization", "id": DIETL, "version": "1"})["answer"]["id"] == DIETL


# changes -------------------------------------------------------------------------------------------------------------


def organization(id_: str, **more: Any) -> dict[str, Any]:
    return {"resourceType": "Organization", "id": id_, "active": True, "name": f"Organizacja {id_}", **more}


def put(node: peer.Node, folder: Path, resources: Sequence[Mapping[str, Any]], *more: str) -> dict[str, Any]:
    file = folder / f"{peer.number()}.ndjson"
    file.write_text("".join(json.dumps(r) + "\n" for r in resources))
    return imported(node, file, *more)


def test_updates_since(directory: peer.Node, fhir: FhirPeer, tmp_path: Path) -> None:
    """A follower that asks from meta.lastUpdated on is told of every change, of removals as well."""
    since = fhir.get("_history", _count=1)["meta"]["lastUpdated"]
    put(directory, tmp_path, [organization("c1"), organization("c2")], "--source", "changes")
    first = fhir.get("_history", _since=since)
    assert fhir.ask("GET", f"_history?_since={since}", headers={"Accept": fhir_peer.XML}).status_code == 200
    assert [(e["request"]["method"], e["response"]["status"]) for e in first["entry"]] == [("PUT", "201")] * 2
    since = first["meta"]["lastUpdated"]
    put(directory, tmp_path, [organization("c1", alias=["nowa"])], "--source", "changes")
    obieg(directory, "remove", "Organization/c2")
    second = fhir.get("Organization/_history", _since=since)
    told = [(e["fullUrl"].rpartition("/")[2], e["request"]["method"], e["response"]["etag"]) for e in second["entry"]]
    assert told == [("c2", "DELETE", 'W/"2"'), ("c1", "PUT", 'W/"2"')]
    assert "resource" not in second["entry"][0]
    assert fhir.get("Location/_history", _since=since)["total"] == 0
    assert fhir.ask("GET", "Organization/c2").status_code == 410
    assert "c2" not in ids(fhir, "Organization")
    assert fhir.get("Organization/c2/_history")["total"] == 2
    assert fhir.get("Organization/c1/_history/1")["meta"]["versionId"] == "1"
    put(directory, tmp_path, [organization("c2")], "--source", "changes")
    assert fhir.get("Organization/c2")["meta"]["versionId"] == "3"


@pytest.mark.usefixtures("dietl")
def test_what_others_refer_to_is_not_removed(directory: peer.Node, fhir: FhirPeer) -> None:
    said = obieg(directory, "remove", f"Organization/{DIETL}", code=1)
    assert "refer to it" in said
    assert fhir.get(f"Organization/{DIETL}")["active"] is True


def test_pages_are_of_one_moment(directory: peer.Node, fhir: FhirPeer, tmp_path: Path) -> None:
    """While resources are added, renamed, closed and removed, an answer loses nothing and repeats nothing."""
    names = [f"p{n:02}" for n in range(30)]
    source = ("--source", "pages")
    put(directory, tmp_path, [organization(n, alias=["strony"]) for n in names], *source)
    changes = [
        lambda: put(directory, tmp_path, [organization(n, alias=["inne"]) for n in names[10:20]], *source),
        lambda: put(directory, tmp_path, [organization(f"a{n}", alias=["strony"]) for n in names[:5]], *source),
        lambda: obieg(directory, "remove", "Organization/p25"),
    ]
    parameters = {"name__exact": "strony"}
    for sort in ("_id", "-name", "_lastUpdated"):
        seen: list[str] = []
        bundle = fhir.get("Organization", **{"name:exact": "strony", "_sort": sort, "_count": 7})
        total = bundle["total"]
        expected = ids(fhir, "Organization", **parameters)
        if changes:
            changes.pop(0)()
        while True:
            seen += [r.split("/")[1] for r in found(bundle)]
            assert bundle["total"] == total
            if not next_of(bundle):
                break
            bundle = fhir.ask("GET", next_of(bundle).removeprefix(f"{fhir.base}/")).json()
        assert len(seen) == len(set(seen)) == total
        assert set(seen) == expected
    assert ids(fhir, "Organization", **parameters) == {
        *names[:10],
        *names[20:25],
        *names[26:],
        *(f"a{n}" for n in names[:5]),
    }


def test_followers_lose_nothing_while_others_write(directory: peer.Node, fhir: FhirPeer, tmp_path: Path) -> None:
    """Two imports at once; a follower that polls meanwhile has in the end every version exactly where it belongs."""
    since = fhir.get("_history", _count=1)["meta"]["lastUpdated"]
    wanted: set[str] = set()
    writers = []
    for writer in range(2):
        resources = [organization(f"w{writer}-{n}") for n in range(600)]
        wanted |= {r["id"] for r in resources}
        arguments = (directory, tmp_path, resources, "--source", f"writer{writer}")
        writers.append(threading.Thread(target=put, args=arguments))
    for thread in writers:
        thread.start()
    seen: dict[str, str] = {}
    done = False
    while not done:
        done = not any(t.is_alive() for t in writers)
        # Not by the validating peer: there are hundreds of pages, and the others are looked at.
        url, latest = f"{fhir.base}/Organization/_history?_since={since}&_count=200", ""
        while url:
            bundle = fhir.http.get(url).json()
            latest = latest or bundle["meta"]["lastUpdated"]
            for entry in bundle.get("entry", ()):
                seen[entry["resource"]["id"]] = entry["resource"]["meta"]["versionId"]
            url = next_of(bundle)
        since = latest
    assert wanted <= set(seen)
    assert {seen[id_] for id_ in wanted} == {"1"}


@pytest.mark.usefixtures("dietl")
def test_every_request_is_audited_once(directory: peer.Node, fhir: FhirPeer) -> None:
    last = directory.last_audit()
    asked = (
        (f"PractitionerRole?organization:below={DIETL}&_include=PractitionerRole:practitioner", "ITI-90"),
        (f"Organization/{DIETL}", "ITI-90"),
        ("Organization/nobody", "ITI-90"),
        ("_history?_count=1", "ITI-91"),
        ("Organization?_sort=nothing", "ITI-90"),
    )
    for path, _ in asked:
        fhir.ask("GET", path)
    records = directory.audits(last)
    assert [transaction for _, transaction, _, _ in records] == [transaction for _, transaction in asked]


# bad input -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("path", "where"), [
    ("Organization?_sort=telecom", "http._sort"),
    ("Organization?_include=Organization:nothing", "http._include"),
    ("Organization?_include=*", "http._include"),
    ("Organization?_revinclude=Patient:organization", "http._revinclude"),
    ("Organization?_include:recurse=Organization:partof", "http._include"),
    ("Organization?name:above=x", "http.name"),
    ("Organization?partof.partof.name=x", "http.partof.partof.name"),
    ("Organization?name.family=x", "http.name.family"),
    ("Practitioner?active:below=true", "http.active"),
    ("Endpoint?organization.nothing=1", "http.organization.nothing"),
    ("Organization?endpoint:below=Endpoint/1", "http.endpoint"),
])  # fmt: skip
def test_what_cannot_be_obeyed_is_refused(fhir: FhirPeer, path: str, where: str) -> None:
    answer = fhir.ask("GET", path)
    assert answer.status_code == 400
    assert issues(answer) == [("error", "not-supported", where)]


@pytest.mark.parametrize("path", [
    "Organization?_count=-1", "Organization?_count=x", "Location?near=1", "Location?near=91|0|1|km",
    "Location?near=50|19|1|parsec", "Organization?_lastUpdated=2026-13-01", "Organization?name=%20-%20,x",
    "Organization/_history?_since=yesterday", "Organization/_history?_since=2026-01-01",
    "Organization?active:missing=perhaps", "Organization?_total=many", "Organization?partof:below=http://x/Organization/1",
    f"Organization?name={'x' * 501}",
])  # fmt: skip
def test_wrong_values_are_refused(fhir: FhirPeer, path: str) -> None:
    answer = fhir.ask("GET", path)
    assert answer.status_code == 400, answer.text
    assert all(i[0] == "error" and i[2].startswith("http.") for i in issues(answer))


@pytest.mark.usefixtures("dietl")
def test_odd_questions_are_answered(fhir: FhirPeer) -> None:
    huge = fhir.get("Organization", _count=10**9)
    assert len(found(huge)) <= 200
    assert fhir.get("Organization", _count=0)["total"] == huge["total"]
    assert "entry" not in fhir.get("Organization", _summary="count")
    assert "total" not in fhir.get("Organization", _total="none", _count=1)
    lenient = fhir.get("Organization", colour="red", _count=1)
    assert "colour" not in lenient["link"][0]["url"]
    strict = fhir.ask("GET", "Organization", params={"colour": "red"}, headers={"Prefer": "handling=strict"})
    assert strict.status_code == 400
    for text in ("'", "''", "\\", "a\\,b|c$d", "' | 'x", "!(", "x:*", "\u0142'&'", "%"):
        for parameter in ("name:exact", "identifier", "partof", "_id"):
            assert fhir.get("Organization", **{parameter: text})["total"] == 0


def test_circles_end(directory: peer.Node, fhir: FhirPeer, tmp_path: Path) -> None:
    def whole(id_: str) -> dict[str, Any]:
        return {"partOf": {"reference": f"Organization/{id_}"}}

    ring = [organization("r1", **whole("r2")), organization("r2", **whole("r3")), organization("r3", **whole("r1"))]
    put(directory, tmp_path, ring, "--source", "ring")
    bundle = fhir.get("Organization", _id="r1", **{"_include:iterate": "Organization:partof"})
    assert set(found(bundle, "include")) == {"Organization/r2", "Organization/r3"}
    assert ids(fhir, "Organization", partof__below="r1") == {"r1", "r2", "r3"}
    assert ids(fhir, "Organization", partof__above="r1") == {"r1", "r2", "r3"}

"""Documents that lie in a facility's repository, as the region's pages and ITI-68 give them out.

The facility is a node outside the laboratory: mutual TLS, the region's assertions, and it asks the region to decide.
"""

from __future__ import annotations

import json
import re
import socket
import ssl
from collections.abc import Iterator
from contextlib import suppress
from io import BytesIO
from pathlib import Path
from typing import Any

import httpx
import peer
import portals
import psycopg
import pytest
from lxml import etree
from portals import DOCTOR, STRANGER, patient, who_cookie
from pypdf import PdfReader
from standing_in import DrawnImages, drawn_images
from test_vouching import Passage

from obieg.domain.affinity_domain import polish_document
from obieg.ops import settings as node_settings
from obieg.ops.commands_certs import make as make_certificate
from obieg.ops.population import DemoDocument
from obieg.web.areas import PROFESSIONALS
from running import maker, running

pytestmark = pytest.mark.node

LOCAL = ["localhost", "127.0.0.1"]


class Wire(Passage):
    """That can be cut, and be joined to a node that has its port only later."""

    def __init__(self) -> None:
        self.joined: list[socket.socket] = []
        super().__init__(("127.0.0.1", 0))

    def leads_to(self, address: str) -> None:
        url = httpx.URL(address)
        self._address = (url.host, url.port or 0)

    def _join(self, here: socket.socket) -> None:
        self.joined.append(here)
        super()._join(here)

    def cut(self) -> None:
        self.open = False
        for one in self.joined:
            with suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)
        self.joined.clear()


class Field(portals.Region):
    """A region whose documents lie at a hospital."""

    def __init__(
        self, folder: Path, region: peer.Node, hospital: dict[str, str], wire: Wire, archive: DrawnImages
    ) -> None:
        own = {"tls_certificate": str(folder / "his.pem"), "tls_key": str(folder / "his.key")}
        there = {name: hospital[name] for name in ("repository", "retrieve", "repository_uid")}
        codes = peer.Codes(polish_document())
        self.hospital, self.region = peer.Node(hospital, codes), region
        self.wire, self.archive = wire, archive
        self._tls = ssl.create_default_context(cafile=str(folder / "ca.pem"))
        region.http = httpx.Client(verify=self._tls, timeout=60)
        super().__init__(peer.Node({**region.endpoints, **own, **there}, codes))
        self.origin = f"https://localhost:{httpx.URL(region.endpoints['base_url']).port}"
        self.chosen(self.someone)
        self.opened: list[Any] = [self.hospital, self.node]

    def as_(self, who: dict[str, str]) -> httpx.Client:
        cookies = {"who": who_cookie(who), "obieg": peer.oid(), "obieg-patient": peer.oid()}
        http = httpx.Client(
            base_url=self.origin, verify=self._tls, cookies=cookies, timeout=60, headers={"Accept-Language": "pl"}
        )
        self.opened.append(http)
        return http

    def entry(self, unique_id: str) -> tuple[str, str]:
        """entryUUID of a document, and its patient's affinity-domain id."""
        with psycopg.connect(self.node.dsn) as connection:
            [found] = connection.execute(
                "SELECT d.entry_uuid::text, p.affinity_domain_id FROM document_entry d JOIN patient p USING (patient_key)"
                " WHERE d.unique_id = %s",
                (unique_id,),
            ).fetchall()
        return found

    def acts(self, since: int) -> list[tuple[str, int]]:
        """What the region has recorded, without queries."""
        about = ("ITI-43", "ITI-68", "IPS", "RAD-107", "XACML")
        return [(kind, outcome) for _, kind, outcome, _ in self.node.audits(since) if kind in about]

    def given_out(self, since: int) -> list[str]:
        """Records of what the hospital gave out."""
        return [message for _, kind, _, message in self.hospital.audits(since) if kind == "ITI-43"]

    def close(self) -> None:
        for one in self.opened:
            one.close() if isinstance(one, httpx.Client) else one.http.close()
        self.wire.close()


@pytest.fixture(scope="module")
def field(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Field]:
    folder = tmp_path_factory.mktemp("elsewhere")
    for name in ("region", "szpital", "his"):
        make_certificate(folder, name, LOCAL)
    tls = {n: {"certificate_file": folder / f"{n}.pem", "key_file": folder / f"{n}.key", "ca_file": folder / "ca.pem"}
           for n in ("region", "szpital")}  # fmt: skip
    repository, wire = node_settings.new_oid(), Wire()
    reached = {
        "name": "szpital", "address": "127.0.0.2", "repository_unique_id": repository,
        "retrieve_url": f"https://localhost:{wire.port}/services/retrieve", "ca_file": folder / "ca.pem",
    }  # fmt: skip
    with maker(tmp_path_factory, None) as make, drawn_images(folder) as archive:
        region = make(
            "region", module="access_node", access={"enforced": True}, tls=tls["region"], nodes=[reached],
            images=archive.settings,
        )  # fmt: skip
        home = region.endpoints["home_community_id"]
        issuer = {
            "entity_id": f"urn:oid:{home}", "audience": f"urn:oid:{home}",
            "certificate": (Path(region.endpoints["settings"]).parent / "keys" / "sts.pem").read_text(),
        }  # fmt: skip
        (folder / "trust.json").write_text(json.dumps({"client_cas": "ca.pem", "saml_issuers": [issuer]}))
        text = node_settings.write_commented(
            "facility", name="szpital", data_dir=".", workers=1, http={"host": "127.0.0.1", "port": 0},
            tls=tls["szpital"], trust={"file": folder / "trust.json"},
            identity={
                "home_community_id": home, "repository_unique_id": repository,
                "assigning_authority": region.endpoints["assigning_authority"],
            },
            nodes=[{"name": "his", "certificate": "CN=his"}, {"name": "region", "certificate": "CN=region"}],
            registry={
                "register_url": region.endpoints["register"], "query_url": region.endpoints["registry"],
                "decisions_url": region.endpoints["decisions"], "ca_file": folder / "ca.pem",
            },
        )  # fmt: skip
        settings = folder / "data" / "settings.toml"
        settings.parent.mkdir()
        settings.write_text(text)
        with running(folder, "serve", "--settings", settings) as hospital:
            wire.leads_to(hospital["base_url"])
            found = Field(folder, region, hospital, wire, archive)
            yield found
            found.close()


@pytest.fixture(scope="module")
def mine(field: Field) -> list[DemoDocument]:
    """Documents of one patient, those with chapters first."""
    return sorted((d for d in field.documents if d.person is field.someone), key=lambda d: -len(words(d)))


def words(document: DemoDocument) -> str:
    """The longest title of a chapter."""
    titles = etree.fromstring(document.data).iterfind(".//{urn:hl7-org:v3}section/{urn:hl7-org:v3}title")
    return max((str(title.text) for title in titles), key=len, default="")


def test_everybody_who_may_gets_the_document(field: Field, mine: list[DemoDocument]) -> None:
    document = mine[0]
    entry, whose = field.entry(document.unique_id)
    since, there = field.node.last_audit(), field.hospital.last_audit()
    app = field.as_({**DOCTOR, "proof": "oauth", "system": "app"})
    answer = app.get(f"/fhir/Binary/{entry}")
    assert (answer.status_code, answer.content) == (200, document.data), answer.text
    assert answer.headers["content-type"] == "text/xml"
    # The hospital asks who may; then what was fetched and what was given are recorded once each, and there once.
    assert field.acts(since) == [("XACML", 0), ("ITI-68", 0), ("ITI-43", 0)]
    fetched = etree.fromstring(field.node.audits(since)[-1][3].encode())
    event, people = fetched[0], list(fetched.iter("ActiveParticipant"))
    assert (event.get("EventActionCode"), event[0].get("csd-code")) == ("C", "110107")
    roles = {
        p[0].get("csd-code"): p.get("UserIsRequestor") for p in people if len(p) and p.get("UserID") != DOCTOR["person"]
    }
    assert roles == {"110152": "true", "110153": "false"}
    assert document.unique_id in field.node.audits(since)[-1][3]
    [given] = field.given_out(there)
    assert DOCTOR["person"] in given
    assert document.unique_id in given
    # The resource, and a reader's pages.
    resource = app.get(f"/fhir/Binary/{entry}", headers={"Accept": "application/fhir+json"})
    assert resource.json()["contentType"] == "text/xml"
    text = words(document)
    assert text
    for who, page in (
        (DOCTOR, f"{PROFESSIONALS}/treatment/{whose}/document/{entry}"),
        (patient(field.someone), f"/patient/documents/{entry}"),
    ):
        http = field.as_(who)
        shown = http.get(page)
        assert shown.status_code == 200, shown.text
        assert text in re.sub(r"\s+", " ", shown.text)
        assert "nie odpowiada" not in shown.text
        made = http.get(f"{page}/pdf")
        assert (made.status_code, made.content[:5]) == (200, b"%PDF-"), made.text
        assert "".join(text.split()) in "".join(
            "".join(p.extract_text().split()) for p in PdfReader(BytesIO(made.content)).pages
        )
        original = http.get(f"{page}/{'file' if 'patient' in page else 'original?save'}")
        assert (original.status_code, original.content) == (200, document.data)
    assert field.wire.passed <= 2, "connections are kept"
    # Their text is searched as that of documents here, in one message to the hospital.
    since = field.node.last_audit()
    found = app.get(f"/fhir/Patient/{whose}/$search-documents", params={"text": text})
    assert found.status_code == 200, found.text
    assert f"DocumentReference/{entry}" in found.text
    assert {p["name"]: p.get("valueUnsignedInt") for p in found.json()["parameter"]}["left"] == 0
    searched = field.node.audits(since)
    assert [(kind, outcome) for _, kind, outcome, _ in searched if kind == "ITI-43"] == [("ITI-43", 0)]
    # SOAP consumers go to the repository themselves: the region is no gateway.
    refused = field.region.retrieve(document.unique_id, repository=field.hospital.repository)
    assert (refused.codes, refused.documents) == (["XDSUnknownRepositoryId"], {})


def diagnoses(bundle: dict[str, Any]) -> set[str]:
    """What a summary says in codes; that nobody says anything is one, too."""
    resources = [e["resource"] for e in bundle["entry"]]
    return {c["code"] for r in resources if r["resourceType"] == "Condition" for c in r["code"].get("coding", ())}


def test_the_summary_repeats_what_lies_at_a_hospital(field: Field, mine: list[DemoDocument]) -> None:
    _, whose = field.entry(mine[0].unique_id)
    app = field.as_({**DOCTOR, "proof": "oauth", "system": "app"})
    asked = f"/fhir/Patient/{whose}/$summary"
    since, there = field.node.last_audit(), field.hospital.last_audit()
    whole = app.get(asked)
    assert whole.status_code == 200, whole.text
    assert diagnoses(whole.json()) - {"no-problem-info"}
    assert "innym repozytorium" not in whole.text
    assert field.acts(since) == [("XACML", 0), ("ITI-43", 0), ("IPS", 0)]
    [given] = field.given_out(there)
    assert all(document.unique_id in given for document in mine)
    assert mine[0].unique_id in field.node.audits(since)[-1][3]
    field.wire.cut()
    try:
        lacking = app.get(asked)
        assert lacking.status_code == 200, lacking.text
        assert diagnoses(lacking.json()) == {"no-problem-info"}
        assert lacking.text.count("które teraz go nie wydało") == len(mine)
        assert lacking.json()["identifier"] != whole.json()["identifier"]
        assert field.acts(since)[-2:] == [("ITI-43", 8), ("IPS", 0)]
    finally:
        field.wire.open = True
    assert app.get(asked).json()["identifier"] == whole.json()["identifier"]


def test_images_of_a_manifest_that_lies_at_a_hospital(field: Field) -> None:
    first, second = (field.archive.study(field, field.someone, series) for series in ("CR CT", "CR"))
    doctor, owner, stranger = (field.as_(who) for who in (DOCTOR, patient(field.someone), STRANGER))
    entry, whose = field.entry(first)
    since, there = field.node.last_audit(), field.hospital.last_audit()
    assert stranger.get(f"{PROFESSIONALS}/treatment/{whose}/images/{first}/studies").status_code == 404
    assert field.given_out(there) == [], "who may not see it has nobody asked"
    for http, page in (
        (doctor, f"{PROFESSIONALS}/treatment/{whose}/document/{entry}/images"),
        (owner, f"/patient/documents/{entry}/images"),
    ):
        viewer = http.get(page)
        assert viewer.status_code == 200, viewer.text
        pictures = re.findall(r'<img class="im"[^>]* src="([^"]+)"', viewer.text)
        assert pictures
        picture = http.get(pictures[0])
        assert (picture.status_code, picture.content[:4]) == (200, b"\x89PNG")
    assert len(field.given_out(there)) in (1, 2), "a worker remembers the manifest"
    acts = field.acts(since)
    assert ("RAD-107", 0) in acts
    assert ("ITI-43", 0) in acts
    entry, _ = field.entry(second)
    field.wire.cut()
    try:
        shown = doctor.get(f"{PROFESSIONALS}/treatment/{whose}/document/{entry}/images")
        assert shown.status_code == 503
        assert "nie odpowiada" in shown.text
        assert field.acts(since)[-2:] == [("ITI-43", 8), ("RAD-107", 8)]
    finally:
        field.wire.open = True
    assert doctor.get(f"{PROFESSIONALS}/treatment/{whose}/document/{entry}/images").status_code == 200


def test_who_may_not_is_refused_before_anybody_is_asked(field: Field, mine: list[DemoDocument]) -> None:
    document = mine[1]
    entry, whose = field.entry(document.unique_id)
    http, doctor = field.as_(STRANGER), field.as_(DOCTOR)
    assert doctor.get(f"/fhir/Binary/{entry}").status_code == 200
    field.state(
        field.someone, "consent",
        {"id": "1", "period": {}, "provisions": [
            {"permit": False, "condition": {"documents": [document.unique_id, entry]}}]},
    )  # fmt: skip
    since, there = field.node.last_audit(), field.hospital.last_audit()
    assert http.get(f"/fhir/Binary/{entry}").status_code == 404
    assert doctor.get(f"/fhir/Binary/{entry}").status_code == 404
    assert doctor.get(f"{PROFESSIONALS}/treatment/{whose}/document/{entry}").status_code == 404
    assert {kind for kind, _ in field.acts(since)} == {"ITI-68"}
    assert field.given_out(there) == []
    assert field.as_(patient(field.someone)).get(f"/patient/documents/{entry}/file").content == document.data


def test_what_is_not_the_document_is_not_given_out(field: Field, mine: list[DemoDocument]) -> None:
    altered, gone = mine[2], mine[3]
    entry, whose = field.entry(altered.unique_id)
    with psycopg.connect(field.node.dsn) as connection:
        connection.execute("UPDATE document_entry SET hash = %s WHERE unique_id = %s", ("0" * 40, altered.unique_id))
    doctor, since = field.as_(DOCTOR), field.node.last_audit()
    answer = doctor.get(f"/fhir/Binary/{entry}")
    assert answer.status_code == 502
    [issue] = answer.json()["issue"]
    assert issue["details"]["coding"][0]["code"] == "RepositoryAnswerUnfit"
    assert "szpital" in issue["diagnostics"]
    assert words(altered) not in answer.text
    assert field.acts(since)[-2:] == [("ITI-43", 8), ("ITI-68", 8)]
    page = doctor.get(f"{PROFESSIONALS}/treatment/{whose}/document/{entry}")
    assert page.status_code == 200
    assert "nie jest tym dokumentem" in page.text
    assert doctor.get(f"{PROFESSIONALS}/treatment/{whose}/document/{entry}/original").status_code == 502
    # What the hospital does not have any more it says so itself.
    entry, _ = field.entry(gone.unique_id)
    with psycopg.connect(field.hospital.dsn) as connection:
        connection.execute("DELETE FROM stored_document WHERE unique_id = %s", (gone.unique_id,))
    answer = doctor.get(f"/fhir/Binary/{entry}")
    assert (answer.status_code, answer.json()["issue"][0]["details"]["coding"][0]["code"]) == (
        404,
        "RepositoryWithholds",
    )
    assert "nie wydała go" in field.as_(patient(field.someone)).get(f"/patient/documents/{entry}").text


def test_a_hospital_that_does_not_answer(field: Field, mine: list[DemoDocument]) -> None:
    document = mine[0]
    entry, whose = field.entry(document.unique_id)
    doctor, owner = field.as_(DOCTOR), field.as_(patient(field.someone))
    since = field.node.last_audit()
    field.wire.cut()
    try:
        answer = doctor.get(f"/fhir/Binary/{entry}")
        assert answer.status_code == 503
        [issue] = answer.json()["issue"]
        assert (issue["code"], issue["details"]["coding"][0]["code"]) == ("transient", "RepositoryNotAvailable")
        assert field.acts(since) == [("ITI-43", 8), ("ITI-68", 8)]
        for http, page in (
            (doctor, f"{PROFESSIONALS}/treatment/{whose}/document/{entry}"), (owner, f"/patient/documents/{entry}"),
        ):  # fmt: skip
            shown = http.get(page)
            assert shown.status_code == 200
            assert "nie odpowiada" in shown.text
            assert "Spróbuj ponownie" in shown.text
            assert document.unique_id in shown.text or "work" in page
            made = http.get(f"{page}/pdf")
            assert made.status_code == 503
            assert "nie odpowiada" in made.text
    finally:
        field.wire.open = True
    assert doctor.get(f"/fhir/Binary/{entry}").content == document.data
    # The patient reads of each look once: that the region fetched what it gave is none of its own.
    log = owner.get(f"/fhir/Patient/{whose}/$access-log").json()
    kinds = [e["resource"]["subtype"][0]["code"] for e in log["entry"]]
    assert kinds.count("ITI-68") >= 3
    assert "ITI-43" not in kinds

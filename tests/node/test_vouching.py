"""A facility whose region wants tokens: it vouches at the region's token service for whoever asks, and for itself."""

from __future__ import annotations

import asyncio
import json
import socket
import ssl
import threading
import time
from base64 import urlsafe_b64encode
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import httpx
import peer
import psycopg
import pytest
from cryptography import x509
from lxml import etree
from test_access_enforced import CLERK, DOCTOR, STRANGER, N

from obieg.domain.affinity_domain import polish_document
from obieg.ops import settings as node_settings
from obieg.ops.commands_certs import make as make_certificate
from obieg.ops.exchange import Exchange
from running import running

pytestmark = pytest.mark.node


WORLD = Path(__file__).resolve().parents[2] / "docs" / "lab-world"  # with which the laboratory enforces access


class Passage:
    """Passes connections on to an address as long as it is open."""

    def __init__(self, address: tuple[str, int]) -> None:
        self.open, self.passed = True, 0
        self._address = address
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        threading.Thread(target=self._serve, daemon=True).start()

    def close(self) -> None:
        self.open = False
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()

    def _serve(self) -> None:
        with suppress(OSError):
            while True:
                here, _ = self._listener.accept()
                if not self.open:
                    here.close()
                    continue
                self.passed += 1
                threading.Thread(target=self._join, args=(here,), daemon=True).start()

    def _join(self, here: socket.socket) -> None:
        with here, socket.create_connection(self._address) as there:
            back = threading.Thread(target=self._pass, args=(there, here), daemon=True)
            back.start()
            self._pass(here, there)
            back.join()

    def _pass(self, a: socket.socket, b: socket.socket) -> None:
        with suppress(OSError):
            while self.open and (data := a.recv(65536)):
                b.sendall(data)
        for one in (a, b):
            with suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)


class Field:
    """Region and facility, each a node of its own, and who asks the facility."""

    def __init__(self, folder: Path, region: dict[str, str], facility: dict[str, str], passage: Passage) -> None:
        codes = peer.Codes(polish_document())
        self.region, self.passage = peer.Node(region, codes), passage
        self.facility = peer.Node(facility | {"assigning_authority": region["assigning_authority"]}, codes)
        self._tls = ssl.create_default_context(cafile=str(folder / "ca.pem"))
        self._pair = {"tls_certificate": str(folder / "hospital.pem"), "tls_key": str(folder / "hospital.key")}
        self._folder = folder
        self._opened: list[peer.Node] = []

    def as_(self, who: dict[str, str]) -> peer.Node:
        said = urlsafe_b64encode(json.dumps(who).encode()).decode()
        found = peer.Node(self.facility.endpoints, self.facility.codes)
        found.http = httpx.Client(timeout=60, verify=self._tls, headers={"Cookie": f"who={said}"})
        self._opened.append(found)
        return found

    def patient(self) -> str:
        """A new one, whom the region knows."""
        cx = f"{peer.number()}^^^&{self.region.endpoints['assigning_authority']}&ISO"

        async def announce() -> None:
            exchange = Exchange(self.region.endpoints | self._pair, spool_folder=self._folder, facility="SZPITAL")
            try:
                await exchange.announce((f"PID-3|{cx}", "PID-5|KOWALSKA^ANNA"), known=False)
            finally:
                await exchange.close()

        asyncio.run(announce())
        return cx

    def submission(self, patient: str, who: dict[str, str]) -> peer.Submission:
        number = who["person"].rpartition("#")[2]
        author = (f"{number}^Nowak^Jan^^^^^^&2.16.840.1.113883.3.4424.1.6.2&ISO",)
        entry = self.facility.entry(patient, content=b"karta", authors=author, confidentiality=[N])
        return self.facility.submission(patient, entry)

    def asked(self, since: int, *kinds: str) -> list[tuple[str, int, str]]:
        """Transaction, outcome and persons of the region's records."""
        found = [r for r in self.region.audits(since) if r[1] in kinds]
        return [(kind, outcome, _people(message)) for _, kind, outcome, message in found]

    def certificates(self) -> tuple[str, str]:
        """Whose the region and the facility show."""
        sts = httpx.URL(self.region.endpoints["sts"])
        shown = ssl.get_server_certificate((sts.host, sts.port or 0))
        both = (shown.encode(), (self._folder / "hospital.pem").read_bytes())
        region, hospital = (x509.load_pem_x509_certificate(pem).subject.rfc4514_string() for pem in both)
        return region, hospital

    def close(self) -> None:
        for one in (*self._opened, self.region, self.facility):
            one.close()
        self.passage.close()


def _people(message: str) -> str:
    """Who acted, as the record names them."""
    participants = etree.fromstring(message.encode()).iter("ActiveParticipant")
    return " ".join(" ".join(p.attrib.values()) for p in participants)


@pytest.fixture(scope="module")
def field(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Field]:
    folder = tmp_path_factory.mktemp("vouching")
    make_certificate(folder, "hospital", ["localhost", "127.0.0.1"])
    (folder / "trust.json").write_text(json.dumps({"client_cas": "ca.pem"}))
    arguments = ("--secure", "--trust", folder / "trust.json", "--data", folder / "region", "--load", WORLD)
    (folder / "a").mkdir()
    (folder / "b" / "data").mkdir(parents=True)
    with running(folder / "a", "lab", *arguments) as region:
        sts = httpx.URL(region["sts"])
        passage = Passage((sts.host, sts.port or 0))
        names = ("home_community_id", "repository_unique_id", "assigning_authority")
        text = node_settings.write_commented(
            "facility", lab=True, name="asking", data_dir=".", workers=1, http={"host": "127.0.0.1", "port": 0},
            identity={name: node_settings.new_oid() for name in names},
            tls={
                "certificate_file": folder / "hospital.pem", "key_file": folder / "hospital.key",
                "ca_file": folder / "ca.pem",
            },
            registry={
                "register_url": region["register"], "query_url": region["registry"],
                "decisions_url": region["decisions"], "ca_file": region["tls_ca"],
                "sts_url": str(sts.copy_with(port=passage.port)),
            },
        )  # fmt: skip
        settings = folder / "b" / "data" / "settings.toml"
        settings.write_text(text)
        with running(folder / "b", "serve", "--settings", settings, module="access_node") as facility:
            found = Field(folder, region, facility, passage)
            yield found
            found.close()


def test_the_region_knows_for_whom_the_facility_asks(field: Field) -> None:
    patient, doctor = field.patient(), field.as_(DOCTOR)
    since, before = field.region.last_audit(), field.passage.passed
    submitted = doctor.provided(field.submission(patient, DOCTOR))
    [entry] = submitted.entries
    answer = doctor.retrieve(entry.unique_id)
    assert answer.documents == {entry.unique_id: b"karta"}, answer.errors
    doctor.provided(field.submission(patient, DOCTOR))
    asked = field.asked(since, "WST", "ITI-42", "XACML")
    # One assertion for all that this person does.
    assert [kind for kind, *_ in asked] == ["WST", "ITI-42", "XACML", "ITI-42"]
    assert all(outcome == 0 for _, outcome, _ in asked)
    assert all(DOCTOR["person"] in who for kind, _, who in asked if kind != "WST"), asked
    assert field.passage.passed <= before + 1
    # Another person is named by themself, and sees what they may; the house itself asks as itself.
    since = field.region.last_audit()
    for who in (STRANGER, CLERK, {"system": "his"}):
        assert field.as_(who).retrieve(entry.unique_id).documents == {}
    named = [who for kind, _, who in field.asked(since, "XACML")]
    assert STRANGER["person"] in named[0]
    assert CLERK["person"] in named[1]
    assert DOCTOR["person"] not in named[2]
    assert len([1 for kind, *_ in field.asked(since, "WST")]) == 3


def test_certificates_of_both_are_noted_by_the_other(field: Field) -> None:
    field.as_(DOCTOR).provided(field.submission(field.patient(), DOCTOR))
    region, hospital = field.certificates()

    def noted(node: peer.Node, direction: str) -> set[str]:
        with psycopg.connect(node.dsn) as connection:
            rows = connection.execute("SELECT subject FROM peer_certificate WHERE direction = %s", [direction])
            return {subject for (subject,) in rows}

    deadline = time.monotonic() + 30
    while not (noted(field.region, "I") and noted(field.facility, "O")) and time.monotonic() < deadline:
        time.sleep(0.5)
    assert noted(field.region, "I") == {hospital}
    assert noted(field.facility, "O") == {region}


def test_what_no_assertion_can_say_is_refused_and_told(field: Field) -> None:
    patient = field.patient()
    [entry] = field.as_(DOCTOR).provided(field.submission(patient, DOCTOR)).entries
    answer = field.as_({**DOCTOR, "patient": "not an identifier"}).retrieve(entry.unique_id)
    assert answer.documents == {}
    assert "does not vouch for" in str(answer.errors), answer.errors


def test_without_a_token_service_documents_wait_and_are_registered_for_who_brought_them(field: Field) -> None:
    patient, other = field.patient(), {**DOCTOR, "person": f"{DOCTOR['person'][:-7]}3333333"}
    doctor, since = field.as_(other), field.region.last_audit()
    field.passage.open = False
    try:
        submission = field.submission(patient, other)
        answer = doctor.provide(submission)
        assert [code for code, *_ in answer.errors] == ["XDSRegistryNotAvailable"], answer.errors
        busy = doctor.retrieve(submission.entries[0].unique_id)
        assert ([code for code, *_ in busy.errors], busy.documents) == (["XDSRepositoryBusy"], {}), busy.errors
        assert field.asked(since, "ITI-42", "XACML") == []
        [(error,)] = field.facility.rows("SELECT last_error FROM pending_submission")
        assert "token service gives no assertion" in error
    finally:
        field.passage.open = True
    peer.wait_for(lambda: field.asked(since, "ITI-42"))
    [(_, outcome, who)] = field.asked(since, "ITI-42")
    assert outcome == 0
    assert other["person"] in who
    peer.wait_for(lambda: field.facility.rows("SELECT count(*) FROM pending_submission") == [(0,)])
    assert doctor.retrieve(submission.entries[0].unique_id).documents

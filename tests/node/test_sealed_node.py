"""Nodes that seal their audit, keep one another's roots, and refuse when nothing is sealed."""

from __future__ import annotations

import json
import ssl
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx
import peer
import psycopg
import pytest

import commanding
from obieg.domain.sealing import head_of, notes
from obieg.ops.commands_certs import make as make_certificate
from timestamping import running_authority

pytestmark = pytest.mark.node


def url_of(node: peer.Node, path: str) -> str:
    return str(httpx.URL(node.endpoints["registry"]).join(path))


def roots(node: peer.Node, **parameters: Any) -> list[str]:
    answer = httpx.get(url_of(node, "/audit/roots"), params=parameters)
    assert answer.status_code == 200, answer.text
    return list(notes(answer.text.splitlines(keepends=True)))


def metric(node: peer.Node, name: str) -> float:
    lines = httpx.get(url_of(node, "/metrics")).text.splitlines()
    return max((float(line.rpartition(" ")[2]) for line in lines if line.startswith(name)), default=0.0)


def audit(node: peer.Node, *arguments: str) -> tuple[int, Any]:
    words = ("audit", *arguments, "--settings", node.endpoints["settings"])
    done = commanding.obieg(*words, environment=peer.free_environment())
    assert "Traceback" not in done.stderr, done.stderr
    return done.returncode, json.loads(done.stdout)


def all_sealed(node: peer.Node) -> bool:
    [(records, sealed)] = node.rows(
        "SELECT (SELECT count(*) FROM audit_event), (SELECT max(tree_size) FROM audit_seal)"
    )
    return bool(records == sealed)


def test_what_a_node_does_is_sealed_and_kept_by_another(make_node: Callable[..., peer.Node]) -> None:
    node = make_node("sealed", sealing={"interval_s": 0.3})
    witness = make_node("witness", sealing={"interval_s": 0.3, "witness_of": [url_of(node, "/audit/roots")]})
    for _ in range(3):
        patient = node.patient()
        node.registered(node.submission(patient))
        assert node.found(patient).status == "Success"
        peer.wait_for(lambda: all_sealed(node), 20)
    own = roots(node)
    heads = [head_of(note) for note in own]
    assert [head.sequence for head in heads] == list(range(1, len(heads) + 1))
    assert roots(node, after=heads[0].sequence) == own[1:]
    file = Path(node.endpoints["settings"]).parent / "roots.txt"
    with file.open(newline="\n") as lines:
        assert list(notes(lines)) == own
    peer.wait_for(lambda: roots(witness, of=heads[0].origin) == own, 20)
    assert metric(node, "obieg_audit_sealed_total") == heads[-1].tree_size
    peer.wait_for(lambda: metric(node, "obieg_audit_unsealed") == 0, 15)
    assert metric(node, "obieg_audit_seal_age_seconds") < 15
    for wrong in ({"after": "x"}, {"after": "1" * 30}, {"of": "\0"}):
        assert httpx.get(url_of(node, "/audit/roots"), params=wrong).status_code == 400

    status, said = audit(node, "verify", "--json", "--roots", url_of(witness, "/audit/roots"))
    assert (status, said["records"], said["deviations"]) == (0, heads[-1].tree_size, [])
    number = node.last_audit()
    status, proof = audit(node, "prove", str(number))
    assert (status, proof["audit_id"]) == (0, number)

    # Who holds the node's database and its files, but not the witness, cuts off the end of the log.
    with psycopg.connect(node.dsn) as connection:
        connection.execute("DELETE FROM audit_seal WHERE sequence = %s", [heads[-1].sequence])
        connection.execute("DELETE FROM audit_event WHERE audit_id > %s", [heads[-2].complete])
    file.unlink()
    status, said = audit(node, "verify", "--json", "--roots", url_of(witness, "/audit/roots"))
    assert status == 1
    assert ("seal-missing", heads[-1].sequence) in [(d["kind"], d["seal"]) for d in said["deviations"]]


def ask(node: peer.Node, patient: str) -> peer.Answer:
    statuses = peer.quoted(peer.APPROVED)
    return node.query("FindDocuments", XDSDocumentEntryPatientId=f"'{patient}'", XDSDocumentEntryStatus=statuses)


def test_nothing_is_served_when_nothing_is_sealed(make_node: Callable[..., peer.Node]) -> None:
    node = make_node("unsealed", sealing={"interval_s": 0.3, "fail_after_s": 3})
    patient = node.patient()
    with psycopg.connect(node.dsn, autocommit=True) as other:
        # Somebody keeps the sealer from its work.
        peer.wait_for(
            lambda: other.execute("SELECT pg_try_advisory_lock(x'6f62696567000006'::bit(64)::bigint)").fetchall()[0][0],
            10,
        )
        peer.wait_for(lambda: ask(node, patient).codes == ["XDSRegistryBusy"], 30)
        assert httpx.get(url_of(node, "/fhir/Patient"), params={"identifier": "1.2|3"}).status_code == 503
        assert node.feed("A08", patient) == "AE"
        assert httpx.get(url_of(node, "/health")).status_code == 200
        pages = f"http://localhost:{urlsplit(node.endpoints['base_url']).port}"
        told = httpx.get(f"{pages}/login/facility", headers={"accept-language": "en"})
        assert (told.status_code, "cannot seal" in told.text) == (503, True)
        assert httpx.get(f"{pages}/login").status_code == 200, "who mends it can log in"
        log = Path(node.endpoints["settings"]).parent.parent / "node.log"
        assert "the node refuses requests: the audit is not sealed" in log.read_text()
    peer.wait_for(lambda: ask(node, patient).status == "Success", 30)


@contextmanager
def over_tls(folder: Path, *, get: str, post: str) -> Iterator[str]:
    """The address of a server whose certificate only the authority in ``folder`` vouches for, before two others."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.passed_on(httpx.get(f"{get}{self.path}"))

        def do_POST(self) -> None:
            content = self.rfile.read(int(self.headers["Content-Length"]))
            self.passed_on(httpx.post(post, content=content, headers={"Content-Type": self.headers["Content-Type"]}))

        def passed_on(self, answer: httpx.Response) -> None:
            self.send_response(answer.status_code)
            self.send_header("Content-Type", answer.headers["content-type"])
            self.send_header("Content-Length", str(len(answer.content)))
            self.end_headers()
            self.wfile.write(answer.content)

        def log_message(self, *_: object) -> None:
            pass

    certificate, key = make_certificate(folder, "server", ["127.0.0.1"])
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.socket = context.wrap_socket(server.socket, server_side=True)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"https://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()


def test_servers_are_known_by_the_authorities_of_the_settings(
    make_node: Callable[..., peer.Node], tmp_path: Path
) -> None:
    """Time-stamps, roots of another node, and roots that are fetched to verify."""
    (tmp_path / "tsa").mkdir()
    node = make_node("stamped-other", sealing={"interval_s": 0.3})
    node.patient()
    with (
        running_authority(tmp_path / "tsa") as authority,
        over_tls(tmp_path / "tls", get=url_of(node, "/").rstrip("/"), post=authority.url) as front,
    ):
        sealing = {"interval_s": 0.3, "tsa_url": front, "tsa_ca_file": authority.ca}
        sealing |= {"witness_of": [f"{front}/audit/roots"]}
        believing = make_node("believing", sealing={**sealing, "ca_file": tmp_path / "tls" / "ca.pem"})
        doubting = make_node("doubting", sealing=sealing)
        kept = "SELECT (SELECT count(*) FROM audit_timestamp) > 0, (SELECT count(*) FROM audit_witnessed) > 0"
        for each in (believing, doubting):
            each.patient()
        peer.wait_for(lambda: believing.rows(kept) == [(True, True)], 20)
        peer.wait_for(lambda: metric(doubting, 'obieg_audit_sealing_failures_total{what="time-stamp"}') > 0, 20)
        peer.wait_for(lambda: metric(doubting, 'obieg_audit_sealing_failures_total{what="witness"}') > 0, 20)
        assert doubting.rows(kept) == [(False, False)]
        mine = f"{front}/audit/roots"
        assert audit(believing, "verify", "--json", "--roots", mine)[0] == 0
        done = commanding.obieg("audit", "verify", "--roots", mine, "--settings", doubting.endpoints["settings"])
        assert (done.returncode, "CERTIFICATE_VERIFY_FAILED" in done.stdout + done.stderr) == (1, True)

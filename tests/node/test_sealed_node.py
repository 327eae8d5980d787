"""Nodes that seal their audit, keep one another's roots, and refuse when nothing is sealed."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import peer
import psycopg
import pytest

from obieg.domain.sealing import head_of, notes

pytestmark = pytest.mark.node


def url_of(node: peer.Node, path: str) -> str:
    return str(httpx.URL(node.endpoints["registry"]).join(path))


def roots(node: peer.Node, **parameters: Any) -> list[str]:
    answer = httpx.get(url_of(node, "/audit/roots"), params=parameters)
    assert answer.status_code == 200, answer.text
    return list(notes(answer.text.splitlines(keepends=True)))


def metric(node: peer.Node, name: str) -> float:
    lines = httpx.get(url_of(node, "/metrics")).text.splitlines()
    return max(float(line.rpartition(" ")[2]) for line in lines if line.startswith(name))


def audit(node: peer.Node, *arguments: str) -> tuple[int, Any]:
    command = [sys.executable, "-m", "obieg", "audit", *arguments, "--settings", node.endpoints["settings"]]
    done = subprocess.run(command, capture_output=True, text=True, env=peer.free_environment(), check=False)
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
        log = Path(node.endpoints["settings"]).parent.parent / "node.log"
        assert "the node refuses requests: the audit is not sealed" in log.read_text()
    peer.wait_for(lambda: ask(node, patient).status == "Success", 30)

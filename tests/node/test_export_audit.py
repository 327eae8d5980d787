"""A retrieval leaves one audit record, and its outcome is what was given out."""

from __future__ import annotations

import peer
import pytest

pytestmark = pytest.mark.node


def outcomes(node: peer.Node, since: int) -> list[tuple[str, int]]:
    return [(transaction, outcome) for _, transaction, outcome, _ in node.audits(since)]


def test_each_retrieval_leaves_one_record_with_its_outcome(node: peer.Node) -> None:
    patient = node.patient()
    there = node.provided(node.submission(patient, node.entry(patient))).entries[0].unique_id

    since = node.last_audit()
    assert node.retrieve(there).status == "Success"
    assert outcomes(node, since) == [("ITI-43", 0)]

    since = node.last_audit()
    assert node.retrieve(there, "1.2.3.4").status == "PartialSuccess"
    assert outcomes(node, since) == [("ITI-43", 4)]
    assert "XDSDocumentUniqueIdError" in node.audits(since)[0][3]

    since = node.last_audit()
    assert node.retrieve("1.2.3.4").status == "Failure"
    assert outcomes(node, since) == [("ITI-43", 4)]

    since = node.last_audit()
    assert node.retrieve(there, repository="1.2.3").status == "Failure"
    assert outcomes(node, since) == [("ITI-43", 4)]

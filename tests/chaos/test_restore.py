"""A backup made while documents come in holds everything acknowledged before it began."""

from __future__ import annotations

import sys
import time
from collections import Counter
from pathlib import Path

import peer
import pytest
from pair import HOSPITAL_REPOSITORY, Pair
from submitters import Load, Sent, wait_until_served

pytestmark = [pytest.mark.node, pytest.mark.slow]


def assert_readable(pair: Pair, acknowledged: list[Sent]) -> None:
    region, facility = pair.at_region(), pair.at_facility()
    found: dict[str, Counter[str]] = {}
    for sent in acknowledged:
        if sent.patient not in found:
            found[sent.patient] = Counter(region.unique_ids(sent.patient))
        assert [found[sent.patient][u] for u in sent.documents] == [1] * len(sent.documents)
        if sent.repository != HOSPITAL_REPOSITORY:
            reader = facility if sent.repository == pair.facility_repository else region
            assert reader.retrieve(*sent.documents).documents == sent.documents


def test_a_backup_made_under_load(folder: Path) -> None:
    pair = Pair(folder / "first")
    restored = Pair(folder / "second", like=pair)
    nodes = [(pair.region, restored.region), (pair.facility, restored.facility)]
    load = Load(pair)
    try:
        pair.start()
        load.start()
        peer.wait_for(lambda: len(load.acknowledged) >= 200, 60)
        began = time.monotonic()
        for node, _ in nodes:
            node.command("backup", folder / f"backup-{node.folder.name}", "--key", folder / "backup.key")
        took_s = time.monotonic() - began
        peer.wait_for(lambda: load.acknowledged[-1].acknowledged_at > began + took_s)
        load.stop()
        assert not load.failures, load.failures
        before = [s for s in load.acknowledged if s.acknowledged_at < began]
        during = [s for s in load.acknowledged if began < s.acknowledged_at < began + took_s]
        assert during, "the backup ran under load"
        pair.end()
        for _, node in nodes:
            node.command("restore", folder / f"backup-{node.folder.name}", "--key", folder / "backup.key")
        restored.start()
        wait_until_served(restored)
        restored.settled()
        assert_readable(restored, before)
        for _, node in nodes:
            node.command("verify")
        # The restored nodes go on: what was lost with the machine is sent again and is no duplicate.
        sent = restored.at_facility().symbolic(before[0].patient, b"after the restore")
        assert sent.send().status == "Success"
        assert restored.at_facility().retrieve(*sent.unique_ids).documents == {sent.unique_ids[0]: b"after the restore"}
        sys.stdout.write(
            f"\n{len(before)} acknowledged before the backup, {len(during)} while it ran ({took_s:.1f} s): none lost\n"
        )
    finally:
        load.stopping.set()
        pair.end()
        restored.end()

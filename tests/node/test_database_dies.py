"""The embedded database dies under a running node: the supervisor starts it again, and nothing acknowledged is lost."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from pathlib import Path

import peer
import pytest

from obieg.ops.postgres import Server

pytestmark = pytest.mark.node


def test_a_killed_database_comes_back(make_node: Callable[..., peer.Node]) -> None:
    node = make_node("mortal")
    patient = node.patient()
    server = Server(Path(node.endpoints["settings"]).parent / "postgres")
    before = server.pid
    assert before is not None
    os.kill(before, signal.SIGKILL)

    def served() -> bool:
        try:
            node.patient()
        except (AssertionError, OSError):
            return False
        return True

    # Backends of the killed server may serve for a moment yet: a new server first, then an answer.
    peer.wait_for(lambda: server.pid not in (None, before), 30)
    peer.wait_for(served, 30)
    assert node.feed("A08", patient)

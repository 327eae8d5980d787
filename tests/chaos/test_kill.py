"""``kill -9`` at any moment loses no acknowledged document and leaves nothing half visible."""

from __future__ import annotations

import itertools
import random
import sys
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from link_proxy import State
from pair import Pair, Process, eventually
from submitters import Load, check, wait_until_served

pytestmark = pytest.mark.node
# While the nodes are up, between two kills: time in which submissions begin, pass and end.
BETWEEN_S = (0.05, 0.8)


@dataclass
class Killer:
    """Kills one thing after another and sees to it that it comes back."""

    pair: Pair
    random: random.Random
    killed: Counter[str] = field(default_factory=Counter)
    restart_s: list[float] = field(default_factory=list)

    def one_worker(self, node: Process) -> None:
        self._workers(node, 1)

    def all_workers(self, node: Process) -> None:
        self._workers(node, 64)

    def _workers(self, node: Process, count: int) -> None:
        assert eventually(lambda: len(node.workers()) == 2, 15), "the supervisor restarts its workers"
        assert node.kill_workers(count) > 0
        self.killed[f"workers of the {node.folder.name}"] += 1

    def supervisor(self, node: Process) -> None:
        node.kill_supervisor()
        self.killed[f"supervisor of the {node.folder.name}"] += 1
        self._restart(node)

    def postmaster(self, node: Process) -> None:
        node.kill_postmaster()
        self.killed[f"postmaster of the {node.folder.name}"] += 1
        time.sleep(self.random.uniform(0, 0.5))
        node.kill_supervisor()
        self._restart(node)

    def backend(self, node: Process) -> None:
        """One connection's process: PostgreSQL ends all others, recovers and goes on under the running node."""
        node.kill_backend()
        self.killed[f"database of the {node.folder.name}"] += 1

    def database_and_supervisor(self, node: Process) -> None:
        """The next supervisor finds a server that is still recovering."""
        node.kill_backend()
        node.kill_supervisor()
        self.killed[f"database and supervisor of the {node.folder.name}"] += 1
        self._restart(node)

    def _restart(self, node: Process) -> None:
        began = time.monotonic()
        node.start()
        self.restart_s.append(time.monotonic() - began)

    def link(self, state: State) -> None:
        self.pair.link.state = state
        self.killed["link"] += 1
        time.sleep(self.random.uniform(0.1, 0.6))
        self.pair.link.state = State.UP

    def acts(self) -> list[Callable[[], None]]:
        """One round, in any order."""
        region, facility = self.pair.region, self.pair.facility
        acts: list[Callable[[], None]] = [
            lambda: self.one_worker(region),
            lambda: self.one_worker(facility),
            lambda: self.all_workers(region),
            lambda: self.all_workers(facility),
            lambda: self.backend(region),
            lambda: self.backend(facility),
            lambda: self.link(State.DOWN),
            lambda: self.link(State.CUT_ANSWERS),
            lambda: self.link(State.STALLED),
            lambda: self.supervisor(self.random.choice((region, facility))),
            lambda: self.postmaster(self.random.choice((region, facility))),
            lambda: self.database_and_supervisor(self.random.choice((region, facility))),
        ]
        self.random.shuffle(acts)
        return acts

    def run(self, count: int) -> None:
        rounds = itertools.chain.from_iterable(iter(self.acts, None))
        for act in itertools.islice(rounds, count):
            act()
            time.sleep(self.random.uniform(*BETWEEN_S))


@pytest.mark.slow
def test_many_kills_under_load(folder: Path) -> None:
    seed, count = random.randrange(2**32), 60  # five of each kind
    pair = Pair(folder)
    load = Load(pair)
    try:
        pair.start()
        load.start()
        began = time.monotonic()
        killer = Killer(pair, random.Random(seed))
        time.sleep(1)
        killer.run(count)
        killing_s = time.monotonic() - began
        wait_until_served(pair)
        time.sleep(1)
        load.stop()
        stopped = time.monotonic()
        for node in (pair.facility, pair.region):
            node.kill_supervisor()
        pair.start()
        wait_until_served(pair)
        pair.settled()
        settled_s = time.monotonic() - stopped
        result = check(pair, load)
        assert sum(killer.killed.values()) == count
        assert result["acknowledged"] > count
        slowest = max(killer.restart_s, default=0)
        sys.stdout.write(
            f"\nseed {seed}; {count} kills {dict(killer.killed)}; {result}; answers {dict(load.answers)}; "
            f"killing {killing_s:.0f} s, slowest restart {slowest:.1f} s, settled after {settled_s:.0f} s\n"
        )
    except BaseException:
        sys.stdout.write(f"\nseed {seed}\n{pair.region.last_words()[-3000:]}\n{pair.facility.last_words()[-3000:]}\n")
        raise
    finally:
        load.stopping.set()  # whatever happened: clients that nobody stops fill the memory of the whole run
        pair.end()

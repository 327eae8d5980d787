"""A node with a source of on-demand documents: ``python -m on_demand_node serve --settings FILE --ready-file FILE``.

What it makes stands in the file ``now`` of the data folder: the first line is what the document says, the rest may
change without meaning. It makes the documents of entries called ``Podsumowanie``.
"""

from __future__ import annotations

from pathlib import Path

from changed_node import main

from obieg.domain.documents import DocumentEntry
from obieg.domain.on_demand import FoundOnDemand, Made
from obieg.domain.problems import Problem
from obieg.ops import wiring
from obieg.ops.settings import Settings
from obieg.protocol import Context


class FromFile:
    def __init__(self, path: Path) -> None:
        self._path = path

    def makes(self, entry: DocumentEntry) -> bool:
        return any(text == "Podsumowanie" for _, text in entry.title)

    async def make(self, found: FoundOnDemand, context: Context) -> Made:
        assert context.transaction.id == "ITI-43"
        assert found.entry.hash is None
        data = self._path.read_bytes()
        if data == b"nothing":
            raise Problem.of("XDSRepositoryError", "there is nothing to sum up")
        return Made(data, "text/plain", data.partition(b"\n")[0])


def build(settings: Settings) -> wiring.Node:
    wiring.on_demand_sources = lambda _actors, _settings: (FromFile(settings.data_dir / "now"),)  # type: ignore[assignment]
    return wiring.build(settings)


if __name__ == "__main__":
    main("on_demand_node:build")

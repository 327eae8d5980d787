"""Notes in a file outside the database: what was once written there is only added to."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import psycopg

from obieg.domain.sealing import CUT_OFF, NotANote, digest, head_of, is_whole, notes
from obieg.storage.seal_store import SQL, run

_PAGE = 500
_LINE_BYTES_MAX = 4096


class RootsFile:
    """Brings the file up to the seals of the database."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._newest: int | None = None  # sequence of the newest seal that is in the file; None: not looked yet

    def publish(self, connection: psycopg.Connection[Any]) -> bool:
        """Adds what is missing, durably. False where the file has seals that the database does not have."""
        sound = True
        if self._newest is None:
            self._newest, sound = self._compare(connection)
        while page := run(connection, SQL.notes_after, after=self._newest, count=_PAGE):
            self._append([note for _, note in page])
            self._newest = page[-1][0]
        return sound

    def _compare(self, connection: psycopg.Connection[Any]) -> tuple[int, bool]:
        """The newest seal that both have, and whether the file has none that the database does not have."""
        known = {digest(note) for note in self.read()}
        newest = 0
        while page := run(connection, SQL.notes_after, after=newest, count=_PAGE):
            held = [sequence for sequence, note in page if digest(note) in known]
            known -= {digest(note) for _, note in page}
            newest = max(held, default=newest)
            if len(held) < len(page):
                break
        return newest, not known

    def read(self) -> Iterator[str]:
        """The notes that stand there; a last one that was cut off while it was written is left out."""
        with suppress(FileNotFoundError), self._path.open(encoding="utf-8", newline="\n") as file:
            for note in notes(file):
                with suppress(NotANote):
                    head_of(note)
                    yield note

    def _append(self, added: list[str]) -> None:
        self._path.parent.mkdir(parents=True, exist_ok=True)
        with self._path.open("ab+") as file:
            file.seek(max(0, file.seek(0, os.SEEK_END) - _LINE_BYTES_MAX))
            lines = file.read().decode("utf-8", "replace").splitlines(keepends=True)
            if lines and not is_whole(lines[-1]):
                file.write(b"\n" * (not lines[-1].endswith("\n")) + CUT_OFF.encode())
            file.write("".join(added).encode())
            file.flush()
            os.fsync(file.fileno())

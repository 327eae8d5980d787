"""One owner of a folder at a time. The lock ends with the process that holds it, however it ends."""

from __future__ import annotations

import fcntl
import os
from pathlib import Path

from obieg.ops.failure import Failure


class FolderLock:
    """The file ``lock`` in a folder, locked exclusively; it names the process that holds it."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._descriptor: int | None = None

    def take(self) -> None:
        """Makes the folder if there is none; raises :class:`Failure` when another process holds it."""
        try:
            self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            descriptor = os.open(self._folder / "lock", os.O_RDWR | os.O_CREAT, 0o600)
        except OSError as error:
            raise Failure(
                f"The folder {self._folder} cannot be used: {error.strerror}.",
                "The node keeps everything it knows there.",
                "Give the folder to the user that runs obieg, or name another data_dir in the settings.",
            ) from error
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            owner = os.pread(descriptor, 32, 0).decode("ascii", "replace").strip()
            os.close(descriptor)
            raise Failure(
                f"Another obieg (process {owner or 'unknown'}) already runs on {self._folder}.",
                "Two nodes on one folder would destroy it, so this one was not started.",
                "Stop the other one first, or give this node a data_dir of its own.",
                exit_code=3,
            ) from None
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, f"{os.getpid()}\n".encode(), 0)
        self._descriptor = descriptor

    def release(self) -> None:
        """Lets others have the folder."""
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None

"""Sees to it that a folder of segments belongs to one machine: a second one is told to use an S3 store.

The folder's file ``machine`` holds the machine's id and the id of its present boot, and everybody who uses the folder
holds a shared flock on it. Another machine id is refused always; another boot id only while somebody holds the lock,
for then two kernels are at work on the folder (two machines cloned from one image).
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import socket
from pathlib import Path

MARKER = "machine"
_MACHINE_ID = Path("/etc/machine-id")
_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")


class FolderInUseError(Exception):
    """The folder cannot be used here and now; the message says what to do."""


class Claim:
    """Held for as long as the folder is used; the kernel lets go of it when the process dies."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor

    def close(self) -> None:
        """Lets go."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1


def claim(folder: Path, *, alone: bool = False) -> Claim:
    """Claims the folder for this machine, or with ``alone`` for this process; raises :class:`FolderInUseError`."""
    path = folder / MARKER
    descriptor = os.open(path, os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600)
    try:
        _claim(path, descriptor, alone=alone)
    except BaseException:
        os.close(descriptor)
        raise
    return Claim(descriptor)


def _claim(path: Path, descriptor: int, *, alone: bool) -> None:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        first = True
    except BlockingIOError:
        if alone:
            raise FolderInUseError(f"{path.parent} is in use; stop the node first") from None
        fcntl.flock(descriptor, fcntl.LOCK_SH)  # waits while the first one writes the file below
        first = False
    ours = _machine_id()
    machine, boot, name = [*os.pread(descriptor, 4096, 0).decode("utf-8", "replace").split("\n"), "", "", ""][:3]
    if machine not in ("", ours):
        raise FolderInUseError(
            f"{path.parent} belongs to the machine {name!r}: segments serve one machine only. "
            f"A node with several machines needs store.kind = s3. If the folder was moved here for good, remove {path}"
        )
    if not first and boot != _boot_id():
        raise FolderInUseError(
            f"{path.parent} is in use by another machine: segments serve one machine only. "
            "A node with several machines needs store.kind = s3"
        )
    if first:
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, f"{ours}\n{_boot_id()}\n{socket.gethostname()}\n".encode(), 0)
        if not alone:
            fcntl.flock(descriptor, fcntl.LOCK_SH)


def _machine_id() -> str:
    """A hash, because machine-id(5) asks that the id itself be kept confidential."""
    try:
        identity = _MACHINE_ID.read_text("ascii").strip()
    except FileNotFoundError:
        identity = ""
    return hashlib.sha256(f"obieg segments {identity or socket.gethostname()}".encode()).hexdigest()


def _boot_id() -> str:
    try:
        return _BOOT_ID.read_text("ascii").strip()
    except FileNotFoundError:
        return ""

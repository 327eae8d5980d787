"""The system user that PostgreSQL runs as when the node itself is started by root, which PostgreSQL refuses."""

from __future__ import annotations

import contextlib
import os
import pwd
import shutil
import struct
import subprocess
from pathlib import Path
from typing import TypedDict

from obieg.ops.failure import Failure

DEDICATED = "obieg"
FALLBACKS = ("postgres", "nobody")

# Linux: struct posix_acl_xattr_header, posix_acl_xattr_entry (include/uapi/linux/posix_acl_xattr.h).
_ACL_NAME = "system.posix_acl_access"
_ACL_HEADER = struct.Struct("<I")
_ACL_ENTRY = struct.Struct("<HHI")
_ACL_VERSION = 2
_USER_OBJECT, _USER, _GROUP_OBJECT, _MASK, _OTHER = 0x01, 0x02, 0x04, 0x10, 0x20
_NOBODY_ID = 0xFFFFFFFF
_SEARCH = 1


class RunAs(TypedDict, total=False):
    """Arguments of :mod:`subprocess` that give up the rights of root."""

    user: int
    group: int
    extra_groups: list[int]


def server_account() -> pwd.struct_passwd | None:
    """Whom PostgreSQL must run as; None when that is the calling user."""
    if os.geteuid() != 0:
        return None
    account = _find(DEDICATED)
    if account is None and (useradd := shutil.which("useradd", path="/usr/sbin:/sbin:/usr/bin:/bin")):
        options = ["--system", "--no-create-home", "--home-dir", "/nonexistent", "--shell", "/usr/sbin/nologin"]
        subprocess.run([useradd, *options, DEDICATED], check=False, capture_output=True)  # noqa: S603
    for name in (DEDICATED, *FALLBACKS):
        if (account := _find(name)) is not None and account.pw_uid != 0:
            return account
    raise Failure(
        "No system user for PostgreSQL could be found or made.",
        "PostgreSQL refuses to run as root.",
        "Run obieg as an ordinary user, or make one for the database: useradd --system obieg",
    )


def run_as(account: pwd.struct_passwd | None) -> RunAs:
    """How :mod:`subprocess` is told."""
    if account is None:
        return {}
    return {"user": account.pw_uid, "group": account.pw_gid, "extra_groups": []}


def give(path: Path, account: pwd.struct_passwd | None) -> None:
    """Makes ``path`` the account's own."""
    if account is not None:
        os.chown(path, account.pw_uid, account.pw_gid, follow_symlinks=False)


def let_through(path: Path, account: pwd.struct_passwd | None) -> None:
    """Lets the account pass through the parents of ``path``: search only, and only where it could not pass already.

    This is for folders below a home directory that others may not enter (/root). An access-control entry lets in this
    one account; only a file system without such entries gets the search bit for others.
    """
    if account is None:
        return
    for parent in reversed(path.resolve().parents):
        facts = parent.stat()
        own = facts.st_uid == account.pw_uid and facts.st_mode & 0o100
        if not own and not facts.st_mode & 0o001:
            try:
                _add_search(parent, account.pw_uid, facts.st_mode)
            except OSError:
                parent.chmod(facts.st_mode | 0o001)


def _add_search(folder: Path, uid: int, mode: int) -> None:
    entries: dict[tuple[int, int], int] = {}
    with contextlib.suppress(OSError):
        raw = os.getxattr(folder, _ACL_NAME)
        entries = {(tag, who): rights for tag, rights, who in _ACL_ENTRY.iter_unpack(raw[_ACL_HEADER.size :])}
    if not entries:
        entries = {
            (_USER_OBJECT, _NOBODY_ID): mode >> 6 & 7,
            (_GROUP_OBJECT, _NOBODY_ID): mode >> 3 & 7,
            (_MASK, _NOBODY_ID): mode >> 3 & 7,
            (_OTHER, _NOBODY_ID): mode & 7,
        }
    if entries.get((_USER, uid), 0) & entries[_MASK, _NOBODY_ID] & _SEARCH:
        return
    entries[_USER, uid] = entries.get((_USER, uid), 0) | _SEARCH
    entries[_MASK, _NOBODY_ID] = entries.get((_MASK, _NOBODY_ID), 0) | _SEARCH
    ordered = (_ACL_ENTRY.pack(tag, rights, who) for (tag, who), rights in sorted(entries.items()))
    os.setxattr(folder, _ACL_NAME, _ACL_HEADER.pack(_ACL_VERSION) + b"".join(ordered))


def _find(name: str) -> pwd.struct_passwd | None:
    try:
        return pwd.getpwnam(name)
    except KeyError:
        return None


def os_user() -> str:
    """Who types: the system's name of the user."""
    try:
        return pwd.getpwuid(os.getuid()).pw_name
    except KeyError:
        return str(os.getuid())

"""Reads the ready file of a running node: where it is and who it is."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import msgspec

from obieg.codes.load import toml
from obieg.domain.issuing import Claims
from obieg.ops.failure import Failure

PESEL_ROOT: str = toml("national/pl/pik.toml")["roots"]["pesel"]
PESEL_DIGITS = 11
_OWN_REQUEST = "PATRQT"  # HL7 v3 PurposeOfUse: patient request


def read(path: Path) -> dict[str, Any]:
    """The endpoints that ``obieg serve``, ``lab`` or ``demo`` wrote; ``nodes`` holds those of further nodes by name."""
    try:
        endpoints: dict[str, Any] = json.loads(path.read_text("utf-8"))
    except FileNotFoundError:
        raise Failure(
            f"There is no ready file {path}.",
            "A node writes it when it is ready and removes it when it stops.",
            "Start the node with --ready-file, or name the file it was started with.",
        ) from None
    except (OSError, ValueError) as error:
        raise Failure(
            f"The ready file {path} cannot be read: {error}.",
            "It tells where the node is.",
            "Name the file that the node was started with.",
        ) from error
    return endpoints


def asker(endpoints: dict[str, Any], login: str, purpose: str = "") -> Claims | None:
    """Who asks: a person whom the ready file names, or the patient with this PESEL; ``""``: whom it names for that.

    None where it names nobody: then a system asks. Raises Failure for somebody else.
    """
    login = login or endpoints.get("person", "")
    if not login:
        return None
    if login.isascii() and login.isdigit() and len(login) == PESEL_DIGITS:
        return Claims(person=f"{PESEL_ROOT}#{login}", role="patient", purpose_of_use=purpose or _OWN_REQUEST)
    found = endpoints.get("people", {}).get(login)
    if found is None:
        raise Failure(
            f"The ready file names nobody {login!r}.",
            "The node would not know who asks; nothing was asked.",
            f"Give a PESEL, or one of: {', '.join(endpoints.get('people', {})) or 'nobody'}.",
        )
    return msgspec.structs.replace(msgspec.convert(found, Claims), purpose_of_use=purpose)

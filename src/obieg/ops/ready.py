"""Reads the ready file of a running node: where it is and who it is."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from obieg.ops.failure import Failure


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

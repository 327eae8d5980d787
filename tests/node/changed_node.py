"""Serves a node of which a test has changed a part; the module that changes it names what builds it."""

from __future__ import annotations

import sys
from pathlib import Path

from obieg.ops import settings as node_settings
from obieg.ops.supervisor import serve


def main(builder: str) -> None:
    """As ``obieg serve --settings FILE --ready-file FILE``; ``builder``: ``module:function`` of each worker."""
    given = dict(zip(sys.argv[2::2], sys.argv[3::2], strict=True))
    path = Path(given["--settings"])
    serve(node_settings.load(path), settings_file=path, ready_file=Path(given["--ready-file"]), builder=builder)

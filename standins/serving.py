"""How stand-ins are started: what they are told on the command line, and that they serve until they are stopped."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from typing import Any

import uvicorn
from starlette.applications import Starlette


def arguments(name: str, description: str, port: int) -> argparse.ArgumentParser:
    """Those of every stand-in: where it listens."""
    parser = argparse.ArgumentParser(f"python -m standins.{name}", description=description)
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on")
    parser.add_argument("--port", type=int, default=port, help="TCP port")
    return parser


def serve(application: Starlette, given: argparse.Namespace, **more: Any) -> None:
    """Until it is stopped; nothing is remembered afterwards."""
    uvicorn.run(application, host=given.host, port=given.port, log_level="warning", **more)


def serve_callers(name: str, description: str, port: int, application: Callable[[str], Starlette]) -> None:
    """A stand-in that asks its callers for a key, or for none."""
    parser = arguments(name, description, port)
    parser.add_argument("--key", default="", help="bearer key that callers must show")
    given = parser.parse_args()
    serve(application(given.key), given)

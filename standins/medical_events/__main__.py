"""``python -m standins.medical_events --port 8099``; a node asks ``http://127.0.0.1:8099``."""

from __future__ import annotations

import argparse

import uvicorn

from standins.medical_events.app import application


def main() -> None:
    """Serves until it is stopped; remembers nothing afterwards."""
    parser = argparse.ArgumentParser(
        "python -m standins.medical_events", description="A stand-in of medical events of P1. It makes them up."
    )
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on")
    parser.add_argument("--port", type=int, default=8099, help="TCP port")
    parser.add_argument("--key", default="", help="bearer key that callers must show")
    given = parser.parse_args()
    uvicorn.run(application(given.key), host=given.host, port=given.port, log_level="warning")


if __name__ == "__main__":
    main()

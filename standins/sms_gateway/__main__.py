"""``python -m standins.sms_gateway --port 8098``; a node sends to ``http://127.0.0.1:8098/messages``."""

from __future__ import annotations

import argparse

import uvicorn

from standins.sms_gateway.app import application


def main() -> None:
    """Serves until it is stopped; remembers nothing afterwards."""
    parser = argparse.ArgumentParser(
        "python -m standins.sms_gateway", description="A stand-in of an SMS gateway. It sends nothing to anybody."
    )
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on")
    parser.add_argument("--port", type=int, default=8098, help="TCP port")
    parser.add_argument("--key", default="", help="bearer key that senders must show")
    given = parser.parse_args()
    uvicorn.run(application(given.key), host=given.host, port=given.port, log_level="warning")


if __name__ == "__main__":
    main()

"""``python -m standins.image_archive --port 8097 --studies studies.json``; a node asks ``http://127.0.0.1:8097/dicom-web``."""

from __future__ import annotations

import argparse
from pathlib import Path

import uvicorn

from standins.image_archive.app import application


def main() -> None:
    """Serves until it is stopped."""
    parser = argparse.ArgumentParser(
        "python -m standins.image_archive",
        description="A stand-in of an archive of images. What it shows was drawn by a program and is of nobody.",
    )
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on")
    parser.add_argument("--port", type=int, default=8097, help="TCP port")
    parser.add_argument("--studies", type=Path, required=True, help="JSON file of the studies; read when it changes")
    given = parser.parse_args()
    uvicorn.run(application(given.studies), host=given.host, port=given.port, log_level="warning")


if __name__ == "__main__":
    main()

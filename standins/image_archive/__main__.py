"""``python -m standins.image_archive --port 8097 --studies studies.json``; a node asks ``http://127.0.0.1:8097/dicom-web``."""

from __future__ import annotations

from pathlib import Path

from standins.image_archive.app import application
from standins.serving import arguments, serve


def main() -> None:
    """Serves until it is stopped."""
    said = "A stand-in of an archive of images. What it shows was drawn by a program and is of nobody."
    parser = arguments("image_archive", said, 8097)
    parser.add_argument("--studies", type=Path, required=True, help="JSON file of the studies; read when it changes")
    given = parser.parse_args()
    serve(application(given.studies), given)


if __name__ == "__main__":
    main()

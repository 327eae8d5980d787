"""Writes src/obieg/storage/schema.txt: the schema that all migrations make. Run: python -m tools.schema_page."""

from __future__ import annotations

import tempfile
from pathlib import Path

import psycopg

from obieg.ops.migrate import migrate, schema_fingerprint
from obieg.ops.postgres import Server

PATH = Path(__file__).resolve().parents[1] / "src" / "obieg" / "storage" / "schema.txt"


def main() -> None:
    """Makes a database, migrates it, describes it."""
    with tempfile.TemporaryDirectory() as folder:
        server = Server(Path(folder) / "pg", settings={"fsync": "off"})
        dsn = server.start()
        try:
            migrate(dsn)
            with psycopg.connect(dsn) as connection:
                PATH.write_text(schema_fingerprint(connection), "utf-8")
        finally:
            server.stop()


if __name__ == "__main__":
    main()

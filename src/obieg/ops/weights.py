"""The weights of matching that a region has learned: read when a node or a command starts."""

from __future__ import annotations

import msgspec
import psycopg

from obieg.domain.linkage import Weights
from obieg.storage.statements import load

_BULK = load("bulk.sql")


def newest_weights(dsn: str) -> Weights | None:
    """The weights last learned from the region; None before there are any."""
    with psycopg.connect(dsn, autocommit=True, application_name="obieg patients") as connection:
        rows = psycopg.RawCursor(connection).execute(_BULK.newest_weights.sql.encode()).fetchall()
    return msgspec.json.decode(rows[0][3], type=Weights) if rows else None

"""Brings a database to the schema of this code: numbered migrations, each applied once, in order, in one transaction.

A migration ``NNNN_pre_what.sql`` is compatible with the release that is still running; ``NNNN_post_what.sql`` is for
when every node runs the new one (dropping what nobody uses any more). An advisory lock keeps two nodes from migrating
at once.
"""

from __future__ import annotations

import hashlib
import re
import time
from collections.abc import Iterable
from importlib.resources import files
from typing import Any, NamedTuple

import psycopg
from psycopg import sql

from obieg.ops.failure import Failure

NAME = re.compile(r"(\d{4})_(pre|post)_[a-z0-9_]+\.sql")
ADVISORY_LOCK = 0x6F626965_67000001  # "obieg", 1: who migrates
LOCK_TIMEOUT_MS = (
    4_000  # a migration waits no longer than this for a running request, which would make others wait for it
)
LOCK_ATTEMPTS = 8

_CREATE_TABLE = """
CREATE TABLE IF NOT EXISTS schema_migration (
  name text PRIMARY KEY,
  sha256 text NOT NULL,
  applied_at timestamptz NOT NULL DEFAULT now()
)
"""


class Migration(NamedTuple):
    """One migration file."""

    name: str
    sql: str

    @property
    def sha256(self) -> str:
        """Of the file's text."""
        return hashlib.sha256(self.sql.encode()).hexdigest()

    @property
    def is_post(self) -> bool:
        """Whether it is for when every node runs this release."""
        return self.name.split("_")[1] == "post"


def migrations() -> tuple[Migration, ...]:
    """All migrations of this code, in order."""
    folder = files("obieg.storage").joinpath("migrations")
    found = sorted((f.name, f) for f in folder.iterdir() if f.name.endswith(".sql"))
    for position, (name, _) in enumerate(found, 1):
        match = NAME.fullmatch(name)
        if match is None or int(match[1]) != position:
            raise ValueError(f"{name}: migrations are named NNNN_pre|post_what.sql and numbered without gaps")
    return tuple(Migration(name, f.read_text("utf-8")) for name, f in found)


def migrate(dsn: str, *, stop_before_post: bool = False, known: Iterable[Migration] | None = None) -> tuple[str, ...]:
    """Applies what is missing; returns the names of what was applied.

    ``stop_before_post`` stops at the first ``post`` migration unless the database is new: other nodes may still run the
    release before. Raises :class:`Failure` when the database is newer than this code or a migration was changed.
    """
    known = tuple(migrations() if known is None else known)
    try:
        connection = psycopg.connect(dsn, autocommit=True, application_name="obieg migrate")
    except psycopg.OperationalError as error:
        raise Failure(
            f"The database does not answer: {str(error).strip()}",
            "Without its database the node cannot run.",
            "Check that PostgreSQL runs and that database.dsn in the settings is right.",
        ) from error
    with connection:
        connection.execute("SELECT pg_advisory_lock(%s)", [ADVISORY_LOCK])
        connection.execute(_CREATE_TABLE)
        missing = pending(connection, known)
        if stop_before_post and len(missing) < len(known):
            first_post = next((i for i, migration in enumerate(missing) if migration.is_post), len(missing))
            missing = missing[:first_post]
        for migration in missing:
            _apply(connection, migration)
    return tuple(migration.name for migration in missing)


def pending(connection: psycopg.Connection[Any], known: Iterable[Migration]) -> tuple[Migration, ...]:
    """The migrations not yet applied; :class:`Failure` when what was applied is not what this code knows."""
    known = tuple(known)
    texts = {migration.name: migration.sha256 for migration in known}
    applied: dict[str, str] = dict(connection.execute("SELECT name, sha256 FROM schema_migration").fetchall())
    if unknown := sorted(applied.keys() - texts.keys()):
        raise Failure(
            f"The database is newer than this obieg: it has {', '.join(unknown)}.",
            "An older program could damage what a newer one has written.",
            "Install the newer release on this machine as well.",
            exit_code=4,
        )
    if changed := sorted(name for name, sha256 in applied.items() if texts[name] != sha256):
        raise Failure(
            f"A migration was changed after it had been applied: {', '.join(changed)}.",
            "The database no longer has the schema that this code expects.",
            "Restore the migration's file as released; put changes into a new migration.",
            exit_code=4,
        )
    return tuple(migration for migration in known if migration.name not in applied)


def _apply(connection: psycopg.Connection[Any], migration: Migration) -> None:
    for attempt in range(1, LOCK_ATTEMPTS + 1):
        try:
            with connection.transaction():
                connection.execute(sql.SQL("SET LOCAL lock_timeout = {}").format(LOCK_TIMEOUT_MS))
                connection.execute(migration.sql.encode())
                connection.execute(
                    "INSERT INTO schema_migration (name, sha256) VALUES (%s, %s)", [migration.name, migration.sha256]
                )
        except psycopg.errors.LockNotAvailable as error:
            if attempt == LOCK_ATTEMPTS:
                raise Failure(
                    f"{migration.name} could not be applied: the tables it changes were in use all the time.",
                    "Nothing was changed; the node runs on with the schema it has.",
                    "Try again when there is less work, or stop long-running statements.",
                ) from error
            time.sleep(0.25 * attempt)
        else:
            return


# One row per fact of the schema, in an order that does not depend on the server.
_FINGERPRINT = """
WITH relation AS (
  SELECT c.oid, c.relname::text, c.relkind FROM pg_class c
  WHERE c.relnamespace = 'public'::regnamespace AND c.relkind IN ('r', 'p', 'v', 'm', 'S', 'c')
), fact(place, kind, text) AS (
  SELECT r.relname, '0 ' || CASE r.relkind WHEN 'r' THEN 'table' WHEN 'p' THEN 'partitioned table' WHEN 'v' THEN 'view'
         WHEN 'm' THEN 'materialized view' WHEN 'c' THEN 'composite type' ELSE 'sequence' END, r.relname
  FROM relation r
  UNION ALL
  SELECT r.relname, '1 column', a.attname || ' ' || format_type(a.atttypid, a.atttypmod)
         || CASE WHEN a.attnotnull THEN ' NOT NULL' ELSE '' END
         || CASE a.attidentity WHEN '' THEN '' ELSE ' IDENTITY ' || a.attidentity::text END
         || coalesce(CASE a.attgenerated WHEN '' THEN ' DEFAULT ' ELSE ' GENERATED ' END
                     || pg_get_expr(d.adbin, d.adrelid), '')
  FROM relation r JOIN pg_attribute a ON a.attrelid = r.oid AND a.attnum > 0 AND NOT a.attisdropped
  LEFT JOIN pg_attrdef d ON d.adrelid = a.attrelid AND d.adnum = a.attnum
  WHERE r.relkind <> 'S'
  UNION ALL
  SELECT r.relname, '2 constraint', k.conname || ' ' || pg_get_constraintdef(k.oid)
  FROM relation r JOIN pg_constraint k ON k.conrelid = r.oid WHERE k.contype <> 'n'
  UNION ALL
  SELECT r.relname, '3 index', pg_get_indexdef(i.indexrelid)
  FROM relation r JOIN pg_index i ON i.indrelid = r.oid
  UNION ALL
  SELECT r.relname, '4 trigger', pg_get_triggerdef(t.oid)
  FROM relation r JOIN pg_trigger t ON t.tgrelid = r.oid WHERE NOT t.tgisinternal
  UNION ALL
  SELECT r.relname, '5 definition', pg_get_viewdef(r.oid) FROM relation r WHERE r.relkind IN ('v', 'm')
  UNION ALL
  SELECT p.proname::text, '6 function', pg_get_functiondef(p.oid)
  FROM pg_proc p WHERE p.pronamespace = 'public'::regnamespace AND p.prokind IN ('f', 'p')
  UNION ALL
  SELECT t.typname::text, '7 type', t.typname || ' ' || coalesce(
         (SELECT 'ENUM ' || string_agg(e.enumlabel, ', ' ORDER BY e.enumsortorder)
          FROM pg_enum e WHERE e.enumtypid = t.oid),
         t.typtype::text)
  FROM pg_type t WHERE t.typnamespace = 'public'::regnamespace AND t.typtype IN ('e', 'd', 'r')
)
SELECT place, substr(kind, 3), text FROM fact ORDER BY place COLLATE "C", kind COLLATE "C", text COLLATE "C"
"""


def schema_fingerprint(connection: psycopg.Connection[Any]) -> str:
    """The schema as a text: the same for the same schema, whatever its history and whichever server."""
    rows = connection.execute(_FINGERPRINT).fetchall()
    return "".join(f"{place}: {kind} {text.rstrip()}\n" for place, kind, text in rows)

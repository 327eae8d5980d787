"""What docs/access.md says of a case, worked out in SQL: a second opinion that shares no code with the product.

The cases become rows (facts.sql), oracle.sql draws the conclusions for all of them at once.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Sequence
from datetime import UTC, date, datetime, timedelta, tzinfo
from pathlib import Path
from typing import Any, NamedTuple

from obieg.domain.access import Consent, DocumentFacts, Facts, Period
from obieg.domain.requester import Requester

FOLDER = Path(__file__).parent
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


class Case(NamedTuple):
    """Who asks, about whom, with what permission of a transaction (or the name of an act), and the patient's documents.

    Cases may share the objects of the facts, of the requester and of the documents: each is stored once.
    """

    requester: Requester
    facts: Facts
    permission: str
    documents: tuple[DocumentFacts, ...] = ()


class Answer(NamedTuple):
    """What the specification says. ``shown`` is None where the act has no filter."""

    reason: str | None  # None: permitted
    bases: tuple[str, ...]
    ends: tuple[tuple[str, datetime], ...]  # of bases that end
    obligations: tuple[str, ...]
    shown: frozenset[str] | None


def acts() -> dict[str, str]:
    """The act of each permission of a transaction, as the oracle understands it."""
    with sqlite3.connect(":memory:") as database:
        database.executescript((FOLDER / "facts.sql").read_text("utf-8"))
        return dict(database.execute("SELECT permission, act FROM permission_act"))


def _micro(moment: datetime | None) -> int | None:
    return None if moment is None else (moment - _EPOCH) // timedelta(microseconds=1)


def _end(said: str) -> tuple[str, datetime]:
    basis, micro = said.split("@")
    return basis, _EPOCH + timedelta(microseconds=int(micro))


def _ends(period: Period) -> tuple[int | None, int | None]:
    return _micro(period.begin), _micro(period.end)


def _midnight(day: date, zone: tzinfo | None) -> int | None:
    return _micro(datetime(day.year, day.month, day.day, tzinfo=zone))


def _birthday(born: date, years: int) -> date:
    try:
        return born.replace(year=born.year + years)
    except ValueError:
        return date(born.year + years, 3, 1)


class _Rows:
    """Objects that become rows, each once."""

    def __init__(self, database: sqlite3.Connection, now: datetime) -> None:
        self.database, self.zone = database, now.tzinfo
        self.known: dict[tuple[str, int], int] = {}
        self.kept: list[Any] = []  # an id is good as long as its object is there

    def put(self, table: str, rows: Iterable[tuple[Any, ...]]) -> None:
        for row in rows:
            self.database.execute(f"INSERT INTO {table} VALUES ({', '.join('?' * len(row))})", row)

    def number(self, kind: str, thing: Any) -> tuple[int, bool]:
        key = (kind, id(thing))
        if key in self.known:
            return self.known[key], False
        self.kept.append(thing)
        self.known[key] = len(self.known) + 1
        return self.known[key], True

    def requester(self, r: Requester) -> int:
        n, new = self.number("requester", r)
        if new:
            said = (r.person, r.acting_for, r.role, r.organisation, r.child_organisation, r.purpose_of_use, r.patient)
            self.put("requester", [(n, *said, r.proof)])
        return n

    def world(self, f: Facts) -> int:
        n, new = self.number("world", f)
        if not new:
            return n
        of_age = None if f.birth_date is None else _midnight(_birthday(f.birth_date, 18), self.zone)
        born = None if f.birth_date is None else f.birth_date.isoformat()
        death: tuple[Any, ...] = (None, None, None)
        if f.died_on is not None:
            next_day = f.died_on + timedelta(days=1)
            death = (f.died_on.isoformat(), _midnight(f.died_on, self.zone), _midnight(next_day, self.zone))
        self.put("world", [(n, born, of_age, *death, f.protected, f.objection, f.notices)])
        self.put("identifier", [(n, i) for i in f.identifiers])
        self.put("declaration", [(n, d.professional, d.kind, d.organisation, *_ends(d.period)) for d in f.declarations])
        self.put("encounter", [(n, e.organisation, *_ends(e.period)) for e in f.encounters])
        self.put("representative", [(n, r.person, r.kind, *_ends(r.period)) for r in f.representatives])
        self.put("emergency", [(n, e.professional, *_ends(e.period)) for e in f.emergencies])
        self.put("hold", [(n, h.document, *_ends(h.period)) for h in f.holds])
        self.put("given_consent", [(n, self.consent(c)) for c in f.consents])
        return n

    def consent(self, c: Consent) -> int:
        n, new = self.number("consent", c)
        if not new:
            return n
        self.put("consent", [(n, *_ends(c.period))])
        for place, p in enumerate(c.provisions):
            v, _ = self.number("provision", (c, place))
            what = p.condition
            created = (what.created_from, what.created_to)
            self.put("provision", [(v, n, place, p.permit, *_ends(p.period), *created)])
            for about, field, values in (
                ("whom", "actor", p.actors),
                ("whom", "role", p.roles),
                ("whom", "purpose", p.purposes),
                ("what", "document", what.documents),
                ("what", "class", what.class_codes),
                ("what", "type", what.type_codes),
                ("what", "setting", what.practice_setting_codes),
                ("what", "label", what.labels),
                ("what", "author", what.authors),
                ("what", "encounter", what.encounters),
            ):
                if values is not None:
                    self.put("wish", [(v, about, field)])
                    self.put("wish_value", [(v, field, value) for value in values if value])
        return n

    def shelf(self, documents: tuple[DocumentFacts, ...]) -> int:
        n, new = self.number("shelf", documents)
        if not new:
            return n
        for place, d in enumerate(documents):
            doc, _ = self.number("document", (documents, place))
            lineage = d.lineage or f"of {d.entry_uuid} alone"
            self.put("document", [(doc, n, place, d.entry_uuid, lineage, d.creation_time)])
            said = {
                "class": (d.class_code,),
                "type": (d.type_code,),
                "setting": (d.practice_setting_code,),
                "label": d.labels,
                "author": d.authors,
                "encounter": d.encounters,
            }
            rows = [(doc, field, value) for field, values in said.items() for value in set(values) if value]
            self.put("document_value", rows)
        return n


def answers(
    cases: Sequence[Case],
    now: datetime,
    *,
    emergency_opens_restricted: bool = True,
    restriction_binds_author: bool = True,
    switched_off: tuple[str, ...] = (),
) -> list[Answer]:
    """What the specification answers to each case, at one moment, under the settings."""
    database = sqlite3.connect(":memory:", isolation_level=None)
    try:
        database.executescript((FOLDER / "facts.sql").read_text("utf-8"))
        rows = _Rows(database, now)
        settings = (emergency_opens_restricted, restriction_binds_author)
        rows.put("moment", [(_micro(now), now.date().isoformat(), *settings)])
        rows.put("switched_off", [(basis,) for basis in switched_off])
        for n, (requester, facts, permission, documents) in enumerate(cases):
            row = (n, rows.requester(requester), rows.world(facts), rows.shelf(documents), permission)
            rows.put("asked", [row])
        database.executescript((FOLDER / "oracle.sql").read_text("utf-8"))
        found = database.execute("SELECT reason, bases, ends, obligations, shown FROM answer ORDER BY ask").fetchall()
    finally:
        database.close()
    if len(found) != len(cases):
        raise AssertionError("a permission is in no act")
    return [
        Answer(
            reason,
            tuple(bases.split()),
            tuple(_end(said) for said in ends.split()),
            tuple(obligations.split()),
            None if bits is None else frozenset(d.entry_uuid for n, d in enumerate(case.documents) if bits >> n & 1),
        )
        for case, (reason, bases, ends, obligations, bits) in zip(cases, found, strict=True)
    ]

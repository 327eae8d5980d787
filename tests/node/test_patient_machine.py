"""Whatever happens in whatever order, the index says what a plain model of its rules says."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from hashlib import blake2b
from typing import Any

import psycopg
import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule, run_state_machine_as_test
from indexing import OURS, PESEL, context, feed, make_curation, make_index, person
from registering import Registry

from obieg.domain.identifiers import PatientId
from obieg.domain.matching import Evidence, Judgement, Record, Verdict
from obieg.domain.patients import CrossReferenceQuery, DemographicsQuery, FeedEvent
from obieg.domain.problems import Problem
from obieg.storage.link import Database

pytestmark = pytest.mark.node

EXAMPLES, STEPS = 50, 25
FACILITIES = ("1.2.616.2", "1.2.616.3")
LOCAL = tuple(PatientId(value, facility) for facility in FACILITIES for value in "123")
PESELS = tuple(PatientId(value, PESEL) for value in ("80051212326", "80051247665"))
FAMILIES = ("Kot", "Lis")
NOBODY = PatientId("9", "1.2.616.9")
Said = tuple[str, str, str]  # family, given, birth date
SAID = tuple(itertools.product(FAMILIES, ("Anna", "Ewa"), ("19800512", "19910203")))


# the matcher, a given function of both ---------------------------------------------------------------------------


class PlainMatcher:
    """Says of two records what anybody can work out in the head."""

    def blocks(self, record: Record) -> tuple[int, ...]:
        family, _, born = _said(record)
        if not family:
            return ()
        return tuple(
            int.from_bytes(blake2b(text.encode(), digest_size=8).digest()) >> 1 for text in (f"{family}|{born}", born)
        )

    def judge(self, left: Record, right: Record) -> Judgement:
        one, other = (_numbers(r) for r in (left, right))
        apart = {a for a in one.keys() & other.keys() if not one[a] & other[a]}
        conflict, rule_ = bool(apart), "different_pesel" if PESEL in apart else "different_number"
        mine, theirs = _said(left), _said(right)
        alike = sum(a == b for a, b in zip(mine, theirs, strict=True)) if mine[0] and theirs[0] else 0
        shared = bool(set(left.identifiers) & set(right.identifiers))
        if shared and mine[0] and theirs[0] and alike < 2:
            return Judgement(Verdict.UNDECIDED, float(alike), "contradiction", conflict=True)
        if shared and not conflict:
            return Judgement(Verdict.SAME, 10.0 + alike, "shared")
        verdict = Verdict.SAME if alike == 3 else Verdict.UNDECIDED if alike == 2 else Verdict.DIFFERENT
        if conflict:
            return Judgement(Verdict.DIFFERENT if alike < 2 else Verdict.UNDECIDED, float(alike), rule_, conflict=True)
        return Judgement(verdict, float(alike))

    def judge_patient(self, record: Record, records: Iterable[Record]) -> Judgement:
        judged = [self.judge(record, r) for r in records]
        best = max(judged, key=lambda j: (j.verdict is Verdict.SAME, j.verdict is Verdict.UNDECIDED, j.score))
        if any(j.conflict for j in judged):
            verdict = Verdict.DIFFERENT if best.verdict is Verdict.DIFFERENT else Verdict.UNDECIDED
            return Judgement(verdict, best.score, "", conflict=True)
        return best

    def explain(self, left: Record, right: Record) -> Judgement:
        judged = self.judge(left, right)
        return Judgement(judged.verdict, judged.score, judged.rule, judged.conflict, (Evidence("all", "some", 1.0),))


def _said(record: Record) -> Said:
    name = record.demographics.name
    return (name.family, " ".join(name.given), record.demographics.birth_date)


def _numbers(record: Record) -> dict[str, set[PatientId]]:
    found: dict[str, set[PatientId]] = {}
    for i in record.identifiers:
        found.setdefault(i.authority, set()).add(i)
    return found


MATCHER = PlainMatcher()


# the model -------------------------------------------------------------------------------------------------------


class RefusedError(Exception):
    """The act is against the rules: nothing changes."""


@dataclass
class Rec:
    at: int  # the patient under whom it stands
    ids: tuple[PatientId, ...]
    said: Said
    step: int
    live: bool = True
    version: int = 1

    @property
    def record(self) -> Record:
        family, given, born = self.said
        return Record(self.ids, person(family, given, born))


@dataclass
class Line:
    kind: str
    left: int
    right: int | None
    detail: str
    opened: int
    decision: str = ""
    decided: int = 0

    @property
    def pair(self) -> frozenset[int | None]:
        return frozenset((self.left, self.right))


@dataclass
class Model:
    """Patients are numbers; what a person is follows from the links alone."""

    step: int = 0
    names: list[PatientId] = field(default_factory=list)  # affinity-domain ids by patient
    records: list[Rec] = field(default_factory=list)
    leads: dict[PatientId, int] = field(default_factory=dict)  # identifier -> patient
    retired: dict[PatientId, tuple[int | None, PatientId | None]] = field(default_factory=dict)  # by, replaced by
    links: dict[int, tuple[int, int]] = field(default_factory=dict)  # patient -> target, step
    parted: set[frozenset[int]] = field(default_factory=set)  # by undoing
    lines: list[Line] = field(default_factory=list)
    documents: dict[str, list[Any]] = field(default_factory=dict)  # uuid -> patient, source id, step, approved

    # who is who

    def root(self, patient: int) -> int:
        while patient in self.links:
            patient = self.links[patient][0]
        return patient

    def person(self, patient: int) -> set[int]:
        return {p for p in range(len(self.names)) if self.root(p) == self.root(patient)}

    def who(self, identifier: PatientId) -> int | None:
        if identifier in self.retired or identifier not in self.leads:
            return None
        return self.root(self.leads[identifier])

    def of(self, root: int) -> list[Rec]:
        return [r for r in self.records if r.live and self.root(r.at) == root]

    def apart(self, one: int, other: int) -> bool:
        pairs = self.parted | {x.pair for x in self.lines if x.decision == "different"}
        return any(frozenset((a, b)) in pairs for a in self.person(one) for b in self.person(other))

    # lines of the worklist

    def ask(self, kind: str, left: int, right: int | None, detail: str = "") -> None:
        if any(
            x.decision == "" and (x.kind, x.pair, x.detail) == (kind, frozenset((left, right)), detail)
            for x in self.lines
        ):
            return
        decided = {x.pair for x in self.lines if x.decision == "different"}
        asks = right is not None and self.root(left) != self.root(right) and kind != "doubtful_document"
        if asks and any(frozenset((a, b)) in decided for a in self.person(left) for b in self.person(right)):
            return
        self.lines.append(Line(kind, left, right, detail, self.step))

    def join(self, survivor: int, other: int) -> None:
        mine, theirs = self.person(survivor), self.person(other)
        for line in self.lines:
            sides = (line.left in mine and line.right in theirs) or (line.left in theirs and line.right in mine)
            if line.decision == "" and sides:
                line.decision, line.decided = "moot", self.step
        self.links[other] = (survivor, self.step)

    # feeds

    def state(self, ids: Sequence[PatientId], said: Said | None) -> int | None:
        """The person it is about; None for a new one."""
        for i in ids:
            if i in self.retired:
                raise RefusedError
        local, pesel = ids[0], ids[1] if len(ids) > 1 else None
        root = self.who(local)
        return self._new(ids, said) if root is None else self._known(root, local, pesel, said)

    def _near(self, record: Record) -> set[int]:
        blocks = set(MATCHER.blocks(record))
        return {self.root(r.at) for r in self.records if r.live and blocks & set(MATCHER.blocks(r.record))}

    def _judge(self, record: Record, root: int) -> Judgement:
        theirs = [r.record for r in self.of(root)]
        return MATCHER.judge_patient(record, theirs) if theirs else Judgement(Verdict.DIFFERENT, 0.0)

    def _new(self, ids: Sequence[PatientId], said: Said | None) -> int | None:
        rec = Rec(-1, tuple(ids), said or ("", "", ""), self.step)
        numbered = {w for i in ids if (w := self.who(i)) is not None}
        judged = {root: self._judge(rec.record, root) for root in self._near(rec.record) | numbered}
        joinable = [
            root
            for root, j in judged.items()
            if not j.conflict and (j.verdict is Verdict.SAME or (root in numbered and j.verdict is Verdict.UNDECIDED))
        ]
        joinable.sort(key=lambda root: (root not in numbered, -judged[root].score, root))
        reasons = set()
        for one, two in itertools.combinations(joinable, 2):
            pairs = [MATCHER.judge(a.record, b.record) for a in self.of(one) for b in self.of(two)]
            reasons |= {j.rule for j in pairs if j.conflict} | ({"apart"} if self.apart(one, two) else set())
        taken = joinable
        if reasons:
            taken = joinable[:1] if joinable[0] in numbered or reasons == {"different_number"} else []
        joined = taken[0] if taken else None
        rec.at = len(self.names) if joined is None else joined
        held = {i for root in taken for r in self.of(root) for i in r.ids if i.authority == PESEL}
        if joined is None:
            self.names.append(PatientId("?", OURS))
        self.records.append(rec)
        for i in ids:
            if i not in self.leads and not (i.authority == PESEL and held - {i}):
                self.leads[i] = rec.at
        for other in taken[1:]:
            self.join(taken[0], other)
        doubts = [
            r for r, j in judged.items() if r not in taken and (r in numbered or j.verdict is not Verdict.DIFFERENT)
        ]
        for root in doubts if len(doubts) <= 3 else sorted(doubts, key=lambda r: -judged[r].score)[:3]:
            self.ask("contradiction" if root in numbered else "possible_duplicate", rec.at, root)
        return joined

    def _known(self, root: int, local: PatientId, pesel: PatientId | None, said: Said | None) -> int:
        mine = self.of(root)
        own = next(r for r in mine if local in r.ids)
        others = [r for r in mine if r is not own]
        before = set(own.ids)
        kept = [i for i in own.ids if i.authority != PESEL or pesel is None or i == pesel or pesel in before]
        given_up = before - set(kept)
        if given_up and said != own.said:
            raise RefusedError
        if given_up and not said[0]:  # type: ignore[index]
            raise RefusedError
        if pesel is not None and pesel not in before and any(_other_pesel(r.ids, pesel) for r in others):
            raise RefusedError
        new = Rec(own.at, tuple(dict.fromkeys([*([pesel] if pesel else []), *kept])), said or own.said, own.step)
        asks: list[tuple[float, str, int, int | None, str]] = []
        joins: list[int] = []
        counted = [r.record for r in others]
        met: list[int] = []
        if pesel is not None and pesel not in before and (w := self.who(pesel)) not in (None, root):
            met.append(w)  # type: ignore[arg-type]
        if MATCHER.blocks(new.record) != MATCHER.blocks(own.record):
            near = sorted(self._near(new.record) - {root, *met}, key=lambda r: (-self._judge(new.record, r).score, r))
            met += near
        for other in met:
            if any(self.apart(x, other) for x in (root, *joins)):
                continue
            theirs = [r.record for r in self.of(other)]
            j = self._judge(new.record, other)
            shared = any(set(new.ids) & set(r.identifiers) for r in theirs)
            conflict = j.conflict or any(MATCHER.judge(a, b).conflict for a in counted for b in theirs)
            if j.verdict is Verdict.SAME and not conflict:
                joins.append(other)
                counted += theirs
            elif j.verdict is not Verdict.DIFFERENT or shared:
                kind = "contradiction" if shared or j.conflict else "possible_duplicate"
                asks.append((j.score, kind, root, other, ""))
        if others and new.said != own.said:
            rest = [r.record for r in others]
            now, was = (MATCHER.judge_patient(r.record, rest) for r in (new, own))
            if now.verdict is Verdict.DIFFERENT and was.verdict is not Verdict.DIFFERENT:
                detail = f"what {local.authority}|HIS says now does not fit the patient's other records"
                asks.append((now.score, "contradiction", root, None, detail))
        claimed = pesel is not None and pesel not in self.leads and not any(_other_pesel(r.ids, pesel) for r in others)
        if set(new.ids) != before or new.said != own.said or asks or joins or claimed:
            own.version += 1
        own.ids, own.said = new.ids, new.said
        for i in given_up:
            if not any(i in r.ids for r in others) and self.who(i) == root:
                del self.leads[i]
        if claimed and pesel is not None:
            self.leads[pesel] = root
        for other in joins:
            self.join(root, other)
        asks = asks if len(asks) <= 3 else sorted(asks, key=lambda a: -a[0])[:3]
        for _, kind, left, right, detail in asks:
            self.ask(kind, left, right, detail)
        return root

    def merge(self, survivor: PatientId, merged: PatientId) -> int:
        root = self.who(survivor)
        if root is None or merged == survivor or merged not in self.leads:
            raise RefusedError
        if merged in self.retired:
            if self.root(self.leads[merged]) != root:
                raise RefusedError
            return root
        other = self.root(self.leads[merged])
        if other == root:
            self.retired[merged] = (None, survivor)
            return root
        pairs = itertools.product(self.of(root), self.of(other))
        contradicts = any(MATCHER.judge(_nationally(a), _nationally(b)).conflict for a, b in pairs)
        self.join(root, other)
        self.retired[merged] = (other, survivor)
        self.retired[self.names[other]] = (other, self.names[root])
        if contradicts:
            self.ask("contradiction", root, other, "merged by its source")
        return root

    def renumber(self, new: PatientId, old: PatientId) -> int:
        if old in self.retired and self.who(new) == self.root(self.leads[old]):
            return self.root(self.leads[old])
        root = self.who(old)
        if root is None or new in self.retired or (new in self.leads and self.who(new) != root):
            raise RefusedError
        if new == old:
            return root
        own, *others = [r for r in self.of(root) if old in r.ids]
        if others:  # each of them corrects its own
            raise RefusedError
        own.ids = tuple(dict.fromkeys(new if i == old else i for i in own.ids))
        own.version += 1
        self.retired[old] = (None, new)
        self.leads.setdefault(new, root)
        return root

    def remove(self, local: PatientId) -> int:
        root = self.who(local)
        if root is None:
            raise RefusedError
        own = next(r for r in self.of(root) if local in r.ids)
        own.live = False
        own.version += 1
        for i in own.ids:
            if i not in self.retired and not any(i in r.ids for r in self.of(root)) and self.who(i) == root:
                del self.leads[i]
        return root

    # what people do

    def link(self, survivor: int, other: int) -> None:
        if survivor == other:
            raise RefusedError
        mine, theirs = self.person(survivor), self.person(other)
        for line in self.lines:
            sides = (line.left in mine and line.right in theirs) or (line.left in theirs and line.right in mine)
            if line.decision == "different" and sides:
                line.decision = "withdrawn"
        self.join(survivor, other)

    def keep_apart(self, one: int, other: int) -> None:
        if one == other:
            raise RefusedError
        for line in self.lines:
            sides = None if line.right is None else {self.root(line.left), self.root(line.right)}
            if line.decision == "" and sides == {one, other} and line.kind != "doubtful_document":
                line.decision = "different"
        if not any(
            x.decision == "different"
            and x.right is not None
            and {self.root(x.left), self.root(x.right)} == {one, other}
            for x in self.lines
        ):
            self.lines.append(Line("possible_duplicate", one, other, "", self.step, "different", self.step))

    def decide(self, line: Line, *, same: bool) -> None:
        left = self.root(line.left)
        right = left if line.right is None else self.root(line.right)
        if not same and left == right and line.right is not None:
            raise RefusedError
        if same and left != right and line.kind == "doubtful_document":
            document = self.documents[line.detail]
            if self.root(document[0]) != left:
                raise RefusedError
            document[0] = right
        elif same and left != right:
            line.decision = "same"
            self.link(left, right)
        line.decision, line.decided = "same" if same else "different", self.step

    def unlink(self, identifier: PatientId) -> tuple[set[str], set[str]]:
        """Documents that moved, and doubtful ones."""
        if identifier not in self.leads:
            raise RefusedError
        patient = self.leads[identifier]
        if identifier in self.retired:
            by = self.retired[identifier][0]
            if by is None:
                person_ = self.person(patient)
                if not any(identifier in r.ids for r in self.records if r.at in person_):
                    raise RefusedError
                del self.retired[identifier]
                return set(), set()
            patient = by
        if patient not in self.links:
            raise RefusedError
        survivor = self.root(patient)
        target, made = self.links[patient]
        mixed: dict[int, int] = {}  # under whom things came, since when
        at: int | None = target
        since = made
        while at is not None:
            mixed[at] = since
            at, later = self.links.get(at, (None, 0))
            since = max(since, later)
        del self.links[patient]
        below = self.person(patient)
        self.parted.add(frozenset((patient, target)))
        for i in [i for i, (by, _) in self.retired.items() if by == patient]:
            del self.retired[i]
        everybody = [r for r in self.records if r.at in below or self.root(r.at) == survivor]
        later = [r for r in everybody if r.at in mixed and r.step > mixed[r.at]]
        theirs = {i for r in everybody if r not in later and r.at in below for i in r.ids}
        others = {i for r in everybody if r not in later and r.at not in below for i in r.ids}
        go = [r for r in later if (theirs - others) & set(r.ids)]
        for r in later:
            (theirs if r in go else others).update(r.ids)
        for r in go:
            r.at = patient
        for one, two in ((patient, survivor), (survivor, patient)):
            for i, where in list(self.leads.items()):
                stating = sorted((r for r in self.of(two) if i in r.ids), key=lambda r: r.step)
                if self.root(where) == one and stating and not any(i in r.ids for r in self.of(one)):
                    self.leads[i] = stating[0].at
        moved, doubtful = set(), set()
        for uuid, document in self.documents.items():
            where, source, step, _ = document
            if where in mixed and step > mixed[where]:
                if source in theirs and source not in others:
                    document[0] = patient
                    moved.add(uuid)
                elif source not in others or source in theirs:
                    doubtful.add(uuid)
        self._reopen(below, made)
        for uuid in sorted(doubtful):
            self.ask("doubtful_document", survivor, patient, uuid)
        return moved, doubtful

    def _reopen(self, below: set[int], made: int) -> None:
        lines = [
            x for x in self.lines if x.right is not None and self.root(x.left) != self.root(x.right) and x.pair & below
        ]
        again = []
        for x in lines:
            if (x.decision == "same" and x.decided == made and x.kind != "doubtful_document") or (
                x.decision == "moot"
                and not any(
                    y.pair == x.pair and y.detail == x.detail and self.lines.index(y) > self.lines.index(x)
                    for y in lines
                )
            ):
                again.append(x)
            elif x.decision == "" and x.detail == "merged by its source" and x.opened == made:
                x.decision = "undone"
        for x in again:
            if not any(
                y.decision == "" and (y.kind, y.pair, y.detail) == (x.kind, x.pair, x.detail) for y in self.lines
            ):
                self.lines.append(Line(x.kind, x.left, x.right, x.detail, self.step))
            if x.decision == "same":
                x.decision = "undone"

    def move(self, source: PatientId, target: PatientId, old: PatientId, new: PatientId) -> dict[str, list[Any]]:
        """The new versions of documents, by the entryUUID of the old one."""
        one, two = self.who(source), self.who(target)
        if one is None or two is None or new in self.retired:
            raise RefusedError
        if new in self.leads and self.who(new) not in (one, two):
            raise RefusedError
        if old in self.leads and self.root(self.leads[old]) not in (one, two):
            raise RefusedError
        came = {old}
        while more := {i for i, (_, by) in self.retired.items() if by in came} - came:
            came |= more
        going = [r for r in self.of(one) if came & set(r.ids)]
        staying = {i for r in self.of(one) if r not in going for i in r.ids}
        unknown = new not in self.leads
        versions: dict[str, list[Any]] = {}
        for uuid, document in self.documents.items():
            at, number, _, approved = document
            if approved and self.root(at) == one and number in came and (one != two or number == old != new):
                document[3] = False
                versions[uuid] = [two if one != two else at, new if number == old else number, self.step, True]
        for r in going:
            was = r.ids
            if unknown and old != new:
                r.ids = tuple(dict.fromkeys(new if i == old else i for i in r.ids))
            if one != two:
                r.version += 2
                r.at = two
            elif r.ids != was:
                r.version += 1
        if one != two:
            for i in {i for r in going for i in r.ids} - staying:
                if i in self.leads and self.root(self.leads[i]) == one:
                    self.leads[i] = two
        if old != new and old in self.leads and old not in self.retired:
            self.retired[old] = (None, new)
        if unknown and old != new and going:
            self.leads[new] = two
        return versions

    def version(self, uuid: str, new: str, document: list[Any]) -> None:
        self.documents[new] = document
        for x in self.lines:
            if x.kind == "doubtful_document" and not x.decision and x.detail == uuid:
                x.detail = new


def _other_pesel(ids: Iterable[PatientId], pesel: PatientId) -> bool:
    return any(i.authority == PESEL and i != pesel for i in ids)


def _nationally(rec: Rec) -> Record:
    return Record(tuple(i for i in rec.ids if i.authority == PESEL), rec.record.demographics)


# both ------------------------------------------------------------------------------------------------------------


class Machine(RuleBasedStateMachine):
    def __init__(self, runner: asyncio.Runner, database: Database, dsn: str, connection: Any) -> None:
        super().__init__()
        self.runner, self.connection = runner, connection
        tables = [t for (t,) in connection.execute(
            "SELECT tablename FROM pg_tables WHERE schemaname = 'public' AND tablename <> 'schema_migration'"
        )]  # fmt: skip
        connection.execute(f"TRUNCATE {', '.join(t for t in tables if 'migration' not in t)} RESTART IDENTITY")
        keys, ids = itertools.count(1), itertools.count(1)
        made: dict[str, Any] = {"matcher": MATCHER, "new_key": lambda: next(keys), "new_id": lambda: f"X{next(ids):03}"}
        self.index = make_index(database, **made)
        self.curation = make_curation(database, **made)
        self.registry = Registry(database, dsn)
        self.model = Model()

    def both(self, modelled: Any, acted: Any) -> tuple[Any, Any]:
        """The outcomes of the model and of the index; both refuse, or neither."""
        self.model.step += 1
        expected, refused = None, False
        try:
            expected = modelled()
        except RefusedError:
            refused = True
        found, problem = None, None
        try:
            found = self.runner.run(acted)
        except Problem as raised:
            problem = raised
        assert refused == (problem is not None), f"refused by the model: {refused}, by the index: {problem}"
        return expected, found

    def ask(self, acted: Any) -> Any:
        return self.runner.run(acted)

    # acts

    @rule(local=st.sampled_from(LOCAL), pesel=st.sampled_from((None, *PESELS)), said=st.sampled_from((None, *SAID)))
    def feed(self, local: PatientId, pesel: PatientId | None, said: Said | None) -> None:
        ids = (local, *((pesel,) if pesel else ()))
        patients = len(self.model.names)
        who = person(*said) if said else None
        _, found = self.both(lambda: self.model.state(ids, said), self.index.feed(feed(*ids, who=who), context()))
        if len(self.model.names) > patients:
            assert found not in self.model.names
            self.model.names[-1] = found
            self.model.leads[found] = patients
        elif found is not None:
            person_ = self.model.who(local)
            assert person_ is not None
            assert found in {self.model.names[p] for p in self.model.person(person_)}

    @rule(data=st.data())
    def merge(self, data: st.DataObject) -> None:
        facility = data.draw(st.sampled_from(FACILITIES))
        one, two = (data.draw(st.sampled_from([i for i in LOCAL if i.authority == facility])) for _ in range(2))
        act = self.index.feed(feed(one, event=FeedEvent.MERGE, merged=(two,)), context())
        self.both(lambda: self.model.merge(one, two), act)

    @rule(data=st.data())
    def renumber(self, data: st.DataObject) -> None:
        facility = data.draw(st.sampled_from(FACILITIES))
        one, two = (data.draw(st.sampled_from([i for i in LOCAL if i.authority == facility])) for _ in range(2))
        act = self.index.feed(feed(one, event=FeedEvent.CHANGE_IDENTIFIERS, merged=(two,)), context())
        self.both(lambda: self.model.renumber(one, two), act)

    @rule(local=st.sampled_from(LOCAL))
    def remove(self, local: PatientId) -> None:
        self.both(lambda: self.model.remove(local), self.index.feed(feed(local, event=FeedEvent.REMOVE), context()))

    def _two(self, data: st.DataObject) -> tuple[PatientId, PatientId] | None:
        named = [n for n in self.model.names if self.model.who(n) is not None]
        if not named:
            return None
        one = data.draw(st.sampled_from(named))
        others = [n for n in named if n != one] or named
        return one, data.draw(st.sampled_from(others))

    @rule(data=st.data())
    def link(self, data: st.DataObject) -> None:
        if two := self._two(data):
            self.both(lambda: self.model.link(*map(self.model.who, two)), self.curation.link(*two, by="Ewa"))  # type: ignore[arg-type]

    @rule(data=st.data())
    def keep_apart(self, data: st.DataObject) -> None:
        if two := self._two(data):
            self.both(
                lambda: self.model.keep_apart(*map(self.model.who, two)),  # type: ignore[arg-type]
                self.curation.keep_apart(*two, by="Ewa"),
            )

    @rule(data=st.data())
    def unlink(self, data: st.DataObject) -> None:
        if known := [*self.model.names, *sorted(self.model.leads.keys() - set(self.model.names))]:
            i = data.draw(st.sampled_from(known))
            expected, found = self.both(lambda: self.model.unlink(i), self.curation.unlink(i, by="Ewa"))
            if found is not None:
                assert (set(found.moved), set(found.doubtful)) == expected

    @rule(data=st.data(), same=st.booleans())
    def decide(self, data: st.DataObject, same: bool) -> None:
        open_ = [x for x in self.model.lines if not x.decision]
        if not open_:
            return
        line = data.draw(st.sampled_from(range(len(open_))))
        chosen = open_[line]
        rows = self._lines("WHERE decision = ''", "task_id,")
        [number] = [r[0] for r in rows if self._line(r[1:]) == (chosen.kind, chosen.pair, chosen.detail)]
        self.both(lambda: self.model.decide(chosen, same=same), self.curation.decide(number, same=same, by="Ewa"))

    @rule(data=st.data(), source=st.sampled_from((*LOCAL, PESELS[0], NOBODY)))
    def register(self, data: st.DataObject, source: PatientId) -> None:
        if two := self._two(data):
            root = self.model.who(two[0])
            [uuid] = self.both(lambda: None, self.registry.register(two[0], source))[1]
            self.model.documents[uuid] = [root, source, self.model.step, True]

    @rule(data=st.data())
    def move(self, data: st.DataObject) -> None:
        if two := self._two(data):
            facility = data.draw(st.sampled_from(FACILITIES))
            old, new = (data.draw(st.sampled_from([i for i in LOCAL if i.authority == facility])) for _ in range(2))
            act = feed(two[1], new, event=FeedEvent.MOVE, merged=(two[0], old))
            versions, _ = self.both(lambda: self.model.move(*two, old, new), self.curation.move(act, context()))
            for uuid, document in (versions or {}).items():
                [row] = self.connection.execute(
                    "SELECT n.entry_uuid::text FROM document_entry o "
                    "JOIN document_entry n ON n.logical_id = o.logical_id AND n.version = o.version + 1 "
                    "WHERE o.entry_uuid = %s", (uuid,),
                ).fetchall()  # fmt: skip
                self.model.version(uuid, row[0], document)

    # what can be seen

    def _lines(self, where: str, columns: str = "") -> list[Any]:
        sql = f"SELECT {columns} kind, left_key, right_key, detail FROM patient_task {where} ORDER BY task_id"
        return list(self.connection.execute(sql).fetchall())

    def _line(self, row: Sequence[Any]) -> tuple[str, frozenset[int | None], str]:
        kind, left, right, detail = row
        return kind, frozenset(None if key is None else self._patient(key) for key in (left, right)), detail

    def _patient(self, key: int) -> int:
        return self.model.names.index(self._names[key])

    @invariant()
    def agree(self) -> None:
        model = self.model
        self._names = {
            key: PatientId(value, OURS)
            for key, value in self.connection.execute("SELECT patient_key, affinity_domain_id FROM patient")
        }
        assert len(self._names) == len(model.names)
        for i in (*LOCAL, *PESELS, *model.names):
            root = model.who(i)
            found = self.ask(self.index.affinity_domain_id(i))
            assert found == (None if root is None else model.names[root]), i
            if root is None:
                continue
            stated = {
                x for r in model.of(root) for x in r.ids if model.who(x) == root
            } | {model.names[root]}  # fmt: skip
            query = CrossReferenceQuery(i, identifier_location="Q")
            assert set(self.ask(self.index.cross_reference(query, context()))) == stated
        for patient, name in enumerate(model.names):
            root = model.root(patient)
            read = self.ask(self.index.read(name, context()))
            assert read.active == (patient == root and bool(model.of(root)) and name not in model.retired)
            assert read.replaced_by == (model.names[root] if patient != root else None)
            mine = {u for u, d in model.documents.items() if d[3] and model.root(d[0]) == root}
            assert self.ask(self.registry.found(name)) == (set() if name in model.retired else mine)
        for family in FAMILIES:
            answer = self.ask(self.index.search(DemographicsQuery(family=family, exact=True), context()))
            fitting = {model.names[model.root(r.at)] for r in model.records if r.live and r.said[0] == family}
            assert {c.patient for c in answer.found} == fitting
        rows = [self._line(r) for r in self._lines("WHERE decision = ''")]
        assert len(rows) == len(set(rows))
        assert set(rows) == {(x.kind, x.pair, x.detail) for x in model.lines if not x.decision}
        decided = [self._line(r)[1] for r in self._lines("WHERE decision = 'different'")]
        assert set(decided) == {x.pair for x in model.lines if x.decision == "different"}
        versions = sorted(
            (self._patient(key), version)
            for key, version in self.connection.execute("SELECT patient_key, version FROM patient_record")
        )
        assert versions == sorted((r.at, r.version) for r in model.records)


def test_any_sequence_of_acts_agrees_with_a_plain_model(database_dsn: str, postgres_server: str) -> None:
    with asyncio.Runner() as runner, psycopg.connect(database_dsn, autocommit=True) as connection:
        database = Database(database_dsn, links=1)
        runner.run(database.open())
        run_state_machine_as_test(
            lambda: Machine(runner, database, database_dsn, connection),
            settings=settings(
                max_examples=EXAMPLES,
                stateful_step_count=STEPS,
                deadline=None,
                suppress_health_check=list(HealthCheck),
            ),
        )
        database.close()

"""Importing patients: the files, and that an import gives the index that single feeds give."""

from __future__ import annotations

import asyncio
import itertools
import os
import random
import signal
import stat
import subprocess
import sys
import time

import msgspec
import psycopg
import pytest

import commanding
from obieg.actors.patient_index import PatientIndex
from obieg.domain.audit import AuditEvent, AuditObject, Outcome
from obieg.domain.authorities import AssigningAuthority, Authorities
from obieg.domain.feeding import Feeding
from obieg.domain.feeding_batch import RememberingMatcher
from obieg.domain.identifiers import PatientId
from obieg.domain.linkage import LinkageMatcher
from obieg.domain.notices import ChangeKind, PatientChange, Subscribers, Subscription, read_change
from obieg.domain.patients import FeedEvent, PatientFeed
from obieg.domain.persons import Address, Demographics, PersonName, Telecom
from obieg.domain.problems import Problem, RetryLater
from obieg.domain.registry import LostRace
from obieg.domain.requester import Requester
from obieg.mapping.patient_csv import read_header
from obieg.ops import importing
from obieg.ops.failure import Failure
from obieg.ops.import_files import Chunk, Source, chunks, examine
from obieg.ops.import_reading import Fed, Reader, Reading
from obieg.ops.wiring_patients import utc_now
from obieg.protocol import Context
from obieg.storage.audit_store import AuditStore
from obieg.storage.bulk_store import BulkStore
from obieg.storage.link import Database
from obieg.storage.outbox_store import PostgresOutbox
from obieg.storage.patient_store import PostgresPatientStore
from obieg.transactions import TRANSACTIONS

OURS, PESEL = "1.2.616.1", "2.16.840.1.113883.3.4424.1.1.616"
HOSPITALS = ("1.2.616.2", "1.2.616.3", "1.2.616.4")
AUTHORITIES = Authorities(
    [AssigningAuthority(OURS), AssigningAuthority(PESEL, single=True), AssigningAuthority("1.2.616.2", "SZPITAL")]
)
HEADER = "id;pesel;nazwisko;imię;data urodzenia;płeć;miejscowość"


# the files -----------------------------------------------------------------------------------------------------------


def reading_of(source: Source, authority: str = HOSPITALS[0]) -> Reading:
    return Reading(
        format=source.format, charset=source.charset, layout=source.layout, authority=authority, source="",
        authorities=AUTHORITIES.listed,
    )  # fmt: skip


def read(path, content, **how) -> list[Fed]:
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    source = examine(path, **how)
    reader = Reader(reading_of(source))
    return [fed for chunk in chunks(source, *source.start) for fed in reader.read(chunk)]


@pytest.fixture
def file(tmp_path):
    return tmp_path / "patients"


def test_a_row_says_who_it_is_about(file):
    [fed] = read(file, f"{HEADER}\n17;44051401458;Wójcik;Anna Maria;12.05.1980;K;Łódź\n")
    feed = fed.feed()
    assert feed.identifiers == (PatientId("17", HOSPITALS[0]), PatientId("44051401458", PESEL))
    assert feed.demographics == Demographics(
        names=(PersonName(family="Wójcik", given=("Anna", "Maria"), use="L"),),
        birth_date="19800512",
        sex="F",
        addresses=(Address(city="Łódź", use="H"),),
    )
    assert set(feed.stated) == {"names", "birth_date", "sex", "addresses"}
    assert feed.source == "SZPITAL|import"


@pytest.mark.parametrize("delimiter", [";", ",", "\t"])
@pytest.mark.parametrize("ending", ["\n", "\r\n"])
def test_marks_quotes_delimiters_and_line_ends(file, delimiter, ending):
    lines = [
        "id;nazwisko;ulica;miasto",
        '1;"Kowal, ""Jan""; syn";"ul. Długa\n5";Kraków',
        '2;Nowak;Polna 5";Opole',
        '"3";Zięba;"";',
    ]
    rows = [read_cells(line, delimiter) for line in lines]
    feds = read(file, b"\xef\xbb\xbf" + ending.join(rows).encode())
    assert [(f.line, f.code) for f in feds] == [(2, ""), (4, ""), (5, "")]
    first, second, third = (f.feed() for f in feds)
    assert first.demographics.name.family == 'Kowal, "Jan"; syn'
    assert first.demographics.address.street == "ul. Długa 5"
    assert second.demographics.address.street == 'Polna 5"'
    assert third.stated == ("names",)


def read_cells(line, delimiter):
    """The line with its delimiters outside quotes replaced."""
    parts = line.split('"')
    return (
        '"'.join(p.replace(";", delimiter) if n % 2 == 0 else p for n, p in enumerate(parts))
        if line[0] != "2"
        else line.replace(";", delimiter)
    )


@pytest.mark.parametrize(
    ("date", "read_as"),
    [("1980-05-12", "19800512"), ("19800512", "19800512"), ("2.5.1980", "19800502"), ("1980-05", "198005"), ("1980", "1980"),
     ("1980-05-12 00:00:00", "19800512")],
)  # fmt: skip
def test_dates(file, date, read_as):
    [fed] = read(file, f"id;birth_date\n1;{date}\n")
    assert fed.feed().demographics.birth_date == read_as


@pytest.mark.parametrize("date", ["1980-02-30", "31.04.1980", "5/12/1980", "80-05-12", "1980-13", "soon", "0000-01-01"])
def test_wrong_dates_are_rejected(file, date):
    [fed] = read(file, f"id;birth_date\n1;{date}\n")
    assert fed.code == "DataTypeError"
    assert fed.reason.startswith("birth_date: ")


def test_a_wrong_pesel_is_kept_and_a_fill_in_left_out(file):
    wrong, fill_in = read(file, "id;pesel\n1;44051401459\n2;00000000000\n")
    assert wrong.feed().identifiers[1] == PatientId("44051401459", PESEL)
    assert fill_in.feed().identifiers == (PatientId("2", HOSPITALS[0]),)
    assert [len(wrong.warnings), len(fill_in.warnings)] == [1, 1]


def test_what_is_wrong_in_a_row_is_all_said(file):
    [fed] = read(file, "id;birth_date;sex;birth_order;terc\n1;x;?;0;12\n")
    for column in ("birth_date", "sex", "birth_order", "terc"):
        assert f"{column}: " in fed.reason


def test_a_huge_field_and_a_wrong_number_of_cells_are_rejected(file):
    feds = read(file, f"id;family\n1;{'x' * 1_000_000}\n2\n3;Kot\n")
    assert [f.code for f in feds] == ["DataTypeError", "DataTypeError", ""]
    assert [f.line for f in feds] == [2, 3, 4]


def test_a_quote_that_is_not_closed_costs_one_line(file):
    many = "".join(f"{n};Nowak {'x' * 180}\n" for n in range(50_000))
    feds = read(file, f'id;family\n1;"Kot\n{many}')
    assert feds[0].code == "DataTypeError"
    assert (feds[0].line, feds[0].size) == (2, len('1;"Kot\n'))
    assert len(feds) == 50_001
    assert feds[-1].line == 50_002
    assert not any(f.code for f in feds[1:])


def test_windows_1250_is_recognised(file):
    [fed] = read(file, f"{HEADER}\n1;;Gąsior;Zdzisław;1980-05-12;M;Źródła\n".encode("cp1250"))
    assert fed.feed().demographics.name == PersonName(family="Gąsior", given=("Zdzisław",), use="L")


@pytest.mark.parametrize(
    "content",
    [
        f"{HEADER}\n1;;Gąsior;Jan;1980-05-12;M;Źródła\n".encode("iso8859-2"),
        f"{HEADER}\n1;;Gąsior;Jan;1980-05-12;M;Łódź\n".encode() + "2;;Wąs;Jan;;;\n".encode("cp1250"),
        f"{HEADER}\n1;;Groß;Jan;1980-05-12;M;Łódź\n".encode("cp1250"),
    ],
    ids=["ISO 8859-2", "UTF-8 in part", "a letter that may be another one"],
)
def test_a_character_set_is_never_guessed(file, content):
    with pytest.raises(Failure, match="--charset"):
        read(file, content)


def test_a_character_set_may_be_named(file):
    [fed] = read(file, f"{HEADER}\n1;;Gąsior;Jan;;;\n".encode("iso8859-2"), charset="iso-8859-2")
    assert fed.feed().demographics.name.family == "Gąsior"
    with pytest.raises(Failure, match="not UTF-8"):
        read(file, f"{HEADER}\n1;;Gąsior;Jan;;;\n".encode("cp1250"), charset="utf-8")


def test_a_header_must_be_known():
    with pytest.raises(Problem) as caught:
        read_header("numer;shoe size;family;surname")
    assert len(caught.value.findings) == 2
    with pytest.raises(Problem):
        read_header("family;given")


@pytest.mark.parametrize("content", [b"", b"[{}]", b"<ClinicalDocument/>", b"\x00\x01\x02"])
def test_other_files_are_refused(file, content):
    with pytest.raises(Failure, match=r"Nothing|nothing"):
        read(file, content)


MESSAGE = "MSH|^~\\&|HIS|SZP|||20260101||ADT^{event}|{n}|P|2.5||||||UNICODE UTF-8\rEVN||20260101\rPID|||{n}^^^&1.2.616.2&ISO||Żak^Jan||19800101|M\r"


@pytest.mark.parametrize("ending", ["\r", "\n", "\r\n"])
def test_hl7_v2_with_and_without_batch_segments(file, ending):
    messages = [MESSAGE.format(event=event, n=n) for n, event in enumerate(["A04", "A08", "A99", "A43"])]
    batch = "FHS|^~\\&\rBHS|^~\\&\r" + "".join(messages) + "BTS|4\rFTS|1\r"
    for content in ("".join(messages), batch):
        feds = read(file, content.replace("\r", ending))
        assert [f.code for f in feds] == ["", "", "UnsupportedEventCode", "UnsupportedEventCode"]
        assert feds[1].feed().demographics.name.family == "Żak"
        assert [f.line for f in feds] == [n + (2 if content is batch else 0) for n in (1, 4, 7, 10)]
        assert feds[0].feed().source == "SZP|HIS"


def test_fhir_one_patient_a_line(file):
    patient = {
        "resourceType": "Patient",
        "identifier": [{"system": "urn:oid:1.2.616.2", "value": "7"}],
        "name": [{"family": "Żak"}],
    }
    merged = patient | {
        "active": False,
        "link": [{"type": "replaced-by", "other": {"identifier": {"system": "urn:oid:1.2.616.2", "value": "8"}}}],
    }
    lines = [patient, merged, {"resourceType": "Bundle", "type": "batch"}, patient | {"birthDate": "1980-02-31"}]
    content = b"\n".join([*(msgspec.json.encode(each) for each in lines), b"{", b""])
    feds = read(file, content)
    assert [bool(f.code) for f in feds] == [False, False, True, True, True]
    assert feds[0].feed().demographics.name.family == "Żak"
    assert (feds[1].event, feds[1].merged) == (FeedEvent.MERGE, (PatientId("7", "1.2.616.2"),))
    assert feds[1].feed().identifiers == (PatientId("8", "1.2.616.2"),)


def test_chunks_lose_no_record(file, monkeypatch):
    monkeypatch.setattr("obieg.ops.import_files._CHUNK_BYTES", {"csv": 70, "fhir": 70, "hl7v2": 70})
    rows = [f'{n};"Kot\n""{n}"""' if n % 3 == 0 else f"{n};Kot" for n in range(100)]
    feds = read(file, "id;family\n" + "\n".join(rows))
    assert [f.feed().identifiers[0].value for f in feds] == [str(n) for n in range(100)]
    assert feds[-1].line == 2 + 99 + 33
    feds = read(file, "".join(MESSAGE.format(event="A04", n=n) for n in range(50)))
    assert [f.feed().identifiers[0].value for f in feds] == [str(n) for n in range(50)]


# the index -----------------------------------------------------------------------------------------------------------

GIVEN = ("Anna", "Ania", "Jan", "Janina", "Piotr", "Ewa")
FAMILIES = ("Kowalska", "Kowalski", "Nowak", "Żak-Nowak", "Wójcik")
PESELS = ("80051212326", "80051247665", "44051401458", "90010112349")


def random_feeds(seed: int, count: int) -> list[PatientFeed]:
    """Few names, dates and numbers, so that they meet in every way there is."""
    rng = random.Random(seed)
    feeds = []
    for _ in range(count):
        place = rng.choice(HOSPITALS)
        identifiers = [PatientId(str(rng.randrange(count // 3)), place)]
        if rng.random() < 0.4:
            identifiers.append(PatientId(rng.choice(PESELS), PESEL))
        if rng.random() < 0.05:
            identifiers.append(PatientId(f"X{rng.randrange(4)}", OURS))
        if rng.random() < 0.05:
            other = PatientId(str(rng.randrange(count // 3)), place)
            feeds.append(
                PatientFeed(
                    event=FeedEvent.MERGE, identifiers=(identifiers[0],), merged=(other,), source=f"{place}|HIS"
                )
            )
            continue
        demographics = Demographics(
            names=(PersonName(family=rng.choice(FAMILIES), given=(rng.choice(GIVEN),), use="L"),),
            birth_date=rng.choice(("19800512", "19800512", "19801205", "1980", "")),
            sex=rng.choice(("F", "M", "")),
            addresses=(Address(street=f"Długa {rng.randrange(3)}", city="Kraków", use="H"),)
            if rng.random() < 0.6
            else (),
            telecoms=(Telecom(number=f"60120230{rng.randrange(3)}"),) if rng.random() < 0.5 else (),
        )
        stated = tuple(n for n in Demographics.__struct_fields__ if getattr(demographics, n) not in ("", (), None))
        feeds.append(
            PatientFeed(
                event=FeedEvent.UPDATE, identifiers=tuple(identifiers), demographics=demographics, stated=stated,
                source=f"{place}|HIS",
            )
        )  # fmt: skip
    return feeds


def told(change: PatientChange, ids: dict[str, str]) -> tuple:
    """What a message says, with patients by what is said of them."""

    def named(i: PatientId | None) -> str:
        return "" if i is None else ids.get(i.value, i.value) if i.authority == OURS else str(i)

    moved = sorted((named(m.identifier), named(m.subsumed)) for m in change.moved)
    return named(change.patient), named(change.former), sorted(map(named, change.identifiers)), moved


class Bench:
    """An index whose keys are given out in order, so that ties are broken alike in every run."""

    def __init__(self, dsn: str) -> None:
        self.dsn = dsn
        self.database = Database(dsn, links=2)
        self.audit = AuditStore(self.database, source_id="test", names={}, now=utc_now)
        self.patients = PostgresPatientStore(
            self.database, self.audit, PostgresOutbox(self.database, self.audit), assigning_authority=OURS, tells=True
        )
        told = [Subscription("all", "ITI-10", ChangeKind.IDENTIFIERS), Subscription("links", "ITI-64", ChangeKind.LINK)]
        self.subscribers = Subscribers(told)

    def parts(self, matcher) -> dict:
        keys, ids = itertools.count(1), itertools.count(1)
        return {
            "matcher": matcher, "authorities": AUTHORITIES, "assigning_authority": OURS, "subscribers": self.subscribers,
            "new_key": lambda: next(keys), "new_id": lambda: f"ID{next(ids)}",
        }  # fmt: skip

    async def feed_singly(self, feeds) -> int:
        """How many were refused."""
        await self.database.open()
        index = PatientIndex(self.patients, **self.parts(LinkageMatcher()))
        refused = 0
        for feed in feeds:
            named = [i for i in (*feed.identifiers, *feed.merged) if i.authority != OURS]
            objects = tuple(AuditObject("patient", str(i)) for i in named)
            context = Context(
                transaction=TRANSACTIONS[0], requester=Requester(system="t", proof="certificate"), request_id="r",
                received_at=utc_now(), objects=objects,
            )  # fmt: skip
            try:
                await index.feed(feed, context)
            except Problem:
                refused += 1
        self.database.close()
        return refused

    def take(self, feeds, tmp_path, *, of_part: int) -> importing.Importer:
        event = AuditEvent(transaction="operator", event="patient_record", outcome=Outcome.SUCCESS, requester="t")
        matcher = RememberingMatcher()
        store = BulkStore(self.dsn, audit=self.audit, patients=self.patients, name="test")
        source = Source(tmp_path / "x.csv", len(feeds), "csv", "utf-8", "", None, b"")
        importer = importing.Importer(
            store, Feeding(**self.parts(matcher)), matcher, self.audit, source=source, event=event, fingerprint="f",
            fed_by="t",
        )  # fmt: skip
        store.start("f", file="x", size=len(feeds), position=0, by="t")
        reading = msgspec.structs.replace(reading_of(source), audit=importer.around)
        reader = Reader(reading)
        feds = [reader.fed(n, 1, n + 1, feed) for n, feed in enumerate(feeds)]
        # As a worker process would give them.
        feds = msgspec.msgpack.decode(msgspec.msgpack.encode(feds), type=list[Fed])
        usual, rejects = importing.RECORDS_MAX, importing.Rejects(tmp_path / "x.rejected", b"", 0)
        importing.RECORDS_MAX = of_part
        try:
            importer.take(importing.parts(Chunk(0, 1, b"x" * len(feeds), len(feeds)), feds), rejects)
        finally:
            importing.RECORDS_MAX = usual
            rejects.close()
            store.close()
        return importer

    def state(self) -> dict:
        """Everything that an index is, without the names that it gave to patients and records."""
        with psycopg.connect(self.dsn) as c:
            records = c.execute(
                "SELECT patient_key, record_key, source, authorities, values, demographics, blocks, names, sounds, birth_date,"
                " sex, version, fed_by, removed_at IS NULL FROM patient_record"
            ).fetchall()
            own = dict(c.execute("SELECT patient_key, affinity_domain_id FROM patient").fetchall())
            name: dict = {key: [] for key in own}
            of_record: dict = {}
            for key, record_key, *said in records:
                of_record[record_key] = repr(said)
                name[key].append(repr(said))
            name = {
                key: repr(sorted(said)) + (own[key] if own[key].startswith("X") else "") for key, said in name.items()
            }
            ids = {own[key]: name[key] for key in own}

            def rows(sql):
                return c.execute(sql).fetchall()

            return {
                "patients": sorted((name[k], v) for k, v in rows("SELECT patient_key, version FROM patient")),
                "locators": sorted(
                    (a, ids.get(v, v), name[k], retired, name.get(by), ra, ids.get(rv, rv))
                    for a, v, k, retired, by, ra, rv in rows(
                        "SELECT authority, value, patient_key, retired_at IS NOT NULL, retired_by, replaced_authority,"
                        " replaced_value FROM patient_locator"
                    )
                ).__repr__(),
                "blocks": sorted(
                    (b, name[k], of_record[r])
                    for b, k, r in rows("SELECT block, patient_key, record_key FROM patient_block")
                ),
                "links": sorted(
                    (name[k], name[m], name[s], reason, by)
                    for k, m, s, reason, by in rows(
                        "SELECT patient_key, merged_into, survivor_key, reason, linked_by FROM patient_link"
                    )
                ),
                "tasks": sorted(
                    (kind, name[left], name.get(right) or "", detail, decision, bytes(judged or b""))
                    for kind, left, right, detail, decision, judged in rows(
                        "SELECT kind, left_key, right_key, detail, decision, judgement FROM patient_task"
                    )
                ),
                "order": [
                    [said for said, _ in sorted(group, key=lambda r: r[1])]
                    for _, group in itertools.groupby(
                        sorted(
                            (
                                (of_record[r], (at, of_record[r]), name[k])
                                for k, r, at in rows("SELECT patient_key, record_key, updated_at FROM patient_record")
                            ),
                            key=lambda r: r[2],
                        ),
                        key=lambda r: r[2],
                    )
                    for group in [[g[:2] for g in group]]
                ],
                "audit": sorted(
                    ids.get(p.partition("^")[0], p)
                    for (p,) in rows("SELECT patient_id FROM audit_event WHERE patient_id <> ''")
                ),
                "told": sorted(
                    (destination, *told(read_change(bytes(body)), ids))
                    for destination, body in rows("SELECT destination, body FROM outbox")
                ),
            }

    def empty(self) -> None:
        with psycopg.connect(self.dsn, autocommit=True) as c:
            tables = "patient, patient_record, patient_block, patient_locator, patient_link, patient_task, audit_event, outbox, patient_import"
            c.execute(f"TRUNCATE {tables}")


@pytest.fixture
def in_order(monkeypatch):
    """Of candidates that are alike the first counts, and the database gives them in no particular order."""
    decide = Feeding.decide

    def decide_in_order(self, feed, facts, *more):
        records, candidates = (tuple(sorted(r, key=lambda r: r.record_key)) for r in (facts.records, facts.candidates))
        return decide(self, feed, facts._replace(records=records, candidates=candidates), *more)

    monkeypatch.setattr(Feeding, "decide", decide_in_order)


@pytest.mark.node
@pytest.mark.usefixtures("in_order")
@pytest.mark.parametrize("seed", range(12))
def test_an_import_gives_what_single_feeds_give(database_dsn, tmp_path, seed):
    feeds = random_feeds(seed, 90)
    bench = Bench(database_dsn)
    refused = asyncio.run(bench.feed_singly(feeds))
    singly = bench.state()
    bench.empty()
    importer = bench.take(feeds, tmp_path, of_part=random.Random(seed).choice((1, 4, 11, 90)))
    together = bench.state()
    for what, rows in singly.items():
        assert together[what] == rows, what
    assert importer.counts["rejected"] == refused
    assert singly["tasks"]
    assert importer.position == len(feeds)


@pytest.mark.node
@pytest.mark.usefixtures("in_order")
@pytest.mark.parametrize("seed", range(20, 24))
def test_a_lost_race_is_decided_again_in_smaller_parts(database_dsn, tmp_path, seed, monkeypatch):
    feeds = random_feeds(seed, 60)
    bench = Bench(database_dsn)
    asyncio.run(bench.feed_singly(feeds))
    singly = bench.state()
    bench.empty()
    rng, store = random.Random(seed), BulkStore.store

    def unlucky(self, made):
        if rng.random() < 0.5:
            raise LostRace("somebody was faster")
        store(self, made)

    monkeypatch.setattr(BulkStore, "store", unlucky)
    bench.take(feeds, tmp_path, of_part=15)
    together = bench.state()
    for what, rows in singly.items():
        assert together[what] == rows, what


def strangers(count: int) -> list[PatientFeed]:
    return [
        PatientFeed(
            event=FeedEvent.UPDATE,
            identifiers=(PatientId(f"L{n}", HOSPITALS[0]),),
            demographics=Demographics(
                names=(PersonName(f"Nowak{chr(97 + n)}", ("Ewa",)),), birth_date=f"1980010{n + 1}"
            ),
            stated=("names", "birth_date"),
            source="S|H",
        )
        for n in range(count)
    ]


@pytest.mark.node
def test_nothing_is_stored_behind_a_part_that_was_not(database_dsn, tmp_path, monkeypatch):
    bench, store, asked = Bench(database_dsn), BulkStore.store, []

    def failing(self, made):
        asked.append(made)
        if len(asked) == 2:
            time.sleep(0.1)  # so that another part waits behind this one
            raise RetryLater("the database is away")
        store(self, made)

    monkeypatch.setattr(BulkStore, "store", failing)
    with pytest.raises(RetryLater):
        bench.take(strangers(8), tmp_path, of_part=2)
    assert len(asked) == 2
    with psycopg.connect(database_dsn) as c:
        assert c.execute("SELECT position, (SELECT count(*) FROM patient) FROM patient_import").fetchone() == (2, 2)


@pytest.mark.node
@pytest.mark.parametrize("stranger", ["somebody near", "somebody else", "the batch before", ""])
def test_who_came_near_meanwhile_is_looked_for_where_others_have_written(database_dsn, tmp_path, monkeypatch, stranger):
    """``in_blocks`` is made wrong, so that whether it was looked at shows."""
    bench, store, found = Bench(database_dsn), BulkStore.store, []

    def late(self, made):
        if len(found) == 1:
            block = min(made.writes.blocks)
            with psycopg.connect(database_dsn, autocommit=True) as c:
                if stranger == "somebody near":
                    c.execute("INSERT INTO patient_block VALUES (%s, 1, 1)", [block])
                elif stranger == "somebody else":
                    c.execute("INSERT INTO patient_link VALUES (1, 2, 2)")
            if stranger != "somebody near":
                made.writes.in_blocks ^= 1
        elif not found and stranger == "the batch before":
            made.writes.in_blocks ^= 1
        try:
            store(self, made)
        except LostRace:
            found.append(True)
            raise
        found.append(False)

    monkeypatch.setattr(BulkStore, "store", late)
    bench.take(strangers(6), tmp_path, of_part=2)
    assert found[:2] == [False, stranger.startswith("somebody")]
    with psycopg.connect(database_dsn) as c:
        assert c.execute("SELECT count(*) FROM patient").fetchone() == (6,)


@pytest.mark.node
def test_what_must_be_escaped_is_stored_as_it_was_said(database_dsn, tmp_path):
    awkward = (
        'O"Hara',
        "a\\b",
        "\\x41",
        "\\.",
        "\\N",
        "a\tb",
        "a\nb",
        "{}",
        "\\101",
        "\x7f",
        "Żółć",
        "\U0001f600",
        '{a,"b\\}',
    )
    feeds = [
        PatientFeed(
            event=FeedEvent.UPDATE,
            identifiers=(PatientId(f"{n}{text}", HOSPITALS[0]),),
            demographics=Demographics(
                names=(PersonName(family=text, given=(text, "Anna"), prefix=text),),
                birth_date=f"19800{n % 9 + 1}05",
                addresses=(Address(street=text, city=text),),
            ),
            stated=("names", "birth_date", "addresses"),
            source=f"{text}|a",
        )
        for n, text in enumerate(awkward)
    ]
    bench = Bench(database_dsn)
    assert asyncio.run(bench.feed_singly(feeds)) == 0
    singly = bench.state()
    bench.empty()
    bench.take(feeds, tmp_path, of_part=5)
    assert bench.state() == singly
    with psycopg.connect(database_dsn) as c:
        said = {bytes(d) for (d,) in c.execute("SELECT demographics FROM patient_record")}
    assert said == {msgspec.json.encode(feed.demographics) for feed in feeds}


@pytest.mark.node
async def test_feeds_beside_an_import_make_nobody_twice(database_dsn, tmp_path):
    people = [
        PatientFeed(
            event=FeedEvent.UPDATE,
            identifiers=(PatientId(str(n), HOSPITALS[0]),),
            demographics=Demographics(
                names=(PersonName(family=f"{''.join(chr(97 + int(d)) * 2 for d in str(n))}owicz", given=("Anna",)),),
                birth_date=f"19{n % 90 + 10}05{n % 28 + 1:02}",
                sex="F",
                addresses=(Address(street=f"Polna {n}", city="Opole"),),
            ),
            stated=("names", "birth_date", "sex", "addresses"),
            source="a|a",
        )
        for n in range(300)
    ]
    elsewhere = [
        msgspec.structs.replace(p, identifiers=(PatientId(p.identifiers[0].value, HOSPITALS[1]),), source="b|b")
        for p in people
    ]
    bench, other = Bench(database_dsn), Bench(database_dsn)
    other.parts = lambda matcher: bench_parts(bench, matcher, 10_000)
    await asyncio.gather(
        asyncio.to_thread(bench.take, people, tmp_path, of_part=25), other.feed_singly(elsewhere[::-1])
    )
    with psycopg.connect(database_dsn) as c:
        assert c.execute("SELECT count(*) FROM patient_record").fetchone() == (600,)
        assert c.execute("SELECT count(*) FROM patient").fetchone() == (300,)


def bench_parts(bench, matcher, start):
    keys, ids = itertools.count(start), itertools.count(start)
    return Bench.parts(bench, matcher) | {"new_key": lambda: next(keys), "new_id": lambda: f"ID{next(ids)}"}


# the command ---------------------------------------------------------------------------------------------------------


@pytest.fixture
def node(tmp_path, database_dsn):
    commanding.obieg("init", "--role", "region", tmp_path / "node").check_returncode()
    return tmp_path / "node" / "settings.toml"


def start(node, dsn, *arguments):
    return subprocess.Popen(
        [sys.executable, "-m", "obieg", "patients", *map(str, arguments), "--settings", str(node)],
        stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        env=os.environ | {"COLUMNS": "120", "OBIEG_DATABASE__DSN": dsn},
    )  # fmt: skip


def run(node, dsn, *arguments):
    environment = os.environ | {"COLUMNS": "120", "OBIEG_DATABASE__DSN": dsn}
    words = ("patients", *arguments, "--settings", node)
    return commanding.obieg(*words, environment=environment, timeout_s=300)


def many(count):
    names = ["Kowalska", "Nowak", "Wójcik", "Zięba", "Mazur"]
    return "".join(f"{n};{names[n % 5]}{n};Anna;19{n % 90 + 10:02}-05-12;K\n" for n in range(count))


@pytest.mark.node
@pytest.mark.slow
def test_a_killed_import_goes_on_without_loss_or_doubles(node, database_dsn, tmp_path):
    file = tmp_path / "many.csv"
    bad = "bad;Bez;Daty;1980-02-30;K\n"
    file.write_text("id;family;given;birth_date;sex\n" + bad + many(12_000) + bad, "utf-8")
    arguments = ("import", file, "--authority", HOSPITALS[0], "--json")
    kills = 0
    with psycopg.connect(database_dsn, autocommit=True) as c:
        for wanted in (0.1, 0.5):
            process = start(node, database_dsn, *arguments)
            while process.poll() is None:
                row = c.execute("SELECT position FROM patient_import").fetchone()
                if row and row[0] > wanted * file.stat().st_size:
                    process.send_signal(signal.SIGKILL)
                    process.communicate()
                    kills += 1
                    break
                time.sleep(0.01)
        assert kills == 2
        counted = c.execute("SELECT count(*) FROM patient_record").fetchone()[0]
        assert 0 < counted < 12_000
        done = run(node, database_dsn, *arguments)
        assert done.returncode == 1, done.stderr  # there are rejects
        [told] = msgspec.json.decode(done.stdout)
        assert told["created"] == 12_000
        assert told["rejected"] == 2
        assert told["resumed_at_line"] > 1000
        assert c.execute("SELECT count(*), count(DISTINCT values) FROM patient_record").fetchone() == (12_000, 12_000)
        assert c.execute("SELECT count(*) FROM patient").fetchone() == (12_000,)
        assert c.execute("SELECT count(*) FROM audit_event WHERE patient_id <> ''").fetchone() == (12_000,)
    rejects = tmp_path / "many.csv.rejected"
    assert stat.S_IMODE(rejects.stat().st_mode) == 0o600
    lines = rejects.read_text("utf-8").splitlines()
    assert lines[0] == "id;family;given;birth_date;sex"
    assert [lines[2], lines[4]] == [bad.strip(), bad.strip()]
    assert lines[1].startswith("# line 2: birth_date: ")
    assert lines[3].startswith("# line 12003: birth_date: ")
    again = run(node, database_dsn, *arguments)
    assert again.returncode == 1
    assert msgspec.json.decode(again.stdout)[0]["imported_before"]
    # What was rejected is corrected where it stands, and imported.
    rejects.write_text(rejects.read_text("utf-8").replace("1980-02-30", "1980-02-28"), "utf-8")
    corrected = run(node, database_dsn, "import", rejects, "--authority", HOSPITALS[0], "--json")
    assert corrected.returncode == 0, corrected.stderr
    assert msgspec.json.decode(corrected.stdout)[0]["created"] == 1


@pytest.mark.node
def test_hl7_and_fhir_are_imported_with_their_merges(node, database_dsn, tmp_path):
    file = tmp_path / "batch.hl7"
    merge = MESSAGE.format(event="A40", n=1) + "MRG|2^^^&1.2.616.2&ISO\r"
    file.write_text(
        "FHS|^~\\&\r" + MESSAGE.format(event="A04", n=1) + MESSAGE.format(event="A04", n=2) + merge + "FTS|1\r",
        "utf-8",
        newline="",
    )
    done = run(node, database_dsn, "import", file)
    assert done.returncode == 0, done.stderr + done.stdout
    assert "HL7 v2 batch" in done.stdout
    assert "3 records" in done.stdout
    with psycopg.connect(database_dsn) as c:
        assert c.execute("SELECT reason FROM patient_link").fetchall() == [("A40",)]
        assert c.execute("SELECT count(*) FROM audit_event WHERE patient_id <> ''").fetchone() == (3,)
        whose = "SELECT fed_by FROM patient_record WHERE values[1] = '1'"
        assert c.execute(whose).fetchall() == [("",)]
        # Whose they are may be said afterwards, of those that are nobody's.
        named = [f'[[nodes]]\nname = "{name}"\naddress = "127.0.0.{n}"\n' for n, name in enumerate(("his", "lis"), 2)]
        node.write_text(node.read_text("utf-8") + "".join(named), "utf-8")
        assert run(node, database_dsn, "import", file, "--fed-by", "stranger").returncode == 2
        for name in ("his", "lis"):
            done = run(node, database_dsn, "import", file, "--fed-by", name, "--rejects", tmp_path / name)
            assert done.returncode == 1, done.stderr
            assert (tmp_path / name).read_text("utf-8").count("# line") == 1, "the number that was merged away"
            assert c.execute(whose).fetchall() == [("his",)]
    shown = run(node, database_dsn, "show", f"1^^^&{HOSPITALS[0]}&ISO")
    assert "fed by his" in shown.stdout

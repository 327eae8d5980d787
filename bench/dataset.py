"""Fills a node by COPY with what registrations and feeds would have left there.

A few submissions and documents are really sent to the node; the rows that it inserted for them are then repeated with
other ids, numbers and patients. People are written as the patient index itself would write each of them.
"""

from __future__ import annotations

import base64
import multiprocessing
import random
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from functools import partial
from itertools import chain

import psycopg

from bench.messages import (
    NUMBER_MARK,
    PATIENT_MARK,
    Identity,
    document_unique_id,
    provide,
    register,
    set_unique_id,
)
from bench.people import PEOPLE_MAX, SHARE_PEOPLE, announced
from bench.recorder import Batch, Recorder, named, value_of
from obieg.domain.affinity_domain import polish
from obieg.domain.documents import DocumentEntry
from obieg.domain.identifiers import PatientId
from obieg.domain.linkage import LinkageMatcher
from obieg.domain.matching import Record
from obieg.domain.patient_index import SavedRecord
from obieg.domain.persons import Demographics, PersonName
from obieg.mapping.ebrim import read_rendering
from obieg.mapping.fhir_documents import Renderer
from obieg.storage.patient_store import record_calls
from obieg.storage.statements import Call, Statement

ENTRIES_PER_PATIENT = 10
VARIANTS = 40
FIRST_WITH_DOCUMENTS = 1_000_000  # affinity-domain ids: patients who have ten documents each
FIRST_WITHOUT = 5_000_000  # and those for whom the benchmarks register
PATIENTS_WITHOUT = 10_000
KEY_FACTOR = 900_000_000_001  # patient_key is the id times this, so that pgbench can compute it too
FIRST_NUMBER = 10**17  # of the loaded documents, whose uniqueIds end with it
_FIRST_SENT_NUMBER = 2 * 10**17
FIRST_LOCAL_NUMBER = 10**7  # that hospitals gave to people

# The 24 characters that the UUIDs of one submission share; the rest tells entry, set and association apart.
_UUID_MARK = b"0a1b2c3d-4e5f-4a6b-8c7d-"
_TAILS = {
    "insert_document_entry": b"00000000000e",
    "insert_submission_set": b"00000000000d",
    "insert_association": b"00000000000a",
}
_ENTRY, _SET, _ASSOCIATION = _TAILS.values()
_KEY_MARK = b"7777777777777777"
_MARKS = (_UUID_MARK, NUMBER_MARK.encode(), PATIENT_MARK.encode(), _KEY_MARK)
_TABLES = {
    "insert_document_entry": "document_entry",
    "insert_submission_set": "submission_set",
    "insert_association": "association",
    "insert_audit": "audit_event",
}
_OF_OTHER_TABLES = frozenset({"other_patients"})  # parameters that make rows elsewhere, none in what is loaded
Job = tuple[str, Sequence[str], Iterable[bytes]]


def patient_key(patient: int) -> int:
    return patient * KEY_FACTOR


def load_patients(dsn: str, identity: Identity, entries: int) -> None:
    """The patients of the documents; before :func:`load`."""
    authority = identity.assigning_authority
    saved = []
    for patient in (
        *range(FIRST_WITH_DOCUMENTS, FIRST_WITH_DOCUMENTS + entries // ENTRIES_PER_PATIENT),
        *range(FIRST_WITHOUT, FIRST_WITHOUT + PATIENTS_WITHOUT),
    ):
        name = PersonName("Pacjent", ("Nr", str(patient)))
        record = Record((PatientId(str(patient), authority),), Demographics(names=(name,)))
        saved.append((str(patient), SavedRecord(patient_key(patient), patient, 0, "SZPITAL|HIS", record, ())))
    for job in _people_jobs(authority, saved):
        _copy(dsn, job, lambda _: None)


def load_people(dsn: str, identity: Identity, count: int, done: Callable[[int], None]) -> None:
    """So many people of :mod:`bench.people`; ``done`` is told how many were added."""
    if count > PEOPLE_MAX:
        raise RuntimeError(f"there are {PEOPLE_MAX} people, not {count}")
    sizes = [min(SHARE_PEOPLE, count - first) for first in range(0, count, SHARE_PEOPLE)]
    # Processes of their own: folding names takes as long as PostgreSQL takes to store them.
    with ProcessPoolExecutor(2, mp_context=multiprocessing.get_context("spawn")) as processes:
        for size in processes.map(partial(_load_share, dsn, identity.assigning_authority), range(len(sizes)), sizes):
            done(size)
    settle(dsn)


def _load_share(dsn: str, authority: str, share: int, count: int) -> int:
    matcher = LinkageMatcher()
    rng = random.Random(share)
    saved = []
    for one in announced(share, share, FIRST_LOCAL_NUMBER + share * SHARE_PEOPLE, count):
        affinity_domain_id = base64.b32encode(rng.randbytes(13)).decode()[:20]
        keys = rng.getrandbits(62) + 1, rng.getrandbits(62) + 1
        saved.append((affinity_domain_id, SavedRecord(*keys, 0, one.source, one.record, matcher.blocks(one.record))))
    for job in _people_jobs(authority, saved):
        _copy(dsn, job, lambda _: None)
    return count


def _people_jobs(authority: str, saved: Sequence[tuple[str, SavedRecord]]) -> list[Job]:
    """Rows of people with these affinity-domain ids."""

    def locators() -> Iterator[bytes]:
        for id_, one in saved:
            for i in dict.fromkeys((PatientId(id_, authority), *one.record.identifiers)):
                yield f"{i.authority}\t{i.value}\t{one.patient_key}\n".encode()

    blocks = [
        f"{block}\t{one.patient_key}\t{one.record_key}\n".encode() for _, one in saved for block in set(one.blocks)
    ]
    records = [record_calls(one)[0] for _, one in saved]
    insert: Statement = records[0].statement
    return [
        ("patient", ("patient_key", "affinity_domain_id"), (f"{o.patient_key}\t{i}\n".encode() for i, o in saved)),
        ("patient_locator", ("authority", "value", "patient_key"), locators()),
        ("patient_record", insert.parameters, (_line(call) + b"\n" for call in records)),
        ("patient_block", ("block", "patient_key", "record_key"), blocks),
    ]


async def load(
    dsn: str, identity: Identity, node: Recorder, entries: int, documents: int, done: Callable[[int], None]
) -> None:
    """Loads ``entries`` entries; ``documents`` documents are really stored, and each stands for many (none: no rows).

    ``done`` is told how many rows were added.
    """
    templates = []
    for variant in range(VARIANTS):
        number = _FIRST_SENT_NUMBER + variant
        message = register(identity, variant)
        templates.append(_templates(await node.record(message, FIRST_WITHOUT, number), FIRST_WITHOUT, number))
    jobs: list[Job] = [
        (table, columns, _lines([t[table][1] for t in templates], entries))
        for table, (columns, _) in templates[0].items()
    ]
    hashes = [t["hash"][1][0] for t in templates if "hash" in t]
    jobs = [job for job in jobs if job[0] != "hash"]
    jobs += [
        ("object_locator", ("entry_uuid", "kind", "patient_key"), _object_locators(entries)),
        (
            "unique_id_locator",
            ("unique_id", "entry_uuid", "kind", "patient_key", "hash"),
            _unique_id_locators(entries, hashes),
        ),
    ]
    if documents:
        calls = []
        for variant in range(documents):
            number = _FIRST_SENT_NUMBER + VARIANTS + variant
            batches = await node.record(provide(identity, variant), FIRST_WITHOUT, number)
            calls.append((named(batches, "insert_stored_document"), number))
            done(0)
        lines = [_split(_marked(_line(call), FIRST_WITHOUT, number)) for call, number in calls]
        jobs.append(("stored_document", calls[0][0].statement.parameters, _lines(lines, entries)))
    with ThreadPoolExecutor(2) as threads:
        list(threads.map(lambda job: _copy(dsn, job, done), jobs))
    settle(dsn)


def settle(dsn: str) -> None:
    """Brings the database to rest."""
    with psycopg.connect(dsn, autocommit=True) as connection:
        connection.execute("VACUUM (ANALYZE)")
        connection.execute("CHECKPOINT")


def rows_of(entries: int, documents: int) -> int:
    """How many rows :func:`load` adds."""
    return entries * (5 + 2 + bool(documents))


def _copy(dsn: str, job: Job, done: Callable[[int], None]) -> None:
    table, columns, lines = job
    copy = f"COPY {table} ({', '.join(columns)}) FROM STDIN".encode()
    with psycopg.connect(dsn, autocommit=True) as connection:
        connection.execute("SET synchronous_commit = off")
        with connection.cursor() as cursor, cursor.copy(copy) as sink:
            for number, piece in _pieces(lines):
                sink.write(piece)
                done(number)


def _pieces(lines: Iterable[bytes]) -> Iterator[tuple[int, bytes]]:
    gathered: list[bytes] = []
    for line in lines:
        gathered.append(line)
        if len(gathered) == 256:
            yield 256, b"".join(gathered)
            gathered = []
    yield len(gathered), b"".join(gathered)


# from the statements of one submission to lines of COPY ------------------------------------------------------------


def _templates(batches: Sequence[Batch], patient: int, number: int) -> dict[str, tuple[Sequence[str], list[bytes]]]:
    """For each table its columns, and a line of COPY in pieces around the marks."""
    calls = {call.statement.name: call for batch in batches for call in batch}
    uuids = {name: value_of(calls[name], "entry_uuid") or b"" for name in _TAILS}
    found: dict[str, tuple[Sequence[str], list[bytes]]] = {}
    for name, table in _TABLES.items():
        columns = tuple(c for c in calls[name].statement.parameters if c not in _OF_OTHER_TABLES)
        found[table] = (columns, _template(_line(calls[name], columns), uuids, patient, number))
    columns, line = _fhir_rendering(calls["insert_document_entry"])
    found["fhir_rendering"] = (columns, _template(line, uuids, patient, number))
    found["hash"] = ((), [value_of(calls["insert_document_entry"], "hash") or b""])
    return found


def _template(line: bytes, uuids: dict[str, bytes], patient: int, number: int) -> list[bytes]:
    line = _marked(line, patient, number)
    for owner, uuid in uuids.items():
        line = line.replace(uuid, _UUID_MARK + _TAILS[owner])
    # Ids inside a rendering begin as the set's does.
    return _split(line.replace(uuids["insert_submission_set"][:24], _UUID_MARK))


def _fhir_rendering(entry: Call) -> tuple[Sequence[str], bytes]:
    """What the first reading over FHIR would have stored."""
    renderer = Renderer(polish())
    value = read_rendering("D", value_of(entry, "ebrim") or b"", "A", 1)
    assert isinstance(value, DocumentEntry)
    content = renderer.render(value, "2026-01-01T00:00:00.000Z")
    texts = (value_of(entry, "patient_key") or b"", value_of(entry, "entry_uuid") or b"", b"%d" % renderer.version)
    columns = ("patient_key", "entry_uuid", "rendering_version", "content")
    return columns, b"\t".join([*texts, _escaped(bytea(content))])


def _marked(line: bytes, patient: int, number: int) -> bytes:
    line = line.replace(b"%d" % patient_key(patient), _KEY_MARK)
    return line.replace(b"%018d" % number, NUMBER_MARK.encode()).replace(b"%07d" % patient, PATIENT_MARK.encode())


def _line(call: Call, columns: Sequence[str] = ()) -> bytes:
    """A row in the text format of COPY, of these columns or of all parameters."""
    given = zip(call.statement.parameters, call.values, call.formats, strict=True)
    return b"\t".join(
        b"\\N" if value is None else _escaped(bytea(value) if binary else value)
        for name, value, binary in given
        if not columns or name in columns
    )


def bytea(value: bytes) -> bytes:
    """The text form of a bytea: as it is but for backslash and NUL where it is UTF-8, hexadecimal where it is not."""
    try:
        value.decode()
    except UnicodeDecodeError:
        return b"\\x" + value.hex().encode()
    return value.replace(b"\\", b"\\\\").replace(b"\0", b"\\000")


def _escaped(value: bytes) -> bytes:
    return value.replace(b"\\", b"\\\\").replace(b"\t", b"\\t").replace(b"\n", b"\\n").replace(b"\r", b"\\r")


def _split(line: bytes) -> list[bytes]:
    """Pieces of a line; a mark is a piece of its own."""
    pieces = [line]
    for mark in _MARKS:
        pieces = list(chain.from_iterable(_interleave(piece, mark) for piece in pieces))
    return [p for p in pieces if p]


def _interleave(piece: bytes, mark: bytes) -> Iterator[bytes]:
    if piece in _MARKS:
        yield piece
        return
    first, *rest = piece.split(mark)
    yield first
    for part in rest:
        yield mark
        yield part


def _uuids(entries: int) -> Iterator[bytes]:
    """The 24 characters that the UUIDs of each submission begin with; the same in every table."""
    draw = random.Random(17).getrandbits
    for _ in range(entries):
        bits = f"{draw(72):018x}"
        yield f"{bits[:8]}-{bits[8:12]}-4{bits[12:15]}-8{bits[15:18]}-".encode()


def _patient_of(number: int) -> int:
    return FIRST_WITH_DOCUMENTS + number // ENTRIES_PER_PATIENT


def _lines(templates: list[list[bytes]], entries: int) -> Iterator[bytes]:
    places = [[(i, _MARKS.index(p)) for i, p in enumerate(pieces) if p in _MARKS] for pieces in templates]
    for number, uuid in enumerate(_uuids(entries)):
        variant = number % len(templates)
        pieces = templates[variant]
        patient = _patient_of(number)
        values = (uuid, b"%018d" % (FIRST_NUMBER + number), b"%07d" % patient, b"%d" % patient_key(patient))
        for place, mark in places[variant]:
            pieces[place] = values[mark]
        yield b"".join(pieces) + b"\n"


def _object_locators(entries: int) -> Iterator[bytes]:
    for number, uuid in enumerate(_uuids(entries)):
        key = b"%d" % patient_key(_patient_of(number))
        yield b"%b%b\tD\t%b\n%b%b\tS\t%b\n%b%b\tA\t%b\n" % (
            uuid, _ENTRY, key, uuid, _SET, key, uuid, _ASSOCIATION, key,
        )  # fmt: skip


def _unique_id_locators(entries: int, hashes: list[bytes]) -> Iterator[bytes]:
    for number, uuid in enumerate(_uuids(entries)):
        key = b"%d" % patient_key(_patient_of(number))
        name = f"{FIRST_NUMBER + number:018}"
        document, sset = document_unique_id(name).encode(), set_unique_id(name).encode()
        yield b"%b\t%b%b\tD\t%b\t%b\n%b\t%b%b\tS\t%b\t\\N\n" % (
            document, uuid, _ENTRY, key, hashes[number % len(hashes)], sset, uuid, _SET, key,
        )  # fmt: skip

"""Files to be imported: what kind they are, in which character set, and where one record ends and the next begins.

All of it is told from the content. Where the content could be read in two ways the import refuses and asks, for a name
that was read wrongly is found under no search afterwards.
"""

from __future__ import annotations

import codecs
import csv
import hashlib
import re
from collections.abc import Callable, Collection, Iterator
from pathlib import Path
from typing import NamedTuple

from obieg.domain.problems import Problem
from obieg.mapping.patient_csv import COLUMNS, Layout, read_header
from obieg.ops.failure import Failure

FORMATS = {"csv": "CSV", "fhir": "FHIR NDJSON", "hl7v2": "HL7 v2 batch"}
CHARACTER_SETS = {"utf-8": "utf-8", "windows-1250": "cp1250", "iso-8859-2": "iso8859-2"}
RECORD_BYTES_MAX = 8 << 20  # what has no end by then is one that was not closed
_READ_BYTES = 1 << 20
# How much is handed to a worker at a time: of short records as many as fill two transactions.
_CHUNK_BYTES = {"csv": 128 << 10, "fhir": 1 << 20, "hl7v2": 680 << 10}
_BOM = codecs.BOM_UTF8
# Letters of Polish that Windows-1250 and ISO 8859-2 have at different places: ą ś ź and their capitals. What the one
# has there is no letter of Polish in the other.
_ONLY_1250, _ONLY_8859_2 = bytes([0xA5, 0xB9, 0x8C, 0x9C, 0x8F, 0x9F]), bytes([0xA1, 0xB1, 0xA6, 0xB6, 0xAC, 0xBC])
_BOTH = bytes([0xC6, 0xE6, 0xCA, 0xEA, 0xA3, 0xB3, 0xD1, 0xF1, 0xD3, 0xF3, 0xAF, 0xBF])  # ć ę ł ń ó ż
_UNDEFINED_1250 = bytes([0x81, 0x83, 0x88, 0x90, 0x98])
_BATCH_SEGMENTS = (b"FHS", b"BHS", b"BTS", b"FTS")
_BATCH_SEGMENT = re.compile(rb"(?:\A|(?<=[\r\n]))\x0b?(FHS|BHS|BTS|FTS)[^\r\n]*")
REASON = re.compile(rb"# line \d+: [^\r\n]*(?:\r\n|\n|\Z)")  # how rejects are written down; not read again

csv.field_size_limit(RECORD_BYTES_MAX)


class Header(NamedTuple):
    """What the first line of a CSV file is expected to be."""

    name: str  # of what the rows are about
    command: str  # whose columns they are
    columns: Collection[str]
    read: Callable[[str], Layout]  # raises Problem


PATIENTS = Header("patient", "patients", COLUMNS, read_header)


class Source(NamedTuple):
    """A file, and how it is read."""

    path: Path
    size: int
    format: str  # a key of FORMATS
    charset: str  # Python's codec; of HL7 v2 each message names its own
    sha256: str
    layout: Layout | None  # of CSV
    header: bytes  # of CSV, its first line as it stands there

    @property
    def start(self) -> tuple[int, int]:
        """Where its first record is: position and line."""
        return len(self.header), 1 + self.header.count(b"\n")


class Chunk(NamedTuple):
    """Some whole records of a file."""

    position: int
    line: int
    data: bytes
    lines: int  # that end in it
    endless: bool = False  # one record without an end


def examine(
    path: Path,
    format_: str = "",
    charset: str = "",
    advance: Callable[[int], None] = lambda _: None,
    header: Header | None = None,
) -> Source:
    """Looks at the whole file; raises Failure where it cannot be read, or could be read in two ways."""
    header = header or PATIENTS
    digest = hashlib.sha256()
    counted = dict.fromkeys(_ONLY_1250 + _ONLY_8859_2 + _BOTH + _UNDEFINED_1250, 0)
    high, utf8, wrong_at = 0, codecs.getincrementaldecoder("utf-8")(), -1
    head, size = b"", 0
    try:
        with path.open("rb") as file:
            while block := file.read(_READ_BYTES):
                head = head or block
                digest.update(block)
                if not block.isascii():
                    others = block.translate(None, bytes(range(128)))
                    high += len(others)
                    for byte in counted:
                        counted[byte] += others.count(byte)
                if wrong_at < 0:
                    try:
                        utf8.decode(block)
                    except UnicodeDecodeError as error:
                        wrong_at = size + error.start
                size += len(block)
                advance(len(block))
    except OSError as error:
        raise Failure(
            f"{path} cannot be read: {error.strerror or error}.", "Nothing was imported from it.", "Correct the name."
        ) from None
    if wrong_at < 0:
        try:
            utf8.decode(b"", final=True)
        except UnicodeDecodeError:
            wrong_at = size
    found = format_ or _format(path, head)
    codec = _charset(path, charset, wrong_at, high, counted) if found != "hl7v2" else ""
    if found == "fhir" and codec != "utf-8":
        raise Failure(
            f"{path} is not UTF-8 (byte {wrong_at}).", "FHIR is always UTF-8 (RFC 8259).", "Have it written again."
        )
    layout, line = _layout(path, head, codec, header) if found == "csv" else (None, b"")
    return Source(path, size, found, codec, digest.hexdigest(), layout, line)


def _format(path: Path, head: bytes) -> str:
    start = head.removeprefix(_BOM).lstrip(b"\x0b\r\n\t ")
    while match := REASON.match(start):
        start = start[match.end() :]
    if start[:3] in (b"MSH", b"FHS", b"BHS"):
        return "hl7v2"
    if start[:1] == b"{":
        return "fhir"
    if start and b"\0" not in start[:4096] and start[:1] not in b"[<":
        return "csv"
    what = "is empty" if not head else "is none of the formats that can be imported"
    raise Failure(
        f"{path} {what}.",
        f"Taken are {', '.join(FORMATS.values())}; nothing was imported from it.",
        "Give a file of one of these. FHIR is one Patient on each line, not a Bundle.",
    )


def _charset(path: Path, asked: str, wrong_at: int, high: int, counted: dict[int, int]) -> str:
    if asked:
        codec = CHARACTER_SETS.get(asked.lower())
        if codec is None:
            raise Failure(f"{asked} is none of {', '.join(CHARACTER_SETS)}.", "Nothing was read.", "Name one of these.")
        if codec == "utf-8" and wrong_at >= 0:
            raise Failure(
                f"{path} is not UTF-8 (byte {wrong_at}).",
                "Names would be lost; nothing was imported from it.",
                "Name the right character set, or leave --charset away to have it recognised.",
            )
        return codec
    if wrong_at < 0:
        return "utf-8"

    def count(which: bytes) -> int:
        return sum(counted[byte] for byte in which)

    ours, theirs = count(_ONLY_1250), count(_ONLY_8859_2)
    if not theirs and not count(_UNDEFINED_1250) and ours + count(_BOTH) == high:
        return "cp1250"
    guess = "It looks like ISO 8859-2." if theirs and not ours else "It is not plainly Windows-1250 either."
    raise Failure(
        f"The character set of {path} is not certain: it is not UTF-8 (byte {wrong_at}). {guess}",
        "Read in the wrong one, names would be damaged; nothing was imported from it.",
        f"Say --charset {' or --charset '.join(CHARACTER_SETS)}, or save the file as UTF-8.",
    )


def _layout(path: Path, head: bytes, codec: str, expected: Header) -> tuple[Layout, bytes]:
    end = head.find(b"\n") + 1 or len(head)
    header = head[:end]
    try:
        return expected.read(header.removeprefix(_BOM).decode(codec)), header
    except (Problem, UnicodeDecodeError) as error:
        told = [f.detail for f in error.findings] if isinstance(error, Problem) else [str(error)]
        raise Failure(
            f"The first line of {path} is not the header of a {expected.name} file: {'; '.join(told[:5])}.",
            "It must name the columns; nothing was imported from it.",
            f"Use these names: {', '.join(expected.columns)}. What each means: obieg {expected.command} columns.",
        ) from None


# cutting -------------------------------------------------------------------------------------------------------------


def chunks(source: Source, position: int, line: int) -> Iterator[Chunk]:
    """The records from ``position`` on, some at a time."""
    cut = {"csv": _cut_csv, "fhir": _cut_lines, "hl7v2": _cut_messages}[source.format]
    delimiter = source.layout.delimiter if source.layout else ";"
    with source.path.open("rb") as file:
        file.seek(position)
        data, wanted = b"", _CHUNK_BYTES[source.format] // 4  # a short one first: everybody waits for it
        while True:
            if len(data) < wanted:
                data += file.read(wanted - len(data))
            whole = position + len(data) >= source.size
            if not whole and len(data) < wanted:
                raise Failure(
                    f"{source.path} became shorter while it was read.",
                    "What was read until then is imported.",
                    "Give a file that nothing writes into any more.",
                )
            end = len(data) if whole else cut(data, delimiter)
            if end:
                piece, data = data[:end], data[end:]
                lines = lines_of(piece, source.format)
                yield Chunk(position, line, piece, lines)
                position, line = position + end, line + lines
                wanted = _CHUNK_BYTES[source.format]
            elif len(data) >= RECORD_BYTES_MAX:
                # Only its first line is given up, so that one quote too many does not cost the rest of the file.
                end = data.find(b"\n") + 1
                piece, data = (data[:end], data[end:]) if end else (data + file.readline(), b"")
                lines = lines_of(piece, source.format)
                yield Chunk(position, line, piece, lines, endless=True)
                position, line = position + len(piece), line + lines
            else:
                wanted = min(2 * len(data), RECORD_BYTES_MAX)
            if not data and position >= source.size:
                return


def lines_of(data: bytes, format_: str) -> int:
    """How many lines end in it."""
    if format_ != "hl7v2":
        return data.count(b"\n")
    return data.count(b"\r") + data.count(b"\n") - data.count(b"\r\n")


def _cut_lines(data: bytes, _delimiter: str) -> int:
    return data.rfind(b"\n") + 1


def _cut_csv(data: bytes, delimiter: str) -> int:
    end = data.rfind(b"\n") + 1
    if not end or b'"' not in data:
        return end
    lines = [each + b"\n" for each in data[:end].split(b"\n")[:-1]]
    taken = [count for _, count in csv_rows([each.decode("latin-1") for each in lines], delimiter)]
    # The last one may go on in what was not read yet.
    whole = sum(taken[:-1])
    return sum(map(len, lines[:whole]))


def csv_rows(lines: list[str], delimiter: str) -> Iterator[tuple[list[str] | None, int]]:
    """The rows with the number of lines that each takes; None for one that is not to be read."""
    reader = csv.reader(iter(lines), delimiter=delimiter)
    before = 0
    while True:
        row: list[str] | None
        try:
            row = next(reader)
        except StopIteration:
            return
        except csv.Error:
            row = None
        yield row, reader.line_num - before
        before = reader.line_num


def _cut_messages(data: bytes, _delimiter: str) -> int:
    end = len(data)
    while (start := data.rfind(b"MSH", 0, end)) > 0:
        before = start - data.endswith(b"\x0b", 0, start)
        if before and data[before - 1] in b"\r\n":
            return before
        end = start
    return 0


def _starts(data: bytes) -> Iterator[int]:
    """Where messages begin: MSH at the beginning of a line, with or without the byte that begins a frame."""
    start = -1
    while (start := data.find(b"MSH", start + 1)) >= 0:
        before = start - data.endswith(b"\x0b", 0, start)
        if not before or data[before - 1] in b"\r\n":
            yield before


def messages(data: bytes) -> Iterator[tuple[int, int, bytes]]:
    """Offset, length and content of each message of a chunk; what belongs to the batch is left out."""
    starts = list(_starts(data))
    plain = b"# line " not in data and not any(name in data for name in _BATCH_SEGMENTS)
    if starts and data[: starts[0]].strip(b"\r\n\x0b\x1c") and not _only_batch(data[: starts[0]]):
        yield 0, starts[0], data[: starts[0]]
    if not starts and not _only_batch(data):
        yield 0, len(data), data
    for start, end in zip(starts, [*starts[1:], len(data)], strict=True):
        content = data[start:end] if plain else _BATCH_SEGMENT.sub(b"", REASON.sub(b"", data[start:end]))
        content = content.strip(b"\x0b\x1c\r\n") + b"\r"
        if b"\n" in content:
            content = content.replace(b"\r\n", b"\r").replace(b"\n", b"\r")
        yield start, end - start, content


def _only_batch(data: bytes) -> bool:
    return not _BATCH_SEGMENT.sub(b"", REASON.sub(b"", data)).strip(b"\r\n\x0b\x1c\t ")

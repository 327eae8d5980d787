"""From a file to a document with its metadata: PIK HL7 CDA describes itself, of other files somebody must tell."""

from __future__ import annotations

import hashlib
import re
import uuid
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime
from functools import cache
from pathlib import Path

import msgspec
from msgspec.structs import replace

from obieg.codes import load
from obieg.domain.affinity_domain import polish
from obieg.domain.documents import Author, Code
from obieg.domain.identifiers import PatientId, patient_id
from obieg.domain.persons import Demographics
from obieg.domain.problems import Problem
from obieg.edges.content import FileContent
from obieg.mapping.pik import (
    CDA_MEDIA_TYPE,
    Described,
    DocumentOptions,
    describe_cda,
    describe_file,
    media_type,
)
from obieg.ops.failure import Failure
from obieg.ops.submitting import PESEL_ROOT, Item
from obieg.wire.hl7v2 import escape

SUFFIXES = frozenset({".xml", ".pdf", ".png", ".jpg", ".jpeg", ".txt"})  # taken from folders
SIDE_SUFFIX = ".json"
_HEAD_BYTES = 1 << 20  # what the kind of a file is told by
_PESEL = re.compile(r"\d{11}")
_UUID_ROOT: str = load.toml("national/pl/pik.toml")["roots"]["uuid"]


class Told(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What somebody says of a file: by options, or in a side file, whose members have these names."""

    patient_id: str = ""  # PESEL or CX
    type: str = ""  # LOINC
    class_: str = msgspec.field(default="", name="class")  # KLAS_DOK_P1
    title: str = ""
    confidentiality: str = ""
    author: str = ""  # "Jan Kowalski", or XCN
    institution: str = ""  # name, or XON
    format: str = ""  # CODE^^SCHEME
    date: str = ""  # 2026-03-01 or 2026-03-01 14:30
    facility: str = ""  # VIII część kodu resortowego
    specialty: str = ""
    language: str = ""
    unique_id: str = ""
    replaces: tuple[str, ...] = ()
    patient: Demographics = Demographics()


def files(paths: Iterable[Path], *, recursive: bool) -> list[Path]:
    """The files named, and those of the folders named that may be documents. Raises Failure for one that is missing."""
    found: list[Path] = []
    for path in paths:
        if path.is_dir():
            inside = path.rglob("*") if recursive else path.glob("*")
            found += sorted(p for p in inside if p.suffix.lower() in SUFFIXES and p.is_file() and p.name[0] != ".")
        elif path.exists():
            found.append(path)
        else:
            raise Failure(f"There is no file {path}.", "Nothing was sent.", "Correct the name and try again.")
    return list(dict.fromkeys(found))


def person(text: str) -> str:
    """The CX of a patient told by PESEL or CX. Raises Problem."""
    if _PESEL.fullmatch(text):
        return str(PatientId(text, PESEL_ROOT))
    if patient_id(text) is not None:
        return text
    raise Problem.of(
        "XDSRegistryMetadataError",
        f"{text!r} is no patient: give a PESEL (11 digits) or an identifier as 'number^^^&OID&ISO'",
        "--patient-id",
    )


def read(path: Path, name: str, told: Told, *, source_id: str) -> Item:
    """The document in ``path``, called ``name``. Raises Problem when it cannot be described."""
    try:
        with path.open("rb") as file:
            head = file.read(_HEAD_BYTES)
        if media_type(_whole_characters(head)) == CDA_MEDIA_TYPE:
            described = _cda(path.read_bytes(), told, source_id)
        else:
            described = _other(path, head, told, source_id)
    except OSError as error:
        raise Problem.of("InvalidDocumentContent", f"the file cannot be read: {error.strerror}") from error
    entry = described.entry
    content = FileContent(
        path, size=int(entry.size or 0), sha1=entry.hash or "", content_type=described.entry.mime_type
    )
    return Item(name, described, content)


def _whole_characters(head: bytes) -> bytes:
    """Without the part of a character at which the reading ended."""
    if len(head) == _HEAD_BYTES:
        for cut in range(1, 4):
            if head[-cut] >= 0xC0:
                return head[:-cut]
    return head


def _cda(document: bytes, told: Told, source_id: str) -> Described:
    described = describe_cda(document, patient_id="", source_id=source_id, now=datetime.now(UTC), new_uuid=uuid.uuid4)
    entry = described.entry
    if told.patient_id and not any(line.startswith("PID-3|") for line in entry.source_patient_info):
        cx = person(told.patient_id)
        info = (f"PID-3|{cx}", *entry.source_patient_info)
        described = described._replace(entry=replace(entry, source_patient_id=cx, source_patient_info=info))
    return described


def _other(path: Path, head: bytes, told: Told, source_id: str) -> Described:
    told = _with_side_file(path, told)
    missing = [name for name, value in (("--type", told.type), ("--patient-id", told.patient_id)) if not value]
    if missing:
        raise Problem.of(
            "XDSRegistryMetadataError",
            f"the file does not describe itself: give {' and '.join(missing)}, or write {path.name}{SIDE_SUFFIX}",
        )
    cx = person(told.patient_id)
    known = patient_id(cx)
    assert known is not None  # noqa: S101 - person() made it
    size, sha1 = _measured(path)
    options = DocumentOptions(
        unique_id=told.unique_id or f"{_UUID_ROOT}.{uuid.uuid5(uuid.NAMESPACE_OID, f'{cx} {sha1}').int}",
        class_code=told.class_ or _class_of(told.type),
        type_code=told.type,
        title=told.title or path.stem,
        creation_time=_time(told.date) or _modified(path),
        source_patient_id=known,
        patient=told.patient,
        authors=_authors(told),
        replaces=told.replaces,
    )
    chosen = {
        name: value
        for name in ("confidentiality", "facility", "specialty", "language")
        if (value := getattr(told, name))
    }
    options = replace(options, **chosen)
    described = describe_file(
        _whole_characters(head),
        options,
        patient_id="",
        source_id=source_id,
        now=datetime.now(UTC),
        new_uuid=uuid.uuid4,
    )
    entry = replace(described.entry, size=str(size), hash=sha1)
    if told.format:
        entry = replace(entry, format_code=_code(told.format))
    return described._replace(entry=entry)


def _with_side_file(path: Path, told: Told) -> Told:
    """What is told, and over it what stands in ``FILE.json`` beside the file."""
    side = path.with_name(path.name + SIDE_SUFFIX)
    if not side.is_file():
        return told
    try:
        beside = msgspec.json.decode(side.read_bytes(), type=Told)
    except msgspec.DecodeError as error:
        raise Problem.of("XDSRegistryMetadataError", f"{side.name}: {error}") from None
    return replace(told, **{name: v for name in Told.__struct_fields__ if (v := getattr(beside, name))})


def _measured(path: Path) -> tuple[int, str]:
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, lambda: hashlib.sha1(usedforsecurity=False))
        return file.tell(), digest.hexdigest()


def _class_of(type_code: str) -> str:
    """The class of documents that this type belongs to, if it is one."""
    classes = sorted({row["class"] for row in _templates() if row["type"] == type_code})
    if len(classes) == 1:
        return classes[0]
    if not classes:
        known = sorted({row["type"] for row in _templates()})
        said = f"--class is needed: it follows from --type only for {', '.join(known)}"
    else:
        names = {code.code: code.display for code in polish().codes("class_code")}
        said = f"--type {type_code} may be {' or '.join(f'{c} ({names.get(c, c)})' for c in classes)}: say --class"
    raise Problem.of("XDSRegistryMetadataError", said, "classCode")


@cache
def _templates() -> list[dict[str, str]]:
    return list(load.rows("national/pl/templates.csv"))


def _time(date: str) -> str:
    """A date as people write it, in the form of CDA: local time without an offset."""
    return re.sub(r"[-:T ]", "", date) if re.match(r"\d{4}-", date) else date


def _modified(path: Path) -> str:
    return datetime.fromtimestamp(path.stat().st_mtime, UTC).strftime("%Y%m%d%H%M%S+0000")


def _authors(told: Told) -> tuple[Author, ...]:
    if not told.author and not told.institution:
        return ()
    names = told.author
    if names and "^" not in names:
        *given, family = names.split()
        names = f"^{escape(family)}^{escape(' '.join(given))}"
    return (
        Author(
            person=tuple(filter(None, (names,))),
            institution=tuple(filter(None, (told.institution,))),
        ),
    )


def _code(text: str) -> Code:
    code, scheme = _split_code(text)
    if not scheme:
        raise Problem.of("XDSRegistryMetadataError", f"{text!r} is not of the form CODE^^SCHEME", "--format")
    return Code(code, scheme)


def _split_code(text: str) -> tuple[str, str]:
    code, _, rest = text.partition("^")
    return code, rest.removeprefix("^")


def coded(text: str, attribute: str) -> Iterator[str]:
    """``CODE^^SCHEME`` as a query names it; of a bare code, every scheme in which the Polish agreement lists it."""
    if "^" in text:
        yield text
        return
    found = [f"{c.code}^^{c.scheme}" for c in polish().codes(attribute) if c.code == text]
    if not found:
        raise Failure(
            f"{text!r} is no code of this kind of the Polish affinity domain.",
            "Nothing was asked.",
            f"Give one of {_listed(attribute)}; or any other as CODE^^SCHEME.",
        )
    yield from found


def _listed(attribute: str) -> str:
    return ", ".join(f"{c.code} ({c.display})" for c in polish().codes(attribute))

"""Documents and their metadata on a medium (XDM, ITI TF-2:3.32.4.1.2), both ways.

A medium holds INDEX.HTM and README.TXT for people and, under IHE_XDM, a folder for each submission set with its
METADATA.XML (a SubmitObjectsRequest) and the documents, which the URI of their entries names from there.
"""

from __future__ import annotations

import hashlib
import html
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from datetime import datetime
from functools import cached_property
from typing import Any, NamedTuple
from urllib.parse import unquote

from msgspec.structs import replace

from obieg.codes.load import toml
from obieg.domain.documents import (
    Association,
    AssociationType,
    Code,
    DocumentEntry,
    Localized,
    Submission,
    SubmissionSet,
)
from obieg.domain.problems import Finding
from obieg.domain.rules import check_submission
from obieg.mapping import ebrs
from obieg.mapping.ebrim import RIM, IdSource, read_submission
from obieg.wire.hl7v2 import unescape
from obieg.wire.xdm import ARCHIVE_STARTS, Archive, ArchiveRefused, is_short, printable
from obieg.wire.xml import XmlRefused, parse_message

_TABLE = toml("xdm.toml")
_NAMES: dict[str, str] = _TABLE["names"]
_ARCHIVES = _TABLE["archives"]
METADATA_BYTES_MAX = 32 << 20
_SETS_SHORT_MAX = 99  # SUBSET01 … SUBSET99; then SUB00100
_OBJECT_LIST = f"{{{RIM}}}RegistryObjectList"


class OnMedium(NamedTuple):
    """A submission set of a medium; ``files`` are its documents' names in the archive, by the id of their entry."""

    folder: str
    submission: Submission
    files: Mapping[str, str]


class Medium(NamedTuple):
    """What was read of a medium; nothing of it may be used when a finding is more than a warning."""

    sets: tuple[OnMedium, ...]
    findings: tuple[Finding, ...]


class _AnyCodes:
    """A medium comes from another community: whether its codes are used here is the repository's question."""

    def __init__(self, submission: Submission) -> None:
        self._submission = submission

    @cached_property
    def mime_types(self) -> frozenset[str]:
        return frozenset(e.mime_type.partition(";")[0].strip() for e in self._submission.entries)

    def accepts(self, _attribute: str, _code: str, _scheme: str) -> bool:
        return True


# reading ---------------------------------------------------------------------------------------------------------


def read_medium(archive: Archive) -> Medium:
    """All submission sets, each document compared with its entry's size and hash; every byte of them is read once."""
    findings: list[Finding] = []
    sets: list[OnMedium] = []
    used: dict[str, str] = {}  # file -> entry
    folders = list(_set_folders(archive.names))
    if not folders:
        said = f"there is no {_NAMES['root']}/…/{_NAMES['metadata']}: this is no medium with documents (XDM)"
        findings.append(_wrong(said, _NAMES["root"]))
    for name in ("index", "readme"):
        if archive.find(_NAMES[name]) is None:
            findings.append(_worth(f"the profile demands {_NAMES[name]}", _NAMES[name]))
    for folder, metadata in folders:
        found_before = len(findings)
        submission = _read_metadata(archive, metadata, findings)
        if submission is None:
            continue
        _in_folder(findings, found_before, folder)
        files = {}
        for entry in submission.entries:
            where = f"{folder}: DocumentEntry {entry.entry_uuid}"
            found = _file_of(archive, folder, entry, where, used, findings)
            if found is not None:
                files[entry.entry_uuid] = found
                _compare(archive, found, entry, where, findings)
        sets.append(OnMedium(folder, submission, files))
    described = {*used, *(metadata for _, metadata in folders)}
    findings += _undescribed(archive, described)
    findings += _twice(sets)
    long = [n for n in archive.names if not is_short(n)]
    if long:
        said = f"{len(long)} names are not of 8 and 3 characters (ISO 9660 level 1), as the profile demands of media"
        findings.append(_worth(said, printable(long[0])))
    return Medium(tuple(sets), tuple(findings))


def _wrong(said: str, where: str, code: str = "XDSRepositoryMetadataError") -> Finding:
    return Finding(code, said, where)


def _worth(said: str, where: str) -> Finding:
    return Finding("XDSRepositoryMetadataError", said, where, warning=True)


def _set_folders(names: Iterable[str]) -> Iterator[tuple[str, str]]:
    """(folder, its metadata file) of every submission set."""
    for name in names:
        match name.split("/"):
            case [root, folder, file] if root.upper() == _NAMES["root"] and file.upper() == _NAMES["metadata"]:
                yield f"{root}/{folder}", name


def metadata_name(archive: Archive, folder: str) -> str:
    """The metadata file of a folder that :func:`read_medium` has found."""
    return archive.find(f"{folder}/{_NAMES['metadata']}") or ""


def _read_metadata(archive: Archive, name: str, findings: list[Finding]) -> Submission | None:
    try:
        root = parse_message(archive.read(name, METADATA_BYTES_MAX))
    except ArchiveRefused as refused:
        findings += [_wrong(fault.said, fault.name) for fault in refused.faults]
        return None
    except XmlRefused as refused:
        findings.append(_wrong(str(refused), name))
        return None
    lists: list[Any] = list(root.iter(_OBJECT_LIST))
    if len(lists) != 1:
        findings.append(_wrong(f"needs exactly one RegistryObjectList of ebRIM 3.0, has {len(lists)}", name))
        return None
    submission = read_submission(lists[0], findings)
    if submission is not None:
        findings += check_submission(submission, _AnyCodes(submission), provide=True, allow_limited=True)
    return submission


def _in_folder(findings: list[Finding], start: int, folder: str) -> None:
    findings[start:] = [f._replace(location=f"{folder}: {f.location}") for f in findings[start:]]


def _file_of(
    archive: Archive, folder: str, entry: DocumentEntry, where: str, used: dict[str, str], findings: list[Finding]
) -> str | None:
    """The file that an entry's URI names from the folder of its metadata."""
    where = f"{where}: URI"
    if not entry.uri:
        findings.append(_wrong("the entry does not say which file holds its document", where, "XDSMissingDocument"))
        return None
    path = unquote(entry.uri.removeprefix("./"))
    segments = path.split("/")
    if ":" in path or "\\" in path or any(s in ("", ".", "..") for s in segments) or not path.isascii():
        findings.append(_wrong(f"{printable(entry.uri)} is no path below the folder of {_NAMES['metadata']}", where))
        return None
    name = archive.find(f"{folder}/{path}")
    if name is None or name.rpartition("/")[2].upper() == _NAMES["metadata"]:
        findings.append(_wrong(f"the medium has no document {printable(path)}", where, "XDSMissingDocument"))
        return None
    other = used.setdefault(name, where)
    if other != where:
        findings.append(_wrong(f"{printable(path)} is the document of another entry, too", where))
        return None
    return name


def _compare(archive: Archive, name: str, entry: DocumentEntry, where: str, findings: list[Finding]) -> None:
    """The bytes with what the entry says of them (ITI TF-3:4.2.3.2.10, .23); what is wrong with them at all."""
    digest = hashlib.sha1(usedforsecurity=False)
    size = 0
    start = b""
    try:
        for piece in archive.pieces(name):
            start = start or piece[:4]
            size += len(piece)
            digest.update(piece)
    except ArchiveRefused as refused:
        findings += [_wrong(fault.said, fault.name) for fault in refused.faults]
        return
    for said, is_so, what in (
        (entry.hash and entry.hash.lower(), digest.hexdigest(), "hash"),
        (entry.size and entry.size.lstrip("0"), str(size).lstrip("0"), "size"),
    ):
        if said is None:
            findings.append(_wrong(f"a medium says the {what} of each document", f"{where}: {what}"))
        elif said != is_so:
            findings.append(_wrong(f"{printable(name)} has {what} {is_so or 0}", f"{where}: {what}"))
    if start in ARCHIVE_STARTS and not _may_be_archive(entry.mime_type):
        findings.append(_wrong(f"{printable(name)} is an archive, the entry says {entry.mime_type!r}", where))


def _may_be_archive(mime_type: str) -> bool:
    media = mime_type.partition(";")[0].strip().lower()
    return (
        media in _ARCHIVES["media_types"]
        or media.startswith(tuple(_ARCHIVES["prefixes"]))
        or media.endswith(tuple(_ARCHIVES["suffixes"]))
    )


def _undescribed(archive: Archive, described: set[str]) -> Iterator[Finding]:
    """Files that no entry describes: pages and style sheets are left alone, archives are refused."""
    for name in archive.names:
        if name in described:
            continue
        try:
            start = next(archive.pieces(name), b"")[:4]
        except ArchiveRefused as refused:
            yield from (_wrong(fault.said, fault.name) for fault in refused.faults)
            continue
        if start in ARCHIVE_STARTS:
            yield _wrong("an archive within the archive, which no entry describes", printable(name))
        elif "/" in name and name.split("/")[0].upper() == _NAMES["root"]:
            yield _worth("no entry describes this file: it is left on the medium", printable(name))


def _twice(sets: Sequence[OnMedium]) -> Iterator[Finding]:
    seen: dict[str, str] = {}
    for folder, submission, _ in sets:
        unique_id = submission.submission_set.unique_id or ""
        if seen.setdefault(unique_id, folder) != folder:
            yield _wrong(f"{seen[unique_id]} holds a submission set with this uniqueId, too", f"{folder}: {unique_id}")


# writing ---------------------------------------------------------------------------------------------------------


class ToWrite(NamedTuple):
    """A submission set to be written, and its documents' names in the archive by the id of their entry."""

    metadata_file: str
    metadata: bytes
    submission: Submission
    files: Mapping[str, str]


def plan_medium(submissions: Sequence[Submission], new_uuid: Callable[[], str]) -> list[ToWrite]:
    """Names for everything, and the metadata that say them. Entries have their size and hash already."""
    planned = []
    for number, submission in enumerate(submissions, 1):
        short = f"{_NAMES['submission_set']}{number:02}" if number <= _SETS_SHORT_MAX else f"SUB{number:05}"
        folder = f"{_NAMES['root']}/{short}"
        entries = [
            replace(entry, uri=f"{_NAMES['document']}{n:05}.{_extension(entry.mime_type)}")
            for n, entry in enumerate(submission.entries, 1)
        ]
        placed = replace(submission, entries=tuple(entries))
        metadata = b'<?xml version="1.0" encoding="UTF-8"?>\n' + ebrs.write_submit_objects(placed, IdSource(new_uuid()))
        files = {e.entry_uuid: f"{folder}/{e.uri}" for e in entries}
        planned.append(ToWrite(f"{folder}/{_NAMES['metadata']}", metadata, placed, files))
    return planned


def _extension(mime_type: str) -> str:
    found: str = _TABLE["extensions"].get(mime_type.partition(";")[0].strip().lower(), "BIN")
    return found


def new_submission(
    entries: Sequence[DocumentEntry],
    *,
    source_id: str,
    unique_id: str,
    content_type: Code,
    at: datetime,
) -> Submission:
    """One submission set that hands out copies of documents: they are given symbols, so that any registry takes them.

    ``at`` is in UTC. All entries are of one patient.
    """
    copies = tuple(
        replace(e, entry_uuid=f"Document{n:05}", logical_id=None, version=1, home_community_id=None)
        for n, e in enumerate(entries, 1)
    )
    sset = SubmissionSet(
        entry_uuid="SubmissionSet01",
        unique_id=unique_id,
        source_id=source_id,
        patient_id=entries[0].patient_id,
        submission_time=at.strftime("%Y%m%d%H%M%S"),
        content_type_code=content_type,
    )
    members = tuple(
        Association(f"Member{n:05}", AssociationType.HAS_MEMBER, sset.entry_uuid, e.entry_uuid, "Original")
        for n, e in enumerate(copies, 1)
    )
    return Submission(sset, copies, associations=members)


def for_patient(submission: Submission, patient_id: str) -> Submission:
    """The submission as handed in where the patient is called ``patient_id``; the id before becomes the source's."""
    return replace(
        submission,
        submission_set=replace(submission.submission_set, patient_id=patient_id),
        entries=tuple(
            replace(e, patient_id=patient_id, source_patient_id=e.source_patient_id or e.patient_id, uri=None)
            for e in submission.entries
        ),
        folders=tuple(replace(f, patient_id=patient_id) for f in submission.folders),
    )


def identifiers(submission: Submission) -> Iterator[str]:
    """What the patient may be known by, as CX, the surest first: its ids, then those that the entries' source gave."""
    given = [submission.submission_set.patient_id, *(e.patient_id for e in submission.entries)]
    lines = [
        line.partition("|")[2] for e in submission.entries for line in e.source_patient_info if line[:6] == "PID-3|"
    ]
    given += [cx for line in lines for cx in line.split("~")]
    given += [e.source_patient_id for e in submission.entries]
    yield from dict.fromkeys(cx for cx in given if cx)


# pages for people ------------------------------------------------------------------------------------------------

_PAGE = """<?xml version="1.0" encoding="UTF-8"?>
<!DOCTYPE html PUBLIC "-//W3C//DTD XHTML Basic 1.0//EN" "http://www.w3.org/TR/xhtml-basic/xhtml-basic10.dtd">
<html xmlns="http://www.w3.org/1999/xhtml" xml:lang="en"><head><title>Medical documents</title></head><body>
<h1>Medical documents</h1>
<p>Issued by {institution} on {date}. <a href="{readme}">{readme}</a> says how to read this medium.</p>
{sets}</body></html>
"""
_README = """Medical documents (IHE Cross-enterprise Document Media Interchange, XDM)

Issued by: {institution}
On:        {date}
Made with: obieg {version}

{index} lists the documents and opens them in a browser.
Programs read {root}: one folder for each submission set, with its metadata in {metadata}.
The medium holds health data of the people named there. Whoever finds it returns it to the institution above.

Submission sets: {sets}
Documents:       {documents}
"""


def write_index(planned: Sequence[ToWrite], *, institution: str, date: str) -> bytes:
    """INDEX.HTM in XHTML Basic: who issued it, whose documents they are, and a link to each."""
    parts = []
    for folder in planned:
        sset = folder.submission.submission_set
        parts.append(f"<h2>{_html(_patient(folder.submission))}</h2>")
        parts.append(f"<p>Submission set {_html(sset.unique_id or '')} of {_html(_date(sset.submission_time))}</p><ul>")
        for entry in folder.submission.entries:
            title = _shown(entry.title) or (_shown(entry.type_code.display) if entry.type_code else "") or "Document"
            said = ", ".join(filter(None, (_date(entry.creation_time), *_authors(entry), entry.mime_type)))
            parts.append(
                f'<li><a href="{_html(folder.files[entry.entry_uuid])}">{_html(title)}</a> ({_html(said)})</li>'
            )
        parts.append("</ul>\n")
    page = _PAGE.format(institution=_html(institution), date=date, readme=_NAMES["readme"], sets="".join(parts))
    return page.encode()


def write_readme(planned: Sequence[ToWrite], *, institution: str, date: str, version: str) -> bytes:
    """README.TXT: whom to ask, what made the medium, what is on it (ITI TF-2:3.32.4.1.2.2)."""
    documents = sum(len(p.files) for p in planned)
    said = _README.format(
        institution=" ".join(institution.split()), date=date, version=version, sets=len(planned), documents=documents,
        **{name: _NAMES[name] for name in ("index", "root", "metadata")},
    )  # fmt: skip
    return said.replace("\n", "\r\n").encode()


def page_names() -> tuple[str, str]:
    """What the page and the text for people are called."""
    return _NAMES["index"], _NAMES["readme"]


def _html(value: str) -> str:
    return html.escape("".join(c for c in value if c.isprintable()))


def _shown(value: Localized) -> str:
    return value[0][1] if value else ""


def _date(dtm: str | None) -> str:
    return "-".join(filter(None, (dtm[:4], dtm[4:6], dtm[6:8]))) if dtm else ""


def _authors(entry: DocumentEntry) -> Iterator[str]:
    for xcn in (xcn for author in entry.author for xcn in author.person):
        parts = [unescape(part) for part in xcn.split("^")] + [""] * 3
        yield " ".join(filter(None, (parts[2], parts[1]))) or parts[0]


def _patient(submission: Submission) -> str:
    """Name, date of birth and id, as far as the entries tell."""
    lines = dict(line.partition("|")[::2] for e in reversed(submission.entries) for line in e.source_patient_info)
    name = [unescape(part) for part in lines.get("PID-5", "").split("~")[0].split("^")] + ["", ""]
    called = " ".join(filter(None, (name[1], name[0])))
    return ", ".join(filter(None, (called, _date(lines.get("PID-7")), submission.submission_set.patient_id or "")))

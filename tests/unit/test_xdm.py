"""Media with documents (XDM): what we write others read, what is hostile is refused before anything is unpacked."""

from __future__ import annotations

import hashlib
import io
import struct
import subprocess
import uuid
import zipfile
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from lxml import etree
from msgspec.structs import replace

from obieg.domain.documents import Author, Code, DocumentEntry, Submission
from obieg.mapping import xdm
from obieg.mapping.xdm import Medium
from obieg.wire.xdm import Archive, ArchiveLimits, ArchiveRefused, ArchiveWriter, is_short

AT = datetime(2026, 3, 1, 12, 0, 0, tzinfo=UTC)
CODE = Code("1", "1.2.3", (("pl-PL", "Rodzaj"),))
PATIENT = "P1^^^&1.2.616.1&ISO"
BODIES = {"text/plain": "zażółć".encode(), "application/pdf": b"%PDF-1.4" + bytes(3000), "text/xml": b"<a/>"}


def entry(number: int, mime_type: str, body: bytes, patient: str = PATIENT) -> DocumentEntry:
    return DocumentEntry(
        entry_uuid=f"urn:uuid:{uuid.UUID(int=number)}",
        unique_id=f"1.2.3.{number}",
        patient_id=patient,
        source_patient_id=patient,
        mime_type=mime_type,
        class_code=CODE,
        type_code=CODE,
        format_code=CODE,
        healthcare_facility_type_code=CODE,
        practice_setting_code=CODE,
        confidentiality_code=(CODE,),
        creation_time="20260301",
        language_code="pl-PL",
        author=(Author(person=("^Kowalski^Jan",)),),
        source_patient_info=(f"PID-3|{patient}", "PID-5|Nowak^Ewa", "PID-7|19440514"),
        title=(("pl-PL", "Wynik <badania> & opis"),),
        size=str(len(body)),
        hash=hashlib.sha1(body).hexdigest(),
    )


def submissions(count: int = 2) -> list[Submission]:
    found = []
    for number in range(count):
        patient = f"P{number}^^^&1.2.616.1&ISO"
        entries = [entry(10 * number + n, m, b, patient) for n, (m, b) in enumerate(BODIES.items())]
        found.append(
            xdm.new_submission(entries, source_id="1.2.3", unique_id=f"1.2.4.{number}", content_type=CODE, at=AT)
        )
    return found


def packed(given: list[Submission] | None = None, **changed: bytes) -> bytes:
    """A medium; ``changed`` documents have other bytes than their entries say."""
    file = io.BytesIO()
    planned = xdm.plan_medium(given if given is not None else submissions(), lambda: str(uuid.uuid4()))
    writer = ArchiveWriter(file, AT)
    index, readme = xdm.page_names()
    writer.add(index, xdm.write_index(planned, institution="Szpital <&>", date="2026-03-01"))
    writer.add(readme, xdm.write_readme(planned, institution="Szpital", date="2026-03-01", version="1"))
    for folder in planned:
        writer.add(folder.metadata_file, folder.metadata)
        for e in folder.submission.entries:
            name = folder.files[e.entry_uuid]
            writer.add(name, changed.get(name.rpartition("/")[2].replace(".", "_"), BODIES[e.mime_type]))
    writer.close()
    return file.getvalue()


def opened(data: bytes, **limits: int) -> Archive:
    return Archive(io.BytesIO(data), ArchiveLimits(**limits))


def wrong(medium: Medium) -> str:
    return "\n".join(f"{f.code} {f.location} {f.detail}" for f in medium.findings if not f.warning)


def read(data: bytes) -> Medium:
    return xdm.read_medium(opened(data))


# what we write -------------------------------------------------------------------------------------------------------


def test_a_medium_comes_back_as_it_was_written() -> None:
    given = submissions()
    medium = read(packed(given))
    assert medium.findings == ()
    assert [s.folder for s in medium.sets] == ["IHE_XDM/SUBSET01", "IHE_XDM/SUBSET02"]
    for on_medium, before in zip(medium.sets, given, strict=True):
        without_uri = tuple(replace(e, uri=None, logical_id=None) for e in on_medium.submission.entries)
        assert without_uri == before.entries
        assert on_medium.submission.submission_set == before.submission_set
        assert on_medium.submission.associations == before.associations
    archive = opened(packed(given))
    assert all(is_short(name) for name in archive.names)
    first = medium.sets[0]
    for e in first.submission.entries:
        assert b"".join(archive.pieces(first.files[e.entry_uuid])) == BODIES[e.mime_type]


def test_the_usual_tools_read_what_we_write(tmp_path: Path) -> None:
    path = tmp_path / "medium.zip"
    path.write_bytes(packed())
    tested = subprocess.run(["unzip", "-tqq", path], capture_output=True, check=False)
    assert tested.returncode == 0, tested.stderr
    subprocess.run(["unzip", "-qq", path, "-d", tmp_path / "out"], check=True)
    assert (tmp_path / "out/IHE_XDM/SUBSET01/DOC00002.PDF").read_bytes() == BODIES["application/pdf"]
    page = etree.parse(tmp_path / "out/INDEX.HTM", etree.XMLParser(load_dtd=False, no_network=True))
    links = [a.get("href") for a in page.iter("{http://www.w3.org/1999/xhtml}a")]
    assert len(links) == 7
    assert all((tmp_path / "out" / link).is_file() for link in links)
    shown = " ".join("".join(page.getroot().itertext()).split())
    assert "Ewa Nowak, 1944-05-14, P0^^^&1.2.616.1&ISO" in shown
    assert "Wynik <badania> & opis" in shown


def test_what_the_usual_tools_write_is_read(tmp_path: Path) -> None:
    with zipfile.ZipFile(io.BytesIO(packed())) as archive:
        archive.extractall(tmp_path / "in")
    subprocess.run(["zip", "-qr", "../other.zip", "."], cwd=tmp_path / "in", check=True)
    medium = read((tmp_path / "other.zip").read_bytes())
    assert medium.findings == ()
    assert len(medium.sets) == 2


def test_metadata_are_valid_against_the_official_schema(shared: Path) -> None:
    folder = shared / "data/ihe/ipf-wsdl/commons/ihe/xds/src/main/resources/wsdl/schema/IHE"
    found = list(folder.parent.rglob("lcm.xsd"))
    assert found, "the schema of ebRS 3.0 is there"
    schema = etree.XMLSchema(etree.parse(found[0]))
    for folder_ in xdm.plan_medium(submissions(), lambda: str(uuid.uuid4())):
        assert schema.validate(etree.fromstring(folder_.metadata)), schema.error_log.last_error


def test_folders_of_many_sets_keep_short_names() -> None:
    planned = xdm.plan_medium(submissions(1) * 120, lambda: str(uuid.uuid4()))
    names = [p.metadata_file for p in planned]
    assert len(set(names)) == 120
    assert all(map(is_short, names))


# what is not as it says ----------------------------------------------------------------------------------------------


def test_a_document_with_other_bytes_is_refused_by_hash_and_size() -> None:
    medium = read(packed(DOC00002_PDF=b"%PDF-1.5"))
    assert "hash" in wrong(medium)
    assert "size" in wrong(medium)
    assert wrong(medium).count("DOC00002.PDF") == 4, "in both sets"


def edited(change: Any, data: bytes | None = None) -> bytes:
    """A medium whose files went through ``change(name, bytes)``, which gives (name, bytes) pairs."""
    file = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(data or packed(submissions(1)))) as before, zipfile.ZipFile(file, "w") as after:
        for info in before.infolist():
            for name, content in change(info.filename, before.read(info)):
                after.writestr(name, content)
    return file.getvalue()


def test_a_document_that_is_missing_or_has_no_place_is_said_with_its_entry() -> None:
    without = edited(lambda n, b: [] if n.endswith("PDF") else [(n, b)])
    assert "XDSMissingDocument IHE_XDM/SUBSET01: DocumentEntry Document00002: URI" in wrong(read(without))
    no_uri = edited(lambda n, b: [(n, b.replace(b'name="URI"', b'name="urn:x"') if n.endswith("METADATA.XML") else b)])
    assert wrong(read(no_uri)).count("does not say which file") == 3


@pytest.mark.parametrize(
    "uri",
    ["../../secret", "/etc/passwd", "C:/x", "file:///etc/passwd", "..\\x", "%2e%2e/x", "a//b", "METADATA.XML", "ą"],
)
def test_a_uri_that_leads_elsewhere_is_refused(uri: str) -> None:
    data = edited(lambda n, b: [(n, b.replace(b"DOC00002.PDF", uri.encode()) if n.endswith("METADATA.XML") else b)])
    assert "DocumentEntry Document00002: URI" in wrong(read(data))


def test_two_entries_cannot_share_a_document() -> None:
    data = edited(lambda n, b: [(n, b.replace(b"DOC00002.PDF", b"DOC00001.TXT") if n.endswith("METADATA.XML") else b)])
    assert "document of another entry" in wrong(read(data))


def test_case_does_not_matter_and_long_names_are_only_noted() -> None:
    data = edited(lambda n, b: [(n.replace("IHE_XDM/SUBSET01", "ihe_xdm/Johnson-Family").lower(), b)])
    medium = read(data)
    assert wrong(medium) == ""
    assert any("8 and 3" in f.detail for f in medium.findings if f.warning)
    assert len(medium.sets[0].files) == 3


def test_an_archive_in_the_archive_is_refused_unless_described() -> None:
    inner = io.BytesIO()
    with zipfile.ZipFile(inner, "w") as archive:
        archive.writestr("x", "y")
    data = edited(lambda n, b: [(n, b), *([("MORE.ZIP", inner.getvalue())] if n == "INDEX.HTM" else [])])
    assert "archive within the archive" in wrong(read(data))
    assert "is an archive" in wrong(read(packed(DOC00001_TXT=inner.getvalue())))
    assert "is an archive" not in wrong(read(packed(DOC00001_TXT=b"PK is how this text begins")))


@pytest.mark.parametrize("body", [b"", b"<a", b"<!DOCTYPE a><a/>", b"<a/>", b"\0\1\2"])
def test_metadata_that_cannot_be_read_are_said(body: bytes) -> None:
    data = edited(lambda n, b: [(n, body if n.endswith("METADATA.XML") else b)])
    assert "IHE_XDM/SUBSET01/METADATA.XML" in wrong(read(data))


def test_no_medium_at_all() -> None:
    data = edited(lambda n, b: [(n.replace("IHE_XDM", "OTHER"), b)])
    assert "no medium with documents" in wrong(read(data))


def test_one_submission_set_twice() -> None:
    with zipfile.ZipFile(io.BytesIO(packed(submissions(1)))) as archive:
        files = {n: archive.read(n) for n in archive.namelist()}
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        for name, body in files.items():
            archive.writestr(name, body)
            if name.startswith("IHE_XDM"):
                archive.writestr(name.replace("SUBSET01", "SUBSET02"), body)
    assert "with this uniqueId, too" in wrong(read(file.getvalue()))


# hostile archives ----------------------------------------------------------------------------------------------------


def archive_of(*files: tuple[str, bytes], **info: Any) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, body in files:
            made = zipfile.ZipInfo("x")
            made.filename, made.compress_type = name, zipfile.ZIP_DEFLATED
            for key, value in info.items():
                setattr(made, key, value)
            archive.writestr(made, body)
    return file.getvalue()


def unpacked(data: bytes, **limits: int) -> list[bytes]:
    archive = opened(data, **limits)
    return [b"".join(archive.pieces(name)) for name in archive.names]


def refusal(data: bytes, **limits: int) -> str:
    with pytest.raises(ArchiveRefused) as caught:
        unpacked(data, **limits)
    assert all(f.name.isascii() and f.name.isprintable() for f in caught.value.faults)
    return str(caught.value)


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("../x", "out of its folder"),
        ("a/../../x", "out of its folder"),
        ("a/./x", "out of its folder"),
        ("/etc/passwd", "absolute"),
        ("C:/x", "drive letter"),
        ("c:x", "drive letter"),
        ("a\\..\\x", "backslash"),
        ("\\\\host\\share", "backslash"),
        ("a//x", "empty part"),
        ("a /x", "empty part"),
        ("a./x", "empty part"),
        ("x:stream", "drive letter"),
        ("xy:stream", "empty part"),
        ("a*", "empty part"),
        ("NUL", "device"),
        ("a/com1.txt", "device"),
        ("zażółć.txt", "not plain ASCII"),
        ("\u202egpj.exe", "not plain ASCII"),
        ("a\nb", "not plain ASCII"),
        ("a" * 300, "empty part"),
        ("/".join("a" * 12), "folders deep"),
    ],
)
def test_hostile_names_are_refused(name: str, said: str) -> None:
    assert said in refusal(archive_of((name, b"x")))


def test_a_name_in_another_encoding_is_refused() -> None:
    data = archive_of(("za.txt", b"x")).replace(b"za.txt", b"z\xb9.txt")
    assert "not plain ASCII" in refusal(data)
    broken = archive_of(("ząć.txt", b"x")).replace("ząć".encode(), b"\xff\xfe\xff\xfe\xff")
    refusal(broken)


def test_a_name_cut_by_nul_is_refused() -> None:
    assert "no name may have" in refusal(archive_of(("ab_xyz", b"x")).replace(b"ab_xyz", b"ab\0xyz"))


@pytest.mark.filterwarnings("ignore:Duplicate name")
@pytest.mark.parametrize("names", [("A", "A"), ("A", "a"), ("A/B", "a"), ("a", "A/B/C"), ("a/b/", "A/B")])
def test_duplicates_are_refused(names: tuple[str, ...]) -> None:
    refusal(archive_of(*((name, b"" if name.endswith("/") else b"x") for name in names)))


def test_links_and_special_files_are_refused() -> None:
    for kind in (0o120777, 0o010644, 0o020644, 0o140644):
        assert "not a plain one" in refusal(archive_of(("a", b"/etc/passwd"), external_attr=kind << 16))


def test_encrypted_entries_are_refused() -> None:
    data = bytearray(archive_of(("a", b"secret")))
    at = data.index(b"PK\x01\x02") + 8
    data[at : at + 2] = struct.pack("<H", 1)
    assert "encrypted" in refusal(bytes(data))


def test_other_methods_are_refused() -> None:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_LZMA) as archive:
        archive.writestr("a", b"x" * 100)
    assert "method 14" in refusal(file.getvalue())


def test_bombs_are_refused_before_they_are_unpacked() -> None:
    zeros = archive_of(("a", bytes(1 << 20)))
    assert "grow more than" in refusal(zeros, ratio_from_bytes=1000)
    assert "unpacked; at most" in refusal(zeros, bytes_max=1000)
    many = archive_of(*((f"f{n}", b"") for n in range(50)))
    assert "at most 20" in refusal(many, entries_max=20)
    # One that lies about its sizes gives no more bytes than it admits to.
    at = zeros.index(b"PK\x01\x02") + 24
    lying = zeros[:at] + struct.pack("<L", 10) + zeros[at + 4 :]
    assert "damaged" in refusal(lying)
    # One that lies about its entries is told apart by the size of its directory.
    end = many.rindex(b"PK\x05\x06")
    few = many[: end + 8] + struct.pack("<2H", 1, 1) + many[end + 12 :]
    assert "at most 20" in refusal(few, entries_max=20)


def test_entries_that_share_bytes_are_refused() -> None:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("a", b"x" * 100)
        archive.writestr("b", b"y" * 100)
        archive.filelist[1].header_offset = archive.filelist[0].header_offset
    assert "overlap" in refusal(file.getvalue())


def test_a_part_of_several_is_refused() -> None:
    data = archive_of(("a", b"x"))
    end = data.rindex(b"PK\x05\x06")
    assert "several parts" in refusal(data[: end + 4] + struct.pack("<H", 3) + data[end + 6 :])


@given(st.text(min_size=1, max_size=40))
def test_a_name_that_is_taken_stays_below_its_folder(name: str) -> None:
    try:
        data = archive_of((name, b""))
    except (ValueError, struct.error):
        return
    try:
        names = opened(data).names
    except ArchiveRefused:
        return
    root = Path("/tmp/root")
    for found in names:
        path = (root / found).resolve()
        assert path.is_relative_to(root)
        assert path != root
        assert found.isascii()


def mangled() -> Iterator[bytes]:
    data = packed(submissions(1))
    for at in range(0, len(data), 7):
        yield data[:at] + bytes([data[at] ^ 0xFF]) + data[at + 1 :]
        yield data[:at]


def test_a_damaged_medium_is_refused_and_never_a_crash() -> None:
    whole = {e.unique_id: e.hash for s in submissions(1) for e in s.entries}
    count = 0
    for data in mangled():
        try:
            medium = read(data)
        except ArchiveRefused:
            continue
        if not wrong(medium):
            count += 1
            assert {e.unique_id: e.hash for s in medium.sets for e in s.submission.entries} == whole
    assert count > 0, "a flipped bit in a time or comment does no harm"

"""What patients may add: whole files of three kinds, pictures of a size that can be shown."""

from __future__ import annotations

import struct
import zlib

import pytest

from obieg.domain.documents import Code, DocumentEntry, Submission, SubmissionSet
from obieg.domain.own_documents import CLASS, PERMISSION, PIXELS_MAX, check_mark
from obieg.edges.upload import UploadForm
from obieg.mapping.own_document import wrong_content
from obieg.wire import pictures


def png(width: int, height: int) -> bytes:
    head = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + struct.pack(">I", 13) + b"IHDR" + head + struct.pack(">I", zlib.crc32(b"IHDR" + head))


def jpeg(width: int, height: int, marker: int = 0xC2) -> bytes:
    frame = struct.pack(">HBHHB", 11, 8, height, width, 1) + b"\x01\x11\x00"
    exif = b"\xff\xe1" + struct.pack(">H", 8) + b"Exif\x00\x00"
    table = b"\xff\xc4" + struct.pack(">H", 6) + b"\xff\xc0\x00\x00"  # a Huffman table that looks like a frame
    return b"\xff\xd8" + exif + table + b"\xff" + bytes([0xFF, marker]) + frame + b"\xff\xd9"


PDF = b"%PDF-1.7\n1 0 obj<<>>endobj\ntrailer<<>>\n%%EOF\n"


@pytest.mark.parametrize("data", [PDF, png(10, 20), jpeg(3000, 4000), jpeg(10, 20, 0xC0)])
def test_whole_files_are_taken(data: bytes) -> None:
    assert wrong_content(data) == ""


@pytest.mark.parametrize("data", [
    b"", b"text", b"<svg xmlns='http://www.w3.org/2000/svg' onload='x()'/>", b"GIF89a" + bytes(20), b"PK\x03\x04" + bytes(30),
    PDF[:20], png(10, 20)[:20], png(0, 20), b"\xff\xd8\xff\xe0", jpeg(10, 20)[:25], b"MZ" + PDF, b"\xff\xd8\xff\xe0\x00\x00" * 10,
    png(PIXELS_MAX, 2), jpeg(65535, 65535),
])  # fmt: skip
def test_others_are_not(data: bytes) -> None:
    assert wrong_content(data)


def test_the_size_of_pictures_is_read() -> None:
    assert pictures.size(png(640, 480)) == (640, 480)
    assert pictures.size(jpeg(640, 480)) == (640, 480)
    assert pictures.size(PDF) is None


def form(*parts: tuple[str, bytes], boundary: str = "x1") -> bytes:
    body = b"".join(
        b'--%s\r\nContent-Disposition: form-data; name="%s"\r\n\r\n%s\r\n' % (boundary.encode(), name.encode(), value)
        for name, value in parts
    )
    return body + b"--%s--\r\n" % boundary.encode()


@pytest.mark.parametrize("size", [1, 7, 4096])
def test_a_form_with_a_file_is_read_in_whatever_pieces(size: int) -> None:
    data = form(("title", "Żółć".encode()), ("file", PDF * 50), ("date", b""))
    read = UploadForm("multipart/form-data; boundary=x1", file_bytes_max=100_000)
    for at in range(0, len(data), size):
        read.feed(data[at : at + size])
    read.finish()
    assert (read.pairs, read.file, read.too_large) == ([("title", "Żółć"), ("date", "")], PDF * 50, False)


def test_a_file_that_is_too_large_is_dropped_and_the_rest_read() -> None:
    read = UploadForm("multipart/form-data; boundary=x1", file_bytes_max=100)
    read.feed(form(("file", bytes(5000)), ("title", b"a")))
    assert (read.pairs, read.too_large) == ([("title", "a")], True)


@pytest.mark.parametrize("data", [
    form(("file", b"a"), ("file", b"b")), form(("title", bytes(20_000))), form(("title", b"\xff")), form(("title", b"a"))[:-12],
    b"--x1\r\nContent-Type: text/plain\r\n\r\na\r\n--x1--\r\n", b"nothing", form(*[(f"f{n}", b"") for n in range(50)]),
])  # fmt: skip
def test_what_is_no_form_is_refused(data: bytes) -> None:
    def read() -> None:
        form = UploadForm("multipart/form-data; boundary=x1", file_bytes_max=100)
        form.feed(data)
        form.finish()

    with pytest.raises(ValueError):
        read()


def test_only_what_a_patient_adds_may_say_so() -> None:
    def marked(code: str) -> Submission:
        entry = DocumentEntry("urn:uuid:1", "1.2", class_code=Code(code, "s", ()), mime_type="text/xml")
        return Submission(SubmissionSet("urn:uuid:2", "1.3", source_id="1.4"), (entry,))

    assert not [*check_mark(marked(CLASS), PERMISSION)]
    assert not [*check_mark(marked("00.20"), "document_repository:document:provide")]
    for permission in ("document_repository:document:provide", "document_registry:document:register", ""):
        [finding] = check_mark(marked(CLASS), permission)
        assert finding.code == "XDSRegistryMetadataError"
        assert finding.location == "DocumentEntry urn:uuid:1: classCode"

"""Manifests that pydicom wrote are read; whatever is none, or is broken, is refused."""

from __future__ import annotations

import random
import struct

import pytest
from pydicom.dataset import Dataset
from pydicom.uid import DeflatedExplicitVRLittleEndian, ExplicitVRBigEndian, generate_uid

import imaging
from obieg.mapping.kos import read_manifest
from obieg.wire import dicom
from obieg.wire.dicom import DicomRefused, is_uid, read_file


@pytest.fixture(scope="module")
def objects() -> list[Dataset]:
    study = generate_uid()
    return [*imaging.ct(study, 5, 8), *imaging.cr(study), *imaging.us(study, 2)]


def named(objects: list[Dataset]) -> list[tuple[str, str, str]]:
    return [(o.StudyInstanceUID, o.SeriesInstanceUID, o.SOPInstanceUID) for o in objects]


@pytest.mark.parametrize("way", ["explicit", "implicit", "undefined lengths"])
def test_manifest_of_another_implementation(way: str, objects: list[Dataset]) -> None:
    made = imaging.manifest(objects)
    data = imaging.written(made)
    if way == "implicit":
        data = imaging.implicit(objects)
    if way == "undefined lengths":
        lengthen(made)
        data = imaging.written(made)
        assert data.count(struct.pack("<HHI", 0xFFFE, 0xE0DD, 0)) > 3
    found = read_manifest(data)
    assert [(n.study, n.series, n.instance) for s in found.series for n in s.names()] == named(objects)
    assert {(s.retrieve_url, s.retrieve_location) for s in found.series} == {
        ("https://archive.example/studies", "1.2.3.4")
    }
    if way != "implicit":
        assert found.uid == made.SOPInstanceUID
    first = objects[0]
    assert found.studies == (first.StudyInstanceUID,)
    assert len(found.listed(first.StudyInstanceUID)) == 3
    [one] = found.listed(first.StudyInstanceUID, first.SeriesInstanceUID, first.SOPInstanceUID)
    assert one.instances == (first.SOPInstanceUID,)
    # An object of the study under the series of another is not listed.
    assert found.listed(first.StudyInstanceUID, first.SeriesInstanceUID, objects[-1].SOPInstanceUID) == ()
    assert found.listed("1.2.3") == ()


def lengthen(item: Dataset) -> None:
    """All sequences and items of undefined length."""
    for element in item:
        if element.VR == "SQ":
            element.is_undefined_length = True
            for each in element.value:
                each.is_undefined_length_sequence_item = True
                lengthen(each)


def test_what_is_no_manifest_is_refused(objects: list[Dataset]) -> None:
    rejected = imaging.manifest(objects, title="113001")  # Rejected for Quality Reasons
    empty = imaging.manifest(objects)
    empty.CurrentRequestedProcedureEvidenceSequence = []
    twice = imaging.manifest([*objects, objects[0]])
    other = imaging.manifest(objects)
    other.PertinentOtherEvidenceSequence = other.CurrentRequestedProcedureEvidenceSequence
    del other.CurrentRequestedProcedureEvidenceSequence
    for made in (rejected, empty, twice, other, objects[0]):
        with pytest.raises(DicomRefused):
            read_manifest(imaging.written(made))
    study = objects[0].StudyInstanceUID
    with pytest.raises(DicomRefused, match="no UID"):
        read_manifest(imaging.written(imaging.manifest(objects)).replace(study.encode(), b"1/.." + study.encode()[4:]))


@pytest.mark.parametrize("syntax", [ExplicitVRBigEndian, DeflatedExplicitVRLittleEndian])
def test_other_transfer_syntaxes_are_refused(syntax: str, objects: list[Dataset]) -> None:
    data = imaging.written(
        imaging.manifest(objects, syntax=syntax), implicit_vr=False, little_endian=syntax != ExplicitVRBigEndian
    )
    with pytest.raises(DicomRefused, match="transfer syntax"):
        read_manifest(data)


def test_every_cut_and_every_wrong_byte_is_read_or_refused(objects: list[Dataset]) -> None:
    data = imaging.written(imaging.manifest(objects[:2]))
    whole, refused = read_manifest(data), 0
    for end in range(len(data)):
        try:
            assert read_manifest(data[:end]) == whole  # the data set may end where an element does
        except DicomRefused:
            refused += 1
    assert refused > len(data) - 5
    chance = random.Random(7)
    refused = 0
    for _ in range(5_000):
        changed = bytearray(data)
        for _ in range(chance.randint(1, 4)):
            changed[chance.randrange(128, len(data))] = chance.randrange(256)
        try:
            read_manifest(bytes(changed))
        except DicomRefused:
            refused += 1
    assert refused > 1_000


def nested(depth: int) -> bytes:
    """Sequences of undefined length within one another."""
    item = struct.pack("<HHI", 0xFFFE, 0xE000, 0xFFFFFFFF)
    begin = struct.pack("<HH2sHI", 0x0040, 0xA730, b"SQ", 0, 0xFFFFFFFF)
    end = struct.pack("<HHI", 0xFFFE, 0xE00D, 0) + struct.pack("<HHI", 0xFFFE, 0xE0DD, 0)
    return (begin + item) * depth + end * depth


def file_of(body: bytes) -> bytes:
    head = struct.pack("<HH2sH", 2, 0x10, b"UI", 20) + b"1.2.840.10008.1.2.1\0"
    return b"\0" * 128 + b"DICM" + head + body


def test_limits(monkeypatch: pytest.MonkeyPatch) -> None:
    read_file(file_of(nested(dicom.DEPTH_MAX)))
    for depth in (dicom.DEPTH_MAX + 1, 100_000):
        with pytest.raises(DicomRefused, match="deeper"):
            read_file(file_of(nested(depth)))
    items = struct.pack("<HHI", 0xFFFE, 0xE000, 0) * 1000
    many = struct.pack("<HH2sHI", 0x0040, 0xA730, b"SQ", 0, len(items)) + items
    read_file(file_of(many))
    monkeypatch.setattr(dicom, "ELEMENTS_MAX", 900)
    with pytest.raises(DicomRefused, match="more than 900 elements"):
        read_file(file_of(many))
    monkeypatch.setattr(dicom, "DATA_SET_BYTES_MAX", 1000)
    with pytest.raises(DicomRefused, match="more than 1000 bytes"):
        read_file(file_of(many))


@pytest.mark.parametrize(
    ("text", "verdict"),
    [("1.2.840", True), ("2.25.329800735698586629295641978511506172918", True), ("0", True), ("1.02", False),
     ("1..2", False), ("", False), (".1", False), ("1.2/3", False), ("1" * 65, False), ("1.2\n", False), ("١.٢", False)],
)  # fmt: skip
def test_uids(text: str, verdict: bool) -> None:
    assert is_uid(text) is verdict

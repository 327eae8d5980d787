"""Studies that are made for tests, their manifests, and an archive that nobody here wrote (Orthanc)."""

from __future__ import annotations

import json
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx
import numpy as np
import pydicom
import pytest
from pydicom.dataset import Dataset, FileDataset, FileMetaDataset
from pydicom.uid import (
    ComputedRadiographyImageStorage,
    CTImageStorage,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    KeyObjectSelectionDocumentStorage,
    UltrasoundMultiFrameImageStorage,
    generate_uid,
)

if TYPE_CHECKING:
    import peer

ORTHANC = shutil.which("Orthanc") or ("/usr/sbin/Orthanc" if Path("/usr/sbin/Orthanc").exists() else "")
PLUGIN = Path("/usr/share/orthanc/plugins/libOrthancDicomWeb.so")
USER, PASSWORD = "obieg", "hasło do archiwum".encode().hex()
SLICES = 200


def new_file(sop_class: str, study: str, series: str, syntax: str = ExplicitVRLittleEndian) -> FileDataset:
    """An empty object of a study."""
    uid = generate_uid()
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID, meta.TransferSyntaxUID = sop_class, uid, syntax
    made = FileDataset("", {}, file_meta=meta, preamble=b"\0" * 128)
    made.SOPClassUID, made.SOPInstanceUID, made.StudyInstanceUID, made.SeriesInstanceUID = sop_class, uid, study, series
    made.PatientName, made.PatientID, made.StudyDate, made.StudyTime = "Wrona^Barbara", "K-1", "20260821", "101400"
    made.StudyID, made.AccessionNumber, made.ReferringPhysicianName = "1", "", ""
    made.SpecificCharacterSet = "ISO_IR 192"
    return made


def pixels(made: FileDataset, values: Any, photometric: str = "MONOCHROME2") -> FileDataset:
    """Gives an object its pixels."""
    made.Rows, made.Columns = values.shape[-3:-1] if photometric == "RGB" else values.shape[-2:]
    made.SamplesPerPixel = 3 if photometric == "RGB" else 1
    if photometric == "RGB":
        made.PlanarConfiguration = 0
    made.PhotometricInterpretation = photometric
    made.BitsAllocated = made.BitsStored = values.dtype.itemsize * 8
    made.HighBit = made.BitsStored - 1
    made.PixelRepresentation = 1 if values.dtype.kind == "i" else 0
    made.PixelData = values.tobytes()
    return made


def ct(study: str = "", slices: int = SLICES, size: int = 256) -> list[FileDataset]:
    """A phantom: body, spine, and a vessel that moves from slice to slice."""
    study, series = study or generate_uid(), generate_uid()
    y, x = np.mgrid[-1 : 1 : size * 1j, -1 : 1 : size * 1j]
    made = []
    for number in range(1, slices + 1):
        values = np.full((size, size), -1000, np.int16)
        values[(x / 0.8) ** 2 + (y / 0.65) ** 2 < 1] = 40
        values[x**2 + (y - 0.4) ** 2 < 0.02] = 700
        at = number / slices - 0.5
        values[(x - at) ** 2 + (y + 0.1) ** 2 < 0.01] = 200
        one = pixels(new_file(CTImageStorage, study, series), values + 1024)
        one.Modality, one.SeriesNumber, one.InstanceNumber = "CT", 1, number
        one.StudyDescription, one.SeriesDescription, one.BodyPartExamined = "TK jamy brzusznej", "Faza żylna", "ABDOMEN"
        one.RescaleIntercept, one.RescaleSlope, one.WindowCenter, one.WindowWidth = -1024, 1, 40, 400
        one.PixelSpacing, one.SliceThickness = [0.8, 0.8], 1
        one.ImagePositionPatient, one.ImageOrientationPatient = [0, 0, number], [1, 0, 0, 0, 1, 0]
        made.append(one)
    return made


def cr(study: str = "") -> list[FileDataset]:
    """A radiograph, white where there is nothing."""
    study = study or generate_uid()
    values = np.tile(np.linspace(0, 4095, 400, dtype=np.uint16), (300, 1))
    one = pixels(new_file(ComputedRadiographyImageStorage, study, generate_uid()), values, "MONOCHROME1")
    one.Modality, one.SeriesNumber, one.InstanceNumber, one.BitsStored, one.HighBit = "CR", 2, 1, 12, 11
    one.SeriesDescription, one.ImagerPixelSpacing, one.WindowCenter, one.WindowWidth = "PA", [0.2, 0.2], 2048, 4096
    return [one]


CM, SECONDS, CM_PER_S = 3, 4, 7  # units of ultrasound regions
PLANE, MOTION, SPECTRUM = 1, 2, 3  # what they show


def region(
    box: tuple[int, int, int, int], shows: int, units: tuple[int, int], delta: tuple[float, float], flags: int = 0
) -> Dataset:
    """A part of an ultrasound with a scale of its own; across comes before down."""
    made = Dataset()
    made.RegionSpatialFormat, made.RegionDataType, made.RegionFlags = shows, 1 if shows == PLANE else 3, flags
    made.RegionLocationMinX0, made.RegionLocationMinY0, made.RegionLocationMaxX1, made.RegionLocationMaxY1 = box
    made.PhysicalUnitsXDirection, made.PhysicalUnitsYDirection = units
    made.PhysicalDeltaX, made.PhysicalDeltaY = delta
    return made


def us(study: str = "", frames: int = 12) -> list[FileDataset]:
    """An ultrasound of several frames in colour: a bar that moves; the body above, a Doppler spectrum below it."""
    study = study or generate_uid()
    values = np.zeros((frames, 96, 128, 3), np.uint8)
    for number in range(frames):
        values[number, :, number * 8 : number * 8 + 8] = (200, 160, 40)
    one = pixels(new_file(UltrasoundMultiFrameImageStorage, study, generate_uid()), values, "RGB")
    one.Modality, one.SeriesNumber, one.InstanceNumber, one.NumberOfFrames = "US", 3, 1, frames
    one.SeriesDescription, one.FrameTime, one.FrameIncrementPointer = "Nerka prawa", 50, 0x00181063
    one.SequenceOfUltrasoundRegions = [
        region((0, 0, 127, 71), PLANE, (CM, CM), (0.05, 0.04)),
        region((0, 72, 127, 95), SPECTRUM, (SECONDS, CM_PER_S), (0.01, -1.5)),
    ]
    return [one]


def code(value: str, scheme: str, meaning: str) -> Dataset:
    """A coded concept."""
    made = Dataset()
    made.CodeValue, made.CodingSchemeDesignator, made.CodeMeaning = value, scheme, meaning
    return made


def manifest(objects: Sequence[Dataset], *, title: str = "113030", syntax: str = ExplicitVRLittleEndian) -> FileDataset:
    """The Key Object Selection Document that lists them."""
    made = new_file(KeyObjectSelectionDocumentStorage, objects[0].StudyInstanceUID, generate_uid(), syntax)
    made.Modality, made.SeriesNumber, made.InstanceNumber, made.ValueType = "KO", 99, 1, "CONTAINER"
    made.ConceptNameCodeSequence = [code(title, "DCM", "Manifest")]
    made.ContinuityOfContent = "SEPARATE"
    studies: dict[str, dict[str, list[Dataset]]] = {}
    for each in objects:
        item = Dataset()
        item.ReferencedSOPClassUID, item.ReferencedSOPInstanceUID = each.SOPClassUID, each.SOPInstanceUID
        studies.setdefault(each.StudyInstanceUID, {}).setdefault(each.SeriesInstanceUID, []).append(item)
    made.CurrentRequestedProcedureEvidenceSequence = []
    for study, series in studies.items():
        of_study = Dataset()
        of_study.StudyInstanceUID, of_study.ReferencedSeriesSequence = study, []
        for uid, items in series.items():
            of_series = Dataset()
            of_series.SeriesInstanceUID, of_series.ReferencedSOPSequence = uid, items
            of_series.RetrieveLocationUID, of_series.RetrieveURL = "1.2.3.4", "https://archive.example/studies"
            of_study.ReferencedSeriesSequence.append(of_series)
        made.CurrentRequestedProcedureEvidenceSequence.append(of_study)
    made.ContentSequence = []
    for each in objects[:3]:
        item, image = Dataset(), Dataset()
        image.ReferencedSOPClassUID, image.ReferencedSOPInstanceUID = each.SOPClassUID, each.SOPInstanceUID
        item.RelationshipType, item.ValueType, item.ReferencedSOPSequence = "CONTAINS", "IMAGE", [image]
        made.ContentSequence.append(item)
    return made


def written(made: Dataset, **how: Any) -> bytes:
    """The file."""
    output = BytesIO()
    pydicom.dcmwrite(output, made, enforce_file_format=True, **how)
    return output.getvalue()


def implicit(objects: Sequence[Dataset]) -> bytes:
    """Their manifest without value representations."""
    return written(manifest(objects, syntax=ImplicitVRLittleEndian))


class Archive:
    """A running Orthanc with a password of its own."""

    def __init__(self, folder: Path) -> None:
        if not ORTHANC or not PLUGIN.exists():
            pytest.skip("Orthanc is not installed: apt-get install orthanc orthanc-dicomweb")
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}/dicom-web"
        self.password_file = folder / "archive-password"
        self.password_file.write_text(f"{PASSWORD}\n")
        self._folder = folder
        self._process: subprocess.Popen[bytes] | None = None
        (folder / "orthanc.json").write_text(json.dumps({
            "StorageDirectory": str(folder / "orthanc"), "IndexDirectory": str(folder / "orthanc"),
            "HttpPort": self.port, "RemoteAccessAllowed": False, "AuthenticationEnabled": True,
            "RegisteredUsers": {USER: PASSWORD}, "DicomServerEnabled": False, "Plugins": [str(PLUGIN)],
            "DicomWeb": {"Enable": True, "Root": "/dicom-web/", "EnableWado": False},
        }))  # fmt: skip

    @property
    def settings(self) -> dict[str, str]:
        """The table ``images`` of a node's settings, without ``patient_authority``."""
        return {"archive_url": self.url, "user": USER, "password_file": str(self.password_file)}

    def region(self, make_node: peer.MakeNode, name: str) -> peer.Node:
        """A region that enforces access and gives out the images of this archive."""
        import peer  # of the tests of nodes alone

        authority = peer.oid()
        return make_node(
            name,
            module="access_node",
            access={"enforced": True},
            images={**self.settings, "patient_authority": authority},
            identity={"assigning_authority": authority},
        )

    def start(self) -> None:
        """Until it answers."""
        log = (self._folder / "orthanc.log").open("ab")
        self._process = subprocess.Popen([ORTHANC, str(self._folder / "orthanc.json")], stdout=log, stderr=log)
        log.close()
        for _ in range(100):
            try:
                if httpx.get(f"http://127.0.0.1:{self.port}/system", auth=(USER, PASSWORD)).is_success:
                    return
            except httpx.TransportError:
                time.sleep(0.1)
        raise AssertionError((self._folder / "orthanc.log").read_text())

    def store(self, objects: Sequence[Dataset]) -> None:
        """Sends objects by Orthanc's own interface."""
        with httpx.Client(auth=(USER, PASSWORD), timeout=60) as http:
            for each in objects:
                http.post(f"http://127.0.0.1:{self.port}/instances", content=written(each)).raise_for_status()

    def end(self, number: int = signal.SIGTERM) -> None:
        """Ends it, if it runs."""
        if self._process is not None:
            self._process.send_signal(number)
            self._process.wait(30)
            self._process = None


@contextmanager
def archive(folder: Path) -> Iterator[Archive]:
    """A running archive until the end of the block."""
    found = Archive(folder)
    found.start()
    try:
        yield found
    finally:
        found.end()

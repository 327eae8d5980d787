"""Images of a real archive (Orthanc) through a node that enforces access; read by clients that nobody here wrote."""

from __future__ import annotations

import json
import signal
import struct
import time
import zipfile
from collections.abc import Iterator
from io import BytesIO
from typing import Any

import httpx
import numpy as np
import peer
import pydicom
import pytest
from dicomweb_client.api import DICOMwebClient
from pydicom.dataset import FileDataset
from pydicom.uid import generate_uid
from test_access_enforced import DOCTOR, STRANGER, Caller

import imaging

pytestmark = pytest.mark.node
MANIFEST_CODE = ("1.2.840.10008.5.1.4.1.1.88.59", "1.2.840.10008.2.6.1")
READABLE = "1.2.840.10008.1.2.1"
PESEL = "2.16.840.1.113883.3.4424.1.1.616"
ALWAYS = {"begin": "2020-01-01T00:00:00Z", "end": "2100-01-01T00:00:00Z"}


class Study:
    """A study of a patient of the doctor, and the document that is its manifest."""

    def __init__(
        self, node: peer.Node, archive: imaging.Archive, objects: list[FileDataset], *, listed: int | None = None,
        stored: bool = True, patient: str = "", pesel: str = "",
    ) -> None:  # fmt: skip
        """``listed``: how many of the objects; ``patient``: whose the archive believes them to be; ``pesel``: theirs."""
        self.node, self.objects = node, objects
        self.patient = node.patient()
        if pesel:
            assert node.feed("A08", f"{self.patient}~{pesel}^^^&{PESEL}&ISO") == "AA"
        for each in objects:
            each.PatientID = patient or self.patient.partition("^")[0]
        if stored:
            archive.store(objects)
        self.manifest = imaging.manifest(objects[:listed])
        self.uid = self.manifest.SOPInstanceUID
        self.study = objects[0].StudyInstanceUID
        self.entry = node.entry(
            self.patient, unique_id=self.uid, mime_type="application/dicom", content=imaging.written(self.manifest),
            confidentiality=[node.codes("confidentialityCode")],
        )  # fmt: skip
        node.provided(node.submission(self.patient, self.entry))
        self.state(
            "declaration", {"professional": DOCTOR["person"], "kind": "doctor", "organisation": "", "period": ALWAYS}
        )

    def state(self, kind: str, *facts: Any) -> None:
        authority = self.node.endpoints["assigning_authority"]
        with peer.psycopg.connect(self.node.dsn) as connection:
            [key] = connection.execute(
                "SELECT patient_key FROM patient_locator WHERE authority = %s AND value = %s",
                (authority, self.patient.partition("^")[0]),
            ).fetchone()
            connection.execute(
                "INSERT INTO access_fact (patient_key, source, version, kind, facts, recorded_at, recorded_by)"
                " VALUES (%s, %s, 1, %s, %s, now(), 'test')",
                (key, peer.oid(), kind, json.dumps(facts)),
            )

    def restrict(self) -> None:
        """The patient hides the manifest from everybody."""
        closed = {"permit": False, "condition": {"documents": [self.entry.id]}}
        self.state("consent", {"id": "1", "period": {}, "provisions": [closed]})

    def path(self, at: int | None = 0, *more: str) -> str:
        """Address of an object; None: of the study."""
        found = ["wado", self.uid, "studies", self.study]
        if at is not None:
            one = self.objects[at]
            found += ["series", one.SeriesInstanceUID, "instances", one.SOPInstanceUID]
        return "/".join((*found, *more))


class Reader(Caller):
    """Somebody who asks for images."""

    def images(self, path: str, accept: str = "", **parameters: str) -> httpx.Response:
        headers = {"Accept": accept} if accept else {}
        return self.node.http.get(f"{self.node.endpoints['base_url']}/{path}", headers=headers, params=parameters)

    def client(self, study: Study) -> DICOMwebClient:
        """Somebody else's client."""
        import requests

        session = requests.Session()
        session.headers["Cookie"] = self.node.http.headers["Cookie"]
        return DICOMwebClient(f"{self.node.endpoints['base_url']}/wado/{study.uid}", session=session)


@pytest.fixture(scope="module")
def region(make_node: peer.MakeNode, archive: imaging.Archive) -> peer.Node:
    return archive.region(make_node, "images")


@pytest.fixture(scope="module")
def study(region: peer.Node, archive: imaging.Archive) -> Study:
    uid = generate_uid()
    objects = [*imaging.ct(uid), *imaging.cr(uid), *imaging.us(uid)]
    return Study(region, archive, objects)


@pytest.fixture
def doctor(region: peer.Node) -> Iterator[Reader]:
    found = Reader(region, DOCTOR)
    yield found
    found.node.close()


@pytest.fixture
def stranger(region: peer.Node) -> Iterator[Reader]:
    found = Reader(region, STRANGER)
    yield found
    found.node.close()


# what a reader is given ----------------------------------------------------------------------------------------------


def test_another_implementation_reads_a_study(study: Study, doctor: Reader) -> None:
    client = doctor.client(study)
    assert [d.SOPInstanceUID for d in client.retrieve_study(study.study)] == [o.SOPInstanceUID for o in study.objects]
    one = study.objects[7]
    series = client.retrieve_series(study.study, one.SeriesInstanceUID)
    assert len(series) == imaging.SLICES
    found = client.retrieve_instance(study.study, one.SeriesInstanceUID, one.SOPInstanceUID)
    assert np.array_equal(found.pixel_array, one.pixel_array)
    assert found.file_meta.TransferSyntaxUID == READABLE
    metadata = client.retrieve_study_metadata(study.study)
    assert {m["00080018"]["Value"][0] for m in metadata} == {o.SOPInstanceUID for o in study.objects}
    assert len(client.retrieve_series_metadata(study.study, one.SeriesInstanceUID)) == imaging.SLICES
    [about] = (client.retrieve_instance_metadata(study.study, one.SeriesInstanceUID, one.SOPInstanceUID),)
    assert about["00281052"]["Value"] == [-1024]
    last = study.objects[-1]
    frames = client.retrieve_instance_frames(study.study, last.SeriesInstanceUID, last.SOPInstanceUID, [3, 1])
    assert frames == [last.pixel_array[2].tobytes(), last.pixel_array[0].tobytes()]
    picture = client.retrieve_instance_rendered(
        study.study, one.SeriesInstanceUID, one.SOPInstanceUID, media_types=("image/png",)
    )
    assert picture.startswith(b"\x89PNG")


def test_nothing_leads_into_the_archive(study: Study, doctor: Reader, archive: imaging.Archive) -> None:
    answers = [
        doctor.images(study.path(None, "metadata")), doctor.images(study.path(0)), doctor.images(study.path(0, "rendered")),
    ]  # fmt: skip
    for answer in answers:
        assert answer.status_code == 200, answer.text
        for trace in (
            f":{archive.port}".encode(),  # as in an address: identifiers of objects hold any five digits
            b"dicom-web",
            b"ORTHANC",
            b"Orthanc",
            b"BulkDataURI",
            imaging.USER.encode() + b":",
        ):
            assert trace not in answer.content.replace(b"ORTHANC_", b""), trace
            assert trace not in str(answer.headers).encode()


def test_pictures_and_frames(study: Study, doctor: Reader) -> None:
    jpeg = doctor.images(study.path(0, "rendered"))
    assert (jpeg.headers["content-type"], jpeg.content[:2]) == ("image/jpeg", b"\xff\xd8")
    assert jpeg.headers["content-security-policy"] == "sandbox; default-src 'none'"
    assert jpeg.headers["cache-control"] == "no-store"
    narrow = doctor.images(study.path(0, "rendered"), "image/png", window="40,80,linear", viewport="64,64")
    wide = doctor.images(study.path(0, "rendered"), "image/png", window="40,2000,linear", viewport="64,64")
    assert narrow.content[:4] == wide.content[:4] == b"\x89PNG"
    assert narrow.content != wide.content
    ninth = doctor.images(study.path(-1, "frames", "9", "rendered"), "image/png")
    assert ninth.content != doctor.images(study.path(-1, "frames", "2", "rendered"), "image/png").content
    raw = doctor.images(study.path(3, "frames", "1"), "application/octet-stream")
    assert raw.headers["content-type"] == "application/octet-stream"
    assert raw.content == study.objects[3].pixel_array.tobytes()
    single = doctor.images(study.path(3), "application/dicom; transfer-syntax=*")
    assert single.headers["content-type"] == "application/dicom"
    assert pydicom.dcmread(BytesIO(single.content)).SOPInstanceUID == study.objects[3].SOPInstanceUID


def png_size(data: bytes) -> tuple[int, ...]:
    assert data.startswith(b"\x89PNG")
    return struct.unpack(">II", data[16:24])


def test_thumbnails_are_small_and_stand_for_what_they_are_of(study: Study, doctor: Reader, stranger: Reader) -> None:
    ct, us = study.objects[0], study.objects[-1]
    series = study.path(None, "series", ct.SeriesInstanceUID, "thumbnail")
    whole, first = study.path(None, "thumbnail"), f"wado/{study.uid}/thumbnail"
    of_one, of_frame = study.path(-1, "thumbnail"), study.path(-1, "frames", "9", "thumbnail")
    found = {path: doctor.images(path, "image/png") for path in (series, whole, first, of_one, of_frame)}
    assert {answer.status_code for answer in found.values()} == {200}
    assert max(max(png_size(answer.content)) for answer in found.values()) <= 128
    assert found[series].content == found[whole].content == found[first].content  # the middle of the longest series
    assert found[of_one].content != found[of_frame].content
    assert max(png_size(doctor.images(whole, "image/png", viewport="64,64").content)) <= 64
    assert doctor.images(whole).headers["content-type"] == "image/jpeg"
    assert doctor.images(whole, viewport="1024,1024").status_code == 400
    alike(
        *(stranger.images(path) for path in found),
        doctor.images(study.path(None, "thumbnail").replace(us.StudyInstanceUID, "1.2.3")),
    )


def test_the_whole_study_is_one_download(study: Study, doctor: Reader) -> None:
    address = f"{doctor.node.endpoints['base_url']}/{study.path(None)}?accept=application/zip"
    answer = doctor.node.http.get(address, headers={"Accept": "text/html,*/*;q=0.8"})
    assert answer.headers["content-type"] == "application/zip"
    assert answer.headers["content-disposition"] == 'attachment; filename="study.zip"'
    with zipfile.ZipFile(BytesIO(answer.content)) as archive:
        assert archive.testzip() is None
        found = [pydicom.dcmread(BytesIO(archive.read(name))).SOPInstanceUID for name in archive.namelist()]
        assert archive.namelist()[0] == "DICOM/SE000001/IM000001.dcm"
    assert found == [o.SOPInstanceUID for o in study.objects]


@pytest.mark.parametrize(
    ("tail", "accept", "query", "status"),
    [
        ("", "text/html", "", 406), ("metadata", "application/dicom+xml", "", 406), ("rendered", "video/mp4", "", 406),
        ("frames/1", 'multipart/related; type="image/jp2"', "", 406),
        ("", 'multipart/related; type="application/dicom"; transfer-syntax=1.2.840.10008.1.2.4.90', "", 406),
        ("rendered", "", "window=1,2", 400), ("rendered", "", "window=40,400,linear&window=1,1,linear", 400),
        ("rendered", "", "viewport=5000,1", 400), ("rendered", "", "quality=101", 400), ("rendered", "", "annotation=patient", 400),
        ("", "", "includefield=all", 400), ("rendered", "", "&".join(f"a{n}=1" for n in range(20)), 400),
    ],
)  # fmt: skip
def test_what_is_not_given(tail: str, accept: str, query: str, status: int, study: Study, doctor: Reader) -> None:
    address = f"{doctor.node.endpoints['base_url']}/{study.path(0, *filter(None, [tail]))}?{query}"
    answer = doctor.node.http.get(address, headers={"Accept": accept} if accept else {})
    assert answer.status_code == status, answer.text
    assert answer.json()["errors"][0]["code"]


def test_an_address_that_no_text_is(doctor: Reader) -> None:
    assert doctor.node.http.get(f"{doctor.node.endpoints['base_url']}/wado/%00/studies/1.2").status_code == 400


def test_only_reading(study: Study, doctor: Reader) -> None:
    for method in ("POST", "PUT", "DELETE", "HEAD", "OPTIONS"):
        answer = doctor.node.http.request(method, f"{doctor.node.endpoints['base_url']}/{study.path(0)}")
        assert (answer.status_code, answer.headers["allow"]) == (405, "GET")


# who is given nothing ------------------------------------------------------------------------------------------------


def alike(*answers: httpx.Response) -> None:
    """All are 404, and nothing tells one from another."""
    seen = {
        (a.status_code, a.content, str(sorted((k, v) for k, v in a.headers.items() if k != "date"))) for a in answers
    }
    assert len(seen) == 1, seen
    assert answers[0].status_code == 404


def test_missing_hidden_refused_and_not_listed_are_alike(
    region: peer.Node, archive: imaging.Archive, study: Study, doctor: Reader, stranger: Reader
) -> None:
    closed = imaging.ct(slices=2, size=16)
    partly = imaging.ct(slices=4, size=16)
    gone = imaging.ct(slices=1, size=16)
    restricted, short = Study(region, archive, closed), Study(region, archive, partly, listed=3)
    lost = Study(region, archive, gone, stored=False)
    forged = Study(region, archive, imaging.ct(slices=1, size=16), patient=study.patient.partition("^")[0])
    nobodys = Study(region, archive, imaging.ct(slices=1, size=16), patient="K-1")
    assert doctor.images(restricted.path(0)).status_code == 200
    restricted.restrict()
    plain = region.entry(study.patient, content=b"karta")
    region.provided(region.submission(study.patient, plain))
    for tail in ("", "metadata", "rendered", "frames/1"):
        more = (tail,) if tail else ()
        assert doctor.images(short.path(2, *more)).status_code == 200
        other = study.path(0, *more).replace(study.uid, short.uid)
        alike(
            stranger.images(study.path(0, *more)),  # of somebody else's patient
            doctor.images(restricted.path(0, *more)),  # hidden by the patient
            doctor.images(short.path(3, *more)),  # in the archive and not in the manifest
            doctor.images(other),  # of another study
            doctor.images(study.path(0, *more).replace(study.uid, generate_uid())),  # no such document
            doctor.images(study.path(0, *more).replace(study.uid, plain.unique_id)),  # no manifest
            doctor.images(study.path(0, *more).replace(study.uid, study.entry.id.removeprefix("urn:uuid:"))),
            doctor.images(study.path(0, *more).replace(study.objects[0].SOPInstanceUID, generate_uid())),
            doctor.images(study.path(0, *more).replace(study.objects[0].SeriesInstanceUID, generate_uid())),
            # The object of one series under the address of another.
            doctor.images(study.path(0, *more).replace(
                study.objects[0].SeriesInstanceUID, study.objects[-1].SeriesInstanceUID)),
            doctor.images(lost.path(0, *more)),  # not in the archive
            doctor.images(forged.path(0, *more)),  # a manifest that lists the images of another patient
            doctor.images(nobodys.path(0, *more)),  # of somebody whom the index does not know
        )  # fmt: skip


def test_nobody_opens_images_by_a_manifest_of_their_own(study: Study, doctor: Reader, stranger: Reader) -> None:
    """Manifests are registered by systems, and no document of a person becomes one."""
    for reader in (doctor, stranger):
        root, _, number = reader.who["person"].partition("#")
        author = f"{number}^Nowak^Anna^^^lek.^^^&{root}&ISO"
        forged = imaging.manifest(study.objects)
        entry = reader.node.entry(
            study.patient, unique_id=forged.SOPInstanceUID, mime_type="application/dicom",
            content=imaging.written(forged), confidentiality=[reader.node.codes("confidentialityCode")], authors=[author],
        )  # fmt: skip
        for sent in (reader.node.provide, reader.node.register):
            answer = sent(reader.node.submission(study.patient, entry))
            assert answer.codes == ["XDSRegistryMetadataError"]
            assert "in the name of a person" in str(answer.errors)
        assert reader.images(study.path(0).replace(study.uid, entry.unique_id)).status_code == 404
    assert stranger.images(study.path(0)).status_code == 404
    assert doctor.images(study.path(0)).status_code == 200


@pytest.mark.parametrize(
    "path",
    ["", "studies", "studies/", "studies/1.2.3/series", "studies/{study}/instances", "studies/{study}/rendered", "instances",
     "studies/{study}/../../../instances", "studies/%2e%2e/{study}", "studies/{study}%2fmetadata%00", "studies/{study}/metadata/",
     "studies/{study}/series/{series}/instances/{one}/bulkdata/7fe00010", "studies/{study}/series/{series}/instances/{one}/frames/0",
     "studies/{study}/series/{series}/instances/{one}/frames/99", "studies/{study}/series/{series}/instances/{one}/frames/1/thumbnail/1", "studies/{study}/thumbnail/", "thumbnail/1",
     "studies/{study}/series/{series}/instances/{one}/frames/1/../2", "%2e%2e/%2e%2e/system", "studies/1.2.3\r\nX:y"],
)  # fmt: skip
def test_only_addresses_of_dicomweb(path: str, study: Study, doctor: Reader) -> None:
    one = study.objects[0]
    asked = path.format(study=study.study, series=one.SeriesInstanceUID, one=one.SOPInstanceUID)
    nothing = doctor.images(study.path(0).replace(study.study, "1.2.3"))
    with httpx.Client(headers=dict(doctor.node.http.headers)) as http:
        base = httpx.URL(doctor.node.endpoints["base_url"])
        raw = f"/wado/{study.uid}/{asked}".encode().replace(b"\r\n", b"%0d%0a")
        alike(http.send(http.build_request("GET", base.copy_with(raw_path=raw))), nothing)


# the record ----------------------------------------------------------------------------------------------------------


def test_a_study_that_is_looked_at_is_recorded_once(
    region: peer.Node, archive: imaging.Archive, doctor: Reader, stranger: Reader
) -> None:
    objects = imaging.ct(slices=20, size=16)
    study = Study(region, archive, objects)
    before = region.last_audit()
    for at in range(20):
        assert doctor.images(study.path(at, "rendered")).status_code == 200
    doctor.images(study.path(0, "metadata"))
    doctor.images(study.path(0, "frames", "1"))
    rows = [row for row in region.audits(before) if row[1] == "RAD-107"]
    assert [row[2] for row in rows] == [0, 0, 0]
    for message, kind in zip((row[3] for row in rows), ("rendered", "metadata", "frames"), strict=True):
        for said in (
            study.uid,
            study.study,
            study.patient.replace("&", "&amp;"),
            "110104",
            f"images: {kind}",
            DOCTOR["person"],
            "access: author,poz",
        ):
            assert said in message, (said, message)
    before = region.last_audit()
    for _ in range(3):
        stranger.images(study.path(0))
        doctor.images(study.path(0).replace(study.objects[0].SOPInstanceUID, "1.2.3"))
    assert [(row[1], row[2]) for row in region.audits(before)] == [("RAD-107", 4)] * 6


# an archive that fails -----------------------------------------------------------------------------------------------


def test_an_archive_that_is_away(
    region: peer.Node, archive: imaging.Archive, study: Study, doctor: Reader, stranger: Reader
) -> None:
    archive.end(signal.SIGKILL)
    try:
        for path in (study.path(0), study.path(0, "rendered"), study.path(None, "metadata")):
            answer = doctor.images(path)
            assert (answer.status_code, answer.headers["retry-after"]) == (503, "5")
            assert f":{archive.port}" not in answer.text
        # Whoever may not see it learns nothing of that.
        assert stranger.images(study.path(0)).status_code == 404
    finally:
        archive.start()
    assert doctor.images(study.path(0)).status_code == 200


def test_an_archive_that_is_killed_breaks_the_answer_off(
    archive: imaging.Archive, study: Study, doctor: Reader
) -> None:
    """No reader can take what came for the whole study."""
    for accept in ("application/zip", 'multipart/related; type="application/dicom"'):
        address = f"{doctor.node.endpoints['base_url']}/{study.path(None)}"
        taken: list[bytes] = []

        def read(address: str = address, accept: str = accept, taken: list[bytes] = taken) -> None:
            with doctor.node.http.stream("GET", address, headers={"Accept": accept}) as answer:
                for piece in answer.iter_raw(65536):
                    if not taken:
                        archive.end(signal.SIGKILL)
                    taken.append(piece)

        with pytest.raises(httpx.RemoteProtocolError):
            read()
        archive.start()
        assert taken
    assert doctor.images(study.path(0)).status_code == 200


def test_a_slow_reader_costs_no_memory_and_one_who_leaves_frees_the_archive(study: Study, doctor: Reader) -> None:
    address = f"{doctor.node.endpoints['base_url']}/{study.path(None)}"
    for _ in range(40):  # more than the archive is asked at once
        with doctor.node.http.stream("GET", address) as answer:
            next(answer.iter_raw(1024))
    began = time.monotonic()
    assert doctor.images(study.path(0)).status_code == 200
    assert time.monotonic() - began < 10

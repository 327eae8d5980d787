"""What is asked of images, what an archive's words become, and archives that misbehave."""

from __future__ import annotations

import asyncio
import io
import json
import zipfile
from collections.abc import Awaitable, Callable
from typing import Any

import httpx
import pytest

from obieg.domain.images import ImageName, Kind
from obieg.domain.problems import Problem, RetryLater
from obieg.edges import image_archive
from obieg.edges.image_archive import DicomwebArchive
from obieg.edges.wado import WadoEdge
from obieg.mapping import dicom_json, wado
from obieg.protocol import WadoReply, WadoRequest
from obieg.wire.dicom import DicomRefused
from obieg.wire.zip_stream import ZipWriter

ONE = ("studies", "1.2", "series", "1.3", "instances", "1.4")
NAME = ImageName("1.2", "1.3", "1.4")


def asked(path: tuple[str, ...], accept: str = "", **parameters: str) -> Any:
    return wado.read(
        WadoRequest(document="1.1", path=path, accept=accept, parameters=tuple(parameters.items()), request_id="r")
    )


@pytest.mark.parametrize(
    ("path", "accept", "media", "multipart", "syntax"),
    [
        (ONE, "", "application/dicom", True, "1.2.840.10008.1.2.1"),
        (ONE, "*/*", "application/dicom", True, "1.2.840.10008.1.2.1"),
        (ONE, "application/dicom", "application/dicom", False, "1.2.840.10008.1.2.1"),
        (ONE[:4], 'multipart/related; type="application/dicom"; transfer-syntax=*', "application/dicom", True, "*"),
        (ONE[:2], "application/zip", "application/zip", False, "*"),
        (ONE[:2], 'text/html, application/zip;q=0.5, multipart/related; type="application/dicom"; q=0.4', "application/zip", False, "*"),
        ((*ONE, "metadata"), "application/json", "application/dicom+json", False, ""),
        ((*ONE, "rendered"), "image/avif,image/webp,image/png,*/*;q=0.8", "image/png", False, ""),
        ((*ONE, "rendered"), "image/*", "image/jpeg", False, ""),
        ((*ONE[:4], "thumbnail"), "image/avif,image/*,*/*;q=0.8", "image/jpeg", False, ""),
        ((*ONE, "frames", "2", "thumbnail"), "image/png", "image/png", False, ""),
        ((*ONE, "frames", "1,2"), "", "application/octet-stream", True, "1.2.840.10008.1.2.1"),
        ((*ONE, "frames", "1"), "application/octet-stream", "application/octet-stream", False, "1.2.840.10008.1.2.1"),
    ],
)  # fmt: skip
def test_representations(path: tuple[str, ...], accept: str, media: str, multipart: bool, syntax: str) -> None:
    found = asked(path, accept)
    assert (found.media_type, found.multipart, found.transfer_syntax) == (media, multipart, syntax)


@pytest.mark.parametrize(
    ("path", "accept", "code"),
    [
        (ONE, "image/png", "NotAcceptable"), (ONE, "application/dicom;q=0", "NotAcceptable"),
        (ONE[:4], "application/dicom", ""), ((*ONE, "frames", "1,2"), "application/octet-stream", "NotAcceptable"),
        ((*ONE, "frames", "0"), "", "AddressNotFound"), ((*ONE, "frames", "1,2", "rendered"), "", "LimitExceeded"),
        ((*ONE, "frames", ",".join(["1"] * 1001)), "", "LimitExceeded"), (("studies", "1.2", "rendered"), "", "AddressNotFound"),
        (("studies", "..", "metadata"), "", "AddressNotFound"),
        (("studies", "1.2", "series", "", "instances", "1.4"), "", "AddressNotFound"), (("thumbnail", "1"), "", "AddressNotFound"),
        ((*ONE, "frames", "1,2", "thumbnail"), "", "LimitExceeded"), (("studies", ""), "", "AddressNotFound"), ((), "", "AddressNotFound"),
    ],
)  # fmt: skip
def test_what_is_no_question(path: tuple[str, ...], accept: str, code: str) -> None:
    if not code:  # the header of a client that knows no other name for many of them
        assert asked(path, accept).multipart
        return
    with pytest.raises(Problem) as refused:
        asked(path, accept)
    assert [f.code for f in refused.value.findings] == [code]


def test_the_archive_hears_our_own_words() -> None:
    question = asked((*ONE, "frames", "3,1"), 'multipart/related; type="application/octet-stream"; q=1')
    assert question.kind is Kind.FRAMES
    paths = [path for path, _, _ in wado.archive_paths(question, [NAME])]
    assert paths == [(*ONE, "frames", "3"), (*ONE, "frames", "1")]
    accept = wado.archive_accept(question)
    assert accept == 'multipart/related; type="application/octet-stream"; transfer-syntax=1.2.840.10008.1.2.1'


def element(vr: str, *values: Any) -> dict[str, Any]:
    return {"vr": vr, "Value": list(values)}


def told(**more: Any) -> dict[str, Any]:
    return {
        "0020000D": element("UI", "1.2"), "0020000E": element("UI", "1.3"), "00080018": element("UI", "1.4"), **more,
    }  # fmt: skip


def test_a_thumbnail_is_small_and_of_any_form() -> None:
    """No address of a thumbnail asks for more than a small picture; ``/thumbnail`` alone is of the first study."""
    plain = asked(("studies", "1.2", "thumbnail"))
    assert (plain.kind, plain.parameters, plain.or_else) == (Kind.THUMBNAIL, (("viewport", "128,128"),), ("image/png",))
    assert asked(("thumbnail",), viewport="512,512").parameters == (("viewport", "512,512"),)
    assert asked(("thumbnail",)).study == ""
    assert asked(("thumbnail",), "image/png;q=0.5, image/jpeg").or_else == ("image/png",)
    assert asked(("thumbnail",), "image/png").or_else == ()
    assert asked(ONE, "application/dicom, image/png").or_else == ()
    for more in ({"viewport": "513,16"}, {"window": "40,400,linear"}, {"quality": "90"}, {"viewport": "0,1"}):
        with pytest.raises(Problem):
            asked(("thumbnail",), **more)
    [(path, name, frame)] = wado.archive_paths(plain, [NAME])
    assert (path, name, frame) == ((*ONE, "rendered"), NAME, 0)


def test_metadata_lose_what_leads_into_the_archive_and_what_is_not_listed() -> None:
    inner = {"00081190": element("UR", "http://archive/x"), "00080100": element("SH", "1")}
    given = told(
        **{
            "00081190": element("UR", "http://archive/studies"),
            "00080054": element("AE", "ARCHIVE"),
            "7FE00010": {"vr": "OW", "BulkDataURI": "http://archive/bulk"},
            "0040A730": element("SQ", inner),
            "00100010": element("PN", {"Alphabetic": "Wrona^Barbara"}),
        }
    )
    other = {**told(), "00080018": element("UI", "1.5")}
    [found] = dicom_json.read(json.dumps([given, other]).encode(), {NAME})
    assert "archive" not in json.dumps(found).lower()
    assert found["7FE00010"] == {"vr": "OW"}
    assert found["0040A730"]["Value"] == [{"00080100": element("SH", "1")}]
    assert found["00100010"] == given["00100010"]


@pytest.mark.parametrize("data", [b"", b"{}", b"[1]", b"<a/>", b"[" * 100_000])
def test_what_is_no_metadata_is_refused(data: bytes) -> None:
    with pytest.raises(DicomRefused):
        dicom_json.read(data, {NAME})


def test_deep_metadata_are_refused() -> None:
    deep = told()
    for _ in range(dicom_json.DEPTH_MAX + 2):
        deep = {**told(), "0040A730": element("SQ", deep)}
    with pytest.raises(DicomRefused, match="deeper"):
        dicom_json.read(json.dumps([deep]).encode(), {NAME})


def test_what_is_told_of_an_image_bears_any_nonsense() -> None:
    shown = dicom_json.shown_image(told(**{
        "00280030": element("DS", "0.5", None), "00280008": element("IS", "x"), "00281050": element("DS", "40", "60"),
        "00281051": element("DS", 400, 80), "00280004": element("CS", "MONOCHROME1"), "00180040": element("IS", 0),
        "00181164": element("DS", 0.1, 0.2),
    }))  # fmt: skip
    assert (shown.frames, shown.window, shown.inverted, shown.spacing, shown.scale, shown.frame_ms) == (
        1, (40, 400), True, (0.1, 0.2), "detector", 0,
    )  # fmt: skip


def test_zip_is_read_by_another_reader() -> None:
    writer, written = ZipWriter(), b""
    for name, pieces in (("a", [b"one", b"two"]), ("b", []), ("ć", [bytes(3_000_000)])):
        with writer.member(name) as member:
            for piece in pieces:
                member.write(piece)
                written += writer.taken()
    written += writer.finish()
    with zipfile.ZipFile(io.BytesIO(written)) as archive:
        assert archive.testzip() is None
        assert {n: len(archive.read(n)) for n in archive.namelist()} == {"a": 6, "b": 0, "ć": 3_000_000}


# an archive that is not as it should be -------------------------------------------------------------------------------

Answer = Callable[[httpx.Request], httpx.Response]


def talking(answer: Answer, work: Callable[[DicomwebArchive], Awaitable[Any]]) -> Any:
    archive = DicomwebArchive("http://archive/dicom-web/", user="u", password="p")
    archive._http = httpx.AsyncClient(transport=httpx.MockTransport(answer))
    return asyncio.run(work(archive))  # type: ignore[arg-type]


async def opened(archive: DicomwebArchive) -> tuple[str, bytes]:
    part = await archive.open(ONE, "image/jpeg", (("window", "40,400,linear"),))
    return part.content_type, b"".join([piece async for piece in part.chunks()])


def test_a_part_is_unwrapped_and_the_address_is_as_it_stands() -> None:
    heard = []

    def answer(request: httpx.Request) -> httpx.Response:
        heard.append((str(request.url), request.headers["accept"]))
        body = b"--b\r\nContent-Type: application/dicom\r\n\r\nDATA\r\n--b--"
        return httpx.Response(200, headers={"Content-Type": 'multipart/related; boundary="b"'}, content=body)

    assert talking(answer, opened) == ("application/dicom", b"DATA")
    address = f"http://archive/dicom-web/{'/'.join(ONE)}?window=40,400,linear"
    assert heard == [(address, "image/jpeg")]


@pytest.mark.parametrize(
    ("status", "expected"),
    [
        (404, "AddressNotFound"),
        (400, "AddressNotFound"),
        (406, "NotAcceptable"),
        (401, ""),
        (302, ""),
        (500, ""),
        (503, ""),
    ],
)
def test_refusals_of_the_archive(status: int, expected: str) -> None:
    def answer(_: httpx.Request) -> httpx.Response:
        return httpx.Response(status, headers={"Location": "http://elsewhere/"})

    with pytest.raises(Problem if expected else RetryLater) as refused:
        talking(answer, opened)
    if isinstance(refused.value, Problem):
        assert refused.value.findings[0].code == expected


@pytest.mark.parametrize(
    "body",
    [b"", b"--b", b"--b\r\n\r\nDATA", b"--b\r\n\r\nDATA\r\n--b\r\n\r\nMORE\r\n--b--", b"x" * 100_000, b"--b--"],
)
def test_a_broken_package_breaks_off(body: bytes) -> None:
    def answer(_: httpx.Request) -> httpx.Response:
        return httpx.Response(200, headers={"Content-Type": "multipart/related; boundary=b"}, content=body)

    with pytest.raises(RetryLater):
        talking(answer, opened)


def test_metadata_have_a_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(image_archive, "METADATA_BYTES_MAX", 1000)
    with pytest.raises(RetryLater, match="more than 1000 bytes"):
        talking(lambda _: httpx.Response(200, content=b" " * 1001), lambda archive: archive.metadata(ONE))


@pytest.mark.parametrize(
    ("headers", "said"),
    [
        ([], 'Bearer realm="obieg"'),
        ([(b"authorization", b"Bearer x")], 'Bearer realm="obieg", error="invalid_token"'),
    ],
)
async def test_who_has_no_token_is_told_which_one_to_bring(headers: list[tuple[bytes, bytes]], said: str) -> None:
    class Refusing:
        """A host that knows nobody."""

        def served(self, _binding: Any) -> tuple[()]:
            return ()

        def new_request_id(self) -> str:
            return "r"

        async def settle(self, _exchange: Any, serving: Any, *_rest: Any, **_kinds: str) -> tuple[str, WadoReply]:
            serving.close()
            return "refused", WadoReply(content_type="application/json", body=b"{}", status=401)

        def finish(self, _exchange: Any, outcome: str) -> None:
            assert outcome == "refused"

    sent: list[Any] = []

    async def send(message: Any) -> None:
        sent.append(message)

    scope = {"type": "http", "method": "GET", "path": "/wado/1.1/studies/1.2", "headers": headers, "query_string": b""}
    edge = WadoEdge(Refusing(), affinity_domain="1.2")  # type: ignore[arg-type]
    await edge({**scope, "client": ("127.0.0.1", 1), "scheme": "https"}, lambda: None, send)
    told = dict(sent[0]["headers"])[b"www-authenticate"].decode()
    bearer, _, proof = told.partition(", DPoP ")
    assert (sent[0]["status"], bearer) == (401, said)
    assert proof.startswith('realm="obieg"')

"""The multipart parser: whatever pieces the bytes come in, the parts are the same."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from obieg.wire import mime
from obieg.wire.mime import MimeRefused, MultipartParser, PartData, PartEnd, PartStart

BOUNDARY = "a-boundary"
# Contents that look like delimiters, in whole and in part.
_PIECES = st.sampled_from(
    [b"\r\n", b"\r", b"\n", b"--", b"-", b"\r\n--", b"\r\n--a-bound", b"--a-boundary", b"\r\n--a-boundarx", b"x", b"\0"]
)
contents = st.one_of(st.binary(max_size=200), st.lists(_PIECES, max_size=20).map(b"".join)).filter(
    lambda c: b"\r\n--a-boundary" not in b"\r\n" + c
)
Part = tuple[str, bytes]


def packaged(parts: Sequence[Part]) -> bytes:
    pieces = [mime.part_head(BOUNDARY, "text/plain", name) + content for name, content in parts]
    return b"".join([*pieces, mime.closing(BOUNDARY)])


def parsed(pieces: Iterable[bytes], parts_max: int = 100) -> list[Part]:
    parser = MultipartParser(BOUNDARY, parts_max=parts_max)
    found: list[Part] = []
    current: list[bytes] | None = None
    name = ""
    for piece in pieces:
        for event in parser.feed(piece):
            if isinstance(event, PartStart):
                assert current is None
                current, name = [], event.content_id
            elif isinstance(event, PartData):
                assert current is not None
                assert event.data
                current.append(event.data)
            elif isinstance(event, PartEnd):
                assert current is not None
                found.append((name, b"".join(current)))
                current = None
    parser.finish()
    return found


def cut(data: bytes, places: Iterable[int]) -> list[bytes]:
    ends = sorted({p % (len(data) + 1) for p in places} | {len(data)})
    return [data[a:b] for a, b in zip([0, *ends], ends, strict=False)]


packages = st.lists(contents, min_size=1, max_size=4).map(lambda c: [(f"p{i}@x", v) for i, v in enumerate(c)])


@settings(deadline=None, max_examples=300)
@given(packages, st.lists(st.integers(0, 5000)))
def test_any_cut_gives_the_same_parts(parts: list[Part], places: list[int]) -> None:
    data = packaged(parts)
    assert parsed(cut(data, places)) == parts


@settings(deadline=None, max_examples=50)
@given(packages)
def test_byte_by_byte(parts: list[Part]) -> None:
    data = packaged(parts)
    assert parsed(data[i : i + 1] for i in range(len(data))) == parts


@settings(deadline=None, max_examples=100)
@given(packages, st.integers(1, 10_000))
def test_a_stream_that_ends_early_is_never_a_short_document(parts: list[Part], missing: int) -> None:
    data = packaged(parts)
    # What follows the closing delimiter is no part of the package (RFC 2046, section 5.1.1).
    data = data[: -2 - missing % (len(data) - 2)]
    if not data.endswith(b"--a-boundary--"):
        with pytest.raises(MimeRefused):
            parsed([data])


@settings(deadline=None, max_examples=200)
@given(st.binary(max_size=400), st.lists(st.integers(0, 400)))
def test_junk_is_refused_or_is_nothing(junk: bytes, places: list[int]) -> None:
    pieces = cut(b"--a-boundary\r\n" + junk, places)
    with pytest.raises(MimeRefused):
        parsed(pieces)


def test_preamble_epilogue_and_padding() -> None:
    data = (
        b"This is MIME.\r\n--a-boundary  \t\r\nContent-ID: <a@x>\r\n\r\nx\r\n--a-boundary--\r\nafter --a-boundary\r\n"
    )
    assert parsed([data]) == [("a@x", b"x")]


def test_headers() -> None:
    data = b"--a-boundary\r\ncontent-id:<a@x>\r\nCONTENT-TYPE: a/b;\r\n  c=d\r\nX:\r\n\r\n\r\n--a-boundary--"
    parser = MultipartParser(BOUNDARY, parts_max=1)
    start, end = parser.feed(data)
    assert start == PartStart({"content-id": "<a@x>", "content-type": "a/b; c=d", "x": ""})
    assert start.content_id == "a@x"
    assert end == PartEnd()


def test_a_part_without_headers() -> None:
    data = b"--a-boundary\r\n\r\nx\r\n--a-boundary--"
    assert parsed([data]) == [("", b"x")]


@pytest.mark.parametrize("count", [0, 1, 3])
def test_no_more_parts_than_allowed(count: int) -> None:
    data = packaged([(str(i), b"") for i in range(count)])
    if count:
        assert len(parsed([data], count)) == count
    with pytest.raises(MimeRefused, match="parts"):
        parsed([packaged([(str(i), b"") for i in range(count + 1)])], count)


@pytest.mark.parametrize("boundary", ["", " ", "x" * 71, "a\r\nb", "ą", 'a"b', "ends in space "])
def test_bad_boundaries(boundary: str) -> None:
    with pytest.raises(MimeRefused):
        MultipartParser(boundary, parts_max=1)


def test_no_more_is_held_than_a_delimiter() -> None:
    parser = MultipartParser(BOUNDARY, parts_max=1)
    list(parser.feed(b"--a-boundary\r\n\r\n"))
    for _ in range(100):
        list(parser.feed(b"\r\n--a-b" * 10_000))
        assert len(parser._buffer) < 100


@pytest.mark.parametrize(
    "flood",
    [
        b"x" * 70_000,
        b"--a-boundary" + b" " * 70_000,
        b"--a-boundary\r\nX: " + b"y" * 70_000,
        b"--a-boundary\r\n" + b"\r\na" * 9,
    ],
)
def test_floods_before_a_part_are_refused(flood: bytes) -> None:
    with pytest.raises(MimeRefused):
        parsed([flood])


@pytest.mark.parametrize(
    ("header", "expected"),
    [
        ('multipart/related; boundary="a b"; TYPE=x/y', ("multipart/related", {"boundary": "a b", "type": "x/y"})),
        ('a/b; x="q\\"uoted;"; y=1', ("a/b", {"x": 'q"uoted;', "y": "1"})),
        ("A/B", ("a/b", {})),
        ("", ("", {})),
        ('a/b; boundary=one; boundary="two"', ("", {})),
        ("a/b;boundary=x;start=<r@x>", ("a/b", {"boundary": "x", "start": "<r@x>"})),
    ],
)
def test_content_type(header: str, expected: tuple[str, dict[str, str]]) -> None:
    assert mime.content_type(header) == expected

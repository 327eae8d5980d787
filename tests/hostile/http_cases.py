"""Hostile HTTP and MIME, byte by byte: two lengths, chunks that lie, heads that go on, parts that are none.

``{twin}`` is the body of a stored query that the node answers. Each row is (bytes, the statuses that come back).
"""

from __future__ import annotations

import gzip
import re
import zlib
from collections.abc import Callable

import peer
from field import SOAP_TYPE, Field, Request, provide, query, retrieve

Made = Callable[[Field], bytes]


def statuses(data: bytes) -> str:
    """The statuses of all answers; ``closed`` for none."""
    return " ".join(m.decode() for m in re.findall(rb"HTTP/1\.[01] (\d{3})", data)) or "closed"


def head(
    *lines: str, request: str = "POST /services/registry HTTP/1.1", host: str = "node", keep: bool = False
) -> bytes:
    named = [*([f"Host: {host}"] if host else []), *([] if keep else ["Connection: close"])]
    return "\r\n".join([request, *named, *lines]).encode("latin-1") + b"\r\n\r\n"


TYPE = f"Content-Type: {SOAP_TYPE}"


def body(f: Field) -> bytes:
    return query(f).body


def plain(f: Field) -> bytes:
    data = body(f)
    return head(TYPE, f"Content-Length: {len(data)}") + data


def chunked(data: bytes, size: int = 1 << 20) -> bytes:
    pieces = [data[i : i + size] for i in range(0, len(data), size)]
    return b"".join(b"%x\r\n%s\r\n" % (len(p), p) for p in pieces) + b"0\r\n\r\n"


def in_chunks(f: Field) -> bytes:
    return head(TYPE, "Transfer-Encoding: chunked") + chunked(body(f))


SMUGGLED = b"GET /health HTTP/1.1\r\nHost: node\r\n\r\n"


def sized(*lines: str, text: Callable[[bytes], bytes] = lambda b: b) -> Made:
    """The twin's body under other lines; LEN stands for its length."""
    return lambda f: head(TYPE, *(line.replace("LEN", str(len(body(f)))) for line in lines)) + text(body(f))


def framed(text: Callable[[bytes], bytes], *lines: str) -> Made:
    return lambda f: head(TYPE, "Transfer-Encoding: chunked", *lines) + text(body(f))


def first(name: str) -> Callable[[Field], bytes]:
    """Another first line."""
    return lambda f: head(TYPE, f"Content-Length: {len(body(f))}", request=name) + body(f)


TWINS: dict[str, tuple[Made, str]] = {
    "with a length": (plain, "200$"),
    "in chunks": (in_chunks, "200$"),
    "in many chunks": (lambda f: head(TYPE, "Transfer-Encoding: chunked") + chunked(body(f), 7), "200$"),
    "two after one another": (
        lambda f: head(TYPE, f"Content-Length: {len(body(f))}", keep=True) + body(f) + plain(f),
        "200 200$",
    ),
}
NO = "400$|closed$"
SMUGGLING: dict[str, tuple[Made, str]] = {
    "length and chunks": (sized("Content-Length: LEN", "Transfer-Encoding: chunked", text=chunked), NO),
    "chunks and length": (sized("Transfer-Encoding: chunked", "Content-Length: LEN", text=chunked), NO),
    "CL.TE": (lambda f: head(TYPE, "Content-Length: 6", "Transfer-Encoding: chunked") + b"0\r\n\r\nG" + SMUGGLED, NO),
    "TE.CL": (lambda f: head(TYPE, "Transfer-Encoding: chunked", "Content-Length: 4") + chunked(SMUGGLED), NO),
    "two lengths": (sized("Content-Length: LEN", "Content-Length: 5"), NO),
    "one length twice": (sized("Content-Length: LEN", "Content-Length: LEN"), NO),
    "two lengths in one": (sized("Content-Length: LEN, 5"), NO),
    "a length with a plus": (sized("Content-Length: +LEN"), NO),
    "a length below nothing": (sized("Content-Length: -1"), NO),
    "a length in hexadecimal": (sized("Content-Length: 0x10"), NO),
    "a length in words": (sized("Content-Length: ten"), NO),
    "a length of nothing": (sized("Content-Length:"), NO),
    "a length beyond range": (sized("Content-Length: " + "9" * 30), NO + "|413"),
    "a length with a space within": (sized("Content-Length: 1 0"), NO),
    "a length with a point": (sized("Content-Length: 10.0"), NO),
    "a length on two lines": (sized("Content-Length: 1\r\n 0"), NO),
    "space before the colon": (sized("Content-Length : LEN"), NO),
    "space before the name": (sized(" Content-Length: LEN"), NO),
    "a name with a NUL": (sized("Content-Length: LEN", "X\0Y: z"), NO),
    "a value with a NUL": (sized("Content-Length: LEN", "X: a\0b"), NO),
    "a value with a bare CR": (sized("Content-Length: LEN", "X: a\rb"), NO),
    "lines that end in LF": (lambda f: plain(f).replace(b"\r\n", b"\n", 4), NO),
    "a line without a colon": (sized("Content-Length: LEN", "evil"), NO),
    "an empty name": (sized("Content-Length: LEN", ": evil"), NO),
    "a folded line": (sized("Content-Length: LEN", "X: a\r\n b"), NO),
    "chunked twice": (framed(chunked, "Transfer-Encoding: chunked"), NO),
    "chunked, and something else": (lambda f: head(TYPE, "Transfer-Encoding: chunked, gzip") + chunked(body(f)), NO + "|501"),
    "something else, and chunked": (lambda f: head(TYPE, "Transfer-Encoding: gzip, chunked") + chunked(gzip.compress(body(f))), NO + "|501|415"),
    "identity": (lambda f: head(TYPE, "Transfer-Encoding: identity") + body(f), NO + "|501"),
    "an unknown coding": (lambda f: head(TYPE, "Transfer-Encoding: xchunked") + chunked(body(f)), NO + "|501"),
    "chunked with a tab": (lambda f: head(TYPE, "Transfer-Encoding:\x0bchunked") + chunked(body(f)), NO),
    "chunked with a space before the colon": (lambda f: head(TYPE, "Transfer-Encoding : chunked") + chunked(body(f)), NO),
    "chunks in HTTP/1.0": (lambda f: head(TYPE, "Transfer-Encoding: chunked", request="POST /services/registry HTTP/1.0") + chunked(body(f)), NO + "|505"),
    "two hosts": (sized("Content-Length: LEN", "Host: other"), NO),
    "no host": (lambda f: head(TYPE, f"Content-Length: {len(body(f))}", host="") + body(f), NO),
    "two types": (sized("Content-Length: LEN", "Content-Type: text/xml"), NO),
    "two authorizations": (sized("Content-Length: LEN", "Authorization: Bearer a", "Authorization: Bearer b"), NO),
    "an address of another": (first("POST http://evil.example/services/registry HTTP/1.1"), "200$|" + NO),
    "HTTP/2 by prior knowledge": (lambda f: b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", NO + "|505"),
    "HTTP/0.9": (lambda f: b"GET /\r\n", NO + "|408$"),
    "HTTP/1.2": (first("POST /services/registry HTTP/1.2"), NO + "|505"),
    "HTTP/9.9": (first("POST /services/registry HTTP/9.9"), NO + "|505"),
    "a method that is none": (first("POS\x00T /services/registry HTTP/1.1"), NO),
    "a method in small letters": (first("post /services/registry HTTP/1.1"), NO + "|405"),
    "a tunnel": (lambda f: b"CONNECT 127.0.0.1:22 HTTP/1.1\r\nHost: 127.0.0.1:22\r\n\r\n", NO + "|404|405"),
    "an upgrade to HTTP/2": (sized("Content-Length: LEN", "Connection: Upgrade, HTTP2-Settings", "Upgrade: h2c", "HTTP2-Settings: AAMAAABkAARAAAAAAAIAAAAA"), "200$|" + NO),
    "an upgrade to a socket": (lambda f: head("Connection: Upgrade", "Upgrade: websocket", "Sec-WebSocket-Version: 13", "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==", request="GET /services/registry HTTP/1.1"), "200$|400$|closed"),
    "TLS": (lambda f: b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + b"\0" * 100, NO),
    "binary": (lambda f: bytes(range(256)) * 10, NO),
    "a head of 100 KB": (sized("Content-Length: LEN", "X: " + "y" * 100_000), "431$"),
    "10,000 lines in the head": (sized("Content-Length: LEN", *(f"X{i}: y" for i in range(10_000))), "431$"),
    "an address of 100 KB": (first("POST /services/registry?" + "a" * 100_000 + " HTTP/1.1"), "431$|414$|400$"),
    "Expect of the impossible": (sized("Content-Length: LEN", "Expect: 200-ok"), "417$|400$"),
}  # fmt: skip
CHUNKS: dict[str, tuple[Made, str]] = {
    "a size that is none": (framed(lambda b: b"zz\r\n" + b + b"\r\n0\r\n\r\n"), NO),
    "a size below nothing": (framed(lambda b: b"-1\r\n" + b + b"\r\n0\r\n\r\n"), NO),
    "a size beyond range": (framed(lambda b: b"f" * 17 + b"\r\n" + b), NO),
    "a size of 10,000 digits": (framed(lambda b: b"0" * 10_000 + b"1\r\n" + b), NO),
    "a size in 0x": (framed(lambda b: b"0x%x\r\n" % len(b) + b + b"\r\n0\r\n\r\n"), NO),
    "a size with a space": (framed(lambda b: b"%x \r\n" % len(b) + b + b"\r\n0\r\n\r\n"), NO),
    "a chunk shorter than it says": (framed(lambda b: b"%x\r\n" % (len(b) + 9) + b + b"\r\n0\r\n\r\n"), NO),
    "a chunk longer than it says": (framed(lambda b: b"%x\r\n" % (len(b) - 9) + b + b"\r\n0\r\n\r\n"), NO),
    "no end": (framed(lambda b: b"%x\r\n" % len(b) + b + b"\r\n"), NO),
    "no line end behind a chunk": (framed(lambda b: b"%x\r\n" % len(b) + b + b"0\r\n\r\n"), NO),
    "LF alone behind a size": (framed(lambda b: b"%x\n" % len(b) + b + b"\r\n0\r\n\r\n"), NO),
    "LF alone behind a chunk": (framed(lambda b: b"%x\r\n" % len(b) + b + b"\n0\r\n\r\n"), NO),
    "an extension of 100 KB": (framed(lambda b: b"%x;%s\r\n" % (len(b), b"a=" + b"b" * 100_000) + b + b"\r\n0\r\n\r\n"), "200$|400$|closed$|413|431"),
    "an extension with LF": (framed(lambda b: b"%x;a=\n\r\n" % len(b) + b + b"\r\n0\r\n\r\n"), NO),
    "trailers of 100 KB": (framed(lambda b: b"%x\r\n" % len(b) + b + b"\r\n0\r\nX: " + b"y" * 100_000 + b"\r\n\r\n"), "400$|closed$|413|431"),
    "a length in the trailer": (framed(lambda b: b"%x\r\n" % len(b) + b + b"\r\n0\r\nContent-Length: 5\r\n\r\n"), "200$|400$|closed$"),
    "10 MB in chunks": (framed(lambda b: chunked(b"<a>" + b" " * 10_000_000, 65536)), "413$"),
    "10 MB in chunks of one": (framed(lambda b: b"1\r\na\r\n" * 1_500_000), "400$|413$|closed$"),
}  # fmt: skip


def posted(make: Callable[[Field], Request], change: Callable[[bytes], bytes], *lines: str, media: str = "") -> Made:
    """A message of a twin, changed, with further lines."""

    def data(f: Field) -> bytes:
        request = make(f)
        sent = change(request.body)
        return (
            head(
                f"Content-Type: {media or request.header('Content-Type')}",
                f"Content-Length: {len(sent)}",
                *lines,
                request=f"POST {request.path} HTTP/1.1",
            )
            + sent
        )

    return data


def same(data: bytes) -> bytes:
    return data


def deflated(data: bytes) -> bytes:
    return zlib.compress(data)


BOMB = gzip.compress(b"<a>" + b" " * 100_000_000, 9)
COMPRESSED: dict[str, tuple[Made, str]] = {
    "gzip": (posted(query, gzip.compress, "Content-Encoding: gzip"), "415$"),
    "a gzip bomb": (posted(query, lambda _: BOMB, "Content-Encoding: gzip"), "415$"),
    "a bomb in a bomb": (posted(query, lambda _: gzip.compress(BOMB), "Content-Encoding: gzip, gzip"), "415$"),
    "deflate": (posted(query, deflated, "Content-Encoding: deflate"), "415$"),
    "deflate, raw": (posted(query, lambda b: deflated(b)[2:-4], "Content-Encoding: deflate"), "415$"),
    "gzip that is cut": (posted(query, lambda b: gzip.compress(b)[:-9], "Content-Encoding: gzip"), "415$"),
    "gzip that says nothing": (posted(query, gzip.compress), "400$"),
    "gzip in capitals": (posted(query, gzip.compress, "Content-Encoding: GZIP"), "415$"),
    "x-gzip": (posted(query, gzip.compress, "Content-Encoding: x-gzip"), "415$"),
    "two codings": (posted(query, same, "Content-Encoding: identity", "Content-Encoding: gzip"), "400$"),
    "gzip of a package": (posted(provide, gzip.compress, "Content-Encoding: gzip"), "415$"),
    "gzip of a FHIR feed": (
        lambda f: head("Content-Type: application/fhir+json", f"Content-Length: {len(BOMB)}", "Content-Encoding: gzip",
                       request="PUT /fhir/Patient?identifier=urn:oid:1.2%7C1 HTTP/1.1") + BOMB, "415$",
    ),
}  # fmt: skip


def parts(text: Callable[[bytes], bytes], media: str = "") -> Made:
    return posted(provide, text, media=media)


B = peer.BOUNDARY.encode()
PART = b"\r\nContent-Type: text/plain\r\nContent-ID: <p%d>\r\n\r\nx\r\n--"
MULTI = peer.package_type()
PACKAGES: dict[str, tuple[Made, str]] = {
    "100,000 parts": (parts(lambda b: b.replace(b"--" + B + b"--", b"--" + B + b"".join(PART % i + B for i in range(100_000)) + b"--")), "400$|413$"),
    "101 parts": (parts(lambda b: b.replace(b"--" + B + b"--", b"--" + B + b"".join(PART % i + B for i in range(101)) + b"--")), "400$"),
    "a part header of 20 KB": (parts(lambda b: b.replace(b"Content-ID: <part1", b"X: " + b"y" * 20_000 + b"\r\nContent-ID: <part1")), "400$"),
    "part headers without end": (parts(lambda b: b.partition(b"Content-ID: <part1")[0] + b"X: y\r\n" * 100_000), "400$"),
    "a boundary within a boundary": (parts(lambda b: b.replace(b"--" + B + b"\r\n", b"--" + B + b"--" + B + b"\r\n", 1)), "400$|200$"),
    "text behind a boundary": (parts(lambda b: b.replace(B + b"\r\n", B + b" x\r\n", 1)), "400$"),
    "a preamble of 20 KB": (parts(lambda b: b"x" * 20_000 + b"\r\n" + b), "400$"),
    "a boundary in small letters": (parts(lambda b: b.replace(B, B.lower())), "400$"),
    "a boundary of 71": (parts(same, MULTI.replace(peer.BOUNDARY, "b" * 71)), "400$"),
    "a boundary that ends in a space": (parts(same, MULTI.replace(peer.BOUNDARY, peer.BOUNDARY + " ")), "400$"),
    "an empty boundary": (parts(same, MULTI.replace(peer.BOUNDARY, "")), "400$"),
    "two boundaries": (parts(same, MULTI + '; boundary="other"'), "415$"),
    "two starts": (parts(same, MULTI + '; start="<part1@peer>"'), "415$"),
    "two types": (parts(same, MULTI + '; type="text/xml"'), "415$"),
    "a start that is the document": (parts(same, MULTI.replace("root@peer", "part1@peer")), "400$"),
    "a root of another type": (parts(lambda b: b.replace(b"application/xop+xml", b"text/html", 1)), "400$"),
    "a root with another charset": (parts(lambda b: b.replace(b"charset=UTF-8", b"charset=UTF-16", 1)), "400$"),
    "a root in base64": (parts(lambda b: b.replace(b"Encoding: binary", b"Encoding: base64", 1)), "400$"),
    "a document in base64": (parts(lambda b: b[::-1].replace(b"Encoding: binary"[::-1], b"Encoding: base64"[::-1], 1)[::-1]), "400$"),
    "a coding in two words": (parts(lambda b: b.replace(b"Encoding: binary", b"Encoding: binary, base64", 1)), "400$"),
    "a Content-ID twice in one part": (parts(lambda b: b.replace(b"Content-ID: <part1@peer>", b"Content-ID: <part1@peer>\r\nContent-ID: <evil>")), "400$"),
    "a coding twice in one part": (parts(lambda b: b.replace(b"Encoding: binary", b"Encoding: binary\r\nContent-Transfer-Encoding: base64", 1)), "400$"),
    "a Content-ID of two parts": (parts(lambda b: b.replace(b"--" + B + b"--", b"--" + B + b"\r\nContent-ID: <part1@peer>\r\n\r\nx\r\n--" + B + b"--")), "400$"),
    "no Content-ID": (parts(lambda b: b.replace(b"Content-ID: <part1@peer>", b"X: y")), "400$"),
    "a part header that is none": (parts(lambda b: b.replace(b"Content-ID: <part1@peer>", b"Content-ID <part1@peer>")), "400$"),
    "a part header with a NUL": (parts(lambda b: b.replace(b"Content-ID: <part1@peer>", b"Content-ID: <part1@peer>\0")), "400$|200$"),
    "LF alone": (parts(lambda b: b.replace(b"\r\n", b"\n")), "400$"),
    "no end": (parts(lambda b: b[: -len(B) - 10]), "400$"),
    "cut in the document": (parts(lambda b: b[: -len(B) - 16]), "400$"),
    "a part that is a package": (parts(lambda b: b.replace(b"Content-Type: application/octet-stream", b"Content-Type: multipart/mixed; boundary=x")), "200$"),
    "no root": (parts(lambda b: b"--" + B + b"--\r\n"), "400$"),
    "nothing": (parts(lambda _: b""), "400$"),
    "mixed": (parts(same, MULTI.replace("related", "mixed")), "415$"),
    "a root in another package": (parts(lambda b: b.replace(b"<s:Envelope", b"--" + B + b"\r\n\r\n<s:Envelope", 1)), "400$"),
    "a message about a package": (posted(retrieve, same, media="message/rfc822"), "415$"),
    "a document of 9 MB": (parts(lambda b: b.replace(b"tresc dokumentu", b"x" * 9_000_000)), "413$"),
    "an envelope of 9 MB": (parts(lambda b: b.replace(b"<s:Body>", b"<!--" + b"x" * 9_000_000 + b"--><s:Body>")), "413$"),
}  # fmt: skip
# What a part may be, and what is refused only with the metadata: the summary is of HTTP alone.
CASES = {
    f"{group}: {name}": case
    for group, rows in (("smuggling", SMUGGLING), ("chunks", CHUNKS), ("coding", COMPRESSED), ("package", PACKAGES))
    for name, case in rows.items()
}
# Slow senders: what is sent, how many seconds pass after each byte of it (None: it is sent at once, and then nothing),
# and what comes back before the node ends the connection.
SLOW: dict[str, tuple[Made, float | None, str]] = {
    "nothing at all": (lambda f: b"", None, "closed|408"),
    "a letter": (lambda f: b"P", None, "closed|408"),
    "half a head": (lambda f: head(TYPE)[:-3], None, "408|closed"),
    "a head, a byte a second": (lambda f: head(TYPE, "X: " + "y" * 500), 0.2, "408|closed"),
    "a head, a line a second": (lambda f: b"POST /services/registry HTTP/1.1\r\n" + b"X: y\r\n" * 100, 0.1, "408|closed"),
    "no body": (lambda f: head(TYPE, "Content-Length: 1000"), None, "closed|408"),
    "half a body": (lambda f: head(TYPE, "Content-Length: 1000") + b"x" * 500, None, "closed|408"),
    "a body, a byte at a time": (lambda f: head(TYPE, "Content-Length: 100000") + b" " * 200, 0.1, "closed|408"),
    "a chunk that is never whole": (lambda f: head(TYPE, "Transfer-Encoding: chunked") + b"ff\r\nx", None, "closed|408"),
    "chunks, one at a time": (lambda f: head(TYPE, "Transfer-Encoding: chunked") + b"1\r\n \r\n" * 100, 0.05, "closed|408"),
    "a package without end": (lambda f: head('Content-Type: multipart/related; type="application/xop+xml"; boundary=b', "Content-Length: 99999", request="POST /services/repository HTTP/1.1") + b"--b\r\nContent-ID: <a>\r\n\r\n" + b"x" * 200, 0.1, "closed|408|400"),
    "a connection that is kept": (lambda f: head(TYPE, f"Content-Length: {len(body(f))}", keep=True) + body(f), None, "200$"),
}  # fmt: skip

"""Hostile HL7 v2 over MLLP: frames, delimiters, escapes, character sets, segments, identifiers, merges and queries.

Each is (bytes sent on one connection, what the answers are summed up to). ``M`` is a feed that the node takes.
"""

from __future__ import annotations

import re
from collections.abc import Callable

from field import Field

VT, FS, CR = b"\x0b", b"\x1c", b"\r"


def framed(message: str | bytes) -> bytes:
    return VT + (message.encode() if isinstance(message, str) else message) + FS + CR


def summary(answer: bytes) -> str:
    """MSA-1, where and code of the first ERR, for each answer; ``closed`` for none."""
    found = []
    for message in re.findall(rb"\x0b(.*?)\x1c\r", answer, re.DOTALL):
        text = message.decode("utf-8", "replace")
        separator = text[3:4]
        msa = re.search(r"\rMSA.(\w\w)", text)
        err = re.search(r"\rERR\|([^\r]*)", text)
        said = [msa[1] if msa else "?"]
        if err is not None:
            fields = err[1].split("|")
            if len(fields) > 2:  # 2.5
                said += [fields[1], fields[2].split("^")[0]]
            else:  # 2.3.1
                parts = fields[0].split("~")[0].split("^")
                said += [
                    "-".join(p for p in (parts[0], parts[2] if len(parts) > 2 else "") if p),
                    (parts[3] if len(parts) > 3 else "").split("&")[0],
                ]
        said.append(f"found={len(re.findall(rf'{chr(13)}PID{re.escape(separator)}', text))}")
        found.append(" ".join(filter(None, said)))
    return "; ".join(found) or "closed"


class Messages:
    """Good messages of one test."""

    def __init__(self, field: Field, number: str) -> None:
        self.number = number
        self.authority = field.authority
        self.patient = field.patient
        self.other = field.other
        self.feed = self.adt("A04", f"{number}^^^&{field.authority}&ISO")

    def cx(self, value: str, authority: str = "") -> str:
        return f"{value}^^^&{authority or self.authority}&ISO"

    def adt(self, event: str, pid3: str, *, merged: str = "", rest: str = "||OBCY^JAN||19800101|M") -> str:
        structure = {"A40": "ADT_A39", "A43": "ADT_A43", "A47": "ADT_A30"}.get(event, "ADT_A01")
        lines = [
            f"MSH|^~\\&|APP|SZPITAL|OBIEG|REGION|20260301||ADT^{event}^{structure}|C{self.number}|P|2.3.1",
            f"EVN|{event}|20260301",
            f"PID|||{pid3}{rest}",
        ]
        return "\r".join([*lines, *([f"MRG|{merged}"] if merged else [])]) + "\r"

    def query(self, asked: str = "@PID.5.1^KOWALSKA~@PID.7^19800101", rest: str = "") -> str:
        return (
            f"MSH|^~\\&|APP|SZPITAL|OBIEG|REGION|20260301||QBP^Q22^QBP_Q21|Q{self.number}|P|2.5\r"
            f"QPD|IHE PDQ Query|T1|{asked}\rRCP|I\r{rest}"
        )

    def pix(self, identifier: str) -> str:
        return (
            f"MSH|^~\\&|APP|SZPITAL|OBIEG|REGION|20260301||QBP^Q23^QBP_Q21|Q{self.number}|P|2.5\r"
            f"QPD|IHE PIX Query|T1|{identifier}\rRCP|I\r"
        )


Made = Callable[[Messages], bytes]


def put(old: str, new: str) -> Made:
    def make(m: Messages) -> bytes:
        assert old in m.feed, old
        return framed(m.feed.replace(old, new, 1))

    return make


def rest(text: str) -> Made:
    """Other fields behind PID-3."""
    return lambda m: framed(m.adt("A04", m.cx(m.number), rest=text))


def pid3(text: str) -> Made:
    """N, A stand for the number and the authority."""
    return lambda m: framed(m.adt("A04", text.replace("N", m.number).replace("AUTH", m.authority)))


TWINS: dict[str, tuple[Made, str]] = {
    "a feed": (lambda m: framed(m.feed), "AA found=0"),
    "a query": (lambda m: framed(m.query()), "AA found=[1-9]"),
    "a PIX query": (lambda m: framed(m.pix(m.patient)), "AA"),
    "two feeds on one connection": (lambda m: framed(m.feed) * 2, "AA found=0; AA found=0"),
}

ANY = "A[ER] "
FRAMES: dict[str, tuple[Made, str]] = {
    "no frame": (lambda m: m.feed.encode(), "closed"),
    "no start": (lambda m: m.feed.encode() + FS + CR, "closed"),
    "no end": (lambda m: VT + m.feed.encode(), "closed"),
    "no CR behind FS": (lambda m: VT + m.feed.encode() + FS, "closed"),
    "LF behind FS": (lambda m: VT + m.feed.encode() + FS + b"\n", "closed"),
    "the end first": (lambda m: FS + CR + VT + m.feed.encode(), "closed"),
    "two starts": (lambda m: VT + framed(m.feed), ANY),
    "a start within": (put("OBCY", "OB\x0bCY"), ANY),
    "an FS within": (put("OBCY", "OB\x1cCY"), ANY),
    "two messages in one frame": (lambda m: framed(m.feed + m.feed), ANY),
    "two messages in one frame, LF": (lambda m: framed(m.feed + "\n" + m.feed), ANY),
    "a message in a field": (put("OBCY", "OB\rMSH|^~\\&|EVIL"), ANY),
    "a frame in a field": (lambda m: framed(m.feed.replace("OBCY", "OB\x1c\x0bMSH|^~\\&|EVIL")), ANY),
    "an empty frame": (lambda m: VT + FS + CR, ANY),
    "a frame of space": (lambda m: framed(" " * 100), ANY),
    "a frame of CR": (lambda m: framed("\r" * 100), ANY),
    "a frame of NUL": (lambda m: framed(b"\0" * 100), ANY),
    "binary": (lambda m: framed(bytes(i for i in range(256) if i not in (11, 28))), ANY),
    "HTTP": (lambda m: b"GET / HTTP/1.1\r\nHost: a\r\n\r\n", "closed"),
    "HTTP in a frame": (lambda m: framed(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"), ANY),
    "TLS": (lambda m: b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", "closed"),
    "SOAP in a frame": (lambda m: framed(b"<s:Envelope/>"), ANY),
    "FHIR in a frame": (lambda m: framed(b'{"resourceType":"Patient"}'), ANY),
    "longer than may be": (lambda m: framed(m.feed + "ZZZ|" + "x" * 2_000_000 + "\r"), "AR 207|AR"),
    "longer than may be, without end": (lambda m: VT + m.feed.encode() + b"x" * 2_000_000, "AR 207|AR"),
}  # fmt: skip
HEADERS: dict[str, tuple[Made, str]] = {
    "no MSH": (lambda m: framed(m.feed.partition("\r")[2]), ANY),
    "MSH in small letters": (put("MSH|", "msh|"), ANY),
    "a batch": (lambda m: framed("FHS|^~\\&\rBHS|^~\\&\r" + m.feed + "BTS|1\rFTS|1\r"), ANY),
    "space before MSH": (lambda m: framed(" " + m.feed), ANY),
    "a mark before MSH": (lambda m: framed("\ufeff" + m.feed), ANY),
    "MSH alone": (lambda m: framed("MSH"), ANY),
    "MSH and a delimiter": (lambda m: framed("MSH|"), ANY),
    "delimiters of letters": (put("|^~\\&|", "|ABCD|"), ANY),
    "delimiters of digits": (put("|^~\\&|", "|1234|"), ANY),
    "one delimiter for all": (put("|^~\\&|", "|^^^^|"), ANY),
    "the field's own delimiter again": (put("|^~\\&|", "||~\\&|"), ANY),
    "three delimiters": (put("|^~\\&|", "|^~\\|"), ANY),
    "one delimiter": (put("|^~\\&|", "|^|"), ANY),
    "no delimiters": (put("|^~\\&|", "||"), ANY),
    "eight delimiters": (put("|^~\\&|", "|^~\\&#$%@|"), ANY),
    "a delimiter of CR": (lambda m: framed(m.feed.replace("|", "\r")), ANY),
    "a delimiter of NUL": (lambda m: framed(m.feed.replace("|", "\0")), ANY),
    "a delimiter of M": (lambda m: framed(m.feed.replace("|", "M")), ANY),
    "a delimiter beyond ASCII": (lambda m: framed(m.feed.replace("|", "ł")), ANY),
    "delimiters of space": (put("|^~\\&|", "|    |"), ANY),
    "no type": (put("ADT^A04^ADT_A01", ""), ANY),
    "a type that is none": (put("ADT^A04^ADT_A01", "EVL^A04"), "AR MSH-9|AR"),
    "an event that is none": (put("ADT^A04^ADT_A01", "ADT^A99"), "AR"),
    "an acknowledgement": (lambda m: framed(m.feed.partition("\r")[0].replace("ADT^A04^ADT_A01", "ACK") + "\rMSA|AA|M1\r"), "AR"),
    "an answer to a query": (put("ADT^A04^ADT_A01", "RSP^K22"), "AR"),
    "a type with SQL": (put("ADT^A04^ADT_A01", "ADT'; DROP TABLE patient; --^A04"), "AR"),
    "no control id": (lambda m: framed(re.sub(r"\|C[^|]*\|P", "||P", m.feed)), ANY),
    "a control id of 10,000": (lambda m: framed(re.sub(r"\|C[^|]*\|P", "|" + "C" * 10_000 + "|P", m.feed)), ANY),
    "a control id with a line": (lambda m: framed(re.sub(r"\|C[^|]*\|P", lambda _: "|C\\X0D\\MSA\\F\\AA|P", m.feed)), ANY),
    "no version": (put("|2.3.1", "|"), ANY),
    "version 3": (put("|2.3.1", "|3.0"), "AR"),
    "a version that is none": (put("|2.3.1", "|x"), "A[RE]"),
    "a version beyond range": (put("|2.3.1", "|2.99999999999999999999"), "A[REA]"),
    "a version of negatives": (put("|2.3.1", "|-2.3"), "A[RE]"),
}  # fmt: skip
CHARSETS: dict[str, tuple[Made, str]] = {
    f"{what}": (lambda m, d=declared, b=name: framed(m.feed.replace("|2.3.1\r", f"|2.3.1||||||{d}\r").encode().replace(b"OBCY", b)), ANY)
    for what, declared, name in (
        ("ASCII that is not", "ASCII", "Żółw".encode()), ("UTF-8 that is Latin", "UNICODE UTF-8", "Żółw".encode("iso8859-2")),
        ("UTF-8 that is cut", "UNICODE UTF-8", b"\xc5"), ("overlong UTF-8", "UNICODE UTF-8", b"\xc0\xbc"), ("a surrogate", "UNICODE UTF-8", b"\xed\xa0\x80"),
        ("beyond Unicode", "UNICODE UTF-8", b"\xf4\x90\x80\x80"), ("UTF-16", "UNICODE UTF-16", b"OBCY"), ("UTF-7", "UTF-7", b"+AEE-"),
        ("EBCDIC", "EBCDIC", b"OBCY"), ("Big5", "BIG-5", b"OBCY"), ("ISO 2022", "ISO IR87", b"\x1b$B0!"), ("a set with SQL", "' OR 1=1", b"OBCY"),
        ("two sets", "UNICODE UTF-8~8859/2", b"\xb3"), ("a set of 10,000", "X" * 10_000, b"OBCY"), ("a control of Latin", "8859/2", b"\x85"),
    )
}  # fmt: skip
ESCAPES: dict[str, tuple[Made, str]] = {
    f"{what} in an id": (pid3(f"N{text}9^^^&AUTH&ISO"), ANY)
    for what, text in (
        ("an escaped CR", "\\X0D\\"), ("an escaped LF", "\\X0A\\"), ("an escaped start", "\\X0B\\"), ("an escaped FS", "\\X1C\\"), ("an escaped NUL", "\\X00\\"),
        ("an escaped escape", "\\X1B\\"), ("escaped bytes that are no text", "\\XFFFE\\"), ("an escape of 10,000", "\\X" + "41" * 10_000 + "\\"),
        ("a format", "\\.br\\"),
        ("DEL", "\x7f"), ("BEL", "\x07"), ("ESC", "\x1b[31m"), ("NUL", "\0"), ("a tab", "\t"), ("an LF", "\n"),
    )
}  # fmt: skip
SEGMENTS: dict[str, tuple[Made, str]] = {
    "no PID": (lambda m: framed(re.sub(r"PID[^\r]*\r", "", m.feed)), ANY),
    "two PIDs": (lambda m: framed(m.feed + "PID|||" + m.patient + "||KOWALSKA^ANNA\r"), ANY),
    "a segment of four letters": (put("\rPID|", "\rPIDX|"), ANY),
    "a segment of no letters": (put("\rPID|", "\r|"), ANY),
    "a segment in small letters": (put("\rPID|", "\rpid|"), ANY),
    "100,000 segments": (lambda m: framed(m.feed + "ZZZ|1\r" * 100_000), ANY),
    "100,000 fields": (lambda m: framed(m.feed[:-1] + "|" * 100_000 + "\r"), ANY),
    "100,000 components": (rest("||" + "^" * 100_000), ANY),
    "100,000 subcomponents": (rest("||" + "&" * 100_000), ANY),
    "100,000 repetitions": (rest("||" + "~" * 100_000), ANY),
    "a name of 100,000": (rest("||" + "O" * 100_000), ANY),
    "a birth date that never was": (rest("||OBCY^JAN||19800230|M"), ANY),
    "a birth date of words": (rest("||OBCY^JAN||yesterday|M"), ANY),
    "a birth date of other digits": (rest("||OBCY^JAN||١٩٨٠|M"), ANY),
    "a birth date of the year 0": (rest("||OBCY^JAN||00000101|M"), ANY),
    "a sex that is none": (rest("||OBCY^JAN||19800101|X"), ANY),
    "a sex with SQL": (rest("||OBCY^JAN||19800101|M' OR 1=1"), ANY),
}  # fmt: skip
IDENTIFIERS: dict[str, tuple[Made, str]] = {
    "nobody": (pid3(""), ANY),
    "no authority": (pid3("N"), ANY),
    "an authority without OID": (pid3("N^^^NIKT"), ANY),
    "an authority that is no OID": (pid3("N^^^&evil&ISO"), ANY),
    "an authority with SQL": (pid3("N^^^&1.2' OR 1=1&ISO"), ANY),
    "an authority of 10,000 digits": (pid3("N^^^&1." + "2" * 10_000 + "&ISO"), ANY),
    "an OID of another kind": (pid3("N^^^&AUTH&DNS"), ANY),
    "a number of 10,000": (pid3("9" * 10_000 + "^^^&AUTH&ISO"), ANY),
    "201 numbers": (lambda m: framed(m.adt("A04", "~".join(m.cx(f"{m.number}-{i}") for i in range(201)))), ANY),
    "two numbers of ours": (lambda m: framed(m.adt("A04", f"{m.patient}~{m.other}")), ANY),
    "an id that is empty quotes": (pid3('""^^^&AUTH&ISO'), ANY),
    "two PESELs": (pid3("N^^^&AUTH&ISO~44051401458^^^&2.16.840.1.113883.3.4424.1.1.616&ISO~02070803628^^^&2.16.840.1.113883.3.4424.1.1.616&ISO"), ANY),
}  # fmt: skip
MERGES: dict[str, tuple[Made, str]] = {
    "a merge with itself": (lambda m: framed(m.adt("A40", m.patient, merged=m.patient)), ANY),
    "a merge with nobody": (lambda m: framed(m.adt("A40", m.patient, merged="")), ANY),
    "a merge without MRG": (lambda m: framed(m.adt("A40", m.patient)), ANY),
    "a merge of two at once": (lambda m: framed(m.adt("A40", m.patient, merged=f"{m.other}~{m.cx('x')}")), ANY),
    "a merge across authorities": (lambda m: framed(m.adt("A40", m.patient, merged="1^^^&1.2.3.4&ISO")), ANY),
    "a merge into another's authority": (lambda m: framed(m.adt("A40", "1^^^&1.2.3.4&ISO", merged=m.patient)), ANY),
    "a merge with two MRG": (lambda m: framed(m.adt("A40", m.patient, merged=m.other) + f"MRG|{m.other}\r"), ANY),
    "a merge of what has no authority": (lambda m: framed(m.adt("A40", m.patient, merged="1")), ANY),
    "a merge with an escape": (lambda m: framed(m.adt("A40", m.patient, merged="1\\X0D\\^^^&" + m.authority + "&ISO")), ANY),
    "a move of nobody": (lambda m: framed(m.adt("A43", m.patient)), ANY),
    "another number for nobody": (lambda m: framed(m.adt("A47", m.cx(m.number), merged="")), ANY),
    "a split that nobody knows": (lambda m: framed(m.adt("A37", m.patient, merged=m.other)), "AR"),
}  # fmt: skip
QUERIES: dict[str, tuple[Made, str]] = {
    f"a query for {what}": (lambda m, t=text: framed(m.query(t)), "A[ERA] .*found=0$|AA found=0$")
    for what, text in (
        ("SQL", "@PID.5.1^X'; DROP TABLE patient; --"), ("everybody", "@PID.5.1^*"), ("everybody by %", "@PID.5.1^%"), ("everybody by _", "@PID.5.1^_______"),
        ("nothing", ""), ("an empty name", "@PID.5.1^"), ("a field that is none", "@PID.99^x"), ("a segment that is none", "@QQQ.1^x"), ("a field of words", "@PID.x^x"),
        ("a field below nothing", "@PID.-1^x"), ("a field beyond range", "@PID.99999999999999999999^x"), ("a name of 10,000", "@PID.5.1^" + "K" * 10_000),
        ("1,000 things", "~".join(["@PID.5.1^K"] * 1000)), ("a regular expression", "@PID.5.1^(a+)+$"), ("a backslash", "@PID.5.1^\\E\\%"),
        ("a birth date with a wildcard", "@PID.7^19*"), ("a number with a wildcard", "@PID.3.1^*"), ("a PESEL's beginning", "@PID.3.1^4405*"),
        ("a path", "@PID.5.1^../../etc/passwd"), ("without @", "PID.5.1^KOWALSKA"), ("a line", "@PID.5.1^A\\X0D\\B"),
    )
} | {
    "a query without QPD": (lambda m: framed(re.sub(r"QPD[^\r]*\r", "", m.query())), ANY),
    "two queries": (lambda m: framed(m.query(rest="QPD|IHE PDQ Query|T2|@PID.5.1^A\r")), ANY),
    "a query later": (lambda m: framed(m.query().replace("RCP|I", "RCP|D")), ANY),
    "as many as a thousand million": (lambda m: framed(m.query().replace("RCP|I", "RCP|I|1000000000^RD")), "A[ERA] "),
    "as many as none": (lambda m: framed(m.query().replace("RCP|I", "RCP|I|-1^RD")), ANY),
    "as many as a word": (lambda m: framed(m.query().replace("RCP|I", "RCP|I|x^RD")), ANY),
    "a continuation that was never given": (lambda m: framed(m.query(rest="DSC|evil|I\r")), ANY),
    "a continuation with SQL": (lambda m: framed(m.query(rest="DSC|1' OR 1=1|I\r")), ANY),
    "a PIX query for nobody": (lambda m: framed(m.pix("")), ANY),
    "a PIX query without authority": (lambda m: framed(m.pix("1")), ANY),
    "a PIX query with wildcards": (lambda m: framed(m.pix(m.cx("%"))), ANY),
    "a PIX query for two": (lambda m: framed(m.pix(f"{m.patient}~{m.other}")), ANY),
}  # fmt: skip
CASES = {
    f"{group}: {name}": case
    for group, rows in (
        ("frame", FRAMES), ("header", HEADERS), ("charset", CHARSETS), ("escape", ESCAPES), ("segment", SEGMENTS),
        ("identifier", IDENTIFIERS), ("merge", MERGES), ("query", QUERIES),
    )
    for name, case in rows.items()
}  # fmt: skip

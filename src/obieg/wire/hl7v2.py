"""HL7 v2 messages in their ER7 form: read, asked by path, acknowledged (HL7 2.3.1 and 2.5 chapter 2, ITI TF-2x C.2).

Theory of operation. A message is cut into segments and fields when it is read; fields stay as they were sent, escapes
included, and are taken apart when asked for, so that a message costs what is read of it. All that can be wrong with the
bytes (character set, escapes, limits, segment names) is found while reading: asking never fails. Positions count as in
HAPI's terser: fields, components and sub-components from 1, repetitions and segments from 0.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import cache, lru_cache
from typing import NamedTuple


class MessageError(Exception):
    """The bytes are not an HL7 v2 message that can be read; ``code`` is of HL7 table 0357."""

    def __init__(self, code: int, detail: str, location: str = "") -> None:
        super().__init__(f"{location}: {detail}" if location else detail)
        self.code = code
        self.detail = detail
        self.location = location


# HL7 table 0357, message error condition codes.
SEGMENT_SEQUENCE_ERROR = 100
REQUIRED_FIELD_MISSING = 101
DATA_TYPE_ERROR = 102
TABLE_VALUE_NOT_FOUND = 103
ERROR_CONDITIONS = {
    0: "Message accepted",
    100: "Segment sequence error",
    101: "Required field missing",
    102: "Data type error",
    103: "Table value not found",
    200: "Unsupported message type",
    201: "Unsupported event code",
    202: "Unsupported processing id",
    203: "Unsupported version id",
    204: "Unknown key identifier",
    205: "Duplicate key identifier",
    206: "Application record locked",
    207: "Application internal error",
}

# HL7 table 0211 in part, and other names for the same sets that are seen; Python's codec for each.
CHARACTER_SETS = {
    "ASCII": "ascii",
    "ISO IR6": "ascii",
    "8859/1": "iso8859-1",
    "8859/2": "iso8859-2",
    "8859/3": "iso8859-3",
    "8859/4": "iso8859-4",
    "8859/5": "iso8859-5",
    "8859/6": "iso8859-6",
    "8859/7": "iso8859-7",
    "8859/8": "iso8859-8",
    "8859/9": "iso8859-9",
    "8859/15": "iso8859-15",
    "UNICODE": "utf-8",
    "UNICODE UTF-8": "utf-8",
    "UTF-8": "utf-8",
    "UTF8": "utf-8",
    "ISO-8859-1": "iso8859-1",
    "ISO-8859-2": "iso8859-2",
    "ISO8859-1": "iso8859-1",
    "ISO8859-2": "iso8859-2",
    "CP1250": "cp1250",
    "WINDOWS-1250": "cp1250",
}
_C1 = re.compile("[\x80-\x9f]")  # control characters of ISO 8859 that no text has: the bytes are of another set
_CONTROL = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f]")
_CONTROL_BYTES = bytes(set(range(0x20)) - set(b"\t\n\r"))  # the same in every character set that is read
_SEGMENT_NAME = re.compile(r"[A-Z][A-Z0-9]{2}\Z")
_PATH = re.compile(r"(?:.*/)?\.?([A-Z][A-Z0-9]{2})(?:\((\d+)\))?-(\d+)(?:\((\d+)\))?(?:-(\d+))?(?:-(\d+))?\Z")
_HEX = re.compile(r"X((?:[0-9A-Fa-f]{2})+)\Z")
_ESCAPED_MAX = 64  # longest text between two escape characters that may be an escape sequence


@dataclass(frozen=True, slots=True)
class Limits:
    """What a message may hold at most."""

    segments_max: int = 1_000
    fields_max: int = 500  # of one segment
    repetitions_max: int = 200  # of one field
    components_max: int = 20_000  # of the whole message, with subcomponents


class Delimiters(NamedTuple):
    """MSH-1 and MSH-2 (HL7 2.5 section 2.5.4)."""

    field: str = "|"
    component: str = "^"
    repetition: str = "~"
    escape: str = "\\"
    subcomponent: str = "&"

    @property
    def encoding_characters(self) -> str:
        """MSH-2."""
        return self.component + self.repetition + self.escape + self.subcomponent


class Segment(NamedTuple):
    """A segment with its fields as sent; ``fields[0]`` is field 1 (for MSH: MSH-1, the field separator)."""

    name: str
    fields: tuple[str, ...]

    def field(self, number: int) -> str:
        """The field as sent, or ""."""
        return self.fields[number - 1] if 0 < number <= len(self.fields) else ""


class Repetition(NamedTuple):
    """One repetition of a field."""

    raw: str
    delimiters: Delimiters
    codec: str

    def get(self, component: int = 1, subcomponent: int = 1) -> str:
        """The text of a sub-component, escapes resolved, or ""."""
        if self.raw.isalnum():  # no delimiter is a letter or a digit
            return self.raw if component == subcomponent == 1 else ""
        pieces = self.raw.split(self.delimiters.component)
        if component > len(pieces):
            return ""
        pieces = pieces[component - 1].split(self.delimiters.subcomponent)
        return unescape(pieces[subcomponent - 1], self.delimiters, self.codec) if subcomponent <= len(pieces) else ""

    def component(self, number: int) -> str:
        """The component as sent, or ""."""
        pieces = self.raw.split(self.delimiters.component, number)
        return pieces[number - 1] if number <= len(pieces) else ""

    def parts(self, component: int, count: int) -> tuple[str, ...]:
        """The texts of the first ``count`` sub-components of a component, without spaces around them; "" for none."""
        d = self.delimiters
        pieces = self.component(component).split(d.subcomponent)[:count]
        if d.escape in self.raw:
            pieces = [unescape(piece, d, self.codec) for piece in pieces]
        return (*[piece.strip() for piece in pieces], *("",) * (count - len(pieces)))

    def texts(self) -> tuple[str, ...]:
        """The text of every component (its first sub-component), without spaces around it."""
        d = self.delimiters
        raw = self.raw.split(d.component)
        if d.subcomponent in self.raw:
            raw = [component.split(d.subcomponent, 1)[0] for component in raw]
        if d.escape in self.raw:
            raw = [unescape(component, d, self.codec) for component in raw]
        return tuple([component.strip() for component in raw])


class Message(NamedTuple):
    """A message as read; the first segment is MSH."""

    segments: tuple[Segment, ...]
    delimiters: Delimiters = Delimiters()
    codec: str = "utf-8"

    def all(self, name: str) -> tuple[Segment, ...]:
        """The segments of that name, in order."""
        return tuple([segment for segment in self.segments if segment.name == name])

    def get(self, path: str) -> str:
        """The text at a terser path such as ``PID-3(1)-4-2``, or ""; group names before a slash are passed over."""
        name, occurrence, field, repetition, component, subcomponent = _path(path)
        segments = self.segments
        if name == "MSH" and field > 2 and not occurrence and segments and segments[0].name == "MSH":
            raw = segments[0].field(field)
            if repetition == 0 and component == subcomponent == 1 and raw.isalnum():  # no delimiter is one of these
                return raw
            return _in_header(raw, self.delimiters, self.codec, repetition, component, subcomponent)
        for segment in segments:
            if segment.name == name:
                if not occurrence:
                    break
                occurrence -= 1
        else:
            return ""
        found = self.repetitions(segment, field)
        return found[repetition].get(component, subcomponent) if repetition < len(found) else ""

    def repetitions(self, segment: Segment, field: int) -> tuple[Repetition, ...]:
        """The repetitions of a field that has any content."""
        raw = segment.field(field)
        delimiters = _VERBATIM if segment.name == "MSH" and field <= 2 else self.delimiters
        return repetitions_of(raw, delimiters, self.codec)

    @property
    def type(self) -> str:
        """MSH-9.1."""
        return self.get("MSH-9-1")

    @property
    def event(self) -> str:
        """MSH-9.2."""
        return self.get("MSH-9-2")

    @property
    def control_id(self) -> str:
        """MSH-10."""
        return self.get("MSH-10")

    @property
    def version(self) -> tuple[int, ...]:
        """MSH-12.1 as numbers, empty where it is none."""
        text = self.get("MSH-12").strip()
        return tuple(map(int, text.split("."))) if re.fullmatch(r"\d{1,2}(\.\d{1,2}){1,3}", text, re.ASCII) else ()

    def encode(self) -> bytes:
        """The message as bytes in its own character set; every segment ends with CR, the last one too."""
        separator = self.delimiters.field
        lines = []
        for segment in self.segments:
            # MSH-1 is the separator itself and stands between the name and MSH-2.
            fields = segment.fields[1:] if segment.name == "MSH" else segment.fields
            lines.append(separator.join((segment.name, *fields)) + "\r")
        text = "".join(lines)
        try:
            return text.encode(self.codec)
        except UnicodeEncodeError:
            return _spelled(text, self.codec).encode(self.codec, "replace")


def repetitions_of(raw: str, delimiters: Delimiters, codec: str) -> tuple[Repetition, ...]:
    """The repetitions of a field as sent that has any content."""
    if not raw:
        return ()
    if delimiters.repetition not in raw:
        return (Repetition(raw, delimiters, codec),)
    return tuple([Repetition(r, delimiters, codec) for r in raw.split(delimiters.repetition)])


@lru_cache(maxsize=1 << 10)  # one sender's headers are alike
def _in_header(raw: str, delimiters: Delimiters, codec: str, repetition: int, component: int, subcomponent: int) -> str:
    found = repetitions_of(raw, delimiters, codec)
    return found[repetition].get(component, subcomponent) if repetition < len(found) else ""


_NO_DECOMPOSITION = str.maketrans("łŁđĐøØħĦŧŦıæÆœŒßþÞ–—„”“’‘…", 'lLdDoOhHtTiaAoOspP--"""\'\'.')


def _spelled(text: str, codec: str) -> str:
    """The text with letters that the character set lacks written as their base letters: Łódź as Lodz in ASCII.

    HL7 has no escape for single letters of another set than those that MSH-18 names (HL7 2.5 section 2.7.2).
    """

    def spell(character: str) -> str:
        try:
            character.encode(codec)
        except UnicodeEncodeError:
            base = unicodedata.normalize("NFKD", character.translate(_NO_DECOMPOSITION))
            return "".join(c for c in base if not unicodedata.combining(c))
        return character

    return "".join(character if character.isascii() else spell(character) for character in text)


_USUAL = Delimiters()
_VERBATIM = Delimiters("\0", "\0", "\0", "\0", "\0")  # MSH-1 and MSH-2 are not taken apart


def read_header(data: bytes) -> Message:
    """MSH alone, whatever follows and in whatever character set: enough to answer a message that cannot be read."""
    line = data[:4096].lstrip(b"\r\n").partition(b"\r")[0].partition(b"\n")[0].decode("ascii", "replace")
    delimiters = _delimiters(line)
    header = _split_header(line, delimiters)
    return Message((header,), delimiters, CHARACTER_SETS.get(_declared(header, delimiters), "utf-8"))


def _declared(header: Segment, delimiters: Delimiters) -> str:
    """The character set that MSH-18 names; further ones, for single escapes, are not read."""
    raw = header.field(18)
    if raw in CHARACTER_SETS and delimiters == _USUAL:  # none of their names has one of these
        return raw
    return _in_header(raw, delimiters, "ascii", 0, 1, 1).strip().upper()


def parse(data: bytes, limits: Limits = Limits(), header: Message | None = None) -> Message:
    """Reads a message, whose ``header`` may have been read already; raises :class:`MessageError`."""
    header = header or read_header(data)
    delimiters = header.delimiters
    text, codec = _decode(data, header)
    if len(data.translate(None, _CONTROL_BYTES)) < len(data) and (control := _CONTROL.search(text)):
        raise MessageError(
            DATA_TYPE_ERROR,
            f"control character {ord(control[0]):02X} at position {control.start()}: two messages in one frame, or "
            "bytes that are no text",
            _place(text[: control.start()], delimiters),
        )
    # CR ends a segment; CR LF, and LF alone where there is no CR, come from files and are understood.
    lines = text.split("\r") if "\r" in text else text.split("\n")
    if "\n" in text:
        lines = [line.strip("\n") for line in lines]
    lines = [line for line in lines if line]
    if len(lines) > limits.segments_max:
        raise MessageError(SEGMENT_SEQUENCE_ERROR, f"{len(lines)} segments, at most {limits.segments_max} are read")
    segments = [_split_header(lines[0], delimiters)]
    separator, fields_max = delimiters.field, limits.fields_max + 1
    for position, line in enumerate(lines[1:], 2):
        name, *fields = line.split(separator, fields_max)
        if not _is_name(name):
            raise MessageError(SEGMENT_SEQUENCE_ERROR, f"line {position} does not begin with the name of a segment")
        if name == "MSH":
            raise MessageError(SEGMENT_SEQUENCE_ERROR, "a second MSH: send one message in a frame", "MSH(1)-1")
        segments.append(Segment(name, tuple(fields)))
    if text.count(delimiters.component) + text.count(delimiters.subcomponent) > limits.components_max:
        raise MessageError(SEGMENT_SEQUENCE_ERROR, f"more than {limits.components_max} components")
    long = max([len(segment.fields) for segment in segments]) > limits.fields_max
    # MSH-2 has one of each.
    repeated = text.count(delimiters.repetition) > limits.repetitions_max
    if long or repeated or text.count(delimiters.escape) > 1:
        for segment in segments:
            _check(segment, delimiters, codec, limits)
    return Message(tuple(segments), delimiters, codec)


@lru_cache(maxsize=1 << 10)
def _is_name(text: str) -> bool:
    return _SEGMENT_NAME.match(text) is not None


def _place(before: str, delimiters: Delimiters) -> str:
    """The field that the text breaks off in; "" where it is in none."""
    line = re.split("[\r\n]", before)[-1]
    name, number = line[:3], line.count(delimiters.field)
    if not number or not _SEGMENT_NAME.match(name):
        return ""
    return f"{name}-{number + (name == 'MSH')}"


def _delimiters(line: str) -> Delimiters:
    if not line.startswith("MSH") or len(line) < 8:
        raise MessageError(SEGMENT_SEQUENCE_ERROR, "the message does not begin with an MSH segment")
    field = line[3]
    characters = line[4:].split(field, 1)[0]
    # A fifth character is the truncation character of HL7 2.7; MSH-2 may leave out the last ones only if unused.
    if not 4 <= len(characters) <= 5:
        raise MessageError(DATA_TYPE_ERROR, "MSH-2 must name four encoding characters", "MSH-2")
    return _chosen(field, characters)


@lru_cache(maxsize=64)
def _chosen(field: str, characters: str) -> Delimiters:
    chosen = field + characters
    if len(set(chosen)) != len(chosen) or any(c.isalnum() or not "!" <= c <= "~" for c in chosen):
        raise MessageError(DATA_TYPE_ERROR, "the delimiters must be different printable ASCII characters", "MSH-2")
    return Delimiters(field, *characters[:4])


def _split_header(line: str, delimiters: Delimiters) -> Segment:
    return Segment("MSH", (delimiters.field, *line.split(delimiters.field)[1:]))


def _decode(data: bytes, header: Message) -> tuple[str, str]:
    """The text and its codec by MSH-18; without one, ASCII or UTF-8, which cannot be taken for anything else."""
    declared = _declared(header.segments[0], header.delimiters)
    if declared and declared not in CHARACTER_SETS:
        said = "the character set is none of ASCII, UNICODE UTF-8, 8859/1 to 8859/9, 8859/15, CP1250"
        raise MessageError(TABLE_VALUE_NOT_FOUND, said, "MSH-18")
    codec = CHARACTER_SETS.get(declared, "utf-8")
    try:
        text = data.decode(codec)
    except UnicodeDecodeError as error:
        said = f"the bytes are not {declared}" if declared else "no character set is named and the bytes are not UTF-8"
        raise MessageError(DATA_TYPE_ERROR, f"{said} (position {error.start})", "MSH-18") from None
    if codec not in ("utf-8", "ascii") and not data.isascii():
        # Any bytes are some text in a single-byte set. Non-ASCII bytes that happen to be valid UTF-8 are UTF-8.
        if _is_utf8(data):
            raise MessageError(DATA_TYPE_ERROR, f"MSH-18 says {declared} but the bytes are UTF-8", "MSH-18")
        if codec != "cp1250" and (found := _C1.search(text)):
            raise MessageError(DATA_TYPE_ERROR, f"the bytes are not {declared} (position {found.start()})", "MSH-18")
    return text, codec


def _is_utf8(data: bytes) -> bool:
    try:
        data.decode("utf-8")
    except UnicodeDecodeError:
        return False
    return True


def _check(segment: Segment, delimiters: Delimiters, codec: str, limits: Limits) -> None:
    if len(segment.fields) > limits.fields_max:
        raise MessageError(SEGMENT_SEQUENCE_ERROR, f"more than {limits.fields_max} fields in {segment.name}")
    for number, field in enumerate(segment.fields, 1):
        if segment.name == "MSH" and number <= 2:
            continue
        if field.count(delimiters.repetition) >= limits.repetitions_max:
            location = f"{segment.name}-{number}"
            raise MessageError(DATA_TYPE_ERROR, f"more than {limits.repetitions_max} repetitions", location)
        if delimiters.escape in field:
            for sequence in _escapes(delimiters).findall(field):
                if _HEX.match(sequence) and _CONTROL.search(_hex(sequence, codec) or "\0"):
                    raise MessageError(
                        DATA_TYPE_ERROR, "a hexadecimal escape that is no text", f"{segment.name}-{number}"
                    )


@cache
def _path(path: str) -> tuple[str, int, int, int, int, int]:
    match = _PATH.match(path)
    if match is None:
        raise ValueError(f"{path!r} is no path such as PID-3(1)-4-2")
    name, occurrence, field, repetition, component, subcomponent = match.groups()
    return name, int(occurrence or 0), int(field), int(repetition or 0), int(component or 1), int(subcomponent or 1)


@cache
def _escapes(delimiters: Delimiters) -> re.Pattern[str]:
    escape = re.escape(delimiters.escape)
    return re.compile(f"{escape}([^{escape}]{{1,{_ESCAPED_MAX}}}){escape}")


def unescape(text: str, delimiters: Delimiters = Delimiters(), codec: str = "utf-8") -> str:  # noqa: B008
    """Resolves escape sequences (HL7 2.5 section 2.7); what is none, or only formats, is left as it is or dropped."""
    if delimiters.escape not in text:
        return text

    def resolve(match: re.Match[str]) -> str:
        sequence = match[1]
        letters = "FSTRE"
        if len(sequence) == 1 and sequence in letters:
            d = delimiters
            return (d.field, d.component, d.subcomponent, d.repetition, d.escape)[letters.index(sequence)]
        if sequence in ("H", "N"):  # highlighting begins, ends
            return ""
        if sequence in (".br", ".sp"):
            return "\n"
        if _HEX.match(sequence):
            return _hex(sequence, codec) or match[0]
        return match[0]

    return _escapes(delimiters).sub(resolve, text)


def _hex(sequence: str, codec: str) -> str | None:
    try:
        return bytes.fromhex(sequence[1:]).decode(codec)
    except UnicodeDecodeError:
        return None


def escape(text: str, delimiters: Delimiters = Delimiters()) -> str:  # noqa: B008
    """The text as it may stand in a sub-component; line ends become hexadecimal escapes."""
    return text.translate(_escaped(delimiters))


@cache
def _escaped(d: Delimiters) -> dict[int, str]:
    letters = {d.escape: "E", d.field: "F", d.component: "S", d.subcomponent: "T", d.repetition: "R"}
    letters |= {"\r": "X0D", "\n": "X0A"}
    return {ord(character): f"{d.escape}{letter}{d.escape}" for character, letter in letters.items()}


# A field as a text, or its components, each a text or its sub-components.
Composite = str | Sequence[str | Sequence[str]]


def field(*repetitions: Composite, delimiters: Delimiters = Delimiters()) -> str:  # noqa: B008
    """A field as it is sent; trailing empty components are left out."""
    d = delimiters

    def component(value: str | Sequence[str]) -> str:
        if isinstance(value, str):
            return escape(value, d)
        return d.subcomponent.join(escape(v, d) for v in value).rstrip(d.subcomponent)

    def repetition(value: Composite) -> str:
        if isinstance(value, str):
            return escape(value, d)
        return d.component.join(map(component, value)).rstrip(d.component)

    return d.repetition.join(map(repetition, repetitions))


def request_header(
    kind: Sequence[str],
    *,
    control_id: str,
    at: datetime,
    sender: tuple[str, str],
    receiver: tuple[str, str] = ("", ""),
    version: str = "2.5",
) -> Segment:
    """MSH of a message that this node sends, in UTF-8; sender and receiver are application and facility, ``at`` UTC."""
    fields = [""] * 18
    fields[0], fields[1] = Delimiters().field, Delimiters().encoding_characters
    fields[2], fields[3], fields[4], fields[5] = map(escape, (*sender, *receiver))
    fields[6] = at.strftime("%Y%m%d%H%M%S+0000")
    fields[8] = field(kind)
    fields[9], fields[10], fields[11], fields[17] = control_id, "P", version, "UNICODE UTF-8"
    return Segment("MSH", tuple(fields))


# acknowledgements ----------------------------------------------------------------------------------------------------


class Fault(NamedTuple):
    """One thing that ERR says."""

    code: int  # HL7 table 0357
    detail: str
    location: str = ""  # a path; "" for the message as a whole
    warning: bool = False


@dataclass(frozen=True, slots=True)
class Answer:
    """What stands in an answer besides MSH, MSA and ERR; an acknowledgement has nothing."""

    type: tuple[str, ...] = ()  # MSH-9 where it is not ACK^event^ACK
    segments: tuple[Segment, ...] = ()  # fields escaped with the request's delimiters
    code: str = ""  # MSA-1, where it is another than the findings make it
    faults: tuple[Fault, ...] = ()  # warnings of an answer that is given all the same


# What answers a message whose MSH cannot be read.
UNREADABLE = Message((Segment("MSH", ("|", "^~\\&", "", "", "", "", "", "", "", "", "P", "2.5")),))


def acknowledge(
    request: Message,
    code: str,
    *,
    control_id: str,
    at: datetime,
    faults: Sequence[Fault] = (),
    answer: Answer = Answer(),
) -> bytes:
    """Answers in original mode (HL7 2.5 section 2.9.2, ITI TF-2x C.2.3): ``code`` is AA, AE or AR.

    Sender and receiver change places, MSH-10 comes back in MSA-2, and version, processing id, character set and
    delimiters are the request's. ``at`` is UTC.
    """
    delimiters = request.delimiters
    header = request.all("MSH")[0]
    kind = answer.type or tuple(filter(None, ("ACK", request.event, "ACK" if request.event else "")))
    version = request.version or (2, 5)
    fields = [""] * 18
    fields[0], fields[1] = delimiters.field, delimiters.encoding_characters
    fields[2], fields[3], fields[4], fields[5] = header.field(5), header.field(6), header.field(3), header.field(4)
    fields[6] = at.strftime("%Y%m%d%H%M%S+0000")
    fields[8] = field(kind, delimiters=delimiters)
    fields[9] = control_id
    fields[10], fields[11] = header.field(11) or "P", header.field(12) or "2.5"
    fields[17] = header.field(18)
    acknowledgement = [answer.code or code, header.field(10)]
    faults = [*faults, *answer.faults]
    if faults and version < (2, 5):  # MSA-3 is withdrawn in favour of ERR-8
        acknowledgement.append(escape("; ".join(_spoken(fault) for fault in faults), delimiters))
    segments = [Segment("MSH", tuple(_trimmed(fields))), Segment("MSA", tuple(acknowledgement))]
    if version < (2, 5):
        if faults:
            segments.append(Segment("ERR", (delimiters.repetition.join(_err_1(f, delimiters) for f in faults),)))
    else:
        segments.extend(_err(fault, delimiters) for fault in faults)
    segments.extend(answer.segments)
    return Message(tuple(segments), delimiters, request.codec).encode()


def _spoken(fault: Fault) -> str:
    return f"{fault.location}: {fault.detail}" if fault.location else fault.detail


def _trimmed(fields: Sequence[str]) -> Sequence[str]:
    end = len(fields)
    while not fields[end - 1]:
        end -= 1
    return fields[:end]


def _err_1(fault: Fault, delimiters: Delimiters) -> str:
    """ERR-1 before 2.5: segment, its sequence, field position, code (HL7 2.3.1 section 2.24.5.1)."""
    segment, sequence, number = _erl(fault.location)[:3]
    code = (str(fault.code), ERROR_CONDITIONS.get(fault.code, ""), "HL70357")
    return field((segment, sequence, number, code), delimiters=delimiters)


def _err(fault: Fault, delimiters: Delimiters) -> Segment:
    """ERR-2 location, ERR-3 code, ERR-4 severity, ERR-8 text for people (HL7 2.5 section 2.15.5)."""
    code = (str(fault.code), ERROR_CONDITIONS.get(fault.code, ""), "HL70357")
    location = field(_erl(fault.location), delimiters=delimiters)
    severity = "W" if fault.warning else "E"
    text = escape(fault.detail, delimiters)
    return Segment("ERR", ("", location, field(code, delimiters=delimiters), severity, "", "", "", text))


def _erl(location: str) -> tuple[str, ...]:
    """ERL counts segments and repetitions from 1."""
    if not location:
        return ("",) * 6
    match = _PATH.match(location)
    if match is None:  # a segment as a whole
        return (location, "1", "", "", "", "")
    name, occurrence, number, repetition, component, subcomponent = match.groups()
    return (
        name,
        str(int(occurrence or 0) + 1),
        number,
        str(int(repetition or 0) + 1),
        component or "",
        subcomponent or "",
    )

"""Syslog messages (RFC 5424) and their frames on a stream (RFC 5425), as ATNA sends them (ITI TF-2:3.20)."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime

BOM = b"\xef\xbb\xbf"
# What a message carries: DICOM AuditMessage under either name; the older one is what every repository knows.
MSGID_DICOM, MSGID_RFC3881 = "IHE+DICOM", "IHE+RFC-3881"
# Facility 10 (security/authorization), severity 5 (notice): ITI TF-2:3.20.4.1.2.1.
PRIORITY = 10 * 8 + 5
_LENGTH_DIGITS_MAX = 10
_LENGTH = re.compile(rb"[1-9]\d*\Z")
# RFC 5424, section 6: PRI VERSION SP TIMESTAMP SP HOSTNAME SP APP-NAME SP PROCID SP MSGID SP STRUCTURED-DATA [SP MSG].
_HEADER = re.compile(
    rb"<(?P<pri>\d{1,3})>(?P<version>[1-9]\d{0,2}) (?P<time>\S{1,64}) (?P<host>[!-~]{1,255}) (?P<app>[!-~]{1,48}) "
    rb"(?P<proc>[!-~]{1,128}) (?P<msgid>[!-~]{1,32}) "
    rb'(?P<data>-|(?:\[[!-~]{1,32}(?: [!-<>-~]{1,32}="(?:[^"\\\]]|\\.)*")*\])+)(?: |\Z)',
    re.DOTALL,
)
_PRINTABLE = re.compile(r"[^!-~]+")


class SyslogRefused(Exception):  # noqa: N818
    """The bytes are no syslog message; the text says why."""


class FramingLost(Exception):  # noqa: N818
    """The stream does not say where the next message begins: nothing that follows can be read."""


@dataclass(frozen=True, slots=True)
class SyslogMessage:
    """One message; a header field that is "-" is empty."""

    priority: int
    timestamp: datetime | None
    hostname: str
    app_name: str
    procid: str
    msgid: str
    message: bytes  # without a byte order mark


def parse(data: bytes) -> SyslogMessage:
    """Reads one message. Raises SyslogRefused."""
    match = _HEADER.match(data)
    if match is None:
        raise SyslogRefused("the header is not that of RFC 5424")
    if match["version"] != b"1" or int(match["pri"]) > 191:
        raise SyslogRefused("the header names another version than 1, or a priority above 191")
    time = _field(match["time"])
    try:
        timestamp = datetime.fromisoformat(time) if time else None
    except ValueError:
        raise SyslogRefused(f"{time[:40]!r} is no timestamp") from None
    if timestamp is not None and timestamp.tzinfo is None:
        timestamp = timestamp.replace(tzinfo=UTC)
    return SyslogMessage(
        priority=int(match["pri"]),
        timestamp=timestamp,
        hostname=_field(match["host"]),
        app_name=_field(match["app"]),
        procid=_field(match["proc"]),
        msgid=_field(match["msgid"]),
        message=data[match.end() :].removeprefix(BOM),
    )


def payload(data: bytes) -> bytes:
    """What a message carries. Raises SyslogRefused."""
    return parse(data).message


def _field(value: bytes) -> str:
    return "" if value == b"-" else value.decode("ascii")


def write(
    message: bytes, *, at: datetime, hostname: str, app_name: str, procid: str, msgid: str = MSGID_RFC3881
) -> bytes:
    """One message; ``message`` is UTF-8, and the mark that RFC 5424 wants before it is written."""
    fields = (_written(hostname, 255), _written(app_name, 48), _written(procid, 128), _written(msgid, 32))
    stamp = at.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    return f"<{PRIORITY}>1 {stamp} {' '.join(fields)} - ".encode() + BOM + message


def _written(value: str, length: int) -> str:
    return _PRINTABLE.sub("_", value)[:length] or "-"


def frame(data: bytes) -> bytes:
    """A message as RFC 5425 sends it: its length in octets, a space, itself."""
    return b"%d %b" % (len(data), data)


class FrameSplitter:
    """Cuts a stream into messages; knows of no socket."""

    def __init__(self, frame_bytes_max: int) -> None:
        self._limit = frame_bytes_max
        self._buffer = bytearray()
        self._length = -1  # of the message that is being received; -1: its length is

    @property
    def partial(self) -> bytes:
        """What has come of the next message."""
        return bytes(self._buffer)

    def feed(self, data: bytes) -> Iterator[bytes]:
        """The messages that are complete by now. Raises FramingLost after those before the fault."""
        self._buffer += data
        while True:
            if self._length < 0:
                end = self._buffer.find(b" ", 0, _LENGTH_DIGITS_MAX + 1)
                digits = bytes(self._buffer[: end if end >= 0 else None])
                if (
                    (digits and _LENGTH.match(digits) is None)
                    or (end < 0 and len(digits) > _LENGTH_DIGITS_MAX)
                    or end == 0
                ):
                    raise FramingLost("a message begins with its length in octets and a space (RFC 5425, section 4.3)")
                if end < 0:
                    return
                self._length = int(digits)
                if self._length > self._limit:
                    raise FramingLost(f"a message of {self._length} octets; the limit is {self._limit}")
                del self._buffer[: end + 1]
            if len(self._buffer) < self._length:
                return
            whole = bytes(self._buffer[: self._length])
            del self._buffer[: self._length]
            self._length = -1
            yield whole

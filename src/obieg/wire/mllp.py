"""Minimal Lower Layer Protocol: where a message begins and ends in a stream (HL7 2.5 appendix C.4, ITI TF-2x C.2.1).

A frame is VT, the message, FS CR. Bytes before a VT belong to nobody and are passed over. A VT or FS within a frame is
left in it for the parser to refuse, because guessing where the sender's mistake began could answer the wrong message.
"""

from __future__ import annotations

from dataclasses import dataclass

START = b"\x0b"
END = b"\x1c\r"
_HEAD_BYTES = 4096  # kept of a frame that is too long, so that its MSH can be answered


@dataclass(frozen=True, slots=True)
class Frame:
    """A whole message, without its frame bytes."""

    data: bytes


@dataclass(frozen=True, slots=True)
class TooLong:
    """The stream cannot be followed any further: a frame passed the limit; ``head`` is how it began."""

    head: bytes


class FrameSplitter:
    """Cuts a stream into frames, however it is chunked; holds at most the limit and one chunk."""

    def __init__(self, frame_bytes_max: int) -> None:
        self._limit = frame_bytes_max
        self._buffer = bytearray()  # of the frame that has begun
        self._inside = False
        self._searched = 0
        self._failed = False
        self.junk_bytes = 0  # passed over between frames

    @property
    def partial(self) -> bool:
        """Whether a frame has begun and not ended."""
        return self._inside

    def feed(self, chunk: bytes) -> list[Frame | TooLong]:
        """The frames that this chunk completes; after :class:`TooLong` nothing more comes."""
        events: list[Frame | TooLong] = []
        while chunk and not self._failed:
            if not self._inside:
                start = chunk.find(START)
                self.junk_bytes += len(chunk) if start < 0 else start
                if start < 0:
                    break
                chunk = chunk[start + 1 :]
                self._inside = True
            self._buffer += chunk
            end = self._buffer.find(END, max(0, self._searched - 1))  # FS may have come in the chunk before
            if end > self._limit or (end < 0 and len(self._buffer) > self._limit + 1):
                self._failed = True
                events.append(TooLong(bytes(self._buffer[: min(_HEAD_BYTES, self._limit)])))
                self._buffer.clear()
            elif end < 0:
                self._searched = len(self._buffer)
                break
            else:
                events.append(Frame(bytes(self._buffer[:end])))
                chunk = bytes(self._buffer[end + len(END) :])
                self._buffer.clear()
                self._inside = False
                self._searched = 0
        return events


def encode(message: bytes) -> bytes:
    """The message in its frame."""
    return START + message + END

"""MTOM packages as they leave the node, questions and answers alike (ITI TF-2 Appendix V.8)."""

from __future__ import annotations

import uuid
from collections.abc import AsyncIterator, Sequence

from obieg.edges.content import MEMORY_BYTES_MAX
from obieg.protocol import Content
from obieg.wire import mime, soap

_ROOT_ID = "root@obieg"
_ROOT_TYPE = f'{soap.XOP_TYPE}; charset=UTF-8; type="{soap.SOAP_TYPE}"'


class Package:
    """A SOAP envelope with the documents that it refers to."""

    def __init__(self, root: bytes, parts: Sequence[tuple[str, Content]], *, action: str = "") -> None:
        """``parts`` are (Content-ID, content); ``action`` is named in the Content-Type of questions."""
        boundary = f"obieg_{uuid.uuid4().hex}"
        self._head = mime.part_head(boundary, _ROOT_TYPE, _ROOT_ID)[2:] + root
        self._parts = [
            (mime.part_head(boundary, content.content_type or "application/octet-stream", content_id), content)
            for content_id, content in parts
        ]
        self._tail = mime.closing(boundary)
        sizes = (len(part_head) + content.size for part_head, content in self._parts)
        self.size = len(self._head) + sum(sizes) + len(self._tail)  # bytes
        self.content_type = (
            f'multipart/related; type="{soap.XOP_TYPE}"; boundary="{boundary}"; start="<{_ROOT_ID}>"; '
            f'start-info="{soap.SOAP_TYPE}"' + (f'; action="{action}"' if action else "")
        )

    async def pieces(self) -> AsyncIterator[bytes]:
        """The bytes; a package of small documents is one piece."""
        held = [self._head]
        size = 0
        for part_head, content in self._parts:
            held.append(part_head)
            async for piece in content.chunks():
                held.append(piece)
                size += len(piece)
                if size > MEMORY_BYTES_MAX:
                    yield b"".join(held)
                    held.clear()
                    size = 0
        held.append(self._tail)
        yield b"".join(held)

"""Makes of a document what people see (:mod:`obieg.mapping.cda_view`), while the node goes on serving others.

It asks nobody for permission and leaves no audit: who hands it a document has retrieved it by rights.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import TypeVar

from obieg.mapping.cda_html import Picture
from obieg.mapping.cda_view import View, read_pictures, read_view
from obieg.wire.cda import CdaRefused
from obieg.wire.cda_body import TooMuch

__all__ = ["CannotShow", "Picture", "View", "pictures", "view"]

_T = TypeVar("_T")


class CannotShow(Exception):  # noqa: N818
    """The document is no CDA, or larger than a page can be; it can still be had as it is."""


async def view(document: bytes, *, language: str, images: str) -> View:
    """The document for a page in ``language``, whose pictures are had from ``images``/number. Raises CannotShow."""
    return await _apart(lambda: read_view(document, language=language, images=images))


async def pictures(document: bytes) -> dict[str, tuple[Picture, bytes]]:
    """The pictures and other files in the document, by their numbers. Raises CannotShow."""
    return await _apart(lambda: read_pictures(document))


async def _apart(made: Callable[[], _T]) -> _T:
    try:
        return await asyncio.to_thread(made)
    except (CdaRefused, TooMuch) as error:
        raise CannotShow(str(error)) from None

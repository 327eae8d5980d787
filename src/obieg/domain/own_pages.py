"""Whether a request that changes something comes from a page of this node (Fetch Metadata; RFC 6454, section 7).

A browser shows a cookie whoever's page asks for it. What it says besides, no page can make it say: Sec-Fetch-Site, and
the header Origin, which is ``null`` for pages that send no referrer. All current browsers send one of them.
"""

from __future__ import annotations

from collections.abc import Collection

SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS"})  # they change nothing (RFC 9110, section 9.2.1)


def is_own_page(origin: str, fetch_site: str, own: Collection[str]) -> bool:
    """``origin`` and ``fetch_site`` are the headers, "" where absent; ``own`` are the origins of this node."""
    if fetch_site:
        return fetch_site == "same-origin" and (origin in ("", "null") or origin in own)
    return origin in own

"""Encrypted files of SMART Health Links: compact JWE, ``dir`` with A256GCM, compressed (RFC 7516; RFC 1951).

The library joserfc does the arithmetic and chooses the nonce; each key encrypts one file only.
"""

from __future__ import annotations

from joserfc import jwe
from joserfc.jwk import OctKey

KEY_BYTES = 32
_HEADER = {"alg": "dir", "enc": "A256GCM", "zip": "DEF"}


def encrypt(data: bytes, key: bytes, content_type: str) -> bytes:
    """The file under a key of 32 bytes; its media type stands in the header (``cty``)."""
    written = jwe.encrypt_compact({**_HEADER, "cty": content_type}, data, OctKey.import_key(key))
    return written.encode("ascii")

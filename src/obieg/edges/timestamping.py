"""Time-stamps of RFC 3161 over HTTP (section 3.4): asking an authority for one, and checking those that are kept."""

from __future__ import annotations

import ssl
from collections.abc import Sequence
from datetime import datetime

import httpx
from cryptography.x509 import Certificate
from rfc3161_client import (
    HashAlgorithm,
    TimestampRequestBuilder,
    VerificationError,
    VerifierBuilder,
    decode_timestamp_response,
)

from obieg.domain.problems import RetryLater

TIMEOUT_S = 20.0
ANSWER_BYTES_MAX = 64 << 10
_QUERY = "application/timestamp-query"
_REPLY = "application/timestamp-reply"
_CERTIFICATES = 0xA0  # [0] IMPLICIT


class TimestampInvalid(ValueError):  # noqa: N818 - it says what is wrong with a time-stamp
    """A time-stamp does not prove what it should."""


class TimestampAuthority:
    """Asks one authority; an answer is given out only when it holds."""

    def __init__(self, url: str, roots: Sequence[Certificate], *, tls: ssl.SSLContext) -> None:
        """``roots`` are the certificates that the authority's own must lead to; ``tls`` says whom its server may be."""
        self._url = url
        self._roots = roots
        self._tls = tls

    async def stamp(self, data: bytes) -> bytes:
        """The TimeStampResp over ``data``. Raises RetryLater where there is none that holds."""
        builder = TimestampRequestBuilder().data(data).hash_algorithm(HashAlgorithm.SHA256)
        request = builder.nonce(nonce=True).cert_request(cert_request=True).build()
        headers = {"Content-Type": _QUERY, "Accept": _REPLY}
        try:
            async with (
                httpx.AsyncClient(timeout=TIMEOUT_S, verify=self._tls) as http,
                http.stream("POST", self._url, content=request.as_bytes(), headers=headers) as answer,
            ):
                if answer.status_code != 200 or answer.headers.get("content-type", "").partition(";")[0] != _REPLY:
                    raise RetryLater(f"{self._url} answers HTTP {answer.status_code} and no time-stamp")
                token = bytearray()
                async for piece in answer.aiter_bytes():
                    token += piece
                    if len(token) > ANSWER_BYTES_MAX:
                        raise RetryLater(f"{self._url} answers more than {ANSWER_BYTES_MAX} bytes")
        except (httpx.HTTPError, OSError) as error:
            raise RetryLater(f"{self._url} does not answer ({type(error).__name__}: {error})") from error
        try:
            check_timestamp(bytes(token), data, self._roots, nonce=request.nonce)
        except TimestampInvalid as error:
            raise RetryLater(f"what {self._url} answers is no time-stamp of what was asked: {error}") from error
        return bytes(token)


def check_timestamp(token: bytes, data: bytes, roots: Sequence[Certificate], *, nonce: int | None = None) -> datetime:
    """When ``data`` existed according to a TimeStampResp; raises :class:`TimestampInvalid`."""
    try:
        response = decode_timestamp_response(_in_order(token))
        VerifierBuilder(roots=list(roots), nonce=nonce).build().verify_message(response, data)
    except (ValueError, IndexError, VerificationError) as error:
        raise TimestampInvalid(str(error)) from error
    return response.tst_info.gen_time


def _in_order(token: bytes) -> bytes:
    """The same with the certificates of its SignedData (RFC 5652, section 5.1) in the order that DER wants of a SET.

    OpenSSL and others send them as they come; the parser takes DER only. Their order is not part of what is signed.
    """
    response, _ = _inside(token, 0)
    _, end_of_status = _inside(token, response)
    content_info, _ = _inside(token, end_of_status)
    _, end_of_type = _inside(token, content_info)
    explicit, _ = _inside(token, end_of_type)
    at, _ = _inside(token, explicit)
    for _ in range(3):  # version, digestAlgorithms, encapContentInfo
        _, at = _inside(token, at)
    if token[at] != _CERTIFICATES:
        return token
    begin, end = _inside(token, at)
    certificates: list[bytes] = []
    at = begin
    while at < end:
        _, after = _inside(token, at)
        certificates.append(token[at:after])
        at = after
    return token[:begin] + b"".join(sorted(certificates)) + token[end:]


def _inside(data: bytes, at: int) -> tuple[int, int]:
    """Where the content of a DER element begins and ends."""
    size = data[at + 1]
    begin = at + 2
    if size & 0x80:
        begin += size & 0x7F
        size = int.from_bytes(data[at + 2 : begin], "big")
    if begin + size > len(data):
        raise ValueError("the time-stamp is cut off")
    return begin, begin + size

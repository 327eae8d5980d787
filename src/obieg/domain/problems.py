"""What can be wrong with a request, said once; edges render it in their protocol's own terms.

``codes/problems.toml`` gives, for each code, the XDS error code, HTTP status, FHIR issue type, HL7 v2 ERR code, SOAP
fault and audit outcome.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

# An answer is never much longer than what was asked: more findings than these are only counted, longer texts are cut.
FINDINGS_MAX = 200
_TEXT_MAX = 2_000


class Finding(NamedTuple):
    """One thing that is wrong (or, with ``warning``, only worth saying)."""

    code: str  # a key of codes/problems.toml
    detail: str  # what happened, what it means, what to do; never a stack trace, never clinical content
    location: str = ""  # which element or attribute, in the request's own terms
    warning: bool = False
    reason: str = ""  # for audit and log alone; the caller never sees it


class Problem(Exception):  # noqa: N818 - the word of the house
    """The peer's request cannot be fulfilled; carries all findings of the request, at least one."""

    def __init__(self, findings: Sequence[Finding]) -> None:
        told = [f if len(f.detail) + len(f.location) <= _TEXT_MAX else _cut(f) for f in findings[:FINDINGS_MAX]]
        if len(findings) > FINDINGS_MAX:
            told.append(told[-1]._replace(detail=f"{len(findings) - FINDINGS_MAX} more of what is wrong is not listed"))
        super().__init__("; ".join(f"{f.code}: {f.detail}" for f in told))
        self.findings = tuple(told)

    @classmethod
    def of(cls, code: str, detail: str, location: str = "") -> Problem:
        """A problem with one finding."""
        return cls((Finding(code, detail, location),))


def _cut(finding: Finding) -> Finding:
    return finding._replace(detail=finding.detail[: _TEXT_MAX // 2], location=finding.location[: _TEXT_MAX // 4])


class RetryLater(Exception):  # noqa: N818
    """Our own side failed in a way that may pass (database away, disk full); the request may be repeated."""


class NotSealed(RetryLater):
    """The audit has not been sealed for too long: nothing is served."""

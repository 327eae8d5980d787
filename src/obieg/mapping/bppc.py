"""Acknowledgements of privacy policies (IHE BPPC, ITI TF-1:19, TF-3:5.1) as consents.

A document of BPPC's formats says by its eventCodeList which policies the patient has acknowledged, and by its service
times for how long. What a policy says stands in ``[policies]`` of ``codes/access_consents.toml``; one that is not there
says nothing. The document is the consent: as long as it is approved it holds, and a document that replaces it, or its
removal, ends it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from datetime import datetime

from obieg.domain.access import Consent, Period, Provision
from obieg.domain.documents import DocumentEntry, Value
from obieg.domain.problems import Finding
from obieg.mapping.consent_meaning import policy_provisions
from obieg.mapping.consent_references import TABLE
from obieg.mapping.directory_terms import span
from obieg.mapping.fhir_codes import system_of

_OID = "urn:oid:"
_FORMATS = "urn:ihe:iti:bppc"  # what their formatCodes begin with, in statements and triggers, too


class Acknowledgement(Value, frozen=True):
    """What the registry knows of such a document."""

    document: str  # entryUUID, without urn:uuid:
    policies: tuple[str, ...]  # code^^scheme
    begin: str | None = None  # DTM
    end: str | None = None


def consents(acknowledgements: Iterable[Acknowledgement]) -> Iterator[Consent]:
    """What documents of BPPC say that hold."""
    for one in acknowledgements:
        found = [provision for policy in one.policies for provision in _said(policy)]
        if found:
            period = Period(_bound(one.begin, end=False), _bound(one.end, end=True))
            ordered = sorted(found, key=lambda provision: not provision.permit)
            yield Consent(f"DocumentReference/{one.document}", period, tuple(ordered))


def permitting(entries: Iterable[DocumentEntry]) -> Iterator[Finding]:
    """What professionals may not hand over: documents by which a patient would permit everybody to read, them, too."""
    for entry in entries:
        format_code = entry.format_code.code if entry.format_code else ""
        policies = [f"{code.code}^^{code.scheme}" for code in entry.event_code_list]
        if format_code.startswith(_FORMATS) and any(p.permit for policy in policies for p in _said(policy)):
            said = (
                "an acknowledgement that permits is not registered in the name of a professional, to whom it would open"
            )
            yield Finding("XDSRegistryMetadataError", said, f"DocumentEntry {entry.entry_uuid}: eventCodeList")


def _said(policy: str) -> tuple[Provision, ...]:
    code, _, scheme = policy.partition("^^")
    for name in (code, f"{_OID}{code}", f"{system_of(scheme, code)}#{code}"):
        if name in TABLE["policies"]:
            return policy_provisions(name)
    return ()


def _bound(dtm: str | None, *, end: bool) -> datetime | None:
    """The first moment of a DTM; of a day, month or year that something ends on, the first one after it."""
    if not dtm:
        return None
    day = "-".join(filter(None, (dtm[:4], dtm[4:6], dtm[6:8])))
    clock = dtm[8:].ljust(6, "0")
    found = span(f"{day}T{clock[:2]}:{clock[2:4]}:{clock[4:6]}Z" if len(dtm) > 8 else day)
    return datetime.fromisoformat(found[end and len(dtm) <= 8]) if found else None

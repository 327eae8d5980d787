"""Stored queries as the domain understands them, whichever protocol asked (ITI TF-2:3.18.4.1.2.3.7)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from obieg.domain.documents import Value
from obieg.domain.identifiers import PatientId


class StoredQuery(Value, frozen=True):
    """One question to the registry.

    ``question`` names the statement that answers it; ``parameters`` are that statement's, complete. ``patient`` is set
    for the questions that name a patient. ``single_patient``: an answer about several patients is an error.
    """

    name: str  # "FindDocuments"
    question: str
    parameters: Mapping[str, Any]
    patient: PatientId | None = None
    leaf: bool = True  # LeafClass; False: ObjectRef
    only_status_and_type: bool = False  # FindDocuments that nothing else narrows
    text: bytes = b""  # the query as asked, for the audit

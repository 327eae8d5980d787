"""All transactions that a node can answer: this list is the conformance statement."""

from __future__ import annotations

from obieg.protocol import Transaction
from obieg.transactions import (
    iti08_patient_identity_feed,
    iti09_pix_query,
    iti18_registry_stored_query,
    iti41_provide_and_register_document_set,
    iti42_register_document_set,
    iti43_retrieve_document_set,
)

TRANSACTIONS: tuple[Transaction, ...] = (
    iti08_patient_identity_feed.TRANSACTION,
    iti09_pix_query.TRANSACTION,
    iti18_registry_stored_query.TRANSACTION,
    iti41_provide_and_register_document_set.TRANSACTION,
    iti42_register_document_set.TRANSACTION,
    iti43_retrieve_document_set.TRANSACTION,
)

"""All transactions that a node can answer, and those that it begins by itself: the conformance statement."""

from __future__ import annotations

from obieg.protocol import Notification, Transaction
from obieg.transactions import (
    iti08_patient_identity_feed,
    iti09_pix_query,
    iti10_pix_update_notification,
    iti18_registry_stored_query,
    iti21_patient_demographics_query,
    iti22_patient_demographics_and_visit_query,
    iti30_patient_identity_management,
    iti41_provide_and_register_document_set,
    iti42_register_document_set,
    iti43_retrieve_document_set,
    iti44_patient_identity_feed_v3,
    iti45_pixv3_query,
    iti46_pixv3_update_notification,
    iti47_patient_demographics_query_v3,
    iti55_cross_gateway_patient_discovery,
    iti64_notify_xad_pid_link_change,
    iti78_mobile_patient_demographics_query,
    iti83_mobile_patient_identifier_cross_reference_query,
    iti104_patient_identity_feed_fhir,
    iti119_patient_demographics_match,
)

TRANSACTIONS: tuple[Transaction, ...] = (
    iti08_patient_identity_feed.TRANSACTION,
    iti09_pix_query.TRANSACTION,
    iti18_registry_stored_query.TRANSACTION,
    iti21_patient_demographics_query.TRANSACTION,
    iti22_patient_demographics_and_visit_query.TRANSACTION,
    iti30_patient_identity_management.TRANSACTION,
    iti41_provide_and_register_document_set.TRANSACTION,
    iti42_register_document_set.TRANSACTION,
    iti43_retrieve_document_set.TRANSACTION,
    iti44_patient_identity_feed_v3.TRANSACTION,
    iti45_pixv3_query.TRANSACTION,
    iti47_patient_demographics_query_v3.TRANSACTION,
    iti55_cross_gateway_patient_discovery.TRANSACTION,
    iti64_notify_xad_pid_link_change.TRANSACTION,
    iti78_mobile_patient_demographics_query.TRANSACTION,
    iti83_mobile_patient_identifier_cross_reference_query.TRANSACTION,
    iti104_patient_identity_feed_fhir.TRANSACTION,
    iti119_patient_demographics_match.TRANSACTION,
)

NOTIFICATIONS: tuple[Notification, ...] = (
    iti10_pix_update_notification.NOTIFICATION,
    iti46_pixv3_update_notification.NOTIFICATION,
    iti64_notify_xad_pid_link_change.NOTIFICATION,
)

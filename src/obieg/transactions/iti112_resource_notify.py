"""ITI-112 Resource Notify: the broker tells a subscriber of a document (a FHIR Bundle to the subscriber's address).

https://profiles.ihe.net/ITI/DSUBm/ITI-112.html
"""

from __future__ import annotations

from obieg.mapping import dsubm
from obieg.protocol import FhirBinding, Notification

NOTIFICATION = Notification(
    id="ITI-112",
    name="Resource Notify",
    spec="https://profiles.ihe.net/ITI/DSUBm/ITI-112.html",
    initiator="Resource Notification Broker",
    responder="Resource Notification Recipient",
    binding=FhirBinding(resources=("Bundle",), interactions=("create",), conforms_to=""),
    event="notification",
    write=dsubm.write_message,
    read=dsubm.read_message_answer,
    audit=dsubm.audit_notice,
)

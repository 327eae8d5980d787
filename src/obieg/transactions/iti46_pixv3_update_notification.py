"""ITI-46 PIXV3 Update Notification: the index tells a subscriber which identifiers name a patient (SOAP).

https://profiles.ihe.net/ITI/TF/Volume2/ITI-46.html
"""

from __future__ import annotations

from obieg.mapping import hl7v3, pixv3
from obieg.protocol import Notification, SoapOperation

NOTIFICATION = Notification(
    id="ITI-46",
    name="PIXV3 Update Notification",
    spec="https://profiles.ihe.net/ITI/TF/Volume2/ITI-46.html",
    initiator="Patient Identifier Cross-reference Manager",
    responder="Patient Identifier Cross-reference Consumer",
    binding=SoapOperation(
        port_type="PIXConsumer_PRPA_IN201302UV02",
        action=hl7v3.action_of("revise"),
        response_action=hl7v3.action_of("acknowledgement"),
        request=hl7v3.element_of("revise"),
        response=hl7v3.element_of("acknowledgement"),
    ),
    event="patient_record_sent",
    write=pixv3.write_notification,
    read=pixv3.read_acknowledgement,
    audit=pixv3.audit_notification,
)

"""ITI-10 PIX Update Notification: the index tells a subscriber which identifiers name a patient (HL7 v2 over MLLP).

https://profiles.ihe.net/ITI/TF/Volume2/ITI-10.html
"""

from __future__ import annotations

from obieg.mapping import acknowledgement, pix_update
from obieg.protocol import MllpBinding, Notification

NOTIFICATION = Notification(
    id="ITI-10",
    name="PIX Update Notification",
    spec="https://profiles.ihe.net/ITI/TF/Volume2/ITI-10.html",
    initiator="Patient Identifier Cross-reference Manager",
    responder="Patient Identifier Cross-reference Consumer",
    binding=MllpBinding("ADT", ("A31",)),
    event="patient_record_sent",
    write=pix_update.write,
    read=acknowledgement.read,
    audit=pix_update.audit,
)

"""ITI-8 Patient Identity Feed: a source announces, updates or merges patients (HL7 v2 ADT over MLLP).

https://profiles.ihe.net/ITI/TF/Volume2/ITI-8.html
"""

from __future__ import annotations

from obieg.mapping import adt
from obieg.protocol import MllpBinding, Transaction
from obieg.wire.hl7v2 import Answer

TRANSACTION = Transaction(
    id="ITI-8",
    name="Patient Identity Feed",
    spec="https://profiles.ihe.net/ITI/TF/Volume2/ITI-8.html",
    actor="patient_index",
    initiator="Patient Identity Source",
    responder="Document Registry",
    binding=MllpBinding("ADT", ("A01", "A04", "A05", "A08", "A40")),
    event="patient_record",
    decode=lambda request: adt.patient_feed(request.message, request.authorities),
    serve=lambda index, feed, context: index.feed(feed, context),
    encode=lambda *_: Answer(),
    refuse=lambda *_: Answer(),
    audit=adt.audit,
    permission="patient_index:identity:feed",
)

"""ITI-30 Patient Identity Management: persons are announced, updated, merged, renumbered (HL7 v2.5 ADT over MLLP).

A merge (A40) is in ITI-8 as well: there it is a message of HL7 2.3.1, here one of 2.5 (ITI TF-2:3.8.3, 3.30.3).

https://profiles.ihe.net/ITI/TF/Volume2/ITI-30.html
"""

from __future__ import annotations

from obieg.mapping import adt
from obieg.protocol import MllpBinding, Transaction
from obieg.wire.hl7v2 import Answer

TRANSACTION = Transaction(
    id="ITI-30",
    name="Patient Identity Management",
    spec="https://profiles.ihe.net/ITI/TF/Volume2/ITI-30.html",
    actor="patient_index",
    initiator="Patient Demographics Supplier",
    responder="Patient Demographics Consumer",
    binding=MllpBinding("ADT", ("A28", "A31", "A40", "A47"), since=(2, 5)),
    event="patient_record",
    decode=lambda request: adt.patient_feed(request.message, request.authorities),
    serve=lambda index, feed, context: index.feed(feed, context),
    encode=lambda *_: Answer(),
    refuse=lambda *_: Answer(),
    audit=adt.audit,
    permission="patient_index:identity:feed",
)

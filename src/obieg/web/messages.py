"""Messages as pages of patients and of professionals show them, read from Communications."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any, NamedTuple

from obieg.web.patient_records import coded, first, moment, resources


class Message(NamedTuple):
    """One message."""

    who: str
    role: str
    of_patient: bool
    text: str
    sent: datetime | None
    read: datetime | None


class Thread(NamedTuple):
    """A question and its answers, in their order."""

    id: str
    subject: str
    patient: str  # name
    facility: str  # name, or its number
    facility_id: str  # system|value
    closed: bool
    messages: tuple[Message, ...]

    @property
    def last(self) -> Message:
        """The newest message."""
        return self.messages[-1]

    def unread(self, *, of_patient: bool) -> int:
        """Messages that one side has not read."""
        return sum(m.read is None and m.of_patient != of_patient for m in self.messages)


def read_threads(bundle: Mapping[str, Any]) -> list[Thread]:
    """Of ``$messages`` or ``$inbox``, in the order of the answer."""
    found: dict[str, Thread] = {}
    for resource in resources(bundle):
        id_ = first(resource["identifier"])["value"]
        by_patient = "identifier" not in resource["sender"]
        place = first(resource["recipient"]) if by_patient else resource["sender"]
        message = Message(
            resource["sender"].get("display", ""),
            coded(first(resource.get("category", ()))),
            by_patient,
            first(resource["payload"])["contentString"],
            moment(resource["sent"]),
            moment(resource.get("received", "")),
        )
        known = found.get(id_)
        if known is not None:
            name = known.facility or (place.get("display", "") if by_patient else "")
            found[id_] = known._replace(messages=(*known.messages, message), facility=name)
            continue
        identifier = place["identifier"]
        found[id_] = Thread(
            id_,
            resource["topic"]["text"],
            resource["subject"].get("display", ""),
            place.get("display", "") if by_patient else "",
            f"{identifier.get('system', '')}|{identifier['value']}",
            "statusReason" in resource,
            (message,),
        )
    return list(found.values())


def said(text: str) -> dict[str, Any]:
    """A text as the parameter of an operation."""
    return {
        "name": "text",
        "resource": {"resourceType": "Communication", "status": "completed", "payload": [{"contentString": text}]},
    }

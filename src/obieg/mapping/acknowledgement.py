"""Acknowledgements of HL7 v2 messages that this node sends (HL7 2.5 section 2.9.2, tables 0008 and 0357)."""

from __future__ import annotations

from collections.abc import Iterator

from obieg.domain.problems import Problem, RetryLater
from obieg.wire.hl7v2 import Message

_ACCEPTED = ("AA", "CA")
_FAULTY = ("AE", "CE")
# Conditions that pass: the record is locked, the receiver failed within.
_PASSING = ("206", "207")


def read(answer: Message) -> None:
    """Returns where the message was accepted.

    Raises Problem where the receiver finds the message wrong (AE), for which waiting helps nothing; RetryLater where it
    rejects it for reasons of its own (AR, or AE with conditions that pass), or gives no acknowledgement.
    """
    code = answer.get("MSA-1")
    if code in _ACCEPTED:
        return
    said = "; ".join(_said(answer)) or "it does not say why"
    conditions = set(_conditions(answer))
    passes = bool(conditions) and conditions <= set(_PASSING)
    if code in _FAULTY and not passes:
        raise Problem.of("NotificationRefused", f"the receiver answers {code}: {said}", "MSA-1")
    raise RetryLater(f"the receiver answers {code or 'without MSA-1'}: {said}")


def _conditions(answer: Message) -> Iterator[str]:
    """ERR-3, before 2.5 the code in ERR-1, else MSA-6."""
    for number in range(len(answer.all("ERR"))):
        if code := answer.get(f"ERR({number})-3") or answer.get(f"ERR({number})-1-4"):
            yield code
    if code := answer.get("MSA-6"):
        yield code


def _said(answer: Message) -> Iterator[str]:
    """What the receiver says to people: MSA-3, and of each error where it is and what."""
    if text := answer.get("MSA-3"):
        yield text
    for number in range(len(answer.all("ERR"))):
        place = "-".join(filter(None, (answer.get(f"ERR({number})-2-{part}") for part in (1, 3, 5))))
        code = answer.get(f"ERR({number})-3") or answer.get(f"ERR({number})-1-4")
        text = answer.get(f"ERR({number})-8") or answer.get(f"ERR({number})-7") or answer.get(f"ERR({number})-3-2")
        if found := " ".join(filter(None, (place, code, text))):
            yield found

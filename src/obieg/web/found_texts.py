"""Words that were found in the text of documents, as pages show them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from obieg.domain.problems import Problem, RetryLater
from obieg.domain.text_search import stems
from obieg.web.desk import Desk, Visit


class Passage(NamedTuple):
    """Where something was found in a document."""

    section: str
    pieces: Sequence[tuple[str, bool]]  # text, and whether it is what was looked for


class FoundTexts(NamedTuple):
    """What was found, by id of the DocumentReference; ``answered`` is False where nothing could be looked through."""

    text: str
    passages: Mapping[str, Passage]
    looked: int = 0
    left: int = 0
    more: bool = False
    answered: bool = True


async def find_texts(desk: Desk, visit: Visit, patient: str, text: str) -> FoundTexts | None:
    """Asks for it in the name of who visits; None where no word is asked for."""
    if not stems(text):
        return None
    try:
        answer = await desk.fhir(visit, "[id]/$search-documents", "Patient", patient, parameters=[("text", text)])
    except (Problem, RetryLater):
        return FoundTexts(text, {}, answered=False)
    return _read(text, answer.body)


def _read(text: str, parameters: Mapping[str, Any]) -> FoundTexts:
    given = parameters.get("parameter", ())
    numbers = {p["name"]: value for p in given for key, value in p.items() if key.startswith("value")}
    passages = {}
    for match in (p["part"] for p in given if p["name"] == "match"):
        said = {p["name"]: p for p in match}
        pieces = [(p["valueString"], p["name"] == "hit") for p in match if p["name"] in ("text", "hit")]
        document = said["document"]["valueReference"]["reference"].rpartition("/")[2]
        passages[document] = Passage(said.get("section", {}).get("valueString", ""), pieces)
    return FoundTexts(text, passages, numbers["looked"], numbers["left"], numbers["more"])

"""What a filter shows of documents, as the SQL of the stores finds it (docs/access.md, What hides)."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from msgspec.structs import replace

from obieg.domain.access import Condition, DocumentFacts, Filter, Source
from obieg.domain.documents import Value

_LEVELS = {"N": 0, "R": 1, "V": 2}  # confidentiality, from the lowest
_NORMAL = frozenset("N")


def shown(permitted: Filter | None, documents: Sequence[DocumentFacts]) -> frozenset[str]:
    """The entryUUIDs of the documents that a filter shows; all documents of their lineages must be among them."""
    if permitted is None:
        return frozenset(document.entry_uuid for document in documents)
    hidden: set[str] = set()
    opened: list[Look] = []
    for look in looks(documents):
        said = {effect(source, look) for source in permitted}
        if False in said:
            hidden.add(look.lineage)
        elif True in said:
            opened.append(look)
    return frozenset(look.document.entry_uuid for look in opened if look.lineage not in hidden)


def surely(permitted: Filter | None, type_code: str, created_from: str, created_to: str) -> bool:
    """Whether a filter shows whatever document there may be of this type, created in ``[from, to)``; "": any.

    It permits one that is N and of which nothing else is known, at any time of these; and no rule denies one, whatever
    else it may be, unless a later rule of its source takes that back for all of them.
    """
    if permitted is None:
        return True
    known = {"type_codes"} if type_code else set()
    if created_from or created_to:
        known |= {"created_from", "created_to"}
    sources = [_at_worst(source, known) for source in permitted]
    ends = {t for s in sources for r in s.rules for t in (r.condition.created_from, r.condition.created_to) if t}
    # Between two of these times the rules say the same.
    times = {created_from or _EARLIEST} | {t for t in ends if (created_from or _EARLIEST) < t < (created_to or _LATEST)}
    supposed = [DocumentFacts(f"supposed-{at}", type_code=type_code, creation_time=at) for at in sorted(times)]
    return len(shown(tuple(sources), supposed)) == len(supposed)


_EARLIEST, _LATEST = "0" * 14, "9" * 14


def _at_worst(source: Source, known: Collection[str]) -> Source:
    """What denies by an attribute that is not known denies; what asks for a label takes nothing of that back."""
    if not any(rule.permit is False for rule in source.rules):
        return source
    unknown = {name: None for name in Condition.__struct_fields__ if name not in known}
    rules = [
        replace(rule, condition=replace(rule.condition, **unknown)) if rule.permit is False else rule
        for rule in source.rules
        if rule.permit is False or rule.condition.labels is None
    ]
    return replace(source, rules=tuple(rules))


class Look(Value, frozen=True):
    """A document as rules look at it."""

    document: DocumentFacts
    lineage: str  # what names its lineage
    family: frozenset[str]  # the entryUUIDs of its lineage
    labels: frozenset[str]
    level: int  # of confidentiality


def looks(documents: Sequence[DocumentFacts]) -> list[Look]:
    """The documents in their order; all documents of their lineages must be among them."""
    families: dict[str, set[str]] = {}
    for document in documents:
        families.setdefault(document.lineage or document.entry_uuid, set()).add(document.entry_uuid)
    found = []
    for document in documents:
        lineage, labels = document.lineage or document.entry_uuid, frozenset(document.labels)
        if labels.isdisjoint(_LEVELS):
            labels |= _NORMAL
        level = max(_LEVELS.get(label, 0) for label in labels)
        found.append(Look(document, lineage, frozenset(families[lineage]), labels, level))
    return found


def effect(source: Source, look: Look) -> bool | None:
    """What a source says of a document: its last rule that fits; None: nothing."""
    for rule in reversed(source.rules):
        if (rule.permit is False or look.level <= _LEVELS[rule.max]) and _fits(rule.condition, look):
            return rule.permit
    return None


def _fits(asked: Condition, look: Look) -> bool:
    document = look.document
    return (
        (asked.documents is None or not look.family.isdisjoint(asked.documents))
        and (asked.class_codes is None or document.class_code in asked.class_codes)
        and (asked.type_codes is None or document.type_code in asked.type_codes)
        and (asked.practice_setting_codes is None or document.practice_setting_code in asked.practice_setting_codes)
        and (asked.labels is None or not look.labels.isdisjoint(asked.labels))
        and (asked.authors is None or any(a != "" and a in asked.authors for a in document.authors))
        and (asked.encounters is None or any(e != "" and e in asked.encounters for e in document.encounters))
        and (asked.created_from is None or asked.created_from <= document.creation_time != "")
        and (asked.created_to is None or "" != document.creation_time < asked.created_to)
    )

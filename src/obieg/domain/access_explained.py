"""Why a decision about access is what it is, and what would change it: for officers and support, not for callers."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime

from msgspec.structs import replace

from obieg.codes.load import toml
from obieg.domain.access import (
    BASES,
    DECLARED,
    HOLD,
    Act,
    Asked,
    Condition,
    Deny,
    DocumentFacts,
    Facts,
    Filter,
    Permit,
    Rule,
    Settings,
    Source,
    ask,
    bar,
    basis,
    consents,
    decide,
    latest,
    needed,
    never_reads,
)
from obieg.domain.documents import Value
from obieg.domain.requester import Requester
from obieg.domain.showing import Look, effect, looks
from obieg.domain.zone import WARSAW

_TABLE = toml("access.toml")
LANGUAGES: tuple[str, ...] = tuple(_TABLE["texts"])


class BasisTrace(Value, frozen=True):
    """A basis, and whether it holds."""

    basis: str
    lack: str = ""  # why it does not hold: key of ``lacks`` in codes/access.toml; "": it holds
    until: datetime | None = None


class Hidden(Value, frozen=True):
    """What denies a document."""

    basis: str  # consent or HOLD
    reference: str
    document: str  # the entryUUID of what it denies: this document, or another of its lineage


class DocumentTrace(Value, frozen=True):
    """A document, and why it is shown or not."""

    entry_uuid: str
    shown: bool
    permitted_by: tuple[str, ...] = ()  # bases
    hidden_by: tuple[Hidden, ...] = ()
    above: tuple[str, ...] = ()  # if none permits it: bases that would if it were less confidential
    openable: tuple[str, ...] = ()  # if none permits it: bases that do not hold, could, and would permit it then


class Explanation(Value, frozen=True):
    """The trace of a decision."""

    decision: Permit | Deny
    reason: str = ""  # why it is denied: key of ``reasons`` in codes/access.toml; one that nothing lifts goes first
    purposes: tuple[str, ...] = ()  # if it is denied by its purpose: those by which it is not
    bases: tuple[BasisTrace, ...] = ()  # all that the act may rest on; none if it needs none
    restrictions: tuple[Source, ...] = ()  # consents and holds that deny something
    documents: tuple[DocumentTrace, ...] = ()


def explain(
    requester: Requester,
    facts: Facts,
    act: Act,
    at: datetime,
    settings: Settings,
    documents: Sequence[DocumentFacts] = (),
) -> Explanation:
    """The decision and what led to it. ``documents``: those that it is asked about, with all of their lineages."""
    decision = decide(requester, facts, act, at, settings)
    question = ask(requester, facts, at, settings)
    permitted = decision.filter if isinstance(decision, Permit) else ()
    reason = _reason(decision, act, question)
    lineages: dict[str, list[Look]] = {}
    for look in looks(documents):
        lineages.setdefault(look.lineage, []).append(look)
    bases = tuple(_trace(name, question) for name in needed(act, question))
    # A consent that holds does not keep the patient from giving another one.
    could = [
        _supposed(t.basis, question)
        for t in bases
        if reason in _WITHOUT_BASIS and (t.lack or t.basis == "consent") and t.lack not in _FIXED
    ]
    return Explanation(
        decision,
        reason,
        _purposes(act, question) if reason in _BY_PURPOSE else (),
        bases,
        tuple(source for source in permitted or () if any(rule.permit is False for rule in source.rules)),
        tuple(
            DocumentTrace(look.document.entry_uuid, shown=True, permitted_by=decision.bases)
            if isinstance(decision, Permit) and permitted is None
            else _document(look, permitted or (), lineages[look.lineage], could)
            for look in looks(documents)
        ),
    )


# Roles of chosen doctors, nurses and midwives.
_CHOSEN = frozenset(role for roles in DECLARED.values() for role in roles)
_WITHOUT_BASIS = frozenset(("", "none"))  # all other refusals come before any basis is looked at
# Refusals by the purpose.
_BY_PURPOSE = frozenset(("purpose", "own-purpose"))


def _reason(decision: Permit | Deny, act: Act, question: Asked) -> str:
    """Why it is denied; "": it is not. Who never reads is told that, not that a consent might name the purpose."""
    if isinstance(decision, Permit):
        return ""
    return (never_reads(question) if needed(act, question) else "") or decision.reason


def _purposes(act: Act, question: Asked) -> tuple[str, ...]:
    """The codes of purposes for which this requester may do it, or a basis may be theirs."""
    groups = [*_TABLE["acts"][act].get("purposes", ())]
    groups += [
        group
        for name in needed(act, question)
        if BASES[name]["group"] == question.seat
        for group in BASES[name]["purposes"]
    ]
    known: dict[str, list[str]] = _TABLE["purposes"]
    return tuple(code for group, codes in known.items() if group in (groups or ("care",)) for code in codes)


def _trace(name: str, question: Asked) -> BasisTrace:
    if name == "consent":
        return _trace_consents(question)
    found = basis(name, question)
    if found == "purpose":  # for another one it may be barred as well, and that goes first
        found = bar(name, replace(question, purposes=BASES[name]["purposes"][0])) or found
    if name == "poz" and found == "none" and question.group != "assistant" and question.role not in _CHOSEN:
        found = "role"
    return BasisTrace(name, found) if isinstance(found, str) else BasisTrace(name, until=found.until)


def _trace_consents(question: Asked) -> BasisTrace:
    barred = bar("consent", question)
    if barred:
        return BasisTrace("consent", barred)
    given = question.facts.consents
    opening = [source.until for source in consents(question) if source.permits]
    if opening:
        return BasisTrace("consent", until=latest(opening))
    ended = given and not any(consent.period.holds(question.moment) for consent in given)
    return BasisTrace("consent", "not-now" if ended else "none")


def _supposed(name: str, question: Asked) -> Source:
    """What a basis would open if it held; a consent may name a document, and then opens it whatever it is."""
    theirs = Condition(authors=(question.organisation,)) if name == "same-entity" else Condition()
    return Source(name, (Rule(permit=True, condition=theirs, max=BASES[name]["max"]),))


def _document(look: Look, permitted: Filter, lineage: Sequence[Look], could: Sequence[Source]) -> DocumentTrace:
    permitting = [source for source in permitted if effect(source, look)]
    hiding = tuple(
        Hidden(source.basis, source.reference, other.document.entry_uuid)
        for source in permitted
        for other in lineage
        if effect(source, other) is False
    )
    above = [] if permitting else [source for source in permitted if effect(_unlimited(source), look)]
    return DocumentTrace(
        look.document.entry_uuid,
        shown=bool(permitting and not hiding),
        permitted_by=_named(permitting),
        hidden_by=hiding,
        above=_named(above),
        openable=() if permitting else _named(source for source in could if effect(source, look)),
    )


def _named(sources: Iterable[Source]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(source.basis for source in sources))


def _unlimited(source: Source) -> Source:
    """The same without maximum."""
    return Source(source.basis, tuple(Rule(rule.permit, rule.condition) for rule in source.rules))


def may(decision: Permit | Deny) -> bool:
    """Whether it may be done, if to some documents only."""
    return isinstance(decision, Permit)


# What nobody can bring about for the sake of access: the requester's role, the patient's age, life and status.
_FIXED = frozenset(("role", "off", "protected", "died", "alive", "young", "grown", "objection"))


def obtainable(explanation: Explanation) -> tuple[BasisTrace, ...]:
    """Bases that do not hold and could, where the decision or a document wants one.

    What is refused before any basis is looked at no basis changes, but a consent that names the purpose.
    """
    if explanation.reason not in _WITHOUT_BASIS:
        named = explanation.reason == "purpose"
        return tuple(t for t in explanation.bases if named and t.basis == "consent" and t.lack in ("none", "not-now"))
    wanting = not may(explanation.decision) or any(d.openable for d in explanation.documents)
    return tuple(trace for trace in explanation.bases if wanting and trace.lack and trace.lack not in _FIXED)


# In words ------------------------------------------------------------------------------------------------------------


def render(explanation: Explanation, language: str) -> list[str]:
    """The lines that a person reads, in a language of ``LANGUAGES``."""
    texts = _TABLE["texts"][language]
    decision = explanation.decision

    def name(key: str) -> str:
        return str((_TABLE["hold"] if key == HOLD else BASES[key])["name"][language])

    def names(keys: Iterable[str]) -> str:
        return ", ".join(map(name, keys))

    def until(moment: datetime | None) -> str:
        return str(
            texts["until"].format(until=f"{moment.astimezone(WARSAW):%Y-%m-%d %H:%M}") if moment else texts["endless"]
        )

    def of_basis(trace: BasisTrace) -> str:
        row = BASES[trace.basis]
        said = {key: row[key][language] for key in ("name", "article", "holds", "needs")}
        if trace.lack:
            return str(texts["lacks"].format(**said, lack=_TABLE["lacks"][trace.lack][language]))
        return str(texts["holds"].format(**said, until=until(trace.until)))

    def of_source(source: Source) -> str:
        what = [_condition(rule.condition, texts) for rule in source.rules if rule.permit is False]
        said = {"name": name(source.basis), "reference": source.reference, "until": until(source.until)}
        return str(texts["hides"].format(**said, what="; ".join(what)))

    def of_document(trace: DocumentTrace) -> str:
        document = trace.entry_uuid
        if trace.shown:
            return str(texts["shown"].format(document=document, bases=names(trace.permitted_by)))
        if trace.hidden_by:
            own = next((hidden for hidden in trace.hidden_by if hidden.document == document), None)
            hidden = own or trace.hidden_by[0]
            said = {"name": name(hidden.basis), "reference": hidden.reference, "other": hidden.document}
            return str(texts["hidden" if own else "hidden_by_other"].format(document=document, **said))
        if trace.above:
            return str(texts["above"].format(document=document, bases=names(trace.above)))
        return str(texts["closed"].format(document=document))

    def of_change(trace: DocumentTrace) -> Iterable[str]:
        """All that it takes."""
        document = trace.entry_uuid
        for is_hold, reference in dict.fromkeys((hidden.basis == HOLD, hidden.reference) for hidden in trace.hidden_by):
            end = next((s.until for s in explanation.restrictions if s.reference == reference), None)
            key = "change_hold" if is_hold else "change_consent"
            yield str(texts[key].format(document=document, reference=reference, until=until(end)))
        if trace.openable:
            yield str(texts["change_opened"].format(document=document, bases=names(trace.openable)))

    def of_refusal() -> Iterable[str]:
        if explanation.purposes:
            key = "change_purpose" if explanation.bases else "change_purpose_alone"
            yield str(texts[key].format(purposes=", ".join(explanation.purposes)))
        elif f"change_{explanation.reason}" in texts:
            yield str(texts[f"change_{explanation.reason}"])

    def of_need(trace: BasisTrace) -> str:
        row = BASES[trace.basis]
        if explanation.reason == "purpose":
            return str(texts["change_purpose_consent"].format(name=row["name"][language]))
        return str(texts["change_basis"].format(name=row["name"][language], needs=row["needs"][language]))

    def held(basis: str) -> str:
        end = decision.end(basis) if isinstance(decision, Permit) else None
        return f"{name(basis)} ({until(end)})" if end else name(basis)

    if isinstance(decision, Deny):
        reason = texts["because"].format(reason=_TABLE["reasons"][explanation.reason][language])
        lines = [f"{texts['denied']}, {reason}."]
    elif decision.bases:
        lines = [f"{texts['permitted']}: {', '.join(map(held, decision.bases))}."]
    else:
        lines = [f"{texts['permitted']}."]
    parts = (
        ("bases", [of_basis(trace) for trace in explanation.bases]),
        ("restrictions", [of_source(source) for source in explanation.restrictions]),
        ("documents", [of_document(trace) for trace in explanation.documents]),
        (
            "changes",
            [
                *of_refusal(),
                *map(of_need, obtainable(explanation)),
                *(
                    said
                    for trace in explanation.documents
                    if not trace.shown and may(decision)
                    for said in of_change(trace)
                ),
            ],
        ),
    )
    for heading, found in parts:
        if found:
            lines += [f"{texts[heading]}:", *(f"  {line}" for line in found)]
    return lines


def _condition(condition: Condition, texts: dict[str, dict[str, str]]) -> str:
    said = []
    for field, word in texts["condition"].items():
        value = getattr(condition, field)
        if value is not None:
            said.append(f"{word} {value if isinstance(value, str) else ' / '.join(value)}")
    return ", ".join(said) or str(texts["everything"])

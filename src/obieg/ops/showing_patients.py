"""How patients, evidence and the worklist are shown to people."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from html import unescape
from typing import Any, NamedTuple

from rich.console import Console
from rich.table import Table
from rich.text import Text

from obieg.actors.patient_curation import Pair
from obieg.domain.authorities import Authorities
from obieg.domain.curation import Access, Mixture
from obieg.domain.identifiers import PatientId
from obieg.domain.linkage import Weights, default_weights
from obieg.domain.matching import Evidence, Judgement, Verdict
from obieg.domain.patients import Candidate, Link, Task, TaskKind
from obieg.domain.persons import Address, Demographics, PersonName, Telecom
from obieg.ops.showing import local

KINDS = {
    TaskKind.POSSIBLE_DUPLICATE: "perhaps one person",
    TaskKind.CONTRADICTION: "contradiction",
    TaskKind.DOUBTFUL_DOCUMENT: "whose document?",
}
DECISIONS = {
    "same": "one person",
    "different": "two people",
    "moot": "settled otherwise",
    "undone": "one person, taken back later",
    "withdrawn": "two people, withdrawn later",
}
_VERDICTS = {
    Verdict.SAME: "the same person",
    Verdict.UNDECIDED: "for a person to decide",
    Verdict.DIFFERENT: "different people",
}
_RULES = {
    "same_pesel": "they share a PESEL and nothing speaks against it",
    "same_document": "they share a document and nothing speaks against it",
    "same_number": "they share a number of one facility and nothing speaks against it",
    "different_pesel": "two valid PESELs are never joined automatically",
    "different_number": "one facility gave them two numbers: it takes them for two people",
    "different_birth_order": "born on one day, and not in the same place of the order",
    "contradiction": "they share an identifier, but name, birth date and sex contradict one another",
    "different_given_names": "two different given names are two people",
    "same_newborn": "one child of this mother, born on that day",
    "twins": "born on one day, of different sex",
    "possible_twins": "perhaps twins: nothing tells which of them",
}
FIELDS = {
    "pesel": "PESEL",
    "document": "document",
    "number": "facility's number",
    "family": "family name",
    "given": "given names",
    "birth_date": "birth date",
    "sex": "sex",
    "mother_name": "mother's name",
    "mother": "mother's PESEL",
    "birth_order": "order of birth",
    "address": "address",
    "telecom": "telephone, e-mail",
    "people": "before any evidence",
}
_STRENGTHS = ((6.0, "very strongly"), (3.0, "strongly"), (1.0, "somewhat"), (0.0, "hardly"))
_REQUESTOR = re.compile(r'<ActiveParticipant UserID="([^"]*)" UserIsRequestor="true"')
_DIGITS = re.compile(r"(?<!\d)\d{11}(?!\d)")


def masked(text: str) -> str:
    """What may be a PESEL is not shown: two digits are left to compare by."""
    return _DIGITS.sub(lambda match: "*" * 9 + match[0][-2:], text)


# identifiers and people ----------------------------------------------------------------------------------------------


def named(identifier: PatientId, authorities: Authorities, own: str = "") -> str:
    """An identifier as it can be typed."""
    if identifier.authority == own:
        return identifier.value
    return f"{identifier.value}@{authorities.name_of(identifier.authority) or identifier.authority}"


def person_name(name: PersonName) -> str:
    """As people write it."""
    return " ".join(filter(None, (name.prefix, *name.given, name.family, name.suffix)))


def birth(date: str) -> str:
    """A partial date with dashes."""
    return "-".join(filter(None, (date[:4], date[4:6], date[6:8])))


def _address(address: Address) -> str:
    place = " ".join(filter(None, (address.postal_code, address.city)))
    return ", ".join(filter(None, (address.street, place, address.country)))


def _telecom(telecom: Telecom) -> str:
    return telecom.number or f"{telecom.country_code}{telecom.area_code}{telecom.local_number}"


def in_short(candidate: Candidate | None) -> str:
    """Name and birth date."""
    if candidate is None:
        return ""
    d = candidate.demographics
    return ", ".join(filter(None, (person_name(d.name) or "no name", birth(d.birth_date))))


def described(demographics: Demographics) -> dict[str, str]:
    """What is said of a person, by what it is called."""
    d = demographics
    mother = person_name(d.mother_name) if d.mother_name else ""
    if d.mother:
        mother = ", ".join(filter(None, (mother, f"PESEL {d.mother.value}")))
    rest = {
        "name": "; ".join(f"{person_name(n)}{' (maiden)' if n.use in ('M', 'B') else ''}" for n in d.names),
        "born": " ".join(filter(None, (birth(d.birth_date), d.birth_place))),
        "sex": d.sex,
        "address": "; ".join(filter(None, map(_address, d.addresses))),
        "telephone, e-mail": ", ".join(filter(None, map(_telecom, d.telecoms))),
        "mother": mother,
        "order of birth": str(d.birth_order or ""),
        "citizenship": d.citizenship,
        "died": birth(d.deceased_at) or ("yes" if d.deceased else ""),
    }
    return {name: value for name, value in rest.items() if value}


def side_by_side(console: Console, sides: Sequence[tuple[str, Mapping[str, str]]]) -> None:
    """Several people in columns; what differs is marked."""
    headed = any(heading for heading, _ in sides)
    table = Table(box=None, show_header=headed, pad_edge=False, padding=(0, 2, 0, 0))
    table.add_column("")
    for heading, _ in sides:
        table.add_column(Text(heading), overflow="fold")
    for name in dict.fromkeys(name for _, said in sides for name in said):
        values = [said.get(name, "") for _, said in sides]
        differs = len({value.casefold() for value in values if value}) > 1
        table.add_row(Text(name, style="dim"), *(Text(value, style="yellow" if differs else "") for value in values))
    console.print(table)


# evidence ------------------------------------------------------------------------------------------------------------


def strength(weight: float) -> str:
    """A weight in words."""
    word = next(word for least, word in _STRENGTHS if abs(weight) >= least)
    return f"{word} {'for' if weight >= 0 else 'against'}"


def evidence(console: Console, found: Iterable[Evidence]) -> None:
    """Field by field, what speaks most first."""
    table = Table("Field", "Comparison", "Weight", "", "One", "Other", box=None, pad_edge=False, padding=(0, 2, 0, 0))
    table.columns[2].justify = "right"
    table.columns[4].overflow = table.columns[5].overflow = "fold"
    for each in sorted(found, key=lambda e: (e.field == "people", -abs(e.weight))):
        prior = each.field == "people"
        style = "dim" if prior else "green" if each.weight > 0 else "red"
        left = f"one of {int(each.left):,} people".replace(",", " ") if prior else each.left
        table.add_row(
            FIELDS.get(each.field, each.field),
            "" if prior else each.level.replace("_", " "),
            f"{each.weight:+.1f}",
            Text("" if prior else strength(each.weight), style=style),
            Text(left),
            Text(each.right),
        )
    console.print(table)


def verdict(judgement: Judgement, weights: Weights | None) -> str:
    """What the matcher says and why, with the thresholds."""
    set_ = weights or default_weights()
    said = _VERDICTS[judgement.verdict]
    if judgement.rule:
        said += f", by the rule {judgement.rule} ({_RULES.get(judgement.rule, 'see docs/matching.md')})"
    if judgement.conflict:
        said += "; never joined automatically"
    return (
        f"{said}. Score {judgement.score:+.1f} bits; from {set_.same:+.1f} on the same person "
        f"({set_.same_by_name:+.1f} by name and birth date alone), from {set_.undecided:+.1f} on for a person to "
        "decide."
    )


def explained(console: Console, pairs: Sequence[Pair], authorities: Authorities, weights: Weights | None) -> None:
    """Pairs of records with what the matcher makes of each."""
    for number, pair in enumerate(pairs, 1):
        if len(pairs) > 1:
            console.print(f"\n[bold]Records {number} of {len(pairs)}[/]")
        sides = [(record_name(r.identifiers, authorities), described(r.demographics)) for r in (pair.left, pair.right)]
        side_by_side(console, sides)
        console.print()
        evidence(console, pair.judgement.evidence)
        console.print(Text.assemble(("\nVerdict: ", "bold"), verdict(pair.judgement, weights)), soft_wrap=True)


def record_name(identifiers: Sequence[PatientId], authorities: Authorities) -> str:
    """What a record is called by: its source's own identifier."""
    return named(identifiers[0], authorities) if identifiers else "no identifier"


# a patient -----------------------------------------------------------------------------------------------------------


class SourceRecord(NamedTuple):
    """What one source says of a person, as it is kept."""

    patient: str  # affinity-domain id under which it stands
    source: str
    identifiers: tuple[PatientId, ...]
    demographics: Demographics
    version: int
    created_at: datetime
    updated_at: datetime
    removed_at: datetime | None
    fed_by: str


class Shown(NamedTuple):
    """A patient with everything that is kept."""

    candidate: Candidate
    records: tuple[SourceRecord, ...]
    retired: tuple[tuple[PatientId, datetime], ...]
    links: tuple[Link, ...]


def patient(console: Console, shown: Shown, authorities: Authorities, own: str) -> None:
    """A patient: identifiers, records, links."""
    candidate = shown.candidate
    state = "" if candidate.active else "  [dim]no record stands any more[/]"
    console.print(f"[bold]Patient {candidate.patient.value}[/]  version {candidate.version}{state}")
    table = Table(box=None, show_header=False, pad_edge=False, padding=(0, 2, 0, 0))
    for identifier in candidate.identifiers:
        if identifier != candidate.patient:
            table.add_row(Text(named(identifier, authorities, own)))
    for identifier, at in shown.retired:
        table.add_row(Text(f"{named(identifier, authorities, own)}  retired {local(at)}", style="dim"))
    console.print(table)
    for link in shown.links:
        console.print(
            Text(
                f"{link.patient.value} was linked to {link.merged_into.value} at {local(link.linked_at)}: "
                f"{link.reason} ({link.linked_by})"
            ),
            soft_wrap=True,
        )
    for record in shown.records:
        head = Text(f"\n{record.source or 'unnamed source'}", style="bold")
        head.append(
            f"  said {local(record.updated_at)}, {record.version} time{'s' * (record.version != 1)}", style="dim"
        )
        if record.fed_by:
            head.append(f"  fed by {record.fed_by}", style="dim")
        if record.patient != candidate.patient.value:
            head.append(f"  under {record.patient}", style="dim")
        if record.removed_at:
            head.append(f"  withdrawn {local(record.removed_at)}", style="red")
        console.print(head)
        said = {"identifiers": ", ".join(named(i, authorities, own) for i in record.identifiers)}
        side_by_side(console, [("", {**said, **described(record.demographics)})])


def patient_data(shown: Shown) -> dict[str, Any]:
    """A patient for programs."""
    return {
        **candidate_data(shown.candidate),
        "retired": [str(i) for i, _ in shown.retired],
        "links": [
            {
                "patient": str(link.patient),
                "merged_into": str(link.merged_into),
                "reason": link.reason,
                "linked_at": _instant(link.linked_at),
                "linked_by": link.linked_by,
            }
            for link in shown.links
        ],
        "records": [
            {
                "patient": record.patient,
                "source": record.source,
                "fed_by": record.fed_by or None,
                "identifiers": [str(i) for i in record.identifiers],
                "demographics": record.demographics,
                "version": record.version,
                "created_at": _instant(record.created_at),
                "updated_at": _instant(record.updated_at),
                "removed_at": _instant(record.removed_at),
            }
            for record in shown.records
        ],
    }


# the worklist --------------------------------------------------------------------------------------------------------


def worklist(console: Console, tasks: Sequence[Task]) -> None:
    """Lines of the worklist."""
    table = Table("No.", "Since", "What", "One", "Other", "Says", box=None, pad_edge=False, padding=(0, 2, 0, 0))
    table.columns[0].justify = "right"
    for column in (3, 4, 5):
        table.columns[column].overflow = "fold"
    for task in tasks:
        judged = task.judgement
        says = f"{judged.percent} %" if judged else ""
        if judged and judged.rule:
            says = f"{says}, but {judged.rule.replace('_', ' ')}" if judged.conflict else judged.rule.replace("_", " ")
        if task.decision:
            says = f"{DECISIONS.get(task.decision, task.decision)} ({task.decided_by})"
        table.add_row(
            str(task.task_id),
            local(task.opened_at)[:16],
            KINDS[task.kind],
            Text(in_short(task.left)),
            Text(in_short(task.right)),
            Text(says),
            style="dim" if task.decision else "",
        )
    console.print(table)


def task(console: Console, one: Task, authorities: Authorities, own: str, weights: Weights | None) -> None:
    """A line with everything to decide it by."""
    console.print(f"[bold]Line {one.task_id}[/]: {KINDS[one.kind]}, since {local(one.opened_at)}")
    if one.detail:
        console.print(Text(one.detail))
    sides = [side for side in (one.left, one.right) if side is not None]
    shown = []
    for side in sides:
        said = {"identifiers": "\n".join(named(i, authorities, own) for i in side.identifiers if i != side.patient)}
        shown.append((side.patient.value, {**described(side.demographics), **said}))
    console.print()
    side_by_side(console, shown)
    if one.judgement is not None:
        console.print()
        evidence(console, one.judgement.evidence)
        console.print(Text.assemble(("\nThe matcher: ", "bold"), verdict(one.judgement, weights)), soft_wrap=True)
    if one.decision:
        said_ = f"{DECISIONS.get(one.decision, one.decision)}, by {one.decided_by} at {local(one.decided_at)}"
        console.print(Text.assemble(("\nDecided: ", "bold"), said_, f". {one.note}" if one.note else ""))
    else:
        console.print(
            f"\nTo decide: obieg patients decide {one.task_id} same|different --note '…' --settings …", soft_wrap=True
        )


def task_data(one: Task) -> dict[str, Any]:
    """A line for programs."""
    judged = one.judgement
    return {
        "task_id": one.task_id,
        "kind": one.kind.value,
        "left": candidate_data(one.left),
        "right": candidate_data(one.right) if one.right else None,
        "detail": one.detail,
        "opened_at": _instant(one.opened_at),
        "decision": one.decision,
        "decided_by": one.decided_by,
        "decided_at": _instant(one.decided_at),
        "note": one.note,
        "judgement": judgement_data(judged) if judged else None,
    }


def judgement_data(judged: Judgement) -> dict[str, Any]:
    """A judgement for programs."""
    return {
        "verdict": judged.verdict.value,
        "score": round(judged.score, 2),
        "percent": judged.percent,
        "rule": judged.rule,
        "conflict": judged.conflict,
        "evidence": [
            {"field": e.field, "level": e.level, "weight": round(e.weight, 2), "left": e.left, "right": e.right}
            for e in judged.evidence
        ],
    }


def candidate_data(candidate: Candidate) -> dict[str, Any]:
    """A patient for programs."""
    return {
        "patient": str(candidate.patient),
        "identifiers": [str(i) for i in candidate.identifiers],
        "demographics": candidate.demographics,
        "active": candidate.active,
        "replaced_by": str(candidate.replaced_by) if candidate.replaced_by else None,
        "version": candidate.version,
    }


def _instant(moment: datetime | None) -> str | None:
    return moment.astimezone(UTC).isoformat(timespec="milliseconds") if moment else None


# accesses ------------------------------------------------------------------------------------------------------------


def who(access: Access) -> str:
    """Who it was, as the audit message has it."""
    return unescape(", ".join(dict.fromkeys(_REQUESTOR.findall(access.message))))


def accesses(console: Console, found: Sequence[Access]) -> None:
    """Audit records about a patient."""
    table = Table("Audit", "When", "What", "Who", "Under the id", box=None, pad_edge=False, padding=(0, 2, 0, 0))
    table.columns[3].overflow = table.columns[4].overflow = "fold"
    for each in found:
        failed = "" if each.outcome == "0" else " (failed)"
        table.add_row(
            str(each.audit_id),
            local(each.recorded_at),
            each.transaction + failed,
            Text(who(each)),
            Text(each.patient_id.partition("^")[0]),
        )
    console.print(table)


def access_data(access: Access) -> dict[str, Any]:
    """An audit record for programs."""
    return {
        "audit_id": access.audit_id,
        "recorded_at": _instant(access.recorded_at),
        "transaction": access.transaction,
        "outcome": access.outcome,
        "who": who(access),
        "patient_id": access.patient_id,
        "request_id": access.request_id,
    }


def mixtures(console: Console, found: Sequence[Mixture]) -> None:
    """Links that were taken back."""
    table = Table("Patient", "Read as", "Why", "From", "Until", "Taken back by", box=None, padding=(0, 2, 0, 0))
    for each in found:
        table.add_row(
            Text(each.patient.value),
            Text(each.survivor.value),
            Text(f"{each.reason} ({each.linked_by})"),
            local(each.linked_at),
            local(each.unlinked_at),
            Text(each.unlinked_by),
        )
    console.print(table)

"""The narrative of a summary's sections, in Polish: what is coded as a table, then the sources' own texts.

Each line and each text names the document that it comes from, with its date, its author and a link to it.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from obieg.domain.summary import Passage, Source, Statement, Summary
from obieg.mapping.ips_entries import DENIED, describe, describe_concept, joined, shown_time
from obieg.wire.xml import attribute, text

NO_INFORMATION = "Brak informacji: żaden z odczytanych dokumentów o tym nie mówi."
_HEADINGS = ("Co", "Kiedy", "Szczegóły", "Źródło")
_NOTHING = "—"
_REASONS = {
    "elsewhere": "w innym repozytorium ({detail}); tam można go pobrać, tu nie został odczytany",
    "silent": "w innym repozytorium ({detail}), które teraz go nie wydało; spróbuj ponownie później",
    "format": "nie jest dokumentem HL7 CDA ({detail}); nie został odczytany",
    "unreadable": "nie udało się odczytać: {detail}",
    "file": "zawiera plik ({detail}), którego treści streszczenie nie odczytuje",
    "limit": "pominięty: {detail}",
    "missing": "repozytorium nie ma teraz jego treści",
}


def div(inner: str) -> dict[str, str]:
    """Narrative; ``additional`` as it holds more than the entries do."""
    return {
        "status": "additional",
        "div": f'<div xmlns="http://www.w3.org/1999/xhtml" lang="pl-PL" xml:lang="pl-PL">{inner}</div>',
    }


def section_text(statements: Sequence[Statement], passages: Sequence[Passage], base: str) -> str:
    """The XHTML of one section."""
    if not statements and not passages:
        return f"<p>{text(NO_INFORMATION)}</p>"
    return _table(statements, base) + "".join(_passage(p, base) for p in passages)


def sources_text(summary: Summary, base: str) -> str:
    """What the summary was made of, and what is not in it."""
    pieces = []
    if summary.more:
        said = (
            f"Pacjent ma więcej dokumentów: uwzględniono {summary.documents_max} najnowszych, starszych nie odczytano."
        )
        pieces.append(f"<p><b>{text(said)}</b></p>")
    if summary.sources:
        pieces.append("<p>Odczytane dokumenty:</p>" + _list(cite(s, base) for s in summary.sources))
    if summary.unread:
        lines = (f"{cite(u.source, base)}: {text(_REASONS[u.reason].format(detail=u.detail))}" for u in summary.unread)
        pieces.append("<p>Dokumenty, których treści nie ma w streszczeniu:</p>" + _list(lines))
    if not pieces:
        pieces.append("<p>W rejestrze nie ma zatwierdzonych dokumentów tego pacjenta.</p>")
    said = "Streszczenie powtarza to, co mówią dokumenty. Brak wpisu nie znaczy, że czegoś nie ma."
    return f"{''.join(pieces)}<p>{text(said)}</p>"


def cite(source: Source, base: str) -> str:
    """Title, date and author of a document, linked, with its uniqueId."""
    title = text(source.title or source.type_name or "Dokument")
    shown = f'<a href="{attribute(address(source, base))}">{title}</a>' if base else title
    parts = [shown, text(shown_time(source.created_at)), text(source.author), text(f"id {source.unique_id}")]
    return ", ".join(part for part in parts if part)


def address(source: Source, base: str) -> str:
    """Where the document can be had over FHIR."""
    return f"{base}/Binary/{source.entry_uuid}"


def _list(items: Iterable[str]) -> str:
    return f"<ul>{''.join(f'<li>{item}</li>' for item in items)}</ul>"


def _table(statements: Sequence[Statement], base: str) -> str:
    if not statements:
        return ""
    head = "".join(f"<th>{heading}</th>" for heading in _HEADINGS)
    return f"<table><thead><tr>{head}</tr></thead><tbody>{''.join(_row(s, base) for s in statements)}</tbody></table>"


def _row(s: Statement, base: str) -> str:
    what = describe_concept(s.concept)
    if s.negated:
        what = DENIED + what
    low, high = shown_time(s.time.low), shown_time(s.time.high)
    when = low if low == high else f"{low or '…'} do {high or '…'}"
    details = [
        joined([describe(v) for v in s.values]),
        f"norma: {joined([describe(r) for r in s.ranges])}" if s.ranges else "",
        joined([describe_concept(c) for c in s.interpretations]),
        s.dosage,
        describe_concept(s.route) if s.route is not None else "",
        describe(s.dose) if s.dose is not None else "",
        f"seria {s.lot}" if s.lot else "",
        *(f"reakcja: {describe_concept(r.manifestation)} {r.severity}".strip() for r in s.reactions),
        *(describe_concept(d) for d in s.details),
        s.words if s.words not in (s.concept.text, s.dosage) else "",
    ]
    sources = "<br/>".join(cite(source, base) for source in s.sources)
    cells = (text(what), text(when), text(joined(details)), sources)
    return f"<tr>{''.join(f'<td>{cell or _NOTHING}</td>' for cell in cells)}</tr>"


def _passage(passage: Passage, base: str) -> str:
    title = text(passage.title or "Tekst")
    codes = _list(text(describe_concept(c)) for c in passage.codes) if passage.codes else ""
    listed = f"<p>Kody w źródle, które nie mają osobnego wpisu:</p>{codes}" if codes else ""
    said = f"<div>{passage.xhtml}</div>" if passage.xhtml else ""
    return f"<div><p><b>{title}</b> ({cite(passage.source, base)})</p>{said}{listed}</div>"

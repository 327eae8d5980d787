"""A CDA document as people read it: bytes to what a page or a printed sheet shows (HL7 CDA R2; PIK HL7 CDA 1.3.2).

Everything in the document that is meant for readers is there: the header, every section with its narrative, entries
that no narrative tells of, pictures. Names of documents and sections in plain words, and explanations of terms, are of
``codes/national/pl/plain_words.toml``. What clinicians wrote stays in the document's language.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from datetime import UTC, datetime
from functools import cache
from typing import Any
from zoneinfo import ZoneInfo

import msgspec

from obieg.codes.load import toml
from obieg.mapping.cda_html import Page, Picture, write_html, write_picture
from obieg.mapping.pik import media_type
from obieg.mapping.pik_values import utc
from obieg.wire import cda
from obieg.wire.cda_content import Chapter, Content, Detail, Entry, Media, read_content
from obieg.wire.cda_narrative import Nodes, plain_text, walk

_WORDS = toml("national/pl/plain_words.toml")
_PIK = toml("national/pl/pik.toml")
_ROOTS: dict[str, str] = _PIK["roots"]
_SYSTEMS: dict[str, str] = _PIK["systems"]
_WARSAW = ZoneInfo(_PIK["defaults"]["time_zone"])
_OTHER = "other"
_SHOWN = frozenset({"image/png", "image/jpeg", "image/gif"})  # what every browser shows and nothing in it acts
_LANGUAGE = re.compile(r"[A-Za-z]{2,3}(-[A-Za-z]{2})?")  # BCP 47, as far as languageCode uses it
_MINUTES = len("201409060900")
_KINDS_OF_LINK = {"RPLC": "replaces", "APND": "appends", "XFRM": "transforms"}


class Shown(msgspec.Struct, frozen=True):
    """Base of what a view is made of."""


class Fact(Shown, frozen=True):
    """One thing that the header says: ``label`` is a word of ours (``cda_`` in the catalogues)."""

    label: str
    lines: tuple[str, ...]


class Group(Shown, frozen=True):
    """What the header says of one person, organisation, event or the document itself."""

    label: str
    facts: tuple[Fact, ...]


class Line(Shown, frozen=True):
    """An entry: (label or "", what it says), and the entries in it."""

    parts: tuple[tuple[str, str], ...]
    negated: bool = False
    lines: tuple[Line, ...] = ()


class Section(Shown, frozen=True):
    """A section; ``depth`` 0 stands right below the document."""

    depth: int
    title: str
    original: bool  # the title is the document's, not ours
    explanation: str
    language: str
    narrative: Nodes
    html: str
    untold: tuple[Line, ...] = ()  # entries that the narrative does not tell of
    coded: tuple[Line, ...] = ()  # the others


class Related(Shown, frozen=True):
    """Another document that this one speaks of: replaces, appends, transforms, order; ids in the form of uniqueId."""

    kind: str
    unique_id: str


class View(Shown, frozen=True):
    """A document as it is shown."""

    title: str  # in plain words
    official: str  # as the document calls itself
    explanation: str
    language: str  # of the document, BCP 47
    facts: tuple[Fact, ...]  # the most important ones
    groups: tuple[Group, ...]  # all
    sections: tuple[Section, ...]
    related: tuple[Related, ...] = ()
    terms: tuple[tuple[str, str], ...] = ()  # (term, what it means)
    pictures: tuple[Picture, ...] = ()  # all files in the document
    left: tuple[Picture, ...] = ()  # those of them that no narrative shows
    left_html: str = ""
    words: Mapping[str, str] = {}  # within narratives: plain_words.toml, [narrative]

    @property
    def scanned(self) -> bool:
        """Whether there is nothing but pictures and files, which no screen reader reads."""
        return bool(self.pictures) and not any(plain_text(section.narrative) for section in self.sections)


def read_view(document: bytes, *, language: str, images: str) -> View:
    """The view in a ``language`` of the catalogues; ``images`` is the address of the folder of its pictures.

    Raises :class:`obieg.wire.cda.CdaRefused` for what is no CDA, :class:`obieg.wire.cda_body.TooMuch`.
    """
    content = read_content(document)
    header = content.header
    own = _language(header.language) or _PIK["defaults"]["language"]
    pictures = {media.number: _picture(media) for media in content.media}
    page = Page(
        words={key: row[language] for key, row in _WORDS["narrative"].items()},
        language="" if own[:2].lower() == language else language,
        pictures={id_: pictures[media.number] for media in content.media for id_ in media.ids},
        images=images,
    )
    used = {node.target for chapter in content.chapters for node in walk(chapter.narrative) if node.name == "image"}
    left = tuple(pictures[m.number] for m in content.media if not used.intersection(m.ids))
    name, explanation = _document_words(header, language)
    says = _Says(language)
    return View(
        title=name,
        official=header.title or (header.code.display if header.code is not None else "") or name,
        explanation=explanation,
        language=own,
        facts=tuple(says.facts(header)),
        groups=tuple(says.groups(content)),
        sections=tuple(_section(chapter, page, says, language, own) for chapter in content.chapters),
        related=tuple(_related(header)),
        terms=tuple(_terms(content, language)),
        pictures=tuple(pictures.values()),
        left=left,
        left_html="".join(f"<p>{write_picture(picture, page)}</p>" for picture in left),
        words=page.words,
    )


def read_pictures(document: bytes) -> dict[str, tuple[Picture, bytes]]:
    """The pictures and other files in the document, by their numbers. Raises as :func:`read_view`."""
    return {media.number: (_picture(media), media.data) for media in read_content(document).media}


def _picture(media: Media) -> Picture:
    """What it is, by its bytes: the sender's word is often wrong."""
    found = media_type(media.data)
    return Picture(media.number, found or "application/octet-stream", found in _SHOWN, media.ids)


def _language(code: str) -> str:
    """What a page can say its language is; "" for anything else."""
    return code if _LANGUAGE.fullmatch(code) else ""


# words -----------------------------------------------------------------------------------------------------------


def _document_words(header: cda.CdaHeader, language: str) -> tuple[str, str]:
    code = header.code
    by_class = code.in_system(_SYSTEMS["klas_dok_p1"]) if code is not None else None
    row = (
        _WORDS["classes"].get(by_class.code if by_class is not None else "")
        or _WORDS["types"].get(code.code if code is not None else "")
        or _WORDS["types"][_OTHER]
    )
    name, explanation = row[language]
    return name, explanation


def _section_words(chapter: Chapter, language: str) -> tuple[str, str]:
    prefix = f"{_ROOTS['section_template']}."
    templates = (_WORDS["templates"].get(root.removeprefix(prefix)) for root in chapter.template_ids)
    code = _WORDS["sections"].get(chapter.code.code if chapter.code is not None else "")
    row = next((row for row in (*templates, code) if row), _WORDS["sections"][_OTHER])
    name, explanation = row[language]
    return name, explanation


def _terms(content: Content, language: str) -> Iterator[tuple[str, str]]:
    words = " ".join((c.title + " " + plain_text(c.narrative)).lower() for c in content.chapters)
    for pattern, row in _patterns():
        if pattern.search(words):
            term, meaning = row[language]
            yield term, meaning


@cache
def _patterns() -> tuple[tuple[re.Pattern[str], Mapping[str, Any]], ...]:
    def pattern(word: str) -> str:
        return re.escape(word.removesuffix("~")) + ("" if word.endswith("~") else r"(?!\w)")

    return tuple((re.compile(rf"(?<!\w)(?:{'|'.join(map(pattern, t['words']))})"), t) for t in _WORDS["terms"])


# sections --------------------------------------------------------------------------------------------------------


def _section(chapter: Chapter, page: Page, says: _Says, language: str, own: str) -> Section:
    name, explanation = _section_words(chapter, language)
    return Section(
        depth=chapter.depth,
        title=chapter.title or name,
        original=bool(chapter.title),
        explanation=explanation,
        language=_language(chapter.language) or own,
        narrative=chapter.narrative,
        html=write_html(chapter.narrative, page),
        untold=tuple(says.line(entry) for entry in chapter.entries if not entry.told),
        coded=tuple(says.line(entry) for entry in chapter.entries if entry.told),
    )


def _related(header: cda.CdaHeader) -> Iterator[Related]:
    for related in header.related_documents:
        for id_ in related.ids:
            yield Related(_KINDS_OF_LINK.get(related.type, "appends"), id_.oid_form)
    for id_ in header.orders:
        yield Related("order", id_.oid_form)


class _Says:
    """What the header and the entries say, in words."""

    def __init__(self, language: str) -> None:
        self._language = language
        self._ids = sorted(((_ROOTS[key], row[language]) for key, row in _WORDS["ids"].items()), reverse=True)

    def facts(self, header: cda.CdaHeader) -> Iterator[Fact]:
        """What one wants to know first."""
        patient = header.patient
        yield from _fact("patient", [", ".join(filter(None, (_names(patient.names), *self._pesel(patient.ids))))])
        yield from _fact("date", [_moment(header.effective_time)])
        yield from _fact("author", (self._author(author) for author in header.authors))
        yield from _fact("facility", (_place(author.organisation) for author in header.authors))
        if header.encounter is not None:
            yield from _fact("encounter", [_period(header.encounter.time)])
        for event in header.service_events:
            yield from _fact("event", [self._coded(event.code)])

    def groups(self, content: Content) -> Iterator[Group]:
        """All of the header."""
        header = content.header
        yield from _group("patient", self._patient(header.patient))
        for author in header.authors:
            organisation = author.organisation
            yield from _group("author", (
                *_fact("name", [_names(author.names) or author.device]),
                *_fact("function", (self._coded(author.function), self._coded(author.specialty))),
                *_fact("date", [_moment(author.time)]), *_fact("ids", self._numbers(author.ids)),
                *_contact(author.telecoms, ()), *self._organisation(organisation),
            ))  # fmt: skip
        if header.encounter is not None:
            encounter = header.encounter
            yield from _group("encounter", (
                *_fact("period", [_period(encounter.time)]), *_fact("kind", [self._coded(encounter.code)]),
                *_fact("disposition", [self._coded(encounter.disposition)]),
                *_fact("ids", self._numbers(encounter.ids)), *self._organisation(encounter.location),
            ))  # fmt: skip
        for event in header.service_events:
            yield from _group("event", (
                *_fact("kind", [self._coded(event.code)]), *_fact("period", [_period(event.time)]),
                *_fact("ids", self._numbers(event.ids)),
            ))  # fmt: skip
        for party in content.parties:
            yield from _group(_party_label(party), (
                *_fact("name", [", ".join(filter(None, map(_name, party.names)))]),
                *_fact("function", [self._coded(party.function)]), *_fact("date", [_period(party.time)]),
                *_fact("ids", self._numbers(party.ids)), *_contact(party.telecoms, party.addresses),
                *self._organisation(party.organisation),
            ))  # fmt: skip
        yield from _group("custodian", self._organisation(header.custodian))
        signer = header.legal_authenticator
        if signer is not None:
            yield from _group("signer", (
                *_fact("name", [_names(signer.names)]), *_fact("date", [_moment(signer.time)]),
                *_fact("ids", self._numbers(signer.ids)),
            ))  # fmt: skip
        yield from _group("document", self._document(content))

    def line(self, entry: Entry) -> Line:
        """An entry."""
        parts = tuple((_detail_label(detail), self._detail(detail)) for detail in entry.details)
        return Line(parts, entry.negated, tuple(map(self.line, entry.related)))

    def _detail(self, detail: Detail) -> str:
        return detail.text or self._coded(detail.coded) or _period(detail.time or cda.Period())

    def _document(self, content: Content) -> Iterator[Fact]:
        header = content.header
        yield from _fact("official", [self._coded(header.code)])
        if header.code is not None:
            yield from _fact("class", map(self._coded, header.code.translations))
        yield from _fact("qualities", (f"{self._name_of(n) or n.code}: {self._coded(v)}" for n, v in content.qualities))
        yield from _fact("confidentiality", [self._coded(header.confidentiality)])
        yield from _fact("ids", [header.id.oid_form] if header.id is not None else [])
        if header.set_id is not None:
            yield from _fact("set", [header.set_id.oid_form])
        yield from _fact("version", [str(header.version_number or "")])
        for related in header.related_documents:
            label = _KINDS_OF_LINK.get(related.type, "appends")
            version = [str(related.version)] if related.version is not None else []
            set_id = [related.set_id.oid_form] if related.set_id is not None else []
            yield from _fact(label, [" / ".join([id_.oid_form, *set_id, *version]) for id_ in related.ids])
        yield from _fact("order", [id_.oid_form for id_ in header.orders])

    def _patient(self, patient: cda.Patient) -> Iterator[Fact]:
        yield from _fact("name", [_names(patient.names)])
        yield from _fact("birth", [_moment(patient.birth_time)])
        yield from _fact("gender", [self._name_of(cda.Coded(patient.gender, _SYSTEMS["gender"], patient.gender))])
        yield from _fact("ids", self._numbers(patient.ids))
        yield from _contact(patient.telecoms, patient.addresses)
        yield from _fact("mother", [_name(patient.mother)])
        yield from _fact("father", [_name(patient.father)])
        yield from _fact("guardian", [_name(patient.guardian), *self._numbers(patient.guardian_ids)])
        yield from _fact("birth_order", [str(patient.birth_order or "")])
        yield from self._organisation(patient.provider)

    def _organisation(self, organisation: cda.Organisation | None) -> Iterator[Fact]:
        """Each unit of it, from the inside out, on a line."""
        lines = []
        for unit in organisation.chain() if organisation is not None else ():
            telecoms, addresses = map(_telecom, unit.telecoms), map(_address, unit.addresses)
            kinds = (self._coded(unit.industry), self._coded(unit.practice))
            said = (unit.name, *kinds, *addresses, *telecoms, *self._numbers(unit.ids))
            lines.append(", ".join(filter(None, said)))
        yield from _fact("organisation", lines)

    def _author(self, author: cda.Author) -> str:
        function = self._name_of(author.function) or author.function.code if author.function is not None else ""
        specialty = self._name_of(author.specialty) if author.specialty is not None else ""
        return ", ".join(filter(None, (_names(author.names) or author.device, function, specialty)))

    def _numbers(self, ids: Iterable[cda.Id]) -> Iterator[str]:
        for id_ in ids:
            known = next((word for root, word in self._ids if f"{id_.root}.".startswith(f"{root}.")), "")
            said = (known or id_.authority, id_.extension or id_.root)
            yield " ".join(filter(None, said))

    def _pesel(self, ids: Iterable[cda.Id]) -> Iterator[str]:
        return self._numbers(id_ for id_ in ids if id_.root == _ROOTS["pesel"])

    def _coded(self, coded: cda.Coded | None) -> str:
        """Its name, in our words where the table has them, and the code."""
        if coded is None:
            return ""
        name = self._name_of(coded)
        return f"{name} ({coded.code})" if name and coded.code and name != coded.code else name or coded.code

    def _name_of(self, coded: cda.Coded) -> str:
        row = _names_of_codes().get((coded.system, coded.code), {})
        ours: str = row.get(self._language, coded.display)
        return ours


@cache
def _names_of_codes() -> dict[tuple[str, str], dict[str, str]]:
    return {(_SYSTEMS[system], code): row for system, codes in _WORDS["codes"].items() for code, row in codes.items()}


def _party_label(party: cda.Party) -> str:
    known = {"participant": "payer" if party.kind == "UNDWRT" else "participant"}
    return known.get(party.role, party.role)


_DETAILS = frozenset(
    {"quantity", "doseQuantity", "repeatNumber", "referenceRange", "interpretationCode", "performer", "routeCode",
     "effectiveTime", "lotNumberText", "formCode", "capacityQuantity", "targetSiteCode", "priorityCode", "period",
     "ingredient", "expirationTime", "rateQuantity", "value"}
)  # fmt: skip


def _detail_label(detail: Detail) -> str:
    return detail.label if detail.label in _DETAILS else ""


def _group(label: str, facts: Iterable[Fact]) -> Iterator[Group]:
    if kept := tuple(facts):
        yield Group(label, kept)


def _fact(label: str, lines: Iterable[str]) -> Iterator[Fact]:
    if kept := tuple(dict.fromkeys(line for line in lines if line)):
        yield Fact(label, kept)


def _contact(telecoms: Iterable[cda.Telecom], addresses: Iterable[cda.Address]) -> Iterator[Fact]:
    yield from _fact("address", map(_address, addresses))
    yield from _fact("telecom", map(_telecom, telecoms))


def _names(names: Iterable[cda.Name]) -> str:
    return ", ".join(filter(None, map(_name, names)))


def _name(name: cda.Name | None) -> str:
    if name is None:
        return ""
    return " ".join((*name.prefix, *name.given, *name.family, *name.suffix)) or name.text


def _place(organisation: cda.Organisation | None) -> str:
    """The organisation's names, from the inside out; the same name once."""
    names = {unit.name.casefold(): unit.name for unit in organisation.chain() if unit.name} if organisation else {}
    return ", ".join(names.values())


def _address(address: cda.Address) -> str:
    street = " ".join(filter(None, (address.street, address.house)))
    street = "/".join(filter(None, (street, address.unit)))
    town = " ".join(filter(None, (address.postal_code, address.post_city or address.city)))
    place = address.city if address.post_city and address.post_city != address.city else ""
    return ", ".join(filter(None, (street, place, town, address.country, address.text, *address.census_tracts)))


def _telecom(telecom: cda.Telecom) -> str:
    return telecom.value.removeprefix("tel:").removeprefix("mailto:")


def _moment(time: str) -> str:
    """A CDA time as people write it here, as precise as it is; what is no time, as it is."""
    moment = utc(time)
    if moment is None or len(moment) < len("20140906"):
        return time
    if len(moment) < _MINUTES:
        return f"{moment[6:8]}.{moment[4:6]}.{moment[:4]}"
    at = datetime.strptime(moment[:_MINUTES], "%Y%m%d%H%M").replace(tzinfo=UTC)
    return f"{at.astimezone(_WARSAW):%d.%m.%Y, %H:%M}"


def _period(period: cda.Period) -> str:
    low, high = _moment(period.low), _moment(period.high)
    return low if low == high else f"{low} – {high}".strip()

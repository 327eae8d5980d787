"""Writes PIK HL7 CDA 1.3.2 documents: the six kinds that hospitals and clinics exchange most.

Discharge card (.18), refusal of admission (.19), consultation (.15), description of a diagnostic study (.16),
laboratory report (.17) and information for the referring doctor (.28), each as text or, with an attachment, as the
wrapping of a file (section .3.55). The header is made of the same structures that :mod:`obieg.wire.cda` reads.

Elements stand in the order of the schema (HL7 CDA R2, POCD_HD000040; extension extPL). The text is put together from
strings, each value escaped where it is used; that is faster than a tree, and the order of elements is plain to see.
"""

from __future__ import annotations

import base64
import re
from collections.abc import Iterable, Iterator, Sequence
from functools import cache
from itertools import chain

from obieg.codes import load
from obieg.wire.cda import (
    CDA,
    Address,
    Author,
    Coded,
    Encounter,
    Id,
    Name,
    Organisation,
    Part,
    Patient,
    Period,
    RelatedDocument,
    ServiceEvent,
    Telecom,
)
from obieg.wire.xml import attribute, text

_PIK = load.toml("national/pl/pik.toml")
_ROOTS: dict[str, str] = _PIK["roots"]
_SYSTEMS: dict[str, str] = _PIK["systems"]
_SECTIONS: dict[str, list[str]] = _PIK["sections"]
_WRITTEN: dict[str, str] = _PIK["written"]
_SYSTEM_NAMES = {
    _SYSTEMS["loinc"]: "LOINC",
    _SYSTEMS["klas_dok_p1"]: "KLAS_DOK_P1",
    _SYSTEMS["icd9_pl"]: "ICD-9-PL",
    _SYSTEMS["icd10"]: "icd10",
    _SYSTEMS["snomed"]: "SNOMED CT",
}
_NUMBER = re.compile(r"-?\d+(\.\d+)?")

# Which sections a template has, in its order (facts of the published samples); all but the first may be left out.
TEMPLATES = {
    "15": ("history", "examination", "diagnoses", "recommendations"),
    "16": ("study",),
    "17": ("laboratory",),
    "18": ("stays", "diagnoses", "results", "treatment", "discharge_summary", "recommendations"),
    "19": ("diagnoses", "history", "examination", "results", "treatment", "refusal", "recommendations"),
    "28": ("diagnoses", "history", "recommendations"),
}


class Diagnosis(Part, frozen=True):
    """A diagnosis in ICD-10; ``description`` is what the doctor wrote, "" for the name of the code."""

    code: str
    name: str
    description: str = ""
    main: bool = False


class Result(Part, frozen=True):
    """A laboratory result; ``value``, ``low`` and ``high`` with a decimal point, or any text as value."""

    name: str
    value: str
    unit: str = ""
    low: str = ""
    high: str = ""
    code: str = ""  # ICD-9-PL
    time: str = ""  # when the specimen was taken

    @property
    def flag(self) -> str:
        """H above the range, L below it, "" within or where that cannot be said."""
        if not _NUMBER.fullmatch(self.value):
            return ""
        if self.high and float(self.value) > float(self.high):
            return "H"
        return "L" if self.low and float(self.value) < float(self.low) else ""


class Stay(Part, frozen=True):
    """A stay on one ward during a hospital treatment; ``code`` is VIII część."""

    code: str
    name: str
    time: Period


class Section(Part, frozen=True):
    """A section of the body; ``kind`` is a row of ``sections`` in pik.toml."""

    kind: str
    title: str = ""  # "" for the usual one
    paragraphs: tuple[str, ...] = ()
    items: tuple[str, ...] = ()
    diagnoses: tuple[Diagnosis, ...] = ()
    results: tuple[Result, ...] = ()
    stays: tuple[Stay, ...] = ()


class Attachment(Part, frozen=True):
    """The file that a document of the binary variant consists of."""

    media_type: str
    data: bytes


class CdaDocument(Part, frozen=True):
    """All that a document says. ``author`` signs it too; the custodian is the author's whole organisation."""

    template: str  # a key of TEMPLATES
    id: Id
    set_id: Id
    effective_time: str
    patient: Patient
    author: Author
    version_number: int = 1
    title: str = ""  # "" for the usual one
    confidentiality: str = "N"
    language: str = "pl-PL"
    service_events: tuple[ServiceEvent, ...] = ()
    encounter: Encounter | None = None
    orders: tuple[Id, ...] = ()
    previous: RelatedDocument | None = None  # the version that this one replaces
    sections: tuple[Section, ...] = ()
    attachment: Attachment | None = None
    attachment_diagnoses: tuple[Diagnosis, ...] = ()


def write_document(document: CdaDocument) -> bytes:
    """The document in UTF-8; ValueError if its parts contradict each other."""
    _check(document)
    pieces = chain(
        _root(),
        _head(document),
        _record_target(document.patient),
        _author(document),
        _signatures(document.author),
        _context(document),
        _body(document),
        ["</ClinicalDocument>\n"],
    )
    return "\n".join(pieces).encode()


def _check(document: CdaDocument) -> None:
    allowed = TEMPLATES.get(document.template)
    if allowed is None:
        raise ValueError(f"template {document.template!r} is not one of {', '.join(TEMPLATES)}")
    if bool(document.sections) == (document.attachment is not None):
        raise ValueError("a document has either sections or an attachment")
    unknown = {section.kind for section in document.sections} - set(allowed)
    if unknown:
        raise ValueError(f"template {document.template} has no section {', '.join(sorted(unknown))}")
    if (document.version_number > 1) != (document.previous is not None):
        raise ValueError("every version but the first names the previous one, and the first names none")
    if not document.author.ids or document.author.organisation is None:
        raise ValueError("the author needs an id and an organisation")


# Header


def _root() -> Iterator[str]:
    yield '<?xml version="1.0" encoding="UTF-8"?>'
    yield f'<?xml-stylesheet href="{_WRITTEN["stylesheet"]}" type="text/xsl"?>'
    yield (
        f'<ClinicalDocument xmlns="{CDA}" xmlns:extPL="{_WRITTEN["namespace"]}"'
        ' xmlns:xsi="http://www.w3.org/2001/XMLSchema-instance" xsi:type="extPL:ClinicalDocument">'
    )


def _head(document: CdaDocument) -> Iterator[str]:
    template = _templates()[document.template]
    kind = Coded(
        template["type"],
        _SYSTEMS["loinc"],
        _names_of("document_types")[template["type"]],
        translations=(
            Coded(template["class"], _SYSTEMS["klas_dok_p1"], _names_of("document_classes")[template["class"]]),
        ),
    )
    yield f'<typeId root="{_ROOTS["cda_type"]}" extension="POCD_HD000040"/>'
    yield (f'<templateId root="{_ROOTS["document_template"]}.{document.template}" extension="{_WRITTEN["version"]}"/>')
    yield _id("id", document.id)
    yield _coded("code", kind)
    yield f"<title>{text(document.title or template['title'])}</title>"
    yield f'<effectiveTime value="{attribute(document.effective_time)}"/>'
    yield _coded("confidentialityCode", Coded(document.confidentiality, _SYSTEMS["confidentiality"]))
    yield f'<languageCode code="{attribute(document.language)}"/>'
    yield _id("setId", document.set_id)
    yield f'<versionNumber value="{document.version_number}"/>'


def _record_target(patient: Patient) -> Iterator[str]:
    yield f"<recordTarget>{_header_template('record_target')}<patientRole>"
    yield "".join(_id("id", id_) for id_ in patient.ids) or '<id nullFlavor="UNK"/>'
    yield from map(_address, patient.addresses)
    yield from map(_telecom, patient.telecoms)
    extension = "".join(_birth_and_family(patient))
    yield '<patient xsi:type="extPL:Patient">' if extension else "<patient>"
    yield "".join(_name("name", name) for name in patient.names) or '<name nullFlavor="UNK"/>'
    if patient.gender:
        yield _coded("administrativeGenderCode", Coded(patient.gender, _SYSTEMS["gender"]))
    else:
        yield '<administrativeGenderCode nullFlavor="UNK"/>'
    yield _time("birthTime", patient.birth_time) or '<birthTime nullFlavor="UNK"/>'
    if patient.guardian or patient.guardian_ids:
        person = f"{_header_template('person')}{_name('name', patient.guardian or Name())}"
        ids = "".join(_id("id", id_) for id_ in patient.guardian_ids)
        yield f'<guardian classCode="GUARD">{ids}<guardianPerson>{person}</guardianPerson></guardian>'
    yield f"{extension}</patient>"
    if patient.provider:
        yield _organisation("providerOrganization", patient.provider, "organisation")
    yield "</patientRole></recordTarget>"


def _birth_and_family(patient: Patient) -> Iterator[str]:
    """The Polish extension of the patient: one of several born together, given names of the parents."""
    if patient.multiple_birth:
        yield '<extPL:multipleBirthInd value="true"/>'
    if patient.birth_order is not None:
        yield f'<extPL:multipleBirthOrderNumber value="{patient.birth_order}"/>'
    for relative, template, code, display in (
        (patient.mother, "mother", "MTH", "Mother"),
        (patient.father, "father", "FTH", "Father"),
    ):
        if relative:
            given = "".join(f"<given>{text(name)}</given>" for name in relative.given)
            root = f"{_ROOTS['header_template']}.{_PIK['header_templates'][template]}"
            yield (
                f'<extPL:personalRelationship classCode="PRS"><extPL:templateId root="{root}"/>'
                f'<extPL:code code="{code}" codeSystem="{_SYSTEMS["role_code"]}" displayName="{display}"/>'
                f'<extPL:person classCode="PSN"><extPL:name>{given}</extPL:name></extPL:person>'
                "</extPL:personalRelationship>"
            )


def _author(document: CdaDocument) -> Iterator[str]:
    author = document.author
    yield f"<author>{_header_template('author')}"
    yield _coded("functionCode", author.function) if author.function else '<functionCode nullFlavor="NA"/>'
    yield _time("time", author.time or document.effective_time)
    yield '<assignedAuthor xsi:type="extPL:AssignedAuthor">'
    yield "".join(_id("id", id_) for id_ in author.ids)
    if author.specialty:
        yield _coded("code", author.specialty)
    yield from map(_telecom, author.telecoms)
    names = "".join(_name("name", name) for name in author.names)
    yield f"<assignedPerson>{_header_template('person')}{names}</assignedPerson>"
    if author.organisation:
        kind = "practice" if author.organisation.practice else "cell" if author.organisation.industry else "unit"
        yield _organisation("representedOrganization", author.organisation, kind)
    yield "</assignedAuthor></author>"


def _signatures(author: Author) -> Iterator[str]:
    """Custodian and legalAuthenticator; the latter's name is left out, because he is the author (template .2.6)."""
    whole = list(author.organisation.chain())[-1] if author.organisation else Organisation()
    ids = "".join(_id("id", id_) for id_ in whole.ids[:1])
    yield (
        f"<custodian>{_header_template('custodian')}<assignedCustodian><representedCustodianOrganization>{ids}"
        "</representedCustodianOrganization></assignedCustodian></custodian>"
    )
    yield (
        f"<legalAuthenticator>{_header_template('legal_authenticator')}{_time('time', author.time)}"
        f'<signatureCode code="S"/><assignedEntity>{_id("id", author.ids[0])}</assignedEntity></legalAuthenticator>'
    )


def _context(document: CdaDocument) -> Iterator[str]:
    """What the document fulfils, documents, replaces and belongs to."""
    for order in document.orders:
        yield (
            f"<inFulfillmentOf>{_header_template('order')}"
            f'<order moodCode="RQO">{_id("id", order)}</order></inFulfillmentOf>'
        )
    for event in document.service_events:
        ids = "".join(_id("id", id_) for id_ in event.ids)
        yield (
            f'<documentationOf typeCode="DOC">{_header_template("service_event")}'
            f'<serviceEvent classCode="ACT" moodCode="EVN">{ids}{_coded("code", event.code) if event.code else ""}'
            f"{_period(event.time)}</serviceEvent></documentationOf>"
        )
    if document.previous:
        previous = document.previous
        yield (
            f'<relatedDocument typeCode="{attribute(previous.type)}">{_header_template("related_document")}'
            f"<parentDocument>{''.join(_id('id', id_) for id_ in previous.ids)}"
            f"{_id('setId', previous.set_id) if previous.set_id else ''}"
            f'<versionNumber value="{previous.version or document.version_number - 1}"/>'
            "</parentDocument></relatedDocument>"
        )
    if document.encounter:
        yield _encounter(document.encounter, _templates()[document.template]["encounter"])


def _encounter(encounter: Encounter, template: str) -> str:
    location = ""
    if encounter.location:
        organisation = _organisation("serviceProviderOrganization", encounter.location)
        location = f"<location><healthCareFacility>{organisation}</healthCareFacility></location>"
    time = _period(encounter.time) or '<effectiveTime nullFlavor="NA"/>'
    disposition = _coded("dischargeDispositionCode", encounter.disposition) if encounter.disposition else ""
    return (
        f'<componentOf typeCode="COMP"><templateId root="{_ROOTS["header_template"]}.{template}"/>'
        '<encompassingEncounter classCode="ENC" moodCode="EVN">'
        f"{''.join(_id('id', id_) for id_ in encounter.ids)}{_coded('code', encounter.code) if encounter.code else ''}"
        f"{time}{disposition}{location}"
        "</encompassingEncounter></componentOf>"
    )


# Body


def _body(document: CdaDocument) -> Iterator[str]:
    template = _templates()[document.template]["body"]
    yield (
        '<component typeCode="COMP" contextConductionInd="true">'
        f'<templateId root="{_ROOTS["header_template"]}.{template}"/>'
        '<structuredBody classCode="DOCBODY" moodCode="EVN">'
    )
    if document.attachment:
        yield _binary_section(document, document.attachment)
    else:
        numbers = _Numbers()
        yield from (_section(section, numbers) for section in document.sections)
    yield "</structuredBody></component>"


class _Numbers:
    """IDs of narrative parts, unique in the document."""

    def __init__(self) -> None:
        self._last: dict[str, int] = {}

    def next(self, prefix: str) -> str:
        self._last[prefix] = self._last.get(prefix, 0) + 1
        return f"{prefix}_{self._last[prefix]}"


def _binary_section(document: CdaDocument, attachment: Attachment) -> str:
    """The file in section .3.55, which must carry the code of the document itself (DECOR 1.3.2, template .3.55)."""
    kind = _templates()[document.template]["type"]
    code = _coded("code", Coded(kind, _SYSTEMS["loinc"], _names_of("document_types")[kind]))
    data = base64.b64encode(attachment.data).decode()
    diagnoses = "".join(_diagnosis(diagnosis, "") for diagnosis in document.attachment_diagnoses)
    return (
        f'<component><section><templateId root="{_ROOTS["section_template"]}.{_PIK["section_templates"]["binary"]}"/>'
        f'{code}<text><renderMultiMedia referencedObject="DOCUMENT_CONTENT"/></text>'
        '<entry><observationMedia ID="DOCUMENT_CONTENT" classCode="OBS" moodCode="EVN">'
        f'{_entry_template("binary")}<value representation="B64" mediaType="{attribute(attachment.media_type)}">'
        f"{data}</value></observationMedia></entry>{diagnoses}</section></component>"
    )


def _section(section: Section, numbers: _Numbers) -> str:
    template, code, display, usual_title = _SECTIONS[section.kind]
    title = section.title or usual_title
    narrative: list[str] = [f"<paragraph>{text(paragraph)}</paragraph>" for paragraph in section.paragraphs]
    entries: list[str] = []
    for block, block_entries in (
        _stays(section.stays, numbers),
        _diagnoses(section.diagnoses, numbers),
        _results(section.results, numbers),
    ):
        narrative.append(block)
        entries += block_entries
    if section.items:
        narrative.append(f"<list>{''.join(f'<item>{text(item)}</item>' for item in section.items)}</list>")
    return "".join(
        (
            f'<component><section><templateId root="{_ROOTS["section_template"]}.{template}"/>',
            _coded("code", Coded(code, _SYSTEMS["loinc"], display)) if code else "",
            f"<title>{text(title)}</title>" if title else "",
            f"<text>{''.join(narrative)}</text>",
            *entries,
            "</section></component>",
        )
    )


def _stays(stays: Sequence[Stay], numbers: _Numbers) -> tuple[str, list[str]]:
    if not stays:
        return "", []
    items, entries = [], []
    for stay in stays:
        number = numbers.next("ENC")
        dates = f"{_shown_date(stay.time.low)} - {_shown_date(stay.time.high)}"
        items.append(f'<item ID="{number}">{text(f"{dates} {stay.name}")}</item>')
        entries.append(
            f'<entry><encounter classCode="ENC" moodCode="EVN">{_entry_template("stay")}'
            f"{_coded('code', Coded(stay.code, _SYSTEMS['cell_specialty'], stay.name))}"
            f"{_reference(number)}{_period(stay.time)}</encounter></entry>"
        )
    return f"<list><caption>Pobyty na oddziałach:</caption>{''.join(items)}</list>", entries


def _diagnoses(diagnoses: Sequence[Diagnosis], numbers: _Numbers) -> tuple[str, list[str]]:
    if not diagnoses:
        return "", []
    lines, entries = [], []
    for diagnosis in diagnoses:
        number = numbers.next("DIAG")
        shown = text(diagnosis.description or diagnosis.name)
        lines.append(f'<tr ID="{number}"><td>{shown}</td><td>{text(diagnosis.code)}</td></tr>')
        entries.append(_diagnosis(diagnosis, number))
    return f"<table><tbody>{''.join(lines)}</tbody></table>", entries


def _diagnosis(diagnosis: Diagnosis, number: str) -> str:
    kind = "main" if diagnosis.main else "secondary"
    code, display = _PIK["diagnosis_kinds"][kind]
    return (
        f'<entry>{_entry_template(f"{kind}_diagnosis")}<organizer classCode="BATTERY" moodCode="EVN">'
        f'{_coded("code", Coded(code, _SYSTEMS["snomed"], display))}<statusCode code="completed"/>'
        '<component><observation classCode="OBS" moodCode="EVN">'
        f"{_coded('code', Coded(diagnosis.code, _SYSTEMS['icd10'], diagnosis.name))}"
        f"{_reference(number) if number else ''}</observation></component></organizer></entry>"
    )


_RESULT_COLUMNS = ("Badanie", "Wynik", "Jedn.", "Zakres referencyjny", "Flaga", "Data pobrania")


def _results(results: Sequence[Result], numbers: _Numbers) -> tuple[str, list[str]]:
    if not results:
        return "", []
    lines, entries = [], []
    for result in results:
        number = numbers.next("OBS")
        limits = " - ".join(_shown_number(limit) or "…" for limit in (result.low, result.high))
        cells = (
            f"{result.name} (ICD-9: {result.code})" if result.code else result.name,
            _shown_number(result.value),
            result.unit,
            limits if result.low or result.high else "",
            result.flag,
            _shown_time(result.time),
        )
        lines.append(f'<tr ID="{number}">{"".join(f"<td>{text(cell)}</td>" for cell in cells)}</tr>')
        if result.code:
            entries.append(_result(result, number))
    heads = "".join(f"<th>{column}</th>" for column in _RESULT_COLUMNS)
    return f"<table><thead><tr>{heads}</tr></thead><tbody>{''.join(lines)}</tbody></table>", entries


def _result(result: Result, number: str) -> str:
    unit = f' unit="{attribute(result.unit)}"' if result.unit else ""
    if _NUMBER.fullmatch(result.value):
        value = f'<value xsi:type="PQ" value="{result.value}"{unit}/>'
    else:
        value = f'<value xsi:type="ST">{text(result.value)}</value>'
    low = f'<low value="{attribute(result.low)}"{unit}/>' if result.low else ""
    high = f'<high value="{attribute(result.high)}"{unit}/>' if result.high else ""
    limits = (
        '<referenceRange typeCode="REFV"><observationRange classCode="OBS" moodCode="EVN.CRT">'
        f'<value xsi:type="IVL_PQ">{low}{high}</value></observationRange></referenceRange>'
    )
    return (
        f'<entry typeCode="COMP"><observation classCode="OBS" moodCode="EVN">{_entry_template("laboratory_result")}'
        f"{_coded('code', Coded(result.code, _SYSTEMS['icd9_pl'], result.name))}{_reference(number)}"
        f"{_time('effectiveTime', result.time)}{value}{limits if low or high else ''}</observation></entry>"
    )


def _reference(number: str) -> str:
    return f'<text><reference value="#{number}"/></text>'


def _shown_number(value: str) -> str:
    return value.replace(".", ",") if _NUMBER.fullmatch(value) else value


def _shown_date(time: str) -> str:
    return f"{time[6:8]}.{time[4:6]}.{time[:4]}" if len(time) >= 8 else time


def _shown_time(time: str) -> str:
    return f"{_shown_date(time)} {time[8:10]}:{time[10:12]}" if len(time) >= 12 else _shown_date(time)


# Data types


def _id(tag: str, id_: Id) -> str:
    extension = f' extension="{attribute(id_.extension)}"' if id_.extension else ""
    authority = f' assigningAuthorityName="{attribute(id_.authority)}"' if id_.authority else ""
    return f'<{tag} root="{attribute(id_.root)}"{extension}{authority}/>'


def _coded(tag: str, code: Coded) -> str:
    name = code.system_name or _SYSTEM_NAMES.get(code.system, "")
    parts = [f'<{tag} code="{attribute(code.code)}"']
    for key, value in (("codeSystem", code.system), ("codeSystemName", name), ("displayName", code.display)):
        if value:
            parts.append(f' {key}="{attribute(value)}"')
    if code.translations:
        inner = "".join(_coded("translation", translation) for translation in code.translations)
        parts.append(f">{inner}</{tag}>")
    else:
        parts.append("/>")
    return "".join(parts)


def _time(tag: str, value: str) -> str:
    return f'<{tag} value="{attribute(value)}"/>' if value else ""


def _period(period: Period) -> str:
    if not period.low and not period.high:
        return ""
    if period.low == period.high:
        return _time("effectiveTime", period.low)
    return f"<effectiveTime>{_time('low', period.low)}{_time('high', period.high)}</effectiveTime>"


def _name(tag: str, name: Name) -> str:
    """A given name that is not known yet is said to be so: newborns are entered as "son of" (DECOR, template .2.3)."""
    parts = [f"<prefix>{text(prefix)}</prefix>" for prefix in name.prefix]
    parts += [f"<given>{text(given)}</given>" for given in name.given] or ['<given nullFlavor="NA"/>']
    parts += [f"<family>{text(family)}</family>" for family in name.family]
    parts += [f"<suffix>{text(suffix)}</suffix>" for suffix in name.suffix]
    return f"<{tag}>{''.join(parts)}</{tag}>"


def _address(address: Address) -> str:
    post = f' xsi:type="extPL:adxp.postalCode" postCity="{attribute(address.post_city)}"' if address.post_city else ""
    parts = (
        _element("country", address.country),
        f"<postalCode{post}>{text(address.postal_code)}</postalCode>" if address.postal_code else "",
        _element("city", address.city),
        _element("streetName", address.street),
        _element("houseNumber", address.house),
        _element("unitID", address.unit),
        *(_element("censusTract", tract) for tract in address.census_tracts),
    )
    return f"<addr>{''.join(parts)}</addr>"


def _telecom(telecom: Telecom) -> str:
    use = f' use="{attribute(telecom.use)}"' if telecom.use else ""
    return f'<telecom{use} value="{attribute(telecom.value)}"/>'


def _organisation(tag: str, organisation: Organisation, template: str = "") -> str:
    part_of = ""
    if organisation.whole:
        practice = _coded("code", organisation.practice) if organisation.practice else ""
        whole = _organisation("wholeOrganization", organisation.whole)
        part_of = f"<asOrganizationPartOf>{practice}{whole}</asOrganizationPartOf>"
    parts: Iterable[str] = (
        _header_template(template) if template else "",
        *(_id("id", id_) for id_ in organisation.ids),
        _element("name", organisation.name),
        *map(_telecom, organisation.telecoms),
        *map(_address, organisation.addresses),
        _coded("standardIndustryClassCode", organisation.industry) if organisation.industry else "",
        part_of,
    )
    return f"<{tag}>{''.join(parts)}</{tag}>"


def _element(tag: str, value: str) -> str:
    return f"<{tag}>{text(value)}</{tag}>" if value else ""


@cache
def _header_template(name: str) -> str:
    return f'<templateId root="{_ROOTS["header_template"]}.{_PIK["header_templates"][name]}"/>'


@cache
def _entry_template(name: str) -> str:
    return f'<templateId root="{_ROOTS["entry_template"]}.{_PIK["entry_templates"][name]}"/>'


@cache
def _templates() -> dict[str, dict[str, str]]:
    return {row["template"]: row for row in load.rows("national/pl/templates.csv")}


@cache
def _names_of(table: str) -> dict[str, str]:
    return {row["code"]: row["display"] for row in load.rows(f"national/pl/{table}.csv")}

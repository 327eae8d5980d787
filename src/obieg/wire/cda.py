"""Reads the header of a CDA R2 document, in particular of PIK HL7 CDA (HL7 CDA R2, 4.2; PIK HL7 CDA 1.3.2).

Bytes in, plain structures out. Nothing but the root element is demanded: whatever is missing or has a nullFlavor is
empty in the result, for documents of the unconscious, of newborns and of careless software are documents too. Which of
the missing things matter is decided by who uses the header (:mod:`obieg.mapping.pik`).
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import msgspec

from obieg.codes import load
from obieg.wire.xml import XmlRefused, parse_document

CDA = "urn:hl7-org:v3"
XSI_TYPE = "{http://www.w3.org/2001/XMLSchema-instance}type"
_PIK = load.toml("national/pl/pik.toml")
_ROOTS = _PIK["roots"]
_SYSTEMS = _PIK["systems"]
_HEADER_TEMPLATES = _PIK["header_templates"]
_EXTENSIONS: dict[str, str] = _PIK["versions"]
_BINARY_SECTION = f"{_ROOTS['section_template']}.{_PIK['section_templates']['binary']}"


class CdaRefused(Exception):  # noqa: N818
    """The bytes are not a CDA document; ``location`` says where that shows."""

    def __init__(self, detail: str, location: str = "") -> None:
        super().__init__(detail)
        self.location = location


class Part(msgspec.Struct, frozen=True, omit_defaults=True):
    """Base of what a header is made of."""


class Id(Part, frozen=True):
    """II: an identifier."""

    root: str
    extension: str = ""
    authority: str = ""  # assigningAuthorityName

    @property
    def oid_form(self) -> str:
        """``root^extension``, the uniqueId of a document (ITI TF-3:4.2.3.2.26)."""
        return f"{self.root}^{self.extension}" if self.extension else self.root


class Coded(Part, frozen=True):
    """CD, CE, CV, CS: a coded value."""

    code: str
    system: str = ""
    display: str = ""
    system_name: str = ""
    translations: tuple[Coded, ...] = ()

    def in_system(self, system: str) -> Coded | None:
        """The value, or the translation of it, that belongs to the code system ``system``."""
        return next((value for value in (self, *self.translations) if value.system == system), None)


class Name(Part, frozen=True):
    """PN: a person's name; ``text`` holds what is written outside of parts."""

    family: tuple[str, ...] = ()
    given: tuple[str, ...] = ()
    prefix: tuple[str, ...] = ()
    suffix: tuple[str, ...] = ()
    text: str = ""


class Address(Part, frozen=True):
    """AD, with the postal town that the Polish extension knows (``postCity``)."""

    country: str = ""
    postal_code: str = ""
    post_city: str = ""
    city: str = ""
    street: str = ""
    house: str = ""
    unit: str = ""
    census_tracts: tuple[str, ...] = ()  # "TERYT TERC: ..." and the like
    text: str = ""


class Telecom(Part, frozen=True):
    """TEL: a URL such as ``tel:22-1111123``."""

    value: str
    use: str = ""


class Period(Part, frozen=True):
    """IVL_TS as written; a point in time has ``low`` and ``high`` alike."""

    low: str = ""
    high: str = ""


class Organisation(Part, frozen=True):
    """An organisation, and the one that it is part of: komórka, jednostka, podmiot."""

    ids: tuple[Id, ...] = ()
    name: str = ""
    telecoms: tuple[Telecom, ...] = ()
    addresses: tuple[Address, ...] = ()
    industry: Coded | None = None  # standardIndustryClassCode
    practice: Coded | None = None  # asOrganizationPartOf/code: kind of a practice
    whole: Organisation | None = None

    def chain(self) -> Iterator[Organisation]:
        """The organisation and those around it, from the inside out."""
        organisation: Organisation | None = self
        while organisation is not None:
            yield organisation
            organisation = organisation.whole


class Patient(Part, frozen=True):
    """recordTarget/patientRole."""

    ids: tuple[Id, ...] = ()
    names: tuple[Name, ...] = ()
    birth_time: str = ""
    gender: str = ""
    addresses: tuple[Address, ...] = ()
    telecoms: tuple[Telecom, ...] = ()
    mother: Name | None = None
    father: Name | None = None
    guardian_ids: tuple[Id, ...] = ()
    guardian: Name | None = None
    multiple_birth: bool = False
    birth_order: int | None = None  # extPL:multipleBirthOrderNumber
    provider: Organisation | None = None


class Author(Part, frozen=True):
    """author, with the organisation that is represented."""

    ids: tuple[Id, ...] = ()
    names: tuple[Name, ...] = ()
    function: Coded | None = None
    specialty: Coded | None = None  # assignedAuthor/code
    time: str = ""
    device: str = ""
    telecoms: tuple[Telecom, ...] = ()
    organisation: Organisation | None = None


class Authenticator(Part, frozen=True):
    """legalAuthenticator."""

    ids: tuple[Id, ...] = ()
    names: tuple[Name, ...] = ()
    time: str = ""


class Party(Part, frozen=True):
    """Anybody else who has to do with the document: a payer, a recipient, a performer, a contract."""

    role: str  # name of the element: participant, informationRecipient, performer, …
    kind: str = ""  # classCode of the entity: UNDWRT, …; typeCode where the entity has none
    function: Coded | None = None
    ids: tuple[Id, ...] = ()
    names: tuple[Name, ...] = ()
    time: Period = Period()
    telecoms: tuple[Telecom, ...] = ()
    addresses: tuple[Address, ...] = ()
    organisation: Organisation | None = None


class ServiceEvent(Part, frozen=True):
    """documentationOf/serviceEvent."""

    ids: tuple[Id, ...] = ()
    code: Coded | None = None
    time: Period = Period()


class Encounter(Part, frozen=True):
    """componentOf/encompassingEncounter."""

    ids: tuple[Id, ...] = ()
    code: Coded | None = None
    time: Period = Period()
    disposition: Coded | None = None
    location: Organisation | None = None


class RelatedDocument(Part, frozen=True):
    """relatedDocument: RPLC, APND or XFRM."""

    type: str
    ids: tuple[Id, ...] = ()
    set_id: Id | None = None
    version: int | None = None


class Body(Part, frozen=True):
    """What kind of content follows; ``media_type`` is that of the embedded file of a binary document."""

    binary: bool = False
    media_type: str = ""


class CdaHeader(Part, frozen=True):
    """Everything that stands before the content (HL7 CDA R2, 4.2)."""

    version: str = ""  # of PIK HL7 CDA: "1.3.1" or "1.3.2"; "" in other CDA
    template_ids: tuple[Id, ...] = ()
    id: Id | None = None
    set_id: Id | None = None
    version_number: int | None = None
    code: Coded | None = None
    title: str = ""
    effective_time: str = ""
    confidentiality: Coded | None = None
    language: str = ""
    patient: Patient = Patient()
    authors: tuple[Author, ...] = ()
    custodian: Organisation | None = None
    legal_authenticator: Authenticator | None = None
    service_events: tuple[ServiceEvent, ...] = ()
    encounter: Encounter | None = None
    related_documents: tuple[RelatedDocument, ...] = ()
    orders: tuple[Id, ...] = ()  # inFulfillmentOf
    body: Body = Body()

    @property
    def template(self) -> str:
        """The number of the PIK HL7 CDA template, such as "18"; "" if the document claims none."""
        prefix = f"{_ROOTS['document_template']}."
        return next((t.root.removeprefix(prefix) for t in self.template_ids if t.root.startswith(prefix)), "")


def read_header(document: bytes) -> CdaHeader:
    """Header of ``document``; raises :class:`CdaRefused` if that is not a CDA document."""
    return header_of(open_document(document))


def open_document(document: bytes) -> Any:
    """The element ClinicalDocument; raises :class:`CdaRefused` if that is not what ``document`` is."""
    try:
        root = parse_document(document).getroot()
    except XmlRefused as error:
        raise CdaRefused(str(error)) from None
    if root.tag != f"{{{CDA}}}ClinicalDocument":
        raise CdaRefused(f"the root element is {root.tag}, not ClinicalDocument of {CDA}", "/")
    return root


def header_of(root: Any) -> CdaHeader:
    """Header of the document whose root element this is."""
    version = next((v for namespace, v in _EXTENSIONS.items() if namespace in root.nsmap.values()), "")
    confidentiality = _child(root, "confidentialityCode")
    return CdaHeader(
        version=version,
        template_ids=_ids(root, "templateId"),
        id=_id(_child(root, "id")),
        set_id=_id(_child(root, "setId")),
        version_number=_integer(_child(root, "versionNumber")),
        code=_coded(_child(root, "code")),
        title=_text(_child(root, "title")),
        effective_time=_value(_child(root, "effectiveTime")),
        confidentiality=_coded(confidentiality),
        language=_attribute(_child(root, "languageCode"), "code"),
        patient=_patient(_at(root, "recordTarget", "patientRole")),
        authors=tuple(_author(author) for author in _children(root, "author")),
        custodian=_organisation(_at(root, "custodian", "assignedCustodian", "representedCustodianOrganization")),
        legal_authenticator=_authenticator(_child(root, "legalAuthenticator")),
        service_events=tuple(
            _service_event(event)
            for documentation in _children(root, "documentationOf")
            for event in _children(documentation, "serviceEvent")
        ),
        encounter=_encounter(_at(root, "componentOf", "encompassingEncounter")),
        related_documents=tuple(_related(related) for related in _children(root, "relatedDocument")),
        orders=tuple(
            id_
            for fulfilment in _children(root, "inFulfillmentOf")
            for order in _children(fulfilment, "order")
            for id_ in _ids(order, "id")
        ),
        body=_body(_child(root, "component")),
    )


# Who stands where: roles below the root, below service events, and below the encounter; and how they are written.
_ROLES = ("informationRecipient", "participant", "authenticator", "dataEnterer", "informant")
_ENCOUNTER_ROLES = ("responsibleParty", "encounterParticipant")
_ENTITIES = ("assignedEntity", "associatedEntity", "intendedRecipient", "relatedEntity")
_PERSONS = ("assignedPerson", "associatedPerson", "informationRecipient", "relatedPerson")
_ORGANISATIONS = ("representedOrganization", "scopingOrganization", "receivedOrganization")


def parties_of(root: Any) -> tuple[Party, ...]:
    """Everybody but patient, authors, custodian and legal authenticator, with the contracts that authors work under."""
    encounter = _at(root, "componentOf", "encompassingEncounter")
    found = [_party(element, role) for role in _ROLES for element in _children(root, role)]
    for documentation in _children(root, "documentationOf"):
        for event in _children(documentation, "serviceEvent"):
            found += [_party(element, "performer") for element in _children(event, "performer")]
    found += [_party(element, role) for role in _ENCOUNTER_ROLES for element in _children(encounter, role)]
    for author in _children(root, "author"):
        for bound in _extensions(_child(author, "assignedAuthor"), "boundedBy"):
            contract = _extension(bound, "reimbursementRelatedContract")
            found.append(
                Party("contract", ids=tuple(i for i in map(_id, _extensions(contract, "id")) if i is not None))
            )
    return tuple(party for party in found if party != Party(party.role, party.kind))


def _party(element: Any, role: str) -> Party:
    entity = _first(element, _ENTITIES)
    return Party(
        role=role,
        kind=("" if entity is None else entity.get("classCode", "")) or element.get("typeCode", ""),
        function=_coded(_child(element, "functionCode")) or _coded(_child(entity, "code")),
        ids=_ids(entity, "id"),
        names=_names(_first(entity, _PERSONS), "name"),
        time=_period(_child(element, "time")),
        telecoms=_telecoms(entity),
        addresses=_addresses(entity),
        organisation=_organisation(_first(entity, _ORGANISATIONS)),
    )


def _patient(role: Any) -> Patient:
    if role is None:
        return Patient()
    patient = _child(role, "patient")
    relatives = dict(_relatives(patient))
    guardian = _child(patient, "guardian")
    return Patient(
        ids=_ids(role, "id"),
        names=_names(patient, "name"),
        birth_time=_value(_child(patient, "birthTime")),
        gender=_attribute(_child(patient, "administrativeGenderCode"), "code"),
        addresses=_addresses(role),
        telecoms=_telecoms(role),
        mother=relatives.get("MTH"),
        father=relatives.get("FTH"),
        guardian_ids=_ids(guardian, "id"),
        guardian=next(iter(_names(_child(guardian, "guardianPerson"), "name")), None),
        multiple_birth=_value(_extension(patient, "multipleBirthInd")) == "true",
        birth_order=_integer(_extension(patient, "multipleBirthOrderNumber")),
        provider=_organisation(_child(role, "providerOrganization")),
    )


def _relatives(patient: Any) -> Iterator[tuple[str, Name]]:
    """The given names of mother and father (extPL:personalRelationship, templates .2.64 and .2.65)."""
    for relationship in _extensions(patient, "personalRelationship"):
        name = _name(_extension(_extension(relationship, "person"), "name"))
        if name is not None:
            yield _attribute(_extension(relationship, "code"), "code"), name


def _author(element: Any) -> Author:
    assigned = _child(element, "assignedAuthor")
    device = _child(assigned, "assignedAuthoringDevice")
    return Author(
        ids=_ids(assigned, "id"),
        names=_names(_child(assigned, "assignedPerson"), "name"),
        function=_coded(_child(element, "functionCode")),
        specialty=_coded(_child(assigned, "code")),
        time=_value(_child(element, "time")),
        device=_text(_child(device, "softwareName")) or _text(_child(device, "manufacturerModelName")),
        telecoms=_telecoms(assigned),
        organisation=_organisation(_child(assigned, "representedOrganization")),
    )


def _authenticator(element: Any) -> Authenticator | None:
    if element is None:
        return None
    entity = _child(element, "assignedEntity")
    return Authenticator(
        ids=_ids(entity, "id"),
        names=_names(_child(entity, "assignedPerson"), "name"),
        time=_value(_child(element, "time")),
    )


def _organisation(element: Any) -> Organisation | None:
    if element is None:
        return None
    part_of = _child(element, "asOrganizationPartOf")
    return Organisation(
        ids=_ids(element, "id"),
        name=_text(_child(element, "name")),
        telecoms=_telecoms(element),
        addresses=_addresses(element),
        industry=_coded(_child(element, "standardIndustryClassCode")),
        practice=_coded(_child(part_of, "code")),
        whole=_organisation(_child(part_of, "wholeOrganization")),
    )


def _service_event(element: Any) -> ServiceEvent:
    return ServiceEvent(
        ids=_ids(element, "id"),
        code=_coded(_child(element, "code")),
        time=_period(_child(element, "effectiveTime")),
    )


def _encounter(element: Any) -> Encounter | None:
    if element is None:
        return None
    return Encounter(
        ids=_ids(element, "id"),
        code=_coded(_child(element, "code")),
        time=_period(_child(element, "effectiveTime")),
        disposition=_coded(_child(element, "dischargeDispositionCode")),
        location=_location(_at(element, "location", "healthCareFacility")),
    )


def _location(facility: Any) -> Organisation | None:
    """The organisation at the place of the encounter, or, if none is named, the place."""
    place = _text(_at(facility, "location", "name"))
    return _organisation(_child(facility, "serviceProviderOrganization")) or (
        Organisation(name=place) if place else None
    )


def _related(element: Any) -> RelatedDocument:
    parent = _child(element, "parentDocument")
    return RelatedDocument(
        type=element.get("typeCode", ""),
        ids=_ids(parent, "id"),
        set_id=_id(_child(parent, "setId")),
        version=_integer(_child(parent, "versionNumber")),
    )


def _body(component: Any) -> Body:
    """A nonXMLBody, or the single section .3.55 in which PIK HL7 CDA wraps a file."""
    file = _at(component, "nonXMLBody", "text")
    if file is None:
        section = _at(component, "structuredBody", "component", "section")
        if not any(template.root == _BINARY_SECTION for template in _ids(section, "templateId")):
            return Body()
        media = (_at(entry, "observationMedia", "value") for entry in _children(section, "entry"))
        file = next((value for value in media if value is not None), None)
    return Body(binary=True, media_type=_attribute(file, "mediaType"))


def _ids(parent: Any, name: str) -> tuple[Id, ...]:
    return tuple(id_ for id_ in map(_id, _children(parent, name)) if id_ is not None)


def _id(element: Any) -> Id | None:
    root = _attribute(element, "root")
    if not root:
        return None
    return Id(root, element.get("extension", ""), element.get("assigningAuthorityName", ""))


def _coded(element: Any) -> Coded | None:
    """None for a nullFlavor, unless a translation holds what the sender could say."""
    code = _attribute(element, "code")
    translations = tuple(value for value in map(_coded, _children(element, "translation")) if value is not None)
    if not code and not translations:
        return None
    return Coded(
        code=code,
        system=element.get("codeSystem", ""),
        display=element.get("displayName", ""),
        system_name=element.get("codeSystemName", ""),
        translations=translations,
    )


def _period(element: Any) -> Period:
    point = _value(element)
    if point:
        return Period(point, point)
    return Period(_value(_child(element, "low")), _value(_child(element, "high")))


def _names(parent: Any, tag: str) -> tuple[Name, ...]:
    return tuple(name for name in map(_name, _children(parent, tag)) if name is not None)


def _name(element: Any) -> Name | None:
    if element is None:
        return None
    name = Name(
        family=_texts(element, "family"),
        given=_texts(element, "given"),
        prefix=_texts(element, "prefix"),
        suffix=_texts(element, "suffix"),
        text=_loose(element),
    )
    return None if name == Name() else name


def _addresses(parent: Any) -> tuple[Address, ...]:
    found = (_address(element) for element in _children(parent, "addr"))
    return tuple(address for address in found if address != Address())


def _address(element: Any) -> Address:
    post = _child(element, "postalCode")
    lines = _texts(element, "streetAddressLine")
    return Address(
        country=_text(_child(element, "country")),
        postal_code=_text(post),
        post_city=_attribute(post, "postCity"),
        city=_text(_child(element, "city")),
        street=_text(_child(element, "streetName")),
        house=_text(_child(element, "houseNumber")),
        unit=_text(_child(element, "unitID")),
        census_tracts=_texts(element, "censusTract"),
        text=", ".join(lines) or _loose(element),
    )


def _telecoms(parent: Any) -> tuple[Telecom, ...]:
    return tuple(
        Telecom(element.get("value"), element.get("use", ""))
        for element in _children(parent, "telecom")
        if _value(element)
    )


# Walking: every function takes None for a parent that is missing, so that no caller has to ask.


def _children(parent: Any, name: str, namespace: str = CDA) -> Iterator[Any]:
    return iter(()) if parent is None else parent.iterchildren(f"{{{namespace}}}{name}")


def _child(parent: Any, name: str) -> Any:
    return None if parent is None else parent.find(f"{{{CDA}}}{name}")


def _first(parent: Any, names: tuple[str, ...]) -> Any:
    return next((child for name in names if (child := _child(parent, name)) is not None), None)


def _at(parent: Any, *names: str) -> Any:
    for name in names:
        parent = _child(parent, name)
    return parent


def _extensions(parent: Any, name: str) -> Iterator[Any]:
    """Children in any version's namespace of the Polish extension."""
    for namespace in _EXTENSIONS:
        yield from _children(parent, name, namespace)


def _extension(parent: Any, name: str) -> Any:
    return next(_extensions(parent, name), None)


def _attribute(element: Any, name: str) -> str:
    value: str = "" if element is None or "nullFlavor" in element.attrib else element.get(name, "")
    return value.strip()


def _value(element: Any) -> str:
    return _attribute(element, "value")


def _integer(element: Any) -> int | None:
    value = _value(element)
    return int(value) if value.isascii() and value.isdecimal() and len(value) <= 9 else None


def _text(element: Any) -> str:
    if element is None or "nullFlavor" in element.attrib:
        return ""
    return " ".join("".join(element.itertext(with_tail=False)).split())


def _texts(parent: Any, name: str) -> tuple[str, ...]:
    return tuple(text for text in map(_text, _children(parent, name)) if text)


def _loose(element: Any) -> str:
    """Character data directly in ``element``: names and addresses that nobody took apart."""
    if element is None or "nullFlavor" in element.attrib:
        return ""
    pieces = [element.text or "", *(child.tail or "" for child in element)]
    return " ".join(" ".join(pieces).split())

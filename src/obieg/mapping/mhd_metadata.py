"""DocumentReference and List of MHD 4.2 read as XDS metadata, element by element.

https://profiles.ihe.net/ITI/MHD/32_fhir_maps.html. What is wrong is collected, each finding with the FHIRPath of its
element. Codes keep their FHIR system as ``scheme``: only an affinity domain knows which codingScheme is meant
(:func:`with_schemes`). Patients are written as the identifier that the resource gives; :class:`Reading` keeps all
identifiers by which each may be known.
"""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, NamedTuple
from uuid import UUID

import msgspec

from obieg.codes.load import toml
from obieg.domain.affinity_domain import AffinityDomain
from obieg.domain.documents import Author, Code, DocumentEntry, Folder, Localized, Submission, SubmissionSet
from obieg.domain.identifiers import PatientId, is_oid, is_uuid_urn
from obieg.domain.problems import Finding, Problem
from obieg.mapping.fhir_codes import scheme_of
from obieg.mapping.fhir_patient import authority, patient_value, read_patient
from obieg.mapping.pik_values import demographics_info, organisation_rank
from obieg.wire.hl7v2 import escape

_TABLE, _PROVIDE = toml("mhd.toml"), toml("mhd_provide.toml")
_EXTENSIONS: dict[str, str] = _TABLE["extensions"]
_REFERENCE_TYPES: dict[str, str] = {"encounter": _TABLE["encounter"], **_PROVIDE["reference_types"]}
_URI: str = _TABLE["uri"]
_UUID: str = _TABLE["uuid"]
_OID: str = _TABLE["oid"]
_DATE_TIME = re.compile(
    r"(\d{4})(?:-(\d\d)(?:-(\d\d)(?:T(\d\d):(\d\d):(\d\d)(?:\.\d+)?(Z|[+-]\d\d:\d\d))?)?)?\Z", re.ASCII
)
_HEX_SHA1 = re.compile(rb"[0-9a-fA-F]{40}\Z")
_SHA1_BYTES = 20


class Person(NamedTuple):
    """Who a reference leads to, as HL7 v2 composites; any part may be empty."""

    person: str = ""  # XCN
    institution: str = ""  # XON
    role: tuple[str, ...] = ()
    specialty: tuple[str, ...] = ()
    telecom: tuple[str, ...] = ()  # XTN

    @property
    def known(self) -> bool:
        """Whether anything is said."""
        return any(self)


class Sought(NamedTuple):
    """Somebody whom a reference names by an address in this service: the directory may know who that is."""

    reference: str  # Practitioner/id
    otherwise: Person  # what the reference itself says
    told: tuple[Finding, ...]  # where it says nothing


class Reading:
    """What the resources of one request have in common while they are read."""

    def __init__(self, base: str, affinity_domain: str, resources: Mapping[str, tuple[str, dict[str, Any]]]) -> None:
        """``resources`` are those of the bundle by fullUrl, each with the FHIRPath of where it stands."""
        self.base = base
        self.affinity_domain = affinity_domain
        self.resources = resources
        self.findings: list[Finding] = []
        self.patients: dict[str, tuple[PatientId, ...]] = {}  # patient id as written -> all identifiers given
        self.first_named: dict[str, str] = {}  # patient id as written -> where
        self.others: dict[Code, tuple[Code, ...]] = {}  # first coding of a concept -> the others
        self.people: dict[str, Sought] = {}  # by what stands for them in authors and recipients

    def refuse(self, code: str, detail: str, where: str) -> None:
        """Adds what is wrong."""
        self.findings.append(Finding(code, detail, where))

    def warn(self, code: str, detail: str, where: str) -> None:
        """Adds what is worth saying."""
        self.findings.append(Finding(code, detail, where, warning=True))

    def refuse_all(self) -> None:
        """Raises Problem where anything is wrong; warnings come last."""
        wrong = sorted(self.findings, key=lambda f: f.warning)
        if wrong and not wrong[0].warning:
            raise Problem(wrong)

    def local(self, reference: str) -> tuple[str, str]:
        """Type and id of a literal reference into this service; ("", "") for any other."""
        path = reference.removeprefix(f"{self.base}/")
        kind, _, identifier = path.partition("/")
        identifier = identifier.partition("/_history/")[0]
        if not kind.isalpha() or not identifier or "/" in identifier or "?" in path:
            return "", ""
        return kind, identifier

    # patients

    def patient(self, source: Source, reference: dict[str, Any], where: str) -> str | None:
        """The patient whom a reference names, as CX of the first identifier."""
        identifiers = self.identifiers_of_patient(source, reference, where)
        if identifiers is None:
            return None
        own = [i for i in identifiers if i.authority == self.affinity_domain]
        ranked = tuple(dict.fromkeys((*own, *identifiers)))
        if not ranked:
            self.refuse("XDSUnknownPatientId", "the Patient has no identifier whose system is urn:oid:", where)
            return None
        written = str(ranked[0])
        self.patients[written] = tuple(dict.fromkeys((*self.patients.get(written, ()), *ranked)))
        self.first_named.setdefault(written, where)
        return written

    def identifiers_of_patient(
        self, source: Source, reference: dict[str, Any], where: str
    ) -> tuple[PatientId, ...] | None:
        """All that a reference says; None, with a finding, where it leads nowhere."""
        found: list[PatientId] = []
        if identifier := reference.get("identifier"):
            found += _patient_ids([identifier])
        literal = reference.get("reference", "")
        if not literal:
            return tuple(found)
        resource = source.resolve(literal, where)
        if resource is not None:
            if resource["resourceType"] != "Patient":
                self.refuse("RuleBroken", f"a {resource['resourceType']} stands where a Patient is meant", where)
                return None
            return (*found, *_patient_ids(resource.get("identifier", ())))
        kind, logical = self.local(literal)
        if kind == "Patient" and (value := patient_value(logical)):
            return (*found, PatientId(value, self.affinity_domain))
        if not found and not literal.startswith(("#", _UUID)):
            said = f"{literal[:120]} is no Patient of this service: refer to Patient/<id>, or give an identifier"
            self.refuse("XDSUnknownPatientId", said, where)
            return None
        return tuple(found) or None


class Source:
    """One resource while it is read, with those that it contains."""

    def __init__(self, reading: Reading, resource: dict[str, Any], place: str) -> None:
        self.reading = reading
        self.resource = resource
        self.place = place
        self.contained: dict[str, dict[str, Any]] = {}
        _check_contained(self)

    def resolve(self, literal: str, where: str) -> dict[str, Any] | None:
        """The resource that a reference means here: a contained one or one of the bundle; None where it is neither."""
        if literal.startswith("#"):
            if literal[1:] not in self.contained:
                self.reading.refuse("RuleBroken", f"nothing contained has the id {literal[1:65]!r}", where)
            return self.contained.get(literal[1:])
        found = self.reading.resources.get(literal)
        if found is None and literal.startswith(_UUID) and "DocumentReference" not in where:
            self.reading.refuse(
                "UnresolvedReferenceException", f"no entry of the bundle has the fullUrl {literal}", where
            )
        return found[1] if found else None


DIRECTORY_TYPES = frozenset({"Practitioner", "PractitionerRole", "Organization"})
_NEVER_CONTAINED = frozenset(_PROVIDE["never_contained"]["types"])


def _check_contained(source: Source) -> None:
    """What FHIR's own rules of contained resources (dom-2 to dom-5) leave open."""
    reading = source.reading
    for number, inner in enumerate(source.resource.get("contained", ())):
        where = f"{source.place}.contained[{number}]"
        identifier = inner.get("id", "")
        if inner["resourceType"] in _NEVER_CONTAINED:
            reading.refuse("RuleBroken", f"a {inner['resourceType']} cannot be contained in metadata", where)
        if not identifier:
            reading.refuse("RequiredFieldMissing", "a contained resource needs an id", f"{where}.id")
        elif identifier in source.contained:
            reading.refuse("RuleBroken", f"the id {identifier[:64]!r} is given twice", f"{where}.id")
        source.contained[identifier] = inner


# values ----------------------------------------------------------------------------------------------------------


def _patient_ids(identifiers: Sequence[dict[str, Any]]) -> tuple[PatientId, ...]:
    return tuple(
        PatientId(i["value"], oid)
        for i in identifiers
        if i.get("value") and (oid := authority(i.get("system", ""))) and "^" not in i["value"]
    )


def dtm(value: str) -> str | None:
    """A dateTime or instant as DTM in UTC, as precise as it was written; None if it is no real time."""
    match = _DATE_TIME.match(value)
    if match is None:
        return None
    if match[7] is None:
        return "".join(part for part in match.groups()[:3] if part)
    try:
        moment = datetime.fromisoformat(value[:19] + match[7].replace("Z", "+00:00")).astimezone(UTC)
    except (ValueError, OverflowError):
        return None
    return f"{moment.year:04}{moment:%m%d%H%M%S}"


def unique_id(identifier: dict[str, Any]) -> str | None:
    """XDS uniqueId of an Identifier: an OID, a UUID as OID under 2.25, or OID^extension; None if it is none."""
    system, value = identifier.get("system", ""), identifier.get("value", "")
    if system == _TABLE["unique_id"]:
        return str(value)
    if system in (_URI, ""):
        if value.startswith(_OID):
            return str(value.removeprefix(_OID))
        return f"2.25.{UUID(value[9:]).int}" if is_uuid_urn(value) else None
    oid = authority(system)
    return f"{oid}^{value}" if oid and value else None


def entry_uuid(identifiers: Sequence[dict[str, Any]]) -> str | None:
    """The entryUUID among identifiers: official, a ``urn:uuid:``."""
    found = (i.get("value", "") for i in identifiers if i.get("use") == "official")
    return next((value.lower() for value in found if is_uuid_urn(value)), None)


def sha1(value: str) -> str | None:
    """Attachment.hash as hexadecimal digits: base64 of the digest or, as IHE's own examples have it, of its digits."""
    try:
        data = base64.b64decode(value, validate=False)
    except binascii.Error:
        return None
    if len(data) == _SHA1_BYTES:
        return data.hex()
    return data.decode().lower() if _HEX_SHA1.match(data) else None


def _localized(text: str) -> Localized:
    return (("", text),) if text else ()


def _coding(coding: dict[str, Any], display: str = "") -> Code:
    return Code(coding.get("code", ""), coding.get("system", ""), _localized(coding.get("display") or display))


def _concept(reading: Reading, concept: dict[str, Any], where: str) -> Code | None:
    codings = [c for c in concept.get("coding", ()) if c.get("code") and c.get("system")]
    if not codings:
        reading.refuse(
            "TableValueNotFound", "a coding with code and system is needed: XDS carries no text alone", where
        )
        return None
    first, *others = (_coding(c, concept.get("text", "")) for c in codings)
    if others:
        reading.others[first] = tuple(others)
    return first


def _concepts(reading: Reading, concepts: Sequence[dict[str, Any]], where: str) -> tuple[Code, ...]:
    found = (_concept(reading, concept, f"{where}[{number}]") for number, concept in enumerate(concepts))
    return tuple(code for code in found if code is not None)


def with_schemes(submission: Submission, others: Mapping[Code, Sequence[Code]], domain: AffinityDomain) -> Submission:
    """The submission with the codingSchemes of the affinity domain in place of FHIR systems.

    Of several codings of one concept the first that the domain accepts is taken, else the first.
    """

    def one(attribute: str, code: Code) -> Code:
        made = [_with_scheme(attribute, c, domain) for c in (code, *others.get(code, ()))]
        return next((c for c in made if domain.accepts(attribute, c.code, c.scheme)), made[0])

    def coded(value: Any, *attributes: str) -> Any:
        changes: dict[str, Any] = {}
        for attribute in attributes:
            found = getattr(value, attribute)
            if isinstance(found, tuple):
                changes[attribute] = tuple([one(attribute, code) for code in found])
            elif found is not None:
                changes[attribute] = one(attribute, found)
        return msgspec.structs.replace(value, **changes)

    return Submission(
        submission_set=coded(submission.submission_set, "content_type_code"),
        entries=tuple([coded(e, *_ENTRY_CODES) for e in submission.entries]),
        folders=tuple([coded(f, "code_list") for f in submission.folders]),
        associations=submission.associations,
    )


_ENTRY_CODES = (
    "class_code", "type_code", "format_code", "healthcare_facility_type_code", "practice_setting_code",
    "confidentiality_code", "event_code_list",
)  # fmt: skip


def _with_scheme(attribute: str, code: Code, domain: AffinityDomain) -> Code:
    scheme = scheme_of(code.scheme, code.code, attribute, domain)
    return Code(code.code, scheme, code.display or _localized(domain.display(attribute, code.code, scheme)))


# people ----------------------------------------------------------------------------------------------------------


def _identified(identifiers: Sequence[dict[str, Any]]) -> tuple[str, str]:
    """Id and authority (OID) of the first identifier that has an OID, else of the first."""
    known = [(i["value"], authority(i.get("system", ""))) for i in identifiers if i.get("value")]
    return next((pair for pair in known if pair[1]), known[0] if known else ("", ""))


def _xcn(identifiers: Sequence[dict[str, Any]], names: Sequence[dict[str, Any]]) -> str:
    """``id^family^given^second^suffix^prefix^^^&oid&ISO``."""
    number, oid = _identified(identifiers)
    name = names[0] if names else {}
    given = name.get("given", ())
    family = name.get("family") or ("" if given else name.get("text", ""))
    parts = (number, family, given[0] if given else "", " ".join(given[1:]),
             " ".join(name.get("suffix", ())), " ".join(name.get("prefix", ())))  # fmt: skip
    text = "^".join(map(escape, parts))
    return f"{text}^^^&{oid}&ISO" if oid else text.rstrip("^")


def _xon(name: str, identifiers: Sequence[dict[str, Any]]) -> str:
    """``name^^^^^&oid&ISO^^^^id``."""
    number, oid = _identified(identifiers)
    if not number:
        return escape(name)
    return f"{escape(name)}^^^^^{f'&{oid}&ISO' if oid else ''}^^^^{escape(number)}"


def _xtns(telecoms: Sequence[dict[str, Any]]) -> tuple[str, ...]:
    found = []
    for telecom in telecoms:
        if not (value := telecom.get("value", "")):
            continue
        email = telecom.get("system") == "email"
        found.append(f"^^Internet^{escape(value)}" if email else f"^^PH^^^^^^^^^{escape(value)}")
    return tuple(found)


def _texts(concepts: Sequence[dict[str, Any]]) -> tuple[str, ...]:
    found = []
    for concept in concepts:
        coding: dict[str, Any] = next(iter(concept.get("coding", ())), {})
        found.append(concept.get("text") or coding.get("display") or coding.get("code", ""))
    return tuple(text for text in found if text)


def person(source: Source, reference: dict[str, Any], where: str) -> Person:
    """Who is meant; a resource that this request does not carry is kept by what the reference itself says of it."""
    literal = reference.get("reference", "")
    resource = source.resolve(literal, where) if literal else None
    if resource is None:
        return _by_reference(source.reading, reference, where)
    return _person_of(source, resource, where)


def _by_reference(reading: Reading, reference: dict[str, Any], where: str) -> Person:
    literal, identifier = reference.get("reference", ""), reference.get("identifier")
    name = reference.get("display", "")
    told: tuple[Finding, ...] = ()
    if not name and not identifier and not literal.startswith(("#", _UUID)):
        if not literal:
            reading.refuse("RequiredFieldMissing", "the reference names nobody", where)
            return Person()
        name = literal
        said = f"{literal[:120]} is not known here: its address stands for the name; send it contained"
        told = (Finding("UnresolvedReferenceException", said, where, warning=True),)
    identifiers = [identifier] if identifier else []
    local, logical = reading.local(literal)
    kind = reference.get("type") or local or literal.split("/")[-2:][0]
    if kind == "Organization":
        found = Person(institution=_xon(name, identifiers))
    else:
        found = Person(person=_xcn(identifiers, [{"family": name}] if name else []))
    if local not in DIRECTORY_TYPES:
        reading.findings += told
        return found
    mark = f"\0{len(reading.people)}\0"  # no text that was sent contains NUL
    reading.people[mark] = Sought(f"{local}/{logical}", found, told)
    return Person(institution=mark) if local == "Organization" else Person(person=mark)


def with_people(
    submission: Submission, people: Mapping[str, Sought], directory: Mapping[str, dict[str, Any]]
) -> tuple[Submission, tuple[Finding, ...]]:
    """The submission with those whom ``directory`` knows, by their references, in place of what stands for them.

    Who is not there is kept by what the reference itself says; the findings tell of them.
    """
    known: dict[str, Person] = {}
    told: list[Finding] = []
    for mark, sought in people.items():
        if sought.reference in directory:
            known[mark] = _of_directory(sought.reference, directory)
        else:
            known[mark] = sought.otherwise
            told += sought.told

    def resolved(said: Person) -> Person:
        if who := known.get(said.person):
            said = Person(
                who.person,
                said.institution or who.institution,
                said.role or who.role,
                said.specialty or who.specialty,
                said.telecom or who.telecom,
            )
        return said._replace(institution=known[said.institution].institution) if said.institution in known else said

    def author(a: Author) -> Author:
        said = Person("".join(a.person), "".join(a.institution), a.role, a.specialty, a.telecommunication)
        return _author(resolved(said)) if known.keys() & {said.person, said.institution} else a

    def legal(text: str | None) -> str | None:
        mark = (text or "").removeprefix("^")
        return _legal_authenticator(known[mark]) if mark in known else text

    def recipient(text: str) -> str:
        institution, person, telecom = [*text.split("|"), "", ""][:3]
        if not known.keys() & {institution, person}:
            return text
        return _recipient(resolved(Person(person, institution, telecom=(telecom,) if telecom else ())))

    replace, sset = msgspec.structs.replace, submission.submission_set
    return replace(
        submission,
        submission_set=replace(
            sset,
            author=tuple(map(author, sset.author)),
            intended_recipient=tuple(map(recipient, sset.intended_recipient)),
        ),
        entries=tuple(
            replace(e, author=tuple(map(author, e.author)), legal_authenticator=legal(e.legal_authenticator))
            for e in submission.entries
        ),
    ), tuple(told)


def _of_directory(reference: str, directory: Mapping[str, dict[str, Any]]) -> Person:
    """Who a resource of the directory is; those to whom a role refers stand there, too, or are left out."""
    reading = Reading("", "", {literal: (literal, resource) for literal, resource in directory.items()})
    found = person(Source(reading, {}, ""), {"reference": reference}, "")
    return found._replace(
        person="" if found.person in reading.people else found.person,
        institution="" if found.institution in reading.people else found.institution,
    )


def _person_of(source: Source, resource: dict[str, Any], where: str) -> Person:
    kind = resource["resourceType"]
    telecom = _xtns(resource.get("telecom", ()))
    identifiers = resource.get("identifier", ())
    if kind == "Organization":
        ranked = sorted(identifiers, key=lambda i: organisation_rank(authority(i.get("system", "")) or ""))
        return Person(institution=_xon(resource.get("name", ""), ranked), telecom=telecom)
    if kind == "Device":
        names = [d["name"] for d in resource.get("deviceName", ())]
        return Person(person=_xcn(identifiers, [{"family": (names or [""])[0]}]))
    if kind == "PractitionerRole":
        inner = person(source, resource["practitioner"], where) if "practitioner" in resource else Person()
        unit = person(source, resource["organization"], where) if "organization" in resource else Person()
        return Person(
            person=inner.person,
            institution=unit.institution,
            role=_texts(resource.get("code", ())),
            specialty=_texts(resource.get("specialty", ())),
            telecom=telecom or inner.telecom,
        )
    if kind in ("Practitioner", "Patient", "RelatedPerson"):
        return Person(person=_xcn(identifiers, resource.get("name", ())), telecom=telecom)
    source.reading.refuse("RuleBroken", f"a {kind} stands where a person, device or organization is meant", where)
    return Person()


def _author(found: Person) -> Author:
    return Author(
        person=(found.person,) if found.person else (),
        institution=(found.institution,) if found.institution else (),
        role=found.role,
        specialty=found.specialty,
        telecommunication=found.telecom,
    )


def _recipient(found: Person) -> str:
    """``XON|XCN|XTN`` (ITI TF-3:4.2.3.3.7)."""
    return f"{found.institution}|{found.person}|{found.telecom[0] if found.telecom else ''}".rstrip("|")


# resources -------------------------------------------------------------------------------------------------------


def _time(source: Source, holder: dict[str, Any], name: str, path: str) -> str | None:
    value = holder.get(name)
    if value is None:
        return None
    where = f"{source.place}.{path}"
    found = dtm(value)
    if found is None:
        source.reading.refuse("DataTypeError", f"{value[:40]!r} is no time", where)
    return found


def _identity(source: Source, identifiers: Sequence[dict[str, Any]], path: str) -> str | None:
    """The uniqueId among identifiers: the usual one, else one that is not the entryUUID."""
    ranked = [i for i in identifiers if i.get("use") == "usual"] or [
        i for i in identifiers if i.get("use") != "official"
    ]
    if not ranked:
        return None
    found = unique_id(ranked[0])
    if found is None:
        said = f"{ranked[0].get('value', '')[:80]!r} is no uniqueId of XDS: an OID or UUID as URN, or a value of an OID"
        source.reading.refuse("DataTypeError", said, f"{source.place}.{path}")
    return found


def check_modifiers(source: Source, *forbidden: str) -> None:
    """Elements that change the meaning of the rest, and those that the profile does not allow."""
    for name in ("implicitRules", "modifierExtension", *forbidden):
        if name in source.resource:
            said = f"{name} is not understood here, and the resource means something else without it"
            source.reading.refuse("RuleBroken", said, f"{source.place}.{name}")


def read_entry(source: Source, symbol: str) -> DocumentEntry:
    """DocumentEntry of a DocumentReference, without what its attachment's content says."""
    resource, reading, place = source.resource, source.reading, source.place
    check_modifiers(source, "docStatus")
    if resource.get("status") != "current":
        said = f"a document is published as current, not as {resource.get('status')!r}"
        reading.refuse("RuleBroken", said, f"{place}.status")
    contents = resource["content"]
    if len(contents) != 1:
        said = f"one document has one content, not {len(contents)} (MHD: content 1..1)"
        reading.refuse("RuleBroken", said, f"{place}.content")
    attachment = contents[0]["attachment"]
    where = "content[0].attachment"
    context = resource.get("context", {})
    period = context.get("period", {})
    if "masterIdentifier" not in resource:
        reading.refuse("RequiredFieldMissing", "MHD needs the uniqueId", f"{place}.masterIdentifier")
    category = resource.get("category", ())
    if len(category) > 1:
        reading.refuse("RuleBroken", "a document has one class (MHD: category 0..1)", f"{place}.category")
    subject = resource.get("subject")
    patient_id = reading.patient(source, subject, f"{place}.subject") if subject else None
    authenticator = resource.get("authenticator")
    legal = person(source, authenticator, f"{place}.authenticator") if authenticator else Person()
    said_hash, said_size = attachment.get("hash"), attachment.get("size")
    digest = sha1(said_hash) if said_hash else None
    if said_hash and digest is None:
        said = "the hash is SHA-1 in base64: 20 bytes, or its 40 hexadecimal digits"
        reading.refuse("DataTypeError", said, f"{place}.{where}.hash")
    source_id, source_info = _source_patient(source, context.get("sourcePatientInfo"), patient_id)
    return DocumentEntry(
        entry_uuid=entry_uuid(resource.get("identifier", ())) or symbol,
        unique_id=_identity(source, [{**resource.get("masterIdentifier", {}), "use": "usual"}], "masterIdentifier")
        if "masterIdentifier" in resource
        else None,
        patient_id=patient_id,
        mime_type=attachment.get("contentType", ""),
        class_code=_concept(reading, category[0], f"{place}.category[0]") if category else None,
        type_code=_concept(reading, resource["type"], f"{place}.type") if "type" in resource else None,
        format_code=_coding(contents[0]["format"]) if "format" in contents[0] else None,
        healthcare_facility_type_code=_concept(reading, context["facilityType"], f"{place}.context.facilityType")
        if "facilityType" in context
        else None,
        practice_setting_code=_concept(reading, context["practiceSetting"], f"{place}.context.practiceSetting")
        if "practiceSetting" in context
        else None,
        confidentiality_code=_concepts(reading, resource.get("securityLabel", ()), f"{place}.securityLabel"),
        event_code_list=_concepts(reading, context.get("event", ()), f"{place}.context.event"),
        author=tuple(
            _author(found)
            for number, reference in enumerate(resource.get("author", ()))
            if (found := person(source, reference, f"{place}.author[{number}]")).known
        ),
        creation_time=_time(source, attachment, "creation", f"{where}.creation"),
        service_start_time=_time(source, period, "start", "context.period.start"),
        service_stop_time=_time(source, period, "end", "context.period.end"),
        language_code=attachment.get("language"),
        legal_authenticator=_legal_authenticator(legal),
        source_patient_id=source_id,
        source_patient_info=source_info,
        reference_id_list=tuple(dict.fromkeys(_reference_ids(source, context))),
        size=str(said_size) if said_size is not None else None,
        hash=digest,
        title=_localized(attachment.get("title", "")),
        comments=_localized(resource.get("description", "")),
    )


def _legal_authenticator(found: Person) -> str | None:
    return found.person or (f"^{found.institution.partition('^')[0]}" if found.institution else None)


def _source_patient(
    source: Source, reference: dict[str, Any] | None, patient_id: str | None
) -> tuple[str | None, tuple[str, ...]]:
    """SourcePatientId and sourcePatientInfo (ITI TF-3:4.2.3.2.22, 4.2.3.2.23)."""
    reading, where = source.reading, f"{source.place}.context.sourcePatientInfo"
    if reference is None:
        return None, ()
    identifiers = reading.identifiers_of_patient(source, reference, where) or ()
    literal = reference.get("reference", "")
    resource = source.resolve(literal, where) if literal else None
    _check_same_patient(reading, identifiers, patient_id, where)
    foreign = [
        i for i in (resource or {}).get("identifier", ()) if i.get("value") and not authority(i.get("system", ""))
    ]
    info = [f"PID-3|{i}" for i in identifiers]
    info += [f"PID-3|{escape(i['value'])}^^^&{escape(i.get('system', ''))}&URI" for i in foreign]
    if resource is not None:
        wrong: list[Finding] = []
        demographics = read_patient(resource, wrong, foreign=True).demographics
        reading.findings += [f._replace(location=where) for f in wrong]
        info += list(demographics_info(PatientId("", ""), demographics))[1:]
    # A source whose numbers have no OID knows the patient, to anybody else, by the number that it publishes under.
    return (str(identifiers[0]) if identifiers else patient_id), tuple(info)


def _check_same_patient(reading: Reading, identifiers: Sequence[PatientId], patient_id: str | None, where: str) -> None:
    own = {str(i) for i in identifiers if i.authority == reading.affinity_domain}
    subject = {str(i) for i in reading.patients.get(patient_id or "", ()) if i.authority == reading.affinity_domain}
    if own and subject and own != subject:
        said = f"the subject is {', '.join(sorted(subject))}, this is {', '.join(sorted(own))}"
        reading.refuse("XDSPatientIdDoesNotMatch", said, where)


def _reference_ids(source: Source, context: dict[str, Any]) -> Iterator[str]:
    """CXi of what the document is about (ITI TF-3:4.2.3.2.28)."""
    for name, kind in (("encounter", _REFERENCE_TYPES["encounter"]), ("related", "")):
        for number, reference in enumerate(context.get(name, ())):
            where = f"{source.place}.context.{name}[{number}]"
            literal = reference.get("reference", "")
            resource = source.resolve(literal, where) if literal else None
            identifiers = [reference["identifier"]] if "identifier" in reference else []
            identifiers += (resource or {}).get("identifier", ())
            found = next((i for i in identifiers if i.get("value")), None)
            if found is not None:
                yield _cxi(found, kind)
            elif literal and not literal.startswith(("#", _UUID)):
                yield f"{escape(literal)}^^^^{kind or _REFERENCE_TYPES['other']}"


def _cxi(identifier: dict[str, Any], kind: str) -> str:
    system, value = identifier.get("system", ""), identifier["value"]
    coding: dict[str, Any] = next(iter(identifier.get("type", {}).get("coding", ())), {})
    kind = kind or coding.get("code", "")
    if system == _URI:
        return f"{escape(unique_id(identifier) or value)}^^^^{kind or _REFERENCE_TYPES['unique_id']}"
    oid = authority(system)
    scope = f"&{oid}&ISO" if oid else f"&{escape(system)}&URI" if system else ""
    return f"{escape(value)}^^^{scope}^{kind or _REFERENCE_TYPES['other']}"


def _extension(source: Source, name: str) -> list[dict[str, Any]]:
    return [e for e in source.resource.get("extension", ()) if e["url"] == _EXTENSIONS[name]]


def _designations(source: Source) -> tuple[Code, ...]:
    found = []
    for number, extension in enumerate(source.resource.get("extension", ())):
        where = f"{source.place}.extension[{number}]"
        if extension["url"] == _EXTENSIONS["designation_type"]:
            code = _concept(source.reading, extension.get("valueCodeableConcept", {}), where)
            found += [code] if code else []
    return tuple(found)


def _note(source: Source) -> Localized:
    notes = source.resource.get("note", ())
    return _localized(notes[0]["text"]) if notes else ()


def _check_list(source: Source, *forbidden: str) -> None:
    check_modifiers(source, "encounter", "orderedBy", "emptyReason", *forbidden)
    for name, expected in (("status", "current"), ("mode", "working")):
        found = source.resource.get(name)
        if found != expected:
            source.reading.refuse("RuleBroken", f"{name} must be {expected}, is {found!r}", f"{source.place}.{name}")
    for number, entry in enumerate(source.resource.get("entry", ())):
        if {"flag", "deleted", "date"} & entry.keys():
            said = "a member has no flag, deleted or date (MHD)"
            source.reading.refuse("RuleBroken", said, f"{source.place}.entry[{number}]")


def read_submission_set(source: Source, symbol: str) -> SubmissionSet:
    """SubmissionSet of a List."""
    resource, reading, place = source.resource, source.reading, source.place
    _check_list(source)
    sender: dict[str, Any] | None = resource.get("source")
    author: tuple[Author, ...] = ()
    if sender:
        who = person(source, sender, f"{place}.source") if sender.keys() - {"extension", "id"} else Person()
        for extension in sender.get("extension", ()):
            if extension["url"] == _EXTENSIONS["author_organization"]:
                unit = person(source, extension.get("valueReference", {}), f"{place}.source.extension")
                who = who._replace(institution=unit.institution)
        author = (_author(who),) if who.known else ()
    recipients = (
        person(source, e.get("valueReference", {}), f"{place}.extension")
        for e in _extension(source, "intended_recipient")
    )
    source_ids = [e.get("valueIdentifier", {}) for e in _extension(source, "source_id")]
    source_id = unique_id(source_ids[0]) if source_ids else None
    if source_id is not None and not is_oid(source_id):
        source_id = source_ids[0].get("value", "").removeprefix(_OID)
    if not source_ids:
        reading.refuse("RequiredFieldMissing", "the sourceId extension is needed", f"{place}.extension")
    elif source_id is None:
        reading.refuse("DataTypeError", "sourceId is an OID: urn:oid:…", f"{place}.extension")
    subject = resource.get("subject")
    designations = _designations(source)
    if len(designations) > 1:
        reading.refuse("RuleBroken", "a SubmissionSet has one designationType", f"{place}.extension")
    if "date" not in resource:
        reading.refuse("RequiredFieldMissing", "the time of submission is needed", f"{place}.date")
    identifiers = resource.get("identifier", ())
    return SubmissionSet(
        entry_uuid=entry_uuid(identifiers) or symbol,
        unique_id=_identity(source, identifiers, "identifier"),
        source_id=source_id,
        patient_id=reading.patient(source, subject, f"{place}.subject") if subject else None,
        submission_time=_time(source, resource, "date", "date"),
        content_type_code=designations[0] if designations else None,
        author=author,
        intended_recipient=tuple(text for r in recipients if (text := _recipient(r))),
        title=_localized(resource.get("title", "")),
        comments=_note(source),
    )


def read_folder(source: Source, symbol: str) -> Folder:
    """Folder of a List; lastUpdateTime is the registry's to say."""
    resource, place = source.resource, source.place
    _check_list(source, "source")
    subject = resource.get("subject")
    identifiers = resource.get("identifier", ())
    return Folder(
        entry_uuid=entry_uuid(identifiers) or symbol,
        unique_id=_identity(source, identifiers, "identifier"),
        patient_id=source.reading.patient(source, subject, f"{place}.subject") if subject else None,
        code_list=_designations(source),
        title=_localized(resource.get("title", "")),
        comments=_note(source),
    )

"""Patient of FHIR R4 and the domain's records and patients, both ways (http://hl7.org/fhir/R4/patient.html).

Profiles: PIXm Patient and PDQm Patient. What FHIR cannot say of a person (account, mother's number, TERYT) is not
written; what the index does not keep (photo, contacts, general practitioner) is read over. ``codes/fhir_patient.toml``
has the code tables.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from datetime import date, datetime
from typing import Any

from obieg.codes.load import toml
from obieg.domain.documents import Value
from obieg.domain.identifiers import PatientId, is_oid
from obieg.domain.matching import Record
from obieg.domain.patients import Candidate
from obieg.domain.persons import Address, Demographics, PersonName, Telecom
from obieg.domain.problems import Finding, Problem

VALUE_LENGTH_MAX = 200  # characters of an identifier or a demographic value
REPETITIONS_MAX = 200  # of an element
_TABLE = toml("fhir_patient.toml")
_OID = _TABLE["systems"]["oid"]
_EXTENSIONS: dict[str, str] = _TABLE["extensions"]
_SYSTEMS: dict[str, str] = _TABLE["systems"]
PROFILES: dict[str, str] = _TABLE["profiles"]
GENDERS: dict[str, str] = _TABLE["gender"]
# What a Patient says of a person whenever it is sent: an element that is absent says that there is nothing.
STATED = (
    "names", "birth_date", "sex", "addresses", "telecoms", "mother_name", "multiple_birth", "birth_order",
    "birth_place", "language", "marital_status", "religion", "citizenship", "deceased", "deceased_at",
)  # fmt: skip
_ID = re.compile(r"[A-Za-z0-9-]+\Z", re.ASCII)
_UNSAFE = re.compile(r"[^A-Za-z0-9-]", re.ASCII)
_ESCAPED = re.compile(r"\.([0-9A-F]{2})")
_DIGITS = re.compile(r"\d+\Z", re.ASCII)
_LANGUAGE = re.compile(r"[a-z]{2,3}(-[a-z0-9]{2,8})*\Z", re.IGNORECASE)


def _reversed(name: str) -> dict[str, str]:
    return {v2: fhir for fhir, v2 in _TABLE[name].items()}


_GENDER_OF = _reversed("gender")
_NAME_USE_OF = {**_TABLE["name_use_other"], **_reversed("name_use")}
_ADDRESS_USE_OF = {**_TABLE["address_use_other"], **_reversed("address_use")}
_ADDRESS_TYPE_OF = _reversed("address_type")
_MARITAL_STATUS_OF = {**_TABLE["marital_status_other"], **_reversed("marital_status")}
_TELECOM_OF = {tuple(v2): tuple(fhir.split("/")) for fhir, v2 in _TABLE["telecom"].items()}


# identifiers -----------------------------------------------------------------------------------------------------


def authority(system: str) -> str:
    """The OID that the system of an identifier stands for, or ""; FHIR names authorities by ``urn:oid:``."""
    oid = system.removeprefix(_OID)
    return oid if oid != system and is_oid(oid) else ""


def identifier(value: PatientId) -> dict[str, Any]:
    """Identifier."""
    return {"system": _OID + value.authority, "value": value.value}


def logical_id(value: str) -> str:
    """The logical id of a Patient: the affinity-domain id, with ``.`` and the bytes of what an id may not have."""
    return value if _ID.match(value) else _UNSAFE.sub(_escape, value)


def _escape(match: re.Match[str]) -> str:
    return "".join(f".{byte:02X}" for byte in match[0].encode())


def patient_value(logical: str) -> str:
    """The affinity-domain id that a logical id stands for; "" if it stands for none."""
    if _ID.match(logical):
        return logical
    try:
        value = re.sub(rb"\.([0-9A-F]{2})", lambda m: bytes.fromhex(m[1].decode()), logical.encode()).decode()
    except UnicodeDecodeError:
        return ""
    return value if logical_id(value) == logical else ""


def reference(patient: PatientId) -> dict[str, str]:
    """Reference to the Patient, relative to the service."""
    return {"reference": f"Patient/{logical_id(patient.value)}"}


# writing ---------------------------------------------------------------------------------------------------------


def write_patient(candidate: Candidate) -> dict[str, Any]:
    """The Patient resource of a patient: everything that its sources say, merged."""
    d = candidate.demographics
    meta: dict[str, Any] = {"versionId": str(candidate.version)}
    if candidate.updated_at is not None:
        meta["lastUpdated"] = instant(candidate.updated_at)
    meta["profile"] = [PROFILES["pdqm"]]
    patient: dict[str, Any] = {"resourceType": "Patient", "id": logical_id(candidate.patient.value), "meta": meta}
    if extensions := list(_extensions(d)):
        patient["extension"] = extensions
    patient["identifier"] = [identifier(i) for i in candidate.identifiers]
    patient["active"] = candidate.active
    _put(patient, "name", [n for name in d.names if (n := _name(name))])
    _put(patient, "telecom", [t for telecom in d.telecoms if (t := _telecom(telecom))])
    _put(patient, "gender", _GENDER_OF.get(d.sex, "other" if d.sex else ""))
    _put(patient, "birthDate", _date(d.birth_date))
    if deceased := _date(d.deceased_at):
        patient["deceasedDateTime"] = deceased
    elif d.deceased is not None:
        patient["deceasedBoolean"] = d.deceased
    _put(patient, "address", [a for address in d.addresses if (a := _address(address))])
    _put(patient, "maritalStatus", _marital_status(d.marital_status))
    if d.birth_order is not None:
        patient["multipleBirthInteger"] = d.birth_order
    elif d.multiple_birth is not None:
        patient["multipleBirthBoolean"] = d.multiple_birth
    if _LANGUAGE.match(d.language):
        patient["communication"] = [{"language": _concept(_SYSTEMS["language"], d.language), "preferred": True}]
    if candidate.replaced_by is not None:
        other = {**reference(candidate.replaced_by), "identifier": identifier(candidate.replaced_by)}
        patient["link"] = [{"other": other, "type": "replaced-by"}]
    return patient


def instant(moment: datetime) -> str:
    """An instant with milliseconds."""
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _put(target: dict[str, Any], name: str, value: Any) -> None:
    if value:
        target[name] = value


def _concept(system: str, code: str) -> dict[str, Any]:
    return {"coding": [{"system": system, "code": code}]}


def _extensions(d: Demographics) -> Iterator[dict[str, Any]]:
    if d.mother_name is not None and d.mother_name.family:
        yield {"url": _EXTENSIONS["mothers_maiden_name"], "valueString": d.mother_name.family}
    if d.birth_place:
        yield {"url": _EXTENSIONS["birth_place"], "valueAddress": {"text": d.birth_place}}
    if d.citizenship:
        concept = _concept(_SYSTEMS["country"], d.citizenship)
        yield {"url": _EXTENSIONS["citizenship"], "extension": [{"url": "code", "valueCodeableConcept": concept}]}
    if d.religion:
        yield {"url": _EXTENSIONS["religion"], "valueCodeableConcept": _concept(_SYSTEMS["religion"], d.religion)}


def _name(name: PersonName) -> dict[str, Any]:
    said: dict[str, Any] = {}
    _put(said, "family", name.family)
    _put(said, "given", [given for given in name.given if given])
    _put(said, "prefix", [name.prefix] if name.prefix else [])
    _put(said, "suffix", [name.suffix] if name.suffix else [])
    return {"use": use, **said} if said and (use := _NAME_USE_OF.get(name.use)) else said


def _address(address: Address) -> dict[str, Any]:
    said: dict[str, Any] = {}
    _put(said, "line", [address.street] if address.street else [])
    _put(said, "city", address.city)
    _put(said, "state", address.state)
    _put(said, "postalCode", address.postal_code)
    _put(said, "country", address.country)
    if said and (use := _ADDRESS_USE_OF.get(address.use)):
        return {"use": use, **said}
    if said and (kind := _ADDRESS_TYPE_OF.get(address.use)):
        return {"type": kind, **said}
    return said


def _telecom(telecom: Telecom) -> dict[str, Any]:
    country = f"+{telecom.country_code.lstrip('+')}" if telecom.country_code else ""
    value = telecom.number or " ".join(filter(None, (country, telecom.area_code, telecom.local_number)))
    if not value:
        return {}
    # The equipment says more than the use; where the pair is in no table, the equipment alone may be.
    guess = ("email", "") if "@" in value else ("phone", "")
    key = (telecom.equipment, telecom.use)
    system, use = _TELECOM_OF.get(key) or _TELECOM_OF.get((telecom.equipment, "")) or guess
    return {"system": system, "value": value, **({"use": use} if use else {})}


def _marital_status(code: str) -> dict[str, Any]:
    if not code:
        return {}
    known = _MARITAL_STATUS_OF.get(code)
    if known is None:
        return _concept(_SYSTEMS["marital_status_v2"], code)
    return _concept(_SYSTEMS["null_flavor" if known == "UNK" else "marital_status"], known)


def _date(text: str) -> str:
    """A partial date with dashes; "" where the source wrote what is no date."""
    digits = text[:8] if len(text) > 7 else text[:6] if len(text) > 5 else text[:4]
    if len(digits) < 4 or not _DIGITS.match(digits) or digits < "0001":
        return ""
    try:
        date(int(digits[:4]), int(digits[4:6] or 1), int(digits[6:8] or 1))
    except ValueError:
        return ""
    return "-".join(filter(None, (digits[:4], digits[4:6], digits[6:8])))


# reading ---------------------------------------------------------------------------------------------------------


class ReadPatient(Value, frozen=True):
    """What a Patient resource says."""

    identifiers: tuple[PatientId, ...]
    locations: tuple[str, ...]  # of each identifier
    demographics: Demographics
    active: bool = True
    replaced_by: tuple[tuple[dict[str, Any], str], ...] = ()  # link.other of each link replaced-by, and where it stands

    @property
    def record(self) -> Record:
        """To be compared."""
        return Record(self.identifiers, self.demographics)


def read_patient(resource: dict[str, Any], findings: list[Finding], *, foreign: bool = False) -> ReadPatient:
    """Reads a resource that :func:`obieg.wire.fhir_elements.check` has passed; what is wrong is added to ``findings``.

    Raises Problem where an element is repeated beyond reason.
    ``foreign``: identifiers of systems that name no assigning authority are read over (in a question nobody has them).
    """
    for name, value in resource.items():
        if isinstance(value, list) and len(value) > REPETITIONS_MAX:
            said = f"it stands {len(value)} times, and no more than {REPETITIONS_MAX} are read"
            raise Problem([Finding("LimitExceeded", said, f"Patient.{name}")])
    identifiers = dict(_identifiers(resource, findings, foreign=foreign))
    links = resource.get("link", ())
    for element in ("implicitRules", "modifierExtension"):
        if element in resource:
            said = "what changes the meaning of the whole may not be there, since it would have to be understood"
            findings.append(Finding("RuleBroken", said, f"Patient.{element}"))
    return ReadPatient(
        identifiers=tuple(identifiers),
        locations=tuple(identifiers.values()),
        demographics=_demographics(resource, findings),
        active=resource.get("active", True),
        replaced_by=tuple(
            (link["other"], f"Patient.link[{index}].other")
            for index, link in enumerate(links)
            if link["type"] == "replaced-by"
        ),
    )


def _identifiers(
    resource: dict[str, Any], findings: list[Finding], *, foreign: bool
) -> Iterator[tuple[PatientId, str]]:
    seen = set()
    for index, item in enumerate(resource.get("identifier", ())):
        found = read_identifier(item, f"Patient.identifier[{index}]", findings, foreign=foreign)
        if found is not None and found not in seen:
            seen.add(found)
            yield found, f"Patient.identifier[{index}]"


def read_identifier(
    item: dict[str, Any], path: str, findings: list[Finding], *, foreign: bool = False
) -> PatientId | None:
    """The identifier, or None with the reason added."""
    value, system = item.get("value", "").strip(), item.get("system", "")
    oid = authority(system)
    if foreign and not (value and oid):
        return None
    if not value:
        findings.append(Finding("RequiredFieldMissing", "the identifier has no value", f"{path}.value"))
    elif len(value) > VALUE_LENGTH_MAX:
        said = f"the value has more than {VALUE_LENGTH_MAX} characters"
        findings.append(Finding("DataTypeError", said, f"{path}.value"))
    if not system:
        said = "the identifier names no assigning authority: send system urn:oid:… with its OID"
        findings.append(Finding("RequiredFieldMissing", said, f"{path}.system"))
    elif not oid:
        said = f"system {system[:80]!r} is no assigning authority of this region: send urn:oid:… with its OID"
        findings.append(Finding("UnknownKeyIdentifier", said, f"{path}.system"))
    return PatientId(value, oid) if value and oid and len(value) <= VALUE_LENGTH_MAX else None


def _demographics(resource: dict[str, Any], findings: list[Finding]) -> Demographics:
    deceased = resource.get("deceasedDateTime", "")
    order = resource.get("multipleBirthInteger")
    extensions = {e["url"]: e for e in resource.get("extension", ())}
    mother = extensions.get(_EXTENSIONS["mothers_maiden_name"], {}).get("valueString", "")
    citizenship = extensions.get(_EXTENSIONS["citizenship"], {}).get("extension", ())
    concepts = [e.get("valueCodeableConcept", {}) for e in citizenship if e["url"] == "code"]
    religion = extensions.get(_EXTENSIONS["religion"], {}).get("valueCodeableConcept", {})
    birth_date = resource.get("birthDate", "")
    if birth_date and not _date(birth_date.replace("-", "")):
        findings.append(Finding("DataTypeError", f"{birth_date!r} is no day of the calendar", "Patient.birthDate"))
    gender = resource.get("gender", "")
    if gender and gender not in GENDERS:
        said = f"{gender[:40]!r} is none of {', '.join(GENDERS)}"
        findings.append(Finding("TableValueNotFound", said, "Patient.gender"))
    demographics = Demographics(
        names=_names(resource.get("name", ())),
        birth_date=birth_date.replace("-", ""),
        sex=GENDERS.get(gender, ""),
        addresses=tuple(_read_address(a) for a in resource.get("address", ())),
        telecoms=tuple(_read_telecom(t) for t in resource.get("telecom", ()) if t.get("value")),
        mother_name=PersonName(family=mother, use="M") if mother else None,
        multiple_birth=order > 0 if order is not None else resource.get("multipleBirthBoolean"),
        birth_order=order,
        birth_place=_place(extensions.get(_EXTENSIONS["birth_place"], {}).get("valueAddress", {})),
        language=_read_language(resource.get("communication", ())),
        marital_status=_read_marital_status(resource.get("maritalStatus", {})),
        religion=_code(religion, _SYSTEMS["religion"]),
        citizenship=next(filter(None, (_code(c, _SYSTEMS["country"]) for c in concepts)), ""),
        deceased=True if deceased else resource.get("deceasedBoolean"),
        deceased_at=re.sub(r"\D", "", deceased[:19]),
    )
    _check_lengths(resource, "Patient", findings)
    return demographics


def _check_lengths(value: Any, path: str, findings: list[Finding]) -> None:
    """Demographic values have a limit; other elements are not kept."""
    for name in ("name", "address", "telecom"):
        for index, item in enumerate(value.get(name, ())):
            for key, content in item.items():
                texts = content if isinstance(content, list) else [content]
                if any(isinstance(text, str) and len(text) > VALUE_LENGTH_MAX for text in texts):
                    said = f"the value has more than {VALUE_LENGTH_MAX} characters"
                    findings.append(Finding("DataTypeError", said, f"{path}.{name}[{index}].{key}"))


def _names(names: Sequence[dict[str, Any]]) -> tuple[PersonName, ...]:
    """The official name first, then the usual one, then in the order of the resource."""
    rank = {"official": 0, "usual": 1, "": 2}
    ordered = sorted(names, key=lambda name: rank.get(name.get("use", ""), 3))
    return tuple(name for said in ordered if (name := _read_name(said)) is not None)


def _read_name(name: dict[str, Any]) -> PersonName | None:
    family, given = name.get("family", "").strip(), _texts(name.get("given", ()))
    if not family and not given:
        *given, family = name.get("text", "").split() or [""]
    if not family and not given:
        return None
    return PersonName(
        family=family,
        given=tuple(given),
        prefix=" ".join(_texts(name.get("prefix", ()))),
        suffix=" ".join(_texts(name.get("suffix", ()))),
        use=_TABLE["name_use"].get(name.get("use", ""), ""),
    )


def called(resource: dict[str, Any]) -> str:
    """What a resource with a name of people (HumanName) calls somebody, as people say it; "" where it does not."""
    name = next(iter(_names(resource.get("name", ()))), None)
    return " ".join(filter(None, (name.prefix, *name.given, name.family))) if name else ""


def _texts(values: Sequence[str | None]) -> list[str]:
    return [text for value in values if value and (text := value.strip())]


def _read_address(address: dict[str, Any]) -> Address:
    use = _TABLE["address_use"].get(address.get("use", ""), "")
    structured = {"line", "city", "state", "postalCode", "country"} & address.keys()
    return Address(
        street=", ".join(_texts(address.get("line", ()))) if structured else address.get("text", ""),
        city=address.get("city", "").strip(),
        state=address.get("state", "").strip(),
        postal_code=address.get("postalCode", "").strip(),
        country=address.get("country", "").strip(),
        use=use or _TABLE["address_type"].get(address.get("type", ""), ""),
    )


def _read_telecom(telecom: dict[str, Any]) -> Telecom:
    value, system, use = telecom["value"].strip(), telecom.get("system", "phone"), telecom.get("use", "")
    if system == "email":
        value = value.removeprefix("mailto:")
    elif system in ("phone", "sms", "fax"):
        value = value.removeprefix("tel:")
    table = _TABLE["telecom"]
    equipment, kind = table.get(f"{system}/{use}") or table.get(f"{system}/") or ("", "")
    return Telecom(number=value, use=kind, equipment=equipment)


def _place(address: dict[str, Any]) -> str:
    parts = [*_texts(address.get("line", ())), *_texts([address.get(n) for n in ("postalCode", "city", "country")])]
    return str(address.get("text") or " ".join(parts))


def _read_language(communication: Sequence[dict[str, Any]]) -> str:
    ordered = sorted(communication, key=lambda c: not c.get("preferred", False))
    found = (_code(c["language"], _SYSTEMS["language"]) for c in ordered)
    return next((code.lower() for code in found if _LANGUAGE.match(code)), "")


def _read_marital_status(concept: dict[str, Any]) -> str:
    if plain := _code(concept, _SYSTEMS["marital_status_v2"]):
        return plain
    code = _code(concept, _SYSTEMS["marital_status"]) or _code(concept, _SYSTEMS["null_flavor"])
    return str(_TABLE["marital_status"].get(code, ""))


def _code(concept: dict[str, Any], system: str) -> str:
    return next((c["code"] for c in concept.get("coding", ()) if c.get("system") == system and "code" in c), "")

"""Patient and Person of HL7 v3 as the domain understands them, both ways (PRPA_MT201301UV02 to PRPA_MT201310UV02).

An element that is not there says nothing; one with a nullFlavor says that there is no value. A name without a use is
the legal one. A birth name is told by the qualifier BR of a family name, which may stand beside the present one in the
same element: they are two names. TERYT codes of an address stand in ``censusTract``, as in Polish documents.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import Any

from obieg.codes.load import toml
from obieg.domain.authorities import Authorities
from obieg.domain.identifiers import PatientId, is_oid
from obieg.domain.persons import Address, Demographics, PersonName, Telecom
from obieg.domain.problems import Finding
from obieg.mapping.pid import VALUE_LENGTH_MAX, read_time
from obieg.wire import hl7v3
from obieg.wire.hl7v3 import InstanceId, child, children, coded, element, is_null, location, text_of, value_of, write_id
from obieg.wire.xml import attribute

REPETITIONS_MAX = 100  # of an identifier, name, address or telecom: more describe no person
_TABLE = toml("hl7v3.toml")
_SYSTEM: dict[str, str] = _TABLE["code_system"]
_LANGUAGES: dict[str, str] = toml("hl7v2.toml")["languages"]
_LANGUAGE = re.compile(r"[a-z]{2,3}(-[a-z0-9]{2,8})*\Z")
_BIRTH_ORDER = re.compile(r"[1-9]\d?\Z", re.ASCII)
_TRUE, _FALSE = ("true", "1"), ("false", "0")
_BIRTH_NAMES = ("B", "M")  # HL7 table 0200
_MOTHER = "MTH"
_TERYT = re.compile(r"TERYT (TERC|SIMC|ULIC): *(\d{5}|\d{7})\Z", re.ASCII)
_FAX, _INTERNET, _PHONE = "FX", "Internet", "PH"  # HL7 table 0202
_DATE_DIGITS, _TIME_DIGITS = 8, 14


# reading -------------------------------------------------------------------------------------------------------------


class Reading:
    """Reads parts of a message and collects what is wrong with them in ``findings``."""

    def __init__(self, authorities: Authorities) -> None:
        self.findings: list[Finding] = []
        self.authorities = authorities

    def find(self, code: str, detail: str, where: Any) -> None:
        """Adds a finding; ``where`` is the element, or its location."""
        self.findings.append(Finding(code, detail, where if isinstance(where, str) else location(where)))

    def limited(self, elements: list[Any]) -> list[Any]:
        """The elements, unless there are more than any person has."""
        if len(elements) <= REPETITIONS_MAX:
            return elements
        where = f"{location(elements[0].getparent())}/{hl7v3.local_name(elements[0])}"
        self.find("DataTypeError", f"more than {REPETITIONS_MAX} of them are given", where)
        return []

    def identifier(self, ii: Any, *, announced: bool = True) -> PatientId | None:
        """The identifier; None for a null one, and with the reasons added for one that cannot be taken.

        One that is ``announced`` must be of an authority whose identifiers this region takes.
        """
        if is_null(ii):
            return None
        before = len(self.findings)
        value = value_of(ii, "extension")
        if not value:
            self.find("RequiredFieldMissing", "the identifier has no value (II.extension)", ii)
        self.length(value, ii)
        authority = self.authority(ii, announced=announced)
        return PatientId(value, authority) if len(self.findings) == before else None

    def authority(self, ii: Any, *, announced: bool = True) -> str:
        """The OID of an assigning authority, or "" with the reason added."""
        root, name = value_of(ii, "root"), value_of(ii, "assigningAuthorityName")
        if not root:
            listed = self.authorities.by_name(name) if name else None
            if listed is None:
                code = "UnknownKeyIdentifier" if name else "RequiredFieldMissing"
                said = f"no authority of this region is called {name[:40]!r}" if name else "the authority is not named"
                self.find(code, f"{said}; send its OID as II.root", ii)
            return listed.oid if listed is not None else ""
        if not is_oid(root):
            self.find("DataTypeError", "the assigning authority (II.root) is not an OID", ii)
            return ""
        if announced and not self.authorities.accepts(root):
            self.find("UnknownKeyIdentifier", f"this region takes no identifiers of the authority {root}", ii)
            return ""
        return root

    def identifiers(self, elements: list[Any]) -> dict[PatientId, str]:
        """The identifiers that are not null, each with the location where it stands first."""
        found: dict[PatientId, str] = {}
        for ii in self.limited(elements):
            if (identifier := self.identifier(ii)) is not None:
                found.setdefault(identifier, location(ii))
        return found

    def demographics(self, person: Any) -> dict[str, Any]:
        """What a Person states, by name of the field of Demographics."""
        values: dict[str, Any] = {}
        for name, field, read in _REPEATED:
            if (found := self.limited(children(person, *name))) and (value := read(self, found)) is not None:
                values[field] = value
        for path, field, read in _SINGLE:
            if (found := child(person, *path)) is None:
                continue
            if is_null(found) and field != "sex":
                values[field] = getattr(_NOBODY, field)
            elif (value := read(self, found)) is not None:
                values[field] = value
        if "birth_place" not in values and (city := text_of(child(person, "birthPlace", "addr", "city"))):
            values["birth_place"] = city
        self._relations(person, values)
        return values

    def names(self, elements: list[Any]) -> tuple[PersonName, ...] | None:
        """The names, the legal one first; None where nothing is said."""
        if all(not is_null(e) and not text_of(e) for e in elements):
            return None
        found = [n for e in elements if not is_null(e) for n in self._name(e)]
        return tuple(sorted(dict.fromkeys(found), key=lambda name: name.use != "L"))

    def _name(self, en: Any) -> list[PersonName]:
        parts: dict[str, list[str]] = {"family": [], "given": [], "prefix": [], "suffix": []}
        birth: list[str] = []
        for part in self.limited(children_of_any(en)):
            kind, said = hl7v3.local_name(part), text_of(part)
            self.length(said, part)
            if not said or kind not in parts:
                continue
            is_birth_name = kind == "family" and "BR" in value_of(part, "qualifier").split()
            (birth if is_birth_name else parts[kind]).append(said)
        free = " ".join((en.text or "").split())
        if free and len(en) == 0:
            self.length(free, en)
            parts["family"].append(free)
        use = next((u for u in value_of(en, "use").split() if u in _TABLE["name_use_read"]), "")
        given, affixes = tuple(parts["given"]), (" ".join(parts["prefix"]), " ".join(parts["suffix"]))
        found = []
        if parts["family"] or (given and not birth):
            family = "-".join(dict.fromkeys(parts["family"]))  # two family names are one double-barrelled
            found.append(PersonName(family, given, *affixes, use=_TABLE["name_use_read"][use]))
        if birth:
            found.append(PersonName("-".join(birth), given, use="B"))
        return found

    def _addresses(self, elements: list[Any]) -> tuple[Address, ...] | None:
        if all(not is_null(e) and not text_of(e) for e in elements):
            return None
        found = [self.address(e) for e in elements if not is_null(e)]
        return tuple(a for a in found if a != Address(use=a.use))

    def address(self, ad: Any) -> Address:
        """An AD; street, house and flat are one line in the domain."""
        parts: dict[str, list[str]] = {}
        for part in self.limited(children_of_any(ad)):
            said = text_of(part)
            self.length(said, part)
            if said:
                parts.setdefault(hl7v3.local_name(part), []).append(said)

        def line(*names: str) -> str:
            return " ".join([said for name in names for said in parts.get(name, ())])

        house = "/".join(filter(None, (line("houseNumber", "houseNumberNumeric"), line("unitID"))))
        street = line("streetAddressLine", "streetNameType", "streetName", "streetNameBase")
        teryt = {m[1]: m[2] for m in map(_TERYT.match, parts.get("censusTract", ())) if m}
        use = next((u for u in value_of(ad, "use").split() if u in _TABLE["address_use_read"]), "")
        return Address(
            street=" ".join(filter(None, (street, house, line("additionalLocator")))),
            city=line("city"),
            state=line("state"),
            postal_code=line("postalCode"),
            country=line("country"),
            use=_TABLE["address_use_read"].get(use, ""),
            terc=teryt.get("TERC", ""),
            simc=teryt.get("SIMC", ""),
            ulic=teryt.get("ULIC", ""),
        )

    def _telecoms(self, elements: list[Any]) -> tuple[Telecom, ...] | None:
        found = tuple(filter(None, map(self.telecom, elements)))
        return found if found or any(map(is_null, elements)) else None

    def telecom(self, tel: Any) -> Telecom | None:
        """A TEL; None for one without a number."""
        value = value_of(tel)
        scheme, colon, rest = value.partition(":")
        number = rest.strip() if colon and scheme.lower() in ("tel", "fax", "mailto", "sms") else value
        self.length(number, tel)
        if is_null(tel) or not number:
            return None
        known = [u for u in value_of(tel, "use").split() if u in _TABLE["telecom_use_read"]]
        if scheme.lower() == "mailto" or "@" in number:
            return Telecom(number, use=_TABLE["telecom_use_read"][known[0]][0] if known else "NET", equipment=_INTERNET)
        use, equipment = _TABLE["telecom_use_read"][known[0] if known else "HP"]
        return Telecom(number, use=use, equipment=_FAX if scheme.lower() == "fax" else equipment)

    def _relations(self, person: Any, values: dict[str, Any]) -> None:
        """The mother: her maiden name and her number (TF-2:3.47.4.2.2.3, Pediatric Demographics)."""
        for relation in children(person, "personalRelationship"):
            if value_of(child(relation, "code"), "code") != _MOTHER:
                continue
            holder = child(relation, "relationshipHolder1")
            if (names := self.names(self.limited(children(holder, "name")))) is not None:
                birth = [n for n in names if n.use in _BIRTH_NAMES]
                values["mother_name"] = next(iter(birth or names), None)
            if found := self.identifiers([*children(holder, "id"), *children(relation, "id")]):
                values["mother"] = next(iter(found))
            return

    def sex(self, ce: Any) -> str | None:
        """A gender as HL7 table 0001 has it; None where nothing is said or it is none."""
        code = "UNK" if is_null(ce) else value_of(ce, "code")
        if code and code not in _TABLE["gender_read"]:
            self.find("TableValueNotFound", "administrative gender must be F, M or UN, or null", ce)
            return None
        return _TABLE["gender_read"][code] if code else None

    def _birth_date(self, ts: Any) -> str | None:
        return self.time(ts, _DATE_DIGITS)

    def _deceased_at(self, ts: Any) -> str | None:
        return self.time(ts, _TIME_DIGITS)

    def time(self, ts: Any, digits: int) -> str | None:
        """The digits of a TS; None where it has none, with the reason where it is no time."""
        value = value_of(ts)
        if not value:
            return None
        found = read_time(value)
        if found is None:
            self.find("DataTypeError", "not a time: YYYY, YYYYMM, YYYYMMDD, to the second with a time zone", ts)
        return found[:digits] if found else None

    def _yes_no(self, bl: Any) -> bool | None:
        value = value_of(bl)
        if value not in (*_TRUE, *_FALSE):
            self.find("DataTypeError", "must be true or false", bl)
            return None
        return value in _TRUE

    def _birth_order(self, number: Any) -> int | None:
        value = value_of(number)
        if not _BIRTH_ORDER.match(value):
            self.find("DataTypeError", "the birth order is not a number from 1 to 99", number)
            return None
        return int(value)

    def _marital_status(self, ce: Any) -> str | None:
        code = self._code(ce)
        system = value_of(ce, "codeSystem")
        return code if system not in ("", _SYSTEM["marital_status"]) else _TABLE["marital_status_read"].get(code, code)

    def _code(self, ce: Any) -> str:
        code = value_of(ce, "code")
        self.length(code, ce)
        return code

    def _language(self, ce: Any) -> str | None:
        code = value_of(ce, "code").lower().replace("_", "-")
        code = _LANGUAGES.get(code, code)
        return code if _LANGUAGE.match(code) else None

    def _text(self, st: Any) -> str | None:
        said = text_of(st)
        self.length(said, st)
        return said or None

    def length(self, value: str, where: Any) -> None:
        """Adds a finding for a value that is longer than any real one."""
        if len(value) > VALUE_LENGTH_MAX:
            self.find("DataTypeError", f"longer than {VALUE_LENGTH_MAX} characters", where)


def children_of_any(parent: Any) -> list[Any]:
    """All child elements."""
    return list(parent.iterchildren("*"))


_NOBODY = Demographics()
_Read = Callable[[Reading, Any], Any]
_REPEATED: tuple[tuple[tuple[str, ...], str, _Read], ...] = (
    (("name",), "names", Reading.names),
    (("addr",), "addresses", Reading._addresses),  # noqa: SLF001 - the table of the class itself
    (("telecom",), "telecoms", Reading._telecoms),  # noqa: SLF001
)
_SINGLE: tuple[tuple[tuple[str, ...], str, _Read], ...] = (
    (("administrativeGenderCode",), "sex", Reading.sex),
    (("birthTime",), "birth_date", Reading._birth_date),  # noqa: SLF001
    (("deceasedInd",), "deceased", Reading._yes_no),  # noqa: SLF001
    (("deceasedTime",), "deceased_at", Reading._deceased_at),  # noqa: SLF001
    (("multipleBirthInd",), "multiple_birth", Reading._yes_no),  # noqa: SLF001
    (("multipleBirthOrderNumber",), "birth_order", Reading._birth_order),  # noqa: SLF001
    (("maritalStatusCode",), "marital_status", Reading._marital_status),  # noqa: SLF001
    (("religiousAffiliationCode",), "religion", Reading._code),  # noqa: SLF001
    (("asCitizen", "politicalNation", "code"), "citizenship", Reading._code),  # noqa: SLF001
    (("birthPlace", "birthplace", "name"), "birth_place", Reading._text),  # noqa: SLF001
    (("languageCommunication", "languageCode"), "language", Reading._language),  # noqa: SLF001
)


# writing -------------------------------------------------------------------------------------------------------------


def write_patient_id(name: str, identifier: PatientId, authorities: Authorities) -> str:
    """An identifier, with the name of its authority where it has one here."""
    return write_id(
        name,
        InstanceId(identifier.authority, identifier.value),
        assigningAuthorityName=authorities.name_of(identifier.authority),
    )


def write_person(person: Demographics, *, authorities: Authorities, other_ids: Sequence[str] = ()) -> str:
    """``patientPerson`` with all that is known; ``other_ids`` are written ``asOtherIDs``."""
    names = "".join(map(write_name, person.names)) or '<name nullFlavor="NI"/>'
    gender = coded("administrativeGenderCode", _TABLE["gender_written"].get(person.sex, ""), _SYSTEM["gender"])
    if person.sex == "U":
        gender = '<administrativeGenderCode nullFlavor="UNK"/>'
    status = _TABLE["marital_status_written"].get(person.marital_status, person.marital_status)
    parts = [
        '<patientPerson classCode="PSN" determinerCode="INSTANCE">',
        names,
        *map(_telecom, person.telecoms),
        gender,
        _valued("birthTime", person.birth_date),
        _valued("deceasedInd", _yes_or_no(person.deceased)),
        _valued("deceasedTime", person.deceased_at),
        _valued("multipleBirthInd", _yes_or_no(person.multiple_birth)),
        _valued("multipleBirthOrderNumber", str(person.birth_order or "")),
        *map(_address, person.addresses),
        coded("maritalStatusCode", status, _SYSTEM["marital_status"]),
        coded("religiousAffiliationCode", person.religion),
        _citizenship(person.citizenship),
        *other_ids,
        _mother(person, authorities),
        _birth_place(person.birth_place),
    ]
    if person.language:
        parts.append(f"<languageCommunication>{coded('languageCode', person.language)}</languageCommunication>")
    parts.append("</patientPerson>")
    return "".join(parts)


def write_name(name: PersonName) -> str:
    """A name; a birth or maiden name by the qualifier of the family name."""
    use = _TABLE["name_use_written"].get(name.use, "")
    family = element("family", name.family)
    if name.use in _BIRTH_NAMES:
        family = family.replace("<family>", '<family qualifier="BR">', 1)
    return "".join(
        [
            f'<name use="{use}">' if use else "<name>",
            element("prefix", name.prefix),
            *(element("given", given) for given in name.given),
            family,
            element("suffix", name.suffix),
            "</name>",
        ]
    )


def _valued(name: str, value: str) -> str:
    return f'<{name} value="{attribute(value)}"/>' if value else ""


def _yes_or_no(said: bool | None) -> str:  # noqa: FBT001 - a value, not an option
    return "" if said is None else "true" if said else "false"


def _telecom(telecom: Telecom) -> str:
    use = "MC" if telecom.equipment == "CP" else _TABLE["telecom_use_written"].get(telecom.use, "")
    scheme = "fax" if telecom.equipment == _FAX else "tel"
    if telecom.equipment == _INTERNET or "@" in telecom.number:
        scheme = "mailto"
    written = f' use="{use}"' if use else ""
    return f'<telecom{written} value="{scheme}:{attribute(telecom.number)}"/>'


def _address(address: Address) -> str:
    use = _TABLE["address_use_written"].get(address.use, "")
    tracts = (("TERC", address.terc), ("SIMC", address.simc), ("ULIC", address.ulic))
    return "".join(
        [
            f'<addr use="{use}">' if use else "<addr>",
            element("streetAddressLine", address.street),
            element("city", address.city),
            element("state", address.state),
            element("postalCode", address.postal_code),
            element("country", address.country),
            *(element("censusTract", f"TERYT {name}: {code}") for name, code in tracts if code),
            "</addr>",
        ]
    )


def _citizenship(code: str) -> str:
    if not code:
        return ""
    nation = f'<politicalNation classCode="NAT" determinerCode="INSTANCE">{coded("code", code)}</politicalNation>'
    return f'<asCitizen classCode="CIT">{nation}</asCitizen>'


def _mother(person: Demographics, authorities: Authorities) -> str:
    if person.mother is None and person.mother_name is None:
        return ""
    identifier = write_patient_id("id", person.mother, authorities) if person.mother else ""
    name = write_name(person.mother_name) if person.mother_name else '<name nullFlavor="NI"/>'
    return (
        f'<personalRelationship classCode="PRS">{coded("code", _MOTHER, _SYSTEM["relationship"])}'
        f'<relationshipHolder1 classCode="PSN" determinerCode="INSTANCE">{identifier}{name}</relationshipHolder1>'
        "</personalRelationship>"
    )


def _birth_place(place: str) -> str:
    if not place:
        return ""
    return (
        '<birthPlace classCode="BIRTHPL"><birthplace classCode="PLC" determinerCode="INSTANCE">'
        f"{element('name', place)}</birthplace></birthPlace>"
    )

"""One request of MHD 4.2 while its resources are read: what its references lead to, whom it is about, what is wrong.

What is wrong is collected, each finding with the FHIRPath of its element. Patients are written as the identifier that
the resource gives; :class:`Reading` keeps all identifiers by which each may be known.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from obieg.codes.load import toml
from obieg.domain.documents import Code
from obieg.domain.identifiers import PatientId
from obieg.domain.problems import Finding, Problem
from obieg.mapping.fhir_patient import authority, patient_value

_UUID: str = toml("mhd.toml")["uuid"]
_NEVER_CONTAINED = frozenset(toml("mhd_provide.toml")["never_contained"]["types"])


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


def _patient_ids(identifiers: Sequence[dict[str, Any]]) -> tuple[PatientId, ...]:
    return tuple(
        PatientId(i["value"], oid)
        for i in identifiers
        if i.get("value") and (oid := authority(i.get("system", ""))) and "^" not in i["value"]
    )

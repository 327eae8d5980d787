"""Who a person is, as administration describes one: names, dates, addresses (HL7 v2 PID, HL7 v3 Person, FHIR Patient).

Values are kept as the source wrote them, trimmed; comparing folds them (:mod:`obieg.domain.matching`).
"""

from __future__ import annotations

from obieg.domain.documents import Value
from obieg.domain.identifiers import PatientId


class PersonName(Value, frozen=True):
    """A name of a person; ``use`` is HL7 table 0200 (L legal, M maiden, A alias, N nickname, B birth), or empty."""

    family: str = ""
    given: tuple[str, ...] = ()
    prefix: str = ""
    suffix: str = ""
    use: str = ""


class Address(Value, frozen=True):
    """Where a person lives; ``use`` is HL7 table 0190 (H home, C temporary, B work, M mailing), or empty."""

    street: str = ""  # with house and flat number
    city: str = ""
    state: str = ""
    postal_code: str = ""
    country: str = ""  # as sent; ISO 3166 where the source uses it
    use: str = ""
    terc: str = ""  # TERYT: municipality, 7 digits
    simc: str = ""  # TERYT: place, 7 digits
    ulic: str = ""  # TERYT: street, 5 digits


class Telecom(Value, frozen=True):
    """How to reach a person. ``use`` is HL7 table 0201 (PRN, ORN, NET), ``equipment`` table 0202 (PH, CP, Internet)."""

    number: str = ""  # as written, or the e-mail address
    use: str = ""
    equipment: str = ""
    country_code: str = ""
    area_code: str = ""
    local_number: str = ""


class Demographics(Value, frozen=True):
    """What is said of a person; every part may be missing (a newborn, an unconscious patient)."""

    names: tuple[PersonName, ...] = ()  # the legal one first
    birth_date: str = ""  # YYYY[MM[DD]]
    sex: str = ""  # M, F, O, U (HL7 table 0001)
    addresses: tuple[Address, ...] = ()
    telecoms: tuple[Telecom, ...] = ()
    mother_name: PersonName | None = None  # maiden name (PID-6)
    mother: PatientId | None = None  # PID-21
    multiple_birth: bool | None = None
    birth_order: int | None = None
    birth_place: str = ""
    language: str = ""  # BCP 47, lower case: pl
    marital_status: str = ""  # HL7 table 0002
    religion: str = ""  # HL7 table 0006
    citizenship: str = ""  # ISO 3166
    account: str = ""  # PID-18, value only
    deceased: bool | None = None
    deceased_at: str = ""  # YYYY[MM[DD[hhmm[ss]]]]

    @property
    def name(self) -> PersonName:
        """The name to call the person by: the first, or an empty one."""
        return self.names[0] if self.names else PersonName()

    @property
    def address(self) -> Address:
        """The address to write to: the first, or an empty one."""
        return self.addresses[0] if self.addresses else Address()

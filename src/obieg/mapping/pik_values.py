"""Values of XDS made of values of CDA: times in UTC, HL7 v2 composites (ITI TF-3:4.2.3.1.7), the source's patient."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from datetime import UTC, datetime, timedelta, timezone
from zoneinfo import ZoneInfo

from obieg.codes import load
from obieg.domain.identifiers import PatientId
from obieg.domain.persons import Demographics
from obieg.wire import cda
from obieg.wire.hl7v2 import escape

_PIK = load.toml("national/pl/pik.toml")
_ROOTS: dict[str, str] = _PIK["roots"]
_WARSAW = ZoneInfo(_PIK["defaults"]["time_zone"])
_GENDERS = {"M": "M", "F": "F", "UN": "O"}  # HL7 v3 AdministrativeGender -> HL7 v2 table 0001
_TIME = re.compile(r"(\d{4}(?:\d{2}){0,5})(?:\.\d+)?([+-]\d{4})?", re.ASCII)
_DATE_DIGITS = 8
# Which of an organisation's numbers names it to P1, best first.
_ORGANISATION_ROOTS = (
    "entity",
    "physician_practice",
    "nurse_practice",
    "pharmacy",
    "unit",
    "cell",
    "regon14",
    "regon9",
)


def utc(time: str) -> str | None:
    """A CDA time (TS) as DTM in UTC, as precise as it was written; None if it is no time.

    A time without an offset is Polish local time: PIK HL7 CDA writes them so. A date stays the date that was written,
    whichever offset stands beside it. In the hour that comes twice in October, the first is meant.
    """
    match = _TIME.fullmatch(time)
    if not match:
        return None
    digits, offset = match.groups()
    padded = digits + "00000101000000"[len(digits) :]
    month, day, hour, minute, second = (int(padded[at : at + 2]) for at in range(4, 14, 2))
    try:
        moment = datetime(int(padded[:4]), month, day, hour, minute, second)  # noqa: DTZ001 - the zone follows
        if len(digits) <= _DATE_DIGITS:
            return digits
        return moment.replace(tzinfo=_zone(offset)).astimezone(UTC).strftime("%Y%m%d%H%M%S")[: len(digits)]
    except (ValueError, OverflowError):
        return None


def _zone(offset: str | None) -> timezone | ZoneInfo:
    if offset is None:
        return _WARSAW
    distance = timedelta(hours=int(offset[1:3]), minutes=int(offset[3:5]))
    return timezone(-distance if offset[0] == "-" else distance)


# The patient as the source knows him


def source_patient_id(patient: cda.Patient) -> str | None:
    """The first id that the provider itself gave, else the first of all."""
    ids = [id_ for id_ in patient.ids if id_.extension]
    local = [id_ for id_ in ids if id_.root.startswith(f"{_ROOTS['provider_node']}.")]
    return next((cx(id_) for id_ in (*local, *ids)), None)


def patient_info(patient: cda.Patient) -> Iterator[str]:
    """PID-3, 5, 7, 8 and 11 as far as they are known (ITI TF-3:4.2.3.2.23); one value for each repetition of PID-3."""
    for id_ in patient.ids:
        if id_.extension:
            yield f"PID-3|{cx(id_)}"
    if patient.names:
        name = patient.names[0]
        yield from _field("PID-5", _family(name), *_given(name), _joined(name.suffix), _joined(name.prefix))
    yield from _field("PID-7", _birth_date(patient.birth_time))
    yield from _field("PID-8", _GENDERS.get(patient.gender, "U"))
    if patient.addresses:
        address = patient.addresses[0]
        street = " ".join(filter(None, (address.street, "/".join(filter(None, (address.house, address.unit))))))
        yield from _field("PID-11", street or address.text, "", address.city, "", address.postal_code, address.country)


def demographics_info(id_: PatientId, patient: Demographics) -> Iterator[str]:
    """The same of a patient of whom somebody told."""
    yield f"PID-3|{id_}"
    name, address = patient.name, patient.address
    yield from _field("PID-5", name.family, " ".join(name.given))
    yield from _field("PID-7", _birth_date(patient.birth_date))
    yield from _field("PID-8", patient.sex or "U")
    yield from _field("PID-11", address.street, "", address.city, address.state, address.postal_code, address.country)


def _field(name: str, *components: str) -> Iterator[str]:
    value = "^".join(escape(component) for component in components).rstrip("^")
    if value:
        yield f"{name}|{value}"


def _birth_date(time: str) -> str:
    return time[:_DATE_DIGITS] if utc(time) else ""


# Composites


def institutions(organisation: cda.Organisation | None) -> Iterator[str]:
    """XON of the whole entity, then that of the unit in which the author works.

    XON.1 is mandatory, yet the name of the entity is often left out: then the nearest name inside it stands in.
    """
    chain = list(organisation.chain()) if organisation else []
    names = [unit.name for unit in chain]
    found = []
    for position in dict.fromkeys((len(chain) - 1, 0)) if chain else ():
        nearest = [*reversed(names[: position + 1]), *names[position + 1 :]]
        found.append(xon(next(filter(None, nearest), ""), chain[position].ids))
    yield from dict.fromkeys(filter(None, found))


def cx(id_: cda.Id) -> str:
    """``id^^^&oid&ISO``."""
    return f"{escape(id_.extension)}^^^{_authority(id_)}"


def _authority(id_: cda.Id) -> str:
    return f"&{escape(id_.root)}&ISO"


def xcn(ids: Sequence[cda.Id], names: Sequence[cda.Name]) -> str:
    """``id^family^given^second^suffix^prefix^^^&oid&ISO``; "" if nothing is known."""
    id_ = next((id_ for id_ in ids if id_.extension), None)
    components = [escape(id_.extension) if id_ else "", "", "", "", "", ""]
    if names:
        name = names[0]
        components[1:] = [
            escape(part) for part in (_family(name), *_given(name), _joined(name.suffix), _joined(name.prefix))
        ]
    if id_:
        return "^".join(components) + f"^^^{_authority(id_)}"
    return "^".join(components).rstrip("^")


def xon(name: str, ids: Sequence[cda.Id]) -> str:
    """``name^^^^^&oid&ISO^^^^id``; "" if nothing is known."""
    id_ = min((id_ for id_ in ids if id_.extension), key=lambda i: organisation_rank(i.root), default=None)
    if id_ is None:
        return escape(name)
    return f"{escape(name)}^^^^^{_authority(id_)}^^^^{escape(id_.extension)}"


def organisation_rank(authority: str) -> int:
    """The place of an authority among those that number organisations, the one that P1 goes by first."""
    for rank, key in enumerate(_ORGANISATION_ROOTS):
        root = _ROOTS[key]
        if authority == root or authority.startswith(f"{root}."):
            return rank
    return len(_ORGANISATION_ROOTS)


def xtn(telecom: cda.Telecom) -> str:
    """``^^PH^^^^^^^^^number`` or ``^^Internet^address``."""
    scheme, _, address = telecom.value.partition(":")
    if scheme == "mailto":
        return f"^^Internet^{escape(address)}"
    return f"^^PH^^^^^^^^^{escape(address)}" if scheme == "tel" else ""


def _family(name: cda.Name) -> str:
    return _joined(name.family) or ("" if name.given else name.text)


def _given(name: cda.Name) -> tuple[str, str]:
    return (name.given[0] if name.given else "", _joined(name.given[1:]))


def _joined(parts: Iterable[str]) -> str:
    return " ".join(parts)

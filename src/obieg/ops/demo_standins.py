"""The stand-ins that run beside the demo's nodes: how each is started, and the files by which it knows whom it shows.

They are there in a clone alone; without them the demo runs with less to see.
"""

from __future__ import annotations

import importlib.util
import json
from collections.abc import Sequence
from pathlib import Path

from obieg.edges.patient_login import PREFIX as PATIENT_LOGIN
from obieg.ops.commands_certs import AUTHORITY
from obieg.ops.demo_facts import Facts, Listed, Worker
from obieg.ops.demo_settings import (
    CERTIFICATES,
    HOST,
    IDENTITY_METADATA,
    WARD_KEY,
    WARD_OF,
    Ports,
    organisation,
    system_of,
)
from obieg.ops.demo_studies import STUDIES_NAME
from obieg.ops.people import Person, facilities
from obieg.ops.supervisor import write_atomically

CLONE = Path(__file__).resolve().parents[3]  # the folder that has them
IDENTITY, IMAGES_FOLDER, PATIENTS_NAME, WARD_NAME = "wezel-krajowy", "images", "patients.toml", "ward.json"
WARD_ROLE = "medical-doctor"
_PATIENTS_MAX = 6  # of the ward that the hospital's system shows
_STAYS, _STRANGER = (
    "Leży na oddziale: widać dokumenty tego szpitala, bo trwa tu leczenie.",
    "Nie leży na oddziale: dokumenty widać tylko w nagłym przypadku albo za zgodą pacjenta.",
)


def there() -> tuple[bool, bool]:
    """Whether there are stand-ins here, and whether that of Węzeł Krajowy has what it needs."""
    found = (CLONE / "standins").is_dir()
    return found, found and importlib.util.find_spec("signxml") is not None


def commands(data: Path, ports: Ports, region: int, *, identity: bool) -> dict[str, tuple[str, ...]]:
    """Module and arguments of each, by the folder it runs in. ``region``: the port of its node."""
    own = data.absolute()
    keys = own / CERTIFICATES
    found = {
        "sms": ("standins.sms_gateway", "--port", str(ports.sms)),
        "events": ("standins.medical_events", "--port", str(ports.events)),
        IMAGES_FOLDER: (
            "standins.image_archive",
            *("--port", str(ports.images), "--studies", str(own / IMAGES_FOLDER / STUDIES_NAME)),
        ),
        system_of(WARD_OF): (
            "standins.hospital_system",
            *("--port", str(ports.ward), "--ward", str(own / WARD_NAME)),
            *("--region", f"https://{HOST}:{region}", "--ca", str(keys / f"{AUTHORITY}.pem")),
            *("--client", system_of(WARD_OF), "--key", str(keys / f"{WARD_KEY}.key"), "--key-id", WARD_KEY),
        ),
    }
    if identity:
        found[IDENTITY] = (
            "standins.wezel_krajowy",
            *("--port", str(ports.identity), "--url", f"http://localhost:{ports.identity}"),
            *("--client", f"http://{HOST}:{ports.pages}{PATIENT_LOGIN}/metadata"),
            *("--metadata", str(own / IDENTITY_METADATA), "--people", str(own / PATIENTS_NAME)),
        )
    return found


def write_patients(data: Path, listed: Sequence[Listed]) -> None:
    """Those whom the stand-in of Węzeł Krajowy offers, as it reads them."""
    rows = []
    for person, note in listed:
        said = {
            "pesel": person.pesel,
            "given_name": " ".join(person.given),
            "family_name": person.family,
            "birth_date": str(person.born),
            "note": note,
        }
        rows.append("[[person]]\n" + "".join(f"{k} = {json.dumps(v, ensure_ascii=False)}\n" for k, v in said.items()))
    write_atomically(data / PATIENTS_NAME, "\n".join(rows))


def write_ward(data: Path, workers: Sequence[Worker], told: Facts, stranger: Person | None) -> None:
    """Who works in the hospital's own system and whose records it opens; ``stranger`` is nobody's patient there."""
    facility = facilities()[WARD_OF]
    here = organisation(facility)
    doctor = next(w for w in workers if (w.place.organisation, w.place.role) == (here, WARD_ROLE))
    staying = [(person, _STAYS) for person, key in told.staying if key == WARD_OF][:_PATIENTS_MAX]
    shown = [*staying, *([(stranger, _STRANGER)] if stranger is not None else [])]
    ward = {
        "hospital": facility.name,
        "organisation": here,
        "name": doctor.name,
        "person": doctor.identifier,
        "role": doctor.place.role,
        "patients": [
            {
                "name": f"{' '.join(person.given)} {person.family}",
                "born": str(person.born),
                "pesel": person.pesel,
                "note": note,
            }
            for person, note in shown
        ],
    }
    write_atomically(data / WARD_NAME, json.dumps(ward, ensure_ascii=False) + "\n")

"""The studies of the demo: what a stand-in of an archive of images draws, and their manifests (XDS-I.b).

The archive makes the images and the manifest of each study of ``studies.json``; a hospital hands the manifests in at
the regional repository, whose node gives the images out (``[images]`` of its settings).
"""

from __future__ import annotations

import json
import uuid
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from itertools import chain, repeat
from pathlib import Path
from typing import NamedTuple

import httpx
from msgspec.structs import replace

from obieg.codes.load import toml
from obieg.domain.content import MemoryContent
from obieg.domain.documents import Author
from obieg.mapping.pik import DocumentOptions, describe_file
from obieg.mapping.pik_values import demographics_info
from obieg.ops.demo_facts import entry_uuid, protagonist
from obieg.ops.demo_settings import IMAGES_OF
from obieg.ops.failure import Failure
from obieg.ops.people import OF_AGE, Person, age, facilities, families, staff
from obieg.ops.population import DemoDocument
from obieg.ops.submitting import Item
from obieg.ops.supervisor import write_atomically
from obieg.wire.dicom import DicomRefused, read_file

STUDIES_NAME = "studies.json"
_PHYSICIANS: str = toml("national/pl/pik.toml")["roots"]["npwz_physician"]
_CHEST, _KIDNEY, _RADIOGRAPH = (
    ("RTG i TK klatki piersiowej", "CR CT", "20260914"),
    ("USG nerek z badaniem dopplerowskim", "US", "20260921"),
    ("RTG klatki piersiowej", "CR", "20260922"),
)


class Study(NamedTuple):
    """A study of somebody of the population."""

    number: str
    person: Person
    title: str
    series: str  # what the archive draws
    date: str  # YYYYMMDD


def studies(persons: Sequence[Person], made: Sequence[DemoDocument], seed: int) -> list[Study]:
    """Of the patient whom the README shows, and of a child, whose parents see them, too."""
    found: list[tuple[Person, tuple[str, str, str]]] = []
    first = protagonist(made, seed)
    if first is not None:
        found += [(first[0], _CHEST), (first[0], _KIDNEY)]
    parents = families(persons, seed)
    child = next((p for p in persons if p.number in parents and age(p) < OF_AGE), None)
    if child is not None:
        found.append((child, _RADIOGRAPH))
    return [Study(f"{seed}-{at}", person, *drawn) for at, (person, drawn) in enumerate(found, 1)]


def write(path: Path, listed: Sequence[Study]) -> None:
    """For the archive."""
    facility = facilities()[IMAGES_OF]
    rows = [
        {
            "number": study.number,
            "patient_id": facility.patient_id(study.person).value,
            "name": f"{study.person.family}^{' '.join(study.person.given)}",
            "born": f"{study.person.born:%Y%m%d}" if study.person.born else "",
            "sex": {"M": "M", "F": "F"}.get(study.person.sex, "O"),
            "date": study.date,
            "title": study.title,
            "series": study.series,
        }
        for study in listed
    ]
    write_atomically(path, json.dumps(rows, ensure_ascii=False) + "\n")


async def items(listed: Sequence[Study], archive: str, *, source_id: str, seed: int) -> list[Item]:
    """What is handed in of them. ``archive``: address of the stand-in. Raises Failure."""
    async with httpx.AsyncClient(trust_env=False, timeout=30) as http:
        try:
            answers = [await http.get(f"{archive}/manifests/{study.number}") for study in listed]
            data = [answer.raise_for_status().content for answer in answers]
            return list(_described(listed, data, source_id, seed))
        except (httpx.HTTPError, DicomRefused) as error:
            raise Failure(
                f"The stand-in of the archive of images gives no manifest: {error}.",
                "The studies cannot be handed in.",
                "Start the demo again; if it says the same, the node.log beside the archive's folder tells more.",
            ) from error


def _described(listed: Sequence[Study], data: Sequence[bytes], source_id: str, seed: int) -> Iterator[Item]:
    facility = facilities()[IMAGES_OF]
    name, number = staff(facility, seed)[0]
    family, given = " ".join(name.family), " ".join(name.given)
    author = Author(
        person=(f"{number}^{family}^{given}^^^^^^&{_PHYSICIANS}&ISO",),
        institution=(facility.name,),
    )
    for study, manifest in zip(listed, data, strict=True):
        unique_id = read_file(manifest).uid("SOPInstanceUID")
        first, *others = facility.identifiers(study.person)
        described = describe_file(
            manifest,
            DocumentOptions(
                unique_id=unique_id,
                class_code="06.00",
                type_code="70004-7",
                title=f"Obrazy: {study.title}",
                creation_time=f"{study.date}101500",
                source_patient_id=first,
                patient=study.person.demographics,
                authors=(author,),
                facility="7200",
                specialty="0726",
                service_start_time=f"{study.date}101500",
            ),
            patient_id="",
            source_id=source_id,
            now=datetime.now(UTC),
            new_uuid=chain((entry_uuid(unique_id),), (uuid.uuid4() for _ in repeat(None))).__next__,
        )
        info = (*demographics_info(first, study.person.demographics), *(f"PID-3|{other}" for other in others))
        told = described._replace(entry=replace(described.entry, source_patient_info=info))
        yield Item(f"{IMAGES_OF} {study.title}", told, MemoryContent(manifest, described.entry.mime_type))

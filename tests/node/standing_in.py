"""Stand-ins in threads of the tests, and studies that the one of an image archive draws."""

from __future__ import annotations

import json
import threading
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

import httpx
import portals
import uvicorn
from standins.image_archive.app import application as drawing
from starlette.applications import Starlette

from obieg.domain.content import MemoryContent
from obieg.domain.documents import Author
from obieg.domain.identifiers import PatientId
from obieg.mapping.pik import DocumentOptions, describe_file
from obieg.ops.population import Person
from obieg.ops.submitting import Item
from obieg.wire.dicom import read_file


@contextmanager
def serving(application: Starlette) -> Iterator[str]:
    """Its address, while the block runs."""
    server = uvicorn.Server(uvicorn.Config(application, port=0, log_level="error", lifespan="off"))
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    while not server.started:
        thread.join(0.01)
    yield f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}"
    server.should_exit = True
    thread.join()


class DrawnImages:
    """An archive whose images a program draws; it knows patients by their PESEL."""

    def __init__(self, address: str, listed: Path) -> None:
        self._address, self._listed = address, listed
        self._rows: list[dict[str, str]] = []
        self.settings = {"archive_url": f"{address}/dicom-web", "patient_authority": portals.PESEL}

    def study(self, region: portals.Region, person: Person, series: str = "CR CT") -> str:
        """A study of somebody, whose manifest is handed in; the uniqueId of that."""
        title, number = "RTG i TK klatki piersiowej", f"{len(self._rows) + 1}"
        name, sex = f"{person.family}^{person.given[0]}", person.sex
        told = {"number": number, "patient_id": person.pesel, "name": name, "born": f"{person.born:%Y%m%d}", "sex": sex}
        self._rows.append({**told, "date": "20260914", "title": title, "series": series})
        self._listed.write_text(json.dumps(self._rows))
        manifest = httpx.get(f"{self._address}/manifests/{number}").raise_for_status().content
        unique_id = read_file(manifest).uid("SOPInstanceUID")
        options = DocumentOptions(
            unique_id=unique_id, class_code="06.00", type_code="70004-7", title=title, creation_time="20260914101500",
            source_patient_id=PatientId(person.pesel, portals.PESEL), patient=person.demographics,
            authors=(Author(institution=("Pracownia Tomografii Komputerowej",)),),
            facility="7200", specialty="0726", service_start_time="20260914101500",
        )  # fmt: skip
        described = describe_file(
            manifest, options, patient_id="", source_id=region.node.repository, now=datetime.now(UTC),
            new_uuid=uuid.uuid4,
        )  # fmt: skip
        region.submit([Item(unique_id, described, MemoryContent(manifest, described.entry.mime_type))])
        return unique_id


@contextmanager
def drawn_images(folder: Path) -> Iterator[DrawnImages]:
    """The stand-in of an image archive; what it has stands in ``folder``."""
    listed = folder / "studies.json"
    with serving(drawing(listed)) as address:
        yield DrawnImages(address, listed)

"""The directory of the demo's region: its facilities, their cells, and those who write their documents."""

from __future__ import annotations

import asyncio
import csv
from collections.abc import Iterator
from pathlib import Path

from obieg.ops.directory_import import HEADER, DirectoryImport
from obieg.ops.failure import Failure
from obieg.ops.import_files import examine
from obieg.ops.index_access import opened
from obieg.ops.people import Facility, data, facilities, staff
from obieg.ops.population import cell_name
from obieg.storage.directory_store import PostgresDirectoryStore

SOURCE = "demo"
UNIT = "01"
_COLUMNS = (
    "book", "part_v", "part_vii", "part_viii", "name", "regon", "npwz", "profession", "family", "given", "prefix",
    "street", "city", "postal_code", "phone",
)  # fmt: skip


def fill_directory(settings: Path, file: Path, seed: int) -> None:
    """Writes ``file`` and imports it as an operator does; raises Failure. Not to be called on an event loop."""
    with file.open("w", encoding="utf-8", newline="") as out:
        writer = csv.DictWriter(out, _COLUMNS, delimiter=";")
        writer.writeheader()
        for facility in facilities().values():
            writer.writerows(rows(facility, seed))
    rejects = Path(f"{file}.rejected")
    rejects.unlink(missing_ok=True)
    with opened(settings) as access:

        async def work() -> int:
            async with access.connected():
                store = PostgresDirectoryStore(access.database, access.audit)
                source = examine(file, header=HEADER)
                done = await DirectoryImport(store, source, speaker=SOURCE, by="demo").run(rejects, complete=True)
                return done.counts.get("rejected", 0)

        if asyncio.run(work()):
            raise Failure(
                f"Rows of {file} were not taken.",
                "The directory of the demo is not whole.",
                f"{rejects} tells why; start the demo again.",
            )


def rows(facility: Facility, seed: int) -> Iterator[dict[str, str]]:
    """A facility as the rows of a CSV file: podmiot, jednostka, komórki, people."""
    book, address = facility.book, facility.address
    street = " ".join(filter(None, (address.street, address.house)))
    place = {"street": street, "city": address.city, "postal_code": address.postal_code}
    phone = {"phone": facility.phone.removeprefix("tel:")}
    yield {"book": book, "name": facility.name, "regon": facility.regon9, **place, **phone}
    yield {"book": book, "part_v": UNIT, "name": facility.unit, "regon": facility.regon14, **place, **phone}
    wanted = "ward" if facility.kind == "hospital" else "clinic"
    cells = sorted({case[wanted] for case in data()["case"] if case.get(wanted)})
    for number, code in enumerate(cells, 1):
        yield {"book": book, "part_v": UNIT, "part_vii": f"{number:03}", "part_viii": code, "name": cell_name(code)}
    for number, (name, licence) in enumerate(staff(facility, seed)):
        yield {
            "book": book,
            "part_v": UNIT,
            "part_vii": f"{number % len(cells) + 1:03}",
            "npwz": licence,
            "profession": "LEK",
            "family": " ".join(name.family),
            "given": " ".join(name.given),
            "prefix": " ".join(name.prefix),
        }

"""What patients see of themselves and of whom they act for (``/patient``)."""

from __future__ import annotations

from collections.abc import Sequence

from starlette.responses import Response
from starlette.routing import BaseRoute

from obieg.web.areas import PATIENTS
from obieg.web.desk import Desk, Visit


class PatientPages:
    """The pages; see the module docstring."""

    def __init__(self, desk: Desk) -> None:
        self._desk = desk

    @property
    def routes(self) -> Sequence[BaseRoute]:
        """For the node's web application."""
        return (self._desk.route(PATIENTS, get=self._home),)

    async def _home(self, visit: Visit) -> Response:
        root, _, value = visit.requester.person.partition("#")
        mine = await self._desk.fhir(
            visit, "search-type", "Patient", parameters=[("identifier", f"urn:oid:{root}|{value}")]
        )
        patients = [entry["resource"] for entry in mine.body.get("entry", ())]
        documents = []
        for patient in patients:
            found = await self._desk.fhir(
                visit,
                "search-type",
                "DocumentReference",
                parameters=[("patient", f"Patient/{patient['id']}"), ("status", "current")],
            )
            documents += [entry["resource"] for entry in found.body.get("entry", ())]
        return self._desk.kit.page(visit.request, "patient/home.html", patients=patients, documents=documents)

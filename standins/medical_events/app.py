"""The stand-in on the network: FHIR search for Encounters of a person, made up of the person's number."""

from __future__ import annotations

import hashlib
import hmac
from datetime import date, timedelta
from typing import Any
from urllib.parse import parse_qs

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

ROOT = "2.16.840.1.113883.3.4424"
NODE = f"{ROOT}.2.7.999.15.1"
SERVER = {"X-Stand-In": "made up: not P1"}
KINDS = (("4", "Porada"), ("1", "Pobyt w oddziale szpitalnym"), ("9", "Badanie"), ("19", "Szczepienie"))
DIAGNOSES = (
    ("I10", "Nadciśnienie samoistne (pierwotne)"),
    ("E11", "Cukrzyca insulinoniezależna"),
    ("J06", "Ostre zakażenie górnych dróg oddechowych"),
)
PLACES = (("000000001", "Szpital Powiatowy (atrapa P1)"), ("000000009", "Przychodnia Zdrój (atrapa P1)"))
DOCTORS = (("5425740", "Anna Nowak"), ("7305386", "Jan Wrona"))


def events(pesel: str, number: int = 4) -> list[dict[str, Any]]:
    """The same for the same person, by the profile PLMedicalEvent as far as clients of P1 show it."""
    made: list[dict[str, Any]] = []
    for at in range(number):
        seed = int.from_bytes(hashlib.sha256(f"{pesel} {at}".encode()).digest()[:4], "big")
        code, name = KINDS[seed % len(KINDS)]
        place, doctor = PLACES[at % len(PLACES)], DOCTORS[seed // 7 % len(DOCTORS)]
        day = date(2026, 10, 1) - timedelta(days=seed % 900)
        icd = DIAGNOSES[seed // 11 % len(DIAGNOSES)]
        made += [
            {
                "resourceType": "Encounter",
                "id": f"e{at}",
                "meta": {
                    "profile": ["https://ezdrowie.gov.pl/fhir/StructureDefinition/PLMedicalEvent"],
                    "security": [{"system": f"urn:oid:{ROOT}.11.1.83", "code": "N"}],
                },
                "identifier": [{"system": f"urn:oid:{NODE}", "value": f"{seed:08x}-{at}"}],
                "status": "finished",
                "class": {"system": f"urn:oid:{ROOT}.11.1.34", "code": code, "display": name},
                "subject": {"identifier": {"system": f"urn:oid:{ROOT}.1.1.616", "value": pesel}},
                "participant": [
                    {
                        "individual": {
                            "identifier": {"system": f"urn:oid:{ROOT}.1.6.2", "value": doctor[0]},
                            "display": doctor[1],
                        }
                    }
                ],
                "period": {"start": f"{day}T09:{seed % 60:02d}:00+02:00", "end": f"{day}T10:00:00+02:00"},
                "serviceProvider": {
                    "identifier": {"system": f"urn:oid:{ROOT}.2.3.1", "value": place[0]},
                    "display": place[1],
                },
            },
            {
                "resourceType": "Condition",
                "id": f"c{at}",
                "encounter": {"reference": f"Encounter/e{at}"},
                "code": {"coding": [{"system": "urn:oid:2.16.840.1.113883.6.3", "code": icd[0], "display": icd[1]}]},
            },
        ]
    return made


def application(key: str = "") -> Starlette:
    """``key`` is what the bearer must show; "" for none. POST to /behaviour: what it answers next, as a status."""
    answers: list[int] = []
    asked: list[str] = []

    async def search(request: Request) -> Response:
        if not hmac.compare_digest(request.headers.get("authorization", ""), f"Bearer {key}" if key else ""):
            return JSONResponse({"resourceType": "OperationOutcome"}, 401, headers=SERVER)
        if answers:
            return JSONResponse({"resourceType": "OperationOutcome"}, answers.pop(0), headers=SERVER)
        given = parse_qs((await request.body()).decode("ascii"))
        pesel = given.get("subject:identifier", [""])[0].rpartition("|")[2]
        asked.append(pesel)
        found = [{"resource": each} for each in events(pesel)]
        return JSONResponse({"resourceType": "Bundle", "type": "searchset", "entry": found}, headers=SERVER)

    async def behave(request: Request) -> Response:
        answers.extend(await request.json())
        return JSONResponse(answers)

    async def who(_: Request) -> Response:
        return JSONResponse(asked)

    return Starlette(
        routes=[
            Route("/Encounter/_search", search, methods=["POST"]),
            Route("/behaviour", behave, methods=["POST"]),
            Route("/asked", who),
        ]
    )

"""IHE's own samples of PCF, and the decisions that their descriptions state."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from test_consent import BASE, DOCTOR, EXPECTED, KNOWN, RESEARCHERS, SAMPLES, VISIT

from obieg.domain.access import Act, Declaration, Deny, DocumentFacts, Facts, Period, Permit, decide
from obieg.domain.affinity_domain import polish
from obieg.domain.requester import Requester
from obieg.domain.showing import shown
from obieg.mapping.consent import draft
from obieg.mapping.consent_meaning import read_consent

NOW = datetime(2026, 11, 22, 12, tzinfo=UTC)
PERSON, OTHER = "1.2.616.1#ex-patient", "1.2.616.5#other"
PAPERS = {  # what is kept of the patient; nobody who asks has written it, unless it says so
    "plain": DocumentFacts(
        "urn:uuid:00000000-0000-4000-8000-000000000001", labels=("N",), creation_time="20210601120000"
    ),
    "restricted": DocumentFacts("urn:uuid:00000000-0000-4000-8000-000000000002", labels=("R",)),
    "psychiatry": DocumentFacts("urn:uuid:00000000-0000-4000-8000-000000000003", labels=("R", "PSY")),
    "violence": DocumentFacts("urn:uuid:00000000-0000-4000-8000-000000000004", labels=("R", "SDV")),
    "by": DocumentFacts("urn:uuid:00000000-0000-4000-8000-000000000005", authors=(DOCTOR,)),
    "visit": DocumentFacts("urn:uuid:00000000-0000-4000-8000-000000000006", encounters=(VISIT,)),
    "2022": DocumentFacts("urn:uuid:00000000-0000-4000-8000-000000000007", creation_time="20220630120000"),
    "observed": DocumentFacts("urn:uuid:00000000-0000-4000-8000-000000000008"),
}
NORMAL = {"plain", "by", "visit", "2022", "observed"}
RESTRICTED = {"restricted", "psychiatry", "violence"}
NOTHING: set[str] = set()
# The samples speak of Observations, which this node keeps within documents: here one document stands for all of them.
OBSERVED = PAPERS["observed"].entry_uuid.removeprefix("urn:uuid:")


def asks(purpose: str = "TREAT", person: str = OTHER, organisation: str = "1.2.616.9#hospital") -> Requester:
    return Requester("his", person=person, role="medical-doctor", organisation=organisation, purpose_of_use=purpose)


other, doctor = asks(), asks(person=DOCTOR)
# By sample: who asks, and what they are shown.
STATED: dict[str, list[tuple[Requester, set[str]]]] = {
    "consent-basic-treat": [
        (other, NORMAL), (asks("HPAYMT"), NORMAL), (asks("HOPERAT"), NORMAL), (asks("HRESCH"), NOTHING), (asks("MARKT"), NOTHING),
    ],
    "consent-basic-treat-infant": [(other, NORMAL)],
    "consent-basic-ink": [(other, NORMAL)],
    "consent-basic-reject": [(other, NOTHING), (doctor, NOTHING)],
    "consent-basic-research": [
        (asks("HRESCH"), NORMAL), (asks("CLINTRCH"), NORMAL), (asks("HPAYMT"), NOTHING), (other, NOTHING),
    ],
    "consent-expired-treat": [(other, NOTHING)],
    "consent-intermediate-authoredby": [(other, {"by"})],
    "consent-intermediate-not-authoredby": [(other, NORMAL - {"by"})],
    "consent-intermediate-encounter": [(other, {"visit"})],
    "consent-intermediate-not-encounter": [(other, NORMAL - {"visit"})],
    "consent-intermediate-timeframe": [(other, {"2022"})],
    "consent-intermediate-not-timeframe": [(other, NORMAL - {"2022"})],
    "consent-intermediate-data": [(other, {"observed"})],
    "consent-intermediate-not-data": [(other, NORMAL - {"observed"})],
    "consent-intermediate-purpose": [
        (asks("FooBar", organisation=RESEARCHERS), NORMAL), (asks("FooBar"), NOTHING),
        (asks("TREAT", organisation=RESEARCHERS), NOTHING), (asks("HRESCH", organisation=RESEARCHERS), NOTHING),
    ],
    "dissent-intermediate-break-glass": [
        (other, NOTHING), (doctor, NOTHING), (asks("BTG"), NOTHING),
        (asks("BTG", person=DOCTOR), NORMAL | RESTRICTED),
    ],
    "consent-advanced-normal": [(other, NORMAL), (doctor, NORMAL)],
    "consent-advanced-normal-restricted": [(other, NORMAL | RESTRICTED)],
    "consent-advanced-normal-not-restricted": [(other, NORMAL)],
    "consent-advanced-normal-focused-restricted": [(other, NORMAL), (doctor, NORMAL | RESTRICTED)],
    "consent-advanced-normal-focused-psy": [(other, NORMAL), (doctor, NORMAL | {"psychiatry"})],
    "consent-advanced-normal-focused-psy-or-sdv": [(other, NORMAL), (doctor, NORMAL | {"psychiatry", "violence"})],
    "consent-advanced-normal-break-glass-restricted": [
        (other, NORMAL), (doctor, NORMAL), (asks("BTG"), NOTHING), (asks("BTG", person=DOCTOR), RESTRICTED | {"by"}),
    ],
}  # fmt: skip


def sample(shared: Path, name: str) -> Any:
    text = (shared / SAMPLES / f"Consent-ex-{name}.json").read_text()
    resource = json.loads(text)
    for provision in (resource["provision"], *resource["provision"].get("provision", ())):
        for item in provision.get("data", ()):
            if item["reference"]["reference"].startswith("Observation/"):
                item["reference"]["reference"] = f"DocumentReference/{OBSERVED}"
    known = KNOWN | {f"DocumentReference/{OBSERVED}": {"resourceType": "DocumentReference"}}
    return read_consent(name, draft(resource, BASE, "1.2.616.1").resource, known, polish(), BASE)


def seen(requester: Requester, facts: Facts) -> set[str]:
    decision = decide(requester, facts, Act.READ, NOW)
    if isinstance(decision, Deny):
        return set()
    assert isinstance(decision, Permit)
    found = shown(decision.filter, list(PAPERS.values()))
    return {name for name, paper in PAPERS.items() if paper.entry_uuid in found}


def test_all_are_stated() -> None:
    assert STATED.keys() == EXPECTED.keys()


@pytest.mark.parametrize(("name", "number"), [(name, n) for name, rows in STATED.items() for n in range(len(rows))])
def test_what_a_sample_shows(shared: Path, name: str, number: int) -> None:
    requester, expected = STATED[name][number]
    assert seen(requester, Facts((PERSON,), consents=(sample(shared, name),))) == expected


@pytest.mark.parametrize("name", [name for name in STATED if "not-" in name or "reject" in name or "dissent" in name])
def test_what_a_sample_denies_is_denied_the_chosen_doctor(shared: Path, name: str) -> None:
    """Whatever else opens the record: without the consent, the chosen doctor is shown all of it."""
    chosen = Declaration(OTHER, "doctor", "", Period())
    denied = {
        "consent-basic-reject": {*PAPERS},
        "dissent-intermediate-break-glass": {*PAPERS},
        "consent-intermediate-not-authoredby": {"by"},
        "consent-intermediate-not-encounter": {"visit"},
        "consent-intermediate-not-timeframe": {"2022"},
        "consent-intermediate-not-data": {"observed"},
        "consent-advanced-normal-not-restricted": RESTRICTED,
    }[name]
    assert seen(other, Facts((PERSON,), declarations=(chosen,))) == {*PAPERS}
    facts = Facts((PERSON,), declarations=(chosen,), consents=(sample(shared, name),))
    assert seen(other, facts) == PAPERS.keys() - denied

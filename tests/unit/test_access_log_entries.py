"""What an audit record says to its patient, and whether a log can be whole."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from obieg.domain.access_log import expected
from obieg.domain.audit import AuditEvent, AuditObject, Outcome, StoredAudit
from obieg.domain.requester import Requester
from obieg.mapping.access_log import entry, hidden, made_by
from obieg.mapping.audit import write_audit_message

NOW = datetime(2026, 11, 22, 12, tzinfo=UTC)
DOCTOR = Requester(
    system="his", proof="saml", issuer="https://sts.example", person="1.2#7", person_name="Nowak Jan", token="_1",
    role="medical-doctor", organisation="1.3#9", purpose_of_use="TREAT", acting_for="1.2#8",
)  # fmt: skip


def row(message: str, **more: object) -> StoredAudit:
    given = {"format": "dicom", "transaction": "ITI-43", "outcome": 0, "sender": ""} | more
    return StoredAudit(
        5, NOW, None, given["format"], given["transaction"], given["outcome"], "a", "r", given["sender"], message
    )  # type: ignore[arg-type]


def own(detail: str, proof: Requester | None = DOCTOR) -> StoredAudit:
    objects = (AuditObject("patient", "a^^^&1.9&ISO"), AuditObject("document", "1.5"), AuditObject("document", "1.6"))
    event = AuditEvent(
        "ITI-43",
        "export",
        Outcome.SUCCESS,
        detail,
        source_user="http://his",
        requester="1.2#7",
        objects=objects,
        proof=proof,
    )
    return row(write_audit_message(event, recorded_at=NOW, source_id="wezel", transaction_name="Retrieve"))


@pytest.mark.parametrize(
    ("detail", "bases"),
    [
        ("access: author,poz; until=2027-01-01T00:00:00Z", ("author", "poz")),
        ("x; access: same-entity; emergency", ("same-entity",)),
        ("no access: none", ()),
        ("access: emergency; until=2026-11-22T13:00:00Z; no access: none", ("emergency",)),
        (
            "access: author,poz; until=2027-01-01T00:00:00Z,emergency; until=2026-11-22T13:00:00Z; x",
            ("author", "poz", "emergency"),
        ),
        ("access: poz; until=-", ()),
        ("", ()),
    ],
)
def test_why(detail: str, bases: tuple[str, ...]) -> None:
    found = entry(own(detail))
    assert (found.bases, found.emergency) == (bases, "emergency" in bases)
    assert (found.person, found.name, found.role, found.organisation, found.acting_for, found.purpose) == (
        "1.2#7", "Nowak Jan", "medical-doctor", "1.3#9", "1.2#8", "TREAT",
    )  # fmt: skip
    assert (found.what, found.recorded_by, found.documents) == ("Retrieve", "wezel", ("1.5", "1.6"))


def test_a_system_is_named_as_one() -> None:
    found = entry(own("", Requester(system="http://his", proof="certificate")))
    assert (found.person, found.name) == ("1.2#7", "")  # who is told to have asked, without a name
    assert found.system == "http://his"


def test_what_cannot_be_read_is_there() -> None:
    found = entry(row("<x/>", format="dicom", transaction="ITI-20", outcome=8, sender="klinika"))
    assert (found.id, found.outcome, found.recorded_by, found.what) == ("5", "8", "klinika", "")


def test_a_name_is_withheld_also_of_whom_one_acts_for() -> None:
    found = entry(own("access: poz"))
    for person in ("1.2#7", "1.2#8"):
        without = hidden(found, {person})
        assert (without.person, without.name, without.acting_for, without.withheld) == ("", "", "", True)
        assert without.organisation == "1.3#9"
    assert hidden(found, {"1.2#9", ""}) == found


def test_what_must_have_come() -> None:
    names = {"1.1": ["klinika", "10.0.0.1"], "1.2": ["szpital"]}
    found = expected(
        {"1.0": 5, "1.1": 3, "1.2": 2, "1.3": 1}, {"10.0.0.1": 1, "klinika": 2, "szpital": 1}, names, "1.0"
    )
    assert [(s.repository, s.node, s.complete) for s in found] == [
        ("1.0", "", True), ("1.1", "klinika", True), ("1.2", "szpital", False), ("1.3", "", False),
    ]  # fmt: skip


def test_who_did_it_shows_without_reading_all() -> None:
    """Of others' records it does not: they are read."""
    mine = own("")
    assert made_by(mine, "1.2#7")
    assert not made_by(mine, "1.2#70")
    assert not made_by(mine, "1.2#8")
    assert not made_by(row(mine.message, sender="1.2.3.4"), "1.2#7")
    assert not made_by(row(mine.message, format="fhir-json"), "1.2#7")

"""Retention at a node: what may go and what not, erasing through the node's own removals, proof, and a person's archive."""

from __future__ import annotations

import json
import os
import time
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import peer
import psycopg
import pytest
from document_pages import pdf_faults
from peer import Node, association
from test_document_pdf import unbroken, with_text, words_of

import commanding
from running import maker

pytestmark = [pytest.mark.node]


class Office:
    """Whoever keeps the documents of a node."""

    def __init__(self, node: Node, folder: Path) -> None:
        self.node = node
        self.folder = folder

    def run(self, *arguments: object, code: int = 0) -> str:
        words = (*arguments, "--settings", self.node.endpoints["settings"])
        done = commanding.obieg(*words, environment=os.environ | {"COLUMNS": "160"})
        assert done.returncode == code, done.stdout + done.stderr
        return done.stdout + done.stderr

    def json(self, *arguments: object) -> Any:
        return json.loads(self.run(*arguments, "--json"))

    def preview(self, name: str) -> tuple[Path, dict[str, dict[str, Any]]]:
        """The list that erase takes, and its lines by uniqueId."""
        file = self.folder / name
        self.run("retention", "preview", "--out", file)
        lines = [json.loads(line) for line in file.read_text().splitlines()]
        return file, {line["unique_id"]: line for line in lines[1:]}

    def left(self, patient: str) -> list[int]:
        """How many rows there are about a patient, by table."""
        key = "(SELECT patient_key FROM patient WHERE affinity_domain_id = %s)"
        tables = ("document_entry", "submission_set", "folder", "association")
        found = [
            self.node.rows(f"SELECT count(*) FROM {t} WHERE patient_key = {key}", patient.partition("^")[0])[0][0]
            for t in tables
        ]
        stored = "SELECT count(*) FROM stored_document WHERE patient_id = %s"
        return [*found, self.node.rows(stored, patient)[0][0]]


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory, _validate: None) -> Iterator[Node]:
    """Outside the laboratory, with the Polish affinity domain: the classes of the law go by its codes."""
    oids = [peer.oid() for _ in range(3)]
    identity = dict(zip(("home_community_id", "repository_unique_id", "assigning_authority"), oids, strict=True))
    bound = {"name": "szpital", "address": "127.0.0.1", "repository_unique_id": oids[1]}
    with maker(tmp_path_factory, None) as make:
        yield make("retention", lab=False, identity=identity, nodes=[bound], access={"enforced": False})


@pytest.fixture
def office(plain: Node, tmp_path: Path) -> Office:
    return Office(plain, tmp_path)


def old(node: Node, patient: str, **more: Any) -> peer.Entry:
    return node.entry(patient, creation_time="20000102030405", **more)


def test_what_may_go_is_shown_handed_over_and_erased(office: Office) -> None:
    node = office.node
    patient, young = node.patient(), node.patient()
    first, second, later = (old(node, patient, content=f"treść {n}".encode()) for n in range(3))
    folder = node.folder(patient)
    member = association("HasMember", folder.id, first.id)
    node.provided(node.submission(patient, first, second, folders=[folder], associations=[member]))
    node.provided(node.submission(patient, later, associations=[association("APND", later.id, first.id)]))
    fresh = node.entry(young)
    node.provided(node.submission(young, fresh))
    ids = {e.unique_id for e in (first, second, later)}

    handed = office.folder / "oddane"
    office.run("retention", "preview", "--hand-over", handed)
    with zipfile.ZipFile(handed / f"{patient.partition('^')[0]}.zip") as archive:
        listed = [json.loads(line) for line in archive.read("documents/contents.ndjson").splitlines()]
        assert {one["unique_id"]: archive.read(one["file"]) for one in listed} == {
            e.unique_id: e.content for e in (first, second, later)
        }
    assert not (handed / f"{young.partition('^')[0]}.zip").exists()

    file, may_go = office.preview("a.ndjson")
    assert ids <= set(may_go)
    assert fresh.unique_id not in may_go
    assert {(may_go[i]["class_"], may_go[i]["until"]) for i in ids} == {("general", "2020-12-31")}
    assert "last entry in 2000" in may_go[first.unique_id]["why"]
    assert office.left(patient)[0] == 3  # nothing is changed by a preview

    since = node.last_audit()
    office.run("retention", "erase", file)
    assert office.left(patient) == [0, 0, 0, 0, 0]
    assert office.left(young) == [1, 1, 0, 1, 1]
    assert {("ITI-86", 0), ("ITI-62", 0)} <= {(t, o) for _, t, o, _ in node.audits(since)}
    done = {row["unique_id"]: row for row in office.json("retention", "erased")}
    assert ids <= set(done)
    # The history says that they were, and nothing of what they said.
    kept = node.rows(
        "SELECT act, before, after FROM registry_change WHERE unique_id IN (%s, %s)", first.unique_id, second.unique_id
    )
    assert kept == [("removed", None, None)] * 2
    told = json.loads(office.run("documents", "history", first.unique_id, "--json"))
    assert {event["act"] for event in told} == {"removed", "document removed"}
    assert all(event["before"] is None and event["after"] is None for event in told)
    again = {r["unique_id"]: r for r in office.json("retention", "erase", file)}
    assert not again[first.unique_id]["done"]
    assert again[first.unique_id]["why"] == "it is not registered any more"


def test_a_hold_keeps_what_a_preview_has_listed(office: Office) -> None:
    node = office.node
    patient = node.patient()
    entry, other = old(node, patient), old(node, patient)
    node.provided(node.submission(patient, entry, other))
    file, may_go = office.preview("a.ndjson")
    assert {entry.unique_id, other.unique_id} <= set(may_go)
    office.run("retention", "mark", "hold", "--document", entry.unique_id, "--reason", "sprawa IC 12/26")
    [mark] = [m for m in office.json("retention", "marks", "--patient", patient) if m["document"] == entry.unique_id]
    assert (mark["mark"], mark["reason"], mark["ended_at"]) == ("hold", "sprawa IC 12/26", None)
    assert entry.unique_id not in office.preview("b.ndjson")[1]
    found = {r["unique_id"]: r for r in office.json("retention", "erase", file)}
    assert found[other.unique_id]["done"]
    assert not found[entry.unique_id]["done"]
    assert "held: sprawa IC 12/26" in found[entry.unique_id]["why"]
    assert office.left(patient) == [1, 1, 0, 1, 1]
    assert node.retrieve(entry.unique_id).documents == {entry.unique_id: entry.content}
    office.run("retention", "unmark", mark["number"])
    office.run("retention", "unmark", mark["number"], code=1)
    assert all(r["done"] for r in office.json("retention", "erase", file) if r["unique_id"] == entry.unique_id)
    assert office.left(patient) == [0, 0, 0, 0, 0]


def test_marks_say_what_they_may_be_said_of(office: Office) -> None:
    for wrong in (
        ("injury", "--document", "1.2"),
        ("blood", "--patient", "1"),
        ("served", "--document", "1.2"),
        ("hold", "--document", "1.2", "--day", "2020-01-01"),
        ("served", "--document", "1.2", "--day", "2999-01-01"),
        ("nothing", "--document", "1.2"),
        ("hold",),
    ):
        office.run("retention", "mark", *wrong, "--reason", "sprawa", code=2)
    office.run("retention", "mark", "hold", "--document", "1.2", "--reason", "-----", code=2)
    office.run("retention", "mark", "hold", "--document", "1.2", "--reason", "sprawa", code=1)
    assert office.json("retention", "marks") is not None


def test_orders_go_by_what_became_of_them(office: Office) -> None:
    """Five years after the service, two after an order that was not served: with the codes of the Polish domain."""
    node = office.node
    patient, referral = node.patient(), ("02.10", "Klasyfikacja dokumentów P1")
    named = {"class_code": referral, "creation_time": "20150310120000"}
    served, unserved = node.entry(patient, **named), node.entry(patient, **named)
    by_type = node.entry(patient, type_code=("57133-1", "LOINC"), creation_time="20150310120000")
    note = node.entry(patient, creation_time="20150310120000")
    node.provided(node.submission(patient, served, unserved, by_type, note))
    mark = ("retention", "mark", "--reason", "gabinet")
    office.run(*mark, "served", "--document", served.unique_id, "--day", "2016-05-01")
    for entry in (unserved, by_type):
        office.run(*mark, "unserved", "--document", entry.unique_id)
    may_go = office.preview("a.ndjson")[1]
    assert {
        n: (may_go[e.unique_id]["class_"], may_go[e.unique_id]["until"])
        for n, e in enumerate((served, unserved, by_type))
    } == {
        0: ("order_served", "2021-12-31"),
        1: ("order_unserved", "2017-12-31"),
        2: ("order_unserved", "2017-12-31"),
    }
    assert note.unique_id not in may_go
    # What is no order can be neither served nor not, and is no image.
    for wrong in (("served", "--day", "2016-05-01"), ("unserved",), ("image",)):
        told = office.run(*mark, *wrong, "--document", note.unique_id, code=1)
        assert f"{note.unique_id} is no {'image' if wrong[0] == 'image' else 'order'}" in told
    assert [m for m in office.json("retention", "marks") if m["document"] == note.unique_id] == []


def test_what_is_erased_lets_nothing_else_go_earlier(office: Office) -> None:
    """A shorter class goes first; the last entry of the patient stays where it was for the rest."""
    node = office.node
    patient = node.patient()
    first = old(node, patient)
    referral = ("02.10", "Klasyfikacja dokumentów P1")
    order = node.entry(patient, class_code=referral, creation_time="20100310120000")
    node.provided(node.submission(patient, first, order))
    assert {first.unique_id, order.unique_id}.isdisjoint(office.preview("a.ndjson")[1])
    office.run("retention", "mark", "unserved", "--document", order.unique_id, "--reason", "nie przyszedł")
    file, may_go = office.preview("b.ndjson")
    assert (order.unique_id in may_go, first.unique_id in may_go) == (True, False)
    office.run("retention", "erase", file)
    assert office.left(patient) == [1, 1, 0, 1, 1]
    assert first.unique_id not in office.preview("c.ndjson")[1]
    answer = node.soap("remove_documents", _destroying(node, first.unique_id))
    assert "must be kept until 2030-12-31" in answer.errors[0][2]
    out = office.folder / "osoba.zip"
    office.run("patients", "everything", patient, "--out", out)
    with zipfile.ZipFile(out) as archive:
        [remaining] = [json.loads(line) for line in archive.read("json/last_entries.ndjson").splitlines()]
    assert (remaining["entity"], remaining["year"]) == ("", 2010)


def test_a_death_by_injury_keeps_for_thirty_years(office: Office) -> None:
    node = office.node
    patient = node.patient()
    entry = old(node, patient)
    node.provided(node.submission(patient, entry))
    office.run("retention", "mark", "injury", "--patient", patient, "--reason", "protokół")
    assert entry.unique_id not in office.preview("a.ndjson")[1]
    answer = node.soap("remove_documents", _destroying(node, entry.unique_id))
    assert answer.status == "Failure"
    assert "day of the death unknown" in answer.errors[0][2]


def test_a_document_administrator_may_remove_what_may_go(office: Office) -> None:
    """By ITI-86 and ITI-62, with no command of ours."""
    node = office.node
    patient = node.patient()
    entry, fresh = old(node, patient), old(node, node.patient())
    submission = node.provided(node.submission(patient, entry))
    assert node.soap("remove_documents", _destroying(node, entry.unique_id)).status == "Success"
    uuids = [u for (u,) in node.rows(
        "SELECT 'urn:uuid:' || l.entry_uuid FROM object_locator l JOIN patient p USING (patient_key)"
        " WHERE p.affinity_domain_id = %s", patient.partition("^")[0])]  # fmt: skip
    assert submission.id in uuids
    body = "".join(f'<rim:ObjectRef id="{u}"/>' for u in uuids)
    request = (
        f'<lcm:RemoveObjectsRequest xmlns:lcm="urn:oasis:names:tc:ebxml-regrep:xsd:lcm:3.0" xmlns:rim="{peer.RIM}">'
        f"<rim:ObjectRefList>{body}</rim:ObjectRefList></lcm:RemoveObjectsRequest>"
    )
    assert node.soap("remove", request).status == "Success"
    assert office.left(patient) == [0, 0, 0, 0, 0]
    assert fresh


def _destroying(node: Node, unique_id: str) -> str:
    return (
        f'<rmd:RemoveDocumentsRequest xmlns:rmd="urn:ihe:iti:rmd:2017" xmlns:x="{peer.XDSB}"><x:DocumentRequest>'
        f"<x:RepositoryUniqueId>{node.repository}</x:RepositoryUniqueId>"
        f"<x:DocumentUniqueId>{unique_id}</x:DocumentUniqueId></x:DocumentRequest></rmd:RemoveDocumentsRequest>"
    )


def test_erasure_is_proven_when_no_backup_holds_the_key(office: Office) -> None:
    node = office.node
    patient = node.patient()
    entry = old(node, patient)
    node.provided(node.submission(patient, entry))
    key = office.folder / "backup.key"
    for name in ("one", "two"):
        office.run("backup", office.folder / name, "--key", key)
    stamps = [b["stamp"] for b in office.json("retention", "backups") if not b["ended_at"]]
    assert len(stamps) == 2
    office.run("retention", "erase", office.preview("a.ndjson")[0])
    # What a backup that began too shortly after the erasure holds is not known; time passes.
    with psycopg.connect(node.dsn) as connection:
        connection.execute("UPDATE removed_document SET removed_at = removed_at - interval '1 hour'")
        connection.execute("UPDATE backup_made SET begun_at = begun_at - interval '2 hours'")

    def proof() -> tuple[bool, list[str]]:
        [row] = [r for r in office.json("retention", "erased") if r["unique_id"] == entry.unique_id]
        return row["provable"], row["held_by"]

    assert proof() == (False, stamps)
    office.run("backup", office.folder / "one", "--key", key)  # overwrites
    assert proof() == (False, stamps[1:])
    office.run("retention", "backups", "--gone", stamps[1])
    assert proof() == (True, [])
    office.run("retention", "backups", "--gone", stamps[1], code=1)


def test_the_archive_of_a_person_has_everything_and_is_recorded(office: Office) -> None:
    node = office.node
    patient, stranger = node.patient(), node.patient()
    cda = with_text("Zalecenia: wypoczynek", title="Karta informacyjna")
    entry = node.entry(patient, content=cda, mime_type="text/xml", title="Wypis #b[x]")
    plain = node.entry(patient, content=b"moja tresc", mime_type="text/plain")
    node.provided(node.submission(patient, entry, plain))
    node.provided(node.submission(stranger, node.entry(stranger, content=b"cudza tresc")))
    assert node.retrieve(entry.unique_id).documents
    office.run("retention", "mark", "hold", "--patient", patient, "--reason", "sprawa")
    out = office.folder / "osoba.zip"
    office.run("patients", "everything", patient, "--out", out)
    with zipfile.ZipFile(out) as archive:
        assert archive.testzip() is None
        read = lambda name: [json.loads(line) for line in archive.read(name).splitlines()]  # noqa: E731
        assert [p["affinity_domain_id"] for p in read("json/patients.ndjson")] == [patient.partition("^")[0]]
        assert {d["unique_id"] for d in read("json/documents.ndjson")} == {entry.unique_id, plain.unique_id}
        contents = {c["unique_id"]: c for c in read("documents/contents.ndjson")}
        assert archive.read(contents[entry.unique_id]["file"]) == cda
        assert archive.read(contents[plain.unique_id]["file"]) == b"moja tresc"
        assert "pdf" not in contents[plain.unique_id]
        assert [r["reason"] for r in read("json/retention.ndjson")] == ["sprawa"]
        assert {"ITI-41", "ITI-43"} <= {a["transaction"] for a in read("json/accesses.ndjson")}
        assert [r["resourceType"] for r in read("fhir/Patient.ndjson")] == ["Patient"]
        references = {r["masterIdentifier"]["value"] for r in read("fhir/DocumentReference.ndjson")}
        assert references == {f"urn:oid:{e.unique_id}" for e in (entry, plain)}
        assert {r["resourceType"] for r in read("fhir/AuditEvent.ndjson")} == {"AuditEvent"}
        said = words_of(archive.read("osoba.pdf"))
        for text in ("Wypis #b[x]", "Co zawiera archiwum", "Kto miał dostęp do danych", "Otwarto dokument", "sprawa"):
            assert unbroken(text) in said
        readable = archive.read(contents[entry.unique_id]["pdf"])
        assert "Zalecenia:wypoczynek" in words_of(readable)
        made = [out.with_name(name) for name in ("osoba.pdf", "dokument.pdf")]
        for path, content in zip(made, (archive.read("osoba.pdf"), readable), strict=True):
            path.write_bytes(content)
        assert pdf_faults(made) == []
        whole = b"".join(archive.read(n) for n in archive.namelist())
        assert stranger.partition("^")[0].encode() not in whole
    assert out.stat().st_mode & 0o777 == 0o600
    log = office.json("patients", "accesses", patient)
    assert log[-1]["transaction"] == "operator"
    office.run("patients", "everything", patient, "--out", out, code=1)


def test_names_that_the_officer_withholds_are_not_in_the_archive(office: Office) -> None:
    """Wherever a record has name or number: every file but the documents themselves."""
    node = office.node
    patient = node.patient()
    number, other = "1.2.616.1.77#7654321", "1.2.616.1.77#17654321"
    entry = node.entry(patient, authors=["7654321^Nowak^Jan^^^^^^&1.2.616.1.77&ISO"])
    node.provided(node.submission(patient, entry))
    [(key,)] = node.rows("SELECT patient_key FROM patient WHERE affinity_domain_id = %s", patient.partition("^")[0])
    told = {"person": number, "name": "Nowak Jan", "organisation": "1.3#9"}
    opened = {"professional": number, "organisation": "1.3#9", "period": {}}
    identified = {
        "identifier": [{"system": "urn:oid:1.2.616.1.77", "value": "7654321"}],
        "name": [{"text": "Nowak Jan"}],
    }
    actor = {"reference": {"identifier": identified["identifier"][0], "display": "Nowak Jan"}}
    consent = {"resourceType": "Consent", "contained": [{"resourceType": "Practitioner", **identified}],
               "provision": {"type": "deny", "actor": [actor]}}  # fmt: skip
    fact = ("INSERT INTO access_fact (patient_key, source, version, kind, facts, resource, recorded_at, recorded_by)"
            " VALUES (%s, %s, 1, %s, %s, %s, now(), %s) RETURNING 1")  # fmt: skip
    node.rows(fact, key, f"Emergency/{patient}", "emergency", json.dumps([opened]), None, number)
    said = json.dumps([{"id": "c", "provisions": [{"permit": False, "actors": [number, other]}]}])
    node.rows(fact, key, f"Consent/{patient}", "consent", said, json.dumps(consent), number)
    notice = "INSERT INTO access_notice (patient_key, kind, key, said) VALUES (%s, 'access', %s, %s) RETURNING 1"
    node.rows(notice, key, f"access:{number}:1.3#9", json.dumps(told))
    awaited = ("INSERT INTO awaited_document (awaited_id, patient_key, person, organisation, kind, types, until)"
               " VALUES (gen_random_uuid(), %s, %s, '1.3#9', '', '{}', now()) RETURNING 1")  # fmt: skip
    node.rows(awaited, key, number)
    out = office.folder / "osoba.zip"

    def files() -> dict[str, str]:
        out.unlink(missing_ok=True)
        office.run("patients", "everything", patient, "--out", out)
        with zipfile.ZipFile(out) as archive:
            read = {n: archive.read(n) for n in archive.namelist() if not n.startswith("documents/")}
        return {n: words_of(c) if n.endswith(".pdf") else c.decode() for n, c in read.items()}

    def naming(found: dict[str, str]) -> set[str]:
        words = ("Nowak Jan", "NowakJan", "^Nowak^", '"Nowak"', "#7654321", '"7654321', ">7654321<")
        return {name for name, text in found.items() if any(word in text for word in words)}

    everywhere = {"osoba.pdf", *(f"json/{n}.ndjson" for n in ("facts", "notices", "documents", "awaited")),
                  "fhir/Consent.ndjson", "fhir/DocumentReference.ndjson"}  # fmt: skip
    assert everywhere <= naming(files())
    office.run("access", "withhold", number, "--reason", "groźby", "--until", "2999-01-01", "--patient", patient)
    found = files()
    assert naming(found) == set()
    assert "1.3#9" in found["json/notices.ndjson"]
    assert other in found["json/facts.ndjson"]
    assert "nazwiskaniepodajesię" in found["osoba.pdf"]
    assert entry.unique_id in found["json/documents.ndjson"]


@pytest.mark.slow
def test_a_person_with_a_thousand_documents(office: Office) -> None:
    node = office.node
    patient = node.patient()
    sent = {}
    for _ in range(20):
        entries = [node.entry(patient, content=os.urandom(20_000)) for _ in range(50)]
        node.provided(node.submission(patient, *entries))
        sent |= {e.unique_id: e.content for e in entries}
    out = office.folder / "osoba.zip"
    begun = time.monotonic()
    office.run("patients", "everything", patient, "--out", out)
    assert time.monotonic() - begun < 30  # 10 s by themselves; the machine has other work during tests
    with zipfile.ZipFile(out) as archive:
        listed = [json.loads(line) for line in archive.read("documents/contents.ndjson").splitlines()]
        assert {one["unique_id"]: archive.read(one["file"]) for one in listed} == sent
        for name in ("json/documents.ndjson", "fhir/DocumentReference.ndjson"):
            assert len(archive.read(name).splitlines()) == len(sent)


def test_a_preview_of_one_facility_and_class(office: Office) -> None:
    node = office.node
    patient = node.patient()
    node.provided(node.submission(patient, old(node, patient), node.entry(patient)))
    [row] = [r for r in office.json("retention", "preview", "--facility", "unknown", "--class", "general")
             if r["state"] == "kept"]  # fmt: skip
    # A document of no entity may be an entry in anybody's documentation: the old one is kept as well.
    assert row["documents"] >= 2
    assert office.json("retention", "preview", "--facility", "1.2.3#4") == []
    office.run("retention", "preview", "--class", "none", code=2)
    taken = office.folder / "taken"
    taken.write_text("{}\n")
    office.run("retention", "preview", "--out", taken, code=1)
    assert "is no preview" in office.run("retention", "erase", taken, code=1)

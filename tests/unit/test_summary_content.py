"""The actor that makes summaries, over stores that hold what a test gives them: keys, limits, what cannot be read."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, cast

import pytest

from obieg.actors.patient_summary import PatientSummary, SummaryContent
from obieg.domain.content import MemoryContent
from obieg.domain.document_store import DocumentMissingError
from obieg.domain.documents import Author, Code, DocumentEntry
from obieg.domain.identifiers import PatientId
from obieg.domain.patients import Candidate
from obieg.domain.persons import Demographics, PersonName
from obieg.domain.queries import StoredQuery
from obieg.domain.registry import FoundDocument, FoundObject, LocatedDocument
from obieg.domain.requester import Requester
from obieg.domain.sight import EVERYTHING, Sight
from obieg.mapping.ebrim import IdSource, render_entry
from obieg.protocol import Content, Context
from obieg.transactions import TRANSACTIONS
from summaries import cda, check_document, composition, diagnosis, of_type, section, xhtml

PERSON = PatientId("PACJENT17", "1.2.616.1")
OWN, THERE = "1.2.616.7", "1.2.616.9"
ITI_43 = next(t for t in TRANSACTIONS if t.id == "ITI-43")
EARLY, LATE = datetime(2024, 1, 1, tzinfo=UTC), datetime(2024, 6, 1, tzinfo=UTC)


def document(number: int, **more: Any) -> DocumentEntry:
    values: dict[str, Any] = {
        "unique_id": f"1.2.3.{number}", "repository_unique_id": OWN, "mime_type": "text/xml", "hash": f"{number:040x}",
        "creation_time": f"202401{number + 1:02}", "patient_id": str(PERSON), "title": (("pl-PL", f"Karta {number}"),),
        "author": (Author(person=("^Nowak^Anna^^^dr",)),), "language_code": "pl-PL", "size": "10",
        "type_code": Code("00.20", "1.2.4", (("pl-PL", "Karta"),)),
    }  # fmt: skip
    return DocumentEntry(entry_uuid=f"urn:uuid:0f0e0d0c-0000-4000-8000-{number:012}", **(values | more))


@dataclass
class Region:
    """An index, a registry and a repository in one."""

    entries: list[DocumentEntry] = field(default_factory=list)
    contents: dict[str, bytes] = field(default_factory=dict)
    name: str = "Żurawska"
    repository_unique_id: str = OWN
    assigning_authority: str = PERSON.authority
    opened: list[str] = field(default_factory=list)
    given: dict[str, bytes] = field(default_factory=dict)  # by other repositories

    def add(self, number: int, content: bytes, **more: Any) -> None:
        entry = document(number, **more)
        self.entries.insert(0, entry)
        self.contents[entry.unique_id or ""] = content

    async def described(self, patient: PatientId) -> Candidate | None:
        if patient != PERSON:
            return None
        return Candidate(PERSON, (PERSON,), Demographics(names=(PersonName(family=self.name, given=("Ewa",)),)))

    async def newest(self, query: StoredQuery, count: int, sight: Sight) -> tuple[list[FoundObject], bool]:
        assert sight == EVERYTHING
        assert query.parameters["value"] == PERSON.value
        assert query.parameters["status"] == ["A"]
        found = [
            FoundObject(
                "D", e.entry_uuid[9:], render_entry(e, IdSource(e.entry_uuid[9:])), "A", e.version, PERSON.value
            )
            for e in self.entries[:count]
        ]
        return found, len(self.entries) > count

    async def held(self, unique_ids: Sequence[str], sight: Sight) -> Mapping[str, FoundDocument]:
        assert sight == EVERYTHING
        return {
            u: FoundDocument(u, False, PERSON.value, "text/xml", len(self.contents[u]), "", u, b"")
            for u in unique_ids
            if u in self.contents
        }

    def reaches(self, repository_unique_id: str) -> bool:
        return repository_unique_id == THERE

    async def fetch_some(
        self, founds: Sequence[LocatedDocument], context: Context, within_s: float
    ) -> Mapping[str, Content]:
        assert within_s > 0
        given = [f.unique_id for f in founds if f.unique_id in self.given]
        return {u: MemoryContent(self.given[u], "text/xml") for u in given}

    async def read(self, row: FoundDocument | Content) -> bytes:
        if not isinstance(row, FoundDocument):
            return b"".join([piece async for piece in row.chunks()])
        self.opened.append(row.unique_id)
        if self.contents[row.unique_id] == b"lost":
            raise DocumentMissingError(f"nothing stands at {row.location}")
        return self.contents[row.unique_id]


def summaries_of(region: Region, **limits: int) -> PatientSummary:
    every = cast("Any", region)
    return PatientSummary(every, every, every, every, **limits)


def asked_at(moment: datetime) -> Context:
    return Context(ITI_43, Requester("his"), "r", moment)


async def content(region: Region, made_at: datetime = EARLY, **limits: int) -> tuple[SummaryContent, Any]:
    made = await summaries_of(region, **limits).content(PERSON, asked_at(made_at), base="https://node/fhir")
    assert made is not None
    bundle = json.loads(made.data)
    check_document(bundle)
    return made, bundle


def said(bundle: Any) -> str:
    return "".join(xhtml(composition(bundle)["section"][-1]).itertext())


async def test_the_key_stays_as_long_as_the_data_do() -> None:
    region = Region()
    region.add(1, cda(section("x", diagnosis("I10", "N"), code="29548-5")))
    (first, bundle), (again, later) = await content(region, EARLY), await content(region, LATE)
    assert first.key == again.key == await summaries_of(region).key(PERSON)
    assert first.content_type == "application/fhir+json"
    assert bundle["timestamp"] != later["timestamp"]
    assert [e["fullUrl"] for e in bundle["entry"]] == [e["fullUrl"] for e in later["entry"]]
    assert first.data == (await content(region, EARLY))[0].data
    keys = {first.key}
    region.add(2, cda(section("y")))
    keys.add((await content(region))[0].key)
    region.name = "Nowak"
    keys.add((await content(region))[0].key)
    region.entries[0] = document(2, hash="f" * 40)
    keys.add((await content(region))[0].key)
    region.entries.pop()
    keys.add((await content(region))[0].key)
    assert len(keys) == 5


SNAPSHOTS = [
    {"type_code": Code("60591-5", "2.16.840.1.113883.6.1", (("pl-PL", "Streszczenie"),))},
    {"format_code": Code("http://hl7.org/fhir/uv/ips/StructureDefinition/Bundle-uv-ips", "1.2.5", (("pl-PL", "IPS"),))},
]


@pytest.mark.parametrize("coded", SNAPSHOTS, ids=["type", "format"])
async def test_a_snapshot_of_a_summary_changes_nothing(coded: dict[str, Code]) -> None:
    region = Region()
    region.add(1, cda(section("x", diagnosis("I10", "N"), code="29548-5")))
    first, _ = await content(region)
    region.add(2, first.data, mime_type="application/fhir+json", **coded)
    again, bundle = await content(region)
    assert again.key == first.key
    assert len(of_type(bundle, "DocumentReference")) == 1


async def test_nobody_has_no_summary() -> None:
    nobody = PatientId("NIKT", PERSON.authority)
    assert await summaries_of(Region()).content(nobody, asked_at(EARLY)) is None
    assert await summaries_of(Region()).key(nobody) == ""


async def test_what_was_read_is_told_for_the_audit() -> None:
    region = Region()
    region.add(1, cda())
    region.add(2, b"nothing")
    made, _ = await content(region)
    assert [(o.kind, o.identifier) for o in made.objects] == [("patient", str(PERSON)), ("document", "1.2.3.1")]


async def test_what_cannot_be_opened_is_named_and_the_rest_is_read() -> None:
    region = Region()
    region.add(1, cda(section("x", diagnosis("I10", "N"), code="29548-5")))
    region.add(2, b"lost")
    region.add(3, b"")
    region.add(4, cda(), repository_unique_id="1.2.616.8")
    region.add(5, cda(), mime_type="application/pdf")
    region.add(6, cda())
    del region.contents["1.2.3.6"]
    _, bundle = await content(region)
    assert [c["code"]["coding"][0]["code"] for c in of_type(bundle, "Condition")] == ["I10"]
    assert sorted(region.opened) == ["1.2.3.1", "1.2.3.2", "1.2.3.3"]
    told = said(bundle)
    for unique_id, why in (
        ("1.2.3.2", "nothing stands at"),
        ("1.2.3.3", "not well-formed"),
        ("1.2.3.4", "w innym repozytorium (1.2.616.8)"),
        ("1.2.3.5", "application/pdf"),
        ("1.2.3.6", "repozytorium nie ma"),
    ):
        assert why in told.partition(f"id {unique_id}")[2][:120]


async def test_what_facilities_give_is_read_and_what_they_do_not_give_makes_another_summary() -> None:
    region = Region()
    region.add(1, cda(section("x", diagnosis("I10", "N"), code="29548-5")))
    far = cda(section("y", diagnosis("E11", "N"), code="29548-5"))
    region.entries.insert(0, document(2, repository_unique_id=THERE, size=str(len(far))))
    lacking, bundle = await content(region)
    assert [c["code"]["coding"][0]["code"] for c in of_type(bundle, "Condition")] == ["I10"]
    assert f"w innym repozytorium ({THERE}), które teraz go nie wydało" in said(bundle)
    region.given["1.2.3.2"] = far
    whole, bundle = await content(region)
    assert {c["code"]["coding"][0]["code"] for c in of_type(bundle, "Condition")} == {"I10", "E11"}
    assert ("document", "1.2.3.2") in {(o.kind, o.identifier) for o in whole.objects}
    assert whole.key != lacking.key, "what is kept of a summary is not given for one that has more"
    assert whole.key == await summaries_of(region).key(PERSON)
    _, bundle = await content(region, bytes_max=1)
    assert [c["code"]["coding"][0]["code"] for c in of_type(bundle, "Condition")] == ["no-problem-info"]


async def test_limits_are_kept_and_told() -> None:
    region = Region()
    for number in range(1, 6):
        region.add(number, cda(section("x" * 1000, diagnosis(f"I1{number}", "N"), code="29548-5")))
    size = len(region.contents["1.2.3.1"])
    _, bundle = await content(region, documents_max=3)
    assert region.opened == ["1.2.3.5", "1.2.3.4", "1.2.3.3"]
    assert "uwzględniono 3 najnowszych" in said(bundle)
    region.opened.clear()
    _, bundle = await content(region, bytes_max=2 * size)
    assert region.opened == ["1.2.3.5", "1.2.3.4"]
    assert said(bundle).count("razem większe") == 3


async def test_a_file_within_a_document_is_named() -> None:
    region = Region()
    file = (
        '<section><templateId root="2.16.840.1.113883.3.4424.13.10.3.55"/><entry><observationMedia classCode="OBS" '
        'moodCode="EVN"><value mediaType="image/png" representation="B64">iVBORw0KGgo=</value></observationMedia></entry></section>'
    )
    region.add(1, cda(file))
    _, bundle = await content(region)
    assert "zawiera plik (image/png)" in said(bundle)
    assert len(of_type(bundle, "DocumentReference")) == 1


@pytest.mark.parametrize("title", ["</a><script>alert(1)</script>", 'a" onclick="x', "&amp;"])
async def test_metadata_in_the_narrative_is_text(title: str) -> None:
    region = Region()
    region.add(1, cda(section("x", title="t")), title=(("pl-PL", title),))
    _, bundle = await content(region)
    assert title in said(bundle)

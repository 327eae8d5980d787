"""Metadata through ebRIM and through storage and back: nothing is lost, nothing is added."""

from __future__ import annotations

import asyncio
import itertools
import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import Any

import metadata_strategies as some
import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from lxml import etree

from obieg.actors.document_registry import DocumentRegistry
from obieg.actors.patient_index import PatientIndex
from obieg.domain.authorities import Authorities
from obieg.domain.documents import (
    Association,
    AssociationType,
    AvailabilityStatus,
    DocumentEntry,
    Folder,
    Submission,
    SubmissionSet,
)
from obieg.domain.identifiers import PatientId
from obieg.domain.linkage import LinkageMatcher
from obieg.domain.notices import Subscribers
from obieg.domain.patients import FeedEvent, PatientFeed
from obieg.domain.problems import Finding
from obieg.domain.queries import StoredQuery
from obieg.domain.requester import Requester
from obieg.mapping import ebrim, ebrs
from obieg.mapping.ebrim import IdSource
from obieg.protocol import Context
from obieg.storage.audit_store import AuditStore
from obieg.storage.link import Database
from obieg.storage.outbox_store import PostgresOutbox
from obieg.storage.patient_store import PostgresPatientStore
from obieg.storage.registry_store import RegistryDatabase
from obieg.transactions import TRANSACTIONS
from obieg.wire.xml import parse_message

AUTHORITY = "1.2.616.1"
HOME = "urn:oid:1.2.616.2"
UUID = "00000000-1111-4222-8333-444444444444"


def written(submission: Submission) -> bytes:
    return ebrs.write_submit_objects(submission, IdSource(UUID))


def read(data: bytes) -> Submission:
    findings: list[Finding] = []
    found = ebrs.read_submit_objects(parse_message(data), findings)
    assert findings == []
    assert found is not None
    return found


submissions = st.builds(
    Submission,
    submission_set=some.submission_sets,
    entries=st.lists(some.entries, max_size=2).map(tuple),
    folders=st.lists(some.folders, max_size=1).map(tuple),
    associations=st.lists(some.associations, max_size=2).map(tuple),
)


@settings(deadline=None, max_examples=80, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])
@given(submissions)
def test_metadata_through_ebrim(submission: Submission) -> None:
    data = written(submission)
    found = read(data)
    assert found == submission
    assert written(found) == data


@settings(deadline=None, max_examples=50, suppress_health_check=[HealthCheck.too_slow])
@given(submissions, st.sampled_from(["A", "D"]))
def test_renderings_are_read_again(submission: Submission, status: str) -> None:
    """As a new version of an object is made of the stored one; only what changes after registration is not in it."""
    kept = read(written(submission))
    renderings = [
        *(("D", e, ebrim.render_entry(e, IdSource(_urn()[9:]))) for e in kept.entries),
        *(("F", f, ebrim.render_folder(f, IdSource(_urn()[9:]))) for f in kept.folders),
        *(("A", a, ebrim.render_association(a, IdSource(_urn()[9:]))) for a in kept.associations),
        ("S", kept.submission_set, ebrim.render_submission_set(kept.submission_set, IdSource(_urn()[9:]))),
    ]
    for kind, value, rendering in renderings:
        changes: dict[str, Any] = {"availability_status": {"A": "Approved", "D": "Deprecated"}[status]}
        changes |= {f: None for f in ("patient_id", "last_update_time", "home_community_id") if hasattr(value, f)}
        if kind in "DF":
            changes |= {"version": 7, "logical_id": value.logical_id or value.entry_uuid}
        assert ebrim.read_rendering(kind, rendering, status, 7) == msgspec.structs.replace(value, **changes)


@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(some.entries, some.codes, some.texts)
def test_no_value_contains_the_mark(entry: DocumentEntry, code: Any, text: str) -> None:
    """Renderings are cut at NUL: there are exactly as many as there are volatile values."""
    assert ebrim.render_entry(entry, IdSource(UUID)).count(b"\0") == 4
    smuggling = msgspec.structs.replace(entry, title=(("", text + "\0" + text),), mime_type="a\0b")
    assert ebrim.render_entry(smuggling, IdSource(UUID)).count(b"\0") == 4


@settings(deadline=None, max_examples=100)
@given(st.lists(st.builds(Finding, st.just("XDSRegistryError"), some.texts, some.texts, st.booleans(), st.just(""))))
def test_findings_through_a_response(findings: list[Finding]) -> None:
    answer = parse_message(ebrs.registry_response(findings))
    status, found = ebrs.read_registry_response(answer)
    assert found == tuple(findings)
    assert status == ("Success" if all(f.warning for f in findings) else "Failure")


# reading what is wrong -------------------------------------------------------------------------------------------

HEAD = f'<lcm:SubmitObjectsRequest xmlns:lcm="{ebrs.LCM}" xmlns="{ebrim.RIM}"><RegistryObjectList>'
TAIL = "</RegistryObjectList></lcm:SubmitObjectsRequest>"
SET = (
    '<RegistryPackage id="s"><Classification classifiedObject="s" id="c" '
    'classificationNode="urn:uuid:a54d6aa5-d40d-43f9-88c5-b4633d873bdd"/></RegistryPackage>'
)
STABLE = "urn:uuid:7edca82f-054d-47f2-a032-9b2a5b5186c1"


@pytest.mark.parametrize(
    ("xml", "location"),
    [
        ("", "RegistryObjectList"),
        (SET + SET, "RegistryObjectList"),
        (SET + "<Service/>", "RegistryObjectList"),
        (SET + '<RegistryPackage id="p"/>', "RegistryPackage p"),
        (SET + '<ExtrinsicObject id="d" objectType="urn:x"/>', "DocumentEntry d"),
        (
            SET + f'<ExtrinsicObject id="d" objectType="{STABLE}"><Slot name="hash"/><Slot name="hash"/>'
            "</ExtrinsicObject>",
            "DocumentEntry d",
        ),
        (
            SET + f'<ExtrinsicObject id="d" objectType="{STABLE}"><Slot name="size"><ValueList><Value>1</Value>'
            "<Value>2</Value></ValueList></Slot></ExtrinsicObject>",
            "DocumentEntry d",
        ),
        (
            SET + f'<ExtrinsicObject id="d" objectType="{STABLE}"><Slot name="mine"><ValueList><Value>1</Value>'
            "</ValueList></Slot></ExtrinsicObject>",
            "DocumentEntry d",
        ),
        (
            SET + f'<ExtrinsicObject id="d" objectType="{STABLE}"><Classification classifiedObject="e" '
            'classificationScheme="urn:x"/></ExtrinsicObject>',
            "DocumentEntry d",
        ),
        (
            SET + f'<ExtrinsicObject id="d" objectType="{STABLE}"><Classification classifiedObject="d" '
            'classificationScheme="urn:uuid:41a5887f-8865-4c09-adf7-e362475b143a" nodeRepresentation="x"/>'
            "</ExtrinsicObject>",
            "DocumentEntry d",
        ),
        (SET + '<Association id="a" associationType="urn:x" sourceObject="s" targetObject="d"/>', "Association a"),
    ],
)
def test_what_is_wrong_is_located(xml: str, location: str) -> None:
    findings: list[Finding] = []
    ebrs.read_submit_objects(parse_message((HEAD + xml + TAIL).encode()), findings)
    assert [f.location for f in findings] == [location]
    assert {f.code for f in findings} == {"XDSRegistryMetadataError"}


def test_a_classification_may_stand_beside_its_object() -> None:
    node = '<Classification id="c" classifiedObject="s" classificationNode="urn:uuid:a54d6aa5-d40d-43f9-88c5-b4633d873bdd"/>'
    findings: list[Finding] = []
    xml = f'{HEAD}<ObjectRef id="urn:x"/><RegistryPackage id="s"/>{node}{TAIL}'
    found = ebrs.read_submit_objects(parse_message(xml.encode()), findings)
    assert found == Submission(SubmissionSet("s"))
    assert findings == []


# storage ---------------------------------------------------------------------------------------------------------


class AnyCode:
    """An affinity domain that takes everything."""

    mime_types = frozenset({"text/xml"})

    def accepts(self, attribute: str, code: str, scheme: str) -> bool:
        return True


class Region:
    def __init__(self, database: Database) -> None:
        audit = AuditStore(database, source_id="test", names={}, now=lambda: datetime.now(UTC))
        self.index = PatientIndex(
            PostgresPatientStore(
                database, audit, PostgresOutbox(database, audit), assigning_authority=AUTHORITY, tells=False
            ),
            assigning_authority=AUTHORITY,
            matcher=LinkageMatcher(),
            authorities=Authorities(),
            subscribers=Subscribers(),
        )
        self.registry = DocumentRegistry(
            RegistryDatabase(database, audit),
            codes=AnyCode(),
            assigning_authority=AUTHORITY,
            home_community_id=HOME,
            allow_limited_metadata=True,
            results_max=100,
            new_uuid=lambda: str(uuid.uuid4()),
        )

    def _context(self, transaction: str) -> Context:
        return Context(
            transaction=next(t for t in TRANSACTIONS if t.id == transaction),
            requester=Requester(system="test", repositories=None),
            request_id="1",
            received_at=datetime(2024, 1, 2, 3, 4, 5, tzinfo=UTC),
        )

    async def announce(self, patient: PatientId) -> None:
        await self.index.feed(PatientFeed(event=FeedEvent.REGISTER, identifiers=(patient,)), self._context("ITI-8"))

    async def merge(self, survivor: PatientId, old: PatientId) -> None:
        feed = PatientFeed(event=FeedEvent.MERGE, identifiers=(survivor,), merged=(old,))
        await self.index.feed(feed, self._context("ITI-8"))

    async def register(self, submission: Submission) -> None:
        await self.registry.register(submission, self._context("ITI-42"))

    async def everything(self, patient: PatientId) -> Any:
        """``rim:RegistryObjectList`` of an answer to GetAll."""
        query = StoredQuery(
            name="GetAll",
            question="get_all",
            parameters={
                "authority": patient.authority,
                "value": patient.value,
                "document_status": ["A", "D"],
                "set_status": ["A"],
                "folder_status": ["A"],
                "entry_type": ["S", "O"],
                "format_code": None,
                "confidentiality_code": None,
            },
            patient=patient,
        )
        found = await self.registry.find(query, self._context("ITI-18"))
        return parse_message(ebrs.query_response(found)).find(f"{{{ebrim.RIM}}}RegistryObjectList")


@asynccontextmanager
async def region(dsn: str) -> AsyncIterator[Region]:
    database = Database(dsn, links=1)
    await database.open()
    try:
        yield Region(database)
    finally:
        database.close()


_numbers = itertools.count(1)


def _urn() -> str:
    return f"urn:uuid:{uuid.uuid4()}"


def _identity(patient: PatientId) -> dict[str, Any]:
    entry_uuid = _urn()
    return {"entry_uuid": entry_uuid, "unique_id": f"2.25.{next(_numbers)}", "patient_id": str(patient)}


def _patient() -> PatientId:
    return PatientId(f"p{next(_numbers)}", AUTHORITY)


def _entry(patient: PatientId, fields: dict[str, Any]) -> DocumentEntry:
    identity = _identity(patient)
    return DocumentEntry(**identity, **fields, logical_id=identity["entry_uuid"])


def _members(submission_set: SubmissionSet, *targets: str) -> tuple[Association, ...]:
    kind = AssociationType.HAS_MEMBER
    return tuple(Association(_urn(), kind, submission_set.entry_uuid, t, "Original") for t in targets)


def _at_home(value: Any, **changes: Any) -> Any:
    return msgspec.structs.replace(value, home_community_id=HOME, **changes)


@settings(
    deadline=None,
    max_examples=20,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow, HealthCheck.data_too_large],
)
@given(some.valid_entry_fields, some.valid_set_fields, some.valid_folder_fields)
def test_metadata_through_storage(
    database_dsn: str, entry_fields: dict[str, Any], set_fields: dict[str, Any], folder_fields: dict[str, Any]
) -> None:
    asyncio.run(_through_storage(database_dsn, entry_fields, set_fields, folder_fields))


async def _through_storage(
    dsn: str, entry_fields: dict[str, Any], set_fields: dict[str, Any], folder_fields: dict[str, Any]
) -> None:
    patient = _patient()
    entry = _entry(patient, entry_fields)
    folder_identity = _identity(patient)
    folder = Folder(**folder_identity, **folder_fields, logical_id=folder_identity["entry_uuid"])
    submission_set = SubmissionSet(**_identity(patient), **set_fields)
    associations = _members(submission_set, entry.entry_uuid)
    associations += (
        Association(_urn(), AssociationType.HAS_MEMBER, submission_set.entry_uuid, folder.entry_uuid),
        Association(_urn(), AssociationType.HAS_MEMBER, folder.entry_uuid, entry.entry_uuid),
    )
    submission = Submission(submission_set, (entry,), (folder,), associations)
    # A peer sends it, so it has gone through ebRIM once before it is stored.
    assert read(written(submission)).entries == submission.entries
    async with region(dsn) as node:
        await node.announce(patient)
        await node.register(read(written(submission)))
        found_xml = await node.everything(patient)
    findings: list[Finding] = []
    found = ebrim.read_submission(found_xml, findings)
    assert findings == []
    assert found is not None
    assert found.submission_set == _at_home(submission_set)
    assert found.entries == (_at_home(entry),)
    assert found.folders == (_at_home(folder, last_update_time="20240102030405"),)
    by_id = {a.entry_uuid: a for a in found.associations}
    assert by_id == {a.entry_uuid: _at_home(a) for a in associations}


@settings(
    deadline=None,
    max_examples=10,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow, HealthCheck.data_too_large],
)
@given(some.valid_entry_fields, some.valid_set_fields, st.permutations(["replace", "merge", "replace"]))
def test_spliced_renderings_after_histories(
    database_dsn: str, fields: dict[str, Any], set_fields: dict[str, Any], history: list[str]
) -> None:
    """After whatever has happened to it, an object looks as if it were written now."""
    asyncio.run(_after_history(database_dsn, fields, set_fields, history))


async def _after_history(dsn: str, fields: dict[str, Any], set_fields: dict[str, Any], history: list[str]) -> None:
    patient = _patient()
    approved: list[DocumentEntry] = []
    deprecated: list[DocumentEntry] = []
    async with region(dsn) as node:
        await node.announce(patient)

        async def register(old: DocumentEntry | None) -> None:
            entry = _entry(patient, fields)
            submission_set = SubmissionSet(**_identity(patient), **set_fields)
            relations = (
                () if old is None else (Association(_urn(), AssociationType.RPLC, entry.entry_uuid, old.entry_uuid),)
            )
            await node.register(
                Submission(submission_set, (entry,), (), _members(submission_set, entry.entry_uuid) + relations)
            )
            approved.append(entry)

        await register(None)
        for event in history:
            if event == "replace":
                deprecated.append(approved.pop(0))
                await register(deprecated[-1])
            else:
                survivor = _patient()
                await node.announce(survivor)
                await node.merge(survivor, patient)
                patient = survivor
        found = await node.everything(patient)
    expected = {
        e.entry_uuid: _at_home(e, availability_status=status, patient_id=str(patient))
        for status, group in ((AvailabilityStatus.APPROVED, approved), (AvailabilityStatus.DEPRECATED, deprecated))
        for e in group
    }
    seen = {e.get("id"): e for e in found.iterfind(f"{{{ebrim.RIM}}}ExtrinsicObject")}
    assert seen.keys() == expected.keys()
    for entry_uuid, entry in expected.items():
        fresh = ebrim.splice_entry(
            ebrim.render_entry(entry, IdSource(UUID)),
            entry.availability_status,
            ebrim.home_attribute(HOME),
            entry.version,
            str(patient).replace("&", "&amp;").encode(),
        )
        wrapped = parse_message(b'<r xmlns:rim="%s">%s</r>' % (ebrim.RIM.encode(), fresh))
        assert _shape(seen[entry_uuid]) == _shape(wrapped[0])


def _shape(element: Any) -> bytes:
    """Canonical XML without the ids of inner objects, which are new in every rendering."""
    for inner in element.iter():
        if inner is not element and inner.get("id"):
            inner.set("id", "")
    copied = etree.fromstring(etree.tostring(element, with_tail=False))
    etree.cleanup_namespaces(copied)
    return etree.tostring(copied, method="c14n")

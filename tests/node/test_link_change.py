"""What a link change (ADT^A43) does to documents: new versions under the new id, on a real database."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import psycopg
import pytest
from indexing import OURS, PESEL, context, feed, local, make_curation, make_index
from registering import APPROVED, DEPRECATED, ITI_18, Registry

from obieg.domain.identifiers import PatientId
from obieg.domain.patients import FeedEvent
from obieg.domain.problems import Problem
from obieg.mapping.stored_query import read_stored_query, write_stored_query
from obieg.storage.link import Database
from obieg.wire.xml import parse_message

pytestmark = pytest.mark.node

X1, X2 = PatientId("X1", OURS), PatientId("X2", OURS)
A, B, OTHERS = local("a"), local("b"), PatientId("80051212326", PESEL)
ALL = [APPROVED, DEPRECATED]


class World:
    def __init__(self, database: Database, dsn: str) -> None:
        self.dsn = dsn
        self.index, self.curation, self.registry = (
            make_index(database),
            make_curation(database),
            Registry(database, dsn),
        )

    async def move(self, source: PatientId, target: PatientId, *, old: PatientId = A, new: PatientId = A) -> None:
        act = feed(target, new, event=FeedEvent.MOVE, merged=(source, old))
        assert await self.curation.move(act, context()) == target

    def rows(self, sql: str) -> list[Any]:
        with psycopg.connect(self.dsn) as connection:
            return connection.execute(sql).fetchall()

    async def refs(self, name: str, **parameters: str) -> set[str]:
        """What a question for ObjectRef finds."""
        asked = {key: [value] for key, value in parameters.items()}
        query = read_stored_query(parse_message(write_stored_query(name, asked, leaf=False)))
        found = (await self.registry.actor.find(query, context(ITI_18))).found
        return {uuid for uuid in found if isinstance(uuid, str)}

    async def objects(self, name: str, **parameters: Any) -> list[Any]:
        return list(
            await self.registry.ask(name, {k: v if isinstance(v, list) else [v] for k, v in parameters.items()})
        )

    async def documents(self, patient: PatientId) -> dict[str, Any]:
        """All versions, by entryUUID."""
        found = await self.objects(
            "FindDocuments",
            XDSDocumentEntryPatientId=str(patient),
            XDSDocumentEntryStatus=ALL,
            MetadataLevel="2",
        )
        return {o.get("id")[9:]: o for o in found}

    async def folders(self, patient: PatientId) -> dict[str, Any]:
        found = await self.objects("FindFolders", XDSFolderPatientId=str(patient), XDSFolderStatus=ALL)
        return {o.get("id")[9:]: o for o in found}


@pytest.fixture
async def world(database_dsn: str) -> AsyncIterator[World]:
    database = Database(database_dsn)
    await database.open()
    world = World(database, database_dsn)
    await world.index.feed(feed(X1, A, OTHERS), context())
    await world.index.feed(feed(X2), context())
    yield world
    database.close()


def what(element: Any) -> tuple[str, str, str]:
    """Status, version and logicalID."""
    return (
        element.get("status").rpartition(":")[2],
        element.find("{*}VersionInfo").get("versionName"),
        element.get("lid"),
    )


def slot(element: Any, name: str) -> list[str]:
    return [v.text for s in element.findall("{*}Slot") if s.get("name") == name for v in s.iter("{*}Value")]


def external(element: Any) -> dict[str, str]:
    return {e.get("identificationScheme"): e.get("value") for e in element.findall("{*}ExternalIdentifier")}


def ids(objects: list[Any], kind: str) -> set[str]:
    return {o.get("id")[9:] for o in objects if o.tag.endswith(kind)}


async def test_every_question_finds_the_versions(world: World) -> None:
    first, second, folder = await world.registry.register(X1, A, A, new_folder=True)
    [addendum] = await world.registry.register(X1, A, appends=first)
    [stays] = await world.registry.register(X1, OTHERS)
    before = await world.documents(X1)
    await world.move(X1, X2, new=B)

    old, new = await world.documents(X1), await world.documents(X2)
    assert {uuid: what(o)[:2] for uuid, o in old.items()} == {
        first: ("Deprecated", "1"), second: ("Deprecated", "1"), addendum: ("Deprecated", "1"), stays: ("Approved", "1")
    }  # fmt: skip
    assert {what(o) for o in new.values()} == {("Approved", "2", f"urn:uuid:{u}") for u in (first, second, addendum)}
    assert not new.keys() & old.keys()
    version = {o.get("lid")[9:]: uuid for uuid, o in new.items()}
    for uuid, o in new.items():
        was = before[o.get("lid")[9:]]
        # The uniqueId and the repository stay, so the document is retrieved as before.
        assert [v for v in external(o).values() if v != str(X2)] == [v for v in external(was).values() if v != str(X1)]
        assert str(X2) in external(o).values()
        for name in ("repositoryUniqueId", "hash", "size"):
            assert slot(o, name) == slot(was, name)
        assert (slot(was, "sourcePatientId"), slot(o, "sourcePatientId")) == ([str(A)], [str(B)])
        unique_id = next(v for v in external(o).values() if "&" not in v)
        both = {uuid, o.get("lid")[9:]}
        assert await world.refs("GetDocuments", XDSDocumentEntryUniqueId=unique_id) == both
        assert await world.refs("GetDocuments", XDSDocumentEntryLogicalID=o.get("lid")) == both
        # Whole objects of two patients are not in one answer (ITI TF-2:3.18.4.1.3).
        with pytest.raises(Problem, match="XDSResultNotSinglePatient"):
            await world.objects("GetDocuments", XDSDocumentEntryUniqueId=unique_id)
        [own_set] = ids(await world.objects("GetSubmissionSets", uuid=f"urn:uuid:{uuid}"), "RegistryPackage")
        inside = await world.objects("GetSubmissionSetAndContents", XDSSubmissionSetEntryUUID=f"urn:uuid:{own_set}")
        assert uuid in ids(inside, "ExtrinsicObject") <= new.keys()
    assert what((await world.folders(X1))[folder])[:2] == ("Deprecated", "1")
    [(new_folder, element)] = (await world.folders(X2)).items()
    assert what(element) == ("Approved", "2", f"urn:uuid:{folder}")
    assert await world.refs("GetFolders", XDSFolderLogicalID=f"urn:uuid:{folder}") == {
        folder,
        new_folder,
    }
    assert await world.registry.contents(new_folder) == {version[first], version[second]}
    assert await world.registry.contents(folder) == {first, second}
    related = await world.objects(
        "GetRelatedDocuments",
        XDSDocumentEntryEntryUUID=f"urn:uuid:{version[first]}",
        AssociationTypes=["urn:ihe:iti:2007:AssociationType:APND"],
    )
    assert ids(related, "ExtrinsicObject") == {version[first], version[addendum]}
    assert len(ids(related, "Association")) == 1
    sets = await world.objects("FindSubmissionSets", XDSSubmissionSetPatientId=str(X2), XDSSubmissionSetStatus=APPROVED)
    assert len(sets) == 2
    await world.registry.expect_consistent([X1, X2])
    # They can be worked with: replaced, which deprecates the addendum, too.
    [newest] = await world.registry.register(X2, B, replaces=version[first])
    assert await world.registry.found(X2) == {version[second], newest}
    await world.registry.expect_consistent([X1, X2])


async def test_a_repetition_changes_nothing_and_the_way_back_is_a_third_version(world: World) -> None:
    document, folder = await world.registry.register(X1, A, new_folder=True)
    await world.move(X1, X2)
    state = world.rows("SELECT entry_uuid, status, version, patient_key FROM registry_object ORDER BY 1")
    await world.move(X1, X2)
    assert world.rows("SELECT entry_uuid, status, version, patient_key FROM registry_object ORDER BY 1") == state
    await world.move(X2, X1)
    assert {what(o) for o in (await world.documents(X2)).values()} == {("Deprecated", "2", f"urn:uuid:{document}")}
    assert {what(o)[:2] for o in (await world.documents(X1)).values()} == {("Deprecated", "1"), ("Approved", "3")}
    assert {what(o)[:2] for o in (await world.folders(X1)).values()} == {("Deprecated", "1"), ("Approved", "3")}
    assert len(await world.refs("GetDocuments", XDSDocumentEntryLogicalID=f"urn:uuid:{document}")) == 3
    assert len(await world.refs("GetFolders", XDSFolderLogicalID=f"urn:uuid:{folder}")) == 3
    await world.registry.expect_consistent([X1, X2])


async def test_what_is_of_others_stays(world: World) -> None:
    mine, other, folder = await world.registry.register(X1, A, OTHERS, new_folder=True)
    [replaced] = await world.registry.register(X1, A)
    [replacing] = await world.registry.register(X1, A, replaces=replaced)
    [bound] = await world.registry.register(X1, A, appends=other)
    await world.move(X1, X2)
    # The folder keeps its members; the new version is in none.
    assert {u: what(o)[0] for u, o in (await world.folders(X1)).items()} == {folder: "Approved"}
    assert await world.folders(X2) == {}
    assert await world.registry.contents(folder) == {mine, other}
    # What was replaced stays history of the patient it was registered for, without a version.
    assert await world.registry.found(X1) == {other, bound}
    assert set(await world.documents(X1)) == {mine, other, replaced, replacing, bound}
    lids = {o.get("lid")[9:] for o in (await world.documents(X2)).values()}
    assert lids == {mine, replacing}
    # An addendum to a document that stays is somebody's decision.
    assert world.rows("SELECT kind, detail FROM patient_task WHERE decision = ''") == [("doubtful_document", bound)]
    await world.move(X1, X2)
    assert len(world.rows("SELECT FROM patient_task")) == 1
    await world.registry.expect_consistent([X1, X2])


async def test_a_new_number_of_the_same_patient_makes_versions_too(world: World) -> None:
    """ITI TF-2:3.64: the sourcePatientId becomes the surviving number."""
    mine, other, folder = await world.registry.register(X1, A, OTHERS, new_folder=True)
    [addendum] = await world.registry.register(X1, OTHERS, appends=mine)
    await world.move(X1, X1, old=A, new=B)
    documents = await world.documents(X1)
    [version] = documents.keys() - {mine, other, addendum}
    assert what(documents[version]) == ("Approved", "2", f"urn:uuid:{mine}")
    assert slot(documents[version], "sourcePatientId") == [str(B)]
    assert {u: what(o)[0] for u, o in documents.items() if u != version} == {
        mine: "Deprecated", other: "Approved", addendum: "Approved"
    }  # fmt: skip
    assert {u: what(o)[0] for u, o in (await world.folders(X1)).items()} == {folder: "Approved"}
    # The version before is found only by who asks for old ones.
    assert await world.registry.contents(folder) == {other, version}
    everything = await world.objects("GetFolderAndContents", XDSFolderEntryUUID=f"urn:uuid:{folder}", MetadataLevel="2")
    assert ids(everything, "ExtrinsicObject") == {mine, other, version}
    related = await world.objects(
        "GetRelatedDocuments",
        XDSDocumentEntryEntryUUID=f"urn:uuid:{version}",
        AssociationTypes=["urn:ihe:iti:2007:AssociationType:APND"],
    )
    assert ids(related, "ExtrinsicObject") == {version, addendum}
    await world.registry.expect_consistent([X1])


async def test_moves_and_registrations_at_once(world: World) -> None:
    """Whoever comes first: one approved version at most, and nothing is related across patients."""
    for _ in range(10):
        [document] = await world.registry.register(X1, A)
        await asyncio.gather(
            world.move(X1, X2),
            world.move(X1, X2),
            world.registry.register(X1, A, appends=document),
            world.registry.register(X1, A, replaces=document),
            return_exceptions=True,
        )
        # Where the move came last it took the other two along, else they were refused.
        await world.move(X1, X2)
        assert await world.registry.found(X1) == set()
    several = "SELECT logical_id FROM document_entry WHERE status = 'A' GROUP BY logical_id HAVING count(*) > 1"
    assert world.rows(several) == []
    await world.registry.expect_consistent([X1, X2])


async def test_an_updated_document_moves_by_its_newest_version(world: World) -> None:
    """ITI-57, then ADT^A43: versions go on counting, and the history says who moved what."""
    [first] = await world.registry.register(X1, A)
    updated = await world.registry.update(X1, first)
    await world.move(X1, X2)
    newest = {u: what(o) for u, o in (await world.documents(X2)).items()}
    assert list(newest.values()) == [("Approved", "3", f"urn:uuid:{first}")]
    assert {u: what(o)[:2] for u, o in (await world.documents(X1)).items()} == {
        first: ("Deprecated", "1"), updated: ("Deprecated", "2")
    }  # fmt: skip
    # Of the versions that stay, only the newest is there for who does not ask for old ones.
    assert await world.registry.found(X1, deprecated=True) == {updated}
    changes = world.rows("SELECT act, entry_uuid::text FROM registry_change ORDER BY change_id")
    assert changes == [("changed", first), ("moved to another patient", updated)]
    await world.move(X2, X1)
    assert {what(o)[:2] for o in (await world.documents(X1)).values()} == {
        ("Deprecated", "1"), ("Deprecated", "2"), ("Approved", "4")
    }  # fmt: skip
    await world.registry.expect_consistent([X1, X2])

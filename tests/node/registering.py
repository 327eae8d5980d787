"""A document registry on a real database, without a protocol around it."""

from __future__ import annotations

import itertools
import uuid
from collections import Counter
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from typing import Any

import msgspec
import psycopg
from indexing import OURS, context

from obieg.actors.document_lifecycle import DocumentLifecycle
from obieg.actors.document_registry import DocumentRegistry
from obieg.domain.documents import (
    Annotation,
    Association,
    AssociationType,
    Code,
    DocumentEntry,
    Folder,
    Submission,
    SubmissionSet,
)
from obieg.domain.identifiers import PatientId
from obieg.domain.removing import KeptAtWill
from obieg.mapping import ebrs
from obieg.mapping.ebrim import read_entries
from obieg.mapping.stored_query import read_stored_query, write_stored_query
from obieg.storage.audit_store import AuditStore
from obieg.storage.lifecycle_store import PostgresLifecycle
from obieg.storage.link import Database
from obieg.storage.registry_store import RegistryDatabase
from obieg.transactions import TRANSACTIONS
from obieg.wire.xml import parse_message

ITI_18 = next(t for t in TRANSACTIONS if t.id == "ITI-18")
ITI_42 = next(t for t in TRANSACTIONS if t.id == "ITI-42")
ITI_57 = next(t for t in TRANSACTIONS if t.id == "ITI-57")
HOME = "urn:oid:1.2.616.99"
APPROVED, DEPRECATED = (f"urn:oasis:names:tc:ebxml-regrep:StatusType:{s}" for s in ("Approved", "Deprecated"))
_numbers = itertools.count(1)


class AnyCode:
    """An affinity domain that takes everything."""

    mime_types = frozenset({"text/xml"})

    def accepts(self, attribute: str, code: str, scheme: str) -> bool:
        return True


def _urn() -> str:
    return f"urn:uuid:{uuid.uuid4()}"


def _oid() -> str:
    return f"2.25.{next(_numbers)}"


def member(source: str, target: str, status: str | None = None) -> Association:
    return Association(_urn(), AssociationType.HAS_MEMBER, source, target, submission_set_status=status)


class Registry:
    """Registers documents and asks for them; documents are named by entryUUID without ``urn:uuid:``."""

    def __init__(self, database: Database, dsn: str) -> None:
        audit = AuditStore(database, source_id="test", names={}, now=lambda: datetime.now(UTC))
        self.dsn = dsn
        self.actor = DocumentRegistry(
            RegistryDatabase(database, audit),
            codes=AnyCode(),  # type: ignore[arg-type]
            assigning_authority=OURS,
            home_community_id=HOME,
            allow_limited_metadata=True,
            results_max=1000,
            new_uuid=lambda: str(uuid.uuid4()),
        )
        self.lifecycle = DocumentLifecycle(
            PostgresLifecycle(database, audit, assigning_authority=OURS),
            KeptAtWill(),
            codes=AnyCode(),  # type: ignore[arg-type]
            assigning_authority=OURS,
            home_community_id=HOME,
            allow_limited_metadata=True,
            new_uuid=lambda: str(uuid.uuid4()),
        )

    async def register(
        self,
        patient: PatientId,
        *sources: PatientId | str,
        replaces: str = "",
        appends: str = "",
        folder: str = "",
        new_folder: bool = False,
    ) -> list[str]:
        """One submission with a document for each sourcePatientId; the folder's UUID comes last, if there is one."""
        owner = {"patient_id": str(patient)}
        code = Code("f", "1.2", (("pl", "F"),))
        full = {
            "class_code": code, "type_code": code, "format_code": code, "practice_setting_code": code,
            "healthcare_facility_type_code": code, "confidentiality_code": (code,), "creation_time": "20240102",
            "language_code": "pl-PL",
        }  # fmt: skip
        entries = tuple(
            DocumentEntry(
                _urn(), _oid(), mime_type="text/xml", hash="0" * 40, size="1", repository_unique_id="1.2.3",
                source_patient_id=str(source), limited_metadata=not source, **full, **owner,
            )
            for source in sources
        )  # fmt: skip
        folders = (Folder(_urn(), _oid(), code_list=(code,), title=(("", "F"),), **owner),) if new_folder else ()
        sset = SubmissionSet(
            _urn(), _oid(), source_id="1.2.4", submission_time="20240102", content_type_code=code, **owner
        )
        associations = [member(sset.entry_uuid, e.entry_uuid, "Original") for e in entries]
        associations += [member(sset.entry_uuid, f.entry_uuid) for f in folders]
        held_by = f"urn:uuid:{folder}" if folder else folders[0].entry_uuid if folders else ""
        if held_by:
            holding = [member(held_by, e.entry_uuid) for e in entries]
            associations += [*holding, *(member(sset.entry_uuid, a.entry_uuid) for a in holding)]
        related = [(AssociationType.RPLC, replaces), (AssociationType.APND, appends)]
        associations += [Association(_urn(), t, entries[0].entry_uuid, f"urn:uuid:{u}") for t, u in related if u]
        await self.actor.register(Submission(sset, entries, folders, tuple(associations)), context(ITI_42))
        return [o.entry_uuid[9:] for o in (*entries, *folders)]

    async def update(self, patient: PatientId, uuid_: str) -> str:
        """ITI-57: the next version of a document; its entryUUID."""
        [known] = read_entries(await self.ask("GetDocuments", {"XDSDocumentEntryEntryUUID": [f"urn:uuid:{uuid_}"]}))
        entry = msgspec.structs.replace(known, entry_uuid=_urn(), title=(("pl", "Poprawiony"),))
        sset = SubmissionSet(
            _urn(),
            _oid(),
            source_id="1.2.4",
            submission_time="20240102",
            patient_id=str(patient),
            limited_metadata=True,
        )
        link = member(sset.entry_uuid, entry.entry_uuid, "Original")
        link = msgspec.structs.replace(link, annotation=Annotation(previous_version=known.version))
        await self.lifecycle.update(Submission(sset, (entry,), (), (link,)), context(ITI_57), restricted=False)
        return entry.entry_uuid[9:]

    async def ask(self, name: str, parameters: dict[str, Sequence[str]], *, leaf: bool = True) -> Any:
        """``rim:RegistryObjectList`` of the answer, as a consumer reads it."""
        query = read_stored_query(parse_message(write_stored_query(name, parameters, leaf=leaf)))
        found = await self.actor.find(query, context(ITI_18))
        assert leaf
        return parse_message(ebrs.query_response(found)).find("{*}RegistryObjectList")

    async def found(self, patient: PatientId, *, deprecated: bool = False) -> set[str]:
        """FindDocuments."""
        status = [APPROVED, DEPRECATED] if deprecated else [APPROVED]
        answer = await self.ask(
            "FindDocuments", {"XDSDocumentEntryPatientId": [str(patient)], "XDSDocumentEntryStatus": status}
        )
        return {o.get("id")[9:] for o in answer}

    async def source_patient_ids(self, patient: PatientId) -> set[str]:
        """What the documents of a patient say in the answer."""
        answer = await self.ask(
            "FindDocuments", {"XDSDocumentEntryPatientId": [str(patient)], "XDSDocumentEntryStatus": [APPROVED]}
        )
        return {
            v.text for s in answer.iter("{*}Slot") if s.get("name") == "sourcePatientId" for v in s.iter("{*}Value")
        }

    async def folders(self, patient: PatientId) -> set[str]:
        """FindFolders."""
        answer = await self.ask("FindFolders", {"XDSFolderPatientId": [str(patient)], "XDSFolderStatus": [APPROVED]})
        return {o.get("id")[9:] for o in answer}

    async def contents(self, folder: str) -> set[str]:
        """The documents of GetFolderAndContents."""
        answer = await self.ask("GetFolderAndContents", {"XDSFolderEntryUUID": [f"urn:uuid:{folder}"]})
        return {o.get("id")[9:] for o in answer if o.tag.endswith("ExtrinsicObject")}

    async def expect_consistent(self, patients: Iterable[PatientId]) -> None:
        """Nothing relates objects of two patients, nothing is related that is not there, GetAll answers for everybody."""
        with psycopg.connect(self.dsn) as connection:

            def rows(sql: str) -> list[Any]:
                return connection.execute(sql).fetchall()

            person = "coalesce((SELECT survivor_key FROM patient_link k WHERE k.patient_key = {0}.patient_key), {0}.patient_key)"
            one, other = person.format("a"), person.format("l")
            assert not rows(
                f"SELECT a.type FROM association a JOIN object_locator l ON l.entry_uuid IN (a.source, a.target) "
                f"WHERE {one} <> {other}"
            )
            assert not rows(
                "SELECT 1 FROM association a WHERE NOT EXISTS (SELECT FROM object_locator l WHERE l.entry_uuid = a.source) "
                "OR NOT EXISTS (SELECT FROM object_locator l WHERE l.entry_uuid = a.target)"
            )
            assert not rows(
                "SELECT 1 FROM object_locator l LEFT JOIN registry_object o "
                "ON o.entry_uuid = l.entry_uuid AND o.patient_key = l.patient_key AND o.kind = l.kind WHERE o.kind IS NULL"
            )
            assert not rows(
                "SELECT 1 FROM unique_id_locator u JOIN object_locator l USING (entry_uuid) "
                "WHERE u.patient_key <> l.patient_key"
            )
            # Each document is an original member of one set.
            members = rows(
                "SELECT a.target FROM association a JOIN object_locator s ON s.entry_uuid = a.source AND s.kind = 'S' "
                "JOIN object_locator d ON d.entry_uuid = a.target AND d.kind = 'D' WHERE a.type = 'HasMember'"
            )
            assert set(Counter(members).values()) <= {1}
            assert len(members) == rows("SELECT count(*) FROM document_entry")[0][0]
        for patient in patients:
            answer = await self.ask(
                "GetAll",
                {
                    "patientId": [str(patient)],
                    "XDSDocumentEntryStatus": [APPROVED, DEPRECATED],
                    "XDSSubmissionSetStatus": [APPROVED],
                    "XDSFolderStatus": [APPROVED, DEPRECATED],
                    "MetadataLevel": ["2"],
                },
            )
            ids = {o.get("id") for o in answer}
            for a in answer.iterfind("{*}Association"):
                assert {a.get("sourceObject"), a.get("targetObject")} <= ids
            for value in answer.iter("{*}ExternalIdentifier"):
                if "&" in value.get("value"):
                    assert value.get("value") == str(patient)

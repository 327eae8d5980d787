"""What a submission must fulfil before anything is looked up."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from obieg.domain.documents import (
    Association,
    AssociationType,
    Author,
    Code,
    DocumentEntry,
    EntryType,
    Folder,
    Submission,
    SubmissionSet,
)
from obieg.domain.rules import check_submission, is_dtm

PATIENT = "1^^^&1.2.3&ISO"
GOOD = Code("c", "s")


class Codes:
    mime_types = frozenset({"text/xml"})

    def accepts(self, attribute: str, code: str, scheme: str) -> bool:
        return (code, scheme) == ("c", "s")


ENTRY = DocumentEntry(
    "d",
    unique_id="1.2.3.4",
    patient_id=PATIENT,
    mime_type="text/xml",
    class_code=GOOD,
    type_code=GOOD,
    format_code=GOOD,
    healthcare_facility_type_code=GOOD,
    practice_setting_code=GOOD,
    confidentiality_code=(GOOD,),
    creation_time="20240229",
    language_code="pl-PL",
    source_patient_id=PATIENT,
    repository_unique_id="1.2",
    size="3",
    hash="a" * 40,
)
SET = SubmissionSet(
    "s", unique_id="1.2.3.5", source_id="1.2", patient_id=PATIENT, submission_time="2024", content_type_code=GOOD
)
FOLDER = Folder("f", unique_id="1.2.3.6", patient_id=PATIENT, code_list=(GOOD,), title=(("", "t"),))
OF_ENTRY = Association("a", AssociationType.HAS_MEMBER, "s", "d", "Original")
OF_FOLDER = Association("b", AssociationType.HAS_MEMBER, "s", "f")


def found(
    entry: DocumentEntry = ENTRY, sset: SubmissionSet = SET, folder: Folder = FOLDER, *more: Association, **how: Any
) -> list[str]:
    """Locations of what is wrong, with the code where it is not the usual one."""
    submission = Submission(sset, (entry,), (folder,), (OF_ENTRY, OF_FOLDER, *more))
    return _said(submission, **how)


def _said(submission: Submission, **how: Any) -> list[str]:
    return [
        f.location if f.code == "XDSRegistryMetadataError" else f"{f.code} {f.location}"
        for f in check_submission(submission, Codes(), **how)
    ]


def changed(value: Any, **changes: Any) -> Any:
    return msgspec.structs.replace(value, **changes)


def test_nothing_is_wrong() -> None:
    assert found() == []


@pytest.mark.parametrize(
    ("field", "name"),
    [
        ("class_code", "classCode"),
        ("confidentiality_code", "confidentialityCode"),
        ("creation_time", "creationTime"),
        ("format_code", "formatCode"),
        ("hash", "hash"),
        ("healthcare_facility_type_code", "healthcareFacilityTypeCode"),
        ("language_code", "languageCode"),
        ("mime_type", "mimeType"),
        ("patient_id", "patientId"),
        ("practice_setting_code", "practiceSettingCode"),
        ("repository_unique_id", "repositoryUniqueId"),
        ("size", "size"),
        ("source_patient_id", "sourcePatientId"),
        ("type_code", "typeCode"),
        ("unique_id", "uniqueId"),
    ],
)
def test_what_an_entry_needs(field: str, name: str) -> None:
    empty = () if field == "confidentiality_code" else "" if field == "mime_type" else None
    assert found(changed(ENTRY, **{field: empty})) == [f"DocumentEntry d: {name}"]


def test_what_a_repository_adds_need_not_be_provided() -> None:
    entry = changed(ENTRY, hash=None, size=None, repository_unique_id=None)
    assert found(entry, provide=True) == []


@pytest.mark.parametrize("field", ["content_type_code", "patient_id", "source_id", "submission_time", "unique_id"])
def test_what_a_set_needs(field: str) -> None:
    [location] = found(sset=changed(SET, **{field: None}))
    assert location.startswith("SubmissionSet s: ")


@pytest.mark.parametrize(
    ("field", "empty"), [("code_list", ()), ("patient_id", None), ("title", ()), ("unique_id", None)]
)
def test_what_a_folder_needs(field: str, empty: Any) -> None:
    [location] = found(folder=changed(FOLDER, **{field: empty}))
    assert location.startswith("Folder f: ")


@pytest.mark.parametrize(
    ("field", "bad"),
    [
        ("creation_time", "2024-01-01"),
        ("creation_time", "20230229"),
        ("creation_time", "20241301"),
        ("creation_time", "2024010112305"),
        ("creation_time", "20240101123060"),
        ("creation_time", "20240101123000+0100"),
        ("creation_time", "٢٠٢٤"),
        ("size", "3.5"),
        ("size", "-3"),
        ("size", "٣"),
        ("size", "9" * 19),
        ("hash", "a" * 39),
        ("hash", "g" * 40),
        ("unique_id", "1.2."),
        ("unique_id", "1.02"),
        ("unique_id", "3.2"),
        ("unique_id", "1.2^"),
        ("unique_id", "1.2^a^b"),
        ("unique_id", "1." + "2" * 127),
        ("unique_id", "1.٢"),
        ("patient_id", "1"),
        ("patient_id", "1^^^1.2.3"),
        ("patient_id", "1^^^&1.2.3"),
        ("patient_id", "^^^&1.2.3&ISO"),
        ("patient_id", "1^^^x&1.2.3&DNS"),
        ("repository_unique_id", "urn:oid:1.2"),
        ("language_code", "pl_PL"),
        ("language_code", "polski język"),
        ("legal_authenticator", "^^"),
        ("mime_type", "text/html"),
        ("reference_id_list", ("1",)),
        ("reference_id_list", ("1^^^&1.2&ISO",)),
        ("class_code", Code("d", "s")),
        ("class_code", Code("c", "t")),
        ("confidentiality_code", (GOOD, Code("d", "s"))),
        ("event_code_list", (Code("d", "s"),)),
        ("author", (Author(person=("^A", "^B")),)),
        ("author", (Author(),)),
        ("author", (Author(role=("x" * 4097,)),)),
        ("title", (("", "x" * 4097),)),
        ("uri", "x" * 4097),
    ],
)
def test_bad_values(field: str, bad: Any) -> None:
    assert [location.split(" ", 1)[0] for location in found(changed(ENTRY, **{field: bad}))][:1] == ["DocumentEntry"]


@pytest.mark.parametrize(
    ("field", "good"),
    [
        ("unique_id", "1.2.3^a b/c"),
        ("unique_id", "2.25." + "1" * 38),
        ("hash", "AB" * 20),
        ("patient_id", PATIENT),
        ("language_code", "de-Latn-AT"),
        ("mime_type", "text/xml; charset=utf-8"),
        ("legal_authenticator", "123"),
        ("reference_id_list", ("1^^^&1.2&ISO^urn:x", "1^^^^urn:x")),
        ("author", (Author(person=("^A",)), Author(institution=("B",)))),
    ],
)
def test_good_values(field: str, good: Any) -> None:
    assert found(changed(ENTRY, **{field: good})) == []


@pytest.mark.parametrize(
    ("start", "stop", "right"),
    [
        ("2024", "2023", False),
        ("20240102", "2024", True),
        ("20240102", "20240101235959", False),
        ("20240101", "20240101000000", True),
    ],
)
def test_service_times(start: str, stop: str, right: bool) -> None:
    expected = [] if right else ["DocumentEntry d: serviceStartTime"]
    assert found(changed(ENTRY, service_start_time=start, service_stop_time=stop)) == expected


def test_limited_metadata() -> None:
    bare = DocumentEntry(
        "d",
        unique_id="1.2.3.4",
        patient_id=PATIENT,
        mime_type="text/xml",
        repository_unique_id="1.2",
        size="3",
        hash="a" * 40,
        limited_metadata=True,
    )
    assert found(bare) == ["DocumentEntry d"]
    assert found(bare, allow_limited=True) == []
    assert found(changed(bare, limited_metadata=False), allow_limited=True) != []
    sset = changed(SET, limited_metadata=True, content_type_code=None)
    folder = changed(FOLDER, limited_metadata=True, title=(), code_list=())
    assert "Folder f" in found(folder=folder)
    assert found(ENTRY, sset, folder, allow_limited=True) in ([], ["SubmissionSet s: contentTypeCode"])


def test_on_demand_entries() -> None:
    entry = changed(ENTRY, entry_type=EntryType.ON_DEMAND, creation_time=None, size=None, hash=None)
    assert found(entry) == []
    assert found(changed(entry, hash="a" * 40, size="1", creation_time="2024")) == [
        "DocumentEntry d: creationTime",
        "DocumentEntry d: hash",
        "DocumentEntry d: size",
    ]
    # Only advised against (ITI TF-2:3.61.4.1.2).
    assert found(changed(entry, legal_authenticator="1^Nowak")) == []


UUID = "urn:uuid:0000000A-1111-4222-8333-44444444444B"


def submission(entry: DocumentEntry, *associations: Association) -> Submission:
    return Submission(SET, (entry,), (), associations)


def test_identities() -> None:
    assert found(folder=changed(FOLDER, entry_uuid="d"))[0] == "Folder d"
    assert "DocumentEntry urn:uuid:7" in found(changed(ENTRY, entry_uuid="urn:uuid:7"))
    assert "DocumentEntry urn:oid:1.2" in found(changed(ENTRY, entry_uuid="urn:oid:1.2"))
    assert "DocumentEntry" in found(changed(ENTRY, entry_uuid=""))
    assert found(changed(ENTRY, unique_id="1.2.3.6")) == ["XDSRegistryDuplicateUniqueIdInMessage Folder f"]


def test_uuids_are_the_same_whatever_their_case() -> None:
    entry = changed(ENTRY, entry_uuid=UUID)
    member = changed(OF_ENTRY, target=UUID.lower())
    assert _said(submission(entry, member)) == []
    twice = submission(entry, member, changed(OF_ENTRY, entry_uuid=UUID.lower(), source="x", target="y"))
    assert f"Association {UUID.lower()}" in _said(twice)


def test_patients_differ() -> None:
    other = "2^^^&1.2.3&ISO"
    assert found(changed(ENTRY, patient_id=other), SET, changed(FOLDER, patient_id=other)) == [
        "XDSPatientIdDoesNotMatch DocumentEntry d: patientId",
        "XDSPatientIdDoesNotMatch Folder f: patientId",
    ]


@pytest.mark.parametrize(
    ("association", "right"),
    [
        (Association("x", AssociationType.RPLC, "d", UUID), True),
        (Association("x", AssociationType.APND, "d", "d"), True),
        (Association("x", AssociationType.RPLC, UUID, "d"), False),
        (Association("x", AssociationType.RPLC, "f", "d"), False),
        (Association("x", AssociationType.RPLC, "", "d"), False),
        (Association("x", AssociationType.RPLC, "d", ""), False),
        (Association("x", AssociationType.HAS_MEMBER, "f", "d"), True),
        (Association("x", AssociationType.HAS_MEMBER, "s", UUID, "Reference"), True),
        (Association("x", AssociationType.HAS_MEMBER, "s", UUID), True),
        (Association("x", AssociationType.HAS_MEMBER, "s", UUID, "Original"), False),
        (Association("x", AssociationType.UPDATE_AVAILABILITY_STATUS, "s", "d"), False),
        (Association("x", AssociationType.SUBMIT_ASSOCIATION, "s", "d"), False),
    ],
)
def test_associations(association: Association, right: bool) -> None:
    assert found(ENTRY, SET, FOLDER, association) == ([] if right else ["Association x"])


@pytest.mark.parametrize("status", [None, "Reference", "original", ""])
def test_new_entries_are_original(status: str | None) -> None:
    member = changed(OF_ENTRY, submission_set_status=status)
    assert _said(submission(ENTRY, member)) == ["Association a"]


def test_every_entry_belongs_to_the_set() -> None:
    """A folder may stand beside the set, as in what the NIST tool submits (16102c)."""
    assert _said(Submission(SET, (ENTRY,), (FOLDER,), ())) == ["DocumentEntry d"]


@pytest.mark.parametrize("value", ["2024", "202402", "20240229", "2024022923", "202402292359", "20240229235959"])
def test_times(value: str) -> None:
    assert is_dtm(value)


@pytest.mark.parametrize(
    "value", ["", "202", "20240", "20230229", "20240001", "2024022924", "2024 ", "2024\n", "２０２４"]
)
def test_no_times(value: str) -> None:
    assert not is_dtm(value)

"""AdhocQuery of ITI-18 and ITI-51 to the question that storage answers (ITI TF-2:3.18.4.1.2.3, 3.51.4.1.2).

The queries, their parameters and rules stand in ``codes/stored_queries.toml``.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from itertools import islice
from typing import Any, NamedTuple

from lxml import etree

from obieg.codes.load import toml
from obieg.domain.documents import AssociationType, AvailabilityStatus, EntryType
from obieg.domain.identifiers import PatientId, is_uuid_urn, patient_id
from obieg.domain.problems import Finding, Problem
from obieg.domain.queries import StoredQuery
from obieg.domain.rules import is_dtm
from obieg.mapping.ebrim import ASSOCIATION_TYPE_OF, ENTRY_TYPES, RIM, STATUS_PREFIX, availability_status
from obieg.mapping.ebrs import QUERY
from obieg.wire.xml import text

_TABLE = toml("stored_queries.toml")
_NAME_OF = {row["id"]: name for name, row in _TABLE.items() if "id" in row}
_NAME_BY_PARAMETER = {p: name for name, row in _TABLE.items() if "id" not in row for p in row["parameters"]}
_ENTRY_TYPE_LETTER = {ENTRY_TYPES[EntryType.STABLE]: "S", ENTRY_TYPES[EntryType.ON_DEMAND]: "O"}
_SLOT, _VALUE = f"{{{RIM}}}Slot", f"{{{RIM}}}Value"
_FILL = "00000101000000"
# A value is 'quoted', a number, or a list of them in parentheses (ITI TF-2:3.18.4.1.2.3.5).
_TOKEN = re.compile(r"\s*(?:'((?:[^']|'')*)'|(-?\d+))\s*(,|\Z)", re.ASCII)
_GROUP_SEPARATOR = "\x1f"
PARAMETERS_MAX = 1_000  # slots of one query, several of one name counted each
VALUES_MAX = 10_000  # of one parameter
WRONG_MAX = 20  # values of one parameter that are told to be wrong
PATIENTS_MAX = 1_000  # of one query for several

Groups = list[list[str]]  # OR within a group, AND between groups


def _parameters_of(name: str) -> dict[str, dict[str, Any]]:
    row = _TABLE[name]
    inherited = _parameters_of(row["inherits"]) if "inherits" in row else {}
    return {**inherited, **row.get("optional", {}), **row["parameters"]}


_PARAMETERS = {name: _parameters_of(name) for name in _TABLE}
_OF_ALL = {"MetadataLevel": {"kind": "level"}}


def read_stored_query(request: Any, transaction: str = "ITI-18") -> StoredQuery:
    """The question in a ``query:AdhocQueryRequest`` of ``transaction``. Raises Problem with all findings."""
    query = request.find(f"{{{RIM}}}AdhocQuery")
    option = request.find(f"{{{QUERY}}}ResponseOption")
    if query is None or option is None:
        raise Problem.of(
            "XDSRegistryError", "AdhocQueryRequest needs ResponseOption and AdhocQuery", "AdhocQueryRequest"
        )
    return_type = option.get("returnType", "RegistryObject")
    if return_type not in ("LeafClass", "ObjectRef"):
        raise Problem.of(
            "XDSRegistryError", f"returnType {return_type!r}: use LeafClass or ObjectRef", "ResponseOption"
        )
    if len(query) > PARAMETERS_MAX:
        raise Problem.of("XDSStoredQueryParamNumber", f"more than {PARAMETERS_MAX} parameters", "AdhocQuery")
    name = _name_of(query, transaction)
    findings: list[Finding] = []
    given = _read_slots(query, name, findings)
    level = given.pop(_LEVEL, [])
    _check_required(name, given, findings)
    if findings:
        raise Problem(findings)
    shape = _SHAPES[name]
    patients = tuple(filter(None, map(patient_id, _flat(given, shape.patient) or ()))) if shape.patient else ()
    return StoredQuery(
        name=name,
        question=shape.question,
        parameters=shape.parameters(given),
        patient=patients[0] if shape.patient and not shape.candidates else None,
        patients=patients if shape.candidates else (),
        candidates=shape.candidates,
        leaf=return_type == "LeafClass",
        old_versions=["2"] in level,
        only_status_and_type=name == "FindDocuments" and given.keys() <= _STATUS_AND_TYPE,
        text=etree.tostring(query),
    )


_LEVEL = "MetadataLevel"  # ITI TF-2:3.18.4.1.2.3.5.1; of every query


def _name_of(query: Any, transaction: str) -> str:
    """The query that is asked for."""
    identifier = query.get("id", "")
    name = _NAME_OF.get(identifier)
    if name is None:
        slots = (slot.get("name", "").removeprefix("$") for slot in query.iterfind(_SLOT))
        name = next((_NAME_BY_PARAMETER[s] for s in slots if s in _NAME_BY_PARAMETER), None)
    if name is None:
        raise Problem.of("XDSUnknownStoredQuery", f"there is no stored query {identifier!r}", "AdhocQuery/@id")
    if (whose := _TABLE[name].get("transaction", "ITI-18")) != transaction:
        raise Problem.of("XDSUnknownStoredQuery", f"{name} is asked by {whose}, not by {transaction}", "AdhocQuery/@id")
    return name


_STATUS_AND_TYPE = {"XDSDocumentEntryPatientId", "XDSDocumentEntryStatus", "XDSDocumentEntryType"}


def _read_slots(query: Any, name: str, findings: list[Finding]) -> dict[str, Groups]:
    known = _PARAMETERS[name] | _OF_ALL
    given: dict[str, Groups] = {}
    for slot in query.iterfind(_SLOT):
        parameter = slot.get("name", "").removeprefix("$")
        row = known.get(parameter)
        if row is None:
            continue  # parameters that the query does not define are ignored (ITI TF-2:3.18.4.1.2.3.5)
        where = f"AdhocQuery: ${parameter}"
        values: list[str] = []
        found_before = len(findings)
        for value in slot.iter(_VALUE):
            values += _read_value((value.text or "").strip(), where, findings)
            if len(values) > VALUES_MAX:
                break
        if len(values) > VALUES_MAX:
            said = f"${parameter} has more than {VALUES_MAX} values"
            findings.append(Finding("XDSStoredQueryParamNumber", said, where))
            continue
        if not values:
            if len(findings) == found_before:
                findings.append(Finding("XDSStoredQueryMissingParam", f"${parameter} has no value", where))
            continue
        values = _accepted(row["kind"], values, parameter, where, findings)
        groups = given.setdefault(parameter, [])
        groups.append(values)
        if len(groups) > 1 and not row.get("and_or"):
            findings.append(Finding("XDSStoredQueryParamNumber", f"${parameter} may be given only once", where))
        if len(values) > 1 and not row.get("many"):
            findings.append(Finding("XDSStoredQueryParamNumber", f"${parameter} takes one value", where))
    return given


def _read_value(text: str, where: str, findings: list[Finding]) -> list[str]:
    inner = text[1:-1] if text.startswith("(") and text.endswith(")") else text
    values: list[str] = []
    at = 0
    while at < len(inner) and len(values) <= VALUES_MAX:
        match = _TOKEN.match(inner, at)
        if match is None:
            findings.append(
                Finding(
                    "XDSRegistryError",
                    "a value is 'quoted text', a number, or a list of them in parentheses, separated by commas",
                    where,
                )
            )
            return []
        values.append(match[2] if match[2] is not None else match[1].replace("''", "'"))
        at = match.end()
    return values


def _is_code(value: str) -> bool:
    parts = value.split("^")
    return len(parts) == 3 and bool(parts[0]) and bool(parts[2])


_KINDS: dict[str, tuple[Callable[[str], bool], str]] = {
    "cx": (lambda v: patient_id(v) is not None, "a patient id of the form id^^^&oid&ISO"),
    "code": (_is_code, "a code of the form code^^coding-scheme"),
    "dtm": (is_dtm, "a time of the form YYYY[MM[DD[hh[mm[ss]]]]]"),
    "status": (lambda v: availability_status(v) is not None, "an availability status URN"),
    "uuid": (is_uuid_urn, "a UUID as urn:uuid:"),
    "type": (_ENTRY_TYPE_LETTER.__contains__, "the objectType of stable or of on-demand entries"),
    "level": (("1", "2").__contains__, "1 or 2"),
    "assoc_type": (ASSOCIATION_TYPE_OF.__contains__, "an association type URN"),
}


def _accepted(kind: str, values: list[str], parameter: str, where: str, findings: list[Finding]) -> list[str]:
    """Those of the values that the parameter may have."""
    rule = _KINDS.get(kind)
    if rule is None:
        return values
    accepts, wanted = rule
    wrong = list(islice((v for v in values if not accepts(v)), WRONG_MAX))
    if not wrong:
        return values
    findings += [Finding("XDSRegistryError", f"${parameter} {v[:80]!r} is not {wanted}", where) for v in wrong]
    return [v for v in values if accepts(v)]


def _check_required(name: str, given: Mapping[str, Groups], findings: list[Finding]) -> None:
    reported = {f.location for f in findings}
    for parameter, row in _PARAMETERS[name].items():
        where = f"AdhocQuery: ${parameter}"
        if row.get("required") and parameter not in given and where not in reported:
            findings.append(Finding("XDSStoredQueryMissingParam", f"{name} needs ${parameter}", where))
    for parameter in given:
        other = _PARAMETERS[name][parameter].get("without")
        if other in given:
            detail = f"{name} takes ${other} or ${parameter}, not both"
            findings.append(Finding("XDSStoredQueryParamNumber", detail, f"AdhocQuery: ${parameter}"))
    patients = _flat(given, _SHAPES[name].patient) or ()
    if len(patients) > PATIENTS_MAX:
        detail = f"${_SHAPES[name].patient} names more than {PATIENTS_MAX} patients: ask in several queries"
        findings.append(Finding("XDSStoredQueryParamNumber", detail, f"AdhocQuery: ${_SHAPES[name].patient}"))
    needed = _TABLE[name].get("any_of")
    if needed and not reported and not any(p in given for p in needed):
        names = ", ".join(f"${p}" for p in needed)
        findings.append(Finding("XDSStoredQueryMissingParam", f"{name} needs at least one of {names}", "AdhocQuery"))
    choice = _TABLE[name].get("one_of")
    if choice:
        count = sum(p in given for p in choice)
        names = ", ".join(f"${p}" for p in choice)
        if count == 0:
            if not reported:
                findings.append(Finding("XDSStoredQueryMissingParam", f"{name} needs one of {names}", "AdhocQuery"))
        elif count > 1:
            findings.append(Finding("XDSStoredQueryParamNumber", f"{name} takes only one of {names}", "AdhocQuery"))


# Asking --------------------------------------------------------------------------------------------------------------


def approved_documents(patient: PatientId) -> StoredQuery:
    """FindDocuments: every approved document of the patient that exists, from the newest to the oldest."""
    given = {
        "XDSDocumentEntryPatientId": [[str(patient)]],
        "XDSDocumentEntryStatus": [[STATUS_PREFIX + AvailabilityStatus.APPROVED]],
    }
    shape = _SHAPES["FindDocuments"]
    return StoredQuery("FindDocuments", shape.question, shape.parameters(given), patient)


def write_stored_query(name: str, parameters: Mapping[str, Sequence[str]], *, leaf: bool = True) -> bytes:
    """A ``query:AdhocQueryRequest``; several values of a parameter are alternatives, an empty one is left out."""
    slots = [
        f'<rim:Slot name="${parameter}"><rim:ValueList><rim:Value>{text(_write_value(name, parameter, values))}'
        "</rim:Value></rim:ValueList></rim:Slot>"
        for parameter, values in parameters.items()
        if values
    ]
    return (
        f'<query:AdhocQueryRequest xmlns:query="{QUERY}" xmlns:rim="{RIM}">'
        f'<query:ResponseOption returnComposedObjects="true" returnType="{"LeafClass" if leaf else "ObjectRef"}"/>'
        f'<rim:AdhocQuery id="{_TABLE[name]["id"]}">{"".join(slots)}</rim:AdhocQuery></query:AdhocQueryRequest>'
    ).encode()


def _write_value(name: str, parameter: str, values: Sequence[str]) -> str:
    row = _PARAMETERS[name].get(parameter) or _OF_ALL[parameter]
    quoted = ["'" + value.replace("'", "''") + "'" for value in values]
    if row.get("many"):
        return f"({','.join(quoted)})"
    [value] = quoted
    return value


# From the parameters of the standard to those of the statements --------------------------------------------------


def _flat(given: Mapping[str, Groups], name: str) -> list[str] | None:
    groups = given.get(name)
    return None if groups is None else [v for group in groups for v in group]


def _patterns(given: Mapping[str, Groups], name: str) -> list[str] | None:
    """Values with the wildcards % and _; a backslash, as HL7 v2 escapes have it, stands for itself."""
    values = _flat(given, name)
    return None if values is None else [v.replace("\\", "\\\\") for v in values]


def _all_of(given: Mapping[str, Groups], name: str) -> list[str] | None:
    """AND of ORs as the statements take it: each group joined by the unit separator."""
    groups = given.get(name)
    return None if groups is None else [_GROUP_SEPARATOR.join(group) for group in groups]


def _time(given: Mapping[str, Groups], name: str) -> str | None:
    groups = given.get(name)
    return None if groups is None else groups[0][0] + _FILL[len(groups[0][0]) :]


def _statuses(given: Mapping[str, Groups], name: str) -> list[str]:
    found = [availability_status(v) for v in _flat(given, name) or ()]
    return [s.value[0] for s in found if s is not None]


def _entry_types(given: Mapping[str, Groups]) -> list[str]:
    types = _flat(given, "XDSDocumentEntryType")
    excluded = _flat(given, "XDSDocumentEntryTypeExclude")
    if excluded is not None:
        return sorted({*_ENTRY_TYPE_LETTER.values()} - {_ENTRY_TYPE_LETTER[t] for t in excluded})
    # Without the parameter only stable entries are asked for (ITI TF-2:3.18.4.1.2.3.7.1).
    return ["S"] if types is None else [_ENTRY_TYPE_LETTER[t] for t in types]


def _any_entry_type(given: Mapping[str, Groups]) -> list[str]:
    types = _flat(given, "XDSDocumentEntryType")
    return ["S", "O"] if types is None else [_ENTRY_TYPE_LETTER[t] for t in types]


def _patient(given: Mapping[str, Groups], name: str) -> dict[str, str]:
    if name not in given:  # a query for several patients that names none
        return {"authority": "", "value": ""}
    found = patient_id(given[name][0][0])
    assert found is not None  # noqa: S101 - the kind "cx" was checked
    return {"authority": found.authority, "value": found.value}


def _uuids(given: Mapping[str, Groups], *names: str) -> list[str]:
    return [v[9:] for name in names for v in _flat(given, name) or ()]


def _find_documents(given: Mapping[str, Groups]) -> dict[str, Any]:
    parameters: dict[str, Any] = {
        **_patient(given, "XDSDocumentEntryPatientId"),
        "status": _statuses(given, "XDSDocumentEntryStatus"),
        "entry_type": _entry_types(given),
    }
    if given.keys() <= _STATUS_AND_TYPE:
        return {**_NO_FILTERS, **parameters}
    return {
        **parameters,
        "class_code": _flat(given, "XDSDocumentEntryClassCode"),
        "type_code": _flat(given, "XDSDocumentEntryTypeCode"),
        "format_code": _flat(given, "XDSDocumentEntryFormatCode"),
        "practice_setting_code": _flat(given, "XDSDocumentEntryPracticeSettingCode"),
        "healthcare_facility_type_code": _flat(given, "XDSDocumentEntryHealthcareFacilityTypeCode"),
        "creation_from": _time(given, "XDSDocumentEntryCreationTimeFrom"),
        "creation_to": _time(given, "XDSDocumentEntryCreationTimeTo"),
        "service_start_from": _time(given, "XDSDocumentEntryServiceStartTimeFrom"),
        "service_start_to": _time(given, "XDSDocumentEntryServiceStartTimeTo"),
        "service_stop_from": _time(given, "XDSDocumentEntryServiceStopTimeFrom"),
        "service_stop_to": _time(given, "XDSDocumentEntryServiceStopTimeTo"),
        "author_person": _patterns(given, "XDSDocumentEntryAuthorPerson"),
        "confidentiality_code": _all_of(given, "XDSDocumentEntryConfidentialityCode"),
        "event_code_list": _all_of(given, "XDSDocumentEntryEventCodeList"),
        "reference_id_list": _all_of(given, "XDSDocumentEntryReferenceIdList"),
        "title": _patterns(given, "XDSDocumentEntryTitle"),
        "author_institution": _patterns(given, "XDSDocumentEntryAuthorInstitution"),
        "class_code_exclude": _flat(given, "XDSDocumentEntryClassCodeExclude"),
        "type_code_exclude": _flat(given, "XDSDocumentEntryTypeCodeExclude"),
        "format_code_exclude": _flat(given, "XDSDocumentEntryFormatCodeExclude"),
        "practice_setting_code_exclude": _flat(given, "XDSDocumentEntryPracticeSettingCodeExclude"),
        "healthcare_facility_type_code_exclude": _flat(given, "XDSDocumentEntryHealthcareFacilityTypeCodeExclude"),
        "author_person_exclude": _patterns(given, "XDSDocumentEntryAuthorPersonExclude"),
        "confidentiality_code_exclude": _all_of(given, "XDSDocumentEntryConfidentialityCodeExclude"),
        "event_code_list_exclude": _all_of(given, "XDSDocumentEntryEventCodeListExclude"),
        "reference_id_list_exclude": _all_of(given, "XDSDocumentEntryReferenceIdListExclude"),
    }


_NO_FILTERS: dict[str, None] = dict.fromkeys(
    (
        "class_code",
        "type_code",
        "format_code",
        "practice_setting_code",
        "healthcare_facility_type_code",
        "creation_from",
        "creation_to",
        "service_start_from",
        "service_start_to",
        "service_stop_from",
        "service_stop_to",
        "author_person",
        "confidentiality_code",
        "event_code_list",
        "reference_id_list",
        "title",
        "author_institution",
        "class_code_exclude",
        "type_code_exclude",
        "format_code_exclude",
        "practice_setting_code_exclude",
        "healthcare_facility_type_code_exclude",
        "author_person_exclude",
        "confidentiality_code_exclude",
        "event_code_list_exclude",
        "reference_id_list_exclude",
    )
)


def _find_submission_sets(given: Mapping[str, Groups]) -> dict[str, Any]:
    return {
        **_patient(given, "XDSSubmissionSetPatientId"),
        "status": _statuses(given, "XDSSubmissionSetStatus"),
        "source_id": _flat(given, "XDSSubmissionSetSourceId"),
        "submission_from": _time(given, "XDSSubmissionSetSubmissionTimeFrom"),
        "submission_to": _time(given, "XDSSubmissionSetSubmissionTimeTo"),
        "content_type_code": _flat(given, "XDSSubmissionSetContentType"),
        "author_person": _patterns(given, "XDSSubmissionSetAuthorPerson"),
    }


def _find_folders(given: Mapping[str, Groups]) -> dict[str, Any]:
    return {
        **_patient(given, "XDSFolderPatientId"),
        "status": _statuses(given, "XDSFolderStatus"),
        "updated_from": _time(given, "XDSFolderLastUpdateTimeFrom"),
        "updated_to": _time(given, "XDSFolderLastUpdateTimeTo"),
        "code_list": _all_of(given, "XDSFolderCodeList"),
    }


def _get_all(given: Mapping[str, Groups]) -> dict[str, Any]:
    return {
        **_patient(given, "patientId"),
        "document_status": _statuses(given, "XDSDocumentEntryStatus"),
        "set_status": _statuses(given, "XDSSubmissionSetStatus"),
        "folder_status": _statuses(given, "XDSFolderStatus"),
        "entry_type": _entry_types(given),
        "format_code": _flat(given, "XDSDocumentEntryFormatCode"),
        "confidentiality_code": _all_of(given, "XDSDocumentEntryConfidentialityCode"),
    }


def _objects(kind: str, noun: str) -> Callable[[Mapping[str, Groups]], dict[str, Any]]:
    def parameters(given: Mapping[str, Groups]) -> dict[str, Any]:
        return {
            "kind": kind,
            "uuids": _uuids(given, f"{noun}EntryUUID"),
            "unique_ids": _flat(given, f"{noun}UniqueId") or [],
            "logical_ids": _uuids(given, f"{noun}LogicalID"),
        }

    return parameters


def _get_associations(given: Mapping[str, Groups]) -> dict[str, Any]:
    return {"uuids": _uuids(given, "uuid")}


def _get_documents_and_associations(given: Mapping[str, Groups]) -> dict[str, Any]:
    return {
        "uuids": _uuids(given, "XDSDocumentEntryEntryUUID"),
        "unique_ids": _flat(given, "XDSDocumentEntryUniqueId") or [],
    }


def _get_submission_sets(given: Mapping[str, Groups]) -> dict[str, Any]:
    return {"kind": "S", "uuids": _uuids(given, "uuid"), "unique_ids": []}


def _get_folders_for_document(given: Mapping[str, Groups]) -> dict[str, Any]:
    return {"kind": "F", **_get_documents_and_associations(given)}


def _contents(kind: str, noun: str) -> Callable[[Mapping[str, Groups]], dict[str, Any]]:
    def parameters(given: Mapping[str, Groups]) -> dict[str, Any]:
        return {
            "kind": kind,
            "uuids": _uuids(given, f"{noun}EntryUUID"),
            "unique_ids": _flat(given, f"{noun}UniqueId") or [],
            "entry_type": _any_entry_type(given),
            "format_code": _flat(given, "XDSDocumentEntryFormatCode"),
            "confidentiality_code": _all_of(given, "XDSDocumentEntryConfidentialityCode"),
        }

    return parameters


def _get_related(given: Mapping[str, Groups]) -> dict[str, Any]:
    types: Sequence[AssociationType] = [ASSOCIATION_TYPE_OF[t] for t in _flat(given, "AssociationTypes") or ()]
    return {
        **_get_documents_and_associations(given),
        "types": [t.value for t in types],
        "entry_type": _any_entry_type(given),
    }


class _Shape(NamedTuple):
    question: str  # statement in storage/sql/registry.sql
    parameters: Callable[[Mapping[str, Groups]], dict[str, Any]]
    patient: str = ""  # the parameter that names the patient
    # Of a query for several patients: the statement that finds whom it may be about when it names nobody.
    candidates: str = ""


_SHAPES = {
    "FindDocuments": _Shape("find_documents", _find_documents, "XDSDocumentEntryPatientId"),
    "FindDocumentsByReferenceId": _Shape("find_documents", _find_documents, "XDSDocumentEntryPatientId"),
    "FindDocumentsByTitle": _Shape("find_documents", _find_documents, "XDSDocumentEntryPatientId"),
    "FindDocumentsExclude": _Shape("find_documents", _find_documents, "XDSDocumentEntryPatientId"),
    "FindDocumentsForMultiplePatients": _Shape(
        "find_documents", _find_documents, "XDSDocumentEntryPatientId", "patients_of_documents"
    ),
    "FindDocumentsByReferenceIdForMultiplePatients": _Shape(
        "find_documents", _find_documents, "XDSDocumentEntryPatientId", "patients_of_documents"
    ),
    "FindFoldersForMultiplePatients": _Shape(
        "find_folders", _find_folders, "XDSFolderPatientId", "patients_of_folders"
    ),
    "FindSubmissionSets": _Shape("find_submission_sets", _find_submission_sets, "XDSSubmissionSetPatientId"),
    "FindFolders": _Shape("find_folders", _find_folders, "XDSFolderPatientId"),
    "GetAll": _Shape("get_all", _get_all, "patientId"),
    "GetDocuments": _Shape("get_objects", _objects("D", "XDSDocumentEntry")),
    "GetFolders": _Shape("get_objects", _objects("F", "XDSFolder")),
    "GetAssociations": _Shape("get_associations", _get_associations),
    "GetDocumentsAndAssociations": _Shape("get_documents_and_associations", _get_documents_and_associations),
    "GetSubmissionSets": _Shape("get_containers", _get_submission_sets),
    "GetSubmissionSetAndContents": _Shape("get_contents", _contents("S", "XDSSubmissionSet")),
    "GetFolderAndContents": _Shape("get_contents", _contents("F", "XDSFolder")),
    "GetFoldersForDocument": _Shape("get_containers", _get_folders_for_document),
    "GetRelatedDocuments": _Shape("get_related", _get_related),
}

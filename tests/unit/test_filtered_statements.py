"""Every statement that shows objects of the registry, or documents, takes the filter; the others are named here."""

from __future__ import annotations

import re
from importlib.resources import files
from pathlib import Path

import pytest

from obieg.domain.sight import EVERYTHING, NOTHING, Sight
from obieg.storage.statements import load

_SHOWS = re.compile(
    r"\b(?:FROM|JOIN)\s+(?:document_entry|folder|submission_set|association|registry_object|stored_document|fhir_rendering)\b"
)
_FILTER = {"permitted", "filter"}
# What does not show anything to whoever asks: it judges or carries out what is registered, changed and removed, is asked by
# the node itself or by its operator, or only finds whom a question is about.
_UNFILTERED = {
    "registry.sql": {
        "registration_objects", "registration_unique_ids", "registration_folders", "folder_with_members",
        "deprecate_entries", "expect_approved", "expect_latest_snapshot", "patients_of_documents", "patients_of_folders",
    },
    "documents_search.sql": {"insert_rendering"},
    "repository.sql": {"lock_documents", "drop_pending_documents"},
    "documents.sql": {"documents_total", "documents_page", "document_place", "segments_in_use", "objects_in_use"},
    "lifecycle.sql": {
        "lifecycle_objects", "stored_hashes", "expect_association_count", "expect_ends", "expect_no_association",
        "keep_last_entries", "delete_objects", "renew_newest_entries", "renew_newest_folders", "removable_documents", "authors_of_documents",
        "remove_documents", "history_objects", "history_relations",
    },
    "emergency.sql": {"log_sources"},
    "located.sql": {"document_facts"},
    "patient_portal.sql": {"count_own_documents", "is_own_document"},
    "person.sql": {
        "person_documents", "person_submission_sets", "person_folders", "person_associations", "person_contents",
        "contents_of",
    },
    "retention.sql": {"retention_objects", "retention_persons", "retention_page"},
}  # fmt: skip
# Of people, of the node's own work, and the inbox of XDR, which no transaction shows.
_OTHERS = {"inbox.sql", "links.sql", "rerender.sql", "patients.sql", "bulk.sql", "operations.sql"}
_FILES = sorted(f.name for f in files("obieg.storage").joinpath("sql").iterdir() if f.name.endswith(".sql"))


@pytest.mark.parametrize("name", [n for n in _FILES if n not in _OTHERS])
def test_what_shows_objects_takes_the_filter(name: str) -> None:
    exempt = _UNFILTERED.get(name, set())
    seen = set()
    for statement in load(name):
        if _SHOWS.search(statement.text) is None:
            continue
        seen.add(statement.name)
        taken = _FILTER.intersection(statement.parameters)
        assert taken == (set() if statement.name in exempt else _FILTER), statement.name
        assert (statement.plain is None) == (statement.name in exempt), statement.name
    assert exempt <= seen, "this names what is not there"


@pytest.mark.parametrize("name", _FILES)
def test_what_hides_nothing_is_the_same_without_the_filter(name: str) -> None:
    for statement in load(name):
        if statement.plain is None:
            assert _FILTER.isdisjoint(statement.parameters), statement.name
            continue
        assert set(statement.plain.parameters) == set(statement.parameters) - _FILTER, statement.name
        rest = iter(statement.text.splitlines())
        assert all(line in rest for line in statement.plain.text.splitlines()), statement.name


def test_only_who_may_see_everything_is_asked_without_the_filter() -> None:
    statement = load("registry.sql").find_document_ids
    asked = dict.fromkeys(statement.plain.parameters)
    assert statement.seen(EVERYTHING, **asked).statement is statement.plain
    for sight in (NOTHING, Sight((1,)), Sight((1,), (1,), "[]")):
        call = statement.seen(sight, **asked)
        assert call.statement is statement
        given = dict(zip(statement.parameters, call.values, strict=True))
        assert given["permitted"] == (b"{}" if sight is NOTHING else b'{"1"}')
    for source in Path(str(files("obieg.storage"))).glob("*.py"):
        if source.name != "statements.py":
            assert ".plain" not in source.read_text("utf-8"), f"{source.name} goes round the filter"

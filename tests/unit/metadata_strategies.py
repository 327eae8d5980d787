"""Hypothesis strategies for XDS metadata: whatever ebRIM can carry, and what a registry accepts of it."""

from __future__ import annotations

from typing import Any

from hypothesis import strategies as st

from obieg.domain.attributes import DOCUMENT_ENTRY, FOLDER, SUBMISSION_SET
from obieg.domain.documents import (
    Association,
    AssociationType,
    Author,
    Code,
    DocumentEntry,
    EntryType,
    Folder,
    Slot,
    SubmissionSet,
)

# XML 1.0 section 2.2, and a preference for what breaks naive writers.
_CHARACTERS = st.one_of(
    st.sampled_from("\"'<>&;\t\n\r ]\\/{}%_^~ąćęłńóśźżŁ\u00a0\u0085\u2028\u200b\ufffd😀"),
    st.characters(min_codepoint=0x20, exclude_categories=("Cs",), exclude_characters="\ufffe\uffff"),
)
_XML_CHARACTERS = _CHARACTERS.filter(lambda c: not ("\x00" <= c < "\x20" and c not in "\t\n\r"))
texts = st.text(_XML_CHARACTERS, min_size=1, max_size=30)
# Values are trimmed when they are read, as ebRIM writers indent them.
values = texts.map(str.strip).filter(bool)
languages = st.sampled_from(["", "pl-PL", "en", "de-AT"])
localized = st.lists(st.tuples(languages, texts), max_size=2).map(tuple)
_KNOWN_SLOTS = {row.key for table in (DOCUMENT_ENTRY, SUBMISSION_SET, FOLDER) for row in table}
slots = st.lists(
    st.builds(Slot, name=texts.map("urn:".__add__), values=st.lists(values, max_size=3).map(tuple)),
    max_size=2,
    unique_by=lambda s: s.name,
).filter(lambda found: not any(s.name in _KNOWN_SLOTS for s in found)).map(tuple)  # fmt: skip
codes = st.builds(Code, code=values, scheme=values, display=localized)
many_values = st.lists(values, max_size=3).map(tuple)
authors = st.builds(
    Author,
    person=many_values,
    institution=many_values,
    role=many_values,
    specialty=many_values,
    telecommunication=many_values,
    extra=slots,
)
ids = st.one_of(st.uuids().map("urn:uuid:{}".format), values)


def _fields(table: Any, **given: Any) -> dict[str, Any]:
    """A strategy for every field of a table, unless ``given``."""
    fields: dict[str, Any] = {}
    for row in table:
        if row.carrier == "author":
            fields[row.field] = st.lists(authors, max_size=2).map(tuple)
        elif row.carrier == "code":
            fields[row.field] = st.lists(codes, max_size=2).map(tuple) if row.many else st.none() | codes
        elif row.carrier in ("name", "description"):
            fields[row.field] = localized
        elif row.carrier == "xml":
            fields[row.field] = values
        else:
            fields[row.field] = many_values if row.many else st.none() | values
    return {**fields, "entry_uuid": ids, "extra": slots, "limited_metadata": st.booleans(), **given}


homes = st.none() | values
entries = st.builds(
    DocumentEntry,
    **_fields(
        DOCUMENT_ENTRY,
        entry_type=st.sampled_from(EntryType),
        logical_id=ids,
        version=st.integers(1, 99),
        home_community_id=homes,
    ),
)
submission_sets = st.builds(SubmissionSet, **_fields(SUBMISSION_SET, home_community_id=homes))
folders = st.builds(
    Folder,
    **_fields(FOLDER, logical_id=ids, version=st.integers(1, 99), last_update_time=values, home_community_id=homes),
)
associations = st.builds(
    Association,
    entry_uuid=ids,
    type=st.sampled_from(AssociationType),
    source=ids,
    target=ids,
    submission_set_status=st.none() | values,
    documentation=st.none() | codes,
    home_community_id=homes,
    extra=slots,
)

# What a registry accepts: the formats of ITI TF-3 where there are any, anything where there are none.

_digits = st.integers(1, 10**9).map(str)
oids = _digits.map("2.25.{}".format)
times = st.datetimes().flatmap(
    lambda t: st.sampled_from([4, 6, 8, 10, 12, 14]).map(
        lambda n: f"{t.year:04}{t.month:02}{t.day:02}{t.hour:02}{t.minute:02}{t.second:02}"[:n]
    )
)
names = texts.map(lambda t: " ".join(t.replace("^", " ").split())).filter(bool)
_valid_authors = st.builds(
    Author,
    person=names.map(lambda n: (f"^{n}",)),
    institution=many_values,
    role=many_values,
    specialty=many_values,
    telecommunication=many_values,
    extra=slots,
)
valid_authors = st.lists(_valid_authors, max_size=2).map(tuple)
valid_entry_fields = st.fixed_dictionaries(
    {
        "mime_type": st.just("text/xml"),
        "author": valid_authors,
        "class_code": codes,
        "type_code": codes,
        "format_code": codes,
        "healthcare_facility_type_code": codes,
        "practice_setting_code": codes,
        "confidentiality_code": st.lists(codes, min_size=1, max_size=2).map(tuple),
        "event_code_list": st.lists(codes, max_size=2).map(tuple),
        "creation_time": times,
        "service_start_time": st.none() | times,
        "language_code": st.just("pl-PL"),
        "legal_authenticator": st.none() | names.map("^{}".format),
        "source_patient_id": names.map(lambda n: f"{n}^^^&1.2.3&ISO"),
        "source_patient_info": st.lists(names.map("PID-5|{}".format), max_size=2).map(tuple),
        "reference_id_list": st.lists(names.map(lambda n: f"{n}^^^^urn:x"), max_size=2).map(tuple),
        "repository_unique_id": oids,
        "size": _digits,
        "hash": st.binary(min_size=20, max_size=20).map(bytes.hex),
        "title": st.tuples(st.tuples(languages, texts)),
        "comments": st.lists(st.tuples(languages, texts), max_size=1).map(tuple),
        "extra": slots,
    }
)
valid_set_fields = st.fixed_dictionaries(
    {
        "source_id": oids,
        "submission_time": times,
        "content_type_code": codes,
        "author": valid_authors,
        "title": localized.map(lambda v: v[:1]),
        "comments": localized.map(lambda v: v[:1]),
        "extra": slots,
    }
)
valid_folder_fields = st.fixed_dictionaries(
    {
        "code_list": st.lists(codes, min_size=1, max_size=2).map(tuple),
        "title": st.tuples(st.tuples(languages, texts)),
        "comments": localized.map(lambda v: v[:1]),
        "extra": slots,
    }
)

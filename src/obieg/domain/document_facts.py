"""What access is decided by, of what the metadata of a document say (docs/access.md, Document)."""

from __future__ import annotations

from obieg.codes.load import toml
from obieg.domain.access import DocumentFacts
from obieg.domain.documents import Author, Code, DocumentEntry, SubmissionSet
from obieg.domain.identifiers import organisation_identifier, person_identifier, reference_identifier

_LEVELS = frozenset("NRV")  # of confidentiality
_ENCOUNTER: str = toml("mhd.toml")["encounter"]


def authors(of: tuple[Author, ...]) -> tuple[str, ...]:
    """The persons and organisations that have identifiers."""
    people = (person_identifier(p) for a in of for p in a.person)
    organisations = (organisation_identifier(o) for a in of for o in a.institution)
    return tuple(i for i in dict.fromkeys((*people, *organisations)) if i)


def labels(codes: tuple[Code, ...]) -> tuple[str, ...]:
    """The codes alone; N where no confidentiality is among them."""
    found = tuple(code.code for code in codes)
    return found if _LEVELS.intersection(found) else (*found, "N")


def encounters(references: tuple[str, ...]) -> tuple[str, ...]:
    """The encounters in a referenceIdList."""
    found = map(reference_identifier, references)
    return tuple(identifier for identifier, kind in found if identifier and kind == _ENCOUNTER)


def written_by(described: DocumentEntry | SubmissionSet) -> DocumentFacts:
    """As far as it is asked whose it is."""
    return DocumentFacts(described.entry_uuid, authors=authors(described.author))

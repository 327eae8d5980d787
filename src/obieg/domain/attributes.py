"""The tables of XDS attributes (``codes/document_entry.toml`` and its siblings), read once into rows."""

from __future__ import annotations

from typing import Literal

import msgspec

from obieg.codes.load import toml

Carrier = Literal["slot", "code", "author", "external_identifier", "xml", "name", "description"]


class Attribute(msgspec.Struct, frozen=True, rename={"carrier": "in"}):
    """One row; see the comment at the top of ``codes/document_entry.toml`` for the columns."""

    name: str
    field: str
    section: str
    carrier: Carrier
    kind: str
    min: int
    max: int  # 0: any number, -1: none
    key: str = ""
    display: str = ""
    provide_min: int | None = None
    limited_min: int | None = None
    recipient_limited_min: int | None = None
    on_demand_min: int | None = None
    on_demand_max: int | None = None
    fixed: bool = False
    fhir: str = ""
    cda: str = ""

    @property
    def many(self) -> bool:
        """Whether the field holds a tuple of values."""
        return self.max == 0


def lacks_full_metadata(value: object, table: tuple[Attribute, ...]) -> bool:
    """Whether a value is missing that only limited metadata may leave out (ITI TF-3 Table 4.3.1-3)."""
    return any(row.min and row.limited_min == 0 and not getattr(value, row.field) for row in table)


def _table(name: str) -> tuple[Attribute, ...]:
    return tuple(msgspec.convert(toml(name)["attribute"], list[Attribute]))


DOCUMENT_ENTRY = _table("document_entry.toml")
SUBMISSION_SET = _table("submission_set.toml")
FOLDER = _table("folder.toml")

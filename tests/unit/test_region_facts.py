"""What everybody may know of a region."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from obieg.actors.region_facts import RegionFacts
from obieg.domain.operating import DatabaseState, Institution, SealingState
from obieg.domain.problems import RetryLater

NOW = datetime(2026, 11, 22, 12, tzinfo=UTC)
CELL, ENTITY = "2.16.840.1.113883.3.4424.2.3.3", "2.16.840.1.113883.3.4424.2.3.1"
WARDS = [
    Institution(f"{CELL}#000000000001-001", "Oddział chirurgii", 9, NOW - timedelta(5), ("00.20^^x",)),
    Institution(f"{CELL}#000000000001-002", "Oddział wewnętrzny", 7, NOW - timedelta(9), ("00.40^^x", "00.20^^x")),
    Institution("", "Ambulatorium", 1, NOW, ()),
    Institution("1.2.3#4", "Gabinet", 1, NOW, ()),
]


class Store:
    def __init__(self) -> None:
        self.asked = 0
        self.down = False
        self.leader, self.age = True, 3.0

    async def institutions(self) -> list[Institution]:
        self.asked += 1
        if self.down:
            raise RetryLater("away")
        return WARDS

    async def database(self) -> DatabaseState:
        self.asked += 1
        if self.down:
            raise RetryLater("away")
        return DatabaseState("17", 1, 1, self.leader, "", 0, 0, 0, 0, 0)

    async def sealing(self) -> SealingState:
        return SealingState(self.age, 0)


class Directory:
    def __init__(self, **resources: dict[str, Any]) -> None:
        self.by_number = resources

    async def organisations(self, numbers: Any) -> dict[str, Any]:
        return {number: self.by_number.get(number, {}) for number in numbers}

    async def resources(self, names: Any) -> dict[str, Any]:
        return {name: self.by_number[name] for name in names if name in self.by_number}


def facts(store: Store, directory: Directory | None = None) -> tuple[RegionFacts, list[datetime]]:
    clock = [NOW]
    return RegionFacts(store, directory, now=lambda: clock[0]), clock  # type: ignore[arg-type]


async def test_wards_are_their_hospital() -> None:
    hospital = {"id": "h", "name": "Szpital Miejski", "address": [{"city": "Łódź"}]}
    asked, _ = facts(Store(), Directory(**{f"{ENTITY}#000000000001": hospital}))
    found = await asked.facilities()
    assert [one.name for one in found] == ["Ambulatorium", "Gabinet", "Szpital Miejski"]
    assert (found[2].city, found[2].since, found[2].kinds) == ("Łódź", NOW - timedelta(9), ("00.20^^x", "00.40^^x"))


async def test_what_the_directory_says_is_part_of_another_is_that() -> None:
    office = {"id": "g", "name": "Gabinet 4", "partOf": {"reference": "Organization/c"}}
    clinic = {"id": "c", "name": "Przychodnia", "partOf": {"reference": "Organization/gone"}}
    asked, _ = facts(Store(), Directory(**{"1.2.3#4": office, "Organization/c": clinic}))
    assert "Przychodnia" in [one.name for one in await asked.facilities()]


async def test_without_a_directory_units_of_one_number_are_one() -> None:
    asked, _ = facts(Store())
    assert [one.name for one in await asked.facilities()] == ["Ambulatorium", "Gabinet", "Oddział chirurgii"]


async def test_visitors_do_not_reach_the_database() -> None:
    store = Store()
    asked, clock = facts(store)
    for _ in range(5):
        await asked.facilities()
    assert store.asked == 1
    clock[0] += timedelta(minutes=6)
    store.down = True
    assert await asked.facilities()  # what was known
    assert store.asked == 2
    nothing, _ = facts(store)
    with pytest.raises(RetryLater):
        await nothing.facilities()


async def test_status() -> None:
    store = Store()
    asked, clock = facts(store)
    assert (await asked.status()).state == "well"
    store.leader = False
    assert (await asked.status()).state == "well"  # as of the last minute
    clock[0] += timedelta(seconds=61)
    assert (await asked.status()).state == "hindered"
    store.leader, store.age = True, 301.0
    clock[0] += timedelta(seconds=61)
    assert (await asked.status()).state == "hindered"
    store.down = True
    clock[0] += timedelta(seconds=61)
    assert (await asked.status()).state == "down"

"""The directory: identifiers of Polish registers, what a resource is found by, rows of CSV."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from stdnum.pl import nip, regon

from obieg.codes.load import toml
from obieg.domain.directory import identifier
from obieg.domain.names import fold
from obieg.domain.problems import Finding, Problem
from obieg.mapping.directory_csv import Row, read_header, read_row
from obieg.mapping.directory_terms import KINDS, index, instant, lookup
from obieg.mapping.fhir_parameters import search
from obieg.ops.people import facilities
from obieg.protocol import FhirRequest
from obieg.wire.fhir_elements import check

ROOTS = toml("national/pl/pik.toml")["roots"]


# identifiers ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("kind", "written", "kept"), [
    ("entity", "4711", "000000004711"),
    ("entity", "000000004711", "000000004711"),
    ("unit", "4711-01", "000000004711-01"),
    ("cell", "4711-001", "000000004711-001"),
    ("npwz_physician", "5425740", "5425740"),
    ("npwz_nurse", "1234567p", "1234567P"),
    ("npwz_nurse", "1234567 A", "1234567A"),
    ("npwz_nurse", "7724514", "7724514"),
    ("regon9", "123-456-785", "123456785"),
    ("regon14", "12345678512347", "12345678512347"),
    ("nip", "123-456-32-18", "1234563218"),
    ("something", " as it is ", " as it is "),
])  # fmt: skip
def test_identifiers_as_they_are_kept(kind: str, written: str, kept: str) -> None:
    assert identifier(kind, written) == (kept, "")


@pytest.mark.parametrize(("kind", "written", "why"), [
    ("entity", "1234567890123", "register book"),
    ("unit", "4711", "part V"),
    ("cell", "4711-1", "part VII"),
    ("npwz_physician", "5425741", "control digit"),
    ("npwz_physician", "0425740", "the first not 0"),
    ("npwz_physician", "542574", "7 digits"),
    ("npwz_nurse", "123456", "P (nurse) or A (midwife)"),
    ("npwz_nurse", "1234567X", "P (nurse) or A (midwife)"),
    ("npwz_pharmacist", "1234567", "8 digits"),
    ("npwz_diagnostician", "123456", "5 digits"),
    ("regon9", "123456786", "control digit"),
    ("regon14", "12345678512348", "control digit"),
    ("regon14", "12345678612347", "first nine"),
    ("nip", "1234563219", "control digit"),
    ("regon9", "١٢٣٤٥٦٧٨٥", "9 digits"),
])  # fmt: skip
def test_identifiers_that_are_none(kind: str, written: str, why: str) -> None:
    kept, said = identifier(kind, written)
    assert kept == ""
    assert why in said


@given(st.integers(0, 10**6 - 1), st.integers(0, 6), st.integers(1, 9))
def test_one_wrong_digit_of_a_physicians_number_is_found(number: int, place: int, more: int) -> None:
    """Every digit but the first has another weight below eleven, so a single wrong one never passes."""
    digits = f"{number:06}"
    control = sum(w * int(d) for w, d in enumerate(digits, 1)) % 11
    if control in (0, 10):
        return
    right = f"{control}{digits}"
    assert identifier("npwz_physician", right) == (right, "")
    wrong = right[:place] + str((int(right[place]) + more) % 10) + right[place + 1 :]
    assert identifier("npwz_physician", wrong)[0] == ""


def test_facilities_of_the_demo_have_right_regons() -> None:
    for facility in facilities().values():
        assert identifier("regon9", facility.regon9) == (facility.regon9, "")
        assert identifier("regon14", facility.regon14) == (facility.regon14, "")
        assert facility.regon14.startswith(facility.regon9)


@given(st.text("0123456789", min_size=8, max_size=15))
def test_regon_and_nip_are_those_of_their_registers(text: str) -> None:
    assert (identifier("regon9", text)[1] == "") == (len(text) == 9 and regon.is_valid(text))
    assert (identifier("nip", text)[1] == "") == (len(text) == 10 and nip.is_valid(text))


# terms ---------------------------------------------------------------------------------------------------------------


def test_every_parameter_of_the_table_leads_somewhere() -> None:
    """A resource in which everything is said has a term of each parameter."""
    table = toml("fhir.toml")
    said = {
        "token": [{"system": "s", "code": "c", "value": "v"}],
        "string": ["Łódź"],
        "reference": {"reference": "Organization/1"},
        "date": [{"start": "2020"}],
    }
    for kind in KINDS:
        for name, row in table["search"][kind].items():
            if "path" not in row:
                assert name in ("_id", "_lastUpdated", "near")
                continue
            for path in row["path"].split(" "):
                resource = _holding(kind, path, said[row["type"]], table["directory"]["extensions"])
                assert f"?{name}" in index(resource).terms, (kind, name)


def _holding(kind: str, path: str, value: Any, urls: dict[str, str]) -> dict[str, Any]:
    made: Any = value
    for step in reversed(path.split(".")):
        name, _, chosen = step.rstrip("]").partition("[")
        if chosen and isinstance(made, dict):
            made = [{**made, "url": urls.get(chosen, chosen)}]
        elif chosen:
            made = [{"system": chosen, "value": "v"}]
        made = {name: made}
    return {"resourceType": kind, "id": "1", **made}


def _fits(resource: dict[str, Any], query: str) -> bool:
    """What PostgreSQL does with terms and texts, said in Python."""
    import re
    from urllib.parse import parse_qsl

    request = FhirRequest(
        interaction="search-type", resource=resource["resourceType"], parameters=tuple(parse_qsl(query))
    )
    findings: list[Finding] = []
    wanted = lookup(request.resource, search(request).criteria, "http://here/fhir", findings)
    assert not findings
    found = index(resource)
    texts = "\n".join(("", *found.texts))

    def has(text: str, prefix: bool) -> bool:
        return any(t.startswith(text) if prefix else t == text for t in found.terms)

    return (
        all(any(has(t.text, t.prefix) for t in c.any_of) is not c.negated for c in wanted.clauses)
        and all(re.search(p, texts) for p in wanted.patterns)
        and wanted.starts[0] <= found.valid_from <= wanted.starts[1]
    )


@given(st.text(min_size=1, max_size=300), st.text(max_size=20), st.integers(0, 300))
def test_a_text_is_found_by_itself_and_by_its_parts(text: str, more: str, cut: int) -> None:
    from urllib.parse import urlencode

    escaped = text.replace("\\", "\\\\").replace(",", "\\,").replace("|", "\\|").replace("$", "\\$").strip()
    if not escaped or not fold(text):
        return
    resource = {"resourceType": "Organization", "id": "1", "name": text.strip(), "alias": [more or "x"]}
    assert _fits(resource, urlencode({"name:exact": escaped}))
    assert _fits(resource, urlencode({"name": escaped}))
    if part := fold(text)[:200][cut : cut + 30].strip():
        assert _fits(resource, urlencode({"name:contains": part}))


@pytest.mark.parametrize(("text", "moment"), [
    ("2026-01-31T12:00:00Z", "2026-01-31T12:00:00.000000Z"),
    ("2026-01-31T12:00:00.123+01:00", "2026-01-31T11:00:00.123000Z"),
    ("2026-01-31", ""),
    ("2026-01-31T12:00:00", ""),
    ("2026-02-30T12:00:00Z", ""),
    ("ge2026-01-31T12:00:00Z", ""),
    ("9999-12-31T23:59:59-14:00", ""),
])  # fmt: skip
def test_instants(text: str, moment: str) -> None:
    assert instant(text) == moment


# rows ----------------------------------------------------------------------------------------------------------------


def row(header: str, cells: str) -> Row:
    return read_row(cells.split(";"), read_header(header))


def test_a_cell_and_its_service() -> None:
    said = row("Nr księgi;V;VII;VIII;nazwa;telefon", "4711;01;001;4000;Oddział;12 555")
    organization, service = said.resources
    assert organization["identifier"] == [{"system": f"urn:oid:{ROOTS['cell']}", "value": "000000004711-001"}]
    assert organization["partOf"] == {"reference": "Organization/unit-000000004711-01"}
    assert service["location"] == [{"reference": "Location/location-unit-000000004711-01"}]
    assert service["providedBy"] == {"reference": "Organization/cell-000000004711-001"}
    assert said.needs == ("unit-000000004711-01",)
    assert all(check(r) == [] for r in said.resources)


@pytest.mark.parametrize(("profession", "number", "root"), [
    ("LEK", "5425740", "npwz_physician"), ("", "5425740", "npwz_physician"), ("", "1234567A", "npwz_nurse"),
    ("PIEL", "1234567", "npwz_nurse"), ("FARM", "12345678", "npwz_pharmacist"), ("dlab", "12345", "npwz_diagnostician"),
])  # fmt: skip
def test_people(profession: str, number: str, root: str) -> None:
    said = row("zawód;npwz;nazwisko;imię", f"{profession};{number};Nowak;Anna")
    assert said.resources[0]["identifier"] == [{"system": f"urn:oid:{ROOTS[root]}", "value": number}]
    assert check(said.resources[0]) == []


@pytest.mark.parametrize(("header", "cells", "column"), [
    ("księga;nazwa;regon", "1;x;123456786", "regon"),
    ("księga;nazwa;nip", "1;x;1234563219", "nip"),
    ("npwz;nazwisko", "5425741;Nowak", "npwz"),
    ("npwz;nazwisko", "5425740;", "family"),
    ("księga;nazwa", "1;", "name"),
    ("księga;V;nazwa", ";01;x", "book"),
    ("księga;nazwa;teryt", "1;x;126", "terc"),
    ("księga;nazwa;kod pocztowy", "1;x;30901", "postal_code"),
    ("księga;nazwa;szerokość", "1;x;50.1", "latitude"),
    ("księga;V;nazwa;szerokość;długość", "1;01;x;95;20", "latitude"),
    ("księga;nazwa;adres usługi", "1;x;https://a", "endpoint_type"),
    ("księga;V;VII;VIII;nazwa", "1;01;001;40;x", "part_viii"),
    ("księga;nazwa;aktywny", "1;x;chyba", "active"),
    ("rodzaj;księga;nazwa", "sklep;1;x", "kind"),
    ("rodzaj;księga;nazwa", "jednostka;1;x", "part_v"),
    ("npwz;nazwisko;zawód", "5425740;Nowak;KOWAL", "profession"),
    ("księga;nazwa", "1;x;y", ""),
])  # fmt: skip
def test_rows_that_are_refused(header: str, cells: str, column: str) -> None:
    with pytest.raises(Problem) as refused:
        row(header, cells)
    assert column in {f.location for f in refused.value.findings}


@pytest.mark.parametrize("line", ["nazwa;ulica", "księga;nazwa;nazwa", "księga;kolor"])
def test_headers_that_are_refused(line: str) -> None:
    with pytest.raises(Problem):
        read_header(line)


def test_the_demos_rows_are_taken() -> None:
    from obieg.ops.demo_directory import rows
    from obieg.ops.people import facilities
    from obieg.ops.population import SEED

    for facility in facilities().values():
        made = list(rows(facility, SEED))
        kinds = set()
        for each in made:
            found = read_row([*each.values()], read_header(";".join(each)))
            assert all(check(resource) == [] for resource in found.resources)
            kinds |= {resource["resourceType"] for resource in found.resources}
        assert kinds == {"Organization", "Location", "HealthcareService", "Practitioner", "PractitionerRole"}

"""``obieg directory``, as an operator meets it."""

from __future__ import annotations

import json
import os

import psycopg
import pytest

import commanding

pytestmark = pytest.mark.node

HEADER = "rodzaj;księga;V;VII;VIII;nazwa;regon;npwz;nazwisko;imię;aktywny\n"
ROWS = (
    ";4711;;;;Szpital w Żółwinach;123456785;;;;\n"
    ";4711;01;;;Budynek główny;;;;;\n"
    ";4711;01;001;4000;Oddział;;;;;\n"
    ";4711;01;001;;;;5425740;Nowak;Anna;\n"
)  # makes 7 resources


class Cli:
    def __init__(self, settings, dsn, folder):
        self.settings, self.dsn, self.folder = settings, dsn, folder

    def __call__(self, *arguments, code=0):
        environment = os.environ | {"COLUMNS": "140", "OBIEG_DATABASE__DSN": self.dsn}
        done = commanding.obieg("directory", *arguments, "--settings", self.settings, environment=environment)
        assert done.returncode == code, done.stdout + done.stderr
        return done.stdout + done.stderr

    def load(self, rows, *options, code=0, header=HEADER, name="d.csv", charset="utf-8"):
        (self.folder / name).write_bytes((header + rows).encode(charset))
        [result] = json.loads(self("import", self.folder / name, "--json", *options, code=code))
        return {
            k: v for k, v in result.items() if v and k in ("created", "updated", "unchanged", "deactivated", "rejected")
        }

    def rows(self, sql):
        with psycopg.connect(self.dsn) as connection:
            return connection.execute(sql).fetchall()


@pytest.fixture
def obieg(tmp_path, database_dsn):
    commanding.obieg("init", "--role", "region", tmp_path / "node").check_returncode()
    return Cli(tmp_path / "node" / "settings.toml", database_dsn, tmp_path)


VERSIONS = "SELECT count(*), count(DISTINCT (kind, id)) FROM directory_version"


def test_an_import_again_changes_nothing(obieg):
    assert obieg.load(ROWS) == {"created": 7}
    assert obieg.load(ROWS) == {"unchanged": 7}
    lines = ROWS.splitlines(keepends=True)
    assert obieg.load("".join(reversed(lines)), charset="cp1250") == {"unchanged": 7}
    assert obieg.rows(VERSIONS) == [(7, 7)]
    assert obieg.load(ROWS.replace("Budynek główny", "Pawilon A")) == {"updated": 2, "unchanged": 5}
    assert obieg.rows(VERSIONS) == [(9, 7)]
    assert obieg.rows("SELECT count(*) FROM audit_event WHERE transaction = 'operator'") == [(2,)]


def test_what_is_not_in_the_file_is_made_inactive_on_request(obieg):
    obieg.load(ROWS)
    first = "".join(ROWS.splitlines(keepends=True)[:2])
    assert obieg.load(first) == {"unchanged": 3}
    assert obieg.load(first, "--complete", "--dry-run") == {"unchanged": 3, "deactivated": 4}
    assert obieg.rows(VERSIONS) == [(7, 7)]
    wrong = first + ";4711;01;001;4000;;;;;;\n"  # a row that is only written wrongly closes nothing
    assert obieg.load(wrong, "--complete", code=1) == {"unchanged": 3, "rejected": 1}
    (obieg.folder / "d.csv.rejected").unlink()
    assert obieg.load(first, "--complete") == {"unchanged": 3, "deactivated": 4}
    assert obieg.load(first, "--complete") == {"unchanged": 3}
    assert "inactive" in obieg("search", "Organization", "identifier=4711-001")
    assert obieg.load(ROWS, "--complete") == {"unchanged": 3, "updated": 4}
    assert "inactive" not in obieg("search", "Organization", "identifier=4711-001")


def test_rejects_say_why_and_can_be_corrected(obieg):
    bad = (
        ";4711;;;;Szpital;123456786;;;;\n"
        ';4711;01;001;;;;5425741;Nowak;"Anna\nMaria";\n'
        ";9999;01;;;Jednostka niczyja;;;;;\n"
        ";1;2\n"
    )
    assert obieg.load(ROWS + bad, code=1) == {"created": 7, "rejected": 4}
    rejected = (obieg.folder / "d.csv.rejected").read_text()
    assert rejected.startswith(HEADER)
    assert "# line 6: regon: '123456786': the control digit is wrong\n;4711;;;;Szpital;123456786" in rejected
    assert "# line 7: npwz: '5425741': the control digit, the first one, is wrong" in rejected
    assert "# line 9: no entity 000000009999 is in this file or in the directory" in rejected
    assert "# line 10: the row has 3 cells and the header 11 columns" in rejected
    assert "exists" in obieg("import", obieg.folder / "d.csv", code=1)
    correct = rejected.replace("123456786", "123456785").replace("5425741", "5425740").replace(";9999;01;", ";9999;;")
    (obieg.folder / "again.csv").write_text(correct.replace("Szpital;", "Szpital w Żółwinach;").replace(";1;2\n", ""))
    [done] = json.loads(obieg("import", obieg.folder / "again.csv", "--json"))
    # Anna Maria is not the Anna of the first file: said anew, the name is changed.
    assert done["rejected"] == 0


def test_one_thing_is_said_once_in_a_file(obieg):
    twice = ROWS + ";4711;01;;;Inna nazwa;;;;;\n"
    assert obieg.load(twice, code=1) == {"created": 7, "rejected": 1}
    assert "line 3 says something else of Organization/unit-000000004711-01" in (
        obieg.folder / "d.csv.rejected").read_text()  # fmt: skip


def test_a_source_changes_only_what_is_its_own(obieg):
    obieg.load(ROWS, "--source", "RPWDL")
    other = ROWS.replace("Oddział", "Klinika")
    assert obieg.load(other, "--source", "szpital", code=1)["rejected"] == 1
    assert "import it with --source RPWDL" in (obieg.folder / "d.csv.rejected").read_text()
    (obieg.folder / "d.csv.rejected").unlink()
    assert obieg.load("npwz;nazwisko\n1234567P;Lis\n", "--source", "izba", "--complete", header="", name="n.csv") == {
        "created": 1}  # fmt: skip


def test_bundles_and_their_references(obieg):
    organization = {
        "resourceType": "Organization",
        "name": "Z paczki",
        "identifier": [{"system": "urn:x", "value": "1"}],
    }
    location = {"resourceType": "Location", "id": "l1", "managingOrganization": {"reference": "urn:uuid:a"}}
    bundle = {"resourceType": "Bundle", "type": "collection", "entry": [
        {"fullUrl": "urn:uuid:a", "resource": organization},
        {"fullUrl": "urn:uuid:b", "resource": location},
        {"resource": {"resourceType": "Patient", "id": "p"}},
        {"resource": {"resourceType": "Practitioner", "id": "x", "identifier": [
            {"system": "urn:oid:2.16.840.1.113883.3.4424.1.6.2", "value": "5425741"}]}},
        {"resource": {"resourceType": "Endpoint", "id": "e", "status": "active"}},
    ]}  # fmt: skip
    for name, text in (("a.json", json.dumps(bundle, indent=2)), ("b.ndjson", json.dumps(bundle))):
        (obieg.folder / name).write_text(text)
    [done] = json.loads(obieg("import", obieg.folder / "a.json", "--json", code=1))
    assert (done["created"], done["rejected"]) == (2, 3)
    reasons = " ".join(r["reason"] for r in done["first_rejects"])
    for said in ("Patient is no resource of the directory", "control digit", "Endpoint.connectionType"):
        assert said in reasons
    [again] = json.loads(obieg("import", obieg.folder / "b.ndjson", "--json", code=1))
    assert (again["unchanged"], again["rejected"]) == (2, 3)
    [(content,)] = obieg.rows("SELECT content FROM directory_version WHERE kind = 'Location'")
    [(id_,)] = obieg.rows("SELECT id FROM directory_version WHERE kind = 'Organization'")
    assert json.loads(content)["managingOrganization"]["reference"] == f"Organization/{id_}"


def test_looking_and_removing(obieg):
    obieg.load(ROWS)
    assert "Organization/entity-000000004711" in obieg("search", "żółwinach")
    assert "1 found" in obieg("search", "Practitioner", "family=nowak")
    assert "version 1 stored" in obieg("show", "123456785")
    exported = obieg("search", "Organization", "--json")
    (obieg.folder / "out.ndjson").write_text(exported)
    [again] = json.loads(obieg("import", obieg.folder / "out.ndjson", "--json"))
    assert again["unchanged"] == 3
    assert "no search parameter" in obieg("search", "Organization", "colour=red", code=1)
    assert "refer to it" in obieg("remove", "Practitioner/physician-5425740", code=1)
    obieg("remove", "PractitionerRole/physician-5425740-cell-000000004711-001")
    assert "was removed" in obieg("remove", "5425740")
    assert "has the identifier" in obieg("show", "5425740", code=1)
    assert "removed" in obieg("show", "Practitioner/physician-5425740")
    assert "version 2 removed" in obieg("show", "Practitioner/physician-5425740")
    assert obieg.load(ROWS) == {"created": 2, "unchanged": 5}


def test_files_that_are_none(obieg):
    obieg("import", obieg.folder / "nothing.csv", code=1)
    for name, content, said in (
        ("x.csv", "imię;kolor\n", "is not the header of a directory file"),
        ("x.json", '{"resourceType": "Bundle",\n', "is no FHIR JSON"),
        ("x.hl7", "MSH|^~\\&|A|B|C|D|2026||ADT^A04|1|P|2.5\r", "HL7 v2"),
    ):
        (obieg.folder / name).write_text(content)
        assert said in obieg("import", obieg.folder / name, code=1)

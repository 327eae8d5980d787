"""``obieg patients``: deciding who is who, as an operator meets it."""

from __future__ import annotations

import json
import os

import psycopg
import pytest

import commanding

pytestmark = pytest.mark.node

HOSPITAL, CLINIC = "1.2.616.2", "1.2.616.3"
PESEL = "44051401458"
HEADER = "id;authority;pesel;family;given;birth_date;sex;street;city;phone\n"
ROWS = (
    f"1;{HOSPITAL};{PESEL};Wójcik;Anna;1944-05-14;K;Długa 5;Łódź;601202303\n"
    f"7;{CLINIC};;Wójcik;Anna Maria;1944-05-14;K;Długa 5;Łódź;\n"
    f"2;{HOSPITAL};;Wójcik;Anna;1944-05-14;K;Długa 5;Łódź;601202303\n"  # a second number of one hospital
    f"9;{CLINIC};;Zięba;Jan;1980-02-01;M;Polna 1;Opole;\n"
)


class Cli:
    def __init__(self, settings, dsn, folder):
        self.settings, self.dsn, self.folder = settings, dsn, folder

    def __call__(self, *arguments, code=0, answer=None):
        environment = os.environ | {"COLUMNS": "140", "OBIEG_DATABASE__DSN": self.dsn}
        words = ("patients", *arguments, "--settings", self.settings)
        done = commanding.obieg(*words, environment=environment, answer=answer or "")
        assert done.returncode == code, done.stdout + done.stderr
        return done.stdout + done.stderr

    def json(self, *arguments, code=0):
        return json.loads(self(*arguments, "--json", code=code))

    def rows(self, sql):
        with psycopg.connect(self.dsn) as connection:
            return connection.execute(sql).fetchall()


@pytest.fixture
def empty(tmp_path, database_dsn):
    commanding.obieg("init", "--role", "region", tmp_path / "node").check_returncode()
    return Cli(tmp_path / "node" / "settings.toml", database_dsn, tmp_path)


@pytest.fixture
def obieg(empty):
    file = empty.folder / "people.csv"
    file.write_text(HEADER + ROWS, "utf-8")
    empty("import", file, "--by", "ewa")
    return empty


def test_an_import_says_what_became_of_it(empty):
    file = empty.folder / "people.csv"
    file.write_text(
        HEADER + ROWS + f"x;{HOSPITAL};;Zły;Jan;1980-02-31;M;;;\n3;{HOSPITAL};44051401459;Ok;Jan;;M;;;\n", "utf-8"
    )
    said = empty("import", file, code=1)
    assert "CSV in utf-8, 6 records" in said
    for line in ("4 new patients", "1 records of patients", "1 lines for the worklist", "1 rejected", "1 PESELs"):
        assert line in " ".join(said.split())
    assert "44051401459" not in said
    rejected = (empty.folder / "people.csv.rejected").read_text("utf-8").splitlines()
    assert rejected[1] == "# line 6: birth_date: this is no day of the calendar written as 1980-05-12 or 12.05.1980"
    assert rejected[2].startswith("x;1.2.616.2;;Zły")
    assert "was imported at" in empty("import", file, code=1)
    again = empty("import", file, "--again", code=1)
    assert "people.csv.rejected exists" in again


def test_every_imported_patient_is_audited(obieg):
    rows = obieg.rows("SELECT patient_id, transaction, message FROM audit_event ORDER BY audit_id")
    about = [row for row in rows if row[0]]
    assert len(about) == 4
    assert all('UserID="ewa" UserIsRequestor="true"' in message for _, _, message in about)
    assert f"1^^^&amp;{HOSPITAL}&amp;ISO" in about[0][2]
    [(_, transaction, whole)] = [row for row in rows if not row[0]]
    assert transaction == "operator"
    assert "import of people.csv, lines 2 to 5: 3 created, 1 attached, 1 worklist" in whole


def test_the_worklist_is_shown_and_decided(obieg):
    assert "1 to be decided" in obieg("worklist")
    [line] = obieg.json("worklist")
    number = line["task_id"]
    shown = obieg("worklist", "show", number)
    for text in ("Długa 5, Łódź", "facility's number", "strongly against", "different_number", f"2@{HOSPITAL}"):
        assert text in shown
    assert obieg.json("worklist", "show", number)["judgement"]["conflict"] is True
    assert "one person, by ewa" in obieg("decide", number, "same", "--note", "zadzwoniłam", "--by", "ewa")
    assert "zadzwoniłam" in obieg("worklist", "show", number)
    assert obieg.json("worklist") == []
    assert obieg.json("worklist", "--decided")[0]["decided_by"] == "ewa"
    assert "no open line" in obieg("decide", number, "same", code=1)
    obieg("decide", number, "perhaps", code=2)
    assert "There is no line 99" in obieg("worklist", "show", 99, code=1)


def test_a_pair_decided_to_be_different_stays_apart(obieg):
    [line] = obieg.json("worklist")
    obieg("decide", line["task_id"], "different")
    obieg("rematch")
    assert obieg.json("worklist") == []
    assert obieg.rows("SELECT count(*) FROM patient_link") == [(0,)]


def test_links_are_made_and_taken_back(obieg):
    said = obieg("link", PESEL, f"9@{CLINIC}", "--note", "x")
    assert f"obieg patients unlink 9@{CLINIC}" in said
    [link] = obieg.json("show", PESEL)["links"]
    assert link["reason"] == "decision"
    assert "Aborted" in obieg("unlink", f"9@{CLINIC}", code=1, answer="n\n")
    assert "Take it back?" in obieg("unlink", f"9@{CLINIC}", answer="y\n")
    assert obieg.json("show", PESEL)["links"] == []
    assert "No document went with" in (obieg("link", PESEL, f"9@{CLINIC}") and obieg("unlink", f"9@{CLINIC}", "--yes"))
    mixed = obieg.json("mixed")
    assert len(mixed) == 2
    assert "seen" in obieg.json("mixed", f"9@{CLINIC}")[0]
    assert "Nobody has read the two as one" in obieg("mixed", f"9@{CLINIC}")
    assert "linked to no other" in obieg("unlink", f"9@{CLINIC}", "--yes", code=1)
    obieg("apart", PESEL, f"9@{CLINIC}")
    assert "one patient already" in obieg("link", PESEL, f"1^^^&{HOSPITAL}&ISO", code=1)


def test_decisions_are_told_as_json(obieg):
    [line] = obieg.json("worklist")
    said = {"decided_by": "ewa", "note": "x"}
    by = ("--by", "ewa", "--note", "x")
    assert obieg.json("decide", line["task_id"], "different", *by) == {
        "task_id": line["task_id"], "decision": "different", **said,
    }  # fmt: skip
    linked = obieg.json("link", PESEL, f"9@{CLINIC}", *by)
    pair = {"a": linked["a"], "b": f"9^^^&{CLINIC}&ISO"}
    assert linked["a"].startswith(PESEL)
    assert linked == {**pair, "survivor": str(linked["survivor"]), **said}
    undone = obieg.json("unlink", f"9@{CLINIC}", "--yes")
    assert undone["survivor"] == linked["survivor"]
    assert obieg.json("apart", PESEL, f"9@{CLINIC}", *by) == {**pair, **said}


def test_explain_tells_why(obieg):
    different = obieg("explain", PESEL, f"9@{CLINIC}")
    assert "different people" in different
    assert "family name" in different
    undecided = obieg.json("explain", f"1@{HOSPITAL}", f"2@{HOSPITAL}")
    assert undecided["pairs"][0]["rule"] == "different_number"
    one = obieg("explain", PESEL, f"7@{CLINIC}")
    assert "one patient already" in one
    assert "Verdict: the same person" in one


def test_a_patient_is_shown_with_all_records(obieg):
    shown = obieg("show", PESEL)
    for text in (f"1@{HOSPITAL}", f"7@{CLINIC}", f"{HOSPITAL}|import", "Anna Maria Wójcik", "1944-05-14"):
        assert text in shown
    data = obieg.json("show", PESEL)
    assert len(data["records"]) == 2
    assert obieg.json("show", data["patient"])["patient"] == data["patient"]
    assert obieg.json("show", data["patient"].partition("^")[0])["patient"] == data["patient"]


@pytest.mark.parametrize("who", ["77@1.2.3", "77@nobody", "^^^", "90010112349"])
def test_nobody_is_told_apart_from_a_wrong_identifier(obieg, who):
    said = obieg("show", who, code=1)
    assert said.startswith("error")
    assert "now" in said


def test_accesses_are_listed(obieg):
    said = obieg("accesses", PESEL)
    assert "ewa" in said
    assert len(obieg.json("accesses", PESEL)) == 2
    assert obieg.json("accesses", PESEL, "--until", "2001-01-01") == []
    obieg("accesses", PESEL, "--since", "yesterday", code=2)


def test_rematch_finds_whom_the_feeds_missed(obieg):
    # As if the pair had been stored under rules that did not see it.
    with psycopg.connect(obieg.dsn, autocommit=True) as connection:
        connection.execute("DELETE FROM patient_task")
    assert obieg.json("rematch")["worklist"] >= 1
    [line] = obieg.json("worklist")
    assert line["judgement"]["rule"] == "different_number"
    with psycopg.connect(obieg.dsn, autocommit=True) as connection:
        connection.execute(
            "UPDATE patient_record SET authorities[1] = '1.2.616.9' WHERE authorities[1] = %s AND values[1] = '2'",
            (HOSPITAL,),
        )
        connection.execute(
            "UPDATE patient_locator SET authority = '1.2.616.9' WHERE authority = %s AND value = '2'", (HOSPITAL,)
        )
    assert obieg.json("rematch")["linked"] == 1
    assert obieg.rows("SELECT reason FROM patient_link") == [("automatic",)]
    assert obieg.json("worklist") == []
    assert obieg.json("rematch")["linked"] == 0


def test_a_rematch_that_was_interrupted_goes_on(obieg):
    with psycopg.connect(obieg.dsn, autocommit=True) as connection:
        connection.execute("DELETE FROM patient_task")
        connection.execute(
            "INSERT INTO patient_rematch (after_patient, after_record, counts, started_by)"
            " SELECT max(patient_key), 9223372036854775807, '{\"linked\": 5}', 'x' FROM patient_record"
        )
    assert obieg.json("rematch") == {"linked": 5, "worklist": 0, "resumed": True}
    assert obieg.json("rematch")["resumed"] is False


def test_weights_are_learned_from_enough_records(empty):
    assert "has 0 records" in empty("learn", code=1)
    file = empty.folder / "many.csv"
    names = ["Kowalska", "Nowak", "Wójcik", "Zięba", "Mazur"]
    rows = [f"{n};{names[n % 5]};Anna;19{n % 90 + 10}-05-{n % 28 + 1:02};K\n" for n in range(1100)]
    file.write_text("id;family;given;birth_date;sex\n" + "".join(rows), "utf-8")
    empty("import", file, "--authority", HOSPITAL)
    assert empty.json("learn")["records"] == 1100
    assert empty.rows("SELECT records FROM matching_weights") == [(1100,)]
    assert "Score" in empty("explain", f"1@{HOSPITAL}", f"2@{HOSPITAL}")


def test_columns_and_help(empty):
    assert "mother_pesel" in commanding.obieg("patients", "columns").stdout
    assert "Nothing is to be decided." in empty("worklist")
    wrong = empty.folder / "wrong.csv"
    wrong.write_text("imię;nazwisko\nJan;Kot\n", "utf-8")
    said = empty("import", wrong, code=1)
    assert "one of id, pesel and document is needed" in said


def test_a_facility_has_no_index(tmp_path, database_dsn):
    commanding.obieg("init", "--role", "facility", tmp_path / "node").check_returncode()
    said = Cli(tmp_path / "node" / "settings.toml", database_dsn, tmp_path)("worklist", code=1)
    assert "kept by the region" in said

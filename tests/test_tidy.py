"""The rules of the house that a program can check, over everything that is there."""

from __future__ import annotations

import ast
import re
from collections import Counter
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

from obieg.codes.load import toml
from obieg.storage.statements import load
from obieg.transactions import NOTIFICATIONS, TRANSACTIONS

REPOSITORY = Path(__file__).resolve().parents[1]
SOURCE = REPOSITORY / "src" / "obieg"
MODULES = sorted(p for p in SOURCE.rglob("*.py") if "__pycache__" not in p.parts)
PROBLEMS = toml("problems.toml")


def name_of(path: Path) -> str:
    return str(path.relative_to(REPOSITORY))


@cache
def tree_of(path: Path) -> ast.Module:
    return ast.parse(path.read_text("utf-8"), str(path))


def texts_of(path: Path) -> Iterator[str]:
    """All string constants of a module but its docstrings."""
    tree = tree_of(path)
    documented = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
    docstrings = {
        id(n.body[0].value)
        for n in ast.walk(tree)
        if isinstance(n, documented) and n.body and isinstance(n.body[0], ast.Expr)
    }
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in docstrings:
            yield node.value


# transactions ----------------------------------------------------------------------------------------------------


def transaction_modules() -> list[Path]:
    return sorted((SOURCE / "transactions").glob("[a-z]*.py"))


@pytest.mark.parametrize("path", transaction_modules(), ids=lambda p: p.stem)
def test_every_transaction_is_listed_and_has_fixtures(path: Path) -> None:
    match = re.fullmatch(r"([a-z]+)(\d*)_[a-z0-9_]+", path.stem)
    assert match, "a transaction is named number_then_name, or guide_then_name where its guide has no numbers"
    wanted = f"{match[1].upper()}-{int(match[2])}" if match[2] else match[1].upper()
    transaction = next((t for t in (*TRANSACTIONS, *NOTIFICATIONS) if t.id == wanted), None)
    assert transaction is not None, f"{wanted} is not in transactions/__init__.py"
    assert transaction.spec.startswith("https://")
    found = [p.name for p in (REPOSITORY / "tests" / "transactions" / f"{match[1]}{match[2]}").glob("*__*.*")]
    assert any("__valid__" in n for n in found), "no example that is valid"
    assert any("__rejected__" in n for n in found), "no example that is rejected"


def test_statements_of_all_files_have_names_of_their_own() -> None:
    """They are prepared under their names, on connections that all files share."""
    files = sorted((REPOSITORY / "src" / "obieg" / "storage" / "sql").glob("*.sql"))
    names = [statement.name for path in files for statement in load(path.name)]
    assert len(names) > 100
    assert [name for name, count in Counter(names).items() if count > 1] == []


def test_transactions_are_in_order_and_none_is_twice() -> None:
    assert len({(t.id, t.actor) for t in TRANSACTIONS}) == len(TRANSACTIONS)
    ids, begun = list(dict.fromkeys(t.id for t in TRANSACTIONS)), [n.id for n in NOTIFICATIONS]
    for listed in (ids, begun):
        assert listed == sorted(set(listed), key=lambda i: (i.partition("-")[0], int(i.partition("-")[2] or 0)))
    assert len({*ids, *begun}) == len(transaction_modules())
    events = toml("audit.toml")["event"]
    for transaction in TRANSACTIONS:
        assert transaction.event in events
        assert re.fullmatch(r"[a-z_]+:[a-z_]+:[a-z_]+", transaction.permission)
    assert {notification.event for notification in NOTIFICATIONS} <= events.keys()


def test_golden_files_belong_to_a_transaction() -> None:
    folder = REPOSITORY / "tests" / "transactions"
    prefixes = {p.stem.split("_")[0] for p in transaction_modules()}
    assert {p.name for p in folder.iterdir() if p.is_dir() and p.name != "__pycache__"} == prefixes
    for path in folder.glob("*/*__rejected__*"):
        assert path.stem.split("__")[2] in {*PROBLEMS, "SoapFault", "RetryLater"}, path.name


# problems --------------------------------------------------------------------------------------------------------


def _codes_given() -> Iterator[tuple[str, str]]:
    """(code, place) of every Finding and Problem that is made with a literal code."""
    for path in MODULES:
        for node in ast.walk(tree_of(path)):
            if not isinstance(node, ast.Call) or not node.args:
                continue
            function = node.func
            named = isinstance(function, ast.Name) and function.id == "Finding"
            made = (
                isinstance(function, ast.Attribute)
                and function.attr == "of"
                and isinstance(function.value, ast.Name)
                and function.value.id == "Problem"
            )
            first = node.args[0]
            if (named or made) and isinstance(first, ast.Constant):
                yield str(first.value), f"{name_of(path)}:{node.lineno}"


def test_every_problem_code_is_in_the_table() -> None:
    given = list(_codes_given())
    assert len(given) > 50
    assert [(code, place) for code, place in given if code not in PROBLEMS] == []


# Codes of the standard that nothing here gives yet, with what will.
_NOT_YET_GIVEN = {
    "MtomRequired": "the SOAP edge answers with a fault before there is a finding",
    "XDSExtraMetadataNotSaved": "a registry that keeps all extra metadata never warns",
    "XDSRegistryOutOfResources": "a full disk is answered as busy",
    "XDSRepositoryOutOfResources": "a full disk is answered as busy",
}


def test_every_row_of_the_table_is_used() -> None:
    used = {text for path in MODULES for text in texts_of(path)}
    unused = {code for code in PROBLEMS if code not in used} - _NOT_YET_GIVEN.keys()
    assert unused == set()
    assert {c for c in _NOT_YET_GIVEN if c in used or c not in PROBLEMS} == set(), "take these out of the list above"


@pytest.mark.parametrize("code", PROBLEMS)
def test_every_problem_says_what_it_means_everywhere(code: str) -> None:
    row = PROBLEMS[code]
    assert {"xds", "http", "fhir", "hl7", "audit", "means"} <= row.keys()
    assert row["means"].endswith(".")
    assert row["audit"] in ("0", "4", "8", "12")


# literals --------------------------------------------------------------------------------------------------------

_OID = re.compile(r"(?<![\w.:-])[0-2](?:\.\d+){4,}(?![\w.])")
_UUID = re.compile(r"urn:uuid:[0-9a-fA-F]{8}-[0-9a-fA-F]{4}-")
# Module -> the literal that may stand there, and why.
_ALLOWED_LITERALS = {
    "src/obieg/ops/settings.py": ("2.16.840.1.113883", "an example in an error message"),
}


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_identifiers_stand_in_codes(path: Path) -> None:
    if "codes" in path.relative_to(SOURCE).parts:
        return
    allowed = _ALLOWED_LITERALS.get(name_of(path), ("", ""))[0]
    found = [
        literal
        for text in texts_of(path)
        for pattern in (_OID, _UUID)
        # References to sections of the Technical Framework look like OIDs; they follow a volume and a colon.
        for literal in pattern.findall(re.sub(r"TF-\d[a-z]?:[\d.]+", "", text))
        if literal != allowed
    ]
    assert found == [], "an OID or UUID belongs into codes/"


# SQL -------------------------------------------------------------------------------------------------------------

_STATEMENT = re.compile(r"^-- name: (\w+)", re.MULTILINE)


@cache
def names_used() -> set[str]:
    """Whatever modules ask of something by name."""
    used: set[str] = set()
    for module in MODULES:
        used |= {n.attr for n in ast.walk(tree_of(module)) if isinstance(n, ast.Attribute)} | set(texts_of(module))
    return used


@pytest.mark.parametrize("path", sorted(SOURCE.rglob("*.sql")), ids=lambda p: p.name)
def test_every_statement_is_used(path: Path) -> None:
    if path.parent.name == "migrations":
        return
    names = _STATEMENT.findall(path.read_text("utf-8"))
    assert len(names) == len(set(names)) > 0
    assert [n for n in names if n not in names_used()] == []


def test_statements_say_what_they_are_for_or_are_plain() -> None:
    """SQL stands in named files only."""
    keyword = re.compile(r"\b(SELECT\s.+\sFROM|INSERT\s+INTO|UPDATE\s\w+\sSET|DELETE\s+FROM)\b", re.DOTALL)
    elsewhere = {name_of(p) for p in MODULES for text in texts_of(p) if keyword.search(text) and "ops" not in p.parts}
    assert elsewhere == set()


# words -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_modules_say_what_they_are_for(path: Path) -> None:
    tree = tree_of(path)
    if tree.body:
        assert ast.get_docstring(tree), "a module opens with one sentence on what it is for"


def _everything() -> list[Path]:
    folders = ("src", "tests", "tools", "bench", "docs", "packaging")
    found = [p for folder in folders for p in (REPOSITORY / folder).rglob("*") if p.is_file()]
    found += [p for p in REPOSITORY.iterdir() if p.is_file()]
    wanted = {".py", ".md", ".toml", ".sql", ".csv", ".txt", ".service", ".mjs", ".cfg", ""}
    return [p for p in found if p.suffix in wanted and not {"__pycache__", "node_modules"} & set(p.parts)]


def _lines() -> Iterator[tuple[str, str]]:
    for path in _everything():
        try:
            text = path.read_text("utf-8")
        except UnicodeDecodeError:
            continue
        for number, line in enumerate(text.splitlines(), 1):
            yield f"{name_of(path)}:{number}", line


def test_no_path_of_a_machine() -> None:
    """Folders of people and of build machines mean nothing elsewhere."""
    pattern = re.compile(r"(?<![\w.$}~)-])/(?:home|Users|work)/[a-z]")
    assert [(place, line.strip()[:100]) for place, line in _lines() if pattern.search(line)] == []


def test_no_work_left_without_an_issue() -> None:
    mark = re.compile(r"\b(" + "|".join(("TO" + "DO", "FIX" + "ME", "XX" + "X")) + r")\b(?!\(#\d+\))")
    found = [(place, line.strip()[:100]) for place, line in _lines() if ".py:" in place and mark.search(line)]
    assert found == []

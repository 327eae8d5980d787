"""What an attacker would look for in the code, and does not find: a second parser, SQL made of strings, loaders that run
what they load."""

from __future__ import annotations

import ast
import re
import time
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

from obieg.codes.load import toml

SOURCE = Path(__file__).resolve().parents[1] / "src" / "obieg"
MODULES = sorted(p for p in SOURCE.rglob("*.py") if "__pycache__" not in p.parts)
XML_FACTORY = SOURCE / "wire" / "xml.py"
IDS = {"ids": lambda path: str(path.relative_to(SOURCE))}

# Modules that run or build what they read, or parse XML in another way.
UNSAFE_MODULES = {
    "pickle", "marshal", "shelve", "dill", "cloudpickle", "jsonpickle", "yaml", "xml", "defusedxml", "xmltodict",
    "html5lib", "code", "codeop", "telnetlib", "ftplib",
}  # fmt: skip
# The parsers of lxml, and what reads with one; XSLT and schemas fetch what they name.
XML_PARSERS = {
    "XMLParser", "ETCompatXMLParser", "HTMLParser", "XMLPullParser", "HTMLPullParser", "fromstring", "fromstringlist",
    "XML", "HTML", "XMLID", "XMLDTDID", "parse", "parseid", "iterparse", "XSLT", "XMLSchema", "RelaxNG", "Schematron",
    "XInclude", "FunctionNamespace", "set_default_parser", "get_default_parser",
}  # fmt: skip
UNSAFE_CALLS = {"eval", "exec", "compile", "__import__"}
SHELLS = {"system", "popen", "getoutput", "getstatusoutput", "create_subprocess_shell"}
EXECUTING = {"execute", "executemany", "copy", "stream"}


@cache
def nodes(path: Path) -> tuple[ast.AST, ...]:
    return tuple(ast.walk(ast.parse(path.read_text("utf-8"), str(path))))


def calls(path: Path) -> Iterator[tuple[ast.Call, str, str]]:
    """Each call with the name of what is called and of what it is an attribute."""
    for node in nodes(path):
        if isinstance(node, ast.Call):
            if isinstance(node.func, ast.Name):
                yield node, node.func.id, ""
            elif isinstance(node.func, ast.Attribute):
                owner = node.func.value
                yield node, node.func.attr, owner.id if isinstance(owner, ast.Name) else "?"


def faults(path: Path) -> list[str]:
    found = []
    for node in nodes(path):
        if isinstance(node, ast.Import | ast.ImportFrom):
            names = [a.name for a in node.names] if isinstance(node, ast.Import) else [node.module or ""]
            found += [f"imports {name}" for name in names if name.partition(".")[0] in UNSAFE_MODULES]
            if path != XML_FACTORY and isinstance(node, ast.ImportFrom) and (node.module or "").startswith("lxml"):
                found += [
                    f"imports {a.name} of lxml" for a in node.names if a.name in XML_PARSERS | {"html", "objectify"}
                ]
    for node, name, owner in calls(path):
        if path != XML_FACTORY and owner in ("etree", "ElementTree", "html", "objectify") and name in XML_PARSERS:
            found.append(f"line {node.lineno}: {owner}.{name}")
        if owner == "" and name in UNSAFE_CALLS:
            found.append(f"line {node.lineno}: {name}")
        if (name in SHELLS and owner in ("os", "subprocess", "asyncio")) or any(
            k.arg == "shell" for k in node.keywords
        ):
            found.append(f"line {node.lineno}: a shell")
        if name in EXECUTING and node.args and made_of_strings(node.args[0]):
            found.append(f"line {node.lineno}: SQL made of strings")
    return found


def made_of_strings(node: ast.AST) -> bool:
    """Whether a statement is put together: f-string, +, %, format, join, also within ``.encode()``."""
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
        if node.func.attr == "format":
            return not is_sql_object(node.func.value)
        return node.func.attr == "join" or made_of_strings(node.func.value)
    return isinstance(node, ast.JoinedStr | ast.BinOp)


def is_sql_object(node: ast.AST) -> bool:
    """psycopg's ``sql.SQL("literal")``: its format quotes identifiers and values."""
    return (
        isinstance(node, ast.Call)
        and isinstance(node.func, ast.Attribute)
        and node.func.attr == "SQL"
        and all(isinstance(argument, ast.Constant) for argument in node.args)
    )


@pytest.mark.parametrize("path", MODULES, **IDS)
def test_nothing_unsafe_is_reachable(path: Path) -> None:
    assert faults(path) == []


@pytest.mark.parametrize(
    "code",
    [
        "import pickle", "from xml.etree import ElementTree", "import yaml", "from lxml.etree import XMLParser",
        "from lxml import html", "etree.XMLParser()", "etree.fromstring(data)", "etree.iterparse(file)", "etree.XSLT(d)",
        "eval(text)", "exec(text)", "os.system(text)", "subprocess.run(text, shell=True)",
        'connection.execute(f"SELECT {name}")', 'cursor.execute("SELECT " + name)', 'c.execute("SELECT %s" % name)',
        'c.execute("SELECT {}".format(name))', 'c.execute(f"SELECT {name}".encode())', 'c.execute(" ".join(parts))',
    ],
)  # fmt: skip
def test_what_is_unsafe_is_found(tmp_path: Path, code: str) -> None:
    (tmp_path / "module.py").write_text(code)
    assert len(faults(tmp_path / "module.py")) == 1


@pytest.mark.parametrize(
    "code",
    [
        'c.execute("SELECT 1")', 'c.execute(sql.SQL("SELECT {}").format(sql.Identifier(name)))', "re.compile(text)",
        "c.execute(statement.sql.encode(), values)", "subprocess.run([program, text])", "from lxml import etree",
    ],
)  # fmt: skip
def test_what_is_safe_passes(tmp_path: Path, code: str) -> None:
    (tmp_path / "module.py").write_text(code)
    assert faults(tmp_path / "module.py") == []


# patterns --------------------------------------------------------------------------------------------------------

PATTERN_CALLS = {"compile", "match", "fullmatch", "search", "sub", "subn", "split", "findall", "finditer"}
# Patterns that are put together: of tables of ours, or of texts that are escaped there.
PUT_TOGETHER = {
    "domain/directory.py", "domain/scopes.py", "mapping/dsubm_publish.py", "mapping/mhd_provide.py",
    "wire/fhir_elements.py", "wire/fhirpath.py", "wire/hl7v2.py", "wire/structure.py",
    "domain/affinity_domain.py", "mapping/cda_view.py", "mapping/withheld.py", "web/pdf_worker.py", "wire/xml.py",
}  # fmt: skip
PUMPS = (
    "1",
    "a",
    ".1",
    "1.",
    "a.",
    ".a",
    " a",
    "a ",
    "_",
    "-",
    "[a]",
    '[a b="c"]',
    "eyJ",
    "eyJa.",
    "<1>",
    "\\\\",
    "/",
    "#",
)


def patterns(path: Path) -> Iterator[str | bytes | None]:
    """Each pattern that is given to re as it stands; None for one that is put together."""
    for node, name, owner in calls(path):
        if owner == "re" and name in PATTERN_CALLS:
            try:
                yield ast.literal_eval(node.args[0])
            except ValueError:
                yield None


def test_patterns_are_put_together_only_where_texts_are_escaped() -> None:
    assert {str(p.relative_to(SOURCE)) for p in MODULES if None in patterns(p)} == PUT_TOGETHER


def literal_patterns() -> list[str]:
    found = {p for path in MODULES for p in patterns(path) if p is not None}
    tables = [toml(name) for name in ("saml.toml", "xmlenc.toml", "national/pl/wezel_krajowy.toml")]
    found |= {form for table in tables for form in table.get("type", {}).values() if isinstance(form, str)}
    return sorted(p.decode("latin-1") if isinstance(p, bytes) else p for p in found)


def test_no_pattern_tries_for_long() -> None:
    """ReDoS: whatever is repeated, a text that does not fit in the end is refused in time that grows with its length."""
    slow = []
    every = literal_patterns()
    assert len(every) > 100
    for pattern in every:
        tried = re.compile(pattern)
        for pump in PUMPS:
            for length in (24, 3000):
                text = pump * length + "\x00!"
                began = time.process_time()
                for way in (tried.match, tried.fullmatch):
                    way(text)
                if time.process_time() - began > 0.5:
                    slow.append((pattern, pump, length))
                    break
    assert slow == []


def test_a_pattern_that_tries_for_long_would_be_found() -> None:
    began = time.process_time()
    re.compile(r"(?:a+)+b").fullmatch("a" * 24 + "\x00!")
    assert time.process_time() - began > 0.05


# other languages within this one ---------------------------------------------------------------------------------


def test_questions_to_xml_are_made_of_numbers_and_constants_only() -> None:
    """XPath takes values as variables; outside the one XML module no expression is put together."""
    for path in MODULES:
        for node, name, _ in calls(path):
            if name in ("XPath", "xpath", "ETXPath") and path != XML_FACTORY:
                assert isinstance(node.args[0], ast.Constant), path


# Formats that are no constants: texts and tables of the package.
FORMATTING = {
    "domain/access_explained.py": {
        "texts['above']",
        "texts['because']",
        "texts['change_basis']",
        "texts['change_opened']",
        "texts['change_purpose_consent']",
        "texts['closed']",
        "texts['hidden' if own else 'hidden_by_other']",
        "texts['hides']",
        "texts['holds']",
        "texts['lacks']",
        "texts['shown']",
        "texts['until']",
        "texts[key]",
    },
    "domain/messages.py": {"texts[language]"},
    "edges/authorization.py": {"escape(text)"},
    "mapping/balp.py": {"_DONE[done]['profile']"},
    "mapping/cda_html.py": {"page.words['image']", "page.words['note']", "self.words[key]"},
    "mapping/ips_narrative.py": {"_REASONS[u.reason]"},
    "mapping/xdm.py": {"_PAGE", "_README"},
    "ops/person_archive.py": {"_README"},
    "ops/person_pages.py": {"_TEXTS['cut']", "_TEXTS['made']", "_TEXTS['part']", "_TEXTS['title']"},
}


def test_no_foreign_text_is_a_format() -> None:
    found: dict[str, set[str]] = {}
    for path in MODULES:
        for node, name, _ in calls(path):
            if name in ("format", "format_map") and isinstance(node.func, ast.Attribute):
                value = node.func.value
                if not isinstance(value, ast.Constant) and not is_sql_object(value):
                    found.setdefault(str(path.relative_to(SOURCE)), set()).add(ast.unparse(value))
    found = {path: texts - {"msgspec.json"} for path, texts in found.items() if texts != {"msgspec.json"}}
    assert found == FORMATTING


def test_memory_is_pythons() -> None:
    """ctypes asks the kernel for the clock and for a parent's death; nothing else leaves Python's memory."""
    asking = {
        str(path.relative_to(SOURCE))
        for path in MODULES
        for node in nodes(path)
        if isinstance(node, ast.Import | ast.ImportFrom)
        for module in ([a.name for a in node.names] if isinstance(node, ast.Import) else [node.module or ""])
        if module.partition(".")[0] in ("ctypes", "cffi", "mmap")
    }
    assert asking == {"ops/clock.py", "ops/demo.py", "ops/worker.py"}

"""What an attacker would look for in the code, and does not find: a second parser, SQL made of strings, loaders that run
what they load."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

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


def nodes(path: Path) -> Iterator[ast.AST]:
    return ast.walk(ast.parse(path.read_text("utf-8"), str(path)))


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

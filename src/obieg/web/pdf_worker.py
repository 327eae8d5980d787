"""The process that makes one PDF: JSON on stdin, PDF on stdout, within limits; see :mod:`obieg.web.pdf`.

It is a process because whoever writes a document decides how much work it makes; this one may be killed.
"""

from __future__ import annotations

import base64
import json
import os
import re
import resource
import sys
from importlib.resources import files
from typing import Any

import typst

_MEMORY_BYTES = 3 * 1024**3  # of addresses, most of them never touched
_CPU_S = 60
_TRIES = 5
# Only the fonts in the library: the same document makes the same file on every machine.
_OPTIONS: dict[str, Any] = {
    "root": "/proc/self/fd", "pdf_standards": "ua-1", "ignore_system_fonts": True, "timestamp": 0,
}  # fmt: skip
_GIVEN = "given.json"  # as the template calls it
# What no font has a picture of: control characters, private use, surrogates, noncharacters.
_UNWRITABLE = re.compile("[\x7f-\x9f\ud800-\uf8ff\ufff0-\ufffb\ufffe\uffff\U000e0000-\U0010ffff]")
_MISSING = re.compile(r'the text `"((?:[^"\\]|\\.)*)"` could not be displayed')
_ESCAPED = re.compile(r"\\u\{([0-9a-f]+)\}|\\(.)")


def main() -> None:
    """Exits with 1 and says why on stderr where it cannot be made."""
    resource.setrlimit(resource.RLIMIT_AS, (_MEMORY_BYTES, _MEMORY_BYTES))
    resource.setrlimit(resource.RLIMIT_CPU, (_CPU_S, _CPU_S))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    given = json.load(sys.stdin)
    try:
        sys.stdout.buffer.write(make(given))
    except typst.TypstError as error:
        sys.exit(f"{error.message}")


def make(given: dict[str, Any]) -> bytes:
    """The PDF. Characters that no font here has are written as their numbers, [U+4E2D]: nothing is left out."""
    pictures = {number: _in_memory(base64.b64decode(data)) for number, data in given["pictures"].items()}
    template = files("obieg.web").joinpath("templates", given["template"]).read_text("utf-8")
    given["pictures"] = {number: path for number, path in pictures.items() if _is_printable(path)}
    written = _UNWRITABLE.sub(_number, json.dumps(given, ensure_ascii=False))
    for _ in range(_TRIES):
        try:
            return _filled(template, written)
        except typst.TypstError as error:
            missing = set("".join(_unescaped(found) for found in _MISSING.findall(error.diagnostic)))
            if not missing:
                raise
            written = re.sub(f"[{re.escape(''.join(missing))}]", _number, written)
    return _filled(template, written)


def _filled(template: str, written: str) -> bytes:
    return _compiled(template.replace(_GIVEN, _in_memory(written.encode())))


def _compiled(source: str) -> bytes:
    made: bytes = typst.compile(source.encode(), **_OPTIONS)
    return made


def _in_memory(data: bytes) -> str:
    """The path, for Typst, of a file that is on no disk and ends with this process."""
    number = os.memfd_create("obieg-pdf")
    with open(number, "wb", closefd=False) as file:
        file.write(data)
    return f"/{number}"


def _is_printable(path: str) -> bool:
    """A picture that cannot be read costs the picture, not the document."""
    try:
        _compiled(f'#set document(title: "-")\n#image("{path}", alt: "-", width: 1cm)')
    except typst.TypstError:
        return False
    return True


def _number(match: re.Match[str]) -> str:
    return f"[U+{ord(match[0]):04X}]"


def _unescaped(text: str) -> str:
    return _ESCAPED.sub(lambda m: chr(int(m[1], 16)) if m[1] else m[2], text)


if __name__ == "__main__":
    main()

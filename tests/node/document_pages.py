"""Pages with documents in them, made without a node; and validators of HTML and PDF that nobody here wrote.

``vnu`` is the W3C's Nu Html Checker (npm); veraPDF the PDF Association's validator (Maven Central).
"""

from __future__ import annotations

import json
import mimetypes
import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from importlib.resources import files
from pathlib import Path
from typing import Any

import pytest
from fhir_peer import installed
from lxml import etree

from obieg.mapping.cda_view import View, read_pictures, read_view
from obieg.web.kit import LANGUAGES, Kit, texts

VNU, VERAPDF = "vnu-jar@26.9.27", "1.30.2"
ADDRESS = "http://documents.test/d/"
V3 = "urn:hl7-org:v3"
DS = "http://www.w3.org/2000/09/xmldsig#"
_HERE = Path(__file__).parent
_PAGE = """{% extends "base.html" %}{% from "document.html" import cda with context %}
{% block title %}{{ view.title }}{% endblock %}
{% block content %}<div class="head"><h1>{{ view.title }}</h1></div>{{ cda(view) }}{% endblock %}"""
_POM = """<project xmlns="http://maven.apache.org/POM/4.0.0"><modelVersion>4.0.0</modelVersion>
<groupId>test</groupId><artifactId>test</artifactId><version>1</version><dependencies><dependency>
<groupId>org.verapdf</groupId><artifactId>validation-model</artifactId><version>{version}</version>
</dependency></dependencies></project>"""


def samples(shared: Path) -> dict[str, bytes]:
    """Every CDA document among the reference data, by a name of its own."""
    found = {}
    for path in sorted((shared / "data").rglob("*.xml")):
        content = path.read_bytes()
        if b"ClinicalDocument" in content[:4000] and is_cda(content):
            found[f"{path.parent.name}-{path.stem}".rpartition(".10.1.")[2].replace(" ", "-")] = content
    assert len(found) > 35
    return found


def is_cda(content: bytes) -> bool:
    try:
        root = etree.fromstring(content)
    except etree.XMLSyntaxError:
        return False
    return root.tag == f"{{{V3}}}ClinicalDocument"


def page_of(document: bytes, language: str = "pl") -> str:
    """The page as a portal would answer it."""

    async def sealed() -> None:
        """As it should be."""

    kit = Kit(origin="http://localhost", name="obieg", expect_sealed=sealed)
    return kit._environment.from_string(_PAGE).render(
        t=texts(language), language=language, nonce="x", addresses=dict.fromkeys(LANGUAGES, "?"),
        view=view_of(document, language),
    )  # fmt: skip


def view_of(document: bytes, language: str = "pl") -> View:
    return read_view(document, language=language, images="image")


class Served:
    """A page in a browser, with our styles, script policy and pictures; ``asked`` is whatever else it asked for."""

    def __init__(self, page: Any) -> None:
        self.page = page
        self.asked: list[str] = []
        self._document, self._html = b"", ""
        page.route("**/*", self._answer)
        page.on("dialog", lambda dialog: (self.asked.append("dialog"), dialog.dismiss()))

    def open(self, document: bytes, html: str) -> None:
        self._document, self._html = document, html
        self.page.goto(ADDRESS)

    def _answer(self, route: Any) -> None:
        address = route.request.url
        path = address.partition("documents.test")[2]
        if address == ADDRESS:
            route.fulfill(body=self._html, content_type="text/html; charset=utf-8")
        elif path.startswith("/static/"):
            file = files("obieg.web").joinpath(path.removeprefix("/"))
            route.fulfill(body=file.read_bytes(), content_type=mimetypes.guess_type(path)[0] or "font/woff2")
        elif path.startswith("/d/image/"):
            picture, content = read_pictures(self._document)[path.removeprefix("/d/image/")]
            route.fulfill(body=content, content_type=picture.media_type)
        else:
            self.asked.append(address)
            route.abort()


# what a reader of the source finds -------------------------------------------------------------------------------


# Codes that say what a part is, or stand there in our words.
_OF_THE_MESSAGE = {"languageCode", "confidentialityCode", "administrativeGenderCode"}


def written_in(document: bytes) -> Iterator[str]:
    """Every text and every name of a code in the source, read with nothing of ours, white space as one space."""
    root = etree.fromstring(document)
    signed = {e for signature in root.iter(f"{{{DS}}}Signature") for e in signature.iter()}
    for element in root.iter("{*}*"):
        name, parent = etree.QName(element).localname, element.getparent()
        if element in signed or element.get("representation") or name in _OF_THE_MESSAGE:
            continue
        pieces = [element.text, *(c.tail for c in element)]
        if not (name == "code" and etree.QName(parent).localname == "section"):
            pieces.append(element.get("displayName"))
        yield from (" ".join(piece.split()) for piece in pieces if piece and piece.strip())


# validators ------------------------------------------------------------------------------------------------------


def java() -> str:
    """The program; skips the test, visibly, where there is none."""
    found = shutil.which("java")
    if found is None:
        pytest.skip("Java is not installed: apt-get install default-jdk-headless maven")
    return found


def html_faults(pages: dict[str, str], folder: Path) -> list[str]:
    """What the Nu Html Checker finds in them."""
    jar = installed("npm-vnu", VNU) / "node_modules/vnu-jar/build/dist/vnu.jar"
    for name, page in pages.items():
        (folder / f"{name}.html").write_text(page)
    command = [java(), "-jar", str(jar), "--format", "json", "--exit-zero-always", *map(str, folder.glob("*.html"))]
    said = subprocess.run(command, capture_output=True, text=True, check=True).stderr
    return [
        f"{Path(m['url']).stem}:{m.get('lastLine')} {m['message']} {m.get('extract', '')[:80]}"
        for m in json.loads(said)["messages"]
        if m["type"] == "error" or m.get("subType") == "warning"
        if not m["message"].startswith("This document appears to be written in")  # it guesses, at made-up words
    ]


def pdf_faults(paths: Sequence[Path]) -> list[str]:
    """What veraPDF finds in them against PDF/UA-1."""
    classes = _verapdf()
    source = _HERE / "PdfUa.java"
    command = [java(), "-cp", f"{classes}/*", str(source), *map(str, paths)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=600)
    lines = done.stdout.splitlines()
    assert f"checked {len(paths)}" in lines, done.stderr[-2000:]
    return [line for line in lines if not line.startswith("checked ")]


def _verapdf() -> Path:
    folder = Path(tempfile.gettempdir()) / f"obieg-peers-{os.getuid()}" / f"verapdf-{VERAPDF}"
    if not (folder / "complete").exists():
        maven = shutil.which("mvn")
        if maven is None:
            pytest.skip("Maven is not installed: apt-get install maven")
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "pom.xml").write_text(_POM.format(version=VERAPDF))
        command = [maven, "-q", "-B", "dependency:copy-dependencies", f"-DoutputDirectory={folder}"]
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False, timeout=600)
        if done.returncode:
            pytest.skip(f"Maven cannot get veraPDF here: {done.stdout[-300:]}")
        (folder / "complete").touch()
    return folder

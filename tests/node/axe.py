"""axe-core, the npm package, on pages in Debian's Chromium."""

from __future__ import annotations

from functools import cache
from typing import Any

from fhir_peer import installed

PACKAGE = "axe-core@4.14.1"
TAGS = ("wcag2a", "wcag2aa", "wcag21a", "wcag21aa")


@cache
def script() -> str:
    """Its source."""
    return (installed("npm-axe", PACKAGE) / "node_modules" / "axe-core" / "axe.min.js").read_text("utf-8")


def expect_accessible(page: Any) -> None:
    """0 violations of WCAG 2.1 A and AA; nothing scrolls sideways."""
    page.evaluate(script())
    found = page.evaluate("(tags) => axe.run(document, {runOnly: tags})", list(TAGS))
    wrong = [(v["id"], v["help"], [n["html"][:200] for n in v["nodes"]][:3]) for v in found["violations"]]
    assert wrong == [], (page.url, wrong)
    assert len(found["passes"]) > 5  # it has looked
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth"), f"{page.url} scrolls sideways"

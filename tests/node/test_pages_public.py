"""What everybody sees of a region, in a browser."""

from __future__ import annotations

from typing import Any

import portals
import pytest
from axe import expect_accessible
from portals import DESK, PHONE, visiting

pytestmark = pytest.mark.node

PAGES = (
    "/", "/facilities", "/facilities?q=nowhere", "/status", "/join", "/services", "/accessibility", "/privacy", "/sitemap",
    "/enter",
)  # fmt: skip


@pytest.mark.parametrize(
    ("locale", "size", "dark"), [("pl-PL", DESK, False), ("en-GB", PHONE, True), ("uk-UA", DESK, True)]
)
def test_every_page_is_accessible_to_everybody(
    chrome: Any, portal: portals.Region, locale: str, size: tuple[int, int], dark: bool
) -> None:
    with visiting(chrome, portal, None, locale=locale, size=size, dark=dark) as visitor:
        for path in PAGES:
            page = visitor.go(path)
            assert page.locator("html").get_attribute("lang") == locale[:2]
            assert page.locator("h1").count() == 1
            expect_accessible(page)
        visitor.expect_clean()


def test_facilities_are_found_without_script_and_without_polish_letters(chrome: Any, portal: portals.Region) -> None:
    with visiting(chrome, portal, None, script=False) as visitor:
        page = visitor.go("/")
        page.keyboard.press("Tab")
        assert page.locator(":focus").get_attribute("href") == "#content"
        name = page.locator("main table tbody th").first.inner_text().splitlines()[0]
        word = name.split()[0].lower().translate(str.maketrans("ąćęłńóśźż", "acelnoszz"))
        page.get_by_role("searchbox").fill(word)
        page.get_by_role("button", name="Szukaj").click()
        assert page.locator("main table tbody th").filter(has_text=name).count() == 1
        assert page.locator("main table time").first.inner_text().count(".") == 2
        page.goto(f"{portal.origin}/facilities?q=nowhere")
        assert page.locator("main table").count() == 0
        assert "nowhere" in page.locator("main .empty").inner_text()
        visitor.expect_clean()


def test_they_tell_nothing_of_anybody(portal: portals.Region) -> None:
    with portals.client(portal, portals.DOCTOR) as http:
        http.cookies.clear()
        said = "".join(http.get(path).text for path in PAGES)
    person = portal.someone
    assert person.pesel not in said
    assert person.demographics.name.family not in said
    assert "2.16.840.1.113883.3.4424.2.7.99901.7.1^" not in said  # no document


def test_every_page_leads_to_pages_that_are_there(portal: portals.Region) -> None:
    import re

    with portals.client(portal, portals.DOCTOR) as http:
        http.cookies.clear()
        links = {link for path in PAGES for link in re.findall(r'href="(/[^"?#]*)', http.get(path).text)}
        others = {"/work"}  # pages of another area
        statuses = {link: http.get(link).status_code for link in sorted(links - others)}
    assert {link: status for link, status in statuses.items() if status >= 400} == {}

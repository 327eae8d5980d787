"""Documents in a browser and before the W3C's checker: all of every sample, valid, accessible, and nothing that acts."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import axe
import document_pages as pages
import pytest
from browser import chromium
from hypothesis import given, settings
from hypothesis import strategies as st
from lxml import etree, html

from narratives import TREES, built
from obieg.web.kit import LANGUAGES

pytestmark = pytest.mark.slow
TAGS = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "best-practice"]
V3 = pages.V3
EVERYTHING = f"""<ClinicalDocument xmlns="{V3}"><title>Wszystko</title><languageCode code="en-GB"/><component><structuredBody>
<component><section><title>A</title><text>
<paragraph styleCode="Bold"><caption>Caption</caption>words<footnote ID="f">note <linkHtml href="https://a.example">link</linkHtml></footnote> <footnoteRef IDREF="f"/></paragraph>
<list><caption>List</caption><item>a<list listType="ordered"><item>b</item><item/></list></item></list>
<table><caption>Table</caption><tfoot><tr><td colspan="9">foot</td></tr></tfoot><thead><tr><th>A</th><th/><th rowspan="3">C</th><th>D</th></tr></thead>
<tbody><tr><td rowspan="7">1</td><td>2<table><tr><th>x</th><td>y</td></tr></table></td></tr><tr/><tr><td colspan="4">3</td><td>4</td></tr></tbody></table>
<content revised="delete">old</content> <content revised="insert" styleCode="xPLred xPLgreen xPLbig Underline">new</content> H<sub>2</sub>O
<linkHtml href="mailto:a@b.example"><content>m<paragraph>p</paragraph></content><linkHtml href="https://b.example">in</linkHtml></linkHtml>
</text><component><section><title>B</title><text>b</text><component><section><text>c</text><component><section><text>d</text>
<component><section><text>e</text></section></component></section></component></section></component></section></component></section></component>
</structuredBody></component></ClinicalDocument>""".encode()
HOSTILE = f"""<ClinicalDocument xmlns="{V3}" xmlns:h="http://www.w3.org/1999/xhtml"><title>&lt;script&gt;alert(1)&lt;/script&gt;</title>
<languageCode code='pl" onload="alert(1)'/><recordTarget><patientRole><patient><name><given>&lt;img src=x onerror=alert(1)&gt;</given></name></patient>
</patientRole></recordTarget><component><structuredBody><component><section><title>&lt;b onclick=alert(1)&gt;</title><text>
<h:script>alert(1)</h:script><h:img src="http://evil.example/a.png" onerror="alert(1)"/><h:iframe src="http://evil.example/"/>
<linkHtml href="javascript:alert(1)">klik</linkHtml><paragraph onclick="alert(1)" style="background:url(http://evil.example/b)">p</paragraph>
<renderMultiMedia referencedObject="X"/><h:link rel="stylesheet" href="http://evil.example/c.css"/><h:style>@import 'http://evil.example/d'</h:style>
<h:meta http-equiv="refresh" content="0;url=http://evil.example/"/><h:object data="http://evil.example/e"/><h:base href="http://evil.example/"/>
<h:svg onload="alert(1)"/></text><entry><observationMedia ID="X"><value mediaType="image/svg+xml" representation="B64">PHN2ZyB4bWxucz0iaHR0cDovL3d3dy53My5vcmcvMjAwMC9zdmciPjxzY3JpcHQ+YWxlcnQoMSk8L3NjcmlwdD48L3N2Zz4=</value>
</observationMedia></entry><entry><act><code code="&lt;i&gt;" displayName="&lt;script&gt;alert(1)&lt;/script&gt;"/></act></entry></section></component>
</structuredBody></component></ClinicalDocument>""".encode()


@pytest.fixture(scope="module")
def samples(shared: Path) -> dict[str, bytes]:
    return pages.samples(shared) | {"everything": EVERYTHING}


def test_the_checker_of_the_w3c_finds_no_fault(samples: dict[str, bytes], tmp_path: Path) -> None:
    written = {f"{n}-{code}": pages.page_of(d, code) for n, d in samples.items() for code in LANGUAGES}
    assert pages.html_faults(written, tmp_path) == []


def test_the_checker_finds_no_fault_in_narratives_that_no_schema_allows(tmp_path: Path) -> None:
    blocks: list[str] = []

    @settings(max_examples=120, deadline=None)
    @given(st.lists(TREES, max_size=4))
    def collect(trees: Any) -> None:
        blocks.append(etree.tostring(built(("text", {}, trees), []), encoding="unicode"))

    collect()
    sections = "".join(f"<component><section>{block}</section></component>" for block in blocks)
    document = f'<ClinicalDocument xmlns="{V3}"><component><structuredBody>{sections}</structuredBody></component></ClinicalDocument>'
    assert pages.html_faults({"random": pages.page_of(document.encode())}, tmp_path) == []


def test_all_text_of_every_sample_is_on_its_page(samples: dict[str, bytes]) -> None:
    for name, document in samples.items():
        for code in LANGUAGES:
            root = html.document_fromstring(pages.page_of(document, code))
            for block in root.iter("p", "li", "td", "th", "dd", "dt", "br", "caption", "h2", "h3", "h4", "h5", "h6"):
                block.tail = f" {block.tail or ''}"
            said = " ".join(root.text_content().split())
            assert [text for text in pages.written_in(document) if text not in said and not translated(text)] == [], (
                name
            )


def translated(text: str) -> bool:
    """A name for which the page has words of ours, in its language."""
    return text in {"Principal diagnosis", "Secondary diagnosis", "primary surgeon", "anesthesist",
                    "first assistant surgeon", "second assistant surgeon", "third assistant", "LOINC"}  # fmt: skip


@pytest.mark.parametrize(("width", "scheme", "other"), [(390, "light", "dark"), (1280, "dark", "light")])
def test_axe_finds_no_barrier_and_nothing_is_wider_than_the_screen(
    samples: dict[str, bytes], width: int, scheme: Any, other: Any
) -> None:
    script = axe.script()
    with chromium() as browser:
        page = browser.new_page(viewport={"width": width, "height": 900})
        served = pages.Served(page)
        # All on the narrow screen; on the wide one, where the same stands with more room, the last and every third.
        looked_at = list(samples.items())[:: -1 if width == 390 else -3]
        for at, (name, document) in enumerate(looked_at):
            page.emulate_media(color_scheme=scheme)
            served.open(document, pages.page_of(document, list(LANGUAGES)[at % 3]))
            page.evaluate("document.querySelectorAll('details').forEach(d => d.open = true)")
            page.evaluate(script)
            found = page.evaluate("tags => axe.run({runOnly: tags})", TAGS)
            page.emulate_media(color_scheme=other)  # of which only the colours differ
            coloured = page.evaluate("axe.run({runOnly: {type: 'rule', values: ['color-contrast']}})")
            wrong = [(v["id"], v["nodes"][0]["html"]) for v in found["violations"] + coloured["violations"]]
            assert (name, wrong) == (name, [])
            assert coloured["passes"], name  # it has looked
            assert page.evaluate("document.documentElement.scrollWidth <= innerWidth"), name
        assert served.asked == []


def test_nothing_in_a_hostile_document_acts() -> None:
    with chromium() as browser:
        page = browser.new_page()
        served = pages.Served(page)
        written = pages.page_of(HOSTILE)
        served.open(HOSTILE, written)
        page.get_by_text("klik").click()
        page.wait_for_load_state("networkidle")
        assert served.asked == []
        assert page.url == pages.ADDRESS
        article = page.locator("article")
        assert article.locator("script, iframe, img, object, style, link, meta, base").count() == 0
        assert (
            article.evaluate(
                "a => [...a.querySelectorAll('*')].flatMap(e => e.getAttributeNames()).filter(n => n.startsWith('on') || n === 'style')"
            )
            == []
        )
        assert "<script>alert(1)</script>" in article.inner_text()
        assert "<img src=x onerror=alert(1)>" in article.inner_text()


def test_a_printed_page_shows_what_a_screen_folds_away(samples: dict[str, bytes]) -> None:
    with chromium() as browser:
        page = browser.new_page()
        served = pages.Served(page)
        document = next(d for n, d in samples.items() if n.startswith("18-1"))
        served.open(document, pages.page_of(document))
        hidden = page.get_by_text("Zawał mózgu wywołany przez zakrzep")
        assert not hidden.is_visible()
        page.emulate_media(media="print")
        assert hidden.bounding_box() is not None
        assert hidden.bounding_box()["height"] > 5

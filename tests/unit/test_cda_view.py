"""CDA documents as people see them: nothing is lost, nothing acts, and what is regular stays regular."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from lxml import etree, html

import summaries
from narratives import TREES, built
from obieg.codes.load import rows, toml
from obieg.mapping.cda_html import Page, Picture, write_html
from obieg.mapping.cda_view import Line, View, read_pictures, read_view
from obieg.wire.cda import CdaRefused
from obieg.wire.cda_narrative import Node, plain_text, read_narrative, walk, write_xhtml

WORDS = toml("national/pl/plain_words.toml")
PAGE = Page(
    {key: row["pl"] for key, row in WORDS["narrative"].items()}, "", {"M": Picture("1", "image/png", True)}, "/i"
)
PNG = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="


def nodes_of(narrative: str) -> Any:
    return read_narrative(etree.fromstring(f'<text xmlns="{summaries.V3}">{narrative}</text>'))


def shown(narrative: str) -> str:
    return write_html(nodes_of(narrative), PAGE)


def view_of(document: bytes, language: str = "pl") -> View:
    return read_view(document, language=language, images="/i")


def document(body: str, header: str = "") -> bytes:
    return (
        f'<ClinicalDocument xmlns="{summaries.V3}" xmlns:xsi="http://www.w3.org/2001/XMLSchema-instance">'
        f"{header}<component>{body}</component></ClinicalDocument>"
    ).encode()


def structured(*sections: str) -> bytes:
    return document(f"<structuredBody>{''.join(f'<component>{s}</component>' for s in sections)}</structuredBody>")


# narrative ---------------------------------------------------------------------------------------------------------


WRITTEN = [
    ("Sam tekst", "<p>Sam tekst</p>"),
    ('<content styleCode="Bold Italics">a</content>', "<p><em><b>a</b></em></p>"),
    ('<content revised="delete">a</content>', '<p><del><span class="vh"><span>usunięto:</span> </span>a</del></p>'),
    ("H<sub>2</sub>O, 10<sup>9</sup>", "<p>H<sub>2</sub>O, 10<sup>9</sup></p>"),
    ("<paragraph><caption>Co:</caption> tak</paragraph>", "<p><b>Co:</b> tak</p>"),
    ("<paragraph><caption>Co</caption> tak</paragraph>", "<p><b>Co</b><br> tak</p>"),
    ("<paragraph>a<list><item>b</item></list>c</paragraph>", "<p>a</p><ul><li>b</li></ul><p>c</p>"),
    ('<list listType="ordered">x<item>a</item><item/></list>', "<ol><li>x</li><li>a</li><li></li></ol>"),
    ('<linkHtml href="mailto:a@b.pl">pisz</linkHtml>',
     '<p><a href="mailto:a@b.pl" rel="noreferrer noopener nofollow">pisz</a> (a@b.pl)</p>'),
    ('<linkHtml href="https://evil.example/x">bank.pl</linkHtml>',
     '<p><a href="https://evil.example/x" rel="noreferrer noopener nofollow">bank.pl</a> (evil.example)</p>'),
    ('<linkHtml href="#dalej">tu</linkHtml>', "<p>tu</p>"),
    ('<renderMultiMedia referencedObject="M"/>', '<p><img src="/i/1" alt="Obraz 1 z dokumentu"></p>'),
    ('<renderMultiMedia referencedObject="X"/>', "<p><span>Dokument wskazuje obraz, którego nie zawiera.</span></p>"),
    ('a<footnote ID="f">przypis</footnote> b<footnoteRef IDREF="f"/>',
     ('<p>a<sup><a href="#cda-note-1" id="cda-mark-1" aria-label="przypis 1">1</a></sup> b'
     '<sup><a href="#cda-note-1" aria-label="przypis 1">1</a></sup></p>'
     '<ol class="notes" start="1"><li id="cda-note-1" value="1">przypis</li></ol>')),
]  # fmt: skip


@pytest.mark.parametrize(("narrative", "written"), WRITTEN)
def test_a_narrative_becomes_html(narrative: str, written: str) -> None:
    assert shown(narrative) == written


def rows_of(table: str) -> list[list[tuple[str, str, int, int]]]:
    table_node = next(n for n in walk(nodes_of(table)) if n.name == "table")
    return [
        [(c.name + (f":{c.scope}" if c.scope else ""), plain_text(c.content), c.columns, c.rows) for c in row.content]
        for row in walk((table_node,))
        if row.name == "tr"
        if all(isinstance(c, Node) for c in row.content)
    ]


def test_heads_name_their_columns_and_rows() -> None:
    table = (
        "<table><caption>Krew</caption><thead><tr><th>Badanie</th><td>Wynik</td></tr></thead>"
        '<tbody><tr><td colspan="2">Morfologia</td></tr><tr><th>WBC</th><td>8,3</td></tr></tbody></table>'
    )
    assert rows_of(table) == [
        [("th:col", "Badanie", 1, 1), ("th:col", "Wynik", 1, 1)],
        [("th:colgroup", "Morfologia", 2, 1)],
        [("th:row", "WBC", 1, 1), ("td", "8,3", 1, 1)],
    ]
    assert 'aria-label="Krew"' in shown(table)


def test_a_first_row_of_heads_is_the_head() -> None:
    assert "<thead><tr>" in shown("<table><tr><th>a</th><th>b</th></tr><tr><td>1</td><td>2</td></tr></table>")


RAGGED = [
    ("<table><tr><td>a</td></tr><tr><td>b</td><td>c</td></tr></table>",
     [[("td", "a", 1, 1), ("td", "", 1, 1)], [("td", "b", 1, 1), ("td", "c", 1, 1)]]),
    ('<table><tr><td rowspan="9">a</td><td>b</td></tr><tr><td>c</td></tr></table>',
     [[("td", "a", 1, 2), ("td", "b", 1, 1)], [("td", "c", 1, 1)]]),
    ('<table><tr><td colspan="50">a</td></tr></table>', [[("td", "a", 1, 1)]]),
    ('<table><tr><td rowspan="2">a</td></tr><tr/><tr><td>b</td></tr></table>', [[("td", "a", 1, 1)], [("td", "b", 1, 1)]]),
    ('<table><tr><td>a</td><td rowspan="2">b</td></tr><tr><td colspan="2">c</td></tr></table>',
     [[("td", "a", 1, 1), ("td", "b", 1, 2)], [("td", "c", 1, 1)]]),
]  # fmt: skip


@pytest.mark.parametrize(("table", "regular"), RAGGED)
def test_a_ragged_table_becomes_a_regular_grid(table: str, regular: Any) -> None:
    assert rows_of(table) == regular


def test_what_stands_in_a_table_outside_of_cells_stands_before_it() -> None:
    table = "<table>luzem<tr>obok<td>a</td><paragraph>akapit</paragraph></tr><td>b</td></table>"
    nodes = nodes_of(table)
    assert [n.name for n in nodes] == ["p", "p", "table"]
    assert sorted(plain_text(nodes).split()) == ["a", "akapit", "b", "luzem", "obok"]


HOSTILE = [
    "<script>alert(1)</script>", "<x:script xmlns:x='http://www.w3.org/1999/xhtml'>alert(1)</x:script>",
    "<paragraph onclick='alert(1)' style='background:url(//a)'>x</paragraph>", "<img src='http://a/b.png' onerror='x'/>",
    "<linkHtml href='javascript:alert(1)'>x</linkHtml>", "<linkHtml href=' jAvaScript:alert(1)'>x</linkHtml>",
    "<linkHtml href='data:text/html,x'>x</linkHtml>", "<linkHtml href='https://a&quot; onmouseover=&quot;x'>x</linkHtml>",
    "<linkHtml href='https://[x'>x</linkHtml>", "<linkHtml href='http://a'><linkHtml href='http://b'>x</linkHtml></linkHtml>",
    "<iframe src='http://a'/>", "<object data='http://a'/>", "<renderMultiMedia referencedObject='http://a/b.png'/>",
    "<content ID='&quot;&gt;&lt;img src=x&gt;'>x</content>", "<table><tr><td colspan='2&quot; onload=&quot;x'>x</td></tr></table>",
    "&lt;script&gt;alert(1)&lt;/script&gt;", "<svg xmlns='http://www.w3.org/2000/svg' onload='alert(1)'><script>x</script></svg>",
    "<content styleCode='Bold&quot; onload=&quot;x' revised='x'>x</content>", "<html:base xmlns:html='http://www.w3.org/1999/xhtml' href='//a'/>",
    "<form action='//a'><input name='x'/></form>", "<meta http-equiv='refresh' content='0;url=//a'/>",
]  # fmt: skip
TAGS = {
    "p", "b", "u", "em", "sub", "sup", "ul", "ol", "li", "caption", "thead", "tbody", "tfoot", "tr", "td", "th", "a",
    "ins", "del", "strong", "br", "span", "img", "div", "table",
}  # fmt: skip
ATTRIBUTES = {
    "class", "colspan", "rowspan", "scope", "href", "rel", "id", "aria-label", "src", "alt", "lang", "start", "value",
    "tabindex", "role", "data-l", "download",
}  # fmt: skip


@pytest.mark.parametrize("narrative", HOSTILE)
def test_nothing_in_a_narrative_acts(narrative: str) -> None:
    root = html.fragment_fromstring(shown(f"przed {narrative} po"), create_parent="div")
    for element in root.iterdescendants():
        assert element.tag in TAGS
        assert set(element.attrib) <= ATTRIBUTES
        assert re.match(r"(https?://|mailto:|#cda-)", element.get("href", "#cda-"))
        assert element.get("src", "/i/1") == "/i/1"
    said = root.text_content()
    assert said.startswith("przed")
    assert said.rstrip().endswith("po")
    etree.fromstring(f"<div>{write_xhtml(etree.fromstring(f'<text>{narrative}</text>'))}</div>")


@settings(max_examples=400, deadline=None)
@given(st.lists(TREES, max_size=4))
def test_no_word_of_a_narrative_is_lost(trees: Any) -> None:
    words: list[str] = []
    block = built(("text", {}, trees), words)
    nodes = read_narrative(block)
    written = html.fragment_fromstring(write_html(nodes, PAGE), create_parent="div")
    for text in (plain_text(nodes), written.text_content(), write_xhtml(block)):
        assert sorted(re.findall(r"q\d+z", text), key=words.index) == words
    for table in (node for node in walk(nodes) if node.name == "table"):
        assert_regular(table)
    for element in written.iter("p"):
        assert not {e.tag for e in element.iterdescendants()} & {"p", "ul", "ol", "div", "table"}


def assert_regular(table: Node) -> None:
    """Each row of a group fills the same columns, once."""
    widths = set()
    for group in table.content:
        assert isinstance(group, Node)
        if group.name == "caption":
            continue
        taken: set[tuple[int, int]] = set()
        for at, row in enumerate(group.content):
            assert isinstance(row, Node)
            column = 0
            for cell in row.content:
                assert isinstance(cell, Node)
                while (at, column) in taken:
                    column += 1
                places = {(at + y, column + x) for y in range(cell.rows) for x in range(cell.columns)}
                assert not places & taken
                taken |= places
        assert {y for y, _ in taken} == set(range(len(group.content)))
        widths.add(max(x for _, x in taken) + 1)
        assert len(taken) == len(group.content) * max(widths)
    assert len(widths) == 1


# documents ---------------------------------------------------------------------------------------------------------


def lines_of(lines: tuple[Line, ...]) -> list[str]:
    return [said for line in lines for said in (*(s for _, s in line.parts), *lines_of(line.lines))]


def test_the_official_discharge_card(shared: Path) -> None:
    path = next(shared.rglob("*.10.1.18-1.xml"))
    view = view_of(path.read_bytes())
    assert (view.title, view.official, view.language) == (
        "Wypis ze szpitala", "Karta informacyjna z leczenia szpitalnego", "pl-PL",
    )  # fmt: skip
    assert {fact.label: fact.lines for fact in view.facts} == {
        "patient": ("Jan Franciszek Kowalski, PESEL 62091599999",), "date": ("06.09.2014",),
        "author": ("dr n. med. Piotr Nowak, Lekarz",), "facility": ("Oddział neurologii, Wojewódzki Szpital Specjalistyczny",),
        "encounter": ("01.09.2014 – 06.09.2014",),
    }  # fmt: skip
    assert [section.title for section in view.sections] == [
        "Pobyty na oddziałach", "Rozpoznania", "Wyniki badań", "Leczenie", "Epikryza", "Zalecenia",
    ]  # fmt: skip
    assert "HGB, hemoglobina" in {term for term, _ in view.terms}
    assert {view_of(path.read_bytes(), language).title for language in ("en", "uk")} == {
        "Hospital discharge card", "Виписка з лікарні",
    }  # fmt: skip


def test_entries_that_no_narrative_tells_of_are_shown_openly() -> None:
    told = '<entry><act><code code="1" displayName="Raz"/><text><reference value="#A"/></text></act></entry>'
    untold = (
        '<entry><observation negationInd="true"><code code="2" displayName="Dwa"/><effectiveTime><low value="2024"/>'
        '</effectiveTime><value xsi:type="IVL_PQ"><low value="4" unit="g"/><high value="5" unit="g"/></value>'
        "<entryRelationship><act><performer><assignedEntity><assignedPerson><name><given>Ewa</given> <family>Lis</family>"
        "</name></assignedPerson></assignedEntity></performer></act></entryRelationship></observation></entry>"
    )
    view = view_of(structured(f'<section><text><content ID="A">raz</content></text>{told}{untold}</section>'))
    [section] = view.sections
    assert lines_of(section.coded) == ["Raz (1)"]
    assert lines_of(section.untold) == ["Dwa (2)", "2024 –", "4 g – 5 g", "Ewa Lis"]
    assert section.untold[0].negated


def test_nested_sections_stand_deeper_and_footnotes_count_on() -> None:
    inner = "<component><section><title>B</title><text>b<footnote>n</footnote></text></section></component>"
    view = view_of(structured(f"<section><title>A</title><text>a<footnote>m</footnote></text>{inner}</section>"))
    assert [(s.title, s.depth) for s in view.sections] == [("A", 0), ("B", 1)]
    assert 'id="cda-note-2"' in view.sections[1].html


def test_pictures_are_what_their_bytes_are() -> None:
    media = '<entry><observationMedia ID="{id}"><value representation="B64" mediaType="{type}">{data}</value></observationMedia></entry>'
    svg = "PHN2ZyB4bWxucz0iaHR0cDovL3d3dy53My5vcmcvMjAwMC9zdmciLz4="
    made = structured(
        '<section><text><renderMultiMedia referencedObject="A"/></text>'
        + media.format(id="A", type="image/tiff", data=PNG) + media.format(id="B", type="image/png", data=svg) + "</section>"
    )  # fmt: skip
    view = view_of(made)
    assert [(p.number, p.media_type, p.shown) for p in view.pictures] == [
        ("1", "image/png", True),
        ("2", "text/xml", False),
    ]
    assert 'src="/i/1"' in view.sections[0].html
    assert '<a href="/i/2" download>' in view.left_html
    assert view.scanned
    assert read_pictures(made)["1"][1].startswith(b"\x89PNG")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("<text>raz&#10;dwa</text>", ["raz", "dwa"]),
        ('<text mediaType="application/pdf" representation="B64">JVBERi0xLjc=</text>', []),
    ],
)
def test_a_body_that_is_a_file(text: str, said: list[str]) -> None:
    view = view_of(document(f"<nonXMLBody>{text}</nonXMLBody>"))
    assert [plain_text((node,)) for section in view.sections for node in section.narrative] == said
    assert [p.media_type for p in view.left] == ([] if said else ["application/pdf"])


def test_who_else_has_to_do_with_it_and_what_it_is_linked_with() -> None:
    header = (
        '<title>Tytuł</title><languageCode code="pl&quot; onload=x"/><participant typeCode="IND"><associatedEntity classCode="UNDWRT">'
        '<id root="2.16.840.1.113883.3.4424.3.1" extension="07"/></associatedEntity></participant>'
        '<inFulfillmentOf><order><id root="1.2" extension="9"/></order></inFulfillmentOf>'
        '<relatedDocument typeCode="RPLC"><parentDocument><id root="1.3"/><versionNumber value="1"/></parentDocument></relatedDocument>'
    )
    view = view_of(document("<structuredBody/>", header))
    assert view.language == "pl-PL"
    assert {(r.kind, r.unique_id) for r in view.related} == {("replaces", "1.3"), ("order", "1.2^9")}
    groups = {group.label: {fact.label: fact.lines for fact in group.facts} for group in view.groups}
    assert groups["payer"] == {"ids": ("oddział NFZ lub płatnik 07",)}
    assert groups["document"] == {"replaces": ("1.3 / 1",), "order": ("1.2^9",)}


BOMB = '<!DOCTYPE x [<!ENTITY a "aaaaaaaaaa"><!ENTITY b "&a;&a;&a;&a;&a;&a;">]>'


@pytest.mark.parametrize(
    "given",
    [b"", b"%PDF-1.7", b"<ClinicalDocument/>", BOMB.encode() + document("<structuredBody/>"),
     structured(f"<section><text>{'<content>' * 90}x{'</content>' * 90}</text></section>")],
)  # fmt: skip
def test_what_is_no_document_or_a_bomb_is_refused(given: bytes) -> None:
    with pytest.raises(CdaRefused):
        view_of(given)


# tables ------------------------------------------------------------------------------------------------------------


def test_every_kind_of_document_has_a_plain_name_in_every_language() -> None:
    assert {row["code"] for row in rows("national/pl/document_classes.csv")} <= WORDS["classes"].keys()
    named = [
        *WORDS["classes"].values(),
        *WORDS["types"].values(),
        *WORDS["sections"].values(),
        *WORDS["templates"].values(),
    ]
    for row in (*named, *WORDS["terms"]):
        assert all(len(row[language]) == 2 and row[language][0] for language in ("pl", "en", "uk"))
    coded = [row for system in WORDS["codes"].values() for row in system.values()]
    for row in (*coded, *WORDS["narrative"].values(), *WORDS["ids"].values()):
        assert row.keys() == {"pl", "en", "uk"}
    assert WORDS["ids"].keys() <= toml("national/pl/pik.toml")["roots"].keys()
    assert WORDS["codes"].keys() <= toml("national/pl/pik.toml")["systems"].keys()


def test_a_code_has_our_name_in_its_own_system_alone() -> None:
    entry = '<entry><act><code code="M" codeSystem="{}" displayName="Męski lek"/></act></entry>'
    view = view_of(structured(f"<section>{entry.format('1.2.3')}</section>"))
    assert lines_of(view.sections[0].untold) == ["Męski lek (M)"]

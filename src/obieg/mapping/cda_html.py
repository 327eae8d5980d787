"""A narrative as a piece of an HTML page (HTML Living Standard): valid, accessible, and nothing in it acts.

Every element and attribute is of a closed list; text and addresses are escaped. Pictures are addresses of ours, for a
page may load nothing else; links go to the web or to mail and show where they lead.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import NamedTuple
from urllib.parse import urlsplit

from obieg.wire.cda_narrative import Node, Nodes, plain_text, walk
from obieg.wire.xml import attribute, text

_TAGS = {
    "red": ('<strong class="t-bad">', "</strong>"), "green": ('<strong class="t-ok">', "</strong>"),
    "big": ('<strong class="lead">', "</strong>"), "i": ("<em>", "</em>"), "br": ("<br>", ""),
}  # fmt: skip
_PLAIN = frozenset(
    {"p", "b", "u", "em", "sub", "sup", "ul", "ol", "li", "caption", "thead", "tbody", "tfoot", "tr", "td", "th"}
)
_REVISIONS = {"ins": "inserted", "del": "deleted"}
_CARD_COLUMNS = range(4, 9)  # of a table that becomes cards on a telephone; fewer columns fit there
_CARD_LABEL_MAX = 14  # characters: as many as stand beside a value; longer labels stand above


class Picture(NamedTuple):
    """A file in the document as a page shows it."""

    number: str
    media_type: str  # as its bytes tell
    shown: bool  # whether browsers show it
    ids: tuple[str, ...] = ()  # by which narratives call it


class Page(NamedTuple):
    """What a narrative is written for."""

    words: Mapping[str, str]  # plain_words.toml, [narrative], in the page's language
    language: str  # of the page, where it is not the document's; or ""
    pictures: Mapping[str, Picture]  # by their IDs
    images: str  # address of the folder in which the pictures are

    def said(self, key: str, **values: str) -> str:
        """Words of the page within those of the document."""
        language = f' lang="{attribute(self.language)}"' if self.language else ""
        return f"<span{language}>{text(self.words[key].format(**values))}</span>"


def write_html(nodes: Nodes, page: Page) -> str:
    """The narrative and its footnotes."""
    return "".join((*_write(nodes, page), *_notes(nodes, page)))


def write_picture(picture: Picture, page: Page, caption: str = "") -> str:
    """The picture, or a link to a file that browsers do not show."""
    address = attribute(f"{page.images}/{picture.number}")
    if picture.shown:
        alternative = attribute(caption or page.words["image"].format(number=picture.number))
        return f'<img src="{address}" alt="{alternative}">'
    name = page.said("unshown", type=picture.media_type)
    return f'<a href="{address}" download>{name}</a>'


def _write(nodes: Iterable[Node | str], page: Page, within: str = "") -> Iterator[str]:
    """``within``: "a" in a link, which holds no other."""
    for node in nodes:
        if isinstance(node, str):
            yield text(node)
        elif node.name in _PLAIN:
            yield f"<{node.name}{_attributes(node)}>"
            yield from _write(node.content, page, within)
            yield f"</{node.name}>"
        elif node.name in _TAGS:
            opening, closing = _TAGS[node.name]
            yield opening
            yield from _write(node.content, page, within)
            yield closing
        elif node.name in _REVISIONS:
            yield f'<{node.name}><span class="vh">{page.said(_REVISIONS[node.name])} </span>'
            yield from _write(node.content, page, within)
            yield f"</{node.name}>"
        elif node.name == "a":
            yield from _link(node, page, within)
        elif node.name in ("note", "noteref"):
            yield _mark(node, page, within)
        elif node.name == "image":
            picture = page.pictures.get(node.target)
            yield page.said("missing") if picture is None else write_picture(picture, page)
        elif node.name == "table":
            yield from _table(node, page, within)


def _attributes(node: Node) -> str:
    spans = (("colspan", node.columns), ("rowspan", node.rows), ("scope", node.scope))
    return "".join(f' {name}="{value}"' for name, value in spans if value not in (1, ""))


def _link(node: Node, page: Page, within: str) -> Iterator[str]:
    """What it says and, where that hides it, where it leads."""
    if within != "a":
        yield f'<a href="{attribute(node.target)}" rel="noreferrer noopener nofollow">'
    yield from _write(node.content, page, "a")
    if within != "a":
        yield "</a>"
    host = _host(node.target)
    if host not in plain_text(node.content):
        yield f" ({text(host)})"


def _host(address: str) -> str:
    try:
        parts = urlsplit(address)
    except ValueError:
        return address
    return parts.hostname or parts.path


def _mark(node: Node, page: Page, within: str) -> str:
    """Where a footnote is spoken of; the first mark is where its text leads back to."""
    own = f' id="cda-mark-{node.target}"' if node.name == "note" else ""
    label = attribute(page.words["note"].format(number=node.target))
    mark = f'<a href="#cda-note-{node.target}"{own} aria-label="{label}">{node.target}</a>'
    return f"<sup>{node.target if within == 'a' else mark}</sup>"


def _notes(nodes: Nodes, page: Page) -> Iterator[str]:
    notes = [node for node in walk(nodes) if node.name == "note"]
    if notes:
        yield f'<ol class="notes" start="{notes[0].target}">'
        for note in notes:
            yield f'<li id="cda-note-{note.target}" value="{note.target}">'
            yield from _write(note.content, page)
            yield "</li>"
        yield "</ol>"


# tables ----------------------------------------------------------------------------------------------------------


def _table(node: Node, page: Page, within: str) -> Iterator[str]:
    """A table that scrolls by itself; on a telephone a simple one becomes a list of cards."""
    labels = _labels(node)
    caption = next((plain_text(n.content) for n in node.content if isinstance(n, Node) and n.name == "caption"), "")
    name = attribute(caption or page.words["table"])
    yield f'<div class="tw" tabindex="0" role="group" aria-label="{name}">'
    style = "cards tall" if any(len(label) > _CARD_LABEL_MAX for label in labels[1:]) else "cards"
    yield f'<table class="{style}">' if labels else "<table>"
    for group in node.content:
        if isinstance(group, Node) and group.name == "tbody" and labels:
            yield "<tbody>"
            for row in group.content:
                yield from _card(row, labels, page, within)
            yield "</tbody>"
        else:
            yield from _write((group,), page, within)
    yield "</table></div>"


def _labels(table: Node) -> list[str]:
    """Heads of the columns, where each cell has one of its own."""
    groups = [n for n in table.content if isinstance(n, Node)]
    heads = [row for group in groups if group.name == "thead" for row in group.content]
    if len(heads) != 1 or not isinstance(heads[0], Node):
        return []
    labels = [plain_text(cell.content) for cell in heads[0].content if isinstance(cell, Node)]
    bodies = [node for group in groups if group.name != "caption" for node in walk(group.content)]
    simple = all(n.rows == 1 and n.columns in (1, len(labels)) for n in bodies) and "table" not in {
        n.name for n in bodies
    }
    return labels if simple and len(labels) in _CARD_COLUMNS and all(labels) else []


def _card(row: Node | str, labels: list[str], page: Page, within: str) -> Iterator[str]:
    yield "<tr>"
    cells = row.content if isinstance(row, Node) else ()
    for label, cell in zip(("", *labels[1:]), cells, strict=False):
        if isinstance(cell, Node) and cell.name == "td" and label:
            yield f'<td data-l="{attribute(label)}">'
            yield from _write(cell.content, page, within)
            yield "</td>"
        elif isinstance(cell, Node):  # what a card is about
            head = Node("th", cell.content, cell.columns, 1, cell.scope or "row") if cell.content else cell
            yield from _write((head,), page, within)
    yield "</tr>"

"""The narrative block of a CDA section as a tree of a few kinds of nodes (HL7 CDA R2, 4.3.5).

The tree is what pages, PDF and FHIR narratives are written from. Only nodes of a closed list come out, nested as HTML
allows it, and every table is a regular grid. What a browser would run, load or obey (script, style, other namespaces'
markup) goes; all other text stays, wherever it stands.
"""

from __future__ import annotations

import re
from bisect import bisect_left
from collections.abc import Iterable, Iterator, Mapping
from itertools import groupby
from operator import itemgetter
from typing import Any, NamedTuple

from obieg.wire.cda import Part
from obieg.wire.xml import attribute, text

Nodes = tuple["Node | str", ...]

# Kinds of nodes. Inline: they stand within a line. The others are blocks and what tables and lists are made of.
# red, green, big: styles of PIK HL7 CDA; image: target is the ID of the media; note, noteref: target is its number.
INLINE = frozenset(
    {"b", "i", "u", "em", "big", "red", "green", "sub", "sup", "br", "a", "ins", "del", "image", "note", "noteref"}
)
# styleCode (HL7 CDA R2, 4.3.5.11; the others are of PIK HL7 CDA 1.3.1) -> the node around it.
_STYLES = {
    "Bold": "b", "Italics": "i", "Underline": "u", "Emphasis": "em",
    "xPLred": "red", "xPLgreen": "green", "xPLbig": "big",
}  # fmt: skip
_REVISED = {"insert": "ins", "delete": "del"}
# Never shown, whatever the namespace: their content is no text.
_DROPPED = frozenset({"script", "style", "iframe", "object", "embed", "applet", "head", "template", "noscript"})
_BLOCKS = frozenset({"paragraph", "item", "tr", "th", "td", "list", "table", "caption", "br", "text", "title"})
_GROUPS = frozenset({"thead", "tbody", "tfoot"})
_CELLS = frozenset({"td", "th"})
_SPACE = re.compile(r"[ \t\r\n]+")
_LINKS = ("http://", "https://", "mailto:")
_SPAN_MAX = 100


class Node(Part, frozen=True):
    """A piece of a narrative; what does not apply to its kind is empty."""

    name: str
    content: Nodes = ()
    columns: int = 1  # of a cell
    rows: int = 1
    scope: str = ""  # of th: row, col, colgroup
    target: str = ""  # address of a link, ID of an image, number of a note


class _Cell(NamedTuple):
    name: str
    content: Nodes
    columns: int
    rows: int
    column: int = 0


_Rows = list[list[_Cell]]


def read_narrative(block: Any, notes_before: int = 0) -> Nodes:
    """The content of a section's ``text``: blocks, and text that stands between them; () if it says nothing.

    Footnotes are numbered from ``notes_before`` + 1 on.
    """
    if block is None:
        return ()
    footnotes = (e for e in block.iter() if _local(e) == "footnote")
    notes = {e: str(number) for number, e in enumerate(footnotes, notes_before + 1)}
    return tuple(_in_blocks(_Reader(notes).flow(block)))


def plain_text(nodes: Iterable[Node | str]) -> str:
    """What a reader would read, on one line."""
    return " ".join("".join(_plain(nodes)).split())


def walk(nodes: Iterable[Node | str]) -> Iterator[Node]:
    """Every node, in the order of reading."""
    for node in nodes:
        if isinstance(node, Node):
            yield node
            yield from walk(node.content)


def flat_text(element: Any) -> str:
    """What a reader would read of an element of the source, on one line."""
    return " ".join("".join(_flat(element)).split())


class _Reader:
    def __init__(self, notes: Mapping[Any, str]) -> None:
        self._notes = notes
        self._named = {e.get("ID"): number for e, number in notes.items() if e.get("ID")}

    def flow(self, element: Any) -> Iterator[Node | str]:
        """What stands in ``element``: inline and blocks, mixed."""
        yield from _words(element.text)
        for child in element:
            name = _local(child)
            if name and name not in _DROPPED:
                yield from self._styled(child, self._element(child, name))
            yield from _words(child.tail)

    def _styled(self, element: Any, nodes: Iterable[Node | str]) -> Iterator[Node | str]:
        wanted = [_STYLES[code] for code in element.get("styleCode", "").split() if code in _STYLES]
        if (revision := _REVISED.get(element.get("revised", ""))) is not None:
            wanted.append(revision)
        for name in wanted:
            nodes = _restyled(name, nodes)
        yield from nodes

    def _element(self, element: Any, name: str) -> Iterator[Node | str]:
        if name == "br":
            yield Node("br")
            yield from self.flow(element)
        elif name in ("sub", "sup"):
            yield from _wrapped(name, self.flow(element))
        elif name == "caption":
            yield from _wrapped("b", self.flow(element))
        elif name == "linkHtml":
            yield from self._link(element)
        elif name == "footnote":
            yield Node("note", tuple(_trimmed(self.flow(element))), target=self._notes[element])
        elif name == "footnoteRef" and element.get("IDREF") in self._named:
            yield Node("noteref", target=self._named[element.get("IDREF")])
            yield from self.flow(element)
        elif name == "renderMultiMedia":
            yield from (Node("image", target=id_) for id_ in element.get("referencedObject", "").split())
            yield from self.flow(element)
        elif name == "list":
            yield from self._list(element)
        elif name == "table":
            yield from self._table(element)
        elif name == "paragraph":
            yield from _wrapped("p", self._paragraph(element))
        elif name in _BLOCKS:  # of a list or table that is not there
            yield from _wrapped("p", self.flow(element))
        else:
            yield from self.flow(element)

    def _link(self, element: Any) -> Iterator[Node | str]:
        address = element.get("href", "").strip()
        content = tuple(self.flow(element))
        if not address.lower().startswith(_LINKS):
            yield from content
        else:
            yield from _wrapped("a", content if plain_text(content) else (address,), target=address)

    def _paragraph(self, element: Any) -> Iterator[Node | str]:
        """A caption that does not lead into the text, as "Tytuł:" does, stands on a line of its own."""
        first = next((e for e in element if _local(e)), None)
        nodes = list(_trimmed(self.flow(element)))
        if first is not None and _local(first) == "caption" and len(nodes) > 1 and nodes[0] not in ("", " "):
            caption = plain_text(nodes[:1])
            if not caption.endswith(":") and nodes[1] != Node("br"):
                nodes[1:1] = [Node("br")]
        yield from nodes

    def _list(self, element: Any) -> Iterator[Node | str]:
        ordered = element.get("listType") == "ordered"
        items: list[Node] = []
        for piece in (element, *element):
            name = "" if piece is element else _local(piece)
            if name == "caption":
                yield from _wrapped("p", self._styled(piece, self._element(piece, name)))
            elif name and name not in _DROPPED:
                within = self.flow(piece) if name == "item" else self._element(piece, name)
                content = tuple(_trimmed(self._styled(piece, within)))
                items += [Node("li", content)] if says(content) or (ordered and name == "item") else []
            loose = piece.text if piece is element else piece.tail
            items += [Node("li", (loose.strip(),))] if loose and loose.strip() else []
        if items:
            yield Node("ol" if ordered else "ul", tuple(items))

    # tables ---------------------------------------------------------------------------------------------------------

    def _table(self, element: Any) -> Iterator[Node | str]:
        """The table; what stands in it outside of cells comes before it."""
        caption: list[Node | str] = []
        groups: dict[str, _Rows] = {"thead": [], "tbody": [], "tfoot": []}
        loose: list[Node | str] = []
        self._rows(element, groups, "tbody", caption, loose)
        yield from _in_blocks(loose)
        if any(row for rows in groups.values() for row in rows):
            yield Node("table", (*_wrapped("caption", caption, inline_only=True), *_grid(groups)))
        else:
            yield from _wrapped("p", caption)

    def _rows(
        self, element: Any, groups: dict[str, _Rows], group: str, caption: list[Node | str], loose: list[Node | str]
    ) -> None:
        loose += (" ", *_words(element.text))
        for child in element:
            name = _local(child)
            if name in _GROUPS:
                self._rows(child, groups, name, caption, loose)
            elif name == "tr":
                loose += (" ", *_words(child.text))
                groups[group].append([self._cell(c) for c in child if _local(c) in _CELLS])
                for other in child:
                    if _local(other) not in _CELLS | _DROPPED | {""}:
                        loose += self._element(other, _local(other))
                    loose += (" ", *_words(other.tail))
            elif name in _CELLS:
                groups[group].append([self._cell(child)])
            elif name == "caption":
                caption += self.flow(child)
            elif name and name not in _DROPPED:
                loose += self._styled(child, self._element(child, name))
            loose += (" ", *_words(child.tail))

    def _cell(self, element: Any) -> _Cell:
        content = tuple(_trimmed(self._styled(element, self.flow(element))))
        return _Cell(_local(element), content, _span(element, "colspan"), _span(element, "rowspan"))


def _grid(groups: dict[str, _Rows]) -> Iterator[Node]:
    """The rows, without holes, overlaps, and columns or rows in which nothing begins; heads are marked as such."""
    if not groups["thead"] and len(groups["tbody"]) > 1 and _is_head(groups["tbody"][0]):
        groups["thead"] = [groups["tbody"].pop(0)]
    placed = {name: _placed(rows) for name, rows in groups.items()}
    starts = sorted({cell.column for rows in placed.values() for row in rows for cell in row})
    for name, rows in placed.items():
        if rows:
            yield Node(name, tuple(_filled(name, rows, starts)))


def _is_head(row: list[_Cell]) -> bool:
    return bool(row) and all(cell.name == "th" and cell.rows == 1 for cell in row)


def _placed(rows: _Rows) -> _Rows:
    """Each cell at the first free place of its row, no larger than what is free (HTML, forming a table)."""
    taken: dict[int, int] = {}  # column -> the row at which it is free again
    result: _Rows = []
    for at, row in enumerate(rows):
        column, placed = 0, []
        for cell in row:
            while taken.get(column, 0) > at:
                column += 1
            span = next((n for n in range(1, cell.columns) if taken.get(column + n, 0) > at), cell.columns)
            height = min(cell.rows, len(rows) - at)
            taken.update(dict.fromkeys(range(column, column + span), at + height))
            placed.append(cell._replace(columns=span, rows=height, column=column))
            column += span
        result.append(placed)
    kept = [0]
    for row in result:
        kept.append(kept[-1] + bool(row))
    return [
        [cell._replace(rows=kept[at + cell.rows] - kept[at]) for cell in row] for at, row in enumerate(result) if row
    ]


def _filled(name: str, rows: _Rows, starts: list[int]) -> Iterator[Node]:
    width = len(starts)
    above: list[tuple[int, int, int]] = []  # first column, the one after the last, the row at which they are free
    for at, row in enumerate(rows):
        ranges = [(bisect_left(starts, c.column), bisect_left(starts, c.column + c.columns)) for c in row]
        above = [held for held in above if held[2] > at]
        begun = [(a, b, None) for a, b, _ in above] + [(a, b, c) for (a, b), c in zip(ranges, row, strict=True)]
        cells, column = [], 0
        for first, end, cell in sorted(begun, key=itemgetter(0)):
            cells += [Node("td", columns=first - column)] if first > column else []
            cells += [_written(name, cell, end - first, width, row)] if cell is not None else []
            column = end
        cells += [Node("td", columns=width - column)] if width > column else []
        above += [(a, b, at + cell.rows) for (a, b), cell in zip(ranges, row, strict=True) if cell.rows > 1]
        yield Node("tr", tuple(cells))


def _written(group: str, cell: _Cell, columns: int, width: int, row: list[_Cell]) -> Node:
    """A head names its columns or its row; a cell of a table's whole width names what follows."""
    scope = ""
    if says(cell.content):
        if group == "thead" or (columns == width > 1 and group == "tbody"):
            scope = "colgroup" if columns > 1 else "col"
        elif cell.name == "th":
            scope = "col" if _is_head(row) and len(row) > 1 else "row"
    return Node("th" if scope else "td", cell.content, columns, cell.rows, scope)


# pieces ----------------------------------------------------------------------------------------------------------


def is_inline(node: Node | str) -> bool:
    """Whether it stands within a line."""
    return isinstance(node, str) or node.name in INLINE


def says(nodes: Iterable[Node | str]) -> bool:
    """Whether there is anything to read or to look at."""
    return any(
        bool(node.strip()) if isinstance(node, str) else node.name in ("image", "note", "noteref") or says(node.content)
        for node in nodes
    )


def _runs(nodes: Iterable[Node | str]) -> Iterator[tuple[bool, list[Node | str]]]:
    for inline, run in groupby(nodes, is_inline):
        yield inline, list(run)


def _wrapped(
    name: str, nodes: Iterable[Node | str], *, target: str = "", inline_only: bool = False
) -> Iterator[Node | str]:
    """Each run of inline nodes as one node ``name``; blocks stay as they are, between them.

    ``inline_only``: blocks give up their frames, so that all is one node.
    """
    if inline_only:
        nodes = list(_inlined(nodes))
    for inline, run in _runs(nodes):
        if not inline:
            yield from run
        elif says(run):
            yield Node(name, tuple(_trimmed(run)) if name not in INLINE else tuple(run), target=target)
        elif name in INLINE:
            yield from run


def _restyled(name: str, nodes: Iterable[Node | str]) -> Iterator[Node | str]:
    """The same with a style around the words, also around those of paragraphs, items and cells."""
    for inline, run in _runs(nodes):
        if inline:
            yield from _wrapped(name, run)
        else:
            for node in run:
                if isinstance(node, Node):
                    yield Node(
                        node.name,
                        tuple(_restyled(name, node.content)),
                        node.columns,
                        node.rows,
                        node.scope,
                        node.target,
                    )


def _inlined(nodes: Iterable[Node | str]) -> Iterator[Node | str]:
    for node in nodes:
        if is_inline(node):
            yield node
        elif isinstance(node, Node):
            yield " "
            yield from _inlined(node.content)
            yield " "


def _in_blocks(nodes: Iterable[Node | str]) -> Iterator[Node | str]:
    return _wrapped("p", nodes)


def _trimmed(nodes: Iterable[Node | str]) -> Iterator[Node | str]:
    """Without the white space and line breaks at both ends."""
    pieces = list(nodes)
    while pieces and pieces[0] in (" ", Node("br")):
        del pieces[0]
    while pieces and pieces[-1] in (" ", Node("br")):
        del pieces[-1]
    if pieces and isinstance(pieces[0], str):
        pieces[0] = pieces[0].lstrip()
    if pieces and isinstance(pieces[-1], str):
        pieces[-1] = pieces[-1].rstrip()
    return iter(pieces)


def _words(characters: str | None) -> Iterator[str]:
    """Character data; runs of white space are one space, as they are when shown."""
    if characters:
        yield _SPACE.sub(" ", characters)


def _plain(nodes: Iterable[Node | str]) -> Iterator[str]:
    for node in nodes:
        if isinstance(node, str):
            yield node
        else:
            around = "" if node.name in INLINE and node.name not in ("br", "note") else " "
            yield around
            yield from _plain(node.content)
            yield around


def _flat(element: Any) -> Iterator[str]:
    yield element.text or ""
    for child in element:
        name = _local(child)
        if name and name not in _DROPPED:
            around = " " if name in _BLOCKS else ""
            yield around
            yield from _flat(child)
            yield around
        yield child.tail or ""


def _span(element: Any, name: str) -> int:
    value = element.get(name, "")
    return min(max(int(value), 1), _SPAN_MAX) if value.isascii() and value.isdecimal() and len(value) <= 3 else 1


def _local(element: Any) -> str:
    """The local name, in any namespace: what is dropped is dropped however it is called."""
    tag = element.tag
    return tag.rpartition("}")[2] if isinstance(tag, str) else ""


# FHIR ------------------------------------------------------------------------------------------------------------

# Nodes and the XHTML of a FHIR narrative (FHIR R4, narrative.html), which has neither ins nor del.
_XHTML = {
    "red": ("<strong>", "</strong>"), "green": ("<strong>", "</strong>"),
    "u": ("<span>", "</span>"), "ins": ("<span>", "</span>"),
    "del": ('<span style="text-decoration: line-through">', "</span>"),
    "note": (" (", ")"), "noteref": ("", ""), "image": ("", ""), "br": ("<br/>", ""),
}  # fmt: skip


def write_xhtml(block: Any) -> str:
    """The content of a section's ``text`` as XHTML for FHIR, without a root element; "" if it says nothing."""
    return "".join(_xhtml(read_narrative(block))).strip() if block is not None and flat_text(block) else ""


def _xhtml(nodes: Iterable[Node | str]) -> Iterator[str]:
    for node in nodes:
        if isinstance(node, str):
            yield text(node)
            continue
        if node.name in _XHTML:
            opening, closing = _XHTML[node.name]
        elif node.name == "a" and node.target.lower().startswith(_LINKS[:2]):
            opening, closing = f'<a href="{attribute(node.target)}">', "</a>"
        elif node.name == "a":
            opening, closing = "", ""
        else:
            spans = (("colspan", node.columns), ("rowspan", node.rows), ("scope", node.scope))
            attributes = "".join(f' {name}="{value}"' for name, value in spans if value not in (1, ""))
            opening, closing = f"<{node.name}{attributes}>", f"</{node.name}>"
        content = "".join(_xhtml(_inlined(node.content) if node.name == "note" else node.content))
        if content or node.name in ("td", "br"):  # others say nothing, and HTML reads an empty element as an open one
            yield f"{opening}{content or ' ' * (node.name == 'td')}{closing}"

"""Narrative blocks as no schema allows them, with a word in each place where text may stand."""

from __future__ import annotations

from typing import Any

from hypothesis import strategies as st
from lxml import etree

from summaries import V3

INLINE = ("content", "sub", "sup", "linkHtml", "footnote", "br", "renderMultiMedia", "obcy")
BLOCKS = ("paragraph", "list", "item", "table", "thead", "tbody", "tfoot", "tr", "td", "th", "caption", "colgroup")
MARKS = st.dictionaries(
    st.sampled_from(["styleCode", "revised", "colspan", "rowspan", "listType", "href", "referencedObject"]),
    st.sampled_from(["Bold xPLred", "delete", "insert", "2", "0", "99", "ordered", "https://a.pl", "M"]),
    max_size=3,
)
TREES = st.recursive(
    st.tuples(st.sampled_from(INLINE + BLOCKS), MARKS, st.just([])),
    lambda inner: st.tuples(st.sampled_from(INLINE + BLOCKS), MARKS, st.lists(inner, max_size=4)),
    max_leaves=25,
)


def built(tree: Any, words: list[str]) -> Any:
    """The element with a word of its own in each place where text may stand."""
    name, marks, children = tree
    element = etree.Element(f"{{{V3}}}{name}", marks)

    def word() -> str:
        words.append(f"q{len(words)}z")
        return f"\n {words[-1]} "

    element.text = word()
    for child in children:
        element.append(built(child, words))
        element[-1].tail = word()
    return element

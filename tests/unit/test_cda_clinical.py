"""What a CDA document says comes out of it: every code, every text, and nothing that it does not say."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from lxml import etree

import summaries
from obieg.domain.summary import Extract, Source, Span, collapse
from obieg.mapping.cda_clinical import is_state, read_extract
from obieg.wire import cda_body
from obieg.wire.cda import CdaRefused
from obieg.wire.cda_narrative import write_xhtml
from summaries import allergy, cda, diagnosis, drug, section

SOURCE = Source("0f0e0d0c-0000-4000-8000-000000000001", "1.2.3", created_at="20240102030405")


def extract(*sections: str) -> Extract:
    return read_extract(cda(*sections), SOURCE)


def codes_out(found: Extract) -> set[str]:
    concepts = [c for p in found.passages for c in p.codes]
    for s in found.statements:
        concepts += [s.concept, *s.details, *s.interpretations, *(r.manifestation for r in s.reactions)]
        concepts += [v.concept for v in (*s.values, *s.ranges) if v.concept is not None]
        concepts += [s.route] if s.route is not None else []
    return {coding.code for concept in concepts for coding in concept.codings}


# nothing is lost -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", summaries.samples(), ids=lambda p: p.stem.rpartition(".10.1.")[2])
def test_no_code_and_no_text_of_a_sample_is_lost(path: Path) -> None:
    document = path.read_bytes()
    found = read_extract(document, SOURCE)
    assert summaries.codes(document) - codes_out(found) == set()
    texts = [summaries.squeezed("".join(etree.fromstring(f"<d>{p.xhtml}</d>").itertext())) for p in found.passages]
    assert [t for t in summaries.section_texts(document) if t and t not in texts] == []


TEXTS = st.text(
    st.characters(codec="utf-8", exclude_categories=("Cs", "Cc"), exclude_characters="\ufffe\uffff"), max_size=20
)
CODES = st.from_regex(r"[A-Z][0-9]{2}(\.[0-9])?", fullmatch=True)
ENTRIES = st.one_of(
    st.builds(diagnosis, CODES, TEXTS, time=st.sampled_from(["", "2011", "20110203", "201102031405"]), negated=st.booleans()),
    st.builds(allergy, CODES, TEXTS, negated=st.booleans()),
    st.builds(drug, CODES, TEXTS, text=TEXTS),
    st.builds(lambda inner: f'<act classCode="ACT" moodCode="EVN"><entryRelationship typeCode="SUBJ">{inner}</entryRelationship></act>',
              st.builds(diagnosis, CODES, TEXTS)),
    st.builds(lambda c, d: f'<procedure classCode="PROC" moodCode="RQO"><code code="{c}" codeSystem="{summaries.ICD9PL}"/>'
              f"<entryRelationship>{d}</entryRelationship></procedure>", CODES, st.builds(diagnosis, CODES, TEXTS)),
    st.builds(lambda c: f'<regionOfInterest classCode="ROIOVL" moodCode="EVN"><code code="{c}" codeSystem="1.2.3"/></regionOfInterest>', CODES),
)  # fmt: skip
SECTIONS = st.builds(
    lambda text, entries, code: section(f"<paragraph>{summaries.escape(text)}</paragraph>", *entries, code=code),
    TEXTS,
    st.lists(ENTRIES, max_size=4),
    st.sampled_from(["", "29548-5", "48765-2", "57828-6", "30954-2", "47519-4", "46264-8", "99999-9"]),
)


@given(st.lists(SECTIONS, max_size=5))
@settings(deadline=None, max_examples=150)
def test_no_code_and_no_text_of_a_document_is_lost(sections: list[str]) -> None:
    document = cda(*sections)
    found = read_extract(document, SOURCE)
    assert summaries.codes(document) - codes_out(found) == set()
    texts = [summaries.squeezed("".join(etree.fromstring(f"<d>{p.xhtml}</d>").itertext())) for p in found.passages]
    assert [t for t in summaries.section_texts(document) if t and t not in texts] == []


# what is what ----------------------------------------------------------------------------------------------------


def test_a_diagnosis_keeps_its_code_and_the_time_that_is_stated() -> None:
    [found] = extract(
        section("x", diagnosis("I10", "Nadciśnienie", time="201402031405+0100"), code="29548-5")
    ).statements
    assert (found.kind, found.section, found.concept.code) == ("condition", "problems", "I10")
    assert found.concept.codings[0].system == "http://hl7.org/fhir/sid/icd-10"
    assert found.time == Span("201402031305", "")
    assert found.sources == (SOURCE,)


def test_polish_time_without_an_offset_is_local() -> None:
    [found] = extract(section("x", diagnosis("I10", "N", time="201407031405"), code="29548-5")).statements
    assert found.time.low == "201407031205"


def test_an_allergy_is_its_substance_wherever_it_stands() -> None:
    [found] = extract(section("x", allergy("387207008", "Ibuprofen"), code="10164-2")).statements
    assert (found.kind, found.section, found.concept.name) == ("allergy", "allergies", "Ibuprofen")
    assert not found.negated
    assert "419199007" in {d.code for d in found.details}


def test_what_a_source_denies_is_denied_and_not_left_out() -> None:
    [found] = extract(section("x", allergy("387207008", "Ibuprofen", negated=True), code="48765-2")).statements
    assert found.negated


def test_a_text_without_entries_is_an_entry_of_the_sections_that_are_always_there() -> None:
    [found] = extract(
        section("<paragraph>Uczulenie na <content>orzechy</content></paragraph>", code="48765-2")
    ).statements
    assert (found.kind, found.concept.codings, found.concept.text) == ("allergy", (), "Uczulenie na orzechy")
    silent = extract(
        '<section nullFlavor="NI"><code code="48765-2" codeSystem="2.16.840.1.113883.6.1"/><text>Brak danych</text></section>'
    )
    assert silent.statements == ()
    assert [p.xhtml for p in silent.passages] == ["<p>Brak danych</p>"]


def test_what_is_said_of_a_relative_is_not_said_of_the_patient() -> None:
    entry = (
        '<organizer classCode="CLUSTER" moodCode="EVN"><subject><relatedSubject classCode="PRS"><code code="FTH" '
        f'codeSystem="2.16.840.1.113883.5.111"/></relatedSubject></subject><component>{diagnosis("I21", "Zawał")}'
        "</component></organizer>"
    )
    found = extract(section("Ojciec: zawał", entry, code="10157-6"))
    assert found.statements == ()
    assert {"I21", "FTH"} <= {c.code for c in found.passages[0].codes}


def test_what_is_wished_for_has_not_happened() -> None:
    wished = (
        f'<procedure classCode="PROC" moodCode="RQO"><code code="88.55" codeSystem="{summaries.ICD9PL}"/></procedure>'
    )
    [found] = extract(section("x", wished, code="47519-4")).statements
    assert (found.kind, found.section) == ("order", "plan")


def test_a_recommended_drug_is_a_drug_with_its_dosage_in_words() -> None:
    [found] = extract(section("x", drug("B01AC06", "Polocard 150 mg", text="2 x 1 tabl."), code="57828-6")).statements
    assert (found.kind, found.section, found.dosage, found.status) == (
        "medication",
        "medications",
        "2 x 1 tabl.",
        "unknown",
    )
    assert found.concept.codings[0].system == "http://www.whocc.no/atc"


def test_a_reason_for_a_drug_is_no_finding_of_its_own() -> None:
    reason = f'<entryRelationship typeCode="RSON">{diagnosis("J18", "Zapalenie płuc")}</entryRelationship>'
    entry = drug("J01CA04", "Amoksycylina").replace("</substanceAdministration>", f"{reason}</substanceAdministration>")
    [found] = extract(section("x", entry, code="10160-0")).statements
    assert {d.code for d in found.details} == {"J18"}


def test_templates_that_build_on_one_another() -> None:
    both = allergy("1", "Osa").replace(
        "<code ",
        '<templateId root="1.3.6.1.4.1.19376.1.5.3.1.4.5"/><templateId root="1.3.6.1.4.1.19376.1.5.3.1.4.6"/><code ',
        1,
    )
    [found] = extract(section("x", both, code="11450-4")).statements
    assert found.kind == "allergy"


# several sources -------------------------------------------------------------------------------------------------


def said(*entries: str, source: Source = SOURCE, code: str = "29548-5") -> tuple:  # type: ignore[type-arg]
    return read_extract(cda(section("x", *entries, code=code)), source).statements


OTHER = Source("0f0e0d0c-0000-4000-8000-000000000002", "1.2.4", created_at="20230102030405")


def test_the_same_from_two_sources_is_one_with_both() -> None:
    found = collapse(
        [*said(diagnosis("I10", "Nadciśnienie")), *said(diagnosis("I10", "NADCIŚNIENIE"), source=OTHER)],
        is_state=is_state,
    )
    [one] = found
    assert one.sources == (SOURCE, OTHER)


def test_another_date_another_answer_stand_side_by_side() -> None:
    entries = [
        *said(diagnosis("I10", "N", time="2011")),
        *said(diagnosis("I10", "N", time="2012"), source=OTHER),
        *said(diagnosis("I10", "N", time="2011", negated=True), source=OTHER),
        *said(allergy("1", "Penicylina")),
        *said(allergy("1", "Penicylina", negated=True), source=OTHER),
        *said(drug("A", "Lek", text="1 x 1"), code="10160-0"),
        *said(drug("A", "Lek", text="2 x 1"), code="10160-0", source=OTHER),
    ]
    assert collapse(entries, is_state=is_state) == tuple(entries)


def test_undated_events_of_different_days_are_different_events() -> None:
    done = (
        f'<procedure classCode="PROC" moodCode="EVN"><code code="45.31" codeSystem="{summaries.ICD9PL}"/></procedure>'
    )
    same_day = Source("0f0e0d0c-0000-4000-8000-000000000003", "1.2.5", created_at="20240102235959")
    entries = [
        *said(done, code="47519-4"),
        *said(done, code="47519-4", source=OTHER),
        *said(done, code="47519-4", source=same_day),
    ]
    assert [s.sources for s in collapse(entries, is_state=is_state)] == [(SOURCE, same_day), (OTHER,)]


# bad input -------------------------------------------------------------------------------------------------------


HOSTILE = [
    ('<script>alert(1)</script>przed<content onclick="x()" styleCode="Bold">po</content>', "<p>przed<b>po</b></p>"),
    ('<linkHtml href="javascript:alert(1)">tu</linkHtml>', "<p>tu</p>"),
    ('<linkHtml href="https://example.org/?a=1&amp;b=&quot;">tu</linkHtml>', '<p><a href="https://example.org/?a=1&amp;b=&quot;">tu</a></p>'),
    ('<x:img xmlns:x="http://www.w3.org/1999/xhtml" src="http://a" onerror="x"/>a', "<p>a</p>"),
    ('<x:script xmlns:x="http://www.w3.org/1999/xhtml">alert(1)</x:script>a', "<p>a</p>"),
    ('<table><tr><td colspan="2" onload="x">a &lt;b&gt;</td><td colspan="x">c</td></tr></table>',
     "<table><tbody><tr><td>a &lt;b&gt;</td><td>c</td></tr></tbody></table>"),
    ('<list listType="ordered"><caption>Leki</caption><item>a</item>\n<item>b</item></list>', "<p><b>Leki</b></p><ol><li>a</li><li>b</li></ol>"),
    ("<paragraph><caption>Co</caption> tak<br/>dalej<style>p{}</style></paragraph>", "<p><b>Co</b><br/> tak<br/>dalej</p>"),
]  # fmt: skip


@pytest.mark.parametrize(("given", "written"), HOSTILE)
def test_narrative_is_made_safe(given: str, written: str) -> None:
    assert write_xhtml(etree.fromstring(f'<text xmlns="{summaries.V3}">{given}</text>')) == written


@pytest.mark.parametrize(
    "document",
    [
        b"",
        b"%PDF-1.7",
        b"<ClinicalDocument/>",
        b'<!DOCTYPE x [<!ENTITY a SYSTEM "file:///etc/passwd">]><ClinicalDocument xmlns="urn:hl7-org:v3">&a;</ClinicalDocument>',
        b'<!DOCTYPE x [<!ENTITY a "aaaa"><!ENTITY b "&a;&a;&a;">]><ClinicalDocument xmlns="urn:hl7-org:v3">&b;</ClinicalDocument>',
        b'<ClinicalDocument xmlns="urn:hl7-org:v3">'
        + b"<component>" * 100
        + b"</component>" * 100
        + b"</ClinicalDocument>",
    ],
)
def test_what_is_no_cda_is_refused(document: bytes) -> None:
    with pytest.raises(CdaRefused):
        read_extract(document, SOURCE)


def test_more_entries_than_anybody_has_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cda_body, "STATEMENTS_MAX", 3)
    assert len(extract(section("x", *[diagnosis("I10", "N")] * 3)).statements) == 3
    with pytest.raises(cda_body.TooMuch):
        extract(section("x", *[diagnosis("I10", "N")] * 4))

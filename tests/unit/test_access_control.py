"""Who decides: what is asked, what the answer and the record say, and what is asked of the database."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
import pytest

from obieg.actors.access_control import AccessControl
from obieg.domain.access import (
    Act,
    Condition,
    Consent,
    Declaration,
    Deny,
    DocumentFacts,
    Facts,
    Filter,
    Period,
    Permit,
    Provision,
    Rule,
    Source,
    decide,
)
from obieg.domain.audit import AuditObject, Outcome
from obieg.domain.identifiers import (
    PatientId,
    organisation_identifier,
    person_identifier,
    reference_identifier,
)
from obieg.domain.permits import MeantDocument, Named, Person
from obieg.domain.problems import Problem
from obieg.domain.requester import Requester
from obieg.domain.sight import EVERYTHING, Asked, Look, Sight, sight
from obieg.protocol import Context
from obieg.transactions import TRANSACTIONS

OWN = "1.2.616.9"
NOW = datetime(2026, 6, 1, 10, tzinfo=UTC)
END = datetime(2027, 1, 1, tzinfo=UTC)
DOCTOR = Requester("his", person="1.6.2#1", role="medical-doctor", organisation="1.2.3#1", purpose_of_use="TREAT")
STRANGER = msgspec.structs.replace(DOCTOR, person="1.6.2#2")
POZ = Facts((f"{OWN}#a",), declarations=(Declaration("1.6.2#1", "doctor", "", Period(None, END)),))


class Store:
    """Knows of one person, by any name."""

    def __init__(self, facts: Facts, *documents: DocumentFacts) -> None:
        self.facts = facts
        self.kept = documents
        self.asked: list[Named] = []

    async def of(self, named: Named) -> Sequence[Person]:
        self.asked.append(named)
        return [Person((7, 8), frozenset("ab"), self.facts, ("70", "80"))]

    async def documents(self, keys: Sequence[int], named: Sequence[str]) -> Sequence[MeantDocument]:
        assert keys == (7, 8)
        meant = {d.lineage for d in self.kept if d.entry_uuid in named}
        return [MeantDocument(d, frozenset({d.entry_uuid} & {*named})) for d in self.kept if d.lineage in meant]


def context(requester: Requester, transaction: str = "ITI-18") -> Context:
    found = next(t for t in TRANSACTIONS if t.id == transaction)
    return Context(found, requester, "r", NOW)


def seen(requester: Requester, facts: Facts = POZ, **more: Any) -> tuple[Any, Context]:
    asking = context(requester)
    control = AccessControl(Store(facts))
    found = asyncio.run(control.see(Named((PatientId("a", OWN),)), asking, **more))
    return found, asking


def test_nothing_is_asked_where_nothing_is_enforced() -> None:
    control, asking = AccessControl(), context(Requester("his"), "BULK-1")
    control.admit(asking)
    control.expect_decided(asking)
    assert asyncio.run(control.see(Named(), asking)).sight == EVERYTHING
    assert control.changes(asking) is None
    assert not control.enforced


def test_a_record_is_of_who_fed_it_and_of_the_systems_of_their_organisation() -> None:
    control = AccessControl(Store(POZ), systems={"his": "1.2#S", "lis": "1.2#S", "poz": "1.2#P"})
    his, other = (control.feeder(Requester(name, proof="certificate")) for name in ("his", "other"))
    assert [his.owns(by) for by in ("his", "lis", "poz", "other", "")] == [True, True, False, False, True]
    assert [other.owns(by) for by in ("his", "other", "")] == [False, True, True]
    assert [his.after(by) for by in ("his", "lis", "poz", "")] == ["his", "his", "poz", "his"]
    # What a proof says of its organisation binds nobody: a system may be told one by whoever issues its tokens.
    assert not control.feeder(Requester("other", proof="saml", organisation="1.2#S")).owns("his")
    for nobody in ("laboratory", ""):
        assert control.feeder(Requester("poz", proof=nobody)).owns("his")
        assert control.feeder(Requester("poz", proof=nobody)).after("his") == "his"
    open_to_all = AccessControl().feeder(Requester("poz", proof="certificate"))
    assert open_to_all.owns("his"), "nothing is enforced; whose it is is remembered all the same"
    assert (open_to_all.after("his"), open_to_all.after("")) == ("his", "poz")


def test_what_is_permitted_is_named_with_its_end() -> None:
    found, asking = seen(DOCTOR)
    assert found.sight.permitted == (7, 8)
    assert found.sight.filter is not None
    assert found.sight.filter.keys == (7, 8)
    found.told(asking)
    assert asking.access == "author,poz; until=2027-01-01T00:00:00Z"
    assert asking.audit().detail == "access: author,poz; until=2027-01-01T00:00:00Z"
    found.of({"c"}).told(asking)
    assert asking.access == ""


def test_whoever_is_only_perhaps_an_author_learns_nothing_of_who_is_a_patient() -> None:
    found, asking = seen(STRANGER)
    assert not found.certain
    found.told(asking, shown=False)
    assert asking.access == ""
    found.told(asking)
    assert asking.access == "author"


def test_a_refusal_stands_in_the_record_with_its_patient() -> None:
    found, asking = seen(Requester("his", purpose_of_use="TREAT"))
    assert found.sight == Sight(())
    asking.objects = (AuditObject("stored_query", "GetDocuments"),)
    found.refused(asking, OWN)
    found.told(asking)
    event = asking.audit()
    assert event.outcome == Outcome.MINOR_FAILURE
    assert event.detail == "no access: system"
    assert [o.identifier for o in event.objects] == [f"a^^^&{OWN}&ISO", "GetDocuments"]
    asking.objects = (AuditObject("patient", f"b^^^&{OWN}&ISO"),)
    found.refused(asking, OWN)
    assert asking.audit().objects == asking.objects  # by whichever name


def test_a_record_names_whom_it_was_about_once_whatever_was_shown() -> None:
    found, asking = seen(DOCTOR)
    asking.objects = (AuditObject("patient", "1^^^&1.2.616.7&ISO"), AuditObject("stored_query", "GetDocuments"))
    found.refused(asking, OWN)
    assert asking.audit().detail == ""
    assert [o.identifier for o in asking.audit().objects] == [f"a^^^&{OWN}&ISO", "1^^^&1.2.616.7&ISO", "GetDocuments"]
    asking.objects = (AuditObject("patient", f"a^^^&{OWN}&ISO"), *asking.objects)  # as is found later
    assert asking.audit().objects == asking.objects


def test_who_names_nobody_sees_nothing_and_nothing_is_read() -> None:
    store, asking = Store(POZ), context(DOCTOR)
    assert asyncio.run(AccessControl(store).see(Named(), asking)).sight == Sight(())
    assert store.asked == []
    assert asking.decided


@pytest.mark.parametrize(
    ("transaction", "requester", "may"),
    [
        ("ITI-42", Requester("his"), True),
        ("ITI-42", DOCTOR, True),
        ("ITI-42", msgspec.structs.replace(DOCTOR, role="patient"), False),
        ("ITI-81", Requester("siem", proof="oauth"), True),
        ("ITI-81", Requester("hospital", proof="certificate"), False),
        ("ITI-81", DOCTOR, False),
        ("ITI-90", DOCTOR, True),
        ("ITI-57", msgspec.structs.replace(DOCTOR, role="administrative-employee"), False),
        ("ITI-78", msgspec.structs.replace(DOCTOR, purpose_of_use="HRESCH"), False),
    ],
)
def test_who_may_at_all(transaction: str, requester: Requester, may: bool) -> None:
    control, asking = AccessControl(Store(POZ)), context(requester, transaction)
    if may:
        control.admit(asking)
        control.expect_decided(asking)
        return
    with pytest.raises(Problem) as refused:
        control.admit(asking)
    [finding] = refused.value.findings
    assert finding.code == "NotPermitted"
    assert finding.reason
    assert finding.reason not in finding.detail


def test_what_reads_must_ask() -> None:
    control, asking = AccessControl(Store(POZ)), context(DOCTOR)
    control.admit(asking)  # it depends on the patient
    with pytest.raises(AssertionError, match="ITI-18 has answered without asking"):
        control.expect_decided(asking)
    assert control.depends(Act.READ, DOCTOR)
    assert not control.depends(Act.IDENTIFY, DOCTOR)


def test_a_professional_changes_what_their_organisation_has_written() -> None:
    control = AccessControl(Store(POZ))
    assert control.changes(context(Requester("his"), "ITI-57")) is None
    assert control.changes(context(DOCTOR, "ITI-57")) == (
        Source("author", (Rule(permit=True, condition=Condition(authors=("1.2.3#1",))),)),
    )
    nobody = msgspec.structs.replace(DOCTOR, organisation="")
    assert control.changes(context(nobody, "ITI-57")) == ()


def written(name: str, *authors: str, lineage: str = "") -> DocumentFacts:
    return DocumentFacts(f"urn:uuid:{name}", lineage or name, authors=authors)


def referable(
    requester: Requester, facts: Facts, *documents: DocumentFacts, joined: Sequence[str] = ()
) -> dict[str, bool] | None:
    """As the control says it of all of them, by their names."""
    control, names = AccessControl(Store(facts, *documents)), [d.entry_uuid for d in documents]
    found = asyncio.run(control.referable(requester, names, NOW, [{f"urn:uuid:{j}" for j in joined}]))
    return None if found is None else {name.removeprefix("urn:uuid:"): theirs for name, theirs in found.items()}


def test_a_system_refers_to_everything_and_a_person_to_what_they_read_or_have_written() -> None:
    foreign, mine = written("1", "1.6.2#9", "1.2.3#9"), written("2", "1.6.2#2", "1.2.3#9")
    ours, nobodys = written("3", "", "1.2.3#1"), written("4", "")
    documents = (foreign, mine, ours, nobodys)
    assert referable(Requester("his"), POZ, *documents) is None
    assert asyncio.run(AccessControl().referable(STRANGER, ["urn:uuid:1"], NOW)) is None
    assert referable(DOCTOR, POZ, *documents) == {"1": False, "2": False, "3": True, "4": False}
    assert referable(STRANGER, POZ, *documents) == {"2": True, "3": True}
    clerk = msgspec.structs.replace(STRANGER, role="administrative-employee", organisation="")
    assert referable(clerk, POZ, *documents) == {"2": True}
    assert referable(msgspec.structs.replace(clerk, person="1.6.2#7", acting_for="1.6.2#2"), POZ, *documents) == {}
    assistant = msgspec.structs.replace(STRANGER, role="medical-assistant", person="1#1", acting_for="1.6.2#2")
    assert referable(assistant, POZ, *documents) == {"2": True, "3": True}


def test_who_refers_to_nothing_costs_no_question() -> None:
    store = Store(POZ)
    assert asyncio.run(AccessControl(store).referable(STRANGER, [], NOW)) == {}
    assert store.asked == []


def test_what_a_person_joins_shows_them_no_more() -> None:
    """A doctor's own document, to which others have added one that is hidden from them, and one that is permitted."""
    own, added = written("1", "1.6.2#2"), written("2", "1.6.2#9", lineage="1")
    permitted = written("3", "1.6.2#9")
    provision = Provision(permit=True, actors=("1.6.2#2",), condition=Condition(documents=("urn:uuid:3",)))
    facts = Facts((f"{OWN}#a",), consents=(Consent("1", Period(), (provision,)),))
    assert referable(STRANGER, facts, own, added, permitted) == {"1": True, "3": False}
    assert referable(STRANGER, facts, own, added, permitted, joined="13") == {"3": False}
    assert referable(STRANGER, facts, own, permitted, joined="13") == {"1": True, "3": False}
    everything = Facts((f"{OWN}#a",), consents=(Consent("1", Period(), (Provision(permit=True),)),))
    assert referable(STRANGER, everything, own, added, permitted, joined="13") == {"1": True, "2": False, "3": False}


# the form in which the database is asked -----------------------------------------------------------------------------


def rules(*filter_: Source) -> list[tuple[Any, ...]]:
    """As rules; the plain form is for one person alone, so that there is another one."""
    other = (source(Rule(permit=True), Rule(permit=False, condition=Condition(labels=("ETH",)))),)
    found = sight([((1,), tuple(filter_)), ((2,), other)]).filter
    assert found is not None
    read = [r for r in json.loads(found.rules or "[]") if r["patients"] == [1]]
    fixed = ("patients", "source", "place", "permit", "rank")
    return [
        (r["source"], r["place"], r["permit"], r["rank"], {k: v for k, v in r.items() if k not in fixed}) for r in read
    ]


def source(*given: Rule) -> Source:
    return Source("consent", given)


def test_sources_of_one_rule_are_asked_together() -> None:
    def of_class(code: str, permit: bool = True, max_: str = "V") -> Source:
        return source(Rule(permit, Condition(class_codes=(code,)), max_))

    assert rules(of_class("a"), of_class("b"), of_class("a"), of_class("c", permit=False), of_class("d", max_="R")) == [
        (1, 0, True, 2, {"any": True, "class_codes": ["a", "b"]}),
        (2, 0, True, 1, {"any": True, "class_codes": ["d"]}),
        (3, 0, False, 2, {"any": True, "class_codes": ["c"]}),
    ]


def test_attributes_that_are_looked_at_alone_are_looked_at_together() -> None:
    def denying(**asked: Any) -> Source:
        return source(Rule(permit=False, condition=Condition(**asked)))

    both = denying(class_codes=("a",), labels=("ETH",))
    assert rules(
        denying(class_codes=("a",)), denying(labels=("ETH",)), denying(created_from="2021"), denying(created_from="2020"),
        denying(created_to="1990"), denying(created_to="1991"), both, source(Rule(permit=True)),
    ) == [
        (1, 0, True, 2, {}),
        (2, 0, False, 2, {"class_codes": ["a"], "labels": ["ETH"]}),
        (3, 0, False, 2, {
            "any": True, "class_codes": ["a"], "labels": ["ETH"], "created_from": "2020", "created_to": "1991",
        }),
    ]  # fmt: skip


def test_what_is_permitted_whatever_it_is_need_not_be_permitted_again() -> None:
    narrow = source(Rule(permit=True, condition=Condition(labels=("ETH",)), max="R"))
    assert rules(source(Rule(permit=True, max="R")), narrow) == [(1, 0, True, 1, {})]
    assert rules(source(Rule(permit=True, max="N")), narrow) == [
        (1, 0, True, 0, {}),
        (2, 0, True, 1, {"any": True, "labels": ["ETH"]}),
    ]
    assert rules(source(Rule(permit=True)), narrow) == []
    exception = source(Rule(permit=True), Rule(permit=False, condition=Condition(labels=("ETH",))))
    assert [r[:3] for r in rules(source(Rule(permit=True)), exception)] == [(1, 0, True), (1, 1, False), (2, 0, True)]


def test_what_takes_a_look_or_two_at_each_document_is_asked_plainly() -> None:
    def permitting(max_: str, **asked: Any) -> Source:
        return source(Rule(permit=True, condition=Condition(**asked), max=max_))

    denying = source(Rule(permit=False, condition=Condition(class_codes=("a",))))
    own, open_, plain = permitting("V", authors=("1.2#1",)), permitting("R"), permitting("R", labels=("ETH",))
    opened, denied = Look(authors=("1.2#1",)), Look(class_codes=("a",))
    for filter_, asked in (
        ((own,), Asked((1, 2), opened=opened)),
        ((own, open_, plain), Asked((1, 2), above=("V",), opened=opened)),
        ((permitting("N"), denying), Asked((1, 2), above=("V", "R"), denied=denied)),
        ((permitting("V"), own, denying), Asked((1, 2), above=(), denied=denied)),
    ):
        assert sight([((1, 2), filter_)]).filter == asked
        assert sight([((1, 2), filter_), ((3,), None)]).filter == asked
    for filter_ in (
        (own, plain),  # of less than the highest rank
        (own, source(Rule(permit=False))),
        (own, permitting("V", labels=("ETH",), authors=("1.2#1",))),  # both must fit
        (own, source(Rule(permit=True), Rule(permit=False, condition=Condition(labels=("ETH",))))),
    ):
        found = sight([((1, 2), filter_)]).filter
        assert found is not None
        assert found.rules is not None
        assert found[2:] == (None, None, None)


def test_documents_are_named_without_their_prefix_and_what_names_none_fits_nothing() -> None:
    uuid = "7d2b0b3e-0f9e-4a0c-8f3e-2f0f9b6f5a11"
    given: Filter = (source(Rule(permit=True, condition=Condition(documents=(f"urn:uuid:{uuid}", "'; DROP")))),)
    assert rules(*given) == [(1, 0, True, 2, {"any": True, "documents": [uuid]})]
    assert sight([((1,), ())]) == Sight(())


# identifiers ---------------------------------------------------------------------------------------------------------


def test_identifiers_in_metadata() -> None:
    assert person_identifier("7^Nowak^Anna^^^dr^^^&1.6.2&ISO") == "1.6.2#7"
    assert person_identifier("7^Nowak^Anna") == ""
    assert person_identifier("^Nowak^Anna^^^^^^&1.6.2&ISO") == ""
    assert organisation_identifier("Szpital^^^^^&1.2.3&ISO^^^^7") == "1.2.3#7"
    assert organisation_identifier("Szpital^^^^^^^^^1.2.3.4") == "1.2.3.4"
    assert organisation_identifier("Szpital^^^^^^^^^urn:oid:1.2.3.4") == "1.2.3.4"
    assert organisation_identifier("Szpital") == ""
    assert reference_identifier("7^^^&1.2.3&ISO^urn:ihe:iti:xds:2015:encounterId") == (
        "1.2.3#7",
        "urn:ihe:iti:xds:2015:encounterId",
    )
    assert reference_identifier("7^^^&1.2.3&ISO") == ("1.2.3#7", "")


# Kept decisions ------------------------------------------------------------------------------------------------------

ANNA = Named((PatientId("a", OWN),))


def _asked_at(requester: Requester, moment: datetime) -> Context:
    asking = context(requester)
    asking.received_at = moment
    return asking


def test_what_was_decided_is_kept_for_the_same_question_and_says_the_same() -> None:
    control = AccessControl(Store(POZ))
    assert control.kept(ANNA, context(DOCTOR)) is None
    first = asyncio.run(control.see(ANNA, context(DOCTOR)))
    assert first.sight.known == ()  # what was just read needs no guard
    asking = context(msgspec.structs.replace(DOCTOR, token="another"))
    kept = control.kept(ANNA, asking)
    assert kept is not None
    assert asking.decided
    assert asking.veiled
    assert kept.sight == first.sight._replace(known=((7, "70"), (8, "80")))
    for one in (first, kept):
        one.told(asking)
        assert asking.access == "author,poz; until=2027-01-01T00:00:00Z"
    assert (kept.certain, kept.whole, kept.open) == (first.certain, first.whole, first.open)
    assert kept.decisions[0][0].facts == Facts(())  # it is good for a sight, not for another decision


@pytest.mark.parametrize(
    ("requester", "moment"),
    [
        (STRANGER, NOW),
        (msgspec.structs.replace(DOCTOR, purpose_of_use="ETREAT"), NOW),
        (msgspec.structs.replace(DOCTOR, patient="1#2"), NOW),
        (DOCTOR, NOW - timedelta(seconds=1)),
        (DOCTOR, NOW + timedelta(hours=12)),  # it is 12 in Warsaw: another day
    ],
)
def test_another_question_is_decided_anew_by_what_was_read(requester: Requester, moment: datetime) -> None:
    store = Store(POZ)
    control = AccessControl(store)
    first = asyncio.run(control.see(ANNA, context(DOCTOR)))
    assert control.kept(ANNA, _asked_at(DOCTOR, NOW + timedelta(hours=11))) == control.kept(ANNA, context(DOCTOR))
    kept = control.kept(ANNA, _asked_at(requester, moment))
    fresh = asyncio.run(AccessControl(Store(POZ)).see(ANNA, _asked_at(requester, moment)))
    assert kept is not None
    assert kept.sight == fresh.sight._replace(known=((7, "70"), (8, "80")))
    asking = [context(requester), context(requester)]
    for seen, one in zip((kept, fresh), asking, strict=True):
        seen.refused(one, OWN)
        seen.told(one)
    assert (asking[0].access, asking[0].refusal) == (asking[1].access, asking[1].refusal)
    again = control.kept(ANNA, context(DOCTOR))  # what was decided for others is kept beside it
    assert again is not None
    assert again.sight.permitted == first.sight.permitted


@pytest.mark.parametrize(
    "named",
    [
        Named((PatientId("b", OWN),)),
        Named((PatientId("a", "1.2"),)),
        Named((PatientId("a", OWN),), uuids=("u",)),
        Named((PatientId("a", OWN), PatientId("b", OWN))),
    ],
)
def test_what_was_read_is_good_for_a_question_about_this_patient_alone(named: Named) -> None:
    control = AccessControl(Store(POZ))
    asyncio.run(control.see(ANNA, context(DOCTOR)))
    assert control.kept(named, context(DOCTOR)) is None


def test_nothing_is_kept_beyond_the_end_of_what_it_rests_on() -> None:
    end = NOW + timedelta(minutes=5)
    control = AccessControl(Store(Facts((), declarations=(Declaration("1.6.2#1", "doctor", "", Period(None, end)),))))
    asyncio.run(control.see(ANNA, context(DOCTOR)))
    for moment, bases in ((end - timedelta(microseconds=1), ("author", "poz")), (end, ("author",))):
        kept = control.kept(ANNA, _asked_at(DOCTOR, moment))
        assert kept is not None
        [(_, decision)] = kept.decisions
        assert isinstance(decision, Permit)
        assert decision.bases == bases


def test_what_is_read_again_takes_the_place_of_what_was_read(monkeypatch: pytest.MonkeyPatch) -> None:
    control = AccessControl(Store(POZ))
    asyncio.run(control.see(ANNA, context(DOCTOR)))
    monkeypatch.setattr(control, "_store", Store(Facts(())))
    asyncio.run(control.see(ANNA, context(STRANGER)))
    kept = control.kept(ANNA, context(DOCTOR))
    assert kept is not None
    [(_, decision)] = kept.decisions
    assert isinstance(decision, Permit)
    assert decision.bases == ("author",)


@pytest.mark.parametrize("act", [act for act in Act if act is not Act.READ])
def test_only_what_is_read_is_kept(act: Act) -> None:
    control = AccessControl(Store(POZ))
    asyncio.run(control.see(ANNA, context(DOCTOR), act))
    assert control.kept(ANNA, context(DOCTOR)) is None


def test_a_question_that_names_more_than_one_patient_is_not_kept() -> None:
    control, several = AccessControl(Store(POZ)), Named(ANNA.patients, unique_ids=("1.2",))
    asyncio.run(control.see(several, context(DOCTOR)))
    assert control.kept(several, context(DOCTOR)) is None


def test_the_oldest_of_what_is_kept_makes_room(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("obieg.actors.access_control.KEPT_MAX", 2)
    control = AccessControl(Store(POZ))
    named = [Named((PatientId(name, OWN),)) for name in "abc"]
    for one in named:
        asyncio.run(control.see(one, context(DOCTOR)))
    assert [control.kept(one, context(DOCTOR)) is None for one in named] == [True, False, False]


def test_the_oldest_decisions_about_a_patient_make_room(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("obieg.actors.access_control.DECISIONS_MAX", 2)
    control = AccessControl(Store(POZ))
    asyncio.run(control.see(ANNA, context(DOCTOR)))
    decided = []

    def deciding(who: Requester, *rest: Any) -> Permit | Deny:
        decided.append(who.person)
        return decide(who, *rest)

    monkeypatch.setattr("obieg.actors.access_control.decide", deciding)
    for person in ("1.6.2#1", "1.6.2#8", "1.6.2#9", "1.6.2#9", "1.6.2#8", "1.6.2#1"):
        assert control.kept(ANNA, context(msgspec.structs.replace(DOCTOR, person=person))) is not None
    assert decided == ["1.6.2#8", "1.6.2#9", "1.6.2#1"]

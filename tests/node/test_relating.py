"""What a person sends refers to registered documents that they may see or have written; others are not there for them."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import Any

import httpx
import peer
import pytest
from fhir_peer import JSON
from mhd_bundles import DOCUMENT, FOLDER, RFC_3986, item, listed
from publishing import minimal, simplified
from test_access_enforced import CLERK, DOCTOR, NPWZ, STRANGER, Caller, V, World
from test_lifecycle import Desk

pytestmark = pytest.mark.node

ASSISTANT = {**DOCTOR, "person": f"{NPWZ}#3333333", "role": "medical-assistant", "acting_for": STRANGER["person"]}
VEIL_S = 0.025  # docs/access.md, Answers
UNRESOLVED = "UnresolvedReferenceException"


@pytest.fixture(scope="module")
def region(make_node: peer.MakeNode) -> peer.Node:
    return make_node("relating", module="access_node", access={"enforced": True})


@pytest.fixture
def world(region: peer.Node) -> World:
    return World(region)


@pytest.fixture(scope="module")
def callers(region: peer.Node) -> Iterator[Callable[[dict[str, str]], Caller]]:
    made: list[Caller] = []

    def of(who: dict[str, str]) -> Caller:
        made.append(Caller(region, who))
        return made[-1]

    yield of
    for caller in made:
        caller.node.close()


Callers = Callable[[dict[str, str]], Caller]


def bare(entry: Any) -> str:
    return str(entry.id).removeprefix("urn:uuid:")


def standing(world: World, entry: Any) -> str:
    """A, or D for deprecated."""
    return world.node.rows("SELECT status::text FROM document_entry WHERE entry_uuid = %s", bare(entry))[0][0]


def lasting(world: World, **changes: Any) -> Any:
    """A document that is registered by a system."""
    entry = world.entry(**changes)
    world.node.provided(world.node.submission(world.patient, entry))
    return entry


def written(world: World, who: dict[str, str], *others: Any) -> Any:
    """A document whose author is an organisation; in one submission with others."""
    root, _, extension = who["organisation"].partition("#")
    entry, own = world.entry(content=b"wlasny", authors=()), f"Szpital^^^^^&{root}&ISO^^^^{extension}"
    author = (
        f'<rim:Classification id="{peer.urn()}" classificationScheme="{peer.SCHEMES["author"]}"'
        f' classifiedObject="{entry.id}" nodeRepresentation="">{peer.slot("authorInstitution", own)}</rim:Classification>'
    )
    xml = entry.xml
    entry.xml = lambda: xml().replace("<rim:ExternalIdentifier", author + "<rim:ExternalIdentifier", 1)
    world.node.provided(world.node.submission(world.patient, entry, *others))
    return entry


def sent(caller: Caller, world: World, *targets: tuple[str, Any], **changes: Any) -> tuple[Any, Any]:
    """The answer to an ITI-42 of one document that relates to others, and the document."""
    entry = caller.node.entry(world.patient, **changes)
    related = [peer.association(kind, entry.id, target.id) for kind, target in targets]
    return caller.node.register(caller.node.submission(world.patient, entry, associations=related)), entry


def posted(caller: Caller, body: Any, path: str = "DocumentReference", **headers: str) -> httpx.Response:
    address = f"{caller.node.endpoints['fhir']}/{path}".rstrip("/")
    return caller.node.http.post(address, json=body, headers={"Content-Type": JSON, **headers})


def named(entry: Any, code: str = "appends") -> dict[str, Any]:
    return {"code": code, "target": {"identifier": {"system": RFC_3986, "value": f"urn:oid:{entry.unique_id}"}}}


def referred(entry: Any, code: str = "appends") -> dict[str, Any]:
    return {"code": code, "target": {"reference": f"DocumentReference/{bare(entry)}"}}


def codes(response: httpx.Response) -> list[str]:
    return [i["details"]["coding"][0]["code"] for i in response.json()["issue"] if i["severity"] == "error"]


def little(world: World, data: bytes, **more: Any) -> dict[str, Any]:
    """A DocumentReference without codes: a region agrees on its own."""
    resource = simplified(world.logical, data, **more)
    for name in ("type", "category", "securityLabel", "context"):
        del resource[name]
    del resource["content"][0]["format"]
    return resource


def published(caller: Caller, world: World, *related: dict[str, Any]) -> httpx.Response:
    """The answer to an ITI-105."""
    return posted(caller, little(world, peer.oid().encode(), relatesTo=[*related]))


def missing() -> Any:
    return SimpleNamespace(id=peer.urn(), unique_id=peer.oid())


def plain(text: str, entry: Any) -> str:
    """An answer without what differs in any case."""
    text = text.replace(entry.id, "ID").replace(bare(entry), "ID").replace(entry.unique_id, "ID")
    return re.sub(r"urn:uuid:[0-9a-f-]{36}|[0-9a-f]{8}-[0-9a-f-]{27}", "UUID", text)


def test_nobody_opens_a_document_by_relating_it_to_one_that_is_open(world: World, callers: Callers) -> None:
    """A permission that names a document opens its lineage, which grows by what is sent."""
    stranger = callers(STRANGER)
    secret = lasting(world, title="Tajny", content=b"tajny")
    world.state("consent", {"id": "9", "period": {}, "provisions": [
        {"permit": True, "actors": [STRANGER["person"]], "condition": {"documents": [world.shown.id]}}]})  # fmt: skip
    assert stranger.get(f"Binary/{bare(world.shown)}").status_code == 200
    for kind in ("APND", "XFRM", "signs"):
        answer, _ = sent(stranger, world, (kind, secret), (kind, world.shown))
        assert answer.codes == [UNRESOLVED], answer.errors
    for relation in (named, referred):
        answered = published(stranger, world, relation(secret), relation(world.shown))
        assert (answered.status_code, codes(answered)) == (400, [UNRESOLVED]), answered.text
        body = minimal(world.logical, b"aneks")
        body["entry"][1]["resource"]["relatesTo"] = [relation(secret), relation(world.shown)]
        assert codes(posted(stranger, body, "")) == [UNRESOLVED]
    assert stranger.get(f"Binary/{bare(secret)}").status_code == 404
    answer, addendum = sent(stranger, world, ("APND", world.shown))
    assert answer.status == "Success", answer.errors
    assert standing(world, addendum) == "A"
    answered = published(stranger, world, named(world.shown))
    assert answered.status_code == 201, answered.text


def test_nobody_opens_what_was_added_to_their_own_document(world: World, callers: Callers) -> None:
    """They have written it, and joined to one that is open it would open all of its lineage."""
    stranger, node = callers(STRANGER), world.node
    own, secret = written(world, STRANGER), world.entry(title="Tajny", content=b"tajny")
    added = peer.association("APND", secret.id, own.id)
    node.provided(node.submission(world.patient, secret, associations=[added]))
    world.state("consent", {"id": "9", "period": {}, "provisions": [
        {"permit": True, "actors": [STRANGER["person"]], "condition": {"documents": [world.shown.id]}}]})  # fmt: skip
    answer, _ = sent(stranger, world, ("APND", own), ("APND", world.shown))
    assert answer.codes == [UNRESOLVED], answer.errors
    first, bridge = sent(stranger, world, ("APND", world.shown))  # in two steps, too
    assert first.status == "Success", first.errors
    answer, _ = sent(stranger, world, ("APND", bridge), ("APND", own))
    assert answer.codes == [UNRESOLVED], answer.errors
    assert codes(published(stranger, world, named(own), named(world.shown))) == [UNRESOLVED]
    assert stranger.get(f"Binary/{bare(secret)}").status_code == 404
    answer, _ = sent(stranger, world, ("APND", own))
    assert answer.status == "Success", answer.errors


def test_nobody_opens_a_document_by_an_update_of_their_own(world: World, callers: Callers) -> None:
    """ITI-57 joins documents, and new versions of them."""
    stranger, node = callers(STRANGER), world.node
    own, one, other, secret = written(world, STRANGER), *(written(world, STRANGER) for _ in range(2)), world.entry()
    added = peer.association("APND", secret.id, own.id)
    node.provided(node.submission(world.patient, secret, associations=[added]))
    world.state("consent", {"id": "9", "period": {}, "provisions": [
        {"permit": True, "actors": [STRANGER["person"]], "condition": {"documents": [one.id]}}]})  # fmt: skip
    desk = Desk(stranger.node)
    for source, target in ((own, one), (one, own), (own, SimpleNamespace(id=peer.urn()))):
        answer = desk.relate(world.patient, "APND", source.id, target.id)
        assert answer.codes == [UNRESOLVED], answer.errors
    submission_set, new = peer.urn(), peer.urn()
    version = desk.entry(world.patient, one, authors=())
    asked = [peer.association("APND", version.id, own.id, id=new)]
    asked.append(peer.association("SubmitAssociation", submission_set, new))
    answer = desk.send(world.patient, [version], associations=asked, own=submission_set)
    assert answer.codes == [UNRESOLVED], answer.errors
    assert stranger.get(f"Binary/{bare(secret)}").status_code == 404
    answer = desk.send(world.patient, [desk.entry(world.patient, one, authors=(), mime_type="application/dicom")])
    assert "in the name of a person" in str(answer.errors)  # nor does it become a manifest of images
    answer = desk.relate(world.patient, "APND", own.id, other.id)
    assert answer.status == "Success", answer.errors


@pytest.mark.parametrize("who", [STRANGER, CLERK, ASSISTANT], ids=lambda w: str(w["role"]))
def test_nobody_replaces_what_others_have_written(who: dict[str, str], world: World, callers: Callers) -> None:
    caller = callers(who)
    for kind in ("RPLC", "XFRM_RPLC"):
        answer, _ = sent(caller, world, (kind, world.shown))
        assert answer.codes == [UNRESOLVED], answer.errors
    entry = caller.node.entry(world.patient, content=b"podmiana")
    replacing = [peer.association("RPLC", entry.id, world.shown.id)]
    answer = caller.node.provide(caller.node.submission(world.patient, entry, associations=replacing))
    assert answer.codes == [UNRESOLVED], answer.errors
    for relation in (named, referred):
        answered = published(caller, world, relation(world.shown, "replaces"))
        assert (answered.status_code, codes(answered)) == (400, [UNRESOLVED]), answered.text
    assert standing(world, world.shown) == "A"


def test_who_may_read_appends_and_does_not_replace(world: World, callers: Callers) -> None:
    doctor = callers(DOCTOR)
    before = world.node.last_audit()
    for kind in ("RPLC", "XFRM_RPLC"):
        answer, _ = sent(doctor, world, (kind, world.shown))
        assert answer.codes == [UNRESOLVED], answer.errors
    answered = published(doctor, world, named(world.shown, "replaces"))
    assert (answered.status_code, codes(answered)) == (400, [UNRESOLVED]), answered.text
    assert standing(world, world.shown) == "A"
    told = [message for *_, message in world.node.audits(before)]
    assert len(told) == 3
    assert all("replace: not the author" in message for message in told), told
    shouted = SimpleNamespace(id=f"urn:uuid:{bare(world.other).upper()}")
    for target in (world.shown, shouted):
        answer, _ = sent(doctor, world, ("APND", target))
        assert answer.status == "Success", answer.errors
    answered = published(doctor, world, named(world.shown), referred(world.other, "transforms"))
    assert answered.status_code == 201, answered.text
    answer, _ = sent(doctor, world, ("APND", world.hidden))  # which the patient has closed
    assert answer.codes == [UNRESOLVED], answer.errors


@pytest.mark.parametrize("who", [STRANGER, CLERK], ids=lambda w: str(w["role"]))
def test_an_organisation_replaces_and_adds_to_what_it_has_written(
    who: dict[str, str], world: World, callers: Callers
) -> None:
    caller = callers(who)
    for kind in ("APND", "XFRM", "signs", "RPLC"):
        own = written(world, who)
        answer, _ = sent(caller, world, (kind, own))
        assert answer.status == "Success", (kind, answer.errors)
        assert standing(world, own) == ("D" if kind == "RPLC" else "A")
    own = written(world, who)
    answered = published(caller, world, named(own, "replaces"))
    assert answered.status_code == 201, answered.text
    assert standing(world, own) == "D"


def test_an_assistant_replaces_what_the_professional_has_written(world: World, callers: Callers) -> None:
    root, _, number = STRANGER["person"].partition("#")
    own = lasting(world, content=b"wlasny", authors=(f"{number}^Obcy^Jan^^^dr^^^&{root}&ISO",))
    other = {**ASSISTANT, "acting_for": DOCTOR["person"]}
    answer, _ = sent(callers(other), world, ("RPLC", own))
    assert answer.codes == [UNRESOLVED], answer.errors
    answer, _ = sent(callers(ASSISTANT), world, ("RPLC", own))
    assert answer.status == "Success", answer.errors
    assert standing(world, own) == "D"


def test_a_system_relates_everything(world: World, callers: Callers) -> None:
    system = callers({})
    answer, _ = sent(system, world, ("APND", world.hidden), ("RPLC", world.other))
    assert answer.status == "Success", answer.errors
    assert standing(world, world.other) == "D"
    answered = published(system, world, named(world.shown, "replaces"))
    assert answered.status_code == 201, answered.text
    assert standing(world, world.shown) == "D"


def test_a_system_changes_and_removes_what_its_repositories_registered(world: World, callers: Callers) -> None:
    bound = {"system": "poz-a", "proof": "certificate", "repositories": [world.node.repository]}
    for who, may in (({**bound, "repositories": []}, False), (bound, True)):
        desk = Desk(callers(who).node)
        entry = lasting(world, title="Karta")
        folder = world.node.folder(world.patient)
        submission = world.node.submission(world.patient, folders=[folder])
        submission.associations = [peer.association("HasMember", folder.id, entry.id)]
        assert world.node.register(submission).status == "Success"
        renamed = world.node.folder(world.patient, unique_id=folder.unique_id, logical_id=folder.id, title="Nowa")
        answers = [
            desk.send(world.patient, [desk.entry(world.patient, entry, title="Inna")]),
            desk.send(world.patient, [], [renamed]),
            desk.destroy(entry.unique_id),
        ]
        assert [a.status == "Success" for a in answers] == [may] * 3, [(a.codes, a.errors) for a in answers]
        single = world.entry(title="Sama")
        sent_in = world.node.provided(world.node.submission(world.patient, single))
        held = world.node.rows("SELECT 'urn:uuid:' || entry_uuid FROM association WHERE source = %s", sent_in.id[9:])
        removed = desk.remove(single.id, sent_in.id, *(uuid for (uuid,) in held))
        assert (removed.status == "Success") == may, removed.errors


def test_hidden_missing_and_of_another_patient_are_one_answer(world: World, callers: Callers) -> None:
    """By whatever it is referred to."""
    stranger, other = callers(STRANGER), World(world.node)
    node = stranger.node

    def registered(target: Any, kind: str) -> str:
        entry, folder = node.entry(world.patient), node.folder(world.patient)
        submission = node.submission(world.patient, entry, folders=[folder])
        source = {"set": submission.id, "folder": folder.id}.get(kind, entry.id)
        end = "HasMember" if kind in ("set", "folder") else kind
        submission.associations = [peer.association(end, source, target.id)]
        answer = node.register(submission)
        assert answer.codes == [UNRESOLVED], (kind, answer.errors)
        return str(answer.errors)

    def snapshot(target: Any, _: str) -> str:
        entry = node.entry(world.patient)
        related = peer.association("IsSnapshotOf", target.id, world.hidden.id)
        answer = node.register(node.submission(world.patient, entry, associations=[related]))
        assert answer.codes == [UNRESOLVED], answer.errors
        return re.sub("targetObject [^ ]* ", "", str(answer.errors))

    def over_fhir(target: Any, code: str) -> str:
        relation = named if code.endswith("named") else referred
        return published(stranger, world, relation(target, code.partition(" ")[0])).text

    def member(target: Any, _: str) -> str:
        reference = {"reference": f"DocumentReference/{bare(target)}"}
        body = minimal(world.logical)
        folder = listed("folder", world.logical, DOCUMENT)
        folder["entry"].append({"item": reference})
        del folder["extension"]
        body["entry"].append(item(folder, FOLDER))
        return posted(stranger, body, "").text

    asked = [(registered, kind) for kind in ("APND", "XFRM", "RPLC", "XFRM_RPLC", "signs", "set", "folder")]
    asked += [(over_fhir, f"{c} {n}") for c in ("appends", "replaces") for n in ("named", "referred")]
    for ask, kind in [*asked, (snapshot, ""), (member, "")]:
        answers = set()
        for target in (world.hidden, world.shown, other.shown, missing()):
            answers.add(plain(ask(target, kind), target))
        assert len(answers) == 1, (ask, kind, answers)
        assert UNRESOLVED in answers.pop(), (ask, kind)
    doctor = callers(DOCTOR)  # who may read what is of the other patient, and is told what is wrong
    answer, _ = sent(doctor, world, ("APND", other.shown))
    assert answer.codes == ["XDSPatientIdDoesNotMatch"], answer.errors
    answers = set()
    for folder in (other.folder, missing()):
        entry = node.entry(world.patient)
        held = peer.association("HasMember", folder.id, entry.id)
        answer = node.register(node.submission(world.patient, entry, associations=[held]))
        answers.add(plain(str(answer.errors), folder))
    assert len(answers) == 1, answers


def test_refused_in_steps_of_time(world: World, callers: Callers) -> None:
    """Whether there was something to decide about does not tell."""
    stranger = callers(STRANGER)
    for target in (world.shown, missing()):
        for relation in (named, referred):
            answered = published(stranger, world, relation(target))
            assert answered.elapsed.total_seconds() >= VEIL_S


@pytest.mark.parametrize("who", [{}, CLERK, STRANGER, DOCTOR], ids=["system", "clerk", "stranger", "poz"])
def test_who_publishes_is_told_so_whatever_they_may_see(who: dict[str, str], world: World, callers: Callers) -> None:
    caller = callers(who)
    for prefer, kind in (
        ("", "DocumentReference" if who == DOCTOR else None),
        ("representation", "DocumentReference" if who == DOCTOR else None),
        ("minimal", None),
        ("OperationOutcome", "OperationOutcome"),
    ):
        body = little(world, f"tresc {prefer}".encode())
        headers = {"Prefer": f"return={prefer}"} if prefer else {}
        for _ in range(2):  # a repetition is answered alike
            answer = posted(caller, body, **headers)
            assert answer.status_code == 201, answer.text
            logical = answer.headers["location"].removeprefix(f"{world.base}/DocumentReference/")
            [(unique,)] = world.node.rows("SELECT unique_id FROM document_entry WHERE entry_uuid = %s", logical)
            assert f"urn:oid:{unique}" == body["masterIdentifier"]["value"]
            assert answer.headers["etag"] == 'W/"1"'
            assert answer.headers["last-modified"]
            assert (answer.json()["resourceType"] if answer.content else None) == kind


def test_published_only_where_it_is_new_whatever_is_hidden(world: World, callers: Callers) -> None:
    own = lasting(world, content=b"jest")
    condition = {"If-None-Exist": f"identifier={RFC_3986}|urn:oid:{own.unique_id}"}

    def body(unique_id: str = own.unique_id) -> dict[str, Any]:
        found = little(world, b"inne")
        found["masterIdentifier"]["value"] = f"urn:oid:{unique_id}"
        return found

    there = f"{world.base}/DocumentReference/{bare(own)}"
    answer = posted(callers(DOCTOR), body(), **condition)
    assert (answer.status_code, answer.headers["location"]) == (200, there), answer.text
    assert answer.json()["id"] == bare(own)
    answer = posted(callers({}), body(), **condition)
    assert (answer.status_code, answer.headers["location"], answer.content) == (200, there, b""), answer.text
    assert "etag" not in answer.headers  # of which version is not known
    before = world.node.stored()
    for who in (STRANGER, CLERK):
        caller = callers(who)
        refused, conflict = posted(caller, body(), **condition), posted(caller, body())
        assert refused.status_code == conflict.status_code < 500
        assert codes(refused) == codes(conflict) == ["XDSNonIdenticalHash"]
        assert refused.json()["issue"] == conflict.json()["issue"]
        whole = minimal(world.logical)
        whole["entry"][1]["request"]["ifNoneExist"] = condition["If-None-Exist"]
        assert codes(posted(caller, whole, "")) == ["XDSNonIdenticalHash"]
    assert world.node.stored() == before
    answer = posted(callers(STRANGER), body(peer.oid()), **{
        "If-None-Exist": f"identifier={RFC_3986}|urn:oid:{peer.oid()}"})  # fmt: skip
    assert answer.status_code == 201, answer.text


def test_what_hidden_documents_hold_is_not_named_to_who_removes(world: World, callers: Callers) -> None:
    """Neither by id nor in a count; it stays whole, and what is seen is named."""
    doctor, node = callers(DOCTOR), world.node
    desk = Desk(doctor.node)
    closed = {"confidentiality": [V], "title": "Tajny", "content": b"tajny"}
    for hidden, seen in ((0, 0), (0, 1), (1, 0), (2, 1)):
        own = written(world, DOCTOR, world.entry(content=b"inny"))
        [(membership,)] = node.rows("SELECT entry_uuid::text FROM association WHERE target = %s", bare(own))
        added = [world.entry(**closed) for _ in range(hidden)] + [world.entry(content=b"aneks") for _ in range(seen)]
        links = [peer.association("APND", each.id, own.id, id=peer.urn()) for each in added]
        if added:
            node.provided(node.submission(world.patient, *added, associations=links))
        answer = desk.remove(own.id, f"urn:uuid:{membership}")
        if seen:
            assert answer.codes == ["ReferencesExistException"]
            [(_, _, detail, *_)] = answer.errors
            assert links[-1].partition('id="')[2][:45] in detail
            assert "more" not in detail
        elif hidden:
            assert answer.codes == ["XDSRegistryError"], answer.errors
            assert "not do this" in str(answer.errors)
            assert not any(link.partition('id="')[2][:45] in str(answer.errors) for link in links)
        else:
            assert answer.status == "Success", answer.errors
        assert len(node.rows("SELECT FROM document_entry WHERE entry_uuid = %s", bare(own))) == bool(added)
        if hidden and not seen:  # a system sees everything
            answer = Desk(callers({}).node).remove(own.id, f"urn:uuid:{membership}")
            assert answer.codes == ["ReferencesExistException"], answer.errors


def filed(world: World, folder: str, *members: str, address: str = "") -> dict[str, Any]:
    """A bundle that puts a document, and others, into a folder that is there: by its uniqueId or by its address."""
    body, found = minimal(world.logical), listed("folder", world.logical, DOCUMENT, *members)
    found["identifier"] = [{"use": "usual", "system": RFC_3986, "value": f"urn:oid:{folder}"}]
    del found["title"], found["extension"]
    body["entry"].append(item(found, FOLDER, "PUT", f"List/{address}" if address else "List"))
    body["entry"][0]["resource"]["entry"].append({"item": {"reference": FOLDER}})
    return body


def test_a_hidden_folder_is_not_there_for_who_submits(world: World, callers: Callers) -> None:
    """Nor does it come to light by a document that is put into it; whose members one may refer to is."""
    doctor, clerk, desk = callers(DOCTOR), callers(CLERK), Desk(callers(DOCTOR).node)

    def held(caller: Caller, folder: str) -> Any:
        entry = caller.node.entry(world.patient)
        related = [peer.association("HasMember", folder, entry.id)]
        return caller.node.register(caller.node.submission(world.patient, entry, associations=related))

    def shown() -> bool:
        asked = peer.stored_query("GetFolders", XDSFolderEntryUUID=peer.quoted(world.closed_folder.id))
        return world.closed_folder.title in doctor.soap("registry", asked).text

    gone = missing()
    for target in (world.closed_folder, world.closed, world.added):
        assert plain(str(held(doctor, target.id).errors), target) == plain(str(held(doctor, gone.id).errors), gone)
        assert held(doctor, target.id).codes == [UNRESOLVED]
    answers = set()
    for target in (world.closed_folder, gone):
        body = filed(world, peer.oid(), address=bare(target))
        answers.add(plain(posted(doctor, body, "").text, target))
        answer = desk.relate(world.patient, "HasMember", target.id, world.shown.id)
        assert answer.codes == [UNRESOLVED], answer.errors
    assert len(answers) == 1, answers
    assert UNRESOLVED in answers.pop()
    taken = posted(doctor, filed(world, world.closed_folder.unique_id), "")
    assert taken.status_code >= 400  # conflicts of uniqueIds tell
    assert not shown()
    assert held(doctor, world.folder.id).status == "Success"
    for body in (filed(world, world.folder.unique_id), filed(world, peer.oid(), address=bare(world.folder))):
        answered = posted(doctor, body, "")
        assert answered.status_code == 200, answered.text
    for target in (world.folder, world.closed_folder):
        assert held(clerk, target.id).codes == [UNRESOLVED]
    own, folder = written(world, CLERK), world.node.folder(world.patient)
    empty = world.node.folder(world.patient)
    world.node.provided(world.node.submission(world.patient, folders=[folder, empty], associations=[
        peer.association("HasMember", folder.id, own.id)]))  # fmt: skip
    for target in (folder, empty):
        answer = held(clerk, target.id)
        assert answer.status == "Success", answer.errors
    assert held(callers({}), world.closed_folder.id).status == "Success"  # a system refers to everything
    assert shown()


def test_a_folder_keeps_from_a_sender_what_it_holds_besides(world: World, callers: Callers) -> None:
    """Who lists a hidden member again is answered like who adds what is not there."""
    doctor = callers(DOCTOR)
    answers = set()
    for target in (world.hidden, missing()):
        answer = posted(doctor, filed(world, world.folder.unique_id, f"DocumentReference/{bare(target)}"), "")
        answers.add(plain(answer.text, target))
    assert len(answers) == 1, answers
    [answer] = answers
    assert UNRESOLVED in answer
    assert "members that the List leaves out" not in answer

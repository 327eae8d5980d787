"""A node that enforces access: what is hidden stands in no answer, and who may not asks like who asks of nothing."""

from __future__ import annotations

import json
from base64 import urlsafe_b64encode
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from typing import Any
from urllib.parse import quote, unquote_to_bytes

import httpx
import peer
import pytest
import test_audit_complete as golden
from hooks import hook
from peer_v3 import Index
from test_lifecycle import Desk
from test_subscriptions import ids_of, subscription

import hl7v3_messages as v3
from obieg.domain.access import Act, act_of
from obieg.transactions import TRANSACTIONS

pytestmark = pytest.mark.node

NPWZ, ENTITY = "2.16.840.1.113883.3.4424.1.6.2", "2.16.840.1.113883.3.4424.2.3.1"
DOCTOR = {
    "person": f"{NPWZ}#1111111", "role": "medical-doctor", "organisation": f"{ENTITY}#000000001",
    "purpose_of_use": "TREAT",
}  # fmt: skip
STRANGER = {**DOCTOR, "person": f"{NPWZ}#2222222", "organisation": f"{ENTITY}#000000002"}
CLERK = {**STRANGER, "role": "administrative-employee"}
PATIENT = {"role": "patient", "purpose_of_use": "PATRQT"}
SECRET = "tajemnica"  # stands in everything that must not be seen
V = ("V", "2.16.840.1.113883.5.25")
N = ("N", "2.16.840.1.113883.5.25")
WHOLE = {"begin": "2020-01-01T00:00:00Z", "end": "2100-01-01T00:00:00Z"}


class World:
    """A patient of a doctor: a document to be seen; one that the patient has closed, with all that is about it."""

    def __init__(self, node: peer.Node) -> None:
        self.node = node
        self.patient = node.patient()
        self.authority = node.endpoints["assigning_authority"]
        self.logical = self.patient.partition("^")[0]
        self.base = node.endpoints["fhir"]
        entry = self.entry
        self.shown = entry(title="Karta", content=b"karta")
        self.hidden = entry(title=SECRET, content=SECRET.encode())
        self.addendum = entry(title=f"{SECRET} aneks", content=f"{SECRET} aneks".encode())
        self.other = entry(title="Karta druga", content=b"karta druga")
        self.folder = node.folder(self.patient, title="Wspólna")
        self.closed_folder = node.folder(self.patient, title=SECRET)
        submit = node.submission
        self.first = node.provided(submit(self.patient, self.shown, folders=[self.folder], associations=[
            peer.association("HasMember", self.folder.id, self.shown.id)]))  # fmt: skip
        self.closed = node.provided(submit(self.patient, self.hidden, folders=[self.closed_folder], associations=[
            peer.association("HasMember", self.closed_folder.id, self.hidden.id),
            peer.association("HasMember", self.folder.id, self.hidden.id)]))  # fmt: skip
        self.added = node.provided(submit(self.patient, self.addendum, associations=[
            peer.association("APND", self.addendum.id, self.hidden.id)]))  # fmt: skip
        node.provided(submit(self.patient, self.other, associations=[
            peer.association("APND", self.other.id, self.shown.id)]))  # fmt: skip
        self.state(
            "declaration", {"professional": DOCTOR["person"], "kind": "doctor", "organisation": "", "period": WHOLE}
        )
        self.state("consent", {"id": "1", "period": {}, "provisions": [
            {"permit": False, "condition": {"documents": [self.hidden.id]}}]})  # fmt: skip

    def entry(self, **changes: Any) -> Any:
        return self.node.entry(self.patient, **{"confidentiality": [self.node.codes("confidentialityCode")], **changes})

    def state(self, kind: str, *facts: Any) -> None:
        with self.node_connection() as connection:
            key = connection.execute(
                "SELECT patient_key FROM patient_locator WHERE authority = %s AND value = %s",
                (self.authority, self.logical),
            ).fetchone()[0]
            connection.execute(
                "INSERT INTO access_fact (patient_key, source, version, kind, facts, recorded_at, recorded_by)"
                " VALUES (%s, %s, 1, %s, %s, now(), 'test')",
                (key, peer.oid(), kind, json.dumps(facts)),
            )

    def node_connection(self) -> Any:
        return peer.psycopg.connect(self.node.dsn)

    @property
    def traces(self) -> list[bytes]:
        """What names the hidden documents and all that exists only because of them."""
        own = (self.hidden, self.addendum, self.closed_folder, self.closed, self.added)
        ids = [i for o in own for i in (o.id.removeprefix("urn:uuid:"), o.unique_id)]
        return [SECRET.encode(), *(i.encode() for i in ids)]


class Caller:
    """A peer of the node that asks as somebody."""

    def __init__(self, node: peer.Node, who: dict[str, str]) -> None:
        self.who = who
        self.node = peer.Node(node.endpoints, node.codes)
        said = urlsafe_b64encode(json.dumps(who).encode()).decode()
        self.node.http = httpx.Client(timeout=60, headers={"Cookie": f"who={said}"} if who else {})

    def get(self, path: str, **headers: str) -> httpx.Response:
        return self.node.http.get(f"{self.node.endpoints['fhir']}/{path}", headers=headers)

    def soap(self, key: str, body: str, action: str = "") -> httpx.Response:
        """The bare answer."""
        action = action or peer.ACTIONS[key]
        if key == "retrieve":
            content: Any = peer.package(peer.envelope(action, body))
            media = peer.package_type(action)
        else:
            content, media = peer.envelope(action, body).encode(), f'application/soap+xml; action="{action}"'
        return self.node.http.post(self.node.endpoints[key], content=content, headers={"Content-Type": media})


@pytest.fixture(scope="module")
def region(make_node: peer.MakeNode) -> peer.Node:
    return make_node("enforced", module="access_node", access={"enforced": True})


@pytest.fixture(scope="module")
def world(region: peer.Node) -> World:
    return World(region)


@pytest.fixture
def doctor(region: peer.Node) -> Iterator[Caller]:
    caller = Caller(region, DOCTOR)
    yield caller
    caller.node.close()


@pytest.fixture
def stranger(region: peer.Node) -> Iterator[Caller]:
    caller = Caller(region, STRANGER)
    yield caller
    caller.node.close()


@pytest.fixture(scope="module")
def callers(region: peer.Node) -> Iterator[list[Caller]]:
    """A system, and people of whom none may read the world."""
    found = [Caller(region, who) for who in ({}, STRANGER, CLERK, {**PATIENT, "person": "1.2#3"})]
    yield found
    for caller in found:
        caller.node.close()


# questions: each of a hidden object and of a shown one -----------------------------------------------------------------

Question = Callable[[Caller, World, bool], httpx.Response]  # of the hidden thing or of the other one


def _stored(name: str, **parameters: Any) -> Question:
    """A stored query; parameters are functions of the world and of whether the hidden is meant."""

    def ask(caller: Caller, world: World, hidden: bool) -> httpx.Response:
        given = {n: v(world, hidden) if callable(v) else v for n, v in parameters.items()}
        return caller.soap("registry", peer.stored_query(name, **given))

    return ask


def _uuid(world: World, hidden: bool) -> str:
    return peer.quoted(world.hidden.id if hidden else world.shown.id)


def _unique(world: World, hidden: bool) -> str:
    return peer.quoted(world.hidden.unique_id if hidden else world.shown.unique_id)


def _folder(world: World, hidden: bool) -> str:
    return peer.quoted(world.closed_folder.id if hidden else world.folder.id)


def _set(world: World, hidden: bool) -> str:
    return peer.quoted(world.closed.id if hidden else world.first.id)


def _patient(world: World, _hidden: bool) -> str:
    return peer.quoted(world.patient)[1:-1]


_STATUS = peer.quoted(peer.APPROVED, peer.DEPRECATED)
_ALL = {"MetadataLevel": "2"}
STORED: dict[str, list[Question]] = {
    "FindDocuments": [
        _stored("FindDocuments", XDSDocumentEntryPatientId=_patient, XDSDocumentEntryStatus=_STATUS, **more)
        for more in ({}, {"returns": "ObjectRef"}, _ALL)
    ],
    "FindSubmissionSets": [_stored("FindSubmissionSets", XDSSubmissionSetPatientId=_patient, XDSSubmissionSetStatus=_STATUS)],
    "FindFolders": [_stored("FindFolders", XDSFolderPatientId=_patient, XDSFolderStatus=_STATUS)],
    "GetAll": [_stored(
        "GetAll", patientId=_patient, XDSDocumentEntryStatus=_STATUS, XDSSubmissionSetStatus=_STATUS,
        XDSFolderStatus=_STATUS, **more) for more in ({}, _ALL, {"returns": "ObjectRef"})],
    "GetDocuments": [_stored("GetDocuments", XDSDocumentEntryEntryUUID=_uuid),
                     _stored("GetDocuments", XDSDocumentEntryUniqueId=_unique),
                     _stored("GetDocuments", XDSDocumentEntryLogicalID=_uuid, **_ALL)],
    "GetFolders": [_stored("GetFolders", XDSFolderEntryUUID=_folder)],
    "GetAssociations": [_stored("GetAssociations", uuid=_uuid), _stored("GetAssociations", uuid=_set),
                        _stored("GetAssociations", uuid=_folder)],
    "GetDocumentsAndAssociations": [_stored("GetDocumentsAndAssociations", XDSDocumentEntryEntryUUID=_uuid)],
    "GetSubmissionSets": [_stored("GetSubmissionSets", uuid=_uuid), _stored("GetSubmissionSets", uuid=_folder)],
    "GetSubmissionSetAndContents": [_stored("GetSubmissionSetAndContents", XDSSubmissionSetEntryUUID=_set)],
    "GetFolderAndContents": [_stored("GetFolderAndContents", XDSFolderEntryUUID=_folder)],
    "GetFoldersForDocument": [_stored("GetFoldersForDocument", XDSDocumentEntryEntryUUID=_uuid)],
    "GetRelatedDocuments": [_stored("GetRelatedDocuments", XDSDocumentEntryEntryUUID=_uuid, AssociationTypes=peer.quoted(
        peer.ASSOCIATIONS["APND"]))],
}  # fmt: skip


def _several(caller: Caller, world: World, _hidden: bool) -> httpx.Response:
    question = peer.stored_query(
        "FindDocumentsForMultiplePatients",
        XDSDocumentEntryPatientId=peer.quoted(world.patient),
        XDSDocumentEntryStatus=_STATUS,
        XDSDocumentEntryHealthcareFacilityTypeCode=_code(world, "healthcareFacilityTypeCode"),
    )
    return caller.soap("registry", question, peer.MULTI_PATIENT_ACTION)


def _of_nobody(caller: Caller, world: World, _hidden: bool) -> httpx.Response:
    question = peer.stored_query(
        "FindDocumentsForMultiplePatients",
        XDSDocumentEntryStatus=_STATUS,
        XDSDocumentEntryHealthcareFacilityTypeCode=_code(world, "healthcareFacilityTypeCode"),
    )
    return caller.soap("registry", question, peer.MULTI_PATIENT_ACTION)


def _code(world: World, attribute: str) -> str:
    return peer.quoted("^^".join(world.node.codes(attribute)))


def _retrieve(caller: Caller, world: World, hidden: bool) -> httpx.Response:
    entry = world.hidden if hidden else world.shown
    return caller.soap("retrieve", peer.retrieval((world.node.repository, entry.unique_id)))


def _get(path: Callable[[World, bool], str]) -> Question:
    return lambda caller, world, hidden: caller.get(path(world, hidden))


def _bare(entry: Any) -> str:
    return str(entry.id).removeprefix("urn:uuid:")


def _one(world: World, hidden: bool) -> str:
    return _bare(world.hidden if hidden else world.shown)


def _who(world: World) -> str:
    return quote(f"urn:oid:{world.authority}|{world.logical}")


QUESTIONS: dict[str, list[Question]] = {
    "ITI-18": [question for questions in STORED.values() for question in questions],
    "ITI-43": [_retrieve],
    "ITI-51": [_several, _of_nobody],
    "ITI-66": [
        _get(lambda w, _: f"List?patient.identifier={_who(w)}&status=current"),
        _get(lambda w, h: f"List/{_bare(w.closed_folder if h else w.folder)}"),
        _get(lambda w, h: f"List/{_bare(w.closed if h else w.first)}"),
        _get(lambda w, h: f"List?_id={_bare(w.closed_folder if h else w.folder)}&_include=List:item"),
        _get(lambda w, h: f"List?identifier=urn:oid:{(w.closed_folder if h else w.folder).unique_id}"),
    ],
    "ITI-67": [
        _get(lambda w, _: f"DocumentReference?patient.identifier={_who(w)}&status=current&_include=DocumentReference:relatesto"),
        _get(lambda w, h: f"DocumentReference/{_one(w, h)}"),
        _get(lambda w, h: f"DocumentReference?_id={_one(w, h)}&_revinclude=List:item"),
        _get(lambda w, h: f"DocumentReference?identifier=urn:oid:{(w.hidden if h else w.shown).unique_id}"),
    ],
    "ITI-68": [_get(lambda w, h: f"Binary/{_one(w, h)}")],
    "IPS": [_get(lambda w, _: f"Patient/{w.logical}/$summary")],
    "MSIM": [_get(lambda w, _: f"Bundle?composition.patient.identifier={_who(w)}")],
    "FHIR-11": [_get(lambda w, _: f"Patient/{w.logical}/$everything")],
    "OBIEG-12": [_get(lambda w, _: f"Patient/{w.logical}/$search-documents?text=pacjent")],
}  # fmt: skip
# Those whose notices and owners are asked of by themselves, below, images, in test_images.py, and events of a source that is
# not connected here, in test_medical_events.py.
_BY_THEMSELVES = {"ITI-110", "ITI-113", "RAD-107", "OBIEG-13"}
READING = [t.id for t in TRANSACTIONS if act_of(t.permission) is Act.READ]


def test_every_transaction_that_reads_is_asked_here() -> None:
    assert {*QUESTIONS, *_BY_THEMSELVES} == set(READING)


@pytest.mark.parametrize("transaction", sorted(QUESTIONS))
def test_what_is_hidden_stands_in_no_answer(transaction: str, world: World, doctor: Caller) -> None:
    for number, question in enumerate(QUESTIONS[transaction]):
        for hidden in (True, False):
            answer = question(doctor, world, hidden)
            assert answer.status_code < 500, (number, answer.text)
            expect_none(world.traces, answer, (number, hidden))


@pytest.mark.parametrize("transaction", sorted(QUESTIONS))
def test_what_is_shown_stands_in_the_answers(transaction: str, world: World, doctor: Caller) -> None:
    """The questions find something where they may."""
    for number, question in enumerate(QUESTIONS[transaction]):
        answer = question(doctor, world, False)
        assert answer.status_code == 200, (number, answer.text)
        assert answer.headers["x-obieg-access"] == "author,poz; until=2100-01-01T00:00:00Z", (number, answer.text)


def test_of_every_reading_a_patient_is_told_who_asked_for_it(region: peer.Node, doctor: Caller) -> None:
    """Once for each answer, in whatever way something is read."""
    world = World(region)
    world.state("notices", True)
    with world.node_connection() as connection:
        connection.autocommit = True

        def told() -> int:
            found = connection.execute(
                "SELECT coalesce(sum(n.times), 0) FROM access_notice n JOIN patient_locator l USING (patient_key)"
                " WHERE n.kind = 'access' AND l.authority = %s AND l.value = %s",
                (world.authority, world.logical),
            )
            return int(found.fetchone()[0])

        for transaction, questions in QUESTIONS.items():
            for number, question in enumerate(questions):
                before = told()
                assert question(doctor, world, False).status_code == 200
                assert told() - before == 1, (transaction, number)


PAGES = ("ITI-66", "ITI-67", "MSIM", "FHIR-11")


def preferring(caller: Caller) -> Caller:
    """The same who wants to be told of answers besides what they show."""
    caller.node.http.headers["Prefer"] = "return=OperationOutcome"
    return caller


@pytest.mark.parametrize("transaction", PAGES)
def test_who_prefers_it_is_told_in_a_page_on_which_bases_it_is_shown(
    transaction: str, world: World, doctor: Caller
) -> None:
    """In its last entry, which counts for no result."""
    told = 0
    for question in QUESTIONS[transaction]:
        plain = question(doctor, world, False).json()
        answer = question(preferring(doctor), world, False)
        del doctor.node.http.headers["Prefer"]
        page = answer.json()
        if page.get("type") != "searchset":
            continue
        *found, why = page["entry"]
        assert (len(found), page.get("total")) == (len(plain["entry"]), plain.get("total"))
        assert why["search"] == {"mode": "outcome"}
        [issue] = why["resource"]["issue"]
        assert (issue["severity"], issue["code"]) == ("information", "informational")
        assert issue["diagnostics"] == answer.headers["x-obieg-access"]
        assert [c["code"] for c in issue["details"]["coding"]] == ["author", "poz"]
        told += 1
    assert told


def test_pages_in_xml_say_why_too(world: World, doctor: Caller, stranger: Caller) -> None:
    asked = _get(lambda w, _: f"DocumentReference?patient.identifier={_who(w)}&status=current&_format=xml")
    assert "poz; until=2100-01-01T00:00:00Z" in asked(preferring(doctor), world, False).text
    assert "OperationOutcome" not in asked(preferring(stranger), world, False).text


@pytest.mark.parametrize("transaction", sorted(QUESTIONS))
def test_a_stranger_is_answered_as_if_there_were_nothing(transaction: str, world: World, stranger: Caller) -> None:
    nothing = Nothing(world)
    for number, question in enumerate(QUESTIONS[transaction]):
        for hidden in (True, False):
            answer, expected = question(stranger, world, hidden), question(stranger, nothing, hidden)
            expect_alike(answer, expected, number)
            expect_none([*world.traces, *(o.unique_id.encode() for o in (world.shown, world.folder))], answer, number)


@pytest.mark.parametrize("transaction", sorted(QUESTIONS))
def test_hidden_and_missing_are_answered_alike(transaction: str, world: World, doctor: Caller) -> None:
    """What the doctor may not see, as what there is not."""
    missing = Nothing(world, patient=world.patient)
    for number, question in enumerate(QUESTIONS[transaction]):
        expect_alike(question(doctor, world, True), question(doctor, missing, True), number)


class Nothing:
    """A world of which nothing is registered; of a patient whom nobody knows, if none is given."""

    def __init__(self, like: World, patient: str = "") -> None:
        self.node, self.authority = like.node, like.authority
        self.patient = patient or f"{peer.number()}^^^&{like.authority}&ISO"
        self.logical = self.patient.partition("^")[0]
        for name in ("shown", "hidden", "addendum", "other"):
            setattr(self, name, like.node.entry(self.patient))
        for name in ("folder", "closed_folder"):
            setattr(self, name, like.node.folder(self.patient))
        for name in ("first", "closed"):
            setattr(self, name, like.node.submission(self.patient))


_ACCIDENTAL = ("x-request-id", "date", "content-length")


def expect_alike(one: httpx.Response, other: httpx.Response, what: Any) -> None:
    assert one.status_code == other.status_code, (what, one.text, other.text)
    left = [{n: v for n, v in r.headers.items() if n not in _ACCIDENTAL and "boundary" not in v} for r in (one, other)]
    assert left[0] == left[1], what
    # Identifiers that are repeated have their own lengths.
    assert abs(len(one.content) - len(other.content)) <= 40, (what, one.text, other.text)


def expect_none(traces: list[bytes], answer: httpx.Response, what: Any) -> None:
    """Nothing of it stands in the answer, but for what the question named itself."""
    asked = answer.request.content + unquote_to_bytes(answer.request.url.raw_path)
    for trace in traces:
        assert trace in asked or trace not in answer.content, (what, trace, answer.text)


# everything else -------------------------------------------------------------------------------------------------------

OTHERS = [(t, path) for t, path in golden.MESSAGES if "__valid__" in path.name and act_of(t.permission) is not Act.READ]


@pytest.mark.parametrize(("transaction", "path"), OTHERS, ids=lambda v: getattr(v, "stem", getattr(v, "id", "")))
def test_no_other_transaction_tells_of_documents(
    transaction: Any, path: Any, world: World, callers: list[Caller]
) -> None:
    """Each golden message of each transaction, whoever sends it: it is decided, and says nothing of what is hidden."""
    for caller in callers:
        answers: list[httpx.Response] = []

        def keep(response: httpx.Response, answers: list[httpx.Response] = answers) -> None:
            response.read()
            answers.append(response)

        caller.node.http.event_hooks["response"] = [keep]
        golden.send_golden(caller.node, transaction, path)
        caller.node.http.event_hooks["response"] = []
        for answer in answers:
            assert answer.status_code != 500, answer.text
            assert b"the node failed" not in answer.content, answer.text
            if act_of(transaction.permission) not in (Act.OPERATE, Act.INSPECT) or caller.who:
                expect_none(world.traces, answer, path.name)


def _refused(answer: httpx.Response) -> bool:
    return answer.status_code == 403 or b"the caller may not do this here" in answer.content


def test_who_may_do_what_at_all(region: peer.Node, world: World, callers: list[Caller]) -> None:
    _, doctor, clerk, patient = callers
    submission = region.submission(world.patient, region.entry(world.patient))
    assert patient.node.register(submission).codes == ["XDSRegistryError"]
    assert patient.node.register(submission).raw.count(b"the caller may not do this here") == 1
    assert clerk.node.register(submission).status == "Success"
    for caller in (clerk, doctor, patient):
        assert _refused(caller.get("AuditEvent?date=ge2020-01-01"))
        assert _refused(caller.get("$export"))
        assert not _refused(caller.get("Practitioner?name=x"))
    remark = region.audits(region.last_audit() - 1)[0][3]
    assert (
        "operate"
        in region.rows("SELECT string_agg(message, '') FROM audit_event WHERE message LIKE %s", "%operate: role%")[0][0]
    )
    assert remark
    assert clerk.get(f"Patient/{world.logical}").status_code == 200
    assert clerk.get(f"DocumentReference/{_bare(world.shown)}").status_code == 404


def test_patients_know_only_of_themselves(region: peer.Node) -> None:
    mine, others = region.patient(), region.patient()
    logical, other = (cx.partition("^")[0] for cx in (mine, others))
    authority = region.endpoints["assigning_authority"]
    me = Caller(region, {**PATIENT, "person": f"{authority}#{logical}"})
    assert me.get(f"Patient/{logical}").status_code == 200
    unknown = peer.number()
    for path in ("Patient/{}", "Patient/{}/$summary", "Patient/{}/$everything",
                 f"Patient/$ihe-pix?sourceIdentifier={quote(f'urn:oid:{authority}|')}{{}}"):  # fmt: skip
        expect_alike(me.get(path.format(other)), me.get(path.format(unknown)), path)
    assert me.get(f"Patient/{other}").status_code == 404
    found = me.get(f"Patient?identifier={quote(f'urn:oid:{authority}|')}{other}").json()
    assert found.get("total", 0) == 0
    assert "entry" not in found or all(e["resource"]["resourceType"] != "Patient" for e in found["entry"])
    assert me.get(f"Patient?identifier={quote(f'urn:oid:{authority}|')}{logical}").json()["total"] == 1
    me.node.close()


def test_whoever_fed_a_patient_alone_changes_the_record(region: peer.Node) -> None:
    root = peer.oid()
    number, other, third = ((peer.number(), root) for _ in range(3))
    feeds = {
        name: Caller(region, {"system": name, "proof": proof})
        for name, proof in (("szpital", "certificate"), ("poz", "oauth"), ("nobody", "laboratory"))
    }

    def put(name: str, *ids: tuple[str, str], **more: Any) -> httpx.Response:
        identifiers = [{"system": f"urn:oid:{root}", "value": value} for value, root in ids]
        patient = {"resourceType": "Patient", "identifier": identifiers, "name": [{"family": "Lis", "given": ["Ewa"]}]}
        return act(name, "PUT", ids[0], json={**patient, "birthDate": "1990-01-01", **more})

    def act(name: str, method: str, of: tuple[str, str], **more: Any) -> httpx.Response:
        params = {"identifier": f"urn:oid:{of[1]}|{of[0]}"}
        headers = {"Content-Type": "application/fhir+json", "Accept": "application/fhir+json"}
        return feeds[name].node.http.request(
            method, f"{region.endpoints['fhir']}/Patient", params=params, headers=headers, **more
        )

    assert put("szpital", number).status_code == 201
    assert put("poz", other).status_code == 201
    last = region.last_audit()
    active = {"active": False, "link": [{"other": {"identifier": {"system": f"urn:oid:{other[1]}", "value": other[0]}},
                                         "type": "replaced-by"}]}  # fmt: skip
    refused = (
        put("poz", number), put("poz", third, number), put("poz", number, **active), act("poz", "DELETE", number),
    )  # fmt: skip
    for answer in refused:
        assert answer.status_code == 403, answer.text
        [issue] = answer.json()["issue"]
        assert issue["code"] == "forbidden"
        assert "send your own record" in issue["diagnostics"]
        assert "szpital" not in answer.text
    records = region.rows("SELECT outcome, message FROM audit_event WHERE audit_id > %s", last)
    assert [outcome for outcome, _ in records] == [8] * len(refused)
    assert all("RecordNotYours; fed by szpital" in message for _, message in records)
    # HL7 v3 says the same; who is not proved, as in the laboratory, is not asked.
    v3_index = Index(feeds["poz"].node)
    person = v3.name("Lis", "Ewa") + '<birthTime value="19900101"/>'
    body = v3_index.send(v3.feed("revise", number, person=person))
    assert v3.acknowledged(body) == "CE"
    assert [code for code, _ in v3.details(body)] == ["204"]
    assert put("nobody", number, birthDate="1990-01-02").status_code == 200
    for name, of in (("szpital", number), ("poz", other)):
        assert put(name, of, birthDate="1990-01-03").status_code == 200
        assert act(name, "DELETE", of).status_code == 204
    for caller in feeds.values():
        caller.node.close()


def test_only_authors_change_documents(region: peer.Node, world: World) -> None:
    own = f"Szpital^^^^^&{ENTITY}&ISO^^^^000000001"
    more = (
        f'<rim:Classification id="{peer.urn()}" classificationScheme="{peer.SCHEMES["author"]}" classifiedObject="{{}}"'
        f' nodeRepresentation="">{peer.slot("authorInstitution", own)}</rim:Classification>'
    )
    entry = world.entry(title="Wlasny")
    entry.more = ""
    entry.authors = ()
    xml = entry.xml
    entry.xml = lambda: xml().replace("<rim:ExternalIdentifier", more.format(entry.id) + "<rim:ExternalIdentifier", 1)
    region.provided(region.submission(world.patient, entry))
    foreign = region.provided(region.submission(world.patient, world.entry(title="Cudzy"))).entries[0]
    author = Caller(region, DOCTOR)

    def deprecation(target: str) -> str:
        change = region.submission(world.patient)
        change.associations = [peer.association("UpdateAvailabilityStatus", change.id, target, more=peer.slot(
            "OriginalStatus", peer.APPROVED) + peer.slot("NewStatus", peer.DEPRECATED))]  # fmt: skip
        return change.request()

    missing = peer.urn()
    answers = {t: author.node.soap("update", deprecation(t)) for t in (foreign.id, missing)}
    assert [a.status for a in answers.values()] == ["Failure", "Failure"]
    assert answers[foreign.id].codes == answers[missing].codes
    texts = [e[2].replace(t, "") for t, a in answers.items() for e in a.errors]
    assert len(set(texts)) == 1, texts
    assert author.node.soap("update", deprecation(entry.id)).status == "Success"

    def removal(unique_id: str) -> peer.Answer:
        return Desk(author.node).destroy(unique_id)

    assert removal(foreign.unique_id).codes == removal(peer.oid()).codes == ["XDSDocumentUniqueIdError"]
    assert removal(entry.unique_id).status == "Success"
    author.node.close()


def test_a_folder_is_dated_by_what_is_shown_of_it(region: peer.Node, world: World, doctor: Caller) -> None:
    system_time = region.rows("SELECT last_update_time FROM folder WHERE entry_uuid = %s", _bare(world.folder))[0][0]
    region.rows(
        "UPDATE folder SET last_update_time = '20300101000000' WHERE entry_uuid = %s RETURNING 1", _bare(world.folder)
    )
    region.rows(
        "UPDATE association SET member_since = '20300101000000' WHERE source = %s AND target = %s RETURNING 1",
        _bare(world.folder), _bare(world.hidden),
    )  # fmt: skip
    for question in (
        _stored("FindFolders", XDSFolderPatientId=_patient, XDSFolderStatus=_STATUS),
        _stored("FindFolders", XDSFolderPatientId=_patient, XDSFolderStatus=_STATUS, XDSFolderLastUpdateTimeTo="20290101"),
        _stored("GetFolders", XDSFolderEntryUUID=_folder),
        _stored("GetFolderAndContents", XDSFolderEntryUUID=_folder),
        _stored("GetAll", patientId=_patient, XDSDocumentEntryStatus=_STATUS, XDSSubmissionSetStatus=_STATUS, XDSFolderStatus=_STATUS),
    ):  # fmt: skip
        text = question(doctor, world, False).text
        assert "20300101" not in text
        assert system_time in text or system_time[:12] in text
    found = doctor.get(f"List/{_bare(world.folder)}")
    assert found.json()["date"] < "2030"
    assert found.json()["meta"]["lastUpdated"] < "2030"
    assert len(found.json()["entry"]) == 1
    everything = doctor.get(f"Patient/{world.logical}/$everything").text
    assert "2030-01-01" not in everything


def test_subscribers_are_told_of_what_they_may_see_then(region: peer.Node, doctor: Caller, stranger: Caller) -> None:
    world = World(region)
    kinds = [region.codes("typeCode", n) for n in (0, 1)]
    denial = {"permit": False, "condition": {"type_codes": ["^^".join(kinds[1])]}}
    world.state("consent", {"id": "2", "period": {}, "provisions": [denial]})

    def subscribe(caller: Caller, endpoint: str, patient: str = "", **more: Any) -> httpx.Response:
        body = subscription(endpoint, patient, content="full-resource", **more)
        headers = {"Content-Type": "application/fhir+json"}
        return caller.node.http.post(f"{world.base}/Subscription", json=body, headers=headers)

    with hook() as receiver:
        nobody = f"{peer.number()}^^^&{world.authority}&ISO"
        expect_alike(
            subscribe(stranger, receiver.url("a"), world.patient), subscribe(stranger, receiver.url("a"), nobody), ""
        )
        made = [subscribe(doctor, receiver.url("own"), world.patient)]
        made += [
            subscribe(caller, receiver.url(path), topic="DocumentReference-MultiPatient", more="status=current")
            for caller, path in ((stranger, "any"), (doctor, "all"))
        ]
        assert [r.status_code for r in made] == [201] * 3, [r.text for r in made]
        makers = (doctor, stranger, doctor)
        for one, maker in zip(made, makers, strict=True):
            path = f"Subscription/{one.json()['id']}"
            peer.wait_for(lambda path=path, maker=maker: maker.get(path).json()["status"] == "active")
        hidden = region.provided(region.submission(world.patient, world.entry(title=SECRET, type_code=kinds[1])))
        shown = region.provided(region.submission(world.patient, world.entry(type_code=kinds[0])))
        peer.wait_for(lambda: receiver.events("own") and receiver.events("all"))
        peer.wait_for(
            lambda: not region.rows("SELECT 1 FROM outbox WHERE destination LIKE 'subscription:%%' AND state = 'W'")
        )
        assert receiver.events("any") == []
        for path in ("own", "all"):
            [event] = receiver.events(path)
            assert event.status["notification-event"]["event-number"] == "1"
            assert ids_of(shown)[0].encode() in event.body
        for got in receiver.got:
            assert SECRET.encode() not in got.body
            assert ids_of(hidden)[0].encode() not in got.body
        for one, maker in zip(made, makers, strict=True):
            told = maker.get(f"Subscription/{one.json()['id']}/$events").text
            assert SECRET not in told
            assert ids_of(hidden)[0] not in told
    withheld = region.rows(
        "SELECT message FROM audit_event WHERE transaction = 'ITI-112' AND message LIKE '%%no access%%'"
    )
    assert len(withheld) == 4


def test_who_sees_what_the_patient_has_closed(region: peer.Node) -> None:
    world = World(region)
    asked = _stored("FindDocuments", XDSDocumentEntryPatientId=_patient, XDSDocumentEntryStatus=_STATUS)
    callers = {
        "doctor": Caller(region, DOCTOR),
        "emergency": Caller(region, {**STRANGER, "purpose_of_use": "BTG"}),
        "patient": Caller(region, {**PATIENT, "person": f"{world.authority}#{world.logical}"}),
        "research": Caller(region, {**DOCTOR, "purpose_of_use": "HRESCH"}),
        "system": Caller(region, {}),
    }

    def sees(name: str) -> tuple[bool, bool, str]:
        """Whether the open document, whether the closed one, and why."""
        answer = asked(callers[name], world, False)
        both = (o.unique_id.encode() in answer.content for o in (world.shown, world.hidden))
        return (*both, answer.headers.get("x-obieg-access", ""))

    assert sees("doctor") == (True, False, "author,poz; until=2100-01-01T00:00:00Z")
    assert sees("patient") == (True, True, "patient")
    assert sees("emergency") == sees("research") == sees("system") == (False, False, "")
    session = {"professional": STRANGER["person"], "organisation": STRANGER["organisation"], "period": WHOLE}
    world.state("emergency", session)
    assert sees("emergency") == (True, True, "author,emergency; until=2100-01-01T00:00:00Z")
    world.state("hold", {"document": world.shown.id, "reason": "zły stan", "period": {}})
    assert sees("patient") == (False, True, "patient")
    assert sees("doctor")[:2] == (True, False)
    # A withdrawal holds from the moment on at which it is recorded.
    with world.node_connection() as connection:
        connection.execute("UPDATE access_fact SET superseded_at = now() WHERE kind = 'consent'")
    assert sees("doctor")[:2] == (True, True)
    for caller in callers.values():
        caller.node.close()


def test_an_acknowledgement_holds_until_the_day_month_or_year_that_it_names_is_over(region: peer.Node) -> None:
    def code(attribute: str, *names: str) -> peer.Code:
        return next(c for c in region.codes.of(attribute) if c[0] in names)

    opens, closes = (
        code("eventCodeList", f"urn:connectathon:policy:{name}", other)
        for name, other in (("full-access", "OPTIN"), ("deny-access", "OPTOUT"))
    )
    for length, handed in ((4, region.provided), (6, region.registered), (8, region.provided), (14, region.registered)):
        world = World(region)

        def acknowledged(policy: peer.Code, stop: str, world: World = world, handed: Any = handed) -> str:
            entry = world.entry(
                content=stop.encode(), format_code=code("formatCode", "urn:ihe:iti:bppc:2007"), events=[policy],
                service_start="20200101", service_stop=stop,
            )  # fmt: skip
            handed(region.submission(world.patient, entry))
            return str(entry.id)

        def seen(who: dict[str, str], world: World = world) -> set[str]:
            caller = Caller(region, who)
            bundle = caller.get(f"DocumentReference?patient=Patient/{world.logical}&status=current").json()
            caller.node.close()
            return {f"urn:uuid:{e['resource']['id']}" for e in bundle.get("entry", [])}

        until = datetime.now(UTC).strftime("%Y%m%d000000")[:length]
        holds = length < 14  # the first second of today is over
        opening = acknowledged(opens, until)
        assert seen(STRANGER) == ({world.shown.id, world.other.id, opening} if holds else set())
        assert world.shown.id in seen(DOCTOR)
        acknowledged(closes, until)
        assert (world.shown.id in seen(DOCTOR)) is not holds

"""Whatever becomes of documents in whatever order, SOAP and FHIR say what a plain model of their life says."""

from __future__ import annotations

import asyncio
import base64
import copy
import itertools
import json
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import mhd_bundles
import peer
import psycopg
import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule, run_state_machine_as_test
from indexing import OURS
from lxml import etree
from mhd_bundles import DOCUMENT, FOLDER, RFC_3986, SET
from peer import APPROVED, DEPRECATED, association, quoted, slot

from obieg.domain.affinity_domain import AffinityDomain
from obieg.domain.registry import FoundResource
from obieg.mapping import ebrim, fhir_documents
from obieg.ops.settings import make as make_settings
from obieg.ops.supervisor import endpoints_of
from obieg.ops.wiring import Node as Wired
from obieg.ops.wiring import build
from obieg.wire.xml import parse_message

pytestmark = pytest.mark.node

EXAMPLES, STEPS = 16, 20
PEOPLE = (("K1", "KOT^ANNA||19800512|F"), ("L2", "LIS^JAN||19551203|M"))
MEMBER, STATE, SUBMIT = "HasMember", "UpdateAvailabilityStatus", "SubmitAssociation"
RELATIONS = ("RPLC", "APND", "XFRM", "XFRM_RPLC")
RELATES_TO = {
    "RPLC": ["replaces"],
    "APND": ["appends"],
    "XFRM": ["transforms"],
    "XFRM_RPLC": ["replaces", "transforms"],
}
SAID = {"RPLC": "replaces", "APND": "appends", "XFRM": "transforms", "XFRM_RPLC": "replaces"}  # the first that has it
Thing = dict[str, Any]
Relation = tuple[str, str, str]  # type, source, target


# the model -------------------------------------------------------------------------------------------------------


class RefusedError(Exception):
    """The act is against the rules: nothing changes."""


def expect(fact: object) -> None:
    if not fact:
        raise RefusedError


class Model:
    """Everything registered, by entryUUID, and the bytes that the repository has, by uniqueId."""

    def __init__(self) -> None:
        self.things: dict[str, Thing] = {}
        self.bytes: dict[str, bytes] = {}
        self.merged: dict[int, int] = {}  # patient -> survivor
        self._unnamed = itertools.count(1)

    # reading

    def person(self, patient: int) -> int:
        return self.merged.get(patient, patient)

    def all(self, kinds: str = "DSFA", patient: int | None = None) -> list[Thing]:
        return [
            t for t in self.things.values()
            if t["kind"] in kinds and (patient is None or self.person(t["patient"]) == self.person(patient))
        ]  # fmt: skip

    def versions(self, thing: Thing) -> list[Thing]:
        return sorted((t for t in self.all("DF") if t["lid"] == thing["lid"]), key=lambda t: t["version"])

    def newest(self, thing: Thing) -> bool:
        return thing["kind"] not in "DF" or self.versions(thing)[-1] is thing

    def hidden(self, thing: Thing) -> bool:
        """Whether who asks for no old versions does not see it: a newer one was made, of the same patient."""
        return bool(thing.get("hidden"))

    def at(self, *uuids: str) -> list[Thing]:
        return [a for a in self.all("A") if a["source"] in uuids or a["target"] in uuids]

    def members(self, holder: str, *, approved: bool = True) -> list[str]:
        return [
            a["target"] for a in self.all("A")
            if a["type"] == MEMBER and a["source"] == holder and (a["approved"] or not approved)
        ]  # fmt: skip

    def changeable(self, a: Thing) -> bool:
        """Not what a submission set says of its content."""
        return a["type"] not in (STATE, SUBMIT) and self.things[a["source"]]["kind"] != "S"

    # writing

    def add(self, kind: str, uuid: str, patient: int, **more: Any) -> None:
        own = {"kind": kind, "uuid": uuid, "patient": patient, "approved": True, "version": 1, "lid": uuid}
        self.things[uuid] = {**own, **more}

    def relate(self, patient: int, kind: str, source: str, target: str) -> str:
        uuid = f"unnamed {next(self._unnamed)}"
        self.add("A", uuid, patient, type=kind, source=source, target=target)
        return uuid

    def name(self, answered: Mapping[str, Relation]) -> None:
        """Gives associations the entryUUIDs that the registry chose."""
        free = {uuid: said for uuid, said in answered.items() if uuid not in self.things}
        while unnamed := [a for a in self.all("A") if a["uuid"].startswith("unnamed")]:
            for a in unnamed:
                found = [u for u, said in free.items() if said == (a["type"], a["source"], a["target"])]
                if found:
                    del free[found[0]], self.things[a["uuid"]]
                    old, a["uuid"] = a["uuid"], found[0]
                    self.things[found[0]] = a
                    for b in self.all("A"):
                        b["source"], b["target"] = (a["uuid"] if e == old else e for e in (b["source"], b["target"]))
                    break
            else:
                raise AssertionError(("the registry has not what the model has", unnamed, free))

    # acts

    def register(
        self,
        patient: int,
        set_id: str,
        entries: Iterable[tuple[str, str, bytes, bool]],  # entryUUID, uniqueId, bytes, whether the repository has them
        folders: Iterable[str],
        relations: Iterable[Relation],  # between documents, and folders with documents
        *,
        held: bool = True,  # whether the set holds what its new folders hold
    ) -> None:
        expect(patient not in self.merged)
        entries, folders, relations = list(entries), list(folders), list(relations)
        new = {*folders, *(uuid for uuid, *_ in entries)}
        for kind, source, target in relations:
            for end in {source, target} - new:
                expect(end in self.things and self.person(self.things[end]["patient"]) == patient)
            if kind != MEMBER:
                expect(self.things[target]["approved"])
            elif source not in new:
                expect(self.things[source]["approved"])
        for _, unique_id, content, _ in entries:
            expect(all(d["content"] == content for d in self.all("D") if d["unique_id"] == unique_id))
        self.add("S", set_id, patient)
        for uuid, unique_id, content, provided in entries:
            self.add("D", uuid, patient, unique_id=unique_id, content=content)
            if provided:
                self.bytes[unique_id] = content
        for uuid in folders:
            self.add("F", uuid, patient)
        for uuid in (*folders, *(uuid for uuid, *_ in entries)):
            self.relate(patient, MEMBER, set_id, uuid)
        replaced = [(source, target) for kind, source, target in relations if kind in ("RPLC", "XFRM_RPLC")]
        joined = {(s, t) for kind, s, t in relations if kind == MEMBER}
        for kind, source, target in relations:
            if kind == "RPLC":
                holding = [
                    a for a in self.all("A") if (a["type"], a["target"], a["approved"]) == (MEMBER, target, True)
                ]
                for folder in (self.things[a["source"]] for a in holding):
                    if folder["kind"] == "F" and folder["approved"] and (folder["uuid"], source) not in joined:
                        joined.add((folder["uuid"], source))
                        relations.append((MEMBER, folder["uuid"], source))
        self._deprecate(target for _, target in replaced)
        for said in relations:
            made = self.relate(patient, *said)
            if said[0] == MEMBER and (held or said[1] not in folders):
                self.relate(patient, MEMBER, set_id, made)

    def _deprecate(self, targets: Iterable[str]) -> None:
        """Replaced documents and, with them, their addenda and transformations."""
        doomed = list(targets)
        seen: set[str] = set()
        while doomed:
            uuid = doomed.pop()
            if uuid not in seen:
                seen.add(uuid)
                self.things[uuid]["approved"] = False
                doomed += [
                    a["source"] for a in self.all("A")
                    if a["target"] == uuid and a["type"] in ("APND", "XFRM") and a["approved"]
                ]  # fmt: skip

    def _touch(self, patient: int, uuid: str) -> Thing:
        """Something that an update of this patient changes."""
        expect(patient not in self.merged and uuid in self.things)
        expect(self.person(self.things[uuid]["patient"]) == patient)
        return self.things[uuid]

    def new_version(self, patient: int, set_id: str, of: str, uuid: str, previous: int, *, propagate: bool) -> None:
        expect(patient not in self.merged and of in self.things)
        was = self.versions(self.things[of])[-1]
        expect(was["version"] == previous and was["approved"])
        same = self.person(was["patient"]) == patient
        taken = [a for a in self.at(was["uuid"]) if propagate and a["approved"] and self.changeable(a)]
        expect(same or not taken)  # nothing relates objects of two patients
        self.add("S", set_id, patient)
        self.things[uuid] = {**was, "uuid": uuid, "version": previous + 1, "patient": patient}
        was["approved"], was["hidden"] = False, same
        self.relate(patient, MEMBER, set_id, uuid)
        if taken:
            for a in taken:
                a["approved"] = False
                source, target = (uuid if end == was["uuid"] else end for end in (a["source"], a["target"]))
                made = self.relate(patient, a["type"], source, target)
                if a["type"] == MEMBER:
                    self.relate(patient, MEMBER, set_id, made)

    def state(self, patient: int, set_id: str, of: str, *, was: bool, becomes: bool) -> None:
        thing = self._touch(patient, of)
        expect(thing["kind"] != "S" and self.newest(thing) and thing["approved"] is was)
        expect(thing["kind"] != "A" or self.changeable(thing))
        thing["approved"] = becomes
        self.add("S", set_id, patient)
        self.relate(patient, STATE, set_id, of)

    def submit(self, patient: int, set_id: str, kind: str, source: str, target: str) -> None:
        ends = [self._touch(patient, end) for end in (source, target)]
        expect(all(e["approved"] and self.newest(e) for e in ends) and source != target)
        expect("".join(e["kind"] for e in ends) == ("FD" if kind == MEMBER else "DD"))
        expect(
            (kind, source, target)
            not in {(a["type"], a["source"], a["target"]) for a in self.all("A") if a["approved"]}
        )
        self.add("S", set_id, patient)
        if kind in ("RPLC", "XFRM_RPLC"):
            self._deprecate([target])
        made = self.relate(patient, kind, source, target)
        self.relate(patient, SUBMIT, set_id, made)
        if kind == MEMBER:
            self.relate(patient, MEMBER, set_id, made)

    def remove(self, named: Iterable[str]) -> None:
        going = set(named)
        expect(going <= self.things.keys())
        staying = [a for a in self.all("A") if a["uuid"] not in going]
        expect(not any({a["source"], a["target"]} & going for a in staying))
        for a in (self.things[u] for u in going if self.things[u]["kind"] == "A"):
            for end in {a["source"], a["target"]} - going:
                kind = self.things[end]["kind"]
                held = [b for b in staying if b["target"] == end]
                if kind == "S":
                    expect(any(b["source"] == end for b in staying))
                elif kind == "A":
                    expect(held)
                else:
                    expect(any(b["type"] == MEMBER and self.things[b["source"]]["kind"] == "S" for b in held))
        gone = [self.things.pop(uuid) for uuid in going]
        for thing in gone:
            if thing["kind"] in "DF" and (versions := self.versions(thing)):
                versions[-1]["hidden"] = False

    def destroy(self, unique_id: str, *, known: bool) -> None:
        expect(known)
        self.bytes.pop(unique_id, None)

    def merge(self, survivor: int, other: int) -> None:
        expect(survivor not in self.merged and other not in self.merged and survivor != other)
        self.merged[other] = survivor


# the node --------------------------------------------------------------------------------------------------------


class Http:
    """What peers send, given to the node's edges in this process."""

    def __init__(self, runner: asyncio.Runner, application: Any) -> None:
        self._runner = runner
        transport = httpx.ASGITransport(app=application, client=("127.0.0.1", 40000))
        self._client = httpx.AsyncClient(transport=transport, base_url="http://node", timeout=60)

    def request(self, method: str, url: str, **more: Any) -> httpx.Response:
        return self._runner.run(self._client.request(method, url, **more))

    def post(self, url: str, **more: Any) -> httpx.Response:
        return self.request("POST", url, **more)

    def close(self) -> None:
        self._runner.run(self._client.aclose())


class Region(peer.Node):
    """A node in this process, on a given database."""

    def __init__(
        self, runner: asyncio.Runner, wired: Wired, endpoints: Mapping[str, str], codes: Any, dsn: str
    ) -> None:
        super().__init__(endpoints, peer.Codes(codes))
        self.http.close()
        self.http = Http(runner, wired.asgi)  # type: ignore[assignment]
        self.domain = AffinityDomain.from_json(json.dumps(codes))
        self.runner, self.wired = runner, wired
        self.connection = psycopg.connect(dsn, autocommit=True)

    def feed(self, event: str, patient: str, merged: str = "") -> str:
        """One ADT message through the edge for MLLP."""
        return self.runner.run(self._feed(event, patient, merged))

    async def _feed(self, event: str, patient: str, merged: str) -> str:
        who = next(said for value, said in PEOPLE if patient.startswith(value))
        structure = "ADT_A39" if event == "A40" else "ADT_A01"
        text = (
            f"MSH|^~\\&|PEER|SZPITAL|OBIEG|REGION|20240101||ADT^{event}^{structure}|1|P|2.3.1\r"
            f"EVN|{event}|20240101\rPID|||{patient}||{who}\r{f'MRG|{merged}' if merged else ''}\r"
        )
        assert self.wired.mllp is not None
        server = await asyncio.start_server(self.wired.mllp, "127.0.0.1", 0)
        reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
        writer.write(b"\x0b" + text.encode() + b"\x1c\r")
        data = await reader.readuntil(b"\x1c\r")
        writer.close()
        server.close()
        found = re.search(r"\rMSA\|(\w\w)", data.decode())
        assert found is not None
        return found[1]

    def empty(self) -> None:
        """Forgets everything."""
        sql = "SELECT tablename FROM pg_tables WHERE schemaname = 'public'"
        tables = [t for (t,) in self.connection.execute(sql) if "migration" not in t and t != "audit_sealing"]
        self.connection.execute(f"TRUNCATE {', '.join(tables)} RESTART IDENTITY".encode())

    def fhir(self, method: str, path: str = "", **more: Any) -> httpx.Response:
        headers = {"Accept": "application/fhir+json", "Content-Type": "application/fhir+json"}
        url = f"{self.endpoints['fhir']}/{path}".rstrip("/")
        return self.http.request(method, url, headers={**headers, **more.pop("headers", {})}, **more)

    def close(self) -> None:
        self.http.close()
        self.connection.close()


@contextmanager
def region(dsn: str, folder: Path) -> Iterator[Region]:
    codes = mhd_bundles.write_codes(folder)
    oids = {"home_community_id": "1.2.616.99", "repository_unique_id": "1.2.616.98", "assigning_authority": OURS}
    given = {
        "role": "region", "lab": True, "name": "region", "data_dir": ".", "identity": oids,
        "database": {"dsn": dsn}, "affinity_domain": {"codes": codes}, "http": {"public_url": "http://node"},
    }  # fmt: skip
    chosen = make_settings(given, "the test", folder)
    with asyncio.Runner() as runner:
        wired = build(chosen)
        runner.run(wired.open())
        found = Region(runner, wired, endpoints_of(chosen), json.loads(codes.read_text()), dsn)
        try:
            yield found
        finally:
            found.close()
            runner.run(wired.close())


# both ------------------------------------------------------------------------------------------------------------


def bare(urn: str) -> str:
    return urn.removeprefix("urn:uuid:")


def cx(patient: int) -> str:
    return f"{PEOPLE[patient][0]}^^^&{OURS}&ISO"


def annotated(own: str, of: str, previous: int, *, propagate: bool, status: str = "Original") -> str:
    more = slot("PreviousVersion", str(previous)) + ("" if propagate else slot("AssociationPropagation", "no"))
    return association(MEMBER, own, of, status=status, more=more)


def without_ids(xml: bytes) -> bytes:
    """Without the ids of parts, and in one form."""
    element = etree.fromstring(xml)
    for part in element.iterdescendants():
        part.attrib.pop("id", None)
    return etree.tostring(element, method="c14n", exclusive=True)


class Machine(RuleBasedStateMachine):
    """Acts by one face or the other; what both say afterwards is what the model says."""

    def __init__(self, node: Region) -> None:
        super().__init__()
        self.node, self.model = node, Model()
        node.empty()
        self.first: dict[str, Any] = {}  # what was registered, by entryUUID
        self.seen: dict[str, tuple[str, str]] = {}  # version and content of resources in FHIR
        self.sent: dict[str, Callable[[], bool]] = {}  # sends a submission once more, by the set that it made

    @initialize()
    def announce(self) -> None:
        for patient in range(len(PEOPLE)):
            assert self.node.feed("A04", cx(patient)) == "AA"

    def both(self, found: Any, modelled: Callable[[Any], None]) -> None:
        """``found`` is what an act came to, None when it was refused; the model must agree, with what was found."""
        before = copy.deepcopy(self.model)
        try:
            modelled(found)
        except RefusedError:
            self.model = before
            assert found is None, "refused by the model, carried out by the node"
        else:
            assert found is not None, ("refused by the node", self.said)

    def soap(self, answer: peer.Answer, *found: Any) -> Any:
        self.said = answer.errors or answer.fault
        return found if answer.status == "Success" else None

    def draw(self, data: st.DataObject, among: Iterable[Any]) -> Any:
        return data.draw(st.sampled_from(list(among)))

    def some(self, data: st.DataObject, kinds: str) -> Thing | None:
        """Any of these, mostly one that may still be changed."""
        found = self.model.all(kinds)
        good = [t for t in found if t["approved"] and self.model.newest(t)]
        if not found:
            return None
        return self.draw(data, good if good and data.draw(st.integers(0, 4)) else found)

    def whose(self, data: st.DataObject, *things: Thing | None) -> int:
        """Mostly the person whose these are."""
        theirs = [self.model.person(t["patient"]) for t in things if t is not None]
        return theirs[0] if theirs and data.draw(st.integers(0, 7)) else data.draw(st.sampled_from(range(len(PEOPLE))))

    # registering

    @rule(data=st.data(), way=st.sampled_from(("ITI-42", "ITI-41", "ITI-65", "ITI-105")), count=st.integers(1, 2))
    def register(self, data: st.DataObject, way: str, count: int) -> None:
        model, documents = self.model, self.model.all("D")
        plain = way == "ITI-105"
        count = 1 if plain else count
        related: list[tuple[str, Thing] | None] = []
        for _ in range(count):
            target = self.some(data, "D") if data.draw(st.booleans()) else None
            if any(r is not None and r[1] is target for r in related):
                target = None
            related.append(None if target is None else (self.draw(data, RELATIONS), target))
        put = data.draw(st.sampled_from(("no", "new folder", "folder"))) if not plain else "no"
        folder = self.some(data, "F") if put == "folder" else None
        also = self.draw(data, documents) if documents and put != "no" and data.draw(st.booleans()) else None
        patient = self.whose(data, *(r[1] for r in related if r), folder, also)
        contents = [f"treść {peer.oid()}".encode() for _ in range(count)]
        if put == "folder" and folder is None:
            put = "no"
        if put == "no":
            also = None
        holder = folder["uuid"] if folder is not None else None
        relations = [(n, r[0], r[1]["uuid"]) for n, r in enumerate(related) if r]
        unique_ids = [peer.oid() for _ in range(count)]
        if way in ("ITI-42", "ITI-41"):
            if not data.draw(st.integers(0, 5)) and (again := self.some(data, "D")):
                unique_ids[0] = again["unique_id"]
                contents[0] = again["content"] if data.draw(st.booleans()) else contents[0]
            found = self._register(way, patient, unique_ids, contents, relations, put, holder, also)
        elif way == "ITI-65":
            found = self._publish(patient, contents, relations, put, folder, also)
        else:
            found = self._publish_one(patient, contents[0], relations)

        def modelled(made: Any) -> None:
            set_id, entries, uniques, own_folder = made or (
                "?",
                [f"?{n}" for n in range(count)],
                unique_ids,
                "?folder",
            )
            where = holder or own_folder
            held = [*entries, *([also["uuid"]] if also else [])] if put != "no" else []
            if way == "ITI-65" and holder in model.things:
                held = [h for h in held if h not in model.members(holder or "")]
            model.register(
                patient,
                set_id,
                [(e, u, c, way != "ITI-42") for e, u, c in zip(entries, uniques, contents, strict=True)],
                [own_folder] if put == "new folder" else [],
                [*((k, entries[n], t) for n, k, t in relations), *((MEMBER, where, h) for h in held)],
                held=way != "ITI-65",
            )

        self.both(found, modelled)

    def _register(
        self,
        way: str,
        patient: int,
        unique_ids: list[str],
        contents: list[bytes],
        relations: list[Any],
        put: str,
        holder: str | None,
        also: Any,
    ) -> Any:
        node, own = self.node, peer.urn()
        entries = [node.entry(cx(patient), content=c, unique_id=u) for c, u in zip(contents, unique_ids, strict=True)]
        folders = [node.folder(cx(patient), title="Teczka")] if put == "new folder" else []
        links = [association(kind, entries[n].id, target) for n, kind, target in relations]
        where = folders[0].id if folders else holder
        for held in [*(e.id for e in entries), *([also["uuid"]] if also else [])] if where else []:
            link = peer.urn()
            links += [association(MEMBER, where, held, id=link), association(MEMBER, own, link)]  # type: ignore[arg-type]
        submission = node.submission(cx(patient), *entries, folders=folders, associations=links, id=own)
        send = node.register if way == "ITI-42" else node.provide
        answer = send(submission)
        self.sent[own] = lambda: send(submission).status == "Success"
        uniques = [e.unique_id for e in entries]
        return self.soap(answer, own, [e.id for e in entries], uniques, folders[0].id if folders else "")

    def _relates_to(self, relations: Iterable[tuple[int, str, str]], number: int) -> dict[str, Any]:
        said = [
            {"code": code, "target": {"reference": f"DocumentReference/{bare(target)}"}}
            for n, kind, target in relations if n == number for code in RELATES_TO[kind]
        ]  # fmt: skip
        return {"relatesTo": said} if said else {}

    def _publish(
        self, patient: int, contents: list[bytes], relations: list[Any], put: str, folder: Thing | None, also: Any
    ) -> Any:
        who = PEOPLE[patient][0]
        names = [DOCUMENT.replace("2", str(5 + n), 1) for n in range(len(contents))]
        described, binaries = [], []
        for n, content in enumerate(contents):
            one = mhd_bundles.document_reference(who, content, **self._relates_to(relations, n))
            one["content"][0]["attachment"]["url"] = name = names[n].replace("urn:uuid:0", "urn:uuid:9")
            binary = {"resourceType": "Binary", "contentType": "text/plain", "data": base64.b64encode(content).decode()}
            described.append(mhd_bundles.item(one, names[n]))
            binaries.append(mhd_bundles.item(binary, name))
        held = [*names, *([f"DocumentReference/{bare(also['uuid'])}"] if also else [])]
        lists = []
        if put == "new folder":
            lists = [mhd_bundles.item(mhd_bundles.listed("folder", who, *held), FOLDER)]
        elif folder is not None:
            identifier = [{"use": "usual", "system": RFC_3986, "value": f"urn:oid:{folder['unique_id']}"}]
            body = mhd_bundles.listed("folder", who, *held, identifier=identifier)
            lists = [mhd_bundles.item(body, FOLDER, "PUT", f"List/{bare(folder['uuid'])}")]
        sset = mhd_bundles.listed("submissionset", who, *names, *([FOLDER] if lists else []))
        bundle = {
            "resourceType": "Bundle", "meta": {"profile": [mhd_bundles.COMPREHENSIVE]}, "type": "transaction",
            "entry": [mhd_bundles.item(sset, SET), *described, *binaries, *lists],
        }  # fmt: skip
        response = self.node.fhir("POST", json=bundle)
        self.said = response.text
        if response.status_code != 200:
            assert 400 <= response.status_code < 500, response.text
            return None
        made = [f"urn:uuid:{e['response']['location'].rpartition('/')[2]}" for e in response.json()["entry"]]
        self.sent[made[0]] = lambda: self.node.fhir("POST", json=bundle).status_code == 200
        uniques = [d["resource"]["masterIdentifier"]["value"].removeprefix("urn:oid:") for d in described]
        return made[0], made[1 : 1 + len(contents)], uniques, made[-1] if lists else ""

    def _publish_one(self, patient: int, content: bytes, relations: list[Any]) -> Any:
        body = mhd_bundles.document_reference(PEOPLE[patient][0], content, **self._relates_to(relations, 0))
        body["meta"] = {
            "profile": [
                mhd_bundles.COMPREHENSIVE.replace("Comprehensive.ProvideBundle", "SimplifiedPublish.DocumentReference")
            ]
        }
        body["content"][0]["attachment"]["data"] = base64.b64encode(content).decode()
        response = self.node.fhir("POST", "DocumentReference", json=body)
        self.said = response.text
        if response.status_code != 201:
            assert 400 <= response.status_code < 500, response.text
            return None
        document = f"urn:uuid:{response.json()['id']}"
        [own] = [s.get("id") for s in self.node.query("GetSubmissionSets", uuid=quoted(document)).sets]
        self.sent[own] = lambda: self.node.fhir("POST", "DocumentReference", json=body).status_code in (200, 201)
        return own, [document], [body["masterIdentifier"]["value"].removeprefix("urn:oid:")], ""

    # changing

    def update(self, patient: int, own: str, associations: list[str], entries: Any = (), folders: Any = ()) -> Any:
        body = self.node.submission(
            cx(patient), *entries, folders=folders, associations=associations, id=own, member=False
        ).request()
        self.sent[own] = lambda: self.node.soap("update", body).status == "Success"
        return self.soap(self.node.soap("update", body), own)

    @rule(data=st.data())
    def repeat(self, data: st.DataObject) -> None:
        """What was carried out is answered Success again, and does nothing."""
        if sets := [own for own in self.sent if own in self.model.things]:
            assert self.sent[self.draw(data, sets)]()

    @rule(data=st.data(), propagate=st.booleans())
    def new_version(self, data: st.DataObject, propagate: bool) -> None:
        if (thing := self.some(data, "DF")) is None:
            return
        newest = self.model.versions(thing)[-1]
        patient, own, uuid = self.whose(data, thing), peer.urn(), peer.urn()
        previous = newest["version"] if data.draw(st.integers(0, 7)) else newest["version"] + 1
        link = annotated(own, uuid, previous, propagate=propagate, status="Original" if thing["kind"] == "D" else "")
        more = {"id": uuid, "unique_id": thing["unique_id"], "logical_id": thing["lid"]}
        if thing["kind"] == "D":
            content = self.model.bytes.get(thing["unique_id"], b"tresc dokumentu")
            hashed = self.first[thing["uuid"]]
            entry = self.node.entry(
                cx(patient), title=f"Wersja {uuid[-4:]}", content=content, hash=hashed.hash, size=hashed.size, **more
            )
            found = self.update(patient, own, [link], [entry])
        else:
            found = self.update(patient, own, [link], folders=[self.node.folder(cx(patient), title="Teczka", **more)])
        self.both(
            found,
            lambda _: self.model.new_version(patient, own, thing["uuid"], uuid, previous, propagate=propagate),
        )

    @rule(data=st.data(), honest=st.integers(0, 7), becomes=st.booleans())
    def state(self, data: st.DataObject, honest: int, becomes: bool) -> None:
        kinds = self.draw(data, ("D", "D", "F", "A", "S"))
        if not (among := self.model.all(kinds)):
            return
        thing = self.draw(data, among)
        patient, own = self.whose(data, thing), peer.urn()
        was = thing["approved"] if honest else not thing["approved"]
        said = [APPROVED if value else DEPRECATED for value in (was, becomes)]
        link = association(STATE, own, thing["uuid"], more=slot("OriginalStatus", said[0]) + slot("NewStatus", said[1]))
        found = self.update(patient, own, [link])
        self.both(found, lambda _: self.model.state(patient, own, thing["uuid"], was=was, becomes=becomes))

    @rule(data=st.data())
    def submit_association(self, data: st.DataObject) -> None:
        kind = self.draw(data, (MEMBER, *RELATIONS))
        source, target = self.some(data, "F" if kind == MEMBER else "D"), self.some(data, "D")
        if source is None or target is None:
            return
        patient, own, link = self.whose(data, source, target), peer.urn(), peer.urn()
        both = [association(kind, source["uuid"], target["uuid"], id=link), association(SUBMIT, own, link)]
        found = self.update(patient, own, both)
        self.both(found, lambda _: self.model.submit(patient, own, kind, source["uuid"], target["uuid"]))

    # removing

    @rule(data=st.data(), reach=st.sampled_from(("set", "set and what refers to it", "anything")))
    def remove(self, data: st.DataObject, reach: str) -> None:
        model = self.model
        if not (sets := model.all("S")):
            return
        chosen = self.draw(data, sets)["uuid"]
        named = {chosen, *model.members(chosen, approved=False)}
        named |= {a["uuid"] for a in model.all("A") if a["source"] == chosen}
        if reach == "set and what refers to it":
            while more := {a["uuid"] for a in model.at(*named)} - named:
                named |= more
        elif reach == "anything":
            named |= {self.draw(data, model.things)}
            named.discard(self.draw(data, [u for u in model.things if u in named]))
        if named:
            order = [u for u in model.things if u in named]
            refs = "".join(f'<rim:ObjectRef id="{u}"/>' for u in order)
            body = (
                f'<lcm:RemoveObjectsRequest xmlns:lcm="{peer.LCM}" xmlns:rim="{peer.RIM}">'
                f"<rim:ObjectRefList>{refs}</rim:ObjectRefList></lcm:RemoveObjectsRequest>"
            )
            self.both(self.soap(self.node.soap("remove", body), True), lambda _: model.remove(order))

    @rule(data=st.data())
    def destroy(self, data: st.DataObject) -> None:
        if (thing := self.some(data, "D")) is None:
            return
        unique_id = thing["unique_id"]
        items = peer.retrieval((self.node.repository, unique_id))
        name = "RetrieveDocumentSetRequest"
        space = 'xmlns:r="urn:ihe:iti:rmd:2017"'
        body = items.replace(f"<x:{name} ", f"<r:RemoveDocumentsRequest {space} ")
        body = body.replace(f"</x:{name}>", "</r:RemoveDocumentsRequest>")
        found = self.soap(self.node.soap("remove_documents", body), True)
        self.both(found, lambda _: self.model.destroy(unique_id, known=unique_id in self.provided))

    @property
    def provided(self) -> set[str]:
        """What the repository has had, by uniqueId."""
        sql = "SELECT unique_id FROM stored_document UNION SELECT unique_id FROM removed_document"
        return {u for (u,) in self.node.connection.execute(sql)}

    @rule(two=st.permutations(range(len(PEOPLE))), seldom=st.integers(0, 3))
    def merge(self, two: list[int], seldom: int) -> None:
        if not seldom and not self.model.merged:
            found = True if self.node.feed("A40", cx(two[0]), cx(two[1])) == "AA" else None
            self.both(found, lambda _: self.model.merge(two[0], two[1]))

    # reading

    @rule(data=st.data())
    def retrieve(self, data: st.DataObject) -> None:
        if not (among := self.model.all("D")):
            return
        thing = self.draw(data, among)
        expected = self.model.bytes.get(thing["unique_id"])
        answer = self.node.retrieve(thing["unique_id"])
        response = self.node.fhir("GET", f"Binary/{bare(thing['uuid'])}", headers={"Accept": "*/*"})
        if expected is None:
            assert (answer.status, answer.codes) == ("Failure", ["XDSDocumentUniqueIdError"])
            gone = thing["unique_id"] in self.provided
            assert response.status_code == (410 if gone else 404), response.text
        else:
            assert answer.documents == {thing["unique_id"]: expected}
            assert (response.status_code, response.content) == (200, expected)

    # what can be seen

    def get_all(self, patient: int, level: str) -> peer.Answer:
        both = quoted(APPROVED, DEPRECATED)
        names = ("XDSDocumentEntryStatus", "XDSSubmissionSetStatus", "XDSFolderStatus")
        answer = self.node.query(
            "GetAll", patientId=quoted(cx(patient))[1:-1], MetadataLevel=level, **dict.fromkeys(names, both)
        )
        assert answer.status == "Success", answer.errors
        return answer

    @invariant()
    def agree(self) -> None:
        answers = [self.get_all(patient, "2") for patient in range(len(PEOPLE))]
        said = [
            {
                a.get("id"): (a.get("associationType").rpartition(":")[2], a.get("sourceObject"), a.get("targetObject"))
                for a in answer.associations
            }
            for answer in answers
        ]
        self.model.name({uuid: relation for each in said for uuid, relation in each.items()})
        self.remember()
        for patient, answer in enumerate(answers):
            if patient in self.model.merged:
                assert answer.ids == set()
                assert self.found(patient, "DocumentReference") == self.found(patient, "List") == []
            else:
                self.agree_with(patient, answer, said[patient])
                self.agree_in_fhir(patient)

    def remember(self) -> None:
        """What is new, as it was registered."""
        tables = {"D": "document_entry", "S": "submission_set", "F": "folder", "A": "association"}
        if {t["uuid"] for t in self.model.all()} <= self.first.keys():
            return
        for kind, table in tables.items():
            sql = f"SELECT entry_uuid::text, ebrim FROM {table}"
            for uuid, rendering in self.node.connection.execute(sql.encode()):
                if f"urn:uuid:{uuid}" not in self.first:
                    value: Any = ebrim.read_rendering(kind, bytes(rendering), "A", 1)
                    self.first[f"urn:uuid:{uuid}"] = value
                    if kind == "F":
                        self.model.things[f"urn:uuid:{uuid}"]["unique_id"] = value.unique_id

    def agree_with(self, patient: int, answer: peer.Answer, said: Mapping[str, Relation]) -> None:
        """ITI-18."""
        model, mine = self.model, self.model.all(patient=patient)
        related = {a["uuid"]: (a["type"], a["source"], a["target"]) for a in mine if a["kind"] == "A"}
        assert said == related
        expected = {t["uuid"]: (t["approved"], str(t["version"]) if t["kind"] in "DF" else "") for t in mine}
        found = {}
        for e in (*answer.entries, *answer.sets, *answer.folders, *answer.associations):
            version = e.find(f"{{{peer.RIM}}}VersionInfo")
            kind = model.things[e.get("id")]["kind"] if e.get("id") in model.things else "?"
            number = version.get("versionName") if kind in "DF" else ""
            found[e.get("id")] = (peer.status_of(e) == "Approved", number)
            assert etree.tostring(e, method="c14n", exclusive=True)  # it is whole
            self.agree_anew(e, patient)
        assert found == expected
        newest = {t["uuid"] for t in mine if t["kind"] == "S" or (t["kind"] in "DF" and not model.hidden(t))}
        near = {a["uuid"] for a in mine if a["kind"] == "A" and a["approved"] and {a["source"], a["target"]} & newest}
        assert self.get_all(patient, "1").ids == newest | near
        documents, folders = ([t for t in mine if t["kind"] == kind] for kind in "DF")
        for t in folders:
            inside = self.node.query(
                "GetFolderAndContents", XDSFolderEntryUUID=quoted(t["uuid"])[1:-1], MetadataLevel="2"
            )
            assert {e.get("id") for e in inside.entries} == set(model.members(t["uuid"], approved=False))
            if not model.hidden(t):
                inside = self.node.query("GetFolderAndContents", XDSFolderEntryUUID=quoted(t["uuid"])[1:-1])
                held = {m for m in model.members(t["uuid"]) if not model.hidden(model.things[m])}
                assert {e.get("id") for e in inside.entries} == held
        if folders and documents:
            last = documents[-1]["uuid"]
            holding = {t["uuid"] for t in folders if last in model.members(t["uuid"]) and not model.hidden(t)}
            of = self.node.query("GetFoldersForDocument", XDSDocumentEntryEntryUUID=quoted(last)[1:-1])
            assert {f.get("id") for f in of.folders} == holding
        for status, approved in ((APPROVED, True), (DEPRECATED, False)):
            wanted = {t["uuid"] for t in documents if t["approved"] is approved and not model.hidden(t)}
            assert self.node.found(cx(patient), status, "ObjectRef").ids == wanted
        if documents:
            uuids = [t["uuid"] for t in documents]
            answer = self.node.query("GetAssociations", uuid=quoted(*uuids), MetadataLevel="2")
            assert answer.ids == {a["uuid"] for a in model.at(*uuids)}

    def agree_anew(self, element: Any, patient: int) -> None:
        """What is answered is what would be written anew of what was registered and of its state."""
        thing = self.model.things.get(element.get("id"))
        if thing is None:
            return
        value = self.first[thing["uuid"]]
        home, who = ebrim.home_attribute(self.node.home), cx(patient).replace("&", "&amp;").encode()
        status, ids = "A" if thing["approved"] else "D", ebrim.IdSource(bare(thing["uuid"]))
        if thing["kind"] == "D":
            xml = ebrim.splice_entry(ebrim.render_entry(value, ids), status, home, thing["version"], who)
        elif thing["kind"] == "S":
            xml = ebrim.splice_submission_set(ebrim.render_submission_set(value, ids), status, home, who)
        elif thing["kind"] == "F":
            [time] = peer.slot_of(element, "lastUpdateTime")
            xml = ebrim.splice_folder(ebrim.render_folder(value, ids), status, home, time, thing["version"], who)
        else:
            xml = ebrim.splice_association(ebrim.render_association(value, ids), status, home)
        anew = parse_message(b'<rim:L xmlns:rim="%b">%b</rim:L>' % (peer.RIM.encode(), xml))[0]
        assert without_ids(etree.tostring(anew)) == without_ids(etree.tostring(element))

    def found(self, patient: int, kind: str, **more: str) -> list[Any]:
        response = self.node.fhir("GET", kind, params={"patient": PEOPLE[patient][0], "_count": "1000", **more})
        assert response.status_code == 200, response.text
        bundle = response.json()
        found = [e["resource"] for e in bundle.get("entry", []) if e["search"]["mode"] == "match"]
        assert bundle["total"] == len(found)
        return found

    def agree_in_fhir(self, patient: int) -> None:
        """ITI-66 and ITI-67; old versions are found by their ids."""
        model, mine = self.model, self.model.all("DSF", patient)
        for status, approved in (("current", True), ("superseded", False)):
            wanted = {
                bare(t["uuid"]) for t in mine if t["kind"] == "D" and t["approved"] is approved and not model.hidden(t)
            }
            assert {r["id"] for r in self.found(patient, "DocumentReference", status=status)} == wanted
        documents, lists = self.found(patient, "DocumentReference"), self.found(patient, "List")
        if old := [bare(t["uuid"]) for t in mine if model.hidden(t)]:
            documents += self.found(patient, "DocumentReference", _id=",".join(old))
            lists += self.found(patient, "List", _id=",".join(old))
        found = {}
        for r in (*documents, *lists):
            uuid = f"urn:uuid:{r['id']}"
            assert uuid not in found
            inside = sorted((x["code"], x["target"]["reference"]) for x in r.get("relatesTo", []))
            inside += sorted(("", x["item"]["reference"]) for x in r.get("entry", []))
            found[uuid] = (r["resourceType"], r["status"], r["subject"]["reference"], inside)
            content = json.dumps({**r, "meta": r["meta"]["profile"]}, sort_keys=True)
            before = self.seen.get(uuid)
            self.seen[uuid] = (r["meta"]["versionId"], content)
            if before is not None:
                # The revision, and behind a hyphen whom a merge made the subject.
                assert int(before[0].partition("-")[0]) <= int(r["meta"]["versionId"].partition("-")[0])
                assert content == before[1] or r["meta"]["versionId"] != before[0], (before, content)
            self.agree_anew_in_fhir(r, patient)
        expected = {}
        for t in mine:
            kind = "DocumentReference" if t["kind"] == "D" else "List"
            status = "current" if t["approved"] else "superseded" if t["kind"] == "D" else "retired"
            expected[t["uuid"]] = (kind, status, f"Patient/{PEOPLE[patient][0]}", self.inside(t))
        assert found == expected

    def relations(self, t: Thing) -> list[str]:
        """``RPLC uuid``; of lists ``D uuid``."""
        if t["kind"] == "D":
            related = [a for a in self.model.all("A") if a["source"] == t["uuid"] and a["approved"]]
            return sorted(f"{a['type']} {bare(a['target'])}" for a in related)
        held = [(self.model.things[m]["kind"], bare(m)) for m in self.model.members(t["uuid"])]
        return sorted(f"{kind} {m}" for kind, m in held if kind in "DF")

    def inside(self, t: Thing) -> list[tuple[str, str]]:
        pairs = [r.split(" ") for r in self.relations(t)]
        if t["kind"] == "D":
            return sorted((SAID[kind], f"DocumentReference/{target}") for kind, target in pairs)
        return sorted(("", f"{'DocumentReference' if kind == 'D' else 'List'}/{m}") for kind, m in pairs)

    def agree_anew_in_fhir(self, resource: Any, patient: int) -> None:
        thing = self.model.things[f"urn:uuid:{resource['id']}"]
        table = {"D": "document_entry", "S": "submission_set", "F": "folder"}[thing["kind"]]
        time = "last_update_time" if thing["kind"] == "F" else "''"
        sql = (
            f"SELECT to_char(registered_at AT TIME ZONE 'UTC', 'YYYY-MM-DD\"T\"HH24:MI:SS.MS\"Z\"'), {time} "
            f"FROM {table} WHERE entry_uuid = %s"
        )
        [(at, touched)] = self.node.connection.execute(sql.encode(), [resource["id"]])
        rendering = fhir_documents.Renderer(self.node.domain).render(self.first[thing["uuid"]], at)
        meta, status = resource["meta"], "A" if thing["approved"] else "D"
        said = FoundResource(
            thing["kind"], resource["id"], rendering, status, meta["versionId"], meta["lastUpdated"],
            PEOPLE[patient][0], tuple(self.relations(thing)), touched,
        )  # fmt: skip
        assert json.loads(fhir_documents.splice(said, self.node.endpoints["fhir"].encode())) == resource


def test_any_history_of_documents_agrees_with_a_plain_model(database_dsn: str, tmp_path: Path) -> None:
    with region(database_dsn, tmp_path) as node:
        run_state_machine_as_test(
            lambda: Machine(node),
            settings=settings(
                max_examples=EXAMPLES,
                stateful_step_count=STEPS,
                deadline=None,
                suppress_health_check=list(HealthCheck),
            ),
        )

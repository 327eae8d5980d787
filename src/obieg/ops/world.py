"""``obieg lab --load FOLDER``: a world to test against, read from FHIR NDJSON before the node is ready (docs/lab.md).

What callers could tell the node goes the way that it would come: patients by ITI-104, documents by ITI-105, consents by
the Consent Registry; the directory is imported. Loading the same folder again changes nothing; one that has changed is
taken as what its sources say now.
"""

from __future__ import annotations

import asyncio
import base64
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, NamedTuple

from obieg.actors.patient_curation import OPERATOR
from obieg.domain.affinity_domain import AffinityDomain
from obieg.domain.audit import AuditEvent, AuditObject, Outcome
from obieg.domain.consents import CONSENTS, Kind, Stated
from obieg.domain.identifiers import PatientId
from obieg.domain.own_documents import CLASS as OWN_CLASS
from obieg.domain.problems import Finding, Problem
from obieg.domain.requester import Requester
from obieg.edges.fhir import PREFIX
from obieg.mapping import access_world
from obieg.mapping.consent import draft
from obieg.mapping.consent_references import local
from obieg.mapping.directory_terms import KINDS as DIRECTORY
from obieg.mapping.fhir_patient import patient_value
from obieg.mapping.pik import CDA_MEDIA_TYPES
from obieg.ops.directory_import import digest_of, draft_of, operator_event
from obieg.ops.failure import Failure
from obieg.ops.settings import Settings
from obieg.ops.wiring import Inside, inside, new_uuid
from obieg.ops.wiring_patients import affinity_domain, utc_now
from obieg.protocol import Context, FhirRequest
from obieg.transactions import TRANSACTIONS
from obieg.wire import fhir_json
from obieg.wire.fhir_elements import Fault, check
from obieg.wire.fhir_json import JsonRefused
from obieg.wire.fhir_validation import violations

SPEAKER = "lab"  # who says all of this
TOLD_MAX = 20  # of what is wrong
_URN = "urn:oid:"
_PERIOD = "per-1"  # FHIR's rule that a period begins before it ends
# What documents of a world are where they do not say it.
_LANGUAGE, _FORMAT = "pl-PL", "urn:ihe:iti:xds:2017:mimeTypeSufficient"
_STEPS = (  # types in the order in which they are loaded
    (*DIRECTORY, "Group"), ("Patient",), tuple(access_world.KINDS), ("DocumentReference",), ("Consent",),
)  # fmt: skip
_TYPES = frozenset(kind for step in _STEPS for kind in step) | {"Binary"}
_RELATED = "relatesTo"


class Line(NamedTuple):
    """A resource and where it stands."""

    file: Path
    number: int
    resource: dict[str, Any]

    @property
    def name(self) -> str:
        """Type/id."""
        return f"{self.resource['resourceType']}/{self.resource.get('id', '')}"

    @property
    def place(self) -> str:
        """File and line."""
        return f"{self.file.name}:{self.number}"


def load(folder: Path, settings: Settings) -> None:
    """Loads what stands in the folder into the node that these settings describe. Raises Failure."""
    lines = read(folder)

    async def work() -> None:
        async with inside(settings) as node:
            await _World(folder, lines, node, settings).load()

    asyncio.run(work())


def read(folder: Path) -> list[Line]:
    """All resources of the folder. Raises Failure with everything that is none."""
    files = sorted(folder.glob("*.ndjson"))
    if not files:
        raise Failure(
            f"{folder} has no file *.ndjson.",
            "A world is read from FHIR NDJSON: one resource on each line.",
            "Name the folder of the files; docs/lab.md says what may stand in them.",
        )
    found: list[Line] = []
    wrong: list[str] = []
    named: dict[str, str] = {}
    for file in files:
        for number, raw in enumerate(file.read_bytes().splitlines(), 1):
            if not raw.strip():
                continue
            place = f"{file.name}:{number}"
            try:
                resource = fhir_json.read(raw)
            except JsonRefused as error:
                wrong.append(f"{place}: {error}")
                continue
            if faults := check(resource) or _untold(resource):
                wrong += [f"{place}: {fault.path}: {fault.said}" for fault in faults]
                continue
            line = Line(file, number, resource)
            if resource["resourceType"] not in _TYPES:
                wrong.append(f"{place}: {resource['resourceType']} is none of {', '.join(sorted(_TYPES))}")
            elif not resource.get("id"):
                wrong.append(f"{place}: {resource['resourceType']}.id: others refer to it by its id; give it one")
            elif line.name in named:
                wrong.append(f"{place}: {line.name} stands in {named[line.name]} already; a world says it once")
            else:
                named[line.name] = place
                found.append(line)
    _refuse(wrong)
    _refuse(list(_unsaid(found)))
    return found


def _untold(resource: dict[str, Any]) -> list[Fault]:
    """What a resource says in words that are none of FHIR's: it would be read as if it said nothing."""
    ended = "it ends before it begins: correct start or end"
    return [
        fault._replace(said=ended) if fault.rule == "invariant" else fault
        for fault in violations(resource)
        if fault.rule in ("binding", "target") or fault.said.startswith(f"{_PERIOD}:")
    ]


def _unsaid(lines: Sequence[Line]) -> Iterator[str]:
    """What cannot be told of the facts, or of whom they are, before anything is loaded."""
    known = {line.name: line.resource for line in lines}
    for line in lines:
        findings: Sequence[Finding] = access_world.misnamed(line.resource, known)
        if line.resource["resourceType"] in access_world.KINDS:
            try:
                access_world.facts(line.resource, known)
            except Problem as problem:
                findings = problem.findings
        yield from _told(line, findings)


def _told(line: Line, findings: Sequence[Finding]) -> list[str]:
    return [f"{line.place}: {f.location or line.name}: {f.detail}" for f in findings if not f.warning]


def _refuse(wrong: Sequence[str]) -> None:
    if wrong:
        more = f"\n… and {len(wrong) - TOLD_MAX} more" if len(wrong) > TOLD_MAX else ""
        raise Failure(
            "The world cannot be loaded:\n" + "\n".join(wrong[:TOLD_MAX]) + more + "\n",
            "The laboratory does not start with a part of a world.",
            "Correct these lines (docs/lab.md says how each fact is written) and start again.",
        )


def _filled(codes: AffinityDomain) -> dict[str, dict[str, Any]]:
    """What a document of a world is where it does not say: first codes of the affinity domain that FHIR can name."""

    def coding(attribute: str, code: str = "") -> dict[str, str] | None:
        agreed = (c for c in codes.codes(attribute) if c.code != OWN_CLASS and code in ("", c.code))
        named = ({"system": codes.system(attribute, c.code, c.scheme), "code": c.code} for c in agreed)
        return next((one for one in named if one["system"]), None)

    def concept(attribute: str, code: str = "") -> dict[str, Any] | None:
        found = coding(attribute, code)
        return {"coding": [found]} if found else None

    normal, kind = concept("confidentiality_code", "N"), concept("class_code")
    of: dict[str, dict[str, Any]] = {
        "document": {"category": kind and [kind], "type": concept("type_code"), "securityLabel": normal and [normal]},
        "content": {"format": coding("format_code", _FORMAT) or coding("format_code")},
        "context": {
            "facilityType": concept("healthcare_facility_type_code"),
            "practiceSetting": concept("practice_setting_code"),
        },
    }
    return {part: {name: value for name, value in said.items() if value} for part, said in of.items()}


class _World:
    def __init__(self, folder: Path, lines: Sequence[Line], node: Inside, settings: Settings) -> None:
        self._folder = folder
        self._node = node
        self._lines = {line.name: line for line in lines}
        self._authority = settings.identity.assigning_authority
        self._home = settings.identity.home_community_id
        self._base = f"{settings.http.public_url.rstrip('/')}{PREFIX}"
        self._people: dict[str, PatientId] = {}  # by Patient/id of the world
        self._documents: dict[str, str] = {}  # DocumentReference/id of the world -> of the node
        self._wrong: list[str] = []
        self._filled = _filled(affinity_domain(settings))

    async def load(self) -> None:
        """Loads everything, step by step; a step that is wrong ends it."""
        for step, work in zip(
            _STEPS,
            (self._directory, self._patients, self._facts, self._publish, self._consents),
            strict=True,
        ):
            await work([line for line in self._lines.values() if line.resource["resourceType"] in step])
            _refuse(self._wrong)

    @asynccontextmanager
    async def _at(self, line: Line) -> AsyncIterator[None]:
        """What is refused within is wrong with the line."""
        try:
            yield
        except Problem as problem:
            self._wrong += _told(line, problem.findings)

    # the directory

    async def _directory(self, lines: Sequence[Line]) -> None:
        names = [(line.resource["resourceType"], line.resource["id"]) for line in lines]
        standing = await self._node.directory.standing(names)
        drafts = []
        for line, name in zip(lines, names, strict=True):
            kept, digest = standing.get(name), digest_of(line.resource)
            if kept is None or kept.deleted or kept.digest != digest:
                drafts.append(draft_of(line.resource, digest, kept.version if kept else 0, SPEAKER))
        if drafts:
            named = [f"{d.kind}/{d.id}" for d in drafts]
            await self._node.directory.store(drafts, operator_event("a world is loaded", named, SPEAKER))

    # patients

    async def _patients(self, lines: Sequence[Line]) -> None:
        for line in lines:
            resource = dict(line.resource)
            if "name" not in resource and resource.get("identifier"):
                known = await self._known(resource["identifier"][0])
                if known is not None:  # somebody who is known already
                    self._people[line.name] = known
                    await self._protect(line, known)
                    continue
            system, value = _URN + self._authority, patient_value(resource["id"])
            own = [i.get("value") for i in resource.get("identifier", ()) if i.get("system") == system]
            if own and own != [value]:
                said = f"an identifier of {system} is that of the affinity domain: it must be the id, {value}"
                self._wrong.append(f"{line.place}: Patient.identifier: {said}")
                continue
            if not own:
                resource["identifier"] = [{"system": system, "value": value}, *resource.get("identifier", ())]
            async with self._at(line):
                request = {"parameters": (("identifier", f"{system}|{value}"),), "resource": "Patient"}
                await self._ask("ITI-104", "conditional-update", resource, **request)
                self._people[line.name] = PatientId(value, self._authority)
                await self._protect(line, self._people[line.name])

    async def _protect(self, line: Line, patient: PatientId) -> None:
        protected = [True] if access_world.protected(line.resource) else []
        await self._state(f"{line.name}#protected", patient, Kind.PROTECTED, protected, None)

    # facts

    async def _facts(self, lines: Sequence[Line]) -> None:
        known = {line.name: line.resource for line in self._lines.values()}
        for line in lines:
            resource = self._identified(line.resource)
            element = access_world.KINDS[resource["resourceType"]]
            async with self._at(line):
                patient = await self._patient(resource.get(element, {}), f"{resource['resourceType']}.{element}")
                kind, facts = access_world.facts(resource, known)
                await self._state(line.name, patient, kind, facts, resource)

    def _identified(self, resource: dict[str, Any]) -> dict[str, Any]:
        """An Encounter is known by an identifier, so that documents can say of which visit they are."""
        given = resource.get("identifier", [])
        if resource["resourceType"] != "Encounter" or any(i.get("system", "").startswith(_URN) for i in given):
            return resource
        return {
            **resource,
            "identifier": [*given, {"system": _URN + self._home, "value": f"Encounter/{resource['id']}"}],
        }

    async def _patient(self, reference: Mapping[str, Any], where: str) -> PatientId:
        kind, id_ = local(reference.get("reference", ""), "")
        named = self._people.get(f"{kind}/{id_}") or await self._known(reference.get("identifier", {}))
        if named is not None:
            return named
        said = f"{reference.get('reference', 'this')} is no Patient of this folder: add it, or give an identifier"
        if "identifier" in reference:
            said = f"nobody has this identifier ({fhir_json.write(reference['identifier']).decode()}): add the Patient"
        raise Problem.of("XDSUnknownPatientId", said, where)

    async def _known(self, identifier: Mapping[str, Any]) -> PatientId | None:
        """Whom an identifier means, if anybody has it."""
        system, value = identifier.get("system", ""), identifier.get("value", "")
        if not (system.startswith(_URN) and value):
            return None
        named = PatientId(value, system.removeprefix(_URN))
        return named if await self._node.patients.affinity_domain_id(named) is not None else None

    async def _state(
        self, source: str, patient: PatientId, kind: Kind, facts: Sequence[Any], resource: dict[str, Any] | None
    ) -> None:
        """Records what a source says, unless it has said so already."""
        stated = Stated(
            source=source,
            patient=patient,
            kind=kind,
            facts=tuple(facts),
            by=SPEAKER,
            resource=fhir_json.write(resource).decode() if resource is not None else None,
        )
        found = await self._node.access.read(source, None, None)
        if found is None and not facts and resource is None:
            return
        if found is not None and (found[0].resource, found[0].facts) == (stated.resource, stated.written):
            return
        event = AuditEvent(
            transaction=OPERATOR,
            event="import",
            outcome=Outcome.SUCCESS,
            detail="a world is loaded",
            source_user=SPEAKER,
            requester=SPEAKER,
            objects=(AuditObject("patient", str(patient)), AuditObject("directory_resource", source)),
        )
        await self._node.access.put(stated, found[0].version if found else 0, event)

    # documents

    async def _publish(self, lines: Sequence[Line]) -> None:
        """Each after those to which it relates."""
        waiting = {line.name: line for line in lines}
        while waiting:
            ready = [line for line in waiting.values() if not {*_targets(line)} & waiting.keys()]
            if not ready:
                said = "documents relate to one another in a circle"
                self._wrong += [f"{line.place}: DocumentReference.relatesTo: {said}" for line in waiting.values()]
                return
            for line in ready:
                del waiting[line.name]
                if self._wrong and _RELATED in line.resource:
                    continue  # what it relates to may be what is wrong
                async with self._at(line):
                    resource = await self._whole(self._written(line))
                    published = await self._ask("ITI-105", "create", resource, resource="DocumentReference")
                    uuid = published.answers[0].object.removeprefix("urn:uuid:")
                    self._documents[line.name] = f"DocumentReference/{uuid}"

    def _written(self, line: Line) -> dict[str, Any]:
        """The DocumentReference as ITI-105 takes it: with its bytes, and references as the node knows them."""
        resource = {k: v for k, v in line.resource.items() if k not in ("id", "identifier")}
        where = "DocumentReference.content[0].attachment"
        contents = resource.get("content") or [{}]
        attachment = dict(contents[0].get("attachment", {}))
        if "data" not in attachment and (url := attachment.pop("url", "")):
            attachment |= self._bytes(url, attachment.get("contentType", ""), where)
        resource["content"] = [{**contents[0], "attachment": attachment}, *contents[1:]]
        if _RELATED in resource:
            resource[_RELATED] = [self._renamed(related) for related in resource[_RELATED]]
        if visits := resource.get("context", {}).get("encounter"):
            resource["context"] = {**resource["context"], "encounter": [self._visit(v) for v in visits]}
        return resource

    async def _whole(self, resource: dict[str, Any]) -> dict[str, Any]:
        """With all that an entry needs which the world does not say: ITI-18 shows no limited metadata.

        A CDA document says by itself what it is.
        """
        content = resource["content"][0]
        if content["attachment"].get("contentType", "").partition(";")[0] in CDA_MEDIA_TYPES:
            return resource
        attachment = {"language": _LANGUAGE, **content["attachment"]}
        if "date" in resource:
            attachment.setdefault("creation", resource["date"])
        context = {**self._filled["context"], **resource.get("context", {})}
        if "subject" in resource and "sourcePatientInfo" not in context:
            patient = await self._patient(resource["subject"], "DocumentReference.subject")
            named = {"system": _URN + patient.authority, "value": patient.value}
            context["sourcePatientInfo"] = {"identifier": named}
        return {
            **self._filled["document"],
            **resource,
            "content": [{**self._filled["content"], **content, "attachment": attachment}, *resource["content"][1:]],
            "context": context,
        }

    def _bytes(self, url: str, media: str, where: str) -> dict[str, str]:
        if (line := self._lines.get(url)) is not None and line.resource["resourceType"] == "Binary":
            binary = line.resource
            return {"contentType": media or binary.get("contentType", ""), "data": binary.get("data", "")}
        path = (self._folder / url).resolve()
        if ":" in url or not path.is_relative_to(self._folder.resolve()) or not path.is_file():
            said = f"{url[:200]!r} is neither Binary/<id> of this folder nor a file in it"
            raise Problem.of("XDSMissingDocument", said, f"{where}.url")
        return {"contentType": media, "data": base64.b64encode(path.read_bytes()).decode()}

    def _renamed(self, value: Any) -> Any:
        """With references to documents of the world as the node knows them."""
        if isinstance(value, dict):
            return {
                k: self._documents.get(v, v) if k == "reference" and isinstance(v, str) else self._renamed(v)
                for k, v in value.items()
            }
        return [self._renamed(v) for v in value] if isinstance(value, list) else value

    def _visit(self, reference: dict[str, Any]) -> dict[str, Any]:
        line = self._lines.get(reference.get("reference", ""))
        if line is None or "identifier" in reference:
            return reference
        known = self._identified(line.resource)["identifier"]
        return {**reference, "identifier": next(i for i in known if i.get("system", "").startswith(_URN))}

    # consents

    async def _consents(self, lines: Sequence[Line]) -> None:
        for line in lines:
            async with self._at(line):
                id_ = line.resource["id"]
                read = draft(self._renamed(line.resource), self._base, self._authority)
                found = await self._node.access.read(CONSENTS + id_, None, None)
                written = fhir_json.write({"resourceType": "Consent", "id": id_} | read.resource).decode()
                if found is None:
                    await self._node.consents.create(read, self._context("ITI-108"), id_=id_)
                elif found[0].resource != written:
                    await self._node.consents.update(id_, read, "", self._context("ITI-108"))

    # asking as a caller would

    def _context(self, transaction: str) -> Context:
        asked = next(t for t in TRANSACTIONS if t.id == transaction)
        requester = Requester(system=SPEAKER, proof="laboratory", repositories=None)
        return Context(asked, requester, new_uuid(), utc_now(), source_user=SPEAKER, destination_user=self._base)

    async def _ask(self, transaction: str, interaction: str, body: dict[str, Any], **more: Any) -> Any:
        context = self._context(transaction)
        request = FhirRequest(
            interaction=interaction,
            body=body,
            base=self._base,
            request_id=context.request_id,
            authorities=self._node.authorities,
            affinity_domain=self._authority,
            **more,
        )
        asked = context.transaction.decode(request)
        context.objects = context.transaction.audit(asked)
        return await context.transaction.serve(getattr(self._node.actors, context.transaction.actor), asked, context)


def _targets(line: Line) -> Iterator[str]:
    for related in line.resource.get(_RELATED, ()):
        yield related.get("target", {}).get("reference", "")

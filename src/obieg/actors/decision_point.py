"""Decides for who keeps documents elsewhere, and asks another node to decide for this one (XACML 3.0)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime

import msgspec

from obieg.actors.access_control import AccessControl, Seen
from obieg.domain.affinity_domain import AffinityDomain
from obieg.domain.decisions import STATED, Decided, DecisionQuery, Resource
from obieg.domain.permits import Named
from obieg.domain.problems import Problem
from obieg.mapping import xacml
from obieg.protocol import Asker, AuditSink, Context, SoapQuestion, Transaction


class DecisionPoint:
    """Answers whether somebody may have documents, as if they had asked for them here; patients are told alike."""

    def __init__(
        self,
        access: AccessControl,
        audit: AuditSink,
        *,
        codes: AffinityDomain,
        assigning_authority: str,
        new_uuid: Callable[[], str],
    ) -> None:
        self._access = access
        self._audit = audit
        self._codes = codes
        self._authority = assigning_authority
        self._new_uuid = new_uuid

    async def decide(self, query: DecisionQuery, context: Context) -> Decided:
        """A decision for each resource.

        A system asks for the person whom it names; a person asks for themself, and about documents alone: what else the
        question says of who asks must be what they have proved. Raises Problem ``NotPermitted``.
        """
        caller = context.requester
        wrong = [f for f in STATED if query.subject.get(f, "") not in ("", getattr(caller, f))]
        if caller.person and wrong:
            raise Problem.of("NotPermitted", f"a person asks for themself; {', '.join(wrong)}: another is named")
        documents = [resource.document for resource in query.resources if resource.document]
        if caller.person and len(documents) < len(query.resources):
            # Whoever reads would learn which types and times a patient has closed.
            raise Problem.of("NotPermitted", "a person asks about documents; types and times: only a system asks")
        who = caller if caller.person else msgspec.structs.replace(caller, **query.subject)
        asking = replace(context, requester=who)
        patients = [resource.patient for resource in query.resources if resource.patient is not None]
        seen = await self._access.see(Named(patients, unique_ids=documents), asking)
        seen.refused(asking, self._authority)
        shown = await self._access.shown(seen, documents)
        if patients and self._access.enforced:  # a document of somebody else is not what is asked about
            meant = [tuple(p.keys) for p, _ in seen.decisions if patients[0].identifier in p.facts.identifiers]
            shown = {name: keys for name, keys in shown.items() if tuple(keys) in meant}
        permitted = [
            resource.document in shown if resource.document else await self._shows_all(seen, resource)
            for resource in query.resources
        ]
        if documents:  # one that is not shown is as if nobody had it: nothing rests on what holds of its patient
            whose = {tuple(keys) for keys in shown.values()}
            seen = seen._replace(decisions=[(person, d) for person, d in seen.decisions if tuple(person.keys) in whose])
        if not any(permitted):  # nothing is opened by what the caller may see besides: nobody is told of a reading
            seen = seen._replace(decisions=())
        seen.told(asking, shown=any(permitted))
        await self._audit.record(asking.audit())
        context.audited = context.decided = True
        context.access, context.veiled = asking.access, asking.veiled
        return Decided(tuple(permitted), self._new_uuid(), context.received_at)

    async def _shows_all(self, seen: Seen, resource: Resource) -> bool:
        """Whether all of a type and time is shown; a code without its scheme is of every scheme that has it."""
        code, types = resource.type_code, None
        if code:
            types = [code] if "^^" in code else [f"{code}^^{s}" for s in self._codes.codings("type_code", code)]
        return await self._access.shows_all(seen, types, resource.created_from, resource.created_to)


class RegionDecides:
    """The port by which a facility asks its region."""

    def __init__(self, asker: Asker, transaction: Transaction, address: str, *, new_uuid: Callable[[], str]) -> None:
        """``address``: of the region's decisions."""
        self._asker = asker
        self._transaction = transaction
        self._address = address
        self._new_uuid = new_uuid

    async def permitted(self, documents: tuple[str, ...], subject: dict[str, str]) -> frozenset[str]:
        """See the port."""
        question = xacml.write_query(documents, subject, query_id=self._new_uuid(), at=datetime.now(UTC))
        answer = await self._asker.ask(self._transaction, SoapQuestion(question), self._address, subject)
        return xacml.read_answer(answer, documents)

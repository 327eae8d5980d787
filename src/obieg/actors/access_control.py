"""The one place that decides who may see what (docs/access.md).

An actor that shows documents asks :meth:`AccessControl.see` first, and gives the :class:`~obieg.domain.sight.Sight`
that it gets to every question. Who may not is answered like somebody who asks of what is not there; only the audit
tells.
Where access is not enforced nothing is asked.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from datetime import UTC, datetime
from typing import NamedTuple
from zoneinfo import ZoneInfo

from obieg.domain.access import Act, Deny, Facts, Filter, Permit, Settings, act_of, decide
from obieg.domain.audit import AuditObject
from obieg.domain.identifiers import PatientId
from obieg.domain.permits import FactsStore, Named, Person
from obieg.domain.problems import Finding, Problem
from obieg.domain.requester import Requester
from obieg.domain.sight import EVERYTHING, NOTHING, Sight, sight
from obieg.protocol import Context

_WARSAW = ZoneInfo("Europe/Warsaw")
_RESTS_ON_NOTHING = {"author"}
_PATIENT = "patient"  # the role: what it may do depends on who the patient is, whatever the act


class Seen(NamedTuple):
    """What a requester may see of those whom a request is about."""

    sight: Sight
    decisions: Sequence[tuple[Person, Permit | Deny]] = ()

    def of(self, patients: Collection[str]) -> Seen:
        """What of this is about these patients (affinity-domain ids, without authority)."""
        return Seen(self.sight, [d for d in self.decisions if not d[0].ids.isdisjoint(patients)])

    @property
    def whole(self) -> bool:
        """Whether all of somebody may be seen."""
        return any(isinstance(d, Permit) and d.filter is None for _, d in self.decisions)

    @property
    def certain(self) -> bool:
        """Whether it may be told that somebody is a patient here, even where nothing of them is shown.

        An author needs nothing to be one, so every professional may ask about everybody: who has written nothing of
        them is answered as if there were nobody.
        """
        return any(isinstance(d, Permit) and set(d.bases) != _RESTS_ON_NOTHING for _, d in self.decisions)

    @property
    def open(self) -> bool:
        """Whether everybody may be asked about, or :attr:`certain`."""
        return self.sight.permitted is None or self.certain

    def told(self, context: Context, *, shown: bool = True) -> None:
        """The answer, and its record, name the bases on which it is given; ``shown``: whether it shows anything."""
        permits = (d for _, d in self.decisions if isinstance(d, Permit))
        context.access = describe(permits) if shown or self.certain else ""

    def refused(self, context: Context, assigning_authority: str) -> None:
        """The record says why nothing of some patients was shown, and whose it would have been."""
        denied = [(person, d.reason) for person, d in self.decisions if isinstance(d, Deny)]
        asked = {o.identifier for o in context.objects if o.kind == "patient"}
        names = [{str(PatientId(id_, assigning_authority)) for id_ in person.ids} for person, _ in denied]
        context.refused = tuple(AuditObject("patient", min(some)) for some in names if asked.isdisjoint(some))
        context.refusal = " ".join(sorted({reason for _, reason in denied}))


_EVERYTHING = Seen(EVERYTHING)


class AccessControl:
    """Decides; without a store of facts everybody may do everything."""

    def __init__(self, store: FactsStore | None = None, settings: Settings | None = None) -> None:
        self._store = store
        self._settings = settings or Settings()

    @property
    def enforced(self) -> bool:
        """Whether anybody is asked."""
        return self._store is not None

    def admit(self, context: Context) -> None:
        """Whether the caller may do at all what needs no look at a patient. Raises Problem."""
        if self._store is None:
            return
        act = act_of(context.transaction.permission)
        if _depends(act, context.requester):
            return
        decision = decide(context.requester, Facts(()), act, _now(context), self._settings)
        if isinstance(decision, Deny):
            said = "the caller may not do this here"
            raise Problem([Finding("NotPermitted", said, reason=f"{act}: {decision.reason}")])
        context.decided = True

    def depends(self, act: Act, requester: Requester) -> bool:
        """Whether what the caller may do depends on the patient: :meth:`see` must then be asked of each."""
        return self._store is not None and _depends(act, requester)

    def expect_decided(self, context: Context) -> None:
        """Raises where something was answered about patients without a decision: nothing may go round."""
        if self._store is not None and not context.decided:
            raise AssertionError(f"{context.transaction.id} has answered without asking whether it may")

    def changes(self, context: Context) -> Filter | None:
        """What of documents the caller may change, by whose they are; None: all. They were admitted."""
        if self._store is None:
            return None
        decision = decide(context.requester, Facts(()), Act.CHANGE, _now(context), self._settings)
        return decision.filter if isinstance(decision, Permit) else ()

    def decided_later(self, context: Context) -> None:
        """Here nothing of patients is shown; what follows from it is asked when it is."""
        context.decided = True

    async def see(self, named: Named, context: Context, act: Act = Act.READ) -> Seen:
        """What the caller may see of those whom a request is about; one round trip where access is enforced.

        Whoever is not among the permitted, also somebody whom nobody knows, is as if there were nothing of them.
        """
        if self._store is None:
            return _EVERYTHING
        context.decided = True
        return await self.seen_by(context.requester, named, _now(context), act)

    async def seen_by(self, requester: Requester, named: Named, at: datetime, act: Act = Act.READ) -> Seen:
        """As :meth:`see`, of somebody who is not the caller of a request."""
        if self._store is None:
            return _EVERYTHING
        if not any(named):
            return Seen(NOTHING)
        persons = await self._store.of(named)
        at = at.astimezone(_WARSAW)
        decided = [(person, decide(requester, person.facts, act, at, self._settings)) for person in persons]
        return Seen(sight((p.keys, d.filter) for p, d in decided if isinstance(d, Permit)), decided)


def describe(permits: Iterable[Permit]) -> str:
    """The bases, and the latest end where all of them end; "" for none."""
    found = list(permits)
    bases = dict.fromkeys(basis for permit in found for basis in permit.bases)
    ends = [permit.until for permit in found]
    until = max((end for end in ends if end is not None), default=None)
    if not bases or until is None or None in ends:
        return ",".join(bases)
    return f"{','.join(bases)}; until={until.astimezone(UTC).isoformat(timespec='seconds').removesuffix('+00:00')}Z"


def _depends(act: Act, requester: Requester) -> bool:
    """Whether the decision rests on the facts of a patient."""
    of_one = act is Act.CONSENT and requester.patient != ""  # whose proof is good for one patient alone
    return act is Act.READ or of_one or (requester.role == _PATIENT and act in (Act.IDENTIFY, Act.CONSENT))


def _now(context: Context) -> datetime:
    return context.received_at.astimezone(_WARSAW)

"""Patients as the region knows them and what sources say of them (ITI TF-1 chapters 5, 8, 23, 24).

Three words matter. A *record* is what one source says of a person: its identifiers and demographics, kept as said. A
*patient* is the person whom one or more records are about, known by an affinity-domain id. A *link* says that a patient
is the same person as another one, the survivor; it can be taken back. All faces of the index (HL7 v2, HL7 v3, FHIR)
speak in the values of this module.
"""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum

from obieg.domain.documents import Value
from obieg.domain.identifiers import PatientId
from obieg.domain.matching import Judgement, Record
from obieg.domain.persons import Demographics


class FeedEvent(StrEnum):
    """What a source does; named by the trigger events of HL7 v2, which the other faces translate to.

    All of them but MERGE, MOVE, CHANGE_IDENTIFIERS and REMOVE state a record: unknown ones are created and known ones
    updated, because sources repeat themselves and messages overtake one another.
    """

    ADMIT = "A01"
    REGISTER = "A04"
    PRE_ADMIT = "A05"
    UPDATE = "A08"
    ADD_PERSON = "A28"
    UPDATE_PERSON = "A31"
    MERGE = "A40"  # MRG-1 was merged into PID-3
    MOVE = "A43"  # the identifiers of PID-3 belong to the patient they are moved to (ITI-64)
    CHANGE_IDENTIFIERS = "A47"  # the identifiers of MRG-1 are replaced by those of PID-3, one person
    REMOVE = "A29"  # the source withdraws its record (ITI-104 DELETE)

    @property
    def states_record(self) -> bool:
        """Whether it says how a person is, rather than how identifiers are to be rearranged."""
        return self not in (FeedEvent.MERGE, FeedEvent.MOVE, FeedEvent.CHANGE_IDENTIFIERS, FeedEvent.REMOVE)


class PatientFeed(Value, frozen=True):
    """One feed message: the patient's identifiers in the sender's order, demographics, and, for a merge, the old ids.

    ``stated`` names the demographic fields that the message speaks of, be it to empty them; the others stay as they
    are. The locations say where each identifier stands, in the message's own terms, so that a refusal can point there.
    For MOVE ``merged`` has the affinity-domain id and local ids before the move.
    """

    event: FeedEvent
    identifiers: tuple[PatientId, ...]
    demographics: Demographics = Demographics()
    stated: tuple[str, ...] = ()
    merged: tuple[PatientId, ...] = ()
    identifier_locations: tuple[str, ...] = ()
    merged_locations: tuple[str, ...] = ()
    source: str = ""  # who says so: facility|application, or the system's name


class Feeder(Value, frozen=True):
    """Who feeds, as they proved who they are; what a message says of its sender is :attr:`PatientFeed.source`.

    A Patient Identity Source is the authority for the identifiers of its own domain (ITI TF-1:5.1): what others have
    fed is not its to change (docs/access.md, Feeds).
    """

    name: str = ""  # of the system; "" where nobody was proved, or an operator acts
    kin: frozenset[str] = frozenset()  # all systems of its organisation
    bound: bool = False  # whether only its own records are its to change
    region: bool = False  # it gives out affinity-domain ids, and says whose they are

    @property
    def names(self) -> frozenset[str]:
        """Whoever it may speak for."""
        return self.kin | {self.name}

    def owns(self, fed_by: str) -> bool:
        """Whether a record that this system has fed is its to change; one that nobody has fed is anybody's."""
        return not self.bound or not fed_by or fed_by in self.names

    def after(self, fed_by: str) -> str:
        """Whose the record is once this feeder has changed it."""
        return self.name if self.name and (not fed_by or fed_by in self.names) else fed_by


class CrossReferenceQuery(Value, frozen=True):
    """Which identifiers name the patient whom ``identifier`` names, in which domains; none: in all.

    The locations say where the identifier and each authority stand, in the message's own terms.
    """

    identifier: PatientId
    authorities: tuple[str, ...] = ()
    identifier_location: str = ""
    authority_locations: tuple[str, ...] = ()
    text: bytes = b""  # the query as asked, for the audit


class DemographicsQuery(Value, frozen=True):
    """Who fits this description (ITI-21, 22, 47, 78); an empty value says nothing, all given ones must fit.

    Texts are compared folded (case, Polish and foreign marks do not count). ``*`` stands for any further characters and
    is allowed at the end of a word. Unless ``exact`` is set, names that sound alike or are short forms fit as well, and
    come after those that fit better. Dates are partial: ``1970`` fits everyone born in that year.
    """

    identifiers: tuple[PatientId, ...] = ()  # any of them; authority "" is any authority
    family: str = ""
    given: str = ""
    mother_family: str = ""  # the mother's maiden name
    mother_given: str = ""
    born_from: str = ""  # YYYY[MM[DD]], inclusive
    born_until: str = ""
    sex: str = ""
    address: str = ""  # any part of an address
    street: str = ""
    city: str = ""
    state: str = ""
    postal_code: str = ""
    country: str = ""
    telecom: str = ""
    account: str = ""
    active: bool | None = True  # False: those who were merged into others; None: both
    exact: bool = False
    prefix: bool = False  # FHIR's string search: a name fits that begins with what is given
    authorities: tuple[str, ...] = ()  # whose identifiers are returned; who has none there is left out
    authority_locations: tuple[str, ...] = ()
    count: int = 0  # of one page; 0: the index's own
    minimum_score: int = 0  # percent; who fits less well is not found
    cursor: str = ""  # the asker's own name for the way through the answer; empty: the index chooses one
    text: bytes = b""  # the query as asked, for the audit
    alternatives: tuple[DemographicsQuery, ...] = ()  # who fits one of these fits as well


class Continuation(Value, frozen=True):
    """Asks for the next records of an answer."""

    cursor: str
    count: int
    text: bytes  # the query as asked, for the audit


class Cancel(Value, frozen=True):
    """Wants no more records of an answer."""

    cursor: str
    text: bytes


Question = DemographicsQuery | Continuation | Cancel


class Candidate(Value, frozen=True):
    """A patient in an answer."""

    patient: PatientId  # in the affinity domain
    identifiers: tuple[PatientId, ...]  # of sources first, national ones next, the affinity-domain id last
    demographics: Demographics
    score: int = 100  # percent; how sure it is that this is the one
    grade: str = "certain"  # certain, probable, possible (FHIR match-grade)
    active: bool = True
    replaced_by: PatientId | None = None
    version: int = 1
    updated_at: datetime | None = None


class Candidates(Value, frozen=True):
    """One page of an answer; ``cursor`` leads to the next one and is empty on the last."""

    found: tuple[Candidate, ...]
    total: int  # of all pages
    capped: bool = False  # there were more than the index is willing to list: narrow the question
    cursor: str = ""
    remaining: int = 0  # on the pages after this one


class PatientMatch(Value, frozen=True):
    """Who is this person (ITI-119, ITI-55)? Judged by the matcher, as a feed would be."""

    record: Record
    only_certain: bool = False
    count: int = 0
    text: bytes = b""


class Standing(Value, frozen=True):
    """Whom an identifier names: the patient at the end of the chain of merges."""

    patient_key: int
    affinity_domain_id: str
    retired: bool = False  # subsumed by a merge: it names nobody any more, the patient is only why


class Link(Value, frozen=True):
    """A patient who is the same person as another one."""

    patient: PatientId
    merged_into: PatientId
    reason: str  # A40, automatic, decision
    linked_at: datetime
    linked_by: str


class TaskKind(StrEnum):
    """Why a person must look at it."""

    POSSIBLE_DUPLICATE = "possible_duplicate"  # two patients who may be one
    CONTRADICTION = "contradiction"  # a record says of a known patient what cannot be of the same person
    DOUBTFUL_DOCUMENT = "doubtful_document"  # after an undo: nothing says whose document it is


class Task(Value, frozen=True):
    """A line of the worklist: what is to be decided, the evidence, and what was decided.

    Decisions are ``same`` (one person; of a doubtful document: it is of the patient on the right) and ``different``.
    The index itself closes a line as ``moot`` when both have become one otherwise. A link that is taken back makes
    ``same`` to ``undone``, and asks again; one that a person makes turns ``different`` into ``withdrawn``.
    """

    task_id: int
    kind: TaskKind
    left: Candidate
    right: Candidate | None
    judgement: Judgement | None
    detail: str
    opened_at: datetime
    decision: str = ""  # same, different, moot, undone, withdrawn; "" while open
    decided_by: str = ""
    decided_at: datetime | None = None
    note: str = ""

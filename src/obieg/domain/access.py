"""Who may see what: the rules of docs/access.md, as plain functions over facts.

``decide`` compiles the facts of one patient for one requester into a :class:`Filter`: sources whose rules ask about the
document alone. ``domain/showing.py`` applies it, as the SQL of the stores does. ``codes/access.toml`` says what each
basis is for; here is what it rests on.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from datetime import UTC, date, datetime, time, timedelta
from enum import StrEnum

from msgspec.structs import replace

from obieg.codes.load import toml
from obieg.domain.documents import Value
from obieg.domain.requester import Requester


class Act(StrEnum):
    """What somebody wants to do; ``codes/access.toml`` says which permission of a transaction is which."""

    READ = "read"
    IDENTIFY = "identify"
    FEED = "feed"
    CHANGE = "change"
    CONSENT = "consent"
    EMERGENCY = "emergency"
    LOG = "log"
    HANDOUT = "handout"
    ANSWER = "answer"
    OPERATE = "operate"
    INSPECT = "inspect"
    MAINTAIN = "maintain"
    REVIEW = "review"
    OPEN = "open"


class Period(Value, frozen=True):
    """From a moment on, until another; None: open."""

    begin: datetime | None = None
    end: datetime | None = None

    def holds(self, at: datetime) -> bool:
        """Whether it holds at a moment."""
        return (self.begin is None or self.begin <= at) and (self.end is None or at < self.end)


class Condition(Value, frozen=True):
    """What is asked of a document: all that is given must fit, one of each is enough; None: anything.

    Codes are as in the registry (``code^^scheme``); labels are codes alone; identifiers are ``root#extension``.
    """

    documents: tuple[str, ...] | None = None  # entryUUIDs; their whole lineage fits
    class_codes: tuple[str, ...] | None = None
    type_codes: tuple[str, ...] | None = None
    practice_setting_codes: tuple[str, ...] | None = None
    labels: tuple[str, ...] | None = None
    authors: tuple[str, ...] | None = None
    encounters: tuple[str, ...] | None = None
    created_from: str | None = None  # DTM of 14 digits; inclusive
    created_to: str | None = None  # exclusive


class Provision(Value, frozen=True):
    """A step of a consent: whom it fits and what it fits. None: everybody, everything."""

    permit: bool
    actors: tuple[str, ...] | None = None  # identifiers of persons and organisations
    roles: tuple[str, ...] | None = None
    purposes: tuple[str, ...] | None = None
    period: Period = Period()
    condition: Condition = Condition()


class Consent(Value, frozen=True):
    """What the patient has said, as provisions in order: the last that fits decides."""

    id: str
    period: Period
    provisions: tuple[Provision, ...]


class Declaration(Value, frozen=True):
    """A chosen doctor, nurse or midwife of primary care."""

    professional: str
    kind: str  # doctor, nurse, midwife
    organisation: str  # "": any
    period: Period


class Encounter(Value, frozen=True):
    """Care in progress."""

    organisation: str
    period: Period


class Representative(Value, frozen=True):
    """Who may act in the patient's place."""

    person: str
    kind: str  # guardian, authorised, informed, close
    period: Period = Period()


class Emergency(Value, frozen=True):
    """A break-glass session."""

    professional: str
    organisation: str
    period: Period


class Hold(Value, frozen=True):
    """A facility keeps a document from the patient, for a reason."""

    document: str  # entryUUID
    reason: str
    period: Period


class Facts(Value, frozen=True):
    """All that is known of a patient for a decision."""

    identifiers: tuple[str, ...]
    birth_date: date | None = None
    died_on: date | None = None
    protected: bool = False
    objection: bool = False
    declarations: tuple[Declaration, ...] = ()
    encounters: tuple[Encounter, ...] = ()
    representatives: tuple[Representative, ...] = ()
    consents: tuple[Consent, ...] = ()
    emergencies: tuple[Emergency, ...] = ()
    holds: tuple[Hold, ...] = ()
    notices: bool = False  # the patient asked to be told when somebody reads


class Rule(Value, frozen=True):
    """A step of a source, for documents alone."""

    permit: bool | None  # None: what was said before does not hold here
    condition: Condition = Condition()
    max: str = "V"  # the highest confidentiality that it opens: N, R, V


class Source(Value, frozen=True):
    """A basis or a consent that says something; its last rule that fits a document decides."""

    basis: str  # key of codes/access.toml, or HOLD
    rules: tuple[Rule, ...]
    until: datetime | None = None
    reference: str = ""  # of a consent: its id; of a hold: its reason

    @property
    def permits(self) -> bool:
        """Whether it opens anything, be it hidden by others."""
        return True in [rule.permit for rule in self.rules]


# A document is shown if one source permits it and none denies it, nor anything of its lineage.
Filter = tuple[Source, ...]


class Permit(Value, frozen=True):
    """It may be done."""

    bases: tuple[str, ...]
    ends: tuple[tuple[str, datetime], ...] = ()  # of the bases that end, in their order: when
    filter: Filter | None = None  # None: everything
    obligations: tuple[str, ...] = ()

    def end(self, basis: str) -> datetime | None:
        """The end of one of its bases, if it has one."""
        return dict(self.ends).get(basis)


class Deny(Value, frozen=True):
    """It may not; the reason is for the audit."""

    reason: str


class Settings(Value, frozen=True):
    """What a region chooses where a law leaves room."""

    emergency_opens_restricted: bool = True
    restriction_binds_author: bool = True
    switched_off: tuple[str, ...] = ()  # bases that do not count here


class DocumentFacts(Value, frozen=True):
    """What a filter looks at."""

    entry_uuid: str
    lineage: str = ""  # the same for all documents of one lineage, another for others; "": it is alone
    class_code: str = ""
    type_code: str = ""
    practice_setting_code: str = ""
    labels: tuple[str, ...] = ()
    authors: tuple[str, ...] = ()
    encounters: tuple[str, ...] = ()
    creation_time: str = ""  # DTM of 14 digits


_TABLE = toml("access.toml")
_ACTS = _TABLE["acts"]
BASES = _TABLE["bases"]
DECLARED = _TABLE["declarations"]  # roles that a declaration of each kind is for
TOLD = {**BASES, "link": _TABLE["link"]}  # what people are told of why something was shown
HOLD = "hold"
_RESEARCH = frozenset(_TABLE["research"]["codes"])
_ROLES = {role: group for group, roles in _TABLE["roles"].items() for role in roles}
_PURPOSES = {code: group for group, codes in _TABLE["purposes"].items() for code in codes}
_ACT_OF = {permission: Act(act) for act, row in _ACTS.items() for permission in row["permissions"]}
_SESSIONS_ONLY = frozenset(_TABLE["sessions_only"]["groups"])
_NO_READERS = frozenset(("clerk", "counter", "operator", "officer", ""))  # no basis is theirs


def act_of(permission: str) -> Act:
    """The act that the permission of a transaction is. Raises KeyError if the table does not know it."""
    return _ACT_OF[permission]


# Who asks ------------------------------------------------------------------------------------------------------------


class Asked(Value, frozen=True):
    """A question, with what all rules want to know of it."""

    facts: Facts
    at: datetime
    moment: datetime  # the same in UTC, as facts name theirs: times of one zone are compared by themselves
    settings: Settings
    group: str  # of roles; "": none
    role: str
    purpose: str | None
    purposes: str  # its group
    professional: str  # the identifier that facts are looked for by
    organisation: str
    names: frozenset[str]  # of the person and of whom they act for
    actors: frozenset[str]  # of all that a consent may mean by an actor
    limited: bool  # the proof is good for another patient only

    @property
    def died_on(self) -> date | None:
        """The day on which the patient died, if it has come."""
        day = self.facts.died_on
        return day if day is not None and day <= self.at.date() else None

    @property
    def seat(self) -> str:
        """The group of roles whose bases count: an assistant sits in the place of a professional."""
        return "medical" if self.group == "assistant" else self.group


def ask(requester: Requester, facts: Facts, at: datetime, settings: Settings) -> Asked:
    """The question that this requester asks."""
    group = _ROLES.get(requester.role, "") if requester.person else "system"
    if group in _SESSIONS_ONLY and requester.proof != "session":
        group = ""
    purpose = requester.purpose_of_use or _TABLE["purpose_of"].get(group)
    names = frozenset((requester.person, requester.acting_for)) - {""}
    return Asked(
        facts,
        at,
        at.astimezone(UTC),
        settings,
        group,
        requester.role,
        purpose,
        _PURPOSES.get(purpose, "other"),
        requester.acting_for if group == "assistant" else requester.person,
        requester.organisation,
        names,
        names.union((requester.organisation, requester.child_organisation)) - {""},
        requester.patient not in ("", *facts.identifiers),
    )


def asks_as(requester: Requester) -> tuple[str, ...]:
    """All that :func:`decide` looks at of a requester who wants to read."""
    return (
        requester.person,
        requester.role,
        requester.organisation,
        requester.child_organisation,
        requester.purpose_of_use,
        requester.acting_for,
        requester.patient,
        requester.proof,
    )


# The decision --------------------------------------------------------------------------------------------------------


_AS_SET = Settings()


def decide(requester: Requester, facts: Facts, act: Act, at: datetime, settings: Settings = _AS_SET) -> Permit | Deny:
    """Whether it may be done, on which bases, and what of the patient's documents is shown.

    ``at``: the moment of the question in the region's time zone, for its day counts. ``facts``: of the patient; an act
    that is about none has ``Facts(())``.
    """
    question, row = ask(requester, facts, at, settings), _ACTS[act]
    if act is Act.READ:
        return _refusal(question) or _read(question)
    if needed(act, question):
        return _refusal(question) or _need_basis(question, needed(act, question))
    if "not_research" in row and question.purpose in _RESEARCH:
        return Deny("purpose")
    if "session" in row and requester.proof != "session":
        return Deny("role")
    if question.group == "system" and requester.proof not in row.get("services", (requester.proof,)):
        return Deny("role")
    if question.group not in row["groups"]:
        return Deny("role")
    if "limited" in row and question.limited:
        return Deny("limited")
    if question.purposes not in row.get("purposes", (question.purposes,)):
        return Deny("purpose")
    if "organised" in row and not question.organisation:
        return Deny("none")
    if question.group in row.get("own", ()):
        return _change(question)
    if "stands" in row:
        there = Requester(system="", person=requester.acting_for, role="patient")
        return _need_basis(ask(there, facts, at, settings), row["stands"])
    return Permit(())


def needed(act: Act, question: Asked) -> tuple[str, ...]:
    """The bases of which one must hold, for this requester; none: no basis is needed."""
    return tuple(BASES) if act is Act.READ else tuple(_ACTS[act].get("by_basis", {}).get(question.group, ()))


def _refusal(question: Asked) -> Deny | None:
    """Why it is refused before any basis is looked for: the first reason."""
    if question.purposes == "other" and not any(
        provision.permit and _fits_requester(provision, question)
        for consent in question.facts.consents
        if consent.period.holds(question.moment)
        for provision in consent.provisions
    ):
        return Deny("purpose")
    if question.group == "system":
        return Deny("system")
    if question.limited:
        return Deny("limited")
    if question.group in _NO_READERS:
        return Deny("role")
    if not question.professional:
        return Deny("assistant")
    if (question.group == "patient") != (question.purposes == "own"):
        return Deny("own-purpose")
    return None


def never_reads(question: Asked) -> str:
    """The refusal that stands whatever the purpose and the consents, for who asks never reads; "": there is none."""
    return "system" if question.group == "system" else "role" if question.group in _NO_READERS else ""


def _read(question: Asked) -> Permit | Deny:
    names = _OF_SEAT.get((question.seat, question.purposes), ())
    held = [source for name in names if isinstance(source := basis(name, question), Source)]
    if question.seat == "patient":
        hidden = _held_back(question)
        everything = not hidden
    else:
        hidden = consents(question)
        everything = question.settings.emergency_opens_restricted and any(s.basis == "emergency" for s in held)
    grounds = (*held, *(source for source in hidden if source.permits))
    if not grounds:
        return Deny("none")
    bases, ends = _named(grounds)
    filter_ = None if everything else (*held, *hidden)
    return Permit(bases, ends, filter_, tuple(_obligations(question, bases)))


def _need_basis(question: Asked, names: Iterable[str]) -> Permit | Deny:
    held = [source for name in names if isinstance(source := basis(name, question), Source)]
    return Permit(*_named(held)) if held else Deny("none")


def _change(question: Asked) -> Permit | Deny:
    if not question.organisation:
        return Deny("none")
    own = Rule(permit=True, condition=Condition(authors=(question.organisation,)))
    return Permit((), filter=(Source("author", (own,)),))


def _named(grounds: Iterable[Source]) -> tuple[tuple[str, ...], tuple[tuple[str, datetime], ...]]:
    """The bases of sources in the order of the table, and of those that end the latest end."""
    held: dict[str, list[datetime | None]] = {}
    for source in grounds:
        held.setdefault(source.basis, []).append(source.until)
    names = tuple([name for name in BASES if name in held])
    return names, tuple([(name, end) for name in names if (end := latest(held[name])) is not None])


def _obligations(question: Asked, bases: Iterable[str]) -> Iterator[str]:
    emergency = "emergency" in bases
    if emergency or (question.facts.notices and "patient" not in bases):
        yield "notify-patient"
    if emergency:
        yield "report-to-officer"
    yield "show-basis"


# Bases ---------------------------------------------------------------------------------------------------------------


def basis(name: str, question: Asked) -> Source | str:
    """What a basis other than a consent opens, or why it does not hold (key of ``lacks`` in codes/access.toml)."""
    barred = bar(name, question)
    if barred:
        return barred
    found = _RESTS_ON[name](question)
    held = [(period.end, condition) for period, condition in found if period.holds(question.moment)]
    if not held:
        return "not-now" if found else "none"
    conditions = dict.fromkeys(condition for _, condition in held)
    rules = tuple(Rule(permit=True, condition=condition, max=BASES[name]["max"]) for condition in conditions)
    return Source(name, rules, latest([end for end, _ in held]))


def bar(name: str, question: Asked) -> str:
    """Why a basis cannot hold, whatever is recorded (key of ``lacks`` in codes/access.toml); "": it can."""
    row = BASES[name]
    facts, life = question.facts, row.get("life")
    if row["group"] != question.seat:
        return "role"
    if question.purposes not in row["purposes"]:
        return "purpose"
    if name in question.settings.switched_off:
        return "off"
    if facts.protected and not row["protected"]:
        return "protected"
    if life == "alive" and question.died_on is not None:
        return "died"
    if life == "died" and question.died_on is None:
        return "alive"
    if "age_from" in row and not _is(row["age_from"], question):
        return "young"
    if "age_under" in row and _is(row["age_under"], question):
        return "grown"
    if "silenced_by" in row and getattr(facts, row["silenced_by"]):
        return str(row["silenced_by"])
    return ""


_Found = list[tuple[Period, Condition]]
_ALL = Condition()


def _author(question: Asked) -> _Found:
    return [(Period(), Condition(authors=(question.professional,)))]


def _same_entity(question: Asked) -> _Found:
    here = Condition(authors=(question.organisation,))
    return [
        (e.period, here)
        for e in question.facts.encounters
        if question.organisation and e.organisation == question.organisation
    ]


def _poz(question: Asked) -> _Found:
    return [
        (declaration.period, _ALL)
        for declaration in question.facts.declarations
        if declaration.professional == question.professional
        and (question.group == "assistant" or question.role in DECLARED.get(declaration.kind, ()))
        and declaration.organisation in ("", question.organisation)
    ]


def _emergency(question: Asked) -> _Found:
    return [(e.period, _ALL) for e in question.facts.emergencies if e.professional == question.professional]


def _patient(question: Asked) -> _Found:
    return [(Period(), _ALL)] if question.professional in question.facts.identifiers else []


def _guardian(question: Asked) -> _Found:
    birth, end = question.facts.birth_date, None
    if birth is not None:
        end = datetime.combine(birthday(birth, BASES["guardian"]["age_under"]), time(), question.at.tzinfo)
    return [(Period(p.begin, earliest(p.end, end)), _ALL) for p in _represented(question, "guardian")]


def _authorised(question: Asked) -> _Found:
    return _chosen(question, "authorised")


def _close(question: Asked) -> _Found:
    return _chosen(question, "close")


def _chosen(question: Asked, kind: str) -> _Found:
    """Whom the patient chose; after death for good, whoever was it at some moment of the day of death."""
    periods = _represented(question, kind)
    if question.died_on is None:
        return [(period, _ALL) for period in periods]
    begin = datetime.combine(question.died_on, time(), question.at.tzinfo)
    end = datetime.combine(question.died_on + timedelta(days=1), time(), question.at.tzinfo)
    return [(Period(), _ALL) for p in periods if max(p.begin or begin, begin) < min(p.end or end, end)]


def _represented(question: Asked, kind: str) -> list[Period]:
    known = question.facts.representatives
    return [r.period for r in known if r.kind == kind and r.person == question.professional]


# What each basis other than a consent rests on: periods, with what is opened while they hold.
_RESTS_ON: dict[str, Callable[[Asked], _Found]] = {
    "author": _author,
    "same-entity": _same_entity,
    "poz": _poz,
    "emergency": _emergency,
    "patient": _patient,
    "guardian": _guardian,
    "authorised": _authorised,
    "close": _close,
}
# Which of them a seat has for a group of purposes: no others can hold.
_OF_SEAT = {
    (seat, purposes): tuple(
        name for name in _RESTS_ON if BASES[name]["group"] == seat and purposes in BASES[name]["purposes"]
    )
    for seat in {row["group"] for row in BASES.values()}
    for purposes in {purpose for row in BASES.values() for purpose in row["purposes"]}
}


# Consents and holds --------------------------------------------------------------------------------------------------


def consents(question: Asked) -> tuple[Source, ...]:
    """What each consent in force says to this requester; those that say nothing are left out."""
    opens = not bar("consent", question)
    exempt: tuple[Rule, ...] = ()
    if not question.settings.restriction_binds_author:
        own = [source for name in ("author", "same-entity") if isinstance(source := basis(name, question), Source)]
        exempt = tuple(Rule(permit=None, condition=rule.condition) for source in own for rule in source.rules)
    return tuple(
        Source("consent", (*rules, *exempt), until, consent.id)
        for consent in question.facts.consents
        if consent.period.holds(question.moment)
        for rules, until in _consent(consent, question, opens=opens)
    )


def _consent(consent: Consent, question: Asked, *, opens: bool) -> list[tuple[list[Rule], datetime | None]]:
    """What a consent says, with its end: the rules of one source, of two, or of none."""
    rules: list[Rule] = []
    ends: list[datetime | None] = []
    for provision in consent.provisions:
        if not _fits_requester(provision, question):
            continue
        if not provision.permit:
            rules.append(Rule(permit=False, condition=provision.condition))
            continue
        named = not question.names.isdisjoint(provision.actors or ())
        holds = opens and (named or not question.facts.protected)
        # What may not open anything still takes back what was denied before it.
        rules.append(Rule(holds or None, provision.condition, _highest(provision.condition, named=named)))
        if holds:
            ends.append(earliest(provision.period.end, consent.period.end))
    if not rules:
        return []
    until = latest(ends) if ends else consent.period.end
    if len(rules) > 1 and {True, None} <= {rule.permit for rule in rules}:
        # What takes back denials takes back no permission: so they are told apart.
        opening = [replace(rule, permit=rule.permit or None) for rule in rules if rule.permit is not None]
        return [(opening, until), (rules, until)]
    return [(rules, until)]


def _fits_requester(provision: Provision, question: Asked) -> bool:
    if not provision.period.holds(question.moment):
        return False
    if provision.actors is not None and question.actors.isdisjoint(provision.actors):
        return False
    if provision.roles is not None and not _fits_role(provision, question):
        return False
    # A purpose outside care is opened by its name only.
    if provision.permit and question.purposes == "other" and provision.purposes is None:
        return False
    return provision.purposes is None or question.purpose in provision.purposes


def _fits_role(provision: Provision, question: Asked) -> bool:
    roles = provision.roles or ()
    if question.role in roles:
        return True
    # The profession behind an assistant is not known: no restriction of a profession may be passed by through one.
    return (
        question.group == "assistant" and not provision.permit and any(_ROLES.get(role) == "medical" for role in roles)
    )


def _highest(condition: Condition, *, named: bool) -> str:
    """The highest confidentiality that a permission opens."""
    labels = condition.labels or ()
    if condition.documents is not None or "V" in labels:
        return "V"
    return "R" if named or "R" in labels else "N"


def _held_back(question: Asked) -> tuple[Source, ...]:
    return tuple(
        Source(
            HOLD, (Rule(permit=False, condition=Condition(documents=(hold.document,))),), hold.period.end, hold.reason
        )
        for hold in question.facts.holds
        if hold.period.holds(question.moment)
    )


# Time ----------------------------------------------------------------------------------------------------------------


def birthday(birth: date, age: int) -> date:
    """The day on which somebody is ``age`` years old; 29 February is 1 March in years without it."""
    try:
        return birth.replace(year=birth.year + age)
    except ValueError:
        return date(birth.year + age, 3, 1)


def _is(age: int, question: Asked) -> bool:
    """Whether the patient has this age, or is older; one without a date of birth counts as of age."""
    birth = question.facts.birth_date
    return birth is None or birthday(birth, age) <= question.at.date()


def latest(ends: Sequence[datetime | None]) -> datetime | None:
    """The latest end; None: one of them is open, or there is none."""
    known = [end for end in ends if end is not None]
    return max(known) if known and len(known) == len(ends) else None


def earliest(first: datetime | None, second: datetime | None) -> datetime | None:
    """The earlier of two ends; None: both are open."""
    if first is None or second is None:
        return first or second
    return min(first, second)


def next_change(facts: Facts, at: datetime) -> datetime:
    """Until when the same facts are decided alike: the next midnight, or the begin or end of a period before it."""
    said = (facts.declarations, facts.encounters, facts.representatives, facts.consents, facts.emergencies, facts.holds)
    periods: list[Period] = [each.period for of_a_kind in said for each in of_a_kind]
    periods += [provision.period for consent in facts.consents for provision in consent.provisions]
    moment = at.astimezone(UTC)  # as facts name theirs: times of one zone are compared by themselves
    to_come = [period.begin for period in periods if period.begin is not None and period.begin > moment]
    to_come += [period.end for period in periods if period.end is not None and period.end > moment]
    return min([datetime.combine(at.date() + timedelta(days=1), time(), at.tzinfo), *to_come])

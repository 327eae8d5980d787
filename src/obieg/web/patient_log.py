"""The access log as patients read it: what was done, by whom, where and why, in lines of a day."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any, NamedTuple

from obieg.codes.load import toml
from obieg.domain import grounds
from obieg.domain.access import TOLD
from obieg.domain.zone import WARSAW
from obieg.web.patient_records import Document, first, moment, resources, values

_TABLE = toml("patient_portal.toml")
_ACT_OF = {transaction: act for act, listed in _TABLE["acts"].items() for transaction in listed}
_PURPOSES = frozenset(_TABLE["purposes"]["named"])
_PURPOSE = "http://terminology.hl7.org/CodeSystem/v3-ActReason"
_AGENT = "urn:obieg:agent"
_UNNAMED = "name withheld"  # how the log begins to say that it does not say a name
_LINK = "shared"  # the act of whoever has a link of the patient: of them nothing is known but what they say
_NO_LOOK = frozenset(
    ("sharing", "own", "messages", "added", "changed", "registered", "account", "consents", "emergency_end")
)
FILTERS = ("others", "staff", "emergency", "relatives", "refused", "me", "all")


class Line(NamedTuple):
    """What one person did on one day in one way, the newest time first."""

    entry: str  # number of the newest record
    entries: tuple[str, ...]
    act: str
    first: datetime
    last: datetime
    who: str  # "": withheld
    who_id: str  # system|value
    acting_for: str  # in whose name; "": in their own
    me: bool
    system: bool  # no person
    relative: bool  # somebody who acts for the patient
    role: str
    facility: str
    facility_id: str  # system|value
    purpose: str
    other_purpose: str  # a code without words
    bases: tuple[str, ...]
    refused: bool
    documents: tuple[str, ...]  # uniqueIds

    @property
    def emergency(self) -> bool:
        """Whether it rests on break-glass."""
        return "emergency" in self.bases or self.act in ("emergency", "emergency_end")

    @property
    def state(self) -> str:
        """How it stands on the thread."""
        return "warn" if self.emergency else "bad" if self.refused else "done"

    @property
    def look(self) -> bool:
        """Whether somebody else saw something."""
        return not (self.me or self.system or self.refused) and self.act not in _NO_LOOK

    @property
    def link(self) -> bool:
        """Whether it was somebody with a link, who may call themselves anything."""
        return self.act == _LINK

    @property
    def told_bases(self) -> tuple[str, ...]:
        """Without that of authors, which everybody has, where there is another."""
        return told_bases(self.bases)

    @property
    def times(self) -> int:
        """How often."""
        return len(self.entries)


def told_bases(bases: tuple[str, ...]) -> tuple[str, ...]:
    """Without that of authors, which rests on nothing, where there is another."""
    return tuple(b for b in bases if b != "author") or bases


def named(lines: Iterable[Line], found: Iterable[Document]) -> list[Line]:
    """Facilities that the directory does not know are called as the documents call them."""
    names = {d.facility_id: d.facility for d in found if d.facility_id}
    return [line if line.facility else line._replace(facility=names.get(line.facility_id, "")) for line in lines]


def read_log(bundle: Mapping[str, Any], me: str) -> list[Line]:
    """Lines of a page of the log; ``me`` is who is logged in, as root#extension."""
    lines: dict[Any, Line] = {}
    for event in resources(bundle):
        line = _line(event, me)
        key = (
            line.last.astimezone(WARSAW).date(), line.act, line.who, line.acting_for, line.facility, line.purpose,
            line.other_purpose, line.bases, line.refused,
        )  # fmt: skip
        if (known := lines.get(key)) is None:
            lines[key] = line
        else:
            lines[key] = known._replace(
                entries=(*known.entries, *line.entries),
                first=min(known.first, line.first),
                documents=tuple(dict.fromkeys((*known.documents, *line.documents))),
            )
    return list(lines.values())


def _line(event: Mapping[str, Any], me: str) -> Line:
    agents = event.get("agent", ())
    asking = first(a for a in agents if a.get("requestor"))
    who = asking.get("who", {})
    role = next((c.get("code", "") for r in asking.get("role", ()) for c in r.get("coding", ())), "")
    shown = str(who.get("display", ""))
    withheld = shown.startswith(_UNNAMED)
    others = [(a["who"], _is_acting_for(a)) for a in agents if not a.get("requestor") and a["who"].get("display")]
    place = first(other for other, acting_for in others if not acting_for)
    why = [c for concept in event.get("purposeOfEvent", ()) for c in concept.get("coding", ())]
    purpose = next((c["code"] for c in why if c.get("system") == _PURPOSE), "")
    at = datetime.fromisoformat(event["recorded"])
    act = _ACT_OF.get(first(event.get("subtype", ())).get("code", ""), "other")
    system = not role and not withheld and act != _LINK
    return Line(
        entry=event["id"],
        entries=(event["id"],),
        act=act,
        first=at,
        last=at,
        who="" if withheld else shown,
        who_id=_token(who.get("identifier", {})),
        acting_for=next((other["display"] for other, acting_for in others if acting_for), ""),
        me=_name(who.get("identifier", {})) == me,
        system=system,
        relative=role == "patient",
        role=role,
        facility="" if "#" in place.get("display", "") else place.get("display", ""),
        facility_id=_token(place.get("identifier", {})),
        purpose=purpose if purpose in _PURPOSES else "",
        other_purpose="" if purpose in _PURPOSES else purpose,
        bases=tuple(c["code"] for c in why if c.get("system") == grounds.SYSTEM and c.get("code") in TOLD),
        refused=event.get("outcome", "0") != "0",
        documents=tuple(
            e["what"]["identifier"]["value"] for e in event.get("entity", ()) if "identifier" in e.get("what", {})
        ),
    )


def _is_acting_for(agent: Mapping[str, Any]) -> bool:
    return any(c.get("system") == _AGENT for c in agent.get("type", {}).get("coding", ()))


def _name(identifier: Mapping[str, Any]) -> str:
    system = identifier.get("system", "").removeprefix("urn:oid:")
    return f"{system}#{identifier.get('value', '')}" if system else identifier.get("value", "")


def _token(identifier: Mapping[str, Any]) -> str:
    return f"{identifier.get('system', '')}|{identifier['value']}" if identifier.get("system") else ""


def chosen(lines: Iterable[Line], wanted: str) -> list[Line]:
    """The lines that a filter of :data:`FILTERS` lets through."""
    tests: dict[str, Callable[[Line], bool]] = {
        "others": lambda line: not line.me,
        "staff": lambda line: not (line.me or line.system or line.relative or line.link),
        "emergency": lambda line: line.emergency,
        "relatives": lambda line: line.relative and not line.me,
        "refused": lambda line: line.refused and not line.me,
        "me": lambda line: line.me,
        "all": lambda _line: True,
    }
    return [line for line in lines if tests[wanted](line)]


class Reviewed(NamedTuple):
    """What the officer says of an entry."""

    kind: str
    entry: str
    professional: str
    organisation: str
    opened: datetime | None
    decided: datetime | None
    justified: bool


def read_reviews(parameters: Mapping[str, Any]) -> list[Reviewed]:
    """Of the answer of ``$access-reviews``."""
    found = []
    for given in parameters.get("parameter", ()):
        part = values(given["part"])
        found.append(
            Reviewed(
                part["kind"],
                part.get("entry", ""),
                part.get("professional", ""),
                part.get("organisation", ""),
                moment(part.get("opened", "")),
                moment(part.get("decided", "")),
                part.get("justified") is True,
            )
        )
    return found


class Notice(NamedTuple):
    """What the patient was told."""

    id: str
    kind: str  # emergency, access, document
    who: str
    acting_for: str
    place: str
    place_number: str  # of one whose name nobody knows
    bases: tuple[str, ...]
    reason: str
    document: str
    times: int
    last: datetime | None
    read: bool

    @property
    def told_bases(self) -> tuple[str, ...]:
        """As of a line of the log."""
        return told_bases(self.bases)


def read_notices(parameters: Mapping[str, Any]) -> list[Notice]:
    """Of the answer of ``$notices``."""
    found = []
    for given in parameters.get("parameter", ()):
        part = values(given["part"])
        place = part.get("place", "")
        found.append(
            Notice(
                part["id"],
                part["kind"],
                part.get("who", ""),
                part.get("actingFor", ""),
                "" if "#" in place else place,
                place.rpartition("#")[2] if "#" in place else "",
                tuple(b for b in part.get("bases", "").split(",") if b in TOLD),
                part.get("reason", ""),
                part.get("document", "").removeprefix("urn:uuid:"),
                part.get("times", 1),
                moment(part.get("last", "")),
                part.get("read") is True,
            )
        )
    return found


def days(lines: Sequence[Line]) -> list[tuple[datetime, list[Line]]]:
    """Lines by the day of Warsaw, the newest first."""
    found: dict[Any, list[Line]] = {}
    for line in sorted(lines, key=lambda each: each.last, reverse=True):
        found.setdefault(line.last.astimezone(WARSAW).date(), []).append(line)
    return [(several[0].last, several) for several in found.values()]

"""The dimensions of the decision matrix: who asks, in which relation, with which consents, about which documents."""

from __future__ import annotations

from datetime import date, datetime, timedelta
from zoneinfo import ZoneInfo

from obieg.domain.access import (
    Condition,
    Consent,
    Declaration,
    DocumentFacts,
    Emergency,
    Encounter,
    Facts,
    Hold,
    Period,
    Provision,
    Representative,
)
from obieg.domain.requester import Requester

NOW = datetime(2026, 3, 10, 0, 30, tzinfo=ZoneInfo("Europe/Warsaw"))  # in UTC it is still the day before
DAY = timedelta(days=1)
ALWAYS = Period()
RUNNING, ENDED, LATER = Period(NOW - DAY, NOW + DAY), Period(NOW - 9 * DAY, NOW), Period(NOW + DAY / 100)

PROFESSIONAL, ASSISTANT, COLLEAGUE = "2.999.2#professional", "2.999.2#assistant", "2.999.2#colleague"
HERE, UNIT, ELSEWHERE = "2.999.3#here", "2.999.3#unit", "2.999.3#elsewhere"
PERSON, SOMEBODY = "2.999.1#person", "2.999.1#somebody"  # a person who asks; a patient who is somebody else

MEDICAL = (
    "medical-doctor", "dentist", "feldsher", "nurse", "midwife", "paramedic", "pharmacist", "physiotherapist",
    "laboratory-diagnostician", "school-hygienist", "medical-professional",
)  # fmt: skip
ROLES = (
    *MEDICAL, "medical-assistant", "assistant of nobody", "administrative-employee", "patient", "operator",
    "privacy-officer", "patient-counter", "researcher", "",
)  # fmt: skip
PURPOSES = (
    "", "TREAT", "CAREMGT", "COC", "ETREAT", "BTG", "PATRQT", "FAMRQT", "PWATRNY", "HRESCH", "CLINTRCH", "HPAYMT", "unknown",
)  # fmt: skip


def requester(role: str, purpose: str, **more) -> Requester:
    """Somebody in a role (``assistant of nobody``: an assistant without a professional; "": a system without a person)."""
    code = "medical-assistant" if role == "assistant of nobody" else role
    person = {"medical-assistant": ASSISTANT, "patient": PERSON, "": ""}.get(code, PROFESSIONAL)
    acting_for = {"medical-assistant": PROFESSIONAL, "patient-counter": PERSON}.get(role, "")
    logged_in = {"proof": "session"} if role in ("operator", "privacy-officer", "patient-counter") else {}
    place = {} if role == "patient" else {"organisation": HERE, "child_organisation": UNIT}
    return Requester(
        **{
            "system": "s",
            "person": person,
            "role": code,
            "acting_for": acting_for,
            "purpose_of_use": purpose,
            **logged_in,
            **place,
            **more,
        }
    )


def _declared(kind: str, organisation: str = "", period: Period = RUNNING) -> dict[str, object]:
    return {"declarations": (Declaration(PROFESSIONAL, kind, organisation, period),)}


def _represented(kind: str, period: Period = ALWAYS) -> dict[str, object]:
    return {"representatives": (Representative(PERSON, kind, period),)}


RELATIONS: dict[str, dict[str, object]] = {
    "stranger": {},
    "care here": {"encounters": (Encounter(HERE, RUNNING), Encounter(ELSEWHERE, Period(NOW - DAY, NOW + 9 * DAY)))},
    "care elsewhere": {"encounters": (Encounter(ELSEWHERE, RUNNING), Encounter(HERE, ENDED), Encounter(HERE, LATER))},
    "chosen doctor": _declared("doctor", period=Period(NOW)),
    "chosen nurse": _declared("nurse", HERE),
    "chosen midwife": _declared("midwife", HERE),
    "chosen doctor elsewhere": _declared("doctor", ELSEWHERE),
    "chosen doctor once": _declared("doctor", period=ENDED),
    "self": {"identifiers": (SOMEBODY, PERSON)},
    "guardian": _represented("guardian"),
    "guardian for a time": _represented("guardian", RUNNING),
    "authorised": _represented("authorised", Period(NOW - 99 * DAY, NOW + DAY)),
    "authorised until death": _represented("authorised", Period(NOW - 99 * DAY, NOW - 2 * DAY)),
    "authorised since": _represented("authorised", RUNNING),
    "informed": _represented("informed"),
    "close": _represented("close"),
    "close once": _represented("close", Period(NOW - 99 * DAY, NOW - 50 * DAY)),
}
LIVES: dict[str, dict[str, object]] = {
    "15": {"birth_date": date(2010, 3, 11)},
    "16": {"birth_date": date(2010, 3, 10)},
    "17": {"birth_date": date(2008, 3, 11)},
    "18": {"birth_date": date(2008, 3, 10)},
    "40": {"birth_date": date(1985, 7, 1)},
    "unknown age": {},
    "died": {"birth_date": date(1985, 7, 1), "died_on": date(2026, 3, 5)},
    "died today": {"birth_date": date(2010, 2, 1), "died_on": date(2026, 3, 10)},
}
EMERGENCIES: dict[str, dict[str, object]] = {
    "none": {},
    "session": {"emergencies": (Emergency(PROFESSIONAL, HERE, Period(NOW, NOW + DAY / 24)),)},
    "session over": {"emergencies": (Emergency(PROFESSIONAL, HERE, ENDED), Emergency(COLLEAGUE, HERE, RUNNING))},
}
SPECIAL: dict[str, dict[str, object]] = {
    "nothing": {},
    "protected": {"protected": True},
    "objection": {"objection": True},
    "notices": {"notices": True},
    "hold": {"holds": (Hold("lineage-old", "danger", RUNNING), Hold("A-R-here", "danger", Period(NOW)))},
    "hold over": {"holds": (Hold("lineage-old", "danger", ENDED), Hold("not there", "danger", RUNNING))},
    "protected and hold": {"protected": True, "holds": (Hold("A-N-here", "danger", Period()),)},
}


def consent(name: str, *provisions: Provision, period: Period = RUNNING) -> Consent:
    return Consent(id=name, period=period, provisions=provisions)


def _opens(**asked) -> Provision:
    what = {k: asked.pop(k) for k in tuple(asked) if k in Condition.__struct_fields__}
    return Provision(permit=True, condition=Condition(**what), **asked)


def _hides(**asked) -> Provision:
    what = {k: asked.pop(k) for k in tuple(asked) if k in Condition.__struct_fields__}
    return Provision(permit=False, condition=Condition(**what), **asked)


_EACH: dict[str, tuple[Consent, ...]] = {
    "no word": (),
    "all": (consent("all", _opens(), period=Period(NOW - DAY)),),
    "all, over": (consent("over", _opens(), _hides(class_codes=("B",)), period=ENDED),),
    "facility": (consent("facility", _opens(actors=(HERE, COLLEAGUE), period=Period(None, NOW + DAY / 2))),),
    "person": (consent("person", _opens(actors=(PROFESSIONAL, ELSEWHERE))),),
    "unit, class": (consent("unit", _opens(actors=(UNIT,), class_codes=("A",))),),
    "document": (consent("document", _opens(actors=(HERE,), documents=("A-V-elsewhere", "lineage-old"))),),
    "document of a class": (consent("both", _opens(documents=("lineage-new",), class_codes=("B",))),),
    "label R": (consent("R", _opens(labels=("R",))),),
    "label V": (consent("V", _opens(labels=("V", "N"), roles=("medical-doctor", "pharmacist", "medical-assistant"))),),
    "label N": (consent("N", _opens(labels=("N",))),),
    "author": (consent("author", _opens(authors=(ELSEWHERE,))),),
    "period": (consent("period", _opens(created_from="20250101000000", created_to="20260101000000")),),
    "not early": (consent("early", _hides(created_to="20250701000000")),),
    "purpose": (consent("purpose", _opens(purposes=("COC", "ETREAT"))),),
    "research": (consent("research", _opens(purposes=("HRESCH", "HPAYMT"), actors=(PROFESSIONAL,))),),
    "research, nobody named": (consent("nobody", _opens(purposes=("HRESCH",)), _opens(actors=(HERE,))),),
    "research at a facility": (consent("site", _hides(class_codes=("B",)), _opens(purposes=("HRESCH",), actors=(HERE,))),),
    "nothing": (consent("nothing", _hides()),),
    "not class": (consent("not class", _hides(class_codes=("A",))),),
    "not label": (consent("not label", _hides(labels=("PSY",))),),
    "not N": (consent("not N", _hides(labels=("N",))),),
    "not lineage": (consent("not lineage", _hides(documents=("lineage-new",))),),
    "not facility": (consent("not facility", _hides(actors=(HERE,))),),
    "not unit": (consent("not unit", _hides(actors=(UNIT,), authors=(ELSEWHERE,))),),
    "not person": (consent("not person", _hides(actors=(PROFESSIONAL,), type_codes=("t1",))),),
    "not doctors": (consent("not doctors", _hides(roles=("medical-doctor", "nurse"))),),
    "not for treatment": (consent("not for treatment", _hides(purposes=("TREAT",))),),
    "not another": (consent("not another", _hides(actors=(COLLEAGUE, ELSEWHERE))),),
    "not yet": (consent("not yet", _hides(period=LATER)),),
    "not visit": (consent("not visit", _hides(encounters=("2.999.4#visit",), practice_setting_codes=("s1",))),),
    "all but class": (consent("all but class", _opens(actors=(PROFESSIONAL,)), _hides(class_codes=("B",))),),
    "nothing but class": (consent("but class", _hides(), _opens(actors=(HERE,), class_codes=("B",))),),
    "nothing but document": (
        consent("but document", _hides(labels=("R", "V", "N")), _opens(documents=("lineage-old", "A-V-here"))),
    ),
    "to and fro": (
        consent(
            "to and fro", _opens(labels=("V",)), _hides(authors=(HERE,)), _opens(class_codes=("A",)),
            _hides(roles=("nurse",), class_codes=("A",)), _opens(purposes=("ETREAT",), actors=(PROFESSIONAL,)),
        ),
    ),
    "two that differ": (
        consent("yes", _opens(actors=(PROFESSIONAL,))), consent("no", _hides(class_codes=("B",)), period=Period(NOW)),
    ),
    "two that add up": (
        consent("one", _opens(class_codes=("A",)), period=Period(NOW, NOW + 3 * DAY)),
        consent("two", _hides(class_codes=("B",)), _opens(class_codes=("B",), labels=("R",))),
    ),
}  # fmt: skip
CONSENTS: dict[str, dict[str, object]] = {name: {"consents": consents} for name, consents in _EACH.items()}


def facts(*parts: dict[str, object]) -> Facts:
    """A patient, of whom each part says something."""
    return Facts(**{"identifiers": (SOMEBODY,), **{k: v for part in parts for k, v in part.items()}})


def _document(name: str, kind: str, labels: tuple[str, ...], *authors: str, lineage: str = "", **more) -> DocumentFacts:
    return DocumentFacts(
        entry_uuid=name, lineage=lineage or f"of {name}", class_code=kind, labels=labels, authors=authors,
        **{"type_code": "t1", "practice_setting_code": "s1", "creation_time": "20260201080000", **more},
    )  # fmt: skip


# Confidentiality x class x author, and documents that are one another's versions or special in another way.
DOCUMENTS = (
    *(
        _document(f"{kind}-{label}-{name}", kind, (label,), *authors)
        for kind in ("A", "B")
        for label in ("N", "R", "V")
        for name, authors in {
            "mine": (ELSEWHERE, PROFESSIONAL),
            "here": (HERE, COLLEAGUE),
            "elsewhere": (ELSEWHERE, COLLEAGUE),
        }.items()
    ),
    _document("lineage-old", "B", ("N",), ELSEWHERE, lineage="L", creation_time="20250630235959"),
    _document("lineage-new", "A", ("R", "PSY"), HERE, PROFESSIONAL, lineage="L", type_code="t2"),
    _document(
        "unlabelled", "A", ("PSY", "L"), ELSEWHERE, encounters=("2.999.4#visit",), creation_time="20250101000000"
    ),
    _document("every label", "B", ("N", "V", "R"), HERE, ASSISTANT, practice_setting_code="s2", creation_time=""),
)

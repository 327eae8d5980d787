"""``obieg access …``: who may see what, who saw it, and what officers decide."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Annotated, Any

import typer
from msgspec import structs

from obieg.actors.access_control import Explained
from obieg.codes.load import toml
from obieg.domain.access import Act, Permit
from obieg.domain.access_explained import LANGUAGES, may, obtainable, render
from obieg.domain.operating import Operator
from obieg.domain.requester import Requester
from obieg.domain.watching import SIGNALS
from obieg.ops import commands_access_log, commands_access_reviews
from obieg.ops.accounts import os_user
from obieg.ops.failure import Failure
from obieg.ops.index_access import Access, asked
from obieg.ops.operating import operated, operating
from obieg.ops.options import AsJson, By, NodeFile, OptionalSettingsFile
from obieg.ops.showing import local, print_json
from obieg.ops.wiring import access_control

MAY_NOT = 5  # exit code
_TABLE = toml("access.toml")
_ROOTS = toml("national/pl/pik.toml")["roots"]
_ROLES = tuple(role for roles in _TABLE["roles"].values() for role in roles)
_LICENCES = {  # by how a licence to practise is written
    re.compile(r"[0-9]{7}"): _ROOTS["npwz_physician"],
    re.compile(r"[0-9]{7}[AP]"): _ROOTS["npwz_nurse"],
}

_Who = Annotated[
    str, typer.Option("--who", metavar="ID", help="Who asks: NPWZ, PESEL, number@authority or root#extension.")
]
_Patient = Annotated[
    str, typer.Option("--patient", metavar="ID", help="PESEL, number@authority, 'number^^^&OID&ISO' or patient id.")
]
_Documents = Annotated[
    list[str] | None, typer.Option("--document", metavar="ID", help="entryUUID or uniqueId; may be repeated.")
]


def register(app: typer.Typer) -> None:
    """Adds the commands."""
    access = typer.Typer(help="Who may see what, who saw it, and what officers decide.", no_args_is_help=True)
    access.command("explain")(explain)
    access.command("watch")(watch)
    commands_access_reviews.add(access)
    commands_access_log.add(access)
    app.add_typer(access, name="access")


def explain(
    who: _Who,
    patient: _Patient,
    documents: _Documents = None,
    role: Annotated[str, typer.Option(metavar="ROLE", help="In which role they ask.")] = "medical-doctor",
    organisation: Annotated[
        str, typer.Option(metavar="ID", help="For which organisation: root#extension or number@authority.")
    ] = "",
    purpose: Annotated[
        str,
        typer.Option(metavar="CODE", help="PurposeOfUse, such as TREAT or BTG; the usual of the role if not given."),
    ] = "",
    acting_for: Annotated[
        str,
        typer.Option(
            metavar="ID",
            help="The professional for whom an assistant asks, who stands at the counter; written as --who.",
        ),
    ] = "",
    act: Annotated[Act, typer.Option(help="What they want to do.")] = Act.READ,
    language: Annotated[str, typer.Option(metavar="|".join(LANGUAGES), help="Of the answer.")] = "pl",
    node: NodeFile = None,
    settings: OptionalSettingsFile = None,
    by: By = "",
    *,
    as_json: AsJson = False,
) -> None:
    """Say whether somebody may see a patient's documents, why, and what would change it.

    The answer is what the node would decide now. The look-up stands in the audit. Exit code 5: they may not, or may not
    see all documents that are named.
    """
    if role not in _ROLES:
        raise typer.BadParameter(f"is one of {', '.join(_ROLES)}", param_hint="--role")
    if language not in LANGUAGES:
        raise typer.BadParameter(f"is one of {', '.join(LANGUAGES)}", param_hint="--language")
    named = documents or []

    async def ask(access: Access) -> tuple[Explained, bool]:
        requester = Requester(
            system="",
            proof="session",  # what is only for those who have logged in at the node is asked, too
            person=_person(access, who, "--who"),
            role=role,
            organisation=_named(access, organisation, "--organisation") if organisation else "",
            purpose_of_use=purpose,
            acting_for=_person(access, acting_for, "--acting-for") if acting_for else "",
        )
        whose = access.identifier(patient)
        control = access_control(access.settings, access.database, enforced=False)
        actors = operating(access.settings, access.database, access.audit, control)
        found = await actors.oversight.explain(requester, whose, named, Operator(by or os_user()), act)
        return found, access.settings.access_enforced

    found, enforced = asked(node, settings, ask)
    if found.missing:
        raise Failure(
            f"{', '.join(found.missing)}: the patient has no such document.",
            "Nothing can be said of a document that is not there, or is somebody else's.",
            "Give entryUUIDs or uniqueIds of this patient's documents.",
        )
    explanation = found.explanation
    allowed = may(explanation.decision) and all(trace.shown for trace in explanation.documents)
    lines = render(explanation, language)
    if not enforced:
        lines.append(_TABLE["texts"][language]["unenforced"])
    if as_json:
        print_json(_data(found, lines, allowed=allowed, enforced=enforced))
    else:
        typer.echo("\n".join(lines))
    if not allowed:
        raise typer.Exit(MAY_NOT)


def watch(
    node: NodeFile = None,
    settings: OptionalSettingsFile = None,
    hours: Annotated[float, typer.Option(help="How far back, hour by hour.", min=1, max=24 * 31)] = 24,
    language: Annotated[str, typer.Option(metavar="|".join(LANGUAGES), help="Of the answer.")] = "pl",
    by: By = "",
    *,
    as_json: AsJson = False,
) -> None:
    """List whose look-ups were unusual, the highest score first, for the data-protection officer to follow up.

    Counted by the hour: many patients, identifiers that do not exist, patients to whom no basis of access followed,
    patients of the same surname. The look-up itself stands in the audit.
    """
    if language not in LANGUAGES:
        raise typer.BadParameter(f"is one of {', '.join(LANGUAGES)}", param_hint="--language")

    found = operated(node, settings, lambda actors, who: actors.oversight.unusual(hours, who), by)
    if as_json:
        print_json([{"score": each.score, "signals": each.signals, **structs.asdict(each.counted)} for each in found])
        return
    for each in found:
        one = each.counted
        typer.echo(f"{each.score:6.2f}  {local(one.first)} - {local(one.last)}  {one.person}  {one.name}".rstrip())
        for signal in each.signals:
            typer.echo(f"        {one.counts[signal]}  {SIGNALS[signal][language]}")


def _person(access: Access, text: str, option: str) -> str:
    for licence, root in _LICENCES.items():
        if licence.fullmatch(text):
            return f"{root}#{text}"
    if text.isascii() and text.isdigit() and len(text) == 11:  # PESEL
        return access.identifier(text).identifier
    return _named(access, text, option)


def _named(access: Access, text: str, option: str) -> str:
    """An identifier that says whose it is."""
    if re.fullmatch(r"[0-2](\.\d+)+#.+", text):
        return text
    if "@" in text:
        return access.identifier(text).identifier
    raise typer.BadParameter("must say who gave the number out: root#extension or number@authority", param_hint=option)


def _data(found: Explained, lines: Sequence[str], *, allowed: bool, enforced: bool) -> dict[str, Any]:
    explanation = found.explanation
    decision = explanation.decision
    permit = decision if isinstance(decision, Permit) else None
    return {
        "may": allowed,
        "permitted": permit is not None,
        "reason": explanation.reason or None,
        "grounds": permit.bases if permit else (),
        "ends": dict(permit.ends) if permit else {},
        "everything": permit is not None and permit.filter is None,
        "bases": explanation.bases,
        "restrictions": [
            {"basis": each.basis, "reference": each.reference, "until": each.until} for each in explanation.restrictions
        ],
        "documents": explanation.documents,
        "obtainable": [trace.basis for trace in obtainable(explanation)],
        "purposes": explanation.purposes,
        "enforced": enforced,
        "text": lines,
    }

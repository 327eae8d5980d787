"""``obieg access reviews …``: what the data-protection officer has to look at afterwards.

It is emergency access, entries of their access logs that patients report, and prints without a code.
"""

from __future__ import annotations

from typing import Annotated

import typer
from rich.console import Console
from rich.text import Text

from obieg.domain.obligations import HANDOUT, REASONS, Review
from obieg.domain.reasons import is_reason, wanted
from obieg.ops.operating import operated
from obieg.ops.options import ROWS_MAX, AsJson, By, NodeFile, OptionalSettingsFile
from obieg.ops.showing import local, print_json


def add(access: typer.Typer) -> None:
    """Adds the commands."""
    reviews = typer.Typer(
        help="What the data-protection officer has to look at afterwards.",
        no_args_is_help=True,
    )
    reviews.command("list")(list_)
    reviews.command()(decide)
    access.add_typer(reviews, name="reviews")


def list_(
    node: NodeFile = None,
    settings: OptionalSettingsFile = None,
    count: Annotated[int, typer.Option("-n", help="How many lines.", min=1, max=ROWS_MAX)] = 20,
    *,
    everything: Annotated[bool, typer.Option("--all", help="Also those that were decided.")] = False,
    as_json: AsJson = False,
) -> None:
    """Say who had access to whom, why, what they did with it or what is reported; the oldest first. Times of Warsaw."""
    reviews, waiting, total = operated(
        node, settings, lambda actors, _: actors.oversight.reviews(count, everything=everything)
    )
    if as_json:
        print_json(reviews)
        return
    console = Console(highlight=False, soft_wrap=True)
    if not reviews:
        console.print("There is nothing to review." if not total else f"All of {total} are decided.")
    for review in reviews:
        for line in _lines(review):
            console.print(Text(line))
    if (more := (total if everything else waiting) - len(reviews)) > 0:
        console.print(f"\n{more} more; -n {min(len(reviews) + more, ROWS_MAX)} lists them.")


def _lines(review: Review) -> list[str]:
    if review.kind == "reported":
        return _reported(review)
    if review.kind == HANDOUT:
        return _handed_out(review)
    reason = REASONS[review.reason]["en"] if review.reason in REASONS else "opened elsewhere"
    ended = f", ended {local(review.ended_at)}" if review.ended_at else f", until {local(review.until)}"
    renewed = f", renewed {_number(review.renewals, 'time')}" if review.renewals else ""
    last = f", the last {local(review.last_read_at)}" if review.last_read_at else ""
    who = f"{review.professional_name or review.professional} ({review.professional}, {review.organisation})"
    lines = [
        f"\n{review.review_id}  {who} to patient {review.patient}",
        f"    {local(review.opened_at)}{ended}{renewed}; {_number(review.reads, 'request')}{last}",
        *(f"    {line}" for line in (f"{reason}: {review.explanation}".splitlines())),
    ]
    return [*lines, *_decision(review)]


def _number(count: int, what: str) -> str:
    return f"{count} {what}{'' if count == 1 else 's'}"


def _reported(review: Review) -> list[str]:
    """An entry of the access log that the patient disputes."""
    who = f"{review.professional_name or review.professional} ({review.professional}, {review.organisation})"
    return [
        f"\n{review.review_id}  {who} looked at patient {review.patient}",
        f"    {local(review.opened_at)}, reported by {review.reported_by}",
        *(f"    {line}" for line in review.explanation.splitlines()),
        *_decision(review),
    ]


def _handed_out(review: Review) -> list[str]:
    """A print at the counter for which no code was told."""
    who = f"{review.professional_name or review.professional} ({review.professional}, {review.organisation})"
    return [
        f"\n{review.review_id}  {who} handed out a print about patient {review.patient}",
        f"    {local(review.opened_at)}, to {review.explanation}, without a code: {review.reason}",
        *_decision(review),
    ]


def _decision(review: Review) -> list[str]:
    if not review.decided_at:
        return []
    verdict = "justified" if review.justified else "NOT justified"
    return [f"    {verdict}, decided by {review.decided_by} {local(review.decided_at)}: {review.note}"]


def decide(
    number: Annotated[int, typer.Argument(metavar="NUMBER", help="As obieg access reviews list prints it.")],
    note: Annotated[str, typer.Option("--note", help="Why; it stays with the line.")],
    node: NodeFile = None,
    settings: OptionalSettingsFile = None,
    by: By = "",
    *,
    justified: Annotated[bool, typer.Option("--justified/--not-justified", help="What was found.")],
) -> None:
    """Close a line of the worklist. What was decided is not decided again."""
    if not is_reason(note):
        raise typer.BadParameter(wanted(), param_hint="--note")
    operated(
        node,
        settings,
        lambda actors, who: actors.oversight.decide(number, who, justified=justified, note=note),
        by,
    )
    typer.echo(f"{number}: {'justified' if justified else 'not justified'}")

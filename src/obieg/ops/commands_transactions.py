"""``obieg explain``: what a transaction is, from the one place that says so."""

from __future__ import annotations

import difflib
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from obieg.ops.failure import Failure
from obieg.protocol import Binding, MllpBinding, SoapBinding, Transaction
from obieg.transactions import TRANSACTIONS


def register(app: typer.Typer) -> None:
    """Adds the commands."""
    app.command()(explain)


def explain(
    transaction: Annotated[str, typer.Argument(help="For example ITI-43; without it, all are listed.")] = "",
) -> None:
    """Print a transaction's actors, bindings, specification and fixtures."""
    known = {candidate.id.casefold(): candidate for candidate in TRANSACTIONS}
    console = Console(highlight=False, soft_wrap=True)
    if not transaction:
        table = Table("transaction", "name", "from", "to", box=None)
        for each in TRANSACTIONS:
            table.add_row(each.id, each.name, each.initiator, each.responder)
        console.print(table)
        return
    found = known.get(transaction.casefold())
    if found is None:
        near = difflib.get_close_matches(transaction.casefold(), known, n=3, cutoff=0.4)
        raise Failure(
            f"This release has no transaction {transaction}.",
            "It answers only those that stand in obieg.transactions.",
            f"Did you mean {', '.join(known[name].id for name in near)}?"
            if near
            else "obieg explain lists all of them.",
        )
    console.print(f"[bold]{found.id}[/] {found.name}")
    for name, value in _facts(found):
        console.print(f"  {name:14} {value}", markup=False)


def _facts(transaction: Transaction) -> list[tuple[str, str]]:
    return [
        ("actors", f"{transaction.initiator} → {transaction.responder}"),
        *(("binding", line) for line in _binding(transaction.binding)),
        ("permission", transaction.permission),
        ("specification", transaction.spec),
        ("fixtures", f"tests/transactions/{transaction.id.replace('-', '').lower()}/"),
    ]


def _binding(binding: Binding) -> list[str]:
    match binding:
        case SoapBinding():
            return [
                f"SOAP 1.2{' with MTOM' if binding.mtom else ''} at /services/{binding.endpoint} ({binding.port_type})",
                f"action   {binding.action}",
                f"response {binding.response_action}",
                f"{binding.request[1]} → {binding.response[1]} ({binding.request[0]})",
            ]
        case MllpBinding():
            return [f"HL7 v2 over MLLP: {binding.message_type}^{', '.join(binding.events)}"]

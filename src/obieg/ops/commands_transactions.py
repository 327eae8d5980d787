"""``obieg explain``: what a transaction is, from the one place that says so."""

from __future__ import annotations

import difflib
from itertools import chain
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from obieg.ops.failure import Failure
from obieg.protocol import (
    Binding,
    FhirBinding,
    LinkBinding,
    MllpBinding,
    Notification,
    SoapBinding,
    SoapOperation,
    Transaction,
    WadoBinding,
)
from obieg.transactions import NOTIFICATIONS, TRANSACTIONS
from obieg.wire.fhir_elements import RESOURCE_TYPES


def register(app: typer.Typer) -> None:
    """Adds the commands."""
    app.command()(explain)


def explain(
    transaction: Annotated[str, typer.Argument(help="For example ITI-43; without it, all are listed.")] = "",
) -> None:
    """Print a transaction's actors, bindings, specification and fixtures."""
    known: dict[str, list[Transaction | Notification]] = {n.id.casefold(): [n] for n in NOTIFICATIONS}
    known |= {t.id.casefold(): [each for each in TRANSACTIONS if each.id == t.id] for t in TRANSACTIONS}
    console = Console(highlight=False, soft_wrap=True)
    if not transaction:
        table = Table("transaction", "name", "from", "to", box=None)
        for each in sorted(chain.from_iterable(known.values()), key=lambda one: _place(one.id)):
            table.add_row(each.id, each.name, each.initiator, each.responder)
        console.print(table)
        return
    found = known.get(transaction.casefold())
    if found is None:
        near = difflib.get_close_matches(transaction.casefold(), known, n=3, cutoff=0.4)
        raise Failure(
            f"This release has no transaction {transaction}.",
            "It answers and sends only those that stand in obieg.transactions.",
            f"Did you mean {', '.join(known[name][0].id for name in near)}?"
            if near
            else "obieg explain lists all of them.",
        )
    console.print(f"[bold]{found[0].id}[/] {found[0].name}")
    for number, each in enumerate(found):
        if number:
            console.print()
        for name, value in _facts(each):
            console.print(f"  {name:14} {value}", markup=False)


def _place(transaction: str) -> tuple[str, int]:
    """Transactions of a profile by their number; a guide that numbers none has one."""
    profile, _, number = transaction.partition("-")
    return profile, int(number or 0)


def _facts(transaction: Transaction | Notification) -> list[tuple[str, str]]:
    if isinstance(transaction, Notification):
        to = "to subscriptions (ITI-110)" if isinstance(transaction.binding, FhirBinding) else "to [[subscribers]]"
        said, permission = [("sent", f"by this node, from its outbox, {to}")], []
    else:
        sent = any(n.id == transaction.id for n in NOTIFICATIONS)
        said = [("sent", "also by this node, from its outbox, to [[subscribers]]")] if sent else []
        permission = [("permission", transaction.permission)]
    return [
        ("actors", f"{transaction.initiator} → {transaction.responder}"),
        *(("binding", line) for line in _binding(transaction.binding)),
        *said,
        *permission,
        ("specification", transaction.spec),
        ("fixtures", f"tests/transactions/{transaction.id.replace('-', '').lower()}/"),
    ]


def _binding(binding: Binding | SoapOperation) -> list[str]:
    match binding:
        case SoapBinding():
            where = f"SOAP 1.2{' with MTOM' if binding.mtom else ''} at /services/{binding.endpoint}"
            return [
                line
                for operation in binding.operations
                for line in (
                    f"{where} ({operation.port_type})",
                    f"action   {operation.action}",
                    f"response {operation.response_action}",
                    f"{operation.request[1]} → {operation.response[1]} ({operation.request[0]})",
                )
            ]
        case SoapOperation():
            return [f"SOAP 1.2 ({binding.port_type})", f"action   {binding.action}"]
        case FhirBinding():
            every = set(RESOURCE_TYPES) <= set(binding.resources)
            types = (
                "/fhir and every type" if every else ", ".join(f"/fhir/{resource}" for resource in binding.resources)
            )
            return [f"FHIR R4 at {types}: {', '.join(binding.interactions)}"]
        case WadoBinding():
            return ["WADO-RS at /wado/{uniqueId of a manifest}/studies/…"]
        case LinkBinding():
            return ["HTTP at /shl/{secret of a link}"]
        case MllpBinding():
            return [f"HL7 v2 over MLLP: {binding.message_type}^{', '.join(binding.events)}"]

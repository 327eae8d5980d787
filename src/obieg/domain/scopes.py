"""What a token lets its bearer do: scopes of resources (SMART App Launch 2.2, "Scopes for requesting FHIR resources").

A scope is written ``context/Resource.letters``: ``user/DocumentReference.rs``. ``codes/smart.toml`` says which letters
an interaction needs. Scopes that are limited to what a search finds (``?category=…``) are not known here, so they are
refused, not widened.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from obieg.codes.load import toml
from obieg.domain.identifiers import patient_id
from obieg.domain.problems import Problem
from obieg.domain.requester import Requester

_TABLE = toml("smart.toml")
_LETTERS: str = _TABLE["letters"]
_SCOPE = re.compile(rf"({'|'.join(_TABLE['contexts'])})/(\*|[A-Z][A-Za-z]{{0,63}})\.([a-z]{{1,5}}|\*)\Z")
OTHERS: tuple[str, ...] = tuple(_TABLE["others"])
_TRANSACTION = re.compile(r"ITI-[1-9][0-9]{0,2}\Z")
SCOPES_MAX = 200  # of one request


class ResourceScope(NamedTuple):
    """One scope of resources."""

    context: str  # patient, user, system
    resource: str  # a type, or * for all of them
    letters: str  # of "cruds", in this order

    def __str__(self) -> str:
        return f"{self.context}/{self.resource}.{self.letters}"

    def covers(self, other: ResourceScope) -> bool:
        """Whether whoever has this may do what ``other`` allows."""
        return self.meet(other) == other

    def meet(self, other: ResourceScope) -> ResourceScope | None:
        """What both allow; None for nothing."""
        letters = "".join(letter for letter in self.letters if letter in other.letters)
        if self.context != other.context or not letters:
            return None
        if self.resource == "*":
            return ResourceScope(self.context, other.resource, letters)
        return ResourceScope(self.context, self.resource, letters) if other.resource in ("*", self.resource) else None


def read_scope(text: str) -> ResourceScope | None:
    """None for what is no scope of resources; letters out of order or twice are none."""
    match = _SCOPE.match(text)
    if match is None:
        return None
    context, resource, letters = match.groups()
    letters = _TABLE["version_1"].get(letters, letters)
    ordered = "".join(letter for letter in _LETTERS if letter in letters)
    return ResourceScope(context, resource, letters) if ordered == letters else None


def is_transaction(text: str) -> bool:
    """Whether the scope is a whole transaction of IHE: ``ITI-65`` (IUA, the security considerations of MHD)."""
    return _TRANSACTION.match(text) is not None


def is_scope(text: str) -> bool:
    """Whether this server knows the scope."""
    return text in OTHERS or is_transaction(text) or read_scope(text) is not None


def granted(asked: Iterable[str], allowed: Sequence[str], *, contexts: Iterable[str]) -> tuple[str, ...]:
    """What of ``asked`` may be granted to whom at most ``allowed`` may be; each as narrow as both say, in its order."""
    known = set(contexts)
    found: dict[str, None] = {}
    most = [scope for scope in map(read_scope, allowed) if scope is not None and scope.context in known]
    for text in asked:
        scope = read_scope(text)
        if scope is None:
            if text in allowed and is_scope(text):
                found[text] = None
        elif any(limit.covers(scope) for limit in most):
            found[text] = None
        else:
            meets = (limit.meet(scope) for limit in most)
            found |= {str(meet): None for meet in meets if meet is not None}
    return tuple(found)


def covered(asked: Iterable[str], allowed: Sequence[str]) -> bool:
    """Whether all of ``asked`` is within ``allowed``, neither more nor something unknown."""
    most = [scope for scope in map(read_scope, allowed) if scope is not None]
    for text in asked:
        scope = read_scope(text)
        if scope is None:
            if text not in allowed or not is_scope(text):
                return False
        elif not any(limit.covers(scope) for limit in most):
            return False
    return True


class Need(NamedTuple):
    """What a request needs; without letters, any token will do."""

    resources: tuple[str, ...]  # of all of them
    letters: str
    contexts: tuple[str, ...]
    about_patient: bool  # whether it is about patients, all of whom it names before or after it is served

    @property
    def changes(self) -> bool:
        """Whether it changes anything."""
        return bool(set(self.letters) & set("cud"))


def need(permission: str, resource: str, interaction: str, parameters: Iterable[tuple[str, str]] = ()) -> Need:
    """What the interaction of a transaction with this permission needs.

    ``parameters``: of the address, where they alone say what is asked.
    """
    row = _TABLE["permission"].get(permission, {})
    # An operation that no row tells of needs everything.
    letters = row.get("letters", _TABLE["interaction"].get(interaction, _LETTERS))
    types = {kind for name, value in parameters if name == row.get("types") for kind in value.split(",")}
    return Need(
        tuple(sorted(types)) or (row.get("resource", resource or "*"),),
        "" if interaction in row.get("own", ()) else letters,
        tuple(row.get("contexts", _TABLE["contexts"])),
        permission not in _TABLE["patient"]["about_none"],
    )


def contexts_of(needed: Need, requester: Requester) -> frozenset[str]:
    """In which contexts the caller's token allows it; several scopes of one context may do so together.

    ``system`` is for who acts for nobody, ``user`` for a person, ``patient`` where the token names the patient.
    """
    may = {"system": not requester.person, "user": bool(requester.person), "patient": bool(requester.patient)}
    scopes = [scope for scope in map(read_scope, requester.scopes or ()) if scope is not None]
    contexts = {scope.context for scope in scopes if may[scope.context]} & {*needed.contexts}

    def allows(context: str, resource: str) -> bool:
        fit = (s.letters for s in scopes if s.context == context and s.resource in ("*", resource))
        return set(needed.letters) <= set().union(*map(set, fit))

    return frozenset(c for c in contexts if all(allows(c, resource) for resource in needed.resources))


def expect_scope(needed: Need, requester: Requester, transaction: str = "") -> bool:
    """Whether the caller may do it for one patient only. Raises Problem ``InsufficientScope``.

    A caller whose proof knows no scopes (a certificate, a session, the laboratory) is not held to any. One whose token
    names the ``transaction`` may do all of it, for the token's patient where it names one.
    """
    if requester.scopes is None:
        return False
    if is_transaction(transaction) and transaction in requester.scopes:
        return bool(requester.patient)
    contexts = contexts_of(needed, requester)
    if not contexts:
        said = f"the token does not allow it; a scope that ends in {wanted(needed)} would"
        raise Problem.of("InsufficientScope", said, "http.Authorization")
    return contexts == {"patient"}


def expect_patient(needed: Need, requester: Requester, named: Sequence[str], authority: str, *, served: bool) -> None:
    """A caller who may do it for one patient only does it for this patient. Raises Problem ``InsufficientScope``.

    ``named``: the patients that the request (and, once ``served``, its answer) is about, as CX; those of the
    assigning authority ``authority`` are compared. What changes something must name the patient before it is served.
    """
    _, _, wanted_id = requester.patient.partition("#")
    found = [patient for patient in map(patient_id, named) if patient is not None and patient.authority == authority]
    others = any(patient.value != wanted_id for patient in found)
    if others or (not found and needed.about_patient and (served or needed.changes)):
        said = "the token is for one patient, and the request is not about this patient alone"
        raise Problem.of("InsufficientScope", said, "http.Authorization")


def wanted(needed: Need) -> str:
    """The first scope of those that would be needed, without its context."""
    return f"{needed.resources[0]}.{needed.letters or 'r'}"

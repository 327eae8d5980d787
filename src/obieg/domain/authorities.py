"""Assigning authorities: who gives out identifiers, what they are called, and who may give out new ones.

An authority is an OID. Systems also call it by a name of their region, the namespace of HL7 v2 (CX-4.1), which means
nothing outside of it: names are translated to OIDs when a message is read and back when one is written
(ITI TF-2 Appendix E).
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from types import MappingProxyType

from obieg.domain.documents import Value


class AssigningAuthority(Value, frozen=True):
    """One authority of the region."""

    oid: str
    name: str = ""  # namespace (CX-4.1)
    single: bool = False  # a person has one number there, nationwide (PESEL)
    assigners: tuple[str, ...] = ()  # who gives out new numbers, by any name; none: all


_REMEMBERED_MAX = 10_000  # OIDs; anybody may send another one


class Listed(Value, frozen=True):
    """What :class:`Authorities` is made of, for another process."""

    authorities: tuple[AssigningAuthority, ...]
    nodes: dict[str, bool]
    closed: bool


class Authorities:
    """The authorities that a node knows. Unless it is ``closed``, identifiers of any other one are taken as well.

    ``nodes`` are OIDs under each of which every authority is known, such as the identity papers of all countries; the
    value says whether a person has one number in each of them.
    """

    def __init__(
        self,
        listed: Iterable[AssigningAuthority] = (),
        *,
        nodes: Mapping[str, bool] = MappingProxyType({}),
        closed: bool = False,
    ) -> None:
        """Raises ValueError where two authorities have one OID or one name."""
        self._by_oid: dict[str, AssigningAuthority] = {}
        self._by_name: dict[str, AssigningAuthority] = {}
        self._nodes = {f"{oid}.": single for oid, single in nodes.items()}
        self._closed = closed
        self._single: dict[str, bool] = {}  # of those that were asked about
        for authority in listed:
            if self._by_oid.setdefault(authority.oid, authority) is not authority:
                raise ValueError(f"the authority {authority.oid} is listed twice")
            if authority.name and self._by_name.setdefault(authority.name, authority) is not authority:
                raise ValueError(f"two authorities are called {authority.name}")

    @classmethod
    def of(cls, listed: Listed) -> Authorities:
        """Those that :attr:`listed` gave."""
        return cls(listed.authorities, nodes=listed.nodes, closed=listed.closed)

    @property
    def listed(self) -> Listed:
        """What they are made of."""
        nodes = {oid.removesuffix("."): single for oid, single in self._nodes.items()}
        return Listed(tuple(self._by_oid.values()), nodes, self._closed)

    def by_oid(self, oid: str) -> AssigningAuthority | None:
        """The authority, if it is listed."""
        return self._by_oid.get(oid)

    def by_name(self, name: str) -> AssigningAuthority | None:
        """The authority that is called so."""
        return self._by_name.get(name)

    def name_of(self, oid: str) -> str:
        """Its name, or "" where it has none here."""
        authority = self._by_oid.get(oid)
        return authority.name if authority else ""

    def accepts(self, oid: str) -> bool:
        """Whether identifiers of this authority may be announced."""
        return not self._closed or oid in self._by_oid or self._node(oid) is not None

    def is_single(self, oid: str) -> bool:
        """Whether a person has one number of this authority."""
        known = self._single.get(oid)
        if known is None:
            authority = self._by_oid.get(oid)
            known = bool(self._node(oid)) if authority is None else authority.single
            if len(self._single) < _REMEMBERED_MAX:
                self._single[oid] = known
        return known

    def is_shared(self, oid: str) -> bool:
        """Whether its numbers are of people, not of who keeps records of them: PESEL, identity papers."""
        return self.is_single(oid) or self._node(oid) is not None

    def may_assign(self, names: Collection[str], oid: str) -> bool:
        """Whether a sender of any of these names may announce identifiers of this authority that are yet unknown."""
        authority = self._by_oid.get(oid)
        if authority is None:
            return self.accepts(oid)
        return not authority.assigners or not set(authority.assigners).isdisjoint(names)

    def is_assigner(self, names: Collection[str], oid: str) -> bool:
        """Whether one of these names is among those that alone give out identifiers of this authority."""
        authority = self._by_oid.get(oid)
        return authority is not None and not set(authority.assigners).isdisjoint(names)

    def _node(self, oid: str) -> bool | None:
        return next((single for node, single in self._nodes.items() if oid.startswith(node)), None)

"""The one place that makes a Requester."""

from __future__ import annotations

from collections.abc import Mapping

from obieg.domain.problems import Problem
from obieg.domain.requester import Requester
from obieg.protocol import Credentials


class LaboratoryAuthentication:
    """In the laboratory nobody has to prove anything; the node listens on loopback only."""

    async def authenticate(self, credentials: Credentials) -> Requester:
        """Whoever calls."""
        address = credentials.address
        return Requester(system=address, address=address, proof="laboratory", repositories=None)


class AddressAuthentication:
    """Callers are the nodes that the settings name, by their network address."""

    def __init__(self, nodes: Mapping[str, tuple[str, tuple[str, ...]]]) -> None:
        """``nodes``: address -> (name, repositoryUniqueIds that it may register for)."""
        self._nodes = nodes

    async def authenticate(self, credentials: Credentials) -> Requester:
        """Raises Problem for an address that no node has."""
        address = credentials.address
        node = self._nodes.get(address)
        if node is None:
            raise Problem.of("AuthenticationFailed", "this address belongs to no node that the settings name")
        name, repositories = node
        return Requester(system=name, address=address, proof="address", organisation=name, repositories=repositories)

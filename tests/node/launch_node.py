"""A laboratory node that enforces access, where people log in and systems launch: ``python -m launch_node serve …``.

Who asks is who is logged in; without a session it is who stands in the cookie ``who`` (``access_node``). It trusts what
``trust.json`` in its data folder lists.
"""

from __future__ import annotations

from typing import Any

from access_node import Authentication
from changed_node import main

from obieg.domain.requester import Requester
from obieg.ops import wiring
from obieg.ops.settings import Settings
from obieg.protocol import Credentials


class SessionsFirst(Authentication):
    def __init__(self, sessions: Any) -> None:
        self._sessions = sessions

    async def authenticate(self, credentials: Credentials) -> Requester:
        if credentials.cookie and (person := await self._sessions.current(credentials.cookie)) is not None:
            return person
        return await super().authenticate(credentials)


def build(settings: Settings) -> wiring.Node:
    wiring.authenticator = lambda parts, _trust, _server: SessionsFirst(wiring.sessions(parts))
    return wiring.build(settings)


if __name__ == "__main__":
    main("launch_node:build")

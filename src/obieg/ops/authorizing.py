"""Builds a node's authorization server and stands it before the node's other addresses."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress
from datetime import datetime
from typing import Any

from obieg.actors.access_control import AccessControl
from obieg.actors.authorization_server import AuthorizationServer, named
from obieg.actors.patient_index import PatientIndex
from obieg.actors.provider_directory import ProviderDirectory
from obieg.codes.load import toml
from obieg.domain.problems import RetryLater
from obieg.domain.trust import Trust
from obieg.edges import fhir
from obieg.edges.authorization import AuthorizationEdge
from obieg.edges.cors import Application, Cors
from obieg.ops.documents import master_key_file
from obieg.ops.failure import Failure
from obieg.ops.logging_in import origin_of
from obieg.ops.portals import has_portals
from obieg.ops.settings import Settings
from obieg.protocol import Sessions
from obieg.storage.audit_store import AuditStore
from obieg.storage.authorization_store import PostgresAuthorization
from obieg.storage.keys import KeyFile
from obieg.storage.link import Database
from obieg.web.areas import LAUNCH

AUTHORIZATION_NAMES: dict[str, str] = toml("smart.toml")["transactions"]
KEEP_PAUSE_S = 600.0


class Authorization:
    """The authorization server of one worker's node, with its addresses."""

    def __init__(self, server: AuthorizationServer, edge: AuthorizationEdge) -> None:
        self.server = server
        self._edge = edge

    async def open(self) -> None:
        """Makes the first key where there is none, so that all workers know it. Raises RetryLater."""
        await self.server.keyring.current()

    def before(self, application: Application) -> Application:
        """The node's addresses with the server's; pages of registered apps may read answers of both."""

        async def asked_for_tokens(scope: Any, receive: Any, send: Any) -> None:
            await (self._edge if self._edge.serves(scope["path"]) else application)(scope, receive, send)

        with_others = Cors(asked_for_tokens, lambda: self.server.origins)

        async def front(scope: Any, receive: Any, send: Any) -> None:
            path = f"{scope.get('path', '')}/"
            shared = scope["type"] == "http" and (
                path.startswith(f"{fhir.PREFIX}/") or self._edge.is_for_programs(scope["path"])
            )
            if shared:
                await with_others(scope, receive, send)
            elif scope["type"] == "http":
                await asked_for_tokens(scope, receive, send)
            else:
                await application(scope, receive, send)

        return front

    async def keep(self) -> None:
        """Makes keys in time and forgets what has ended, for ever."""
        while True:
            with suppress(RetryLater):
                await self.server.keep()
            await asyncio.sleep(KEEP_PAUSE_S)


def open_authorization(
    settings: Settings,
    trust: Trust,
    sessions: Sessions,
    database: Database,
    audit: AuditStore,
    *,
    expect_sealed: Callable[[], Awaitable[None]],
    access: AccessControl,
    index: PatientIndex | None,
    directory: ProviderDirectory | None,
    clock: Callable[[], datetime],
    new_uuid: Callable[[], str],
) -> Authorization:
    """The server of a node whose public address is set. Raises Failure for clients that cannot be used."""
    base = settings.http.public_url.rstrip("/")
    try:
        server = AuthorizationServer(
            PostgresAuthorization(database, audit, KeyFile(master_key_file(settings))),
            trust.oauth_clients,
            base=base,
            fhir_base=f"{base}{fhir.PREFIX}",
            assigning_authority=settings.identity.assigning_authority,
            home_community_id=f"urn:oid:{settings.identity.home_community_id}",
            access=access,
            find_patient=_finding(index, settings.identity.assigning_authority),
            find_practitioner=_practitioner if directory is None else directory.practitioner,
            clock=clock,
            new_uuid=new_uuid,
            sessions=sessions,
            launch_page=f"{origin_of(settings)}{LAUNCH}" if has_portals(settings) else "",
            mutual_tls=settings.tls.certificate_file is not None or bool(settings.http.proxies),
        )
    except ValueError as error:
        raise Failure(
            f"A registered OAuth client cannot be used: {error}.",
            "No client could prove who it is, so the node does not start.",
            "Correct its keys in the list of whom the node trusts.",
        ) from error
    return Authorization(server, AuthorizationEdge(server, sessions, base=base, expect_sealed=expect_sealed))


def _finding(index: PatientIndex | None, authority: str) -> Callable[[str], Awaitable[str]]:
    """Logical ids of patients: by root#extension, or by what people write: a PESEL or the region's own number."""

    async def find(text: str) -> str:
        if index is None:
            return ""
        for identifier in named(text, authority):
            found = await index.affinity_domain_id(identifier)
            if found is not None:
                return found.value
        return ""

    return find


async def _practitioner(person: str) -> str:
    """Another node has the directory."""
    del person
    return ""

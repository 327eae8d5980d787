"""Builds the pages of a region: for patients, professionals, operators and everybody.

They are served where access is enforced and people can log in: elsewhere nothing would decide what they may see.
"""

from __future__ import annotations

from collections.abc import Sequence

from starlette.routing import BaseRoute

from obieg.actors.awaited_documents import AwaitedDocuments
from obieg.actors.patient_curation import PatientCuration
from obieg.actors.patient_sessions import cookie_name
from obieg.actors.people import People
from obieg.domain.affinity_domain import ATTRIBUTES, AffinityDomain
from obieg.edges.asgi import Host
from obieg.ops.logging_in import origin_of
from obieg.ops.operating import Operating
from obieg.ops.settings import Settings
from obieg.web.areas import OPERATORS, PROFESSIONALS, PatientArea, StaffArea
from obieg.web.desk import Desk
from obieg.web.kit import Kit
from obieg.web.launch import LaunchPages
from obieg.web.link import LinkPage
from obieg.web.operator import OperatorPages
from obieg.web.patient import PatientPages
from obieg.web.work import WORKERS, WorkPages

OPERATING_ROLES = frozenset(("operator", "privacy-officer"))


def homes(settings: Settings) -> dict[str, str]:
    """Where people of a role work."""
    if not settings.access_enforced:
        return {}
    return dict.fromkeys(WORKERS, PROFESSIONALS) | dict.fromkeys(OPERATING_ROLES, OPERATORS)


def has_portals(settings: Settings) -> bool:
    """Whether a node has these pages."""
    return settings.access_enforced and settings.role == "region" and bool(origin_of(settings))


def portal_routes(
    settings: Settings,
    kit: Kit,
    host: Host,
    *,
    operating: Operating,
    awaited: AwaitedDocuments,
    curation: PatientCuration | None,
    people: People,
    codes: AffinityDomain,
) -> Sequence[BaseRoute]:
    """None where access is not enforced."""
    if not settings.access_enforced or curation is None:
        return ()
    authority = settings.identity.assigning_authority
    patients = Desk(kit, host, PatientArea(cookie_name(secure=kit.secure)), affinity_domain=authority)
    professionals = Desk(kit, host, StaffArea(kit.session_cookie, WORKERS), affinity_domain=authority)
    operators = Desk(kit, host, StaffArea(kit.session_cookie, OPERATING_ROLES), affinity_domain=authority)
    return (
        *PatientPages(patients).routes,
        *LaunchPages(kit, people).routes,
        *WorkPages(professionals, awaited, people).routes,
        *LinkPage(kit).routes,
        *OperatorPages(
            operators,
            operating.operations,
            operating.oversight,
            curation,
            people,
            assigning_authority=authority,
            names=operating.names,
            repository=settings.identity.repository_unique_id,
            value_sets=[(name, codes.codes(field)) for name, field in ATTRIBUTES.items()],
        ).routes,
    )

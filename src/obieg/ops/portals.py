"""Builds the pages of a region: for patients, professionals, operators and everybody.

They are served where access is enforced and people can log in: elsewhere nothing would decide what they may see.
"""

from __future__ import annotations

from collections.abc import Sequence

from starlette.routing import BaseRoute

from obieg.actors.patient_sessions import cookie_name
from obieg.edges.asgi import Host
from obieg.ops.settings import Settings
from obieg.web.areas import PatientArea
from obieg.web.desk import Desk
from obieg.web.kit import Kit
from obieg.web.patient import PatientPages


def portal_routes(settings: Settings, kit: Kit, host: Host) -> Sequence[BaseRoute]:
    """None where access is not enforced."""
    if not settings.access_enforced:
        return ()
    authority = settings.identity.assigning_authority
    patients = Desk(kit, host, PatientArea(cookie_name(secure=kit.secure)), affinity_domain=authority)
    return PatientPages(patients).routes

"""What a node shows besides its services: pages for everybody, its health and its metrics."""

from __future__ import annotations

from collections.abc import Sequence

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import BaseRoute, Route

from obieg.actors.region_facts import RegionFacts
from obieg.domain.affinity_domain import AffinityDomain
from obieg.ops.metrics import exposition
from obieg.ops.settings import Settings
from obieg.protocol import Binding, FhirBinding, LinkBinding, SoapBinding, Transaction, WadoBinding
from obieg.web.kit import Kit
from obieg.web.public import About, PublicPages, Service

_TYPES_MAX = 20  # more are not listed


def pages(public: Sequence[BaseRoute], more: Sequence[BaseRoute] = ()) -> Starlette:
    """The web application beside the services: pages for everybody, and ``more``."""

    async def health(_: Request) -> Response:
        return PlainTextResponse("ok\n")

    async def metrics(_: Request) -> Response:
        return PlainTextResponse(exposition(), media_type="text/plain; version=0.0.4")

    return Starlette(routes=[Route("/health", health), Route("/metrics", metrics), *public, *more])


def public_pages(
    settings: Settings,
    served: Sequence[Transaction],
    *,
    kit: Kit | None = None,
    facts: RegionFacts | None = None,
    codes: AffinityDomain | None = None,
) -> Sequence[BaseRoute]:
    """Pages for everybody, of a node that serves ``served``; without ``kit``, where nobody can log in."""
    identity = settings.identity
    own = kit or Kit(origin=_address(settings), name=settings.name, expect_sealed=_always)
    about = About(
        settings.name,
        settings.role,
        "" if not settings.lab else "nobody" if settings.trust.file is None else "tests",
        (
            ("home", f"urn:oid:{identity.home_community_id}"),
            ("repository", identity.repository_unique_id),
            ("authority", identity.assigning_authority),
        ),
        portals=kit is not None and settings.access_enforced,
    )
    services = [Service(t.id, t.name, *_where(t.binding), t.spec) for t in served]
    kinds = {f"{c.code}^^{c.scheme}": c.display for c in codes.codes("class_code")} if codes is not None else {}
    routes = PublicPages(own, about, services, facts, kinds).routes
    return routes if kit is not None else (*routes, own.static)


async def _always() -> None:
    """Pages for everybody are served whether the audit is sealed or not."""


def _address(settings: Settings) -> str:
    secure = settings.tls.certificate_file is not None and not settings.http.proxies
    return settings.http.public_url or f"{'https' if secure else 'http'}://{settings.http.host}:{settings.http.port}"


def _where(binding: Binding) -> tuple[str, str]:
    """What is called, and where one reads about it ("" for nowhere)."""
    if isinstance(binding, SoapBinding):
        path = f"/services/{binding.endpoint}"
        return path, f"{path}?wsdl"
    if isinstance(binding, FhirBinding):
        types = ", ".join(f"/fhir/{resource}" for resource in binding.resources)
        if len(binding.resources) > _TYPES_MAX:
            types = "/fhir/*"
        return f"{types} {', '.join(binding.interactions)}", "/fhir/metadata"
    if isinstance(binding, WadoBinding):
        return "/wado/*", ""
    if isinstance(binding, LinkBinding):
        return "/shl/*", ""
    return f"MLLP {binding.message_type} {', '.join(binding.events)}", ""

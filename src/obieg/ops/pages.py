"""What a node shows besides its services: a first page, its health and its metrics."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import HTMLResponse, PlainTextResponse, Response
from starlette.routing import BaseRoute, Route

from obieg.ops.metrics import exposition
from obieg.ops.settings import Settings
from obieg.protocol import Binding, FhirBinding, SoapBinding, Transaction

# A page is what this node serves and nothing else: no script, no style within it, no frame around it.
_POLICY = (
    "default-src 'none'; style-src 'self'; img-src 'self'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'"
)
_TYPES_MAX = 20  # more are not listed
_STYLE = """
body { font: 1.1rem/1.6 system-ui, sans-serif; margin: 0 auto; max-width: 60rem; padding: 1rem;
       color-scheme: light dark }
table { border-collapse: collapse; width: 100% }
td, th { text-align: left; padding: .4rem; border-bottom: 1px solid #8888 }
.lab { background: #b00020; color: #fff; padding: .8rem 1rem; font-weight: 600; border-radius: .3rem }
"""


def pages(settings: Settings, served: Sequence[Transaction], more: Sequence[BaseRoute] = ()) -> Starlette:
    """The web application beside the services, which are ``served``, with ``more`` pages."""
    html = _first_page(settings, served)

    async def first_page(_: Request) -> Response:
        return HTMLResponse(html, headers={"content-security-policy": _POLICY})

    async def style(_: Request) -> Response:
        return Response(_STYLE, media_type="text/css")

    async def health(_: Request) -> Response:
        return PlainTextResponse("ok\n")

    async def metrics(_: Request) -> Response:
        return PlainTextResponse(exposition(), media_type="text/plain; version=0.0.4")

    return Starlette(
        routes=[
            Route("/", first_page),
            Route("/style.css", style),
            Route("/health", health),
            Route("/metrics", metrics),
            *more,
        ]
    )


def _first_page(settings: Settings, served: Sequence[Transaction]) -> str:
    who = "nobody has to prove who they are here" if settings.trust.file is None else "keys of tests are trusted here"
    banner = f'<p class="lab" role="note">Laboratory: {who}. Never keep real data on it.</p>' if settings.lab else ""
    rows = "".join(
        f"<tr><th scope=row>{t.id}</th><td>{escape(t.name)}</td><td>{_where(t.binding)}</td>"
        f'<td><a href="{escape(t.spec)}">specification</a></td></tr>'
        for t in served
    )
    identity = settings.identity
    return (
        f"<!doctype html><html lang=en><head><meta charset=utf-8><meta name=viewport content='width=device-width'>"
        f"<title>{escape(settings.name)}</title><link rel=stylesheet href=/style.css></head><body>{banner}"
        f"<h1>{escape(settings.name)}</h1><p>An obieg {settings.role} node.</p>"
        f"<h2>Services</h2><table><thead><tr><th scope=col>Transaction<th scope=col>Name<th scope=col>Where"
        f"<th scope=col></thead><tbody>{rows}</tbody></table>"
        f"<h2>Identity</h2><table><tbody>"
        f"<tr><th scope=row>homeCommunityId<td>urn:oid:{identity.home_community_id}"
        f"<tr><th scope=row>repositoryUniqueId<td>{identity.repository_unique_id}"
        f"<tr><th scope=row>Assigning authority of patient ids<td>{identity.assigning_authority}"
        f"</tbody></table></body></html>"
    )


def _where(binding: Binding) -> str:
    if isinstance(binding, SoapBinding):
        path = f"/services/{binding.endpoint}"
        return f'<a href="{path}?wsdl">{path}</a>'
    if isinstance(binding, FhirBinding):
        types = ", ".join(f"/fhir/{resource}" for resource in binding.resources)
        if len(binding.resources) > _TYPES_MAX:
            types = "/fhir/ and every type of resource"
        return f'<a href="/fhir/metadata">{types}</a> {", ".join(binding.interactions)}'
    return f"MLLP {binding.message_type} {', '.join(binding.events)}"

"""Builds what a node knows of images, from its settings, and the pages that show them."""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from starlette.requests import Request
from starlette.routing import BaseRoute

from obieg.domain.images import ImagesAsked, Kind, ShownStudy
from obieg.domain.problems import Finding, RetryLater
from obieg.edges.asgi import Exchange, Host, base_address
from obieg.edges.image_archive import DicomwebArchive
from obieg.edges.wado import PREFIX
from obieg.ops.failure import Failure
from obieg.ops.settings import Settings
from obieg.ops.tls import calling
from obieg.transactions import rad107_wado_rs_retrieve
from obieg.web.images import ImagePages, NotShown, Viewed
from obieg.web.kit import Kit

# A page asks what no address of DICOMweb asks; everything else is as for those.
_OVERVIEW = replace(rad107_wado_rs_retrieve.TRANSACTION, decode=lambda asked: asked)


def image_archive(settings: Settings) -> DicomwebArchive | None:
    """The archive of images; None where there is none. Raises Failure where its password cannot be read."""
    images = settings.images
    if not images.archive_url:
        return None
    password = ""
    if images.password_file is not None:
        try:
            password = images.password_file.read_text("utf-8").partition("\n")[0].strip("\r")
        except (OSError, UnicodeDecodeError) as error:
            raise Failure(
                f"The password in {images.password_file} cannot be read: {error}.",
                "The archive of images would refuse the node, so it does not start.",
                "Correct images.password_file in the settings, or the rights of that file.",
            ) from error
    tls = calling(settings, images.ca_file) if images.archive_url.startswith("https://") else None
    return DicomwebArchive(images.archive_url, user=images.user, password=password, tls=tls)


def image_pages(kit: Kit, host: Host) -> Sequence[BaseRoute]:
    """The viewer; none where this node knows no images."""
    if getattr(host.actors, "image_source", None) is None:
        return ()

    async def look(request: Request, document: str, series: str) -> Viewed | NotShown:
        exchange = Exchange.begin(request.scope, request.state.request_id or str(uuid.uuid4()))

        async def ask() -> ShownStudy:
            exchange.transaction = _OVERVIEW
            context = await host.admit(
                exchange,
                _OVERVIEW,
                received_at=host.clock(),
                source_user=exchange.address,
                destination_user=base_address(request.scope, host.public_url) + request.url.path,
            )
            found, _ = await host.perform(context, ImagesAsked(document, Kind.OVERVIEW, series=series))
            assert isinstance(found, ShownStudy)  # noqa: S101 - that is what an overview is
            return found

        def refused(findings: tuple[Finding, ...]) -> Any:
            return findings

        outcome, found = await host.settle(exchange, ask(), refused, protocol="pages", keeper="Repository")
        host.finish(exchange, outcome)
        if isinstance(found, ShownStudy):
            return Viewed(found, f"{PREFIX}/{document}", back="/account")
        codes = {finding.code for finding in found}
        if outcome in ("busy", "failed") or "TooManyRequests" in codes:
            raise RetryLater(found[0].detail)
        return NotShown(anonymous="AuthenticationFailed" in codes)

    return ImagePages(kit, look).routes

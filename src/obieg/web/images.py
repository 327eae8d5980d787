"""Images of a study in the browser: ``/images/{uniqueId of the manifest}``, one series at a time.

The page is whole without its script: pictures of the series, some at a time. With it the images are one stack; what it
fetches, it fetches over WADO-RS from this node (RAD-107), so whoever may not see an image is given none here either.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from datetime import datetime
from typing import Any, NamedTuple
from urllib.parse import quote

import msgspec
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute

from obieg.codes.load import toml
from obieg.domain.images import ShownImage, ShownSeries, ShownStudy
from obieg.web.kit import Kit, language_of

PICTURES = 12  # without the script, of one page
_TABLE = toml("dicom.toml")
_MODALITIES: dict[str, dict[str, str]] = _TABLE["modalities"]
_WINDOWS: dict[str, list[int]] = _TABLE["windows"]


class Viewed(NamedTuple):
    """A study that somebody who is logged in may see, and what the page says about it."""

    study: ShownStudy
    wado: str  # address of the manifest's images: /wado/…
    back: str  # where the person came from, a path of this node
    patient: str = ""  # whose images they are, as the header says it
    basis: str = ""  # on which basis they are shown


class NotShown(NamedTuple):
    """Nothing is shown: whoever asks is not logged in, or there is nothing for them."""

    anonymous: bool


Look = Callable[[Request, str, str], Awaitable[Viewed | NotShown]]  # manifest and series, "" for the first one


class ImagePages:
    """The viewer; see the module docstring."""

    def __init__(self, kit: Kit, look: Look) -> None:
        """``look`` asks as whoever is logged in; it raises RetryLater where the archive is away."""
        self._kit = kit
        self._look = look

    @property
    def routes(self) -> Sequence[BaseRoute]:
        """For the node's web application."""
        return (self._kit.route("/images/{document}", get=self._page),)

    async def _page(self, request: Request) -> Response:
        document: str = request.path_params["document"]
        found = await self._look(request, document, request.query_params.get("series", ""))
        if isinstance(found, NotShown):
            if found.anonymous:
                return self._kit.go(f"/login?next={quote(request.url.path, safe='')}")
            return self._kit.page(request, "no_images.html", status=404)
        study, language = found.study, language_of(request)
        chosen = next(s for s in study.series if s.uid == study.chosen)
        base = f"{found.wado}/studies/{study.study}"
        pictures = _pictures(chosen)
        start = _start(request.query_params.get("from", ""), len(pictures))
        return self._kit.page(
            request,
            "images.html",
            viewed=found,
            study=study,
            chosen=chosen,
            base=base,
            when=_when(study),
            modality=_MODALITIES.get(chosen.modality, {}).get(language, chosen.modality),
            names={
                s.uid: s.description or _MODALITIES.get(s.modality, {}).get(language, s.modality) for s in study.series
            },
            windows=_WINDOWS if chosen.modality == "CT" else {},
            count=len(pictures),
            pictures=pictures[start : start + PICTURES],
            start=start,
            step=PICTURES,
            data={"base": f"{base}/series/{chosen.uid}", "images": [_told(image) for image in chosen.images]},
        )


def _pictures(series: ShownSeries) -> list[tuple[str, int, str]]:
    """Object, number of the frame, and window of every picture of a series."""
    return [
        (image.instance, frame, f"&window={image.window[0]:g},{image.window[1]:g},linear" * (image.window[1] >= 1))
        for image in series.images
        for frame in range(1, image.frames + 1)
    ]


def _start(said: str, count: int) -> int:
    number = int(said) if said.isascii() and said.isdecimal() and len(said) < 7 else 0
    return number - number % PICTURES if number < count else 0


def _told(image: ShownImage) -> dict[str, Any]:
    """For the script."""
    return msgspec.structs.asdict(image)


def _when(study: ShownStudy) -> str:
    """When the study was made, as it is written here; "" where nothing tells it."""
    for text, read, written in (
        (study.date + study.time, "%Y%m%d%H%M%S", "%d.%m.%Y, %H:%M"), (study.date, "%Y%m%d", "%d.%m.%Y"),
    ):  # fmt: skip
        try:
            return datetime.strptime(text, read).strftime(written)  # noqa: DTZ007 - a study names no zone
        except ValueError:
            continue
    return ""

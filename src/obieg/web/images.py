"""Images of a study in the browser, one series at a time: pages of several areas, each with addresses of its own.

The page is whole without its script: pictures of the series, some at a time. With it the images are one stack; what it
fetches, it fetches over WADO-RS through the desk (RAD-107), so whoever may not see an image is given none here either.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any, NamedTuple

from msgspec.structs import asdict
from starlette.responses import Response

from obieg.codes.load import toml
from obieg.domain.images import ShownImage, ShownSeries
from obieg.web.desk import Desk, Visit
from obieg.web.kit import language_of, texts

DICOM = "application/dicom"  # of documents: a manifest of images (XDS-I.b)
PICTURES = 12  # without the script, of one page
_TABLE = toml("dicom.toml")
_MODALITIES: dict[str, dict[str, str]] = _TABLE["modalities"]
_PARTS: dict[str, dict[str, str]] = _TABLE["parts"]
_WINDOWS: dict[str, list[int]] = _TABLE["windows"]


_SCALES = ("detector", "calibrated", "unsaid")  # of which a measured length says where it is
_UNMEASURED = ("outside", "across", *sorted(set(_TABLE["regions"].values()) - {"plane"}))


class Place(NamedTuple):
    """A study among the pages of an area."""

    manifest: str  # uniqueId of the document
    images: str  # address below which its images are given out
    back: str  # where the person came from
    patient: str = ""  # whose images they are, as the header says it
    basis: str = ""  # on which basis they are shown


class Viewer:
    """Of the pages of one area."""

    def __init__(self, desk: Desk) -> None:
        self._desk = desk

    def is_of(self, media_type: str) -> bool:
        """Whether a document of this type may be a manifest whose images are seen here."""
        return self._desk.shows_images and media_type == DICOM

    async def page(self, visit: Visit, place: Place) -> Response:
        """The viewer; raises as :meth:`obieg.web.desk.Desk.study`."""
        request = visit.request
        study = await self._desk.study(visit, place.manifest, request.query_params.get("series", ""))
        language = language_of(request)
        chosen = next(s for s in study.series if s.uid == study.chosen)
        base = f"{place.images}/studies/{study.study}"
        pictures = _pictures(chosen)
        start = _start(request.query_params.get("from", ""), len(pictures))
        t = texts(language)
        return self._desk.kit.page(
            request,
            "images.html",
            place=place,
            study=study,
            chosen=chosen,
            base=base,
            when=_when(study.date, study.time),
            modality=_MODALITIES.get(chosen.modality, {}).get(language, chosen.modality),
            part=_PARTS.get(chosen.body_part, {}).get(language, chosen.body_part),
            names={
                s.uid: s.description or _MODALITIES.get(s.modality, {}).get(language, s.modality) for s in study.series
            },
            windows=_WINDOWS if chosen.modality == "CT" else {},
            count=len(pictures),
            pictures=pictures[start : start + PICTURES],
            start=start,
            step=PICTURES,
            data={
                "base": f"{base}/series/{chosen.uid}",
                "images": [told(image) for image in chosen.images],
                "scales": {name: t(f"image_scale_{name}") for name in _SCALES},
                "unmeasured": {name: t(f"image_unmeasured_{name}") for name in _UNMEASURED},
            },
        )

    def image(self, visit: Visit, manifest: str) -> Response:
        """What the rest of the address (``path``) names of the manifest's images."""
        return self._desk.image(visit, f"{manifest}/{visit.request.path_params['path']}")


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


def told(image: ShownImage) -> dict[str, Any]:
    """For the script."""
    return asdict(image) | {"regions": [asdict(region) for region in image.regions]}


def _when(day: str, time: str) -> str:
    """When the study was made, as it is written here; "" where nothing tells it."""
    for text, read, written in (
        (day + time, "%Y%m%d%H%M%S", "%d.%m.%Y, %H:%M"), (day, "%Y%m%d", "%d.%m.%Y"),
    ):  # fmt: skip
        try:
            return datetime.strptime(text, read).strftime(written)  # noqa: DTZ007 - a study names no zone
        except ValueError:
            continue
    return ""

"""Metadata of images as DICOM JSON: what is passed on of it, and what a viewer is told (DICOM PS3.18, annex F)."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any

import orjson

from obieg.codes.load import toml
from obieg.domain.images import ImageName, ListedSeries, Region, ShownImage, ShownSeries, ShownStudy
from obieg.wire.dicom import TAGS, DicomRefused

DEPTH_MAX = 32
OBJECTS_MAX = 20_000  # of one answer
_OF_THE_ARCHIVE = frozenset(f"{TAGS[name]:08X}" for name in ("RetrieveURL", "RetrieveAETitle"))
_GREY = ("MONOCHROME1", "MONOCHROME2")
_TABLE = toml("dicom.toml")
_PROJECTIONS = frozenset(_TABLE["projections"]["modalities"])
_REGIONS: dict[str, str] = _TABLE["regions"]
_CM: int = _TABLE["units"]["cm"]
REGIONS_MAX = 64  # of one image
_MM_OF_CM = 10.0

Attributes = Mapping[str, Any]


def read(data: bytes, listed: Collection[ImageName]) -> list[dict[str, Any]]:
    """The metadata of those objects that are listed, without anything that leads into the archive.

    Raises DicomRefused for what is no DICOM JSON.
    """
    try:
        found = orjson.loads(data)
    except orjson.JSONDecodeError:
        raise DicomRefused("the metadata are no JSON") from None
    if not isinstance(found, list) or len(found) > OBJECTS_MAX or not all(isinstance(each, dict) for each in found):
        raise DicomRefused("the metadata are no list of objects")
    known = frozenset(listed)
    return [_passed_on(each, 0) for each in found if _name(each) in known]


def _name(item: Attributes) -> ImageName:
    study, series, instance = (text(item, name) for name in ("StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID"))
    return ImageName(study, series, instance)


def _passed_on(item: Attributes, depth: int) -> dict[str, Any]:
    if depth > DEPTH_MAX:
        raise DicomRefused(f"the metadata are deeper than {DEPTH_MAX}")
    passed: dict[str, Any] = {}
    for tag, element in item.items():
        if tag in _OF_THE_ARCHIVE or not isinstance(element, dict):
            continue
        kept = {"vr": element["vr"]} if isinstance(element.get("vr"), str) else {}
        if "Value" in element:
            values = element["Value"] if isinstance(element["Value"], list) else []
            of_sequence = element.get("vr") == "SQ"
            kept["Value"] = [_passed_on(v, depth + 1) if of_sequence and isinstance(v, dict) else v for v in values]
        elif isinstance(element.get("InlineBinary"), str):
            kept["InlineBinary"] = element["InlineBinary"]
        passed[tag] = kept
    return passed


def values(item: Attributes, name: str) -> list[Any]:
    """The values of the element of a keyword; empty where there is none."""
    found = item.get(f"{TAGS[name]:08X}", {}).get("Value", [])
    return found if isinstance(found, list) else []


def text(item: Attributes, name: str) -> str:
    """The first value as text; "" for none."""
    first = next((v for v in values(item, name) if v is not None), "")
    return str(first).strip() if isinstance(first, (str, int, float)) else ""


def numbers(item: Attributes, name: str) -> list[float]:
    """The values that are numbers; IS and DS may stand as text (PS3.18, F.2.3)."""
    found = []
    for value in values(item, name):
        try:
            found.append(float(value))
        except (TypeError, ValueError):
            return []
    return found


def number(item: Attributes, name: str, default: float = 0.0) -> float:
    """The first of them."""
    return next(iter(numbers(item, name)), default)


def shown_study(document: str, study: str, series: Sequence[ShownSeries], first: Attributes, chosen: str) -> ShownStudy:
    """``first``: the metadata of any object of the study."""
    return ShownStudy(
        document=document,
        study=study,
        description=text(first, "StudyDescription"),
        date=text(first, "StudyDate"),
        time=text(first, "StudyTime")[:6],
        series=tuple(sorted(series, key=lambda s: (s.number, s.uid))),
        chosen=chosen,
    )


def shown_series(listed: ListedSeries, found: Sequence[Attributes], *, images: bool) -> ShownSeries:
    """``found``: metadata of its objects; ``images``: of all of them, to be shown one by one."""
    item = found[0] if found else {}
    shown = sorted(map(shown_image, found), key=lambda image: image.number) if images else []
    return ShownSeries(
        uid=listed.uid,
        modality=text(item, "Modality"),
        number=int(number(item, "SeriesNumber")),
        description=text(item, "SeriesDescription"),
        body_part=text(item, "BodyPartExamined"),
        thickness=number(item, "SliceThickness"),
        count=len(listed.instances),
        images=tuple(shown),
    )


def shown_image(item: Attributes) -> ShownImage:
    """What a viewer must know of one object."""
    spacing, scale = _spacing(item)
    center, width = numbers(item, "WindowCenter"), numbers(item, "WindowWidth")
    photometric = text(item, "PhotometricInterpretation")
    rate = number(item, "CineRate")
    return ShownImage(
        instance=text(item, "SOPInstanceUID"),
        number=int(number(item, "InstanceNumber")),
        frames=max(1, int(number(item, "NumberOfFrames", 1))),
        rows=int(number(item, "Rows")),
        columns=int(number(item, "Columns")),
        spacing=spacing,
        scale=scale,
        regions=_regions(item),
        window=(center[0], width[0]) if center and width and width[0] > 0 else (0.0, 0.0),
        slope=number(item, "RescaleSlope", 1.0),
        intercept=number(item, "RescaleIntercept"),
        bits=int(number(item, "BitsAllocated")),
        stored=int(number(item, "BitsStored")),
        signed=number(item, "PixelRepresentation") == 1,
        inverted=photometric == _GREY[0],
        grey=photometric in _GREY and number(item, "SamplesPerPixel", 1) == 1,
        frame_ms=number(item, "FrameTime") or (1000 / rate if rate > 0 else 0.0),
    )


def _spacing(item: Attributes) -> tuple[tuple[float, float], str]:
    """Between rows and between columns in mm, and where that is; see :class:`obieg.domain.images.ShownImage`."""
    own, imager = (_pair(item, name) for name in ("PixelSpacing", "ImagerPixelSpacing"))
    if own is None:
        return (imager, "detector") if imager is not None else ((0.0, 0.0), "")
    if text(item, "Modality") not in _PROJECTIONS:
        return own, "plane"
    if text(item, "PixelSpacingCalibrationType"):
        return own, "calibrated"
    # PS3.3, 10.7.1.3: the same values twice say nothing of the body, other values were corrected for it.
    return own, "unsaid" if imager is None else "detector" if own == imager else "calibrated"


def _pair(item: Attributes, name: str) -> tuple[float, float] | None:
    found = numbers(item, name)
    return (found[0], found[1]) if len(found) == 2 and all(0 < each < float("inf") for each in found) else None


def _regions(item: Attributes) -> tuple[Region, ...]:
    """Those of high priority first, as they lie above the others (PS3.3, C.8.5.5.1.4, bit 0)."""
    found = [each for each in values(item, "SequenceOfUltrasoundRegions")[:REGIONS_MAX] if isinstance(each, dict)]
    return tuple(map(_region, sorted(found, key=lambda each: int(number(each, "RegionFlags")) & 1)))


def _region(item: Attributes) -> Region:
    left, top, right, bottom = (
        int(number(item, f"RegionLocation{end}", -1.0)) for end in ("MinX0", "MinY0", "MaxX1", "MaxY1")
    )
    units = {number(item, f"PhysicalUnits{axis}Direction") for axis in "XY"}
    # An increment may be negative: upwards, or to the left.
    down, across = (abs(number(item, f"PhysicalDelta{axis}")) * _MM_OF_CM for axis in "YX")
    lengths = units == {_CM} and all(0 < each < float("inf") for each in (down, across))
    shows = _REGIONS.get(f"{number(item, 'RegionSpatialFormat'):g}", "other")
    return Region((left, top, right, bottom), (down, across) if lengths else (0.0, 0.0), shows)

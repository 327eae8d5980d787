"""Images of a study: what a manifest lists, and what is told of an image that is to be shown.

A manifest (Key Object Selection Document, IHE RAD TF-3:4.68) is a document like any other; who may read it may see the
images that it lists, and no others.
"""

from __future__ import annotations

from collections.abc import Iterator
from enum import StrEnum

from obieg.domain.documents import Value
from obieg.domain.problems import Problem


def nothing() -> Problem:
    """What is missing, hidden, not listed or no address at all is answered by these words alone."""
    return Problem.of("AddressNotFound", "nothing stands at this address, or nothing that this caller may know of")


class ImageName(Value, frozen=True):
    """One composite object of a study, in the archive's own terms."""

    study: str
    series: str
    instance: str


class ListedSeries(Value, frozen=True):
    """A series as a manifest lists it."""

    study: str
    uid: str
    instances: tuple[str, ...]  # SOP Instance UIDs, in the order of the manifest; at least one
    retrieve_url: str = ""  # where the source says that it can be retrieved; nothing here calls it
    retrieve_location: str = ""  # UID of that place

    def names(self) -> Iterator[ImageName]:
        """All its objects."""
        return (ImageName(self.study, self.uid, instance) for instance in self.instances)


class Manifest(Value, frozen=True):
    """What a Key Object Selection Document with the title Manifest lists."""

    uid: str  # its own SOP Instance UID
    series: tuple[ListedSeries, ...]  # at least one

    def listed(self, study: str, series: str = "", instance: str = "") -> tuple[ListedSeries, ...]:
        """What of it is meant: of the whole study, of a series, or one object; empty where it lists none."""
        found = tuple(s for s in self.series if s.study == study and series in ("", s.uid))
        if not instance:
            return found
        return tuple(
            ListedSeries(s.study, s.uid, (instance,), s.retrieve_url, s.retrieve_location)
            for s in found
            if instance in s.instances
        )

    @property
    def studies(self) -> tuple[str, ...]:
        """Study Instance UIDs, each once."""
        return tuple(dict.fromkeys(s.study for s in self.series))


class Kind(StrEnum):
    """What is asked of images (DICOM PS3.18, 10.4)."""

    OBJECTS = "objects"  # the DICOM objects themselves
    METADATA = "metadata"  # all but their pixels
    FRAMES = "frames"  # pixels as they are
    RENDERED = "rendered"  # a picture
    THUMBNAIL = "thumbnail"  # a small picture that stands for several images
    OVERVIEW = "overview"  # what a page needs to show a study; not asked over DICOMweb


class ImagesAsked(Value, frozen=True):
    """A question for images of one manifest."""

    document: str  # uniqueId of the manifest
    kind: Kind
    study: str = ""  # "": the first one that the manifest lists
    series: str = ""  # "": all of the study
    instance: str = ""  # "": all of the series
    frames: tuple[int, ...] = ()  # numbers from 1
    media_type: str = ""  # of the answer, or of each part of it
    or_else: tuple[str, ...] = ()  # media types of a picture that do as well, the best one first
    multipart: bool = False
    transfer_syntax: str = ""  # UID, or * for the one that an object is kept in
    parameters: tuple[tuple[str, str], ...] = ()  # of a picture: window, viewport, quality
    request_id: str = ""


class Region(Value, frozen=True):
    """A part of an ultrasound image that has a scale of its own (DICOM PS3.3, C.8.5.5)."""

    box: tuple[int, int, int, int]  # left, top, right, bottom: pixels from 0, the last ones are within
    spacing: tuple[float, float] = (0.0, 0.0)  # between rows, between columns, in mm; 0 where it shows no lengths
    shows: str = ""  # a name of codes/dicom.toml, [regions]


class ShownImage(Value, frozen=True):
    """What a viewer must know of one object to show it; lengths in mm, 0 where nothing tells them."""

    instance: str
    number: int = 0  # within its series
    frames: int = 1
    rows: int = 0
    columns: int = 0
    spacing: tuple[float, float] = (0.0, 0.0)  # between rows, between columns
    # Where the spacing is: "plane" of a section, "detector" (the body is nearer to the tube, so smaller), "calibrated"
    # by something of known size in a radiograph, "unsaid" of a radiograph that does not tell.
    scale: str = ""
    regions: tuple[Region, ...] = ()  # what is measured in, where there are any; of two that overlap the first counts
    window: tuple[float, float] = (0.0, 0.0)  # centre and width; a width of 0: none is told
    slope: float = 1.0
    intercept: float = 0.0
    bits: int = 0  # allocated for a sample
    stored: int = 0  # of them used
    signed: bool = False
    inverted: bool = False  # the lowest value is white (MONOCHROME1)
    grey: bool = False  # one sample for each pixel, whose values mean something
    frame_ms: float = 0.0  # from one frame to the next


class ShownSeries(Value, frozen=True):
    """What a viewer tells of a series."""

    uid: str
    modality: str = ""
    number: int = 0
    description: str = ""
    body_part: str = ""
    thickness: float = 0.0  # of its slices
    count: int = 0  # objects that the manifest lists
    images: tuple[ShownImage, ...] = ()  # in their order; only of the series that was asked for


class ShownStudy(Value, frozen=True):
    """What a viewer shows of a study."""

    document: str
    study: str
    description: str = ""
    date: str = ""  # YYYYMMDD
    time: str = ""  # HHMMSS
    series: tuple[ShownSeries, ...] = ()
    chosen: str = ""  # uid of the series whose images are told

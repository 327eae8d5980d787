"""A Key Object Selection Document with the title Manifest, as images that may be retrieved (IHE RAD TF-3:4.68.4.1.2.1).

Only what the evidence of the requested procedure lists counts (DICOM PS3.3, C.17.6.2); other evidence is not shared.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from obieg.codes.load import toml
from obieg.domain.documents import DocumentEntry
from obieg.domain.images import ListedSeries, Manifest
from obieg.domain.problems import Finding
from obieg.wire.dicom import DataSet, DicomRefused, read_file

_MANIFEST = toml("dicom.toml")["manifest"]
MIME_TYPE: str = _MANIFEST["mime_type"]


def read_manifest(data: bytes) -> Manifest:
    """Raises DicomRefused for what is no such document, and for one that lists nothing or an object twice."""
    found = read_file(data)
    if found.text("SOPClassUID") != _MANIFEST["sop_class"]:
        raise DicomRefused("no Key Object Selection Document")
    titles = [[t.text("CodeValue"), t.text("CodingSchemeDesignator")] for t in found.items("ConceptNameCodeSequence")]
    if titles != [_MANIFEST["title"]]:
        raise DicomRefused("its title is not Manifest")
    series = tuple(
        _series(study, each)
        for study in found.items("CurrentRequestedProcedureEvidenceSequence")
        for each in study.items("ReferencedSeriesSequence")
    )
    named = [(s.study, s.uid, instance) for s in series for instance in s.instances]
    if not named or len(set(named)) != len(named):
        raise DicomRefused("it lists nothing, or an object twice")
    return Manifest(found.uid("SOPInstanceUID"), series)


def opening(entries: Iterable[DocumentEntry]) -> Iterator[Finding]:
    """What a person may not hand over: what may be a manifest.

    Whoever is shown one is given the images that it lists, so one of their own would open what is closed to them. It is
    the archive that says what it keeps.
    """
    for entry in entries:
        if entry.mime_type == MIME_TYPE:
            said = "a manifest of images is registered by a system, not in the name of a person"
            yield Finding("XDSRegistryMetadataError", said, f"DocumentEntry {entry.entry_uuid}: mimeType")


def _series(study: DataSet, series: DataSet) -> ListedSeries:
    instances = tuple(one.uid("ReferencedSOPInstanceUID") for one in series.items("ReferencedSOPSequence"))
    if not instances:
        raise DicomRefused("a series lists nothing")
    return ListedSeries(
        study.uid("StudyInstanceUID"),
        series.uid("SeriesInstanceUID"),
        instances,
        series.text("RetrieveURL"),
        series.text("RetrieveLocationUID"),
    )

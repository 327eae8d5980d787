"""Lengths in images: what the node tells of scales, and the viewer's own arithmetic, against values of pydicom."""

from __future__ import annotations

import json
import math
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
from pydicom.dataset import Dataset

import imaging
from imaging import CM, MOTION, PLANE, SECONDS, region
from obieg.domain.images import Region
from obieg.mapping.dicom_json import shown_image
from obieg.web.images import told

SCRIPT = Path(__file__).parents[2] / "src" / "obieg" / "web" / "static" / "measuring.js"


def shown(dataset: Dataset) -> Any:
    """What a viewer is told of it, by the way of DICOM JSON."""
    return shown_image(dataset.to_json_dict(bulk_data_element_handler=lambda _: "http://archive/bulk"))


def measured(cases: list[tuple[list[float], Any]]) -> list[dict[str, Any]]:
    """By the viewer's script, outside of any browser."""
    node = shutil.which("node")
    if node is None:
        pytest.skip("Node.js is not installed")
    given = json.dumps([[line, told(image)] for line, image in cases])
    program = f"import {{ measured }} from {json.dumps(SCRIPT.as_uri())};"
    program += f"console.log(JSON.stringify({given}.map(([line, image]) => measured(line, image))));"
    command = [node, "--input-type=module", "-e", program]
    done = subprocess.run(command, capture_output=True, text=True, timeout=30)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def changed(dataset: Dataset, **elements: Any) -> Dataset:
    for name, value in elements.items():
        if value is None:
            if name in dataset:
                delattr(dataset, name)
        else:
            setattr(dataset, name, value)
    return dataset


@pytest.mark.parametrize(
    ("elements", "spacing", "scale"),
    [
        ({}, (0.2, 0.2), "detector"),
        ({"ImagerPixelSpacing": None}, (0, 0), ""),
        ({"PixelSpacing": [0.15, 0.1]}, (0.15, 0.1), "calibrated"),  # other than at the detector: corrected
        ({"PixelSpacing": [0.2, 0.2]}, (0.2, 0.2), "detector"),  # the same said twice
        ({"PixelSpacing": [0.2, 0.2], "PixelSpacingCalibrationType": "FIDUCIAL"}, (0.2, 0.2), "calibrated"),
        ({"PixelSpacing": [0.1, 0.1], "ImagerPixelSpacing": None}, (0.1, 0.1), "unsaid"),
        ({"PixelSpacing": [0.1, 0.1], "ImagerPixelSpacing": None, "Modality": "MR"}, (0.1, 0.1), "plane"),
        ({"ImagerPixelSpacing": [0.2, 0]}, (0, 0), ""),
        ({"ImagerPixelSpacing": [-0.2, 0.2]}, (0, 0), ""),
    ],
)
def test_scales_of_a_radiograph(elements: dict[str, Any], spacing: tuple[float, float], scale: str) -> None:
    found = shown(changed(imaging.cr()[0], **elements))
    assert (found.spacing, found.scale, found.regions) == (spacing, scale, ())


def test_regions_of_an_ultrasound() -> None:
    found = shown(imaging.us(frames=1)[0])
    assert found.spacing == (0, 0)
    assert found.regions == (
        Region((0, 0, 127, 71), (0.4, 0.5), "plane"), Region((0, 72, 127, 95), (0, 0), "spectrum"),
    )  # fmt: skip
    below = region((0, 0, 99, 99), PLANE, (CM, CM), (0.1, 0.1), flags=1)
    above = region((40, 40, 59, 59), PLANE, (CM, CM), (0.02, -0.03), flags=2)
    many = changed(imaging.us(frames=1)[0], SequenceOfUltrasoundRegions=[below, above])
    assert [r.spacing for r in shown(many).regions] == [(0.3, 0.2), (1, 1)]  # high priority first, signs do not count


@pytest.mark.parametrize(
    ("broken", "expected"),
    [
        ({"PhysicalDeltaX": 0.0}, (0.0, 0.0)),
        ({"PhysicalUnitsYDirection": 0}, (0.0, 0.0)),
        ({"PhysicalUnitsXDirection": None}, (0.0, 0.0)),
        ({"PhysicalDeltaY": None}, (0.0, 0.0)),
    ],
)
def test_a_region_without_centimetres_both_ways_has_no_lengths(broken: dict[str, Any], expected: Any) -> None:
    one = changed(region((0, 0, 9, 9), PLANE, (CM, CM), (0.1, 0.1)), **broken)
    [found] = shown(changed(imaging.us(frames=1)[0], SequenceOfUltrasoundRegions=[one])).regions
    assert found.spacing == expected


def test_nonsense_has_no_regions() -> None:
    for value in ([], ["x", 1, None], [{}]):
        told = {"00186011": {"vr": "SQ", "Value": value}}
        assert all(r == Region((-1, -1, -1, -1), (0, 0), "other") for r in shown_image(told).regions)


def test_lengths_are_exact() -> None:
    ct = changed(imaging.ct(slices=1, size=16)[0], PixelSpacing=[0.75, 0.5])
    cr, us = imaging.cr()[0], imaging.us(frames=1)[0]
    motion = region((0, 0, 99, 49), MOTION, (SECONDS, CM), (0.005, 0.02))
    unknown = region((0, 50, 99, 99), PLANE, (0, 0), (1, 1))
    other = changed(imaging.us(frames=1)[0], SequenceOfUltrasoundRegions=[motion, unknown])
    across, down = (float(getattr(us.SequenceOfUltrasoundRegions[0], f"PhysicalDelta{axis}")) * 10 for axis in "XY")
    row, column = map(float, ct.PixelSpacing)  # the spacing between rows comes first (PS3.3, 10.7.1.3)
    at_detector = float(cr.ImagerPixelSpacing[0])
    cases = [
        ([0, 0, 12, 0], ct, {"long": 12 * column, "unit": "mm", "scale": "plane"}),
        ([3, 1, 3, 9], ct, {"long": 8 * row, "unit": "mm", "scale": "plane"}),
        ([1, 1, 5, 5], ct, {"long": math.hypot(4 * column, 4 * row), "unit": "mm", "scale": "plane"}),
        ([10, 10, 40, 50], cr, {"long": 50 * at_detector, "unit": "mm", "scale": "detector"}),  # 30, 40, 50
        ([0, 0, 3, 4], changed(imaging.cr()[0], ImagerPixelSpacing=None), {"long": 5, "unit": "px", "scale": ""}),
        ([0, 0, 100, 0], us, {"long": 100 * across, "unit": "mm", "scale": "region"}),  # 50 mm
        ([0, 0, 0, 72], us, {"long": 72 * down, "unit": "mm", "scale": "region"}),  # 28.8 mm, with the last row
        ([8, 4, 14, 14], us, {"long": math.hypot(6 * across, 10 * down), "unit": "mm", "scale": "region"}),  # 3, 4, 5
        ([0, 80, 100, 80], us, {"unmeasured": "spectrum"}),
        ([0, 10, 0, 90], us, {"unmeasured": "across"}),
        ([129, 97, 130, 98], us, {"unmeasured": "outside"}),
        ([0, 0, 0, 97], us, {"unmeasured": "across"}),
        ([0, 0, 0, 40], other, {"unmeasured": "motion"}),  # centimetres downwards alone are not enough
        ([0, 60, 0, 70], other, {"unmeasured": "other"}),
    ]
    found = measured([(line, shown(dataset)) for line, dataset, _ in cases])
    for (line, _, expected), got in zip(cases, found, strict=True):
        if "long" in expected:
            assert got.pop("long") == pytest.approx(expected.pop("long"), rel=1e-12), line
        assert got == expected, line

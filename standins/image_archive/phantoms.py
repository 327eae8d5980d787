"""Pixels that look a little like a body: ellipses of tissue, and noise. The same seed draws the same."""

from __future__ import annotations

import random
import sys
from array import array
from collections.abc import Sequence
from math import cos, sin, sqrt

Ellipse = tuple[float, float, float, float, int]  # centre, half axes (the picture reaches from -1 to 1), value


def section(at: float, seed: str, size: int = 256) -> bytes:
    """A slice of a chest, ``at`` from 0 (apices) to 1 (diaphragm): 16 bits, Hounsfield units + 1024."""
    lung = 0.24 + 0.16 * sin(3 * at)
    heart = max(0.0, sin(3.3 * (at - 0.25)))
    ribs = [(0.80 * cos(a / 5 + at), 0.56 * sin(a / 5 + at), 0.05, 0.03, 650) for a in range(0, 31, 3)]
    vessels = [
        (0.42 * (-1) ** n + 0.2 * cos(n * 0.9 + at * 4), 0.3 * sin(n * 0.9 + at * 4), 0.018, 0.022, -60)
        for n in range(14)
    ]
    shapes: list[Ellipse] = [
        (0, 0, 0.92, 0.68, -90), (0, 0, 0.86, 0.62, 45), *ribs,
        (-0.42, -0.02, lung, 0.46, -820), (0.42, -0.02, lung, 0.46, -820), *vessels,
        (0, 0.42, 0.12, 0.13, 550), (0, 0.36, 0.06, 0.05, 10), (0, -0.28, 0.06, 0.07, -980),
        (0.1, 0.2, 0.09, 0.09, 180), (0.12, -0.1, 0.34 * heart, 0.28 * heart, 60),
        (-0.38, -0.1 + 0.3 * at, 0.035, 0.035, 35 if 0.4 < at < 0.55 else -820),
    ]  # fmt: skip
    return _painted(shapes, size, size, -1000, 1024, 24, seed)


def radiograph(seed: str, columns: int = 448, rows: int = 512) -> bytes:
    """A chest from the front: 12 bits, bright where much is in the way."""
    thick = [[400.0] * columns for _ in range(rows)]
    shapes: list[Ellipse] = [
        (0, 0.15, 0.95, 1.3, 1500), (-0.42, -0.05, 0.32, 0.66, -1150), (0.42, -0.05, 0.32, 0.66, -1150),
        (0, 0, 0.09, 1.2, 900), (0.16, 0.32, 0.36, 0.34, 900), (0, 1.0, 0.95, 0.42, 1100),
        *((side * 0.42, -0.72 + 0.17 * rib, 0.4, 0.035, 260) for side in (-1, 1) for rib in range(9)),
        *((side * 0.4, -0.78, 0.36, 0.04, 420) for side in (-1, 1)),
    ]  # fmt: skip
    for x, y, across, down, value in shapes:
        for row, begin, end, left in _spans(x, y, across, down, columns, rows):
            line = thick[row]
            for at in range(begin, end):
                t = ((2 * at / columns - 1 - x) / across) ** 2
                line[at] += value * sqrt(max(0.0, left - t))
    noise = random.Random(seed)
    grey = array("H", (max(0, min(4095, int(v + noise.gauss(0, 30)))) for line in thick for v in line))
    return _little(grey)


def ultrasound(seed: str, columns: int = 640, rows: int = 480, split: int = 360) -> bytes:
    """A kidney within a fan of echoes, and below ``split`` the spectrum of an artery: 8 bits."""
    noise = random.Random(seed)
    grey = bytearray(columns * rows)
    for row in range(split):
        for at in range(columns):
            x, y = (at - columns / 2) / columns, (row + 40) / split
            if not (0.12 < x * x + y * y < 1.0 and abs(x) < 0.62 * y):
                continue
            kidney = (x / 0.24) ** 2 + ((y - 0.6) / 0.2) ** 2
            tissue = 70 if kidney > 1 else 34 if kidney > 0.25 else 120
            grey[row * columns + at] = min(255, int(tissue * (0.4 + noise.random()) * (1.2 - 0.4 * y)))
    base = rows - 16
    for at in range(columns):
        beat = (at % 128) / 128
        peak = int((rows - split - 30) * (0.25 + 0.7 * max(0.0, 1 - 5 * abs(beat - 0.2)) + 0.15 * (1 - beat)))
        for up in range(min(peak, base - split - 4)):
            grey[(base - up) * columns + at] = int(60 + 160 * noise.random() * up / max(1, peak))
        grey[base * columns + at] = 255
    return bytes(grey)


def _spans(
    x: float, y: float, across: float, down: float, columns: int, rows: int
) -> list[tuple[int, int, int, float]]:
    """Rows of an ellipse: row, first and last column but one, and what is left of 1 for the columns."""
    found = []
    for row in range(max(0, int((y - down + 1) * rows / 2)), min(rows, int((y + down + 1) * rows / 2) + 1)):
        left = 1 - ((2 * row / rows - 1 - y) / down) ** 2 if down else 0
        if left > 0:
            half = across * sqrt(left)
            ends = (max(0, int((x - half + 1) * columns / 2)), min(columns, int((x + half + 1) * columns / 2)))
            found.append((row, *ends, left))
    return found


def _painted(
    shapes: Sequence[Ellipse], columns: int, rows: int, ground: int, offset: int, spread: int, seed: str
) -> bytes:
    lines = [array("h", [ground]) * columns for _ in range(rows)]
    for x, y, across, down, value in shapes:
        for row, begin, end, _ in _spans(x, y, across, down, columns, rows):
            if end > begin:
                lines[row][begin:end] = array("h", [value]) * (end - begin)
    noise = random.Random(seed).randbytes(rows * columns)
    flat = (v for line in lines for v in line)
    return _little(array("h", (max(0, v + offset + n * spread // 255) for v, n in zip(flat, noise, strict=True))))


def _little(values: array[int]) -> bytes:
    if sys.byteorder == "big":
        values.byteswap()
    return values.tobytes()

"""The time zone of the region: its days, and the times that people read."""

from __future__ import annotations

from zoneinfo import ZoneInfo

WARSAW = ZoneInfo("Europe/Warsaw")

"""Where medical events are asked from, by the settings."""

from __future__ import annotations

from obieg.edges.medical_events import FhirEvents
from obieg.mapping.medical_events import read_bundle
from obieg.ops.settings import Settings


def event_source(settings: Settings) -> FhirEvents | None:
    """None where no source is connected."""
    events = settings.medical_events
    return FhirEvents(events.url, events.key.get_secret_value(), read_bundle) if events.url else None

"""Says whether a FHIR resource is valid; it keeps nothing and looks nothing up."""

from __future__ import annotations

import asyncio
from typing import Any

from obieg.protocol import Context
from obieg.wire.fhir_elements import Fault
from obieg.wire.fhir_validation import validate


class ResourceValidator:
    """Answers ``$validate``."""

    async def validate(self, resource: dict[str, Any], context: Context) -> list[Fault]:
        """Everything that is wrong with it; a large one is looked at in a thread."""
        return await asyncio.to_thread(validate, resource) if context.large else validate(resource)

"""A laboratory node that enforces access: ``python -m access_node serve --settings FILE --ready-file FILE``.

Who asks stands in the cookie ``who``, as JSON in Base64; without one a system asks.
"""

from __future__ import annotations

from base64 import urlsafe_b64decode

import msgspec
from changed_node import main

from obieg.domain.requester import Requester
from obieg.ops import wiring
from obieg.ops.settings import Settings
from obieg.protocol import Credentials


class Authentication:
    async def authenticate(self, credentials: Credentials) -> Requester:
        who = dict(part.strip().partition("=")[::2] for part in credentials.cookie.split(";")).get("who", "")
        if not who:
            return Requester(system="his", address=credentials.address, proof="laboratory", repositories=None)
        said = msgspec.json.decode(urlsafe_b64decode(who))
        return msgspec.convert({"system": "his", "proof": "saml", "repositories": None, **said}, Requester)


def build(settings: Settings) -> wiring.Node:
    wiring.LaboratoryAuthentication = Authentication  # type: ignore[assignment, misc]
    return wiring.build(settings)


if __name__ == "__main__":
    main("access_node:build")

"""Who is asking. Only ``actors/authentication`` makes a Requester."""

from __future__ import annotations

from obieg.domain.documents import Value


class Requester(Value, frozen=True):
    """The caller of a request, as proved.

    In the laboratory nobody is proved; ``system`` then names the network address. ``repositories`` are the
    repositoryUniqueIds that the calling node may register for; None means any (laboratory, same process).
    """

    system: str
    address: str = ""
    person: str = ""
    role: str = ""
    organisation: str = ""
    purpose_of_use: str = ""
    repositories: tuple[str, ...] | None = ()

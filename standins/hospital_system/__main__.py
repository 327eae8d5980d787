"""``python -m standins.hospital_system --region https://127.0.0.1:8443 …``: see ``--help``."""

from __future__ import annotations

from pathlib import Path

from standins.hospital_system.app import System, application
from standins.serving import arguments, serve


def main() -> None:
    """Serves until it is stopped."""
    said = "A stand-in of a hospital's own system. Whoever opens it is the professional it speaks of."
    parser = arguments("hospital_system", said, 8095)
    parser.add_argument("--region", required=True, help="address of the region's node")
    parser.add_argument("--ca", help="who vouches for the region (PEM); else those whom the machine trusts")
    parser.add_argument("--client", required=True, help="the client_id under which the region knows the system")
    parser.add_argument("--key", type=Path, required=True, help="private key that it signs with (PEM, P-256)")
    parser.add_argument("--key-id", required=True, help="name of the key in the set that the region has")
    parser.add_argument("--ward", type=Path, required=True, help="JSON file: who works, who lies there; read each time")
    given = parser.parse_args()
    system = System(given.region.rstrip("/"), given.client, given.key.read_bytes(), given.key_id, given.ca)
    serve(application(system, given.ward), given)


if __name__ == "__main__":
    main()

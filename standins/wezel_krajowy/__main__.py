"""``python -m standins.wezel_krajowy --client http://127.0.0.1:8080/login/wk/metadata``."""

from __future__ import annotations

from pathlib import Path

from standins.serving import arguments, serve
from standins.wezel_krajowy.app import application
from standins.wezel_krajowy.provider import Provider


def main() -> None:
    """Serves until it is stopped; remembers nothing afterwards."""
    parser = arguments("wezel_krajowy", "A stand-in of Węzeł Krajowy (login.gov.pl). It proves nobody.", 8099)
    parser.add_argument("--url", help="address by which browsers and nodes reach it; of host and port if not given")
    parser.add_argument("--entity-id", default="atrapa.login.example", help="who it is")
    parser.add_argument("--client", action="append", default=[], help="address of the metadata of a node that may ask")
    parser.add_argument("--metadata", type=Path, help="file to write its own metadata to")
    parser.add_argument("--people", type=Path, help="whom it offers, as people.toml beside this module has them")
    parser.add_argument("--certificate", help="for TLS (PEM)")
    parser.add_argument("--key", help="private key of the certificate (PEM)")
    given = parser.parse_args()
    scheme = "https" if given.certificate else "http"
    provider = Provider(given.entity_id, given.url or f"{scheme}://{given.host}:{given.port}")
    provider.people_file = given.people
    if given.metadata:
        given.metadata.write_bytes(provider.metadata())
    serve(
        application(provider, given.client),
        given,
        ssl_certfile=given.certificate,
        ssl_keyfile=given.key,
        timeout_graceful_shutdown=1,
    )


if __name__ == "__main__":
    main()

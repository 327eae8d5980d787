"""What the nodes of the demo are: settings, certificates, whom they trust, ports. Everything stands in its data folder.

Systems know one another by certificates of an authority that the demo makes for itself; people log in at the region's
pages, which browsers of this machine reach without TLS.
"""

from __future__ import annotations

import contextlib
import json
import socket
import tomllib
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from joserfc.jwk import ECKey

from obieg.codes.load import toml
from obieg.ops import settings as node_settings
from obieg.ops.commands_certs import AUTHORITY
from obieg.ops.commands_certs import make as make_certificate
from obieg.ops.commands_node import MLLP_PORT, SETTINGS_NAME
from obieg.ops.failure import Failure
from obieg.ops.people import Facility, facilities
from obieg.ops.sts_key import own_issuer
from obieg.ops.supervisor import LOCAL, write_atomically
from obieg.wire.jwt import public_jwk

ENTITY: str = toml("national/pl/pik.toml")["roots"]["entity"]
HOST = LOCAL
REGION = "region"
COMMANDS = "polecenia"  # the system of the commands that people type
CERTIFICATES = "certificates"
TRUST_NAME, PORTS_NAME = "trust.json", "ports.json"
IDENTITY_METADATA = "wezel-krajowy.xml"  # of the stand-in, in the data folder
IDENTITY_NAMES = ("wk-podpis", "wk-szyfr")  # certificates of the keys that sign and decrypt


@dataclass(frozen=True, slots=True)
class Place:
    """A node of the demo: where it listens, and the loopback address from which it and its house call others."""

    key: str
    address: str
    port: int
    workers: int


PLACES = (
    Place(REGION, HOST, 8443, 2),
    Place("szpital-a", "127.0.0.2", 8081, 1),
    Place("szpital-b", "127.0.0.3", 8082, 1),
)
HOSPITALS = PLACES[1:]
PAGES_PORT, DESK_PORT, IDENTITY_PORT, SMS_PORT, IMAGES_PORT, AUDIT_PORT = 8080, 8090, 8099, 8098, 8097, 6514
EVENTS_PORT, WARD_PORT = 8096, 8095
IMAGES_OF = "szpital-b"  # whose numbers of patients the archive of images knows
WARD_OF = "szpital-a"  # whose own system opens records at the region (docs/launch.md)
WARD_KEY = f"his-{WARD_OF}-podpis"  # of what it signs with, for the region


@dataclass(frozen=True, slots=True)
class Ports:
    """Where the stand-ins and the desk of the demo listen."""

    pages: int
    desk: int
    identity: int
    sms: int
    images: int
    events: int
    ward: int
    audit: int


def organisation(facility: Facility) -> str:
    """By what a facility is known in decisions about access, and in the documents of its authors."""
    return f"{ENTITY}#{facility.book}"


def system_of(key: str) -> str:
    """The house's own system, which hands documents in: of a hospital its HIS, of a clinic the only one."""
    return f"his-{key}" if any(place.key == key for place in HOSPITALS) else key


def certificate_of(data: Path, name: str) -> dict[str, str]:
    """Whom to trust and who one is, as ready files say it."""
    folder = (data / CERTIFICATES).absolute()
    return {
        "tls_ca": str(folder / f"{AUTHORITY}.pem"),
        "tls_certificate": str(folder / f"{name}.pem"),
        "tls_key": str(folder / f"{name}.key"),
    }


def write(data: Path, *, free_ports: bool, standins: bool, identity: bool) -> Ports:
    """The settings files with what they name; who the nodes are, and their ports where free, stay as they were.

    ``standins``: whether there are those that take SMS, give images and medical events, and launch; ``identity``:
    whether there is one of Węzeł Krajowy.
    """
    earlier = {place.key: _earlier(data / place.key / SETTINGS_NAME) for place in PLACES}
    chosen = _Chosen(free=free_ports)
    ports = {p.key: chosen.port(earlier[p.key].get("http", {}).get("port"), p.port) for p in PLACES}
    mllp = chosen.port(earlier[REGION].get("mllp", {}).get("port"), MLLP_PORT)
    kept = _kept(data)
    around = Ports(
        pages=chosen.port(kept.get("pages"), PAGES_PORT),
        desk=chosen.port(kept.get("desk"), DESK_PORT),
        identity=chosen.port(kept.get("identity"), IDENTITY_PORT),
        sms=chosen.port(kept.get("sms"), SMS_PORT),
        images=chosen.port(kept.get("images"), IMAGES_PORT),
        events=chosen.port(kept.get("events"), EVENTS_PORT),
        ward=chosen.port(kept.get("ward"), WARD_PORT),
        audit=chosen.port(kept.get("audit"), AUDIT_PORT),
    )
    write_atomically(data / PORTS_NAME, json.dumps(asdict(around)))
    for name in (*ports, *(system_of(key) for key in facilities()), COMMANDS, *IDENTITY_NAMES, WARD_KEY):
        _certificate(data / CERTIFICATES, name)
    _write_region(data, earlier, ports, mllp, around, standins=standins, identity=identity)
    region = node_settings.load(data / REGION / SETTINGS_NAME)
    issuer = own_issuer(region)
    for place in HOSPITALS:
        _write_hospital(data, place, earlier[place.key], region, ports, issuer.entity_id)
    return around


def _write_region(
    data: Path,
    earlier: dict[str, Any],
    ports: dict[str, int],
    mllp: int,
    around: Ports,
    *,
    standins: bool,
    identity: bool,
) -> None:
    own = earlier[REGION].get("identity") or {
        name: node_settings.new_oid() for name in ("home_community_id", "repository_unique_id", "assigning_authority")
    }
    nodes: list[dict[str, Any]] = [{"name": COMMANDS, "address": HOST, "certificate": f"CN={COMMANDS}"}]
    for place in HOSPITALS:
        repository = earlier[place.key].get("identity", {}).get("repository_unique_id") or node_settings.new_oid()
        earlier[place.key].setdefault("identity", {})["repository_unique_id"] = repository
        nodes.append(
            {
                "name": place.key,
                "address": place.address,
                "certificate": f"CN={place.key}",
                "repository_unique_id": repository,
                "retrieve_url": f"https://{HOST}:{ports[place.key]}/services/retrieve",
                "ca_file": _authority(data),
            }
        )
    for key, facility in facilities().items():
        name = system_of(key)
        nodes.append({"name": name, "certificate": f"CN={name}", "organisation": organisation(facility)})
    folder = (data / CERTIFICATES).absolute()
    login: dict[str, Any] = {}
    if identity:
        sign, decrypt = (folder / name for name in IDENTITY_NAMES)
        login = {
            "own_entity_id": f"urn:oid:{own['home_community_id']}",
            "signing_certificate_file": f"{sign}.pem",
            "signing_key_file": f"{sign}.key",
            "encryption_certificate_file": f"{decrypt}.pem",
            "encryption_key_file": f"{decrypt}.key",
            "metadata_file": (data / IDENTITY_METADATA).absolute(),
        }
    _trust(data / REGION, {"client_cas": [_authority(data)], "oauth_clients": [_ward(folder)] if standins else []})
    text = node_settings.write_commented(
        "region",
        name=REGION,
        data_dir="data",
        workers=PLACES[0].workers,
        http={"host": HOST, "port": ports[REGION], "local_port": around.pages},
        tls=_tls(folder, REGION),
        trust={"file": (data / REGION / TRUST_NAME).absolute()},
        identity=own,
        mllp={"host": HOST, "port": mllp},
        audit={"enabled": True, "host": HOST, "port": around.audit},
        wezel_krajowy=login,
        notices={
            "sms_url": f"http://{HOST}:{around.sms}/messages" if standins else "",
            "portal_url": f"http://localhost:{around.pages}/patient",
        },
        medical_events={"url": f"http://{HOST}:{around.events}"} if standins else {},
        images={
            "archive_url": f"http://{HOST}:{around.images}/dicom-web",
            "patient_authority": facilities()[IMAGES_OF].patient_authority,
        }
        if standins
        else {},
        nodes=nodes,
    )
    write_atomically(data / REGION / SETTINGS_NAME, text, mode=0o600)


def _write_hospital(
    data: Path,
    place: Place,
    earlier: dict[str, Any],
    region: node_settings.Settings,
    ports: dict[str, int],
    issuer: str,
) -> None:
    folder = (data / CERTIFICATES).absolute()
    vouching = (data / REGION / "data" / "keys" / "sts.pem").read_text("ascii")
    own = region.identity
    _trust(
        data / place.key,
        {
            "client_cas": [_authority(data)],
            "saml_issuers": [{"entity_id": issuer, "certificate": vouching, "audience": issuer}],
        },
    )
    url = f"https://{HOST}:{ports[REGION]}"
    text = node_settings.write_commented(
        "facility",
        name=place.key,
        data_dir="data",
        workers=place.workers,
        http={"host": HOST, "port": ports[place.key]},
        tls=_tls(folder, place.key),
        trust={"file": (data / place.key / TRUST_NAME).absolute()},
        identity={
            "home_community_id": own.home_community_id,
            "assigning_authority": own.assigning_authority,
            "repository_unique_id": earlier["identity"]["repository_unique_id"],
        },
        nodes=[
            {"name": "HIS", "certificate": f"CN={system_of(place.key)}"},
            {"name": REGION, "certificate": f"CN={REGION}"},
        ],
        registry={
            "register_url": f"{url}/services/register",
            "query_url": f"{url}/services/registry",
            "mllp_address": f"{HOST}:{region.mllp.port}",
            "ca_file": _authority(data),
            "source_address": place.address,
        },
        audit_repositories=[
            {"name": REGION, "address": f"{HOST}:{region.audit.port}", "ca_file": _authority(data)},
        ],
    )
    write_atomically(data / place.key / SETTINGS_NAME, text, mode=0o600)


def _authority(data: Path) -> str:
    return str((data / CERTIFICATES / f"{AUTHORITY}.pem").absolute())


def _ward(folder: Path) -> dict[str, Any]:
    """The hospital's own system, which speaks for the people of the hospital alone."""
    key = ECKey.import_key((folder / f"{WARD_KEY}.key").read_bytes())
    facility = facilities()[WARD_OF]
    return {
        "client_id": system_of(WARD_OF),
        "name": f"System: {facility.unit}",
        "jwks": {"keys": [public_jwk(key, WARD_KEY)]},
        "scopes": [],
        "launches": [organisation(facility)],
    }


def _tls(folder: Path, name: str) -> dict[str, Path]:
    return {
        "certificate_file": folder / f"{name}.pem",
        "key_file": folder / f"{name}.key",
        "ca_file": folder / f"{AUTHORITY}.pem",
    }


def _trust(folder: Path, content: dict[str, Any]) -> None:
    write_atomically(folder / TRUST_NAME, json.dumps(content, indent=2) + "\n")


def _certificate(folder: Path, name: str) -> None:
    if not (folder / f"{name}.pem").exists():
        make_certificate(folder, name, ["localhost", HOST])


def _kept(data: Path) -> dict[str, int]:
    with contextlib.suppress(OSError, ValueError):
        found: dict[str, int] = json.loads((data / PORTS_NAME).read_text("utf-8"))
        return found
    return {}


def _earlier(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_text("utf-8"))
    except (OSError, ValueError):
        return {}


class _Chosen:
    """TCP ports, each for one."""

    def __init__(self, *, free: bool) -> None:
        self._free = free
        self._taken: set[int] = set()

    def port(self, earlier: int | None, preferred: int) -> int:
        """That of before if nobody has it, else the preferred one, else any that is free."""
        for wanted in (earlier or (0 if self._free else preferred), *([0] * 20)):
            if wanted in self._taken:
                continue
            with contextlib.suppress(OSError), socket.socket() as probe:
                probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                probe.bind((HOST, wanted))
                found: int = probe.getsockname()[1]
                if found not in self._taken:
                    self._taken.add(found)
                    return found
        raise Failure("No TCP port is free.", "The nodes need one each.", "Stop other programs and try again.")

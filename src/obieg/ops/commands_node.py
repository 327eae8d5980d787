"""``obieg init``, ``obieg serve``, ``obieg lab``: making a node and running it."""

from __future__ import annotations

import shlex
import sys
import tomllib
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import Annotated, Any
from urllib.parse import urlsplit

import typer
from rich.console import Console
from rich.panel import Panel

from obieg.codes.load import toml
from obieg.ops import settings as node_settings
from obieg.ops.commands_certs import AUTHORITY
from obieg.ops.commands_certs import make as make_certificate
from obieg.ops.failure import Failure
from obieg.ops.options import ReadyFile, SettingsFile
from obieg.ops.supervisor import serve as run_node
from obieg.ops.supervisor import write_atomically
from obieg.ops.trust_file import read_trust

SETTINGS_NAME = "settings.toml"
MLLP_PORT = 2575
CERTIFICATES = "certificates"  # folder of a laboratory's, below its data


def register(app: typer.Typer) -> None:
    """Adds the commands."""
    app.command()(init)
    app.command()(serve)
    app.command()(lab)


def init(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="Folder of the node; made if there is none.")],
    role: Annotated[
        str, typer.Option(help="region: registry and regional repository. facility: a repository that registers there.")
    ],
    name: Annotated[str, typer.Option(help="What people call the node.")] = "",
    region: Annotated[str, typer.Option(help="For a facility: address of the region, as http://host:port.")] = "",
) -> None:
    """Write a commented settings file for a new node."""
    if role not in ("region", "facility"):
        raise typer.BadParameter("is region or facility", param_hint="--role")
    path = folder / SETTINGS_NAME
    if path.exists():
        raise Failure(
            f"{path} exists.",
            "It was not changed: it may describe a node that holds documents.",
            "Edit it, or choose another folder.",
        )
    url = (region or "http://127.0.0.1:8080").rstrip("/")
    text = node_settings.write_commented(
        "region" if role == "region" else "facility",
        name=name or role,
        data_dir="data",
        identity={
            "home_community_id": node_settings.new_oid(),
            "repository_unique_id": node_settings.new_oid(),
            "assigning_authority": node_settings.new_oid(),
        },
        registry={
            "register_url": f"{url}/services/register",
            "query_url": f"{url}/services/registry",
            "mllp_address": f"{urlsplit(url).hostname}:{MLLP_PORT}",
        },
        http={"port": 8080 if role == "region" else 8081},
        mllp={"port": MLLP_PORT},
    )
    write_atomically(path, text, mode=0o600)
    typer.echo(f"{path} is written. Its OIDs are new and nobody else's; put your own in their place if you have some")
    typer.echo("(a facility has its region's home_community_id and assigning_authority). Then:")
    typer.echo(f"  obieg serve --settings {shlex.quote(str(path))}")


def serve(settings: SettingsFile, ready_file: ReadyFile = None) -> None:
    """Run the node that a settings file describes, until SIGTERM or Ctrl-C."""
    run_node(node_settings.load(settings), settings_file=settings, ready_file=ready_file)


def lab(
    codes: Annotated[
        Path | None,
        typer.Option(help="Codes of the affinity domain (affinity_domain_codes.json); none: the Polish ones."),
    ] = None,
    data: Annotated[Path, typer.Option(help="Folder for everything the laboratory keeps.")] = Path("lab-data"),
    ready_file: ReadyFile = None,
    *,
    port: Annotated[int, typer.Option(help="TCP port of the endpoints; 0: any free one.", min=0, max=65535)] = 0,
    mllp_port: Annotated[
        int, typer.Option(help="TCP port of the patient feed; 0: any free one.", min=0, max=65535)
    ] = 0,
    workers: Annotated[int, typer.Option(help="Worker processes.", min=1)] = 2,
    assigning_authority: Annotated[str, typer.Option(help="OID of the patient ids.")] = "",
    secure: Annotated[
        bool,
        typer.Option("--secure", help="Everything over TLS, and callers prove who they are; see docs/lab.md."),
    ] = False,
    trust: Annotated[
        Path | None, typer.Option(help="With --secure: whom the node trusts (JSON); docs/lab.md describes it.")
    ] = None,
    world: Annotated[
        Path | None,
        typer.Option("--load", metavar="DIR", help="A world to test against (FHIR NDJSON); docs/lab.md describes it."),
    ] = None,
) -> None:
    """Run one region node for conformance tests: loopback only; unless --secure, nobody proves who they are."""
    if secure != (trust is not None):
        raise typer.BadParameter("--secure and --trust belong together", param_hint="--secure")
    if codes is not None and not codes.is_file():
        raise Failure(
            f"There is no file {codes}.",
            "It says which codes the affinity domain accepts.",
            "Name affinity_domain_codes.json, or leave --codes out for the Polish affinity domain.",
        )
    path = data / SETTINGS_NAME
    identity = _identity_of(path)
    plans = toml("lab.toml")
    identity["assigning_authority"] = assigning_authority or plans["assigning_authority"]
    text = node_settings.write_commented(
        "region",
        lab=True,
        name="lab",
        data_dir=".",
        workers=workers,
        http={"host": "127.0.0.1", "port": port},
        mllp={"host": "127.0.0.1", "port": mllp_port},
        audit={"enabled": True, "host": "127.0.0.1", "port": 0},
        identity=identity,
        affinity_domain={"codes": codes.absolute()} if codes else {},
        authorities=plans["authorities"],
        log={"format": "console" if sys.stderr.isatty() else "json"},
        access={"enforced": world is not None},
        **(_secured(data / CERTIFICATES, trust) if trust is not None else {}),
    )
    write_atomically(path, text, mode=0o600)
    prepare = partial(_load, world) if world is not None else None
    settings = node_settings.load(path)
    run_node(settings, settings_file=path, ready_file=ready_file, prepare=prepare, announce=_lab_banner)


def _load(folder: Path, settings: node_settings.Settings) -> None:
    """Loads a world. What that takes is not kept by a laboratory that has none."""
    import_module("obieg.ops.world").load(folder, settings)


def _secured(folder: Path, trust: Path) -> dict[str, Any]:
    """Sections of the settings: a certificate of the laboratory's own authority, and whom it trusts."""
    read_trust(trust)  # says what is wrong with it before anything is started
    certificate, key = folder / "lab.pem", folder / "lab.key"
    if not certificate.exists():
        certificate, key = make_certificate(folder, "lab", ["localhost", "127.0.0.1", "::1"])
    files = {"certificate_file": certificate, "key_file": key, "ca_file": folder / f"{AUTHORITY}.pem"}
    return {"tls": {name: file.absolute() for name, file in files.items()}, "trust": {"file": trust.absolute()}}


def _identity_of(path: Path) -> dict[str, str]:
    """Who the laboratory was when it last ran, or somebody new: stored documents name their repository."""
    try:
        identity: dict[str, str] = tomllib.loads(path.read_text("utf-8"))["identity"]
    except (OSError, ValueError, KeyError):
        return {"home_community_id": node_settings.new_oid(), "repository_unique_id": node_settings.new_oid()}
    return dict(identity)


def _lab_banner(endpoints: dict[str, str]) -> None:
    lines = [f"{name:20} {value}" for name, value in endpoints.items()]
    who = "callers prove who they are, by keys of tests" if "tls_ca" in endpoints else "nobody proves who they are"
    body = f"Laboratory: {who}. Never put real patients' data here.\n\n" + "\n".join(lines)
    Console(stderr=True).print(Panel(body, title="LAB", border_style="yellow", expand=False))

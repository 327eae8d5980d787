"""Compares proposed settings, codes or a list of whom the node trusts with what it runs by. Reads; changes nothing.

From a page no file is opened that the node does not use already: else whoever may see these pages could ask what files
the machine has. On the command line, whose user reads them anyway, all are.
"""

from __future__ import annotations

import os
import ssl
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from cryptography import x509
from pydantic import SecretStr

from obieg.domain.affinity_domain import ATTRIBUTES, AffinityDomain
from obieg.domain.previewing import Change, Fault, Kind, NodeGone, Proposal
from obieg.domain.trust import Trust
from obieg.ops.failure import Failure
from obieg.ops.settings import VARIABLES, NodeSettings, Settings, SettingsRefused, parse, read_toml
from obieg.ops.tls import load_own, server_context, trust_of
from obieg.ops.trust_file import parse_trust
from obieg.ops.wiring_patients import affinity_domain, authorities

_SECRET = ("password", "secret", "token", "dsn", "access_key", "_key")  # parts of the names of what is not shown
_HIDDEN = "•••"
_CHANGES_MAX = 500
_PROPOSED = "what is proposed"


class Leaf(NamedTuple):
    """A setting as it is, and as it is shown."""

    value: Any
    shown: str


def leaves(settings: Settings) -> dict[str, Leaf]:
    """The settings by their path; elements of a list by their names."""
    return dict(_leaves("", settings.model_dump()))


def _leaves(name: str, value: Any) -> Iterator[tuple[str, Leaf]]:
    if isinstance(value, Mapping):
        for key, each in value.items():
            yield from _leaves(f"{name}.{key}" if name else key, each)
    elif isinstance(value, list | tuple) and value and isinstance(value[0], Mapping):
        called = [str(each.get("name") or each.get("oid") or "") for each in value]
        for number, each in enumerate(value):
            unique = called[number] and called.count(called[number]) == 1
            yield from _leaves(f"{name}[{called[number] if unique else number + 1}]", each)
    else:
        plain = value.get_secret_value() if isinstance(value, SecretStr) else value
        hidden = plain and any(part in name.rpartition(".")[2] for part in _SECRET)
        shown = ", ".join(map(str, plain)) if isinstance(plain, list | tuple) else "" if plain is None else str(plain)
        yield name, Leaf(plain, _HIDDEN if hidden else shown)


def compare(kind: Kind, data: bytes, now: Settings, *, anywhere: bool) -> Proposal:
    """``now``: what the node runs by; ``anywhere``: whether files may be opened that it does not use."""
    asked = now.asked
    try:
        match kind:
            case Kind.SETTINGS:
                return _settings(data, asked, anywhere=anywhere)
            case Kind.CODES:
                return _codes(data, asked)
            case Kind.TRUST:
                return _trust(data, asked, anywhere=anywhere)
    except SettingsRefused as refused:
        return Proposal(kind, refused.faults)


# settings --------------------------------------------------------------------------------------------------------


def _settings(data: bytes, now: Settings, *, anywhere: bool) -> Proposal:
    then = parse(data, _PROPOSED, now.folder)
    given, _ = read_toml(data, _PROPOSED)
    used = {path for _, path in _files(now)}
    faults: list[Fault] = []
    unread: list[str] = []
    for key, path in _files(then):
        if not anywhere and path not in used:
            unread.append(f"{key}: {path}")
        else:
            faults += _file_faults(key, path, then)
    if faults:
        return Proposal(Kind.SETTINGS, faults)
    open_to_us = {key for key, path in _files(then) if anywhere or path in used}
    codes = then.affinity_domain.codes is None or "affinity_domain.codes" in open_to_us
    trusting = then.trust.file is None or "trust.file" in open_to_us
    trust_now, trust_then = trust_of(now), trust_of(then) if trusting else trust_of(now)
    content = ("data_dir", "database.dsn", "store.kind", "store.s3_url", "store.s3_endpoint", "store.master_key_file")
    before, after = leaves(now), leaves(then)
    receivers = {one.name: one.protocol for one in then.subscribers}
    forwarded = {one.name for one in then.audit_repositories}
    return _with_trust(
        Proposal(
            Kind.SETTINGS,
            changes=_differences(before, after),
            overridden=_overridden(given),
            unread=unread,
            codes=(affinity_domain(now), affinity_domain(then)) if codes else None,
            authorities=(authorities(now), authorities(then)),
            nodes=_nodes_gone(now, then),
            receivers=[one.name for one in now.subscribers if receivers.get(one.name) != one.protocol],
            audit_repositories=[one.name for one in now.audit_repositories if one.name not in forwarded],
            repository=(
                now.identity.repository_unique_id
                if now.identity.repository_unique_id != then.identity.repository_unique_id
                else ""
            ),
            patients_elsewhere=now.identity.assigning_authority != then.identity.assigning_authority,
            documents_elsewhere=any(before[key].value != after[key].value for key in content),
            unkept=then.lab and not now.lab,
        ),
        trust_now,
        trust_then,
    )


def _overridden(given: Mapping[str, Any]) -> list[str]:
    """Settings of the file for which a variable of the environment wins."""
    variables = {name.upper() for name in (*Settings.aside, *os.environ) if name.upper().startswith(VARIABLES)}
    found = []
    for key, value in given.items():
        names = [f"{key}.{inner}" for inner in value] if isinstance(value, Mapping) else [key]
        found += [name for name in names if VARIABLES + name.upper().replace(".", "__") in variables]
    return found


def _differences(now: Mapping[str, Leaf], then: Mapping[str, Leaf]) -> list[Change]:
    none = Leaf(None, "")
    found = []
    for key in dict.fromkeys((*now, *then)):
        before, after = now.get(key, none), then.get(key, none)
        if before.value != after.value and (before.value or after.value or (key in now and key in then)):
            found.append(Change(key, before.shown, after.shown))
    return found


def _files(settings: Settings) -> list[tuple[str, Path]]:
    """The files that it names, by the settings that do."""
    named: list[tuple[str, Path]] = []
    for key, leaf in leaves(settings).items():
        last = key.rpartition(".")[2]
        if last.endswith(("_file", "_files")) or key in ("trust.file", "affinity_domain.codes"):
            paths = leaf.value if isinstance(leaf.value, list | tuple) else [leaf.value] if leaf.value else []
            named += [(key, Path(path)) for path in paths]
    return named


# Files that the node makes or writes itself.
_MADE = frozenset({"sealing.key_file", "sealing.roots_file", "store.master_key_file"})


def _file_faults(key: str, path: Path, settings: Settings) -> Iterator[Fault]:
    last = key.rpartition(".")[2]
    readers: dict[str, Callable[[], object]] = {
        "trust.file": lambda: trust_of(settings),
        "affinity_domain.codes": lambda: affinity_domain(settings),
        "tls.certificate_file": lambda: load_own(server_context(), settings.tls),
    }
    read = readers.get(key)
    if read is None and last in ("ca_file", "smtp_ca_file", "tsa_ca_file"):
        read = lambda: ssl.create_default_context(cafile=path)  # noqa: E731 - as the others
    if read is None and "certificate_file" in last:
        read = lambda: x509.load_pem_x509_certificates(path.read_bytes())  # noqa: E731
    if read is None:
        if key in _MADE and not path.exists():
            return
        read = path.open("rb").close if path.exists() else path.read_bytes
    try:
        read()
    except Failure as failure:
        yield Fault(key, 0, failure.what)
    except OSError as error:
        yield Fault(key, 0, f"{path} cannot be read: {error.strerror}")
    except (ssl.SSLError, ValueError) as error:
        yield Fault(key, 0, f"{path}: {error}")


def _nodes_gone(now: Settings, then: Settings) -> list[NodeGone]:
    by_certificate = then.trust.file is not None
    found = []
    for node in now.nodes:
        same = [one for one in then.nodes if _is(one, node, by_certificate=by_certificate)]
        gone = NodeGone(
            node.name, node.repository_unique_id, (node.name, *filter(None, (node.address, node.certificate)))
        )
        if not same:
            found.append(gone)
        elif node.repository_unique_id and node.repository_unique_id not in {n.repository_unique_id for n in same}:
            found.append(NodeGone(gone.name, gone.repository, gone.called, repository_only=True))
    return found


def _is(then: NodeSettings, now: NodeSettings, *, by_certificate: bool) -> bool:
    """Whether who calls as ``now`` is let in as ``then``."""
    if by_certificate and then.certificate != now.certificate:
        return False
    return not then.address or then.address == now.address


# codes -----------------------------------------------------------------------------------------------------------


def _codes(data: bytes, now: Settings) -> Proposal:
    try:
        then = AffinityDomain.from_json(data)
    except ValueError as error:
        return Proposal(Kind.CODES, [_json_fault(data, str(error))])
    before = affinity_domain(now)
    changes = []
    for attribute, field in ATTRIBUTES.items():
        was = {(one.code, one.scheme): one.display for one in before.codes(field)}
        will = {(one.code, one.scheme): one.display for one in then.codes(field)}
        for code, scheme in dict.fromkeys((*was, *will)):
            old, new = was.get((code, scheme)), will.get((code, scheme))
            if old != new:
                changes.append(Change(f"{attribute}: {code} · {scheme}", _listed(old, code), _listed(new, code)))
        patterns = before.patterns(field), then.patterns(field)
        for scheme in dict.fromkeys((*patterns[0], *patterns[1])):
            old, new = patterns[0].get(scheme, ""), patterns[1].get(scheme, "")
            if old != new:
                changes.append(Change(f"{attribute}: {scheme}", old, new))
    for media in sorted(before.mime_types ^ then.mime_types):
        changes.append(Change("mimeType", *((media, "") if media in before.mime_types else ("", media))))
    return Proposal(Kind.CODES, changes=changes[:_CHANGES_MAX], codes=(before, then))


def _listed(display: str | None, code: str) -> str:
    return "" if display is None else display or code


def _json_fault(data: bytes, said: str) -> Fault:
    """What msgspec says: the byte of what is no JSON, or the path of what is not as it should be."""
    text, _, at = said.partition(" (byte ")
    if at.rstrip(")").isdecimal():
        return Fault("", data.count(b"\n", 0, int(at.rstrip(")"))) + 1, text)
    text, _, path = said.partition(" - at `")
    return Fault(path.rstrip("`").removeprefix("$").removeprefix("."), 0, text)


# trust -----------------------------------------------------------------------------------------------------------


def _trust(data: bytes, now: Settings, *, anywhere: bool) -> Proposal:
    folder = (now.trust.file or now.folder / "trust.json").parent
    try:
        then = parse_trust(data, folder, beside=anywhere)
    except ValueError as error:
        return Proposal(Kind.TRUST, [_json_fault(data, str(error))])
    before = trust_of(now)
    was, will = _said_of(before), _said_of(then)
    changes = [Change(key, was.get(key, ""), will.get(key, "")) for key in dict.fromkeys((*was, *will))]
    found = Proposal(Kind.TRUST, changes=[one for one in changes if one.now != one.then][:_CHANGES_MAX])
    return _with_trust(found, before, then)


def _said_of(trust: Trust) -> dict[str, str]:
    return {
        **{f"saml_issuers[{i.entity_id}]": ", ".join(map(_subject, i.certificates)) for i in trust.saml_issuers},
        **{f"oauth_clients[{c.client_id}]": " ".join(c.scopes) for c in trust.oauth_clients},
        **{f"client_cas[{_subject(each)}]": _end(each) for each in trust.client_authorities},
    }


def _with_trust(found: Proposal, now: Trust, then: Trust) -> Proposal:
    """With whom ``now`` trusts and ``then`` does not."""
    stay = {*map(_subject, then.client_authorities)}
    gone = [subject for subject in map(_subject, now.client_authorities) if subject not in stay]
    clients = {client.client_id for client in then.oauth_clients}
    issuers = {issuer.entity_id for issuer in then.saml_issuers}
    return found._replace(
        certificate_authorities=gone,
        clients=[one.client_id for one in now.oauth_clients if one.client_id not in clients],
        issuers=[one.entity_id for one in now.saml_issuers if one.entity_id not in issuers],
    )


def _subject(der: bytes) -> str:
    return x509.load_der_x509_certificate(der).subject.rfc4514_string()


def _end(der: bytes) -> str:
    certificate = x509.load_der_x509_certificate(der)
    return f"{certificate.serial_number:x}, {certificate.not_valid_after_utc:%Y-%m-%d}"

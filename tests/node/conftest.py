"""Real nodes as processes of their own, and a peer to talk to them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import browser
import mhd_bundles
import peer
import portals
import pytest
from lxml import etree

import imaging
from hearing import LOGS
from running import codes_of, maker, running

_SAID_BEFORE = pytest.StashKey[dict[Path, int]]()


@pytest.hookimpl(hookwrapper=True, tryfirst=True)
def pytest_runtest_protocol(item: pytest.Item) -> Iterator[None]:
    """How long the logs were before the test, for the hook below."""
    item.stash[_SAID_BEFORE] = {log.path: log.size for log in LOGS}
    yield


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: Any) -> Iterator[None]:
    """What the nodes said last while it ran stands beside a failure; what they said before would bury it."""
    outcome = yield
    report = outcome.get_result()
    if report.failed:
        for log in LOGS:
            said = log.read()[item.stash[_SAID_BEFORE].get(log.path, 0) :][-3000:]
            if said:
                report.sections.append((f"log of {log.path.parent.name}", said.decode("utf-8", "replace")))


@pytest.fixture(scope="session")
def _validate() -> Iterator[None]:
    """Every answer that a test gets is checked against the official schemas, where they are."""
    if not peer.XSD_FOLDER.is_dir():
        yield
        return
    schema = peer.xds_schema()

    def validate(body: Any) -> None:
        if body.tag != f"{{{peer.SOAP}}}Fault":
            assert schema.validate(body), (schema.error_log.last_error, etree.tostring(body)[:3000])

    peer.VALIDATE.append(validate)
    yield
    peer.VALIDATE.remove(validate)


@pytest.fixture(scope="session")
def lab_codes() -> Path | None:
    """The test suite's affinity domain where it is there, else the Polish one."""
    return peer.KIT_CODES if peer.KIT_CODES.exists() else None


@pytest.fixture(scope="session")
def lab(tmp_path_factory: pytest.TempPathFactory, lab_codes: Path | None, _validate: None) -> Iterator[dict[str, str]]:
    """The ready file of ``obieg lab``, one for all tests."""
    folder = tmp_path_factory.mktemp("lab")
    codes = ("--codes", lab_codes) if lab_codes else ()
    with running(folder, "lab", *codes, "--data", folder / "data") as endpoints:
        yield endpoints


@pytest.fixture(scope="session")
def node(lab: dict[str, str], lab_codes: Path | None) -> Iterator[peer.Node]:
    """A peer of the laboratory node."""
    found = peer.Node(lab, codes_of(lab_codes))
    yield found
    found.close()


@pytest.fixture(scope="session")
def polish_node(tmp_path_factory: pytest.TempPathFactory, _validate: None) -> Iterator[peer.Node]:
    """A laboratory node with the Polish affinity domain."""
    folder = tmp_path_factory.mktemp("polish-lab")
    with running(folder, "lab", "--data", folder / "data") as endpoints:
        found = peer.Node(endpoints, codes_of(None))
        yield found
        found.close()


@pytest.fixture(scope="module")
def make_node(
    tmp_path_factory: pytest.TempPathFactory, lab_codes: Path | None, _validate: None
) -> Iterator[peer.MakeNode]:
    """Starts nodes from a settings file of their own; they stop with the module."""
    with maker(tmp_path_factory, lab_codes) as make:
        yield make


@pytest.fixture(scope="module")
def mhd_node(make_node: peer.MakeNode, tmp_path_factory: pytest.TempPathFactory) -> peer.Node:
    """A node that knows the codes of IHE's examples of MHD."""
    codes = mhd_bundles.write_codes(tmp_path_factory.mktemp("codes"))
    return make_node("mhd", affinity_domain={"codes": codes})


@pytest.fixture(scope="session")
def portal(tmp_path_factory: pytest.TempPathFactory) -> Iterator[portals.Region]:
    """A region that enforces access, with people and documents of the demo, for tests of pages."""
    with maker(tmp_path_factory, None) as make:
        yield portals.Region(make("portal", module="access_node", access={"enforced": True}))


@pytest.fixture(scope="module")
def chrome() -> Iterator[Any]:
    """A browser."""
    with browser.chromium() as found:
        yield found


@pytest.fixture(scope="module")
def archive(tmp_path_factory: pytest.TempPathFactory) -> Iterator[imaging.Archive]:
    """An archive of images."""
    with imaging.archive(tmp_path_factory.mktemp("archive")) as found:
        yield found

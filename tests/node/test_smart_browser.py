"""npm ``fhirclient``, the library of SMART apps, launches in a real Chromium: standalone and out of the node's pages."""

from __future__ import annotations

import functools
import json
import shutil
import threading
from collections.abc import Iterator
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import urlencode, urlsplit

import fhir_peer
import oauth_peer
import pytest
from oauth_peer import APP, Server

playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
pytestmark = [pytest.mark.node, pytest.mark.slow]
NPM = ("fhirclient@2.6.3",)
SCOPE = "openid fhirUser launch/patient patient/*.rs offline_access"
PAGE = "<!doctype html><meta charset=utf-8><title>app</title><p id=said></p><script src=fhir-client.js></script>"
LAUNCH = (
    PAGE
    + """<script>
const given = new URLSearchParams(location.search);
FHIR.oauth2.authorize({
  clientId: "browser", redirectUri: "index.html", scope: given.get("scope") || "launch patient/*.rs openid fhirUser",
  iss: given.get("iss"), launch: given.get("launch") || undefined
}).catch(e => { document.getElementById("said").textContent = "failed: " + e.message });
</script>"""
)
INDEX = (
    PAGE
    + """<script>
const say = text => { document.getElementById("said").textContent = text };
FHIR.oauth2.ready().then(async client => {
  const patient = await client.patient.read();
  const refreshed = client.state.tokenResponse.refresh_token ? await client.refresh() : null;
  const documents = await client.request("DocumentReference?patient=" + client.patient.id);
  const other = await client.request("Patient?_id=nobody").then(() => "served", e => "refused " + e.statusCode);
  say(JSON.stringify({
    patient: patient.id, user: client.getFhirUser(), documents: documents.resourceType, other,
    refreshed: Boolean(refreshed), scope: client.state.tokenResponse.scope
  }));
}).catch(e => say("failed: " + e.message));
</script>"""
)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with oauth_peer.opened(tmp_path_factory.mktemp("smart")) as found:
        yield found


@pytest.fixture(scope="module")
def app(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """The app's own web server."""
    packages = fhir_peer.installed("smart", *NPM)
    folder = tmp_path_factory.mktemp("app")
    shutil.copy(packages / "node_modules" / "fhirclient" / "build" / "fhir-client.js", folder)
    (folder / "launch.html").write_text(LAUNCH)
    (folder / "index.html").write_text(INDEX)

    class Quiet(SimpleHTTPRequestHandler):
        def log_message(self, format: str, *args: Any) -> None:  # noqa: A002
            pass

    handler = functools.partial(Quiet, directory=str(folder))
    with ThreadingHTTPServer(("127.0.0.1", urlsplit(APP).port or 0), handler) as pages:
        thread = threading.Thread(target=pages.serve_forever, daemon=True)
        thread.start()
        yield
        pages.shutdown()
        thread.join()


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    chromium = shutil.which("chromium") or shutil.which("google-chrome")
    if chromium is None:
        pytest.skip("chromium is not installed")
    with playwright.sync_playwright() as found:
        running = found.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        yield running
        running.close()


@pytest.fixture
def page(browser: Any, server: Server) -> Iterator[Any]:
    """A window in which somebody may be logged in; what its console complains of must be nothing but expected."""
    with browser.new_context(locale="en-GB") as context:
        found = context.new_page()
        found.set_default_timeout(20_000)
        yield found


def log_in(page: Any, server: Server, who: str) -> None:
    page.context.add_cookies([{"name": "who", "value": who, "url": server.base}])


def said(page: Any) -> dict[str, Any]:
    page.wait_for_function("document.getElementById('said') && document.getElementById('said').textContent")
    text = page.text_content("#said")
    assert text.startswith("{"), text
    return dict(json.loads(text))


def test_a_standalone_launch(server: Server, app: None, page: Any) -> None:
    patient = server.patient()
    log_in(page, server, f"patient.{patient}")
    page.goto(f"{APP}/launch.html?{urlencode({'iss': server.fhir, 'scope': SCOPE})}")
    page.get_by_role("button", name="Allow", exact=True).click()
    found = said(page)
    assert found == {
        "patient": patient, "user": f"Patient/{patient}", "documents": "Bundle",
        "other": "refused 403", "refreshed": True, "scope": found["scope"],
    }  # fmt: skip
    assert set(found["scope"].split()) == set(SCOPE.split())


def test_a_launch_out_of_the_nodes_pages(server: Server, app: None, page: Any) -> None:
    patient = server.patient()
    log_in(page, server, "doctor")
    address = f"{server.url('launch')}?{urlencode({'client_id': 'browser', 'patient': patient})}"
    with page.expect_request(lambda r: r.url.startswith(f"{APP}/launch.html")) as started:
        page.goto(address)
    assert "launch=" in started.value.url
    page.get_by_role("button", name="Allow", exact=True).click()
    found = said(page)
    assert (found["patient"], found["refreshed"]) == (patient, False)


def test_a_person_who_refuses(server: Server, app: None, page: Any) -> None:
    log_in(page, server, "doctor")
    page.goto(f"{APP}/launch.html?{urlencode({'iss': server.fhir, 'scope': SCOPE})}")
    page.get_by_role("button", name="Do not allow").click()
    page.wait_for_url(f"{APP}/index.html*")
    page.wait_for_function("document.getElementById('said').textContent")
    assert "access_denied" in page.text_content("#said")


def test_the_page_obeys_its_own_policy(server: Server, app: None, page: Any) -> None:
    complaints: list[str] = []
    page.on("console", lambda message: complaints.append(message.text))
    log_in(page, server, "doctor")
    page.goto(f"{APP}/launch.html?{urlencode({'iss': server.fhir, 'scope': SCOPE})}")
    page.get_by_role("button", name="Allow", exact=True).wait_for()
    assert page.evaluate("getComputedStyle(document.body).maxWidth") != "none"
    assert [c for c in complaints if "Content Security Policy" in c] == []
    label = page.get_by_label("Identifier of the patient")
    label.fill("nobody")
    page.get_by_role("button", name="Allow", exact=True).click()
    assert page.get_by_role("alert").text_content() == "The region knows no patient of this identifier."

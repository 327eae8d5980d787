"""Debian's Chromium with a virtual authenticator, driven by Playwright."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome") or ""


@contextmanager
def chromium() -> Iterator[Any]:
    """A browser; the test is skipped, visibly, where there is none."""
    if not CHROMIUM:
        pytest.skip("no Chromium is installed: apt-get install chromium")
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield browser
        browser.close()


def authenticator(page: Any) -> Any:
    """Adds one to the page: a device of its own with a fingerprint that always fits; the CDP session."""
    session = page.context.new_cdp_session(page)
    session.send("WebAuthn.enable")
    options = {
        "protocol": "ctap2", "ctap2Version": "ctap2_1", "transport": "internal", "hasResidentKey": True,
        "hasUserVerification": True, "isUserVerified": True, "automaticPresenceSimulation": True,
    }  # fmt: skip
    session.authenticator_id = session.send("WebAuthn.addVirtualAuthenticator", {"options": options})["authenticatorId"]
    return session

"""What patients see, in a browser."""

from __future__ import annotations

from typing import Any

import portals
import pytest
from portals import expect_accessible, visiting

pytestmark = pytest.mark.node


def test_home_lists_own_documents(chrome: Any, portal: portals.Region) -> None:
    person = portal.someone
    with visiting(chrome, portal, portals.patient(person)) as visitor:
        page = visitor.go("/patient")
        assert page.get_by_role("listitem").count() > 0
        expect_accessible(page)
        visitor.expect_clean()

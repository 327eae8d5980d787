"""What a change would break, and certificates of others, as operators see them in a browser and at the command line."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import portals
import psycopg
import pytest
from axe import expect_accessible
from portals import DESK, PHONE, client, visiting
from test_pages_operator import OFFICER, OPERATOR, audited, database, letter

import commanding
import minting
from obieg.domain.affinity_domain import polish_document

pytestmark = pytest.mark.node

__all__ = ["database"]


def settings_file(portal: portals.Region) -> Path:
    return Path(portal.node.endpoints["settings"])


def codes_without(kept: str) -> bytes:
    """The Polish agreement where only one media type is left."""
    return json.dumps({**polish_document(), "mimeType": [kept]}).encode()


def send(http: Any, kind: str, data: bytes) -> Any:
    page = http.get("/operator/settings/preview", headers={"accept-language": "en"})
    csrf = re.search(r'name="csrf" value="([^"]+)"', page.text)[1]
    return http.post(
        "/operator/settings/preview", data={"csrf": csrf, "kind": kind}, files={"file": ("a", data)},
        headers={"accept-language": "en", "origin": str(http.base_url).rstrip("/")},
    )  # fmt: skip


@pytest.mark.parametrize(
    ("locale", "size", "dark"), [("pl-PL", DESK, False), ("en-GB", PHONE, True), ("uk-UA", PHONE, False)]
)
def test_a_change_is_previewed(
    chrome: Any, portal: portals.Region, database: Any, tmp_path: Path, locale: str, size: tuple[int, int], dark: bool
) -> None:
    now = settings_file(portal).read_text()
    (tmp_path / "new.toml").write_text(
        now.replace("workers = 1", "workers = 3") + '\n[[authorities]]\noid = "1.2.3.4"\nname = "OTHER"\n'
    )
    (tmp_path / "bad.toml").write_text(now.replace("workers = 1", "workers = 0\nworkerz = 1"))
    (tmp_path / "codes.json").write_bytes(codes_without("application/dicom"))
    with visiting(chrome, portal, OPERATOR, locale=locale, size=size, dark=dark) as visitor:
        page = visitor.go("/operator/settings")
        # A script that is asked of a page which is being left never answers: each page is waited for.
        with page.expect_navigation():
            page.locator('a[href="/operator/settings/preview"]').click()
        expect_accessible(page)

        def uploaded(kind: str, name: str) -> None:
            visitor.go("/operator/settings/preview")
            page.locator("#upload-kind").select_option(kind)
            page.locator("#file").set_input_files(tmp_path / name)
            with page.expect_navigation():
                page.locator('section[aria-labelledby="upload"] button').click()
            expect_accessible(page)
            assert page.locator('nav.rail [aria-current="page"]').count() == 1

        uploaded("settings", "bad.toml")
        rows = page.locator('section[aria-labelledby="faults"] tbody tr')
        line = (tmp_path / "bad.toml").read_text().splitlines().index("workers = 0") + 1
        assert re.search(rf"workers\D+{line}\b", rows.first.inner_text())
        assert "workerz" in rows.last.inner_text()
        uploaded("settings", "new.toml")
        changes = page.locator('section[aria-labelledby="changes"] tbody tr').all_inner_texts()
        assert len(changes) == 3, changes  # workers; oid and name of the authority: what is as always is not told
        assert page.locator('section[aria-labelledby="effects"]').count() == 0  # a laboratory's authorities stay open
        uploaded("codes", "codes.json")
        effects = page.locator('section[aria-labelledby="effects"] tbody tr')
        [documents] = database.execute("SELECT count(*) FROM document_entry WHERE NOT superseded").fetchone()
        assert str(documents) in effects.first.inner_text()
        assert "mimeType: " in effects.nth(1).inner_text()
        visitor.expect_clean()
    assert settings_file(portal).read_text() == now
    assert audited(database, "preview of codes sha256")


def test_what_waits_for_who_is_gone_is_counted(portal: portals.Region, database: Any, tmp_path: Path) -> None:
    settings = settings_file(portal)
    with client(portal, OFFICER) as http:
        page = http.get("/operator/settings/preview", headers={"accept-language": "en"})
        assert (page.status_code, "not for this role" in page.text) == (403, True)
        assert "/operator/settings/preview" not in http.get("/operator/settings").text
    with client(portal, OPERATOR) as http:
        same = send(http, "settings", settings.read_bytes())
        assert "Nothing differs." in same.text
        assert "Nothing that is in the database would stop working." in same.text
        other = settings.read_text().replace(portal.node.repository, "1.2.3.4").encode()
        moved = send(http, "settings", other)
        assert "no longer the repository of these documents" in moved.text
        assert send(http, "settings", b"").status_code == 400
        assert send(http, "settings", b"#" * (4 * 2**20 + 1)).status_code == 400
        assert send(http, "anything", b"a").status_code == 404
        assert "There is no such" not in send(http, "settings", b"\0").text
        trust = send(http, "trust", b'{"client_cas": "/etc/ssl/cert.pem"}')
        assert "obieg check" in trust.text
    # the same at the command line, where somebody's messages wait
    letter(database, "W")
    with_receiver = tmp_path / "settings.toml"
    dsn = f'[database]\ndsn = "{portal.node.dsn}"\n'
    base = re.sub(r"(?m)^# \[\[subscribers\]\][\s\S]*?(?=^# \[\[|^\[\[|\Z)", "", settings.read_text())
    base = re.sub(r"(?m)^# \[database\]$", dsn, base)
    base = re.sub(r'data_dir = "\."', f'data_dir = "{settings.parent}"', base)
    receiver = '\n[[subscribers]]\nname = "szpital-a"\nprotocol = "pix_v2"\naddress = "127.0.0.1:1"\n'
    with_receiver.write_text(base + receiver)
    (tmp_path / "without.toml").write_text(base)
    done = commanding.obieg("check", tmp_path / "without.toml", "--settings", with_receiver, "--json")
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    [effect] = found["effects"]
    [waiting] = database.execute("SELECT count(*) FROM outbox WHERE destination = 'szpital-a'").fetchone()
    assert (effect["what"], effect["name"], effect["number"]) == ("receiver", "szpital-a", waiting)
    (tmp_path / "without.toml").write_text(base + "\nbroken")
    done = commanding.obieg("check", tmp_path / "without.toml", "--settings", with_receiver)
    assert done.returncode == 1
    assert "would not start" in done.stdout


def test_certificates_of_others_are_shown_by_expiry(chrome: Any, portal: portals.Region, database: Any) -> None:
    def seen(direction: str, name: str, days: int, first: str) -> None:
        database.execute(
            "INSERT INTO peer_certificate (direction, fingerprint, subject, issuer, not_after, first_seen_at)"
            " VALUES (%s, sha256(%s), %s, 'CN=ca', now() + make_interval(days => %s), %s)",
            (direction, minting.identity(name).der + first.encode(), f"CN={name}", days, first),
        )

    seen("I", "szpital-b", 5, "2026-01-01")
    seen("I", "szpital-b", 400, "2026-11-01")  # it was renewed
    seen("O", "rejestr", 30, "2026-01-01")
    try:
        with visiting(chrome, portal, OPERATOR) as visitor:
            expect_accessible(visitor.go("/operator/certificates"))
        with visiting(chrome, portal, OPERATOR, script=False) as visitor:
            page = visitor.go("/operator/certificates")
            rows = page.locator("tbody tr").all_inner_texts()
            assert [row.split()[0] for row in rows] == ["CN=rejestr", "CN=szpital-b"]
            assert "Z kim łączy się ten węzeł" in rows[0]
            assert "Kończy się certyfikat innego węzła" in visitor.go("/operator").locator("main").inner_text()
            visitor.expect_clean()
    finally:
        with psycopg.connect(portal.node.dsn) as connection:
            connection.execute("DELETE FROM peer_certificate")

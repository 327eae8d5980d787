"""``obieg certs``: what it makes is believed by OpenSSL, and nothing is overwritten."""

from __future__ import annotations

import shutil
import stat
import subprocess

import pytest
from typer.testing import CliRunner

from obieg.ops.cli import app
from obieg.ops.failure import Failure

run = CliRunner().invoke


def test_what_is_made_is_verified_by_openssl(tmp_path):
    for name in ("region", "hospital"):
        made = run(app, ["certs", "make", str(tmp_path), name, "--host", "region.example.pl", "--host", "192.0.2.1"])
        assert made.exit_code == 0, made.output
        assert stat.S_IMODE((tmp_path / f"{name}.key").stat().st_mode) == 0o600
    for purpose in ("sslserver", "sslclient"):
        verify = ["openssl", "verify", "-x509_strict", "-CAfile", tmp_path / "ca.pem", "-purpose", purpose]
        done = subprocess.run(
            [*verify, "-verify_hostname", "region.example.pl", tmp_path / "region.pem", tmp_path / "hospital.pem"],
            capture_output=True, text=True, check=False,
        )  # fmt: skip
        assert done.stdout.count(": OK") == 2, done.stdout + done.stderr
    shown = run(app, ["certs", "show", str(tmp_path / "region.pem")]).output
    assert "subject      CN=region\n" in shown
    assert "in 364 days" in shown


def test_nothing_is_overwritten(tmp_path):
    run(app, ["certs", "make", str(tmp_path), "region"])
    before = (tmp_path / "region.pem").read_bytes()
    for name in ("region", "ca", "../region"):
        refused = run(app, ["certs", "make", str(tmp_path), name])
        assert isinstance(refused.exception, Failure)
    assert (tmp_path / "region.pem").read_bytes() == before


def test_what_is_no_certificate_is_said(tmp_path):
    (tmp_path / "none.pem").write_text("none")
    shown = run(app, ["certs", "show", str(tmp_path / "none.pem")])
    assert isinstance(shown.exception, Failure)
    assert "cannot be read as certificates" in str(shown.exception)


pytestmark = pytest.mark.skipif(shutil.which("openssl") is None, reason="openssl is not installed")

"""What a line of the log never says, in either format, wherever it came from."""

from __future__ import annotations

import logging

import pytest
import structlog

from obieg.ops import logs
from obieg.ops.settings import LogSettings

PLANTED = {
    "a PESEL": "44051401458",
    "a bearer token": "Bearer abcdefghijklmnop.qrst-uv",
    "basic credentials": "Basic dXNlcjpwYXNzd29yZA==",
    "a JWT": "eyJhbGciOiJub25lIn0.eyJzdWIiOiJhIn0.c2lnbmF0dXJl",
    "a DSN": "postgresql://obieg:S3cretOfDsn@db/obieg",
    "a libpq string": "host=db password=S3cretOfDsn user=obieg",
    "a client secret": '{"client_secret": "S3cretOfClient"}',
    "a private key": "-----BEGIN PRIVATE KEY-----\nMIIEvQIBADANBg\n-----END PRIVATE KEY-----",
}
SECRET = ("44051401458", "abcdefghijklmnop", "dXNlcjpwYXNz", "eyJhbGci", "S3cret", "MIIEvQ")


@pytest.mark.parametrize("form", ["json", "console"])
@pytest.mark.parametrize("what", PLANTED)
def test_masked(capsys: pytest.CaptureFixture[str], form: str, what: str) -> None:
    old = structlog.get_config()
    handlers, level = logging.root.handlers[:], logging.root.level
    try:
        logs.configure(LogSettings(format=form))
        log = structlog.get_logger("test")
        log.warning("a text", text=PLANTED[what], within={"more": [PLANTED[what]]})
        log.warning("in the event %s" % PLANTED[what])  # noqa: G002, UP031
        logging.getLogger("library").warning("of a library: %s", PLANTED[what])
        try:
            raise ValueError(PLANTED[what])
        except ValueError:
            log.exception("an exception")
    finally:
        structlog.configure(**old)
        logging.root.handlers[:] = handlers
        logging.root.setLevel(level)
    said = capsys.readouterr().err
    assert "in the event" in said
    assert "of a library" in said
    assert not [secret for secret in SECRET if secret in said], said


@pytest.mark.parametrize("form", ["json", "console"])
def test_control_characters_are_spelled(capsys: pytest.CaptureFixture[str], form: str) -> None:
    """CVE-2021-44228's little sisters: a line that forges another, and what a terminal would obey."""
    old = structlog.get_config()
    try:
        logs.configure(LogSettings(format=form))
        structlog.get_logger("test").warning("refused", said='a\r\n{"event":"forged"}\x1b[2J\u202eb\x9b')
    finally:
        structlog.configure(**old)
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    assert not {"\r", "\u202e", "\x9b", "\x1b[2J"} & {c for c in ("\r", "\u202e", "\x9b", "\x1b[2J") if c in said}

"""What the node says on standard error, as JSON or for people. Never the content of a message or a patient's name.

Whoever handles a request binds its ``request_id`` with ``structlog.contextvars``; every line said meanwhile carries it.
"""

from __future__ import annotations

import logging
import re
import sys
from typing import Any

import orjson
import structlog
from structlog.typing import EventDict, Processor

from obieg.ops.settings import LogSettings

LEVELS = {"debug": logging.DEBUG, "info": logging.INFO, "warning": logging.WARNING, "error": logging.ERROR}
_CONTROL = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069]")
_SECRETS = (
    # PESEL, and whatever else has eleven digits and stands alone.
    (re.compile(r"(?<![0-9A-Za-z])\d{11}(?![0-9A-Za-z])"), "[11 digits]"),
    (re.compile(r"(?i)\b(bearer|basic|dpop)\s+[A-Za-z0-9._~+/=-]{8,}"), r"\1 [masked]"),
    (re.compile(r"\beyJ[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+(?:\.[A-Za-z0-9_-]*)*"), "[token]"),
    (re.compile(r"(://[^\s/:@\"']*:)[^\s@\"']+@"), r"\1[masked]@"),
    (re.compile(
        r"(?i)\b(password|passwd|secret|client_secret|api_?key|access_token)"
        r"(\\?[\"']?\s*[=:]\s*\\?[\"']?)[^\s\"',;&\\]+"
    ), r"\1\2[masked]"),
    (re.compile(
        r"-----BEGIN [A-Z ]*PRIVATE KEY-----.*?(?:-----END [A-Z ]*PRIVATE KEY-----|$)", re.DOTALL
    ), "[private key]"),
)  # fmt: skip
_QUIET_LIBRARIES = ("uvicorn", "httpx", "httpcore", "asyncio", "psycopg")


def configure(settings: LogSettings, **always: Any) -> None:
    """Sends structlog's and the libraries' own lines the same way; ``always`` is added to every line."""

    def add_always(_logger: Any, _method: str, event: EventDict) -> EventDict:
        return {**always, **event}

    shared: list[Processor] = [
        structlog.contextvars.merge_contextvars,
        add_always,
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]
    masked: list[Processor] = [_mask]
    render: list[Processor] = (
        [
            structlog.dev.ConsoleRenderer(
                colors=sys.stderr.isatty(),
                exception_formatter=structlog.dev.plain_traceback,  # the other formatters print local variables
            )
        ]
        if settings.format == "console"
        else [structlog.processors.format_exc_info, structlog.processors.JSONRenderer(serializer=_json)]
    )
    structlog.configure(
        processors=[*shared, _without_control, *render, *masked],
        wrapper_class=structlog.make_filtering_bound_logger(LEVELS[settings.level]),
        logger_factory=structlog.PrintLoggerFactory(file=sys.stderr),
        cache_logger_on_first_use=True,
    )
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared,
            processors=[
                structlog.stdlib.ProcessorFormatter.remove_processors_meta,
                _without_control,
                *render,
                *masked,
            ],
        )
    )
    logging.basicConfig(handlers=[handler], level=LEVELS[settings.level], force=True)
    for name in _QUIET_LIBRARIES:
        logging.getLogger(name).setLevel(max(logging.WARNING, LEVELS[settings.level]))


def _without_control(_logger: Any, _method: str, event: EventDict) -> EventDict:
    """Texts without line ends, escapes to a terminal and marks that turn the reading direction: as they are written."""
    return {name: _spelled(value) if isinstance(value, str) else value for name, value in event.items()}


def _spelled(text: str) -> str:
    return text if text.isprintable() else _CONTROL.sub(lambda m: f"\\u{ord(m[0]):04x}", text)


def _mask(_logger: Any, _method: str, line: Any) -> Any:
    """The finished line without what nobody may read in a log: an exception may quote anything."""
    if not isinstance(line, str):
        return line
    for pattern, instead in _SECRETS:
        line = pattern.sub(instead, line)
    return line


def _json(event: EventDict, default: Any = str, **_ignored: Any) -> str:
    return orjson.dumps(event, default=default).decode()

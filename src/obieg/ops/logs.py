"""What the node says on standard error, as JSON or for people. Never the content of a message or a patient's name.

Whoever handles a request binds its ``request_id`` with ``structlog.contextvars``; every line said meanwhile carries it.
"""

from __future__ import annotations

import logging
import sys
from typing import Any

import orjson
import structlog
from structlog.typing import EventDict, Processor

from obieg.ops.settings import LogSettings

LEVELS = {"debug": logging.DEBUG, "info": logging.INFO, "warning": logging.WARNING, "error": logging.ERROR}
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
        processors=[*shared, *render],
        wrapper_class=structlog.make_filtering_bound_logger(LEVELS[settings.level]),
        logger_factory=structlog.PrintLoggerFactory(file=sys.stderr),
        cache_logger_on_first_use=True,
    )
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared,
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, *render],
        )
    )
    logging.basicConfig(handlers=[handler], level=LEVELS[settings.level], force=True)
    for name in _QUIET_LIBRARIES:
        logging.getLogger(name).setLevel(max(logging.WARNING, LEVELS[settings.level]))


def _json(event: EventDict, default: Any = str, **_ignored: Any) -> str:
    return orjson.dumps(event, default=default).decode()

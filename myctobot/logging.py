"""Logging: one line an entry, for people on the embedded stack, and as JSON elsewhere."""

from __future__ import annotations

import logging
import logging.config
from typing import Any

import structlog

_SHARED: list[structlog.typing.Processor] = [
    structlog.contextvars.merge_contextvars,
    structlog.stdlib.add_logger_name,
    structlog.stdlib.add_log_level,
    structlog.processors.TimeStamper(fmt="iso", utc=True),
    structlog.processors.StackInfoRenderer(),
]


def logging_config(*, json_lines: bool, level: str) -> dict[str, Any]:
    """Build the dictionary for ``logging.config.dictConfig``.

    Args:
        json_lines: whether entries are JSON; otherwise aligned text.
        level: level of the product's loggers, such as ``INFO``.
    """
    renderer: structlog.typing.Processor = (
        structlog.processors.JSONRenderer() if json_lines else structlog.dev.ConsoleRenderer(colors=False)
    )
    # The console renderer formats tracebacks itself.
    exceptions: list[structlog.typing.Processor] = [structlog.processors.format_exc_info] if json_lines else []
    return {
        "version": 1,
        "disable_existing_loggers": False,
        "formatters": {
            "line": {
                "()": structlog.stdlib.ProcessorFormatter,
                "foreign_pre_chain": _SHARED,
                "processors": [structlog.stdlib.ProcessorFormatter.remove_processors_meta, *exceptions, renderer],
            }
        },
        "handlers": {"stderr": {"class": "logging.StreamHandler", "formatter": "line"}},
        "root": {"handlers": ["stderr"], "level": "WARNING"},
        "loggers": {
            **{name: {"level": level} for name in ("myctobot", "jobs", "shards", "celery", "uvicorn")},
            # The reverse proxy logs requests.
            "uvicorn.access": {"level": "WARNING"},
            "httpx": {"level": "WARNING"},
            # Beat schedules a round each second.
            "celery.beat": {"level": "WARNING"},
            "celery.app.trace": {"level": "WARNING"},
            "celery.worker.strategy": {"level": "WARNING"},
        },
    }


def configure(config: dict[str, Any]) -> None:
    """Set up logging and structlog together; Django calls this with ``settings.LOGGING``."""
    # No format uses the caller, thread or process, and finding the caller takes as long as writing the line.
    # Source: https://docs.python.org/3/howto/logging.html#optimization
    logging._srcfile = None
    logging.logThreads = logging.logProcesses = logging.logMultiprocessing = False
    logging.config.dictConfig(config)
    structlog.configure(
        processors=[
            structlog.stdlib.filter_by_level,
            *_SHARED,
            structlog.stdlib.ProcessorFormatter.wrap_for_formatter,
        ],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
        cache_logger_on_first_use=True,
    )

"""Remote control of one shard's worker through Celery: connectivity test, log tail and refresh.

Only operators use it, and nothing depends on an answer. Answers come from a shard, so they are bounded and redacted.
Every shard can read these commands and could answer for another one. An answer under another name is rejected; a forged
name could only mislead an operator.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

import structlog
from kombu.exceptions import OperationalError
from redis import RedisError

from myctobot.celery import app
from myctobot.contract.redaction import Redactor
from myctobot.messaging import broadcast_to_shard, send_to_control, worker_pattern
from shards.errors import NoAnswer
from shards.models import Shard

log = structlog.get_logger(__name__)

ANSWER_WITHIN_S: Final = 3.0
MAX_LINES: Final = 1000
_MAX_LINE: Final = 2000
_MAX_LIST: Final = 64


@dataclass(frozen=True)
class ConfigurationCheck:
    """Comparison of one setting: the configured value and the value that the worker reports."""

    name: str
    configured: str
    reported: str

    @property
    def is_same(self) -> bool:
        return self.configured == self.reported


@dataclass(frozen=True)
class Connectivity:
    """Result of a connectivity test.

    Attributes:
        round_trip_ms: duration of the ping; None without an answer in time.
        problem: a sentence about what failed, or empty.
        compared: configured and reported settings.
        running: jobs that its runners execute.
    """

    round_trip_ms: float | None
    problem: str = ""
    compared: tuple[ConfigurationCheck, ...] = ()
    running: tuple[str, ...] = ()

    @property
    def reachable(self) -> bool:
        return self.round_trip_ms is not None

    @property
    def agrees(self) -> bool:
        return all(each.is_same for each in self.compared)


def connectivity(shard: Shard) -> Connectivity:
    """Ping a shard's worker and compare its settings with the configuration. Takes at most 6 s."""
    began = time.monotonic()
    try:
        _call(shard, "ping")
        took_ms = (time.monotonic() - began) * 1000
        reported = _call(shard, "capabilities")
    except NoAnswer as error:
        return Connectivity(None, error.message)
    if not isinstance(reported, Mapping):
        return Connectivity(took_ms, "The worker answers, but does not report its settings: its version differs.")
    running = tuple(_texts(reported.get("running")))
    return Connectivity(took_ms, compared=_compare(shard, reported), running=running)


def tail_log(shard: Shard, lines: int) -> list[str]:
    """Return the last lines of the worker's log, oldest first.

    Raises:
        NoAnswer: there is no answer within 3 s.
    """
    answer = _call(shard, "tail_log", lines=max(1, min(lines, MAX_LINES)))
    return _texts(answer, maximum=lines, length=_MAX_LINE)


def _compare(shard: Shard, reported: Mapping[str, Any]) -> tuple[ConfigurationCheck, ...]:
    servers = {**(shard.template.mcp_servers if shard.template else {}), **shard.mcp_servers}
    rows = [
        ConfigurationCheck("name", shard.name, _text(reported.get("shard"))),
        ConfigurationCheck("type", shard.shard_type, _text(reported.get("type"))),
        ConfigurationCheck("capabilities", ", ".join(sorted(shard.capabilities)), _list(reported.get("capabilities"))),
        ConfigurationCheck("slots", str(shard.max_concurrent_jobs), _text(reported.get("slots"))),
    ]
    if servers:
        rows.append(ConfigurationCheck("MCP servers", ", ".join(sorted(servers)), _list(reported.get("mcp_servers"))))
    return tuple(rows)


def _call(shard: Shard, command: str, **arguments: Any) -> Any:
    """Send a command to one worker and return its answer.

    Raises:
        NoAnswer: the worker did not answer, another shard answered, or the broker is down.
    """
    try:
        answers = app.control.broadcast(
            command,
            arguments=arguments or None,
            reply=True,
            timeout=ANSWER_WITHIN_S,
            limit=1,
            pattern=worker_pattern(shard.name),
            matcher="glob",  # type: ignore[arg-type]  # the stubs are wrong: the name goes over the wire
        )
    except (OperationalError, RedisError, OSError) as error:
        log.warning("broker.unreachable", command=command, shard=shard.name, error=str(error))
        raise NoAnswer("The broker cannot be reached, so no shard can answer.") from error
    if not answers:
        raise NoAnswer(f"Shard {shard.name} did not answer within {ANSWER_WITHIN_S:g} s.")
    ((worker, answer),) = list(answers[0].items())[:1] or [("", None)]
    if not str(worker).startswith(f"shard-{shard.name}@"):
        log.error("shard.forged_answer", shard=shard.name, answered=str(worker)[:80])
        raise NoAnswer(f"“{str(worker)[:80]}” answered in place of shard {shard.name}. Do not trust it.")
    return answer


def _texts(values: Any, maximum: int = _MAX_LIST, length: int = 200) -> list[str]:
    # A worker reports an error as an object instead of a list.
    return [_text(value, length) for value in values[-maximum:]] if isinstance(values, list) else []


def _list(values: Any) -> str:
    return ", ".join(sorted(_texts(values)))


def _text(value: Any, length: int = 200) -> str:
    return str(Redactor().redact(str(value)[:length])) if value is not None else "(not reported)"


def notify_activation(shard_name: str) -> None:
    """Notify the worker of an activated spare and start a dispatch round, so that jobs start at once.

    Without the notification, both happen within seconds.
    """
    request_refresh(shard_name)
    send_to_control("jobs.dispatch_round")


def request_refresh(shard_name: str) -> None:
    """Ask a shard's worker to fetch its orders now instead of with its next heartbeat."""
    broadcast_to_shard(shard_name, "refresh")

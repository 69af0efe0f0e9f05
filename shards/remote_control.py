"""Asking one shard's worker, by Celery's remote control: is it there, what does it offer, what does its log say.

For operators alone; nothing depends on an answer. What comes back is a shard's word: it is bounded and cleaned before
anybody sees it. Every shard can read what is asked here, and could answer in another's place; that is noticed where the
answer bears another name, and costs an operator a wrong look at most.
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
from myctobot.contract.jobs import Cleaner
from shards.errors import NoAnswer
from shards.models.shard import Shard

log = structlog.get_logger(__name__)

ANSWER_WITHIN_S: Final = 3.0
MOST_LINES: Final = 1000
_MOST_LINE: Final = 2000
_MOST_LIST: Final = 64


@dataclass(frozen=True)
class Difference:
    """One thing that the shard says of itself, beside what is configured for it here."""

    what: str
    configured: str
    reported: str

    @property
    def is_same(self) -> bool:
        return self.configured == self.reported


@dataclass(frozen=True)
class Connectivity:
    """What came of asking a shard.

    Attributes:
        round_trip_ms: of the ping; None when nothing came back in time.
        problem: why there is no answer, in a sentence; empty when there is one.
        compared: what the worker says of itself and what is configured.
        running: jobs that its runners carry.
    """

    round_trip_ms: float | None
    problem: str = ""
    compared: tuple[Difference, ...] = ()
    running: tuple[str, ...] = ()

    @property
    def reachable(self) -> bool:
        return self.round_trip_ms is not None

    @property
    def agrees(self) -> bool:
        return all(each.is_same for each in self.compared)


def connectivity(shard: Shard) -> Connectivity:
    """Ping a shard's worker and compare what it offers with what is configured. Takes 6 s at most."""
    began = time.monotonic()
    try:
        _ask(shard, "ping")
        took_ms = (time.monotonic() - began) * 1000
        offered = _ask(shard, "capabilities")
    except NoAnswer as error:
        return Connectivity(None, error.message)
    if not isinstance(offered, Mapping):
        return Connectivity(took_ms, "Its worker answers, but does not say what it offers: it is of another version.")
    running = tuple(_texts(offered.get("running")))
    return Connectivity(took_ms, compared=_compare(shard, offered), running=running)


def tail_log(shard: Shard, lines: int) -> list[str]:
    """The last lines of its worker's log, oldest first.

    Raises:
        NoAnswer: within 3 s.
    """
    answer = _ask(shard, "tail_log", lines=max(1, min(lines, MOST_LINES)))
    return _texts(answer, most=lines, length=_MOST_LINE)


def _compare(shard: Shard, offered: Mapping[str, Any]) -> tuple[Difference, ...]:
    servers = {**(shard.template.mcp_servers if shard.template else {}), **shard.mcp_servers}
    rows = [
        Difference("name", shard.name, _text(offered.get("shard"))),
        Difference("type", shard.shard_type, _text(offered.get("type"))),
        Difference("capabilities", ", ".join(sorted(shard.capabilities)), _list(offered.get("capabilities"))),
        Difference("slots", str(shard.max_concurrent_jobs), _text(offered.get("slots"))),
    ]
    if servers:
        rows.append(Difference("MCP servers", ", ".join(sorted(servers)), _list(offered.get("mcp_servers"))))
    return tuple(rows)


def _ask(shard: Shard, command: str, **arguments: Any) -> Any:
    """Send a command to one worker and return its answer.

    Raises:
        NoAnswer: none came, another shard answered instead, or the broker is away.
    """
    try:
        answers = app.control.broadcast(
            command,
            arguments=arguments or None,
            reply=True,
            timeout=ANSWER_WITHIN_S,
            limit=1,
            # Its worker's whole name has that of its host, which nobody here knows.
            pattern=f"shard-{shard.name}@*",
            matcher="glob",  # type: ignore[arg-type]  # the stubs are wrong: the name goes over the wire
        )
    except (OperationalError, RedisError, OSError) as error:
        log.warning("broker.unreachable", wanted=command, shard=shard.name, error=str(error))
        raise NoAnswer("The broker cannot be reached, so no shard can be asked.") from error
    if not answers:
        raise NoAnswer(f"Shard {shard.name} did not answer within {ANSWER_WITHIN_S:g} s.")
    ((worker, answer),) = list(answers[0].items())[:1] or [("nobody", None)]
    if not str(worker).startswith(f"shard-{shard.name}@"):
        log.error("shard.wrong_answer", asked=shard.name, answered=str(worker)[:80])
        raise NoAnswer(f"“{str(worker)[:80]}” answered in the place of shard {shard.name}; do not trust it.")
    return answer


def _texts(values: Any, most: int = _MOST_LIST, length: int = 200) -> list[str]:
    # An error is an object here, where a list is expected.
    return [_text(value, length) for value in values[-most:]] if isinstance(values, list) else []


def _list(values: Any) -> str:
    return ", ".join(sorted(_texts(values)))


def _text(value: Any, length: int = 200) -> str:
    return str(Cleaner().clean(str(value)[:length])) if value is not None else "(not said)"

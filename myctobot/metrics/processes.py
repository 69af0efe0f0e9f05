"""Resource use of the web processes. A scrape reaches one of them, so each reports to the broker."""

from __future__ import annotations

import json
import os
import socket
import time
from collections.abc import Iterator
from functools import cache
from typing import Any, Final, cast

import psutil
import structlog
from django.conf import settings
from prometheus_client.core import Metric
from redis import Redis, RedisError

from myctobot.lib.prometheus import MAX_VALUES, counter, gauge
from myctobot.lib.repeating_thread import RepeatingThread

log = structlog.get_logger(__name__)

_KEY: Final = "myctobot:processes"
_EVERY_S: Final = 10.0
# A process that missed six reports has ended.
_GONE_AFTER_S: Final = 60.0
_GAUGES: Final = (
    ("process_resident_memory_bytes", "Memory in use.", "memory"),
    ("process_open_fds", "Open file descriptors.", "files"),
    ("process_threads", "Threads.", "threads"),
    ("process_start_time_seconds", "Start time, in seconds since 1970.", "began"),
)


def process_reporter() -> RepeatingThread:
    """Return the thread that reports this process every few seconds."""
    return RepeatingThread("process-metrics", _report_if_possible, _EVERY_S)


def _report_if_possible() -> None:
    try:
        report()
    except RedisError as error:
        log.debug("broker.unreachable", wanted="metrics of this process", error=str(error))


def report() -> None:
    """Report this process now."""
    process = psutil.Process()
    cpu = process.cpu_times()
    figures = {
        "at": time.time(),
        "cpu": cpu.user + cpu.system,
        "memory": process.memory_info().rss,
        "files": process.num_fds(),
        "threads": process.num_threads(),
        "began": process.create_time(),
    }
    _redis().hset(_KEY, f"{socket.gethostname()}:{os.getpid()}", json.dumps(figures))


def collect() -> Iterator[Metric]:
    """Yield the metric families of web processes; none if the broker cannot be reached."""
    try:
        known = _known()
    except RedisError:
        return
    cpu = {name: figures["cpu"] for name, figures in known.items()}
    yield counter("process_cpu_seconds", "Processor time of web processes.", ["process"], cpu)
    for name, text, field in _GAUGES:
        yield gauge(name, text, ["process"], [((process,), figures[field]) for process, figures in known.items()])


def _known() -> dict[str, dict[str, Any]]:
    reports = cast(dict[bytes, bytes], _redis().hgetall(_KEY))
    found = {name.decode(): json.loads(value) for name, value in reports.items()}
    gone = [name for name, figures in found.items() if time.time() - figures["at"] > _GONE_AFTER_S]
    if gone:
        _redis().hdel(_KEY, *gone)
    return {name: found[name] for name in sorted(found.keys() - set(gone))[:MAX_VALUES]}


@cache
def _redis() -> Redis:
    return Redis.from_url(settings.REDIS_URL, socket_timeout=2, socket_connect_timeout=2)

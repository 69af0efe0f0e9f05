"""Sentences about why a job waits, and a monitor that prints them."""

from __future__ import annotations

import threading
import time
from collections.abc import Mapping
from types import TracebackType
from typing import Any, Final

from myctobot.cli.api import Api, Notify
from myctobot.cli.errors import CliError
from myctobot.contract.jobs import JobStatus

_QUEUED_EVERY_S: Final = 2.0
# A running job may return to the queue when its shard is lost.
_RUNNING_EVERY_S: Final = 20.0
# Every job has these codes for a moment, so they do not explain a wait.
_MOMENTARY: Final = frozenset({"next", "dispatched"})
# A job with these codes would be refused.
_IMPOSSIBLE: Final = frozenset({"capability_missing", "no_shard"})


def waiting_sentence(job: Mapping[str, Any]) -> str | None:
    """Return why a job waits and how long it may; None when it does not wait or has just begun to."""
    waiting = job.get("waiting")
    if job["status"] != JobStatus.QUEUED or not waiting or waiting["code"] in _MOMENTARY:
        return None
    estimate_s = waiting.get("estimated_wait_s")
    estimate = "" if estimate_s is None else f" It may start in {approximate_duration(estimate_s)}."
    return f"{waiting['reason']}{estimate}"


def estimate_sentence(waiting: Mapping[str, Any]) -> str:
    """Return when a new job would start, and why it would wait."""
    if waiting["code"] == "next":
        return "It would start at once."
    if waiting["code"] in _IMPOSSIBLE:
        return f"It could not start. {waiting['reason']}"
    estimate_s = waiting["estimated_wait_s"]
    when = "It would wait." if estimate_s is None else f"It would start in {approximate_duration(estimate_s)}."
    return f"{when} {waiting['reason']}"


def approximate_duration(seconds: float) -> str:
    """Return a duration in words."""
    if seconds < 1:
        return "a moment"
    if seconds < 90:
        return f"about {seconds:.0f} s"
    return f"about {seconds / 60:.0f} min" if seconds < 5400 else f"about {seconds / 3600:.1f} h".replace(".0 ", " ")


class WaitMonitor:
    """Thread that reads the job while no event arrives, and reports why it waits.

    Args:
        api: client of the API.
        job: last known state of the job.
        notify: called with a sentence each time the reason changes.
        interval_s: seconds between two reads of a waiting job.
    """

    def __init__(self, api: Api, job: Mapping[str, Any], notify: Notify, interval_s: float = _QUEUED_EVERY_S) -> None:
        self._api = api
        self._job = job
        self._notify = notify
        self._interval_s = interval_s
        self._last_reason = ""
        self._last_event_at = time.monotonic()
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="waiting", daemon=True)

    def __enter__(self) -> WaitMonitor:
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        # Do not join the thread: it may be in a call, and it prints nothing after this.
        self._stopped.set()

    def event_received(self) -> None:
        """Record that an event arrived."""
        self._last_event_at = time.monotonic()

    def _watch(self) -> None:
        while not self._stopped.wait(self._interval()):
            if time.monotonic() - self._last_event_at < self._interval():
                continue
            try:
                self._job = self._api.read(str(self._job["id"]), tries=1)
            except (CliError, RuntimeError):
                # The follower reports errors. httpx raises RuntimeError when the client was closed during the call.
                continue
            self._notify_on_change(waiting_sentence(self._job))

    def _interval(self) -> float:
        return self._interval_s if self._job["status"] == JobStatus.QUEUED else _RUNNING_EVERY_S

    def _notify_on_change(self, sentence: str | None) -> None:
        # The estimate changes all the time, so only a new reason is reported.
        reason = str(self._job["waiting"]["reason"]) if sentence else ""
        if sentence and reason != self._last_reason and not self._stopped.is_set():
            self._notify(sentence)
        self._last_reason = reason

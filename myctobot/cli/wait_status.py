"""Says why a job waits, while its stream has nothing to say."""

from __future__ import annotations

import threading
import time
from collections.abc import Mapping
from types import TracebackType
from typing import Any, Final

from myctobot.cli.api import Api, Tell
from myctobot.cli.errors import CliError
from myctobot.contract.jobs import JobStatus

_QUEUED_EVERY_S: Final = 2.0
# A job that runs may come back to the queue when its shard is lost.
_RUNNING_EVERY_S: Final = 20.0
# Every job is in these for a moment; they say nothing about why one waits.
_PASSING: Final = frozenset({"next", "dispatched"})
# For these a job would be refused.
_NEVER: Final = frozenset({"capability_missing", "no_shard"})


def waiting_sentence(job: Mapping[str, Any]) -> str | None:
    """Why the job waits, and how long it may; None when it does not, or has only just begun to."""
    waiting = job.get("waiting")
    if job["status"] != JobStatus.QUEUED or not waiting or waiting["code"] in _PASSING:
        return None
    estimate_s = waiting.get("estimated_wait_s")
    return str(waiting["reason"]) + ("" if estimate_s is None else f" It may start in {rough_time(estimate_s)}.")


def estimate_sentence(waiting: Mapping[str, Any]) -> str:
    """When a job would start that is not submitted yet, and why not at once."""
    if waiting["code"] == "next":
        return "It would start at once."
    if waiting["code"] in _NEVER:
        return f"It could not start. {waiting['reason']}"
    estimate_s = waiting["estimated_wait_s"]
    when = "It would wait." if estimate_s is None else f"It would start in {rough_time(estimate_s)}."
    return f"{when} {waiting['reason']}"


def rough_time(seconds: float) -> str:
    """A time as one would say it."""
    if seconds < 1:
        return "a moment"
    if seconds < 90:
        return f"about {seconds:.0f} s"
    return f"about {seconds / 60:.0f} min" if seconds < 5400 else f"about {seconds / 3600:.1f} h".replace(".0 ", " ")


class WaitingWatch:
    """Asks for the job from a thread of its own, while no event comes.

    Args:
        api: where the job is.
        job: as it was read last.
        tell: hears why it waits, each time the reason changes.
        every_s: between two looks at a waiting job, seconds.
    """

    def __init__(self, api: Api, job: Mapping[str, Any], tell: Tell, every_s: float = _QUEUED_EVERY_S) -> None:
        self._api = api
        self._job = job
        self._tell = tell
        self._every_s = every_s
        self._told = ""
        self._heard_at = time.monotonic()
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="waiting", daemon=True)

    def __enter__(self) -> WaitingWatch:
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        # Not waited for: it may be in the middle of a call, and nobody hears it any more.
        self._over.set()

    def heard(self) -> None:
        """Take note that an event came."""
        self._heard_at = time.monotonic()

    def _watch(self) -> None:
        while not self._over.wait(self._interval()):
            if time.monotonic() - self._heard_at < self._interval():
                continue
            try:
                self._job = self._api.read(str(self._job["id"]), tries=1)
            except (CliError, RuntimeError):
                # The stream says what is wrong. httpx calls a client that was closed meanwhile a RuntimeError.
                continue
            self._say(waiting_sentence(self._job))

    def _interval(self) -> float:
        return self._every_s if self._job["status"] == JobStatus.QUEUED else _RUNNING_EVERY_S

    def _say(self, sentence: str | None) -> None:
        # The estimate changes each time, and is no news by itself.
        reason = str(self._job["waiting"]["reason"]) if sentence else ""
        if sentence and reason != self._told and not self._over.is_set():
            self._tell(sentence)
        self._told = reason

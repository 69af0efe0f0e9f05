"""Thread that repeats a step for as long as its process lives."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

import structlog

log = structlog.get_logger(__name__)


class RepeatingThread:
    """Thread that starts once and repeats a step. An error of the step is logged, and the next step follows.

    Args:
        every_s: seconds between two steps.
    """

    def __init__(self, name: str, step: Callable[[], None], every_s: float) -> None:
        self._name, self._step, self._every_s = name, step, every_s
        self._started = False
        self._lock = threading.Lock()

    def start(self) -> None:
        """Start the thread; further calls do nothing."""
        if self._started:
            return
        with self._lock:
            if not self._started:
                self._started = True
                threading.Thread(target=self._run, name=self._name, daemon=True).start()

    def _run(self) -> None:
        while True:
            try:
                self._step()
            except Exception:  # the thread must outlive an outage of what its step needs
                log.exception("thread.step_failed", thread=self._name)
            time.sleep(self._every_s)

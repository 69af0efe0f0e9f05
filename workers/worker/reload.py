"""Reload on SIGHUP: the worker restarts in the same process with the current code and configuration.

Runners continue, because each is a process of its own and the new worker adopts it. A shard is therefore upgraded
without ending a job, and a supervisor of the worker's process (systemd, the stack) does not notice.
"""

from __future__ import annotations

import logging
import os
import signal
import sys
import threading
import time
from collections.abc import Callable

log = logging.getLogger(__name__)

# The worker polls the broker every second. After this time, a message that it took is with its runner.
_SETTLE_S = 2.0


class Reload:
    """Restart of the worker, which happens once however many signals arrive.

    Args:
        stop_consuming: stops taking messages; runners continue.
        is_settled: tells whether every message that was taken has its runner.
    """

    def __init__(self, stop_consuming: Callable[[], None], is_settled: Callable[[], bool]) -> None:
        self._stop_consuming, self._is_settled = stop_consuming, is_settled
        self._begun = threading.Event()

    def listen(self) -> None:
        """Handle SIGHUP from now on, because Celery's own handler would wait for the jobs to end."""
        signal.signal(signal.SIGHUP, lambda *_: self._begin())

    def _begin(self) -> None:
        if not self._begun.is_set():
            self._begun.set()
            threading.Thread(target=self._run, name="reload").start()

    def _run(self) -> None:
        log.info("restarting; runners continue")
        self._stop_consuming()
        time.sleep(_SETTLE_S)
        while not self._is_settled():
            time.sleep(0.1)
        # Exec closes the sockets and pipes of this program and keeps its child processes.
        os.execv(sys.executable, [sys.executable, *sys.orig_argv[1:]])  # noqa: S606  # the worker's own program

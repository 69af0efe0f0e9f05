"""SIGHUP: a worker begins anew in the same process, with the code and the configuration as they are now.

Its runners are not asked: each is a process of its own, and the new worker adopts it. So a shard is upgraded without
the end of a job, and whoever watches the worker's process (systemd, the stack) sees none of it.
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

# A message that was taken from the broker by then is with its runner: the broker is asked in steps of a second.
_SETTLE_S = 2.0


class Reload:
    """Does so once, whatever number of signals come.

    Args:
        let_go: takes no more messages, and leaves the runners at work.
        is_settled: whether every message that was taken has its runner.
    """

    def __init__(self, let_go: Callable[[], None], is_settled: Callable[[], bool]) -> None:
        self._let_go, self._is_settled = let_go, is_settled
        self._begun = threading.Event()

    def listen(self) -> None:
        """From now on SIGHUP means this. Celery's own handler would wait for the ends of the jobs."""
        signal.signal(signal.SIGHUP, lambda *_: self._begin())

    def _begin(self) -> None:
        if not self._begun.is_set():
            self._begun.set()
            threading.Thread(target=self._run, name="reload").start()

    def _run(self) -> None:
        log.info("beginning anew; runners stay at work")
        self._let_go()
        time.sleep(_SETTLE_S)
        while not self._is_settled():
            time.sleep(0.1)
        # Sockets and pipes of this program close themselves; its children stay its children.
        os.execv(sys.executable, [sys.executable, *sys.orig_argv[1:]])  # noqa: S606  # ourselves

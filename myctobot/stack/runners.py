"""Job runners that the stack must stop at its end.

A runner outlives its Celery worker by design, so the end of the workers does not stop it. Each runner has a file
``<home>/shards/<name>/run/<name>.json`` with at least ``pid`` and ``start_time`` (field 22 of
proc_pid_stat(5)).
"""

from __future__ import annotations

import signal
import time

from myctobot.stack.home import Home, read_json
from myctobot.stack.processes import ProcessId, wait_until_gone

GRACE_S = 8.0
_KILL_WAIT_S = 2.0


def live_runners(home: Home) -> list[ProcessId]:
    """Return the runners that are alive; skip pids that the kernel has given to other processes."""
    found = []
    for path in home.shards.glob("*/run/*.json"):
        record = read_json(path)
        try:
            runner = ProcessId(int(record["pid"]), int(record["start_time"]))
        except (TypeError, KeyError, ValueError):
            continue
        if runner.is_alive():
            found.append(runner)
    return found


def stop_runners(home: Home, grace_s: float = GRACE_S) -> int:
    """Ask all runners to end while the control plane can still receive their reports, then kill the rest.

    Returns:
        Number of runners that had to be killed.
    """
    first = live_runners(home)
    for runner in first:
        runner.signal(signal.SIGTERM)
    deadline = time.monotonic() + grace_s
    still_alive = wait_until_gone(first, grace_s)
    # A runner may have started after the first list was read.
    late = [runner for runner in live_runners(home) if runner not in first]
    for runner in late:
        runner.signal(signal.SIGTERM)
    still_alive += wait_until_gone(late, max(0.0, deadline - time.monotonic()))
    for runner in still_alive:
        runner.kill_session()
    wait_until_gone(still_alive, _KILL_WAIT_S)
    return len(still_alive)

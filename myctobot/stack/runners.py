"""Job runners at the end of the stack.

A runner outlives its Celery worker by design, so stopping the workers does not stop it. Each has a file
``<home>/shards/<name>/run/<something>.json`` with at least ``pid`` and ``start_time`` (field 22 of
proc_pid_stat(5)).
"""

from __future__ import annotations

import signal
import time

from myctobot.stack.home import Home, read_json
from myctobot.stack.processes import ProcessId, wait_gone

GRACE_S = 8.0
_KILL_WAIT_S = 2.0


def live_runners(home: Home) -> list[ProcessId]:
    """The runners that are alive now; a number that another process has by now is not one."""
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
    """Ask all runners to end, while the control plane still hears their reports; kill those that do not.

    Returns:
        How many had to be killed.
    """
    asked = live_runners(home)
    for runner in asked:
        runner.signal(signal.SIGTERM)
    deadline = time.monotonic() + grace_s
    stubborn = wait_gone(asked, grace_s)
    # One that was being started in the meantime.
    late = [runner for runner in live_runners(home) if runner not in asked]
    for runner in late:
        runner.signal(signal.SIGTERM)
    stubborn += wait_gone(late, max(0.0, deadline - time.monotonic()))
    for runner in stubborn:
        runner.kill_session()
    wait_gone(stubborn, _KILL_WAIT_S)
    return len(stubborn)

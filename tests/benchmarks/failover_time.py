"""Time from the loss of a whole shard until its job runs on another shard, with the default settings."""

from __future__ import annotations

import os
import signal
import time
from contextlib import ExitStack
from datetime import datetime
from pathlib import Path
from tempfile import TemporaryDirectory

from celery import Celery

from myctobot.contract.limits import LOST_AFTER_S
from tests.acceptance.client import Client
from tests.benchmarks.failover_app import QUEUE, TASK
from tests.benchmarks.peers import bare_celery, broker_url
from tests.benchmarks.result import Result
from tests.benchmarks.shard import SCRIPTS, wait_for
from tests.stacks import RunningStack, running_stack
from workers.runner_registry import Registry
from workers.sandbox import process_tree

# The worker reports the lost runner, or it counts as lost after 90 s. A pause, a round and a start follow.
TARGET_S = LOST_AFTER_S + 15
_LONG_S = 4 * LOST_AFTER_S
_WORKER = ("-m", "celery", "-A", "tests.benchmarks.failover_app", "worker", "--pool=solo", "--loglevel=INFO")


def measure() -> Result:
    """Kill a shard's worker, runner and agent at once, and a bare worker too; time both restarts."""
    with ExitStack() as opened:
        folder = Path(opened.enter_context(TemporaryDirectory(prefix="benchmark-")))
        environ = {"GATEWAY_SCRIPTS": str(SCRIPTS), "LOCAL_SHARD_SLOTS": "1"}
        stack = opened.enter_context(running_stack(folder / "home", "--shards", "2", environ=environ))
        client = opened.enter_context(Client(stack))
        workers = [opened.enter_context(bare_celery(stack, _WORKER)) for _ in range(2)]
        job_id = client.submit({"prompt": f"RUN: sleep {_LONG_S}"})
        client.wait_event(job_id, "tool.call")
        bare_killed_at = _kill_bare_worker(stack, folder, [worker.pid for worker in workers])
        killed_at = _kill_shard(stack, client.job(job_id)["attempts"][0]["shard"])
        again = client.wait(job_id, lambda job: job["attempts"][-1]["number"] == 2 and bool(job["phase"]), _LONG_S)
        first, second = again["attempts"][0], again["attempts"][-1]
        client.wait(job_id, lambda job: job["phase"] == "agent", 60)
        at_work_s = time.time() - killed_at
        peer_s = _wait_second_start(folder) - bare_killed_at
        (folder / "starts.stop").touch()
        client.cancel(job_id)
        client.wait_end(job_id)
    claimed_s = datetime.fromisoformat(second["claimed_at"]).timestamp() - killed_at
    return Result(
        "failover_time",
        round(at_work_s, 1),
        "s",
        round(peer_s, 1),
        TARGET_S,
        {
            "unit": "from SIGKILL of worker, runner and agent to the agent at work on the other shard",
            "claimed_s": round(claimed_s, 1),
            "from_shard": first["shard"],
            "to_shard": second["shard"],
            "peer": f"bare Celery, acks_late, visibility timeout {LOST_AFTER_S} s instead of an hour",
        },
    )


def _kill_bare_worker(stack: RunningStack, folder: Path, pids: list[int]) -> float:
    starts = folder / "starts"
    starts.mkdir()
    with Celery("client", broker=broker_url(stack), set_as_current=False) as app:
        app.send_task(TASK, args=[str(starts)], queue=QUEUE, ignore_result=True)
    holder = wait_for(
        lambda: next((int(path.name.partition(".")[0]) for path in starts.iterdir()), None),
        "its start",
    )
    assert holder in pids
    os.kill(holder, signal.SIGKILL)
    return time.time()


def _wait_second_start(folder: Path) -> float:
    def second() -> float | None:
        times = sorted(float(path.name.partition(".")[2]) for path in (folder / "starts").iterdir())
        return times[1] if len(times) > 1 else None

    deadline = time.monotonic() + _LONG_S
    while (found := second()) is None:
        if time.monotonic() > deadline:
            raise TimeoutError(f"the bare task was not started again within {_LONG_S} s")
        time.sleep(0.2)
    return found


def _kill_shard(stack: RunningStack, name: str) -> float:
    """Kill all processes of a shard at once."""
    processes = process_tree.snapshot()
    worker = stack.pid_of(f"shard-{name}")
    runners = {entry.pid for entry in Registry(stack.home / "shards" / name / "run").live()}
    for pid in {worker, *runners, *process_tree.descendants(processes, {worker, *runners})}:
        try:
            os.kill(pid, signal.SIGKILL)
        except ProcessLookupError:
            continue
    return time.time()

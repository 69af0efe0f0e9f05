"""Time from a job's submission to the start of its agent's process."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from tests.acceptance.client import Client, file_url
from tests.benchmarks import peers
from tests.benchmarks.result import Result, median, spread
from tests.benchmarks.shard import Shard, measured_stack, repositories_of, wait_for
from tests.benchmarks.starts import Start, boot_time, read_start, wall_time
from tests.fixtures.repos import make_remote

TARGET_MS = 400
JOBS, WITH_REPOSITORY, COLD = 20, 3, 2
PEER_TASKS = 30
# The agent waits for a silent model, so that it takes no processor time from the measured processes.
PROMPT = "SILENT MODEL"
# The list of processes costs processor time, so it is read only after the agent has surely started.
_AGENT_START_S = 0.8


def measure() -> Result:
    """Time jobs one by one with all slots free and a warm spare; then the other cases and the peer."""
    with measured_stack() as client:
        shard = Shard(client.stack)
        repository = {"repo_url": file_url(make_remote(repositories_of(client) / "remote.git"))}
        # The first job fills the caches and opens the connections of every process.
        first = _start(client, shard, shard.wait_spare, {})
        warm = [_start(client, shard, shard.wait_spare, {}) for _ in range(JOBS)]
        cloned = [_start(client, shard, shard.wait_spare, repository) for _ in range(WITH_REPOSITORY)]
        cold = [_start(client, shard, shard.end_spare, {}) for _ in range(COLD)]
        shard.wait_idle()
        bare = _measure_bare_worker(client)
    return Result(
        "submit_to_start",
        median([start.agent for start in warm]),
        "ms",
        median(bare),
        TARGET_MS,
        {
            "warm": spread([start.agent for start in warm]),
            "steps": _steps(warm),
            "first_of_all": first.agent,
            "with_repository_less_cloning": spread([start.without_clone for start in cloned]),
            "without_warm_spare": spread([start.agent for start in cold]),
            "peer": "a bare Celery worker on the same broker whose task starts a process: from delay() to its start",
            "peer_ms": spread(bare),
        },
    )


def _steps(starts: Sequence[Start]) -> dict[str, float]:
    """Return the median of each step, in milliseconds after the request."""
    names = ("answered", "dispatched", "claimed", "preparing", "agent_phase", "agent")
    return {name: median([getattr(start, name) for start in starts]) for name in names}


def _start(client: Client, shard: Shard, prepare: Callable[[], object], task: dict[str, Any]) -> Start:
    prepare()
    submitted = time.time()
    job_id = client.submit({"prompt": PROMPT, **task})
    answered = time.time()
    time.sleep(_AGENT_START_S)
    agent = wait_for(shard.agent, "the agent's process")
    started = wall_time(agent.started, boot_time())
    # The runner posts events a moment after they happened.
    events = wait_for(lambda: _events_with_agent_phase(client.events(job_id)), "the event of the agent's phase")
    found = read_start(submitted, answered, started, client.job(job_id), events)
    client.cancel(job_id)
    client.wait_end(job_id)
    return found


def _events_with_agent_phase(events: list[dict[str, Any]]) -> list[dict[str, Any]] | None:
    return events if any(event["data"].get("phase") == "agent" for event in events) else None


def _measure_bare_worker(client: Client) -> list[float]:
    delay = peers.bare_task_sender(client.stack)
    with peers.bare_celery(client.stack) as worker:
        reports = [worker.folder / str(number) for number in range(PEER_TASKS + 1)]
        times = [_bare_start(delay, report) for report in reports]
    return times[1:]


def _bare_start(delay: Callable[[str], None], report: Path) -> float:
    # The pause lets the worker wait for its broker again, as between two real tasks.
    time.sleep(0.1)
    submitted = time.time()
    delay(str(report))
    wait_for(lambda: report.exists() or None, "the bare worker's task", every_s=0.02)
    return round((float(report.read_text()) - submitted) * 1000, 1)

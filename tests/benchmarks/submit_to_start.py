"""The time from a job's submission to the start of its agent's process."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from tests.acceptance.client import Client, file_url
from tests.benchmarks import peers
from tests.benchmarks.result import Result, median, spread
from tests.benchmarks.shard import Shard, measured_stack, wait_for
from tests.benchmarks.starts import Start, boot_time, read_start, wall_time
from tests.fixtures.repos import make_remote

TARGET_MS = 400
JOBS, WITH_REPOSITORY, COLD = 20, 3, 2
PEER_TASKS = 30
# The agent waits for a model that says nothing, so it takes no processor time from what is measured.
PROMPT = "SILENT MODEL"
# Looking at all processes takes processor time too, so we look when the agent has surely started.
_LOOK_AFTER_S = 0.8


def measure() -> Result:
    """Time jobs one by one, each with all slots free and a warm spare; then the other cases and the peer."""
    with measured_stack() as client, TemporaryDirectory(prefix="benchmark-") as folder:
        shard = Shard(client.stack)
        repository = {"repo_url": file_url(make_remote(Path(folder, "remote.git")))}
        # The first of all pays for caches and connections of every process.
        first = _start(client, shard, shard.wait_spare, {})
        warm = [_start(client, shard, shard.wait_spare, {}) for _ in range(JOBS)]
        cloned = [_start(client, shard, shard.wait_spare, repository) for _ in range(WITH_REPOSITORY)]
        cold = [_start(client, shard, shard.end_spare, {}) for _ in range(COLD)]
        shard.wait_idle()
        bare = _bare(client)
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
    """Give the median of each step, in milliseconds after the request."""
    names = ("answered", "dispatched", "claimed", "preparing", "agent_phase", "agent")
    return {name: median([getattr(start, name) for start in starts]) for name in names}


def _start(client: Client, shard: Shard, prepare: Callable[[], object], task: dict[str, Any]) -> Start:
    prepare()
    submitted = time.time()
    job_id = client.submit({"prompt": PROMPT, **task})
    answered = time.time()
    time.sleep(_LOOK_AFTER_S)
    agent = wait_for(shard.agent, "the agent's process")
    started = wall_time(agent.started, boot_time())
    # Events are posted a moment after they happened.
    events = wait_for(lambda: _up_to_agent(client.events(job_id)), "the agent's phase")
    found = read_start(submitted, answered, started, client.job(job_id), events)
    client.cancel(job_id)
    client.wait_end(job_id)
    return found


def _up_to_agent(events: list[dict[str, Any]]) -> list[dict[str, Any]] | None:
    return events if any(event["data"].get("phase") == "agent" for event in events) else None


def _bare(client: Client) -> list[float]:
    delay = peers.bare_client(client.stack)
    with peers.bare_celery(client.stack) as worker:
        reports = [worker.folder / str(number) for number in range(PEER_TASKS + 1)]
        times = [_bare_start(delay, report) for report in reports]
    return times[1:]


def _bare_start(delay: Callable[[str], None], report: Path) -> float:
    # As long as a worker waits between two tasks: at its broker.
    time.sleep(0.1)
    submitted = time.time()
    delay(str(report))
    wait_for(lambda: report.exists() or None, "the bare worker's task", every_s=0.02)
    return round((float(report.read_text()) - submitted) * 1000, 1)

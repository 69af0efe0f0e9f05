"""Run of random faults: the stack, the load, the faults, the wait for calm, and the history."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import psycopg
import redis

from tests.factories.fault_history import FaultFacts, JobFacts, RunHistory
from tests.factories.fault_judge import judge
from tests.factories.random_faults import PlannedFault, callback_answer, plan_faults, plan_jobs
from tests.faults.effects import World, world
from tests.faults.injection import kill_program
from tests.faults.leftovers import find_leftovers, find_stray_branches
from tests.faults.random_evidence import Observer, collect_jobs
from tests.faults.random_injection import Injector
from tests.faults.random_load import Load
from tests.faults.small_disk import small_disk
from tests.fixtures.cutting_proxy import cutting_proxy
from tests.fixtures.shard_link import ShardLink, shard_link

# A lost attempt needs 90 s, and the pauses before further attempts grow up to minutes.
CALM_S = 420
_DISK_MB = 512
# Several cuts within a job, and enough time to replay it.
_VIEWER_LIVES_S = (1.0, 10.0)


@dataclass(frozen=True)
class Place:
    """Stack with two shards, of which one has a small disk and the other a link that can be cut."""

    world: World
    disk: Path
    link: ShardLink

    @property
    def workspaces(self) -> list[Path]:
        """Folders of the workspaces of all shards."""
        configs = [json.loads(path.read_text()) for path in self.world.client.stack.shards.values()]
        return [Path(config["cleanup"]["workspace_path"]) for config in configs]


@dataclass(frozen=True)
class Run:
    """Finished run: what was planned, what happened, and what the test itself could not do."""

    seed: int
    plan: tuple[PlannedFault, ...]
    history: RunHistory
    errors: tuple[str, ...]


@contextmanager
def faulty_place(folder: Path) -> Iterator[Place]:
    with (
        world(folder, "--shards", "2") as made,
        shard_link(made.client.stack.shards["local-2"]) as link,
        small_disk(made.client, folder, _DISK_MB) as disk,
    ):
        kill_program("shard-local-2")(made.client)
        yield Place(made, disk, link)


def run_random_faults(folder: Path, seed: int, duration_s: float) -> Run:
    """Run load and faults for a while, wait until all is calm, and return the history."""
    plan = plan_faults(seed, duration_s)
    with faulty_place(folder) as place:
        began = time.monotonic()

        def clock() -> float:
            return time.monotonic() - began

        place.world.hook.choose = _callback_chooser(seed)
        injector = Injector(place.world.client, place.disk, place.link, clock)
        with Observer(place.world, clock) as observer:
            load, faults = asyncio.run(_drive(place, injector, seed, plan))
            leftovers = _wait_for_calm(place, observer)
        jobs = collect_jobs(place.world, load.jobs, observer)
        strays = find_stray_branches(place.world, [name for job in jobs for name in job.branches])
        history = RunHistory(
            jobs=jobs,
            answers={job.key: frozenset(job.ids) for job in load.jobs},
            samples=tuple(observer.samples),
            faults=tuple(faults),
            leftovers=(*leftovers, *strays),
        )
    return Run(seed, plan, history, (*injector.errors, *load.errors))


async def _drive(
    place: Place, injector: Injector, seed: int, plan: tuple[PlannedFault, ...]
) -> tuple[Load, list[FaultFacts]]:
    """Inject the faults while the load runs; the load ends when its jobs have ended."""
    over = asyncio.Event()
    async with cutting_proxy(place.world.client.stack.web_url, _VIEWER_LIVES_S, seed) as proxy:
        load = Load(place.world, seed, proxy.url)
        loading = asyncio.create_task(load.run(plan_jobs(seed), over))
        try:
            faults = await asyncio.to_thread(injector.run, plan)
        except asyncio.CancelledError:
            injector.stop()
            raise
        over.set()
        done, _ = await asyncio.wait([loading], timeout=CALM_S)
        if not done:
            # The judge names the jobs and the viewers that have no end.
            load.errors.append(f"the load did not end within {CALM_S} s after the last fault")
            loading.cancel()
            await asyncio.wait([loading], timeout=30)
        elif error := loading.exception():
            raise error
    return load, faults


def _wait_for_calm(place: Place, observer: Observer) -> tuple[str, ...]:
    """Wait until all jobs and callbacks are done and nothing is left, and return what is left at the end."""
    deadline = time.monotonic() + CALM_S
    while True:
        try:
            leftovers = find_leftovers(place.world, place.workspaces, set(observer.runners))
        except (psycopg.OperationalError, redis.ConnectionError, redis.TimeoutError) as error:
            leftovers = (f"a service that does not answer: {error}",)
        if not leftovers or time.monotonic() > deadline:
            return leftovers
        time.sleep(1)


def _callback_chooser(seed: int) -> Callable[[dict[str, str]], tuple[int, float]]:
    """Return the receiver of callbacks that refuses some of them and is slow for others."""
    tries: dict[str, int] = {}
    numbers: dict[str, int] = {}

    def choose(headers: dict[str, str]) -> tuple[int, float]:
        callback_id = headers["webhook-id"]
        number = numbers.setdefault(callback_id, len(numbers))
        tries[callback_id] = tries.get(callback_id, -1) + 1
        return callback_answer(seed, number, tries[callback_id])

    return choose


def describe_problems(run: Run) -> str:
    """Return the seed, the plan and each violation with the history of its job; empty if the run is in order."""
    violations = judge(run.history)
    if not violations and not run.errors:
        return ""
    jobs = {job.job_id: job for job in run.history.jobs}
    named = {violation.job_id for violation in violations if violation.job_id}
    lines = [f"seed {run.seed}", "planned:", *map(str, run.plan), "injected:", *map(str, run.history.faults)]
    lines += ["violations:", *map(str, violations), "errors:", *run.errors]
    for job_id in sorted(named):
        lines += [f"history of {job_id}:", _describe_job(jobs[job_id], run.history)]
    return "\n".join(lines)


def _describe_job(job: JobFacts, history: RunHistory) -> str:
    waits = [
        (round(one.at), one.ready[job.job_id], dict(one.free)) for one in history.samples if job.job_id in one.ready
    ]
    parts = [
        f"{job.key} {job.status} {job.error_code} {job.error_message} key={job.concurrency_key!r} {job.statuses}",
        *map(str, job.attempts),
        *map(str, job.batches),
        *(f"{one.name}: {[seq for seq, _ in one.events]} end {one.end}" for one in job.viewers),
        f"callbacks {job.callbacks} branches {dict(job.branches)} head {job.head}",
        f"ready at (seconds, attempt, free slots): {waits[:200]}",
    ]
    return "\n".join(f"  {part}" for part in parts)

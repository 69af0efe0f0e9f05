"""What breaks: real signals to real processes, and real commands to the broker. Each asserts that it took hold."""

from __future__ import annotations

import json
import os
import shelve
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import redis

from myctobot.stack.plan import CHECKOUT
from tests.acceptance.client import Client
from tests.stacks import bare_environment
from workers.runner_registry import Registry, RunnerEntry
from workers.sandbox.limits import V2, own_groups
from workers.sandbox.sandbox import process_tree

_AGAIN_S = 60


def broker(client: Client) -> redis.Redis:
    lines = (client.stack.home / "env").read_text().splitlines()
    return redis.Redis.from_url(dict(line.partition("=")[::2] for line in lines)["REDIS_URL"])


def killed(name: str, number: signal.Signals = signal.SIGKILL) -> Callable[[Client], None]:
    """End one of the stack's programs, and wait for the one that the supervisor starts in its place."""

    def strike(client: Client) -> None:
        old = client.stack.pid_of(name)
        os.kill(old, number)
        deadline = time.monotonic() + _AGAIN_S
        while time.monotonic() < deadline:
            # Between the two there is no record.
            with suppress(FileNotFoundError):
                if client.stack.pid_of(name) != old:
                    return
            time.sleep(0.05)
        raise AssertionError(f"{name} was not started again within {_AGAIN_S} s")

    return strike


def flush_redis(client: Client) -> None:
    with broker(client) as connection:
        before = connection.dbsize()
        connection.flushall()
    assert before, "there was nothing to lose"


def stop_redis(seconds: float) -> Callable[[Client], None]:
    """Let Redis stand still: its port takes connections, and nobody answers."""

    def strike(client: Client) -> None:
        with stopped(client.stack.pid_of("redis")):
            time.sleep(seconds)

    return strike


@contextmanager
def stopped(pid: int) -> Iterator[None]:
    """Stop a process, and let it go on in the end."""
    os.kill(pid, signal.SIGSTOP)
    try:
        deadline = time.monotonic() + 5
        while (info := process_tree.read(pid)) is not None and info.state != "T":
            assert time.monotonic() < deadline, f"{pid} does not stop"
            time.sleep(0.05)
        yield
    finally:
        os.kill(pid, signal.SIGCONT)


def cut_broker_connections(seconds: int) -> Callable[[Client], None]:
    """Break every connection to the broker, once a second."""

    def strike(client: Client) -> None:
        cut = 0
        for _ in range(seconds):
            with broker(client) as connection:
                cut += connection.execute_command("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")
            time.sleep(1)
        assert cut >= seconds, f"{cut} connections were broken"

    return strike


def second_beat(seconds: float) -> Callable[[Client], None]:
    """Let another beat tick beside the stack's own."""

    def strike(client: Client) -> None:
        folder = client.stack.home / "second-beat"
        folder.mkdir(exist_ok=True)
        options = ("beat", "--schedule", str(folder / "schedule"), "--pidfile", "", "--loglevel", "INFO")
        with (folder / "log").open("wb") as log:
            beat = subprocess.Popen(
                [sys.executable, "-m", "celery", "-A", "myctobot.celery", *options],
                cwd=CHECKOUT,
                env=bare_environment(client.stack.home),
                stdout=log,
                stderr=subprocess.STDOUT,
            )
        try:
            # Until it ticks: its file is there when its clock runs.
            deadline = time.monotonic() + _AGAIN_S
            while not any(folder.glob("schedule*")):
                assert time.monotonic() < deadline, "the second beat does not begin"
                time.sleep(0.1)
            time.sleep(seconds)
        finally:
            beat.terminate()
            assert beat.wait(20) == 0
        # What it leaves behind says how often it ticked.
        with shelve.open(str(folder / "schedule"), "r") as schedule:  # noqa: S301  # ours
            ticks = schedule["entries"]["tick"].total_run_count
        assert ticks >= seconds / 2, f"the second beat ticked {ticks} times"

    return strike


def runner_of(client: Client, job_id: str) -> tuple[str, RunnerEntry]:
    """The shard that a job runs on, and its runner."""
    name = client.job(job_id)["attempts"][-1]["shard"]
    entries = Registry(client.stack.home / "shards" / name / "run").live()
    return name, next(entry for entry in entries if entry.job_id == job_id)


def kill_runner(client: Client, job_id: str) -> None:
    os.kill(runner_of(client, job_id)[1].pid, signal.SIGKILL)


def agents_of(*runners: int) -> list[process_tree.ProcessInfo]:
    """The agents' own processes in the sandboxes of these runners."""
    processes = process_tree.snapshot()
    return [processes[pid] for pid in process_tree.descendants(processes, set(runners)) if _program(pid) == "claude"]


def is_frozen(pid: int) -> bool:
    """Whether a process is stopped, or its group is frozen. By its state alone it could as well wait for its disk."""
    if (info := process_tree.read(pid)) is not None and info.state in {"T", "t"}:
        return True
    with suppress(OSError):
        groups = own_groups(Path(f"/proc/{pid}/cgroup").read_text(), Path("/proc/self/mountinfo").read_text())
        if "freezer" in groups:
            return (groups["freezer"] / "freezer.state").read_text().strip() == "FROZEN"
        return "frozen 1" in (groups[V2] / "cgroup.events").read_text().splitlines()
    return False


def kill_agents(client: Client) -> None:
    """End the agent's own process in every sandbox, and nothing else."""
    agents = agents_of(*(json.loads(path.read_text())["pid"] for path in _runs(client)))
    assert agents, "no agent was at work"
    for agent in agents:
        with suppress(ProcessLookupError):
            os.kill(agent.pid, signal.SIGKILL)


def kill_shard(client: Client, name: str) -> None:
    """End all that a shard runs, at once, as when its container goes away."""
    worker = client.stack.pid_of(f"shard-{name}")
    runners = {entry.pid for entry in Registry(client.stack.home / "shards" / name / "run").live()}
    assert runners, f"nothing ran on {name}"
    for pid in {worker, *runners, *process_tree.descendants(process_tree.snapshot(), {worker, *runners})}:
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


def _runs(client: Client) -> list[Path]:
    return list((client.stack.home / "shards").glob("*/run/*.json"))


def _program(pid: int) -> str:
    try:
        return Path(os.fsdecode(Path(f"/proc/{pid}/cmdline").read_bytes()).split("\0")[0]).name
    except (FileNotFoundError, ProcessLookupError):
        return ""

"""Faults: real signals to processes and real commands to the broker, each of which checks that it had an effect."""

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
from workers.sandbox import process_tree
from workers.sandbox.limits import V2, own_groups

_RESTART_S = 60


def broker_connection(client: Client) -> redis.Redis:
    lines = (client.stack.home / "env").read_text().splitlines()
    return redis.Redis.from_url(dict(line.partition("=")[::2] for line in lines)["REDIS_URL"])


def kill_program(name: str, number: signal.Signals = signal.SIGKILL) -> Callable[[Client], None]:
    """Return a fault that ends a program of the stack and waits until the supervisor has started it again."""

    def inject(client: Client) -> None:
        old = client.stack.pid_of(name)
        os.kill(old, number)
        deadline = time.monotonic() + _RESTART_S
        while time.monotonic() < deadline:
            # The supervisor has no record of the program while it restarts.
            with suppress(FileNotFoundError):
                if client.stack.pid_of(name) != old:
                    return
            time.sleep(0.05)
        raise AssertionError(f"{name} was not started again within {_RESTART_S} s")

    return inject


def flush_redis(client: Client) -> None:
    with broker_connection(client) as connection:
        before = connection.dbsize()
        connection.flushall()
    assert before, "Redis was empty before the fault"


def stop_redis(seconds: float) -> Callable[[Client], None]:
    """Return a fault that stops Redis for a while: its port accepts connections and sends no answer."""

    def inject(client: Client) -> None:
        with stopped(client.stack.pid_of("redis")):
            time.sleep(seconds)

    return inject


@contextmanager
def stopped(pid: int) -> Iterator[None]:
    """Stop a process for the block, and continue it afterwards."""
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
    """Return a fault that closes every connection to the broker once a second."""

    def inject(client: Client) -> None:
        cut = 0
        for _ in range(seconds):
            with broker_connection(client) as connection:
                cut += connection.execute_command("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")
            time.sleep(1)
        assert cut >= seconds, f"{cut} connections were broken"

    return inject


def run_second_beat(seconds: float) -> Callable[[Client], None]:
    """Return a fault that runs a second beat in addition to the stack's."""

    def inject(client: Client) -> None:
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
            # The schedule file appears when the second beat begins to tick.
            deadline = time.monotonic() + _RESTART_S
            while not any(folder.glob("schedule*")):
                assert time.monotonic() < deadline, "the second beat does not begin"
                time.sleep(0.1)
            time.sleep(seconds)
        finally:
            beat.terminate()
            assert beat.wait(20) == 0
        # The schedule file records the number of ticks.
        with shelve.open(str(folder / "schedule"), "r") as schedule:  # noqa: S301  # ours
            ticks = schedule["entries"]["tick"].total_run_count
        assert ticks >= seconds / 2, f"the second beat ticked {ticks} times"

    return inject


def runner_of(client: Client, job_id: str) -> tuple[str, RunnerEntry]:
    """Return the shard that a job runs on, and the job's runner."""
    name = client.job(job_id)["attempts"][-1]["shard"]
    entries = Registry(client.stack.home / "shards" / name / "run").live()
    return name, next(entry for entry in entries if entry.job_id == job_id)


def kill_runner(client: Client, job_id: str) -> None:
    os.kill(runner_of(client, job_id)[1].pid, signal.SIGKILL)


def agents_of(*runners: int) -> list[process_tree.ProcessInfo]:
    """Return the processes of the agents in the sandboxes of these runners."""
    processes = process_tree.snapshot()
    return [
        processes[pid] for pid in process_tree.descendants(processes, set(runners)) if _program_name(pid) == "claude"
    ]


def is_frozen(pid: int) -> bool:
    """Return True if a process is stopped or its control group is frozen.

    The state of a frozen process alone does not tell it from one that waits for a disk.
    """
    if (info := process_tree.read(pid)) is not None and info.state in {"T", "t"}:
        return True
    with suppress(OSError):
        groups = own_groups(Path(f"/proc/{pid}/cgroup").read_text(), Path("/proc/self/mountinfo").read_text())
        if "freezer" in groups:
            return (groups["freezer"] / "freezer.state").read_text().strip() == "FROZEN"
        return "frozen 1" in (groups[V2] / "cgroup.events").read_text().splitlines()
    return False


def kill_agents(client: Client) -> None:
    """Kill only the agent's process in every sandbox."""
    agents = agents_of(*(json.loads(path.read_text())["pid"] for path in _runner_files(client)))
    assert agents, "no agent was running"
    for agent in agents:
        with suppress(ProcessLookupError):
            os.kill(agent.pid, signal.SIGKILL)


def kill_shard(client: Client, name: str) -> None:
    """Kill all processes of a shard at once, as the loss of its container does."""
    worker = client.stack.pid_of(f"shard-{name}")
    runners = {entry.pid for entry in Registry(client.stack.home / "shards" / name / "run").live()}
    assert runners, f"nothing ran on {name}"
    for pid in {worker, *runners, *process_tree.descendants(process_tree.snapshot(), {worker, *runners})}:
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


def _runner_files(client: Client) -> list[Path]:
    return list((client.stack.home / "shards").glob("*/run/*.json"))


def _program_name(pid: int) -> str:
    try:
        return Path(os.fsdecode(Path(f"/proc/{pid}/cmdline").read_bytes()).split("\0")[0]).name
    except (FileNotFoundError, ProcessLookupError):
        return ""

"""Injection of a plan of random faults into the parts of a stack."""

from __future__ import annotations

import json
import os
import signal
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import httpx
import psycopg
import redis

from tests.acceptance.client import Client
from tests.factories.fault_history import FaultFacts
from tests.factories.random_faults import PlannedFault
from tests.faults.injection import agents_of, broker_connection
from tests.faults.small_disk import write_until_full
from tests.fixtures.shard_link import ShardLink
from workers.runner_registry import RunnerEntry
from workers.sandbox import process_tree

# The supervisor waits up to half a minute before it starts a program that was killed several times.
_BACK_S = 150
_VICTIM_S = 15
_SIGNALS: Final = {
    "kill": signal.SIGKILL,
    "terminate": signal.SIGTERM,
    # Orders of PostgreSQL: a fast shutdown, and one without a checkpoint.
    "restart": signal.SIGINT,
    "crash": signal.SIGQUIT,
}


def database_url(client: Client) -> str:
    lines = (client.stack.home / "env").read_text().splitlines()
    return dict(line.partition("=")[::2] for line in lines)["DATABASE_URL"]


def live_runners(client: Client, shard: str) -> list[RunnerEntry]:
    """Return the live runners of a shard without a change to its registry, in which the worker finds the dead ones."""
    found = []
    for file in sorted((client.stack.home / "shards" / shard / "run").glob("job_*.json")):
        with suppress(FileNotFoundError, ValueError, TypeError):
            entry = RunnerEntry(**json.loads(file.read_text()))
            if entry.is_alive():
                found.append(entry)
    return found


@dataclass
class Injector:
    """Injector of faults into one stack.

    Args:
        disk: the disk of the shard ``local``.
        link: the link of the shard ``local-2``.
        clock: returns the seconds since the start of the run.
    """

    client: Client
    disk: Path
    link: ShardLink
    clock: Callable[[], float]

    def __post_init__(self) -> None:
        self._locks: dict[str, threading.Lock] = defaultdict(threading.Lock)
        self._facts: list[FaultFacts] = []
        self._is_stopped = threading.Event()
        self.errors: list[str] = []

    def stop(self) -> None:
        """Inject no further fault, because the run was interrupted."""
        self._is_stopped.set()

    def run(self, plan: Iterable[PlannedFault]) -> list[FaultFacts]:
        """Inject every fault at its time, wait until the last one is over, and return the injected faults."""
        threads = []
        for fault in plan:
            if self._is_stopped.wait(max(0.0, fault.at_s - self.clock())):
                break
            thread = threading.Thread(target=self._inject, args=[fault], daemon=True)
            thread.start()
            threads.append(thread)
        for thread in threads:
            thread.join(2 * _BACK_S)
        return sorted(self._facts, key=lambda fact: fact.began)

    def _inject(self, fault: PlannedFault) -> None:
        if fault.part in {"runner", "agent"}:
            self._record(fault, self._inject_into_process)
        else:
            # A program that was stopped must continue before it gets the next fault.
            with self._locks[fault.part]:
                self._record(fault, self._inject_into_program)

    def _record(self, fault: PlannedFault, inject: Callable[[PlannedFault], bool]) -> None:
        began, took_effect = self.clock(), True
        try:
            took_effect = inject(fault)
        except (AssertionError, OSError, httpx.HTTPError, psycopg.Error, redis.RedisError) as error:
            self.errors.append(f"{fault}: {error!r}")
        self._facts.append(FaultFacts(fault.part, fault.fault, began, self.clock(), took_effect))

    def _inject_into_process(self, fault: PlannedFault) -> bool:
        """Send a signal to a runner or an agent; return False if none runs."""
        deadline = time.monotonic() + _VICTIM_S
        while not (found := self._victims(fault.part)):
            if time.monotonic() > deadline:
                return False
            time.sleep(0.1)
        victim = found[int(fault.pick * len(found))]
        if fault.fault == "stop":
            return _stop({victim}, fault.lasts_s)
        return _send({victim}, _SIGNALS[fault.fault])

    def _victims(self, part: str) -> list[int]:
        runners = [entry.pid for name in sorted(self.client.stack.shards) for entry in live_runners(self.client, name)]
        return runners if part == "runner" else sorted(info.pid for info in agents_of(*runners))

    def _inject_into_program(self, fault: PlannedFault) -> bool:
        if fault.fault == "flush":
            with broker_connection(self.client) as connection:
                connection.flushall()
            return True
        if fault.fault == "fill_disk":
            return self._fill_disk(fault.lasts_s)
        if fault.fault == "cut_link":
            self.link.pull()
            time.sleep(fault.lasts_s)
            self.link.plug()
            return True
        old = self._pid_of(fault.part)
        if fault.fault == "stop":
            pids = process_tree.descendants(process_tree.snapshot(), {old}) if fault.part == "postgres" else {old}
            return _stop(pids, fault.lasts_s)
        took_effect = _send({old}, _SIGNALS[fault.fault])
        self.wait_until_back(fault.part, old)
        return took_effect

    def _fill_disk(self, seconds: float) -> bool:
        full = self.disk / "full"
        try:
            write_until_full(full)
            time.sleep(seconds)
            return full.stat().st_size > 0
        finally:
            full.unlink()

    def _pid_of(self, name: str) -> int:
        """Return the pid of a program; there is no record while it restarts."""
        deadline = time.monotonic() + _BACK_S
        while True:
            try:
                return self.client.stack.pid_of(name)
            except (FileNotFoundError, ValueError):
                assert time.monotonic() < deadline, f"{name} does not run"
                time.sleep(0.1)

    def wait_until_back(self, name: str, old: int) -> None:
        """Wait until the supervisor has started a program again and the program answers."""
        deadline = time.monotonic() + _BACK_S
        while self._pid_of(name) == old or not self._answers(name):
            assert time.monotonic() < deadline, f"{name} is not back after {_BACK_S} s"
            time.sleep(0.1)

    def _answers(self, name: str) -> bool:
        urls = {"web": self.client.stack.web_url, "gateway": self.client.stack.gateway_url}
        with suppress(httpx.HTTPError, psycopg.Error, redis.RedisError):
            if name in urls:
                # Its health includes the database, which may have a fault of its own.
                return httpx.get(f"{urls[name]}/healthz", timeout=5, trust_env=False).status_code in (200, 503)
            if name == "postgres":
                with psycopg.connect(database_url(self.client), connect_timeout=5):
                    return True
            if name == "redis":
                with broker_connection(self.client) as connection:
                    return bool(connection.ping())
            return True
        return False


def _send(pids: Iterable[int], number: signal.Signals) -> bool:
    """Send a signal, and return True if a process existed."""
    sent = False
    for pid in pids:
        with suppress(ProcessLookupError):
            os.kill(pid, number)
            sent = True
    return sent


def _stop(pids: Iterable[int], seconds: float) -> bool:
    """Stop processes for a while; another fault may end them in the meantime."""
    stopped = {pid: info.started for pid in pids if (info := process_tree.read(pid)) and _send({pid}, signal.SIGSTOP)}
    time.sleep(seconds)
    for pid, started in stopped.items():
        if (info := process_tree.read(pid)) and info.started == started:
            _send({pid}, signal.SIGCONT)
    return bool(stopped)

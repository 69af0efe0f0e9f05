"""Spawner of runners: slots, spares and leftovers of dead runners. The runner's process is the real one."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import asdict
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from myctobot.stack.plan import CHECKOUT
from tests.fixtures.broker import control_stand_in
from tests.fixtures.malformed_messages import NO_ATTEMPTS
from tests.fixtures.serving import serving
from workers.config import load_config
from workers.control_plane import ControlPlaneUnreachable, WorkerControlPlane
from workers.runner_registry import RunnerEntry, process_start_time
from workers.worker.runner_process import ForkServerClient, RunnerProcess
from workers.worker.spawner import Spawner

JOB, LINK = "job_0123456789abcdefghjk", "job_0123456789abcdefghjz"


@pytest.fixture
def config_path(tmp_path: Path) -> Path:
    path = tmp_path / "config.json"
    path.write_text(
        json.dumps(
            {
                "shard_id": "probe",
                "control_url": "http://127.0.0.1:9",
                "broker_url": "redis://127.0.0.1:9/0",
                "shard_key": "mcts_probe",
                "capabilities": ["git"],
                "executor": "scripted",
                "run_path": str(tmp_path / "run"),
                "cleanup": {"workspace_path": str(tmp_path / "jobs")},
            }
        )
    )
    return path


@pytest.fixture
def spawner(config_path: Path) -> Iterator[Spawner]:
    found = Spawner(load_config(config_path), config_path)
    yield found
    found.close()


def test_only_directories_of_jobs_are_removed(spawner: Spawner, tmp_path: Path) -> None:
    jobs = tmp_path / "jobs"
    for name in (f"{JOB}.1", f"{JOB}.1/agent", "precious", "job_of_mine"):
        (jobs / name).mkdir(parents=True)
    (jobs / "notes.txt").write_text("keep")
    outside = tmp_path / "outside"
    outside.mkdir()
    (jobs / f"{LINK}.1").symlink_to(outside)
    assert spawner.adopt() == []
    assert sorted(path.name for path in jobs.iterdir()) == [f"{LINK}.1", "job_of_mine", "notes.txt", "precious"]
    assert outside.is_dir()


def test_recent_leftovers_are_kept_until_their_limit(spawner: Spawner, tmp_path: Path) -> None:
    leftover = tmp_path / "jobs" / f"{JOB}.1"
    leftover.mkdir(parents=True)
    spawner.sweep(older_than_s=3600)
    assert leftover.is_dir()
    os.utime(leftover, (0, 0))
    spawner.sweep(older_than_s=3600)
    assert not leftover.exists()


@pytest.mark.parametrize(("job_id", "attempt"), NO_ATTEMPTS)
def test_nothing_is_started_or_removed_for_other_values(
    spawner: Spawner, tmp_path: Path, job_id: Any, attempt: Any
) -> None:
    (tmp_path / "victim.1").mkdir()
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(ValueError, match="do not name an attempt"):
        spawner.run(job_id, attempt)
    assert sorted(tmp_path.rglob("*")) == before
    assert not spawner.is_starting


def stop_at_claim(spawner: Spawner) -> int:
    """Run an attempt without a control plane and end it early, because its claim would take half a minute."""
    ender = threading.Thread(target=end_first_runner, args=[spawner])
    ender.start()
    code = spawner.run(JOB, 1)
    ender.join()
    return code


def end_first_runner(spawner: Spawner) -> None:
    while not (running := spawner.running()):
        threading.Event().wait(0.05)
    os.kill(running[0].pid, signal.SIGKILL)


def test_a_killed_runner_is_reported_as_ended_once(spawner: Spawner) -> None:
    said: list[list[str]] = []
    spawner.on_ended = lambda: said.append(spawner.ended())
    stop_at_claim(spawner)
    assert said == [[f"{JOB}.1"]]
    assert spawner.ended() == [f"{JOB}.1"]
    spawner.forget_ended([f"{JOB}.1"])
    assert spawner.ended() == []


def test_a_runner_that_ends_by_itself_is_not_reported(config_path: Path) -> None:
    with control_stand_in([]) as control:
        config_path.write_text(config_path.read_text().replace("http://127.0.0.1:9", control.url))
        spawner = Spawner(load_config(config_path), config_path)
        try:
            assert spawner.run(JOB, 1) == 0
        finally:
            spawner.close()
    assert control.claimed == [JOB]
    assert spawner.ended() == []


def test_a_runner_that_died_without_a_worker_is_reported_by_the_next(spawner: Spawner, tmp_path: Path) -> None:
    with subprocess.Popen(["true"]) as process:
        process.wait()
    entry = RunnerEntry(process.pid, 1, JOB, 3, 0)
    (tmp_path / "run" / f"{JOB}.3.json").write_text(json.dumps(asdict(entry)))
    # The first heartbeat reads the live runners before the worker adopts them.
    assert spawner.running() == []
    assert spawner.adopt() == []
    assert spawner.ended() == [f"{JOB}.3"]


_HANGING = """
import ctypes, platform, sys, threading, time
from pathlib import Path
from workers.runner.main import read_order
from workers.runner_registry import Registry
order = read_order()
if order:
    Registry(Path(sys.argv[1])).add(order["job_id"], order["attempt"], order["slot"])
    threading.Thread(target=time.sleep, args=[120]).start()
    # The end of the main thread alone, as when a killed process has a thread that the kernel cannot end.
    ctypes.CDLL(None).syscall(60 if platform.machine() == "x86_64" else 93, 0)
"""


class HangingRunners(ForkServerClient):
    """Starts runners that are dead at once and cannot be reaped."""

    spawned: list[subprocess.Popen[bytes]]

    def spawn(self) -> RunnerProcess:
        command = [sys.executable, "-c", _HANGING, str(self._config_path.parent / "run")]
        process = subprocess.Popen(command, stdin=subprocess.PIPE, cwd=CHECKOUT, start_new_session=True)
        self.spawned.append(process)
        assert process.stdin is not None
        stdin, status = os.dup(process.stdin.fileno()), os.open(os.devnull, os.O_RDONLY)
        process.stdin.close()
        return RunnerProcess(process.pid, os.pidfd_open(process.pid), stdin, status)


def test_it_does_not_wait_for_a_runner_that_cannot_be_reaped(config_path: Path) -> None:
    spawner = Spawner(load_config(config_path), config_path)
    server = spawner._server = HangingRunners("scripted", config_path)
    server.spawned = []
    began = time.monotonic()
    try:
        assert spawner.run(JOB, 1) == -signal.SIGKILL
        assert time.monotonic() - began < 60
        assert spawner.ended() == [f"{JOB}.1"]
        assert not spawner.is_starting
    finally:
        for process in server.spawned:
            process.kill()
            process.wait(10)
        spawner.close()


def test_a_spare_that_died_is_replaced_and_no_slot_is_lost(spawner: Spawner) -> None:
    spawner.keep_spare()
    spare = spawner._spare
    assert spare is not None
    os.kill(spare.pid, signal.SIGKILL)
    assert spare.wait(10)
    assert stop_at_claim(spawner) == -signal.SIGKILL
    assert stop_at_claim(spawner) == -signal.SIGKILL


def test_a_spare_with_an_older_configuration_is_not_used(spawner: Spawner, config_path: Path) -> None:
    spawner.keep_spare()
    spare = spawner._spare
    assert spare is not None
    os.utime(config_path, (0, 0))
    assert spawner._take_spare() is None
    assert process_start_time(spare.pid) is None


def test_a_page_of_another_server_is_no_answer() -> None:
    class Page(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["Content-Length"]))
            self.send_response(200)
            self.end_headers()
            self.wfile.write(b"<html>maintenance</html>")

        def log_message(self, format: str, *args: object) -> None:
            """Say nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Page)
    with serving(server):
        control = WorkerControlPlane(f"http://127.0.0.1:{server.server_address[1]}", "mcts_probe")
        with pytest.raises(ControlPlaneUnreachable, match="a different server answered"):
            control.heartbeat({})  # type: ignore[typeddict-item]  # the page reads at nothing
        control.close()

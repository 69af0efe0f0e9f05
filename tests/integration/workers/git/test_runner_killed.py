"""Runner that is killed in the middle of a call: no git, no ssh and no key in memory are left."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
import pytest

from tests.factories.git_jobs import TOKEN
from tests.fixtures.git_server import GitServer, Pause
from tests.fixtures.ssh_server import make_key

PATIENCE_S = 10
PROJECT = Path(__file__).resolve().parents[4]


@contextmanager
def calling(job_dir: Path, server: GitServer, url: str, token: str) -> Iterator[subprocess.Popen[bytes]]:
    command = [sys.executable, "-m", "tests.integration.workers.git.call_as_process", str(job_dir)]
    env = {"PATH": os.defpath, "TMPDIR": str(job_dir.parent)}
    with subprocess.Popen(command, cwd=PROJECT, env=env, stdin=subprocess.PIPE, start_new_session=True) as process:
        assert process.stdin is not None
        process.stdin.write(json.dumps({"url": url, "token": token, "ca_file": str(server.ca_file)}).encode())
        process.stdin.close()
        try:
            yield process
        finally:
            process.kill()


def left_after_kill(process: subprocess.Popen[bytes], expected: set[str]) -> list[str]:
    """Kill a process and return the descendants that do not end; ``expected`` must be among its descendants."""
    descendants = psutil.Process(process.pid).children(recursive=True)
    assert expected <= {each.name() for each in descendants}
    process.kill()
    process.wait()
    deadline = time.monotonic() + PATIENCE_S
    while (left := [name for each in descendants if (name := running(each))]) and time.monotonic() < deadline:
        time.sleep(0.05)
    return left


def running(process: psutil.Process) -> str | None:
    try:
        return None if process.status() == psutil.STATUS_ZOMBIE else process.name()
    except psutil.NoSuchProcess:
        return None


def test_a_call_over_https_ends_with_its_runner(server: GitServer, tmp_path: Path) -> None:
    server.held = pause = Pause()
    with calling(tmp_path / "job", server, server.url("repo.git"), TOKEN) as process:
        assert pause.reached.wait(PATIENCE_S)
        assert left_after_kill(process, {"git", "git-remote-https"}) == []
    pause.release()


@pytest.mark.parametrize("name", ["job", "j" * 120])
def test_a_call_over_ssh_ends_with_its_runner_and_so_does_the_agent(
    server: GitServer, short_dir: Path, name: str
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        silent.settimeout(PATIENCE_S)
        url = f"ssh://git@127.0.0.1:{silent.getsockname()[1]}/repo.git"
        with calling(short_dir / name, server, url, make_key()[0]) as process:
            connection, _ = silent.accept()
            with connection:
                assert left_after_kill(process, {"git", "ssh", "ssh-agent"}) == []

"""Move of a worker into a leaf of its control group, and its new start in a scope."""

from __future__ import annotations

import fcntl
import os
import subprocess
import sys
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from myctobot.stack.plan import CHECKOUT
from tests.integration.workers.test_main import config_file
from tests.needs import find_controller
from workers.sandbox import own_group
from workers.sandbox.limits import LEAF

ENTER = """
import os, subprocess, sys
from pathlib import Path
from workers.sandbox.own_group import enter_leaf

group, controller = Path(sys.argv[1]), sys.argv[2]
(group / "cgroup.procs").write_text("0")
child = subprocess.Popen(["sleep", "600"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
try:
    try:
        (group / "cgroup.subtree_control").write_text("+" + controller)
    except OSError as error:
        print(error.strerror)
    if enter_leaf(group, controller):
        inside = {int(pid) for pid in (group / "shard-worker/cgroup.procs").read_text().split()}
        print(inside == {os.getpid(), child.pid})
        (group / "agent").mkdir()
        print((group / "agent/cgroup.controllers").read_text().strip() == controller)
    else:
        print("refused")
finally:
    child.kill()
    child.wait()
"""
START = """
import os, sys
from pathlib import Path
from workers.sandbox import own_group

own_group.SYSTEMD, own_group.TRIAL_TIMEOUT_S = Path(sys.argv[1]), int(sys.argv[3])
own_group._find_user_manager = lambda *_: ""
if own_group.STARTED_IN_SCOPE not in os.environ:
    print(os.getpid(), os.getppid(), flush=True)
    print(own_group.start_in_scope(Path("/group")))
else:
    print(os.getpid(), os.getppid(), os.read(int(sys.argv[2]), 9).decode(), sys.stdin.read())
"""
PREPARE = """
import runpy, sys
from workers.sandbox import own_group

own_group.prepare = lambda: sys.exit(print("prepared"))
del sys.argv[0]
runpy.run_module(sys.argv[0], run_name="__main__")
"""
# The real one executes its command in the same process, too.
WORKS = 'while [ "$1" != -- ]; do shift; done\nshift\nexec "$@"\n'


@contextmanager
def opened(directory: Path) -> Iterator[int]:
    descriptor = os.open(directory, os.O_RDONLY)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


@pytest.fixture
def group() -> Iterator[tuple[Path, str]]:
    """Create a group of version 2 that has a controller."""
    found = find_controller()
    assert found is not None
    top, controller = found
    made = top / f"myctobot-test-{uuid.uuid4().hex[:8]}"
    control = top / "cgroup.subtree_control"
    with opened(top) as lock:
        # Another run must not disable the controller at this time.
        fcntl.flock(lock, fcntl.LOCK_EX)
        was_enabled = controller in control.read_text().split()
        control.write_text(f"+{controller}")
        try:
            made.mkdir()
            yield made, controller
        finally:
            for directory in (made / "agent", made / LEAF, made):
                with suppress(FileNotFoundError):
                    directory.rmdir()
            if not was_enabled:
                control.write_text(f"-{controller}")


def python(
    program: str, *arguments: str, path: str = os.defpath, **options: object
) -> subprocess.CompletedProcess[str]:
    return subprocess.run(  # type: ignore[call-overload,no-any-return]  # callers pass valid options
        [sys.executable, "-c", program, *arguments],
        cwd=CHECKOUT,
        env={"PATH": path},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        **options,
    )


@pytest.mark.needs("root", "a controller of version 2")
def test_the_kernel_enables_controllers_next_to_a_leaf_and_not_below_processes(group: tuple[Path, str]) -> None:
    done = python(ENTER, str(group[0]), group[1])
    assert done.stdout.splitlines() == ["Device or resource busy", "True", "True"], done.stderr


@pytest.mark.needs("root", "a controller of version 2")
def test_a_group_with_other_processes_stays_as_it_is(group: tuple[Path, str]) -> None:
    with subprocess.Popen(["cat"], stdin=subprocess.PIPE) as other:
        (group[0] / "cgroup.procs").write_text(str(other.pid))
        done = python(ENTER, str(group[0]), group[1])
        assert done.stdout.splitlines() == ["Device or resource busy", "refused"], done.stderr
        assert not (group[0] / LEAF).exists()
        assert (group[0] / "cgroup.procs").read_text().split() == [str(other.pid)]


def start_with(folder: Path, script: str, timeout_s: int = 30) -> list[str]:
    """Start a program in a scope, with a systemd-run of the test, and return the lines of its output."""
    program = folder / "systemd-run"
    program.write_text(f"#!/bin/sh\n{script}")
    program.chmod(0o755)
    reading, writing = os.pipe()
    os.write(writing, b"inherited")
    path = f"{folder}:{os.defpath}"
    done = python(
        START, str(folder), str(reading), str(timeout_s), path=path, input="standard input", pass_fds=(reading,)
    )
    os.close(reading)
    os.close(writing)
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


def test_the_new_start_keeps_the_process_and_its_descriptors(tmp_path: Path) -> None:
    before, after = start_with(tmp_path, WORKS)
    assert after == f"{before} inherited standard input"


@pytest.mark.parametrize(
    ("script", "timeout_s", "reason"),
    [
        ("echo 'Failed to connect to bus' >&2\nexit 1\n", 30, "systemd-run failed: Failed to connect to bus"),
        ("exit 3\n", 30, "systemd-run failed: it returned 3"),
        ("exec sleep 600\n", 1, "timed out"),
    ],
)
def test_a_systemd_run_that_fails_leaves_the_program_running(
    tmp_path: Path, script: str, timeout_s: int, reason: str
) -> None:
    assert reason in start_with(tmp_path, script, timeout_s)[1]


def test_without_systemd_nothing_is_started(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(own_group, "SYSTEMD", tmp_path / "missing")
    assert "there is no systemd" in own_group.start_in_scope(tmp_path)


@pytest.mark.parametrize("module", ["workers.main", "workers.sandbox"])
def test_the_worker_and_the_check_prepare_their_group(tmp_path: Path, module: str) -> None:
    config = config_file(tmp_path)
    config.chmod(0o600)
    done = python(PREPARE, module, "--config", str(config))
    assert done.stdout == "prepared\n", done.stderr

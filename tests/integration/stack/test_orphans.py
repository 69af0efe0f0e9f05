"""Adoption of orphans, in a separate process, because it kills all of its descendants at the end."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from myctobot.stack.plan import CHECKOUT
from myctobot.stack.processes import ProcessId

# Two orphans in their own sessions, like job runners. One of them ends and must be reaped.
SCRIPT = """
import asyncio, subprocess, psutil
from myctobot.stack.orphans import adopt_orphans
async def main():
    async with adopt_orphans(set):
        start = "setsid sleep 60 >/dev/null 2>&1 & echo $!; setsid sleep 0.1 >/dev/null 2>&1 & echo $!"
        pids = [int(pid) for pid in subprocess.run(["sh", "-c", start], capture_output=True, timeout=10).stdout.split()]
        async with asyncio.timeout(20):
            while psutil.pid_exists(pids[1]):
                await asyncio.sleep(0.05)
        print(*pids, *(child.pid for child in psutil.Process().children()), flush=True)
asyncio.run(main())
"""


def test_orphans_are_adopted_reaped_and_killed_in_the_end() -> None:
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT],
        cwd=CHECKOUT,
        env={"PATH": os.environ["PATH"]},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    runner, _ended, *children = map(int, done.stdout.split())
    assert children == [runner]
    assert ProcessId.of(runner) is None


# Two with a child each: one is the program that containers hang on, the other only calls itself so.
MONITORS = """
import asyncio, subprocess, sys
from myctobot.stack.orphans import adopt_orphans
async def main():
    async with adopt_orphans(set):
        for program in (sys.argv[1], "/bin/sh"):
            script = "sleep 60 >/dev/null 2>&1 & echo $$ $!; wait"
            held = subprocess.Popen(["lxc-start", "-c", script], executable=program, stdout=subprocess.PIPE)
            print(held.stdout.readline().decode(), flush=True)
asyncio.run(main())
"""


@pytest.mark.needs("root")
def test_containers_go_on(tmp_path: Path) -> None:
    program = tmp_path / "lxc-start"
    shutil.copy("/bin/sh", program)
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", MONITORS, program],
        cwd=CHECKOUT,
        env={"PATH": os.environ["PATH"]},
        stdout=subprocess.PIPE,
        text=True,
        timeout=60,
    )
    monitor, inside, *others = map(int, done.stdout.split())
    try:
        assert [pid for pid in (monitor, inside) if ProcessId.of(pid) is None] == []
        assert len(others) == 2
        assert [pid for pid in others if ProcessId.of(pid)] == []
    finally:
        for pid in (monitor, inside):
            os.kill(pid, signal.SIGKILL)

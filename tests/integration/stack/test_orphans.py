"""In a process of its own: who adopts orphans kills all of its descendants in the end, and the tests have some."""

from __future__ import annotations

import os
import subprocess
import sys

from myctobot.stack.plan import CHECKOUT
from myctobot.stack.processes import ProcessId

# Two like a job runner: sessions of their own, their parent gone. One ends by itself and has to be reaped.
SCRIPT = """
import asyncio, subprocess, psutil
from myctobot.stack.orphans import adopted
async def main():
    async with adopted(set):
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

"""Script in a sandbox that was started by root or by an ordinary user.

Usage: python -m tests.attacks.sandbox_scene JOB_DIR USER < SCRIPT

USER is ``root`` or ``ordinary``. The script runs in the sandbox's shell; its output is printed.
"""

from __future__ import annotations

import asyncio
import os
import sys
from pathlib import Path

from workers.sandbox.sandbox import ResourceLimits, Sandbox, SandboxConfig

AGENT = 64603
ORDINARY = 1235


async def _run(job_dir: Path, script: bytes) -> bytes:
    sandbox = Sandbox(SandboxConfig(ResourceLimits(), AGENT), job_dir)
    try:
        done = await sandbox.run(["sh"], stdin=script, timeout_s=60)
        return done.stdout + done.stderr
    finally:
        await sandbox.close()


def main() -> None:
    if sys.argv[2] == "ordinary" and os.getuid() == 0:
        # All modules are imported now, so the other user need not be able to read them.
        os.setgroups([])
        os.setresgid(ORDINARY, ORDINARY, ORDINARY)
        os.setresuid(ORDINARY, ORDINARY, ORDINARY)
    sys.stdout.buffer.write(asyncio.run(_run(Path(sys.argv[1]), sys.stdin.buffer.read())))


if __name__ == "__main__":
    main()

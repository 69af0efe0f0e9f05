"""Scene that runs as an ordinary user in a process of its own and prints its findings as JSON.

Usage: python -m tests.integration.workers.sandbox.as_user JOB_DIR
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
from pathlib import Path
from typing import Any

from workers.errors import JobError
from workers.sandbox.isolation import check
from workers.sandbox.sandbox import ResourceLimits, Sandbox, SandboxConfig

ORDINARY = 1234
AGENT = 64602
STUBBORN = "(setsid sh -c 'trap \"\" TERM; (sleep 1000 &); sleep 1000' &); echo ready; sleep 1000"


HOG = "import os, time; f = open(os.memfd_create('x'), 'wb'); f.write(bytes(120 * 2**20)); time.sleep(600)"


async def hog(sandbox: Sandbox) -> str:
    """Use more memory than allowed in a memory file, and return the code of the error."""
    try:
        await sandbox.run(["/usr/bin/python3", "-c", HOG])
    except JobError as error:
        return error.code
    return "no error"


async def scene(job_dir: Path) -> dict[str, Any]:
    sandbox = Sandbox(SandboxConfig(ResourceLimits(memory_mb=100), AGENT), job_dir)
    try:
        done = await sandbox.run(["sh"], stdin=b"id -u; id -un; unshare -Ur true || echo no-userns; ls /root /home")
        agent = await sandbox.start(["sh", "-c", STUBBORN], env={})
        await agent.stdout.readline()
        await sandbox.freeze()
        await sandbox.thaw()
        proof = await sandbox.kill_all()
        owner = (job_dir / "agent" / "repo").stat().st_uid
        said = sandbox.describe()
        measured = await hog(sandbox)
    finally:
        await sandbox.close()
    return {
        "measured": measured,
        "seen": done.stdout.decode().split(),
        "proof": proof,
        "owner": owner,
        "said": said,
        "uid": os.getuid(),
    }


def main() -> None:
    job_dir = Path(sys.argv[1])
    if os.getuid() == 0:
        # All modules are imported now, so the other user need not be able to read them.
        os.setgroups([])
        os.setresgid(ORDINARY, ORDINARY, ORDINARY)
        os.setresuid(ORDINARY, ORDINARY, ORDINARY)
    reason = check(SandboxConfig(ResourceLimits(), AGENT))
    sys.stdout.write(json.dumps({"check": reason, **asyncio.run(scene(job_dir))}))


if __name__ == "__main__":
    main()

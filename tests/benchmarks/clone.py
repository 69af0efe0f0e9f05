"""Time and disk that a job needs until the agent has its repository, for the first job and for later ones."""

from __future__ import annotations

import asyncio
import base64
import os
import statistics
import subprocess
import time
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final, NamedTuple

from tests.benchmarks.result import CannotMeasure, Check, Result, spread
from tests.factories.git_jobs import TOKEN, Jobs
from tests.fixtures.git_server import GitServer, serve
from tests.fixtures.repos import ENV, MONOREPO_FILES, git, make_monorepo
from workers.errors import JobError

COMMITS: Final = 16_000
ROUNDS: Final = 3
MAX_RATIO: Final = 1.3
LATER_TARGET_S: Final = 1.5
DISK_TARGET_MB: Final = 10.0
MB: Final = 2**20


class Turn(NamedTuple):
    """Seconds of a job's preparation, its disk use besides the files in MB, and the last line of its log."""

    seconds: float
    disk_mb: float
    steps: str


def measure() -> Result:
    """Clone one repository over https by turns: with git, with a first job, and with a later job."""
    with TemporaryDirectory(prefix="clone-") as name:
        folder = Path(name)
        # The agent's user passes through the folder.
        folder.chmod(0o711)
        (folder / "served").mkdir()
        remote = make_monorepo(folder / "served" / "repo.git", MONOREPO_FILES, COMMITS)
        git(remote, "gc", "--quiet")
        with serve(folder / "served", folder, TOKEN) as server:
            try:
                peers, firsts, laters = asyncio.run(_measure_all(server, folder))
            except JobError as error:
                raise CannotMeasure(f"a job cannot clone here: {error}") from error
    peer = _median_s(peers)
    first = _median_s([turn.seconds for turn in firsts])
    return Result(
        "clone",
        first,
        "s",
        peer,
        round(MAX_RATIO * peer, 2),
        {
            "repository": f"{MONOREPO_FILES:,} files, {COMMITS:,} commits, over https",
            "first_ms": _ms([turn.seconds for turn in firsts]),
            "later_ms": _ms([turn.seconds for turn in laters]),
            "peer_ms": _ms(peers),
            "first_steps": firsts[-1].steps,
            "later_steps": laters[-1].steps,
            "peer": "git clone of the same repository from the same server, without a check of its objects",
        },
        checks=(
            Check("a later job", _median_s([turn.seconds for turn in laters]), LATER_TARGET_S, "s"),
            Check("disk besides the files", max(turn.disk_mb for turn in firsts + laters), DISK_TARGET_MB, "MB"),
        ),
    )


async def _measure_all(server: GitServer, folder: Path) -> tuple[list[float], list[Turn], list[Turn]]:
    peers: list[float] = []
    firsts: list[Turn] = []
    laters: list[Turn] = []
    # Nothing is removed between the turns: ext4 makes files slowly while many were deleted in the last minutes.
    for number in range(ROUNDS):
        peers.append(_clone(server, folder / f"peer-{number}"))
        own = folder / f"round-{number}"
        own.mkdir(mode=0o711)
        jobs = Jobs(server, own)
        try:
            firsts.append(await _prepare(jobs, own / "job-0"))
            laters.append(await _prepare(jobs, own / "job-1"))
        finally:
            await jobs.close()
    return peers, firsts, laters


def _clone(server: GitServer, target: Path) -> float:
    basic = base64.b64encode(f"x-access-token:{TOKEN}".encode()).decode()
    settings = (f"http.sslCAInfo={server.ca_file}", f"http.extraHeader=Authorization: Basic {basic}")
    options = [part for setting in settings for part in ("-c", setting)]
    began = time.perf_counter()
    subprocess.run(["git", *options, "clone", "--quiet", server.url("repo.git"), str(target)], env=ENV, check=True)
    return time.perf_counter() - began


async def _prepare(jobs: Jobs, job_dir: Path) -> Turn:
    job = jobs()
    began = time.perf_counter()
    await job.workspace.prepare()
    elapsed = time.perf_counter() - began
    checkout = job_dir / "agent" / "repo"
    files = _disk(checkout) - _disk(checkout / ".git")
    return Turn(elapsed, round((_disk(job_dir) - files) / MB, 1), job.logged().split("\n")[-1])


def _disk(folder: Path) -> int:
    """Return the bytes that a folder takes on the disk."""
    return sum(
        os.lstat(os.path.join(where, name)).st_blocks * 512  # noqa: PTH118  # a path object for each file is slow
        for where, folders, files in os.walk(folder)
        for name in (*folders, *files)
    )


def _median_s(seconds: Sequence[float]) -> float:
    return round(statistics.median(seconds), 2)


def _ms(seconds: Sequence[float]) -> dict[str, float]:
    return spread([second * 1000 for second in seconds])

"""Runner whose claim is answered for another attempt than its own."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path
from typing import Any, cast

import pytest

from myctobot.contract.runner import ClaimAnswer, ClaimRequest
from tests.integration.workers.test_main import config_file
from workers.config import load_config
from workers.control_plane import ControlPlane
from workers.runner.runner import Runner
from workers.runner_registry import RunnerEntry

JOB = "job_0123456789abcdefghjk"


class OtherControlPlane(ControlPlane):
    """Control plane that answers each claim with the same attempt."""

    def __init__(self, job_id: Any, attempt: Any) -> None:
        super().__init__("http://127.0.0.1:9", "mcts_probe")
        self._other = {"job_id": job_id, "attempt": attempt}

    async def claim(self, job_id: str, request: ClaimRequest) -> ClaimAnswer:
        return cast(ClaimAnswer, self._other)


@pytest.mark.parametrize(("job_id", "attempt"), [("../victim", 1), (JOB, 2), (JOB, "1"), (f"{JOB[:-1]}z", 1)])
def test_it_builds_no_path_from_the_answer(tmp_path: Path, job_id: Any, attempt: Any) -> None:
    config = load_config(config_file(tmp_path))
    before = sorted(tmp_path.rglob("*"))
    runner = Runner(config, OtherControlPlane(job_id, attempt), RunnerEntry(os.getpid(), 1, JOB, 1, 0))
    asyncio.run(runner.run())
    assert sorted(tmp_path.rglob("*")) == before

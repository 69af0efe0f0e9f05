from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

REPOSITORY = Path(__file__).parents[4]


@pytest.fixture(scope="module")
def played() -> Iterator[dict[str, Any]]:
    # Other users cannot enter pytest's own directories.
    with tempfile.TemporaryDirectory(dir="/tmp") as directory:
        Path(directory).chmod(0o777)
        command = [sys.executable, "-m", "tests.integration.workers.sandbox.as_user", f"{directory}/job"]
        env = {"PATH": "/usr/bin:/bin"}
        done = subprocess.run(command, cwd=REPOSITORY, env=env, capture_output=True, timeout=60, check=False)
        assert done.returncode == 0, done.stderr.decode()
        yield json.loads(done.stdout)


def test_an_ordinary_user_can_isolate_an_agent(played: dict[str, Any]) -> None:
    assert played["uid"] != 0
    assert played["check"] is None
    assert "in a user namespace" in played["said"]


def test_the_agent_has_its_own_number_and_can_make_no_further_namespace(played: dict[str, Any]) -> None:
    assert played["seen"] == ["64602", "agent", "no-userns", "/home:", "agent"]


def test_its_files_belong_to_the_user_on_the_host(played: dict[str, Any]) -> None:
    assert played["owner"] == played["uid"]


def test_memory_that_no_process_maps_is_limited(played: dict[str, Any]) -> None:
    assert played["measured"] == "agent_out_of_memory"


def test_kill_all_returns_its_proof_too(played: dict[str, Any]) -> None:
    assert played["proof"]["processes_killed"] >= 4
    assert played["proof"]["processes_left"] == 0

"""Failures on a shard: the job ends with the reason, and the shard continues."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.acceptance.client import Client, file_url, shard_config
from tests.fixtures.repos import branches, commit, git, make_remote

pytestmark = pytest.mark.acceptance


def test_a_missing_cli_fails_the_job_and_names_the_setting(fragile: Client, tmp_path: Path) -> None:
    with shard_config(fragile, claude_code={"cli_path": str(tmp_path / "no-such-cli")}):
        job = fragile.run({"prompt": "THINK AND TALK"})
    assert (job["status"], job["error"]["code"]) == ("failed", "agent_cli_missing")
    assert "claude_code.cli_path" in job["error"]["message"]
    assert fragile.run({"prompt": "THINK AND TALK"})["status"] == "completed"


def test_a_wrong_shard_key_is_reported_to_the_member_and_in_the_log(fragile: Client) -> None:
    with shard_config(fragile, shard_key="mcts_wrong"):
        job_id = fragile.submit({"prompt": "THINK AND TALK"})
        waiting = fragile.wait(job_id, lambda job: job["waiting"] and job["waiting"]["code"] == "no_healthy_shard", 40)
        assert "local silent since" in waiting["waiting"]["reason"]
        assert "The shard key is not valid" in fragile.stack.output()
    assert fragile.wait_end(job_id)["status"] == "completed"


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """Mount a file system of 80 MB, which needs root."""
    assert os.geteuid() == 0, "this test mounts a small file system, so it runs as root"
    path = tmp_path / "disk"
    path.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=80m,mode=0711", "none", str(path)], check=True)
    yield path
    subprocess.run(["umount", "--lazy", str(path)], check=True)


def test_a_full_disk_fails_the_job_with_the_reason(fragile: Client, small_disk: Path) -> None:
    with shard_config(fragile, cleanup={"workspace_path": str(small_disk / "jobs")}):
        job = fragile.run({"prompt": "RUN: head -c 90000000 /dev/zero > big; sync; ls -l big > listing; sleep 60"})
        # The shard ends the job, continues, and the space is free again.
        assert (job["status"], job["error"]["code"], job["error"]["retryable"]) == ("failed", "disk_limit", True)
        # The shard reports the end of a job before it deletes the files.
        fragile.wait(job["id"], lambda _: not any((small_disk / "jobs").iterdir()))
        fragile.wait(job["id"], lambda _: shutil.disk_usage(small_disk).free > 70_000_000)
        filler = small_disk / "filler"
        filler.write_bytes(b"\0" * 60_000_000)
        job = fragile.run({"prompt": "THINK AND TALK"})
        assert (job["status"], job["error"]["code"], job["error"]["retryable"]) == ("failed", "disk_full", True)
        filler.unlink()
        assert fragile.run({"prompt": "THINK AND TALK"})["status"] == "completed"


@pytest.mark.needs("root")
@pytest.mark.needs("loop devices")
def test_a_job_that_reaches_its_bound_on_disk_fails_with_the_bound(fragile: Client) -> None:
    with shard_config(fragile, sandbox={"disk_mb": 64, "disk_files": 2000}):
        job = fragile.run({"prompt": "RUN: head -c 200M /dev/zero > big; sleep 60"})
        assert (job["status"], job["error"]["code"], job["error"]["retryable"]) == ("failed", "disk_limit", False)
        assert "its bound of 64 MB on disk (sandbox.disk_mb)" in job["error"]["message"]
        assert fragile.run({"prompt": "THINK AND TALK"})["status"] == "completed"


@pytest.mark.long
def test_a_full_disk_while_cloning_fails_the_job_with_the_reason(
    fragile: Client, small_disk: Path, tmp_path: Path
) -> None:
    remote = make_remote(tmp_path / "large.git", {"a.txt": "a"})
    work = Path(f"{remote}.work")
    (work / "noise.bin").write_bytes(os.urandom(70_000_000))
    commit(work, {}, "large")
    git(work, "push", "--quiet", str(remote), "main")
    with shard_config(fragile, cleanup={"workspace_path": str(small_disk / "jobs")}):
        job = fragile.run({"repo_url": file_url(remote), "prompt": "NO CHANGES"})
        # Either git reaches the end of the disk first, or the shard sees that too little is left.
        assert (job["status"], job["error"]["code"] in ("disk_full", "disk_limit")) == ("failed", True), job["error"]
        assert fragile.run({"prompt": "THINK AND TALK"})["status"] == "completed"


def test_a_job_survives_a_restart_of_the_web_process(fragile: Client, tmp_path: Path) -> None:
    remote = make_remote(tmp_path / "remote.git")
    job_id = fragile.submit({"repo_url": file_url(remote), "branch": "patient", "prompt": "RUN: sleep 2; date > d.txt"})
    fragile.wait_event(job_id, "tool.call")
    web = fragile.stack.pid_of("web")
    os.kill(web, signal.SIGKILL)
    job = wait_through_restart(fragile, job_id)
    assert (job["status"], len(job["attempts"])) == ("completed", 1), job
    assert "patient" in branches(remote)
    events = fragile.events(job_id)
    assert [event["seq"] for event in events] == list(range(1, len(events) + 1))


def wait_through_restart(client: Client, job_id: str) -> dict[str, Any]:
    """Wait for the end of a job although calls to the web process fail."""
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        with suppress(httpx.TransportError):
            return client.wait_end(job_id)
        time.sleep(0.2)
    raise AssertionError("the web process did not come back")


def test_a_process_with_too_much_memory_ends_with_the_reason(fragile: Client) -> None:
    with shard_config(fragile, sandbox={"memory_mb": 600}):
        hog = 'python3 -c "import time; b = [bytearray(50_000_000) for _ in range(40)]; time.sleep(20)"'
        job = fragile.run({"prompt": f"RUN: {hog}; echo hog ended with $?"})
    is_reported = "memory" in (job["error"] or {}).get("message", "")
    # The kernel ends either the hog, which the agent reports, or the agent, which the job reports.
    events = "\n".join(str(event["data"]) for event in fragile.events(job["id"]))
    assert is_reported or "hog ended with 137" in events or "Killed" in events, job
    assert fragile.run({"prompt": "THINK AND TALK"})["status"] == "completed"


def test_a_killed_runner_is_lost_and_the_job_is_retried(fragile: Client) -> None:
    job_id = fragile.submit({"prompt": "RUN: sleep 5"})
    fragile.wait_event(job_id, "tool.call")
    (entry,) = (fragile.stack.home / "shards" / "local" / "run").glob("*.json")
    os.kill(json.loads(entry.read_text())["pid"], signal.SIGKILL)
    jobs = fragile.stack.home / "shards" / "local" / "jobs"
    deadline = time.monotonic() + 20
    while any(jobs.iterdir()) and time.monotonic() < deadline:
        time.sleep(0.1)
    # The shard deletes the files and reports the end at once, so no time is lost until the end of the lease.
    assert not any(jobs.iterdir())
    fragile.wait(job_id, lambda job: job["attempts"][0]["state"] == "lost", 20)
    job = fragile.wait_end(job_id, 60)
    assert job["status"] == "completed", job
    assert [attempt["state"] for attempt in job["attempts"]] == ["lost", "ended"]

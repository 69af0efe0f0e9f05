"""What goes wrong on a shard ends the job with the reason, and the shard goes on."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.acceptance.client import Client, file_url, kill_worker
from tests.fixtures.repos import branches, commit, git, make_remote
from tests.stacks import PLAYS, running_stack

pytestmark = pytest.mark.acceptance


@pytest.fixture(scope="module")
def fragile(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Client]:
    """A stack of its own: its shard's configuration is changed and its processes are stopped."""
    home = tmp_path_factory.mktemp("fragile") / "home"
    environ = {"GATEWAY_PLAYS": str(PLAYS), "LOCAL_SHARD_SLOTS": "1"}
    with running_stack(home, environ=environ) as stack, Client(stack) as client:
        yield client


@contextmanager
def shard_config(client: Client, **changes: Any) -> Iterator[None]:
    """Change the shard's config.json for the block: top-level keys, sections merged."""
    path = client.stack.shards["local"]
    text = path.read_text()
    config = json.loads(text)
    for key, value in changes.items():
        config[key] = {**config[key], **value} if isinstance(value, dict) else value
    path.write_text(json.dumps(config))
    kill_worker(client)
    try:
        yield
    finally:
        path.write_text(text)
        kill_worker(client)


def test_a_missing_cli_fails_the_job_and_says_what_to_install(fragile: Client, tmp_path: Path) -> None:
    with shard_config(fragile, claude_code={"cli_path": str(tmp_path / "no-such-cli")}):
        job = fragile.run({"prompt": "THINK AND TALK"})
    assert (job["status"], job["error"]["code"]) == ("failed", "agent_cli_missing")
    assert "claude_code.cli_path" in job["error"]["message"]
    assert fragile.run({"prompt": "THINK AND TALK"})["status"] == "completed"


def test_a_wrong_shard_key_is_told_to_who_waits_and_to_the_log(fragile: Client) -> None:
    with shard_config(fragile, shard_key="mcts_wrong"):
        job_id = fragile.submit({"prompt": "THINK AND TALK"})
        waiting = fragile.wait(job_id, lambda job: job["waiting"] and job["waiting"]["code"] == "no_healthy_shard", 40)
        assert "local silent since" in waiting["waiting"]["reason"]
        assert "The shard key is not valid" in fragile.stack.output()
    assert fragile.wait_end(job_id)["status"] == "completed"


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 80 MB; as an ordinary user this needs a mount of the test host's making."""
    assert os.geteuid() == 0, "this test mounts a small file system, so it runs as root"
    path = tmp_path / "disk"
    path.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=80m,mode=0711", "none", str(path)], check=True)
    yield path
    subprocess.run(["umount", "--lazy", str(path)], check=True)


def test_a_full_disk_fails_the_job_with_the_reason(fragile: Client, small_disk: Path) -> None:
    with shard_config(fragile, cleanup={"workspace_path": str(small_disk / "jobs")}):
        job = fragile.run({"prompt": "RUN: head -c 90000000 /dev/zero > big; sync; ls -l big > listing; df /workspace"})
        # The agent is told by its own tools; the shard goes on, and the room is there again.
        assert job["status"] == "completed"
        # A job is told ended before its files are gone.
        fragile.wait(job["id"], lambda _: not any((small_disk / "jobs").iterdir()))
        filler = small_disk / "filler"
        filler.write_bytes(b"\0" * 60_000_000)
        job = fragile.run({"prompt": "THINK AND TALK"})
        assert (job["status"], job["error"]["code"], job["error"]["retryable"]) == ("failed", "disk_full", True)
        filler.unlink()
        assert fragile.run({"prompt": "THINK AND TALK"})["status"] == "completed"


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
        assert (job["status"], job["error"]["code"]) == ("failed", "disk_full"), job["error"]
        assert fragile.run({"prompt": "THINK AND TALK"})["status"] == "completed"


def test_a_control_plane_that_is_away_for_a_while_costs_time_and_no_job(fragile: Client, tmp_path: Path) -> None:
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
    """As ``wait_end``, while the web process comes and goes."""
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        with suppress(httpx.TransportError):
            return client.wait_end(job_id)
        time.sleep(0.2)
    raise AssertionError("the web process did not come back")


def test_an_agent_that_uses_too_much_memory_ends_with_the_reason(fragile: Client) -> None:
    with shard_config(fragile, sandbox={"memory_mb": 600}):
        hog = 'python3 -c "import time; b = [bytearray(50_000_000) for _ in range(40)]; time.sleep(20)"'
        job = fragile.run({"prompt": f"RUN: {hog}; echo hog ended with $?"})
    told = "memory" in (job["error"] or {}).get("message", "")
    # Either the hog alone was ended and the agent was told, or the agent was ended and the job says why.
    events = "\n".join(str(event["data"]) for event in fragile.events(job["id"]))
    assert told or "hog ended with 137" in events or "Killed" in events, job
    assert fragile.run({"prompt": "THINK AND TALK"})["status"] == "completed"


def test_a_killed_runner_is_lost_and_the_job_is_tried_again(fragile: Client) -> None:
    job_id = fragile.submit({"prompt": "RUN: sleep 5"})
    fragile.wait_event(job_id, "tool.call")
    (entry,) = (fragile.stack.home / "shards" / "local" / "run").glob("*.json")
    os.kill(json.loads(entry.read_text())["pid"], signal.SIGKILL)
    jobs = fragile.stack.home / "shards" / "local" / "jobs"
    deadline = time.monotonic() + 20
    while any(jobs.iterdir()) and time.monotonic() < deadline:
        time.sleep(0.1)
    # What it had on the disk goes at once; that it is lost is known when its lease has run out.
    assert not any(jobs.iterdir())
    job = fragile.wait_end(job_id, 150)
    assert job["status"] == "completed", job
    assert [attempt["state"] for attempt in job["attempts"]] == ["lost", "ended"]

"""Work of agents that a job keeps: another attempt, a new push, downloads, and ends that are no success."""

from __future__ import annotations

import os
import secrets
import signal
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.acceptance.client import Client, file_url, shard_config, texts
from tests.acceptance.conftest import Guarded
from tests.fixtures.git_faults import Fault, every_push, status, write_hook
from tests.fixtures.repos import branches, git, make_remote

pytestmark = pytest.mark.acceptance

COMMIT = "SCRIPT:\necho w > n; git add .; git commit -qm w"


def kinds(client: Client, job_id: str) -> list[str]:
    return [event["kind"] for event in client.events(job_id)]


def apply_patch(client: Client, job_id: str, remote: Path, folder: Path) -> Path:
    """Apply the downloaded patch in a new clone of the repository, and return the clone."""
    answer = client.http.get(f"/jobs/{job_id}/patch")
    assert answer.status_code == 200, answer.text
    git(folder, "clone", "-q", str(remote), "reader")
    (folder / "work.patch").write_bytes(answer.content)
    git(folder / "reader", "apply", str(folder / "work.patch"))
    return folder / "reader"


def push_again(client: Client, job_id: str, **body: Any) -> dict[str, Any]:
    answer = client.http.post(f"/jobs/{job_id}/push", json=body)
    assert answer.status_code == 201, answer.text
    return client.wait_end(answer.json()["id"])


@pytest.fixture
def impatient(guarded: Guarded) -> Iterator[Guarded]:
    """Return a stack whose shard tries a push again for a second only."""
    guarded.git.token = "canary-token-0123456789"
    with shard_config(guarded.client, git={"push_retry_s": 1}):
        yield guarded
    guarded.git.faults = []


def test_another_attempt_pushes_the_work_and_the_agent_runs_once(impatient: Guarded) -> None:
    client, server = impatient.client, impatient.git
    remote = make_remote(server.root / "busy.git")
    server.faults = [Fault(every_push, status(503))]
    task = {"repo_url": server.url("busy.git"), "repo_token": server.token, "branch": "topic", "prompt": COMMIT}
    job_id = client.submit(task)
    waiting = client.wait(job_id, lambda job: job["attempts"] and job["attempts"][0]["state"] == "ended")
    assert waiting["work"]["ready"] is True
    server.faults = []
    job = client.wait_end(job_id)
    assert (job["status"], len(job["attempts"])) == ("completed", 2), job
    assert branches(remote)["topic"] == job["result"]["head"] == job["work"]["head"]
    assert kinds(client, job_id).count("agent.started") == 1
    assert job["result"]["usage"]["turns"] >= 1


def test_a_refused_push_is_pushed_again_without_the_agent(client: Client, tmp_path: Path) -> None:
    remote = make_remote(tmp_path / "protected.git")
    server = tmp_path / "protected.git" / "refs" / "heads" / "topic.lock"
    # The branch cannot be written, as on a server with a broken disk.
    server.touch()
    job = client.run({"repo_url": file_url(remote), "branch": "topic", "prompt": COMMIT})
    assert (job["status"], job["work"]["ready"]) == ("failed", True), job
    assert "The agent's work is kept with the job" in job["error"]["message"]
    reader = apply_patch(client, job["id"], remote, tmp_path)
    assert (reader / "n").read_text() == "w\n"
    server.unlink()
    pushed = push_again(client, job["id"])
    assert (pushed["status"], pushed["retry_of"]) == ("completed", job["id"]), pushed
    assert branches(remote)["topic"] == job["work"]["head"] == pushed["result"]["head"]
    assert "agent.started" not in kinds(client, pushed["id"])
    assert {"git.diff", "git.pushed"} <= set(kinds(client, pushed["id"]))
    assert pushed["usage"] is None


@pytest.mark.parametrize(
    ("more", "code"),
    [
        ({"timeout_s": 60}, "timeout"),
        pytest.param({"no_output_timeout_s": 60}, "no_output", marks=pytest.mark.long),
        ({"max_turns": 1}, "agent_max_turns"),
    ],
)
def test_a_job_that_ends_at_a_limit_keeps_what_the_agent_did(
    client: Client, tmp_path: Path, more: dict[str, int], code: str
) -> None:
    remote = make_remote(tmp_path / "limits.git")
    end = "" if code == "agent_max_turns" else "; sleep 300"
    job = client.run({"repo_url": file_url(remote), "prompt": f"{COMMIT}; echo later > uncommitted{end}"}, **more)
    assert (job["status"], job["error"]["code"]) == ("failed", code), job
    assert "download it as a patch or a bundle" in job["error"]["message"], texts(client.events(job["id"]))
    assert job["work"]["ready"] is False
    assert "git.diff" in kinds(client, job["id"])
    reader = apply_patch(client, job["id"], remote, tmp_path)
    assert [(reader / name).read_text() for name in ("n", "uncommitted")] == ["w\n", "later\n"]
    bundle = tmp_path / "work.bundle"
    bundle.write_bytes(client.http.get(f"/jobs/{job['id']}/bundle").content)
    branch = f"myctobot/{job['id']}"
    git(reader, "fetch", "-q", str(bundle), branch)
    assert git(reader, "rev-parse", "FETCH_HEAD") == job["work"]["head"]
    assert list(branches(remote)) == ["main"]
    pushed = push_again(client, job["id"])
    assert pushed["status"] == "completed", pushed
    assert branches(remote)[branch] == job["work"]["head"]


def processes() -> dict[int, tuple[int, str]]:
    """Return the parent and the command line of each process of this machine."""
    listing = subprocess.run(["ps", "-eo", "pid=,ppid=,args="], capture_output=True, text=True, check=True).stdout
    rows = (line.split(None, 2) for line in listing.splitlines())
    return {int(pid): (int(parent), args) for pid, parent, args in rows}


def sleeping(marker: str) -> int | None:
    """Return the process of the agent's last command, which has this marker as its argument."""
    return next((pid for pid, (_, args) in processes().items() if args == f"sleep {marker}"), None)


def kill_agent(client: Client, job_id: str, last: int) -> None:
    """Kill the agent itself, as the kernel does when memory ends: the parent of the shell of its last command."""
    found = processes()
    os.kill(found[found[last][0]][0], signal.SIGKILL)


def cancel(client: Client, job_id: str, last: int) -> None:
    client.cancel(job_id)


@pytest.mark.parametrize(("stop", "status"), [(cancel, "cancelled"), (kill_agent, "failed")])
def test_a_cancelled_or_killed_agents_work_is_kept(
    client: Client, tmp_path: Path, stop: Callable[[Client, str, int], None], status: str
) -> None:
    remote = make_remote(tmp_path / "stopped.git")
    marker = f"300.{secrets.randbelow(10**9)}"
    prompt = f"{COMMIT}; echo x > loose; sleep {marker}"
    job_id = client.submit({"repo_url": file_url(remote), "prompt": prompt})
    client.wait(job_id, lambda _: sleeping(marker) is not None)
    stop(client, job_id, sleeping(marker) or 0)
    job = client.wait_end(job_id)
    assert job["status"] == status, job
    assert job["attempts"][0]["proof"]["processes_left"] == 0
    assert sleeping(marker) is None
    reader = apply_patch(client, job_id, remote, tmp_path)
    assert ((reader / "n").read_text(), (reader / "loose").read_text()) == ("w\n", "x\n")


def test_a_hook_of_the_server_leaves_the_work(impatient: Guarded) -> None:
    client, server = impatient.client, impatient.git
    remote = make_remote(server.root / "hooked.git")
    write_hook(remote, ["GL-HOOK-ERR: branch is protected"], refuse=True)
    task = {"repo_url": server.url("hooked.git"), "repo_token": server.token, "branch": "topic", "prompt": COMMIT}
    job = client.run(task)
    assert (job["status"], job["error"]["code"], len(job["attempts"])) == ("failed", "push_denied", 1), job
    write_hook(remote, ["welcome"])
    # The token came with the request and is gone.
    refused = client.http.post(f"/jobs/{job['id']}/push", json={})
    assert refused.json()["error"]["code"] == "secrets_required"
    pushed = push_again(client, job["id"], repo_token=server.token)
    assert (pushed["status"], branches(remote)["topic"]) == ("completed", job["work"]["head"]), pushed


def test_a_job_without_changes_keeps_no_work(client: Client, tmp_path: Path) -> None:
    remote = make_remote(tmp_path / "idle.git")
    job = client.run({"repo_url": file_url(remote), "prompt": "RUN: false"})
    assert (job["status"], job["work"]) == ("completed", None)
    assert client.http.get(f"/jobs/{job['id']}/patch").status_code == 404
    assert client.http.post(f"/jobs/{job['id']}/push", json={}).json()["error"]["code"] == "unknown_work"


def test_unfinished_work_is_pushed_to_a_branch_of_its_own_if_asked_for(client: Client, tmp_path: Path) -> None:
    remote = make_remote(tmp_path / "wip.git")
    task = {"repo_url": file_url(remote), "branch": "topic", "prompt": f"{COMMIT}; echo later > uncommitted"}
    job = client.run(task, max_turns=1, on_failure="push_wip")
    assert (job["status"], job["error"]["code"]) == ("failed", "agent_max_turns"), job
    branch = f"myctobot/wip/{job['id']}-1"
    assert branches(remote) == {"main": branches(remote)["main"], branch: job["result"]["wip_head"]}
    assert job["result"]["wip_branch"] == branch
    assert f"It is also on the branch {branch}." in job["error"]["message"]
    assert git(remote, "show", f"{branch}:uncommitted") == "later"


def test_unfinished_work_with_ci_files_is_kept_and_not_pushed(client: Client, tmp_path: Path) -> None:
    remote = make_remote(tmp_path / "ci.git")
    prompt = "SCRIPT:\nmkdir -p .github/workflows; echo 'on: push' > .github/workflows/ci.yml"
    job = client.run({"repo_url": file_url(remote), "prompt": prompt}, max_turns=1, on_failure="push_wip")
    assert (job["status"], job["result"]) == ("failed", {}), job
    warnings = [event["data"]["code"] for event in client.events(job["id"]) if event["kind"] == "job.warning"]
    assert "wip_not_pushed" in warnings
    assert (job["work"] is not None, list(branches(remote))) == (True, ["main"])

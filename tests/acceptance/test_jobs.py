"""Jobs from the API to a pushed branch, with the real agent in the real sandbox."""

from __future__ import annotations

import os
from pathlib import Path

import httpx
import pytest

from tests.acceptance.client import Client, file_url, texts
from tests.fixtures.repos import branches, commit, git, make_remote

pytestmark = pytest.mark.acceptance


@pytest.fixture
def remote(tmp_path: Path) -> Path:
    return make_remote(tmp_path / "remote.git", {"README.md": "# Example\n", "CLAUDE.md": "Use tabs.\n"})


def test_the_work_of_the_agent_is_pushed_to_the_branch(client: Client, remote: Path) -> None:
    job = client.run(
        {
            "type": "implement_ticket",
            "issue_key": "PROJ-7",
            "repo_url": file_url(remote),
            "branch": "feature/proj-7",
            "base_branch": "main",
            "prompt": "WRITE hello.txt: hello from the agent",
        }
    )
    assert job["status"] == "completed", job
    assert job["result"]["branch"] == "feature/proj-7"
    assert branches(remote)["feature/proj-7"] == job["result"]["head"]
    assert git(remote, "show", "feature/proj-7:hello.txt") == "hello from the agent"
    message = git(remote, "log", "-1", "--format=%s", "feature/proj-7")
    assert message.startswith("PROJ-7: ")


def test_events_have_numbers_without_gaps_and_phases_in_order(client: Client, remote: Path) -> None:
    job = client.run({"repo_url": file_url(remote), "prompt": "WRITE a.txt: a"})
    events = client.events(job["id"])
    assert [event["seq"] for event in events] == list(range(1, job["events_count"] + 1))
    phases = [event["data"]["phase"] for event in events if event["kind"] == "job.phase"]
    assert phases == ["preparing", "cloning", "agent", "pushing", "reporting"]
    assert {"agent.started", "tool.call", "tool.result", "git.diff", "git.pushed", "job.result"} <= {
        event["kind"] for event in events
    }
    assert job["result"]["branch"] == f"myctobot/{job['id']}"


def test_the_stream_ends_with_the_count_and_the_status(client: Client) -> None:
    job_id = client.submit({"prompt": "THINK AND TALK"})
    kinds, last = [], ""
    with client.http.stream("GET", f"/jobs/{job_id}/stream", timeout=60) as stream:
        for line in stream.iter_lines():
            if line.startswith("event: "):
                kinds.append(line.removeprefix("event: "))
            elif line.startswith("data: "):
                last = line.removeprefix("data: ")
    job = client.job(job_id)
    assert kinds[-1] == "end"
    assert httpx.Response(200, text=last).json()["data"] == {"count": job["events_count"], "status": "completed"}
    assert len(kinds) == job["events_count"] + 1


def test_a_job_without_changes_completes_with_a_note_and_no_branch(client: Client, remote: Path) -> None:
    job = client.run({"repo_url": file_url(remote), "branch": "empty", "prompt": "NO CHANGES"})
    assert job["status"] == "completed"
    assert job["result"]["branch"] is None
    assert "changed nothing" in job["result"]["note"]
    assert "empty" not in branches(remote)


def test_the_agent_calls_a_real_mcp_server(client: Client, remote: Path) -> None:
    task = {"repo_url": file_url(remote), "branch": "looked-at", "prompt": "GIT STATUS"}
    job = client.run(task, capabilities=["git", "filesystem"])
    assert job["status"] == "completed", job
    assert "The server says that the branch is looked-at" in job["result"]["summary"]


def test_commits_of_the_agent_are_pushed_too(client: Client, remote: Path) -> None:
    command = "echo one > one.txt && git add one.txt && git commit -qm 'By the agent' && echo two > two.txt"
    job = client.run({"repo_url": file_url(remote), "branch": "two", "prompt": f"RUN: {command}"})
    assert job["result"]["commits"] == 2
    assert git(remote, "log", "--format=%s", "main..two").splitlines()[-1] == "By the agent"


def test_a_second_job_continues_the_branch(client: Client, remote: Path) -> None:
    for name in ("first", "second"):
        job = client.run({"repo_url": file_url(remote), "branch": "shared", "prompt": f"WRITE {name}.txt: {name}"})
        assert job["status"] == "completed", job
    assert set(git(remote, "ls-tree", "--name-only", "shared").split()) >= {"first.txt", "second.txt"}


def test_a_job_that_cannot_clone_fails_with_the_reason(client: Client, tmp_path: Path) -> None:
    job = client.run({"repo_url": file_url(tmp_path / "missing.git"), "prompt": "NO CHANGES"})
    assert (job["status"], job["error"]["code"]) == ("failed", "repo_not_found")
    assert "repo_url" in job["error"]["message"]


def test_a_refusal_of_the_model_fails_the_job_without_a_push(client: Client, remote: Path) -> None:
    job = client.run({"repo_url": file_url(remote), "branch": "refused", "prompt": "REFUSED MODEL"})
    assert (job["status"], job["error"]["code"]) == ("failed", "agent_api_error")
    assert "refused" not in branches(remote)


def test_a_job_that_runs_too_long_ends_with_the_reason(client: Client) -> None:
    job = client.run({"prompt": "SLOW JOB"}, timeout_s=10)
    assert (job["status"], job["error"]["code"]) == ("failed", "timeout")
    assert "timeout_s" in job["error"]["message"]


def test_an_agent_without_output_is_ended(client: Client) -> None:
    job = client.run({"prompt": "RUN: sleep 300"}, no_output_timeout_s=10)
    assert (job["status"], job["error"]["code"]) == ("failed", "no_output")
    assert "no_output_timeout_s" in job["error"]["message"]


def test_the_shard_keeps_no_file_of_an_ended_job(client: Client, remote: Path) -> None:
    job = client.run({"repo_url": file_url(remote), "prompt": "WRITE left.txt: over"})
    shard = client.stack.home / "shards" / "local"
    config, isolation = shard / "config.json", shard / "run" / "isolation"
    client.wait(
        job["id"], lambda _: not any((shard / "jobs").iterdir()) and [*(shard / "run").iterdir()] == [isolation]
    )
    files = {path for path in shard.rglob("*") if path.is_file()}
    kept = {path for path in files if shard / "jobs-objects" in path.parents}
    assert files - kept == {config, isolation}
    # These are the objects of the server, and none of the agent's.
    packs = [path for path in kept if path.suffix == ".pack"]
    shown = [git(path.parent, "verify-pack", "-v", str(path)) for path in packs]
    assert packs
    assert not any(job["result"]["head"] in text for text in shown)


def test_the_environment_of_the_agent_has_no_variable_of_the_worker(client: Client) -> None:
    job = client.run({"prompt": "RUN: env | cut -d= -f1 | sort | tr '\\n' ' '"})
    names = set(next(e for e in client.events(job["id"]) if e["kind"] == "tool.result")["data"]["output"].split())
    assert "HOME" in names
    stray = {name for name in names if name.startswith(("MYCTOBOT", "DATABASE", "REDIS", "SECRET", "CELERY", "DJANGO"))}
    assert not stray
    assert not names & (set(os.environ) - {"HOME", "PATH", "LANG", "TERM", "TZ", "TMPDIR", "USER", "PWD", "SHLVL"})


def test_a_symlink_out_of_the_workspace_shows_no_file_of_the_host(client: Client, remote: Path, tmp_path: Path) -> None:
    canary = tmp_path / "canary.txt"
    canary.write_text("host-file-canary")
    work = Path(f"{remote}.work")
    (work / "out").symlink_to(canary)
    (work / "etc").symlink_to("/etc/shadow")
    commit(work, {}, "links")
    git(work, "push", "--quiet", str(remote), "main")
    job = client.run({"repo_url": file_url(remote), "branch": "links", "prompt": "RUN: cat out etc > copied.txt; true"})
    assert job["status"] == "completed", job
    assert git(remote, "show", "links:copied.txt") == ""
    assert "host-file-canary" not in texts(client.events(job["id"]))

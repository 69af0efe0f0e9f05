"""From "add a shard" to a pushed branch and back to nothing, with the real agent in a real container."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.fixtures.repos import branches, git

from .conftest import FOLDER
from .inside import inside, output
from .world import World, running_world


@pytest.fixture(scope="module")
def world() -> Iterator[World]:
    with tempfile.TemporaryDirectory(prefix="myctobot-journey-", dir=FOLDER, ignore_cleanup_errors=True) as name:
        folder = Path(name)
        folder.chmod(0o711)
        with running_world(folder, bridge="mctbj0", net="10.217.0.0/24", first_id=70_000_000) as made:
            yield made


@pytest.fixture(scope="module")
def shard(world: World) -> str:
    world.operate("add", "one", "--template", "general", "--provider", "lxc", "--provision")
    return "one"


def test_a_new_shard_is_ready(world: World, shard: str) -> None:
    assert world.shard(shard)["state"] == "ready"
    ref = world.shard(shard)["ref"]
    assert output(world.maker, ref, "systemctl", "is-active", "claude-shard") == "active"


def test_a_job_runs_in_it_and_its_branch_is_pushed(world: World, shard: str) -> None:
    path, url = world.remote("job.git")
    task = {"repo_url": url, "base_branch": "main", "branch": "feature/one", "prompt": "WRITE hello.txt: hello"}
    job = world.client.run(task)
    assert job["status"] == "completed", job
    assert job["attempts"][-1]["shard"] == shard
    assert git(path, "show", "feature/one:hello.txt") == "hello"
    # Isolated: no warning that it is not.
    assert not [event for event in world.client.events(job["id"]) if event["kind"] == "job.warning"]


def test_a_spoilt_container_goes_back_to_its_snapshot(world: World, shard: str) -> None:
    world.operate("snapshot", shard, "good")
    ref = world.shard(shard)["ref"]
    output(world.maker, ref, "rm", "-rf", "/opt/claude-shard")
    output(world.maker, ref, "systemctl", "kill", "--signal=KILL", "claude-shard")
    assert inside(world.maker, ref, "test", "-e", "/opt/claude-shard").returncode != 0
    world.operate("restore", shard, "good", "--force")
    path, url = world.remote("again.git")
    job = world.client.run({"repo_url": url, "branch": "again", "prompt": "WRITE a.txt: again"})
    assert job["status"] == "completed", job
    assert "again" in branches(path)


def test_destroy_leaves_nothing_behind(world: World, shard: str) -> None:
    ref = world.shard(shard)["ref"]
    world.operate("destroy", shard)
    assert world.shard(shard)["state"] == "gone"
    containers = world.maker.host.path / "containers"
    assert [found.name for found in containers.iterdir() if not found.name.startswith(".")] == []
    assert ref not in Path("/proc/mounts").read_text()
    assert "shard-one" not in world.manage("broker_access", "show").stdout

"""A shard whose disk is full: its jobs go to another one, and it takes jobs again once there is room."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import psycopg
import pytest

from tests.acceptance.client import Client, kill_worker
from tests.faults.effects import World, reckon, submit_piece, world

pytestmark = [
    pytest.mark.faults,
    pytest.mark.timeout(300),
]

# A job wants 64 MB to begin with.
SIZE_MB = 160


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    with world(tmp_path_factory.mktemp("disk"), "--shards", "2") as made:
        yield made


@contextmanager
def small_disk(client: Client, folder: Path) -> Iterator[Path]:
    """Give the first shard a disk of its own for its workspaces."""
    assert os.geteuid() == 0, "this test mounts a small file system, so it runs as root"
    disk = folder / "disk"
    disk.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={SIZE_MB}m,mode=0711", "tmpfs", disk], check=True, timeout=10)
    path = client.stack.shards["local"]
    before = path.read_text()
    config = json.loads(before)
    config["cleanup"] = {**config.get("cleanup", {}), "workspace_path": str(disk)}
    path.write_text(json.dumps(config))
    kill_worker(client)
    try:
        yield disk
    finally:
        path.write_text(before)
        kill_worker(client)
        subprocess.run(["umount", disk], check=True, timeout=10)


def fill(path: Path) -> None:
    """Write until there is no room."""
    with path.open("wb", buffering=0) as file:
        for size in (2**20, 4096):
            with suppress(OSError):
                while True:
                    file.write(b"x" * size)
    assert shutil.disk_usage(path).free == 0


def only(client: Client, *names: str) -> None:
    """Let these shards take jobs, and no other."""
    lines = (client.stack.home / "env").read_text().splitlines()
    url = dict(line.partition("=")[::2] for line in lines)["DATABASE_URL"]
    with psycopg.connect(url) as connection:
        connection.execute("UPDATE shards_shard SET is_active = (name = ANY(%s))", [list(names)])


def ran(job: dict[str, Any]) -> list[dict[str, Any]]:
    """The attempts that were claimed; a shard that was switched off just now may have taken and refused another."""
    return [attempt for attempt in job["attempts"] if attempt["claimed_at"]]


def test_jobs_leave_it_and_come_back(place: World, tmp_path: Path) -> None:
    client = place.client
    with small_disk(client, tmp_path) as disk:
        full = disk / "full"
        fill(full)
        only(client, "local")
        piece = submit_piece(place, "disk-full", 1)
        job = client.wait(piece.job_id, lambda job: bool(ran(job)) and ran(job)[0]["ended_at"])
        assert ran(job)[0]["error_code"] == "disk_full", job
        # What was begun there is gone, though it could not be finished.
        assert {path.name for path in disk.iterdir()} == {"full"}
        only(client, "local", "local-2")
        failed, done = ran(reckon(place, piece))
        assert (failed["shard"], failed["outcome"], done["shard"]) == ("local", "failed", "local-2")
        only(client, "local")
        full.unlink()
        again = reckon(place, submit_piece(place, "disk-free", 1))
        assert [attempt["shard"] for attempt in ran(again)] == ["local"]

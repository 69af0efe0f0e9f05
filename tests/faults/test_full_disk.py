"""A shard whose disk is full: its jobs go to another one, and it takes jobs again once there is room."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import psycopg
import pytest

from tests.acceptance.client import Client, kill_worker
from tests.faults.reckoning import World, reckon, submit_piece, world

pytestmark = [
    pytest.mark.faults,
    pytest.mark.timeout(300),
    pytest.mark.skipif(os.geteuid() != 0, reason="only root can make a small disk"),
]

SIZE_MB = 24


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    with world(tmp_path_factory.mktemp("disk"), "--shards", "2") as made:
        yield made


@contextmanager
def small_disk(client: Client, folder: Path) -> Iterator[Path]:
    """Give the first shard a disk of its own for its workspaces."""
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


def test_jobs_leave_it_and_come_back(place: World, tmp_path: Path) -> None:
    client = place.client
    with small_disk(client, tmp_path) as disk:
        full = disk / "full"
        fill(full)
        only(client, "local")
        piece = submit_piece(place, "disk-full", 1)
        first = client.wait(piece.job_id, lambda job: bool(job["attempts"] and job["attempts"][0]["ended_at"]))
        assert first["attempts"][0]["error_code"] == "disk_full", first
        # What was begun there is gone, though it could not be finished.
        assert {path.name for path in disk.iterdir()} == {"full"}
        only(client, "local", "local-2")
        lost, done = reckon(place, piece)["attempts"]
        assert (lost["shard"], lost["outcome"], done["shard"]) == ("local", "failed", "local-2")
        only(client, "local")
        full.unlink()
        again = reckon(place, submit_piece(place, "disk-free", 1))
        assert [attempt["shard"] for attempt in again["attempts"]] == ["local"]


def test_an_agent_that_fills_it_spoils_nothing_but_its_own_job(place: World, tmp_path: Path) -> None:
    client = place.client
    with small_disk(client, tmp_path) as disk:
        only(client, "local")
        prompt = "RUN: sleep 2; dd if=/dev/zero of=big bs=1M count=100; ls -l big; sleep 6; exit 1"
        greedy = client.submit({"prompt": prompt})
        client.wait_event(greedy, "tool.call")
        beside = submit_piece(place, "beside", 0, queue_timeout_s=200)
        job = client.wait_end(greedy)
        assert job["status"] in ("completed", "failed"), job
        # Whatever became of the one beside it while there was no room: it ends well, once.
        only(client, "local", "local-2")
        reckon(place, beside)
        assert list(disk.iterdir()) == []

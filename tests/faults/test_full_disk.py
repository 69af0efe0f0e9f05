"""Full disks: the jobs of a shard move to another one, and a log without room stops no service."""

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
from tests.faults.effects import World, check_effects, submit_push_job, world
from tests.fixtures.broker import eventually

pytestmark = [
    pytest.mark.faults,
    pytest.mark.timeout(300),
]

# A job needs 64 MB of free space to start.
SIZE_MB = 160


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    with world(tmp_path_factory.mktemp("disk"), "--shards", "2") as made:
        yield made


@contextmanager
def small_disk(client: Client, folder: Path) -> Iterator[Path]:
    """Mount a small disk for the workspaces of the first shard."""
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
    """Write a file until the disk is full."""
    with path.open("wb", buffering=0) as file:
        for size in (2**20, 4096):
            with suppress(OSError):
                while True:
                    file.write(b"x" * size)
    assert shutil.disk_usage(path).free == 0


def database_url(client: Client) -> str:
    lines = (client.stack.home / "env").read_text().splitlines()
    return dict(line.partition("=")[::2] for line in lines)["DATABASE_URL"]


def activate_only(client: Client, *names: str) -> None:
    """Activate only these shards."""
    with psycopg.connect(database_url(client)) as connection:
        connection.execute("UPDATE shards_shard SET is_active = (name = ANY(%s))", [list(names)])


def claimed_attempts(job: dict[str, Any]) -> list[dict[str, Any]]:
    """Return the claimed attempts; a shard that was just deactivated may have received and refused another one."""
    return [attempt for attempt in job["attempts"] if attempt["claimed_at"]]


def test_jobs_leave_a_shard_with_a_full_disk_and_return(place: World, tmp_path: Path) -> None:
    client = place.client
    with small_disk(client, tmp_path) as disk:
        full = disk / "full"
        fill(full)
        activate_only(client, "local")
        push = submit_push_job(place, "disk-full", 1)
        job = client.wait(push.job_id, lambda job: bool(claimed_attempts(job)) and claimed_attempts(job)[0]["ended_at"])
        assert claimed_attempts(job)[0]["error_code"] == "disk_full", job
        # The incomplete workspace was removed.
        assert {path.name for path in disk.iterdir()} == {"full"}
        activate_only(client, "local", "local-2")
        failed, done = claimed_attempts(check_effects(place, push))
        assert (failed["shard"], failed["outcome"], done["shard"]) == ("local", "failed", "local-2")
        activate_only(client, "local")
        full.unlink()
        again = check_effects(place, submit_push_job(place, "disk-free", 1))
        assert [attempt["shard"] for attempt in claimed_attempts(again)] == ["local"]


def test_a_database_answers_while_its_log_has_no_room(place: World) -> None:
    log = place.client.stack.home / "log" / "postgres.log"
    kept = log.rename(log.with_suffix(".kept"))
    log.symlink_to("/dev/full")
    with psycopg.connect(database_url(place.client), autocommit=True) as connection:
        try:
            # Each error is two lines, so that they fill the pipe to the supervisor several times.
            for _ in range(4000):
                with suppress(psycopg.errors.DivisionByZero):
                    connection.execute("SELECT 1/0")
            check_effects(place, submit_push_job(place, "log-full", 1))
        finally:
            log.unlink()
            kept.rename(log)
        with suppress(psycopg.errors.DivisionByZero):
            connection.execute("SELECT 1/0")
    eventually(lambda: "lines were lost here: [Errno 28]" in log.read_text(), "the log says what it lost")

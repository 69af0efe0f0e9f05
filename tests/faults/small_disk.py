"""Small disk for the workspaces of a shard, which a test can fill."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from tests.acceptance.client import Client, kill_worker

# A job needs 64 MB of free space to start.
SIZE_MB = 160


@contextmanager
def small_disk(client: Client, folder: Path, size_mb: int = SIZE_MB) -> Iterator[Path]:
    """Mount a small disk for the workspaces of the first shard."""
    assert os.geteuid() == 0, "this test mounts a small file system, so it runs as root"
    disk = folder / "disk"
    disk.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size_mb}m,mode=0711", "tmpfs", disk], check=True, timeout=10)
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
    """Write a file until the disk is full, and check that it is."""
    write_until_full(path)
    assert shutil.disk_usage(path).free == 0


def write_until_full(path: Path) -> None:
    with path.open("wb", buffering=0) as file:
        for size in (2**20, 4096):
            with suppress(OSError):
                while True:
                    file.write(b"x" * size)

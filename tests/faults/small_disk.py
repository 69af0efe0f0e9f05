"""Small disk for the workspaces of a shard, which a test can fill."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from tests.acceptance.client import Client, kill_worker

# A job needs 64 MB of free space to start.
SIZE_MB = 160
REFILL_S = 0.02


@contextmanager
def small_disk(client: Client, folder: Path, size_mb: int = SIZE_MB) -> Iterator[Path]:
    """Mount a small disk for the workspaces of the first shard."""
    with mounted_disk(folder, "tmpfs", size_mb) as disk, _workspaces_on(client, disk):
        yield disk


@contextmanager
def mounted_disk(folder: Path, kind: str, size_mb: int) -> Iterator[Path]:
    """Mount a small file system.

    Args:
        kind: ``tmpfs``, or ``ext4`` on a loop device.
    """
    assert os.geteuid() == 0, "this test mounts a small file system, so it runs as root"
    disk, image = folder / "disk", folder / "image"
    disk.mkdir()
    options = ["-t", "tmpfs", "-o", f"size={size_mb}m", "tmpfs"]
    if kind == "ext4":
        with image.open("wb") as file:
            file.truncate(size_mb * 2**20)
        subprocess.run(["mkfs.ext4", "-q", image], check=True, timeout=60)
        options = ["-o", "loop", str(image)]
    subprocess.run(["mount", *options, disk], check=True, timeout=10)
    try:
        # The users of the programs pass through.
        disk.chmod(0o711)
        yield disk
    finally:
        subprocess.run(["umount", disk], check=True, timeout=60)


@contextmanager
def _workspaces_on(client: Client, disk: Path) -> Iterator[None]:
    path = client.stack.shards["local"]
    before = path.read_text()
    config = json.loads(before)
    config["cleanup"] = {**config.get("cleanup", {}), "workspace_path": str(disk)}
    path.write_text(json.dumps(config))
    kill_worker(client)
    try:
        yield
    finally:
        path.write_text(before)
        kill_worker(client)


def fill(path: Path) -> None:
    """Write a file until the disk is full, and check that it is."""
    write_until_full(path)
    assert shutil.disk_usage(path).free == 0


@contextmanager
def kept_full(disk: Path) -> Iterator[None]:
    """Fill a disk, and use up at once what others free, until the block ends."""
    path, ended = disk / "full", threading.Event()
    write_until_full(path)

    def fill_again() -> None:
        while not ended.wait(REFILL_S):
            write_until_full(path)

    thread = threading.Thread(target=fill_again, name="filler")
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()
        path.unlink()


def write_until_full(path: Path) -> None:
    """Write to the end of a file until the disk takes no more."""
    with path.open("ab", buffering=0) as file:
        for size in (2**20, 4096):
            with suppress(OSError):
                while True:
                    file.write(b"x" * size)

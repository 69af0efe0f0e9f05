from __future__ import annotations

import mmap
import os
from contextlib import ExitStack
from pathlib import Path

from workers.sandbox import memory_use


def test_file_systems_of_the_shards_machine_are_not_the_agents() -> None:
    # The first process of a sandbox has the machine's root for the first moments of its life.
    assert memory_use.used_bytes([], [os.getpid()]) == 0


def test_the_pages_of_a_process_count() -> None:
    assert memory_use.used_bytes([os.getpid()], []) > 1_000_000


def test_a_memory_file_without_a_mapping_counts() -> None:
    before = memory_use.used_bytes([os.getpid()], [])
    descriptor = os.memfd_create("test")
    try:
        os.write(descriptor, b"x" * 50_000_000)
        assert memory_use.used_bytes([os.getpid()], []) - before > 20_000_000
    finally:
        os.close(descriptor)


def test_the_pages_of_a_file_do_not_count() -> None:
    program = max(_mapped_files(), key=lambda path: path.stat().st_size)
    copies = 50_000_000 // program.stat().st_size + 1
    before, resident = memory_use.used_bytes([os.getpid()], []), _resident_bytes()
    with ExitStack() as stack, program.open("rb") as file:
        for _ in range(copies):
            mapped = stack.enter_context(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ))
            assert len(mapped[:: mmap.PAGESIZE]) > 0
        assert _resident_bytes() - resident > 20_000_000
        assert memory_use.used_bytes([os.getpid()], []) - before < 10_000_000


def _mapped_files() -> set[Path]:
    """Return the programs and libraries of this process."""
    names = {line.split(maxsplit=5)[-1] for line in Path("/proc/self/maps").read_text().splitlines()}
    return {path for path in map(Path, names) if path.is_absolute() and path.is_file()}


def _resident_bytes() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * mmap.PAGESIZE

from __future__ import annotations

import os

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

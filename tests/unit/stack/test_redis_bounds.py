from __future__ import annotations

import pytest

from myctobot.stack.redis_bounds import MB, available_memory, bound_lines, memory_share


@pytest.mark.parametrize(
    ("available", "share"), [(0, 64 * MB), (512 * MB, 64 * MB), (2048 * MB, 128 * MB), (65536 * MB, 256 * MB)]
)
def test_the_broker_has_a_small_share_of_the_host(available: int, share: int) -> None:
    assert memory_share(available) == share


def test_the_host_has_memory() -> None:
    assert available_memory() > 0


@pytest.mark.parametrize(("version", "bounds_clients"), [((6, 2), False), ((7, 0), True), ((8, 1), True)])
def test_each_version_gets_the_bounds_that_it_knows(version: tuple[int, int], bounds_clients: bool) -> None:
    names = [name for name, _ in bound_lines(version, MB)]
    assert ("maxmemory-clients" in names) is bounds_clients
    assert {"maxmemory", "maxclients", "client-query-buffer-limit", "client-output-buffer-limit"} <= set(names)

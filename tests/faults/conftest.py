from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.faults.effects import World, world


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    """Yield a stack with one shard for the tests of a file; a file that needs another stack overrides this fixture."""
    with world(tmp_path_factory.mktemp("faults")) as made:
        yield made

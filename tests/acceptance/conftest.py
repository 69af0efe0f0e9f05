"""The running stack that the acceptance tests share."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.stacks import RunningStack, running_stack


@pytest.fixture(scope="session")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningStack]:
    """``manage.py up`` with one shard; a test that kills more than it repairs starts one of its own."""
    with running_stack(tmp_path_factory.mktemp("stack") / "home") as running:
        yield running

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.factories import git_fixtures

anyio_backend = git_fixtures.anyio_backend
remote = git_fixtures.remote
server = git_fixtures.server
jobs = git_fixtures.jobs


@pytest.fixture
def short_dir() -> Iterator[Path]:
    """Return a directory whose path is short enough for a socket, which ``tmp_path`` may not be."""
    with tempfile.TemporaryDirectory(prefix="job-", dir="/tmp") as directory:
        yield Path(directory)

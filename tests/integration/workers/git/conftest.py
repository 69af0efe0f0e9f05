from __future__ import annotations

import tempfile
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from tests.factories.git_jobs import FILES, TOKEN, Jobs
from tests.fixtures.git_server import GitServer, serve
from tests.fixtures.repos import make_remote


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture
def short_dir() -> Iterator[Path]:
    """Return a directory whose path is short enough for a socket, which ``tmp_path`` may not be."""
    with tempfile.TemporaryDirectory(prefix="job-", dir="/tmp") as directory:
        yield Path(directory)


@pytest.fixture
def remote(tmp_path: Path) -> Path:
    """Return the bare repository of the server."""
    (tmp_path / "served").mkdir()
    return make_remote(tmp_path / "served" / "repo.git", FILES)


@pytest.fixture
def server(remote: Path, tmp_path: Path) -> Iterator[GitServer]:
    with serve(remote.parent, tmp_path, TOKEN) as running:
        yield running


@pytest.fixture
async def jobs(server: GitServer, tmp_path: Path) -> AsyncIterator[Jobs]:
    made = Jobs(server, tmp_path)
    yield made
    await made.close()

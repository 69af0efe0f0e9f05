"""Fixtures of jobs with a repository on a git server of this machine. A test module takes them over by assignment."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator, Mapping
from pathlib import Path

import pytest

from tests.factories.git_jobs import FILES, TOKEN, Folder, Jobs
from tests.fixtures.git_server import GitServer, serve
from tests.fixtures.repos import make_remote


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


def make_served(tmp_path: Path, files: Mapping[str, str] = FILES) -> Path:
    """Create the bare repository of the server, with files on its branch ``main``, and return its path."""
    (tmp_path / "served").mkdir()
    return make_remote(tmp_path / "served" / "repo.git", files)


@pytest.fixture
def remote(tmp_path: Path) -> Path:
    """Return the bare repository of the server."""
    return make_served(tmp_path)


@pytest.fixture
def server(remote: Path, tmp_path: Path) -> Iterator[GitServer]:
    with serve(remote.parent, tmp_path, TOKEN) as running:
        yield running


@pytest.fixture
async def jobs(server: GitServer, tmp_path: Path) -> AsyncIterator[Jobs]:
    made = Jobs(server, tmp_path)
    yield made
    await made.close()


@pytest.fixture
async def folder_jobs(remote: Path, tmp_path: Path) -> AsyncIterator[Jobs]:
    """Return a factory of jobs for tests that do not depend on how git reaches the repository."""
    made = Jobs(Folder(remote.parent), tmp_path)
    yield made
    await made.close()

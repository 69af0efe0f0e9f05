"""Stacks that several test files share, with their clients."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import pytest

from tests.acceptance.client import Client
from tests.fixtures.endpoint import Endpoint, endpoint
from tests.fixtures.git_server import GitServer, serve
from tests.stacks import SCRIPTS, RunningStack, running_stack


@pytest.fixture
def client(stack: RunningStack) -> Iterator[Client]:
    with Client(stack) as member:
        yield member


@pytest.fixture(scope="session")
def fragile(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Client]:
    """Start a stack with one slot, for tests that change its shard's configuration and stop its processes."""
    home = tmp_path_factory.mktemp("fragile") / "home"
    environ = {
        "GATEWAY_SCRIPTS": str(SCRIPTS),
        "LOCAL_SHARD_SLOTS": "1",
        "REPO_FILE_ROOTS": str(tmp_path_factory.getbasetemp()),
    }
    with running_stack(home, environ=environ) as stack, Client(stack) as client:
        yield client


@dataclass(frozen=True)
class Guarded:
    """Stack that trusts the certificates of two test servers.

    Attributes:
        git: server of repositories over TLS; each test sets the token that it requires.
        hook: endpoint for callbacks over TLS.
    """

    client: Client
    git: GitServer
    hook: Endpoint


@pytest.fixture(scope="session")
def guarded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Guarded]:
    folder = tmp_path_factory.mktemp("guarded")
    for name in ("served", "git", "hook"):
        (folder / name).mkdir()
    with serve(folder / "served", folder / "git", "no-token-yet") as git, endpoint(folder / "hook") as hook:
        environ = {
            "GATEWAY_SCRIPTS": str(SCRIPTS),
            "REPO_PRIVATE_HOSTS": "localhost",
            "LOCAL_SHARD_GIT_CA_FILE": str(git.ca_file),
            "CALLBACK_PRIVATE_HOSTS": "localhost",
            "CALLBACK_CA_FILE": str(hook.certificate),
        }
        with running_stack(folder / "home", environ=environ) as stack, Client(stack) as client:
            yield Guarded(client, git, hook)

"""The running stack that the acceptance tests share."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.acceptance.client import Client
from tests.stacks import RunningStack, running_stack

# The demo's play and the tests' own: the scripted model chooses by the conversation.
PLAYS = Path(__file__).resolve().parent.parent / "fixtures" / "plays"


@pytest.fixture(scope="session")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningStack]:
    """``manage.py up`` with one shard; a test that kills more than it repairs starts one of its own."""
    home = tmp_path_factory.mktemp("stack") / "home"
    with running_stack(home, environ={"GATEWAY_PLAYS": str(PLAYS)}) as running:
        yield running


@pytest.fixture
def client(stack: RunningStack) -> Iterator[Client]:
    with Client(stack) as member:
        yield member

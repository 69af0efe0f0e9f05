"""A member who uses the running stack that the tests share."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.acceptance.client import Client
from tests.stacks import RunningStack


@pytest.fixture
def client(stack: RunningStack) -> Iterator[Client]:
    with Client(stack) as member:
        yield member

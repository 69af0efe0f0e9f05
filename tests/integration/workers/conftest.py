"""Fixtures of the tests of shards."""

from __future__ import annotations

import ctypes
from collections.abc import Iterator

import pytest

from workers.sandbox.sandbox import PR_SET_CHILD_SUBREAPER


@pytest.fixture(autouse=True)
def _orphans_go_to_init() -> Iterator[None]:
    """Undo that a sandbox without isolation makes this process adopt orphans, because later tests look for them."""
    yield
    ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 0, 0, 0, 0)

"""One scan of the static files in each process of the test run.

Each test client loads the middleware, and WhiteNoise scans hundreds of files then. That was a quarter of the processor
time of the tests that call the API.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest


@pytest.fixture(scope="session", autouse=True)
def static_files_scanned_once() -> Iterator[None]:
    """Let every client share the files that the first one found."""
    from whitenoise.middleware import WhiteNoiseMiddleware  # type: ignore[import-untyped]  # needs the settings

    scan = WhiteNoiseMiddleware.add_files_from_finders
    found: dict[str, Any] = {}

    def add_files(middleware: WhiteNoiseMiddleware) -> None:
        if not found:
            scan(middleware)
            found.update(middleware.files)
        middleware.files.update(found)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(WhiteNoiseMiddleware, "add_files_from_finders", add_files)
        yield

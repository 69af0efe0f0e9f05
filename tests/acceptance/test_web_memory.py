"""Memory of the web process under lists of the largest prompts, and under viewers that come and go."""

from __future__ import annotations

import pytest

from tests.benchmarks.web_memory import TARGET_MB, measure_growth, web_stack


# It takes a minute of both cores.
@pytest.mark.long
def test_lists_and_viewers_leave_no_memory_behind() -> None:
    with web_stack() as client:
        found = measure_growth(client, pages=300, jobs=60, viewers=200)
    assert found.mb <= TARGET_MB, found

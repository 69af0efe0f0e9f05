from __future__ import annotations

import pytest

from myctobot.dashboards.safe_links import sanitize
from tests.fixtures.hostile_texts import SHOWN


@pytest.mark.parametrize(("text", "shown"), SHOWN)
def test_text_is_sanitized(text: str | None, shown: str) -> None:
    assert sanitize(text) == shown

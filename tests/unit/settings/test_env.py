"""Variables of the environment: what is nonsense is refused by name."""

from __future__ import annotations

import pytest
from django.core.exceptions import ImproperlyConfigured

from myctobot.env import whole_number


@pytest.mark.parametrize(("text", "value"), [("0", 0), ("7", 7), (" 90 ", 90), (None, 5)])
def test_whole_numbers(monkeypatch: pytest.MonkeyPatch, text: str | None, value: int) -> None:
    if text is not None:
        monkeypatch.setenv("SOME_DAYS", text)
    assert whole_number("SOME_DAYS", 5, least=0) == value


@pytest.mark.parametrize("text", ["", "-1", "1.5", "ten", "\u0663", "1e3", "4"])
def test_what_is_none_or_too_small(monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    monkeypatch.setenv("SOME_BYTES", text)
    with pytest.raises(ImproperlyConfigured, match=r"SOME_BYTES is .*at least 5"):
        whole_number("SOME_BYTES", 100, least=5)

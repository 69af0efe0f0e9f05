"""Variables of the environment: what is nonsense is refused by name."""

from __future__ import annotations

import pytest
from django.core.exceptions import ImproperlyConfigured

from myctobot.env import endpoint, webhook_secret, whole_number


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


@pytest.mark.parametrize("text", ["", "https://hooks.example/a/?b=c", "http://10.0.0.7:8065/hooks/x"])
def test_an_endpoint_is_kept_as_it_is(monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    monkeypatch.setenv("SOME_HOOK", text)
    assert endpoint("SOME_HOOK") == text


def test_an_endpoint_that_is_none_is_refused_and_not_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SOME_HOOK", "ftp://canary")
    with pytest.raises(ImproperlyConfigured, match=r"SOME_HOOK must start with") as refused:
        endpoint("SOME_HOOK")
    assert "canary" not in str(refused.value)


@pytest.mark.parametrize("text", ["", "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", "MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"])
def test_a_webhooks_secret(monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    monkeypatch.setenv("SOME_SECRET", text)
    assert webhook_secret("SOME_SECRET") == text


@pytest.mark.parametrize("text", ["whsec_canary!", "canary canary", "abc"])
def test_a_webhooks_secret_that_is_none_is_refused_and_not_shown(monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    monkeypatch.setenv("SOME_SECRET", text)
    with pytest.raises(ImproperlyConfigured, match="SOME_SECRET is not base64") as refused:
        webhook_secret("SOME_SECRET")
    assert "canary" not in str(refused.value)

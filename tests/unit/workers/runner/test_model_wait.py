from __future__ import annotations

import asyncio
from typing import Any

import pytest

from myctobot.contract.jobs import EventKind
from workers.runner.model_wait import ModelWait

RETRY = (EventKind.WARNING, {"code": "agent_api_retry", "message": "The model did not answer."})
OTHER = (EventKind.WARNING, {"code": "mcp_server_failed", "message": "It did not start."})
ANSWER = (EventKind.AGENT_MESSAGE, {"text": "Here I am."})


@pytest.mark.parametrize(
    ("events", "code", "retryable"),
    [
        ([], "timeout", False),
        ([RETRY], "model_unavailable", True),
        ([ANSWER, RETRY, RETRY], "model_unavailable", True),
        ([RETRY, ANSWER], "timeout", False),
        ([RETRY, OTHER], "timeout", False),
    ],
)
def test_the_time_limit_blames_a_busy_model_only_while_the_agent_waits(
    events: list[tuple[EventKind, dict[str, Any]]], code: str, retryable: bool
) -> None:
    passed: list[tuple[EventKind, dict[str, Any]]] = []

    async def emit(kind: EventKind, data: dict[str, Any]) -> None:
        passed.append((kind, data))

    async def observe() -> ModelWait:
        wait = ModelWait()
        for kind, data in events:
            await wait.observe(emit)(kind, data)
        return wait

    error = asyncio.run(observe()).timeout_error(60)
    assert (error.code, error.retryable) == (code, retryable)
    assert "timeout_s of 60 s" in str(error)
    assert passed == events

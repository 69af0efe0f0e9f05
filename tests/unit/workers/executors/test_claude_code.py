from __future__ import annotations

import asyncio
from typing import Any

import pytest
from claude_agent_sdk import AssistantMessage, Message, ResultMessage, SystemMessage, TextBlock

from myctobot.contract.jobs import EventKind
from workers.executors.base import AgentReport, AgentTask
from workers.executors.claude_code import (
    MAX_SUMMARY,
    EventWriter,
    arguments,
    environment,
    output_text,
    report,
    tokens,
)

TASK = AgentTask("prompt-canary", "instructions-canary", 5, ("git",), "http://gateway", "token-canary")


def result(**changes: Any) -> ResultMessage:
    fields: dict[str, Any] = {"subtype": "success", "is_error": False, "num_turns": 3, "result": "all done"}
    usage = {"input_tokens": 10, "cache_read_input_tokens": 5, "output_tokens": 2}
    fields |= {"duration_ms": 1, "duration_api_ms": 1, "session_id": "s", "usage": usage, "total_cost_usd": 0.5}
    return ResultMessage(**{**fields, **changes})


async def nowhere(kind: EventKind, data: dict[str, Any]) -> None:
    """Receive an event."""


def ended(message: ResultMessage, **seen: Any) -> AgentReport:
    """Return the report of an agent whose writer saw this before its last message."""
    return report(message, 5, EventWriter(nowhere, **seen))


@pytest.mark.parametrize(
    ("changes", "code", "words"),
    [
        ({}, None, ""),
        ({"subtype": "error_max_turns", "is_error": True}, "agent_max_turns", "all 5 turns"),
        ({"is_error": True, "result": "API Error: 401 no such token"}, "agent_api_error", "401 no such token"),
        ({"subtype": "error_during_execution", "is_error": True, "api_error_status": 400}, "agent_api_error", "model"),
        (
            {"subtype": "error_during_execution", "is_error": True, "result": None, "errors": ["boom"]},
            "agent_failed",
            "boom",
        ),
    ],
)
def test_report_says_how_it_ended(changes: dict[str, Any], code: str | None, words: str) -> None:
    failure = ended(result(**changes)).failure
    assert (failure.code if failure else None) == code
    assert words in (failure.message if failure else "")


@pytest.mark.parametrize("status", [408, 429, 500, 503, 529])
def test_a_busy_provider_is_no_failure_of_the_agent(status: int) -> None:
    busy = result(is_error=True, api_error_status=status, result="Overloaded")
    failure = ended(busy, waiting_since=7.0).failure
    assert failure is not None
    assert (failure.code, failure.retryable) == ("model_unavailable", True)
    assert f"status {status}, Overloaded" in failure.message


@pytest.mark.parametrize(("status", "waiting_since"), [(400, 7.0), (429, None)])
def test_a_refusal_that_forbids_retries_is_final(status: int, waiting_since: float | None) -> None:
    failure = ended(result(is_error=True, api_error_status=status), waiting_since=waiting_since).failure
    assert failure is not None
    assert (failure.code, failure.retryable) == ("agent_api_error", False)


def test_answers_that_are_too_long_get_advice_that_a_tenant_can_follow() -> None:
    said = "API Error: exceeded the 128000 output token maximum. Set the CLAUDE_CODE_MAX_OUTPUT_TOKENS variable."
    failure = ended(result(is_error=True, result=said), last_error="max_output_tokens").failure
    assert failure is not None
    assert failure.code == "agent_answer_too_long"
    assert "variable" not in failure.message
    assert "ask for less at once" in failure.message


def test_report_counts_tokens_from_the_cache_too() -> None:
    found = ended(result())
    assert (found.turns, found.input_tokens, found.output_tokens, found.cost_usd) == (3, 15, 2, 0.5)


def test_the_agents_last_message_replaces_a_missing_result() -> None:
    assert ended(result(result=None), last_text="last words").summary == "last words"


def test_a_long_text_says_that_it_is_cut() -> None:
    long = "x" * 5000
    note = "[truncated: only the beginning of 5,000 characters is kept]"
    assert ended(result(result=long)).summary.endswith(note)
    assert ended(result(result=None), last_text=long).summary.endswith(note)
    failure = ended(result(subtype="error_during_execution", is_error=True, result=None, errors=[long])).failure
    assert failure is not None
    assert failure.message.endswith(note)
    assert len(failure.message) <= MAX_SUMMARY


def test_arguments_contain_no_word_of_the_task() -> None:
    words = " ".join(arguments(5, ["git"], instructed=True, isolated=True))
    assert "canary" not in words
    for needed in ("--bare", "--strict-mcp-config", "--setting-sources  ", "mcp__git", "--max-turns 5"):
        assert needed in words


@pytest.mark.parametrize(("isolated", "mode"), [(True, "bypassPermissions"), (False, "dontAsk")])
def test_the_agent_has_every_permission_only_in_a_sandbox(isolated: bool, mode: str) -> None:
    argv = arguments(5, [], instructed=False, isolated=isolated)
    assert argv[argv.index("--permission-mode") + 1] == mode


def test_environment_is_a_short_list() -> None:
    env = environment(TASK, ("A", "a@b"))
    assert env["ANTHROPIC_API_KEY"] == "token-canary"
    assert {name.split("_")[0] for name in env} == {"ANTHROPIC", "CLAUDE", "DISABLE", "GIT"}


@pytest.mark.parametrize(
    ("content", "text"),
    [("plain", "plain"), (None, ""), ([{"type": "text", "text": "a"}, {"type": "image", "source": {}}], "a\n[image]")],
)
def test_output_text(content: str | list[dict[str, Any]] | None, text: str) -> None:
    assert output_text(content) == text


@pytest.mark.parametrize("usage", [None, {}, {"input_tokens": None}, {"input_tokens": "many"}])
def test_strange_usage_counts_nothing(usage: dict[str, Any] | None) -> None:
    assert tokens(usage) == (0, 0)


def test_an_answer_of_several_blocks_is_counted_once() -> None:
    emitted: list[tuple[EventKind, dict[str, Any]]] = []

    async def emit(kind: EventKind, data: dict[str, Any]) -> None:
        emitted.append((kind, data))

    async def handle() -> None:
        writer = EventWriter(emit)
        for text in ("one", "two"):
            usage = {"input_tokens": 10, "output_tokens": 2}
            await writer.handle(AssistantMessage([TextBlock(text)], "model", usage=usage, message_id="msg_1"))

    asyncio.run(handle())
    assert [data for kind, data in emitted if kind is EventKind.USAGE] == [{"input_tokens": 10, "output_tokens": 2}]
    assert [data["text"] for kind, data in emitted if kind is EventKind.AGENT_MESSAGE] == ["one", "two"]


RETRY = SystemMessage("api_retry", {"attempt": 1, "max_retries": 300, "error_status": 529, "error": "overloaded"})


def waited(*messages: Message, wait_s: float) -> EventWriter:
    async def handle() -> EventWriter:
        writer = EventWriter(nowhere, wait_s)
        for message in messages:
            await writer.handle(message)
        return writer

    return asyncio.run(handle())


def test_the_agent_waits_for_a_busy_model_only_for_its_time() -> None:
    assert waited(RETRY, RETRY, wait_s=600).failure is None
    failure = waited(RETRY, RETRY, wait_s=0).failure
    assert failure is not None
    assert (failure.code, failure.retryable) == ("model_unavailable", True)


def test_an_answer_ends_the_wait() -> None:
    answer = AssistantMessage([TextBlock("here")], "model", message_id="msg_1")
    assert waited(RETRY, answer, wait_s=600).waiting_since is None

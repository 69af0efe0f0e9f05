from __future__ import annotations

import asyncio
from typing import Any

import pytest
from claude_agent_sdk import AssistantMessage, ResultMessage, TextBlock

from myctobot.contract.jobs import EventKind
from workers.executors.base import AgentTask
from workers.executors.claude_code import (
    MAX_SUMMARY,
    _EventWriter,
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


@pytest.mark.parametrize(
    ("changes", "code", "words"),
    [
        ({}, None, ""),
        ({"subtype": "error_max_turns", "is_error": True}, "agent_max_turns", "all 5 turns"),
        ({"is_error": True, "result": "API Error: 401 no such token"}, "agent_api_error", "401 no such token"),
        ({"subtype": "error_during_execution", "is_error": True, "api_error_status": 529}, "agent_api_error", "model"),
        (
            {"subtype": "error_during_execution", "is_error": True, "result": None, "errors": ["boom"]},
            "agent_failed",
            "boom",
        ),
    ],
)
def test_report_says_how_it_ended(changes: dict[str, Any], code: str | None, words: str) -> None:
    ended = report(result(**changes), 5, "last words")
    assert (ended.ok, ended.error_code) == (code is None, code)
    assert words in (ended.error_message or "")


def test_report_counts_tokens_from_the_cache_too() -> None:
    ended = report(result(), 5, "")
    assert (ended.turns, ended.input_tokens, ended.output_tokens, ended.cost_usd) == (3, 15, 2, 0.5)


def test_the_agents_last_message_replaces_a_missing_result() -> None:
    assert report(result(result=None), 5, "last words").summary == "last words"


def test_a_long_text_says_that_it_is_cut() -> None:
    long = "x" * 5000
    note = "[truncated: only the beginning of 5,000 characters is kept]"
    assert report(result(result=long), 5, "").summary.endswith(note)
    assert report(result(result=None), 5, long).summary.endswith(note)
    failed = report(result(subtype="error_during_execution", is_error=True, result=None, errors=[long]), 5, "")
    assert (failed.error_message or "").endswith(note)
    assert len(failed.error_message or "") <= MAX_SUMMARY


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
        writer = _EventWriter(emit)
        for text in ("one", "two"):
            usage = {"input_tokens": 10, "output_tokens": 2}
            await writer.handle(AssistantMessage([TextBlock(text)], "model", usage=usage, message_id="msg_1"))

    asyncio.run(handle())
    assert [data for kind, data in emitted if kind is EventKind.USAGE] == [{"input_tokens": 10, "output_tokens": 2}]
    assert [data["text"] for kind, data in emitted if kind is EventKind.AGENT_MESSAGE] == ["one", "two"]

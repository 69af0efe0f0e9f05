from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest

from myctobot.cli.rendering import PATCH_LINES, head_and_tail, main_input, patch_lines, render
from myctobot.cli.terminal import OutputLine, Style
from myctobot.contract.jobs import EventKind

STARTED = datetime(2030, 1, 1, 12, 0, 0, tzinfo=UTC)


def rendered(kind: str, data: dict[str, Any]) -> list[OutputLine]:
    return render({"seq": 1, "at": "2030-01-01T12:00:02.500000+00:00", "kind": kind, "data": data}, STARTED)


def texts(kind: str, data: dict[str, Any]) -> list[str]:
    return [line.prefix + line.text for line in rendered(kind, data)]


def test_a_phase_is_shown_with_the_time_since_the_start() -> None:
    assert texts(EventKind.PHASE, {"phase": "cloning"}) == ["  2.5 s  cloning"]
    assert texts(EventKind.PHASE, {"phase": "preparing", "detail": "attempt 2"}) == ["  2.5 s  preparing, attempt 2"]


@pytest.mark.parametrize(
    ("kind", "data", "expected"),
    [
        (EventKind.LOG, {"source": "git", "text": "Fetching main"}, ["Fetching main"]),
        (EventKind.LOG, {"source": "git", "text": "remote: Counting objects: 5"}, []),
        (EventKind.LOG, {"source": "runner", "text": "From here on"}, ["From here on"]),
        (EventKind.AGENT_MESSAGE, {"text": "First.\n\nSecond."}, ["● First.", "  Second."]),
        (EventKind.AGENT_THINKING, {"text": "Let me\nsee."}, ["∴ Let me see."]),
        (EventKind.TOOL_CALL, {"id": "1", "name": "Bash", "input": {"command": "ls -l"}}, ["→ Bash  ls -l"]),
        (EventKind.TOOL_RESULT, {"id": "1", "output": "one\ntwo\n", "is_error": False}, ["one", "two"]),
        (EventKind.USAGE, {"input_tokens": 5, "output_tokens": 1}, []),
        (
            EventKind.USAGE,
            {"input_tokens": 15000, "output_tokens": 280, "turns": 1, "cost_usd": 0.066},
            ["1 turn, 15,000 tokens read, 280 written, $0.07"],
        ),
        (
            EventKind.DIFF,
            {"files": 2, "insertions": 3, "deletions": 1, "commits": 1},
            ["2 files changed, +3 -1, in 1 commit"],
        ),
        (EventKind.PUSHED, {"branch": "fix", "sha": "0123456789abcdef"}, ["pushed fix at 0123456789"]),
        (EventKind.WARNING, {"code": "not_isolated", "message": "Careful."}, ["! Careful. (not_isolated)"]),
        (
            EventKind.TRUNCATED,
            {"kind": "log.line", "bytes": 300000, "start": '{"text":"a' + "b" * 500},
            ["[log.line was too large: 300,000 bytes were cut; it begins with]", '{"text":"a' + "b" * 290],
        ),
        (
            EventKind.DROPPED,
            {"first_seq": 8, "events": 5000, "bytes": 3145728, "reason": "bound"},
            ["[dropped 5,000 events from number 8 on (3,145,728 bytes): the log grew too long]"],
        ),
        (
            EventKind.DROPPED,
            {"first_seq": 1, "events": 1, "bytes": 90, "reason": "retention"},
            ["[dropped 1 event from number 1 on (90 bytes): the log is old]"],
        ),
        (EventKind.RESULT, {"outcome": "completed", "result": {}, "error": None}, ["completed"]),
        (
            EventKind.RESULT,
            {"outcome": "failed", "error": {"code": "push_denied", "message": "The token may not push."}},
            ["failed: The token may not push. (push_denied)"],
        ),
        ("a.kind.of.a.later.version", {}, []),
    ],
)
def test_text_of_each_kind(kind: str, data: dict[str, Any], expected: list[str]) -> None:
    assert texts(kind, data) == expected


def test_the_agents_start_names_its_tools() -> None:
    data = {
        "cli_version": "2.1",
        "tools": ["Bash", "Read", "mcp__git__git_log"],
        "mcp_servers": [{"name": "git", "status": "connected"}],
    }
    assert texts(EventKind.AGENT_STARTED, data) == [
        "Claude Code 2.1 started, with the tools Bash, Read and the MCP server git (connected)"
    ]


def diff(patch: str, **more: Any) -> list[OutputLine]:
    return rendered(EventKind.DIFF, {"files": 1, "insertions": 1, "deletions": 0, "commits": 1, "patch": patch, **more})


def test_a_diff_is_shown_in_colours() -> None:
    _, *patch = diff("@@ -1 +1 @@\n+new")
    assert [(line.text, line.style) for line in patch] == [("@@ -1 +1 @@", Style.CYAN), ("+new", Style.GREEN)]


def test_a_diff_of_commits_that_are_not_pushed_is_named() -> None:
    assert diff("", left_out="branch mine")[1].text == "not pushed: branch mine"


def test_a_long_diff_is_shortened_with_a_note() -> None:
    lines = diff("\n".join(f"+{number}" for number in range(100)), truncated=True)
    assert len(lines) == 1 + PATCH_LINES + 2
    assert lines[-2].text == "… 40 more lines …"
    assert "too large to send" in lines[-1].text


@pytest.mark.parametrize(
    ("kind", "data"),
    [
        (EventKind.TOOL_CALL, {"name": 5}),
        (EventKind.PHASE, {}),
        (EventKind.USAGE, {"turns": None, "input_tokens": "many"}),
        (EventKind.DIFF, []),
    ],
)
def test_data_of_an_unknown_format_is_shown_as_json(kind: str, data: Any) -> None:
    [line] = rendered(kind, data)
    assert line.text.startswith(f"{kind} ")


def test_a_failed_tool_is_red() -> None:
    [line] = rendered(EventKind.TOOL_RESULT, {"id": "1", "output": "no such file", "is_error": True})
    assert line.style == Style.RED


def test_every_kind_of_event_that_a_runner_sends_is_shown() -> None:
    from myctobot.cli import rendering

    assert {*rendering._WRITERS, EventKind.PHASE, EventKind.END} == set(EventKind)


@pytest.mark.parametrize(
    ("name", "arguments", "expected"),
    [
        ("Read", {"file_path": "calc.py", "limit": 5}, "calc.py"),
        ("Bash", {"command": "set -e\nmake\nmake test"}, "set -e … (+2 lines)"),
        ("mcp__git__git_log", {"repo_path": "."}, '{"repo_path": "."}'),
        ("Bash", {}, "{}"),
    ],
)
def test_a_call_is_shortened_to_its_main_input(name: str, arguments: dict[str, Any], expected: str) -> None:
    assert main_input(name, arguments) == expected


def test_a_long_output_is_shortened_to_its_first_and_last_lines() -> None:
    shown = head_and_tail("\n".join(str(number) for number in range(100)))
    assert (shown[0], shown[5], shown[-1]) == ("0", "… 89 more lines …", "99")
    assert len(shown) == 12


def test_a_short_output_is_shown_whole_without_empty_lines_and_rules() -> None:
    assert head_and_tail("one\n\n-----\n=====\ntwo\n") == ["one", "two"]


def test_a_patch_is_coloured_as_git_does_it() -> None:
    patch = "diff --git a/f b/f\n--- a/f\n+++ b/f\n@@ -1 +1 @@\n-old\n+new\n same"
    styles = [line.style for line in patch_lines(patch)]
    assert styles == [*[Style.BOLD] * 3, Style.CYAN, Style.RED, Style.GREEN, Style.PLAIN]

"""Text of a job's events for a terminal; pure."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Any, Final

from myctobot.cli.terminal import OutputLine, Style
from myctobot.contract.jobs import EventKind

DETAIL: Final = 9
RESULT_HEAD: Final = 5
RESULT_TAIL: Final = 6
MESSAGE_LINES: Final = 40
PATCH_LINES: Final = 60
TRUNCATED_CHARS: Final = 300

# Most informative input of each of the agent's own tools.
_MAIN_INPUT: Final[Mapping[str, str]] = {
    "Bash": "command",
    "Read": "file_path",
    "Edit": "file_path",
    "Write": "file_path",
}
# Lines of git about a transfer, which do not interest most users.
_CHATTER: Final = ("remote: ", "Receiving objects", "Resolving deltas", "From ", "* [new branch]")


def render(event: Mapping[str, Any], started: datetime) -> list[OutputLine]:
    """Return the lines of one event.

    Args:
        event: event as it was received, ``{seq, at, kind, data}``.
        started: time from which elapsed times count.
    """
    writer = _WRITERS.get(event["kind"])
    try:
        if event["kind"] == EventKind.PHASE:
            return [_phase(event, started)]
        return writer(event["data"]) if writer else []
    except (KeyError, TypeError, ValueError, AttributeError):
        # A shard chooses the format of the data. Show an unknown format as JSON.
        text = json.dumps(event["data"], ensure_ascii=False)
        return [OutputLine(f"{event['kind']} {text}", Style.DIM, DETAIL, wrap=False)]


def _phase(event: Mapping[str, Any], started: datetime) -> OutputLine:
    elapsed = max(0.0, (datetime.fromisoformat(event["at"]) - started).total_seconds())
    detail = event["data"].get("detail")
    return OutputLine(f"{elapsed:5.1f} s  {event['data']['phase']}{f', {detail}' if detail else ''}", Style.CYAN)


def _log(data: Mapping[str, Any]) -> list[OutputLine]:
    text = str(data["text"])
    chatter = data.get("source") == "git" and text.startswith(_CHATTER)
    return [] if chatter else [OutputLine(text, Style.DIM, DETAIL, wrap=False)]


def _started(data: Mapping[str, Any]) -> list[OutputLine]:
    version = f"Claude Code {data['cli_version']}" if data.get("cli_version") else "The agent"
    own = [name for name in data["tools"] if name in _MAIN_INPUT]
    servers = [f"{server['name']} ({server['status']})" for server in data["mcp_servers"]]
    text = f"{version} started, with the tools {', '.join(own)}"
    return [OutputLine(text + (f" and the MCP server {', '.join(servers)}" if servers else ""), Style.DIM, DETAIL)]


def _message(data: Mapping[str, Any]) -> list[OutputLine]:
    lines = [line for line in str(data["text"]).splitlines() if line.strip()]
    shown = lines[:MESSAGE_LINES] + (["…"] if len(lines) > MESSAGE_LINES else [])
    return [
        OutputLine(line, Style.PLAIN, DETAIL, prefix="● " if number == 0 else "  ") for number, line in enumerate(shown)
    ]


def _thinking(data: Mapping[str, Any]) -> list[OutputLine]:
    text = " ".join(str(data["text"]).split())
    return [OutputLine(text, Style.DIM, DETAIL, prefix="∴ ", wrap=False)]


def main_input(name: str, arguments: Mapping[str, Any]) -> str:
    """Return the most informative part of a tool call's input in one line."""
    value = arguments.get(_MAIN_INPUT.get(name, ""))
    text = value if isinstance(value, str) else json.dumps(arguments, ensure_ascii=False)
    first, *more = text.strip().splitlines() or [""]
    return first + (f" … (+{len(more)} lines)" if more else "")


def _call(data: Mapping[str, Any]) -> list[OutputLine]:
    text = f"{data['name']}  {main_input(data['name'], data['input'])}"
    return [OutputLine(text, Style.BOLD, DETAIL, prefix="→ ", wrap=False)]


def head_and_tail(text: str) -> list[str]:
    """Return the first and the last lines of an output, without empty lines and horizontal rules."""
    lines = [line for line in text.splitlines() if line.strip(" \t=-_")]
    left_out = len(lines) - RESULT_HEAD - RESULT_TAIL
    if left_out <= 1:
        return lines
    return [*lines[:RESULT_HEAD], f"… {left_out} more lines …", *lines[-RESULT_TAIL:]]


def _result(data: Mapping[str, Any]) -> list[OutputLine]:
    style = Style.RED if data["is_error"] else Style.DIM
    return [OutputLine(line, style, DETAIL + 4, wrap=False) for line in head_and_tail(str(data["output"]))]


def plural(count: int, noun: str) -> str:
    return f"{count:,} {noun}" + ("" if count == 1 else "s")


def usage_text(usage: Mapping[str, Any]) -> str:
    """Return turns, tokens and cost in one line."""
    parts = [plural(usage["turns"], "turn")] if usage.get("turns") is not None else []
    parts += [f"{usage['input_tokens']:,} tokens read", f"{usage['output_tokens']:,} written"]
    if usage.get("cost_usd") is not None:
        parts.append(f"${usage['cost_usd']:.2f}")
    return ", ".join(parts)


def _usage(data: Mapping[str, Any]) -> list[OutputLine]:
    # Each answer of the model has the count so far. Only the last one has the turns, and it is the total.
    return [OutputLine(usage_text(data), Style.DIM, DETAIL)] if "turns" in data else []


def _diff(data: Mapping[str, Any]) -> list[OutputLine]:
    size = f"{plural(data['files'], 'file')} changed, +{data['insertions']} -{data['deletions']}"
    lines = [OutputLine(f"{size}, in {plural(data['commits'], 'commit')}", Style.PLAIN, DETAIL)]
    if data.get("left_out"):
        lines.append(OutputLine(f"not pushed: {data['left_out']}", Style.YELLOW, DETAIL))
    patch = patch_lines(str(data.get("patch") or ""), DETAIL + 4)
    left_out = len(patch) - PATCH_LINES
    if left_out > 1:
        patch = [*patch[:PATCH_LINES], OutputLine(f"… {plural(left_out, 'more line')} …", Style.DIM, DETAIL + 4)]
    if data.get("truncated"):
        patch.append(OutputLine("… the rest of the patch was too large to send …", Style.DIM, DETAIL + 4))
    return lines + patch


def _pushed(data: Mapping[str, Any]) -> list[OutputLine]:
    return [OutputLine(f"pushed {data['branch']} at {data['sha'][:10]}", Style.GREEN, DETAIL)]


def _warning(data: Mapping[str, Any]) -> list[OutputLine]:
    return [OutputLine(f"{data['message']} ({data['code']})", Style.YELLOW, DETAIL, prefix="! ")]


def _outcome(data: Mapping[str, Any]) -> list[OutputLine]:
    style = Style.GREEN if data["outcome"] == "completed" else Style.RED
    error = data.get("error")
    reason = f": {error['message']} ({error['code']})" if error else ""
    return [OutputLine(f"{data['outcome']}{reason}", style, DETAIL)]


def _truncated(data: Mapping[str, Any]) -> list[OutputLine]:
    size = f"[{data['kind']} was too large: {data['bytes']:,} bytes were cut; it begins with]"
    beginning = str(data.get("start", ""))[:TRUNCATED_CHARS]
    return [OutputLine(size, Style.YELLOW, DETAIL), OutputLine(beginning, Style.DIM, DETAIL + 4)]


_DROPPED_BECAUSE: Final[Mapping[str, str]] = {"bound": "the log grew too long", "retention": "the log is old"}


def _dropped(data: Mapping[str, Any]) -> list[OutputLine]:
    size = f"{plural(data['events'], 'event')} from number {data['first_seq']} on ({plural(data['bytes'], 'byte')})"
    reason = _DROPPED_BECAUSE.get(data["reason"], data["reason"])
    return [OutputLine(f"[dropped {size}: {reason}]", Style.YELLOW, DETAIL)]


_WRITERS: Final[Mapping[str, Callable[[Mapping[str, Any]], list[OutputLine]]]] = {
    EventKind.LOG: _log,
    EventKind.AGENT_STARTED: _started,
    EventKind.AGENT_MESSAGE: _message,
    EventKind.AGENT_THINKING: _thinking,
    EventKind.TOOL_CALL: _call,
    EventKind.TOOL_RESULT: _result,
    EventKind.USAGE: _usage,
    EventKind.DIFF: _diff,
    EventKind.PUSHED: _pushed,
    EventKind.WARNING: _warning,
    EventKind.RESULT: _outcome,
    EventKind.TRUNCATED: _truncated,
    EventKind.DROPPED: _dropped,
}


def patch_lines(patch: str, indent: int = 4) -> list[OutputLine]:
    """Return the lines of a patch in git's colours."""
    return [OutputLine(line, _patch_style(line), indent, wrap=False) for line in patch.splitlines()]


def _patch_style(line: str) -> Style:
    if line.startswith(("+++", "---", "diff ", "index ", "commit ")):
        return Style.BOLD
    if line.startswith("@@"):
        return Style.CYAN
    return {"+": Style.GREEN, "-": Style.RED}.get(line[:1], Style.PLAIN)

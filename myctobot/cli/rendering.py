"""How a job's events read in a terminal; pure."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Any, Final

from myctobot.cli.terminal import Line, Style
from myctobot.contract.jobs import EventKind

DETAIL: Final = 9
RESULT_HEAD: Final = 5
RESULT_TAIL: Final = 6
MESSAGE_LINES: Final = 40
PATCH_LINES: Final = 60
TRUNCATED_CHARS: Final = 300

# What each of the agent's own tools is mainly about.
_MAIN_INPUT: Final[Mapping[str, str]] = {
    "Bash": "command",
    "Read": "file_path",
    "Edit": "file_path",
    "Write": "file_path",
}
# git's report on a transfer says nothing that a newcomer looks for.
_CHATTER: Final = ("remote: ", "Receiving objects", "Resolving deltas", "From ", "* [new branch]")


def render(event: Mapping[str, Any], started: datetime) -> list[Line]:
    """Turn one event into lines.

    Args:
        event: as it came, ``{seq, at, kind, data}``.
        started: what elapsed times count from.
    """
    writer = _WRITERS.get(event["kind"])
    try:
        if event["kind"] == EventKind.PHASE:
            return [_phase(event, started)]
        return writer(event["data"]) if writer else []
    except (KeyError, TypeError, ValueError, AttributeError):
        # A shard chose the shape of the data. What is not as expected is shown as it came.
        text = json.dumps(event["data"], ensure_ascii=False)
        return [Line(f"{event['kind']} {text}", Style.DIM, DETAIL, wrap=False)]


def _phase(event: Mapping[str, Any], started: datetime) -> Line:
    elapsed = max(0.0, (datetime.fromisoformat(event["at"]) - started).total_seconds())
    detail = event["data"].get("detail")
    return Line(f"{elapsed:5.1f} s  {event['data']['phase']}{f', {detail}' if detail else ''}", Style.CYAN)


def _log(data: Mapping[str, Any]) -> list[Line]:
    text = str(data["text"])
    chatter = data.get("source") == "git" and text.startswith(_CHATTER)
    return [] if chatter else [Line(text, Style.DIM, DETAIL, wrap=False)]


def _started(data: Mapping[str, Any]) -> list[Line]:
    version = f"Claude Code {data['cli_version']}" if data.get("cli_version") else "The agent"
    own = [name for name in data["tools"] if name in _MAIN_INPUT]
    servers = [f"{server['name']} ({server['status']})" for server in data["mcp_servers"]]
    text = f"{version} started, with the tools {', '.join(own)}"
    return [Line(text + (f" and the MCP server {', '.join(servers)}" if servers else ""), Style.DIM, DETAIL)]


def _message(data: Mapping[str, Any]) -> list[Line]:
    lines = [line for line in str(data["text"]).splitlines() if line.strip()]
    shown = lines[:MESSAGE_LINES] + (["…"] if len(lines) > MESSAGE_LINES else [])
    return [Line(line, Style.PLAIN, DETAIL, mark="● " if number == 0 else "  ") for number, line in enumerate(shown)]


def _thinking(data: Mapping[str, Any]) -> list[Line]:
    text = " ".join(str(data["text"]).split())
    return [Line(text, Style.DIM, DETAIL, mark="∴ ", wrap=False)]


def main_input(name: str, arguments: Mapping[str, Any]) -> str:
    """The part of a tool call's input that tells most, on one line."""
    value = arguments.get(_MAIN_INPUT.get(name, ""))
    text = value if isinstance(value, str) else json.dumps(arguments, ensure_ascii=False)
    first, *more = text.strip().splitlines() or [""]
    return first + (f" … (+{len(more)} lines)" if more else "")


def _call(data: Mapping[str, Any]) -> list[Line]:
    text = f"{data['name']}  {main_input(data['name'], data['input'])}"
    return [Line(text, Style.BOLD, DETAIL, mark="→ ", wrap=False)]


def bounded(text: str) -> list[str]:
    """How an output begins and how it ends, without empty lines and rules."""
    lines = [line for line in text.splitlines() if line.strip(" \t=-_")]
    left_out = len(lines) - RESULT_HEAD - RESULT_TAIL
    if left_out <= 1:
        return lines
    return [*lines[:RESULT_HEAD], f"… {left_out} more lines …", *lines[-RESULT_TAIL:]]


def _result(data: Mapping[str, Any]) -> list[Line]:
    style = Style.RED if data["is_error"] else Style.DIM
    return [Line(line, style, DETAIL + 4, wrap=False) for line in bounded(str(data["output"]))]


def plural(count: int, noun: str) -> str:
    return f"{count:,} {noun}" + ("" if count == 1 else "s")


def usage_text(usage: Mapping[str, Any]) -> str:
    """Turns, tokens and cost in one line."""
    parts = [plural(usage["turns"], "turn")] if usage.get("turns") is not None else []
    parts += [f"{usage['input_tokens']:,} tokens read", f"{usage['output_tokens']:,} written"]
    if usage.get("cost_usd") is not None:
        parts.append(f"${usage['cost_usd']:.2f}")
    return ", ".join(parts)


def _usage(data: Mapping[str, Any]) -> list[Line]:
    # Each answer of the model brings the count so far; the last one, with the turns, is the sum.
    return [Line(usage_text(data), Style.DIM, DETAIL)] if "turns" in data else []


def _diff(data: Mapping[str, Any]) -> list[Line]:
    size = f"{plural(data['files'], 'file')} changed, +{data['insertions']} -{data['deletions']}"
    lines = [Line(f"{size}, in {plural(data['commits'], 'commit')}", Style.PLAIN, DETAIL)]
    patch = patch_lines(str(data.get("patch") or ""), DETAIL + 4)
    left_out = len(patch) - PATCH_LINES
    if left_out > 1:
        patch = [*patch[:PATCH_LINES], Line(f"… {plural(left_out, 'more line')} …", Style.DIM, DETAIL + 4)]
    if data.get("truncated"):
        patch.append(Line("… the rest of the patch was too large to be sent …", Style.DIM, DETAIL + 4))
    return lines + patch


def _pushed(data: Mapping[str, Any]) -> list[Line]:
    return [Line(f"pushed {data['branch']} at {data['sha'][:10]}", Style.GREEN, DETAIL)]


def _warning(data: Mapping[str, Any]) -> list[Line]:
    return [Line(f"{data['message']} ({data['code']})", Style.YELLOW, DETAIL, mark="! ")]


def _outcome(data: Mapping[str, Any]) -> list[Line]:
    style = Style.GREEN if data["outcome"] == "completed" else Style.RED
    error = data.get("error")
    reason = f": {error['message']} ({error['code']})" if error else ""
    return [Line(f"{data['outcome']}{reason}", style, DETAIL)]


def _truncated(data: Mapping[str, Any]) -> list[Line]:
    size = f"[{data['kind']} was too large: {data['bytes']:,} bytes of it were cut; it began with]"
    beginning = str(data.get("start", ""))[:TRUNCATED_CHARS]
    return [Line(size, Style.YELLOW, DETAIL), Line(beginning, Style.DIM, DETAIL + 4)]


_DROPPED_BECAUSE: Final[Mapping[str, str]] = {"bound": "the log grew too long", "retention": "the log is old"}


def _dropped(data: Mapping[str, Any]) -> list[Line]:
    size = f"{plural(data['events'], 'event')} from number {data['first_seq']} on, {plural(data['bytes'], 'byte')},"
    why = _DROPPED_BECAUSE.get(data["reason"], data["reason"])
    return [Line(f"[{size} are not kept any more: {why}]", Style.YELLOW, DETAIL)]


_WRITERS: Final[Mapping[str, Callable[[Mapping[str, Any]], list[Line]]]] = {
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


def patch_lines(patch: str, indent: int = 4) -> list[Line]:
    """A patch, coloured as git colours it."""
    return [Line(line, _patch_style(line), indent, wrap=False) for line in patch.splitlines()]


def _patch_style(line: str) -> Style:
    if line.startswith(("+++", "---", "diff ", "index ", "commit ")):
        return Style.BOLD
    if line.startswith("@@"):
        return Style.CYAN
    return {"+": Style.GREEN, "-": Style.RED}.get(line[:1], Style.PLAIN)

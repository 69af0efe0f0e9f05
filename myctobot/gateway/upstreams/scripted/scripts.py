"""Scripts of a fake model. The conversation alone determines the next step of a script.

A script has no state on the server. A repeated request therefore gets the same response, and any number of
jobs can use the same script at once.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from myctobot.gateway.errors import BadRequest, ScriptedError
from myctobot.gateway.upstreams.scripted.conversation import Conversation

PLACEHOLDER = re.compile(r"\{\{ *([A-Za-z_]\w*) *\}\}")
MAX_LISTED_SCRIPTS = 10


@dataclass(frozen=True)
class Match:
    """Conditions of a script on the conversation. The patterns are searched, not anchored."""

    prompt: re.Pattern[str] | None = None
    system: re.Pattern[str] | None = None
    model: re.Pattern[str] | None = None
    result: re.Pattern[str] | None = None
    tools: frozenset[str] = frozenset()

    def patterns(self) -> dict[str, re.Pattern[str]]:
        named = {"prompt": self.prompt, "system": self.system, "model": self.model, "result": self.result}
        return {name: pattern for name, pattern in named.items() if pattern is not None}


@dataclass(frozen=True)
class When:
    """Conditions of a step on the last tool result."""

    result: re.Pattern[str] | None = None
    not_result: re.Pattern[str] | None = None
    is_error: bool | None = None


@dataclass(frozen=True)
class ToolCall:
    tool: str
    input: dict[str, Any]


@dataclass(frozen=True)
class StepError:
    status: int
    kind: str
    message: str
    retry_after_s: int | None = None


@dataclass(frozen=True)
class ScriptStep:
    """One answer of the model: thinking, text and tool calls, in this order, or an error."""

    text: str = ""
    thinking: str = ""
    calls: tuple[ToolCall, ...] = ()
    when: When = When()
    error: StepError | None = None
    stop_reason: str | None = None
    usage: Mapping[str, int] = field(default_factory=dict)
    delay_ms: int = 0
    chunk: int = 40
    chunk_delay_ms: int = 0


@dataclass(frozen=True)
class Script:
    """Script with the alternatives for each answer in ``turns``; most answers have one alternative."""

    name: str
    source: str
    match: Match
    turns: tuple[tuple[ScriptStep, ...], ...]

    @property
    def label(self) -> str:
        return f"{self.source}/{self.name}"


@dataclass(frozen=True)
class ChosenStep:
    script: Script
    step: ScriptStep
    captures: dict[str, str]


def choose(scripts: Iterable[Script], conversation: Conversation) -> ChosenStep:
    """Choose the first script that matches, and its step for this turn.

    Raises:
        BadRequest: no script matches, or the matching one has no step for this turn; the message says what is missing.
    """
    missing: list[str] = []
    for script in scripts:
        problem = mismatch(script.match, conversation)
        if problem is None:
            step = _step(script, conversation)
            return ChosenStep(script, step, _captures(script.match, step, conversation))
        missing.append(f"{script.label} needs {problem}")
    listed = "; ".join(missing[:MAX_LISTED_SCRIPTS]) + ("; …" if len(missing) > MAX_LISTED_SCRIPTS else "")
    raise BadRequest(f"No script matches this conversation: {listed}. Add one to GATEWAY_SCRIPTS.")


def mismatch(match: Match, conversation: Conversation) -> str | None:
    """Describe what the conversation lacks; return None when it matches."""
    for name, pattern in match.patterns().items():
        if not pattern.search(_matched_text(conversation, name)):
            return f"a {name} that matches {pattern.pattern!r}"
    absent = sorted(match.tools - conversation.tools)
    return f"the tools {', '.join(absent)}" if absent else None


def compose(chosen: ChosenStep, conversation: Conversation, input_tokens: int) -> dict[str, Any]:
    """Build a complete message of the Messages API from the chosen step.

    Raises:
        ScriptedError: the step is an error.
        BadRequest: the step calls a tool that the conversation does not offer.
    """
    step = chosen.step
    if step.error is not None:
        error = step.error
        raise ScriptedError(
            fill(error.message, chosen.captures),
            status=error.status,
            kind=error.kind,
            retry_after_s=error.retry_after_s,
        )
    absent = sorted({call.tool for call in step.calls} - conversation.tools)
    if absent:
        offered = ", ".join(sorted(conversation.tools)) or "no tools"
        raise BadRequest(
            f"Script {chosen.script.label} calls {', '.join(absent)} in turn {conversation.turns + 1}; "
            f"this conversation offers {offered}. Add the capability to the job."
        )
    content = _content(chosen, conversation)
    return {
        "id": _identifier("msg", chosen.script.label, conversation, 0),
        "type": "message",
        "role": "assistant",
        "model": conversation.model,
        "content": content,
        "stop_reason": step.stop_reason or ("tool_use" if step.calls else "end_turn"),
        "stop_sequence": None,
        "usage": {
            "input_tokens": input_tokens,
            "cache_creation_input_tokens": 0,
            "cache_read_input_tokens": 0,
            "output_tokens": estimate_tokens(json.dumps(content)),
            **step.usage,
        },
    }


def fill(value: Any, captures: Mapping[str, str]) -> Any:
    """Replace ``{{ name }}`` in every string within ``value``, without replacing again in the inserted text."""
    if isinstance(value, str):
        return PLACEHOLDER.sub(lambda found: captures[found[1]] if found[1] in captures else found[0], value)
    if isinstance(value, list):
        return [fill(item, captures) for item in value]
    if isinstance(value, dict):
        return {key: fill(item, captures) for key, item in value.items()}
    return value


def estimate_tokens(text: str | bytes) -> int:
    """Estimate the tokens of a text, at four characters per token."""
    return max(1, len(text) // 4)


def _matched_text(conversation: Conversation, name: str) -> str:
    return {
        "prompt": conversation.prompt,
        "system": conversation.system,
        "model": conversation.model,
        "result": conversation.result or "",
    }[name]


def _step(script: Script, conversation: Conversation) -> ScriptStep:
    if conversation.turns >= len(script.turns):
        raise BadRequest(
            f"Script {script.label} has {len(script.turns)} steps; "
            f"this conversation asks for step {conversation.turns + 1}."
        )
    for step in script.turns[conversation.turns]:
        if _matches(step.when, conversation):
            return step
    raise BadRequest(
        f"Script {script.label} has no step for turn {conversation.turns + 1} that matches the last tool result; "
        "add one without 'when' to its first_of."
    )


def _matches(when: When, conversation: Conversation) -> bool:
    result = conversation.result or ""
    return (
        (when.result is None or when.result.search(result) is not None)
        and (when.not_result is None or when.not_result.search(result) is None)
        and (when.is_error is None or when.is_error == conversation.result_is_error)
    )


def _captures(match: Match, step: ScriptStep, conversation: Conversation) -> dict[str, str]:
    patterns = [*match.patterns().items()]
    if step.when.result is not None:
        patterns.append(("result", step.when.result))
    captures: dict[str, str] = {}
    for name, pattern in patterns:
        found = pattern.search(_matched_text(conversation, name))
        captures |= {group: text or "" for group, text in (found.groupdict() if found else {}).items()}
    return captures


def _content(chosen: ChosenStep, conversation: Conversation) -> list[dict[str, Any]]:
    step, captures = chosen.step, chosen.captures
    content: list[dict[str, Any]] = []
    if step.thinking:
        signature = _identifier("sig", chosen.script.label, conversation, 0)
        content.append({"type": "thinking", "thinking": fill(step.thinking, captures), "signature": signature})
    if step.text:
        content.append({"type": "text", "text": fill(step.text, captures)})
    for index, call in enumerate(step.calls, start=1):
        identifier = _identifier("toolu", chosen.script.label, conversation, index)
        content.append({"type": "tool_use", "id": identifier, "name": call.tool, "input": fill(call.input, captures)})
    return content


def _identifier(prefix: str, label: str, conversation: Conversation, index: int) -> str:
    seed = json.dumps([label, conversation.prompt, conversation.turns, index]).encode()
    return f"{prefix}_{hashlib.sha256(seed).hexdigest()[:24]}"

"""Plays: a model's part, written down. Which step comes next follows from the conversation alone.

A play holds no state on the server, so a repeated request gets the same answer and any number of jobs
may play the same play at once.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from myctobot.gateway.errors import BadRequest, PlayedError
from myctobot.gateway.upstreams.scripted.conversation import Conversation

PLACEHOLDER = re.compile(r"\{\{ *([A-Za-z_]\w*) *\}\}")
MAX_LISTED_PLAYS = 10


@dataclass(frozen=True)
class Match:
    """What a conversation must have for a play to fit; patterns are searched, not anchored."""

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
    """What the last tool result must look like for a step to fit."""

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
class Step:
    """One answer: thinking, text and tool calls, in this order; or an error."""

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
class Play:
    """``turns`` holds the alternatives for each answer, in order; most have one."""

    name: str
    source: str
    match: Match
    turns: tuple[tuple[Step, ...], ...]

    @property
    def label(self) -> str:
        return f"{self.source}/{self.name}"


@dataclass(frozen=True)
class Chosen:
    play: Play
    step: Step
    captures: dict[str, str]


def choose(plays: Iterable[Play], talk: Conversation) -> Chosen:
    """Choose the first play that fits, and its step for this turn.

    Raises:
        BadRequest: none fits, or the one that does has no step for this turn; the sentence says what is missing.
    """
    missing: list[str] = []
    for play in plays:
        problem = mismatch(play.match, talk)
        if problem is None:
            step = _step(play, talk)
            return Chosen(play, step, _captures(play.match, step, talk))
        missing.append(f"{play.label} needs {problem}")
    listed = "; ".join(missing[:MAX_LISTED_PLAYS]) + ("; …" if len(missing) > MAX_LISTED_PLAYS else "")
    raise BadRequest(f"No play fits this conversation: {listed}. Add one to GATEWAY_PLAYS.")


def mismatch(match: Match, talk: Conversation) -> str | None:
    """Say what the conversation lacks, or None when it fits."""
    for name, pattern in match.patterns().items():
        if not pattern.search(_subject(talk, name)):
            return f"a {name} that matches {pattern.pattern!r}"
    absent = sorted(match.tools - talk.tools)
    return f"the tools {', '.join(absent)}" if absent else None


def compose(chosen: Chosen, talk: Conversation, input_tokens: int) -> dict[str, Any]:
    """Write the chosen step as a whole message of the Messages API.

    Raises:
        PlayedError: the step is an error.
        BadRequest: the step calls a tool that the conversation does not offer.
    """
    step = chosen.step
    if step.error is not None:
        error = step.error
        raise PlayedError(
            fill(error.message, chosen.captures),
            status=error.status,
            kind=error.kind,
            retry_after_s=error.retry_after_s,
        )
    absent = sorted({call.tool for call in step.calls} - talk.tools)
    if absent:
        offered = ", ".join(sorted(talk.tools)) or "no tools"
        raise BadRequest(
            f"Play {chosen.play.label} calls {', '.join(absent)} in turn {talk.turns + 1}; "
            f"this conversation offers {offered}. Ask for the capability in the job."
        )
    content = _content(chosen, talk)
    return {
        "id": _identifier("msg", chosen.play.label, talk, 0),
        "type": "message",
        "role": "assistant",
        "model": talk.model,
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
    """Replace ``{{ name }}`` in every string within ``value``; what was put in is not looked at again."""
    if isinstance(value, str):
        return PLACEHOLDER.sub(lambda found: captures[found[1]] if found[1] in captures else found[0], value)
    if isinstance(value, list):
        return [fill(item, captures) for item in value]
    if isinstance(value, dict):
        return {key: fill(item, captures) for key, item in value.items()}
    return value


def estimate_tokens(text: str | bytes) -> int:
    """Estimate roughly, at four characters a token."""
    return max(1, len(text) // 4)


def _subject(talk: Conversation, name: str) -> str:
    return {"prompt": talk.prompt, "system": talk.system, "model": talk.model, "result": talk.result or ""}[name]


def _step(play: Play, talk: Conversation) -> Step:
    if talk.turns >= len(play.turns):
        raise BadRequest(
            f"Play {play.label} has {len(play.turns)} steps, and this conversation asks for number {talk.turns + 1}."
        )
    for step in play.turns[talk.turns]:
        if _fits(step.when, talk):
            return step
    raise BadRequest(
        f"Play {play.label} has no step for turn {talk.turns + 1} that fits the last tool result; "
        "add one without 'when' to its first_of."
    )


def _fits(when: When, talk: Conversation) -> bool:
    result = talk.result or ""
    return (
        (when.result is None or when.result.search(result) is not None)
        and (when.not_result is None or when.not_result.search(result) is None)
        and (when.is_error is None or when.is_error == talk.result_is_error)
    )


def _captures(match: Match, step: Step, talk: Conversation) -> dict[str, str]:
    patterns = [*match.patterns().items()]
    if step.when.result is not None:
        patterns.append(("result", step.when.result))
    captures: dict[str, str] = {}
    for name, pattern in patterns:
        found = pattern.search(_subject(talk, name))
        captures |= {group: text or "" for group, text in (found.groupdict() if found else {}).items()}
    return captures


def _content(chosen: Chosen, talk: Conversation) -> list[dict[str, Any]]:
    step, captures = chosen.step, chosen.captures
    content: list[dict[str, Any]] = []
    if step.thinking:
        signature = _identifier("sig", chosen.play.label, talk, 0)
        content.append({"type": "thinking", "thinking": fill(step.thinking, captures), "signature": signature})
    if step.text:
        content.append({"type": "text", "text": fill(step.text, captures)})
    for index, call in enumerate(step.calls, start=1):
        identifier = _identifier("toolu", chosen.play.label, talk, index)
        content.append({"type": "tool_use", "id": identifier, "name": call.tool, "input": fill(call.input, captures)})
    return content


def _identifier(prefix: str, label: str, talk: Conversation, index: int) -> str:
    seed = json.dumps([label, talk.prompt, talk.turns, index]).encode()
    return f"{prefix}_{hashlib.sha256(seed).hexdigest()[:24]}"

"""Parts of a conversation that scripts match."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from itertools import groupby
from typing import Any


@dataclass(frozen=True)
class Conversation:
    """Conversation in a Messages API request.

    ``turns`` counts the assistant's answers so far. ``result`` is the text of the tool results since the
    last answer, or None without tool results.
    """

    prompt: str
    system: str = ""
    model: str = ""
    tools: frozenset[str] = frozenset()
    turns: int = 0
    result: str | None = None
    result_is_error: bool = False


def read_conversation(document: dict[str, Any]) -> Conversation:
    """Read the conversation of a request; ``document`` has passed ``requests.parse_messages``."""
    messages: list[dict[str, Any]] = document["messages"]
    # Skip messages of other roles, such as the ``system`` messages that Claude Code sends between the others.
    dialogue = [message for message in messages if message["role"] in ("user", "assistant")]
    runs = [(role, list(run)) for role, run in groupby(dialogue, key=lambda message: str(message["role"]))]
    prompt = next((_text(_blocks(run[:1])) for role, run in runs if role == "user"), "")
    last = runs[-1][1] if runs and runs[-1][0] == "user" else []
    results = [block for block in _blocks(last) if block.get("type") == "tool_result"]
    system = [message for message in messages if message["role"] == "system"]
    return Conversation(
        prompt=prompt,
        system=_text([*_content(document.get("system")), *_blocks(system)]),
        model=str(document["model"]),
        tools=frozenset(_tool_names(document.get("tools"))),
        # A run counts as one answer, because clients may split an answer into several messages.
        turns=sum(role == "assistant" for role, _ in runs),
        result="\n".join(_text(_content(block.get("content"))) for block in results) if results else None,
        result_is_error=any(bool(block.get("is_error")) for block in results),
    )


def _blocks(messages: Iterable[dict[str, Any]]) -> list[dict[str, Any]]:
    return [block for message in messages for block in _content(message.get("content"))]


def _content(content: Any) -> list[dict[str, Any]]:
    if isinstance(content, str):
        return [{"type": "text", "text": content}]
    return [block for block in content if isinstance(block, dict)] if isinstance(content, list) else []


def _text(blocks: Iterable[dict[str, Any]]) -> str:
    return "\n".join(str(block.get("text", "")) for block in blocks if block.get("type") == "text")


def _tool_names(tools: Any) -> list[str]:
    return [str(tool.get("name", "")) for tool in tools if isinstance(tool, dict)] if isinstance(tools, list) else []

"""What a play looks at in a conversation."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from itertools import groupby
from typing import Any


@dataclass(frozen=True)
class Conversation:
    """A Messages API request, read as a model would.

    ``turns`` counts the answers given so far. ``result`` is the text of the tool results since the
    last answer, or None when there are none.
    """

    prompt: str
    system: str = ""
    model: str = ""
    tools: frozenset[str] = frozenset()
    turns: int = 0
    result: str | None = None
    result_is_error: bool = False


def read_conversation(document: dict[str, Any]) -> Conversation:
    """Read the request; ``document`` has passed ``requests.parse_messages``."""
    messages: list[dict[str, Any]] = document["messages"]
    # Clients put messages of other roles between (Claude Code sends ``system``): no part of the talk.
    talk = [message for message in messages if message["role"] in ("user", "assistant")]
    runs = [(role, list(run)) for role, run in groupby(talk, key=lambda message: str(message["role"]))]
    prompt = next((_text(_blocks(run[:1])) for role, run in runs if role == "user"), "")
    last = runs[-1][1] if runs and runs[-1][0] == "user" else []
    results = [block for block in _blocks(last) if block.get("type") == "tool_result"]
    noted = [message for message in messages if message["role"] == "system"]
    return Conversation(
        prompt=prompt,
        system=_text([*_content(document.get("system")), *_blocks(noted)]),
        model=str(document["model"]),
        tools=frozenset(_names(document.get("tools"))),
        # Clients may split one answer into several messages.
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


def _names(tools: Any) -> list[str]:
    return [str(tool.get("name", "")) for tool in tools if isinstance(tool, dict)] if isinstance(tools, list) else []

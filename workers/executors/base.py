"""What every executor takes and gives."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any, Protocol

from myctobot.contract.jobs import EventKind
from workers.sandbox.sandbox import Sandbox

Emit = Callable[[EventKind, dict[str, Any]], Awaitable[None]]


@dataclass(frozen=True)
class AgentTask:
    """What an agent shall do.

    Args:
        prompt: the task, as the tenant wrote it.
        instructions: added to the agent's system prompt.
        max_turns: answers of the model until it is stopped.
        capabilities: what was asked for; chooses the MCP servers.
        gateway_url: where the model is reached.
        gateway_token: the agent's only credential, worth nothing once the job has ended.
    """

    prompt: str
    instructions: str
    max_turns: int
    capabilities: tuple[str, ...]
    gateway_url: str
    gateway_token: str = field(repr=False)


@dataclass(frozen=True)
class AgentReport:
    """How an agent ended; tokens read include those that came from the provider's cache."""

    ok: bool
    summary: str
    error_code: str | None = None
    error_message: str | None = None
    turns: int = 0
    input_tokens: int = 0
    output_tokens: int = 0
    cost_usd: float | None = None


class Executor(Protocol):
    async def run(self, task: AgentTask, sandbox: Sandbox, emit: Emit, on_start: Callable[[int], None]) -> AgentReport:
        """Carry a task out in a sandbox.

        Args:
            task: what to do.
            sandbox: where; its workspace holds the repository.
            emit: takes each step as it happens.
            on_start: called with the number of the agent's process right after its start.

        Raises:
            JobError: the agent could not be started, or its limits ended it.
        """
        ...

"""Interface of an executor: its task, its report and its events."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any, Protocol

from myctobot.contract.jobs import EventKind
from workers.sandbox.sandbox import Sandbox

Emit = Callable[[EventKind, dict[str, Any]], Awaitable[None]]


@dataclass(frozen=True)
class AgentTask:
    """Task of an agent.

    Args:
        prompt: the task, as the tenant wrote it.
        instructions: text that is added to the agent's system prompt.
        max_turns: answers of the model after which the agent is stopped.
        capabilities: capabilities of the job, which select the MCP servers.
        gateway_url: address at which the agent reaches the model.
        gateway_token: the agent's only credential; it is invalid once the job has ended.
        model_wait_s: time for which the agent waits for a model that is busy or does not answer.
    """

    prompt: str
    instructions: str
    max_turns: int
    capabilities: tuple[str, ...]
    gateway_url: str
    gateway_token: str = field(repr=False)
    model_wait_s: float = 900


@dataclass(frozen=True)
class AgentFailure:
    """Reason why an agent did not finish; docs/jobs.md lists every code."""

    code: str
    message: str
    retryable: bool = False


@dataclass(frozen=True)
class AgentReport:
    """End of an agent; input tokens include those from the provider's cache."""

    summary: str
    failure: AgentFailure | None = None
    turns: int = 0
    input_tokens: int = 0
    output_tokens: int = 0
    cost_usd: float | None = None


class Executor(Protocol):
    """Program that runs an agent."""

    async def run(self, task: AgentTask, sandbox: Sandbox, emit: Emit, on_start: Callable[[int], None]) -> AgentReport:
        """Run a task in a sandbox.

        Args:
            task: the task.
            sandbox: sandbox whose workspace contains the repository.
            emit: receives each event as it happens.
            on_start: called with the number of the agent's process right after its start.

        Raises:
            JobError: the agent could not be started, or a limit ended it.
        """
        ...

"""Executor of the real agent: the Claude Code CLI in a sandbox, controlled by the Claude Agent SDK.

The repository's own settings, hooks, MCP servers and instructions may be hostile, so none is loaded: the CLI runs in
its bare mode with only our settings and our MCP configuration.
"""

from __future__ import annotations

import asyncio
import json
import shutil
from collections.abc import Callable, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import claude_agent_sdk
from claude_agent_sdk import (
    AssistantMessage,
    ClaudeAgentOptions,
    ClaudeSDKError,
    Message,
    ResultMessage,
    SystemMessage,
    TextBlock,
    ThinkingBlock,
    ToolResultBlock,
    ToolUseBlock,
    UserMessage,
)

from myctobot.contract.jobs import EventKind
from workers.config import McpServer
from workers.errors import JobError
from workers.executors import mcp
from workers.executors.base import AgentFailure, AgentReport, AgentTask, Emit
from workers.executors.transport import SandboxTransport
from workers.executors.truncation import keep_beginning, keep_end
from workers.sandbox import plan
from workers.sandbox.sandbox import Mount, Sandbox

CLI: Final = "/opt/agent/claude"
CONFIG: Final = "/opt/agent/config"
# Tools that the CLI has in bare mode; MCP servers add theirs.
TOOLS: Final = ("Bash", "Edit", "Read")
SETTINGS: Final[Mapping[str, Any]] = {
    "disableAllHooks": True,
    "enableAllProjectMcpServers": False,
    "includeCoAuthoredBy": False,
    "cleanupPeriodDays": 1,
}
MAX_SUMMARY: Final = 4000
# A sentence comes before it, and the whole has the length of a message.
MAX_REASON: Final = MAX_SUMMARY - 200
# Another try does not change these answers of the gateway, but the CLI would try for minutes.
REFUSED_STATUSES: Final = (401, 403)
# The CLI's name for answers that reached their maximum length.
TOO_LONG: Final = "max_output_tokens"
# Code of the warning about a call of the model that got no answer and is tried again.
MODEL_RETRY: Final = "agent_api_retry"


def find_cli() -> Path | None:
    """Return the CLI in the SDK's wheel, else the one on the shard's PATH, else None."""
    bundled = Path(claude_agent_sdk.__file__).parent / "_bundled" / "claude"
    found = shutil.which("claude")
    return bundled if bundled.is_file() else Path(found) if found else None


def arguments(max_turns: int, servers: Sequence[str], *, instructed: bool, isolated: bool) -> list[str]:
    """Return the CLI's arguments, which contain no word of the prompt or the instructions.

    In a sandbox the agent has every permission. Without one the CLI may run as root, where it refuses that mode, so its
    tools are allowed by name there.
    """
    allowed = [*TOOLS, *(f"mcp__{name}" for name in servers)]
    argv = [CLI, "--bare", "--print", "--input-format", "stream-json", "--output-format", "stream-json", "--verbose"]
    argv += ["--setting-sources", "", "--settings", f"{CONFIG}/settings.json"]
    argv += ["--strict-mcp-config", "--mcp-config", f"{CONFIG}/mcp.json"]
    argv += ["--permission-mode", "bypassPermissions" if isolated else "dontAsk", "--permission-prompts", "none"]
    argv += ["--allowedTools", ",".join(allowed), "--disable-slash-commands", "--no-session-persistence"]
    if instructed:
        argv += ["--append-system-prompt-file", f"{CONFIG}/instructions.md"]
    return [*argv, "--max-turns", str(max_turns)]


def environment(task: AgentTask, author: tuple[str, str]) -> dict[str, str]:
    """Return the agent's environment, without the few variables that every sandbox has."""
    name, email = author
    return {
        "ANTHROPIC_BASE_URL": task.gateway_url,
        "ANTHROPIC_API_KEY": task.gateway_token,
        "CLAUDE_CODE_ENTRYPOINT": "sdk-py",
        "CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC": "1",
        "DISABLE_AUTOUPDATER": "1",
        "DISABLE_TELEMETRY": "1",
        "DISABLE_ERROR_REPORTING": "1",
        # Without these, the CLI gives up after three answers 529 within seconds.
        "CLAUDE_CODE_RETRY_WATCHDOG": "1",
        "CLAUDE_CODE_RETRY_WATCHDOG_MAX_WAIT_MS": str(round(task.model_wait_s * 1000)),
        "GIT_AUTHOR_NAME": name,
        "GIT_AUTHOR_EMAIL": email,
        "GIT_COMMITTER_NAME": name,
        "GIT_COMMITTER_EMAIL": email,
        "GIT_TERMINAL_PROMPT": "0",
    }


def output_text(content: str | list[dict[str, Any]] | None) -> str:
    """Return a tool's result as text; a part of another type is replaced by its type."""
    if isinstance(content, list):
        parts = (str(part["text"]) if "text" in part else f"[{part.get('type', 'data')}]" for part in content)
        return "\n".join(parts)
    return content or ""


def tokens(usage: Mapping[str, Any] | None) -> tuple[int, int]:
    """Return the input tokens, including cached ones, and the output tokens."""
    counted = {name: value for name, value in (usage or {}).items() if isinstance(value, int)}
    cached = counted.get("cache_creation_input_tokens", 0) + counted.get("cache_read_input_tokens", 0)
    return counted.get("input_tokens", 0) + cached, counted.get("output_tokens", 0)


def report(result: ResultMessage, max_turns: int, writer: EventWriter) -> AgentReport:
    """Return the report from the CLI's last message and the messages before it."""
    failure = _failure(result, max_turns, writer)
    read, written = tokens(result.usage)
    summary = (result.result if failure is None else None) or writer.last_text
    kept = keep_beginning(summary, MAX_SUMMARY)
    return AgentReport(kept, failure, result.num_turns, read, written, result.total_cost_usd)


def _failure(result: ResultMessage, max_turns: int, writer: EventWriter) -> AgentFailure | None:
    reason = result.result or "; ".join(result.errors or []) or "no reason given"
    message = keep_beginning(reason, MAX_REASON)
    if result.subtype == "error_max_turns":
        sentence = f"The agent used all {max_turns} turns before it was done; raise max_turns or ask for less at once."
        return AgentFailure("agent_max_turns", sentence)
    if not result.is_error:
        return None
    if writer.last_error == TOO_LONG:
        return AgentFailure(
            "agent_answer_too_long",
            "The model's answers reached their maximum length several times in a row; ask for less at once, or for "
            "smaller files.",
        )
    status = result.api_error_status
    # A gateway or provider whose refusal is final forbids retries with any status.
    if status is not None and _is_passing(status) and writer.waiting_since is not None:
        return model_unavailable(f"status {status}, {message}")
    if status or result.subtype == "success":
        return AgentFailure("agent_api_error", f"The model could not be used: {message}")
    return AgentFailure("agent_failed", f"The agent gave up: {message}")


def _is_passing(status: int) -> bool:
    """Tell whether a status of the provider says that it is busy or out of order; 529 is Anthropic's for busy."""
    return status in (408, 429) or status >= 500


def model_unavailable(reason: str) -> AgentFailure:
    """Return the failure of an agent that waited for a busy model; it is not the agent's fault."""
    return AgentFailure(
        "model_unavailable",
        f"The model's provider is busy or does not answer ({reason}); the job can be tried again later.",
        retryable=True,
    )


@dataclass
class EventWriter:
    """Writer of events from the SDK's messages; it also keeps the values for the report.

    Args:
        model_wait_s: see ``AgentTask``.

    Attributes:
        failure: reason to end the agent.
        last_error: name of the error in the last message of the model.
        waiting_since: time of the loop at the first of the latest calls of the model without an answer, or None.
    """

    emit: Emit
    model_wait_s: float = AgentTask.model_wait_s
    result: ResultMessage | None = None
    failure: AgentFailure | None = None
    last_error: str | None = None
    waiting_since: float | None = None
    last_text: str = ""
    counted: set[str] = field(default_factory=set)
    read: int = 0
    written: int = 0

    async def handle(self, message: Message) -> None:
        match message:
            case SystemMessage(subtype="init", data=data):
                await self._start(_agent_started(data))
            case SystemMessage(subtype="api_retry", data=data):
                await self._retry(data)
            case AssistantMessage():
                self.last_error = message.error
                if message.error is None:
                    self.waiting_since = None
                for block in message.content:
                    await self._assistant_block(block)
                await self._usage(message)
            case UserMessage(content=list(blocks)):
                for block in blocks:
                    if isinstance(block, ToolResultBlock):
                        data = {"output": output_text(block.content), "is_error": bool(block.is_error)}
                        await self.emit(EventKind.TOOL_RESULT, {"id": block.tool_use_id, **data})
            case ResultMessage():
                self.result = message
                self.read, self.written = tokens(message.usage)
                totals = {"cost_usd": message.total_cost_usd, "turns": message.num_turns}
                await self._emit_usage({name: value for name, value in totals.items() if value is not None})
            case _:
                pass

    async def _start(self, started: dict[str, Any]) -> None:
        await self.emit(EventKind.AGENT_STARTED, started)
        for server in started["mcp_servers"]:
            if server["status"] == "failed":
                text = f"The MCP server '{server['name']}' did not start, so the agent works without its tools."
                await self.emit(EventKind.WARNING, {"code": "mcp_server_failed", "message": text})

    async def _assistant_block(self, block: object) -> None:
        match block:
            case TextBlock(text=text) if text.strip():
                self.last_text = text
                await self.emit(EventKind.AGENT_MESSAGE, {"text": text})
            case ThinkingBlock(thinking=text) if text.strip():
                await self.emit(EventKind.AGENT_THINKING, {"text": text})
            case ToolUseBlock():
                call = {"id": block.id, "name": block.name, "input": block.input}
                await self.emit(EventKind.TOOL_CALL, call)
            case _:
                pass

    async def _retry(self, data: Mapping[str, Any]) -> None:
        status, reason = data.get("error_status"), data.get("error", "no answer")
        if status in REFUSED_STATUSES:
            # The gateway refuses in the same way, but only after the job has ended.
            self.failure = AgentFailure(
                "agent_api_error",
                f"The call to the model was refused ({status}, {reason}); check the job's anthropic_api_key and its "
                "permissions, or ask an operator to read the gateway's log.",
            )
            return
        now = asyncio.get_running_loop().time()
        if self.waiting_since is None:
            self.waiting_since = now
        if now - self.waiting_since > self.model_wait_s:
            self.failure = model_unavailable(f"{status or 'no status'}, {reason}, for {self.model_wait_s:g} s")
            return
        text = f"The model did not answer ({status or 'no status'}, {reason}); try {data.get('attempt')} follows."
        await self.emit(EventKind.WARNING, {"code": MODEL_RETRY, "message": text})

    async def _usage(self, message: AssistantMessage) -> None:
        """Add up the tokens of each answer once; an answer of several blocks repeats its figures in each message."""
        if message.message_id is None or message.message_id in self.counted:
            return
        self.counted.add(message.message_id)
        read, written = tokens(message.usage)
        self.read, self.written = self.read + read, self.written + written
        await self._emit_usage({})

    async def _emit_usage(self, totals: dict[str, Any]) -> None:
        await self.emit(EventKind.USAGE, {"input_tokens": self.read, "output_tokens": self.written, **totals})


def _agent_started(data: Mapping[str, Any]) -> dict[str, Any]:
    servers = [{"name": server.get("name"), "status": server.get("status")} for server in data.get("mcp_servers", [])]
    cli_version = data.get("claude_code_version")
    return {
        "model": data.get("model"),
        "tools": data.get("tools", []),
        "mcp_servers": servers,
        "cli_version": cli_version,
    }


class ClaudeCode:
    """Executor that runs the CLI.

    Args:
        servers: MCP servers of the shard.
        cli: program to use instead of the SDK's own.
        author: name and email address of the agent's commits.
        model: model to request from the gateway instead of the CLI's default.
    """

    def __init__(
        self,
        servers: Mapping[str, McpServer],
        *,
        cli: Path | None = None,
        author: tuple[str, str] = ("MyCTOBot agent", "agent@myctobot.invalid"),
        model: str | None = None,
    ) -> None:
        self._servers = servers
        self._cli = cli or find_cli()
        self._author = author
        self._model = model

    async def run(self, task: AgentTask, sandbox: Sandbox, emit: Emit, on_start: Callable[[int], None]) -> AgentReport:
        if self._cli is None or not self._cli.is_file():
            where = f" at {self._cli}" if self._cli else ""
            hint = "ask an operator to install claude-agent-sdk from its wheel, or to set claude_code.cli_path"
            raise JobError("agent_cli_missing", f"This shard has no Claude Code CLI{where}; {hint}.")
        servers = mcp.select_servers(self._servers, task.capabilities)
        mounts = [Mount(self._cli, CLI), Mount(self._write_config(task, servers, sandbox), CONFIG)]
        argv = arguments(
            task.max_turns, list(servers), instructed=bool(task.instructions.strip()), isolated=sandbox.isolated
        )
        argv += ["--model", self._model] if self._model else []
        transport = SandboxTransport(sandbox, argv, environment(task, self._author), mounts, on_start, task.gateway_url)
        return await self._converse(task, sandbox, transport, EventWriter(emit, task.model_wait_s))

    def _write_config(self, task: AgentTask, servers: Mapping[str, McpServer], sandbox: Sandbox) -> Path:
        """Write the CLI's files to a directory that the agent can read but not change; return it."""
        directory = sandbox.agent_dir.with_name("agent-config")
        directory.mkdir(mode=0o755, exist_ok=True)
        config = plan.to_host_paths(json.dumps(mcp.strict_config(servers)), sandbox.host_paths())
        texts = {"settings.json": json.dumps(SETTINGS), "mcp.json": config, "instructions.md": task.instructions}
        for name, text in texts.items():
            (directory / name).write_text(text)
            (directory / name).chmod(0o644)
        directory.chmod(0o755)
        return directory

    async def _converse(
        self, task: AgentTask, sandbox: Sandbox, transport: SandboxTransport, writer: EventWriter
    ) -> AgentReport:
        # Send the prompt verbatim, so that a leading slash is no command and an @name is no file.
        options = ClaudeAgentOptions(verbatim_prompts=True)
        failure = ""
        messages = claude_agent_sdk.query(prompt=task.prompt, options=options, transport=transport)
        try:
            async with aclosing(messages):  # type: ignore[type-var]  # declared as an iterator, made by a generator
                async for message in messages:
                    await writer.handle(message)
                    if writer.failure is not None:
                        transport.stop()
                        break
        except ClaudeSDKError as error:
            failure = str(error)
        except Exception as error:
            # The SDK raises a plain Exception for a failed handshake and for nothing else.
            if type(error) is not Exception:
                raise
            failure = str(error)
        problem = sandbox.memory_error(transport.returncode or 0)
        if problem is not None:
            raise problem
        if writer.result is not None:
            return report(writer.result, task.max_turns, writer)
        summary = keep_beginning(writer.last_text, MAX_SUMMARY)
        if writer.failure is not None:
            return AgentReport(summary, writer.failure, 0, writer.read, writer.written)
        if (problem := sandbox.process_error(transport.returncode or 0)) is not None:
            raise problem
        reason = keep_end(transport.stderr_tail or failure or "it wrote no result", MAX_REASON)
        explanation = f"The agent ended unexpectedly with exit code {transport.returncode}: {reason}"
        crash = AgentFailure("agent_crashed", explanation)
        return AgentReport(summary, crash, 0, writer.read, writer.written)

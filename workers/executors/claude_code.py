"""The real agent: the Claude Code CLI, driven by the Claude Agent SDK, in a sandbox.

The repository's own settings, hooks, MCP servers and instructions are hostile, so none is loaded:
the CLI runs in its bare mode with our settings and our MCP configuration alone.
"""

from __future__ import annotations

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
from workers.executors.base import AgentReport, AgentTask, Emit
from workers.executors.transport import SandboxTransport
from workers.sandbox.sandbox import Mount, Sandbox
from workers.sandbox.sandbox import plan as sandbox_plan

CLI: Final = "/opt/agent/claude"
CONFIG: Final = "/opt/agent/config"
# All that the CLI has in bare mode; MCP servers add theirs.
TOOLS: Final = ("Bash", "Edit", "Read")
SETTINGS: Final[Mapping[str, Any]] = {
    "disableAllHooks": True,
    "enableAllProjectMcpServers": False,
    "includeCoAuthoredBy": False,
    "cleanupPeriodDays": 1,
}
SUMMARY: Final = 4000
# The gateway's answers that another try will not change. The CLI would try for minutes.
REFUSED: Final = (401, 403)


def find_cli() -> Path | None:
    """Find the CLI that the SDK's wheel brings, else one on the shard's PATH."""
    bundled = Path(claude_agent_sdk.__file__).parent / "_bundled" / "claude"
    found = shutil.which("claude")
    return bundled if bundled.is_file() else Path(found) if found else None


def arguments(max_turns: int, servers: Sequence[str], *, instructed: bool, isolated: bool) -> list[str]:
    """Write the CLI's arguments; no word of the prompt or of the instructions is among them.

    Within a sandbox the agent may do whatever it can. Without one the CLI may run as root, where it refuses that
    mode, so there its tools are allowed by name.
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
    """Give all that the agent's environment holds beside the sandbox's own few names."""
    name, email = author
    return {
        "ANTHROPIC_BASE_URL": task.gateway_url,
        "ANTHROPIC_API_KEY": task.gateway_token,
        "CLAUDE_CODE_ENTRYPOINT": "sdk-py",
        "CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC": "1",
        "DISABLE_AUTOUPDATER": "1",
        "DISABLE_TELEMETRY": "1",
        "DISABLE_ERROR_REPORTING": "1",
        "GIT_AUTHOR_NAME": name,
        "GIT_AUTHOR_EMAIL": email,
        "GIT_COMMITTER_NAME": name,
        "GIT_COMMITTER_EMAIL": email,
        "GIT_TERMINAL_PROMPT": "0",
    }


def output_text(content: str | list[dict[str, Any]] | None) -> str:
    """Give a tool's result as text; what is no text is named."""
    if isinstance(content, list):
        parts = (str(part["text"]) if "text" in part else f"[{part.get('type', 'data')}]" for part in content)
        return "\n".join(parts)
    return content or ""


def tokens(usage: Mapping[str, Any] | None) -> tuple[int, int]:
    """Count the tokens read, from cache or not, and written."""
    counted = {name: value for name, value in (usage or {}).items() if isinstance(value, int)}
    cached = counted.get("cache_creation_input_tokens", 0) + counted.get("cache_read_input_tokens", 0)
    return counted.get("input_tokens", 0) + cached, counted.get("output_tokens", 0)


def report(result: ResultMessage, max_turns: int, last_text: str) -> AgentReport:
    """Say how the agent ended, from the CLI's last message."""
    code = message = None
    said = (result.result or "; ".join(result.errors or []) or "no reason given")[:SUMMARY]
    if result.subtype == "error_max_turns":
        code = "agent_max_turns"
        message = f"the agent used all {max_turns} turns before it was done; raise max_turns or ask for less at once"
    elif result.is_error and (result.api_error_status or result.subtype == "success"):
        code, message = "agent_api_error", f"the model could not be used: {said}"
    elif result.is_error:
        code, message = "agent_failed", f"the agent gave up: {said}"
    read, written = tokens(result.usage)
    summary = (result.result if code is None else None) or last_text
    return AgentReport(
        code is None, summary[:SUMMARY], code, message, result.num_turns, read, written, result.total_cost_usd
    )


@dataclass
class _Narrator:
    """Turns the SDK's messages into events, and remembers what the report needs."""

    emit: Emit
    result: ResultMessage | None = None
    refused: str | None = None
    last_text: str = ""
    counted: set[str] = field(default_factory=set)
    read: int = 0
    written: int = 0

    async def tell(self, message: Message) -> None:
        match message:
            case SystemMessage(subtype="init", data=data):
                await self._start(_started(data))
            case SystemMessage(subtype="api_retry", data=data):
                await self._retry(data)
            case AssistantMessage():
                for block in message.content:
                    await self._assistant(block)
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
                text = f"the MCP server '{server['name']}' did not start, so the agent works without its tools"
                await self.emit(EventKind.WARNING, {"code": "mcp_server_failed", "message": text})

    async def _assistant(self, block: object) -> None:
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
        if status in REFUSED:
            # The gateway's own refusal looks the same, but it comes when the job is over anyway.
            self.refused = (
                f"the call to the model was refused ({status}, {reason}); "
                "check the job's anthropic_api_key and what it may use"
            )
            return
        tries = f"try {data.get('attempt')} of {data.get('max_retries')}"
        text = f"the model did not answer ({status or 'no status'}, {reason}); {tries} follows"
        await self.emit(EventKind.WARNING, {"code": "agent_api_retry", "message": text})

    async def _usage(self, message: AssistantMessage) -> None:
        """Count up; an answer of several blocks comes as several messages with the same figures."""
        if message.message_id is None or message.message_id in self.counted:
            return
        self.counted.add(message.message_id)
        read, written = tokens(message.usage)
        self.read, self.written = self.read + read, self.written + written
        await self._emit_usage({})

    async def _emit_usage(self, totals: dict[str, Any]) -> None:
        await self.emit(EventKind.USAGE, {"input_tokens": self.read, "output_tokens": self.written, **totals})


def _started(data: Mapping[str, Any]) -> dict[str, Any]:
    servers = [{"name": server.get("name"), "status": server.get("status")} for server in data.get("mcp_servers", [])]
    cli_version = data.get("claude_code_version")
    return {
        "model": data.get("model"),
        "tools": data.get("tools", []),
        "mcp_servers": servers,
        "cli_version": cli_version,
    }


class ClaudeCode:
    """Runs the CLI for one task.

    Args:
        servers: the shard's MCP servers.
        cli: the program, when it is not the SDK's own.
        author: name and address under which the agent commits.
        model: which model it asks the gateway for, when not the CLI's default.
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
            hint = "install claude-agent-sdk from its wheel, or name the program in claude_code.cli_path"
            raise JobError("agent_cli_missing", f"this shard has no Claude Code CLI{where}; {hint}")
        servers = mcp.chosen(self._servers, task.capabilities)
        mounts = [Mount(self._cli, CLI), Mount(self._write_config(task, servers, sandbox), CONFIG)]
        argv = arguments(
            task.max_turns, list(servers), instructed=bool(task.instructions.strip()), isolated=sandbox.isolated
        )
        argv += ["--model", self._model] if self._model else []
        transport = SandboxTransport(sandbox, argv, environment(task, self._author), mounts, on_start)
        return await self._converse(task, sandbox, transport, _Narrator(emit))

    def _write_config(self, task: AgentTask, servers: Mapping[str, McpServer], sandbox: Sandbox) -> Path:
        """Write what the CLI reads from files where the agent can read and not change it."""
        directory = sandbox.agent_dir.with_name("agent-config")
        directory.mkdir(mode=0o755, exist_ok=True)
        config = sandbox_plan.host_view(json.dumps(mcp.strict_config(servers)), sandbox.places())
        texts = {"settings.json": json.dumps(SETTINGS), "mcp.json": config, "instructions.md": task.instructions}
        for name, text in texts.items():
            (directory / name).write_text(text)
            (directory / name).chmod(0o644)
        directory.chmod(0o755)
        return directory

    async def _converse(
        self, task: AgentTask, sandbox: Sandbox, transport: SandboxTransport, narrator: _Narrator
    ) -> AgentReport:
        # Word for word: a prompt that starts with a slash is no command, and @names in it are no files.
        options = ClaudeAgentOptions(verbatim_prompts=True)
        failure = ""
        messages = claude_agent_sdk.query(prompt=task.prompt, options=options, transport=transport)
        try:
            async with aclosing(messages):  # type: ignore[type-var]  # declared as an iterator, made by a generator
                async for message in messages:
                    await narrator.tell(message)
                    if narrator.refused:
                        transport.stop()
                        break
        except ClaudeSDKError as error:
            failure = str(error)
        except Exception as error:
            # The SDK reports a failed handshake as a bare Exception, and nothing else as one.
            if type(error) is not Exception:
                raise
            failure = str(error)
        problem = sandbox.problem(transport.returncode or 0)
        if problem is not None:
            raise problem
        if narrator.result is not None:
            return report(narrator.result, task.max_turns, narrator.last_text)
        read, written = narrator.read, narrator.written
        if narrator.refused:
            said = f"{narrator.refused}, or ask an operator to look at the gateway's log"
            return AgentReport(False, narrator.last_text[:SUMMARY], "agent_api_error", said, 0, read, written)
        reason = (transport.last_words or failure or "it wrote no result")[-SUMMARY:]
        said = f"the agent ended unexpectedly (code {transport.returncode}): {reason}"
        return AgentReport(False, narrator.last_text[:SUMMARY], "agent_crashed", said, 0, read, written)

"""Scripted executor, which runs the steps in the prompt: no model and no network, but a real sandbox.

The prompt is a YAML or JSON list, or contains one in a fenced block::

    - say: I start with the test.
    - write: {path: hello.txt, text: "hello\\n"}
    - run: cat hello.txt && git status --short
    - sleep: 2
    - fail: I cannot go on.
"""

from __future__ import annotations

import asyncio
import base64
import re
import shlex
import uuid
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any, Final

import yaml

from myctobot.contract.jobs import EventKind
from workers.errors import JobError
from workers.executors.base import AgentFailure, AgentReport, AgentTask, Emit
from workers.executors.truncation import note
from workers.sandbox.process import drain
from workers.sandbox.sandbox import Sandbox, SandboxedProcess

FENCE: Final = re.compile(r"^```[a-z]*[ \t]*\n(.*?)^```", re.MULTILINE | re.DOTALL)
MAX_STEPS: Final = 1000
MAX_OUTPUT: Final = 128 * 1024
KINDS: Final = ("say", "write", "run", "sleep", "fail")


@dataclass(frozen=True)
class ExecutorStep:
    """One step; ``text`` is the message, the content of a file, the command or the reason of a failure."""

    kind: str
    text: str = ""
    path: str = ""
    seconds: float = 0


def parse(prompt: str) -> list[ExecutorStep]:
    """Return the steps in a prompt.

    Raises:
        JobError: ``script_invalid``; the message names the invalid step.
    """
    fenced = FENCE.search(prompt)
    try:
        steps = yaml.safe_load(fenced.group(1) if fenced else prompt)
    except (yaml.YAMLError, RecursionError) as error:
        raise _invalid(f"it is not YAML: {str(error).splitlines()[0]}") from error
    if not isinstance(steps, list) or not steps or len(steps) > MAX_STEPS:
        raise _invalid(f"it must be a list of 1 to {MAX_STEPS} steps, such as '- say: hello'")
    return [_step(number, raw) for number, raw in enumerate(steps, start=1)]


def _step(number: int, raw: object) -> ExecutorStep:
    if not isinstance(raw, dict) or len(raw) != 1 or next(iter(raw)) not in KINDS:
        raise _invalid(f"step {number} must have exactly one of {', '.join(KINDS)}")
    [(kind, value)] = raw.items()
    if kind == "write":
        return _write_step(number, value)
    if kind == "sleep":
        if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= 3600:
            raise _invalid(f"step {number}: sleep must be a number of seconds from 0 to 3600")
        return ExecutorStep(kind, seconds=value)
    if not isinstance(value, str):
        raise _invalid(f"step {number}: {kind} must be a text")
    return ExecutorStep(kind, text=value)


def _write_step(number: int, value: object) -> ExecutorStep:
    if isinstance(value, dict) and set(value) == {"path", "text"} and all(isinstance(v, str) for v in value.values()):
        return ExecutorStep("write", text=value["text"], path=value["path"])
    raise _invalid(f"step {number}: write must have a path and a text")


def _invalid(reason: str) -> JobError:
    return JobError("script_invalid", f"The prompt has no script that the scripted agent can run: {reason}.")


def shell(step: ExecutorStep, marker: str) -> str:
    """Return the input by which a shell runs a step and prints its exit code.

    No part of a step is an argument of a process. ``marker`` is a word that occurs in no step.
    """
    command = step.text
    if step.kind == "write":
        path = shlex.quote(step.path)
        folder = shlex.quote(str(PurePosixPath(step.path).parent))
        data = base64.encodebytes(step.text.encode()).decode()
        command = f"mkdir -p -- {folder} && base64 -d > {path} <<'{marker}-data'\n{data}{marker}-data"
    elif step.kind == "sleep":
        command = f"sleep {step.seconds:g}"
    return f"( . /dev/fd/3 ) 3<<'{marker}' </dev/null 2>&1\n{command}\n{marker}\nprintf '\\n%s %d\\n' {marker} $?\n"


class Scripted:
    """Executor that runs the steps of a prompt in one shell."""

    async def run(self, task: AgentTask, sandbox: Sandbox, emit: Emit, on_start: Callable[[int], None]) -> AgentReport:
        steps = parse(task.prompt)
        process = await sandbox.start(["sh", "-s"], env={}, gateway_url=task.gateway_url)
        on_start(process.pid)
        errors = asyncio.create_task(drain(process.stderr, 0))
        try:
            tools = ["Bash", "Write"]
            await emit(
                EventKind.AGENT_STARTED, {"model": "scripted", "tools": tools, "mcp_servers": [], "cli_version": ""}
            )
            return await self._run_steps(steps, process, sandbox, emit)
        finally:
            process.kill()
            with suppress(TimeoutError):
                await asyncio.wait_for(process.wait(), 5)
            errors.cancel()

    async def _run_steps(
        self, steps: list[ExecutorStep], process: SandboxedProcess, sandbox: Sandbox, emit: Emit
    ) -> AgentReport:
        summary = ""
        for number, step in enumerate(steps, start=1):
            if step.kind == "say":
                summary = step.text
                await emit(EventKind.AGENT_MESSAGE, {"text": step.text})
            elif step.kind == "fail":
                return AgentReport(summary, AgentFailure("agent_failed", step.text), turns=number)
            elif not await self._run_step(number, step, process, emit):
                code = await process.wait()
                problem = sandbox.memory_error(code) or sandbox.process_error(code)
                if problem is not None:
                    raise problem
                message = f"The scripted agent ended unexpectedly with exit code {code}."
                return AgentReport(summary, AgentFailure("agent_crashed", message), turns=number)
        await emit(EventKind.USAGE, {"input_tokens": 0, "output_tokens": 0, "cost_usd": 0.0, "turns": len(steps)})
        return AgentReport(summary, turns=len(steps), cost_usd=0.0)

    async def _run_step(self, number: int, step: ExecutorStep, process: SandboxedProcess, emit: Emit) -> bool:
        """Run a step; return False when the shell has ended."""
        name, arguments = _tool_call(step)
        if name:
            await emit(EventKind.TOOL_CALL, {"id": f"step-{number}", "name": name, "input": arguments})
        marker = f"step-{uuid.uuid4().hex}"
        with suppress(BrokenPipeError, ConnectionResetError):
            process.stdin.write(shell(step, marker).encode())
            await process.stdin.drain()
        output, code = await _read_until_marker(process.stdout, marker)
        if name and code is not None:
            data = {"id": f"step-{number}", "output": output, "is_error": code != 0}
            await emit(EventKind.TOOL_RESULT, data)
        return code is not None


def _tool_call(step: ExecutorStep) -> tuple[str, dict[str, Any]]:
    if step.kind == "run":
        return "Bash", {"command": step.text}
    return ("Write", {"file_path": step.path, "content": step.text}) if step.kind == "write" else ("", {})


async def _read_until_marker(stream: asyncio.StreamReader, marker: str) -> tuple[str, int | None]:
    """Return the beginning of a step's output and its exit code, which is None when the stream ended early.

    If a part is missing, the last line of the output says so.
    """
    end = re.compile(rb"\n" + marker.encode() + rb" (\d+)\n")
    kept, tail, length = b"", b"", 0
    while chunk := await stream.read(MAX_OUTPUT):
        tail += chunk
        found = end.search(tail)
        if found:
            output = tail[: found.start()]
            return _as_text((kept + output)[:MAX_OUTPUT], length + len(output)), int(found.group(1))
        # Keep the last bytes, which may be the beginning of the marker. All before them is output.
        output, tail = tail[:-100], tail[-100:]
        kept, length = (kept + output)[:MAX_OUTPUT], length + len(output)
    return _as_text((kept + tail)[:MAX_OUTPUT], length + len(tail)), None


def _as_text(kept: bytes, length: int) -> str:
    if length <= len(kept):
        return kept.decode(errors="replace")
    ending = f"\n{note('the beginning', length, 'bytes')}"
    return kept[: MAX_OUTPUT - len(ending)].decode(errors="replace") + ending

"""The shipped fake: plays the steps that stand in the prompt. No model, no network, but a real sandbox.

The prompt is a YAML or JSON list, or holds one in a fenced block::

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
from workers.executors.base import AgentReport, AgentTask, Emit
from workers.sandbox.process import drain
from workers.sandbox.sandbox import Sandbox, SandboxedProcess

FENCE: Final = re.compile(r"^```[a-z]*[ \t]*\n(.*?)^```", re.MULTILINE | re.DOTALL)
MAX_STEPS: Final = 1000
MAX_OUTPUT: Final = 128 * 1024
KINDS: Final = ("say", "write", "run", "sleep", "fail")


@dataclass(frozen=True)
class Step:
    """One step: ``text`` is what to say, to write, to run or the reason of a failure."""

    kind: str
    text: str = ""
    path: str = ""
    seconds: float = 0


def parse(prompt: str) -> list[Step]:
    """Find the steps in a prompt.

    Raises:
        JobError: ``script_invalid``, with the step that is wrong.
    """
    fenced = FENCE.search(prompt)
    try:
        steps = yaml.safe_load(fenced.group(1) if fenced else prompt)
    except (yaml.YAMLError, RecursionError) as error:
        raise _invalid(f"it is no YAML: {str(error).splitlines()[0]}") from error
    if not isinstance(steps, list) or not steps or len(steps) > MAX_STEPS:
        raise _invalid(f"it must be a list of 1 to {MAX_STEPS} steps, such as '- say: hello'")
    return [_step(number, raw) for number, raw in enumerate(steps, start=1)]


def _step(number: int, raw: object) -> Step:
    if not isinstance(raw, dict) or len(raw) != 1 or next(iter(raw)) not in KINDS:
        raise _invalid(f"step {number} must have exactly one of {', '.join(KINDS)}")
    [(kind, value)] = raw.items()
    if kind == "write":
        return _write_step(number, value)
    if kind == "sleep":
        if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= 3600:
            raise _invalid(f"step {number}: sleep must be a number of seconds from 0 to 3600")
        return Step(kind, seconds=value)
    if not isinstance(value, str):
        raise _invalid(f"step {number}: {kind} must be a text")
    return Step(kind, text=value)


def _write_step(number: int, value: object) -> Step:
    if isinstance(value, dict) and set(value) == {"path", "text"} and all(isinstance(v, str) for v in value.values()):
        return Step("write", text=value["text"], path=value["path"])
    raise _invalid(f"step {number}: write must have a path and a text")


def _invalid(reason: str) -> JobError:
    return JobError("script_invalid", f"the prompt holds no script that the scripted agent can play; {reason}")


def shell(step: Step, mark: str) -> str:
    """Write what a shell reads on its input to carry a step out and to say how it ended.

    Nothing of it gets onto an argument list. ``mark`` is a word that occurs in no step.
    """
    command = step.text
    if step.kind == "write":
        path = shlex.quote(step.path)
        folder = shlex.quote(str(PurePosixPath(step.path).parent))
        data = base64.encodebytes(step.text.encode()).decode()
        command = f"mkdir -p -- {folder} && base64 -d > {path} <<'{mark}-data'\n{data}{mark}-data"
    elif step.kind == "sleep":
        command = f"sleep {step.seconds:g}"
    return f"( . /dev/fd/3 ) 3<<'{mark}' </dev/null 2>&1\n{command}\n{mark}\nprintf '\\n%s %d\\n' {mark} $?\n"


class Scripted:
    """Plays one prompt in one shell."""

    async def run(self, task: AgentTask, sandbox: Sandbox, emit: Emit, on_start: Callable[[int], None]) -> AgentReport:
        steps = parse(task.prompt)
        process = await sandbox.start(["sh", "-s"], env={})
        on_start(process.pid)
        errors = asyncio.create_task(drain(process.stderr, 0))
        try:
            tools = ["Bash", "Write"]
            await emit(
                EventKind.AGENT_STARTED, {"model": "scripted", "tools": tools, "mcp_servers": [], "cli_version": ""}
            )
            return await self._play(steps, process, sandbox, emit)
        finally:
            process.kill()
            with suppress(TimeoutError):
                await asyncio.wait_for(process.wait(), 5)
            errors.cancel()

    async def _play(self, steps: list[Step], process: SandboxedProcess, sandbox: Sandbox, emit: Emit) -> AgentReport:
        summary = ""
        for number, step in enumerate(steps, start=1):
            if step.kind == "say":
                summary = step.text
                await emit(EventKind.AGENT_MESSAGE, {"text": step.text})
            elif step.kind == "fail":
                return AgentReport(False, summary, "agent_failed", step.text, turns=number)
            elif not await self._act(number, step, process, emit):
                code = await process.wait()
                problem = sandbox.problem(code)
                if problem is not None:
                    raise problem
                message = f"the scripted agent ended unexpectedly (code {code})"
                return AgentReport(False, summary, "agent_crashed", message, turns=number)
        await emit(EventKind.USAGE, {"input_tokens": 0, "output_tokens": 0, "cost_usd": 0.0, "turns": len(steps)})
        return AgentReport(True, summary, turns=len(steps), cost_usd=0.0)

    async def _act(self, number: int, step: Step, process: SandboxedProcess, emit: Emit) -> bool:
        """Carry a step out; False when the shell is gone."""
        name, arguments = _call(step)
        if name:
            await emit(EventKind.TOOL_CALL, {"id": f"step-{number}", "name": name, "input": arguments})
        mark = f"step-{uuid.uuid4().hex}"
        with suppress(BrokenPipeError, ConnectionResetError):
            process.stdin.write(shell(step, mark).encode())
            await process.stdin.drain()
        output, code = await _until_mark(process.stdout, mark)
        if name and code is not None:
            data = {"id": f"step-{number}", "output": output, "is_error": code != 0}
            await emit(EventKind.TOOL_RESULT, data)
        return code is not None


def _call(step: Step) -> tuple[str, dict[str, Any]]:
    if step.kind == "run":
        return "Bash", {"command": step.text}
    return ("Write", {"file_path": step.path, "content": step.text}) if step.kind == "write" else ("", {})


async def _until_mark(stream: asyncio.StreamReader, mark: str) -> tuple[str, int | None]:
    """Read a step's output, keep its beginning, and its exit code; None when the stream ended before."""
    end = re.compile(rb"\n" + mark.encode() + rb" (\d+)\n")
    kept, tail = b"", b""
    while chunk := await stream.read(MAX_OUTPUT):
        tail += chunk
        found = end.search(tail)
        if found:
            kept += tail[: found.start()]
            return kept[:MAX_OUTPUT].decode(errors="replace"), int(found.group(1))
        # What may be the beginning of the mark stays; the rest is output.
        kept, tail = (kept + tail[:-100])[:MAX_OUTPUT], tail[-100:]
    return kept.decode(errors="replace"), None

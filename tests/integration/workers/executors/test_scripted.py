from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

from myctobot.contract.jobs import EventKind
from workers.executors.base import AgentFailure, AgentReport, AgentTask
from workers.executors.scripted import Scripted
from workers.sandbox.sandbox import ResourceLimits, Sandbox, SandboxConfig

Emitted = list[tuple[EventKind, dict[str, Any]]]


def run_agent(tmp_path: Path, prompt: str, kill_at: EventKind | None = None) -> tuple[AgentReport, Emitted]:
    emitted: Emitted = []

    async def whole() -> AgentReport:
        sandbox = Sandbox(SandboxConfig(ResourceLimits(), 64603), tmp_path)

        async def emit(kind: EventKind, data: dict[str, Any]) -> None:
            emitted.append((kind, data))
            if kind is kill_at:
                await sandbox.kill_all()

        pids: list[int] = []
        task = AgentTask(prompt, "", 10, (), "", "")
        try:
            report = await Scripted().run(task, sandbox, emit, pids.append)
            assert len(pids) == 1
            return report
        finally:
            await sandbox.close()

    return asyncio.run(whole()), emitted


def outputs(emitted: Emitted) -> list[tuple[str, bool]]:
    return [(data["output"], data["is_error"]) for kind, data in emitted if kind is EventKind.TOOL_RESULT]


def test_steps_run_in_the_workspace_as_the_agents_user(tmp_path: Path) -> None:
    script = """
- say: Hello.
- write: {path: deep/er/a b.txt, text: "one\\ntwo"}
- run: id -un; pwd; cat 'deep/er/a b.txt'
- sleep: 0.01
- say: Goodbye.
"""
    report, emitted = run_agent(tmp_path, script)
    assert report == AgentReport("Goodbye.", turns=5, cost_usd=0.0)
    assert outputs(emitted) == [("", False), ("agent\n/workspace\none\ntwo", False)]
    assert (tmp_path / "agent/repo/deep/er/a b.txt").read_text() == "one\ntwo"
    assert [kind.value for kind, _ in emitted] == [
        *("agent.started", "agent.message", "tool.call", "tool.result", "tool.call", "tool.result"),
        *("agent.message", "agent.usage"),
    ]


def test_a_failed_command_is_an_error_and_the_next_step_follows(tmp_path: Path) -> None:
    report, emitted = run_agent(tmp_path, "- run: echo no >&2; exit 3\n- run: 'if ('\n- run: cat; echo still here\n")
    assert report.failure is None
    results = outputs(emitted)
    assert results[0] == ("no\n", True)
    assert results[1][1]
    assert results[2] == ("still here\n", False)


def test_long_output_is_cut_and_does_not_block(tmp_path: Path) -> None:
    _, emitted = run_agent(tmp_path, "- run: head -c 3000000 /dev/zero | tr '\\0' x\n- run: echo after\n")
    (long, _), after = outputs(emitted)
    assert len(long) == 128 * 1024
    assert long.endswith("\n[truncated: only the beginning of 3,000,000 bytes is kept]")
    assert after == ("after\n", False)


def test_a_failure_is_reported_with_its_reason(tmp_path: Path) -> None:
    report, _ = run_agent(tmp_path, "- say: Trying.\n- fail: The tests do not pass.\n- say: never said\n")
    assert report.failure == AgentFailure("agent_failed", "The tests do not pass.")


def test_a_killed_agent_ends_the_script(tmp_path: Path) -> None:
    report, _ = run_agent(tmp_path, "- say: one\n- run: sleep 1000\n", kill_at=EventKind.TOOL_CALL)
    assert report.failure is not None
    assert report.failure.code == "agent_crashed"

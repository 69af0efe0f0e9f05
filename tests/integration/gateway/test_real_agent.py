"""The real Claude Code CLI against the scripted upstream: its tools, its stream, its retries."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import claude_agent_sdk
import pytest
from django.core.handlers.asgi import ASGIHandler

from myctobot.gateway.app import GatewayApp, build_gateway
from myctobot.gateway.grants import MemoryGrants
from myctobot.gateway.upstreams.scripted.script_files import load_scripts
from myctobot.gateway.upstreams.scripted.scripts import Script
from myctobot.gateway.upstreams.scripted.upstream import ScriptedUpstream

from .conftest import SCRIPTS, TOKEN, served

pytestmark = pytest.mark.anyio
CLI = Path(claude_agent_sdk.__file__).parent / "_bundled/claude"
DEMO = Path("myctobot/gateway/upstreams/scripted/examples")


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    folder = tmp_path / "repo"
    folder.mkdir()
    (folder / "calc.py").write_text("def average(values):\n    return sum(values) / (len(values) + 1)\n")
    (folder / "test_calc.py").write_text(
        "import unittest\n\nfrom calc import average\n\n\nclass AverageTest(unittest.TestCase):\n"
        "    def test_average(self):\n        self.assertEqual(average([2, 4]), 3)\n"
    )
    subprocess.run(["git", "init", "-q", "-b", "main", folder], check=True)
    return folder


async def run_agent(
    url: str, folder: Path, prompt: str, *options: str, token: str = TOKEN, **env: str
) -> list[dict[str, Any]]:
    """Run the CLI on a prompt and return what it printed, line by line."""
    home = folder.parent / "home"
    home.mkdir(exist_ok=True)
    process = await asyncio.create_subprocess_exec(
        str(CLI),
        *("--bare", "-p", prompt, "--output-format", "stream-json", "--verbose"),
        *("--allowedTools", "Bash,Read,Edit,mcp__git__git_status", *options),
        cwd=folder,
        env={
            "HOME": str(home),
            "PATH": "/usr/local/bin:/usr/bin:/bin",
            "ANTHROPIC_BASE_URL": url,
            "ANTHROPIC_API_KEY": token,
            "CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC": "1",
            "DISABLE_AUTOUPDATER": "1",
            "DISABLE_TELEMETRY": "1",
            **env,
        },
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        limit=4 * 2**20,
    )
    output, _ = await process.communicate()
    return [json.loads(line) for line in output.splitlines() if line.startswith(b"{")]


async def run_with_scripts(
    scripts: Path | tuple[Script, ...], grants: MemoryGrants, *args: Any, **named: Any
) -> list[dict[str, Any]]:
    upstream = ScriptedUpstream(load_scripts(scripts) if isinstance(scripts, Path) else scripts)
    async with served(GatewayApp(ASGIHandler(), build_gateway(grants, grants.live, upstream))) as url:
        return await run_agent(url, *args, **named)


async def test_the_demo_play_repairs_the_repository(grants: MemoryGrants, repository: Path) -> None:
    lines = await run_with_scripts(DEMO, grants, repository, "Fix the failing test, please.")
    assert lines[-1]["subtype"] == "success"
    assert "passes now" in lines[-1]["result"]
    subprocess.run([sys.executable, "-m", "unittest", "-q"], cwd=repository, check=True, capture_output=True)


async def test_the_demo_play_leaves_a_passing_repository_alone(grants: MemoryGrants, repository: Path) -> None:
    (repository / "calc.py").write_text("def average(values):\n    return sum(values) / len(values)\n")
    lines = await run_with_scripts(DEMO, grants, repository, "Fix the failing test, please.")
    assert "nothing to change" in lines[-1]["result"]


@pytest.mark.parametrize(
    ("prompt", "name", "content"),
    [
        ('RUN: echo "it\'s $((6*7))" > out.txt', "out.txt", "it's 42\n"),
        ("SCRIPT:\nfor i in 1 2; do\n  echo $i\ndone > out.txt\n", "out.txt", "1\n2\n"),
        ("WRITE notes.md: some {{ text }}", "notes.md", "some {{ text }}\n"),
    ],
)
async def test_a_prompt_can_say_what_the_agent_does(
    grants: MemoryGrants, repository: Path, prompt: str, name: str, content: str
) -> None:
    lines = await run_with_scripts(SCRIPTS, grants, repository, prompt)
    assert lines[-1]["subtype"] == "success"
    assert (repository / name).read_text() == content


async def test_a_play_calls_a_real_mcp_server(grants: MemoryGrants, repository: Path, tmp_path: Path) -> None:
    server = {"command": str(Path(sys.executable).parent / "mcp-server-git"), "args": []}
    config = tmp_path / "mcp.json"
    config.write_text(json.dumps({"mcpServers": {"git": server}}))
    lines = await run_with_scripts(
        SCRIPTS, grants, repository, "GIT STATUS", "--mcp-config", str(config), "--strict-mcp-config"
    )
    assert lines[-1]["result"] == "The server says that the branch is main."


async def test_usage_and_thinking_reach_the_agent(grants: MemoryGrants, repository: Path) -> None:
    lines = await run_with_scripts(SCRIPTS, grants, repository, "THINK AND TALK")
    kinds = [block["type"] for line in lines if line["type"] == "assistant" for block in line["message"]["content"]]
    assert kinds == ["thinking", "text"]
    assert lines[-1]["usage"]["input_tokens"] == 1000
    assert lines[-1]["usage"]["output_tokens"] == 50


@pytest.mark.parametrize(
    ("prompt", "token", "status"),
    [
        ("nothing that a script knows", TOKEN, 400),
        ("REFUSED MODEL", TOKEN, 400),
        ("OVERLOADED MODEL", TOKEN, 529),
        ("THINK AND TALK", "of-a-job-that-ended", 401),
    ],
)
async def test_an_error_ends_the_agent_with_its_status(
    grants: MemoryGrants, repository: Path, prompt: str, token: str, status: int
) -> None:
    lines = await run_with_scripts(SCRIPTS, grants, repository, prompt, token=token, CLAUDE_CODE_MAX_RETRIES="1")
    assert lines[-1]["is_error"]
    assert lines[-1]["api_error_status"] == status

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from workers.config import McpServer
from workers.executors import mcp

SERVERS = {
    "git": McpServer("/opt/mcp/git", ("--repository", "/workspace"), {"LEVEL": "1"}),
    "web": McpServer("/opt/mcp/web", capabilities=("browser", "playwright")),
}


@pytest.mark.parametrize(
    ("capabilities", "names"),
    [
        (["git", "filesystem"], ["git"]),
        (["playwright"], ["web"]),
        (["web"], []),
        ([], []),
        (["browser", "git"], ["git", "web"]),
    ],
)
def test_a_server_comes_with_the_capability_it_backs(capabilities: list[str], names: list[str]) -> None:
    assert list(mcp.select_servers(SERVERS, capabilities)) == names


def test_strict_config_holds_the_chosen_servers_and_nothing_else() -> None:
    entry = {"type": "stdio", "command": "/opt/mcp/git", "args": ["--repository", "/workspace"], "env": {"LEVEL": "1"}}
    assert mcp.strict_config({"git": SERVERS["git"]}) == {"mcpServers": {"git": entry}}


def program(path: Path, first_line: str = "") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"{first_line}\n")
    path.chmod(0o755)
    return path


def test_a_script_of_a_virtual_environment_needs_the_environment_and_its_python(tmp_path: Path) -> None:
    real = program(tmp_path / "pythons/3.99/bin/python3.99")
    (real.parent / "python3").symlink_to("python3.99")
    script = program(tmp_path / "venv/bin/mcp-server", f"#!{tmp_path}/venv/bin/python")
    (tmp_path / "venv/pyvenv.cfg").touch()
    (tmp_path / "venv/bin/python").symlink_to(real.parent / "python3")
    assert mcp.paths_needed(str(script)) == (tmp_path / "pythons/3.99", tmp_path / "venv")


def test_a_program_in_a_bin_needs_its_prefix(tmp_path: Path) -> None:
    assert mcp.paths_needed(str(program(tmp_path / "node/bin/server"))) == (tmp_path / "node",)


def test_a_link_needs_where_it_points(tmp_path: Path) -> None:
    real = program(tmp_path / "tool/lib/run")
    (tmp_path / "tool/bin").mkdir()
    (tmp_path / "tool/bin/run").symlink_to("../lib/run")
    assert mcp.paths_needed(str(tmp_path / "tool/bin/run")) == (tmp_path / "tool",)
    assert mcp.paths_needed(str(real)) == (real,)


def test_a_home_is_never_visible_as_a_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    for place in ("bin/server", ".local/bin/server"):
        script = program(tmp_path / place)
        assert mcp.paths_needed(str(script)) == (script,)


@pytest.mark.parametrize("command", ["sh", "/bin/sh", "/usr/bin/env", "no-such-program", "/no/such/program"])
def test_a_program_of_the_system_or_a_missing_one_needs_nothing(command: str) -> None:
    assert mcp.paths_needed(command) == ()


def test_the_installation_of_the_running_python_is_found() -> None:
    needed = mcp.paths_needed(sys.executable)
    assert any(Path(sys.executable).is_relative_to(path) for path in (*needed, Path("/usr")))

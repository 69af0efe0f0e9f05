"""MCP servers of a shard: the selection for an agent, and the paths that they need.

The servers run inside the sandbox as children of the agent, so the agent can read everything that a server can read,
including its environment.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, Final

from workers.config import McpServer

# Directories that are visible in every sandbox.
SYSTEM: Final = tuple(map(Path, ("/usr", "/bin", "/sbin", "/lib", "/lib32", "/lib64", "/libx32")))
SHEBANG_BYTES: Final = 4096
MAX_LINKS: Final = 40


def select_servers(servers: Mapping[str, McpServer], capabilities: Iterable[str]) -> dict[str, McpServer]:
    """Return the servers that provide a requested capability; a server without capabilities provides its own name.

    The agent's own tools provide a capability without a server.
    """
    wanted = set(capabilities)
    return {name: server for name, server in servers.items() if wanted & set(server.capabilities or (name,))}


def strict_config(servers: Mapping[str, McpServer]) -> dict[str, Any]:
    """Return the configuration for ``claude --strict-mcp-config --mcp-config``."""
    return {
        "mcpServers": {
            name: {
                "type": "stdio",
                "command": resolve(server.command),
                "args": list(server.args),
                "env": {**server.env},
            }
            for name, server in servers.items()
        }
    }


def resolve(command: str) -> str:
    """Return the path of a program on the shard's PATH, or the name itself; the agent then reports the failed start."""
    return shutil.which(command) or command


# --- Paths that a command needs ---------------------------------------------------------------------


def paths_needed(command: str) -> tuple[Path, ...]:
    """Return the paths that must be visible to start a command: the program, its interpreter and their installations.

    A Python virtual environment needs the whole environment and its Python installation. A program in a ``bin``
    directory needs the parent of that directory, unless it is a home. A program of the system needs nothing.
    """
    program = Path(resolve(command))
    if not program.is_absolute() or not program.exists():
        return ()
    found = [_install_path(link) for start in (program, _interpreter(program)) if start for link in _link_chain(start)]
    wanted = {path for path in found if not any(path.is_relative_to(system) for system in SYSTEM)}
    return tuple(sorted(path for path in wanted if not any(parent in wanted for parent in path.parents)))


def _link_chain(path: Path) -> Iterator[Path]:
    """Yield a path and each target of its symbolic links."""
    for _ in range(MAX_LINKS):
        yield path
        if not path.is_symlink():
            break
        path = Path(os.path.normpath(path.parent / path.readlink()))
    yield path.resolve()


def _install_path(program: Path) -> Path:
    for parent in program.parents:
        if (parent / "pyvenv.cfg").is_file():
            return parent
    prefix = program.parent.parent
    shared = len(prefix.parts) < 3 or _is_home(prefix) or prefix.name == ".local"
    return program if program.parent.name != "bin" or shared else prefix


def _is_home(directory: Path) -> bool:
    # Path.home() would raise for a user without an entry in passwd.
    return directory in (Path("/root"), Path(os.environ.get("HOME", "/root"))) or directory.parent == Path("/home")


def _interpreter(program: Path) -> Path | None:
    with program.open("rb") as file:
        first = file.read(SHEBANG_BYTES).split(b"\n", 1)[0]
    words = os.fsdecode(first[2:]).split() if first.startswith(b"#!") else []
    if not words:
        return None
    if Path(words[0]).name != "env":
        return Path(words[0])
    names = [word for word in words[1:] if not word.startswith("-") and "=" not in word]
    found = shutil.which(names[0]) if names else None
    return Path(found) if found else None

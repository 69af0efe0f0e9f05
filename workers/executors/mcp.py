"""MCP servers: which of the shard's own an agent gets, and what they need to see.

The servers run inside the sandbox as children of the agent: what one can reach the agent can reach, its
environment included.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, Final

from workers.config import McpServer

# Seen inside every sandbox anyway.
SYSTEM: Final = tuple(map(Path, ("/usr", "/bin", "/sbin", "/lib", "/lib32", "/lib64", "/libx32")))
SHEBANG_BYTES: Final = 4096
MAX_LINKS: Final = 40


def chosen(servers: Mapping[str, McpServer], capabilities: Iterable[str]) -> dict[str, McpServer]:
    """Pick the servers that back a requested capability; one that names none backs its own name.

    A capability without a server is the affair of the agent's own tools.
    """
    wanted = set(capabilities)
    return {name: server for name, server in servers.items() if wanted & set(server.capabilities or (name,))}


def strict_config(servers: Mapping[str, McpServer]) -> dict[str, Any]:
    """Write what ``claude --strict-mcp-config --mcp-config`` takes."""
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
    """Give the path of a program on the shard's PATH; one that is not there stays as it is, and the agent says so."""
    return shutil.which(command) or command


# --- What a command needs to see --------------------------------------------------------------------


def paths_needed(command: str) -> tuple[Path, ...]:
    """List what must be visible for a command to start: the program, its interpreter and where they are installed.

    Of a Python virtual environment that is the whole environment and the installation behind it; of a program in
    some ``bin`` its prefix, unless that is somebody's home; nothing for what the system brings.
    """
    program = Path(resolve(command))
    if not program.is_absolute() or not program.exists():
        return ()
    found = [_root(link) for start in (program, _interpreter(program)) if start for link in _chain(start)]
    wanted = {path for path in found if not any(path.is_relative_to(system) for system in SYSTEM)}
    return tuple(sorted(path for path in wanted if not any(parent in wanted for parent in path.parents)))


def _chain(path: Path) -> Iterator[Path]:
    """Follow symbolic links, and give each stop on the way."""
    for _ in range(MAX_LINKS):
        yield path
        if not path.is_symlink():
            break
        path = Path(os.path.normpath(path.parent / path.readlink()))
    yield path.resolve()


def _root(program: Path) -> Path:
    for parent in program.parents:
        if (parent / "pyvenv.cfg").is_file():
            return parent
    prefix = program.parent.parent
    shared = len(prefix.parts) < 3 or _is_home(prefix) or prefix.name == ".local"
    return program if program.parent.name != "bin" or shared else prefix


def _is_home(directory: Path) -> bool:
    # A user without an entry in passwd has no home to speak of: Path.home() would raise.
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

"""Folders of a sandbox: the agent's home and repository, and its /etc.

The /etc has copies of some files of the host, and accounts of its own. It is one mount, because bubblewrap takes a
tenth of a millisecond and more for each.
"""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path
from typing import Final

from workers.sandbox.plan import ETC, ETC_PATHS, HOME, USER, SandboxConfig, SandboxHost

_ETC: Final = Path("/etc")


def make_folders(agent_dir: Path, config: SandboxConfig, host: SandboxHost) -> None:
    """Create what is missing below the agent's folder, and the folder of its /etc next to it.

    Raises:
        OSError: a folder or a file cannot be written.
    """
    for directory in (agent_dir, agent_dir / "home", agent_dir / "repo"):
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        if host.root and config.isolated:
            os.chown(directory, config.agent_uid, config.agent_uid, follow_symlinks=False)
    if config.isolated:
        _make_etc(agent_dir.with_name(ETC), config)


def _make_etc(folder: Path, config: SandboxConfig) -> None:
    """Write the files, and a mount point for each path of the host that is mounted below /etc."""
    _make(folder)
    for path in map(Path, ETC_PATHS):
        if path.is_dir():
            _make_below(folder, path)
        elif path.is_file():
            _make_below(folder, path.parent)
            # An agent of an ordinary user does without a file that this user cannot read.
            with suppress(FileNotFoundError, PermissionError):
                # A file that only root may read stays so.
                _write(_inside(folder, path), path.read_bytes(), path.stat().st_mode & 0o644)
    for path in config.read_only:
        if path.is_relative_to(_ETC) and path.is_dir():
            _make_below(folder, path)
        elif path.is_relative_to(_ETC):
            _make_below(folder, path.parent)
            _inside(folder, path).touch()
    _write(folder / "passwd", _passwd(config.agent_uid).encode())
    _write(folder / "group", _group(config.agent_uid).encode())


def _passwd(uid: int) -> str:
    return f"root:x:0:0:root:/nonexistent:/usr/sbin/nologin\n{USER}:x:{uid}:{uid}:{USER}:{HOME}:/bin/sh\n"


def _group(gid: int) -> str:
    return f"root:x:0:\n{USER}:x:{gid}:\n"


def _inside(folder: Path, path: Path) -> Path:
    return folder / path.relative_to(_ETC)


def _make_below(folder: Path, path: Path) -> None:
    """Create the directories from ``folder`` to the place of a path below /etc."""
    for part in reversed([path, *path.parents]):
        if part.is_relative_to(_ETC):
            _make(_inside(folder, part))


def _make(folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    # The agent's user reads it under any umask of the shard.
    folder.chmod(0o755)


def _write(path: Path, content: bytes, mode: int = 0o644) -> None:
    path.write_bytes(content)
    path.chmod(mode)

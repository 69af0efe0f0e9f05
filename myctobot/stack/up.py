"""Start and stop of the whole embedded stack."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx

from myctobot.stack import orphans
from myctobot.stack.checks import can_isolate_agents, require_users
from myctobot.stack.console import StackConsole
from myctobot.stack.database_roles import OWNER, ROLES
from myctobot.stack.environment import Addresses, base_environment, env_file, own_variables
from myctobot.stack.errors import StackError, StoppedEarly
from myctobot.stack.home import GeneratedSecrets, Home, write_private
from myctobot.stack.plan import CHECKOUT, FLOWER_LOGIN, LocalShard, Plan
from myctobot.stack.ports import LOOPBACK, listen
from myctobot.stack.postgres import EmbeddedPostgres
from myctobot.stack.processes import Records
from myctobot.stack.programs import Program
from myctobot.stack.redis import EmbeddedRedis
from myctobot.stack.runners import live_runners, stop_runners
from myctobot.stack.service_start import ServiceStarter
from myctobot.stack.services import START_TIMEOUT_S, Service
from myctobot.stack.supervisor import Supervisor
from myctobot.stack.users import ProgramUsers, compile_sources

WEB_PORT = 8000
GATEWAY_PORT = 8001
SHARD_API_PORT = 8002
FLOWER_PORT = 5555
MIGRATE_TIMEOUT_S, BOOTSTRAP_TIMEOUT_S = 300, 60
_RESPONSE_TIMEOUT_S = 2
# The processes write their first lines for a few seconds after the stack is up.
_QUIET_S = 2
_MAX_NOISE_S = 20
_Signals = asyncio.Queue[signal.Signals]


@dataclass(frozen=True)
class UpOptions:
    """Options of ``manage.py up``.

    Args:
        web_processes: number of processes that share the web port.
        shard_api_port: preferred port of a process for the shard API alone; None for one only with several web
            processes.
        without: names of ``plan.OPTIONAL`` that are not started.
        extra: names of ``plan.EXTRA`` that are started.
        ready_file: written when all processes answer, and removed at the end; contains the API key.
        listen: the address of this machine on which web, gateway and broker listen.
        allow_unsandboxed: run jobs without a sandbox where bubblewrap does not work.
        one_user: let all programs keep the user root, if that starts the stack.
        give_up_after: end the stack after so many failed starts of one program in a row; None never does.
    """

    home: Path
    shards: int = 1
    without: frozenset[str] = frozenset()
    extra: frozenset[str] = frozenset()
    ready_file: Path | None = None
    web_processes: int = 1
    web_port: int = WEB_PORT
    gateway_port: int = GATEWAY_PORT
    shard_api_port: int | None = None
    listen: str = LOOPBACK
    allow_unsandboxed: bool = False
    one_user: bool = False
    give_up_after: int | None = None
    caller: Mapping[str, str] = field(default_factory=dict, repr=False)

    @property
    def preferred_shard_api_port(self) -> int | None:
        """Port of the process for the shard API; None if the web process serves it."""
        if "web" in self.without or (self.web_processes == 1 and self.shard_api_port is None):
            return None
        default = SHARD_API_PORT if self.web_port else 0
        return default if self.shard_api_port is None else self.shard_api_port


@dataclass(frozen=True)
class Credentials:
    """Output of ``manage.py bootstrap --json``."""

    login: str
    password: str = field(repr=False)
    api_key: str = field(repr=False)
    shards: tuple[LocalShard, ...]

    @classmethod
    def parse(cls, output: str) -> Credentials:
        """Parse the last line of the command's output.

        Raises:
            StackError: the line does not have the expected format.
        """
        try:
            answer = json.loads(output.strip().rpartition("\n")[2])
            shards = tuple(LocalShard(item["name"], Path(item["config"])) for item in answer["shards"])
            return cls(answer["login"], answer["password"], answer["api_key"], shards)
        except (ValueError, TypeError, KeyError) as error:
            raise StackError(f"The stack cannot read the output of manage.py bootstrap ({error!r}).") from error


class Stack:
    """One run of the embedded stack below one home. Always call ``down`` after ``up``."""

    def __init__(self, options: UpOptions, console: StackConsole, supervisor: Supervisor) -> None:
        self._options = options
        self._console = console
        self._supervisor = supervisor
        self._starter = ServiceStarter(console, supervisor, options.give_up_after)
        self._home = Home(options.home)
        self._services: list[Service] = []
        self._postgres: EmbeddedPostgres | None = None
        self._listeners: list[socket.socket] = []
        self._flower: socket.socket | None = None
        self._unsandboxed = False
        self._users = ProgramUsers(self._home, CHECKOUT, active=os.geteuid() == 0 and not options.one_user)
        self._shard_api: socket.socket | None = None
        self._reminder: asyncio.Task[None] | None = None

    async def up(self) -> None:
        """Start all processes and print their addresses.

        Raises:
            StackError: a process did not start.
        """
        secrets = GeneratedSecrets.load_or_create(self._home.root)
        await self._check_machine()
        web = self._listen(self._options.web_port)
        gateway = self._listen(self._options.gateway_port)
        if (port := self._options.preferred_shard_api_port) is not None:
            self._shard_api = self._listen(port)
        if "flower" in self._options.extra:
            self._flower = self._listen(FLOWER_PORT if self._options.web_port else 0, LOOPBACK)
        database_url, redis_url = await self._start_services()
        shard_api_url = _url(self._shard_api) if self._shard_api else None
        addresses = Addresses(database_url, redis_url, _url(web), _url(gateway), shard_api_url)
        base = base_environment(self._options.caller, self._home)
        variables = own_variables(self._options.caller, self._home, secrets, addresses)
        write_private(self._home.env, env_file(variables))
        plan = Plan(self._home, variables, base, self._users, self._databases())
        await self._supervisor.run_once(plan.migrate(), MIGRATE_TIMEOUT_S)
        if self._postgres:
            await self._starter.try_until_done(self._postgres, self._postgres.grant_rights)
        bootstrap = plan.bootstrap(self._options.shards, allow_unsandboxed=self._options.allow_unsandboxed)
        answer = await self._supervisor.run_once(bootstrap, BOOTSTRAP_TIMEOUT_S, secret=True)
        credentials = Credentials.parse(answer)
        programs = self._programs(plan, credentials.shards)
        if "egress" in self._options.extra:
            programs["egress"] = plan.egress()
        if self._shard_api:
            programs["shardapi"] = plan.shard_api(self._shard_api.fileno())
        if self._flower:
            programs["flower"] = plan.flower(self._flower.fileno(), secrets.flower_password)
        await self._start_programs(programs, addresses)
        self._announce(addresses, credentials, variables, secrets.flower_password)

    async def down(self) -> None:
        """Stop everything that was started: runners first, the database last."""
        if self._reminder:
            self._reminder.cancel()
        if await asyncio.to_thread(live_runners, self._home):
            self._console.say("stopping the running jobs")
            await asyncio.to_thread(stop_runners, self._home)
        await self._supervisor.stop_all()
        await asyncio.to_thread(stop_runners, self._home, 0)
        for listener in self._listeners:
            listener.close()
        for service in self._services:
            # The disk may refuse a change, and the rest must be removed even so.
            with suppress(OSError):
                service.clean_up()
        for path in (self._home.env, self._home.status, self._home.parts, self._options.ready_file):
            if path:
                with suppress(OSError):
                    path.unlink(missing_ok=True)

    def _listen(self, preferred: int, host: str | None = None) -> socket.socket:
        listener = listen(preferred, host or self._options.listen)
        self._listeners.append(listener)
        port = listener.getsockname()[1]
        if preferred not in (0, port):
            self._console.say(f"port {preferred} is taken: using port {port}")
        return listener

    async def _check_machine(self) -> None:
        """Check what the programs need, before any of them starts.

        Raises:
            StackError: something is missing; the message names the remedies.
        """
        plan = Plan(self._home, {}, base_environment(self._options.caller, self._home), self._users)
        if self._users.active:
            await require_users(self._supervisor, plan)
            await asyncio.to_thread(compile_sources, CHECKOUT)
        if "shard" not in self._options.without:
            allowed = self._options.allow_unsandboxed
            self._unsandboxed = not await can_isolate_agents(self._supervisor, plan, allow_unsandboxed=allowed)

    # --- Database and broker -------------------------------------------------------------------------

    async def _start_services(self) -> tuple[str, str]:
        """Start the database and the broker, and return their URLs, that of the database for its owner's role."""
        database_url, redis_url = (self._given(name) for name in ("DATABASE_URL", "REDIS_URL"))
        if not database_url:
            self._postgres = EmbeddedPostgres(self._home.root)
            await self._start_service(self._postgres)
            database_url = self._postgres.url_of(OWNER)
        if not redis_url:
            redis = EmbeddedRedis(self._home.root, host=self._options.listen, own_user=self._users.active)
            redis_url = await self._start_service(redis)
        return database_url, redis_url

    def _given(self, variable: str) -> str:
        url = self._options.caller.get(variable, "")
        if url:
            self._console.say(f"{variable} is set: using that server")
        return url

    def _databases(self) -> dict[str, str]:
        """Return the URL for each role of the embedded database."""
        return {role: self._postgres.url_of(role) for role in ROLES} if self._postgres else {}

    async def _start_service(self, service: Service) -> str:
        self._services.append(service)
        return await self._starter.start(service)

    # --- Our own processes ---------------------------------------------------------------------------

    async def _start_programs(self, programs: Mapping[str, Program], addresses: Addresses) -> None:
        """Start all programs together: early calls wait in the backlog of the listening socket."""
        for program in programs.values():
            self._supervisor.start(program)
        checks = {"web": lambda: is_healthy(addresses.control_url), "gateway": lambda: answers(addresses.gateway_url)}
        if url := addresses.shard_api_url:
            checks["shardapi"] = lambda: is_healthy(url)
        for name in checks.keys() & programs.keys():
            # The others run while one does not start.
            timeout_s = None if self._options.give_up_after is None else START_TIMEOUT_S
            await self._supervisor.wait_until(name, checks[name], timeout_s)

    def _programs(self, plan: Plan, shards: Sequence[LocalShard]) -> dict[str, Program]:
        web, gateway = (listener.fileno() for listener in self._listeners[:2])
        webs = plan.web(web, self._options.web_processes)
        programs = [
            *webs,
            plan.gateway(gateway),
            plan.control(),
            plan.operations(),
            plan.beat(),
            *map(plan.shard, shards),
        ]
        without = self._options.without
        return {
            program.name: program
            for program in programs
            if program.name not in without and program.name.partition("-")[0] not in without
        }

    def _announce(
        self, addresses: Addresses, credentials: Credentials, variables: Mapping[str, str], flower_password: str
    ) -> None:
        urls = {"web": addresses.control_url, "gateway": addresses.gateway_url}
        flower = {}
        if addresses.shard_api_url:
            urls["shard_api"] = addresses.shard_api_url
        if self._flower:
            urls["flower"] = _url(self._flower)
            flower = {"Flower": f"{urls['flower']}  ({FLOWER_LOGIN} / {flower_password})"}
        bare, one_user = self._unsandboxed, os.geteuid() == 0 and not self._users.active
        write_private(self._home.status, json.dumps({"pid": os.getpid(), "urls": urls}))
        rows = {
            "Web": f"{addresses.control_url}/jobs/  (admin: {addresses.control_url}/admin/)",
            "API": f"{addresses.control_url}/api/v1/  (docs: {addresses.control_url}/api/docs/)",
            "Gateway": f"{addresses.gateway_url}  (upstream: {variables['GATEWAY_UPSTREAM']})",
            **flower,
            "Data": str(self._home.root),
            **({"WARNING": "jobs run WITHOUT A SANDBOX and can read and change all that you can"} if bare else {}),
            **({"ONE USER": "all programs run AS ROOT and can read each other's secrets"} if one_user else {}),
            "API key": credentials.api_key,
            "Login": f"{credentials.login} / {credentials.password}",
        }
        self._console.banner("MyCTOBot is up. Ctrl-C stops everything.", rows)
        self._reminder = asyncio.create_task(self._repeat_login(f"{addresses.control_url}/jobs/", credentials))
        if ready_file := self._options.ready_file:
            ready = {
                **{"pid": os.getpid(), "urls": urls, "home": str(self._home.root)},
                **{"login": credentials.login, "password": credentials.password, "api_key": credentials.api_key},
                "shards": [{"name": shard.name, "config": str(shard.config)} for shard in credentials.shards],
            }
            write_private(ready_file, json.dumps(ready))

    async def _repeat_login(self, page: str, credentials: Credentials) -> None:
        """Print the login again after the first lines of the processes, so that it is the last line of the start."""
        for _ in range(_MAX_NOISE_S):
            await asyncio.sleep(1)
            if self._console.idle_s >= _QUIET_S:
                break
        self._console.say(f"{page}  login: {credentials.login} / {credentials.password}  ('make login' repeats it)")


def _url(listener: socket.socket) -> str:
    host, port = listener.getsockname()
    return f"http://{host}:{port}"


def _status_of(url: str) -> int | None:
    """Return the HTTP status of the response, or None without a response."""
    try:
        # Ignore the caller's environment, such as a proxy: the address is local.
        return httpx.get(url, timeout=_RESPONSE_TIMEOUT_S, trust_env=False).status_code
    except httpx.TransportError:
        return None


def is_healthy(base_url: str) -> bool:
    return _status_of(f"{base_url}/healthz") == 200


def answers(base_url: str) -> bool:
    return _status_of(f"{base_url}/healthz") is not None


async def run(options: UpOptions, console: StackConsole) -> None:
    """Run the stack until a signal (SIGINT, SIGTERM, SIGHUP) stops it or it fails.

    Raises:
        AlreadyRunning: another process runs the stack of this home.
        StackError: a part failed; all started processes have been stopped.
    """
    home = Home(options.home)
    home.prepare()
    with home.lock():
        records = Records(home.run)
        for name in await asyncio.to_thread(records.stop_leftovers):
            console.say(f"stopped {name}, which an earlier run left running")
        home.clear_tmp()
        if options.ready_file:
            options.ready_file.unlink(missing_ok=True)
        home.parts.unlink(missing_ok=True)
        supervisor = Supervisor(console, records, home.parts, options.give_up_after)
        async with orphans.adopt_orphans(supervisor.pids):
            try:
                await _until_stopped(Stack(options, console, supervisor), console, supervisor)
            except OSError as error:
                raise StackError(f"The stack cannot continue: {error}.") from error
        home.clear_tmp()


async def _until_stopped(stack: Stack, console: StackConsole, supervisor: Supervisor) -> None:
    signals: _Signals = asyncio.Queue()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        loop.add_signal_handler(number, signals.put_nowait, number)
    stop_requested = asyncio.create_task(signals.get())
    try:
        await _run_until_end(stack, supervisor, stop_requested)
    finally:
        stop_requested.cancel()
        console.say("stopping")
        killer = asyncio.create_task(_kill_on_second_signal(signals, console, supervisor))
        await stack.down()
        killer.cancel()


async def _run_until_end(stack: Stack, supervisor: Supervisor, stop_requested: asyncio.Task[signal.Signals]) -> None:
    starting = asyncio.create_task(stack.up())
    end_events: list[asyncio.Future[Any]] = [stop_requested, supervisor.failed]
    await asyncio.wait([starting, *end_events], return_when=asyncio.FIRST_COMPLETED)
    if not starting.done():
        starting.cancel()
        with suppress(asyncio.CancelledError):
            await starting
        raise supervisor.failed.result() if supervisor.failed.done() else StoppedEarly()
    starting.result()
    await asyncio.wait(end_events, return_when=asyncio.FIRST_COMPLETED)
    if supervisor.failed.done():
        raise supervisor.failed.result()


async def _kill_on_second_signal(signals: _Signals, console: StackConsole, supervisor: Supervisor) -> None:
    """Kill all processes on a second signal, such as a second Ctrl-C."""
    await signals.get()
    console.say("killing all processes")
    supervisor.kill_all()

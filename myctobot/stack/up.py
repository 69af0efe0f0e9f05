"""From nothing to a running stack, and back to nothing."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx

from myctobot.stack import orphans
from myctobot.stack.console import Console
from myctobot.stack.environment import Addresses, base_environment, env_file, own_variables
from myctobot.stack.errors import StackError, StoppedEarly
from myctobot.stack.home import GeneratedSecrets, Home, write_private
from myctobot.stack.plan import FLOWER_LOGIN, Plan, Shard
from myctobot.stack.ports import LOOPBACK, listen
from myctobot.stack.postgres import EmbeddedPostgres
from myctobot.stack.processes import Records
from myctobot.stack.programs import Program
from myctobot.stack.redis import EmbeddedRedis
from myctobot.stack.runners import live_runners, stop_runners
from myctobot.stack.services import START_TIMEOUT_S, Service
from myctobot.stack.supervisor import Supervisor

WEB_PORT = 8000
GATEWAY_PORT = 8001
FLOWER_PORT = 5555
MIGRATE_TIMEOUT_S = 300
BOOTSTRAP_TIMEOUT_S = 60
_ANSWER_TIMEOUT_S = 2


@dataclass(frozen=True)
class Options:
    """What ``manage.py up`` was asked for.

    Args:
        web_processes: that answer on the one web port.
        without: names of ``plan.OPTIONAL`` that are not started.
        extra: names of ``plan.EXTRA`` that are.
        ready_file: written when all answers, removed at the end; holds the API key.
        listen: the address of this machine on which web, gateway and broker are reached.
    """

    home: Path
    shards: int = 1
    without: frozenset[str] = frozenset()
    extra: frozenset[str] = frozenset()
    ready_file: Path | None = None
    web_processes: int = 1
    web_port: int = WEB_PORT
    gateway_port: int = GATEWAY_PORT
    listen: str = LOOPBACK
    caller: Mapping[str, str] = field(default_factory=dict, repr=False)


@dataclass(frozen=True)
class Credentials:
    """What ``manage.py bootstrap --json`` answers."""

    login: str
    password: str = field(repr=False)
    api_key: str = field(repr=False)
    shards: tuple[Shard, ...]

    @classmethod
    def parse(cls, output: str) -> Credentials:
        """Read the answer, the last line that the command wrote.

        Raises:
            StackError: it is not what was agreed.
        """
        try:
            answer = json.loads(output.strip().rpartition("\n")[2])
            shards = tuple(Shard(item["name"], Path(item["config"])) for item in answer["shards"])
            return cls(answer["login"], answer["password"], answer["api_key"], shards)
        except (ValueError, TypeError, KeyError) as error:
            raise StackError(f"manage.py bootstrap gave an answer that the stack cannot read ({error!r}).") from error


class Stack:
    """One run of the embedded stack below one home; ``up`` before, ``down`` after, always."""

    def __init__(self, options: Options, console: Console, supervisor: Supervisor) -> None:
        self._options = options
        self._console = console
        self._supervisor = supervisor
        self._home = Home(options.home)
        self._services: list[Service] = []
        self._listeners: list[socket.socket] = []
        self._flower: socket.socket | None = None

    async def up(self) -> None:
        """Start everything and say where it is.

        Raises:
            StackError: something did not start.
        """
        secrets = GeneratedSecrets.load_or_create(self._home.root)
        web = self._listen(self._options.web_port)
        gateway = self._listen(self._options.gateway_port)
        if "flower" in self._options.extra:
            self._flower = self._listen(FLOWER_PORT if self._options.web_port else 0, LOOPBACK)
        database_url, redis_url = await self._start_services()
        addresses = Addresses(database_url, redis_url, _url(web), _url(gateway))
        base = base_environment(self._options.caller, self._home)
        own = own_variables(self._options.caller, self._home, secrets, addresses)
        write_private(self._home.env, env_file(own))
        plan = Plan(self._home, {**base, **own}, base)
        await self._supervisor.run_once(plan.migrate(), MIGRATE_TIMEOUT_S)
        answer = await self._supervisor.run_once(plan.bootstrap(self._options.shards), BOOTSTRAP_TIMEOUT_S, secret=True)
        credentials = Credentials.parse(answer)
        programs = self._programs(plan, credentials.shards)
        if "egress" in self._options.extra:
            programs["egress"] = plan.egress()
        if self._flower:
            programs["flower"] = plan.flower(self._flower.fileno(), secrets.flower_password)
        await self._start_programs(programs, addresses)
        self._announce(addresses, credentials, own, secrets.flower_password)

    async def down(self) -> None:
        """Stop everything, whatever had been started: runners first, the database last."""
        if await asyncio.to_thread(live_runners, self._home):
            self._console.say("stopping the running jobs")
            await asyncio.to_thread(stop_runners, self._home)
        await self._supervisor.stop_all()
        await asyncio.to_thread(stop_runners, self._home, 0)
        for service in self._services:
            service.clean_up()
        for listener in self._listeners:
            listener.close()
        for path in (self._home.env, self._home.status, self._options.ready_file):
            if path:
                path.unlink(missing_ok=True)

    def _listen(self, preferred: int, host: str | None = None) -> socket.socket:
        listener = listen(preferred, host or self._options.listen)
        self._listeners.append(listener)
        port = listener.getsockname()[1]
        if preferred not in (0, port):
            self._console.say(f"port {preferred} is taken; using {port}")
        return listener

    # --- Database and broker -------------------------------------------------------------------------

    async def _start_services(self) -> tuple[str, str]:
        urls = []
        services: list[tuple[str, Callable[[], Service]]] = [
            ("DATABASE_URL", lambda: EmbeddedPostgres(self._home.root)),
            ("REDIS_URL", lambda: EmbeddedRedis(self._home.root, host=self._options.listen)),
        ]
        for variable, make in services:
            if given := self._options.caller.get(variable):
                self._console.say(f"{variable} is set: using that one")
                urls.append(given)
            else:
                service = make()
                self._services.append(service)
                urls.append(await self._start_service(service))
        database_url, redis_url = urls
        return database_url, redis_url

    async def _start_service(self, service: Service) -> str:
        self._console.say(f"starting {service.name}")
        await asyncio.to_thread(service.prepare)
        service.log.unlink(missing_ok=True)
        self._supervisor.start(service.program(), service.program)
        await self._supervisor.wait_until(service.name, service.is_ready, START_TIMEOUT_S)
        await asyncio.to_thread(service.finish)
        return service.url

    # --- Our own processes ---------------------------------------------------------------------------

    async def _start_programs(self, programs: Mapping[str, Program], addresses: Addresses) -> None:
        """Start all at once: who calls another before it is up waits in the listener's backlog."""
        for program in programs.values():
            self._supervisor.start(program)
        checks = {"web": lambda: is_healthy(addresses.control_url), "gateway": lambda: answers(addresses.gateway_url)}
        for name in checks.keys() & programs.keys():
            await self._supervisor.wait_until(name, checks[name], START_TIMEOUT_S)

    def _programs(self, plan: Plan, shards: Sequence[Shard]) -> dict[str, Program]:
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
        self, addresses: Addresses, credentials: Credentials, own: Mapping[str, str], flower_password: str
    ) -> None:
        urls = {"web": addresses.control_url, "gateway": addresses.gateway_url}
        flower = {}
        if self._flower:
            urls["flower"] = _url(self._flower)
            flower = {"Flower": f"{urls['flower']}  ({FLOWER_LOGIN} / {flower_password})"}
        write_private(self._home.status, json.dumps({"pid": os.getpid(), "urls": urls}))
        rows = {
            "Web": f"{addresses.control_url}/jobs/  (admin: {addresses.control_url}/admin/)",
            "API": f"{addresses.control_url}/api/v1/  (docs: {addresses.control_url}/api/docs/)",
            "Gateway": f"{addresses.gateway_url}  (upstream: {own['GATEWAY_UPSTREAM']})",
            "Login": f"{credentials.login} / {credentials.password}",
            "API key": credentials.api_key,
            **flower,
            "Data": str(self._home.root),
        }
        self._console.banner("MyCTOBot is up. Ctrl-C stops everything.", rows)
        if ready_file := self._options.ready_file:
            ready = {
                **{"pid": os.getpid(), "urls": urls, "home": str(self._home.root)},
                **{"login": credentials.login, "password": credentials.password, "api_key": credentials.api_key},
                "shards": [{"name": shard.name, "config": str(shard.config)} for shard in credentials.shards],
            }
            write_private(ready_file, json.dumps(ready))


def _url(listener: socket.socket) -> str:
    host, port = listener.getsockname()
    return f"http://{host}:{port}"


def _get(url: str) -> int | None:
    """The status of an answer; None when there is none."""
    try:
        # Neither a proxy nor anything else from the caller's environment: this is loopback.
        return httpx.get(url, timeout=_ANSWER_TIMEOUT_S, trust_env=False).status_code
    except httpx.TransportError:
        return None


def is_healthy(base_url: str) -> bool:
    return _get(f"{base_url}/healthz") == 200


def answers(base_url: str) -> bool:
    return _get(f"{base_url}/healthz") is not None


async def run(options: Options, console: Console) -> None:
    """Run the stack until it is told to stop (SIGINT, SIGTERM), or cannot go on.

    Raises:
        AlreadyRunning: another process runs the stack of this home.
        StackError: something failed; all that had been started is stopped again.
    """
    home = Home(options.home)
    home.prepare()
    with home.lock():
        records = Records(home.run)
        for name in await asyncio.to_thread(records.stop_leftovers):
            console.say(f"stopped {name}, left behind by an earlier run")
        home.clear_tmp()
        if options.ready_file:
            options.ready_file.unlink(missing_ok=True)
        supervisor = Supervisor(console, records)
        async with orphans.adopted(supervisor.pids):
            await _until_stopped(Stack(options, console, supervisor), console, supervisor)
        home.clear_tmp()


async def _until_stopped(stack: Stack, console: Console, supervisor: Supervisor) -> None:
    signals: asyncio.Queue[signal.Signals] = asyncio.Queue()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        loop.add_signal_handler(number, signals.put_nowait, number)
    told = asyncio.create_task(signals.get())
    try:
        await _live(stack, supervisor, told)
    finally:
        told.cancel()
        console.say("stopping")
        hurry = asyncio.create_task(_hurry(signals, console, supervisor))
        await stack.down()
        hurry.cancel()


async def _live(stack: Stack, supervisor: Supervisor, told: asyncio.Task[signal.Signals]) -> None:
    starting = asyncio.create_task(stack.up())
    ends: list[asyncio.Future[Any]] = [told, supervisor.failed]
    await asyncio.wait([starting, *ends], return_when=asyncio.FIRST_COMPLETED)
    if not starting.done():
        starting.cancel()
        with suppress(asyncio.CancelledError):
            await starting
        raise supervisor.failed.result() if supervisor.failed.done() else StoppedEarly()
    starting.result()
    await asyncio.wait(ends, return_when=asyncio.FIRST_COMPLETED)
    if supervisor.failed.done():
        raise supervisor.failed.result()


async def _hurry(signals: asyncio.Queue[signal.Signals], console: Console, supervisor: Supervisor) -> None:
    """A second Ctrl-C: whoever sends it does not want to wait for anybody."""
    await signals.get()
    console.say("killing everything")
    supervisor.kill_all()

"""Types of shards with real MCP servers in the sandbox of a real agent, in real containers."""

from __future__ import annotations

import os
import socket
import socketserver
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

import psycopg
import pytest

from myctobot.stack.postgres import SOCKET_NAME
from shards.providers.lxc.host import LxcHost
from tests.acceptance.client import texts
from tests.fixtures.serving import serving

from .inside import inside
from .operating import Operator, until
from .world import World, own_folder, running_world

BROWSER, DATABASE = "browser", "data"
TITLE = "A page for the browser"
ROLE, PASSWORD, SECRET = "types_reader", "types-password", "forty-two"
PIECE = 64 * 1024


class _Page(BaseHTTPRequestHandler):
    """Page whose title is set by a script, so that only a real browser shows it."""

    def do_GET(self) -> None:
        body = f"<!doctype html><title>No</title><script>document.title = {TITLE!r}</script><p>Hello.".encode()
        self.send_response(200)
        self.send_header("Content-Type", "text/html; charset=utf-8")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        pass


class _Relay(socketserver.BaseRequestHandler):
    """Relay to the PostgreSQL of this run, which listens only on a Unix socket."""

    def handle(self) -> None:
        folder = parse_qs(urlsplit(os.environ["DATABASE_URL"]).query)["host"][0]
        with socket.socket(socket.AF_UNIX) as there:
            there.connect(f"{folder}/{SOCKET_NAME}")
            back = threading.Thread(target=_copy, args=(there, self.request), daemon=True)
            back.start()
            _copy(self.request, there)
            back.join(10)


def _copy(source: socket.socket, target: socket.socket) -> None:
    with suppress(OSError):
        while piece := source.recv(PIECE):
            target.sendall(piece)
        target.shutdown(socket.SHUT_WR)


class _RelayServer(socketserver.ThreadingTCPServer):
    daemon_threads = True


@dataclass
class BridgeServers:
    """Servers on the bridge; containers may reach all except the hidden one."""

    page: str = ""
    hidden: str = ""
    database: str = ""
    relay: str = ""

    @contextmanager
    def serve(self, host: LxcHost) -> Iterator[Mapping[str, str]]:
        address = str(host.address)
        page, hidden = (ThreadingHTTPServer((address, 0), _Page) for _ in range(2))
        relay = _RelayServer((address, 0), _Relay)
        with serving(page), serving(hidden), serving(relay):
            self.page, self.hidden = (f"http://{address}:{one.server_port}/" for one in (page, hidden))
            pages, self.relay = (f"{address}:{port}" for port in (page.server_port, relay.server_address[1]))
            self.database = f"postgresql://{ROLE}:{PASSWORD}@{self.relay}/postgres"
            # All agents may reach the page, and only jobs with the database's server the database.
            yield {"LXC_ALLOWED": f"{pages},{self.relay}", "SHARD_AGENT_ADDRESSES": pages}


@pytest.fixture(scope="module")
def bridge_servers() -> BridgeServers:
    return BridgeServers()


@pytest.fixture(scope="module")
def world(bridge_servers: BridgeServers) -> Iterator[World]:
    # One build with the servers of all types is used under two names, because a build takes long.
    kinds: dict[str, Any] = {"kind": "full", "images": ("playwright", "database"), "companion": bridge_servers.serve}
    own: dict[str, Any] = {"bridge": "mctby0", "net": "10.224.0.0/24", "first_id": 220_000_000}
    with own_folder("types") as folder, running_world(folder, **own, **kinds) as made:
        yield made


@pytest.fixture(scope="module")
def table() -> Iterator[str]:
    """Create a table and a role that may use it, in the PostgreSQL of this run."""
    with psycopg.connect(os.environ["DATABASE_URL"], dbname="postgres", autocommit=True) as connection:
        connection.execute("CREATE TABLE types_answers (answer text)")
        connection.execute("INSERT INTO types_answers VALUES (%s)", (SECRET,))
        connection.execute(f"CREATE ROLE {ROLE} LOGIN PASSWORD '{PASSWORD}'")
        connection.execute(f"GRANT CONNECT ON DATABASE postgres TO {ROLE}")
        connection.execute(f"GRANT ALL ON types_answers TO {ROLE}")
        yield "types_answers"
        connection.execute("DROP TABLE types_answers")
        connection.execute(f"REVOKE CONNECT ON DATABASE postgres FROM {ROLE}")
        connection.execute(f"DROP ROLE {ROLE}")


@pytest.fixture(scope="module")
def browser(world: World) -> str:
    world.operate("add", BROWSER, "--template", "playwright", "--provider", "lxc", "--provision")
    return BROWSER


@pytest.fixture(scope="module")
def database(world: World, bridge_servers: BridgeServers, table: str) -> str:
    """Add a shard with the template's server and the database URL that an operator entered."""
    with Operator(world.stack) as operator:
        (template,) = [one for one in operator.get("shard-templates")["results"] if one["name"] == "database"]
        server = template["mcp_servers"]["database"]
        server["env"]["DB_URL"], server["addresses"] = bridge_servers.database, [bridge_servers.relay]
        request = {"name": DATABASE, "template": "database", "provider": "lxc", "mcp_servers": {"database": server}}
        operator.post("shards", {**request, "provision": True})
        until(lambda: operator.shard(DATABASE)["state"] == "ready", "the shard to be ready")
    return DATABASE


def results(world: World, job: dict[str, Any]) -> str:
    """Return the results of the agent's tools."""
    return texts([event for event in world.client.events(job["id"]) if event["kind"] == "tool.result"])


def test_an_agent_uses_a_real_browser(world: World, browser: str, bridge_servers: BridgeServers) -> None:
    _, url = world.remote("page.git")
    task = {"repo_url": url, "branch": "looked", "prompt": f"OPEN {bridge_servers.page}"}
    job = world.client.run(task, capabilities=["playwright"])
    assert job["status"] == "completed", (job, results(world, job))
    assert job["attempts"][-1]["shard"] == browser
    assert f"The title is: {TITLE}" in job["result"]["summary"], results(world, job)
    # The browser's own files do not count as changes, so no branch is pushed.
    assert job["result"]["branch"] is None


def test_the_browser_reaches_no_more_than_the_agent(world: World, browser: str, bridge_servers: BridgeServers) -> None:
    job = world.client.run({"prompt": f"OPEN {bridge_servers.hidden}"}, capabilities=["playwright"])
    assert job["status"] == "completed", job
    # The page has the same address, which exists in the job's network, but this port is closed there.
    assert "net::ERR_CONNECTION_REFUSED" in results(world, job)


def test_the_browser_ends_with_its_job(world: World, browser: str, bridge_servers: BridgeServers) -> None:
    world.client.run({"prompt": f"OPEN {bridge_servers.page}"}, capabilities=["playwright"])
    running = inside(world.maker, world.shard(browser)["ref"], "sh", "-c", "cat /proc/[0-9]*/cmdline").stdout
    assert "workers.main" in running
    assert not [name for name in ("chromium", "playwright") if name in running]


def test_a_job_without_a_configured_database_completes_with_a_warning(world: World) -> None:
    world.operate("add", "nameless", "--template", "database", "--provider", "lxc", "--provision")
    job = world.client.run({"prompt": "NO CHANGES"}, capabilities=["database"])
    assert job["status"] == "completed", job
    warnings = [event["data"] for event in world.client.events(job["id"]) if event["kind"] == "job.warning"]
    assert [warning["code"] for warning in warnings] == ["mcp_server_failed"], warnings
    world.operate("destroy", "nameless")


def test_an_agent_queries_a_real_database(world: World, database: str, table: str) -> None:
    job = world.client.run({"prompt": f"QUERY: TABLE {table}"}, capabilities=["database"])
    assert job["status"] == "completed", (job, results(world, job))
    assert job["attempts"][-1]["shard"] == database
    assert f"answer: {SECRET}" in results(world, job)


def test_a_job_without_the_database_does_not_reach_it(
    world: World, database: str, bridge_servers: BridgeServers
) -> None:
    host, _, port = bridge_servers.relay.rpartition(":")
    connect = f"import socket; socket.create_connection(({host!r}, {port}), timeout=3)"
    task = {"prompt": f'SCRIPT:\npython3 -c "{connect}"\n'}
    for capabilities, reached in ((["database"], True), (["filesystem"], False)):
        job = world.client.run(task, capabilities=capabilities)
        assert job["status"] == "completed", job
        assert ("ConnectionRefusedError" not in results(world, job)) is reached, (capabilities, results(world, job))


def test_queries_run_in_a_read_only_transaction(world: World, database: str, table: str) -> None:
    job = world.client.run({"prompt": f"QUERY: TRUNCATE {table}"}, capabilities=["postgres"])
    assert "read-only transaction" in results(world, job)

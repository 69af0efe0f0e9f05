"""What the types of shards promise: real MCP servers in the sandbox of a real agent, in real containers."""

from __future__ import annotations

import os
import socket
import socketserver
import tempfile
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import psycopg
import pytest

from myctobot.stack.postgres import SOCKET_NAME
from shards.providers.lxc.host import Host
from tests.acceptance.client import texts

from .conftest import FOLDER
from .inside import inside
from .operating import Operator, until
from .world import World, running_world

BROWSER, DATABASE = "browser", "data"
TITLE = "A page for the browser"
ROLE, SECRET = "types_reader", "forty-two"
PIECE = 64 * 1024


class _Page(BaseHTTPRequestHandler):
    """A page whose title only a browser that runs its script sees."""

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
    """Leads a connection to the PostgreSQL of this run, which listens on a Unix socket alone."""

    def handle(self) -> None:
        folder = parse_qs(urlsplit(os.environ["DATABASE_URL"]).query)["host"][0]
        with socket.socket(socket.AF_UNIX) as there:
            there.connect(f"{folder}/{SOCKET_NAME}")
            back = threading.Thread(target=_pass_on, args=(there, self.request), daemon=True)
            back.start()
            _pass_on(self.request, there)
            back.join(10)


def _pass_on(source: socket.socket, target: socket.socket) -> None:
    with suppress(OSError):
        while piece := source.recv(PIECE):
            target.sendall(piece)
        target.shutdown(socket.SHUT_WR)


class _RelayServer(socketserver.ThreadingTCPServer):
    daemon_threads = True


@contextmanager
def serving(server: socketserver.BaseServer) -> Iterator[None]:
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield
    finally:
        server.shutdown()
        server.server_close()


@dataclass
class Around:
    """What stands beside the stack on the bridge; containers may reach all but what is hidden."""

    page: str = ""
    hidden: str = ""
    database: str = ""

    @contextmanager
    def serve(self, host: Host) -> Iterator[Mapping[str, str]]:
        address = str(host.address)
        page, hidden = (ThreadingHTTPServer((address, 0), _Page) for _ in range(2))
        relay = _RelayServer((address, 0), _Relay)
        with serving(page), serving(hidden), serving(relay):
            self.page, self.hidden = (f"http://{address}:{one.server_port}/" for one in (page, hidden))
            self.database = f"postgresql://{ROLE}@{address}:{relay.server_address[1]}/postgres"
            yield {"LXC_ALLOWED": f"{address}:{page.server_port},{address}:{relay.server_address[1]}"}


@pytest.fixture(scope="module")
def around() -> Around:
    return Around()


@pytest.fixture(scope="module")
def world(around: Around) -> Iterator[World]:
    with tempfile.TemporaryDirectory(prefix="myctobot-types-", dir=FOLDER, ignore_cleanup_errors=True) as name:
        folder = Path(name)
        folder.chmod(0o711)
        # One build has the servers of all types, and the names of two of them.
        kinds: dict[str, Any] = {"kind": "full", "images": ("playwright", "database"), "beside": around.serve}
        with running_world(folder, bridge="mctby0", net="10.224.0.0/24", first_id=220_000_000, **kinds) as made:
            yield made


@pytest.fixture(scope="module")
def table() -> Iterator[str]:
    """A table that a role of its own may read, in the PostgreSQL of this run."""
    with psycopg.connect(os.environ["DATABASE_URL"], dbname="postgres", autocommit=True) as connection:
        connection.execute("CREATE TABLE types_answers (answer text)")
        connection.execute("INSERT INTO types_answers VALUES (%s)", (SECRET,))
        connection.execute(f"CREATE ROLE {ROLE} LOGIN")
        connection.execute(f"GRANT ALL ON types_answers TO {ROLE}")
        yield "types_answers"
        connection.execute("DROP TABLE types_answers")
        connection.execute(f"DROP ROLE {ROLE}")


@pytest.fixture(scope="module")
def browser(world: World) -> str:
    world.operate("add", BROWSER, "--template", "playwright", "--provider", "lxc", "--provision")
    return BROWSER


@pytest.fixture(scope="module")
def database(world: World, around: Around, table: str) -> str:
    """A shard with the template's own server, to which an operator added where the database is."""
    with Operator(world.stack) as operator:
        (template,) = [one for one in operator.get("shard-templates")["results"] if one["name"] == "database"]
        server = template["mcp_servers"]["database"]
        server["env"]["DB_URL"] = around.database
        asked = {"name": DATABASE, "template": "database", "provider": "lxc", "mcp_servers": {"database": server}}
        operator.post("shards", {**asked, "provision": True})
        until(lambda: operator.shard(DATABASE)["state"] == "ready", "the shard to be ready")
    return DATABASE


def results(world: World, job: dict[str, Any]) -> str:
    """All that the agent's tools answered."""
    return texts([event for event in world.client.events(job["id"]) if event["kind"] == "tool.result"])


def test_an_agent_has_a_real_browser(world: World, browser: str, around: Around) -> None:
    _, url = world.remote("page.git")
    task = {"repo_url": url, "branch": "looked", "prompt": f"OPEN {around.page}"}
    job = world.client.run(task, capabilities=["playwright"])
    assert job["status"] == "completed", (job, results(world, job))
    assert job["attempts"][-1]["shard"] == browser
    assert f"The title is: {TITLE}" in job["result"]["summary"], results(world, job)
    # What it wrote of the page is not taken for work.
    assert job["result"]["branch"] is None


def test_the_browser_reaches_no_more_than_the_agent(world: World, browser: str, around: Around) -> None:
    job = world.client.run({"prompt": f"OPEN {around.hidden}"}, capabilities=["playwright"])
    assert job["status"] == "completed", job
    assert "net::ERR_ADDRESS_UNREACHABLE" in results(world, job)


def test_no_browser_outlives_its_job(world: World, browser: str, around: Around) -> None:
    world.client.run({"prompt": f"OPEN {around.page}"}, capabilities=["playwright"])
    running = inside(world.maker, world.shard(browser)["ref"], "sh", "-c", "cat /proc/[0-9]*/cmdline").stdout
    assert "workers.main" in running
    assert not [name for name in ("chromium", "playwright") if name in running]


def test_a_job_goes_on_without_a_database_that_nobody_named_and_says_so(world: World) -> None:
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


def test_queries_change_nothing_by_accident(world: World, database: str, table: str) -> None:
    job = world.client.run({"prompt": f"QUERY: TRUNCATE {table}"}, capabilities=["postgres"])
    assert "read-only transaction" in results(world, job)

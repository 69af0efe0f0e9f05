"""Attacks of an agent over the network: on the shard's machine, on other jobs and on hosts that are not allowed."""

from __future__ import annotations

import asyncio
import os
import socket
import subprocess
import sys
import tempfile
from collections.abc import Awaitable, Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from myctobot.contract.direct_addresses import DirectAddress
from myctobot.stack.plan import CHECKOUT
from tests.attacks.sandbox_scene import AGENT
from tests.fixtures.serving import serving
from workers.errors import JobError
from workers.sandbox.forwarding import MAX_CONNECTIONS
from workers.sandbox.sandbox import ResourceLimits, Sandbox, SandboxConfig, SandboxedProcess

CONNECT = """
import json, os, socket, sys, urllib.request
def connect(family, address):
    try:
        with socket.socket(family) as made:
            made.settimeout(5)
            made.connect(address)
            return "open"
    except OSError as error:
        return type(error).__name__
def fetch(url):
    with urllib.request.urlopen(url, timeout=20) as answer:
        return answer.read().decode()
"""
ENDED = {"ConnectionRefusedError", "OSError"}


class Handler(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        # A proxy receives the whole URL, and a server only the path.
        body = f"{self.path} for {self.headers['Host']}".encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        """Suppress the log."""


@pytest.fixture
def server() -> Iterator[str]:
    """Yield the URL of a server on this machine."""
    http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    with serving(http):
        yield f"http://127.0.0.1:{http.server_port}"


async def _python(sandbox: Sandbox, script: str, gateway_url: str) -> SandboxedProcess:
    return await sandbox.start(["python3", "-c", CONNECT + script], env={}, gateway_url=gateway_url)


async def _output(process: SandboxedProcess) -> list[str]:
    out, err = await process.stdout.read(), await process.stderr.read()
    assert await process.wait() == 0, err.decode()
    return out.decode().splitlines()


def play(tmp_path: Path, scene: Callable[[Sandbox], Awaitable[Any]], **options: Any) -> Any:
    async def whole() -> Any:
        sandbox = Sandbox(SandboxConfig(ResourceLimits(), AGENT, **options), tmp_path)
        try:
            return await scene(sandbox)
        finally:
            await sandbox.close()

    return asyncio.run(whole())


def run(tmp_path: Path, script: str, gateway_url: str, **options: Any) -> list[str]:
    async def scene(sandbox: Sandbox) -> list[str]:
        return await _output(await _python(sandbox, script, gateway_url))

    found: list[str] = play(tmp_path, scene, **options)
    return found


def test_an_agent_reaches_its_gateway_and_nothing_else(tmp_path: Path, server: str) -> None:
    port = int(server.rpartition(":")[2])
    abstract = f"\0myctobot-test-{os.getpid()}"
    script = f"""
for _ in range(2): print(fetch(os.environ["ANTHROPIC_BASE_URL"] + "/v1/messages"))
for address in (("127.0.0.1", {port}), ("1.1.1.1", 443), ("169.254.169.254", 80)):
    print(connect(socket.AF_INET, address))
print(connect(socket.AF_UNIX, {abstract!r}))
"""
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(abstract)
        listener.listen()
        gateway, again, *others = run(tmp_path, script, f"{server}/base")
    assert gateway == again == f"/base/v1/messages for 127.0.0.1:{port}"
    assert len(others) == 4
    assert set(others) <= ENDED


def test_hosts_are_reached_only_through_the_proxy(tmp_path: Path, server: str) -> None:
    script = 'print(fetch("http://anything.invalid/page"))'
    assert run(tmp_path, script, "http://127.0.0.1:9", proxy_url=server) == [
        "http://anything.invalid/page for anything.invalid"
    ]
    past_it = f"""
for url in ("http://anything.invalid/page", "{server}/page"):
    try: print(fetch(url))
    except OSError: print("no way")
"""
    assert run(tmp_path, past_it, "http://127.0.0.1:9") == ["no way"] * 2


def test_a_job_cannot_reach_another_jobs_server(tmp_path: Path) -> None:
    serve = """
server = socket.create_server(("127.0.0.1", 0))
print(server.getsockname()[1], connect(socket.AF_INET, server.getsockname()), flush=True)
sys.stdin.read()
"""

    async def scene(sandbox: Sandbox) -> list[str]:
        victim = await _python(sandbox, serve, "http://127.0.0.1:9")
        port, own = (await victim.stdout.readline()).split()
        attack = f"print(connect(socket.AF_INET, ('127.0.0.1', {int(port)})))"
        return [own.decode(), *await _output(await _python(sandbox, attack, "http://127.0.0.1:9"))]

    assert play(tmp_path, scene) == ["open", "ConnectionRefusedError"]


def test_an_agent_reaches_a_direct_address_only_at_its_own_port(tmp_path: Path, server: str) -> None:
    port = int(server.rpartition(":")[2])
    script = f"""
print(fetch("http://127.0.0.2:{port}/page"))
for address in (("127.0.0.1", {port}), ("192.0.2.7", {port}), ("192.0.2.7", 22), ("192.0.2.8", {port})):
    print(connect(socket.AF_INET, address))
"""
    # The second one shows that the address exists inside. This machine has no such server.
    addresses = (DirectAddress("127.0.0.2", port), DirectAddress("192.0.2.7", port))
    with serving(ThreadingHTTPServer(("127.0.0.2", port), Handler)):
        said = run(tmp_path, script, "http://127.0.0.1:9", addresses=addresses)
    refused = "ConnectionRefusedError"
    assert said == [f"/page for 127.0.0.2:{port}", refused, "open", refused, "OSError"]


def test_a_direct_address_can_have_version_6(tmp_path: Path) -> None:
    script = "for port in (443, 80): print(connect(socket.AF_INET6, ('fd00:1::2', port)))"
    addresses = (DirectAddress("fd00:1::2", 443),)
    if Path("/proc/net/if_inet6").exists():
        assert run(tmp_path, script, "http://127.0.0.1:9", addresses=addresses) == ["open", "ConnectionRefusedError"]
    else:
        with pytest.raises(JobError, match="fd00:1::2 cannot be added"):
            run(tmp_path, script, "http://127.0.0.1:9", addresses=addresses)


def test_the_direct_addresses_of_one_job_are_not_anothers(tmp_path: Path) -> None:
    script = "print(connect(socket.AF_INET, ('192.0.2.7', 5432)))"
    server = DirectAddress("192.0.2.7", 5432)
    assert run(tmp_path / "one", script, "http://127.0.0.1:9", addresses=(server,)) == ["open"]
    assert run(tmp_path / "two", script, "http://127.0.0.1:9") == ["OSError"]


def test_a_flood_of_connections_is_bounded(tmp_path: Path, server: str) -> None:
    script = f"""
host, port = os.environ["ANTHROPIC_BASE_URL"].removeprefix("http://").split("/")[0].split(":")
opened = [socket.create_connection((host, int(port)), timeout=20) for _ in range({MAX_CONNECTIONS + 20})]
ended = 0
for one in reversed(opened):
    one.settimeout(20)
    if ended < 20 and one.recv(1) == b"": ended += 1
print(ended)
for one in opened: one.close()
"""
    assert run(tmp_path, script, server) == ["20"]


@pytest.mark.needs("root")
def test_an_ordinary_user_gives_its_jobs_the_same_network(server: str) -> None:
    program = f"""
import os, sys
from tests.attacks import test_job_network as attacks
from pathlib import Path
os.setgroups([]); os.setresgid(1236, 1236, 1236); os.setresuid(1236, 1236, 1236)
script = 'print(fetch(os.environ["ANTHROPIC_BASE_URL"])); print(connect(socket.AF_INET, ("1.1.1.1", 443)))'
print(*attacks.run(Path(sys.argv[1]), script, {server!r}), sep=chr(10))
"""
    with tempfile.TemporaryDirectory(dir="/tmp") as directory:
        Path(directory).chmod(0o777)
        command = [sys.executable, "-c", program, f"{directory}/job"]
        env = {"PATH": "/usr/bin:/bin"}
        done = subprocess.run(command, cwd=CHECKOUT, env=env, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    answer, outside = done.stdout.splitlines()
    assert answer.endswith(server.removeprefix("http://"))
    assert outside in ENDED

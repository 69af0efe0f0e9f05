"""Entry into a job's network, and its failures."""

from __future__ import annotations

import socket
import ssl
from http.server import ThreadingHTTPServer
from pathlib import Path

import pytest

from myctobot.contract.direct_addresses import DirectAddress
from tests.attacks.test_job_network import Handler
from tests.fixtures.git_server import make_certificate
from tests.fixtures.serving import serving
from tests.integration.workers.sandbox.test_sandbox import play
from workers.errors import JobError
from workers.sandbox import forwarding
from workers.sandbox.network import LOOPBACK, listen_inside
from workers.sandbox.sandbox import Sandbox, SandboxedProcess

NO_PROCESS = 2**22 + 1
GATEWAY = "http://127.0.0.1:9"


def test_a_network_that_cannot_be_entered_is_an_error_with_the_reason() -> None:
    with pytest.raises(OSError, match=r"cannot be entered.*No such file"):
        listen_inside(NO_PROCESS, [(LOOPBACK, 1)])
    assert listen_inside(NO_PROCESS, []) == []


def test_without_its_network_no_agent_starts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(pid: int, addresses: list[tuple[str, int]]) -> list[socket.socket]:
        raise OSError("the job's network cannot be entered: refused")

    async def scene(sandbox: Sandbox) -> SandboxedProcess:
        return await sandbox.start(["touch", "/workspace/ran"], env={}, gateway_url=GATEWAY)

    monkeypatch.setattr("workers.sandbox.process.listen_inside", refuse)
    with pytest.raises(JobError, match="cannot be entered: refused") as caught:
        play(tmp_path, scene)
    assert (caught.value.code, caught.value.retryable) == ("sandbox_failed", True)
    assert not (tmp_path / "agent/repo/ran").exists()


def test_with_the_shards_network_nothing_is_forwarded(tmp_path: Path) -> None:
    script = 'echo "${ANTHROPIC_BASE_URL-none}"; ls /sys/class/net 2>/dev/null; cat /proc/net/dev | wc -l'

    async def scene(sandbox: Sandbox) -> tuple[bool, bytes]:
        process = await sandbox.start(["sh", "-c", script], env={}, gateway_url=GATEWAY)
        return sandbox.has_own_network, await process.stdout.read()

    has_own, said = play(tmp_path, scene, own_network=False)
    assert (has_own, said.split()[0]) == (False, b"none")
    assert int(said.split()[-1]) == len(Path("/proc/net/dev").read_text().splitlines())


def test_an_address_that_cannot_be_added_is_an_error_with_the_reason(tmp_path: Path) -> None:
    async def scene(sandbox: Sandbox) -> SandboxedProcess:
        return await sandbox.start(["touch", "/workspace/ran"], env={}, gateway_url=GATEWAY)

    # A group of machines is no address of an interface.
    with pytest.raises(JobError, match="ff02::1 cannot be added: ") as caught:
        play(tmp_path, scene, addresses=(DirectAddress("ff02::1", 80),))
    assert (caught.value.code, caught.value.retryable) == ("sandbox_failed", True)
    assert not (tmp_path / "agent/repo/ran").exists()


@pytest.mark.parametrize("trusted", [True, False])
def test_the_runner_encrypts_and_checks_the_gateways_certificate(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, trusted: bool
) -> None:
    certificate = make_certificate(tmp_path)
    if trusted:
        monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
    forwarding._certificates.cache_clear()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    script = """
import http.client, os, urllib.request
try: print(urllib.request.urlopen(os.environ["ANTHROPIC_BASE_URL"], timeout=20).read().decode())
except (OSError, http.client.HTTPException): print("no answer")
"""

    async def scene(sandbox: Sandbox, url: str) -> str:
        process = await sandbox.start(["python3", "-c", script], env={}, gateway_url=url)
        return (await process.stdout.read()).decode().strip()

    http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    http.socket = context.wrap_socket(http.socket, server_side=True)
    with serving(http):
        url = f"https://127.0.0.1:{http.server_port}"
        said = play(tmp_path / "job", lambda sandbox: scene(sandbox, url))
    forwarding._certificates.cache_clear()
    assert said == (f"/ for 127.0.0.1:{http.server_port}" if trusted else "no answer")

"""The gateway as its own process, as the stack starts it."""

from __future__ import annotations

import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx

ROOT = Path(__file__).parents[3]
APPLICATION = "myctobot.asgi_gateway:application"


@contextmanager
def gateway_process(tmp_path: Path, scripts: Path) -> Iterator[tuple[subprocess.Popen[str], str]]:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        process = subprocess.Popen(
            [sys.executable, "-m", "myctobot.stack.serve", "--fd", str(listener.fileno()), APPLICATION],
            cwd=ROOT,
            env={
                "PATH": "/usr/bin:/bin",
                "MYCTOBOT_HOME": str(tmp_path),
                "DATABASE_URL": "postgresql://127.0.0.1:1/nothing",
                "GATEWAY_UPSTREAM": "scripted",
                "GATEWAY_SCRIPTS": str(scripts),
                # An agent must not see Django's debug pages, even if the control plane has DEBUG.
                "DEBUG": "true",
            },
            pass_fds=[listener.fileno()],
            stderr=subprocess.PIPE,
            text=True,
        )
        try:
            yield process, f"http://127.0.0.1:{listener.getsockname()[1]}"
        finally:
            process.terminate()
            process.communicate()


def test_the_process_serves_without_a_database_or_a_debug_page(tmp_path: Path) -> None:
    with (
        gateway_process(tmp_path, ROOT / "myctobot/gateway/upstreams/scripted/examples") as (_, url),
        httpx.Client(base_url=url, trust_env=False, timeout=60) as client,
    ):
        assert client.get("/healthz").json() == {"status": "ok", "upstream": "scripted"}
        assert client.get("/no/such").json()["error"]["type"] == "not_found_error"
        assert client.post("/v1/messages", json={}).json()["error"]["type"] == "authentication_error"


def test_the_process_refuses_to_start_with_a_broken_script(tmp_path: Path) -> None:
    scripts = tmp_path / "broken.yaml"
    scripts.write_text("scripts: [{name: one, steps: [{texts: typo}]}]")
    with gateway_process(tmp_path, scripts) as (process, _):
        _, errors = process.communicate(timeout=60)
    assert process.returncode != 0
    assert "script 'one': steps[0]: texts: is unknown here" in errors

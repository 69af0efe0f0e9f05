"""Flower as in production: with a login, and behind a proxy at its own address."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest

from myctobot.stack.plan import CHECKOUT

COMMAND = [sys.executable, "-m", "myctobot.flower"]
START_S = 30
NO_LOGINS = [
    {},
    {"FLOWER_UNAUTHENTICATED_API": "true"},
    *({"FLOWER_BASIC_AUTH": login} for login in ("", ":", "operator", "operator:", ":word", "operator:word,")),
]


def environment(**more: str) -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith("FLOWER_")}
    return {**kept, **more}


@pytest.fixture
def short_folder() -> Iterator[Path]:
    """A socket's path may have a hundred characters, and this checkout may lie deep."""
    with tempfile.TemporaryDirectory(prefix="mctb-", dir="/tmp") as folder:
        yield Path(folder)


@contextmanager
def running(path: Path, **more: str) -> Iterator[httpx.Client]:
    process = subprocess.Popen(COMMAND, cwd=CHECKOUT, env=environment(FLOWER_UNIX_SOCKET=str(path), **more))
    try:
        deadline = time.monotonic() + START_S
        while not is_open(path):
            assert process.poll() is None
            assert time.monotonic() < deadline
            time.sleep(0.1)
        with httpx.Client(
            transport=httpx.HTTPTransport(uds=str(path)), base_url="http://flower.test", timeout=10
        ) as client:
            yield client
        process.send_signal(signal.SIGTERM)
        assert process.wait(10) == 0
    finally:
        if process.poll() is None:
            process.kill()
            process.wait()


def is_open(path: Path) -> bool:
    with socket.socket(socket.AF_UNIX) as attempt:
        return attempt.connect_ex(str(path)) == 0


@pytest.mark.parametrize("more", NO_LOGINS)
def test_without_a_login_it_does_not_start(more: dict[str, str]) -> None:
    done = subprocess.run(
        COMMAND, cwd=CHECKOUT, env=environment(**more), capture_output=True, text=True, timeout=START_S, check=False
    )
    assert done.returncode == 2
    assert "FLOWER_BASIC_AUTH" in done.stderr


def test_behind_a_proxy_it_has_its_pages_and_nothing_that_acts(short_folder: Path) -> None:
    more = {"FLOWER_URL_PREFIX": "flower", "FLOWER_UNAUTHENTICATED_API": "true"}
    with running(short_folder / "socket", **more) as flower:
        assert flower.get("/flower/workers").status_code == 200
        for path in ("/flower/api/workers", "/flower/metrics", "/api/workers", "/metrics", "/workers"):
            assert flower.get(path).status_code == 404, path
        assert flower.post("/flower/api/task/send-task/shard.execute", json={}).status_code == 404

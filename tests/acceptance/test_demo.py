"""``make demo`` with an almost empty environment."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import psutil
import pytest

from myctobot.stack.plan import CHECKOUT
from tests.fixtures.repos import branches, git
from tests.fixtures.serving import serving
from tests.stacks import bare_environment

pytestmark = [pytest.mark.acceptance, pytest.mark.timeout(240)]

TIMEOUT_S = 200
KEY = "sk-ant-api03-canary-of-the-demo-key"


class Demo:
    """Run of the demo, whose output goes to a file."""

    def __init__(self, home: Path, environ: Mapping[str, str] | None = None) -> None:
        self.home = home
        self._log = home.with_name("demo.log")
        with self._log.open("wb") as output:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "myctobot.demo"],
                cwd=CHECKOUT,
                env=bare_environment(home, environ),
                stdout=output,
                stderr=subprocess.STDOUT,
            )

    def output(self) -> str:
        return self._log.read_text()

    def wait(self) -> int:
        return self.process.wait(TIMEOUT_S)

    def wait_for(self, text: str) -> None:
        deadline = time.monotonic() + TIMEOUT_S
        while text not in self.output():
            assert self.process.poll() is None, self.output()
            assert time.monotonic() < deadline, self.output()
            time.sleep(0.1)

    def left_running(self) -> list[str]:
        """Return the running processes whose command, environment or folder names this run."""
        found = []
        for process in psutil.process_iter(["cmdline"]):
            try:
                words = [*(process.info["cmdline"] or []), *process.environ().values(), process.cwd()]
            except (psutil.NoSuchProcess, psutil.AccessDenied, psutil.ZombieProcess):
                continue
            if any(str(self.home) in word for word in words):
                found.append(" ".join(process.info["cmdline"] or []))
        return found


@contextmanager
def demo(home: Path, environ: Mapping[str, str] | None = None) -> Iterator[Demo]:
    running = Demo(home, environ)
    try:
        yield running
    finally:
        if running.process.poll() is None:
            running.process.terminate()
            running.wait()


def test_the_demo_shows_a_fix_and_its_proof(tmp_path: Path) -> None:
    # The demo must not spend a key that is in the environment by chance.
    with demo(tmp_path / "home", {"ANTHROPIC_API_KEY": KEY}) as run:
        code, output = run.wait(), run.output()
    assert code == 0, output
    phases = re.findall(r"^ *[\d.]+ s  (\w+)$", output, re.MULTILINE)
    assert phases == ["preparing", "cloning", "agent", "pushing", "reporting"]
    assert output.index("The test fails.") < output.index("→ Edit  calc.py") < output.index("The test passes.")
    assert "+    return sum(values) / len(values)" in output
    assert re.search(r"\d+ events, none missing", output)
    assert "\x1b" not in output
    origin = tmp_path / "home" / "demo" / "repositories" / "origin.git"
    assert set(branches(origin)) == {"main", "fix/average"}
    assert git(origin, "diff", "--name-only", "main", "fix/average") == "calc.py"
    assert run.left_running() == []
    everything = b"".join(path.read_bytes() for path in (tmp_path / "home").rglob("*") if path.is_file())
    assert KEY.encode() not in everything + output.encode()


@pytest.mark.long
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_demo_leaves_no_process(tmp_path: Path, number: signal.Signals) -> None:
    with demo(tmp_path / "home") as run:
        run.wait_for("  agent\n")
        run.process.send_signal(number)
        assert run.wait() == 130
        assert "Interrupted; everything is stopped." in run.output()
    assert run.left_running() == []


class _RefusingHandler(BaseHTTPRequestHandler):
    """Model provider that refuses every key."""

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers.get("content-length", "0")))
        self.server.keys.append(self.headers.get("x-api-key"))  # type: ignore[attr-defined]  # set by the test
        body = json.dumps({"type": "error", "error": {"type": "authentication_error", "message": "no such key"}})
        self.send_response(401)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body.encode())

    def log_message(self, format: str, *args: object) -> None:
        """Write no log, because the test reads the keys."""


@contextmanager
def refusing_provider() -> Iterator[ThreadingHTTPServer]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), _RefusingHandler)
    server.keys = []  # type: ignore[attr-defined]  # keys that the provider got
    with serving(server):
        yield server


@pytest.mark.long
def test_a_failed_demo_prints_the_reason_and_leaves_no_process(tmp_path: Path) -> None:
    with refusing_provider() as provider:
        environ = {
            "DEMO_UPSTREAM": "anthropic",
            "ANTHROPIC_API_KEY": KEY,
            "ANTHROPIC_BASE_URL": f"http://127.0.0.1:{provider.server_port}",
        }
        with demo(tmp_path / "home", environ) as run:
            assert run.wait() == 1, run.output()
    output = run.output()
    assert "  The job failed: " in output
    assert output.index("The last lines of") < output.index("The demo failed")
    assert run.left_running() == []
    # The demo used the key because the test chose the provider, and did not print it.
    assert set(provider.keys) == {KEY}  # type: ignore[attr-defined]  # see refusing_provider
    assert KEY not in output
    assert "mctb_" not in output


@pytest.mark.long
def test_a_killed_demo_leaves_no_process(tmp_path: Path) -> None:
    with demo(tmp_path / "home") as run:
        run.wait_for("3. Ask for the work")
        os.kill(run.process.pid, signal.SIGKILL)
        run.wait()
    deadline = time.monotonic() + 60
    while (left := run.left_running()) and time.monotonic() < deadline:
        time.sleep(0.2)
    assert left == []

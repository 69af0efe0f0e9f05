"""Servers that a shard in a container uses, on the bridge's address: a broker and a minimal control plane."""

from __future__ import annotations

import json
import os
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, cast

from redis.exceptions import ConnectionError

from myctobot.stack.redis import find_server
from tests.fixtures.broker import Operator
from tests.fixtures.serving import serving

# A test of another worker listens on 18000 and 18001 on all addresses.
CONTROL_PORT, BROKER_PORT, GATEWAY_PORT = 18010, 18011, 18012
TOKEN = "enrol-canary-51c0"
QUEUE = "cap.filesystem+git"
WAIT_S = 30


def eventually(condition: Callable[[], Any], what: str, wait_s: float = WAIT_S) -> Any:
    """Wait until a condition is true, and return its value."""
    deadline = time.monotonic() + wait_s
    while not (answer := condition()):
        assert time.monotonic() < deadline, what
        time.sleep(0.1)
    return answer


@dataclass
class Control:
    """Control plane that gives every attempt the same task and records the requests.

    Attributes:
        used: tokens that it refuses.
        prompt: prompt for the scripted executor.
        slots: number of jobs that a shard runs at once.
        enrolled: tokens of the enrolments.
        beats: times of the heartbeats, with the running attempts that they named.
        said: data of the events, as JSON.
        finished: outcomes by job id.
    """

    address: str
    used: set[str] = field(default_factory=set)
    prompt: str = "- say: hello"
    slots: int = 1
    enrolled: list[str] = field(default_factory=list)
    beats: list[tuple[float, list[str]]] = field(default_factory=list)
    said: list[str] = field(default_factory=list)
    finished: dict[str, str] = field(default_factory=dict)

    @property
    def url(self) -> str:
        return f"http://{self.address}:{CONTROL_PORT}"

    def config(self) -> dict[str, Any]:
        return {
            "shard_id": "alpha",
            "control_url": self.url,
            "broker_url": f"redis://{self.address}:{BROKER_PORT}/0",
            "shard_key": "mcts_alpha",
            "plain_networks": [self.address],
            "capabilities": ["filesystem", "git"],
            "max_concurrent_jobs": self.slots,
            "executor": "scripted",
            # As the enrolment of a container sends it.
            "sandbox": {"memory_mb": 128, "network": "job", "proxy_url": ""},
        }

    def environment(self) -> dict[str, str]:
        return {
            "MYCTOBOT_CONTROL_URL": self.url,
            "MYCTOBOT_SHARD": "alpha",
            "MYCTOBOT_ENROL_TOKEN": TOKEN,
            "MYCTOBOT_PLAIN_NETWORKS": self.address,
        }

    def answer(self, path: str, body: dict[str, Any]) -> tuple[int, dict[str, Any]]:
        name = path.rsplit("/", 1)[1]
        job = path.split("/")[4] if "/jobs/" in path else ""
        if name == "enroll":
            if body["token"] in self.used:
                return 401, {"error": {"code": "unknown_token", "message": "The token was used before."}}
            self.enrolled.append(body["token"])
            return 200, {"config": self.config()}
        if name == "heartbeat":
            self.beats.append((time.time(), body["running"]))
            return 200, {"shard": "alpha", "queues": [QUEUE, "shard.alpha"], "orders": []}
        if name == "claim":
            return 200, self._claim(job, body["attempt"])
        if name == "finish":
            self.finished[job] = body["outcome"]
        events = body.get("events", [])
        self.said += [json.dumps(event["data"]) for event in events]
        return 200, {"next_seq": body.get("first_seq", 1) + len(events), "lease_s": 60, "cancel": False}

    def _claim(self, job: str, attempt: int) -> dict[str, Any]:
        gateway = {"url": f"http://{self.address}:{GATEWAY_PORT}", "token": "gateway-canary-77"}
        task = {"type": "prompt", "prompt": self.prompt}
        return {"job_id": job, "attempt": attempt, "next_seq": 1, "task": task, "capabilities": ["filesystem"],
                "timeout_s": 120, "max_turns": 5, "secrets": {}, "gateway": gateway}  # fmt: skip


class _Handler(BaseHTTPRequestHandler):
    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        status, answer = cast(_Server, self.server).control.answer(self.path, body)
        content = json.dumps(answer).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, format: str, *args: object) -> None:
        """Suppress the request log, so that the tests print only their own output."""


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    control: Control


@contextmanager
def control_plane(address: str) -> Iterator[Control]:
    server = _Server((address, CONTROL_PORT), _Handler)
    server.control = Control(address)
    with serving(server):
        yield server.control


@contextmanager
def broker(address: str, folder: Path) -> Iterator[Operator]:
    listen = [
        "--bind",
        address,
        "--port",
        str(BROKER_PORT),
        "--protected-mode",
        "no",
        "--save",
        "",
        "--dir",
        str(folder),
    ]
    with subprocess.Popen([find_server()[0], *listen], env={"PATH": os.defpath}, stdout=subprocess.DEVNULL) as server:
        operator = Operator(f"redis://{address}:{BROKER_PORT}/0")
        try:
            eventually(lambda: _is_ready(operator), "the broker does not answer")
            yield operator
        finally:
            operator.close()
            server.terminate()


def _is_ready(operator: Operator) -> bool:
    try:
        return bool(operator.redis.ping())
    except ConnectionError:
        return False

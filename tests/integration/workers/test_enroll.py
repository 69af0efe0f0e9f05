"""Enrolment as a process, with a server on loopback that may answer anything."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from myctobot.contract.limits import MAX_REQUEST_BYTES
from myctobot.stack.plan import CHECKOUT
from tests.fixtures.serving import serving
from workers.control_plane import CallRefused, ControlPlaneUnreachable
from workers.enroll import EXIT_DONE, EXIT_FIX_FIRST, EXIT_TRY_LATER, ConfigLocation, Invitation, enrol, redeem

TOKEN = "enrol-canary-5d2c77a19b"


@dataclass
class Control:
    """Answers of the server in order, of which the last one is repeated, and the requests that it received."""

    url: str
    answers: list[tuple[int, bytes]]
    headers: dict[str, str] = field(default_factory=dict)
    received: list[tuple[str, Any]] = field(default_factory=list)


class _Handler(BaseHTTPRequestHandler):
    def do_POST(self) -> None:
        control: Control = self.server.control  # type: ignore[attr-defined]  # set where it is made
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        control.received.append((self.path, body))
        status, content = control.answers.pop(0) if len(control.answers) > 1 else control.answers[0]
        self.send_response(status)
        for name, value in control.headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, format: str, *args: object) -> None:
        """Say nothing."""


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, request: object, client_address: object) -> None:
        """Ignore a client that closes the connection early, as some tests do."""


@contextmanager
def control_plane(*answers: tuple[int, bytes], **headers: str) -> Iterator[Control]:
    server = _Server(("127.0.0.1", 0), _Handler)
    control = Control(f"http://127.0.0.1:{server.server_address[1]}", list(answers), headers)
    server.control = control  # type: ignore[attr-defined]  # for the handler
    with serving(server):
        yield control


def config(**changes: Any) -> dict[str, Any]:
    return {
        "shard_id": "shard-1",
        "control_url": "https://control.example",
        "broker_url": "rediss://:x@broker.example/0",
        "shard_key": "mcts_new",
        "capabilities": ["git"],
        **changes,
    }


def granted(**changes: Any) -> tuple[int, bytes]:
    return 200, json.dumps({"config": config(**changes)}).encode()


def refused(message: str, code: str = "unknown_token") -> tuple[int, bytes]:
    return 401, json.dumps({"error": {"code": code, "message": message}}).encode()


def start(
    directory: Path, url: str, token: str = TOKEN, *, first: bool = False, shard: str = "shard-1"
) -> subprocess.CompletedProcess[str]:
    """Run the command with the invitation in its own environment, or in that of the container's ``first`` process."""
    ours = {"MYCTOBOT_CONTROL_URL": url, "MYCTOBOT_SHARD": shard, "MYCTOBOT_ENROL_TOKEN": token}
    environ = directory / "environ"
    environ.write_bytes(b"".join(f"{name}={value}\0".encode() for name, value in ours.items()) if first else b"")
    done = subprocess.run(
        [sys.executable, "-m", "workers.enroll", "--config", directory / "config.json", "--environ", environ],
        cwd=CHECKOUT,
        env={"PATH": os.defpath, **({} if first else ours)},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert TOKEN not in done.stdout + done.stderr
    return done


@pytest.mark.parametrize("first", [False, True])
def test_a_new_shard_gets_its_configuration(tmp_path: Path, first: bool) -> None:
    with control_plane(granted()) as control:
        assert start(tmp_path, control.url, first=first).returncode == EXIT_DONE
    assert control.received == [("/shard/v1/enroll", {"token": TOKEN})]
    assert json.loads((tmp_path / "config.json").read_text()) == config()


def test_a_token_is_not_sent_over_a_plain_link(tmp_path: Path) -> None:
    done = start(tmp_path, "http://192.0.2.1:9")
    assert done.returncode == EXIT_FIX_FIRST
    assert "MYCTOBOT_CONTROL_URL is http://192.0.2.1, so keys would travel in clear text" in done.stderr
    assert "MYCTOBOT_PLAIN_NETWORKS" in done.stderr


def test_a_reboot_does_not_enrol_again_and_a_new_token_does(tmp_path: Path) -> None:
    with control_plane(granted(), granted(shard_key="mcts_newer")) as control:
        for token in (TOKEN, TOKEN, "another-token-after-a-restore"):
            assert start(tmp_path, control.url, token).returncode == EXIT_DONE
    assert [body["token"] for _, body in control.received] == [TOKEN, "another-token-after-a-restore"]
    assert json.loads((tmp_path / "config.json").read_text())["shard_key"] == "mcts_newer"


def test_without_a_token_there_is_nothing_to_do(tmp_path: Path) -> None:
    assert start(tmp_path, "https://control.example", "").returncode == EXIT_DONE
    assert not (tmp_path / "config.json").exists()


def test_a_used_token_is_refused_and_the_log_says_what_to_do(tmp_path: Path) -> None:
    with control_plane(refused(f"The token {TOKEN} was used\x1b[2J\nERROR forged")) as control:
        done = start(tmp_path, control.url)
    assert done.returncode == EXIT_FIX_FIRST
    assert "Make a new token for the shard 'shard-1'" in done.stderr
    assert "\x1b" not in done.stderr
    assert done.stderr.count("\n") == 1


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (granted(shard_id="shard-2"), "for the shard 'shard-2'"),
        (granted(unknown=1), "unknown is not a setting"),
        (granted(shard_key=7), "shard_key must be a text"),
        ((200, b'{"config": {}}'), "is missing"),
    ],
)
def test_an_invalid_configuration_keeps_the_old_one(tmp_path: Path, answer: tuple[int, bytes], words: str) -> None:
    (tmp_path / "config.json").write_text("old")
    with control_plane(answer) as control:
        done = start(tmp_path, control.url)
    assert (done.returncode, words in done.stderr) == (EXIT_FIX_FIRST, True), done.stderr
    assert (tmp_path / "config.json").read_text() == "old"


HOSTILE = {
    "not JSON": (200, b"<html>Welcome to the hotel's network</html>"),
    "no object": (200, b"[]"),
    "no configuration": (200, b"{}"),
    "too deep": (200, b"[" * 200_000),
    "huge": (200, b" " * (MAX_REQUEST_BYTES + 1)),
    "down": (503, b"{}"),
    "another server": (404, b"nothing here"),
}


@pytest.mark.parametrize("answer", HOSTILE.values(), ids=HOSTILE)
def test_an_answer_of_another_server_may_be_retried(answer: tuple[int, bytes]) -> None:
    with control_plane(answer) as control, pytest.raises(ControlPlaneUnreachable):
        redeem(Invitation(control.url, "shard-1", TOKEN))


def test_a_compressed_answer_is_not_decompressed() -> None:
    with control_plane((200, b"\x1f\x8b" + b"\0" * 100), **{"Content-Encoding": "gzip"}) as control, \
            pytest.raises(ControlPlaneUnreachable):  # fmt: skip
        redeem(Invitation(control.url, "shard-1", TOKEN))


def test_a_redirect_gets_no_token() -> None:
    with control_plane(granted()) as elsewhere, control_plane((307, b""), Location=elsewhere.url) as control:
        with pytest.raises(ControlPlaneUnreachable):
            redeem(Invitation(control.url, "shard-1", TOKEN))
        assert not elsewhere.received


def test_tries_are_limited_and_succeed_when_the_control_plane_returns(tmp_path: Path) -> None:
    waits: list[float] = []
    with control_plane((503, b""), (503, b""), granted()) as control:
        code = enrol(Invitation(control.url, "shard-1", TOKEN), ConfigLocation(tmp_path / "config.json"), waits.append)
    assert (code, waits) == (EXIT_DONE, [1, 2])
    waits.clear()
    nobody = Invitation("http://127.0.0.1:9", "shard-1", TOKEN)
    assert enrol(nobody, ConfigLocation(tmp_path / "new" / "config.json"), waits.append) == EXIT_TRY_LATER
    assert 300 <= sum(waits) <= 330
    assert max(waits) == 30


def test_a_refusal_is_not_repeated(tmp_path: Path) -> None:
    with control_plane(refused("It was used before.")) as control:
        with pytest.raises(CallRefused):
            redeem(Invitation(control.url, "shard-1", TOKEN))
        assert (
            enrol(Invitation(control.url, "shard-1", TOKEN), ConfigLocation(tmp_path / "config.json"), _never)
            == EXIT_FIX_FIRST
        )
    assert len(control.received) == 2


def _never(seconds: float) -> None:
    raise AssertionError("waited")

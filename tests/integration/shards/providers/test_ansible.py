"""Run of a playbook: its input and the errors of its failures."""

from __future__ import annotations

import os
import signal
import socket
import threading
from pathlib import Path
from tempfile import gettempdir

import pytest
import yaml

from shards.providers import ansible
from shards.providers.ansible import configure
from shards.providers.base import NullJournal
from shards.providers.errors import ProviderError, ProviderUnreachable
from tests.fixtures.ssh_server import make_key

TOKEN = "enrol-canary-8812aa"


def on_this_machine(name: str, command: str, module: str = "command") -> str:
    key = {"command": "cmd", "debug": "msg"}[module]
    task = {"name": name, f"ansible.builtin.{module}": {key: command}}
    play = {"name": "Look", "hosts": "all", "connection": "local", "gather_facts": False, "tasks": [task]}
    return yaml.safe_dump([play])


@pytest.fixture
def key(tmp_path: Path) -> Path:
    path = tmp_path / "key"
    path.touch(mode=0o600)
    path.write_text(make_key()[0])
    return path


@pytest.fixture
def playbook(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Replace the playbook by one for this machine."""
    (tmp_path / "playbooks").mkdir()
    monkeypatch.setattr(ansible, "FOLDER", tmp_path)
    return tmp_path / "playbooks" / "look.yml"


class Steps(NullJournal):
    def __init__(self) -> None:
        self.taken: list[str] = []

    def step(self, text: str) -> None:
        self.taken.append(text)


def unused_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])


def test_an_unreachable_machine_is_reported_as_retryable(key: Path) -> None:
    variables = {"enrol_token": TOKEN}
    with pytest.raises(ProviderUnreachable, match=r"127\.0\.0\.1 cannot be reached by SSH") as caught:
        configure("127.0.0.1", unused_port(), key, "shard.yml", variables, NullJournal(), 60, trust_first_key=True)
    assert caught.value.retryable
    assert TOKEN not in str(caught.value)


def test_a_machine_whose_key_nothing_verifies_gets_no_secret(key: Path) -> None:
    # The port would answer that nothing listens, so no connection was tried.
    with pytest.raises(ProviderError, match="SHARD_SSH_HOST_KEY") as caught:
        configure("127.0.0.1", unused_port(), key, "shard.yml", {"enrol_token": TOKEN}, NullJournal(), 60)
    assert not caught.value.retryable


def test_nothing_of_this_process_gets_in_and_nothing_stays(
    key: Path, playbook: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ANTHROPIC_API_KEY", "sk-canary")
    monkeypatch.setenv("ANSIBLE_STRATEGY", "free")
    seen = tmp_path / "seen"
    playbook.write_text(on_this_machine("Look around", f"cp /proc/self/environ {seen}"))
    handlers = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}
    steps = Steps()
    assert configure("127.0.0.1", 22, key, "look.yml", {"enrol_token": TOKEN}, steps, 60, trust_first_key=True) == 1
    names = {pair.partition("=")[0] for pair in seen.read_text().split("\0")}
    assert not names & {"ANTHROPIC_API_KEY", "ANSIBLE_STRATEGY", "DATABASE_URL", "VIRTUAL_ENV"}
    assert TOKEN not in seen.read_text()
    assert steps.taken == ["Look around"]
    assert {number: signal.getsignal(number) for number in handlers} == handlers
    assert not list(Path(gettempdir()).glob("ansible-*/variables.yml"))


def test_a_failed_task_is_named_with_its_own_words_and_without_secrets(key: Path, playbook: Path) -> None:
    playbook.write_text(on_this_machine("Fail", f"sh -c 'echo no {TOKEN} today >&2; exit 3'"))
    with pytest.raises(ProviderError, match="Fail: non-zero return code no \\*\\*\\* today"):
        configure("127.0.0.1", 22, key, "look.yml", {"enrol_token": TOKEN}, NullJournal(), 60, trust_first_key=True)


def test_a_variable_is_data_and_nothing_that_runs_here(key: Path, playbook: Path, tmp_path: Path) -> None:
    playbook.write_text(on_this_machine("Say", "{{ said }}", "debug"))
    attack = "{{ lookup('pipe', 'touch " + str(tmp_path / "ran") + "') }}"
    configure("127.0.0.1", 22, key, "look.yml", {"said": attack}, NullJournal(), 60, trust_first_key=True)
    assert not (tmp_path / "ran").exists()


def test_time_that_is_up_ends_ansible(key: Path, playbook: Path) -> None:
    playbook.write_text(on_this_machine("Sleep", "sleep 30"))
    with pytest.raises(ProviderError, match="longer than 5 s at 'Sleep'"):
        configure("127.0.0.1", 22, key, "look.yml", {}, NullJournal(), 5, trust_first_key=True)
    commands = [path.read_bytes() for path in Path("/proc").glob("[0-9]*/cmdline") if os.access(path, os.R_OK)]
    assert not any(str(playbook).encode() in command for command in commands)


def test_it_runs_in_any_thread(key: Path, playbook: Path) -> None:
    playbook.write_text(on_this_machine("Nothing", "true"))
    steps = Steps()
    arguments: tuple[object, ...] = ("127.0.0.1", 22, key, "look.yml", {}, steps, 60)
    thread = threading.Thread(target=configure, args=arguments, kwargs={"host_key": "ssh-ed25519 AAAA"})
    thread.start()
    thread.join(60)
    assert steps.taken == ["Nothing"]

"""Runs a playbook of ``ansible/`` on one machine over SSH, for providers that make shards or templates that way.

Ansible runs as a process with an environment and a home of its own, so neither this machine's settings nor its secrets
get into it, and what it keeps is gone when it ends. Variables may be secrets: they go in by a file, never on a command
line, and come back in no message.
"""

from __future__ import annotations

import json
import os
import re
import signal
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Final

from ansible_runner.config.runner import RunnerConfig
from ansible_runner.runner import Runner
from ansible_runner.utils import get_callback_dir

from shards.providers.base import Journal
from shards.providers.errors import ProviderError, ProviderUnreachable

FOLDER: Final = Path(__file__).resolve().parents[2] / "ansible"
MAX_SAID: Final = 600
_END_WITHIN_S: Final = 5
_CONNECT_TIMEOUT_S: Final = 10
_LAST_LINES: Final = 3
_SECRET: Final = re.compile("token|secret|password|key")
# What ansible-runner tells its own part within Ansible.
_OF_THE_RUNNER: Final = ("AWX_ISOLATED_DATA_DIR", "RUNNER_OMIT_EVENTS", "RUNNER_ONLY_FAILED_EVENTS")


def configure(
    address: str,
    port: int,
    key_file: Path,
    playbook: str,
    variables: Mapping[str, Any],
    journal: Journal,
    timeout_s: float,
    *,
    host_key: str = "",
) -> int:
    """Run a playbook on the machine at ``address``, as its root; returns how many tasks changed something.

    Args:
        key_file: the private SSH key that it accepts.
        playbook: a file's name in ``ansible/playbooks``.
        variables: of the playbook; they come before all others.
        journal: is told the name of each task as it begins.
        timeout_s: of the whole run.
        host_key: the machine's SSH key, such as ``ssh-ed25519 AAAA…``; without it the first one seen is taken.

    Raises:
        ProviderUnreachable: there is no way in by SSH.
        ProviderError: a task failed, which the error names with its own words, or time was up.
    """
    with _desk() as desk:
        known = desk / "known_hosts"
        known.write_text(f"[{address}]:{port} {host_key}\n{address} {host_key}\n" if host_key else "")
        _write(desk / "hosts.json", json.dumps(_inventory(address, port, key_file, known, strict=bool(host_key))))
        _write(desk / "variables.yml", as_yaml(variables))
        told = _Told(journal, [str(value) for name, value in variables.items() if _SECRET.search(name)])
        runner = Runner(_prepared(desk, playbook, timeout_s), event_handler=told.hear)
        status, code = runner.run()
    if code != 0 or status != "successful":
        raise told.error(status, address, timeout_s)
    return told.changed


@contextmanager
def _desk() -> Iterator[Path]:
    """A private folder, so short a path that SSH's sockets fit below it."""
    with TemporaryDirectory(prefix="ansible-", dir="/tmp", ignore_cleanup_errors=True) as name:  # 0700
        desk = Path(name)
        (desk / "cp").mkdir(mode=0o700)
        try:
            yield desk
        finally:
            _end_all_of(desk)


def _end_all_of(desk: Path) -> None:
    """End what a run left: SSH connections that wait for a next task, and on a timeout Ansible's own processes."""
    mark = f"HOME={desk}\0".encode()
    until = time.monotonic() + _END_WITHIN_S
    while left := [entry for entry in Path("/proc").iterdir() if entry.name.isdigit() and _holds(entry, mark)]:
        for entry in left:
            with suppress(ProcessLookupError):
                os.kill(int(entry.name), signal.SIGKILL)
        if time.monotonic() > until:
            return
        time.sleep(0.02)


def _holds(process: Path, mark: bytes) -> bool:
    try:
        return mark in (process / "environ").read_bytes()
    except OSError:
        return False


def _write(path: Path, text: str) -> None:
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
        file.write(text)


def as_yaml(value: Any) -> str:
    """Write a value so that Ansible takes every text in it as it stands: else ``{{ }}`` in one would run here."""
    if isinstance(value, str):
        quoted = json.dumps(value, ensure_ascii=False)
        return "!unsafe " + "".join(char if char.isprintable() else f"\\U{ord(char):08x}" for char in quoted)
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{json.dumps(str(name))}: {as_yaml(item)}" for name, item in value.items()) + "}"
    if isinstance(value, list | tuple):
        return "[" + ", ".join(as_yaml(item) for item in value) + "]"
    return json.dumps(value)


def _inventory(address: str, port: int, key_file: Path, known: Path, *, strict: bool) -> dict[str, Any]:
    checking = "yes" if strict else "accept-new"
    options = {"UserKnownHostsFile": known, "GlobalKnownHostsFile": "/dev/null", "StrictHostKeyChecking": checking,
               "IdentitiesOnly": "yes", "BatchMode": "yes", "ServerAliveInterval": 15}  # fmt: skip
    machine = {
        "ansible_host": address,
        "ansible_port": port,
        "ansible_user": "root",
        "ansible_ssh_private_key_file": str(key_file),
        # Nothing of this machine's own SSH settings.
        "ansible_ssh_common_args": " ".join(
            ["-F /dev/null", *(f"-o {name}={value}" for name, value in options.items())]
        ),
    }
    return {"all": {"hosts": {"machine": machine}}}


def _environment(desk: Path) -> dict[str, str]:
    return {
        "PATH": f"{Path(sys.executable).parent}:/usr/local/bin:/usr/bin:/bin",
        "HOME": str(desk),
        "LANG": "C.UTF-8",
        "TMPDIR": str(desk),
        "ANSIBLE_CONFIG": str(FOLDER / "ansible.cfg"),
        "ANSIBLE_HOST_KEY_CHECKING": "True",
        "ANSIBLE_SSH_CONTROL_PATH_DIR": str(desk / "cp"),
        "ANSIBLE_TIMEOUT": str(_CONNECT_TIMEOUT_S),
        "ANSIBLE_NOCOLOR": "1",
        "ANSIBLE_CALLBACK_PLUGINS": str(get_callback_dir()),
        "ANSIBLE_STDOUT_CALLBACK": "awx_display",
    }


def _prepared(desk: Path, playbook: str, timeout_s: float) -> RunnerConfig:
    # Not by ansible_runner.run: that takes this process's own signals.
    config = RunnerConfig(
        private_data_dir=str(desk),
        playbook=str(FOLDER / "playbooks" / playbook),
        inventory=str(desk / "hosts.json"),
        cmdline=f"-e @{desk / 'variables.yml'}",
        timeout=max(1, round(timeout_s)),
        quiet=True,
        suppress_env_files=True,
    )
    config.prepare()
    # It begins with this process's environment, which holds keys.
    config.env = {name: config.env[name] for name in _OF_THE_RUNNER} | _environment(desk)
    return config


class _Told:
    """Listens to Ansible's events: tells the journal of tasks, and remembers what failed.

    Args:
        secrets: kept out of what is passed on.
    """

    def __init__(self, journal: Journal, secrets: list[str]) -> None:
        self._journal = journal
        self._secrets = sorted((secret for secret in secrets if len(secret) >= 8), key=len, reverse=True)
        self.changed = 0
        self._task = ""
        self._failure = ""
        self._unreachable = False
        self._lines: list[str] = []

    def hear(self, event: dict[str, Any]) -> bool:
        """Take one event; False: it is not to be written to a file."""
        data = event.get("event_data", {})
        match event.get("event"):
            case "playbook_on_task_start" | "playbook_on_handler_task_start":
                self._task = str(data.get("task", ""))
                self._journal.step(self._task)
            case "runner_on_failed" | "runner_item_on_failed" if not data.get("ignore_errors"):
                self._fail(str(data.get("task")), words_of(data.get("res", {})))
            case "playbook_on_stats":
                self.changed = sum(data.get("changed", {}).values())
            case "runner_on_unreachable":
                self._unreachable, self._failure = True, words_of(data.get("res", {}))
        if text := str(event.get("stdout", "")).strip():
            self._lines = [*self._lines, text][-_LAST_LINES:]
        return False

    def _fail(self, task: str, words: str) -> None:
        # A loop's own sentence follows that of the item, and says less.
        if not words.startswith("One or more items failed"):
            self._failure = f"{task}: {words}"

    def error(self, status: str, address: str, timeout_s: float) -> ProviderError:
        """What to raise for a run that did not succeed."""
        if status == "timeout":
            return ProviderError(
                f"Ansible took longer than {timeout_s:g} s at '{self._task}' on {address}, and was ended."
            )
        said = self._clean(self._failure or " ".join(self._lines) or f"it ended as {status}")
        if self._unreachable:
            return ProviderUnreachable(f"There is no way into {address} by SSH: {said}")
        return ProviderError(f"Ansible failed on {address}: {said}")

    def _clean(self, text: str) -> str:
        for secret in self._secrets:
            text = text.replace(secret, "***")
        return "".join(char if char.isprintable() else " " for char in text)[:MAX_SAID]


def words_of(result: Mapping[str, Any]) -> str:
    """Say why a task failed: its message, and for a command the end of what it wrote."""
    if "censored" in result:
        return "it failed, and what it says may hold a secret"
    message = str(result.get("msg", "")).strip().removeprefix("Task failed: ")
    written = str(result.get("stderr") or result.get("module_stderr") or "").strip().splitlines()
    return (
        " ".join([part for part in (message, " ".join(written[-_LAST_LINES:])) if part]) or "it failed without a word"
    )

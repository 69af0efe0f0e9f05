"""Runner of Ansible playbooks on one machine over SSH, for providers that configure shards or templates this way.

Ansible runs in its own process, environment and home directory. It therefore sees no settings or secrets of this
machine, and its files are removed at the end. Variables may be secrets: they are passed in a file, never on a command
line, and are redacted from messages.
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
from django.conf import settings

from shards.providers.base import Journal
from shards.providers.errors import ProviderError, ProviderUnreachable

FOLDER: Final = Path(__file__).resolve().parents[2] / "ansible"
MAX_MESSAGE: Final = 600
_END_WITHIN_S: Final = 5
_CONNECT_TIMEOUT_S: Final = 10
_LAST_LINES: Final = 3
_SECRET: Final = re.compile("token|secret|password|key")
# Variables that ansible-runner passes to its callback plugin.
_RUNNER_VARIABLES: Final = ("AWX_ISOLATED_DATA_DIR", "RUNNER_OMIT_EVENTS", "RUNNER_ONLY_FAILED_EVENTS")


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
    trust_first_key: bool = False,
) -> int:
    """Run a playbook as root on the machine at ``address``, and return the number of changed tasks.

    Args:
        key_file: private SSH key that the machine accepts.
        playbook: name of a file in ``ansible/playbooks``.
        variables: variables of the playbook, with the highest precedence.
        journal: receives the name of each task at its start.
        timeout_s: limit of the whole run.
        host_key: SSH key of the machine, such as ``ssh-ed25519 AAAA…``.
        trust_first_key: without ``host_key``, accept the key of whichever machine answers first.

    Raises:
        ProviderUnreachable: the machine cannot be reached by SSH.
        ProviderError: a task failed, with its name and message, or the run took too long; or nothing verifies the
            machine's key.
    """
    if problem := unverified_problem(host_key, trust_first_key):
        raise ProviderError(problem)
    with _work_folder() as folder:
        known = folder / "known_hosts"
        known.write_text(f"[{address}]:{port} {host_key}\n{address} {host_key}\n" if host_key else "")
        _write(folder / "hosts.json", json.dumps(_inventory(address, port, key_file, known, strict=bool(host_key))))
        _write(folder / "variables.yml", as_yaml(variables))
        listener = _EventListener(journal, [str(value) for name, value in variables.items() if _SECRET.search(name)])
        runner = Runner(_runner_config(folder, playbook, timeout_s), event_handler=listener.handle)
        status, code = runner.run()
    if code != 0 or status != "successful":
        raise listener.error(status, address, timeout_s)
    return listener.changed


def ssh_trust() -> tuple[str, bool]:
    """Return the SSH key of new machines by the settings, and whether an unknown key is accepted."""
    return settings.SHARD_SSH_HOST_KEY, settings.SHARD_SSH_TRUST_FIRST_KEY


def unverified_problem(host_key: str, trust_first_key: bool) -> str | None:
    """Return the problem if nothing verifies the SSH key of a new machine, which gets a token by that connection."""
    if host_key or trust_first_key:
        return None
    return (
        "Nothing verifies the SSH key of a new container, so another machine could take its enrolment token. Use "
        "Proxmox 9.1 or later, which needs no SSH; or set SHARD_SSH_HOST_KEY to the public host key in the template; "
        "or, in a network without other machines, set SHARD_SSH_TRUST_FIRST_KEY=true."
    )


@contextmanager
def _work_folder() -> Iterator[Path]:
    """Create a private folder with a short path, because paths of SSH sockets are limited."""
    with TemporaryDirectory(prefix="ansible-", dir="/tmp", ignore_cleanup_errors=True) as name:  # 0700
        folder = Path(name)
        (folder / "cp").mkdir(mode=0o700)
        try:
            yield folder
        finally:
            _kill_leftovers(folder)


def _kill_leftovers(folder: Path) -> None:
    """Kill the processes of a run: SSH connections kept open for a next task, and after a timeout Ansible itself."""
    mark = f"HOME={folder}\0".encode()
    until = time.monotonic() + _END_WITHIN_S
    while left := [entry for entry in Path("/proc").iterdir() if entry.name.isdigit() and _has_mark(entry, mark)]:
        for entry in left:
            with suppress(ProcessLookupError):
                os.kill(int(entry.name), signal.SIGKILL)
        if time.monotonic() > until:
            return
        time.sleep(0.02)


def _has_mark(process: Path, mark: bytes) -> bool:
    try:
        return mark in (process / "environ").read_bytes()
    except OSError:
        return False


def _write(path: Path, text: str) -> None:
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
        file.write(text)


def as_yaml(value: Any) -> str:
    """Encode a value so that Ansible does not evaluate templates such as ``{{ }}`` in its texts on this machine."""
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
        # Ignore this machine's SSH settings.
        "ansible_ssh_common_args": " ".join(
            ["-F /dev/null", *(f"-o {name}={value}" for name, value in options.items())]
        ),
    }
    return {"all": {"hosts": {"machine": machine}}}


def _environment(folder: Path) -> dict[str, str]:
    return {
        "PATH": f"{Path(sys.executable).parent}:/usr/local/bin:/usr/bin:/bin",
        "HOME": str(folder),
        "LANG": "C.UTF-8",
        "TMPDIR": str(folder),
        "ANSIBLE_CONFIG": str(FOLDER / "ansible.cfg"),
        "ANSIBLE_HOST_KEY_CHECKING": "True",
        "ANSIBLE_SSH_CONTROL_PATH_DIR": str(folder / "cp"),
        "ANSIBLE_TIMEOUT": str(_CONNECT_TIMEOUT_S),
        "ANSIBLE_NOCOLOR": "1",
        "ANSIBLE_CALLBACK_PLUGINS": str(get_callback_dir()),
        "ANSIBLE_STDOUT_CALLBACK": "awx_display",
    }


def _runner_config(folder: Path, playbook: str, timeout_s: float) -> RunnerConfig:
    # ansible_runner.run is not usable here, because it replaces this process's signal handlers.
    config = RunnerConfig(
        private_data_dir=str(folder),
        playbook=str(FOLDER / "playbooks" / playbook),
        inventory=str(folder / "hosts.json"),
        cmdline=f"-e @{folder / 'variables.yml'}",
        timeout=max(1, round(timeout_s)),
        quiet=True,
        suppress_env_files=True,
    )
    config.prepare()
    # Replace the environment, which starts as a copy of this process's environment with its keys.
    config.env = {name: config.env[name] for name in _RUNNER_VARIABLES} | _environment(folder)
    return config


class _EventListener:
    """Listener for Ansible's events, which passes tasks to the journal and remembers failures.

    Args:
        secrets: texts to redact from messages.
    """

    def __init__(self, journal: Journal, secrets: list[str]) -> None:
        self._journal = journal
        self._secrets = sorted((secret for secret in secrets if len(secret) >= 8), key=len, reverse=True)
        self.changed = 0
        self._task = ""
        self._failure = ""
        self._unreachable = False
        self._lines: list[str] = []

    def handle(self, event: dict[str, Any]) -> bool:
        """Handle one event, and return False so that ansible-runner does not write it to a file."""
        data = event.get("event_data", {})
        match event.get("event"):
            case "playbook_on_task_start" | "playbook_on_handler_task_start":
                self._task = str(data.get("task", ""))
                self._journal.step(self._task)
            case "runner_on_failed" | "runner_item_on_failed" if not data.get("ignore_errors"):
                self._fail(str(data.get("task")), failure_message(data.get("res", {})))
            case "playbook_on_stats":
                self.changed = sum(data.get("changed", {}).values())
            case "runner_on_unreachable":
                self._unreachable, self._failure = True, failure_message(data.get("res", {}))
        if text := str(event.get("stdout", "")).strip():
            self._lines = [*self._lines, text][-_LAST_LINES:]
        return False

    def _fail(self, task: str, message: str) -> None:
        # A loop's message follows that of its item and contains less.
        if not message.startswith("One or more items failed"):
            self._failure = f"{task}: {message}"

    def error(self, status: str, address: str, timeout_s: float) -> ProviderError:
        """Return the error for a failed run."""
        if status == "timeout":
            return ProviderError(
                f"Ansible took longer than {timeout_s:g} s at '{self._task}' on {address} and was killed."
            )
        message = self._redact(self._failure or " ".join(self._lines) or f"it ended as {status}")
        if self._unreachable:
            return ProviderUnreachable(f"{address} cannot be reached by SSH: {message}")
        return ProviderError(f"Ansible failed on {address}: {message}")

    def _redact(self, text: str) -> str:
        for secret in self._secrets:
            text = text.replace(secret, "***")
        return "".join(char if char.isprintable() else " " for char in text)[:MAX_MESSAGE]


def failure_message(result: Mapping[str, Any]) -> str:
    """Return why a task failed: its message, and for a command the end of its output."""
    if "censored" in result:
        return "it failed; its message is hidden because it may contain a secret"
    message = str(result.get("msg", "")).strip().removeprefix("Task failed: ")
    output = str(result.get("stderr") or result.get("module_stderr") or "").strip().splitlines()
    return (
        " ".join([part for part in (message, " ".join(output[-_LAST_LINES:])) if part]) or "it failed without a message"
    )

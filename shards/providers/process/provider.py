"""Provider of shards that are processes on this host, without isolation, for trusted jobs only.

<home>/shards/<ref>/record.json, environment.json    identity of the shard, and the environment of its worker
<home>/shards/<ref>/config.json, run/, jobs/         files of the worker, after its enrolment
<home>/run/shard-<ref>.json                          pid and start time, so that the next start ends leftovers
"""

from __future__ import annotations

import json
import os
import re
import secrets
import shutil
import signal
import subprocess
import sys
import time
from builtins import list as List  # noqa: N812  # the interface has a method of that name
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from ipaddress import IPv4Address, IPv6Address
from pathlib import Path
from typing import Any

import psutil
from django.conf import settings

from myctobot.contract.names import is_slug
from myctobot.errors import InvalidRequest
from shards.providers.base import (
    ContainerSpec,
    ContainerState,
    ContainerStatus,
    Features,
    Journal,
    ManagedContainer,
    Provider,
)
from shards.providers.errors import ProviderError
from shards.providers.own_addresses import is_own_address

_REF = re.compile(r"[a-z0-9-]{1,40}\.[0-9a-f]{6}")
_START_TIMEOUT_S = 10
_KILL_TIMEOUT_S = 5
_POLL_S = 0.02
_LAST_LINE = 300
_PATH = "/usr/local/bin:/usr/bin:/bin"
# Module in the command line of a worker's fork server and its runners; the path of the configuration follows.
_FORK_SERVER = "workers.runner.fork_server"


@dataclass(frozen=True)
class _Process:
    """Identity of a process: a pid may be reused, but not with the same start time."""

    pid: int
    start_time: int

    def is_alive(self) -> bool:
        return _start_time(self.pid) == self.start_time

    def signal(self, number: signal.Signals) -> None:
        if self.is_alive():
            with suppress(ProcessLookupError):
                os.kill(self.pid, number)

    def family(self) -> List[_Process]:
        """Return the process and its descendants, itself first."""
        try:
            children = psutil.Process(self.pid).children(recursive=True) if self.is_alive() else []
        except psutil.NoSuchProcess:
            children = []
        started = [(child.pid, _start_time(child.pid)) for child in children]
        return [self, *(_Process(pid, at) for pid, at in started if at is not None)]


class ProcessProvider(Provider):
    """Provider that starts workers in their own sessions with a minimal environment."""

    name = "process"
    features = Features(environment=True)

    def __init__(self, home: Path | None = None) -> None:
        self._home = home or settings.MYCTOBOT_HOME

    def problems(self) -> List[str]:
        if shutil.which("setsid", path=_PATH) is None:
            return ["The program 'setsid' is missing; install the package util-linux."]
        return []

    def guards_link(self, address: IPv4Address | IPv6Address) -> bool:
        return is_own_address(address)

    def create(self, spec: ContainerSpec, journal: Journal) -> str:
        if not is_slug(spec.name):
            raise InvalidRequest("The shard's name is not valid.", fields={"name": ["Use a lower-case slug."]})
        if any(one.name == spec.name for one in self.list()):
            raise ProviderError(f"A shard process named '{spec.name}' exists already.")
        ref = f"{spec.name}.{secrets.token_hex(3)}"
        journal.ref(ref)
        journal.step(f"create the folder of {ref}")
        folder = self._folder(ref)
        try:
            folder.mkdir(mode=0o711, parents=True)
            _write(folder / "environment.json", dict(spec.environment))
            _write(folder / "record.json", {"name": spec.name, "created_at": datetime.now(UTC).isoformat()})
        except OSError as error:
            shutil.rmtree(folder, ignore_errors=True)
            raise ProviderError(f"{folder} cannot be created: {error.strerror}.") from error
        return ref

    def start(self, ref: str, journal: Journal) -> None:
        folder = self._known(ref)
        if self._worker(ref) is not None:
            return
        journal.step(f"start {ref}")
        pid_file = self._pid_file(ref)
        pid_file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        launcher = [sys.executable, "-m", "shards.providers.process.launcher", str(folder), str(pid_file)]
        # setsid detaches the worker, so that it survives a restart of this process.
        with (folder / "worker.log").open("ab") as log:
            subprocess.run(
                ["setsid", "--fork", *launcher],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd=settings.BASE_DIR,
                env=self._environment(folder),
                timeout=_START_TIMEOUT_S,
                check=True,
            )
        deadline = time.monotonic() + _START_TIMEOUT_S
        while self._worker(ref) is None:
            if time.monotonic() > deadline:
                raise ProviderError(f"The worker of {ref} did not start: {_last_line(folder)}")
            time.sleep(_POLL_S)

    def stop(self, ref: str, journal: Journal, timeout_s: float = 10) -> None:
        folder = self._known(ref)
        journal.step(f"stop {ref}")
        worker = self._worker(ref)
        if worker is not None:
            worker.signal(signal.SIGTERM)
            _wait_gone([worker], timeout_s)
        # Runners have their own sessions and survive the worker. Leaders end first, so that they start nothing more.
        leaders = [*_runners(folder), *_forked(folder), *([worker] if worker else [])]
        members = [member for leader in leaders for member in leader.family()]
        for member in members:
            member.signal(signal.SIGKILL)
        if left := _wait_gone(members, _KILL_TIMEOUT_S):
            raise ProviderError(f"These processes of {ref} do not end: {', '.join(str(one.pid) for one in left)}.")
        self._pid_file(ref).unlink(missing_ok=True)

    def destroy(self, ref: str, journal: Journal) -> None:
        folder = self._folder(ref)
        if not folder.exists():
            return
        if (folder / "record.json").exists():
            self.stop(ref, journal, timeout_s=0)
        journal.step(f"remove {ref}")
        shutil.rmtree(folder)

    def status(self, ref: str) -> ContainerStatus:
        folder = self._folder(ref)
        if not (folder / "record.json").exists():
            return ContainerStatus(ContainerState.GONE)
        if self._worker(ref) is not None:
            return ContainerStatus(ContainerState.RUNNING)
        return ContainerStatus(ContainerState.STOPPED, detail=_last_line(folder))

    def list(self) -> List[ManagedContainer]:
        found = []
        for path in sorted((self._home / "shards").glob("*/record.json")):
            record, ref = _read(path), path.parent.name
            if record and _REF.fullmatch(ref):
                created_at = datetime.fromisoformat(record["created_at"])
                found.append(ManagedContainer(ref, record["name"], self.status(ref).state, created_at))
        return found

    def set_environment(self, ref: str, environment: Mapping[str, str]) -> None:
        folder = self._known(ref)
        if self._worker(ref) is not None:
            raise ProviderError(f"The shard process '{ref}' runs; stop it first.")
        _write(folder / "environment.json", dict(environment))

    def _environment(self, folder: Path) -> dict[str, str]:
        """Return the worker's environment, without any variable of the caller."""
        for name in ("home", "tmp"):
            (folder / name).mkdir(mode=0o700, exist_ok=True)
        return {
            "PATH": f"{Path(sys.executable).parent}:{_PATH}",
            "LANG": "C.UTF-8",
            "HOME": str(folder / "home"),
            "TMPDIR": str(folder / "tmp"),
            "PYTHONUNBUFFERED": "1",
            **(_read(folder / "environment.json") or {}),
        }

    def _worker(self, ref: str) -> _Process | None:
        return _process_in(self._pid_file(ref))

    def _pid_file(self, ref: str) -> Path:
        return self._home / "run" / f"shard-{ref}.json"

    def _folder(self, ref: str) -> Path:
        if not _REF.fullmatch(ref):
            raise ProviderError(f"'{ref[:60]}' is not a reference of a shard process.")
        return self._home / "shards" / ref

    def _known(self, ref: str) -> Path:
        folder = self._folder(ref)
        if not (folder / "record.json").exists():
            raise ProviderError(f"There is no shard process '{ref}'.")
        return folder


def _start_time(pid: int) -> int | None:
    """Return a process's start in clock ticks since boot (field 22 of proc_pid_stat(5)); None if gone or a zombie."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
    except (FileNotFoundError, ProcessLookupError):
        return None
    # The name in parentheses may contain spaces and parentheses.
    state, *rest = stat.rpartition(")")[2].split()
    return None if state in "ZX" else int(rest[18])


def _runners(folder: Path) -> Iterable[_Process]:
    """Return the worker's live runners, from the files that it keeps for them."""
    return filter(None, map(_process_in, (folder / "run").glob("*.json")))


def _forked(folder: Path) -> Iterable[_Process]:
    """Return the worker's fork servers and their runners, also those without a file yet."""
    config = str(folder / "config.json")
    for process in psutil.process_iter():
        with suppress(psutil.NoSuchProcess):
            command = process.cmdline()
            if _FORK_SERVER in command and command[-1] == config and (at := _start_time(process.pid)) is not None:
                yield _Process(process.pid, at)


def _process_in(path: Path) -> _Process | None:
    record = _read(path)
    try:
        process = _Process(int(record["pid"]), int(record["start_time"]))
    except (TypeError, KeyError, ValueError):
        return None
    return process if process.is_alive() else None


def _wait_gone(processes: Iterable[_Process], timeout_s: float) -> List[_Process]:
    """Wait until the processes have ended, and return those that have not in time."""
    deadline = time.monotonic() + timeout_s
    while (alive := [one for one in processes if one.is_alive()]) and time.monotonic() < deadline:
        time.sleep(_POLL_S)
    return alive


def _read(path: Path) -> Any:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (FileNotFoundError, ValueError):
        return None


def _write(path: Path, values: Mapping[str, str]) -> None:
    """Replace a file atomically; only its owner can read it at any time."""
    draft = path.with_name(f".{path.name}.{os.getpid()}")
    descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW, 0o600)
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        json.dump(values, file)
    draft.replace(path)


def _last_line(folder: Path) -> str:
    """Return the last line of the worker's log, of which only the end is read."""
    with suppress(FileNotFoundError), (folder / "worker.log").open("rb") as log:
        log.seek(max(log.seek(0, os.SEEK_END) - 4096, 0))
        lines = log.read().decode(errors="replace").strip().splitlines()
        return lines[-1][:_LAST_LINE] if lines else ""
    return ""

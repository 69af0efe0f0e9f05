"""Programs of LXC that the provider uses."""

from __future__ import annotations

import time

from shards.providers.errors import ProviderError
from shards.providers.lxc.commands import attempt, failure, run
from shards.providers.lxc.records import ContainerFolder

_START_TIMEOUT_S = 30
_KILL_TIMEOUT_S = 20
_POLL_S = 0.05
_LAST_LINES = 6


def state(place: ContainerFolder) -> str:
    """Return LXC's state: RUNNING, STOPPED, STARTING, STOPPING, FROZEN or ABORTING."""
    if not place.config.exists():
        return "STOPPED"
    return run("lxc-info", *_options(place), "--state", "--no-humanize").strip()


def start(place: ContainerFolder) -> None:
    """Start a container in the background and wait until it runs.

    Raises:
        ProviderError: it did not start; the error has the end of LXC's log.
    """
    place.log.unlink(missing_ok=True)
    command = ("lxc-start", *_options(place), "--daemon", "--logpriority", "WARN", "--logfile", str(place.log))
    done = attempt(*command, timeout_s=_START_TIMEOUT_S)
    if done.returncode:
        raise failure(command, _log(place) or done.stderr.strip())
    _wait(place, "RUNNING", _START_TIMEOUT_S)


def stop(place: ContainerFolder, timeout_s: float) -> None:
    """Ask the first process to end, and kill all processes after ``timeout_s``; 0 kills them at once."""
    if state(place) == "STOPPED":
        return
    # A frozen container receives no signals.
    attempt("lxc-unfreeze", *_options(place))
    if timeout_s > 0:
        attempt(
            "lxc-stop", *_options(place), "--nokill", "--timeout", str(int(timeout_s) or 1), timeout_s=timeout_s + 10
        )
    if state(place) != "STOPPED":
        attempt("lxc-stop", *_options(place), "--kill", timeout_s=_KILL_TIMEOUT_S)
    _wait(place, "STOPPED", _KILL_TIMEOUT_S)


def _wait(place: ContainerFolder, wanted: str, timeout_s: float) -> None:
    deadline = time.monotonic() + timeout_s
    while (now := state(place)) != wanted:
        if time.monotonic() > deadline:
            raise ProviderError(f"The container '{place.ref}' is {now.lower()}, not {wanted.lower()}: {_log(place)}")
        time.sleep(_POLL_S)


def _options(place: ContainerFolder) -> tuple[str, ...]:
    return ("--name", place.ref, "--lxcpath", str(place.path.parent))


def _log(place: ContainerFolder) -> str:
    """Return the last lines of LXC's log, without times and file names."""
    if not place.log.exists():
        return ""
    lines = place.log.read_text(encoding="utf-8", errors="replace").splitlines()[-_LAST_LINES:]
    return "\n".join(line.rpartition(" - ")[2] for line in lines)

"""The few programs of LXC that the provider uses, by container."""

from __future__ import annotations

import time

from shards.providers.errors import ProviderError
from shards.providers.lxc.commands import attempt, failure, run
from shards.providers.lxc.records import Place

_START_TIMEOUT_S = 30
_KILL_TIMEOUT_S = 20
_POLL_S = 0.05
_LAST_LINES = 6


def state(place: Place) -> str:
    """LXC's own word for how it is: RUNNING, STOPPED, STARTING, STOPPING, FROZEN, ABORTING."""
    if not place.config.exists():
        return "STOPPED"
    return run("lxc-info", *_who(place), "--state", "--no-humanize").strip()


def start(place: Place) -> None:
    """Start it in the background and wait until it runs.

    Raises:
        ProviderError: it does not; the error has the end of LXC's log.
    """
    place.log.unlink(missing_ok=True)
    command = ("lxc-start", *_who(place), "--daemon", "--logpriority", "WARN", "--logfile", str(place.log))
    done = attempt(*command, timeout_s=_START_TIMEOUT_S)
    if done.returncode:
        raise failure(command, _log(place) or done.stderr.strip())
    _wait(place, "RUNNING", _START_TIMEOUT_S)


def stop(place: Place, timeout_s: float) -> None:
    """Ask its first process to end, and kill all of it after ``timeout_s``; at once when that is 0."""
    if state(place) == "STOPPED":
        return
    # A frozen one hears no signal.
    attempt("lxc-unfreeze", *_who(place))
    if timeout_s > 0:
        attempt("lxc-stop", *_who(place), "--nokill", "--timeout", str(int(timeout_s) or 1), timeout_s=timeout_s + 10)
    if state(place) != "STOPPED":
        attempt("lxc-stop", *_who(place), "--kill", timeout_s=_KILL_TIMEOUT_S)
    _wait(place, "STOPPED", _KILL_TIMEOUT_S)


def _wait(place: Place, wanted: str, timeout_s: float) -> None:
    deadline = time.monotonic() + timeout_s
    while (now := state(place)) != wanted:
        if time.monotonic() > deadline:
            raise ProviderError(f"The container '{place.ref}' is {now.lower()}, not {wanted.lower()}: {_log(place)}")
        time.sleep(_POLL_S)


def _who(place: Place) -> tuple[str, ...]:
    return ("--name", place.ref, "--lxcpath", str(place.path.parent))


def _log(place: Place) -> str:
    """The last lines of what LXC wrote, without its clock and file names."""
    if not place.log.exists():
        return ""
    lines = place.log.read_text(encoding="utf-8", errors="replace").splitlines()[-_LAST_LINES:]
    return "\n".join(line.rpartition(" - ")[2] for line in lines)

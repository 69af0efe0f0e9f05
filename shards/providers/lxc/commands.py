"""Runs the host's programs: with a timeout, an environment made from nothing, and errors that say why."""

from __future__ import annotations

import subprocess
from collections.abc import Mapping

from shards.providers.errors import OutOfRoom, ProviderBusy, ProviderError

# Nothing of the caller's environment reaches a container's monitor, whose children all inherit it.
ENVIRONMENT: Mapping[str, str] = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL": "C.UTF-8"}
_LAST_LINES = 4
_MAX_SAID = 600


def run(
    *command: str, timeout_s: float = 20, text: str | None = None, environment: Mapping[str, str] | None = None
) -> str:
    """Run a program and return what it wrote to standard output.

    Args:
        text: what it reads from standard input; nothing when it is None.
        environment: beside ``ENVIRONMENT``.

    Raises:
        ProviderError: it is missing, it failed, or it took longer than ``timeout_s``; with its own last words.
    """
    done = attempt(*command, timeout_s=timeout_s, text=text, environment=environment)
    if done.returncode:
        raise failure(command, done.stderr.strip() or done.stdout.strip() or f"exit code {done.returncode}")
    return done.stdout


def attempt(
    *command: str, timeout_s: float = 20, text: str | None = None, environment: Mapping[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    """As ``run``, for a program whose failure is an answer."""
    try:
        return subprocess.run(
            command,
            input=text,
            stdin=subprocess.DEVNULL if text is None else None,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=timeout_s,
            check=False,
            env={**ENVIRONMENT, **(environment or {})},
        )
    except FileNotFoundError:
        raise ProviderError(f"There is no program '{command[0]}' on this host; install it.") from None
    except subprocess.TimeoutExpired:
        raise ProviderBusy(f"'{command[0]}' did not end within {timeout_s:g} s.") from None


def failure(command: tuple[str, ...], said: str) -> ProviderError:
    """The error that fits what a program said when it failed."""
    words = " / ".join(said.splitlines()[-_LAST_LINES:])[:_MAX_SAID]
    kind = OutOfRoom if "No space left on device" in said else ProviderError
    return kind(f"{command[0]} failed: {words}")

"""Programs of the host, run with a timeout, a minimal environment and clear errors."""

from __future__ import annotations

import subprocess
from collections.abc import Mapping

from shards.providers.errors import OutOfRoom, ProviderBusy, ProviderError

# A container's monitor passes its environment to all children, so the caller's environment must not reach it.
ENVIRONMENT: Mapping[str, str] = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL": "C.UTF-8"}
_LAST_LINES = 4
_MAX_MESSAGE = 600


def run(
    *command: str, timeout_s: float = 20, text: str | None = None, environment: Mapping[str, str] | None = None
) -> str:
    """Run a program and return its standard output.

    Args:
        text: standard input; None means no input.
        environment: variables in addition to ``ENVIRONMENT``.

    Raises:
        ProviderError: the program is missing, failed, or took longer than ``timeout_s``; with its last output.
    """
    done = attempt(*command, timeout_s=timeout_s, text=text, environment=environment)
    if done.returncode:
        raise failure(command, done.stderr.strip() or done.stdout.strip() or f"exit code {done.returncode}")
    return done.stdout


def attempt(
    *command: str, timeout_s: float = 20, text: str | None = None, environment: Mapping[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    """Run a program like ``run``, but return the result of a failed one."""
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
        raise ProviderError(f"The program '{command[0]}' is missing on this host; install it.") from None
    except subprocess.TimeoutExpired:
        raise ProviderBusy(f"'{command[0]}' did not end within {timeout_s:g} s.") from None


def failure(command: tuple[str, ...], output: str) -> ProviderError:
    """Return the error for a failed program and its output."""
    message = " / ".join(output.splitlines()[-_LAST_LINES:])[:_MAX_MESSAGE]
    kind = OutOfRoom if "No space left on device" in output else ProviderError
    return kind(f"{command[0]} failed: {message}")

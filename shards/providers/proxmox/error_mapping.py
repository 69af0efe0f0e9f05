"""Mapping of Proxmox's errors to ours; pure.

Proxmox reports almost every error as a status 500 with a sentence, and a failed task has the same sentence. The mapping
therefore matches the sentences of pve-container, pve-storage and pve-access-control.
"""

from __future__ import annotations

import re
from typing import Final, Protocol

from shards.providers.errors import OutOfRoom, ProviderBusy, ProviderError, ProviderRefused, ProviderUnreachable
from shards.providers.proxmox.errors import NoSuchContainer, OutcomeUnknown, TaskFailed, VmidTaken

_PERMISSION = re.compile(r"Permission check failed(?: \((?P<what>.*)\))?", re.IGNORECASE)
_RIGHT = re.compile(r"(?P<path>/[^,\s]*), (?P<privileges>[A-Za-z]+\.[A-Za-z.|]+)")
_TAKEN = re.compile(r"\b(?:CT|VM|container) '?\d+'? already exists|config file already exists", re.IGNORECASE)
_LOCKED = re.compile(
    r"(?:CT|VM) is locked|can't lock file|got lock (?:request )?timeout|Lost '\w+' config lock", re.IGNORECASE
)
_ABSENT = re.compile(
    r"(?:Configuration file|no such (?:CT|VM|container)).*does not exist|no such (?:CT|VM)", re.IGNORECASE
)
_FULL = re.compile(
    r"not enough (?:free )?(?:space|memory)|no space left|insufficient free (?:space|extents)|out of space"
    r"|quota exceeded|storage .* is full|would exceed|cannot allocate memory|not enough free space",
    re.IGNORECASE,
)
_LINKED = re.compile(r"Linked clone feature for .* is not available", re.IGNORECASE)
# A gateway or a cluster node gave up waiting, but the request may have arrived.
_GATEWAY: Final = frozenset({502, 503, 504, 595, 596, 597, 598, 599})
# With these, no connection was established, so nothing was done.
_NOT_SENT: Final = frozenset({503, 595})


class ProxmoxResponse(Protocol):
    """Error that ``proxmoxer`` raises for a status of 400 or more."""

    status_code: int
    content: str
    errors: object


def from_answer(answer: ProxmoxResponse, method: str, path: str) -> ProviderError:
    """Return the error for a response of the API."""
    status, text = answer.status_code, _plain(answer.content)
    if status == 401:
        return ProviderRefused(
            "Proxmox does not accept the token: check PROXMOX_TOKEN_ID and PROXMOX_TOKEN_SECRET, and that the token and"
            " its user are enabled and not expired."
        )
    if status == 403 or _PERMISSION.search(text):
        return refused(text, path)
    if status in _GATEWAY:
        kind = ProviderUnreachable if method == "GET" or status in _NOT_SENT else OutcomeUnknown
        return kind(f"Proxmox answers {status} ({text or 'no reason given'}) to {method} {path}.")
    if status == 400:
        return _parameters(answer.errors, text)
    return from_text(text, ProviderError, f"Proxmox refused {method} {path}: ")


def from_text(text: str, otherwise: type[ProviderError], before: str = "") -> ProviderError:
    """Return the error for a sentence of a response or task; ``otherwise`` is used for unknown sentences."""
    if _PERMISSION.search(text):
        return refused(text, "")
    for pattern, kind, hint in (
        (_TAKEN, VmidTaken, ""),
        (_LOCKED, ProviderBusy, " Another change is in progress; try again later."),
        (_ABSENT, NoSuchContainer, ""),
        (_FULL, OutOfRoom, " Free some room, or choose another storage or node."),
        (
            _LINKED,
            otherwise,
            " Set PROXMOX_FULL_CLONES=true, or keep the template on a storage that supports linked clones.",
        ),
    ):
        if pattern.search(text):
            return kind(f"{before}{text}.{hint}")
    return otherwise(f"{before}{text or 'no reason given'}.")


def task_failed(action: str, exitstatus: str, log: list[str]) -> ProviderError:
    """Return the error for a failed task, from its status and its last log lines."""
    lines = [_plain(line) for line in log if line.strip() and not line.startswith("TASK ")][-5:]
    text = "; ".join(dict.fromkeys([_plain(exitstatus), *lines]))
    return from_text(text, TaskFailed, f"The task to {action} failed: ")


def refused(text: str, path: str) -> ProviderRefused:
    """Return an error that names the missing privilege and its path."""
    if found := _RIGHT.search(text):
        privileges = " or ".join(found["privileges"].split("|"))
        return ProviderRefused(
            f"The token lacks {privileges} on {found['path']}: grant it to token and user (docs/proxmox.md).",
            path=found["path"],
            privileges=found["privileges"].split("|"),
        )
    match = _PERMISSION.search(text)
    return ProviderRefused(f"Proxmox denies access{f' ({path})' if path else ''}: {(match and match['what']) or text}.")


def _parameters(errors: object, text: str) -> ProviderError:
    named = errors if isinstance(errors, dict) else {}
    problems = "; ".join(f"{name}: {_plain(str(problem))}" for name, problem in named.items())
    return from_text(problems or text, ProviderError, "Proxmox does not accept these parameters: ")


def _plain(text: object) -> str:
    """Return one line of bounded length without unprintable characters, which could falsify logs."""
    line = " ".join(str(text or "").split())
    return "".join(char for char in line if char.isprintable())[:500].rstrip(".")

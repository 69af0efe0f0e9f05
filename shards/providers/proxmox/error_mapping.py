"""What Proxmox says went wrong, as our errors. Pure.

Nearly everything that Proxmox refuses is a 500 with a sentence, and a task's end is the same sentence, so sentences are
what there is to go by. They are those of pve-container, pve-storage and pve-access-control.
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
# A gateway in front, or one node of the cluster to the next, gave up: the request may have arrived all the same.
_GATEWAY: Final = frozenset({502, 503, 504, 595, 596, 597, 598, 599})
# Of these it is certain that nothing was done: no connection came about.
_NOT_SENT: Final = frozenset({503, 595})


class Answer(Protocol):
    """What ``proxmoxer`` raises for a status of 400 and more."""

    status_code: int
    content: str
    errors: object


def from_answer(answer: Answer, method: str, path: str) -> ProviderError:
    """The error for an answer of the API."""
    status, text = answer.status_code, _plain(answer.content)
    if status == 401:
        return ProviderRefused(
            "Proxmox does not accept the token: check PROXMOX_TOKEN_ID and PROXMOX_TOKEN_SECRET, and whether the token"
            " or its user has expired or been disabled."
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
    """The error for a sentence of Proxmox, an answer's or a task's; ``otherwise`` when it says nothing known."""
    if _PERMISSION.search(text):
        return refused(text, "")
    for pattern, kind, hint in (
        (_TAKEN, VmidTaken, ""),
        (_LOCKED, ProviderBusy, " Another change of it is under way; try again later."),
        (_ABSENT, NoSuchContainer, ""),
        (_FULL, OutOfRoom, " Free some room, or choose another storage or node."),
        (_LINKED, otherwise, " Set PROXMOX_FULL_CLONES=true, or keep the template on a storage that can."),
    ):
        if pattern.search(text):
            return kind(f"{before}{text}.{hint}")
    return otherwise(f"{before}{text or 'no reason given'}.")


def task_failed(what: str, exitstatus: str, log: list[str]) -> ProviderError:
    """The error for a task that ended badly. Its last lines tell more than its status, and decide alike."""
    lines = [_plain(line) for line in log if line.strip() and not line.startswith("TASK ")][-5:]
    said = "; ".join(dict.fromkeys([_plain(exitstatus), *lines]))
    return from_text(said, TaskFailed, f"The task to {what} failed: ")


def refused(text: str, path: str) -> ProviderRefused:
    """Names the privilege that is missing, and where."""
    if found := _RIGHT.search(text):
        privileges = " or ".join(found["privileges"].split("|"))
        return ProviderRefused(
            f"The token lacks {privileges} on {found['path']}: grant it to token and user (docs/proxmox.md).",
            path=found["path"],
            privileges=found["privileges"].split("|"),
        )
    said = _PERMISSION.search(text)
    return ProviderRefused(f"Proxmox forbids that{f' ({path})' if path else ''}: {(said and said['what']) or text}.")


def _parameters(errors: object, text: str) -> ProviderError:
    named = errors if isinstance(errors, dict) else {}
    said = "; ".join(f"{name}: {_plain(str(what))}" for name, what in named.items())
    return from_text(said or text, ProviderError, "Proxmox does not take these parameters: ")


def _plain(text: object) -> str:
    """One line of bounded length, without what could deceive a reader of logs."""
    line = " ".join(str(text or "").split())
    return "".join(char for char in line if char.isprintable())[:500].rstrip(".")

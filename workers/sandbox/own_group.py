"""Group of the worker itself, which decides whether the kernel can limit the memory of its agents.

Version 2 enables controllers only below a group that has no processes of its own: see "No Internal Process Constraint"
in Documentation/admin-guide/cgroup-v2.rst of the kernel's source. So the worker and its runners must be in a leaf, and
the agents' groups next to it (``limits.group_bases``).
"""

from __future__ import annotations

import logging
import os
import pwd
import shutil
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Final

from workers.sandbox import process_tree
from workers.sandbox.limits import LEAF, V2, group_bases, own_groups

log = logging.getLogger(__name__)

SYSTEMD: Final = Path("/run/systemd/system")
UNITS: Final = (".scope", ".service", ".slice")
LINGER: Final = Path("/var/lib/systemd/linger")
# Its value is the number of the process that systemd-run replaced by this program.
STARTED_IN_SCOPE: Final = "MYCTOBOT_SCOPE_OF"
# The groups of agents and git have limits on processes, so the scope needs none.
SCOPE: Final = (
    *("--scope", "--quiet", "--collect", "--no-ask-password"),
    *("--property=Delegate=yes", "--property=TasksMax=infinity"),
)
TRIAL_TIMEOUT_S: Final = 10
# From the exec of systemd-run to this program's next call of ``prepare``.
EXEC_TIMEOUT_S: Final = 60
MAX_MESSAGE: Final = 300
_TRIES: Final = 5


def prepare() -> None:
    """Move this process to where it can create groups with a memory controller, and log why it cannot.

    Call it once, before this process has threads. It does nothing where version 1 limits memory. It may start this
    program again, in the same process and with the same arguments, in a scope of systemd.
    """
    in_scope = os.environ.get(STARTED_IN_SCOPE) == str(os.getpid())
    if in_scope:
        signal.alarm(0)
    group = _unprepared_group()
    if group is None:
        return
    # Until version 254, systemd cannot restart a service in whose own group controllers are enabled.
    if group.suffix != ".service" and (in_scope or is_delegated(group)) and enter_leaf(group):
        log.info("agents have control groups in %s", group)
        return
    if (unit := _unit_of(group)).endswith(".service"):
        problem = f"{unit} needs Delegate=yes and DelegateSubgroup={LEAF} (systemd 254 or newer)"
    elif in_scope:
        problem = f"the scope {group} cannot be used"
    else:
        problem = start_in_scope(group)
    log.warning("there is no control group for the agents' memory: %s", problem)


def _unprepared_group() -> Path | None:
    """Return the group of this process in version 2; None if it is in the leaf, or if version 1 limits memory."""
    try:
        cgroup, mountinfo = Path("/proc/self/cgroup").read_text(), Path("/proc/self/mountinfo").read_text()
    except OSError:
        return None
    own = own_groups(cgroup, mountinfo)
    is_prepared = "memory" in own or group_bases(cgroup, mountinfo) != own
    return None if is_prepared else own.get(V2)


def _unit_of(group: Path) -> str:
    """Return the name of the systemd unit to which a group belongs, or an empty text."""
    return next((part for part in reversed(group.parts) if Path(part).suffix in UNITS), "")


def is_delegated(group: Path) -> bool:
    """Return False if systemd manages the group itself, because it could then disable controllers at any time."""
    # Only a unit with delegation makes groups below its own.
    if not SYSTEMD.is_dir() or _unit_of(group) not in ("", group.name):
        return True
    for name in ("trusted.delegate", "user.delegate"):
        with suppress(OSError):
            if os.getxattr(group, name) == b"1":
                return True
    return False


def enter_leaf(group: Path, controller: str = "memory") -> bool:
    """Move this process and its descendants from a group into its leaf, and enable a controller for other subgroups.

    Args:
        group: group of this process.
        controller: name of the controller.

    Returns:
        False if the group has other processes, is not writable or does not have the controller.
    """
    leaf = group / LEAF
    problem: OSError | None = None
    # A descendant may start or end processes at the same time.
    for _ in range(_TRIES):
        try:
            members = {int(pid) for pid in (group / "cgroup.procs").read_text().split()}
            if not members <= process_tree.descendants(process_tree.snapshot(), [os.getpid()]):
                return False
            leaf.mkdir(exist_ok=True)
            for pid in members:
                (leaf / "cgroup.procs").write_text(str(pid))
            (group / "cgroup.subtree_control").write_text(f"+{controller}")
        except OSError as error:
            problem = error
        else:
            return True
    log.debug("%s: %s", group, problem)
    with suppress(OSError):
        leaf.rmdir()
    return False


def start_in_scope(group: Path) -> str:
    """Start this program again in a delegated scope of systemd; return the reason if that is impossible.

    ``systemd-run --scope`` executes its command in its own process. So the process number, the parent, the standard
    streams and inherited descriptors stay.

    Args:
        group: group of this process.
    """
    program = shutil.which("systemd-run")
    if program is None or not SYSTEMD.is_dir():
        return f"{group} has other processes or cannot be written, and there is no systemd or no systemd-run"
    environment = dict(os.environ)
    command = [program, *SCOPE, "--"]
    if os.geteuid() != 0:
        if problem := _find_user_manager(group, environment):
            return problem
        command.insert(1, "--user")
    this = [sys.executable, *sys.orig_argv[1:]]
    if any("$" in word for word in this):
        return "systemd-run would replace the $ in this program's arguments"
    if problem := _trial(command, environment):
        return f"systemd-run failed: {problem}"
    environment[STARTED_IN_SCOPE] = str(os.getpid())
    try:
        # The timer continues after the exec, so that a process that waits for systemd forever ends.
        signal.alarm(EXEC_TIMEOUT_S)
        os.execve(program, [*command, *this], environment)  # noqa: S606  # the worker's own program
    except OSError as error:
        signal.alarm(0)
        return f"systemd-run failed: {error}"


def _find_user_manager(group: Path, environment: dict[str, str]) -> str:
    """Set the variable by which systemd-run finds the user's service manager; return the reason if there is none."""
    uid = os.geteuid()
    runtime = environment.setdefault("XDG_RUNTIME_DIR", f"/run/user/{uid}")
    try:
        name = pwd.getpwuid(uid).pw_name
    except KeyError:
        return f"user {uid} has no name, so it has no service manager"
    # Without lingering, the manager and all its scopes end when the user logs out.
    if f"user@{uid}.service" not in group.parts and not (LINGER / name).exists():
        return f"the service manager of user {name} ends at logout; run 'loginctl enable-linger {name}'"
    if not Path(runtime, "systemd/private").exists():
        return f"the service manager of user {name} does not run"
    return ""


def _trial(command: Sequence[str], environment: Mapping[str, str]) -> str:
    """Run a command that does nothing in a scope; return the reason if it fails."""
    try:
        done = subprocess.run(
            [*command, "true"],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            env=environment,
            timeout=TRIAL_TIMEOUT_S,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        return str(error)[:MAX_MESSAGE]
    if done.returncode == 0:
        return ""
    return done.stderr.decode(errors="replace").strip()[:MAX_MESSAGE] or f"it returned {done.returncode}"

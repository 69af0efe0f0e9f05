"""A worker's new start in a scope of a real systemd."""

from __future__ import annotations

import re
from pathlib import Path

import workers
from shards.providers.lxc.provider import LxcProvider

from .conftest import running
from .inside import inside, output, wait_booted

FOLDER = "/opt/scope"
MODULES = ("__init__.py", "errors.py", "sandbox/__init__.py", "sandbox/limits.py", "sandbox/own_group.py",
           "sandbox/process_tree.py")  # fmt: skip
# It prints what must stay the same, with the signal at the parent's death, once before the new start and once after it.
PROGRAM = """
import ctypes, os, signal, sys
from pathlib import Path
from workers.sandbox import limits, own_group

def facts():
    death = ctypes.c_int()
    ctypes.CDLL(None).prctl(2, ctypes.byref(death), 0, 0, 0)
    return [os.getpid(), os.getppid(), os.readlink("/proc/self/fd/9"), os.readlink("/proc/self/fd/0"), death.value]

def cgroup():
    return Path("/proc/self/cgroup").read_text()

if own_group.STARTED_IN_SCOPE not in os.environ:
    ctypes.CDLL(None).prctl(1, signal.SIGTERM, 0, 0, 0)
    reading, writing = os.pipe()
    os.dup2(reading, 9)
    print(facts(), flush=True)
    print(own_group.start_in_scope(Path("/group")), flush=True)
else:
    group = limits.own_groups(cgroup(), Path("/proc/self/mountinfo").read_text())[limits.V2]
    own_group.prepare()
    print(facts(), signal.getitimer(signal.ITIMER_REAL)[0], flush=True)
    # On a machine where version 1 limits memory, only the move succeeds.
    own_group.enter_leaf(group)
    print(cgroup().strip().splitlines()[-1], flush=True)
    manager = ["--user"] if os.getuid() else []
    os.execlp("systemctl", "systemctl", *manager, "show", "--property=Delegate,TasksMax", "--value", group.name)
"""
COMMAND = ("env", f"PYTHONPATH={FOLDER}", "python3", f"{FOLDER}/program.py")
USER = "worker"


def put(maker: LxcProvider, ref: str, path: str, text: str) -> None:
    done = inside(maker, ref, "sh", "-c", 'mkdir -p "${0%/*}" && cat >"$0"', path, text=text)
    assert done.returncode == 0, done.stderr


def container(maker: LxcProvider) -> str:
    """Start a container that has the program, and the modules that it needs."""
    ref = running(maker, "alpha")
    assert wait_booted(maker, ref) == "running"
    root = Path(workers.__file__).parent
    for name in MODULES:
        put(maker, ref, f"{FOLDER}/workers/{name}", (root / name).read_text())
    put(maker, ref, f"{FOLDER}/program.py", PROGRAM)
    return ref


def assert_same_process_in_scope(said: str) -> None:
    before, after, group, *properties = said.splitlines()
    assert after == f"{before} 0.0"
    assert "pipe:" in before
    assert before.endswith(" 15]")
    assert re.fullmatch(r"0::/\S+\.slice/run-\w+(-\w+)?\.scope/shard-worker", group)
    assert sorted(properties) == ["infinity", "yes"]


def test_a_worker_of_root_stays_the_same_process_in_a_scope_of_the_system(maker: LxcProvider) -> None:
    ref = container(maker)
    assert_same_process_in_scope(output(maker, ref, *COMMAND))


def test_a_worker_of_a_user_stays_the_same_process_in_a_scope_of_its_manager(maker: LxcProvider) -> None:
    ref = container(maker)
    output(maker, ref, "useradd", "--uid=1000", USER)
    output(maker, ref, "install", "--directory", f"--owner={USER}", "--mode=700", "/run/user/1000")
    # The container has no PAM module that would start the manager of a user who lingers.
    put(maker, ref, f"/var/lib/systemd/linger/{USER}", "")
    manager = ("systemd-run", "--uid=1000", "--service-type=notify", "--property=Delegate=yes")
    output(maker, ref, *manager, "--setenv=XDG_RUNTIME_DIR=/run/user/1000", "/lib/systemd/systemd", "--user")
    as_user = ("setpriv", "--reuid=1000", "--regid=1000", "--clear-groups", "--", *COMMAND)
    assert_same_process_in_scope(output(maker, ref, *as_user))

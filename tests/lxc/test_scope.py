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
# Its parent holds the write end of a pipe, and tells the kernel's number of the signal at the parent's death.
PROGRAM = """
import ctypes, os, signal, sys
from pathlib import Path
from workers.sandbox import own_group

def facts():
    death = ctypes.c_int()
    ctypes.CDLL(None).prctl(2, ctypes.byref(death), 0, 0, 0)
    return [os.getpid(), os.getppid(), os.readlink("/proc/self/fd/9"), os.readlink("/proc/self/fd/0"), death.value]

def unit():
    return next(line for line in Path("/proc/self/cgroup").read_text().splitlines() if "name=systemd" in line
                or line.startswith("0::") and line != "0::/").rsplit("/", 1)[1]

if own_group.STARTED_IN_SCOPE not in os.environ:
    ctypes.CDLL(None).prctl(1, signal.SIGTERM, 0, 0, 0)
    reading, writing = os.pipe()
    os.dup2(reading, 9)
    print(facts(), flush=True)
    print(own_group.start_in_scope(Path("/group")), flush=True)
else:
    own_group.prepare()
    print(facts(), signal.getitimer(signal.ITIMER_REAL)[0], flush=True)
    print(unit(), flush=True)
    os.execlp("systemctl", "systemctl", "show", "--property=Delegate", "--value", unit())
"""


def put(maker: LxcProvider, ref: str, path: str, text: str) -> None:
    done = inside(maker, ref, "sh", "-c", 'mkdir -p "${0%/*}" && cat >"$0"', path, text=text)
    assert done.returncode == 0, done.stderr


def test_a_worker_starts_again_in_a_scope_and_stays_the_same_process(maker: LxcProvider) -> None:
    ref = running(maker, "alpha")
    assert wait_booted(maker, ref) == "running"
    root = Path(workers.__file__).parent
    for name in MODULES:
        put(maker, ref, f"{FOLDER}/workers/{name}", (root / name).read_text())
    put(maker, ref, f"{FOLDER}/program.py", PROGRAM)
    command = ("env", f"PYTHONPATH={FOLDER}", "python3", f"{FOLDER}/program.py")
    before, after, unit, delegate = output(maker, ref, *command).splitlines()
    assert after == f"{before} 0.0"
    assert "pipe:" in before
    assert before.endswith(" 15]")
    assert re.fullmatch(r"run-\w+(-\w+)?\.scope", unit)
    assert delegate == "yes"

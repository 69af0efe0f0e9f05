"""Memory of processes as an ordinary user measures it."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from myctobot.stack.plan import CHECKOUT
from tests.fixtures.ordinary_user import as_ordinary_user

# The kernel gives the files of an ended process to root.
ENDED = """
import os, time
from workers.sandbox.memory_use import used_bytes

child = os.fork()
if child == 0:
    os._exit(0)
while open(f"/proc/{child}/stat").read().rpartition(")")[2].split()[0] != "Z":
    time.sleep(0.01)
print(os.access(f"/proc/{child}/fd", os.R_OK), used_bytes([child], []))
"""
THREAD = """
import ctypes, os, platform, threading, time
from workers.sandbox.memory_use import used_bytes

ready, done = os.pipe(), os.pipe()
child = os.fork()
if child == 0:
    def use():
        kept = b"x" * 20_000_000
        open(os.memfd_create("x"), "wb").write(bytes(30_000_000))
        os.write(ready[1], b"x")
        os.read(done[0], 1)
        os._exit(0)
    threading.Thread(target=use).start()
    ctypes.CDLL(None).syscall({"x86_64": 60, "aarch64": 93}[platform.machine()], 0)
os.read(ready[0], 1)
while open(f"/proc/{child}/stat").read().rpartition(")")[2].split()[0] != "Z":
    time.sleep(0.01)
print(used_bytes([child], []) > 20_000_000)
os.write(done[1], b"x")
"""


def run(program: str) -> str:
    command = [sys.executable, "-c", program]
    command = as_ordinary_user(command) if os.geteuid() == 0 else command
    environment = {"PATH": "/usr/bin:/bin:/usr/sbin:/sbin", "LC_ALL": "C.UTF-8"}
    done = subprocess.run(
        command, cwd=CHECKOUT, env=environment, capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


@pytest.mark.needs("root")
def test_an_ended_process_has_no_memory() -> None:
    assert run(ENDED) == "False 0"


@pytest.mark.needs("root")
def test_a_process_whose_first_thread_has_ended_has_its_memory() -> None:
    assert run(THREAD) == "True"

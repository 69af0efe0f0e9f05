"""Attacks of an agent on the kernel, from a sandbox that root or an ordinary user started."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from myctobot.stack.plan import CHECKOUT
from tests.attacks.sandbox_scene import AGENT
from workers.sandbox import seccomp

MACHINE = list(seccomp.AUDIT_ARCH).index(os.uname().machine)
REFUSED = {"EPERM", "ENOSYS", "EAFNOSUPPORT"}
# Calls of the kernel, by name, number and arguments, and the error that each must have.
CALLS = {name: numbers[MACHINE] for name, numbers in seccomp.DENIED.items() if numbers[MACHINE] is not None}
PYTHON = """python3 - <<'END'
import ctypes, errno, socket
kernel = ctypes.CDLL(None, use_errno=True)
def call(name, number, *arguments):
    result = kernel.syscall(number, *arguments)
    print(name, "done" if result >= 0 else errno.errorcode[ctypes.get_errno()])
{}
END
"""


def run(user: str, script: str, before: str = "") -> list[str]:
    """Run a script in a new sandbox, and return the lines of its output."""
    # Other users cannot enter pytest's own directories.
    with tempfile.TemporaryDirectory(dir="/tmp") as directory:
        Path(directory).chmod(0o777)
        command = [sys.executable, "-c", f"{before}\nfrom tests.attacks.sandbox_scene import main; main()"]
        done = subprocess.run(
            [*command, f"{directory}/job", user],
            cwd=CHECKOUT,
            env={"PATH": "/usr/bin:/bin"},
            input=script.encode(),
            capture_output=True,
            timeout=120,
            check=False,
        )
    assert done.returncode == 0, done.stderr.decode()
    return done.stdout.decode().splitlines()


@pytest.fixture(params=[pytest.param("root", marks=pytest.mark.needs("root")), "ordinary"])
def user(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def test_dangerous_calls_are_refused(user: str) -> None:
    # These would end the test itself if they were not refused.
    tried = {name: number for name, number in CALLS.items() if name not in ("reboot", "vhangup")}
    lines = [f"call('{name}', {number}, 0, 0, 0, 0, 0)" for name, number in tried.items()]
    said = dict(line.split() for line in run(user, PYTHON.format("\n".join(lines))))
    assert said.keys() == tried.keys()
    assert set(said.values()) == {"EPERM"}


def test_no_further_namespace_can_be_made(user: str) -> None:
    clone, clone3 = seccomp.CLONE[MACHINE], seccomp.CLONE3[MACHINE]
    namespaces = {"user": 0x10000000, "net": 0x40000000, "mount": 0x20000, "pid": 0x20000000}
    lines = [f"call('{name}', {clone}, {flag | 17}, 0, 0, 0, 0)" for name, flag in namespaces.items()]
    said = run(user, PYTHON.format("\n".join([*lines, f"call('clone3', {clone3}, 0, 0)"])))
    assert said == [*(f"{name} EPERM" for name in namespaces), "clone3 ENOSYS"]
    assert "unshare failed" in " ".join(run(user, "unshare --user --map-root-user id -u"))


def test_only_local_and_internet_sockets_can_be_made(user: str) -> None:
    families = "for name in ('AF_VSOCK', 'AF_PACKET', 'AF_ALG', 'AF_NETLINK'):"
    attempt = "\n try: socket.socket(getattr(socket, name), socket.SOCK_RAW, 9); print(name, 'done')"
    said = run(user, PYTHON.format(f"{families}{attempt}\n except OSError as error: print(name, error.errno)"))
    assert said == ["AF_VSOCK 97", "AF_PACKET 97", "AF_ALG 97", "AF_NETLINK 97"]
    opened = run(user, PYTHON.format("socket.socketpair(); print(socket.getaddrinfo('localhost', 80)[0][4][1])"))
    assert opened == ["80"]


def test_the_kernels_addresses_and_keys_cannot_be_read(user: str) -> None:
    files = "/proc/kallsyms /proc/keys /proc/key-users"
    said = run(user, f"for file in {files}; do test -e $file && head -c 1 $file | wc -c; done 2>/dev/null")
    assert set(said) <= {"0"}
    assert said


def test_the_agent_owns_no_file_system_in_memory_but_its_temporary_folders(user: str) -> None:
    script = """
for folder in /tmp /dev/shm / /dev /dev/pts /etc /home /proc /run /sys /usr /var; do
    (echo x > $folder/x) 2>/dev/null && echo $folder
done
true"""
    assert run(user, script) == ["/tmp", "/dev/shm"]


@pytest.mark.needs("root")
def test_a_later_job_of_the_slot_cannot_read_the_keys_of_an_earlier_one() -> None:
    """An earlier process of the same user leaves a key in the user's keyring."""
    add, keyctl = (seccomp.DENIED[name][MACHINE] for name in ("add_key", "keyctl"))
    leave = f"""
import ctypes, os
if os.fork() == 0:
    os.setresgid({AGENT}, {AGENT}, {AGENT}); os.setresuid({AGENT}, {AGENT}, {AGENT})
    os._exit(ctypes.CDLL(None).syscall({add}, b"user", b"canary", b"left", 4, -4) < 0)
assert os.wait()[1] == 0
"""
    steal = f"""
call('find', {keyctl}, 10, -4, b'user', b'canary', 0)
call('session', {keyctl}, 0, -3, 0)
call('ask', {seccomp.DENIED["request_key"][MACHINE]}, b'user', b'canary', 0, 0)
"""
    assert run("root", PYTHON.format(steal), leave) == ["find EPERM", "session EPERM", "ask EPERM"]

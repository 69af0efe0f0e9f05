"""Filter of system calls, executed by a small interpreter of its instructions."""

from __future__ import annotations

import errno
import socket
import struct

import pytest

from workers.sandbox import seccomp

KILLED, ALLOWED = "killed", "allowed"
CLONE_NEWUSER, SIGCHLD = 0x10000000, 17
MACHINES = list(seccomp.AUDIT_ARCH)


def run(machine: str, number: int, *arguments: int, architecture: int | None = None) -> str:
    """Return what the kernel would do with a system call."""
    arch = seccomp.AUDIT_ARCH[machine] if architecture is None else architecture
    data = struct.pack("<IIQ6Q", number, arch, 0, *arguments, *[0] * (6 - len(arguments)))
    instructions = list(struct.iter_unpack("<HBBI", seccomp.program(machine)))
    position, word = 0, 0
    while True:
        code, if_true, if_false, value = instructions[position]
        position += 1
        if code == seccomp.LOAD:
            (word,) = struct.unpack_from("<I", data, value)
        elif code == seccomp.AND:
            word &= value
        elif code == seccomp.RETURN:
            return _action(value)
        else:
            is_true = word == value if code == seccomp.JUMP_EQUAL else word >= value
            position += if_true if is_true else if_false


def _action(value: int) -> str:
    if value & 0xFFFF0000 == seccomp.ERRNO:
        return errno.errorcode[value & 0xFFFF]
    return {seccomp.KILL_PROCESS: KILLED, seccomp.ALLOW: ALLOWED}[value]


@pytest.mark.parametrize("machine", MACHINES)
@pytest.mark.parametrize("name", seccomp.DENIED)
def test_listed_calls_are_denied(machine: str, name: str) -> None:
    number = seccomp.DENIED[name][MACHINES.index(machine)]
    assert number is None or run(machine, number) == "EPERM"


@pytest.mark.parametrize("machine", MACHINES)
def test_a_new_process_gets_no_namespace(machine: str) -> None:
    clone, clone3 = (numbers[MACHINES.index(machine)] for numbers in (seccomp.CLONE, seccomp.CLONE3))
    assert run(machine, clone, SIGCHLD) == ALLOWED
    for bit in range(32):
        if seccomp.NAMESPACES >> bit & 1:
            assert run(machine, clone, 1 << bit | SIGCHLD) == "EPERM"
    assert run(machine, clone3) == "ENOSYS"


@pytest.mark.parametrize("machine", MACHINES)
@pytest.mark.parametrize(
    ("family", "protocol", "result"),
    [
        (socket.AF_UNIX, 0, ALLOWED),
        (socket.AF_INET, 6, ALLOWED),
        (socket.AF_INET6, 17, ALLOWED),
        (socket.AF_NETLINK, 0, ALLOWED),
        (socket.AF_NETLINK, 9, "EAFNOSUPPORT"),
        (socket.AF_PACKET, 0, "EAFNOSUPPORT"),
        (socket.AF_VSOCK, 0, "EAFNOSUPPORT"),
        (socket.AF_ALG, 0, "EAFNOSUPPORT"),
    ],
)
def test_only_these_sockets_can_be_made(machine: str, family: int, protocol: int, result: str) -> None:
    for numbers in (seccomp.SOCKET, seccomp.SOCKETPAIR):
        assert run(machine, numbers[MACHINES.index(machine)], family, 1, protocol) == result


def test_other_architectures_are_killed() -> None:
    assert run("x86_64", 0, architecture=0x40000003) == KILLED
    assert run("x86_64", seccomp.X32_BIT) == KILLED
    assert run("aarch64", 0, architecture=seccomp.AUDIT_ARCH["x86_64"]) == KILLED
    with pytest.raises(ValueError, match="riscv64"):
        seccomp.program("riscv64")


@pytest.mark.parametrize("machine", MACHINES)
def test_ordinary_calls_are_allowed_and_unknown_ones_do_not_exist(machine: str) -> None:
    denied = {numbers[MACHINES.index(machine)] for numbers in seccomp.DENIED.values()}
    others = set(range(seccomp.LAST_KNOWN + 1)) - denied
    special = {n[MACHINES.index(machine)] for n in (seccomp.CLONE3, seccomp.SOCKET, seccomp.SOCKETPAIR)}
    assert {run(machine, number) for number in others - special} == {ALLOWED}
    assert run(machine, seccomp.LAST_KNOWN + 1) == "ENOSYS"
